// A client of a simulated run: it connects, writes and reads pieces of any size at any time, and
// ends in one of several ways. What it says and what it makes of the answers is its role's.
#ifndef SIM_CLIENT_H
#define SIM_CLIENT_H

#include <core/engines/sim/sim.h>

enum { CLIENT_PIECE = 65536 };

// How a client ends.
enum client_end {
    CLIENT_ENDS,     // half-closes after its last byte and reads until the end
    CLIENT_CLOSES,   // closes at some byte
    CLIENT_RESETS,   // the same with a reset
    CLIENT_VANISHES, // the same without a word
};

struct run;
struct client;

struct client_role {
    // The bytes that it has to send now, and how many; none while it waits for an answer.
    const char *(*output)(struct client *client, size_t *ret_size);
    // Whether there will be none any more.
    bool (*sent_all)(const struct client *client);
    void (*input)(struct client *client, const char *data, size_t size);
    // It is over, in whatever way; may be NULL.
    void (*over)(struct client *client);
};

struct client {
    struct run *run;
    const struct client_role *role;
    void *script; // the role's
    struct weir_address address;
    struct sim_socket *socket; // NULL: not yet, or over
    enum client_end end;
    uint32_t index;
    uint64_t sent, received;
    uint64_t ends_after;        // bytes either way, of those that do not end in order
    size_t write_max, read_max; // per step
    uint64_t step_max_ns;
    uint64_t stall_ns; // doubles while it gets nowhere
    bool helper;       // another client's: the run does not wait for it
    bool half_closed, done, ended;
    int error;
    // What the server's side says of the connection, see record.c.
    uint64_t taken; // bytes that its protocol was given
    bool served;    // its stream is over, and was closed in order
    bool excused;   // it may lose bytes: of a time-out of its stream, or the server's end
};

// The client that the peer's address is of; NULL: it is a helper's, or none's.
struct client *client_of(struct run *run, const struct weir_address *peer);

// Draws how it moves; `volume` is about how many bytes it will move. The rest is set already.
void client_draw(struct client *client, uint64_t volume);
// It calls its address after the delay.
void client_start(struct client *client, uint64_t delay_ns);
void client_stop(struct client *client); // wherever it is; does nothing twice
// It ends now, in its way.
void client_end_now(struct client *client);

uint64_t client_random(const struct client *client, uint64_t below);
// Sizes of every scale below 2^bits are equally likely.
uint64_t client_scaled(const struct client *client, uint64_t bits);
// Bytes that stand for a stream of their own for each key: at least CLIENT_PIECE from the offset.
const char *client_pattern(uint64_t key, uint64_t offset);

#endif
