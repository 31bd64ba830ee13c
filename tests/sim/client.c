// See client.h.
#include "client.h"

#include <errno.h>
#include <string.h>

#include "run.h"

// Whoever waits as long as this in a world without latency waits for ever.
#define CLIENT_PATIENCE_NS 600000000000ULL

// A client's port is its own, by which its stream is known; below those that the kernel chooses.
enum { CLIENT_STALL_NS = 25000, CLIENT_PORT_FIRST = 1024 };

// Its period is a prime that no buffer's size divides, and each key starts elsewhere in it.
const char *client_pattern(uint64_t key, uint64_t offset)
{
    enum { PERIOD = 65521 };
    static char table[PERIOD + CLIENT_PIECE];
    static bool filled;
    for (uint64_t i = 0, x = 1; !filled && i < sizeof table; i++) {
        x = x * 6364136223846793005 + 1442695040888963407;
        table[i] = i < PERIOD ? (char)(x >> 56) : table[i - PERIOD];
    }
    filled = true;
    return table + (offset + key * 7919) % PERIOD;
}

uint64_t client_random(const struct client *client, uint64_t below)
{
    return sim_random(client->run->sim, below);
}

uint64_t client_scaled(const struct client *client, uint64_t bits)
{
    return client_random(client, 1ULL << client_random(client, bits + 1));
}

// --- The end -------------------------------------------------------------------------------------

static void client_finish(struct client *client)
{
    struct run *run = client->run;
    client->done = true;
    client->socket = NULL;
    sim_forget(run->sim, client);
    if (client->role->over)
        client->role->over(client);
    sim_trace(run->sim, "client done", client->index, (int64_t)client->received);
    if (!client->helper && ++run->clients_done == run->clients_count && run->loop)
        weir_loop_post(run->loop, &run->over);
}

void client_stop(struct client *client)
{
    if (client->done || !client->run)
        return;
    if (client->socket)
        sim_peer_close(client->socket, false);
    client_finish(client);
}

void client_end_now(struct client *client)
{
    if (client->done)
        return;
    sim_trace(client->run->sim, "client closes", client->index, client->end);
    if (client->socket && client->end == CLIENT_VANISHES)
        sim_peer_vanish(client->socket);
    else if (client->socket)
        sim_peer_close(client->socket, client->end == CLIENT_RESETS);
    client_finish(client);
}

static void client_fail(struct client *client, int error)
{
    client->error = error;
    sim_trace(client->run->sim, "client fails", client->index, error);
    sim_peer_close(client->socket, false);
    client_finish(client);
}

static void client_give_up(struct client *client)
{
    run_complain(client->run, "client %u waits in vain: sent %llu, received %llu bytes",
                 client->index, (unsigned long long)client->sent,
                 (unsigned long long)client->received);
    sim_peer_close(client->socket, true);
    client_finish(client);
}

// --- Steps ---------------------------------------------------------------------------------------

// As many bytes as it may still move before it ends out of order.
static uint64_t client_allowance(const struct client *client)
{
    uint64_t moved = client->sent + client->received;
    if (client->end == CLIENT_ENDS)
        return UINT64_MAX;
    return moved < client->ends_after ? client->ends_after - moved : 0;
}

static size_t client_piece(const struct client *client, size_t most)
{
    uint64_t size = 1 + client_random(client, most), allowance = client_allowance(client);
    return (size_t)(size < allowance ? size : allowance);
}

static void client_write(struct client *client)
{
    size_t size = client_piece(client, client->write_max), there;
    const char *bytes = client->role->output(client, &there);
    if (size > there)
        size = there;
    int64_t count = size ? sim_peer_write(client->socket, bytes, size) : 0;
    if (count > 0)
        client->sent += (uint64_t)count;
    else if (count < 0 && count != -EAGAIN)
        client->error = (int)count; // what has arrived can still be read
    if (client->end == CLIENT_ENDS && client->role->sent_all(client) && !client->half_closed) {
        client->half_closed = true;
        sim_trace(client->run->sim, "client ends", client->index, (int64_t)client->sent);
        sim_peer_half_close(client->socket);
    }
}

// False: it is over.
static bool client_read(struct client *client)
{
    static char piece[CLIENT_PIECE];
    size_t size = client_piece(client, client->read_max);
    if (!size)
        return true;
    int64_t count = sim_peer_read(client->socket, piece, size);
    if (count == -EAGAIN)
        return true;
    if (count < 0) {
        client_fail(client, (int)count);
        return false;
    }
    if (count == 0) {
        client->ended = true;
        sim_peer_close(client->socket, false);
        client_finish(client);
        return false;
    }
    client->received += (uint64_t)count;
    client->role->input(client, piece, (size_t)count);
    return !client->done;
}

static void client_step(void *argument)
{
    struct client *client = argument;
    if (client->done)
        return;
    uint64_t moved = client->sent + client->received;
    int connected = sim_peer_connected(client->socket);
    if (connected && connected != -EINPROGRESS) {
        client_fail(client, connected);
        return;
    }
    if (!connected) {
        if (!client_allowance(client)) {
            client_end_now(client);
            return;
        }
        if (!client->half_closed)
            client_write(client);
        // Who got nowhere looks everywhere before it gives up.
        bool reads = client_random(client, 4) || client->stall_ns > CLIENT_STALL_NS;
        if (reads && !client_read(client))
            return;
    }
    // Who gets nowhere tries again later.
    uint64_t delay_ns = 1 + client_random(client, client->step_max_ns);
    client->stall_ns =
        client->sent + client->received == moved ? 2 * client->stall_ns : CLIENT_STALL_NS;
    delay_ns += client->stall_ns > CLIENT_STALL_NS ? client->stall_ns : 0;
    if (client->stall_ns > CLIENT_PATIENCE_NS) {
        client_give_up(client);
        return;
    }
    sim_at(client->run->sim, delay_ns, client_step, client);
}

// --- The beginning -------------------------------------------------------------------------------

static void client_call(void *argument)
{
    struct client *client = argument;
    struct run *run = client->run;
    if (client->done)
        return;
    struct weir_address local = client->address;
    local.in.sin_port = htons((uint16_t)(CLIENT_PORT_FIRST + client->index));
    int buffer = client_random(client, 2) ? (int)client_random(client, 60000) : 0;
    int error = sim_peer_connect(run->sim, &client->address, client->helper ? NULL : &local, buffer,
                                 buffer, &client->socket);
    if (error) {
        client->error = error;
        if (!client->helper && !run->drained)
            run_complain(run, "client %u cannot connect: %s", client->index, strerror(-error));
        client_finish(client);
        return;
    }
    client_step(client);
}

void client_draw(struct client *client, uint64_t volume)
{
    // Half of the clients end in order.
    client->end =
        client_random(client, 2) ? CLIENT_ENDS : (enum client_end)client_random(client, 4);
    client->ends_after = client_random(client, volume + 1);
    client->write_max = 1 + client_scaled(client, 15) + volume / 128;
    client->read_max = 1 + client_scaled(client, 15) + volume / 128;
    if (client->read_max > CLIENT_PIECE)
        client->read_max = CLIENT_PIECE;
    client->step_max_ns = 100 + client_scaled(client, 21);
    client->stall_ns = CLIENT_STALL_NS;
}

void client_start(struct client *client, uint64_t delay_ns)
{
    sim_at(client->run->sim, delay_ns, client_call, client);
}

struct client *client_of(struct run *run, const struct weir_address *peer)
{
    uint32_t index = (uint32_t)ntohs(peer->in.sin_port) - CLIENT_PORT_FIRST;
    return index < run->clients_count ? &run->clients[index] : NULL;
}
