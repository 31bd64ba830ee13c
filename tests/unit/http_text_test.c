// What the HTTP server computes from texts: dates, paths, conditions, ranges, codings, types.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "http/answer.h"
#include "http/listing.h"
#include "http/lookup.h"
#include "http/mime.h"
#include "http/path.h"

static const time_t now = 1784894400; // 2026-07-24

// --- Dates ---------------------------------------------------------------------------------------

// A date is written as RFC 9110 wants it, and read back, over four centuries.
static void dates_survive_a_round_trip(void **state)
{
    (void)state;
    char text[HTTP_DATE_SIZE];
    http_date_write(784111777, text);
    assert_memory_equal(text, "Sun, 06 Nov 1994 08:49:37 GMT", HTTP_DATE_SIZE);
    for (time_t time = 0; time < 12622780800; time += 86399 * 7) {
        time_t read;
        http_date_write(time, text);
        assert_true(http_date_read((struct http_text){ text, HTTP_DATE_SIZE }, now, &read));
        assert_int_equal(read, time);
    }
}

static bool reads(const char *text, time_t *ret_time)
{
    return http_date_read(http_text_of(text), now, ret_time);
}

// All three forms are read; a two-digit year is at most 50 years ahead.
static void old_dates_are_read(void **state)
{
    (void)state;
    time_t time;
    assert_true(reads("Sunday, 06-Nov-94 08:49:37 GMT", &time));
    assert_int_equal(time, 784111777);
    assert_true(reads("Sun Nov  6 08:49:37 1994", &time));
    assert_int_equal(time, 784111777);
    assert_true(reads("Friday, 24-Jul-76 00:00:00 GMT", &time));
    assert_int_equal(time, 3362774400); // 2076
    assert_true(reads("Saturday, 24-Jul-77 00:00:00 GMT", &time));
    assert_int_equal(time, 238550400); // 1977
}

// A leap second is the last of its day, and the first of the next one to the system's clock.
static void leap_seconds_are_read(void **state)
{
    (void)state;
    time_t time;
    assert_true(reads("Sat, 31 Dec 2016 23:59:60 GMT", &time));
    assert_int_equal(time, 1483228800);
    assert_false(reads("Sat, 31 Dec 2016 23:59:61 GMT", &time));
}

// Everything else is no date.
static void broken_dates_are_refused(void **state)
{
    (void)state;
    static const char *const broken[] = {
        "",
        "Sun",
        "Sun, ",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 nov 1994 08:49:37 GMT",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:49:37 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 31 Nov 1994 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
        "Sun, 06 Nov -994 08:49:37 GMT",
        "Sun Nov 06 08:49:37 1994 GMT",
        "1994-11-06T08:49:37Z",
    };
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        time_t time;
        assert_false(reads(broken[i], &time));
    }
}

// --- Paths and types -----------------------------------------------------------------------------

// Escapes, dots and slashes are resolved; what leaves the root or is hidden is not found.
static void paths_are_resolved(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        int status;
        const char *file;
    } rows[] = {
        { "/", 0, "" },
        { "//", 0, "" },
        { "/a", 0, "a" },
        { "/a/", 0, "a/" },
        { "/a//b", 0, "a/b" },
        { "//evil.example/", 0, "evil.example/" },
        { "/a/./b", 0, "a/b" },
        { "/a/../b", 0, "b" },
        { "/a/b/..", 0, "a/" },
        { "/a/b/../", 0, "a/" },
        { "/a/..", 0, "" },
        { "/a/.", 0, "a/" },
        { "/%61%2D%20%C3%A4", 0, "a- \xc3\xa4" },
        { "/.well-known/x", 0, ".well-known/x" },
        { "/..", 404, NULL },
        { "/a/../..", 404, NULL },
        { "/%2e%2e/a", 404, NULL },
        { "/.a", 404, NULL },
        { "/a/.b/c", 404, NULL },
        { "/...", 404, NULL },
        { "/a/.well-known/x", 404, NULL },
        { "/.well-knownx", 404, NULL },
        { "/a%2fb", 404, NULL },
        { "/a%2Fb", 404, NULL },
        { "/%", 400, NULL },
        { "/%1", 400, NULL },
        { "/%1g", 400, NULL },
        { "/%00", 400, NULL },
    };
    char file[HTTP_PATH_MAX];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(http_path_resolve(http_text_of(rows[i].path), file), rows[i].status);
        if (!rows[i].status)
            assert_string_equal(file, rows[i].file);
    }
}

