// The server of weir-rungs. A connection holds at most what one round of receives brought: it
// receives again only when all of that is sent, so memory is bounded and the peer feels it.
#include "rungs.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { RUNG_EVENTS_MAX = 64, RUNG_BACKLOG = 4096 };

struct rung_connection {
    int fd;
    bool waits; // for a writable socket
    bool ended; // the peer sends no more
    char *kept; // what was not sent yet; NULL: nothing
    size_t kept_size, kept_sent;
    struct rung_connection *next, **link; // of all
};

struct rung_server {
    struct rung_habits habits;
    int epoll, listener, signals;
    struct rung_connection *connections;
    // Shared by all connections: what does not leave at once is copied out.
    char blocks[RUNG_BLOCKS_MAX][RUNG_BLOCK];
};

static int rung_watch(struct rung_server *server, int operation, int fd, uint32_t events,
                      void *what)
{
    struct epoll_event event = { .events = events, .data.ptr = what };
    return epoll_ctl(server->epoll, operation, fd, &event) ? -errno : 0;
}

static int rung_listen(struct rung_server *server, const struct sockaddr_in *address)
{
    int on = 1;
    server->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (server->listener < 0 ||
        setsockopt(server->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) ||
        bind(server->listener, (const struct sockaddr *)address, sizeof *address) ||
        listen(server->listener, RUNG_BACKLOG))
        return -errno;
    return rung_watch(server, EPOLL_CTL_ADD, server->listener, EPOLLIN, &server->listener);
}

static int rung_take_signals(struct rung_server *server)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    if (sigprocmask(SIG_BLOCK, &set, NULL))
        return -errno;
    server->signals = signalfd(-1, &set, SFD_CLOEXEC);
    if (server->signals < 0)
        return -errno;
    return rung_watch(server, EPOLL_CTL_ADD, server->signals, EPOLLIN, &server->signals);
}

int rung_server_open(const struct rung_habits *habits, const struct sockaddr_in *address,
                     struct rung_server **ret_server)
{
    struct rung_server *server = calloc(1, sizeof *server);
    if (!server)
        return -ENOMEM;
    server->habits = *habits;
    server->listener = server->signals = -1;
    server->epoll = epoll_create1(EPOLL_CLOEXEC);
    int result = server->epoll < 0 ? -errno : rung_listen(server, address);
    if (!result)
        result = rung_take_signals(server);
    if (result) {
        rung_server_close(server);
        return result;
    }
    *ret_server = server;
    return 0;
}

void rung_server_address(const struct rung_server *server, char ret_text[RUNG_ADDRESS_SIZE])
{
    struct sockaddr_in address = { 0 };
    socklen_t size = sizeof address;
    char host[INET_ADDRSTRLEN] = "";
    getsockname(server->listener, (struct sockaddr *)&address, &size);
    inet_ntop(AF_INET, &address.sin_addr, host, sizeof host);
    snprintf(ret_text, RUNG_ADDRESS_SIZE, "%s:%u", host, ntohs(address.sin_port));
}

// --- Connections ---------------------------------------------------------------------------------

static void rung_drop(struct rung_connection *connection)
{
    *connection->link = connection->next;
    if (connection->next)
        connection->next->link = connection->link;
    close(connection->fd);
    free(connection->kept);
    free(connection);
}

// What a connection is registered for while nothing of it waits for a writable socket.
static uint32_t rung_interest(const struct rung_habits *habits)
{
    if (habits->edge)
        return EPOLLIN | EPOLLOUT | EPOLLET;
    return habits->once ? EPOLLIN | EPOLLONESHOT : EPOLLIN;
}

