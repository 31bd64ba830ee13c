// Files: counted handles, operations on them, a file range as a source of a stream's queue, and a
// file as the sink of what a stream receives.
//
// Operations live in their caller's memory; one that belongs to a stream keeps that stream's record
// until it is done. Reading ahead for a queue and writing for a sink are such operations too.
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "loop.h"

// A read ahead brings at most FILE_READ_SIZE, and no more than FILE_READ_SMALL, which fits with its
// operation into a block of 16 KiB, where the stream has no larger share of the queues' memory.
enum { FILE_AHEAD_MAX = 128 * 1024, FILE_READ_SIZE = 64 * 1024, FILE_READ_SMALL = 16000 };

struct weir_file {
    struct weir_loop *loop;
    int fd;
    uint32_t count;
    uint8_t cached;        // enum system_cached: what holds for all of it, or SYSTEM_CACHED_NOT
    bool asked, in_memory; // see file_in_memory()
};

// --- Handles -------------------------------------------------------------------------------------

int weir_file_adopt(struct weir_loop *loop, int fd, struct weir_file **ret_file)
{
    struct weir_file *file = malloc(sizeof *file);
    if (!file)
        return -ENOMEM;
    *file = (struct weir_file){ .loop = loop, .fd = fd, .count = 1 };
    *ret_file = file;
    return 0;
}

int weir_file_descriptor(const struct weir_file *file)
{
    return file->fd;
}

struct weir_file *weir_file_retain(struct weir_file *file)
{
    file->count++;
    return file;
}

void weir_file_release(struct weir_file *file)
{
    if (!file || --file->count)
        return;
    file->loop->system->close(file->loop->system_state, file->fd);
    free(file);
}

bool file_in_memory(struct weir_file *file)
{
    if (!file->asked) {
        file->asked = true;
        file->in_memory = file->loop->system->file_in_memory(file->loop->system_state, file->fd);
        stats_add(file->loop, enters, 1);
    }
    return file->in_memory;
}

// --- Operations ----------------------------------------------------------------------------------

static void file_begin(struct weir_loop *loop, struct weir_operation *operation)
{
    operation->loop = loop;
    loop->operations_open++;
    if (operation->stream)
        operation->stream->operations++;
}

// The opened descriptor becomes a handle; the program sees 0 or an error.
static int64_t file_opened(struct weir_operation *operation, int64_t result)
{
    if (result < 0)
        return result;
    int error = weir_file_adopt(operation->loop, (int)result, operation->ret_file);
    if (error)
        operation->loop->system->close(operation->loop->system_state, (int)result);
    return error;
}

void file_completed(struct weir_operation *operation, int64_t result)
{
    struct weir_loop *loop = operation->loop;
    struct weir_stream *stream = operation->stream;
    struct weir_file *file = operation->file;
    if (operation->kind < FILE_JOB && operation->slot != UINT32_MAX)
        loop_slot_give(loop, operation->slot);
    if (operation->kind == FILE_OPEN)
        result = file_opened(operation, result);
    loop->operations_open--;
    operation->done(operation, result); // its memory may be gone after this
    weir_file_release(file);
    if (stream) {
        stream->operations--;
        stream_settle(stream);
    }
}

static void file_start(struct weir_loop *loop, struct weir_operation *operation,
                       enum file_kind kind)
{
    operation->kind = kind;
    file_begin(loop, operation);
    if (operation->file)
        weir_file_retain(operation->file);
    stats_add(loop, file_operations, 1);
    int error = loop_slot_take(loop, SLOT_OPERATION, operation, &operation->slot);
    if (error) {
        operation->slot = UINT32_MAX;
        job_deliver(loop, operation, error); // in the next turn, like any other
        return;
    }
    loop->engine->file(loop, operation);
}

void weir_file_open(struct weir_loop *loop, struct weir_operation *operation, int dirfd,
                    const char *path, uint64_t flags, uint64_t mode, uint64_t resolve,
                    struct weir_file **ret_file)
{
    operation->offset = (uint64_t)dirfd;
    operation->data = (char *)path;
    operation->open_how[0] = flags | O_CLOEXEC;
    operation->open_how[1] = mode;
    operation->open_how[2] = resolve;
    operation->file = NULL;
    operation->ret_file = ret_file;
    file_start(loop, operation, FILE_OPEN);
}

