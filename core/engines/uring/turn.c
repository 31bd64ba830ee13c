// One turn of the ring: buffers go back, the batch goes down, one enter waits, completions come up.
#include "uring.h"

#include <errno.h>
#include <linux/time_types.h>
#include <string.h>

// --- Submission ----------------------------------------------------------------------------------

// Makes the prepared entries visible to the kernel; returns how many it has not taken yet.
static unsigned uring_publish(struct uring *uring)
{
    struct io_uring_sq *sq = &uring->ring.sq;
    if (sq->sqe_head != sq->sqe_tail) {
        sq->sqe_head = sq->sqe_tail;
        io_uring_smp_store_release(sq->ktail, sq->sqe_tail);
    }
    return sq->sqe_tail - io_uring_smp_load_acquire(sq->khead);
}

int uring_enter(struct weir_loop *loop, unsigned submit, unsigned wait, unsigned flags,
                void *argument, size_t size)
{
    struct uring *uring = uring_of(loop);
    stats_add(loop, enters, 1);
    int result = uring->operations->enter(uring->operations_state, &uring->ring, submit, wait,
                                          flags, argument, size);
    stats_add(loop, sqes, result > 0 ? (uint64_t)result : 0);
    // The scratch is free when the kernel has taken every entry that points to it.
    if (io_uring_smp_load_acquire(uring->ring.sq.khead) == uring->ring.sq.sqe_tail)
        uring->iovecs_used = uring->messages_used = uring->connects_used = 0;
    return result;
}

static uint64_t uring_clock(const struct weir_loop *loop)
{
    return loop->system->clock(loop->system_state);
}

// How many events to wait for, and in *ret_us for how long before one is enough. A loop that was
// idle waits for one, so the first event after a pause is never late; and a stream alone has nobody
// to wait for. The kernel waits this time out before it looks at the deadline, so it must not be
// longer.
static unsigned uring_min_wait(const struct weir_loop *loop, uint64_t left_ns, uint32_t *ret_us)
{
    const struct uring *uring = uring_of(loop);
    uint64_t us = uring->plan.min_wait_us;
    if (left_ns / 1000 < us)
        us = left_ns / 1000;
    if (!us || !uring->busy || loop->streams_open < 2)
        return 1;
    *ret_us = (uint32_t)us;
    return loop->streams_open < URING_MIN_WAIT_EVENTS ? loop->streams_open : URING_MIN_WAIT_EVENTS;
}

// Submits, and waits for one event, or for several as above.
static int uring_enter_timed(struct weir_loop *loop, unsigned submit, uint64_t deadline_ns)
{
    struct io_uring_getevents_arg argument = { 0 };
    struct __kernel_timespec timeout;
    uint64_t left_ns = WEIR_NEVER;
    if (deadline_ns != WEIR_NEVER) {
        uint64_t now_ns = uring_clock(loop);
        left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
        timeout.tv_sec = (long long)(left_ns / 1000000000);
        timeout.tv_nsec = (long long)(left_ns % 1000000000);
        argument.ts = (uint64_t)(uintptr_t)&timeout;
    }
    unsigned wait = uring_min_wait(loop, left_ns, &argument.min_wait_usec);
    return uring_enter(loop, submit, wait, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &argument,
                       sizeof argument);
}

// The ring belongs to the thread that enables it. Usually that is the first turn's; a batch that is
// full before it must go down earlier.
static int uring_enable(struct weir_loop *loop)
{
    struct uring *uring = uring_of(loop);
    if (uring->enabled)
        return 0;
    int error = loop->config.abilities ? uring_restrict(loop) : 0;
    if (!error)
        error = uring->operations->enable(uring->operations_state, &uring->ring);
    uring->enabled = !error;
    return error;
}

// Moves what has completed out of the ring, so that the kernel takes submissions again.
static bool uring_stash_completions(struct weir_loop *loop)
{
    struct uring *uring = uring_of(loop);
    unsigned size = uring->ring.cq.ring_entries, moved = 0, head;
    struct io_uring_cqe *cqe;
    io_uring_for_each_cqe(&uring->ring, head, cqe)
    {
        // UNTESTED: one batch completes no more than the queue holds
        if (uring->stash_count == size)
            break;
        uring->stash[(uring->stash_first + uring->stash_count++) % size] = *cqe;
        moved++;
    }
    io_uring_cq_advance(&uring->ring, moved);
    return moved > 0;
}

