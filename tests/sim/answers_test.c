// Odd answers that real kernels give, replayed from a table: each once, to the Nth attempt of an
// operation, in runs that are otherwise free of faults. A connection may be lost by it; nothing
// else may.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>

#include <linux/io_uring.h>

#include "replay.h"

struct answers_row {
    uint8_t opcode;
    bool acts; // what was asked for is done all the same
    int result;
    uint32_t flags; // of the completion, see struct sim_answer
    const char *protocol;
};

static const struct answers_row answers_rows[] = {
    // A listener's socket, and connections that died while they waited (accept(2)).
    { IORING_OP_ACCEPT, false, -ECONNABORTED, 0, "echo" },
    { IORING_OP_ACCEPT, false, -EPROTO, 0, "echo" },
    { IORING_OP_ACCEPT, false, -EPERM, 0, "echo" },
    { IORING_OP_ACCEPT, false, -EINTR, 0, "echo" },
    { IORING_OP_ACCEPT, false, -EAGAIN, 0, "echo" },
    { IORING_OP_ACCEPT, false, -ENOBUFS, 0, "echo" },
    { IORING_OP_ACCEPT, false, -ENFILE, 0, "echo" },
    { IORING_OP_ACCEPT, false, -ECANCELED, 0, "echo" },
    { IORING_OP_ACCEPT, false, -EINVAL, 0, "echo" },
    { IORING_OP_ACCEPT, false, -EBADF, 0, "echo" },
    { IORING_OP_ACCEPT, false, -EMFILE, 0, "echo" },
    { IORING_OP_ACCEPT, false, -ENOMEM, 0, "echo" },
    { IORING_OP_ACCEPT, false, -ENETDOWN, 0, "echo" },
    // A receive: the network's errors, and a multishot's (liburing issues 688, 1246).
    { IORING_OP_RECV, false, -ECONNRESET, 0, "echo" },
    { IORING_OP_RECV, false, -ETIMEDOUT, 0, "echo" },
    { IORING_OP_RECV, false, -EHOSTUNREACH, 0, "echo" },
    { IORING_OP_RECV, false, -EPIPE, 0, "echo" },
    { IORING_OP_RECV, false, -EIO, 0, "echo" },
    { IORING_OP_RECV, false, -ENOMEM, 0, "echo" },
    { IORING_OP_RECV, false, -ENOBUFS, 0, "echo" },
    { IORING_OP_RECV, false, -ECANCELED, 0, "echo" },
    { IORING_OP_RECV, false, -EFAULT, 0, "echo" },
    { IORING_OP_RECV, false, -ENOTCONN, 0, "echo" },
    { IORING_OP_RECV, false, -EINVAL, 0, "echo" },
    { IORING_OP_RECV, false, 0, 0, "echo" },
    { IORING_OP_SEND, false, -EPIPE, 0, "echo" },
    { IORING_OP_SEND, false, -ECONNRESET, 0, "echo" },
    { IORING_OP_SEND, false, -ENOBUFS, 0, "echo" },
    { IORING_OP_SEND, false, -ENOMEM, 0, "echo" },
    { IORING_OP_SEND, false, -EHOSTUNREACH, 0, "echo" },
    { IORING_OP_SEND, false, -EAGAIN, 0, "echo" },
    { IORING_OP_SENDMSG, false, -EPIPE, 0, "echo" },
    { IORING_OP_SENDMSG, false, -EFAULT, 0, "echo" },
    { IORING_OP_SENDMSG, false, -EMSGSIZE, 0, "echo" },
    { IORING_OP_SENDMSG, false, -ECONNRESET, 0, "echo" },
    { IORING_OP_SENDMSG, false, -EAGAIN, 0, "echo" },
    { IORING_OP_SENDMSG, false, -ENOMEM, 0, "echo" },
    // The end of our direction on a connection that is gone, or for want of a worker.
    { IORING_OP_SHUTDOWN, false, -ENOTCONN, 0, "echo" },
    { IORING_OP_SHUTDOWN, false, -ENOMEM, 0, "echo" },
    // A reset of a connection that is gone already.
    { IORING_OP_CONNECT, true, -ECONNRESET, 0, "echo" },
    { IORING_OP_CONNECT, true, -EINVAL, 0, "echo" },
    // What close(2) tells of earlier writes; the descriptor is gone.
    { IORING_OP_CLOSE, true, -EIO, 0, "echo" },
    { IORING_OP_CLOSE, true, -EINTR, 0, "echo" },
    { IORING_OP_CLOSE, true, -ENOSPC, 0, "echo" },
    { IORING_OP_CLOSE, true, -ECONNRESET, 0, "echo" },
    // A cancel that came too late, or says so (liburing issue 1375).
    { IORING_OP_ASYNC_CANCEL, true, -ENOENT, 0, "echo" },
    { IORING_OP_ASYNC_CANCEL, true, -EALREADY, 0, "echo" },
    { IORING_OP_ASYNC_CANCEL, true, -EINVAL, 0, "echo" },
    // The read of the wake descriptor.
    { IORING_OP_READ, false, -EINTR, 0, "echo" },
    { IORING_OP_READ, false, -EAGAIN, 0, "echo" },
    { IORING_OP_READ, false, -EIO, 0, "echo" },
    { IORING_OP_READ, false, 0, 0, "echo" },
    // An error with a buffer; one of an operation that goes on; and a flag that nobody asked for.
    { IORING_OP_RECV, false, -ECONNRESET, IORING_CQE_F_BUFFER, "echo" },
    { IORING_OP_RECV, false, -ENOBUFS, IORING_CQE_F_BUFFER, "echo" },
    { IORING_OP_RECV, false, 0, IORING_CQE_F_BUFFER, "echo" },
    { IORING_OP_RECV, false, -ENOMEM, IORING_CQE_F_MORE, "echo" },
    { IORING_OP_RECV, false, -ECONNRESET, IORING_CQE_F_MORE | IORING_CQE_F_BUFFER, "echo" },
    { IORING_OP_RECV, false, -EIO, IORING_CQE_F_SOCK_NONEMPTY, "echo" },
    { IORING_OP_RECV, false, -EIO, IORING_CQE_F_NOTIF, "echo" },
    { IORING_OP_SEND, false, -EAGAIN, IORING_CQE_F_NOTIF, "echo" },
    { IORING_OP_SENDMSG, false, -EAGAIN, IORING_CQE_F_NOTIF, "echo" },
    // A descriptor beside the index, and a wait for room before sendfile(2) goes on.
    { IORING_OP_FIXED_FD_INSTALL, false, -EMFILE, 0, "file" },
    { IORING_OP_FIXED_FD_INSTALL, false, -ENFILE, 0, "file" },
    { IORING_OP_FIXED_FD_INSTALL, false, -ENOMEM, 0, "file" },
    { IORING_OP_FIXED_FD_INSTALL, false, -EBADF, 0, "file" },
    { IORING_OP_POLL_ADD, false, -ENOMEM, 0, "file" },
    { IORING_OP_POLL_ADD, false, -ECANCELED, 0, "file" },
    { IORING_OP_POLL_ADD, false, -EBADF, 0, "file" },
    { IORING_OP_POLL_ADD, false, POLLERR | POLLHUP, 0, "file" },
    { IORING_OP_POLL_ADD, false, 0, 0, "file" },
    // Files: what disks say, and less than was asked for.
    { IORING_OP_READ, false, -EIO, 0, "file" },
    { IORING_OP_READ, false, -EINTR, 0, "file" },
    { IORING_OP_READ, false, -EAGAIN, 0, "file" },
    { IORING_OP_READ, false, 0, 0, "file" },
    { IORING_OP_WRITE, false, -ENOSPC, 0, "ftp" },
    { IORING_OP_WRITE, false, -EIO, 0, "ftp" },
    { IORING_OP_WRITE, false, -EDQUOT, 0, "ftp" },
    { IORING_OP_WRITE, false, -EINTR, 0, "ftp" },
    { IORING_OP_WRITE, false, 0, 0, "ftp" },
    { IORING_OP_OPENAT2, false, -EMFILE, 0, "ftp" },
    { IORING_OP_OPENAT2, false, -EACCES, 0, "ftp" },
    { IORING_OP_OPENAT2, false, -ENOENT, 0, "ftp" },
    { IORING_OP_OPENAT2, false, -EIO, 0, "ftp" },
    { IORING_OP_OPENAT2, false, -EAGAIN, 0, "ftp" },
    { IORING_OP_OPENAT2, false, -EINTR, 0, "ftp" },
};

