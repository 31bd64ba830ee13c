// Runs a server: limits, listeners, sandbox, start, signals, end. The order matters: signals are
// blocked before any thread exists; addresses are bound and the log opened while that is still
// allowed; the sandbox closes before a thread runs or a ring is enabled; and the "listening" lines
// come when connections are accepted.
#include "serve.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "serve_sandbox.h"

// Descriptors beside those of connections: standard streams, log, rings, wake-ups, and a few
// accepted connections per listener that are on their way.
enum { SERVE_FILES_BASE = 64, SERVE_FILES_THREAD = 8, SERVE_FILES_LISTENER = 9 };

// How often an address in use is tried, and how long apart.
enum { SERVE_BIND_TRIES = 75, SERVE_BIND_PAUSE_NS = 20 * 1000000 };

// How long loops may take to end when all connections have.
#define SERVE_END_NS (10 * 1000000000ULL)

struct serve {
    const struct option_set *options;
    const struct serve_settings *settings;
    struct weir_server *server;
    struct serve_log log;
    struct sandbox sandbox;
    struct privileges privileges; // of settings->user
    uint32_t connections;         // that fit
    int signals_fd;
    bool draining;
    uint64_t end_ns; // then the process ends, whatever its loops do; WEIR_NEVER before SIGTERM
    bool root;       // it kept root's privileges
    bool starting;   // errors are kept, so that a failed start is one line
    char error[512]; // the first of them
    char limit[160]; // what there is to say of the limit of descriptors; empty: nothing
};

__attribute__((format(printf, 3, 4))) static void
serve_say(struct serve *serve, enum weir_log_level level, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    serve_log_offer(&serve->log, level, text);
}

// The log function of the server's loops.
static void serve_hear(void *context, enum weir_log_level level, const char *text)
{
    struct serve *serve = context;
    if (!serve->starting || level != WEIR_LOG_ERROR)
        serve_log_write(&serve->log, level, text);
    else if (!serve->error[0])
        snprintf(serve->error, sizeof serve->error, "%s", text);
}

// One line on standard error, wherever the log goes. What the server said explains more than the
// error's number.
static int serve_fault(const struct serve *serve, const char *what, const char *reason)
{
    fprintf(stderr, "%s: %s: %s\n", serve->options->command, what,
            serve->error[0] ? serve->error : reason);
    return SERVE_EXIT_RUN;
}

// --- Limits --------------------------------------------------------------------------------------

// Raises the soft limit of descriptors to the hard one. Returns how many connections fit.
static uint32_t serve_fit_connections(struct serve *serve)
{
    const struct serve_settings *settings = serve->settings;
    struct rlimit limit;
    uint32_t wanted = (uint32_t)settings->connections_max;
    // A thread of a connection has a descriptor to be woken by.
    const rlim_t each = settings->engine == WEIR_ENGINE_BLOCKING ? 2 : 1;
    rlim_t other = SERVE_FILES_BASE + settings->threads * SERVE_FILES_THREAD +
                   settings->threads * settings->listens_count * SERVE_FILES_LISTENER;
    // UNTESTED: getrlimit of a known limit
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return wanted;
    if (limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
        getrlimit(RLIMIT_NOFILE, &limit);
    }
    if (limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= other + each * wanted)
        return wanted;
    uint32_t fit = limit.rlim_cur >= other + each ? (uint32_t)((limit.rlim_cur - other) / each) : 1;
    snprintf(serve->limit, sizeof serve->limit,
             "the file limit of %llu leaves room for %u connections, not %u; raise it with: "
             "ulimit -Hn %llu",
             (unsigned long long)limit.rlim_cur, fit, wanted,
             (unsigned long long)(other + each * wanted));
    return fit;
}

// --- Start ---------------------------------------------------------------------------------------

