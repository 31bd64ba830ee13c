// Statistics: what is counted is what is read, added and printed.
#include "stats.h"

#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { TEXT_SIZE = 8192, NAMES_MAX = 128 };

// A counter as read back from printed text.
struct printed {
    char name[64];
    uint64_t value;
};

static void fill(struct weir_stats *stats, uint64_t first)
{
    uint64_t *words = (uint64_t *)stats;

    for (uint64_t i = 0; i < STATS_WORDS; i++)
        words[i] = first + i;
}

static const char *expect(const char *text, const char *token)
{
    if (strncmp(text, token, strlen(token)))
        fail_msg("expected %s at: %.30s", token, text);
    return text + strlen(token);
}

static const char *read_number(const char *text, uint64_t *ret_value)
{
    char *end;

    assert_true(*text >= '0' && *text <= '9');
    // JSON has no leading zeros.
    assert_true(text[0] != '0' || !(text[1] >= '0' && text[1] <= '9'));
    *ret_value = strtoull(text, &end, 10);
    return end;
}

static const char *read_array(const char *text, struct printed *rows, size_t *count)
{
    for (int i = 0; i < WEIR_BATCH_BUCKETS; i++) {
        text = expect(text, i ? ", " : "[");
        text = read_number(text, &rows[(*count)++].value);
    }
    return expect(text, "]");
}

// Reads the subset of JSON that one flat object of numbers and arrays of numbers needs, strictly.
static size_t read_json(const char *text, struct printed *rows)
{
    size_t count = 0;

    for (bool first = true; *text != '}' || first; first = false) {
        size_t size;

        text = expect(text, first ? "{\"" : ", \"");
        size = strcspn(text, "\"");
        assert_in_range(size, 1, sizeof(rows->name) - 1);
        memcpy(rows[count].name, text, size);
        rows[count].name[size] = 0;
        text = expect(text + size, "\": ");
        text =
            *text == '[' ? read_array(text, rows, &count) : read_number(text, &rows[count++].value);
        assert_true(count < NAMES_MAX);
    }
    assert_string_equal(text, "}");
    return count;
}

// JSON, parsed back, has each counter once, with its own value, and the histogram as an array.
static void json_has_every_counter_with_its_value(void **state)
{
    static struct printed rows[NAMES_MAX];
    struct weir_stats stats;
    char text[TEXT_SIZE];
    bool seen[STATS_WORDS] = { false };
    size_t count;

    (void)state;
    fill(&stats, 1000000);
    assert_true(weir_stats_print(&stats, true, text, sizeof(text)) < sizeof(text));
    count = read_json(text, rows);
    assert_int_equal(count, STATS_WORDS);
    for (size_t i = 0; i < count; i++) {
        uint64_t word = rows[i].value - 1000000;

        assert_true(word < STATS_WORDS);
        assert_false(seen[word]);
        seen[word] = true;
    }
    assert_non_null(strstr(text, "\"batch\": [1000004, 1000005, "));
}

// A few counters, found by name, stand for the member of that name.
static void names_are_those_of_the_members(void **state)
{
    struct weir_stats stats = { .turns = 11, .received_bytes = 22, .queued_high = UINT64_MAX };
    char text[TEXT_SIZE];

    (void)state;
    stats.batch[0] = 33;
    stats.batch[3] = 44;
    stats.batch[WEIR_BATCH_BUCKETS - 1] = 55;
    weir_stats_print(&stats, false, text, sizeof(text));
    assert_memory_equal(text, "turns 11\n", 9);
    assert_non_null(strstr(text, "\nreceived_bytes 22\n"));
    assert_non_null(strstr(text, "\nqueued_high 18446744073709551615\n"));
    assert_non_null(strstr(text, "\nbatch_0 33\n"));
    assert_non_null(strstr(text, "\nbatch_4 44\n"));
    assert_non_null(strstr(text, "\nbatch_more 55\n"));
}

