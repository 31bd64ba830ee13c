// Nobody is held hostage: neither peers that send and never read nor one that floods keep the
// others from being served at once.
#include <stdlib.h>

#include "world.h"

// A quiet stream's answer must come within this.
#define HOSTAGE_LIMIT (50 * MILLISECOND * WORLD_SLOWNESS)

enum { HOSTAGE_PINGS = 20, HOSTAGE_BUFFER = 16384 };

// What a busy machine may do to a few answers it does not do to most; who is held hostage is so
// each time. In lockstep it is known how long the one thread waited for its processor, but not how
// long that was lent to another virtual machine.
static uint32_t hostage_late_max(const struct world *world, uint32_t pings)
{
    return pings / (world->loop ? 10 : 4);
}

// Where each of `count` floods keeps a thread of its own ready to run, the kernel shares the
// processor among them: a turn each, half a millisecond long.
static uint64_t hostage_limit(const struct world *world, uint32_t count)
{
    bool thread_each = world->variant->engine == WEIR_ENGINE_BLOCKING;
    return HOSTAGE_LIMIT + (thread_each ? count * MILLISECOND / 2 * WORLD_SLOWNESS : 0);
}

static struct weir_address hostage_listen(struct world *world)
{
    struct weir_listener_config config = { .context = world_echo(world) };
    config.socket.send_buffer = HOSTAGE_BUFFER;
    config.socket.receive_buffer = HOSTAGE_BUFFER;
    return world_listen_with(world, "127.0.0.1:0", config);
}

static const struct peer_options hostage_options = { .send_buffer = HOSTAGE_BUFFER,
                                                     .receive_buffer = HOSTAGE_BUFFER };

// A quiet stream beside `count` floods is answered in time, again and again.
static void hostage_pings(struct peer *peer, uint32_t count)
{
    const struct world *world = peer->world;
    uint64_t limit = hostage_limit(world, count), slowest = 0;
    uint32_t late = 0;
    for (uint32_t i = 0; i < HOSTAGE_PINGS; i++) {
        uint64_t took = peer_ping(peer, 64);
        slowest = took > slowest ? took : slowest;
        late += took > limit;
    }
    if (late > hostage_late_max(world, HOSTAGE_PINGS))
        fail_msg("%u of %u answers to a quiet stream took longer than %.1f ms, up to %.1f ms", late,
                 (unsigned)HOSTAGE_PINGS, (double)limit / MILLISECOND,
                 (double)slowest / MILLISECOND);
}

// `count` peers send messages of `size` bytes without end and never read, while a quiet stream that
// was there before them, and one that comes after, are answered in time: during the flood, and when
// all that can be queued is queued.
static void hostage_run(struct world *world, uint32_t count, size_t size)
{
    struct weir_address address = hostage_listen(world);
    struct subject *subject;
    struct peer *quiet = peer_pair(world, &address, NULL, &subject);
    peer_ping(quiet, 64);
    for (uint32_t i = 0; i < count; i++) {
        struct peer *peer = peer_open(world, &address, &hostage_options);
        peer->send_piece = size;
        peer->send_step = size < 4096 ? 4096 : size;
        peer_send(peer, 5, 1 << 30);
    }
    hostage_pings(quiet, count);
    world_run_until_still(world);
    assert_int_equal(world_stats(world).streams_open, count + 1);
    hostage_pings(quiet, count);
    struct peer *late = peer_pair(world, &address, NULL, &subject);
    hostage_pings(late, count);
}

// One peer that never reads, with small messages.
static void one_silent_peer_with_small_messages_holds_nobody(struct world *world)
{
    hostage_run(world, 1, 64);
}

// One peer that never reads, with large messages.
static void one_silent_peer_with_large_messages_holds_nobody(struct world *world)
{
    hostage_run(world, 1, 65536);
}

// Many need a mark of their own, or they would fill the machine's memory for TCP, and take a
// million small messages to do so.
static void hostage_run_many(struct world *world, uint32_t count, size_t size)
{
    world->config->send_high = 65536;
    world->config->send_low = 16384;
    hostage_run(world, count, size);
}

