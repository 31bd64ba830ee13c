// Odd answers that real kernels give, replayed from a table: each once, to the Nth attempt of an
// operation, in runs that are otherwise free of faults. A connection may be lost by it; nothing
// else may.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include <linux/io_uring.h>

#include "replay.h"

struct answers_row {
    uint8_t opcode;
    bool acts; // what was asked for is done all the same
    int result;
};

static const struct answers_row answers_rows[] = {
    // A listener's socket, and connections that died while they waited (accept(2)).
    { IORING_OP_ACCEPT, false, -ECONNABORTED },
    { IORING_OP_ACCEPT, false, -EPROTO },
    { IORING_OP_ACCEPT, false, -EPERM },
    { IORING_OP_ACCEPT, false, -EINTR },
    { IORING_OP_ACCEPT, false, -EAGAIN },
    { IORING_OP_ACCEPT, false, -ENOBUFS },
    { IORING_OP_ACCEPT, false, -ENFILE },
    { IORING_OP_ACCEPT, false, -ECANCELED },
    { IORING_OP_ACCEPT, false, -EINVAL },
    { IORING_OP_ACCEPT, false, -EBADF },
    { IORING_OP_ACCEPT, false, -EMFILE },
    { IORING_OP_ACCEPT, false, -ENOMEM },
    { IORING_OP_ACCEPT, false, -ENETDOWN },
    // A receive: the network's errors, and a multishot's (liburing issues 688, 1246).
    { IORING_OP_RECV, false, -ECONNRESET },
    { IORING_OP_RECV, false, -ETIMEDOUT },
    { IORING_OP_RECV, false, -EHOSTUNREACH },
    { IORING_OP_RECV, false, -EPIPE },
    { IORING_OP_RECV, false, -EIO },
    { IORING_OP_RECV, false, -ENOMEM },
    { IORING_OP_RECV, false, -ENOBUFS },
    { IORING_OP_RECV, false, -ECANCELED },
    { IORING_OP_RECV, false, -EFAULT },
    { IORING_OP_RECV, false, -ENOTCONN },
    { IORING_OP_RECV, false, -EINVAL },
    { IORING_OP_RECV, false, 0 },
    { IORING_OP_SEND, false, -EPIPE },
    { IORING_OP_SEND, false, -ECONNRESET },
    { IORING_OP_SEND, false, -ENOBUFS },
    { IORING_OP_SEND, false, -ENOMEM },
    { IORING_OP_SEND, false, -EHOSTUNREACH },
    { IORING_OP_SEND, false, -EAGAIN },
    { IORING_OP_SENDMSG, false, -EPIPE },
    { IORING_OP_SENDMSG, false, -EFAULT },
    { IORING_OP_SENDMSG, false, -EMSGSIZE },
    { IORING_OP_SENDMSG, false, -ECONNRESET },
    { IORING_OP_SENDMSG, false, -EAGAIN },
    { IORING_OP_SENDMSG, false, -ENOMEM },
    // The end of our direction on a connection that is gone, or for want of a worker.
    { IORING_OP_SHUTDOWN, false, -ENOTCONN },
    { IORING_OP_SHUTDOWN, false, -ENOMEM },
    // A reset of a connection that is gone already.
    { IORING_OP_CONNECT, true, -ECONNRESET },
    { IORING_OP_CONNECT, true, -EINVAL },
    // What close(2) tells of earlier writes; the descriptor is gone.
    { IORING_OP_CLOSE, true, -EIO },
    { IORING_OP_CLOSE, true, -EINTR },
    { IORING_OP_CLOSE, true, -ENOSPC },
    { IORING_OP_CLOSE, true, -ECONNRESET },
    // A cancel that came too late, or says so (liburing issue 1375).
    { IORING_OP_ASYNC_CANCEL, true, -ENOENT },
    { IORING_OP_ASYNC_CANCEL, true, -EALREADY },
    { IORING_OP_ASYNC_CANCEL, true, -EINVAL },
    // The read of the wake descriptor.
    { IORING_OP_READ, false, -EINTR },
    { IORING_OP_READ, false, -EAGAIN },
    { IORING_OP_READ, false, -EIO },
    { IORING_OP_READ, false, 0 },
};

// Attempts 1, 2, 4 ... in several runs, and every one up to a bound in one run.
enum { ANSWERS_NUMBERS = 6, ANSWERS_RUNS = 6, ANSWERS_RUNS_MAX = 500, ANSWERS_WALK = 48 };

static const struct run_protocol *answers_protocol(void)
{
    return run_protocol_find("echo");
}

// Plays the seed with the row's answer to the attempt of this number; whether there was one.
static bool answers_play(const struct answers_row *odd, uint32_t number, uint64_t seed)
{
    static struct run run;
    struct sim_answer answer = {
        .opcode = odd->opcode, .acts = odd->acts, .result = odd->result, .number = number
    };
    if (!run_seed_answering(&run, answers_protocol(), seed, &answer))
        fail_msg("opcode %u, attempt %u, result %d, seed %llu: %s", odd->opcode, number,
                 odd->result, (unsigned long long)seed, run.complaint);
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
            for (uint32_t k = 0; k < ANSWERS_NUMBERS; k++)
                given += answers_play(odd, 1U << k, 16 * i);
        }
        for (uint32_t number = 1; number <= ANSWERS_WALK; number++)
            given += answers_play(odd, number, 16);
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
