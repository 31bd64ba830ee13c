// weir ftp: options, users and the root; then the server runs. The protocol is in ftp/.
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "ftp/address_text.h"
#include "ftp/transfer.h"

#define SECOND_NS 1000000000ULL

// Whose privileges the server takes: --user is a user of FTP.
#define FTP_USER_OPTION "run-as"

enum { FTP_SESSIONS_MAX = 500000 };

// --- Options -------------------------------------------------------------------------------------

static const char *ftp_option_user(const char *text, void *settings)
{
    struct ftp_server *server = settings;
    int error = ftp_users_add(&server->users, text);
    if (!error)
        return NULL;
    return error == -EEXIST ? "a new name: it is there already"
                            : "NAME:HASH[:DIRECTORY] with a hash of `weir passwd`";
}

// The message names the line; the option's own would repeat it.
static const char *ftp_option_users(const char *text, void *settings)
{
    struct ftp_server *server = settings;
    size_t line;
    int error = ftp_users_load(&server->users, text, &line);
    if (!error)
        return NULL;
    if (line)
        fprintf(stderr, "%s:%zu: %s\n", text, line,
                error == -EEXIST ? "this name is there already" : "not NAME:HASH[:DIRECTORY]");
    else
        fprintf(stderr, "%s: %s\n", text, strerror(-error));
    return "a file of users";
}

static const char *ftp_option_ports(const char *text, void *settings)
{
    struct ftp_server *server = settings;
    return ftp_address_read_range(text, &server->passive_first, &server->passive_last)
               ? NULL
               : "ports A-B from 1024 to 65535";
}

static const char *ftp_option_address(const char *text, void *settings)
{
    struct ftp_server *server = settings;
    return inet_pton(AF_INET, text, &server->passive_address) == 1 ? NULL : "an IPv4 address";
}

static const char *ftp_option_uploads(const char *text, void *settings)
{
    struct ftp_server *server = settings;
    server->uploads_direct = !strcmp(text, "direct");
    return server->uploads_direct || !strcmp(text, "atomic") ? NULL : "atomic or direct";
}

static const char *ftp_option_broken(const char *text, void *settings)
{
    struct ftp_server *server = settings;
    server->uploads_keep = !strcmp(text, "keep");
    return server->uploads_keep || !strcmp(text, "remove") ? NULL : "remove or keep";
}

#define MEMBER(name) .offset = offsetof(struct ftp_server, name)

static const struct option_row ftp_options[] = {
    { .name = "root",
      .argument = "DIRECTORY",
      .help = "what is served; nothing outside is ever reached",
      .kind = OPTION_TEXT,
      MEMBER(root) },
    { .name = "anonymous",
      .help = "let anybody read as anonymous or ftp",
      .kind = OPTION_FLAG,
      MEMBER(anonymous) },
    { .name = "anonymous-write",
      .help = "let them write too",
      .kind = OPTION_FLAG,
      MEMBER(anonymous_write) },
    { .name = "user",
      .argument = "NAME:HASH[:DIR]",
      .help = "a user, with a hash of `weir passwd`; may be repeated",
      .kind = OPTION_CUSTOM,
      .parse = ftp_option_user },
    { .name = "users",
      .argument = "FILE",
      .help = "users, one NAME:HASH[:DIR] a line",
      .kind = OPTION_CUSTOM,
      .parse = ftp_option_users },
    { .name = "read-only",
      .help = "nobody may change anything",
      .kind = OPTION_FLAG,
      MEMBER(read_only) },
    { .name = "passive-ports",
      .argument = "A-B",
      .help = "ports for PASV and EPSV (default: those the kernel gives out)",
      .kind = OPTION_CUSTOM,
      .parse = ftp_option_ports },
    { .name = "passive-address",
      .argument = "IP",
      .help = "IPv4 address that PASV tells (default: the one that was reached)",
      .kind = OPTION_CUSTOM,
      .parse = ftp_option_address },
    { .name = "allow-active",
      .help = "connect to the client for PORT and EPRT",
      .kind = OPTION_FLAG,
      MEMBER(allow_active) },
    { .name = "uploads",
      .argument = "HOW",
      .help = "atomic (default): by a temporary name and rename; or direct",
      .kind = OPTION_CUSTOM,
      .parse = ftp_option_uploads },
    { .name = "broken-uploads",
      .argument = "HOW",
      .help = "remove (default) what an atomic upload left when it broke, or keep it",
      .kind = OPTION_CUSTOM,
      .parse = ftp_option_broken },
    { .name = "fsync",
      .help = "answer an upload only when the disk has it",
      .kind = OPTION_FLAG,
      MEMBER(sync) },
    { .name = "max-sessions",
      .argument = "N",
      .help = "sessions at once; more are told 421 (default: half of the connections)",
      .kind = OPTION_COUNT,
      .min = 1,
      .max = FTP_SESSIONS_MAX,
      MEMBER(sessions_max) },
    { .name = "login-timeout",
      .argument = "S",
      .help = "seconds from the connection to the login (default 60; 0: no limit)",
      .kind = OPTION_SECONDS,
      .max = 10000000 * SECOND_NS,
      MEMBER(login_timeout_ns) },
    { .name = "login-delay",
      .argument = "S",
      .help = "seconds before a failed login is answered, more for each (default 1)",
      .kind = OPTION_SECONDS,
      .max = 3600 * SECOND_NS,
      MEMBER(login_delay_ns) },
    { .name = "data-timeout",
      .argument = "S",
      .help = "seconds that a data connection may take or stand still (default 60)",
      .kind = OPTION_SECONDS,
      .max = 10000000 * SECOND_NS,
      MEMBER(data_timeout_ns) },
    { .name = "min-rate",
      .argument = "SIZE",
      .help = "bytes a second that a transfer must move, over each --data-timeout (default 256; 0: "
              "any)",
      .kind = OPTION_SIZE,
      .max = 1ULL << 40,
      MEMBER(rate_min) },
    { .name = "rate-limit",
      .argument = "SIZE",
      .help = "bytes a second of each transfer (default 0: no limit)",
      .kind = OPTION_SIZE,
      .max = 1ULL << 40,
      MEMBER(rate_limit) },
    { .name = "transfer-log",
      .argument = "FILE",
      .help = "append a line for each transfer; - is standard output",
      .kind = OPTION_TEXT,
      MEMBER(transfer_log) },
    { .name = NULL },
};

