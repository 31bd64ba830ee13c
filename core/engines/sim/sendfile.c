// What the engine needs to send files beside its ring: descriptors for sockets of the ring's table,
// polls for room, sendfile(2), and the question whether a file is in memory.
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernel.h"

enum { SENDFILE_NS = 2000, SENDFILE_CACHED_NS = 500, SENDFILE_MAX = 1 << 20 };

// --- Operations of the ring ----------------------------------------------------------------------

static int sendfile_prepare_install(struct sim *sim, struct sim_operation *operation,
                                    const struct io_uring_sqe *sqe)
{
    (void)sim;
    (void)operation;
    // io_install_fixed_fd_prep(): from the table only.
    if (!(sqe->flags & IOSQE_FIXED_FILE) || sqe->off || sqe->addr || sqe->len || sqe->buf_index)
        return -EINVAL; // UNTESTED: the engine never asks for that
    return sqe->install_fd_flags ? -EINVAL : 0;
}

static int sendfile_install(struct sim *sim, struct sim_operation *operation)
{
    if (sim_descriptors_full(sim))
        return -EMFILE;
    operation->object->references++;
    return sim_descriptor_open(sim, operation->object);
}

static int sendfile_prepare_poll(struct sim *sim, struct sim_operation *operation,
                                 const struct io_uring_sqe *sqe)
{
    (void)sim;
    if (sqe->len || sqe->poll32_events != POLLOUT)
        return -EINVAL; // UNTESTED: the engine never asks for that
    return operation->object->kind == SIM_SOCKET ? 0 : -ENOTSOCK;
}

static bool sendfile_poll_ready(struct sim *sim, const struct sim_operation *operation)
{
    (void)sim;
    return sim_socket_writable(container_of(operation->object, struct sim_socket, object));
}

static int sendfile_poll(struct sim *sim, struct sim_operation *operation)
{
    return sendfile_poll_ready(sim, operation) ? POLLOUT : SIM_AGAIN;
}

// UNTESTED: for operations that never wait
static bool sendfile_never_ready(struct sim *sim, const struct sim_operation *operation)
{
    (void)sim;
    (void)operation;
    return false; // UNTESTED: the engine never asks for that
}

const struct sim_opcode sim_opcode_install = {
    .name = "install",
    .prepare = sendfile_prepare_install,
    .run = sendfile_install,
    .ready = sendfile_never_ready,
    .needs_object = true,
    .at_once = true,
};

const struct sim_opcode sim_opcode_poll = {
    .name = "poll",
    .prepare = sendfile_prepare_poll,
    .run = sendfile_poll,
    .ready = sendfile_poll_ready,
    .needs_object = true,
};

// --- System calls --------------------------------------------------------------------------------

enum system_cached sim_file_cached(void *state, int file, uint64_t offset)
{
    struct sim *sim = state;
    (void)file;
    (void)offset;
    sim_spend(sim, SENDFILE_CACHED_NS);
    if (!sim_strikes(sim, SIM_FILE_COLD))
        return SYSTEM_CACHED_NOW;
    return sim_random(sim, 8) ? SYSTEM_CACHED_NOT : SYSTEM_CACHED_UNKNOWN;
}

// What the file has there, at most `size` bytes.
static int64_t sendfile_read(struct sim *sim, int file, uint64_t offset, char *data, size_t size)
{
    const struct sim_object *object = sim_descriptor(sim, file);
    if (!object) {
        ssize_t count = pread(file, data, size, (off_t)offset);
        return count < 0 ? -errno : count;
    }
    if (object->kind != SIM_FILE)
        return -EINVAL; // UNTESTED: the engine never asks for that
    const struct sim_node *node = container_of(object, struct sim_file, object)->node;
    if (sim_strikes(sim, SIM_FILE_ERROR))
        return -EIO;
    if (offset >= node->size)
        return 0; // UNTESTED: the engine never asks for that
    size_t left = node->size - (size_t)offset, part = size < left ? size : left;
    memcpy(data, node->data + offset, part);
    return (int64_t)part;
}

int64_t sim_sendfile(void *state, enum system_signal *signal, int fd, int file, uint64_t offset,
                     size_t size)
{
    struct sim *sim = state;
    struct sim_object *object = sim_descriptor(sim, fd);
    *signal = SYSTEM_SIGNAL_HARMLESS;
    sim_spend(sim, SENDFILE_NS);
    if (!object || object->kind != SIM_SOCKET) {
        // UNTESTED: what this counts is a mistake, and none is left
        sim->counts.bad_descriptors++;
        return -EBADF; // UNTESTED: the engine never asks for that
    }
    struct sim_socket *socket = container_of(object, struct sim_socket, object);
    // The thread would wait, and with it the loop.
    if (!socket->non_blocking)
        // UNTESTED: what this counts is a mistake, and none is left
        sim->counts.stuck = true;
    if (sim_strikes(sim, SIM_SEND_REFUSED))
        return -EAGAIN;
    if (sim_strikes(sim, SIM_INTERRUPT))
        return -EINTR;
    size = size < SENDFILE_MAX ? size : SENDFILE_MAX;
    char *data = sim_allocate(size, 1);
    int64_t count =
        sendfile_read(sim, file, offset, data, sim_shortened(sim, SIM_SHORT_SEND, size));
    if (count > 0)
        count = sim_socket_write(socket, data, (size_t)count);
    free(data);
    return count;
}
