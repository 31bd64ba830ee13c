// The main thread of a run: it waits for workers, the clock and signals, and measures nothing
// itself but the process's CPU time.
#include "crew.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "live.h"
#include "turns.h"

#define CREW_SECOND_NS UINT64_C(1000000000)
#define CREW_STALL_NS (5 * CREW_SECOND_NS) // without a new connection, the run starts with fewer
#define CREW_LEAD_NS UINT64_C(2000000)     // orders reach all workers before they take effect

// And so long before a turn's first request is due; a closed loop does not wait for it.
#define CREW_TURN_LEAD_NS UINT64_C(200000)

enum { CREW_CONNECTING_MAX = 256 };

struct crew {
    struct worker *workers;
    uint32_t count, running; // running: threads that were started
    sem_t release;
    int notice;  // eventfd: the workers'
    int signals; // signalfd
    int input;   // of turns; negative while no line is wanted
    struct turns turns;
    uint32_t signals_seen;
    struct live live;
    struct worker_order order;
    uint64_t begin_ns; // of the turn
    struct crew_result result;
    char *error;
};

__attribute__((format(printf, 2, 3))) static int crew_say(struct crew *crew, const char *format,
                                                          ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(crew->error, OPTIONS_ERROR_SIZE, format, arguments);
    va_end(arguments);
    return -EIO;
}

// --- Waiting -------------------------------------------------------------------------------------

// Sleeps until the time, a notice or a signal.
static void crew_wait(struct crew *crew, uint64_t until_ns)
{
    uint64_t now_ns = weir_clock_now(), drained;
    struct signalfd_siginfo information;
    struct pollfd files[] = { { crew->notice, POLLIN, 0 },
                              { crew->signals, POLLIN, 0 },
                              { crew->input, POLLIN, 0 } };
    uint64_t wait_ns = until_ns > now_ns ? until_ns - now_ns : 0;
    struct timespec wait = { .tv_sec = (time_t)(wait_ns / CREW_SECOND_NS),
                             .tv_nsec = (long)(wait_ns % CREW_SECOND_NS) };
    if (ppoll(files, 3, &wait, NULL) <= 0)
        return;
    while (read(crew->notice, &drained, sizeof drained) > 0)
        ;
    while (read(crew->signals, &information, sizeof information) > 0)
        crew->signals_seen++;
    if (files[2].revents && turns_fill(&crew->turns, crew->input) != 0)
        crew->turns.ended = true; // what cannot be read says nothing more
}

static uint32_t crew_count(const struct crew *crew, enum worker_state state)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < crew->count; i++)
        count += atomic_load_explicit(&crew->workers[i].state, memory_order_acquire) == state;
    return count;
}

// The first worker that failed says why.
static int crew_check(struct crew *crew)
{
    for (uint32_t i = 0; i < crew->count; i++) {
        const struct worker *worker = &crew->workers[i];
        if (atomic_load_explicit(&worker->state, memory_order_acquire) == WORKER_FAILED)
            return crew_say(crew, "%s", worker->error);
    }
    return 0;
}

static uint64_t crew_open(const struct crew *crew)
{
    uint64_t open = 0;
    for (uint32_t i = 0; i < crew->count; i++)
        open += atomic_load_explicit(&crew->workers[i].open, memory_order_relaxed);
    return open;
}

static uint64_t crew_opened(const struct crew *crew)
{
    uint64_t opened = 0;
    for (uint32_t i = 0; i < crew->count; i++)
        opened += atomic_load_explicit(&crew->workers[i].opened, memory_order_relaxed);
    return opened;
}

// No connection ever opened, and at least one attempt failed: says so.
static int crew_check_reachable(struct crew *crew)
{
    uint64_t refused = 0;
    int last_error = 0;
    if (crew_opened(crew))
        return 0;
    for (uint32_t i = 0; i < crew->count; i++) {
        struct worker *worker = &crew->workers[i];
        refused += atomic_load_explicit(&worker->refused, memory_order_relaxed);
        if (!last_error)
            last_error = atomic_load_explicit(&worker->last_error, memory_order_relaxed);
    }
    char text[WEIR_ADDRESS_TEXT_SIZE];
    const struct options *options = crew->result.options;
    weir_address_print(&options->addresses[0], text);
    if (!refused)
        return 0;
    return crew_say(crew, "cannot connect to %s%s: %s", text,
                    options->addresses_count > 1 ? " or the other addresses" : "",
                    strerror(last_error));
}