static void serve_config(struct serve *serve, struct weir_server_config *ret_config)
{
    const struct serve_settings *settings = serve->settings;
    weir_server_config_init(ret_config);
    ret_config->threads = (uint32_t)settings->threads;
    ret_config->cpus = settings->cpus;
    ret_config->cpus_count = settings->cpus_count;
    ret_config->address_streams_max = (uint32_t)settings->address_connections_max;
    ret_config->drain_timeout_ns = settings->drain_timeout_ns;
    serve_settings_loop(settings, &ret_config->loop);
    ret_config->loop.streams_max = serve->connections;
    serve_sandbox_configure(&serve->sandbox, ret_config);
    ret_config->loop.log = serve_hear;
    ret_config->loop.log_context = serve;
}

static bool serve_cpus_present(const struct serve_settings *settings)
{
    cpu_set_t present;
    // UNTESTED: no machine at hand has more CPUs than the set
    if (sched_getaffinity(0, sizeof present, &present) < 0)
        return true; // a machine with more CPUs than the set holds; the threads will tell
    for (size_t i = 0; i < settings->cpus_count; i++) {
        if (!CPU_ISSET(settings->cpus[i], &present))
            return false;
    }
    return true;
}

// Returns the exit status for settings that only make sense together, or 0.
static int serve_check(const struct serve *serve)
{
    const struct serve_settings *settings = serve->settings;
    const char *fault = NULL;
    if (!settings->listens_count)
        fault = "--listen: at least one address is needed";
    else if (settings->engine == WEIR_ENGINE_BLOCKING && settings->threads != 1)
        fault = "--threads: the blocking engine has a thread per connection instead";
    else if (settings->uring &&
             (settings->engine == WEIR_ENGINE_EPOLL || settings->engine == WEIR_ENGINE_BLOCKING))
        fault = "--uring: needs --engine uring or auto";
    else if (settings->engine == WEIR_ENGINE_BLOCKING && settings->busy_poll_us)
        fault = "--busy-poll-us: the blocking engine waits in the kernel only";
    else if (settings->min_wait_us &&
             (settings->engine == WEIR_ENGINE_EPOLL || settings->engine == WEIR_ENGINE_BLOCKING))
        fault = "--min-wait-us: needs --engine uring or auto";
    else if (settings->min_wait_us && settings->busy_poll_us)
        fault = "--min-wait-us: not with --busy-poll-us: the one sleeps longer, the other never";
    else if (settings->buffer_size % 4096)
        fault = "--buffer-size: must be a multiple of 4096 bytes";
    else if (!serve_cpus_present(settings))
        fault = "--cpu: this process may not run on one of these CPUs";
    if (!fault)
        return 0;
    fprintf(stderr, "%s: %s\n", serve->options->command, fault);
    return SERVE_EXIT_USAGE;
}

// The sockets of a server that was killed stay open until a worker of the kernel has taken its ring
// down, up to 0.2 s after the process is gone as measured: an address in use may soon be free.
static int serve_listen_address(struct serve *serve, const struct weir_address *address,
                                const struct weir_socket_options *options,
                                const struct weir_protocol *protocol, void *context,
                                struct weir_address *ret_bound)
{
    const struct timespec pause = { .tv_nsec = SERVE_BIND_PAUSE_NS };
    int error = -EADDRINUSE;
    for (int i = 0; i < SERVE_BIND_TRIES && error == -EADDRINUSE; i++) {
        if (i)
            nanosleep(&pause, NULL);
        error = weir_server_listen(serve->server, address, options, protocol, context, ret_bound);
    }
    return error;
}

static int serve_listen(struct serve *serve, const struct weir_protocol *protocol, void *context,
                        struct weir_address *ret_bounds)
{
    const struct serve_settings *settings = serve->settings;
    struct weir_socket_options options = {
        .backlog = (int)settings->backlog,
        .send_buffer = (int)settings->send_buffer,
        .receive_buffer = (int)settings->receive_buffer,
        .notsent_lowat = (int)settings->notsent_lowat,
        .keepalive = settings->keepalive,
        .ordinary_descriptor = settings->ordinary_descriptor,
        .incoming_only =
            serve_sandbox_is_incoming_only(&serve->sandbox, weir_server_engine(serve->server)),
        .unix_mode = (uint32_t)settings->unix_mode,
    };
    for (size_t i = 0; i < settings->listens_count; i++) {
        char text[WEIR_ADDRESS_TEXT_SIZE];
        int error = serve_listen_address(serve, &settings->listens[i], &options, protocol, context,
                                         &ret_bounds[i]);
        // Some kernels let only a privileged process filter what its socket hears.
        if (error == -EPERM && options.incoming_only) {
            options.incoming_only = false;
            serve->sandbox.answers_come = true;
            error = serve_listen_address(serve, &settings->listens[i], &options, protocol, context,
                                         &ret_bounds[i]);
        }
        if (!error)
            continue;
        weir_address_print(&settings->listens[i], text);
        return serve_fault(serve, text, strerror(-error));
    }
    return 0;
}

