// Connections that ask for one large file again and again, and let the kernel drop its content.
//
// recv(2) with MSG_TRUNC takes bytes out of a TCP socket without copying them. What is left of a
// client then costs so little that a server with sendfile is the slower side.
#ifndef SINK_H
#define SINK_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

enum { SINK_CONNECTIONS_MAX = 1024 };

// What every reply must be: all have the same length, and those that are read the same content.
struct sink_model {
    uint64_t length;
    uint64_t hash;
};

struct sink;

// What was counted between two moments.
struct sink_count {
    uint64_t bytes; // of contents
    uint64_t replies;
    uint64_t receives;
    uint64_t wakes;
};

// Fetches the file once over a connection of its own, with all of its content. -errno; -EPROTO for
// what is no answer with status 200 and a Content-Length over 0.
int sink_fetch(const struct sockaddr_in *address, const char *path, struct sink_model *ret_model);

// Opens the connections, and asks on each. `model` says what all replies have to be. -errno.
int sink_open(const struct sockaddr_in *address, const char *path, const struct sink_model *model,
              uint32_t connections, struct sink **ret_sink);
// Receives until the moment, in nanoseconds of CLOCK_MONOTONIC. -errno; -EPROTO when a reply is not
// like the model's, -ECONNRESET when the server ends a connection.
int sink_run(struct sink *sink, uint64_t until_ns);
// Everything since sink_open.
void sink_counted(const struct sink *sink, struct sink_count *ret_count);
// Ends all connections and frees. Accepts NULL.
void sink_close(struct sink *sink);

#endif
