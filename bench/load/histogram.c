// The histogram's merge, percentiles and printing.
#include "histogram.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void histogram_init(struct histogram *histogram)
{
    memset(histogram, 0, sizeof *histogram);
    histogram->min_ns = UINT64_MAX;
}

uint64_t histogram_bucket_first(uint32_t index)
{
    if (index < 2048)
        return index;
    uint32_t shift = index / 1024 - 1;
    return (uint64_t)(index - shift * 1024) << shift;
}

uint64_t histogram_bucket_last(uint32_t index)
{
    return histogram_bucket_first(index + 1) - 1;
}

struct histogram *histogram_create(void)
{
    struct histogram *histogram = malloc(sizeof *histogram);
    if (histogram)
        histogram_init(histogram);
    return histogram;
}

void histogram_merge(struct histogram *sum, const struct histogram *more)
{
    sum->count += more->count;
    sum->below += more->below;
    sum->above += more->above;
    sum->sum_ns += more->sum_ns;
    if (more->min_ns < sum->min_ns)
        sum->min_ns = more->min_ns;
    if (more->max_ns > sum->max_ns)
        sum->max_ns = more->max_ns;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        sum->buckets[i] += more->buckets[i];
}

void histogram_subtract(struct histogram *rest, const struct histogram *less)
{
    rest->count -= less->count;
    rest->below -= less->below;
    rest->above -= less->above;
    rest->sum_ns -= less->sum_ns;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        rest->buckets[i] -= less->buckets[i];
}

// The value of the rank-th smallest, counted from 1.
static uint64_t histogram_ranked(const struct histogram *histogram, uint64_t rank)
{
    uint64_t seen = histogram->below;
    if (rank <= seen)
        return 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->buckets[i];
        if (rank <= seen) {
            uint64_t last = histogram_bucket_last(i);
            return last < histogram->max_ns ? last : histogram->max_ns;
        }
    }
    return histogram->max_ns;
}

bool histogram_percentile(const struct histogram *histogram, uint32_t percent, uint64_t *ret_ns)
{
    const uint64_t scale = HISTOGRAM_PERCENT_SCALE;
    if (histogram->count * (scale - percent) < HISTOGRAM_TAIL_MIN * scale)
        return false;
    uint64_t rank = (histogram->count * percent + scale - 1) / scale;
    *ret_ns = histogram_ranked(histogram, rank ? rank : 1);
    return true;
}

double histogram_mean(const struct histogram *histogram)
{
    return histogram->count ? (double)histogram->sum_ns / (double)histogram->count : 0;
}

void histogram_print_json(const struct histogram *histogram, FILE *file)
{
    fprintf(file,
            "{\"unit\": \"ns\", \"count\": %" PRIu64 ", \"below\": %" PRIu64 ", \"above\": %" PRIu64
            ", \"sum\": %" PRIu64,
            histogram->count, histogram->below, histogram->above, histogram->sum_ns);
    if (histogram->count)
        fprintf(file, ", \"min\": %" PRIu64 ", \"max\": %" PRIu64, histogram->min_ns,
                histogram->max_ns);
    else
        fputs(", \"min\": null, \"max\": null", file);
    fputs(", \"buckets\": [", file);
    const char *separator = "";
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        if (histogram->buckets[i] == 0)
            continue;
        fprintf(file, "%s[%" PRIu64 ", %" PRIu64 "]", separator, histogram_bucket_first(i),
                histogram->buckets[i]);
        separator = ", ";
    }
    fputs("]}", file);
}
