// Enters the sandbox: Landlock for the process, then a seccomp filter for each thread. The order of
// the start is serve.c's.
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "sandbox_calls.h"

// Landlock before this (Linux 6.7) does not stop a socket from connecting elsewhere.
enum { SANDBOX_LANDLOCK_STRICT = 4 };

// Shells and supervisors hand out low numbers; a walk over all would take milliseconds.
enum { SANDBOX_INHERITED_MAX = 4096 };

void sandbox_init(struct sandbox *sandbox, enum sandbox_mode mode,
                  const struct sandbox_needs *needs)
{
    *sandbox = (struct sandbox){ .mode = mode, .needs = needs, .seccomp = !SANDBOX_SANITIZED };
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
    seccomp_api_get();
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
    return 0;
}

// --- Filters -------------------------------------------------------------------------------------

static struct scmp_arg_cmp sandbox_comparison(const struct sandbox_check *check)
{
    uint64_t value = check->value;
    if (value == SANDBOX_OWN_PROCESS)
        value = (uint64_t)getpid();
    return (struct scmp_arg_cmp){
        .arg = check->index,
        .op = SCMP_CMP_MASKED_EQ,
        .datum_a = check->mask,
        .datum_b = value,
    };
}

// A call that this architecture lacks has a negative number, and needs no rule.
static int sandbox_number(const struct sandbox_call *row)
{
    int number = seccomp_syscall_resolve_name(row->name);
    // UNTESTED: only other architectures lack a call
    if (number < 0 && row->otherwise)
        number = seccomp_syscall_resolve_name(row->otherwise);
    return number;
}

static int sandbox_add_rule(scmp_filter_ctx filter, uint32_t action, int number,
                            const struct sandbox_call *row)
{
    struct scmp_arg_cmp comparisons[SANDBOX_CHECKS_MAX];
    unsigned count = action == SCMP_ACT_ALLOW ? row->checks_count : 0;
    for (unsigned i = 0; i < count; i++)
        comparisons[i] = sandbox_comparison(&row->checks[i]);
    int error = number < 0 ? 0 : seccomp_rule_add_array(filter, action, number, count, comparisons);
    return error == -EEXIST ? 0 : error; // the same rule by another row
}

static bool sandbox_leaves_name(const struct sandbox *sandbox, const char *name, uint32_t threads)
{
    uint32_t having = sandbox->needs->abilities | sandbox->conditions;
    const struct sandbox_call *row;
    for (size_t i = 0; (row = sandbox_call_at(sandbox->needs, i)); i++) {
        if (!strcmp(row->name, name) && sandbox_call_applies(row, threads, having) &&
            sandbox_call_is_left(row, sandbox->mode))
            return true;
    }
    return false;
}

// What the filter does with the row's call, or SCMP_ACT_KILL_PROCESS: it needs no rule, because the
// mode does the same with all that is not listed.
static uint32_t sandbox_action(const struct sandbox *sandbox, const struct sandbox_call *row,
                               uint32_t threads)
{
    if (sandbox_call_is_left(row, sandbox->mode))
        return SCMP_ACT_ALLOW;
    // A name that is left with a check on its arguments takes no second rule without one.
    if (row->level == SANDBOX_LEFT_ON || sandbox_leaves_name(sandbox, row->name, threads))
        return SCMP_ACT_KILL_PROCESS;
    if (row->level == SANDBOX_ABORT)
        return SCMP_ACT_TRAP;
    if (sandbox->mode == SANDBOX_ON && !row->refusal)
        return SCMP_ACT_KILL_PROCESS;
    return SCMP_ACT_ERRNO((uint32_t)(row->refusal ? row->refusal : EPERM));
}

static int sandbox_fill(scmp_filter_ctx filter, const struct sandbox *sandbox, uint32_t threads)
{
    uint32_t having = sandbox->needs->abilities | sandbox->conditions;
    const struct sandbox_call *row;
    int error = 0;
    for (size_t i = 0; !error && (row = sandbox_call_at(sandbox->needs, i)); i++) {
        if (!sandbox_call_applies(row, threads, having))
            continue;
        uint32_t action = sandbox_action(sandbox, row, threads);
        if (action != SCMP_ACT_KILL_PROCESS)
            error = sandbox_add_rule(filter, action, sandbox_number(row), row);
    }
    return error;
}

// The library shares state between filters, so that one thread at a time builds its own.
static int sandbox_filter(struct sandbox *sandbox, uint32_t threads)
{
    bool strict = sandbox->mode == SANDBOX_STRICT;
    int error = -ENOMEM;
    pthread_mutex_lock(&sandbox->lock);
    const uint32_t refusal = strict ? SCMP_ACT_KILL_PROCESS : SCMP_ACT_ERRNO(EPERM);
    scmp_filter_ctx filter = seccomp_init(refusal);
    if (filter) {
        // Calls by another architecture's numbers, too: the library would end only the thread.
        error = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, refusal);
        if (!error)
            error = sandbox_fill(filter, sandbox, threads);
        if (!error)
            error = seccomp_load(filter);
        // Still needs malloc, which lives on what every filter leaves.
        seccomp_release(filter);
    }
    if (error) {
        sandbox->seccomp = false;
        sandbox_refuse(sandbox, error, "the kernel takes no seccomp filter");
    }
    pthread_mutex_unlock(&sandbox->lock);
    return strict ? error : 0;
}

int sandbox_confine(void *context, enum weir_thread thread)
{
    struct sandbox *sandbox = context;
    if (SANDBOX_SANITIZED)
        return 0;
    sandbox_abort_prepare_thread();
    return sandbox_filter(sandbox, sandbox_threads_of(sandbox->engine, thread));
}

int sandbox_confine_main(struct sandbox *sandbox)
{
    if (SANDBOX_SANITIZED || sandbox->mode == SANDBOX_OFF || !sandbox->needs)
        return 0;
    sandbox_abort_prepare_thread();
    return sandbox_filter(sandbox, SANDBOX_MAIN);
}

// --- What holds ----------------------------------------------------------------------------------

static const char *const sandbox_modes[] = {
    [SANDBOX_OFF] = "off", [SANDBOX_ON] = "on", [SANDBOX_STRICT] = "strict"
};

static bool sandbox_is_off(const struct sandbox *sandbox)
{
    return sandbox->mode == SANDBOX_OFF || !sandbox->needs;
}

static bool sandbox_has_filters(struct sandbox *sandbox)
{
    pthread_mutex_lock(&sandbox->lock);
    bool seccomp = sandbox->seccomp && !sandbox_is_off(sandbox);
    pthread_mutex_unlock(&sandbox->lock);
    return seccomp;
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
             sandbox_has_filters(sandbox) ? "seccomp"
             : SANDBOX_SANITIZED          ? "no seccomp (built with a sanitizer)"
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
             sandbox->landlock, words[sandbox_has_ring(sandbox)],
             words[sandbox_has_filters(sandbox)]);
}
