// The kernel's implementation of the seam.
#include "ring.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

// liburing (since 2.6) asks for a queue without an index array by itself, and once more with one
// where the kernel (before 6.6) does not know that. So this is no feature that a plan could be
// without.
static int ring_setup(void *state, struct io_uring *ring, unsigned entries,
                      struct io_uring_params *params)
{
    (void)state;
    return io_uring_queue_init_params(entries, ring, params);
}

// The descriptor is registered by the thread that will use it: the table of registered rings is the
// thread's. It saves the lookup of the descriptor in every enter; without it, the ring works too.
// Before the ring is enabled, because then its restrictions begin to hold.
static int ring_enable(void *state, struct io_uring *ring)
{
    (void)state;
    io_uring_register_ring_fd(ring);
    return io_uring_enable_rings(ring);
}

static int ring_enter(void *state, struct io_uring *ring, unsigned submit, unsigned wait,
                      unsigned flags, void *argument, size_t argument_size)
{
    (void)state;
    if (ring->enter_ring_fd != ring->ring_fd) // the former is a registered index then
        flags |= IORING_ENTER_REGISTERED_RING;
    return io_uring_enter2((unsigned)ring->enter_ring_fd, submit, wait, flags, argument,
                           argument_size);
}

static int ring_register(void *state, struct io_uring *ring, unsigned opcode, void *argument,
                         unsigned count)
{
    (void)state;
    return io_uring_register((unsigned)ring->ring_fd, opcode, argument, count);
}

static void ring_teardown(void *state, struct io_uring *ring)
{
    (void)state;
    io_uring_queue_exit(ring);
}

// Blocking on purpose: io_uring gives -EAGAIN for a read of a non-blocking descriptor instead of
// waiting for it.
static int ring_wake_open(void *state)
{
    (void)state;
    int fd = eventfd(0, EFD_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static void ring_wake(void *state, int fd)
{
    (void)state;
    uint64_t one = 1;
    ssize_t written = write(fd, &one, sizeof one);
    (void)written; // it can only fail when the counter is full, and then the reader wakes anyway
}

static void ring_wake_close(void *state, int fd)
{
    (void)state;
    close(fd);
}

const struct ring_operations ring_kernel = {
    .setup = ring_setup,
    .enable = ring_enable,
    .enter = ring_enter,
    .reg = ring_register,
    .teardown = ring_teardown,
    .wake_open = ring_wake_open,
    .wake = ring_wake,
    .wake_close = ring_wake_close,
};
