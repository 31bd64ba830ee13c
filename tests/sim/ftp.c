// The FTP server as it is on the simulated kernel: control and data connections, a tree of files
// with faults, and clients that know what their own folder must have.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <servers/ftp/transfer.h>

#include "calls.h"
#include "ftp_script.h"
#include "shortage.h"

enum { FTP_CLIENTS_MAX = 5 };

#define FTP_LOG_PATH CALLS_ROOT "transfers.log"

static struct {
    struct ftp_world world;
    struct ftp_server server;
    struct ftp_script scripts[FTP_CLIENTS_MAX];
} ftp;

// --- The server ----------------------------------------------------------------------------------

static void ftp_draw_settings(struct run *run)
{
    struct sim *sim = run->sim;
    struct ftp_world *world = &ftp.world;
    struct ftp_server *server = &ftp.server;
    *world = (struct ftp_world){ .run = run };
    world->faulty = run->faults.chances[SIM_FILE_ERROR] > 0 || run->answered;
    world->impatient = sim_random(sim, 8) == 0;
    world->crowded = sim_random(sim, 8) == 0;
    world->uploads_direct = sim_random(sim, 4) == 0;
    world->uploads_keep = sim_random(sim, 4) == 0;
    *server = (struct ftp_server){ .uploads_direct = world->uploads_direct,
                                   .uploads_keep = world->uploads_keep,
                                   .sync = sim_random(sim, 4) == 0,
                                   .passive_first = 40000,
                                   .passive_last = 60999,
                                   .sessions_max = world->crowded ? 1 + sim_random(sim, 4) : 1000,
                                   .login_delay_ns = 1000000,
                                   .log = { .fd = -1 },
                                   .events = { .fd = -1 } };
    if (sim_random(sim, 8) == 0)
        server->rate_limit = 100000 + sim_random(sim, 10000000);
    if (sim_random(sim, 4) == 0)
        server->transfer_log = FTP_LOG_PATH;
    // Without it, one whose descriptor is never free is waited for in vain; and each transfer may
    // wait so long, while somebody else cannot even connect.
    if (run->lacks_descriptors)
        server->data_timeout_ns = 10000000000;
    else if (sim_random(sim, 2))
        server->data_timeout_ns = 300000000000;
    pthread_mutex_init(&server->lock, NULL);
    if (!world->impatient)
        return;
    server->login_timeout_ns = 1000 + sim_random(sim, 50000000);
    server->idle_timeout_ns = 1000 + sim_random(sim, 50000000);
    server->data_timeout_ns = 1000 + sim_random(sim, 10000000);
    if (sim_random(sim, 2))
        server->rate_min = 1 + sim_random(sim, 10000000);
}

// A folder for each client in both users' trees, with the first of its files.
static void ftp_make_files(struct sim *sim)
{
    static char shared[FTP_SHARED_SIZE];
    static const char *const trees[] = { "srv", "srv/home" };
    char path[64];
    sim_file_create(sim, "outside", client_pattern(3, 0), 100);
    for (size_t at = 0; at < sizeof shared; at += 4096) {
        size_t part = sizeof shared - at < 4096 ? sizeof shared - at : 4096;
        memcpy(shared + at, client_pattern(1, at), part);
    }
    for (size_t tree = 0; tree < 2; tree++) {
        snprintf(path, sizeof path, "%s/shared.bin", trees[tree]);
        sim_file_create(sim, path, shared, sizeof shared);
        for (uint32_t i = 0; i < FTP_CLIENTS_MAX; i++) {
            snprintf(path, sizeof path, "%s/c%u/f0", trees[tree], i);
            sim_file_create(sim, path, client_pattern(2 + i, 0), 1000 + 100 * i);
        }
    }
}

static int ftp_open(struct run *run, struct weir_loop_config *config)
{
    struct sim_faults faults = run->faults;
    struct sim_counts counts;
    ftp_draw_settings(run);
    ftp_make_files(run->sim);
    // What main does before it serves, without faults.
    sim_set_faults(run->sim, NULL);
    shortage_spare(true);
    int error = ftp_users_add(&ftp.server.users, "one:" CALLS_HASH "secret");
    if (!error)
        error = ftp_users_add(&ftp.server.users, "two:" CALLS_HASH "secret:home");
    ftp.server.root_fd = sim_file_open(run->sim, "srv");
    if (!error)
        error = ftp_log_open(&ftp.server);
    shortage_spare(false);
    sim_set_faults(run->sim, &faults);
    sim_count(run->sim, &counts);
    run->held_descriptors = counts.descriptors;
    run->served = record_protocol(run, &ftp_protocol);
    run->context = &ftp.server;
    run->ordinary = true;
    config->idle_timeout_ns = 0; // as weir ftp has it
    if (!ftp.world.impatient)
        config->close_timeout_ns = 0;
    config->streams_max = ftp.world.crowded ? 2 * (uint32_t)ftp.server.sessions_max : 64;
    return error;
}

