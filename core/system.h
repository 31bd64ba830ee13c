// The few system calls that the core makes beside its engine: sockets are made, bound and closed,
// and the clock is read. A table, so that the simulated world can stand in for the kernel.
#ifndef WEIR_SYSTEM_H
#define WEIR_SYSTEM_H

#include "weir.h"

struct system {
    // CLOCK_MONOTONIC in nanoseconds.
    uint64_t (*clock)(void *state);
    // A bound, listening descriptor, non-blocking and close-on-exec; -errno. ret_address is what
    // was bound. A stale unix socket is removed first.
    int (*listen)(void *state, const struct weir_address *address,
                  const struct weir_socket_options *options, struct weir_address *ret_address);
    // A socket to connect with, bound to `local` unless that is NULL; -errno.
    int (*socket)(void *state, const struct weir_address *peer, const struct weir_address *local,
                  const struct weir_socket_options *options);
    void (*close)(void *state, int fd);
    int (*local_address)(void *state, int fd, struct weir_address *ret_address);
    // Removes a unix socket's path.
    void (*unlink)(void *state, const char *path);
    // Has jobs_run() called for the job, later and on the loop's thread. NULL: helper threads run
    // it.
    void (*job)(void *state, struct weir_operation *operation);
};

extern const struct system system_kernel; // address.c; its state is NULL

#endif
