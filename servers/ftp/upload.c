// STOR, APPE and STOU: the data connection to a file.
//
// A whole new file goes to a temporary name in its directory and takes its place by rename: nobody
// ever sees half of it, and what was there before stays until then. What goes on with a file that
// is there (APPE, REST) writes in place, since its client decided that it is a part; so does
// `--uploads direct`. The directory stays open from the first look to the rename.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/uio.h>
#include <unistd.h>

#include "transfer.h"
#include "work.h"

// A receive buffer at most, and the CR that waited before it.
enum { UPLOAD_BUFFER = 64 * 1024 + 1 };

static struct ftp_transfer *upload_in_job(struct weir_operation *operation)
{
    return (struct ftp_transfer *)(void *)((char *)operation -
                                           offsetof(struct ftp_transfer, operation));
}

// --- Opening: a job ------------------------------------------------------------------------------

// What stands at the name now: 0, or why it cannot be replaced. *ret_exists says whether it is
// there.
static int upload_look(struct ftp_transfer *transfer, bool *ret_exists)
{
    struct stat status;
    *ret_exists = false;
    if (fstatat(transfer->place.parent_fd, transfer->name, &status, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : -errno;
    *ret_exists = true;
    if (S_ISDIR(status.st_mode))
        return -EISDIR;
    if (!S_ISREG(status.st_mode))
        return 0; // a symbolic link is replaced or followed; for the rest, the open tells
    transfer->place.mode = status.st_mode & 0777;
    return faccessat(transfer->place.parent_fd, transfer->name, W_OK, AT_EACCESS) < 0 ? -errno : 0;
}

static int upload_open_in_place(struct ftp_transfer *transfer)
{
    struct stat status;
    uint64_t flags = O_WRONLY | O_NONBLOCK | O_NOCTTY;
    if (!transfer->offset) // one that is not there has no offset to go on at
        flags |= O_CREAT;
    if (transfer->verb != FTP_APPE && !transfer->offset)
        flags |= O_TRUNC;
    int fd = ftp_work_open(transfer->root_fd, transfer->path, flags, flags & O_CREAT ? 0666 : 0);
    if (fd < 0)
        return fd;
    int error = fstat(fd, &status) < 0 ? -errno : 0;
    // UNTESTED: openat2 and a device: none is in a served root
    if (!error && !S_ISREG(status.st_mode))
        error = -EOPNOTSUPP;
    if (!error && transfer->offset > (uint64_t)status.st_size)
        error = -ERANGE;
    // UNTESTED: fcntl of our own descriptor
    if (!error && fcntl(fd, F_SETFL, 0) < 0)
        error = -errno;
    if (error) {
        close(fd);
        return error;
    }
    if (transfer->verb == FTP_APPE)
        transfer->offset = (uint64_t)status.st_size;
    transfer->place.mode = 0;
    return fd;
}

static int upload_open_temporary(struct ftp_transfer *transfer)
{
    uint64_t random;
    // UNTESTED: entropy is there when tests run
    if (getrandom(&random, sizeof random, 0) != sizeof random)
        return -EAGAIN;
    snprintf(transfer->place.temporary, sizeof transfer->place.temporary,
             FTP_UPLOAD_PREFIX "%016llx", (unsigned long long)random);
    int fd = openat(transfer->place.parent_fd, transfer->place.temporary,
                    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0) {
        int error = -errno;
        transfer->place.temporary[0] = '\0';
        return error;
    }
    return fd;
}

static int upload_open(struct weir_operation *operation)
{
    struct ftp_transfer *transfer = upload_in_job(operation);
    const char *name;
    bool exists;
    int fd = ftp_work_open_parent(transfer->root_fd, transfer->path, &name);
    if (fd < 0)
        return fd;
    transfer->place.parent_fd = fd;
    int error = upload_look(transfer, &exists);
    if (error)
        return error;
    bool in_place =
        transfer->server->uploads_direct || transfer->verb == FTP_APPE || transfer->offset;
    fd = in_place && (exists || transfer->server->uploads_direct || transfer->offset)
             ? upload_open_in_place(transfer)
             : upload_open_temporary(transfer);
    transfer->place.file_fd = fd;
    return fd < 0 ? fd : 0;
}

static int upload_adopt(struct ftp_transfer *transfer)
{
    int error = weir_file_adopt(transfer->loop, transfer->place.file_fd, &transfer->file);
    if (error)
        close(transfer->place.file_fd);
    if (!error && (transfer->ascii || transfer->server->rate_limit)) {
        transfer->buffer = malloc(UPLOAD_BUFFER);
        error = transfer->buffer ? 0 : -ENOMEM;
    }
    transfer->place.file_fd = -1;
    return error;
}

static void upload_opened(struct weir_operation *operation, int64_t result)
{
    struct ftp_transfer *transfer = ftp_transfer_of(operation);
    if (result == 0)
        result = upload_adopt(transfer);
    if (result < 0 && !transfer->error)
        transfer->error = (int32_t)result;
    ftp_transfer_opened(transfer);
}

// --- Ending: in a job ----------------------------------------------------------------------------

static int upload_sync_parent(const struct ftp_transfer *transfer)
{
    int fd = openat(transfer->place.parent_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int error = fsync(fd) < 0 ? -errno : 0;
    close(fd);
    return error;
}

// The file has all that came, up to the offset `end`: gives it its length, mode and name.
static int upload_keep(struct ftp_transfer *transfer, uint64_t end)
{
    int fd = weir_file_descriptor(transfer->file);
    // What stood behind the new bytes was part of the old file.
    if (transfer->verb == FTP_STOR && !*transfer->place.temporary &&
        !transfer->server->uploads_direct) {
        if (ftruncate(fd, (off_t)end) < 0)
            return -errno; // UNTESTED: file systems at hand cut what they wrote
    }
    if (transfer->place.mode && fchmod(fd, transfer->place.mode) < 0)
        return -errno;
    if (transfer->server->sync && fsync(fd) < 0)
        return -errno;
    unsigned flags = transfer->verb == FTP_STOU ? RENAME_NOREPLACE : 0;
    if (*transfer->place.temporary &&
        renameat2(transfer->place.parent_fd, transfer->place.temporary, transfer->place.parent_fd,
                  transfer->name, flags) < 0)
        return -errno;
    // One that was written in place may have its name since just now, too.
    return transfer->server->sync ? upload_sync_parent(transfer) : 0;
}

// Keeps the file or clears it away.
static int upload_end(struct ftp_transfer *transfer, bool keeps, uint64_t end)
{
    int error = keeps ? upload_keep(transfer, end) : 0;
    if ((error || !keeps) && *transfer->place.temporary && !transfer->server->uploads_keep)
        unlinkat(transfer->place.parent_fd, transfer->place.temporary, 0);
    return error;
}

// --- Receiving: as it comes ----------------------------------------------------------------------

// What the disk or the rate limit holds up does not stand still: no time-out counts meanwhile.
static void upload_pause(struct ftp_transfer *transfer)
{
    transfer->paused = true;
    weir_stream_set_idle_timeout(transfer->data, 0);
    weir_stream_pause(transfer->data);
}

static void upload_go_on(struct ftp_transfer *transfer)
{
    if (!transfer->paused)
        return;
    transfer->paused = false;
    weir_stream_set_idle_timeout(transfer->data, transfer->server->data_timeout_ns);
    weir_stream_resume(transfer->data);
}

// Received slices, held in their buffers. One half is being written by a job while the other fills:
// one call for many slices, so that neither the change of threads nor the call counts for much.
enum { PILE_SLICES = 32 };

struct ftp_pile {
    struct weir_slice slices[2][PILE_SLICES];
    uint32_t counts[2];
    uint32_t filling; // the half that fills
};

static int upload_write_pile(struct weir_operation *operation)
{
    const struct ftp_transfer *transfer = upload_in_job(operation);
    const struct ftp_pile *pile = transfer->pile;
    uint32_t half = !pile->filling, count = pile->counts[half], first = 0;
    struct iovec iovecs[PILE_SLICES];
    off_t offset = (off_t)transfer->offset;
    for (uint32_t i = 0; i < count; i++)
        iovecs[i] = (struct iovec){ .iov_base = (void *)pile->slices[half][i].data,
                                    .iov_len = pile->slices[half][i].size };
    while (first < count) {
        ssize_t size = pwritev(weir_file_descriptor(transfer->file), iovecs + first,
                               (int)(count - first), offset);
        if (size < 0 && errno == EINTR)
            continue;
        if (size <= 0)
            return size ? -errno : -EIO;
        offset += size;
        for (; first < count && (size_t)size >= iovecs[first].iov_len; first++)
            size -= (ssize_t)iovecs[first].iov_len;
        if (first < count) {
            iovecs[first].iov_base = (char *)iovecs[first].iov_base + size;
            iovecs[first].iov_len -= (size_t)size;
        }
    }
    return (int)(offset - (off_t)transfer->offset);
}

static void upload_drop_half(struct ftp_transfer *transfer, uint32_t half)
{
    struct ftp_pile *pile = transfer->pile;
    for (uint32_t i = 0; i < pile->counts[half]; i++)
        weir_slice_release(transfer->data, &pile->slices[half][i]);
    pile->counts[half] = 0;
}

void ftp_upload_drop(struct ftp_transfer *transfer)
{
    for (uint32_t half = 0; transfer->pile && half < 2; half++)
        upload_drop_half(transfer, half);
}

// The last bytes and the end, in one job: small files have no other.
static int upload_write_last(struct weir_operation *operation)
{
    struct ftp_transfer *transfer = upload_in_job(operation);
    int size = upload_write_pile(operation);
    if (size < 0)
        return size;
    transfer->place.ended = true;
    int error = upload_end(transfer, true, transfer->offset + (uint64_t)size);
    return error ? error : size;
}

static void upload_last_written(struct weir_operation *operation, int64_t result)
{
    struct ftp_transfer *transfer = ftp_transfer_of(operation);
    upload_drop_half(transfer, !transfer->pile->filling);
    transfer->finishing = transfer->place.ended; // or what came is still to be cleared away
    transfer->complete = result >= 0;
    if (result < 0)
        ftp_transfer_fail(transfer, (int)result);
    else
        ftp_transfer_settle(transfer);
}

// From here on it is too late for an abort.
static void upload_write_rest(struct ftp_transfer *transfer)
{
    transfer->finishing = true;
    ftp_transfer_own(transfer, upload_last_written);
    transfer->operation.stream = transfer->data;
    transfer->operation.owed = true; // all has come: it would be a pity
    weir_job_start(transfer->loop, &transfer->operation, upload_write_last);
    weir_stream_close(transfer->data); // the client has ended; `closed` waits for the job
}

static void upload_pile_written(struct weir_operation *operation, int64_t result);

// Writes the half that filled, if the other was written; what came before the end comes first.
static void upload_write_next(struct ftp_transfer *transfer)
{
    struct ftp_pile *pile = transfer->pile;
    if (!pile->counts[pile->filling]) {
        if (transfer->ended)
            ftp_transfer_complete(transfer);
        return;
    }
    pile->filling = !pile->filling;
    if (transfer->ended) {
        upload_write_rest(transfer);
        return;
    }
    ftp_transfer_own(transfer, upload_pile_written);
    // The slices are this stream's, so it stays until they are given back.
    transfer->operation.stream = transfer->data;
    weir_job_start(transfer->loop, &transfer->operation, upload_write_pile);
    upload_go_on(transfer);
}

static void upload_pile_written(struct weir_operation *operation, int64_t result)
{
    struct ftp_transfer *transfer = ftp_transfer_of(operation);
    upload_drop_half(transfer, !transfer->pile->filling);
    if (result < 0 && !transfer->error) {
        ftp_transfer_fail(transfer, (int)result);
        return;
    }
    if (transfer->error)
        return; // the data connection is closing; its end settles
    transfer->offset += (uint64_t)result;
    upload_write_next(transfer);
}

// Where no disk is to be waited for, a change of threads costs more than the write.
static bool upload_write_now(struct ftp_transfer *transfer, struct weir_slice slice)
{
    const struct ftp_pile *pile = transfer->pile;
    if (transfer->busy || pile->counts[pile->filling])
        return false; // what came before is still to be written
    int64_t size = weir_stream_write_now(transfer->data, slice, transfer->file, transfer->offset);
    if (size == -EAGAIN)
        return false;
    if (size < 0) {
        ftp_transfer_fail(transfer, (int)size);
        return true;
    }
    transfer->offset += (uint64_t)size;
    transfer->moved += (uint64_t)size - slice.size;
    return true;
}

static void upload_pile(struct ftp_transfer *transfer, struct weir_slice slice)
{
    struct ftp_pile *pile = transfer->pile;
    uint32_t *count = &pile->counts[pile->filling];
    // UNTESTED: needs a queue without memory in the middle of a file
    if (weir_slice_hold(transfer->data, slice, &pile->slices[pile->filling][*count])) {
        ftp_transfer_fail(transfer, -ENOMEM);
        return;
    }
    if (++*count == PILE_SLICES)
        upload_pause(transfer);
    if (!transfer->busy)
        upload_write_next(transfer);
}

// --- Receiving: converted or slowed down ---------------------------------------------------------

void ftp_upload_resume(struct ftp_transfer *transfer)
{
    // UNTESTED: the timer stops with the transfer
    if (transfer->phase != FTP_RUNNING || transfer->busy || !transfer->data)
        return;
    if (ftp_transfer_allowance(transfer, 1))
        upload_go_on(transfer);
}

static void upload_write(struct ftp_transfer *transfer, size_t done);

static void upload_written(struct weir_operation *operation, int64_t result)
{
    size_t asked = operation->size;
    size_t done = (size_t)(operation->data - upload_in_job(operation)->buffer);
    struct ftp_transfer *transfer = ftp_transfer_of(operation);
    if (result <= 0 && !transfer->error) {
        ftp_transfer_fail(transfer, result ? (int)result : -EIO);
        return;
    }
    if (transfer->error) {
        ftp_transfer_settle(transfer);
        return;
    }
    transfer->offset += (uint64_t)result;
    if ((size_t)result < asked)
        upload_write(transfer, done + (size_t)result);
    else if (transfer->ended)
        ftp_transfer_complete(transfer);
    else
        ftp_upload_resume(transfer);
}

static void upload_write(struct ftp_transfer *transfer, size_t done)
{
    ftp_transfer_own(transfer, upload_written);
    weir_file_write(transfer->file, &transfer->operation, transfer->buffer + done,
                    transfer->held - done, transfer->offset);
}

static void upload_convert(struct ftp_transfer *transfer, struct weir_slice slice)
{
    if (transfer->ascii) {
        transfer->held = (uint32_t)ftp_ascii_decode(&transfer->converter, slice.data, slice.size,
                                                    transfer->buffer);
    } else {
        memcpy(transfer->buffer, slice.data, slice.size);
        transfer->held = (uint32_t)slice.size;
    }
    if (!transfer->held)
        return; // a CR alone, which waits
    upload_pause(transfer);
    upload_write(transfer, 0);
}

// --- The data connection -------------------------------------------------------------------------

void ftp_upload_run(struct ftp_transfer *transfer)
{
    if (!transfer->buffer) {
        transfer->pile = calloc(1, sizeof *transfer->pile);
        if (!transfer->pile) {
            ftp_transfer_fail(transfer, -ENOMEM);
            return;
        }
        weir_stream_set_bulk(transfer->data, true);
    }
    weir_stream_resume(transfer->data);
}

void ftp_upload_received(struct ftp_transfer *transfer, struct weir_slice slice)
{
    // UNTESTED: bytes that were on their way when it failed
    if (transfer->error)
        return;
    transfer->moved += slice.size;
    if (!transfer->pile)
        upload_convert(transfer, slice);
    else if (!upload_write_now(transfer, slice))
        upload_pile(transfer, slice);
}

void ftp_upload_ended(struct ftp_transfer *transfer)
{
    // UNTESTED: an end that was on its way when it failed
    if (transfer->error)
        return;
    transfer->ended = true;
    if (transfer->pile) {
        if (!transfer->busy)
            upload_write_next(transfer);
    } else if (ftp_ascii_decode_end(&transfer->converter, transfer->buffer)) {
        transfer->held = 1;
        upload_write(transfer, 0);
    } else {
        ftp_transfer_complete(transfer);
    }
}

// --- Ending without a write: a job ---------------------------------------------------------------

static int upload_finish(struct weir_operation *operation)
{
    struct ftp_transfer *transfer = upload_in_job(operation);
    return upload_end(transfer, transfer->place.keeps, transfer->offset);
}

static void upload_finished(struct weir_operation *operation, int64_t result)
{
    struct ftp_transfer *transfer = ftp_transfer_of(operation);
    if (result < 0 && !transfer->error)
        transfer->error = (int32_t)result;
    ftp_transfer_settle(transfer);
}

void ftp_upload_finish(struct ftp_transfer *transfer)
{
    transfer->finishing = true;
    transfer->place.keeps = !transfer->error;
    ftp_transfer_own(transfer, upload_finished);
    transfer->operation.owed = true; // nobody else removes the file
    weir_job_start(transfer->loop, &transfer->operation, upload_finish);
}

// --- Commands ------------------------------------------------------------------------------------

static void upload_start(struct ftp_session *session, enum ftp_verb verb, const char *argument)
{
    char path[FTP_PATH_MAX];
    if (!ftp_session_may_write(session)) {
        ftp_reply(session, "553 Permission denied.");
        return;
    }
    if (!ftp_transfer_has_data(session) || !ftp_session_path(session, argument, path))
        return;
    struct ftp_transfer *transfer = ftp_transfer_create(session, FTP_UPLOAD, verb, path);
    if (!transfer)
        return;
    if (transfer->ascii && transfer->offset)
        transfer->offset = UINT64_MAX; // beyond the end of any file
    ftp_transfer_own(transfer, upload_opened);
    weir_job_start(transfer->loop, &transfer->operation, upload_open);
}

void ftp_transfer_stor(struct ftp_session *session, const char *argument)
{
    upload_start(session, FTP_STOR, argument);
}

void ftp_transfer_appe(struct ftp_session *session, const char *argument)
{
    session->restart = 0; // the end is where it goes on
    upload_start(session, FTP_APPE, argument);
}

void ftp_transfer_stou(struct ftp_session *session, const char *argument)
{
    char name[FTP_PATH_MAX + 32];
    uint64_t random;
    session->restart = 0;
    // UNTESTED: entropy is there when tests run
    if (strlen(argument) >= FTP_PATH_MAX || getrandom(&random, sizeof random, GRND_NONBLOCK) < 0) {
        ftp_reply(session, "553 No name was found.");
        return;
    }
    snprintf(name, sizeof name, "%s.%016llx", *argument ? argument : "upload",
             (unsigned long long)random);
    upload_start(session, FTP_STOU, name);
}
