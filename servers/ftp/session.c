// See session.h. The control connection: greeting, lines, dispatch, time-outs, the end.
#include "session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "transfer.h"
#include "work.h"

enum {
    SESSION_WAITING_MAX = 16,
    SESSION_TURN_LINES = 32,
    SESSION_UNKNOWN_MAX = 10,
    SESSION_DISCARD_MAX = 64 * 1024,
};

#define SESSION_LINGER_NS 2000000000ULL
#define SESSION_LATE_NS 100000000ULL // to send what was queued when the time to log in was over
#define SESSION_EXPIRED "421 This session has lasted long enough."
#define SESSION_BUSY_NS 1000000000ULL // how often a time-out looks whether a command still runs

static void session_input(struct ftp_session *session, struct weir_slice slice);

// --- Helpers of commands -------------------------------------------------------------------------

bool ftp_session_path(struct ftp_session *session, const char *argument,
                      char ret_path[FTP_PATH_MAX])
{
    int error = ftp_path_join(session->cwd, argument, ret_path);
    if (error)
        ftp_reply_error(session, 553, error);
    return !error;
}

bool ftp_session_may_write(const struct ftp_session *session)
{
    const struct ftp_server *server = session->server;
    return !server->read_only && (!session->anonymous || server->anonymous_write);
}

void ftp_session_forget_data(struct ftp_session *session)
{
    struct weir_listener *listener = session->listener;
    session->listener = NULL;
    weir_listener_close(listener);
    if (session->data) {
        struct ftp_data *data = weir_stream_session(session->data);
        data->session = NULL;
        weir_stream_abort(session->data);
    }
    session->data = NULL;
    session->active.any.sa_family = AF_UNSPEC;
}

// Makes room for another session; once.
static void session_uncount(struct ftp_session *session)
{
    struct ftp_server *server = session->server;
    struct weir_address peer;
    if (session->counted)
        atomic_fetch_sub(&server->sessions, 1);
    session->counted = false;
    if (!session->hosted)
        return;
    weir_stream_peer_address(session->control, &peer);
    ftp_hosts_give(&server->hosts, &peer);
    session->hosted = false;
}

// Whether the limits leave room for it; otherwise it is told so.
static bool session_count(struct ftp_session *session)
{
    struct ftp_server *server = session->server;
    struct weir_address peer;
    session->counted = true;
    if (atomic_fetch_add(&server->sessions, 1) >= server->sessions_max) {
        ftp_count(server, FTP_COUNTER_SESSIONS_REFUSED);
        ftp_event(session, "refused: there are %llu sessions already",
                  (unsigned long long)server->sessions_max);
        ftp_session_end(session, "421 Too many sessions; try again later.");
        return false;
    }
    if (!server->host_sessions_max)
        return true;
    weir_stream_peer_address(session->control, &peer);
    session->hosted = ftp_hosts_take(&server->hosts, &peer, server->host_sessions_max);
    if (!session->hosted) {
        ftp_count(server, FTP_COUNTER_HOSTS_REFUSED);
        ftp_event(session, "refused: this host has %llu sessions already",
                  (unsigned long long)server->host_sessions_max);
        ftp_session_end(session, "421 Too many sessions of your host; try again later.");
    }
    return session->hosted;
}

void ftp_session_end(struct ftp_session *session, const char *reply)
{
    ftp_reply(session, reply);
    session->ending = true;
    session_uncount(session);
    ftp_session_forget_data(session);
    // Unread bytes would turn the end into a reset, and the reply might be lost.
    weir_stream_linger(session->control, SESSION_DISCARD_MAX, SESSION_LINGER_NS);
}

static void session_quit(struct ftp_session *session, const char *argument)
{
    (void)argument;
    ftp_reply(session, "221 Goodbye.");
    session->ending = true;
    session_uncount(session);
    weir_stream_close(session->control);
}

static void session_unsupported(struct ftp_session *session, const char *argument)
{
    (void)argument;
    ftp_reply(session, "502 Command not implemented.");
}

// --- Dispatch ------------------------------------------------------------------------------------

