// Fuzz target: the file of users. Each line that counts becomes one user, and the user written as a
// line is that line again; the first line that does not is the one that is named.
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "target.h"
#include "users.h"

enum { LINE_MAX_SIZE = 4095, PATH_SIZE = 32 };

// Whether the line says what the user is: NAME:HASH[:HOME] or NAME:plain:PASSWORD.
static int says(const struct ftp_user *user, const char *line, size_t size)
{
    char *written = NULL;
    size_t written_size;
    FILE *file = open_memstream(&written, &written_size);
    if (!file)
        abort();
    fprintf(file, "%s:%s%s", user->name, user->plain ? "plain:" : "", user->secret);
    fflush(file);
    // A hash may have an empty home behind it, which is the root.
    if (!user->plain && (*user->home || written_size < size))
        fprintf(file, ":%s", user->home);
    fclose(file);
    int same = written_size == size && !memcmp(written, line, size);
    free(written);
    return same && *user->name && !strchr(user->name, ':') &&
           (user->plain ? !*user->home : *user->secret == '$' && !strchr(user->secret, ':'));
}

// Walks over the lines beside the users. Returns the number of the line that was refused.
static size_t compare(const struct ftp_users *users, const char *data, size_t size)
{
    size_t row = 0, line = 0;
    while (size) {
        const char *end = memchr(data, '\n', size);
        size_t all = end ? (size_t)(end - data) + 1 : size, used = 0;
        line++;
        while (used < all && data[used] != '\r' && data[used] != '\n')
            used++;
        if (all + !end > LINE_MAX_SIZE) // without an end, one byte more would be needed to see it
            return line;
        if (used && data[0] != '#') {
            if (row == users->count)
                return line;
            fuzz_require(says(&users->rows[row], data, used), "a user is not what its line says");
            fuzz_require(ftp_users_find(users, users->rows[row].name) == &users->rows[row],
                         "a name is there twice, or not found");
            row++;
        }
        data += all;
        size -= all;
    }
    fuzz_require(row == users->count, "there are more users than lines");
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ftp_users users = { 0 };
    char path[PATH_SIZE];
    size_t refused = 0;
    int fd = memfd_create("users", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int error = ftp_users_load(&users, path, &refused);
    fuzz_require(!error == !refused || !error, "a file is refused without a line");
    // Lines with a zero byte end there for one reader and not for the other.
    if (!memchr(data, '\0', size))
        fuzz_require(compare(&users, (const char *)data, size) == (error ? refused : 0),
                     "another line is refused");
    ftp_users_fini(&users);
    close(fd);
    return 0;
}
