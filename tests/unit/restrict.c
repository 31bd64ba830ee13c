// Loops that are confined: what their rings refuse, when the callback runs, and what its failure
// does.
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "engines/uring/restrict.h"
#include "engines/uring/uring.h"
#include "weir.h"

enum {
    RESTRICT_NOBODY = 65534,
    RESTRICT_REGISTERS = 64,
    RESTRICT_TRIES = 1000,
    RESTRICT_PATIENCE_NS = 10000000,
};

// What the confine callback saw, in its order.
struct confined {
    pthread_mutex_t lock;
    int jobs, loops;
    int jobs_before_loop;
    int result; // what it answers on a loop
    int job_result;
    pthread_t loop_thread;
};

static int restrict_confine(void *context, enum weir_thread thread)
{
    struct confined *confined = context;
    pthread_mutex_lock(&confined->lock);
    if (thread == WEIR_THREAD_JOB) {
        confined->jobs++;
    } else {
        confined->loops++;
        confined->jobs_before_loop = confined->jobs;
        confined->loop_thread = pthread_self();
    }
    pthread_mutex_unlock(&confined->lock);
    return thread == WEIR_THREAD_JOB ? confined->job_result : confined->result;
}

static struct weir_loop *restrict_create(enum weir_engine engine, uint32_t abilities,
                                         struct confined *confined)
{
    struct weir_loop_config config;
    struct weir_loop *loop;
    char reason[256];
    weir_loop_config_init(&config);
    config.engine = engine;
    config.streams_max = 64;
    config.abilities = abilities;
    config.job_threads = 3;
    config.confine = confined ? restrict_confine : NULL;
    config.confine_context = confined;
    if (engine == WEIR_ENGINE_URING && weir_uring_available(reason, sizeof reason)) {
        print_message("%s\n", reason);
        skip();
    }
    assert_int_equal(weir_loop_create(&config, &loop), 0);
    return loop;
}

// The result of one entry. Its completion's token is a cancel's, which the loop passes over.
static int restrict_submit(struct weir_loop *loop, uint8_t operation, uint8_t flags)
{
    static uint32_t tag;
    struct uring *uring = uring_of(loop);
    struct io_uring_sqe *sqe = uring_sqe(loop, OPERATION_CANCEL, 0, 0);
    struct io_uring_cqe *cqe;
    uint64_t token = loop_token(loop, OPERATION_CANCEL, 0, 0) + ++tag;
    unsigned head;
    sqe->opcode = operation;
    sqe->flags = flags;
    sqe->fd = -1;
    sqe->user_data = token;
    uring_submit_early(loop);
    for (int i = 0; i < RESTRICT_TRIES; i++) {
        io_uring_for_each_cqe(&uring->ring, head, cqe)
        {
            if (cqe->user_data == token)
                return cqe->res;
        }
        uring->operations->enter(uring->operations_state, &uring->ring, 0, 0,
                                 IORING_ENTER_GETEVENTS, NULL, 0);
    }
    return -ETIMEDOUT;
}

static bool restrict_allows(enum restrict_kind kind, unsigned value, uint32_t abilities)
{
    const struct restrict_row *rows;
    size_t count = restrict_table(&rows);
    for (size_t i = 0; i < count; i++) {
        if (rows[i].kind == kind && rows[i].value == value &&
            (!rows[i].abilities || rows[i].abilities & abilities))
            return true;
    }
    return false;
}

// With each ability alone, an operation is refused with EACCES if and only if the table does not
// list it.
static void ring_takes_the_operations_of_its_abilities(void **state)
{
    static const uint32_t abilities[] = {
        WEIR_ABILITY_ACCEPT, WEIR_ABILITY_LISTEN, WEIR_ABILITY_CONNECT, WEIR_ABILITY_END,
        WEIR_ABILITY_OPEN,   WEIR_ABILITY_READ,   WEIR_ABILITY_WRITE,   WEIR_ABILITY_JOBS,
    };
    (void)state;
    for (size_t i = 0; i < sizeof abilities / sizeof abilities[0]; i++) {
        struct weir_loop *loop = restrict_create(WEIR_ENGINE_URING, abilities[i], NULL);
        assert_int_equal(weir_loop_turn(loop, 0), 0);
        for (unsigned value = 0; value < IORING_OP_LAST; value++) {
            bool refused = restrict_submit(loop, (uint8_t)value, 0) == -EACCES;
            assert_int_equal(refused, !restrict_allows(RESTRICT_OPERATION, value, abilities[i]));
        }
        weir_loop_destroy(loop);
    }
}

