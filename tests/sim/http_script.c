// Requests, drawn and written.
#include "http_script.h"

#include <stdarg.h>
#include <string.h>
#include <time.h>

#include "http_expect.h"

// --- Writing -------------------------------------------------------------------------------------

static void script_bytes(struct http_script *script, const void *data, size_t size)
{
    memcpy(script->output + script->output_size, data, size);
    script->output_size += size;
}

static void script_write(struct http_script *script, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void script_write(struct http_script *script, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    script->output_size +=
        (size_t)vsnprintf(script->output + script->output_size,
                          sizeof script->output - script->output_size, format, arguments);
    va_end(arguments);
}

static void script_pattern(struct http_script *script, uint64_t key, uint64_t from, size_t size)
{
    for (size_t part; size; size -= part, from += part) {
        part = size < CLIENT_PIECE ? size : CLIENT_PIECE;
        script_bytes(script, client_pattern(key, from), part);
    }
}

static void script_conditions(struct http_script *script, const struct http_ask *ask)
{
    static const char *const names[HTTP_CONDITIONS] = {
        [HTTP_IF_NONE_MATCH] = "If-None-Match",
        [HTTP_IF_MATCH] = "If-Match",
        [HTTP_IF_MODIFIED] = "If-Modified-Since",
        [HTTP_IF_UNMODIFIED] = "If-Unmodified-Since",
    };
    char tag[64], date[HTTP_DATE + 1];
    const struct http_file *file = ask->file;
    http_expect_tag(file->modified_ns[0], file->size[0], "", tag);
    http_expect_date(file->modified_ns[0] / 1000000000 - (ask->condition_other ? 86400 : 0), date);
    if (ask->condition == HTTP_IF_NONE_MATCH || ask->condition == HTTP_IF_MATCH)
        script_write(script, "%s: %s\r\n", names[ask->condition],
                     ask->condition_other ? "\"none\"" : tag);
    else if (ask->condition)
        script_write(script, "%s: %s\r\n", names[ask->condition], date);
    if (ask->if_range)
        script_write(script, "If-Range: %s\r\n", ask->if_range_other ? "\"none\"" : tag);
}

static void script_range(struct http_script *script, const struct http_ask *ask)
{
    if (!ask->ranged)
        return;
    script_write(script, "Range: bytes=");
    if (ask->suffix)
        script_write(script, "-%llu\r\n", (unsigned long long)ask->from);
    else if (ask->to == UINT64_MAX)
        script_write(script, "%llu-\r\n", (unsigned long long)ask->from);
    else
        script_write(script, "%llu-%llu\r\n", (unsigned long long)ask->from,
                     (unsigned long long)ask->to);
}

static void script_body(struct http_script *script, const struct client *client,
                        const struct http_ask *ask)
{
    if (!ask->chunked) {
        script_pattern(script, ask->body_key, 0, ask->body_size);
        return;
    }
    for (size_t at = 0, part; at < ask->body_size; at += part) {
        part = 1 + (size_t)client_random(client, ask->body_size - at);
        script_write(script, "%zx%s\r\n", part, client_random(client, 4) ? "" : ";name=value");
        script_pattern(script, ask->body_key, at, part);
        script_write(script, "\r\n");
    }
    script_write(script, "0\r\n%s\r\n", client_random(client, 4) ? "" : "Trailer-Field: 1\r\n");
}

static void script_ask(struct http_script *script, const struct client *client,
                       struct http_ask *ask)
{
    ask->head_at = script->output_size;
    if (ask->kind == HTTP_ASK_FIXED) {
        script_write(script, "%s", ask->fixed->request);
    } else {
        const char *method = ask->head ? "HEAD" : ask->kind == HTTP_ASK_FILE ? "GET" : "POST";
        const char *path = ask->kind == HTTP_ASK_FILE      ? ask->file->asked
                           : ask->kind == HTTP_ASK_HEADERS ? "/headers"
                                                           : "/an/echo?of=this";
        script_write(script, "%s %s HTTP/1.%c\r\nHost: simulated\r\n", method, path,
                     ask->old ? '0' : '1');
        if (ask->file)
            script_conditions(script, ask);
        script_range(script, ask);
    }
    if (ask->gzip)
        script_write(script, "Accept-Encoding: br;q=0, gzip\r\n");
    if (ask->asks_close || ask->asks_keep)
        script_write(script, "Connection: %s\r\n", ask->asks_close ? "close" : "keep-alive");
    if (ask->expects)
        script_write(script, "Expect: 100-continue\r\n");
    if (ask->chunked)
        script_write(script, "Transfer-Encoding: chunked\r\n");
    else if (ask->body_size)
        script_write(script, "Content-Length: %zu\r\n", ask->body_size);
    if (ask->kind == HTTP_ASK_ECHO && ask->body_key % 2)
        script_write(script, "Content-Type: text/simulated\r\n");
    script_write(script, "\r\n");
    ask->head_size = script->output_size - ask->head_at;
    script_body(script, client, ask);
    ask->end = script->output_size;
}

// --- Drawing -------------------------------------------------------------------------------------

static void script_draw_range(struct http_ask *ask, const struct client *client)
{
    uint64_t size = ask->file->size[0];
    ask->ranged = true;
    ask->suffix = client_random(client, 4) == 0;
    ask->from = client_random(client, size + size / 8 + 2);
    ask->to = UINT64_MAX;
    if (!ask->suffix && client_random(client, 3))
        ask->to = ask->from + client_scaled(client, 18);
    ask->if_range = client_random(client, 3) == 0;
    ask->if_range_other = client_random(client, 2);
}

static void script_draw_file(struct http_script *script, struct http_ask *ask,
                             const struct client *client)
{
    const struct http_world *world = script->world;
    ask->kind = HTTP_ASK_FILE;
    ask->file = &world->files[client_random(client, world->files_count)];
    // The large ones are for some.
    if (ask->file->size[0] >= HTTP_CONTENT_MAX && client_random(client, 4))
        ask->file = &world->files[0];
    ask->head = client_random(client, 8) == 0;
    ask->gzip = client_random(client, 3) == 0;
    if (client_random(client, 4) == 0)
        script_draw_range(ask, client);
    if (client_random(client, 4) == 0) {
        ask->condition = 1 + (enum http_condition)client_random(client, HTTP_CONDITIONS - 1);
        ask->condition_other = client_random(client, 2);
    }
}

static void script_draw_body(struct http_script *script, struct http_ask *ask,
                             const struct client *client)
{
    size_t most = sizeof script->output / (2 * HTTP_ASKS_MAX);
    ask->body_key = 1000 + client->index * 16 + script->asks_count;
    ask->body_size = (size_t)client_scaled(client, 14);
    if (ask->body_size > most)
        ask->body_size = most;
    ask->chunked = client_random(client, 3) == 0 && !ask->old;
    // A chunk of one byte takes six: few of them.
    if (ask->chunked && ask->body_size > most / 8)
        ask->body_size = most / 8;
    ask->expects = !ask->old && (ask->body_size || ask->chunked) && client_random(client, 6) == 0;
}

static void script_draw_ask(struct http_script *script, struct http_ask *ask,
                            const struct client *client)
{
    const struct http_world *world = script->world;
    ask->old = client_random(client, 10) == 0;
    ask->asks_keep = client_random(client, ask->old ? 2 : 16) == 0;
    ask->asks_close = !ask->asks_keep && client_random(client, 24) == 0;
    // Who was declined may insist.
    bool again = script->asks_count && script->asks[script->asks_count - 1].fixed;
    if (client_random(client, again ? 2 : 5) == 0) {
        *ask = (struct http_ask){ .kind = HTTP_ASK_FIXED,
                                  .fixed = http_fixed_draw(world->echo, client) };
        if (ask->fixed->body)
            ask->body_size = 1 + (size_t)client_random(client, 300);
    } else if (!world->echo) {
        script_draw_file(script, ask, client);
    } else if (client_random(client, 3) == 0) {
        ask->kind = HTTP_ASK_HEADERS;
    } else {
        ask->kind = HTTP_ASK_ECHO;
        script_draw_body(script, ask, client);
    }
}

// About how many bytes the answers have.
static uint64_t script_volume(const struct http_script *script)
{
    uint64_t volume = script->output_size;
    for (uint32_t i = 0; i < script->asks_count; i++) {
        const struct http_ask *ask = &script->asks[i];
        volume += 250 + ask->body_size;
        if (ask->file && !ask->head && !ask->condition && !ask->ranged)
            volume += ask->file->size[0];
    }
    return volume;
}

void http_script_draw(struct http_script *script, struct client *client)
{
    uint32_t count = 1 + (uint32_t)client_scaled(client, 3);
    script->pipelines = client_random(client, 2);
    script->thinks = client_random(client, 4) == 0;
    script->start_ns = script->asked_ns = sim_now(client->run->sim);
    for (uint32_t i = 0; i < count; i++) {
        struct http_ask *ask = &script->asks[script->asks_count];
        *ask = (struct http_ask){ 0 };
        script_draw_ask(script, ask, client);
        script_ask(script, client, ask);
        script->asks_count++;
    }
    client_draw(client, script_volume(script));
}
