// Private: what engines share that act at once by a system call of their own: epoll and blocking.
//
// They differ in how they wait; how they accept, receive, send, connect, close and touch files is
// here. A result that is known inside a hook, but may only be told by flush(), waits in the early
// queue. Its bound: a slot is not given back before all of its completions were told, and none has
// more than IMMEDIATE_EARLY_MAX of them.
#ifndef WEIR_IMMEDIATE_H
#define WEIR_IMMEDIATE_H

#include "../loop.h"

enum {
    IMMEDIATE_EARLY_MAX = LISTENER_ACCEPTS,  // completions of one slot that wait at once
    IMMEDIATE_SOURCE_MAX = LISTENER_ACCEPTS, // completions that one ready source adds at most
    IMMEDIATE_BULK = 4,                      // buffers of one receive
    // Received bytes of a flush: they are sent on from the second-level cache, not from the third.
    IMMEDIATE_BYTES_MAX = 128 * 1024,
};

// Bits of stream->engine_bits. The first two equal EPOLLIN, EPOLLOUT, POLLIN and POLLOUT.
enum immediate_bit {
    IMMEDIATE_RECEIVING = 1, // a receive is armed
    IMMEDIATE_SENDING = 4,   // a send, or a connect, waits for room
    IMMEDIATE_INTEREST = IMMEDIATE_RECEIVING | IMMEDIATE_SENDING,
    IMMEDIATE_CONNECTING = 8,  // what waits is a connect
    IMMEDIATE_SHORT = 16,      // the last send was short: the socket is full
    IMMEDIATE_BULKY = 32,      // the last receive filled its buffers: offer several
    IMMEDIATE_ENGINE_SHIFT = 8 // from here on, the bits are the single engine's
};

// Bits of listener->engine_bits: the armed indexes, and above them the single engine's.
enum { IMMEDIATE_ACCEPTS = (1 << LISTENER_ACCEPTS) - 1 };

// The first member of either engine's state.
struct immediate {
    struct completion *early; // [early_first, early_count) are known before the next flush
    uint32_t early_first, early_count;
    uint32_t count;     // completions of this flush so far
    size_t bytes;       // that they carry
    bool holds_buffers; // some of them carry a buffer, which may be free again after this turn
    int wake_fd;        // an eventfd; written by any thread
    enum system_signal pipe_signal;
};

static inline struct immediate *immediate_of(struct weir_loop *loop)
{
    return loop->engine_state;
}

// What wakes a loop, from any thread: a descriptor, or -errno.
int immediate_wake_open(void);
// Zeroes and prepares the state, of `size` bytes, and sets loop->engine_state. On success the loop
// owns what wakes it, *wake_fd if that is not NULL; on failure the caller still does.
int immediate_init(struct weir_loop *loop, size_t size, const int *wake_fd);
void immediate_fini(struct weir_loop *loop);

// Starts a flush: tells what is early, at most half of a turn's completions.
void immediate_begin(struct weir_loop *loop);
// Whether one more ready source can be served by this flush. What is not served stays ready.
bool immediate_has_room(const struct weir_loop *loop);
// Adds a completion to this flush, or to the next one from within a hook.
void immediate_complete(struct weir_loop *loop, uint64_t token, int64_t result, uint32_t flags,
                        uint16_t buffer);
void immediate_early(struct weir_loop *loop, enum operation operation, uint32_t auxiliary,
                     uint32_t slot, int64_t result);

// Receives once and completes what came. Nothing there: stays armed. `flags` are those of recv(2).
void immediate_receive(struct weir_loop *loop, struct weir_stream *stream, int flags);
int immediate_receive_cancel(struct weir_loop *loop, struct weir_stream *stream);

// Sends once: the count that the kernel took, or -errno; -EAGAIN: no room.
int64_t immediate_send(struct weir_loop *loop, struct weir_stream *stream, int flags);
// The socket has room, or failed: sends, or ends the connect, and completes that.
void immediate_writable(struct weir_loop *loop, struct weir_stream *stream);

// Accepts into each armed index until none is left or nobody waits.
void immediate_accept(struct weir_loop *loop, struct weir_listener *listener, int flags);
void immediate_accept_cancel(struct weir_loop *loop, struct weir_listener *listener);

// 0 or -errno; -EINPROGRESS: the stream is IMMEDIATE_CONNECTING, and the engine waits for room
// (IMMEDIATE_SENDING). The descriptor is non-blocking.
int immediate_connect(struct weir_loop *loop, struct weir_stream *stream,
                      const struct weir_address *address);

void immediate_shutdown(struct weir_loop *loop, struct weir_stream *stream);
int immediate_close(struct weir_loop *loop, struct weir_stream *stream);
void immediate_wake(struct weir_loop *loop);

// A file operation by system calls that may wait for the disk; the result is as FILE completes.
int immediate_file(struct weir_operation *operation);
// The same without waiting; -EAGAIN: not all of it could be done. operation->result counts the
// bytes that were, and immediate_file() goes on from there.
int immediate_file_try(struct weir_loop *loop, struct weir_operation *operation);

#endif
