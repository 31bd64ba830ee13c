// See listing.h. Entries are collected in groups as large as the memory; a group is sorted, and
// then written. So a directory of ordinary size is sorted as a whole, and the largest costs no more
// memory.
#include "listing.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "date.h"

// Names and rows of a group share one span: rows grow from its begin, names from its end.
enum { LISTING_MEMORY = 2 * 1024 * 1024, LISTING_NAME_MAX = 255, LISTING_ROW_TEXT_MAX = 4096 };

struct listing_row {
    uint32_t name; // its offset
    bool directory;
    uint64_t size;
    time_t modified;
};

struct http_listing {
    int root;
    bool json;
    bool begun;    // the head was written
    bool named;    // and an entry
    bool writing;  // the group is complete and sorted
    bool read;     // no entry is left
    bool complete; // and none was lost by an error
    bool ended;    // the end is in the text
    int directory; // its descriptor, until the first step has made a stream of it
    DIR *stream;
    size_t count, at; // rows of the group, and the next to be written
    size_t names;     // offset of the last name
    size_t used;
    char path[4096]; // under the root
    char text[LISTING_TEXT_MAX];
    _Alignas(struct listing_row) char memory[LISTING_MEMORY];
};

// --- Escapes -------------------------------------------------------------------------------------

size_t http_listing_escape_url(struct http_text text, char *ret_text)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t used = 0;
    for (size_t i = 0; i < text.size; i++) {
        unsigned char byte = (unsigned char)text.data[i];
        bool letter = (byte | 32) >= 'a' && (byte | 32) <= 'z';
        bool digit = byte >= '0' && byte <= '9';
        if (letter || digit || (byte && strchr("-._~/", byte))) {
            ret_text[used++] = (char)byte;
            continue;
        }
        ret_text[used++] = '%';
        ret_text[used++] = digits[byte >> 4];
        ret_text[used++] = digits[byte & 15];
    }
    return used;
}

static size_t listing_put(char *place, const char *text)
{
    size_t size = strlen(text);
    memcpy(place, text, size);
    return size;
}

size_t http_listing_escape_html(struct http_text text, char *ret_text)
{
    size_t used = 0;
    for (size_t i = 0; i < text.size; i++) {
        char byte = text.data[i];
        if (byte == '&')
            used += listing_put(ret_text + used, "&amp;");
        else if (byte == '<')
            used += listing_put(ret_text + used, "&lt;");
        else if (byte == '>')
            used += listing_put(ret_text + used, "&gt;");
        else if (byte == '"')
            used += listing_put(ret_text + used, "&quot;");
        else if (byte == '\'')
            used += listing_put(ret_text + used, "&#39;");
        else
            ret_text[used++] = byte;
    }
    return used;
}

// The length of the UTF-8 sequence that the text begins with, 0 for anything else (RFC 3629).
static size_t listing_utf8(struct http_text text)
{
    const unsigned char *at = (const unsigned char *)text.data;
    size_t size = at[0] < 0x80 ? 1 : at[0] < 0xc2 ? 0 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;
    if (!size || at[0] > 0xf4 || size > text.size)
        return 0;
    for (size_t i = 1; i < size; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    }
    bool overlong = (at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xf0 && at[1] < 0x90);
    bool beyond = (at[0] == 0xed && at[1] > 0x9f) || (at[0] == 0xf4 && at[1] > 0x8f);
    return overlong || beyond ? 0 : size;
}

size_t http_listing_escape_json(struct http_text text, char *ret_text)
{
    size_t used = 0;
    while (text.size) {
        size_t size = listing_utf8(text);
        unsigned char byte = (unsigned char)text.data[0];
        if (!size) {
            used += listing_put(ret_text + used, "\\ufffd");
            size = 1;
        } else if (size == 1 && (byte < ' ' || byte == '"' || byte == '\\' || byte == 0x7f)) {
            used += (size_t)sprintf(ret_text + used, "\\u%04x", byte);
        } else {
            memcpy(ret_text + used, text.data, size);
            used += size;
        }
        text.data += size;
        text.size -= size;
    }
    return used;
}

// --- Reading -------------------------------------------------------------------------------------

static struct listing_row *listing_row(struct http_listing *listing, size_t i)
{
    return (struct listing_row *)(void *)listing->memory + i;
}

