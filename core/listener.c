// Listeners: accepts kept armed, connections admitted, refused or turned into streams.
//
// Each of the LISTENER_ACCEPTS places of a listener is idle, armed (an accept is in flight) or
// parked (a connection was accepted and waits). A connection becomes a stream once the loop's limit
// has room, so the limit is exact although several listeners and loops share it. No more accepts
// are armed than there is room; only listeners that race for the last room park, and to the peer a
// parked connection looks like one in the kernel's backlog. Nothing armed holds room back from
// others.
#include "loop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define LISTENER_RETRY_NS 100000000ULL

// After so many failed accepts in a row, of whatever kind, a listener pauses: it must not spin.
enum { LISTENER_ERRORS_MAX = 16 };

// A refused connection becomes a stream of this protocol, which is told nothing, so that it is
// reset and its descriptor, direct or not, is given back in the one way there is.
static const struct weir_protocol listener_refusal = { .name = "refusal" };

static void listener_advance(struct weir_listener *listener);

// --- Pausing -------------------------------------------------------------------------------------

static void listener_pause(struct weir_listener *listener)
{
    if (!listener->paused)
        stats_add(listener->loop, accept_pauses, 1);
    listener->paused = true;
    weir_timer_start(listener->loop, &listener->retry, LISTENER_RETRY_NS);
}

// Descriptors or memory are out. Only the timer arms the next accept, one alone, and only its
// success ends this state: so there is one line in the log, and no more than ten accepts a second.
static void listener_starve(struct weir_listener *listener, int error)
{
    if (!listener->starved) {
        loop_log(listener->loop, WEIR_LOG_WARNING, "accepting pauses: %s", strerror(-error));
        listener->starved = true;
    }
    listener->blocked = true;
    listener->stale = listener->armed;
    listener_pause(listener);
}

static void listener_recover(struct weir_listener *listener)
{
    if (!listener->starved)
        return;
    listener->starved = false;
    loop_log(listener->loop, WEIR_LOG_INFO, "accepting goes on");
}

static void listener_retry(struct weir_loop *loop, struct weir_timer *timer)
{
    (void)loop;
    struct weir_listener *listener = container_of(timer, struct weir_listener, retry);
    listener->blocked = false;
    listener_advance(listener);
}

// A callback in between may close any listener, or end a stream and come here again: the walk's
// place is kept in the loop, where weir_listener_close mends it.
void listener_retry_all(struct weir_loop *loop)
{
    loop->listener_next = loop->listeners;
    while (loop->listener_next) {
        struct weir_listener *listener = loop->listener_next;
        loop->listener_next = listener->next;
        if (listener->paused && !listener->blocked)
            listener_advance(listener);
    }
}

// --- One connection ------------------------------------------------------------------------------

static void listener_peer(const struct weir_listener *listener, uint32_t index,
                          struct weir_address *ret_peer)
{
    *ret_peer = (struct weir_address){ .size = listener->peer_sizes[index] };
    // UNTESTED: kernels fill in no more than they were given
    if (ret_peer->size > sizeof ret_peer->un)
        ret_peer->size = sizeof ret_peer->un;
    memcpy(&ret_peer->un, &listener->peers[index], ret_peer->size);
}

void listener_stream_released(struct weir_stream *stream)
{
    limit_give(stream->loop->limit);
}

static void listener_free_index(struct weir_listener *listener, uint32_t bit)
{
    listener->parked &= ~bit;
    listener->placed &= ~bit;
    listener->direct &= ~bit;
}

// Makes the stream of the connection at `index` and frees the index, or leaves all as it is.
static int listener_make_stream(struct weir_listener *listener, uint32_t index,
                                const struct weir_protocol *protocol,
                                struct weir_stream **ret_stream)
{
    uint32_t bit = 1U << index;
    struct weir_stream *stream;
    int error = stream_create(listener->loop, protocol, listener->config.context,
                              listener->parked_fds[index], (listener->direct & bit) != 0, &stream);
    if (error)
        return error;
    stream_set_peer(stream, (const struct sockaddr *)&listener->peers[index],
                    listener->peer_sizes[index]);
    if (listener->placed & bit) {
        stream->released = listener->released;
        stream->released_context = listener->released_context;
    }
    listener_free_index(listener, bit);
    *ret_stream = stream;
    return 0;
}