// A path of any length fits or is refused, in one segment or in many.
static void long_paths_are_refused(void **state)
{
    (void)state;
    static char path[3 * HTTP_PATH_MAX];
    char file[HTTP_PATH_MAX];
    for (int step = 0; step < 2; step++) {
        memset(path, 'a', sizeof path);
        for (size_t i = 0; i < sizeof path; i += step ? 7 : sizeof path)
            path[i] = '/';
        for (size_t size = 1; size < sizeof path; size += 13) {
            int status = http_path_resolve((struct http_text){ path, size }, file);
            assert_true(status == 404 || (status == 0 && strlen(file) < HTTP_PATH_MAX));
            assert_true(status == 0 || size > HTTP_PATH_MAX - 8);
        }
    }
}

// The last extension decides, whatever its case; the table is in order.
static void types_follow_from_names(void **state)
{
    (void)state;
    assert_string_equal(http_mime_find(http_text_of("a/b.html")), "text/html; charset=utf-8");
    assert_string_equal(http_mime_find(http_text_of("B.JPG")), "image/jpeg");
    assert_string_equal(http_mime_find(http_text_of("x.tar.gz")), "application/gzip");
    assert_string_equal(http_mime_find(http_text_of("x.aac")), "audio/aac");
    assert_string_equal(http_mime_find(http_text_of("x.zst")), "application/zstd");
    assert_string_equal(http_mime_find(http_text_of("x.woff2")), "font/woff2");
    static const char *const unknown[] = {
        "", "html", "a.html/b", "x.", "x.htmlx", "x.ht", "x.averyveryverylongone"
    };
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++)
        assert_string_equal(http_mime_find(http_text_of(unknown[i])), "application/octet-stream");
}

// --- Conditions ----------------------------------------------------------------------------------

// A request with up to three fields.
struct asked {
    struct http_header headers[3];
    struct http_request request;
};

static const struct http_request *ask(struct asked *asked, enum http_field a, const char *a_value,
                                      enum http_field b, const char *b_value)
{
    asked->headers[0] = (struct http_header){ .value = http_text_of(a_value), .field = a };
    asked->headers[1] = (struct http_header){ .value = http_text_of(b_value), .field = b };
    asked->request = (struct http_request){ .method = METHOD_GET,
                                            .headers = asked->headers,
                                            .headers_count = 2,
                                            .fields = 1U << a | 1U << b };
    return &asked->request;
}

struct condition_row {
    enum http_field a;
    const char *a_value;
    enum http_field b;
    const char *b_value;
    int status;
    uint64_t from, size;
};

static void check_conditions(const struct condition_row *rows, size_t count)
{
    const struct http_validators validators = { .etag = http_text_of("\"e\""),
                                                .modified = 784111777,
                                                .size = 100 };
    for (size_t i = 0; i < count; i++) {
        struct asked asked;
        struct http_range range = { 0, 100 };
        const struct http_request *request =
            ask(&asked, rows[i].a, rows[i].a_value, rows[i].b, rows[i].b_value);
        assert_int_equal(http_condition_status(request, &validators, true, now, &range),
                         rows[i].status);
        if (rows[i].status == 206) {
            assert_int_equal(range.from, rows[i].from);
            assert_int_equal(range.size, rows[i].size);
        }
    }
}

#define SAME "Sun, 06 Nov 1994 08:49:37 GMT"
#define EARLIER "Sun, 06 Nov 1994 08:49:36 GMT"
#define LATER "Sun, 06 Nov 1994 08:49:38 GMT"

