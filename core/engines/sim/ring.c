// The simulated ring: queues in ordinary memory, and one function that is "the kernel".
//
// As with DEFER_TASKRUN, what became ready stands in a list of task work and runs only inside of an
// enter that asks for events; the flag in the submission queue tells that there is some. What can
// be done at submission completes there.
#include <errno.h>
#include <linux/time_types.h>
#include <stdlib.h>
#include <string.h>

#include "kernel.h"

enum {
    RING_ENTER_NS = 300,
    RING_ENTRY_NS = 150,
    RING_WORK_NS = 100,
    RING_WORK_MAX = 20, // IO_LOCAL_TW_DEFAULT_MAX: more only if more completions are waited for
    RING_ENTRIES_MAX = 32768,
    RING_FILES_MAX = 1 << 20,
};

enum ring_word {
    WORD_SQ_HEAD,
    WORD_SQ_TAIL,
    WORD_SQ_FLAGS,
    WORD_SQ_DROPPED,
    WORD_SQ_MASK,
    WORD_SQ_ENTRIES,
    WORD_CQ_HEAD,
    WORD_CQ_TAIL,
    WORD_CQ_FLAGS,
    WORD_CQ_OVERFLOW,
    WORD_CQ_MASK,
    WORD_CQ_ENTRIES,
};

// --- Completions ---------------------------------------------------------------------------------

static unsigned ring_completions(const struct sim_ring *ring)
{
    return ring->words[WORD_CQ_TAIL] - ring->words[WORD_CQ_HEAD];
}

static bool ring_full(const struct sim_ring *ring)
{
    return ring_completions(ring) == ring->words[WORD_CQ_ENTRIES];
}

static void ring_write(struct sim_ring *ring, const struct io_uring_cqe *cqe)
{
    unsigned tail = ring->words[WORD_CQ_TAIL];
    ring->ring->cq.cqes[tail & ring->words[WORD_CQ_MASK]] = *cqe;
    ring->words[WORD_CQ_TAIL] = tail + 1;
}

// io_cqring_event_overflow(): kept aside, and told by a flag; nothing is dropped.
static void ring_overflow(struct sim *sim, const struct io_uring_cqe *cqe)
{
    struct sim_ring *ring = sim->ring;
    if (ring->overflow_count == ring->overflow_room) {
        ring->overflow_room = ring->overflow_room ? ring->overflow_room * 2 : 64;
        ring->overflow = sim_resize(ring->overflow, ring->overflow_room, sizeof *cqe);
    }
    ring->overflow[ring->overflow_count++] = *cqe;
    ring->words[WORD_SQ_FLAGS] |= IORING_SQ_CQ_OVERFLOW;
    sim->counts.overflows++;
}

static void ring_flush_overflow(struct sim_ring *ring)
{
    uint32_t moved = 0;
    if (!ring->overflow_count)
        return;
    while (moved < ring->overflow_count && !ring_full(ring))
        ring_write(ring, &ring->overflow[moved++]);
    ring->overflow_count -= moved;
    memmove(ring->overflow, ring->overflow + moved, ring->overflow_count * sizeof *ring->overflow);
    if (!ring->overflow_count)
        ring->words[WORD_SQ_FLAGS] &= ~(unsigned)IORING_SQ_CQ_OVERFLOW;
}

// While some have overflowed, all others queue up behind them (io_get_cqe).
static bool ring_has_room(const struct sim_ring *ring)
{
    return !ring->overflow_count && !ring_full(ring);
}

static void ring_deliver(struct sim *sim, const struct io_uring_cqe *cqe)
{
    if (ring_has_room(sim->ring))
        ring_write(sim->ring, cqe);
    else
        ring_overflow(sim, cqe);
}

static void ring_post(struct sim_operation *operation, int result, uint32_t flags)
{
    struct sim *sim = operation->sim;
    struct io_uring_cqe cqe = { .user_data = operation->user_data, .res = result, .flags = flags };
    sim_trace(sim, operation->opcode ? operation->opcode->name : "unknown", operation->user_data,
              result);
    ring_deliver(sim, &cqe);
}

void sim_post(struct sim *sim, uint64_t user_data, int result, bool with_buffer)
{
    struct io_uring_cqe cqe = { .user_data = user_data, .res = result };
    struct iovec iovec;
    if (with_buffer && sim_buffer_select(sim->ring, &iovec))
        cqe.flags = sim_buffer_take(sim->ring, 1);
    sim_trace(sim, "from nowhere", user_data, result);
    ring_deliver(sim, &cqe);
}

