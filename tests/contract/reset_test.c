// Ends that are not in order: resets by the peer, aborts, and streams that end with operations in
// flight. Whatever happens, `closed` comes once, last, and with the reason.
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "world.h"

enum { RESET_BYTES = 8 << 20 };

static bool reset_reason(const struct subject *subject)
{
    return subject->reason == -ECONNRESET || subject->reason == -EPIPE;
}

static struct weir_address reset_listen(struct world *world, struct service *service)
{
    struct weir_listener_config config = { .context = service };
    config.socket.send_buffer = 16384;
    return world_listen_with(world, "127.0.0.1:0", config);
}

static const struct peer_options reset_options = { .receive_buffer = 16384 };

static void reset_send_much(struct subject *subject)
{
    for (uint64_t offset = 0; offset < RESET_BYTES; offset += 65536)
        weir_stream_send_static(subject->stream, pattern_at(2, offset), 65536);
}

// --- Resets by the peer --------------------------------------------------------------------------

// A stream that waits for bytes is told of the reset.
static void a_reset_while_receiving_is_told(struct world *world)
{
    struct weir_address address = world_listen(world, world_echo(world));
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, NULL, &subject);
    peer_ping(peer, 100);
    peer_reset(peer);
    world_reaches(world, &subject->closed, 1);
    assert_true(reset_reason(subject));
    assert_int_equal(subject->ended, 0);
    assert_int_equal(world_stats(world).closed_reset, 1);
}

// A stream whose send is in flight, with more behind it, is told of the reset.
static void a_reset_while_sending_is_told(struct world *world)
{
    struct service *service = world_service(world, &(struct service){ .opened = reset_send_much });
    struct weir_address address = reset_listen(world, service);
    for (uint32_t i = 0; i < 10; i++) {
        struct subject *subject;
        struct peer *peer = peer_pair(world, &address, &reset_options, &subject);
        world_run(world, 2 * MILLISECOND * i);
        peer_reset(peer);
        world_reaches(world, &subject->closed, 1);
        assert_true(reset_reason(subject));
    }
}

static void reset_opened_close(struct subject *subject)
{
    reset_send_much(subject);
    weir_stream_close(subject->stream);
}

// A stream that is flushing its queue after close is told of the reset.
static void a_reset_while_closing_is_told(struct world *world)
{
    struct service *service =
        world_service(world, &(struct service){ .opened = reset_opened_close });
    struct weir_address address = reset_listen(world, service);
    for (uint32_t i = 0; i < 10; i++) {
        struct subject *subject;
        struct peer *peer = peer_pair(world, &address, &reset_options, &subject);
        world_run(world, 2 * MILLISECOND * i);
        peer_reset(peer);
        world_reaches(world, &subject->closed, 1);
        assert_true(reset_reason(subject));
    }
}

static void reset_opened_end(struct subject *subject)
{
    weir_stream_send(subject->stream, "end", 3);
    weir_stream_end(subject->stream);
}

// A stream that has half-closed is told of the reset.
static void a_reset_after_the_own_end_is_told(struct world *world)
{
    struct service *service = world_service(world, &(struct service){ .opened = reset_opened_end });
    struct weir_address address = world_listen(world, service);
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, NULL, &subject);
    peer->reading = true;
    world_reaches(world, &peer->ended, 1);
    peer_reset(peer);
    world_reaches(world, &subject->closed, 1);
    assert_true(reset_reason(subject));
}

static void reset_opened_pause(struct subject *subject)
{
    weir_stream_pause(subject->stream);
}

static void reset_end(struct weir_stream *stream, void *argument)
{
    (void)argument;
    weir_stream_end(stream);
}

// A reset that nobody watched for is told as such by the own end, which comes too late.
static void the_own_end_tells_of_a_reset_before(struct world *world)
{
    struct service *service =
        world_service(world, &(struct service){ .opened = reset_opened_pause });
    struct weir_address address = world_listen(world, service);
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, NULL, &subject);
    peer_reset(peer);
    world_run_until_still(world);
    assert_int_equal(subject->closed, 0);
    world_with(subject, reset_end, NULL);
    world_reaches(world, &subject->closed, 1);
    assert_true(reset_reason(subject));
    assert_int_equal(world_stats(world).closed_reset, 1);
}

static void reset_linger_received(struct subject *subject, struct weir_slice slice)
{
    (void)slice;
    weir_stream_linger(subject->stream, 1 << 30, 60 * SECOND);
}

// A reset ends a linger at once.
static void a_reset_ends_a_linger(struct world *world)
{
    struct service *service =
        world_service(world, &(struct service){ .received = reset_linger_received });
    struct weir_address address = world_listen(world, service);
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, NULL, &subject);
    peer->reading = true;
    peer_send(peer, 1, 100);
    world_reaches(world, &peer->ended, 1);
    peer_reset(peer);
    world_reaches(world, &subject->closed, 1);
}

