// The send queue: pieces in the order of the calls, whatever their sources.
//
// Copied bytes are packed into blocks; slices keep their buffer by a lease; static bytes and file
// ranges are only pointed at. At most one send is in flight: everything that was queued meanwhile
// leaves in the next one. The pieces of a send in flight stay in the queue until it ends, since the
// kernel may still read them.
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "loop.h"

// --- Pieces and blocks ---------------------------------------------------------------------------

static const uint32_t send_payloads[BLOCK_CLASSES] = {
    1024 - sizeof(struct piece),
    4096 + 64 - sizeof(struct piece),
    16384 + 64 - sizeof(struct piece),
    65536 + 64 - sizeof(struct piece),
};

static uint32_t send_class(size_t size)
{
    uint32_t class_index = 0;
    while (class_index < BLOCK_CLASSES - 1 && send_payloads[class_index] < size)
        class_index++;
    return class_index;
}

struct piece *send_block(struct weir_loop *loop, size_t size)
{
    uint32_t class_index = send_class(size);
    struct piece *piece = slab_take(&loop->blocks[class_index]);
    if (!piece)
        return NULL;
    *piece = (struct piece){ .kind = PIECE_COPY,
                             .class_index = (uint8_t)class_index,
                             .data = (char *)(piece + 1),
                             .room = send_payloads[class_index] };
    loop->queued_bytes += loop->blocks[class_index].size;
    return piece;
}

struct weir_lease *send_lease_copy(struct weir_loop *loop, const char *data, size_t size)
{
    struct piece *piece = send_block(loop, size);
    // UNTESTED: coverage plays too few seeds to be without memory just here
    if (!piece)
        return NULL;
    // The block's head becomes the lease; its payload starts where a piece's would.
    uint8_t class_index = piece->class_index;
    memcpy(piece + 1, data, size);
    struct weir_lease *lease = (struct weir_lease *)piece;
    *lease = (struct weir_lease){ .count = 1, .index = LEASE_BLOCK, .class_index = class_index };
    stats_add(loop, copied_slices, 1);
    return lease;
}

const char *send_lease_data(const struct weir_lease *lease)
{
    return (const char *)lease + sizeof(struct piece);
}

uint32_t send_lease_room(const struct weir_lease *lease, size_t used)
{
    return send_payloads[lease->class_index] - (uint32_t)used;
}

void send_lease_release(struct weir_stream *stream, struct weir_lease *lease)
{
    struct weir_loop *loop = stream->loop;
    if (lease->index != LEASE_BLOCK) {
        loop->queued_bytes -= loop->pool.size;
        stream->leases--;
        pool_release(&loop->pool, lease);
    } else if (--lease->count == 0) {
        struct slab *slab = &loop->blocks[lease->class_index];
        loop->queued_bytes -= slab->size;
        slab_give(slab, lease);
    }
}

struct weir_lease *send_lease_share(struct weir_stream *stream, const struct weir_slice *slice)
{
    struct weir_lease *lease = slice->lease;
    struct buffer_pool *pool = &stream->loop->pool;
    // UNTESTED: only slices of a protocol's own making have no lease
    if (!lease)
        return NULL;
    if (lease->index != LEASE_BLOCK) {
        if (slice->size < pool->size / 4 || pool_scarce(pool) ||
            stream->leases >= STREAM_LEASES_MAX)
            return NULL;
        stream->leases++;
        stream->loop->queued_bytes += pool->size;
    }
    lease->count++;
    return lease;
}

static void send_piece_free(struct weir_stream *stream, struct piece *piece)
{
    struct weir_loop *loop = stream->loop;
    struct slab *slab = &loop->pieces;
    switch ((enum piece_kind)piece->kind) {
    case PIECE_COPY:
        slab = &loop->blocks[piece->class_index];
        loop->queued_bytes -= slab->size;
        break;
    case PIECE_LEASE:
        send_lease_release(stream, piece->lease);
        break;
    case PIECE_STATIC:
        break;
    case PIECE_FILE:
        weir_file_release(piece->file);
        stream->files--;
        break;
    }
    slab_give(slab, piece);
}

