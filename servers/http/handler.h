// Dynamic routes: C functions that answer requests.
//
// A route is a row: a path, the methods it takes, and `serve`, which is called once for each
// request, when head and body are complete. With `piece`, bodies are not collected: it is told each
// piece as it comes, holds up the sender by returning false, and may begin the answer. The answer
// is given in one of three ways:
//   - with http_answer(): status, type, further lines and the whole content;
//   - with http_answer_begin(), then http_answer_piece() as long as that returns true, going on in
//     `writable` when it does not, and http_answer_end();
//   - later: it calls http_exchange_keep() and answers from a callback of its own, a timer's or a
//     job's.
// If `serve` returns before the answer is complete, in either of the last two, it has to call
// http_exchange_keep() first.
// Who has set a state hears by `gone` when the connection ends, or the rest of the body is refused,
// before the answer is complete. Callbacks run on the loop of the connection, with any engine.
#ifndef HTTP_HANDLER_H
#define HTTP_HANDLER_H

#include <weir.h>

#include "answer.h"

// One request and its answer. It belongs to its connection, and is over with the last byte of the
// answer: after http_answer() or http_answer_end() it must not be used.
struct http_exchange;

struct http_route {
    const char *path;    // the whole path; one that ends with '/' stands for all below it as well
    const char *methods; // for Allow; "*": all
    void (*serve)(struct http_exchange *exchange, void *context);
    // False: no more of the body until http_body_resume(). NULL: bodies are collected for `serve`.
    bool (*piece)(struct http_exchange *exchange, struct http_text piece, void *context);
    void (*writable)(struct http_exchange *exchange, void *context); // may be NULL
    void (*gone)(struct http_exchange *exchange, void *context);     // may be NULL
    void *context;
    uint64_t body_max; // of a body that is told in pieces; 0: --max-body
};

// The request and its body; valid until `serve` or `piece` returns, unless http_exchange_keep()
// returned 0.
const struct http_request *http_exchange_request(const struct http_exchange *exchange);
struct http_text http_exchange_body(const struct http_exchange *exchange);

// Goes on with a body after `piece` returned false; not inside of `piece`.
void http_body_resume(struct http_exchange *exchange);

// Keeps request and body until the exchange is over. Needed whenever `serve` returns before the
// answer is complete; also by a handler that goes on in `writable` and never looks at the request
// again, because the access log does, when the answer ends or breaks off. Not needed in `piece`:
// while a body comes, the server keeps the head by itself. The texts move: those that were copied
// out of the request before have to be taken from it again. -ENOMEM: nothing is kept, and the
// answer must be another one that `serve` completes; so it belongs before http_answer_begin().
int http_exchange_keep(struct http_exchange *exchange);

// The stream, for the owner of an operation, its loop, and its peer's address.
struct weir_stream *http_exchange_stream(struct http_exchange *exchange);

// A pointer of the handler's own, NULL at first.
void http_exchange_set_state(struct http_exchange *exchange, void *state);
void *http_exchange_state(const struct http_exchange *exchange);

// Answers with `size` bytes of content; HEAD, 204 and 304 leave them out. What is still to come of
// the body is dropped: up to 64 KiB are read, beyond that the connection closes.
void http_answer(struct http_exchange *exchange, const struct http_answer *answer,
                 const void *content, size_t size);

// Answers with a range of a file, which the exchange takes its own reference to.
void http_answer_file(struct http_exchange *exchange, const struct http_answer *answer,
                      struct weir_file *file, uint64_t offset, uint64_t size);

// Answers with a status and a line of text that says so.
void http_answer_status(struct http_exchange *exchange, int status);

// A streamed answer. With a known answer->length exactly so many bytes must follow; otherwise they
// are chunked, or end with the connection for an HTTP/1.0 client.
void http_answer_begin(struct http_exchange *exchange, const struct http_answer *answer);
// Queues a piece. False: go on when `writable` is called.
bool http_answer_piece(struct http_exchange *exchange, const void *data, size_t size);
void http_answer_end(struct http_exchange *exchange);

#endif