static void reset_nothing_ended(struct subject *subject)
{
    (void)subject;
}

static void reset_send_some(struct weir_stream *stream, void *argument)
{
    (void)argument;
    weir_stream_send(stream, pattern_at(1, 0), 1000);
}

// A peer that half-closed and is gone is noticed by the next sends.
static void sends_to_a_vanished_peer_end_the_stream(struct world *world)
{
    struct service *service =
        world_service(world, &(struct service){ .ended = reset_nothing_ended });
    struct weir_address address = world_listen(world, service);
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, NULL, &subject);
    peer_close(peer);
    world_reaches(world, &subject->ended, 1);
    assert_int_equal(subject->closed, 0);
    for (int i = 0; i < 100 && !subject->closed; i++) {
        world_with(subject, reset_send_some, NULL);
        world_run(world, 5 * MILLISECOND);
    }
    world_reaches(world, &subject->closed, 1);
    assert_true(reset_reason(subject));
}

// Every byte that arrived before the peer's reset may be lost, but no stream, and none of the
// others' bytes: some peers vanish in the middle of an echo, the rest gets everything.
static void resets_harm_nobody_else(struct world *world)
{
    struct weir_address address = world_listen(world, world_echo(world));
    struct peer *peers[60];
    for (uint64_t i = 0; i < 60; i++) {
        peers[i] = peer_open(world, &address, NULL);
        peer_expect(peers[i], 10 + i);
        peer_send(peers[i], 10 + i, 1 << 20);
    }
    for (uint32_t i = 0; i < 60; i += 3) {
        world_reaches(world, &peers[i]->received, 1);
        if (i % 2)
            peer_reset(peers[i]);
        else
            peer_close(peers[i]);
    }
    for (uint32_t i = 0; i < 60; i++) {
        if (i % 3)
            world_reaches(world, &peers[i]->received, 1 << 20);
    }
}

// --- Aborts --------------------------------------------------------------------------------------

static void reset_abort(struct weir_stream *stream, void *argument)
{
    (void)argument;
    weir_stream_abort(stream);
}

static void reset_opened_abort(struct subject *subject)
{
    weir_stream_send(subject->stream, "never", 5);
    weir_stream_abort(subject->stream);
    weir_stream_send(subject->stream, "never", 5);
    weir_stream_close(subject->stream);
    weir_stream_abort(subject->stream);
}

// Abort drops what is queued and resets the peer.
static void abort_drops_the_queue_and_resets(struct world *world)
{
    struct service *service =
        world_service(world, &(struct service){ .opened = reset_opened_abort });
    struct weir_address address = world_listen(world, service);
    struct peer *peer = peer_open(world, &address, NULL);
    peer->reading = true;
    world_reaches(world, &peer->failed, 1);
    assert_int_equal(peer->error, -ECONNRESET);
    assert_int_equal(peer->received, 0);
    struct subject *subject = world_subject(world, 0);
    world_reaches(world, &subject->closed, 1);
    assert_int_equal(subject->reason, -ECANCELED);
}

// Abort ends a stream whose receive is in flight, with a reset.
static void abort_resets_a_quiet_stream(struct world *world)
{
    struct weir_address address = world_listen(world, world_echo(world));
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, NULL, &subject);
    peer_ping(peer, 100);
    world_with(subject, reset_abort, NULL);
    world_reaches(world, &peer->failed, 1);
    assert_int_equal(peer->error, -ECONNRESET);
    world_reaches(world, &subject->closed, 1);
    assert_int_equal(subject->reason, -ECANCELED);
}

static void reset_abort_waiting(struct world *world, void (*opened)(struct subject *subject))
{
    struct service *service = world_service(world, &(struct service){ .opened = opened });
    struct weir_address address = reset_listen(world, service);
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, &reset_options, &subject);
    world_run_until_still(world);
    world_with(subject, reset_abort, NULL);
    world_reaches(world, &subject->closed, 1);
    assert_int_equal(subject->reason, -ECANCELED);
    peer->reading = true;
    world_reaches(world, &peer->failed, 1);
    assert_int_equal(peer->error, -ECONNRESET);
}

// Abort ends a stream whose send waits for a peer that does not read.
static void abort_ends_a_send_that_waits(struct world *world)
{
    reset_abort_waiting(world, reset_send_much);
}

// Abort ends a stream that was closed and waits for its queue to go out.
static void abort_ends_a_close_that_waits(struct world *world)
{
    reset_abort_waiting(world, reset_opened_close);
}

// --- Operations in flight ------------------------------------------------------------------------

struct reset_operations {
    struct weir_operation read, job;
    struct weir_file *file;
    char data[65536];
    uint32_t done;
    struct subject *subject;
    bool late;
};

