// A protocol as it is, with a record of each of its streams: opened once and first, closed once and
// last. The record lies behind the protocol's own session.
#include <errno.h>
#include <string.h>

#include "run.h"

static struct {
    struct run *run;
    const struct weir_protocol *inner;
    struct weir_protocol outer;
    size_t at; // of the record's pointer, in the session
} record;

void __real_weir_stream_close(struct weir_stream *stream);
void __wrap_weir_stream_close(struct weir_stream *stream);
void __real_weir_stream_linger(struct weir_stream *stream, uint64_t discard_max,
                               uint64_t timeout_ns);
void __wrap_weir_stream_linger(struct weir_stream *stream, uint64_t discard_max,
                               uint64_t timeout_ns);
void __real_weir_stream_abort(struct weir_stream *stream);
void __wrap_weir_stream_abort(struct weir_stream *stream);

// The stream's, which begins with its first callback.
static struct run_stream *record_of(struct weir_stream *stream)
{
    struct run *run = record.run;
    char *session = weir_stream_session(stream);
    struct run_stream *found;
    memcpy(&found, session + record.at, sizeof found);
    if (!found) {
        struct weir_address peer;
        weir_stream_peer_address(stream, &peer);
        found = &run->streams[run->streams_count++ % RUN_STREAMS_MAX];
        *found = (struct run_stream){ .stream = stream, .client = client_of(run, &peer) };
        memcpy(session + record.at, &found, sizeof found);
    }
    found->late |= found->closed > 0;
    return found;
}

// A protocol that has counted a time-out of its own ends the stream that it met next.
static void record_ends(struct weir_stream *stream)
{
    struct run *run = record.run;
    if (!run || !run->protocol->timeouts || run->protocol->timeouts() == run->timeouts)
        return;
    run->timeouts = run->protocol->timeouts();
    struct run_stream *found = record_of(stream);
    if (found->client)
        found->client->excused = true;
}

static void record_trace(const char *what, const struct run_stream *stream, int64_t value)
{
    sim_trace(record.run->sim, what, (uint64_t)(stream - record.run->streams), value);
}

// Kinds of operations, whose late completion would do the most harm to a stranger.
static const enum operation record_operations[] = { OPERATION_RECEIVE, OPERATION_SEND,
                                                    OPERATION_SHUTDOWN, OPERATION_CLOSE };

static void record_repeat(void *argument)
{
    struct run *run = record.run;
    const struct run_stream *gone = argument;
    if (!gone->again || !run->loop || run->clients_done == run->clients_count)
        return;
    bool receives = gone->token >> TOKEN_OPERATION_SHIFT == OPERATION_RECEIVE;
    sim_post(run->sim, gone->token, receives, receives);
    run->repeated++;
}

// Somebody new has the slot of a stream that is gone: now a completion of that one comes. When, its
// number says, so that runs without this stay as they are.
static void record_haunt(const struct weir_stream *stream)
{
    struct run *run = record.run;
    for (uint32_t i = 0; i < RUN_STREAMS_MAX; i++) {
        struct run_stream *gone = &run->streams[i];
        if (!gone->closed || gone->again || gone->slot != stream->slot)
            continue;
        gone->again = true;
        sim_at(run->sim, 1ULL << (run->seed + i) % 20, record_repeat, gone);
    }
}

static void record_opened(struct weir_stream *stream)
{
    struct run_stream *found = record_of(stream);
    if (++found->opened > 1)
        run_complain(record.run, "opened came twice");
    if (record.run->repeats)
        record_haunt(stream);
    record_trace("opened", found, 0);
    record.inner->opened(stream);
}

static void record_received(struct weir_stream *stream, struct weir_slice slice)
{
    struct run_stream *found = record_of(stream);
    if (!found->opened)
        run_complain(record.run, "received came before opened");
    if (found->client)
        found->client->taken += slice.size;
    record_trace("received", found, (int64_t)slice.size);
    record.inner->received(stream, slice);
}

static void record_drained(struct weir_stream *stream)
{
    record_trace("drained", record_of(stream), 0);
    record.inner->drained(stream);
}

static void record_ended(struct weir_stream *stream)
{
    record_trace("ended", record_of(stream), 0);
    record.inner->ended(stream);
}

static void record_draining(struct weir_stream *stream)
{
    record_trace("draining", record_of(stream), 0);
    record.inner->draining(stream);
}

static void record_expired(struct weir_stream *stream)
{
    struct run_stream *found = record_of(stream);
    found->expired_ns = weir_loop_now(weir_stream_loop(stream));
    if (found->client)
        found->client->excused = true;
    record_trace("expired", found, 0);
    record.inner->expired(stream);
    record_ends(stream);
}

static void record_closed(struct weir_stream *stream, int reason)
{
    struct run_stream *found = record_of(stream);
    found->closed++;
    found->reason = reason;
    found->stream = NULL;
    if (found->client) {
        found->client->served = reason == 0;
        found->client->excused |= reason == -ETIME || reason == -ETIMEDOUT;
    }
    found->slot = stream->slot;
    size_t kind = (size_t)(found - record.run->streams) %
                  (sizeof record_operations / sizeof *record_operations);
    found->token = loop_token(stream->loop, record_operations[kind], 0, stream->slot);
    record_trace("told closed", found, reason);
    record.inner->closed(stream, reason);
}

const struct weir_protocol *record_protocol(struct run *run, const struct weir_protocol *protocol)
{
    record.run = run;
    record.inner = protocol;
    record.at = protocol->session_size;
    run->timeouts = 0;
    record.outer = (struct weir_protocol){
        .name = protocol->name,
        .session_size = protocol->session_size + sizeof(struct run_stream *),
        .ageless = protocol->ageless,
        .opened = record_opened,
        .received = record_received,
        .drained = protocol->drained ? record_drained : NULL,
        .ended = protocol->ended ? record_ended : NULL,
        .draining = protocol->draining ? record_draining : NULL,
        .expired = protocol->expired ? record_expired : NULL,
        .closed = record_closed,
    };
    return &record.outer;
}

void __wrap_weir_stream_close(struct weir_stream *stream)
{
    record_ends(stream);
    __real_weir_stream_close(stream);
}

void __wrap_weir_stream_linger(struct weir_stream *stream, uint64_t discard_max,
                               uint64_t timeout_ns)
{
    record_ends(stream);
    __real_weir_stream_linger(stream, discard_max, timeout_ns);
}

void __wrap_weir_stream_abort(struct weir_stream *stream)
{
    record_ends(stream);
    __real_weir_stream_abort(stream);
}
