// Private to core/: the loop's and the stream's records, and what the core's files offer each
// other.
//
// One stream passes through these files: listener.c or stream.c opens it, receive.c brings bytes
// in, send.c takes bytes out, stream.c closes it. loop.c drives them, one turn at a time. All of it
// runs on the loop's thread; the only members that other threads touch are marked "any thread".
#ifndef WEIR_LOOP_H
#define WEIR_LOOP_H

#include <stdatomic.h>
#include <stdio.h>

#include "buffer.h"
#include "engine.h"
#include "lookout.h"
#include "slab.h"
#include "stats.h"
#include "system.h"
#include "timer.h"
#include "weir.h"

enum {
    LOOP_COMPLETIONS_MAX = 512, // per turn: the bound of a turn's length
    LISTENER_ACCEPTS = 8,       // one-shot accepts kept armed, each with its own peer address
    STREAM_LEASES_MAX = 64,     // receive buffers that one stream's queues may hold
    QUEUED_SHARE = 64,          // a stream may queue this part of what its loop has left
    QUEUED_MIN = 16 * 1024,     // and never less than this
    SEND_BYTES_MAX = 1024 * 1024,
    SEND_PIECES_MAX = 64,
    SEND_ENDING_MAX = 64 * 1024, // what one call sends of a file, at least: see file_part()
    RECEIVE_CREDIT_MAX = 1024 * 1024,
    BLOCK_CLASSES = 4,
    JOBS_MAX = 1024,
    LOOP_MIN_WAIT_MAX_NS = 100000000,
};

// --- Slots: every completion names its object by slot and generation, never by pointer -----------

enum slot_kind { SLOT_STREAM, SLOT_LISTENER, SLOT_OPERATION };

struct slot {
    void *object; // NULL: free
    uint32_t generation;
    union {
        uint32_t next_free; // of a free slot
        uint32_t kind;      // enum slot_kind, of a slot in use
    };
};

// --- Send pieces ---------------------------------------------------------------------------------

enum piece_kind {
    PIECE_COPY,   // the bytes follow in the same block; the block's class is in `class_index`
    PIECE_LEASE,  // the bytes lie in counted memory
    PIECE_STATIC, // the bytes are the caller's
    PIECE_FILE,   // a range of a file
};

struct piece {
    struct piece *next;
    const char *data;
    uint64_t size; // bytes left
    uint8_t kind;  // enum piece_kind
    uint8_t class_index;
    uint32_t room; // PIECE_COPY: bytes free behind data + size; PIECE_FILE: see file_cached()
    union {
        struct weir_lease *lease;
        struct {
            struct weir_file *file;
            uint64_t offset;
        };
    };
};

struct piece_queue {
    struct piece *first;
    struct piece **last;
};

// --- Streams -------------------------------------------------------------------------------------

enum stream_state {
    STREAM_CONNECTING,
    STREAM_OPEN,
    STREAM_FLUSHING,  // close was asked for: the queue goes out first
    STREAM_LINGERING, // our end is sent: discard until the peer's
    STREAM_CLOSING,   // the descriptor is being closed; waits for the last completion
};

struct weir_stream {
    struct weir_loop *loop;
    const struct weir_protocol *protocol;
    void *context;
    uint32_t slot;
    int fd;
    uint8_t state;           // enum stream_state
    bool direct : 1;         // fd is an index of the ring's table, not a descriptor
    bool receive_armed : 1;  // a receive is in flight
    bool receive_paused : 1; // by the protocol
    bool receive_canceling : 1;
    bool receive_nonempty : 1; // more was waiting after the last receive
    bool bulk : 1;             // much is expected of it: weir_stream_set_bulk()
    bool writes_now : 1;       // weir_stream_write_now() was called: it receives less at a time
    bool starved : 1;          // stands in the queue for a buffer
    bool send_armed : 1;       // a send is in flight
    bool send_listed : 1;      // stands in loop->senders
    bool send_slow : 1;        // the peer takes less than is sent: the kernel waits for it
    bool above_high : 1;       // credit is withheld until the queue falls to the low mark
    bool want_drained : 1;
    bool want_end : 1; // half-close after the queue
    bool end_sent : 1;
    bool shutting : 1; // our end is in flight, and the descriptor stays open for it
    bool end_received : 1;
    bool end_told : 1; // `ended` was called
    bool opened_told : 1;
    bool linger : 1;           // FLUSHING leads to LINGERING
    bool close_connecting : 1; // FLUSHING waits for the connection first
    bool attention : 1;        // stands in loop->attention
    bool abort : 1;            // reset instead of an orderly end
    bool draining_told : 1;
    bool file_read_armed : 1;    // a piece of a file is being read for the queue
    uint8_t leases;              // buffers held by the two queues and by weir_slice_hold
    bool expired_told : 1;       // its total time is over, and it is to finish
    uint8_t peer_size : 7;       // of peer_address
    uint16_t inflight;           // operations of the engine that will still complete
    uint32_t operations;         // weir_operations owned by this stream
    uint32_t send_turn;          // loop->turn_index when the send in flight was submitted
    uint32_t look_turn;          // drain: by this turn the engine has come to it; 0: not asked
    uint32_t receive_credit;     // bytes that the armed receive may still bring
    uint32_t engine_bits;        // the engine's own
    int engine_descriptor;       // the engine's own, beside `fd`, and one more than it: 0 is none
    uint64_t opened_ns;          // its total time counts from here
    uint64_t queued;             // bytes in `pieces`
    struct piece_queue pieces;   // to send; the first may be in flight
    struct piece_queue received; // arrived while paused
    uint32_t files;              // file ranges in `pieces`
    uint32_t send_size;          // bytes of the send in flight
    uint64_t discard_left, linger_timeout_ns;
    uint64_t idle_timeout_ns;
    uint64_t active_ns; // of the last byte either way
    uint64_t send_ns;   // loop->now_ns when the send in flight was submitted
    struct weir_stream *next_sender, *next_attention, *next_starved;
    struct sink *sink;       // receives go into a file (file.c), or NULL
    struct weir_timer timer; // idle, connect, linger or close time-out by state, or total time
    union {                  // the peer; a unix peer needs the family only
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    } peer_address;
    int32_t reason;                               // for `closed`
    void (*released)(struct weir_stream *stream); // limits; by listener.c or server.c, may be NULL
    void *released_context;
    _Alignas(16) char session[];
};

