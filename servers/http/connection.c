// See connection.h. Input flows through connection_feed(): the parser's events become calls of
// handlers, one request after the other. While a handler answers later, or the peer does not take
// its answers, the rest of the input is held and the stream paused.
#include "connection.h"

#include <errno.h>
#include <stdlib.h>

#include "access_log.h"

#define SECOND_NS 1000000000ULL
#define RATE_WINDOW_NS (2 * SECOND_NS)
#define RATE_PATIENCE_NS (60 * SECOND_NS)
// A drain waits so long for a request that is on its way; the loop must have come to the socket.
#define DRAIN_QUIET_NS (SECOND_NS / 5)
#define DRAIN_LOOK_NS (SECOND_NS / 1000)

// What a peer may take of an answer before it is seen to: a send buffer as large as the kernel
// makes it by itself, and one send of the engine.
enum { CONNECTION_SOCKET_MAX = 4 << 20, CONNECTION_SEND_MAX = 256 * 1024 };

// --- Time ----------------------------------------------------------------------------------------

static uint64_t connection_now(const struct http_exchange *exchange)
{
    return weir_loop_now(exchange->worker->loop);
}

void http_connection_enter(struct http_exchange *exchange, enum connection_phase phase)
{
    exchange->phase = (uint8_t)phase;
    exchange->since_ns = connection_now(exchange);
    exchange->behind = false;
}

void http_connection_watch(struct http_exchange *exchange, uint64_t due_ns)
{
    if (exchange->due_ns <= due_ns)
        return;
    uint64_t now_ns = connection_now(exchange);
    exchange->due_ns = due_ns;
    weir_timer_start(exchange->worker->loop, &exchange->timer,
                     due_ns > now_ns ? due_ns - now_ns : 1);
}

// Bytes that moved either way.
static uint64_t connection_progress(const struct http_exchange *exchange)
{
    return exchange->received_total + exchange->queued_total - weir_stream_queued(exchange->stream);
}

// Whether the peer is expected to move bytes: its body, or our answer.
static bool connection_is_moving(const struct http_exchange *exchange)
{
    return (exchange->phase == CONNECTION_BODY && !exchange->body_paused) ||
           exchange->phase == CONNECTION_DISCARD || weir_stream_queued(exchange->stream) > 0;
}

// How long a peer may seem to take nothing. A body is seen byte by byte; an answer leaves for the
// socket's buffer, which tells that it has room when a third of it is free, and no sooner.
static uint64_t connection_patience(const struct http_exchange *exchange)
{
    const struct http_settings *settings = exchange->worker->site->settings;
    uint64_t socket = settings->serve.send_buffer ? 2 * (uint64_t)settings->serve.send_buffer
                                                  : CONNECTION_SOCKET_MAX;
    uint64_t patience_ns = (socket + CONNECTION_SEND_MAX) * SECOND_NS / settings->rate_min;
    if (!weir_stream_queued(exchange->stream) || patience_ns < RATE_WINDOW_NS)
        return RATE_WINDOW_NS;
    return patience_ns < RATE_PATIENCE_NS ? patience_ns : RATE_PATIENCE_NS;
}

// Whether the peer has been slower than --min-rate for longer than it may seem to be.
static bool connection_is_slow(struct http_exchange *exchange, uint64_t now_ns)
{
    uint64_t least = exchange->worker->site->settings->rate_min;
    uint64_t progress = connection_progress(exchange);
    uint64_t passed_ns = now_ns - exchange->progress_ns;
    if (exchange->progress == WEIR_NEVER ||
        progress - exchange->progress >= least * (passed_ns / 1000000) / 1000) {
        exchange->progress = progress;
        exchange->progress_ns = now_ns;
        return false;
    }
    return passed_ns >= connection_patience(exchange) &&
           now_ns - exchange->since_ns >= RATE_WINDOW_NS;
}

