// Paths, escapes, targets and hosts; see http_text.h.
#include <stdlib.h>
#include <string.h>

#include "http/check.h"
#include "http/listing.h"
#include "http/path.h"
#include "http_text.h"
#include "target.h"

// --- Paths ---------------------------------------------------------------------------------------

static int hex_of(char byte)
{
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    const char *at = byte ? strchr(digits, byte) : NULL;
    return at ? (int)(at - digits) % 16 : -1;
}

// Decodes a segment that lies between slashes. 0, or the status of the first byte that is refused.
static int model_decode(struct http_text raw, size_t room, char *ret_segment, size_t *ret_size)
{
    size_t size = 0;
    for (size_t i = 0; i < raw.size; i++) {
        char byte = raw.data[i];
        if (size == room)
            return 404;
        if (byte == '%') {
            if (raw.size - i < 3 || hex_of(raw.data[i + 1]) < 0 || hex_of(raw.data[i + 2]) < 0)
                return 400;
            byte = (char)(hex_of(raw.data[i + 1]) * 16 + hex_of(raw.data[i + 2]));
            i += 2;
            if (!byte)
                return 400;
            if (byte == '/')
                return 404;
        }
        ret_segment[size++] = byte;
    }
    *ret_size = size;
    return 0;
}

// The path as a stack of segments: where each begins in `text`, one behind the other.
struct model_path {
    char text[HTTP_PATH_MAX];
    size_t begins[HTTP_PATH_MAX];
    size_t depth, size;
};

// Adds what a segment means. 0 or a status.
static int model_push(struct model_path *path, size_t size, bool last)
{
    const char *segment = path->text + path->size;
    if (size == 1 && *segment == '.')
        return 0;
    if (size == 2 && !memcmp(segment, "..", 2)) {
        if (!path->depth)
            return 404;
        path->size = path->begins[--path->depth];
        return 0;
    }
    bool known = !path->depth && size == 11 && !memcmp(segment, ".well-known", 11);
    if (*segment == '.' && !known)
        return 404;
    path->begins[path->depth++] = path->size;
    path->size += size;
    if (!last)
        path->text[path->size++] = '/';
    return 0;
}

static int model_resolve(struct http_text text, struct model_path *path)
{
    path->depth = path->size = 0;
    for (size_t i = 0; i < text.size;) {
        size_t end = i, size;
        while (end < text.size && text.data[end] != '/')
            end++;
        if (end == i) {
            i++;
            continue;
        }
        size_t room = path->size < HTTP_PATH_MAX - 2 ? HTTP_PATH_MAX - 2 - path->size : 0;
        int status = model_decode((struct http_text){ text.data + i, end - i }, room,
                                  path->text + path->size, &size);
        if (!status)
            status = model_push(path, size, end == text.size);
        if (status)
            return status;
        i = end;
    }
    path->text[path->size] = '\0';
    return 0;
}

void try_path(struct http_text text)
{
    static struct model_path model;
    static char path[HTTP_PATH_MAX], again[HTTP_PATH_MAX], url[1 + 3 * HTTP_PATH_MAX];
    int status = http_path_resolve(text, path);
    fuzz_require(status == model_resolve(text, &model), "a path is judged otherwise");
    if (status)
        return;
    fuzz_require(!strcmp(path, model.text), "a path leads elsewhere");
    fuzz_require(path[0] != '/' && !strstr(path, "//"), "a path has an empty name");
    fuzz_require(strncmp(path, "../", 3) != 0 && !strstr(path, "/../") && strcmp(path, "..") != 0,
                 "a path leads out");
    url[0] = '/';
    size_t size = 1 + http_listing_escape_url(http_text_of(path), url + 1);
    fuzz_require(!http_path_resolve((struct http_text){ url, size }, again) && !strcmp(path, again),
                 "a path that was escaped leads elsewhere");
}

// --- Escapes -------------------------------------------------------------------------------------

// Reads an escape of `digits` hexadecimal digits.
static unsigned hex_at(const char *at, size_t digits)
{
    unsigned value = 0;
    for (size_t i = 0; i < digits; i++) {
        fuzz_require(hex_of(at[i]) >= 0, "an escape has no such digit");
        value = value * 16 + (unsigned)hex_of(at[i]);
    }
    return value;
}