// --- The parts of a run --------------------------------------------------------------------------

static int crew_create_loops(struct crew *crew, const struct payload *payload)
{
    const struct options *options = crew->result.options;
    for (uint32_t i = 0; i < crew->count; i++) {
        struct worker *worker = &crew->workers[i];
        worker->options = options;
        worker->payload = payload;
        worker->index = i;
        worker->connections_count =
            options->connections / crew->count + (i < options->connections % crew->count);
        worker->idle_count = options->idle / crew->count + (i < options->idle % crew->count);
        worker->connecting_max = 1 + (CREW_CONNECTING_MAX - 1) / crew->count;
        worker->release = &crew->release;
        worker->notice = crew->notice;
        worker->live = crew->live.shown;
        int error = worker_create_loop(worker);
        if (error) {
            crew_say(crew, "%s", worker->error);
            return error;
        }
    }
    return 0;
}

static int crew_start_threads(struct crew *crew)
{
    for (uint32_t i = 0; i < crew->count; i++) {
        if (worker_start(&crew->workers[i]))
            return crew_say(crew, "%s", crew->workers[i].error);
        crew->running++;
    }
    while (crew_count(crew, WORKER_STARTING))
        crew_wait(crew, weir_clock_now() + CREW_SECOND_NS);
    return crew_check(crew);
}

// Waits until all connections are open, or no more open for a while.
static int crew_connect(struct crew *crew)
{
    const struct options *options = crew->result.options;
    uint64_t target = (options->churn ? 0 : options->connections) + (uint64_t)options->idle;
    uint64_t begin_ns = weir_clock_now(), progress_ns = begin_ns, now_ns = begin_ns;
    uint64_t before = 0;
    while (crew_open(crew) < target && !crew->signals_seen) {
        crew_wait(crew, now_ns + CREW_SECOND_NS / 50);
        now_ns = weir_clock_now();
        int error = crew_check(crew);
        if (!error && now_ns - begin_ns > CREW_SECOND_NS)
            error = crew_check_reachable(crew);
        if (error)
            return error;
        if (crew_opened(crew) != before) {
            before = crew_opened(crew);
            progress_ns = now_ns;
        } else if (now_ns - progress_ns > CREW_STALL_NS &&
                   (before || now_ns - begin_ns > 3 * CREW_STALL_NS)) {
            break;
        }
    }
    crew->result.connected = (uint32_t)crew_open(crew);
    if (crew->result.connected < target && !crew->signals_seen)
        fprintf(stderr, "weir-load: only %u of %" PRIu64 " connections opened\n",
                crew->result.connected, target);
    return 0;
}

static void crew_order(struct crew *crew)
{
    for (uint32_t i = 0; i < crew->count; i++)
        worker_order(&crew->workers[i], &crew->order);
}

static void crew_usage(double *ret_user_s, double *ret_system_s)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    *ret_user_s = (double)usage.ru_utime.tv_sec + (double)usage.ru_utime.tv_usec * 1e-6;
    *ret_system_s = (double)usage.ru_stime.tv_sec + (double)usage.ru_stime.tv_usec * 1e-6;
}

// A signal came: the window ends now, and with a second one the drain too.
static void crew_interrupt(struct crew *crew)
{
    struct worker_order *order = &crew->order;
    uint64_t soon_ns = weir_clock_now() + CREW_LEAD_NS;
    crew->result.interrupted = true;
    if (order->to_ns > soon_ns) {
        order->to_ns = soon_ns;
        order->give_up_ns = soon_ns + WORKER_DRAIN_NS;
        if (order->from_ns > soon_ns && order->from_ns != WEIR_NEVER)
            order->from_ns = soon_ns;
    }
    if (crew->signals_seen > 1)
        order->give_up_ns = soon_ns;
    crew_order(crew);
}

// --- Turns ---------------------------------------------------------------------------------------

static uint64_t crew_cpu_ns(void)
{
    struct timespec spent;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent);
    return (uint64_t)spent.tv_sec * CREW_SECOND_NS + (uint64_t)spent.tv_nsec;
}

// What all workers did in their turns until now. They rest.
static struct worker_turn crew_turn_sum(const struct crew *crew)
{
    struct worker_turn sum = { 0 };
    for (uint32_t i = 0; i < crew->count; i++) {
        const struct worker_turn *turn = &crew->workers[i].turn;
        sum.ended_ns = turn->ended_ns > sum.ended_ns ? turn->ended_ns : sum.ended_ns;
        sum.ops += turn->ops;
        sum.echoes += turn->echoes;
        sum.verified += turn->verified;
        sum.failures += turn->failures;
        sum.unended += turn->unended;
    }
    return sum;
}

