// One FTP session: the control connection's stream, and what hangs on it.
//
// Commands run one at a time. A command that needs the file system, a hash or a transfer sets
// `busy`; what the client sends meanwhile waits, up to a bound, and then the connection is not read
// any more. Nor is it while the replies that the client has not taken are above the stream's high
// mark: then no command runs. Nor in the rest of a turn of the loop in which it had many lines
// already. Only ABOR and STAT overtake, while a transfer runs. All members belong to the loop's
// thread. Jobs see their own struct ftp_work only.
#ifndef FTP_SESSION_H
#define FTP_SESSION_H

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>

#include <weir.h>

#include "../line_queue.h"
#include "../serve.h"
#include "command.h"
#include "hosts.h"
#include "needs.h"
#include "path.h"
#include "users.h"

struct ftp_session;
struct ftp_transfer;
struct ftp_work;

// Names of files that are being uploaded begin with this; listings leave them out.
#define FTP_UPLOAD_PREFIX ".weir-upload-"

// Hashes of one loop run one after another, so that its other helper stays free for the rest.
struct ftp_hashing {
    const struct weir_loop *loop;
    struct ftp_session *first, **last; // wait, on the loop's thread
    bool running;
};

// Since the start.
enum ftp_counter {
    FTP_COUNTER_SESSIONS_OPENED,
    FTP_COUNTER_SESSIONS_REFUSED, // --max-sessions
    FTP_COUNTER_HOSTS_REFUSED,    // --max-per-address
    FTP_COUNTER_LOGINS,
    FTP_COUNTER_LOGINS_FAILED,
    FTP_COUNTER_TRANSFERS,
    FTP_COUNTER_TRANSFERS_FAILED,
    FTP_COUNTER_LOG_DROPPED, // lines about sessions and transfers
    FTP_COUNTER_COUNT,
};

// What all sessions share: the command line, and what was made of it.
struct ftp_server {
    struct serve_settings serve; // first, for the rows of options that fill it
    const char *root;
    struct ftp_users users;
    bool anonymous, anonymous_write, read_only, allow_active;
    bool uploads_direct, uploads_keep, sync;
    uint16_t passive_first, passive_last;
    struct in_addr passive_address;           // 0: the address that the client reached
    uint64_t sessions_max, host_sessions_max; // the latter 0: no limit
    uint64_t login_timeout_ns, login_delay_ns, idle_timeout_ns, data_timeout_ns;
    uint64_t rate_limit; // bytes a second and transfer; 0: none
    uint64_t rate_min;   // that a client must move, over each data_timeout_ns; 0: any
    const char *transfer_log;

    int root_fd;
    struct serve_log log;    // of transfers; fd -1: none
    struct serve_log events; // what the server's own log is told
    struct line_queue *transfer_lines, *event_lines;
    struct ftp_needs needs;
    struct ftp_hosts hosts;
    _Atomic uint64_t counters[FTP_COUNTER_COUNT]; // any thread
    _Atomic uint32_t sessions;
    pthread_mutex_t lock; // of `hashings`
    struct ftp_hashing *hashings[256];
};

// A line that came while a command was running.
struct ftp_waiting {
    struct ftp_waiting *next;
    bool too_long; // there is no line, but it has a reply in its turn
    char line[];
};

struct ftp_session {
    struct weir_stream *control;
    struct ftp_server *server;
    struct ftp_reader reader;
    struct ftp_waiting *waiting, **waiting_last;
    struct weir_slice rest;        // bytes that were not looked at yet
    struct weir_timer timer;       // login and idle time-outs, by `active_ns`
    struct weir_timer delay;       // of a failed login
    struct weir_timer turn;        // goes on with lines that were too many for one turn
    uint64_t turn_ns;              // the turn's time in which `turn_lines` were handled
    uint64_t active_ns;            // of the last command; before the login, of the opening or REIN
    struct ftp_session *next_hash; // waits for a helper, in struct ftp_hashing
    char *name;                    // that USER gave
    const struct ftp_user *user;
    int root_fd;
    char *cwd;
    char *rename_from;
    uint64_t restart;
    struct ftp_work *work;         // runs
    struct ftp_transfer *transfer; // runs
    struct weir_listener *listener;
    struct weir_stream *data; // stands, and no transfer uses it yet
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    } active; // where PORT or EPRT said to connect; family 0: nowhere
    uint16_t waiting_count, turn_lines;
    uint8_t failures; // of logins, over the whole session
    uint8_t unknown;  // commands that do not exist
    uint8_t facts;
    bool counted : 1; // in server->sessions
    bool hosted : 1;  // in server->hosts
    bool logged_in : 1;
    bool anonymous : 1;
    bool own_root : 1;
    bool ascii : 1;
    bool extended_only : 1; // EPSV ALL
    bool busy : 1;
    bool paused : 1;      // the control connection: too much waits, or is not taken
    bool draining : 1;    // the server wants to end: after this command
    bool expired : 1;     // --total-timeout is over: the same, and before what waits
    bool input_ended : 1; // the client sends no more: close after this command
    bool late : 1;        // the time to log in is over, and replies are on their way: nothing runs
    bool ending : 1;      // nothing is read any more
    bool hash_waits : 1;
};

