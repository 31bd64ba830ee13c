// The HTTP server as it is on the simulated kernel: files with faults, and the echo handler. Each
// answer is compared, byte for byte, with those that the request may get.
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include <servers/http/connection.h>

#include "calls.h"
#include "http_expect.h"

enum { HTTP_CLIENTS_MAX = 6 };

#define HTTP_LOG_PATH CALLS_ROOT "access.log"

static struct {
    struct http_world world;
    struct http_settings settings;
    struct http_site site;
    struct http_script scripts[HTTP_CLIENTS_MAX];
    char content[HTTP_FILE_MAX];
} http;

// --- Files ---------------------------------------------------------------------------------------

// The times lie before the run begins; sizes are drawn.
static struct http_file http_files[] = {
    { .path = "site/small.txt", .type = "text/plain; charset=utf-8", .replaced = true },
    { .path = "site/empty.bin", .type = "application/octet-stream" },
    { .path = "site/page.html", .type = "text/html; charset=utf-8" },
    { .path = "site/old.css", .type = "text/css; charset=utf-8" },
    { .path = "site/dir/index.html", .type = "text/html; charset=utf-8" },
    { .path = "site/edge.bin", .type = "application/octet-stream" },
    { .path = "site/large.bin", .type = "application/octet-stream", .replaced = true },
};

static const char *http_content(uint64_t key, size_t size)
{
    for (size_t at = 0, part; at < size; at += part) {
        part = size - at < CLIENT_PIECE ? size - at : (size_t)CLIENT_PIECE;
        memcpy(http.content + at, client_pattern(key, at), part);
    }
    return http.content;
}

static void http_draw_sizes(struct sim *sim)
{
    size_t sizes[] = { 1 + sim_random(sim, 3000),
                       0,
                       3000 + sim_random(sim, 9000),
                       sim_random(sim, 900),
                       1 + sim_random(sim, 400),
                       HTTP_CONTENT_MAX,
                       HTTP_CONTENT_MAX + 1 + sim_random(sim, 100000) };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct http_file *file = &http_files[i];
        file->asked = strcmp(file->path, "site/dir/index.html") ? file->path + 4 : "/dir/";
        file->size[0] = sizes[i];
        file->size[1] = sizes[i] + sizes[i] / 16;
        file->modified_ns[0] = 1600000000500000000ULL + i * 7000000000ULL;
        file->key[0] = 100 + 2 * i;
        file->key[1] = 101 + 2 * i;
        file->packed_size = 0;
    }
}

static void http_make_file(struct sim *sim, const char *path, size_t size, uint64_t key,
                           uint64_t modified_ns)
{
    sim_file_create(sim, path, http_content(key, size), size);
    sim_file_set_time(sim, path, modified_ns);
}

static void http_replace(void *argument)
{
    struct http_file *file = argument;
    sim_file_replace(http.world.run->sim, file->path, http_content(file->key[1], file->size[1]),
                     file->size[1]);
    sim_file_set_time(http.world.run->sim, file->path, file->modified_ns[1]);
}

// Some of the files are replaced while clients ask for them, as a rename does.
static void http_make_files(struct sim *sim)
{
    sim_file_create(sim, "outside", client_pattern(3, 0), 100);
    http_draw_sizes(sim);
    bool replaces = sim_random(sim, 2);
    for (size_t i = 0; i < sizeof http_files / sizeof *http_files; i++) {
        struct http_file *file = &http_files[i];
        bool may = !strcmp(file->path, "site/small.txt") || !strcmp(file->path, "site/large.bin");
        http_make_file(sim, file->path, file->size[0], file->key[0], file->modified_ns[0]);
        file->replaced = may && replaces;
        if (!file->replaced)
            continue;
        uint64_t delay_ns = sim_random(sim, 1ULL << sim_random(sim, 32));
        file->modified_ns[1] = sim_real_time(sim) + delay_ns;
        sim_at(sim, delay_ns, http_replace, file);
    }
    struct http_file *page = &http_files[2];
    page->packed_size = 700;
    page->packed_key = 200;
    page->packed_modified_ns = page->modified_ns[0];
    http_make_file(sim, "site/page.html.gz", page->packed_size, page->packed_key,
                   page->packed_modified_ns);
    http_make_file(sim, "site/old.css.gz", 300, 201, http_files[3].modified_ns[0] - 1);
    http_make_file(sim, "site/.hidden", 300, 202, 1600000000000000000ULL);
    http_make_file(sim, "etc/passwd", 300, 203, 1600000000000000000ULL);
    sim_directory_create(sim, "site/dir/sub");
}

