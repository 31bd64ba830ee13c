// Where the data connection comes from: PASV and EPSV open a listener for one connection, PORT and
// EPRT say where to connect. Either way the other end must be the client's own host, and ports
// below 1024 are refused (RFC 2577): nobody's connections are stolen, and this server attacks
// nobody.
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "address_text.h"
#include "transfer.h"

enum { ADDRESS_BACKLOG = 8, ADDRESS_TRIES_MAX = 64 };

// --- Passive -------------------------------------------------------------------------------------

static bool address_admit(struct weir_listener *listener, const struct weir_address *peer)
{
    const struct ftp_session *session = weir_listener_context(listener);
    struct weir_address client;
    weir_stream_peer_address(session->control, &client);
    return weir_address_same_host(&client, peer);
}

static void address_finished(struct weir_listener *listener, int reason)
{
    struct ftp_session *session = weir_listener_context(listener);
    (void)reason;
    if (session->listener == listener)
        session->listener = NULL;
}

static void address_set_port(struct weir_address *address, uint16_t port)
{
    // The port lies at the same place in both families.
    address->in.sin_port = htons(port);
}

static uint32_t address_common_divisor(uint32_t a, uint32_t b)
{
    while (b) {
        uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

// Ports are tried from a random one on, so that they cannot be foreseen and few are tried in vain,
// and in random steps: taken ports would form long rows otherwise. The steps meet each port once.
// Of a range that is nearly full not all are tried, since other sessions wait meanwhile.
// The kernel's own choice (port 0) takes milliseconds once thousands of ports are in TIME_WAIT,
// which it passes over one by one, while a chosen port may be in TIME_WAIT.
static int address_listen(struct ftp_session *session, struct weir_address *local)
{
    const struct ftp_server *server = session->server;
    struct weir_listener_config config = {
        // Ordinary ones: a file that is sent would ask for one beside a direct descriptor. The end
        // of what is sent leaves with its last bytes.
        .socket = { .backlog = ADDRESS_BACKLOG,
                    .ordinary_descriptor = true,
                    .cork = true,
                    .send_buffer = (int)server->serve.send_buffer,
                    .receive_buffer = (int)server->serve.receive_buffer,
                    .notsent_lowat = (int)server->serve.notsent_lowat,
                    .keepalive = server->serve.keepalive },
        .protocol = &ftp_data_protocol,
        .context = session,
        .accepts_max = 1,
        .admit = address_admit,
        .finished = address_finished,
    };
    struct weir_loop *loop = weir_stream_loop(session->control);
    uint32_t count = (uint32_t)(server->passive_last - server->passive_first) + 1;
    uint32_t random[2] = { 0 };
    // UNTESTED: entropy is there when tests run
    if (getrandom(random, sizeof random, GRND_NONBLOCK) < 0)
        random[0] = random[1] = (uint32_t)weir_clock_now();
    uint32_t first = random[0] % count, step = random[1] % count;
    while (address_common_divisor(count, step) > 1)
        step = (step + 1) % count;
    int error = -EADDRINUSE;
    for (uint32_t i = 0; i < count && i < ADDRESS_TRIES_MAX && error == -EADDRINUSE; i++) {
        address_set_port(local, (uint16_t)(server->passive_first + (first + i * step) % count));
        error = weir_listener_open(loop, local, &config, &session->listener);
    }
    return error;
}

static uint16_t address_port(const struct ftp_session *session)
{
    struct weir_address bound;
    weir_listener_address(session->listener, &bound);
    return ntohs(bound.in.sin_port);
}

// Opens the listener on the address that the client reached; replies if that fails.
static bool address_open_passive(struct ftp_session *session, struct weir_address *local)
{
    ftp_session_forget_data(session);
    ftp_session_yield(session); // by then the old port is free again, too
    if (address_listen(session, local)) {
        session->listener = NULL;
        ftp_reply(session, "425 No port is free.");
        return false;
    }
    return true;
}

static sa_family_t address_local(const struct ftp_session *session, struct weir_address *ret_local)
{
    if (weir_stream_local_address(session->control, ret_local))
        return AF_UNSPEC;
    return ret_local->any.sa_family;
}

static bool address_refused_by_all(struct ftp_session *session)
{
    if (session->extended_only)
        ftp_reply(session, "503 Only EPSV, after EPSV ALL.");
    return session->extended_only;
}

void ftp_data_pasv(struct ftp_session *session, const char *argument)
{
    struct weir_address local;
    (void)argument;
    if (address_refused_by_all(session))
        return;
    if (address_local(session, &local) != AF_INET) {
        ftp_reply(session, "425 Use EPSV.");
        return;
    }
    struct in_addr shown = local.in.sin_addr;
    if (session->server->passive_address.s_addr)
        shown = session->server->passive_address;
    if (!address_open_passive(session, &local))
        return;
    char text[FTP_HOST_PORT_SIZE];
    ftp_address_write_port(shown, address_port(session), text);
    ftp_reply_format(session, "227 Entering Passive Mode (%s).", text);
}

void ftp_data_epsv(struct ftp_session *session, const char *argument)
{
    struct weir_address local;
    sa_family_t family = address_local(session, &local);
    enum ftp_epsv asked = ftp_address_read_epsv(argument, family);
    if (asked == FTP_EPSV_ALL) {
        session->extended_only = true;
        ftp_reply(session, "200 Only EPSV from now on.");
    } else if (family != AF_INET && family != AF_INET6) {
        ftp_reply(session, "425 No data connections here.");
    } else if (asked == FTP_EPSV_OTHER) {
        ftp_reply_format(session, "522 Only this family: (%c)", ftp_address_family(family));
    } else if (address_open_passive(session, &local)) {
        ftp_reply_format(session, "229 Entering Extended Passive Mode (|||%u|)",
                         address_port(session));
    }
}

// --- Active --------------------------------------------------------------------------------------

// Takes the address if it is the client's own. What was prepared before is forgotten in any case.
static void address_accept_active(struct ftp_session *session, const struct weir_address *address)
{
    struct weir_address client;
    weir_stream_peer_address(session->control, &client);
    if (!weir_address_same_host(&client, address) || ntohs(address->in.sin_port) < FTP_PORT_MIN) {
        ftp_reply(session, "504 Only your own address, and a port from 1024 on.");
        return;
    }
    memcpy(&session->active, &address->in6, sizeof session->active);
    ftp_reply(session, "200 Will connect there.");
}

static bool address_active_allowed(struct ftp_session *session)
{
    ftp_session_forget_data(session);
    if (address_refused_by_all(session))
        return false;
    if (!session->server->allow_active)
        ftp_reply(session, "502 Active mode is off; use PASV or EPSV.");
    return session->server->allow_active;
}

void ftp_data_port(struct ftp_session *session, const char *argument)
{
    struct weir_address address;
    if (!address_active_allowed(session))
        return;
    if (ftp_address_read_port(argument, &address))
        address_accept_active(session, &address);
    else
        ftp_reply_format(session, "501 Syntax: %s", ftp_verbs[FTP_PORT].syntax);
}

void ftp_data_eprt(struct ftp_session *session, const char *argument)
{
    struct weir_address address, client;
    if (!address_active_allowed(session))
        return;
    int error = ftp_address_read_extended(argument, &address);
    weir_stream_peer_address(session->control, &client);
    if (!error && address.any.sa_family != client.any.sa_family)
        error = -EPROTONOSUPPORT;
    if (error == -EPROTONOSUPPORT) {
        ftp_reply_format(session, "522 Only this family: (%c)",
                         ftp_address_family(client.any.sa_family));
    } else if (error) {
        ftp_reply_format(session, "501 Syntax: %s", ftp_verbs[FTP_EPRT].syntax);
    } else {
        // A link-local address means the link that the client came over.
        if (address.any.sa_family == AF_INET6)
            address.in6.sin6_scope_id = client.in6.sin6_scope_id;
        address_accept_active(session, &address);
    }
}
