#include "shortage.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>

static struct {
    uint64_t first, count;
    _Atomic uint64_t seen;
    _Atomic(const char *) struck; // the first function that failed
} shortage;

static _Thread_local bool shortage_spared;

void shortage_start(uint64_t first, uint64_t count)
{
    shortage.first = first;
    shortage.count = count;
    atomic_store(&shortage.seen, 0);
    atomic_store(&shortage.struck, NULL);
}

uint64_t shortage_stop(void)
{
    shortage.first = 0;
    return atomic_load(&shortage.seen);
}

bool shortage_struck(void)
{
    return atomic_load(&shortage.struck) != NULL;
}

void shortage_spare(bool spare)
{
    shortage_spared = spare;
}

const char *shortage_function(void)
{
    return atomic_load(&shortage.struck);
}

bool shortage_strikes(const char *function)
{
    if (shortage_spared)
        return false;
    uint64_t number = atomic_fetch_add(&shortage.seen, 1) + 1;
    if (!shortage.first || number < shortage.first || number - shortage.first >= shortage.count)
        return false;
    const char *none = NULL;
    atomic_compare_exchange_strong(&shortage.struck, &none, function);
    return true;
}

static bool shortage_of_memory(const char *function)
{
    bool strikes = shortage_strikes(function);
    if (strikes)
        errno = ENOMEM;
    return strikes;
}

// The linker gives these names: __real_ is the function that __wrap_ stands for.
void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__real_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset);

void *__wrap_malloc(size_t size)
{
    return shortage_of_memory("malloc") ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return shortage_of_memory("calloc") ? NULL : __real_calloc(count, size);
}

void *__wrap_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    return shortage_of_memory("mmap") ? MAP_FAILED
                                      : __real_mmap(address, size, protection, flags, fd, offset);
}
