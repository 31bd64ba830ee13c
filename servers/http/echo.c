// The echo handler: what a client sends, it gets back. Also the example of how short a dynamic
// route is.
#include <stdio.h>

#include "routes.h"

static void echo_serve(struct http_exchange *exchange, void *context)
{
    char type[256];
    struct http_answer answer = { .status = 200, .type = "application/octet-stream" };
    struct http_text body = http_exchange_body(exchange);
    struct http_text sent = http_request_value(http_exchange_request(exchange), FIELD_CONTENT_TYPE);
    (void)context;
    if (sent.size && sent.size < sizeof type) {
        memcpy(type, sent.data, sent.size);
        type[sent.size] = '\0';
        answer.type = type;
    }
    http_answer(exchange, &answer, body.data, body.size);
}

// The lengths first: what is known in advance needs no chunks.
static uint64_t headers_size(const struct http_request *request, size_t line_size)
{
    uint64_t size = request->method_text.size + 1 + request->target.size + line_size;
    for (size_t i = 0; i < request->headers_count; i++)
        size += request->headers[i].name.size + 2 + request->headers[i].value.size + 1;
    return size;
}

static void headers_serve(struct http_exchange *exchange, void *context)
{
    const struct http_request *request = http_exchange_request(exchange);
    struct http_answer answer = { .status = 200, .type = "text/plain; charset=utf-8" };
    char line[16];
    (void)context;
    size_t size = (size_t)snprintf(line, sizeof line, " HTTP/1.%u\n", request->minor);
    answer.length = headers_size(request, size);
    http_answer_begin(exchange, &answer);
    http_answer_piece(exchange, request->method_text.data, request->method_text.size);
    http_answer_piece(exchange, " ", 1);
    http_answer_piece(exchange, request->target.data, request->target.size);
    http_answer_piece(exchange, line, size);
    for (size_t i = 0; i < request->headers_count; i++) {
        const struct http_header *header = &request->headers[i];
        http_answer_piece(exchange, header->name.data, header->name.size);
        http_answer_piece(exchange, ": ", 2);
        http_answer_piece(exchange, header->value.data, header->value.size);
        http_answer_piece(exchange, "\n", 1);
    }
    http_answer_end(exchange);
}

const struct http_route http_route_echo = { .path = "/", .methods = "*", .serve = echo_serve };
const struct http_route http_route_headers = { .path = "/headers",
                                               .methods = "*",
                                               .serve = headers_serve };
