// Conditional requests and ranges (RFC 9110, 13 and 14), as functions of the head and of what is
// known about the file.
#ifndef HTTP_CONDITION_H
#define HTTP_CONDITION_H

#include <time.h>

#include "request.h"

enum { HTTP_ETAG_SIZE = 48 };

// What a response is about. `etag` has its quotes.
struct http_validators {
    struct http_text etag;
    time_t modified;
    uint64_t size;
};

struct http_range {
    uint64_t from, size;
};

// 200: answer in full; 206 with *ret_range; 304, 412 or 416: without the content. `ranges` is false
// where Range is not supported.
int http_condition_status(const struct http_request *request,
                          const struct http_validators *validators, bool ranges, time_t now,
                          struct http_range *ret_range);

#endif
