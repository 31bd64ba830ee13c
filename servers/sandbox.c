// Enters the sandbox: Landlock for the process, then a seccomp filter for each thread. The order of
// the start is serve.c's.
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "sandbox.h"

// Landlock before this (Linux 6.7) does not stop a socket from connecting elsewhere.
enum { SANDBOX_LANDLOCK_STRICT = 4 };

// Shells and supervisors hand out low numbers; a walk over all would take milliseconds.
enum { SANDBOX_INHERITED_MAX = 4096 };

void sandbox_init(struct sandbox *sandbox, enum sandbox_mode mode,
                  const struct sandbox_needs *needs)
{
    *sandbox = (struct sandbox){ .mode = mode, .needs = needs };
    pthread_mutex_init(&sandbox->lock, NULL);
    for (size_t i = 0; needs && i < needs->paths_count; i++)
        sandbox_add_path(sandbox, &needs->paths[i]);
}

int sandbox_add_path(struct sandbox *sandbox, const struct sandbox_path *path)
{
    // UNTESTED: options end before: 64 listeners and a few files
    if (sandbox->paths_count == SANDBOX_PATHS_MAX)
        return -ENOSPC;
    sandbox->paths[sandbox->paths_count++] = *path;
    return 0;
}

// --- Entering ------------------------------------------------------------------------------------

static int sandbox_compare(const void *a, const void *b)
{
    return memcmp(a, b, 1);
}

// Keeps malloc on brk(2), so that no loop needs to map memory (and none opens a file of /proc, as
// other arenas do before they shrink). Has libc ask now what it asks once: gmtime_r(3) for the time
// zone's file, and qsort(3) for the size of memory when it has much to sort.
static void sandbox_prepare_libc(const struct sandbox *sandbox)
{
    char much[4096] = { 0 };
    tzset();
    qsort(much, sizeof much, 1, sandbox_compare);
    if (sandbox->mode != SANDBOX_STRICT)
        return;
    sandbox_abort_init();
    mallopt(M_ARENA_MAX, 1);
    mallopt(M_MMAP_MAX, 0);
}

static int sandbox_refuse(struct sandbox *sandbox, int error, const char *reason)
{
    snprintf(sandbox->fault, sizeof sandbox->fault, "--sandbox strict: %s", reason);
    return error;
}

static int sandbox_fault(struct sandbox *sandbox, int error, const char *what)
{
    snprintf(sandbox->fault, sizeof sandbox->fault, "--sandbox: %s: %s", what, strerror(-error));
    return error;
}

// What the process was given by whoever started it, beside the standard streams: all that a server
// opens itself is close-on-exec.
static void sandbox_close_inherited(void)
{
    for (int fd = STDERR_FILENO + 1; fd < SANDBOX_INHERITED_MAX; fd++) {
        int flags = fcntl(fd, F_GETFD);
        if (flags >= 0 && !(flags & FD_CLOEXEC))
            close(fd);
    }
}

// Mode on goes on without filters only where the kernel has none, or forbids them.
static int sandbox_prepare_filters(struct sandbox *sandbox)
{
    if (SANDBOX_SANITIZED)
        return 0;
    sandbox->seccomp = sandbox_filters_are_taken();
    if (!sandbox->seccomp && sandbox->mode == SANDBOX_STRICT)
        return sandbox_refuse(sandbox, -ENOTSUP, "the kernel takes no seccomp filter");
    int error = sandbox->seccomp ? sandbox_filters_build(sandbox) : 0;
    return error ? sandbox_fault(sandbox, error, "the seccomp filters cannot be built") : 0;
}

int sandbox_enter(struct sandbox *sandbox)
{
    // UNTESTED: every server states what it needs
    if (sandbox->mode == SANDBOX_STRICT && !sandbox->needs)
        return sandbox_refuse(sandbox, -ENOTSUP, "this server does not state what it needs");
    if (sandbox->mode == SANDBOX_STRICT && SANDBOX_SANITIZED)
        return sandbox_refuse(sandbox, -ENOTSUP, "sanitizers need system calls of their own");
    if (sandbox->mode == SANDBOX_OFF || !sandbox->needs)
        return 0;
    sandbox_prepare_libc(sandbox);
    sandbox_close_inherited();
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
        sandbox->no_new_privileges = true;
    // UNTESTED: every kernel since 3.5 has it
    else if (sandbox->mode == SANDBOX_STRICT)
        return sandbox_refuse(sandbox, -errno, "the kernel knows no no_new_privs");
    // A sanitizer looks at the process's memory map when it reports, and when the process ends.
    if (SANDBOX_SANITIZED)
        sandbox_add_path(sandbox, &(struct sandbox_path){ .path = "/proc" });
    int error = sandbox_landlock_enter(sandbox);
    if (error)
        return error;
    if (sandbox->mode == SANDBOX_STRICT && sandbox->landlock < SANDBOX_LANDLOCK_STRICT)
        return sandbox_refuse(sandbox, -ENOTSUP,
                              "needs Landlock with network rules: Linux 6.7 or newer, and landlock "
                              "in the kernel's lsm= list");
    return sandbox_prepare_filters(sandbox);
}

