// The options that all servers have.
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "serve.h"

#define SECOND_NS 1000000000ULL

static const char *serve_options_listen(const char *text, void *settings)
{
    struct serve_settings *serve = settings;
    if (serve->listens_count == SERVE_LISTENS_MAX)
        return "allowed: there are 64 listeners already";
    int error = weir_address_parse(text, &serve->listens[serve->listens_count]);
    if (error == -ENAMETOOLONG)
        return "short enough: a unix path has at most 107 bytes";
    if (error)
        return "a numeric address: 127.0.0.1:7777, [::1]:7777 or unix:/path";
    serve->listens_count++;
    return NULL;
}

static const char *serve_options_engine(const char *text, void *settings)
{
    static const char *const names[] = { "auto", "uring", "epoll", "blocking" };
    static const enum weir_engine engines[] = { WEIR_ENGINE_AUTO, WEIR_ENGINE_URING,
                                                WEIR_ENGINE_EPOLL, WEIR_ENGINE_BLOCKING };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(text, names[i]) != 0)
            continue;
        ((struct serve_settings *)settings)->engine = engines[i];
        return NULL;
    }
    return "auto, uring, epoll or blocking";
}

static const char *serve_options_sandbox(const char *text, void *settings)
{
    static const char *const names[] = {
        [SANDBOX_OFF] = "off", [SANDBOX_ON] = "on", [SANDBOX_STRICT] = "strict"
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(text, names[i]) != 0)
            continue;
        ((struct serve_settings *)settings)->sandbox = (enum sandbox_mode)i;
        return NULL;
    }
    return "off, on or strict";
}

// Reads one number, and moves on behind it.
static bool serve_options_cpu_number(const char **text, unsigned long *ret_number)
{
    char *end;
    if (**text < '0' || **text > '9')
        return false;
    *ret_number = strtoul(*text, &end, 10);
    *text = end;
    return *ret_number < SERVE_CPUS_MAX;
}

static const char *serve_options_cpu(const char *text, void *settings)
{
    static const char expected[] = "a list of CPUs like 0,2-3, from 0 to 1023";
    struct serve_settings *serve = settings;
    unsigned long first, last;
    serve->cpus_count = 0;
    for (;; text++) {
        if (!serve_options_cpu_number(&text, &first))
            return expected;
        last = first;
        if (*text == '-' && (text++, !serve_options_cpu_number(&text, &last)))
            return expected;
        if (last < first || last - first >= SERVE_CPUS_MAX - serve->cpus_count)
            return expected;
        for (; first <= last; first++)
            serve->cpus[serve->cpus_count++] = (uint16_t)first;
        if (!*text)
            return NULL;
        if (*text != ',')
            return expected;
    }
}

// A power of two, as the ring of receive buffers wants it.
static const char *serve_options_buffers(const char *text, void *settings)
{
    char *end;
    unsigned long count = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || count < 8 || count > 32768 || (count & (count - 1)))
        return "a power of two from 8 to 32768";
    ((struct serve_settings *)settings)->buffers = count;
    return NULL;
}

#define MEMBER(name) .offset = offsetof(struct serve_settings, name)

