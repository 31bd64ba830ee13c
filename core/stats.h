// Counters with one writer, the loop's thread, and any number of readers without locks.
#ifndef WEIR_STATS_H
#define WEIR_STATS_H

#include <stdatomic.h>

#include "weir.h"

// The same members as struct weir_stats, each an atomic word.
enum { STATS_WORDS = sizeof(struct weir_stats) / sizeof(uint64_t) };
struct stats {
    _Atomic uint64_t words[STATS_WORDS];
};

#define STATS_INDEX(member) (offsetof(struct weir_stats, member) / sizeof(uint64_t))
#define stats_add(loop, member, n) stats_word_add(&(loop)->stats, STATS_INDEX(member), (n))
#define stats_set(loop, member, n) stats_word_set(&(loop)->stats, STATS_INDEX(member), (n))
#define stats_high(loop, member, n) stats_word_high(&(loop)->stats, STATS_INDEX(member), (n))

static inline void stats_word_set(struct stats *stats, size_t index, uint64_t value)
{
    atomic_store_explicit(&stats->words[index], value, memory_order_relaxed);
}

static inline uint64_t stats_word_get(const struct stats *stats, size_t index)
{
    return atomic_load_explicit(&stats->words[index], memory_order_relaxed);
}

// A load and a store, not a locked addition: there is one writer.
static inline void stats_word_add(struct stats *stats, size_t index, uint64_t n)
{
    stats_word_set(stats, index, stats_word_get(stats, index) + n);
}

static inline void stats_word_high(struct stats *stats, size_t index, uint64_t value)
{
    if (value > stats_word_get(stats, index))
        stats_word_set(stats, index, value);
}

void stats_batch(struct stats *stats, uint32_t completions);
void stats_read(const struct stats *stats, struct weir_stats *ret_stats);
void stats_sum(struct weir_stats *sum, const struct weir_stats *more);

#endif
