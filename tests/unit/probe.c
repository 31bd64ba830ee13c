// What this kernel can do, and whose prohibition it is when it can do nothing.
#include "engines/probe.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engines/uring/features.h"
#include "engines/uring/uring.h"
#include "weir.h"

#include <cmocka.h>

enum { ROWS_MAX = 64 };

// What a child process with less rights found out.
struct verdict {
    int result;
    char text[512];
    size_t rows_count, rows_present;
    char detail[160]; // of the first row
};

// Runs prepare and the public functions in a child; what it writes is small enough for one pipe.
static void ask_child(void (*prepare)(void), struct verdict *ret_verdict)
{
    struct verdict verdict = { 0 };
    int pipe_fds[2], status;
    pid_t child;

    assert_int_equal(pipe(pipe_fds), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct weir_capability rows[ROWS_MAX];

        prepare();
        verdict.result = weir_uring_available(verdict.text, sizeof(verdict.text));
        verdict.rows_count = weir_capabilities(rows, ROWS_MAX);
        for (size_t i = 0; i < verdict.rows_count; i++)
            verdict.rows_present += rows[i].present;
        memcpy(verdict.detail, rows[0].detail, sizeof(verdict.detail));
        _exit(write(pipe_fds[1], &verdict, sizeof(verdict)) != sizeof(verdict));
    }
    close(pipe_fds[1]);
    assert_int_equal(read(pipe_fds[0], &verdict, sizeof(verdict)), sizeof(verdict));
    close(pipe_fds[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    *ret_verdict = verdict;
}

static void expect_text(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("\"%s\" does not say \"%s\"", text, part);
}

static void skip_without_uring(void)
{
    char text[512];

    if (weir_uring_available(text, sizeof(text))) {
        print_message("%s\n", text);
        skip();
    }
}

// --- Explanations --------------------------------------------------------------------------------

static const struct {
    struct probe_facts facts;
    int result;
    const char *cause, *remedy;
} explanations[] = {
    { { .error = -EPERM, .disabled = 2, .group = -1, .admin = true },
      -EPERM,
      "sysctl: kernel.io_uring_disabled is 2",
      "sysctl -w kernel.io_uring_disabled=0" },
    { { .error = -EPERM, .disabled = 2, .group = -1, .seccomp = true },
      -EPERM,
      "sysctl: ",
      "sysctl -w kernel.io_uring_disabled=0" },
    { { .error = -EPERM, .disabled = 1, .group = -1 },
      -EPERM,
      "kernel.io_uring_disabled is 1",
      "sysctl -w kernel.io_uring_disabled=0" },
    { { .error = -EPERM, .disabled = 1, .group = 990, .seccomp = true },
      -EPERM,
      "kernel.io_uring_disabled is 1",
      "join group 990" },
    { { .error = -EPERM, .disabled = 1, .group = 990, .in_group = true, .seccomp = true },
      -EPERM,
      "seccomp: ",
      "adds io_uring_setup, io_uring_enter, io_uring_register" },
    { { .error = -EPERM, .disabled = 1, .group = -1, .admin = true },
      -EPERM,
      "sysctl: ",
      "sysctl -w kernel.io_uring_disabled=0" },
    { { .error = -EPERM, .disabled = 0, .group = -1, .seccomp = true },
      -EPERM,
      "seccomp: ",
      "adds io_uring_setup, io_uring_enter, io_uring_register" },
    { { .error = -EPERM, .disabled = -1, .group = -1, .seccomp = true },
      -EPERM,
      "seccomp: ",
      "adds io_uring_setup, io_uring_enter, io_uring_register" },
    { { .error = -EACCES, .disabled = 0, .group = -1 }, -EPERM, "SELinux", "policy" },
    { { .error = -ENOSYS, .disabled = 0, .group = -1, .seccomp = true },
      -ENOSYS,
      "seccomp: ",
      "adds io_uring_setup, io_uring_enter, io_uring_register" },
    { { .error = -ENOSYS, .disabled = -1, .group = -1, .seccomp = true, .release = "5.4.0" },
      -ENOSYS,
      "kernel or seccomp: 5.4.0",
      "io_uring_setup, io_uring_enter, io_uring_register" },
    { { .error = -ENOSYS, .disabled = -1, .group = -1, .release = "4.19.0" },
      -ENOSYS,
      "kernel: 4.19.0",
      "needs Linux 6.1" },
    { { .error = -ENOMEM, .memlock = 65536 }, -ENOMEM, "memlock: only 64 KiB", "ulimit -l" },
    { { .error = -ENOMEM, .memlock = RLIM_INFINITY }, -ENOMEM, "memory", "kernel" },
    { { .error = -EMFILE, .files = 1024 }, -EMFILE, "all 1024 descriptors", "ulimit -n" },
    { { .error = -ENFILE }, -EMFILE, "machine", "fs.file-max" },
    { { .error = -EINVAL, .release = "5.15.0" }, -ENOSYS, "5.15.0", "needs Linux 6.1" },
    { { .error = -EIO, .release = "6.99" }, -ENOSYS, "6.99", "Input/output error" },
    { { .error = 0 }, 0, "works", "" },
};

// Every cause is named with its remedy, and the error is one of those that weir.h promises.
static void each_cause_is_named_with_its_remedy(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(explanations) / sizeof(explanations[0]); i++) {
        char text[160];

        assert_int_equal(probe_explain(&explanations[i].facts, text, sizeof(text)),
                         explanations[i].result);
        expect_text(text, explanations[i].cause);
        expect_text(text, explanations[i].remedy);
        // A sentence that was cut would lose its remedy.
        assert_true(strlen(text) < sizeof(text) - 1);
        assert_null(strstr(text, "unconfined"));
        assert_null(strchr(text, '\n'));
    }
}

// The facts about this process are those that the kernel tells elsewhere.
static void facts_are_those_of_this_process(void **state)
{
    struct probe_facts facts;
    struct rlimit limit;

    (void)state;
    probe_gather(-EPERM, &facts);
    assert_int_equal(facts.error, -EPERM);
    assert_int_equal(facts.disabled >= 0, access("/proc/sys/kernel/io_uring_disabled", R_OK) == 0);
    assert_int_equal(facts.seccomp, prctl(PR_GET_SECCOMP) == 2);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(facts.files, limit.rlim_cur);
    assert_true(facts.release[0] >= '1' && facts.release[0] <= '9');
}

// --- Prohibitions, for real ----------------------------------------------------------------------

static void forbid_with(uint32_t error)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { .len = sizeof(code) / sizeof(code[0]), .filter = code };

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, 2, &program))
        _exit(100);
}

