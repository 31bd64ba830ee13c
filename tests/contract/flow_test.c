// Flow control: what a slow or silent reader costs, and what the verbs that steer it promise.
#include <errno.h>

#include "world.h"

// Small kernel buffers, so that a peer that does not read is felt at once.
static struct weir_address flow_listen(struct world *world, struct service *service)
{
    struct weir_listener_config config = { .context = service };
    config.socket.send_buffer = 16384;
    config.socket.receive_buffer = 16384;
    return world_listen_with(world, "127.0.0.1:0", config);
}

static const struct peer_options flow_options = { .send_buffer = 16384, .receive_buffer = 16384 };

static void flow_read_queued(struct weir_stream *stream, void *argument)
{
    *(uint64_t *)argument = weir_stream_queued(stream);
}

static uint64_t flow_queued(struct subject *subject)
{
    uint64_t queued = 0;
    world_with(subject, flow_read_queued, &queued);
    return queued;
}

static void flow_opened_send(struct subject *subject)
{
    for (uint64_t offset = 0; offset < 1 << 20; offset += 65536)
        weir_stream_send(subject->stream, pattern_at(2, offset), 65536);
}

// The queue's length is what the kernel has not taken, or has not yet said that it took (a send in
// flight): nearly all while the peer does not read, nothing after it has read all.
static void queued_is_what_the_kernel_has_not_taken(struct world *world)
{
    struct service *service = world_service(world, &(struct service){ .opened = flow_opened_send });
    struct weir_address address = flow_listen(world, service);
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, &flow_options, &subject);
    world_run_until_still(world);
    uint64_t queued = flow_queued(subject);
    assert_in_range(queued, (1 << 20) - 400000, 1 << 20);
    peer_expect(peer, 2);
    world_reaches(world, &peer->received, 1 << 20);
    world_run_until_still(world);
    assert_int_equal(flow_queued(subject), 0);
    assert_int_equal(peer->received, 1 << 20);
}

static void flow_opened_send_half(struct subject *subject)
{
    for (uint64_t offset = 0; offset < 1 << 19; offset += 65536)
        weir_stream_send(subject->stream, pattern_at(2, offset), 65536);
}

// What a full socket did not take follows as soon as the peer reads, although nothing else happens
// that could wake the loop.
static void the_rest_of_a_short_send_follows(struct world *world)
{
    struct service *service =
        world_service(world, &(struct service){ .opened = flow_opened_send_half });
    struct weir_address address = flow_listen(world, service);
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, &flow_options, &subject);
    world_run_until_still(world);
    peer_expect(peer, 2);
    world_reaches(world, &peer->received, 1 << 19);
}

static void flow_echo_received(struct subject *subject, struct weir_slice slice)
{
    weir_stream_send_slice(subject->stream, slice);
    uint64_t queued = weir_stream_queued(subject->stream);
    if (queued > subject->number)
        subject->number = queued;
}

// A peer that sends and does not read stops being read at the high mark. It costs that much and one
// buffer, and when it reads at last, it gets every byte.
static void above_the_high_mark_receiving_stops(struct world *world)
{
    struct service *service =
        world_service(world, &(struct service){ .received = flow_echo_received });
    struct weir_address address = flow_listen(world, service);
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, &flow_options, &subject);
    peer_send(peer, 3, 16 << 20);
    world_run_until_still(world);
    assert_true(peer->send_left > 8 << 20);
    assert_in_range(subject->number, 1, world->config->send_high + world->config->buffer_size);
    assert_in_range(world_stats(world).queued_high, 1,
                    2 * (world->config->send_high + world->config->buffer_size));
    peer_expect(peer, 3);
    world_reaches(world, &peer->received, 16 << 20);
    assert_int_equal(subject->received, 16 << 20);
}

// Messages of 64 B that nobody reads cost about their bytes, not a receive buffer each.
static void small_messages_of_a_silent_reader_cost_their_bytes(struct world *world)
{
    struct service *service =
        world_service(world, &(struct service){ .received = flow_echo_received });
    struct weir_address address = flow_listen(world, service);
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, &flow_options, &subject);
    peer->send_piece = 64;
    peer_send(peer, 3, 4 << 20);
    world_run_until_still(world);
    struct weir_stats stats = world_stats(world);
    assert_in_range(stats.queued_high, 1,
                    2 * (world->config->send_high + world->config->buffer_size));
    peer_expect(peer, 3);
    world_reaches(world, &peer->received, 4 << 20);
}

