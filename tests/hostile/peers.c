// The program of the hostile scenes: connects many sockets to a server and lets them misbehave.
//
// Prints "ready" when all were connected, what the role has to say, and at the end one line of
// JSON. It ends when its time is over, when standard input ends, or when no peer is left.
#include "peers.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

// Who has not got its bytes so long after the end was asked is reported as open.
#define PEERS_END_LIMIT_NS 15000000000ULL

// Connects in flight: less than any backlog.
enum { PEERS_CONNECTING_MAX = 256, PEERS_EVENTS = 256, PEERS_TICK_MS = 5 };

// --- One peer ------------------------------------------------------------------------------------

static void peer_close(struct peers *peers, struct peer *peer)
{
    peers->connecting -= peer->connecting;
    peers->open -= !peer->connecting;
    peer->connecting = false;
    close(peer->fd);
    peer->fd = -1;
}

void peer_finish(struct peers *peers, struct peer *peer)
{
    peers->finished++;
    peer_close(peers, peer);
}

bool peer_is_reset(int error)
{
    return error == ECONNRESET || error == EPIPE;
}

void peer_lose(struct peers *peers, struct peer *peer, int error)
{
    if (peer->connecting)
        peers->refused++;
    else
        peers->lost++;
    peers->rested += !peer->connecting && peer_lost_after_rest(peer);
    peers->reset += peer->send_reset || peer_is_reset(error);
    peers->send_reset += peer->send_reset;
    peer_close(peers, peer);
}

