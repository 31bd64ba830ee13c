// The ring of provided buffers: the loop writes its tail, the kernel keeps its own head.
#include "kernel.h"

static struct io_uring_buf *buffers_at(const struct sim_ring *ring, uint16_t place)
{
    return &ring->buffers->bufs[place & (ring->buffers_count - 1)];
}

static uint16_t buffers_there(const struct sim_ring *ring)
{
    return ring->buffers ? (uint16_t)(ring->buffers->tail - ring->buffers_head) : 0;
}

static struct iovec buffers_iovec(const struct io_uring_buf *buffer)
{
    return (struct iovec){ (void *)(uintptr_t)buffer->addr, buffer->len };
}

uint32_t sim_buffer_select(const struct sim_ring *ring, struct iovec *ret_iovec)
{
    if (!buffers_there(ring))
        return 0;
    *ret_iovec = buffers_iovec(buffers_at(ring, ring->buffers_head));
    return 1;
}

// io_ring_buffers_peek(): a first buffer that is longer than all that is wanted is cut in the ring
// itself, and stays so if nothing comes; a later one is left out.
uint32_t sim_buffer_select_bundle(const struct sim_ring *ring, size_t most,
                                  struct iovec *ret_iovecs)
{
    uint32_t there = buffers_there(ring), count = 0;
    while (count < there && count < SIM_BUNDLE_MAX && most) {
        struct io_uring_buf *buffer = buffers_at(ring, (uint16_t)(ring->buffers_head + count));
        if (buffer->len > most) {
            if (count)
                break;
            buffer->len = (uint32_t)most;
        }
        ret_iovecs[count++] = buffers_iovec(buffer);
        most -= buffer->len;
    }
    return count;
}

uint32_t sim_buffer_take(struct sim_ring *ring, uint32_t count)
{
    uint32_t index = buffers_at(ring, ring->buffers_head)->bid;
    ring->buffers_head = (uint16_t)(ring->buffers_head + count);
    return IORING_CQE_F_BUFFER | index << IORING_CQE_BUFFER_SHIFT;
}
