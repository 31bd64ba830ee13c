// See needs.h. Each row is a call that files.c, lookup.c or listing.c makes; what moves bytes is
// the core's, and follows from the abilities.
#include "needs.h"

#include <fcntl.h>

#include "site.h"

#define WHOLE UINT64_MAX

enum {
    LOOPS = SANDBOX_LOOP_URING | SANDBOX_LOOP_EPOLL | SANDBOX_LOOP_BLOCKING,
    BOTH = LOOPS | SANDBOX_JOB,
};

static const struct sandbox_call needs_calls[] = {
    // A file whose names and content the kernel has in memory is looked up on the loop, faster than
    // the ring could; the rest in jobs.
    { .name = "openat2", .threads = BOTH },
    { .name = "newfstatat", .otherwise = "fstatat64", .threads = BOTH },
    { .name = "fstat", .threads = BOTH },
    { .name = "preadv2", .threads = BOTH },
    { .name = "close", .threads = BOTH },

    // Listings. fdopendir(3) looks at the descriptor's flags and sets one.
    { .name = "getdents64", .threads = SANDBOX_JOB },
    { .name = "fcntl",
      .threads = SANDBOX_JOB,
      .checks_count = 1,
      .checks = { { 1, WHOLE, F_GETFL } } },
    { .name = "fcntl",
      .threads = SANDBOX_JOB,
      .checks_count = 2,
      .checks = { { 1, WHOLE, F_SETFD }, { 2, WHOLE, FD_CLOEXEC } } },
};

void http_needs_complete(struct http_needs *ret_needs, const struct http_settings *settings,
                         int root)
{
    // The logs are written in jobs.
    struct sandbox_needs needs = {
        .abilities = WEIR_ABILITY_ACCEPT | WEIR_ABILITY_END | WEIR_ABILITY_JOBS,
    };
    if (!settings->echo) {
        ret_needs->root = (struct sandbox_path){ .fd = root, .access = SANDBOX_READ };
        needs.abilities |= WEIR_ABILITY_READ;
        needs.calls = needs_calls;
        needs.calls_count = sizeof needs_calls / sizeof needs_calls[0];
        needs.paths = &ret_needs->root;
        needs.paths_count = 1;
    }
    ret_needs->needs = needs;
}