// io_req_post_cqe(): completions of a multishot do not overflow, they end it.
bool sim_operation_post(struct sim_operation *operation, int result, uint32_t flags)
{
    if (!ring_has_room(operation->sim->ring))
        return false;
    ring_post(operation, result, flags | IORING_CQE_F_MORE);
    return true;
}

void sim_operation_complete(struct sim_operation *operation, int result)
{
    // req_set_fail() takes the skip away: failures are told.
    if (!operation->skip_success || result < 0 || operation->failed)
        ring_post(operation, result, operation->completion_flags);
    sim_operation_free(operation);
}

void sim_operation_free(struct sim_operation *operation)
{
    struct sim_object *object = operation->object;
    if (operation->state == SIM_LATE_DUE || operation->state == SIM_WORKER)
        sim_forget(operation->sim, operation);
    sim_list_remove(&operation->all);
    sim_list_remove(&operation->of_object);
    sim_list_remove(&operation->queue);
    if (operation->iovecs != &operation->one)
        free(operation->iovecs);
    free(operation->path);
    free(operation);
    if (!object)
        return;
    sim_object_wake(object); // a connection may wait for another accept
    sim_object_release(object);
}

// --- Task work -----------------------------------------------------------------------------------

static void ring_queue_work(struct sim_operation *operation)
{
    struct sim_ring *ring = operation->sim->ring;
    operation->state = SIM_READY;
    sim_list_append(&ring->ready, &operation->queue);
    if (ring->ring->flags & IORING_SETUP_TASKRUN_FLAG)
        ring->words[WORD_SQ_FLAGS] |= IORING_SQ_TASKRUN;
}

static void ring_work_due(void *argument)
{
    ring_queue_work(argument);
}

void sim_operation_ready(struct sim_operation *operation)
{
    struct sim *sim = operation->sim;
    if (operation->state == SIM_WAITING && sim_strikes(sim, SIM_LATE)) {
        operation->state = SIM_LATE_DUE;
        sim_at(sim, sim_random(sim, sim->faults.late_max_ns), ring_work_due, operation);
        return;
    }
    ring_queue_work(operation);
}

void sim_object_wake(struct sim_object *object)
{
    struct sim_link *link = object->operations.next, *next;
    for (; link != &object->operations; link = next) {
        struct sim_operation *operation = container_of(link, struct sim_operation, of_object);
        next = link->next;
        if (operation->state != SIM_WAITING || !operation->opcode->ready(object->sim, operation))
            continue;
        sim_operation_ready(operation);
        if (operation->ret_address)
            return; // accepts wait exclusively: one for each connection
    }
}

static struct sim_operation *ring_next_work(struct sim *sim)
{
    struct sim_link *head = &sim->ring->ready, *link = head->next;
    if (sim_strikes(sim, SIM_REORDER)) {
        for (uint64_t steps = sim_random(sim, 8); steps && link->next != head; steps--)
            link = link->next;
    }
    sim_list_remove(link);
    return container_of(link, struct sim_operation, queue);
}

static void ring_run_work(struct sim *sim, unsigned max)
{
    struct sim_ring *ring = sim->ring;
    ring->words[WORD_SQ_FLAGS] &= ~(unsigned)IORING_SQ_TASKRUN;
    for (; max && !sim_list_empty(&ring->ready); max--) {
        sim_spend(sim, RING_WORK_NS);
        sim_operation_run(ring_next_work(sim));
    }
    if (!sim_list_empty(&ring->ready) && ring->ring->flags & IORING_SETUP_TASKRUN_FLAG)
        ring->words[WORD_SQ_FLAGS] |= IORING_SQ_TASKRUN;
}

// --- Enter ---------------------------------------------------------------------------------------

