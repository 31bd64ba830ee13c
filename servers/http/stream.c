// The stream route: sends a body back while it still comes, of any size, in bounded memory. Also
// the example of a handler that takes a body in pieces and answers in pieces.
#include "routes.h"

static void stream_begin(struct http_exchange *exchange)
{
    const struct http_request *request = http_exchange_request(exchange);
    const struct http_answer answer = {
        .status = 200,
        .type = "application/octet-stream",
        .length = request->chunked ? HTTP_LENGTH_UNKNOWN : request->content_length,
    };
    http_answer_begin(exchange, &answer);
    http_exchange_set_state(exchange, exchange); // anything: it has begun
}

// Who does not read the answer holds up his own body.
static bool stream_piece(struct http_exchange *exchange, struct http_text piece, void *context)
{
    (void)context;
    if (!http_exchange_state(exchange))
        stream_begin(exchange);
    return http_answer_piece(exchange, piece.data, piece.size);
}

static void stream_writable(struct http_exchange *exchange, void *context)
{
    (void)context;
    http_body_resume(exchange);
}

static void stream_serve(struct http_exchange *exchange, void *context)
{
    (void)context;
    if (!http_exchange_state(exchange))
        stream_begin(exchange);
    http_answer_end(exchange);
}

const struct http_route http_route_stream = {
    .path = "/stream",
    .methods = "GET, POST, PUT",
    .serve = stream_serve,
    .piece = stream_piece,
    .writable = stream_writable,
    .body_max = UINT64_MAX, // nothing of it is kept
};
