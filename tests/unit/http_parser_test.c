// The HTTP parser: prefixes, cuts, guard pages, limits. Hostile requests by the hundred are in
// tests/e2e/hostile_requests.py, which also runs them through the fuzz target.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "../fuzz/http_trace.h"
#include "http/parser.h"

static const char browser[] = "GET /a/b.html?c=d HTTP/1.1\r\n"
                              "Host: example.org:8080\r\n"
                              "User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n"
                              "Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\n"
                              "Accept-Encoding: gzip, deflate, br\r\n"
                              "If-None-Match: \"abc\", W/\"def\"\r\n"
                              "Connection: keep-alive\r\n\r\n";
static const char upload[] = "POST /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
                             "Expect: 100-continue\r\n\r\n"
                             "5;name=value\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\nT: v\r\n\r\n"
                             "PUT / HTTP/1.0\r\nContent-Length: 4\r\n\r\nbody";

// A parser and what it needs.
struct desk {
    struct http_parser_limits limits;
    struct http_head *scratch;
    struct http_parser parser;
};

static void desk_open(struct desk *desk)
{
    desk->limits = (struct http_parser_limits){ .header_bytes = 4096, .headers = 20 };
    desk->scratch = http_head_create(&desk->limits);
    http_parser_init(&desk->parser, &desk->limits, desk->scratch);
}

static void desk_close(struct desk *desk)
{
    http_parser_fini(&desk->parser);
    free(desk->scratch);
}

static enum http_event desk_next(struct desk *desk, const char *data, size_t size)
{
    return http_parser_next(&desk->parser, &data, data + size);
}

static uint16_t status_of(const char *data, size_t size)
{
    struct desk desk;
    desk_open(&desk);
    const char *at = data;
    enum http_event event;
    do
        event = http_parser_next(&desk.parser, &at, data + size);
    while (event != EVENT_MORE && event != EVENT_ERROR);
    uint16_t status = event == EVENT_ERROR ? desk.parser.status : 0;
    desk_close(&desk);
    return status;
}

// A request in one piece is understood, in its parts, without a copy.
static void a_whole_request_points_into_its_input(void **state)
{
    (void)state;
    struct desk desk;
    desk_open(&desk);
    assert_int_equal(desk_next(&desk, browser, sizeof browser - 1), EVENT_HEAD);
    const struct http_request *request = &desk.parser.request;
    assert_int_equal(request->method, METHOD_GET);
    assert_int_equal(request->minor, 1);
    assert_true(request->keep_alive);
    assert_false(request->has_body);
    assert_ptr_equal(request->target.data, browser + 4);
    assert_true(http_text_is(request->path, "/a/b.html"));
    assert_true(http_text_is(request->query, "c=d"));
    assert_int_equal(request->headers_count, 6);
    assert_true(http_text_is(http_request_value(request, FIELD_HOST), "example.org:8080"));
    assert_true(http_request_has(request, FIELD_IF_NONE_MATCH));
    assert_false(http_request_has(request, FIELD_RANGE));
    assert_ptr_equal(desk.parser.head, desk.scratch);
    desk_close(&desk);
}

// Nothing is told before the last byte, whatever the prefix; then it is.
static void every_prefix_is_incomplete(void **state)
{
    (void)state;
    for (size_t size = 0; size < sizeof browser - 1; size++) {
        struct desk desk;
        desk_open(&desk);
        assert_int_equal(desk_next(&desk, browser, size), EVENT_MORE);
        assert_int_equal(http_parser_busy(&desk.parser), size > 0);
        assert_int_equal(desk_next(&desk, browser + size, sizeof browser - 1 - size), EVENT_HEAD);
        assert_false(http_parser_busy(&desk.parser));
        desk_close(&desk);
    }
}

static void assert_cuts_agree(const char *data, size_t size)
{
    char *whole = http_trace(data, size, (struct http_trace_cut){ 0, SIZE_MAX });
    for (size_t first = 1; first < size; first++) {
        // Every cut in two; and every step from byte by byte up.
        char *two = http_trace(data, size, (struct http_trace_cut){ first, SIZE_MAX });
        char *steps = http_trace(data, size, (struct http_trace_cut){ 0, first });
        assert_string_equal(two, whole);
        assert_string_equal(steps, whole);
        free(two);
        free(steps);
    }
    free(whole);
}

