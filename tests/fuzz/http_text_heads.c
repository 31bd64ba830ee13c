// What lines of a head ask for: codings, forms, conditions and ranges; see http_text.h. A line of
// the text is a field's value, or in try_condition() "Name: value".
#include <string.h>

#include "http/accept.h"
#include "http/condition.h"
#include "http/date.h"
#include "http/lookup.h"
#include "http_text.h"
#include "target.h"

enum { LINES_MAX = 16 };

// Cuts the next line off; false when there is none left.
static bool next_line(struct http_text *text, struct http_text *ret_line)
{
    if (!text->size)
        return false;
    const char *end = memchr(text->data, '\n', text->size);
    size_t size = end ? (size_t)(end - text->data) : text->size;
    *ret_line = (struct http_text){ text->data, size };
    size += end != NULL;
    text->data += size;
    text->size -= size;
    return true;
}

static void add_header(struct http_request *request, struct http_header *headers,
                       enum http_field field, struct http_text value)
{
    headers[request->headers_count++] = (struct http_header){ .value = value, .field = field };
    request->fields |= 1U << field;
}

// A request with a header of the field for each line.
static void fill(struct http_request *request, struct http_header headers[LINES_MAX],
                 enum http_field field, struct http_text text)
{
    struct http_text line;
    *request = (struct http_request){ .method = METHOD_GET, .minor = 1, .headers = headers };
    while (request->headers_count < LINES_MAX && next_line(&text, &line))
        add_header(request, headers, field, line);
}

// --- Codings -------------------------------------------------------------------------------------

// Whether the coding is taken: what its own name says last but a refusal, or what "*" says last.
static bool model_takes(struct http_text text, const char *const *names)
{
    struct http_text line, element;
    bool named = false, taken = false, others = false;
    for (int lines = 0; lines < LINES_MAX && next_line(&text, &line); lines++) {
        while (model_next(&line, &element)) {
            unsigned weight = model_weight(&element);
            if (http_text_is(element, "*"))
                others = weight > 0;
            for (size_t i = 0; names[i]; i++) {
                if (!http_text_is_word(element, names[i]))
                    continue;
                named = true;
                taken |= weight > 0;
            }
        }
    }
    return named ? taken : others;
}

void try_codings(struct http_text text)
{
    static const char *const gzip[] = { "gzip", "x-gzip", NULL }, *const brotli[] = { "br", NULL },
                             *const zstd[] = { "zstd", NULL };
    struct http_header headers[LINES_MAX];
    struct http_request request;
    fill(&request, headers, FIELD_ACCEPT_ENCODING, text);
    unsigned expected = (unsigned)model_takes(text, gzip) << CODING_GZIP |
                        (unsigned)model_takes(text, brotli) << CODING_BROTLI |
                        (unsigned)model_takes(text, zstd) << CODING_ZSTD;
    fuzz_require(http_codings_accepted(&request) == expected, "other codings are taken");
}

// --- Forms ---------------------------------------------------------------------------------------

struct wish {
    unsigned precision, weight, place; // precision 0: it is not wanted
};

// The first of the most precise ranges that a form has.
static struct wish model_wish(struct http_text text, const char *const ranges[3])
{
    for (unsigned precision = 3; precision; precision--) {
        struct http_text left = text, line, element;
        unsigned place = 0;
        for (int lines = 0; lines < LINES_MAX && next_line(&left, &line); lines++) {
            for (; model_next(&line, &element); place++) {
                unsigned weight = model_weight(&element);
                if (http_text_is_word(element, ranges[3 - precision]))
                    return (struct wish){ precision, weight, place };
            }
        }
    }
    return (struct wish){ 0, 0, 0 };
}

void try_accept(struct http_text text)
{
    static const char *const ranges[2][3] = { { "application/json", "application/*", "*/*" },
                                              { "text/html", "text/*", "*/*" } };
    struct http_header headers[LINES_MAX];
    struct http_request request;
    fill(&request, headers, FIELD_ACCEPT, text);
    struct wish json = model_wish(text, ranges[0]), html = model_wish(text, ranges[1]);
    bool expected = json.weight > html.weight;
    if (json.weight && json.weight == html.weight)
        expected = json.precision > html.precision ||
                   (json.precision == html.precision && json.place < html.place);
    fuzz_require(http_accept_prefers_json(&request) == expected, "another form is chosen");
}

// --- Conditions ----------------------------------------------------------------------------------

static const struct http_text etag = { "\"5e-10\"", 7 };
static const time_t modified = 784111777; // 1994

static bool model_names(const struct http_request *request, enum http_field field, bool weak)
{
    for (size_t i = 0; i < request->headers_count; i++) {
        struct http_text list = request->headers[i].value, element;
        while (request->headers[i].field == field && model_next(&list, &element)) {
            if (http_text_is(element, "*"))
                return true;
            bool marked = element.size > 2 && element.data[0] == 'W' && element.data[1] == '/';
            size_t from = weak && marked ? 2 : 0;
            if (http_text_is((struct http_text){ element.data + from, element.size - from },
                             etag.data))
                return true;
        }
    }
    return false;
}

// The only header of the field; false when there is none, or more than one.
static bool model_only(const struct http_request *request, enum http_field field,
                       struct http_text *ret_value)
{
    size_t count = 0;
    for (size_t i = 0; i < request->headers_count; i++) {
        if (request->headers[i].field != field)
            continue;
        *ret_value = request->headers[i].value;
        count++;
    }
    return count == 1;
}