// Closes a connection without a stream, for a loop that ends without memory for one. What lies in
// the ring's table is closed with the ring.
static void listener_drop(struct weir_listener *listener, uint32_t index)
{
    struct weir_loop *loop = listener->loop;
    uint32_t bit = 1U << index;
    if (!(listener->direct & bit))
        loop->system->close(loop->system_state, listener->parked_fds[index]);
    if (listener->placed & bit)
        limit_give(loop->limit);
    listener_free_index(listener, bit);
    stats_add(loop, refused, 1);
}

// Resets a connection that never became a stream. It stays parked while memory is out, but where
// the loop ends: that must not wait for memory.
static void listener_refuse(struct weir_listener *listener, uint32_t index)
{
    struct weir_stream *stream;
    int error = listener_make_stream(listener, index, &listener_refusal, &stream);
    if (error && listener->loop->ending) {
        listener_drop(listener, index);
        return;
    }
    if (error) {
        listener_starve(listener, error);
        return;
    }
    stats_add(listener->loop, refused, 1);
    stream_fail(stream, -ECONNREFUSED, true);
    stream_settle(stream);
}

// Gives the descriptor to the listener's taker, or resets the connection if that declines. It stays
// parked while the taker has no descriptor for it.
static void listener_hand_over(struct weir_listener *listener, uint32_t index)
{
    struct weir_loop *loop = listener->loop;
    struct weir_address peer;
    listener_peer(listener, index, &peer);
    int error = listener->take(listener, listener->parked_fds[index], &peer);
    if (!error) {
        listener_free_index(listener, 1U << index);
        listener->accepted++;
        stats_add(loop, accepts, 1);
        return;
    }
    if (error != -ECONNREFUSED) {
        stats_add(loop, accept_errors, 1);
        listener_starve(listener, error);
    }
    if (error == -EMFILE || error == -ENFILE)
        return;
    limit_give(loop->limit);
    listener->placed &= ~(1U << index);
    listener_refuse(listener, index);
}

// Finds room in the loop's limit for the connection at `index` and asks for its admission.
static bool listener_place(struct weir_listener *listener, uint32_t index)
{
    struct weir_address peer;
    if (listener->placed >> index & 1)
        return true;
    if (!limit_take(listener->loop->limit))
        return false;
    listener_peer(listener, index, &peer);
    if (listener->config.admit && !listener->config.admit(listener, &peer)) {
        limit_give(listener->loop->limit);
        listener_refuse(listener, index);
        return false;
    }
    listener->placed |= 1U << index;
    return true;
}

static bool listener_exhausted(const struct weir_listener *listener)
{
    return listener->config.accepts_max && listener->accepted >= listener->config.accepts_max;
}

// Serves the connection at `index`, refuses it, or leaves it parked.
static void listener_serve(struct weir_listener *listener, uint32_t index)
{
    struct weir_stream *stream;
    if ((listener->closing && !listener->serve_late) || listener_exhausted(listener) ||
        listener->loop->ending) {
        listener_refuse(listener, index);
        return;
    }
    if (!listener_place(listener, index))
        return;
    if (listener->take) {
        listener_hand_over(listener, index);
        return;
    }
    int error = listener_make_stream(listener, index, listener->config.protocol, &stream);
    if (error) {
        listener_starve(listener, error);
        return;
    }
    listener->accepted++;
    stats_add(listener->loop, accepts, 1);
    stream_opened(stream);
    stream_settle(stream);
}

// --- Arming --------------------------------------------------------------------------------------

