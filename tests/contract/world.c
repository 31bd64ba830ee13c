// The part of the world that is the same on every kernel: subjects, waits and the closing count.
#include "world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// --- Subjects ------------------------------------------------------------------------------------

static struct subject *world_new_subject(struct world *world, struct service *service,
                                         struct weir_stream *stream)
{
    struct subject *subject = calloc(1, sizeof(*subject));
    if (world->subjects_count == world->subjects_room) {
        world->subjects_room = world->subjects_room ? world->subjects_room * 2 : 64;
        world->subjects = realloc(world->subjects, world->subjects_room * sizeof(struct subject *));
    }
    if (!subject || !world->subjects)
        abort();
    *subject = (struct subject){
        .world = world, .service = service, .stream = stream, .index = world->subjects_count
    };
    world->subjects[world->subjects_count++] = subject;
    if (stream)
        *(struct subject **)weir_stream_session(stream) = subject;
    return subject;
}

// The stream's subject, made at its first callback; takes the world's lock.
static struct subject *world_enter(struct weir_stream *stream)
{
    struct service *service = weir_stream_context(stream);
    struct world *world = service->world;
    world->lock(world);
    struct subject *subject = *(struct subject **)weir_stream_session(stream);
    if (!subject)
        subject = world_new_subject(world, service, stream);
    if (subject->closed)
        world_complain(world, "a callback came after closed");
    return subject;
}

static void world_leave(struct subject *subject)
{
    subject->world->unlock(subject->world);
}

static void world_on_opened(struct weir_stream *stream)
{
    struct subject *subject = world_enter(stream);
    if (++subject->opened > 1 || subject->received > 0 || subject->ended)
        world_complain(subject->world, "opened was not the first callback");
    subject->opened_ns = world_now(subject->world);
    if (subject->service->opened)
        subject->service->opened(subject);
    world_leave(subject);
}

static void world_on_received(struct weir_stream *stream, struct weir_slice slice)
{
    struct subject *subject = world_enter(stream);
    uint64_t pattern = subject->service->pattern;
    if (!subject->opened || subject->ended || slice.size == 0)
        world_complain(subject->world, "received before opened, after ended, or nothing");
    if (pattern && !pattern_matches(pattern, subject->received, slice.data, slice.size))
        subject->mismatches++;
    subject->received += slice.size;
    subject->slices++;
    if (subject->service->received)
        subject->service->received(subject, slice);
    world_leave(subject);
}

static void world_on_drained(struct weir_stream *stream)
{
    struct subject *subject = world_enter(stream);
    subject->drained++;
    subject->drained_ns = world_now(subject->world);
    if (subject->service->drained)
        subject->service->drained(subject);
    world_leave(subject);
}

static void world_on_ended(struct weir_stream *stream)
{
    struct subject *subject = world_enter(stream);
    if (++subject->ended > 1)
        world_complain(subject->world, "ended came twice");
    if (subject->service->ended)
        subject->service->ended(subject);
    else
        weir_stream_close(stream);
    world_leave(subject);
}

static void world_on_draining(struct weir_stream *stream)
{
    struct subject *subject = world_enter(stream);
    if (++subject->draining > 1)
        world_complain(subject->world, "draining came twice");
    subject->service->draining(subject);
    world_leave(subject);
}

static void world_on_expired(struct weir_stream *stream)
{
    struct subject *subject = world_enter(stream);
    if (++subject->expired > 1)
        world_complain(subject->world, "expired came twice");
    subject->service->expired(subject);
    world_leave(subject);
}

static void world_on_closed(struct weir_stream *stream, int reason)
{
    struct subject *subject = world_enter(stream);
    struct world *world = subject->world;
    subject->closed++;
    subject->reason = reason;
    subject->closed_ns = world_now(world);
    if (subject->service->closed)
        subject->service->closed(subject);
    subject->stream = NULL;
    world->subjects_closed++;
    world_leave(subject);
}

// What every subject's protocol has; the rest only where a service has it, since without it the
// core does something by default.
#define WORLD_CALLBACKS                                                                     \
    .name = "subject", .session_size = sizeof(struct subject *), .opened = world_on_opened, \
    .received = world_on_received, .drained = world_on_drained, .ended = world_on_ended,    \
    .closed = world_on_closed