// A kernel that is short of memory and has nothing to be reaped gets some time to end what it has:
// this waits for a completion, or for URING_SHORTAGE_NS. False: it had enough of these.
static bool uring_wait_for_memory(struct weir_loop *loop, unsigned *attempts)
{
    if (++*attempts > URING_SHORTAGE_ATTEMPTS)
        return false;
    (void)uring_enter_timed(loop, 0, uring_clock(loop) + URING_SHORTAGE_NS);
    (void)uring_stash_completions(loop);
    return true;
}

void uring_submit_early(struct weir_loop *loop)
{
    struct uring *uring = uring_of(loop);
    stats_add(loop, submit_early, 1);
    unsigned submit, attempts = 0;
    if (!uring->failure)
        uring->failure = uring_enable(loop);
    while (!uring->failure && (submit = uring_publish(uring))) {
        int result = uring_enter(loop, submit, 0, 0, NULL, 0);
        if (result > 0)
            attempts = 0; // it goes on, however slowly
        if (result >= 0 || result == -EINTR)
            continue;
        if ((result == -EBUSY || result == -EAGAIN) &&
            (uring_stash_completions(loop) || uring_wait_for_memory(loop, &attempts)))
            continue;
        uring->failure = result;
    }
    // A ring that broke takes nothing any more, and what is still prepared for it needs the room.
    if (uring->failure)
        uring->iovecs_used = uring->messages_used = uring->connects_used = 0;
}

void uring_room(struct weir_loop *loop)
{
    if (!io_uring_sq_space_left(&uring_of(loop)->ring))
        uring_submit_early(loop);
}

struct io_uring_sqe *uring_sqe(struct weir_loop *loop, enum operation operation, uint32_t auxiliary,
                               uint32_t slot)
{
    struct uring *uring = uring_of(loop);
    struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);
    if (!sqe) {
        uring_submit_early(loop);
        sqe = io_uring_get_sqe(&uring->ring);
        if (!sqe) // the ring broke: what is prepared for it ends here, and flush reports it
            sqe = &uring->sqe_void;
    }
    memset(sqe, 0, sizeof *sqe);
    // Set on every entry: a reused one would keep the last one's.
    sqe->user_data = operation == OPERATION_NONE ? 0 : loop_token(loop, operation, auxiliary, slot);
    return sqe;
}

void uring_sqe_descriptor(struct io_uring_sqe *sqe, const struct weir_stream *stream)
{
    sqe->fd = stream->fd;
    if (stream->direct)
        sqe->flags |= IOSQE_FIXED_FILE;
}

struct io_uring_sqe *uring_stream_sqe(struct weir_stream *stream, enum operation operation)
{
    struct io_uring_sqe *sqe = uring_sqe(stream->loop, operation, 0, stream->slot);
    uring_sqe_descriptor(sqe, stream);
    return sqe;
}

static void uring_arm_wake(struct weir_loop *loop)
{
    struct uring *uring = uring_of(loop);
    struct io_uring_sqe *sqe = uring_sqe(loop, OPERATION_NONE, 0, 0);
    uring->wake_armed = true;
    sqe->opcode = IORING_OP_READ;
    sqe->fd = uring->wake_fd;
    sqe->addr = (uint64_t)(uintptr_t)&uring->wake_value;
    sqe->len = sizeof uring->wake_value;
}

// Gives every free buffer to the kernel. It reads the ring only inside enter.
static void uring_provide_buffers(struct weir_loop *loop)
{
    struct uring *uring = uring_of(loop);
    struct buffer_pool *pool = &loop->pool;
    int index, count = 0, mask = io_uring_buf_ring_mask(pool->count);
    while ((index = pool_take(pool)) >= 0) {
        if (uring->places)
            uring->places[index] = (uint16_t)(uring->buffer_ring->tail + count);
        io_uring_buf_ring_add(uring->buffer_ring, pool_data(pool, (uint32_t)index),
                              (unsigned)pool->size, (unsigned short)index, mask, count++);
    }
    if (count)
        io_uring_buf_ring_advance(uring->buffer_ring, count);
}