static void require_url(struct http_text text, const char *escaped, size_t size)
{
    size_t i = 0;
    for (size_t at = 0; at < size; i++) {
        bool plain = escaped[at] != '%';
        bool letter = (escaped[at] | 32) >= 'a' && (escaped[at] | 32) <= 'z';
        bool digit = escaped[at] >= '0' && escaped[at] <= '9';
        fuzz_require(plain ? letter || digit || (escaped[at] && strchr("-._~/", escaped[at]))
                           : size - at >= 3,
                     "a URL has another character");
        unsigned byte = plain ? (unsigned char)escaped[at] : hex_at(escaped + at + 1, 2);
        fuzz_require(i < text.size && (unsigned char)text.data[i] == byte, "a URL says another");
        at += plain ? 1 : 3;
    }
    fuzz_require(i == text.size, "a URL is cut");
}

static void require_html(struct http_text text, const char *escaped, size_t size)
{
    static const struct {
        const char *escape;
        char byte;
    } rows[] = {
        { "&amp;", '&' }, { "&lt;", '<' }, { "&gt;", '>' }, { "&quot;", '"' }, { "&#39;", '\'' }
    };
    size_t at = 0;
    for (size_t i = 0; i < text.size; i++) {
        size_t row = 0, length = 1;
        while (row < 5 && rows[row].byte != text.data[i])
            row++;
        const char *expected = row < 5 ? rows[row].escape : &text.data[i];
        length = row < 5 ? strlen(expected) : 1;
        fuzz_require(size - at >= length && !memcmp(escaped + at, expected, length),
                     "HTML says another");
        at += length;
    }
    fuzz_require(at == size, "HTML is longer");
}

// How long the UTF-8 sequence is that begins here, by decoding it; 0: it is none.
static size_t utf8_size(struct http_text text, size_t at)
{
    static const unsigned least[] = { 0, 0, 0x80, 0x800, 0x10000 };
    unsigned char first = (unsigned char)text.data[at];
    size_t size = first < 0x80       ? 1
                  : first >> 5 == 6  ? 2
                  : first >> 4 == 14 ? 3
                  : first >> 3 == 30 ? 4
                                     : 0;
    if (size < 2)
        return size;
    unsigned value = first & (0xffU >> (size + 1));
    for (size_t i = 1; i < size; i++) {
        if (at + i >= text.size || ((unsigned char)text.data[at + i] & 0xc0) != 0x80)
            return 0;
        value = value << 6 | ((unsigned char)text.data[at + i] & 0x3f);
    }
    bool surrogate = value >= 0xd800 && value <= 0xdfff;
    return value < least[size] || value > 0x10ffff || surrogate ? 0 : size;
}

static void require_json(struct http_text text, const char *escaped, size_t size)
{
    size_t at = 0;
    for (size_t i = 0; i < text.size;) {
        size_t length = utf8_size(text, i);
        unsigned char byte = (unsigned char)text.data[i];
        if (at < size && escaped[at] == '\\') {
            fuzz_require(size - at >= 6 && escaped[at + 1] == 'u', "JSON has another escape");
            fuzz_require(hex_at(escaped + at + 2, 4) == (length ? byte : 0xfffd),
                         "JSON says another");
            at += 6;
            i++;
            continue;
        }
        fuzz_require(length && byte >= ' ' && byte != '"' && byte != '\\' && byte != 0x7f,
                     "JSON has what it may not");
        fuzz_require(size - at >= length && !memcmp(escaped + at, text.data + i, length),
                     "JSON says another");
        at += length;
        i += length;
    }
    fuzz_require(at == size, "JSON is longer");
}

// In a log: as many bytes as fit, each of them printable or escaped.
static void require_log(struct http_text text, bool json, size_t room)
{
    char *escaped = malloc(room ? room : 1);
    if (!escaped)
        abort();
    size_t size = http_text_escape(text, json, escaped, room), i = 0, escape = json ? 6 : 4;
    fuzz_require(size <= room, "a log's text is longer than its room");
    for (size_t at = 0; at < size; i++) {
        bool plain = escaped[at] != '\\';
        fuzz_require(escaped[at] >= ' ' && escaped[at] <= '~' && escaped[at] != '"',
                     "a log has what it may not");
        fuzz_require(plain || (size - at >= escape &&
                               !memcmp(escaped + at, json ? "\\u00" : "\\x", escape - 2)),
                     "a log has another escape");
        unsigned byte = plain ? (unsigned char)escaped[at] : hex_at(escaped + at + escape - 2, 2);
        fuzz_require(i < text.size && (unsigned char)text.data[i] == byte, "a log says another");
        at += plain ? 1 : escape;
    }
    fuzz_require(i == text.size || room - size < escape, "a log's text is cut too soon");
    free(escaped);
}

