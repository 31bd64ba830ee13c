// Servers: threads with a loop each, listeners on all of them, one limit, statistics, and the end.
//
// A server only goes forward: serving, draining, stopping. A change is posted to each loop, at most
// once, so the posts live in the threads' records. A thread ends when its loop is empty, and leaves
// its statistics in the server.
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define SERVER_DRAIN_TICK_NS 100000000ULL

void server_log(const struct weir_server *server, enum weir_log_level level, const char *format,
                ...)
{
    const struct weir_loop_config *config = &server->config.loop;
    if (!config->log)
        return;
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    config->log(config->log_context, level, text);
}

// --- Listening -----------------------------------------------------------------------------------

static bool server_admit(struct weir_listener *listener, const struct weir_address *peer)
{
    struct weir_server *server = listener->released_context;
    return hosts_take(&server->hosts, peer);
}

static void server_stream_released(struct weir_stream *stream)
{
    struct weir_server *server = stream->released_context;
    struct weir_address peer;
    weir_stream_peer_address(stream, &peer);
    hosts_give(&server->hosts, &peer);
    listener_stream_released(stream);
}

// The first socket takes the address without SO_REUSEPORT, so that an address in use is noticed
// even when its owner has set it, and then lets the other threads' sockets join. On a unix path all
// threads accept from one socket.
static int server_listen_socket(struct weir_server *server, uint32_t index,
                                const struct weir_address *address,
                                const struct weir_socket_options *options,
                                struct weir_address *ret_bound)
{
    const struct weir_loop *loop = server->threads[index].loop;
    struct weir_socket_options joined = *options;
    joined.reuse_port = true;
    if (index == 0) {
        int fd = loop->system->listen(loop->system_state, address, options, ret_bound);
        int one = 1;
        if (fd >= 0 && server->threads_count > 1 && address->any.sa_family != AF_UNIX)
            setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
        return fd;
    }
    if (address->any.sa_family != AF_UNIX) {
        struct weir_address taken = *ret_bound;
        return loop->system->listen(loop->system_state, &taken, &joined, ret_bound);
    }
    int fd = fcntl(server->threads[0].loop->listeners->fd, F_DUPFD_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
}

static int server_listen_thread(struct weir_server *server, uint32_t index,
                                const struct weir_address *address,
                                const struct weir_listener_config *config,
                                struct weir_address *ret_bound)
{
    struct weir_loop *loop = server->threads[index].loop;
    struct weir_listener *listener;
    int fd = server_listen_socket(server, index, address, &config->socket, ret_bound);
    if (fd < 0)
        return fd;
    int error = listener_open_on(loop, fd, ret_bound, config, &listener);
    if (error) {
        loop->system->close(loop->system_state, fd);
        return error;
    }
    listener->path_kept = true;
    listener->released_context = server;
    if (server->blocking)
        listener->take = server_take;
    else if (server->config.address_streams_max)
        listener->released = server_stream_released;
    return 0;
}

// Whoever ends the server does this, and no loop: a loop that is confined removes no file.
static void server_remove_paths(struct weir_server *server)
{
    struct server_path *next;
    pthread_mutex_lock(&server->mutex);
    for (struct server_path *path = server->paths; path; path = next) {
        next = path->next;
        unlink(path->text);
        free(path);
    }
    server->paths = NULL;
    pthread_mutex_unlock(&server->mutex);
}

// Keeps the path of a unix listener, to be removed at the end. Without memory it is removed now.
static int server_keep_path(struct weir_server *server, const struct weir_address *bound)
{
    struct server_path *path = calloc(1, sizeof *path);
    // UNTESTED: the walks listen on TCP alone
    if (!path) {
        unlink(bound->un.sun_path);
        weir_listener_close(server->threads[0].loop->listeners);
        return -ENOMEM;
    }
    memcpy(path->text, bound->un.sun_path, sizeof bound->un.sun_path);
    path->next = server->paths;
    server->paths = path;
    return 0;
}

// Takes back the newest listener of the first `count` threads.
static void server_unlisten(struct weir_server *server, uint32_t count,
                            const struct weir_address *bound)
{
    struct server_path *path = server->paths;
    // UNTESTED: the walks listen on TCP alone
    if (count && bound->any.sa_family == AF_UNIX) {
        server->paths = path->next;
        unlink(path->text);
        free(path);
    }
    while (count-- > 0)
        weir_listener_close(server->threads[count].loop->listeners);
}

int weir_server_listen(struct weir_server *server, const struct weir_address *address,
                       const struct weir_socket_options *options,
                       const struct weir_protocol *protocol, void *context,
                       struct weir_address *ret_address)
{
    struct weir_listener_config config = { .protocol = protocol, .context = context };
    struct weir_address bound;
    if (server->started || !protocol)
        return -EINVAL;
    if (options)
        config.socket = *options;
    if (server->config.address_streams_max && !server->blocking)
        config.admit = server_admit;
    for (uint32_t i = 0; i < server->threads_count; i++) {
        int error = server_listen_thread(server, i, address, &config, &bound);
        if (!error && i == 0 && bound.any.sa_family == AF_UNIX)
            error = server_keep_path(server, &bound);
        if (!error)
            continue;
        server_unlisten(server, i, &bound);
        return error;
    }
    if (ret_address)
        *ret_address = bound;
    return 0;
}

// --- A thread ------------------------------------------------------------------------------------

void server_drain_streams(const struct weir_server *server, struct weir_loop *loop)
{
    for (uint32_t i = 0; i < loop->slots_used; i++) {
        if (loop->slots[i].object && loop->slots[i].kind == SLOT_STREAM)
            stream_drain(loop->slots[i].object, server->config.drain_quiet_ns);
    }
}

void server_abort_streams(struct weir_loop *loop)
{
    for (uint32_t i = 0; i < loop->slots_used; i++) {
        struct slot *slot = &loop->slots[i];
        if (slot->object && slot->kind == SLOT_STREAM)
            weir_stream_abort(slot->object);
        else if (slot->object && slot->kind == SLOT_LISTENER)
            ((struct weir_listener *)slot->object)->serve_late = false;
    }
}

// Closes the server's own listeners; those of a protocol's sessions end with their sessions.
static void server_close_listeners(const struct weir_server *server, struct weir_loop *loop)
{
    struct weir_listener *listener = loop->listeners;
    while (listener) {
        struct weir_listener *next = listener->next;
        if (listener->released_context == server) {
            listener->serve_late = true;
            weir_listener_close(listener);
        }
        listener = next;
    }
}

static void server_thread_stop(struct weir_loop *loop, struct weir_post *post)
{
    struct server_thread *thread = container_of(post, struct server_thread, stop_post);
    thread->stopping = true;
    weir_timer_stop(loop, &thread->drain_timer);
    server_close_listeners(thread->server, loop);
    server_abort_streams(loop);
}

// Streams that opened or connected since the last look are told too.
static void server_thread_tick(struct weir_loop *loop, struct weir_timer *timer)
{
    struct server_thread *thread = container_of(timer, struct server_thread, drain_timer);
    uint64_t now_ns = weir_loop_now(loop);
    if (now_ns >= thread->abort_at_ns) {
        server_log(thread->server, WEIR_LOG_WARNING, "drain time-out: %u connections are aborted",
                   loop->streams_open);
        server_thread_stop(loop, &thread->stop_post);
        return;
    }
    server_drain_streams(thread->server, loop);
    uint64_t left_ns = thread->abort_at_ns - now_ns;
    weir_timer_start(loop, timer, left_ns < SERVER_DRAIN_TICK_NS ? left_ns : SERVER_DRAIN_TICK_NS);
}

static void server_thread_drain(struct weir_loop *loop, struct weir_post *post)
{
    struct server_thread *thread = container_of(post, struct server_thread, drain_post);
    // UNTESTED: a drain that comes behind a stop
    if (thread->stopping)
        return;
    thread->draining = true;
    uint64_t now_ns = weir_clock_now(), timeout_ns = thread->server->config.drain_timeout_ns;
    thread->abort_at_ns = timeout_ns < WEIR_NEVER - now_ns ? now_ns + timeout_ns : WEIR_NEVER;
    server_close_listeners(thread->server, loop);
    server_drain_streams(thread->server, loop);
    weir_timer_start(loop, &thread->drain_timer, 1);
}

static bool server_thread_done(const struct server_thread *thread)
{
    if (thread->stopping)
        return thread->loop->streams_open == 0;
    return thread->draining && thread->loop->slots_open == 0;
}

// Nothing is accepted before: the listeners are not armed yet.
static int server_thread_confine(struct server_thread *thread)
{
    struct weir_server *server = thread->server;
    if (!server->config.loop.confine)
        return 0;
    int result = weir_loop_turn(thread->loop, 0), error = result < 0 ? result : 0;
    pthread_mutex_lock(&server->mutex);
    server->failure = server->failure ? server->failure : error;
    server->confined++;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->mutex);
    return error;
}