static void connection_expired(struct http_exchange *exchange, const char *reason)
{
    if (exchange->phase != CONNECTION_IDLE || !exchange->draining)
        http_count(exchange->worker, COUNTER_TIMEOUTS);
    bool answered = exchange->phase == CONNECTION_IDLE || exchange->phase == CONNECTION_DISCARD;
    if (exchange->phase == CONNECTION_IDLE && exchange->draining && !exchange->settled) {
        http_connection_end(exchange); // its client may read the last answer and ask again
    } else if (answered && !weir_stream_queued(exchange->stream)) {
        exchange->phase = CONNECTION_CLOSING;
        weir_stream_close(exchange->stream);
    } else if ((exchange->phase == CONNECTION_HEAD || exchange->phase == CONNECTION_BODY) &&
               !weir_stream_queued(exchange->stream)) {
        http_exchange_refuse(exchange, 408, reason);
    } else {
        http_worker_log(exchange->worker, exchange->stream, "aborted", reason);
        exchange->phase = CONNECTION_CLOSING;
        weir_stream_abort(exchange->stream);
    }
}

static uint64_t connection_timeout(const struct http_exchange *exchange)
{
    const struct http_settings *settings = exchange->worker->site->settings;
    if (exchange->phase == CONNECTION_IDLE && exchange->draining)
        return DRAIN_QUIET_NS;
    if (exchange->phase == CONNECTION_HEAD ||
        (exchange->phase == CONNECTION_IDLE && !exchange->requests))
        return settings->header_timeout_ns;
    if (exchange->phase == CONNECTION_IDLE)
        return settings->serve.idle_timeout_ns;
    return 0;
}

// Since when the connection waits for its client. Who has not taken its answers is not idle.
static uint64_t connection_waits_since(const struct http_exchange *exchange)
{
    uint64_t active_ns = weir_stream_active_ns(exchange->stream);
    if (weir_stream_queued(exchange->stream))
        return connection_now(exchange);
    if (exchange->phase == CONNECTION_IDLE && exchange->requests && active_ns > exchange->since_ns)
        return active_ns;
    return exchange->since_ns;
}

// Nor is it late with what follows them: the time for a head that has begun begins again when they
// are taken, which the timer sees within a window. Whether there is such a head.
static bool connection_head_waits(struct http_exchange *exchange, uint64_t now_ns)
{
    if (exchange->phase != CONNECTION_HEAD)
        return false;
    bool behind = weir_stream_queued(exchange->stream) > 0;
    if (exchange->behind && !behind)
        exchange->since_ns = now_ns;
    exchange->behind = behind;
    return behind;
}

// The one timer of a connection. It rings early rather than being moved at each request.
static void connection_timer(struct weir_loop *loop, struct weir_timer *timer)
{
    struct http_exchange *exchange =
        (void *)((char *)timer - offsetof(struct http_exchange, timer));
    const struct http_settings *settings = exchange->worker->site->settings;
    uint64_t now_ns = weir_loop_now(loop), window_ns = RATE_WINDOW_NS;
    exchange->due_ns = WEIR_NEVER;
    bool head_waits = connection_head_waits(exchange, now_ns);
    if (settings->rate_min && connection_is_moving(exchange)) {
        if (connection_is_slow(exchange, now_ns))
            connection_expired(exchange, "slower than --min-rate");
        else
            http_connection_watch(exchange, now_ns + window_ns);
        return;
    }
    exchange->progress = WEIR_NEVER;
    uint64_t timeout_ns = connection_timeout(exchange), since_ns = connection_waits_since(exchange);
    bool over = timeout_ns && now_ns - since_ns >= timeout_ns;
    bool drains = exchange->phase == CONNECTION_IDLE && exchange->draining;
    if (over && drains && !weir_stream_is_silent(exchange->stream)) // a request is in the socket
        http_connection_watch(exchange, now_ns + DRAIN_LOOK_NS);
    else if (over)
        connection_expired(exchange,
                           exchange->phase == CONNECTION_HEAD ? "the head took too long" : "idle");
    else if (timeout_ns && !head_waits)
        http_connection_watch(exchange, since_ns + timeout_ns);
    else if (exchange->phase != CONNECTION_CLOSING)
        http_connection_watch(exchange, now_ns + window_ns);
}

void http_connection_watch_moving(struct http_exchange *exchange)
{
    http_connection_watch(exchange, connection_now(exchange) + RATE_WINDOW_NS);
}

