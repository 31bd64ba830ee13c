// What an HTTP client of a simulated run asks, and what it deserves for it, byte for byte. The
// answers are made here from what was asked and from the files, and from nothing of the server's.
#ifndef SIM_HTTP_SCRIPT_H
#define SIM_HTTP_SCRIPT_H

#include "run.h"

enum {
    HTTP_ASKS_MAX = 10,
    HTTP_OUTPUT_MAX = 96 * 1024,
    HTTP_CANDIDATES_MAX = 32,
    HTTP_EXPECTED_HEAD_MAX = 1536,
    HTTP_FILE_MAX = 260000,
    HTTP_CONTENT_MAX = 96 * 1024, // larger files are sent, not read
    HTTP_DATE = 29,
};

// A file below the root, which may be replaced once while the run goes on.
struct http_file {
    const char *path, *asked, *type;
    bool replaced; // it may be
    size_t size[2];
    uint64_t modified_ns[2];
    uint64_t key[2]; // of the content's pattern
    // A sibling with the ending .gz: 0 if there is none, or if it is older and does not count.
    size_t packed_size;
    uint64_t packed_modified_ns, packed_key;
};

enum http_ask_kind {
    HTTP_ASK_FILE,
    HTTP_ASK_FIXED,   // an answer that depends on nothing: missing files, unknown methods ...
    HTTP_ASK_ECHO,    // of the echo handler
    HTTP_ASK_HEADERS, // of its other route
};

enum http_condition {
    HTTP_NO_CONDITION,
    HTTP_IF_NONE_MATCH,
    HTTP_IF_MATCH,
    HTTP_IF_MODIFIED,
    HTTP_IF_UNMODIFIED,
    HTTP_CONDITIONS,
};

struct http_ask {
    enum http_ask_kind kind;
    const struct http_fixed *fixed;
    const struct http_file *file;
    bool head;                     // by HEAD
    bool old;                      // HTTP/1.0
    bool asks_close, asks_keep;    // Connection
    bool gzip;                     // Accept-Encoding
    bool ranged, suffix;           // Range: bytes=FROM-TO, or bytes=-FROM
    uint64_t from, to;             // to == UINT64_MAX: to the end
    bool if_range, if_range_other; // with the first version's tag, or with none's
    enum http_condition condition;
    bool condition_other; // a tag or a time that fits no version
    bool chunked, expects;
    uint64_t body_key;
    size_t body_size;
    size_t head_at, head_size, end; // in the client's output
};

// An answer that may be the right one.
struct http_candidate {
    int status;
    char head[HTTP_EXPECTED_HEAD_MAX]; // with a date of zeroes
    size_t head_size, date_at, before; // `before`: bytes of an interim answer
    char text[HTTP_EXPECTED_HEAD_MAX]; // the content, if it is short
    bool patterned;
    uint64_t key, from; // of the content, if it is a pattern
    uint64_t size;      // of the content
    bool closes;
    bool sent; // from a file that is read while it is sent: that may fail in the middle
};

struct http_world {
    struct run *run;
    bool echo, impatient, faulty;
    uint64_t requests_max, body_max;
    uint64_t requests, log_dropped;
    bool logs;
    struct http_file *files;
    size_t files_count;
};

struct http_script {
    struct http_world *world;
    struct http_ask asks[HTTP_ASKS_MAX];
    uint32_t asks_count, answering;
    bool pipelines;
    char output[HTTP_OUTPUT_MAX];
    size_t output_size;
    struct http_candidate candidates[HTTP_CANDIDATES_MAX];
    uint32_t candidates_count, alive; // a bit for each
    bool early;                       // candidates that come before 100 are being made
    bool expecting;                   // the candidates are those of the ask
    uint64_t at;                      // bytes of the answer that came
    char got[HTTP_EXPECTED_HEAD_MAX];
    bool closed;                    // the last answer says that the connection closes
    uint64_t start_ns, last_second; // of the client's begin, and of the last date
    uint64_t asked_ns;              // the ask was sent then or later
    bool thinks;                    // it waits before it goes on
};

// Draws the requests and writes them.
void http_script_draw(struct http_script *script, struct client *client);
// All answers that may follow now, into the script.
void http_expect(struct http_script *script);
// Bytes of a candidate from `at` on, up to `most` in one piece; NULL: the date.
const char *http_candidate_bytes(const struct http_candidate *candidate, uint64_t at,
                                 size_t *ret_size);

#endif
