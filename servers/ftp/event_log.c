// Lines for the server's log about sessions: refused ones, failed logins. A name cannot forge a
// line.
#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "session.h"

enum { EVENT_TEXT_MAX = 400 };

struct event_line {
    struct weir_operation operation;
    struct serve_log *log;
    char text[EVENT_TEXT_MAX];
};

static int event_run(struct weir_operation *operation)
{
    struct event_line *line = (struct event_line *)(void *)operation;
    serve_log_write(line->log, WEIR_LOG_WARNING, line->text);
    return 0;
}

static void event_done(struct weir_operation *operation, int64_t result)
{
    (void)result;
    free((struct event_line *)(void *)operation);
}

// What is not printable becomes a question mark.
static void event_clean(char *text)
{
    for (; *text; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte < 32 || byte >= 127)
            *text = '?';
    }
}

void ftp_session_host(const struct ftp_session *session, char ret_text[INET6_ADDRSTRLEN])
{
    struct weir_address peer;
    weir_stream_peer_address(session->control, &peer);
    strcpy(ret_text, "-");
    if (peer.any.sa_family == AF_INET)
        inet_ntop(AF_INET, &peer.in.sin_addr, ret_text, INET6_ADDRSTRLEN);
    else if (peer.any.sa_family == AF_INET6)
        inet_ntop(AF_INET6, &peer.in6.sin6_addr, ret_text, INET6_ADDRSTRLEN);
}

void ftp_event(const struct ftp_session *session, const char *format, ...)
{
    struct event_line *line = calloc(1, sizeof *line);
    va_list arguments;
    if (!line)
        return;
    ftp_session_host(session, line->text);
    size_t size = strlen(line->text);
    size += (size_t)snprintf(line->text + size, sizeof line->text - size, ": ");
    va_start(arguments, format);
    vsnprintf(line->text + size, sizeof line->text - size, format, arguments);
    va_end(arguments);
    event_clean(line->text);
    line->log = &session->server->events;
    line->operation.done = event_done;
    weir_job_start(weir_stream_loop(session->control), &line->operation, event_run);
}