// --- Filters -------------------------------------------------------------------------------------

// In mode on, too: what is missing on this machine is said before there is a thread, and then no
// thread has a filter; a single one without would be the way around all others.
static int sandbox_take(struct sandbox *sandbox, enum sandbox_filter filter)
{
    int error = sandbox->seccomp ? sandbox_filter_install(sandbox, filter) : 0;
    if (!error)
        return 0;
    pthread_mutex_lock(&sandbox->lock);
    sandbox_fault(sandbox, error, "a thread cannot take its seccomp filter");
    pthread_mutex_unlock(&sandbox->lock);
    return error;
}

int sandbox_confine(void *context, enum weir_thread thread)
{
    struct sandbox *sandbox = context;
    sandbox_abort_prepare_thread();
    return sandbox_take(sandbox,
                        thread == WEIR_THREAD_LOOP ? SANDBOX_FILTER_LOOP : SANDBOX_FILTER_JOB);
}

int sandbox_confine_main(struct sandbox *sandbox)
{
    if (sandbox->mode == SANDBOX_OFF || !sandbox->needs)
        return 0;
    sandbox_abort_prepare_thread();
    return sandbox_take(sandbox, SANDBOX_FILTER_MAIN);
}

// --- What holds ----------------------------------------------------------------------------------

static const char *const sandbox_modes[] = {
    [SANDBOX_OFF] = "off", [SANDBOX_ON] = "on", [SANDBOX_STRICT] = "strict"
};

static bool sandbox_is_off(const struct sandbox *sandbox)
{
    return sandbox->mode == SANDBOX_OFF || !sandbox->needs;
}

static bool sandbox_has_ring(const struct sandbox *sandbox)
{
    return !sandbox_is_off(sandbox) && sandbox->engine == WEIR_ENGINE_URING;
}

void sandbox_print(struct sandbox *sandbox, char *ret_text, size_t size)
{
    char landlock[64] = "no landlock (the kernel has none)";
    if (sandbox_is_off(sandbox)) {
        snprintf(ret_text, size, "off%s%s%s",
                 sandbox->mode == SANDBOX_OFF ? "" : ": this server does not state what it needs",
                 sandbox->user ? ": user " : "", sandbox->user ? sandbox->user : "");
        return;
    }
    if (sandbox->landlock)
        snprintf(landlock, sizeof landlock, "landlock %d", sandbox->landlock);
    snprintf(ret_text, size, "%s: %s%s%s, %s%s, %s", sandbox_modes[sandbox->mode],
             sandbox->user ? "user " : "same user", sandbox->user ? sandbox->user : "",
             sandbox->no_new_privileges ? ", no_new_privs" : ", NO no_new_privs", landlock,
             sandbox_has_ring(sandbox) ? ", ring restricted" : "",
             sandbox->seccomp    ? "seccomp"
             : SANDBOX_SANITIZED ? "no seccomp (built with a sanitizer)"
                                 : "no seccomp (the kernel refuses it)");
}

void sandbox_print_json(struct sandbox *sandbox, char *ret_text, size_t size)
{
    static const char *const words[] = { "false", "true" };
    // Names of users need no escapes: sandbox->user is in the system's database of users.
    snprintf(ret_text, size,
             "{\"mode\":\"%s\",\"user\":\"%s\",\"no_new_privs\":%s,\"landlock\":%d,\"ring\":%s,"
             "\"seccomp\":%s}",
             sandbox_is_off(sandbox) ? "off" : sandbox_modes[sandbox->mode],
             sandbox->user ? sandbox->user : "", words[sandbox->no_new_privileges],
             sandbox->landlock, words[sandbox_has_ring(sandbox)], words[sandbox->seccomp]);
}
