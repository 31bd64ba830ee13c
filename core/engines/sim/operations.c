// The operations on sockets. Each has a part that copies what the kernel copies at submission, and
// one that makes an attempt.
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "kernel.h"

static void *operations_pointer(uint64_t address)
{
    return (void *)(uintptr_t)address;
}

static struct sim_socket *operations_socket(const struct sim_operation *operation)
{
    return container_of(operation->object, struct sim_socket, object);
}

static int operations_check_socket(const struct sim_operation *operation)
{
    return operation->object->kind == SIM_SOCKET ? 0 : -ENOTSOCK;
}

static bool operations_ready_to_read(struct sim *sim, const struct sim_operation *operation)
{
    (void)sim;
    return sim_socket_readable(operations_socket(operation));
}

static bool operations_ready_to_write(struct sim *sim, const struct sim_operation *operation)
{
    (void)sim;
    return sim_socket_writable(operations_socket(operation));
}

// UNTESTED: for operations that never wait
static bool operations_never_ready(struct sim *sim, const struct sim_operation *operation)
{
    (void)sim;
    (void)operation;
    return false;
}

// --- Accept --------------------------------------------------------------------------------------

static int operations_prepare_accept(struct sim *sim, struct sim_operation *operation,
                                     const struct io_uring_sqe *sqe)
{
    (void)sim;
    if (sqe->ioprio || !sqe->addr || !sqe->addr2)
        return -EINVAL; // UNTESTED: multishot and without an address: not simulated
    operation->direct = sqe->file_index != 0;
    if (operation->direct &&
        (sqe->file_index != IORING_FILE_INDEX_ALLOC || sqe->accept_flags & SOCK_CLOEXEC))
        return -EINVAL; // UNTESTED: the engine never asks for that
    operation->non_blocking = sqe->accept_flags & SOCK_NONBLOCK;
    operation->ret_address = operations_pointer(sqe->addr);
    operation->ret_address_size = operations_pointer(sqe->addr2);
    return operations_check_socket(operation);
}

// What accept(2) may answer for a connection that died, or for want of something.
static int operations_accept_error(struct sim *sim)
{
    static const int errors[] = { EMFILE, ENFILE,   ECONNABORTED, ENOMEM,      ENOBUFS,   EPROTO,
                                  EPERM,  ENETDOWN, EHOSTUNREACH, ENOPROTOOPT, EHOSTDOWN, ENONET };
    return -errors[sim_random(sim, sizeof errors / sizeof *errors)];
}

// io_file_bitmap_get(): from the place that was given back last.
static int operations_install(struct sim *sim, struct sim_object *object)
{
    struct sim_ring *ring = sim->ring;
    for (uint32_t i = 0; i < ring->files_count; i++) {
        uint32_t index = (ring->files_hint + i) % ring->files_count;
        if (ring->files[index])
            continue;
        ring->files[index] = object;
        ring->files_hint = index + 1;
        return (int)index;
    }
    // UNTESTED: the table has room for more than a loop has streams
    sim_object_release(object); // the connection is lost
    return -ENFILE;             // UNTESTED: as above
}

static void operations_tell_address(const struct sim_operation *operation,
                                    const struct weir_address *address)
{
    socklen_t room = *operation->ret_address_size;
    memcpy(operation->ret_address, &address->any, address->size < room ? address->size : room);
    *operation->ret_address_size = address->size;
}

// io_accept(): an ordinary descriptor is reserved before the connection is taken, a direct one
// after.
static int operations_accept(struct sim *sim, struct sim_operation *operation)
{
    struct sim_socket *listener = operations_socket(operation);
    if (sim_strikes(sim, SIM_ACCEPT_ERROR))
        return operations_accept_error(sim);
    if (listener->state != SIM_SOCKET_LISTENING)
        return -EINVAL; // UNTESTED: the engine never asks for that
    if (!operation->direct && sim_descriptors_full(sim))
        return -EMFILE;
    struct sim_socket *socket = sim_socket_accept(listener);
    if (!socket)
        return SIM_AGAIN;
    socket->non_blocking = operation->non_blocking;
    operations_tell_address(operation, &socket->remote);
    return operation->direct ? operations_install(sim, &socket->object)
                             : sim_descriptor_open(sim, &socket->object);
}