// A peer that reads a few bytes at a time gets all of them in order.
static void slow_readers_get_everything(struct world *world)
{
    struct service *service = world_service(world, &(struct service){ .opened = flow_opened_send });
    struct weir_address address = flow_listen(world, service);
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, &flow_options, &subject);
    peer->read_piece = 777;
    peer_expect(peer, 2);
    world_reaches(world, &peer->received, 1 << 20);
}

// --- The drained event ---------------------------------------------------------------------------

static void flow_drained(struct subject *subject)
{
    uint64_t queued = weir_stream_queued(subject->stream);
    if (queued > subject->number)
        subject->number = queued;
    if (subject->drained < 5)
        flow_opened_send(subject);
}

static void flow_read_full(struct weir_stream *stream, void *argument)
{
    *(bool *)argument = weir_stream_is_full(stream);
}

static void flow_drained_is_not_full(struct subject *subject)
{
    subject->number += weir_stream_is_full(subject->stream);
}

// A stream says that it is full from the high mark on until `drained`, so that a source that asks
// it after each piece waits for exactly the event that comes.
static void full_lasts_from_the_high_mark_to_drained(struct world *world)
{
    world->config->send_high = 64 * 1024;
    world->config->send_low = 16 * 1024;
    struct service *service =
        world_service(world, &(struct service){ .opened = flow_opened_send,
                                                .drained = flow_drained_is_not_full });
    struct weir_address address = flow_listen(world, service);
    struct subject *subject;
    bool full = false;
    struct peer *peer = peer_pair(world, &address, &flow_options, &subject);
    world_run_until_still(world);
    world_with(subject, flow_read_full, &full);
    assert_true(full);
    peer_expect(peer, 2);
    world_reaches(world, &peer->received, 1 << 20);
    world_reaches(world, &subject->drained, 1);
    world_with(subject, flow_read_full, &full);
    assert_false(full);
    assert_int_equal(subject->number, 0);
}

// drained comes once each time that the queue was above the high mark and has fallen to the low
// mark, and not before.
static void drained_comes_once_per_fall_to_the_low_mark(struct world *world)
{
    world->config->send_high = 64 * 1024;
    world->config->send_low = 16 * 1024;
    struct service *service = world_service(
        world, &(struct service){ .opened = flow_opened_send, .drained = flow_drained });
    struct weir_address address = flow_listen(world, service);
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, &flow_options, &subject);
    world_run_until_still(world);
    assert_int_equal(subject->drained, 0);
    peer->reading = true;
    world_reaches(world, &peer->received, 5 << 20);
    world_run_until_still(world);
    assert_int_equal(subject->drained, 5);
    assert_true(subject->number <= world->config->send_low);
}

static void flow_opened_send_little(struct subject *subject)
{
    weir_stream_send(subject->stream, pattern_at(2, 0), 60000);
}

// A queue that stayed below the high mark drains without a word.
static void no_drained_below_the_high_mark(struct world *world)
{
    struct service *service = world_service(
        world, &(struct service){ .opened = flow_opened_send_little, .drained = flow_drained });
    struct weir_address address = flow_listen(world, service);
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, &flow_options, &subject);
    peer_expect(peer, 2);
    world_reaches(world, &peer->received, 60000);
    world_run_until_still(world);
    assert_int_equal(subject->drained, 0);
}

// --- Pause and resume ----------------------------------------------------------------------------

static void flow_pause(struct weir_stream *stream, void *argument)
{
    (void)argument;
    weir_stream_pause(stream);
}

static void flow_resume(struct weir_stream *stream, void *argument)
{
    (void)argument;
    weir_stream_resume(stream);
}

static void flow_opened_pause(struct subject *subject)
{
    weir_stream_pause(subject->stream);
}

// While paused from the beginning, a stream is told neither bytes nor the end, and takes no more
// than the high mark and a buffer; after resume it is told all of it, then the end.
static void paused_streams_are_told_nothing_until_resume(struct world *world)
{
    struct service *service =
        world_service(world, &(struct service){ .opened = flow_opened_pause, .pattern = 7 });
    struct weir_address address = flow_listen(world, service);
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, &flow_options, &subject);
    peer->end_when_sent = true;
    peer_send(peer, 7, 1 << 20);
    world_run_until_still(world);
    assert_int_equal(subject->received, 0);
    assert_int_equal(subject->ended, 0);
    struct weir_stats stats = world_stats(world);
    assert_true(stats.received_bytes <= world->config->send_high + world->config->buffer_size);
    world_with(subject, flow_resume, NULL);
    world_reaches(world, &subject->closed, 1);
    assert_int_equal(subject->received, 1 << 20);
    assert_int_equal(subject->ended, 1);
    assert_int_equal(subject->reason, 0);
}

