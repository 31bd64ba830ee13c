// File ranges by sendfile(2), beside the ring: it takes pages out of the page cache into the socket
// without a copy, which no ring operation does but splice, and that needs a pipe and a worker.
//
// The loop never waits in it. Not for room: sockets are non-blocking here, which operations of the
// ring do not mind (see probe_sendfile); when one is full, a poll of the ring waits. Not for the
// disk: only what is in memory is sent so, and the rest is read ahead by the ring. Sockets in the
// ring's table get a descriptor beside their index when they send their first file.
#include "uring.h"

#include <errno.h>
#include <poll.h>

// --- Descriptors ---------------------------------------------------------------------------------

static int uring_file_socket(const struct weir_stream *stream)
{
    return stream->direct ? stream->engine_descriptor - 1 : stream->fd;
}

static void uring_install(struct weir_stream *stream)
{
    struct io_uring_sqe *sqe = uring_stream_sqe(stream, OPERATION_INSTALL);
    sqe->opcode = IORING_OP_FIXED_FD_INSTALL;
    stream->engine_bits |= URING_INSTALLING;
    uring_of(stream->loop)->installs++;
}

void uring_installed(struct weir_loop *loop, const struct io_uring_cqe *cqe)
{
    struct weir_stream *stream = loop_token_object(loop, cqe->user_data);
    uring_of(loop)->installs--;
    if (cqe->res < 0)
        return; // none is free, for example: this stream's files are read and sent
    if (stream && stream->state != STREAM_CLOSING)
        stream->engine_descriptor = cqe->res + 1;
    else
        loop->system->close(loop->system_state, cqe->res);
}

void uring_installs_end(struct weir_loop *loop)
{
    struct uring *uring = uring_of(loop);
    unsigned head;
    struct io_uring_cqe *cqe;
    if (!uring->installs)
        return;
    // UNTESTED: a loop that ends between an install and its completion
    if (!uring->failure)
        (void)uring_enter(loop, 0, 0, IORING_ENTER_GETEVENTS, NULL, 0);
    // UNTESTED: as above
    for (unsigned i = 0; i < uring->stash_count; i++) {
        cqe = &uring->stash[(uring->stash_first + i) % uring->ring.cq.ring_entries];
        if (cqe->user_data >> TOKEN_OPERATION_SHIFT == OPERATION_INSTALL)
            uring_installed(loop, cqe);
    }
    // UNTESTED: as above
    io_uring_for_each_cqe(&uring->ring, head, cqe)
    {
        if (cqe->user_data >> TOKEN_OPERATION_SHIFT == OPERATION_INSTALL)
            uring_installed(loop, cqe);
    }
}

// --- Sending -------------------------------------------------------------------------------------

bool uring_sends_file(struct weir_loop *loop, struct weir_stream *stream, struct piece *range)
{
    if (!uring_of(loop)->plan.sendfile || !file_cached(range))
        return false;
    if (uring_file_socket(stream) >= 0)
        return true;
    if (!(stream->engine_bits & URING_INSTALLING))
        uring_install(stream);
    // It is there when the memory before the range was sent.
    return stream->pieces.first != range && stream->pieces.first->size;
}

static int64_t uring_wait_for_room(struct weir_stream *stream)
{
    struct io_uring_sqe *sqe = uring_stream_sqe(stream, OPERATION_SEND);
    sqe->opcode = IORING_OP_POLL_ADD;
    sqe->poll32_events = POLLOUT;
    stream->engine_bits &= ~(uint32_t)URING_SOCKET_FULL;
    stream->engine_bits |= URING_SEND_POLLS;
    return ENGINE_PENDING;
}

int64_t uring_send_file(struct weir_loop *loop, struct weir_stream *stream, struct piece *range)
{
    if (stream->engine_bits & URING_SOCKET_FULL)
        return uring_wait_for_room(stream);
    size_t size = file_cached(range), part = file_part(loop);
    if (size > part)
        size = part;
    int64_t sent = loop->system->sendfile(loop->system_state, &uring_of(loop)->pipe_signal,
                                          uring_file_socket(stream),
                                          weir_file_descriptor(range->file), range->offset, size);
    stats_add(loop, enters, 1);
    if (sent == -EAGAIN || sent == -EINTR)
        return uring_wait_for_room(stream);
    // UNTESTED: no file system at hand has no sendfile
    if (sent == -EINVAL) {
        file_refuses(range); // and is read ahead from now on
        return uring_wait_for_room(stream);
    }
    if (!sent)
        return -EIO; // the file is shorter than its range
    if (sent > 0 && (size_t)sent < size) {
        stream->engine_bits |= URING_SOCKET_FULL;
        stats_add(loop, short_sends, 1);
    }
    return sent;
}
