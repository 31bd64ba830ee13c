// weir.h: byte streams over io_uring, epoll or blocking I/O.
//
// The model. A *loop* belongs to one thread. It owns *streams* (connections) and *listeners*; an
// *engine* moves their bytes. A *protocol* is a table of callbacks with a session size; it never
// learns which engine runs it. Callbacks run only inside weir_loop_turn(), on the loop's thread,
// one at a time. Functions called "verbs" below (send, close, pause ...) only queue: they never
// block, never call back, and what they queued is submitted as one batch by the next turn.
//
// Errors are negative errno values; 0 or a count is success. Unless its comment says "any thread",
// a function may be called only on the loop's own thread (or before its first turn).
// Sizes are bytes, times are nanoseconds of CLOCK_MONOTONIC. Kernel: Linux 6.1 or newer for
// io_uring; epoll and blocking run on any supported kernel.
#ifndef WEIR_H
#define WEIR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/un.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WEIR_VERSION "0.1.0"
#define WEIR_PUBLIC __attribute__((visibility("default")))
#define WEIR_NEVER UINT64_MAX

struct weir_loop;
struct weir_stream;
struct weir_listener;
struct weir_file;
struct weir_lease;
struct weir_server;

// --- Addresses -----------------------------------------------------------------------------------

// A numeric TCP address over IPv4 or IPv6, or a unix socket's path.
struct weir_address {
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    };
    socklen_t size;
};

// The longest printed address with its final zero: "unix:" and a path.
#define WEIR_ADDRESS_TEXT_SIZE 128

// Reads "127.0.0.1:80", "[::1]:80", "[fe80::1%2]:80" or "unix:/path". Names are not resolved:
// -EINVAL, also for a port above 65535; -ENAMETOOLONG for a path above 107 bytes. Any thread.
WEIR_PUBLIC int weir_address_parse(const char *text, struct weir_address *ret_address);

// Writes the address in the form that weir_address_parse reads. Any thread.
WEIR_PUBLIC void weir_address_print(const struct weir_address *address,
                                    char ret_text[WEIR_ADDRESS_TEXT_SIZE]);

// Whether both name the same host: the port does not count, ::ffff:a.b.c.d equals a.b.c.d, and all
// unix addresses are one host. Any thread.
WEIR_PUBLIC bool weir_address_same_host(const struct weir_address *a, const struct weir_address *b);

// --- Protocols -----------------------------------------------------------------------------------

// Received bytes. They are valid until the callback returns; weir_stream_send_slice() and
// weir_slice_hold() keep them longer without a copy where that harms nobody. `data` and `size` may
// be narrowed to a part of the slice before either call.
struct weir_slice {
    const char *data;
    size_t size;
    struct weir_lease *lease; // private: the counted memory behind `data`, or NULL
};

// What a protocol is told about its streams. Any callback may be NULL, with the default named.
// The session (session_size bytes, zeroed, aligned to 16) lives exactly as long as the stream.
struct weir_protocol {
    const char *name;
    size_t session_size;
    bool ageless; // weir_loop_config.total_timeout_ns is not for its streams
    // Connected. Default: nothing.
    void (*opened)(struct weir_stream *stream);
    // Bytes came. What the callback neither copies, sends nor holds is gone when it returns.
    // Default: bytes are dropped.
    void (*received)(struct weir_stream *stream, struct weir_slice slice);
    // The send queue was above the high mark and has fallen to the low mark. Default: nothing.
    void (*drained)(struct weir_stream *stream);
    // The peer sent its end (half-close); the stream can still send. Default: weir_stream_close().
    void (*ended)(struct weir_stream *stream);
    // The server drains: finish what is accepted, then close. Default: the stream is served on
    // until it was quiet for weir_server_config.drain_quiet_ns from then on, owes its peer nothing,
    // and nothing of it waits in the socket; then it is closed.
    void (*draining)(struct weir_stream *stream);
    // The stream is as old as weir_loop_config.total_timeout_ns: begin nothing new, finish what is
    // accepted, then close. Default: weir_stream_close().
    void (*expired)(struct weir_stream *stream);
    // Once, last, and after every operation of this stream is done; the record is freed afterwards.
    // 0: closed in order. Otherwise -ECONNRESET, -EPIPE, -ETIMEDOUT (idle, or no progress after
    // close), -ETIME (open too long after `expired`), -ECANCELED (weir_stream_abort, end of the
    // loop), -ENOMEM (a bound was reached), or why connect failed; -EIO: a file that was being sent
    // is shorter than its range.
    void (*closed)(struct weir_stream *stream, int reason);
};