// Wherever the input is cut, the same requests come out.
static void every_cut_means_the_same(void **state)
{
    (void)state;
    assert_cuts_agree(browser, sizeof browser - 1);
    assert_cuts_agree(upload, sizeof upload - 1);
}

// The parser never reads beyond its input: not a byte of the page behind it.
static void input_that_ends_at_a_guard_page_is_not_overrun(void **state)
{
    (void)state;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *memory = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    assert_int_equal(mprotect(memory + page, page, PROT_NONE), 0);
    for (size_t size = 1; size < sizeof upload; size++) {
        struct desk desk;
        desk_open(&desk);
        const char *at = memcpy(memory + page - size, upload, size);
        while (http_parser_next(&desk.parser, &at, memory + page) != EVENT_MORE)
            continue;
        assert_ptr_equal(at, memory + page);
        desk_close(&desk);
    }
    munmap(memory, 2 * page);
}

// What was kept is there when the input is overwritten.
static void a_kept_request_survives_its_input(void **state)
{
    (void)state;
    struct desk desk;
    char copy[sizeof browser];
    desk_open(&desk);
    memcpy(copy, browser, sizeof copy);
    assert_int_equal(desk_next(&desk, copy, sizeof copy - 1), EVENT_HEAD);
    assert_int_equal(http_parser_keep(&desk.parser), 0);
    memset(copy, 'x', sizeof copy);
    const struct http_request *request = &desk.parser.request;
    assert_true(http_text_is(request->path, "/a/b.html"));
    assert_true(http_text_is(request->query, "c=d"));
    assert_true(http_text_is(request->method_text, "GET"));
    assert_true(
        http_text_is(http_request_value(request, FIELD_IF_NONE_MATCH), "\"abc\", W/\"def\""));
    http_parser_release(&desk.parser);
    assert_ptr_equal(desk.parser.head, desk.scratch);
    desk_close(&desk);
}

// A head of exactly the limit is taken, one byte more is not: 414 in the target, otherwise 431.
static void the_limits_are_exact(void **state)
{
    (void)state;
    char head[4200];
    int size = snprintf(head, sizeof head, "GET / HTTP/1.1\r\nHost: x\r\nA: ");
    memset(head + size, 'a', 4096 - (size_t)size - 4);
    memcpy(head + 4092, "\r\n\r\n", 4);
    assert_int_equal(status_of(head, 4096), 0);
    memcpy(head + 4092, "a\r\n\r\n", 5);
    assert_int_equal(status_of(head, 4097), 431);
    size = snprintf(head, sizeof head, "GET /");
    memset(head + size, 'a', 4195);
    assert_int_equal(status_of(head, 4200), 414);
}

// A parser that refused goes on refusing.
static void a_refusal_is_final(void **state)
{
    (void)state;
    struct desk desk;
    desk_open(&desk);
    assert_int_equal(desk_next(&desk, "GET /  HTTP/1.1\r\n", 17), EVENT_ERROR);
    assert_int_equal(desk.parser.status, 400);
    assert_int_equal(desk_next(&desk, browser, sizeof browser - 1), EVENT_ERROR);
    desk_close(&desk);
}

// Field names are known whatever their case, and only whole.
static void field_names_are_found(void **state)
{
    (void)state;
    assert_int_equal(http_field_find(http_text_of("HOST")), FIELD_HOST);
    assert_int_equal(http_field_find(http_text_of("if-unmodified-since")),
                     FIELD_IF_UNMODIFIED_SINCE);
    assert_int_equal(http_field_find(http_text_of("Transfer-Encoding")), FIELD_TRANSFER_ENCODING);
    assert_int_equal(http_field_find(http_text_of("User-Agent")), FIELD_USER_AGENT);
    assert_int_equal(http_field_find(http_text_of("Hos")), FIELD_OTHER);
    assert_int_equal(http_field_find(http_text_of("Hosts")), FIELD_OTHER);
    assert_int_equal(http_field_find(http_text_of("[")), FIELD_OTHER);
    assert_int_equal(http_field_find(http_text_of("")), FIELD_OTHER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_request_points_into_its_input),
        cmocka_unit_test(every_prefix_is_incomplete),
        cmocka_unit_test(every_cut_means_the_same),
        cmocka_unit_test(input_that_ends_at_a_guard_page_is_not_overrun),
        cmocka_unit_test(a_kept_request_survives_its_input),
        cmocka_unit_test(the_limits_are_exact),
        cmocka_unit_test(a_refusal_is_final),
        cmocka_unit_test(field_names_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