static const char *listing_name(const struct http_listing *listing, const struct listing_row *row)
{
    return listing->memory + row->name;
}

// What a symbolic link leads to, if that is under the root.
static int listing_follow(const struct http_listing *listing, const char *name,
                          struct stat *ret_status)
{
    char path[2 * 4096];
    struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_BENEATH };
    int size = snprintf(path, sizeof path, "%s%s", listing->path, name);
    // UNTESTED: names end at 255 bytes, paths at 4,096
    if (size < 0 || (size_t)size >= sizeof path)
        return -ENAMETOOLONG;
    int fd = (int)syscall(SYS_openat2, listing->root, path, &how, sizeof how);
    if (fd < 0)
        return -errno;
    int error = fstat(fd, ret_status) < 0 ? -errno : 0;
    close(fd);
    return error;
}

static void listing_add(struct http_listing *listing, const char *name)
{
    struct stat status;
    size_t size = strlen(name);
    // What cannot be looked at, or is neither file nor directory, is not served either.
    if (size > LISTING_NAME_MAX ||
        fstatat(dirfd(listing->stream), name, &status, AT_SYMLINK_NOFOLLOW) < 0 ||
        (S_ISLNK(status.st_mode) && listing_follow(listing, name, &status)) ||
        !(S_ISREG(status.st_mode) || S_ISDIR(status.st_mode)))
        return;
    listing->names -= size + 1;
    memcpy(listing->memory + listing->names, name, size + 1);
    *listing_row(listing, listing->count++) = (struct listing_row){
        .name = (uint32_t)listing->names,
        .directory = S_ISDIR(status.st_mode),
        .size = (uint64_t)status.st_size,
        .modified = status.st_mtim.tv_sec,
    };
}

static bool listing_has_room(const struct http_listing *listing)
{
    return (listing->count + 1) * sizeof(struct listing_row) + LISTING_NAME_MAX + 1 <=
           listing->names;
}

// In a step, since a loop in a sandbox may not make the calls that fdopendir(3) makes.
static int listing_open(struct http_listing *listing)
{
    if (!listing->stream)
        listing->stream = fdopendir(listing->directory);
    return listing->stream ? 0 : -errno;
}

static int listing_read(struct http_listing *listing)
{
    int error = listing_open(listing);
    if (error) {
        listing->read = true;
        listing->complete = false;
        return error;
    }
    for (int i = 0; i < LISTING_STEP && listing_has_room(listing); i++) {
        errno = 0;
        const struct dirent *entry = readdir(listing->stream);
        if (!entry) {
            listing->read = true;
            listing->complete = !errno;
            return -errno;
        }
        if (entry->d_name[0] != '.')
            listing_add(listing, entry->d_name);
    }
    return 0;
}

static int listing_compare(const void *a, const void *b, void *memory)
{
    const struct listing_row *left = a, *right = b;
    if (left->directory != right->directory)
        return left->directory ? -1 : 1;
    return strcmp((const char *)memory + left->name, (const char *)memory + right->name);
}

// --- Writing -------------------------------------------------------------------------------------

__attribute__((format(printf, 2, 3))) static void listing_print(struct http_listing *listing,
                                                                const char *format, ...)
{
    va_list arguments;
    size_t room = sizeof listing->text - listing->used;
    va_start(arguments, format);
    int size = vsnprintf(listing->text + listing->used, room, format, arguments);
    va_end(arguments);
    if (size > 0 && (size_t)size < room)
        listing->used += (size_t)size;
}

static void listing_write_begin(struct http_listing *listing)
{
    char text[6 * sizeof listing->path];
    struct http_text path = http_text_of(listing->path);
    if (listing->json) {
        size_t size = http_listing_escape_json(path, text);
        listing_print(listing, "{\"path\":\"/%.*s\",\"entries\":[", (int)size, text);
        return;
    }
    size_t size = http_listing_escape_html(path, text);
    listing_print(listing,
                  "<!DOCTYPE html>\n<html>\n<head><meta charset=\"utf-8\"><title>/%.*s</title>"
                  "</head>\n<body>\n<h1>/%.*s</h1>\n<table>\n",
                  (int)size, text, (int)size, text);
    if (path.size)
        listing_print(listing, "<tr><td><a href=\"../\">../</a></td></tr>\n");
}

