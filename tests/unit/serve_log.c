// Lines of the servers' logs on their way into pipes.
#include "serve.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { LOG_SIZE = 200000, LOG_LINE_MAX = 1000 };

// Lines of all sizes up to the largest of the servers' log.
static size_t log_make(char *text, size_t size)
{
    size_t used = 0;
    srandom(7);
    while (used + LOG_LINE_MAX <= size) {
        size_t line = 1 + (size_t)random() % LOG_LINE_MAX;
        memset(text + used, 'x', line - 1);
        text[used + line - 1] = '\n';
        used += line;
    }
    return used;
}

static uint64_t log_lines(const char *text, size_t size)
{
    uint64_t lines = 0;
    for (size_t i = 0; i < size; i++)
        lines += text[i] == '\n';
    return lines;
}

// Each write ends with a line's end, as far as it can: what another thread writes stands between
// lines. A pipe in packet mode gives back one write at a time, or the part of one that is sure to
// be whole.
static void a_pipe_gets_whole_lines(void **state)
{
    static char text[LOG_SIZE], back[LOG_SIZE];
    size_t size = log_make(text, 20000), got = 0;
    struct serve_log log = { 0 };
    int pipes[2], cut = 0;
    uint64_t lost;
    (void)state;
    memset(text + size, 'y', PIPE_BUF + 100); // a line that is longer than that goes alone
    size += PIPE_BUF + 100;
    text[size++] = '\n';
    size += log_make(text + size, 10000);
    assert_int_equal(pipe2(pipes, O_DIRECT | O_CLOEXEC), 0);
    log.fd = pipes[1];
    assert_int_equal(serve_log_write_lines(&log, text, size, &lost), 0);
    assert_int_equal(lost, 0);
    while (got < size) {
        ssize_t count = read(pipes[0], back + got, sizeof back - got);
        assert_true(count > 0);
        got += (size_t)count;
        cut += back[got - 1] != '\n';
    }
    assert_int_equal(got, size);
    assert_memory_equal(back, text, size);
    assert_int_equal(cut, 1);
    close(pipes[0]);
    close(pipes[1]);
}

// What a pipe that does not block has no room for is lost line by line: the others are there, once
// and whole, and each is one or the other.
static void a_full_pipe_loses_whole_lines(void **state)
{
    static char text[LOG_SIZE], back[LOG_SIZE];
    size_t size = log_make(text, sizeof text);
    struct serve_log log = { 0 };
    int pipes[2];
    uint64_t lost;
    (void)state;
    assert_int_equal(pipe2(pipes, O_NONBLOCK | O_CLOEXEC), 0);
    log.fd = pipes[1];
    assert_int_equal(serve_log_write_lines(&log, text, size, &lost), -EAGAIN);
    assert_false(log.torn);
    ssize_t got = read(pipes[0], back, sizeof back);
    assert_in_range(got, PIPE_BUF, size - 1);
    assert_memory_equal(back, text, (size_t)got);
    assert_int_equal(back[got - 1], '\n');
    assert_int_equal(log_lines(back, (size_t)got) + lost, log_lines(text, size));
    close(pipes[0]);
    close(pipes[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pipe_gets_whole_lines),
        cmocka_unit_test(a_full_pipe_loses_whole_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
