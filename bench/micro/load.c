// What the load generator spends on each reply.
#include <stdlib.h>
#include <string.h>

#include <histogram.h>
#include <payload.h>

#include "micro.h"

struct micro_load {
    struct histogram histogram;
    struct payload payload;
    size_t size;
    uint64_t value_ns;
};

struct micro_load *micro_load_create(size_t size)
{
    struct micro_load *load = calloc(1, sizeof *load);
    if (!load)
        return NULL;
    histogram_init(&load->histogram);
    load->size = size;
    load->value_ns = 1;
    if (payload_init(&load->payload, 1, size, 1)) {
        free(load);
        return NULL;
    }
    return load;
}

void micro_load_destroy(struct micro_load *load)
{
    if (!load)
        return;
    payload_fini(&load->payload);
    free(load);
}

void micro_load_record(struct micro_load *load)
{
    // Latencies from a microsecond to a millisecond, in an order that no predictor learns.
    load->value_ns = load->value_ns * UINT64_C(6364136223846793005) + 1442695040888963407u;
    histogram_record(&load->histogram, 1000 + (load->value_ns >> 44));
}

bool micro_load_compare(const struct micro_load *load)
{
    return payload_matches(&load->payload, 0, load->payload.region, load->size);
}
