// Files and directories in memory: a tree of nodes, and what is open of them.
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "kernel.h"

enum { FILES_NAME_MAX = 255, FILES_UMASK = 022 };

// --- Nodes ---------------------------------------------------------------------------------------

static struct sim_node *files_child(const struct sim *sim, const struct sim_node *parent,
                                    const char *name, size_t size)
{
    for (struct sim_link *link = sim->nodes.next; link != &sim->nodes; link = link->next) {
        struct sim_node *node = container_of(link, struct sim_node, link);
        if (node->parent == parent && strlen(node->name) == size &&
            memcmp(node->name, name, size) == 0)
            return node;
    }
    return NULL;
}

static struct sim_node *files_add(struct sim *sim, struct sim_node *parent, const char *name,
                                  size_t size, uint32_t mode)
{
    struct sim_node *node = sim_allocate(1, sizeof *node);
    node->sim = sim;
    node->parent = parent;
    node->name = sim_resize(NULL, size + 1, 1);
    memcpy(node->name, name, size);
    node->name[size] = '\0';
    node->number = ++sim->nodes_made;
    node->mode = mode;
    node->modified_ns = node->changed_ns = sim_real_time(sim);
    sim_list_append(&sim->nodes, &node->link);
    return node;
}

void sim_node_reserve(struct sim_node *node, size_t size)
{
    if (size <= node->capacity)
        return;
    node->data = sim_resize(node->data, 2 * size, 1);
    memset(node->data + node->capacity, 0, 2 * size - node->capacity);
    node->capacity = 2 * size;
}

void sim_node_resize(struct sim_node *node, size_t size)
{
    sim_node_reserve(node, size);
    if (size < node->size) // who writes behind it later leaves zeroes between
        memset(node->data + size, 0, node->size - size);
    node->size = size;
    sim_node_touch(node);
}

void sim_node_touch(struct sim_node *node)
{
    node->modified_ns = node->changed_ns = sim_real_time(node->sim);
}

struct sim_node *sim_node_root(struct sim *sim)
{
    struct sim_node *node = files_child(sim, NULL, "", 0);
    return node ? node : files_add(sim, NULL, "", 0, S_IFDIR | 0755);
}

// Nodes live as long as the sim: what is open may point to those whose names are gone.
void sim_nodes_free(struct sim *sim)
{
    while (!sim_list_empty(&sim->nodes)) {
        struct sim_node *node = container_of(sim->nodes.next, struct sim_node, link);
        sim_list_remove(&node->link);
        free(node->name);
        free(node->data);
        free(node);
    }
}

struct sim_node *sim_node_add(struct sim *sim, struct sim_node *parent, const char *name,
                              uint32_t mode)
{
    struct sim_node *node =
        files_add(sim, parent, name, strlen(name), mode & ~(uint32_t)FILES_UMASK);
    sim_node_touch(parent);
    return node;
}

void sim_node_rename(struct sim_node *node, struct sim_node *parent, const char *name)
{
    free(node->name);
    node->name = sim_copy_text(name);
    node->parent = parent;
    node->changed_ns = sim_real_time(node->sim);
    sim_node_touch(parent);
}

// --- Paths ---------------------------------------------------------------------------------------

static bool files_is(const char *part, size_t size, const char *text)
{
    return size == strlen(text) && memcmp(part, text, size) == 0;
}

// One step from a directory. 0 or -errno; *at is NULL if the last name is not there.
static int files_step(const struct sim *sim, const struct sim_path *path, const char *part,
                      size_t size, struct sim_node **at)
{
    if (!S_ISDIR((*at)->mode))
        return -ENOTDIR;
    if (size > FILES_NAME_MAX)
        return -ENAMETOOLONG; // UNTESTED: no server asks for that
    if (files_is(part, size, "."))
        return 0;
    if (!files_is(part, size, "..")) {
        *at = files_child(sim, *at, part, size);
        return 0;
    }
    // UNTESTED: servers leave no ".." to the kernel
    if (*at == path->start && path->beneath)
        return -EXDEV; // UNTESTED: no server asks for that
    // UNTESTED: as above
    if ((*at)->parent)
        *at = (*at)->parent;
    return 0; // UNTESTED: no server asks for that
}

int sim_path_walk(struct sim *sim, struct sim_path *path)
{
    const char *text = path->text;
    struct sim_node *at = path->start;
    if (!*text)
        return -ENOENT; // UNTESTED: no server asks for that
    if (*text == '/' && path->beneath)
        return -EXDEV; // UNTESTED: no server asks for that
    // UNTESTED: servers walk from a root of theirs
    if (*text == '/')
        at = sim_node_root(sim);
    for (path->parent = at; *text;) {
        text += strspn(text, "/");
        size_t size = strcspn(text, "/");
        if (!size)
            break;
        if (!at)
            return -ENOENT; // UNTESTED: no server asks for that
        path->parent = at;
        path->name = text;
        path->name_size = size;
        int error = files_step(sim, path, text, size, &at);
        if (error)
            return error;
        text += size;
        path->slash = *text == '/';
    }
    path->node = at;
    return at && path->slash && !S_ISDIR(at->mode) ? -ENOTDIR : 0;
}

