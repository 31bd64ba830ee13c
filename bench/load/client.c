// The connections of one worker: opening, sending, checking replies, failing and opening again.
//
// Callbacks only account for what arrived and put connections into lists. Requests start after the
// callbacks of a turn, all with one reading of the clock, and what starts on one connection leaves
// in one send. Nothing here allocates after client_init().
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "worker.h"

enum { CLIENT_SAMPLE = 64 }; // of so many replies on a connection, one is compared

#define CLIENT_CONNECT_NS UINT64_C(10000000000) // without --timeout
#define CLIENT_BACKOFF_MIN_NS UINT64_C(10000000)
#define CLIENT_BACKOFF_MAX_NS UINT64_C(640000000)
#define CLIENT_SCAN_MAX_NS UINT64_C(100000000)

static void client_connect(struct connection *connection);

// --- Results -------------------------------------------------------------------------------------

// Keeps what of the request's time does not lie on the same side of the window's ends.
static void client_carry(struct worker *worker, const struct request *request, uint64_t done_ns)
{
    const struct worker_order *order = &worker->order;
    uint64_t until_ns = done_ns < order->to_ns ? done_ns : order->to_ns;
    if (worker->options->turns)
        return; // nothing reaches over a turn's end
    if (request->sent_ns < order->from_ns && until_ns > order->from_ns)
        worker->result.carried_in_ns += until_ns - order->from_ns;
    if (worker_in_window(worker, request->sent_ns) && done_ns > order->to_ns)
        worker->result.carried_out_ns += done_ns - order->to_ns;
}

static void client_record(struct worker *worker, const struct request *request, uint64_t done_ns)
{
    worker->running--;
    client_carry(worker, request, done_ns);
    if (worker_ended_in_window(worker, done_ns))
        worker->result.ops++;
    if (!worker_counts(worker, request))
        return;
    histogram_record(worker->result.service, done_ns - request->sent_ns);
    if (worker->result.response)
        histogram_record(worker->result.response, done_ns - request->intended_ns);
}

static void client_censor_request(struct worker *worker, const struct request *request,
                                  uint64_t now_ns)
{
    worker->running--;
    client_carry(worker, request, now_ns);
    if (!worker_counts(worker, request))
        return;
    worker->result.censored++;
    histogram_record(worker->result.service, now_ns - request->sent_ns);
    if (worker->result.response)
        histogram_record(worker->result.response, now_ns - request->intended_ns);
}

// --- Failures ------------------------------------------------------------------------------------

enum failure client_failure(const struct connection *connection, int reason)
{
    switch (-reason) {
    case ECONNREFUSED:
    case ENOENT: // a unix socket that does not exist
    case EAGAIN: // or whose backlog is full
        return FAILURE_REFUSED;
    case ETIMEDOUT:
        return connection->open ? FAILURE_RESET : FAILURE_CONNECT_TIMEOUT;
    case EHOSTUNREACH:
    case ENETUNREACH:
        return FAILURE_UNREACHABLE;
    case EADDRNOTAVAIL:
        return FAILURE_NO_PORT;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
    case ENOSPC:
        return FAILURE_LIMIT;
    case ECONNRESET:
    case EPIPE:
        return FAILURE_RESET;
    case 0:
        return connection->outstanding ? FAILURE_CLOSED_EARLY : FAILURE_CLOSED_QUIET;
    }
    return FAILURE_OTHER;
}

// The requests of a failed connection got no answer.
static void client_lose(struct connection *connection)
{
    struct worker *worker = connection->worker;
    const struct options *options = worker->options;
    uint32_t count = options->churn ? connection->running : connection->outstanding;
    for (uint32_t i = 0; i < count; i++) {
        const struct request *request =
            &connection->requests[(connection->head + i) % options->depth];
        worker->running--;
        worker->result.lost += worker_counts(worker, request);
    }
    connection->running = false;
    connection->outstanding = connection->starting = connection->unstarted = 0;
}

