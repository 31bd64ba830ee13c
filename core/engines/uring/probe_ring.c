// The probes that need a ring: see probe_ring.h.
#include "probe_ring.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "uapi.h"

enum {
    PROBE_ENTRIES = 8,
    PROBE_BUFFERS = 8,
    PROBE_BUFFER_SIZE = 4096,
    PROBE_WAITING = 20000, // bytes that wait in the socket when the capped receive starts
    PROBE_TIMEOUT_MS = 1000,
    PROBE_END_MS = 20, // until the end of a closed connection reaches its peer
};

// --- Set-up flags --------------------------------------------------------------------------------

// Only the call, without liburing's set-up around it, which adds flags of its own and retries.
static int probe_setup(unsigned flags, struct io_uring_params *ret_params)
{
    struct io_uring_params params = { .flags = flags };
    int fd = io_uring_setup(PROBE_ENTRIES, &params);

    if (fd < 0)
        return fd;
    close(fd);
    *ret_params = params;
    return 0;
}

int probe_ring(void)
{
    struct io_uring_params params;

    return probe_setup(0, &params);
}

static int probe_flags(unsigned flags, const char *instead, char *ret_detail, size_t size)
{
    struct io_uring_params params;
    int error = probe_setup(flags, &params);

    if (error == -EINVAL)
        // UNTESTED: only other kernels answer so
        snprintf(ret_detail, size, "this kernel is too old; %s", instead);
    else if (error)
        // UNTESTED: only other kernels answer so
        snprintf(ret_detail, size, "io_uring_setup: %s", strerror(-error));
    return error;
}

int probe_defer_taskrun(char *ret_detail, size_t size)
{
    return probe_flags(IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
                       "the kernel interrupts the loop for each completion instead", ret_detail,
                       size);
}

int probe_min_wait(char *ret_detail, size_t size)
{
    struct io_uring_params params;
    int error = probe_setup(0, &params);

    // UNTESTED: only other kernels answer so
    if (!error && !(params.features & IORING_FEAT_MIN_TIMEOUT))
        error = -EINVAL;
    // UNTESTED: only other kernels answer so
    if (error == -EINVAL)
        snprintf(ret_detail, size, "this kernel is too old; a loop wakes for each event");
    else if (error)
        // UNTESTED: only other kernels answer so
        snprintf(ret_detail, size, "io_uring_setup: %s", strerror(-error));
    return error;
}

// --- Rings that are used -------------------------------------------------------------------------

// Waits for one completion. A feature that does not answer in time counts as absent.
static int probe_wait(struct io_uring *ring, struct io_uring_cqe *ret_cqe)
{
    struct __kernel_timespec timeout = { .tv_sec = PROBE_TIMEOUT_MS / 1000 };
    struct io_uring_cqe *cqe;
    int error = io_uring_wait_cqe_timeout(ring, &cqe, &timeout);

    if (error)
        return error; // UNTESTED: only other kernels answer so
    *ret_cqe = *cqe;
    io_uring_cqe_seen(ring, cqe);
    return 0;
}

int probe_buffer_ring(char *ret_detail, size_t size)
{
    struct io_uring_buf_ring *buffers;
    struct io_uring ring;
    int error = io_uring_queue_init(PROBE_ENTRIES, &ring, 0);

    if (error) {
        // UNTESTED: only other kernels answer so
        snprintf(ret_detail, size, "io_uring_setup: %s", strerror(-error));
        return error; // UNTESTED: only other kernels answer so
    }
    buffers = io_uring_setup_buf_ring(&ring, PROBE_BUFFERS, 0, 0, &error);
    if (buffers)
        io_uring_free_buf_ring(&ring, buffers, PROBE_BUFFERS, 0);
    else if (error == -EINVAL) // UNTESTED: only other kernels answer so
        // UNTESTED: only other kernels answer so
        snprintf(ret_detail, size, "this kernel is too old, and weir's io_uring needs it");
    else
        // UNTESTED: only other kernels answer so
        snprintf(ret_detail, size, "registering a buffer ring: %s", strerror(-error));
    io_uring_queue_exit(&ring);
    return buffers ? 0 : error;
}

