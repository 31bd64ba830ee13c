// A log-linear histogram of durations: 1 ns to 60 s with three significant digits, mergeable.
//
// Values below 2048 ns have a bucket each; above, every power of two has 1024 buckets, so a bucket
// is at most 1/1024 of its value wide. Recording is a shift and an addition. What lies out of range
// is counted and keeps its rank: below the range it is 0, above it the largest value seen.
#ifndef LOAD_HISTOGRAM_H
#define LOAD_HISTOGRAM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum {
    HISTOGRAM_BUCKETS = 27389,       // histogram_index(HISTOGRAM_MAX_NS) + 1
    HISTOGRAM_TAIL_MIN = 100,        // a percentile needs so many values beyond it
    HISTOGRAM_PERCENT_SCALE = 100000 // 99.9 % is 99900
};
#define HISTOGRAM_MAX_NS UINT64_C(60000000000)

struct histogram {
    uint64_t count; // of all values, in range or not
    uint64_t below; // under 1 ns
    uint64_t above; // over HISTOGRAM_MAX_NS
    uint64_t sum_ns;
    uint64_t min_ns; // of all values; UINT64_MAX while there is none
    uint64_t max_ns;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_init(struct histogram *histogram);
// An empty one on the heap, for free(); NULL without memory.
struct histogram *histogram_create(void);

// Adds the values of `more` to `sum`.
void histogram_merge(struct histogram *sum, const struct histogram *more);

// Takes back the values of `less`, which `rest` held at an earlier time. min_ns and max_ns stay.
void histogram_subtract(struct histogram *rest, const struct histogram *less);

// The value that a share of percent/HISTOGRAM_PERCENT_SCALE of all values does not exceed, rounded
// up to its bucket's end. False, and no value, where fewer than HISTOGRAM_TAIL_MIN values lie
// beyond: such a number would be chance.
bool histogram_percentile(const struct histogram *histogram, uint32_t percent, uint64_t *ret_ns);

double histogram_mean(const struct histogram *histogram);

// One JSON object; "buckets" lists [smallest value, count] of those that are not empty.
void histogram_print_json(const struct histogram *histogram, FILE *file);

// The bucket of a value in range, and the bounds of a bucket.
static inline uint32_t histogram_index(uint64_t value_ns)
{
    if (value_ns < 2048)
        return (uint32_t)value_ns;
    uint32_t shift = 53 - (uint32_t)__builtin_clzll(value_ns); // leaves eleven bits
    return shift * 1024 + (uint32_t)(value_ns >> shift);
}

uint64_t histogram_bucket_first(uint32_t index);
uint64_t histogram_bucket_last(uint32_t index);

static inline void histogram_record(struct histogram *histogram, uint64_t value_ns)
{
    histogram->count++;
    histogram->sum_ns += value_ns;
    if (value_ns < histogram->min_ns)
        histogram->min_ns = value_ns;
    if (value_ns > histogram->max_ns)
        histogram->max_ns = value_ns;
    if (value_ns - 1 < HISTOGRAM_MAX_NS) // one comparison for both ends of the range
        histogram->buckets[histogram_index(value_ns)]++;
    else if (value_ns == 0)
        histogram->below++;
    else
        histogram->above++;
}

#endif
