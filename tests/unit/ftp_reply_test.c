// The load generator's reading of FTP replies.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ftp_reply.h"

// Feeds the text in pieces, from a heap block that ends with them. Returns the last result; the
// codes of the whole replies go into ret_codes, zero behind the last.
static enum ftp_reply_result feed(const char *text, size_t first, size_t step,
                                  struct ftp_reply *reply, uint32_t ret_codes[8])
{
    enum ftp_reply_result result = FTP_REPLY_MORE;
    size_t size = strlen(text), piece = first, count = 0;
    memset(reply, 0, sizeof *reply);
    for (size_t at = 0; at < size && result != FTP_REPLY_MALFORMED; piece = step) {
        size_t length = size - at < piece ? size - at : piece, used;
        char *data = malloc(length);
        assert_non_null(data);
        memcpy(data, text + at, length);
        at += length;
        for (size_t done = 0; done < length && result != FTP_REPLY_MALFORMED; done += used) {
            result = ftp_reply_take(reply, data + done, length - done, &used);
            assert_in_range(used, 1, length - done);
            if (result == FTP_REPLY_WHOLE && count < 7)
                ret_codes[count++] = reply->code;
        }
        free(data);
    }
    ret_codes[count] = 0;
    return result;
}

// Replies of one line and of several end where they end, wherever the bytes are cut.
static void replies_end_at_their_last_line(void **state)
{
    static const char text[] = "220 hello\r\n211-Features:\r\n UTF8\r\n211-more\r\n212 not yet\r\n"
                               "211 End\r\n150 now\n226\r\n";
    (void)state;
    for (size_t cut = 1; cut < sizeof text; cut++) {
        for (int whole = 0; whole < 2; whole++) {
            struct ftp_reply reply;
            uint32_t codes[8];
            assert_int_equal(feed(text, cut, whole ? sizeof text : cut, &reply, codes),
                             FTP_REPLY_WHOLE);
            static const uint32_t expected[] = { 220, 211, 150, 226, 0 };
            assert_memory_equal(codes, expected, sizeof expected);
            assert_string_equal(reply.text, "226");
        }
    }
}

// What is no reply is refused at the end of its line, and an endless one at a bound.
static void what_is_no_reply_is_refused(void **state)
{
    static const char *const texts[] = { "\r\n",       "hello\r\n", "22\r\n",
                                         "099 x\r\n",  "600 x\r\n", "2x0 x\r\n",
                                         "2200 x\r\n", "220x\r\n",  "HTTP/1.1 400\n" };
    struct ftp_reply reply;
    uint32_t codes[8];
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_int_equal(feed(texts[i], 100, 100, &reply, codes), FTP_REPLY_MALFORMED);
    char *endless = malloc(FTP_REPLY_MAX + 8);
    assert_non_null(endless);
    memset(endless, 'x', FTP_REPLY_MAX + 7);
    memcpy(endless, "220-", 4);
    endless[FTP_REPLY_MAX + 7] = '\0';
    assert_int_equal(feed(endless, 1000, 1000, &reply, codes), FTP_REPLY_MALFORMED);
    endless[FTP_REPLY_MAX] = '\0';
    assert_int_equal(feed(endless, 1000, 1000, &reply, codes), FTP_REPLY_MORE);
    free(endless);
}

// The port of 229 is found with any delimiter, and nothing else is taken for one.
static void ports_are_read_strictly(void **state)
{
    static const struct {
        const char *text;
        uint16_t port;
    } rows[] = {
        { "229 Entering (|||6446|)\r\n", 6446 },
        { "229 (!!!65535!)\r\n", 65535 },
        { "229 (|||65536|)\r\n", 0 },
        { "229 (|||99999999999999999999|)\r\n", 0 },
        { "229 (|||12)\r\n", 0 },
        { "229 (||1|12|)\r\n", 0 },
        { "229 (|||\r\n", 0 },
        { "229 (\r\n", 0 },
        { "229 (|||x|)\r\n", 0 },
        { "227 (|||6446|)\r\n", 0 },
        { "229 no port\r\n", 0 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct ftp_reply reply;
        uint32_t codes[8];
        assert_int_equal(feed(rows[i].text, 3, 3, &reply, codes), FTP_REPLY_WHOLE);
        assert_int_equal(ftp_reply_port(&reply), rows[i].port);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replies_end_at_their_last_line),
        cmocka_unit_test(what_is_no_reply_is_refused),
        cmocka_unit_test(ports_are_read_strictly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
