// The total time of a stream: it is told once that this is over, and aborted when as much has
// passed again, whatever moves meanwhile.
#include <errno.h>

#include "world.h"

#define TOTAL (100 * MILLISECOND * WORLD_SLOWNESS)

static uint64_t total_slack(const struct world *world)
{
    return 1000 * MILLISECOND * WORLD_SLOWNESS + 2 * world->variant->resolution_ns;
}

static void total_expired(struct subject *subject)
{
    subject->number = world_now(subject->world);
}

// A stream that goes on when its time is over is told so once, is served until twice that time, and
// is then reset, though bytes move all the time.
static void a_busy_stream_is_told_and_then_aborted(struct world *world)
{
    world->config->total_timeout_ns = TOTAL;
    struct service *service = world_service(
        world, &(struct service){ .received = echo_received, .expired = total_expired });
    struct weir_address address = world_listen(world, service);
    struct subject *subject;
    uint64_t start = world_now(world);
    struct peer *peer = peer_pair(world, &address, NULL, &subject);
    uint64_t late = 0;
    peer_expect(peer, 9);
    while (!subject->closed && world_now(world) - start < WORLD_PATIENCE) {
        peer_send(peer, 9, 10);
        late += subject->expired;
        world_run(world, TOTAL / 10);
    }
    assert_int_equal(subject->expired, 1);
    assert_in_range(subject->number - start, TOTAL, TOTAL + total_slack(world));
    // What was sent after that has come back, but for the last.
    assert_true(late > 1);
    assert_true(peer->received + 10 >= peer->sent);
    assert_int_equal(subject->closed, 1);
    assert_int_equal(subject->reason, -ETIME);
    assert_in_range(subject->closed_ns - start, 2 * TOTAL, 2 * TOTAL + total_slack(world));
    world_reaches(world, &peer->failed, 1);
    assert_int_equal(peer->mismatches, 0);
    assert_int_equal(world_stats(world).total_timeouts, 1);
    assert_int_equal(world_stats(world).total_aborts, 1);
    assert_int_equal(world_stats(world).closed_timeout, 1);
}

static void total_set_idle(struct weir_stream *stream, void *argument)
{
    weir_stream_set_idle_timeout(stream, *(const uint64_t *)argument);
}

// A protocol without `expired` closes in order, behind what it has queued. The stream's own idle
// time-out neither replaces the total time nor waits for it.
static void an_old_stream_closes_by_default(struct world *world)
{
    // So much apart that a busy machine does not let the later one come first.
    uint64_t never = 0, soon = TOTAL / 10, total = 4 * TOTAL + 2 * world->variant->resolution_ns;
    world->config->total_timeout_ns = total;
    world->config->idle_timeout_ns = 60 * SECOND;
    struct weir_address address = world_listen(world, world_echo(world));
    struct subject *old, *idle;
    uint64_t start = world_now(world);
    struct peer *peer = peer_pair(world, &address, NULL, &old);
    peer_pair(world, &address, NULL, &idle);
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
    assert_int_equal(idle->reason, -ETIMEDOUT);
    assert_int_equal(world_stats(world).total_timeouts, 1);
    assert_int_equal(world_stats(world).total_aborts, 0);
}

static void total_opened_sends(struct subject *subject)
{
    for (int i = 0; i < 8; i++)
        weir_stream_send_static(subject->stream, pattern_at(2, 0), PATTERN_SPAN_MAX);
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
    struct peer_options options = { .receive_buffer = 16384 };
    struct subject *subject;
    uint64_t start = world_now(world);
    struct peer *peer = peer_pair(world, &address, &options, &subject);
    peer->read_piece = 1000;
    while (!subject->closed && world_now(world) - start < WORLD_PATIENCE) {
        peer->reading = true;
        world_step(world, 0);
        peer->reading = false;
        world_run(world, TOTAL / 10);
    }
    assert_int_equal(subject->closed, 1);
    assert_int_equal(subject->reason, -ETIME);
    assert_true(peer->received > 0);
    assert_in_range(subject->closed_ns - start, 2 * TOTAL, 2 * TOTAL + total_slack(world));
    assert_int_equal(world_stats(world).close_timeouts, 0);
}

const struct contract_test total_tests[] = {
    { .name = "a_busy_stream_is_told_and_then_aborted",
      .run = a_busy_stream_is_told_and_then_aborted },
    { .name = "an_old_stream_closes_by_default", .run = an_old_stream_closes_by_default },
    { .name = "a_slow_reader_outlives_nothing", .run = a_slow_reader_outlives_nothing },
    { 0 },
};
