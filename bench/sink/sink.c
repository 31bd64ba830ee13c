// See sink.h.
#include "sink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SINK_HEAD_MAX = 8192, SINK_PIECE = 64 * 1024, SINK_EVENTS_MAX = 64, SINK_WAIT_S = 10 };

struct sink_connection {
    int fd;
    uint32_t head_size; // of the head that is being received; the last byte is a zero
    uint64_t left;      // bytes of the content that are still to come
    char head[SINK_HEAD_MAX];
};

struct sink {
    int epoll;
    uint32_t count;
    uint32_t request_size;
    struct sink_model model;
    struct sink_count counted;
    char request[1024];
    struct sink_connection connections[];
};

// --- Requests and heads --------------------------------------------------------------------------

static int sink_write_request(const char *path, char *ret_text, size_t room)
{
    int size = snprintf(ret_text, room, "GET %s HTTP/1.1\r\nHost: sink\r\n\r\n", path);
    return (size_t)size < room ? size : -ENAMETOOLONG;
}

// The Content-Length of an answer with status 200; 0 for anything else.
static uint64_t sink_read_head(const char *head)
{
    static const char name[] = "\r\nContent-Length:";
    if (strncmp(head, "HTTP/1.1 200", 12) != 0)
        return 0;
    const char *at = strcasestr(head, name);
    return at ? strtoull(at + sizeof name - 1, NULL, 10) : 0;
}

// Receives a part of the head. Returns 1 when it is whole: `left` is then what has not come of the
// content, and ret_content what came behind the head.
static int sink_take_head(struct sink_connection *connection, uint64_t *ret_length,
                          const char **ret_content, size_t *ret_size)
{
    size_t room = SINK_HEAD_MAX - 1 - connection->head_size;
    ssize_t got = recv(connection->fd, connection->head + connection->head_size, room, 0);
    if (got < 0)
        return -errno;
    if (!got)
        return room ? -ECONNRESET : -EPROTO;
    connection->head_size += (uint32_t)got;
    connection->head[connection->head_size] = '\0';
    const char *end = strstr(connection->head, "\r\n\r\n");
    if (!end)
        return 0;
    *ret_content = end + 4;
    *ret_size = (size_t)(connection->head + connection->head_size - *ret_content);
    *ret_length = sink_read_head(connection->head);
    connection->head_size = 0;
    // One request is outstanding: what comes behind its answer belongs to nothing.
    if (!*ret_length || *ret_size > *ret_length)
        return -EPROTO;
    connection->left = *ret_length - *ret_size;
    return 1;
}

static int sink_connect(const struct sockaddr_in *address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval limit = { .tv_sec = SINK_WAIT_S };
    if (fd < 0)
        return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) ||
        connect(fd, (const struct sockaddr *)address, sizeof *address)) {
        int error = -errno;
        close(fd);
        return error;
    }
    return fd;
}

static int sink_ask(int fd, const char *request, size_t size)
{
    ssize_t sent = send(fd, request, size, MSG_NOSIGNAL);
    if (sent < 0)
        return -errno;
    return (size_t)sent == size ? 0 : -EAGAIN;
}

// --- One whole reply -----------------------------------------------------------------------------

// FNV-1a.
static uint64_t sink_hash(uint64_t hash, const char *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (unsigned char)data[i]) * 0x100000001b3ULL;
    return hash;
}

static int sink_read_reply(struct sink_connection *connection, struct sink_model *ret_model)
{
    static char piece[SINK_PIECE];
    uint64_t length;
    const char *content;
    size_t size;
    int whole;
    while ((whole = sink_take_head(connection, &length, &content, &size)) == 0)
        ;
    if (whole < 0)
        return whole;
    uint64_t hash = sink_hash(0xcbf29ce484222325ULL, content, size);
    while (connection->left) {
        size_t part = connection->left < sizeof piece ? (size_t)connection->left : sizeof piece;
        ssize_t got = recv(connection->fd, piece, part, 0);
        if (got <= 0)
            return got ? -errno : -ECONNRESET;
        hash = sink_hash(hash, piece, (size_t)got);
        connection->left -= (uint64_t)got;
    }
    *ret_model = (struct sink_model){ length, hash };
    return 0;
}

