// Effects by system call.
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <seccomp.h>

#include "effects.h"
#include "engines/uring/uring.h"

enum { EFFECTS_CALLS_MAX = 600 };

static int64_t effects_result(long result)
{
    return result < 0 ? -errno : result;
}

struct sockaddr_in effects_loopback(const struct effect_case *attempt)
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    address.sin_port = htons((uint16_t)atoi(attempt->argument));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

// --- Files: the argument is a path ---------------------------------------------------------------

static int64_t effects_open(const struct effect_case *attempt)
{
    return effects_result(open(attempt->argument, O_RDONLY | O_CLOEXEC));
}

static int64_t effects_open2_with(const struct effect_case *attempt, uint64_t flags, uint64_t mode)
{
    struct open_how how = { .flags = flags | O_CLOEXEC, .mode = mode };
    return effects_result(syscall(SYS_openat2, AT_FDCWD, attempt->argument, &how, sizeof how));
}

static int64_t effects_open2(const struct effect_case *attempt)
{
    return effects_open2_with(attempt, O_RDONLY, 0);
}

static int64_t effects_write2(const struct effect_case *attempt)
{
    return effects_open2_with(attempt, O_WRONLY, 0);
}

static int64_t effects_truncate2(const struct effect_case *attempt)
{
    return effects_open2_with(attempt, O_RDONLY | O_TRUNC, 0);
}

static int64_t effects_create2(const struct effect_case *attempt)
{
    return effects_open2_with(attempt, O_WRONLY | O_CREAT, 0600);
}

static int64_t effects_mkdir(const struct effect_case *attempt)
{
    return effects_result(mkdirat(AT_FDCWD, attempt->argument, 0700));
}

static int64_t effects_unlink(const struct effect_case *attempt)
{
    return effects_result(unlinkat(AT_FDCWD, attempt->argument, 0));
}

static int64_t effects_rename(const struct effect_case *attempt)
{
    return effects_result(renameat(AT_FDCWD, attempt->argument, AT_FDCWD, "/tmp/weir-renamed"));
}

static int64_t effects_link(const struct effect_case *attempt)
{
    return effects_result(symlinkat("/etc/passwd", AT_FDCWD, attempt->argument));
}

static int64_t effects_mode(const struct effect_case *attempt)
{
    return effects_result(chmod(attempt->argument, 0777));
}

static int64_t effects_times(const struct effect_case *attempt)
{
    return effects_result(utimensat(AT_FDCWD, attempt->argument, NULL, 0));
}

// --- Sockets: the argument is a port -------------------------------------------------------------

static int64_t effects_socket(const struct effect_case *attempt)
{
    (void)attempt;
    return effects_result(socket(AF_INET, SOCK_STREAM, 0));
}

static int64_t effects_socket_udp(const struct effect_case *attempt)
{
    (void)attempt;
    return effects_result(socket(AF_INET, SOCK_DGRAM, 0));
}

static int64_t effects_socket_unix(const struct effect_case *attempt)
{
    (void)attempt;
    return effects_result(socket(AF_UNIX, SOCK_STREAM, 0));
}

// Another protocol than TCP, which Landlock does not watch.
static int64_t effects_socket_other(const struct effect_case *attempt)
{
    (void)attempt;
    return effects_result(socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP));
}

// Dissolves a connection, which is allowed, and uses its socket to connect elsewhere.
static int64_t effects_connect(const struct effect_case *attempt)
{
    const struct sockaddr nowhere = { .sa_family = AF_UNSPEC };
    const struct sockaddr_in address = effects_loopback(attempt);
    int fd = attempt->victim->direct ? -1 : attempt->victim->fd;
    connect(fd, &nowhere, sizeof nowhere);
    return effects_result(connect(fd, (const struct sockaddr *)&address, sizeof address));
}

static int64_t effects_connect_new(const struct effect_case *attempt)
{
    const struct sockaddr_in address = effects_loopback(attempt);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int64_t result = effects_result(connect(fd, (const struct sockaddr *)&address, sizeof address));
    close(fd);
    return result;
}

