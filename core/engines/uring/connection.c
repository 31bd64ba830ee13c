// Connecting and ending connections.
#include "uring.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

// As long as an address of IPv4. The family would do for TCP; but Landlock's rule on connecting, as
// Linux 6.7 brought it, refuses what is too short to hold a port, and there the reset would be
// none.
static const struct sockaddr_in uring_nowhere = { .sin_family = AF_UNSPEC };

void uring_connect(struct weir_loop *loop, struct weir_stream *stream,
                   const struct weir_address *address)
{
    struct uring *uring = uring_of(loop);
    const void *target = &stream->peer_address;
    if (address->any.sa_family == AF_UNIX) {
        // A path does not fit into the stream's record; the kernel copies it from the batch's.
        uring_room(loop);
        if (uring->connects_used == URING_UNIX_CONNECTS_MAX)
            uring_submit_early(loop);
        target = &uring->connects[uring->connects_used];
        uring->connects[uring->connects_used++] = address->un;
    }
    struct io_uring_sqe *sqe = uring_stream_sqe(stream, OPERATION_CONNECT);
    sqe->opcode = IORING_OP_CONNECT;
    sqe->addr = (uint64_t)(uintptr_t)target;
    sqe->off = address->size;
}

// The kernel always does this in a worker thread, so it is for real half-closes only: closing the
// descriptor sends the end as well.
void uring_shutdown(struct weir_loop *loop, struct weir_stream *stream)
{
    struct io_uring_sqe *sqe = uring_stream_sqe(stream, OPERATION_SHUTDOWN);
    sqe->opcode = IORING_OP_SHUTDOWN;
    sqe->len = SHUT_WR;
    stats_add(loop, worker_punts, 1);
}

static void uring_cancel_all(struct weir_stream *stream)
{
    struct io_uring_sqe *sqe = uring_stream_sqe(stream, OPERATION_CANCEL);
    sqe->opcode = IORING_OP_ASYNC_CANCEL;
    // The descriptor is the key here, not the target: the flag for it is the cancel's own.
    sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
    sqe->cancel_flags = IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_ALL;
    if (stream->direct)
        sqe->cancel_flags |= IORING_ASYNC_CANCEL_FD_FIXED;
}

// Connecting to nowhere dissolves a TCP connection with a reset; it works on direct descriptors and
// on every kernel, which setting SO_LINGER does not. Other sockets refuse it, which does no harm.
static void uring_reset(struct weir_stream *stream)
{
    struct io_uring_sqe *sqe = uring_stream_sqe(stream, OPERATION_CANCEL);
    sqe->opcode = IORING_OP_CONNECT;
    sqe->addr = (uint64_t)(uintptr_t)&uring_nowhere;
    sqe->off = sizeof uring_nowhere;
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
}

int uring_close(struct weir_loop *loop, struct weir_stream *stream)
{
    // Cancel and close in one batch: the end goes out at once, what was cancelled completes later.
    // Close alone would send nothing while a receive is armed.
    bool pending = stream->inflight > 0;
    // The end goes out when the last descriptor is closed.
    if (stream->engine_descriptor) {
        loop->system->close(loop->system_state, stream->engine_descriptor - 1);
        stats_add(loop, enters, 1);
        stream->engine_descriptor = 0;
    }
    if (pending)
        uring_cancel_all(stream);
    if (stream->abort)
        uring_reset(stream);
    enum operation operation = pending ? OPERATION_CLOSE : OPERATION_CANCEL;
    struct io_uring_sqe *sqe = uring_sqe(loop, operation, 0, stream->slot);
    sqe->opcode = IORING_OP_CLOSE;
    if (stream->direct)
        sqe->file_index = (uint32_t)stream->fd + 1;
    else
        sqe->fd = stream->fd;
    if (pending)
        return ENGINE_PENDING;
    // Nothing names the stream any more. The kernel closes while it takes the batch, and before it
    // takes what follows: for the core, the stream is over now.
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    return 0;
}
