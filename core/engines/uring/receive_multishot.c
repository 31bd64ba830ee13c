// Receiving by one multishot operation per credit (Linux 6.17): the kernel picks a buffer for each
// completion and stops by itself when the credit is used up, so that backpressure needs no cancel.
// As a bundle it picks as many buffers for one completion as there are bytes and credit for.
#include "uring.h"

#include <sys/socket.h>

static struct io_uring_sqe *receive_multishot_sqe(struct weir_stream *stream)
{
    struct io_uring_sqe *sqe = uring_stream_sqe(stream, OPERATION_RECEIVE);
    sqe->opcode = IORING_OP_RECV;
    sqe->ioprio = IORING_RECV_MULTISHOT;
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = URING_BUFFER_GROUP;
    // A receive fills its buffer whatever is left of the credit, so with one byte it is the last.
    uapi_receive_caps(sqe, 0, stream->writes_now ? 1 : stream->receive_credit);
    return sqe;
}

void uring_receive_multishot(struct weir_loop *loop, struct weir_stream *stream)
{
    (void)loop;
    stream->engine_bits &= ~(uint32_t)URING_RECEIVE_BUNDLE;
    receive_multishot_sqe(stream);
}

void uring_receive_bundle(struct weir_loop *loop, struct weir_stream *stream)
{
    if (stream->receive_credit <= loop->pool.size) {
        uring_receive_multishot(loop, stream);
        return;
    }
    struct io_uring_sqe *sqe = receive_multishot_sqe(stream);
    sqe->ioprio |= IORING_RECVSEND_BUNDLE;
    sqe->user_data |= URING_BUNDLE;
    stream->engine_bits |= URING_RECEIVE_BUNDLE;
}

// Of either: a stream may become one of the other kind while it is armed.
int uring_receive_multishot_cancel(struct weir_loop *loop, struct weir_stream *stream)
{
    struct io_uring_sqe *sqe = uring_stream_sqe(stream, OPERATION_CANCEL);
    sqe->opcode = IORING_OP_ASYNC_CANCEL;
    sqe->fd = -1;
    sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
    sqe->addr = loop_token(loop, OPERATION_RECEIVE, 0, stream->slot);
    if (stream->engine_bits & URING_RECEIVE_BUNDLE)
        sqe->addr |= URING_BUNDLE;
    return ENGINE_PENDING;
}
