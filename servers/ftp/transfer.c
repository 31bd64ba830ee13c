// See transfer.h: how transfers begin, fail and end, whatever they move.
#include "transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Rates are kept by a budget that grows with time; it begins with, and is looked at every,
// twentieth of a second.
enum { TRANSFER_SLICES = 20, TRANSFER_SLICE_MIN = 1024 };

// --- Beginning -----------------------------------------------------------------------------------

bool ftp_transfer_has_data(struct ftp_session *session)
{
    if (session->listener || session->data || session->active.any.sa_family)
        return true;
    ftp_reply(session, "425 Use PASV, EPSV, PORT or EPRT first.");
    return false;
}

struct ftp_transfer *ftp_transfer_create(struct ftp_session *session, enum ftp_kind kind,
                                         enum ftp_verb verb, const char *path)
{
    size_t size = strlen(path) + 1;
    struct ftp_transfer *transfer = calloc(1, sizeof *transfer + size);
    char *user = strdup(session->name);
    int root_fd = -1, error = transfer && user ? 0 : -ENOMEM;
    if (!error && kind != FTP_DOWNLOAD) {
        root_fd = fcntl(session->root_fd, F_DUPFD_CLOEXEC, 0);
        error = root_fd < 0 ? -errno : 0;
    }
    if (error) {
        free(transfer);
        free(user);
        session->restart = 0; // REST was for this transfer
        ftp_reply_error(session, 451, error);
        return NULL;
    }
    transfer->session = session;
    transfer->server = session->server;
    transfer->loop = weir_stream_loop(session->control);
    transfer->kind = kind;
    transfer->verb = verb;
    transfer->user = user;
    transfer->ascii = session->ascii;
    transfer->offset = session->restart;
    transfer->root_fd = root_fd;
    transfer->place.parent_fd = transfer->place.file_fd = -1;
    transfer->start_ns = weir_loop_now(transfer->loop);
    ftp_session_host(session, transfer->host);
    memcpy(transfer->path, path, size);
    transfer->name = strrchr(transfer->path, '/') + 1;
    session->restart = 0;
    session->transfer = transfer;
    session->busy = true;
    return transfer;
}

struct ftp_transfer *ftp_transfer_of(struct weir_operation *operation)
{
    struct ftp_transfer *transfer =
        (struct ftp_transfer *)(void *)((char *)operation -
                                        offsetof(struct ftp_transfer, operation));
    transfer->busy = false;
    return transfer;
}

void ftp_transfer_own(struct ftp_transfer *transfer,
                      void (*done)(struct weir_operation *operation, int64_t result))
{
    transfer->operation = (struct weir_operation){ .done = done };
    transfer->busy = true;
}

struct weir_stream *ftp_transfer_out(struct ftp_transfer *transfer)
{
    if (transfer->verb == FTP_STAT)
        return transfer->session ? transfer->session->control : NULL;
    return transfer->data;
}

static struct ftp_transfer *transfer_of_timer(struct weir_timer *timer)
{
    return (struct ftp_transfer *)(void *)((char *)timer - offsetof(struct ftp_transfer, timer));
}

static void transfer_not_connected(struct weir_loop *loop, struct weir_timer *timer)
{
    (void)loop;
    ftp_transfer_fail(transfer_of_timer(timer), -ETIMEDOUT);
}

static void transfer_announce(struct ftp_transfer *transfer)
{
    struct ftp_session *session = transfer->session;
    transfer->told = true;
    if (transfer->verb == FTP_RETR)
        ftp_reply_format(session, "150 Opening data connection (%llu bytes).",
                         (unsigned long long)transfer->size);
    else if (transfer->verb == FTP_STOU) // RFC 1123, 4.1.2.9
        ftp_reply_name(session, "150 FILE: ", transfer->name, "");
    else if (transfer->verb == FTP_STAT)
        ftp_reply(session, "213-Status:");
    else
        ftp_reply(session, "150 Opening data connection.");
}

void ftp_transfer_opened(struct ftp_transfer *transfer)
{
    if (transfer->error) {
        ftp_transfer_settle(transfer);
        return;
    }
    transfer_announce(transfer);
    if (transfer->verb == FTP_STAT) {
        transfer->phase = FTP_RUNNING;
        // The session's own time-out waits for the command, and this one for its client.
        weir_stream_set_idle_timeout(transfer->session->control, transfer->server->idle_timeout_ns);
        ftp_transfer_watch(transfer);
        ftp_listing_run(transfer);
        return;
    }
    transfer->phase = FTP_WAITING;
    transfer->timer.function = transfer_not_connected;
    if (transfer->server->data_timeout_ns)
        weir_timer_start(transfer->loop, &transfer->timer, transfer->server->data_timeout_ns);
    ftp_data_attach(transfer);
}

// --- Running -------------------------------------------------------------------------------------

