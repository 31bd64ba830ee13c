// Listings in steps: bounded, complete, sorted.
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "http/listing.h"

enum { SMALL = 1000, LARGE = 9000, LONG_NAME = 250 };

struct folder {
    char path[64];
    int fd;
    int count;
    size_t name_size;
};

static void folder_name(const struct folder *folder, int i, char name[LONG_NAME + 1])
{
    // Not in the order of creation.
    int size = snprintf(name, LONG_NAME + 1, "%08x", (unsigned)i * 2654435761U);
    memset(name + size, 'x', LONG_NAME - (size_t)size);
    name[folder->name_size] = '\0';
}

static void folder_make(struct folder *folder, int count, size_t name_size)
{
    char name[LONG_NAME + 1];
    // In memory if there is such a place: disks take long for so many files.
    bool memory = access("/dev/shm", W_OK) == 0;
    strcpy(folder->path, memory ? "/dev/shm/weir-listing-XXXXXX" : "/tmp/weir-listing-XXXXXX");
    assert_non_null(mkdtemp(folder->path));
    folder->fd = open(folder->path, O_RDONLY | O_DIRECTORY);
    assert_true(folder->fd >= 0);
    folder->count = count;
    folder->name_size = name_size;
    for (int i = 0; i < count; i++) {
        folder_name(folder, i, name);
        int fd = openat(folder->fd, name, O_WRONLY | O_CREAT | O_EXCL, 0600);
        assert_true(fd >= 0);
        close(fd);
    }
}

static void folder_remove(struct folder *folder)
{
    char name[LONG_NAME + 1];
    for (int i = 0; i < folder->count; i++) {
        folder_name(folder, i, name);
        unlinkat(folder->fd, name, 0);
    }
    close(folder->fd);
    rmdir(folder->path);
}

struct found {
    int names, steps;
    int disorders; // a name that is not behind the one before it
    char last[LONG_NAME + 1];
    bool complete;
};

static int listing_names(struct found *found, struct http_text text)
{
    static const char mark[] = "\n{\"name\":\"";
    int names = 0;
    const char *at = text.data, *end = text.data + text.size;
    while ((at = memmem(at, (size_t)(end - at), mark, sizeof mark - 1))) {
        char name[LONG_NAME + 1] = "";
        at += sizeof mark - 1;
        for (size_t i = 0; i < LONG_NAME && at[i] != '"'; i++)
            name[i] = at[i];
        found->disorders += strcmp(found->last, name) >= 0;
        strcpy(found->last, name);
        names++;
    }
    return names;
}

static void listing_walk(const struct folder *folder, struct found *found)
{
    *found = (struct found){ 0 };
    int fd = openat(folder->fd, ".", O_RDONLY | O_DIRECTORY);
    struct http_listing *listing = http_listing_create(folder->fd, fd, "", true);
    assert_non_null(listing);
    while (!http_listing_ended(listing)) {
        assert_int_equal(http_listing_step(listing), 0);
        struct http_text text = http_listing_text(listing);
        int names = listing_names(found, text);
        assert_true(names <= LISTING_STEP && text.size <= LISTING_TEXT_MAX);
        found->names += names;
        found->steps++;
        assert_true(found->steps < 10 * (folder->count + 10));
        found->complete = memmem(text.data, text.size, "],\"complete\":true}\n", 18);
    }
    http_listing_destroy(listing);
}

// No step looks at more entries than its bound, or writes more: as many steps follow each other.
static void a_listing_is_made_in_steps(void **state)
{
    (void)state;
    struct folder folder;
    struct found found;
    folder_make(&folder, SMALL, 12);
    listing_walk(&folder, &found);
    folder_remove(&folder);
    assert_int_equal(found.names, SMALL);
    assert_int_equal(found.disorders, 0);
    assert_true(found.complete);
    // "." and ".." count as looked at; the last step that reads writes too.
    assert_int_equal(found.steps, (SMALL + 2) / LISTING_STEP + 1 + SMALL / LISTING_STEP);
}

// What does not fit into the memory is written before more is read: nothing is lost, nothing told
// twice, and each group is in order.
static void a_large_listing_comes_in_sorted_groups(void **state)
{
    (void)state;
    struct folder folder;
    struct found found;
    folder_make(&folder, LARGE, LONG_NAME);
    listing_walk(&folder, &found);
    folder_remove(&folder);
    assert_int_equal(found.names, LARGE);
    assert_true(found.complete);
    // 9,000 names of 250 bytes are a little more than two MiB.
    assert_int_equal(found.disorders, 1);
}

// An empty directory is one step.
static void an_empty_listing_is_one_step(void **state)
{
    (void)state;
    struct folder folder;
    struct found found;
    folder_make(&folder, 0, 12);
    listing_walk(&folder, &found);
    folder_remove(&folder);
    assert_int_equal(found.names, 0);
    assert_int_equal(found.steps, 1);
    assert_true(found.complete);
}

// What is no directory is refused, and its descriptor closed.
static void a_file_is_no_listing(void **state)
{
    (void)state;
    int fd = open("/dev/null", O_RDONLY);
    assert_true(fd >= 0);
    struct http_listing *listing = http_listing_create(AT_FDCWD, fd, "", false);
    assert_non_null(listing);
    assert_int_equal(http_listing_step(listing), -20); // ENOTDIR
    http_listing_destroy(listing);
    assert_int_equal(close(fd), -1);
}

// A directory that cannot be read says so before anything was written.
static void an_unreadable_directory_is_an_error(void **state)
{
    (void)state;
    int fd = open("/proc/self/task", O_RDONLY | O_DIRECTORY);
    assert_true(fd >= 0);
    struct http_listing *listing = http_listing_create(AT_FDCWD, fd, "", false);
    assert_non_null(listing);
    // From here on the number names something that is no directory.
    int other = open("/dev/null", O_RDONLY);
    assert_int_equal(dup2(other, fd), fd);
    close(other);
    assert_int_equal(http_listing_step(listing), -20); // ENOTDIR
    assert_int_equal(http_listing_text(listing).size, 0);
    http_listing_destroy(listing);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_listing_is_made_in_steps),
        cmocka_unit_test(a_large_listing_comes_in_sorted_groups),
        cmocka_unit_test(an_empty_listing_is_one_step),
        cmocka_unit_test(a_file_is_no_listing),
        cmocka_unit_test(an_unreadable_directory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