// A flag that the table does not list makes an allowed operation a refused one.
static void ring_takes_the_flags_of_the_table(void **state)
{
    (void)state;
    struct weir_loop *loop = restrict_create(WEIR_ENGINE_URING, WEIR_ABILITY_ACCEPT, NULL);
    assert_int_equal(weir_loop_turn(loop, 0), 0);
    for (unsigned bit = 0; bit < 7; bit++) {
        uint8_t flag = (uint8_t)(1U << bit);
        int result = restrict_submit(loop, IORING_OP_SEND, flag);
        // CQE_SKIP_SUCCESS and others leave the failure of a send without a descriptor.
        assert_int_equal(result == -EACCES, !restrict_allows(RESTRICT_FLAG, flag, 0));
    }
    weir_loop_destroy(loop);
}

// No other register operation is left to the ring, so nothing widens it: not another restriction,
// not a table of descriptors, not a personality.
static void ring_registers_nothing_more(void **state)
{
    (void)state;
    struct weir_loop *loop = restrict_create(WEIR_ENGINE_URING, WEIR_ABILITY_ACCEPT, NULL);
    struct uring *uring = uring_of(loop);
    assert_int_equal(weir_loop_turn(loop, 0), 0);
    for (unsigned value = 0; value < IORING_REGISTER_LAST && value < RESTRICT_REGISTERS; value++) {
        if (restrict_allows(RESTRICT_REGISTER, value, 0))
            continue;
        assert_int_equal(
            uring->operations->reg(uring->operations_state, &uring->ring, value, NULL, 0), -EACCES);
    }
    weir_loop_destroy(loop);
}

struct opening {
    struct weir_operation operation;
    int done;
    int64_t result;
};

static void restrict_opened(struct weir_operation *operation, int64_t result)
{
    struct opening *opening = (struct opening *)operation;
    opening->done++;
    opening->result = result;
}

// In a child, whose privileges nobody needs afterwards. Returns -errno, or 0 if the file opened.
static int restrict_open_as_nobody(struct weir_loop *loop, const char *path)
{
    struct opening opening = { .operation = { .done = restrict_opened } };
    struct weir_file *file = NULL;
    if (setresgid(RESTRICT_NOBODY, RESTRICT_NOBODY, RESTRICT_NOBODY) ||
        setresuid(RESTRICT_NOBODY, RESTRICT_NOBODY, RESTRICT_NOBODY))
        return -ENOTRECOVERABLE;
    weir_file_open(loop, &opening.operation, AT_FDCWD, path, O_RDONLY, 0, 0, &file);
    for (int i = 0; i < RESTRICT_TRIES && !opening.done; i++) {
        if (weir_loop_turn(loop, weir_clock_now() + RESTRICT_PATIENCE_NS) < 0)
            return -ENOTRECOVERABLE;
    }
    return opening.done ? (int)opening.result : -ETIMEDOUT;
}

// A ring that was made with privileges keeps none: what it opens after they were dropped is judged
// by what the thread is then. So it may be made before.
static void ring_made_by_root_opens_as_the_user(void **state)
{
    char path[] = "/tmp/weir-restrict-XXXXXX";
    int status;
    (void)state;
    if (geteuid()) {
        print_message("needs root\n");
        skip();
    }
    int fd = mkstemp(path); // mode 0600, of root
    assert_true(fd >= 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct weir_loop *loop = restrict_create(WEIR_ENGINE_URING, WEIR_ABILITY_OPEN, NULL);
        _exit(-restrict_open_as_nobody(loop, path));
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    unlink(path);
    close(fd);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), EACCES);
}

