// The few calls that the core makes beside its ring: the clock, and sockets.
#include <errno.h>
#include <unistd.h>

#include "kernel.h"

enum { SYSTEM_CLOCK_NS = 100, SYSTEM_JOB_NS = 50000, SYSTEM_BACKLOG = 4096 };

// Reading the clock takes time too: whoever watches it until a moment has come gets there.
static uint64_t system_clock(void *state)
{
    struct sim *sim = state;
    sim_spend(sim, SYSTEM_CLOCK_NS);
    return sim->now_ns;
}

static void system_options(struct sim_socket *socket, const struct weir_socket_options *options)
{
    // sock_setsockopt() doubles what it is told.
    if (options->send_buffer > 0)
        socket->send_buffer = options->send_buffer < 2304 ? 4608 : 2 * (size_t)options->send_buffer;
    if (options->receive_buffer > 0)
        socket->receive_buffer =
            options->receive_buffer < 1152 ? 2304 : 2 * (size_t)options->receive_buffer;
}

static int system_open(struct sim *sim, struct sim_socket *socket)
{
    int fd = sim_descriptor_open(sim, &socket->object);
    if (fd < 0)
        sim_object_release(&socket->object);
    return fd;
}

static int system_listen(void *state, const struct weir_address *address,
                         const struct weir_socket_options *options,
                         struct weir_address *ret_address)
{
    struct sim_socket *socket = sim_socket_create(state);
    system_options(socket, options);
    int error = sim_socket_bind(socket, address);
    if (error) {
        sim_object_release(&socket->object);
        return error;
    }
    sim_socket_listen(socket, options->backlog > 0 ? options->backlog : SYSTEM_BACKLOG);
    *ret_address = socket->local;
    return system_open(state, socket);
}

static int system_socket(void *state, const struct weir_address *peer,
                         const struct weir_address *local,
                         const struct weir_socket_options *options)
{
    struct sim_socket *socket = sim_socket_create(state);
    (void)peer;
    system_options(socket, options);
    socket->non_blocking = true;
    int error = local ? sim_socket_bind(socket, local) : 0;
    if (error) {
        sim_object_release(&socket->object); // UNTESTED: as below
        return error;                        // UNTESTED: the core never asks for that
    }
    return system_open(state, socket);
}

static void system_close(void *state, int fd)
{
    struct sim_object *file = sim_machine_file(state, fd);
    if (!file) {
        sim_descriptor_close(state, fd);
        return;
    }
    sim_object_release(file);
    close(fd);
}

// NULL: the core asks for what is closed, and may be somebody else's next time.
static const struct sim_socket *system_asked_socket(struct sim *sim, int fd)
{
    const struct sim_object *object = sim_descriptor(sim, fd);
    if (object && object->kind == SIM_SOCKET)
        return container_of(object, struct sim_socket, object);
    // UNTESTED: what this counts is a mistake, and none is left
    sim->counts.bad_descriptors++;
    return NULL; // UNTESTED: as above
}

static int system_local_address(void *state, int fd, struct weir_address *ret_address)
{
    const struct sim_socket *socket = system_asked_socket(state, fd);
    if (!socket)
        return -EBADF; // UNTESTED: as above
    *ret_address = socket->local;
    return 0;
}

// Segments are of any size here, and none waits for more.
static int system_uncork(void *state, int fd)
{
    return system_asked_socket(state, fd) ? 0 : -EBADF;
}

// A simulated unix socket has no file: its name goes with it.
// UNTESTED: no simulated address is a path
static void system_unlink(void *state, const char *path)
{
    (void)state;
    (void)path;
}

// A job runs some time later, on the loop's own thread.
static void system_job_due(void *argument)
{
    struct weir_operation *operation = argument;
    jobs_run(operation->loop, operation);
}

static int system_job(void *state, struct weir_operation *operation)
{
    struct sim *sim = state;
    if (!operation->owed && sim_strikes(sim, SIM_JOB_REFUSED))
        return -EAGAIN;
    uint64_t delay_ns = 1 + sim_random(sim, SYSTEM_JOB_NS);
    if (sim_strikes(sim, SIM_LATE)) // others come first
        delay_ns += sim_random(sim, sim->faults.late_max_ns);
    sim_at(sim, delay_ns, system_job_due, operation);
    return 0;
}

// A loop that broke did not wait for them.
static void system_end_jobs(void *state)
{
    sim_run_now(state, system_job_due);
}

const struct system sim_system = {
    .clock = system_clock,
    .listen = system_listen,
    .socket = system_socket,
    .close = system_close,
    .local_address = system_local_address,
    .uncork = system_uncork,
    .unlink = system_unlink,
    .file_cached = sim_file_cached,
    .sendfile = sim_sendfile,
    .file_in_memory = sim_file_in_memory,
    .write_now = sim_write_now,
    .job = system_job,
    .end_jobs = system_end_jobs,
};
