// An entry's way: taken from the queue, tried at once, and tried again whenever it may succeed.
#include <errno.h>

#include "kernel.h"

enum { SUBMIT_WORKER_NS = 5000, SUBMIT_WORKER_MORE_NS = 45000, SUBMIT_DISK_NS = 10000000 };

static struct sim_object *submit_object(const struct sim *sim, int fd, bool direct)
{
    const struct sim_ring *ring = sim->ring;
    if (!direct)
        return sim_descriptor(sim, fd);
    return (uint32_t)fd < ring->files_count ? ring->files[fd] : NULL;
}

static struct sim_operation *submit_create(struct sim *sim, const struct io_uring_sqe *sqe)
{
    struct sim_operation *operation = sim_allocate(1, sizeof *operation);
    operation->sim = sim;
    operation->opcode = sim_opcode_find(sqe->opcode);
    operation->user_data = sqe->user_data;
    operation->fd = sqe->fd;
    operation->direct = sqe->flags & IOSQE_FIXED_FILE;
    operation->skip_success = sqe->flags & IOSQE_CQE_SKIP_SUCCESS;
    operation->iovecs = &operation->one;
    operation->state = SIM_WAITING;
    sim_list_init(&operation->of_object);
    sim_list_init(&operation->queue);
    sim_list_append(&sim->ring->operations, &operation->all);
    return operation;
}

// io_assign_file(): from here on the operation holds its socket or file, whoever closes it.
static int submit_assign(struct sim *sim, struct sim_operation *operation)
{
    const struct sim_opcode *opcode = operation->opcode;
    operation->object = submit_object(sim, operation->fd, operation->direct);
    if (operation->object)
        operation->object->references++;
    else if (opcode == &sim_opcode_read || opcode == &sim_opcode_write)
        operation->object = sim_machine_file(sim, operation->fd);
    if (!operation->object) {
        // UNTESTED: what this counts is a mistake, and none is left
        sim->counts.bad_descriptors++;
        return -EBADF; // UNTESTED: the engine never asks for that
    }
    sim_list_append(&operation->object->operations, &operation->of_object);
    return 0;
}

// What the kernel checks and copies before it tries anything.
static int submit_prepare(struct sim *sim, struct sim_operation *operation,
                          const struct io_uring_sqe *sqe)
{
    const unsigned known = IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT | IOSQE_CQE_SKIP_SUCCESS;
    if (!operation->opcode || sqe->flags & ~known)
        return -EINVAL; // UNTESTED: the engine never asks for that
    // A worker looks the descriptor up itself, as late as it runs (io_wq_submit_work()).
    int error = 0;
    if (operation->opcode->needs_object && !operation->opcode->worker)
        error = submit_assign(sim, operation);
    return error ? error : operation->opcode->prepare(sim, operation, sqe);
}

static void submit_worker_due(void *argument)
{
    struct sim_operation *operation = argument;
    operation->state = SIM_WAITING;
    int error =
        operation->object || operation->canceled ? 0 : submit_assign(operation->sim, operation);
    // UNTESTED: a bad descriptor is a mistake, and none is left
    if (error)
        sim_operation_complete(operation, error);
    else
        sim_operation_run(operation);
}

static void submit_to_worker(struct sim *sim, struct sim_operation *operation, uint64_t most_ns)
{
    operation->state = SIM_WORKER;
    sim_at(sim, SUBMIT_WORKER_NS + sim_random(sim, most_ns), submit_worker_due, operation);
}

void sim_submit(struct sim *sim, const struct io_uring_sqe *sqe)
{
    struct sim_operation *operation = submit_create(sim, sqe);
    sim_trace(sim, "submit", sqe->user_data, sqe->opcode);
    int error = submit_prepare(sim, operation, sqe);
    // UNTESTED: a bad entry is a mistake, and none is left
    if (error)
        sim_operation_complete(operation, error);
    else if (operation->opcode->worker)
        submit_to_worker(sim, operation, SUBMIT_WORKER_MORE_NS);
    else if (operation->opcode->waits && operation->opcode->waits(sim, operation))
        submit_to_worker(sim, operation, SUBMIT_DISK_NS);
    else if (!operation->opcode->at_once && !operation->no_wait && sim_strikes(sim, SIM_LATE))
        submit_to_worker(sim, operation, sim->faults.late_max_ns);
    else
        sim_operation_run(operation);
}

// io_sendrecv_fail(): what a send had done before it was cancelled is its result.
static int submit_canceled(const struct sim_operation *operation)
{
    return operation->done ? (int)operation->done : -ECANCELED;
}

// The answer that a test wants, with its flags.
static int submit_answer(struct sim *sim, struct sim_operation *operation)
{
    const struct sim_answer *answer = &sim->answer;
    uint32_t flags = answer->flags & ~(uint32_t)(IORING_CQE_F_MORE | IORING_CQE_F_BUFFER);
    struct iovec iovec;
    sim->counts.answered++;
    if (answer->flags & IORING_CQE_F_BUFFER && sim_buffer_select(sim->ring, &iovec))
        flags |= sim_buffer_take(sim->ring, 1);
    if (answer->flags & IORING_CQE_F_MORE && sim_operation_post(operation, answer->result, flags))
        return SIM_REQUEUE;
    operation->completion_flags |= flags;
    return answer->result;
}

// An attempt, or that answer.
static int submit_attempt(struct sim *sim, struct sim_operation *operation)
{
    struct sim_answer *answer = &sim->answer;
    bool odd = answer->number && operation->opcode == sim_opcode_find(answer->opcode) &&
               --answer->number == 0;
    int result = odd && !answer->acts ? answer->result : operation->opcode->run(sim, operation);
    return odd ? submit_answer(sim, operation) : result;
}

void sim_operation_run(struct sim_operation *operation)
{
    struct sim *sim = operation->sim;
    // What the attempt itself brings about does not wake it.
    operation->state = SIM_RUNNING;
    int result = operation->canceled ? submit_canceled(operation) : submit_attempt(sim, operation);
    operation->state = SIM_WAITING;
    if (result == SIM_REQUEUE || (result == SIM_AGAIN && operation->opcode->ready(sim, operation)))
        sim_operation_ready(operation);
    else if (result != SIM_AGAIN)
        sim_operation_complete(operation, result);
}
