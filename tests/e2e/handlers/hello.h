// The example of docs/protocols.md, word for word: a dynamic route.
#include <stdio.h>

#include "http/handler.h"

static void hello_serve(struct http_exchange *exchange, void *context)
{
    const struct http_answer answer = { .status = 200, .type = "text/plain; charset=utf-8" };
    struct http_text name = http_exchange_request(exchange)->query;
    char text[80];
    (void)context;
    int size = snprintf(text, sizeof text, "hello, %.*s\n", (int)(name.size % 64), name.data);
    http_answer(exchange, &answer, text, (size_t)size);
}

static const struct http_route http_route_hello = { .path = "/hello",
                                                    .methods = "GET, HEAD",
                                                    .serve = hello_serve };
