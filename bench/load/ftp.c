// See ftp.h.
#include "ftp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "worker.h"

enum { FTP_COMMAND_MAX = 1200, FTP_SAMPLE = 64 };

static const struct weir_protocol ftp_data_protocol;

const char *ftp_step_name(enum ftp_step step)
{
    static const char *const names[FTP_STEPS] = {
        [FTP_STEP_GREETING] = "greeting", [FTP_STEP_USER] = "user", [FTP_STEP_PASS] = "pass",
        [FTP_STEP_TYPE] = "type",         [FTP_STEP_EPSV] = "epsv", [FTP_STEP_BEGIN] = "begin",
        [FTP_STEP_DATA] = "data",         [FTP_STEP_NOOP] = "noop", [FTP_STEP_QUIT] = "quit",
    };
    return names[step];
}

static struct worker *ftp_worker(const struct ftp_session *session)
{
    return session->connection->worker;
}

static const struct options *ftp_options(const struct ftp_session *session)
{
    return ftp_worker(session)->options;
}

static bool ftp_downloads(const struct ftp_session *session)
{
    return session->beside || session->checking || ftp_options(session)->operation == FTP_RETR;
}

// --- Content -------------------------------------------------------------------------------------

static void ftp_hash_word(struct ftp_hash *hash, uint64_t word)
{
    hash->hash = (hash->hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    hash->hash ^= hash->hash >> 29;
}

static void ftp_hash_add(struct ftp_hash *hash, const char *data, size_t size)
{
    while (size) {
        uint64_t word;
        if (!hash->count && size >= sizeof word) {
            memcpy(&word, data, sizeof word);
            ftp_hash_word(hash, word);
            data += sizeof word;
            size -= sizeof word;
            continue;
        }
        hash->word |= (uint64_t)(unsigned char)*data++ << 8 * hash->count++;
        size--;
        if (hash->count == sizeof word) {
            ftp_hash_word(hash, hash->word);
            hash->word = hash->count = 0;
        }
    }
}

static uint64_t ftp_hash_end(struct ftp_hash *hash)
{
    ftp_hash_word(hash, hash->word);
    ftp_hash_word(hash, hash->count);
    return hash->hash;
}

// The most bytes that this download may have.
static uint64_t ftp_length_max(const struct ftp_session *session)
{
    const struct options *options = ftp_options(session);
    const struct ftp_file *file = &ftp_worker(session)->ftp_files[session->number];
    if (session->beside)
        return UINT64_MAX;
    if (session->checking || options->size)
        return options->size;
    return file->known ? file->length : UINT64_MAX;
}

// A whole download: whether it is as long as it must be, and what the first one was.
static bool ftp_is_right(struct ftp_session *session)
{
    struct ftp_file *file = &ftp_worker(session)->ftp_files[session->number];
    if (session->beside)
        return true;
    if (session->checking || ftp_options(session)->size) {
        if (session->moved != ftp_options(session)->size)
            return false;
    } else if (file->known && file->length != session->moved) {
        return false;
    }
    if (session->checking)
        return true; // each byte was compared as it came
    file->known = true;
    file->length = session->moved;
    if (!session->compares)
        return true;
    uint64_t hash = ftp_hash_end(&session->hash);
    bool right = !file->hashed || file->hash == hash;
    file->hash = hash;
    file->hashed = true;
    return right;
}

// --- Commands ------------------------------------------------------------------------------------

static void ftp_wait(struct ftp_session *session, enum ftp_step step)
{
    session->step = (uint8_t)step;
    session->sent_ns = weir_clock_now();
}

static void ftp_send(struct ftp_session *session, enum ftp_step step, const char *verb,
                     const char *argument)
{
    char line[FTP_COMMAND_MAX];
    int size =
        snprintf(line, sizeof line, "%s%s%s\r\n", verb, argument && *argument ? " " : "", argument);
    weir_stream_send(session->connection->stream, line, (size_t)size);
    ftp_wait(session, step);
}

// The path of the transfer: {} is the file's number. Uploads have files of their own.
static void ftp_path(struct ftp_session *session, char ret_path[FTP_COMMAND_MAX])
{
    const struct options *options = ftp_options(session);
    const char *path = session->beside ? options->beside : options->path;
    const char *place = session->beside ? NULL : strstr(path, "{}");
    if (!place)
        snprintf(ret_path, FTP_COMMAND_MAX, "%.1100s", path);
    else
        snprintf(ret_path, FTP_COMMAND_MAX, "%.*s%u%.500s", (int)(place - path), path,
                 session->number, place + 2);
}

// Sessions take turns with the files of a download; what each stores is its own.
static uint32_t ftp_number(const struct ftp_session *session)
{
    const struct options *options = ftp_options(session);
    const struct worker *worker = ftp_worker(session);
    uint64_t at =
        (uint64_t)(session->connection - worker->connections) * options->threads + worker->index;
    if (options->operation == FTP_STOR)
        return (uint32_t)(session->transfer % options->files * options->connections + at);
    return (uint32_t)((session->transfer * options->connections + at) % options->files);
}

static void ftp_transfer(struct ftp_session *session)
{
    session->moved = 0;
    session->hash = (struct ftp_hash){ 0 };
    session->told = session->opened = session->ended = session->whole = false;
    ftp_send(session, FTP_STEP_EPSV, "EPSV", "");
}

void ftp_start(struct ftp_session *session)
{
    const struct options *options = ftp_options(session);
    const struct worker *worker = ftp_worker(session);
    if (options->operation == FTP_NOOP && !session->beside) {
        ftp_send(session, FTP_STEP_NOOP, "NOOP", "");
        return;
    }
    session->compares = !session->beside && client_compares(session->connection);
    session->checking = false;
    if (!session->beside)
        session->number = ftp_number(session);
    uint64_t identity = options->seed ^ (uint64_t)session->number << 20 ^ session->transfer;
    session->begin = session->offset = payload_start(worker->payload, identity);
    session->transfer++;
    ftp_transfer(session);
}

void ftp_quit(struct ftp_session *session)
{
    ftp_send(session, FTP_STEP_QUIT, "QUIT", "");
}

// --- The data connection -------------------------------------------------------------------------

static void ftp_data_break(struct ftp_session *session, enum failure failure)
{
    client_abort(session->connection, failure);
}

static void ftp_done(struct ftp_session *session, uint64_t now_ns);

// Both the data's end and the last reply are needed, in either order.
static void ftp_end_transfer(struct ftp_session *session)
{
    if (!session->ended || !session->whole)
        return;
    if (ftp_downloads(session) && !ftp_is_right(session)) {
        ftp_data_break(session, FAILURE_CORRUPT);
        return;
    }
    ftp_done(session, weir_loop_now(ftp_worker(session)->loop));
}

static void ftp_data_end(struct ftp_session *session)
{
    session->data = NULL;
    session->ended = true;
    ftp_end_transfer(session);
}

// Queues as much as the stream likes; `drained` goes on.
static void ftp_data_send(struct ftp_session *session)
{
    const struct payload *payload = ftp_worker(session)->payload;
    uint64_t size = ftp_options(session)->size;
    if (!session->told || !session->opened || session->moved == size)
        return;
    while (session->moved < size && !weir_stream_is_full(session->data)) {
        uint64_t left = size - session->moved;
        size_t piece = left < payload->chunk ? (size_t)left : payload->chunk;
        weir_stream_send_static(session->data, payload->region + session->offset, piece);
        session->offset = payload_advance(payload, session->offset, piece);
        session->moved += piece;
    }
    if (session->moved == size)
        weir_stream_close(session->data);
}

static void ftp_data_opened(struct weir_stream *stream)
{
    struct ftp_session *session = weir_stream_context(stream);
    if (session->data != stream)
        return;
    session->opened = true;
    if (!ftp_downloads(session))
        ftp_data_send(session);
}

static void ftp_data_drained(struct weir_stream *stream)
{
    struct ftp_session *session = weir_stream_context(stream);
    if (session->data == stream && !ftp_downloads(session))
        ftp_data_send(session);
}

static void ftp_data_received(struct weir_stream *stream, struct weir_slice slice)
{
    struct ftp_session *session = weir_stream_context(stream);
    if (session->data != stream)
        return;
    if (!ftp_downloads(session)) {
        ftp_data_break(session, FAILURE_EXCESS);
        return;
    }
    session->moved += slice.size;
    bool right = session->moved <= ftp_length_max(session);
    if (right && session->checking)
        right =
            payload_matches(ftp_worker(session)->payload, session->offset, slice.data, slice.size);
    else if (session->compares)
        ftp_hash_add(&session->hash, slice.data, slice.size);
    session->offset = payload_advance(ftp_worker(session)->payload, session->offset, slice.size);
    if (session->beside && worker_in_window(ftp_worker(session), weir_clock_now()))
        ftp_worker(session)->result.beside_bytes += slice.size;
    if (!right)
        ftp_data_break(session, FAILURE_CORRUPT);
}

static void ftp_data_ended(struct weir_stream *stream)
{
    struct ftp_session *session = weir_stream_context(stream);
    weir_stream_close(stream);
    if (session->data != stream)
        return;
    if (ftp_downloads(session))
        ftp_data_end(session);
    else
        ftp_data_break(session, FAILURE_CLOSED_EARLY);
}

static void ftp_data_closed(struct weir_stream *stream, int reason)
{
    struct ftp_session *session = weir_stream_context(stream);
    if (session->data != stream || ftp_worker(session)->phase == PHASE_DONE)
        return;
    if (reason) {
        session->data = NULL;
        ftp_data_break(session, client_failure(session->connection, reason));
    } else {
        ftp_data_end(session);
    }
}

static const struct weir_protocol ftp_data_protocol = {
    .name = "load-ftp-data",
    .opened = ftp_data_opened,
    .received = ftp_data_received,
    .drained = ftp_data_drained,
    .ended = ftp_data_ended,
    .closed = ftp_data_closed,
};

// Connects, and asks for the transfer at once: neither waits for the other.
static void ftp_data_connect(struct ftp_session *session, uint16_t port)
{
    const struct options *options = ftp_options(session);
    struct weir_address address, local = options->local;
    char path[FTP_COMMAND_MAX];
    weir_stream_peer_address(session->connection->stream, &address);
    address.in.sin_port = htons(port); // the same place in both families
    local.in.sin_port = 0;
    const struct weir_connect_config config = {
        .protocol = &ftp_data_protocol,
        .context = session,
        .local = local.size ? &local : NULL,
        .timeout_ns = options->timeout_ns,
    };
    int error = weir_stream_connect(ftp_worker(session)->loop, &address, &config, &session->data);
    if (error) {
        session->data = NULL;
        ftp_data_break(session, client_failure(session->connection, error));
        return;
    }
    ftp_path(session, path);
    ftp_send(session, FTP_STEP_BEGIN, ftp_downloads(session) ? "RETR" : "STOR", path);
}

// --- Replies -------------------------------------------------------------------------------------

// An operation ended; an upload may first be taken back.
static void ftp_done(struct ftp_session *session, uint64_t now_ns)
{
    struct connection *connection = session->connection;
    bool checks = session->compares && ftp_options(session)->operation == FTP_STOR;
    session->step = FTP_STEPS;
    if (session->beside) {
        ftp_start(session);
        return;
    }
    if (checks && !session->checking) {
        session->checking = true;
        session->done_ns = now_ns;
        session->offset = session->begin;
        ftp_transfer(session);
        return;
    }
    connection->received = session->checking ? ftp_options(session)->size : session->moved;
    client_completed(connection, session->checking ? session->done_ns : now_ns, session->compares);
}

static void ftp_logged_in(struct ftp_session *session)
{
    session->step = FTP_STEPS;
    client_ready(session->connection);
    if (session->beside)
        ftp_start(session);
}

static void ftp_step_greeting(struct ftp_session *session)
{
    ftp_send(session, FTP_STEP_USER, "USER", ftp_options(session)->user);
}

static void ftp_step_pass(struct ftp_session *session)
{
    if (ftp_options(session)->operation == FTP_LOGIN && !session->connection->idle)
        ftp_logged_in(session);
    else
        ftp_send(session, FTP_STEP_TYPE, "TYPE", "I");
}

static void ftp_step_user(struct ftp_session *session)
{
    if (session->reply.code == 230)
        ftp_step_pass(session);
    else
        ftp_send(session, FTP_STEP_PASS, "PASS", ftp_options(session)->password);
}

static void ftp_step_epsv(struct ftp_session *session)
{
    uint16_t port = ftp_reply_port(&session->reply);
    if (port)
        ftp_data_connect(session, port);
    else
        client_abort(session->connection, FAILURE_MALFORMED);
}

static void ftp_step_begin(struct ftp_session *session)
{
    ftp_wait(session, FTP_STEP_DATA);
    session->told = true;
    if (!ftp_downloads(session) && session->data)
        ftp_data_send(session);
}

static void ftp_step_data(struct ftp_session *session)
{
    session->whole = true;
    ftp_end_transfer(session);
}

static void ftp_step_noop(struct ftp_session *session)
{
    ftp_done(session, weir_loop_now(ftp_worker(session)->loop));
}

static void ftp_step_quit(struct ftp_session *session)
{
    session->step = FTP_STEPS;
    client_operation_done(session->connection, weir_loop_now(ftp_worker(session)->loop));
}

// What a step's reply may be, and what follows.
static const struct {
    uint32_t codes[2];
    void (*go_on)(struct ftp_session *session);
} ftp_steps[FTP_STEPS] = {
    [FTP_STEP_GREETING] = { { 220, 220 }, ftp_step_greeting },
    [FTP_STEP_USER] = { { 331, 230 }, ftp_step_user },
    [FTP_STEP_PASS] = { { 230, 202 }, ftp_step_pass },
    [FTP_STEP_TYPE] = { { 200, 200 }, ftp_logged_in },
    [FTP_STEP_EPSV] = { { 229, 229 }, ftp_step_epsv },
    [FTP_STEP_BEGIN] = { { 150, 125 }, ftp_step_begin },
    [FTP_STEP_DATA] = { { 226, 250 }, ftp_step_data },
    [FTP_STEP_NOOP] = { { 200, 200 }, ftp_step_noop },
    [FTP_STEP_QUIT] = { { 221, 221 }, ftp_step_quit },
};

// A refusal, an answer of another kind, or one that nothing asked for.
static enum failure ftp_judge(const struct ftp_session *session)
{
    uint32_t code = session->reply.code;
    if (code >= 400)
        return FAILURE_STATUS;
    if (session->step == FTP_STEPS)
        return FAILURE_EXCESS;
    const uint32_t *codes = ftp_steps[session->step].codes;
    return code == codes[0] || code == codes[1] ? FAILURE_COUNT : FAILURE_MALFORMED;
}

static void ftp_replied(struct ftp_session *session)
{
    struct worker *worker = ftp_worker(session);
    enum failure failure = ftp_judge(session);
    uint64_t now_ns = weir_loop_now(worker->loop);
    if (failure != FAILURE_COUNT) {
        client_refused(session->connection, failure);
        return;
    }
    // What came in the same turn as its command left was read with an older clock.
    if (worker_ended_in_window(worker, now_ns) && !session->beside && !session->checking)
        histogram_record(worker->result.steps[session->step],
                         now_ns > session->sent_ns ? now_ns - session->sent_ns : 1);
    ftp_steps[session->step].go_on(session);
}

void ftp_received(struct ftp_session *session, struct weir_slice slice)
{
    const struct connection *connection = session->connection;
    const struct weir_stream *stream = connection->stream;
    while (slice.size && connection->stream == stream) {
        size_t used;
        enum ftp_reply_result result =
            ftp_reply_take(&session->reply, slice.data, slice.size, &used);
        slice.data += used;
        slice.size -= used;
        if (result == FTP_REPLY_MALFORMED)
            client_refused(session->connection, FAILURE_MALFORMED);
        else if (result == FTP_REPLY_WHOLE)
            ftp_replied(session);
    }
}

// --- Begin and end -------------------------------------------------------------------------------

void ftp_connect(struct ftp_session *session)
{
    session->reply = (struct ftp_reply){ 0 };
    session->compares = session->checking = false;
    ftp_wait(session, FTP_STEP_GREETING);
}

void ftp_drop(struct ftp_session *session)
{
    struct weir_stream *data = session->data;
    session->data = NULL;
    session->step = FTP_STEPS;
    if (data)
        weir_stream_abort(data);
}

int ftp_init(struct worker *worker, uint32_t count)
{
    const struct options *options = worker->options;
    uint64_t files = options->files;
    if (options->operation == FTP_STOR)
        files *= options->connections;
    worker->ftp_sessions = calloc(count, sizeof *worker->ftp_sessions);
    worker->ftp_files = calloc(files, sizeof *worker->ftp_files);
    for (uint32_t i = 0; i < FTP_STEPS; i++) {
        worker->result.steps[i] = histogram_create();
        if (!worker->result.steps[i])
            return -ENOMEM;
    }
    return worker->ftp_sessions && worker->ftp_files ? 0 : -ENOMEM;
}

void ftp_fini(struct worker *worker)
{
    free(worker->ftp_sessions);
    free(worker->ftp_files);
    worker->ftp_sessions = NULL;
    worker->ftp_files = NULL;
}
