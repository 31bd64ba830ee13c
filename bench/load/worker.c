// One worker's thread: turns, phases, the measured window, and what it hands to the main thread.
#include "worker.h"

#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

// An open loop wakes so long before a request is due and then spins: the kernel's wake-up, not the
// schedule, would otherwise decide when it leaves.
#define WORKER_SPIN_NS UINT64_C(100000)

// A turn that finds nothing takes less than a microsecond. In one that took longer than this the
// thread did not run: another task, an interrupt or the machine's host had its processor, and no
// request could leave in time.
#define WORKER_STOLEN_NS UINT64_C(10000)

// Neither what threads are apart by nor what a generator moves by: turns would share arrivals.
#define WORKER_TURN_SEED UINT64_C(0x8cb92ba72f3d8dd7)

const char *worker_failure_name(enum failure failure)
{
    static const char *const names[FAILURE_COUNT] = {
        [FAILURE_REFUSED] = "refused",
        [FAILURE_CONNECT_TIMEOUT] = "connect_timeout",
        [FAILURE_UNREACHABLE] = "unreachable",
        [FAILURE_NO_PORT] = "no_port",
        [FAILURE_LIMIT] = "limit",
        [FAILURE_RESET] = "reset",
        [FAILURE_CLOSED_EARLY] = "closed_early",
        [FAILURE_CLOSED_QUIET] = "closed_quiet",
        [FAILURE_TIMEOUT] = "timeout",
        [FAILURE_CORRUPT] = "corrupt",
        [FAILURE_STATUS] = "status",
        [FAILURE_MALFORMED] = "malformed",
        [FAILURE_EXCESS] = "excess",
        [FAILURE_OTHER] = "other",
    };
    return names[failure];
}

void worker_notify(const struct worker *worker)
{
    const uint64_t one = 1;
    // It fails only when the counter is full, and then the main thread is awake anyway.
    ssize_t written = write(worker->notice, &one, sizeof one);
    (void)written;
}

static void worker_set_state(struct worker *worker, enum worker_state state)
{
    atomic_store_explicit(&worker->state, state, memory_order_release);
    worker_notify(worker);
}

__attribute__((format(printf, 2, 3))) static void worker_say(struct worker *worker,
                                                             const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(worker->error, sizeof worker->error, format, arguments);
    va_end(arguments);
}

// --- Turns ---------------------------------------------------------------------------------------

static void worker_usage_read(const struct worker *worker, uint64_t now_ns,
                              struct worker_usage *ret_usage)
{
    struct rusage usage;
    getrusage(RUSAGE_THREAD, &usage);
    ret_usage->at_ns = now_ns;
    ret_usage->user_s = (double)usage.ru_utime.tv_sec + (double)usage.ru_utime.tv_usec * 1e-6;
    ret_usage->system_s = (double)usage.ru_stime.tv_sec + (double)usage.ru_stime.tv_usec * 1e-6;
    ret_usage->spin_ns = worker->spin_ns;
    ret_usage->stolen_ns = worker->stolen_ns;
    weir_loop_stats(worker->loop, &ret_usage->stats);
}

// Moves the beginning by the rest since the last turn, so that the difference from beginning to end
// is the sum over all turns.
static void worker_usage_resume(struct worker *worker, uint64_t now_ns)
{
    struct worker_usage now, *begin = &worker->result.begin;
    const struct worker_usage *end = &worker->result.end;
    worker_usage_read(worker, now_ns, &now);
    if (!end->at_ns) {
        *begin = now;
        return;
    }
    begin->at_ns += now.at_ns - end->at_ns;
    begin->user_s += now.user_s - end->user_s;
    begin->system_s += now.system_s - end->system_s;
    begin->spin_ns += now.spin_ns - end->spin_ns;
    begin->stolen_ns += now.stolen_ns - end->stolen_ns;
    for (uint32_t i = 0; i < sizeof now.stats / sizeof(uint64_t); i++)
        ((uint64_t *)&begin->stats)[i] +=
            ((const uint64_t *)&now.stats)[i] - ((const uint64_t *)&end->stats)[i];
}