// --- Loops ---------------------------------------------------------------------------------------

enum weir_engine {
    WEIR_ENGINE_AUTO, // uring where it works and has room, otherwise epoll with one log line
    WEIR_ENGINE_URING,
    WEIR_ENGINE_EPOLL,
    WEIR_ENGINE_BLOCKING,
};

enum weir_log_level { WEIR_LOG_ERROR, WEIR_LOG_WARNING, WEIR_LOG_INFO, WEIR_LOG_DEBUG };

// Called on the thread that met the event; `text` is one line without its end.
typedef void weir_log_function(void *context, enum weir_log_level level, const char *text);

// What a loop that is confined may still do. Receiving, sending, closing and resetting it may
// always.
enum weir_ability {
    WEIR_ABILITY_ACCEPT = 1 << 0,  // accept on listeners
    WEIR_ABILITY_LISTEN = 1 << 1,  // weir_listener_open() after the first turn
    WEIR_ABILITY_CONNECT = 1 << 2, // weir_stream_connect()
    WEIR_ABILITY_END = 1 << 3,     // weir_stream_end(), weir_stream_linger()
    WEIR_ABILITY_OPEN = 1 << 4,    // weir_file_open()
    WEIR_ABILITY_READ = 1 << 5,    // weir_file_read(), weir_stream_send_file()
    WEIR_ABILITY_WRITE = 1 << 6,   // weir_file_write(), weir_stream_receive_file()
    WEIR_ABILITY_JOBS = 1 << 7,    // weir_job_start()
};

// Who asks to be confined.
enum weir_thread { WEIR_THREAD_LOOP, WEIR_THREAD_JOB };

struct weir_loop_config {
    enum weir_engine engine;
    const char *uring_features; // "default", "default,-NAME", "kernel-6.1", "-6.8", "-6.12"
    uint32_t streams_max;       // connections of this loop, 1 to 1,000,000
    uint32_t buffer_count;      // receive buffers, a power of two from 8 to 32,768
    uint32_t buffer_size;       // bytes of each, 4 to 64 KiB, a multiple of 4 KiB
    size_t send_high;           // a stream's queue above this (at most 1 GiB) stops its credit
    size_t send_low;            // and at or below this returns it
    size_t queued_max;          // memory of all queues; each stream may use 1/64 of what is left,
                                // and 16 KiB at least
    uint64_t idle_timeout_ns;   // no byte either way for this long closes a stream; 0: never
    uint64_t close_timeout_ns;  // no progress for this long after close aborts; 0: never
    uint64_t total_timeout_ns;  // a stream this old is told `expired`, and one twice this old is
                                // aborted, whatever it does; 0: never
    uint64_t busy_poll_ns;      // look for work this long before sleeping; 0: sleep at once
    // The same while it pays: as long as all that comes is of one or two streams, and comes within
    // this time. Not beside busy_poll_ns or min_wait_ns, and not with blocking. 0: never.
    uint64_t adaptive_poll_ns;
    // uring, Linux 6.12: a loop that was just busy sleeps until several events came, or this long
    // for one, at most 100 ms and not with busy_poll_ns. Saves CPU, costs latency. 0: one event.
    uint64_t min_wait_ns;
    uint32_t job_threads; // helpers for weir_job_start, 1 to 64, made when first needed
    // WEIR_ABILITY_ bits: the ring takes nothing else from its first turn on (-EACCES). 0: all.
    // The kernel's part only: what system calls may do is for `confine`.
    uint32_t abilities;
    // Runs on the loop's thread in its first turn, when its ring is enabled and before any other
    // callback, and before that on each job helper, which then start at once: the place for a
    // seccomp filter. -errno ends the loop with that error. May be NULL.
    int (*confine)(void *context, enum weir_thread thread);
    void *confine_context;
    weir_log_function *log; // may be NULL
    void *log_context;
};

