// Restricts a ring to what a loop with given abilities asks of it. Every operation, entry flag and
// register operation that is not listed is answered with -EACCES by the kernel, from the moment in
// which the ring is enabled, and nothing can widen the list.
//
// Two rows do more than their name says. READ is the wake-up: it reads the loop's eventfd. CONNECT
// is the reset, which connects to nowhere; without the system calls that make sockets, and with
// Landlock's refusal to connect TCP, it leads nowhere else.
#include "restrict.h"

#include <string.h>

#include "uring.h"

enum { RESTRICT_ROWS_MAX = 32 };

static const struct restrict_row restrict_rows[] = {
    { RESTRICT_OPERATION, IORING_OP_RECV, 0, "RECV" },
    { RESTRICT_OPERATION, IORING_OP_SEND, 0, "SEND" },
    { RESTRICT_OPERATION, IORING_OP_SENDMSG, 0, "SENDMSG" },
    { RESTRICT_OPERATION, IORING_OP_CLOSE, 0, "CLOSE" },
    { RESTRICT_OPERATION, IORING_OP_ASYNC_CANCEL, 0, "ASYNC_CANCEL" },
    { RESTRICT_OPERATION, IORING_OP_CONNECT, 0, "CONNECT" },
    { RESTRICT_OPERATION, IORING_OP_READ, 0, "READ" },
    { RESTRICT_OPERATION, IORING_OP_ACCEPT, WEIR_ABILITY_ACCEPT | WEIR_ABILITY_LISTEN, "ACCEPT" },
    { RESTRICT_OPERATION, IORING_OP_SHUTDOWN, WEIR_ABILITY_END, "SHUTDOWN" },
    { RESTRICT_OPERATION, IORING_OP_OPENAT2, WEIR_ABILITY_OPEN, "OPENAT2" },
    { RESTRICT_OPERATION, IORING_OP_WRITE, WEIR_ABILITY_WRITE, "WRITE" },
    { RESTRICT_OPERATION, IORING_OP_POLL_ADD, WEIR_ABILITY_READ, "POLL_ADD" },
    { RESTRICT_OPERATION, IORING_OP_FIXED_FD_INSTALL, WEIR_ABILITY_READ, "FIXED_FD_INSTALL" },
    { RESTRICT_FLAG, IOSQE_FIXED_FILE, 0, "FIXED_FILE" },
    { RESTRICT_FLAG, IOSQE_BUFFER_SELECT, 0, "BUFFER_SELECT" },
    { RESTRICT_FLAG, IOSQE_CQE_SKIP_SUCCESS, 0, "CQE_SKIP_SUCCESS" },
    // The end of a loop on a thread that lives on: otherwise the thread would keep the ring.
    { RESTRICT_REGISTER, IORING_UNREGISTER_RING_FDS, 0, "UNREGISTER_RING_FDS" },
};

size_t restrict_table(const struct restrict_row **ret_rows)
{
    *ret_rows = restrict_rows;
    return sizeof restrict_rows / sizeof restrict_rows[0];
}

static bool restrict_needed(const struct weir_loop *loop, const struct restrict_row *row)
{
    if (row->kind == RESTRICT_FLAG && row->value == IOSQE_FIXED_FILE)
        return uring_of(loop)->plan.direct;
    return !row->abilities || row->abilities & loop->config.abilities;
}

// Fills the kernel's records and returns their number.
static unsigned restrict_collect(const struct weir_loop *loop,
                                 struct io_uring_restriction ret_entries[RESTRICT_ROWS_MAX])
{
    // The kernel keeps only the last record of flags, so there is one for all of them.
    struct io_uring_restriction flags = { .opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED };
    const struct restrict_row *rows;
    size_t rows_count = restrict_table(&rows);
    unsigned count = 0;
    for (size_t i = 0; i < rows_count; i++) {
        if (!restrict_needed(loop, &rows[i]))
            continue;
        switch (rows[i].kind) {
        case RESTRICT_OPERATION:
            ret_entries[count++] =
                (struct io_uring_restriction){ .opcode = IORING_RESTRICTION_SQE_OP,
                                               .sqe_op = rows[i].value };
            break;
        case RESTRICT_FLAG:
            flags.sqe_flags |= rows[i].value;
            break;
        case RESTRICT_REGISTER:
            ret_entries[count++] =
                (struct io_uring_restriction){ .opcode = IORING_RESTRICTION_REGISTER_OP,
                                               .register_op = rows[i].value };
            break;
        }
    }
    ret_entries[count++] = flags;
    return count;
}

int uring_restrict(struct weir_loop *loop)
{
    struct uring *uring = uring_of(loop);
    struct io_uring_restriction entries[RESTRICT_ROWS_MAX];
    unsigned count = restrict_collect(loop, entries);
    int error = uring->operations->reg(uring->operations_state, &uring->ring,
                                       IORING_REGISTER_RESTRICTIONS, entries, count);
    if (error)
        loop_log(loop, WEIR_LOG_ERROR, "io_uring: the ring cannot be restricted: %s",
                 strerror(-error));
    return error;
}