// Bytes and the end that were already there when the stream was paused wait for resume as well.
static void the_end_waits_for_resume(struct world *world)
{
    struct service *service = world_service(world, &(struct service){ .pattern = 7 });
    struct weir_address address = flow_listen(world, service);
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, &flow_options, &subject);
    peer_send(peer, 7, 1000);
    world_reaches(world, &subject->received, 1000);
    world_with(subject, flow_pause, NULL);
    peer->end_when_sent = true;
    peer_send(peer, 7, 1000);
    world_run_until_still(world);
    assert_int_equal(subject->received, 1000);
    assert_int_equal(subject->ended, 0);
    world_with(subject, flow_resume, NULL);
    world_reaches(world, &subject->closed, 1);
    assert_int_equal(subject->received, 2000);
    assert_int_equal(subject->ended, 1);
}

static void flow_received_pause(struct subject *subject, struct weir_slice slice)
{
    (void)slice;
    if (subject->number)
        world_complain(subject->world, "received was called while paused");
    subject->number = 1;
    weir_stream_pause(subject->stream);
}

static void flow_resume_marked(struct weir_stream *stream, void *argument)
{
    ((struct subject *)argument)->number = 0;
    weir_stream_resume(stream);
}

static bool flow_is_paused(void *argument)
{
    const struct subject *subject = argument;
    return subject->number == 1 || subject->closed;
}

// Pausing in `received` holds from there on: each resume brings one more slice, and none gets lost
// or changes its place.
static void pausing_in_received_takes_effect_at_once(struct world *world)
{
    struct service *service =
        world_service(world, &(struct service){ .received = flow_received_pause, .pattern = 7 });
    struct weir_address address = flow_listen(world, service);
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, &flow_options, &subject);
    peer->end_when_sent = true;
    peer->send_piece = 5000;
    peer_send(peer, 7, 1 << 20);
    while (!subject->closed) {
        if (!world_until(world, flow_is_paused, subject, WORLD_PATIENCE))
            fail_msg("nothing comes after resume: %llu bytes",
                     (unsigned long long)subject->received);
        world_with(subject, flow_resume_marked, subject);
    }
    assert_int_equal(subject->received, 1 << 20);
}

static void flow_received_pause_resume(struct subject *subject, struct weir_slice slice)
{
    weir_stream_pause(subject->stream);
    weir_stream_send_slice(subject->stream, slice);
    weir_stream_resume(subject->stream);
    weir_stream_resume(subject->stream);
}

// Pausing and resuming within one callback changes nothing.
static void resuming_at_once_changes_nothing(struct world *world)
{
    struct service *service = world_service(
        world, &(struct service){ .received = flow_received_pause_resume, .pattern = 7 });
    struct weir_address address = flow_listen(world, service);
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, &flow_options, &subject);
    peer_expect(peer, 7);
    peer->end_when_sent = true;
    peer_send(peer, 7, 2 << 20);
    world_reaches(world, &peer->ended, 1);
    assert_int_equal(peer->received, 2 << 20);
}

// A paused stream still sends.
static void paused_streams_still_send(struct world *world)
{
    struct service *service = world_service(world, &(struct service){ .opened = flow_opened_send });
    struct weir_address address = flow_listen(world, service);
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, &flow_options, &subject);
    world_with(subject, flow_pause, NULL);
    peer_expect(peer, 2);
    world_reaches(world, &peer->received, 1 << 20);
}

// --- The bound over all streams ------------------------------------------------------------------

enum { FLOW_STREAMS = 40 };

// Above queued_max each stream keeps only 16 KiB: forty peers that do not read cannot take more
// than the bound and that, and all get their bytes in the end.
static void queued_bytes_of_all_streams_are_bounded(struct world *world)
{
    world->config->queued_max = 1 << 20;
    struct service *service =
        world_service(world, &(struct service){ .received = flow_echo_received });
    struct weir_address address = flow_listen(world, service);
    struct peer *peers[FLOW_STREAMS];
    for (uint64_t i = 0; i < FLOW_STREAMS; i++) {
        peers[i] = peer_open(world, &address, &flow_options);
        peer_send(peers[i], 30 + i, 1 << 20);
    }
    world_run_until_still(world);
    struct weir_stats stats = world_stats(world);
    uint64_t share = 16 * 1024 + world->config->buffer_size;
    if (world->variant->engine != WEIR_ENGINE_BLOCKING) // there each connection has a loop
        assert_in_range(stats.queued_high, FLOW_STREAMS * 16 * 1024,
                        (1 << 20) + FLOW_STREAMS * 2 * share);
    for (uint64_t i = 0; i < FLOW_STREAMS; i++)
        peer_expect(peers[i], 30 + i);
    for (uint64_t i = 0; i < FLOW_STREAMS; i++)
        world_reaches(world, &peers[i]->received, 1 << 20);
}

