// A run: everything is drawn from the seed, the clients play, the loop turns until all is over, and
// then nothing may be left of it.
#include "run.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "calls.h"
#include "raw.h"
#include "shortage.h"

enum {
    RUN_TURNS_MAX = 400000,
    RUN_ALLOCATIONS = 40,
    RUN_DRAIN_QUIET_NS = 1000000,
    RUN_BUSY_MAX = 100,
    RUN_CROWDED = 64,
    RUN_ACCEPT_ERRORS = 32, // in a row, before a listener pauses
    RUN_ACCEPT_PAUSE_NS = 100000000,
    RUN_TICKS_NS = 2000000,
    RUN_COLD = 300,
};

void run_complain(struct run *run, const char *format, ...)
{
    va_list arguments;
    if (run->complaint[0])
        return; // the first one is the cause
    va_start(arguments, format);
    vsnprintf(run->complaint, sizeof run->complaint, format, arguments);
    va_end(arguments);
}

// --- Set-up --------------------------------------------------------------------------------------

static const char *const run_plans[] = {
    "default",
    "default,-defer-taskrun",
    "default,-direct",
    "default,-receive-multishot",
    "default,-receive-bundle",
    "default,-quiet-sends",
    "default,-sendfile",
    "kernel-6.1",
    "kernel-6.8",
    "kernel-6.12",
};

static void run_configure(struct run *run, struct weir_loop_config *ret_config)
{
    struct sim *sim = run->sim;
    struct weir_loop_config *config = ret_config;
    weir_loop_config_init(config);
    // Half of the runs have the plan that most users have.
    run->plan = run_plans[0];
    if (sim_random(sim, 2))
        run->plan = run_plans[sim_random(sim, sizeof run_plans / sizeof *run_plans)];
    config->uring_features = run->plan;
    config->buffer_count = 8U << sim_random(sim, 5);
    config->buffer_size = 4096U << sim_random(sim, 3);
    config->streams_max = 1 + (uint32_t)sim_random(sim, RUN_CLIENTS_MAX);
    config->send_high = 1024U << sim_random(sim, 9);
    config->send_low = config->send_high / 4;
    config->queued_max = 65536U << sim_random(sim, 8);
    config->close_timeout_ns = sim_random(sim, 2) ? 30000000000 : 0;
    config->idle_timeout_ns = sim_random(sim, 8) ? 0 : 1000000 + sim_random(sim, 1000000000);
    config->busy_poll_ns = sim_random(sim, 4) ? 0 : 1 + sim_random(sim, 100000);
    // Every eighth run: half of them lack memory, the others lack nothing.
    if (!config->busy_poll_ns && (run->seed % 16 == 5 || run->seed % 16 == 15))
        config->adaptive_poll_ns = 60000;
    bool old = !strcmp(run->plan, "kernel-6.1") || !strcmp(run->plan, "kernel-6.8");
    if (!config->busy_poll_ns && !old && run->seed % 8 == 3)
        config->min_wait_ns = 1000ULL << run->seed / 8 % 17;
    // From the tick of a timer up to what a client that thinks does not need.
    run->ages = run->seed % 8 == 6;
    if (run->ages)
        config->total_timeout_ns = 100000ULL << run->seed / 8 % 16;
    run->destroyed = sim_random(sim, 8) == 0;
    run->drains = sim_random(sim, 8) == 0;
    if (!run->crowded)
        return;
    // All that is ready completes at once, and buffers last for many small receives.
    run->plan = "default,-defer-taskrun";
    config->uring_features = run->plan;
    config->buffer_count = 2048;
    config->buffer_size = 4096;
    config->streams_max = RUN_CROWD;
    config->send_high = 1 << 20;
    config->send_low = 1 << 18;
}

// Each receive brings little, and queues are long.
static void run_crowd(struct run *run)
{
    struct sim_faults *faults = &run->faults;
    run->crowded = true;
    faults->receive_max = 16;
    faults->sq_entries = faults->cq_entries = 0;
    faults->chances[SIM_MULTISHOT_END] = faults->chances[SIM_MULTISHOT_END_BARE] = 0;
    faults->chances[SIM_NO_BUFFERS] = faults->chances[SIM_SHORT_RECEIVE] = 0;
    faults->chances[SIM_SHORT_SEND] = 500;
}

