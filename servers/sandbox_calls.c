// The table behind every filter. It is short because glibc and the kernel make it short: malloc is
// told to live on brk(2) in strict mode, clocks are read without a call where the vDSO can, and
// what only tidies up at the end of a thread is refused without harm.
#include "sandbox_calls.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define WHOLE UINT64_MAX

enum {
    URING = SANDBOX_LOOP_URING,
    EPOLL = SANDBOX_LOOP_EPOLL,
    BLOCKING = SANDBOX_LOOP_BLOCKING,
    LOOPS = URING | EPOLL | BLOCKING,
    IMMEDIATE = EPOLL | BLOCKING,
    EVERY = SANDBOX_MAIN | LOOPS | SANDBOX_JOB,
    ABORTS = SANDBOX_MAIN | URING | EPOLL | SANDBOX_JOB,
    ACCEPTS = WEIR_ABILITY_ACCEPT | WEIR_ABILITY_LISTEN,
    OPENS_SOCKETS = WEIR_ABILITY_LISTEN | WEIR_ABILITY_CONNECT,
};

#define SOCKET_OPTION(level, option)                                                      \
    {                                                                                     \
        .name = "setsockopt", .threads = LOOPS, .when = OPENS_SOCKETS, .checks_count = 2, \
        .checks = {                                                                       \
            { 1, WHOLE, level },                                                          \
            { 2, WHOLE, option }                                                          \
        }                                                                                 \
    }

