// The engine variants that the contract tests run on; each is a test of its own for meson.
#include <stdio.h>
#include <string.h>

#include "world.h"

const struct variant variants[] = {
    { .name = "uring:default", .engine = WEIR_ENGINE_URING, .world = &world_sockets },
    { .name = "uring:kernel-6.1",
      .engine = WEIR_ENGINE_URING,
      .features = "kernel-6.1",
      .world = &world_sockets },
    { .name = "uring:kernel-6.8",
      .engine = WEIR_ENGINE_URING,
      .features = "kernel-6.8",
      .world = &world_sockets },
    { .name = "uring:kernel-6.12",
      .engine = WEIR_ENGINE_URING,
      .features = "kernel-6.12",
      .world = &world_sockets },
    { .name = "epoll", .engine = WEIR_ENGINE_EPOLL, .world = &world_sockets },
    { .name = "blocking",
      .engine = WEIR_ENGINE_BLOCKING,
      .world = &world_threads,
      .resolution_ns = 100 * MILLISECOND },
    // A loop that turns by hand never sleeps for long, and so hides a wake that is missing.
    { .name = "uring:threads", .engine = WEIR_ENGINE_URING, .world = &world_threads },
    { .name = "epoll:threads", .engine = WEIR_ENGINE_EPOLL, .world = &world_threads },
    { .name = "sim:default", .engine = WEIR_ENGINE_URING, .world = &world_sim },
    { .name = "sim:kernel-6.1",
      .engine = WEIR_ENGINE_URING,
      .features = "kernel-6.1",
      .world = &world_sim },
    { 0 },
};

// "uring:default,-NAME" is no row: the features' names belong to the engine.
static bool variant_without_feature(const char *name, struct variant *ret_variant)
{
    static const char prefix[] = "uring:";
    if (strncmp(name, "uring:default,-", 15) != 0)
        return false;
    *ret_variant = (struct variant){ .name = name,
                                     .engine = WEIR_ENGINE_URING,
                                     .features = name + strlen(prefix),
                                     .world = &world_sockets };
    return true;
}

bool variant_find(const char *name, struct variant *ret_variant)
{
    for (const struct variant *variant = variants; variant->name; variant++) {
        if (strcmp(variant->name, name) == 0) {
            *ret_variant = *variant;
            return true;
        }
    }
    return variant_without_feature(name, ret_variant);
}
