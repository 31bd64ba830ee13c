// The ring of provided buffers: the loop writes its tail, the kernel keeps its own head.
#include "kernel.h"

struct io_uring_buf *sim_buffer_next(const struct sim_ring *ring)
{
    if (!ring->buffers || ring->buffers->tail == ring->buffers_head)
        return NULL;
    return &ring->buffers->bufs[ring->buffers_head & (ring->buffers_count - 1)];
}

uint32_t sim_buffer_take(struct sim_ring *ring)
{
    uint32_t index = sim_buffer_next(ring)->bid;
    ring->buffers_head++;
    return IORING_CQE_F_BUFFER | index << IORING_CQE_BUFFER_SHIFT;
}
