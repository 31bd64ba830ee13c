// The end of streams in order: half-close on both sides, close, linger, and their time-outs.
#include <errno.h>
#include <string.h>

#include "world.h"

enum { CLOSE_BYTES = 4 << 20 };

static void close_send_much(struct subject *subject)
{
    for (uint64_t offset = 0; offset < CLOSE_BYTES; offset += 65536)
        weir_stream_send(subject->stream, pattern_at(2, offset), 65536);
}

// --- Half-close ----------------------------------------------------------------------------------

static void close_answer_ended(struct subject *subject)
{
    close_send_much(subject);
    weir_stream_close(subject->stream);
}

// After the peer's half-close a stream can still send, as much as it likes; then it closes.
static void streams_answer_after_the_peers_half_close(struct world *world)
{
    struct service *service =
        world_service(world, &(struct service){ .ended = close_answer_ended, .pattern = 1 });
    struct weir_address address = world_listen(world, service);
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, NULL, &subject);
    peer_expect(peer, 2);
    peer->end_when_sent = true;
    peer_send(peer, 1, 100000);
    world_reaches(world, &peer->ended, 1);
    assert_int_equal(peer->received, CLOSE_BYTES);
    world_reaches(world, &subject->closed, 1);
    assert_int_equal(subject->received, 100000);
    assert_int_equal(subject->ended, 1);
    assert_int_equal(subject->reason, 0);
}

// A peer that ends without a byte is told to the stream, and gets the end back.
static void an_end_without_bytes_is_an_end(struct world *world)
{
    struct weir_address address = world_listen(world, world_echo(world));
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, NULL, &subject);
    peer->reading = true;
    peer_half_close(peer);
    world_reaches(world, &peer->ended, 1);
    world_reaches(world, &subject->closed, 1);
    assert_int_equal(subject->ended, 1);
    assert_int_equal(subject->reason, 0);
}

static void close_opened_end(struct subject *subject)
{
    close_send_much(subject);
    weir_stream_end(subject->stream);
    weir_stream_send(subject->stream, "dropped", 7);
}

// A stream's own half-close follows its queue; nothing is sent after it, receiving goes on, and the
// peer's end closes the stream.
static void streams_half_close_after_their_queue(struct world *world)
{
    struct service *service =
        world_service(world, &(struct service){ .opened = close_opened_end, .pattern = 1 });
    struct weir_address address = world_listen(world, service);
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, NULL, &subject);
    peer_expect(peer, 2);
    world_reaches(world, &peer->ended, 1);
    assert_int_equal(peer->received, CLOSE_BYTES);
    assert_int_equal(subject->closed, 0);
    peer_send(peer, 1, 100000);
    world_reaches(world, &subject->received, 100000);
    assert_int_equal(subject->closed, 0);
    peer_half_close(peer);
    world_reaches(world, &subject->closed, 1);
    assert_int_equal(subject->ended, 1);
    assert_int_equal(subject->reason, 0);
}

static void close_ended_end(struct subject *subject)
{
    weir_stream_send(subject->stream, "answer", 6);
    weir_stream_end(subject->stream);
}

// Ending in answer to the peer's end closes the stream: both sides are done.
static void ends_on_both_sides_close(struct world *world)
{
    struct service *service = world_service(world, &(struct service){ .ended = close_ended_end });
    struct weir_address address = world_listen(world, service);
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, NULL, &subject);
    peer->reading = true;
    peer_half_close(peer);
    world_reaches(world, &peer->ended, 1);
    world_reaches(world, &subject->closed, 1);
    assert_int_equal(peer->received, 6);
    assert_int_equal(subject->reason, 0);
}

static void close_raw_closed(struct weir_stream *stream, int reason)
{
    struct service *service = weir_stream_context(stream);
    int *reasons = service->context;
    reasons[1] = reason;
    reasons[0]++;
}