static ftp_handler *const session_handlers[FTP_VERBS] = {
    [FTP_ABOR] = ftp_transfer_unneeded, [FTP_ACCT] = session_unsupported,
    [FTP_ADAT] = session_unsupported,   [FTP_ALLO] = ftp_say_allocate,
    [FTP_APPE] = ftp_transfer_appe,     [FTP_AUTH] = session_unsupported,
    [FTP_CCC] = session_unsupported,    [FTP_CDUP] = ftp_name_cdup,
    [FTP_CONF] = session_unsupported,   [FTP_CWD] = ftp_name_cwd,
    [FTP_DELE] = ftp_name_delete,       [FTP_ENC] = session_unsupported,
    [FTP_EPRT] = ftp_data_eprt,         [FTP_EPSV] = ftp_data_epsv,
    [FTP_FEAT] = ftp_say_features,      [FTP_HELP] = ftp_say_help,
    [FTP_LIST] = ftp_transfer_list,     [FTP_MDTM] = ftp_name_time,
    [FTP_MFMT] = ftp_name_set_time,     [FTP_MIC] = session_unsupported,
    [FTP_MKD] = ftp_name_make,          [FTP_MLSD] = ftp_transfer_mlsd,
    [FTP_MLST] = ftp_name_facts,        [FTP_MODE] = ftp_set_mode,
    [FTP_NLST] = ftp_transfer_nlst,     [FTP_NOOP] = ftp_say_noop,
    [FTP_OPTS] = ftp_set_options,       [FTP_PASS] = ftp_login_pass,
    [FTP_PASV] = ftp_data_pasv,         [FTP_PBSZ] = ftp_say_protection,
    [FTP_PORT] = ftp_data_port,         [FTP_PROT] = ftp_say_protection,
    [FTP_PWD] = ftp_name_pwd,           [FTP_QUIT] = session_quit,
    [FTP_REIN] = ftp_login_rein,        [FTP_REST] = ftp_set_restart,
    [FTP_RETR] = ftp_transfer_retr,     [FTP_RMD] = ftp_name_remove,
    [FTP_RNFR] = ftp_name_rename_from,  [FTP_RNTO] = ftp_name_rename_to,
    [FTP_SITE] = ftp_name_site,         [FTP_SIZE] = ftp_name_size,
    [FTP_SMNT] = session_unsupported,   [FTP_STAT] = ftp_transfer_stat,
    [FTP_STOR] = ftp_transfer_stor,     [FTP_STOU] = ftp_transfer_stou,
    [FTP_STRU] = ftp_set_structure,     [FTP_SYST] = ftp_say_system,
    [FTP_TYPE] = ftp_set_type,          [FTP_USER] = ftp_login_user,
};

// Somebody who guesses commands, or does not speak FTP, is sent away.
static void session_unknown(struct ftp_session *session, const char *reply)
{
    if (++session->unknown >= SESSION_UNKNOWN_MAX)
        ftp_session_end(session, "421 Too many unknown commands.");
    else
        ftp_reply(session, reply);
}

// RNFR stands for the next command only, and REST for the next transfer.
static void session_forget_rename(struct ftp_session *session, enum ftp_verb verb)
{
    if (verb == FTP_RNTO)
        return;
    free(session->rename_from);
    session->rename_from = NULL;
}

// NULL is a line that was too long.
static void session_execute(struct ftp_session *session, const char *line)
{
    struct ftp_command command;
    if (!line) {
        session_unknown(session, "500 The line is too long.");
        return;
    }
    ftp_command_parse(line, &command);
    session_forget_rename(session, command.verb);
    if (command.verb == FTP_HTTP) {
        ftp_session_end(session, "421 This is FTP.");
        return;
    }
    if (command.verb == FTP_VERBS) {
        session_unknown(session, "500 Unknown command.");
        return;
    }
    uint8_t needs = ftp_verbs[command.verb].needs;
    if (needs & FTP_NEEDS_LOGIN && !session->logged_in)
        ftp_reply(session, "530 Log in with USER and PASS.");
    else if (needs & FTP_NEEDS_ARGUMENT && !*command.argument)
        ftp_reply_format(session, "501 Syntax: %s", ftp_verbs[command.verb].syntax);
    else if (needs & FTP_TAKES_NONE && *command.argument)
        ftp_reply_format(session, "501 Syntax: %s", ftp_verbs[command.verb].syntax);
    else
        session_handlers[command.verb](session, command.argument);
}