static int server_thread_turns(struct server_thread *thread)
{
    struct weir_loop *loop = thread->loop;
    struct weir_listener *next;
    int error = server_thread_confine(thread);
    if (error)
        return error;
    for (struct weir_listener *listener = loop->listeners; listener; listener = next) {
        next = listener->next;
        listener_arm(listener);
    }
    while (!server_thread_done(thread)) {
        int result = weir_loop_turn(loop, WEIR_NEVER);
        if (result < 0)
            return result;
        if (thread->stopping)
            server_abort_streams(loop);
    }
    return 0;
}

// Hands the loop's counters to the server; from then on nobody posts to the loop.
static void server_thread_retire(struct server_thread *thread)
{
    struct weir_server *server = thread->server;
    struct weir_loop *loop = thread->loop;
    struct weir_stats stats;
    pthread_mutex_lock(&server->mutex);
    weir_loop_stats(loop, &stats);
    stats_sum(&server->retired, &stats);
    thread->loop = NULL;
    pthread_mutex_unlock(&server->mutex);
    weir_loop_destroy(loop);
}

// Tells every loop of the new phase.
static void server_advance(struct weir_server *server, enum server_phase phase)
{
    pthread_mutex_lock(&server->mutex);
    if (phase > server->phase) {
        server->phase = phase;
        for (uint32_t i = 0; i < server->threads_count; i++) {
            struct server_thread *thread = &server->threads[i];
            if (thread->loop)
                weir_loop_post(thread->loop,
                               phase == SERVER_DRAINING ? &thread->drain_post : &thread->stop_post);
        }
        server_connections_signal(server);
        pthread_cond_broadcast(&server->changed);
    }
    pthread_mutex_unlock(&server->mutex);
}