// The callbacks that a protocol leaves out have the promised defaults: bytes are dropped, and the
// peer's end closes.
static void missing_callbacks_have_their_defaults(struct world *world)
{
    static const struct weir_protocol bare = { .name = "bare", .closed = close_raw_closed };
    static const struct weir_protocol empty = { .name = "empty" };
    int reasons[2] = { 0, 1 };
    struct service *service = world_service(world, &(struct service){ .context = reasons });
    struct weir_listener_config config = { .context = service, .protocol = &bare };
    struct weir_address first = world_listen_with(world, "127.0.0.1:0", config);
    config.protocol = &empty;
    struct weir_address second = world_listen_with(world, "127.0.0.1:0", config);
    const struct weir_address *addresses[2] = { &first, &second };
    for (int i = 0; i < 2; i++) {
        struct peer *peer = peer_open(world, addresses[i], NULL);
        peer->reading = true;
        peer->end_when_sent = true;
        peer_send(peer, 1, 1 << 20);
        world_reaches(world, &peer->ended, 1);
        assert_int_equal(peer->received, 0);
        assert_int_equal(peer->failed, 0);
    }
    world_close(world);
    assert_int_equal(reasons[0], 1);
    assert_int_equal(reasons[1], 0);
}

// --- Close ---------------------------------------------------------------------------------------

static void close_opened_close(struct subject *subject)
{
    struct weir_stream *stream = subject->stream;
    close_send_much(subject);
    weir_stream_close(stream);
    weir_stream_send(stream, "dropped", 7);
    weir_stream_send_static(stream, "dropped", 7);
    if (weir_stream_reserve(stream, 7))
        weir_stream_commit(stream, 7);
    weir_stream_pause(stream);
    weir_stream_end(stream);
    weir_stream_close(stream);
    weir_stream_linger(stream, 1, 1);
}

// Close sends the queue and then the end; verbs after it do nothing.
static void close_sends_the_queue_first(struct world *world)
{
    struct service *service =
        world_service(world, &(struct service){ .opened = close_opened_close });
    struct weir_address address = world_listen(world, service);
    struct peer *peer = peer_open(world, &address, NULL);
    peer_expect(peer, 2);
    world_reaches(world, &peer->ended, 1);
    assert_int_equal(peer->received, CLOSE_BYTES);
    struct subject *subject = world_subject(world, 0);
    world_reaches(world, &subject->closed, 1);
    assert_int_equal(subject->reason, 0);
    assert_int_equal(peer->failed, 0);
}

static void close_received_close(struct subject *subject, struct weir_slice slice)
{
    weir_stream_send_slice(subject->stream, slice);
    weir_stream_close(subject->stream);
    if (subject->slices > 1)
        world_complain(subject->world, "received was called after close");
}

// After close in `received` no further bytes are told, and what was sent before arrives.
static void nothing_is_received_after_close(struct world *world)
{
    struct service *service =
        world_service(world, &(struct service){ .received = close_received_close });
    struct weir_address address = world_listen(world, service);
    for (uint32_t i = 0; i < 20; i++) {
        struct subject *subject;
        struct peer *peer = peer_pair(world, &address, NULL, &subject);
        peer_expect(peer, 4);
        peer_send(peer, 4, 64);
        world_reaches(world, &peer->ended, 1);
        assert_int_equal(peer->received, 64);
        world_reaches(world, &subject->closed, 1);
        assert_int_equal(subject->reason, 0);
        peer_close(peer);
    }
}

static void close_one(struct weir_stream *stream, void *argument)
{
    (void)argument;
    weir_stream_close(stream);
}

// Closing a quiet stream, whose receive is in flight, ends the connection at once. A busy machine
// may be late with one; a loop is with each.
static void closing_a_quiet_stream_is_prompt(struct world *world)
{
    const uint64_t prompt = 500 * MILLISECOND * WORLD_SLOWNESS + world->variant->resolution_ns;
    struct weir_address address = world_listen(world, world_echo(world));
    uint64_t took = WEIR_NEVER;
    for (int i = 0; i < WORLD_TRIES && took > prompt; i++) {
        struct subject *subject;
        struct peer *peer = peer_pair(world, &address, NULL, &subject);
        peer_ping(peer, 100);
        uint64_t start = world_now(world);
        world_with(subject, close_one, NULL);
        world_reaches(world, &peer->ended, 1);
        world_reaches(world, &subject->closed, 1);
        took = world_now(world) - start;
        assert_int_equal(subject->reason, 0);
    }
    assert_in_range(took, 0, prompt);
}