// --- Receive -------------------------------------------------------------------------------------

static int operations_prepare_receive(struct sim *sim, struct sim_operation *operation,
                                      const struct io_uring_sqe *sqe)
{
    (void)sim;
    const unsigned known =
        IORING_RECV_MULTISHOT | IORING_RECVSEND_POLL_FIRST | IORING_RECVSEND_BUNDLE;
    if (sqe->ioprio & ~known || !(sqe->flags & IOSQE_BUFFER_SELECT) || sqe->msg_flags)
        return -EINVAL; // UNTESTED: the engine never asks for that
    operation->multishot = sqe->ioprio & IORING_RECV_MULTISHOT;
    operation->poll_first = sqe->ioprio & IORING_RECVSEND_POLL_FIRST;
    operation->bundle = sqe->ioprio & IORING_RECVSEND_BUNDLE;
    // io_recvmsg_prep(): the caps belong to multishots.
    if (!operation->multishot && sqe->optlen)
        return -EINVAL; // UNTESTED: the engine never asks for that
    operation->each = sqe->len;
    operation->total = sqe->optlen;
    operation->total_capped = sqe->optlen != 0;
    if (operation->bundle && (!operation->total_capped || operation->each))
        return -EINVAL; // UNTESTED: the engine never asks for that
    return operations_check_socket(operation);
}

// io_recv_finish(): whether the multishot goes on after `size` bytes.
static bool operations_receive_goes_on(struct sim *sim, struct sim_operation *operation,
                                       uint32_t size)
{
    if (!operation->multishot || sim_strikes(sim, SIM_MULTISHOT_END))
        return false;
    // UNTESTED: the engine always caps a multishot
    if (!operation->total_capped)
        return true;
    operation->total -= size < operation->total ? size : operation->total;
    return operation->total > 0;
}

// io_recv_buf_select(): a bundle is for what there is credit for, and from its second receive on
// for what there is to receive.
static uint32_t operations_select(struct sim_operation *operation, struct iovec *ret_iovecs)
{
    const struct sim_ring *ring = operation->sim->ring;
    size_t most = operation->total, there = operations_socket(operation)->in.size;
    if (!operation->bundle)
        return sim_buffer_select(ring, ret_iovecs);
    if (operation->has_received && there > 1 && there < most)
        most = there;
    return sim_buffer_select_bundle(ring, most, ret_iovecs);
}

static size_t operations_receive_size(struct sim *sim, const struct sim_operation *operation,
                                      const struct iovec *iovecs, uint32_t count)
{
    const struct sim_socket *socket = operations_socket(operation);
    size_t size = 0;
    for (uint32_t i = 0; i < count; i++)
        size += iovecs[i].iov_len;
    // UNTESTED: the engine caps the sum alone
    if (operation->each && operation->each < size)
        size = operation->each;
    if (socket->in.size && socket->in.size < size)
        size = socket->in.size;
    if (sim->faults.receive_max && sim->faults.receive_max < size)
        size = sim->faults.receive_max;
    return sim_shortened(sim, SIM_SHORT_RECEIVE, size);
}

// Fills the buffers one after the other; returns a count or an error, and how many have bytes.
static int64_t operations_read(struct sim_socket *socket, const struct iovec *iovecs, size_t size,
                               uint32_t *ret_used)
{
    size_t total = 0;
    uint32_t used = 0;
    do {
        size_t part = iovecs[used].iov_len < size - total ? iovecs[used].iov_len : size - total;
        int64_t result = sim_socket_read(socket, iovecs[used].iov_base, part);
        if (result <= 0)
            return result; // the first: nothing takes bytes away in between
        total += (size_t)result;
        used++;
    } while (total < size);
    *ret_used = used;
    return (int64_t)total;
}