// Gives the connection up and puts it among those that are opened again after the back-off. The
// caller ends the stream.
static void client_fail(struct connection *connection, enum failure failure)
{
    struct worker *worker = connection->worker;
    worker->result.failures[failure]++;
    client_lose(connection);
    if (connection->ftp)
        ftp_drop(connection->ftp);
    if (connection->open)
        atomic_fetch_sub_explicit(&worker->open, 1, memory_order_relaxed);
    if (connection->connecting)
        worker->connecting--;
    connection->open = connection->connecting = false;
    connection->stream = NULL;
    lists_add(&worker->failed, connection);
    if (!worker->retry_running) {
        worker->retry_running = true;
        weir_timer_start(worker->loop, &worker->retry_timer, worker->backoff_ns);
    }
}

// An attempt to connect failed: what the main thread reports when none ever succeeded.
static void client_count_refusal(struct worker *worker, int reason)
{
    atomic_store_explicit(&worker->last_error, -reason, memory_order_relaxed);
    atomic_fetch_add_explicit(&worker->refused, 1, memory_order_relaxed);
}

static void client_unconnected(struct connection *connection, int reason)
{
    client_count_refusal(connection->worker, reason);
    client_fail(connection, client_failure(connection, reason));
}

void client_abort(struct connection *connection, enum failure failure)
{
    struct weir_stream *stream = connection->stream;
    client_fail(connection, failure);
    weir_stream_abort(stream);
}

void client_refused(struct connection *connection, enum failure failure)
{
    if (!connection->open)
        client_count_refusal(connection->worker, failure == FAILURE_STATUS ? -EACCES : -EPROTO);
    client_abort(connection, failure);
}

// --- Opening -------------------------------------------------------------------------------------

static bool client_churns(const struct connection *connection)
{
    return connection->worker->options->churn && !connection->idle;
}

static void client_connect_more(struct worker *worker)
{
    while (worker->connecting < worker->connecting_max && worker->waiting.first)
        client_connect(lists_take(&worker->waiting));
}

// The back-off is over. It doubles until a connection opens again.
static void client_retry(struct weir_loop *loop, struct weir_timer *timer)
{
    struct worker *worker = container_of(timer, struct worker, retry_timer);
    struct connection *connection;
    (void)loop;
    worker->retry_running = false;
    if (worker->backoff_ns < CLIENT_BACKOFF_MAX_NS)
        worker->backoff_ns *= 2;
    while ((connection = lists_take(&worker->failed))) {
        if (client_churns(connection))
            lists_free_add(connection);
        else
            lists_add(&worker->waiting, connection);
    }
    client_connect_more(worker);
}

// The operation is a login and nothing else.
static bool client_logs_in(const struct connection *connection)
{
    return client_churns(connection) && connection->ftp &&
           connection->worker->options->operation == FTP_LOGIN;
}

static void client_start_echoes(struct connection *connection)
{
    const struct options *options = connection->worker->options;
    uint32_t count = options->churn < options->depth ? options->churn : options->depth;
    connection->unstarted = options->churn - count;
    connection->outstanding = connection->starting = count;
    lists_starting_add(connection);
}

// Requests may start: a churned connection's do at once.
void client_ready(struct connection *connection)
{
    struct worker *worker = connection->worker;
    worker->connecting--;
    worker->backoff_ns = CLIENT_BACKOFF_MIN_NS;
    worker->result.opened++;
    atomic_fetch_add_explicit(&worker->opened, 1, memory_order_relaxed);
    uint32_t open = 1 + atomic_fetch_add_explicit(&worker->open, 1, memory_order_relaxed);
    connection->connecting = false;
    connection->open = true;
    if (client_logs_in(connection))
        ftp_quit(connection->ftp);
    else if (client_churns(connection))
        client_start_echoes(connection);
    else if (!connection->idle)
        lists_free_add(connection);
    if (worker->phase == PHASE_CONNECT && open == worker->connections_count + worker->idle_count)
        worker_notify(worker);
    client_connect_more(worker);
}

// FTP: first comes the login.
static void client_opened(struct weir_stream *stream)
{
    struct connection *connection = weir_stream_context(stream);
    if (connection->stream == stream && !connection->ftp)
        client_ready(connection);
}

// --- Replies -------------------------------------------------------------------------------------

// The last reply of a churned connection came: the client closes first.
void client_operation_done(struct connection *connection, uint64_t now_ns)
{
    struct worker *worker = connection->worker;
    struct weir_stream *stream = connection->stream;
    client_record(worker, &connection->requests[0], now_ns);
    atomic_fetch_sub_explicit(&worker->open, 1, memory_order_relaxed);
    connection->running = connection->open = false;
    connection->outstanding = 0;
    connection->stream = NULL; // its place is free at once; `closed` comes later and is ignored
    weir_stream_close(stream);
    lists_free_add(connection);
}

