// Time and threads: timers, deadlines of turns, posts from other threads, and jobs.
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

// --- Timers --------------------------------------------------------------------------------------

enum { TIMED_MAX = 16 };

struct timed {
    struct weir_timer timer;
    struct world *world;
    uint64_t delay_ns, start_ns, ran_ns;
    uint32_t runs, again; // again: how often it starts itself
    struct timed *victim; // stopped by this one
};

static void timed_run(struct weir_loop *loop, struct weir_timer *timer)
{
    struct timed *timed = (struct timed *)timer;
    timed->world->lock(timed->world);
    timed->runs++;
    timed->ran_ns = world_now(timed->world);
    if (timed->again) {
        timed->again--;
        timed->start_ns = timed->ran_ns;
        weir_timer_start(loop, timer, timed->delay_ns);
    }
    if (timed->victim)
        weir_timer_stop(loop, &timed->victim->timer);
    timed->world->unlock(timed->world);
}

static void timed_start(struct weir_loop *loop, void *argument)
{
    struct timed *timed = argument;
    timed->timer.function = timed_run;
    timed->start_ns = world_now(timed->world);
    weir_timer_start(loop, &timed->timer, timed->delay_ns);
}

static void timed_stop(struct weir_loop *loop, void *argument)
{
    weir_timer_stop(loop, &((struct timed *)argument)->timer);
}

// Starts a timer for each delay, lets them all run, and keeps the least lateness of each so far.
static void timed_round(struct world *world, const uint64_t *delays_us, size_t count,
                        uint64_t *lateness_ns)
{
    struct timed timers[TIMED_MAX] = { 0 };
    for (size_t i = 0; i < count; i++) {
        timers[i].world = world;
        timers[i].delay_ns = delays_us[i] * 1000;
        (void)world_call(world, NULL, timed_start, &timers[i]);
    }
    for (size_t i = 0; i < count; i++)
        world_reaches(world, &timers[i].runs, 1);
    world_run(world, 20 * MILLISECOND);
    for (size_t i = 0; i < count; i++) {
        uint64_t took_ns = timers[i].ran_ns - timers[i].start_ns;
        assert_int_equal(timers[i].runs, 1);
        assert_true(took_ns >= timers[i].delay_ns);
        if (took_ns - timers[i].delay_ns < lateness_ns[i])
            lateness_ns[i] = took_ns - timers[i].delay_ns;
    }
}

// No timer runs early, none runs twice, and none much later than it is due. A machine that runs
// others may be late with any timer; a loop that is at fault is late with the same one each time.
static void timers_are_never_early(struct world *world)
{
    static const uint64_t delays_us[] = { 0,    1,     500,   1000,  1500,  2000,   5000,  10000,
                                          9999, 33333, 63999, 64000, 64001, 100000, 150000 };
    enum { COUNT = sizeof(delays_us) / sizeof(delays_us[0]), ROUNDS = 8 };
    uint64_t lateness_ns[COUNT], most_ns = WEIR_NEVER;
    _Static_assert((int)COUNT <= (int)TIMED_MAX, "a round has room for all");
    memset(lateness_ns, 0xff, sizeof(lateness_ns));
    for (int round = 0; round < ROUNDS && most_ns > 100 * MILLISECOND * WORLD_SLOWNESS; round++) {
        timed_round(world, delays_us, COUNT, lateness_ns);
        most_ns = 0;
        for (int i = 0; i < COUNT; i++)
            most_ns = lateness_ns[i] > most_ns ? lateness_ns[i] : most_ns;
    }
    assert_in_range(most_ns, 0, 100 * MILLISECOND * WORLD_SLOWNESS);
}

// A stopped timer does not run, whether it is stopped from outside or by one that is due with it.
static void stopped_timers_do_not_run(struct world *world)
{
    struct timed stopped = { .world = world, .delay_ns = 20 * MILLISECOND };
    struct timed victim = { .world = world, .delay_ns = 10 * MILLISECOND };
    struct timed killer = { .world = world, .delay_ns = 10 * MILLISECOND, .victim = &victim };
    struct timed witness = { .world = world, .delay_ns = 60 * MILLISECOND };
    (void)world_call(world, NULL, timed_start, &stopped);
    (void)world_call(world, NULL, timed_stop, &stopped);
    (void)world_call(world, NULL, timed_stop, &stopped);
    (void)world_call(world, NULL, timed_start, &killer);
    (void)world_call(world, NULL, timed_start, &victim);
    (void)world_call(world, NULL, timed_start, &witness);
    world_reaches(world, &witness.runs, 1);
    assert_int_equal(stopped.runs, 0);
    assert_int_equal(killer.runs, 1);
    // Both were due together; whichever ran first, the victim did not run after it was stopped.
    assert_true(victim.runs == 0 || victim.ran_ns <= killer.ran_ns);
}

