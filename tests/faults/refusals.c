// What the kernel may refuse: each function here fails when its number comes, with an error that it
// may have. The linker's --wrap puts them before the real ones; shortage.c counts.
#include <errno.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <tests/sim/shortage.h>

struct io_uring;
struct io_uring_params;

// The linker gives these names: __real_ is the function that __wrap_ stands for.
int __real_socket(int domain, int type, int protocol);
int __wrap_socket(int domain, int type, int protocol);
int __real_bind(int fd, const struct sockaddr *address, socklen_t size);
int __wrap_bind(int fd, const struct sockaddr *address, socklen_t size);
int __real_listen(int fd, int backlog);
int __wrap_listen(int fd, int backlog);
int __real_setsockopt(int fd, int level, int option, const void *value, socklen_t size);
int __wrap_setsockopt(int fd, int level, int option, const void *value, socklen_t size);
int __real_getsockname(int fd, struct sockaddr *address, socklen_t *size);
int __wrap_getsockname(int fd, struct sockaddr *address, socklen_t *size);
int __real_accept4(int fd, struct sockaddr *address, socklen_t *size, int flags);
int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *size, int flags);
int __real_epoll_create1(int flags);
int __wrap_epoll_create1(int flags);
int __real_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event);
int __real_eventfd(unsigned count, int flags);
int __wrap_eventfd(unsigned count, int flags);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*function)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*function)(void *), void *argument);
int __real_io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
                                      struct io_uring_params *params);
int __wrap_io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
                                      struct io_uring_params *params);
int __real_io_uring_enable_rings(struct io_uring *ring);
int __wrap_io_uring_enable_rings(struct io_uring *ring);
int __real_io_uring_register(unsigned fd, unsigned opcode, const void *argument, unsigned count);
int __wrap_io_uring_register(unsigned fd, unsigned opcode, const void *argument, unsigned count);

static bool refuse(const char *function, int error)
{
    bool strikes = shortage_strikes(function);
    if (strikes)
        errno = error;
    return strikes;
}

int __wrap_socket(int domain, int type, int protocol)
{
    return refuse("socket", EMFILE) ? -1 : __real_socket(domain, type, protocol);
}

int __wrap_bind(int fd, const struct sockaddr *address, socklen_t size)
{
    return refuse("bind", EADDRINUSE) ? -1 : __real_bind(fd, address, size);
}

int __wrap_listen(int fd, int backlog)
{
    return refuse("listen", EADDRINUSE) ? -1 : __real_listen(fd, backlog);
}

int __wrap_setsockopt(int fd, int level, int option, const void *value, socklen_t size)
{
    return refuse("setsockopt", ENOBUFS) ? -1 : __real_setsockopt(fd, level, option, value, size);
}

int __wrap_getsockname(int fd, struct sockaddr *address, socklen_t *size)
{
    return refuse("getsockname", ENOBUFS) ? -1 : __real_getsockname(fd, address, size);
}

int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *size, int flags)
{
    return refuse("accept4", ENFILE) ? -1 : __real_accept4(fd, address, size, flags);
}

int __wrap_epoll_create1(int flags)
{
    return refuse("epoll_create1", EMFILE) ? -1 : __real_epoll_create1(flags);
}

// Taking a descriptor out never fails for want of something.
int __wrap_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
    if (operation != EPOLL_CTL_DEL && refuse("epoll_ctl", ENOSPC))
        return -1;
    return __real_epoll_ctl(epoll, operation, fd, event);
}

int __wrap_eventfd(unsigned count, int flags)
{
    return refuse("eventfd", EMFILE) ? -1 : __real_eventfd(count, flags);
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*function)(void *), void *argument)
{
    return shortage_strikes("pthread_create")
               ? EAGAIN
               : __real_pthread_create(thread, attributes, function, argument);
}

int __wrap_io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
                                      struct io_uring_params *params)
{
    return shortage_strikes("io_uring_queue_init_params")
               ? -ENOMEM
               : __real_io_uring_queue_init_params(entries, ring, params);
}

int __wrap_io_uring_enable_rings(struct io_uring *ring)
{
    return shortage_strikes("io_uring_enable_rings") ? -EBADFD : __real_io_uring_enable_rings(ring);
}

int __wrap_io_uring_register(unsigned fd, unsigned opcode, const void *argument, unsigned count)
{
    return shortage_strikes("io_uring_register")
               ? -ENOMEM
               : __real_io_uring_register(fd, opcode, argument, count);
}
