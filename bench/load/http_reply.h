// Replies of an HTTP server, read as they come: enough of the protocol to know where a reply ends
// and whether it is the right one. Every reply must equal the first in status and length, and where
// it is compared, in its content.
#ifndef LOAD_HTTP_REPLY_H
#define LOAD_HTTP_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HTTP_REPLY_HEAD_MAX = 4096 };

// What the first reply was, of one worker.
struct http_reply_model {
    bool known;  // status and length
    bool hashed; // and the content
    uint32_t status;
    uint64_t length;
    uint64_t hash;
    bool bodiless; // the method is HEAD
};

// The reply that is coming on one connection. Zeroed at first.
struct http_reply {
    bool in_body;
    bool compares;
    uint32_t head_size; // of a head that came in pieces
    uint64_t left;      // of the content
    uint64_t hash;
    char head[HTTP_REPLY_HEAD_MAX];
};

enum http_reply_result {
    HTTP_REPLY_MORE,
    HTTP_REPLY_WHOLE,
    HTTP_REPLY_REFUSED,   // a status of 400 or above
    HTTP_REPLY_MALFORMED, // no HTTP, or a framing that is not understood
    HTTP_REPLY_DIFFERS,   // from the first
};

// Takes bytes of one reply; *ret_used of `size` were its. `compares`: look at the content too.
enum http_reply_result http_reply_take(struct http_reply *reply, struct http_reply_model *model,
                                       bool compares, const char *data, size_t size,
                                       size_t *ret_used);

// Writes the request; returns its length, or what it would need. `content` may be NULL for zeros.
size_t http_request_write(const char *method, const char *path, const char *host,
                          uint64_t body_size, char *ret_text, size_t room);

#endif
