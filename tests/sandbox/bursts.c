// Loads several servers in turn, in short bursts, and prints what each burst cost its server: so
// short that whatever else happens on the machine meets all of them alike.
//
//   sandbox-bursts CONNECTIONS OPERATIONS BLOCKS REQUEST PROCESS:PORT...
//
// A block has a burst for each server, in random order. A burst is OPERATIONS requests, one at a
// time on each of CONNECTIONS connections, all answers read. Output: a line for each block, with
// the processor time of each server in nanoseconds per operation, in the order of the arguments.
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    BURSTS_SERVERS_MAX = 8,
    BURSTS_CONNECTIONS_MAX = 4096,
    BURSTS_EVENTS = 256,
    BURSTS_BYTES = 65536,
    BURSTS_QUIET_MS = 100,
    BURSTS_LIMIT_MS = 10000,
};

struct bursts_server {
    clockid_t clock;
    int epoll;
    int fds[BURSTS_CONNECTIONS_MAX];
    size_t missing[BURSTS_CONNECTIONS_MAX]; // bytes of the answer that is on its way
    double cost_ns;
};

struct bursts {
    size_t connections, operations, servers_count;
    const char *request;
    size_t request_size, answer_size;
    struct bursts_server servers[BURSTS_SERVERS_MAX];
};

static void bursts_end(const char *what)
{
    fprintf(stderr, "sandbox-bursts: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int bursts_connect(uint16_t port)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
    const int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        bursts_end("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

// Every answer is as long as the first, which ends when nothing more comes.
static size_t bursts_learn(const struct bursts *bursts, int fd)
{
    static char bytes[BURSTS_BYTES];
    struct pollfd waiting = { .fd = fd, .events = POLLIN };
    size_t size = 0;
    if (send(fd, bursts->request, bursts->request_size, 0) != (ssize_t)bursts->request_size)
        bursts_end("send");
    while (poll(&waiting, 1, size ? BURSTS_QUIET_MS : BURSTS_LIMIT_MS) > 0) {
        ssize_t got = recv(fd, bytes, sizeof bytes, 0);
        if (got <= 0)
            bursts_end("the first answer");
        size += (size_t)got;
    }
    return size;
}

// The argument is PROCESS:PORT.
static void bursts_open(struct bursts *bursts, struct bursts_server *server, const char *argument)
{
    int process, port;
    if (sscanf(argument, "%d:%d", &process, &port) != 2 ||
        clock_getcpuclockid(process, &server->clock))
        bursts_end(argument);
    server->epoll = epoll_create1(EPOLL_CLOEXEC);
    for (size_t i = 0; i < bursts->connections; i++) {
        struct epoll_event event = { .events = EPOLLIN, .data.u64 = i };
        server->fds[i] = bursts_connect((uint16_t)port);
        if (epoll_ctl(server->epoll, EPOLL_CTL_ADD, server->fds[i], &event) < 0)
            bursts_end("epoll_ctl");
    }
    bursts->answer_size = bursts_learn(bursts, server->fds[0]);
    if (!bursts->answer_size)
        bursts_end("no answer");
}

static void bursts_ask(const struct bursts *bursts, struct bursts_server *server, uint64_t at)
{
    if (send(server->fds[at], bursts->request, bursts->request_size, MSG_NOSIGNAL) !=
        (ssize_t)bursts->request_size)
        bursts_end("send");
    server->missing[at] = bursts->answer_size;
}

// Whether the connection's answer is complete.
static bool bursts_hear(struct bursts_server *server, uint64_t at)
{
    static char bytes[BURSTS_BYTES];
    ssize_t got = recv(server->fds[at], bytes, sizeof bytes, 0);
    if (got <= 0 || (size_t)got > server->missing[at])
        bursts_end("recv");
    server->missing[at] -= (size_t)got;
    return !server->missing[at];
}

static double bursts_cpu_ns(const struct bursts_server *server)
{
    struct timespec spent;
    if (clock_gettime(server->clock, &spent) < 0)
        bursts_end("the server's clock");
    return (double)spent.tv_sec * 1e9 + (double)spent.tv_nsec;
}

static void bursts_run(const struct bursts *bursts, struct bursts_server *server)
{
    struct epoll_event events[BURSTS_EVENTS];
    double begin_ns = bursts_cpu_ns(server);
    size_t asked = bursts->connections, answered = 0;
    for (size_t i = 0; i < asked; i++)
        bursts_ask(bursts, server, i);
    while (answered < bursts->operations) {
        int count = epoll_wait(server->epoll, events, BURSTS_EVENTS, BURSTS_LIMIT_MS);
        if (count <= 0)
            bursts_end("an answer is missing");
        for (int i = 0; i < count; i++) {
            if (!bursts_hear(server, events[i].data.u64))
                continue;
            answered++;
            if (asked < bursts->operations && ++asked)
                bursts_ask(bursts, server, events[i].data.u64);
        }
    }
    server->cost_ns = (bursts_cpu_ns(server) - begin_ns) / (double)bursts->operations;
}

// Each server once, in random order.
static void bursts_block(struct bursts *bursts, unsigned *seed)
{
    size_t order[BURSTS_SERVERS_MAX];
    for (size_t i = 0; i < bursts->servers_count; i++) {
        size_t at = (size_t)rand_r(seed) % (i + 1);
        order[i] = order[at];
        order[at] = i;
    }
    for (size_t i = 0; i < bursts->servers_count; i++)
        bursts_run(bursts, &bursts->servers[order[i]]);
}

int main(int argc, char **argv)
{
    static struct bursts bursts;
    unsigned seed = (unsigned)time(NULL);
    if (argc < 6 || argc - 5 > BURSTS_SERVERS_MAX) {
        fprintf(stderr, "usage: sandbox-bursts CONNECTIONS OPERATIONS BLOCKS REQUEST "
                        "PROCESS:PORT...\n");
        return 2;
    }
    bursts.connections = (size_t)atoi(argv[1]);
    bursts.operations = (size_t)atoi(argv[2]);
    bursts.request = argv[4];
    bursts.request_size = strlen(argv[4]);
    bursts.servers_count = (size_t)argc - 5;
    errno = EINVAL;
    if (!bursts.connections || bursts.connections > BURSTS_CONNECTIONS_MAX ||
        bursts.operations < bursts.connections)
        bursts_end("CONNECTIONS, OPERATIONS");
    for (size_t i = 0; i < bursts.servers_count; i++)
        bursts_open(&bursts, &bursts.servers[i], argv[5 + i]);
    bursts_block(&bursts, &seed); // warms up
    for (int block = atoi(argv[3]); block > 0; block--) {
        bursts_block(&bursts, &seed);
        for (size_t i = 0; i < bursts.servers_count; i++)
            printf("%.1f%c", bursts.servers[i].cost_ns, i + 1 < bursts.servers_count ? ' ' : '\n');
    }
    return 0;
}
