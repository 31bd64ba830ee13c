// System calls on simulated files: what servers ask for in jobs and, where nothing waits, on the
// loop. Each fails now and then, as the real ones may.
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "kernel.h"

enum { CALLS_NS = 500, CALLS_FILE_MAX = 1 << 28 };

static struct sim_file *calls_file(const struct sim *sim, int fd)
{
    struct sim_object *object = sim_descriptor(sim, fd);
    if (!object || object->kind != SIM_FILE)
        return NULL; // UNTESTED: no server asks for that
    return container_of(object, struct sim_file, object);
}

// A call begins: it takes time, and its descriptor must be open.
static struct sim_file *calls_begin(struct sim *sim, int fd, const char *what)
{
    sim_spend(sim, CALLS_NS);
    struct sim_file *file = calls_file(sim, fd);
    if (!file)
        // UNTESTED: what this counts is a mistake, and none is left
        sim->counts.bad_descriptors++;
    sim_trace(sim, what, (uint64_t)fd, file ? (int64_t)file->node->number : -EBADF);
    return file;
}

static int calls_open_error(struct sim *sim)
{
    static const int errors[] = { EIO, EMFILE, ENFILE, ENOMEM, ENOENT, EACCES };
    return -errors[sim_random(sim, sizeof errors / sizeof *errors)];
}

static int calls_change_error(struct sim *sim)
{
    static const int errors[] = { EIO, ENOSPC, EDQUOT, EROFS, ENOMEM };
    return -errors[sim_random(sim, sizeof errors / sizeof *errors)];
}

// --- Opening -------------------------------------------------------------------------------------

// path_init() and __legitimize_path(): what may fail before any name is looked at. A kernel asks to
// try again while a rename is under way somewhere; not for ever.
static int calls_open_excuse(struct sim *sim, uint64_t resolve)
{
    if (resolve & RESOLVE_CACHED && sim_strikes(sim, SIM_FILE_COLD))
        return -EAGAIN;
    if (resolve & RESOLVE_BENEATH && !(resolve & RESOLVE_CACHED) && !sim->renaming &&
        sim_strikes(sim, SIM_FILE_RACE)) {
        sim->renaming = true;
        return -EAGAIN;
    }
    sim->renaming = false;
    return sim_strikes(sim, SIM_FILE_ERROR) ? calls_open_error(sim) : 0;
}

int sim_call_open(struct sim *sim, int fd, const char *text, uint64_t flags, uint64_t mode,
                  uint64_t resolve)
{
    struct sim_path path = { .text = text, .beneath = resolve & RESOLVE_BENEATH };
    if (fd == AT_FDCWD) {
        path.start = sim_node_root(sim);
    } else {
        const struct sim_file *directory = calls_begin(sim, fd, "openat");
        if (!directory)
            return -EBADF; // UNTESTED: no server asks for that
        path.start = directory->node;
    }
    // O_CREAT may have to wait for the disk (build_open_flags).
    if (resolve & RESOLVE_CACHED && flags & (O_CREAT | O_TRUNC | O_TMPFILE))
        return -EAGAIN;
    int error = calls_open_excuse(sim, resolve);
    int result = error ? error : sim_path_open(sim, &path, flags, mode);
    sim_trace(sim, "opened file", path.node ? path.node->number : 0, result);
    return result;
}

int sim_call_duplicate(struct sim *sim, int fd)
{
    struct sim_file *file = calls_begin(sim, fd, "dup");
    if (!file)
        return -EBADF; // UNTESTED: no server asks for that
    file->object.references++;
    int copy = sim_descriptor_open(sim, &file->object);
    if (copy < 0)
        file->object.references--;
    return copy;
}

int sim_call_close(struct sim *sim, int fd)
{
    return sim_descriptor_close(sim, fd);
}

// --- Looking -------------------------------------------------------------------------------------

// The entry of a name in a directory that is open, or the file itself for NULL and "".
static int calls_entry(struct sim *sim, int fd, const char *name, const char *what,
                       struct sim_node **ret_node)
{
    const struct sim_file *file = calls_begin(sim, fd, what);
    if (!file)
        return -EBADF; // UNTESTED: no server asks for that
    if (!name || !*name) {
        *ret_node = file->node;
        return 0;
    }
    struct sim_path path = { .start = file->node, .text = name };
    int error = sim_path_walk(sim, &path);
    if (!error && !path.node)
        error = -ENOENT;
    *ret_node = path.node;
    return error;
}

static struct timespec calls_time(uint64_t time_ns)
{
    return (struct timespec){ .tv_sec = (time_t)(time_ns / 1000000000),
                              .tv_nsec = (long)(time_ns % 1000000000) };
}

