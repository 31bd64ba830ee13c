// HTTP: the files and the echo handlers, and the scripts for them.
#include <servers/http/connection.h>

#include "script.h"

enum { HTTP_LARGE_SIZE = 300000, HTTP_LARGE = 31, HTTP_PACKED = 32, HTTP_PACKED_SIZE = 90 };

static struct {
    struct http_settings settings;
    struct http_site site;
    char root[160];
} http;

static void http_make_files(struct stage *stage)
{
    static const char small[] = "This is small.\nThis is its end.\n", page[] = "<p>A page.</p>\n",
                      hidden[] = "nobody reads this\n";
    stage_make(stage, "outside.txt", hidden, strlen(hidden));
    stage_make(stage, "site/small.txt", small, strlen(small));
    stage_make(stage, "site/empty.bin", "", 0);
    stage_make(stage, "site/large.bin", pattern_at(HTTP_LARGE, 0), HTTP_LARGE_SIZE);
    stage_make(stage, "site/page.html", page, strlen(page));
    stage_make(stage, "site/page.html.gz", pattern_at(HTTP_PACKED, 0), HTTP_PACKED_SIZE);
    stage_make(stage, "site/index.html", page, strlen(page));
    stage_make(stage, "site/dir/index.html", page, strlen(page));
    stage_make(stage, "site/bare/small.txt", small, strlen(small));
    stage_make(stage, "site/.hidden", hidden, strlen(hidden));
}

// As weir http has them by default, but for the time-outs: nothing that depends on time.
static void http_start(struct stage *stage, bool echo, struct weir_address *ret_address)
{
    http_make_files(stage);
    snprintf(http.root, sizeof http.root, "%ssite", stage->folder);
    http.settings = (struct http_settings){
        .root = http.root,
        .index = "index.html",
        .echo = echo,
        .cache_size = 64 << 20,
        .body_max = 100000,
        .bodies_max = 64 << 20,
        .header_bytes_max = 16 << 10,
        .headers_max = 100,
    };
    http.settings.serve.log_path = "/dev/null";
    http_site_init(&http.site, &http.settings);
    assert_int_equal(http_site_open(&http.site, 1), 0);
    stage->world->config->send_high = CONNECTION_QUEUE_MAX;
    stage->world->config->send_low = CONNECTION_QUEUE_LOW;
    stage_listen(stage, &http_protocol, &http.site, ret_address);
}

static void http_start_files(struct stage *stage, struct weir_address *ret_address)
{
    http_start(stage, false, ret_address);
}

static void http_start_echo(struct stage *stage, struct weir_address *ret_address)
{
    http_start(stage, true, ret_address);
}

static void http_stop(struct stage *stage)
{
    (void)stage;
    http_site_fini(&http.site);
}

const struct served served_files = { "http", http_start_files, http_stop };
const struct served served_echo = { "http echo", http_start_echo, http_stop };
