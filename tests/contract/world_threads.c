// The world of loops on threads: listeners run in a weir_server, outbound streams, timers, jobs and
// posts on one more loop with its own thread. It is the blocking engine's natural topology, and the
// one in which every engine's server is tested. The test's thread holds the world's lock except in
// waits; callbacks and calls take it.
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "world_sockets.h"

struct threads {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    uint64_t changes; // callbacks and calls that ran
    struct weir_server *server;
    bool server_started;
    struct weir_loop *loop;
    pthread_t thread;
    bool stopping;
    struct threads_call *lost; // their streams closed before they ran
};

static struct threads *threads_of(struct world *world)
{
    return world->state;
}

static void threads_lock(struct world *world)
{
    pthread_mutex_lock(&threads_of(world)->mutex);
}

static void threads_unlock(struct world *world)
{
    struct threads *threads = threads_of(world);
    threads->changes++;
    pthread_cond_signal(&threads->changed);
    pthread_mutex_unlock(&threads->mutex);
}

static int threads_open(struct world *world)
{
    struct threads *threads = calloc(1, sizeof(*threads));
    if (!threads)
        return -ENOMEM;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&threads->mutex, NULL);
    pthread_cond_init(&threads->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    world->state = threads;
    world->lock = threads_lock;
    world->unlock = threads_unlock;
    pthread_mutex_lock(&threads->mutex);
    int result = weir_server_create(&world->server, &threads->server);
    if (result)
        fail_msg("the server of %s is not made: %s", world->variant->name, strerror(-result));
    return 0;
}

// --- The loop beside the server ------------------------------------------------------------------

static void *threads_run(void *argument)
{
    struct world *world = argument;
    struct threads *threads = threads_of(world);
    pthread_mutex_lock(&threads->mutex);
    while (!threads->stopping) {
        pthread_mutex_unlock(&threads->mutex);
        int result = weir_loop_turn(threads->loop, WEIR_NEVER);
        pthread_mutex_lock(&threads->mutex);
        if (result < 0) {
            world_complain(world, "the loop broke");
            break;
        }
    }
    pthread_mutex_unlock(&threads->mutex);
    weir_loop_destroy(threads->loop);
    return NULL;
}

static struct weir_loop *threads_loop(struct world *world)
{
    struct threads *threads = threads_of(world);
    if (threads->loop)
        return threads->loop;
    int result = weir_loop_create(world->config, &threads->loop);
    if (result)
        fail_msg("the loop is not made: %s", strerror(-result));
    assert_int_equal(pthread_create(&threads->thread, NULL, threads_run, world), 0);
    return threads->loop;
}

// --- Waiting and calling -------------------------------------------------------------------------

static void threads_start(struct world *world)
{
    struct threads *threads = threads_of(world);
    if (threads->server_started || !threads->server)
        return;
    threads->server_started = true;
    int result = weir_server_start(threads->server);
    if (result)
        fail_msg("the server does not start: %s", strerror(-result));
}

static struct timespec threads_deadline(uint64_t wait_ns)
{
    uint64_t deadline = weir_clock_now() + wait_ns;
    return (struct timespec){ .tv_sec = (time_t)(deadline / SECOND),
                              .tv_nsec = (long)(deadline % SECOND) };
}

// Sockets become readable without a callback, so a wait is never longer than the world's step.
static void threads_turn(struct world *world, uint64_t wait_ns)
{
    struct threads *threads = threads_of(world);
    if (!threads)
        return;
    threads_start(world);
    uint64_t changes = threads->changes;
    struct timespec deadline = threads_deadline(wait_ns);
    // The first wait also lets waiting callbacks have the lock.
    do {
        if (pthread_cond_timedwait(&threads->changed, &threads->mutex, &deadline))
            return;
    } while (threads->changes == changes);
}

static int threads_listen(struct world *world, const struct weir_address *address,
                          const struct weir_listener_config *config,
                          struct weir_address *ret_address)
{
    return weir_server_listen(threads_of(world)->server, address, &config->socket, config->protocol,
                              config->context, ret_address);
}

