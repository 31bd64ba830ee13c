// The simulated kernel as a whole: its life, its random numbers, its time, its descriptors.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernel.h"

// Simulated descriptors are no small numbers: one that reaches a real system call is an error
// there.
enum { WORLD_DESCRIPTOR_FIRST = 1 << 20, WORLD_DESCRIPTORS_MAX = 65536 };

// When the simulated clock began, since 1970.
#define WORLD_EPOCH_NS 1700000000000000000ULL

// --- Memory --------------------------------------------------------------------------------------

// Not malloc(): tests let that fail for the loop, and a simulation that lacks memory proves
// nothing.
void *sim_resize(void *memory, size_t count, size_t size)
{
    void *resized = reallocarray(memory, count, size);
    // UNTESTED: a simulation without memory proves nothing
    if (!resized)
        abort();
    return resized;
}

void *sim_allocate(size_t count, size_t size)
{
    return memset(sim_resize(NULL, count, size), 0, count * size);
}

char *sim_copy_text(const char *text)
{
    size_t size = strlen(text) + 1;
    return memcpy(sim_resize(NULL, size, 1), text, size);
}

// --- Random numbers ------------------------------------------------------------------------------

// splitmix64, by Sebastiano Vigna (public domain).
static uint64_t world_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

void sim_decide(struct sim *sim, const void *data, size_t size)
{
    sim->decisions = data;
    sim->decisions_left = size;
}

// As few bytes as the range needs, so that each byte of a fuzzer's input decides something.
static uint64_t world_decision(struct sim *sim, uint64_t below)
{
    uint64_t value = 0;
    for (uint64_t range = below - 1; range && sim->decisions_left; range >>= 8) {
        value = value << 8 | *sim->decisions++;
        sim->decisions_left--;
    }
    return value % below;
}

uint64_t sim_random(struct sim *sim, uint64_t below)
{
    if (sim->decisions_left)
        return world_decision(sim, below);
    return world_next(&sim->random) % below;
}

void sim_call_random(struct sim *sim, void *ret_data, size_t size)
{
    char *at = ret_data;
    for (size_t part; size; size -= part, at += part) {
        uint64_t value = world_next(&sim->secrets);
        part = size < sizeof value ? size : sizeof value;
        memcpy(at, &value, part);
    }
}

bool sim_strikes(struct sim *sim, enum sim_fault fault)
{
    uint32_t chance = sim->faults.chances[fault];
    if (!chance || sim_random(sim, 1000) >= chance)
        return false;
    sim->counts.faults[fault]++;
    return true;
}

size_t sim_shortened(struct sim *sim, enum sim_fault fault, size_t most)
{
    if (most < 2 || !sim_strikes(sim, fault))
        return most;
    // Small counts and nearly whole ones are where mistakes hide.
    switch (sim_random(sim, 3)) {
    case 0:
        return 1;
    case 1:
        return most - 1;
    default:
        return 1 + sim_random(sim, most - 1);
    }
}

// --- Trace ---------------------------------------------------------------------------------------

static void world_hash(struct sim *sim, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i++)
        sim->trace_hash = (sim->trace_hash ^ bytes[i]) * 0x100000001b3;
}

void sim_trace(struct sim *sim, const char *what, uint64_t a, int64_t b)
{
    world_hash(sim, what, strlen(what));
    world_hash(sim, &a, sizeof a);
    world_hash(sim, &b, sizeof b);
    world_hash(sim, &sim->now_ns, sizeof sim->now_ns);
    // UNTESTED: traces are for people
    if (sim->trace)
        fprintf(sim->trace, "%14.3f us  %-18s %16llx %lld\n", (double)sim->now_ns / 1000, what,
                (unsigned long long)a, (long long)b);
}

void sim_trace_to(struct sim *sim, FILE *file)
{
    sim->trace = file;
}

uint64_t sim_trace_hash(const struct sim *sim)
{
    return sim->trace_hash;
}

// --- Time ----------------------------------------------------------------------------------------

static bool world_before(const struct sim_event *a, const struct sim_event *b)
{
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->sequence < b->sequence;
}

static void world_swap(struct sim_event *a, struct sim_event *b)
{
    struct sim_event kept = *a;
    *a = *b;
    *b = kept;
}

static void world_sift_up(struct sim *sim, size_t at)
{
    struct sim_event *events = sim->events;
    for (; at && world_before(&events[at], &events[(at - 1) / 2]); at = (at - 1) / 2)
        world_swap(&events[at], &events[(at - 1) / 2]);
}

