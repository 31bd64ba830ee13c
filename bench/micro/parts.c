// Pieces of weir without any system call: pools, and the parsers of requests.
#include <http/parser.h>
#include <stdlib.h>
#include <string.h>

#include "buffer.h"
#include "command.h"
#include "micro.h"
#include "slab.h"

enum { PARTS_BUFFERS = 256, PARTS_BUFFER_SIZE = 16384, PARTS_RECORD = 512, PARTS_HELD = 64 };

struct micro_pool {
    struct buffer_pool buffers;
    struct slab slab;
};

struct micro_pool *micro_pool_create(void)
{
    struct micro_pool *pool = calloc(1, sizeof *pool);
    if (!pool)
        return NULL;
    slab_init(&pool->slab, PARTS_RECORD);
    if (pool_init(&pool->buffers, PARTS_BUFFERS, PARTS_BUFFER_SIZE) == 0)
        return pool;
    free(pool);
    return NULL;
}

void micro_pool_destroy(struct micro_pool *pool)
{
    if (!pool)
        return;
    pool_fini(&pool->buffers);
    slab_fini(&pool->slab);
    free(pool);
}

bool micro_pool_buffer(struct micro_pool *pool)
{
    int index = pool_take(&pool->buffers);
    if (index < 0)
        return false;
    pool_release(&pool->buffers, pool_lease(&pool->buffers, (uint32_t)index));
    return true;
}

bool micro_pool_record(struct micro_pool *pool)
{
    void *held[PARTS_HELD];
    for (size_t i = 0; i < PARTS_HELD; i++)
        if (!(held[i] = slab_take(&pool->slab)))
            return false;
    // In the order of taking, so that the free list turns over.
    for (size_t i = 0; i < PARTS_HELD; i++)
        slab_give(&pool->slab, held[i]);
    return true;
}

uint32_t micro_pool_records(void)
{
    return PARTS_HELD;
}

// --- Parsers -------------------------------------------------------------------------------------

static const char parts_short[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
static const char parts_browser[] =
    "GET /articles/2024/05/some-page.html?from=feed HTTP/1.1\r\n"
    "Host: www.example.org\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
    "Accept-Language: en-US,en;q=0.5\r\n"
    "Accept-Encoding: gzip, deflate, br\r\n"
    "Connection: keep-alive\r\n"
    "Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n"
    "If-Modified-Since: Wed, 01 May 2024 10:00:00 GMT\r\n"
    "Upgrade-Insecure-Requests: 1\r\n\r\n";
static const char parts_ftp[] = "RETR some/folder/file-with-a-name.tar.gz\r\n";

struct micro_parser {
    const char *text;
    size_t size;
    bool ftp;
    struct http_parser_limits limits;
    struct http_head *scratch;
    struct http_parser http;
    struct ftp_reader reader;
    char line[FTP_LINE_MEMORY];
};

struct micro_parser *micro_parser_create(const char *kind)
{
    struct micro_parser *parser = calloc(1, sizeof *parser);
    if (!parser)
        return NULL;
    parser->ftp = strcmp(kind, "ftp") == 0;
    parser->text = parser->ftp                    ? parts_ftp
                   : strcmp(kind, "browser") == 0 ? parts_browser
                                                  : parts_short;
    parser->size = strlen(parser->text);
    parser->reader.line = parser->line;
    parser->limits = (struct http_parser_limits){ .header_bytes = 8192, .headers = 64 };
    parser->scratch = http_head_create(&parser->limits);
    if (!parser->scratch) {
        free(parser);
        return NULL;
    }
    http_parser_init(&parser->http, &parser->limits, parser->scratch);
    return parser;
}

void micro_parser_destroy(struct micro_parser *parser)
{
    if (!parser)
        return;
    http_parser_fini(&parser->http);
    free(parser->scratch);
    free(parser);
}

size_t micro_parser_size(const struct micro_parser *parser)
{
    return parser->size;
}

bool micro_parser_run(struct micro_parser *parser)
{
    const char *at = parser->text;
    if (parser->ftp) {
        struct ftp_command command;
        size_t size = parser->size;
        if (ftp_reader_feed(&parser->reader, &at, &size) != FTP_READ_LINE)
            return false;
        ftp_command_parse(parser->line, &command);
        return command.verb == FTP_RETR && command.argument[0] == 's';
    }
    if (http_parser_next(&parser->http, &at, parser->text + parser->size) != EVENT_HEAD)
        return false;
    bool right = parser->http.request.method == METHOD_GET;
    http_parser_release(&parser->http);
    return right;
}
