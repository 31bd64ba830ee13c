// Private to server.c and server_blocking.c: the server's record and its threads.
#ifndef WEIR_SERVER_H
#define WEIR_SERVER_H

#include <pthread.h>

#include "hosts.h"
#include "loop.h"

// A thread with its loop. With the blocking engine there is one, and it only accepts.
struct server_thread {
    struct weir_server *server;
    struct weir_loop *loop; // under server->mutex; NULL once the thread has ended
    pthread_t thread;
    bool started;
    bool draining, stopping; // of the loop's thread; stopping: everything is aborted
    uint64_t abort_at_ns;    // when draining gives up
    struct weir_timer drain_timer;
    struct weir_post drain_post, stop_post;
};

enum server_phase { SERVER_SERVING, SERVER_DRAINING, SERVER_STOPPING };

struct connection; // a blocking connection and its thread

// A unix listener's path. All loops share its socket, so that no loop knows when it is done with.
struct server_path {
    struct server_path *next;
    char text[sizeof((struct sockaddr_un *)NULL)->sun_path + 1];
};

struct weir_server {
    struct weir_server_config config; // with the engine that was chosen
    struct limit limit;
    struct hosts hosts;
    struct server_thread *threads;
    uint32_t threads_count;
    int ended_fd;
    uint16_t *cpus;
    bool blocking;
    bool started;
    char plan[sizeof((struct weir_loop *)NULL)->plan];

    pthread_mutex_t mutex;  // guards what follows
    pthread_cond_t changed; // a connection ended, a thread was confined, or the phase changed
    enum server_phase phase;
    uint32_t running;          // threads
    uint32_t confined;         // threads that have tried to confine themselves
    int failure;               // first error of a loop
    struct server_path *paths; // not yet removed
    struct weir_stats retired; // of loops that are gone
    struct connection *connections;
    uint32_t connections_count, connections_high;
};

// config.c
// Names the first field that is out of its range, or returns NULL.
const char *server_config_fault(const struct weir_server_config *config);

// server.c
void server_log(const struct weir_server *server, enum weir_log_level level, const char *format,
                ...) __attribute__((format(printf, 3, 4)));
void server_drain_streams(const struct weir_server *server, struct weir_loop *loop);
void server_abort_streams(struct weir_loop *loop);

// server_blocking.c
// The `take` of the accepting thread's listeners: a thread for the connection.
int server_take(struct weir_listener *listener, int fd, const struct weir_address *peer);
// Tells all connections of the new phase. With the mutex held.
void server_connections_signal(struct weir_server *server);
// Returns when no connection is left; aborts them at abort_at_ns.
void server_connections_wait(struct weir_server *server, uint64_t abort_at_ns);
// Adds the statistics of connections that are open. With the mutex held.
void server_connections_stats(const struct weir_server *server, struct weir_stats *sum);

#endif
