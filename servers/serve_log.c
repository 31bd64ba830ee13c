// The log's lines, and statistics in the log and in a file.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "serve.h"

// How long a reader that does not read is waited for by who must not wait for ever.
enum { LOG_PATIENCE_MS = 1000 };

// No loop runs any more: all that is left is written by the thread that ends the process.
static atomic_bool log_ending;

// --- Log -----------------------------------------------------------------------------------------

int serve_log_open(struct serve_log *log)
{
    if (!log->path) {
        log->fd = STDERR_FILENO;
        return 0;
    }
    int fd = open(log->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0640);
    if (fd < 0)
        return -errno;
    if (log->fd < 0) {
        log->fd = fd;
        return 0;
    }
    // The number stays and the file behind it changes at once: no writer needs a lock.
    int error = dup3(fd, log->fd, O_CLOEXEC) < 0 ? -errno : 0;
    close(fd);
    return error;
}

void serve_log_close(struct serve_log *log)
{
    if (log->path && log->fd >= 0)
        close(log->fd);
    log->fd = -1;
}

static int serve_log_prefix(const struct serve_log *log, const char *level, char *ret_text,
                            size_t size)
{
    struct timespec now;
    struct tm parts;
    char time[32];
    if (!log->path)
        return snprintf(ret_text, size, "weir: %s", level);
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    strftime(time, sizeof time, "%Y-%m-%dT%H:%M:%S", &parts);
    return snprintf(ret_text, size, "%s.%03ldZ %s", time, now.tv_nsec / 1000000, level);
}

size_t serve_log_format(const struct serve_log *log, enum weir_log_level level, const char *text,
                        char ret_line[SERVE_LOG_LINE_MAX])
{
    static const char *const levels[] = {
        [WEIR_LOG_ERROR] = "error: ",
        [WEIR_LOG_WARNING] = "warning: ",
        [WEIR_LOG_INFO] = "",
        [WEIR_LOG_DEBUG] = "debug: ",
    };
    int prefix = serve_log_prefix(log, levels[level], ret_line, SERVE_LOG_LINE_MAX);
    size_t room = SERVE_LOG_LINE_MAX - (size_t)prefix;
    int size = snprintf(ret_line + prefix, room, "%s\n", text);
    // UNTESTED: snprintf of a text
    if (size < 0)
        return 0;
    size_t whole = (size_t)size < room ? (size_t)(prefix + size) : SERVE_LOG_LINE_MAX - 1;
    ret_line[whole - 1] = '\n';
    return whole;
}

void serve_log_end(void)
{
    atomic_store(&log_ending, true);
}

// Whether a write of up to PIPE_BUF bytes does not wait, now or soon. Only for the thread that
// waits for signals: the filters of others have no poll(2).
static bool serve_log_is_ready(struct serve_log *log)
{
    struct pollfd one = { .fd = log->fd, .events = POLLOUT };
    int count = poll(&one, 1, log->unread ? 0 : LOG_PATIENCE_MS);
    log->unread = count == 0;
    return count != 0; // a fault is the write's to tell
}

// One line is one write, so that lines of several threads do not mix. A log that cannot be written
// has nowhere to say so.
void serve_log_write(void *context, enum weir_log_level level, const char *text)
{
    struct serve_log *log = context;
    char line[SERVE_LOG_LINE_MAX];
    if (atomic_load(&log_ending) && !serve_log_is_ready(log))
        return;
    ssize_t written = write(log->fd, line, serve_log_format(log, level, text, line));
    (void)written;
}

void serve_log_offer(struct serve_log *log, enum weir_log_level level, const char *text)
{
    if (serve_log_is_ready(log))
        serve_log_write(log, level, text);
}

// The number of bytes, or -errno; short only on a full disk.
static ssize_t serve_log_write_once(struct serve_log *log, const char *data, size_t size)
{
    ssize_t count;
    if (atomic_load(&log_ending) && !serve_log_is_ready(log))
        return -EAGAIN;
    do
        count = write(log->fd, data, size);
    while (count < 0 && errno == EINTR);
    return count < 0 ? -errno : count;
}

// How much is written at once: whole lines that a pipe takes at once or not at all, so that no line
// of another thread stands within ours. A longer line goes alone; at the end, when nobody else
// writes, in parts.
static size_t serve_log_part(const char *data, size_t size)
{
    if (size <= PIPE_BUF)
        return size;
    const char *end = memrchr(data, '\n', PIPE_BUF);
    if (!end && atomic_load(&log_ending))
        return PIPE_BUF;
    if (!end)
        end = memchr(data, '\n', size);
    return end ? (size_t)(end - data) + 1 : size;
}

