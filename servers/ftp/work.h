// Work in the file system, as jobs. Nothing here touches a stream.
//
// Every name is resolved by openat2 from the session's root, with RESOLVE_BENEATH and without magic
// links: neither "..", symbolic links, absolute links nor a rename in between lead outside. What
// acts on a name itself (unlink, rename, mkdir) first opens its directory that way.
#ifndef FTP_WORK_H
#define FTP_WORK_H

#include <sys/stat.h>

#include "session.h"

struct ftp_work {
    struct weir_operation operation; // its stream is the control connection
    struct ftp_session *session;
    const void *row; // of the table that started it
    void (*done)(struct ftp_work *work, int result);
    int root_fd;
    bool cached; // not in a job: only what does not wait
    struct stat status;
    union {
        mode_t mode;
        time_t time;
        const struct ftp_user *user;
        int fd;
    };
    char *other; // a second path or text, behind the first
    char path[];
};

// Memory for a job about one or two paths (`other` may be NULL), or NULL.
struct ftp_work *ftp_work_create(struct ftp_session *session, const char *path, const char *other);
// Runs `run` on a helper, then work->done on the loop, then frees the work and goes on with the
// session; unless `done` made the session busy with something else.
void ftp_work_start(struct ftp_work *work, int (*run)(struct weir_operation *operation));
// The same for what computes long: nobody else waits for it.
void ftp_work_start_background(struct ftp_work *work, int (*run)(struct weir_operation *operation));
struct ftp_work *ftp_work_of(struct weir_operation *operation);

// For jobs. They return a descriptor or -errno.
int ftp_work_open(int root_fd, const char *path, uint64_t flags, uint64_t mode);
// On the loop: opens what is there if the kernel has every name of the path in memory, so that
// nothing waits. -EAGAIN: a job must do it.
int ftp_work_open_cached(int root_fd, const char *path, uint64_t flags);
// The directory of the path's last name, by O_PATH. -EINVAL for the root.
int ftp_work_open_parent(int root_fd, const char *path, const char **ret_name);

#endif
