// Commands on names: each is a row of a table, with the job that does it and the reply.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "facts.h"
#include "work.h"

struct name_row {
    int (*run)(struct weir_operation *operation);
    void (*succeeded)(struct ftp_work *work);
    const char *reply; // instead of `succeeded`
    bool writes;       // others are first tried on the loop, with what the kernel has in memory
};

// --- Jobs ----------------------------------------------------------------------------------------

static int names_result(int result)
{
    return result < 0 ? -errno : 0;
}

static int names_open(const struct ftp_work *work, uint64_t flags)
{
    return work->cached ? ftp_work_open_cached(work->root_fd, work->path, flags)
                        : ftp_work_open(work->root_fd, work->path, flags, 0);
}

// Opens what the path names, without any right to read it, and looks at it.
static int names_open_status(struct ftp_work *work)
{
    int fd = names_open(work, O_PATH);
    if (fd < 0)
        return fd;
    if (fstat(fd, &work->status) == 0)
        return fd;
    int error = -errno;
    close(fd);
    return error;
}

static int names_run_status(struct weir_operation *operation)
{
    int fd = names_open_status(ftp_work_of(operation));
    if (fd < 0)
        return fd;
    close(fd);
    return 0;
}

static int names_run_cwd(struct weir_operation *operation)
{
    struct ftp_work *work = ftp_work_of(operation);
    int fd = names_open(work, O_PATH | O_DIRECTORY);
    if (fd < 0)
        return fd;
    int result = names_result(faccessat(fd, "", X_OK, AT_EACCESS | AT_EMPTY_PATH));
    close(fd);
    return result;
}

// Acts on a name in its directory.
static int names_in_parent(struct weir_operation *operation, int (*act)(int fd, const char *name))
{
    struct ftp_work *work = ftp_work_of(operation);
    const char *name;
    int fd = ftp_work_open_parent(work->root_fd, work->path, &name);
    if (fd < 0)
        return fd;
    int result = names_result(act(fd, name));
    close(fd);
    return result;
}

static int names_unlink(int fd, const char *name)
{
    return unlinkat(fd, name, 0);
}

static int names_rmdir(int fd, const char *name)
{
    return unlinkat(fd, name, AT_REMOVEDIR);
}

static int names_mkdir(int fd, const char *name)
{
    return mkdirat(fd, name, 0777);
}

static int names_look(int fd, const char *name)
{
    struct stat status;
    return fstatat(fd, name, &status, AT_SYMLINK_NOFOLLOW);
}

static int names_run_delete(struct weir_operation *operation)
{
    return names_in_parent(operation, names_unlink);
}

static int names_run_remove(struct weir_operation *operation)
{
    return names_in_parent(operation, names_rmdir);
}

static int names_run_make(struct weir_operation *operation)
{
    return names_in_parent(operation, names_mkdir);
}

static int names_run_rename_from(struct weir_operation *operation)
{
    return names_in_parent(operation, names_look);
}

static int names_run_rename_to(struct weir_operation *operation)
{
    struct ftp_work *work = ftp_work_of(operation);
    const char *from, *to;
    int from_fd = ftp_work_open_parent(work->root_fd, work->other, &from);
    if (from_fd < 0)
        return from_fd;
    int result = ftp_work_open_parent(work->root_fd, work->path, &to);
    if (result >= 0) {
        int to_fd = result;
        result = names_result(renameat(from_fd, from, to_fd, to));
        close(to_fd);
    }
    close(from_fd);
    return result;
}

// Opens what is to get another mode or time. What acts on a descriptor needs no path, and so no
// trust; but O_PATH is not enough for it, and the owner may lack the right to read or to write.
static int names_open_owned(const struct ftp_work *work)
{
    int fd = ftp_work_open(work->root_fd, work->path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
    if (fd == -EACCES)
        fd = ftp_work_open(work->root_fd, work->path, O_WRONLY | O_NONBLOCK | O_NOCTTY, 0);
    return fd;
}

static int names_run_set_time(struct weir_operation *operation)
{
    struct ftp_work *work = ftp_work_of(operation);
    struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = work->time } };
    int fd = names_open_owned(work);
    if (fd < 0)
        return fd;
    int result = names_result(futimens(fd, times));
    close(fd);
    return result;
}