// 64 peers that never read, with small messages.
static void sixty_four_silent_peers_with_small_messages_hold_nobody(struct world *world)
{
    hostage_run_many(world, 64, 64);
}

// 64 peers that never read, with large messages.
static void sixty_four_silent_peers_with_large_messages_hold_nobody(struct world *world)
{
    hostage_run_many(world, 64, 65536);
}

// More than there are receive buffers; sanitizers' threads are slow to make.
enum { HOSTAGE_CROWD = WORLD_SLOWNESS > 1 ? 300 : 1000 };

// A crowd that never reads, with small messages: less than a quarter of a buffer each. With 64
// bytes a million writes would be needed.
static void a_crowd_of_silent_peers_with_small_messages_holds_nobody(struct world *world)
{
    hostage_run_many(world, HOSTAGE_CROWD, 1024);
}

// A crowd that never reads, with large messages.
static void a_crowd_of_silent_peers_with_large_messages_holds_nobody(struct world *world)
{
    hostage_run_many(world, HOSTAGE_CROWD, 65536);
}

// Even with the smallest pool, silent peers leave buffers for the others.
static void silent_peers_cannot_empty_a_small_pool(struct world *world)
{
    world->config->buffer_count = 8;
    hostage_run(world, 64, 65536);
}

// One peer floods as fast as it is read, in both directions, and a hundred quiet streams are each
// answered in time; the flooder is served as well.
static void a_flooder_does_not_starve_quiet_streams(struct world *world)
{
    struct weir_address address = world_listen(world, world_echo(world));
    struct peer *quiet[100], *flooder;
    struct subject *subject;
    for (uint32_t i = 0; i < 100; i++)
        quiet[i] = peer_pair(world, &address, NULL, &subject);
    flooder = peer_pair(world, &address, NULL, &subject);
    peer_expect(flooder, 6);
    peer_send(flooder, 6, (uint64_t)1 << 40);
    world_reaches(world, &flooder->received, 1 << 20);
    uint32_t late[100] = { 0 }, late_sum = 0;
    for (uint32_t round = 0; round < 3; round++) {
        uint64_t before = flooder->received;
        for (uint32_t i = 0; i < 100; i++)
            late[i] += peer_ping(quiet[i], 64) > hostage_limit(world, 1);
        assert_true(flooder->received > before);
    }
    for (uint32_t i = 0; i < 100; i++) {
        assert_in_range(late[i], 0, 2); // of three
        late_sum += late[i];
    }
    assert_in_range(late_sum, 0, hostage_late_max(world, 300));
}

const struct contract_test hostage_tests[] = {
    { .name = "one_silent_peer_with_small_messages_holds_nobody",
      .run = one_silent_peer_with_small_messages_holds_nobody },
    { .name = "one_silent_peer_with_large_messages_holds_nobody",
      .run = one_silent_peer_with_large_messages_holds_nobody },
    { .name = "sixty_four_silent_peers_with_small_messages_hold_nobody",
      .run = sixty_four_silent_peers_with_small_messages_hold_nobody },
    { .name = "sixty_four_silent_peers_with_large_messages_hold_nobody",
      .run = sixty_four_silent_peers_with_large_messages_hold_nobody },
    { .name = "a_crowd_of_silent_peers_with_small_messages_holds_nobody",
      .run = a_crowd_of_silent_peers_with_small_messages_holds_nobody,
      .limit_s = 240 },
    { .name = "a_crowd_of_silent_peers_with_large_messages_holds_nobody",
      .run = a_crowd_of_silent_peers_with_large_messages_holds_nobody,
      .limit_s = 240 },
    { .name = "silent_peers_cannot_empty_a_small_pool",
      .run = silent_peers_cannot_empty_a_small_pool },
    { .name = "a_flooder_does_not_starve_quiet_streams",
      .run = a_flooder_does_not_starve_quiet_streams },
    { 0 },
};
