// Cancelling: by token, or everything on a descriptor. What waits is ended for certain; what is
// about to complete may complete first, and what a worker has may be beyond reach.
#include <errno.h>

#include "kernel.h"

// The operation wins the race: it runs before the cancel reaches it. True: it is over.
static bool cancel_outrun(struct sim *sim, struct sim_operation *operation)
{
    sim_forget(sim, operation);
    sim_list_remove(&operation->queue);
    sim_operation_run(operation);
    // Whether it is still there: looked up, as its memory may be gone.
    for (struct sim_link *link = sim->ring->operations.next; link != &sim->ring->operations;
         link = link->next) {
        if (container_of(link, struct sim_operation, all) == operation)
            return false;
    }
    return true;
}

// 0: it will complete as cancelled. -EALREADY: by itself. -ENOENT: it was not found and goes on,
// which a cancel by token may meet (pitfalls of multishots), one by descriptor not.
static int cancel_one(struct sim *sim, struct sim_operation *operation, bool by_token)
{
    bool lost = operation->state != SIM_WAITING && sim_strikes(sim, SIM_CANCEL_LOST);
    sim_trace(sim, lost ? "cancel too late" : "canceled", operation->user_data,
              (int64_t)operation->state);
    // What works on a file cannot be stopped.
    // UNTESTED: nothing that works on a file is cancelled
    if (operation->state == SIM_WORKER &&
        (!operation->object || operation->object->kind != SIM_SOCKET))
        return -EALREADY;
    if (lost && cancel_outrun(sim, operation))
        return -EALREADY;
    if (lost && by_token)
        return -ENOENT;
    operation->canceled = true;
    if (operation->state == SIM_WAITING)
        sim_operation_ready(operation);
    return 0;
}

static bool cancel_possible(const struct sim_operation *operation,
                            const struct sim_operation *cancel)
{
    return operation != cancel && !operation->canceled;
}

// By token: the first that has it.
static int cancel_by_token(struct sim *sim, const struct sim_operation *cancel)
{
    for (struct sim_link *link = sim->ring->operations.next; link != &sim->ring->operations;
         link = link->next) {
        struct sim_operation *operation = container_of(link, struct sim_operation, all);
        if (operation->user_data == cancel->target && cancel_possible(operation, cancel))
            return cancel_one(sim, operation, true);
    }
    return -ENOENT;
}

static struct sim_object *cancel_object(const struct sim *sim, const struct sim_operation *cancel)
{
    if (!(cancel->cancel_flags & IORING_ASYNC_CANCEL_FD_FIXED))
        return sim_descriptor(sim, cancel->fd);
    return (uint32_t)cancel->fd < sim->ring->files_count ? sim->ring->files[cancel->fd] : NULL;
}

// Everything on the object. One that outruns the cancel may be freed, and others come in its place:
// so the list is looked at from its start after each.
static int cancel_by_object(struct sim *sim, const struct sim_operation *cancel)
{
    struct sim_object *object = cancel_object(sim, cancel);
    int count = 0;
    // No mistake: a listener may end before its cancel is submitted. What takes the descriptor's
    // number then stands behind the cancel in the queue.
    if (!object)
        return -EBADF;
    struct sim_link seen;
    sim_list_init(&seen);
    object->references++;
    while (!sim_list_empty(&object->operations)) {
        struct sim_operation *operation =
            container_of(object->operations.next, struct sim_operation, of_object);
        sim_list_remove(&operation->of_object);
        sim_list_append(&seen, &operation->of_object);
        if (cancel_possible(operation, cancel)) {
            (void)cancel_one(sim, operation, false);
            count++;
        }
    }
    while (!sim_list_empty(&seen)) {
        struct sim_link *link = seen.next;
        sim_list_remove(link);
        sim_list_append(&object->operations, link);
    }
    sim_object_release(object);
    return count;
}

int sim_cancel(struct sim *sim, const struct sim_operation *cancel)
{
    if (cancel->cancel_flags & IORING_ASYNC_CANCEL_FD)
        return cancel_by_object(sim, cancel);
    return cancel_by_token(sim, cancel);
}
