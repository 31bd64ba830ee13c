// The shared region of pattern bytes.
#include "payload.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "random.h"

enum { PAYLOAD_CHUNK_MAX = 256 * 1024, PAYLOAD_SMALL_MAX = 4096 };

// Small messages use a pattern that fits the first-level cache; larger ones a period beyond the
// page and buffer sizes that servers use. A size that is a multiple takes the next prime.
static uint32_t payload_period(size_t size)
{
    static const uint32_t primes[2][2] = { { 4093, 4091 }, { 65521, 65519 } };
    const uint32_t *pair = primes[size > PAYLOAD_SMALL_MAX];
    return size % pair[0] ? pair[0] : pair[1];
}

int payload_init(struct payload *payload, uint64_t seed, size_t size, uint32_t depth)
{
    uint32_t period = payload_period(size);
    size_t chunk = size >= PAYLOAD_CHUNK_MAX / depth ? PAYLOAD_CHUNK_MAX : size * depth;
    char *region = malloc(period + chunk);
    if (!region)
        return -ENOMEM;
    for (uint32_t i = 0; i < period; i++)
        region[i] = (char)random_next(&seed);
    for (size_t i = period; i < period + chunk; i++)
        region[i] = region[i - period];
    *payload = (struct payload){ region, period, (uint32_t)chunk };
    return 0;
}

int payload_init_repeated(struct payload *payload, const char *request, size_t size, uint32_t depth)
{
    size_t copies = PAYLOAD_CHUNK_MAX / size < depth ? PAYLOAD_CHUNK_MAX / size : depth;
    copies = copies ? copies : 1;
    char *region = malloc((copies + 1) * size);
    if (!region)
        return -ENOMEM;
    for (size_t i = 0; i <= copies; i++)
        memcpy(region + i * size, request, size);
    *payload = (struct payload){ region, (uint32_t)size, (uint32_t)(copies * size) };
    return 0;
}

void payload_fini(struct payload *payload)
{
    free(payload->region);
    payload->region = NULL;
}

uint32_t payload_start(const struct payload *payload, uint64_t identity)
{
    return (uint32_t)(random_next(&identity) % payload->period);
}

bool payload_matches(const struct payload *payload, uint32_t offset, const char *data, size_t size)
{
    while (size > payload->chunk) {
        if (memcmp(data, payload->region + offset, payload->chunk) != 0)
            return false;
        data += payload->chunk;
        size -= payload->chunk;
        offset = payload_advance(payload, offset, payload->chunk);
    }
    return memcmp(data, payload->region + offset, size) == 0;
}
