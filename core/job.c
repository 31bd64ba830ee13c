// Jobs: functions that may block, on a few helper threads of one loop; and functions that compute,
// one after another, on a helper that runs when nothing else does, or, when it gets too little so,
// on one that has a small share.
//
// Only the loop's thread starts jobs and makes helpers, so `helpers` and `helpers_count` are its
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

// Of the helpers in the background: which one takes the next job.
enum { JOB_HELPER_IDLE, JOB_HELPER_NICE, JOB_BACKGROUND_HELPERS };

struct job_helper {
    struct job_pool *pool;
    pthread_t thread;
    uint32_t number; // in the pool
};

struct job_pool {
    struct weir_loop *loop;
    pthread_mutex_t lock;
    pthread_cond_t changed; // a job was queued, `confined` grew, or `ending` was set; while
                            // somebody settles, `idle` grew; in the background, a job has run
    struct weir_post *first, **last;
    uint32_t queued;   // in the list
    uint32_t idle;     // helpers that wait for a job
    uint32_t confined; // helpers that have tried to confine themselves
    uint32_t gone;     // helpers that could not
    int failure;       // the first error of that
    bool ending;
    bool settling; // the loop waits in jobs_settle()
    bool background;
    bool running;   // in the background: a job
    uint32_t ready; // in the background: helpers that can run jobs
    uint32_t turn;  // in the background: the helper that runs the next one
    uint32_t helpers_count, helpers_max;
    struct job_helper helpers[];
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
static void job_deliver(struct weir_loop *loop, struct weir_operation *operation, int64_t result)
{
    operation->result = result;
    operation->post.function = job_completed;
    weir_loop_post(loop, &operation->post);
}

// --- Helpers -------------------------------------------------------------------------------------

// Whether this helper is to take the first of the queue. Where only one could be made, it does all.
static bool job_is_due(const struct job_pool *pool, const struct job_helper *helper)
{
    if (!pool->first || !pool->background)
        return pool->first;
    return !pool->running && (pool->ready < JOB_BACKGROUND_HELPERS || helper->number == pool->turn);
}

// Returns NULL when the pool ends and nothing is queued any more.
static struct weir_operation *job_next(const struct job_helper *helper)
{
    struct job_pool *pool = helper->pool;
    struct weir_post *post;