void send_append(struct piece_queue *queue, struct piece *piece)
{
    piece->next = NULL;
    *queue->last = piece;
    queue->last = &piece->next;
}

void send_pop(struct weir_stream *stream, struct piece_queue *queue)
{
    struct piece *piece = queue->first;
    queue->first = piece->next;
    if (!queue->first)
        queue->last = &queue->first;
    send_piece_free(stream, piece);
}

void send_drop(struct weir_stream *stream)
{
    while (stream->pieces.first)
        send_pop(stream, &stream->pieces);
    stream->queued = 0;
}

// --- Queueing ------------------------------------------------------------------------------------

// A dynamic threshold (Choudhury and Hahne, 1998): each stream may queue a fixed part of what is
// left of the loop's bound. A few streams that do not read keep their full mark; a thousand share
// the bound and never pass it, but for QUEUED_MIN each.
size_t send_high(const struct weir_loop *loop)
{
    size_t max = loop->config.queued_max, used = loop->queued_bytes;
    size_t share = used < max ? (max - used) / QUEUED_SHARE : 0;
    if (share < QUEUED_MIN)
        share = QUEUED_MIN;
    return share < loop->config.send_high ? share : loop->config.send_high;
}

static bool send_is_low(const struct weir_stream *stream)
{
    size_t low = send_high(stream->loop) / 4;
    return stream->queued <=
           (low < stream->loop->config.send_low ? low : stream->loop->config.send_low);
}

void send_list(struct weir_stream *stream)
{
    struct weir_loop *loop = stream->loop;
    if (stream->send_listed || stream->send_armed || !stream->pieces.first ||
        stream->state == STREAM_CONNECTING || stream->state == STREAM_CLOSING)
        return;
    stream->send_listed = true;
    stream->next_sender = NULL;
    *loop->senders_last = stream;
    loop->senders_last = &stream->next_sender;
}

static bool send_allowed(const struct weir_stream *stream)
{
    return stream->state <= STREAM_OPEN && !stream->want_end;
}

static void send_grown(struct weir_stream *stream, uint64_t size)
{
    stream->queued += size;
    if (!stream->above_high && stream->queued > send_high(stream->loop)) {
        stream->above_high = true;
        stats_add(stream->loop, pauses, 1);
        receive_curb(stream);
    }
    send_list(stream);
}

static void send_no_memory(struct weir_stream *stream)
{
    stream_doom(stream, -ENOMEM);
}

// The last piece if bytes can be added to it, else a new one with room for up to `size`.
static struct piece *send_tail(struct weir_stream *stream, size_t size, size_t room_min)
{
    struct piece_queue *queue = &stream->pieces;
    if (queue->first) {
        struct piece *last = container_of(queue->last, struct piece, next);
        if (last->kind == PIECE_COPY && last->room >= room_min)
            return last;
    }
    struct piece *piece = send_block(stream->loop, size < 16384 ? size : 16384);
    if (piece)
        send_append(queue, piece);
    else
        send_no_memory(stream);
    return piece;
}

void weir_stream_send(struct weir_stream *stream, const void *data, size_t size)
{
    if (!send_allowed(stream))
        return;
    const char *bytes = data;
    for (size_t left = size; left;) {
        struct piece *piece = send_tail(stream, left, 1);
        if (!piece)
            return;
        size_t part = left < piece->room ? left : piece->room;
        memcpy((char *)piece->data + piece->size, bytes, part);
        piece->size += part;
        piece->room -= (uint32_t)part;
        bytes += part;
        left -= part;
    }
    send_grown(stream, size);
}

char *weir_stream_reserve(struct weir_stream *stream, size_t size)
{
    assert(size >= 1 && size <= 16000);
    if (!send_allowed(stream))
        return stream->loop->scrap;
    struct piece *piece = send_tail(stream, size, size);
    return piece ? (char *)piece->data + piece->size : NULL;
}