const struct option_row serve_options[] = {
    { .name = "listen",
      .argument = "ADDRESS",
      .help = "127.0.0.1:7777, [::1]:7777 or unix:/path; may be repeated",
      .kind = OPTION_CUSTOM,
      .parse = serve_options_listen },
    { .name = "engine",
      .argument = "NAME",
      .help = "auto (default), uring, epoll or blocking",
      .kind = OPTION_CUSTOM,
      .parse = serve_options_engine },
    { .name = "uring",
      .argument = "SET",
      .help = "default, default,-NAME, kernel-6.1, kernel-6.8 or kernel-6.12",
      .kind = OPTION_TEXT,
      MEMBER(uring) },
    { .name = "threads",
      .argument = "N",
      .help = "loops, each on its thread (default 1)",
      .kind = OPTION_COUNT,
      .min = 1,
      .max = 256,
      MEMBER(threads) },
    { .name = "cpu",
      .argument = "LIST",
      .help = "CPUs for the threads in turn, like 0,2-3 (default: not pinned)",
      .kind = OPTION_CUSTOM,
      .parse = serve_options_cpu },
    { .name = "busy-poll-us",
      .argument = "N",
      .help = "look for work so many microseconds before sleeping (default 0)",
      .kind = OPTION_COUNT,
      .max = 1000000,
      MEMBER(busy_poll_us) },
    { .name = "adaptive-poll-us",
      .argument = "N",
      .help = "the same while it pays: for one or two peers (default 60; 0: never)",
      .kind = OPTION_COUNT,
      .max = 1000,
      MEMBER(adaptive_poll_us) },
    { .name = "min-wait-us",
      .argument = "N",
      .help = "uring: when busy, sleep for several events or so long (default 0)",
      .kind = OPTION_COUNT,
      .max = 100000,
      MEMBER(min_wait_us) },
    { .name = "max-connections",
      .argument = "N",
      .help = "connections at once, of all threads (default 16384)",
      .kind = OPTION_COUNT,
      .min = 1,
      .max = 1000000,
      MEMBER(connections_max) },
    { .name = "max-per-address",
      .argument = "N",
      .help = "connections at once from one host; more are reset (default 0: no limit)",
      .kind = OPTION_COUNT,
      .max = 1000000,
      MEMBER(address_connections_max) },
    { .name = "idle-timeout",
      .argument = "S",
      .help = "close after so many seconds without a byte (default 0: never)",
      .kind = OPTION_SECONDS,
      .max = 10000000 * SECOND_NS,
      MEMBER(idle_timeout_ns) },
    { .name = "total-timeout",
      .argument = "S",
      .help = "end a connection that is so old; abort it at twice that (default 0: never)",
      .kind = OPTION_SECONDS,
      .max = 10000000 * SECOND_NS,
      MEMBER(total_timeout_ns) },
    { .name = "drain-timeout",
      .argument = "S",
      .help = "after SIGTERM, abort what is open after so many seconds (default 10)",
      .kind = OPTION_SECONDS,
      .max = 10000000 * SECOND_NS,
      MEMBER(drain_timeout_ns) },
    { .name = "backlog",
      .argument = "N",
      .help = "connections that may wait for accept (default 4096)",
      .kind = OPTION_COUNT,
      .min = 1,
      .max = INT_MAX,
      MEMBER(backlog) },
    { .name = "send-buffer",
      .argument = "SIZE",
      .help = "SO_SNDBUF of connections (default: the kernel's autotuning)",
      .kind = OPTION_SIZE,
      .min = 1,
      .max = INT_MAX / 2,
      MEMBER(send_buffer) },
    { .name = "receive-buffer",
      .argument = "SIZE",
      .help = "SO_RCVBUF of connections (default: the kernel's autotuning)",
      .kind = OPTION_SIZE,
      .min = 1,
      .max = INT_MAX / 2,
      MEMBER(receive_buffer) },
    { .name = "notsent-lowat",
      .argument = "SIZE",
      .help = "TCP_NOTSENT_LOWAT: unsent bytes in the kernel (default: the kernel's)",
      .kind = OPTION_SIZE,
      .min = 1,
      .max = INT_MAX,
      MEMBER(notsent_lowat) },
    { .name = "keepalive",
      .help = "probe silent connections (SO_KEEPALIVE)",
      .kind = OPTION_FLAG,
      MEMBER(keepalive) },
    { .name = "unix-mode",
      .argument = "MODE",
      .help = "permissions of unix sockets, in octal (default: as the umask leaves them)",
      .kind = OPTION_OCTAL,
      .min = 1,
      .max = 0777,
      MEMBER(unix_mode) },
    { .name = "buffers",
      .argument = "N",
      .help = "receive buffers per thread, a power of two (default 256)",
      .kind = OPTION_CUSTOM,
      .parse = serve_options_buffers },
    { .name = "buffer-size",
      .argument = "SIZE",
      .help = "of each, a multiple of 4K up to 64K (default 16K)",
      .kind = OPTION_SIZE,
      .min = 4096,
      .max = 64 * 1024,
      MEMBER(buffer_size) },
    { .name = "log",
      .argument = "FILE",
      .help = "append log lines to FILE; SIGHUP reopens it (default: standard error)",
      .kind = OPTION_TEXT,
      MEMBER(log_path) },
    { .name = "stats-json",
      .argument = "FILE",
      .help = "write statistics to FILE at the end and at SIGUSR1",
      .kind = OPTION_TEXT,
      MEMBER(stats_path) },
    { .name = "sandbox",
      .argument = "MODE",
      .help = "off, on (default: what this machine offers) or strict (all of it, or no start)",
      .kind = OPTION_CUSTOM,
      .parse = serve_options_sandbox },
    { .name = "user",
      .argument = "NAME",
      .help = "serve with this user's privileges; listeners are bound before",
      .kind = OPTION_TEXT,
      MEMBER(user) },
    { .name = "chroot",
      .argument = "DIR",
      .help = "make DIR the root folder first; all other paths are in it",
      .kind = OPTION_TEXT,
      MEMBER(chroot) },
    { .name = NULL },
};

void serve_settings_loop(const struct serve_settings *settings, struct weir_loop_config *ret_config)
{
    weir_loop_config_init(ret_config);
    ret_config->engine = settings->engine;
    if (settings->uring)
        ret_config->uring_features = settings->uring;
    ret_config->streams_max = (uint32_t)settings->connections_max;
    ret_config->buffer_count = (uint32_t)settings->buffers;
    ret_config->buffer_size = (uint32_t)settings->buffer_size;
    ret_config->idle_timeout_ns = settings->idle_timeout_ns;
    ret_config->close_timeout_ns = settings->close_timeout_ns;
    ret_config->total_timeout_ns = settings->total_timeout_ns;
    ret_config->busy_poll_ns = settings->busy_poll_us * 1000;
    ret_config->adaptive_poll_ns = settings->adaptive_poll_us * 1000;
    ret_config->min_wait_ns = settings->min_wait_us * 1000;
    if (settings->send_high) {
        ret_config->send_high = settings->send_high;
        ret_config->send_low = settings->send_low;
    }
}

void serve_settings_init(struct serve_settings *settings)
{
    struct weir_server_config config;
    weir_server_config_init(&config);
    *settings = (struct serve_settings){
        .engine = WEIR_ENGINE_AUTO,
        .threads = config.threads,
        .adaptive_poll_us = 60,
        .connections_max = config.loop.streams_max,
        .buffers = config.loop.buffer_count,
        .buffer_size = config.loop.buffer_size,
        .drain_timeout_ns = config.drain_timeout_ns,
        .close_timeout_ns = config.loop.close_timeout_ns,
        // A sanitizer's report needs system calls and files of its own.
        .sandbox = SANDBOX_SANITIZED ? SANDBOX_OFF : SANDBOX_ON,
        .user_option = "user",
    };
}