void weir_file_read(struct weir_file *file, struct weir_operation *operation, void *data,
                    size_t size, uint64_t offset)
{
    operation->file = file;
    operation->data = data;
    operation->size = size;
    operation->offset = offset;
    file_start(file->loop, operation, FILE_READ);
}

void weir_file_write(struct weir_file *file, struct weir_operation *operation, const void *data,
                     size_t size, uint64_t offset)
{
    operation->file = file;
    operation->data = (char *)data;
    operation->size = size;
    operation->offset = offset;
    file_start(file->loop, operation, FILE_WRITE);
}

static void file_start_job(struct weir_loop *loop, struct weir_operation *operation,
                           enum file_kind kind, int (*run)(struct weir_operation *operation))
{
    operation->run = run;
    operation->kind = kind;
    operation->file = NULL;
    file_begin(loop, operation);
    stats_add(loop, jobs, 1);
    loop->engine->job(loop, operation);
}

void weir_job_start(struct weir_loop *loop, struct weir_operation *operation,
                    int (*run)(struct weir_operation *operation))
{
    file_start_job(loop, operation, FILE_JOB, run);
}

void weir_job_start_background(struct weir_loop *loop, struct weir_operation *operation,
                               int (*run)(struct weir_operation *operation))
{
    file_start_job(loop, operation, FILE_JOB_BACKGROUND, run);
}

// --- A file range as a source --------------------------------------------------------------------

// Lies behind the bytes that it reads. (loop.c gives blocks of the largest class room for both.)
struct file_ahead {
    struct weir_operation operation;
    struct piece *block;
};

// A block for a read of `size` bytes, or NULL.
static struct file_ahead *file_ahead_make(struct weir_loop *loop, size_t size)
{
    size_t place = (size + _Alignof(max_align_t) - 1) & ~(_Alignof(max_align_t) - 1);
    struct piece *block = send_block(loop, place + sizeof(struct file_ahead));
    if (!block)
        return NULL;
    struct file_ahead *ahead = (struct file_ahead *)(void *)((char *)(block + 1) + place);
    memset(ahead, 0, sizeof *ahead);
    ahead->block = block;
    return ahead;
}

// One byte of each step is looked at, its last. Pages come and go in runs: read-ahead fills them
// from the front, and what it still reads is behind them.
enum { FILE_CACHED_STEP = 256 * 1024, FILE_CACHED_MAX = 4 * FILE_CACHED_STEP };

// How many bytes from the offset on are in memory, at most `size`.
static size_t file_cached_ask(struct weir_file *file, uint64_t offset, size_t size)
{
    struct weir_loop *loop = file->loop;
    size_t known = 0;
    while (known < size && file->cached == SYSTEM_CACHED_NOT) {
        size_t end = size - known > FILE_CACHED_STEP ? known + FILE_CACHED_STEP : size;
        enum system_cached cached =
            loop->system->file_cached(loop->system_state, file->fd, offset + end - 1);
        stats_add(loop, enters, 1);
        if (cached == SYSTEM_CACHED_NOT)
            break;
        if (cached != SYSTEM_CACHED_NOW)
            file->cached = (uint8_t)cached;
        known = end;
    }
    if (file->cached == SYSTEM_CACHED_UNKNOWN)
        return 0;
    return file->cached == SYSTEM_CACHED_ALWAYS ? size : known;
}

size_t file_cached(struct piece *range)
{
    size_t most = range->size < FILE_CACHED_MAX ? (size_t)range->size : FILE_CACHED_MAX;
    if (!range->room)
        range->room = (uint32_t)file_cached_ask(range->file, range->offset, most);
    return range->room;
}

// UNTESTED: no file system at hand has no sendfile
void file_refuses(struct piece *range)
{
    range->room = 0;
    range->file->cached = SYSTEM_CACHED_UNKNOWN;
}

