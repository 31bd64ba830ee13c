// One simulated run: a loop with a protocol on the simulated kernel, clients with scripts from the
// seed, and what must hold afterwards.
#ifndef SIM_RUN_H
#define SIM_RUN_H

#include "client.h"

// A crowd is for the few runs in which more completes at once than a turn takes.
enum { RUN_CLIENTS_MAX = 16, RUN_CROWD = 48, RUN_STREAMS_MAX = 64, RUN_TEXT = 256 };

// A protocol that runs on the simulator.
struct run_protocol {
    const char *name;
    uint32_t clients_max;
    bool files;  // it works with files
    bool names;  // and opens them by their names
    bool crowds; // some of its runs have a crowd
    bool bulk;   // of some of its streams much is expected
    // Prepares what its streams share: sets run->served and run->context, and may change the
    // loop's limits. -errno; an error is fine where memory is short.
    int (*open)(struct run *run, struct weir_loop_config *config);
    // Draws a client's script and how it moves.
    void (*draw)(struct client *client);
    // What must hold of a client when all is over.
    void (*check_client)(struct run *run, struct client *client);
    // The rest: what the files must be. May be NULL.
    void (*check)(struct run *run);
    // How many time-outs of its own the protocol has counted, each of which ends a stream. NULL: it
    // has none, or whom they met is not known.
    uint64_t (*timeouts)(void);
    // Frees what open() made, after the loop. May be NULL.
    void (*close)(struct run *run);
};

// What is known of a stream of the loop; it outlives it.
struct run_stream {
    struct weir_stream *stream; // NULL: closed
    struct client *client;      // whose it is; NULL: a helper's
    uint32_t opened, closed;
    bool late; // a callback came after closed
    int reason;
    uint32_t slot;
    uint64_t token;      // of an operation of it; closed ones may complete again
    bool again;          // it will
    uint64_t expired_ns; // when it was told so
};

struct run {
    const struct run_protocol *protocol;
    uint64_t seed;
    struct sim *sim;
    struct weir_loop *loop;
    struct weir_listener *listener;
    struct weir_address address;
    const struct weir_protocol *served; // of the listener's streams
    void *context;
    bool ordinary;             // it needs ordinary descriptors
    uint32_t held_descriptors; // that the protocol keeps open
    struct sim_faults faults;
    const char *plan;
    const uint8_t *raw; // what the one client sends, see raw.h; or NULL
    size_t raw_size;
    bool lacks_memory;      // an allocation will fail
    bool short_of_memory;   // and has
    bool lacks_descriptors; // there are few
    bool quits;             // the protocol closes streams by itself
    bool answered;          // the kernel gives an odd answer
    bool breaks, broken;    // the ring will break, and has
    bool destroyed;         // the loop is destroyed with clients on it
    bool drains, drained;   // the server ends while clients are there, and has begun to
    bool ages;              // streams have a total time
    bool crowded;           // more completes at once than a turn takes
    bool repeats;           // operations of streams that are gone complete again
    uint64_t repeated;      // how often one did
    uint64_t timeouts;      // of the protocol's own; whom they met is excused
    struct client clients[RUN_CROWD];
    uint32_t clients_count, clients_done;
    struct run_stream streams[RUN_STREAMS_MAX];
    uint32_t streams_count;
    uint64_t turns, full_turns, hash; // full: more may have been there to reap
    struct weir_post knock;           // of another thread
    bool knocking;
    uint64_t knocks;
    struct weir_post over;  // wakes the loop when the last client is done
    struct weir_post drain; // asks for the end
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
// Whether connections may be lost in this run through nobody's fault; and whether this client's.
bool run_may_lose(const struct run *run);
bool run_may_lose_client(const struct run *run, const struct client *client);
// A line on how the run was set up.
void run_describe(const struct run *run, FILE *file);

// record.c: a protocol with a record of what it is told; all that it does is its own.
const struct weir_protocol *record_protocol(struct run *run, const struct weir_protocol *protocol);

// The protocols: echo.c (and the same with a file for an answer), http.c, ftp.c.
extern const struct run_protocol run_echo, run_file, run_http, run_ftp;

#endif