static void reset_operation_done(struct weir_operation *operation, int64_t result)
{
    struct reset_operations *operations =
        operation->stream
            ? ((struct subject *)*(void **)weir_stream_session(operation->stream))->service->context
            : NULL;
    (void)result;
    if (!operations)
        return;
    operations->done++;
    operations->late |= operations->subject->closed > 0;
}

// It takes its time, as a password hash does.
static int reset_slow_job(struct weir_operation *operation)
{
    (void)operation;
    nanosleep(&(struct timespec){ .tv_nsec = 30 * 1000 * 1000 }, NULL);
    return 0;
}

static void reset_opened_operations(struct subject *subject)
{
    struct reset_operations *operations = subject->service->context;
    struct weir_stream *stream = subject->stream;
    operations->subject = subject;
    operations->read.done = operations->job.done = reset_operation_done;
    operations->read.stream = operations->job.stream = stream;
    if (weir_file_adopt(weir_stream_loop(stream), memfd_create("reset", MFD_CLOEXEC),
                        &operations->file))
        world_complain(subject->world, "the descriptor is not adopted");
    reset_send_much(subject);
    weir_file_read(operations->file, &operations->read, operations->data, sizeof(operations->data),
                   0);
    weir_job_start(weir_stream_loop(stream), &operations->job, reset_slow_job);
    weir_file_release(operations->file);
    weir_stream_abort(stream);
}

// A stream that ends while it receives, sends, reads a file and has a job running is told `closed`
// after all of these.
static void closed_waits_for_the_operations_of_the_stream(struct world *world)
{
    struct reset_operations operations = { .done = 0 };
    struct service *service = world_service(
        world, &(struct service){ .opened = reset_opened_operations, .context = &operations });
    struct weir_address address = world_listen(world, service);
    peer_open(world, &address, NULL);
    struct subject *subject = world_subject(world, 0);
    world_reaches(world, &subject->closed, 1);
    assert_int_equal(operations.done, 2);
    assert_false(operations.late);
    assert_int_equal(subject->reason, -ECANCELED);
}

// --- The end of the loop -------------------------------------------------------------------------

static void reset_opened_various(struct subject *subject)
{
    switch (subject->index % 6) {
    case 0:
        break;
    case 1:
        reset_send_much(subject);
        break;
    case 2:
        reset_opened_close(subject);
        break;
    case 3:
        weir_stream_end(subject->stream);
        break;
    case 4:
        weir_stream_linger(subject->stream, 1 << 30, 60 * SECOND);
        break;
    default:
        weir_stream_pause(subject->stream);
    }
}

// Whatever state its streams are in, the end of the loop closes each once, as cancelled, and resets
// the peers.
static void the_end_of_the_loop_aborts_what_is_open(struct world *world)
{
    struct service *service =
        world_service(world, &(struct service){ .opened = reset_opened_various });
    struct weir_address address = reset_listen(world, service);
    struct peer *peers[24];
    struct subject *subject;
    for (uint32_t i = 0; i < 24; i++) {
        peers[i] = peer_pair(world, &address, &reset_options, &subject);
        if (i % 2)
            peer_send(peers[i], 3, 1 << 20);
    }
    world_run_until_still(world);
    assert_int_equal(world->subjects_closed, 0);
    world_end_loops(world);
    for (uint32_t i = 0; i < 24; i++) {
        assert_int_equal(world->subjects[i]->closed, 1);
        assert_int_equal(world->subjects[i]->reason, -ECANCELED);
    }
}

const struct contract_test reset_tests[] = {
    { .name = "a_reset_while_receiving_is_told", .run = a_reset_while_receiving_is_told },
    { .name = "a_reset_while_sending_is_told", .run = a_reset_while_sending_is_told },
    { .name = "a_reset_while_closing_is_told", .run = a_reset_while_closing_is_told },
    { .name = "a_reset_after_the_own_end_is_told", .run = a_reset_after_the_own_end_is_told },
    { .name = "the_own_end_tells_of_a_reset_before", .run = the_own_end_tells_of_a_reset_before },
    { .name = "a_reset_ends_a_linger", .run = a_reset_ends_a_linger },
    { .name = "sends_to_a_vanished_peer_end_the_stream",
      .run = sends_to_a_vanished_peer_end_the_stream },
    { .name = "resets_harm_nobody_else", .run = resets_harm_nobody_else },
    { .name = "abort_drops_the_queue_and_resets", .run = abort_drops_the_queue_and_resets },
    { .name = "abort_resets_a_quiet_stream", .run = abort_resets_a_quiet_stream },
    { .name = "abort_ends_a_send_that_waits", .run = abort_ends_a_send_that_waits },
    { .name = "abort_ends_a_close_that_waits", .run = abort_ends_a_close_that_waits },
    { .name = "closed_waits_for_the_operations_of_the_stream",
      .run = closed_waits_for_the_operations_of_the_stream },
    { .name = "the_end_of_the_loop_aborts_what_is_open",
      .run = the_end_of_the_loop_aborts_what_is_open },
    { 0 },
};
