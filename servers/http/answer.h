// Writing the head of a response.
#ifndef HTTP_ANSWER_H
#define HTTP_ANSWER_H

#include "condition.h"
#include "date.h"

enum http_coding { CODING_IDENTITY, CODING_GZIP, CODING_BROTLI, CODING_ZSTD, CODING_COUNT };

enum http_persistence {
    PERSISTENCE_DEFAULT, // HTTP/1.1 that stays open
    PERSISTENCE_KEEP,    // HTTP/1.0 that stays open: it must be told
    PERSISTENCE_CLOSE,
};

// A location up to its bound fits beside the lines that every answer has.
enum { HTTP_HEAD_MAX = 6144, HTTP_LOCATION_MAX = 5120 };

#define HTTP_LENGTH_UNKNOWN UINT64_MAX

// What a response says. Members that are zero are left out.
struct http_answer {
    int status;
    const char *type;
    uint64_t length; // of the content that GET would get; HTTP_LENGTH_UNKNOWN: it is streamed
    const struct http_validators *validators;
    const struct http_range *range; // 206
    enum http_coding coding;
    bool varies; // by Accept-Encoding
    bool varies_by_accept;
    bool ranges;                   // Accept-Ranges
    const char *allow;             // 405
    struct http_text location;     // of a redirection
    struct http_text extra;        // further lines, each with its CRLF
    bool chunked;                  // set by the connection
    enum http_persistence persist; // set by the connection
};

const char *http_status_text(int status);
const char *http_coding_name(enum http_coding coding);

// Writes at most HTTP_HEAD_MAX bytes and returns how many. The date stands at *ret_date_offset, so
// that a kept head can be renewed. A location or extra lines that do not fit are left out.
size_t http_answer_write(const struct http_answer *answer, const char date[HTTP_DATE_SIZE],
                         char *ret_head, size_t *ret_date_offset);

// The strong entity tag of a version of a file.
struct http_text http_etag_write(const struct timespec *modified, uint64_t size,
                                 enum http_coding coding, char ret_text[HTTP_ETAG_SIZE]);

#endif