static void rung_add(struct rung_server *server, int fd)
{
    struct rung_connection *connection = calloc(1, sizeof *connection);
    int on = 1;
    if (!connection) {
        close(fd);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    connection->fd = fd;
    connection->next = server->connections;
    connection->link = &server->connections;
    if (connection->next)
        connection->next->link = &connection->next;
    server->connections = connection;
    if (rung_watch(server, EPOLL_CTL_ADD, fd, rung_interest(&server->habits), connection))
        rung_drop(connection);
}

static void rung_accept(struct rung_server *server)
{
    do {
        int fd = accept4(server->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        rung_add(server, fd);
    } while (server->habits.accepts_all);
}

// Level-triggered, the interest must follow what is waited for. False: the connection is over.
static bool rung_want(struct rung_server *server, struct rung_connection *connection, bool waits)
{
    if (connection->waits == waits)
        return true;
    connection->waits = waits;
    if (server->habits.edge || server->habits.once)
        return true;
    return !rung_watch(server, EPOLL_CTL_MOD, connection->fd, waits ? EPOLLOUT : EPOLLIN,
                       connection);
}

// Arms again what its last event has disarmed. False: the connection is over.
static bool rung_arm(struct rung_server *server, struct rung_connection *connection)
{
    uint32_t events = connection->waits ? EPOLLOUT : EPOLLIN;
    return !server->habits.once ||
           !rung_watch(server, EPOLL_CTL_MOD, connection->fd, events | EPOLLONESHOT, connection);
}

// Sends from the blocks what the socket takes, and keeps the rest. False: the connection is over.
static bool rung_send(struct rung_server *server, struct rung_connection *connection,
                      struct iovec *pieces, int count, size_t size)
{
    ssize_t sent = 0;
    if (server->habits.tries_first) {
        if (count == 1)
            sent = send(connection->fd, pieces->iov_base, size, MSG_NOSIGNAL);
        else
            sent = writev(connection->fd, pieces, count);
        if (sent < 0 && errno != EAGAIN)
            return false;
        if (sent < 0)
            sent = 0;
    }
    if ((size_t)sent == size)
        return true;
    connection->kept = malloc(size - (size_t)sent);
    if (!connection->kept)
        return false;
    connection->kept_size = 0;
    connection->kept_sent = 0;
    for (int i = 0; i < count; i++) {
        size_t skipped = (size_t)sent < pieces[i].iov_len ? (size_t)sent : pieces[i].iov_len;
        size_t left = pieces[i].iov_len - skipped;
        memcpy(connection->kept + connection->kept_size, (char *)pieces[i].iov_base + skipped,
               left);
        connection->kept_size += left;
        sent -= (ssize_t)skipped;
    }
    return rung_want(server, connection, true);
}

// Sends what was kept. False: the connection is over.
static bool rung_flush(struct rung_server *server, struct rung_connection *connection)
{
    ssize_t sent = send(connection->fd, connection->kept + connection->kept_sent,
                        connection->kept_size - connection->kept_sent, MSG_NOSIGNAL);
    if (sent < 0)
        return errno == EAGAIN;
    connection->kept_sent += (size_t)sent;
    if (connection->kept_sent < connection->kept_size)
        return true;
    free(connection->kept);
    connection->kept = NULL;
    return rung_want(server, connection, false);
}

// One round: fills up to `blocks` blocks and answers. `ret_more` tells whether more may be there.
static bool rung_round(struct rung_server *server, struct rung_connection *connection,
                       bool *ret_more)
{
    struct iovec pieces[RUNG_BLOCKS_MAX];
    int count = 0;
    size_t size = 0;
    bool more = true;
    while (more && count < server->habits.blocks) {
        ssize_t got = recv(connection->fd, server->blocks[count], RUNG_BLOCK, 0);
        if (got < 0 && errno != EAGAIN)
            return false;
        if (got == 0)
            connection->ended = true;
        // A short receive has emptied the socket: no further call is needed to see that.
        more = server->habits.until_again ? got > 0 : got == RUNG_BLOCK;
        if (got > 0) {
            pieces[count] = (struct iovec){ server->blocks[count], (size_t)got };
            size += (size_t)got;
            count++;
        }
    }
    *ret_more = more;
    return count == 0 || rung_send(server, connection, pieces, count, size);
}

static bool rung_serve(struct rung_server *server, struct rung_connection *connection)
{
    if (connection->kept && !rung_flush(server, connection))
        return false;
    bool more = true;
    while (more && !connection->kept && !connection->ended) {
        if (!rung_round(server, connection, &more))
            return false;
        // Level-triggered, the next event brings the rest.
        if (!server->habits.edge)
            break;
    }
    return (!connection->ended || connection->kept) && rung_arm(server, connection);
}

int rung_server_run(struct rung_server *server)
{
    struct epoll_event events[RUNG_EVENTS_MAX];
    for (;;) {
        int count = epoll_wait(server->epoll, events, RUNG_EVENTS_MAX, -1);
        if (count < 0 && errno != EINTR)
            return -errno;
        for (int i = 0; i < count; i++) {
            void *what = events[i].data.ptr;
            if (what == &server->signals)
                return 0;
            if (what == &server->listener)
                rung_accept(server);
            else if (!rung_serve(server, what))
                rung_drop(what);
        }
    }
}

void rung_server_close(struct rung_server *server)
{
    if (!server)
        return;
    while (server->connections)
        rung_drop(server->connections);
    int fds[] = { server->listener, server->signals, server->epoll };
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    free(server);
}
