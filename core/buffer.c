// The receive buffers' memory is one anonymous mapping: page-aligned, and a buffer that was never
// used costs no memory. The stack of free buffers prefers the warmest, so a quiet loop touches few.
#include "buffer.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

static void buffer_fill_tables(struct buffer_pool *pool)
{
    for (uint32_t i = 0; i < pool->count; i++) {
        pool->leases[i].index = (uint16_t)i;
        pool->free[i] = (uint16_t)(pool->count - 1 - i);
    }
    pool->free_count = pool->count;
}

int pool_init(struct buffer_pool *pool, uint32_t count, size_t size)
{
    void *memory;

    assert(count > 0);
    assert(count < LEASE_BLOCK);
    *pool = (struct buffer_pool){ .count = count, .size = size };
    memory = mmap(NULL, count * size, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        *pool = (struct buffer_pool){ 0 };
        return -ENOMEM;
    }
    pool->memory = memory;
    pool->free = calloc(count, sizeof(*pool->free));
    pool->leases = calloc(count, sizeof(*pool->leases));
    if (!pool->free || !pool->leases) {
        pool_fini(pool);
        return -ENOMEM;
    }
    buffer_fill_tables(pool);
    return 0;
}

void pool_fini(struct buffer_pool *pool)
{
    if (pool->memory)
        munmap(pool->memory, pool->count * pool->size);
    free(pool->free);
    free(pool->leases);
    *pool = (struct buffer_pool){ 0 };
}
