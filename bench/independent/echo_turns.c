// A closed-loop echo load by turns that shares no code with weir: what weir-load finds must hold
// with it, too. It compares every byte of every reply.
//
// usage: echo-turns CONNECTIONS DEPTH SIZE TURN_MS TURNS PORT PID [PORT PID]...
//
// All servers (127.0.0.1:PORT, process PID, at most 8) get their connections first. Then each has
// the load for a turn, in random order. A line for each: turn, server, operations, the server's
// CPU time and the time that passed, both in nanoseconds.
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { SERVERS_MAX = 8, MESSAGE_MAX = 1 << 20, EVENTS = 256, LOST_MS = 60000 };

struct connection {
    int fd;
    uint32_t events;          // that epoll waits for
    size_t sent, got, wanted; // bytes since it was last idle
};

struct server {
    struct connection *connections;
    clockid_t clock; // its CPU time
    int epoll;
    long waiting; // messages without a whole reply
};

static int connections_count, depth;
static size_t message_size;
static char message[MESSAGE_MAX], reply[MESSAGE_MAX];

static long long nanoseconds(clockid_t clock)
{
    struct timespec time;
    if (clock_gettime(clock, &time))
        err(1, "clock");
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static size_t smaller(size_t one, size_t other)
{
    return one < other ? one : other;
}

// Sends what is due until the socket is full.
static void push(struct connection *connection)
{
    while (connection->sent < connection->wanted) {
        size_t at = connection->sent % message_size;
        size_t left = smaller(message_size - at, connection->wanted - connection->sent);
        ssize_t done = write(connection->fd, message + at, left);
        if (done < 0 && errno == EAGAIN)
            return;
        if (done < 0)
            err(1, "write");
        connection->sent += (size_t)done;
    }
}

static void watch(struct server *server, struct connection *connection)
{
    uint32_t events = EPOLLIN | (connection->sent < connection->wanted ? EPOLLOUT : 0);
    struct epoll_event event = { .events = events, .data.ptr = connection };
    if (events == connection->events)
        return;
    epoll_ctl(server->epoll, connection->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, connection->fd,
              &event);
    connection->events = events;
}

static void ask(struct server *server, struct connection *connection, int messages)
{
    if (connection->got == connection->wanted)
        connection->sent = connection->got = connection->wanted = 0;
    connection->wanted += (size_t)messages * message_size;
    server->waiting += messages;
    push(connection);
    watch(server, connection);
}

// Returns how many replies became whole.
static int take(struct connection *connection)
{
    ssize_t done = read(connection->fd, reply, sizeof reply);
    if (done <= 0)
        err(1, "read");
    size_t before = connection->got / message_size;
    for (size_t part = 0, left = (size_t)done; left; left -= part) {
        size_t at = connection->got % message_size;
        part = smaller(message_size - at, left);
        if (memcmp(reply + ((size_t)done - left), message + at, part) != 0)
            errx(1, "a reply differs");
        connection->got += part;
    }
    return (int)(connection->got / message_size - before);
}

static void start(struct server *server, const char *port, const char *pid)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)atoi(port)),
                                   .sin_addr = { htonl(INADDR_LOOPBACK) } };
    if (clock_getcpuclockid(atoi(pid), &server->clock))
        errx(1, "no process %s", pid);
    server->epoll = epoll_create1(0);
    server->connections = calloc((size_t)connections_count, sizeof *server->connections);
    if (server->epoll < 0 || !server->connections)
        err(1, "start");
    for (int i = 0; i < connections_count; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
        if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address))
            err(1, "port %s", port);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        fcntl(fd, F_SETFL, O_NONBLOCK);
        server->connections[i].fd = fd;
    }
}

static void serve_events(struct server *server, int over, long *operations)
{
    struct epoll_event events[EVENTS];
    int count = epoll_wait(server->epoll, events, EVENTS, LOST_MS);
    if (count <= 0)
        errx(1, "no reply for %d ms", LOST_MS);
    for (int i = 0; i < count; i++) {
        struct connection *connection = events[i].data.ptr;
        push(connection);
        int whole = events[i].events & EPOLLIN ? take(connection) : 0;
        *operations += whole;
        server->waiting -= whole;
        if (whole && !over)
            ask(server, connection, whole);
        watch(server, connection);
    }
}

static void turn(struct server *server, int number, int index, long long length)
{
    long operations = 0;
    long long begin = nanoseconds(CLOCK_MONOTONIC), cpu = nanoseconds(server->clock);
    for (int i = 0; i < connections_count; i++)
        ask(server, &server->connections[i], depth);
    while (server->waiting)
        serve_events(server, nanoseconds(CLOCK_MONOTONIC) - begin >= length, &operations);
    printf("%d %d %ld %lld %lld\n", number, index, operations, nanoseconds(server->clock) - cpu,
           nanoseconds(CLOCK_MONOTONIC) - begin);
}

static void shuffle(int *order, int count)
{
    for (int i = count - 1; i > 0; i--) {
        int other = rand() % (i + 1), moved = order[i];
        order[i] = order[other];
        order[other] = moved;
    }
}

int main(int count, char **arguments)
{
    struct server servers[SERVERS_MAX] = { 0 };
    int order[SERVERS_MAX], servers_count = (count - 6) / 2;
    if (count < 8 || count % 2 || servers_count > SERVERS_MAX)
        errx(2, "usage: CONNECTIONS DEPTH SIZE TURN_MS TURNS PORT PID [PORT PID]...");
    connections_count = atoi(arguments[1]);
    depth = atoi(arguments[2]);
    message_size = (size_t)atoi(arguments[3]);
    if (connections_count < 1 || depth < 1 || message_size < 1 || message_size > MESSAGE_MAX)
        errx(2, "CONNECTIONS and DEPTH are at least 1, SIZE at most %d", MESSAGE_MAX);
    srand((unsigned)getpid());
    for (size_t i = 0; i < message_size; i++)
        message[i] = (char)rand();
    for (int i = 0; i < servers_count; i++) {
        order[i] = i;
        start(&servers[i], arguments[6 + 2 * i], arguments[7 + 2 * i]);
    }
    for (int number = 0; number < atoi(arguments[5]); number++) {
        shuffle(order, servers_count);
        for (int i = 0; i < servers_count; i++)
            turn(&servers[order[i]], number, order[i], atoll(arguments[4]) * 1000000);
    }
    return 0;
}