    pthread_mutex_lock(&pool->lock);
    pool->idle++;
    if (pool->settling)
        pthread_cond_broadcast(&pool->changed);
    while (!job_is_due(pool, helper) && (pool->first || !pool->ending))
        pthread_cond_wait(&pool->changed, &pool->lock);
    pool->idle--;
    post = pool->first;
    if (post) {
        pool->first = post->next;
        if (!pool->first)
            pool->last = &pool->first;
        pool->queued--;
        pool->running = true;
    }
    pthread_mutex_unlock(&pool->lock);
    return post ? job_of_post(post) : NULL;
}

// What takes longer on the idle helper gets too little of the processor, and what takes less on the
// other does not need its share.
#define JOB_HUNGER_NS UINT64_C(1000000000)

static uint64_t job_now(const struct job_pool *pool)
{
    return pool->loop->system->clock(pool->loop->system_state);
}

// Before the result is posted, so that what the loop starts thereupon goes to the right helper.
static void job_has_run(struct job_pool *pool, uint64_t began_ns)
{
    bool hungry = job_now(pool) - began_ns > JOB_HUNGER_NS;

    pthread_mutex_lock(&pool->lock);
    pool->running = false;
    pool->turn = hungry ? JOB_HELPER_NICE : JOB_HELPER_IDLE;
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
}

static int job_run(struct job_pool *pool, struct weir_operation *operation)
{
    uint64_t began_ns;
    int result;

    if (!pool->background)
        return operation->run(operation);
    began_ns = job_now(pool);
    result = operation->run(operation);
    job_has_run(pool, began_ns);
    return result;
}

// Whether this helper may go on.
static bool job_confine(struct job_pool *pool)
{
    const struct weir_loop_config *config = &pool->loop->config;
    int error;

    if (!config->confine)
        return true;
    error = config->confine(config->confine_context, WEIR_THREAD_JOB);
    pthread_mutex_lock(&pool->lock);
    pool->confined++;
    pool->gone += error != 0;
    pool->failure = pool->failure ? pool->failure : error;
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
    return !error;
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

// A thread that wakes goes before one of SCHED_IDLE at once, and nearly always before another one
// in the background, too: who asks for a long slice is due late, and gives way to all that ask for
// shorter ones; and the weight of the nicest keeps the loop from owing it time when it wakes. But
// when that slice is nearly used up, it is due first, and the loop waits for the next tick (4 ms).
// Beside busy threads the share of SCHED_IDLE is a fifth of the nicest's, which is little enough,
// and the way back needs a privilege: hence two helpers. Where this is forbidden, only latency
// suffers.
static void job_give_way(uint32_t helper)
{
    const struct sched_param none = { 0 };

    const struct job_schedule schedule = {
        .size = sizeof(schedule),
        .policy = SCHED_BATCH,
        .nice = JOB_BACKGROUND_NICE,
        .runtime_ns = JOB_BACKGROUND_SLICE_NS,
    };

    syscall(SYS_sched_setattr, 0, &schedule, 0);
    if (helper == JOB_HELPER_IDLE)
        sched_setscheduler(0, SCHED_IDLE, &none); // the slice stays
}

static void *job_help(void *argument)
{
    const struct job_helper *helper = argument;
    struct job_pool *pool = helper->pool;
    struct weir_operation *operation;

    if (pool->background)
        job_give_way(helper->number);
    if (!job_confine(pool))
        return NULL;
    pthread_mutex_lock(&pool->lock);
    pool->ready++;
    pthread_mutex_unlock(&pool->lock);
    while ((operation = job_next(helper)))
        job_deliver(pool->loop, operation, job_run(pool, operation));
    return NULL;
}

// Signals belong to the program's threads: a helper inherits a mask that blocks them all.
static int job_add_helper(struct job_pool *pool)
{
    struct job_helper *helper = &pool->helpers[pool->helpers_count];
    pthread_attr_t attributes;
    sigset_t all, before;
    int error;

    error = pthread_attr_init(&attributes);
    if (error)
        return -error;
    pthread_attr_setstacksize(&attributes, JOB_STACK_SIZE);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    helper->pool = pool;
    helper->number = pool->helpers_count;
    error = pthread_create(&helper->thread, &attributes, job_help, helper);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (error)
        return -error;
    pool->helpers_count++;
    return 0;
}

// --- The loop's side -----------------------------------------------------------------------------

static struct job_pool *job_pool_create(struct weir_loop *loop, bool background)
{
    uint32_t ordinary = loop->config.job_threads ? loop->config.job_threads : 1;
    uint32_t helpers_max = background ? JOB_BACKGROUND_HELPERS : ordinary;
    struct job_pool *pool = calloc(1, sizeof(*pool) + helpers_max * sizeof(pool->helpers[0]));

    if (!pool)
        return NULL;
    pool->loop = loop;
    pool->background = background;
    pool->helpers_max = helpers_max;
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
    while (!error && pool->helpers_count < pool->helpers_max)
        error = job_add_helper(pool);
    pthread_mutex_lock(&pool->lock);
    while (pool->confined < pool->helpers_count)
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

// Whether there is no helper for one more job. In the background the second is made when its turn
// comes first.
static bool job_wants_helper(const struct job_pool *pool)
{
    if (pool->background)
        return pool->helpers_count <= pool->turn;
    return pool->queued >= pool->idle;
}

// Makes room for one more job: -EAGAIN when the queue is full, and an error when no helper exists
// and none can be made. With at least one helper, a failure to add another only costs time.
static int job_admit(struct job_pool *pool)
{
    bool full, wanted;
    int error = 0;

    pthread_mutex_lock(&pool->lock);
    full = pool->queued == JOBS_MAX;
    wanted = job_wants_helper(pool);
    pthread_mutex_unlock(&pool->lock);
    if (full)
        return -EAGAIN;
    if (wanted && pool->helpers_count < pool->helpers_max)
        error = job_add_helper(pool);
    return pool->helpers_count ? 0 : error;
}

static void job_queue(struct job_pool *pool, struct weir_operation *operation)
{
    operation->post.next = NULL;
    pthread_mutex_lock(&pool->lock);
    *pool->last = &operation->post;
    pool->last = &operation->post.next;
    pool->queued++;
    if (pool->background)
        pthread_cond_broadcast(&pool->changed); // only one of them is due
    else
        pthread_cond_signal(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
}

void jobs_run(struct weir_loop *loop, struct weir_operation *operation)
{
    job_deliver(loop, operation, operation->run(operation));
}

void jobs_start(struct weir_loop *loop, struct weir_operation *operation)
{
    struct job_pool *pool;
    int error;

    if (loop->system->job) {
        loop->system->job(loop->system_state, operation);
        return;
    }
    pool = job_pool(loop, operation->kind == FILE_JOB_BACKGROUND);
    error = pool ? job_admit(pool) : -ENOMEM;
    if (error)
        job_deliver(loop, operation, error);
    else
        job_queue(pool, operation);
}

static void job_pool_settle(struct job_pool *pool)
{
    struct weir_post *post, *next;

    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->settling = true;
    while (pool->idle + pool->gone < pool->helpers_count || (pool->first && pool->idle))
        pthread_cond_wait(&pool->changed, &pool->lock);
    pool->settling = false;
    post = pool->first; // nobody is there to run them
    pool->first = NULL;
    pool->last = &pool->first;
    pool->queued = 0;
    pthread_mutex_unlock(&pool->lock);
    for (; post; post = next) {
        next = post->next;
        job_deliver(pool->loop, job_of_post(post), pool->failure);
    }
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
    for (uint32_t i = 0; i < pool->helpers_count; i++)
        pthread_join(pool->helpers[i].thread, NULL);
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