// Fills in the defaults: auto, 16,384 streams, 256 buffers of 16 KiB, marks 1 MiB and 256 KiB,
// 64 MiB queued, no idle time-out, 30 s close time-out, no total time-out, no busy poll, no min
// wait, 2 job threads.
// Any thread.
WEIR_PUBLIC void weir_loop_config_init(struct weir_loop_config *config);

// Makes a loop; the caller destroys it. The first turn binds it to its thread (or, before that,
// about a thousand operations that were queued). Errors: -EINVAL (the
// log says which field), -ENOMEM, -EMFILE, and for uring what weir_uring_available() says.
// Any thread.
WEIR_PUBLIC int weir_loop_create(const struct weir_loop_config *config,
                                 struct weir_loop **ret_loop);

// Aborts what is open (each `closed` is called with -ECANCELED, after its operations), then frees.
// Posts that come when nothing else is left do not run. After an error of weir_loop_turn(),
// operations and streams end with that error instead. On the loop's thread, outside of callbacks.
// NULL is allowed.
WEIR_PUBLIC void weir_loop_destroy(struct weir_loop *loop);

// One turn: submits what is queued, waits for an event until deadline_ns (0: does not wait,
// WEIR_NEVER: as long as it takes), runs callbacks and due timers. Returns the number of events, or
// an error that ends the loop. Must not be called from a callback.
WEIR_PUBLIC int weir_loop_turn(struct weir_loop *loop, uint64_t deadline_ns);

// CLOCK_MONOTONIC as read at the start of this turn's callbacks.
WEIR_PUBLIC uint64_t weir_loop_now(const struct weir_loop *loop);

// CLOCK_MONOTONIC of this moment. Any thread.
WEIR_PUBLIC uint64_t weir_clock_now(void);

// The engine in use ("uring", "epoll", "blocking"), and its plan: for uring the features in use.
// The texts live as long as the loop.
WEIR_PUBLIC const char *weir_loop_engine(const struct weir_loop *loop);
WEIR_PUBLIC const char *weir_loop_plan(const struct weir_loop *loop);

// A function to run on a loop's thread. The caller owns the memory until the function runs.
struct weir_post {
    void (*function)(struct weir_loop *loop, struct weir_post *post);
    struct weir_post *next; // private
};

// Runs post->function on the loop's thread, in its next turn, and wakes it. Any thread; the loop
// must exist until this has returned, which may be after the post has run. A post must not be
// posted again before it ran.
WEIR_PUBLIC void weir_loop_post(struct weir_loop *loop, struct weir_post *post);

// --- Timers --------------------------------------------------------------------------------------

// Lives in the caller's memory, which must be zeroed before the first start. One shot. A timer
// never runs early, and at most a millisecond late of its own (the blocking engine: see
// engines.md).
struct weir_timer {
    void (*function)(struct weir_loop *loop, struct weir_timer *timer);
    struct weir_timer *next, **link; // private
    uint64_t due_ns;                 // private
};

// Runs timer->function once, delay_ns from now. Starting a running timer moves it.
WEIR_PUBLIC void weir_timer_start(struct weir_loop *loop, struct weir_timer *timer,
                                  uint64_t delay_ns);

// After it, the function does not run. Stopping a stopped timer does nothing.
WEIR_PUBLIC void weir_timer_stop(struct weir_loop *loop, struct weir_timer *timer);

