// The load generator's reading of HTTP replies.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "http_reply.h"

static const char two[] = "HTTP/1.1 200 OK\r\nDate: x\r\ncontent-length: 5\r\n\r\nhello"
                          "HTTP/1.1 200 OK\r\nDate: y\r\nContent-Length:  5\r\nA: b\r\n\r\nhello";

// Feeds the bytes in pieces and returns the last result; *ret_whole is how many replies ended.
static enum http_reply_result feed(const char *data, size_t size, size_t first, size_t step,
                                   struct http_reply_model *model, int *ret_whole)
{
    struct http_reply reply = { 0 };
    enum http_reply_result result = HTTP_REPLY_MORE;
    size_t piece = first;
    *ret_whole = 0;
    for (size_t at = 0; at < size; piece = step) {
        size_t end = size - at < piece ? size : at + piece, used;
        while (at < end) {
            result = http_reply_take(&reply, model, true, data + at, end - at, &used);
            if (result > HTTP_REPLY_WHOLE)
                return result;
            *ret_whole += result == HTTP_REPLY_WHOLE;
            at += used;
        }
    }
    return result;
}

// Two replies are two, wherever they are cut.
static void replies_end_where_they_end(void **state)
{
    (void)state;
    for (size_t cut = 1; cut < sizeof two; cut++) {
        struct http_reply_model model = { 0 };
        int whole;
        assert_int_equal(feed(two, sizeof two - 1, cut, SIZE_MAX / 2, &model, &whole),
                         HTTP_REPLY_WHOLE);
        assert_int_equal(whole, 2);
        assert_int_equal(feed(two, sizeof two - 1, cut, cut, &model, &whole), HTTP_REPLY_WHOLE);
        assert_int_equal(whole, 2);
        assert_int_equal(model.length, 5);
        assert_int_equal(model.status, 200);
    }
}

static enum http_reply_result second(const char *first, const char *other)
{
    struct http_reply_model model = { 0 };
    int whole;
    assert_int_equal(feed(first, strlen(first), 1000, 1000, &model, &whole), HTTP_REPLY_WHOLE);
    return feed(other, strlen(other), 1000, 1000, &model, &whole);
}

// A reply that differs from the first is noticed: in content, length or status.
static void a_different_reply_is_noticed(void **state)
{
    (void)state;
    const char *first = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab";
    assert_int_equal(second(first, first), HTTP_REPLY_WHOLE);
    assert_int_equal(second(first, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nba"),
                     HTTP_REPLY_DIFFERS);
    assert_int_equal(second(first, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"),
                     HTTP_REPLY_DIFFERS);
    assert_int_equal(second(first, "HTTP/1.1 201 OK\r\nContent-Length: 2\r\n\r\nab"),
                     HTTP_REPLY_DIFFERS);
    assert_int_equal(second(first, "HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nab"),
                     HTTP_REPLY_REFUSED);
}

// What is no reply, or has no length, is told apart from one that differs.
static void what_is_not_understood_is_malformed(void **state)
{
    (void)state;
    static const char *const broken[] = {
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-Content-Length: 5\r\n\r\nhello",
    };
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        struct http_reply_model model = { 0 };
        int whole;
        assert_int_equal(feed(broken[i], strlen(broken[i]), 1000, 1000, &model, &whole),
                         HTTP_REPLY_MALFORMED);
    }
}

// A request has its length beforehand, and a body of that length.
static void requests_have_the_length_that_was_said(void **state)
{
    (void)state;
    char text[256];
    size_t size = http_request_write("POST", "/x", "h:1", 30, NULL, 0);
    assert_int_equal(http_request_write("POST", "/x", "h:1", 30, text, sizeof text), size);
    text[size] = '\0';
    assert_string_equal(text, "POST /x HTTP/1.1\r\nHost: h:1\r\nContent-Length: 30\r\n\r\n"
                              "abcdefghijklmnopqrstuvwxyzabcd");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replies_end_where_they_end),
        cmocka_unit_test(a_different_reply_is_noticed),
        cmocka_unit_test(what_is_not_understood_is_malformed),
        cmocka_unit_test(requests_have_the_length_that_was_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