static void *server_thread_run(void *argument)
{
    struct server_thread *thread = argument;
    struct weir_server *server = thread->server;
    int error = server_thread_turns(thread);
    if (error) {
        pthread_mutex_lock(&server->mutex);
        server->failure = server->failure ? server->failure : error;
        pthread_mutex_unlock(&server->mutex);
        server_advance(server, SERVER_STOPPING);
    }
    if (server->blocking)
        server_connections_wait(server, thread->abort_at_ns);
    server_thread_retire(thread);
    pthread_mutex_lock(&server->mutex);
    if (--server->running == 0)
        eventfd_write(server->ended_fd, 1);
    pthread_mutex_unlock(&server->mutex);
    return NULL;
}

// --- Creation ------------------------------------------------------------------------------------

static int server_init(struct weir_server *server)
{
    const struct weir_server_config *config = &server->config;
    server->threads = calloc(config->threads, sizeof *server->threads);
    server->cpus = calloc(config->cpus_count + 1, sizeof *server->cpus);
    if (!server->threads || !server->cpus)
        return -ENOMEM;
    if (config->cpus_count)
        memcpy(server->cpus, config->cpus, config->cpus_count * sizeof *server->cpus);
    server->config.cpus = server->cpus;
    server->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (server->ended_fd < 0)
        return -errno;
    server->limit.max = config->loop.streams_max;
    if (config->address_streams_max)
        return hosts_init(&server->hosts, config->loop.streams_max, config->address_streams_max);
    return 0;
}