static unsigned ring_submit(struct sim *sim, unsigned submit)
{
    struct sim_ring *ring = sim->ring;
    unsigned there = ring->words[WORD_SQ_TAIL] - ring->words[WORD_SQ_HEAD], taken = 0;
    // UNTESTED: the engine never asks for more than there is
    if (submit > there)
        submit = there;
    if (submit > 1 && sim_strikes(sim, SIM_PART_OF_BATCH))
        submit = 1 + (unsigned)sim_random(sim, submit);
    for (; taken < submit; taken++) {
        unsigned index = ring->words[WORD_SQ_HEAD] & ring->words[WORD_SQ_MASK];
        struct io_uring_sqe sqe = ring->ring->sq.sqes[index];
        // Whoever reads an entry again finds nothing of this one.
        memset(&ring->ring->sq.sqes[index], 0xa5, sizeof sqe);
        ring->words[WORD_SQ_HEAD]++;
        sim_spend(sim, RING_ENTRY_NS);
        sim_submit(sim, &sqe);
    }
    return taken;
}

// What a wait goes by.
struct ring_patience {
    unsigned wait;        // completions
    uint64_t deadline_ns; // of the whole wait
    uint64_t min_end_ns;  // until then for `wait`, afterwards for one; 0: there is none
};

static void ring_patience_read(const struct sim *sim, unsigned wait, unsigned flags,
                               const void *argument, struct ring_patience *ret_patience)
{
    *ret_patience = (struct ring_patience){ .wait = wait, .deadline_ns = WEIR_NEVER };
    if (wait > sim->ring->words[WORD_CQ_ENTRIES])
        ret_patience->wait = sim->ring->words[WORD_CQ_ENTRIES];
    if (!(flags & IORING_ENTER_EXT_ARG) || !argument)
        return;
    const struct io_uring_getevents_arg *extended = argument;
    if (extended->ts) {
        const struct __kernel_timespec *timeout =
            (const struct __kernel_timespec *)(uintptr_t)extended->ts;
        ret_patience->deadline_ns =
            sim->now_ns + (uint64_t)timeout->tv_sec * 1000000000 + (uint64_t)timeout->tv_nsec;
    }
    if (extended->min_wait_usec)
        ret_patience->min_end_ns = sim->now_ns + extended->min_wait_usec * 1000ULL;
}

// Without DEFER_TASKRUN it is the task's work, all of which runs on the way out of the kernel.
static unsigned ring_work_max(const struct sim *sim, unsigned wait)
{
    if (!sim->ring->deferred)
        return UINT_MAX;
    return wait > RING_WORK_MAX ? wait : RING_WORK_MAX;
}

static bool ring_satisfied(struct sim *sim, unsigned wait)
{
    ring_run_work(sim, ring_work_max(sim, wait));
    ring_flush_overflow(sim->ring);
    return ring_completions(sim->ring) >= wait;
}

// io_cqring_wait(), with io_cqring_min_timer_wakeup().
static int ring_wait(struct sim *sim, struct ring_patience patience)
{
    if (ring_satisfied(sim, patience.wait))
        return 0;
    if (sim_strikes(sim, SIM_INTERRUPT))
        return -EINTR;
    if (sim->faults.clock_jump_max_ns && sim_strikes(sim, SIM_CLOCK_JUMP))
        sim_spend(sim, sim_random(sim, sim->faults.clock_jump_max_ns));
    while (!ring_satisfied(sim, patience.wait)) {
        // The deadline's timer is started when the first one has run out.
        if (!patience.min_end_ns && sim->now_ns >= patience.deadline_ns)
            return -ETIME;
        if (patience.min_end_ns && sim->now_ns >= patience.min_end_ns) {
            if (ring_completions(sim->ring))
                return -ETIME;
            patience.min_end_ns = 0;
            patience.wait = 1;
        }
        // UNTESTED: work that is ready was run just before
        if (!sim_list_empty(&sim->ring->ready))
            continue;
        uint64_t until_ns = patience.min_end_ns ? patience.min_end_ns : patience.deadline_ns;
        if (!sim_pass(sim, until_ns)) {
            // UNTESTED: what this counts is a mistake, and none is left
            sim->counts.stuck = true;
            return -EDEADLK; // UNTESTED: only a mistake gets here, as above
        }
    }
    return 0;
}

