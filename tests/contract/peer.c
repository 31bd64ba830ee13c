// The other side of the connections: peers that connect, send a pattern and check what they read,
// a step at a time, and never wait.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

enum {
    PEER_WRITE_PIECE = 256 * 1024,
    PEER_STEP_BYTES = 1 << 20, // a peer's share of a step
    PATTERN_PERIOD = 65521,    // a prime: no buffer's size divides it
};

// --- Patterns ------------------------------------------------------------------------------------

static uint64_t pattern_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint32_t pattern_random(uint64_t *state, uint32_t below)
{
    return (uint32_t)(pattern_next(state) % below);
}

static const char *pattern_table(void)
{
    static char table[PATTERN_PERIOD + PATTERN_SPAN_MAX];
    static bool filled;
    if (!filled) {
        uint64_t state = 1;
        for (size_t i = 0; i < PATTERN_PERIOD; i++)
            table[i] = (char)pattern_next(&state);
        for (size_t i = PATTERN_PERIOD; i < sizeof(table); i++)
            table[i] = table[i - PATTERN_PERIOD];
        filled = true;
    }
    return table;
}

const char *pattern_at(uint64_t pattern, uint64_t offset)
{
    return pattern_table() + (pattern * 7919 + offset) % PATTERN_PERIOD;
}

bool pattern_matches(uint64_t pattern, uint64_t offset, const void *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        size_t part = size - done < PATTERN_SPAN_MAX ? size - done : PATTERN_SPAN_MAX;
        if (memcmp((const char *)data + done, pattern_at(pattern, offset + done), part) != 0)
            return false;
        done += part;
    }
    return true;
}

// --- A peer's step -------------------------------------------------------------------------------

static const struct world_operations *peer_operations(const struct peer *peer)
{
    return peer->world->operations;
}

static void peer_fail(struct peer *peer, int error)
{
    peer->failed = 1;
    peer->error = error;
    peer->world->progress++;
}

static void peer_step_connect(struct peer *peer)
{
    int result = peer_operations(peer)->peer_connected(peer);
    if (result == -EINPROGRESS)
        return;
    if (result)
        peer_fail(peer, result);
    else
        peer->connected = 1;
    peer->world->progress++;
}

static void peer_step_send(struct peer *peer)
{
    size_t piece = peer->send_piece ? peer->send_piece : PEER_WRITE_PIECE;
    size_t limit = peer->send_step ? peer->send_step : PEER_STEP_BYTES;
    for (size_t total = 0; peer->send_left > 0 && total < limit;) {
        size_t size = peer->send_left < piece ? (size_t)peer->send_left : piece;
        int64_t count = peer_operations(peer)->peer_write(
            peer, pattern_at(peer->send_pattern, peer->sent), size);
        if (count == -EAGAIN)
            return;
        if (count < 0) {
            peer->send_left = 0;
            peer_fail(peer, (int)count);
            return;
        }
        peer->sent += (uint64_t)count;
        peer->send_left -= (uint64_t)count;
        total += (size_t)count;
        peer->world->progress++;
    }
    if (peer->send_left == 0 && peer->end_when_sent && !peer->half_closed)
        peer_half_close(peer);
}

static void peer_take(struct peer *peer, const char *data, size_t size)
{
    if (peer->receive_pattern &&
        !pattern_matches(peer->receive_pattern, peer->received, data, size))
        peer->mismatches++;
    if (peer->received < peer->copy_size) {
        size_t room = peer->copy_size - (size_t)peer->received;
        memcpy(peer->copy + peer->received, data, size < room ? size : room);
    }
    peer->received += size;
}

static void peer_step_read(struct peer *peer)
{
    static char buffer[PEER_WRITE_PIECE];
    size_t limit = peer->read_piece ? peer->read_piece : PEER_STEP_BYTES;
    for (size_t total = 0; total < limit;) {
        size_t size = limit - total < sizeof(buffer) ? limit - total : sizeof(buffer);
        int64_t count = peer_operations(peer)->peer_read(peer, buffer, size);
        if (count == -EAGAIN)
            return;
        peer->world->progress++;
        if (count == 0)
            peer->ended = 1;
        else if (count < 0)
            peer_fail(peer, (int)count);
        if (count <= 0)
            return;
        peer_take(peer, buffer, (size_t)count);
        total += (size_t)count;
    }
}

static void peer_step(struct peer *peer)
{
    if (peer->fd < 0 && !peer->handle)
        return;
    if (peer->listening || peer->failed)
        return;
    if (!peer->connected)
        peer_step_connect(peer);
    if (!peer->connected)
        return;
    if (peer->send_left > 0 || peer->end_when_sent)
        peer_step_send(peer);
    // A failed write may have left bytes to read.
    if (peer->reading && !peer->ended)
        peer_step_read(peer);
}

