// How peers of an echo server misbehave.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "peers.h"

// Peers that so often sent nothing from one tick to the next, because nobody takes it, are stalled.
// A machine that stands still lets one tick pass, however long.
enum { STALLED_TICKS = 60 };

// --- flood: as fast as it goes, and reading all of it --------------------------------------------

static void flood_end_writes(struct peers *peers, struct peer *peer)
{
    peer->writes_ended = true;
    shutdown(peer->fd, SHUT_WR);
    peer_watch(peers, peer, EPOLLIN);
}

// They have said all, and want back every byte of it.
static void roles_end_writes(struct peers *peers)
{
    for (uint32_t i = 0; i < peers->count; i++) {
        if (peers->all[i].fd >= 0)
            flood_end_writes(peers, &peers->all[i]);
    }
}

// The server's end is right only after all that was promised came back.
static void flood_receive(struct peers *peers, struct peer *peer)
{
    bool ended;
    if (!peer_receive(peers, peer, &ended) || !ended)
        return;
    if (peer->writes_ended && peer->received == peer->sent)
        peer_finish(peers, peer);
    else
        peer_lose(peers, peer, 0);
}

static void flood_ready(struct peers *peers, struct peer *peer, uint32_t events)
{
    if (events & EPOLLOUT && !peer->writes_ended) {
        uint64_t left = peers->bytes ? peers->bytes - peer->sent : PEERS_PERIOD;
        if (!peer_send(peers, peer, left))
            return;
        if (peers->bytes && peer->sent == peers->bytes)
            flood_end_writes(peers, peer);
    }
    if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
        flood_receive(peers, peer);
}

const struct role role_flood = {
    .name = "flood",
    .events = EPOLLIN | EPOLLOUT,
    .ready = flood_ready,
};

// --- slow: a byte at a time, then a pause --------------------------------------------------------

// A byte whose echo did not come before the next one was due is late.
static void slow_send(struct peers *peers, struct peer *peer)
{
    if (peer->fd < 0)
        return;
    peers->late += peer->received < peer->sent;
    peer_send(peers, peer, 1);
}

// Peers take turns, so that their bytes are spread over the interval.
static void slow_tick(struct peers *peers, uint64_t now_ns)
{
    if (peers->ending)
        return;
    double rounds = (double)(now_ns - peers->begin_ns) / (double)peers->interval_ns;
    uint64_t due = (uint64_t)(rounds * peers->count);
    while (peers->turns < due)
        slow_send(peers, &peers->all[peers->turns++ % peers->count]);
}

// Who had no turn yet says its byte now, so that each is owed something.
static void slow_end(struct peers *peers)
{
    for (uint32_t i = 0; i < peers->count; i++) {
        if (peers->all[i].fd >= 0 && !peers->all[i].sent)
            peer_send(peers, &peers->all[i], 1);
    }
    roles_end_writes(peers);
}

static void slow_ready(struct peers *peers, struct peer *peer, uint32_t events)
{
    (void)events;
    flood_receive(peers, peer);
}

const struct role role_slow = {
    .name = "slow",
    .events = EPOLLIN,
    .ready = slow_ready,
    .tick = slow_tick,
    .end = slow_end,
};

// --- stall: sends what the server takes, and reads nothing until told to ------------------------

static void stall_tick(struct peers *peers, uint64_t now_ns)
{
    (void)now_ns;
    bool moved = peers->moves != peers->moves_seen;
    peers->quiet_ticks = moved ? 0 : peers->quiet_ticks + 1;
    peers->moves_seen = peers->moves;
    if (peers->stalled || peers->ending || !peers->sent || peers->quiet_ticks < STALLED_TICKS)
        return;
    peers->stalled = true;
    printf("stalled %llu\n", (unsigned long long)peers->sent);
}

static void stall_ready(struct peers *peers, struct peer *peer, uint32_t events)
{
    if (events & (EPOLLERR | EPOLLHUP) && !peer->writes_ended)
        peer_lose(peers, peer, events & EPOLLERR ? ECONNRESET : 0);
    else if (peer->writes_ended)
        flood_receive(peers, peer);
    else if (!peers->stalled)
        peer_send(peers, peer, PEERS_PERIOD);
    else
        peer_watch(peers, peer, EPOLLRDHUP); // a little room came late; it is not worth a loop
}

const struct role role_stall = {
    .name = "stall",
    .events = EPOLLOUT,
    .ready = stall_ready,
    .tick = stall_tick,
    .end = roles_end_writes, // from now on they read
};

// --- reset: connects and is gone, at every point of a conversation -------------------------------

enum reset_fate {
    RESET_AT_ONCE,
    RESET_AFTER_SENDING,
    RESET_WHEN_ANSWERED,
    RESET_IN_A_FLOOD,
    RESET_AFTER_ITS_END,
    RESET_FATES
};

static void reset_opened(struct peers *peers, struct peer *peer)
{
    peer->fate = (peer->fate + 1) % RESET_FATES;
    bool there = true;
    if (peer->fate != RESET_AT_ONCE)
        there = peer_send(peers, peer, peer->fate == RESET_IN_A_FLOOD ? PEERS_PERIOD : 100);
    if (there && peer->fate == RESET_AFTER_ITS_END)
        shutdown(peer->fd, SHUT_WR);
    if (!there || peer->fate == RESET_WHEN_ANSWERED || peer->fate == RESET_IN_A_FLOOD)
        return;
    peer_restart(peers, peer);
}

static void reset_ready(struct peers *peers, struct peer *peer, uint32_t events)
{
    bool ended;
    (void)events;
    if (peer_receive(peers, peer, &ended))
        peer_restart(peers, peer);
}

const struct role role_reset = {
    .name = "reset",
    .events = EPOLLIN,
    .opened = reset_opened,
    .ready = reset_ready,
};