static void close_the_others(struct subject *subject, struct weir_slice slice)
{
    struct world *world = subject->world;
    (void)slice;
    for (uint32_t i = 0; i < world->subjects_count; i++) {
        struct subject *other = world->subjects[i];
        if (other->stream && i % 2 == 0)
            weir_stream_close(other->stream);
        else if (other->stream)
            weir_stream_abort(other->stream);
    }
}

// A callback of one stream may end all others of the loop and its own, while bytes for them are on
// their way in the same turn.
static void one_callback_may_end_all_streams(struct world *world)
{
    struct service *service =
        world_service(world, &(struct service){ .received = close_the_others });
    struct weir_address address = world_listen(world, service);
    struct subject *subjects[32];
    struct peer *peers[32];
    for (uint32_t i = 0; i < 32; i++)
        peers[i] = peer_pair(world, &address, NULL, &subjects[i]);
    for (uint32_t i = 0; i < 32; i++)
        peer_write(peers[i], "x", 1);
    for (uint32_t i = 0; i < 32; i++)
        world_reaches(world, &subjects[i]->closed, 1);
}

// --- Linger --------------------------------------------------------------------------------------

static void close_refuse_received(struct subject *subject, struct weir_slice slice)
{
    const uint64_t *linger = subject->service->context;
    (void)slice;
    weir_stream_send(subject->stream, pattern_at(5, 0), 1000);
    weir_stream_linger(subject->stream, linger[0], linger[1]);
}

// A refusal reaches a peer that is still sending its body, fifty times in fifty, and the peer is
// not reset.
static void lingering_delivers_a_refusal_while_the_body_comes(struct world *world)
{
    uint64_t linger[2] = { 64 << 20, 5 * SECOND };
    struct service *service = world_service(
        world, &(struct service){ .received = close_refuse_received, .context = linger });
    struct weir_address address = world_listen(world, service);
    for (uint32_t i = 0; i < 50; i++) {
        struct subject *subject;
        struct peer *peer = peer_pair(world, &address, NULL, &subject);
        peer->end_when_sent = true;
        peer_send(peer, 3, 2 << 20);
        // It reads only after it has sent all: a reset would have taken the answer by then.
        world_reaches(world, &peer->sent, 2 << 20);
        peer_expect(peer, 5);
        world_reaches(world, &peer->ended, 1);
        assert_int_equal(peer->received, 1000);
        assert_int_equal(peer->failed, 0);
        world_reaches(world, &subject->closed, 1);
        assert_int_equal(subject->reason, 0);
        assert_int_equal(subject->slices, 1);
        peer_close(peer);
    }
}

// A lingering stream discards no more than it was told to, whatever the peer sends.
static void lingering_is_bounded_in_bytes(struct world *world)
{
    uint64_t linger[2] = { 1 << 20, 60 * SECOND };
    struct service *service = world_service(
        world, &(struct service){ .received = close_refuse_received, .context = linger });
    struct weir_address address = world_listen(world, service);
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, NULL, &subject);
    peer_send(peer, 3, 1 << 30);
    world_reaches(world, &subject->closed, 1);
    assert_int_equal(subject->reason, 0);
    assert_in_range(world_stats(world).received_bytes, 1 << 20, (1 << 20) + 600000);
}

