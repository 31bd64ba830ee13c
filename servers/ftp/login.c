// USER, PASS and REIN. A hash costs tens of milliseconds of CPU, so it is a job in the background.
// They run one after another and wait here, not in the core's queue, so that a session that ends
// meanwhile costs nothing.
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transfer.h"
#include "work.h"

enum { LOGIN_FAILURES_MAX = 3 };

static void login_hash_next(struct ftp_session *session);

void ftp_login_reset(struct ftp_session *session)
{
    if (session->own_root)
        close(session->root_fd);
    free(session->name);
    session->name = NULL;
    session->user = NULL;
    session->root_fd = session->server->root_fd;
    session->own_root = false;
    bool logged_in = session->logged_in;
    session->logged_in = false;
    // The time for the next login begins behind a login: REIN and USER before it put nothing off.
    if (logged_in)
        ftp_session_watch(session);
    session->anonymous = false;
    session->ascii = true; // RFC 959's default
    session->extended_only = false;
    session->restart = 0;
    session->facts = 63; // all
    if (session->cwd)
        strcpy(session->cwd, "/");
}

void ftp_login_rein(struct ftp_session *session, const char *argument)
{
    (void)argument;
    ftp_session_forget_data(session);
    ftp_login_reset(session);
    ftp_reply(session, "220 Ready for a new user.");
}

// --- USER ----------------------------------------------------------------------------------------

static bool login_is_anonymous(const struct ftp_session *session, const char *name)
{
    return session->server->anonymous && (!strcmp(name, "anonymous") || !strcmp(name, "ftp"));
}

// Whether a user exists is not told here.
void ftp_login_user(struct ftp_session *session, const char *argument)
{
    ftp_session_forget_data(session);
    ftp_login_reset(session);
    session->name = strdup(argument);
    if (!session->name)
        ftp_session_end(session, "421 Out of memory.");
    else if (login_is_anonymous(session, argument))
        ftp_reply(session, "331 Any password will do.");
    else
        ftp_reply(session, "331 Password, please.");
}

// --- Success and failure -------------------------------------------------------------------------

static void login_succeed(struct ftp_session *session)
{
    session->logged_in = true;
    ftp_session_watch(session);
    ftp_count(session->server, FTP_COUNTER_LOGINS);
    ftp_reply(session, "230 Logged in.");
}

static void login_delayed(struct weir_loop *loop, struct weir_timer *timer)
{
    struct ftp_session *session =
        (struct ftp_session *)(void *)((char *)timer - offsetof(struct ftp_session, delay));
    (void)loop;
    session->busy = false;
    // UNTESTED: a session that ends in its delay, at that moment
    if (session->ending)
        return;
    if (session->failures >= LOGIN_FAILURES_MAX) {
        ftp_session_end(session, "421 Too many failed logins.");
        return;
    }
    ftp_reply(session, "530 Login incorrect.");
    ftp_session_continue(session);
}

// Guessing is slow: the answer waits, and the connection with it; each time longer. No login
// between makes it shorter or forgets a failure: one that anybody can make would buy as many
// guesses again.
static void login_fail(struct ftp_session *session)
{
    session->failures++;
    session->busy = true;
    ftp_count(session->server, FTP_COUNTER_LOGINS_FAILED);
    ftp_event(session, "failed login of \"%s\"", session->name);
    free(session->name);
    session->name = NULL;
    session->delay.function = login_delayed;
    weir_timer_start(weir_stream_loop(session->control), &session->delay,
                     session->failures * session->server->login_delay_ns);
}

// --- The hash ------------------------------------------------------------------------------------

// Finds or makes the loop's queue; NULL without memory, and for loops that run jobs at once.
static struct ftp_hashing *login_hashing(struct ftp_session *session)
{
    struct ftp_server *server = session->server;
    const struct weir_loop *loop = weir_stream_loop(session->control);
    struct ftp_hashing *found = NULL;
    size_t i = 0;
    if (!strcmp(weir_loop_engine(loop), "blocking"))
        return NULL;
    pthread_mutex_lock(&server->lock);
    while (i < sizeof server->hashings / sizeof server->hashings[0] && server->hashings[i] &&
           server->hashings[i]->loop != loop)
        i++;
    if (i < sizeof server->hashings / sizeof server->hashings[0]) {
        if (!server->hashings[i]) {
            server->hashings[i] = calloc(1, sizeof *found);
            if (server->hashings[i])
                server->hashings[i]->loop = loop;
        }
        found = server->hashings[i];
    }
    pthread_mutex_unlock(&server->lock);
    if (found && !found->first)
        found->last = &found->first;
    return found;
}

