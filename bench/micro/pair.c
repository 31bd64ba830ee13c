// A loop that talks to itself: what one round trip, timer and post cost in each engine.
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <weir.h>

#include "micro.h"

enum { PAIR_TIMERS = 1000 };

struct micro_pair {
    struct weir_loop *loop;
    struct weir_listener *listener;
    struct weir_stream *client;
    char *message;
    size_t size;
    size_t missing; // bytes of the reply that have not come yet
    bool opened, closed;
    struct weir_file *file; // what the server answers with; NULL: an echo
    struct weir_timer timers[PAIR_TIMERS];
    struct weir_timer timer;
    struct weir_post post;
    bool posted;
};

static void pair_server_received(struct weir_stream *stream, struct weir_slice slice)
{
    struct micro_pair *pair = weir_stream_context(stream);
    if (pair->file)
        weir_stream_send_file(stream, pair->file, 0, pair->size);
    else
        weir_stream_send_slice(stream, slice);
}

static const struct weir_protocol pair_server = {
    .name = "echo",
    .received = pair_server_received,
};

static void pair_client_opened(struct weir_stream *stream)
{
    struct micro_pair *pair = weir_stream_context(stream);
    pair->opened = true;
}

static void pair_client_received(struct weir_stream *stream, struct weir_slice slice)
{
    struct micro_pair *pair = weir_stream_context(stream);
    pair->missing -= slice.size < pair->missing ? slice.size : pair->missing;
}

static void pair_client_closed(struct weir_stream *stream, int reason)
{
    (void)reason;
    struct micro_pair *pair = weir_stream_context(stream);
    pair->closed = true;
    pair->client = NULL;
}

static const struct weir_protocol pair_client = {
    .name = "micro",
    .opened = pair_client_opened,
    .received = pair_client_received,
    .closed = pair_client_closed,
};

static void pair_timer_ran(struct weir_loop *loop, struct weir_timer *timer)
{
    (void)loop;
    (void)timer;
}

static void pair_post_ran(struct weir_loop *loop, struct weir_post *post)
{
    (void)loop;
    struct micro_pair *pair =
        (struct micro_pair *)((char *)post - offsetof(struct micro_pair, post));
    pair->posted = true;
}

static bool pair_connect(struct micro_pair *pair)
{
    struct weir_address address;
    struct weir_listener_config listener = { .protocol = &pair_server, .context = pair };
    struct weir_connect_config connect = { .protocol = &pair_client, .context = pair };
    if (weir_address_parse("127.0.0.1:0", &address) ||
        weir_listener_open(pair->loop, &address, &listener, &pair->listener))
        return false;
    weir_listener_address(pair->listener, &address);
    if (weir_stream_connect(pair->loop, &address, &connect, &pair->client))
        return false;
    while (!pair->opened && !pair->closed)
        if (weir_loop_turn(pair->loop, WEIR_NEVER) < 0)
            return false;
    return !pair->closed;
}

struct micro_pair *micro_pair_create(const char *engine, size_t size)
{
    struct micro_pair *pair = calloc(1, sizeof *pair);
    if (!pair)
        return NULL;
    struct weir_loop_config config;
    weir_loop_config_init(&config);
    config.engine = strcmp(engine, "uring") ? WEIR_ENGINE_EPOLL : WEIR_ENGINE_URING;
    pair->size = size;
    pair->message = calloc(1, size);
    if (!pair->message || weir_loop_create(&config, &pair->loop) || !pair_connect(pair)) {
        micro_pair_destroy(pair);
        return NULL;
    }
    pair->timer.function = pair_timer_ran;
    pair->post.function = pair_post_ran;
    for (size_t i = 0; i < PAIR_TIMERS; i++) {
        pair->timers[i].function = pair_timer_ran;
        // From an hour on, so that none runs while the wheel is measured.
        weir_timer_start(pair->loop, &pair->timers[i], (3600 + i) * UINT64_C(1000000000));
    }
    return pair;
}

void micro_pair_destroy(struct micro_pair *pair)
{
    if (!pair)
        return;
    if (pair->loop) {
        for (size_t i = 0; i < PAIR_TIMERS; i++)
            weir_timer_stop(pair->loop, &pair->timers[i]);
        weir_listener_close(pair->listener);
    }
    weir_file_release(pair->file);
    weir_loop_destroy(pair->loop);
    free(pair->message);
    free(pair);
}

// Sends so much, and waits for as many bytes as the pair is for.
static bool pair_ask(struct micro_pair *pair, size_t size)
{
    if (pair->closed)
        return false;
    pair->missing = pair->size;
    weir_stream_send(pair->client, pair->message, size);
    while (pair->missing && !pair->closed)
        if (weir_loop_turn(pair->loop, WEIR_NEVER) < 0)
            return false;
    return !pair->closed;
}

bool micro_pair_echo(struct micro_pair *pair)
{
    return pair_ask(pair, pair->size);
}

bool micro_pair_serve_file(struct micro_pair *pair)
{
    int fd = memfd_create("micro", MFD_CLOEXEC);
    if (fd < 0)
        return false;
    size_t written = 0;
    ssize_t part = 1;
    for (; part > 0 && written<pair->size; written += part> 0 ? (size_t)part : 0)
        part = write(fd, pair->message, pair->size - written);
    if (part > 0 && weir_file_adopt(pair->loop, fd, &pair->file) == 0)
        return true;
    close(fd);
    return false;
}

bool micro_pair_file(struct micro_pair *pair)
{
    return pair_ask(pair, 1);
}

void micro_pair_timer(struct micro_pair *pair)
{
    weir_timer_start(pair->loop, &pair->timer, UINT64_C(1000000000));
    weir_timer_stop(pair->loop, &pair->timer);
}

bool micro_pair_post(struct micro_pair *pair)
{
    pair->posted = false;
    weir_loop_post(pair->loop, &pair->post);
    while (!pair->posted)
        if (weir_loop_turn(pair->loop, WEIR_NEVER) < 0)
            return false;
    return true;
}

bool micro_pair_idle_turn(struct micro_pair *pair)
{
    return weir_loop_turn(pair->loop, 0) >= 0;
}
