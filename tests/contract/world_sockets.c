// The world over the kernel's sockets: one loop on the test's own thread, driven in lockstep with
// the peers, so that nothing runs but what the test lets run.
#include "world_sockets.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <core/loop.h>

// --- Peers: plain non-blocking sockets -----------------------------------------------------------

uint64_t sockets_now(struct world *world)
{
    (void)world;
    return weir_clock_now();
}

// Tells which of a thousand peers may go on. All of them trying in each step, most in vain, took
// half of the processor time of these tests.
static int sockets_epoll(void)
{
    static int fd = -1;
    if (fd < 0)
        fd = epoll_create1(EPOLL_CLOEXEC);
    return fd;
}

static int sockets_watch(struct peer *peer)
{
    struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                 .data.ptr = peer };
    return epoll_ctl(sockets_epoll(), EPOLL_CTL_ADD, peer->fd, &event) ? -errno : 0;
}

// Who was told to wait goes on when the kernel says that it may.
void sockets_peers_look(struct world *world)
{
    (void)world;
    enum { LOOK_MAX = 256 };
    struct epoll_event events[LOOK_MAX];
    int count;
    do {
        count = epoll_wait(sockets_epoll(), events, LOOK_MAX, 0);
        for (int i = 0; i < count; i++) {
            struct peer *peer = events[i].data.ptr;
            if (events[i].events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
                peer->full = false;
            if (events[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP))
                peer->empty = false;
        }
    } while (count == LOOK_MAX);
}

uint32_t sockets_descriptors(struct world *world)
{
    (void)world;
    (void)sockets_epoll(); // is made before any count
    uint32_t count = 0;
    DIR *directory = opendir("/proc/self/fd");
    while (directory && readdir(directory))
        count++;
    if (directory)
        closedir(directory);
    return count;
}

uint64_t sockets_thread_waited(const char *thread)
{
    unsigned long long ran = 0, waited = 0;
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%s/schedstat", thread);
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    if (fscanf(file, "%llu %llu", &ran, &waited) != 2)
        waited = 0;
    fclose(file);
    return waited;
}

uint64_t sockets_waited(struct world *world)
{
    (void)world;
    return sockets_thread_waited("thread-self");
}

static int sockets_option(int fd, int option, int value)
{
    if (value && setsockopt(fd, SOL_SOCKET, option, &value, sizeof(value)))
        return -errno;
    return 0;
}

static int sockets_start(int fd, const struct weir_address *address,
                         const struct peer_options *options)
{
    int result = sockets_option(fd, SO_SNDBUF, options->send_buffer);
    if (!result)
        result = sockets_option(fd, SO_RCVBUF, options->receive_buffer);
    if (!result && options->local) {
        struct weir_address local = world_address(options->local);
        result = bind(fd, &local.any, local.size) ? -errno : 0;
    }
    if (!result && connect(fd, &address->any, address->size) && errno != EINPROGRESS)
        result = -errno;
    return result;
}

int sockets_peer_connect(struct peer *peer, const struct weir_address *address,
                         const struct peer_options *options)
{
    int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int result = sockets_start(fd, address, options);
    if (result) {
        close(fd);
        return result;
    }
    peer->fd = fd;
    return sockets_watch(peer);
}

int sockets_peer_connected(struct peer *peer)
{
    struct pollfd ready = { .fd = peer->fd, .events = POLLOUT };
    int error = 0;
    if (poll(&ready, 1, 0) == 0)
        return -EINPROGRESS;
    if (getsockopt(peer->fd, SOL_SOCKET, SO_ERROR, &error, &(socklen_t){ sizeof(error) }))
        return -errno;
    return -error;
}

int64_t sockets_peer_write(struct peer *peer, const void *data, size_t size)
{
    if (peer->full)
        return -EAGAIN;
    ssize_t count = send(peer->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    peer->full = count < 0 && errno == EAGAIN;
    return count < 0 ? -errno : count;
}

int64_t sockets_peer_read(struct peer *peer, void *data, size_t size)
{
    if (peer->empty)
        return -EAGAIN;
    ssize_t count = recv(peer->fd, data, size, MSG_DONTWAIT);
    peer->empty = count < 0 && errno == EAGAIN;
    return count < 0 ? -errno : count;
}

void sockets_peer_half_close(struct peer *peer)
{
    // A peer that was reset meanwhile has nothing to shut down.
    (void)shutdown(peer->fd, SHUT_WR);
}

void sockets_peer_close(struct peer *peer, bool reset)
{
    if (peer->fd < 0)
        return;
    if (reset)
        (void)setsockopt(peer->fd, SOL_SOCKET, SO_LINGER,
                         &(struct linger){ .l_onoff = 1, .l_linger = 0 }, sizeof(struct linger));
    close(peer->fd);
    peer->fd = -1;
}

int sockets_peer_listen(struct peer *peer, const struct weir_address *address, int backlog,
                        struct weir_address *ret_address)
{
    int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int result = 0;
    ret_address->size = sizeof(struct sockaddr_un);
    if (bind(fd, &address->any, address->size) || (backlog >= 0 && listen(fd, backlog)) ||
        getsockname(fd, &ret_address->any, &ret_address->size))
        result = -errno;
    if (result)
        close(fd);
    else
        peer->fd = fd;
    return result;
}

int sockets_peer_accept(struct peer *listener, struct peer *peer)
{
    int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return -errno;
    peer->fd = fd;
    return sockets_watch(peer);
}

// --- The loop in lockstep ------------------------------------------------------------------------

static int lockstep_open(struct world *world)
{
    return weir_loop_create(world->config, &world->loop);
}

static void lockstep_turn(struct world *world, uint64_t wait_ns)
{
    if (!world->loop)
        return;
    int result = weir_loop_turn(world->loop, wait_ns ? weir_clock_now() + wait_ns : 0);
    if (result < 0)
        fail_msg("the loop broke: %s", strerror(-result));
}

int lockstep_listen(struct world *world, const struct weir_address *address,
                    const struct weir_listener_config *config, struct weir_address *ret_address)
{
    struct weir_listener *listener;
    int result = weir_listener_open(world->loop, address, config, &listener);
    if (!result)
        weir_listener_address(listener, ret_address);
    return result;
}

bool lockstep_call(struct world *world, struct subject *subject,
                   void (*function)(struct weir_loop *loop, void *argument), void *argument)
{
    (void)subject;
    function(world->loop, argument);
    return true;
}

void lockstep_stats(struct world *world, struct weir_stats *ret_stats)
{
    weir_loop_stats(world->loop, ret_stats);
}

static bool lockstep_listeners_closed(void *argument)
{
    const struct weir_loop *loop = argument;
    return loop->slots_open == 0;
}

// With all streams and listeners closed, every slot and every piece of memory is free again.
static void lockstep_count(struct world *world)
{
    struct weir_loop *loop = world->loop;
    while (loop->listeners)
        weir_listener_close(loop->listeners);
    if (!world_until(world, lockstep_listeners_closed, loop, WORLD_PATIENCE))
        fail_msg("%u slots are still taken", loop->slots_open);
    assert_int_equal(loop->streams_open, 0);
    assert_int_equal(loop->operations_open, 0);
    assert_int_equal(loop->own_limit.count, 0);
    assert_int_equal(loop->pool.leased, 0);
    assert_int_equal(loop->queued_bytes, 0);
    assert_int_equal(loop->pieces.taken, 0);
    for (uint32_t i = 0; i < BLOCK_CLASSES; i++)
        assert_int_equal(loop->blocks[i].taken, 0);
    for (uint32_t i = 0; i < loop->records.count; i++)
        assert_int_equal(loop->records.slabs[i].taken, 0);
    assert_int_equal(loop->wheel.count, 0);
}

void lockstep_close(struct world *world)
{
    if (world->closed)
        lockstep_count(world);
    weir_loop_destroy(world->loop);
    world->loop = NULL;
}

const struct world_operations world_sockets = {
    .name = "sockets",
    .open = lockstep_open,
    .close = lockstep_close,
    .now = sockets_now,
    .turn = lockstep_turn,
    .listen = lockstep_listen,
    .call = lockstep_call,
    .stats = lockstep_stats,
    .descriptors = sockets_descriptors,
    .waited = sockets_waited,
    .peers_look = sockets_peers_look,
    .peer_connect = sockets_peer_connect,
    .peer_connected = sockets_peer_connected,
    .peer_write = sockets_peer_write,
    .peer_read = sockets_peer_read,
    .peer_half_close = sockets_peer_half_close,
    .peer_close = sockets_peer_close,
    .peer_listen = sockets_peer_listen,
    .peer_accept = sockets_peer_accept,
};
