// The world on the simulated kernel: the uring engine as it is, one thread, and time that passes
// only while the loop works or waits. Peers are the simulation's own sockets.
#include <errno.h>
#include <string.h>

#include <core/engines/sim/sim.h>

#include "world_sockets.h"

// Peers may listen before the loop is made.
static struct sim *simulated_of(struct world *world)
{
    if (!world->state)
        world->state = sim_create(1, NULL);
    return world->state;
}

static int simulated_open(struct world *world)
{
    return loop_create_on(world->config, sim_base(simulated_of(world)), &world->loop);
}

// The kernel goes with all that peers left in it.
static void simulated_destroy(struct world *world)
{
    sim_destroy(world->state);
    world->state = NULL;
}

static uint64_t simulated_now(struct world *world)
{
    return sim_now(simulated_of(world));
}

static void simulated_turn(struct world *world, uint64_t wait_ns)
{
    if (!world->loop)
        return;
    uint64_t deadline_ns = wait_ns ? sim_now(world->state) + wait_ns : 0;
    int result = weir_loop_turn(world->loop, deadline_ns);
    if (result < 0)
        fail_msg("the loop broke: %s", strerror(-result));
}

// The machine's, for files, and the simulation's.
static uint32_t simulated_descriptors(struct world *world)
{
    struct sim_counts counts = { 0 };
    if (world->state)
        sim_count(world->state, &counts);
    if (counts.bad_closes || counts.bad_descriptors)
        fail_msg("the loop named a descriptor that was not open");
    return sockets_descriptors(world) + counts.descriptors + counts.ring_descriptors +
           counts.sockets;
}

static uint64_t simulated_waited(struct world *world)
{
    (void)world;
    return 0;
}

// --- Peers ---------------------------------------------------------------------------------------

static struct sim_socket *simulated_socket(const struct peer *peer)
{
    return peer->handle;
}

static int simulated_peer_connect(struct peer *peer, const struct weir_address *address,
                                  const struct peer_options *options)
{
    struct sim *sim = simulated_of(peer->world);
    struct sim_socket *socket;
    struct weir_address local;
    if (options->local)
        local = world_address(options->local);
    int result = sim_peer_connect(sim, address, options->local ? &local : NULL,
                                  options->send_buffer, options->receive_buffer, &socket);
    if (!result)
        peer->handle = socket;
    return result;
}

static int simulated_peer_connected(struct peer *peer)
{
    return sim_peer_connected(simulated_socket(peer));
}

static int64_t simulated_peer_write(struct peer *peer, const void *data, size_t size)
{
    return sim_peer_write(simulated_socket(peer), data, size);
}

static int64_t simulated_peer_read(struct peer *peer, void *data, size_t size)
{
    return sim_peer_read(simulated_socket(peer), data, size);
}

static void simulated_peer_half_close(struct peer *peer)
{
    sim_peer_half_close(simulated_socket(peer));
}

static void simulated_peer_close(struct peer *peer, bool reset)
{
    if (!peer->handle)
        return;
    sim_peer_close(simulated_socket(peer), reset);
    peer->handle = NULL;
}

static int simulated_peer_listen(struct peer *peer, const struct weir_address *address, int backlog,
                                 struct weir_address *ret_address)
{
    struct sim_socket *socket;
    int result = sim_peer_listen(simulated_of(peer->world), address, backlog, &socket, ret_address);
    if (!result)
        peer->handle = socket;
    return result;
}

static int simulated_peer_accept(struct peer *listener, struct peer *peer)
{
    struct sim_socket *socket;
    int result = sim_peer_accept(simulated_socket(listener), &socket);
    if (!result)
        peer->handle = socket;
    return result;
}

const struct world_operations world_sim = {
    .name = "sim",
    .simulated = true,
    .open = simulated_open,
    .close = lockstep_close,
    .destroy = simulated_destroy,
    .now = simulated_now,
    .turn = simulated_turn,
    .listen = lockstep_listen,
    .call = lockstep_call,
    .stats = lockstep_stats,
    .descriptors = simulated_descriptors,
    .waited = simulated_waited,
    .peer_connect = simulated_peer_connect,
    .peer_connected = simulated_peer_connected,
    .peer_write = simulated_peer_write,
    .peer_read = simulated_peer_read,
    .peer_half_close = simulated_peer_half_close,
    .peer_close = simulated_peer_close,
    .peer_listen = simulated_peer_listen,
    .peer_accept = simulated_peer_accept,
};