// Starting a running timer moves it, to later and to earlier.
static void starting_a_running_timer_moves_it(struct world *world)
{
    struct timed later = { .world = world, .delay_ns = 10 * MILLISECOND };
    struct timed sooner = { .world = world, .delay_ns = 60 * SECOND };
    (void)world_call(world, NULL, timed_start, &later);
    (void)world_call(world, NULL, timed_start, &sooner);
    later.delay_ns = 80 * MILLISECOND;
    sooner.delay_ns = 5 * MILLISECOND;
    (void)world_call(world, NULL, timed_start, &later);
    (void)world_call(world, NULL, timed_start, &sooner);
    world_reaches(world, &later.runs, 1);
    world_reaches(world, &sooner.runs, 1);
    assert_true(later.ran_ns - later.start_ns >= 80 * MILLISECOND);
    assert_int_equal(later.runs, 1);
    assert_int_equal(sooner.runs, 1);
}

// A timer that starts itself again in its function runs again each time.
static void timers_may_start_themselves_again(struct world *world)
{
    struct timed timed = { .world = world, .delay_ns = 2 * MILLISECOND, .again = 20 };
    uint64_t start = world_now(world);
    (void)world_call(world, NULL, timed_start, &timed);
    world_reaches(world, &timed.runs, 21);
    assert_true(timed.ran_ns - start >= 21 * 2 * MILLISECOND);
    world_run(world, 10 * MILLISECOND);
    assert_int_equal(timed.runs, 21);
}

static struct weir_loop *post_loop(struct world *world)
{
    struct weir_loop *loop;
    assert_int_equal(weir_loop_create(world->config, &loop), 0);
    return loop;
}

static uint64_t least(uint64_t one, uint64_t other)
{
    return one < other ? one : other;
}

// A turn with nothing to do lasts until its deadline and no longer; one without a deadline returns
// at once. As above, the machine may be late with any of them, and the loop would be with each.
static void turns_keep_their_deadline(struct world *world)
{
    struct weir_loop *loop = post_loop(world);
    uint64_t waited_ns = WEIR_NEVER, looked_ns = WEIR_NEVER;
    for (int i = 0; i < 5; i++) {
        uint64_t start = weir_clock_now(), deadline = start + 20 * MILLISECOND;
        // Any event of the engine's own may end a turn early; the next one goes on.
        while (weir_clock_now() < deadline)
            assert_true(weir_loop_turn(loop, deadline) >= 0);
        waited_ns = least(waited_ns, weir_clock_now() - start);
        start = weir_clock_now();
        assert_true(weir_loop_turn(loop, 0) >= 0);
        looked_ns = least(looked_ns, weir_clock_now() - start);
        assert_true(weir_loop_now(loop) >= start);
    }
    assert_in_range(waited_ns, 20 * MILLISECOND, 120 * MILLISECOND * WORLD_SLOWNESS);
    assert_in_range(looked_ns, 0, 15 * MILLISECOND * WORLD_SLOWNESS);
    weir_loop_destroy(loop);
}

// --- Posts ---------------------------------------------------------------------------------------

enum { POST_ROUNDS = 300, POST_THREADS = 4, POSTS_PER_THREAD = 2000 };

struct post_sender {
    struct weir_post post;
    struct weir_loop *loop;
    pthread_mutex_t mutex;
    pthread_cond_t ran;
    uint32_t posted, runs;
};

static void post_ran(struct weir_loop *loop, struct weir_post *post)
{
    struct post_sender *sender = (struct post_sender *)post;
    (void)loop;
    pthread_mutex_lock(&sender->mutex);
    sender->runs++;
    pthread_cond_signal(&sender->ran);
    pthread_mutex_unlock(&sender->mutex);
}

