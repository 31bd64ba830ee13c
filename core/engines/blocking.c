// The blocking engine: the classic baseline, one connection per thread, each with a small loop.
//
// A loop whose one connection is busy waits inside recv(2), and inside send(2): an echo costs these
// two calls. Both give up after a tenth of a second (SO_RCVTIMEO, SO_SNDTIMEO). Then the connection
// is quiet, or its peer slow, and the loop waits in ppoll(2), where its eventfd wakes it at once
// and no timer ticks; so does a loop with more sources or an earlier deadline. A tenth of a second
// is thus the resolution of timers and of waking, and only while bytes flow.
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "immediate.h"

#define BLOCKING_PATIENCE_NS 100000000ULL

enum {
    // Bits of stream->engine_bits: the socket has its time-outs; the armed receive met one; the
    // socket is non-blocking.
    BLOCKING_TIMED = 1 << IMMEDIATE_ENGINE_SHIFT,
    BLOCKING_QUIET = 2 << IMMEDIATE_ENGINE_SHIFT,
    BLOCKING_NEVER = 4 << IMMEDIATE_ENGINE_SHIFT,
};

struct blocking {
    struct immediate base;
    uint32_t first;       // source at which the next poll begins to serve: fairness
    uint32_t *slots;      // of the sources in `polls`
    struct pollfd *polls; // the sources, and behind them the eventfd
};

// --- Sources -------------------------------------------------------------------------------------

// The events that the object in a slot waits for, and its descriptor.
static short blocking_interest(const struct slot *slot, int *ret_fd)
{
    if (!slot->object)
        return 0;
    if (slot->kind == SLOT_STREAM) {
        const struct weir_stream *stream = slot->object;
        *ret_fd = stream->fd;
        return (short)(stream->engine_bits & IMMEDIATE_INTEREST);
    }
    if (slot->kind == SLOT_LISTENER) {
        const struct weir_listener *listener = slot->object;
        *ret_fd = listener->fd;
        return listener->engine_bits & IMMEDIATE_ACCEPTS ? POLLIN : 0;
    }
    return 0;
}

// The stream, if a single receive is all that the loop waits for.
static struct weir_stream *blocking_only_receiver(const struct weir_loop *loop)
{
    const struct slot *only = NULL;
    for (uint32_t i = 0; i < loop->slots_used; i++) {
        int fd;
        short interest = blocking_interest(&loop->slots[i], &fd);
        if (!interest)
            continue;
        if (only || interest != IMMEDIATE_RECEIVING || loop->slots[i].kind != SLOT_STREAM)
            return NULL;
        only = &loop->slots[i];
    }
    return only ? only->object : NULL;
}

