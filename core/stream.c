// The life of a stream: opened, used, ended on either side, closed.
//
// Verbs only note what is wanted and put the stream on the loop's attention list; stream_attend()
// acts on it, outside of every callback. A stream whose close has begun stays until its last
// completion: the kernel may still read its queue or name it. Then `closed` is told and the record
// is freed, in stream_settle(), the only place that does so.
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "loop.h"

// --- Creation ------------------------------------------------------------------------------------

int stream_create(struct weir_loop *loop, const struct weir_protocol *protocol, void *context,
                  int fd, bool direct, struct weir_stream **ret_stream)
{
    size_t size = sizeof(struct weir_stream) + protocol->session_size;
    struct slab *slab = slab_set_find(&loop->records, size);
    struct weir_stream *stream = slab ? slab_take(slab) : NULL;
    if (!stream)
        return -ENOMEM;
    memset(stream, 0, size);
    int error = loop_slot_take(loop, SLOT_STREAM, stream, &stream->slot);
    if (error) {
        slab_give(slab, stream);
        return error;
    }
    stream->loop = loop;
    stream->protocol = protocol;
    stream->context = context;
    stream->fd = fd;
    stream->direct = direct;
    stream->pieces.last = &stream->pieces.first;
    stream->received.last = &stream->received.first;
    stream->active_ns = loop->now_ns;
    stream->idle_timeout_ns = loop->config.idle_timeout_ns;
    loop->streams_open++;
    *ret_stream = stream;
    return 0;
}

void stream_set_peer(struct weir_stream *stream, const struct sockaddr *address, socklen_t size)
{
    if (address->sa_family == AF_UNIX)
        size = sizeof(sa_family_t); // its path has no room, unless it is short
    memcpy(&stream->peer_address, address, size);
    stream->peer_size = size & 127;
}

void stream_active(struct weir_stream *stream)
{
    stream->active_ns = stream->loop->now_ns;
}

// --- Time-outs: one timer per stream, its meaning follows from the state -------------------------

static void stream_timer(struct weir_loop *loop, struct weir_timer *timer);

// When the total time has something to do: as soon as it is over, the stream is told, and when as
// much has passed again, it is aborted. Who closes already need not be told.
static uint64_t stream_total_due(const struct weir_stream *stream)
{
    uint64_t total_ns = stream->loop->config.total_timeout_ns;
    if (!total_ns || stream->protocol->ageless || !stream->opened_told)
        return WEIR_NEVER;
    if (stream->expired_told || stream->state != STREAM_OPEN)
        total_ns = total_ns < WEIR_NEVER / 2 ? 2 * total_ns : WEIR_NEVER;
    return total_ns < WEIR_NEVER - stream->opened_ns ? stream->opened_ns + total_ns : WEIR_NEVER;
}

// One timer carries both: it rings after `delay_ns`, or for the total time if that is due before.
static void stream_timer_start(struct weir_stream *stream, uint64_t delay_ns)
{
    struct weir_loop *loop = stream->loop;
    uint64_t total_due_ns = stream_total_due(stream);
    stream->timer.function = stream_timer;
    if (delay_ns == WEIR_NEVER)
        weir_timer_stop(loop, &stream->timer);
    else
        weir_timer_start(loop, &stream->timer, delay_ns);
    if (total_due_ns != WEIR_NEVER &&
        (delay_ns == WEIR_NEVER || total_due_ns < stream->timer.due_ns))
        wheel_start(&loop->wheel, &stream->timer, total_due_ns);
}

// For a time-out of the configuration, where 0 is none.
static void stream_timer_set(struct weir_stream *stream, uint64_t timeout_ns)
{
    stream_timer_start(stream, timeout_ns ? timeout_ns : WEIR_NEVER);
}

// What is left of `timeout_ns` since the last byte; starts the timer again if something is. Who
// waits for a buffer of ours is not quiet: its bytes may lie in the socket.
static bool stream_quiet_for(struct weir_stream *stream, uint64_t timeout_ns)
{
    uint64_t quiet_ns = stream->starved ? 0 : stream->loop->now_ns - stream->active_ns;
    if (quiet_ns >= timeout_ns)
        return true;
    stream_timer_start(stream, timeout_ns - quiet_ns);
    stream->look_turn = 0;
    return false;
}

