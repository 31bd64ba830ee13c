// The loop: creation, one turn, posts from other threads, and the table of slots.
//
// A turn submits, waits, calls back. Callbacks only queue; what they queue is submitted by the next
// turn, so all replies of one turn leave in one batch. Each list that a turn walks is taken whole
// first, so that what is added meanwhile waits for its next walk: no turn is endless.
#include "loop.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SLOT_NONE UINT32_MAX

// What each stream may need: itself, a read ahead and a write of its sink (file.c), and what its
// protocol has beside it, an operation or a listener. The rest is for those that belong to nobody.
enum { SLOTS_EACH = 4, SLOTS_EXTRA = 2048 };

// Header, payload, and for the largest class the read operation behind the payload (file.c).
static const size_t loop_block_sizes[BLOCK_CLASSES] = { 1024, 4096 + 64, 16384 + 64, 65536 + 512 };

void loop_log(const struct weir_loop *loop, enum weir_log_level level, const char *format, ...)
{
    if (!loop->config.log)
        return;
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    loop->config.log(loop->config.log_context, level, text);
}

// --- Slots ---------------------------------------------------------------------------------------

int loop_slot_take(struct weir_loop *loop, enum slot_kind kind, void *object, uint32_t *ret_slot)
{
    uint32_t index = loop->slots_free;
    if (index != SLOT_NONE)
        loop->slots_free = loop->slots[index].next_free;
    else if (loop->slots_used < loop->slots_max)
        index = loop->slots_used++;
    else
        return -ENOSPC;
    loop->slots[index].object = object;
    loop->slots[index].kind = kind;
    loop->slots_open++;
    *ret_slot = index;
    return 0;
}

void loop_slot_give(struct weir_loop *loop, uint32_t slot)
{
    struct slot *entry = &loop->slots[slot];
    assert(entry->object);
    entry->object = NULL;
    entry->generation = (entry->generation + 1) & ((1U << TOKEN_GENERATION_BITS) - 1);
    entry->next_free = loop->slots_free;
    loop->slots_free = slot;
    loop->slots_open--;
}

uint64_t loop_token(const struct weir_loop *loop, enum operation operation, uint32_t auxiliary,
                    uint32_t slot)
{
    return (uint64_t)operation << TOKEN_OPERATION_SHIFT |
           (uint64_t)auxiliary << TOKEN_AUXILIARY_SHIFT |
           (uint64_t)loop->slots[slot].generation << TOKEN_SLOT_BITS | slot;
}

void *loop_token_object(const struct weir_loop *loop, uint64_t token)
{
    uint32_t slot = (uint32_t)(token & ((1U << TOKEN_SLOT_BITS) - 1));
    uint32_t generation =
        (uint32_t)(token >> TOKEN_SLOT_BITS & ((1U << TOKEN_GENERATION_BITS) - 1));
    if (slot >= loop->slots_used || loop->slots[slot].generation != generation)
        return NULL;
    return loop->slots[slot].object;
}

// --- Creation and end ----------------------------------------------------------------------------

static void loop_lists_init(struct weir_loop *loop)
{
    loop->senders_last = &loop->senders;
    loop->attention_last = &loop->attention;
    loop->starved_last = &loop->starved;
    for (int i = 0; i < BLOCK_CLASSES; i++)
        slab_init(&loop->blocks[i], loop_block_sizes[i]);
    slab_init(&loop->pieces, sizeof(struct piece));
    loop->own_limit.max = loop->config.streams_max;
    loop->limit = &loop->own_limit;
    wheel_init(&loop->wheel, loop->now_ns);
}