static void server_destroy_loops(struct weir_server *server)
{
    while (server->threads_count)
        weir_loop_destroy(server->threads[--server->threads_count].loop);
}

// The first loop decides what engine `auto` is, for all of them; but if the rings of some find no
// room, all are made again without.
static int server_create_loops(struct weir_server *server, enum weir_engine engine)
{
    struct weir_loop_config config = server->config.loop;
    config.engine = engine;
    if (engine == WEIR_ENGINE_BLOCKING)
        config.buffer_count = 8; // this loop accepts, and receives nothing
    for (uint32_t i = 0; i < server->config.threads; i++) {
        struct server_thread *thread = &server->threads[i];
        if (config.engine == WEIR_ENGINE_EPOLL)
            config.min_wait_ns = 0; // what `auto` goes without
        int error = weir_loop_create(&config, &thread->loop);
        if (error && config.engine == WEIR_ENGINE_URING &&
            loop_falls_back(&server->config.loop, error)) {
            server_destroy_loops(server);
            return server_create_loops(server, WEIR_ENGINE_EPOLL);
        }
        if (error)
            return error;
        thread->server = server;
        thread->drain_post.function = server_thread_drain;
        thread->stop_post.function = server_thread_stop;
        thread->drain_timer.function = server_thread_tick;
        thread->loop->limit = &server->limit;
        server->threads_count++;
        if (config.engine == WEIR_ENGINE_AUTO)
            config.engine =
                thread->loop->engine == &engine_uring ? WEIR_ENGINE_URING : WEIR_ENGINE_EPOLL;
    }
    if (server->config.loop.engine == WEIR_ENGINE_AUTO && engine == WEIR_ENGINE_EPOLL)
        stats_add(server->threads[0].loop, fallbacks, 1);
    server->config.loop.engine = config.engine;
    server->blocking = config.engine == WEIR_ENGINE_BLOCKING;
    memcpy(server->plan, server->threads[0].loop->plan, sizeof server->plan);
    return 0;
}

int weir_server_create(const struct weir_server_config *config, struct weir_server **ret_server)
{
    struct weir_server *server = calloc(1, sizeof *server);
    if (!server)
        return -ENOMEM;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&server->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&server->mutex, NULL);
    server->config = *config;
    server->ended_fd = -1;
    const char *fault = server_config_fault(config);
    if (fault)
        server_log(server, WEIR_LOG_ERROR, "server configuration: %s", fault);
    int error = fault ? -EINVAL : server_init(server);
    if (!error)
        error = server_create_loops(server, config->loop.engine);
    if (error) {
        weir_server_destroy(server);
        return error;
    }
    *ret_server = server;
    return 0;
}

// --- Start and end -------------------------------------------------------------------------------

static int server_start_thread(struct weir_server *server, uint32_t index)
{
    struct server_thread *thread = &server->threads[index];
    pthread_attr_t attributes;
    cpu_set_t cpus;
    int error = pthread_attr_init(&attributes);
    // UNTESTED: glibc has nothing to fail for
    if (error)
        return -error;
    if (server->config.cpus_count) {
        CPU_ZERO(&cpus);
        CPU_SET(server->cpus[index % server->config.cpus_count], &cpus);
        error = pthread_attr_setaffinity_np(&attributes, sizeof cpus, &cpus);
    }
    if (!error)
        error = pthread_create(&thread->thread, &attributes, server_thread_run, thread);
    pthread_attr_destroy(&attributes);
    thread->started = !error;
    return -error;
}

