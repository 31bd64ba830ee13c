// The bodies of requests: collected for their handler up to --max-body, told to it in pieces, or
// dropped. See connection.h.
#include <errno.h>
#include <stdlib.h>

#include "connection.h"

enum { BODY_ROOM_MIN = 4096 };

uint64_t http_connection_body_max(const struct http_exchange *exchange)
{
    const struct http_route *route = exchange->route;
    if (route->piece && route->body_max)
        return route->body_max;
    return exchange->worker->site->settings->body_max;
}

// Room for `size` bytes, out of what all connections may collect together. It grows with what
// comes: a length that was only promised takes nobody's room.
static int body_grow(struct http_exchange *exchange, size_t size)
{
    struct http_site *site = exchange->worker->site;
    if (size <= exchange->body_room)
        return 0;
    size_t room = exchange->body_room * 2 < BODY_ROOM_MIN ? BODY_ROOM_MIN : exchange->body_room * 2;
    uint64_t known = exchange->parser.request.content_length;
    if (room < size)
        room = size;
    if (known >= size && known < room)
        room = (size_t)known;
    size_t added = room - exchange->body_room;
    uint64_t used = atomic_fetch_add_explicit(&site->bodies_used, added, memory_order_relaxed);
    char *memory = NULL;
    if (used + added <= site->settings->bodies_max)
        memory = realloc(exchange->body_memory, room);
    if (!memory) {
        atomic_fetch_sub_explicit(&site->bodies_used, added, memory_order_relaxed);
        return -ENOMEM;
    }
    exchange->body_memory = memory;
    exchange->body_room = room;
    return 0;
}

static int body_copy(struct http_exchange *exchange, const char *data, size_t size)
{
    int error = body_grow(exchange, exchange->body_size + size);
    if (error)
        return error;
    memcpy(exchange->body_memory + exchange->body_size, data, size);
    exchange->body = exchange->body_memory;
    exchange->body_size += size;
    return 0;
}

// A body that its handler takes in pieces. The handler may answer meanwhile.
static void body_tell(struct http_exchange *exchange)
{
    const struct http_route *route = exchange->route;
    const struct http_text piece = { exchange->parser.body_data, exchange->parser.body_size };
    exchange->body_told += piece.size;
    if (exchange->body_told > http_connection_body_max(exchange)) {
        http_exchange_refuse(exchange, 413, "the body is longer than --max-body");
        return;
    }
    bool more = route->piece(exchange, piece, route->context);
    if (exchange->phase == CONNECTION_BODY)
        exchange->body_paused = !more;
}

// What nobody wants any more.
static void body_drop(struct http_exchange *exchange)
{
    exchange->body_told += exchange->parser.body_size;
    if (exchange->body_told <= CONNECTION_DISCARD_MAX)
        return;
    http_connection_end(exchange); // UNTESTED: needs a long body behind its answer
}

static void body_refuse(struct http_exchange *exchange)
{
    http_count(exchange->worker, COUNTER_BODIES_REFUSED);
    http_exchange_refuse(exchange, 503, "no memory for the body");
}

void http_connection_body(struct http_exchange *exchange)
{
    const struct http_parser *parser = &exchange->parser;
    exchange->received_total += parser->body_size;
    if (exchange->phase == CONNECTION_DISCARD) {
        body_drop(exchange);
        return;
    }
    if (exchange->route->piece) {
        body_tell(exchange);
        return;
    }
    // A body in one piece is not copied: its end is the next event.
    if (!parser->request.chunked && parser->body_size == parser->request.content_length) {
        exchange->body = parser->body_data;
        exchange->body_size = parser->body_size;
        return;
    }
    if (exchange->body_size + parser->body_size > exchange->worker->site->settings->body_max)
        http_exchange_refuse(exchange, 413, "the body is longer than --max-body");
    else if (body_copy(exchange, parser->body_data, parser->body_size))
        body_refuse(exchange);
}

void http_body_resume(struct http_exchange *exchange)
{
    if (!exchange->body_paused)
        return; // UNTESTED: handlers resume what they paused
    exchange->body_paused = false;
    http_connection_continue(exchange);
}

int http_exchange_keep(struct http_exchange *exchange)
{
    if (exchange->kept)
        return 0;
    int error = http_parser_keep(&exchange->parser);
    if (!error && exchange->body_size && exchange->body != exchange->body_memory) {
        const char *body = exchange->body;
        size_t size = exchange->body_size;
        exchange->body_size = 0;
        error = body_copy(exchange, body, size);
        if (error)
            exchange->body_size = size; // UNTESTED: needs memory to run out between two copies
    }
    exchange->kept = !error;
    return error;
}