// The callback runs once, on the loop's thread, in the first turn; the helpers have run it before,
// all of them and the one in the background, but only where a job can come.
static void confine_runs_once_and_after_the_helpers(void **state)
{
    static const enum weir_engine engines[] = { WEIR_ENGINE_URING, WEIR_ENGINE_EPOLL,
                                                WEIR_ENGINE_BLOCKING };
    // The first has no jobs; 0 is all of them.
    static const uint32_t abilities[] = { WEIR_ABILITY_ACCEPT,
                                          WEIR_ABILITY_ACCEPT | WEIR_ABILITY_JOBS, 0 };
    (void)state;
    for (size_t i = 0; i < sizeof engines / sizeof engines[0]; i++) {
        for (size_t jobs = 0; jobs < sizeof abilities / sizeof abilities[0]; jobs++) {
            struct confined confined = { .lock = PTHREAD_MUTEX_INITIALIZER };
            struct weir_loop *loop = restrict_create(engines[i], abilities[jobs], &confined);
            assert_int_equal(confined.loops, 0);
            assert_int_equal(weir_loop_turn(loop, WEIR_NEVER), 0);
            assert_int_equal(weir_loop_turn(loop, 0), 0);
            assert_int_equal(confined.loops, 1);
            assert_true(pthread_equal(confined.loop_thread, pthread_self()));
            assert_int_equal(confined.jobs_before_loop,
                             jobs && engines[i] != WEIR_ENGINE_BLOCKING ? 3 + 1 : 0);
            weir_loop_destroy(loop);
        }
    }
}

// An error of the callback, on the loop or on a helper, ends the loop in its first turn.
static void failure_to_confine_ends_the_loop(void **state)
{
    (void)state;
    struct confined confined = { .lock = PTHREAD_MUTEX_INITIALIZER, .result = -EPERM };
    struct weir_loop *loop = restrict_create(WEIR_ENGINE_EPOLL, WEIR_ABILITY_ACCEPT, &confined);
    assert_int_equal(weir_loop_turn(loop, WEIR_NEVER), -EPERM);
    weir_loop_destroy(loop);
    confined = (struct confined){ .lock = PTHREAD_MUTEX_INITIALIZER, .job_result = -ENOSYS };
    loop = restrict_create(WEIR_ENGINE_EPOLL, WEIR_ABILITY_JOBS, &confined);
    assert_int_equal(weir_loop_turn(loop, WEIR_NEVER), -ENOSYS);
    assert_int_equal(confined.loops, 0);
    weir_loop_destroy(loop);
}

static void restrict_opened_late(struct weir_operation *operation, int64_t result)
{
    restrict_opened(operation, result);
    if (!result)
        weir_file_release(*operation->ret_file);
}

// An open that a helper is at when the loop breaks is told once, with what came of it.
static void an_open_that_outlives_its_loop_is_told_once(void **state)
{
    char path[] = "/tmp/weir-restrict-XXXXXX";
    struct opening opening = { .operation = { .done = restrict_opened_late } };
    struct confined confined = { .lock = PTHREAD_MUTEX_INITIALIZER, .result = -EPERM };
    struct weir_file *file = NULL;
    (void)state;
    assert_non_null(mkdtemp(path));
    int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(directory >= 0);
    assert_int_equal(mkfifoat(directory, "fifo", 0600), 0);
    struct weir_loop *loop = restrict_create(WEIR_ENGINE_EPOLL, WEIR_ABILITY_OPEN, &confined);
    weir_file_open(loop, &opening.operation, directory, "fifo", O_RDONLY, 0, 0, &file);
    assert_int_equal(weir_loop_turn(loop, 0), -EPERM);
    assert_int_equal(opening.done, 0);
    int writer = openat(directory, "fifo", O_RDWR | O_CLOEXEC); // lets the helper go on
    assert_true(writer >= 0);
    weir_loop_destroy(loop);
    assert_int_equal(opening.done, 1);
    assert_int_equal(opening.result, 0);
    close(writer);
    assert_int_equal(unlinkat(directory, "fifo", 0), 0);
    assert_int_equal(rmdir(path), 0);
    close(directory);
}