static void world_sift_down(struct sim *sim, size_t at)
{
    struct sim_event *events = sim->events;
    for (;;) {
        size_t least = at, left = 2 * at + 1;
        for (size_t child = left; child < left + 2 && child < sim->events_count; child++) {
            if (world_before(&events[child], &events[least]))
                least = child;
        }
        if (least == at)
            return;
        world_swap(&events[at], &events[least]);
        at = least;
    }
}

void sim_at(struct sim *sim, uint64_t delay_ns, void (*function)(void *argument), void *argument)
{
    if (sim->events_count == sim->events_room) {
        size_t room = sim->events_room ? sim->events_room * 2 : 64;
        sim->events = sim_resize(sim->events, room, sizeof *sim->events);
        sim->events_room = room;
    }
    sim->events[sim->events_count] = (struct sim_event){ .due_ns = sim->now_ns + delay_ns,
                                                         .sequence = sim->events_sequence++,
                                                         .function = function,
                                                         .argument = argument };
    world_sift_up(sim, sim->events_count++);
}

void sim_forget(struct sim *sim, const void *argument)
{
    for (size_t i = 0; i < sim->events_count; i++) {
        if (sim->events[i].argument == argument)
            sim->events[i].function = NULL;
    }
}

void sim_run_now(struct sim *sim, void (*function)(void *argument))
{
    for (;;) {
        struct sim_event *first = NULL;
        for (size_t i = 0; i < sim->events_count; i++) {
            struct sim_event *event = &sim->events[i];
            if (event->function == function && (!first || world_before(event, first)))
                first = event;
        }
        if (!first)
            return;
        first->function = NULL;
        function(first->argument);
    }
}

// What an event does may take time itself; that runs no further events, the loop below does.
static void world_run_due(struct sim *sim)
{
    if (sim->events_running)
        return;
    sim->events_running = true;
    while (sim->events_count && sim->events[0].due_ns <= sim->now_ns) {
        struct sim_event event = sim->events[0];
        sim->events[0] = sim->events[--sim->events_count];
        world_sift_down(sim, 0);
        if (event.function)
            event.function(event.argument);
    }
    sim->events_running = false;
}

void sim_spend(struct sim *sim, uint64_t duration_ns)
{
    sim->now_ns += duration_ns;
    world_run_due(sim);
}

bool sim_pass(struct sim *sim, uint64_t deadline_ns)
{
    // UNTESTED: a loop that sleeps over something is a mistake, and none is left
    if (!sim->events_count && deadline_ns == WEIR_NEVER)
        return false;
    uint64_t until_ns = deadline_ns;
    if (sim->events_count && sim->events[0].due_ns < until_ns)
        until_ns = sim->events[0].due_ns;
    if (until_ns > sim->now_ns)
        sim->now_ns = until_ns;
    world_run_due(sim);
    return true;
}

uint64_t sim_now(const struct sim *sim)
{
    return sim->now_ns;
}

uint64_t sim_real_time(const struct sim *sim)
{
    return WORLD_EPOCH_NS + sim->now_ns;
}

// --- Objects and descriptors ---------------------------------------------------------------------

void sim_object_init(struct sim *sim, struct sim_object *object, enum sim_kind kind)
{
    *object = (struct sim_object){ .sim = sim, .kind = kind, .references = 1 };
    sim_list_init(&object->operations);
}

void sim_object_release(struct sim_object *object)
{
    if (--object->references)
        return;
    if (object->kind == SIM_SOCKET)
        sim_socket_released(container_of(object, struct sim_socket, object));
    else
        free(object);
}

bool sim_descriptors_full(struct sim *sim)
{
    bool full = sim->counts.descriptors >= sim->descriptors_max;
    sim->counts.no_descriptors += full;
    return full;
}

static void world_descriptors_grow(struct sim *sim)
{
    uint32_t room = sim->descriptors_room ? sim->descriptors_room * 2 : 64;
    struct sim_object **table = sim_resize(sim->descriptors, room, sizeof(struct sim_object *));
    memset(table + sim->descriptors_room, 0,
           (room - sim->descriptors_room) * sizeof(struct sim_object *));
    sim->descriptors = table;
    sim->descriptors_room = room;
}

// The lowest free one, as alloc_fd() does: reuse is as fast as it can be.
int sim_descriptor_open(struct sim *sim, struct sim_object *object)
{
    uint32_t index = 0;
    if (sim_descriptors_full(sim))
        return -EMFILE;
    while (index < sim->descriptors_room && sim->descriptors[index])
        index++;
    if (index == sim->descriptors_room)
        world_descriptors_grow(sim);
    sim->descriptors[index] = object;
    sim->counts.descriptors++;
    return (int)index + WORLD_DESCRIPTOR_FIRST;
}

