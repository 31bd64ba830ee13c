// A client's script: it connects, writes and reads pieces of any size at any time, and ends.
#include <errno.h>
#include <string.h>

#include "run.h"

// Whoever waits as long as this in a world without latency waits for ever.
#define CLIENT_PATIENCE_NS 600000000000ULL

enum { CLIENT_STALL_NS = 25000 };

// Its period is a prime that no buffer's size divides, and each client starts elsewhere in it.
const char *client_bytes(const struct client *client, uint64_t offset)
{
    enum { PERIOD = 65521 };
    static char table[PERIOD + CLIENT_PIECE];
    static bool filled;
    for (uint64_t i = 0, x = 1; !filled && i < sizeof table; i++) {
        x = x * 6364136223846793005 + 1442695040888963407;
        table[i] = i < PERIOD ? (char)(x >> 56) : table[i - PERIOD];
    }
    filled = true;
    uint32_t start = client->run->protocol->files ? 0 : client->index * 7919;
    return table + (offset + start) % PERIOD;
}

static uint64_t client_random(const struct client *client, uint64_t below)
{
    return sim_random(client->run->sim, below);
}

static void client_finish(struct client *client)
{
    client->done = true;
    client->socket = NULL;
    if (++client->run->clients_done == client->run->clients_count && client->run->loop)
        weir_loop_post(client->run->loop, &client->run->over);
    sim_trace(client->run->sim, "client done", client->index, (int64_t)client->received);
}

void client_stop(struct client *client)
{
    if (client->socket)
        sim_peer_close(client->socket, false);
    if (!client->done)
        client_finish(client);
}

static void client_close(struct client *client)
{
    sim_trace(client->run->sim, "client closes", client->index, client->end);
    if (client->end == CLIENT_VANISHES)
        sim_peer_vanish(client->socket);
    else
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
    run_complain(client->run, "client %u waits in vain: sent %llu, received %llu of %llu bytes",
                 client->index, (unsigned long long)client->sent,
                 (unsigned long long)client->received, (unsigned long long)client->size);
    sim_peer_close(client->socket, true);
    client_finish(client);
}

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
    size_t size = client_piece(client, client->write_max);
    if (size > client->size - client->sent)
        size = (size_t)(client->size - client->sent);
    const char *bytes = client_bytes(client, client->sent);
    int64_t count = size ? sim_peer_write(client->socket, bytes, size) : 0;
    if (count > 0)
        client->sent += (uint64_t)count;
    else if (count < 0 && count != -EAGAIN)
        client->error = (int)count; // what has arrived can still be read
    if (client->sent == client->size && client->end == CLIENT_ENDS && !client->half_closed) {
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
    client->altered |= memcmp(piece, client_bytes(client, client->received), (size_t)count) != 0;
    client->received += (uint64_t)count;
    return true;
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
            client_close(client);
            return;
        }
        if (client->sent < client->size || !client->half_closed)
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

static void client_call(void *argument)
{
    struct client *client = argument;
    struct run *run = client->run;
    if (client->done)
        return;
    int buffer = client_random(client, 2) ? (int)client_random(client, 60000) : 0;
    int error = sim_peer_connect(run->sim, &run->address, NULL, buffer, buffer, &client->socket);
    if (error) {
        run_complain(run, "client %u cannot connect: %s", client->index, strerror(-error));
        client_finish(client);
        return;
    }
    client_step(client);
}

// Sizes of every scale are equally likely.
static uint64_t client_scaled(const struct client *client, uint64_t bits)
{
    return client_random(client, 1ULL << client_random(client, bits + 1));
}

void client_start(struct client *client, struct run *run, uint32_t index)
{
    *client = (struct client){ .run = run, .index = index };
    client->stall_ns = CLIENT_STALL_NS;
    client->size = client_scaled(client, CLIENT_SIZE_BITS);
    // Half of the clients end in order.
    client->end =
        client_random(client, 2) ? CLIENT_ENDS : (enum client_end)client_random(client, 4);
    client->ends_after = client_random(client, 2 * client->size + 1);
    client->write_max = 1 + client_scaled(client, 15) + client->size / 64;
    client->read_max = 1 + client_scaled(client, 15) + client->size / 64;
    client->step_max_ns = 100 + client_scaled(client, 21);
    sim_at(run->sim, client_scaled(client, 22), client_call, client);
}