// One receive. SIM_REQUEUE: its completion was posted, and there may be more.
static int operations_receive_once(struct sim *sim, struct sim_operation *operation)
{
    struct sim_socket *socket = operations_socket(operation);
    struct iovec iovecs[SIM_BUNDLE_MAX];
    uint32_t used = 0, count = operations_select(operation, iovecs);
    // The buffer is chosen first: without one it fails, whether bytes are there or not.
    if (!count || sim_strikes(sim, SIM_NO_BUFFERS))
        return -ENOBUFS;
    size_t size = operations_receive_size(sim, operation, iovecs, count);
    int64_t result = operations_read(socket, iovecs, size, &used);
    if (result == -EAGAIN)
        return SIM_AGAIN;
    if (result <= 0) {
        if (sim_strikes(sim, SIM_BUFFER_WITH_END))
            operation->completion_flags = sim_buffer_take(sim->ring, 1);
        return (int)result;
    }
    operation->has_received = true;
    sim->counts.bundles += used > 1;
    sim->counts.bundles_of_cut += used > 1 && iovecs[0].iov_len < iovecs[1].iov_len;
    uint32_t flags = sim_buffer_take(sim->ring, used);
    flags |= socket->in.size ? IORING_CQE_F_SOCK_NONEMPTY : 0;
    if (operations_receive_goes_on(sim, operation, (uint32_t)result) &&
        sim_operation_post(operation, (int)result, flags))
        return SIM_REQUEUE;
    operation->completion_flags = flags;
    return (int)result;
}

static int operations_receive(struct sim *sim, struct sim_operation *operation)
{
    if (operation->poll_first) {
        operation->poll_first = false;
        return SIM_AGAIN;
    }
    if (operation->multishot && sim_strikes(sim, SIM_MULTISHOT_END_BARE))
        return -ECANCELED;
    int result = SIM_REQUEUE;
    // A capped or long multishot lets others run (MULTISHOT_MAX_RETRY, IOU_REQUEUE).
    for (int loops = 0; loops < SIM_MULTISHOT_LOOPS && result == SIM_REQUEUE; loops++) {
        result = operations_receive_once(sim, operation);
        // UNTESTED: the engine caps the sum alone
        if (operation->each)
            break;
    }
    return result;
}

// --- Send ----------------------------------------------------------------------------------------

static size_t operations_sum(const struct sim_operation *operation)
{
    size_t sum = 0;
    for (uint32_t i = 0; i < operation->iovecs_count; i++)
        sum += operation->iovecs[i].iov_len;
    return sum;
}

static int operations_prepare_send(struct sim *sim, struct sim_operation *operation,
                                   const struct io_uring_sqe *sqe)
{
    (void)sim;
    operation->one = (struct iovec){ operations_pointer(sqe->addr), sqe->len };
    operation->iovecs_count = 1;
    operation->size = sqe->len;
    operation->message_flags = (int)sqe->msg_flags;
    operation->no_wait = sqe->msg_flags & MSG_DONTWAIT;
    return sqe->ioprio ? -EINVAL : operations_check_socket(operation);
}

// io_sendmsg_copy_hdr(): header and iovecs are copied, the bytes are not.
static int operations_prepare_send_message(struct sim *sim, struct sim_operation *operation,
                                           const struct io_uring_sqe *sqe)
{
    const struct msghdr *message = operations_pointer(sqe->addr);
    int error = operations_prepare_send(sim, operation, sqe);
    // UNTESTED: the engine never asks for that
    if (error)
        return error;
    if (message->msg_iovlen > UIO_MAXIOV || message->msg_controllen || message->msg_namelen)
        return -EINVAL; // UNTESTED: the engine never asks for that
    operation->iovecs = sim_allocate(message->msg_iovlen + 1, sizeof(struct iovec));
    memcpy(operation->iovecs, message->msg_iov, message->msg_iovlen * sizeof(struct iovec));
    operation->iovecs_count = (uint32_t)message->msg_iovlen;
    operation->size = operations_sum(operation);
    return 0;
}

// At most `most` bytes from where the send stands.
static int64_t operations_write(struct sim_operation *operation, size_t most)
{
    size_t skip = operation->done, total = 0;
    for (uint32_t i = 0; i < operation->iovecs_count && total < most; i++) {
        const struct iovec *iovec = &operation->iovecs[i];
        // UNTESTED: a send has one attempt, as the engine asks for no other
        if (skip >= iovec->iov_len) {
            skip -= iovec->iov_len;
            continue;
        }
        size_t part = iovec->iov_len - skip < most - total ? iovec->iov_len - skip : most - total;
        int64_t count = sim_socket_write(operations_socket(operation),
                                         (const char *)iovec->iov_base + skip, part);
        if (count < 0)
            return total ? (int64_t)total : count;
        total += (size_t)count;
        if ((size_t)count < part)
            break;
        skip = 0;
    }
    return (int64_t)total;
}

