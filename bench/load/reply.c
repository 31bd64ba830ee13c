// Replies by protocol: where each ends, and whether it is right.
#include "worker.h"

static struct reply_piece reply_take_echo(const struct connection *connection, bool compares,
                                          const struct weir_slice *slice)
{
    const struct worker *worker = connection->worker;
    uint64_t left = worker->options->size - connection->received;
    size_t size = slice->size < left ? slice->size : (size_t)left;
    bool right = !compares ||
                 payload_matches(worker->payload, connection->receive_offset, slice->data, size);
    return (struct reply_piece){ size, size == left, right ? FAILURE_COUNT : FAILURE_CORRUPT };
}

static struct reply_piece reply_take_http(const struct connection *connection, bool compares,
                                          const struct weir_slice *slice)
{
    static const enum failure failures[] = {
        [HTTP_REPLY_MORE] = FAILURE_COUNT,      [HTTP_REPLY_WHOLE] = FAILURE_COUNT,
        [HTTP_REPLY_REFUSED] = FAILURE_STATUS,  [HTTP_REPLY_MALFORMED] = FAILURE_MALFORMED,
        [HTTP_REPLY_DIFFERS] = FAILURE_CORRUPT,
    };
    struct reply_piece piece;
    enum http_reply_result result =
        http_reply_take(connection->http, &connection->worker->http_model, compares, slice->data,
                        slice->size, &piece.used);
    piece.whole = result == HTTP_REPLY_WHOLE;
    piece.failure = failures[result];
    return piece;
}

struct reply_piece reply_take(const struct connection *connection, bool compares,
                              const struct weir_slice *slice)
{
    return (connection->http ? reply_take_http : reply_take_echo)(connection, compares, slice);
}
