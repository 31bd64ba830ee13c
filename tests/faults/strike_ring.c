// Failures of a real ring, behind the seam: the linker puts this table before the kernel's. An
// entry that is to fail goes down as one that does nothing, so that nothing was done when its
// completion says so; but a close and a cancel are done, and say something else.
#include <errno.h>
#include <stdbool.h>

#include "engines/uring/ring.h"
#include "strike.h"

extern const struct ring_operations __real_ring_kernel, __wrap_ring_kernel;

// No token of the engine is like it: the operation's number would be far too large.
#define STRIKE_TOKEN 0xfadefadefadefadeULL

// Entries of one opcode. `acts`: done all the same.
struct strike_opcode {
    uint8_t opcode;
    bool acts;
    struct strike strike;
};

static const struct strike_opcode strike_opcodes[] = {
    { IORING_OP_ACCEPT,
      false,
      { "ring accept", { EMFILE, ENFILE, ENOBUFS, ENOMEM, ECONNABORTED, EPROTO, EPERM, EINTR } } },
    { IORING_OP_RECV,
      false,
      { "ring recv", { ECONNRESET, ETIMEDOUT, EHOSTUNREACH, ENOMEM, ENOBUFS, EIO } } },
    { IORING_OP_SEND,
      false,
      { "ring send", { EPIPE, ECONNRESET, ENOBUFS, ENOMEM, EHOSTUNREACH, EAGAIN } } },
    { IORING_OP_SENDMSG,
      false,
      { "ring sendmsg", { EPIPE, ECONNRESET, ENOBUFS, ENOMEM, EHOSTUNREACH, EAGAIN } } },
    { IORING_OP_CONNECT,
      false,
      { "ring connect", { ECONNREFUSED, ETIMEDOUT, ENETUNREACH, EADDRNOTAVAIL, ENOMEM } } },
    { IORING_OP_SHUTDOWN, false, { "ring shutdown", { ENOTCONN, ENOMEM } } },
    { IORING_OP_OPENAT2,
      false,
      { "ring openat2", { EMFILE, ENFILE, EACCES, ENOENT, ENOMEM, EAGAIN, EIO } } },
    { IORING_OP_READ, false, { "ring read", { EIO, ENOMEM, EINTR, EAGAIN } } },
    { IORING_OP_WRITE, false, { "ring write", { ENOSPC, EIO, EDQUOT, EFBIG, ENOMEM } } },
    { IORING_OP_POLL_ADD, false, { "ring poll", { ENOMEM, ECANCELED } } },
    { IORING_OP_FIXED_FD_INSTALL, false, { "ring install", { EMFILE, ENFILE, ENOMEM } } },
    { IORING_OP_CLOSE, true, { "ring close", { EIO, EINTR, ENOSPC } } },
    { IORING_OP_ASYNC_CANCEL, true, { "ring cancel", { ENOENT, EALREADY } } },
};

// What the page asked for happens once, so one record is enough; only the thread that met it
// changes it.
static _Thread_local struct {
    bool waiting;
    uint64_t token;
    int result;
} strike_struck;

static _Thread_local unsigned strike_tail; // entries before it were counted

static const struct strike_opcode *strike_opcode_find(uint8_t opcode)
{
    for (size_t i = 0; i < sizeof strike_opcodes / sizeof *strike_opcodes; i++) {
        if (strike_opcodes[i].opcode == opcode)
            return &strike_opcodes[i];
    }
    return NULL;
}

static void strike_entry(struct io_uring_sqe *sqe)
{
    const struct strike_opcode *found = strike_opcode_find(sqe->opcode);
    int error = found ? strike_error(&found->strike) : 0;
    if (!error)
        return;
    strike_struck.waiting = true;
    strike_struck.token = sqe->user_data;
    strike_struck.result = -error;
    // A connect to nowhere is a reset.
    bool resets = sqe->opcode == IORING_OP_CONNECT && sqe->off == sizeof(sa_family_t);
    if (found->acts || resets)
        sqe->flags &= (uint8_t)~IOSQE_CQE_SKIP_SUCCESS;
    else
        *sqe = (struct io_uring_sqe){ .opcode = IORING_OP_NOP };
    sqe->user_data = STRIKE_TOKEN;
}

static void strike_completions(struct io_uring *ring)
{
    struct io_uring_cqe *cqe;
    unsigned head;
    io_uring_for_each_cqe(ring, head, cqe)
    {
        if (!strike_struck.waiting || cqe->user_data != STRIKE_TOKEN)
            continue;
        cqe->user_data = strike_struck.token;
        cqe->res = strike_struck.result;
        cqe->flags = 0;
        strike_struck.waiting = false;
    }
}

static int strike_enter(void *state, struct io_uring *ring, unsigned submit, unsigned wait,
                        unsigned flags, void *argument, size_t argument_size)
{
    unsigned tail = *ring->sq.ktail;
    for (unsigned at = tail - submit; at != tail; at++) {
        if ((int)(at - strike_tail) >= 0)
            strike_entry(&ring->sq.sqes[at & ring->sq.ring_mask]);
    }
    strike_tail = tail;
    int result =
        __real_ring_kernel.enter(state, ring, submit, wait, flags, argument, argument_size);
    strike_completions(ring);
    return result;
}

static int strike_setup(void *state, struct io_uring *ring, unsigned entries,
                        struct io_uring_params *params)
{
    static const struct strike strike = { "ring setup", { ENOMEM } };
    int error = strike_error(&strike);
    return error ? -error : __real_ring_kernel.setup(state, ring, entries, params);
}

static int strike_enable(void *state, struct io_uring *ring)
{
    static const struct strike strike = { "ring enable", { EBADFD } };
    int error = strike_error(&strike);
    return error ? -error : __real_ring_kernel.enable(state, ring);
}

static int strike_register(void *state, struct io_uring *ring, unsigned opcode, void *argument,
                           unsigned count)
{
    static const struct strike strike = { "ring register", { ENOMEM } };
    int error = strike_error(&strike);
    return error ? -error : __real_ring_kernel.reg(state, ring, opcode, argument, count);
}

static void strike_teardown(void *state, struct io_uring *ring)
{
    __real_ring_kernel.teardown(state, ring);
}

static int strike_wake_open(void *state)
{
    static const struct strike strike = { "ring eventfd", { EMFILE } };
    int error = strike_error(&strike);
    return error ? -error : __real_ring_kernel.wake_open(state);
}

static void strike_wake(void *state, int fd)
{
    __real_ring_kernel.wake(state, fd);
}

static void strike_wake_close(void *state, int fd)
{
    __real_ring_kernel.wake_close(state, fd);
}

const struct ring_operations __wrap_ring_kernel = {
    .setup = strike_setup,
    .enable = strike_enable,
    .enter = strike_enter,
    .reg = strike_register,
    .teardown = strike_teardown,
    .wake_open = strike_wake_open,
    .wake = strike_wake,
    .wake_close = strike_wake_close,
};
