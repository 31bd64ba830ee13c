// Reading, adding and printing counters. One table names them all, so a counter cannot be counted
// and not be printed.
#include "stats.h"

#include <stdarg.h>
#include <stdio.h>

struct stats_row {
    const char *name;
    size_t index; // of its word
};

#define STATS_ROW(member) #member, STATS_INDEX(member)

// In the order of struct weir_stats; the batch histogram's row stands for all its words.
static const struct stats_row stats_rows[] = {
    { STATS_ROW(turns) },
    { STATS_ROW(enters) },
    { STATS_ROW(sqes) },
    { STATS_ROW(cqes) },
    { STATS_ROW(batch) },
    { STATS_ROW(accepts) },
    { STATS_ROW(accept_errors) },
    { STATS_ROW(accept_pauses) },
    { STATS_ROW(refused) },
    { STATS_ROW(connects) },
    { STATS_ROW(connect_errors) },
    { STATS_ROW(received_bytes) },
    { STATS_ROW(sent_bytes) },
    { STATS_ROW(received_slices) },
    { STATS_ROW(copied_slices) },
    { STATS_ROW(received_bundles) },
    { STATS_ROW(sends) },
    { STATS_ROW(short_sends) },
    { STATS_ROW(receive_arms) },
    { STATS_ROW(receive_no_buffers) },
    { STATS_ROW(pauses) },
    { STATS_ROW(overflows) },
    { STATS_ROW(stale_completions) },
    { STATS_ROW(submit_early) },
    { STATS_ROW(worker_punts) },
    { STATS_ROW(idle_timeouts) },
    { STATS_ROW(close_timeouts) },
    { STATS_ROW(total_timeouts) },
    { STATS_ROW(total_aborts) },
    { STATS_ROW(closed_clean) },
    { STATS_ROW(closed_reset) },
    { STATS_ROW(closed_timeout) },
    { STATS_ROW(closed_canceled) },
    { STATS_ROW(closed_error) },
    { STATS_ROW(jobs) },
    { STATS_ROW(file_operations) },
    { STATS_ROW(posts) },
    { STATS_ROW(fallbacks) },
    { STATS_ROW(looks) },
    { STATS_ROW(looks_in_vain) },
    { STATS_ROW(streams_open) },
    { STATS_ROW(streams_high) },
    { STATS_ROW(buffers_leased) },
    { STATS_ROW(buffers_high) },
    { STATS_ROW(queued_bytes) },
    { STATS_ROW(queued_high) },
};

enum { STATS_ROWS = sizeof(stats_rows) / sizeof(stats_rows[0]) };

_Static_assert(STATS_ROWS + WEIR_BATCH_BUCKETS - 1 == STATS_WORDS,
               "a member of struct weir_stats has no row to print it");
_Static_assert(sizeof(struct weir_stats) == sizeof(uint64_t) * STATS_WORDS,
               "struct weir_stats has members that are not words");

// Text that grows like snprintf's: what does not fit is only counted.
struct stats_text {
    char *data;
    size_t size, used;
};

static void __attribute__((format(printf, 2, 3)))
stats_append(struct stats_text *text, const char *format, ...)
{
    size_t room = text->used < text->size ? text->size - text->used : 0;
    va_list arguments;
    int count;

    va_start(arguments, format);
    count = vsnprintf(room ? text->data + text->used : NULL, room, format, arguments);
    va_end(arguments);
    if (count > 0)
        text->used += (size_t)count;
}

// Bucket 0 counts turns without a completion, bucket i those with at most 2^(i-1), the last all
// more.
static uint32_t stats_bucket(uint32_t completions)
{
    uint32_t bucket = completions;

    if (completions > 1)
        bucket = 33 - (uint32_t)__builtin_clz(completions - 1);
    return bucket < WEIR_BATCH_BUCKETS ? bucket : WEIR_BATCH_BUCKETS - 1;
}

static void stats_append_batch_text(struct stats_text *text, const uint64_t *batch)
{
    stats_append(text, "batch_0 %llu\n", (unsigned long long)batch[0]);
    for (uint32_t i = 1; i < WEIR_BATCH_BUCKETS - 1; i++)
        stats_append(text, "batch_%u %llu\n", 1u << (i - 1), (unsigned long long)batch[i]);
    stats_append(text, "batch_more %llu\n", (unsigned long long)batch[WEIR_BATCH_BUCKETS - 1]);
}

static void stats_append_batch_json(struct stats_text *text, const uint64_t *batch)
{
    stats_append(text, "\"batch\": [");
    for (uint32_t i = 0; i < WEIR_BATCH_BUCKETS; i++)
        stats_append(text, "%s%llu", i ? ", " : "", (unsigned long long)batch[i]);
    stats_append(text, "]");
}

static void stats_append_text(struct stats_text *text, const uint64_t *words)
{
    for (uint32_t i = 0; i < STATS_ROWS; i++) {
        const struct stats_row *row = &stats_rows[i];

        if (row->index == STATS_INDEX(batch))
            stats_append_batch_text(text, words + row->index);
        else
            stats_append(text, "%s %llu\n", row->name, (unsigned long long)words[row->index]);
    }
}

static void stats_append_json(struct stats_text *text, const uint64_t *words)
{
    stats_append(text, "{");
    for (uint32_t i = 0; i < STATS_ROWS; i++) {
        const struct stats_row *row = &stats_rows[i];

        stats_append(text, "%s", i ? ", " : "");
        if (row->index == STATS_INDEX(batch))
            stats_append_batch_json(text, words + row->index);
        else
            stats_append(text, "\"%s\": %llu", row->name, (unsigned long long)words[row->index]);
    }
    stats_append(text, "}");
}

void stats_batch(struct stats *stats, uint32_t completions)
{
    stats_word_add(stats, STATS_INDEX(batch) + stats_bucket(completions), 1);
}

void stats_read(const struct stats *stats, struct weir_stats *ret_stats)
{
    uint64_t *words = (uint64_t *)ret_stats;

    for (uint32_t i = 0; i < STATS_WORDS; i++)
        words[i] = stats_word_get(stats, i);
}

// The gauges are added too. For "most at once" that gives an upper bound of the true maximum, since
// the loops need not have reached theirs at the same time.
void stats_sum(struct weir_stats *sum, const struct weir_stats *more)
{
    uint64_t *words = (uint64_t *)sum;
    const uint64_t *added = (const uint64_t *)more;

    for (uint32_t i = 0; i < STATS_WORDS; i++)
        words[i] += added[i];
}

size_t weir_stats_print(const struct weir_stats *stats, bool json, char *ret_text, size_t size)
{
    struct stats_text text = { .data = ret_text, .size = size };
    const uint64_t *words = (const uint64_t *)stats;

    if (json)
        stats_append_json(&text, words);
    else
        stats_append_text(&text, words);
    return text.used;
}