static void client_replied(struct connection *connection, uint64_t now_ns)
{
    struct worker *worker = connection->worker;
    const struct options *options = worker->options;
    connection->replies++;
    connection->outstanding--;
    if (worker_ended_in_window(worker, now_ns)) {
        worker->result.echoes++;
        worker->result.bytes += connection->received;
    }
    if (!options->churn) {
        client_record(worker, &connection->requests[connection->head], now_ns);
        if (++connection->head == options->depth)
            connection->head = 0;
    } else if (connection->unstarted) {
        connection->unstarted--;
        connection->outstanding++;
        connection->starting++;
        lists_starting_add(connection);
    } else if (connection->ftp) {
        connection->outstanding = 1; // the server's farewell
        ftp_quit(connection->ftp);
    } else if (connection->outstanding == 0) {
        client_operation_done(connection, now_ns);
    }
    connection->received = 0;
}

void client_completed(struct connection *connection, uint64_t now_ns, bool compared)
{
    struct worker *worker = connection->worker;
    worker->result.verified += compared && worker_ended_in_window(worker, now_ns);
    client_replied(connection, now_ns);
    if (!worker->options->churn)
        lists_free_add(connection);
}

bool client_compares(const struct connection *connection)
{
    switch ((enum verify)connection->worker->options->verify) {
    case VERIFY_FULL:
        return true;
    case VERIFY_SAMPLE:
        return connection->replies % CLIENT_SAMPLE == 0;
    case VERIFY_NONE:
        break;
    }
    return false;
}

// Takes the bytes of one reply from the slice. False when the connection failed.
static bool client_take_reply(struct connection *connection, struct weir_slice *slice,
                              uint64_t now_ns)
{
    struct worker *worker = connection->worker;
    if (connection->outstanding == connection->starting) {
        client_abort(connection, FAILURE_EXCESS);
        return false;
    }
    bool compares = client_compares(connection);
    struct reply_piece piece = reply_take(connection, compares, slice);
    if (piece.failure != FAILURE_COUNT) {
        client_abort(connection, piece.failure);
        return false;
    }
    connection->receive_offset =
        payload_advance(worker->payload, connection->receive_offset, piece.used);
    connection->received += piece.used;
    slice->data += piece.used;
    slice->size -= piece.used;
    if (piece.whole) {
        worker->result.verified += compares && worker_ended_in_window(worker, now_ns);
        client_replied(connection, now_ns);
    }
    return true;
}

static void client_received(struct weir_stream *stream, struct weir_slice slice)
{
    struct connection *connection = weir_stream_context(stream);
    struct worker *worker = connection->worker;
    uint64_t now_ns = weir_loop_now(worker->loop);
    bool whole = true;
    if (connection->ftp) {
        ftp_received(connection->ftp, slice);
        return;
    }
    while (whole && slice.size && connection->stream == stream)
        whole = client_take_reply(connection, &slice, now_ns);
    if (slice.size && whole && worker->options->churn)
        worker->result.failures[FAILURE_EXCESS]++; // behind the last reply before the close
    if (connection->stream == stream && !worker->options->churn && !connection->idle)
        lists_free_add(connection);
}

// The peer's end before ours.
static void client_ended(struct weir_stream *stream)
{
    struct connection *connection = weir_stream_context(stream);
    if (connection->stream == stream && !connection->open)
        client_unconnected(connection, -ECONNRESET); // before the login was done
    else if (connection->stream == stream)
        client_fail(connection, client_failure(connection, 0));
    weir_stream_close(stream);
}

static void client_closed(struct weir_stream *stream, int reason)
{
    struct connection *connection = weir_stream_context(stream);
    if (connection->stream != stream || connection->worker->phase == PHASE_DONE)
        return;
    if (connection->open)
        client_fail(connection, client_failure(connection, reason));
    else
        client_unconnected(connection, reason);
    client_connect_more(connection->worker);
}

static const struct weir_protocol client_protocol = {
    .name = "load",
    .opened = client_opened,
    .received = client_received,
    .ended = client_ended,
    .closed = client_closed,
};

