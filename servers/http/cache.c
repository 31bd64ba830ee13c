// See cache.h.
#include "cache.h"

#include <stdlib.h>
#include <sys/random.h>

#include "mime.h"

void http_cache_budget_init(struct http_cache_budget *budget, uint64_t max)
{
    *budget = (struct http_cache_budget){ .max = max };
    // Without entropy, early at boot, an address has to do.
    // UNTESTED: entropy is there when tests run
    if (getrandom(&budget->seed, sizeof budget->seed, GRND_NONBLOCK) != sizeof budget->seed)
        budget->seed = (uint64_t)(uintptr_t)budget;
}

void http_cache_init(struct http_cache *cache, struct http_cache_budget *budget)
{
    memset(cache, 0, sizeof *cache);
    cache->budget = budget;
}

void http_cache_fini(struct http_cache *cache)
{
    while (cache->oldest)
        http_cache_remove(cache, cache->oldest);
}

// Multiply and fold, eight bytes at a time.
static uint64_t cache_hash(const struct http_cache *cache, struct http_text path, unsigned codings)
{
    uint64_t hash = cache->budget->seed ^ codings, word;
    const char *at = path.data;
    size_t left = path.size;
    for (; left >= 8; left -= 8, at += 8) {
        memcpy(&word, at, 8);
        hash = (hash ^ word) * 0x9e3779b97f4a7c15ULL;
        hash ^= hash >> 29;
    }
    word = left;
    for (; left; left--, at++)
        word = word << 8 | (unsigned char)*at;
    hash = (hash ^ word) * 0x9e3779b97f4a7c15ULL;
    return hash ^ hash >> 32;
}

static void cache_unlink(struct http_cache *cache, struct http_entry *entry)
{
    *(entry->newer ? &entry->newer->older : &cache->newest) = entry->older;
    *(entry->older ? &entry->older->newer : &cache->oldest) = entry->newer;
}

static void cache_link(struct http_cache *cache, struct http_entry *entry)
{
    entry->newer = NULL;
    entry->older = cache->newest;
    *(cache->newest ? &cache->newest->newer : &cache->oldest) = entry;
    cache->newest = entry;
}

static struct http_entry *cache_bucket_find(struct http_cache *cache, struct http_text path,
                                            unsigned codings, uint64_t hash)
{
    struct http_entry *entry = cache->buckets[hash % CACHE_BUCKETS];
    for (; entry; entry = entry->next) {
        if (entry->hash == hash && entry->codings == codings && entry->key_size == path.size &&
            memcmp(entry->key, path.data, path.size) == 0)
            break;
    }
    return entry;
}

struct http_entry *http_cache_find(struct http_cache *cache, struct http_text path,
                                   unsigned codings)
{
    struct http_entry *entry =
        cache_bucket_find(cache, path, codings, cache_hash(cache, path, codings));
    if (entry && entry != cache->newest) {
        cache_unlink(cache, entry);
        cache_link(cache, entry);
    }
    return entry;
}

void http_cache_remove(struct http_cache *cache, struct http_entry *entry)
{
    struct http_entry **link = &cache->buckets[entry->hash % CACHE_BUCKETS];
    while (*link != entry)
        link = &(*link)->next;
    *link = entry->next;
    cache_unlink(cache, entry);
    atomic_fetch_sub_explicit(&cache->budget->used, entry->charge, memory_order_relaxed);
    free(entry->memory);
    free(entry);
}

// Takes the charge from the budget; other caches may hold what this one cannot free.
static bool cache_charge(struct http_cache *cache, uint64_t charge)
{
    struct http_cache_budget *budget = cache->budget;
    if (charge > budget->max / 4)
        return false;
    for (;;) {
        uint64_t used =
            atomic_fetch_add_explicit(&budget->used, charge, memory_order_relaxed) + charge;
        if (used <= budget->max)
            return true;
        atomic_fetch_sub_explicit(&budget->used, charge, memory_order_relaxed);
        // UNTESTED: another loop has all of the budget at that moment
        if (!cache->oldest)
            return false;
        http_cache_remove(cache, cache->oldest);
    }
}

// Writes the head of a plain GET so that it ends where the content begins.
static void cache_write_head(struct http_entry *entry, const char date[HTTP_DATE_SIZE])
{
    char head[HTTP_HEAD_MAX];
    size_t date_offset;
    const struct http_answer answer = {
        .status = 200,
        .type = entry->type,
        .length = entry->validators.size,
        .validators = &entry->validators,
        .coding = entry->identity.coding,
        .varies = entry->identity.varies,
        .ranges = !entry->identity.coding,
    };
    entry->head_size = http_answer_write(&answer, date, head, &date_offset);
    char *place = entry->memory + LOOKUP_HEAD_ROOM - entry->head_size;
    memcpy(place, head, entry->head_size);
    entry->head = place;
    entry->date = place + date_offset;
}

struct http_entry *http_cache_add(struct http_cache *cache, struct http_text path,
                                  struct http_lookup *lookup, const char date[HTTP_DATE_SIZE],
                                  uint64_t now_ns)
{
    uint64_t hash = cache_hash(cache, path, lookup->codings);
    struct http_entry *old = cache_bucket_find(cache, path, lookup->codings, hash);
    if (old)
        http_cache_remove(cache, old);
    uint64_t charge = sizeof *old + path.size + LOOKUP_HEAD_ROOM + (uint64_t)lookup->identity.size;
    if (!cache_charge(cache, charge))
        return NULL;
    struct http_entry *entry = malloc(sizeof *entry + path.size);
    if (!entry) {
        atomic_fetch_sub_explicit(&cache->budget->used, charge, memory_order_relaxed);
        return NULL;
    }
    *entry = (struct http_entry){
        .next = cache->buckets[hash % CACHE_BUCKETS],
        .hash = hash,
        .checked_ns = now_ns,
        .charge = charge,
        .codings = lookup->codings,
        .identity = lookup->identity,
        .type = http_mime_find(http_text_of(lookup->path)),
        .memory = lookup->memory,
        .key_size = path.size,
    };
    lookup->memory = NULL;
    memcpy(entry->key, path.data, path.size);
    entry->validators = (struct http_validators){
        .etag = http_etag_write(&lookup->identity.modified, (uint64_t)lookup->identity.size,
                                lookup->identity.coding, entry->etag),
        .modified = lookup->modified,
        .size = (uint64_t)lookup->identity.size,
    };
    cache_write_head(entry, date);
    cache->buckets[hash % CACHE_BUCKETS] = entry;
    cache_link(cache, entry);
    return entry;
}