// --- Waiting -------------------------------------------------------------------------------------

// Completions that were posted and not reaped.
static bool uring_work_queued(const struct uring *uring)
{
    return io_uring_cq_ready(&uring->ring) ||
           IO_URING_READ_ONCE(*uring->ring.sq.kflags) & IORING_SQ_CQ_OVERFLOW;
}

static bool uring_work_visible(const struct uring *uring)
{
    return uring_work_queued(uring) ||
           IO_URING_READ_ONCE(*uring->ring.sq.kflags) & IORING_SQ_TASKRUN;
}

// Submits, then looks for work without a system call. Completions appear only inside enter, but the
// kernel raises a flag when it has some to deliver.
static int uring_busy_poll(struct weir_loop *loop, unsigned submit, uint64_t deadline_ns)
{
    struct uring *uring = uring_of(loop);
    if (submit) {
        int result = uring_enter(loop, submit, 0, IORING_ENTER_GETEVENTS, NULL, 0);
        // A kernel short of memory takes a part: nobody may sleep over what it left.
        if (result < (int)submit || io_uring_cq_ready(&uring->ring))
            return result;
    }
    uint64_t now_ns = uring_clock(loop), end_ns = now_ns + loop->look_ns;
    loop->looked = true;
    for (; now_ns < end_ns && now_ns < deadline_ns; now_ns = uring_clock(loop)) {
        if (IO_URING_READ_ONCE(*uring->ring.sq.kflags) & IORING_SQ_TASKRUN)
            return uring_enter(loop, 0, 0, IORING_ENTER_GETEVENTS, NULL, 0);
        if (io_uring_cq_ready(&uring->ring))
            return 0;
    }
    loop->looked_in_vain = true;
    return uring_enter_timed(loop, 0, deadline_ns);
}

// --- Completions ---------------------------------------------------------------------------------

static void uring_own_completion(struct weir_loop *loop, const struct io_uring_cqe *cqe)
{
    enum operation operation = (enum operation)(cqe->user_data >> TOKEN_OPERATION_SHIFT);
    // The next flush arms it again. Here, amid the queue's completions, an entry must not be asked
    // for: if there is no room, that submits, and may move the very completions that are read.
    if (operation == OPERATION_NONE)
        uring_of(loop)->wake_armed = false;
    if (operation == OPERATION_INSTALL)
        uring_installed(loop, cqe);
    // A cancel that found nothing to cancel: the operation's own completion tells the rest.
}

// A quiet send failed, or a send was none.
static void uring_send_spoke(struct weir_loop *loop, uint64_t token)
{
    struct uring *uring = uring_of(loop);
    struct weir_stream *stream = loop_token_object(loop, token);
    if (!stream || !(stream->engine_bits & URING_SEND_QUIET))
        return;
    stream->engine_bits &= ~(uint32_t)URING_SEND_QUIET;
    // The stream's next quiet send has the same token: this one must not tell the end of that.
    for (unsigned i = 0; i < uring->quiet_count; i++) {
        struct uring_quiet *quiet = &uring->quiet[(uring->quiet_first + i) % URING_QUIET_MAX];
        if (quiet->token == token)
            quiet->token = UINT64_MAX;
    }
}

// A poll for room brings a mask. The core knows sends only: nothing was taken, and it asks again.
static int32_t uring_send_result(struct weir_loop *loop, const struct io_uring_cqe *cqe)
{
    struct weir_stream *stream = loop_token_object(loop, cqe->user_data);
    if (!stream || !(stream->engine_bits & URING_SEND_POLLS))
        return cqe->res;
    stream->engine_bits &= ~(uint32_t)URING_SEND_POLLS;
    return cqe->res < 0 ? cqe->res : -EAGAIN;
}

