// See access_log.h. Two buffers: one fills while the other is written. When both are full, or the
// disk is, lines are dropped and counted; the alternative would be to wait.
#include "access_log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { LOG_BUFFER_SIZE = 128 * 1024, LOG_FLUSH_SIZE = 32 * 1024, LOG_TEXT_MAX = 2048 };

#define LOG_FLUSH_NS 500000000ULL

struct http_access_log {
    struct http_worker *worker;
    struct weir_operation operation; // the write in flight
    struct weir_timer timer;
    bool writing, timing;
    char *filling, *emptying;
    size_t filled, emptied;
    uint64_t lost; // lines of the write in flight
    char buffers[2][LOG_BUFFER_SIZE];
};

// A line that grows. What does not fit is cut, but for its end.
struct log_line {
    char *at, *end;
};

// --- Writing -------------------------------------------------------------------------------------

// One worker at a time, since a line that one could not end is another's to end.
static int log_write(struct http_access_log *log, const char *data, size_t size, uint64_t *ret_lost)
{
    struct http_site *site = log->worker->site;
    pthread_mutex_lock(&site->access_log_lock);
    int error = serve_log_write_lines(&site->access_log, data, size, ret_lost);
    pthread_mutex_unlock(&site->access_log_lock);
    return error;
}

// Says it once when lines begin to be lost, and once when they are written again.
static void log_report(struct http_access_log *log, int error, uint64_t lost)
{
    struct http_worker *worker = log->worker;
    char text[128];
    http_count_many(worker, COUNTER_LOG_DROPPED, lost);
    if (atomic_exchange(&worker->site->access_log_fails, error != 0) == (error != 0))
        return;
    snprintf(text, sizeof text, "access log: %s", error ? strerror(-error) : "it is written again");
    serve_log_write(&worker->site->log, error ? WEIR_LOG_WARNING : WEIR_LOG_INFO, text);
}

static void log_write_now(struct http_access_log *log, const char *data, size_t size)
{
    uint64_t lost;
    int error = log_write(log, data, size, &lost);
    if (size)
        log_report(log, error, lost);
}

static int log_run(struct weir_operation *operation)
{
    struct http_access_log *log =
        (void *)((char *)operation - offsetof(struct http_access_log, operation));
    return log_write(log, log->emptying, log->emptied, &log->lost);
}

static void log_flush(struct http_access_log *log);

static void log_done(struct weir_operation *operation, int64_t result)
{
    struct http_access_log *log =
        (void *)((char *)operation - offsetof(struct http_access_log, operation));
    log->writing = false;
    if (result == -EAGAIN) // the queue of jobs is full
        result = log_run(operation);
    log_report(log, (int)result, log->lost);
    // The timer may have rung meanwhile.
    if (log->filled >= LOG_FLUSH_SIZE || !log->timing)
        log_flush(log);
}

static void log_flush(struct http_access_log *log)
{
    if (log->writing || !log->filled)
        return;
    if (log->worker->ephemeral) { // a job's end would outlive the worker's stay on this loop
        log_write_now(log, log->filling, log->filled);
        log->filled = 0;
        return;
    }
    char *full = log->filling;
    log->filling = log->emptying;
    log->emptying = full;
    log->emptied = log->filled;
    log->filled = 0;
    log->writing = true;
    log->operation = (struct weir_operation){ .done = log_done };
    weir_job_start(log->worker->loop, &log->operation, log_run);
}

static void log_timer(struct weir_loop *loop, struct weir_timer *timer)
{
    struct http_access_log *log = (void *)((char *)timer - offsetof(struct http_access_log, timer));
    (void)loop;
    log->timing = false;
    log_flush(log);
}

struct http_access_log *http_access_log_create(struct http_worker *worker)
{
    struct http_access_log *log = malloc(sizeof *log);
    if (!log)
        return NULL;
    memset(log, 0, offsetof(struct http_access_log, buffers));
    log->worker = worker;
    log->filling = log->buffers[0];
    log->emptying = log->buffers[1];
    log->timer.function = log_timer;
    return log;
}

void http_access_log_leave(struct http_access_log *log)
{
    weir_timer_stop(log->worker->loop, &log->timer);
    log->timing = false;
    log_write_now(log, log->filling, log->filled);
    log->filled = 0;
}

void http_access_log_destroy(struct http_access_log *log)
{
    if (log)
        log_write_now(log, log->filling, log->filled);
    free(log);
}

// --- Lines ---------------------------------------------------------------------------------------

