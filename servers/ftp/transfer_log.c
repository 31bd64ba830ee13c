// The transfer log: one line a file transfer. A slow disk or pipe must not hold up a loop, so lines
// are queued; they may change places by milliseconds, and say themselves when the transfer began.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "transfer.h"

// Lines are queued for the server's log, and for that of transfers if there is one.
static int log_make_queues(struct ftp_server *server)
{
    struct line_queue_config config = {
        .log = &server->events,
        .dropped = &server->counters[FTP_COUNTER_LOG_DROPPED],
    };
    server->event_lines = line_queue_create(&config);
    if (!server->event_lines)
        return -ENOMEM;
    if (server->log.fd < 0)
        return 0;
    config.log = &server->log;
    config.name = "transfer log";
    config.reports = server->event_lines;
    server->transfer_lines = line_queue_create(&config);
    return server->transfer_lines ? 0 : -ENOMEM;
}

int ftp_log_open(struct ftp_server *server)
{
    int error = 0;
    if (server->transfer_log && !strcmp(server->transfer_log, "-"))
        server->log.fd = STDOUT_FILENO;
    else if ((server->log.path = server->transfer_log))
        error = serve_log_open(&server->log);
    return error ? error : log_make_queues(server);
}

void ftp_log_close(struct ftp_server *server)
{
    line_queue_destroy(server->transfer_lines);
    line_queue_destroy(server->event_lines);
    serve_log_close(&server->log);
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

void ftp_log_transfer(const struct ftp_transfer *transfer, int code)
{
    struct ftp_server *server = transfer->server;
    struct timespec now;
    struct tm parts;
    char time[24];
    if (!server->transfer_lines)
        return;
    char *line = malloc(160 + 4 * (strlen(transfer->path) + strlen(transfer->user)));
    if (!line) {
        ftp_count(server, FTP_COUNTER_LOG_DROPPED);
        return;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    strftime(time, sizeof time, "%Y-%m-%dT%H:%M:%SZ", &parts);
    double seconds = (double)(weir_clock_now() - transfer->start_ns) / 1e9;
    char *out = line;
    out +=
        sprintf(out, "%s %s %s %d %llu %.3f ", time, transfer->host, ftp_verbs[transfer->verb].name,
                code, (unsigned long long)transfer->moved, seconds);
    out = log_quote(out, transfer->user);
    *out++ = ' ';
    out = log_quote(out, transfer->path);
    *out++ = '\n';
    line_queue_add(server->transfer_lines, transfer->loop, line, (size_t)(out - line));
    free(line);
}
