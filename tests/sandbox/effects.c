// A server that tries what a sandbox must prevent. A client sends an effect's name and a number,
// and gets the result back: "socket -1\n" says that socket(2) failed with EPERM. The effects are
// tried where an attacker would be, in a callback of a protocol on a loop's thread; with "job:"
// before the name, in a job.
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <seccomp.h>

#include "engines/uring/restrict.h"
#include "engines/uring/uring.h"
#include "sandbox_calls.h"
#include "serve.h"

enum {
    EFFECTS_TEXT_MAX = 128,
    EFFECTS_CALLS_MAX = 600,
    EFFECTS_ABILITIES = WEIR_ABILITY_ACCEPT | WEIR_ABILITY_JOBS,
};

// The first connection: a socket that an attacker finds. The blocking engine opens each on a thread
// of its own.
static _Atomic(struct weir_stream *) effects_victim;

struct effect {
    const char *name;
    int64_t (*run)(struct weir_stream *stream, long argument);
};

static int64_t effects_result(long result)
{
    return result < 0 ? -errno : result;
}

// --- By system call ------------------------------------------------------------------------------

static int64_t effects_open(struct weir_stream *stream, long argument)
{
    (void)stream, (void)argument;
    return effects_result(open("/etc/passwd", O_RDONLY | O_CLOEXEC));
}

static int64_t effects_create(struct weir_stream *stream, long argument)
{
    (void)stream, (void)argument;
    return effects_result(open("/tmp", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600));
}

static int64_t effects_socket(struct weir_stream *stream, long argument)
{
    (void)stream, (void)argument;
    return effects_result(socket(AF_INET, SOCK_STREAM, 0));
}

static struct sockaddr_in effects_loopback(long port)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

// Dissolves a connection, which is allowed, and uses its socket to connect elsewhere.
static int64_t effects_connect(struct weir_stream *stream, long port)
{
    const struct sockaddr nowhere = { .sa_family = AF_UNSPEC };
    const struct sockaddr_in address = effects_loopback(port);
    (void)stream;
    const struct weir_stream *victim = effects_victim;
    int fd = victim->direct ? -1 : victim->fd;
    connect(fd, &nowhere, sizeof nowhere);
    return effects_result(connect(fd, (const struct sockaddr *)&address, sizeof address));
}

static int64_t effects_execute(struct weir_stream *stream, long argument)
{
    char *const arguments[] = { (char[]){ "true" }, NULL };
    (void)stream, (void)argument;
    return effects_result(execve("/bin/true", arguments, NULL));
}

static int64_t effects_fork(struct weir_stream *stream, long argument)
{
    (void)stream, (void)argument;
    long child = syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
    if (child == 0)
        _exit(0);
    return effects_result(child);
}

static int64_t effects_ring(struct weir_stream *stream, long argument)
{
    struct io_uring_params params = { 0 };
    (void)stream, (void)argument;
    return effects_result(syscall(SYS_io_uring_setup, 8, &params));
}

static int64_t effects_register(struct weir_stream *stream, long argument)
{
    (void)stream, (void)argument;
    return effects_result(syscall(SYS_io_uring_register, -1, IORING_REGISTER_PERSONALITY, 0, 0));
}

static int64_t effects_kill(struct weir_stream *stream, long process)
{
    (void)stream;
    return effects_result(kill((pid_t)process, 0));
}

// What abort(3) needs is left in one mode; another signal, or another process, is not.
static int64_t effects_raise(struct weir_stream *stream, long argument)
{
    (void)stream, (void)argument;
    return effects_result(syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGURG));
}

static int64_t effects_trace(struct weir_stream *stream, long process)
{
    (void)stream;
    return effects_result(ptrace(PTRACE_ATTACH, (pid_t)process, NULL, NULL));
}

static int64_t effects_code(struct weir_stream *stream, long argument)
{
    (void)stream, (void)argument;
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? -errno : 0;
}

static int64_t effects_uname(struct weir_stream *stream, long argument)
{
    struct utsname name;
    (void)stream, (void)argument;
    return effects_result(uname(&name));
}

static int64_t effects_abort(struct weir_stream *stream, long argument)
{
    (void)stream, (void)argument;
    abort();
}

