// Receiving: credit, delivery, and what arrives while nobody may be told.
//
// A stream is armed with a credit in bytes and delivers until it is used up; then it is armed again
// if its queue is below the high mark. A stream whose credit is withheld (paused, or above the high
// mark) keeps what still arrives: small slices are copied so that their buffer returns at once, and
// all are while buffers are scarce. So no peer can keep more than its share of the pool, whatever
// it sends or does not read.
#include <errno.h>
#include <string.h>

#include "loop.h"

// While the queues use less than this part of their bound, a credit may be used up.
enum { CREDIT_FREE_PART = 4 };

// Deliveries wait: the protocol asked for it, its output is too long, or its file is too slow. What
// a linger discards goes nowhere, and waits for neither.
static bool receive_withheld(const struct weir_stream *stream)
{
    bool full = stream->above_high || (stream->sink && sink_full(stream->sink));
    return stream->receive_paused || (full && stream->state == STREAM_OPEN);
}

static bool receive_wanted(const struct weir_stream *stream)
{
    return (stream->state == STREAM_OPEN || stream->state == STREAM_LINGERING) &&
           !stream->end_received && !stream->received.first && !receive_withheld(stream);
}

void receive_arm(struct weir_stream *stream)
{
    struct weir_loop *loop = stream->loop;
    if (stream->receive_armed || stream->starved || !receive_wanted(stream))
        return;
    // At least a quarter of a buffer, so that a nearly full queue does not lead to tiny receives.
    uint64_t high = send_high(loop), credit = loop->pool.size / 4;
    if (stream->queued + credit < high)
        credit = high - stream->queued;
    // What a linger discards is bounded too, give or take a buffer.
    if (stream->state == STREAM_LINGERING && credit > stream->discard_left)
        credit = stream->discard_left ? stream->discard_left : 1;
    // What waits in the socket is written from there; a buffer tells that something does.
    if (stream->writes_now && credit > loop->pool.size)
        credit = loop->pool.size;
    stream->receive_credit =
        credit < RECEIVE_CREDIT_MAX ? (uint32_t)credit : (uint32_t)RECEIVE_CREDIT_MAX;
    stream->receive_armed = true;
    stream->inflight++;
    stats_add(loop, receive_arms, 1);
    loop->engine->receive(loop, stream);
}

// The engine had no buffer. Streams wait in order, and are armed as buffers return.
static void receive_starve(struct weir_stream *stream)
{
    struct weir_loop *loop = stream->loop;
    stats_add(loop, receive_no_buffers, 1);
    // UNTESTED: needs an ENOBUFS of a stream that waits already
    if (stream->starved)
        return;
    stream->starved = true;
    stream->next_starved = NULL;
    *loop->starved_last = stream;
    loop->starved_last = &stream->next_starved;
}

void receive_feed_starved(struct weir_loop *loop)
{
    // A buffer for each: the ring may hold some too, so this errs towards waiting a turn longer.
    uint32_t free = loop->pool.count - loop->pool.leased;
    while (loop->starved && free--) {
        struct weir_stream *stream = loop->starved;
        loop->starved = stream->next_starved;
        if (!loop->starved)
            loop->starved_last = &loop->starved;
        stream->starved = false;
        if (stream->draining_told) // it is quiet from now on at the earliest
            stream_active(stream);
        receive_arm(stream);
        stream_settle(stream);
    }
}

// --- Delivery ------------------------------------------------------------------------------------

static void receive_hand_over(struct weir_stream *stream, struct weir_slice slice)
{
    if (stream->sink)
        sink_received(stream, slice);
    else if (stream->protocol->received)
        stream->protocol->received(stream, slice);
}

// Small slices share the block of the one before: a peer that sends single bytes costs its bytes.
static bool receive_keep_with_last(struct weir_stream *stream, struct weir_slice slice)
{
    struct piece_queue *queue = &stream->received;
    if (!queue->first || slice.size >= stream->loop->pool.size / 4)
        return false;
    struct piece *last = container_of(queue->last, struct piece, next);
    if (last->lease->index != LEASE_BLOCK || last->room < slice.size)
        return false;
    memcpy((char *)last->data + last->size, slice.data, slice.size);
    last->size += slice.size;
    last->room -= (uint32_t)slice.size;
    return true;
}

static void receive_keep(struct weir_stream *stream, struct weir_slice slice)
{
    struct weir_loop *loop = stream->loop;
    if (receive_keep_with_last(stream, slice))
        return;
    struct piece *piece = slab_take(&loop->pieces);
    struct weir_slice kept;
    // UNTESTED: coverage plays too few seeds to be without memory just here
    if (!piece)
        goto no_memory;
    // UNTESTED: coverage plays too few seeds to be without memory just here
    if (weir_slice_hold(stream, slice, &kept))
        goto give_piece;
    *piece = (struct piece){
        .kind = PIECE_LEASE, .data = kept.data, .size = kept.size, .lease = kept.lease
    };
    if (kept.lease->index == LEASE_BLOCK)
        piece->room = send_lease_room(kept.lease, kept.size);
    send_append(&stream->received, piece);
    return;
// UNTESTED: coverage plays too few seeds to be without memory just here
give_piece:
    slab_give(&loop->pieces, piece);
// UNTESTED: coverage plays too few seeds to be without memory just here
no_memory:
    stream_fail(stream, -ENOMEM, true);
}