static uint32_t listener_wanted(const struct weir_listener *listener)
{
    const struct limit *limit = listener->loop->limit;
    uint32_t count = atomic_load_explicit(&limit->count, memory_order_relaxed);
    uint32_t room = count < limit->max ? limit->max - count : 0;
    // A taker needs descriptors of its own for each: those that were accepted already must not have
    // taken the last ones.
    uint32_t wanted = listener->starved || listener->take ? 1 : LISTENER_ACCEPTS;
    if (listener->blocked)
        return 0;
    if (listener->config.accepts_max && listener->config.accepts_max - listener->accepted < wanted)
        wanted = listener->config.accepts_max - listener->accepted;
    return room < wanted ? room : wanted;
}

static void listener_arm_idle(struct weir_listener *listener)
{
    uint32_t wanted = listener_wanted(listener);
    uint32_t busy = listener->armed | listener->parked;
    uint32_t count = (uint32_t)__builtin_popcount(busy);
    for (uint32_t index = 0; index < LISTENER_ACCEPTS && count < wanted; index++) {
        if (busy >> index & 1)
            continue;
        listener->peer_sizes[index] = sizeof listener->peers[index];
        listener->armed |= 1U << index;
        listener->loop->engine->accept(listener->loop, listener, index);
        count++;
    }
    if (listener->armed && !listener->parked)
        listener->paused = false;
    else
        listener_pause(listener);
}

static void listener_free(struct weir_listener *listener)
{
    struct weir_loop *loop = listener->loop;
    weir_timer_stop(loop, &listener->retry);
    loop_slot_give(loop, listener->slot);
    loop->system->close(loop->system_state, listener->fd);
    free(listener);
}

void listener_abandon(struct weir_listener *listener)
{
    const struct weir_loop *loop = listener->loop;
    for (uint32_t index = 0; index < LISTENER_ACCEPTS; index++) {
        if ((listener->parked & ~listener->direct) >> index & 1)
            loop->system->close(loop->system_state, listener->parked_fds[index]);
    }
    listener_free(listener);
}

// The listener ends by itself: the owner is told, then it is closed.
static void listener_finish(struct weir_listener *listener, int reason)
{
    if (listener->closing)
        return;
    if (reason)
        loop_log(listener->loop, WEIR_LOG_ERROR, "accept: %s", strerror(-reason));
    if (listener->config.finished)
        listener->config.finished(listener, reason);
    weir_listener_close(listener);
}

// Brings the listener forward as far as possible. Whatever is called in between may come back here
// (a stream that ends at once, a callback that closes the listener): the outer call goes on for it.
static void listener_advance(struct weir_listener *listener)
{
    if (listener->advancing || listener->loop->failed) // a broken engine may be gone
        return;
    listener->advancing = true;
    for (uint32_t index = 0; index < LISTENER_ACCEPTS; index++) {
        if (listener->parked >> index & 1 && !listener->blocked)
            listener_serve(listener, index);
    }
    if (listener->failure || listener_exhausted(listener))
        listener_finish(listener, listener->failure);
    if (!listener->closing)
        listener_arm_idle(listener);
    else if (listener->parked)
        listener_pause(listener);
    listener->advancing = false;
    if (listener->closing && !listener->armed && !listener->parked)
        listener_free(listener);
}

void listener_arm(struct weir_listener *listener)
{
    listener_advance(listener);
}

// --- Accepted ------------------------------------------------------------------------------------

// Which errors mean that this listening socket will never accept again.
static bool listener_error_ends(int error)
{
    return error == -EBADF || error == -ENOTSOCK || error == -EINVAL || error == -EFAULT;
}

// Which errors mean that something is used up, so that trying again at once would be in vain.
static bool listener_error_starves(int error)
{
    return error == -EMFILE || error == -ENFILE || error == -ENOBUFS || error == -ENOMEM;
}

static void listener_accept_failed(struct weir_listener *listener, int error)
{
    if (error == -ECANCELED || listener->closing)
        return;
    stats_add(listener->loop, accept_errors, 1);
    // All others concern a connection that died in the queue: accept(2) says to treat them like
    // EAGAIN.
    if (listener_error_ends(error))
        listener->failure = error;
    else if (listener_error_starves(error) || ++listener->errors >= LISTENER_ERRORS_MAX)
        listener_starve(listener, error);
}

