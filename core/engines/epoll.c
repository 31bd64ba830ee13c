// The epoll engine: level-triggered, try-first, and as few system calls as the work allows.
//
// In steady running an echo costs one recv and one send; epoll_wait serves a whole batch. The
// kernel's interest set is changed lazily: what is wanted and not registered is registered at once,
// but what is registered and no longer wanted stays until it fires. So a receive that is armed
// again, as most are, costs no call. No call looks for the end of what is readable: level-triggered
// readiness tells.
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "immediate.h"

enum {
    // Per wait. A call shared by 64 events is nearly free, and what their sockets and buffers touch
    // stays in the cache from the receives of a turn to its sends.
    EPOLL_EVENTS_MAX = 64,
    // Bits of stream->engine_bits: registered interest, as EPOLLIN and EPOLLOUT.
    EPOLL_REGISTERED_SHIFT = IMMEDIATE_ENGINE_SHIFT,
    EPOLL_REGISTERED = IMMEDIATE_INTEREST << EPOLL_REGISTERED_SHIFT,
    // A bit of listener->engine_bits.
    EPOLL_LISTENING = 1 << LISTENER_ACCEPTS,
};

_Static_assert((int)EPOLL_EVENTS_MAX <= (int)LOOP_COMPLETIONS_MAX,
               "a turn holds what a wait brings");

struct epoll {
    struct immediate base;
    int fd;
    bool coarse; // the kernel has no epoll_pwait2
    // Events that were fetched and not yet served, because the turn was full, come first next time.
    int event_next, event_count;
    struct epoll_event events[EPOLL_EVENTS_MAX];
};

// --- Interest ------------------------------------------------------------------------------------

static int epoll_control(struct weir_loop *loop, int operation, int fd, uint32_t events,
                         uint64_t token)
{
    struct epoll *epoll = loop->engine_state;
    struct epoll_event event = { .events = events, .data.u64 = token };
    stats_add(loop, enters, 1);
    return epoll_ctl(epoll->fd, operation, fd, &event) ? -errno : 0;
}

static uint32_t epoll_registered(const struct weir_stream *stream)
{
    return (stream->engine_bits & EPOLL_REGISTERED) >> EPOLL_REGISTERED_SHIFT;
}

// Registers exactly this interest. None: the descriptor leaves the set, since an error or a hang-up
// would be reported whatever the interest.
static int epoll_register(struct weir_loop *loop, struct weir_stream *stream, uint32_t interest)
{
    int operation = EPOLL_CTL_MOD;
    if (!interest)
        operation = EPOLL_CTL_DEL;
    else if (!epoll_registered(stream))
        operation = EPOLL_CTL_ADD;
    int error = epoll_control(loop, operation, stream->fd, interest,
                              loop_token(loop, OPERATION_RECEIVE, 0, stream->slot));
    if (!error) {
        stream->engine_bits &= ~(uint32_t)EPOLL_REGISTERED;
        stream->engine_bits |= interest << EPOLL_REGISTERED_SHIFT;
    }
    return error;
}

static int epoll_want(struct weir_loop *loop, struct weir_stream *stream, uint32_t interest)
{
    stream->engine_bits |= interest;
    if (epoll_registered(stream) & interest)
        return 0;
    int error = epoll_register(loop, stream, stream->engine_bits & IMMEDIATE_INTEREST);
    if (error)
        stream->engine_bits &= ~interest;
    return error;
}

// --- Operations ----------------------------------------------------------------------------------

static void epoll_accept(struct weir_loop *loop, struct weir_listener *listener, uint32_t index)
{
    listener->engine_bits |= 1U << index;
    if (listener->engine_bits & EPOLL_LISTENING)
        return;
    int error = epoll_control(loop, EPOLL_CTL_ADD, listener->fd, EPOLLIN,
                              loop_token(loop, OPERATION_ACCEPT, 0, listener->slot));
    if (error) {
        listener->engine_bits &= ~(1U << index);
        immediate_early(loop, OPERATION_ACCEPT, index, listener->slot, error);
        return;
    }
    listener->engine_bits |= EPOLL_LISTENING;
}

// The descriptor may be shared with another loop's listener: closing it would not end its interest.
static void epoll_unlisten(struct weir_loop *loop, struct weir_listener *listener)
{
    if (listener->engine_bits & EPOLL_LISTENING)
        epoll_control(loop, EPOLL_CTL_DEL, listener->fd, 0, 0);
    listener->engine_bits &= ~(uint32_t)EPOLL_LISTENING;
}

static void epoll_accept_cancel(struct weir_loop *loop, struct weir_listener *listener)
{
    immediate_accept_cancel(loop, listener);
    epoll_unlisten(loop, listener);
}

