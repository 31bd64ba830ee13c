// Data connections: streams that belong to a session until a transfer takes them.
//
// A passive one often stands before the command that uses it: it is paused meanwhile.
#include <errno.h>
#include <string.h>

#include "transfer.h"

static void data_give(struct weir_stream *stream, struct ftp_transfer *transfer)
{
    struct ftp_data *data = weir_stream_session(stream);
    data->transfer = transfer;
    transfer->data = stream;
}

static void data_run(struct ftp_transfer *transfer)
{
    static void (*const runs[])(struct ftp_transfer *) = {
        [FTP_DOWNLOAD] = ftp_download_run,
        [FTP_UPLOAD] = ftp_upload_run,
        [FTP_LISTING] = ftp_listing_run,
    };
    weir_timer_stop(transfer->loop, &transfer->timer);
    transfer->phase = FTP_RUNNING;
    transfer->begin_ns = weir_loop_now(transfer->loop);
    weir_stream_set_idle_timeout(transfer->data, transfer->server->data_timeout_ns);
    ftp_transfer_watch(transfer);
    runs[transfer->kind](transfer);
}

static void data_opened(struct weir_stream *stream)
{
    struct ftp_data *data = weir_stream_session(stream);
    struct ftp_transfer *transfer = data->transfer;
    weir_stream_pause(stream); // until an upload wants what comes
    if (!transfer) {           // passive
        data->session = weir_stream_context(stream);
        transfer = data->session->transfer;
        if (transfer && transfer->error) { // it ends already, and waits for its last job
            weir_stream_abort(stream);
            return;
        }
        if (!transfer || transfer->phase != FTP_WAITING) {
            data->session->data = stream;
            return;
        }
        data_give(stream, transfer);
    }
    data_run(transfer);
}

static void data_received(struct weir_stream *stream, struct weir_slice slice)
{
    struct ftp_data *data = weir_stream_session(stream);
    if (data->transfer && data->transfer->kind == FTP_UPLOAD)
        ftp_upload_received(data->transfer, slice);
}

static void data_drained(struct weir_stream *stream)
{
    struct ftp_data *data = weir_stream_session(stream);
    if (data->transfer)
        ftp_transfer_room(data->transfer);
}

static void data_ended(struct weir_stream *stream)
{
    struct ftp_data *data = weir_stream_session(stream);
    if (data->transfer && data->transfer->kind == FTP_UPLOAD)
        ftp_upload_ended(data->transfer);
}

// A drain lets transfers finish: the session decides.
static void data_draining(struct weir_stream *stream)
{
    (void)stream;
}

static void data_closed(struct weir_stream *stream, int reason)
{
    struct ftp_data *data = weir_stream_session(stream);
    struct ftp_transfer *transfer = data->transfer;
    if (!transfer) {
        if (data->session && data->session->data == stream)
            data->session->data = NULL;
        return;
    }
    ftp_upload_drop(transfer);
    transfer->data = NULL;
    if (reason || !transfer->complete)
        ftp_transfer_fail(transfer, reason ? reason : -ECONNRESET);
    else
        ftp_transfer_settle(transfer);
}

const struct weir_protocol ftp_data_protocol = {
    .name = "ftp-data",
    .session_size = sizeof(struct ftp_data),
    .opened = data_opened,
    .received = data_received,
    .drained = data_drained,
    .ended = data_ended,
    .draining = data_draining,
    .ageless = true, // it ends with the session
    .closed = data_closed,
};

// --- A transfer wants one ------------------------------------------------------------------------

static int data_connect(struct ftp_transfer *transfer)
{
    struct ftp_session *session = transfer->session;
    const struct serve_settings *serve = &transfer->server->serve;
    struct weir_address address, local;
    struct weir_stream *stream;
    int error = weir_stream_local_address(session->control, &local);
    if (error)
        return error;
    local.in.sin_port = 0; // the same place in both families
    memset(&address, 0, sizeof address);
    memcpy(&address.in6, &session->active, sizeof session->active);
    address.size =
        session->active.any.sa_family == AF_INET ? sizeof address.in : sizeof address.in6;
    session->active.any.sa_family = AF_UNSPEC; // PORT stands for one transfer
    const struct weir_connect_config config = {
        .socket = { .cork = true,
                    .send_buffer = (int)serve->send_buffer,
                    .receive_buffer = (int)serve->receive_buffer,
                    .notsent_lowat = (int)serve->notsent_lowat,
                    .keepalive = serve->keepalive },
        .protocol = &ftp_data_protocol,
        .local = &local,
        .timeout_ns = transfer->server->data_timeout_ns,
    };
    error = weir_stream_connect(transfer->loop, &address, &config, &stream);
    if (!error)
        data_give(stream, transfer);
    return error;
}

void ftp_data_attach(struct ftp_transfer *transfer)
{
    struct ftp_session *session = transfer->session;
    if (session->data) {
        data_give(session->data, transfer);
        session->data = NULL;
        data_run(transfer);
    } else if (!session->listener) {
        // The passive connection broke, or PORT was given.
        int error = session->active.any.sa_family ? data_connect(transfer) : -ENOTCONN;
        if (error)
            ftp_transfer_fail(transfer, error);
    }
}