// Some runs lack memory from an allocation on, or descriptors beside the loop's own two, or lose
// their ring.
static void run_draw_shortage(struct run *run)
{
    struct sim *sim = run->sim;
    run->lacks_memory = run->seed % 4 == 1;
    run->lacks_descriptors = run->seed % 8 == 2;
    uint64_t first = 1 + sim_random(sim, RUN_ALLOCATIONS), count = 1 + sim_random(sim, 4);
    shortage_start(run->lacks_memory ? first : 0, count);
    run->breaks = run->seed % 16 == 7;
    if (run->breaks)
        sim_break_after(sim, sim_random(sim, 300));
    if (run->lacks_descriptors)
        sim_limit_descriptors(sim, 5 + (uint32_t)sim_random(sim, RUN_CLIENTS_MAX));
}

// A listener's context is the protocol's.
static struct run *run_current;

// The socket will never accept again.
static void run_finished(struct weir_listener *listener, int reason)
{
    struct run *run = run_current;
    (void)listener;
    run->listener = NULL;
    if (!run->answered)
        run_complain(run, "the listener ended: %s", strerror(-reason));
}

static bool run_open(struct run *run)
{
    struct weir_loop_config config;
    struct weir_address wanted;
    run_configure(run, &config);
    run_draw_shortage(run);
    int error = run->protocol->open(run, &config);
    struct weir_listener_config listener = { .protocol = run->served,
                                             .context = run->context,
                                             .finished = run_finished };
    if (sim_random(run->sim, 2))
        listener.socket.send_buffer = (int)sim_random(run->sim, 40000);
    listener.socket.ordinary_descriptor = sim_random(run->sim, 4) == 0 || run->ordinary;
    listener.socket.backlog = sim_random(run->sim, 4) ? 0 : 1;
    if (!error)
        error = loop_create_on(&config, sim_base(run->sim), &run->loop);
    if (!error)
        error = weir_address_parse("127.0.0.1:0", &wanted);
    if (!error)
        error = weir_listener_open(run->loop, &wanted, &listener, &run->listener);
    if (error && shortage_struck())
        return false; // refused, and nothing may be left
    if (error) {
        run_complain(run, "the loop does not start: %s", strerror(-error));
        return false;
    }
    weir_listener_address(run->listener, &run->address);
    return true;
}

// --- What must hold ------------------------------------------------------------------------------

static void run_expect(struct run *run, const char *what, uint64_t is, uint64_t must)
{
    if (is != must)
        run_complain(run, "%s: %llu instead of %llu", what, (unsigned long long)is,
                     (unsigned long long)must);
}

// Nobody knows whom it met.
static bool run_may_lose_any(const struct run *run)
{
    return run->destroyed || run->short_of_memory || run->quits || run->answered || run->broken;
}

bool run_may_lose(const struct run *run)
{
    return run_may_lose_any(run) || run->drained || run->stats.idle_timeouts ||
           run->stats.close_timeouts || run->stats.total_timeouts || run->stats.total_aborts;
}

bool run_may_lose_client(const struct run *run, const struct client *client)
{
    return run_may_lose_any(run) || client->excused;
}

static void run_check_streams(struct run *run)
{
    for (uint32_t i = 0; i < run->streams_count; i++) {
        run_expect(run, "opened", run->streams[i].opened, 1);
        run_expect(run, "closed", run->streams[i].closed, 1);
        if (run->streams[i].late)
            run_complain(run, "a callback came after closed");
    }
}

static void run_check_memory(struct run *run)
{
    const struct weir_loop *loop = run->loop;
    struct sim_counts counts;
    sim_count(run->sim, &counts);
    run_expect(run, "streams open", loop->streams_open, 0);
    run_expect(run, "operations open", loop->operations_open, 0);
    run_expect(run, "places taken", loop->own_limit.count, 0);
    run_expect(run, "buffers leased", loop->pool.leased, 0);
    run_expect(run, "buffers", loop->pool.free_count + counts.buffers, loop->pool.count);
    run_expect(run, "queued bytes", loop->queued_bytes, 0);
    run_expect(run, "pieces", loop->pieces.taken, 0);
    for (int i = 0; i < BLOCK_CLASSES; i++)
        run_expect(run, "blocks", loop->blocks[i].taken, 0);
    for (uint32_t i = 0; i < loop->records.count; i++)
        run_expect(run, "records", loop->records.slabs[i].taken, 0);
    run_expect(run, "statistics: buffers leased", run->stats.buffers_leased, 0);
    run_expect(run, "statistics: queued bytes", run->stats.queued_bytes, 0);
}