static void ftp_close(struct run *run)
{
    for (uint32_t i = 0; i < run->clients_count; i++) {
        struct ftp_script *script = run->clients[i].script;
        if (script && script->transfer.used)
            client_stop(&script->transfer.client);
    }
    for (size_t i = 0; i < sizeof ftp.server.hashings / sizeof ftp.server.hashings[0]; i++)
        free(ftp.server.hashings[i]);
    ftp_log_close(&ftp.server);
    sim_call_close(run->sim, ftp.server.root_fd);
    ftp_users_fini(&ftp.server.users);
    pthread_mutex_destroy(&ftp.server.lock);
    run->held_descriptors = 0;
}

// --- The control connection ----------------------------------------------------------------------

static const char *ftp_output(struct client *client, size_t *ret_size)
{
    struct ftp_script *script = client->script;
    uint64_t at = client->sent - script->command_at;
    *ret_size = at < script->command_size ? script->command_size - at : 0;
    return script->command + at;
}

static bool ftp_sent_all(const struct client *client)
{
    const struct ftp_script *script = client->script;
    return script->closing;
}

// "123-text" begins a reply of several lines, "123 text" ends it and is one by itself.
static void ftp_line(struct ftp_script *script)
{
    const char *line = script->line;
    bool coded = script->line_size > 3 && strspn(line, "0123456789") == 3;
    int code = coded ? atoi(line) : 0;
    if (script->code && code != script->code)
        return;
    if (!coded)
        run_complain(script->world->run, "client %u: '%s' is no reply", script->control->index,
                     line);
    else if (line[3] == '-')
        script->code = code;
    else if (!script->code || line[3] == ' ') {
        script->code = 0;
        ftp_script_reply(script, code);
    }
}

static void ftp_input(struct client *client, const char *data, size_t size)
{
    struct ftp_script *script = client->script;
    for (size_t i = 0; i < size && !client->run->complaint[0]; i++) {
        if (data[i] == '\n') {
            if (!script->line_size || script->line[script->line_size - 1] != '\r')
                run_complain(client->run, "client %u: a line without its end", client->index);
            else
                script->line[script->line_size - 1] = '\0';
            ftp_line(script);
            script->line_size = 0;
        } else if (script->line_size < sizeof script->line - 1) {
            script->line[script->line_size++] = data[i];
        }
    }
}

// The data connection goes with it, in its own way.
static void ftp_over(struct client *client)
{
    struct ftp_script *script = client->script;
    if (script->transfer.used)
        client_end_now(&script->transfer.client);
}

static const struct client_role ftp_role = {
    .output = ftp_output, .sent_all = ftp_sent_all, .input = ftp_input, .over = ftp_over
};

static void ftp_draw(struct client *client)
{
    struct ftp_script *script = &ftp.scripts[client->index];
    client->role = &ftp_role;
    client->script = script;
    script->world = &ftp.world;
    script->control = client;
    script->folder = client_random(client, 3) ? "srv" : "srv/home";
    script->command_size = script->line_size = 0;
    script->command_at = 0;
    script->code = 0;
    script->entered = script->closing = false;
    script->uploads = 0;
    script->left = (uint32_t)client_random(client, 8);
    script->transfer.used = false;
    for (size_t i = 0; i < FTP_FILES; i++)
        ftp_model_adopt(script, i);
    client_draw(client, 400 + 150 * script->left);
    ftp_script_start(script);
}

// --- What must hold ------------------------------------------------------------------------------

static void ftp_check_client(struct run *run, struct client *client)
{
    struct ftp_script *script = client->script;
    for (size_t i = 0; i < FTP_FILES; i++) {
        if (!ftp_script_file_holds(script, i))
            run_complain(run, "client %u: f%zu is not what it was told (%s, stage %d)",
                         client->index, i, script->operation->name, script->stage);
    }
    if (client->end != CLIENT_ENDS || run_may_lose(run) || ftp.world.impatient)
        return;
    if (!client->ended || !script->closing)
        run_complain(run, "client %u did not get to the end: %s (%s, stage %d)", client->index,
                     strerror(-client->error), script->operation->name, script->stage);
}

// Nothing of a broken upload is left, unless it was to be kept or could not be removed.
static void ftp_check(struct run *run)
{
    char path[64];
    const char *name;
    if (ftp.world.uploads_keep || ftp.world.faulty || run->answered || run->short_of_memory)
        return;
    for (uint32_t i = 0; i < run->clients_count; i++) {
        const struct ftp_script *script = run->clients[i].script;
        snprintf(path, sizeof path, "%s/c%u", script->folder, i);
        for (uint32_t at = 0; (name = sim_file_next(run->sim, path, &at));) {
            if (strncmp(name, FTP_UPLOAD_PREFIX, strlen(FTP_UPLOAD_PREFIX)) == 0)
                run_complain(run, "client %u: %s is left", i, name);
        }
    }
}

const struct run_protocol run_ftp = {
    .name = "ftp",
    .clients_max = FTP_CLIENTS_MAX,
    .files = true,
    .names = true,
    .bulk = true,
    .open = ftp_open,
    .draw = ftp_draw,
    .check_client = ftp_check_client,
    .check = ftp_check,
    .close = ftp_close,
};