static bool model_date(const struct http_request *request, enum http_field field, time_t *ret_time)
{
    struct http_text value;
    return model_only(request, field, &value) && http_date_read(value, HTTP_TEXT_NOW, ret_time);
}

static int model_precondition(const struct http_request *request)
{
    bool reads = request->method == METHOD_GET || request->method == METHOD_HEAD;
    time_t since;
    if (http_request_has(request, FIELD_IF_MATCH)) {
        if (!model_names(request, FIELD_IF_MATCH, false))
            return 412;
    } else if (model_date(request, FIELD_IF_UNMODIFIED_SINCE, &since) && since < modified) {
        return 412;
    }
    if (http_request_has(request, FIELD_IF_NONE_MATCH))
        return !model_names(request, FIELD_IF_NONE_MATCH, true) ? 200 : reads ? 304 : 412;
    return reads && model_date(request, FIELD_IF_MODIFIED_SINCE, &since) && since >= modified ? 304
                                                                                              : 200;
}

// Holds what two numbers of 64 bits make.
__extension__ typedef __int128 model_wide;

// The number that a text is; -1: it is none, or none of 64 bits.
static model_wide model_number(struct http_text text)
{
    model_wide value = text.size ? 0 : -1;
    for (size_t i = 0; i < text.size && value >= 0; i++) {
        bool digit = text.data[i] >= '0' && text.data[i] <= '9';
        value = digit ? value * 10 + (text.data[i] - '0') : -1;
        value = value > (model_wide)UINT64_MAX ? -1 : value;
    }
    return value;
}

static int model_range(struct http_text value, uint64_t size, struct http_range *ret_range)
{
    if (value.size < 7 || !http_text_is_word((struct http_text){ value.data, 6 }, "bytes="))
        return 200;
    struct http_text text = http_text_trim((struct http_text){ value.data + 6, value.size - 6 });
    const char *dash = memchr(text.data, '-', text.size);
    if (!dash)
        return 200;
    size_t before = (size_t)(dash - text.data);
    struct http_text tail = { dash + 1, text.size - before - 1 };
    model_wide first = model_number((struct http_text){ text.data, before });
    model_wide last = model_number(tail), end = (model_wide)size - 1;
    if (!before) {
        if (last < 0)
            return 200;
        first = last > size ? 0 : (model_wide)size - last;
        last = end;
    } else if (first < 0 || (tail.size && last < first)) {
        return 200;
    } else if (!tail.size || last > end) {
        last = end;
    }
    if (first > end)
        return 416;
    *ret_range = (struct http_range){ (uint64_t)first, (uint64_t)(last - first + 1) };
    return 206;
}

static bool model_range_is_current(const struct http_request *request)
{
    struct http_text value;
    time_t since;
    if (!http_request_has(request, FIELD_IF_RANGE))
        return true;
    if (!model_only(request, FIELD_IF_RANGE, &value))
        return false;
    if (value.size && (value.data[0] == '"' || value.data[0] == 'W'))
        return http_text_is(value, etag.data);
    return http_date_read(value, HTTP_TEXT_NOW, &since) && since == modified;
}

static int model_status(const struct http_request *request, uint64_t size,
                        struct http_range *ret_range)
{
    struct http_text value;
    int status = model_precondition(request);
    if (status != 200 || !model_only(request, FIELD_RANGE, &value) ||
        request->method != METHOD_GET || !model_range_is_current(request))
        return status;
    return model_range(value, size, ret_range);
}

// The first byte chooses method and size.
void try_condition(struct http_text text)
{
    static const enum http_method methods[] = { METHOD_GET, METHOD_GET, METHOD_HEAD, METHOD_PUT };
    static const uint64_t sizes[] = { 1000, 0, 1, 1ULL << 40, UINT64_MAX };
    struct http_header headers[LINES_MAX];
    struct http_request request = { .minor = 1, .headers = headers };
    struct http_range range = { 0, 0 }, expected = { 0, 0 };
    struct http_text line;
    if (!text.size)
        return;
    unsigned char choice = (unsigned char)text.data[0];
    request.method = methods[choice & 3];
    const struct http_validators validators = { .etag = etag,
                                                .modified = modified,
                                                .size = sizes[(choice >> 2) % 5] };
    text.data++;
    text.size--;
    while (request.headers_count < LINES_MAX && next_line(&text, &line)) {
        const char *colon = memchr(line.data, ':', line.size);
        size_t size = colon ? (size_t)(colon - line.data) : 0;
        if (!colon)
            continue;
        struct http_text value = { colon + 1, line.size - size - 1 };
        add_header(&request, headers, http_field_find((struct http_text){ line.data, size }),
                   http_text_trim(value));
    }
    int status = http_condition_status(&request, &validators, true, HTTP_TEXT_NOW, &range);
    fuzz_require(status == model_status(&request, validators.size, &expected),
                 "a condition is judged otherwise");
    if (status != 206)
        return;
    fuzz_require(range.from == expected.from && range.size == expected.size, "a range is another");
    fuzz_require(range.size && range.from < validators.size &&
                     range.size <= validators.size - range.from,
                 "a range leads beyond the end");
    fuzz_require(http_condition_status(&request, &validators, false, HTTP_TEXT_NOW, &range) == 200,
                 "a range is served where there are none");
}