// --- Listeners and outbound streams --------------------------------------------------------------

// Zeroed fields mean the default.
struct weir_socket_options {
    int backlog;              // default 4096, cut by the kernel to net.core.somaxconn
    int send_buffer;          // SO_SNDBUF; default: the kernel's autotuning
    int receive_buffer;       // SO_RCVBUF; default: the kernel's autotuning
    int notsent_lowat;        // TCP_NOTSENT_LOWAT
    bool cork;                // TCP_CORK: partial segments wait for the end, or weir_stream_uncork
    bool keepalive;           // SO_KEEPALIVE
    bool reuse_port;          // SO_REUSEPORT: several loops listen on one address
    bool ordinary_descriptor; // streams need weir_stream_local_address() (FTP's control connection)
    // Neither a TCP listener nor what it accepts can ever connect elsewhere, however it is asked:
    // they take no answer to a SYN of theirs. For servers that are confined, because a ring's SEND
    // connects too (MSG_FASTOPEN). Not for weir_stream_connect().
    bool incoming_only;
    uint32_t unix_mode; // permission bits of a unix socket; default: what the umask leaves
};

struct weir_listener_config {
    struct weir_socket_options socket;
    const struct weir_protocol *protocol;
    void *context;        // weir_stream_context() of its streams
    uint32_t accepts_max; // close by itself after so many connections; 0: no limit
    // Asked for each connection before a stream exists; false resets it and goes on listening.
    bool (*admit)(struct weir_listener *listener, const struct weir_address *peer);
    // The listener cannot go on, or accepts_max was reached (0); it is closed when this returns.
    void (*finished)(struct weir_listener *listener, int reason);
};

// Binds and listens; streams open in later turns. Port 0 takes a free port. A stale unix socket is
// removed; a live one is -EADDRINUSE. The config is copied. Errors: those of socket(2), bind(2) and
// listen(2), -ENOSPC when no slot is free or the loop ends. The blocking engine listens only
// through a server, or with accepts_max set.
WEIR_PUBLIC int weir_listener_open(struct weir_loop *loop, const struct weir_address *address,
                                   const struct weir_listener_config *config,
                                   struct weir_listener **ret_listener);

// Stops listening and frees the listener; its streams go on. A unix socket's path is removed. May
// be called in any callback. NULL is allowed.
WEIR_PUBLIC void weir_listener_close(struct weir_listener *listener);

// The bound address (with the port that was taken), the config's context, and the loop.
WEIR_PUBLIC void weir_listener_address(const struct weir_listener *listener,
                                       struct weir_address *ret_address);
WEIR_PUBLIC void *weir_listener_context(const struct weir_listener *listener);
WEIR_PUBLIC struct weir_loop *weir_listener_loop(const struct weir_listener *listener);

struct weir_connect_config {
    struct weir_socket_options socket;
    const struct weir_protocol *protocol;
    void *context;
    const struct weir_address *local; // bind to this first; NULL: the kernel chooses
    uint64_t timeout_ns;              // 0: the kernel's
};

// Starts to connect; `opened` or `closed` follows in a later turn. The stream is valid at once:
// what is sent before `opened` is queued. Errors: those of socket(2) and bind(2), -ENOSPC when the
// loop is full or ends; then no callback follows.
WEIR_PUBLIC int weir_stream_connect(struct weir_loop *loop, const struct weir_address *address,
                                    const struct weir_connect_config *config,
                                    struct weir_stream **ret_stream);

// --- Streams -------------------------------------------------------------------------------------
// All are valid until `closed` returns. After close, abort or an error, sends are dropped.

// The session (protocol->session_size bytes), the context of the listener or connect, and the loop.
WEIR_PUBLIC void *weir_stream_session(struct weir_stream *stream);
WEIR_PUBLIC void *weir_stream_context(const struct weir_stream *stream);
WEIR_PUBLIC struct weir_loop *weir_stream_loop(const struct weir_stream *stream);