static void worker_turn_ordered(struct worker *worker)
{
    const struct worker_order *order = &worker->order;
    const struct options *options = worker->options;
    if (worker->phase == PHASE_RUN || worker->phase == PHASE_DRAIN)
        return; // only the end moved
    worker->phase = order->turn ? PHASE_RUN : PHASE_DONE;
    worker->measuring = order->from_ns != WEIR_NEVER;
    if (!order->turn)
        return;
    if (worker->measuring)
        worker_usage_resume(worker, weir_clock_now());
    // Each turn has arrivals of its own, and the same in every run of the seed.
    if (options->rate > 0)
        schedule_init(&worker->schedule, options->arrivals, options->rate, worker->index,
                      options->threads, options->seed + order->turn * WORKER_TURN_SEED,
                      order->start_ns);
    if (options->timeout_ns)
        weir_timer_start(worker->loop, &worker->timeout_timer, options->timeout_ns / 8);
}

// What did not end in time must not reach into the next turn: its connection is reset.
static void worker_give_up(struct worker *worker, uint64_t now_ns)
{
    client_censor(worker, now_ns);
    for (uint32_t i = 0; i < worker->connections_count; i++) {
        struct connection *connection = &worker->connections[i];
        if (!connection->outstanding && !connection->running)
            continue;
        connection->outstanding = connection->starting = connection->unstarted = 0;
        connection->running = false;
        client_abort(connection, FAILURE_TIMEOUT);
    }
}

// The turn is over. Also ends the worker if there is to be no other.
static void worker_rest(struct worker *worker, uint64_t now_ns)
{
    const struct worker_result *result = &worker->result;
    if (worker->running || (worker->options->rate > 0 && worker_due(worker, now_ns)))
        worker_give_up(worker, now_ns);
    if (worker->measuring)
        worker_usage_read(worker, now_ns, &worker->result.end);
    worker->phase = worker->order.turn ? PHASE_REST : PHASE_DONE;
    worker->turn = (struct worker_turn){ .ended_ns = now_ns,
                                         .ops = result->ops,
                                         .echoes = result->echoes,
                                         .verified = result->verified,
                                         .unended = result->censored + result->lost };
    for (uint32_t i = 0; i < FAILURE_COUNT; i++)
        worker->turn.failures += result->failures[i];
    atomic_fetch_add_explicit(&worker->turns, 1, memory_order_release);
    worker_notify(worker);
}

// --- Orders --------------------------------------------------------------------------------------

static void worker_ordered(struct weir_loop *loop, struct weir_post *post)
{
    struct worker_order *order = container_of(post, struct worker_order, post);
    struct worker *worker = order->worker;
    const struct options *options = worker->options;
    (void)loop;
    worker->order = *order;
    atomic_store_explicit(&worker->pending_posted, false, memory_order_release);
    if (options->turns) {
        worker_turn_ordered(worker);
        return;
    }
    if (worker->phase != PHASE_CONNECT)
        return; // the end moved, the start did not
    worker->phase = PHASE_RUN;
    if (options->rate > 0)
        schedule_init(&worker->schedule, options->arrivals, options->rate, worker->index,
                      options->threads, options->seed, order->start_ns);
}

void worker_order(struct worker *worker, const struct worker_order *order)
{
    // A post must not be posted again before it ran; a worker that is done takes no orders.
    while (atomic_load_explicit(&worker->pending_posted, memory_order_acquire)) {
        if (atomic_load_explicit(&worker->state, memory_order_acquire) != WORKER_READY)
            return;
        sched_yield();
    }
    atomic_store_explicit(&worker->pending_posted, true, memory_order_relaxed);
    worker->pending = *order;
    worker->pending.worker = worker;
    worker->pending.post.function = worker_ordered;
    weir_loop_post(worker->loop, &worker->pending.post);
}

static void worker_snapshot_take(struct weir_loop *loop, struct weir_post *post)
{
    struct worker_snapshot *snapshot = container_of(post, struct worker_snapshot, post);
    const struct worker *worker = snapshot->worker;
    const struct worker_result *result = &worker->result;
    (void)loop;
    memcpy(snapshot->latency, result->response ? result->response : result->service,
           sizeof *snapshot->latency);
    snapshot->failures = 0;
    for (uint32_t i = 0; i < FAILURE_COUNT; i++)
        snapshot->failures += result->failures[i];
    atomic_store_explicit(&snapshot->taken, true, memory_order_release);
    worker_notify(worker);
}

void worker_snapshot(struct worker *worker)
{
    atomic_store_explicit(&worker->snapshot.taken, false, memory_order_relaxed);
    worker->snapshot.worker = worker;
    worker->snapshot.post.function = worker_snapshot_take;
    weir_loop_post(worker->loop, &worker->snapshot.post);
}