static void listing_write_html(struct http_listing *listing, const struct listing_row *row)
{
    char text[6 * LISTING_NAME_MAX], date[HTTP_DATE_SIZE];
    const char *slash = row->directory ? "/" : "";
    struct http_text name = http_text_of(listing_name(listing, row));
    size_t size = http_listing_escape_url(name, text);
    // "./": a name with a colon must not look like a scheme.
    listing_print(listing, "<tr><td><a href=\"./%.*s%s\">", (int)size, text, slash);
    size = http_listing_escape_html(name, text);
    http_date_write(row->modified, date);
    listing_print(listing, "%.*s%s</a></td><td>", (int)size, text, slash);
    if (!row->directory)
        listing_print(listing, "%llu", (unsigned long long)row->size);
    listing_print(listing, "</td><td>%.*s</td></tr>\n", HTTP_DATE_SIZE, date);
}

static void listing_write_json(struct http_listing *listing, const struct listing_row *row)
{
    char text[6 * LISTING_NAME_MAX], date[HTTP_DATE_SIZE];
    size_t size = http_listing_escape_json(http_text_of(listing_name(listing, row)), text);
    http_date_write(row->modified, date);
    listing_print(listing, "%s\n{\"name\":\"%.*s\",\"type\":\"%s\"", listing->named ? "," : "",
                  (int)size, text, row->directory ? "directory" : "file");
    if (!row->directory)
        listing_print(listing, ",\"size\":%llu", (unsigned long long)row->size);
    listing_print(listing, ",\"modified\":\"%.*s\"}", HTTP_DATE_SIZE, date);
    listing->named = true;
}

static void listing_write_end(struct http_listing *listing)
{
    if (listing->json)
        listing_print(listing, "],\"complete\":%s}\n", listing->complete ? "true" : "false");
    else
        listing_print(listing, "</table>\n%s</body>\n</html>\n",
                      listing->complete ? "" : "<p>The rest could not be read.</p>\n");
    listing->ended = true;
}

static void listing_write(struct http_listing *listing)
{
    if (!listing->begun)
        listing_write_begin(listing);
    listing->begun = true;
    for (int i = 0; i < LISTING_STEP && listing->at < listing->count &&
                    listing->used + LISTING_ROW_TEXT_MAX <= sizeof listing->text;
         i++) {
        const struct listing_row *row = listing_row(listing, listing->at++);
        (listing->json ? listing_write_json : listing_write_html)(listing, row);
    }
    if (listing->at < listing->count)
        return;
    listing->count = listing->at = 0;
    listing->names = sizeof listing->memory;
    listing->writing = false;
    if (listing->read)
        listing_write_end(listing);
}

// --- The whole -----------------------------------------------------------------------------------

struct http_listing *http_listing_create(int root, int directory, const char *path, bool json)
{
    struct http_listing *listing =
        strlen(path) < sizeof listing->path ? malloc(sizeof *listing) : NULL;
    if (!listing) {
        close(directory);
        return NULL;
    }
    // The spans need no zeroes, and what is not used of them is never touched.
    memset(listing, 0, offsetof(struct http_listing, path));
    listing->root = root;
    listing->json = json;
    listing->complete = true;
    listing->directory = directory;
    listing->names = sizeof listing->memory;
    strcpy(listing->path, path);
    return listing;
}

void http_listing_destroy(struct http_listing *listing)
{
    if (listing && listing->stream)
        closedir(listing->stream);
    else if (listing)
        close(listing->directory);
    free(listing);
}

int http_listing_step(struct http_listing *listing)
{
    listing->used = 0;
    if (!listing->writing) {
        int error = listing_read(listing);
        if (error && !listing->begun)
            return error;
        if (!listing->read && listing_has_room(listing))
            return 0;
        qsort_r(listing->memory, listing->count, sizeof(struct listing_row), listing_compare,
                listing->memory);
        listing->writing = true;
    }
    listing_write(listing);
    return 0;
}

struct http_text http_listing_text(const struct http_listing *listing)
{
    return (struct http_text){ listing->text, listing->used };
}

bool http_listing_ended(const struct http_listing *listing)
{
    return listing->ended;
}

bool http_listing_complete(const struct http_listing *listing)
{
    return listing->ended && listing->complete;
}
