// Thousands of connections come and go, and nothing of them stays. What a world counts at its end
// (slots, records, buffers, blocks, timers) and the descriptors of the process are the proof.
#include <stdio.h>

#include "world.h"

enum { CHURN_CONNECTIONS = WORLD_SLOWNESS > 1 ? 1000 : 10000, CHURN_AT_ONCE = 50 };

// How a connection ends; each kind returns every sixth time.
enum churn_kind {
    CHURN_PEER_ENDS,   // half-close, and the end comes back
    CHURN_PEER_CLOSES, // close without reading the answer's end
    CHURN_PEER_RESETS,
    CHURN_CLOSED_HERE,
    CHURN_ABORTED_HERE,
    CHURN_WITHOUT_A_BYTE,
    CHURN_KINDS,
};

static void churn_received(struct subject *subject, struct weir_slice slice)
{
    weir_stream_send_slice(subject->stream, slice);
    switch (slice.data[0]) {
    case CHURN_CLOSED_HERE:
        weir_stream_close(subject->stream);
        break;
    case CHURN_ABORTED_HERE:
        weir_stream_abort(subject->stream);
        break;
    default:
        break;
    }
}

static void churn_start(struct peer *peer, enum churn_kind kind)
{
    char byte = (char)kind;
    if (kind == CHURN_WITHOUT_A_BYTE)
        peer_half_close(peer);
    else
        peer_write(peer, &byte, 1);
    peer->reading = true;
}

static void churn_finish(struct peer *peer, enum churn_kind kind)
{
    struct world *world = peer->world;
    switch (kind) {
    case CHURN_PEER_ENDS:
        world_reaches(world, &peer->received, 1);
        peer_half_close(peer);
        world_reaches(world, &peer->ended, 1);
        break;
    case CHURN_PEER_CLOSES:
        world_reaches(world, &peer->received, 1);
        break;
    case CHURN_PEER_RESETS:
        peer_reset(peer);
        break;
    case CHURN_CLOSED_HERE:
    case CHURN_WITHOUT_A_BYTE:
        world_reaches(world, &peer->ended, 1);
        break;
    case CHURN_ABORTED_HERE:
        world_reaches(world, &peer->failed, 1);
        break;
    case CHURN_KINDS:
        break;
    }
    peer_close(peer);
}

// Connections in waiting states occupy ports: many destinations give each enough of them.
static struct weir_address churn_target(const struct weir_address *address, uint32_t index)
{
    struct weir_address target = *address;
    target.in.sin_addr.s_addr = htonl(0x7f000001u + (index % 200) * 256);
    return target;
}

static void churn_round(struct world *world, const struct weir_address *address, uint32_t first)
{
    struct peer *peers[CHURN_AT_ONCE];
    for (uint32_t i = 0; i < CHURN_AT_ONCE; i++) {
        struct weir_address target = churn_target(address, first + i);
        peers[i] = peer_open(world, &target, NULL);
    }
    for (uint32_t i = 0; i < CHURN_AT_ONCE; i++) {
        world_reaches(world, &peers[i]->connected, 1);
        churn_start(peers[i], (first + i) % CHURN_KINDS);
    }
    for (uint32_t i = 0; i < CHURN_AT_ONCE; i++)
        churn_finish(peers[i], (first + i) % CHURN_KINDS);
    world->peers_done = world->peers_count;
}

static bool churn_is_over(void *argument)
{
    struct world *world = argument;
    return world->subjects_count == CHURN_CONNECTIONS &&
           world->subjects_closed == CHURN_CONNECTIONS;
}

// After thousands of connections with every kind of end, through a loop with room for 256, as many
// descriptors are open as before the first, and no slot, record or buffer is taken.
static void thousands_of_connections_leave_nothing(struct world *world)
{
    world->config->streams_max = 256;
    struct service *service = world_service(world, &(struct service){ .received = churn_received });
    struct weir_address address =
        world_listen_with(world, "0.0.0.0:0", (struct weir_listener_config){ .context = service });
    churn_round(world, &address, 0);
    world_run_until_still(world);
    uint32_t descriptors = world->operations->descriptors(world);
    for (uint32_t done = CHURN_AT_ONCE; done < CHURN_CONNECTIONS; done += CHURN_AT_ONCE)
        churn_round(world, &address, done);
    if (!world_until(world, churn_is_over, world, WORLD_PATIENCE))
        fail_msg("%u of %u streams opened, %u closed", world->subjects_count,
                 (unsigned)CHURN_CONNECTIONS, world->subjects_closed);
    world_run_until_still(world);
    assert_int_equal(world->operations->descriptors(world), descriptors);
    struct weir_stats stats = world_stats(world);
    assert_int_equal(stats.accepts, CHURN_CONNECTIONS);
    assert_int_equal(stats.streams_open, 0);
    assert_int_equal(stats.buffers_leased, 0);
    assert_int_equal(stats.queued_bytes, 0);
    assert_int_equal(stats.closed_clean + stats.closed_reset + stats.closed_canceled,
                     CHURN_CONNECTIONS);
    assert_int_equal(stats.overflows, 0);
}

const struct contract_test churn_tests[] = {
    { .name = "thousands_of_connections_leave_nothing",
      .run = thousands_of_connections_leave_nothing,
      .limit_s = 240 },
    { 0 },
};
