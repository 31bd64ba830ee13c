// The blocking engine's topology: the server's one thread accepts, and each connection gets a
// thread with a small loop of its own. The connection's record is linked in the server until the
// thread is done with everything, so that drain and stop reach it and the server outlives it.
#include "server.h"

#include "engines/immediate.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    CONNECTION_STACK = 256 * 1024,
    CONNECTION_BUFFERS = 8,
    CONNECTION_STREAMS = 64, // its own, and what its protocol opens beside it
};

struct connection {
    struct weir_server *server;
    struct connection *next, **link; // in server->connections
    struct weir_loop *loop;          // under server->mutex; NULL before and after
    struct weir_stream *stream;
    const struct weir_protocol *protocol;
    void *context;
    int fd;
    int wake_fd; // the loop's, which is made later; -1: it has it
    bool stopping;
    struct weir_address peer;
    struct weir_post begin_post, drain_post, stop_post;
};

// --- The connection's thread ---------------------------------------------------------------------

static void connection_begin(struct weir_loop *loop, struct weir_post *post)
{
    (void)loop;
    struct connection *connection = container_of(post, struct connection, begin_post);
    stream_opened(connection->stream);
    stream_settle(connection->stream);
}

static void connection_drain(struct weir_loop *loop, struct weir_post *post)
{
    struct connection *connection = container_of(post, struct connection, drain_post);
    server_drain_streams(connection->server, loop);
}

static void connection_stop(struct weir_loop *loop, struct weir_post *post)
{
    container_of(post, struct connection, stop_post)->stopping = true;
    server_abort_streams(loop);
}

// With the mutex held.
static void connection_signal(struct connection *connection)
{
    enum server_phase phase = connection->server->phase;
    if (!connection->loop || phase == SERVER_SERVING)
        return;
    weir_loop_post(connection->loop,
                   phase == SERVER_DRAINING ? &connection->drain_post : &connection->stop_post);
}

// Makes the loop and the stream; on failure the descriptor is still open.
static int connection_open(struct connection *connection, struct weir_loop **ret_loop)
{
    struct weir_server *server = connection->server;
    struct weir_loop_config config = server->config.loop;
    struct loop_base base = { .engine = &engine_blocking,
                              .engine_argument = &connection->wake_fd,
                              .system = &system_kernel };
    struct weir_loop *loop;
    config.buffer_count = CONNECTION_BUFFERS;
    config.streams_max = CONNECTION_STREAMS;
    config.confine = NULL; // a thread inherits the filters of the one that made it
    int error = loop_create_on(&config, &base, &loop);
    if (error)
        return error;
    connection->wake_fd = -1;
    error = stream_create(loop, connection->protocol, connection->context, connection->fd, false,
                          &connection->stream);
    if (error) {
        weir_loop_destroy(loop);
        return error;
    }
    loop->limit = &server->limit;
    stream_set_peer(connection->stream, &connection->peer.any, connection->peer.size);
    connection->begin_post.function = connection_begin;
    connection->drain_post.function = connection_drain;
    connection->stop_post.function = connection_stop;
    weir_loop_post(loop, &connection->begin_post);
    *ret_loop = loop;
    return 0;
}

static void connection_serve(struct connection *connection, struct weir_loop *loop)
{
    struct weir_server *server = connection->server;
    struct weir_stats stats;
    pthread_mutex_lock(&server->mutex);
    connection->loop = loop;
    connection_signal(connection);
    pthread_mutex_unlock(&server->mutex);
    while (loop->streams_open && weir_loop_turn(loop, WEIR_NEVER) >= 0) {
        if (connection->stopping)
            server_abort_streams(loop);
    }
    pthread_mutex_lock(&server->mutex);
    connection->loop = NULL;
    weir_loop_stats(loop, &stats);
    // Gauges end with the loop; the highest number of connections is the server's to know.
    stats.streams_open = stats.buffers_leased = stats.queued_bytes = 0;
    stats.streams_high = stats.buffers_high = stats.queued_high = 0;
    stats_sum(&server->retired, &stats);
    pthread_mutex_unlock(&server->mutex);
    weir_loop_destroy(loop);
}

static void connection_reset(int fd)
{
    struct linger linger = { .l_onoff = 1 };
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(fd);
}

static void connection_link(struct connection *connection)
{
    struct weir_server *server = connection->server;
    pthread_mutex_lock(&server->mutex);
    connection->next = server->connections;
    connection->link = &server->connections;
    if (connection->next)
        connection->next->link = &connection->next;
    server->connections = connection;
    if (++server->connections_count > server->connections_high)
        server->connections_high = server->connections_count;
    pthread_mutex_unlock(&server->mutex);
}

