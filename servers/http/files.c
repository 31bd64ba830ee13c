// The files handler: everything below the root.
//
// A hit of the cache is answered on the spot: no system call, no allocation, one copy. Otherwise
// the file is looked up, first with what the kernel has in memory (openat2's RESOLVE_CACHED and
// RWF_NOWAIT), and only if that would wait for a disk as a job. docs/decisions/http-files.md has
// the numbers.
#include <errno.h>
#include <stdlib.h>

#include "connection.h"
#include "files_listing.h"
#include "listing.h"
#include "mime.h"
#include "routes.h"

// A lookup that became a job.
struct files_job {
    struct weir_operation operation;
    struct http_exchange *exchange;
    struct http_lookup lookup;
};

static unsigned files_codings(const struct http_request *request)
{
    // A range is cut from the content as it lies in the file.
    if (http_request_has(request, FIELD_RANGE))
        return 0;
    return http_codings_accepted(request);
}

// --- Answers -------------------------------------------------------------------------------------

// Answers with what the conditions leave of the content: whole, a range, or nothing of it. The
// content lies in memory, or in the file.
static void files_answer(struct http_exchange *exchange, const struct http_validators *validators,
                         const struct lookup_identity *identity, const char *type,
                         const char *content, struct weir_file *file)
{
    struct http_range range = { 0, validators->size };
    bool ranges = !identity->coding;
    struct http_answer answer = {
        .type = type,
        .validators = validators,
        .range = &range,
        .coding = identity->coding,
        .varies = identity->varies,
        .ranges = ranges,
    };
    answer.status = http_condition_status(http_exchange_request(exchange), validators, ranges,
                                          exchange->worker->date_time, &range);
    if (answer.status == 412 || answer.status == 416) {
        const char *text = http_status_text(answer.status);
        answer.type = "text/plain; charset=utf-8";
        answer.coding = CODING_IDENTITY;
        http_answer(exchange, &answer, text, strlen(text));
        return;
    }
    answer.length = range.size;
    if (answer.status == 304 || !file)
        http_answer(exchange, &answer, content ? content + range.from : NULL, range.size);
    else
        http_answer_file(exchange, &answer, file, range.from, range.size);
}

static void files_redirect(struct http_exchange *exchange, const char *path)
{
    char location[3 * HTTP_PATH_MAX + 3];
    const struct http_request *request = http_exchange_request(exchange);
    size_t size = 1;
    location[0] = '/';
    size += http_listing_escape_url(http_text_of(path), location + 1);
    location[size++] = '/';
    size_t query_size = request->query.data ? 1 + request->query.size : 0;
    if (size + query_size > HTTP_LOCATION_MAX) {
        http_exchange_refuse(exchange, 414, "too long to be redirected");
        return;
    }
    if (query_size) {
        location[size] = '?';
        memcpy(location + size + 1, request->query.data, request->query.size);
    }
    const struct http_answer answer = { .status = 301,
                                        .location = { location, size + query_size } };
    http_answer(exchange, &answer, NULL, 0);
}

// A file that is too large for the cache, open.
static void files_answer_open(struct http_exchange *exchange, struct http_lookup *lookup)
{
    char etag[HTTP_ETAG_SIZE];
    const struct lookup_identity *identity = &lookup->identity;
    const struct http_validators validators = {
        .etag =
            http_etag_write(&identity->modified, (uint64_t)identity->size, identity->coding, etag),
        .modified = lookup->modified,
        .size = (uint64_t)identity->size,
    };
    const char *type = http_mime_find(http_text_of(lookup->path));
    struct weir_file *file = NULL;
    if (lookup->memory) {
        files_answer(exchange, &validators, identity, type, lookup->memory + LOOKUP_HEAD_ROOM,
                     NULL);
        return;
    }
    if (weir_file_adopt(exchange->worker->loop, lookup->fd, &file)) {
        http_answer_status(exchange, 503);
        return;
    }
    lookup->fd = -1; // the file's now
    files_answer(exchange, &validators, identity, type, NULL, file);
    weir_file_release(file);
}

// The usual case, and what this server is measured by.
static bool files_answer_plain(struct http_exchange *exchange, struct http_entry *entry)
{
    const uint32_t special = 1U << FIELD_RANGE | 1U << FIELD_IF_MATCH | 1U << FIELD_IF_NONE_MATCH |
                             1U << FIELD_IF_MODIFIED_SINCE | 1U << FIELD_IF_UNMODIFIED_SINCE;
    const struct http_request *request = &exchange->parser.request;
    struct http_worker *worker = exchange->worker;
    if (request->method != METHOD_GET || !request->minor || exchange->final ||
        (request->fields & special))
        return false;
    if (entry->date_time != worker->date_time) {
        memcpy(entry->date, worker->date, HTTP_DATE_SIZE);
        entry->date_time = worker->date_time;
    }
    http_exchange_send(exchange, entry->head, entry->head_size + entry->validators.size);
    exchange->status = 200;
    http_exchange_finish(exchange, entry->validators.size);
    return true;
}

static void files_answer_entry(struct http_exchange *exchange, struct http_entry *entry)
{
    if (!files_answer_plain(exchange, entry))
        files_answer(exchange, &entry->validators, &entry->identity, entry->type,
                     http_entry_content(entry), NULL);
}

