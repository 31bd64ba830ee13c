// The answering side of an exchange: what handlers call (handler.h).
#include <errno.h>
#include <stdio.h>

#include "access_log.h"
#include "connection.h"

// Up to this size head and content are formatted into one reserved span.
enum { EXCHANGE_SPAN_MAX = 16000, EXCHANGE_LINGER_MAX = 64 * 1024 };

#define EXCHANGE_LINGER_NS 1000000000ULL

// --- Views ---------------------------------------------------------------------------------------

const struct http_request *http_exchange_request(const struct http_exchange *exchange)
{
    return &exchange->parser.request;
}

struct http_text http_exchange_body(const struct http_exchange *exchange)
{
    return (struct http_text){ exchange->body, exchange->body_size };
}

struct weir_stream *http_exchange_stream(struct http_exchange *exchange)
{
    return exchange->stream;
}

void http_exchange_set_state(struct http_exchange *exchange, void *state)
{
    exchange->state = state;
}

void *http_exchange_state(const struct http_exchange *exchange)
{
    return exchange->state;
}

// --- The end of an answer ------------------------------------------------------------------------

void http_exchange_send(struct http_exchange *exchange, const void *data, size_t size)
{
    exchange->queued_total += size;
    weir_stream_send(exchange->stream, data, size);
}

static void exchange_count(struct http_exchange *exchange, uint64_t size)
{
    struct http_worker *worker = exchange->worker;
    http_count(worker, COUNTER_REQUESTS);
    if (exchange->status >= 200 && exchange->status < 600)
        http_count(worker, COUNTER_STATUS_2XX + (enum http_counter)(exchange->status / 100 - 2));
    if (!worker->access_log)
        return;
    const struct http_request *request = &exchange->parser.request;
    http_access_log_add(worker->access_log, exchange->stream, request->target.data ? request : NULL,
                        exchange->status, size);
}

void http_exchange_break(struct http_exchange *exchange)
{
    if (exchange->owes)
        exchange_count(exchange, exchange->begun ? exchange->answer_size : 0);
    exchange->owes = false;
}

// Up to a drain's end, if there is one, in which the client has its last occasion to read.
static uint64_t exchange_patience(const struct http_exchange *exchange)
{
    uint64_t now_ns = weir_loop_now(exchange->worker->loop);
    uint64_t end_ns = exchange->worker->drain_end_ns;
    if (exchange->draining && !end_ns)
        return HTTP_DRAIN_LINGER_NS;
    if (!exchange->draining || end_ns <= now_ns)
        return EXCHANGE_LINGER_NS;
    return end_ns - now_ns < HTTP_DRAIN_LINGER_NS ? end_ns - now_ns : HTTP_DRAIN_LINGER_NS;
}

void http_connection_end(struct http_exchange *exchange)
{
    exchange->phase = CONNECTION_CLOSING;
    if (weir_stream_queued(exchange->stream))
        http_connection_watch_moving(exchange);
    weir_stream_linger(exchange->stream, EXCHANGE_LINGER_MAX, exchange_patience(exchange));
}

void http_connection_draining(struct weir_stream *stream)
{
    struct http_exchange *exchange = weir_stream_session(stream);
    http_worker_drain(exchange->worker);
    http_connection_retire(exchange);
}

// As when the server ends; but who is within a large answer asks for nothing more, and may be there
// for long.
void http_connection_expired(struct weir_stream *stream)
{
    struct http_exchange *exchange = weir_stream_session(stream);
    http_count(exchange->worker, COUNTER_TIMEOUTS);
    http_connection_retire(exchange);
    if (exchange->phase == CONNECTION_IDLE && weir_stream_queued(stream) > CONNECTION_QUEUE_LOW)
        http_connection_end(exchange);
}