// Accepts that fail are not tried again for ever: one that succeeds, and the end of each pause,
// lead to a few more.
static void run_check_accepts(struct run *run)
{
    const struct weir_stats *stats = &run->stats;
    uint64_t reasons =
        1 + stats->accepts + stats->refused + sim_now(run->sim) / RUN_ACCEPT_PAUSE_NS;
    if (stats->accept_errors > reasons * RUN_ACCEPT_ERRORS)
        run_complain(run, "%llu accepts failed", (unsigned long long)stats->accept_errors);
}

// What a peer sends while its stream takes nothing is bounded: by the credit, which goes by the
// high mark, and a buffer that may be begun.
static void run_check_queues(struct run *run)
{
    uint64_t most = run->loop->config.send_high + 2 * run->loop->pool.size;
    for (uint32_t i = 0; i < RUN_STREAMS_MAX; i++) {
        const struct weir_stream *stream = run->streams[i].stream;
        uint64_t kept = 0;
        for (const struct piece *piece = stream ? stream->received.first : NULL; piece;
             piece = piece->next)
            kept += (uint64_t)piece->size;
        if (kept > most)
            run_complain(run, "a stream keeps %llu bytes", (unsigned long long)kept);
    }
}

// Whatever its client does: at twice the total time a stream is on its way out. Timers have ticks,
// and one that was told too late, when the clock jumped, has another.
static void run_check_ages(struct run *run)
{
    const struct weir_loop *loop = run->loop;
    uint64_t most = 2 * loop->config.total_timeout_ns + RUN_TICKS_NS;
    for (uint32_t i = 0; run->ages && i < RUN_STREAMS_MAX; i++) {
        const struct weir_stream *stream = run->streams[i].stream;
        if (stream && (stream->state == STREAM_OPEN || stream->state == STREAM_FLUSHING) &&
            loop->now_ns - stream->opened_ns > most &&
            loop->now_ns - run->streams[i].expired_ns > RUN_TICKS_NS)
            run_complain(run, "a stream is %llu ns old",
                         (unsigned long long)(loop->now_ns - stream->opened_ns));
    }
}

// Only what a stream without its listener may leave: nothing.
static void run_check_kernel(struct run *run, bool loop_gone)
{
    struct sim_counts counts;
    sim_count(run->sim, &counts);
    run_expect(run, "descriptors", counts.descriptors, run->held_descriptors);
    run_expect(run, "direct descriptors", counts.ring_descriptors, 0);
    run_expect(run, "operations in flight", counts.operations, 0);
    run_expect(run, "closes of what was not open", counts.bad_closes, 0);
    run_expect(run, "operations on what was not open", counts.bad_descriptors, 0);
    if (counts.stuck)
        run_complain(run, "the loop waited for what could never come");
    if (loop_gone)
        run_expect(run, "sockets", counts.sockets, 0);
}

// --- The run -------------------------------------------------------------------------------------

// A kernel that takes nothing for so long is given up (URING_SHORTAGE_ATTEMPTS).
static bool run_was_starved(const struct run *run)
{
    struct sim_counts counts;
    sim_count(run->sim, &counts);
    return counts.busy >= RUN_BUSY_MAX;
}

static bool run_turn(struct run *run, uint64_t deadline_ns)
{
    int result = weir_loop_turn(run->loop, deadline_ns);
    if ((result == -EIO && run->breaks) || (result == -EAGAIN && run_was_starved(run)))
        run->broken = true;
    else if (result < 0)
        run_complain(run, "the loop broke: %s", strerror(-result));
    else if (++run->turns == RUN_TURNS_MAX)
        run_complain(run, "there is no end to it");
    run->full_turns += result >= LOOP_COMPLETIONS_MAX;
    run_check_queues(run);
    run_check_ages(run);
    return !run->complaint[0] && !run->broken;
}

static void run_over(struct weir_loop *loop, struct weir_post *post)
{
    (void)loop;
    (void)post;
}

static void run_post(void *argument);

static void run_posted(struct weir_loop *loop, struct weir_post *post)
{
    struct run *run = container_of(post, struct run, knock);
    (void)loop;
    run->knocks++;
    run->knocking = false;
    sim_at(run->sim, sim_random(run->sim, 20000000), run_post, run);
}

