// contract VARIANT [TEST | I/N]: one set of assertions that every engine passes.
//
// Each test runs in a process of its own, so that a crash, a hang, a limit or a lost descriptor of
// one test is no other's. With TEST only that one runs, in this process: for a debugger. With I/N
// it is part I of N: every N-th test.
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "world.h"

enum { CONTRACT_TESTS_MAX = 256, CONTRACT_SKIPPED = 77, CONTRACT_LIMIT_S = 120 };

static const struct contract_test *const contract_groups[] = {
    transfer_tests,  flow_tests,   close_tests,   reset_tests,      hostage_tests,
    churn_tests,     limits_tests, connect_tests, timer_post_tests, file_tests,
    send_file_tests, bulk_tests,   server_tests,  script_tests,     total_tests,
};

struct contract_case {
    const struct contract_test *test;
    const struct variant *variant;
};

// --- One test in this process --------------------------------------------------------------------

_Noreturn void world_skip(struct world *world, const char *reason)
{
    (void)world;
    printf("SKIPPED: %s\n", reason);
    fflush(stdout);
    _exit(CONTRACT_SKIPPED);
}

static void contract_run(void **state)
{
    const struct contract_case *one = *state;
    struct world *world = world_create(one->variant, one->test);
    one->test->run(world);
    world_close(world);
    world_destroy(world);
}

static int contract_run_one(const struct contract_case *one)
{
    const struct CMUnitTest test = { .name = one->test->name,
                                     .test_func = contract_run,
                                     .initial_state = (void *)(uintptr_t)one };
    const struct CMUnitTest tests[] = { test };
    setenv("CMOCKA_MESSAGE_OUTPUT", "STDOUT", 1);
    return cmocka_run_group_tests_name(one->test->name, tests, NULL, NULL) ? 1 : 0;
}

// --- Each test in a process of its own -----------------------------------------------------------

struct contract_output {
    char text[16384];
    size_t size;
};

static pid_t contract_spawn(const struct contract_case *one, int *ret_fd)
{
    int ends[2];
    fflush(stdout);
    if (pipe(ends))
        fail_msg("pipe: %s", strerror(errno));
    pid_t child = fork();
    if (child < 0)
        fail_msg("fork: %s", strerror(errno));
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        execl("/proc/self/exe", "contract", one->variant->name, one->test->name, NULL);
        _exit(127);
    }
    close(ends[1]);
    *ret_fd = ends[0];
    return child;
}

// Reads what the child says until it ends; false when it takes too long.
static bool contract_listen(int fd, uint64_t limit_ns, struct contract_output *output)
{
    uint64_t deadline = weir_clock_now() + limit_ns;
    for (;;) {
        uint64_t now = weir_clock_now();
        struct pollfd ready = { .fd = fd, .events = POLLIN };
        if (now >= deadline || poll(&ready, 1, (int)((deadline - now) / MILLISECOND) + 1) == 0)
            return false;
        size_t room = sizeof(output->text) - 1 - output->size;
        char overflow[4096];
        ssize_t count =
            read(fd, room ? output->text + output->size : overflow, room ? room : sizeof(overflow));
        if (count == 0)
            return true;
        if (count > 0 && room)
            output->size += (size_t)count;
    }
}

static uint64_t contract_limit(const struct contract_test *test)
{
    return (test->limit_s ? test->limit_s : CONTRACT_LIMIT_S) * SECOND * WORLD_SLOWNESS;
}

static const char *contract_unfit(const struct contract_case *one)
{
    const struct needs *needs = &one->test->needs;
    const struct variant *variant = one->variant;
    if (needs->one_loop && variant->world == &world_threads)
        return "needs one loop that turns by hand";
    if (variant->world->simulated && (needs->kernel || needs->threads || needs->server))
        return "needs the kernel's sockets, files and threads";
    return NULL;
}

static void contract_run_apart(void **state)
{
    const struct contract_case *one = *state;
    struct contract_output output = { 0 };
    const char *unfit = contract_unfit(one);
    if (unfit) {
        print_message("%s: %s\n", one->test->name, unfit);
        skip();
    }
    int fd, status;
    pid_t child = contract_spawn(one, &fd);
    bool in_time = contract_listen(fd, contract_limit(one->test), &output);
    if (!in_time)
        kill(child, SIGKILL);
    waitpid(child, &status, 0);
    close(fd);
    output.text[output.size] = 0;
    if (in_time && WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return;
    if (in_time && WIFEXITED(status) && WEXITSTATUS(status) == CONTRACT_SKIPPED) {
        const char *reason = strstr(output.text, "SKIPPED: ");
        print_message("%s: %s", one->test->name, reason ? reason + 9 : "without a reason\n");
        skip();
    }
    print_error("%s on %s:\n%s\n", one->test->name, one->variant->name, output.text);
    if (!in_time)
        fail_msg("it did not end in time");
    if (WIFSIGNALED(status))
        fail_msg("it was ended by signal %d", WTERMSIG(status));
    fail_msg("it failed");
}

// --- The program ---------------------------------------------------------------------------------

static size_t contract_collect(const struct variant *variant, const char *name,
                               struct contract_case cases[CONTRACT_TESTS_MAX])
{
    size_t count = 0;
    for (size_t i = 0; i < sizeof(contract_groups) / sizeof(contract_groups[0]); i++) {
        for (const struct contract_test *test = contract_groups[i]; test->name; test++) {
            if ((!name || strcmp(name, test->name) == 0) && count < CONTRACT_TESTS_MAX)
                cases[count++] = (struct contract_case){ .test = test, .variant = variant };
        }
    }
    return count;
}

static int contract_run_all(struct contract_case *cases, size_t count)
{
    static struct CMUnitTest tests[CONTRACT_TESTS_MAX];
    for (size_t i = 0; i < count; i++)
        tests[i] = (struct CMUnitTest){ .name = cases[i].test->name,
                                        .test_func = contract_run_apart,
                                        .initial_state = &cases[i] };
    return _cmocka_run_group_tests("contract", tests, count, NULL, NULL) ? 1 : 0;
}

// "I/N": keeps every N-th case, from the I-th on.
static bool contract_take_part(const char *text, struct contract_case *cases, size_t *count)
{
    unsigned part, parts;
    char rest;
    if (sscanf(text, "%u/%u%c", &part, &parts, &rest) != 2 || part < 1 || part > parts)
        return false;
    size_t kept = 0;
    for (size_t i = part - 1; i < *count; i += parts)
        cases[kept++] = cases[i];
    *count = kept;
    return true;
}

// A thousand connections have two thousand ends here.
static void contract_raise_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int main(int argc, char **argv)
{
    static struct contract_case cases[CONTRACT_TESTS_MAX];
    struct variant variant;
    if (argc < 2 || argc > 3 || !variant_find(argv[1], &variant)) {
        fprintf(stderr, "usage: contract VARIANT [TEST | I/N]\n");
        for (const struct variant *row = variants; row->name; row++)
            fprintf(stderr, "  %s\n", row->name);
        return 2;
    }
    contract_raise_limit();
    size_t count = contract_collect(&variant, NULL, cases);
    if (argc == 2 || contract_take_part(argv[2], cases, &count))
        return contract_run_all(cases, count);
    if (contract_collect(&variant, argv[2], cases) == 0) {
        fprintf(stderr, "contract: there is no test %s\n", argv[2]);
        return 2;
    }
    const char *unfit = contract_unfit(&cases[0]);
    if (unfit)
        world_skip(NULL, unfit);
    return contract_run_one(&cases[0]);
}