// --- Listeners -----------------------------------------------------------------------------------

struct weir_listener {
    struct weir_loop *loop;
    struct weir_listener_config config;
    struct weir_address address;
    uint32_t slot;
    int fd;
    uint32_t armed;       // bits: accepts in flight
    uint32_t stale;       // of them, those from before the last shortage: they do not tell its end
    uint32_t engine_bits; // the engine's own
    uint32_t parked; // bits: accepted connections that wait for room in the limit, or for memory
    uint32_t placed; // of them, which have their place in the limit and were admitted
    uint32_t direct; // of them, whose descriptor is an index of the ring's table
    int32_t parked_fds[LISTENER_ACCEPTS];
    uint32_t accepted;
    uint32_t errors; // failed accepts in a row
    int32_t failure; // the socket will never accept again
    bool paused;     // nothing armed, or something parked; `retry` and ending streams resume it
    bool starved;    // descriptors or memory are out: one accept at a time until one succeeds
    bool blocked;    // and only `retry` may arm it
    bool advancing;  // listener_advance is running
    bool closing;
    bool serve_late; // connections that were accepted while it closed are served, not reset
    bool path_kept;  // the server removes the unix path
    struct weir_timer retry;
    // If set, takes the raw descriptor instead of a stream being opened here (blocking engine).
    // Returns 0 and owns descriptor and place in the limit, or -errno; -ECONNREFUSED: not admitted.
    int (*take)(struct weir_listener *listener, int fd, const struct weir_address *peer);
    void (*released)(struct weir_stream *stream); // for its streams; listener_stream_released
    void *released_context;
    struct sockaddr_storage peers[LISTENER_ACCEPTS]; // written by the engine's accepts
    socklen_t peer_sizes[LISTENER_ACCEPTS];
    struct weir_listener *next; // in loop->listeners
};

// --- The loop ------------------------------------------------------------------------------------

#define container_of(pointer, type, member) \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

// A limit that several loops share.
struct limit {
    _Atomic uint32_t count; // any thread
    uint32_t max;
};

struct weir_loop {
    const struct engine *engine;
    void *engine_state;          // of the engine
    const struct system *system; // sockets and clock: the kernel's, or simulated
    void *system_state;
    struct weir_loop_config config;
    char plan[256];
    uint64_t now_ns;
    uint32_t turn_index;
    struct lookout lookout;
    uint64_t look_ns;     // how long this turn's wait looks for work before it sleeps
    bool looked;          // it did, said by the engine: not if what it submitted ended it at once
    bool looked_in_vain;  // and nothing came
    uint32_t turns_awake; // so many more turns do not sleep: a drain waits for all to be served
    uint32_t file_turn, file_sends, file_sends_before; // see file_part()
    uint32_t write_turn;
    size_t written; // in that turn: see write_now.c
    struct system_pipe write_pipe;
    bool running_callbacks;
    bool ending;   // weir_loop_destroy() was called
    bool confined; // config.confine ran
    bool failed;   // the engine broke; turns return `failure`
    int failure;
    uint32_t untold; // completions of the flush after which the thread could not be confined