// Attempts 1, 2, 4 ... in several runs, and every one up to a bound in one run.
enum { ANSWERS_NUMBERS = 6, ANSWERS_RUNS = 6, ANSWERS_RUNS_MAX = 500, ANSWERS_WALK = 48 };

// Plays the seed with the row's answer to the attempt of this number; whether there was one.
static bool answers_play(const struct answers_row *odd, uint32_t number, uint64_t seed)
{
    static struct run run;
    struct sim_answer answer = { .opcode = odd->opcode,
                                 .acts = odd->acts,
                                 .result = odd->result,
                                 .flags = odd->flags,
                                 .number = number };
    if (!run_seed_answering(&run, run_protocol_find(odd->protocol), seed, &answer))
        fail_msg("%s: opcode %u, attempt %u, result %d, flags %u, seed %llu: %s", odd->protocol,
                 odd->opcode, number, odd->result, odd->flags, (unsigned long long)seed,
                 run.complaint);
    return run.counts.answered > 0;
}

// Whatever the kernel answers to an operation: every stream is told its end once, every descriptor
// is closed, every buffer is back, and no client gets other bytes than its own.
static void odd_answers_cost_a_connection_at_most(void **state)
{
    (void)state;
    for (size_t row = 0; row < sizeof answers_rows / sizeof *answers_rows; row++) {
        const struct answers_row *odd = &answers_rows[row];
        uint32_t given = 0;
        // Multiples of 16 have neither faults nor shortages. What few runs do needs more of them.
        for (uint64_t i = 1; i <= ANSWERS_RUNS || (!given && i <= ANSWERS_RUNS_MAX); i++) {
            // Without an attempt of this number there is none of a higher one: the run is the same.
            for (uint32_t k = 0; k < ANSWERS_NUMBERS && answers_play(odd, 1U << k, 16 * i); k++)
                given++;
        }
        for (uint32_t number = 1; number <= ANSWERS_WALK && answers_play(odd, number, 16); number++)
            given++;
        if (!given)
            fail_msg("opcode %u, result %d: no run got there", odd->opcode, odd->result);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(odd_answers_cost_a_connection_at_most),
    };
    return cmocka_run_group_tests_name("answers", tests, NULL, NULL);
}