// --- Opening -------------------------------------------------------------------------------------

int sim_file_of_node(struct sim *sim, struct sim_node *node, uint64_t flags)
{
    struct sim_file *file = sim_allocate(1, sizeof *file);
    sim_object_init(sim, &file->object, SIM_FILE);
    file->node = node;
    file->flags = flags;
    int fd = sim_descriptor_open(sim, &file->object);
    if (fd < 0)
        free(file);
    return fd;
}

static int files_create(struct sim *sim, struct sim_path *path, uint64_t flags, uint64_t mode)
{
    char name[FILES_NAME_MAX + 1];
    if (!(flags & O_CREAT) || !sim_node_is_linked(path->parent))
        return -ENOENT;
    if (path->slash)
        return -EISDIR; // UNTESTED: no server asks for that
    memcpy(name, path->name, path->name_size);
    name[path->name_size] = '\0';
    path->node = sim_node_add(sim, path->parent, name, S_IFREG | (mode & 0777));
    return 0;
}

int sim_path_open(struct sim *sim, struct sim_path *path, uint64_t flags, uint64_t mode)
{
    bool writes = (flags & O_ACCMODE) != O_RDONLY && !(flags & O_PATH);
    if (mode && !(flags & O_CREAT))
        return -EINVAL; // UNTESTED: no server asks for that
    // do_sys_openat2() reserves the descriptor before it looks at any name.
    int error = sim_descriptors_full(sim) ? -EMFILE : sim_path_walk(sim, path);
    if (error)
        return error;
    if (!path->node)
        error = files_create(sim, path, flags, mode);
    else if (flags & O_CREAT && flags & O_EXCL)
        error = -EEXIST; // UNTESTED: no server asks for that
    if (error)
        return error;
    if (flags & O_DIRECTORY && !S_ISDIR(path->node->mode))
        return -ENOTDIR;
    if (writes && S_ISDIR(path->node->mode))
        return -EISDIR; // UNTESTED: no server asks for that
    if (flags & O_TRUNC && !(flags & O_PATH))
        sim_node_resize(path->node, 0);
    return sim_file_of_node(sim, path->node, flags);
}

// --- What tests put there ------------------------------------------------------------------------

// The node of a path from the root on; its directories are made.
static struct sim_node *files_make(struct sim *sim, const char *path, uint32_t mode)
{
    struct sim_node *at = sim_node_root(sim);
    while (*path) {
        path += strspn(path, "/");
        size_t size = strcspn(path, "/");
        struct sim_node *next = files_child(sim, at, path, size);
        if (!next)
            next = files_add(sim, at, path, size, path[size] ? S_IFDIR | 0755 : mode);
        at = next;
        path += size;
    }
    return at;
}

static struct sim_node *files_find(struct sim *sim, const char *text)
{
    struct sim_path path = { .start = sim_node_root(sim), .text = text };
    return sim_path_walk(sim, &path) ? NULL : path.node;
}

void sim_file_create(struct sim *sim, const char *path, const void *data, size_t size)
{
    struct sim_node *node = files_make(sim, path, S_IFREG | 0644);
    sim_node_resize(node, size);
    if (size)
        memcpy(node->data, data, size);
}

void sim_file_replace(struct sim *sim, const char *path, const void *data, size_t size)
{
    struct sim_node *old = files_find(sim, path);
    if (old)
        old->parent = NULL;
    sim_file_create(sim, path, data, size);
}

void sim_directory_create(struct sim *sim, const char *path)
{
    files_make(sim, path, S_IFDIR | 0755);
}

void sim_file_set_time(struct sim *sim, const char *path, uint64_t modified_ns)
{
    files_find(sim, path)->modified_ns = modified_ns;
}

int sim_file_open(struct sim *sim, const char *path)
{
    struct sim_node *node = files_find(sim, path);
    return node ? sim_file_of_node(sim, node, O_RDWR) : -ENOENT;
}

bool sim_file_content(struct sim *sim, const char *path, const char **ret_data, size_t *ret_size)
{
    const struct sim_node *node = files_find(sim, path);
    if (!node || S_ISDIR(node->mode))
        return false;
    *ret_data = node->data;
    *ret_size = node->size;
    return true;
}

const char *sim_file_next(struct sim *sim, const char *path, uint32_t *at)
{
    const struct sim_node *directory = files_find(sim, path);
    uint32_t count = 0;
    for (struct sim_link *link = sim->nodes.next; link != &sim->nodes; link = link->next) {
        const struct sim_node *node = container_of(link, struct sim_node, link);
        if (node->parent == directory && count++ == *at) {
            ++*at;
            return node->name;
        }
    }
    return NULL;
}

struct sim_object *sim_machine_file(struct sim *sim, int fd)
{
    struct stat status;
    if (fd < 0 || sim_owns(fd) || fstat(fd, &status) || !S_ISREG(status.st_mode))
        return NULL;
    struct sim_machine_file *file = sim_allocate(1, sizeof *file);
    sim_object_init(sim, &file->object, SIM_MACHINE);
    file->fd = fd;
    return &file->object;
}