void try_escapes(struct http_text text)
{
    char *escaped = malloc(6 * text.size + 1);
    if (!escaped)
        abort();
    size_t size = http_listing_escape_url(text, escaped);
    fuzz_require(size <= 3 * text.size, "a URL is too long");
    require_url(text, escaped, size);
    size = http_listing_escape_html(text, escaped);
    fuzz_require(size <= 6 * text.size, "HTML is too long");
    require_html(text, escaped, size);
    size = http_listing_escape_json(text, escaped);
    fuzz_require(size <= 6 * text.size, "JSON is too long");
    require_json(text, escaped, size);
    for (int json = 0; json < 2; json++) {
        require_log(text, json, 6 * text.size);
        require_log(text, json, text.size);
    }
    free(escaped);
}

// --- Targets and hosts ---------------------------------------------------------------------------

static bool lies_in(struct http_text part, struct http_text whole)
{
    return !part.size ||
           (part.data >= whole.data && part.data + part.size <= whole.data + whole.size);
}

// The host of a request is empty, or one name or address with one port.
static void require_host(struct http_text host)
{
    size_t colons = 0;
    bool brackets = host.size && host.data[0] == '[';
    for (size_t i = 0; i < host.size; i++) {
        unsigned char byte = (unsigned char)host.data[i];
        fuzz_require(byte > ' ' && byte < 0x7f && !strchr("@/\\?#,\"<>^`{|}", byte),
                     "a host has another character");
        colons += byte == ':';
    }
    const char *end = brackets ? memchr(host.data, ']', host.size) : NULL;
    fuzz_require(brackets ? end != NULL : colons <= 1, "a host has no end");
    const char *port =
        memchr(end ? end : host.data, ':', end ? (size_t)(host.data + host.size - end) : host.size);
    for (; port && ++port < host.data + host.size;)
        fuzz_require(*port >= '0' && *port <= '9', "a port is no number");
}

// The first line is a target, the rest of the text a host.
void try_target(struct http_text text)
{
    const char *end = memchr(text.data, '\n', text.size), *reason = "";
    size_t size = end ? (size_t)(end - text.data) : text.size;
    struct http_header host = { .name = { "Host", 4 }, .field = FIELD_HOST };
    host.value =
        end ? (struct http_text){ end + 1, text.size - size - 1 } : (struct http_text){ "x", 1 };
    struct http_request request = {
        .method = size && text.data[0] == '*' ? METHOD_OPTIONS : METHOD_GET,
        .target = { text.data, size },
        .headers = &host,
        .headers_count = 1,
        .fields = 1U << FIELD_HOST,
        .minor = 1,
    };
    int status = http_request_check(&request, &reason);
    fuzz_require(status == 0 || (status == 400 && *reason), "a target has another status");
    if (status)
        return;
    for (size_t i = 0; i < size; i++)
        fuzz_require(text.data[i] > ' ' && text.data[i] < 0x7f && text.data[i] != '#',
                     "a target has another character");
    require_host(host.value);
    fuzz_require(request.path.size && (request.path.data[0] == '/' || request.path.data[0] == '*'),
                 "a path does not begin with a slash");
    fuzz_require(!memchr(request.path.data, '?', request.path.size), "a path has a query");
    fuzz_require(lies_in(request.query, request.target), "a query lies elsewhere");
    // Path, question mark and query are the target's end.
    const char *mark = memchr(text.data, '?', size);
    size_t tail = mark ? size - (size_t)(mark - text.data) - 1 : 0;
    fuzz_require(request.query.size == tail, "a query is cut");
    if (lies_in(request.path, request.target))
        fuzz_require(request.path.data + request.path.size == (mark ? mark : text.data + size),
                     "a path is cut");
    else
        fuzz_require(http_text_is(request.path, "/"), "a path comes from elsewhere");
}
