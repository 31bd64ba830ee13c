// Failures of the system calls and allocations that a server's own code makes: the linker's --wrap
// puts these functions before the real ones. A call that fails has done nothing.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "strike.h"

// Whether this call fails; errno is set then.
static int strikes(const struct strike *strike)
{
    int error = strike_error(strike);
    if (error)
        errno = error;
    return error;
}

// --- Memory and threads --------------------------------------------------------------------------

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_realloc(void *memory, size_t size);
char *__real_strdup(const char *text);
char *__wrap_strdup(const char *text);
char *__real_strndup(const char *text, size_t size);
char *__wrap_strndup(const char *text, size_t size);
FILE *__real_open_memstream(char **text, size_t *size);
FILE *__wrap_open_memstream(char **text, size_t *size);
void *__real_mmap64(void *address, size_t size, int protection, int flags, int fd, off64_t offset);
void *__wrap_mmap64(void *address, size_t size, int protection, int flags, int fd, off64_t offset);

void *__wrap_malloc(size_t size)
{
    static const struct strike strike = { "malloc", { ENOMEM } };
    return strikes(&strike) ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    static const struct strike strike = { "calloc", { ENOMEM } };
    return strikes(&strike) ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    static const struct strike strike = { "realloc", { ENOMEM } };
    return strikes(&strike) ? NULL : __real_realloc(memory, size);
}

char *__wrap_strdup(const char *text)
{
    static const struct strike strike = { "strdup", { ENOMEM } };
    return strikes(&strike) ? NULL : __real_strdup(text);
}

char *__wrap_strndup(const char *text, size_t size)
{
    static const struct strike strike = { "strndup", { ENOMEM } };
    return strikes(&strike) ? NULL : __real_strndup(text, size);
}

FILE *__wrap_open_memstream(char **text, size_t *size)
{
    static const struct strike strike = { "open_memstream", { ENOMEM } };
    return strikes(&strike) ? NULL : __real_open_memstream(text, size);
}

void *__wrap_mmap64(void *address, size_t size, int protection, int flags, int fd, off64_t offset)
{
    static const struct strike strike = { "mmap", { ENOMEM } };
    return strikes(&strike) ? MAP_FAILED
                            : __real_mmap64(address, size, protection, flags, fd, offset);
}

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*function)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*function)(void *), void *argument);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*function)(void *), void *argument)
{
    static const struct strike strike = { "pthread_create", { EAGAIN } };
    int error = strikes(&strike);
    return error ? error : __real_pthread_create(thread, attributes, function, argument);
}

// --- Sockets -------------------------------------------------------------------------------------

int __real_socket(int domain, int type, int protocol);
int __wrap_socket(int domain, int type, int protocol);
int __real_bind(int fd, const struct sockaddr *address, socklen_t size);
int __wrap_bind(int fd, const struct sockaddr *address, socklen_t size);
int __real_listen(int fd, int backlog);
int __wrap_listen(int fd, int backlog);
int __real_accept4(int fd, struct sockaddr *address, socklen_t *size, int flags);
int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *size, int flags);
int __real_connect(int fd, const struct sockaddr *address, socklen_t size);
int __wrap_connect(int fd, const struct sockaddr *address, socklen_t size);
int __real_shutdown(int fd, int how);
int __wrap_shutdown(int fd, int how);
int __real_getsockname(int fd, struct sockaddr *address, socklen_t *size);
int __wrap_getsockname(int fd, struct sockaddr *address, socklen_t *size);
int __real_setsockopt(int fd, int level, int option, const void *value, socklen_t size);
int __wrap_setsockopt(int fd, int level, int option, const void *value, socklen_t size);
ssize_t __real_recv(int fd, void *data, size_t size, int flags);
ssize_t __wrap_recv(int fd, void *data, size_t size, int flags);
ssize_t __real_recvmsg(int fd, struct msghdr *message, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags);
ssize_t __real_send(int fd, const void *data, size_t size, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t size, int flags);
ssize_t __real_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __real_sendfile64(int out, int in, off64_t *offset, size_t size);
ssize_t __wrap_sendfile64(int out, int in, off64_t *offset, size_t size);

