// Effects through the ring of the loop.
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/socket.h>
#include <unistd.h>

#include "effects.h"
#include "engines/uring/restrict.h"
#include "engines/uring/uring.h"

// Submits the entry and waits for its completion, which stays in the queue: it has the token of a
// cancel, which the loop passes over.
static int64_t effects_submit(const struct effect_case *attempt, const struct io_uring_sqe *entry)
{
    static uint32_t tag;
    struct weir_loop *loop = weir_stream_loop(attempt->stream);
    struct uring *uring = uring_of(loop);
    struct io_uring_sqe *sqe = uring_sqe(loop, OPERATION_CANCEL, 0, 0);
    struct io_uring_cqe *cqe;
    uint64_t token = loop_token(loop, OPERATION_CANCEL, 0, 0) + (++tag & 0xffff);
    unsigned head;
    *sqe = *entry;
    sqe->user_data = token;
    uring_submit_early(loop);
    for (int tries = 0; tries < 1000000; tries++) {
        uring->operations->enter(uring->operations_state, &uring->ring, 0, 0,
                                 IORING_ENTER_GETEVENTS, NULL, 0);
        io_uring_for_each_cqe(&uring->ring, head, cqe)
        {
            if (cqe->user_data == token)
                return cqe->res;
        }
    }
    return -ETIMEDOUT;
}

static uint64_t effects_pointer(const void *pointer)
{
    return (uint64_t)(uintptr_t)pointer;
}

// --- Files: the argument is a path ---------------------------------------------------------------

static int64_t effects_ring_open(const struct effect_case *attempt)
{
    const struct io_uring_sqe entry = {
        .opcode = IORING_OP_OPENAT,
        .fd = AT_FDCWD,
        .addr = effects_pointer(attempt->argument),
    };
    return effects_submit(attempt, &entry);
}

static int64_t effects_ring_open2_with(const struct effect_case *attempt, uint64_t flags,
                                       uint64_t mode)
{
    const struct open_how how = { .flags = flags, .mode = mode };
    const struct io_uring_sqe entry = {
        .opcode = IORING_OP_OPENAT2,
        .fd = AT_FDCWD,
        .addr = effects_pointer(attempt->argument),
        .len = sizeof how,
        .off = effects_pointer(&how),
    };
    return effects_submit(attempt, &entry);
}

static int64_t effects_ring_open2(const struct effect_case *attempt)
{
    return effects_ring_open2_with(attempt, O_RDONLY, 0);
}

static int64_t effects_ring_write2(const struct effect_case *attempt)
{
    return effects_ring_open2_with(attempt, O_WRONLY, 0);
}

static int64_t effects_ring_create2(const struct effect_case *attempt)
{
    return effects_ring_open2_with(attempt, O_WRONLY | O_CREAT, 0600);
}

// --- Sockets: the argument is a port -------------------------------------------------------------

static int64_t effects_ring_socket(const struct effect_case *attempt)
{
    const struct io_uring_sqe entry = { .opcode = IORING_OP_SOCKET,
                                        .fd = AF_INET,
                                        .off = SOCK_STREAM };
    return effects_submit(attempt, &entry);
}

// Dissolves a connection, which is what a reset does and is allowed, and connects elsewhere.
static int64_t effects_ring_connect(const struct effect_case *attempt)
{
    static const struct sockaddr_in nowhere = { .sin_family = AF_UNSPEC };
    const struct sockaddr_in address = effects_loopback(attempt);
    struct io_uring_sqe entry = { .opcode = IORING_OP_CONNECT, .off = sizeof nowhere };
    uring_sqe_descriptor(&entry, attempt->victim);
    entry.addr = effects_pointer(&nowhere);
    int64_t dissolved = effects_submit(attempt, &entry);
    entry.addr = effects_pointer(&address);
    entry.off = sizeof address;
    return dissolved ? -ENOTRECOVERABLE : effects_submit(attempt, &entry);
}

static int64_t effects_ring_connect_new(const struct effect_case *attempt)
{
    const struct sockaddr_in address = effects_loopback(attempt);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    const struct io_uring_sqe entry = {
        .opcode = IORING_OP_CONNECT,
        .fd = fd,
        .addr = effects_pointer(&address),
        .off = sizeof address,
    };
    int64_t result = effects_submit(attempt, &entry);
    close(fd);
    return result;
}

static int64_t effects_ring_fast_open_on(const struct effect_case *attempt,
                                         struct io_uring_sqe *entry)
{
    const struct sockaddr_in address = effects_loopback(attempt);
    entry->opcode = IORING_OP_SEND;
    entry->addr = effects_pointer("x");
    entry->len = 1;
    entry->msg_flags = MSG_FASTOPEN | MSG_DONTWAIT | MSG_NOSIGNAL;
    entry->addr2 = effects_pointer(&address);
    entry->addr_len = sizeof address;
    return effects_submit(attempt, entry);
}