void world_step(struct world *world, uint64_t wait_ns)
{
    uint64_t progress = world->progress, start = world_now(world);
    if (world->operations->peers_look)
        world->operations->peers_look(world);
    for (uint32_t i = world->peers_done; i < world->peers_count; i++) {
        if (!world->alone || world->alone == world->peers[i])
            peer_step(world->peers[i]);
    }
    if (world->loop)
        world->peers_ns += world_now(world) - start;
    world->operations->turn(world, world->progress == progress ? wait_ns : 0);
}

// --- Peers ---------------------------------------------------------------------------------------

static struct peer *peer_new(struct world *world)
{
    struct peer *peer = calloc(1, sizeof(*peer));
    if (world->peers_count == world->peers_room) {
        world->peers_room = world->peers_room ? world->peers_room * 2 : 64;
        world->peers = realloc(world->peers, world->peers_room * sizeof(struct peer *));
    }
    if (!peer || !world->peers)
        abort();
    peer->world = world;
    peer->fd = -1;
    peer->copy = peer->head;
    peer->copy_size = sizeof(peer->head);
    world->peers[world->peers_count++] = peer;
    return peer;
}

struct peer *peer_open(struct world *world, const struct weir_address *address,
                       const struct peer_options *options)
{
    static const struct peer_options defaults;
    struct peer *peer = peer_new(world);
    int result = world->operations->peer_connect(peer, address, options ? options : &defaults);
    if (result)
        fail_msg("a peer cannot connect: %s", strerror(-result));
    return peer;
}

struct peer *peer_pair(struct world *world, const struct weir_address *address,
                       const struct peer_options *options, struct subject **ret_subject)
{
    uint32_t index = world->subjects_count;
    struct peer *peer = peer_open(world, address, options);
    *ret_subject = world_subject(world, index);
    world_reaches(world, &peer->connected, 1);
    return peer;
}

struct peer *peer_listen(struct world *world, const char *address, int backlog,
                         struct weir_address *ret_address)
{
    struct peer *peer = peer_new(world);
    struct weir_address wanted = world_address(address);
    int result = world->operations->peer_listen(peer, &wanted, backlog, ret_address);
    if (result)
        fail_msg("%s: a peer cannot listen: %s", address, strerror(-result));
    peer->listening = true;
    return peer;
}

struct peer_accept_wait {
    struct peer *listener, *peer;
    int result;
};

static bool peer_accept_done(void *argument)
{
    struct peer_accept_wait *wait = argument;
    wait->result = peer_operations(wait->peer)->peer_accept(wait->listener, wait->peer);
    return wait->result != -EAGAIN;
}

struct peer *peer_accept(struct peer *listener)
{
    struct world *world = listener->world;
    struct peer_accept_wait wait = { .listener = listener, .peer = peer_new(world) };
    // It must not step before it has a connection.
    wait.peer->listening = true;
    if (!world_until(world, peer_accept_done, &wait, WORLD_PATIENCE) || wait.result)
        fail_msg("no connection comes to a listening peer: %s", strerror(-wait.result));
    wait.peer->listening = false;
    wait.peer->connected = 1;
    return wait.peer;
}

void peer_send(struct peer *peer, uint64_t pattern, uint64_t size)
{
    if (peer->send_pattern != pattern)
        peer->sent = 0;
    peer->send_pattern = pattern;
    peer->send_left += size;
}

void peer_expect(struct peer *peer, uint64_t pattern)
{
    peer->receive_pattern = pattern;
    peer->received = 0;
    peer->reading = true;
}

void peer_half_close(struct peer *peer)
{
    peer_operations(peer)->peer_half_close(peer);
    peer->half_closed = true;
    peer->world->progress++;
}

void peer_close(struct peer *peer)
{
    peer_operations(peer)->peer_close(peer, false);
    peer->world->progress++;
}

void peer_reset(struct peer *peer)
{
    peer_operations(peer)->peer_close(peer, true);
    peer->world->progress++;
}

void peer_write(struct peer *peer, const void *data, size_t size)
{
    peer->full = false;
    int64_t count = peer_operations(peer)->peer_write(peer, data, size);
    if (count != (int64_t)size)
        fail_msg("a peer wrote %lld of %zu bytes", (long long)count, size);
    peer->world->progress++;
}

// The time that counts against the side under test.
static uint64_t peer_clock(struct world *world)
{
    uint64_t waited = world->operations->waited(world);
    return world_now(world) - world->peers_ns - waited;
}

uint64_t peer_ping(struct peer *peer, size_t size)
{
    struct world *world = peer->world;
    // Beside loops on threads, the time that others' steps take would hide the answer's.
    if (!world->loop)
        world_step(world, 0);
    world->alone = world->loop ? NULL : peer;
    uint64_t start = peer_clock(world);
    uint64_t wanted = peer->received + size;
    if (!peer->reading)
        peer_expect(peer, 77);
    peer_send(peer, 77, size);
    world_reaches(world, &peer->received, wanted);
    uint64_t end = peer_clock(world);
    world->alone = NULL;
    return end > start ? end - start : 0;
}