static void *post_one_by_one(void *argument)
{
    struct post_sender *sender = argument;
    pthread_mutex_lock(&sender->mutex);
    for (uint32_t i = 0; i < POST_ROUNDS; i++) {
        weir_loop_post(sender->loop, &sender->post);
        while (sender->runs <= i)
            pthread_cond_wait(&sender->ran, &sender->mutex);
    }
    pthread_mutex_unlock(&sender->mutex);
    return NULL;
}

// A post wakes a loop that sleeps without a deadline, every time: the loop would hang here if a
// single wake were lost.
static void posts_wake_a_sleeping_loop(struct world *world)
{
    struct post_sender sender = { .post = { .function = post_ran },
                                  .loop = post_loop(world),
                                  .mutex = PTHREAD_MUTEX_INITIALIZER,
                                  .ran = PTHREAD_COND_INITIALIZER };
    pthread_t thread;
    uint64_t start = weir_clock_now();
    assert_int_equal(pthread_create(&thread, NULL, post_one_by_one, &sender), 0);
    for (uint32_t runs = 0; runs < POST_ROUNDS;) {
        assert_true(weir_loop_turn(sender.loop, WEIR_NEVER) >= 0);
        pthread_mutex_lock(&sender.mutex);
        runs = sender.runs;
        pthread_mutex_unlock(&sender.mutex);
    }
    pthread_join(thread, NULL);
    assert_in_range(weir_clock_now() - start, 0, WORLD_PATIENCE);
    weir_loop_destroy(sender.loop);
}

struct post_numbered {
    struct weir_post post;
    struct post_batch *batch;
    uint32_t number;
};

struct post_batch {
    struct weir_loop *loop;
    struct post_numbered posts[POSTS_PER_THREAD];
    uint32_t runs;
    bool disorder;
};

static void post_numbered_ran(struct weir_loop *loop, struct weir_post *post)
{
    struct post_numbered *numbered = (struct post_numbered *)post;
    (void)loop;
    if (numbered->number != numbered->batch->runs++)
        numbered->batch->disorder = true;
}

static void *post_batch_run(void *argument)
{
    struct post_batch *batch = argument;
    for (uint32_t i = 0; i < POSTS_PER_THREAD; i++) {
        batch->posts[i] = (struct post_numbered){ .post = { .function = post_numbered_ran },
                                                  .batch = batch,
                                                  .number = i };
        weir_loop_post(batch->loop, &batch->posts[i].post);
    }
    return NULL;
}

// Posts of several threads each run once, and those of one thread in their order.
static void posts_of_a_thread_keep_their_order(struct world *world)
{
    struct weir_loop *loop = post_loop(world);
    struct post_batch *batches = calloc(POST_THREADS, sizeof(*batches));
    pthread_t threads[POST_THREADS];
    uint32_t total = 0;
    for (uint32_t i = 0; i < POST_THREADS; i++) {
        batches[i].loop = loop;
        assert_int_equal(pthread_create(&threads[i], NULL, post_batch_run, &batches[i]), 0);
    }
    uint64_t deadline = weir_clock_now() + WORLD_PATIENCE;
    while (total < POST_THREADS * POSTS_PER_THREAD && weir_clock_now() < deadline) {
        assert_true(weir_loop_turn(loop, weir_clock_now() + 100 * MILLISECOND) >= 0);
        total = 0;
        for (uint32_t i = 0; i < POST_THREADS; i++)
            total += batches[i].runs;
    }
    for (uint32_t i = 0; i < POST_THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(total, POST_THREADS * POSTS_PER_THREAD);
    for (uint32_t i = 0; i < POST_THREADS; i++)
        assert_false(batches[i].disorder);
    weir_loop_destroy(loop);
    free(batches);
}

static void post_send_hello(struct weir_stream *stream, void *argument)
{
    (void)argument;
    weir_stream_send(stream, "hello", 5);
}

// A post reaches a loop whose stream waits for its peer: the stream's verb takes effect.
static void posts_reach_a_loop_that_serves_a_quiet_stream(struct world *world)
{
    struct weir_address address = world_listen(world, world_echo(world));
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, NULL, &subject);
    peer_ping(peer, 10);
    uint64_t start = world_now(world), before = peer->received;
    peer->receive_pattern = 0;
    world_with(subject, post_send_hello, NULL);
    world_reaches(world, &peer->received, before + 5);
    assert_in_range(world_now(world) - start, 0, world_late(world, 500 * MILLISECOND));
}

