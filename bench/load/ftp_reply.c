// See ftp_reply.h.
#include "ftp_reply.h"

#include <string.h>

// The three digits that a line begins with; 0 when it does not.
static uint32_t reply_code(const char *text)
{
    uint32_t code = 0;
    for (int i = 0; i < 3; i++) {
        if (text[i] < '0' || text[i] > '9')
            return 0;
        code = 10 * code + (uint32_t)(text[i] - '0');
    }
    return code >= 100 && code < 600 ? code : 0;
}

static void reply_keep(struct ftp_reply *reply, char byte)
{
    if (reply->size < FTP_REPLY_TEXT - 1)
        reply->text[reply->size++] = byte;
}

// A line ended. What a long reply has between its first and last line is anything.
static enum ftp_reply_result reply_line(struct ftp_reply *reply)
{
    if (reply->size && reply->text[reply->size - 1] == '\r')
        reply->size--;
    reply->text[reply->size] = '\0';
    uint32_t code = reply_code(reply->text);
    char behind = code ? reply->text[3] : '\0';
    reply->size = 0;
    if (!reply->several) {
        if (!code || (behind && behind != ' ' && behind != '-'))
            return FTP_REPLY_MALFORMED;
        reply->code = code;
        reply->several = behind == '-';
    } else if (code == reply->code && behind != '-') {
        reply->several = false;
    }
    reply->ended = !reply->several;
    return reply->ended ? FTP_REPLY_WHOLE : FTP_REPLY_MORE;
}

enum ftp_reply_result ftp_reply_take(struct ftp_reply *reply, const char *data, size_t size,
                                     size_t *ret_used)
{
    enum ftp_reply_result result = FTP_REPLY_MORE;
    size_t used = 0;
    if (reply->ended)
        *reply = (struct ftp_reply){ 0 };
    while (used < size && result == FTP_REPLY_MORE) {
        char byte = data[used++];
        if (++reply->total > FTP_REPLY_MAX)
            result = FTP_REPLY_MALFORMED;
        else if (byte == '\n')
            result = reply_line(reply);
        else
            reply_keep(reply, byte);
    }
    *ret_used = used;
    return result;
}

uint16_t ftp_reply_port(const struct ftp_reply *reply)
{
    const char *at = strchr(reply->text, '(');
    uint32_t port = 0;
    if (reply->code != 229 || !at || !at[1] || at[1] != at[2] || at[1] != at[3])
        return 0;
    const char delimiter = at[1];
    for (at += 4; *at >= '0' && *at <= '9' && port <= UINT16_MAX; at++)
        port = 10 * port + (uint32_t)(*at - '0');
    return *at == delimiter && port <= UINT16_MAX ? (uint16_t)port : 0;
}
