// Receiving by one operation per buffer, for kernels without a bound on multishot receives (before
// 6.17): there, a multishot could only be stopped by a cancel that comes too late.
#include "uring.h"

#include <sys/socket.h>

void uring_receive_oneshot(struct weir_loop *loop, struct weir_stream *stream)
{
    (void)loop;
    struct io_uring_sqe *sqe = uring_stream_sqe(stream, OPERATION_RECEIVE);
    sqe->opcode = IORING_OP_RECV;
    // The last receive left nothing behind: wait first, do not try first.
    if (!stream->receive_nonempty)
        sqe->ioprio = IORING_RECVSEND_POLL_FIRST;
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = URING_BUFFER_GROUP;
}

// Not worth a cancel: it brings one buffer at most, and that is kept until the stream resumes.
int uring_receive_oneshot_cancel(struct weir_loop *loop, struct weir_stream *stream)
{
    (void)loop;
    (void)stream;
    return ENGINE_PENDING;
}
