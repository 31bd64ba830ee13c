// Nobody is held hostage: neither peers that send and never read nor one that floods keep the
// others from being served at once.
#include <stdlib.h>

#include "world.h"

// A quiet stream's answer must come within this.
#define HOSTAGE_LIMIT (50 * MILLISECOND * WORLD_SLOWNESS)

enum { HOSTAGE_PINGS = 20, HOSTAGE_BUFFER = 16384 };

static struct weir_address hostage_listen(struct world *world)
{
    struct weir_listener_config config = { .context = world_echo(world) };
    config.socket.send_buffer = HOSTAGE_BUFFER;
    config.socket.receive_buffer = HOSTAGE_BUFFER;
    return world_listen_with(world, "127.0.0.1:0", config);
}

static const struct peer_options hostage_options = { .send_buffer = HOSTAGE_BUFFER,
                                                     .receive_buffer = HOSTAGE_BUFFER };

static void hostage_ping(struct peer *peer)
{
    uint64_t took = peer_ping(peer, 64);
    if (took > HOSTAGE_LIMIT)
        fail_msg("a quiet stream was answered after %.1f ms", (double)took / MILLISECOND);
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
    for (uint32_t i = 0; i < HOSTAGE_PINGS; i++)
        hostage_ping(quiet);
    world_run_until_still(world);
    assert_int_equal(world_stats(world).streams_open, count + 1);
    for (uint32_t i = 0; i < HOSTAGE_PINGS; i++)
        hostage_ping(quiet);
    struct peer *late = peer_pair(world, &address, NULL, &subject);
    for (uint32_t i = 0; i < HOSTAGE_PINGS; i++)
        hostage_ping(late);
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

// 64 peers that never read, with small messages.
static void sixty_four_silent_peers_with_small_messages_hold_nobody(struct world *world)
{
    hostage_run(world, 64, 64);
}

// 64 peers that never read, with large messages.
static void sixty_four_silent_peers_with_large_messages_hold_nobody(struct world *world)
{
    hostage_run(world, 64, 65536);
}

// A thousand of them need a mark of their own, or they would fill the machine's memory for TCP.
static void hostage_run_thousand(struct world *world, size_t size)
{
    world->config->send_high = 65536;
    world->config->send_low = 16384;
    hostage_run(world, 1000, size);
}

// 1,000 peers that never read, with small messages: more than there are receive buffers.
static void a_thousand_silent_peers_with_small_messages_hold_nobody(struct world *world)
{
    hostage_run_thousand(world, 64);
}

// 1,000 peers that never read, with large messages.
static void a_thousand_silent_peers_with_large_messages_hold_nobody(struct world *world)
{
    hostage_run_thousand(world, 65536);
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
    for (uint32_t round = 0; round < 3; round++) {
        uint64_t before = flooder->received;
        for (uint32_t i = 0; i < 100; i++)
            hostage_ping(quiet[i]);
        assert_true(flooder->received > before);
    }
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
    { .name = "a_thousand_silent_peers_with_small_messages_hold_nobody",
      .run = a_thousand_silent_peers_with_small_messages_hold_nobody,
      .limit_s = 60 },
    { .name = "a_thousand_silent_peers_with_large_messages_hold_nobody",
      .run = a_thousand_silent_peers_with_large_messages_hold_nobody,
      .limit_s = 60 },
    { .name = "silent_peers_cannot_empty_a_small_pool",
      .run = silent_peers_cannot_empty_a_small_pool },
    { .name = "a_flooder_does_not_starve_quiet_streams",
      .run = a_flooder_does_not_starve_quiet_streams },
    { 0 },
};
