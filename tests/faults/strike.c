#include "strike.h"

#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// What nobody arms stands in where there is no page. As the pointer is not zero at the start, it is
// no memory that the witness of a coverage build shares with the program
// (tests/coverage/witness.c): the calls by which that writes after the program's end would count,
// and fail, for the next one.
static struct strike_page strike_none;
static struct strike_page *strike_page = &strike_none;

// Before main(): a walk through a server's start counts from its first call on.
__attribute__((constructor)) static void strike_map(void)
{
    const char *path = getenv("WEIR_STRIKE");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *page = mmap(NULL, sizeof(struct strike_page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (page != MAP_FAILED)
        strike_page = page;
}

bool strike_is_uncached(void)
{
    return strike_page->uncached;
}

static struct strike_kind *strike_kind_find(struct strike_page *page, const char *name)
{
    struct strike_kind *kind = page->kinds;
    while (kind->name[0] && strcmp(kind->name, name) != 0)
        kind++;
    assert(kind < page->kinds + STRIKE_KINDS_MAX);
    if (!kind->name[0])
        strcpy(kind->name, name);
    return kind;
}

static int strike_count(struct strike_page *page, const struct strike *strike)
{
    struct strike_kind *kind = strike_kind_find(page, strike->name);
    if (++kind->count != page->number || strcmp(page->name, strike->name) != 0)
        return 0;
    page->choices = 0;
    while (page->choices < STRIKE_ERRORS_MAX && strike->errors[page->choices])
        page->choices++;
    page->error = strike->errors[page->choice % page->choices];
    return page->error;
}

int strike_error(const struct strike *strike)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    if (!atomic_load(&strike_page->armed))
        return 0;
    pthread_mutex_lock(&lock);
    int error = strike_count(strike_page, strike);
    pthread_mutex_unlock(&lock);
    return error;
}
