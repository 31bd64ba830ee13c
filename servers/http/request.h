// A request's head, as the parser leaves it. Its texts lie in the parser's input or store: they are
// valid until the parser is asked for more, unless http_parser_keep() was called.
#ifndef HTTP_REQUEST_H
#define HTTP_REQUEST_H

#include "text.h"

enum http_method {
    METHOD_GET,
    METHOD_HEAD,
    METHOD_POST,
    METHOD_PUT,
    METHOD_DELETE,
    METHOD_OPTIONS,
    METHOD_PATCH,
    METHOD_OTHER, // known to the parser, and implemented by no handler but echo
};

// The fields that the server itself looks at.
enum http_field {
    FIELD_OTHER,
    FIELD_ACCEPT,
    FIELD_ACCEPT_ENCODING,
    FIELD_CONNECTION,
    FIELD_CONTENT_LENGTH,
    FIELD_CONTENT_TYPE,
    FIELD_EXPECT,
    FIELD_HOST,
    FIELD_IF_MATCH,
    FIELD_IF_MODIFIED_SINCE,
    FIELD_IF_NONE_MATCH,
    FIELD_IF_RANGE,
    FIELD_IF_UNMODIFIED_SINCE,
    FIELD_RANGE,
    FIELD_REFERER,
    FIELD_TRANSFER_ENCODING,
    FIELD_USER_AGENT,
    FIELD_COUNT,
};

struct http_header {
    struct http_text name, value;
    uint32_t field; // enum http_field
};

struct http_request {
    enum http_method method;
    struct http_text method_text;
    struct http_text target; // as sent
    struct http_text path;   // of the target: begins with '/', still encoded, without the query
    struct http_text query;  // without the '?'
    const struct http_header *headers;
    size_t headers_count;
    uint32_t fields; // bit i: a header with enum http_field i is there
    uint8_t minor;   // HTTP/1.minor
    bool keep_alive;
    bool has_body;
    bool chunked;
    bool expects_continue;
    uint64_t content_length; // of the body, when it is not chunked
};

static inline bool http_request_has(const struct http_request *request, enum http_field field)
{
    return request->fields >> field & 1;
}

// The value of the first header of the field; size 0 and data NULL when there is none.
struct http_text http_request_value(const struct http_request *request, enum http_field field);

// The next header of the field from *at on, for fields that are lists. Start with *at = 0.
bool http_request_next(const struct http_request *request, enum http_field field, size_t *at,
                       struct http_text *ret_value);

// The field that a header's name stands for.
enum http_field http_field_find(struct http_text name);

#endif