static void transfer_go_on(struct weir_loop *loop, struct weir_timer *timer)
{
    struct ftp_transfer *transfer = transfer_of_timer(timer);
    (void)loop;
    if (transfer->kind == FTP_UPLOAD)
        ftp_upload_resume(transfer);
    else
        ftp_transfer_room(transfer);
}

uint64_t ftp_transfer_allowance(struct ftp_transfer *transfer, uint64_t wanted)
{
    uint64_t rate = transfer->server->rate_limit;
    if (!rate)
        return wanted;
    uint64_t slice = rate / TRANSFER_SLICES;
    // UNTESTED: rates so small take too long to test
    if (slice < TRANSFER_SLICE_MIN)
        slice = TRANSFER_SLICE_MIN;
    double seconds = (double)(weir_loop_now(transfer->loop) - transfer->begin_ns) / 1e9;
    double budget = seconds * (double)rate + (double)slice - (double)transfer->moved;
    if (budget >= (double)slice || budget >= (double)wanted)
        return (double)wanted < budget ? wanted : (uint64_t)budget;
    transfer->timer.function = transfer_go_on;
    double wait = ((double)slice - budget) / (double)rate;
    weir_timer_start(transfer->loop, &transfer->timer, (uint64_t)(wait * 1e9) + 1);
    return 0;
}

void ftp_transfer_room(struct ftp_transfer *transfer)
{
    // UNTESTED: room that comes behind the end
    if (transfer->phase != FTP_RUNNING || transfer->busy || transfer->complete || transfer->error)
        return;
    if (transfer->kind == FTP_DOWNLOAD)
        ftp_download_run(transfer);
    else if (transfer->kind == FTP_LISTING)
        ftp_listing_run(transfer);
}

void ftp_transfer_complete(struct ftp_transfer *transfer)
{
    transfer->complete = true;
    if (transfer->data)
        weir_stream_close(transfer->data);
    else
        ftp_transfer_settle(transfer);
}

void ftp_transfer_fail(struct ftp_transfer *transfer, int error)
{
    if (!transfer->error)
        transfer->error = error;
    weir_timer_stop(transfer->loop, &transfer->timer);
    weir_timer_stop(transfer->loop, &transfer->watch);
    if (transfer->data)
        weir_stream_abort(transfer->data);
    ftp_transfer_settle(transfer);
}

bool ftp_transfer_abort(struct ftp_transfer *transfer)
{
    if (transfer->finishing || transfer->aborted || transfer->verb == FTP_STAT)
        return false;
    transfer->aborted = true;
    ftp_transfer_fail(transfer, -ECANCELED);
    return true;
}

void ftp_transfer_orphan(struct ftp_transfer *transfer)
{
    transfer->session = NULL;
    ftp_transfer_fail(transfer, -ECONNRESET);
}

// --- Too slow ------------------------------------------------------------------------------------

// Bytes that must move between two looks. The rate limit is the server's own slowness.
static double transfer_least(const struct ftp_server *server)
{
    uint64_t rate = server->rate_min;
    if (server->rate_limit && server->rate_limit / 2 < rate)
        rate = server->rate_limit / 2;
    return (double)rate * (double)server->data_timeout_ns / 1e9;
}

// Whether the client was to move bytes at this look and at the last: who waits for the disk, or for
// the rate limit, is not slow.
static bool transfer_waits(struct ftp_transfer *transfer, uint64_t queued)
{
    bool waited = transfer->waited;
    transfer->waited =
        transfer->kind == FTP_UPLOAD ? !transfer->ended && !transfer->paused : queued > 0;
    return waited && transfer->waited;
}

static void transfer_look(struct weir_loop *loop, struct weir_timer *timer)
{
    struct ftp_transfer *transfer =
        (struct ftp_transfer *)(void *)((char *)timer - offsetof(struct ftp_transfer, watch));
    const struct weir_stream *out =
        transfer->kind == FTP_UPLOAD ? NULL : ftp_transfer_out(transfer);
    uint64_t queued = out ? weir_stream_queued(out) : 0;
    uint64_t progress = transfer->moved > queued ? transfer->moved - queued : 0;
    double least = (double)transfer->progress + transfer_least(transfer->server);
    transfer->progress = progress;
    if (!transfer_waits(transfer, queued) || (double)progress >= least)
        weir_timer_start(loop, timer, transfer->server->data_timeout_ns);
    else if (transfer->verb == FTP_STAT) // its client does not take the reply either
        ftp_session_reset(transfer->session);
    else
        ftp_transfer_fail(transfer, -ETIME);
}

void ftp_transfer_watch(struct ftp_transfer *transfer)
{
    const struct ftp_server *server = transfer->server;
    transfer->watch.function = transfer_look;
    if (server->rate_min && server->data_timeout_ns)
        weir_timer_start(transfer->loop, &transfer->watch, server->data_timeout_ns);
}