enum ftp_kind { FTP_DOWNLOAD, FTP_UPLOAD, FTP_LISTING };

// event_log.c
// The numeric address of the session's client, or "-" over a unix socket.
static inline void ftp_count(struct ftp_server *server, enum ftp_counter counter)
{
    atomic_fetch_add_explicit(&server->counters[counter], 1, memory_order_relaxed);
}

void ftp_session_host(const struct ftp_session *session, char ret_text[INET6_ADDRSTRLEN]);
// A line in the server's log, behind the client's host. Queued: a slow log holds up nobody.
void ftp_event(const struct ftp_session *session, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

// reply.c
// One line of a reply: a code and a text, without its end.
void ftp_reply(struct ftp_session *session, const char *text);
void ftp_reply_format(struct ftp_session *session, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
// A reply with a name in it, encoded (see path.h).
void ftp_reply_name(struct ftp_session *session, const char *before, const char *name,
                    const char *after);
// Lines of a reply that were formatted elsewhere, with the Telnet byte 255 twice. Returns the size.
size_t ftp_reply_lines(struct ftp_session *session, const char *lines, size_t size);
// The reply that says why the file system refused: `code` and the error's text.
void ftp_reply_error(struct ftp_session *session, int code, int error);

// session.c
extern const struct weir_protocol ftp_protocol;
// Ends the session after a last reply; the client may still be sending.
void ftp_session_end(struct ftp_session *session, const char *reply);
// Ends one without, whose client takes no replies.
void ftp_session_reset(struct ftp_session *session);
// From now the time-out counts that a session has before the login, or behind it.
void ftp_session_watch(struct ftp_session *session);
// The running command is done: goes on with what waits.
void ftp_session_continue(struct ftp_session *session);
// What the command did took long: the next one runs in a later turn of the loop.
void ftp_session_yield(struct ftp_session *session);
// The absolute path that an argument names; replies and returns false if it is too long.
bool ftp_session_path(struct ftp_session *session, const char *argument,
                      char ret_path[FTP_PATH_MAX]);
bool ftp_session_may_write(const struct ftp_session *session);
// Forgets what PASV, EPSV, PORT or EPRT prepared.
void ftp_session_forget_data(struct ftp_session *session);

// What a command does; the argument is "" if there is none.
typedef void ftp_handler(struct ftp_session *session, const char *argument);

// login.c
ftp_handler ftp_login_user, ftp_login_pass, ftp_login_rein;
void ftp_login_reset(struct ftp_session *session);
void ftp_login_forget(struct ftp_session *session); // the session ends
// settings.c
ftp_handler ftp_set_type, ftp_set_mode, ftp_set_structure, ftp_set_restart, ftp_set_options;
ftp_handler ftp_say_system, ftp_say_features, ftp_say_help, ftp_say_noop, ftp_say_allocate,
    ftp_say_protection;
// names.c
ftp_handler ftp_name_cwd, ftp_name_cdup, ftp_name_pwd, ftp_name_delete, ftp_name_make,
    ftp_name_remove, ftp_name_rename_from, ftp_name_rename_to, ftp_name_size, ftp_name_time,
    ftp_name_set_time, ftp_name_facts, ftp_name_site;
// address.c
ftp_handler ftp_data_pasv, ftp_data_epsv, ftp_data_port, ftp_data_eprt;
// transfer.c and its neighbours
ftp_handler ftp_transfer_retr, ftp_transfer_stor, ftp_transfer_appe, ftp_transfer_stou;
ftp_handler ftp_transfer_list, ftp_transfer_nlst, ftp_transfer_mlsd;
ftp_handler ftp_transfer_stat, ftp_transfer_unneeded;

#endif
