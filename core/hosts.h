// Counts connections per peer host, for the limit per address. Touched only at accept and close.
#ifndef WEIR_HOSTS_H
#define WEIR_HOSTS_H

#include <pthread.h>

#include "weir.h"

struct host;

struct hosts {
    pthread_mutex_t mutex;
    struct host *table; // open addressing, a power of two of entries, at least half of them free
    uint32_t mask;
    uint32_t count_max; // per host
    uint64_t seed;      // peers must not choose where they collide
};

// `hosts_max` different hosts can be counted at once; each has at most `count_max` places.
int hosts_init(struct hosts *hosts, uint32_t hosts_max, uint32_t count_max);
void hosts_fini(struct hosts *hosts);
// Takes a place for the address's host; false when it has none left. Any thread.
bool hosts_take(struct hosts *hosts, const struct weir_address *address);
void hosts_give(struct hosts *hosts, const struct weir_address *address);

#endif
