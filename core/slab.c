// Fixed-size records. A chunk is a header and a run of records; a free record's first word links to
// the next free one. Chunks stay until fini, so a record's address is valid memory all that time.
#include "slab.h"

#include <assert.h>
#include <sanitizer/asan_interface.h>
#include <stdlib.h>

enum { SLAB_ALIGNMENT = 16, SLAB_CHUNK_SIZE = 64 * 1024 };

struct slab_chunk {
    struct slab_chunk *next;
    _Alignas(SLAB_ALIGNMENT) char records[];
};

struct slab_free {
    struct slab_free *next;
};

static size_t slab_round(size_t size)
{
    assert(size > 0);
    assert(size <= PTRDIFF_MAX / 2);
    return (size + SLAB_ALIGNMENT - 1) & ~(size_t)(SLAB_ALIGNMENT - 1);
}

// The link lies inside the record, so it is written before the record is poisoned.
static void slab_push(struct slab *slab, void *record)
{
    struct slab_free *entry = record;

    entry->next = slab->free;
    slab->free = entry;
    ASAN_POISON_MEMORY_REGION(record, slab->size);
}

static int slab_grow(struct slab *slab)
{
    struct slab_chunk *chunk = malloc(sizeof(*chunk) + slab->size * slab->batch);

    if (!chunk)
        return -1;
    chunk->next = slab->chunks;
    slab->chunks = chunk;
    // Backwards, so that records are taken in the order of their addresses.
    for (uint32_t i = slab->batch; i > 0; i--)
        slab_push(slab, chunk->records + slab->size * (i - 1));
    return 0;
}

void slab_init(struct slab *slab, size_t size)
{
    size_t rounded = slab_round(size);
    size_t batch = (SLAB_CHUNK_SIZE - sizeof(struct slab_chunk)) / rounded;

    *slab = (struct slab){ .size = rounded, .batch = batch ? (uint32_t)batch : 1 };
}

void slab_fini(struct slab *slab)
{
    struct slab_chunk *chunk = slab->chunks;

    while (chunk) {
        struct slab_chunk *next = chunk->next;

        free(chunk);
        chunk = next;
    }
    *slab = (struct slab){ 0 };
}

void *slab_take(struct slab *slab)
{
    struct slab_free *entry;

    if (!slab->free && slab_grow(slab))
        return NULL;
    entry = slab->free;
    ASAN_UNPOISON_MEMORY_REGION(entry, slab->size);
    slab->free = entry->next;
    slab->taken++;
    return entry;
}

void slab_give(struct slab *slab, void *record)
{
    assert(slab->taken > 0);
    slab->taken--;
    slab_push(slab, record);
}

void slab_set_fini(struct slab_set *set)
{
    for (uint32_t i = 0; i < set->count; i++)
        slab_fini(&set->slabs[i]);
    set->count = 0;
}

struct slab *slab_set_find(struct slab_set *set, size_t size)
{
    size_t rounded = slab_round(size);

    for (uint32_t i = 0; i < set->count; i++) {
        if (set->slabs[i].size == rounded)
            return &set->slabs[i];
    }
    if (set->count == SLAB_SET_MAX)
        return NULL;
    slab_init(&set->slabs[set->count], size);
    return &set->slabs[set->count++];
}
