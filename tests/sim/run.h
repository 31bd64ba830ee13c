// One simulated run: a loop with a protocol on the simulated kernel, clients with scripts from the
// seed, and what must hold afterwards.
#ifndef SIM_RUN_H
#define SIM_RUN_H

#include <core/engines/sim/sim.h>

enum { RUN_CLIENTS_MAX = 16, RUN_STREAMS_MAX = 64, RUN_TEXT = 256 };
enum { CLIENT_PIECE = 65536, CLIENT_SIZE_BITS = 17 };

// How a client ends.
enum client_end {
    CLIENT_ENDS,     // half-closes after its last byte and reads until the end
    CLIENT_CLOSES,   // closes at some byte
    CLIENT_RESETS,   // the same with a reset
    CLIENT_VANISHES, // the same without a word
};

struct run;

// A protocol that runs on the simulator.
struct run_protocol {
    const char *name;
    const struct weir_protocol *protocol; // its context is the run
    bool files;                           // answers from a file, so that all clients send the same
};

struct client {
    struct run *run;
    struct sim_socket *socket; // NULL: not yet, or over
    enum client_end end;
    uint32_t index;
    uint64_t size, sent, received; // bytes
    uint64_t ends_after;           // bytes either way, of those that do not end in order
    size_t write_max, read_max;    // per step
    uint64_t step_max_ns;
    uint64_t stall_ns; // doubles while it gets nowhere
    bool half_closed, done, ended;
    int error;
    bool altered; // a byte that came back is not the one that was sent
};

// What is known of a stream of the loop; it outlives it.
struct run_stream {
    uint32_t opened, closed;
    bool late; // a callback came after closed
    int reason;
};

struct run {
    const struct run_protocol *protocol;
    uint64_t seed;
    struct sim *sim;
    struct weir_loop *loop;
    struct weir_listener *listener;
    struct weir_address address;
    struct sim_faults faults;
    const char *plan;
    bool half_closes; // the protocol answers an end with its own and leaves the rest to the core
    bool pauses;      // the protocol pauses now and then
    bool short_of_memory; // an allocation failed
    bool quits;           // the protocol closes streams by itself
    bool answered;        // the kernel gives an odd answer
    bool breaks, broken;  // the ring will break, and has
    bool destroyed;       // the loop is destroyed with clients on it
    struct client clients[RUN_CLIENTS_MAX];
    uint32_t clients_count, clients_done;
    struct run_stream streams[RUN_STREAMS_MAX];
    uint32_t streams_count;
    uint64_t turns, hash;
    struct weir_post knock; // of another thread
    bool knocking;
    uint64_t knocks;
    struct weir_post over; // wakes the loop when the last client is done
    struct weir_stats stats;
    struct sim_counts counts; // at the end
    char complaint[RUN_TEXT]; // the first thing that did not hold; empty: all did
};

// The whole run. `trace` may be NULL. Returns whether all held.
bool run_seed(struct run *run, const struct run_protocol *protocol, uint64_t seed, FILE *trace);
// The same with decisions from these bytes: the first one is the seed, which chooses the faults.
bool run_decided(struct run *run, const struct run_protocol *protocol, const uint8_t *data,
                 size_t size);
// The same with one odd answer of the kernel, which may cost connections.
bool run_seed_answering(struct run *run, const struct run_protocol *protocol, uint64_t seed,
                        const struct sim_answer *answer);
const struct run_protocol *run_protocol_find(const char *name); // NULL: there is none
void run_complain(struct run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));
// A line on how the run was set up.
void run_describe(const struct run *run, FILE *file);

// client.c
void client_start(struct client *client, struct run *run, uint32_t index);
void client_stop(struct client *client); // wherever it is
// What a client sends at an offset: at least CLIENT_PIECE bytes.
const char *client_bytes(const struct client *client, uint64_t offset);

// echo.c: the protocol, which records what it is told; and the same with a file for an answer.
extern const struct run_protocol run_echo, run_file;

#endif
