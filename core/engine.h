// Private: the contract between the core and an engine. docs/engines.md is its manual;
// tests/contract holds every engine to it.
//
// The core asks for operations, the engine completes them. A hook queues and returns; it never
// calls back into the core. flush() submits all that is queued, waits, and fills loop->completions.
// Two kinds of engines stand behind one table: those whose operations complete later (uring) and
// those that act at once (epoll, blocking). So three hooks may answer at once: they return a result
// >= 0 or -errno when it is known, or ENGINE_PENDING when a completion will bring it.
#ifndef WEIR_ENGINE_H
#define WEIR_ENGINE_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

struct piece;
struct weir_address;
struct weir_listener;
struct weir_loop;
struct weir_operation;
struct weir_stream;

enum { ENGINE_PENDING = INT_MIN };

// A completion's identity in 64 bits: operation (8) | auxiliary (8) | generation (24) | slot (24).
// A slot belongs to a stream, a listener or a weir_operation, as the operation tells.
enum operation {
    OPERATION_NONE, // engine's own business
    OPERATION_ACCEPT,
    OPERATION_RECEIVE,
    OPERATION_SEND,
    OPERATION_CONNECT,
    OPERATION_SHUTDOWN,
    OPERATION_CLOSE,
    OPERATION_CANCEL,
    OPERATION_FILE,
    OPERATION_INSTALL, // engine's own
};

enum {
    TOKEN_SLOT_BITS = 24,
    TOKEN_GENERATION_BITS = 24,
    TOKEN_AUXILIARY_SHIFT = 48,
    TOKEN_OPERATION_SHIFT = 56,
};

enum completion_flag {
    COMPLETION_MORE = 1,     // the operation goes on: further completions will come
    COMPLETION_BUFFER = 2,   // `buffer` holds `result` bytes; the core returns it to the pool
    COMPLETION_DIRECT = 4,   // accept: the result is an index of the ring's table
    COMPLETION_NONEMPTY = 8, // receive: more is waiting in the socket
    COMPLETION_LATE = 16,    // send: it ended when it was submitted, and is only told now
};

// In the auxiliary part of an ACCEPT token, beside the index.
enum { ACCEPT_DIRECT = 0x80 };

struct completion {
    uint64_t token;
    int32_t result; // a count, a descriptor, or -errno
    uint16_t flags;
    uint16_t buffer;
};

enum file_kind { FILE_READ, FILE_WRITE, FILE_OPEN, FILE_JOB, FILE_JOB_BACKGROUND };

struct engine {
    const char *name;

    // Sets loop->engine_state. `argument` comes from loop_create_on. Writes loop->plan. The
    // buffer pool (loop->pool) is ready; its free buffers are the engine's to receive into.
    int (*init)(struct weir_loop *loop, void *argument);
    // Nothing is in flight any more, or the engine broke (loop->failed): then it ends what is.
    void (*fini)(struct weir_loop *loop);

    // Submits, waits for a completion until deadline_ns (CLOCK_MONOTONIC; 0: does not wait), fills
    // loop->completions. Returns their number, or -errno if the engine is broken and everything
    // that completed before was returned. EINTR is 0.
    int (*flush)(struct weir_loop *loop, uint64_t deadline_ns);

    // One accept into listener->peers[index] and peer_sizes[index]; ACCEPT completes with the
    // descriptor (close-on-exec, or direct) and auxiliary = index. A non-blocking descriptor where
    // the engine wants one.
    void (*accept)(struct weir_loop *loop, struct weir_listener *listener, uint32_t index);
    // Cancels all accepts: each completes (-ECANCELED, or a connection that won the race). The
    // descriptor stays open until the core closes it, after the last one.
    void (*accept_cancel)(struct weir_loop *loop, struct weir_listener *listener);

    // Receives up to stream->receive_credit bytes, in as many completions as it takes, each with a
    // buffer; the last has no COMPLETION_MORE. An engine may end early, at any point. 0 is the
    // peer's end, -ENOBUFS: no buffer was free (the core arms again when one is).
    void (*receive)(struct weir_loop *loop, struct weir_stream *stream);
    // Ends an armed receive. 0: ended now, no completion follows. ENGINE_PENDING: its last
    // completion follows, perhaps after some with data.
    int (*receive_cancel)(struct weir_loop *loop, struct weir_stream *stream);

    // Whether send() shall take the first file range of the queue from its file, when it comes to
    // the head; false: its next part is read ahead into memory. Asked before each send, unless a
    // part is being read. NULL: always.
    bool (*sends_file)(struct weir_loop *loop, struct weir_stream *stream, struct piece *range);

    // Sends from the head of the queue (send_gather). Called once per turn and stream, with none in
    // flight. A result or SEND completes with the count that the kernel took, > 0, or -errno.
    // ENGINE_PENDING: in flight. SEND may also complete with -EAGAIN: the socket was full.
    int64_t (*send)(struct weir_loop *loop, struct weir_stream *stream);

    // Connects stream->fd to stream->peer_address, or to the unix address given. CONNECT completes.
    void (*connect)(struct weir_loop *loop, struct weir_stream *stream,
                    const struct weir_address *address);

    // SHUT_WR. SHUTDOWN completes.
    void (*shutdown)(struct weir_loop *loop, struct weir_stream *stream);

    // Ends everything in flight on the stream and closes its descriptor, with RST if stream->abort.
    // 0: done, no completion of this stream follows. ENGINE_PENDING: each operation in flight
    // completes, and CLOSE completes; the order is open.
    int (*close)(struct weir_loop *loop, struct weir_stream *stream);

    // operation->kind: read, write (data, size, offset, file) or open (open_how, data = path,
    // offset = directory's descriptor). FILE completes.
    void (*file)(struct weir_loop *loop, struct weir_operation *operation);

    // operation->run on a helper, or at once. The core is told by jobs_done().
    void (*job)(struct weir_loop *loop, struct weir_operation *operation);

    // Any thread: makes flush return soon.
    void (*wake)(struct weir_loop *loop);
};

extern const struct engine engine_uring;
extern const struct engine engine_epoll;
extern const struct engine engine_blocking;
extern const struct engine engine_broken; // in the place of one that broke, while its loop ends

#endif
