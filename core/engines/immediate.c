// Operations that act at once, and the queue of results that flush() has yet to tell.
#include "immediate.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

_Static_assert(IMMEDIATE_RECEIVING == (int)EPOLLIN && IMMEDIATE_RECEIVING == POLLIN, "one value");
_Static_assert(IMMEDIATE_SENDING == (int)EPOLLOUT && IMMEDIATE_SENDING == POLLOUT, "one value");

// --- State and completions -----------------------------------------------------------------------

static size_t immediate_early_size(const struct weir_loop *loop)
{
    return (size_t)loop->slots_max * IMMEDIATE_EARLY_MAX * sizeof(struct completion);
}

int immediate_wake_open(void)
{
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int immediate_init(struct weir_loop *loop, size_t size, const int *wake_fd)
{
    struct immediate *state = calloc(1, size);
    if (!state)
        return -ENOMEM;
    int error = -ENOMEM;
    // Address space for the worst case. The queue starts over whenever it is empty, so that only
    // its first page is ever used in ordinary running.
    state->early = mmap(NULL, immediate_early_size(loop), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (state->early == MAP_FAILED)
        goto free_state;
    state->wake_fd = wake_fd ? *wake_fd : immediate_wake_open();
    if (state->wake_fd < 0) {
        error = state->wake_fd;
        goto unmap_early;
    }
    loop->engine_state = state;
    return 0;
unmap_early:
    munmap(state->early, immediate_early_size(loop));
free_state:
    free(state);
    return error;
}

void immediate_fini(struct weir_loop *loop)
{
    struct immediate *state = immediate_of(loop);
    close(state->wake_fd);
    munmap(state->early, immediate_early_size(loop));
    free(state);
    loop->engine_state = NULL;
}

void immediate_wake(struct weir_loop *loop)
{
    uint64_t one = 1;
    // It can fail only when the counter is full, and then the loop is awake.
    ssize_t written = write(immediate_of(loop)->wake_fd, &one, sizeof one);
    (void)written;
}

void immediate_complete(struct weir_loop *loop, uint64_t token, int64_t result, uint32_t flags,
                        uint16_t buffer)
{
    struct immediate *state = immediate_of(loop);
    assert(state->count < LOOP_COMPLETIONS_MAX);
    loop->completions[state->count++] = (struct completion){
        .token = token,
        .result = (int32_t)result,
        .flags = (uint16_t)flags,
        .buffer = buffer,
    };
}

void immediate_early(struct weir_loop *loop, enum operation operation, uint32_t auxiliary,
                     uint32_t slot, int64_t result)
{
    struct immediate *state = immediate_of(loop);
    if (state->early_count == loop->slots_max * IMMEDIATE_EARLY_MAX) {
        // It never ran empty. What was told makes room: not all of it can be waiting.
        assert(state->early_first);
        state->early_count -= state->early_first;
        memmove(state->early, state->early + state->early_first,
                state->early_count * sizeof *state->early);
        state->early_first = 0;
    }
    state->early[state->early_count++] = (struct completion){
        .token = loop_token(loop, operation, auxiliary, slot),
        .result = (int32_t)result,
    };
}

void immediate_begin(struct weir_loop *loop)
{
    struct immediate *state = immediate_of(loop);
    state->count = 0;
    state->bytes = 0;
    state->holds_buffers = false;
    if (state->early_count == state->early_first)
        return;
    uint32_t count = state->early_count - state->early_first;
    if (count > LOOP_COMPLETIONS_MAX / 2)
        count = LOOP_COMPLETIONS_MAX / 2;
    memcpy(loop->completions, state->early + state->early_first, count * sizeof *state->early);
    state->count = count;
    state->early_first += count;
    if (state->early_first == state->early_count)
        state->early_first = state->early_count = 0;
}

bool immediate_has_room(const struct weir_loop *loop)
{
    const struct immediate *state = loop->engine_state;
    if (state->count > LOOP_COMPLETIONS_MAX - IMMEDIATE_SOURCE_MAX ||
        state->bytes >= IMMEDIATE_BYTES_MAX)
        return false;
    // An empty pool: if this flush itself holds the buffers, they may be back after it, and a ready
    // socket stays ready. Otherwise streams hold them all, and the core must hear of it.
    return loop->pool.free_count || !state->holds_buffers;
}

// --- Receiving -----------------------------------------------------------------------------------

static uint64_t immediate_token(const struct weir_loop *loop, enum operation operation,
                                const struct weir_stream *stream)
{
    return loop_token(loop, operation, 0, stream->slot);
}

// The armed receive ends without bytes.
static void immediate_receive_end(struct weir_loop *loop, struct weir_stream *stream, int result)
{
    stream->engine_bits &= ~(uint32_t)IMMEDIATE_RECEIVING;
    immediate_complete(loop, immediate_token(loop, OPERATION_RECEIVE, stream), result, 0, 0);
}

// Tells `size` bytes that lie in the buffers, one completion for each, and gives back the others.
static void immediate_receive_bytes(struct weir_loop *loop, struct weir_stream *stream,
                                    const int *buffers, uint32_t count, size_t size)
{
    size_t buffer_size = loop->pool.size;
    uint64_t token = immediate_token(loop, OPERATION_RECEIVE, stream);
    stream->engine_bits &= ~(uint32_t)(IMMEDIATE_RECEIVING | IMMEDIATE_BULKY);
    if (size >= buffer_size)
        stream->engine_bits |= IMMEDIATE_BULKY;
    immediate_of(loop)->holds_buffers = true;
    immediate_of(loop)->bytes += size;
    uint32_t used = 0;
    for (; size > buffer_size; size -= buffer_size)
        immediate_complete(loop, token, (int64_t)buffer_size, COMPLETION_BUFFER | COMPLETION_MORE,
                           (uint16_t)buffers[used++]);
    immediate_complete(loop, token, (int64_t)size, COMPLETION_BUFFER, (uint16_t)buffers[used++]);
    while (count > used)
        pool_give(&loop->pool, (uint32_t)buffers[--count]);
}

// As many buffers as the credit covers, in one call. Returns what recv(2) would.
static ssize_t immediate_receive_bulk(struct weir_loop *loop, const struct weir_stream *stream,
                                      int flags, int *buffers, uint32_t *count)
{
    struct buffer_pool *pool = &loop->pool;
    struct iovec iovecs[IMMEDIATE_BULK];
    size_t credit = stream->receive_credit;
    uint32_t taken = 0;
    while (taken < IMMEDIATE_BULK && credit && pool->free_count) {
        size_t part = credit < pool->size ? credit : pool->size;
        buffers[taken] = pool_take(pool);
        iovecs[taken].iov_base = pool_data(pool, (uint32_t)buffers[taken]);
        iovecs[taken++].iov_len = part;
        credit -= part;
    }
    *count = taken;
    struct msghdr message = { .msg_iov = iovecs, .msg_iovlen = taken };
    return recvmsg(stream->fd, &message, flags);
}

void immediate_receive(struct weir_loop *loop, struct weir_stream *stream, int flags)
{
    struct buffer_pool *pool = &loop->pool;
    int buffers[IMMEDIATE_BULK];
    uint32_t count = 1;
    ssize_t size;
    assert(stream->receive_credit);
    if (!pool->free_count) {
        immediate_receive_end(loop, stream, -ENOBUFS);
        return;
    }
    if (stream->engine_bits & IMMEDIATE_BULKY) {
        size = immediate_receive_bulk(loop, stream, flags, buffers, &count);
    } else {
        size_t room = stream->receive_credit < pool->size ? stream->receive_credit : pool->size;
        buffers[0] = pool_take(pool);
        size = recv(stream->fd, pool_data(pool, (uint32_t)buffers[0]), room, flags);
    }
    int error = size < 0 ? errno : 0;
    stats_add(loop, enters, 1);
    if (size > 0) {
        immediate_receive_bytes(loop, stream, buffers, count, (size_t)size);
        return;
    }
    while (count)
        pool_give(pool, (uint32_t)buffers[--count]);
    if (error != EAGAIN && error != EINTR)
        immediate_receive_end(loop, stream, -error);
}

int immediate_receive_cancel(struct weir_loop *loop, struct weir_stream *stream)
{
    (void)loop;
    // Not receiving, but asked to stop: the last completion is known and was not told yet.
    if (!(stream->engine_bits & IMMEDIATE_RECEIVING))
        return ENGINE_PENDING;
    stream->engine_bits &= ~(uint32_t)IMMEDIATE_RECEIVING;
    return 0;
}

// --- Sending -------------------------------------------------------------------------------------

static ssize_t immediate_sendfile(struct weir_loop *loop, int fd, const struct piece *piece,
                                  size_t *ret_size)
{
    size_t part = file_part(loop), size = piece->size < part ? (size_t)piece->size : part;
    *ret_size = size;
    int64_t sent = loop->system->sendfile(loop->system_state, &immediate_of(loop)->pipe_signal, fd,
                                          weir_file_descriptor(piece->file), piece->offset, size);
    if (sent > 0)
        return sent;
    errno = sent ? (int)-sent : EIO; // EIO: the file is shorter than its range
    return -1;
}

static ssize_t immediate_send_memory(const struct weir_stream *stream, int flags, size_t *ret_size)
{
    struct iovec iovecs[SEND_PIECES_MAX];
    struct msghdr message = { .msg_iov = iovecs };
    uint32_t count = send_gather(stream, iovecs, SEND_PIECES_MAX, SEND_BYTES_MAX, ret_size);
    flags |= MSG_NOSIGNAL;
    if (stream->queued > *ret_size)
        flags |= MSG_MORE; // a head and the file behind it share their segments
    if (count == 1)
        return send(stream->fd, iovecs[0].iov_base, iovecs[0].iov_len, flags);
    message.msg_iovlen = count;
    return sendmsg(stream->fd, &message, flags);
}

int64_t immediate_send(struct weir_loop *loop, struct weir_stream *stream, int flags)
{
    const struct piece *piece = stream->pieces.first;
    size_t size;
    while (!piece->size)
        piece = piece->next; // reserved, and nothing committed
    ssize_t sent = piece->kind == PIECE_FILE ? immediate_sendfile(loop, stream->fd, piece, &size)
                                             : immediate_send_memory(stream, flags, &size);
    int error = errno;
    stats_add(loop, enters, 1);
    if (sent < 0)
        return error == EINTR ? -EAGAIN : -error;
    if ((size_t)sent < size) {
        stream->engine_bits |= IMMEDIATE_SHORT;
        stats_add(loop, short_sends, 1);
    }
    return sent;
}

static void immediate_connected(struct weir_loop *loop, struct weir_stream *stream)
{
    int error = 0;
    socklen_t size = sizeof error;
    // UNTESTED: an open socket always tells its error
    if (getsockopt(stream->fd, SOL_SOCKET, SO_ERROR, &error, &size))
        error = errno;
    stats_add(loop, enters, 1);
    stream->engine_bits &= ~(uint32_t)(IMMEDIATE_CONNECTING | IMMEDIATE_SENDING);
    immediate_complete(loop, immediate_token(loop, OPERATION_CONNECT, stream), -error, 0, 0);
}

void immediate_writable(struct weir_loop *loop, struct weir_stream *stream)
{
    if (stream->engine_bits & IMMEDIATE_CONNECTING) {
        immediate_connected(loop, stream);
        return;
    }
    int64_t result = immediate_send(loop, stream, MSG_DONTWAIT);
    // UNTESTED: room that was told stays until this stream sends
    if (result == -EAGAIN)
        return;
    stream->engine_bits &= ~(uint32_t)IMMEDIATE_SENDING;
    immediate_complete(loop, immediate_token(loop, OPERATION_SEND, stream), result, 0, 0);
}

// --- Accepting and connecting --------------------------------------------------------------------

void immediate_accept(struct weir_loop *loop, struct weir_listener *listener, int flags)
{
    uint32_t armed;
    while ((armed = listener->engine_bits & IMMEDIATE_ACCEPTS)) {
        uint32_t index = (uint32_t)__builtin_ctz(armed);
        listener->peer_sizes[index] = sizeof listener->peers[index];
        int fd = accept4(listener->fd, (struct sockaddr *)&listener->peers[index],
                         &listener->peer_sizes[index], flags | SOCK_CLOEXEC);
        int result = fd < 0 ? -errno : fd;
        stats_add(loop, enters, 1);
        if (result == -EAGAIN || result == -EINTR)
            return;
        listener->engine_bits &= ~(1U << index);
        immediate_complete(loop, loop_token(loop, OPERATION_ACCEPT, index, listener->slot), result,
                           0, 0);
        if (result < 0)
            return; // out of descriptors, for example: the next would fail too
    }
}

void immediate_accept_cancel(struct weir_loop *loop, struct weir_listener *listener)
{
    uint32_t armed;
    while ((armed = listener->engine_bits & IMMEDIATE_ACCEPTS)) {
        uint32_t index = (uint32_t)__builtin_ctz(armed);
        listener->engine_bits &= ~(1U << index);
        immediate_early(loop, OPERATION_ACCEPT, index, listener->slot, -ECANCELED);
    }
}

int immediate_connect(struct weir_loop *loop, struct weir_stream *stream,
                      const struct weir_address *address)
{
    int result = connect(stream->fd, &address->any, address->size) ? -errno : 0;
    stats_add(loop, enters, 1);
    // UNTESTED: a connect that does not wait is not interrupted
    if (result == -EINTR)
        result = -EINPROGRESS; // it goes on by itself
    if (result == -EINPROGRESS)
        stream->engine_bits |= IMMEDIATE_CONNECTING;
    return result;
}

// --- Ending --------------------------------------------------------------------------------------

void immediate_shutdown(struct weir_loop *loop, struct weir_stream *stream)
{
    int result = shutdown(stream->fd, SHUT_WR) ? -errno : 0;
    stats_add(loop, enters, 1);
    immediate_early(loop, OPERATION_SHUTDOWN, 0, stream->slot, result);
}

static void immediate_close_descriptor(struct weir_loop *loop, const struct weir_stream *stream)
{
    struct linger reset = { .l_onoff = 1 };
    if (stream->abort) {
        setsockopt(stream->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        stats_add(loop, enters, 1);
    }
    close(stream->fd);
    stats_add(loop, enters, 1);
}

// What waits in this engine is withdrawn without a word. If the core has yet to hear of something
// that already happened (a later completion of this turn, an early one), then all is told instead.
int immediate_close(struct weir_loop *loop, struct weir_stream *stream)
{
    bool receiving = stream->engine_bits & IMMEDIATE_RECEIVING;
    bool sending = stream->engine_bits & IMMEDIATE_SENDING;
    bool connecting = stream->engine_bits & IMMEDIATE_CONNECTING;
    immediate_close_descriptor(loop, stream);
    stream->engine_bits = 0;
    if (stream->inflight == (uint32_t)receiving + (uint32_t)sending)
        return 0;
    // UNTESTED: needs a close before a completion of this turn is told
    if (receiving)
        immediate_early(loop, OPERATION_RECEIVE, 0, stream->slot, -ECANCELED);
    // UNTESTED: as above
    if (sending)
        immediate_early(loop, connecting ? OPERATION_CONNECT : OPERATION_SEND, 0, stream->slot,
                        -ECANCELED);
    immediate_early(loop, OPERATION_CLOSE, 0, stream->slot, 0);
    return ENGINE_PENDING;
}

// --- Files ---------------------------------------------------------------------------------------

static int immediate_file_open(const struct weir_operation *operation)
{
    long fd = syscall(SYS_openat2, (int)operation->offset, operation->data, operation->open_how,
                      sizeof operation->open_how);
    return fd < 0 ? -errno : (int)fd;
}

// One call for what is left of the range.
static ssize_t immediate_file_step(const struct weir_operation *operation, int flags)
{
    size_t done = (size_t)operation->result;
    struct iovec rest = { .iov_base = operation->data + done, .iov_len = operation->size - done };
    off_t offset = (off_t)(operation->offset + done);
    int fd = weir_file_descriptor(operation->file);
    return operation->kind == FILE_READ ? preadv2(fd, &rest, 1, offset, flags)
                                        : pwritev2(fd, &rest, 1, offset, flags);
}

int immediate_file(struct weir_operation *operation)
{
    if (operation->kind == FILE_OPEN)
        return immediate_file_open(operation);
    while ((size_t)operation->result < operation->size) {
        ssize_t size = immediate_file_step(operation, 0);
        // UNTESTED: files at hand are not interrupted
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0 && !operation->result)
            return -errno;
        if (size <= 0)
            break; // an error behind written bytes meets the next call again
        operation->result += size;
    }
    return (int)operation->result;
}

int immediate_file_try(struct weir_loop *loop, struct weir_operation *operation)
{
    // A long copy would hold up the loop, even out of the page cache.
    if (operation->kind == FILE_OPEN || operation->size > SEND_BYTES_MAX)
        return -EAGAIN;
    while ((size_t)operation->result < operation->size) {
        ssize_t size = immediate_file_step(operation, RWF_NOWAIT);
        stats_add(loop, enters, 1);
        if (size < 0 || (size == 0 && operation->kind == FILE_WRITE))
            return -EAGAIN; // also for errors: the call that may wait tells the true one
        if (size == 0)
            break;
        operation->result += size;
    }
    return (int)operation->result;
}