// The link in /proc names the opened file itself, whatever has become of its path. The sandbox
// refuses this, as it cannot see which path it is.
static int names_set_mode_by_path(const struct ftp_work *work)
{
    char link[32];
    int fd = ftp_work_open(work->root_fd, work->path, O_PATH, 0);
    // UNTESTED: a file that goes between two calls
    if (fd < 0)
        return fd;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int result = names_result(chmod(link, work->mode));
    close(fd);
    return result;
}

static int names_run_set_mode(struct weir_operation *operation)
{
    const struct ftp_work *work = ftp_work_of(operation);
    int fd = names_open_owned(work);
    if (fd == -EACCES)
        return names_set_mode_by_path(work);
    if (fd < 0)
        return fd;
    int result = names_result(fchmod(fd, work->mode));
    close(fd);
    return result;
}

// --- Replies -------------------------------------------------------------------------------------

static void names_entered(struct ftp_work *work)
{
    struct ftp_session *session = work->session;
    char *cwd = strdup(work->path);
    if (!cwd) {
        ftp_reply_error(session, 550, -ENOMEM);
        return;
    }
    free(session->cwd);
    session->cwd = cwd;
    ftp_reply(session, "250 Directory changed.");
}

static void names_made(struct ftp_work *work)
{
    ftp_reply_name(work->session, "257 \"", work->path, "\" created.");
}

static void names_may_rename(struct ftp_work *work)
{
    work->session->rename_from = strdup(work->path);
    if (work->session->rename_from)
        ftp_reply(work->session, "350 Ready for RNTO.");
    else
        ftp_reply_error(work->session, 550, -ENOMEM);
}

static void names_sized(struct ftp_work *work)
{
    if (S_ISREG(work->status.st_mode))
        ftp_reply_format(work->session, "213 %lld", (long long)work->status.st_size);
    else
        ftp_reply(work->session, "550 Not a plain file.");
}

static void names_timed(struct ftp_work *work)
{
    char text[16];
    if (!S_ISREG(work->status.st_mode)) {
        ftp_reply(work->session, "550 Not a plain file.");
        return;
    }
    ftp_facts_time(work->status.st_mtime, text);
    ftp_reply_format(work->session, "213 %s", text);
}

static void names_time_set(struct ftp_work *work)
{
    char text[64], time[16];
    ftp_facts_time(work->time, time);
    snprintf(text, sizeof text, "213 Modify=%s; ", time);
    ftp_reply_name(work->session, text, work->other, "");
}

static void names_told(struct ftp_work *work)
{
    struct ftp_session *session = work->session;
    struct ftp_entry entry = { .name = work->path, .status = &work->status };
    char line[FTP_FACTS_LINE_MAX];
    size_t size = ftp_facts_machine(&entry, session->facts, ftp_session_may_write(session), line);
    ftp_reply(session, "250-Facts:");
    weir_stream_send(session->control, " ", 1);
    ftp_reply_lines(session, line, size);
    ftp_reply(session, "250 End");
}

// --- Commands ------------------------------------------------------------------------------------

static const struct name_row names_cwd = { names_run_cwd, names_entered, NULL, false };
static const struct name_row names_delete = { names_run_delete, NULL, "250 Deleted.", true };
static const struct name_row names_make = { names_run_make, names_made, NULL, true };
static const struct name_row names_remove = { names_run_remove, NULL, "250 Removed.", true };
static const struct name_row names_rename_from = { names_run_rename_from, names_may_rename, NULL,
                                                   true };
static const struct name_row names_rename_to = { names_run_rename_to, NULL, "250 Renamed.", true };
static const struct name_row names_size = { names_run_status, names_sized, NULL, false };
static const struct name_row names_time = { names_run_status, names_timed, NULL, false };
static const struct name_row names_set_time = { names_run_set_time, names_time_set, NULL, true };
static const struct name_row names_set_mode = { names_run_set_mode, NULL, "200 Mode changed.",
                                                true };
static const struct name_row names_facts = { names_run_status, names_told, NULL, false };

static void names_done(struct ftp_work *work, int result)
{
    const struct name_row *row = work->row;
    if (result < 0)
        ftp_reply_error(work->session, row == &names_rename_to ? 553 : 550, result);
    else if (row->succeeded)
        row->succeeded(work);
    else
        ftp_reply(work->session, row->reply);
}

// The job about the argument's path, not yet started; or NULL, with a reply.
static struct ftp_work *names_prepare(struct ftp_session *session, const struct name_row *row,
                                      const char *argument, const char *other)
{
    char path[FTP_PATH_MAX];
    if (row->writes && !ftp_session_may_write(session)) {
        ftp_reply(session, "550 Permission denied.");
        return NULL;
    }
    if (!ftp_session_path(session, argument, path))
        return NULL;
    struct ftp_work *work = ftp_work_create(session, path, other);
    if (!work) {
        ftp_reply_error(session, 550, -ENOMEM);
        return NULL;
    }
    work->row = row;
    work->done = names_done;
    return work;
}