// --- The server ----------------------------------------------------------------------------------

static void http_draw_settings(struct run *run)
{
    struct sim *sim = run->sim;
    struct http_world *world = &http.world;
    *world = (struct http_world){ .run = run, .files = http_files };
    world->files_count = sizeof http_files / sizeof *http_files;
    world->echo = sim_random(sim, 3) == 0;
    world->impatient = sim_random(sim, 8) == 0;
    world->faulty = run->faults.chances[SIM_FILE_ERROR] > 0 || run->answered;
    world->requests_max = sim_random(sim, 6) ? 0 : 1 + sim_random(sim, 4);
    world->body_max = sim_random(sim, 4) ? 1 << 20 : sim_random(sim, 4096);
    world->logs = sim_random(sim, 4) == 0;
    http.settings = (struct http_settings){
        .root = CALLS_ROOT "site",
        .index = "index.html",
        .echo = world->echo,
        .cache_size = sim_random(sim, 4) ? 64 << 20 : 0,
        .body_max = world->body_max,
        .bodies_max = 64 << 20,
        .header_bytes_max = 16 << 10,
        .headers_max = 100,
        .requests_max = world->requests_max,
        .access_log_format = LOG_COMBINED,
    };
    http.settings.serve.log_path = "/dev/null";
    if (world->logs)
        http.settings.access_log = HTTP_LOG_PATH;
    if (!world->impatient)
        return;
    // Nobody is that quick, so that each of the time-outs is met.
    http.settings.header_timeout_ns = 1000 + sim_random(sim, 50000000);
    http.settings.serve.idle_timeout_ns = 1000 + sim_random(sim, 50000000);
    http.settings.rate_min = sim_random(sim, 2) * 100000000;
}

static int http_open(struct run *run, struct weir_loop_config *config)
{
    http_draw_settings(run);
    http_make_files(run->sim);
    // Made before any fault: what main cannot open is an error at start.
    struct sim_faults faults = run->faults;
    sim_set_faults(run->sim, NULL);
    http_site_init(&http.site, &http.settings);
    int status = http_site_open(&http.site, 1);
    sim_set_faults(run->sim, &faults);
    struct sim_counts counts;
    sim_count(run->sim, &counts);
    run->held_descriptors = counts.descriptors;
    run->served = record_protocol(run, &http_protocol);
    run->context = &http.site;
    // What weir http asks for.
    config->send_high = CONNECTION_QUEUE_MAX;
    config->send_low = CONNECTION_QUEUE_LOW;
    config->queued_max = 64 << 20;
    return status ? -EIO : 0;
}

static uint64_t http_timeouts(void)
{
    uint64_t counters[COUNTER_COUNT];
    http_site_counters(&http.site, counters);
    return counters[COUNTER_TIMEOUTS];
}

static void http_close(struct run *run)
{
    uint64_t counters[COUNTER_COUNT];
    http_site_counters(&http.site, counters);
    http.world.requests = counters[COUNTER_REQUESTS];
    http.world.log_dropped = counters[COUNTER_LOG_DROPPED];
    http_site_fini(&http.site);
    run->held_descriptors = 0;
}

// --- What a client makes of the answers ----------------------------------------------------------

static const char *http_output(struct client *client, size_t *ret_size)
{
    const struct http_script *script = client->script;
    size_t end = script->output_size;
    if (!script->pipelines && script->answering < script->asks_count)
        end = script->asks[script->answering].end;
    if (!script->pipelines && sim_now(client->run->sim) < script->asked_ns)
        end = client->sent; // it thinks
    if (script->closed && !script->pipelines)
        end = client->sent;
    *ret_size = end > client->sent ? end - client->sent : 0;
    return script->output + client->sent;
}

static bool http_sent_all(const struct client *client)
{
    const struct http_script *script = client->script;
    return script->closed || client->sent == script->output_size;
}

