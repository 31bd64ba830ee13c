// See site.h.
#include "site.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../line_queue.h"
#include "access_log.h"
#include "routes.h"

// A second; and at the same time, with two MiB each. More are asked to come again.
enum { SITE_LOG_LINES_MAX = 10, SITE_LISTINGS_MAX = 16 };

// --- The site ------------------------------------------------------------------------------------

static void site_add_route(struct http_site *site, struct http_route route)
{
    site->routes[site->routes_count++] = route;
}

static int site_fault(const char *what, int error)
{
    fprintf(stderr, "weir http: %s: %s\n", what, strerror(-error));
    return SERVE_EXIT_RUN;
}

static int site_open_root(struct http_site *site)
{
    const char *root = site->settings->root;
    site->root = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (site->root >= 0)
        return 0;
    fprintf(stderr, "weir http: --root: %s: %s\n", root, strerror(errno));
    return SERVE_EXIT_RUN;
}

static int site_open_log(struct http_site *site)
{
    struct line_queue_config config = { .log = &site->log, .dropped = &site->lines_dropped };
    site->log = (struct serve_log){ .path = site->settings->serve.log_path, .fd = -1 };
    int error = serve_log_open(&site->log);
    if (error)
        return site_fault(site->log.path, error);
    site->lines = line_queue_create(&config);
    return site->lines ? 0 : site_fault("lines of the log", -ENOMEM);
}

static int site_open_access_log(struct http_site *site)
{
    const char *path = site->settings->access_log;
    int error = 0;
    site->access_log = (struct serve_log){ .path = path, .fd = -1 };
    if (path && strcmp(path, "-") == 0)
        site->access_log = (struct serve_log){ .path = NULL, .fd = STDOUT_FILENO };
    else if (path)
        error = serve_log_open(&site->access_log);
    return error ? site_fault(path, error) : 0;
}

void http_site_init(struct http_site *site, const struct http_settings *settings)
{
    *site = (struct http_site){
        .settings = settings,
        .limits = { .header_bytes = (uint32_t)settings->header_bytes_max,
                    .headers = (uint32_t)settings->headers_max },
        .root = -1,
        .log = { .fd = -1 },
        .access_log = { .path = settings->access_log, .fd = -1 },
    };
    http_cache_budget_init(&site->cache_budget, settings->cache_size);
    pthread_mutex_init(&site->lock, NULL);
    pthread_mutex_init(&site->access_log_lock, NULL);
    for (size_t i = 0; i < settings->routes_count; i++)
        site_add_route(site, settings->routes[i]);
    if (settings->status_path)
        site_add_route(site, http_route_status(settings->status_path, site));
    if (settings->echo) {
        site_add_route(site, http_route_headers);
        site_add_route(site, http_route_stream);
        site_add_route(site, http_route_echo);
    } else {
        site_add_route(site, http_route_files);
    }
}

int http_site_open(void *context, uint32_t connections)
{
    struct http_site *site = context;
    (void)connections;
    int status = site_open_log(site);
    if (!status)
        status = site_open_access_log(site);
    if (!status && !site->settings->echo)
        status = site_open_root(site);
    if (!status)
        http_needs_complete(&site->needs, site->settings, site->root);
    return status;
}

// How many lines of its last second were left out.
static uint32_t site_lines_left_out(const struct http_bounds *bounds)
{
    return bounds->log_lines > SITE_LOG_LINES_MAX ? bounds->log_lines - SITE_LOG_LINES_MAX : 0;
}

static void worker_say_left_out(struct http_worker *worker, uint32_t lines)
{
    char text[64];
    snprintf(text, sizeof text, "and %u more such lines", lines);
    if (lines)
        http_worker_say(worker, WEIR_LOG_WARNING, text);
}

static void worker_free(struct http_worker *worker)
{
    http_access_log_destroy(worker->access_log);
    http_cache_fini(&worker->cache);
    free(worker->head);
    free(worker);
}

static void site_say_dropped(struct http_site *site, const char *log, uint64_t lines)
{
    char text[64];
    if (!lines)
        return;
    snprintf(text, sizeof text, "%s: %llu lines were dropped", log, (unsigned long long)lines);
    serve_log_write(&site->log, WEIR_LOG_WARNING, text);
}

