// `weir http` with routes of its own: the examples of docs/protocols.md, and handlers
// that answer late, refuse in the middle of a body, and lose their client.
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "hello.h"
#include "http/program.h"

// --- /late: answers from a timer, unless the client goes first -----------------------------------

struct late {
    struct weir_timer timer;
    struct http_exchange *exchange;
};

static _Atomic int late_gone;

static void late_ring(struct weir_loop *loop, struct weir_timer *timer)
{
    struct late *late = (struct late *)timer;
    const struct http_answer answer = { .status = 200, .type = "text/plain; charset=utf-8" };
    struct http_text body = http_exchange_body(late->exchange);
    (void)loop;
    http_answer(late->exchange, &answer, body.data, body.size);
    free(late);
}

static void late_serve(struct http_exchange *exchange, void *context)
{
    struct weir_loop *loop = weir_stream_loop(http_exchange_stream(exchange));
    struct late *late = calloc(1, sizeof *late);
    uint64_t delay_ns = 50000000;
    (void)context;
    if (!late || http_exchange_keep(exchange)) {
        free(late);
        http_answer_status(exchange, 503);
        return;
    }
    if (http_text_is(http_exchange_request(exchange)->query, "never"))
        delay_ns *= 10000;
    late->exchange = exchange;
    late->timer.function = late_ring;
    http_exchange_set_state(exchange, late);
    weir_timer_start(loop, &late->timer, delay_ns);
}

static void late_leave(struct http_exchange *exchange, void *context)
{
    struct late *late = http_exchange_state(exchange);
    (void)context;
    weir_timer_stop(weir_stream_loop(http_exchange_stream(exchange)), &late->timer);
    free(late);
    late_gone++;
}

// How many clients went before their answer.
static void gone_serve(struct http_exchange *exchange, void *context)
{
    const struct http_answer answer = { .status = 200, .type = "text/plain; charset=utf-8" };
    char text[16];
    int size = snprintf(text, sizeof text, "%d", late_gone);
    (void)context;
    http_answer(exchange, &answer, text, (size_t)size);
}

// --- /picky: takes nothing but small letters, and says so at the first other byte ----------------

static bool picky_piece(struct http_exchange *exchange, struct http_text piece, void *context)
{
    (void)context;
    for (size_t i = 0; i < piece.size; i++) {
        if (piece.data[i] >= 'a' && piece.data[i] <= 'z')
            continue;
        http_answer_status(exchange, 403);
        break;
    }
    return true;
}

static void picky_serve(struct http_exchange *exchange, void *context)
{
    (void)context;
    http_answer_status(exchange, 204);
}

// --- /sum: adds the bytes of each piece in a job; the body waits for it --------------------------

struct sum {
    struct weir_operation operation;
    struct http_exchange *exchange;
    struct http_text piece;
    char *memory;
    uint64_t total;
};

static int sum_run(struct weir_operation *operation)
{
    struct sum *sum = (struct sum *)operation;
    for (size_t i = 0; i < sum->piece.size; i++)
        sum->total += (unsigned char)sum->piece.data[i];
    return 0;
}

static void sum_done(struct weir_operation *operation, int64_t result)
{
    struct sum *sum = (struct sum *)operation;
    (void)result;
    free(sum->memory);
    sum->memory = NULL;
    if (sum->exchange)
        http_body_resume(sum->exchange);
    else
        free(sum);
}

static bool sum_piece(struct http_exchange *exchange, struct http_text piece, void *context)
{
    struct sum *sum = http_exchange_state(exchange);
    (void)context;
    if (!sum)
        sum = calloc(1, sizeof *sum);
    char *memory = sum ? malloc(piece.size) : NULL;
    if (!memory) {
        free(sum);
        http_exchange_set_state(exchange, NULL);
        http_answer_status(exchange, 503);
        return true;
    }
    memcpy(memory, piece.data, piece.size);
    http_exchange_set_state(exchange, sum);
    sum->exchange = exchange;
    sum->memory = memory;
    sum->piece = (struct http_text){ memory, piece.size };
    sum->operation =
        (struct weir_operation){ .done = sum_done, .stream = http_exchange_stream(exchange) };
    weir_job_start(weir_stream_loop(http_exchange_stream(exchange)), &sum->operation, sum_run);
    return false;
}

