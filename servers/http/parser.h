// From bytes to requests: a strict HTTP/1.1 parser, without sockets, time or files.
//
// llhttp does the grammar with none of its lenient switches; this wrapper adds what servers must
// refuse beside it: other versions, ambiguous framing, unknown codings, hosts and targets that
// proxies read differently, and everything beyond the limits. The caller pulls events. In the usual
// case, a head in one piece, nothing is copied and nothing is allocated: texts point into the
// input. A head that comes in pieces moves into a store that grows with it.
#ifndef HTTP_PARSER_H
#define HTTP_PARSER_H

#include <llhttp.h>

#include "request.h"

struct http_parser_limits {
    uint32_t header_bytes; // of the whole head; of the trailers, names and values
    uint32_t headers;      // their number
};

// Where the texts of a head are collected. One for a loop serves all its parsers: a parser whose
// head is not complete at the end of its input moves to a head of its own.
struct http_head;
// NULL when memory is out; free() it.
struct http_head *http_head_create(const struct http_parser_limits *limits);

enum http_event {
    EVENT_MORE,  // all input was taken, more is needed
    EVENT_HEAD,  // `request` is complete; without has_body, it is the whole request
    EVENT_BODY,  // body_data and body_size: a piece of the body, in the input
    EVENT_END,   // the body is complete
    EVENT_ERROR, // `status` and `reason`: refuse, and read no further
};

struct http_parser {
    llhttp_t llhttp;
    const struct http_parser_limits *limits;
    struct http_head *scratch, *head; // head: scratch, or this parser's own
    struct http_request request;
    const char *body_data;
    size_t body_size;
    const char *reason; // of a refusal, a few words
    uint32_t counted;   // bytes of this head, or of the trailers' names and values
    uint32_t extension; // bytes of chunk extensions in this request
    uint16_t status;    // of a refusal: 400 to 505
    uint8_t phase, line;
    uint8_t trailers;
    bool paused;
    bool ended; // the request's end was met together with a piece of its body
};

// `limits` and `scratch` must outlive the parser.
void http_parser_init(struct http_parser *parser, const struct http_parser_limits *limits,
                      struct http_head *scratch);
void http_parser_fini(struct http_parser *parser);

// Takes bytes from *data on, up to `end`, until something is to be told.
enum http_event http_parser_next(struct http_parser *parser, const char **data, const char *end);

// Keeps the request's texts until its EVENT_END, beyond the input that they lie in. -ENOMEM.
int http_parser_keep(struct http_parser *parser);

// Forgets a request whose last event was told, and with it what was kept.
void http_parser_release(struct http_parser *parser);

// Whether a request has begun to come and is not complete.
bool http_parser_busy(const struct http_parser *parser);

// Whether its head is not complete.
bool http_parser_in_head(const struct http_parser *parser);

// Whether it has HEAD for its method, as far as it came, also where it was refused: then no answer
// has content.
bool http_parser_is_of_head(const struct http_parser *parser);

#endif
