// See hosts.h. Linear probing; a deletion moves later entries of the run back, so there are no
// tombstones and a lookup ends at the first free entry.
#include "hosts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

struct host {
    unsigned char key[16]; // IPv6, or IPv4 mapped into it; all zero for unix peers
    uint32_t scope;        // of a link-local address
    uint32_t count;        // 0: the entry is free
};

int hosts_init(struct hosts *hosts, uint32_t hosts_max, uint32_t count_max)
{
    uint32_t entries = 16;
    while (entries < 2 * hosts_max)
        entries *= 2;
    *hosts = (struct hosts){ .mask = entries - 1, .count_max = count_max };
    // UNTESTED: getrandom of a few bytes does not fail
    if (getrandom(&hosts->seed, sizeof hosts->seed, 0) != sizeof hosts->seed)
        return -EIO;
    hosts->table = calloc(entries, sizeof *hosts->table);
    // UNTESTED: the walks start servers without a limit per host
    if (!hosts->table)
        return -ENOMEM;
    pthread_mutex_init(&hosts->mutex, NULL);
    return 0;
}

void hosts_fini(struct hosts *hosts)
{
    if (!hosts->table)
        return;
    pthread_mutex_destroy(&hosts->mutex);
    free(hosts->table);
    hosts->table = NULL;
}

static struct host hosts_key(const struct weir_address *address)
{
    struct host host = { .count = 1 };
    if (address->any.sa_family == AF_INET6) {
        memcpy(host.key, &address->in6.sin6_addr, sizeof host.key);
        host.scope = address->in6.sin6_scope_id;
    } else if (address->any.sa_family == AF_INET) {
        memset(host.key + 10, 0xff, 2);
        memcpy(host.key + 12, &address->in.sin_addr, 4);
    }
    return host;
}

static bool hosts_same(const struct host *a, const struct host *b)
{
    return !memcmp(a->key, b->key, sizeof a->key) && a->scope == b->scope;
}

static uint32_t hosts_home(const struct hosts *hosts, const struct host *host)
{
    uint64_t words[2], hash = hosts->seed ^ host->scope;
    memcpy(words, host->key, sizeof words);
    for (int i = 0; i < 2; i++) {
        hash = (hash ^ words[i]) * 0x9e3779b97f4a7c15ULL;
        hash ^= hash >> 32;
    }
    hash *= hosts->seed | 1;
    return (uint32_t)(hash >> 32) & hosts->mask;
}

// The entry of the host, or the free one where it belongs.
static uint32_t hosts_find(const struct hosts *hosts, const struct host *key)
{
    uint32_t i = hosts_home(hosts, key);
    while (hosts->table[i].count && !hosts_same(&hosts->table[i], key))
        i = (i + 1) & hosts->mask;
    return i;
}

static void hosts_remove(struct hosts *hosts, uint32_t hole)
{
    for (uint32_t i = (hole + 1) & hosts->mask; hosts->table[i].count; i = (i + 1) & hosts->mask) {
        uint32_t home = hosts_home(hosts, &hosts->table[i]);
        // An entry may move back to the hole unless its home lies behind the hole.
        if (((i - home) & hosts->mask) < ((i - hole) & hosts->mask))
            continue;
        hosts->table[hole] = hosts->table[i];
        hole = i;
    }
    hosts->table[hole].count = 0;
}

bool hosts_take(struct hosts *hosts, const struct weir_address *address)
{
    struct host key = hosts_key(address);
    pthread_mutex_lock(&hosts->mutex);
    struct host *host = &hosts->table[hosts_find(hosts, &key)];
    bool taken = true;
    if (!host->count)
        *host = key;
    else if (host->count < hosts->count_max)
        host->count++;
    else
        taken = false;
    pthread_mutex_unlock(&hosts->mutex);
    return taken;
}

void hosts_give(struct hosts *hosts, const struct weir_address *address)
{
    struct host key = hosts_key(address);
    pthread_mutex_lock(&hosts->mutex);
    uint32_t index = hosts_find(hosts, &key);
    if (hosts->table[index].count && --hosts->table[index].count == 0)
        hosts_remove(hosts, index);
    pthread_mutex_unlock(&hosts->mutex);
}