static const struct sandbox_call sandbox_rows[] = {
    // Every thread: locks, the log and wake-ups, memory, and the clock where the vDSO has none.
    { .name = "futex", .threads = EVERY },
    { .name = "write", .threads = EVERY },
    { .name = "brk", .threads = EVERY },
    { .name = "clock_gettime", .threads = EVERY },

    // Loops: listeners are closed when the server drains.
    { .name = "close", .threads = LOOPS | SANDBOX_MAIN },
    { .name = "exit", .threads = LOOPS | SANDBOX_JOB },

    { .name = "io_uring_enter", .threads = URING },
    // The end of a ring gives its registered descriptor back; the end of its thread does it too.
    { .name = "io_uring_register", .threads = URING, .level = SANDBOX_REFUSED },

    { .name = "epoll_wait", .otherwise = "epoll_pwait", .threads = EPOLL },
    { .name = "epoll_pwait2", .threads = EPOLL },
    { .name = "epoll_ctl", .threads = EPOLL },
    { .name = "accept4", .threads = IMMEDIATE, .when = ACCEPTS },
    { .name = "recvfrom", .threads = IMMEDIATE },
    { .name = "recvmsg", .threads = IMMEDIATE },
    // Where there may be sockets without a peer, an address and MSG_FASTOPEN would connect them,
    // past connect(2) and Landlock. Elsewhere there are none, and the call stays free of a look at
    // its arguments, which costs time (tests/sandbox/filter_test.c).
    { .name = "sendto", .threads = IMMEDIATE, .unless = OPENS_SOCKETS },
    { .name = "sendmsg", .threads = IMMEDIATE, .unless = OPENS_SOCKETS },
    { .name = "sendto",
      .threads = IMMEDIATE,
      .when = OPENS_SOCKETS,
      .checks_count = 1,
      .checks = { { 3, MSG_FASTOPEN, 0 } } },
    { .name = "sendmsg",
      .threads = IMMEDIATE,
      .when = OPENS_SOCKETS,
      .checks_count = 1,
      .checks = { { 2, MSG_FASTOPEN, 0 } } },
    { .name = "setsockopt",
      .threads = IMMEDIATE,
      .checks_count = 2,
      .checks = { { 1, WHOLE, SOL_SOCKET }, { 2, WHOLE, SO_LINGER } } },
    // Of the sending direction: a listener whose other one is shut becomes a socket without a peer.
    { .name = "shutdown",
      .threads = IMMEDIATE,
      .when = WEIR_ABILITY_END,
      .checks_count = 1,
      .checks = { { 1, WHOLE, SHUT_WR } } },
    // Each connection's loop asks whether SIGPIPE is ignored. Without a new action to set.
    { .name = "rt_sigaction",
      .threads = BLOCKING,
      .when = WEIR_ABILITY_READ,
      .checks_count = 1,
      .checks = { { 1, WHOLE, 0 } } },
    { .name = "sendfile", .threads = LOOPS, .when = WEIR_ABILITY_READ },
    { .name = "preadv2", .threads = LOOPS | SANDBOX_JOB_EPOLL, .when = WEIR_ABILITY_READ },
    { .name = "fstatfs", .threads = URING, .when = WEIR_ABILITY_READ },
    // What comes for a file in memory is written at once, out of the socket by way of a pipe.
    { .name = "fstatfs", .threads = EPOLL, .when = WEIR_ABILITY_WRITE },
    { .name = "pwritev", .threads = URING | EPOLL, .when = WEIR_ABILITY_WRITE },
    { .name = "splice", .threads = URING | EPOLL, .when = WEIR_ABILITY_WRITE },
    { .name = "pipe2",
      .threads = URING | EPOLL,
      .when = WEIR_ABILITY_WRITE,
      .checks_count = 1,
      .checks = { { 1, WHOLE, O_CLOEXEC | O_NONBLOCK } } },
    { .name = "fcntl",
      .threads = URING | EPOLL,
      .when = WEIR_ABILITY_WRITE,
      .checks_count = 1,
      .checks = { { 1, WHOLE, F_SETPIPE_SZ } } },
    { .name = "ioctl",
      .threads = URING | EPOLL,
      .when = WEIR_ABILITY_WRITE,
      .checks_count = 1,
      .checks = { { 1, WHOLE, FIONREAD } } },
    { .name = "pwritev2", .threads = IMMEDIATE | SANDBOX_JOB_EPOLL, .when = WEIR_ABILITY_WRITE },
    { .name = "openat2", .threads = BLOCKING | SANDBOX_JOB_EPOLL, .when = WEIR_ABILITY_OPEN },

    // Sockets that are made while the server runs: TCP, which is what Landlock watches, and nothing
    // else behind the same calls.
    { .name = "socket",
      .threads = LOOPS,
      .when = OPENS_SOCKETS,
      .checks_count = 3,
      .checks = { { 0, WHOLE, AF_INET }, { 1, 0xf, SOCK_STREAM }, { 2, WHOLE, 0 } } },
    { .name = "socket",
      .threads = LOOPS,
      .when = OPENS_SOCKETS,
      .checks_count = 3,
      .checks = { { 0, WHOLE, AF_INET6 }, { 1, 0xf, SOCK_STREAM }, { 2, WHOLE, 0 } } },
    SOCKET_OPTION(SOL_SOCKET, SO_REUSEADDR),
    SOCKET_OPTION(SOL_SOCKET, SO_SNDBUF),
    SOCKET_OPTION(SOL_SOCKET, SO_RCVBUF),
    SOCKET_OPTION(SOL_SOCKET, SO_KEEPALIVE),
    SOCKET_OPTION(IPPROTO_TCP, TCP_NODELAY),
    SOCKET_OPTION(IPPROTO_TCP, TCP_CORK),
    SOCKET_OPTION(IPPROTO_TCP, TCP_NOTSENT_LOWAT),
    SOCKET_OPTION(IPPROTO_IPV6, IPV6_V6ONLY),
    SOCKET_OPTION(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT),
    { .name = "bind", .threads = LOOPS, .when = OPENS_SOCKETS },
    { .name = "listen", .threads = LOOPS, .when = WEIR_ABILITY_LISTEN },
    { .name = "getsockname", .threads = LOOPS, .when = OPENS_SOCKETS },
    { .name = "connect", .threads = IMMEDIATE, .when = WEIR_ABILITY_CONNECT },
    { .name = "getsockopt", .threads = IMMEDIATE, .when = WEIR_ABILITY_CONNECT },

    // The blocking engine makes a thread with a loop for each connection. clone3(2) hides its flags
    // in memory, so glibc is sent to clone(2), whose flags say that it makes a thread.
    { .name = "ppoll", .threads = BLOCKING },
    { .name = "read", .threads = BLOCKING },
    { .name = "eventfd2", .threads = BLOCKING },
    { .name = "ioctl",
      .threads = BLOCKING,
      .checks_count = 1,
      .checks = { { 1, 0xffffffff, FIONBIO } } },
    { .name = "setsockopt",
      .threads = BLOCKING,
      .checks_count = 2,
      .checks = { { 1, WHOLE, SOL_SOCKET }, { 2, WHOLE, SO_RCVTIMEO } } },
    { .name = "setsockopt",
      .threads = BLOCKING,
      .checks_count = 2,
      .checks = { { 1, WHOLE, SOL_SOCKET }, { 2, WHOLE, SO_SNDTIMEO } } },
    { .name = "clone3", .threads = BLOCKING, .level = SANDBOX_REFUSED, .refusal = ENOSYS },
    { .name = "clone",
      .threads = BLOCKING,
      .checks_count = 1,
      .checks = { { 0, CLONE_THREAD, CLONE_THREAD } } },
    { .name = "mmap", .threads = BLOCKING, .checks_count = 1, .checks = { { 2, PROT_EXEC, 0 } } },
    { .name = "munmap", .threads = BLOCKING },
    { .name = "mprotect",
      .threads = BLOCKING,
      .checks_count = 1,
      .checks = { { 2, PROT_EXEC, 0 } } },
    { .name = "madvise", .threads = BLOCKING },
    { .name = "rt_sigprocmask", .threads = BLOCKING },
    { .name = "rseq", .threads = BLOCKING },
    { .name = "set_robust_list", .threads = BLOCKING },

    // The thread that waits for signals; it writes statistics and opens the log anew.
    { .name = "poll", .otherwise = "ppoll", .threads = SANDBOX_MAIN },
    { .name = "read", .threads = SANDBOX_MAIN },
    { .name = "restart_syscall", .threads = SANDBOX_MAIN },
    { .name = "exit_group", .threads = SANDBOX_MAIN },
    { .name = "openat", .threads = SANDBOX_MAIN, .when = SANDBOX_WITH_FILES },
    { .name = "newfstatat",
      .otherwise = "fstatat64",
      .threads = SANDBOX_MAIN,
      .when = SANDBOX_WITH_FILES },
    { .name = "fstat", .threads = SANDBOX_MAIN, .when = SANDBOX_WITH_FILES },
    { .name = "fcntl",
      .threads = SANDBOX_MAIN,
      .when = SANDBOX_WITH_FILES,
      .checks_count = 1,
      .checks = { { 1, WHOLE, F_GETFL } } },
    { .name = "dup3", .threads = SANDBOX_MAIN, .when = SANDBOX_WITH_FILES },
    { .name = "rename",
      .otherwise = "renameat",
      .threads = SANDBOX_MAIN,
      .when = SANDBOX_WITH_FILES },
    { .name = "unlink",
      .otherwise = "unlinkat",
      .threads = SANDBOX_MAIN,
      .when = SANDBOX_WITH_FILES | SANDBOX_WITH_UNIX },

    // stdio asks whether a device that it writes to is a terminal.
    { .name = "ioctl", .threads = SANDBOX_MAIN, .level = SANDBOX_REFUSED },

    // Memory beside brk(2), never executable, and what glibc does when a thread ends.
    { .name = "mmap",
      .threads = EVERY,
      .level = SANDBOX_QUIET,
      .checks_count = 1,
      .checks = { { 2, PROT_EXEC, 0 } } },
    { .name = "mprotect",
      .threads = EVERY,
      .level = SANDBOX_QUIET,
      .checks_count = 1,
      .checks = { { 2, PROT_EXEC, 0 } } },
    { .name = "munmap", .threads = EVERY, .level = SANDBOX_QUIET },
    { .name = "mremap", .threads = EVERY, .level = SANDBOX_QUIET },
    { .name = "madvise", .threads = EVERY, .level = SANDBOX_QUIET },
    { .name = "rt_sigprocmask", .threads = EVERY, .level = SANDBOX_QUIET },
    // abort(3): nothing else asks for these numbers (see sandbox_abort.c). The threads of blocking
    // connections are too short-lived to be prepared: they may ask.
    { .name = "getpid", .threads = ABORTS, .level = SANDBOX_ABORT },
    { .name = "gettid", .threads = ABORTS, .level = SANDBOX_ABORT },
    { .name = "getpid", .threads = BLOCKING },
    { .name = "gettid", .threads = BLOCKING },
    { .name = "tgkill",
      .threads = EVERY,
      .checks_count = 2,
      .checks = { { 0, WHOLE, SANDBOX_OWN_PROCESS }, { 2, WHOLE, SIGABRT } } },
    // Waits that were interrupted by a stop and a continue.
    { .name = "rt_sigreturn", .threads = EVERY, .level = SANDBOX_LEFT_ON },
    { .name = "restart_syscall", .threads = LOOPS | SANDBOX_JOB, .level = SANDBOX_LEFT_ON },
    { .name = "sched_yield", .threads = EVERY, .level = SANDBOX_LEFT_ON },
};