static void forbid_with_eperm(void)
{
    forbid_with(EPERM);
}

static void forbid_with_enosys(void)
{
    forbid_with(ENOSYS);
}

// A seccomp filter is recognised whichever error it gives, and every feature's row says so.
static void seccomp_filter_is_recognised(void **state)
{
    struct verdict verdict;

    (void)state;
    skip_without_uring();
    ask_child(forbid_with_eperm, &verdict);
    assert_int_equal(verdict.result, -EPERM);
    expect_text(verdict.text, "seccomp");
    assert_true(verdict.rows_count > 0);
    assert_int_equal(verdict.rows_present, 0);
    expect_text(verdict.detail, "seccomp");
    ask_child(forbid_with_enosys, &verdict);
    assert_int_equal(verdict.result, -ENOSYS);
    expect_text(verdict.text, "seccomp");
    assert_int_equal(verdict.rows_present, 0);
}

static void take_descriptors_away(void)
{
    const struct rlimit none = { 0 };

    if (setrlimit(RLIMIT_NOFILE, &none))
        _exit(100);
}

// Without a free descriptor, the limit of open files is named.
static void exhausted_descriptors_are_recognised(void **state)
{
    struct verdict verdict;

    (void)state;
    skip_without_uring();
    ask_child(take_descriptors_away, &verdict);
    assert_int_equal(verdict.result, -EMFILE);
    expect_text(verdict.text, "ulimit -n");
}

static void take_locked_memory_away(void)
{
    const struct rlimit none = { 0 };

    // Root's memory is not limited, so the child becomes somebody else.
    if (setrlimit(RLIMIT_MEMLOCK, &none) || (getuid() == 0 && (setgid(65534) || setuid(65534))))
        _exit(100);
}

// Without memory to lock, that limit is named, on kernels that charge rings to it.
static void exhausted_locked_memory_is_recognised(void **state)
{
    struct verdict verdict;

    (void)state;
    skip_without_uring();
    ask_child(take_locked_memory_away, &verdict);
    if (verdict.result == 0) {
        print_message("this kernel does not charge rings to the limit of locked memory\n");
        skip();
    }
    assert_int_equal(verdict.result, -ENOMEM);
    expect_text(verdict.text, "ulimit -l");
}

// --- Rows ----------------------------------------------------------------------------------------