// Dissolves a connection and sends with an address: TCP Fast Open, which connects without CONNECT.
static int64_t effects_ring_fast_open(const struct effect_case *attempt)
{
    static const struct sockaddr_in nowhere = { .sin_family = AF_UNSPEC };
    struct io_uring_sqe dissolve = {
        .opcode = IORING_OP_CONNECT,
        .addr = effects_pointer(&nowhere),
        .off = sizeof nowhere,
    };
    struct io_uring_sqe entry = { 0 };
    uring_sqe_descriptor(&dissolve, attempt->victim);
    uring_sqe_descriptor(&entry, attempt->victim);
    if (effects_submit(attempt, &dissolve))
        return -ENOTRECOVERABLE;
    return effects_ring_fast_open_on(attempt, &entry);
}

// The same on a listener whose end was shut.
static int64_t effects_ring_fast_open_listener(const struct effect_case *attempt)
{
    for (int fd = 3; fd < EFFECTS_DESCRIPTORS_MAX; fd++) {
        const struct io_uring_sqe shut = { .opcode = IORING_OP_SHUTDOWN, .fd = fd, .len = SHUT_RD };
        struct io_uring_sqe entry = { .fd = fd };
        effects_submit(attempt, &shut);
        effects_ring_fast_open_on(attempt, &entry);
    }
    return 0;
}

static int64_t effects_ring_fast_open_new(const struct effect_case *attempt)
{
    struct io_uring_sqe entry = { .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) };
    return entry.fd < 0 ? -errno : effects_ring_fast_open_on(attempt, &entry);
}

// --- Everything else -----------------------------------------------------------------------------

static bool effects_operation_is_listed(unsigned value, uint32_t abilities)
{
    const struct restrict_row *rows;
    size_t count = restrict_table(&rows);
    for (size_t i = 0; i < count; i++) {
        if (rows[i].kind == RESTRICT_OPERATION && rows[i].value == value &&
            (!rows[i].abilities || rows[i].abilities & abilities))
            return true;
    }
    return false;
}

// Tries every operation that the table does not list for this server. Returns how many were not
// refused.
static int64_t effects_ring_others(const struct effect_case *attempt)
{
    int64_t left = 0;
    for (unsigned value = 0; value < IORING_OP_LAST; value++) {
        const struct io_uring_sqe entry = { .opcode = (uint8_t)value, .fd = -1 };
        if (!effects_operation_is_listed(value, attempt->needs->abilities))
            left += effects_submit(attempt, &entry) != -EACCES;
    }
    return left;
}

static bool effects_flag_is_listed(unsigned value)
{
    const struct restrict_row *rows;
    size_t count = restrict_table(&rows);
    for (size_t i = 0; i < count; i++) {
        if (rows[i].kind == RESTRICT_FLAG && rows[i].value == value)
            return true;
    }
    return false;
}

// Tries every flag that the table does not list (links, drains, workers) on an operation that it
// lists. Returns how many were not refused.
static int64_t effects_ring_flags(const struct effect_case *attempt)
{
    int64_t left = 0;
    for (unsigned bit = 0; bit < 8; bit++) {
        const struct io_uring_sqe entry = {
            .opcode = IORING_OP_RECV,
            .flags = (uint8_t)(1U << bit),
            .fd = -1,
        };
        if (effects_flag_is_listed(1U << bit))
            continue;
        int64_t result = effects_submit(attempt, &entry);
        // The eighth is no flag yet, and DRAIN excludes CQE_SKIP_SUCCESS on one ring.
        left += result != -EACCES && result != -EINVAL && result != -EOPNOTSUPP;
    }
    return left;
}

// An entry with the credentials of another. None is registered, and none can be.
static int64_t effects_ring_personality(const struct effect_case *attempt)
{
    int64_t left = 0;
    for (uint16_t personality = 1; personality < 8; personality++) {
        const struct io_uring_sqe entry = {
            .opcode = IORING_OP_RECV,
            .fd = -1,
            .personality = personality,
        };
        left += effects_submit(attempt, &entry) != -EINVAL;
    }
    return left;
}

const struct effect effects_by_ring[] = {
    { "ring-open", effects_ring_open },
    { "ring-open2", effects_ring_open2 },
    { "ring-write2", effects_ring_write2 },
    { "ring-create2", effects_ring_create2 },
    { "ring-socket", effects_ring_socket },
    { "ring-connect", effects_ring_connect },
    { "ring-connect-new", effects_ring_connect_new },
    { "ring-fast-open", effects_ring_fast_open },
    { "ring-fast-open-listener", effects_ring_fast_open_listener },
    { "ring-fast-open-new", effects_ring_fast_open_new },
    { "ring-flags", effects_ring_flags },
    { "ring-personality", effects_ring_personality },
    { "ring-others", effects_ring_others },
    { NULL, NULL },
};