// A lingering stream closes after its time when the peer neither sends nor ends.
static void lingering_is_bounded_in_time(struct world *world)
{
    uint64_t linger[2] = { 1 << 20, 100 * MILLISECOND };
    struct service *service = world_service(
        world, &(struct service){ .received = close_refuse_received, .context = linger });
    struct weir_address address = world_listen(world, service);
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, NULL, &subject);
    peer_expect(peer, 5);
    peer_send(peer, 3, 10);
    uint64_t start = world_now(world);
    world_reaches(world, &peer->ended, 1);
    world_reaches(world, &subject->closed, 1);
    assert_in_range(subject->closed_ns - start, 100 * MILLISECOND,
                    world_late(world, 500 * MILLISECOND));
    assert_int_equal(subject->reason, 0);
}

// A peer's end during the linger closes at once.
static void lingering_ends_with_the_peer(struct world *world)
{
    uint64_t linger[2] = { 1 << 20, 60 * SECOND };
    struct service *service = world_service(
        world, &(struct service){ .received = close_refuse_received, .context = linger });
    struct weir_address address = world_listen(world, service);
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, NULL, &subject);
    peer_expect(peer, 5);
    peer_send(peer, 3, 10);
    world_reaches(world, &peer->ended, 1);
    peer_half_close(peer);
    world_reaches(world, &subject->closed, 1);
    assert_int_equal(subject->reason, 0);
}

// --- Time-outs -----------------------------------------------------------------------------------

static struct weir_address close_listen_small(struct world *world, struct service *service)
{
    struct weir_listener_config config = { .context = service };
    config.socket.send_buffer = 16384;
    return world_listen_with(world, "127.0.0.1:0", config);
}

// A stream whose peer does not read after close is aborted when the close time-out is over, and is
// told why.
static void close_times_out_without_progress(struct world *world)
{
    world->config->close_timeout_ns = 200 * MILLISECOND;
    struct service *service =
        world_service(world, &(struct service){ .opened = close_opened_close });
    struct weir_address address = close_listen_small(world, service);
    struct peer_options options = { .receive_buffer = 16384 };
    struct subject *subject;
    uint64_t start = world_now(world);
    peer_pair(world, &address, &options, &subject);
    world_reaches(world, &subject->closed, 1);
    assert_int_equal(subject->reason, -ETIMEDOUT);
    assert_in_range(subject->closed_ns - start, 200 * MILLISECOND,
                    world_late(world, 1000 * MILLISECOND));
    assert_int_equal(world_stats(world).close_timeouts, 1);
}

struct close_reader {
    const struct peer *peer;
    uint64_t received;
};

static bool close_reader_moved(void *argument)
{
    const struct close_reader *reader = argument;
    return reader->peer->received > reader->received || reader->peer->failed;
}

static bool close_reader_ended(void *argument)
{
    const struct peer *peer = argument;
    return peer->ended || peer->failed;
}

// Whether a peer that reads slowly for longer than the time-out gets everything.
static bool close_reads_slowly(struct world *world, const struct weir_address *address,
                               uint64_t timeout)
{
    struct peer_options options = { .receive_buffer = 16384 };
    struct subject *subject;
    struct peer *peer = peer_pair(world, address, &options, &subject);
    peer->receive_pattern = 2;
    peer->read_piece = 16384;
    uint64_t until = world_now(world) + timeout + timeout / 2;
    while (world_now(world) < until && !subject->closed) {
        struct close_reader reader = { .peer = peer, .received = peer->received };
        peer->reading = true;
        (void)world_until(world, close_reader_moved, &reader, WORLD_PATIENCE);
        peer->reading = false;
        world_run(world, 50 * MILLISECOND);
    }
    peer->read_piece = 0;
    peer->reading = true;
    assert_true(world_until(world, close_reader_ended, peer, WORLD_PATIENCE));
    world_reaches(world, &subject->closed, 1);
    assert_int_equal(subject->reason, peer->failed ? -ETIMEDOUT : 0);
    return peer->ended && peer->received == CLOSE_BYTES;
}