// How many of these bytes the candidate has next.
static size_t http_matches(const struct http_script *script, const struct http_candidate *candidate,
                           const char *data, size_t size)
{
    size_t at = 0, part;
    while (at < size) {
        const char *must = http_candidate_bytes(candidate, script->at + at, &part);
        if (part > size - at)
            part = size - at;
        for (size_t i = 0; must && i < part; i++) {
            if (must[i] != data[at + i])
                return at + i;
        }
        if (!part)
            return at;
        at += part;
    }
    return size;
}

// Keeps the candidates that go on with these bytes. False: none does, and all are kept.
static bool http_compare(struct http_script *script, const char *data, size_t size)
{
    uint32_t alive = 0;
    for (uint32_t i = 0; i < script->candidates_count; i++) {
        const struct http_candidate *candidate = &script->candidates[i];
        if (script->alive >> i & 1 && http_matches(script, candidate, data, size) == size)
            alive |= 1U << i;
    }
    if (alive)
        script->alive = alive;
    return alive != 0;
}

// Up to where the next of the candidates ends.
static size_t http_part(const struct http_script *script, size_t size)
{
    for (uint32_t i = 0; i < script->candidates_count; i++) {
        const struct http_candidate *candidate = &script->candidates[i];
        uint64_t whole = candidate->head_size + candidate->size;
        if (script->alive >> i & 1 && whole > script->at && whole - script->at < size)
            size = (size_t)(whole - script->at);
    }
    return size;
}

// A date is between the request, or what is known of that, and now; and it never goes back.
static bool http_date_holds(struct http_script *script, const char *date, const struct sim *sim)
{
    char text[HTTP_DATE + 1];
    uint64_t asked_ns = script->pipelines ? script->start_ns : script->asked_ns;
    uint64_t first = sim_real_time(sim) - sim_now(sim) + asked_ns;
    uint64_t second = first / 1000000000, last = sim_real_time(sim) / 1000000000;
    if (second < script->last_second)
        second = script->last_second;
    for (; second <= last; second++) {
        http_expect_date(second, text);
        if (memcmp(text, date, HTTP_DATE) != 0)
            continue;
        script->last_second = second;
        return true;
    }
    return false;
}

static const struct http_candidate *http_complete(const struct http_script *script)
{
    for (uint32_t i = 0; i < script->candidates_count; i++) {
        const struct http_candidate *candidate = &script->candidates[i];
        if (script->alive >> i & 1 && script->at == candidate->head_size + candidate->size)
            return candidate;
    }
    return NULL;
}

static void http_answered(struct client *client, const struct http_candidate *candidate)
{
    struct http_script *script = client->script;
    if (!http_date_holds(script, script->got + candidate->date_at, client->run->sim))
        run_complain(client->run, "client %u: the date of answer %u is wrong", client->index,
                     script->answering);
    sim_trace(client->run->sim, "answered", script->answering, candidate->status);
    script->closed = candidate->closes;
    script->answering++;
    script->expecting = false;
    if (!script->pipelines)
        script->asked_ns = sim_now(client->run->sim);
    if (script->thinks)
        script->asked_ns += client_random(client, 3000000000);
    if (script->closed || script->answering == script->asks_count)
        client->ends_after = 0; // there is nothing to come
}

static void http_quote(const char *data, size_t size, char ret_text[41])
{
    size_t count = 0;
    for (; count < 40 && count < size; count++)
        ret_text[count] = data[count] < ' ' || data[count] > '~' ? '.' : data[count];
    ret_text[count] = '\0';
}

// Complains with the candidate that comes closest.
static void http_strange(struct client *client, const char *data, size_t size)
{
    const struct http_script *script = client->script;
    const struct http_candidate *closest = NULL;
    size_t most = 0, there;
    char must[41], is[41];
    for (uint32_t i = 0; i < script->candidates_count; i++) {
        const struct http_candidate *candidate = &script->candidates[i];
        size_t count = http_matches(script, candidate, data, size);
        if (!(script->alive >> i & 1) || (closest && count <= most))
            continue;
        closest = candidate;
        most = count;
    }
    const char *bytes = http_candidate_bytes(closest, script->at + most, &there);
    http_quote(bytes ? bytes : "", bytes ? there : 0, must);
    http_quote(data + most, size - most, is);
    run_complain(client->run, "client %u: answer %u after '%.16s', %llu bytes is '%s' and not '%s'",
                 client->index, script->answering, script->got,
                 (unsigned long long)(script->at + most), is, must);
}

