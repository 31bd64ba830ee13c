#include "shortage.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>

static struct {
    uint64_t first, count, seen;
    bool struck;
} shortage;

void shortage_start(uint64_t first, uint64_t count)
{
    shortage.first = first;
    shortage.count = count;
    shortage.seen = 0;
    shortage.struck = false;
}

uint64_t shortage_stop(void)
{
    shortage.first = 0;
    return shortage.seen;
}

bool shortage_struck(void)
{
    return shortage.struck;
}

static bool shortage_strikes(void)
{
    uint64_t number = ++shortage.seen;
    if (!shortage.first || number < shortage.first || number - shortage.first >= shortage.count)
        return false;
    shortage.struck = true;
    errno = ENOMEM;
    return true;
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
    return shortage_strikes() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return shortage_strikes() ? NULL : __real_calloc(count, size);
}

void *__wrap_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    return shortage_strikes() ? MAP_FAILED
                              : __real_mmap(address, size, protection, flags, fd, offset);
}
