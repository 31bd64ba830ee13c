// Private to engines/uring: the engine's state, and what its files offer each other.
#ifndef WEIR_URING_H
#define WEIR_URING_H

#include <netinet/in.h>
#include <sys/uio.h>

#include "../../loop.h"
#include "ring.h"
#include "uapi.h"

enum {
    URING_SQ_ENTRIES = 1024,
    URING_CQ_ENTRIES = 8192,
    URING_IOVECS_MAX = 2048, // of one batch
    URING_MESSAGES_MAX = 512,
    URING_QUIET_MAX = 1024, // quiet sends whose end is not known yet
    URING_UNIX_CONNECTS_MAX = 16,
    URING_BUFFER_GROUP = 0,
    URING_FILES_EXTRA = 64,      // direct descriptors that are still closing
    URING_SHORTAGE_NS = 1000000, // between two attempts to submit to a kernel without memory
    URING_SHORTAGE_ATTEMPTS = 100,
    URING_MIN_WAIT_EVENTS = 32, // that end a min-wait before its time
    URING_CANCEL_S = 1,         // how long the operations of a broken ring are waited for
};

// In a RECEIVE token's auxiliary part: it may bring many buffers at once.
#define URING_BUNDLE (0x80ULL << TOKEN_AUXILIARY_SHIFT)

// A way to receive: one of receive_multishot.c and receive_oneshot.c.
struct uring_receiving {
    void (*arm)(struct weir_loop *loop, struct weir_stream *stream);
    int (*cancel)(struct weir_loop *loop, struct weir_stream *stream);
};

// What was resolved from the table of features, once, at start. Nothing else reads a feature.
struct uring_plan {
    unsigned setup_flags;
    bool direct;          // accepted sockets live in the ring's table
    bool quiet;           // sends that succeed while they are submitted post no completion
    bool sendfile;        // what is in the page cache is sent by sendfile(2); see send_file.c
    uint32_t min_wait_us; // what a busy loop waits for several events; 0: it waits for one
    bool bundles;         // receives of streams of which much is expected take many buffers
    struct uring_receiving receive;
    struct uring_receiving receive_bulk; // see docs/decisions/bundles.md
    struct uring_receiving receive_unix; // see docs/decisions/unix-end.md
};

// Bits of stream->engine_bits.
enum uring_bit {
    URING_SEND_QUIET = 1,  // the send in flight is quiet, and no failure was seen
    URING_SEND_POLLS = 2,  // what is in flight is a poll for room
    URING_SOCKET_FULL = 4, // the last sendfile was short: the next one waits for room first
    URING_INSTALLING = 8,  // a descriptor was asked for, beside the index; and stays so if refused
    URING_RECEIVE_BUNDLE = 16, // the receive in flight has URING_BUNDLE
};

// What is left of a completion that brought several buffers.
struct uring_bundle {
    struct completion whole;
    uint32_t left;  // bytes; 0: nothing
    uint16_t place; // of the next buffer
};

// A send that posts a completion only if it fails: it succeeded when the kernel took its entry and
// nothing came.
struct uring_quiet {
    uint64_t token;
    unsigned tail; // of the submission queue behind its entry
};

struct uring {
    struct io_uring ring;
    const struct ring_operations *operations;
    void *operations_state;
    struct uring_plan plan;
    bool enabled, wake_armed;
    bool busy;                    // the last flush brought something
    int failure;                  // submission broke
    struct io_uring_sqe sqe_void; // takes what is prepared after that
    struct uring_quiet quiet[URING_QUIET_MAX];
    unsigned quiet_first, quiet_count; // a ring, in the order of submission
    bool quiet_left;                   // by the last flush
    // The kernel has taken the entries before mark_taken, and what it said of them stands before
    // mark_heard in the completion queue.
    bool mark_set;
    unsigned mark_taken, mark_heard;
    int wake_fd;
    uint64_t wake_value;