static bool crew_turn_over(const struct crew *crew)
{
    for (uint32_t i = 0; i < crew->count; i++)
        if (atomic_load_explicit(&crew->workers[i].turns, memory_order_acquire) < crew->order.turn)
            return false;
    return true;
}

static int crew_turn_wait(struct crew *crew)
{
    uint32_t signals_handled = crew->signals_seen;
    while (!crew_turn_over(crew)) {
        crew_wait(crew, weir_clock_now() + CREW_SECOND_NS);
        if (crew->signals_seen != signals_handled) {
            signals_handled = crew->signals_seen;
            crew_interrupt(crew);
        }
        int error = crew_check(crew);
        if (!error && weir_clock_now() > crew->order.start_ns + CREW_SECOND_NS)
            error = crew_check_reachable(crew);
        if (error)
            return error;
    }
    return 0;
}

static int crew_turn_print(struct crew *crew, const struct turn *turn, uint64_t cpu_ns,
                           const struct worker_turn *before, const struct worker_turn *now)
{
    printf("{\"turn\": %u, \"warm\": %s, \"ops\": %" PRIu64 ", \"echoes\": %" PRIu64
           ", \"verified\": %" PRIu64 ", \"errors\": %" PRIu64 ", \"unended\": %" PRIu64
           ", \"length_ns\": %" PRIu64 ", \"wall_ns\": %" PRIu64 ", \"cpu_ns\": %" PRIu64 "}\n",
           crew->order.turn, turn->warms ? "true" : "false", now->ops - before->ops,
           now->echoes - before->echoes, now->verified - before->verified,
           now->failures - before->failures, now->unended - before->unended, turn->length_ns,
           now->ended_ns - crew->begin_ns, cpu_ns);
    return fflush(stdout) == 0 ? 0 : crew_say(crew, "cannot write of turn %u", crew->order.turn);
}

// One turn, from the order to the last worker's rest.
static int crew_turn(struct crew *crew, const struct turn *turn)
{
    struct crew_result *result = &crew->result;
    struct worker_order *order = &crew->order;
    double user_s, system_s, user_end_s, system_end_s;
    struct worker_turn before = crew_turn_sum(crew);
    uint64_t cpu_ns = crew_cpu_ns();
    crew_usage(&user_s, &system_s);
    crew->begin_ns = weir_clock_now();
    order->turn++;
    order->from_ns = turn->warms ? WEIR_NEVER : crew->begin_ns;
    order->start_ns = crew->begin_ns + CREW_TURN_LEAD_NS;
    order->to_ns = order->start_ns + turn->length_ns;
    order->give_up_ns = order->to_ns + WORKER_DRAIN_NS;
    crew_order(crew);
    int error = crew_turn_wait(crew);
    if (error)
        return error;
    struct worker_turn now = crew_turn_sum(crew);
    crew_usage(&user_end_s, &system_end_s);
    if (!turn->warms) {
        result->turns++;
        result->user_s += user_end_s - user_s;
        result->system_s += system_end_s - system_s;
        result->measured_ns += now.ended_ns - crew->begin_ns;
    }
    return crew_turn_print(crew, turn, crew_cpu_ns() - cpu_ns, &before, &now);
}

// Waits for the next line. Not TURNS_NONE.
static enum turns_result crew_turn_next(struct crew *crew, struct turn *ret_turn)
{
    enum turns_result result;
    while ((result = turns_take(&crew->turns, ret_turn)) == TURNS_NONE && !crew->signals_seen) {
        crew->input = STDIN_FILENO;
        crew_wait(crew, weir_clock_now() + 3600 * CREW_SECOND_NS);
        crew->input = -1;
    }
    return crew->signals_seen ? TURNS_END : result;
}