// The four conditions, and which goes before which (RFC 9110, 13.2.2).
static void conditions_have_their_order(void **state)
{
    (void)state;
    static const struct condition_row rows[] = {
        { FIELD_IF_NONE_MATCH, "\"e\"", FIELD_OTHER, "", 304, 0, 0 },
        { FIELD_IF_NONE_MATCH, "W/\"e\"", FIELD_OTHER, "", 304, 0, 0 },
        { FIELD_IF_NONE_MATCH, "\"x\", \"e\"", FIELD_OTHER, "", 304, 0, 0 },
        { FIELD_IF_NONE_MATCH, "*", FIELD_OTHER, "", 304, 0, 0 },
        { FIELD_IF_NONE_MATCH, "\"x,\\\"e\\\"\"", FIELD_OTHER, "", 200, 0, 0 },
        { FIELD_IF_NONE_MATCH, "e", FIELD_OTHER, "", 200, 0, 0 },
        { FIELD_IF_NONE_MATCH, "\"x\"", FIELD_IF_MODIFIED_SINCE, LATER, 200, 0, 0 },
        { FIELD_IF_NONE_MATCH, "\"e\"", FIELD_IF_MODIFIED_SINCE, EARLIER, 304, 0, 0 },
        { FIELD_IF_MODIFIED_SINCE, SAME, FIELD_OTHER, "", 304, 0, 0 },
        { FIELD_IF_MODIFIED_SINCE, EARLIER, FIELD_OTHER, "", 200, 0, 0 },
        { FIELD_IF_MODIFIED_SINCE, "yesterday", FIELD_OTHER, "", 200, 0, 0 },
        { FIELD_IF_MODIFIED_SINCE, SAME, FIELD_IF_MODIFIED_SINCE, SAME, 200, 0, 0 },
        { FIELD_IF_MATCH, "\"e\"", FIELD_OTHER, "", 200, 0, 0 },
        { FIELD_IF_MATCH, "*", FIELD_OTHER, "", 200, 0, 0 },
        { FIELD_IF_MATCH, "W/\"e\"", FIELD_OTHER, "", 412, 0, 0 },
        { FIELD_IF_MATCH, "\"x\"", FIELD_IF_UNMODIFIED_SINCE, LATER, 412, 0, 0 },
        { FIELD_IF_MATCH, "\"e\"", FIELD_IF_UNMODIFIED_SINCE, EARLIER, 200, 0, 0 },
        { FIELD_IF_UNMODIFIED_SINCE, EARLIER, FIELD_OTHER, "", 412, 0, 0 },
        { FIELD_IF_UNMODIFIED_SINCE, SAME, FIELD_OTHER, "", 200, 0, 0 },
        { FIELD_IF_UNMODIFIED_SINCE, EARLIER, FIELD_IF_UNMODIFIED_SINCE, EARLIER, 200, 0, 0 },
        { FIELD_IF_MATCH, "\"x\"", FIELD_IF_NONE_MATCH, "\"e\"", 412, 0, 0 },
        { FIELD_IF_NONE_MATCH, "\"e\"", FIELD_RANGE, "bytes=0-0", 304, 0, 0 },
    };
    check_conditions(rows, sizeof rows / sizeof rows[0]);
}

// One range, at its edges; what is no range is ignored, what lies behind the end is refused.
static void ranges_are_cut(void **state)
{
    (void)state;
    static const struct condition_row rows[] = {
        { FIELD_RANGE, "bytes=0-0", FIELD_OTHER, "", 206, 0, 1 },
        { FIELD_RANGE, "bytes=12", FIELD_OTHER, "", 200, 0, 100 },
        { FIELD_RANGE, "bytes=99-99", FIELD_OTHER, "", 206, 99, 1 },
        { FIELD_RANGE, "bytes=10-", FIELD_OTHER, "", 206, 10, 90 },
        { FIELD_RANGE, "bytes=10-1000", FIELD_OTHER, "", 206, 10, 90 },
        { FIELD_RANGE, "bytes=10-18446744073709551615", FIELD_OTHER, "", 206, 10, 90 },
        { FIELD_RANGE, "bytes=-1", FIELD_OTHER, "", 206, 99, 1 },
        { FIELD_RANGE, "bytes=-100", FIELD_OTHER, "", 206, 0, 100 },
        { FIELD_RANGE, "bytes=-1000", FIELD_OTHER, "", 206, 0, 100 },
        { FIELD_RANGE, "BYTES=0-0", FIELD_OTHER, "", 206, 0, 1 },
        { FIELD_RANGE, "bytes=100-", FIELD_OTHER, "", 416, 0, 0 },
        { FIELD_RANGE, "bytes=100-200", FIELD_OTHER, "", 416, 0, 0 },
        { FIELD_RANGE, "bytes=-0", FIELD_OTHER, "", 416, 0, 0 },
        { FIELD_RANGE, "bytes=5-4", FIELD_OTHER, "", 200, 0, 0 },
        { FIELD_RANGE, "bytes=-", FIELD_OTHER, "", 200, 0, 0 },
        { FIELD_RANGE, "bytes=", FIELD_OTHER, "", 200, 0, 0 },
        { FIELD_RANGE, "bytes=a-b", FIELD_OTHER, "", 200, 0, 0 },
        { FIELD_RANGE, "bytes=0-1,3-4", FIELD_OTHER, "", 200, 0, 0 },
        { FIELD_RANGE, "bytes=+1-2", FIELD_OTHER, "", 200, 0, 0 },
        { FIELD_RANGE, "bytes=18446744073709551616-", FIELD_OTHER, "", 200, 0, 0 },
        { FIELD_RANGE, "lines=0-1", FIELD_OTHER, "", 200, 0, 0 },
        { FIELD_RANGE, "bytes=0-0", FIELD_RANGE, "bytes=1-1", 200, 0, 0 },
        { FIELD_RANGE, "bytes=0-0", FIELD_IF_RANGE, "\"e\"", 206, 0, 1 },
        { FIELD_RANGE, "bytes=0-0", FIELD_IF_RANGE, "\"x\"", 200, 0, 0 },
        { FIELD_RANGE, "bytes=0-0", FIELD_IF_RANGE, "W/\"e\"", 200, 0, 0 },
        { FIELD_RANGE, "bytes=0-0", FIELD_IF_RANGE, SAME, 206, 0, 1 },
        { FIELD_RANGE, "bytes=0-0", FIELD_IF_RANGE, LATER, 200, 0, 0 },
    };
    check_conditions(rows, sizeof rows / sizeof rows[0]);
}