// --- Ending --------------------------------------------------------------------------------------

static const struct {
    int error;
    int code;
    const char *text;
} transfer_replies[] = {
    { -ECONNRESET, 426, "The data connection broke." },
    { -EPIPE, 426, "The data connection broke." },
    { -ECANCELED, 426, "The data connection broke." },
    { -ETIMEDOUT, 426, "The data connection stood still." },
    { -ETIME, 426, "The data connection is too slow." },
    { -ENOSPC, 452, "No space left." },
    { -EDQUOT, 552, "The quota is exceeded." },
    { -EFBIG, 552, "The file is too large." },
    { -EEXIST, 553, "It exists already." },
    { -EISDIR, 553, "It is a directory." },
    { -EACCES, 553, "Permission denied." },
};

static int transfer_code(const struct ftp_transfer *transfer, const char **ret_text)
{
    *ret_text = "Transfer complete.";
    if (!transfer->error)
        return 226;
    if (transfer->phase == FTP_WAITING) {
        *ret_text = "No data connection.";
        return 425;
    }
    for (size_t i = 0; i < sizeof transfer_replies / sizeof transfer_replies[0]; i++) {
        if (transfer_replies[i].error == transfer->error) {
            *ret_text = transfer_replies[i].text;
            return transfer_replies[i].code;
        }
    }
    *ret_text = transfer->kind == FTP_UPLOAD ? "The file could not be written."
                                             : "The file could not be read.";
    return 451;
}

// The command could not begin.
static int transfer_refuse(struct ftp_transfer *transfer)
{
    struct ftp_session *session = transfer->session;
    int code = transfer->kind == FTP_UPLOAD ? 553 : 550;
    if (transfer->error == -ENOSPC || transfer->error == -EDQUOT)
        code = 452;
    if (transfer->error == -ENOTDIR && transfer->verb == FTP_MLSD)
        code = 501; // RFC 3659, 7.2.1
    if (transfer->error == -ERANGE) {
        code = 554; // RFC 3659, 5.3
        ftp_reply(session, "554 REST is beyond the end of the file.");
    } else {
        ftp_reply_error(session, code, transfer->error);
    }
    return code;
}

static int transfer_reply(struct ftp_transfer *transfer)
{
    const char *text;
    struct ftp_session *session = transfer->session;
    int code = transfer_code(transfer, &text);
    if (!session)
        return transfer->error ? 426 : code;
    if (transfer->aborted) {
        ftp_reply(session, "426 Transfer aborted.");
        ftp_reply(session, "226 Abort done.");
        return 426;
    }
    if (!transfer->told)
        return transfer_refuse(transfer);
    if (transfer->verb == FTP_STAT)
        ftp_reply(session, transfer->error ? "213 The directory could not be read." : "213 End");
    else
        ftp_reply_format(session, "%d %s", code, text);
    return code;
}

static void transfer_record(const struct ftp_transfer *transfer, int code)
{
    ftp_count(transfer->server,
              transfer->error ? FTP_COUNTER_TRANSFERS_FAILED : FTP_COUNTER_TRANSFERS);
    ftp_log_transfer(transfer, code);
}

static void transfer_end(struct ftp_transfer *transfer)
{
    struct ftp_session *session = transfer->session;
    enum ftp_verb verb = transfer->verb;
    int code = transfer_reply(transfer);
    if (transfer->kind != FTP_LISTING)
        transfer_record(transfer, code);
    weir_timer_stop(transfer->loop, &transfer->timer);
    weir_timer_stop(transfer->loop, &transfer->watch);
    weir_file_release(transfer->file);
    ftp_listing_free(transfer->listing);
    if (transfer->root_fd >= 0)
        close(transfer->root_fd);
    if (transfer->place.parent_fd >= 0)
        close(transfer->place.parent_fd);
    free(transfer->pile);
    free(transfer->buffer);
    free(transfer->user);
    free(transfer);
    if (!session)
        return;
    if (verb == FTP_STAT)
        weir_stream_set_idle_timeout(session->control, 0);
    session->transfer = NULL;
    session->busy = false;
    ftp_session_continue(session);
}

void ftp_transfer_settle(struct ftp_transfer *transfer)
{
    if (transfer->busy || transfer->data || (!transfer->error && !transfer->complete))
        return;
    // Without memory for its handle, a temporary file is there and `file` is not.
    if (transfer->kind == FTP_UPLOAD && !transfer->finishing &&
        (transfer->file || *transfer->place.temporary))
        ftp_upload_finish(transfer);
    else
        transfer_end(transfer);
}

// --- Commands without a transfer -----------------------------------------------------------------

void ftp_transfer_unneeded(struct ftp_session *session, const char *argument)
{
    (void)argument;
    ftp_session_forget_data(session);
    ftp_reply(session, "226 Nothing to abort.");
}
