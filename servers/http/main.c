// weir http: files and small handlers over HTTP/1.1.
#include <stdio.h>

#include "../commands.h"
#include "connection.h"
#include "program.h"

#define SECOND_NS 1000000000ULL

enum { HTTP_OPTIONS_MAX = 64 };

static const char *http_option_handler(const char *text, void *settings)
{
    struct http_settings *http = settings;
    http->echo = strcmp(text, "echo") == 0;
    return http->echo || strcmp(text, "files") == 0 ? NULL : "files or echo";
}

static const char *http_option_index(const char *text, void *settings)
{
    if (!*text || strchr(text, '/') || strlen(text) > 255)
        return "a file's name";
    ((struct http_settings *)settings)->index = text;
    return NULL;
}

static const char *http_option_status(const char *text, void *settings)
{
    if (text[0] != '/')
        return "a path that begins with a slash";
    ((struct http_settings *)settings)->status_path = text;
    return NULL;
}

static const char *http_option_log_format(const char *text, void *settings)
{
    static const char *const names[] = { "common", "combined", "json" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(text, names[i]) != 0)
            continue;
        ((struct http_settings *)settings)->access_log_format = (enum http_log_format)i;
        return NULL;
    }
    return "common, combined or json";
}

#define MEMBER(name) .offset = offsetof(struct http_settings, name)

static const struct option_row http_options[] = {
    { .name = "root",
      .argument = "DIR",
      .help = "serve the files below DIR",
      .kind = OPTION_TEXT,
      MEMBER(root) },
    { .name = "handler",
      .argument = "NAME",
      .help = "files (default), or echo: answer with the request's body",
      .kind = OPTION_CUSTOM,
      .parse = http_option_handler },
    { .name = "index",
      .argument = "NAME",
      .help = "the file that stands for its directory (default index.html)",
      .kind = OPTION_CUSTOM,
      .parse = http_option_index },
    { .name = "listing",
      .help = "list directories without an index, as HTML or JSON",
      .kind = OPTION_FLAG,
      MEMBER(listing) },
    { .name = "status",
      .argument = "PATH",
      .help = "answer PATH with the server's counters as JSON (default: no such path)",
      .kind = OPTION_CUSTOM,
      .parse = http_option_status },
    { .name = "cache-size",
      .argument = "SIZE",
      .help = "keep small files in so much memory, of all threads; 0: none (default 64M)",
      .kind = OPTION_SIZE,
      .max = 1ULL << 40,
      MEMBER(cache_size) },
    { .name = "max-body",
      .argument = "SIZE",
      .help = "the longest body of a request (default 1M)",
      .kind = OPTION_SIZE,
      .max = 1ULL << 30,
      MEMBER(body_max) },
    { .name = "max-bodies",
      .argument = "SIZE",
      .help = "all bodies that are being collected together (default 64M)",
      .kind = OPTION_SIZE,
      .max = 1ULL << 40,
      MEMBER(bodies_max) },
    { .name = "max-header-bytes",
      .argument = "SIZE",
      .help = "the longest head of a request (default 16K)",
      .kind = OPTION_SIZE,
      .min = 256,
      .max = 1ULL << 20,
      MEMBER(header_bytes_max) },
    { .name = "max-headers",
      .argument = "N",
      .help = "its most header fields (default 100)",
      .kind = OPTION_COUNT,
      .min = 1,
      .max = 10000,
      MEMBER(headers_max) },
    { .name = "header-timeout",
      .argument = "S",
      .help = "a head must be complete after so many seconds (default 10; 0: never)",
      .kind = OPTION_SECONDS,
      .max = 10000000 * SECOND_NS,
      MEMBER(header_timeout_ns) },
    { .name = "idle-timeout",
      .argument = "S",
      .help = "close a connection that asks for nothing (default 60; 0: never)",
      .kind = OPTION_SECONDS,
      .max = 10000000 * SECOND_NS,
      MEMBER(serve.idle_timeout_ns) },
    { .name = "min-rate",
      .argument = "SIZE",
      .help = "bytes a second that a peer must send or take, after 2 s (default 256; 0: any)",
      .kind = OPTION_SIZE,
      .max = 1ULL << 40,
      MEMBER(rate_min) },
    { .name = "max-requests",
      .argument = "N",
      .help = "close a connection after so many requests (default 0: no limit)",
      .kind = OPTION_COUNT,
      .max = UINT32_MAX,
      MEMBER(requests_max) },
    { .name = "access-log",
      .argument = "FILE|-",
      .help = "a line for each request; SIGHUP reopens it (default: none)",
      .kind = OPTION_TEXT,
      MEMBER(access_log) },
    { .name = "access-log-format",
      .argument = "NAME",
      .help = "common, combined (default) or json",
      .kind = OPTION_CUSTOM,
      .parse = http_option_log_format },
};

