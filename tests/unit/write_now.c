// What write_now() of the kernel's table promises: the slice, then what waits in the socket.
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "system.h"

static const struct weir_slice first = { .data = "first ", .size = 6 };

static void write_now_sockets(int *ret_pair)
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ret_pair), 0);
}

static void write_now_end(struct system_pipe *pipe, const int *pair)
{
    write_pipe_close(pipe);
    close(pair[0]);
    close(pair[1]);
}

static int write_now_file(void)
{
    int file = memfd_create("write_now", MFD_CLOEXEC);
    assert_true(file >= 0);
    return file;
}

static void write_now_holds(int file, const char *expected)
{
    char text[64] = "";
    assert_int_equal(pread(file, text, sizeof text, 0), strlen(expected));
    assert_string_equal(text, expected);
}

// The order is that in which the bytes came, and a socket that is empty is not waited for.
static void slice_and_what_waits_are_written_in_order(void **state)
{
    (void)state;
    struct system_pipe pipe = { .open = false };
    int pair[2], file = write_now_file();
    write_now_sockets(pair);
    assert_int_equal(send(pair[1], "second", 6, 0), 6);
    assert_int_equal(system_kernel.write_now(NULL, &pipe, pair[0], first, file, 0, 100), 12);
    assert_int_equal(system_kernel.write_now(NULL, &pipe, pair[0], first, file, 12, 100), 6);
    write_now_holds(file, "first secondfirst ");
    write_now_end(&pipe, pair);
    close(file);
}

// `size` bounds both together; what is beyond it stays in the socket.
static void no_more_is_taken_than_asked_for(void **state)
{
    (void)state;
    struct system_pipe pipe = { .open = false };
    char rest[8];
    int pair[2], file = write_now_file();
    write_now_sockets(pair);
    assert_int_equal(send(pair[1], "second", 6, 0), 6);
    assert_int_equal(system_kernel.write_now(NULL, &pipe, pair[0], first, file, 0, 9), 9);
    write_now_holds(file, "first sec");
    assert_int_equal(recv(pair[0], rest, sizeof rest, MSG_DONTWAIT), 3);
    write_now_end(&pipe, pair);
    close(file);
}

// Without a socket, or when it is not this stream's turn to be read, only the slice is written.
static void slice_alone_needs_no_pipe(void **state)
{
    (void)state;
    struct system_pipe pipe = { .open = false };
    int file = write_now_file();
    assert_int_equal(system_kernel.write_now(NULL, &pipe, -1, first, file, 0, 100), 6);
    assert_false(pipe.open);
    write_now_holds(file, "first ");
    close(file);
}

// A file that takes no more, behind its slice: nothing stays in the pipe for the next file.
static void failed_write_leaves_nothing_in_the_pipe(void **state)
{
    (void)state;
    struct system_pipe pipe = { .open = false };
    int pair[2], file = write_now_file(), other = write_now_file();
    write_now_sockets(pair);
    assert_int_equal(send(pair[1], "second", 6, 0), 6);
    assert_int_equal(ftruncate(file, 6), 0);
    assert_int_equal(fcntl(file, F_SETFL, O_APPEND), 0); // which splice(2) refuses
    assert_int_equal(system_kernel.write_now(NULL, &pipe, pair[0], first, file, 0, 100), -EINVAL);
    assert_false(pipe.open);
    assert_int_equal(send(pair[1], "third", 5, 0), 5);
    assert_int_equal(system_kernel.write_now(NULL, &pipe, pair[0], first, other, 0, 100), 11);
    write_now_holds(other, "first third");
    write_now_end(&pipe, pair);
    close(file);
    close(other);
}

// A slice that cannot be written fails the call, whatever waits.
static void error_of_the_slice_is_the_result(void **state)
{
    (void)state;
    struct system_pipe pipe = { .open = false };
    int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_int_equal(system_kernel.write_now(NULL, &pipe, -1, first, file, 0, 100), -EBADF);
    close(file);
}

// tmpfs, of which a memfd is a file, lies on no disk; nothing else is taken for it.
static void memory_is_told_from_other_file_systems(void **state)
{
    (void)state;
    int memory = write_now_file(), process = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    assert_true(system_kernel.file_in_memory(NULL, memory));
    assert_false(system_kernel.file_in_memory(NULL, process));
    close(memory);
    close(process);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slice_and_what_waits_are_written_in_order),
        cmocka_unit_test(no_more_is_taken_than_asked_for),
        cmocka_unit_test(slice_alone_needs_no_pipe),
        cmocka_unit_test(failed_write_leaves_nothing_in_the_pipe),
        cmocka_unit_test(error_of_the_slice_is_the_result),
        cmocka_unit_test(memory_is_told_from_other_file_systems),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