// Text is one "name value" line per counter, and no name comes twice.
static void text_lines_have_names_of_their_own(void **state)
{
    static struct printed rows[NAMES_MAX];
    struct weir_stats stats = { 0 };
    char text[TEXT_SIZE], *line = text;
    size_t count = 0;

    (void)state;
    weir_stats_print(&stats, false, text, sizeof(text));
    for (; *line; count++) {
        int used = 0;

        assert_int_equal(
            sscanf(line, "%63[a-z0-9_] %" SCNu64 "%n", rows[count].name, &rows[count].value, &used),
            2);
        assert_int_equal(line[used], '\n');
        for (size_t i = 0; i < count; i++)
            assert_string_not_equal(rows[i].name, rows[count].name);
        line += used + 1;
    }
    assert_int_equal(count, STATS_WORDS);
}

// At every size of the caller's memory, print returns the same size, writes a prefix that ends in a
// zero, and nothing beyond.
static void print_keeps_within_every_size(void **state)
{
    struct weir_stats stats;
    char whole[TEXT_SIZE];
    size_t used;

    (void)state;
    fill(&stats, 7);
    for (int json = 0; json < 2; json++) {
        used = weir_stats_print(&stats, json, whole, sizeof(whole));
        assert_int_equal(strlen(whole), used);
        assert_int_equal(weir_stats_print(&stats, json, NULL, 0), used);
        for (size_t size = 1; size <= used + 1; size++) {
            char *part = malloc(size);

            assert_int_equal(weir_stats_print(&stats, json, part, size), used);
            assert_int_equal(strlen(part), size - 1);
            assert_memory_equal(part, whole, size - 1);
            free(part);
        }
    }
}

// The histogram's buckets are 0, 1, 2, 3-4, 5-8 ... and the last takes all more.
static void batch_sizes_fall_into_their_buckets(void **state)
{
    static const struct {
        uint32_t completions, bucket;
    } rows[] = { { 0, 0 },    { 1, 1 },    { 2, 2 },    { 3, 3 },       { 4, 3 },
                 { 5, 4 },    { 8, 4 },    { 9, 5 },    { 16, 5 },      { 256, 9 },
                 { 257, 10 }, { 512, 10 }, { 513, 11 }, { 100000, 11 }, { UINT32_MAX, 11 } };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct stats stats = { 0 };
        struct weir_stats read;

        stats_batch(&stats, rows[i].completions);
        stats_read(&stats, &read);
        for (uint32_t bucket = 0; bucket < WEIR_BATCH_BUCKETS; bucket++)
            assert_int_equal(read.batch[bucket], bucket == rows[i].bucket);
        assert_int_equal(read.turns, 0);
    }
}

// A sum adds every counter of every loop.
static void sum_adds_every_counter(void **state)
{
    struct weir_stats sum = { 0 }, more;
    const uint64_t *words = (const uint64_t *)&sum;

    (void)state;
    fill(&more, 100);
    stats_sum(&sum, &more);
    fill(&more, 1000);
    stats_sum(&sum, &more);
    for (uint64_t i = 0; i < STATS_WORDS; i++)
        assert_int_equal(words[i], 1100 + 2 * i);
}

static void *count_up(void *argument)
{
    struct stats *stats = argument;

    for (int i = 0; i < 100000; i++)
        stats_word_add(stats, STATS_INDEX(turns), 1);
    return NULL;
}

// A reader on another thread sees a counter grow only, and in the end all of it.
static void readers_see_a_counter_grow(void **state)
{
    struct stats stats = { 0 };
    struct weir_stats read = { 0 };
    uint64_t before = 0;
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, count_up, &stats), 0);
    for (int i = 0; i < 1000; i++) {
        stats_read(&stats, &read);
        assert_true(read.turns >= before);
        before = read.turns;
    }
    pthread_join(thread, NULL);
    stats_read(&stats, &read);
    assert_int_equal(read.turns, 100000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_has_every_counter_with_its_value),
        cmocka_unit_test(names_are_those_of_the_members),
        cmocka_unit_test(text_lines_have_names_of_their_own),
        cmocka_unit_test(print_keeps_within_every_size),
        cmocka_unit_test(batch_sizes_fall_into_their_buckets),
        cmocka_unit_test(sum_adds_every_counter),
        cmocka_unit_test(readers_see_a_counter_grow),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