void http_connection_lost(struct http_exchange *exchange, int reason)
{
    const char *why = "open for twice --total-timeout";
    if (reason == -EIO) { // within an answer that had begun
        http_count(exchange->worker, COUNTER_FILE_ERRORS);
        why = "the file shrank or cannot be read";
    }
    if (reason == -EIO || reason == -ETIME)
        http_worker_log(exchange->worker, exchange->stream, "aborted", why);
}

void http_exchange_finish(struct http_exchange *exchange, uint64_t size)
{
    bool body_follows = exchange->phase == CONNECTION_BODY;
    exchange_count(exchange, size);
    http_connection_reset(exchange);
    http_parser_release(&exchange->parser);
    // UNTESTED: needs a handler that answers a connection which was aborted for its rate
    if (exchange->phase == CONNECTION_CLOSING)
        return; // a time-out came first
    if (exchange->final) {
        http_connection_end(exchange);
        return;
    }
    http_connection_enter(exchange, body_follows ? CONNECTION_DISCARD : CONNECTION_IDLE);
    http_connection_continue(exchange);
}

// --- Heads ---------------------------------------------------------------------------------------

static size_t exchange_head(struct http_exchange *exchange, const struct http_answer *answer,
                            char head[HTTP_HEAD_MAX])
{
    const struct http_request *request = &exchange->parser.request;
    struct http_answer complete = *answer;
    size_t date_offset;
    // A time-out, or a handler that answers later, comes long after the last input.
    http_worker_tick(exchange->worker, weir_loop_now(exchange->worker->loop));
    exchange->status = answer->status;
    if (exchange->final)
        complete.persist = PERSISTENCE_CLOSE;
    else if (!request->minor)
        complete.persist = PERSISTENCE_KEEP;
    return http_answer_write(&complete, exchange->worker->date, head, &date_offset);
}

static bool exchange_has_content(const struct http_exchange *exchange,
                                 const struct http_answer *answer)
{
    return exchange->parser.request.method != METHOD_HEAD && answer->status != 204 &&
           answer->status != 304;
}

// An answer that does not wait for the body's end closes behind it, if too much would have to be
// read before the next request.
static void exchange_answers_early(struct http_exchange *exchange)
{
    if (exchange->phase == CONNECTION_BODY)
        exchange->final |= http_connection_rest_is_long(exchange);
}

// --- Whole answers -------------------------------------------------------------------------------

void http_answer(struct http_exchange *exchange, const struct http_answer *answer,
                 const void *content, size_t size)
{
    struct http_answer complete = *answer;
    char head[HTTP_HEAD_MAX];
    complete.length = size;
    exchange_answers_early(exchange);
    size_t head_size = exchange_head(exchange, &complete, head);
    if (!exchange_has_content(exchange, answer))
        size = 0;
    char *span = NULL;
    if (head_size + size <= EXCHANGE_SPAN_MAX)
        span = weir_stream_reserve(exchange->stream, head_size + size);
    if (span) {
        memcpy(span, head, head_size);
        if (size)
            memcpy(span + head_size, content, size);
        exchange->queued_total += head_size + size;
        weir_stream_commit(exchange->stream, head_size + size);
    } else {
        http_exchange_send(exchange, head, head_size);
        http_exchange_send(exchange, content, size);
    }
    http_exchange_finish(exchange, size);
}

void http_exchange_say(struct http_exchange *exchange, const struct http_answer *answer)
{
    char text[64];
    struct http_answer complete = *answer;
    complete.type = "text/plain; charset=utf-8";
    int size = snprintf(text, sizeof text, "%s\n", http_status_text(answer->status));
    http_answer(exchange, &complete, text, (size_t)size);
}

void http_answer_status(struct http_exchange *exchange, int status)
{
    http_exchange_say(exchange, &(const struct http_answer){ .status = status });
}

