// See condition.h. The order of the checks is that of RFC 9110, 13.2.2.
#include "condition.h"

#include "date.h"

#define CONDITION_FIELDS                                                                  \
    (1U << FIELD_IF_MATCH | 1U << FIELD_IF_UNMODIFIED_SINCE | 1U << FIELD_IF_NONE_MATCH | \
     1U << FIELD_IF_MODIFIED_SINCE | 1U << FIELD_RANGE)

// Whether a list of entity tags, over all its lines, holds ours or is "*".
static bool condition_matches(const struct http_request *request, enum http_field field,
                              struct http_text etag, bool weak)
{
    struct http_text list, element;
    size_t at = 0;
    while (http_request_next(request, field, &at, &list)) {
        while (http_text_next_element(&list, &element)) {
            if (http_text_is(element, "*"))
                return true;
            if (weak && element.size > 2 && memcmp(element.data, "W/", 2) == 0) {
                element.data += 2;
                element.size -= 2;
            }
            if (element.size == etag.size && memcmp(element.data, etag.data, etag.size) == 0)
                return true;
        }
    }
    return false;
}

// The date of a field. One that is no date, or is there twice, is ignored.
static bool condition_date(const struct http_request *request, enum http_field field, time_t now,
                           time_t *ret_date)
{
    struct http_text value, other;
    size_t at = 0;
    return http_request_next(request, field, &at, &value) &&
           !http_request_next(request, field, &at, &other) && http_date_read(value, now, ret_date);
}

static int condition_precondition(const struct http_request *request,
                                  const struct http_validators *validators, time_t now)
{
    time_t since;
    if (http_request_has(request, FIELD_IF_MATCH)) {
        if (!condition_matches(request, FIELD_IF_MATCH, validators->etag, false))
            return 412;
    } else if (condition_date(request, FIELD_IF_UNMODIFIED_SINCE, now, &since) &&
               validators->modified > since) {
        return 412;
    }
    if (http_request_has(request, FIELD_IF_NONE_MATCH)) {
        if (condition_matches(request, FIELD_IF_NONE_MATCH, validators->etag, true))
            return request->method == METHOD_GET || request->method == METHOD_HEAD ? 304 : 412;
    } else if ((request->method == METHOD_GET || request->method == METHOD_HEAD) &&
               condition_date(request, FIELD_IF_MODIFIED_SINCE, now, &since) &&
               validators->modified <= since) {
        return 304;
    }
    return 200;
}

// If-Range names the version that the range belongs to: a strong tag, or the exact date. That of
// the running second is not strong: the file may change again within it (RFC 9110, 8.8.2.2).
static bool condition_range_is_current(const struct http_request *request,
                                       const struct http_validators *validators, time_t now)
{
    struct http_text value, other;
    size_t at = 0;
    time_t since;
    if (!http_request_next(request, FIELD_IF_RANGE, &at, &value))
        return true;
    if (http_request_next(request, FIELD_IF_RANGE, &at, &other))
        return false;
    if (value.size && (value.data[0] == '"' || value.data[0] == 'W'))
        return value.size == validators->etag.size &&
               memcmp(value.data, validators->etag.data, value.size) == 0;
    return http_date_read(value, now, &since) && since == validators->modified && since < now;
}

// "bytes=1-2", "bytes=1-" or "bytes=-2". 200: not a range that is supported, so it is ignored.
static int condition_range(struct http_text value, uint64_t size, struct http_range *ret_range)
{
    uint64_t first, last;
    if (value.size < 7 || !http_text_is_word((struct http_text){ value.data, 6 }, "bytes="))
        return 200;
    struct http_text text = http_text_trim((struct http_text){ value.data + 6, value.size - 6 });
    const char *dash = memchr(text.data, '-', text.size);
    if (!dash)
        return 200;
    struct http_text left = { text.data, (size_t)(dash - text.data) };
    struct http_text right = { dash + 1, text.size - left.size - 1 };
    if (!left.size) {
        if (!http_text_read_number(right, &last))
            return 200;
        if (!last || !size)
            return 416;
        first = last < size ? size - last : 0;
        last = size - 1;
    } else {
        last = UINT64_MAX;
        if (!http_text_read_number(left, &first) ||
            (right.size && !http_text_read_number(right, &last)) || last < first)
            return 200;
        if (first >= size)
            return 416;
        last = last < size ? last : size - 1;
    }
    *ret_range = (struct http_range){ first, last - first + 1 };
    return 206;
}

int http_condition_status(const struct http_request *request,
                          const struct http_validators *validators, bool ranges, time_t now,
                          struct http_range *ret_range)
{
    struct http_text value, other;
    size_t at = 0;
    if (!(request->fields & CONDITION_FIELDS))
        return 200;
    int status = condition_precondition(request, validators, now);
    if (status != 200 || !ranges || request->method != METHOD_GET ||
        !http_request_next(request, FIELD_RANGE, &at, &value) ||
        http_request_next(request, FIELD_RANGE, &at, &other) ||
        !condition_range_is_current(request, validators, now))
        return status;
    return condition_range(value, validators->size, ret_range);
}