int __wrap_socket(int domain, int type, int protocol)
{
    static const struct strike strike = { "socket", { EMFILE, ENFILE, ENOBUFS } };
    return strikes(&strike) ? -1 : __real_socket(domain, type, protocol);
}

int __wrap_bind(int fd, const struct sockaddr *address, socklen_t size)
{
    static const struct strike strike = { "bind", { EADDRINUSE, EADDRNOTAVAIL } };
    return strikes(&strike) ? -1 : __real_bind(fd, address, size);
}

int __wrap_listen(int fd, int backlog)
{
    static const struct strike strike = { "listen", { EADDRINUSE } };
    return strikes(&strike) ? -1 : __real_listen(fd, backlog);
}

int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *size, int flags)
{
    static const struct strike strike = {
        "accept4", { EMFILE, ENFILE, ENOBUFS, ENOMEM, ECONNABORTED, EPROTO, EPERM }
    };
    return strikes(&strike) ? -1 : __real_accept4(fd, address, size, flags);
}

int __wrap_connect(int fd, const struct sockaddr *address, socklen_t size)
{
    static const struct strike strike = { "connect",
                                          { ECONNREFUSED, ETIMEDOUT, ENETUNREACH, EADDRNOTAVAIL } };
    return strikes(&strike) ? -1 : __real_connect(fd, address, size);
}

int __wrap_shutdown(int fd, int how)
{
    static const struct strike strike = { "shutdown", { ENOTCONN } };
    return strikes(&strike) ? -1 : __real_shutdown(fd, how);
}

int __wrap_getsockname(int fd, struct sockaddr *address, socklen_t *size)
{
    static const struct strike strike = { "getsockname", { ENOBUFS } };
    return strikes(&strike) ? -1 : __real_getsockname(fd, address, size);
}

int __wrap_setsockopt(int fd, int level, int option, const void *value, socklen_t size)
{
    static const struct strike strike = { "setsockopt", { ENOBUFS, EINVAL } };
    return strikes(&strike) ? -1 : __real_setsockopt(fd, level, option, value, size);
}

ssize_t __wrap_recv(int fd, void *data, size_t size, int flags)
{
    static const struct strike strike = { "recv",
                                          { ECONNRESET, ETIMEDOUT, EHOSTUNREACH, ENOMEM, EINTR } };
    return strikes(&strike) ? -1 : __real_recv(fd, data, size, flags);
}

ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags)
{
    static const struct strike strike = { "recvmsg",
                                          { ECONNRESET, ETIMEDOUT, EHOSTUNREACH, ENOMEM, EINTR } };
    return strikes(&strike) ? -1 : __real_recvmsg(fd, message, flags);
}

ssize_t __wrap_send(int fd, const void *data, size_t size, int flags)
{
    static const struct strike strike = {
        "send", { EPIPE, ECONNRESET, ENOBUFS, ENOMEM, EHOSTUNREACH, EINTR }
    };
    return strikes(&strike) ? -1 : __real_send(fd, data, size, flags);
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
    static const struct strike strike = {
        "sendmsg", { EPIPE, ECONNRESET, ENOBUFS, ENOMEM, EHOSTUNREACH, EINTR }
    };
    return strikes(&strike) ? -1 : __real_sendmsg(fd, message, flags);
}

ssize_t __wrap_sendfile64(int out, int in, off64_t *offset, size_t size)
{
    static const struct strike strike = { "sendfile", { EIO, EPIPE, ECONNRESET, ENOMEM, EINTR } };
    return strikes(&strike) ? -1 : __real_sendfile64(out, in, offset, size);
}

// --- Waiting -------------------------------------------------------------------------------------

int __real_epoll_create1(int flags);
int __wrap_epoll_create1(int flags);
int __real_eventfd(unsigned count, int flags);
int __wrap_eventfd(unsigned count, int flags);
int __real_epoll_wait(int epoll, struct epoll_event *events, int count, int timeout);
int __wrap_epoll_wait(int epoll, struct epoll_event *events, int count, int timeout);
int __real_epoll_pwait2(int epoll, struct epoll_event *events, int count,
                        const struct timespec *timeout, const sigset_t *mask);