static void epoll_receive(struct weir_loop *loop, struct weir_stream *stream)
{
    int error = epoll_want(loop, stream, IMMEDIATE_RECEIVING);
    if (error)
        immediate_early(loop, OPERATION_RECEIVE, 0, stream->slot, error);
}

static int64_t epoll_send_later(struct weir_loop *loop, struct weir_stream *stream)
{
    int error = epoll_want(loop, stream, IMMEDIATE_SENDING);
    return error ? error : ENGINE_PENDING;
}

static int64_t epoll_send(struct weir_loop *loop, struct weir_stream *stream)
{
    // The last send filled the socket: another attempt before it has room again would be in vain.
    if (stream->engine_bits & IMMEDIATE_SHORT) {
        stream->engine_bits &= ~(uint32_t)IMMEDIATE_SHORT;
        return epoll_send_later(loop, stream);
    }
    int64_t result = immediate_send(loop, stream, MSG_DONTWAIT);
    return result == -EAGAIN ? epoll_send_later(loop, stream) : result;
}

static void epoll_connect(struct weir_loop *loop, struct weir_stream *stream,
                          const struct weir_address *address)
{
    int result = immediate_connect(loop, stream, address);
    if (result == -EINPROGRESS) {
        result = epoll_want(loop, stream, IMMEDIATE_SENDING);
        if (!result)
            return; // its end makes the socket writable
        stream->engine_bits = 0;
    }
    immediate_early(loop, OPERATION_CONNECT, 0, stream->slot, result);
}

static void epoll_file(struct weir_loop *loop, struct weir_operation *operation)
{
    operation->result = 0;
    int result = immediate_file_try(loop, operation);
    if (result == -EAGAIN) {
        operation->run = immediate_file;
        jobs_start(loop, operation);
    } else {
        immediate_early(loop, OPERATION_FILE, 0, operation->slot, result);
    }
}

// --- One turn ------------------------------------------------------------------------------------

static int epoll_wait_once(struct weir_loop *loop, struct epoll *epoll, int timeout_ms)
{
    int count = epoll_wait(epoll->fd, epoll->events, EPOLL_EVENTS_MAX, timeout_ms);
    stats_add(loop, enters, 1);
    return count < 0 ? -errno : count;
}

static int epoll_wait_precise(struct weir_loop *loop, struct epoll *epoll, uint64_t timeout_ns)
{
    struct timespec timeout = { .tv_sec = (time_t)(timeout_ns / 1000000000),
                                .tv_nsec = (long)(timeout_ns % 1000000000) };
    int count = epoll_pwait2(epoll->fd, epoll->events, EPOLL_EVENTS_MAX, &timeout, NULL);
    stats_add(loop, enters, 1);
    return count < 0 ? -errno : count;
}

// Sleeps until the deadline. Without epoll_pwait2 (before 5.11, or forbidden by seccomp) it is
// rounded up to milliseconds: a timer may be late, and never spins.
static int epoll_sleep(struct weir_loop *loop, struct epoll *epoll, uint64_t deadline_ns)
{
    if (deadline_ns == WEIR_NEVER)
        return epoll_wait_once(loop, epoll, -1);
    uint64_t now_ns = loop->system->clock(loop->system_state);
    if (deadline_ns <= now_ns)
        return epoll_wait_once(loop, epoll, 0);
    uint64_t timeout_ns = deadline_ns - now_ns;
    if (!epoll->coarse) {
        int count = epoll_wait_precise(loop, epoll, timeout_ns);
        if (count != -ENOSYS && count != -EPERM)
            return count;
        epoll->coarse = true;
    }
    uint64_t timeout_ms = (timeout_ns + 999999) / 1000000;
    return epoll_wait_once(loop, epoll, timeout_ms < INT_MAX ? (int)timeout_ms : INT_MAX);
}

// Looks again and again until something is there, the budget is spent, or the deadline has come.
static int epoll_poll_busily(struct weir_loop *loop, struct epoll *epoll, uint64_t deadline_ns)
{
    uint64_t end_ns = loop->system->clock(loop->system_state) + loop->look_ns;
    int count;
    // UNTESTED: needs a deadline before the end of the busy poll
    if (deadline_ns < end_ns)
        end_ns = deadline_ns;
    do {
        count = epoll_wait_once(loop, epoll, 0);
    } while (!count && loop->system->clock(loop->system_state) < end_ns);
    loop->looked = true;
    loop->looked_in_vain = count == 0;
    return count;
}

