#include "stage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../sim/calls.h"

enum {
    STAGE_TIME_S = 1577934245,
    STAGE_NAMES_MAX = 64,
    STAGE_PATH = 320,
    STAGE_FULL = STAGE_PATH + 128,
    STAGE_DEPTH = 8
};

// --- Text ----------------------------------------------------------------------------------------

void text_add(struct text *text, const char *data, size_t size)
{
    if (size > SIZE_MAX / 4)
        abort();
    if (text->size + size + 1 > text->room) {
        text->room = 2 * (text->size + size) + 4096;
        text->data = realloc(text->data, text->room);
        if (!text->data)
            abort();
    }
    memcpy(text->data + text->size, data, size);
    text->size += size;
    text->data[text->size] = '\0';
}

void text_format(struct text *text, const char *format, ...)
{
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    assert_in_range(size, 0, sizeof line - 1);
    text_add(text, line, (size_t)size);
}

void text_free(struct text *text)
{
    free(text->data);
    *text = (struct text){ 0 };
}

// --- The stage -----------------------------------------------------------------------------------

void stage_open(struct stage *stage, const struct variant *variant, uint64_t seed)
{
    static const struct contract_test test = { .name = "script" };
    *stage = (struct stage){ .world = world_create(variant, &test) };
    world_now(stage->world); // the simulated kernel is made when it is first asked for something
    if (stage->world->operations->simulated) {
        stage->sim = stage->world->state;
        strcpy(stage->folder, CALLS_ROOT);
        calls_start(stage->sim);
        struct sim_faults faults;
        sim_faults_harmless(seed, &faults);
        sim_set_faults(stage->sim, seed ? &faults : NULL);
        return;
    }
    const char *place = getenv("TMPDIR");
    snprintf(stage->folder, sizeof stage->folder - 1, "%.90s/weir-script-XXXXXX",
             place ? place : "/tmp");
    assert_non_null(mkdtemp(stage->folder));
    strcat(stage->folder, "/");
}

static int stage_remove(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

void stage_close(struct stage *stage, const struct served *served)
{
    world_end_loops(stage->world);
    served->stop(stage);
    world_close(stage->world);
    calls_start(NULL);
    world_destroy(stage->world);
    if (!stage->sim)
        assert_int_equal(nftw(stage->folder, stage_remove, STAGE_DEPTH, FTW_DEPTH | FTW_PHYS), 0);
}

static bool stage_is_still(void *argument)
{
    const struct weir_stats stats = world_stats(argument);
    return !stats.streams_open && !stats.buffers_leased && !stats.queued_bytes;
}

void stage_settle(struct stage *stage)
{
    if (!world_until(stage->world, stage_is_still, stage->world, WORLD_PATIENCE))
        fail_msg("streams or what they held are left");
}

void stage_listen(struct stage *stage, const struct weir_protocol *protocol, void *context,
                  struct weir_address *ret_address)
{
    const struct weir_listener_config config = { .socket = { .ordinary_descriptor = true },
                                                 .protocol = protocol,
                                                 .context = context };
    *ret_address = world_listen_with(stage->world, "127.0.0.1:0", config);
}

// --- Files ---------------------------------------------------------------------------------------

static void stage_make_on_machine(const struct stage *stage, const char *path, const void *data,
                                  size_t size)
{
    const struct timespec times[2] = { { .tv_sec = STAGE_TIME_S }, { .tv_sec = STAGE_TIME_S } };
    char full[STAGE_FULL];
    snprintf(full, sizeof full, "%s%s", stage->folder, path);
    for (char *slash = full + strlen(stage->folder); (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        if (mkdir(full, 0755) && errno != EEXIST)
            fail_msg("%s: %s", full, strerror(errno));
        *slash = '/';
    }
    if (path[strlen(path) - 1] == '/')
        return;
    int fd = open(full, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    for (size_t done = 0; done < size;) {
        ssize_t count = write(fd, (const char *)data + done, size - done);
        assert_true(count > 0);
        done += (size_t)count;
    }
    assert_int_equal(futimens(fd, times), 0);
    close(fd);
}

void stage_make(struct stage *stage, const char *path, const void *data, size_t size)
{
    if (!stage->sim) {
        stage_make_on_machine(stage, path, data, size);
        return;
    }
    char directory[STAGE_PATH];
    size_t length = strlen(path);
    if (path[length - 1] == '/') {
        snprintf(directory, sizeof directory, "%.*s", (int)length - 1, path);
        sim_directory_create(stage->sim, directory);
        return;
    }
    sim_file_create(stage->sim, path, data, size);
    sim_file_set_time(stage->sim, path, STAGE_TIME_S * 1000000000ULL);
}

// What a directory has; the caller frees the names.
static size_t stage_names(const struct stage *stage, const char *path,
                          char *ret_names[STAGE_NAMES_MAX])
{
    size_t count = 0;
    const char *name;
    if (stage->sim) {
        for (uint32_t at = 0; (name = sim_file_next(stage->sim, path, &at));) {
            assert_in_range(count, 0, STAGE_NAMES_MAX - 1);
            ret_names[count++] = strdup(name);
        }
        return count;
    }
    char full[STAGE_FULL];
    snprintf(full, sizeof full, "%s%s", stage->folder, path);
    DIR *directory = opendir(full);
    assert_non_null(directory);
    for (struct dirent *entry; (entry = readdir(directory));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        assert_in_range(count, 0, STAGE_NAMES_MAX - 1);
        ret_names[count++] = strdup(entry->d_name);
    }
    closedir(directory);
    return count;
}

// The bytes of a file, which the caller frees; false: it is a directory.
static bool stage_read_machine(const struct stage *stage, const char *path, struct text *ret_text)
{
    char full[STAGE_FULL], part[8192];
    snprintf(full, sizeof full, "%s%s", stage->folder, path);
    FILE *file = fopen(full, "re");
    assert_non_null(file);
    for (size_t size; (size = fread(part, 1, sizeof part, file)) > 0;)
        text_add(ret_text, part, size);
    bool directory = ferror(file);
    fclose(file);
    return !directory;
}

static bool stage_read(const struct stage *stage, const char *path, struct text *ret_text)
{
    const char *data;
    size_t size;
    if (!stage->sim)
        return stage_read_machine(stage, path, ret_text);
    if (!sim_file_content(stage->sim, path, &data, &size))
        return false;
    if (size)
        text_add(ret_text, data, size);
    return true;
}

static int stage_compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

// FNV-1a.
static uint64_t stage_sum(const struct text *content)
{
    uint64_t sum = 0xcbf29ce484222325ULL;
    for (size_t i = 0; i < content->size; i++)
        sum = (sum ^ (unsigned char)content->data[i]) * 0x100000001b3ULL;
    return sum;
}

void stage_list(struct stage *stage, const char *path, struct text *ret_text)
{
    char *names[STAGE_NAMES_MAX], below[STAGE_PATH];
    size_t count = stage_names(stage, path, names);
    qsort(names, count, sizeof names[0], stage_compare);
    for (size_t i = 0; i < count; i++) {
        struct text content = { 0 };
        snprintf(below, sizeof below, "%.60s/%.200s", path, names[i]);
        if (stage_read(stage, below, &content)) {
            text_format(ret_text, "%s: %zu bytes, %016llx\n", below, content.size,
                        (unsigned long long)stage_sum(&content));
        } else {
            text_format(ret_text, "%s/\n", below);
            stage_list(stage, below, ret_text);
        }
        text_free(&content);
        free(names[i]);
    }
}
