// One-shot accepts, LISTENER_ACCEPTS of them armed per listener: each has room for its peer's
// address, which a multishot accept has not, and the number of connections taken is exact.
#include "uring.h"

#include <sys/socket.h>

void uring_accept(struct weir_loop *loop, struct weir_listener *listener, uint32_t index)
{
    struct uring *uring = uring_of(loop);
    bool direct = uring->plan.direct && !listener->config.socket.ordinary_descriptor;
    struct io_uring_sqe *sqe =
        uring_sqe(loop, OPERATION_ACCEPT, direct ? index | ACCEPT_DIRECT : index, listener->slot);
    listener->peer_sizes[index] = sizeof listener->peers[index];
    sqe->opcode = IORING_OP_ACCEPT;
    sqe->fd = listener->fd;
    sqe->addr = (uint64_t)(uintptr_t)&listener->peers[index];
    sqe->addr2 = (uint64_t)(uintptr_t)&listener->peer_sizes[index];
    if (direct)
        sqe->file_index = IORING_FILE_INDEX_ALLOC; // the kernel chooses; CLOEXEC would be -EINVAL
    else
        sqe->accept_flags = SOCK_CLOEXEC;
    if (uring->plan.sendfile)
        sqe->accept_flags |= SOCK_NONBLOCK; // the ring's operations wait all the same
}

void uring_accept_cancel(struct weir_loop *loop, struct weir_listener *listener)
{
    struct io_uring_sqe *sqe = uring_sqe(loop, OPERATION_CANCEL, 0, listener->slot);
    sqe->opcode = IORING_OP_ASYNC_CANCEL;
    sqe->fd = listener->fd;
    sqe->cancel_flags = IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_ALL;
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
}