// The peer's address as accept or connect told it; a unix peer has family AF_UNIX and no path.
WEIR_PUBLIC void weir_stream_peer_address(const struct weir_stream *stream,
                                          struct weir_address *ret_address);

// This end's address. -ENOTSUP for a stream without an ordinary descriptor, -ENOTCONN once it is
// closed, which may be before `closed`.
WEIR_PUBLIC int weir_stream_local_address(const struct weir_stream *stream,
                                          struct weir_address *ret_address);

// Queues a copy of the bytes. Order is the order of the calls, whatever the sources.
WEIR_PUBLIC void weir_stream_send(struct weir_stream *stream, const void *data, size_t size);

// Returns a span of `size` bytes (1 to 16,000) to format into, valid until the next verb on this
// stream and no longer than the callback runs; weir_stream_commit() queues its first `size` bytes.
// NULL when memory is out, and then the stream closes with -ENOMEM.
WEIR_PUBLIC char *weir_stream_reserve(struct weir_stream *stream, size_t size);
WEIR_PUBLIC void weir_stream_commit(struct weir_stream *stream, size_t size);

// Queues bytes that stay unchanged until `closed`, without a copy.
WEIR_PUBLIC void weir_stream_send_static(struct weir_stream *stream, const void *data, size_t size);

// Queues received bytes (or a held slice), of this or another stream of the loop. Large slices are
// sent from their buffer without a copy; small ones, and all while buffers are scarce, are copied.
WEIR_PUBLIC void weir_stream_send_slice(struct weir_stream *stream, struct weir_slice slice);

// Queues a range of a file, by the engine's fastest way. The stream takes its own reference. A file
// that turns out shorter closes the stream with -EIO and never sends other bytes.
WEIR_PUBLIC void weir_stream_send_file(struct weir_stream *stream, struct weir_file *file,
                                       uint64_t offset, uint64_t size);

// Bytes queued and not yet taken by the kernel.
WEIR_PUBLIC uint64_t weir_stream_queued(const struct weir_stream *stream);

// When a byte last moved either way, or else when the stream opened, by weir_loop_now().
WEIR_PUBLIC uint64_t weir_stream_active_ns(const struct weir_stream *stream);

// Whether the queue went above the high mark and `drained` will come: a source that can wait should
// wait for it.
WEIR_PUBLIC bool weir_stream_is_full(const struct weir_stream *stream);

// Whether nothing is queued, and the loop has come to whatever lay in the socket when this was
// first asked. Before it ends an idle stream, a protocol asks this a millisecond apart until it is
// so.
WEIR_PUBLIC bool weir_stream_is_silent(struct weir_stream *stream);

// Keeps a slice beyond its callback; release it before or in `closed`. The result may lie elsewhere
// (a copy, while buffers are scarce). -ENOMEM: nothing is held.
WEIR_PUBLIC int weir_slice_hold(struct weir_stream *stream, struct weir_slice slice,
                                struct weir_slice *ret_held);
WEIR_PUBLIC void weir_slice_release(struct weir_stream *stream, struct weir_slice *held);

// Withholds and returns receive credit. While paused, `received` and `ended` are not called; what
// had already arrived is kept, at most send_high bytes and one buffer.
WEIR_PUBLIC void weir_stream_pause(struct weir_stream *stream);
WEIR_PUBLIC void weir_stream_resume(struct weir_stream *stream);

// Much is coming without a pause, as in an upload, or not any more: a hint from which the engine
// may gain. The uring engine then receives many buffers at once, which costs more where few bytes
// come at a time. weir_stream_receive_file() implies it. Best told before the stream is resumed.
WEIR_PUBLIC void weir_stream_set_bulk(struct weir_stream *stream, bool bulk);

// Ends what weir_socket_options.cork began: partial segments leave at once. Worth its call where
// much is sent, since a segment that waits to be filled leaves a call late. TCP only; otherwise as
// weir_stream_local_address().
WEIR_PUBLIC int weir_stream_uncork(struct weir_stream *stream);

