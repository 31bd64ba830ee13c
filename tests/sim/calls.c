#include "calls.h"

#include <crypt.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// A directory that is read.
struct calls_directory {
    struct calls_directory *next;
    int fd;
    uint32_t at;
    struct dirent entry;
};

static struct {
    struct sim *sim;
    struct calls_directory *directories;
} calls;

void calls_start(struct sim *sim)
{
    calls.sim = sim;
}

static bool calls_simulated(int fd)
{
    return calls.sim && sim_owns(fd);
}

// -1 and errno, as the library returns it.
static int calls_result(int64_t result)
{
    if (result >= 0)
        return (int)result;
    errno = (int)-result;
    return -1;
}

// NULL: the path is the machine's.
static const char *calls_path(const char *path)
{
    const size_t size = strlen(CALLS_ROOT);
    return calls.sim && strncmp(path, CALLS_ROOT, size) == 0 ? path + size : NULL;
}

// The linker gives these names: __real_ is the function that __wrap_ stands for. The numbers in
// some are the library's, for large files.
#define CALLS_DECLARE(type, name, arguments) \
    type __real_##name arguments;            \
    type __wrap_##name arguments

CALLS_DECLARE(int, open64, (const char *path, int flags, ...));
CALLS_DECLARE(int, openat64, (int fd, const char *path, int flags, ...));
CALLS_DECLARE(long, syscall, (long number, ...));
CALLS_DECLARE(int, close, (int fd));
CALLS_DECLARE(int, fcntl64, (int fd, int command, ...));
CALLS_DECLARE(int, fstat64, (int fd, struct stat *ret_status));
CALLS_DECLARE(int, fstatat64, (int fd, const char *name, struct stat *ret_status, int flags));
CALLS_DECLARE(int, faccessat, (int fd, const char *name, int mode, int flags));
CALLS_DECLARE(int, unlinkat, (int fd, const char *name, int flags));
CALLS_DECLARE(int, mkdirat, (int fd, const char *name, mode_t mode));
CALLS_DECLARE(int, renameat, (int from_fd, const char *from, int to_fd, const char *to));
CALLS_DECLARE(int, renameat2,
              (int from_fd, const char *from, int to_fd, const char *to, unsigned flags));
CALLS_DECLARE(int, futimens, (int fd, const struct timespec times[2]));
CALLS_DECLARE(int, chmod, (const char *path, mode_t mode));
CALLS_DECLARE(int, fchmod, (int fd, mode_t mode));
CALLS_DECLARE(int, ftruncate64, (int fd, off_t size));
CALLS_DECLARE(int, fsync, (int fd));
CALLS_DECLARE(ssize_t, preadv64v2,
              (int fd, const struct iovec *iovecs, int count, off_t offset, int flags));
CALLS_DECLARE(ssize_t, pwritev64, (int fd, const struct iovec *iovecs, int count, off_t offset));
CALLS_DECLARE(ssize_t, write, (int fd, const void *data, size_t size));
CALLS_DECLARE(ssize_t, readlinkat, (int fd, const char *name, char *ret_target, size_t size));
CALLS_DECLARE(DIR *, fdopendir, (int fd));
CALLS_DECLARE(struct dirent *, readdir64, (DIR * directory));
CALLS_DECLARE(int, closedir, (DIR * directory));
CALLS_DECLARE(int, dirfd, (DIR * directory));
CALLS_DECLARE(ssize_t, getrandom, (void *ret_data, size_t size, unsigned flags));
CALLS_DECLARE(int, clock_gettime, (clockid_t clock, struct timespec *ret_time));
CALLS_DECLARE(time_t, time, (time_t * ret_time));
char *__wrap_crypt_r(const char *password, const char *setting, struct crypt_data *data);

// --- Opening and closing -------------------------------------------------------------------------

static mode_t calls_mode(int flags, va_list arguments)
{
    return flags & O_CREAT ? (mode_t)va_arg(arguments, unsigned) : 0;
}

int __wrap_open64(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = calls_mode(flags, arguments);
    va_end(arguments);
    const char *simulated = calls_path(path);
    if (!simulated)
        return __real_open64(path, flags, mode);
    return calls_result(
        sim_call_open(calls.sim, AT_FDCWD, *simulated ? simulated : ".", (uint64_t)flags, mode, 0));
}

int __wrap_openat64(int fd, const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = calls_mode(flags, arguments);
    va_end(arguments);
    if (!calls_simulated(fd))
        return __real_openat64(fd, path, flags, mode);
    return calls_result(sim_call_open(calls.sim, fd, path, (uint64_t)flags, mode, 0));
}