struct threads_call {
    struct weir_post post;
    struct world *world;
    struct subject *subject;
    void (*function)(struct weir_loop *loop, void *argument);
    void *argument;
    bool done;
    bool lost; // the caller has gone on, and with it what the argument points to
    struct threads_call *next;
};

static void threads_run_call(struct weir_loop *loop, struct weir_post *post)
{
    struct threads_call *call = (struct threads_call *)post;
    struct world *world = call->world;
    world->lock(world);
    if (!call->lost)
        call->function(loop, call->argument);
    call->done = true;
    world->unlock(world);
}

static bool threads_call_over(void *argument)
{
    struct threads_call *call = argument;
    return call->done || (call->subject && call->subject->closed);
}

// While the world is locked and the subject open, its `closed` has not returned, so its loop
// exists.
static bool threads_call(struct world *world, struct subject *subject,
                         void (*function)(struct weir_loop *loop, void *argument), void *argument)
{
    struct threads_call *call = calloc(1, sizeof(*call));
    if (!call)
        abort();
    *call = (struct threads_call){
        .world = world, .subject = subject, .function = function, .argument = argument
    };
    call->post.function = threads_run_call;
    if (subject && !subject->stream) {
        free(call);
        return false;
    }
    weir_loop_post(subject ? weir_stream_loop(subject->stream) : threads_loop(world), &call->post);
    if (!world_until(world, threads_call_over, call, WORLD_PATIENCE))
        fail_msg("a posted function does not run");
    bool done = call->done;
    if (done) {
        free(call);
    } else { // it may still stand in its loop's list
        call->lost = true;
        call->next = threads_of(world)->lost;
        threads_of(world)->lost = call;
    }
    return done;
}

// The server's and the loop's, added up: all members are counts.
static void threads_stats(struct world *world, struct weir_stats *ret_stats)
{
    struct threads *threads = threads_of(world);
    struct weir_stats more = { 0 };
    weir_server_stats(threads->server, ret_stats);
    if (threads->loop)
        weir_loop_stats(threads->loop, &more);
    for (size_t i = 0; i < sizeof(more) / sizeof(uint64_t); i++)
        ((uint64_t *)ret_stats)[i] += ((const uint64_t *)&more)[i];
}

// --- The end -------------------------------------------------------------------------------------

static void threads_stop_loop(struct weir_loop *loop, void *argument)
{
    struct threads *threads = argument;
    (void)loop;
    threads->stopping = true;
}

static void threads_close(struct world *world)
{
    struct threads *threads = threads_of(world);
    if (threads->loop)
        (void)threads_call(world, NULL, threads_stop_loop, threads);
    // Their callbacks take the lock once more.
    pthread_mutex_unlock(&threads->mutex);
    if (threads->loop)
        pthread_join(threads->thread, NULL);
    weir_server_destroy(threads->server);
    pthread_mutex_lock(&threads->mutex);
    pthread_mutex_unlock(&threads->mutex);
    pthread_mutex_destroy(&threads->mutex);
    pthread_cond_destroy(&threads->changed);
    for (struct threads_call *call = threads->lost, *next; call; call = next) {
        next = call->next;
        free(call);
    }
    free(threads);
    world->state = NULL;
}

struct weir_server *world_server(struct world *world)
{
    return threads_of(world)->server;
}

// Loops wait for processors as well. The threads of blocking connections do that for each other.
static uint64_t threads_waited(struct world *world)
{
    if (world->variant->engine == WEIR_ENGINE_BLOCKING)
        return sockets_waited(world);
    DIR *threads = opendir("/proc/self/task");
    uint64_t waited = 0;
    for (struct dirent *entry; threads && (entry = readdir(threads));) {
        char name[sizeof("self/task/") + sizeof(entry->d_name)];
        (void)snprintf(name, sizeof(name), "self/task/%s", entry->d_name);
        waited += sockets_thread_waited(name);
    }
    if (threads)
        closedir(threads);
    return waited;
}

const struct world_operations world_threads = {
    .name = "threads",
    .open = threads_open,
    .close = threads_close,
    .now = sockets_now,
    .turn = threads_turn,
    .listen = threads_listen,
    .call = threads_call,
    .stats = threads_stats,
    .descriptors = sockets_descriptors,
    .waited = threads_waited,
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