static const struct weir_protocol world_protocol = { WORLD_CALLBACKS };
static const struct weir_protocol world_protocol_draining = { WORLD_CALLBACKS,
                                                              .draining = world_on_draining };
static const struct weir_protocol world_protocol_expired = { WORLD_CALLBACKS,
                                                             .expired = world_on_expired };

const struct weir_protocol *service_protocol(const struct service *service)
{
    if (service->expired)
        return &world_protocol_expired;
    return service->draining ? &world_protocol_draining : &world_protocol;
}

struct service *world_service(struct world *world, const struct service *service)
{
    struct service *copy = malloc(sizeof(*copy));
    struct service **services =
        realloc(world->services, (world->services_count + 1) * sizeof(struct service *));
    if (!copy || !services)
        abort();
    *copy = *service;
    copy->world = world;
    world->services = services;
    world->services[world->services_count++] = copy;
    return copy;
}

void echo_received(struct subject *subject, struct weir_slice slice)
{
    weir_stream_send_slice(subject->stream, slice);
}

struct service *world_echo(struct world *world)
{
    return world_service(world, &(struct service){ .received = echo_received });
}

// --- The world's life ----------------------------------------------------------------------------

static void world_no_lock(struct world *world)
{
    (void)world;
}

struct world *world_create(const struct variant *variant, const struct contract_test *test)
{
    struct world *world = calloc(1, sizeof(*world));
    if (!world)
        abort();
    world->variant = variant;
    world->test = test;
    world->operations = test->needs.server ? &world_threads : variant->world;
    world->lock = world->unlock = world_no_lock;
    weir_server_config_init(&world->server);
    world->config = &world->server.loop;
    world->config->engine = variant->engine;
    if (variant->features)
        world->config->uring_features = variant->features;
    world->descriptors_before = world->operations->descriptors(world);
    return world;
}

static void world_open(struct world *world)
{
    if (world->opened)
        return;
    int result = world->operations->open(world);
    if (result)
        fail_msg("the world of %s does not open: %s", world->variant->name, strerror(-result));
    world->opened = true;
}

static void world_abort_stream(struct weir_stream *stream, void *argument)
{
    (void)argument;
    weir_stream_abort(stream);
}

static bool world_all_closed(void *argument)
{
    struct world *world = argument;
    return world->subjects_closed == world->subjects_count;
}

// Loops on threads write their gauges at the end of the turn.
static bool world_nothing_held(void *argument)
{
    struct weir_stats stats = world_stats(argument);
    return !stats.streams_open && !stats.buffers_leased && !stats.queued_bytes;
}

// Every stream is aborted; then nothing may be held any more.
static void world_settle(struct world *world)
{
    for (uint32_t i = 0; i < world->subjects_count; i++)
        world_with(world->subjects[i], world_abort_stream, NULL);
    if (!world_until(world, world_all_closed, world, WORLD_PATIENCE))
        fail_msg("%u of %u streams closed", world->subjects_closed, world->subjects_count);
    if (!world_until(world, world_nothing_held, world, WORLD_PATIENCE)) {
        struct weir_stats stats = world_stats(world);
        fail_msg("still there: %llu streams, %llu buffers, %llu queued bytes",
                 (unsigned long long)stats.streams_open, (unsigned long long)stats.buffers_leased,
                 (unsigned long long)stats.queued_bytes);
    }
}

static void world_close_peers(struct world *world)
{
    for (uint32_t i = 0; i < world->peers_count; i++)
        peer_close(world->peers[i]);
}

void world_close(struct world *world)
{
    if (world->closed)
        return;
    world->closed = true;
    if (world->opened) {
        // Peers go after the streams, lest closing them opens what still waits in the backlog.
        world_settle(world);
        world->operations->close(world);
    }
    world_close_peers(world);
    for (uint32_t i = 0; i < world->subjects_count; i++) {
        assert_int_equal(world->subjects[i]->closed, 1);
        assert_int_equal(world->subjects[i]->mismatches, 0);
    }
    for (uint32_t i = 0; i < world->peers_count; i++)
        assert_int_equal(world->peers[i]->mismatches, 0);
    if (world->complaint[0])
        fail_msg("%s", world->complaint);
    assert_int_equal(world->operations->descriptors(world), world->descriptors_before);
}