// Sends the queue, then this side's end (half-close). Receiving goes on; `closed` follows when the
// peer ends too.
WEIR_PUBLIC void weir_stream_end(struct weir_stream *stream);

// Stops receiving, sends the queue, closes. Unread bytes make the kernel reset the connection: a
// protocol that refuses a request whose body is still coming uses weir_stream_linger().
WEIR_PUBLIC void weir_stream_close(struct weir_stream *stream);

// Sends the queue and this side's end, then discards what comes until the peer's end, discard_max
// bytes or timeout_ns, then closes.
WEIR_PUBLIC void weir_stream_linger(struct weir_stream *stream, uint64_t discard_max,
                                    uint64_t timeout_ns);

// Drops the queue and resets the connection (RST on TCP).
WEIR_PUBLIC void weir_stream_abort(struct weir_stream *stream);

// Replaces the loop's idle time-out for this stream; 0: never.
WEIR_PUBLIC void weir_stream_set_idle_timeout(struct weir_stream *stream, uint64_t timeout_ns);

// --- Operations: files and jobs ------------------------------------------------------------------

// One asynchronous operation in the caller's memory, which must stay until `done` ran. With a
// stream as its owner, `closed` of that stream waits for it. `result` is a count or -errno.
struct weir_operation {
    void (*done)(struct weir_operation *operation, int64_t result);
    struct weir_stream *stream; // the owner, or NULL
    bool owed;                  // a job that is not refused for want of room
    struct weir_loop *loop;     // private from here on
    int (*run)(struct weir_operation *operation);
    struct weir_post post;
    int64_t result;
    uint64_t offset;
    char *data;
    size_t size;
    uint64_t open_how[3]; // flags, mode, resolve: the kernel's struct open_how
    struct weir_file *file, **ret_file;
    uint32_t slot;
    uint32_t kind;
};

// Runs run(operation) on a helper thread (uring, epoll) or at once (blocking), for work that a ring
// cannot do or does slowly: metadata, listings, password hashes. It may block, must not touch
// streams, and returns the result for `done`, which runs on the loop. Jobs are not cancelled.
// The queue holds 1,024 jobs: beyond it `done` gets -EAGAIN, but for one that is `owed`, which
// waits all the same: what clears up after others must run, however many there are.
WEIR_PUBLIC void weir_job_start(struct weir_loop *loop, struct weir_operation *operation,
                                int (*run)(struct weir_operation *operation));

// The same for work that computes for milliseconds, such as a password hash. A helper of its own
// does one after another, and gives way to every other thread of the machine: neither the loop nor
// other jobs wait for it. It has a queue of 1,024 of its own, and no helper with blocking.
WEIR_PUBLIC void weir_job_start_background(struct weir_loop *loop, struct weir_operation *operation,
                                           int (*run)(struct weir_operation *operation));

// Opens a file relative to the directory dirfd, with openat2's flags, mode and RESOLVE_ bits;
// O_CLOEXEC is added. `done` gets 0 or -errno; then *ret_file is the caller's to release. `path`
// and ret_file must stay until then.
WEIR_PUBLIC void weir_file_open(struct weir_loop *loop, struct weir_operation *operation, int dirfd,
                                const char *path, uint64_t flags, uint64_t mode, uint64_t resolve,
                                struct weir_file **ret_file);

// Makes a file of a descriptor; the file owns it from now on. -ENOMEM leaves it with the caller.
WEIR_PUBLIC int weir_file_adopt(struct weir_loop *loop, int fd, struct weir_file **ret_file);
WEIR_PUBLIC int weir_file_descriptor(const struct weir_file *file);

// Files are counted references; the last release closes. NULL is allowed for release.
WEIR_PUBLIC struct weir_file *weir_file_retain(struct weir_file *file);
WEIR_PUBLIC void weir_file_release(struct weir_file *file);