// The rows of all servers and these, in one table.
static void ftp_join_options(struct option_row ret_rows[OPTIONS_MAX + 1])
{
    size_t count = 0;
    for (const struct option_row *row = ftp_options; row->name; row++)
        ret_rows[count++] = *row;
    for (const struct option_row *row = serve_options; row->name; row++) {
        ret_rows[count] = *row;
        if (!strcmp(row->name, "listen"))
            ret_rows[count].help = "127.0.0.1:21 or [::1]:21; may be repeated";
        if (!strcmp(row->name, "idle-timeout"))
            ret_rows[count].help = "seconds without a command (default 300; 0: no limit)";
        if (!strcmp(row->name, "user"))
            ret_rows[count].name = FTP_USER_OPTION;
        if (!strcmp(row->name, "max-per-address"))
            ret_rows[count].help = "sessions at once from one host; more are told 421 (default 0: "
                                   "no limit)";
        count++;
    }
    ret_rows[count] = (struct option_row){ 0 };
}

// --- Checks --------------------------------------------------------------------------------------

static bool ftp_is_loopback(const struct weir_address *address)
{
    if (address->any.sa_family == AF_INET)
        return ntohl(address->in.sin_addr.s_addr) >> 24 == 127;
    return IN6_IS_ADDR_LOOPBACK(&address->in6.sin6_addr);
}

static const char *ftp_fault(const struct ftp_server *server)
{
    if (!server->root || !*server->root)
        return "--root: a directory is needed";
    if (!server->anonymous && !server->users.count)
        return "nobody could log in: --anonymous, --user or --users is needed";
    if (server->anonymous_write && !server->anonymous)
        return "--anonymous-write: needs --anonymous";
    for (size_t i = 0; i < server->serve.listens_count; i++) {
        const struct weir_address *listen = &server->serve.listens[i];
        if (listen->any.sa_family == AF_UNIX)
            return "--listen: FTP needs IP addresses; a data connection has none on a unix socket";
        if (server->users.plain && !ftp_is_loopback(listen))
            return "a user with `plain` is for tests: on loopback listeners only";
    }
    return NULL;
}

// --- Run -----------------------------------------------------------------------------------------

// Without --passive-ports: the range that the kernel takes ports from.
static void ftp_settle_ports(struct ftp_server *server)
{
    unsigned first = 32768, last = 60999;
    FILE *file = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");
    // UNTESTED: a kernel with other ports than usual
    if (file && (fscanf(file, "%u %u", &first, &last) != 2 || first < 1024 || last < first ||
                 last > UINT16_MAX)) {
        first = 32768;
        last = 60999;
    }
    if (file)
        fclose(file);
    server->passive_first = (uint16_t)first;
    server->passive_last = (uint16_t)last;
}

static void ftp_settle_limits(struct ftp_server *server)
{
    struct serve_settings *serve = &server->serve;
    // A session has a control connection and, now and then, one for data.
    if (!server->sessions_max)
        server->sessions_max = serve->connections_max < 2 ? 1 : serve->connections_max / 2;
    if (serve->connections_max < 2 * server->sessions_max)
        serve->connections_max = 2 * server->sessions_max;
    // The core's time-out would count bytes only, and end a session that waits for its transfer.
    server->idle_timeout_ns = serve->idle_timeout_ns;
    serve->idle_timeout_ns = 0;
    // The core's limit would reset what is too much; here it is told so.
    server->host_sessions_max = serve->address_connections_max;
    serve->address_connections_max = 0;
    if (!server->passive_first)
        ftp_settle_ports(server);
    serve->ordinary_descriptor = true; // PASV tells the address that the client reached
}