static void blocking_set_timeouts(struct weir_loop *loop, struct weir_stream *stream)
{
    struct timeval patience = { .tv_usec = BLOCKING_PATIENCE_NS / 1000 };
    if (stream->engine_bits & BLOCKING_TIMED)
        return;
    stream->engine_bits |= BLOCKING_TIMED;
    setsockopt(stream->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(stream->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    stats_add(loop, enters, 2);
}

// --- Operations ----------------------------------------------------------------------------------

static void blocking_accept(struct weir_loop *loop, struct weir_listener *listener, uint32_t index)
{
    (void)loop;
    listener->engine_bits |= 1U << index;
}

static void blocking_receive(struct weir_loop *loop, struct weir_stream *stream)
{
    (void)loop;
    stream->engine_bits &= ~(uint32_t)BLOCKING_QUIET;
    stream->engine_bits |= IMMEDIATE_RECEIVING;
}

static void blocking_set_nonblocking(struct weir_loop *loop, struct weir_stream *stream)
{
    int on = 1;
    if (stream->engine_bits & BLOCKING_NEVER)
        return;
    stream->engine_bits |= BLOCKING_NEVER;
    ioctl(stream->fd, FIONBIO, &on);
    stats_add(loop, enters, 1);
}

// The first send's flags. A loop with one stream waits inside of send(2). With others beside it,
// none must wait for this one; and since sendfile(2) takes no flags, a stream that sends a file is
// non-blocking from then on: its receives and sends answer at once, and ppoll waits for it.
static int blocking_send_flags(struct weir_loop *loop, struct weir_stream *stream)
{
    if (loop->streams_open == 1 && !loop->listeners) {
        blocking_set_timeouts(loop, stream);
        return 0;
    }
    if (stream->files)
        blocking_set_nonblocking(loop, stream);
    return MSG_DONTWAIT;
}

static int64_t blocking_send(struct weir_loop *loop, struct weir_stream *stream)
{
    int64_t result = -EAGAIN;
    if (stream->engine_bits & IMMEDIATE_SHORT) {
        // The peer does not read: from now on wait for it and for the other direction together.
        stream->engine_bits &= ~(uint32_t)IMMEDIATE_SHORT;
    } else {
        result = immediate_send(loop, stream, blocking_send_flags(loop, stream));
    }
    if (result != -EAGAIN)
        return result;
    stream->engine_bits |= IMMEDIATE_SENDING;
    return ENGINE_PENDING;
}

// The core makes its sockets non-blocking; connect must not wait, what follows may.
static void blocking_unblock(struct weir_loop *loop, const struct weir_stream *stream)
{
    int off = 0;
    ioctl(stream->fd, FIONBIO, &off);
    stats_add(loop, enters, 1);
}

static void blocking_connect(struct weir_loop *loop, struct weir_stream *stream,
                             const struct weir_address *address)
{
    int result = immediate_connect(loop, stream, address);
    if (result == -EINPROGRESS) {
        stream->engine_bits |= IMMEDIATE_SENDING;
        return;
    }
    if (!result)
        blocking_unblock(loop, stream);
    immediate_early(loop, OPERATION_CONNECT, 0, stream->slot, result);
}

static void blocking_file(struct weir_loop *loop, struct weir_operation *operation)
{
    operation->result = 0;
    immediate_early(loop, OPERATION_FILE, 0, operation->slot, immediate_file(operation));
    stats_add(loop, enters, 1);
}

// --- One turn ------------------------------------------------------------------------------------

static void blocking_serve(struct weir_loop *loop, const struct slot *slot, short events)
{
    if (slot->kind == SLOT_LISTENER) {
        immediate_accept(loop, slot->object, 0);
        return;
    }
    struct weir_stream *stream = slot->object;
    uint32_t wanted = stream->engine_bits;
    if (wanted & IMMEDIATE_RECEIVING && events & ~POLLOUT)
        immediate_receive(loop, stream, MSG_DONTWAIT);
    if (wanted & IMMEDIATE_SENDING && events & ~POLLIN)
        immediate_writable(loop, stream);
    if (wanted & ~stream->engine_bits & IMMEDIATE_CONNECTING)
        blocking_unblock(loop, stream);
}

static uint32_t blocking_collect(const struct weir_loop *loop, struct blocking *blocking)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < loop->slots_used; i++) {
        struct pollfd *poll = &blocking->polls[count];
        poll->events = blocking_interest(&loop->slots[i], &poll->fd);
        if (poll->events)
            blocking->slots[count++] = i;
    }
    blocking->polls[count] = (struct pollfd){ .fd = blocking->base.wake_fd, .events = POLLIN };
    return count;
}

static int blocking_wait(struct weir_loop *loop, struct pollfd *polls, uint32_t count,
                         uint64_t deadline_ns)
{
    struct timespec timeout = { 0 };
    uint64_t now_ns = deadline_ns ? loop->system->clock(loop->system_state) : 0;
    if (deadline_ns > now_ns) {
        timeout.tv_sec = (time_t)((deadline_ns - now_ns) / 1000000000);
        timeout.tv_nsec = (long)((deadline_ns - now_ns) % 1000000000);
    }
    int ready = ppoll(polls, count, deadline_ns == WEIR_NEVER ? NULL : &timeout, NULL);
    stats_add(loop, enters, 1);
    return ready < 0 ? -errno : ready;
}