void weir_stream_commit(struct weir_stream *stream, size_t size)
{
    if (!send_allowed(stream) || !stream->pieces.first)
        return;
    struct piece *piece = container_of(stream->pieces.last, struct piece, next);
    assert(piece->kind == PIECE_COPY && piece->room >= size);
    piece->size += size;
    piece->room -= (uint32_t)size;
    send_grown(stream, size);
}

static struct piece *send_reference(struct weir_stream *stream, enum piece_kind kind,
                                    const char *data, uint64_t size)
{
    struct piece *piece = slab_take(&stream->loop->pieces);
    if (!piece) {
        send_no_memory(stream);
        return NULL;
    }
    *piece = (struct piece){ .kind = (uint8_t)kind, .data = data, .size = size };
    send_append(&stream->pieces, piece);
    return piece;
}

void weir_stream_send_static(struct weir_stream *stream, const void *data, size_t size)
{
    if (!size || !send_allowed(stream))
        return;
    if (send_reference(stream, PIECE_STATIC, data, size))
        send_grown(stream, size);
}

void weir_stream_send_slice(struct weir_stream *stream, struct weir_slice slice)
{
    if (!slice.size || !send_allowed(stream))
        return;
    struct weir_lease *lease = send_lease_share(stream, &slice);
    if (!lease) {
        stats_add(stream->loop, copied_slices, 1);
        weir_stream_send(stream, slice.data, slice.size);
        return;
    }
    struct piece *piece = send_reference(stream, PIECE_LEASE, slice.data, slice.size);
    if (piece) {
        piece->lease = lease;
        send_grown(stream, slice.size);
    } else {
        send_lease_release(stream, lease);
    }
}

void weir_stream_send_file(struct weir_stream *stream, struct weir_file *file, uint64_t offset,
                           uint64_t size)
{
    if (!size || !send_allowed(stream))
        return;
    struct piece *piece = send_reference(stream, PIECE_FILE, NULL, size);
    if (!piece)
        return;
    piece->file = weir_file_retain(file);
    piece->offset = offset;
    stream->files++;
    send_grown(stream, size);
}

uint64_t weir_stream_queued(const struct weir_stream *stream)
{
    return stream->queued;
}

bool weir_stream_is_full(const struct weir_stream *stream)
{
    return stream->above_high || stream->want_drained;
}

// --- Slices that are held ------------------------------------------------------------------------

int weir_slice_hold(struct weir_stream *stream, struct weir_slice slice,
                    struct weir_slice *ret_held)
{
    assert(slice.size <= send_payloads[BLOCK_CLASSES - 1]);
    struct weir_lease *lease = send_lease_share(stream, &slice);
    if (!lease) {
        lease = send_lease_copy(stream->loop, slice.data, slice.size);
        // UNTESTED: coverage plays too few seeds to be without memory just here
        if (!lease)
            return -ENOMEM;
        slice.data = send_lease_data(lease);
    }
    *ret_held = (struct weir_slice){ .data = slice.data, .size = slice.size, .lease = lease };
    return 0;
}

void weir_slice_release(struct weir_stream *stream, struct weir_slice *held)
{
    if (held->lease)
        send_lease_release(stream, held->lease);
    *held = (struct weir_slice){ 0 };
}

// --- Sending -------------------------------------------------------------------------------------

uint32_t send_gather(const struct weir_stream *stream, struct iovec *iovecs, uint32_t max,
                     size_t bytes_max, size_t *ret_size)
{
    uint32_t count = 0;
    size_t sum = 0;
    const struct piece *piece = stream->pieces.first;
    for (; piece && piece->kind != PIECE_FILE && count < max && sum < bytes_max;
         piece = piece->next) {
        if (!piece->size)
            continue; // reserved, and nothing committed
        size_t part = piece->size < bytes_max - sum ? (size_t)piece->size : bytes_max - sum;
        iovecs[count].iov_base = (void *)piece->data;
        iovecs[count++].iov_len = part;
        sum += part;
    }
    *ret_size = sum;
    return count;
}

