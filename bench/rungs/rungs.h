// An echo server on epoll whose habits can be chosen one by one.
#ifndef RUNGS_H
#define RUNGS_H

#include <netinet/in.h>
#include <stdbool.h>

enum {
    RUNG_BLOCK = 16384, // bytes of a receive, as weir's buffers have
    RUNG_BLOCKS_MAX = 8,
    RUNG_ADDRESS_SIZE = 32,
};

struct rung_habits {
    bool tries_first; // sends at once, and waits for a writable socket only when that falls short
    bool once;        // EPOLLONESHOT: each event disarms the socket, and it is armed again
    bool accepts_all; // an event of the listener is answered by accepting until none waits
    bool edge;        // edge-triggered and registered once for both directions
    bool until_again; // receives until EAGAIN, instead of until a receive comes short
    int blocks;       // received before they are sent together, at most RUNG_BLOCKS_MAX
};

struct rung_server;

// Binds and listens; SIGTERM and SIGINT, which it blocks, end rung_server_run(). -errno.
int rung_server_open(const struct rung_habits *habits, const struct sockaddr_in *address,
                     struct rung_server **ret_server);
void rung_server_address(const struct rung_server *server, char ret_text[RUNG_ADDRESS_SIZE]);
// Serves until a signal. -errno when epoll fails.
int rung_server_run(struct rung_server *server);
// Ends all connections and frees. Accepts NULL.
void rung_server_close(struct rung_server *server);

#endif
