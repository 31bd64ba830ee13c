// Jobs: functions that may block, on a few helper threads of one loop; and functions that compute,
// on one helper that gives way to all other threads.
//
// Only the loop's thread starts jobs and makes helpers, so `threads` and `threads_count` are its
// own. The queue is shared under the lock; it is linked through the operations' posts, which are
// not in use before a job has run, so queueing allocates nothing. A result returns through
// weir_loop_post(), and errors of starting do too: `done` never runs inside weir_job_start().
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "loop.h"

enum { JOB_STACK_SIZE = 256 * 1024 };

struct job_pool {
    struct weir_loop *loop;
    pthread_mutex_t lock;
    pthread_cond_t changed; // a job was queued, `confined` grew, or `ending` was set; while
                            // somebody settles, `idle` grew
    struct weir_post *first, **last;
    uint32_t queued;   // in the list
    uint32_t idle;     // helpers that wait for a job
    uint32_t confined; // helpers that have tried to confine themselves
    int failure;       // the first error of that
    bool ending;
    bool settling; // the loop waits in jobs_settle()
    bool background;
    uint32_t threads_count, threads_max;
    pthread_t threads[];
};

static struct weir_operation *job_of_post(struct weir_post *post)
{
    return (struct weir_operation *)((char *)post - offsetof(struct weir_operation, post));
}

static void job_completed(struct weir_loop *loop, struct weir_post *post)
{
    struct weir_operation *operation = job_of_post(post);

    (void)loop;
    file_completed(operation, operation->result);
}

// The last touch: as soon as it is posted, the loop may run it and the caller reuse its memory.
void job_deliver(struct weir_loop *loop, struct weir_operation *operation, int64_t result)
{
    operation->result = result;
    operation->post.function = job_completed;
    weir_loop_post(loop, &operation->post);
}

// --- Helpers -------------------------------------------------------------------------------------

// Returns NULL when the pool ends and nothing is queued any more.
static struct weir_operation *job_next(struct job_pool *pool)
{
    struct weir_post *post;

    pthread_mutex_lock(&pool->lock);
    pool->idle++;
    if (pool->settling)
        pthread_cond_broadcast(&pool->changed);
    while (!pool->first && !pool->ending)
        pthread_cond_wait(&pool->changed, &pool->lock);
    pool->idle--;
    post = pool->first;
    if (post) {
        pool->first = post->next;
        if (!pool->first)
            pool->last = &pool->first;
        pool->queued--;
    }
    pthread_mutex_unlock(&pool->lock);
    return post ? job_of_post(post) : NULL;
}

// 0, or why this helper is not confined.
static int job_confine(struct job_pool *pool)
{
    const struct weir_loop_config *config = &pool->loop->config;
    int error;

    if (!config->confine)
        return 0;
    error = config->confine(config->confine_context, WEIR_THREAD_JOB);
    pthread_mutex_lock(&pool->lock);
    pool->confined++;
    pool->failure = pool->failure ? pool->failure : error;
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
    return error;
}

// The nicest, and the longest slice that there is (Linux 6.12; older kernels ignore it).
enum { JOB_BACKGROUND_NICE = 19, JOB_BACKGROUND_SLICE_NS = 100000000 };

// The kernel's struct sched_attr in its first version; its header excludes <sched.h>.
struct job_schedule {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns;
};

// A thread that wakes goes first at once. Who asks for a long slice is due late, and gives way to
// all that ask for shorter ones; with a short slice it was due before the loop, which then waited
// for the next tick. The weight of the nicest keeps the loop from owing it time when it wakes. Not
// SCHED_IDLE: its share of a busy processor is a fifth of this one's, a login would take many
// seconds, and the loop would wait no less (docs/decisions/hashes.md). Where this is forbidden,
// only latency suffers.
static void job_give_way(void)
{
    const struct job_schedule schedule = {
        .size = sizeof(schedule),
        .policy = SCHED_BATCH,
        .nice = JOB_BACKGROUND_NICE,
        .runtime_ns = JOB_BACKGROUND_SLICE_NS,
    };

    syscall(SYS_sched_setattr, 0, &schedule, 0);
}

// A helper that is not confined runs nothing, but it stays: the jobs that are queued, or that come
// before the loop knows, must end, and perhaps it is the only one.
static void *job_help(void *argument)
{
    struct job_pool *pool = argument;
    struct weir_operation *operation;
    int error;

    if (pool->background)
        job_give_way();
    error = job_confine(pool);
    while ((operation = job_next(pool)))
        job_deliver(pool->loop, operation, error ? error : operation->run(operation));
    return NULL;
}

// Signals belong to the program's threads: a helper inherits a mask that blocks them all.
static int job_add_helper(struct job_pool *pool)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    int error;

    error = pthread_attr_init(&attributes);
    // UNTESTED: glibc has nothing to fail for
    if (error)
        return -error;
    pthread_attr_setstacksize(&attributes, JOB_STACK_SIZE);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&pool->threads[pool->threads_count], &attributes, job_help, pool);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (error)
        return -error;
    pool->threads_count++;
    return 0;
}

