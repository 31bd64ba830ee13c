// See path.h.
#include "path.h"

#include <errno.h>
#include <string.h>

// Adds the names in `text` to the path of *size bytes, which has no final slash.
static int path_add(char *path, size_t *size, const char *text)
{
    while (*text) {
        size_t name = strcspn(text, "/");
        if (name == 2 && text[0] == '.' && text[1] == '.') {
            while (*size && path[--*size] != '/')
                continue;
        } else if (name && !(name == 1 && text[0] == '.')) {
            if (*size + 1 + name >= FTP_PATH_MAX)
                return -ENAMETOOLONG;
            path[(*size)++] = '/';
            memcpy(path + *size, text, name);
            *size += name;
        }
        text += name;
        text += *text == '/';
    }
    return 0;
}

int ftp_path_join(const char *base, const char *argument, char ret_path[FTP_PATH_MAX])
{
    size_t size = 0;
    int error = *argument == '/' ? 0 : path_add(ret_path, &size, base);
    if (!error)
        error = path_add(ret_path, &size, argument);
    if (error)
        return error;
    if (!size)
        ret_path[size++] = '/';
    ret_path[size] = '\0';
    return 0;
}

const char *ftp_path_relative(const char *path)
{
    return path[1] ? path + 1 : ".";
}

bool ftp_path_split(const char *path, char ret_parent[FTP_PATH_MAX], const char **ret_name)
{
    const char *slash = strrchr(path, '/');
    if (!slash[1])
        return false;
    size_t size = slash == path ? 0 : (size_t)(slash - path - 1);
    memcpy(ret_parent, path + 1, size);
    if (!size)
        ret_parent[size++] = '.';
    ret_parent[size] = '\0';
    *ret_name = slash + 1;
    return true;
}

size_t ftp_path_encode(const char *name, bool quoted, char *ret_text)
{
    char *out = ret_text;
    for (; *name; name++) {
        if ((quoted && *name == '"') || *name == '\xff')
            *out++ = *name;
        *out++ = *name;
        if (*name == '\n')
            out[-1] = '\0';
    }
    return (size_t)(out - ret_text);
}

bool ftp_path_is_pattern(const char *name)
{
    return name[strcspn(name, "*?")] != '\0';
}

// On a mismatch the last star takes one byte more: earlier stars need no second look.
bool ftp_path_matches(const char *pattern, const char *name)
{
    const char *star = NULL, *resume = NULL;
    if (*name == '.' && *pattern != '.')
        return false;
    while (*name) {
        if (*pattern == '*') {
            star = pattern++;
            resume = name;
        } else if (*pattern == '?' || *pattern == *name) {
            pattern++;
            name++;
        } else if (star) {
            pattern = star + 1;
            name = ++resume;
        } else {
            return false;
        }
    }
    return !pattern[strspn(pattern, "*")];
}