void listener_accepted(struct weir_listener *listener, const struct completion *completion)
{
    // An engine may use the bits above for itself.
    uint32_t index = completion->token >> TOKEN_AUXILIARY_SHIFT & (LISTENER_ACCEPTS - 1);
    uint32_t bit = 1U << index;
    bool stale = listener->stale & bit;
    listener->armed &= ~bit;
    listener->stale &= ~bit;
    if (completion->result < 0) {
        listener_accept_failed(listener, completion->result);
    } else {
        listener->errors = 0;
        if (!stale)
            listener_recover(listener);
        listener->parked |= bit;
        listener->parked_fds[index] = completion->result;
        if (completion->flags & COMPLETION_DIRECT)
            listener->direct |= bit;
    }
    listener_advance(listener);
}

// --- Open and close ------------------------------------------------------------------------------

int listener_open_on(struct weir_loop *loop, int fd, const struct weir_address *address,
                     const struct weir_listener_config *config, struct weir_listener **ret_listener)
{
    struct weir_listener *listener = calloc(1, sizeof *listener);
    if (!listener)
        return -ENOMEM;
    int error = loop_slot_take(loop, SLOT_LISTENER, listener, &listener->slot);
    if (error) {
        free(listener);
        return error;
    }
    listener->loop = loop;
    listener->config = *config;
    listener->address = *address;
    listener->fd = fd;
    listener->retry.function = listener_retry;
    listener->released = listener_stream_released;
    listener->next = loop->listeners;
    loop->listeners = listener;
    *ret_listener = listener;
    return 0;
}

int weir_listener_open(struct weir_loop *loop, const struct weir_address *address,
                       const struct weir_listener_config *config,
                       struct weir_listener **ret_listener)
{
    const struct system *system = loop->system;
    struct weir_address bound;
    if (!config->protocol)
        return -EINVAL;
    if (loop->ending)
        return -ENOSPC;
    if (loop->engine == &engine_blocking && !config->accepts_max) {
        loop_log(loop, WEIR_LOG_ERROR, "the blocking engine listens through a server");
        return -EINVAL;
    }
    int fd = system->listen(loop->system_state, address, &config->socket, &bound);
    if (fd < 0)
        return fd;
    int error = listener_open_on(loop, fd, &bound, config, ret_listener);
    if (error) {
        system->close(loop->system_state, fd);
        // UNTESTED: only TCP listeners are walked without memory
        if (bound.any.sa_family == AF_UNIX)
            system->unlink(loop->system_state, bound.un.sun_path);
        return error;
    }
    listener_arm(*ret_listener);
    return 0;
}

void weir_listener_close(struct weir_listener *listener)
{
    if (!listener || listener->closing)
        return;
    struct weir_loop *loop = listener->loop;
    struct weir_listener **link = &loop->listeners;
    while (*link != listener)
        link = &(*link)->next;
    *link = listener->next;
    // UNTESTED: a listener that closes itself while all are walked
    if (loop->listener_next == listener)
        loop->listener_next = listener->next;
    listener->closing = true;
    listener->blocked = false;
    if (listener->address.any.sa_family == AF_UNIX && !listener->path_kept)
        loop->system->unlink(loop->system_state, listener->address.un.sun_path);
    if (loop->failed)
        return; // loop_abandon() frees it
    if (listener->armed)
        loop->engine->accept_cancel(loop, listener);
    listener_advance(listener);
}

void weir_listener_address(const struct weir_listener *listener, struct weir_address *ret_address)
{
    *ret_address = listener->address;
}

void *weir_listener_context(const struct weir_listener *listener)
{
    return listener->config.context;
}

struct weir_loop *weir_listener_loop(const struct weir_listener *listener)
{
    return listener->loop;
}