// Its own bytes may lie in the socket, because the engine has not come to it: each turn serves at
// least one of those that are ready, in order, so after as many turns as there are streams it was
// this one's turn too.
bool weir_stream_is_silent(struct weir_stream *stream)
{
    struct weir_loop *loop = stream->loop;
    if (stream->queued || stream->starved || stream->received.first) {
        stream->look_turn = 0;
        return false;
    }
    if (!stream->look_turn) {
        loop->turns_awake = loop->streams_open + 2;
        stream->look_turn = loop->turn_index + loop->turns_awake;
    }
    return (int32_t)(loop->turn_index - stream->look_turn) >= 0;
}

// During a drain: whether a stream that was quiet has nothing more to say. What is owed to its peer
// has as long as after a close.
static bool stream_has_finished(struct weir_stream *stream)
{
    const struct weir_loop *loop = stream->loop;
    uint64_t patience_ns = loop->config.close_timeout_ns;
    if (weir_stream_is_silent(stream) ||
        (patience_ns && loop->now_ns - stream->active_ns >= patience_ns))
        return true;
    stream_timer_start(stream, stream->queued ? stream->idle_timeout_ns : 1);
    return false;
}

static void stream_expire(struct weir_stream *stream)
{
    struct weir_loop *loop = stream->loop;
    if (stream->expired_told || stream->state != STREAM_OPEN) {
        stats_add(loop, total_aborts, 1);
        stream_fail(stream, -ETIME, true);
        return;
    }
    stats_add(loop, total_timeouts, 1);
    stream->expired_told = true;
    if (stream->protocol->expired)
        stream->protocol->expired(stream);
    else
        weir_stream_close(stream);
    if (stream->state == STREAM_OPEN) // looks at the idle time-out again
        stream_timer_set(stream, stream->idle_timeout_ns ? 1 : 0);
}

static void stream_timed_out(struct weir_stream *stream)
{
    struct weir_loop *loop = stream->loop;
    switch ((enum stream_state)stream->state) {
    case STREAM_CONNECTING:
        stream_fail(stream, -ETIMEDOUT, true);
        break;
    case STREAM_OPEN:
        if (!stream->idle_timeout_ns || !stream_quiet_for(stream, stream->idle_timeout_ns))
            break;
        if (stream->draining_told) {
            if (stream->protocol->draining || stream_has_finished(stream))
                weir_stream_close(stream);
            break;
        }
        stats_add(loop, idle_timeouts, 1);
        stream_fail(stream, -ETIMEDOUT, true);
        break;
    case STREAM_FLUSHING:
        // In the turn of the close this is still the timer of an open stream.
        if (stream->attention || !stream_quiet_for(stream, loop->config.close_timeout_ns))
            break;
        stats_add(loop, close_timeouts, 1);
        stream_fail(stream, -ETIMEDOUT, true);
        break;
    case STREAM_LINGERING:
        stream_start_close(stream);
        break;
    // UNTESTED: needs a timer that is due in the turn of the close
    case STREAM_CLOSING:
        break;
    }
}

static void stream_timer(struct weir_loop *loop, struct weir_timer *timer)
{
    struct weir_stream *stream = container_of(timer, struct weir_stream, timer);
    bool serves = stream->state == STREAM_OPEN || stream->state == STREAM_FLUSHING;
    if (serves && loop->now_ns >= stream_total_due(stream))
        stream_expire(stream);
    else
        stream_timed_out(stream);
    stream_settle(stream);
}

void weir_stream_set_idle_timeout(struct weir_stream *stream, uint64_t timeout_ns)
{
    stream->idle_timeout_ns = timeout_ns;
    if (stream->state == STREAM_OPEN)
        stream_timer_set(stream, timeout_ns);
}

