// The transfer log: one line a file transfer. A slow disk or pipe must not hold up a loop, so lines
// are written by jobs; they may change places by milliseconds, and say themselves when the transfer
// began.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "transfer.h"

struct log_line {
    struct weir_operation operation;
    int fd;
    size_t size;
    char text[];
};

int ftp_log_open(struct ftp_server *server)
{
    if (!server->transfer_log)
        return 0;
    if (!strcmp(server->transfer_log, "-")) {
        server->log.fd = STDOUT_FILENO;
        return 0;
    }
    server->log.path = server->transfer_log;
    return serve_log_open(&server->log);
}

// Writes a text between quotes: quotes, backslashes and what is not printable as \xNN, so that no
// name can forge a line.
static char *log_quote(char *out, const char *text)
{
    *out++ = '"';
    for (; *text; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte < 32 || byte == 127 || byte == '"' || byte == '\\')
            out += sprintf(out, "\\x%02x", byte);
        else
            *out++ = *text;
    }
    *out++ = '"';
    return out;
}

static int log_run(struct weir_operation *operation)
{
    const struct log_line *line = (const struct log_line *)(const void *)operation;
    // One write, so that lines of several threads do not mix. A log that cannot be written has
    // nowhere to say so.
    ssize_t written = write(line->fd, line->text, line->size);
    (void)written;
    return 0;
}

static void log_done(struct weir_operation *operation, int64_t result)
{
    (void)result;
    free((struct log_line *)(void *)operation);
}

void ftp_log_transfer(const struct ftp_transfer *transfer, int code)
{
    if (transfer->server->log.fd < 0)
        return;
    size_t room = 160 + 4 * (strlen(transfer->path) + strlen(transfer->user));
    struct log_line *line = calloc(1, sizeof *line + room);
    struct timespec now;
    struct tm parts;
    char time[24];
    if (!line)
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    strftime(time, sizeof time, "%Y-%m-%dT%H:%M:%SZ", &parts);
    double seconds = (double)(weir_clock_now() - transfer->start_ns) / 1e9;
    char *out = line->text;
    out +=
        sprintf(out, "%s %s %s %d %llu %.3f ", time, transfer->host, ftp_verbs[transfer->verb].name,
                code, (unsigned long long)transfer->moved, seconds);
    out = log_quote(out, transfer->user);
    *out++ = ' ';
    out = log_quote(out, transfer->path);
    *out++ = '\n';
    line->size = (size_t)(out - line->text);
    line->fd = transfer->server->log.fd;
    line->operation.done = log_done;
    weir_job_start(transfer->loop, &line->operation, log_run);
}
