// Prints what the sandbox leaves, from the tables in the code: one line per list, "title: names".
// A title that begins with "on" is of mode on, every other of strict. document_test.py compares the
// lines with docs/security.md. The last two are no lists of strict mode: what it refuses without an
// end, and how many passive ports Landlock is told one by one.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "engines/uring/restrict.h"
#include "ftp/session.h"
#include "http/site.h"
#include "sandbox_calls.h"

enum { NAMES_MAX = 128 };

// Each name once, however many rows it has.
struct names {
    const char *names[NAMES_MAX];
    size_t count;
};

struct tables_server {
    const char *name;
    const struct sandbox_needs *needs;
};

static bool names_have(const struct names *names, const char *name)
{
    for (size_t i = 0; i < names->count; i++) {
        if (!strcmp(names->names[i], name))
            return true;
    }
    return false;
}

static void names_add(struct names *names, const char *name)
{
    if (!names_have(names, name) && names->count < NAMES_MAX)
        names->names[names->count++] = name;
}

static void names_print(const struct names *names)
{
    for (size_t i = 0; i < names->count; i++)
        printf(" %s", names->names[i]);
    printf("\n");
}

static void tables_collect(const struct sandbox_needs *needs, enum sandbox_mode mode,
                           uint32_t threads, uint32_t conditions, struct names *ret_names)
{
    const struct sandbox_call *row;
    uint32_t having = needs->abilities | conditions;
    ret_names->count = 0;
    for (size_t i = 0; (row = sandbox_call_at(needs, i)); i++) {
        if (sandbox_call_applies(row, threads, having) && sandbox_call_is_left(row, mode))
            names_add(ret_names, row->name);
    }
}

static void tables_print(const struct tables_server *server, const char *title, uint32_t threads,
                         uint32_t conditions)
{
    static const char *const prefixes[] = { [SANDBOX_ON] = "on ", [SANDBOX_STRICT] = "" };
    for (enum sandbox_mode mode = SANDBOX_ON; mode <= SANDBOX_STRICT; mode++) {
        struct names names;
        tables_collect(server->needs, mode, threads, conditions, &names);
        printf("%s%s %s:", prefixes[mode], server->name, title);
        names_print(&names);
    }
}

static const char *tables_option_name(const struct sandbox_call *row)
{
    static const struct {
        uint64_t level, option;
        const char *name;
    } options[] = {
        { SOL_SOCKET, SO_LINGER, "SO_LINGER" },
        { SOL_SOCKET, SO_REUSEADDR, "SO_REUSEADDR" },
        { SOL_SOCKET, SO_SNDBUF, "SO_SNDBUF" },
        { SOL_SOCKET, SO_RCVBUF, "SO_RCVBUF" },
        { SOL_SOCKET, SO_KEEPALIVE, "SO_KEEPALIVE" },
        { SOL_SOCKET, SO_SNDTIMEO, "SO_SNDTIMEO" },
        { SOL_SOCKET, SO_RCVTIMEO, "SO_RCVTIMEO" },
        { IPPROTO_TCP, TCP_NODELAY, "TCP_NODELAY" },
        { IPPROTO_TCP, TCP_CORK, "TCP_CORK" },
        { IPPROTO_TCP, TCP_NOTSENT_LOWAT, "TCP_NOTSENT_LOWAT" },
        { IPPROTO_IPV6, IPV6_V6ONLY, "IPV6_V6ONLY" },
        { IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, "IP_BIND_ADDRESS_NO_PORT" },
    };
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        if (row->checks_count == 2 && row->checks[0].value == options[i].level &&
            row->checks[1].value == options[i].option)
            return options[i].name;
    }
    return "any";
}

// What setsockopt(2) may set, where it is left.
static void tables_print_options(const struct tables_server *server, const char *title,
                                 uint32_t threads)
{
    const struct sandbox_call *row;
    struct names names = { .count = 0 };
    for (size_t i = 0; (row = sandbox_call_at(server->needs, i)); i++) {
        if (!strcmp(row->name, "setsockopt") &&
            sandbox_call_applies(row, threads, server->needs->abilities))
            names_add(&names, tables_option_name(row));
    }
    if (!names.count)
        return;
    printf("%s %s options:", server->name, title);
    names_print(&names);
}