// --- Opening -------------------------------------------------------------------------------------

void stream_opened(struct weir_stream *stream)
{
    stream->state = STREAM_OPEN;
    stream->opened_told = true;
    stream_active(stream);
    stream->opened_ns = stream->active_ns;
    stream_timer_set(stream, stream->idle_timeout_ns);
    if (stream->protocol->opened)
        stream->protocol->opened(stream);
    receive_arm(stream);
    send_list(stream);
    if (stream->want_end)
        loop_attention(stream); // asked for while it was connecting
}

static int stream_connect_socket(struct weir_loop *loop, const struct weir_address *address,
                                 const struct weir_connect_config *config,
                                 struct weir_stream **ret_stream)
{
    const struct system *system = loop->system;
    int fd = system->socket(loop->system_state, address, config->local, &config->socket);
    if (fd < 0)
        return fd;
    int error = stream_create(loop, config->protocol, config->context, fd, false, ret_stream);
    if (error)
        system->close(loop->system_state, fd);
    return error;
}

static void stream_release_limit(struct weir_stream *stream)
{
    limit_give(stream->loop->limit);
}

int weir_stream_connect(struct weir_loop *loop, const struct weir_address *address,
                        const struct weir_connect_config *config, struct weir_stream **ret_stream)
{
    struct weir_stream *stream;
    if (loop->ending || !limit_take(loop->limit))
        return -ENOSPC;
    int error = stream_connect_socket(loop, address, config, &stream);
    if (error) {
        limit_give(loop->limit);
        return error;
    }
    stream->released = stream_release_limit;
    stream_set_peer(stream, &address->any, address->size);
    stream->state = STREAM_CONNECTING;
    if (config->timeout_ns)
        stream_timer_start(stream, config->timeout_ns);
    stream->inflight++;
    loop->engine->connect(loop, stream, address);
    *ret_stream = stream;
    return 0;
}

void stream_connected(struct weir_stream *stream, int result)
{
    struct weir_loop *loop = stream->loop;
    stream->inflight--;
    stats_add(loop, connects, result == 0);
    stats_add(loop, connect_errors, result != 0);
    if (stream->state == STREAM_CONNECTING) {
        weir_timer_stop(loop, &stream->timer);
        if (result < 0)
            stream_fail(stream, result, false);
        else
            stream_opened(stream);
    } else if (stream->state == STREAM_FLUSHING) {
        // Closed by the protocol before it stood: what was queued still goes out.
        stream->close_connecting = false;
        // UNTESTED: needs a refusal of what was closed before it stood
        if (result < 0)
            stream_fail(stream, result, false);
        send_list(stream);
        loop_attention(stream);
    }
    stream_settle(stream);
}

// --- Ending --------------------------------------------------------------------------------------

static void stream_close_descriptor(struct weir_stream *stream)
{
    struct weir_loop *loop = stream->loop;
    if (loop->engine->close(loop, stream) == ENGINE_PENDING) {
        stream->inflight++;
        return;
    }
    stream->inflight = 0;
    stream->send_armed = false;
    stream->receive_armed = false;
}

// A worker thread that ends our direction may look the descriptor up as late as it runs: were it
// closed before, a stranger who got its number would be cut off. So the close waits for the end.
void stream_start_close(struct weir_stream *stream)
{
    if (stream->state == STREAM_CLOSING)
        return;
    stream->state = STREAM_CLOSING;
    weir_timer_stop(stream->loop, &stream->timer);
    if (stream->sink)
        sink_ended(stream, stream->reason ? stream->reason : -ECANCELED);
    if (!stream->shutting)
        stream_close_descriptor(stream);
}

void stream_descriptor_closed(struct weir_stream *stream)
{
    stream->inflight--;
    stream_settle(stream);
}

void stream_fail(struct weir_stream *stream, int reason, bool reset)
{
    if (!stream->reason)
        stream->reason = reason;
    stream->abort |= reset;
    stream_start_close(stream);
}