static bool effects_call_is_listed(long number, uint32_t threads, uint32_t having)
{
    const struct sandbox_call *rows;
    size_t count = sandbox_calls(&rows);
    for (size_t i = 0; i < count; i++) {
        if (seccomp_syscall_resolve_name(rows[i].name) == number &&
            sandbox_call_applies(&rows[i], threads, having))
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

// Tries every number that the table does not list. Returns how many did not fail with EPERM. None
// of them runs, so the arguments do not matter.
static int64_t effects_others(struct weir_stream *stream, long threads)
{
    int64_t left = 0;
    (void)stream;
    for (long number = 0; number < EFFECTS_CALLS_MAX; number++) {
        if (effects_call_is_the_kernels(number) ||
            effects_call_is_listed(number, (uint32_t)threads, EFFECTS_ABILITIES))
            continue;
        left += syscall(number, -1, 0, 0, 0, 0, 0) != -1 || errno != EPERM;
    }
    return left;
}

// --- Through the ring ----------------------------------------------------------------------------

// Submits the entry and waits for its completion, which stays in the queue: it has the token of a
// cancel, which the loop passes over.
static int64_t effects_submit(struct weir_loop *loop, const struct io_uring_sqe *entry)
{
    static uint32_t tag;
    struct uring *uring = uring_of(loop);
    struct io_uring_sqe *sqe = uring_sqe(loop, OPERATION_CANCEL, 0, 0);
    struct io_uring_cqe *cqe;
    uint64_t token = loop_token(loop, OPERATION_CANCEL, 0, 0) + (++tag & 0xffff);
    unsigned head;
    *sqe = *entry;
    sqe->user_data = token;
    uring_submit_early(loop);
    for (int tries = 0; tries < 1000; tries++) {
        uring->operations->enter(uring->operations_state, &uring->ring, 0, 0,
                                 IORING_ENTER_GETEVENTS, NULL, 0);
        io_uring_for_each_cqe(&uring->ring, head, cqe)
        {
            if (cqe->user_data == token)
                return cqe->res;
        }
        sched_yield();
    }
    return -ETIMEDOUT;
}

static int64_t effects_ring_open(struct weir_stream *stream, long argument)
{
    struct io_uring_sqe entry = { .opcode = IORING_OP_OPENAT, .fd = AT_FDCWD };
    (void)argument;
    entry.addr = (uint64_t)(uintptr_t) "/etc/passwd";
    return effects_submit(weir_stream_loop(stream), &entry);
}

static int64_t effects_ring_socket(struct weir_stream *stream, long argument)
{
    struct io_uring_sqe entry = { .opcode = IORING_OP_SOCKET, .fd = AF_INET };
    (void)argument;
    entry.off = SOCK_STREAM;
    return effects_submit(weir_stream_loop(stream), &entry);
}

// As effects_connect: the first step is what a reset does, and is allowed.
static int64_t effects_ring_connect(struct weir_stream *stream, long port)
{
    static const sa_family_t nowhere = AF_UNSPEC;
    const struct sockaddr_in address = effects_loopback(port);
    struct io_uring_sqe entry = { .opcode = IORING_OP_CONNECT, .off = sizeof nowhere };
    uring_sqe_descriptor(&entry, effects_victim);
    entry.addr = (uint64_t)(uintptr_t)&nowhere;
    int64_t dissolved = effects_submit(weir_stream_loop(stream), &entry);
    entry.addr = (uint64_t)(uintptr_t)&address;
    entry.off = sizeof address;
    return dissolved ? -ENOTRECOVERABLE : effects_submit(weir_stream_loop(stream), &entry);
}

static bool effects_operation_is_listed(unsigned value)
{
    const struct restrict_row *rows;
    size_t count = restrict_table(&rows);
    for (size_t i = 0; i < count; i++) {
        if (rows[i].kind == RESTRICT_OPERATION && rows[i].value == value &&
            (!rows[i].abilities || rows[i].abilities & EFFECTS_ABILITIES))
            return true;
    }
    return false;
}

// Tries every operation that the table does not list for a server that only accepts. Returns how
// many were not refused.
static int64_t effects_ring_others(struct weir_stream *stream, long argument)
{
    int64_t left = 0;
    (void)argument;
    for (unsigned value = 0; value < IORING_OP_LAST; value++) {
        struct io_uring_sqe entry = { .opcode = (uint8_t)value, .fd = -1 };
        if (!effects_operation_is_listed(value))
            left += effects_submit(weir_stream_loop(stream), &entry) != -EACCES;
    }
    return left;
}

// --- The protocol --------------------------------------------------------------------------------

static const struct effect effects_table[] = {
    { "open", effects_open },
    { "create", effects_create },
    { "socket", effects_socket },
    { "connect", effects_connect },
    { "execute", effects_execute },
    { "fork", effects_fork },
    { "ring", effects_ring },
    { "register", effects_register },
    { "kill", effects_kill },
    { "raise", effects_raise },
    { "trace", effects_trace },
    { "code", effects_code },
    { "uname", effects_uname },
    { "abort", effects_abort },
    { "others", effects_others },
    { "ring-open", effects_ring_open },
    { "ring-socket", effects_ring_socket },
    { "ring-connect", effects_ring_connect },
    { "ring-others", effects_ring_others },
};

struct trial {
    struct weir_operation operation;
    struct weir_stream *stream;
    const struct effect *effect;
    long argument;
};

static void effects_reply(struct weir_stream *stream, const char *name, int64_t result)
{
    char text[EFFECTS_TEXT_MAX];
    int size = snprintf(text, sizeof text, "%s %lld\n", name, (long long)result);
    weir_stream_send(stream, text, (size_t)size);
}

static int effects_job(struct weir_operation *operation)
{
    const struct trial *trial = (const struct trial *)operation;
    return (int)trial->effect->run(trial->stream, trial->argument);
}

static void effects_job_done(struct weir_operation *operation, int64_t result)
{
    const struct trial *trial = (const struct trial *)operation;
    effects_reply(trial->stream, trial->effect->name, result);
}

static void effects_try(struct weir_stream *stream, const struct effect *effect, bool as_job,
                        long argument)
{
    if (!as_job) {
        effects_reply(stream, effect->name, effect->run(stream, argument));
        return;
    }
    struct trial *trial = weir_stream_session(stream);
    *trial = (struct trial){ .operation = { .done = effects_job_done, .stream = stream },
                             .stream = stream,
                             .effect = effect,
                             .argument = argument };
    weir_job_start(weir_stream_loop(stream), &trial->operation, effects_job);
}

static void effects_opened(struct weir_stream *stream)
{
    struct weir_stream *none = NULL;
    atomic_compare_exchange_strong(&effects_victim, &none, stream);
}

static void effects_received(struct weir_stream *stream, struct weir_slice slice)
{
    char text[EFFECTS_TEXT_MAX], name[EFFECTS_TEXT_MAX];
    long argument = 0;
    bool as_job = slice.size > 4 && !memcmp(slice.data, "job:", 4);
    snprintf(text, sizeof text, "%.*s", (int)slice.size, slice.data);
    if (sscanf(text + (as_job ? 4 : 0), "%99s %ld", name, &argument) < 1)
        return;
    for (size_t i = 0; i < sizeof effects_table / sizeof effects_table[0]; i++) {
        if (!strcmp(effects_table[i].name, name))
            effects_try(stream, &effects_table[i], as_job, argument);
    }
}

int main(int argc, char **argv)
{
    static const struct weir_protocol protocol = {
        .name = "effects",
        .session_size = sizeof(struct trial),
        .opened = effects_opened,
        .received = effects_received,
    };
    static const char *const job_calls[] = { "uname", NULL };
    static const struct sandbox_needs needs = {
        .abilities = EFFECTS_ABILITIES,
        .job_calls = job_calls,
    };
    static const struct option_set options = {
        .command = "weir effects",
        .usage = "--listen ADDRESS [options]",
        .about = "Tries what the sandbox must prevent.",
        .rows = serve_options,
    };
    struct serve_settings settings;
    signal(SIGPIPE, SIG_IGN);
    serve_settings_init(&settings);
    settings.needs = &needs;
    // As in `weir`, the first word is the command.
    if (argc < 2 || options_parse(&options, argc - 1, argv + 1, &settings))
        return SERVE_EXIT_USAGE;
    return serve_run(&options, &settings, &protocol, NULL);
}