// Slots are reserved as address space; only those in use become memory.
static int loop_slots_init(struct weir_loop *loop)
{
    loop->slots_max = SLOTS_EACH * loop->config.streams_max + SLOTS_EXTRA;
    loop->slots_free = SLOT_NONE;
    void *memory = mmap(NULL, loop->slots_max * sizeof(struct slot), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return -ENOMEM;
    loop->slots = memory;
    return 0;
}

static void loop_memory_fini(struct weir_loop *loop)
{
    write_pipe_close(&loop->write_pipe);
    for (int i = 0; i < BLOCK_CLASSES; i++)
        slab_fini(&loop->blocks[i]);
    slab_fini(&loop->pieces);
    slab_set_fini(&loop->records);
}

int loop_create_on(const struct weir_loop_config *config, const struct loop_base *base,
                   struct weir_loop **ret_loop)
{
    struct weir_loop *loop = calloc(1, sizeof *loop);
    if (!loop)
        return -ENOMEM;
    loop->config = *config;
    const char *fault = loop_config_fault(config);
    if (fault) {
        loop_log(loop, WEIR_LOG_ERROR, "loop configuration: %s", fault);
        free(loop);
        return -EINVAL;
    }
    if (!config->busy_poll_ns && !config->min_wait_ns && base->engine != &engine_blocking)
        loop->lookout.most_ns = config->adaptive_poll_ns;
    loop->engine = base->engine;
    loop->system = base->system;
    loop->system_state = base->system_state;
    loop->now_ns = loop->system->clock(loop->system_state);
    loop_lists_init(loop);
    int error = loop_slots_init(loop);
    if (error)
        goto free_loop;
    error = pool_init(&loop->pool, config->buffer_count, config->buffer_size);
    if (error)
        goto unmap_slots;
    error = loop->engine->init(loop, base->engine_argument);
    if (error)
        goto fini_pool;
    *ret_loop = loop;
    return 0;
fini_pool:
    pool_fini(&loop->pool);
unmap_slots:
    munmap(loop->slots, loop->slots_max * sizeof(struct slot));
free_loop:
    loop_memory_fini(loop);
    free(loop);
    return error;
}

static uint32_t loop_run_posts(struct weir_loop *loop);
static uint32_t loop_run_attention(struct weir_loop *loop);
static void loop_dispatch(struct weir_loop *loop, const struct completion *completion);

// Descriptors that came in the last flush are known to nobody else. Streams need not hear.
static void loop_tell_untold(struct weir_loop *loop)
{
    for (uint32_t i = 0; i < loop->untold; i++) {
        uint64_t operation = loop->completions[i].token >> TOKEN_OPERATION_SHIFT;
        if (operation == OPERATION_FILE || operation == OPERATION_ACCEPT)
            loop_dispatch(loop, &loop->completions[i]);
    }
}

// Ends what the engine had in flight, and what `done` began anew: it finds no engine.
static uint32_t loop_abandon_operations(struct weir_loop *loop)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < loop->slots_used; i++) {
        if (!loop->slots[i].object || loop->slots[i].kind != SLOT_OPERATION)
            continue;
        file_completed(loop->slots[i].object, loop->failure);
        count++;
    }
    return count;
}

static void loop_settle_all(struct weir_loop *loop)
{
    for (uint32_t i = 0; i < loop->slots_used; i++) {
        if (loop->slots[i].object && loop->slots[i].kind == SLOT_STREAM)
            stream_settle(loop->slots[i].object);
    }
}

// A broken engine completed nothing any more, and is gone now. Everybody is told all the same: what
// helpers have done, with its result (with epoll, operations too), then each operation that is left
// with the engine's error, then each stream closes. No system call is left to wait in, so this
// needs no turns. Helpers stay until then: in a program that confines its threads, the loop's own
// may not do what jobs do.
static void loop_abandon(struct weir_loop *loop)
{
    loop->engine = &engine_broken;
    loop->senders = loop->starved = NULL;
    loop->senders_last = &loop->senders;
    loop->starved_last = &loop->starved;
    for (uint32_t i = 0; i < loop->slots_used; i++) {
        if (loop->slots[i].object && loop->slots[i].kind == SLOT_STREAM)
            stream_abandon(loop->slots[i].object);
    }
    loop_tell_untold(loop);
    uint32_t events;
    do {
        events = loop_run_posts(loop);
        events += loop_abandon_operations(loop);
        events += loop_run_attention(loop);
        loop_settle_all(loop);
        jobs_settle(loop);
    } while (events || atomic_load_explicit(&loop->posts, memory_order_relaxed));
    // A protocol may have closed listeners of its own in `closed`.
    while (loop->listeners)
        weir_listener_close(loop->listeners);
    for (uint32_t i = 0; i < loop->slots_used; i++) {
        if (loop->slots[i].object && loop->slots[i].kind == SLOT_LISTENER)
            listener_abandon(loop->slots[i].object);
    }
}

static void loop_turn_to_end(struct weir_loop *loop)
{
    // UNTESTED: coverage plays too few seeds to break a ring while it ends
    if (weir_loop_turn(loop, WEIR_NEVER) < 0)
        loop_log(loop, WEIR_LOG_ERROR, "the loop broke while it ended");
}

void weir_loop_destroy(struct weir_loop *loop)
{
    if (!loop)
        return;
    loop->ending = true;
    while (!loop->failed && loop->streams_open) {
        for (uint32_t i = 0; i < loop->slots_used; i++) {
            if (loop->slots[i].object && loop->slots[i].kind == SLOT_STREAM)
                weir_stream_abort(loop->slots[i].object);
        }
        loop_turn_to_end(loop);
    }
    while (!loop->failed && loop->listeners)
        weir_listener_close(loop->listeners);
    while (!loop->failed && (loop->slots_open || loop->operations_open))
        loop_turn_to_end(loop);
    jobs_settle(loop);
    loop->engine->fini(loop);
    if (loop->failed)
        loop_abandon(loop);
    jobs_fini(loop);
    loop_memory_fini(loop);
    pool_fini(&loop->pool);
    munmap(loop->slots, loop->slots_max * sizeof(struct slot));
    free(loop);
}