// Takes `size` sent bytes from the head of the queue.
static void send_consume(struct weir_stream *stream, uint64_t size)
{
    assert(size <= stream->queued);
    stream->queued -= size;
    struct piece *piece;
    while ((piece = stream->pieces.first)) {
        uint64_t part = size < piece->size ? size : piece->size;
        piece->size -= part;
        size -= part;
        if (piece->size) {
            if (piece->kind == PIECE_FILE)
                file_range_skip(piece, part);
            else
                piece->data += part;
            return;
        }
        send_pop(stream, &stream->pieces);
    }
}

static void send_completed(struct weir_stream *stream, int64_t result, uint64_t taken_ns)
{
    struct weir_loop *loop = stream->loop;
    if (stream->state == STREAM_CLOSING)
        return;
    if (result < 0) {
        // Reset: an orderly end would make what was sent look like all of it.
        stream_fail(stream, (int)result, true);
        return;
    }
    stats_add(loop, sent_bytes, (uint64_t)result);
    if (taken_ns > stream->active_ns)
        stream->active_ns = taken_ns;
    send_consume(stream, (uint64_t)result);
    send_list(stream);
    if (stream->above_high && send_is_low(stream)) {
        stream->above_high = false;
        stream->want_drained = true;
        loop_attention(stream);
    }
    if (!stream->queued && (stream->want_end || stream->state == STREAM_FLUSHING))
        loop_attention(stream);
}

// Reads ahead what the engine does not send from its file. False: what is to be sent next is still
// being read (the read lists the stream again), or there was no memory for it.
static bool send_has_source(struct weir_stream *stream)
{
    struct weir_loop *loop = stream->loop;
    if (stream->files && !stream->file_read_armed && loop->engine->sends_file &&
        !loop->engine->sends_file(loop, stream, file_range_first(stream)))
        file_read_ahead(stream);
    return stream->pieces.first->kind != PIECE_FILE || !(stream->file_read_armed || stream->abort);
}

bool send_is_ending(const struct weir_stream *stream)
{
    const struct piece *first = stream->pieces.first;
    return stream->state == STREAM_FLUSHING && !stream->abort && !stream->send_armed && first &&
           first->kind == PIECE_FILE && stream->queued <= SEND_ENDING_MAX;
}

void send_submit(struct weir_stream *stream)
{
    struct weir_loop *loop = stream->loop;
    struct piece *first = stream->pieces.first;
    if (stream->send_armed || stream->state == STREAM_CLOSING || !first)
        return;
    if (!send_has_source(stream))
        return;
    if (!stream->queued) {
        send_consume(stream, 0);
        return;
    }
    stats_add(loop, sends, 1);
    stream->send_size = 0;
    int64_t result = loop->engine->send(loop, stream);
    if (result == ENGINE_PENDING) {
        stream->send_armed = true;
        stream->inflight++;
        stream->send_turn = loop->turn_index;
        stream->send_ns = loop->now_ns;
    } else {
        send_completed(stream, result, loop->now_ns);
    }
}

void send_finished(struct weir_stream *stream, int64_t result, bool late)
{
    stream->send_armed = false;
    stream->inflight--;
    bool full = result == -EAGAIN || (result >= 0 && result < stream->send_size);
    if (full)
        stats_add(stream->loop, short_sends, 1);
    if (result == -EAGAIN)
        result = 0;
    // A send that had to wait may have waited for long: the next one waits too.
    stream->send_slow = full || (!late && stream->send_turn + 1 != stream->loop->turn_index);
    // Idle time counts from when the kernel took the bytes, not from when the loop woke.
    send_completed(stream, result, late ? stream->send_ns : stream->loop->now_ns);
    stream_settle(stream);
}
