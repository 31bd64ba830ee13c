// Whole responses of small files, kept in memory for one loop at a time.
//
// An entry is the answer to a GET of one path by clients that take the same codings: a head whose
// date is renewed in place, and the content behind it, so that a hit is one copy into the stream.
// Entries never outlive CACHE_FRESH_NS without a look at the file. The least recently used goes
// first when the budget, which all caches of a server share, is used up.
#ifndef HTTP_CACHE_H
#define HTTP_CACHE_H

#include <stdatomic.h>

#include "lookup.h"

#define CACHE_FRESH_NS 1000000000ULL

enum { CACHE_BUCKETS = 4096 };

struct http_cache_budget {
    _Atomic uint64_t used; // any thread
    uint64_t max;
    uint64_t seed; // of the hashes: peers must not be able to fill one bucket
};

struct http_entry {
    struct http_entry *next; // in its bucket
    struct http_entry *newer, *older;
    uint64_t hash;
    uint64_t checked_ns; // of the last look at the file
    uint64_t charge;
    unsigned codings;
    struct lookup_identity identity;
    struct http_validators validators;
    char etag[HTTP_ETAG_SIZE];
    const char *type;
    char *memory;     // of a lookup
    const char *head; // in `memory`, ends where the content begins
    size_t head_size;
    char *date;       // in the head
    time_t date_time; // what it says
    size_t key_size;
    char key[];
};

struct http_cache {
    struct http_cache_budget *budget;
    struct http_entry *newest, *oldest;
    struct http_entry *buckets[CACHE_BUCKETS];
};

// Before the sandbox closes: loops may not ask for entropy.
void http_cache_budget_init(struct http_cache_budget *budget, uint64_t max);

void http_cache_init(struct http_cache *cache, struct http_cache_budget *budget);
void http_cache_fini(struct http_cache *cache);

// The entry, which becomes the newest, or NULL.
struct http_entry *http_cache_find(struct http_cache *cache, struct http_text path,
                                   unsigned codings);

// Keeps the content that a lookup has read, and takes its memory. NULL when it is too large, or
// memory is out: then the lookup keeps it. An older entry of the key goes.
struct http_entry *http_cache_add(struct http_cache *cache, struct http_text path,
                                  struct http_lookup *lookup, const char date[HTTP_DATE_SIZE],
                                  uint64_t now_ns);

void http_cache_remove(struct http_cache *cache, struct http_entry *entry);

static inline const char *http_entry_content(const struct http_entry *entry)
{
    return entry->head + entry->head_size;
}

#endif