// --- Posts from other threads --------------------------------------------------------------------

void weir_loop_post(struct weir_loop *loop, struct weir_post *post)
{
    post->next = atomic_load_explicit(&loop->posts, memory_order_relaxed);
    while (!atomic_compare_exchange_weak(&loop->posts, &post->next, post))
        continue;
    if (!atomic_exchange(&loop->wake_pending, true))
        loop->engine->wake(loop);
}

// Runs them in the order in which they were posted.
static uint32_t loop_run_posts(struct weir_loop *loop)
{
    // A wake may find nothing, because its post ran before it came: it is taken note of all the
    // same, or the next post would wake nobody.
    if (!atomic_load_explicit(&loop->posts, memory_order_relaxed) &&
        !atomic_load_explicit(&loop->wake_pending, memory_order_relaxed))
        return 0;
    // Cleared before the list is taken: a post that comes in between wakes once too often, never
    // too seldom.
    atomic_store(&loop->wake_pending, false);
    struct weir_post *taken = atomic_exchange(&loop->posts, NULL), *first = NULL;
    while (taken) {
        struct weir_post *next = taken->next;
        taken->next = first;
        first = taken;
        taken = next;
    }
    uint32_t count = 0;
    for (struct weir_post *post = first, *next; post; post = next, count++) {
        next = post->next;
        post->function(loop, post);
    }
    stats_add(loop, posts, count);
    return count;
}

// --- A turn --------------------------------------------------------------------------------------

void loop_attention(struct weir_stream *stream)
{
    if (stream->attention)
        return;
    stream->attention = true;
    stream->next_attention = NULL;
    *stream->loop->attention_last = stream;
    stream->loop->attention_last = &stream->next_attention;
}

static uint32_t loop_run_attention(struct weir_loop *loop)
{
    uint32_t count = 0;
    struct weir_stream *stream = loop->attention, *next;
    loop->attention = NULL;
    loop->attention_last = &loop->attention;
    for (; stream; stream = next, count++) {
        next = stream->next_attention;
        stream->attention = false;
        stream_attend(stream);
    }
    return count;
}

static void loop_submit_sends(struct weir_loop *loop)
{
    struct weir_stream *stream = loop->senders, *next;
    loop->senders = NULL;
    loop->senders_last = &loop->senders;
    for (; stream; stream = next) {
        next = stream->next_sender;
        stream->send_listed = false;
        send_submit(stream);
        stream_settle(stream);
    }
}

// A stream that closes behind the last part of a file sends that now: its end goes down in the next
// batch, together with what `closed` makes others say about it.
static uint32_t loop_send_endings(struct weir_loop *loop)
{
    struct weir_stream *stream = loop->senders, *next;
    if (!loop->endings)
        return 0;
    loop->endings = false;
    loop->senders = NULL;
    loop->senders_last = &loop->senders;
    for (; stream; stream = next) {
        next = stream->next_sender;
        stream->send_listed = false;
        if (send_is_ending(stream))
            send_submit(stream);
        else
            send_list(stream);
        stream_settle(stream);
    }
    return loop_run_attention(loop);
}

static void loop_dispatch(struct weir_loop *loop, const struct completion *completion)
{
    void *object = loop_token_object(loop, completion->token);
    if (!object) { // a mistake of the engine or the kernel: a slot outlives its operations
        if (completion->flags & COMPLETION_BUFFER)
            pool_give(&loop->pool, completion->buffer);
        stats_add(loop, stale_completions, 1);
        return;
    }
    switch ((enum operation)(completion->token >> TOKEN_OPERATION_SHIFT)) {
    case OPERATION_ACCEPT:
        listener_accepted(object, completion);
        break;
    case OPERATION_RECEIVE:
        receive_completed(object, completion);
        break;
    case OPERATION_SEND:
        send_finished(object, completion->result, completion->flags & COMPLETION_LATE);
        break;
    case OPERATION_CONNECT:
        stream_connected(object, completion->result);
        break;
    case OPERATION_SHUTDOWN:
        stream_shut(object, completion->result);
        break;
    case OPERATION_CLOSE:
        stream_descriptor_closed(object);
        break;
    case OPERATION_FILE:
        file_completed(object, completion->result);
        break;
    // UNTESTED: the engine's own; they never reach the core
    case OPERATION_NONE:
    case OPERATION_CANCEL:
    case OPERATION_INSTALL:
        break; // UNTESTED: the engine's own; they never reach the core
    }
}

static void loop_gauges(struct weir_loop *loop)
{
    stats_set(loop, buffers_leased, loop->pool.leased);
    stats_high(loop, buffers_high, loop->pool.leased);
    stats_set(loop, queued_bytes, loop->queued_bytes);
    stats_high(loop, queued_high, loop->queued_bytes);
    stats_set(loop, streams_open, loop->streams_open);
    stats_high(loop, streams_high, loop->streams_open);
}