    struct slot *slots;
    uint32_t slots_max, slots_used; // slots_used: those that were ever taken
    uint32_t slots_free;            // first of the free list, or UINT32_MAX
    uint32_t slots_open;            // in use now

    struct buffer_pool pool;
    struct slab blocks[BLOCK_CLASSES];
    struct slab pieces;
    struct slab_set records; // stream records by size
    size_t queued_bytes;     // memory held by all queues, charged by block or buffer

    struct weir_stream *senders, **senders_last; // have something to send and no send in flight
    bool endings; // one of them may be at its end: see loop_send_endings()
    struct weir_stream *attention, **attention_last; // have something to do that is not I/O
    struct weir_stream *starved, **starved_last;     // wait for a receive buffer
    struct weir_listener *listeners;                 // those that are open
    struct weir_listener *listener_next;             // listener_retry_all's walk
    char scrap[16384]; // what weir_stream_reserve gives to a stream that takes no more sends
    uint32_t streams_open;
    struct limit *limit; // own_limit, or the server's
    struct limit own_limit;

    struct timer_wheel wheel;
    struct completion completions[LOOP_COMPLETIONS_MAX];

    _Atomic(struct weir_post *) posts; // any thread: last in, first out
    atomic_bool wake_pending;          // any thread
    struct job_pool *jobs;             // made at the first job
    struct job_pool *background_jobs;  // made at the first of these
    uint32_t operations_open;          // weir_operations that are not done

    struct stats stats; // written by the loop, read by any thread
};