int sim_call_stat(struct sim *sim, int fd, const char *name, struct stat *ret_status)
{
    struct sim_node *node;
    int error = calls_entry(sim, fd, name, "fstat", &node);
    if (!error && sim_strikes(sim, SIM_FILE_ERROR))
        error = -EIO;
    if (error)
        return error;
    *ret_status = (struct stat){
        .st_dev = 1,
        .st_ino = node->number,
        .st_mode = node->mode,
        .st_nlink = sim_node_is_linked(node),
        .st_size = S_ISDIR(node->mode) ? 4096 : (off_t)node->size,
        .st_blksize = 4096,
        .st_mtim = calls_time(node->modified_ns),
        .st_ctim = calls_time(node->changed_ns),
    };
    return 0;
}

int sim_call_access(struct sim *sim, int fd, const char *name)
{
    struct sim_node *node;
    int error = calls_entry(sim, fd, name, "faccessat", &node);
    return !error && sim_strikes(sim, SIM_FILE_ERROR) ? -EIO : error;
}

int sim_call_entry(struct sim *sim, int fd, uint32_t *at, const char **ret_name)
{
    const struct sim_file *file = calls_begin(sim, fd, "getdents");
    uint32_t count = 0;
    *ret_name = NULL;
    if (!file)
        return -EBADF; // UNTESTED: no server asks for that
    if (sim_strikes(sim, SIM_FILE_ERROR))
        return -EIO;
    for (struct sim_link *link = sim->nodes.next; link != &sim->nodes; link = link->next) {
        const struct sim_node *node = container_of(link, struct sim_node, link);
        if (node->parent != file->node || count++ < *at)
            continue;
        ++*at;
        *ret_name = node->name;
        return 0;
    }
    return 0;
}

// --- Changing names ------------------------------------------------------------------------------

// A directory that is open, and a name in it, which may be free.
static int calls_place(struct sim *sim, int fd, const char *name, const char *what,
                       struct sim_path *ret_path)
{
    const struct sim_file *file = calls_begin(sim, fd, what);
    if (!file)
        return -EBADF; // UNTESTED: no server asks for that
    *ret_path = (struct sim_path){ .start = file->node, .text = name };
    int error = sim_path_walk(sim, ret_path);
    if (!error && sim_strikes(sim, SIM_FILE_ERROR))
        error = calls_change_error(sim);
    return error;
}

static bool calls_has_entries(const struct sim *sim, const struct sim_node *directory)
{
    const struct sim_link *link = sim->nodes.next;
    for (; link != &sim->nodes; link = link->next) {
        if (container_of(link, struct sim_node, link)->parent == directory)
            return true;
    }
    return false;
}

static void calls_unlink(struct sim_node *node)
{
    sim_node_touch(node->parent);
    node->parent = NULL;
}

int sim_call_unlink(struct sim *sim, int fd, const char *name, bool directory)
{
    struct sim_path path;
    int error = calls_place(sim, fd, name, directory ? "rmdir" : "unlink", &path);
    if (!error && !path.node)
        error = -ENOENT;
    if (error)
        return error;
    if (directory != S_ISDIR(path.node->mode))
        return directory ? -ENOTDIR : -EISDIR;
    if (directory && calls_has_entries(sim, path.node))
        return -ENOTEMPTY;
    calls_unlink(path.node);
    return 0;
}

int sim_call_mkdir(struct sim *sim, int fd, const char *name, uint32_t mode)
{
    struct sim_path path;
    int error = calls_place(sim, fd, name, "mkdir", &path);
    if (error)
        return error;
    if (path.node)
        return -EEXIST;
    if (!sim_node_is_linked(path.parent))
        return -ENOENT; // UNTESTED: no server asks for that
    sim_node_add(sim, path.parent, name, S_IFDIR | (mode & 0777));
    return 0;
}

static bool calls_is_inside(const struct sim_node *node, const struct sim_node *directory)
{
    while (node && node != directory)
        node = node->parent;
    return node != NULL;
}

// vfs_rename(): whether `from` may take the place of `to`.
static int calls_rename_check(const struct sim *sim, const struct sim_path *from,
                              const struct sim_path *to, bool replace)
{
    if (!from->node || !sim_node_is_linked(to->parent))
        return -ENOENT; // UNTESTED: no server asks for that
    if (calls_is_inside(to->parent, from->node))
        return -EINVAL; // UNTESTED: no server asks for that
    if (!to->node)
        return 0;
    if (!replace)
        return -EEXIST; // UNTESTED: no server asks for that
    if (S_ISDIR(from->node->mode) != S_ISDIR(to->node->mode))
        return S_ISDIR(to->node->mode) ? -EISDIR : -ENOTDIR; // UNTESTED: no server asks for that
    return S_ISDIR(to->node->mode) && calls_has_entries(sim, to->node) ? -ENOTEMPTY : 0;
}