int serve_log_write_lines(struct serve_log *log, const char *data, size_t size, uint64_t *ret_lost)
{
    ssize_t count = 0;
    uint64_t lost = 0;
    if (log->torn && size) // what is left of a line must not swallow the next
        count = serve_log_write_once(log, "\n", 1);
    log->torn = log->torn && count <= 0;
    while (count >= 0 && size) {
        count = serve_log_write_once(log, data, serve_log_part(data, size));
        // UNTESTED: write of some bytes never takes none
        if (count == 0)
            count = -EIO;
        if (count > 0) {
            log->torn = data[count - 1] != '\n';
            data += count;
            size -= (size_t)count;
        }
    }
    for (size_t i = 0; i < size; i++)
        lost += data[i] == '\n';
    *ret_lost = lost;
    return count < 0 ? (int)count : 0;
}

// --- Statistics ----------------------------------------------------------------------------------

// The whole text, on the heap, or NULL.
static char *serve_stats_text(const struct weir_server *server, bool json)
{
    struct weir_stats stats;
    weir_server_stats(server, &stats);
    size_t size = weir_stats_print(&stats, json, NULL, 0) + 1;
    char *text = malloc(size);
    if (text)
        weir_stats_print(&stats, json, text, size);
    return text;
}

void serve_stats_log(struct serve_log *log, const struct weir_server *server,
                     const struct serve_counters *counters)
{
    uint64_t values[SERVE_COUNTERS_MAX];
    char *text = serve_stats_text(server, false), *rest;
    char plan[512];
    // UNTESTED: needs memory to run out at the very end
    if (!text)
        return;
    snprintf(plan, sizeof plan, "statistics: engine=%s plan=%s", weir_server_engine(server),
             weir_server_plan(server));
    serve_log_offer(log, WEIR_LOG_INFO, plan);
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        serve_log_offer(log, WEIR_LOG_INFO, line);
    if (counters->names)
        counters->read(counters->context, values);
    for (size_t i = 0; counters->names && i < counters->count; i++) {
        snprintf(plan, sizeof plan, "%s %llu", counters->names[i], (unsigned long long)values[i]);
        serve_log_offer(log, WEIR_LOG_INFO, plan);
    }
    free(text);
}

static void serve_stats_print_protocol(FILE *file, const struct serve_counters *counters)
{
    uint64_t values[SERVE_COUNTERS_MAX];
    counters->read(counters->context, values);
    for (size_t i = 0; i < counters->count; i++)
        fprintf(file, "%s\"%s\":%llu", i ? "," : "\"protocol\":{", counters->names[i],
                (unsigned long long)values[i]);
    fputs("},", file);
}

// The engine, its plan and the sandbox come first, then the counters, all in one object. Names of
// engines and features need no escapes.
static int serve_stats_print(FILE *file, const struct weir_server *server,
                             const struct serve_settings *settings, struct sandbox *sandbox)
{
    char *counters = serve_stats_text(server, true);
    // UNTESTED: needs memory to run out at the very end
    if (!counters)
        return -ENOMEM;
    char sandbox_text[256];
    sandbox_print_json(sandbox, sandbox_text, sizeof sandbox_text);
    int printed = fprintf(file,
                          "{\"version\":\"%s\",\"engine\":\"%s\",\"plan\":\"%s\",\"threads\":%u,"
                          "\"sandbox\":%s,",
                          WEIR_VERSION, weir_server_engine(server), weir_server_plan(server),
                          (unsigned)settings->threads, sandbox_text);
    if (settings->counters.names)
        serve_stats_print_protocol(file, &settings->counters);
    fputs(counters + 1, file);
    free(counters);
    return printed < 0 || ferror(file) ? -EIO : 0;
}

static int serve_stats_save(const char *path, int flags, const struct weir_server *server,
                            const struct serve_settings *settings, struct sandbox *sandbox)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY | flags, 0644);
    if (fd < 0)
        return -errno;
    FILE *file = fdopen(fd, "w");
    // UNTESTED: needs memory to run out at the very end
    if (!file) {
        close(fd);
        return -ENOMEM;
    }
    int error = serve_stats_print(file, server, settings, sandbox);
    if (!error && (fputc('\n', file) == EOF || fflush(file) != 0))
        error = -errno;
    // A file system may report a full disk as late as here.
    // UNTESTED: the file system tells a full disk before
    if (fclose(file) != 0 && !error)
        error = -errno;
    return error;
}

int serve_stats_write(const char *path, const struct weir_server *server,
                      const struct serve_settings *settings, struct sandbox *sandbox)
{
    char temporary[PATH_MAX];
    struct stat status;
    // A device or a pipe is written to; renaming over it would destroy it.
    if (stat(path, &status) == 0 && !S_ISREG(status.st_mode))
        return serve_stats_save(path, 0, server, settings, sandbox);
    int size = snprintf(temporary, sizeof temporary, "%s.tmp", path);
    // UNTESTED: needs a path of 4,092 bytes
    if (size < 0 || (size_t)size >= sizeof temporary)
        return -ENAMETOOLONG;
    int error =
        serve_stats_save(temporary, O_CREAT | O_TRUNC | O_NOFOLLOW, server, settings, sandbox);
    // UNTESTED: nobody puts a directory there
    if (!error && rename(temporary, path) < 0)
        error = -errno;
    if (error)
        unlink(temporary);
    return error;
}
