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
    uint32_t sq_mask, cq_mask;
    const struct io_uring_cqe *cqes;
    struct io_uring_buf_ring *buffers; // NULL: none were given
};

enum { RING_BUFFERS = 1024, RING_BUFFER_SIZE = 16384 };

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
    ring->cq_mask = params->cq_entries - 1;
    ring->cqes = ring_field(ring, params->cq_off.cqes);
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
    if (ring->buffers)
        munmap(ring->buffers, RING_BUFFERS * sizeof(struct io_uring_buf));
    free(ring);
}

void micro_ring_prepare(struct micro_ring *ring, uint32_t count)
{
    uint32_t tail = atomic_load_explicit(ring->sq_tail, memory_order_relaxed);
    for (uint32_t i = 0; i < count; i++) {
        struct io_uring_sqe *sqe = &ring->sqes[(tail + i) & ring->sq_mask];
        memset(sqe, 0, sizeof *sqe);
        sqe->opcode = IORING_OP_NOP;
        sqe->user_data = i;
    }
}

bool micro_ring_enter(struct micro_ring *ring, uint32_t count)
{
    uint32_t tail = atomic_load_explicit(ring->sq_tail, memory_order_relaxed);
    // The kernel must see the entries before it sees the tail.
    atomic_store_explicit(ring->sq_tail, tail + count, memory_order_release);
    return syscall(SYS_io_uring_enter, ring->fd, count, count, IORING_ENTER_GETEVENTS, NULL,
                   (size_t)0) >= 0;
}

bool micro_ring_reap(struct micro_ring *ring, uint32_t count)
{
    uint32_t seen = atomic_load_explicit(ring->cq_tail, memory_order_acquire);
    uint32_t head = atomic_load_explicit(ring->cq_head, memory_order_relaxed);
    bool right = seen - head == count;
    for (; head != seen; head++)
        right = right && ring->cqes[head & ring->cq_mask].res == 0;
    atomic_store_explicit(ring->cq_head, head, memory_order_release);
    return right;
}

bool micro_ring_nops(struct micro_ring *ring, uint32_t count)
{
    micro_ring_prepare(ring, count);
    return micro_ring_enter(ring, count) && micro_ring_reap(ring, count);
}

bool micro_ring_give_buffers(struct micro_ring *ring)
{
    size_t size = RING_BUFFERS * sizeof(struct io_uring_buf);
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return false;
    ring->buffers = memory;
    struct io_uring_buf_reg registration = { .ring_addr = (uintptr_t)memory,
                                             .ring_entries = RING_BUFFERS };
    return syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_PBUF_RING, &registration, 1) ==
           0;
}

bool micro_ring_recycle(struct micro_ring *ring, uint32_t count)
{
    uint16_t tail = ring->buffers->tail;
    for (uint32_t i = 0; i < count; i++) {
        // The tail lies where the first entry's reserved field is: only the others are written.
        struct io_uring_buf *buffer = &ring->buffers->bufs[(tail + i) % RING_BUFFERS];
        buffer->addr = (uintptr_t)ring;
        buffer->len = RING_BUFFER_SIZE;
        buffer->bid = (uint16_t)i;
    }
    atomic_store_explicit((_Atomic uint16_t *)&ring->buffers->tail, (uint16_t)(tail + count),
                          memory_order_release);
    return true;
}
