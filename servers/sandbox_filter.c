// The seccomp filters. libseccomp builds one for each kind of thread while the process has a single
// thread and its memory; the programs are kept, and a thread takes its own by one system call,
// which allocates nothing here. Built in the threads, a filter would meet whatever limit of memory
// they meet, which libseccomp 2.5.4 does not survive.
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox_calls.h"

// All filters of a server took 132 KiB as measured. Where brk(2) has no room, malloc(3) maps 1 MiB.
enum { FILTER_MEMORY = 2 << 20 };

// --- Rules ---------------------------------------------------------------------------------------

static struct scmp_arg_cmp filter_comparison(const struct sandbox_check *check)
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
static int filter_number(const struct sandbox_call *row)
{
    int number = seccomp_syscall_resolve_name(row->name);
    // UNTESTED: only other architectures lack a call
    if (number < 0 && row->otherwise)
        number = seccomp_syscall_resolve_name(row->otherwise);
    return number;
}

static int filter_add_rule(scmp_filter_ctx filter, uint32_t action, int number,
                           const struct sandbox_call *row)
{
    struct scmp_arg_cmp comparisons[SANDBOX_CHECKS_MAX];
    unsigned count = action == SCMP_ACT_ALLOW ? row->checks_count : 0;
    for (unsigned i = 0; i < count; i++)
        comparisons[i] = filter_comparison(&row->checks[i]);
    int error = number < 0 ? 0 : seccomp_rule_add_array(filter, action, number, count, comparisons);
    return error == -EEXIST ? 0 : error; // the same rule by another row
}

static bool filter_leaves_name(const struct sandbox *sandbox, const char *name, uint32_t threads)
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
static uint32_t filter_action(const struct sandbox *sandbox, const struct sandbox_call *row,
                              uint32_t threads)
{
    if (sandbox_call_is_left(row, sandbox->mode))
        return SCMP_ACT_ALLOW;
    // A name that is left with a check on its arguments takes no second rule without one.
    if (row->level == SANDBOX_LEFT_ON || filter_leaves_name(sandbox, row->name, threads))
        return SCMP_ACT_KILL_PROCESS;
    if (row->level == SANDBOX_ABORT)
        return SCMP_ACT_TRAP;
    if (sandbox->mode == SANDBOX_ON && !row->refusal)
        return SCMP_ACT_KILL_PROCESS;
    return SCMP_ACT_ERRNO((uint32_t)(row->refusal ? row->refusal : EPERM));
}

static int filter_fill(scmp_filter_ctx filter, const struct sandbox *sandbox, uint32_t threads)
{
    uint32_t having = sandbox->needs->abilities | sandbox->conditions;
    const struct sandbox_call *row;
    int error = 0;
    for (size_t i = 0; !error && (row = sandbox_call_at(sandbox->needs, i)); i++) {
        if (!sandbox_call_applies(row, threads, having))
            continue;
        uint32_t action = filter_action(sandbox, row, threads);
        if (action != SCMP_ACT_KILL_PROCESS)
            error = filter_add_rule(filter, action, filter_number(row), row);
    }
    return error;
}

// --- Programs ------------------------------------------------------------------------------------

// This version of the library writes a program to a descriptor only. A memory file takes all of it,
// where a pipe may be as short as a page. Of a program that was cut off the kernel takes none: its
// jumps lead nowhere.
static int filter_read(int fd, struct sock_fprog *ret_program)
{
    off_t size = lseek(fd, 0, SEEK_END);
    if (size <= 0 || size > (off_t)(BPF_MAXINSNS * sizeof *ret_program->filter))
        return -EIO; // UNTESTED: the library wrote all of it just before
    struct sock_filter *lines = malloc((size_t)size);
    if (!lines)
        return -ENOMEM;
    // UNTESTED: a memory file that cannot be read
    if (pread(fd, lines, (size_t)size, 0) != size) {
        free(lines);
        return -EIO;
    }
    *ret_program = (struct sock_fprog){
        .len = (unsigned short)((size_t)size / sizeof *lines),
        .filter = lines,
    };
    return 0;
}

static int filter_export(scmp_filter_ctx filter, struct sock_fprog *ret_program)
{
    int fd = memfd_create("filter", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    int error = seccomp_export_bpf(filter, fd);
    if (!error)
        error = filter_read(fd, ret_program);
    close(fd);
    return error;
}

static int filter_build(const struct sandbox *sandbox, uint32_t threads,
                        struct sock_fprog *ret_program)
{
    const uint32_t refusal =
        sandbox->mode == SANDBOX_STRICT ? SCMP_ACT_KILL_PROCESS : SCMP_ACT_ERRNO(EPERM);
    scmp_filter_ctx filter = seccomp_init(refusal);
    if (!filter)
        return -ENOMEM; // UNTESTED: the library's own memory
    // Calls by another architecture's numbers, too: the library would end only the thread.
    int error = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, refusal);
    if (!error)
        error = filter_fill(filter, sandbox, threads);
    if (!error)
        error = filter_export(filter, ret_program);
    seccomp_release(filter);
    return error;
}

// What the library will ask for bit by bit is there if it is there in one piece: no other thread
// takes it meanwhile. Not by malloc(3), which would learn from a large piece to keep such pieces.
static int filter_reserve(void)
{
    void *memory =
        mmap(NULL, FILTER_MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return -errno;
    munmap(memory, FILTER_MEMORY);
    return 0;
}

int sandbox_filters_build(struct sandbox *sandbox)
{
    const uint32_t threads[SANDBOX_FILTERS] = {
        [SANDBOX_FILTER_LOOP] = sandbox_threads_of(sandbox->engine, WEIR_THREAD_LOOP),
        [SANDBOX_FILTER_JOB] = sandbox_threads_of(sandbox->engine, WEIR_THREAD_JOB),
        [SANDBOX_FILTER_MAIN] = SANDBOX_MAIN,
    };
    int error = filter_reserve();
    for (size_t i = 0; !error && i < SANDBOX_FILTERS; i++)
        error = filter_build(sandbox, threads[i], &sandbox->filters[i]);
    return error;
}

// --- The kernel's part ---------------------------------------------------------------------------

static int filter_install(const struct sock_fprog *program)
{
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, program) < 0 ? -errno : 0;
}

// A kernel that takes filters looks for the program first, and there is none.
bool sandbox_filters_are_taken(void)
{
    return filter_install(NULL) == -EFAULT;
}

int sandbox_filter_install(struct sandbox *sandbox, enum sandbox_filter filter)
{
    return filter_install(&sandbox->filters[filter]);
}