// --- Jobs ----------------------------------------------------------------------------------------

enum { JOBS = 200, JOBS_TOO_MANY = 3000 };

struct job {
    struct weir_operation operation;
    struct jobs *jobs;
    uint32_t number;
    bool ran, done;
};

struct jobs {
    struct world *world;
    pthread_t loop_thread;
    uint32_t count, done, refused;
    bool wrong, elsewhere;
    struct job list[JOBS_TOO_MANY];
};

static int job_run(struct weir_operation *operation)
{
    struct job *job = (struct job *)operation;
    job->ran = true;
    return (int)job->number;
}

static void job_done(struct weir_operation *operation, int64_t result)
{
    struct job *job = (struct job *)operation;
    struct jobs *jobs = job->jobs;
    jobs->world->lock(jobs->world);
    jobs->elsewhere |= !pthread_equal(pthread_self(), jobs->loop_thread);
    jobs->done++;
    jobs->refused += result == -EAGAIN;
    jobs->wrong |= job->done || (result == -EAGAIN ? job->ran : result != (int64_t)job->number);
    job->done = true;
    jobs->world->unlock(jobs->world);
}

static void jobs_start_all(struct weir_loop *loop, void *argument)
{
    struct jobs *jobs = argument;
    jobs->loop_thread = pthread_self();
    for (uint32_t i = 0; i < jobs->count; i++) {
        struct job *job = &jobs->list[i];
        *job = (struct job){ .operation = { .done = job_done }, .jobs = jobs, .number = i };
        weir_job_start(loop, &job->operation, job_run);
    }
    if (jobs->done)
        jobs->wrong = true; // `done` must not run inside of the verb
}

static struct jobs *jobs_run(struct world *world, uint32_t count)
{
    struct jobs *jobs = calloc(1, sizeof(*jobs));
    jobs->world = world;
    jobs->count = count;
    (void)world_call(world, NULL, jobs_start_all, jobs);
    world_reaches(world, &jobs->done, count);
    assert_int_equal(jobs->done, count);
    assert_false(jobs->wrong);
    assert_false(jobs->elsewhere);
    return jobs;
}

// Each job runs once, and its result comes back on the loop's thread, never inside of the verb.
static void jobs_return_their_results_on_the_loop(struct world *world)
{
    struct jobs *jobs = jobs_run(world, JOBS);
    assert_int_equal(jobs->refused, 0);
    world_close(world);
    free(jobs);
}

// More jobs than the queue holds are told so; every one is told something.
static void jobs_beyond_the_queue_are_refused(struct world *world)
{
    struct jobs *jobs = jobs_run(world, JOBS_TOO_MANY);
    assert_in_range(jobs->refused, 0, JOBS_TOO_MANY - 1024);
    world_close(world);
    free(jobs);
}

const struct contract_test timer_post_tests[] = {
    { .name = "timers_are_never_early", .run = timers_are_never_early },
    { .name = "stopped_timers_do_not_run", .run = stopped_timers_do_not_run },
    { .name = "starting_a_running_timer_moves_it", .run = starting_a_running_timer_moves_it },
    { .name = "timers_may_start_themselves_again", .run = timers_may_start_themselves_again },
    { .name = "turns_keep_their_deadline",
      .run = turns_keep_their_deadline,
      .needs = { .kernel = true } },
    { .name = "posts_wake_a_sleeping_loop",
      .run = posts_wake_a_sleeping_loop,
      .needs = { .threads = true } },
    { .name = "posts_of_a_thread_keep_their_order",
      .run = posts_of_a_thread_keep_their_order,
      .needs = { .threads = true } },
    { .name = "posts_reach_a_loop_that_serves_a_quiet_stream",
      .run = posts_reach_a_loop_that_serves_a_quiet_stream },
    { .name = "jobs_return_their_results_on_the_loop",
      .run = jobs_return_their_results_on_the_loop },
    { .name = "jobs_beyond_the_queue_are_refused", .run = jobs_beyond_the_queue_are_refused },
    { 0 },
};
