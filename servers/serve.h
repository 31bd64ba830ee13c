// What every server command shares: options, listeners, signals, log and statistics.
#ifndef SERVE_H
#define SERVE_H

#include <sys/types.h>

#include <weir.h>

#include "options.h"
#include "sandbox.h"

enum { SERVE_EXIT_RUN = 1, SERVE_EXIT_USAGE = 2 };

enum { SERVE_LISTENS_MAX = 64, SERVE_CPUS_MAX = 1024, SERVE_LOGS_MAX = 2 };

enum { SERVE_LOG_LINE_MAX = 1024 };

struct serve_log;

enum { SERVE_COUNTERS_MAX = 32 };

// The protocol's own counters, for the statistics.
struct serve_counters {
    const char *const *names; // NULL: no counters
    size_t count;             // at most SERVE_COUNTERS_MAX
    // Writes one value for each name. From the thread that waits for signals.
    void (*read)(void *context, uint64_t *ret_values);
    void *context;
};

struct serve_settings {
    struct weir_address listens[SERVE_LISTENS_MAX];
    size_t listens_count;
    enum weir_engine engine;
    const char *uring; // NULL: the library's default
    uint64_t threads;
    uint16_t cpus[SERVE_CPUS_MAX];
    size_t cpus_count;
    uint64_t busy_poll_us, adaptive_poll_us, min_wait_us;
    uint64_t connections_max;
    uint64_t address_connections_max;
    uint64_t idle_timeout_ns, total_timeout_ns, drain_timeout_ns;
    uint64_t backlog;
    uint64_t send_buffer, receive_buffer, notsent_lowat;
    bool keepalive;
    bool ordinary_descriptor; // not an option: the protocol asks for local addresses
    uint64_t unix_mode;
    uint64_t buffers, buffer_size;
    const char *log_path, *stats_path;
    enum sandbox_mode sandbox;
    const char *user, *chroot;
    const char *user_option; // the name of the option that sets `user`
    // Set by a server, not by options.
    uint64_t close_timeout_ns;              // of the loop; 0: never
    size_t send_high, send_low;             // 0: the loop's defaults
    struct serve_log *logs[SERVE_LOGS_MAX]; // NULL, or logs of its own that SIGHUP opens anew too
    const struct sandbox_needs *needs;      // NULL: no sandbox
    struct serve_counters counters;
    // Opens what the protocol needs and completes `needs`: in the new root folder, with the
    // privileges of the start. Told how many connections fit into the limit of descriptors. Prints
    // errors; the exit status, or 0. May be NULL.
    int (*prepare)(void *context, uint32_t connections);
};

// The rows that fill it.
extern const struct option_row serve_options[];
void serve_settings_init(struct serve_settings *settings);
// What they ask of each loop; what they do not name has the loop's defaults.
void serve_settings_loop(const struct serve_settings *settings,
                         struct weir_loop_config *ret_config);

// Serves the protocol until a signal ends it, and returns the exit status.
int serve_run(const struct option_set *options, const struct serve_settings *settings,
              const struct weir_protocol *protocol, void *context);

// A log: lines to standard error, or to a file with the time before them. Any thread.
struct serve_log {
    const char *path; // NULL: standard error
    int fd;
    bool torn;   // serve_log_write_lines() ended within a line
    bool unread; // a line was left out last: a full pipe that nobody reads
};
// Opens the file, or opens it anew and exchanges it under the threads that write; -errno.
int serve_log_open(struct serve_log *log);
void serve_log_close(struct serve_log *log);
void serve_log_write(void *log, enum weir_log_level level, const char *text);
// The same for the thread that waits for signals, which must hear the next one: a line that nobody
// reads within a second is left out, and so are those that follow until somebody does.
void serve_log_offer(struct serve_log *log, enum weir_log_level level, const char *text);
// All that follows, in any log, is written so: no loop runs any more, and the process ends.
void serve_log_end(void);
// The line that serve_log_write() writes; returns its size. The text is cut where it does not fit.
size_t serve_log_format(const struct serve_log *log, enum weir_log_level level, const char *text,
                        char ret_line[SERVE_LOG_LINE_MAX]);
// Writes whole lines, as they are, and ends a line before them of which a part is there; lines that
// serve_log_write() writes meanwhile stand between them, also in a pipe. -errno, and how many did
// not get there. One thread at a time.
int serve_log_write_lines(struct serve_log *log, const char *data, size_t size, uint64_t *ret_lost);

// Writes the statistics as one JSON object; a regular file is replaced as a whole or not at all.
int serve_stats_write(const char *path, const struct weir_server *server,
                      const struct serve_settings *settings, struct sandbox *sandbox);
void serve_stats_log(struct serve_log *log, const struct weir_server *server,
                     const struct serve_counters *counters);

#endif