static void client_connect(struct connection *connection)
{
    struct worker *worker = connection->worker;
    const struct options *options = worker->options;
    const struct weir_connect_config config = {
        .protocol = &client_protocol,
        .context = connection,
        .local = options->local.size ? &options->local : NULL,
        .timeout_ns = options->timeout_ns ? options->timeout_ns : CLIENT_CONNECT_NS,
    };
    uint64_t identity = options->seed ^ ((uint64_t)worker->index << 48) ^ worker->generation++;
    uint32_t address = worker->address_next++ % options->addresses_count;
    connection->send_offset = connection->http ? 0 : payload_start(worker->payload, identity);
    connection->receive_offset = connection->send_offset;
    connection->head = 0;
    connection->received = connection->replies = 0;
    if (connection->http)
        memset(connection->http, 0, offsetof(struct http_reply, head));
    if (connection->ftp)
        ftp_connect(connection->ftp);
    connection->connecting = true;
    worker->connecting++;
    int error = weir_stream_connect(worker->loop, &options->addresses[address], &config,
                                    &connection->stream);
    if (error)
        client_unconnected(connection, error);
}

// --- Starting requests ---------------------------------------------------------------------------

// Queues `count` messages on the stream: one piece of the region, unless they are longer than it.
static void client_send(struct connection *connection, uint64_t size)
{
    const struct payload *payload = connection->worker->payload;
    while (size) {
        size_t piece = size < payload->chunk ? (size_t)size : payload->chunk;
        weir_stream_send_static(connection->stream, payload->region + connection->send_offset,
                                piece);
        connection->send_offset = payload_advance(payload, connection->send_offset, piece);
        size -= piece;
    }
}

static void client_send_started(struct worker *worker)
{
    struct connection *connection = worker->starting.first;
    lists_init(&worker->starting);
    for (; connection; connection = connection->next_starting) {
        connection->starting_listed = false;
        uint32_t count = connection->starting;
        connection->starting = 0;
        if (count && connection->stream && connection->ftp)
            ftp_start(connection->ftp);
        else if (count && connection->stream)
            client_send(connection, count * worker->options->size);
    }
}

static void client_request(struct connection *connection, uint64_t intended_ns, uint64_t sent_ns)
{
    struct worker *worker = connection->worker;
    const struct options *options = worker->options;
    const struct request request = { intended_ns, sent_ns };
    worker->running++;
    worker->started++;
    if (worker->result.lag && worker_counts(worker, &request))
        histogram_record(worker->result.lag, sent_ns - intended_ns);
    if (options->churn) {
        connection->requests[0] = request;
        connection->running = true;
        connection->outstanding = connection->ftp ? 1 : 0; // a login may time out too
        client_connect(connection);
        return;
    }
    uint32_t index = connection->head + connection->outstanding;
    connection->requests[index < options->depth ? index : index - options->depth] = request;
    connection->outstanding++;
    connection->starting++;
    lists_starting_add(connection);
}

static void client_start_closed(struct worker *worker, uint64_t now_ns)
{
    struct connection *connection;
    while ((connection = lists_free_take(worker))) {
        do
            client_request(connection, now_ns, now_ns);
        while (!worker->options->churn && !lists_busy(connection));
    }
}

// Connections take turns, so the arrivals on each are staggered against all others.
static void client_start_due(struct worker *worker, uint64_t now_ns)
{
    struct connection *connection;
    while (worker_due(worker, now_ns) && (connection = lists_free_take(worker))) {
        client_request(connection, worker->schedule.next_ns, now_ns);
        schedule_advance(&worker->schedule);
        if (!worker->options->churn && !lists_busy(connection))
            lists_free_add(connection);
    }
}

void client_start(struct worker *worker, uint64_t now_ns)
{
    bool runs = worker->phase == PHASE_RUN || worker->phase == PHASE_DRAIN;
    if (runs && worker->options->rate > 0)
        client_start_due(worker, now_ns);
    else if (worker->phase == PHASE_RUN)
        client_start_closed(worker, now_ns);
    client_send_started(worker);
}

// --- Time-outs, begin and end --------------------------------------------------------------------