void world_end_loops(struct world *world)
{
    world->operations->close(world);
    world->opened = false;
}

void world_destroy(struct world *world)
{
    for (uint32_t i = 0; i < world->subjects_count; i++)
        free(world->subjects[i]);
    for (uint32_t i = 0; i < world->peers_count; i++)
        free(world->peers[i]);
    for (uint32_t i = 0; i < world->services_count; i++)
        free(world->services[i]);
    if (world->operations->destroy)
        world->operations->destroy(world);
    free(world->subjects);
    free(world->peers);
    free(world->services);
    free(world);
}

void world_complain(struct world *world, const char *text)
{
    if (!world->complaint[0])
        snprintf(world->complaint, sizeof(world->complaint), "%s", text);
}

// --- Time ----------------------------------------------------------------------------------------

uint64_t world_now(struct world *world)
{
    return world->operations->now(world);
}

uint64_t world_late(const struct world *world, uint64_t late_ns)
{
    const uint64_t machine_ns = 10 * SECOND;
    return world->operations->simulated || late_ns > machine_ns ? late_ns : machine_ns;
}

bool world_until(struct world *world, bool (*condition)(void *argument), void *argument,
                 uint64_t limit_ns)
{
    world_open(world);
    uint64_t limit = world_now(world) + limit_ns;
    while (!condition(argument)) {
        uint64_t now = world_now(world);
        if (now >= limit)
            return false;
        world_step(world, limit - now < MILLISECOND ? limit - now : MILLISECOND);
        if (world->complaint[0])
            fail_msg("%s", world->complaint);
    }
    return true;
}

static bool world_never(void *argument)
{
    (void)argument;
    return false;
}

// Whoever had no processor in that time has still to do what was there to be done.
void world_run(struct world *world, uint64_t duration_ns)
{
    enum { STEPS = 3 };
    (void)world_until(world, world_never, NULL, duration_ns);
    for (int i = 0; i < STEPS && !world->operations->simulated; i++)
        world_step(world, 0);
}

// The same, without the time that the machine spent on others, but for an eighth: where there are
// more of them than processors, threads can wait longer than time passes.
static void world_run_undisturbed(struct world *world, uint64_t duration_ns)
{
    for (uint64_t done = 0; done < duration_ns;) {
        uint64_t start = world_now(world), waited = world->operations->waited(world);
        world_run(world, duration_ns - done);
        uint64_t took = world_now(world) - start, most = took - took / 8;
        waited = world->operations->waited(world) - waited;
        done += took - (waited < most ? waited : most);
    }
}

void world_run_until_still(struct world *world)
{
    uint64_t limit = world_now(world) + WORLD_PATIENCE, moved;
    do {
        struct weir_stats stats = world_stats(world);
        moved = world->progress + stats.received_bytes + stats.sent_bytes;
        world_run_undisturbed(world, 50 * MILLISECOND * WORLD_SLOWNESS);
        stats = world_stats(world);
        moved -= world->progress + stats.received_bytes + stats.sent_bytes;
    } while (moved && world_now(world) < limit);
    if (moved)
        fail_msg("peers that stall still make progress");
}

struct world_counter {
    const void *counter;
    size_t width;
    uint64_t least;
};

static uint64_t world_counter_read(const struct world_counter *counter)
{
    if (counter->width == sizeof(uint32_t))
        return *(const uint32_t *)counter->counter;
    return *(const uint64_t *)counter->counter;
}

static bool world_counter_reached(void *argument)
{
    const struct world_counter *counter = argument;
    return world_counter_read(counter) >= counter->least;
}

void world_reaches_at(struct world *world, const void *counter, size_t width, uint64_t least,
                      const char *name, const char *file, int line)
{
    struct world_counter wanted = { .counter = counter, .width = width, .least = least };
    if (!world_until(world, world_counter_reached, &wanted, WORLD_PATIENCE)) {
        print_error("%s is %llu and does not reach %llu\n", name,
                    (unsigned long long)world_counter_read(&wanted), (unsigned long long)least);
        _fail(file, line);
    }
}