// After input that left something unfinished.
static void connection_watch_phase(struct http_exchange *exchange)
{
    uint64_t timeout_ns = connection_timeout(exchange);
    if (connection_is_moving(exchange) &&
        (exchange->phase != CONNECTION_IDLE ||
         weir_stream_queued(exchange->stream) > CONNECTION_QUEUE_LOW))
        http_connection_watch_moving(exchange);
    else if (timeout_ns)
        http_connection_watch(exchange, exchange->since_ns + timeout_ns);
}

// --- Requests ------------------------------------------------------------------------------------

void http_connection_reset(struct http_exchange *exchange)
{
    if (exchange->body_memory) {
        atomic_fetch_sub_explicit(&exchange->worker->site->bodies_used, exchange->body_room,
                                  memory_order_relaxed);
        free(exchange->body_memory);
    }
    exchange->body_memory = NULL;
    exchange->body = NULL;
    exchange->body_size = exchange->body_room = 0;
    exchange->body_told = 0;
    exchange->route = NULL;
    exchange->state = NULL;
    exchange->kept = exchange->begun = exchange->writing = exchange->want_writable = false;
    exchange->owes = exchange->body_paused = false;
}

void http_connection_gone(struct http_exchange *exchange)
{
    const struct http_route *route = exchange->route;
    if (route && route->gone && exchange->state)
        route->gone(exchange, route->context);
    exchange->state = NULL;
}

bool http_connection_rest_is_long(const struct http_exchange *exchange)
{
    const struct http_request *request = &exchange->parser.request;
    return request->chunked ||
           request->content_length - exchange->body_told > CONNECTION_DISCARD_MAX;
}

static bool connection_route_matches(const struct http_route *route, struct http_text path)
{
    size_t size = strlen(route->path);
    if (path.size < size || memcmp(path.data, route->path, size) != 0)
        return false;
    return path.size == size || route->path[size - 1] == '/';
}

static const struct http_route *connection_route(const struct http_exchange *exchange)
{
    const struct http_site *site = exchange->worker->site;
    for (size_t i = 0; i < site->routes_count; i++) {
        const struct http_route *route = &site->routes[i];
        if (connection_route_matches(route, exchange->parser.request.path) ||
            (i == site->routes_count - 1 && exchange->parser.request.path.data[0] == '*'))
            return route;
    }
    return NULL; // UNTESTED: the last route takes every path
}

static bool connection_method_is_allowed(const struct http_route *route, struct http_text method)
{
    struct http_text list = http_text_of(route->methods), element;
    if (route->methods[0] == '*')
        return true;
    while (http_text_next_element(&list, &element)) {
        if (element.size == method.size && memcmp(element.data, method.data, method.size) == 0)
            return true;
    }
    return false;
}

static void connection_serve(struct http_exchange *exchange)
{
    exchange->phase = CONNECTION_BUSY;
    exchange->owes = true;
    exchange->route->serve(exchange, exchange->route->context);
    if (exchange->phase == CONNECTION_BUSY)
        exchange->since_ns = connection_now(exchange);
}

// A request that no handler takes is answered at once. Its body is read and dropped if it is
// short; otherwise the connection closes behind the answer.
static void connection_decline(struct http_exchange *exchange, const struct http_answer *answer)
{
    const struct http_request *request = &exchange->parser.request;
    exchange->phase = request->has_body ? CONNECTION_BODY : CONNECTION_BUSY;
    exchange->final |= request->has_body && request->expects_continue;
    http_exchange_say(exchange, answer);
}

