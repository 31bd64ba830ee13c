// See lookup.h. Paths are resolved by the kernel: RESOLVE_BENEATH refuses every way out of the root
// (absolute names, "..", symbolic links), whatever happens to the tree meanwhile.
#include "lookup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { LOOKUP_TRIES = 8 };

// Preferred first. A sibling is named like the file with the ending behind it.
static const struct {
    enum http_coding coding;
    const char *ending;
} lookup_siblings[] = {
    { CODING_ZSTD, ".zst" },
    { CODING_BROTLI, ".br" },
    { CODING_GZIP, ".gz" },
};

// --- Accept-Encoding -----------------------------------------------------------------------------

static unsigned lookup_coding_bits(struct http_text name)
{
    static const struct {
        const char *name;
        unsigned bits;
    } rows[] = {
        { "gzip", 1U << CODING_GZIP },
        { "x-gzip", 1U << CODING_GZIP },
        { "br", 1U << CODING_BROTLI },
        { "zstd", 1U << CODING_ZSTD },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (http_text_is_word(name, rows[i].name))
            return rows[i].bits;
    }
    return 0;
}

unsigned http_codings_accepted(const struct http_request *request)
{
    const unsigned all = 1U << CODING_GZIP | 1U << CODING_BROTLI | 1U << CODING_ZSTD;
    unsigned accepted = 0, named = 0;
    bool others = false;
    struct http_text list, element;
    size_t at = 0;
    if (!http_request_has(request, FIELD_ACCEPT_ENCODING))
        return 0;
    while (http_request_next(request, FIELD_ACCEPT_ENCODING, &at, &list)) {
        while (http_text_next_element(&list, &element)) {
            bool refused = !http_text_cut_weight(&element);
            if (http_text_is(element, "*"))
                others = !refused;
            unsigned bits = lookup_coding_bits(element);
            named |= bits;
            if (!refused)
                accepted |= bits;
        }
    }
    return others ? accepted | (all & ~named) : accepted;
}

// --- Opening -------------------------------------------------------------------------------------

static int lookup_open(const struct http_lookup *lookup, const char *path, uint64_t flags)
{
    struct open_how how = {
        .flags = flags | O_CLOEXEC | O_NOCTTY,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };
    if (lookup->cached_only)
        how.resolve |= RESOLVE_CACHED;
    for (int i = 0; i < LOOKUP_TRIES; i++) {
        long fd = syscall(SYS_openat2, lookup->root, path, &how, sizeof how);
        if (fd >= 0)
            return (int)fd;
        // A rename elsewhere can make the kernel unsure about "..": it asks to try again.
        if (errno != EAGAIN || lookup->cached_only)
            return -errno;
    }
    return -ENOENT; // UNTESTED: needs a rename at each of many tries
}

// Non-blocking: a FIFO must not hold up whoever opens it.
static int lookup_open_file(const struct http_lookup *lookup, const char *path,
                            struct stat *ret_status)
{
    int fd = lookup_open(lookup, path, O_RDONLY | O_NONBLOCK);
    if (fd < 0)
        return fd;
    if (fstat(fd, ret_status) == 0)
        return fd;
    int error = -errno;
    close(fd);
    return error;
}

static void lookup_refuse(struct http_lookup *lookup, int error)
{
    lookup->kind = LOOKUP_REFUSED;
    switch (-error) {
    case EACCES:
    case EPERM:
        lookup->status = 403;
        break;
    case ENOENT:
    case ENOTDIR:
    case ELOOP:
    case EXDEV: // a way out of the root
    case ENAMETOOLONG:
    case EINVAL:
    case ENXIO: // a socket
        lookup->status = 404;
        break;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
        lookup->status = 503;
        break;
    default:
        lookup->status = 500;
    }
}

static void lookup_identify(struct http_lookup *lookup, const struct stat *status,
                            enum http_coding coding, bool varies)
{
    lookup->identity = (struct lookup_identity){
        .device = status->st_dev,
        .inode = status->st_ino,
        .size = status->st_size,
        .modified = status->st_mtim,
        .changed = status->st_ctim,
        .coding = coding,
        .varies = varies,
    };
}

static bool lookup_is_older(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
}

// Exchanges the open file for the best precompressed sibling that the client takes and that is not
// older. -EAGAIN, or the descriptor that stays open.
static int lookup_sibling(struct http_lookup *lookup, int fd, const struct stat *plain)
{
    struct stat status, best_status = *plain;
    enum http_coding coding = CODING_IDENTITY;
    bool varies = false;
    size_t size = strlen(lookup->path);
    int best = fd;
    for (size_t i = 0; i < sizeof lookup_siblings / sizeof lookup_siblings[0]; i++) {
        // UNTESTED: needs a path of 4,091 bytes that is there
        if (size + 5 > HTTP_PATH_MAX)
            break;
        strcpy(lookup->path + size, lookup_siblings[i].ending);
        int other = lookup_open_file(lookup, lookup->path, &status);
        lookup->path[size] = '\0';
        if (other == -EAGAIN) {
            // UNTESTED: needs one coding in memory and the next one not
            if (best != fd)
                close(best);
            return -EAGAIN;
        }
        if (other < 0)
            continue;
        bool fits = S_ISREG(status.st_mode) && !lookup_is_older(&status.st_mtim, &plain->st_mtim);
        varies |= fits;
        if (!fits || coding || !(lookup->codings >> lookup_siblings[i].coding & 1)) {
            close(other);
            continue;
        }
        best = other;
        best_status = status;
        coding = lookup_siblings[i].coding;
    }
    lookup_identify(lookup, &best_status, coding, varies);
    if (best != fd)
        close(fd);
    return best;
}

