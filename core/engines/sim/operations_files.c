// The operations on files and on the wake descriptor.
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <unistd.h>

#include "kernel.h"

static bool operations_files_ready(struct sim *sim, const struct sim_operation *operation)
{
    (void)sim;
    return operation->object && operation->object->kind == SIM_COUNTER &&
           container_of(operation->object, struct sim_counter, object)->value;
}

static int operations_files_prepare(struct sim *sim, struct sim_operation *operation,
                                    const struct io_uring_sqe *sqe)
{
    (void)sim;
    operation->one = (struct iovec){ (void *)(uintptr_t)sqe->addr, sqe->len };
    operation->offset = sqe->off;
    return operation->object->kind == SIM_SOCKET ? -EINVAL : 0;
}

// eventfd_read(): all of the count, which is zero afterwards.
static int operations_files_read_counter(const struct sim_operation *operation)
{
    struct sim_counter *counter = container_of(operation->object, struct sim_counter, object);
    if (operation->one.iov_len < sizeof counter->value)
        return -EINVAL; // UNTESTED: the engine never asks for that
    if (!counter->value)
        return SIM_AGAIN;
    memcpy(operation->one.iov_base, &counter->value, sizeof counter->value);
    counter->value = 0;
    return sizeof counter->value;
}

static struct sim_node *operations_files_node(const struct sim_operation *operation)
{
    return container_of(operation->object, struct sim_file, object)->node;
}

// A file of the machine takes the same faults.
static int operations_files_on_machine(struct sim *sim, const struct sim_operation *operation,
                                       bool write)
{
    int fd = container_of(operation->object, struct sim_machine_file, object)->fd;
    size_t size = sim_shortened(sim, SIM_FILE_SHORT, operation->one.iov_len);
    ssize_t count = write ? pwrite(fd, operation->one.iov_base, size, (off_t)operation->offset)
                          : pread(fd, operation->one.iov_base, size, (off_t)operation->offset);
    return count < 0 ? -errno : (int)count;
}

static int operations_files_read(struct sim *sim, struct sim_operation *operation)
{
    if (operation->object->kind == SIM_COUNTER)
        return operations_files_read_counter(operation);
    if (operation->object->kind == SIM_MACHINE)
        return operations_files_on_machine(sim, operation, false);
    return (int)sim_node_read(sim, operations_files_node(operation), &operation->one,
                              operation->offset);
}

static int operations_files_write(struct sim *sim, struct sim_operation *operation)
{
    if (operation->object->kind == SIM_COUNTER)
        return -EINVAL; // UNTESTED: the engine never asks for that
    if (operation->object->kind == SIM_MACHINE)
        return operations_files_on_machine(sim, operation, true);
    return (int)sim_node_write(sim, operations_files_node(operation), &operation->one,
                               operation->offset);
}

// io_openat2_prep(): the path and the wishes are copied, the directory is looked up later.
static int operations_files_prepare_open(struct sim *sim, struct sim_operation *operation,
                                         const struct io_uring_sqe *sqe)
{
    (void)sim;
    const struct open_how *how = (const struct open_how *)(uintptr_t)sqe->off;
    if (sqe->len != sizeof *how)
        return -EINVAL; // UNTESTED: the engine never asks for that
    operation->fd = sqe->fd;
    operation->open_flags = how->flags;
    operation->open_mode = how->mode;
    operation->open_resolve = how->resolve;
    operation->path = sim_copy_text((const char *)(uintptr_t)sqe->addr);
    return 0;
}

// io_openat2(): with the names in memory at once, otherwise by a worker.
static bool operations_files_open_waits(struct sim *sim, const struct sim_operation *operation)
{
    (void)operation;
    return sim_strikes(sim, SIM_FILE_COLD);
}

static int operations_files_open(struct sim *sim, struct sim_operation *operation)
{
    return sim_call_open(sim, operation->fd, operation->path, operation->open_flags,
                         operation->open_mode, operation->open_resolve);
}

const struct sim_opcode sim_opcode_read = {
    .name = "read",
    .prepare = operations_files_prepare,
    .run = operations_files_read,
    .ready = operations_files_ready,
    .needs_object = true,
};

const struct sim_opcode sim_opcode_write = {
    .name = "write",
    .prepare = operations_files_prepare,
    .run = operations_files_write,
    .ready = operations_files_ready,
    .needs_object = true,
};

const struct sim_opcode sim_opcode_open = {
    .name = "open",
    .prepare = operations_files_prepare_open,
    .run = operations_files_open,
    .ready = operations_files_ready,
    .waits = operations_files_open_waits,
};
