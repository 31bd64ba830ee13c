// What an attacker would do with a thread of a server. Each effect returns a result, or -errno.
#ifndef EFFECTS_H
#define EFFECTS_H

#include <netinet/in.h>
#include <stdint.h>

#include "sandbox_calls.h"

// What an effect may use: the connection that asks for it, the first connection, whose socket an
// attacker finds, what the server stated, and one word that came with the name.
struct effect_case {
    struct weir_stream *stream, *victim;
    const struct sandbox_needs *needs;
    const char *argument;
};

// Where descriptors are looked for: those of a test are few.
enum { EFFECTS_DESCRIPTORS_MAX = 64 };

struct effect {
    const char *name;
    int64_t (*run)(const struct effect_case *attempt);
};

// By system call, and through the ring; the last row has no name.
extern const struct effect effects_by_call[];
extern const struct effect effects_by_ring[];

// 127.0.0.1 with the port that the argument names.
struct sockaddr_in effects_loopback(const struct effect_case *attempt);

#endif
