// The system calls that the sandbox leaves, as one table for all threads, engines and modes.
#ifndef SANDBOX_CALLS_H
#define SANDBOX_CALLS_H

#include <stddef.h>
#include <stdint.h>

#include "sandbox.h"

// Kinds of threads.
enum sandbox_thread {
    SANDBOX_MAIN = 1,
    SANDBOX_LOOP_URING = 2,
    SANDBOX_LOOP_EPOLL = 4,
    SANDBOX_LOOP_BLOCKING = 8,
    SANDBOX_JOB = 16,
    SANDBOX_JOB_EPOLL = 32, // beside SANDBOX_JOB: epoll's helpers also do what a ring would
};

enum sandbox_level {
    SANDBOX_LEFT,    // in both modes
    SANDBOX_LEFT_ON, // in mode on; in strict mode it ends the process
    SANDBOX_QUIET,   // in mode on; in strict mode it fails, and its caller goes on without it
    SANDBOX_REFUSED, // fails in both modes, and its caller goes on without it
    SANDBOX_ABORT,   // in mode on; in strict mode it is the first step of abort(3), and the last
};

// A condition on an argument: what `mask` selects of it equals `value`.
struct sandbox_check {
    unsigned index;
    uint64_t mask, value;
};

// Stands for this process's own number in a check.
#define SANDBOX_OWN_PROCESS UINT64_MAX

enum { SANDBOX_CHECKS_MAX = 3 };

struct sandbox_call {
    const char *name;
    const char *otherwise; // the call in its place on architectures that lack it, or NULL
    uint32_t threads;      // of enum sandbox_thread
    uint32_t when;         // any of these WEIR_ABILITY_ or SANDBOX_WITH_ bits brings it; 0: always
    uint32_t unless;       // any of these takes it away
    enum sandbox_level level;
    int refusal; // the error where it is refused; 0: EPERM
    unsigned checks_count;
    struct sandbox_check checks[SANDBOX_CHECKS_MAX];
};

// The rows of all servers, then the server's own; NULL behind the last. A name may have several
// rows, with different checks.
const struct sandbox_call *sandbox_call_at(const struct sandbox_needs *needs, size_t index);

// Whether the row belongs to a thread's filter. `having` are abilities and conditions.
bool sandbox_call_applies(const struct sandbox_call *row, uint32_t threads, uint32_t having);

// Whether the mode leaves the call to such a thread.
bool sandbox_call_is_left(const struct sandbox_call *row, enum sandbox_mode mode);

// The kinds that a loop or a helper of the engine is. The blocking engine's jobs run on its loops.
uint32_t sandbox_threads_of(enum weir_engine engine, enum weir_thread thread);

#endif