// --- Lookups -------------------------------------------------------------------------------------

static void files_refuse(struct http_exchange *exchange, int status)
{
    if (status == 500) {
        http_count(exchange->worker, COUNTER_FILE_ERRORS);
        http_worker_log(exchange->worker, exchange->stream, http_status_text(status),
                        "the file shrank or cannot be read");
    }
    exchange->final |= status >= 500;
    http_answer_status(exchange, status);
}

// What was found, as an answer. The lookup keeps nothing.
static void files_found(struct http_exchange *exchange, struct http_lookup *lookup)
{
    struct http_worker *worker = exchange->worker;
    struct http_text path = http_exchange_request(exchange)->path;
    struct http_entry *entry = NULL;
    // A date that is still to come must not be told (RFC 9110, 8.8.2.1).
    lookup->modified = lookup->identity.modified.tv_sec;
    if (lookup->kind == LOOKUP_FILE && lookup->modified > worker->date_time)
        lookup->modified = worker->date_time;
    if (lookup->kind == LOOKUP_FILE && lookup->unchanged) {
        entry = http_cache_find(&worker->cache, path, lookup->codings);
        if (entry)
            entry->checked_ns = lookup->began_ns;
    } else if (lookup->kind == LOOKUP_FILE && lookup->memory) {
        entry = http_cache_add(&worker->cache, path, lookup, worker->date, lookup->began_ns);
    }
    if (lookup->kind == LOOKUP_REFUSED) {
        files_refuse(exchange, lookup->status);
    } else if (lookup->kind == LOOKUP_REDIRECT) {
        files_redirect(exchange, lookup->path);
    } else if (lookup->kind == LOOKUP_LISTING) {
        http_files_list(exchange, lookup);
    } else if (entry) {
        files_answer_entry(exchange, entry);
    } else {
        files_answer_open(exchange, lookup);
    }
    http_lookup_release(lookup);
}

static int files_run(struct weir_operation *operation)
{
    struct files_job *job = (struct files_job *)operation;
    http_lookup_run(&job->lookup);
    return 0;
}

static void files_done(struct weir_operation *operation, int64_t result)
{
    struct files_job *job = (struct files_job *)operation;
    struct http_exchange *exchange = job->exchange;
    // Before the cache keeps it: the job may have waited long for its disk.
    http_worker_tick(exchange->worker, weir_loop_now(exchange->worker->loop));
    if (result < 0) // the queue of jobs is full
        http_answer_status(exchange, 503);
    else
        files_found(exchange, &job->lookup);
    http_lookup_release(&job->lookup);
    free(job);
}

// The lookup goes on as a job: it has to wait for a disk.
static void files_defer(struct http_exchange *exchange, struct http_lookup *lookup)
{
    struct files_job *job = malloc(sizeof *job);
    http_count(exchange->worker, COUNTER_JOBS);
    if (!job || http_exchange_keep(exchange)) {
        http_lookup_release(lookup);
        free(job);
        http_answer_status(exchange, 503);
        return;
    }
    job->operation = (struct weir_operation){ .done = files_done, .stream = exchange->stream };
    job->exchange = exchange;
    job->lookup = *lookup;
    job->lookup.cached_only = false;
    weir_job_start(exchange->worker->loop, &job->operation, files_run);
}

// `entry` is what the cache has and may be out of date, or NULL.
static void files_look_up(struct http_exchange *exchange, unsigned codings,
                          const struct http_entry *entry)
{
    const struct http_site *site = exchange->worker->site;
    struct http_lookup lookup;
    lookup.began_ns = weir_loop_now(exchange->worker->loop);
    lookup.root = site->root;
    lookup.index = site->settings->index;
    lookup.listing = site->settings->listing;
    lookup.codings = codings;
    lookup.cached_only = true;
    lookup.head_only = http_exchange_request(exchange)->method == METHOD_HEAD;
    lookup.revalidates = entry;
    lookup.kind = LOOKUP_REFUSED;
    if (entry)
        lookup.known = entry->identity;
    int status = http_path_resolve(http_exchange_request(exchange)->path, lookup.path);
    if (status == 400)
        http_exchange_refuse(exchange, 400, "malformed path");
    else if (status)
        http_answer_status(exchange, status);
    else if (http_lookup_run(&lookup) == -EAGAIN)
        files_defer(exchange, &lookup);
    else
        files_found(exchange, &lookup);
}

static void files_serve(struct http_exchange *exchange, void *context)
{
    struct http_worker *worker = exchange->worker;
    const struct http_request *request = &exchange->parser.request;
    unsigned codings = files_codings(request);
    struct http_entry *entry = http_cache_find(&worker->cache, request->path, codings);
    (void)context;
    if (entry && weir_loop_now(worker->loop) - entry->checked_ns < CACHE_FRESH_NS) {
        http_count(worker, COUNTER_CACHE_HITS);
        files_answer_entry(exchange, entry);
        return;
    }
    http_count(worker, entry ? COUNTER_CACHE_CHECKS : COUNTER_CACHE_MISSES);
    files_look_up(exchange, codings, entry);
}

const struct http_route http_route_files = { .path = "/",
                                             .methods = "GET, HEAD",
                                             .serve = files_serve,
                                             .writable = http_files_writable,
                                             .gone = http_files_gone };