void http_answer_file(struct http_exchange *exchange, const struct http_answer *answer,
                      struct weir_file *file, uint64_t offset, uint64_t size)
{
    char head[HTTP_HEAD_MAX];
    exchange_answers_early(exchange);
    size_t head_size = exchange_head(exchange, answer, head);
    if (!exchange_has_content(exchange, answer))
        size = 0;
    http_exchange_send(exchange, head, head_size);
    exchange->queued_total += size;
    weir_stream_send_file(exchange->stream, file, offset, size);
    http_exchange_finish(exchange, size);
}

void http_exchange_refuse(struct http_exchange *exchange, int status, const char *reason)
{
    char text[128];
    const struct http_answer answer = { .status = status, .type = "text/plain; charset=utf-8" };
    int size = snprintf(text, sizeof text, "%s: %s\n", http_status_text(status), reason);
    http_count(exchange->worker, COUNTER_REFUSED);
    http_worker_log(exchange->worker, exchange->stream, http_status_text(status), reason);
    http_connection_gone(exchange);
    if (exchange->begun) {
        // Another answer cannot stand within the one that has begun.
        http_exchange_break(exchange);
        exchange->phase = CONNECTION_CLOSING;
        weir_stream_abort(exchange->stream);
        return;
    }
    if (http_parser_is_of_head(&exchange->parser))
        exchange->parser.request.method = METHOD_HEAD;
    exchange->final = true;
    http_answer(exchange, &answer, text, (size_t)size);
}

// --- Streamed answers ----------------------------------------------------------------------------

void http_answer_begin(struct http_exchange *exchange, const struct http_answer *answer)
{
    struct http_answer complete = *answer;
    char head[HTTP_HEAD_MAX];
    if (answer->length == HTTP_LENGTH_UNKNOWN) {
        complete.chunked = exchange->parser.request.minor > 0;
        exchange->final |= !complete.chunked;
    }
    size_t head_size = exchange_head(exchange, &complete, head);
    exchange->begun = exchange->owes = true;
    exchange->writing = exchange_has_content(exchange, answer);
    exchange->chunked = complete.chunked;
    exchange->answer_left = answer->length;
    exchange->answer_size = 0;
    http_exchange_send(exchange, head, head_size);
}

// "SIZE" CRLF in hexadecimal, as a chunk begins.
static void exchange_chunk(struct http_exchange *exchange, size_t size)
{
    char line[24];
    int length = snprintf(line, sizeof line, "%zx\r\n", size);
    http_exchange_send(exchange, line, (size_t)length);
}

bool http_answer_piece(struct http_exchange *exchange, const void *data, size_t size)
{
    if (!exchange->writing)
        return true;
    if (!exchange->chunked && size > exchange->answer_left)
        size = (size_t)exchange->answer_left;
    if (!size)
        return true;
    if (exchange->chunked)
        exchange_chunk(exchange, size);
    else if (exchange->answer_left != HTTP_LENGTH_UNKNOWN)
        exchange->answer_left -= size;
    http_exchange_send(exchange, data, size);
    if (exchange->chunked)
        http_exchange_send(exchange, "\r\n", 2);
    exchange->answer_size += size;
    exchange->want_writable =
        exchange->route->writable && weir_stream_queued(exchange->stream) > CONNECTION_QUEUE_MAX;
    if (exchange->want_writable)
        http_connection_watch_moving(exchange);
    return !exchange->want_writable;
}

void http_answer_end(struct http_exchange *exchange)
{
    bool writing = exchange->writing;
    exchange->want_writable = false;
    if (writing && exchange->chunked) {
        http_exchange_send(exchange, "0\r\n\r\n", 5);
    } else if (writing && exchange->answer_left && exchange->answer_left != HTTP_LENGTH_UNKNOWN) {
        // The handler promised more: only a reset tells the client that this is not all.
        http_exchange_break(exchange);
        exchange->phase = CONNECTION_CLOSING;
        weir_stream_abort(exchange->stream);
        return;
    }
    http_exchange_finish(exchange, exchange->answer_size);
}