int sink_fetch(const struct sockaddr_in *address, const char *path, struct sink_model *ret_model)
{
    char request[sizeof((struct sink *)NULL)->request];
    struct sink_connection connection = { .fd = sink_connect(address) };
    int size = sink_write_request(path, request, sizeof request);
    if (connection.fd < 0)
        return connection.fd;
    int error = size < 0 ? size : sink_ask(connection.fd, request, (size_t)size);
    if (!error)
        error = sink_read_reply(&connection, ret_model);
    close(connection.fd);
    return error;
}

// --- Dropping ------------------------------------------------------------------------------------

static int sink_ask_again(struct sink *sink, struct sink_connection *connection)
{
    sink->counted.replies++;
    return sink_ask(connection->fd, sink->request, sink->request_size);
}

// Takes what one readable socket has. The kernel drops up to the end of the content and not a byte
// more, so heads are never lost.
static int sink_receive(struct sink *sink, struct sink_connection *connection)
{
    sink->counted.receives++;
    if (!connection->left) {
        uint64_t length;
        const char *content;
        size_t size;
        int whole = sink_take_head(connection, &length, &content, &size);
        if (whole <= 0)
            return whole == -EAGAIN ? 0 : whole;
        if (length != sink->model.length)
            return -EPROTO;
        sink->counted.bytes += size;
        return connection->left ? 0 : sink_ask_again(sink, connection);
    }
    ssize_t got = recv(connection->fd, NULL, (size_t)connection->left, MSG_TRUNC | MSG_DONTWAIT);
    if (got <= 0)
        return got ? errno == EAGAIN ? 0 : -errno : -ECONNRESET;
    connection->left -= (uint64_t)got;
    sink->counted.bytes += (uint64_t)got;
    return connection->left ? 0 : sink_ask_again(sink, connection);
}

static uint64_t sink_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

int sink_run(struct sink *sink, uint64_t until_ns)
{
    struct epoll_event events[SINK_EVENTS_MAX];
    for (uint64_t now_ns; (now_ns = sink_now()) < until_ns;) {
        int left_ms = (int)((until_ns - now_ns) / 1000000) + 1;
        int count = epoll_wait(sink->epoll, events, SINK_EVENTS_MAX, left_ms);
        if (count < 0 && errno != EINTR)
            return -errno;
        sink->counted.wakes++;
        for (int i = 0; i < count; i++) {
            int error = sink_receive(sink, events[i].data.ptr);
            if (error)
                return error;
        }
    }
    return 0;
}

void sink_counted(const struct sink *sink, struct sink_count *ret_count)
{
    *ret_count = sink->counted;
}

// --- Opening and closing -------------------------------------------------------------------------

static int sink_add(struct sink *sink, const struct sockaddr_in *address)
{
    struct sink_connection *connection = &sink->connections[sink->count];
    connection->fd = sink_connect(address);
    if (connection->fd < 0)
        return connection->fd;
    sink->count++;
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = connection };
    if (epoll_ctl(sink->epoll, EPOLL_CTL_ADD, connection->fd, &event))
        return -errno;
    return sink_ask(connection->fd, sink->request, sink->request_size);
}

int sink_open(const struct sockaddr_in *address, const char *path, const struct sink_model *model,
              uint32_t connections, struct sink **ret_sink)
{
    struct sink *sink = calloc(1, sizeof *sink + connections * sizeof *sink->connections);
    if (!sink)
        return -ENOMEM;
    sink->epoll = epoll_create1(EPOLL_CLOEXEC);
    sink->model = *model;
    int error = sink->epoll < 0 ? -errno : 0;
    int size = sink_write_request(path, sink->request, sizeof sink->request);
    if (size < 0)
        error = size;
    sink->request_size = (uint32_t)size;
    for (uint32_t i = 0; i < connections && !error; i++)
        error = sink_add(sink, address);
    if (error)
        sink_close(sink);
    else
        *ret_sink = sink;
    return error;
}

void sink_close(struct sink *sink)
{
    if (!sink)
        return;
    for (uint32_t i = 0; i < sink->count; i++)
        close(sink->connections[i].fd);
    if (sink->epoll >= 0)
        close(sink->epoll);
    free(sink);
}
