// One send in flight per stream, with everything that stands in its queue. MSG_WAITALL makes the
// kernel go on after a partial send, so that a short result means an error is waiting.
#include "uring.h"

#include <sys/socket.h>

static struct iovec *uring_iovecs(struct weir_loop *loop)
{
    struct uring *uring = uring_of(loop);
    if (uring->iovecs_used + SEND_PIECES_MAX > URING_IOVECS_MAX ||
        uring->messages_used == URING_MESSAGES_MAX)
        uring_submit_early(loop);
    return &uring->iovecs[uring->iovecs_used];
}

int64_t uring_send(struct weir_loop *loop, struct weir_stream *stream)
{
    struct uring *uring = uring_of(loop);
    struct iovec *iovecs = uring_iovecs(loop);
    size_t size;
    uint32_t count = send_gather(stream, iovecs, SEND_PIECES_MAX, SEND_BYTES_MAX, &size);
    struct io_uring_sqe *sqe = uring_stream_sqe(stream, OPERATION_SEND);
    sqe->msg_flags = MSG_WAITALL | MSG_NOSIGNAL;
    if (count == 1) {
        sqe->opcode = IORING_OP_SEND;
        sqe->addr = (uint64_t)(uintptr_t)iovecs->iov_base;
        sqe->len = (uint32_t)size;
    } else {
        struct msghdr *message = &uring->messages[uring->messages_used++];
        *message = (struct msghdr){ .msg_iov = iovecs, .msg_iovlen = count };
        uring->iovecs_used += count;
        sqe->opcode = IORING_OP_SENDMSG;
        sqe->addr = (uint64_t)(uintptr_t)message;
        sqe->len = 1;
    }
    stream->send_size = (uint32_t)size;
    uring->inline_expected += !stream->send_slow;
    return ENGINE_PENDING;
}