// Fills the next completion from the kernel's; false if it was the engine's own business.
static bool uring_translate(struct weir_loop *loop, const struct io_uring_cqe *cqe,
                            struct completion *ret_completion)
{
    enum operation operation = (enum operation)(cqe->user_data >> TOKEN_OPERATION_SHIFT);
    if (operation == OPERATION_NONE || operation == OPERATION_CANCEL ||
        operation == OPERATION_INSTALL) {
        uring_own_completion(loop, cqe);
        return false;
    }
    int32_t result = cqe->res;
    if (operation == OPERATION_SEND) {
        uring_send_spoke(loop, cqe->user_data);
        result = uring_send_result(loop, cqe);
    }
    unsigned flags = 0;
    if (cqe->flags & IORING_CQE_F_MORE)
        flags |= COMPLETION_MORE;
    if (cqe->flags & IORING_CQE_F_BUFFER)
        flags |= COMPLETION_BUFFER;
    if (cqe->flags & IORING_CQE_F_SOCK_NONEMPTY)
        flags |= COMPLETION_NONEMPTY;
    // The engine's own mark on an accept's token becomes a flag.
    const uint64_t direct = (uint64_t)ACCEPT_DIRECT << TOKEN_AUXILIARY_SHIFT;
    uint64_t token = cqe->user_data;
    if (operation == OPERATION_ACCEPT && token & direct) {
        flags |= COMPLETION_DIRECT;
        token &= ~direct;
    }
    if (operation == OPERATION_RECEIVE)
        token &= ~URING_BUNDLE;
    *ret_completion =
        (struct completion){ .token = token,
                             .result = result,
                             .flags = (uint16_t)flags,
                             .buffer = (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT) };
    return true;
}

// Fills completions from the kernel's, from `count` on; returns their number then.
static unsigned uring_take(struct weir_loop *loop, const struct io_uring_cqe *cqe, unsigned count)
{
    const uint64_t bundle = (uint64_t)OPERATION_RECEIVE << TOKEN_OPERATION_SHIFT | URING_BUNDLE;
    const uint64_t kind = UINT64_MAX << TOKEN_AUXILIARY_SHIFT;
    if (!uring_translate(loop, cqe, &loop->completions[count]))
        return count;
    if ((cqe->user_data & kind) == bundle && cqe->res > 0)
        return uring_bundle_begin(loop, count);
    return count + 1;
}

static unsigned uring_reap_stash(struct weir_loop *loop, unsigned count)
{
    struct uring *uring = uring_of(loop);
    while (uring->stash_count && count < LOOP_COMPLETIONS_MAX) {
        struct io_uring_cqe cqe = uring->stash[uring->stash_first];
        uring->stash_first = (uring->stash_first + 1) % uring->ring.cq.ring_entries;
        uring->stash_count--;
        count = uring_take(loop, &cqe, count);
    }
    return count;
}

static unsigned uring_reap(struct weir_loop *loop, unsigned count)
{
    struct uring *uring = uring_of(loop);
    unsigned seen = 0, head;
    count = uring_bundle_spread(loop, count); // what the last turn had no room for
    count = uring_reap_stash(loop, count);
    struct io_uring_cqe *cqe;
    io_uring_for_each_cqe(&uring->ring, head, cqe)
    {
        if (count == LOOP_COMPLETIONS_MAX)
            break;
        count = uring_take(loop, cqe, count);
        seen++;
    }
    io_uring_cq_advance(&uring->ring, seen);
    return count;
}

// Tells the ends of the quiet sends before the entry `taken`, all of which have been heard of.
static unsigned uring_tell_quiet(struct weir_loop *loop, unsigned taken, unsigned count,
                                 unsigned max)
{
    struct uring *uring = uring_of(loop);
    while (uring->quiet_count && count < max) {
        const struct uring_quiet *quiet = &uring->quiet[uring->quiet_first];
        if ((int)(taken - quiet->tail) < 0)
            break;
        struct weir_stream *stream = loop_token_object(loop, quiet->token);
        if (stream && stream->engine_bits & URING_SEND_QUIET) {
            stream->engine_bits &= ~(uint32_t)URING_SEND_QUIET;
            loop->completions[count++] = (struct completion){ .token = quiet->token,
                                                              .result = (int32_t)stream->send_size,
                                                              .flags = COMPLETION_LATE };
        }
        uring->quiet_first = (uring->quiet_first + 1) % URING_QUIET_MAX;
        uring->quiet_count--;
    }
    return count;
}

