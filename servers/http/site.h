// What the connections of a server share: the site, and for each loop a worker.
//
// The site is made by main and is read-only while the server runs, but for its list of workers. A
// worker belongs to one loop, so nothing of it is locked: the cache, the date, the counters, the
// buffers of the access log. The loops of the blocking engine live as long as a connection; their
// workers go back to the site and serve the next.
#ifndef HTTP_SITE_H
#define HTTP_SITE_H

#include <pthread.h>

#include <weir.h>

#include "../serve.h"
#include "cache.h"
#include "handler.h"
#include "needs.h"
#include "parser.h"
#include "program.h"

enum { SITE_ROUTES_MAX = HTTP_PROGRAM_ROUTES_MAX + 4 };

// Counted per worker; one writer, any reader.
enum http_counter {
    COUNTER_REQUESTS,
    COUNTER_STATUS_2XX,
    COUNTER_STATUS_3XX,
    COUNTER_STATUS_4XX,
    COUNTER_STATUS_5XX,
    COUNTER_REFUSED,  // malformed or beyond a limit: answered, and the connection closed
    COUNTER_TIMEOUTS, // idle, head, rate or total time
    COUNTER_CACHE_HITS,
    COUNTER_CACHE_MISSES,
    COUNTER_CACHE_CHECKS,     // looks at a file that an entry stands for
    COUNTER_JOBS,             // lookups that could not be answered from memory
    COUNTER_FILE_ERRORS,      // files that could not be read, or were shorter than their answer
    COUNTER_BODIES_REFUSED,   // for want of memory, or beyond --max-bodies
    COUNTER_LISTINGS_REFUSED, // for want of memory, or as many are being made as may be
    COUNTER_LOG_DROPPED,      // lines of both logs that found their buffers full, or the disk
    COUNTER_COUNT,
};

enum http_log_format { LOG_COMMON, LOG_COMBINED, LOG_JSON };

struct http_settings {
    struct serve_settings serve;     // first: the options of all servers fill it
    const struct http_route *routes; // the program's own
    size_t routes_count;
    const char *root, *index, *status_path;
    bool echo, listing;
    uint64_t cache_size, body_max, bodies_max;
    uint64_t header_bytes_max, headers_max;
    uint64_t header_timeout_ns, rate_min, requests_max;
    const char *access_log;
    enum http_log_format access_log_format;
};

struct http_worker;
struct http_access_log;
struct line_queue;

// What a thread has of what is bounded: lines a second for refusals, and listings at once. With
// blocking each connection has a thread; they share one.
struct http_bounds {
    uint64_t log_second;
    uint32_t log_lines; // in it, also those that were left out
    uint32_t listings;  // that are being made
};

struct http_site {
    const struct http_settings *settings;
    struct http_parser_limits limits;
    int root; // descriptor, or -1
    struct http_needs needs;
    struct http_bounds bounds; // of all workers whose loops end with their connection; with `lock`
    struct http_route routes[SITE_ROUTES_MAX];
    size_t routes_count;
    struct http_cache_budget cache_budget;
    _Atomic uint64_t bodies_used; // bytes of request bodies that are being collected
    struct serve_log log, access_log;
    struct line_queue *lines; // for `log`, while loops run; otherwise NULL
    _Atomic uint64_t lines_dropped;
    _Atomic bool access_log_fails; // and that was said
    pthread_mutex_t access_log_lock;
    pthread_mutex_t lock;        // of the list
    struct http_worker *workers; // all; never shorter
};

struct http_worker {
    struct http_worker *next; // in site->workers
    struct http_site *site;
    struct weir_loop *loop; // NULL: waits for one
    uint32_t connections;
    struct http_bounds bounds;
    bool ephemeral;        // the loop ends with its connection
    uint64_t drain_end_ns; // when clients have had their time to read; 0: the server serves
    struct http_head *head;
    struct http_cache cache;
    char date[HTTP_DATE_SIZE];
    time_t date_time;
    uint64_t date_until_ns;             // of the loop's clock
    struct http_access_log *access_log; // NULL: none
    _Atomic uint64_t counters[COUNTER_COUNT];
};

// The defaults of weir http.
void http_settings_init(struct http_settings *settings);

// Makes the routes.
void http_site_init(struct http_site *site, const struct http_settings *settings);
// What serve_run() is to be given for it.
void http_site_serve(struct http_site *site, struct serve_settings *ret_serve);
// Opens the root and the logs, and states what the site needs: the `prepare` of its settings, whose
// context is the site.
int http_site_open(void *context, uint32_t connections);
// After the server has ended.
void http_site_fini(struct http_site *site);

// The worker of this loop; NULL when memory is out. Each connection takes and gives one.
struct http_worker *http_worker_take(struct http_site *site, struct weir_loop *loop);
void http_worker_give(struct http_worker *worker);

// A drain has begun: says when connections that wait for their clients close in order, shortly
// before the time-out cuts off the rest.
void http_worker_drain(struct http_worker *worker);

// Renews the date when a second has passed.
void http_worker_tick(struct http_worker *worker, uint64_t now_ns);

static inline void http_count_many(struct http_worker *worker, enum http_counter counter,
                                   uint64_t number)
{
    _Atomic uint64_t *value = &worker->counters[counter];
    atomic_store_explicit(value, atomic_load_explicit(value, memory_order_relaxed) + number,
                          memory_order_relaxed);
}

static inline void http_count(struct http_worker *worker, enum http_counter counter)
{
    http_count_many(worker, counter, 1);
}

// The sums over all workers. Any thread.
void http_site_counters(struct http_site *site, uint64_t ret_counters[COUNTER_COUNT]);
extern const char *const http_counter_names[COUNTER_COUNT];

// Whether one more listing may be made; the end of one gives its place back.
bool http_worker_take_listing(struct http_worker *worker);
void http_worker_give_listing(struct http_worker *worker);

// A line for the log; its loop does not wait until it is written.
void http_worker_say(struct http_worker *worker, enum weir_log_level level, const char *text);

// Tells the log about a connection that was refused or timed out.
void http_worker_log(struct http_worker *worker, struct weir_stream *stream, const char *what,
                     const char *reason);

#endif
