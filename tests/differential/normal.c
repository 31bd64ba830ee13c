#include "normal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NORMAL_LINES_MAX = 64, NORMAL_LINE = 512 };

// Everything between two marks goes.
struct normal_gap {
    const char *before, *after;
};

static const struct normal_gap *normal_gap_at(const struct normal_gap *gaps, const char *data,
                                              size_t size)
{
    for (const struct normal_gap *gap = gaps; gap->before; gap++) {
        size_t length = strlen(gap->before);
        if (length <= size && memcmp(data, gap->before, length) == 0)
            return gap;
    }
    return NULL;
}

static void normal_add(struct text *text, const struct normal_gap *gaps, const char *data,
                       size_t size)
{
    while (size) {
        const struct normal_gap *gap = normal_gap_at(gaps, data, size);
        size_t part = gap ? strlen(gap->before) : 1;
        text_add(text, data, part);
        data += part;
        size -= part;
        if (!gap)
            continue;
        const char *end = memmem(data, size, gap->after, strlen(gap->after));
        part = end ? (size_t)(end - data) : size;
        assert_in_range(part, 1, 40); // what is left out is there, and no more than it
        data += part;
        size -= part;
        text_add(text, "...", 3);
    }
}

void normal_add_control(struct text *text, const struct text *told)
{
    static const struct normal_gap gaps[] = {
        { "\r\nDate: ", "\r\n" },
        { "227 Entering Passive Mode (127,0,0,1,", ")" },
        { "229 Entering Extended Passive Mode (|||", "|)" },
        { 0 },
    };
    normal_add(text, gaps, told->data, told->size);
}

// "drwxr-xr-x    2 0        0                4096 Jan  2  2020 name"
static void normal_add_list_line(struct text *text, const char *line)
{
    char mode[16], size[24];
    int name = 0;
    if (sscanf(line, "%15s %*u %*u %*u %23s %*s %*u %*s %n", mode, size, &name) != 2 || !name)
        fail_msg("'%s' is no line of LIST", line);
    text_format(text, "%s %s %s\n", mode, *mode == 'd' ? "..." : size, line + name);
}

static void normal_add_line(struct text *text, const char *line)
{
    static const struct normal_gap gaps[] = { { "modify=", ";" }, { "unique=", ";" }, { 0 } };
    if (strspn(line, "-drwx") == 10 && line[10] == ' ') {
        normal_add_list_line(text, line);
    } else {
        normal_add(text, gaps, line, strlen(line));
        text_add(text, "\n", 1);
    }
}

static int normal_compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void normal_add_lines(struct text *text, const struct text *told)
{
    char *lines[NORMAL_LINES_MAX], *data = told->data;
    size_t count = 0;
    for (char *end; (end = strstr(data, "\r\n")); data = end + 2) {
        struct text line = { 0 };
        *end = '\0';
        assert_in_range(count, 0, NORMAL_LINES_MAX - 1);
        normal_add_line(&line, data);
        lines[count++] = line.data;
    }
    assert_int_equal(*data, '\0');
    qsort(lines, count, sizeof lines[0], normal_compare);
    for (size_t i = 0; i < count; i++) {
        text_add(text, lines[i], strlen(lines[i]));
        free(lines[i]);
    }
}
