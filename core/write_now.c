// Bytes that go from a socket into a file on the loop's own thread, where no disk can hold it up.
//
// splice(2) takes the kernel's own pages out of the socket into a pipe, and copies them once, into
// the file. It is asked for no more than waits in the socket, so it never waits either.
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "loop.h"

// --- The kernel's calls --------------------------------------------------------------------------

// What a pipe holds. By default it has 16 places, each for one piece of a packet.
enum { WRITE_PIPE_SIZE = 1024 * 1024 };

bool write_now_in_memory(void *state, int file)
{
    struct statfs status;
    (void)state;
    return !fstatfs(file, &status) &&
           (status.f_type == TMPFS_MAGIC || status.f_type == RAMFS_MAGIC);
}

static bool write_pipe_open(struct system_pipe *pipe)
{
    if (!pipe->open && !pipe2(pipe->fds, O_CLOEXEC | O_NONBLOCK)) {
        pipe->open = true;
        // Refused where the user has many pipes: then it takes more calls.
        (void)fcntl(pipe->fds[1], F_SETPIPE_SZ, WRITE_PIPE_SIZE);
    }
    return pipe->open;
}

void write_pipe_close(struct system_pipe *pipe)
{
    if (!pipe->open)
        return;
    close(pipe->fds[0]);
    close(pipe->fds[1]);
    pipe->open = false;
}

// Moves what the pipe holds, which must not stay there for somebody else's file.
static int64_t write_empty_pipe(struct system_pipe *pipe, int file, uint64_t offset, size_t size)
{
    off_t position = (off_t)offset;
    for (size_t left = size; left;) {
        ssize_t moved = splice(pipe->fds[0], NULL, file, &position, left, SPLICE_F_MOVE);
        // UNTESTED: files in memory are not interrupted
        if (moved < 0 && errno == EINTR)
            continue;
        if (moved <= 0) {
            int error = moved ? -errno : -EIO;
            write_pipe_close(pipe);
            return error;
        }
        left -= (size_t)moved;
    }
    return (int64_t)size;
}

// Moves at most `size` of the bytes that wait in the socket: a count, or -errno.
static int64_t write_waiting(struct system_pipe *pipe, int fd, int file, uint64_t offset,
                             size_t size)
{
    size_t done = 0;
    int waiting;
    while (done < size && !ioctl(fd, FIONREAD, &waiting) && waiting > 0) {
        size_t most = size - done < (size_t)waiting ? size - done : (size_t)waiting;
        ssize_t taken = splice(fd, NULL, pipe->fds[1], NULL, most, SPLICE_F_NONBLOCK);
        // Kinds of sockets that know no splice, and what another took: received in the usual way.
        if (taken == 0 || (taken < 0 && (errno == EAGAIN || errno == EINTR || errno == EINVAL)))
            break;
        // The socket tells its error once, and an end from then on: it must not be lost here.
        if (taken < 0)
            return -errno;
        int64_t moved = write_empty_pipe(pipe, file, offset + done, (size_t)taken);
        if (moved < 0)
            return moved;
        done += (size_t)taken;
    }
    return (int64_t)done;
}

static int64_t write_slice(struct weir_slice slice, int file, uint64_t offset)
{
    size_t done = 0;
    while (done < slice.size) {
        struct iovec rest = { .iov_base = (char *)slice.data + done, .iov_len = slice.size - done };
        ssize_t written = pwritev(file, &rest, 1, (off_t)(offset + done));
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return written ? -errno : -EIO;
        done += (size_t)written;
    }
    return (int64_t)done;
}

int64_t write_now(void *state, struct system_pipe *pipe, int fd, struct weir_slice slice, int file,
                  uint64_t offset, size_t size)
{
    (void)state;
    int64_t written = write_slice(slice, file, offset);
    if (written < 0 || fd < 0 || !write_pipe_open(pipe))
        return written;
    int64_t more = write_waiting(pipe, fd, file, offset + slice.size, size - slice.size);
    return more < 0 ? more : written + more;
}

// --- The loop's share ----------------------------------------------------------------------------

// Pages that the machine must first find may take ten times as long as others: 12 us each were
// seen in a virtual machine, 3 ms for a turn. Nobody waits longer for them.
enum { WRITE_NOW_STREAM = 512 * 1024, WRITE_NOW_TURN = 1024 * 1024 };

// How many bytes a stream may still write in this turn.
static size_t write_now_room(struct weir_loop *loop)
{
    if (loop->write_turn != loop->turn_index) {
        loop->write_turn = loop->turn_index;
        loop->written = 0;
    }
    size_t left = WRITE_NOW_TURN - loop->written;
    return left < WRITE_NOW_STREAM ? left : WRITE_NOW_STREAM;
}

// Whether the next bytes of the stream are those in its socket, and it is to have them.
static bool write_now_next(const struct weir_stream *stream)
{
    return stream->state == STREAM_OPEN && !stream->direct && !stream->receive_armed &&
           !stream->receive_paused && !stream->received.first;
}

int64_t weir_stream_write_now(struct weir_stream *stream, struct weir_slice slice,
                              struct weir_file *file, uint64_t offset)
{
    struct weir_loop *loop = stream->loop;
    const struct system *system = loop->system;
    // An engine without helpers has a thread for each connection, and nobody to wait for.
    if (!system->write_now || loop->engine->job != jobs_start || !file_in_memory(file))
        return -EAGAIN;
    size_t room = write_now_room(loop);
    if (room < slice.size)
        return -EAGAIN;
    stream->writes_now = true;
    int fd = write_now_next(stream) ? stream->fd : -1;
    int64_t written = system->write_now(loop->system_state, &loop->write_pipe, fd, slice,
                                        weir_file_descriptor(file), offset, room);
    stats_add(loop, enters, 1);
    if (written < 0)
        return written;
    loop->written += (size_t)written;
    stats_add(loop, received_bytes, (uint64_t)written - slice.size);
    return written;
}