static void serve_say_sandbox(struct serve *serve)
{
    char text[256];
    sandbox_print(&serve->sandbox, text, sizeof text);
    serve_say(serve, WEIR_LOG_INFO, "sandbox: %s", text);
    serve_sandbox_fast_open(&serve->sandbox, text, sizeof text);
    if (*text)
        serve_say(serve, WEIR_LOG_WARNING, "sandbox: %s", text);
    if (serve->root)
        serve_say(serve, WEIR_LOG_WARNING,
                  "this server runs as root; --%s NAME gives up its privileges",
                  serve->settings->user_option);
}

// Not by stdio, which asks what its descriptor is: this thread has its filter.
static int serve_print(const char *text, size_t size)
{
    while (size) {
        ssize_t written = write(STDOUT_FILENO, text, size);
        if (written < 0)
            return -errno;
        text += written;
        size -= (size_t)written;
    }
    return 0;
}

// Says where connections are accepted, and how.
static int serve_announce(struct serve *serve, const struct weir_address *bounds)
{
    const struct serve_settings *settings = serve->settings;
    const char *engine = weir_server_engine(serve->server);
    const char *name = strrchr(serve->options->command, ' ') + 1;
    for (size_t i = 0; i < settings->listens_count; i++) {
        char text[WEIR_ADDRESS_TEXT_SIZE], line[WEIR_ADDRESS_TEXT_SIZE + 128];
        weir_address_print(&bounds[i], text);
        int size = snprintf(line, sizeof line, "listening %s %s engine=%s threads=%u\n", name, text,
                            engine, (unsigned)settings->threads);
        int error = serve_print(line, (size_t)size);
        if (error)
            return serve_fault(serve, "standard output", strerror(-error));
    }
    if (*serve->limit)
        serve_say(serve, WEIR_LOG_WARNING, "%s", serve->limit);
    serve_say(serve, WEIR_LOG_INFO, "plan: %s%s%s", engine,
              *weir_server_plan(serve->server) ? ": " : "", weir_server_plan(serve->server));
    serve_say_sandbox(serve);
    return 0;
}

// --- Signals -------------------------------------------------------------------------------------

static int serve_block_signals(struct serve *serve)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGUSR1);
    sigaddset(&signals, SIGHUP);
    // UNTESTED: sigprocmask with a right set
    if (sigprocmask(SIG_BLOCK, &signals, NULL) < 0)
        return -errno;
    serve->signals_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    return serve->signals_fd < 0 ? -errno : 0;
}

static int serve_write_stats(struct serve *serve)
{
    const char *path = serve->settings->stats_path;
    int error = 0;
    if (path)
        error = serve_stats_write(path, serve->server, serve->settings, &serve->sandbox);
    return error ? serve_fault(serve, path, strerror(-error)) : 0;
}

// What is said of it comes second: a log that nobody reads must not keep connections from ending.
static void serve_end(struct serve *serve)
{
    bool again = serve->draining;
    uint64_t drain_ns = again ? 0 : serve->settings->drain_timeout_ns;
    serve->draining = true;
    serve->end_ns = weir_clock_now() + drain_ns + SERVE_END_NS;
    if (again)
        weir_server_stop(serve->server);
    else
        weir_server_drain(serve->server);
    serve_say(serve, WEIR_LOG_INFO, again ? "ending at once" : "draining");
}

// The file first: who reads the last line in the log finds it written.
static void serve_tell(struct serve *serve)
{
    serve_write_stats(serve);
    serve_stats_log(&serve->log, serve->server, &serve->settings->counters);
}