static void connection_head(struct http_exchange *exchange)
{
    const struct http_settings *settings = exchange->worker->site->settings;
    const struct http_request *request = &exchange->parser.request;
    exchange->requests++;
    exchange->status = 0;
    exchange->final = !request->keep_alive || exchange->draining ||
                      (settings->requests_max && exchange->requests >= settings->requests_max);
    exchange->route = connection_route(exchange);
    struct http_answer declined = { 0 };
    if (!exchange->route) {
        declined.status = 404; // UNTESTED: the last route takes every path
    } else if (!connection_method_is_allowed(exchange->route, request->method_text)) {
        declined.status = request->method == METHOD_OTHER ? 501 : 405;
        declined.allow = request->method == METHOD_OTHER ? NULL : exchange->route->methods;
    }
    if (declined.status) {
        connection_decline(exchange, &declined);
    } else if (!request->has_body) {
        connection_serve(exchange);
    } else if (request->content_length > http_connection_body_max(exchange)) {
        http_exchange_refuse(exchange, 413, "the body is longer than --max-body");
    } else {
        http_connection_enter(exchange, CONNECTION_BODY);
        if (request->expects_continue)
            http_exchange_send(exchange, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    }
}

// --- Input ---------------------------------------------------------------------------------------

static bool connection_reads(const struct http_exchange *exchange)
{
    return exchange->phase != CONNECTION_BUSY && exchange->phase != CONNECTION_CLOSING &&
           !exchange->body_paused;
}

// The input cannot be understood any more. One request gets one answer: if it was given, only the
// end tells.
static void connection_give_up(struct http_exchange *exchange, int status, const char *reason)
{
    // UNTESTED: what is dropped has a length, and nothing in it can be misunderstood
    if (exchange->phase == CONNECTION_DISCARD)
        weir_stream_linger(exchange->stream, CONNECTION_DISCARD_MAX, SECOND_NS);
    else
        http_exchange_refuse(exchange, status, reason);
    exchange->phase = CONNECTION_CLOSING;
}

static void connection_event(struct http_exchange *exchange, enum http_event event)
{
    switch (event) {
    case EVENT_MORE:
        break;
    case EVENT_HEAD:
        connection_head(exchange);
        break;
    case EVENT_BODY:
        http_connection_body(exchange);
        break;
    case EVENT_END:
        if (exchange->phase == CONNECTION_DISCARD) {
            exchange->body_told = 0;
            http_parser_release(&exchange->parser);
            http_connection_enter(exchange, CONNECTION_IDLE);
        } else {
            connection_serve(exchange);
        }
        break;
    case EVENT_ERROR:
        connection_give_up(exchange, exchange->parser.status, exchange->parser.reason);
        break;
    }
}

// What the handler or the parser still needs of the input moves before the input goes.
static void connection_input_goes(struct http_exchange *exchange)
{
    // Of a request that was answered, nothing is needed; its head may be another one's by now.
    if (exchange->phase == CONNECTION_BODY) {
        if (http_parser_keep(&exchange->parser))
            connection_give_up(exchange, 503, "no memory for the head");
    } else if (exchange->phase == CONNECTION_IDLE && http_parser_in_head(&exchange->parser)) {
        http_connection_enter(exchange, CONNECTION_HEAD);
    }
}

// Parses up to the end, or as far as requests can be answered now. Returns how much was taken.
static size_t connection_feed(struct http_exchange *exchange, struct weir_slice slice)
{
    const char *at = slice.data, *end = slice.data + slice.size;
    enum http_event event = EVENT_BODY; // anything but MORE
    exchange->feeding = true;
    while (connection_reads(exchange) && (at < end || event != EVENT_MORE)) {
        if (exchange->phase == CONNECTION_IDLE && at < end &&
            weir_stream_queued(exchange->stream) > CONNECTION_QUEUE_MAX)
            break;
        event = http_parser_next(&exchange->parser, &at, end);
        connection_event(exchange, event);
    }
    exchange->feeding = false;
    connection_input_goes(exchange);
    return exchange->phase == CONNECTION_CLOSING ? slice.size : (size_t)(at - slice.data);
}

static void connection_pause(struct http_exchange *exchange)
{
    if (exchange->paused)
        return;
    exchange->paused = true;
    weir_stream_pause(exchange->stream);
}

static void connection_hold(struct http_exchange *exchange, struct weir_slice slice)
{
    connection_pause(exchange);
    if (weir_slice_hold(exchange->stream, slice, &exchange->held)) {
        exchange->phase = CONNECTION_CLOSING; // UNTESTED: needs memory to run out
        weir_stream_abort(exchange->stream);  // UNTESTED: needs memory to run out
    }
}

static void connection_input(struct http_exchange *exchange, struct weir_slice slice)
{
    size_t taken = connection_feed(exchange, slice);
    slice.data += taken;
    slice.size -= taken;
    if (slice.size)
        connection_hold(exchange, slice);
    connection_watch_phase(exchange);
}

// The peer has ended, and everything it asked for is answered.
static void connection_end_if_done(struct http_exchange *exchange)
{
    if (!exchange->peer_ended || !connection_reads(exchange) || exchange->held.size)
        return;
    exchange->phase = CONNECTION_CLOSING;
    if (weir_stream_queued(exchange->stream))
        http_connection_watch_moving(exchange);
    weir_stream_close(exchange->stream);
}

void http_connection_continue(struct http_exchange *exchange)
{
    if (exchange->feeding)
        return;
    struct weir_slice held = exchange->held;
    exchange->held = (struct weir_slice){ 0 };
    http_worker_tick(exchange->worker, connection_now(exchange));
    if (held.size) {
        connection_input(exchange, held);
        weir_slice_release(exchange->stream, &held);
    } else if (exchange->phase == CONNECTION_BODY) {
        // The end of a body that was held up is known and not told.
        connection_input(exchange, (struct weir_slice){ .data = "" });
    }
    if (exchange->paused && !exchange->held.size && connection_reads(exchange)) {
        exchange->paused = false;
        weir_stream_resume(exchange->stream);
    }
    connection_end_if_done(exchange);
    if (exchange->phase == CONNECTION_IDLE)
        connection_watch_phase(exchange);
}

// --- The protocol --------------------------------------------------------------------------------

static void http_opened(struct weir_stream *stream)
{
    struct http_exchange *exchange = weir_stream_session(stream);
    struct http_site *site = weir_stream_context(stream);
    exchange->stream = stream;
    exchange->worker = http_worker_take(site, weir_stream_loop(stream));
    if (!exchange->worker) {
        weir_stream_abort(stream);
        return;
    }
    http_parser_init(&exchange->parser, &site->limits, exchange->worker->head);
    exchange->timer.function = connection_timer;
    exchange->due_ns = exchange->progress = WEIR_NEVER;
    http_connection_enter(exchange, CONNECTION_IDLE);
    connection_watch_phase(exchange);
}

static void http_received(struct weir_stream *stream, struct weir_slice slice)
{
    struct http_exchange *exchange = weir_stream_session(stream);
    http_worker_tick(exchange->worker, connection_now(exchange));
    if (exchange->phase == CONNECTION_BUSY || exchange->body_paused)
        connection_hold(exchange, slice);
    else if (exchange->phase != CONNECTION_CLOSING)
        connection_input(exchange, slice);
}

static void http_drained(struct weir_stream *stream)
{
    struct http_exchange *exchange = weir_stream_session(stream);
    if (exchange->want_writable) {
        exchange->want_writable = false;
        exchange->route->writable(exchange, exchange->route->context);
    }
    if (exchange->phase != CONNECTION_BUSY && exchange->phase != CONNECTION_CLOSING)
        http_connection_continue(exchange);
}

static void http_ended(struct weir_stream *stream)
{
    struct http_exchange *exchange = weir_stream_session(stream);
    exchange->peer_ended = true;
    connection_end_if_done(exchange);
}

void http_connection_retire(struct http_exchange *exchange)
{
    exchange->draining = exchange->final = true;
    if (exchange->phase != CONNECTION_IDLE)
        return;
    exchange->settled =
        !exchange->requests ||
        connection_now(exchange) - connection_waits_since(exchange) > HTTP_DRAIN_LINGER_NS;
    // A request may be on its way, or lie in the socket of a server that had no processor for it.
    exchange->since_ns = connection_now(exchange);
    http_connection_watch(exchange, exchange->since_ns + DRAIN_QUIET_NS);
}

static void http_closed(struct weir_stream *stream, int reason)
{
    struct http_exchange *exchange = weir_stream_session(stream);
    if (!exchange->worker)
        return;
    http_connection_lost(exchange, reason);
    http_connection_gone(exchange);
    http_exchange_break(exchange);
    http_connection_reset(exchange);
    http_parser_fini(&exchange->parser);
    weir_slice_release(stream, &exchange->held);
    weir_timer_stop(exchange->worker->loop, &exchange->timer);
    http_worker_give(exchange->worker);
}

const struct weir_protocol http_protocol = {
    .name = "http",
    .session_size = sizeof(struct http_exchange),
    .opened = http_opened,
    .received = http_received,
    .drained = http_drained,
    .ended = http_ended,
    .draining = http_connection_draining,
    .expired = http_connection_expired,
    .closed = http_closed,
};
