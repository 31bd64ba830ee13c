// Jobs on their helpers, with a loop that is nothing but a list of posts.
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "loop.h"

#include <cmocka.h>

enum { HELPERS = 3 };

struct fake_loop {
    struct weir_loop loop; // first: weir_loop_post gets its address
    pthread_mutex_t lock;
    pthread_cond_t changed; // a post came, or `running` or `open` changed
    struct weir_post *posts;
    uint32_t posted, completed;
    uint32_t running; // jobs that wait for the gate
    bool open;        // the gate
};

struct job {
    struct weir_operation operation; // first: what run and done get is its address
    struct fake_loop *fake;
    pthread_t thread;
    int policy, nice; // of that thread, if run_look() ran
    sigset_t mask;
    int returned; // what run returns
    uint32_t runs, completions;
    int64_t result;
};

// --- What job.c asks of the core -----------------------------------------------------------------

static struct fake_loop *fake_of(struct weir_loop *loop)
{
    return (struct fake_loop *)loop;
}

void weir_loop_post(struct weir_loop *loop, struct weir_post *post)
{
    struct fake_loop *fake = fake_of(loop);

    pthread_mutex_lock(&fake->lock);
    post->next = fake->posts;
    fake->posts = post;
    fake->posted++;
    pthread_cond_broadcast(&fake->changed);
    pthread_mutex_unlock(&fake->lock);
}

void file_completed(struct weir_operation *operation, int64_t result)
{
    struct job *job = (struct job *)operation;

    job->completions++;
    job->result = result;
    job->fake->completed++;
}

// The number of threads that may still be made; below zero there is no limit.
static atomic_int threads_left = -1;

// Stands before the C library's, to make it fail.
int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *),
                   void *argument)
{
    int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    void *symbol = dlsym(RTLD_NEXT, "pthread_create");

    if (threads_left == 0)
        return EAGAIN;
    if (threads_left > 0)
        threads_left--;
    memcpy(&real, &symbol, sizeof(real));
    return real(thread, attributes, start, argument);
}

// --- The loop's side of the tests ----------------------------------------------------------------

static const struct system fake_system = { .job = NULL }; // helpers run the jobs

static struct fake_loop *fake_create(void)
{
    struct fake_loop *fake = calloc(1, sizeof(*fake));

    assert_non_null(fake);
    pthread_mutex_init(&fake->lock, NULL);
    pthread_cond_init(&fake->changed, NULL);
    fake->loop.config.job_threads = HELPERS;
    fake->loop.system = &fake_system;
    return fake;
}

// Runs the posts that came, as a turn does.
static void fake_turn(struct fake_loop *fake)
{
    struct weir_post *post;

    pthread_mutex_lock(&fake->lock);
    post = fake->posts;
    fake->posts = NULL;
    pthread_mutex_unlock(&fake->lock);
    while (post) {
        struct weir_post *next = post->next;

        post->function(&fake->loop, post);
        post = next;
    }
}

static void fake_wait(struct fake_loop *fake, uint32_t completed)
{
    while (fake->completed < completed) {
        pthread_mutex_lock(&fake->lock);
        while (!fake->posts)
            pthread_cond_wait(&fake->changed, &fake->lock);
        pthread_mutex_unlock(&fake->lock);
        fake_turn(fake);
    }
}

static void fake_wait_running(struct fake_loop *fake, uint32_t running)
{
    pthread_mutex_lock(&fake->lock);
    while (fake->running < running)
        pthread_cond_wait(&fake->changed, &fake->lock);
    pthread_mutex_unlock(&fake->lock);
}

static void fake_open_gate(struct fake_loop *fake)
{
    pthread_mutex_lock(&fake->lock);
    fake->open = true;
    pthread_cond_broadcast(&fake->changed);
    pthread_mutex_unlock(&fake->lock);
}

static void fake_destroy(struct fake_loop *fake)
{
    jobs_fini(&fake->loop);
    assert_null(fake->loop.jobs);
    assert_null(fake->loop.background_jobs);
    fake_turn(fake);
    pthread_cond_destroy(&fake->changed);
    pthread_mutex_destroy(&fake->lock);
    free(fake);
}

static int run_at_once(struct weir_operation *operation)
{
    struct job *job = (struct job *)operation;

    job->thread = pthread_self();
    job->runs++;
    pthread_sigmask(SIG_BLOCK, NULL, &job->mask);
    return job->returned;
}

static int run_at_gate(struct weir_operation *operation)
{
    struct fake_loop *fake = ((struct job *)operation)->fake;

    pthread_mutex_lock(&fake->lock);
    fake->running++;
    pthread_cond_broadcast(&fake->changed);
    while (!fake->open)
        pthread_cond_wait(&fake->changed, &fake->lock);
    pthread_mutex_unlock(&fake->lock);
    return run_at_once(operation);
}