static void log_escaped(struct log_line *line, struct http_text text, bool json)
{
    size_t room = (size_t)(line->end - line->at);
    line->at += http_text_escape(text, json, line->at, room < LOG_TEXT_MAX ? room : LOG_TEXT_MAX);
}

__attribute__((format(printf, 2, 3))) static void log_format(struct log_line *line,
                                                             const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(line->at, (size_t)(line->end - line->at), format, arguments);
    va_end(arguments);
    if (size > 0 && size < line->end - line->at)
        line->at += size;
}

// "-" stands for what is not there.
static void log_quoted(struct log_line *line, struct http_text text)
{
    log_format(line, " \"");
    log_escaped(line, text.size ? text : http_text_of("-"), false);
    log_format(line, "\"");
}

// The peer's address without its port.
static struct http_text log_host(struct weir_stream *stream, char text[WEIR_ADDRESS_TEXT_SIZE])
{
    struct weir_address address;
    weir_stream_peer_address(stream, &address);
    if (address.any.sa_family != AF_INET && address.any.sa_family != AF_INET6)
        return http_text_of("unix");
    weir_address_print(&address, text);
    struct http_text host = { text, (size_t)(strrchr(text, ':') - text) };
    if (host.size > 1 && host.data[0] == '[') {
        host.data++;
        host.size -= 2;
    }
    return host;
}

static struct http_text log_field(const struct http_request *request, enum http_field field)
{
    return request ? http_request_value(request, field) : (struct http_text){ NULL, 0 };
}

static void log_common(struct log_line *line, struct weir_stream *stream,
                       const struct http_request *request, int status, uint64_t size, bool combined)
{
    char address[WEIR_ADDRESS_TEXT_SIZE], date[64];
    struct tm parts;
    time_t now = time(NULL);
    struct http_text host = log_host(stream, address);
    gmtime_r(&now, &parts);
    strftime(date, sizeof date, "%d/%b/%Y:%H:%M:%S +0000", &parts);
    log_escaped(line, host, false);
    log_format(line, " - - [%s] \"", date);
    if (request) {
        log_escaped(line, request->method_text, false);
        log_format(line, " ");
        log_escaped(line, request->target, false);
        log_format(line, " HTTP/1.%u", request->minor);
    } else {
        log_format(line, "-");
    }
    log_format(line, "\" %d %llu", status, (unsigned long long)size);
    if (combined) {
        log_quoted(line, log_field(request, FIELD_REFERER));
        log_quoted(line, log_field(request, FIELD_USER_AGENT));
    }
}

static void log_member(struct log_line *line, const char *name, struct http_text text)
{
    log_format(line, "\"%s\":\"", name);
    log_escaped(line, text, true);
    log_format(line, "\",");
}

static void log_json(struct log_line *line, struct weir_stream *stream,
                     const struct http_request *request, int status, uint64_t size)
{
    char address[WEIR_ADDRESS_TEXT_SIZE];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    log_format(line, "{\"time\":%lld.%03ld,", (long long)now.tv_sec, now.tv_nsec / 1000000);
    log_member(line, "peer", log_host(stream, address));
    if (request) {
        log_member(line, "method", request->method_text);
        log_member(line, "target", request->target);
        log_format(line, "\"version\":\"1.%u\",", request->minor);
        log_member(line, "referer", log_field(request, FIELD_REFERER));
        log_member(line, "user_agent", log_field(request, FIELD_USER_AGENT));
    }
    log_format(line, "\"status\":%d,\"size\":%llu}", status, (unsigned long long)size);
}

void http_access_log_add(struct http_access_log *log, struct weir_stream *stream,
                         const struct http_request *request, int status, uint64_t size)
{
    enum { LINE_MAX_SIZE = 8192 };
    // UNTESTED: needs a disk that holds up 64 KiB of lines
    if (log->filled + LINE_MAX_SIZE > LOG_BUFFER_SIZE) {
        http_count(log->worker, COUNTER_LOG_DROPPED);
        return;
    }
    char *start = log->filling + log->filled;
    struct log_line line = { start, start + LINE_MAX_SIZE - 1 };
    enum http_log_format format = log->worker->site->settings->access_log_format;
    if (format == LOG_JSON)
        log_json(&line, stream, request, status, size);
    else
        log_common(&line, stream, request, status, size, format == LOG_COMBINED);
    *line.at++ = '\n';
    log->filled += (size_t)(line.at - start);
    if (log->filled >= LOG_FLUSH_SIZE) {
        log_flush(log);
    } else if (!log->timing) {
        log->timing = true;
        weir_timer_start(log->worker->loop, &log->timer, LOG_FLUSH_NS);
    }
}
