// What the kernel has and the headers of liburing 2.9 have no name for.
#ifndef WEIR_UAPI_H
#define WEIR_UAPI_H

#include <liburing.h>

// Caps of a multishot receive (6.17): `each` bounds one completion; `total` ends the request at the
// receive that reaches it, so up to one buffer more may come. 0: no cap. Older kernels answer any
// cap with -EINVAL: there, `optlen` is the file_index of other requests.
static inline void uapi_receive_caps(struct io_uring_sqe *sqe, uint32_t each, uint32_t total)
{
    sqe->len = each;
    sqe->optlen = total;
}

#endif