// Reads or writes `size` bytes (at most 1 GiB) at `offset`; `data` must stay until `done`. The
// result may be short: at the end of the file, or on a full disk.
WEIR_PUBLIC void weir_file_read(struct weir_file *file, struct weir_operation *operation,
                                void *data, size_t size, uint64_t offset);
WEIR_PUBLIC void weir_file_write(struct weir_file *file, struct weir_operation *operation,
                                 const void *data, size_t size, uint64_t offset);

// From now on, received bytes go into the file from `offset` on, straight from their buffers, until
// the peer's end; then `done` gets the number of bytes and `ended` follows. An error of the file
// (-ENOSPC ...) is given to `done` and pauses the stream; the protocol decides what follows, and
// finds a true prefix in the file.
// operation->stream is set to the stream. A stream that closes gives `done` its reason first.
WEIR_PUBLIC void weir_stream_receive_file(struct weir_stream *stream, struct weir_file *file,
                                          uint64_t offset, struct weir_operation *operation);

// Writes a slice that `received` tells to a file in memory (tmpfs) at once, and behind it what
// waits in the stream's socket, with one copy less than by a buffer. For `received` only. Returns
// how many bytes the file got: at least the slice's. -EAGAIN: nothing was written, since the file
// may lie on a disk, the engine has no such way, or this turn has written enough; a job can. Other
// errors are the file's or the socket's, and what the file got then is a prefix of what came.
WEIR_PUBLIC int64_t weir_stream_write_now(struct weir_stream *stream, struct weir_slice slice,
                                          struct weir_file *file, uint64_t offset);

// --- Servers -------------------------------------------------------------------------------------

struct weir_server_config {
    struct weir_loop_config loop; // for each thread; streams_max is the whole server's limit
    uint32_t threads;             // loops, 1 to 256; must be 1 with the blocking engine
    const uint16_t *cpus;         // thread i runs on cpus[i % cpus_count]
    size_t cpus_count;            // 0: no pinning
    uint32_t address_streams_max; // connections per peer host; 0: no limit. More are reset
    uint64_t drain_timeout_ns;    // then drain aborts what is open; default 10 s, or WEIR_NEVER
    uint64_t drain_quiet_ns;      // see weir_protocol.draining; default 200 ms
};

// Fills in the defaults of the loop, 1 thread, no pinning, no limit per address. Any thread.
WEIR_PUBLIC void weir_server_config_init(struct weir_server_config *config);

// Makes a server and its loops; nothing runs yet. Errors as weir_loop_create.
WEIR_PUBLIC int weir_server_create(const struct weir_server_config *config,
                                   struct weir_server **ret_server);

// Adds a listener before start. ret_address (may be NULL) is the bound address. Errors as
// weir_listener_open; -EINVAL after start. `context` is shared by all threads: read-only, or locked
// by the caller.
WEIR_PUBLIC int weir_server_listen(struct weir_server *server, const struct weir_address *address,
                                   const struct weir_socket_options *options,
                                   const struct weir_protocol *protocol, void *context,
                                   struct weir_address *ret_address);

// Starts the threads, which inherit the caller's signal mask: block signals first. With
// loop.confine it returns when all are confined. Errors: -EINVAL when it was started before, those
// of pthread_create(3) and of `confine`; then the server can only be destroyed.
WEIR_PUBLIC int weir_server_start(struct weir_server *server);

// Stops accepting, removes the paths of unix listeners, and lets streams finish, up to
// drain_timeout_ns. Any thread, any number of times.
WEIR_PUBLIC void weir_server_drain(struct weir_server *server);

// Aborts everything at once; paths as above. Any thread.
WEIR_PUBLIC void weir_server_stop(struct weir_server *server);

// Returns when all threads ended: 0 after drain or stop, otherwise the first error of a loop.
WEIR_PUBLIC int weir_server_wait(struct weir_server *server);

// The descriptor becomes readable when the server has ended; for a caller that also waits for
// signals. It belongs to the server.
WEIR_PUBLIC int weir_server_ended_descriptor(const struct weir_server *server);

