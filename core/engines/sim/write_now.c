// What the loop writes itself to a file in memory: a slice, and what waits in a socket behind it.
#include <errno.h>
#include <stdlib.h>

#include "kernel.h"

enum { WRITE_NOW_NS = 20000 };

bool sim_file_in_memory(void *state, int file)
{
    (void)file;
    return sim_random(state, 2);
}

// All of it: a short write is gone on with.
static int64_t write_all(struct sim *sim, int file, const char *data, size_t size, uint64_t offset)
{
    size_t done = 0;
    while (done < size) {
        struct iovec rest = { .iov_base = (char *)data + done, .iov_len = size - done };
        int64_t count = sim_call_write(sim, file, &rest, 1, offset + done);
        if (count <= 0)
            return count ? count : -EIO;
        done += (size_t)count;
    }
    return (int64_t)size;
}

// What waits, or less of it. Its end or error stays there for the next receive.
static int64_t write_waiting(struct sim *sim, struct sim_socket *socket, int file, uint64_t offset,
                             size_t size)
{
    size_t part = socket->in.size < size ? socket->in.size : size;
    if (!part)
        return 0;
    char *data = sim_allocate(part, 1);
    int64_t count = sim_socket_read(socket, data, sim_shortened(sim, SIM_FILE_SHORT, part));
    count = write_all(sim, file, data, (size_t)count, offset);
    free(data);
    return count;
}

int64_t sim_write_now(void *state, struct system_pipe *pipe, int fd, struct weir_slice slice,
                      int file, uint64_t offset, size_t size)
{
    struct sim *sim = state;
    (void)pipe;
    sim_spend(sim, WRITE_NOW_NS);
    int64_t written = write_all(sim, file, slice.data, slice.size, offset);
    if (written < 0 || fd < 0)
        return written;
    struct sim_object *object = sim_descriptor(sim, fd);
    if (!object || object->kind != SIM_SOCKET) {
        // UNTESTED: what this counts is a mistake, and none is left
        sim->counts.bad_descriptors++;
        return -EBADF; // UNTESTED: as above
    }
    int64_t more = write_waiting(sim, container_of(object, struct sim_socket, object), file,
                                 offset + slice.size, size - slice.size);
    return more < 0 ? more : written + more;
}
