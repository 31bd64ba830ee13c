// Files in memory: names, contents, and what is open of them.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "kernel.h"

struct sim_node *sim_node_find(const struct sim *sim, const char *path)
{
    for (struct sim_link *link = sim->nodes.next; link != &sim->nodes; link = link->next) {
        struct sim_node *node = container_of(link, struct sim_node, link);
        if (strcmp(node->path, path) == 0)
            return node;
    }
    return NULL;
}

struct sim_node *sim_node_create(struct sim *sim, const char *path)
{
    struct sim_node *node = sim_allocate(1, sizeof *node);
    node->path = sim_copy_text(path);
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

// Nodes live as long as the sim: what is open may point to them.
void sim_nodes_free(struct sim *sim)
{
    while (!sim_list_empty(&sim->nodes)) {
        struct sim_node *node = container_of(sim->nodes.next, struct sim_node, link);
        sim_list_remove(&node->link);
        free(node->path);
        free(node->data);
        free(node);
    }
}

int sim_file_of_node(struct sim *sim, struct sim_node *node)
{
    struct sim_file *file = sim_allocate(1, sizeof *file);
    sim_object_init(sim, &file->object, SIM_FILE);
    file->node = node;
    int fd = sim_descriptor_open(sim, &file->object);
    if (fd < 0)
        free(file);
    return fd;
}

void sim_file_create(struct sim *sim, const char *path, const void *data, size_t size)
{
    struct sim_node *node = sim_node_find(sim, path);
    if (!node)
        node = sim_node_create(sim, path);
    sim_node_reserve(node, size);
    memcpy(node->data, data, size);
    node->size = size;
}

int sim_file_open(struct sim *sim, const char *path)
{
    struct sim_node *node = sim_node_find(sim, path);
    return node ? sim_file_of_node(sim, node) : -ENOENT;
}

bool sim_file_content(const struct sim *sim, const char *path, const char **ret_data,
                      size_t *ret_size)
{
    const struct sim_node *node = sim_node_find(sim, path);
    if (!node)
        return false;
    *ret_data = node->data;
    *ret_size = node->size;
    return true;
}

struct sim_object *sim_machine_file(struct sim *sim, int fd)
{
    struct stat status;
    if (fd < 0 || fstat(fd, &status) || !S_ISREG(status.st_mode))
        return NULL;
    struct sim_machine_file *file = sim_allocate(1, sizeof *file);
    sim_object_init(sim, &file->object, SIM_MACHINE);
    file->fd = fd;
    return &file->object;
}