// --- Direct descriptors --------------------------------------------------------------------------

// Listens on an abstract unix address of the kernel's choice, and connects to it.
static int probe_connect(int listener, int client)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    socklen_t size = sizeof(address);

    if (bind(listener, (struct sockaddr *)&address, sizeof(address.sun_family)) ||
        getsockname(listener, (struct sockaddr *)&address, &size) || listen(listener, 1) ||
        connect(client, (struct sockaddr *)&address, size))
        return -errno;
    return 0;
}

static int probe_accept_direct(struct io_uring *ring, int listener)
{
    struct io_uring_cqe cqe;
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    int error;

    io_uring_prep_accept_direct(sqe, listener, NULL, NULL, 0, IORING_FILE_INDEX_ALLOC);
    error = io_uring_submit(ring);
    if (error >= 0)
        error = probe_wait(ring, &cqe);
    if (!error && cqe.res < 0)
        error = cqe.res; // UNTESTED: only other kernels answer so
    return error;
}

// Puts two sockets into the table, leaves a poll waiting on the first, closes the second, and
// asks its peer whether the end came. Before Linux 6.13 the kernel let go of a table's descriptors
// in the order of all requests that used it: a connection that was closed stayed open to its peer
// until every older receive, of whatever connection, was over.
static int probe_close_direct(struct io_uring *ring, const int idle[2], int closed[2])
{
    const int table[2] = { idle[0], closed[0] };
    struct pollfd end = { .fd = closed[1], .events = POLLIN };
    struct io_uring_cqe cqe;
    struct io_uring_sqe *sqe;
    int error = io_uring_register_files_update(ring, 1, table, 2);

    if (error < 0)
        return error; // UNTESTED: only other kernels answer so
    close(closed[0]);
    closed[0] = -1;
    sqe = io_uring_get_sqe(ring);
    io_uring_prep_poll_add(sqe, 1, POLLIN);
    sqe->flags |= IOSQE_FIXED_FILE;
    io_uring_prep_close_direct(io_uring_get_sqe(ring), 2);
    error = io_uring_submit(ring);
    if (error >= 0)
        error = probe_wait(ring, &cqe);
    if (error)
        return error; // UNTESTED: only other kernels answer so
    if (cqe.res < 0)
        return cqe.res; // UNTESTED: only other kernels answer so
    return poll(&end, 1, PROBE_END_MS) == 1 ? 0 : -ENOTSUP;
}

static int probe_close_direct_of_pairs(struct io_uring *ring)
{
    int idle[2], closed[2];
    int error = -EMFILE;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, idle))
        return error; // UNTESTED: only other kernels answer so
    if (!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, closed)) {
        error = probe_close_direct(ring, idle, closed);
        // UNTESTED: only other kernels leave it open
        if (closed[0] >= 0)
            close(closed[0]);
        close(closed[1]);
    }
    close(idle[0]);
    close(idle[1]);
    return error;
}

static int probe_direct_on_ring(struct io_uring *ring)
{
    int listener = -1, client = -1;
    int error = io_uring_register_files_sparse(ring, 3);

    if (error)
        return error; // UNTESTED: only other kernels answer so
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    error = listener < 0 || client < 0 ? -EMFILE : probe_connect(listener, client);
    if (!error)
        error = probe_accept_direct(ring, listener);
    if (!error)
        error = probe_close_direct_of_pairs(ring);
    if (client >= 0)
        close(client);
    if (listener >= 0)
        close(listener);
    return error;
}

int probe_direct(char *ret_detail, size_t size)
{
    struct io_uring ring;
    int error = io_uring_queue_init(PROBE_ENTRIES, &ring, 0);

    if (!error) {
        error = probe_direct_on_ring(&ring);
        io_uring_queue_exit(&ring);
    }
    if (error == -ENOTSUP)
        // UNTESTED: only other kernels answer so
        snprintf(ret_detail, size,
                 "this kernel ends a connection of the ring's table late; ordinary descriptors are "
                 "used");
    else if (error)
        snprintf(ret_detail, size,
                 "accepting into the ring's table: %s; ordinary descriptors are used",
                 strerror(-error));
    return error;
}

