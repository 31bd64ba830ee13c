// See http_expect.h.
#include "http_expect.h"

#include <stdarg.h>
#include <string.h>
#include <time.h>

// As long as an answer may be kept without a look at its file, and a little for its way.
#define HTTP_FRESH_NS 1010000000ULL

// --- Fixed answers -------------------------------------------------------------------------------

static const struct http_fixed expect_fixed[] = {
    { .request = "GET /missing HTTP/1.1\r\nHost: a\r\n", .status = 404 },
    { .request = "GET /small.txt/below HTTP/1.1\r\nHost: a\r\n", .status = 404 },
    { .request = "GET /.hidden HTTP/1.1\r\nHost: a\r\n", .status = 404 },
    { .request = "GET /dir/../../etc/passwd HTTP/1.1\r\nHost: a\r\n", .status = 404 },
    { .request = "GET /%2e%2e/etc/passwd HTTP/1.1\r\nHost: a\r\n", .status = 404 },
    { .request = "GET /%zz HTTP/1.1\r\nHost: a\r\n",
      .status = 400,
      .content = "malformed path",
      .closes = true },
    { .request = "GET /dir HTTP/1.1\r\nHost: a\r\n", .status = 301, .location = "/dir/" },
    { .request = "GET /dir?a=b HTTP/1.1\r\nHost: a\r\n", .status = 301, .location = "/dir/?a=b" },
    { .request = "GET /dir/sub/ HTTP/1.1\r\nHost: a\r\n", .status = 403 },
    { .request = "DELETE /small.txt HTTP/1.1\r\nHost: a\r\n", .status = 405, .allow = "GET, HEAD" },
    { .request = "POST /small.txt HTTP/1.1\r\nHost: a\r\n",
      .body = true,
      .status = 405,
      .allow = "GET, HEAD" },
    { .request = "PUT /missing HTTP/1.1\r\nHost: a\r\n",
      .body = true,
      .status = 405,
      .allow = "GET, HEAD" },
    { .request = "PROPFIND / HTTP/1.1\r\nHost: a\r\n", .body = true, .status = 501 },
    { .request = "BREW /pot HTTP/1.1\r\nHost: a\r\n",
      .status = 501,
      .content = "Invalid method encountered",
      .closes = true },
    { .request = "MKCOL /small.txt HTTP/1.1\r\nHost: a\r\n", .status = 501 },
    { .request = "GET /small.txt HTTP/2.0\r\nHost: a\r\n",
      .status = 505,
      .content = "version",
      .closes = true },
    { .request = "GET /small.txt HTTP/1.1\r\n",
      .status = 400,
      .content = "no Host",
      .closes = true },
    { .request = "GET /small.txt\r\n",
      .status = 400,
      .content = "malformed request line",
      .closes = true },
    { .request = "GET /an/echo HTTP/2.0\r\nHost: a\r\n",
      .echo = true,
      .status = 505,
      .content = "version",
      .closes = true },
    { .request = "GET /an/echo HTTP/1.1\r\n",
      .echo = true,
      .status = 400,
      .content = "no Host",
      .closes = true },
};

const struct http_fixed *http_fixed_draw(bool echo, const struct client *client)
{
    const size_t count = sizeof expect_fixed / sizeof *expect_fixed;
    const struct http_fixed *fixed;
    do
        fixed = &expect_fixed[client_random(client, count)];
    while (fixed->echo != echo);
    return fixed;
}

// --- Parts of an answer --------------------------------------------------------------------------

void http_expect_tag(uint64_t modified_ns, size_t size, const char *ending, char ret_text[64])
{
    snprintf(ret_text, 64, "\"%llx-%zx%s\"", (unsigned long long)modified_ns, size, ending);
}

void http_expect_date(uint64_t second, char ret_text[HTTP_DATE + 1])
{
    time_t time = (time_t)second;
    struct tm parts;
    gmtime_r(&time, &parts);
    strftime(ret_text, HTTP_DATE + 1, "%a, %d %b %Y %H:%M:%S GMT", &parts);
}

