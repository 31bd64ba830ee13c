// The contract tests' world: a loop under test, and the other side of its connections.
//
// A test is one function over `struct world`; it never sees a descriptor, a thread or a clock of
// the machine. What stands under it is a table of operations: a loop that the test drives turn by
// turn over the kernel's sockets (world_sockets.c), loops on threads of their own
// (world_threads.c), or a simulated kernel with virtual time (world_sim.c). The loop's side is told
// by *subjects*, one for each stream: all that its callbacks were told is recorded there. The other
// side is *peers*: non-blocking connections that send and check a pattern while the test waits for
// a condition.
//
// A test holds the world's lock all the time but inside of a wait, and callbacks hold it while they
// run. So whatever the topology, tests and callbacks share memory without further care. Callbacks
// must not assert: they record, and the test asserts.
#ifndef CONTRACT_WORLD_H
#define CONTRACT_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <weir.h>

#define MILLISECOND 1000000ull
#define SECOND (1000 * MILLISECOND)

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define WORLD_SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define WORLD_SANITIZED 1
#endif

// Sanitizers slow everything down: bounds on how late something may be are stretched by this.
#ifdef WORLD_SANITIZED
enum { WORLD_SLOWNESS = 4 };
#else
enum { WORLD_SLOWNESS = 1 };
#endif

// Whatever must happen happens within this, or the test fails. Some tests have times of 60 s that
// must not pass.
#define WORLD_PATIENCE (WORLD_SLOWNESS > 1 ? 40 * SECOND : 30 * SECOND)
// What a machine that runs others may do to a thread once, it does not do to each of these.
enum { WORLD_TRIES = 5 };

struct peer;
struct subject;
struct world;

// --- Variants and tests --------------------------------------------------------------------------

// An engine with its features, on one kind of world.
struct variant {
    const char *name;
    enum weir_engine engine;
    const char *features; // NULL: the default
    const struct world_operations *world;
    uint64_t resolution_ns; // of what comes from outside of a stream: timers, posts
};

// What a test cannot do without. A variant that lacks it skips the test and says so.
struct needs {
    bool
        one_loop; // several streams, or a listener with its own rules, in a loop that turns by hand
    bool kernel;  // real sockets, descriptors and files: limits of the process, /proc, mounts
    bool threads; // the test calls from other threads
    bool server;  // struct weir_server is the subject: loops on threads, with every engine
};

struct contract_test {
    const char *name;
    void (*run)(struct world *world);
    struct needs needs;
    uint32_t limit_s; // 0: 120 s; sanitizers stretch it
};

// Ended by a row without a name.
extern const struct contract_test transfer_tests[], flow_tests[], close_tests[], reset_tests[],
    hostage_tests[], churn_tests[], limits_tests[], connect_tests[], timer_post_tests[],
    file_tests[], send_file_tests[], bulk_tests[], server_tests[], script_tests[], total_tests[];

extern const struct variant variants[]; // ended by a row without a name
// Finds a variant by its name; "uring:default,-NAME" works for every feature's name.
bool variant_find(const char *name, struct variant *ret_variant);

// --- The loop's side -----------------------------------------------------------------------------

// What a test does in its streams' callbacks, beside the recording. Any of them may be NULL.
struct service {
    void (*opened)(struct subject *subject);
    void (*received)(struct subject *subject, struct weir_slice slice); // NULL: bytes are dropped
    void (*drained)(struct subject *subject);
    void (*ended)(struct subject *subject);    // NULL: weir_stream_close
    void (*draining)(struct subject *subject); // NULL: the protocol has no such callback
    void (*expired)(struct subject *subject);  // NULL: neither
    void (*closed)(struct subject *subject);
    uint64_t pattern; // what must be received, see pattern_matches; 0: unchecked
    void *context;    // the test's
    struct world *world;
};

// The record of one stream; it outlives it.
struct subject {
    struct world *world;
    struct service *service;
    struct weir_stream *stream; // NULL after `closed`
    uint32_t index;             // in the order of their first callback
    // How often each was called.
    uint32_t opened, drained, ended, draining, expired, closed;
    uint64_t received; // bytes
    uint64_t slices;
    uint64_t mismatches; // slices that were not what the pattern says
    int reason;          // what `closed` was told
    uint64_t opened_ns, drained_ns, closed_ns;
    uint64_t number; // the test's
    void *pointer;   // the test's
};

// A copy of the service with the world's life time.
struct service *world_service(struct world *world, const struct service *service);
// A protocol over a service; the stream's context must be the service.
const struct weir_protocol *service_protocol(const struct service *service);