static void job_start(struct fake_loop *fake, struct job *job,
                      int (*run)(struct weir_operation *operation))
{
    job->fake = fake;
    job->operation.run = run;
    jobs_start(&fake->loop, &job->operation);
}

// --- Tests ---------------------------------------------------------------------------------------

// No helper exists before the first job; a job runs on another thread, and its result, a count or
// an error, comes back by a post and not before.
static void results_come_back_by_posts(void **state)
{
    struct fake_loop *fake = fake_create();
    struct job good = { .returned = 42 }, bad = { .returned = -ENOENT };

    (void)state;
    assert_null(fake->loop.jobs);
    job_start(fake, &good, run_at_once);
    job_start(fake, &bad, run_at_once);
    assert_int_equal(fake->completed, 0);
    fake_wait(fake, 2);
    assert_int_equal(good.result, 42);
    assert_int_equal(bad.result, -ENOENT);
    assert_int_equal(good.runs + bad.runs, 2);
    assert_false(pthread_equal(good.thread, pthread_self()));
    fake_destroy(fake);
}

// Helpers block every signal that can be blocked, and the caller's mask is what it was.
static void helpers_take_no_signals(void **state)
{
    struct fake_loop *fake = fake_create();
    struct job job = { 0 };
    sigset_t before, after;

    (void)state;
    pthread_sigmask(SIG_BLOCK, NULL, &before);
    assert_false(sigismember(&before, SIGTERM));
    job_start(fake, &job, run_at_once);
    pthread_sigmask(SIG_BLOCK, NULL, &after);
    fake_wait(fake, 1);
    for (int i = 1; i < 32; i++) {
        assert_int_equal(sigismember(&before, i), sigismember(&after, i));
        if (i != SIGKILL && i != SIGSTOP)
            assert_true(sigismember(&job.mask, i));
    }
    fake_destroy(fake);
}

// As many jobs run at once as there are helpers, and never more.
static void helpers_run_side_by_side_up_to_their_number(void **state)
{
    enum { JOBS = 10 };
    struct fake_loop *fake = fake_create();
    struct job jobs[JOBS] = { 0 };
    uint32_t threads = 0;

    (void)state;
    for (int i = 0; i < JOBS; i++)
        job_start(fake, &jobs[i], run_at_gate);
    fake_wait_running(fake, HELPERS);
    fake_open_gate(fake);
    fake_wait(fake, JOBS);
    for (int i = 0; i < JOBS; i++) {
        bool first = true;

        for (int j = 0; j < i; j++)
            first = first && !pthread_equal(jobs[i].thread, jobs[j].thread);
        threads += first;
    }
    assert_int_equal(threads, HELPERS);
    fake_destroy(fake);
}

// The queue holds JOBS_MAX jobs besides those that run; one more gets -EAGAIN, by a post, and does
// not run; all others do, and so do those that are owed, however many.
static void full_queue_is_eagain(void **state)
{
    struct fake_loop *fake = fake_create();
    struct job *jobs = calloc(HELPERS + JOBS_MAX, sizeof(*jobs)), more = { 0 }, owed[2] = { 0 };

    (void)state;
    assert_non_null(jobs);
    for (uint32_t i = 0; i < HELPERS; i++)
        job_start(fake, &jobs[i], run_at_gate);
    fake_wait_running(fake, HELPERS);
    for (uint32_t i = 0; i < JOBS_MAX; i++)
        job_start(fake, &jobs[HELPERS + i], run_at_once);
    for (int i = 0; i < 2; i++) {
        owed[i].operation.owed = true;
        job_start(fake, &owed[i], run_at_once);
    }
    assert_int_equal(fake->posted, 0);
    job_start(fake, &more, run_at_once);
    assert_int_equal(fake->posted, 1);
    assert_int_equal(more.completions, 0);
    fake_turn(fake);
    assert_int_equal(more.completions, 1);
    assert_int_equal(more.result, -EAGAIN);
    fake_open_gate(fake);
    fake_wait(fake, 1 + HELPERS + JOBS_MAX + 2);
    for (uint32_t i = 0; i < HELPERS + JOBS_MAX; i++) {
        assert_int_equal(jobs[i].runs, 1);
        assert_int_equal(jobs[i].completions, 1);
        assert_int_equal(jobs[i].result, 0);
    }
    assert_int_equal(more.runs, 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(owed[i].runs, 1);
        assert_int_equal(owed[i].result, 0);
    }
    fake_destroy(fake);
    free(jobs);
}