// Runs by turns until standard input ends or a signal comes.
static int crew_take_turns(struct crew *crew)
{
    struct turn turn;
    enum turns_result next;
    int error = 0;
    printf("{\"ready\": true, \"connections\": %u}\n", crew->result.connected);
    if (fflush(stdout) != 0)
        error = crew_say(crew, "cannot write to standard output");
    while (!error && (next = crew_turn_next(crew, &turn)) != TURNS_END) {
        if (next == TURNS_WRONG)
            error = crew_say(crew,
                             "'%.40s' on standard input is not 'run MILLISECONDS' or "
                             "'warm MILLISECONDS'",
                             crew->turns.text);
        else
            error = crew_turn(crew, &turn);
    }
    if (error)
        return error;
    crew->result.interrupted = crew->signals_seen > 0;
    crew->result.open_at_end = (uint32_t)crew_open(crew);
    crew->order = (struct worker_order){ 0 };
    crew_order(crew);
    while (crew_count(crew, WORKER_DONE) < crew->count && !(error = crew_check(crew)))
        crew_wait(crew, weir_clock_now() + CREW_SECOND_NS);
    return error ? error : crew_check_reachable(crew);
}

// --- One long run --------------------------------------------------------------------------------

// Until the time, or the end of the run.
static int crew_pass(struct crew *crew, uint64_t until_ns, bool *ret_over)
{
    uint32_t signals_handled = crew->signals_seen;
    uint64_t now_ns = weir_clock_now();
    *ret_over = crew_count(crew, WORKER_DONE) == crew->count;
    while (now_ns < until_ns && !*ret_over) {
        uint64_t next_ns = live_next(&crew->live, now_ns, until_ns);
        crew_wait(crew, next_ns);
        if (crew->signals_seen != signals_handled) {
            signals_handled = crew->signals_seen;
            crew_interrupt(crew);
            if (until_ns > crew->order.to_ns)
                until_ns = crew->order.to_ns;
        }
        now_ns = weir_clock_now();
        int error = crew_check(crew);
        if (!error && now_ns > crew->order.start_ns + CREW_SECOND_NS)
            error = crew_check_reachable(crew);
        if (error)
            return error;
        *ret_over = crew_count(crew, WORKER_DONE) == crew->count;
        live_update(&crew->live, crew->workers, crew->count, now_ns);
    }
    return 0;
}

static int crew_measure(struct crew *crew)
{
    const struct options *options = crew->result.options;
    struct crew_result *result = &crew->result;
    struct timespec unix_time;
    bool over;
    clock_gettime(CLOCK_REALTIME, &unix_time);
    if (options->turns) {
        result->started_unix_ns =
            (uint64_t)unix_time.tv_sec * CREW_SECOND_NS + (uint64_t)unix_time.tv_nsec;
        return crew_take_turns(crew);
    }
    crew->order.start_ns = weir_clock_now() + CREW_LEAD_NS;
    result->started_unix_ns =
        (uint64_t)unix_time.tv_sec * CREW_SECOND_NS + (uint64_t)unix_time.tv_nsec + CREW_LEAD_NS;
    crew->order.from_ns = crew->order.start_ns + options->warmup_ns;
    crew->order.to_ns = crew->order.from_ns + options->duration_ns;
    crew->order.give_up_ns = crew->order.to_ns + WORKER_DRAIN_NS;
    crew_order(crew);
    if (crew->signals_seen)
        crew_interrupt(crew);

    double user_s, system_s;
    int error = crew_pass(crew, crew->order.from_ns, &over);
    crew_usage(&user_s, &system_s);
    if (!error)
        error = crew_pass(crew, crew->order.to_ns, &over);
    crew_usage(&result->user_s, &result->system_s);
    result->user_s -= user_s;
    result->system_s -= system_s;
    while (!error && !over)
        error = crew_pass(crew, weir_clock_now() + CREW_SECOND_NS, &over);
    live_end(&crew->live);
    result->measured_ns = crew->order.to_ns - crew->order.from_ns;
    uint64_t now_ns = weir_clock_now();
    result->drained_ns = now_ns > crew->order.to_ns ? now_ns - crew->order.to_ns : 0;
    result->open_at_end = (uint32_t)crew_open(crew);
    return error ? error : crew_check_reachable(crew);
}

// --- Results -------------------------------------------------------------------------------------

// Adds what a loop counted between two readings. Gauges, the last members, have no difference: of
// marks the highest is kept, of what is open now the sum.
static void crew_add_stats(struct weir_stats *sum, const struct worker_result *result)
{
    enum { COUNTERS = offsetof(struct weir_stats, streams_open) / sizeof(uint64_t) };
    const uint64_t *begin = (const uint64_t *)&result->begin.stats;
    const uint64_t *end = (const uint64_t *)&result->end.stats;
    for (uint32_t i = 0; i < COUNTERS; i++)
        ((uint64_t *)sum)[i] += end[i] - begin[i];
    for (uint32_t i = COUNTERS; i < sizeof *sum / sizeof(uint64_t); i++)
        ((uint64_t *)sum)[i] += end[i];
}

