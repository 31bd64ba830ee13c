// The pool of receive buffers and their leases.
//
// A buffer is free (in `free`, where the engine takes it), with the engine (the kernel may fill
// it), or leased: it holds received bytes that somebody counts. The last release makes it free. The
// pool cannot be held hostage: see pool_scarce() and its use in send.c and receive.c.
#ifndef WEIR_BUFFER_H
#define WEIR_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Counted memory: a buffer of the pool, or a block of its own (index LEASE_BLOCK) for copied bytes.
struct weir_lease {
    uint32_t count;
    uint16_t index;
    uint8_t class_index; // of the block
};

enum { LEASE_BLOCK = UINT16_MAX };

struct buffer_pool {
    char *memory; // count * size bytes, page-aligned, untouched pages cost nothing
    size_t size;
    uint32_t count;
    uint32_t free_count; // in `free`
    uint32_t leased;     // leases with a count above zero
    uint16_t *free;      // a stack: the warmest buffer is on top
    struct weir_lease *leases;
};

int pool_init(struct buffer_pool *pool, uint32_t count, size_t size);
void pool_fini(struct buffer_pool *pool);

static inline char *pool_data(const struct buffer_pool *pool, uint32_t index)
{
    return pool->memory + (size_t)index * pool->size;
}

// Takes a free buffer for receiving into; -1 when none is free.
static inline int pool_take(struct buffer_pool *pool)
{
    return pool->free_count ? pool->free[--pool->free_count] : -1;
}

// Gives back a buffer that was taken and never leased.
static inline void pool_give(struct buffer_pool *pool, uint32_t index)
{
    pool->free[pool->free_count++] = (uint16_t)index;
}

// A taken buffer was filled: its first count.
static inline struct weir_lease *pool_lease(struct buffer_pool *pool, uint32_t index)
{
    struct weir_lease *lease = &pool->leases[index];
    lease->count = 1;
    pool->leased++;
    return lease;
}

// Less than half of the pool is free of leases: bytes are copied out of it from now on.
static inline bool pool_scarce(const struct buffer_pool *pool)
{
    return pool->leased > pool->count / 2;
}

// Drops a count of a buffer's lease.
static inline void pool_release(struct buffer_pool *pool, struct weir_lease *lease)
{
    if (--lease->count == 0) {
        pool->leased--;
        pool_give(pool, lease->index);
    }
}

#endif