static void tables_print_calls(const struct tables_server *server)
{
    static const struct {
        const char *name;
        enum weir_engine engine;
    } engines[] = {
        { "uring", WEIR_ENGINE_URING },
        { "epoll", WEIR_ENGINE_EPOLL },
        { "blocking", WEIR_ENGINE_BLOCKING },
    };
    char title[32];
    for (size_t i = 0; i < sizeof engines / sizeof engines[0]; i++) {
        snprintf(title, sizeof title, "%s loop", engines[i].name);
        uint32_t threads = sandbox_threads_of(engines[i].engine, WEIR_THREAD_LOOP);
        tables_print(server, title, threads, 0);
        tables_print_options(server, engines[i].name, threads);
        if (!(server->needs->abilities & WEIR_ABILITY_JOBS) ||
            engines[i].engine == WEIR_ENGINE_BLOCKING)
            continue;
        snprintf(title, sizeof title, "%s job", engines[i].name);
        tables_print(server, title, sandbox_threads_of(engines[i].engine, WEIR_THREAD_JOB), 0);
    }
}

static void tables_print_ring(const struct tables_server *server, const char *title,
                              enum restrict_kind kind)
{
    const struct restrict_row *rows;
    size_t count = restrict_table(&rows);
    printf("%s ring %s:", server->name, title);
    for (size_t i = 0; i < count; i++) {
        if (rows[i].kind == kind &&
            (!rows[i].abilities || rows[i].abilities & server->needs->abilities))
            printf(" %s", rows[i].name);
    }
    printf("\n");
}

// What a thread's filter of strict mode answers with an error, and its caller goes on without.
static void tables_collect_refused(const struct sandbox_needs *needs, uint32_t threads,
                                   struct names *names)
{
    const struct sandbox_call *row;
    struct names left;
    tables_collect(needs, SANDBOX_STRICT, threads, 0, &left);
    for (size_t i = 0; (row = sandbox_call_at(needs, i)); i++) {
        if ((row->level == SANDBOX_QUIET || row->level == SANDBOX_REFUSED) &&
            sandbox_call_applies(row, threads, needs->abilities) && !names_have(&left, row->name))
            names_add(names, row->name);
    }
}

static void tables_print_refused(const struct tables_server *servers, size_t count)
{
    struct names names = { .count = 0 };
    for (size_t i = 0; i < count; i++) {
        const struct sandbox_needs *needs = servers[i].needs;
        tables_collect_refused(needs, SANDBOX_MAIN, &names);
        for (enum weir_engine engine = WEIR_ENGINE_URING; engine <= WEIR_ENGINE_BLOCKING;
             engine++) {
            tables_collect_refused(needs, sandbox_threads_of(engine, WEIR_THREAD_LOOP), &names);
            tables_collect_refused(needs, sandbox_threads_of(engine, WEIR_THREAD_JOB), &names);
        }
    }
    printf("strict refuses:");
    names_print(&names);
}

// The most passive ports that are left one by one, and not all of them.
static void tables_print_ports(struct ftp_server server)
{
    struct ftp_needs needs;
    uint16_t count = 0;
    server.passive_first = 1;
    do {
        server.passive_last = (uint16_t)(server.passive_first + count);
        ftp_needs_complete(&needs, &server);
    } while (needs.needs.port_first && ++count < UINT16_MAX - 1);
    printf("ports: %u\n", count);
}

// As servers with all that they can do; but echo without a total time, which is listed with it once
// more, and FTP once more with the least.
int main(void)
{
    static const struct http_settings http_settings = { .root = "/" };
    static struct ftp_server ftp_server = {
        .anonymous_write = true, .allow_active = true, .passive_first = 40000, .passive_last = 40009
    };
    static struct ftp_server reading_server = { .anonymous = true, .read_only = true };
    static const struct sandbox_needs echo = { .abilities = WEIR_ABILITY_ACCEPT };
    static const struct sandbox_needs ending = { .abilities =
                                                     WEIR_ABILITY_ACCEPT | WEIR_ABILITY_END };
    static struct http_needs http;
    static struct ftp_needs ftp, reading;
    const struct tables_server servers[] = {
        { "echo", &echo },     { "echo --total-timeout", &ending },   { "http", &http.needs },
        { "ftp", &ftp.needs }, { "ftp --read-only", &reading.needs },
    };
    const struct tables_server every = { "every", &echo };
    http_needs_complete(&http, &http_settings, 3);
    ftp_needs_complete(&ftp, &ftp_server);
    ftp_needs_complete(&reading, &reading_server);
    for (size_t i = 0; i < sizeof servers / sizeof servers[0]; i++) {
        tables_print_calls(&servers[i]);
        tables_print_ring(&servers[i], "operations", RESTRICT_OPERATION);
        tables_print_ring(&servers[i], "flags", RESTRICT_FLAG);
        tables_print_ring(&servers[i], "register operations", RESTRICT_REGISTER);
    }
    tables_print(&every, "main", SANDBOX_MAIN, 0);
    tables_print(&every, "main with files", SANDBOX_MAIN, SANDBOX_WITH_FILES | SANDBOX_WITH_UNIX);
    tables_print_refused(servers, sizeof servers / sizeof servers[0]);
    tables_print_ports(ftp_server);
    return 0;
}