void stream_doom(struct weir_stream *stream, int reason)
{
    if (stream->state == STREAM_CLOSING)
        return;
    if (!stream->reason)
        stream->reason = reason;
    stream->state = STREAM_FLUSHING;
    stream->abort = true;
    loop_attention(stream);
}

void weir_stream_abort(struct weir_stream *stream)
{
    stream_doom(stream, -ECANCELED);
}

void weir_stream_close(struct weir_stream *stream)
{
    if (stream->state > STREAM_OPEN)
        return;
    stream->close_connecting = stream->state == STREAM_CONNECTING;
    stream->state = STREAM_FLUSHING;
    stream->loop->endings |= stream->files > 0;
    loop_attention(stream);
}

void weir_stream_linger(struct weir_stream *stream, uint64_t discard_max, uint64_t timeout_ns)
{
    if (stream->state > STREAM_OPEN)
        return;
    stream->linger = true;
    stream->discard_left = discard_max;
    stream->linger_timeout_ns = timeout_ns;
    weir_stream_close(stream);
}

void weir_stream_end(struct weir_stream *stream)
{
    if (stream->state > STREAM_OPEN || stream->want_end)
        return;
    stream->want_end = true;
    loop_attention(stream);
}

static void stream_shutdown(struct weir_stream *stream)
{
    stream->end_sent = true;
    stream->shutting = true;
    stream->inflight++;
    stream->loop->engine->shutdown(stream->loop, stream);
}

void stream_shut(struct weir_stream *stream, int result)
{
    stream->inflight--;
    stream->shutting = false;
    if (result == -ENOTCONN) // nobody watched when it was reset, and this asks first
        result = -ECONNRESET;
    if (stream->state == STREAM_CLOSING)
        stream_close_descriptor(stream);
    else if (result < 0)
        stream_fail(stream, result, false);
    // UNTESTED: needs the peer's end to be told while a shutdown waits
    else if (stream->end_told && stream->state == STREAM_OPEN)
        stream_start_close(stream);
    stream_settle(stream);
}

static void stream_start_linger(struct weir_stream *stream)
{
    if (stream->end_received || !stream->discard_left) {
        stream_start_close(stream);
        return;
    }
    stream->state = STREAM_LINGERING;
    stream->receive_paused = false;
    receive_drop(stream);
    if (!stream->end_sent)
        stream_shutdown(stream);
    stream_timer_start(stream, stream->linger_timeout_ns);
    receive_arm(stream);
}

// The queue goes out before the descriptor closes; meanwhile the close time-out watches.
static void stream_attend_flushing(struct weir_stream *stream)
{
    if (stream->abort) {
        stream_start_close(stream);
    } else if (stream->queued || stream->send_armed || stream->close_connecting) {
        stream_timer_set(stream, stream->loop->config.close_timeout_ns); // it was for idleness
    } else if (stream->linger) {
        stream_start_linger(stream);
    } else {
        stream_start_close(stream);
    }
}

void stream_attend(struct weir_stream *stream)
{
    if (stream->state == STREAM_OPEN && stream->want_drained) {
        stream->want_drained = false;
        if (stream->protocol->drained)
            stream->protocol->drained(stream);
    }
    if (stream->state == STREAM_OPEN) {
        receive_deliver(stream);
        receive_arm(stream);
    }
    if (stream->state == STREAM_OPEN && stream->want_end && !stream->end_sent && !stream->queued &&
        !stream->send_armed) {
        if (stream->end_told)
            stream_start_close(stream); // closing sends our end too
        else
            stream_shutdown(stream);
    }
    if (stream->state == STREAM_FLUSHING)
        stream_attend_flushing(stream);
    stream_settle(stream);
}

static void stream_count_closed(struct weir_stream *stream)
{
    struct weir_loop *loop = stream->loop;
    switch (stream->reason) {
    case 0:
        stats_add(loop, closed_clean, 1);
        break;
    case -ECONNRESET:
    case -EPIPE:
        stats_add(loop, closed_reset, 1);
        break;
    case -ETIMEDOUT:
    case -ETIME:
        stats_add(loop, closed_timeout, 1);
        break;
    case -ECANCELED:
        stats_add(loop, closed_canceled, 1);
        break;
    default:
        stats_add(loop, closed_error, 1);
    }
}