// Returns when every thread has confined itself, or one could not.
static int server_await_confined(struct weir_server *server)
{
    pthread_mutex_lock(&server->mutex);
    while (server->confined < server->threads_count && !server->failure)
        pthread_cond_wait(&server->changed, &server->mutex);
    int error = server->failure;
    pthread_mutex_unlock(&server->mutex);
    if (!error)
        return 0;
    weir_server_stop(server);
    weir_server_wait(server);
    return error;
}

int weir_server_start(struct weir_server *server)
{
    if (server->started)
        return -EINVAL;
    server->started = true;
    server->running = server->threads_count;
    for (uint32_t i = 0; i < server->threads_count; i++) {
        int error = server_start_thread(server, i);
        if (!error)
            continue;
        server_log(server, WEIR_LOG_ERROR, "thread %u does not start%s: %s", i,
                   server->config.cpus_count ? " (is its CPU there?)" : "", strerror(-error));
        pthread_mutex_lock(&server->mutex);
        server->running -= server->threads_count - i;
        pthread_mutex_unlock(&server->mutex);
        weir_server_stop(server);
        weir_server_wait(server);
        return error;
    }
    return server->config.loop.confine ? server_await_confined(server) : 0;
}

void weir_server_drain(struct weir_server *server)
{
    server_remove_paths(server);
    server_advance(server, SERVER_DRAINING);
}

void weir_server_stop(struct weir_server *server)
{
    server_remove_paths(server);
    server_advance(server, SERVER_STOPPING);
}

int weir_server_wait(struct weir_server *server)
{
    for (uint32_t i = 0; i < server->threads_count; i++) {
        if (!server->threads[i].started)
            continue;
        pthread_join(server->threads[i].thread, NULL);
        server->threads[i].started = false;
    }
    server_remove_paths(server); // a server that ended by an error
    return server->failure;
}

int weir_server_ended_descriptor(const struct weir_server *server)
{
    return server->ended_fd;
}

void weir_server_destroy(struct weir_server *server)
{
    if (!server)
        return;
    if (server->started) {
        weir_server_stop(server);
        weir_server_wait(server);
    }
    server_remove_paths(server);
    server_destroy_loops(server);
    if (server->ended_fd >= 0)
        close(server->ended_fd);
    hosts_fini(&server->hosts);
    pthread_cond_destroy(&server->changed);
    pthread_mutex_destroy(&server->mutex);
    free(server->threads);
    free(server->cpus);
    free(server);
}

// --- Views ---------------------------------------------------------------------------------------

void weir_server_stats(const struct weir_server *server, struct weir_stats *ret_stats)
{
    pthread_mutex_t *mutex = (pthread_mutex_t *)&server->mutex;
    struct weir_stats stats;
    pthread_mutex_lock(mutex);
    *ret_stats = server->retired;
    for (uint32_t i = 0; i < server->threads_count; i++) {
        if (!server->threads[i].loop)
            continue;
        weir_loop_stats(server->threads[i].loop, &stats);
        stats_sum(ret_stats, &stats);
    }
    if (server->blocking)
        server_connections_stats(server, ret_stats);
    pthread_mutex_unlock(mutex);
}

const char *weir_server_engine(const struct weir_server *server)
{
    static const char *const names[] = {
        [WEIR_ENGINE_AUTO] = "auto",
        [WEIR_ENGINE_URING] = "uring",
        [WEIR_ENGINE_EPOLL] = "epoll",
        [WEIR_ENGINE_BLOCKING] = "blocking",
    };
    return names[server->config.loop.engine];
}

const char *weir_server_plan(const struct weir_server *server)
{
    return server->plan;
}
