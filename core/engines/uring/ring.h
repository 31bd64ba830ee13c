// The seam: everything the uring engine asks of "the kernel" goes through these functions. The
// kernel's implementation is ring.c; a simulated one lives in engines/sim. Submission queue,
// completion queue and buffer ring are ordinary memory behind struct io_uring, so liburing's inline
// functions work on both.
#ifndef WEIR_RING_H
#define WEIR_RING_H

#include <liburing.h>

struct ring_operations {
    // It has every feature that there is, so none of the kernel's needs probing.
    bool complete;
    // io_uring_setup(2) and the mapping of the queues. 0 or -errno.
    int (*setup)(void *state, struct io_uring *ring, unsigned entries,
                 struct io_uring_params *params);
    // Binds a ring that was set up disabled to the calling thread and enables it. 0 or -errno.
    int (*enable)(void *state, struct io_uring *ring);
    // io_uring_enter2(2) with IORING_ENTER_EXT_ARG allowed; returns what the system call returns.
    int (*enter)(void *state, struct io_uring *ring, unsigned submit, unsigned wait, unsigned flags,
                 void *argument, size_t argument_size);
    // io_uring_register(2).
    int (*reg)(void *state, struct io_uring *ring, unsigned opcode, void *argument, unsigned count);
    // Unmaps and closes.
    void (*teardown)(void *state, struct io_uring *ring);
    // A descriptor from which the engine reads 8 bytes when wake() was called. Kernel: an eventfd.
    int (*wake_open)(void *state);
    void (*wake)(void *state, int fd); // any thread
    void (*wake_close)(void *state, int fd);
};

// What engine->init of uring gets as its argument; NULL means the kernel's.
struct ring_base {
    const struct ring_operations *operations;
    void *state;
};

extern const struct ring_operations ring_kernel;

#endif
