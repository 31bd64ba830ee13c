// See work.h.
#include "work.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

struct ftp_work *ftp_work_create(struct ftp_session *session, const char *path, const char *other)
{
    size_t size = strlen(path) + 1, other_size = other ? strlen(other) + 1 : 0;
    struct ftp_work *work = calloc(1, sizeof *work + size + other_size);
    if (!work)
        return NULL;
    work->session = session;
    work->root_fd = session->root_fd;
    memcpy(work->path, path, size);
    if (other)
        work->other = memcpy(work->path + size, other, other_size);
    return work;
}

struct ftp_work *ftp_work_of(struct weir_operation *operation)
{
    return (struct ftp_work *)(void *)((char *)operation - offsetof(struct ftp_work, operation));
}

static void work_done(struct weir_operation *operation, int64_t result)
{
    struct ftp_work *work = ftp_work_of(operation);
    struct ftp_session *session = work->session;
    session->work = NULL;
    session->busy = false;
    work->done(work, (int)result);
    free(work);
    if (!session->busy)
        ftp_session_continue(session);
}

static struct weir_loop *work_prepare(struct ftp_work *work)
{
    struct ftp_session *session = work->session;
    work->operation.done = work_done;
    work->operation.stream = session->control;
    session->work = work;
    session->busy = true;
    return weir_stream_loop(session->control);
}

void ftp_work_start(struct ftp_work *work, int (*run)(struct weir_operation *operation))
{
    weir_job_start(work_prepare(work), &work->operation, run);
}

void ftp_work_start_background(struct ftp_work *work, int (*run)(struct weir_operation *operation))
{
    weir_job_start_background(work_prepare(work), &work->operation, run);
}

static int work_open(int root_fd, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve)
{
    struct open_how how = {
        .flags = flags | O_CLOEXEC,
        .mode = mode,
        .resolve = resolve | RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };
    int fd = (int)syscall(SYS_openat2, root_fd, ftp_path_relative(path), &how, sizeof how);
    return fd < 0 ? -errno : fd;
}

int ftp_work_open(int root_fd, const char *path, uint64_t flags, uint64_t mode)
{
    int fd;
    // EAGAIN: a rename somewhere raced with the walk, and the kernel does not know whether it
    // matters.
    int tries = 16;
    do
        fd = work_open(root_fd, path, flags, mode, 0);
    while (fd == -EINTR || (fd == -EAGAIN && tries--));
    return fd;
}

int ftp_work_open_cached(int root_fd, const char *path, uint64_t flags)
{
    int fd = work_open(root_fd, path, flags, 0, RESOLVE_CACHED);
    // A kernel before 5.12 does not know the flag.
    return fd == -EINVAL || fd == -EINTR ? -EAGAIN : fd;
}

int ftp_work_open_parent(int root_fd, const char *path, const char **ret_name)
{
    char parent[FTP_PATH_MAX + 1];
    // A leading slash, as ftp_work_open expects of a path.
    parent[0] = '/';
    if (!ftp_path_split(path, parent + 1, ret_name))
        return -EINVAL;
    return ftp_work_open(root_fd, parent, O_PATH | O_DIRECTORY, 0);
}