int sim_call_rename(struct sim *sim, int from_fd, const char *from_name, int to_fd,
                    const char *to_name, bool replace)
{
    struct sim_path from, to;
    int error = calls_place(sim, from_fd, from_name, "rename", &from);
    if (!error)
        error = calls_place(sim, to_fd, to_name, "to", &to);
    if (!error)
        error = calls_rename_check(sim, &from, &to, replace);
    if (error || from.node == to.node)
        return error;
    if (to.node)
        calls_unlink(to.node);
    sim_node_touch(from.parent);
    sim_node_rename(from.node, to.parent, to_name);
    return 0;
}

// --- Changing files ------------------------------------------------------------------------------

static struct sim_node *calls_change(struct sim *sim, int fd, const char *what, int *ret_error)
{
    struct sim_file *file = calls_begin(sim, fd, what);
    *ret_error = file ? 0 : -EBADF;
    if (file && sim_strikes(sim, SIM_FILE_ERROR))
        *ret_error = calls_change_error(sim);
    return *ret_error ? NULL : file->node;
}

int sim_call_set_time(struct sim *sim, int fd, uint64_t modified_ns)
{
    int error;
    struct sim_node *node = calls_change(sim, fd, "utimens", &error);
    if (!node)
        return error; // UNTESTED: no server asks for that
    node->modified_ns = modified_ns;
    node->changed_ns = sim_real_time(sim);
    return 0;
}

int sim_call_set_mode(struct sim *sim, int fd, uint32_t mode)
{
    int error;
    struct sim_node *node = calls_change(sim, fd, "chmod", &error);
    if (!node)
        return error; // UNTESTED: the server changes only files that are open
    node->mode = (node->mode & ~07777U) | (mode & 07777);
    node->changed_ns = sim_real_time(sim);
    return 0;
}

int sim_call_truncate(struct sim *sim, int fd, uint64_t size)
{
    int error;
    struct sim_node *node = calls_change(sim, fd, "ftruncate", &error);
    if (node && size > CALLS_FILE_MAX)
        return -EFBIG; // UNTESTED: no server asks for that
    if (node)
        sim_node_resize(node, size);
    return error;
}

int sim_call_sync(struct sim *sim, int fd)
{
    int error;
    calls_change(sim, fd, "fsync", &error);
    return error;
}

// --- Bytes ---------------------------------------------------------------------------------------

int64_t sim_node_read(struct sim *sim, const struct sim_node *node, const struct iovec *iovec,
                      uint64_t offset)
{
    if (S_ISDIR(node->mode))
        return -EISDIR; // UNTESTED: no server asks for that
    if (sim_strikes(sim, SIM_FILE_ERROR))
        return -EIO;
    if (offset >= node->size)
        return 0; // UNTESTED: no server asks for that
    size_t left = node->size - offset, size = iovec->iov_len;
    size = sim_shortened(sim, SIM_FILE_SHORT, size < left ? size : left);
    memcpy(iovec->iov_base, node->data + offset, size);
    return (int64_t)size;
}

// A disk that fills up takes a part first.
int64_t sim_node_write(struct sim *sim, struct sim_node *node, const struct iovec *iovec,
                       uint64_t offset)
{
    if (S_ISDIR(node->mode))
        return -EBADF; // UNTESTED: no server asks for that
    if (sim_strikes(sim, SIM_FILE_ERROR))
        return sim_random(sim, 2) ? -EIO : -ENOSPC;
    if (offset > CALLS_FILE_MAX || iovec->iov_len > CALLS_FILE_MAX)
        return -EFBIG; // UNTESTED: no server asks for that
    size_t size = sim_shortened(sim, SIM_FILE_SHORT, iovec->iov_len), end = offset + size;
    sim_node_reserve(node, end);
    memcpy(node->data + offset, iovec->iov_base, size);
    if (end > node->size)
        node->size = end;
    sim_node_touch(node);
    return (int64_t)size;
}

int64_t sim_call_read(struct sim *sim, int fd, const struct iovec *iovec, uint64_t offset,
                      bool no_wait)
{
    const struct sim_file *file = calls_begin(sim, fd, "preadv");
    if (!file)
        return -EBADF; // UNTESTED: no server asks for that
    if (no_wait && sim_strikes(sim, SIM_FILE_COLD))
        return -EAGAIN;
    return sim_node_read(sim, file->node, iovec, offset);
}

int64_t sim_call_write(struct sim *sim, int fd, const struct iovec *iovecs, int count,
                       uint64_t offset)
{
    const struct sim_file *file = calls_begin(sim, fd, "pwritev");
    int64_t done = 0;
    if (!file)
        return -EBADF; // UNTESTED: no server asks for that
    if (file->flags & O_APPEND)
        offset = file->node->size;
    for (int i = 0; i < count; i++) {
        int64_t result = sim_node_write(sim, file->node, &iovecs[i], offset + (uint64_t)done);
        if (result < 0)
            return done ? done : result;
        done += result;
        if ((size_t)result < iovecs[i].iov_len)
            break;
    }
    return done;
}