// In half of the runs another thread knocks now and then: in the others nothing wakes a loop that
// sleeps too long.
static void run_post(void *argument)
{
    struct run *run = argument;
    if (run->clients_done == run->clients_count || !run->loop)
        return;
    run->knocking = true;
    weir_loop_post(run->loop, &run->knock);
}

// The server ends: nobody new comes, and each stream is told (see server.c).
static void run_drained(struct weir_loop *loop, struct weir_post *post)
{
    struct run *run = container_of(post, struct run, drain);
    (void)loop;
    run->drained = true;
    weir_listener_close(run->listener);
    run->listener = NULL;
    for (uint32_t i = 0; i < run->clients_count; i++)
        run->clients[i].excused |= !run->clients[i].done;
    for (uint32_t i = 0; i < RUN_STREAMS_MAX; i++) {
        if (run->streams[i].stream)
            stream_drain(run->streams[i].stream, RUN_DRAIN_QUIET_NS);
    }
}

static void run_drain(void *argument)
{
    struct run *run = argument;
    if (run->clients_done < run->clients_count && run->loop)
        weir_loop_post(run->loop, &run->drain);
}

static void run_play(struct run *run)
{
    run->over.function = run_over;
    run->knock.function = run_posted;
    run->drain.function = run_drained;
    if (run->seed % 2)
        sim_at(run->sim, sim_random(run->sim, 2000000), run_post, run);
    if (run->drains)
        sim_at(run->sim, sim_random(run->sim, 1ULL << sim_random(run->sim, 26)), run_drain, run);
    uint64_t turns_max = UINT64_MAX;
    if (run->destroyed)
        turns_max = sim_random(run->sim, 400);
    while (run->turns < turns_max &&
           (run->clients_done < run->clients_count || run->loop->streams_open)) {
        // It may sleep as long as it wants: whoever sleeps over something is found out.
        if (!run_turn(run, WEIR_NEVER))
            return;
    }
}

static void run_close(struct run *run)
{
    if (run->destroyed || run->complaint[0] || run->broken)
        return;
    weir_listener_close(run->listener);
    run->listener = NULL;
    while ((run->loop->slots_open || run->loop->operations_open) && run_turn(run, WEIR_NEVER))
        continue;
    // What came for streams that were gone may still have to be reaped.
    do {
        weir_loop_stats(run->loop, &run->stats);
    } while (run->stats.stale_completions < run->repeated && run_turn(run, 0));
    // The last closes may still have to go down.
    struct sim_counts counts;
    do {
        sim_count(run->sim, &counts);
    } while (counts.entries && run_turn(run, 0));
    if (run->broken)
        return;
    weir_loop_stats(run->loop, &run->stats);
    run_expect(run, "posts that did not run", run->knocking, 0);
    run_expect(run, "stale completions", run->stats.stale_completions, run->repeated);
    run_check_accepts(run);
    run_check_memory(run);
    run_check_kernel(run, false);
}

static void run_check(struct run *run)
{
    struct sim_counts counts;
    sim_count(run->sim, &counts);
    // Perhaps while the loop was destroyed.
    run->broken |= counts.broken || counts.busy >= RUN_BUSY_MAX;
    // Of a broken ring, nobody knows which closes were done.
    if (!run->broken)
        run_check_kernel(run, true);
    run_check_streams(run);
    for (uint32_t i = 0; i < run->clients_count && !run->raw; i++)
        run->protocol->check_client(run, &run->clients[i]);
    if (run->raw)
        run_raw_check(run);
    else if (run->protocol->check)
        run->protocol->check(run);
}

void run_describe(const struct run *run, FILE *file)
{
    fprintf(file, "seed %llu: %s%s%s%s%s%s%s%s%s, %u clients, %llu turns; faults:",
            (unsigned long long)run->seed, run->plan, run->quits ? ", quits" : "",
            run->destroyed ? ", destroyed" : "", run->drained ? ", drained" : "",
            run->ages ? ", ages" : "", run->broken ? ", broken" : "",
            run->crowded ? ", crowded" : "", run->repeated ? ", repeats" : "",
            run->short_of_memory ? ", short of memory" : "", run->clients_count,
            (unsigned long long)run->turns);
    for (int i = 0; i < SIM_FAULTS; i++) {
        if (run->faults.chances[i])
            fprintf(file, " %s=%u", sim_fault_name((enum sim_fault)i), run->faults.chances[i]);
    }
    fprintf(file, " sq=%u cq=%u\n", run->faults.sq_entries, run->faults.cq_entries);
}