// The engine that runs, and the plan, as for a loop.
WEIR_PUBLIC const char *weir_server_engine(const struct weir_server *server);
WEIR_PUBLIC const char *weir_server_plan(const struct weir_server *server);

// Stops if need be, waits, and frees. NULL is allowed.
WEIR_PUBLIC void weir_server_destroy(struct weir_server *server);

// --- Statistics ----------------------------------------------------------------------------------

#define WEIR_BATCH_BUCKETS 12

// Counters since the start of the loop, and gauges where the comment says so. core/stats.c lists
// them for printing. A snapshot is consistent per counter, not across counters.
struct weir_stats {
    uint64_t turns, enters;             // enters: io_uring_enter and calls beside it, or all calls
    uint64_t sqes, cqes;                // cqes: completions of any engine
    uint64_t batch[WEIR_BATCH_BUCKETS]; // turns with 0, 1, 2, 3-4, 5-8 ... completions
    uint64_t accepts, accept_errors, accept_pauses, refused; // refused: by admit or limit
    uint64_t connects, connect_errors;
    uint64_t received_bytes, sent_bytes, received_slices, copied_slices;
    uint64_t received_bundles; // uring: completions that brought more than one slice
    uint64_t sends, short_sends;
    uint64_t receive_arms, receive_no_buffers; // arms and re-arms; ENOBUFS
    uint64_t pauses;                           // receive credit withheld
    uint64_t overflows, stale_completions, submit_early;
    // uring: operations of the kinds that the kernel always gives to a worker thread: half-closes,
    // and opens that make or empty a file. That a single other one went there it does not tell.
    uint64_t worker_punts;
    uint64_t idle_timeouts, close_timeouts;
    uint64_t total_timeouts, total_aborts; // `expired` was told; and the stream did not end in time
    uint64_t closed_clean, closed_reset, closed_timeout, closed_canceled, closed_error;
    uint64_t jobs, file_operations, posts;
    uint64_t fallbacks;                    // auto chose epoll
    uint64_t looks, looks_in_vain;         // by adaptive_poll_ns
    uint64_t streams_open, streams_high;   // gauges: now, most at once
    uint64_t buffers_leased, buffers_high; // gauges
    uint64_t queued_bytes, queued_high;    // gauges
};

// Any thread, without locks.
WEIR_PUBLIC void weir_loop_stats(const struct weir_loop *loop, struct weir_stats *ret_stats);

// The sum over all loops. Any thread.
WEIR_PUBLIC void weir_server_stats(const struct weir_server *server, struct weir_stats *ret_stats);

// Writes "name value" lines, or one JSON object; at most `size` bytes with a final zero. Returns
// the size that the whole text needs without the zero, as snprintf does. Any thread.
WEIR_PUBLIC size_t weir_stats_print(const struct weir_stats *stats, bool json, char *ret_text,
                                    size_t size);

// --- What this machine can do --------------------------------------------------------------------

// The library's version, its engines, and the liburing that was built in, as one line. Any thread.
WEIR_PUBLIC const char *weir_version_text(void);

struct weir_capability {
    const char *name;    // of the feature, as --uring knows it
    const char *kernel;  // first kernel that has it
    const char *purpose; // in a few words
    bool present;
    bool in_default;  // part of the default plan
    char detail[160]; // if absent: why, what weir does instead, and the command that mends it
};

// Probes the kernel and fills at most `max` rows; returns their number. Any thread.
WEIR_PUBLIC size_t weir_capabilities(struct weir_capability *ret_rows, size_t max);

// 0, or why io_uring cannot be used: -EPERM, -ENOSYS, -ENOMEM, -EMFILE. ret_text (may be NULL) gets
// the cause (sysctl, seccomp, memlock or kernel) and how to mend it. Any thread.
WEIR_PUBLIC int weir_uring_available(char *ret_text, size_t size);

#ifdef __cplusplus
}
#endif
#endif
