// Connections: bytes from one end to the other, their end, and resets.
//
// Bytes arrive at once. What may stand between the ends is the sender's and the receiver's buffer,
// as one queue. Errors follow TCP as Linux has it: an error is told once (sock_error), bytes that
// arrived before it can still be read (tcp_recvmsg_locked looks at the queue first), and afterwards
// the socket reads as ended and writes as EPIPE.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "kernel.h"

enum { SOCKET_BUFFER = 128 * 1024 };

// --- Bytes ---------------------------------------------------------------------------------------

static void socket_bytes_grow(struct sim_bytes *bytes, size_t size)
{
    size_t capacity = bytes->capacity ? bytes->capacity : 1024;
    while (capacity < size)
        capacity *= 2;
    char *data = sim_resize(NULL, capacity, 1);
    if (bytes->size)
        memcpy(data, bytes->data + bytes->start, bytes->size);
    free(bytes->data);
    *bytes = (struct sim_bytes){ .data = data, .capacity = capacity, .size = bytes->size };
}

static void socket_bytes_put(struct sim_bytes *bytes, const void *data, size_t size)
{
    if (bytes->start + bytes->size + size > bytes->capacity) {
        // Moved to the front as long as that is cheap, otherwise to a larger place.
        if (bytes->size + size <= bytes->capacity / 2 && bytes->size <= bytes->start) {
            memcpy(bytes->data, bytes->data + bytes->start, bytes->size);
            bytes->start = 0;
        } else {
            socket_bytes_grow(bytes, 2 * (bytes->size + size));
        }
    }
    memcpy(bytes->data + bytes->start + bytes->size, data, size);
    bytes->size += size;
}

static size_t socket_bytes_take(struct sim_bytes *bytes, void *data, size_t size)
{
    size_t part = size < bytes->size ? size : bytes->size;
    memcpy(data, bytes->data + bytes->start, part);
    bytes->size -= part;
    bytes->start = bytes->size ? bytes->start + part : 0;
    return part;
}

// --- Life ----------------------------------------------------------------------------------------

struct sim_socket *sim_socket_create(struct sim *sim)
{
    struct sim_socket *socket = sim_allocate(1, sizeof *socket);
    sim_object_init(sim, &socket->object, SIM_SOCKET);
    socket->send_buffer = socket->receive_buffer = SOCKET_BUFFER;
    socket->number = ++sim->sockets_made;
    sim->counts.sockets++;
    sim_list_init(&socket->bound);
    sim_list_init(&socket->waiting);
    sim_list_init(&socket->backlog);
    sim_list_init(&socket->callers);
    return socket;
}

static bool socket_is_unix(const struct sim_socket *socket)
{
    return socket->local.any.sa_family == AF_UNIX;
}

// An end or a reset goes to the other side, and nothing ever again.
static void socket_part(struct sim_socket *socket, bool reset)
{
    struct sim_socket *peer = socket->peer;
    if (!peer)
        return;
    socket->peer = NULL;
    peer->peer = NULL;
    if (reset) {
        sim_socket_die(peer, socket_is_unix(peer) || !peer->in_ended ? -ECONNRESET : -EPIPE);
    } else if (!socket->out_ended) {
        peer->in_ended = true;
        sim_trace(peer->object.sim, "end arrives", peer->number, (int64_t)peer->in.size);
    }
    sim_object_wake(&peer->object);
}

// tcp_close(): unread bytes make it a reset.
void sim_socket_released(struct sim_socket *socket)
{
    struct sim *sim = socket->object.sim;
    sim_socket_unlisten(socket);
    sim_list_remove(&socket->waiting);
    sim_list_remove(&socket->bound);
    sim_trace(sim, "released", socket->number, (int64_t)socket->in.size);
    socket_part(socket, socket->in.size > 0);
    sim->counts.sockets--;
    sim_forget(sim, socket);
    free(socket->in.data);
    free(socket);
}

// --- Reading and writing -------------------------------------------------------------------------

static int socket_error(struct sim_socket *socket)
{
    int error = socket->error;
    socket->error = 0;
    return error;
}

int64_t sim_socket_read(struct sim_socket *socket, void *data, size_t size)
{
    if (socket->in.size) {
        size_t count = socket_bytes_take(&socket->in, data, size);
        if (socket->peer)
            sim_object_wake(&socket->peer->object);
        return (int64_t)count;
    }
    if (socket->error)
        return socket_error(socket);
    if (socket->in_ended || socket->state == SIM_SOCKET_DEAD)
        return 0;
    return socket->state == SIM_SOCKET_CONNECTED ? -EAGAIN : -ENOTCONN;
}