// Each row has a name of its own, and is present or says why not; where io_uring works, the buffer
// ring that it needs is present.
static void rows_are_present_or_say_why_not(void **state)
{
    struct weir_capability rows[ROWS_MAX];
    size_t count = weir_capabilities(rows, ROWS_MAX);
    bool works = weir_uring_available(NULL, 0) == 0, buffer_ring = false;

    (void)state;
    assert_in_range(count, 1, ROWS_MAX);
    for (size_t i = 0; i < count; i++) {
        assert_non_null(rows[i].name);
        assert_int_equal(strspn(rows[i].kernel, "0123456789."), strlen(rows[i].kernel));
        assert_true(strlen(rows[i].purpose) > 0);
        assert_int_not_equal(rows[i].present, strlen(rows[i].detail) > 0);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(rows[j].name, rows[i].name);
        buffer_ring = buffer_ring || (rows[i].present && !strcmp(rows[i].name, "buffer-ring"));
    }
    assert_int_equal(buffer_ring, works);
}

// No more rows are written than there is room for.
static void rows_keep_within_their_room(void **state)
{
    struct weir_capability *row = malloc(sizeof(*row));

    (void)state;
    assert_int_equal(weir_capabilities(row, 1), 1);
    assert_int_equal(weir_capabilities(NULL, 0), 0);
    free(row);
}

static struct weir_loop *loop_of_set(const char *features)
{
    struct weir_loop_config config;
    struct weir_loop *loop;

    weir_loop_config_init(&config);
    config.engine = WEIR_ENGINE_URING;
    config.uring_features = features;
    assert_int_equal(weir_loop_create(&config, &loop), 0);
    return loop;
}

// What the stock kernels before 6.13 do with a table of sockets is worse than none: see
// docs/decisions/direct.md.
static void old_plans_use_no_table_of_sockets(void **state)
{
    static const char *const sets[] = { "kernel-6.1", "kernel-6.8", "kernel-6.12" };

    (void)state;
    skip_without_uring();
    for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
        struct weir_loop *loop = loop_of_set(sets[i]);

        expect_text(weir_loop_plan(loop), "no:direct");
        weir_loop_destroy(loop);
    }
}

// A loop of either makes the same calls: tests/contract plays the later one for both.
static void plans_of_6_8_and_6_12_are_the_same(void **state)
{
    static const char *const sets[] = { "kernel-6.8", "kernel-6.12" };
    char plans[2][256];

    (void)state;
    skip_without_uring();
    for (size_t i = 0; i < 2; i++) {
        struct weir_loop *loop = loop_of_set(sets[i]);

        assert_in_range(snprintf(plans[i], sizeof(plans[i]), "%s", weir_loop_plan(loop)), 1,
                        sizeof(plans[i]) - 1);
        weir_loop_destroy(loop);
    }
    assert_string_equal(plans[0], plans[1]);
}

// The kernel's ring has the flags that the plan names, and no other: what a set leaves out is not
// there. (That the queue has no index array is liburing's choice, and no feature.)
static void a_ring_is_what_its_plan_says(void **state)
{
    static const char *const kernels[] = { "default", "kernel-6.1", "kernel-6.8", "kernel-6.12" };
    enum { KERNELS = sizeof(kernels) / sizeof(kernels[0]) };
    const struct feature *features;
    size_t count = features_table(&features);

    (void)state;
    skip_without_uring();
    for (size_t i = 0; i < count + KERNELS; i++) {
        char set[64];
        struct weir_loop *loop;

        if (i < count && (i == 0 || !features[i].in_default)) // the first is in every plan
            continue;
        if (i < count)
            snprintf(set, sizeof(set), "default,-%s", features[i].name);
        else
            snprintf(set, sizeof(set), "%s", kernels[i - count]);
        loop = loop_of_set(set);
        assert_int_equal(uring_of(loop)->ring.flags & ~IORING_SETUP_NO_SQARRAY,
                         uring_of(loop)->plan.setup_flags);
        weir_loop_destroy(loop);
    }
}

// Probing takes nothing with it: the lowest free descriptor is the same afterwards.
static void probes_leave_no_descriptor(void **state)
{
    struct weir_capability rows[ROWS_MAX];
    int before = dup(0), after;

    (void)state;
    close(before);
    for (int i = 0; i < 10; i++)
        weir_capabilities(rows, ROWS_MAX);
    after = dup(0);
    close(after);
    assert_int_equal(after, before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_cause_is_named_with_its_remedy),
        cmocka_unit_test(facts_are_those_of_this_process),
        cmocka_unit_test(seccomp_filter_is_recognised),
        cmocka_unit_test(exhausted_descriptors_are_recognised),
        cmocka_unit_test(exhausted_locked_memory_is_recognised),
        cmocka_unit_test(rows_are_present_or_say_why_not),
        cmocka_unit_test(rows_keep_within_their_room),
        cmocka_unit_test(old_plans_use_no_table_of_sockets),
        cmocka_unit_test(plans_of_6_8_and_6_12_are_the_same),
        cmocka_unit_test(a_ring_is_what_its_plan_says),
        cmocka_unit_test(probes_leave_no_descriptor),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
