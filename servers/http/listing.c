// See listing.h.
#include "listing.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "date.h"

struct listing_row {
    char *name;
    bool directory;
    uint64_t size;
    time_t modified;
};

struct listing {
    int root;
    const char *path; // under the root
    struct listing_row *rows;
    size_t count, room;
    bool cut;
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

static int listing_compare(const void *a, const void *b)
{
    const struct listing_row *left = a, *right = b;
    if (left->directory != right->directory)
        return left->directory ? -1 : 1;
    return strcmp(left->name, right->name);
}

// What a symbolic link leads to, if that is under the root.
static int listing_follow(const struct listing *listing, const char *name, struct stat *ret_status)
{
    char path[2 * 4096];
    struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_BENEATH };
    int size = snprintf(path, sizeof path, "%s%s", listing->path, name);
    if (size < 0 || (size_t)size >= sizeof path)
        return -ENAMETOOLONG;
    int fd = (int)syscall(SYS_openat2, listing->root, path, &how, sizeof how);
    if (fd < 0)
        return -errno;
    int error = fstat(fd, ret_status) < 0 ? -errno : 0;
    close(fd);
    return error;
}

static int listing_add(struct listing *listing, int directory, const char *name)
{
    struct stat status;
    // What cannot be looked at, or is neither file nor directory, is not served either.
    if (fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) < 0 ||
        (S_ISLNK(status.st_mode) && listing_follow(listing, name, &status)) ||
        !(S_ISREG(status.st_mode) || S_ISDIR(status.st_mode)))
        return 0;
    if (listing->count == listing->room) {
        size_t room = listing->room ? 2 * listing->room : 64;
        void *rows = realloc(listing->rows, room * sizeof *listing->rows);
        if (!rows)
            return -ENOMEM;
        listing->rows = rows;
        listing->room = room;
    }
    struct listing_row *row = &listing->rows[listing->count];
    *row = (struct listing_row){ .name = strdup(name),
                                 .directory = S_ISDIR(status.st_mode),
                                 .size = (uint64_t)status.st_size,
                                 .modified = status.st_mtim.tv_sec };
    if (!row->name)
        return -ENOMEM;
    listing->count++;
    return 0;
}

static int listing_add_all(struct listing *listing, int directory, DIR *stream)
{
    while (!listing->cut) {
        errno = 0; // an error and the end look the same otherwise
        const struct dirent *entry = readdir(stream);
        if (!entry)
            return -errno;
        if (entry->d_name[0] == '.')
            continue;
        if (listing->count == LISTING_ENTRIES_MAX)
            listing->cut = true;
        else if (listing_add(listing, directory, entry->d_name) < 0)
            return -ENOMEM;
    }
    return 0;
}

static int listing_read(struct listing *listing, int directory)
{
    int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    DIR *stream = fdopendir(fd);
    if (!stream) {
        int error = -errno;
        close(fd);
        return error;
    }
    int error = listing_add_all(listing, directory, stream);
    closedir(stream);
    return error;
}

// --- Writing -------------------------------------------------------------------------------------

static void listing_write_html(const struct listing *listing, FILE *file)
{
    char text[6 * 4096 + 1], date[HTTP_DATE_SIZE];
    size_t size = http_listing_escape_html(http_text_of(listing->path), text);
    fprintf(file,
            "<!DOCTYPE html>\n<html>\n<head><meta charset=\"utf-8\"><title>/%.*s</title></head>\n"
            "<body>\n<h1>/%.*s</h1>\n<table>\n",
            (int)size, text, (int)size, text);
    if (*listing->path)
        fprintf(file, "<tr><td><a href=\"../\">../</a></td></tr>\n");
    for (size_t i = 0; i < listing->count; i++) {
        const struct listing_row *row = &listing->rows[i];
        const char *slash = row->directory ? "/" : "";
        size = http_listing_escape_url(http_text_of(row->name), text);
        // "./": a name with a colon must not look like a scheme.
        fprintf(file, "<tr><td><a href=\"./%.*s%s\">", (int)size, text, slash);
        size = http_listing_escape_html(http_text_of(row->name), text);
        http_date_write(row->modified, date);
        fprintf(file, "%.*s%s</a></td><td>", (int)size, text, slash);
        if (!row->directory)
            fprintf(file, "%llu", (unsigned long long)row->size);
        fprintf(file, "</td><td>%.*s</td></tr>\n", HTTP_DATE_SIZE, date);
    }
    fprintf(file, "</table>\n%s</body>\n</html>\n",
            listing->cut ? "<p>This directory has more entries.</p>\n" : "");
}

static void listing_write_json(const struct listing *listing, FILE *file)
{
    char text[6 * 4096 + 1], date[HTTP_DATE_SIZE];
    size_t size = http_listing_escape_json(http_text_of(listing->path), text);
    fprintf(file, "{\"path\":\"/%.*s\",\"complete\":%s,\"entries\":[", (int)size, text,
            listing->cut ? "false" : "true");
    for (size_t i = 0; i < listing->count; i++) {
        const struct listing_row *row = &listing->rows[i];
        size = http_listing_escape_json(http_text_of(row->name), text);
        http_date_write(row->modified, date);
        fprintf(file, "%s\n{\"name\":\"%.*s\",\"type\":\"%s\"", i ? "," : "", (int)size, text,
                row->directory ? "directory" : "file");
        if (!row->directory)
            fprintf(file, ",\"size\":%llu", (unsigned long long)row->size);
        fprintf(file, ",\"modified\":\"%.*s\"}", HTTP_DATE_SIZE, date);
    }
    fprintf(file, "]}\n");
}

int http_listing_make(int root, int directory, const char *path, bool json, char **ret_text,
                      size_t *ret_size)
{
    struct listing listing = { .root = root, .path = path };
    char *text = NULL;
    size_t size = 0;
    int error = listing_read(&listing, directory);
    FILE *file = error ? NULL : open_memstream(&text, &size);
    if (!error && !file)
        error = -ENOMEM;
    if (file) {
        if (listing.count)
            qsort(listing.rows, listing.count, sizeof *listing.rows, listing_compare);
        (json ? listing_write_json : listing_write_html)(&listing, file);
        if (fclose(file) != 0)
            error = -ENOMEM;
    }
    for (size_t i = 0; i < listing.count; i++)
        free(listing.rows[i].name);
    free(listing.rows);
    if (error) {
        free(text);
        return error;
    }
    *ret_text = text;
    *ret_size = size;
    return 0;
}
