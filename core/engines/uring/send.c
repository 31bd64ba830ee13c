// One send in flight per stream, with everything that stands in its queue.
//
// A send tries once first (MSG_DONTWAIT): it ends while it is submitted, whatever the peer does.
// Where nobody waits for its end it is quiet: with MSG_WAITALL a short send counts as failed, and
// with IOSQE_CQE_SKIP_SUCCESS only a failed one posts a completion. So the enter that submits it
// can wait for the next event, and what the socket did not take ends that wait. turn.c tells the
// core of those that succeeded.
//
// Where the socket was full, the next send lets the kernel wait for room. It takes what there is
// room for then and completes: with MSG_WAITALL it would show no progress until its last byte, and
// a slow but steady reader would look like a silent one to every time-out. A stream whose peer
// keeps up goes back to trying.
#include "uring.h"

#include <sys/socket.h>

static struct iovec *uring_iovecs(struct weir_loop *loop)
{
    struct uring *uring = uring_of(loop);
    uring_room(loop);
    if (uring->iovecs_used + SEND_PIECES_MAX > URING_IOVECS_MAX ||
        uring->messages_used == URING_MESSAGES_MAX)
        uring_submit_early(loop);
    return &uring->iovecs[uring->iovecs_used];
}

// Whether nothing waits for the end of this send: then the loop may sleep over it. Its memory is
// given back when the next event comes.
static bool uring_send_can_be_quiet(const struct weir_stream *stream, size_t size)
{
    const struct uring *uring = uring_of(stream->loop);
    return uring->plan.quiet && !stream->send_slow && stream->state == STREAM_OPEN &&
           !stream->want_end && !stream->above_high && size == stream->queued &&
           uring->quiet_count < URING_QUIET_MAX;
}

static void uring_send_quietly(struct weir_loop *loop, struct weir_stream *stream,
                               struct io_uring_sqe *sqe)
{
    struct uring *uring = uring_of(loop);
    unsigned index = (uring->quiet_first + uring->quiet_count++) % URING_QUIET_MAX;
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe->msg_flags |= MSG_WAITALL;
    stream->engine_bits |= URING_SEND_QUIET;
    uring->quiet[index] =
        (struct uring_quiet){ .token = sqe->user_data, .tail = uring->ring.sq.sqe_tail };
}

static int64_t uring_send_memory(struct weir_loop *loop, struct weir_stream *stream)
{
    struct uring *uring = uring_of(loop);
    struct iovec *iovecs = uring_iovecs(loop);
    size_t size;
    uint32_t count = send_gather(stream, iovecs, SEND_PIECES_MAX, SEND_BYTES_MAX, &size);
    struct io_uring_sqe *sqe = uring_stream_sqe(stream, OPERATION_SEND);
    sqe->msg_flags = MSG_NOSIGNAL | (stream->send_slow ? 0 : MSG_DONTWAIT);
    if (stream->queued > size)
        sqe->msg_flags |= MSG_MORE; // a head and the file behind it share their segments
    if (uring_send_can_be_quiet(stream, size))
        uring_send_quietly(loop, stream, sqe);
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
    return ENGINE_PENDING;
}

int64_t uring_send(struct weir_loop *loop, struct weir_stream *stream)
{
    struct piece *head = stream->pieces.first;
    while (!head->size)
        head = head->next; // reserved, and nothing committed
    return head->kind == PIECE_FILE ? uring_send_file(loop, stream, head)
                                    : uring_send_memory(loop, stream);
}
