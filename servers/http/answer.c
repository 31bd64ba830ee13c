// See answer.h.
#include "answer.h"

#include <stdio.h>

struct answer_writer {
    char *at, *end;
};

static void answer_put(struct answer_writer *writer, const char *data, size_t size)
{
    if (!size || size > (size_t)(writer->end - writer->at))
        return;
    memcpy(writer->at, data, size);
    writer->at += size;
}

static void answer_text(struct answer_writer *writer, const char *text)
{
    answer_put(writer, text, strlen(text));
}

static void answer_number(struct answer_writer *writer, uint64_t number)
{
    char digits[20];
    answer_put(writer, digits, http_text_write_number(number, digits));
}

static void answer_line(struct answer_writer *writer, const char *name, const char *value)
{
    answer_text(writer, name);
    answer_text(writer, value);
    answer_put(writer, "\r\n", 2);
}

const char *http_status_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } rows[] = {
        { 200, "200 OK" },
        { 204, "204 No Content" },
        { 206, "206 Partial Content" },
        { 301, "301 Moved Permanently" },
        { 304, "304 Not Modified" },
        { 400, "400 Bad Request" },
        { 403, "403 Forbidden" },
        { 404, "404 Not Found" },
        { 405, "405 Method Not Allowed" },
        { 408, "408 Request Timeout" },
        { 412, "412 Precondition Failed" },
        { 413, "413 Content Too Large" },
        { 414, "414 URI Too Long" },
        { 416, "416 Range Not Satisfiable" },
        { 417, "417 Expectation Failed" },
        { 431, "431 Request Header Fields Too Large" },
        { 500, "500 Internal Server Error" },
        { 501, "501 Not Implemented" },
        { 503, "503 Service Unavailable" },
        { 505, "505 HTTP Version Not Supported" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].status == status)
            return rows[i].text;
    }
    return "500 Internal Server Error"; // UNTESTED: every status that is given is above
}

const char *http_coding_name(enum http_coding coding)
{
    static const char *const names[CODING_COUNT] = { NULL, "gzip", "br", "zstd" };
    return names[coding];
}

static void answer_validators(struct answer_writer *writer, const struct http_answer *answer)
{
    const struct http_validators *validators = answer->validators;
    char date[HTTP_DATE_SIZE];
    if (!validators)
        return;
    if (answer->status == 206 || answer->status == 416) {
        answer_text(writer, "Content-Range: bytes ");
        if (answer->status == 206) {
            answer_number(writer, answer->range->from);
            answer_put(writer, "-", 1);
            answer_number(writer, answer->range->from + answer->range->size - 1);
        } else {
            answer_put(writer, "*", 1);
        }
        answer_put(writer, "/", 1);
        answer_number(writer, validators->size);
        answer_put(writer, "\r\n", 2);
    }
    http_date_write(validators->modified, date);
    answer_text(writer, "Last-Modified: ");
    answer_put(writer, date, sizeof date);
    answer_text(writer, "\r\nETag: ");
    answer_put(writer, validators->etag.data, validators->etag.size);
    answer_put(writer, "\r\n", 2);
}

static void answer_content(struct answer_writer *writer, const struct http_answer *answer)
{
    bool bodiless = answer->status == 204 || answer->status == 304;
    if (answer->type && !bodiless)
        answer_line(writer, "Content-Type: ", answer->type);
    if (answer->chunked) {
        answer_text(writer, "Transfer-Encoding: chunked\r\n");
    } else if (!bodiless && answer->length != HTTP_LENGTH_UNKNOWN) {
        answer_text(writer, "Content-Length: ");
        answer_number(writer, answer->length);
        answer_put(writer, "\r\n", 2);
    }
    if (answer->coding && !bodiless)
        answer_line(writer, "Content-Encoding: ", http_coding_name(answer->coding));
}

size_t http_answer_write(const struct http_answer *answer, const char date[HTTP_DATE_SIZE],
                         char *ret_head, size_t *ret_date_offset)
{
    struct answer_writer writer = { ret_head, ret_head + HTTP_HEAD_MAX - 4 };
    answer_text(&writer, "HTTP/1.1 ");
    answer_text(&writer, http_status_text(answer->status));
    answer_text(&writer, "\r\nDate: ");
    *ret_date_offset = (size_t)(writer.at - ret_head);
    answer_put(&writer, date, HTTP_DATE_SIZE);
    answer_put(&writer, "\r\n", 2);
    if (answer->persist == PERSISTENCE_CLOSE)
        answer_text(&writer, "Connection: close\r\n");
    else if (answer->persist == PERSISTENCE_KEEP)
        answer_text(&writer, "Connection: keep-alive\r\n");
    answer_content(&writer, answer);
    answer_validators(&writer, answer);
    if (answer->ranges)
        answer_text(&writer, "Accept-Ranges: bytes\r\n");
    if (answer->varies)
        answer_text(&writer, "Vary: Accept-Encoding\r\n");
    if (answer->varies_by_accept)
        answer_text(&writer, "Vary: Accept\r\n");
    if (answer->allow)
        answer_line(&writer, "Allow: ", answer->allow);
    size_t room = (size_t)(writer.end - writer.at);
    if (answer->location.size && answer->location.size + 64 < room) {
        answer_text(&writer, "Location: ");
        answer_put(&writer, answer->location.data, answer->location.size);
        answer_put(&writer, "\r\n", 2);
    }
    if (answer->status != 304)
        answer_text(&writer, "X-Content-Type-Options: nosniff\r\n");
    answer_put(&writer, answer->extra.data, answer->extra.size);
    writer.end += 4;
    answer_put(&writer, "\r\n", 2);
    return (size_t)(writer.at - ret_head);
}

struct http_text http_etag_write(const struct timespec *modified, uint64_t size,
                                 enum http_coding coding, char ret_text[HTTP_ETAG_SIZE])
{
    static const char *const endings[CODING_COUNT] = { "", "-gz", "-br", "-zst" };
    int length = snprintf(ret_text, HTTP_ETAG_SIZE, "\"%llx-%llx%s\"",
                          (unsigned long long)modified->tv_sec * 1000000000ULL +
                              (unsigned long long)modified->tv_nsec,
                          (unsigned long long)size, endings[coding]);
    return (struct http_text){ ret_text, (size_t)length };
}