// --- Turns ---------------------------------------------------------------------------------------

// Few bytes are many commands, and other sessions wait as long as this one's run: it has a number
// of lines for a turn of the loop, and goes on with the rest in a later one.
static void session_spend(struct ftp_session *session, uint16_t lines)
{
    uint64_t turn_ns = weir_loop_now(weir_stream_loop(session->control));
    if (session->turn_ns != turn_ns)
        session->turn_lines = 0;
    session->turn_ns = turn_ns;
    session->turn_lines = (uint16_t)(session->turn_lines + lines);
}

static bool session_turn_is_over(const struct ftp_session *session)
{
    return session->turn_lines >= SESSION_TURN_LINES &&
           session->turn_ns == weir_loop_now(weir_stream_loop(session->control));
}

void ftp_session_yield(struct ftp_session *session)
{
    session_spend(session, SESSION_TURN_LINES);
}

static void session_turn(struct weir_loop *loop, struct weir_timer *timer)
{
    (void)loop;
    ftp_session_continue(
        (struct ftp_session *)(void *)((char *)timer - offsetof(struct ftp_session, turn)));
}

// Also while a command runs: ABOR may be among what was not read yet.
static void session_rest(struct ftp_session *session)
{
    if (!session_turn_is_over(session) || (!session->paused && !session->waiting))
        return;
    session->turn.function = session_turn;
    weir_timer_start(weir_stream_loop(session->control), &session->turn, 1);
}

// --- Lines ---------------------------------------------------------------------------------------

// A command, or its end, puts the idle time-out off; the login's nothing does.
static void session_touch(struct ftp_session *session)
{
    if (session->logged_in)
        session->active_ns = weir_loop_now(weir_stream_loop(session->control));
}

static bool session_overtakes(struct ftp_session *session, const char *line)
{
    struct ftp_command command;
    if (!session->transfer || !line)
        return false;
    ftp_command_parse(line, &command);
    if (command.verb == FTP_ABOR)
        return ftp_transfer_abort(session->transfer);
    // Within the lines of a listing over this connection there is no place for another reply.
    if (command.verb != FTP_STAT || *command.argument || session->transfer->verb == FTP_STAT)
        return false;
    ftp_transfer_stat(session, "");
    return true;
}

static void session_wait(struct ftp_session *session, const char *line)
{
    size_t size = line ? strlen(line) + 1 : 0;
    struct ftp_waiting *waiting = malloc(sizeof *waiting + size);
    if (!waiting) {
        ftp_session_end(session, "421 Out of memory.");
        return;
    }
    waiting->next = NULL;
    waiting->too_long = !line;
    if (line)
        memcpy(waiting->line, line, size);
    *session->waiting_last = waiting;
    session->waiting_last = &waiting->next;
    session->waiting_count++;
}

static void session_line(struct ftp_session *session, const char *line)
{
    session_touch(session);
    if (!session->busy && !session->waiting)
        session_execute(session, line);
    else if (!session_overtakes(session, line))
        session_wait(session, line);
}

// Too many lines wait, or the client does not take its replies: a line is a few bytes, its reply
// can be thousands. Or it sent more than its turn is for. What else comes stays in the socket until
// there is room.
static void session_pause_if_full(struct ftp_session *session, bool more)
{
    if (session->waiting_count < SESSION_WAITING_MAX && !weir_stream_is_full(session->control) &&
        !(more && session_turn_is_over(session)))
        return;
    session->paused = true;
    weir_stream_pause(session->control);
}

// Keeps what was not looked at: only when the session pauses.
static void session_keep_rest(struct ftp_session *session, struct weir_slice slice)
{
    // UNTESTED: needs a queue without memory in the middle of a line
    if (slice.size && weir_slice_hold(session->control, slice, &session->rest))
        ftp_session_end(session, "421 Out of memory.");
}

static void session_read(struct ftp_session *session, struct weir_slice *slice)
{
    enum ftp_read read = ftp_reader_feed(&session->reader, &slice->data, &slice->size);
    session_spend(session, read != FTP_READ_MORE);
    switch (read) {
    case FTP_READ_LINE:
        session_line(session, session->reader.line);
        break;
    case FTP_READ_TOO_LONG:
        session_line(session, NULL);
        break;
    case FTP_READ_NEGOTIATION:
        weir_stream_send(session->control, session->reader.refusal, 3);
        break;
    case FTP_READ_MORE:
        break;
    }
}