// Twice what each was given.
enum { FLOW_CREDITS = 160, FLOW_CREDIT_BYTES = 512 * 1024 };

// Credit that many streams were given while memory was plenty is not used up when it is not: peers
// that were all there before the first of them sent share the bound as well.
static void credit_is_taken_back_when_memory_gets_scarce(struct world *world)
{
    world->config->queued_max = 16 << 20;
    struct service *service =
        world_service(world, &(struct service){ .received = flow_echo_received });
    struct weir_address address = flow_listen(world, service);
    struct peer *peers[FLOW_CREDITS];
    for (uint64_t i = 0; i < FLOW_CREDITS; i++)
        peers[i] = peer_open(world, &address, &flow_options);
    world_run_until_still(world);
    for (uint64_t i = 0; i < FLOW_CREDITS; i++)
        peer_send(peers[i], 30 + i, FLOW_CREDIT_BYTES);
    world_run_until_still(world);
    struct weir_stats stats = world_stats(world);
    uint64_t pool = (uint64_t)world->config->buffer_count * world->config->buffer_size;
    if (world->variant->engine != WEIR_ENGINE_BLOCKING) // there each connection has a loop
        assert_in_range(stats.queued_high, 1 << 20,
                        (16 << 20) + pool + (uint64_t)FLOW_CREDITS * 32 * 1024);
    for (uint64_t i = 0; i < FLOW_CREDITS; i++)
        peer_expect(peers[i], 30 + i);
    for (uint64_t i = 0; i < FLOW_CREDITS; i++)
        world_reaches(world, &peers[i]->received, FLOW_CREDIT_BYTES);
}

static bool flow_nothing_held(void *argument)
{
    struct weir_stats stats = world_stats(argument);
    return !stats.queued_bytes && !stats.buffers_leased;
}

// What a stalled stream holds is given back when its peer vanishes.
static void memory_of_a_stalled_stream_returns(struct world *world)
{
    struct service *service =
        world_service(world, &(struct service){ .received = flow_echo_received });
    struct weir_address address = flow_listen(world, service);
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, &flow_options, &subject);
    peer_send(peer, 3, 16 << 20);
    world_run_until_still(world);
    assert_true(world_stats(world).queued_bytes > 0);
    peer_reset(peer);
    world_reaches(world, &subject->closed, 1);
    assert_true(world_until(world, flow_nothing_held, world, WORLD_PATIENCE));
    assert_true(subject->reason == -ECONNRESET || subject->reason == -EPIPE);
}

const struct contract_test flow_tests[] = {
    { .name = "queued_is_what_the_kernel_has_not_taken",
      .run = queued_is_what_the_kernel_has_not_taken },
    { .name = "the_rest_of_a_short_send_follows", .run = the_rest_of_a_short_send_follows },
    { .name = "above_the_high_mark_receiving_stops", .run = above_the_high_mark_receiving_stops },
    { .name = "small_messages_of_a_silent_reader_cost_their_bytes",
      .run = small_messages_of_a_silent_reader_cost_their_bytes },
    { .name = "slow_readers_get_everything", .run = slow_readers_get_everything },
    { .name = "drained_comes_once_per_fall_to_the_low_mark",
      .run = drained_comes_once_per_fall_to_the_low_mark },
    { .name = "full_lasts_from_the_high_mark_to_drained",
      .run = full_lasts_from_the_high_mark_to_drained },
    { .name = "no_drained_below_the_high_mark", .run = no_drained_below_the_high_mark },
    { .name = "paused_streams_are_told_nothing_until_resume",
      .run = paused_streams_are_told_nothing_until_resume },
    { .name = "the_end_waits_for_resume", .run = the_end_waits_for_resume },
    { .name = "pausing_in_received_takes_effect_at_once",
      .run = pausing_in_received_takes_effect_at_once },
    { .name = "resuming_at_once_changes_nothing", .run = resuming_at_once_changes_nothing },
    { .name = "paused_streams_still_send", .run = paused_streams_still_send },
    { .name = "queued_bytes_of_all_streams_are_bounded",
      .run = queued_bytes_of_all_streams_are_bounded },
    { .name = "credit_is_taken_back_when_memory_gets_scarce",
      .run = credit_is_taken_back_when_memory_gets_scarce },
    { .name = "memory_of_a_stalled_stream_returns", .run = memory_of_a_stalled_stream_returns },
    { 0 },
};