// A date of the running second is no sure name of a version: the file may change again within it.
static void a_date_of_now_is_not_strong(void **state)
{
    (void)state;
    const time_t modified = 784111777; // SAME
    const struct http_validators validators = { http_text_of("\"e\""), modified, 100 };
    struct asked asked;
    struct http_range range;
    const struct http_request *request =
        ask(&asked, FIELD_RANGE, "bytes=0-0", FIELD_IF_RANGE, SAME);
    assert_int_equal(http_condition_status(request, &validators, true, modified, &range), 200);
    assert_int_equal(http_condition_status(request, &validators, true, modified + 1, &range), 206);
}

// Nothing can be cut from an empty file.
static void an_empty_file_has_no_range(void **state)
{
    (void)state;
    const struct http_validators validators = { .etag = http_text_of("\"e\""), .size = 0 };
    struct asked asked;
    struct http_range range;
    const struct http_request *request = ask(&asked, FIELD_RANGE, "bytes=0-", FIELD_OTHER, "");
    assert_int_equal(http_condition_status(request, &validators, true, now, &range), 416);
    request = ask(&asked, FIELD_RANGE, "bytes=-5", FIELD_OTHER, "");
    assert_int_equal(http_condition_status(request, &validators, true, now, &range), 416);
}

// An element loses its parameters, and its weight is one of them, wherever it stands; what is none
// is no weight.
static void weights_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *element, *name;
        unsigned weight;
    } rows[] = {
        { "a", "a", 1000 },           { "a;q=0", "a", 0 },         { "a ; Q=0.5 ", "a", 500 },
        { "a;q=0.123", "a", 123 },    { "a;q=0.1239", "a", 123 },  { "a;q=1.000", "a", 1000 },
        { "a;x=y;q=0.25", "a", 250 }, { "a;q=0.7;x=y", "a", 700 }, { "a;qq=0", "a", 1000 },
        { "a;q=", "a", 1000 },        { "a;q=.5", "a", 1000 },     { "a;q=-1", "a", 1000 },
        { "a;q=7", "a", 1000 },       { "a;q=0x", "a", 1000 },     { "a;;q=0.;", "a", 0 },
        { "a;", "a", 1000 },          { ";q=0", "", 0 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        // Of its own, so that reading beyond its end is seen.
        size_t size = strlen(rows[i].element);
        char *copy = malloc(size);
        memcpy(copy, rows[i].element, size);
        struct http_text element = { copy, size };
        assert_int_equal(http_text_cut_weight(&element), rows[i].weight);
        assert_true(http_text_is(element, rows[i].name));
        free(copy);
    }
}

// Codings are taken by name, by star, and not with a weight of zero.
static void codings_are_negotiated(void **state)
{
    (void)state;
    const unsigned gzip = 1U << CODING_GZIP, br = 1U << CODING_BROTLI, zstd = 1U << CODING_ZSTD;
    static const char *const texts[] = { "gzip",     "GZIP, br;q=0.5", "br;q=0, gzip",
                                         "*",        "*;q=0",          "zstd;q=0.000, *;q=0.1",
                                         "identity", "gzipx",          "",
                                         " , br ,",  "br ; q=0" };
    const unsigned wanted[] = { gzip, gzip | br, gzip, gzip | br | zstd, 0, gzip | br, 0, 0,
                                0,    br,        0 };
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        struct asked asked;
        const struct http_request *request =
            ask(&asked, FIELD_ACCEPT_ENCODING, texts[i], FIELD_OTHER, "");
        assert_int_equal(http_codings_accepted(request), wanted[i]);
    }
}