// The server may be gone as soon as the mutex is free.
static void connection_unlink(struct connection *connection)
{
    struct weir_server *server = connection->server;
    pthread_mutex_lock(&server->mutex);
    *connection->link = connection->next;
    if (connection->next)
        connection->next->link = connection->link;
    server->connections_count--;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->mutex);
    free(connection);
}

static void connection_give_host(const struct connection *connection)
{
    struct weir_server *server = connection->server;
    if (server->config.address_streams_max)
        hosts_give(&server->hosts, &connection->peer);
}

static void *connection_run(void *argument)
{
    struct connection *connection = argument;
    struct weir_server *server = connection->server;
    struct weir_loop *loop;
    int error = connection_open(connection, &loop);
    if (error) {
        server_log(server, WEIR_LOG_WARNING, "a connection is refused: %s", strerror(-error));
        connection_reset(connection->fd);
        if (connection->wake_fd >= 0)
            close(connection->wake_fd);
    } else {
        connection_serve(connection, loop);
    }
    connection_give_host(connection);
    limit_give(&server->limit);
    connection_unlink(connection);
    return NULL;
}

// --- The accepting thread ------------------------------------------------------------------------

static int connection_start(struct connection *connection)
{
    pthread_t thread;
    pthread_attr_t attributes;
    int error = pthread_attr_init(&attributes);
    // UNTESTED: glibc has nothing to fail for
    if (error)
        return -error;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, CONNECTION_STACK);
    connection_link(connection);
    error = pthread_create(&thread, &attributes, connection_run, connection);
    pthread_attr_destroy(&attributes);
    return -error;
}

// All descriptors that a connection needs are had before it has a thread: without them it waits
// with the listener, as it would in the backlog, where its thread could only reset it.
static int connection_create(int fd, struct connection **ret_connection)
{
    int wake_fd = immediate_wake_open();
    if (wake_fd < 0)
        return wake_fd;
    struct connection *connection = calloc(1, sizeof *connection);
    if (!connection) {
        close(wake_fd);
        return -ENOMEM;
    }
    connection->fd = fd;
    connection->wake_fd = wake_fd;
    *ret_connection = connection;
    return 0;
}

int server_take(struct weir_listener *listener, int fd, const struct weir_address *peer)
{
    struct weir_server *server = listener->released_context;
    struct connection *connection;
    if (server->config.address_streams_max && !hosts_take(&server->hosts, peer))
        return -ECONNREFUSED;
    int error = connection_create(fd, &connection);
    if (error) {
        // UNTESTED: the walks start servers without a limit per host
        if (server->config.address_streams_max)
            hosts_give(&server->hosts, peer);
        return error;
    }
    connection->server = server;
    connection->protocol = listener->config.protocol;
    connection->context = listener->config.context;
    connection->peer = *peer;
    error = connection_start(connection);
    if (error) {
        close(connection->wake_fd);
        connection_give_host(connection);
        connection_unlink(connection);
    }
    return error;
}

// --- What the server asks of its connections -----------------------------------------------------

void server_connections_signal(struct weir_server *server)
{
    for (struct connection *connection = server->connections; connection;
         connection = connection->next)
        connection_signal(connection);
}

void server_connections_wait(struct weir_server *server, uint64_t abort_at_ns)
{
    struct timespec until = {
        .tv_sec = (time_t)(abort_at_ns / 1000000000),
        .tv_nsec = (long)(abort_at_ns % 1000000000),
    };
    pthread_mutex_lock(&server->mutex);
    while (server->connections_count && server->phase < SERVER_STOPPING) {
        if (!pthread_cond_timedwait(&server->changed, &server->mutex, &until))
            continue;
        server_log(server, WEIR_LOG_WARNING, "drain time-out: %u connections are aborted",
                   server->connections_count);
        server->phase = SERVER_STOPPING;
        server_connections_signal(server);
    }
    while (server->connections_count)
        pthread_cond_wait(&server->changed, &server->mutex);
    pthread_mutex_unlock(&server->mutex);
}

void server_connections_stats(const struct weir_server *server, struct weir_stats *sum)
{
    struct weir_stats stats;
    for (const struct connection *connection = server->connections; connection;
         connection = connection->next) {
        if (!connection->loop)
            continue;
        weir_loop_stats(connection->loop, &stats);
        stats_sum(sum, &stats);
    }
    sum->streams_high = server->connections_high;
}