const struct run_protocol *run_protocol_find(const char *name)
{
    static const struct run_protocol *const protocols[] = { &run_echo, &run_file, &run_http,
                                                            &run_ftp };
    for (size_t i = 0; i < sizeof protocols / sizeof *protocols; i++) {
        if (!strcmp(protocols[i]->name, name))
            return protocols[i];
    }
    return NULL;
}

struct run_input {
    const struct sim_answer *answer;
    const uint8_t *decisions;
    size_t decisions_size;
};

static void run_start_client(struct run *run, uint32_t index)
{
    struct client *client = &run->clients[index];
    *client = (struct client){ .run = run, .index = index, .address = run->address };
    if (run->raw)
        run_raw_draw(client);
    else
        run->protocol->draw(client);
    client_start(client, run->crowded ? 0 : client_scaled(client, 22));
}

static void run_inside(struct run *run)
{
    if (run_open(run)) {
        // A client alone has nobody whose events wake the loop for it.
        run->clients_count = 1;
        if (run->crowded)
            run->clients_count = RUN_CROWD;
        else if (!run->raw && sim_random(run->sim, 4))
            run->clients_count += (uint32_t)sim_random(run->sim, run->protocol->clients_max);
        for (uint32_t i = 0; i < run->clients_count; i++)
            run_start_client(run, i);
        run_play(run);
        run_close(run);
    }
    run->listener = NULL; // it goes with the loop, perhaps before a drain that was asked for runs
    weir_loop_destroy(run->loop);
    run->loop = NULL;
    run->short_of_memory = shortage_struck();
    shortage_stop();
    for (uint32_t i = 0; i < run->clients_count; i++)
        client_stop(&run->clients[i]);
    if (run->protocol->close)
        run->protocol->close(run);
    run_check(run);
}

static bool run_all(struct run *run, struct run_input input, FILE *trace)
{
    uint64_t seed = run->seed;
    // A quarter of the runs has no faults but the clients'.
    if (seed % 4)
        sim_faults_any(seed, &run->faults);
    if (seed % RUN_CROWDED == 6 && run->protocol->crowds && !run->raw)
        run_crowd(run);
    // What is always in memory is never opened by the ring.
    if (input.answer)
        run->faults.chances[SIM_FILE_COLD] = RUN_COLD;
    run->sim = sim_create(seed, &run->faults);
    run_current = run;
    sim_trace_to(run->sim, trace);
    run->repeats = seed % 8 == 4 || seed % 8 == 6;
    run->answered = input.answer != NULL;
    if (input.answer)
        sim_answer(run->sim, input.answer);
    sim_decide(run->sim, input.decisions, input.decisions_size);
    calls_start(run->sim);
    run_inside(run);
    calls_start(NULL);
    run->hash = sim_trace_hash(run->sim);
    sim_count(run->sim, &run->counts);
    sim_destroy(run->sim);
    return !run->complaint[0];
}

bool run_seed(struct run *run, const struct run_protocol *protocol, uint64_t seed, FILE *trace)
{
    *run = (struct run){ .protocol = protocol, .seed = seed };
    return run_all(run, (struct run_input){ 0 }, trace);
}

bool run_seed_answering(struct run *run, const struct run_protocol *protocol, uint64_t seed,
                        const struct sim_answer *answer)
{
    *run = (struct run){ .protocol = protocol, .seed = seed };
    return run_all(run, (struct run_input){ .answer = answer }, NULL);
}

bool run_decided(struct run *run, const struct run_protocol *protocol, const uint8_t *data,
                 size_t size)
{
    *run = (struct run){ .protocol = protocol, .seed = size ? data[0] : 0 };
    struct run_input input = { .decisions = data, .decisions_size = size };
    return run_all(run, input, NULL);
}

bool run_raw(struct run *run, const struct run_protocol *protocol, const uint8_t *data, size_t size)
{
    static const uint8_t none;
    *run = (struct run){ .protocol = protocol, .seed = size ? data[0] : 0 };
    run->raw = size ? data + 1 : &none;
    run->raw_size = size ? size - 1 : 0;
    return run_all(run, (struct run_input){ 0 }, NULL);
}