static const char *expect_status(int status)
{
    static const struct {
        int status;
        const char *text;
    } rows[] = {
        { 200, "200 OK" },
        { 206, "206 Partial Content" },
        { 301, "301 Moved Permanently" },
        { 304, "304 Not Modified" },
        { 400, "400 Bad Request" },
        { 403, "403 Forbidden" },
        { 404, "404 Not Found" },
        { 405, "405 Method Not Allowed" },
        { 408, "408 Request Timeout" },
        { 412, "412 Precondition Failed" },
        { 413, "413 Content Too Large" },
        { 416, "416 Range Not Satisfiable" },
        { 500, "500 Internal Server Error" },
        { 501, "501 Not Implemented" },
        { 503, "503 Service Unavailable" },
        { 505, "505 HTTP Version Not Supported" },
    };
    size_t i = 0;
    while (rows[i].status != status)
        i++;
    return rows[i].text;
}

static void expect_write(struct http_candidate *candidate, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void expect_write(struct http_candidate *candidate, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    candidate->head_size +=
        (size_t)vsnprintf(candidate->head + candidate->head_size,
                          sizeof candidate->head - candidate->head_size, format, arguments);
    va_end(arguments);
}

// Whether this ask is the connection's last by what was asked and configured.
static bool expect_final(const struct http_script *script, const struct http_ask *ask)
{
    const struct http_world *world = script->world;
    return ask->asks_close || (ask->old && !ask->asks_keep) ||
           (world->requests_max && script->answering + 1 >= world->requests_max);
}

// The next candidate, with its head up to the lines that the answer itself adds.
static struct http_candidate *expect_begin(struct http_script *script, int status, bool closes)
{
    const struct http_ask *ask = &script->asks[script->answering];
    struct http_candidate *candidate = &script->candidates[script->candidates_count++];
    candidate->status = status;
    candidate->head_size = candidate->size = candidate->before = 0;
    candidate->patterned = candidate->sent = false;
    candidate->closes = closes;
    if (!script->early && ask->expects &&
        (ask->chunked || ask->body_size <= script->world->body_max)) {
        expect_write(candidate, "HTTP/1.1 100 Continue\r\n\r\n");
        candidate->before = candidate->head_size;
    }
    expect_write(candidate, "HTTP/1.1 %s\r\nDate: ", expect_status(status));
    candidate->date_at = candidate->head_size;
    expect_write(candidate, "%29s\r\n", "");
    if (closes)
        expect_write(candidate, "Connection: close\r\n");
    else if (ask->old)
        expect_write(candidate, "Connection: keep-alive\r\n");
    return candidate;
}

static void expect_end(struct http_candidate *candidate)
{
    if (candidate->status != 304)
        expect_write(candidate, "X-Content-Type-Options: nosniff\r\n");
    expect_write(candidate, "\r\n");
}

// --- Short answers -------------------------------------------------------------------------------

struct expect_short {
    int status;
    bool closes;
    const char *reason; // of a refusal, behind the status's text
    const char *allow, *location;
};

static void expect_short(struct http_script *script, struct expect_short wanted)
{
    const struct http_ask *ask = &script->asks[script->answering];
    struct http_candidate *candidate = expect_begin(script, wanted.status, wanted.closes);
    const char *text = expect_status(wanted.status);
    if (wanted.reason)
        snprintf(candidate->text, sizeof candidate->text, "%s: %s\n", text, wanted.reason);
    else
        snprintf(candidate->text, sizeof candidate->text, "%s\n", text);
    if (wanted.location)
        candidate->text[0] = '\0';
    else
        expect_write(candidate, "Content-Type: text/plain; charset=utf-8\r\n");
    size_t size = strlen(candidate->text);
    expect_write(candidate, "Content-Length: %zu\r\n", size);
    if (wanted.allow)
        expect_write(candidate, "Allow: %s\r\n", wanted.allow);
    if (wanted.location)
        expect_write(candidate, "Location: %s\r\n", wanted.location);
    expect_end(candidate);
    candidate->size = ask->head && !wanted.reason ? 0 : size;
}

// Before the request was understood.
static void expect_giving_up(struct http_script *script)
{
    const struct http_world *world = script->world;
    if (world->impatient) {
        expect_short(script, (struct expect_short){ 408, true, "slower than --min-rate", 0, 0 });
        expect_short(script, (struct expect_short){ 408, true, "the head took too long", 0, 0 });
    }
    if (world->run->lacks_memory) {
        expect_short(script, (struct expect_short){ 503, true, "out of memory", 0, 0 });
        expect_short(script, (struct expect_short){ 503, true, "no memory for the head", 0, 0 });
        expect_short(script, (struct expect_short){ 503, true, "no memory for the body", 0, 0 });
    }
}

// What a request deserves that met trouble of the server's own.
static void expect_trouble(struct http_script *script, bool final)
{
    const struct http_world *world = script->world;
    const struct http_ask *ask = &script->asks[script->answering];
    bool reads = ask->kind == HTTP_ASK_FILE || (ask->fixed && !ask->fixed->echo);
    if (reads && world->faulty) {
        expect_short(script, (struct expect_short){ .status = 500, .closes = true });
        expect_short(script, (struct expect_short){ .status = 404, .closes = final });
        expect_short(script, (struct expect_short){ .status = 403, .closes = final });
    }
    bool refused = world->run->lacks_descriptors || world->run->faults.chances[SIM_JOB_REFUSED];
    if (world->run->lacks_memory || (reads && (world->faulty || refused))) {
        expect_short(script, (struct expect_short){ .status = 503, .closes = true });
        expect_short(script, (struct expect_short){ .status = 503, .closes = final });
    }
    expect_giving_up(script);
    script->early = ask->expects; // nor was the client told to go on
    if (script->early)
        expect_giving_up(script);
    script->early = false;
}

static void expect_fixed_answer(struct http_script *script, const struct http_fixed *fixed,
                                bool final)
{
    expect_short(script, (struct expect_short){ .status = fixed->status,
                                                .closes = fixed->closes || final,
                                                .reason = fixed->content,
                                                .allow = fixed->allow,
                                                .location = fixed->location });
}

// --- Files ---------------------------------------------------------------------------------------

// A version of a file, as an answer may carry it.
struct expect_version {
    uint64_t modified_ns, key;
    size_t size;
    bool packed, varies;
    const char *type;
};

static int expect_condition(const struct http_ask *ask, const struct expect_version *version)
{
    char tag[64], first[64];
    uint64_t since = ask->file->modified_ns[0] / 1000000000 - (ask->condition_other ? 86400 : 0);
    bool newer = version->modified_ns / 1000000000 > since;
    http_expect_tag(version->modified_ns, version->size, version->packed ? "-gz" : "", tag);
    http_expect_tag(ask->file->modified_ns[0], ask->file->size[0], "", first);
    bool matches = !ask->condition_other && strcmp(tag, first) == 0;
    switch (ask->condition) {
    case HTTP_IF_NONE_MATCH:
        return matches ? 304 : 200;
    case HTTP_IF_MATCH:
        return matches ? 200 : 412;
    case HTTP_IF_MODIFIED:
        return newer ? 200 : 304;
    case HTTP_IF_UNMODIFIED:
        return newer ? 412 : 200;
    case HTTP_NO_CONDITION:
    case HTTP_CONDITIONS:
        break;
    }
    return 200;
}

// 200, 206 or 416 with what is left of the content.
static int expect_range(const struct http_ask *ask, const struct expect_version *version,
                        uint64_t *ret_from, uint64_t *ret_size)
{
    char tag[64], first[64];
    uint64_t size = version->size, from = ask->from, to = ask->to;
    if (!ask->ranged || ask->head)
        return 200;
    http_expect_tag(version->modified_ns, version->size, "", tag);
    http_expect_tag(ask->file->modified_ns[0], ask->file->size[0], "", first);
    if (ask->if_range && (ask->if_range_other || strcmp(tag, first) != 0))
        return 200;
    if (ask->suffix) {
        if (!from || !size)
            return 416;
        from = from < size ? size - from : 0;
        to = size - 1;
    }
    if (from >= size)
        return 416;
    if (to >= size)
        to = size - 1;
    *ret_from = from;
    *ret_size = to - from + 1;
    return 206;
}

static void expect_validators(struct http_candidate *candidate,
                              const struct expect_version *version, uint64_t from, uint64_t size)
{
    char tag[64], date[HTTP_DATE + 1];
    if (candidate->status == 206)
        expect_write(candidate, "Content-Range: bytes %llu-%llu/%zu\r\n", (unsigned long long)from,
                     (unsigned long long)(from + size - 1), version->size);
    if (candidate->status == 416)
        expect_write(candidate, "Content-Range: bytes */%zu\r\n", version->size);
    http_expect_date(version->modified_ns / 1000000000, date);
    http_expect_tag(version->modified_ns, version->size, version->packed ? "-gz" : "", tag);
    expect_write(candidate, "Last-Modified: %s\r\nETag: %s\r\n", date, tag);
    if (!version->packed)
        expect_write(candidate, "Accept-Ranges: bytes\r\n");
    if (version->varies)
        expect_write(candidate, "Vary: Accept-Encoding\r\n");
}

static void expect_version(struct http_script *script, const struct expect_version *version,
                           bool final)
{
    const struct http_ask *ask = &script->asks[script->answering];
    uint64_t from = 0, size = version->size;
    int status = expect_condition(ask, version);
    if (status == 200 && !version->packed)
        status = expect_range(ask, version, &from, &size);
    struct http_candidate *candidate = expect_begin(script, status, final);
    bool refused = status == 412 || status == 416;
    if (refused) {
        strcpy(candidate->text, expect_status(status));
        size = strlen(candidate->text);
        expect_write(candidate, "Content-Type: text/plain; charset=utf-8\r\n");
    } else if (status != 304) {
        expect_write(candidate, "Content-Type: %s\r\n", version->type);
    }
    if (status != 304)
        expect_write(candidate, "Content-Length: %llu\r\n", (unsigned long long)size);
    if (version->packed && !refused && status != 304)
        expect_write(candidate, "Content-Encoding: gzip\r\n");
    expect_validators(candidate, version, from, size);
    expect_end(candidate);
    candidate->size = ask->head || status == 304 ? 0 : size;
    candidate->patterned = !refused;
    candidate->key = version->key;
    candidate->from = from;
    candidate->sent = candidate->patterned && version->size > HTTP_CONTENT_MAX;
}

// Nobody gets the old version of a file a second after it was replaced.
static bool expect_is_stale(const struct http_script *script, const struct http_file *file)
{
    const struct sim *sim = script->world->run->sim;
    uint64_t asked_ns = sim_real_time(sim) - sim_now(sim) + script->asked_ns;
    return file->replaced && !script->pipelines && asked_ns > file->modified_ns[1] + HTTP_FRESH_NS;
}

static void expect_file(struct http_script *script, const struct http_ask *ask, bool final)
{
    const struct http_file *file = ask->file;
    for (int i = expect_is_stale(script, file); i < (file->replaced ? 2 : 1); i++) {
        struct expect_version version = { .modified_ns = file->modified_ns[i],
                                          .key = file->key[i],
                                          .size = file->size[i],
                                          .varies = file->packed_size != 0,
                                          .type = file->type };
        if (!file->packed_size || !ask->gzip || ask->ranged || script->world->faulty ||
            script->world->run->lacks_descriptors)
            expect_version(script, &version, final);
        version.varies = false; // the sibling could not be looked at
        if (file->packed_size && (script->world->faulty || script->world->run->lacks_descriptors))
            expect_version(script, &version, final);
    }
    if (!file->packed_size || !ask->gzip || ask->ranged)
        return;
    const struct expect_version packed = { .modified_ns = file->packed_modified_ns,
                                           .key = file->packed_key,
                                           .size = file->packed_size,
                                           .packed = true,
                                           .varies = true,
                                           .type = file->type };
    expect_version(script, &packed, final);
}

// --- The echo handler ----------------------------------------------------------------------------

static void expect_echo(struct http_script *script, const struct http_ask *ask, bool final)
{
    struct http_candidate *candidate = expect_begin(script, 200, final);
    expect_write(candidate, "Content-Type: %s\r\nContent-Length: %zu\r\n",
                 ask->body_key % 2 ? "text/simulated" : "application/octet-stream", ask->body_size);
    expect_end(candidate);
    candidate->patterned = true;
    candidate->key = ask->body_key;
    candidate->from = 0;
    candidate->size = ask->body_size;
}

// The request's own head, with lines that end as lines do here.
static void expect_headers(struct http_script *script, const struct http_ask *ask, bool final)
{
    struct http_candidate *candidate = expect_begin(script, 200, final);
    const char *at = script->output + ask->head_at;
    size_t size = 0;
    for (size_t i = 0; i < ask->head_size - 2; i++) {
        if (at[i] != '\r')
            candidate->text[size++] = at[i];
    }
    expect_write(candidate, "Content-Type: text/plain; charset=utf-8\r\nContent-Length: %zu\r\n",
                 size);
    expect_end(candidate);
    candidate->size = size;
}

// All that the request deserves if the connection closes behind it, or does not.
static void expect_all(struct http_script *script, const struct http_ask *ask, bool final)
{
    bool too_long = ask->kind == HTTP_ASK_ECHO && ask->body_size > script->world->body_max;
    if (too_long)
        expect_short(
            script, (struct expect_short){ 413, true, "the body is longer than --max-body", 0, 0 });
    else if (ask->kind == HTTP_ASK_FIXED)
        expect_fixed_answer(script, ask->fixed, final);
    else if (ask->kind == HTTP_ASK_FILE)
        expect_file(script, ask, final);
    else if (ask->kind == HTTP_ASK_ECHO)
        expect_echo(script, ask, final);
    else
        expect_headers(script, ask, final);
    expect_trouble(script, final);
}

void http_expect(struct http_script *script)
{
    const struct http_ask *ask = &script->asks[script->answering];
    bool final = expect_final(script, ask);
    script->candidates_count = 0;
    expect_all(script, ask, final);
    // A server that ends closes each connection behind its answer, and so does age.
    if (!final && (script->world->run->drains || script->world->run->ages))
        expect_all(script, ask, true);
    script->alive = (uint32_t)((1ULL << script->candidates_count) - 1);
    script->at = 0;
    script->expecting = true;
}

const char *http_candidate_bytes(const struct http_candidate *candidate, uint64_t at,
                                 size_t *ret_size)
{
    uint64_t date_end = candidate->date_at + HTTP_DATE;
    if (at < candidate->head_size) {
        bool in_date = at >= candidate->date_at && at < date_end;
        uint64_t end = in_date                   ? date_end
                       : at < candidate->date_at ? candidate->date_at
                                                 : candidate->head_size;
        *ret_size = end - at;
        return in_date ? NULL : candidate->head + at;
    }
    at -= candidate->head_size;
    uint64_t left = candidate->size - at;
    *ret_size = left < CLIENT_PIECE ? (size_t)left : (size_t)CLIENT_PIECE;
    return candidate->patterned ? client_pattern(candidate->key, candidate->from + at)
                                : candidate->text + at;
}