// --- Phases --------------------------------------------------------------------------------------

static void worker_advance(struct worker *worker, uint64_t now_ns)
{
    const struct worker_order *order = &worker->order;
    if (worker->phase == PHASE_RUN && !worker->measuring && now_ns >= order->from_ns &&
        !worker->options->turns) {
        worker->measuring = true;
        worker_usage_read(worker, now_ns, &worker->result.begin);
    }
    if (worker->phase == PHASE_RUN && now_ns >= order->to_ns) {
        if (!worker->options->turns)
            worker_usage_read(worker, now_ns, &worker->result.end);
        worker->phase = PHASE_DRAIN;
    }
    if (worker->phase == PHASE_DRAIN) {
        bool overdue = worker->options->rate > 0 && worker_due(worker, now_ns);
        bool over = (!worker->running && !overdue) || now_ns >= order->give_up_ns;
        if (over && worker->options->turns)
            worker_rest(worker, now_ns);
        else if (over)
            worker->phase = PHASE_DONE;
    }
}

// When the next turn has to be over if nothing happens; 0: it must not sleep.
static uint64_t worker_deadline(const struct worker *worker, uint64_t now_ns)
{
    const struct worker_order *order = &worker->order;
    uint64_t deadline_ns = WEIR_NEVER;
    if (worker->options->busy)
        return 0;
    if (worker->phase == PHASE_CONNECT || worker->phase == PHASE_REST)
        return WEIR_NEVER;
    if (worker->phase == PHASE_RUN)
        deadline_ns = worker->measuring || worker->options->turns ? order->to_ns : order->from_ns;
    else
        deadline_ns = order->give_up_ns;
    const struct schedule *schedule = &worker->schedule;
    if (worker->options->rate > 0 && worker->free.first && schedule->next_ns < order->to_ns) {
        if (schedule->next_ns <= now_ns + WORKER_SPIN_NS)
            return 0;
        if (schedule->next_ns - WORKER_SPIN_NS < deadline_ns)
            deadline_ns = schedule->next_ns - WORKER_SPIN_NS;
    }
    return deadline_ns;
}

static void worker_spun(struct worker *worker, uint64_t spun_ns)
{
    worker->spin_ns += spun_ns;
    if (spun_ns > WORKER_STOLEN_NS)
        worker->stolen_ns += spun_ns;
}

// Turns until the run is over. -errno when the loop broke.
static int worker_turns(struct worker *worker)
{
    uint64_t now_ns = weir_clock_now();
    while (worker->phase != PHASE_DONE) {
        uint64_t deadline_ns = worker_deadline(worker, now_ns);
        uint64_t started = worker->started;
        int events = weir_loop_turn(worker->loop, deadline_ns);
        if (events < 0)
            return events;
        uint64_t before_ns = now_ns;
        now_ns = weir_clock_now();
        worker_advance(worker, now_ns);
        client_start(worker, now_ns);
        if (deadline_ns == 0 && events == 0 && worker->started == started)
            worker_spun(worker, now_ns - before_ns);
    }
    client_censor(worker, now_ns);
    return 0;
}

// --- Set-up --------------------------------------------------------------------------------------

// A log line of the loop that explains a failure to start is kept for the main thread.
static void worker_log(void *context, enum weir_log_level level, const char *text)
{
    struct worker *worker = context;
    if (level <= WEIR_LOG_WARNING && !worker->error[0])
        worker_say(worker, "%s", text);
}

// Buffers that fit the replies: one small reply wastes a large buffer, and many small buffers make
// large replies slow.
static void worker_buffers(const struct worker *worker, struct weir_loop_config *config)
{
    uint64_t burst = worker->options->size * worker->options->depth;
    // How long the replies of an HTTP server are, only they will tell; files are long.
    if (worker->options->protocol == LOAD_HTTP && burst <= 4096)
        burst = 4097;
    if (worker->options->protocol == LOAD_FTP)
        burst = worker->options->operation == FTP_RETR || worker->options->beside ? 1 << 20 : 4097;
    if (burst >= 128 * 1024) {
        config->buffer_size = 64 * 1024;
        config->buffer_count = 128;
    } else if (burst > 4096) {
        config->buffer_size = 16 * 1024;
        config->buffer_count = 512;
    } else {
        config->buffer_size = 4096;
        config->buffer_count = 256;
        while (config->buffer_count < 4096 && config->buffer_count < 2 * worker->connections_count)
            config->buffer_count *= 2;
    }
}