static void http_input(struct client *client, const char *data, size_t size)
{
    struct http_script *script = client->script;
    while (size && !client->run->complaint[0]) {
        if (script->closed || script->answering == script->asks_count) {
            run_complain(client->run, "client %u got bytes after the last answer", client->index);
            return;
        }
        if (!script->expecting)
            http_expect(script);
        size_t part = http_part(script, size);
        if (script->at < sizeof script->got) {
            size_t room = sizeof script->got - script->at;
            memcpy(script->got + script->at, data, part < room ? part : room);
        }
        if (!part || !http_compare(script, data, part)) {
            http_strange(client, data, size);
            return;
        }
        script->at += part;
        data += part;
        size -= part;
        const struct http_candidate *candidate = http_complete(script);
        if (candidate)
            http_answered(client, candidate);
    }
}

static const struct client_role http_role = { .output = http_output,
                                              .sent_all = http_sent_all,
                                              .input = http_input };

static void http_draw(struct client *client)
{
    struct http_script *script = &http.scripts[client->index];
    script->world = &http.world;
    script->asks_count = script->answering = 0;
    script->output_size = 0;
    script->expecting = script->closed = false;
    script->last_second = 0;
    client->role = &http_role;
    client->script = script;
    http_script_draw(script, client);
}

// --- What must hold ------------------------------------------------------------------------------

static bool http_closes(const struct http_script *script, uint32_t number)
{
    const struct http_ask *ask = &script->asks[number];
    const struct http_world *world = script->world;
    return ask->asks_close || (ask->old && !ask->asks_keep) || (ask->fixed && ask->fixed->closes) ||
           (world->requests_max && number + 1 >= world->requests_max) ||
           (ask->kind == HTTP_ASK_ECHO && ask->body_size > world->body_max);
}

// Whether the answers that are due may break off: a file fails while it is sent, or the connection
// closes behind one of them while more comes, and then a reset may overtake it.
static bool http_may_break(struct http_script *script, const struct client *client)
{
    if (!script->expecting)
        http_expect(script);
    for (uint32_t i = 0; i < script->candidates_count; i++) {
        const struct http_candidate *candidate = &script->candidates[i];
        if (script->alive >> i & 1 &&
            (candidate->status >= 500 || (candidate->sent && http.world.faulty)))
            return true;
    }
    for (uint32_t i = script->answering; i < script->asks_count; i++) {
        if (http_closes(script, i) && client->sent > script->asks[i].head_at)
            return true;
        if (script->asks[i].file && http.world.faulty)
            return true; // 500 closes too
    }
    return false;
}

static void http_check_client(struct run *run, struct client *client)
{
    struct http_script *script = client->script;
    if (run_may_lose_client(run, client) || client->end != CLIENT_ENDS)
        return;
    if (script->closed || script->answering == script->asks_count) {
        if (!client->ended && !script->closed)
            run_complain(run, "client %u did not get the end: %s", client->index,
                         strerror(-client->error));
        return;
    }
    if (!http_may_break(script, client))
        run_complain(run, "client %u got %u of %u answers: %s", client->index, script->answering,
                     script->asks_count, client->ended ? "the end" : strerror(-client->error));
}

// A line of the log for each request that was answered, whatever ended its connection.
static void http_check(struct run *run)
{
    const struct http_world *world = &http.world;
    const char *data;
    size_t size, lines = 0;
    if (!world->logs || world->faulty || run->lacks_memory ||
        !sim_file_content(run->sim, "access.log", &data, &size))
        return;
    for (size_t i = 0; i < size; i++)
        lines += data[i] == '\n';
    if (lines + world->log_dropped != world->requests)
        run_complain(run, "the access log has %zu lines for %llu requests", lines,
                     (unsigned long long)world->requests);
}

const struct run_protocol run_http = {
    .name = "http",
    .clients_max = HTTP_CLIENTS_MAX,
    .files = true,
    .names = true,
    .open = http_open,
    .draw = http_draw,
    .check_client = http_check_client,
    .check = http_check,
    .timeouts = http_timeouts,
    .close = http_close,
};