// What a loop's first flush brings is not lost if its thread cannot be confined then: an open that
// was done is told as done, and its descriptor can be closed.
static void what_came_before_a_failure_to_confine_is_told(void **state)
{
    struct opening opening = { .operation = { .done = restrict_opened_late } };
    struct confined confined = { .lock = PTHREAD_MUTEX_INITIALIZER, .result = -EPERM };
    struct weir_file *file = NULL;
    (void)state;
    struct weir_loop *loop = restrict_create(WEIR_ENGINE_URING, WEIR_ABILITY_OPEN, &confined);
    int lowest = fcntl(0, F_DUPFD_CLOEXEC, 0);
    close(lowest);
    weir_file_open(loop, &opening.operation, AT_FDCWD, "/", O_RDONLY | O_DIRECTORY, 0, 0, &file);
    assert_int_equal(weir_loop_turn(loop, 0), -EPERM);
    assert_int_equal(opening.done, 0);
    weir_loop_destroy(loop);
    assert_int_equal(opening.done, 1);
    assert_int_equal(opening.result, 0);
    assert_int_equal(fcntl(lowest, F_GETFD), -1);
}

static int restrict_run(struct weir_operation *operation)
{
    (void)operation;
    return 1;
}

// Where a helper cannot be confined, jobs do not run; they end with its error, so that nobody waits
// for them, and the loop can end.
static void jobs_without_a_confined_helper_are_refused(void **state)
{
    (void)state;
    struct confined confined = { .lock = PTHREAD_MUTEX_INITIALIZER, .job_result = -EPERM };
    // It does not expect jobs, so that the helpers are made by them.
    struct weir_loop *loop = restrict_create(WEIR_ENGINE_EPOLL, WEIR_ABILITY_ACCEPT, &confined);
    assert_int_equal(weir_loop_turn(loop, 0), 0);
    for (int i = 0; i < 2; i++) {
        struct opening job = { .operation = { .done = restrict_opened } };
        weir_job_start(loop, &job.operation, restrict_run);
        for (int turn = 0; turn < RESTRICT_TRIES && !job.done; turn++)
            assert_true(weir_loop_turn(loop, weir_clock_now() + RESTRICT_PATIENCE_NS) >= 0);
        assert_true(job.done);
        assert_int_equal(job.result, -EPERM);
    }
    weir_loop_destroy(loop);
}

// A server whose loops cannot be confined does not start, and says why.
static void failure_to_confine_ends_the_server(void **state)
{
    struct confined confined = { .lock = PTHREAD_MUTEX_INITIALIZER, .result = -EPERM };
    struct weir_server_config config;
    struct weir_server *server;
    (void)state;
    weir_server_config_init(&config);
    config.threads = 2;
    config.loop.engine = WEIR_ENGINE_EPOLL;
    config.loop.confine = restrict_confine;
    config.loop.confine_context = &confined;
    assert_int_equal(weir_server_create(&config, &server), 0);
    assert_int_equal(weir_server_start(server), -EPERM);
    weir_server_destroy(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ring_takes_the_operations_of_its_abilities),
        cmocka_unit_test(ring_takes_the_flags_of_the_table),
        cmocka_unit_test(ring_registers_nothing_more),
        cmocka_unit_test(ring_made_by_root_opens_as_the_user),
        cmocka_unit_test(confine_runs_once_and_after_the_helpers),
        cmocka_unit_test(failure_to_confine_ends_the_loop),
        cmocka_unit_test(an_open_that_outlives_its_loop_is_told_once),
        cmocka_unit_test(what_came_before_a_failure_to_confine_is_told),
        cmocka_unit_test(jobs_without_a_confined_helper_are_refused),
        cmocka_unit_test(failure_to_confine_ends_the_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