static void peer_connect(struct peers *peers, struct peer *peer)
{
    struct epoll_event event = { .events = EPOLLOUT, .data.ptr = peer };
    peer->fd = socket(peers->address.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (peer->fd < 0) {
        perror("socket");
        exit(1);
    }
    if (peers->buffer) {
        setsockopt(peer->fd, SOL_SOCKET, SO_SNDBUF, &peers->buffer, sizeof peers->buffer);
        setsockopt(peer->fd, SOL_SOCKET, SO_RCVBUF, &peers->buffer, sizeof peers->buffer);
    }
    peer->connecting = true;
    peer->writes_ended = peer->send_reset = false;
    peer->sent = peer->received = peer->sent_ns = 0;
    peer->rests_count = 0;
    peers->connecting++;
    epoll_ctl(peers->epoll_fd, EPOLL_CTL_ADD, peer->fd, &event);
    if (connect(peer->fd, &peers->address.any, peers->address.size) < 0 && errno != EINPROGRESS)
        peer_lose(peers, peer, errno);
}

void peer_restart(struct peers *peers, struct peer *peer)
{
    const struct linger linger = { .l_onoff = 1 };
    setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    peer_close(peers, peer);
    if (!peers->ending)
        peer_connect(peers, peer);
}

void peer_watch(struct peers *peers, const struct peer *peer, uint32_t events)
{
    struct epoll_event event = { .events = events, .data.ptr = (void *)peer };
    epoll_ctl(peers->epoll_fd, EPOLL_CTL_MOD, peer->fd, &event);
}

// --- Bytes ---------------------------------------------------------------------------------------

const char *peer_noise(const struct peers *peers, const struct peer *peer, uint64_t at)
{
    return peers->noise + (peer->index * 257 + at) % PEERS_PERIOD;
}

// Who pauses this long is resting. A drain may end a connection that was quiet for 200 ms by the
// server's clock, which is read before the bytes of a turn are.
#define PEERS_REST_NS 150000000ULL

// From the beginning of the last send to the end of this: the machine may stand still in either.
void peer_sends(struct peers *peers, struct peer *peer, uint64_t began_ns)
{
    if (peer->sent_ns && weir_clock_now() - peer->sent_ns >= PEERS_REST_NS)
        peer->rests[peer->rests_count++ % PEERS_RESTS] = peer->sent;
    peer->sent_ns = began_ns;
    peers->moves++;
}

bool peer_lost_after_rest(const struct peer *peer)
{
    for (uint32_t i = 0; i < peer->rests_count && i < PEERS_RESTS; i++) {
        if (peer->rests[i] == peer->received)
            return true;
    }
    return peer->received == peer->sent;
}

bool peer_send(struct peers *peers, struct peer *peer, uint64_t size)
{
    if (size > PEERS_PERIOD)
        size = PEERS_PERIOD;
    uint64_t began_ns = weir_clock_now();
    ssize_t count =
        send(peer->fd, peer_noise(peers, peer, peer->sent), size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count < 0 && errno == EAGAIN)
        return true;
    if (count < 0) {
        peer->send_reset = peer_is_reset(errno);
        peer_lose(peers, peer, errno);
        return false;
    }
    peer_sends(peers, peer, began_ns);
    peer->sent += (uint64_t)count;
    peers->sent += (uint64_t)count;
    return true;
}

bool peer_receive(struct peers *peers, struct peer *peer, bool *ret_ended)
{
    static char data[PEERS_PERIOD];
    *ret_ended = false;
    for (int round = 0; round < 4; round++) {
        ssize_t count = recv(peer->fd, data, sizeof data, MSG_DONTWAIT);
        if (count < 0 && errno == EAGAIN)
            return true;
        if (count < 0) {
            peer_lose(peers, peer, errno);
            return false;
        }
        if (!count) {
            *ret_ended = true;
            return true;
        }
        if (peer->received + (uint64_t)count > peer->sent ||
            memcmp(data, peer_noise(peers, peer, peer->received), (size_t)count) != 0)
            peers->wrong++;
        peer->received += (uint64_t)count;
        peers->received += (uint64_t)count;
    }
    return true;
}

// --- The loop ------------------------------------------------------------------------------------

static void peers_connect_more(struct peers *peers)
{
    while (peers->next < peers->count && peers->connecting < PEERS_CONNECTING_MAX && !peers->ending)
        peer_connect(peers, &peers->all[peers->next++]);
}

static void peers_connected(struct peers *peers, struct peer *peer)
{
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(peer->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) {
        peer_lose(peers, peer, error);
        return;
    }
    peer->connecting = false;
    peers->connecting--;
    peers->open++;
    peers->opened++;
    peer_watch(peers, peer, peers->role->events);
    if (peers->role->opened)
        peers->role->opened(peers, peer);
}

static void peers_end(struct peers *peers)
{
    if (peers->ending)
        return;
    peers->ending = true;
    peers->end_ns = weir_clock_now();
    if (peers->role->end)
        peers->role->end(peers);
}

static void peers_look_served(struct peers *peers)
{
    for (uint32_t i = 0; i < peers->count; i++) {
        if (peers->all[i].fd >= 0 && !peers->all[i].received)
            return;
    }
    peers->served = true;
    puts("served");
}

// Lets a tick pass: whether everybody is there, whether the time is over.
static void peers_tick(struct peers *peers, uint64_t now_ns)
{
    peers_connect_more(peers);
    if (!peers->ready && peers->next == peers->count &&
        peers->opened + peers->refused >= peers->count) {
        peers->ready = true;
        peers->begin_ns = now_ns;
        puts("ready");
    }
    if (peers->ready && !peers->served)
        peers_look_served(peers);
    if (peers->ready && peers->role->tick)
        peers->role->tick(peers, now_ns);
    if (peers->seconds > 0 && peers->ready &&
        (double)(now_ns - peers->begin_ns) > peers->seconds * 1e9)
        peers_end(peers);
}

// The end of standard input, as an event without a peer.
static void peers_told(struct peers *peers)
{
    char text[256];
    if (read(STDIN_FILENO, text, sizeof text) > 0)
        return;
    epoll_ctl(peers->epoll_fd, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
    peers_end(peers);
}

static bool peers_are_over(const struct peers *peers)
{
    if (peers->ending &&
        (!peers->role->end || weir_clock_now() - peers->end_ns >= PEERS_END_LIMIT_NS))
        return true;
    return peers->next == peers->count && !peers->open && !peers->connecting;
}

static void peers_run(struct peers *peers)
{
    struct epoll_event events[PEERS_EVENTS];
    uint64_t ticked_ns = 0;
    while (!peers_are_over(peers)) {
        uint64_t now_ns = weir_clock_now();
        if (now_ns - ticked_ns >= PEERS_TICK_MS * 1000000ULL) {
            ticked_ns = now_ns;
            peers_tick(peers, now_ns);
        }
        int count = epoll_wait(peers->epoll_fd, events, PEERS_EVENTS, PEERS_TICK_MS);
        for (int i = 0; i < count; i++) {
            struct peer *peer = events[i].data.ptr;
            if (!peer)
                peers_told(peers);
            else if (peer->fd < 0)
                continue;
            else if (peer->connecting)
                peers_connected(peers, peer);
            else
                peers->role->ready(peers, peer, events[i].events);
        }
    }
}

static void peers_report(const struct peers *peers)
{
    double seconds = peers->begin_ns ? (double)(weir_clock_now() - peers->begin_ns) / 1e9 : 0.0;
    printf("{\"seconds\": %.3f, \"opened\": %" PRIu64 ", \"open\": %" PRIu32
           ", \"refused\": %" PRIu64 ", \"finished\": %" PRIu64 ", \"lost\": %" PRIu64
           ", \"reset\": %" PRIu64 ", \"send_reset\": %" PRIu64 ", \"wrong\": %" PRIu64
           ", \"late\": %" PRIu64 ", \"partial\": %" PRIu64 ", \"unanswered\": %" PRIu64
           ", \"not_ok\": %" PRIu64 ", \"sent\": %" PRIu64 ", \"received\": %" PRIu64
           ", \"rested\": %" PRIu64 ", \"unanswered_rested\": %" PRIu64 "}\n",
           seconds, peers->opened, peers->open, peers->refused, peers->finished, peers->lost,
           peers->reset, peers->send_reset, peers->wrong, peers->late, peers->partial,
           peers->unanswered, peers->not_ok, peers->sent, peers->received, peers->rested,
           peers->unanswered_rested);
}

// --- Options -------------------------------------------------------------------------------------

static const struct role *peers_role(const char *name)
{
    static const struct role *const roles[] = { &role_slow, &role_flood, &role_stall, &role_reset,
                                                &role_http };
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++) {
        if (!strcmp(name, roles[i]->name))
            return roles[i];
    }
    return NULL;
}

static void peers_read_expected(struct peers *peers)
{
    FILE *file = fopen(peers->expect, "rb");
    if (!file || fseek(file, 0, SEEK_END) < 0) {
        perror(peers->expect);
        exit(2);
    }
    long size = ftell(file);
    rewind(file);
    peers->expected_size = size > 0 ? (size_t)size : 0;
    peers->expected = malloc(peers->expected_size + 1);
    if (!peers->expected ||
        fread(peers->expected, 1, peers->expected_size, file) != peers->expected_size) {
        perror(peers->expect);
        exit(2);
    }
    fclose(file);
}

static void peers_options(struct peers *peers, int argc, char **argv)
{
    static const struct option names[] = {
        { "connections", required_argument, NULL, 'n' },
        { "seconds", required_argument, NULL, 's' },
        { "bytes", required_argument, NULL, 'b' },
        { "interval-ms", required_argument, NULL, 'i' },
        { "buffer", required_argument, NULL, 'k' },
        { "depth", required_argument, NULL, 'd' },
        { "expect", required_argument, NULL, 'e' },
        { NULL, 0, NULL, 0 },
    };
    int name;
    peers->count = peers->depth = 1;
    peers->interval_ns = 1000000000;
    while ((name = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (name) {
        case 'n':
            peers->count = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 's':
            peers->seconds = strtod(optarg, NULL);
            break;
        case 'b':
            peers->bytes = strtoull(optarg, NULL, 10);
            break;
        case 'i':
            peers->interval_ns = strtoull(optarg, NULL, 10) * 1000000;
            break;
        case 'k':
            peers->buffer = (int)strtol(optarg, NULL, 10);
            break;
        case 'd':
            peers->depth = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'e':
            peers->expect = optarg;
            break;
        default:
            exit(2);
        }
    }
    peers->role = optind + 2 == argc ? peers_role(argv[optind]) : NULL;
    if (!peers->role || weir_address_parse(argv[optind + 1], &peers->address) ||
        (peers->role == &role_http && !peers->expect)) {
        fprintf(stderr, "usage: hostile-peers [--OPTION VALUE ...] ROLE ADDRESS\n");
        exit(2);
    }
    if (peers->expect)
        peers_read_expected(peers);
}

static void peers_make_noise(struct peers *peers)
{
    uint64_t state = 1;
    for (size_t i = 0; i < PEERS_PERIOD; i++) {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        peers->noise[i] = peers->noise[i + PEERS_PERIOD] = (char)(state >> 56);
    }
}

int main(int argc, char **argv)
{
    static struct peers peers;
    struct epoll_event event = { .events = EPOLLIN };
    setvbuf(stdout, NULL, _IOLBF, 0);
    peers_options(&peers, argc, argv);
    peers_make_noise(&peers);
    peers.all = calloc(peers.count, sizeof *peers.all);
    peers.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (!peers.all || peers.epoll_fd < 0) {
        perror("peers");
        return 1;
    }
    for (uint32_t i = 0; i < peers.count; i++)
        peers.all[i] = (struct peer){ .fd = -1, .index = i };
    if (epoll_ctl(peers.epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &event) < 0) {
        perror("standard input");
        return 1;
    }
    peers_run(&peers);
    // Who were fast may have finished between two ticks.
    if (peers.ready && !peers.served)
        peers_look_served(&peers);
    peers_report(&peers);
    for (uint32_t i = 0; i < peers.count; i++)
        free(peers.all[i].answer);
    free(peers.expected);
    free(peers.all);
    return 0;
}
