// Records of one size from chunks that are never returned until fini: taking and giving one is a
// few instructions. Under AddressSanitizer a free record is poisoned.
#ifndef WEIR_SLAB_H
#define WEIR_SLAB_H

#include <stddef.h>
#include <stdint.h>

struct slab {
    size_t size;    // of a record, bytes
    uint32_t batch; // records per chunk
    uint32_t taken; // records in use
    void *free;     // first free record
    void *chunks;   // all chunks, linked
};

// `size` is rounded up to 16 bytes; chunks hold about 64 KiB, at least one record.
void slab_init(struct slab *slab, size_t size);
void slab_fini(struct slab *slab);
// A record with undefined contents, or NULL when memory is out.
void *slab_take(struct slab *slab);
void slab_give(struct slab *slab, void *record);

// One slab for each record size that occurs: few.
enum { SLAB_SET_MAX = 16 };
struct slab_set {
    struct slab slabs[SLAB_SET_MAX];
    uint32_t count;
};
void slab_set_fini(struct slab_set *set);
// The slab for records of `size` bytes, or NULL when there are more than SLAB_SET_MAX sizes.
struct slab *slab_set_find(struct slab_set *set, size_t size);

#endif