struct sim_object *sim_descriptor(const struct sim *sim, int fd)
{
    if (fd < WORLD_DESCRIPTOR_FIRST ||
        (uint32_t)(fd - WORLD_DESCRIPTOR_FIRST) >= sim->descriptors_room)
        return NULL;
    return sim->descriptors[fd - WORLD_DESCRIPTOR_FIRST];
}

bool sim_owns(int fd)
{
    return fd >= WORLD_DESCRIPTOR_FIRST;
}

int sim_descriptor_close(struct sim *sim, int fd)
{
    struct sim_object *object = sim_descriptor(sim, fd);
    // UNTESTED: a wrong close is a mistake, and none is left
    if (!object) {
        sim->counts.bad_closes++;
        return -EBADF;
    }
    sim->descriptors[fd - WORLD_DESCRIPTOR_FIRST] = NULL;
    sim->counts.descriptors--;
    sim_trace(sim, "closed", (uint64_t)fd, object->references);
    // Who listens stops at once, whatever still holds the object.
    if (object->kind == SIM_SOCKET)
        sim_socket_unlisten(container_of(object, struct sim_socket, object));
    sim_object_release(object);
    return 0;
}

void sim_answer(struct sim *sim, const struct sim_answer *answer)
{
    sim->answer = *answer;
}

void sim_break_after(struct sim *sim, uint64_t enters)
{
    sim->enters_max = sim->enters + enters;
}

void sim_limit_descriptors(struct sim *sim, uint32_t count)
{
    sim->descriptors_max = count;
}

// --- Life ----------------------------------------------------------------------------------------

struct sim *sim_create(uint64_t seed, const struct sim_faults *faults)
{
    struct sim *sim = sim_allocate(1, sizeof *sim);
    sim->random = seed;
    sim->secrets = ~seed;
    sim->now_ns = 1000000000;
    sim->faults = faults ? *faults : (struct sim_faults){ 0 };
    sim->ring_base = (struct ring_base){ .operations = &sim_ring_operations, .state = sim };
    sim->base = (struct loop_base){ .engine = &engine_uring,
                                    .engine_argument = &sim->ring_base,
                                    .system = &sim_system,
                                    .system_state = sim };
    sim->descriptors_max = WORLD_DESCRIPTORS_MAX;
    sim->wake_fd = -1;
    sim->enters_max = UINT64_MAX;
    sim->port_next = 32768;
    sim->trace_hash = 0xcbf29ce484222325;
    sim_list_init(&sim->bound);
    sim_list_init(&sim->nodes);
    return sim;
}

void sim_set_faults(struct sim *sim, const struct sim_faults *faults)
{
    sim->faults = faults ? *faults : (struct sim_faults){ 0 };
}

void sim_destroy(struct sim *sim)
{
    // UNTESTED: every caller has one
    if (!sim)
        return;
    for (uint32_t i = 0; i < sim->descriptors_room; i++) {
        if (sim->descriptors[i])
            sim_descriptor_close(sim, (int)i + WORLD_DESCRIPTOR_FIRST);
    }
    sim_nodes_free(sim);
    free(sim->descriptors);
    free(sim->events);
    free(sim);
}

const struct loop_base *sim_base(struct sim *sim)
{
    return &sim->base;
}

static bool world_is_wake(const struct sim *sim, const struct sim_object *object)
{
    return sim->wake_fd >= 0 && object == sim_descriptor(sim, sim->wake_fd);
}

void sim_count(const struct sim *sim, struct sim_counts *ret_counts)
{
    *ret_counts = sim->counts;
    ret_counts->descriptors -= sim->wake_fd >= 0;
    const struct sim_ring *ring = sim->ring;
    if (!ring)
        return;
    for (uint32_t i = 0; i < ring->files_count; i++)
        ret_counts->ring_descriptors += ring->files[i] != NULL;
    const struct sim_link *link = ring->operations.next;
    for (; link != &ring->operations; link = link->next) {
        const struct sim_operation *operation = container_of(link, struct sim_operation, all);
        ret_counts->operations += !world_is_wake(sim, operation->object);
    }
    ret_counts->entries = ring->ring->sq.sqe_tail - *ring->ring->sq.khead;
    if (ring->buffers)
        ret_counts->buffers = (uint16_t)(ring->buffers->tail - ring->buffers_head);
}