static void crew_add(struct crew_result *total, const struct worker *worker)
{
    struct worker_result *sum = &total->sum;
    const struct worker_result *result = &worker->result;
    histogram_merge(sum->service, result->service);
    if (sum->response) {
        histogram_merge(sum->response, result->response);
        histogram_merge(sum->lag, result->lag);
    }
    for (uint32_t i = 0; i < FTP_STEPS && sum->steps[i]; i++)
        histogram_merge(sum->steps[i], result->steps[i]);
    sum->beside_bytes += result->beside_bytes;
    sum->ops += result->ops;
    sum->echoes += result->echoes;
    sum->bytes += result->bytes;
    sum->verified += result->verified;
    sum->censored += result->censored;
    sum->unsent += result->unsent;
    sum->lost += result->lost;
    sum->carried_in_ns += result->carried_in_ns;
    sum->carried_out_ns += result->carried_out_ns;
    sum->opened += result->opened;
    for (uint32_t i = 0; i < FAILURE_COUNT; i++)
        sum->failures[i] += result->failures[i];
    crew_add_stats(&total->stats, result);
}

// The first worker's histograms become the sum's: its own numbers are not needed alone.
static void crew_sum(struct crew *crew)
{
    struct crew_result *total = &crew->result;
    const struct worker_result *first = &crew->workers[0].result;
    total->workers = crew->workers;
    total->sum = *first;
    total->stats = (struct weir_stats){ 0 };
    crew_add_stats(&total->stats, first);
    for (uint32_t i = 1; i < crew->count; i++)
        crew_add(total, &crew->workers[i]);
}

// Ends the workers after an error: each finishes its turn and its phase at once.
static void crew_cancel(struct crew *crew)
{
    crew->order = (struct worker_order){ 0 };
    for (uint32_t i = 0; i < crew->running; i++) {
        struct worker *worker = &crew->workers[i];
        while (atomic_load_explicit(&worker->state, memory_order_acquire) == WORKER_STARTING)
            crew_wait(crew, weir_clock_now() + CREW_SECOND_NS);
        if (atomic_load_explicit(&worker->state, memory_order_acquire) == WORKER_READY)
            worker_order(worker, &crew->order);
    }
}

int crew_run(const struct options *options, const struct payload *payload, const sigset_t *signals,
             struct crew **ret_crew, char ret_error[OPTIONS_ERROR_SIZE])
{
    struct crew *crew = calloc(1, sizeof *crew);
    struct worker *workers = calloc(options->threads, sizeof *workers);
    if (!crew || !workers) {
        free(crew);
        free(workers);
        snprintf(ret_error, OPTIONS_ERROR_SIZE, "out of memory");
        return -ENOMEM;
    }
    crew->workers = workers;
    crew->count = options->threads;
    crew->error = ret_error;
    crew->result.options = options;
    crew->input = -1;
    crew->notice = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    crew->signals = signalfd(-1, signals, SFD_CLOEXEC | SFD_NONBLOCK);
    sem_init(&crew->release, 0, 0);
    int error = 0;
    if (crew->notice < 0 || crew->signals < 0)
        error = crew_say(crew, "cannot make a descriptor: %s", strerror(errno));
    if (!error && !options->turns && live_init(&crew->live))
        error = crew_say(crew, "out of memory");
    if (!error)
        error = crew_create_loops(crew, payload);
    if (!error)
        error = crew_start_threads(crew);
    if (!error)
        error = crew_connect(crew);
    if (!error)
        error = crew_measure(crew);
    if (error) {
        crew_cancel(crew);
        crew_destroy(crew);
        return error;
    }
    crew_sum(crew);
    *ret_crew = crew;
    return 0;
}

const struct crew_result *crew_result(const struct crew *crew)
{
    return &crew->result;
}

void crew_destroy(struct crew *crew)
{
    if (!crew)
        return;
    for (uint32_t i = 0; i < crew->running; i++)
        sem_post(&crew->release);
    for (uint32_t i = 0; i < crew->count; i++)
        worker_fini(&crew->workers[i]);
    live_fini(&crew->live);
    sem_destroy(&crew->release);
    if (crew->notice >= 0)
        close(crew->notice);
    if (crew->signals >= 0)
        close(crew->signals);
    free(crew->workers);
    free(crew);
}