// io_send(): with MSG_WAITALL a part is not the end; an error after a part is told as the part.
static int operations_send(struct sim *sim, struct sim_operation *operation)
{
    size_t left = operation->size - operation->done;
    // A kernel short of memory for packets takes nothing at all (sk_stream_wait_memory).
    if (operation->no_wait && sim_strikes(sim, SIM_SEND_REFUSED))
        return -EAGAIN;
    int64_t count = operations_write(operation, sim_shortened(sim, SIM_SHORT_SEND, left));
    if (count == -EAGAIN)
        return operation->no_wait ? -EAGAIN : SIM_AGAIN;
    if (count < 0)
        return operation->done ? (int)operation->done : (int)count;
    operation->done += (size_t)count;
    if (operation->done == operation->size || !(operation->message_flags & MSG_WAITALL))
        return (int)operation->done;
    // UNTESTED: the engine sends without waiting
    if (!operation->no_wait)
        return SIM_AGAIN;
    operation->failed = true; // not all of what was asked for
    return (int)operation->done;
}

// --- Connect and the ends ------------------------------------------------------------------------

static int operations_prepare_connect(struct sim *sim, struct sim_operation *operation,
                                      const struct io_uring_sqe *sqe)
{
    (void)sim;
    operation->address.size = (socklen_t)sqe->off;
    if (sqe->off < sizeof(sa_family_t) || sqe->off > sizeof operation->address.un)
        return -EINVAL; // UNTESTED: the engine never asks for that
    memcpy(&operation->address.un, operations_pointer(sqe->addr), sqe->off);
    // Landlock since Linux 6.7, until it was mended: current_check_access_socket().
    if (operation->address.any.sa_family == AF_UNSPEC && sqe->off < sizeof operation->address.in)
        return -EINVAL; // UNTESTED: the engine never asks for that
    return operations_check_socket(operation);
}

static int operations_connect(struct sim *sim, struct sim_operation *operation)
{
    struct sim_socket *socket = operations_socket(operation);
    (void)sim;
    if (operation->address.any.sa_family == AF_UNSPEC)
        return sim_socket_disconnect(socket);
    if (!operation->connecting) {
        operation->connecting = true;
        int error = sim_socket_connect(socket, &operation->address);
        return error == -EINPROGRESS ? SIM_AGAIN : error;
    }
    // UNTESTED: connects are never late
    if (socket->state == SIM_SOCKET_CONNECTING)
        return SIM_AGAIN;
    int error = socket->error;
    socket->error = 0;
    return error;
}

static bool operations_ready_connected(struct sim *sim, const struct sim_operation *operation)
{
    (void)sim;
    return operations_socket(operation)->state != SIM_SOCKET_CONNECTING;
}

static int operations_prepare_shutdown(struct sim *sim, struct sim_operation *operation,
                                       const struct io_uring_sqe *sqe)
{
    (void)sim;
    (void)operation;
    return sqe->len == SHUT_WR ? 0 : -EINVAL;
}

static int operations_shutdown(struct sim *sim, struct sim_operation *operation)
{
    (void)sim;
    int error = operations_check_socket(operation);
    return error ? error : sim_socket_shutdown(operations_socket(operation));
}

static int operations_prepare_close(struct sim *sim, struct sim_operation *operation,
                                    const struct io_uring_sqe *sqe)
{
    (void)sim;
    operation->direct = sqe->file_index != 0;
    operation->fd = operation->direct ? (int)sqe->file_index - 1 : sqe->fd;
    return operation->direct && sqe->fd ? -EINVAL : 0;
}

static int operations_close_direct(struct sim *sim, uint32_t index)
{
    struct sim_ring *ring = sim->ring;
    if (index >= ring->files_count || !ring->files[index]) {
        // UNTESTED: what this counts is a mistake, and none is left
        sim->counts.bad_closes++;
        return -EBADF; // UNTESTED: the engine never asks for that
    }
    struct sim_object *object = ring->files[index];
    ring->files[index] = NULL;
    ring->files_hint = index; // io_file_bitmap_clear(): the next one is this one
    sim_trace(sim, "closed direct", index, object->references);
    sim_object_release(object);
    return 0;
}

