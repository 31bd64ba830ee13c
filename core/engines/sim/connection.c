// How connections come about: addresses, listeners, backlogs, and what a peer may do.
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "kernel.h"

// Of a connection over loopback, there and back.
enum { CONNECTION_LATENCY_NS = 20000, CONNECTION_PORT_FIRST = 32768 };

// --- Addresses -----------------------------------------------------------------------------------

static in_port_t *connection_port(struct weir_address *address)
{
    if (address->any.sa_family == AF_INET)
        return &address->in.sin_port;
    // UNTESTED: no loop or client does that
    return address->any.sa_family == AF_INET6 ? &address->in6.sin6_port : NULL;
}

static bool connection_wildcard(const struct weir_address *address)
{
    if (address->any.sa_family == AF_INET)
        return address->in.sin_addr.s_addr == htonl(INADDR_ANY);
    // UNTESTED: no simulated address is of IPv6
    return address->any.sa_family == AF_INET6 &&
           memcmp(&address->in6.sin6_addr, &in6addr_any, sizeof in6addr_any) == 0;
}

// Whether packets to `to` reach a socket that is bound to `bound`.
static bool connection_reaches(const struct weir_address *bound, const struct weir_address *to)
{
    if (bound->any.sa_family != to->any.sa_family)
        return false; // UNTESTED: no loop or client does that
    if (bound->any.sa_family == AF_UNIX)
        // UNTESTED: no loop or client does that
        return strcmp(bound->un.sun_path, to->un.sun_path) == 0;
    if (bound->any.sa_family == AF_INET)
        return bound->in.sin_port == to->in.sin_port &&
               (connection_wildcard(bound) || bound->in.sin_addr.s_addr == to->in.sin_addr.s_addr);
    // UNTESTED: no simulated address is of IPv6
    return bound->in6.sin6_port == to->in6.sin6_port &&
           (connection_wildcard(bound) ||
            memcmp(&bound->in6.sin6_addr, &to->in6.sin6_addr, sizeof to->in6.sin6_addr) == 0);
}

struct sim_socket *sim_socket_bound(const struct sim *sim, const struct weir_address *address)
{
    for (struct sim_link *link = sim->bound.next; link != &sim->bound; link = link->next) {
        struct sim_socket *socket = container_of(link, struct sim_socket, bound);
        if (connection_reaches(&socket->local, address))
            return socket;
    }
    return NULL;
}

static void connection_choose_port(struct sim *sim, struct weir_address *address)
{
    in_port_t *port = connection_port(address);
    if (!port || *port)
        return;
    do {
        *port = htons(sim->port_next);
        // UNTESTED: counted on its second line
        sim->port_next =
            sim->port_next == UINT16_MAX ? CONNECTION_PORT_FIRST : (uint16_t)(sim->port_next + 1);
    } while (sim_socket_bound(sim, address));
}

int sim_socket_bind(struct sim_socket *socket, const struct weir_address *address)
{
    struct sim *sim = socket->object.sim;
    struct weir_address chosen = *address;
    in_port_t *port = connection_port(&chosen);
    if (!(port && *port == 0) && sim_socket_bound(sim, &chosen))
        return -EADDRINUSE;
    connection_choose_port(sim, &chosen);
    socket->local = chosen;
    socket->state = SIM_SOCKET_BOUND;
    sim_list_append(&sim->bound, &socket->bound);
    return 0;
}

// --- Listening -----------------------------------------------------------------------------------

int sim_socket_listen(struct sim_socket *socket, int backlog)
{
    socket->state = SIM_SOCKET_LISTENING;
    // sk_acceptq_is_full(): one more than it was told.
    socket->backlog_max = (uint32_t)backlog + 1;
    return 0;
}

static size_t connection_buffers(const struct sim_socket *sender, const struct sim_socket *receiver)
{
    return sender->send_buffer + receiver->receive_buffer;
}