size_t sim_socket_room(const struct sim_socket *socket)
{
    const struct sim_socket *peer = socket->peer;
    if (!peer)
        return SOCKET_BUFFER; // UNTESTED: no loop or client does that
    return peer->in_max > peer->in.size ? peer->in_max - peer->in.size : 0;
}

// sk_stream_error(): the socket's error first, then EPIPE for good.
static int64_t socket_write_refused(struct sim_socket *socket)
{
    int error = socket_error(socket);
    return error ? error : -EPIPE;
}

// The other side's descriptor is closed: TCP learns it by the reset that answers, a unix socket
// knows.
static int64_t socket_write_to_nobody(struct sim_socket *socket, size_t size)
{
    if (socket_is_unix(socket))
        return -EPIPE; // UNTESTED: no loop or client does that
    sim_socket_die(socket, socket->in_ended ? -EPIPE : -ECONNRESET);
    return (int64_t)size;
}

int64_t sim_socket_write(struct sim_socket *socket, const void *data, size_t size)
{
    if (socket->state == SIM_SOCKET_CONNECTING)
        return -EAGAIN; // UNTESTED: no loop or client does that
    if (socket->error || socket->out_ended || socket->state != SIM_SOCKET_CONNECTED)
        return socket_write_refused(socket);
    if (!socket->peer)
        return socket_write_to_nobody(socket, size);
    size_t room = sim_socket_room(socket);
    if (!room)
        return -EAGAIN;
    size_t part = size < room ? size : room;
    socket_bytes_put(&socket->peer->in, data, part);
    sim_trace(socket->object.sim, "bytes arrive", socket->peer->number, (int64_t)part);
    sim_object_wake(&socket->peer->object);
    return (int64_t)part;
}

int sim_socket_shutdown(struct sim_socket *socket)
{
    if (socket->state != SIM_SOCKET_CONNECTED)
        return -ENOTCONN;
    if (socket->out_ended)
        return 0; // UNTESTED: no loop or client does that
    socket->out_ended = true;
    if (socket->peer) {
        socket->peer->in_ended = true;
        sim_trace(socket->object.sim, "end arrives", socket->peer->number,
                  (int64_t)socket->peer->in.size);
        sim_object_wake(&socket->peer->object);
    }
    sim_object_wake(&socket->object);
    return 0;
}

// tcp_reset(): what was not sent is gone; what arrived can be read, unless the reset overtook it.
void sim_socket_die(struct sim_socket *socket, int error)
{
    struct sim *sim = socket->object.sim;
    if (socket->state == SIM_SOCKET_DEAD)
        return;
    if (socket->in.size && sim_strikes(sim, SIM_RESET_LOSS))
        socket->in.size = sim_random(sim, socket->in.size);
    socket->state = SIM_SOCKET_DEAD;
    socket->error = error;
    sim_trace(sim, "reset arrives", socket->number, error);
    sim_object_wake(&socket->object);
}

// tcp_disconnect(): the other side is reset, and this one is as after an error of its own.
int sim_socket_disconnect(struct sim_socket *socket)
{
    if (socket_is_unix(socket))
        return -EINVAL; // UNTESTED: no loop or client does that
    socket_part(socket, true);
    socket->in.size = 0;
    if (socket->state == SIM_SOCKET_CONNECTED || socket->state == SIM_SOCKET_CONNECTING) {
        sim_list_remove(&socket->waiting);
        socket->state = SIM_SOCKET_DEAD;
        socket->error = -ECONNRESET;
        sim_object_wake(&socket->object);
    }
    return 0;
}

// --- Readiness (tcp_poll) ------------------------------------------------------------------------

bool sim_socket_readable(const struct sim_socket *socket)
{
    if (socket->state == SIM_SOCKET_LISTENING)
        return socket->backlog_count > 0;
    return socket->in.size || socket->error || socket->in_ended || socket->state == SIM_SOCKET_DEAD;
}

// sk_stream_is_writeable(): a third of the way must be free, lest each byte read wakes the sender.
bool sim_socket_writable(const struct sim_socket *socket)
{
    if (socket->state == SIM_SOCKET_CONNECTING)
        return false; // UNTESTED: no loop or client does that
    return socket->error || socket->out_ended || socket->state == SIM_SOCKET_DEAD ||
           !socket->peer || sim_socket_room(socket) >= socket->peer->in_max / 3;
}
