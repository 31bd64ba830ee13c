// LIST, NLST, MLSD and STAT with a name. A directory of any size passes through one buffer: a job
// formats up to 256 entries, they are queued, and when the client has room for more the next job
// starts. Entries come in the order of the directory.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "facts.h"
#include "transfer.h"
#include "work.h"

enum { LISTING_ENTRIES = 256, LISTING_BUFFER = 64 * 1024 };

struct ftp_listing {
    DIR *directory; // NULL: one name only
    size_t size;    // bytes in the buffer
    uint32_t facts;
    bool all; // names with a dot too
    bool writable;
    bool opened;
    bool ended;
    time_t now;
    char prefix[FTP_LINE_MAX + 1]; // NLST: what stands before each name
    char pattern[NAME_MAX + 1];    // "": all names
    char path[FTP_PATH_MAX];       // of the directory
    char buffer[LISTING_BUFFER];
};

void ftp_listing_free(struct ftp_listing *listing)
{
    if (listing && listing->directory)
        closedir(listing->directory);
    free(listing);
}

static struct ftp_transfer *listing_in_job(struct weir_operation *operation)
{
    return (struct ftp_transfer *)(void *)((char *)operation -
                                           offsetof(struct ftp_transfer, operation));
}

// --- Entries: in a job ---------------------------------------------------------------------------

// Facts are about what a link leads to, if that is below the root.
static void listing_follow(const struct ftp_transfer *transfer, const char *name,
                           struct stat *status)
{
    char path[FTP_PATH_MAX];
    if (ftp_path_join(transfer->listing->path, name, path))
        return;
    int fd = ftp_work_open(transfer->root_fd, path, O_PATH, 0);
    if (fd < 0)
        return;
    struct stat target;
    if (fstat(fd, &target) == 0)
        *status = target;
    close(fd);
}