static int worker_loop_create(struct worker *worker)
{
    const struct options *options = worker->options;
    struct weir_loop_config config;
    weir_loop_config_init(&config);
    config.engine = options->engine;
    if (options->uring_features)
        config.uring_features = options->uring_features;
    // A churned connection's place is free before its close has ended.
    uint64_t streams =
        (uint64_t)worker->connections_count * (options->churn ? 3 : 2) + worker->idle_count + 64;
    if (options->protocol == LOAD_FTP) // one for data, and one whose close has not ended
        streams += 2 * (uint64_t)worker->connections_count;
    config.streams_max = streams < 1000000 ? (uint32_t)streams : 1000000;
    worker_buffers(worker, &config);
    // All that may be in flight is queued at once, and must not stop the replies from being read.
    // An FTP upload waits for room by itself.
    config.send_high = options->size * options->depth + 1024 * 1024;
    if (options->protocol == LOAD_FTP)
        config.send_high = 1024 * 1024;
    config.send_low = config.send_high / 2;
    config.queued_max = SIZE_MAX / 2;
    config.log = worker_log;
    config.log_context = worker;
    int error = weir_loop_create(&config, &worker->loop);
    if (error && !worker->error[0])
        worker_say(worker, "cannot make a loop: %s", strerror(-error));
    return error;
}

static int worker_histograms(struct worker *worker)
{
    struct worker_result *result = &worker->result;
    bool open = worker->options->rate > 0;
    result->service = histogram_create();
    result->response = open ? histogram_create() : NULL;
    result->lag = open ? histogram_create() : NULL;
    worker->snapshot.latency = worker->live ? histogram_create() : NULL;
    bool complete = result->service && (!open || (result->response && result->lag)) &&
                    (!worker->live || worker->snapshot.latency);
    return complete ? 0 : -ENOMEM;
}

static int worker_pin(struct worker *worker)
{
    const struct options *options = worker->options;
    cpu_set_t set;
    if (!options->cpus_count)
        return 0;
    uint16_t cpu = options->cpus[worker->index % options->cpus_count];
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) == 0)
        return 0;
    worker_say(worker, "cannot run on processor %u: %s", cpu, strerror(errno));
    return -errno;
}

static int worker_init(struct worker *worker)
{
    int error = worker_pin(worker);
    if (error)
        return error;
    prctl(PR_SET_TIMERSLACK, 1UL); // nanoseconds; 50 us would otherwise be added to each sleep
    snprintf(worker->engine, sizeof worker->engine, "%s", weir_loop_engine(worker->loop));
    snprintf(worker->plan, sizeof worker->plan, "%s", weir_loop_plan(worker->loop));
    error = worker_histograms(worker);
    if (!error)
        error = client_init(worker);
    if (error)
        worker_say(worker, "out of memory for %u connections", worker->connections_count);
    return error;
}

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    int error = worker_init(worker);
    if (!error) {
        worker_set_state(worker, WORKER_READY);
        error = worker_turns(worker);
        if (error)
            worker_say(worker, "the loop broke: %s", strerror(-error));
    }
    worker_set_state(worker, error ? WORKER_FAILED : WORKER_DONE);
    while (sem_wait(worker->release) != 0)
        ;
    worker->phase = PHASE_DONE;
    weir_loop_destroy(worker->loop);
    client_fini(worker);
    return NULL;
}

int worker_create_loop(struct worker *worker)
{
    int error = worker_loop_create(worker);
    if (!error)
        worker->error[0] = '\0';
    return error;
}

int worker_start(struct worker *worker)
{
    worker->order.from_ns = worker->order.to_ns = worker->order.give_up_ns = WEIR_NEVER;
    int error = -pthread_create(&worker->thread, NULL, worker_main, worker);
    if (error)
        worker_say(worker, "cannot start thread %u: %s", worker->index + 1, strerror(-error));
    else
        worker->started_thread = true;
    return error;
}

void worker_fini(struct worker *worker)
{
    if (worker->started_thread)
        pthread_join(worker->thread, NULL);
    else
        weir_loop_destroy(worker->loop);
    free(worker->result.service);
    free(worker->result.response);
    free(worker->result.lag);
    for (uint32_t i = 0; i < FTP_STEPS; i++)
        free(worker->result.steps[i]);
    free(worker->snapshot.latency);
}