static int loop_confine(struct weir_loop *loop)
{
    const struct weir_loop_config *config = &loop->config;
    const uint32_t helped =
        WEIR_ABILITY_JOBS | WEIR_ABILITY_OPEN | WEIR_ABILITY_READ | WEIR_ABILITY_WRITE;
    int error = 0;
    if ((!config->abilities || config->abilities & helped) && loop->engine->job == jobs_start)
        error = jobs_confine(loop);
    if (!error)
        error = config->confine(config->confine_context, WEIR_THREAD_LOOP);
    loop->confined = !error;
    return error;
}

// The first flush enables the ring. What it already brings is told when the thread is confined; if
// it cannot be, weir_loop_destroy() sees to it.
static int loop_flush(struct weir_loop *loop, uint64_t deadline_ns)
{
    if (loop->confined || !loop->config.confine)
        return loop->engine->flush(loop, deadline_ns);
    int count = loop->engine->flush(loop, 0);
    int error = count < 0 ? 0 : loop_confine(loop);
    loop->untold = error ? (uint32_t)count : 0;
    return error ? error : count;
}

// Waits, after a look for work where that is asked for or pays.
static int loop_wait(struct weir_loop *loop, uint64_t deadline_ns)
{
    bool adapts = loop->lookout.most_ns && deadline_ns;
    loop->look_ns = adapts ? lookout_begin(&loop->lookout) : loop->config.busy_poll_ns;
    loop->looked = loop->looked_in_vain = false;
    int count = loop_flush(loop, deadline_ns);
    loop->turn_index++;
    loop->now_ns = loop->system->clock(loop->system_state);
    if (adapts && loop->looked) {
        lookout_end(&loop->lookout, loop->looked_in_vain);
        stats_add(loop, looks, 1);
        stats_add(loop, looks_in_vain, loop->looked_in_vain);
    }
    if (loop->lookout.most_ns)
        lookout_learn(&loop->lookout, loop->completions, count);
    return count;
}

int weir_loop_turn(struct weir_loop *loop, uint64_t deadline_ns)
{
    assert(!loop->running_callbacks);
    if (loop->failed)
        return loop->failure;
    loop->running_callbacks = true;
    uint32_t streams_open = loop->streams_open;
    uint32_t posts = loop_run_posts(loop);
    uint32_t events = posts + loop_run_attention(loop);
    loop_submit_sends(loop);
    uint64_t timer_ns = wheel_deadline(&loop->wheel);
    if (timer_ns < deadline_ns)
        deadline_ns = timer_ns;
    // The caller may turn until a post or the last stream's end tells it to stop: it must see that.
    if (posts || loop->streams_open < streams_open)
        deadline_ns = 0;
    if (loop->attention || loop->senders)
        deadline_ns = 0;
    if (loop->turns_awake) {
        loop->turns_awake--;
        deadline_ns = 0;
    }
    // Those at the head of the line may have nothing to receive: the others need not wait for them.
    if (loop->starved && loop->pool.leased < loop->pool.count)
        deadline_ns = 0;
    int count = loop_wait(loop, deadline_ns);
    for (int i = 0; i < count; i++)
        loop_dispatch(loop, &loop->completions[i]);
    events += count > 0 ? (uint32_t)count : 0;
    receive_feed_starved(loop);
    events += loop_run_posts(loop);
    events += wheel_run(&loop->wheel, loop, loop->now_ns);
    events += loop_run_attention(loop);
    events += loop_send_endings(loop);
    stats_add(loop, turns, 1);
    stats_add(loop, cqes, count > 0 ? (uint64_t)count : 0);
    stats_batch(&loop->stats, count > 0 ? (uint32_t)count : 0);
    loop_gauges(loop);
    loop->running_callbacks = false;
    if (count < 0) {
        loop->failed = true;
        loop->failure = count;
        loop_log(loop, WEIR_LOG_ERROR, "the %s engine broke: %s", loop->engine->name,
                 strerror(-count));
        return count;
    }
    return (int)events;
}

// --- Views ---------------------------------------------------------------------------------------

uint64_t weir_loop_now(const struct weir_loop *loop)
{
    return loop->now_ns;
}

uint64_t weir_clock_now(void)
{
    return system_kernel.clock(NULL);
}

const char *weir_loop_engine(const struct weir_loop *loop)
{
    return loop->engine->name;
}

const char *weir_loop_plan(const struct weir_loop *loop)
{
    return loop->plan;
}

void weir_loop_stats(const struct weir_loop *loop, struct weir_stats *ret_stats)
{
    stats_read(&loop->stats, ret_stats);
}