static void client_scan(struct weir_loop *loop, struct weir_timer *timer)
{
    struct worker *worker = container_of(timer, struct worker, timeout_timer);
    const struct options *options = worker->options;
    uint64_t now_ns = weir_loop_now(loop);
    for (uint32_t i = 0; i < worker->connections_count; i++) {
        struct connection *connection = &worker->connections[i];
        bool waits = connection->outstanding > 0;
        const struct request *request = &connection->requests[connection->head];
        if (!waits || now_ns - request->sent_ns <= options->timeout_ns)
            continue;
        if (options->churn) {
            connection->running = false;
        } else {
            connection->outstanding--;
            connection->head = (connection->head + 1) % options->depth;
        }
        client_censor_request(worker, request, now_ns);
        client_abort(connection, FAILURE_TIMEOUT);
    }
    uint64_t pause_ns = options->timeout_ns / 8;
    if (worker->phase == PHASE_REST)
        return; // nothing is outstanding, and nothing may wake
    weir_timer_start(loop, timer, pause_ns < CLIENT_SCAN_MAX_NS ? pause_ns : CLIENT_SCAN_MAX_NS);
}

int client_init(struct worker *worker)
{
    const struct options *options = worker->options;
    uint32_t count = worker->connections_count + worker->idle_count;
    uint32_t depth = options->churn ? 1 : options->depth;
    worker->connections = calloc(count, sizeof *worker->connections);
    worker->requests = calloc((size_t)worker->connections_count * depth, sizeof *worker->requests);
    bool http = options->protocol == LOAD_HTTP, ftp = options->protocol == LOAD_FTP;
    if (http)
        worker->http_replies = calloc(count, sizeof *worker->http_replies);
    if (!worker->connections || !worker->requests || (http && !worker->http_replies) ||
        (ftp && ftp_init(worker, count)))
        return -ENOMEM;
    worker->http_model.bodiless = strcmp(options->method, "HEAD") == 0;
    lists_init(&worker->waiting);
    lists_init(&worker->failed);
    lists_init(&worker->free);
    lists_init(&worker->starting);
    worker->backoff_ns = CLIENT_BACKOFF_MIN_NS;
    worker->address_next = worker->index;
    worker->retry_timer.function = client_retry;
    worker->timeout_timer.function = client_scan;
    for (uint32_t i = 0; i < count; i++) {
        struct connection *connection = &worker->connections[i];
        connection->worker = worker;
        connection->idle = i >= worker->connections_count;
        connection->http = http ? &worker->http_replies[i] : NULL;
        connection->ftp = ftp ? &worker->ftp_sessions[i] : NULL;
        if (ftp)
            connection->ftp->connection = connection;
        if (!connection->idle)
            connection->requests = worker->requests + (size_t)i * depth;
        if (client_churns(connection))
            lists_free_add(connection);
        else
            lists_add(&worker->waiting, connection);
    }
    // One of all idle sessions has something to do beside.
    if (options->beside && worker->index == 0)
        worker->ftp_sessions[count - 1].beside = true;
    if (options->timeout_ns)
        weir_timer_start(worker->loop, &worker->timeout_timer, options->timeout_ns / 8);
    client_connect_more(worker);
    return 0;
}

void client_censor(struct worker *worker, uint64_t now_ns)
{
    const struct options *options = worker->options;
    for (uint32_t i = 0; i < worker->connections_count; i++) {
        struct connection *connection = &worker->connections[i];
        uint32_t count = options->churn ? connection->running : connection->outstanding;
        for (uint32_t k = 0; k < count; k++)
            client_censor_request(
                worker, &connection->requests[(connection->head + k) % options->depth], now_ns);
    }
    if (options->rate <= 0)
        return;
    for (; worker_due(worker, now_ns); schedule_advance(&worker->schedule)) {
        if (!worker_in_window(worker, worker->schedule.next_ns))
            continue;
        worker->result.censored++;
        worker->result.unsent++;
        histogram_record(worker->result.response, now_ns - worker->schedule.next_ns);
        histogram_record(worker->result.lag, now_ns - worker->schedule.next_ns);
    }
}

void client_fini(struct worker *worker)
{
    free(worker->connections);
    free(worker->requests);
    free(worker->http_replies);
    ftp_fini(worker);
    worker->connections = NULL;
    worker->requests = NULL;
}