static void login_hash_over(struct ftp_hashing *hashing)
{
    struct ftp_session *next = hashing->first;
    hashing->running = false;
    if (!next)
        return;
    hashing->first = next->next_hash;
    if (!hashing->first)
        hashing->last = &hashing->first;
    next->hash_waits = false;
    hashing->running = true;
    login_hash_next(next);
}

// The password is in work->path. The home's descriptor comes back in work->fd.
static int login_run(struct weir_operation *operation)
{
    struct ftp_work *work = ftp_work_of(operation);
    const struct ftp_user *user = work->user;
    int known = ftp_users_verify(&work->session->server->users, user, work->path);
    explicit_bzero(work->path, strlen(work->path));
    work->fd = -1;
    if (known != 1)
        return known < 0 ? known : -EACCES;
    if (!*user->home)
        return 0;
    char home[FTP_PATH_MAX];
    int error = ftp_path_join("/", user->home, home);
    if (error)
        return error;
    work->fd = ftp_work_open(work->root_fd, home, O_PATH | O_DIRECTORY, 0);
    return work->fd < 0 ? work->fd : 0;
}

static void login_done(struct ftp_work *work, int result)
{
    struct ftp_session *session = work->session;
    struct ftp_hashing *hashing = login_hashing(session);
    if (hashing)
        login_hash_over(hashing);
    if (!result && work->fd >= 0) {
        session->root_fd = work->fd;
        session->own_root = true;
    }
    if (!result) {
        session->user = ftp_users_find(&session->server->users, session->name);
        login_succeed(session);
    } else if (result == -EACCES) {
        login_fail(session);
    } else if (result == -ENOMEM || result == -EAGAIN || result == -EMFILE || result == -ENFILE) {
        ftp_session_end(session, "421 Too many logins; try again later.");
    } else {
        ftp_reply(session, "530 The home directory is not there.");
    }
}

static void login_hash_next(struct ftp_session *session)
{
    ftp_work_start_background(session->work, login_run);
}

static void login_verify(struct ftp_session *session, const char *password)
{
    struct ftp_work *work = ftp_work_create(session, password, NULL);
    if (!work) {
        ftp_session_end(session, "421 Out of memory.");
        return;
    }
    work->user = ftp_users_find(&session->server->users, session->name);
    work->done = login_done;
    session->work = work;
    session->busy = true;
    struct ftp_hashing *hashing = login_hashing(session);
    if (hashing && hashing->running) {
        session->hash_waits = true;
        session->next_hash = NULL;
        *hashing->last = session;
        hashing->last = &session->next_hash;
        return;
    }
    if (hashing)
        hashing->running = true;
    login_hash_next(session);
}

void ftp_login_pass(struct ftp_session *session, const char *argument)
{
    if (session->logged_in) {
        ftp_reply(session, "202 Already logged in.");
    } else if (!session->name) {
        ftp_reply(session, "503 Send USER first.");
    } else if (login_is_anonymous(session, session->name)) {
        session->anonymous = true;
        login_succeed(session);
    } else {
        login_verify(session, argument);
    }
}

// A session that ends while it waits leaves the queue; one whose hash runs is waited for, as its
// job belongs to the control connection.
void ftp_login_forget(struct ftp_session *session)
{
    if (session->hash_waits) {
        struct ftp_hashing *hashing = login_hashing(session);
        struct ftp_session **link = &hashing->first;
        while (*link != session)
            link = &(*link)->next_hash;
        *link = session->next_hash;
        if (!*link)
            hashing->last = link;
        free(session->work);
    }
    if (session->own_root)
        close(session->root_fd);
    free(session->name);
}
