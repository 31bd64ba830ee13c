// See request.h.
#include "request.h"

enum http_field http_field_find(struct http_text name)
{
    static const char *const names[FIELD_COUNT] = {
        [FIELD_OTHER] = "",
        [FIELD_ACCEPT] = "accept",
        [FIELD_ACCEPT_ENCODING] = "accept-encoding",
        [FIELD_CONNECTION] = "connection",
        [FIELD_CONTENT_LENGTH] = "content-length",
        [FIELD_CONTENT_TYPE] = "content-type",
        [FIELD_EXPECT] = "expect",
        [FIELD_HOST] = "host",
        [FIELD_IF_MATCH] = "if-match",
        [FIELD_IF_MODIFIED_SINCE] = "if-modified-since",
        [FIELD_IF_NONE_MATCH] = "if-none-match",
        [FIELD_IF_RANGE] = "if-range",
        [FIELD_IF_UNMODIFIED_SINCE] = "if-unmodified-since",
        [FIELD_RANGE] = "range",
        [FIELD_REFERER] = "referer",
        [FIELD_TRANSFER_ENCODING] = "transfer-encoding",
        [FIELD_USER_AGENT] = "user-agent",
    };
    // The first letter decides most names; the row says where its names begin and end.
    static const struct {
        uint8_t from, to;
    } rows[26] = {
        ['a' - 'a'] = { FIELD_ACCEPT, FIELD_ACCEPT_ENCODING },
        ['c' - 'a'] = { FIELD_CONNECTION, FIELD_CONTENT_TYPE },
        ['e' - 'a'] = { FIELD_EXPECT, FIELD_EXPECT },
        ['h' - 'a'] = { FIELD_HOST, FIELD_HOST },
        ['i' - 'a'] = { FIELD_IF_MATCH, FIELD_IF_UNMODIFIED_SINCE },
        ['r' - 'a'] = { FIELD_RANGE, FIELD_REFERER },
        ['t' - 'a'] = { FIELD_TRANSFER_ENCODING, FIELD_TRANSFER_ENCODING },
        ['u' - 'a'] = { FIELD_USER_AGENT, FIELD_USER_AGENT },
    };
    unsigned letter = name.size ? ((unsigned char)name.data[0] | 32U) - 'a' : 26;
    if (letter >= 26 || !rows[letter].from)
        return FIELD_OTHER;
    for (uint8_t i = rows[letter].from; i <= rows[letter].to; i++) {
        if (http_text_is_word(name, names[i]))
            return (enum http_field)i;
    }
    return FIELD_OTHER;
}

bool http_request_next(const struct http_request *request, enum http_field field, size_t *at,
                       struct http_text *ret_value)
{
    while (*at < request->headers_count) {
        const struct http_header *header = &request->headers[(*at)++];
        if (header->field != field)
            continue;
        *ret_value = header->value;
        return true;
    }
    return false;
}

struct http_text http_request_value(const struct http_request *request, enum http_field field)
{
    struct http_text value = { NULL, 0 };
    size_t at = 0;
    if (http_request_has(request, field))
        http_request_next(request, field, &at, &value);
    return value;
}