// The line's memory exists only while a part of a line does: idle sessions are small.
static void session_input(struct ftp_session *session, struct weir_slice slice)
{
    if (!session->reader.line)
        session->reader.line = malloc(FTP_LINE_MEMORY);
    if (!session->reader.line) {
        ftp_session_end(session, "421 Out of memory.");
        return;
    }
    while (slice.size && !session->ending && !session->paused) {
        session_read(session, &slice);
        session_pause_if_full(session, slice.size > 0);
    }
    if (session->paused && !session->ending)
        session_keep_rest(session, slice);
    if (ftp_reader_is_idle(&session->reader)) {
        free(session->reader.line);
        session->reader.line = NULL;
    }
}

static bool session_goes_on(const struct ftp_session *session)
{
    return !session->ending && !session->late && !weir_stream_is_full(session->control) &&
           !session_turn_is_over(session);
}

static void session_run_waiting(struct ftp_session *session)
{
    while (session->waiting && !session->busy && session_goes_on(session)) {
        struct ftp_waiting *waiting = session->waiting;
        session->waiting = waiting->next;
        if (!session->waiting)
            session->waiting_last = &session->waiting;
        session->waiting_count--;
        session_spend(session, 1);
        session_execute(session, waiting->too_long ? NULL : waiting->line);
        free(waiting);
    }
}

static void session_resume(struct ftp_session *session)
{
    struct weir_slice rest = session->rest;
    session->rest = (struct weir_slice){ 0 };
    session->paused = false;
    if (rest.size) {
        struct weir_slice held = rest;
        session_input(session, rest);
        weir_slice_release(session->control, &held);
    }
    if (!session->paused)
        weir_stream_resume(session->control);
}

static bool session_has_room(const struct ftp_session *session)
{
    return session->waiting_count < SESSION_WAITING_MAX && session_goes_on(session);
}

static void session_end_if_done(struct ftp_session *session)
{
    if (session->busy || session->ending)
        return;
    if (session->draining)
        ftp_session_end(session, "421 The server is shutting down.");
    else if (session->input_ended && !session->waiting)
        weir_stream_close(session->control);
}

void ftp_session_continue(struct ftp_session *session)
{
    session_touch(session);
    if (session->expired && !session->busy && !session->ending) {
        ftp_session_end(session, SESSION_EXPIRED);
        return;
    }
    session_run_waiting(session);
    while (session->paused && session_has_room(session)) {
        session_resume(session);
        session_run_waiting(session);
    }
    session_end_if_done(session);
    session_rest(session);
}

// --- Time-outs -----------------------------------------------------------------------------------

static uint64_t session_limit(const struct ftp_session *session)
{
    return session->logged_in ? session->server->idle_timeout_ns
                              : session->server->login_timeout_ns;
}

void ftp_session_reset(struct ftp_session *session)
{
    ftp_event(session, "reset: it takes no replies");
    weir_stream_abort(session->control);
}

// Who takes no reply does not take the last one either. Before the login no reply is long: any that
// waits tells it, but not yet, since those of this turn leave with the next. Nothing runs until
// then, so that what still waits was left unread.
static void session_time_out(struct ftp_session *session)
{
    struct weir_stream *control = session->control;
    bool in = session->logged_in;
    if (in ? !weir_stream_is_full(control) : !weir_stream_queued(control)) {
        ftp_session_end(session, in ? "421 Idle for too long." : "421 Log in faster.");
    } else if (in || session->late) {
        ftp_session_reset(session);
    } else {
        session->late = session->paused = true;
        weir_stream_pause(control);
        weir_timer_start(weir_stream_loop(control), &session->timer, SESSION_LATE_NS);
    }
}

static void session_timer(struct weir_loop *loop, struct weir_timer *timer)
{
    struct ftp_session *session =
        (struct ftp_session *)(void *)((char *)timer - offsetof(struct ftp_session, timer));
    uint64_t limit_ns = session_limit(session);
    uint64_t quiet_ns = weir_loop_now(loop) - session->active_ns;
    if (session->ending)
        return;
    if (session->busy || quiet_ns < limit_ns)
        weir_timer_start(loop, timer, session->busy ? SESSION_BUSY_NS : limit_ns - quiet_ns);
    else
        session_time_out(session);
}

