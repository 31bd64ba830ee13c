// See path.h.
#include "path.h"

static int path_digit(char byte)
{
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    byte |= 32;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

// Decodes one segment, up to the next slash. Returns 0 or a status.
static int path_segment(struct http_text *path, char *ret_segment, size_t room, size_t *ret_size)
{
    size_t size = 0, i = 0;
    for (; i < path->size && path->data[i] != '/'; size++) {
        char byte = path->data[i++];
        if (size == room)
            return 404;
        if (byte == '%') {
            int high = i + 1 < path->size ? path_digit(path->data[i]) : -1;
            int low = high < 0 ? -1 : path_digit(path->data[i + 1]);
            if (low < 0 || (!high && !low))
                return 400;
            byte = (char)(high * 16 + low);
            i += 2;
            if (byte == '/')
                return 404; // what a proxy takes for one segment must not become two here
        }
        ret_segment[size] = byte;
    }
    path->data += i;
    path->size -= i;
    *ret_size = size;
    return 0;
}

static bool path_is_hidden(const char *segment, size_t size, size_t at)
{
    static const char known[] = ".well-known";
    if (segment[0] != '.')
        return false;
    return at || size != sizeof known - 1 || memcmp(segment, known, size) != 0;
}

// Where the segment before the final slash begins.
static size_t path_parent(const char *path, size_t size)
{
    size--;
    while (size && path[size - 1] != '/')
        size--;
    return size;
}

int http_path_resolve(struct http_text path, char ret_path[HTTP_PATH_MAX])
{
    size_t at = 0, size;
    while (path.size) {
        if (path.data[0] == '/') {
            path.data++;
            path.size--;
            continue;
        }
        // Room for a slash and the final zero stays.
        size_t room = at < HTTP_PATH_MAX - 2 ? HTTP_PATH_MAX - 2 - at : 0;
        char *segment = ret_path + at;
        int status = path_segment(&path, segment, room, &size);
        if (status)
            return status;
        if (size == 1 && segment[0] == '.')
            continue;
        if (size == 2 && memcmp(segment, "..", 2) == 0) {
            if (!at)
                return 404;
            at = path_parent(ret_path, at);
            continue;
        }
        if (path_is_hidden(segment, size, at))
            return 404;
        at += size;
        if (path.size)
            ret_path[at++] = '/';
    }
    ret_path[at] = '\0';
    return 0;
}
