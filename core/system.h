// The few system calls that the core makes beside its engine: sockets are made, bound and closed,
// and the clock is read. A table, so that the simulated world can stand in for the kernel.
#ifndef WEIR_SYSTEM_H
#define WEIR_SYSTEM_H

#include "weir.h"

// Whether a byte of a file can be read without waiting for a disk.
enum system_cached {
    SYSTEM_CACHED_NOT,     // it has to be read first
    SYSTEM_CACHED_NOW,     // it is in memory
    SYSTEM_CACHED_ALWAYS,  // the whole file is, and stays: it lies on no disk
    SYSTEM_CACHED_UNKNOWN, // this file system does not tell, for no part of the file
};

// Both ends of a pipe, made when it is first needed. All zero: not yet.
struct system_pipe {
    int fds[2];
    bool open;
};

// What SIGPIPE does to the thread that calls sendfile(2), which knows no MSG_NOSIGNAL.
enum system_signal { SYSTEM_SIGNAL_UNKNOWN, SYSTEM_SIGNAL_HARMLESS, SYSTEM_SIGNAL_KILLS };

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
    int (*uncork)(void *state, int fd);
    // Removes a unix socket's path.
    void (*unlink)(void *state, const char *path);
    enum system_cached (*file_cached)(void *state, int file, uint64_t offset);
    // sendfile(2) that raises no signal: a count, 0 at the file's end, -errno. `signal` is the
    // thread's, and asked for once. It waits for room in the socket unless that is non-blocking.
    int64_t (*sendfile)(void *state, enum system_signal *signal, int fd, int file, uint64_t offset,
                        size_t size);
    // Whether the file lies in memory and never on a disk. NULL where write_now is.
    bool (*file_in_memory)(void *state, int file);
    // Writes the slice and then what waits in the socket (none if fd is -1), at most `size` bytes
    // of both together, and waits for neither: a count, or the -errno of either. NULL: there is
    // none.
    int64_t (*write_now)(void *state, struct system_pipe *pipe, int fd, struct weir_slice slice,
                         int file, uint64_t offset, size_t size);
    // Has jobs_run() called for the job, later and on the loop's thread; or refuses it, -EAGAIN,
    // unless it is owed. NULL: helper threads run it.
    int (*job)(void *state, struct weir_operation *operation);
    // The loop ends: what is left of them runs now. NULL as above.
    void (*end_jobs)(void *state);
};

extern const struct system system_kernel; // address.c; its state is NULL

// What is known when a loop is made, by any thread: harmless if the whole process ignores SIGPIPE,
// otherwise unknown. A loop that knows asks for nothing later, when a sandbox may forbid it. Not
// for the loops of the blocking engine, which are made inside the sandbox.
enum system_signal sendfile_signal_early(void);

// write_now.c: these two of system_kernel, and the end of the pipe.
bool write_now_in_memory(void *state, int file);
int64_t write_now(void *state, struct system_pipe *pipe, int fd, struct weir_slice slice, int file,
                  uint64_t offset, size_t size);
void write_pipe_close(struct system_pipe *pipe);

// sendfile.c: these two of system_kernel.
enum system_cached sendfile_cached(void *state, int file, uint64_t offset);
int64_t sendfile_send(void *state, enum system_signal *signal, int fd, int file, uint64_t offset,
                      size_t size);

#endif
