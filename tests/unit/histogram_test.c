// The load generator's histogram, against a sorted array of the same values.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "histogram.h"
#include "random.h"

static struct histogram *histogram_test_create(void)
{
    struct histogram *histogram = malloc(sizeof *histogram);
    assert_non_null(histogram);
    histogram_init(histogram);
    return histogram;
}

static int histogram_test_compare(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

// Values spread evenly over the magnitudes from 1 ns to 60 s.
static uint64_t histogram_test_value(uint64_t *state)
{
    uint64_t limit = UINT64_C(1) << (random_next(state) % 36);
    uint64_t value = 1 + limit + random_next(state) % limit;
    return value <= HISTOGRAM_MAX_NS ? value : HISTOGRAM_MAX_NS;
}

// Every percentile lies at the sorted array's value or at most a thousandth above it.
static void percentiles_agree_with_a_sorted_array(void **state)
{
    enum { COUNT = 200000 };
    static const uint32_t percents[] = { 0, 1000, 25000, 50000, 75000, 90000, 99000, 99900, 99950 };
    uint64_t *values = malloc(COUNT * sizeof *values), seed = 42, sum = 0;
    struct histogram *histogram = histogram_test_create();
    (void)state;
    assert_non_null(values);
    for (uint32_t i = 0; i < COUNT; i++) {
        values[i] = histogram_test_value(&seed);
        sum += values[i];
        histogram_record(histogram, values[i]);
    }
    qsort(values, COUNT, sizeof *values, histogram_test_compare);
    for (size_t i = 0; i < sizeof percents / sizeof percents[0]; i++) {
        uint64_t rank = ((uint64_t)COUNT * percents[i] + 99999) / 100000, found = 0;
        uint64_t expected = values[rank ? rank - 1 : 0];
        assert_true(histogram_percentile(histogram, percents[i], &found));
        assert_in_range(found, expected, expected + expected / 1000);
    }
    assert_int_equal(histogram->min_ns, values[0]);
    assert_int_equal(histogram->max_ns, values[COUNT - 1]);
    assert_int_equal(histogram->sum_ns, sum);
    assert_true(histogram_mean(histogram) == (double)sum / COUNT);
    free(histogram);
    free(values);
}

// The buckets cover the range without gap or overlap, and none is wider than a thousandth.
static void buckets_join_and_are_narrow(void **state)
{
    uint64_t next = 0;
    (void)state;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t first = histogram_bucket_first(i), last = histogram_bucket_last(i);
        assert_int_equal(first, next);
        assert_true(last >= first && last - first <= first / 1000);
        assert_int_equal(histogram_index(first), i);
        assert_int_equal(histogram_index(last), i);
        next = last + 1;
    }
    assert_int_equal(histogram_index(HISTOGRAM_MAX_NS), HISTOGRAM_BUCKETS - 1);
}

// What lies out of range is counted there and keeps its rank.
static void values_out_of_range_are_counted(void **state)
{
    struct histogram *histogram = histogram_test_create();
    uint64_t value = 1;
    (void)state;
    for (int i = 0; i < 300; i++)
        histogram_record(histogram, 0);
    for (int i = 0; i < 300; i++)
        histogram_record(histogram, HISTOGRAM_MAX_NS + 1 + (uint64_t)i);
    assert_int_equal(histogram->count, 600);
    assert_int_equal(histogram->below, 300);
    assert_int_equal(histogram->above, 300);
    assert_true(histogram_percentile(histogram, 50000, &value));
    assert_int_equal(value, 0);
    assert_true(histogram_percentile(histogram, 60000, &value));
    assert_int_equal(value, HISTOGRAM_MAX_NS + 300);
    histogram_record(histogram, 1);
    histogram_record(histogram, HISTOGRAM_MAX_NS);
    assert_int_equal(histogram->below + histogram->above, 600);
    free(histogram);
}

// A percentile is told exactly where a hundred values lie beyond it.
static void percentiles_need_a_hundred_values_beyond(void **state)
{
    struct histogram *histogram = histogram_test_create();
    uint64_t value = 77;
    (void)state;
    assert_false(histogram_percentile(histogram, 50000, &value));
    for (int i = 0; i < 9999; i++)
        histogram_record(histogram, 1000);
    assert_true(histogram_percentile(histogram, 98000, &value));
    value = 77;
    assert_false(histogram_percentile(histogram, 99000, &value));
    assert_int_equal(value, 77);
    histogram_record(histogram, 1000);
    assert_true(histogram_percentile(histogram, 99000, &value));
    assert_int_equal(value, 1000);
    assert_false(histogram_percentile(histogram, 99900, &value));
    free(histogram);
}

// Merged parts equal the whole, and taking a part back leaves the rest.
static void merged_parts_equal_the_whole(void **state)
{
    struct histogram *whole = histogram_test_create(), *sum = histogram_test_create();
    struct histogram *parts[3];
    uint64_t seed = 7;
    (void)state;
    for (int i = 0; i < 3; i++)
        parts[i] = histogram_test_create();
    for (int i = 0; i < 30000; i++) {
        uint64_t value = histogram_test_value(&seed) - (i % 1000 == 0);
        histogram_record(whole, value);
        histogram_record(parts[i % 3], value);
    }
    for (int i = 0; i < 3; i++)
        histogram_merge(sum, parts[i]);
    assert_memory_equal(sum, whole, sizeof *whole);
    histogram_subtract(sum, parts[2]);
    histogram_merge(parts[0], parts[1]);
    assert_int_equal(sum->count, parts[0]->count);
    assert_int_equal(sum->sum_ns, parts[0]->sum_ns);
    assert_memory_equal(sum->buckets, parts[0]->buckets, sizeof sum->buckets);
    for (int i = 0; i < 3; i++)
        free(parts[i]);
    free(whole);
    free(sum);
}

// Only buckets that are not empty are printed; an empty histogram has no extremes.
static void json_lists_what_is_not_empty(void **state)
{
    struct histogram *histogram = histogram_test_create();
    char *text = NULL;
    size_t size = 0;
    (void)state;
    FILE *file = open_memstream(&text, &size);
    assert_non_null(file);
    histogram_print_json(histogram, file);
    fputc('\n', file);
    histogram_record(histogram, 5);
    histogram_record(histogram, 5);
    histogram_record(histogram, 2049);
    histogram_record(histogram, 0);
    histogram_print_json(histogram, file);
    fclose(file);
    assert_string_equal(text, "{\"unit\": \"ns\", \"count\": 0, \"below\": 0, \"above\": 0, "
                              "\"sum\": 0, \"min\": null, \"max\": null, \"buckets\": []}\n"
                              "{\"unit\": \"ns\", \"count\": 4, \"below\": 1, \"above\": 0, "
                              "\"sum\": 2059, \"min\": 0, \"max\": 2049, "
                              "\"buckets\": [[5, 2], [2048, 1]]}");
    free(text);
    free(histogram);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(percentiles_agree_with_a_sorted_array),
        cmocka_unit_test(buckets_join_and_are_narrow),
        cmocka_unit_test(values_out_of_range_are_counted),
        cmocka_unit_test(percentiles_need_a_hundred_values_beyond),
        cmocka_unit_test(merged_parts_equal_the_whole),
        cmocka_unit_test(json_lists_what_is_not_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
