// The load generator's payload, schedule and options.
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "options.h"
#include "payload.h"
#include "random.h"
#include "schedule.h"

// --- Payload -------------------------------------------------------------------------------------

// The first messages of a connection, as they would be sent.
static char *load_test_stream(const struct payload *payload, uint32_t offset, size_t size)
{
    char *bytes = malloc(size);
    assert_non_null(bytes);
    for (size_t done = 0; done < size;) {
        size_t piece = size - done < payload->chunk ? size - done : payload->chunk;
        memcpy(bytes + done, payload->region + offset, piece);
        offset = payload_advance(payload, offset, piece);
        done += piece;
    }
    return bytes;
}

// What was sent compares equal however it is cut, and any one changed byte does not.
static void payload_finds_every_changed_byte(void **state)
{
    static const size_t sizes[] = { 1, 64, 4093, 4096, 65521, 262144, 1000000 };
    uint64_t seed = 3;
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct payload payload;
        size_t size = sizes[i];
        assert_int_equal(payload_init(&payload, 9, size, 4), 0);
        uint32_t start = payload_start(&payload, i);
        char *bytes = load_test_stream(&payload, start, size);
        assert_true(payload_matches(&payload, start, bytes, size));
        size_t cut = random_next(&seed) % size;
        uint32_t middle = payload_advance(&payload, start, cut);
        assert_true(payload_matches(&payload, start, bytes, cut));
        assert_true(payload_matches(&payload, middle, bytes + cut, size - cut));
        for (int k = 0; k < 200; k++) {
            size_t place = random_next(&seed) % size;
            char bit = (char)(1 << random_next(&seed) % 8);
            bytes[place] ^= bit;
            assert_false(payload_matches(&payload, start, bytes, size));
            bytes[place] ^= bit;
        }
        free(bytes);
        payload_fini(&payload);
    }
}

// A message that is lost, doubled or swapped is not what is expected next, whatever its size.
static void payload_differs_from_message_to_message(void **state)
{
    static const size_t sizes[] = { 16, 64, 4091, 4093, 8186, 16384, 65519, 65521, 262144 };
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct payload payload;
        assert_int_equal(payload_init(&payload, 1, sizes[i], 1), 0);
        uint32_t first = payload_start(&payload, 5);
        char *bytes = load_test_stream(&payload, first, sizes[i]);
        uint32_t offset = first;
        for (int k = 0; k < 50; k++) {
            offset = payload_advance(&payload, offset, sizes[i]);
            assert_false(payload_matches(&payload, offset, bytes, sizes[i]));
        }
        free(bytes);
        payload_fini(&payload);
    }
}

// The seed decides the bytes, the identity where a connection starts.
static void payload_depends_on_seed_and_identity(void **state)
{
    struct payload one, same, other;
    uint32_t different = 0;
    (void)state;
    assert_int_equal(payload_init(&one, 1, 64, 1), 0);
    assert_int_equal(payload_init(&same, 1, 64, 1), 0);
    assert_int_equal(payload_init(&other, 2, 64, 1), 0);
    assert_memory_equal(one.region, same.region, one.period + one.chunk);
    assert_memory_not_equal(one.region, other.region, one.period + one.chunk);
    for (uint32_t i = 0; i < 1000; i++) {
        assert_true(payload_start(&one, i) < one.period);
        different += payload_start(&one, i) != payload_start(&one, i + 1);
    }
    assert_true(different > 990);
    payload_fini(&one);
    payload_fini(&same);
    payload_fini(&other);
}

// --- Schedule ------------------------------------------------------------------------------------

// Constant arrivals of several threads are evenly spaced together, and do not drift.
static void constant_arrivals_interleave_evenly(void **state)
{
    enum { THREADS = 3, ROUNDS = 100000 };
    struct schedule schedules[THREADS];
    (void)state;
    for (uint32_t i = 0; i < THREADS; i++)
        schedule_init(&schedules[i], ARRIVALS_CONSTANT, 30000, i, THREADS, 1, 1000);
    for (uint64_t round = 0; round < ROUNDS; round++) {
        for (uint64_t i = 0; i < THREADS; i++) {
            uint64_t expected = 1000 + (round * THREADS + i) * 1000000 / 30;
            assert_in_range(schedules[i].next_ns, expected - 1, expected + 1);
            schedule_advance(&schedules[i]);
        }
    }
}

// Poisson gaps have the mean of the rate, and their spread equals it.
static void poisson_gaps_have_mean_and_spread_of_the_rate(void **state)
{
    enum { COUNT = 400000 };
    struct schedule schedule;
    double sum = 0, squares = 0;
    (void)state;
    schedule_init(&schedule, ARRIVALS_POISSON, 1000000, 1, 4, 5, 0);
    uint64_t before = 0;
    for (int i = 0; i < COUNT; i++) {
        double gap = (double)(schedule.next_ns - before);
        assert_true(schedule.next_ns >= before);
        sum += gap;
        squares += gap * gap;
        before = schedule.next_ns;
        schedule_advance(&schedule);
    }
    double mean = sum / COUNT, variance = squares / COUNT - mean * mean;
    assert_true(mean > 0.98 * 4000 && mean < 1.02 * 4000);
    assert_true(variance > 0.95 * 4000 * 4000 && variance < 1.05 * 4000 * 4000);
}