// A job costs two changes of threads. What only looks and finds all names in the kernel's memory is
// done at once.
static bool names_try(struct ftp_work *work, const struct name_row *row)
{
    work->cached = true;
    int result = row->run(&work->operation);
    work->cached = false;
    if (result == -EAGAIN)
        return false;
    names_done(work, result);
    free(work);
    return true;
}

static void names_start(struct ftp_session *session, const struct name_row *row,
                        const char *argument, const char *other)
{
    struct ftp_work *work = names_prepare(session, row, argument, other);
    if (work && (row->writes || !names_try(work, row)))
        ftp_work_start(work, row->run);
}

void ftp_name_cwd(struct ftp_session *session, const char *argument)
{
    // Without an argument the root, as a shell's cd goes home.
    names_start(session, &names_cwd, *argument ? argument : "/", NULL);
}

void ftp_name_cdup(struct ftp_session *session, const char *argument)
{
    (void)argument;
    names_start(session, &names_cwd, "..", NULL);
}

void ftp_name_pwd(struct ftp_session *session, const char *argument)
{
    (void)argument;
    ftp_reply_name(session, "257 \"", session->cwd, "\" is the working directory.");
}

void ftp_name_delete(struct ftp_session *session, const char *argument)
{
    names_start(session, &names_delete, argument, NULL);
}

void ftp_name_make(struct ftp_session *session, const char *argument)
{
    names_start(session, &names_make, argument, NULL);
}

void ftp_name_remove(struct ftp_session *session, const char *argument)
{
    names_start(session, &names_remove, argument, NULL);
}

void ftp_name_rename_from(struct ftp_session *session, const char *argument)
{
    names_start(session, &names_rename_from, argument, NULL);
}

void ftp_name_rename_to(struct ftp_session *session, const char *argument)
{
    if (!session->rename_from) {
        ftp_reply(session, "503 Send RNFR first.");
        return;
    }
    names_start(session, &names_rename_to, argument, session->rename_from);
    free(session->rename_from);
    session->rename_from = NULL;
}

// The size of what an ASCII transfer would send is known only by converting the whole file.
void ftp_name_size(struct ftp_session *session, const char *argument)
{
    if (session->ascii)
        ftp_reply(session, "550 SIZE needs TYPE I.");
    else
        names_start(session, &names_size, argument, NULL);
}

void ftp_name_time(struct ftp_session *session, const char *argument)
{
    names_start(session, &names_time, argument, NULL);
}

void ftp_name_set_time(struct ftp_session *session, const char *argument)
{
    size_t size = strcspn(argument, " ");
    time_t time;
    if (!argument[size] || !argument[size + 1] || !ftp_facts_time_parse(argument, size, &time)) {
        ftp_reply_format(session, "501 Syntax: %s", ftp_verbs[FTP_MFMT].syntax);
        return;
    }
    const char *name = argument + size + 1;
    struct ftp_work *work = names_prepare(session, &names_set_time, name, name);
    if (!work)
        return;
    work->time = time;
    ftp_work_start(work, names_set_time.run);
}

void ftp_name_facts(struct ftp_session *session, const char *argument)
{
    names_start(session, &names_facts, argument, NULL);
}

static void names_chmod(struct ftp_session *session, const char *argument)
{
    char *end;
    unsigned long mode = strtoul(argument, &end, 8);
    if (*argument < '0' || *argument > '7' || mode > 0777 || *end != ' ' || !end[1]) {
        ftp_reply(session, "501 Syntax: SITE CHMOD mode name");
        return;
    }
    struct ftp_work *work = names_prepare(session, &names_set_mode, end + 1, NULL);
    if (!work)
        return;
    work->mode = (mode_t)mode;
    ftp_work_start(work, names_set_mode.run);
}

void ftp_name_site(struct ftp_session *session, const char *argument)
{
    if (!strcasecmp(argument, "HELP"))
        ftp_reply(session, "214 SITE CHMOD mode name");
    else if (!strncasecmp(argument, "CHMOD ", 6))
        names_chmod(session, argument + 6);
    else
        ftp_reply(session, "504 Only SITE HELP and SITE CHMOD.");
}
