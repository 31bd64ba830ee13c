// Why io_uring cannot be used, from facts about this process: apart from the gathering of the
// facts, so that machines that nobody has at hand can be tested.
#ifndef WEIR_PROBE_H
#define WEIR_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct probe_facts {
    int error;        // what io_uring_setup(2), or registering a buffer ring, answered
    int disabled;     // sysctl kernel.io_uring_disabled; -1: there is none (before Linux 6.6)
    int64_t group;    // sysctl kernel.io_uring_group; -1: none is set
    bool in_group;    // this process belongs to it
    bool admin;       // CAP_SYS_ADMIN is effective
    bool seccomp;     // a seccomp filter binds this thread
    uint64_t memlock; // RLIMIT_MEMLOCK, bytes
    uint64_t files;   // RLIMIT_NOFILE
    char release[65]; // of the kernel
};

void probe_gather(int error, struct probe_facts *ret_facts);

// Writes the cause and its remedy in one line, and returns 0 or the error that
// weir_uring_available() is to return.
int probe_explain(const struct probe_facts *facts, char *ret_text, size_t size);

#endif