// --- Reading -------------------------------------------------------------------------------------

// Reads the whole content; 0, -EAGAIN, or another error. A file that shrinks meanwhile is -EIO.
static int lookup_read(struct http_lookup *lookup)
{
    size_t size = (size_t)lookup->identity.size, at = 0;
    char *memory = malloc(LOOKUP_HEAD_ROOM + size);
    if (!memory)
        return -ENOMEM;
    while (at < size) {
        struct iovec part = { memory + LOOKUP_HEAD_ROOM + at, size - at };
        ssize_t count =
            preadv2(lookup->fd, &part, 1, (off_t)at, lookup->cached_only ? RWF_NOWAIT : 0);
        if (count <= 0) {
            int error = count ? -errno : -EIO;
            free(memory);
            bool waits = error == -EAGAIN || error == -EOPNOTSUPP; // of RWF_NOWAIT
            return waits && lookup->cached_only ? -EAGAIN : -EIO;
        }
        at += (size_t)count;
    }
    lookup->memory = memory;
    return 0;
}

static bool lookup_is_same(const struct lookup_identity *a, const struct lookup_identity *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->coding == b->coding && a->varies == b->varies &&
           memcmp(&a->modified, &b->modified, sizeof a->modified) == 0 &&
           memcmp(&a->changed, &b->changed, sizeof a->changed) == 0;
}

static int lookup_regular(struct http_lookup *lookup, int fd, const struct stat *plain)
{
    int chosen = lookup_sibling(lookup, fd, plain);
    if (chosen < 0) {
        close(fd);
        return chosen;
    }
    lookup->fd = chosen;
    lookup->kind = LOOKUP_FILE;
    lookup->unchanged = lookup->revalidates && lookup_is_same(&lookup->known, &lookup->identity);
    if (lookup->unchanged || lookup->head_only || lookup->identity.size > LOOKUP_CONTENT_MAX)
        return 0;
    int error = lookup_read(lookup);
    close(chosen);
    lookup->fd = -1;
    return error;
}

// --- Directories ---------------------------------------------------------------------------------

static int lookup_directory(struct http_lookup *lookup)
{
    struct stat status;
    size_t size = strlen(lookup->path), index_size = strlen(lookup->index);
    if (size + index_size >= HTTP_PATH_MAX)
        return -ENAMETOOLONG;
    memcpy(lookup->path + size, lookup->index, index_size + 1);
    int fd = lookup_open_file(lookup, lookup->path, &status);
    if (fd >= 0 && S_ISREG(status.st_mode))
        return lookup_regular(lookup, fd, &status);
    if (fd >= 0)
        close(fd);
    lookup->path[size] = '\0';
    if (fd < 0 && fd != -ENOENT)
        return fd;
    fd = lookup_open(lookup, size ? lookup->path : ".", O_RDONLY | O_DIRECTORY);
    if (fd < 0)
        return fd;
    if (!lookup->listing) {
        close(fd);
        return -EACCES;
    }
    lookup->kind = LOOKUP_LISTING;
    lookup->fd = fd;
    return 0;
}

static int lookup_find(struct http_lookup *lookup)
{
    struct stat status;
    size_t size = strlen(lookup->path);
    if (!size || lookup->path[size - 1] == '/')
        return lookup_directory(lookup);
    int fd = lookup_open_file(lookup, lookup->path, &status);
    if (fd < 0)
        return fd;
    if (S_ISREG(status.st_mode))
        return lookup_regular(lookup, fd, &status);
    close(fd);
    if (!S_ISDIR(status.st_mode))
        return -EACCES;
    lookup->kind = LOOKUP_REDIRECT;
    return 0;
}

int http_lookup_run(struct http_lookup *lookup)
{
    lookup->fd = -1;
    lookup->memory = NULL;
    lookup->unchanged = false;
    size_t size = strlen(lookup->path);
    int error = lookup_find(lookup);
    if (error == -EAGAIN && lookup->cached_only) {
        http_lookup_release(lookup);
        lookup->path[size] = '\0'; // without the index
        return -EAGAIN;
    }
    if (error) {
        http_lookup_release(lookup);
        lookup_refuse(lookup, error);
    }
    return 0;
}

void http_lookup_release(struct http_lookup *lookup)
{
    if (lookup->fd >= 0)
        close(lookup->fd);
    free(lookup->memory);
    lookup->fd = -1;
    lookup->memory = NULL;
}
