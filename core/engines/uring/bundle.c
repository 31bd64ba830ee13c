// A completion of several buffers (a bundle) becomes one completion for each of them.
//
// It names its first buffer; the others follow that one in the order in which all were put into the
// buffer ring. So the place of each is noted when it is put there, and the ring's entries are read
// again: they name the buffers, and tell how long each is. That may be less than a buffer's size:
// kernels have written a smaller one into an entry for which there was less credit, or there were
// fewer bytes, and it stays there if that receive then brings nothing. (6.18.44 does not. The
// simulated kernel does.)
//
// An entry is still as it was when its completion is read: its place is used again only when as
// many buffers as there are were put into the ring behind it. Completions are read in the order in
// which they took their buffers, so none of the other buffers comes by twice before that, and the
// bundle's own are not free.
#include "uring.h"

unsigned uring_bundle_spread(struct weir_loop *loop, unsigned count)
{
    struct uring *uring = uring_of(loop);
    struct uring_bundle *bundle = &uring->bundle;
    const unsigned mask = loop->pool.count - 1;
    while (bundle->left && count < LOOP_COMPLETIONS_MAX) {
        const struct io_uring_buf *entry = &uring->buffer_ring->bufs[bundle->place++ & mask];
        struct completion *completion = &loop->completions[count++];
        uint32_t size = bundle->left < entry->len ? bundle->left : entry->len;
        *completion = bundle->whole;
        completion->buffer = entry->bid;
        completion->result = (int32_t)size;
        bundle->left -= size;
        if (bundle->left)
            completion->flags |= COMPLETION_MORE;
    }
    return count;
}

unsigned uring_bundle_begin(struct weir_loop *loop, unsigned count)
{
    struct uring *uring = uring_of(loop);
    const struct completion *whole = &loop->completions[count];
    uring->bundle = (struct uring_bundle){ .whole = *whole,
                                           .left = (uint32_t)whole->result,
                                           .place = uring->places[whole->buffer] };
    unsigned end = uring_bundle_spread(loop, count);
    stats_add(loop, received_bundles, end > count + 1);
    return end;
}