static int serve_reopen_log(struct serve *serve, struct serve_log *log)
{
    int error = log->path ? serve_log_open(log) : 0;
    if (error)
        serve_say(serve, WEIR_LOG_ERROR, "the log stays open: %s: %s", log->path, strerror(-error));
    return error;
}

static void serve_reopen(struct serve *serve)
{
    int error = serve_reopen_log(serve, &serve->log);
    for (size_t i = 0; i < SERVE_LOGS_MAX; i++) {
        struct serve_log *log = serve->settings->logs[i];
        if (log && serve_reopen_log(serve, log))
            error = -EIO;
    }
    if (!error)
        serve_say(serve, WEIR_LOG_INFO, "log reopened");
}

static void serve_signal(struct serve *serve, uint32_t number)
{
    static const struct {
        int number;
        void (*function)(struct serve *serve);
    } actions[] = {
        { SIGTERM, serve_end },
        { SIGINT, serve_end },
        { SIGUSR1, serve_tell },
        { SIGHUP, serve_reopen },
    };
    for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++) {
        if (actions[i].number == (int)number)
            actions[i].function(serve);
    }
}

// A helper's call cannot be taken back, and its loop waits for it: a write into a pipe that nobody
// reads, or to a disk that does not answer.
_Noreturn static void serve_give_up(struct serve *serve)
{
    struct serve_log errors = { .fd = STDERR_FILENO };
    serve_write_stats(serve);
    serve_log_offer(&errors, WEIR_LOG_ERROR,
                    "the server does not end: nobody reads a log, or a disk does not answer");
    _exit(SERVE_EXIT_RUN);
}

// In milliseconds, as poll(2) takes them.
static int serve_time_left(const struct serve *serve)
{
    uint64_t now_ns = weir_clock_now();
    if (serve->end_ns == WEIR_NEVER)
        return -1;
    if (serve->end_ns <= now_ns)
        return 0;
    uint64_t left_ms = (serve->end_ns - now_ns) / 1000000 + 1;
    return left_ms < INT_MAX ? (int)left_ms : INT_MAX;
}

// Returns when the server has ended.
static void serve_wait(struct serve *serve)
{
    struct pollfd polls[] = {
        { .fd = serve->signals_fd, .events = POLLIN },
        { .fd = weir_server_ended_descriptor(serve->server), .events = POLLIN },
    };
    struct signalfd_siginfo signal;
    while (!polls[1].revents) {
        int count = poll(polls, 2, serve_time_left(serve));
        // UNTESTED: no handler interrupts it
        if (count < 0)
            continue;
        if (count == 0 && serve_time_left(serve) == 0)
            serve_give_up(serve);
        while (read(serve->signals_fd, &signal, sizeof signal) == sizeof signal)
            serve_signal(serve, signal.ssi_signo);
    }
}

// --- The sandbox ---------------------------------------------------------------------------------

// While this process may still look around: the user's groups and the jail. Returns the exit
// status.
static int serve_prepare_privileges(struct serve *serve)
{
    const struct serve_settings *settings = serve->settings;
    int error = settings->user ? privileges_find(settings->user, &serve->privileges) : 0;
    if (error)
        return serve_fault(serve, settings->user,
                           // UNTESTED: users that cannot be looked up
                           error == -ENOENT ? "no such user" : strerror(-error));
    error = settings->chroot ? privileges_chroot(settings->chroot) : 0;
    return error ? serve_fault(serve, settings->chroot, strerror(-error)) : 0;
}

// Strict does not start where a way to connect stays open. Returns the exit status.
static int serve_check_fast_open(const struct serve *serve)
{
    char text[256], reason[sizeof text + 32];
    serve_sandbox_fast_open(&serve->sandbox, text, sizeof text);
    if (serve->sandbox.mode != SANDBOX_STRICT || !*text)
        return 0;
    snprintf(reason, sizeof reason, "--sandbox strict: %s", text);
    return serve_fault(serve, "the server cannot start", reason);
}

