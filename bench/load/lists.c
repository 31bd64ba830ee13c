// Lists of connections: taken and added in constant time, nothing allocated.
#include "worker.h"

void lists_init(struct connection_list *list)
{
    list->first = NULL;
    list->last = &list->first;
}

void lists_add(struct connection_list *list, struct connection *connection)
{
    connection->next = NULL;
    *list->last = connection;
    list->last = &connection->next;
}

struct connection *lists_take(struct connection_list *list)
{
    struct connection *connection = list->first;
    if (connection && !(list->first = connection->next))
        list->last = &list->first;
    return connection;
}

void lists_free_add(struct connection *connection)
{
    struct connection_list *list = &connection->worker->free;
    if (connection->free_listed)
        return;
    connection->free_listed = true;
    connection->next_free = NULL;
    *list->last = connection;
    list->last = &connection->next_free;
}

void lists_starting_add(struct connection *connection)
{
    struct connection_list *list = &connection->worker->starting;
    if (connection->starting_listed)
        return;
    connection->starting_listed = true;
    connection->next_starting = NULL;
    *list->last = connection;
    list->last = &connection->next_starting;
}

bool lists_busy(const struct connection *connection)
{
    const struct options *options = connection->worker->options;
    if (options->churn)
        return connection->running || connection->stream;
    return !connection->open || connection->outstanding == options->depth;
}

struct connection *lists_free_take(struct worker *worker)
{
    struct connection_list *list = &worker->free;
    struct connection *connection;
    while ((connection = list->first)) {
        if (!(list->first = connection->next_free))
            list->last = &list->first;
        connection->free_listed = false;
        if (!lists_busy(connection))
            break;
    }
    return connection;
}