// The same seed gives the same times; another seed or thread gives others.
static void schedules_follow_their_seed(void **state)
{
    struct schedule one, same, seed, thread;
    uint32_t equal = 0;
    (void)state;
    schedule_init(&one, ARRIVALS_POISSON, 1000, 0, 2, 1, 0);
    schedule_init(&same, ARRIVALS_POISSON, 1000, 0, 2, 1, 0);
    schedule_init(&seed, ARRIVALS_POISSON, 1000, 0, 2, 2, 0);
    schedule_init(&thread, ARRIVALS_POISSON, 1000, 1, 2, 1, 0);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(one.next_ns, same.next_ns);
        equal += one.next_ns == seed.next_ns || one.next_ns == thread.next_ns;
        schedule_advance(&one);
        schedule_advance(&same);
        schedule_advance(&seed);
        schedule_advance(&thread);
    }
    assert_true(equal < 10);
}

// --- Options -------------------------------------------------------------------------------------

enum { LOAD_TEST_ARGUMENTS = 16 };

// Splits the line at spaces and reads it as a command line.
static enum options_result load_test_parse(const char *line, struct options *options, char *error)
{
    static char copy[512];
    char *arguments[LOAD_TEST_ARGUMENTS + 1] = { "weir-load" };
    int count = 1;
    assert_true(strlen(line) < sizeof copy);
    strcpy(copy, line);
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " ")) {
        assert_true(count < LOAD_TEST_ARGUMENTS);
        arguments[count++] = word;
    }
    error[0] = '\0';
    return options_parse(options, count, arguments, error);
}

// Every value arrives where it belongs, in both spellings.
static void options_are_read(void **state)
{
    struct options options;
    char error[OPTIONS_ERROR_SIZE];
    (void)state;
    assert_int_equal(load_test_parse("echo --connect 127.0.0.1:7 --connections=64 --depth 16 "
                                     "--size 16K --duration 0.5 --warmup=0 --cpu 1,4-6",
                                     &options, error),
                     OPTIONS_RUN);
    assert_int_equal(options.addresses_count, 1);
    assert_int_equal(options.connections, 64);
    assert_int_equal(options.depth, 16);
    assert_int_equal(options.size, 16384);
    assert_int_equal(options.duration_ns, 500000000);
    assert_int_equal(options.warmup_ns, 0);
    assert_int_equal(options.cpus_count, 4);
    assert_int_equal(options.cpus[3], 6);
    options_fini(&options);
    assert_int_equal(load_test_parse("echo --connect unix:/a-b --connect unix:/c --rate 2.5 "
                                     "--arrivals constant --verify full --busy",
                                     &options, error),
                     OPTIONS_RUN);
    assert_int_equal(options.addresses_count, 2);
    assert_true(options.rate == 2.5 && options.busy);
    assert_string_equal(options_arrivals_name(options.arrivals), "constant");
    assert_string_equal(options_verify_name(options.verify), "full");
    options_fini(&options);
}

// A range names each of its addresses, in order.
static void options_expand_address_ranges(void **state)
{
    struct options options;
    char error[OPTIONS_ERROR_SIZE], text[WEIR_ADDRESS_TEXT_SIZE];
    (void)state;
    assert_int_equal(load_test_parse("echo --connect 127.1.0.254-127.1.1.1:80 --connect [::1]:9",
                                     &options, error),
                     OPTIONS_RUN);
    assert_int_equal(options.addresses_count, 5);
    weir_address_print(&options.addresses[0], text);
    assert_string_equal(text, "127.1.0.254:80");
    weir_address_print(&options.addresses[3], text);
    assert_string_equal(text, "127.1.1.1:80");
    weir_address_print(&options.addresses[4], text);
    assert_string_equal(text, "[::1]:9");
    options_fini(&options);
}