// A peer that reads slowly but steadily makes progress: the close time-out does not strike. A busy
// machine may keep one peer from reading for so long; a loop that is at fault strikes each time.
static void close_waits_for_a_slow_reader(struct world *world)
{
    uint64_t timeout = SECOND + 2 * world->variant->resolution_ns;
    world->config->close_timeout_ns = timeout;
    struct service *service =
        world_service(world, &(struct service){ .opened = close_opened_close });
    struct weir_address address = close_listen_small(world, service);
    bool got_all = false;
    for (int i = 0; i < WORLD_TRIES && !got_all; i++)
        got_all = close_reads_slowly(world, &address, timeout);
    assert_true(got_all);
}

struct close_ping {
    const struct peer *peer;
    const struct subject *subject;
    uint64_t received;
};

static bool close_ping_answered(void *argument)
{
    const struct close_ping *ping = argument;
    return ping->peer->received >= ping->received || ping->subject->closed;
}

// A quiet stream beside one with bytes: both time out in the end. Whether the latter stayed as long
// as it had bytes.
static bool close_stays_while_busy(struct world *world, const struct weir_address *address,
                                   uint64_t idle)
{
    struct subject *quiet, *busy;
    uint64_t start = world_now(world);
    struct peer *quiet_peer = peer_pair(world, address, NULL, &quiet);
    struct peer *busy_peer = peer_pair(world, address, NULL, &busy);
    quiet_peer->reading = true;
    peer_expect(busy_peer, 77);
    for (int i = 0; i < 10 && !busy->closed; i++) {
        struct close_ping ping = { busy_peer, busy, busy_peer->received + 10 };
        peer_send(busy_peer, 77, 10);
        assert_true(world_until(world, close_ping_answered, &ping, WORLD_PATIENCE));
        world_run(world, idle / 8);
    }
    world_reaches(world, &quiet->closed, 1);
    assert_int_equal(quiet->reason, -ETIMEDOUT);
    assert_true(quiet->closed_ns - start >= idle);
    bool stayed = !busy->closed;
    world_reaches(world, &busy->closed, 1);
    assert_int_equal(busy->reason, -ETIMEDOUT);
    return stayed;
}

// A stream without a byte either way for the idle time-out closes; one with bytes stays. A busy
// machine may keep bytes back for as long, but not each time.
static void idle_streams_time_out_and_busy_ones_stay(struct world *world)
{
    uint64_t idle = 1200 * MILLISECOND;
    world->config->idle_timeout_ns = idle;
    struct weir_address address = world_listen(world, world_echo(world));
    bool stayed = false;
    for (int i = 0; i < WORLD_TRIES && !stayed; i++)
        stayed = close_stays_while_busy(world, &address, idle);
    assert_true(stayed);
    assert_int_equal(world_stats(world).idle_timeouts, world->subjects_count);
}

// The idle time-out counts from the last byte, also from one that was sent and of which the engine
// says nothing before it wakes for something else.
static void idle_time_counts_from_the_last_byte(struct world *world)
{
    uint64_t idle = 600 * MILLISECOND * WORLD_SLOWNESS;
    world->config->idle_timeout_ns = idle;
    struct weir_address address = world_listen(world, world_echo(world));
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, NULL, &subject);
    world_run(world, idle / 4);
    uint64_t start = world_now(world);
    peer_ping(peer, 10);
    uint64_t last = world_now(world);
    peer->reading = true;
    world_reaches(world, &subject->closed, 1);
    assert_int_equal(subject->reason, -ETIMEDOUT);
    assert_in_range(subject->closed_ns - start, idle,
                    last - start + idle + world_late(world, idle / 2));
}

static void close_set_idle(struct weir_stream *stream, void *argument)
{
    weir_stream_set_idle_timeout(stream, *(const uint64_t *)argument);
}