// From here on only what the server needs is left to it. Rings exist and can do nothing yet.
static int serve_enter_sandbox(struct serve *serve)
{
    static const char *const engines[] = {
        [WEIR_ENGINE_URING] = "uring",
        [WEIR_ENGINE_EPOLL] = "epoll",
        [WEIR_ENGINE_BLOCKING] = "blocking",
    };
    const char *engine = weir_server_engine(serve->server);
    int error = serve->settings->user ? privileges_drop(&serve->privileges) : 0;
    // UNTESTED: root may become anybody
    if (error)
        return serve_fault(serve, serve->settings->user, strerror(-error));
    serve->root = geteuid() == 0;
    for (size_t i = WEIR_ENGINE_URING; i < sizeof engines / sizeof engines[0]; i++) {
        if (!strcmp(engine, engines[i]))
            serve->sandbox.engine = (enum weir_engine)i;
    }
    error = sandbox_enter(&serve->sandbox);
    if (error)
        return serve_fault(serve, "the server cannot start", serve->sandbox.fault);
    return serve_check_fast_open(serve);
}

// --- Run -----------------------------------------------------------------------------------------

static int serve_with_server(struct serve *serve, const struct weir_protocol *protocol,
                             void *context)
{
    struct weir_address bounds[SERVE_LISTENS_MAX];
    int status = serve_listen(serve, protocol, context, bounds);
    if (status)
        return status;
    status = serve_enter_sandbox(serve);
    if (status)
        return status;
    serve->starting = false; // from here on, other threads speak too
    int error = weir_server_start(serve->server);
    if (error)
        return serve_fault(serve, "start",
                           serve->sandbox.fault[0] ? serve->sandbox.fault : strerror(-error));
    error = sandbox_confine_main(&serve->sandbox);
    if (error)
        return serve_fault(serve, "start", serve->sandbox.fault);
    status = serve_announce(serve, bounds);
    if (status)
        return status;
    serve_wait(serve);
    error = weir_server_wait(serve->server);
    serve_log_end();
    // UNTESTED: needs a kernel that breaks a ring
    if (error)
        status = serve_fault(serve, "the server ended", strerror(-error));
    int stats_status = serve_write_stats(serve);
    return status ? status : stats_status;
}

static int serve_with_log(struct serve *serve, const struct weir_protocol *protocol, void *context)
{
    struct weir_server_config config;
    int error = serve_block_signals(serve);
    // UNTESTED: signals can be blocked
    if (error)
        return serve_fault(serve, "signals", strerror(-error));
    serve_config(serve, &config);
    serve->starting = true;
    error = weir_server_create(&config, &serve->server);
    if (!error) {
        int status = serve_with_server(serve, protocol, context);
        weir_server_destroy(serve->server);
        close(serve->signals_fd);
        return status;
    }
    close(serve->signals_fd);
    char advice[256] = "";
    if (error == -ENOMEM)
        serve_sandbox_memlock(serve->settings, advice, sizeof advice);
    int status = serve_fault(serve, "the server cannot start", *advice ? advice : strerror(-error));
    return error == -EINVAL ? SERVE_EXIT_USAGE
                            : status; // an option's value that only the core knows
}

int serve_run(const struct option_set *options, const struct serve_settings *settings,
              const struct weir_protocol *protocol, void *context)
{
    struct serve serve = { .options = options, .settings = settings, .end_ns = WEIR_NEVER };
    serve.log = (struct serve_log){ .path = settings->log_path, .fd = -1 };
    int status = serve_check(&serve);
    if (status)
        return status;
    const bool fast_open = serve_sandbox_has_fast_open(); // a root of its own has no /proc
    status = serve_prepare_privileges(&serve);
    if (status)
        return status;
    int error = serve_log_open(&serve.log);
    if (error)
        return serve_fault(&serve, settings->log_path, strerror(-error));
    serve.connections = serve_fit_connections(&serve);
    status = settings->prepare ? settings->prepare(context, serve.connections) : 0;
    if (status)
        return status;
    error = serve_sandbox_init(&serve.sandbox, settings);
    // UNTESTED: options end before: 64 listeners and a few files
    if (error)
        return serve_fault(&serve, "--sandbox: paths", strerror(-error));
    serve.sandbox.fast_open = fast_open;
    status = serve_with_log(&serve, protocol, context);
    serve_log_close(&serve.log);
    return status;
}