// Sends back all that comes, without copying; closes after the peer's end. The commonest subject.
struct service *world_echo(struct world *world);
void echo_received(struct subject *subject, struct weir_slice slice);

// --- The world -----------------------------------------------------------------------------------

struct peer_options {
    int send_buffer, receive_buffer; // 0: the kernel's choice
    const char *local;               // bind to this address first
};

struct world_operations {
    const char *name;
    bool simulated;
    // Makes what world->config and world->server ask for. 0 or -errno.
    int (*open)(struct world *world);
    // Ends all loops; every stream is told.
    void (*close)(struct world *world);
    // Frees what outlives the loops; may be NULL.
    void (*destroy)(struct world *world);
    uint64_t (*now)(struct world *world);
    // Lets the loops work: until something happened, or for wait_ns.
    void (*turn)(struct world *world, uint64_t wait_ns);
    int (*listen)(struct world *world, const struct weir_address *address,
                  const struct weir_listener_config *config, struct weir_address *ret_address);
    // Runs the function on the loop of a stream, or on the loop for everything else (NULL), outside
    // of callbacks, and returns afterwards. False: the stream's loop ended before.
    bool (*call)(struct world *world, struct subject *subject,
                 void (*function)(struct weir_loop *loop, void *argument), void *argument);
    void (*stats)(struct world *world, struct weir_stats *ret_stats);
    // Descriptors of this process, for the count of leaks.
    uint32_t (*descriptors)(struct world *world);
    // How long threads of this process were ready to run and the machine ran others: this one, and
    // those of the loops.
    uint64_t (*waited)(struct world *world);

    // Before each step of the peers: which may go on. NULL: each tries.
    void (*peers_look)(struct world *world);
    // The other side. Results are counts or -errno, -EAGAIN when it would wait.
    int (*peer_connect)(struct peer *peer, const struct weir_address *address,
                        const struct peer_options *options);
    int (*peer_connected)(struct peer *peer); // -EINPROGRESS, 0, or why it failed
    int64_t (*peer_write)(struct peer *peer, const void *data, size_t size);
    int64_t (*peer_read)(struct peer *peer, void *data, size_t size);
    void (*peer_half_close)(struct peer *peer);
    void (*peer_close)(struct peer *peer, bool reset);
    // A listening peer, for outbound streams. backlog < 0: bound, but not listening.
    int (*peer_listen)(struct peer *peer, const struct weir_address *address, int backlog,
                       struct weir_address *ret_address);
    int (*peer_accept)(struct peer *listener, struct peer *peer);
};

extern const struct world_operations world_sockets, world_threads, world_sim;

struct world {
    const struct variant *variant;
    const struct world_operations *operations;
    const struct contract_test *test;
    struct weir_server_config server; // its loop's config is for a world without a server, too
    struct weir_loop_config *config;  // of the server config
    bool opened, closed;
    struct weir_loop *loop; // driven by hand; NULL where loops run on threads
    void *state;            // of the operations
    uint32_t descriptors_before;
    struct subject **subjects;
    uint32_t subjects_count, subjects_room, subjects_closed;
    struct peer **peers;
    uint32_t peers_count, peers_room;
    uint32_t peers_done; // the first ones are over and need no more steps
    struct service **services;
    uint32_t services_count;
    struct peer *alone;                // if set, no other peer steps
    uint64_t progress;                 // grows with everything that peers do
    uint64_t peers_ns;                 // what the peers' steps took while no loop could run
    char complaint[256];               // of a callback; the next wait fails with it
    void (*lock)(struct world *world); // taken by callbacks
    void (*unlock)(struct world *world);
};

struct world *world_create(const struct variant *variant, const struct contract_test *test);
// Ends everything and asserts what holds for all tests: each subject was closed once, and no
// descriptor, buffer or queued byte is left.
void world_close(struct world *world);
void world_destroy(struct world *world);
// Destroys the loops with all that is open; a test of that looks at its subjects afterwards.
void world_end_loops(struct world *world);
// Of a world of threads.
struct weir_server *world_server(struct world *world);
// Ends the test as skipped.
_Noreturn void world_skip(struct world *world, const char *reason);
// For callbacks: fails the test at its next wait.
void world_complain(struct world *world, const char *text);

uint64_t world_now(struct world *world);
// How late something may be that is to be no later than late_ns: a machine may keep any thread from
// its processor for seconds, a simulation does not.
uint64_t world_late(const struct world *world, uint64_t late_ns);
// Lets time pass until the condition holds; false when limit_ns went by before.
bool world_until(struct world *world, bool (*condition)(void *argument), void *argument,
                 uint64_t limit_ns);