// openat2(2) has no function of its own. Nothing else that runs here asks in this way, but what the
// machine is asked for goes on with all that may be there of arguments.
long __wrap_syscall(long number, ...)
{
    va_list arguments;
    long values[6] = { 0 };
    const size_t count = number == SYS_openat2 ? 4 : 6;
    va_start(arguments, number);
    for (size_t i = 0; i < count; i++)
        values[i] = va_arg(arguments, long);
    va_end(arguments);
    if (number != SYS_openat2 || !calls_simulated((int)values[0]))
        return __real_syscall(number, values[0], values[1], values[2], values[3], values[4],
                              values[5]);
    const struct open_how *how = (const struct open_how *)values[2];
    return calls_result(sim_call_open(calls.sim, (int)values[0], (const char *)values[1],
                                      how->flags, how->mode, how->resolve));
}

int __wrap_close(int fd)
{
    return calls_simulated(fd) ? calls_result(sim_call_close(calls.sim, fd)) : __real_close(fd);
}

int __wrap_fcntl64(int fd, int command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    long value = va_arg(arguments, long);
    va_end(arguments);
    if (!calls_simulated(fd))
        return __real_fcntl64(fd, command, value);
    return command == F_DUPFD_CLOEXEC ? calls_result(sim_call_duplicate(calls.sim, fd)) : 0;
}

// --- Names ---------------------------------------------------------------------------------------

int __wrap_fstat64(int fd, struct stat *ret_status)
{
    if (!calls_simulated(fd))
        return __real_fstat64(fd, ret_status);
    return calls_result(sim_call_stat(calls.sim, fd, NULL, ret_status));
}

int __wrap_fstatat64(int fd, const char *name, struct stat *ret_status, int flags)
{
    if (!calls_simulated(fd))
        return __real_fstatat64(fd, name, ret_status, flags);
    return calls_result(sim_call_stat(calls.sim, fd, name, ret_status));
}

int __wrap_faccessat(int fd, const char *name, int mode, int flags)
{
    if (!calls_simulated(fd))
        return __real_faccessat(fd, name, mode, flags);
    return calls_result(sim_call_access(calls.sim, fd, name));
}

int __wrap_unlinkat(int fd, const char *name, int flags)
{
    if (!calls_simulated(fd))
        return __real_unlinkat(fd, name, flags);
    return calls_result(sim_call_unlink(calls.sim, fd, name, flags & AT_REMOVEDIR));
}

int __wrap_mkdirat(int fd, const char *name, mode_t mode)
{
    if (!calls_simulated(fd))
        return __real_mkdirat(fd, name, mode);
    return calls_result(sim_call_mkdir(calls.sim, fd, name, mode));
}

int __wrap_renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    if (!calls_simulated(from_fd))
        return __real_renameat(from_fd, from, to_fd, to);
    return calls_result(sim_call_rename(calls.sim, from_fd, from, to_fd, to, true));
}

int __wrap_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
    if (!calls_simulated(from_fd))
        return __real_renameat2(from_fd, from, to_fd, to, flags);
    return calls_result(
        sim_call_rename(calls.sim, from_fd, from, to_fd, to, !(flags & RENAME_NOREPLACE)));
}

int __wrap_futimens(int fd, const struct timespec times[2])
{
    if (!calls_simulated(fd))
        return __real_futimens(fd, times);
    uint64_t modified_ns = (uint64_t)times[1].tv_sec * 1000000000 + (uint64_t)times[1].tv_nsec;
    return calls_result(sim_call_set_time(calls.sim, fd, modified_ns));
}

// Only through the link of an open descriptor.
int __wrap_chmod(const char *path, mode_t mode)
{
    static const char link[] = "/proc/self/fd/";
    int fd = strncmp(path, link, strlen(link)) == 0 ? atoi(path + strlen(link)) : -1;
    if (!calls_simulated(fd))
        return __real_chmod(path, mode);
    return calls_result(sim_call_set_mode(calls.sim, fd, mode));
}

int __wrap_fchmod(int fd, mode_t mode)
{
    if (!calls_simulated(fd))
        return __real_fchmod(fd, mode);
    return calls_result(sim_call_set_mode(calls.sim, fd, mode));
}

// There are no symbolic links.
ssize_t __wrap_readlinkat(int fd, const char *name, char *ret_target, size_t size)
{
    return calls_simulated(fd) ? calls_result(-EINVAL)
                               : __real_readlinkat(fd, name, ret_target, size);
}