static int ring_enter(void *state, struct io_uring *ring, unsigned submit, unsigned wait,
                      unsigned flags, void *argument, size_t argument_size)
{
    struct sim *sim = state;
    struct ring_patience patience;
    (void)ring;
    if (!sim->ring->enabled)
        return -EBADFD; // UNTESTED: the engine never asks for that
    if (flags & IORING_ENTER_EXT_ARG && argument_size != sizeof(struct io_uring_getevents_arg))
        return -EINVAL; // UNTESTED: the engine never asks for that
    sim_spend(sim, RING_ENTER_NS);
    sim->counts.broken = ++sim->enters > sim->enters_max;
    if (sim->counts.broken)
        return -EIO;
    // A kernel without memory for requests takes none (io_submit_sqes).
    if (submit && sim_strikes(sim, SIM_BUSY)) {
        if (++sim->busy > sim->counts.busy)
            sim->counts.busy = sim->busy;
        return -EAGAIN;
    }
    if (submit)
        sim->busy = 0;
    unsigned taken = ring_submit(sim, submit);
    if (!sim->ring->deferred)
        ring_run_work(sim, UINT_MAX);
    if (!(flags & IORING_ENTER_GETEVENTS) || taken != submit)
        return (int)taken;
    ring_patience_read(sim, wait, flags, argument, &patience);
    int result = ring_wait(sim, patience);
    return taken ? (int)taken : result;
}

// --- Set-up --------------------------------------------------------------------------------------

static unsigned ring_power_of_two(unsigned entries)
{
    unsigned power = 1;
    while (power < entries)
        power *= 2;
    return power < RING_ENTRIES_MAX ? power : RING_ENTRIES_MAX;
}

static int ring_check_flags(unsigned flags)
{
    const unsigned known = IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE |
                           IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER |
                           IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_DEFER_TASKRUN |
                           IORING_SETUP_COOP_TASKRUN;
    if (flags & ~known)
        return -EINVAL; // UNTESTED: the engine never asks for that
    if (flags & IORING_SETUP_DEFER_TASKRUN && !(flags & IORING_SETUP_SINGLE_ISSUER))
        return -EINVAL; // UNTESTED: the engine never asks for that
    if (flags & IORING_SETUP_TASKRUN_FLAG &&
        !(flags & (IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN)))
        return -EINVAL; // UNTESTED: the engine never asks for that
    return 0;
}

static void ring_map(struct sim_ring *simulated, struct io_uring *ring, unsigned sq_entries,
                     unsigned cq_entries)
{
    unsigned *words = simulated->words;
    words[WORD_SQ_ENTRIES] = sq_entries;
    words[WORD_SQ_MASK] = sq_entries - 1;
    words[WORD_CQ_ENTRIES] = cq_entries;
    words[WORD_CQ_MASK] = cq_entries - 1;
    ring->sq = (struct io_uring_sq){ .khead = &words[WORD_SQ_HEAD],
                                     .ktail = &words[WORD_SQ_TAIL],
                                     .kring_mask = &words[WORD_SQ_MASK],
                                     .kring_entries = &words[WORD_SQ_ENTRIES],
                                     .kflags = &words[WORD_SQ_FLAGS],
                                     .kdropped = &words[WORD_SQ_DROPPED],
                                     .sqes = sim_allocate(sq_entries, sizeof(struct io_uring_sqe)),
                                     .ring_mask = sq_entries - 1,
                                     .ring_entries = sq_entries };
    ring->cq = (struct io_uring_cq){ .khead = &words[WORD_CQ_HEAD],
                                     .ktail = &words[WORD_CQ_TAIL],
                                     .kring_mask = &words[WORD_CQ_MASK],
                                     .kring_entries = &words[WORD_CQ_ENTRIES],
                                     .kflags = &words[WORD_CQ_FLAGS],
                                     .koverflow = &words[WORD_CQ_OVERFLOW],
                                     .cqes = sim_allocate(cq_entries, sizeof(struct io_uring_cqe)),
                                     .ring_mask = cq_entries - 1,
                                     .ring_entries = cq_entries };
}

static void ring_free(struct sim *sim, struct io_uring *ring)
{
    struct sim_ring *simulated = sim->ring;
    while (!sim_list_empty(&simulated->operations))
        sim_operation_free(container_of(simulated->operations.next, struct sim_operation, all));
    for (uint32_t i = 0; i < simulated->files_count; i++) {
        if (simulated->files[i])
            sim_object_release(simulated->files[i]);
    }
    free(simulated->files);
    free(simulated->overflow);
    free(ring->sq.sqes);
    free(ring->cq.cqes);
    free(simulated);
    sim->ring = NULL;
}