// Whatever is not exactly right is refused with one line that names the option.
static void options_refuse_what_is_not_exact(void **state)
{
    static const char *const wrong[][2] = {
        { "", "" },
        { "gopher --connect 127.0.0.1:7", "gopher" },
        { "ftp --connect 127.0.0.1:7 --operation stor", "--size" },
        { "ftp --connect 127.0.0.1:7 --operation stor --size 1 --files 2", "{}" },
        { "ftp --connect 127.0.0.1:7 --operation login --churn 2", "--churn" },
        { "ftp --connect 127.0.0.1:7 --files 0", "--files" },
        { "ftp --connect 127.0.0.1:7 --depth 2", "--depth" },
        { "ftp --connect unix:/x", "--connect" },
        { "echo", "--connect" },
        { "echo 127.0.0.1:7", "127.0.0.1:7" },
        { "echo --connect", "--connect" },
        { "echo --connect localhost:7", "--connect" },
        { "echo --connect 127.0.0.1:70000", "--connect" },
        { "echo --connect 127.0.0.9-127.0.0.1:7", "--connect" },
        { "echo --connect 127.0.0.1-[::1]:7", "--connect" },
        { "echo --connect 127.0.0.1:7 --size 0", "--size" },
        { "echo --connect 127.0.0.1:7 --size -1", "--size" },
        { "echo --connect 127.0.0.1:7 --size 16KB", "--size" },
        { "echo --connect 127.0.0.1:7 --size 2000M", "--size" },
        { "echo --connect 127.0.0.1:7 --size 18446744073709551617", "--size" },
        { "echo --connect 127.0.0.1:7 --connections 0", "--connections" },
        { "echo --connect 127.0.0.1:7 --connections 1x", "--connections" },
        { "echo --connect 127.0.0.1:7 --connections=", "--connections" },
        { "echo --connect 127.0.0.1:7 --connections +1", "--connections" },
        { "echo --connect 127.0.0.1:7 --depth 65537", "--depth" },
        { "echo --connect 127.0.0.1:7 --duration 1e3", "--duration" },
        { "echo --connect 127.0.0.1:7 --duration nan", "--duration" },
        { "echo --connect 127.0.0.1:7 --duration 0x10", "--duration" },
        { "echo --connect 127.0.0.1:7 --duration 1.2.3", "--duration" },
        { "echo --connect 127.0.0.1:7 --duration 0", "--duration" },
        { "echo --connect 127.0.0.1:7 --rate 0", "--rate" },
        { "echo --connect 127.0.0.1:7 --arrivals constant", "--rate" },
        { "echo --connect 127.0.0.1:7 --rate 5 --arrivals uniform", "--arrivals" },
        { "echo --connect 127.0.0.1:7 --verify some", "--verify" },
        { "echo --connect 127.0.0.1:7 --engine blocking", "--engine" },
        { "echo --connect 127.0.0.1:7 --engine epoll --uring default", "--uring" },
        { "echo --connect 127.0.0.1:7 --cpu 3-1", "--cpu" },
        { "echo --connect 127.0.0.1:7 --cpu 1,", "--cpu" },
        { "echo --connect 127.0.0.1:7 --cpu 99999", "--cpu" },
        { "echo --connect 127.0.0.1:7 --threads 2", "--threads" },
        { "echo --connect 127.0.0.1:7 --busy=1", "--busy" },
        { "echo --connect 127.0.0.1:7 --busy --busy", "--busy" },
        { "echo --connect 127.0.0.1:7 --local [::1]:0", "--local" },
        { "echo --connect 127.0.0.1:7 --local unix:/x", "--local" },
        { "echo --connect 127.0.0.1:7 --size 1024M --depth 5", "--size" },
        { "echo --connect 127.0.0.1:7 --connection 5", "--connection" },
        { "echo --connect 127.0.0.1:7 -c 5", "-c" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct options options;
        char error[OPTIONS_ERROR_SIZE];
        assert_int_equal(load_test_parse(wrong[i][0], &options, error), OPTIONS_WRONG);
        assert_non_null(strstr(error, wrong[i][1]));
        assert_null(strchr(error, '\n'));
        assert_true(error[0]);
        options_fini(&options);
    }
}

// Times are exact to the nanosecond, sizes to the byte, and bounds belong to the range.
static void option_values_are_exact(void **state)
{
    uint64_t value;
    (void)state;
    assert_true(options_read_seconds("0.000000001", 0, 1, &value) && value == 1);
    assert_true(options_read_seconds("3.", 0, 3, &value) && value == UINT64_C(3000000000));
    assert_false(options_read_seconds(".5", 0, 3, &value));
    assert_false(options_read_seconds("3.1", 0, 3, &value));
    assert_true(options_read_size("1M", 1, 1048576, &value) && value == 1048576);
    assert_false(options_read_size("1M", 1, 1048575, &value));
    assert_false(options_read_size("M", 1, 1048576, &value));
    assert_true(options_read_number("18446744073709551615", 0, UINT64_MAX, &value));
    assert_false(options_read_number("18446744073709551616", 0, UINT64_MAX, &value));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(payload_finds_every_changed_byte),
        cmocka_unit_test(payload_differs_from_message_to_message),
        cmocka_unit_test(payload_depends_on_seed_and_identity),
        cmocka_unit_test(constant_arrivals_interleave_evenly),
        cmocka_unit_test(poisson_gaps_have_mean_and_spread_of_the_rate),
        cmocka_unit_test(schedules_follow_their_seed),
        cmocka_unit_test(options_are_read),
        cmocka_unit_test(options_expand_address_ranges),
        cmocka_unit_test(options_refuse_what_is_not_exact),
        cmocka_unit_test(option_values_are_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