// Adds a line for a name in the directory. One that vanished meanwhile is left out.
static void listing_add(struct ftp_transfer *transfer, int directory_fd, const char *name)
{
    struct ftp_listing *listing = transfer->listing;
    char *line = listing->buffer + listing->size, target[FTP_PATH_MAX];
    struct stat status;
    struct ftp_entry entry = { .name = name, .status = &status };
    if (transfer->verb == FTP_NLST) {
        listing->size += ftp_facts_name(listing->prefix, name, line);
        return;
    }
    if (fstatat(directory_fd, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
        return;
    if (transfer->verb == FTP_MLSD) {
        if (S_ISLNK(status.st_mode))
            listing_follow(transfer, name, &status);
        listing->size += ftp_facts_machine(&entry, listing->facts, listing->writable, line);
        return;
    }
    if (S_ISLNK(status.st_mode)) {
        ssize_t size = readlinkat(directory_fd, name, target, sizeof target - 1);
        target[size > 0 ? size : 0] = '\0';
        entry.target = target;
    }
    listing->size += ftp_facts_list(&entry, listing->now, line);
}

static bool listing_wants(const struct ftp_listing *listing, const char *name)
{
    if (!strcmp(name, ".") || !strcmp(name, "..") ||
        !strncmp(name, FTP_UPLOAD_PREFIX, strlen(FTP_UPLOAD_PREFIX)))
        return false;
    if (*listing->pattern)
        return ftp_path_matches(listing->pattern, name);
    return listing->all || *name != '.';
}

static int listing_step(struct weir_operation *operation)
{
    struct ftp_transfer *transfer = listing_in_job(operation);
    struct ftp_listing *listing = transfer->listing;
    listing->size = 0;
    for (int i = 0; i < LISTING_ENTRIES && listing->size + FTP_FACTS_LINE_MAX <= LISTING_BUFFER;
         i++) {
        errno = 0;
        const struct dirent *entry = readdir(listing->directory);
        if (!entry) {
            listing->ended = true;
            return -errno;
        }
        if (listing_wants(listing, entry->d_name))
            listing_add(transfer, dirfd(listing->directory), entry->d_name);
    }
    return 0;
}

// --- Opening: in a job ---------------------------------------------------------------------------

static int listing_open_directory(struct ftp_transfer *transfer, const char *path)
{
    struct ftp_listing *listing = transfer->listing;
    int fd = ftp_work_open(transfer->root_fd, path, O_RDONLY | O_DIRECTORY | O_NONBLOCK, 0);
    if (fd < 0)
        return fd;
    strcpy(listing->path, path);
    listing->directory = fdopendir(fd);
    if (listing->directory)
        return 0;
    close(fd);
    return -ENOMEM;
}

// The last name is a pattern, and what stands before it a directory.
static int listing_open_pattern(struct ftp_transfer *transfer)
{
    struct ftp_listing *listing = transfer->listing;
    char parent[FTP_PATH_MAX + 1] = "/";
    // UNTESTED: a name so long is refused before
    if (strlen(transfer->name) > NAME_MAX)
        return -ENAMETOOLONG;
    const char *name;
    ftp_path_split(transfer->path, parent + 1, &name);
    strcpy(listing->pattern, name);
    char *slash = strrchr(listing->prefix, '/');
    listing->prefix[slash ? slash - listing->prefix + 1 : 0] = '\0';
    if (!strcmp(parent, "/."))
        parent[1] = '\0';
    return listing_open_directory(transfer, parent);
}

static int listing_open_file(struct ftp_transfer *transfer)
{
    struct ftp_listing *listing = transfer->listing;
    const char *name;
    int fd = ftp_work_open_parent(transfer->root_fd, transfer->path, &name);
    if (fd < 0)
        return fd;
    // NLST answers what can be used as it stands: the argument itself.
    char *slash = strrchr(listing->prefix, '/');
    listing->prefix[slash ? slash - listing->prefix + 1 : 0] = '\0';
    listing_add(transfer, fd, name);
    close(fd);
    listing->ended = true;
    return 0;
}

static int listing_open(struct weir_operation *operation)
{
    struct ftp_transfer *transfer = listing_in_job(operation);
    struct ftp_listing *listing = transfer->listing;
    int error = listing_open_directory(transfer, transfer->path);
    size_t size = strlen(listing->prefix);
    if (!error && size && listing->prefix[size - 1] != '/')
        strcpy(listing->prefix + size, "/");
    if (error == -ENOENT && transfer->verb != FTP_MLSD && ftp_path_is_pattern(transfer->name))
        error = listing_open_pattern(transfer);
    else if (error == -ENOTDIR && transfer->verb != FTP_MLSD)
        error = listing_open_file(transfer);
    return error;
}

// --- On the loop ---------------------------------------------------------------------------------

static void listing_send(struct ftp_transfer *transfer)
{
    struct ftp_listing *listing = transfer->listing;
    size_t size = listing->size;
    if (transfer->verb == FTP_STAT)
        size = ftp_reply_lines(transfer->session, listing->buffer, size);
    else
        weir_stream_send(transfer->data, listing->buffer, size);
    transfer->moved += size;
    listing->size = 0;
}

static void listing_stepped(struct weir_operation *operation, int64_t result)
{
    struct ftp_transfer *transfer = ftp_transfer_of(operation);
    if (result < 0 && !transfer->error) {
        ftp_transfer_fail(transfer, (int)result);
        return;
    }
    if (transfer->error || !ftp_transfer_out(transfer)) {
        ftp_transfer_settle(transfer);
        return;
    }
    ftp_listing_run(transfer);
}

// Queues what the last job formatted, and starts the next when the client takes it.
void ftp_listing_run(struct ftp_transfer *transfer)
{
    listing_send(transfer);
    if (transfer->listing->ended) {
        ftp_transfer_complete(transfer);
        return;
    }
    if (weir_stream_is_full(ftp_transfer_out(transfer)))
        return;
    ftp_transfer_own(transfer, listing_stepped);
    weir_job_start(transfer->loop, &transfer->operation, listing_step);
}

static void listing_opened(struct weir_operation *operation, int64_t result)
{
    struct ftp_transfer *transfer = ftp_transfer_of(operation);
    if (result < 0 && !transfer->error)
        transfer->error = (int32_t)result;
    ftp_transfer_opened(transfer);
}

static struct ftp_listing *listing_create(const struct ftp_session *session, const char *argument,
                                          bool all)
{
    struct ftp_listing *listing = malloc(sizeof *listing);
    struct timespec now;
    if (!listing)
        return NULL;
    // The buffers need no zeroes.
    memset(listing, 0, offsetof(struct ftp_listing, prefix));
    clock_gettime(CLOCK_REALTIME, &now);
    listing->now = now.tv_sec;
    listing->facts = session->facts;
    listing->writable = ftp_session_may_write(session);
    listing->all = all;
    listing->pattern[0] = '\0';
    snprintf(listing->prefix, sizeof listing->prefix - 1, "%s", argument);
    return listing;
}

static void listing_start(struct ftp_session *session, enum ftp_verb verb, const char *argument,
                          bool all)
{
    char path[FTP_PATH_MAX];
    if (!ftp_session_path(session, argument, path))
        return;
    struct ftp_transfer *transfer = ftp_transfer_create(session, FTP_LISTING, verb, path);
    if (!transfer)
        return;
    transfer->listing = listing_create(session, argument, all);
    if (!transfer->listing) {
        ftp_transfer_fail(transfer, -ENOMEM);
        return;
    }
    ftp_transfer_own(transfer, listing_opened);
    weir_job_start(transfer->loop, &transfer->operation, listing_open);
}

// --- Commands ------------------------------------------------------------------------------------

// Clients send LIST as if it were ls. Its options end at the first word without a dash, or at "--".
static const char *listing_skip_options(const char *argument, bool *ret_all)
{
    while (*argument == '-') {
        size_t size = strcspn(argument, " ");
        bool last = size == 2 && argument[1] == '-';
        *ret_all |= memchr(argument, 'a', size) || memchr(argument, 'A', size);
        argument += size;
        argument += strspn(argument, " ");
        if (last)
            break;
    }
    return argument;
}

void ftp_transfer_list(struct ftp_session *session, const char *argument)
{
    bool all = false;
    argument = listing_skip_options(argument, &all);
    if (ftp_transfer_has_data(session))
        listing_start(session, FTP_LIST, argument, all);
}

void ftp_transfer_nlst(struct ftp_session *session, const char *argument)
{
    bool all = false;
    argument = listing_skip_options(argument, &all);
    if (ftp_transfer_has_data(session))
        listing_start(session, FTP_NLST, argument, all);
}

void ftp_transfer_mlsd(struct ftp_session *session, const char *argument)
{
    if (ftp_transfer_has_data(session))
        listing_start(session, FTP_MLSD, argument, true);
}

static void listing_say_progress(struct ftp_session *session)
{
    const struct ftp_transfer *transfer = session->transfer;
    uint64_t moved = transfer->moved;
    uint64_t queued = transfer->data ? weir_stream_queued(transfer->data) : 0;
    moved -= queued < moved ? queued : moved;
    ftp_reply_format(session, "211 A transfer is running; %llu bytes so far.",
                     (unsigned long long)moved);
}

void ftp_transfer_stat(struct ftp_session *session, const char *argument)
{
    bool all = false;
    if (session->transfer) {
        listing_say_progress(session);
    } else if (*argument) {
        argument = listing_skip_options(argument, &all);
        listing_start(session, FTP_STAT, argument, all);
    } else {
        ftp_reply(session, "211-weir FTP server:");
        ftp_reply_name(session, " User: ", session->name, "");
        ftp_reply_name(session, " Directory: ", session->cwd, "");
        ftp_reply_format(session, " Type: %s", session->ascii ? "ASCII" : "binary");
        ftp_reply(session, "211 End");
    }
}