// --- sendfile beside the ring --------------------------------------------------------------------

// A receive on a non-blocking socket must wait for bytes, as on any other.
static int probe_wait_for_bytes(struct io_uring *ring, const int pair[2])
{
    char bytes[2];
    struct io_uring_cqe cqe, *early;
    int error;

    io_uring_prep_recv(io_uring_get_sqe(ring), pair[0], bytes, sizeof(bytes), 0);
    error = io_uring_submit(ring);
    if (error < 0)
        return error; // UNTESTED: only other kernels answer so
    if (!io_uring_peek_cqe(ring, &early))
        return early->res == -EAGAIN ? -ENOTSUP : -EIO; // UNTESTED: only other kernels answer so
    if (send(pair[1], "w", 1, MSG_NOSIGNAL) != 1)
        return -errno;
    error = probe_wait(ring, &cqe);
    if (!error && cqe.res != 1)
        error = cqe.res < 0 ? cqe.res : -EIO; // UNTESTED: only other kernels answer so
    return error;
}

int probe_sendfile(char *ret_detail, size_t size)
{
    struct io_uring ring;
    int pair[2];
    int error = io_uring_queue_init(PROBE_ENTRIES, &ring, 0);

    if (!error) {
        error =
            socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) ? -errno : 0;
        if (!error) {
            error = probe_wait_for_bytes(&ring, pair);
            close(pair[0]);
            close(pair[1]);
        }
        io_uring_queue_exit(&ring);
    }
    if (error)
        snprintf(ret_detail, size, "waiting on a non-blocking socket: %s; files are read and sent",
                 strerror(-error));
    return error;
}

// --- Multishot receive with caps -----------------------------------------------------------------

// What a capped receive must bring: `count` completions of `result` bytes, the last of them final.
struct probe_receive_case {
    uint32_t each, total, count;
    int32_t result;
    uint16_t priority; // flags
    int (*check)(struct io_uring *ring, int fd, const struct probe_receive_case *expected);
};

static int probe_receive_start(struct io_uring *ring, int fd,
                               const struct probe_receive_case *expected)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    int error;

    io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
    sqe->ioprio |= expected->priority;
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = 0;
    uapi_receive_caps(sqe, expected->each, expected->total);
    error = io_uring_submit(ring);
    return error < 0 ? error : 0;
}

static int probe_receive(struct io_uring *ring, int fd, const struct probe_receive_case *expected)
{
    int error = probe_receive_start(ring, fd, expected);

    // UNTESTED: only other kernels answer so
    if (error)
        return error;
    for (uint32_t i = 1; i <= expected->count; i++) {
        struct io_uring_cqe cqe;
        bool more = i < expected->count;

        error = probe_wait(ring, &cqe);
        if (error)
            return error; // UNTESTED: only other kernels answer so
        if (cqe.res < 0)
            return cqe.res; // UNTESTED: only other kernels answer so
        if (cqe.res != expected->result || !(cqe.flags & IORING_CQE_F_MORE) != !more)
            return -ENOTSUP; // UNTESTED: only other kernels answer so
    }
    return 0;
}

// The first completion must fill more than one buffer, and the cap must hold for the sum.
static int probe_bundle(struct io_uring *ring, int fd, const struct probe_receive_case *expected)
{
    struct io_uring_cqe cqe = { .flags = IORING_CQE_F_MORE };
    uint32_t sum = 0;
    int error = probe_receive_start(ring, fd, expected);

    while (!error && cqe.flags & IORING_CQE_F_MORE) {
        error = probe_wait(ring, &cqe);
        // UNTESTED: only other kernels answer so
        if (!error && cqe.res <= 0)
            error = cqe.res ? cqe.res : -EIO;
        else if (!error && !sum && cqe.res <= PROBE_BUFFER_SIZE)
            error = -ENOTSUP; // UNTESTED: only other kernels answer so
        sum += error ? 0 : (uint32_t)cqe.res;
    }
    // UNTESTED: only other kernels answer so
    if (!error && (sum < expected->total || sum >= expected->total + PROBE_BUFFER_SIZE))
        error = -ENOTSUP;
    return error;
}