enum { HTTP_OPTIONS_COUNT = sizeof http_options / sizeof http_options[0] };

void http_settings_init(struct http_settings *settings)
{
    *settings = (struct http_settings){
        .index = "index.html",
        .cache_size = 64 << 20,
        .body_max = 1 << 20,
        .bodies_max = 64 << 20,
        .header_bytes_max = 16 << 10,
        .headers_max = 100,
        .header_timeout_ns = 10 * SECOND_NS,
        .rate_min = 256,
        .access_log_format = LOG_COMBINED,
    };
    serve_settings_init(&settings->serve);
    settings->serve.idle_timeout_ns = 60 * SECOND_NS;
    settings->serve.send_high = CONNECTION_QUEUE_MAX;
    settings->serve.send_low = CONNECTION_QUEUE_LOW;
}

// Ours first, then those of all servers, but for the names that ours redefine.
static void http_options_join(struct option_row rows[HTTP_OPTIONS_MAX])
{
    size_t count = HTTP_OPTIONS_COUNT;
    memcpy(rows, http_options, sizeof http_options);
    for (const struct option_row *row = serve_options; row->name; row++) {
        size_t i = 0;
        while (i < HTTP_OPTIONS_COUNT && strcmp(http_options[i].name, row->name) != 0)
            i++;
        if (i == HTTP_OPTIONS_COUNT && count < HTTP_OPTIONS_MAX - 1)
            rows[count++] = *row;
    }
    rows[count] = (struct option_row){ .name = NULL };
}

static void http_counters_read(void *context, uint64_t *ret_values)
{
    http_site_counters(context, ret_values);
}

// Connections watch themselves: an idle one is closed in order, not reset, and one that closes has
// the patience of --min-rate.
void http_site_serve(struct http_site *site, struct serve_settings *ret_serve)
{
    *ret_serve = site->settings->serve;
    ret_serve->idle_timeout_ns = ret_serve->close_timeout_ns = 0;
    ret_serve->logs[0] = &site->log;
    ret_serve->logs[1] = &site->access_log;
    ret_serve->needs = &site->needs.needs;
    ret_serve->prepare = http_site_open;
    ret_serve->counters = (struct serve_counters){
        .names = http_counter_names,
        .count = COUNTER_COUNT,
        .read = http_counters_read,
        .context = site,
    };
}

static int http_run(const struct option_set *options, struct http_settings *settings)
{
    static const char missing[] = "weir http: --root: a directory is needed (or --handler echo)\n";
    struct serve_settings serve;
    struct http_site site;
    if (!settings->echo && !settings->root) {
        fputs(missing, stderr);
        return SERVE_EXIT_USAGE;
    }
    http_site_init(&site, settings);
    http_site_serve(&site, &serve);
    int status = serve_run(options, &serve, &http_protocol, &site);
    http_site_fini(&site);
    return status;
}

int http_main(int argc, char **argv)
{
    return http_program(argc, argv, NULL, 0);
}

int http_program(int argc, char **argv, const struct http_route *routes, size_t count)
{
    struct option_row rows[HTTP_OPTIONS_MAX];
    const struct option_set options = {
        .command = "weir http",
        .usage = "--listen ADDRESS --root DIR [options]",
        .about = "Serves files and small handlers over HTTP/1.1.",
        .rows = rows,
    };
    struct http_settings settings;
    http_settings_init(&settings);
    settings.routes = routes;
    settings.routes_count = count;
    http_options_join(rows);
    int parsed = options_parse(&options, argc, argv, &settings);
    if (parsed)
        return parsed > 0 ? 0 : SERVE_EXIT_USAGE;
    return http_run(&options, &settings);
}
