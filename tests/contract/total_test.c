// The total time of a stream: it is told once that this is over, and aborted when as much has
// passed again, whatever moves meanwhile.
#include <errno.h>

#include "world.h"

#define TOTAL (100 * MILLISECOND * WORLD_SLOWNESS)

static uint64_t total_slack(const struct world *world)
{
    return world_late(world, 1000 * MILLISECOND);
}

static void total_expired(struct subject *subject)
{
    subject->number = world_now(subject->world);
}

// Whether a stream was served for some time after it was told, until it was reset.
static bool total_serves_on(struct world *world, const struct weir_address *address)
{
    struct subject *subject;
    uint64_t start = world_now(world);
    struct peer *peer = peer_pair(world, address, NULL, &subject);
    uint64_t late = 0;
    peer_expect(peer, 9);
    while (!subject->closed && world_now(world) - start < WORLD_PATIENCE) {
        peer_send(peer, 9, 10);
        late += subject->expired;
        world_run(world, TOTAL / 10);
    }
    assert_int_equal(subject->expired, 1);
    assert_in_range(subject->number - start, TOTAL, TOTAL + total_slack(world));
    assert_int_equal(subject->closed, 1);
    assert_int_equal(subject->reason, -ETIME);
    assert_in_range(subject->closed_ns - start, 2 * TOTAL, 2 * TOTAL + total_slack(world));
    world_reaches(world, &peer->failed, 1);
    assert_int_equal(peer->mismatches, 0);
    // What was sent after that has come back, but for the last.
    return late > 1 && peer->received + 10 >= peer->sent;
}

// A stream that goes on when its time is over is told so once, is served until twice that time, and
// is then reset, though bytes move all the time.
static void a_busy_stream_is_told_and_then_aborted(struct world *world)
{
    world->config->total_timeout_ns = TOTAL;
    struct service *service = world_service(
        world, &(struct service){ .received = echo_received, .expired = total_expired });
    struct weir_address address = world_listen(world, service);
    bool served = false;
    for (int i = 0; i < WORLD_TRIES && !served; i++)
        served = total_serves_on(world, &address);
    assert_true(served);
    assert_int_equal(world_stats(world).total_timeouts, world->subjects_count);
    assert_int_equal(world_stats(world).total_aborts, world->subjects_count);
    assert_int_equal(world_stats(world).closed_timeout, world->subjects_count);
}

static void total_set_idle(struct weir_stream *stream, void *argument)
{
    weir_stream_set_idle_timeout(stream, *(const uint64_t *)argument);
}

// A stream that closes when it is old, beside one that was idle; whether the latter was found to be
// so before it was old, too.
static bool total_closes_by_default(struct world *world, const struct weir_address *address,
                                    uint64_t total)
{
    uint64_t never = 0, soon = TOTAL / 10;
    struct subject *old, *idle;
    uint64_t start = world_now(world);
    struct peer *peer = peer_pair(world, address, NULL, &old);
    peer_pair(world, address, NULL, &idle);
    world_with(old, total_set_idle, &never);
    world_with(idle, total_set_idle, &soon);
    peer_expect(peer, 7);
    peer_send(peer, 7, 100000);
    world_reaches(world, &peer->ended, 1);
    world_reaches(world, &old->closed, 1);
    assert_int_equal(peer->received, 100000);
    assert_int_equal(peer->mismatches, 0);
    assert_int_equal(old->reason, 0);
    assert_in_range(old->closed_ns - start, total, total + total_slack(world));
    world_reaches(world, &idle->closed, 1);
    return idle->reason == -ETIMEDOUT;
}

// A protocol without `expired` closes in order, behind what it has queued. The stream's own idle
// time-out neither replaces the total time nor waits for it.
static void an_old_stream_closes_by_default(struct world *world)
{
    uint64_t total = 4 * TOTAL + 2 * world->variant->resolution_ns, old = 0;
    world->config->total_timeout_ns = total;
    world->config->idle_timeout_ns = 60 * SECOND;
    struct weir_address address = world_listen(world, world_echo(world));
    bool idle = false;
    for (int i = 0; i < WORLD_TRIES && !idle; i++) {
        idle = total_closes_by_default(world, &address, total);
        old += idle ? 1 : 2;
    }
    assert_true(idle);
    assert_int_equal(world_stats(world).total_timeouts, old);
    assert_int_equal(world_stats(world).total_aborts, 0);
}

static void total_opened_sends(struct subject *subject)
{
    for (int i = 0; i < 8; i++)
        weir_stream_send_static(subject->stream, pattern_at(2, 0), PATTERN_SPAN_MAX);
}

// Whether a reader got something until its stream was too old.
static bool total_reads_slowly(struct world *world, const struct weir_address *address)
{
    struct peer_options options = { .receive_buffer = 16384 };
    struct subject *subject;
    uint64_t start = world_now(world);
    struct peer *peer = peer_pair(world, address, &options, &subject);
    peer->read_piece = 1000;
    while (!subject->closed && world_now(world) - start < WORLD_PATIENCE) {
        peer->reading = true;
        world_step(world, 0);
        peer->reading = false;
        world_run(world, TOTAL / 10);
    }
    assert_int_equal(subject->closed, 1);
    assert_int_equal(subject->reason, -ETIME);
    assert_in_range(subject->closed_ns - start, 2 * TOTAL, 2 * TOTAL + total_slack(world));
    return peer->received > 0;
}

// A stream that closes and whose peer takes a little now and then makes progress, which no other
// time-out minds: it is aborted at twice its time.
static void a_slow_reader_outlives_nothing(struct world *world)
{
    world->config->total_timeout_ns = TOTAL;
    struct service *service =
        world_service(world, &(struct service){ .opened = total_opened_sends });
    struct weir_listener_config config = { .context = service };
    config.socket.send_buffer = 16384;
    struct weir_address address = world_listen_with(world, "127.0.0.1:0", config);
    bool read = false;
    for (int i = 0; i < WORLD_TRIES && !read; i++)
        read = total_reads_slowly(world, &address);
    assert_true(read);
    assert_int_equal(world_stats(world).close_timeouts, 0);
}

const struct contract_test total_tests[] = {
    { .name = "a_busy_stream_is_told_and_then_aborted",
      .run = a_busy_stream_is_told_and_then_aborted },
    { .name = "an_old_stream_closes_by_default", .run = an_old_stream_closes_by_default },
    { .name = "a_slow_reader_outlives_nothing", .run = a_slow_reader_outlives_nothing },
    { 0 },
};