// Lets time pass.
void world_run(struct world *world, uint64_t duration_ns);
// Lets time pass until neither peers nor queues have moved for a while: all that can stall has.
void world_run_until_still(struct world *world);
// Waits until a counter reaches `least`, WORLD_PATIENCE at most; the test fails otherwise.
#define world_reaches(world, counter, least) \
    world_reaches_at((world), (counter), sizeof(*(counter)), (least), #counter, __FILE__, __LINE__)
void world_reaches_at(struct world *world, const void *counter, size_t width, uint64_t least,
                      const char *name, const char *file, int line);
// Steps once: all peers, then the loops.
void world_step(struct world *world, uint64_t wait_ns);

// Listens with a service; the defaults are 127.0.0.1, port 0 and no options.
struct weir_address world_listen(struct world *world, struct service *service);
struct weir_address world_listen_with(struct world *world, const char *address,
                                      struct weir_listener_config config);
// The subject with this index, as soon as its stream has opened.
struct subject *world_subject(struct world *world, uint32_t index);
// On the stream's loop, or on the loop for everything else (subject NULL).
bool world_call(struct world *world, struct subject *subject,
                void (*function)(struct weir_loop *loop, void *argument), void *argument);
// The same with the stream; nothing happens if it is closed already.
void world_with(struct subject *subject, void (*verb)(struct weir_stream *stream, void *argument),
                void *argument);
struct weir_stats world_stats(struct world *world);
// Parses an address that the test wrote.
struct weir_address world_address(const char *text);
// A new subject for an outbound stream; weir_stream_connect gets its service as context.
struct subject *world_connect(struct world *world, const struct weir_address *to,
                              struct service *service, struct weir_connect_config config,
                              int *ret_result);

// --- Peers ---------------------------------------------------------------------------------------

struct peer {
    struct world *world;
    int fd;           // of world_sockets; -1: closed
    bool full, empty; // of world_sockets: writing, or reading, would be in vain
    void *handle;     // of a simulation
    // What the steps do by themselves.
    uint64_t send_pattern, sent, send_left; // sends the pattern from `sent` on
    size_t send_piece;                      // bytes per write, at most; 0: 256 KiB
    size_t send_step;                       // bytes per step, about; 0: 1 MiB
    bool end_when_sent;                     // then half-closes
    bool reading;                           // reads all that comes
    size_t read_piece;                      // bytes per step, at most; 0: 1 MiB
    uint64_t receive_pattern;               // what must come; 0: unchecked
    uint64_t received;
    // What has happened.
    uint64_t mismatches;
    uint32_t connected, ended, failed; // 0 or 1, to wait for
    int error;                         // why it failed: -ECONNRESET ...
    bool half_closed, listening;
    char head[64]; // the first bytes received
    char *copy;    // or all of them, where a test wants more than a pattern
    size_t copy_size;
};

// A file in memory that holds the pattern.
int world_file(uint64_t pattern, uint64_t size);

// A connection to the address. It connects, sends and reads while the test waits.
struct peer *peer_open(struct world *world, const struct weir_address *address,
                       const struct peer_options *options);
// Connects and waits for the stream at the other end.
struct peer *peer_pair(struct world *world, const struct weir_address *address,
                       const struct peer_options *options, struct subject **ret_subject);
struct peer *peer_listen(struct world *world, const char *address, int backlog,
                         struct weir_address *ret_address);
// The next connection of a listening peer.
struct peer *peer_accept(struct peer *listener);
void peer_send(struct peer *peer, uint64_t pattern, uint64_t size);
// Checks what comes from here on against the pattern, from its first byte.
void peer_expect(struct peer *peer, uint64_t pattern);
void peer_half_close(struct peer *peer);
void peer_close(struct peer *peer);
void peer_reset(struct peer *peer);
// Writes at once, whatever the peer sends otherwise; the bytes must fit.
void peer_write(struct peer *peer, const void *data, size_t size);
// Sends `size` pattern bytes and waits until they have come back. Returns the time that took,
// without what a world in lockstep spent on its peers meanwhile, and without what a busy machine
// took.
uint64_t peer_ping(struct peer *peer, size_t size);

// --- Patterns ------------------------------------------------------------------------------------

// Endless bytes without a period that a buffer's size could hide; each number names another.
enum { PATTERN_SPAN_MAX = 1 << 20 };
// At most PATTERN_SPAN_MAX bytes from there on are valid.
const char *pattern_at(uint64_t pattern, uint64_t offset);
bool pattern_matches(uint64_t pattern, uint64_t offset, const void *data, size_t size);
// A small generator for tests that want many cases: the same numbers in every run.
uint32_t pattern_random(uint64_t *state, uint32_t below);

#endif
