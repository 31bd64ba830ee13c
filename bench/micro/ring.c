// A minimal ring: what a batch of operations costs before any engine has touched it.
#include <linux/io_uring.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "micro.h"

struct micro_ring {
    int fd;
    char *rings; // both queues lie in one mapping
    size_t rings_size;
    struct io_uring_sqe *sqes;
    size_t sqes_size;
    _Atomic uint32_t *sq_tail, *cq_head, *cq_tail;
    uint32_t sq_mask;
};

static void *ring_map(int fd, size_t size, off_t offset)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, offset);
    return memory == MAP_FAILED ? NULL : memory;
}

static void *ring_field(const struct micro_ring *ring, uint32_t offset)
{
    return ring->rings + offset;
}

static bool ring_set_up(struct micro_ring *ring, const struct io_uring_params *params)
{
    ring->rings_size = params->sq_off.array + params->sq_entries * sizeof(uint32_t);
    size_t cq_size = params->cq_off.cqes + params->cq_entries * sizeof(struct io_uring_cqe);
    if (ring->rings_size < cq_size)
        ring->rings_size = cq_size;
    ring->sqes_size = params->sq_entries * sizeof(struct io_uring_sqe);
    ring->rings = ring_map(ring->fd, ring->rings_size, IORING_OFF_SQ_RING);
    ring->sqes = ring_map(ring->fd, ring->sqes_size, IORING_OFF_SQES);
    if (!ring->rings || !ring->sqes)
        return false;
    ring->sq_tail = ring_field(ring, params->sq_off.tail);
    ring->cq_head = ring_field(ring, params->cq_off.head);
    ring->cq_tail = ring_field(ring, params->cq_off.tail);
    ring->sq_mask = params->sq_entries - 1;
    uint32_t *array = ring_field(ring, params->sq_off.array);
    for (uint32_t i = 0; i < params->sq_entries; i++)
        array[i] = i;
    return true;
}

struct micro_ring *micro_ring_create(uint32_t entries)
{
    struct micro_ring *ring = calloc(1, sizeof *ring);
    if (!ring)
        return NULL;
    struct io_uring_params params = { .flags =
                                          IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN };
    ring->fd = (int)syscall(SYS_io_uring_setup, entries, &params);
    if (ring->fd >= 0 && (params.features & IORING_FEAT_SINGLE_MMAP) && ring_set_up(ring, &params))
        return ring;
    micro_ring_destroy(ring);
    return NULL;
}

void micro_ring_destroy(struct micro_ring *ring)
{
    if (!ring)
        return;
    if (ring->sqes)
        munmap(ring->sqes, ring->sqes_size);
    if (ring->rings)
        munmap(ring->rings, ring->rings_size);
    if (ring->fd >= 0)
        close(ring->fd);
    free(ring);
}

bool micro_ring_nops(struct micro_ring *ring, uint32_t count)
{
    uint32_t tail = atomic_load_explicit(ring->sq_tail, memory_order_relaxed);
    for (uint32_t i = 0; i < count; i++) {
        struct io_uring_sqe *sqe = &ring->sqes[(tail + i) & ring->sq_mask];
        memset(sqe, 0, sizeof *sqe);
        sqe->opcode = IORING_OP_NOP;
    }
    // The kernel must see the entries before it sees the tail.
    atomic_store_explicit(ring->sq_tail, tail + count, memory_order_release);
    long done = syscall(SYS_io_uring_enter, ring->fd, count, count, IORING_ENTER_GETEVENTS, NULL,
                        (size_t)0);
    uint32_t seen = atomic_load_explicit(ring->cq_tail, memory_order_acquire);
    bool whole =
        seen - atomic_load_explicit(ring->cq_head, memory_order_relaxed) == count && done >= 0;
    atomic_store_explicit(ring->cq_head, seen, memory_order_release);
    return whole;
}