static int blocking_poll(struct weir_loop *loop, uint64_t deadline_ns)
{
    struct blocking *blocking = loop->engine_state;
    uint32_t count = blocking_collect(loop, blocking);
    int ready = blocking_wait(loop, blocking->polls, count + 1, deadline_ns);
    if (ready <= 0)
        return ready == -EINTR ? 0 : ready;
    if (blocking->polls[count].revents) {
        uint64_t value;
        ssize_t size = read(blocking->base.wake_fd, &value, sizeof value);
        (void)size; // the counter is zero now, whatever it was
        stats_add(loop, enters, 1);
    }
    uint32_t begin = blocking->first < count ? blocking->first : 0;
    blocking->first = 0;
    for (uint32_t k = 0; k < count; k++) {
        uint32_t i = begin + k < count ? begin + k : begin + k - count;
        if (!blocking->polls[i].revents)
            continue;
        if (!immediate_has_room(loop)) {
            blocking->first = i;
            break;
        }
        blocking_serve(loop, &loop->slots[blocking->slots[i]], blocking->polls[i].revents);
    }
    return 0;
}

// Whether nothing is due before recv(2) gives up by itself.
static bool blocking_has_time(const struct weir_loop *loop, uint64_t deadline_ns)
{
    if (deadline_ns == 0 || deadline_ns == WEIR_NEVER)
        return deadline_ns != 0;
    return deadline_ns >= loop->system->clock(loop->system_state) + BLOCKING_PATIENCE_NS;
}

static int blocking_flush(struct weir_loop *loop, uint64_t deadline_ns)
{
    struct immediate *state = immediate_of(loop);
    struct weir_stream *stream = NULL;
    int error = 0;
    immediate_begin(loop);
    if (state->count || atomic_load(&loop->posts))
        deadline_ns = 0; // a job that ran inline, for example: its `done` waits for this turn
    if (blocking_has_time(loop, deadline_ns))
        stream = blocking_only_receiver(loop);
    if (stream && !(stream->engine_bits & BLOCKING_QUIET)) {
        blocking_set_timeouts(loop, stream);
        immediate_receive(loop, stream, 0);
        if (stream->engine_bits & IMMEDIATE_RECEIVING)
            stream->engine_bits |= BLOCKING_QUIET; // nothing came
    } else {
        error = blocking_poll(loop, deadline_ns);
    }
    return error ? error : (int)state->count;
}

// --- Beginning and end ---------------------------------------------------------------------------

// The argument is what wakes the loop, or NULL.
static int blocking_init(struct weir_loop *loop, void *argument)
{
    size_t count = (size_t)loop->slots_max + 1;
    struct blocking own = { .polls = malloc(count * (sizeof *own.polls + sizeof *own.slots)) };
    if (!own.polls)
        return -ENOMEM;
    int error = immediate_init(loop, sizeof(struct blocking), argument);
    if (error) {
        free(own.polls);
        return error;
    }
    struct blocking *blocking = loop->engine_state;
    blocking->polls = own.polls;
    blocking->slots = (uint32_t *)(void *)(blocking->polls + count);
    snprintf(loop->plan, sizeof loop->plan,
             "one thread a connection, recv and send wait 100 ms, then ppoll");
    return 0;
}

static void blocking_fini(struct weir_loop *loop)
{
    struct blocking *blocking = loop->engine_state;
    free(blocking->polls);
    immediate_fini(loop);
}

const struct engine engine_blocking = {
    .name = "blocking",
    .init = blocking_init,
    .fini = blocking_fini,
    .flush = blocking_flush,
    .accept = blocking_accept,
    .accept_cancel = immediate_accept_cancel,
    .receive = blocking_receive,
    .receive_cancel = immediate_receive_cancel,
    .send = blocking_send,
    .connect = blocking_connect,
    .shutdown = immediate_shutdown,
    .close = immediate_close,
    .file = blocking_file,
    .job = jobs_run,
    .wake = immediate_wake,
};