static int64_t effects_fast_open_on(int fd, const struct sockaddr_in *address)
{
    struct iovec byte = { .iov_base = (char[]){ "x" }, .iov_len = 1 };
    const struct msghdr message = {
        .msg_name = (void *)(uintptr_t)address,
        .msg_namelen = sizeof *address,
        .msg_iov = &byte,
        .msg_iovlen = 1,
    };
    const int flags = MSG_FASTOPEN | MSG_DONTWAIT | MSG_NOSIGNAL;
    long result = sendto(fd, "x", 1, flags, (const struct sockaddr *)address, sizeof *address);
    if (result < 0 && errno == EPERM)
        result = sendmsg(fd, &message, flags);
    return effects_result(result);
}

static int64_t effects_bind(const struct effect_case *attempt)
{
    const struct sockaddr_in address = effects_loopback(attempt);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int64_t result = effects_result(bind(fd, (const struct sockaddr *)&address, sizeof address));
    close(fd);
    return result;
}

// Sends with an address on whatever socket has no peer yet: TCP Fast Open, which connects without
// connect(2). A listener has none after its end was shut.
static int64_t effects_fast_open(const struct effect_case *attempt)
{
    const struct sockaddr_in address = effects_loopback(attempt);
    for (int fd = 3; fd < EFFECTS_DESCRIPTORS_MAX; fd++) {
        if (fd == attempt->stream->fd && !attempt->stream->direct)
            continue;
        shutdown(fd, SHUT_RD);
        effects_fast_open_on(fd, &address);
    }
    return 0;
}

static int64_t effects_fast_open_new(const struct effect_case *attempt)
{
    const struct sockaddr_in address = effects_loopback(attempt);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd < 0 ? -errno : effects_fast_open_on(fd, &address);
}

// --- Processes -----------------------------------------------------------------------------------

static int64_t effects_execute(const struct effect_case *attempt)
{
    char *const arguments[] = { (char[]){ "true" }, NULL };
    (void)attempt;
    return effects_result(execve("/bin/true", arguments, NULL));
}

static int64_t effects_fork(const struct effect_case *attempt)
{
    (void)attempt;
    long child = syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
    if (child == 0)
        _exit(0);
    return effects_result(child);
}

static int64_t effects_kill(const struct effect_case *attempt)
{
    return effects_result(kill(atoi(attempt->argument), 0));
}

static int64_t effects_trace(const struct effect_case *attempt)
{
    return effects_result(ptrace(PTRACE_ATTACH, atoi(attempt->argument), NULL, NULL));
}

// What abort(3) needs is left: to this process, with its own signal. The argument is the process.
static int64_t effects_raise(const struct effect_case *attempt)
{
    int process = atoi(attempt->argument);
    return effects_result(syscall(SYS_tgkill, process, process, SIGURG));
}

static int64_t effects_abort_another(const struct effect_case *attempt)
{
    int process = atoi(attempt->argument);
    return effects_result(syscall(SYS_tgkill, process, process, SIGABRT));
}

static int64_t effects_abort(const struct effect_case *attempt)
{
    (void)attempt;
    abort();
}

// As assert(3), in builds without it too.
static int64_t effects_assert(const struct effect_case *attempt)
{
    __assert_fail("an effect", __FILE__, __LINE__, attempt->argument);
}

// --- The kernel ----------------------------------------------------------------------------------

static int64_t effects_ring(const struct effect_case *attempt)
{
    struct io_uring_params params = { 0 };
    (void)attempt;
    return effects_result(syscall(SYS_io_uring_setup, 8, &params));
}

static int64_t effects_register(const struct effect_case *attempt)
{
    (void)attempt;
    return effects_result(syscall(SYS_io_uring_register, -1, IORING_REGISTER_PERSONALITY, 0, 0));
}

static int64_t effects_code(const struct effect_case *attempt)
{
    (void)attempt;
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? -errno : 0;
}