// --- The loop's side -----------------------------------------------------------------------------

static struct job_pool *job_pool_create(struct weir_loop *loop, bool background)
{
    uint32_t threads_max = loop->config.job_threads && !background ? loop->config.job_threads : 1;
    struct job_pool *pool = calloc(1, sizeof(*pool) + threads_max * sizeof(pool->threads[0]));

    if (!pool)
        return NULL;
    pool->loop = loop;
    pool->background = background;
    pool->threads_max = threads_max;
    pool->last = &pool->first;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->changed, NULL);
    return pool;
}

// The pool of one kind, made when it is first needed; NULL without memory.
static struct job_pool *job_pool(struct weir_loop *loop, bool background)
{
    struct job_pool **place = background ? &loop->background_jobs : &loop->jobs;

    if (!*place)
        *place = job_pool_create(loop, background);
    return *place;
}

static int job_pool_confine(struct weir_loop *loop, bool background)
{
    struct job_pool *pool = job_pool(loop, background);
    int error = 0;

    if (!pool)
        return -ENOMEM;
    while (!error && pool->threads_count < pool->threads_max)
        error = job_add_helper(pool);
    pthread_mutex_lock(&pool->lock);
    while (pool->confined < pool->threads_count)
        pthread_cond_wait(&pool->changed, &pool->lock);
    error = pool->failure ? pool->failure : error;
    pthread_mutex_unlock(&pool->lock);
    return error;
}

// Later the loop's own filter would forbid new threads.
int jobs_confine(struct weir_loop *loop)
{
    int error = job_pool_confine(loop, false);

    if (!error && (!loop->config.abilities || loop->config.abilities & WEIR_ABILITY_JOBS))
        error = job_pool_confine(loop, true);
    return error;
}

// Makes room for one more job: -EAGAIN when the queue is full, and an error when no helper exists
// and none can be made. With at least one helper, a failure to add another only costs time. An owed
// job is let in beyond the bound: who starts it has its memory, and so bounds their number.
static int job_admit(struct job_pool *pool, bool owed)
{
    bool full, busy;
    int error = 0;

    pthread_mutex_lock(&pool->lock);
    full = pool->queued >= JOBS_MAX;
    busy = pool->queued >= pool->idle;
    pthread_mutex_unlock(&pool->lock);
    if (full && !owed)
        return -EAGAIN;
    if (busy && pool->threads_count < pool->threads_max)
        error = job_add_helper(pool);
    return pool->threads_count ? 0 : error;
}

static void job_queue(struct job_pool *pool, struct weir_operation *operation)
{
    operation->post.next = NULL;
    pthread_mutex_lock(&pool->lock);
    *pool->last = &operation->post;
    pool->last = &operation->post.next;
    pool->queued++;
    pthread_cond_signal(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
}

void jobs_run(struct weir_loop *loop, struct weir_operation *operation)
{
    job_deliver(loop, operation, operation->run(operation));
}

static int job_start(struct weir_loop *loop, struct weir_operation *operation)
{
    struct job_pool *pool = job_pool(loop, operation->kind == FILE_JOB_BACKGROUND);
    int error = pool ? job_admit(pool, operation->owed) : -ENOMEM;

    if (!error)
        job_queue(pool, operation);
    return error;
}

void jobs_start(struct weir_loop *loop, struct weir_operation *operation)
{
    int error = loop->system->job ? loop->system->job(loop->system_state, operation)
                                  : job_start(loop, operation);

    if (error)
        job_deliver(loop, operation, error);
}

// Nothing is queued where there is no helper: see job_admit().
static void job_pool_settle(struct job_pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->settling = true;
    while (pool->first || pool->idle < pool->threads_count)
        pthread_cond_wait(&pool->changed, &pool->lock);
    pool->settling = false;
    pthread_mutex_unlock(&pool->lock);
}

void jobs_settle(struct weir_loop *loop)
{
    if (loop->system->end_jobs)
        loop->system->end_jobs(loop->system_state);
    job_pool_settle(loop->jobs);
    job_pool_settle(loop->background_jobs);
}

static void job_pool_destroy(struct job_pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->ending = true;
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
    for (uint32_t i = 0; i < pool->threads_count; i++)
        pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->changed);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

// Everything queued still runs, because jobs are not cancelled. Afterwards all results are posted;
// running those posts is the caller's business.
void jobs_fini(struct weir_loop *loop)
{
    if (loop->system->end_jobs)
        loop->system->end_jobs(loop->system_state);
    job_pool_destroy(loop->jobs);
    job_pool_destroy(loop->background_jobs);
    loop->jobs = loop->background_jobs = NULL;
}