void file_range_skip(struct piece *range, uint64_t size)
{
    range->offset += size;
    range->room -= size < range->room ? (uint32_t)size : range->room;
}

// What one call takes. It ends with a push: bytes that do not fill a packet leave in one of their
// own, and wake the peer for it. So a call takes as many full segments of Ethernet (1448 bytes) as
// the kernel puts into one packet, and the loopback's packet, of 65,483 bytes, takes them too. A
// stream alone takes one packet and lets its acknowledgements be seen before it goes on; where
// several send, the calls of the others lie in between, and each takes two, as long as all of
// them stay under FILE_TURN: small answers shall not wait long behind large files.
enum { FILE_TURN = 2 * 1024 * 1024, FILE_PART_MIN = 45 * 1448, FILE_PART_MAX = 2 * FILE_PART_MIN };

size_t file_part(struct weir_loop *loop)
{
    if (loop->file_turn != loop->turn_index) {
        loop->file_sends_before = loop->file_sends;
        loop->file_sends = 0;
        loop->file_turn = loop->turn_index;
    }
    loop->file_sends++;
    bool several = loop->file_sends_before > 1;
    bool many = loop->file_sends_before > FILE_TURN / FILE_PART_MAX;
    return several && !many ? FILE_PART_MAX : FILE_PART_MIN;
}

// The link to the first file range, and how many bytes stand before it.
static struct piece **file_range_find(struct weir_stream *stream, uint64_t *ret_before)
{
    struct piece **link = &stream->pieces.first;
    uint64_t before = 0;
    for (; *link && (*link)->kind != PIECE_FILE; link = &(*link)->next)
        before += (*link)->size;
    *ret_before = before;
    return *link ? link : NULL;
}

struct piece *file_range_first(struct weir_stream *stream)
{
    uint64_t before;
    struct piece **link = file_range_find(stream, &before);
    return link ? *link : NULL;
}

// Puts the bytes that were read in front of what is left of their range.
static void file_range_advance(struct weir_stream *stream, struct piece *block, uint64_t size)
{
    uint64_t before;
    struct piece **link = file_range_find(stream, &before), *range = *link;
    block->size = size;
    block->room = 0;
    file_range_skip(range, size);
    range->size -= size;
    block->next = range;
    *link = block;
    if (range->size)
        return;
    block->next = range->next;
    if (!range->next)
        stream->pieces.last = &block->next;
    weir_file_release(range->file);
    stream->files--;
    slab_give(&stream->loop->pieces, range);
}

static void file_ahead_done(struct weir_operation *operation, int64_t result)
{
    struct piece *block = container_of(operation, struct file_ahead, operation)->block;
    struct weir_stream *stream = operation->stream;
    struct weir_loop *loop = stream->loop;
    stream->file_read_armed = false;
    if (result > 0 && stream->state != STREAM_CLOSING) {
        file_range_advance(stream, block, (uint64_t)result);
        send_list(stream);
        return;
    }
    loop->queued_bytes -= loop->blocks[block->class_index].size;
    slab_give(&loop->blocks[block->class_index], block);
    if (stream->state != STREAM_CLOSING) // the range is longer than the file, or it cannot be read
        stream_fail(stream, result ? (int)result : -EIO, true);
}

// How many of `left` bytes may be read behind `before` that are queued: those that fit into the
// stream's share of the loop's memory, and always a few if nothing else is there to be sent.
static size_t file_ahead_size(const struct weir_stream *stream, uint64_t before, uint64_t left)
{
    size_t share = send_high(stream->loop);
    size_t most = share < FILE_READ_SIZE ? FILE_READ_SMALL : FILE_READ_SIZE;
    if (before >= FILE_AHEAD_MAX || (before && before + most > share))
        return 0;
    return left < most ? (size_t)left : most;
}