static int operations_close(struct sim *sim, struct sim_operation *operation)
{
    if (operation->direct)
        return operations_close_direct(sim, (uint32_t)operation->fd);
    return sim_descriptor_close(sim, operation->fd);
}

static int operations_prepare_cancel(struct sim *sim, struct sim_operation *operation,
                                     const struct io_uring_sqe *sqe)
{
    (void)sim;
    const unsigned by_fd = IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_ALL;
    operation->cancel_flags = sqe->cancel_flags;
    operation->fd = sqe->fd;
    operation->target = sqe->addr;
    if (sqe->cancel_flags && (sqe->cancel_flags & by_fd) != by_fd)
        return -EINVAL; // UNTESTED: other combinations are not simulated
    return sqe->flags & (IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT) ? -EINVAL : 0;
}

static int operations_cancel(struct sim *sim, struct sim_operation *operation)
{
    return sim_cancel(sim, operation);
}

// --- The table -----------------------------------------------------------------------------------

static const struct sim_opcode operations_accept_row = {
    .name = "accept",
    .prepare = operations_prepare_accept,
    .run = operations_accept,
    .ready = operations_ready_to_read,
    .needs_object = true,
};

static const struct sim_opcode operations_receive_row = {
    .name = "receive",
    .prepare = operations_prepare_receive,
    .run = operations_receive,
    .ready = operations_ready_to_read,
    .needs_object = true,
};

static const struct sim_opcode operations_send_row = {
    .name = "send",
    .prepare = operations_prepare_send,
    .run = operations_send,
    .ready = operations_ready_to_write,
    .needs_object = true,
};

static const struct sim_opcode operations_send_message_row = {
    .name = "send message",
    .prepare = operations_prepare_send_message,
    .run = operations_send,
    .ready = operations_ready_to_write,
    .needs_object = true,
};

static const struct sim_opcode operations_connect_row = {
    .name = "connect",
    .prepare = operations_prepare_connect,
    .run = operations_connect,
    .ready = operations_ready_connected,
    .needs_object = true,
    .at_once = true,
};

// io_shutdown() always returns -EAGAIN to a submitter that must not block.
static const struct sim_opcode operations_shutdown_row = {
    .name = "shutdown",
    .prepare = operations_prepare_shutdown,
    .run = operations_shutdown,
    .ready = operations_never_ready,
    .needs_object = true,
    .worker = true,
};

static const struct sim_opcode operations_close_row = {
    .name = "close",
    .prepare = operations_prepare_close,
    .run = operations_close,
    .ready = operations_never_ready,
    .at_once = true,
};

static const struct sim_opcode operations_cancel_row = {
    .name = "cancel",
    .prepare = operations_prepare_cancel,
    .run = operations_cancel,
    .ready = operations_never_ready,
    .at_once = true,
};

const struct sim_opcode *sim_opcode_find(unsigned opcode)
{
    static const struct sim_opcode *const rows[IORING_OP_LAST] = {
        [IORING_OP_ACCEPT] = &operations_accept_row,
        [IORING_OP_RECV] = &operations_receive_row,
        [IORING_OP_SEND] = &operations_send_row,
        [IORING_OP_SENDMSG] = &operations_send_message_row,
        [IORING_OP_CONNECT] = &operations_connect_row,
        [IORING_OP_SHUTDOWN] = &operations_shutdown_row,
        [IORING_OP_CLOSE] = &operations_close_row,
        [IORING_OP_ASYNC_CANCEL] = &operations_cancel_row,
        [IORING_OP_READ] = &sim_opcode_read,
        [IORING_OP_WRITE] = &sim_opcode_write,
        [IORING_OP_OPENAT2] = &sim_opcode_open,
        [IORING_OP_FIXED_FD_INSTALL] = &sim_opcode_install,
        [IORING_OP_POLL_ADD] = &sim_opcode_poll,
    };
    return opcode < IORING_OP_LAST ? rows[opcode] : NULL;
}