// --- Directories ---------------------------------------------------------------------------------

static struct calls_directory **calls_find(DIR *directory)
{
    struct calls_directory **link = &calls.directories;
    while (*link && (void *)*link != (void *)directory)
        link = &(*link)->next;
    return link;
}

DIR *__wrap_fdopendir(int fd)
{
    if (!calls_simulated(fd))
        return __real_fdopendir(fd);
    struct calls_directory *directory = calloc(1, sizeof *directory);
    if (!directory)
        return NULL;
    directory->fd = fd;
    directory->next = calls.directories;
    calls.directories = directory;
    return (DIR *)(void *)directory;
}

struct dirent *__wrap_readdir64(DIR *stream)
{
    struct calls_directory *directory = *calls_find(stream);
    const char *name;
    if (!directory)
        return __real_readdir64(stream);
    if (calls_result(sim_call_entry(calls.sim, directory->fd, &directory->at, &name)) < 0 || !name)
        return NULL;
    strcpy(directory->entry.d_name, name);
    return &directory->entry;
}

int __wrap_closedir(DIR *stream)
{
    struct calls_directory **link = calls_find(stream), *directory = *link;
    if (!directory)
        return __real_closedir(stream);
    *link = directory->next;
    int result = __wrap_close(directory->fd);
    free(directory);
    return result;
}

int __wrap_dirfd(DIR *stream)
{
    const struct calls_directory *directory = *calls_find(stream);
    return directory ? directory->fd : __real_dirfd(stream);
}

// --- Bytes ---------------------------------------------------------------------------------------

int __wrap_ftruncate64(int fd, off_t size)
{
    if (!calls_simulated(fd))
        return __real_ftruncate64(fd, size);
    return calls_result(sim_call_truncate(calls.sim, fd, (uint64_t)size));
}

int __wrap_fsync(int fd)
{
    return calls_simulated(fd) ? calls_result(sim_call_sync(calls.sim, fd)) : __real_fsync(fd);
}

ssize_t __wrap_preadv64v2(int fd, const struct iovec *iovecs, int count, off_t offset, int flags)
{
    if (!calls_simulated(fd))
        return __real_preadv64v2(fd, iovecs, count, offset, flags);
    if (count != 1)
        return calls_result(-EINVAL); // nobody does
    return calls_result(sim_call_read(calls.sim, fd, iovecs, (uint64_t)offset, flags & RWF_NOWAIT));
}

ssize_t __wrap_pwritev64(int fd, const struct iovec *iovecs, int count, off_t offset)
{
    if (!calls_simulated(fd))
        return __real_pwritev64(fd, iovecs, count, offset);
    return calls_result(sim_call_write(calls.sim, fd, iovecs, count, (uint64_t)offset));
}

ssize_t __wrap_write(int fd, const void *data, size_t size)
{
    const struct iovec iovec = { .iov_base = (void *)(uintptr_t)data, .iov_len = size };
    if (!calls_simulated(fd))
        return __real_write(fd, data, size);
    return calls_result(sim_call_write(calls.sim, fd, &iovec, 1, 0));
}

// --- Time and chance -----------------------------------------------------------------------------

ssize_t __wrap_getrandom(void *ret_data, size_t size, unsigned flags)
{
    if (!calls.sim)
        return __real_getrandom(ret_data, size, flags);
    sim_call_random(calls.sim, ret_data, size);
    return (ssize_t)size;
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time)
{
    if (!calls.sim)
        return __real_clock_gettime(clock, ret_time);
    uint64_t now_ns = clock == CLOCK_REALTIME ? sim_real_time(calls.sim) : sim_now(calls.sim);
    *ret_time = (struct timespec){ .tv_sec = (time_t)(now_ns / 1000000000),
                                   .tv_nsec = (long)(now_ns % 1000000000) };
    return 0;
}

time_t __wrap_time(time_t *ret_time)
{
    if (!calls.sim)
        return __real_time(ret_time);
    time_t now = (time_t)(sim_real_time(calls.sim) / 1000000000);
    if (ret_time)
        *ret_time = now;
    return now;
}

char *__wrap_crypt_r(const char *password, const char *setting, struct crypt_data *data)
{
    const size_t size = strlen(CALLS_HASH);
    if (strlen(password) + size >= sizeof data->output || strncmp(setting, CALLS_HASH, size) != 0)
        return NULL;
    memcpy(data->output, CALLS_HASH, size);
    strcpy(data->output + size, password);
    return data->output;
}