// A stream's own idle time-out replaces the loop's; zero means never.
static void idle_timeouts_can_be_replaced(struct world *world)
{
    uint64_t never = 0, soon = 100 * MILLISECOND;
    world->config->idle_timeout_ns = 400 * MILLISECOND;
    struct weir_address address = world_listen(world, world_echo(world));
    struct subject *patient, *hasty;
    struct peer *patient_peer = peer_pair(world, &address, NULL, &patient);
    world_with(patient, close_set_idle, &never);
    peer_pair(world, &address, NULL, &hasty);
    world_with(hasty, close_set_idle, &soon);
    world_reaches(world, &hasty->closed, 1);
    assert_int_equal(hasty->reason, -ETIMEDOUT);
    world_run(world, 800 * MILLISECOND);
    assert_int_equal(patient->closed, 0);
    peer_ping(patient_peer, 10);
}

// A listener of the stream's own, as the passive mode of a file transfer has.
static void close_opened_listens(struct subject *subject)
{
    struct weir_address any = world_address("127.0.0.1:0");
    struct weir_listener_config config = { .protocol = service_protocol(subject->service),
                                           .context = subject->service,
                                           .accepts_max = 1 };
    struct weir_listener *listener = NULL;
    if (weir_listener_open(weir_stream_loop(subject->stream), &any, &config, &listener))
        world_complain(subject->world, "a second listener does not open");
    subject->pointer = listener;
}

static void close_closed_stops_listening(struct subject *subject)
{
    weir_listener_close(subject->pointer);
}

// `closed` may still close a listener of the stream's own when the loop ends with the stream open.
static void a_listener_lives_until_closed_when_the_loop_ends(struct world *world)
{
    struct service *service =
        world_service(world, &(struct service){ .opened = close_opened_listens,
                                                .closed = close_closed_stops_listening });
    struct weir_address address = world_listen(world, service);
    struct subject *subjects[3];
    for (int i = 0; i < 3; i++)
        peer_pair(world, &address, NULL, &subjects[i]);
    world_end_loops(world);
    for (int i = 0; i < 3; i++)
        assert_int_equal(subjects[i]->closed, 1);
}

const struct contract_test close_tests[] = {
    { .name = "streams_answer_after_the_peers_half_close",
      .run = streams_answer_after_the_peers_half_close },
    { .name = "an_end_without_bytes_is_an_end", .run = an_end_without_bytes_is_an_end },
    { .name = "streams_half_close_after_their_queue", .run = streams_half_close_after_their_queue },
    { .name = "ends_on_both_sides_close", .run = ends_on_both_sides_close },
    { .name = "missing_callbacks_have_their_defaults",
      .run = missing_callbacks_have_their_defaults },
    { .name = "close_sends_the_queue_first", .run = close_sends_the_queue_first },
    { .name = "nothing_is_received_after_close", .run = nothing_is_received_after_close },
    { .name = "closing_a_quiet_stream_is_prompt", .run = closing_a_quiet_stream_is_prompt },
    { .name = "one_callback_may_end_all_streams",
      .run = one_callback_may_end_all_streams,
      .needs = { .one_loop = true } },
    { .name = "lingering_delivers_a_refusal_while_the_body_comes",
      .run = lingering_delivers_a_refusal_while_the_body_comes },
    { .name = "lingering_is_bounded_in_bytes", .run = lingering_is_bounded_in_bytes },
    { .name = "lingering_is_bounded_in_time", .run = lingering_is_bounded_in_time },
    { .name = "lingering_ends_with_the_peer", .run = lingering_ends_with_the_peer },
    { .name = "close_times_out_without_progress", .run = close_times_out_without_progress },
    { .name = "close_waits_for_a_slow_reader", .run = close_waits_for_a_slow_reader },
    { .name = "idle_streams_time_out_and_busy_ones_stay",
      .run = idle_streams_time_out_and_busy_ones_stay },
    { .name = "idle_time_counts_from_the_last_byte", .run = idle_time_counts_from_the_last_byte },
    { .name = "idle_timeouts_can_be_replaced", .run = idle_timeouts_can_be_replaced },
    { .name = "a_listener_lives_until_closed_when_the_loop_ends",
      .run = a_listener_lives_until_closed_when_the_loop_ends,
      .needs = { .one_loop = true } },
    { 0 },
};
