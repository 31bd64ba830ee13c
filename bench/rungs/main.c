// weir-rungs: an echo server in the ways that epoll is commonly used, each with one habit more.
//
//   level       one receive per event, and the reply waits for the event of a writable socket;
//               one accept per event
//   one-shot    the reply is sent at once; only what does not fit waits for an event. Each event
//               disarms its socket (EPOLLONESHOT, as where threads share an epoll)
//   try-first   sockets stay armed
//   accept-all  accepts until none waits
//   edge-again  edge-triggered, registered once; receives until EAGAIN
//   edge        receives until a receive comes short
//   writev      collects what is there in several blocks and answers with one writev
//
// The ladder of weir-bench measures them beside weir's epoll engine. They share all but those
// habits, so that a difference has a name. One thread, loopback or any other IPv4 address.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "rungs.h"
#include "weir.h"

struct rung {
    const char *name;
    struct rung_habits habits;
};

static const struct rung rungs[] = {
    { "level", { .blocks = 1 } },
    { "one-shot", { .tries_first = true, .once = true, .blocks = 1 } },
    { "try-first", { .tries_first = true, .blocks = 1 } },
    { "accept-all", { .tries_first = true, .accepts_all = true, .blocks = 1 } },
    { "edge-again",
      { .tries_first = true,
        .accepts_all = true,
        .edge = true,
        .until_again = true,
        .blocks = 1 } },
    { "edge", { .tries_first = true, .accepts_all = true, .edge = true, .blocks = 1 } },
    { "writev",
      { .tries_first = true, .accepts_all = true, .edge = true, .blocks = RUNG_BLOCKS_MAX } },
};

static const struct rung *main_find(const char *name)
{
    for (size_t i = 0; i < sizeof rungs / sizeof *rungs; i++)
        if (strcmp(rungs[i].name, name) == 0)
            return &rungs[i];
    return NULL;
}

static void main_raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int main(int argc, char **argv)
{
    const struct rung *rung = argc == 4 ? main_find(argv[1]) : NULL;
    struct weir_address address;
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("weir-rungs");
        return 0;
    }
    if (!rung || strcmp(argv[2], "--listen") != 0 || weir_address_parse(argv[3], &address) ||
        address.any.sa_family != AF_INET) {
        fputs("usage: weir-rungs level|one-shot|try-first|accept-all|edge-again|edge|writev "
              "--listen ADDRESS:PORT\n",
              stderr);
        return 2;
    }
    main_raise_file_limit();
    struct rung_server *server;
    int result = rung_server_open(&rung->habits, &address.in, &server);
    if (result == 0) {
        char text[RUNG_ADDRESS_SIZE];
        rung_server_address(server, text);
        printf("listening echo %s engine=epoll-%s threads=1\n", text, rung->name);
        fflush(stdout);
        result = rung_server_run(server);
        rung_server_close(server);
    }
    if (result < 0) {
        fprintf(stderr, "weir-rungs: %s\n", strerror(-result));
        return 1;
    }
    return 0;
}
