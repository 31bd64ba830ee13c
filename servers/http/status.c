// The status route: the server's counters as one JSON object.
#include <stdio.h>

#include "routes.h"
#include "site.h"

static void status_serve(struct http_exchange *exchange, void *context)
{
    const struct http_answer answer = { .status = 200, .type = "application/json" };
    uint64_t counters[COUNTER_COUNT];
    char text[2048];
    int size = 0;
    http_site_counters(context, counters);
    for (size_t i = 0; i < COUNTER_COUNT; i++)
        size += snprintf(text + size, sizeof text - (size_t)size, "%c\"%s\":%llu", i ? ',' : '{',
                         http_counter_names[i], (unsigned long long)counters[i]);
    size += snprintf(text + size, sizeof text - (size_t)size, "}\n");
    http_answer(exchange, &answer, text, (size_t)size);
}

struct http_route http_route_status(const char *path, struct http_site *site)
{
    return (struct http_route){
        .path = path, .methods = "GET, HEAD", .serve = status_serve, .context = site
    };
}