static int ring_setup(void *state, struct io_uring *ring, unsigned entries,
                      struct io_uring_params *params)
{
    struct sim *sim = state;
    int error = ring_check_flags(params->flags);
    if (error || sim->ring)
        return error ? error : -EBUSY; // UNTESTED: the engine never asks for that
    struct sim_ring *simulated = sim_allocate(1, sizeof *simulated);
    sim_list_init(&simulated->operations);
    sim_list_init(&simulated->ready);
    simulated->ring = ring;
    simulated->enabled = !(params->flags & IORING_SETUP_R_DISABLED);
    simulated->deferred = params->flags & IORING_SETUP_DEFER_TASKRUN;
    unsigned sq_entries = ring_power_of_two(entries);
    unsigned cq_entries = params->flags & IORING_SETUP_CQSIZE ? params->cq_entries : 2 * sq_entries;
    if (sim->faults.sq_entries)
        sq_entries = ring_power_of_two(sim->faults.sq_entries);
    if (sim->faults.cq_entries)
        cq_entries = sim->faults.cq_entries;
    *ring = (struct io_uring){ .flags = params->flags, .ring_fd = -1, .enter_ring_fd = -1 };
    sim->ring = simulated;
    ring_map(simulated, ring, sq_entries, ring_power_of_two(cq_entries));
    return 0;
}

static int ring_enable(void *state, struct io_uring *ring)
{
    struct sim *sim = state;
    (void)ring;
    if (sim->ring->enabled)
        return -EBADFD; // UNTESTED: the engine never asks for that
    sim->ring->enabled = true;
    return 0;
}

static void ring_teardown(void *state, struct io_uring *ring)
{
    struct sim *sim = state;
    if (sim->ring)
        ring_free(sim, ring);
}

static int ring_register_files(struct sim_ring *ring, const struct io_uring_rsrc_register *files)
{
    if (ring->files)
        return -EBUSY; // UNTESTED: the engine never asks for that
    if (!(files->flags & IORING_RSRC_REGISTER_SPARSE) || !files->nr || files->nr > RING_FILES_MAX)
        return -EINVAL; // UNTESTED: the engine never asks for that
    ring->files = sim_allocate(files->nr, sizeof(struct sim_object *));
    ring->files_count = files->nr;
    return 0;
}

static int ring_register_buffers(struct sim_ring *ring, const struct io_uring_buf_reg *buffers)
{
    uint32_t entries = buffers->ring_entries;
    if (ring->buffers || buffers->bgid)
        return -EEXIST; // UNTESTED: the engine never asks for that
    if (!entries || entries & (entries - 1) || buffers->ring_addr % 4096)
        return -EINVAL; // UNTESTED: the engine never asks for that
    ring->buffers = (struct io_uring_buf_ring *)(uintptr_t)buffers->ring_addr;
    ring->buffers_count = entries;
    return 0;
}

static int ring_register(void *state, struct io_uring *ring, unsigned opcode, void *argument,
                         unsigned count)
{
    struct sim *sim = state;
    (void)ring;
    (void)count;
    if (opcode == IORING_REGISTER_FILES2)
        return ring_register_files(sim->ring, argument);
    if (opcode == IORING_REGISTER_PBUF_RING)
        return ring_register_buffers(sim->ring, argument);
    return -EINVAL;
}

// --- The wake descriptor -------------------------------------------------------------------------

static int ring_wake_open(void *state)
{
    struct sim *sim = state;
    struct sim_counter *counter = sim_allocate(1, sizeof *counter);
    sim_object_init(sim, &counter->object, SIM_COUNTER);
    sim->wake_fd = sim_descriptor_open(sim, &counter->object);
    // UNTESTED: the wake descriptor is the first
    if (sim->wake_fd < 0)
        free(counter);
    return sim->wake_fd;
}

static void ring_wake(void *state, int fd)
{
    struct sim_object *object = sim_descriptor(state, fd);
    container_of(object, struct sim_counter, object)->value++;
    sim_object_wake(object);
}

static void ring_wake_close(void *state, int fd)
{
    struct sim *sim = state;
    sim_descriptor_close(sim, fd);
    sim->wake_fd = -1;
}

const struct ring_operations sim_ring_operations = {
    .complete = true,
    .setup = ring_setup,
    .enable = ring_enable,
    .enter = ring_enter,
    .reg = ring_register,
    .teardown = ring_teardown,
    .wake_open = ring_wake_open,
    .wake = ring_wake,
    .wake_close = ring_wake_close,
};