// Writes what the logs still hold, and says how many lines they could not. No loop runs any more:
// what is said from here on is written at once.
static void site_end_logs(struct http_site *site)
{
    uint64_t counters[COUNTER_COUNT];
    line_queue_destroy(site->lines);
    site->lines = NULL;
    if (site->workers)
        worker_say_left_out(site->workers, site_lines_left_out(&site->bounds));
    for (struct http_worker *worker = site->workers; worker; worker = worker->next) {
        worker_say_left_out(worker, site_lines_left_out(&worker->bounds));
        http_access_log_destroy(worker->access_log);
        worker->access_log = NULL;
    }
    http_site_counters(site, counters);
    uint64_t lines = atomic_load(&site->lines_dropped);
    site_say_dropped(site, "access log", counters[COUNTER_LOG_DROPPED] - lines);
    site_say_dropped(site, "log", lines);
}

void http_site_fini(struct http_site *site)
{
    struct http_worker *next;
    site_end_logs(site);
    for (struct http_worker *worker = site->workers; worker; worker = next) {
        next = worker->next;
        worker_free(worker);
    }
    if (site->root >= 0)
        close(site->root);
    serve_log_close(&site->log);
    serve_log_close(&site->access_log);
    pthread_mutex_destroy(&site->access_log_lock);
    pthread_mutex_destroy(&site->lock);
}

// --- Workers -------------------------------------------------------------------------------------

static struct http_worker *worker_create(struct http_site *site)
{
    struct http_worker *worker = calloc(1, sizeof *worker);
    if (!worker)
        return NULL;
    worker->site = site;
    http_cache_init(&worker->cache, &site->cache_budget);
    worker->head = http_head_create(&site->limits);
    if (site->access_log.fd >= 0)
        worker->access_log = http_access_log_create(worker);
    if (worker->head && (worker->access_log || site->access_log.fd < 0))
        return worker;
    worker_free(worker);
    return NULL;
}

// The loop's own, or one that has no loop.
static struct http_worker *worker_find(struct http_site *site, const struct weir_loop *loop)
{
    struct http_worker *worker = site->workers, *idle = NULL;
    for (; worker && worker->loop != loop; worker = worker->next) {
        if (!worker->loop)
            idle = worker;
    }
    return worker ? worker : idle;
}

struct http_worker *http_worker_take(struct http_site *site, struct weir_loop *loop)
{
    pthread_mutex_lock(&site->lock);
    struct http_worker *worker = worker_find(site, loop);
    if (!worker && (worker = worker_create(site))) {
        worker->next = site->workers;
        site->workers = worker;
    }
    if (worker && !worker->loop) {
        worker->loop = loop;
        worker->ephemeral = strcmp(weir_loop_engine(loop), "blocking") == 0;
        worker->date_until_ns = 0;
    }
    pthread_mutex_unlock(&site->lock);
    if (worker)
        worker->connections++;
    return worker;
}

void http_worker_give(struct http_worker *worker)
{
    if (--worker->connections || !worker->ephemeral)
        return;
    if (worker->access_log)
        http_access_log_leave(worker->access_log);
    pthread_mutex_lock(&worker->site->lock);
    worker->loop = NULL;
    pthread_mutex_unlock(&worker->site->lock);
}

// Those of the loop, or those that all connections share. Only these have a lock.
static struct http_bounds *worker_bounds_lock(struct http_worker *worker)
{
    if (!worker->ephemeral)
        return &worker->bounds;
    pthread_mutex_lock(&worker->site->lock);
    return &worker->site->bounds;
}

static void worker_bounds_unlock(struct http_worker *worker)
{
    if (worker->ephemeral)
        pthread_mutex_unlock(&worker->site->lock);
}

bool http_worker_take_listing(struct http_worker *worker)
{
    struct http_bounds *bounds = worker_bounds_lock(worker);
    bool taken = bounds->listings < SITE_LISTINGS_MAX;
    bounds->listings += taken;
    worker_bounds_unlock(worker);
    return taken;
}

void http_worker_give_listing(struct http_worker *worker)
{
    worker_bounds_lock(worker)->listings--;
    worker_bounds_unlock(worker);
}

