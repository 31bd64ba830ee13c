// See serve_sandbox.h.
#include "serve_sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

// Queues, buffer ring and table of descriptors of one ring, generously.
enum { SERVE_RING_MEMORY = 1 << 20 };

// --- Paths ---------------------------------------------------------------------------------------

// Devices are never replaced, and their folder is nobody's to write in. /dev/shm is for files.
static bool serve_sandbox_is_device(const char *path)
{
    struct stat status;
    return (!strncmp(path, "/dev/", 5) && strncmp(path, "/dev/shm/", 9) != 0) ||
           (stat(path, &status) == 0 && (S_ISCHR(status.st_mode) || S_ISBLK(status.st_mode)));
}

// A file that is replaced, opened anew or removed needs the folder that it lies in. The folder is
// opened now, while it can be; one that is not there needs no rule.
static int serve_sandbox_add(struct sandbox *sandbox, const char *path, enum sandbox_access access)
{
    char folder[PATH_MAX] = ".";
    struct sandbox_path rule = { .access = access, .close = true };
    const char *slash = strrchr(path, '/');
    if (serve_sandbox_is_device(path))
        snprintf(folder, sizeof folder, "%s", path);
    else if (slash)
        snprintf(folder, sizeof folder, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    rule.fd = open(folder, O_PATH | O_CLOEXEC);
    return rule.fd < 0 ? 0 : sandbox_add_path(sandbox, &rule);
}

// A core file is written by the process itself, where the kernel's pattern says; a pipe's reader is
// another process. Without a limit above 0 nobody wants one.
static int serve_sandbox_add_core(struct sandbox *sandbox)
{
    struct rlimit limit;
    char pattern[PATH_MAX] = "";
    FILE *file = fopen("/proc/sys/kernel/core_pattern", "re");
    // UNTESTED: a pattern for cores that is empty
    if (file && !fgets(pattern, sizeof pattern, file))
        *pattern = '\0';
    if (file)
        fclose(file);
    if (!*pattern || *pattern == '|' || *pattern == '@' || getrlimit(RLIMIT_CORE, &limit) < 0 ||
        !limit.rlim_cur)
        return 0;
    return serve_sandbox_add(sandbox, pattern, SANDBOX_REPLACE);
}

bool serve_sandbox_has_fast_open(void)
{
    enum { CLIENTS = 1 };
    unsigned value = CLIENTS;
    FILE *file = fopen("/proc/sys/net/ipv4/tcp_fastopen", "re");
    // UNTESTED: a file of /proc that holds no number
    if (file && fscanf(file, "%u", &value) != 1)
        value = CLIENTS;
    if (file)
        fclose(file);
    return value & CLIENTS;
}

int serve_sandbox_init(struct sandbox *sandbox, const struct serve_settings *settings)
{
    int error = 0;
    sandbox_init(sandbox, settings->sandbox, settings->needs);
    sandbox->user = settings->user;
    if (sandbox->mode == SANDBOX_OFF || !sandbox->needs)
        return 0;
    const char *files[SERVE_LOGS_MAX + 2] = { settings->log_path, settings->stats_path };
    for (size_t i = 0; i < SERVE_LOGS_MAX; i++)
        files[i + 2] = settings->logs[i] ? settings->logs[i]->path : NULL;
    for (size_t i = 0; !error && i < SERVE_LOGS_MAX + 2; i++) {
        if (!files[i])
            continue;
        sandbox->conditions |= SANDBOX_WITH_FILES;
        error = serve_sandbox_add(sandbox, files[i], SANDBOX_REPLACE);
    }
    if (!error)
        error = serve_sandbox_add_core(sandbox);
    for (size_t i = 0; !error && i < settings->listens_count; i++) {
        const struct weir_address *address = &settings->listens[i];
        if (address->any.sa_family != AF_UNIX)
            continue;
        sandbox->conditions |= SANDBOX_WITH_UNIX;
        error = serve_sandbox_add(sandbox, address->un.sun_path, SANDBOX_REMOVE);
    }
    return error;
}

// --- The server's part ---------------------------------------------------------------------------

void serve_sandbox_configure(struct sandbox *sandbox, struct weir_server_config *config)
{
    if (sandbox->mode == SANDBOX_OFF || !sandbox->needs)
        return;
    config->loop.abilities = sandbox->needs->abilities;
    config->loop.confine = sandbox_confine;
    config->loop.confine_context = sandbox;
}

bool serve_sandbox_is_incoming_only(const struct sandbox *sandbox, const char *engine)
{
    return sandbox->mode != SANDBOX_OFF && sandbox->needs &&
           !(sandbox->needs->abilities & WEIR_ABILITY_CONNECT) && !strcmp(engine, "uring");
}

// The rows of sandbox_calls.c refuse it to system calls, and incoming_only to what was accepted,
// where the kernel grants that; a listener that a protocol opens is made without it.
void serve_sandbox_fast_open(const struct sandbox *sandbox, char *ret_text, size_t size)
{
    *ret_text = '\0';
    if (sandbox->mode == SANDBOX_OFF || !sandbox->needs || !sandbox->fast_open ||
        sandbox->engine != WEIR_ENGINE_URING || sandbox->needs->abilities & WEIR_ABILITY_CONNECT)
        return;
    if (sandbox->answers_come || sandbox->needs->abilities & WEIR_ABILITY_LISTEN)
        snprintf(ret_text, size,
                 "whoever took this server over could still connect by TCP Fast Open; "
                 "close that with: sysctl net.ipv4.tcp_fastopen=0, or use --engine epoll");
}

// --- Limits --------------------------------------------------------------------------------------

// Kernels before 5.12, and from 6.14 on, charge rings to the limit, but not those of root.
void serve_sandbox_memlock(const struct serve_settings *settings, char *ret_text, size_t size)
{
    struct rlimit limit;
    unsigned long long wanted = settings->threads * SERVE_RING_MEMORY;
    *ret_text = '\0';
    if (settings->engine == WEIR_ENGINE_EPOLL || settings->engine == WEIR_ENGINE_BLOCKING ||
        geteuid() == 0 || getrlimit(RLIMIT_MEMLOCK, &limit) < 0 || limit.rlim_cur >= wanted)
        return;
    // UNTESTED: an ordinary user's server, which cannot write its counters
    snprintf(ret_text, size,
             "the limit of locked memory, %llu KiB, may be too low for %llu rings; raise it with: "
             "ulimit -l %llu (systemd: LimitMEMLOCK=)",
             (unsigned long long)limit.rlim_cur / 1024, (unsigned long long)settings->threads,
             wanted / 1024);
}
