// Receiving by one multishot operation per credit (Linux 6.17): the kernel picks a buffer for each
// completion and stops by itself when the credit is used up, so that backpressure needs no cancel.
#include "uring.h"

#include <sys/socket.h>

void uring_receive_multishot(struct weir_loop *loop, struct weir_stream *stream)
{
    (void)loop;
    struct io_uring_sqe *sqe = uring_stream_sqe(stream, OPERATION_RECEIVE);
    sqe->opcode = IORING_OP_RECV;
    sqe->ioprio = IORING_RECV_MULTISHOT;
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = URING_BUFFER_GROUP;
    uapi_receive_caps(sqe, 0, stream->receive_credit);
}

int uring_receive_multishot_cancel(struct weir_loop *loop, struct weir_stream *stream)
{
    struct io_uring_sqe *sqe = uring_stream_sqe(stream, OPERATION_CANCEL);
    sqe->opcode = IORING_OP_ASYNC_CANCEL;
    sqe->fd = -1;
    sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
    sqe->addr = loop_token(loop, OPERATION_RECEIVE, 0, stream->slot);
    return ENGINE_PENDING;
}