void ftp_session_watch(struct ftp_session *session)
{
    struct weir_loop *loop = weir_stream_loop(session->control);
    session->active_ns = weir_loop_now(loop);
    session->timer.function = session_timer;
    if (session_limit(session))
        weir_timer_start(loop, &session->timer, session_limit(session));
    else
        weir_timer_stop(loop, &session->timer);
}

// --- The stream ----------------------------------------------------------------------------------

static void session_opened(struct weir_stream *stream)
{
    struct ftp_session *session = weir_stream_session(stream);
    struct ftp_server *server = weir_stream_context(stream);
    session->control = stream;
    session->server = server;
    session->waiting_last = &session->waiting;
    session->cwd = strdup("/");
    ftp_login_reset(session);
    if (!session_count(session))
        return;
    if (!session->cwd) {
        ftp_session_end(session, "421 Out of memory.");
        return;
    }
    ftp_count(server, FTP_COUNTER_SESSIONS_OPENED);
    ftp_session_watch(session);
    ftp_reply(session, "220 weir FTP server ready.");
}

static void session_received(struct weir_stream *stream, struct weir_slice slice)
{
    struct ftp_session *session = weir_stream_session(stream);
    if (session->ending)
        return; // UNTESTED: what ends does not read
    session_input(session, slice);
    session_rest(session);
}

static bool session_will_quit(const struct ftp_session *session)
{
    struct ftp_command command = { .verb = FTP_VERBS };
    for (const struct ftp_waiting *waiting = session->waiting; waiting; waiting = waiting->next)
        ftp_command_parse(waiting->too_long ? "" : waiting->line, &command);
    return command.verb == FTP_QUIT;
}

// The client's end. Commands that it sent are still done, but an end without QUIT aborts a transfer
// (RFC 959, 4.1.1): a client that died also ends its data connection, and half a file would look
// like a whole one.
static void session_ended(struct weir_stream *stream)
{
    struct ftp_session *session = weir_stream_session(stream);
    session->input_ended = true;
    if (session->transfer && !session_will_quit(session))
        ftp_transfer_abort(session->transfer);
    session_end_if_done(session);
}

static void session_drained(struct weir_stream *stream)
{
    struct ftp_session *session = weir_stream_session(stream);
    if (session->transfer)
        ftp_transfer_room(session->transfer);
    ftp_session_continue(session);
}

static void session_draining(struct weir_stream *stream)
{
    struct ftp_session *session = weir_stream_session(stream);
    session->draining = true;
    if (!session->busy && !session->ending)
        ftp_session_end(session, "421 The server is shutting down.");
}

// What runs is finished, but nothing begun.
static void session_expired(struct weir_stream *stream)
{
    struct ftp_session *session = weir_stream_session(stream);
    session->expired = true;
    if (!session->busy && !session->ending)
        ftp_session_end(session, SESSION_EXPIRED);
}

static void session_closed(struct weir_stream *stream, int reason)
{
    struct ftp_session *session = weir_stream_session(stream);
    struct weir_loop *loop = weir_stream_loop(stream);
    if (reason == -ETIME)
        ftp_event(session, "aborted: open for twice --total-timeout");
    weir_timer_stop(loop, &session->timer);
    weir_timer_stop(loop, &session->delay);
    weir_timer_stop(loop, &session->turn);
    if (session->transfer)
        ftp_transfer_orphan(session->transfer);
    ftp_session_forget_data(session);
    ftp_login_forget(session);
    weir_slice_release(stream, &session->rest);
    while (session->waiting) {
        struct ftp_waiting *waiting = session->waiting;
        session->waiting = waiting->next;
        free(waiting);
    }
    free(session->reader.line);
    free(session->rename_from);
    free(session->cwd);
    session_uncount(session);
}

const struct weir_protocol ftp_protocol = {
    .name = "ftp",
    .session_size = sizeof(struct ftp_session),
    .opened = session_opened,
    .received = session_received,
    .drained = session_drained,
    .ended = session_ended,
    .draining = session_draining,
    .expired = session_expired,
    .closed = session_closed,
};