void file_read_ahead(struct weir_stream *stream)
{
    uint64_t before;
    struct piece **link = file_range_find(stream, &before);
    size_t size = link ? file_ahead_size(stream, before, (*link)->size) : 0;
    if (stream->file_read_armed || !size)
        return;
    struct file_ahead *ahead = file_ahead_make(stream->loop, size);
    if (!ahead) {
        stream_doom(stream, -ENOMEM);
        return;
    }
    ahead->operation.done = file_ahead_done;
    ahead->operation.stream = stream;
    stream->file_read_armed = true;
    weir_file_read((*link)->file, &ahead->operation, (char *)ahead->block->data, size,
                   (*link)->offset);
}

// --- A file as a sink ----------------------------------------------------------------------------

// One write is in flight at a time: so what lies in the file after an error is a true prefix of
// what came, and never a part that stands behind a hole.
struct sink {
    struct weir_stream *stream;
    struct weir_file *file;
    struct weir_operation *operation; // of the caller
    uint64_t offset, written;
    int64_t error;
    bool busy, ended;
    struct weir_operation write;
    struct weir_slice held; // what is being written
};

bool sink_full(const struct sink *sink)
{
    return sink->busy || sink->error;
}

// Tells the caller once, when no write is in flight any more.
static void sink_finish(struct sink *sink)
{
    struct weir_stream *stream = sink->stream;
    if (sink->busy || !(sink->ended || sink->error))
        return;
    int64_t result = sink->error ? sink->error : (int64_t)sink->written;
    struct weir_operation *operation = sink->operation;
    stream->sink = NULL;
    weir_file_release(sink->file);
    free(sink);
    if (result < 0)
        weir_stream_pause(stream);
    stream->loop->operations_open--;
    operation->done(operation, result);
    stream->operations--;
    loop_attention(stream); // `ended` may be told now
}

static void sink_written(struct weir_operation *operation, int64_t result)
{
    struct sink *sink = container_of(operation, struct sink, write);
    struct weir_stream *stream = sink->stream;
    if (result > 0)
        sink->written += (uint64_t)result;
    if (result > 0 && (size_t)result < sink->held.size) {
        sink->held.data += result;
        sink->held.size -= (size_t)result;
        weir_file_write(sink->file, operation, sink->held.data, sink->held.size,
                        operation->offset + (uint64_t)result);
        return;
    }
    if (result <= 0 && !sink->error)
        sink->error = result ? result : -EIO;
    weir_slice_release(stream, &sink->held);
    sink->busy = false;
    loop_attention(stream); // room for what was kept meanwhile
    sink_finish(sink);
}

void sink_received(struct weir_stream *stream, struct weir_slice slice)
{
    struct sink *sink = stream->sink;
    // UNTESTED: coverage plays too few seeds to be without memory just here
    if (weir_slice_hold(stream, slice, &sink->held)) {
        stream_doom(stream, -ENOMEM);
        return;
    }
    sink->busy = true;
    sink->write = (struct weir_operation){ .done = sink_written, .stream = stream };
    weir_file_write(sink->file, &sink->write, sink->held.data, slice.size, sink->offset);
    sink->offset += slice.size;
}

void sink_ended(struct weir_stream *stream, int reason)
{
    struct sink *sink = stream->sink;
    // UNTESTED: needs an end that is told twice
    if (!sink || sink->ended)
        return;
    sink->ended = true;
    if (reason && !sink->error)
        sink->error = reason;
    sink_finish(sink);
}

void weir_stream_receive_file(struct weir_stream *stream, struct weir_file *file, uint64_t offset,
                              struct weir_operation *operation)
{
    assert(!stream->sink);
    struct weir_loop *loop = stream->loop;
    struct sink *sink = calloc(1, sizeof *sink);
    operation->stream = stream;
    operation->file = NULL;
    operation->kind = FILE_JOB; // it has no slot of its own
    file_begin(loop, operation);
    bool closing = stream->state > STREAM_OPEN;
    if (!sink || closing) {
        free(sink);
        int reason = stream->reason ? stream->reason : -ECANCELED;
        job_deliver(loop, operation, closing ? reason : -ENOMEM);
        return;
    }
    sink->stream = stream;
    sink->file = weir_file_retain(file);
    sink->operation = operation;
    sink->offset = offset;
    stream->sink = sink;
    loop_attention(stream); // what was kept while paused goes into the file
}