void http_worker_drain(struct http_worker *worker)
{
    const uint64_t spare_max_ns = 1000000000; // a busy machine comes late to its timers
    uint64_t timeout_ns = worker->site->settings->serve.drain_timeout_ns;
    uint64_t spare_ns = timeout_ns / 4 < spare_max_ns ? timeout_ns / 4 : spare_max_ns;
    uint64_t now_ns = weir_loop_now(worker->loop);
    if (worker->drain_end_ns)
        return;
    worker->drain_end_ns = WEIR_NEVER;
    if (timeout_ns < WEIR_NEVER - now_ns)
        worker->drain_end_ns = now_ns + timeout_ns - spare_ns;
}

void http_worker_tick(struct http_worker *worker, uint64_t now_ns)
{
    struct timespec now;
    if (now_ns < worker->date_until_ns)
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    worker->date_until_ns = now_ns + 1000000000ULL - (uint64_t)now.tv_nsec;
    if (now.tv_sec == worker->date_time)
        return;
    worker->date_time = now.tv_sec;
    http_date_write(now.tv_sec, worker->date);
}

// --- Counters and log ----------------------------------------------------------------------------

const char *const http_counter_names[COUNTER_COUNT] = {
    [COUNTER_REQUESTS] = "requests",
    [COUNTER_STATUS_2XX] = "status_2xx",
    [COUNTER_STATUS_3XX] = "status_3xx",
    [COUNTER_STATUS_4XX] = "status_4xx",
    [COUNTER_STATUS_5XX] = "status_5xx",
    [COUNTER_REFUSED] = "refused",
    [COUNTER_TIMEOUTS] = "timeouts",
    [COUNTER_CACHE_HITS] = "cache_hits",
    [COUNTER_CACHE_MISSES] = "cache_misses",
    [COUNTER_CACHE_CHECKS] = "cache_checks",
    [COUNTER_JOBS] = "jobs",
    [COUNTER_FILE_ERRORS] = "file_errors",
    [COUNTER_BODIES_REFUSED] = "bodies_refused",
    [COUNTER_LISTINGS_REFUSED] = "listings_refused",
    [COUNTER_LOG_DROPPED] = "log_dropped",
};

void http_site_counters(struct http_site *site, uint64_t ret_counters[COUNTER_COUNT])
{
    memset(ret_counters, 0, COUNTER_COUNT * sizeof ret_counters[0]);
    pthread_mutex_lock(&site->lock);
    for (const struct http_worker *worker = site->workers; worker; worker = worker->next) {
        for (size_t i = 0; i < COUNTER_COUNT; i++)
            ret_counters[i] += atomic_load_explicit(&worker->counters[i], memory_order_relaxed);
    }
    pthread_mutex_unlock(&site->lock);
    ret_counters[COUNTER_LOG_DROPPED] += atomic_load(&site->lines_dropped);
}

void http_worker_say(struct http_worker *worker, enum weir_log_level level, const char *text)
{
    struct http_site *site = worker->site;
    if (site->lines)
        line_queue_say(site->lines, worker->loop, level, text);
    else
        serve_log_write(&site->log, level, text);
}

// Whether one more line may be written in this second; and how many the last one left out.
static bool worker_log_admits(struct http_worker *worker, uint32_t *ret_left_out)
{
    uint64_t second = weir_loop_now(worker->loop) / 1000000000ULL;
    struct http_bounds *bounds = worker_bounds_lock(worker);
    *ret_left_out = 0;
    if (second > bounds->log_second) {
        *ret_left_out = site_lines_left_out(bounds);
        bounds->log_second = second;
        bounds->log_lines = 0;
    }
    bool admitted = ++bounds->log_lines <= SITE_LOG_LINES_MAX;
    worker_bounds_unlock(worker);
    return admitted;
}

void http_worker_log(struct http_worker *worker, struct weir_stream *stream, const char *what,
                     const char *reason)
{
    char host[WEIR_ADDRESS_TEXT_SIZE], text[256];
    struct weir_address address;
    uint32_t left_out;
    bool admitted = worker_log_admits(worker, &left_out);
    worker_say_left_out(worker, left_out);
    if (!admitted)
        return;
    weir_stream_peer_address(stream, &address);
    weir_address_print(&address, host);
    snprintf(text, sizeof text, "%s: %s: %s", host, what, reason);
    http_worker_say(worker, WEIR_LOG_WARNING, text);
}