static int epoll_collect(struct weir_loop *loop, struct epoll *epoll, uint64_t deadline_ns)
{
    int count = 0;
    if (!deadline_ns)
        count = epoll_wait_once(loop, epoll, 0);
    else if (loop->look_ns)
        count = epoll_poll_busily(loop, epoll, deadline_ns);
    if (!count && deadline_ns)
        count = epoll_sleep(loop, epoll, deadline_ns);
    if (count < 0)
        return count == -EINTR ? 0 : count;
    epoll->event_next = 0;
    epoll->event_count = count;
    return 0;
}

static void epoll_serve_listener(struct weir_loop *loop, struct weir_listener *listener)
{
    if (listener->engine_bits & IMMEDIATE_ACCEPTS)
        immediate_accept(loop, listener, SOCK_NONBLOCK);
    else
        epoll_unlisten(loop, listener);
}

static int epoll_serve_stream(struct weir_loop *loop, struct weir_stream *stream, uint32_t events)
{
    uint32_t wanted = stream->engine_bits & IMMEDIATE_INTEREST;
    // An error or a hang-up concerns both directions; the calls tell which.
    uint32_t ready = events & (EPOLLERR | EPOLLHUP) ? IMMEDIATE_INTEREST : events;
    uint32_t unwanted = ready & epoll_registered(stream) & ~wanted;
    if (wanted & ready & IMMEDIATE_RECEIVING)
        immediate_receive(loop, stream, MSG_DONTWAIT);
    if (wanted & ready & IMMEDIATE_SENDING)
        immediate_writable(loop, stream);
    // What was wanted until now is likely to be wanted again after the callbacks: it stays.
    return unwanted ? epoll_register(loop, stream, wanted) : 0;
}

static int epoll_serve(struct weir_loop *loop, uint64_t token, uint32_t events)
{
    enum operation operation = token >> TOKEN_OPERATION_SHIFT;
    if (operation == OPERATION_NONE)
        return 0; // woken; edge-triggered, so that the counter need not be read
    void *object = loop_token_object(loop, token);
    // UNTESTED: epoll tells no more of what was closed
    if (!object) {
        stats_add(loop, stale_completions, 1);
        return 0;
    }
    if (operation == OPERATION_RECEIVE)
        return epoll_serve_stream(loop, object, events);
    epoll_serve_listener(loop, object);
    return 0;
}

static int epoll_flush(struct weir_loop *loop, uint64_t deadline_ns)
{
    struct epoll *epoll = loop->engine_state;
    int error = 0;
    immediate_begin(loop);
    if (epoll->event_next == epoll->event_count)
        error = epoll_collect(loop, epoll, epoll->base.count ? 0 : deadline_ns);
    while (!error && epoll->event_next < epoll->event_count && immediate_has_room(loop)) {
        const struct epoll_event *event = &epoll->events[epoll->event_next++];
        error = epoll_serve(loop, event->data.u64, event->events);
    }
    return error ? error : (int)epoll->base.count;
}

// --- Beginning and end ---------------------------------------------------------------------------

static int epoll_init(struct weir_loop *loop, void *argument)
{
    (void)argument;
    int error = immediate_init(loop, sizeof(struct epoll), NULL);
    if (error)
        return error;
    struct epoll *epoll = loop->engine_state;
    epoll->base.pipe_signal = sendfile_signal_early();
    epoll->fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll->fd < 0) {
        error = -errno;
        goto fini_immediate;
    }
    error = epoll_control(loop, EPOLL_CTL_ADD, epoll->base.wake_fd, EPOLLIN | EPOLLET, 0);
    if (error)
        goto close_epoll;
    snprintf(loop->plan, sizeof loop->plan, "level-triggered, %d events a wait, %d buffers of %u",
             EPOLL_EVENTS_MAX, IMMEDIATE_BULK, loop->config.buffer_size);
    return 0;
close_epoll:
    close(epoll->fd);
fini_immediate:
    immediate_fini(loop);
    return error;
}

static void epoll_fini(struct weir_loop *loop)
{
    struct epoll *epoll = loop->engine_state;
    close(epoll->fd);
    immediate_fini(loop);
}

const struct engine engine_epoll = {
    .name = "epoll",
    .init = epoll_init,
    .fini = epoll_fini,
    .flush = epoll_flush,
    .accept = epoll_accept,
    .accept_cancel = epoll_accept_cancel,
    .receive = epoll_receive,
    .receive_cancel = immediate_receive_cancel,
    .send = epoll_send,
    .connect = epoll_connect,
    .shutdown = immediate_shutdown,
    .close = immediate_close,
    .file = epoll_file,
    .job = jobs_start,
    .wake = immediate_wake,
};