// --- Listening, connecting, calling --------------------------------------------------------------

struct weir_address world_address(const char *text)
{
    struct weir_address address;
    if (weir_address_parse(text, &address))
        fail_msg("%s is no address", text);
    return address;
}

struct weir_address world_listen_with(struct world *world, const char *address,
                                      struct weir_listener_config config)
{
    world_open(world);
    struct weir_address wanted = world_address(address);
    struct weir_address bound;
    if (!config.protocol)
        config.protocol = service_protocol(config.context);
    int result = world->operations->listen(world, &wanted, &config, &bound);
    if (result)
        fail_msg("%s: listening failed: %s", address, strerror(-result));
    return bound;
}

struct weir_address world_listen(struct world *world, struct service *service)
{
    return world_listen_with(world, "127.0.0.1:0",
                             (struct weir_listener_config){ .context = service });
}

struct world_subject_wait {
    struct world *world;
    uint32_t index;
};

static bool world_subject_opened(void *argument)
{
    const struct world_subject_wait *wait = argument;
    return wait->world->subjects_count > wait->index &&
           wait->world->subjects[wait->index]->opened > 0;
}

struct subject *world_subject(struct world *world, uint32_t index)
{
    struct world_subject_wait wait = { .world = world, .index = index };
    if (!world_until(world, world_subject_opened, &wait, WORLD_PATIENCE))
        fail_msg("stream %u does not open", index);
    return world->subjects[index];
}

bool world_call(struct world *world, struct subject *subject,
                void (*function)(struct weir_loop *loop, void *argument), void *argument)
{
    world_open(world);
    return world->operations->call(world, subject, function, argument);
}

struct world_verb {
    struct subject *subject;
    void (*verb)(struct weir_stream *stream, void *argument);
    void *argument;
};

static void world_run_verb(struct weir_loop *loop, void *argument)
{
    const struct world_verb *verb = argument;
    (void)loop;
    if (verb->subject->stream)
        verb->verb(verb->subject->stream, verb->argument);
}

void world_with(struct subject *subject, void (*verb)(struct weir_stream *stream, void *argument),
                void *argument)
{
    struct world_verb call = { .subject = subject, .verb = verb, .argument = argument };
    if (subject->stream)
        (void)world_call(subject->world, subject, world_run_verb, &call);
}

struct weir_stats world_stats(struct world *world)
{
    struct weir_stats stats = { 0 };
    world_open(world);
    world->operations->stats(world, &stats);
    return stats;
}

struct world_connect_call {
    struct world *world;
    const struct weir_address *to;
    struct weir_connect_config config;
    struct service *service;
    struct subject *subject;
    int result;
};

static void world_run_connect(struct weir_loop *loop, void *argument)
{
    struct world_connect_call *call = argument;
    struct weir_stream *stream;
    call->result = weir_stream_connect(loop, call->to, &call->config, &stream);
    if (!call->result)
        call->subject = world_new_subject(call->world, call->service, stream);
}

struct subject *world_connect(struct world *world, const struct weir_address *to,
                              struct service *service, struct weir_connect_config config,
                              int *ret_result)
{
    struct world_connect_call call = {
        .world = world, .to = to, .config = config, .service = service
    };
    call.config.context = service;
    call.config.protocol = service_protocol(service);
    (void)world_call(world, NULL, world_run_connect, &call);
    if (ret_result)
        *ret_result = call.result;
    else if (call.result)
        fail_msg("connecting failed at once: %s", strerror(-call.result));
    return call.subject;
}

int world_file(uint64_t pattern, uint64_t size)
{
    int fd = memfd_create("contract", MFD_CLOEXEC);
    for (uint64_t done = 0; done < size;) {
        uint64_t part = size - done < PATTERN_SPAN_MAX ? size - done : PATTERN_SPAN_MAX;
        ssize_t count = write(fd, pattern_at(pattern, done), (size_t)part);
        if (count <= 0)
            fail_msg("a file of %llu bytes cannot be made", (unsigned long long)size);
        done += (uint64_t)count;
    }
    return fd;
}
