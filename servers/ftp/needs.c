// See needs.h. Each row is a call that a command's callback or job makes; what moves bytes, listens
// and connects is the core's, and follows from the abilities.
#include "needs.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "session.h"

#define WHOLE UINT64_MAX

enum {
    JOB = SANDBOX_JOB,
    BOTH = SANDBOX_LOOP_URING | SANDBOX_LOOP_EPOLL | SANDBOX_LOOP_BLOCKING | JOB,
    WRITES = WEIR_ABILITY_WRITE,
};

static const struct sandbox_call needs_calls[] = {
    // What only looks is first tried on the loop, with the names that the kernel has in memory.
    { .name = "openat2", .threads = BOTH },
    { .name = "newfstatat", .otherwise = "fstatat64", .threads = BOTH },
    { .name = "fstat", .threads = BOTH },
    { .name = "faccessat2", .threads = BOTH },
    { .name = "close", .threads = BOTH },
    // Passive ports and names of uploads that nobody foresees.
    { .name = "getrandom", .threads = BOTH },
    // Takes O_NONBLOCK back, and keeps a home directory open as long as its transfer.
    { .name = "fcntl",
      .threads = BOTH,
      .checks_count = 2,
      .checks = { { 1, WHOLE, F_SETFL }, { 2, WHOLE, 0 } } },
    { .name = "fcntl",
      .threads = BOTH,
      .checks_count = 1,
      .checks = { { 1, WHOLE, F_DUPFD_CLOEXEC } } },

    // Listings.
    { .name = "getdents64", .threads = JOB },
    { .name = "readlinkat", .threads = JOB },
    { .name = "fcntl", .threads = JOB, .checks_count = 1, .checks = { { 1, WHOLE, F_GETFL } } },
    { .name = "fcntl",
      .threads = JOB,
      .checks_count = 2,
      .checks = { { 1, WHOLE, F_SETFD }, { 2, WHOLE, FD_CLOEXEC } } },

    // crypt(3) maps the memory that its hash is to fill.
    { .name = "mmap", .threads = JOB, .checks_count = 1, .checks = { { 2, PROT_EXEC, 0 } } },
    { .name = "munmap", .threads = JOB },

    // Uploads and commands that change something. Landlock keeps names to the root; modes and times
    // are not its business, so they are set by descriptor, which must have been opened.
    { .name = "openat", .threads = JOB, .when = WRITES },
    { .name = "pwritev", .threads = JOB, .when = WRITES },
    { .name = "ftruncate", .threads = JOB, .when = WRITES },
    { .name = "fsync", .threads = JOB, .when = WRITES },
    { .name = "fchmod", .threads = JOB, .when = WRITES },
    { .name = "utimensat",
      .threads = JOB,
      .when = WRITES,
      .checks_count = 1,
      .checks = { { 1, WHOLE, 0 } } },
    { .name = "mkdirat", .threads = JOB, .when = WRITES },
    { .name = "unlinkat", .threads = JOB, .when = WRITES },
    { .name = "renameat", .threads = JOB, .when = WRITES },
    { .name = "renameat2", .threads = JOB, .when = WRITES },
    // Tried for a file that its owner can neither read nor write.
    { .name = "chmod", .otherwise = "fchmodat", .threads = JOB, .level = SANDBOX_REFUSED },
};

// A rule of Landlock for each port. So many take seven milliseconds at the start; all that the
// kernel gives out, the default, would take 80.
enum { NEEDS_PORTS_MAX = 4096 };

// As ftp_session_may_write, for the server as a whole.
static bool needs_writes(const struct ftp_server *server)
{
    return !server->read_only && (server->users.count || server->anonymous_write);
}

void ftp_needs_complete(struct ftp_needs *ret_needs, const struct ftp_server *server)
{
    bool writes = needs_writes(server);
    ret_needs->root = (struct sandbox_path){
        .fd = server->root_fd,
        .access = writes ? SANDBOX_CHANGE : SANDBOX_READ,
    };
    ret_needs->needs = (struct sandbox_needs){
        .abilities = WEIR_ABILITY_ACCEPT | WEIR_ABILITY_LISTEN | WEIR_ABILITY_END |
                     WEIR_ABILITY_OPEN | WEIR_ABILITY_READ | WEIR_ABILITY_JOBS,
        .calls = needs_calls,
        .calls_count = sizeof needs_calls / sizeof needs_calls[0],
        .paths = &ret_needs->root,
        .paths_count = 1,
    };
    if (server->passive_last - server->passive_first < NEEDS_PORTS_MAX) {
        ret_needs->needs.port_first = server->passive_first;
        ret_needs->needs.port_last = server->passive_last;
    }
    if (writes)
        ret_needs->needs.abilities |= WEIR_ABILITY_WRITE;
    if (server->allow_active)
        ret_needs->needs.abilities |= WEIR_ABILITY_CONNECT;
}