// Where no helper can be made, a job gets -EAGAIN by a post; with one helper, jobs run on that one;
// when threads can be made again, they are.
static void missing_threads_are_eagain_only_without_any_helper(void **state)
{
    struct fake_loop *fake = fake_create();
    struct job refused = { 0 }, jobs[5] = { 0 }, last[HELPERS] = { 0 };

    (void)state;
    threads_left = 0;
    job_start(fake, &refused, run_at_once);
    assert_int_equal(refused.completions, 0);
    fake_turn(fake);
    assert_int_equal(refused.result, -EAGAIN);
    assert_int_equal(refused.runs, 0);
    threads_left = 1;
    for (int i = 0; i < 5; i++)
        job_start(fake, &jobs[i], run_at_once);
    fake_wait(fake, 6);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(jobs[i].result, 0);
        assert_true(pthread_equal(jobs[i].thread, jobs[0].thread));
    }
    threads_left = -1;
    for (int i = 0; i < HELPERS; i++)
        job_start(fake, &last[i], run_at_gate);
    fake_wait_running(fake, HELPERS);
    fake_open_gate(fake);
    fake_destroy(fake);
}

static int run_look(struct weir_operation *operation)
{
    struct job *job = (struct job *)operation;

    job->policy = sched_getscheduler(0);
    job->nice = getpriority(PRIO_PROCESS, (id_t)gettid());
    return run_at_once(operation);
}

static void job_start_background(struct fake_loop *fake, struct job *job,
                                 int (*run)(struct weir_operation *operation))
{
    job->operation.kind = FILE_JOB_BACKGROUND;
    job_start(fake, job, run);
}

// Jobs in the background run one after another on a thread of their own, which is the nicest that
// there is and preempts nobody: while one is held up, all other helpers are free. These are as
// they were.
static void background_jobs_hold_nobody_up(void **state)
{
    struct fake_loop *fake = fake_create();
    struct job held = { 0 }, behind = { 0 }, others[HELPERS + 1] = { 0 };

    (void)state;
    job_start_background(fake, &held, run_at_gate);
    fake_wait_running(fake, 1);
    job_start_background(fake, &behind, run_look);
    for (int i = 0; i < HELPERS + 1; i++)
        job_start(fake, &others[i], run_look);
    fake_wait(fake, HELPERS + 1);
    assert_int_equal(held.runs + behind.runs, 0);
    fake_open_gate(fake);
    fake_wait(fake, HELPERS + 3);
    assert_true(pthread_equal(held.thread, behind.thread));
    assert_int_equal(behind.nice, 19);
    assert_int_equal(behind.policy, SCHED_BATCH);
    for (int i = 0; i < HELPERS + 1; i++) {
        assert_false(pthread_equal(others[i].thread, held.thread));
        assert_int_equal(others[i].nice, getpriority(PRIO_PROCESS, (id_t)gettid()));
        assert_int_equal(others[i].policy, sched_getscheduler(0));
    }
    fake_destroy(fake);
}

// Ending the pool waits for what runs and for what is queued; every result has been posted by then.
static void fini_waits_for_every_job(void **state)
{
    enum { JOBS = 100 };
    struct fake_loop *fake = fake_create();
    struct job jobs[JOBS] = { 0 };

    (void)state;
    for (int i = 0; i < JOBS; i++)
        job_start(fake, &jobs[i], run_at_once);
    jobs_fini(&fake->loop);
    assert_int_equal(fake->posted, JOBS);
    fake_turn(fake);
    for (int i = 0; i < JOBS; i++)
        assert_int_equal(jobs[i].completions, 1);
    // A pool that never was, or was ended, ends again without harm.
    fake_destroy(fake);
}

// An operation can be used again as soon as it completed, thousands of times, and no job is lost or
// runs twice.
static void operations_are_used_again(void **state)
{
    enum { JOBS = 32, ROUNDS = 200 };
    struct fake_loop *fake = fake_create();
    struct job *jobs[JOBS] = { NULL };

    (void)state;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < JOBS; i++) {
            jobs[i] = calloc(1, sizeof(*jobs[i]));
            assert_non_null(jobs[i]);
            jobs[i]->returned = i;
            job_start(fake, jobs[i], run_at_once);
        }
        fake_wait(fake, (round + 1) * JOBS);
        for (int i = 0; i < JOBS; i++) {
            assert_int_equal(jobs[i]->runs, 1);
            assert_int_equal(jobs[i]->result, i);
            free(jobs[i]);
        }
    }
    fake_destroy(fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_come_back_by_posts),
        cmocka_unit_test(helpers_take_no_signals),
        cmocka_unit_test(helpers_run_side_by_side_up_to_their_number),
        cmocka_unit_test(full_queue_is_eagain),
        cmocka_unit_test(missing_threads_are_eagain_only_without_any_helper),
        cmocka_unit_test(background_jobs_hold_nobody_up),
        cmocka_unit_test(fini_waits_for_every_job),
        cmocka_unit_test(operations_are_used_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