static void sum_serve(struct http_exchange *exchange, void *context)
{
    const struct http_answer answer = { .status = 200, .type = "text/plain; charset=utf-8" };
    struct sum *sum = http_exchange_state(exchange);
    char text[24];
    (void)context;
    int size = snprintf(text, sizeof text, "%llu", sum ? (unsigned long long)sum->total : 0);
    free(sum);
    http_exchange_set_state(exchange, NULL);
    http_answer(exchange, &answer, text, (size_t)size);
}

// The job may still run: then its end frees what it works on.
static void sum_gone(struct http_exchange *exchange, void *context)
{
    struct sum *sum = http_exchange_state(exchange);
    (void)context;
    sum->exchange = NULL;
    if (!sum->memory)
        free(sum);
}

// --- /promise: says five bytes, and brings three or nine -----------------------------------------

static void promise_serve(struct http_exchange *exchange, void *context)
{
    const struct http_answer answer = { .status = 200,
                                        .type = "text/plain; charset=utf-8",
                                        .length = 5 };
    bool less = http_text_is(http_exchange_request(exchange)->query, "less");
    (void)context;
    http_answer_begin(exchange, &answer);
    http_answer_piece(exchange, "one", 3);
    if (!less) {
        http_answer_piece(exchange, "two", 3);
        http_answer_piece(exchange, "six", 3);
    }
    http_answer_end(exchange);
}

// --- /long: pieces of one letter each, as the client takes them ----------------------------------

enum { LONG_PIECES = 512, LONG_PIECE = 8192 };

static void long_writable(struct http_exchange *exchange, void *context)
{
    int *next = http_exchange_state(exchange);
    char piece[LONG_PIECE];
    bool room = true;
    (void)context;
    while (room && *next < LONG_PIECES) {
        memset(piece, 'a' + (*next)++ % 26, sizeof piece);
        room = http_answer_piece(exchange, piece, sizeof piece);
    }
    if (!room)
        return;
    free(next);
    http_exchange_set_state(exchange, NULL);
    http_answer_end(exchange);
}

// It looks at the request no more, and keeps it all the same: the access log does.
static void long_serve(struct http_exchange *exchange, void *context)
{
    const struct http_answer answer = { .status = 200,
                                        .type = "text/plain; charset=utf-8",
                                        .length = HTTP_LENGTH_UNKNOWN };
    int *next = calloc(1, sizeof *next);
    if (!next || http_exchange_keep(exchange)) {
        free(next);
        http_answer_status(exchange, 503);
        return;
    }
    http_exchange_set_state(exchange, next);
    http_answer_begin(exchange, &answer);
    long_writable(exchange, context);
}

static void long_gone(struct http_exchange *exchange, void *context)
{
    (void)context;
    free(http_exchange_state(exchange));
}

static const struct http_route routes[] = {
    { .path = "/long",
      .methods = "GET",
      .serve = long_serve,
      .writable = long_writable,
      .gone = long_gone },
    { .path = "/promise", .methods = "GET, HEAD", .serve = promise_serve },
    { .path = "/late", .methods = "GET, POST", .serve = late_serve, .gone = late_leave },
    { .path = "/gone", .methods = "GET", .serve = gone_serve },
    { .path = "/picky", .methods = "POST", .serve = picky_serve, .piece = picky_piece },
    { .path = "/sum", .methods = "POST", .serve = sum_serve, .piece = sum_piece, .gone = sum_gone },
};

int main(int argc, char **argv)
{
    struct http_route all[7] = { http_route_hello };
    memcpy(all + 1, routes, sizeof routes);
    return http_program(argc, argv, all, 7);
}
