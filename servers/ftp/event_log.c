// Lines for the server's log about sessions: refused ones, failed logins. A name cannot forge a
// line.
#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "session.h"

enum { EVENT_TEXT_MAX = 400 };

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
    char text[EVENT_TEXT_MAX];
    va_list arguments;
    if (!session->server->event_lines)
        return;
    ftp_session_host(session, text);
    size_t size = strlen(text);
    size += (size_t)snprintf(text + size, sizeof text - size, ": ");
    va_start(arguments, format);
    vsnprintf(text + size, sizeof text - size, format, arguments);
    va_end(arguments);
    event_clean(text);
    line_queue_say(session->server->event_lines, weir_stream_loop(session->control),
                   WEIR_LOG_WARNING, text);
}
