// What is sent, and the proof that it came back.
//
// The bytes of a connection are one seeded random pattern, repeated with a prime period that does
// not divide the size of a message: every message starts elsewhere in the pattern, so a lost,
// doubled, swapped or stale message does not compare equal. All connections send from one region of
// `period + chunk` bytes: from any offset under `period`, `chunk` bytes lie in one piece. The
// region is small enough to stay in the processor's cache, and sending from it copies nothing.
#ifndef LOAD_PAYLOAD_H
#define LOAD_PAYLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct payload {
    char *region;
    uint32_t period;
    uint32_t chunk; // bytes that may be sent or compared in one piece
};

// Makes the region for messages of `size` bytes, `depth` at once. -ENOMEM.
int payload_init(struct payload *payload, uint64_t seed, size_t size, uint32_t depth);
// Makes a region of copies of one request of `size` bytes, `depth` at once. -ENOMEM.
int payload_init_repeated(struct payload *payload, const char *request, size_t size,
                          uint32_t depth);
void payload_fini(struct payload *payload);

// Where a connection starts in the pattern: differs by its identity.
uint32_t payload_start(const struct payload *payload, uint64_t identity);

// The offset after `size` further bytes.
static inline uint32_t payload_advance(const struct payload *payload, uint32_t offset, size_t size)
{
    size_t next = offset + size;
    return (uint32_t)(next < payload->period ? next : next % payload->period);
}

// Whether the bytes are those of the pattern from `offset` on.
bool payload_matches(const struct payload *payload, uint32_t offset, const char *data, size_t size);

#endif