    uint32_t installs; // that were asked for and not heard of
    enum system_signal pipe_signal;

    struct io_uring_buf_ring *buffer_ring;
    size_t buffer_ring_size;
    uint16_t *places; // by buffer: where it was last put into the ring; NULL without bundles
    struct uring_bundle bundle;

    // Scratch of the batch: the kernel copies it when the entry is submitted.
    unsigned iovecs_used, messages_used, connects_used;
    struct iovec iovecs[URING_IOVECS_MAX];
    struct msghdr messages[URING_MESSAGES_MAX];
    struct sockaddr_un connects[URING_UNIX_CONNECTS_MAX];

    // Completions that had to be taken early, because the kernel refused submissions until then.
    struct io_uring_cqe *stash;
    unsigned stash_first, stash_count;
};

static inline struct uring *uring_of(const struct weir_loop *loop)
{
    return loop->engine_state;
}

// turn.c
struct io_uring_sqe *uring_sqe(struct weir_loop *loop, enum operation operation, uint32_t auxiliary,
                               uint32_t slot);
// Makes sure that the next entry does not submit the batch: for what is put into its scratch first.
void uring_room(struct weir_loop *loop);
// An entry on a stream's descriptor.
struct io_uring_sqe *uring_stream_sqe(struct weir_stream *stream, enum operation operation);
void uring_sqe_descriptor(struct io_uring_sqe *sqe, const struct weir_stream *stream);
void uring_submit_early(struct weir_loop *loop);
// One enter.
int uring_enter(struct weir_loop *loop, unsigned submit, unsigned wait, unsigned flags,
                void *argument, size_t size);
int uring_flush(struct weir_loop *loop, uint64_t deadline_ns);

// features.c
int features_resolve(struct weir_loop *loop, struct uring_plan *ret_plan);

// restrict.c
// Binds the ring, which is not yet enabled, to what the configured abilities need.
int uring_restrict(struct weir_loop *loop);

// accept.c
void uring_accept(struct weir_loop *loop, struct weir_listener *listener, uint32_t index);
void uring_accept_cancel(struct weir_loop *loop, struct weir_listener *listener);

// bundle.c
// Puts what is left of a bundle into completions, from `count` on, as far as there is room; returns
// their number then.
unsigned uring_bundle_spread(struct weir_loop *loop, unsigned count);
// The completion is a whole bundle: spreads it in its own place, as above.
unsigned uring_bundle_begin(struct weir_loop *loop, unsigned count);

// receive_multishot.c, receive_oneshot.c
void uring_receive_multishot(struct weir_loop *loop, struct weir_stream *stream);
void uring_receive_bundle(struct weir_loop *loop, struct weir_stream *stream);
int uring_receive_multishot_cancel(struct weir_loop *loop, struct weir_stream *stream);
void uring_receive_oneshot(struct weir_loop *loop, struct weir_stream *stream);
int uring_receive_oneshot_cancel(struct weir_loop *loop, struct weir_stream *stream);

// send.c
int64_t uring_send(struct weir_loop *loop, struct weir_stream *stream);

// send_file.c
bool uring_sends_file(struct weir_loop *loop, struct weir_stream *stream, struct piece *range);
// Sends from the range at the head of the queue.
int64_t uring_send_file(struct weir_loop *loop, struct weir_stream *stream, struct piece *range);
// What was asked for by a stream that may be gone: it gets the descriptor, or nobody.
void uring_installed(struct weir_loop *loop, const struct io_uring_cqe *cqe);
// The ring ends: closes those that nobody heard of.
void uring_installs_end(struct weir_loop *loop);

// connection.c
void uring_connect(struct weir_loop *loop, struct weir_stream *stream,
                   const struct weir_address *address);
void uring_shutdown(struct weir_loop *loop, struct weir_stream *stream);
int uring_close(struct weir_loop *loop, struct weir_stream *stream);

// file.c
void uring_file(struct weir_loop *loop, struct weir_operation *operation);

#endif
