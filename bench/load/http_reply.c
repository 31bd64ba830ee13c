// See http_reply.h.
#include "http_reply.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static const uint64_t reply_hash_start = 0xcbf29ce484222325ULL;

// FNV-1a: the same however the content is cut.
static uint64_t reply_hash(uint64_t hash, const char *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (unsigned char)data[i]) * 0x100000001b3ULL;
    return hash;
}

// "HTTP/1.1 200 ..."; 0 when it is anything else.
static uint32_t reply_status(const char *head, size_t size)
{
    uint32_t status = 0;
    if (size < 13 || memcmp(head, "HTTP/1.", 7) != 0 || head[8] != ' ')
        return 0;
    for (size_t i = 9; i < 12; i++) {
        if (head[i] < '0' || head[i] > '9')
            return 0;
        status = status * 10 + (uint32_t)(head[i] - '0');
    }
    return status;
}

// The value of Content-Length; false when there is none, or no number. Chunked replies have none:
// they are not understood.
static bool reply_length(const char *head, size_t size, uint64_t *ret_length)
{
    static const char name[] = "\r\nContent-Length:";
    const size_t name_size = sizeof name - 1;
    const char *end = head + size;
    for (const char *at = head; (at = memchr(at, '\r', (size_t)(end - at))); at++) {
        if ((size_t)(end - at) < name_size || strncasecmp(at, name, name_size) != 0)
            continue;
        uint64_t length = 0;
        for (at += name_size; at < end && *at == ' '; at++)
            continue;
        if (at == end || *at < '0' || *at > '9')
            return false;
        for (; at < end && *at >= '0' && *at <= '9'; at++) {
            if (length > UINT64_MAX / 16)
                return false;
            length = length * 10 + (uint64_t)(*at - '0');
        }
        *ret_length = length;
        return *at == '\r' || *at == ' ';
    }
    return false;
}

static enum http_reply_result reply_head(struct http_reply *reply, struct http_reply_model *model,
                                         const char *head, size_t size)
{
    uint32_t status = reply_status(head, size);
    uint64_t length = 0;
    if (status < 200)
        return HTTP_REPLY_MALFORMED;
    if (status >= 400)
        return HTTP_REPLY_REFUSED;
    if (status != 204 && status != 304 && !reply_length(head, size, &length))
        return HTTP_REPLY_MALFORMED;
    if (!model->known) {
        model->known = true;
        model->status = status;
        model->length = length;
    } else if (model->status != status || model->length != length) {
        return HTTP_REPLY_DIFFERS;
    }
    reply->left = model->bodiless ? 0 : length;
    reply->in_body = true;
    reply->hash = reply_hash_start;
    return HTTP_REPLY_MORE;
}

// Takes bytes up to the end of the head; where it comes in one piece, without a copy.
static enum http_reply_result reply_take_head(struct http_reply *reply,
                                              struct http_reply_model *model, const char *data,
                                              size_t size, size_t *ret_used)
{
    const char *end = reply->head_size ? NULL : memmem(data, size, "\r\n\r\n", 4);
    if (end) {
        *ret_used = (size_t)(end - data) + 4;
        return reply_head(reply, model, data, *ret_used);
    }
    for (size_t i = 0; i < size; i++) {
        if (reply->head_size == HTTP_REPLY_HEAD_MAX)
            return HTTP_REPLY_MALFORMED;
        reply->head[reply->head_size++] = data[i];
        if (data[i] != '\n' || reply->head_size < 4 ||
            memcmp(reply->head + reply->head_size - 4, "\r\n\r\n", 4) != 0)
            continue;
        *ret_used = i + 1;
        uint32_t head_size = reply->head_size;
        reply->head_size = 0;
        return reply_head(reply, model, reply->head, head_size);
    }
    *ret_used = size;
    return HTTP_REPLY_MORE;
}

static enum http_reply_result reply_end(struct http_reply *reply, struct http_reply_model *model)
{
    reply->in_body = false;
    if (!reply->compares)
        return HTTP_REPLY_WHOLE;
    if (model->hashed && model->hash != reply->hash)
        return HTTP_REPLY_DIFFERS;
    model->hashed = true;
    model->hash = reply->hash;
    return HTTP_REPLY_WHOLE;
}

enum http_reply_result http_reply_take(struct http_reply *reply, struct http_reply_model *model,
                                       bool compares, const char *data, size_t size,
                                       size_t *ret_used)
{
    *ret_used = 0;
    if (!reply->in_body) {
        reply->compares = compares;
        enum http_reply_result result = reply_take_head(reply, model, data, size, ret_used);
        if (result != HTTP_REPLY_MORE || !reply->in_body)
            return result;
    }
    size_t part = size - *ret_used;
    if (part > reply->left)
        part = (size_t)reply->left;
    if (reply->compares)
        reply->hash = reply_hash(reply->hash, data + *ret_used, part);
    reply->left -= part;
    *ret_used += part;
    return reply->left ? HTTP_REPLY_MORE : reply_end(reply, model);
}

size_t http_request_write(const char *method, const char *path, const char *host,
                          uint64_t body_size, char *ret_text, size_t room)
{
    char length[64] = "";
    if (body_size)
        snprintf(length, sizeof length, "Content-Length: %llu\r\n", (unsigned long long)body_size);
    int head_size = snprintf(ret_text, room, "%s %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", method, path,
                             host, length);
    size_t size = (size_t)head_size + (size_t)body_size;
    for (size_t i = (size_t)head_size; i < size && size <= room; i++)
        ret_text[i] = (char)('a' + (i - (size_t)head_size) % 26);
    return size;
}