int __wrap_epoll_pwait2(int epoll, struct epoll_event *events, int count,
                        const struct timespec *timeout, const sigset_t *mask);
int __real_ppoll(struct pollfd *polls, nfds_t count, const struct timespec *timeout,
                 const sigset_t *mask);
int __wrap_ppoll(struct pollfd *polls, nfds_t count, const struct timespec *timeout,
                 const sigset_t *mask);

int __wrap_epoll_create1(int flags)
{
    static const struct strike strike = { "epoll_create1", { EMFILE } };
    return strikes(&strike) ? -1 : __real_epoll_create1(flags);
}

int __wrap_eventfd(unsigned count, int flags)
{
    static const struct strike strike = { "eventfd", { EMFILE, ENFILE } };
    return strikes(&strike) ? -1 : __real_eventfd(count, flags);
}

int __wrap_epoll_wait(int epoll, struct epoll_event *events, int count, int timeout)
{
    static const struct strike strike = { "epoll_wait", { EINTR } };
    return strikes(&strike) ? -1 : __real_epoll_wait(epoll, events, count, timeout);
}

int __wrap_epoll_pwait2(int epoll, struct epoll_event *events, int count,
                        const struct timespec *timeout, const sigset_t *mask)
{
    static const struct strike strike = { "epoll_pwait2", { EINTR, ENOSYS, EPERM } };
    return strikes(&strike) ? -1 : __real_epoll_pwait2(epoll, events, count, timeout, mask);
}

int __wrap_ppoll(struct pollfd *polls, nfds_t count, const struct timespec *timeout,
                 const sigset_t *mask)
{
    static const struct strike strike = { "ppoll", { EINTR } };
    return strikes(&strike) ? -1 : __real_ppoll(polls, count, timeout, mask);
}

int __real_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event);

// Taking a descriptor out never fails for want of something.
int __wrap_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
    static const struct strike strike = { "epoll_ctl", { ENOSPC, ENOMEM } };
    bool fails = operation != EPOLL_CTL_DEL && strikes(&strike);
    return fails ? -1 : __real_epoll_ctl(epoll, operation, fd, event);
}

// --- Files ---------------------------------------------------------------------------------------

int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
int __real_openat64(int folder, const char *path, int flags, ...);
int __wrap_openat64(int folder, const char *path, int flags, ...);
long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);

int __real_memfd_create(const char *name, unsigned flags);
int __wrap_memfd_create(const char *name, unsigned flags);

int __wrap_memfd_create(const char *name, unsigned flags)
{
    static const struct strike strike = { "memfd_create", { ENOMEM, EMFILE } };
    return strikes(&strike) ? -1 : __real_memfd_create(name, flags);
}

static const struct strike strike_open = { "open",
                                           { EMFILE, ENFILE, EACCES, ENOENT, ENOMEM, ENOSPC } };

int __wrap_open64(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return strikes(&strike_open) ? -1 : __real_open64(path, flags, mode);
}

int __wrap_openat64(int folder, const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return strikes(&strike_open) ? -1 : __real_openat64(folder, path, flags, mode);
}

static const struct strike strike_seccomp = { "seccomp", { ENOMEM, EINVAL } };

// openat2(2) and seccomp(2) have no functions of their own.
long __wrap_syscall(long number, ...)
{
    static const struct strike strike = { "openat2",
                                          { EMFILE, ENFILE, EACCES, ENOENT, ENOMEM, EAGAIN } };
    va_list rest;
    long arguments[6];
    va_start(rest, number);
    for (size_t i = 0; i < sizeof arguments / sizeof *arguments; i++)
        arguments[i] = va_arg(rest, long);
    va_end(rest);
    const struct open_how *how = (const struct open_how *)arguments[2];
    if (number == SYS_openat2 && how->resolve & RESOLVE_CACHED && strike_is_uncached()) {
        errno = EAGAIN;
        return -1;
    }
    if (number == SYS_openat2 && strikes(&strike))
        return -1;
    // With a program: a thread takes its filter. Without one it only asks.
    if (number == SYS_seccomp && arguments[2] && strikes(&strike_seccomp))
        return -1;
    return __real_syscall(number, arguments[0], arguments[1], arguments[2], arguments[3],
                          arguments[4], arguments[5]);
}