// --- Heads and escapes ---------------------------------------------------------------------------

// However long a location is, the head ends as a head and within its bound; one up to its own bound
// is in it.
static void a_head_always_ends(void **state)
{
    (void)state;
    static char text[3 * HTTP_HEAD_MAX], head[HTTP_HEAD_MAX], date[HTTP_DATE_SIZE];
    memset(text, 'a', sizeof text);
    http_date_write(now, date);
    for (size_t size = 0; size < sizeof text; size += 64) {
        size_t offset;
        const struct http_answer answer = { .status = 301,
                                            .location = { text, size },
                                            .persist = PERSISTENCE_KEEP };
        size_t used = http_answer_write(&answer, date, head, &offset);
        assert_true(used <= HTTP_HEAD_MAX);
        assert_memory_equal(head + used - 4, "\r\n\r\n", 4);
        assert_memory_equal(head + offset, date, HTTP_DATE_SIZE);
        if (size && size <= HTTP_LOCATION_MAX)
            assert_non_null(memmem(head, used, text, size));
    }
}

// Escapes leave nothing that a browser could take for markup, or a reader for JSON's own.
static void names_are_escaped(void **state)
{
    (void)state;
    char text[256];
    const struct http_text name = http_text_of("<a b=\"c\">&'%\xff\xc3\xa4\n");
    size_t size = http_listing_escape_html(name, text);
    assert_memory_equal(text, "&lt;a b=&quot;c&quot;&gt;&amp;&#39;%\xff\xc3\xa4\n", size);
    size = http_listing_escape_url(name, text);
    assert_memory_equal(text, "%3Ca%20b%3D%22c%22%3E%26%27%25%FF%C3%A4%0A", size);
    size = http_listing_escape_json(name, text);
    assert_memory_equal(text, "<a b=\\u0022c\\u0022>&'%\\ufffd\xc3\xa4\\u000a", size);
    static const char *const broken[] = { "\xc0\xaf",         "\xe0\x80\x80", "\xed\xa0\x80",
                                          "\xf4\x90\x80\x80", "\xe2\x82",     "\x80" };
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        size = http_listing_escape_json(http_text_of(broken[i]), text);
        assert_memory_equal(text, "\\ufffd", 6);
        assert_int_equal(size, 6 * strlen(broken[i]));
    }
}

// A number is digits and nothing else, up to 2^64 - 1.
static void numbers_are_plain(void **state)
{
    (void)state;
    uint64_t number;
    assert_true(http_text_read_number(http_text_of("18446744073709551615"), &number));
    assert_true(number == UINT64_MAX);
    static const char *const broken[] = { "",    "18446744073709551616", "+1", "-1", " 1", "1 ",
                                          "0x1", "99999999999999999999" };
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++)
        assert_false(http_text_read_number(http_text_of(broken[i]), &number));
    char text[20];
    assert_int_equal(http_text_write_number(UINT64_MAX, text), 20);
    assert_memory_equal(text, "18446744073709551615", 20);
    assert_int_equal(http_text_write_number(0, text), 1);
    assert_int_equal(text[0], '0');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dates_survive_a_round_trip),
        cmocka_unit_test(old_dates_are_read),
        cmocka_unit_test(leap_seconds_are_read),
        cmocka_unit_test(broken_dates_are_refused),
        cmocka_unit_test(paths_are_resolved),
        cmocka_unit_test(long_paths_are_refused),
        cmocka_unit_test(types_follow_from_names),
        cmocka_unit_test(conditions_have_their_order),
        cmocka_unit_test(ranges_are_cut),
        cmocka_unit_test(a_date_of_now_is_not_strong),
        cmocka_unit_test(an_empty_file_has_no_range),
        cmocka_unit_test(codings_are_negotiated),
        cmocka_unit_test(weights_are_read),
        cmocka_unit_test(a_head_always_ends),
        cmocka_unit_test(names_are_escaped),
        cmocka_unit_test(numbers_are_plain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