// The other end comes into being in the backlog; the caller is connected from now on.
static void connection_establish(struct sim_socket *listener, struct sim_socket *caller)
{
    struct sim_socket *other = sim_socket_create(listener->object.sim);
    other->local = caller->remote;
    other->remote = caller->local;
    other->send_buffer = listener->send_buffer;
    other->receive_buffer = listener->receive_buffer;
    other->peer = caller;
    caller->peer = other;
    caller->in_max = connection_buffers(other, caller);
    other->in_max = connection_buffers(caller, other);
    caller->state = other->state = SIM_SOCKET_CONNECTED;
    sim_list_append(&listener->backlog, &other->waiting);
    listener->backlog_count++;
    sim_trace(listener->object.sim, "connects", caller->number, (int64_t)other->number);
    sim_object_wake(&caller->object);
    sim_object_wake(&listener->object);
}

static void connection_admit_callers(struct sim_socket *listener)
{
    while (!sim_list_empty(&listener->callers) && listener->backlog_count < listener->backlog_max) {
        struct sim_socket *caller =
            container_of(listener->callers.next, struct sim_socket, waiting);
        sim_list_remove(&caller->waiting);
        connection_establish(listener, caller);
    }
}

struct sim_socket *sim_socket_accept(struct sim_socket *listener)
{
    if (sim_list_empty(&listener->backlog))
        return NULL;
    struct sim_socket *socket = container_of(listener->backlog.next, struct sim_socket, waiting);
    sim_list_remove(&socket->waiting);
    listener->backlog_count--;
    connection_admit_callers(listener);
    return socket;
}

static void connection_refuse(struct sim_socket *caller)
{
    // UNTESTED: nobody gives up that early
    if (caller->state != SIM_SOCKET_CONNECTING)
        return;
    caller->state = SIM_SOCKET_DEAD;
    caller->error = -ECONNREFUSED;
    sim_trace(caller->object.sim, "refused", caller->number, 0);
    sim_object_wake(&caller->object);
}

// inet_csk_listen_stop(): who waits in the backlog is reset, who still calls is refused.
void sim_socket_unlisten(struct sim_socket *socket)
{
    if (socket->state != SIM_SOCKET_LISTENING && socket->state != SIM_SOCKET_BOUND)
        return;
    sim_list_remove(&socket->bound);
    socket->state = SIM_SOCKET_NEW;
    socket->backlog_count = 0;
    while (!sim_list_empty(&socket->backlog)) {
        struct sim_socket *other = container_of(socket->backlog.next, struct sim_socket, waiting);
        sim_list_remove(&other->waiting);
        if (other->peer)
            sim_socket_die(other->peer, -ECONNRESET);
        sim_object_release(&other->object);
    }
    while (!sim_list_empty(&socket->callers)) {
        struct sim_socket *caller = container_of(socket->callers.next, struct sim_socket, waiting);
        sim_list_remove(&caller->waiting);
        connection_refuse(caller);
    }
}

// --- Connecting ----------------------------------------------------------------------------------

static void connection_arrives(void *argument)
{
    struct sim_socket *caller = argument;
    // UNTESTED: nobody gives up that early
    if (caller->state != SIM_SOCKET_CONNECTING)
        return;
    struct sim_socket *listener = sim_socket_bound(caller->object.sim, &caller->remote);
    if (!listener || listener->state != SIM_SOCKET_LISTENING) {
        connection_refuse(caller);
        return;
    }
    sim_list_append(&listener->callers, &caller->waiting);
    connection_admit_callers(listener);
}

// 192.0.2.0/24 (RFC 5737) is a network that swallows every packet; to 240.0.0.0/4 there is no way.
static int connection_route(const struct weir_address *address, bool *ret_silent)
{
    uint32_t host = 0;
    if (address->any.sa_family == AF_INET)
        host = ntohl(address->in.sin_addr.s_addr);
    *ret_silent = host >> 8 == 0xc00002;
    return host >> 28 == 15 ? -ENETUNREACH : 0;
}

static void connection_local(struct sim_socket *socket)
{
    if (!socket->local.size) {
        socket->local = socket->remote;
        if (connection_port(&socket->local))
            *connection_port(&socket->local) = 0;
    } else if (connection_wildcard(&socket->local)) {
        // UNTESTED: clients bind to no wildcard
        in_port_t port = *connection_port(&socket->local);
        socket->local = socket->remote;          // UNTESTED: clients bind to no wildcard
        *connection_port(&socket->local) = port; // UNTESTED: clients bind to no wildcard
    }
    // UNTESTED: no simulated address is a path
    if (socket->local.any.sa_family == AF_UNIX) {
        socket->local = (struct weir_address){ .size = sizeof(sa_family_t) };
        socket->local.any.sa_family = AF_UNIX;
    }
    connection_choose_port(socket->object.sim, &socket->local);
}