ssize_t __real_preadv64v2(int fd, const struct iovec *parts, int count, off64_t offset, int flags);
ssize_t __wrap_preadv64v2(int fd, const struct iovec *parts, int count, off64_t offset, int flags);
ssize_t __real_pwritev64v2(int fd, const struct iovec *parts, int count, off64_t offset, int flags);
ssize_t __wrap_pwritev64v2(int fd, const struct iovec *parts, int count, off64_t offset, int flags);
ssize_t __real_pwritev64(int fd, const struct iovec *parts, int count, off64_t offset);
ssize_t __wrap_pwritev64(int fd, const struct iovec *parts, int count, off64_t offset);
int __real_faccessat(int folder, const char *path, int mode, int flags);
int __wrap_faccessat(int folder, const char *path, int mode, int flags);
DIR *__real_fdopendir(int fd);
DIR *__wrap_fdopendir(int fd);
int __real_fstat64(int fd, struct stat64 *status);
int __wrap_fstat64(int fd, struct stat64 *status);
int __real_fstatat64(int folder, const char *path, struct stat64 *status, int flags);
int __wrap_fstatat64(int folder, const char *path, struct stat64 *status, int flags);
int __real_stat64(const char *path, struct stat64 *status);
int __wrap_stat64(const char *path, struct stat64 *status);
struct dirent64 *__real_readdir64(DIR *folder);
struct dirent64 *__wrap_readdir64(DIR *folder);
ssize_t __real_readlinkat(int folder, const char *path, char *text, size_t size);
ssize_t __wrap_readlinkat(int folder, const char *path, char *text, size_t size);
int __real_fcntl64(int fd, int command, ...);
int __wrap_fcntl64(int fd, int command, ...);
int __real_fchmod(int fd, mode_t mode);
int __wrap_fchmod(int fd, mode_t mode);
int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __real_ftruncate64(int fd, off64_t size);
int __wrap_ftruncate64(int fd, off64_t size);
int __real_mkdirat(int folder, const char *path, mode_t mode);
int __wrap_mkdirat(int folder, const char *path, mode_t mode);
int __real_renameat(int from, const char *old, int to, const char *path);
int __wrap_renameat(int from, const char *old, int to, const char *path);
int __real_renameat2(int from, const char *old, int to, const char *path, unsigned flags);
int __wrap_renameat2(int from, const char *old, int to, const char *path, unsigned flags);
int __real_unlinkat(int folder, const char *path, int flags);
int __wrap_unlinkat(int folder, const char *path, int flags);
int __real_futimens(int fd, const struct timespec times[2]);
int __wrap_futimens(int fd, const struct timespec times[2]);

ssize_t __wrap_preadv64v2(int fd, const struct iovec *parts, int count, off64_t offset, int flags)
{
    static const struct strike strike = { "preadv2", { EIO, EAGAIN, EOPNOTSUPP } };
    return strikes(&strike) ? -1 : __real_preadv64v2(fd, parts, count, offset, flags);
}

ssize_t __wrap_pwritev64v2(int fd, const struct iovec *parts, int count, off64_t offset, int flags)
{
    static const struct strike strike = { "pwritev2",
                                          { ENOSPC, EIO, EDQUOT, EFBIG, EAGAIN, EOPNOTSUPP } };
    return strikes(&strike) ? -1 : __real_pwritev64v2(fd, parts, count, offset, flags);
}

ssize_t __wrap_pwritev64(int fd, const struct iovec *parts, int count, off64_t offset)
{
    static const struct strike strike = { "pwritev", { ENOSPC, EIO, EDQUOT, EFBIG, EINTR } };
    return strikes(&strike) ? -1 : __real_pwritev64(fd, parts, count, offset);
}