void stream_settle(struct weir_stream *stream)
{
    struct weir_loop *loop = stream->loop;
    if (stream->state != STREAM_CLOSING || stream->inflight || stream->operations ||
        stream->attention || stream->send_listed || stream->starved)
        return;
    send_drop(stream);
    receive_drop(stream);
    stream_count_closed(stream); // first: who hears of the end finds it counted
    if (stream->protocol->closed)
        stream->protocol->closed(stream, stream->reason);
    assert(!stream->leases); // held slices are released in `closed` at the latest
    weir_timer_stop(loop, &stream->timer);
    loop_slot_give(loop, stream->slot);
    loop->streams_open--;
    if (stream->released)
        stream->released(stream);
    slab_give(
        slab_set_find(&loop->records, sizeof(struct weir_stream) + stream->protocol->session_size),
        stream);
    listener_retry_all(loop);
}

void stream_abandon(struct weir_stream *stream)
{
    const struct weir_loop *loop = stream->loop;
    // Whether a close that was queued has run, nobody knows: closing twice would hit a stranger.
    if ((stream->state != STREAM_CLOSING || stream->shutting) && !stream->direct)
        loop->system->close(loop->system_state, stream->fd);
    if (stream->engine_descriptor)
        loop->system->close(loop->system_state, stream->engine_descriptor - 1);
    if (!stream->reason)
        stream->reason = loop->failure;
    stream->state = STREAM_CLOSING;
    weir_timer_stop(stream->loop, &stream->timer);
    stream->inflight = 0;
    stream->shutting = stream->send_armed = stream->receive_armed = false;
    stream->send_listed = stream->starved = false;
    if (stream->sink)
        sink_ended(stream, stream->reason);
}

void stream_drain(struct weir_stream *stream, uint64_t quiet_ns)
{
    if (stream->state != STREAM_OPEN || stream->draining_told)
        return;
    stream->draining_told = true;
    if (stream->protocol->draining) {
        stream->protocol->draining(stream);
        return;
    }
    stream->idle_timeout_ns = quiet_ns ? quiet_ns : 1;
    // From now on: that nothing came before may only mean that nobody had the processor, this loop
    // as little as its peers.
    stream_active(stream);
    stream_timer_start(stream, stream->idle_timeout_ns);
}

// --- Views ---------------------------------------------------------------------------------------

void *weir_stream_session(struct weir_stream *stream)
{
    return stream->session;
}

void *weir_stream_context(const struct weir_stream *stream)
{
    return stream->context;
}

struct weir_loop *weir_stream_loop(const struct weir_stream *stream)
{
    return stream->loop;
}

uint64_t weir_stream_active_ns(const struct weir_stream *stream)
{
    return stream->active_ns;
}

void weir_stream_peer_address(const struct weir_stream *stream, struct weir_address *ret_address)
{
    memset(ret_address, 0, sizeof *ret_address);
    memcpy(&ret_address->any, &stream->peer_address, stream->peer_size);
    ret_address->size = stream->peer_size;
}

// Until `closed` is told an end may take long, and its descriptor is somebody else's by then.
int weir_stream_uncork(struct weir_stream *stream)
{
    if (stream->state == STREAM_CLOSING)
        return -ENOTCONN;
    // UNTESTED: nobody corks a stream without an ordinary descriptor
    if (stream->direct)
        return -ENOTSUP;
    return stream->loop->system->uncork(stream->loop->system_state, stream->fd);
}

int weir_stream_local_address(const struct weir_stream *stream, struct weir_address *ret_address)
{
    if (stream->state == STREAM_CLOSING)
        return -ENOTCONN; // as above
    // UNTESTED: nobody asks for an address without an ordinary descriptor
    if (stream->direct)
        return -ENOTSUP;
    return stream->loop->system->local_address(stream->loop->system_state, stream->fd, ret_address);
}