static void receive_discard(struct weir_stream *stream, size_t size)
{
    if (size < stream->discard_left)
        stream->discard_left -= size;
    else
        stream_start_close(stream);
}

static void receive_slice(struct weir_stream *stream, struct weir_slice slice)
{
    switch ((enum stream_state)stream->state) {
    case STREAM_OPEN:
        if (stream->received.first || receive_withheld(stream))
            receive_keep(stream, slice);
        else
            receive_hand_over(stream, slice);
        break;
    case STREAM_LINGERING:
        receive_discard(stream, slice.size);
        break;
    case STREAM_FLUSHING: // a linger's bound counts from the call on
        stream->discard_left -=
            slice.size < stream->discard_left ? slice.size : stream->discard_left;
        break;
    case STREAM_CONNECTING:
    case STREAM_CLOSING:
        break; // nobody wants it any more
    }
}

static void receive_tell_end(struct weir_stream *stream)
{
    if (stream->state != STREAM_OPEN)
        return;
    if (stream->sink) {
        sink_ended(stream, 0);
        return; // the end is told when the file has everything
    }
    if (stream->end_told)
        return;
    stream->end_told = true;
    if (stream->protocol->ended)
        stream->protocol->ended(stream);
    else
        weir_stream_close(stream);
    if (stream->end_sent)
        weir_stream_close(stream);
}

void receive_deliver(struct weir_stream *stream)
{
    while (stream->received.first && stream->state == STREAM_OPEN && !receive_withheld(stream)) {
        struct piece *piece = stream->received.first;
        struct weir_slice slice = { .data = piece->data,
                                    .size = (size_t)piece->size,
                                    .lease = piece->lease };
        receive_hand_over(stream, slice);
        send_pop(stream, &stream->received);
    }
    if (stream->end_received && !stream->received.first && !receive_withheld(stream))
        receive_tell_end(stream);
}

void receive_drop(struct weir_stream *stream)
{
    while (stream->received.first)
        send_pop(stream, &stream->received);
}

// --- Completions ---------------------------------------------------------------------------------

static void receive_bytes(struct weir_stream *stream, const struct completion *completion)
{
    struct weir_loop *loop = stream->loop;
    uint32_t size = (uint32_t)completion->result;
    struct weir_lease *lease = pool_lease(&loop->pool, completion->buffer);
    stream->receive_nonempty = completion->flags & COMPLETION_NONEMPTY;
    stream->receive_credit -= size < stream->receive_credit ? size : stream->receive_credit;
    stats_add(loop, received_bytes, size);
    stats_add(loop, received_slices, 1);
    if (stream->state != STREAM_FLUSHING) // there, only what the peer takes is progress
        stream_active(stream);
    receive_slice(stream, (struct weir_slice){ .data = pool_data(&loop->pool, completion->buffer),
                                               .size = size,
                                               .lease = lease });
    pool_release(&loop->pool, lease);
}

static void receive_end(struct weir_stream *stream)
{
    stream->end_received = true;
    if (stream->state == STREAM_LINGERING)
        stream_start_close(stream);
    else if (!stream->received.first && !receive_withheld(stream))
        receive_tell_end(stream);
}

void receive_completed(struct weir_stream *stream, const struct completion *completion)
{
    if (!(completion->flags & COMPLETION_MORE)) {
        stream->receive_armed = false;
        stream->receive_canceling = false;
        stream->inflight--;
    }
    if (completion->result > 0) {
        receive_bytes(stream, completion);
    } else {
        if (completion->flags & COMPLETION_BUFFER)
            pool_give(&stream->loop->pool, completion->buffer);
        if (completion->result == 0)
            receive_end(stream);
        else if (completion->result == -ENOBUFS)
            receive_starve(stream);
        else if (completion->result != -ECANCELED)
            stream_fail(stream, completion->result, false);
    }
    receive_arm(stream);
    stream_settle(stream);
}

// --- Verbs ---------------------------------------------------------------------------------------

static void receive_cancel(struct weir_stream *stream)
{
    if (!stream->receive_armed || stream->receive_canceling)
        return;
    if (stream->loop->engine->receive_cancel(stream->loop, stream) == ENGINE_PENDING) {
        stream->receive_canceling = true;
    } else {
        stream->receive_armed = false;
        stream->inflight--;
    }
}

// A credit is given for what a stream may queue at that moment, and to many streams at once. Where
// they all use it, the loop's memory gets scarce before: then what is left of it is taken back.
void receive_curb(struct weir_stream *stream)
{
    const struct weir_loop *loop = stream->loop;
    if (stream->receive_credit && loop->queued_bytes > loop->config.queued_max / CREDIT_FREE_PART)
        receive_cancel(stream);
}

void weir_stream_pause(struct weir_stream *stream)
{
    if (stream->receive_paused || stream->state > STREAM_OPEN)
        return;
    stream->receive_paused = true;
    stats_add(stream->loop, pauses, 1);
    receive_cancel(stream);
}

void weir_stream_set_bulk(struct weir_stream *stream, bool bulk)
{
    stream->bulk = bulk; // the next receive that is armed goes by it
}

void weir_stream_resume(struct weir_stream *stream)
{
    if (!stream->receive_paused || stream->state > STREAM_OPEN)
        return;
    stream->receive_paused = false;
    loop_attention(stream);
}