const struct sandbox_call *sandbox_call_at(const struct sandbox_needs *needs, size_t index)
{
    const size_t count = sizeof sandbox_rows / sizeof sandbox_rows[0];
    if (index < count)
        return &sandbox_rows[index];
    return index - count < needs->calls_count ? &needs->calls[index - count] : NULL;
}

bool sandbox_call_applies(const struct sandbox_call *row, uint32_t threads, uint32_t having)
{
    return row->threads & threads && (!row->when || row->when & having) && !(row->unless & having);
}

bool sandbox_call_is_left(const struct sandbox_call *row, enum sandbox_mode mode)
{
    return row->level == SANDBOX_LEFT || (mode == SANDBOX_ON && row->level != SANDBOX_REFUSED);
}

uint32_t sandbox_threads_of(enum weir_engine engine, enum weir_thread thread)
{
    static const uint32_t loops[] = {
        [WEIR_ENGINE_AUTO] = 0, // never runs: it becomes another
        [WEIR_ENGINE_URING] = SANDBOX_LOOP_URING,
        [WEIR_ENGINE_EPOLL] = SANDBOX_LOOP_EPOLL,
        [WEIR_ENGINE_BLOCKING] = SANDBOX_LOOP_BLOCKING | SANDBOX_JOB,
    };
    if (thread == WEIR_THREAD_LOOP)
        return loops[engine];
    return SANDBOX_JOB | (engine == WEIR_ENGINE_EPOLL ? SANDBOX_JOB_EPOLL : 0);
}