// What of the server's log and of the hosts' table is the sessions' own. A log that cannot be
// opened is told by serve_run(), with its name.
static int ftp_open_events(struct ftp_server *server)
{
    server->events.path = server->serve.log_path;
    serve_log_open(&server->events);
    return server->host_sessions_max ? ftp_hosts_init(&server->hosts, server->sessions_max) : 0;
}

// In the new root folder, and before privileges are dropped: the `prepare` of the settings. Fewer
// connections than asked for are fewer sessions: without one for data they could do nothing.
static int ftp_open(void *context, uint32_t connections)
{
    struct ftp_server *server = context;
    if (server->sessions_max > connections / 2)
        server->sessions_max = connections < 2 ? 1 : connections / 2;
    server->root_fd = open(server->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (server->root_fd < 0) {
        fprintf(stderr, "weir ftp: --root: %s: %s\n", server->root, strerror(errno));
        return SERVE_EXIT_RUN;
    }
    int error = ftp_open_events(server);
    if (!error)
        error = ftp_log_open(server);
    if (error) {
        const char *path = server->transfer_log;
        fprintf(stderr, "weir ftp: %s%s: %s\n", path ? "--transfer-log: " : "",
                path ? path : "lines of the log", strerror(-error));
        return SERVE_EXIT_RUN;
    }
    ftp_needs_complete(&server->needs, server);
    return 0;
}

// The protocol's own counters in the server's statistics.
static const char *const ftp_counter_names[] = {
    [FTP_COUNTER_SESSIONS_OPENED] = "sessions_opened",
    [FTP_COUNTER_SESSIONS_REFUSED] = "sessions_refused",
    [FTP_COUNTER_HOSTS_REFUSED] = "hosts_refused",
    [FTP_COUNTER_LOGINS] = "logins",
    [FTP_COUNTER_LOGINS_FAILED] = "logins_failed",
    [FTP_COUNTER_TRANSFERS] = "transfers",
    [FTP_COUNTER_TRANSFERS_FAILED] = "transfers_failed",
    [FTP_COUNTER_LOG_DROPPED] = "log_dropped",
};

static void ftp_counters_read(void *context, uint64_t *ret_values)
{
    const struct ftp_server *server = context;
    for (size_t i = 0; i < FTP_COUNTER_COUNT; i++)
        ret_values[i] = atomic_load_explicit(&server->counters[i], memory_order_relaxed);
}

static int ftp_serve(const struct option_set *options, struct ftp_server *server)
{
    const char *fault = ftp_fault(server);
    if (fault) {
        fprintf(stderr, "%s: %s\n", options->command, fault);
        return SERVE_EXIT_USAGE;
    }
    ftp_settle_limits(server);
    server->serve.logs[0] = &server->log;
    server->serve.logs[1] = &server->events;
    server->serve.needs = &server->needs.needs;
    server->serve.prepare = ftp_open;
    server->serve.counters = (struct serve_counters){
        .names = ftp_counter_names,
        .count = FTP_COUNTER_COUNT,
        .read = ftp_counters_read,
        .context = server,
    };
    pthread_mutex_init(&server->lock, NULL);
    int status = serve_run(options, &server->serve, &ftp_protocol, server);
    for (size_t i = 0; i < sizeof server->hashings / sizeof server->hashings[0]; i++)
        free(server->hashings[i]);
    pthread_mutex_destroy(&server->lock);
    ftp_hosts_fini(&server->hosts);
    ftp_log_close(server);
    serve_log_close(&server->events);
    if (server->root_fd >= 0)
        close(server->root_fd);
    return status;
}

int ftp_main(int argc, char **argv)
{
    struct option_row rows[OPTIONS_MAX + 1];
    const struct option_set options = {
        .command = "weir ftp",
        .usage = "--listen ADDRESS --root DIRECTORY [--anonymous] [--users FILE] [options]",
        .about = "Serves a directory over FTP.",
        .rows = rows,
    };
    struct ftp_server server = { .login_timeout_ns = 60 * SECOND_NS,
                                 .login_delay_ns = SECOND_NS,
                                 .data_timeout_ns = 60 * SECOND_NS,
                                 .rate_min = 256,
                                 .root_fd = -1,
                                 .log = { .fd = -1 },
                                 .events = { .fd = -1 } };
    ftp_join_options(rows);
    serve_settings_init(&server.serve);
    server.serve.idle_timeout_ns = 300 * SECOND_NS;
    server.serve.user_option = FTP_USER_OPTION;
    int parsed = options_parse(&options, argc, argv, &server);
    int status = parsed > 0 ? 0 : SERVE_EXIT_USAGE;
    if (!parsed)
        status = ftp_serve(&options, &server);
    ftp_users_fini(&server.users);
    return status;
}
