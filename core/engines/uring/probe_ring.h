// Short tests of what this kernel's io_uring can do. Each makes a ring of its own and leaves
// nothing.
//
// A probe returns 0, or -errno; then ret_detail says why, and what weir does instead. Where the
// kernel's feature bits do not tell, the probe tries the feature on a socket.
#ifndef WEIR_PROBE_RING_H
#define WEIR_PROBE_RING_H

#include <stddef.h>

// Whether a ring can be made at all: 0, or what io_uring_setup(2) answered.
int probe_ring(void);

int probe_buffer_ring(char *ret_detail, size_t size);
int probe_defer_taskrun(char *ret_detail, size_t size);
int probe_direct(char *ret_detail, size_t size);
int probe_min_wait(char *ret_detail, size_t size);
int probe_sendfile(char *ret_detail, size_t size);
int probe_receive_multishot(char *ret_detail, size_t size);
int probe_receive_bundle(char *ret_detail, size_t size);

#endif