static int64_t effects_uname(const struct effect_case *attempt)
{
    struct utsname name;
    (void)attempt;
    return effects_result(uname(&name));
}

// What listings in jobs do, and no loop.
static int64_t effects_list(const struct effect_case *attempt)
{
    char entries[64];
    (void)attempt;
    long result = syscall(SYS_getdents64, -1, entries, sizeof entries);
    return result < 0 && errno == EBADF ? 0 : effects_result(result);
}

static bool effects_call_is_listed(const struct sandbox_needs *needs, long number, uint32_t threads)
{
    const struct sandbox_call *row;
    for (size_t i = 0; (row = sandbox_call_at(needs, i)); i++) {
        if (seccomp_syscall_resolve_name(row->name) == number &&
            sandbox_call_applies(row, threads, needs->abilities))
            return true;
    }
    return false;
}

// The calls of the kernel's own trampolines for probes (x86-64: uretprobe and uprobe). The kernel
// takes them past all filters, and ends whoever calls them from elsewhere.
static bool effects_call_is_the_kernels(long number)
{
    return number == 335 || number == 336;
}

// Tries every number that the tables do not list for the kinds of threads that the argument names.
// Returns how many did not fail with EPERM. None of them runs, so their arguments do not matter.
static int64_t effects_others(const struct effect_case *attempt)
{
    int64_t left = 0;
    uint32_t threads = (uint32_t)atoi(attempt->argument);
    for (long number = 0; number < EFFECTS_CALLS_MAX; number++) {
        if (effects_call_is_the_kernels(number) ||
            effects_call_is_listed(attempt->needs, number, threads))
            continue;
        left += syscall(number, -1, 0, 0, 0, 0, 0) != -1 || errno != EPERM;
    }
    return left;
}

#if defined __x86_64__
// getpid(2) by the numbers of x86-64's other two interfaces: x32's bit, and the 32-bit gate. What a
// filter says of a number says nothing of theirs.
static int64_t effects_other_numbers(const struct effect_case *attempt)
{
    const long x32_bit = 0x40000000, gate_getpid = 20;
    long result = syscall(SYS_getpid | x32_bit);
    (void)attempt;
    // ENOSYS: this kernel has no x32.
    if (result != -1 || (errno != EPERM && errno != ENOSYS))
        return effects_result(result);
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(gate_getpid) : "memory");
    return result;
}
#else
static int64_t effects_other_numbers(const struct effect_case *attempt)
{
    (void)attempt;
    return -EPERM;
}
#endif

static int64_t effects_nothing(const struct effect_case *attempt)
{
    (void)attempt;
    return 0;
}

const struct effect effects_by_call[] = {
    { "nothing", effects_nothing },
    { "open", effects_open },
    { "open2", effects_open2 },
    { "write2", effects_write2 },
    { "truncate2", effects_truncate2 },
    { "create2", effects_create2 },
    { "mkdir", effects_mkdir },
    { "unlink", effects_unlink },
    { "rename", effects_rename },
    { "link", effects_link },
    { "mode", effects_mode },
    { "times", effects_times },
    { "socket", effects_socket },
    { "socket-udp", effects_socket_udp },
    { "socket-unix", effects_socket_unix },
    { "socket-other", effects_socket_other },
    { "connect", effects_connect },
    { "connect-new", effects_connect_new },
    { "bind", effects_bind },
    { "fast-open", effects_fast_open },
    { "fast-open-new", effects_fast_open_new },
    { "execute", effects_execute },
    { "fork", effects_fork },
    { "kill", effects_kill },
    { "trace", effects_trace },
    { "raise", effects_raise },
    { "abort-another", effects_abort_another },
    { "abort", effects_abort },
    { "assert", effects_assert },
    { "ring", effects_ring },
    { "register", effects_register },
    { "code", effects_code },
    { "uname", effects_uname },
    { "list", effects_list },
    { "others", effects_others },
    { "other-numbers", effects_other_numbers },
    { NULL, NULL },
};