int sim_socket_connect(struct sim_socket *socket, const struct weir_address *address)
{
    bool silent;
    if (socket->state != SIM_SOCKET_NEW && socket->state != SIM_SOCKET_BOUND)
        // UNTESTED: no loop or client does that
        return socket->state == SIM_SOCKET_CONNECTING ? -EALREADY : -EISCONN;
    int error = connection_route(address, &silent);
    if (error)
        return error; // UNTESTED: no loop or client does that
    sim_list_remove(&socket->bound);
    socket->remote = *address;
    connection_local(socket);
    socket->state = SIM_SOCKET_CONNECTING;
    sim_trace(socket->object.sim, "calls", socket->number, 0);
    if (!silent)
        sim_at(socket->object.sim, CONNECTION_LATENCY_NS, connection_arrives, socket);
    return -EINPROGRESS;
}

// --- Peers ---------------------------------------------------------------------------------------

static size_t connection_buffer(int size, size_t otherwise)
{
    // sock_setsockopt() doubles what it is told, and has a least.
    if (size <= 0)
        return otherwise;
    return size < 2304 ? 4608 : 2 * (size_t)size;
}

int sim_peer_connect(struct sim *sim, const struct weir_address *address,
                     const struct weir_address *local, int send_buffer, int receive_buffer,
                     struct sim_socket **ret_peer)
{
    struct sim_socket *peer = sim_socket_create(sim);
    peer->send_buffer = connection_buffer(send_buffer, peer->send_buffer);
    peer->receive_buffer = connection_buffer(receive_buffer, peer->receive_buffer);
    if (local)
        peer->local = *local;
    int error = sim_socket_connect(peer, address);
    if (error != -EINPROGRESS) {
        sim_object_release(&peer->object); // UNTESTED: as below
        return error;                      // UNTESTED: no loop or client does that
    }
    *ret_peer = peer;
    return 0;
}

int sim_peer_connected(struct sim_socket *peer)
{
    if (peer->state == SIM_SOCKET_CONNECTING)
        return -EINPROGRESS;
    return peer->state == SIM_SOCKET_DEAD ? peer->error : 0;
}

int64_t sim_peer_write(struct sim_socket *peer, const void *data, size_t size)
{
    return sim_socket_write(peer, data, size);
}

int64_t sim_peer_read(struct sim_socket *peer, void *data, size_t size)
{
    return sim_socket_read(peer, data, size);
}

void sim_peer_half_close(struct sim_socket *peer)
{
    (void)sim_socket_shutdown(peer);
}

static void connection_cut(struct sim_socket *peer, int error)
{
    struct sim_socket *other = peer->peer;
    if (!other)
        return;
    peer->peer = NULL;
    other->peer = NULL;
    // tcp_reset(): who knows of our end already is told EPIPE.
    sim_socket_die(other, error == -ECONNRESET && other->in_ended ? -EPIPE : error);
}

void sim_peer_close(struct sim_socket *peer, bool reset)
{
    if (reset)
        connection_cut(peer, -ECONNRESET);
    sim_object_release(&peer->object);
}

void sim_peer_vanish(struct sim_socket *peer)
{
    connection_cut(peer, -ETIMEDOUT);
    sim_object_release(&peer->object);
}

int sim_peer_listen(struct sim *sim, const struct weir_address *address, int backlog,
                    struct sim_socket **ret_peer, struct weir_address *ret_address)
{
    struct sim_socket *peer = sim_socket_create(sim);
    int error = sim_socket_bind(peer, address);
    if (!error && backlog >= 0)
        error = sim_socket_listen(peer, backlog);
    if (error) {
        sim_object_release(&peer->object); // UNTESTED: as below
        return error;                      // UNTESTED: no loop or client does that
    }
    *ret_address = peer->local;
    *ret_peer = peer;
    return 0;
}

int sim_peer_accept(struct sim_socket *listener, struct sim_socket **ret_peer)
{
    struct sim_socket *peer = sim_socket_accept(listener);
    if (!peer)
        return -EAGAIN;
    *ret_peer = peer;
    return 0;
}
