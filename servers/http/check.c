// See check.h.
#include "check.h"

static int check_refuse(const char **ret_reason, int status, const char *reason)
{
    *ret_reason = reason;
    return status;
}

// What may stand in a host's name: letters, digits and -._~%!$&'()*+;= by their ASCII codes.
static const bool check_name_bytes[256] = {
    // clang-format off
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 0,
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 0, 1, 0, 0,
    0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 1,
    0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 0,
    // clang-format on
};

// A port: a colon and digits, or nothing.
static bool check_port_is_valid(struct http_text host, size_t at)
{
    if (at < host.size && host.data[at] != ':')
        return false;
    for (size_t i = at + 1; i < host.size; i++) {
        if (host.data[i] < '0' || host.data[i] > '9')
            return false;
    }
    return true;
}

static bool check_is_hexadecimal(struct http_text host, size_t at)
{
    if (at >= host.size)
        return false;
    char byte = host.data[at], small = (char)(byte | 32);
    return (byte >= '0' && byte <= '9') || (small >= 'a' && small <= 'f');
}

// An address of IPv6 in brackets, as far as its characters tell. No other kind is in use.
static bool check_literal_is_valid(struct http_text host)
{
    size_t i = 1;
    while (check_is_hexadecimal(host, i) ||
           (i < host.size && (host.data[i] == ':' || host.data[i] == '.')))
        i++;
    return i > 2 && i < host.size && host.data[i] == ']' && check_port_is_valid(host, i + 1);
}

// A host with or without a port, or nothing (RFC 9110, 7.2). What could be read as two hosts, as
// user information or as a path is refused.
static bool check_host_is_valid(struct http_text host)
{
    size_t i = 0;
    if (host.size && host.data[0] == '[')
        return check_literal_is_valid(host);
    for (; i < host.size && check_name_bytes[(unsigned char)host.data[i]]; i++) {
        if (host.data[i] == '%' &&
            !(check_is_hexadecimal(host, i + 1) && check_is_hexadecimal(host, i + 2)))
            return false;
    }
    return check_port_is_valid(host, i);
}

static int check_host(struct http_request *request, const char **ret_reason)
{
    struct http_text host, other;
    size_t at = 0;
    if (!http_request_next(request, FIELD_HOST, &at, &host))
        return request->minor ? check_refuse(ret_reason, 400, "no Host") : 0;
    if (http_request_next(request, FIELD_HOST, &at, &other))
        return check_refuse(ret_reason, 400, "more than one Host");
    return check_host_is_valid(host) ? 0 : check_refuse(ret_reason, 400, "malformed Host");
}

// llhttp refuses a second Content-Length, one beside Transfer-Encoding, and lists; what it lets
// through is a coding that this server does not know before the last, chunked.
static int check_framing(struct http_request *request, const char **ret_reason)
{
    struct http_text value, other;
    size_t at = 0;
    if (!http_request_next(request, FIELD_TRANSFER_ENCODING, &at, &value))
        return 0;
    if (!request->minor)
        return check_refuse(ret_reason, 400, "Transfer-Encoding in HTTP/1.0");
    // UNTESTED: llhttp refuses it before
    if (http_request_has(request, FIELD_CONTENT_LENGTH))
        return check_refuse(ret_reason, 400, "Content-Length beside Transfer-Encoding");
    if (http_request_next(request, FIELD_TRANSFER_ENCODING, &at, &other))
        return check_refuse(ret_reason, 400, "more than one Transfer-Encoding");
    if (!http_text_is_word(value, "chunked"))
        return check_refuse(ret_reason, 501, "unknown transfer coding");
    return 0;
}

static int check_expect(struct http_request *request, const char **ret_reason)
{
    struct http_text value;
    size_t at = 0;
    while (http_request_next(request, FIELD_EXPECT, &at, &value)) {
        if (!http_text_is_word(value, "100-continue"))
            return check_refuse(ret_reason, 417, "unknown expectation");
        request->expects_continue = request->minor > 0; // RFC 9110, 10.1.1: ignored in 1.0
    }
    return 0;
}

// Origin form, or absolute form, whose authority then stands for Host (RFC 9112, 3.2).
static int check_target(struct http_request *request, const char **ret_reason)
{
    struct http_text rest = request->target;
    for (size_t i = 0; i < rest.size; i++) {
        unsigned char byte = (unsigned char)rest.data[i];
        if (byte <= ' ' || byte >= 0x7f || byte == '#')
            return check_refuse(ret_reason, 400, "character in the target");
    }
    if (rest.size == 1 && rest.data[0] == '*' && request->method == METHOD_OPTIONS) {
        request->path = rest;
        return 0;
    }
    if (rest.size > 7 && http_text_is_word((struct http_text){ rest.data, 7 }, "http://")) {
        rest.data += 7;
        rest.size -= 7;
        struct http_text host = rest;
        while (rest.size && rest.data[0] != '/' && rest.data[0] != '?') {
            rest.data++;
            rest.size--;
        }
        host.size -= rest.size;
        if (!host.size || host.data[0] == ':' || !check_host_is_valid(host))
            return check_refuse(ret_reason, 400, "malformed authority in the target");
        if (!rest.size || rest.data[0] == '?')
            request->path = (struct http_text){ "/", 1 };
    } else if (!rest.size || rest.data[0] != '/') {
        return check_refuse(ret_reason, 400, "form of the target");
    }
    const char *mark = memchr(rest.data, '?', rest.size);
    size_t path_size = mark ? (size_t)(mark - rest.data) : rest.size;
    if (path_size)
        request->path = (struct http_text){ rest.data, path_size };
    if (mark)
        request->query = (struct http_text){ mark + 1, rest.size - path_size - 1 };
    return 0;
}

int http_request_check(struct http_request *request, const char **ret_reason)
{
    static int (*const checks[])(struct http_request * request, const char **ret_reason) = {
        check_target,
        check_host,
        check_framing,
        check_expect,
    };
    for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++) {
        int status = checks[i](request, ret_reason);
        if (status)
            return status;
    }
    return 0;
}