// loop.c
void loop_log(const struct weir_loop *loop, enum weir_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
// Takes a slot for the object; -ENOSPC when all are in use.
int loop_slot_take(struct weir_loop *loop, enum slot_kind kind, void *object, uint32_t *ret_slot);
void loop_slot_give(struct weir_loop *loop, uint32_t slot);
// The token of an operation on a slot; see engine.h.
uint64_t loop_token(const struct weir_loop *loop, enum operation operation, uint32_t auxiliary,
                    uint32_t slot);
// The object of a token, or NULL when its generation is stale.
void *loop_token_object(const struct weir_loop *loop, uint64_t token);
void loop_attention(struct weir_stream *stream);
// What stands under a loop: the kernel, or the simulated world of the tests.
struct loop_base {
    const struct engine *engine;
    // For engine->init, or NULL; uring: a struct ring_base; blocking: an int, what wakes the loop.
    void *engine_argument;
    const struct system *system;
    void *system_state;
};
int loop_create_on(const struct weir_loop_config *config, const struct loop_base *base,
                   struct weir_loop **ret_loop);

// config.c
// Names the first field that is out of its range, or returns NULL.
const char *loop_config_fault(const struct weir_loop_config *config);
// Whether `auto` means epoll after all, because there is no room for a ring of the loop's size, as
// `error` says; then the log has a line.
bool loop_falls_back(const struct weir_loop_config *config, int error);

// stream.c
// Makes the record of a stream; `fd` stays the caller's on failure. Not yet receiving.
int stream_create(struct weir_loop *loop, const struct weir_protocol *protocol, void *context,
                  int fd, bool direct, struct weir_stream **ret_stream);
void stream_set_peer(struct weir_stream *stream, const struct sockaddr *address, socklen_t size);
// The connection stands: tells `opened`, starts receiving.
void stream_opened(struct weir_stream *stream);
// Records why, drops the queue and closes. `reset`: send RST.
void stream_fail(struct weir_stream *stream, int reason, bool reset);
// Closes the descriptor and with it all that is in flight.
void stream_start_close(struct weir_stream *stream);
// The same from inside a verb: the stream takes no more sends and fails in the next turn.
void stream_doom(struct weir_stream *stream, int reason);
void stream_attend(struct weir_stream *stream);
// After any completion: frees the record when nothing is in flight any more.
void stream_settle(struct weir_stream *stream);
void stream_connected(struct weir_stream *stream, int result);
void stream_shut(struct weir_stream *stream, int result);
void stream_descriptor_closed(struct weir_stream *stream);
void stream_active(struct weir_stream *stream);
void stream_drain(struct weir_stream *stream, uint64_t quiet_ns);
// Closes it without the engine, which is gone; stream_settle() frees it when its operations are
// done.
void stream_abandon(struct weir_stream *stream);

// receive.c
void receive_arm(struct weir_stream *stream); // if nothing speaks against it
void receive_completed(struct weir_stream *stream, const struct completion *completion);
void receive_deliver(struct weir_stream *stream); // what was kept while paused
void receive_feed_starved(struct weir_loop *loop);
void receive_drop(struct weir_stream *stream); // frees what was kept
void receive_curb(struct weir_stream *stream); // the queue went above its mark

// send.c
// Fills at most `max` iovecs with the memory pieces at the head of the queue, up to a file piece or
// bytes_max. Returns their number; *ret_size is the sum.
uint32_t send_gather(const struct weir_stream *stream, struct iovec *iovecs, uint32_t max,
                     size_t bytes_max, size_t *ret_size);
// Submits a send of what is queued, or reads ahead for a file range.
void send_submit(struct weir_stream *stream);
// Whether the next send is a stream's last, and takes no more than one call for the rest of a file.
bool send_is_ending(const struct weir_stream *stream);
// A send that was in flight took `result` bytes, or failed. `late`: when it was submitted.
void send_finished(struct weir_stream *stream, int64_t result, bool late);
void send_drop(struct weir_stream *stream); // frees the queue
void send_list(struct weir_stream *stream); // puts it among the senders if it has something to send
struct piece *send_block(struct weir_loop *loop, size_t size); // a PIECE_COPY with room, or NULL
size_t send_high(const struct weir_loop *loop);                // the high mark that is in force
void send_append(struct piece_queue *queue, struct piece *piece);
void send_pop(struct weir_stream *stream, struct piece_queue *queue); // frees the first piece
// Another count on a slice's memory for this stream, or NULL if it must be copied: there is no
// counted memory, the slice is small, buffers are scarce, or the stream holds its share already.
struct weir_lease *send_lease_share(struct weir_stream *stream, const struct weir_slice *slice);
// Counted memory with a copy of the bytes (at most a receive buffer's), or NULL.
struct weir_lease *send_lease_copy(struct weir_loop *loop, const char *data, size_t size);
const char *send_lease_data(const struct weir_lease *lease); // of a copy
// Bytes that a copy of `used` bytes leaves free behind them.
uint32_t send_lease_room(const struct weir_lease *lease, size_t used);
void send_lease_release(struct weir_stream *stream, struct weir_lease *lease);

// file.c
void file_completed(struct weir_operation *operation, int64_t result);
void sink_received(struct weir_stream *stream, struct weir_slice slice);
void sink_ended(struct weir_stream *stream, int reason);
bool sink_full(const struct sink *sink); // as many writes in flight as it may have
// Reads the next part of the first file range in the queue, so that it can be sent from memory.
// Overlaps with the send in flight.
void file_read_ahead(struct weir_stream *stream);
// Moves the start of what is left of a range; its size is the caller's.
void file_range_skip(struct piece *range, uint64_t size);
// The first file range in the queue, or NULL.
struct piece *file_range_first(struct weir_stream *stream);
// How many bytes of the range, from its start on, can be read without waiting for a disk: kept in
// range->room, and asked for again when that is used up. 0: none, or nobody knows.
size_t file_cached(struct piece *range);
bool file_in_memory(struct weir_file *file); // asked once
// How many bytes the next sendfile(2) of this turn may take.
size_t file_part(struct weir_loop *loop);
// Its file is none that sendfile(2) takes.
void file_refuses(struct piece *range);

// listener.c
void listener_arm(struct weir_listener *listener); // as many accepts as there is room for
void listener_accepted(struct weir_listener *listener, const struct completion *completion);
void listener_retry_all(struct weir_loop *loop); // a stream closed: room again
// Makes a listener on a listening descriptor and owns it on success. It accepts from listener_arm
// on, so the caller may set its private members first.
int listener_open_on(struct weir_loop *loop, int fd, const struct weir_address *address,
                     const struct weir_listener_config *config,
                     struct weir_listener **ret_listener);
// Frees it without the engine, which is gone; it was closed before.
void listener_abandon(struct weir_listener *listener);
// Gives the place in the loop's limit back.
void listener_stream_released(struct weir_stream *stream);

// job.c
// The operation ends with this result: `done` follows through a post. Any thread.
void job_deliver(struct weir_loop *loop, struct weir_operation *operation, int64_t result);
void jobs_start(struct weir_loop *loop, struct weir_operation *operation);
// Runs it now, on this thread; `done` follows through a post.
void jobs_run(struct weir_loop *loop, struct weir_operation *operation);
// Makes all helpers, and returns when each has confined itself: 0, or the first error.
int jobs_confine(struct weir_loop *loop);
// Waits until every job that was started has posted its result. The helpers stay.
void jobs_settle(struct weir_loop *loop);
void jobs_fini(struct weir_loop *loop); // waits for what runs

static inline bool limit_take(struct limit *limit)
{
    if (atomic_fetch_add_explicit(&limit->count, 1, memory_order_relaxed) < limit->max)
        return true;
    atomic_fetch_sub_explicit(&limit->count, 1, memory_order_relaxed);
    return false;
}

static inline void limit_give(struct limit *limit)
{
    atomic_fetch_sub_explicit(&limit->count, 1, memory_order_relaxed);
}

#endif