static const struct probe_receive_case probe_receive_cases[] = {
    { .each = 0, .total = 6000, .count = 2, .result = PROBE_BUFFER_SIZE, .check = probe_receive },
    { .each = 1000, .total = 3000, .count = 3, .result = 1000, .check = probe_receive },
};

static const struct probe_receive_case probe_bundle_case = { .total = 12000,
                                                             .priority = IORING_RECVSEND_BUNDLE,
                                                             .check = probe_bundle };

static int probe_receive_case(struct io_uring *ring, const struct probe_receive_case *expected)
{
    static const char waiting[PROBE_WAITING];
    int pair[2], error;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        return -errno; // UNTESTED: only other kernels answer so
    if (send(pair[0], waiting, sizeof(waiting), MSG_DONTWAIT | MSG_NOSIGNAL) != sizeof(waiting))
        error = -ENOBUFS;
    else
        error = expected->check(ring, pair[1], expected);
    close(pair[0]);
    close(pair[1]);
    return error;
}

// A ring for each case: what a kernel without caps left armed ends with it.
static int probe_receive_on_new_ring(char (*memory)[PROBE_BUFFER_SIZE],
                                     const struct probe_receive_case *expected)
{
    struct io_uring_buf_ring *buffers;
    struct io_uring ring;
    int error = io_uring_queue_init(PROBE_ENTRIES, &ring, 0);

    if (error)
        return error; // UNTESTED: only other kernels answer so
    buffers = io_uring_setup_buf_ring(&ring, PROBE_BUFFERS, 0, 0, &error);
    if (buffers) {
        for (unsigned short i = 0; i < PROBE_BUFFERS; i++)
            io_uring_buf_ring_add(buffers, memory[i], PROBE_BUFFER_SIZE, i,
                                  io_uring_buf_ring_mask(PROBE_BUFFERS), i);
        io_uring_buf_ring_advance(buffers, PROBE_BUFFERS);
        error = probe_receive_case(&ring, expected);
        io_uring_free_buf_ring(&ring, buffers, PROBE_BUFFERS, 0);
    }
    io_uring_queue_exit(&ring);
    return error;
}

int probe_receive_multishot(char *ret_detail, size_t size)
{
    char memory[PROBE_BUFFERS][PROBE_BUFFER_SIZE];
    int error = 0;

    for (size_t i = 0; i < sizeof(probe_receive_cases) / sizeof(probe_receive_cases[0]); i++) {
        if (!error)
            error = probe_receive_on_new_ring(memory, &probe_receive_cases[i]);
    }
    if (error == -EINVAL || error == -ENOTSUP)
        // UNTESTED: only other kernels answer so
        snprintf(ret_detail, size, "this kernel does not keep the caps; receives are one-shot");
    else if (error)
        snprintf(ret_detail, size, "trying a capped receive: %s", strerror(-error));
    return error;
}

int probe_receive_bundle(char *ret_detail, size_t size)
{
    char memory[PROBE_BUFFERS][PROBE_BUFFER_SIZE];
    struct io_uring_params params;
    int error = probe_setup(0, &params);

    // UNTESTED: only other kernels answer so
    if (!error && !(params.features & IORING_FEAT_RECVSEND_BUNDLE))
        error = -EINVAL;
    if (!error)
        error = probe_receive_on_new_ring(memory, &probe_bundle_case);
    // UNTESTED: only other kernels answer so
    if (error == -EINVAL || error == -ENOTSUP)
        snprintf(ret_detail, size, "this kernel has no bundles with a bound; a buffer each");
    else if (error)
        snprintf(ret_detail, size, "trying a bundle: %s", strerror(-error));
    return error;
}