int __wrap_faccessat(int folder, const char *path, int mode, int flags)
{
    static const struct strike strike = { "faccessat", { EACCES, EROFS, EIO } };
    return strikes(&strike) ? -1 : __real_faccessat(folder, path, mode, flags);
}

DIR *__wrap_fdopendir(int fd)
{
    static const struct strike strike = { "fdopendir", { ENOMEM } };
    return strikes(&strike) ? NULL : __real_fdopendir(fd);
}

int __wrap_fstat64(int fd, struct stat64 *status)
{
    static const struct strike strike = { "fstat", { EIO, ENOMEM } };
    return strikes(&strike) ? -1 : __real_fstat64(fd, status);
}

int __wrap_fstatat64(int folder, const char *path, struct stat64 *status, int flags)
{
    static const struct strike strike = { "fstatat", { EACCES, EIO, ENOMEM } };
    return strikes(&strike) ? -1 : __real_fstatat64(folder, path, status, flags);
}

int __wrap_stat64(const char *path, struct stat64 *status)
{
    static const struct strike strike = { "stat", { EACCES, EIO } };
    return strikes(&strike) ? -1 : __real_stat64(path, status);
}

struct dirent64 *__wrap_readdir64(DIR *folder)
{
    static const struct strike strike = { "readdir", { EIO } };
    return strikes(&strike) ? NULL : __real_readdir64(folder);
}

ssize_t __wrap_readlinkat(int folder, const char *path, char *text, size_t size)
{
    static const struct strike strike = { "readlinkat", { EIO } };
    return strikes(&strike) ? -1 : __real_readlinkat(folder, path, text, size);
}

// Of its commands, what takes a descriptor may fail.
int __wrap_fcntl64(int fd, int command, ...)
{
    static const struct strike strike = { "fcntl", { EMFILE, ENFILE } };
    va_list rest;
    va_start(rest, command);
    long value = va_arg(rest, long);
    va_end(rest);
    bool fails = command == F_DUPFD_CLOEXEC && strikes(&strike);
    return fails ? -1 : __real_fcntl64(fd, command, value);
}

int __wrap_fchmod(int fd, mode_t mode)
{
    static const struct strike strike = { "fchmod", { EPERM, EROFS } };
    return strikes(&strike) ? -1 : __real_fchmod(fd, mode);
}

int __wrap_fsync(int fd)
{
    static const struct strike strike = { "fsync", { EIO, ENOSPC } };
    return strikes(&strike) ? -1 : __real_fsync(fd);
}

int __wrap_ftruncate64(int fd, off64_t size)
{
    static const struct strike strike = { "ftruncate", { EIO, EFBIG } };
    return strikes(&strike) ? -1 : __real_ftruncate64(fd, size);
}

int __wrap_mkdirat(int folder, const char *path, mode_t mode)
{
    static const struct strike strike = { "mkdirat", { ENOSPC, EROFS, EDQUOT } };
    return strikes(&strike) ? -1 : __real_mkdirat(folder, path, mode);
}

int __wrap_renameat(int from, const char *old, int to, const char *path)
{
    static const struct strike strike = { "renameat", { ENOSPC, EXDEV, EROFS } };
    return strikes(&strike) ? -1 : __real_renameat(from, old, to, path);
}

int __wrap_renameat2(int from, const char *old, int to, const char *path, unsigned flags)
{
    static const struct strike strike = { "renameat2", { ENOSPC, EXDEV, EROFS, EINVAL } };
    return strikes(&strike) ? -1 : __real_renameat2(from, old, to, path, flags);
}

int __wrap_unlinkat(int folder, const char *path, int flags)
{
    static const struct strike strike = { "unlinkat", { EIO, EROFS, EBUSY } };
    return strikes(&strike) ? -1 : __real_unlinkat(folder, path, flags);
}

int __wrap_futimens(int fd, const struct timespec times[2])
{
    static const struct strike strike = { "futimens", { EPERM, EROFS } };
    return strikes(&strike) ? -1 : __real_futimens(fd, times);
}
