// Hostile peers: one thread, one epoll, thousands of sockets. A role says how each of them behaves.
#ifndef PEERS_H
#define PEERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <weir.h>

// What a peer sends is this many bytes of noise, over and over; each peer starts elsewhere in it.
enum { PEERS_PERIOD = 65536, PEERS_RESTS = 8 };

struct peer {
    int fd; // -1: not connected
    bool connecting;
    bool writes_ended;
    bool send_reset; // a send of its was told of a reset; no receive will be, after that
    uint32_t index;
    uint32_t fate;     // reset: which end it comes to
    uint64_t sent;     // bytes; http: requests
    uint64_t received; // bytes; http: whole answers
    // Where the last rests ended: the first byte that was sent after each. The oldest is replaced.
    uint64_t rests[PEERS_RESTS];
    uint32_t rests_count;
    uint64_t sent_ns; // when it sent last; 0: not yet
    struct http_answer *answer;
};

struct peers {
    // Options.
    struct weir_address address;
    const struct role *role;
    uint32_t count;
    double seconds;       // 0: until standard input ends
    uint64_t bytes;       // flood: what each sends before its end; 0: without end
    uint64_t interval_ns; // slow: between two bytes of a peer
    int buffer;           // of the sockets in the kernel; 0: as it likes
    uint32_t depth;       // http: requests in flight of a peer
    const char *expect;   // http: the file whose bytes an answer must have

    struct peer *all;
    int epoll_fd;
    uint32_t next; // the first peer that has not been connected yet
    uint32_t connecting, open;
    bool ready, served, ending; // all were connected; all heard of the server; the end was asked
    uint64_t begin_ns, end_ns;  // of ready; of ending
    uint64_t moves;             // sends that took something
    uint64_t moves_seen;        // stall: of those, at the last tick
    uint32_t quiet_ticks;       // stall: since then
    bool stalled;
    uint64_t turns; // slow: bytes that were due so far
    char noise[2 * PEERS_PERIOD];
    char *expected;
    size_t expected_size;

    // What is reported.
    uint64_t opened, refused, finished, lost, wrong, late, partial, unanswered, not_ok;
    uint64_t reset, send_reset; // lost by a reset; those of them that a send was told of
    uint64_t sent, received;
    uint64_t rested;            // of the lost: who lost nothing but what it sent after a rest
    uint64_t unanswered_rested; // of the unanswered: what was asked after a rest
};

struct role {
    const char *name;
    uint32_t events; // that are waited for
    void (*opened)(struct peers *peers, struct peer *peer);
    void (*ready)(struct peers *peers, struct peer *peer, uint32_t events);
    void (*tick)(struct peers *peers, uint64_t now_ns); // every 5 ms; may be NULL
    void (*end)(struct peers *peers);                   // asked to end; NULL: ends at once
};

extern const struct role role_slow, role_flood, role_stall, role_reset, role_http;

// Whether this is how the kernel tells of a reset: EPIPE where the server's end came before it.
bool peer_is_reset(int error);

// Closes the peer's socket and counts it as finished, or as lost. `error` 0: the server ended it.
void peer_finish(struct peers *peers, struct peer *peer);
void peer_lose(struct peers *peers, struct peer *peer, int error);

// Closes the peer's socket with a reset and connects it anew.
void peer_restart(struct peers *peers, struct peer *peer);

// Waits for these events from now on.
void peer_watch(struct peers *peers, const struct peer *peer, uint32_t events);

// Where the peer's byte number `at` lies; at least PEERS_PERIOD bytes follow.
const char *peer_noise(const struct peers *peers, const struct peer *peer, uint64_t at);

// Notes a send that began then and took something; peer->sent does not count it yet.
void peer_sends(struct peers *peers, struct peer *peer, uint64_t began_ns);

// Sends of the noise what the socket takes, at most `size`. False when the peer was lost.
bool peer_send(struct peers *peers, struct peer *peer, uint64_t size);

// Whether nothing is missing but what it sent after a rest, or nothing at all.
bool peer_lost_after_rest(const struct peer *peer);

// Receives what there is, a bounded amount, and compares it. False when the peer was lost; the
// server's end is told by *ret_ended.
bool peer_receive(struct peers *peers, struct peer *peer, bool *ret_ended);

#endif
