// RETR: a file to the data connection. Binary ones are ranges of the file, which the engine sends
// in its fastest way; ASCII ones are read and converted piece by piece.
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transfer.h"
#include "work.h"

// A piece of the conversion: what is read, and what of it fits into one reserved span.
enum { DOWNLOAD_PIECE = 32 * 1024, DOWNLOAD_SPAN = 8000, DOWNLOAD_TRIES = 16 };

// From this size on, each call's bytes leave with it. Below, the end leaves with the last of them.
enum { DOWNLOAD_UNCORKED = 256 * 1024 };

#define DOWNLOAD_FLAGS (O_RDONLY | O_NONBLOCK | O_NOCTTY)

// --- ASCII ---------------------------------------------------------------------------------------

static void download_convert(struct ftp_transfer *transfer, size_t size)
{
    for (size_t at = 0; at < size; at += DOWNLOAD_SPAN) {
        size_t part = size - at < DOWNLOAD_SPAN ? size - at : (size_t)DOWNLOAD_SPAN;
        char *span = weir_stream_reserve(transfer->data, 2 * part);
        // UNTESTED: needs a queue without memory in the middle of a file
        if (!span)
            return; // the stream closes with -ENOMEM
        size_t written = ftp_ascii_encode(&transfer->converter, transfer->buffer + at, part, span);
        weir_stream_commit(transfer->data, written);
        transfer->moved += written;
    }
}

static void download_read_done(struct weir_operation *operation, int64_t result)
{
    struct ftp_transfer *transfer = ftp_transfer_of(operation);
    if (result <= 0 && !transfer->error) {
        ftp_transfer_fail(transfer, result ? (int)result : -EIO); // shorter than it was
        return;
    }
    if (transfer->error || !transfer->data) {
        ftp_transfer_settle(transfer);
        return;
    }
    transfer->offset += (uint64_t)result;
    download_convert(transfer, (size_t)result);
    if (!weir_stream_is_full(transfer->data))
        ftp_download_run(transfer);
}

static void download_read(struct ftp_transfer *transfer)
{
    uint64_t left = transfer->size - transfer->offset;
    uint64_t size = ftp_transfer_allowance(transfer, left < DOWNLOAD_PIECE ? left : DOWNLOAD_PIECE);
    if (!size)
        return;
    ftp_transfer_own(transfer, download_read_done);
    weir_file_read(transfer->file, &transfer->operation, transfer->buffer, size, transfer->offset);
}

// --- Running -------------------------------------------------------------------------------------

static void download_send(struct ftp_transfer *transfer)
{
    uint64_t size = ftp_transfer_allowance(transfer, transfer->size - transfer->offset);
    if (!size)
        return;
    if (size >= DOWNLOAD_UNCORKED)
        (void)weir_stream_uncork(transfer->data);
    weir_stream_send_file(transfer->data, transfer->file, transfer->offset, size);
    transfer->offset += size;
    transfer->moved += size;
}

// Called again whenever there is room, time or a piece. The data connection is closed when little
// is queued: until then its idle time-out watches, not the one for closing.
void ftp_download_run(struct ftp_transfer *transfer)
{
    if (transfer->offset == transfer->size) {
        ftp_transfer_complete(transfer);
        return;
    }
    if (transfer->ascii) {
        download_read(transfer);
        return;
    }
    download_send(transfer);
    if (transfer->offset == transfer->size && !weir_stream_is_full(transfer->data))
        ftp_transfer_complete(transfer);
    else if (transfer->server->rate_limit && !weir_stream_is_full(transfer->data))
        ftp_transfer_allowance(transfer, UINT64_MAX / 2); // starts the timer
}

// --- Opening -------------------------------------------------------------------------------------

// The file is open, so fstat finds what it asks for in memory. O_NONBLOCK, which kept the open from
// waiting for a pipe's writer, is taken back: some file systems would answer reads with EAGAIN.
static int download_check(struct ftp_transfer *transfer)
{
    struct stat status;
    int fd = weir_file_descriptor(transfer->file);
    if (fstat(fd, &status) < 0)
        return -errno;
    if (!S_ISREG(status.st_mode))
        return S_ISDIR(status.st_mode) ? -EISDIR : -EOPNOTSUPP;
    transfer->size = (uint64_t)status.st_size;
    if (transfer->offset > transfer->size || (transfer->ascii && transfer->offset))
        return -ERANGE;
    // UNTESTED: fcntl of our own descriptor
    if (fcntl(fd, F_SETFL, 0) < 0)
        return -errno;
    if (!transfer->ascii)
        return 0;
    transfer->buffer = malloc(DOWNLOAD_PIECE);
    return transfer->buffer ? 0 : -ENOMEM;
}

static void download_begin(struct ftp_transfer *transfer, int64_t result)
{
    if (result == 0)
        result = download_check(transfer);
    if (result < 0 && !transfer->error)
        transfer->error = (int32_t)result;
    ftp_transfer_opened(transfer);
}

static void download_open_later(struct ftp_transfer *transfer);

// EAGAIN: as in ftp_work_open().
static void download_opened(struct weir_operation *operation, int64_t result)
{
    struct ftp_transfer *transfer = ftp_transfer_of(operation);
    if (result == -EAGAIN && !transfer->error && ++transfer->tries < DOWNLOAD_TRIES)
        download_open_later(transfer);
    else
        download_begin(transfer, result);
}

// With a root of its own: the session may end, and close its root, before the kernel looks it up.
static void download_open_later(struct ftp_transfer *transfer)
{
    if (transfer->root_fd < 0)
        transfer->root_fd = fcntl(transfer->session->root_fd, F_DUPFD_CLOEXEC, 0);
    if (transfer->root_fd < 0) {
        download_begin(transfer, -errno);
        return;
    }
    ftp_transfer_own(transfer, download_opened);
    weir_file_open(transfer->loop, &transfer->operation, transfer->root_fd,
                   ftp_path_relative(transfer->path), DOWNLOAD_FLAGS, 0,
                   RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS, &transfer->file);
}

// At once if the kernel has the names in memory; otherwise by the engine.
static void download_open(struct ftp_transfer *transfer, int root_fd)
{
    int fd = ftp_work_open_cached(root_fd, transfer->path, DOWNLOAD_FLAGS);
    if (fd == -EAGAIN) {
        download_open_later(transfer);
        return;
    }
    int error = fd < 0 ? fd : weir_file_adopt(transfer->loop, fd, &transfer->file);
    if (error && fd >= 0)
        close(fd); // UNTESTED: needs memory to run out behind the open
    download_begin(transfer, error);
}

void ftp_transfer_retr(struct ftp_session *session, const char *argument)
{
    char path[FTP_PATH_MAX];
    if (!ftp_transfer_has_data(session) || !ftp_session_path(session, argument, path))
        return;
    struct ftp_transfer *transfer = ftp_transfer_create(session, FTP_DOWNLOAD, FTP_RETR, path);
    if (!transfer)
        return;
    download_open(transfer, session->root_fd);
}