// What the kernel has to say of a send lies in the queue when the enter that took its entry
// returns: with an empty queue, those of which nothing was heard have succeeded.
static unsigned uring_reap_quiet(struct weir_loop *loop, unsigned count)
{
    struct uring *uring = uring_of(loop);
    if (uring->stash_count || uring_work_queued(uring))
        return count;
    unsigned taken = io_uring_smp_load_acquire(uring->ring.sq.khead);
    return uring_tell_quiet(loop, taken, count, LOOP_COMPLETIONS_MAX);
}

// Under load the queue may never be empty. So the place where it ended after some enter is marked,
// and when all before it was reaped, that is as good; half of a turn is enough for what it tells.
static unsigned uring_reap_marked(struct weir_loop *loop)
{
    struct uring *uring = uring_of(loop);
    unsigned count = 0, max = LOOP_COMPLETIONS_MAX / 2;
    if (uring->mark_set && !uring->stash_count &&
        (int)(*uring->ring.cq.khead - uring->mark_heard) >= 0) {
        count = uring_tell_quiet(loop, uring->mark_taken, 0, max);
        uring->mark_set = count == max; // there may be more of them
    }
    if (!uring->mark_set && !(IO_URING_READ_ONCE(*uring->ring.sq.kflags) & IORING_SQ_CQ_OVERFLOW)) {
        uring->mark_set = true;
        uring->mark_taken = io_uring_smp_load_acquire(uring->ring.sq.khead);
        uring->mark_heard = io_uring_smp_load_acquire(uring->ring.cq.ktail);
    }
    return count;
}

// --- The turn ------------------------------------------------------------------------------------

// Enters once, unless there is nothing to do in the kernel.
static int uring_submit_and_wait(struct weir_loop *loop, uint64_t deadline_ns)
{
    struct uring *uring = uring_of(loop);
    unsigned submit = uring_publish(uring);
    if (io_uring_cq_ready(&uring->ring) || uring->stash_count || uring->bundle.left)
        deadline_ns = 0;
    if (deadline_ns == 0) {
        if (!submit && !uring_work_visible(uring))
            return 0;
        return uring_enter(loop, submit, 0, IORING_ENTER_GETEVENTS, NULL, 0);
    }
    if (loop->look_ns)
        return uring_busy_poll(loop, submit, deadline_ns);
    return uring_enter_timed(loop, submit, deadline_ns);
}

int uring_flush(struct weir_loop *loop, uint64_t deadline_ns)
{
    struct uring *uring = uring_of(loop);
    int error = uring_enable(loop);
    if (error)
        return error;
    // The entries that stand in the queue may have lost their scratch. What completed before is
    // still told: descriptors that were opened, buffers, ends that others wait for.
    if (uring->failure) {
        unsigned told = uring_reap(loop, 0);
        return told ? (int)told : uring->failure;
    }
    // Some quiet sends could not be told last time, and by now their streams may wait for that.
    if (uring->quiet_left)
        deadline_ns = 0;
    if (!uring->wake_armed && io_uring_sq_space_left(&uring->ring))
        uring_arm_wake(loop);
    if (!uring->wake_armed)
        deadline_ns = 0; // the kernel left a full queue behind: nobody sleeps before it takes more
    uring_provide_buffers(loop);
    int result = uring_submit_and_wait(loop, deadline_ns);
    if (IO_URING_READ_ONCE(*uring->ring.sq.kflags) & IORING_SQ_CQ_OVERFLOW)
        stats_add(loop, overflows, 1);
    // -ETIME and -EINTR are the wait's ends; -EBUSY and -EAGAIN mean: reap, then submit again.
    if (result < 0 && result != -ETIME && result != -EINTR && result != -EBUSY && result != -EAGAIN)
        uring->failure = result;
    unsigned count = uring_reap_quiet(loop, uring_reap(loop, uring_reap_marked(loop)));
    uring->quiet_left = uring->quiet_count > 0;
    uring->busy = count > 0;
    return uring->failure && !count ? uring->failure : (int)count;
}
