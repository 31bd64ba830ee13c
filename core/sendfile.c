// sendfile(2) without its two traps: it raises SIGPIPE, and it waits for the disk.
#include <errno.h>
#include <linux/magic.h>
#include <pthread.h>
#include <signal.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <time.h>

#include "system.h"

// --- The signal ----------------------------------------------------------------------------------

enum system_signal sendfile_signal_early(void)
{
    struct sigaction action;
    bool ignored = !sigaction(SIGPIPE, NULL, &action) && action.sa_handler == SIG_IGN;
    return ignored ? SYSTEM_SIGNAL_HARMLESS : SYSTEM_SIGNAL_UNKNOWN;
}

// Whether SIGPIPE is ignored, or blocked in this thread.
static enum system_signal sendfile_signal(void)
{
    sigset_t mask;
    if (sendfile_signal_early() == SYSTEM_SIGNAL_HARMLESS)
        return SYSTEM_SIGNAL_HARMLESS;
    // UNTESTED: needs a program that blocks SIGPIPE and does not ignore it
    if (!pthread_sigmask(SIG_BLOCK, NULL, &mask) && sigismember(&mask, SIGPIPE) == 1)
        return SYSTEM_SIGNAL_HARMLESS;
    return SYSTEM_SIGNAL_KILLS;
}

// A library must not change what signals do. Where SIGPIPE would end the program, it is blocked
// during the call and taken away after it. The call may have raised it although bytes were sent:
// inside it is several sends, the first of which may be what the peer answers with a reset. A
// thread that has blocked it by now is left alone, as what is pending there may be its own.
static ssize_t sendfile_guarded(int fd, int file, off_t *offset, size_t size)
{
    sigset_t pipe, before;
    struct timespec at_once = { 0 };
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, &before);
    ssize_t sent = sendfile(fd, file, offset, size);
    int error = errno;
    if (sent < (ssize_t)size && !sigismember(&before, SIGPIPE))
        sigtimedwait(&pipe, NULL, &at_once);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = error;
    return sent;
}

int64_t sendfile_send(void *state, enum system_signal *signal, int fd, int file, uint64_t offset,
                      size_t size)
{
    (void)state;
    off_t position = (off_t)offset;
    // Asked once: a program that changes it later blocks or ignores it, if it knows what it does.
    if (*signal == SYSTEM_SIGNAL_UNKNOWN)
        *signal = sendfile_signal();
    ssize_t sent = *signal == SYSTEM_SIGNAL_HARMLESS ? sendfile(fd, file, &position, size)
                                                     : sendfile_guarded(fd, file, &position, size);
    return sent < 0 ? -errno : sent;
}

// --- The disk ------------------------------------------------------------------------------------

// Not cachestat(2): it refuses files that the caller neither owns nor may write, which is how
// served files should be.
enum system_cached sendfile_cached(void *state, int file, uint64_t offset)
{
    (void)state;
    char byte;
    struct iovec iovec = { &byte, 1 };
    struct statfs status;
    // Nothing to read: the file ends before, and sendfile will tell.
    if (preadv2(file, &iovec, 1, (off_t)offset, RWF_NOWAIT) >= 0)
        return SYSTEM_CACHED_NOW;
    if (errno != EOPNOTSUPP)
        return SYSTEM_CACHED_NOT;
    // Files that live in memory do not say so: they cannot be read without waiting, in name.
    if (!fstatfs(file, &status) && (status.f_type == TMPFS_MAGIC || status.f_type == RAMFS_MAGIC))
        return SYSTEM_CACHED_ALWAYS;
    return SYSTEM_CACHED_UNKNOWN; // UNTESTED: needs a file system without RWF_NOWAIT
}
