// Addresses as text, and the kernel's sockets as the core makes them (system_kernel).
//
// All sockets are non-blocking and close-on-exec. The blocking engine, which wants to wait inside
// recv(2) and send(2), clears O_NONBLOCK itself on what it accepts or connects.
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "system.h"

enum { ADDRESS_BACKLOG = 4096, ADDRESS_SOCKET_FLAGS = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC };

static const char address_unix_prefix[] = "unix:";

// --- Text ----------------------------------------------------------------------------------------

// Digits only: no sign, no space, at most `max`.
static int address_parse_number(const char *text, uint32_t max, uint32_t *ret_number)
{
    uint64_t number = 0;
    size_t i;

    for (i = 0; text[i] >= '0' && text[i] <= '9'; i++) {
        number = number * 10 + (uint64_t)(text[i] - '0');
        if (number > max)
            return -EINVAL;
    }
    if (i == 0 || text[i])
        return -EINVAL;
    *ret_number = (uint32_t)number;
    return 0;
}

static int address_parse_unix(const char *path, struct weir_address *ret_address)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    size_t size = strlen(path);

    if (size == 0)
        return -EINVAL;
    if (size >= sizeof(un.sun_path))
        return -ENAMETOOLONG;
    memcpy(un.sun_path, path, size);
    memset(ret_address, 0, sizeof(*ret_address));
    ret_address->un = un;
    ret_address->size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size + 1);
    return 0;
}

static int address_parse_in(const char *host, uint32_t port, struct weir_address *ret_address)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };

    if (inet_pton(AF_INET, host, &in.sin_addr) != 1)
        return -EINVAL;
    memset(ret_address, 0, sizeof(*ret_address));
    ret_address->in = in;
    ret_address->size = sizeof(in);
    return 0;
}

// `host` is what stood between the brackets; it is cut at the scope's '%'.
static int address_parse_in6(char *host, uint32_t port, struct weir_address *ret_address)
{
    struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
    char *scope = strchr(host, '%');

    if (scope) {
        *scope = 0;
        if (address_parse_number(scope + 1, UINT32_MAX, &in6.sin6_scope_id))
            return -EINVAL;
    }
    if (inet_pton(AF_INET6, host, &in6.sin6_addr) != 1)
        return -EINVAL;
    memset(ret_address, 0, sizeof(*ret_address));
    ret_address->in6 = in6;
    ret_address->size = sizeof(in6);
    return 0;
}

int weir_address_parse(const char *text, struct weir_address *ret_address)
{
    char host[INET6_ADDRSTRLEN + 16];
    const char *colon = strrchr(text, ':');
    size_t size;
    uint32_t port;

    if (!strncmp(text, address_unix_prefix, sizeof(address_unix_prefix) - 1))
        return address_parse_unix(text + sizeof(address_unix_prefix) - 1, ret_address);
    if (!colon || address_parse_number(colon + 1, UINT16_MAX, &port))
        return -EINVAL;
    size = (size_t)(colon - text);
    if (size >= sizeof(host))
        return -EINVAL;
    memcpy(host, text, size);
    host[size] = 0;
    if (host[0] != '[')
        return address_parse_in(host, port, ret_address);
    if (host[size - 1] != ']')
        return -EINVAL;
    host[size - 1] = 0;
    return address_parse_in6(host + 1, port, ret_address);
}

static void address_print_in6(const struct sockaddr_in6 *in6, char ret_text[WEIR_ADDRESS_TEXT_SIZE])
{
    char host[INET6_ADDRSTRLEN] = "";
    char scope[16] = "";

    inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
    if (in6->sin6_scope_id)
        snprintf(scope, sizeof(scope), "%%%u", in6->sin6_scope_id);
    snprintf(ret_text, WEIR_ADDRESS_TEXT_SIZE, "[%s%s]:%u", host, scope, ntohs(in6->sin6_port));
}

// The kernel need not end a path with a zero, and a nameless peer has no path at all.
static void address_print_unix(const struct weir_address *address,
                               char ret_text[WEIR_ADDRESS_TEXT_SIZE])
{
    size_t start = offsetof(struct sockaddr_un, sun_path);
    size_t room = address->size > start ? address->size - start : 0;

    if (room > sizeof(address->un.sun_path))
        room = sizeof(address->un.sun_path);
    snprintf(ret_text, WEIR_ADDRESS_TEXT_SIZE, "%s%.*s", address_unix_prefix, (int)room,
             address->un.sun_path);
}

void weir_address_print(const struct weir_address *address, char ret_text[WEIR_ADDRESS_TEXT_SIZE])
{
    char host[INET_ADDRSTRLEN] = "";

    if (address->any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &address->in.sin_addr, host, sizeof(host));
        snprintf(ret_text, WEIR_ADDRESS_TEXT_SIZE, "%s:%u", host, ntohs(address->in.sin_port));
    } else if (address->any.sa_family == AF_INET6) {
        address_print_in6(&address->in6, ret_text);
    } else if (address->any.sa_family == AF_UNIX) {
        address_print_unix(address, ret_text);
    } else {
        snprintf(ret_text, WEIR_ADDRESS_TEXT_SIZE, "unknown");
    }
}

// The address as IPv6 sees it: an IPv4 one becomes ::ffff:a.b.c.d.
static void address_map(const struct weir_address *address, struct in6_addr *ret_host)
{
    static const uint8_t prefix[12] = { [10] = 0xff, [11] = 0xff };

    if (address->any.sa_family == AF_INET6) {
        *ret_host = address->in6.sin6_addr;
        return;
    }
    memcpy(ret_host->s6_addr, prefix, sizeof(prefix));
    memcpy(ret_host->s6_addr + sizeof(prefix), &address->in.sin_addr, sizeof(struct in_addr));
}

// One link-local address on two links is two hosts.
static uint32_t address_scope(const struct weir_address *address)
{
    return address->any.sa_family == AF_INET6 ? address->in6.sin6_scope_id : 0;
}

bool weir_address_same_host(const struct weir_address *a, const struct weir_address *b)
{
    struct in6_addr host_a, host_b;

    if (a->any.sa_family == AF_UNIX || b->any.sa_family == AF_UNIX)
        return a->any.sa_family == b->any.sa_family;
    address_map(a, &host_a);
    address_map(b, &host_b);
    return !memcmp(&host_a, &host_b, sizeof(host_a)) && address_scope(a) == address_scope(b);
}

// --- Sockets -------------------------------------------------------------------------------------

static bool address_is_unix(const struct weir_address *address)
{
    return address->any.sa_family == AF_UNIX;
}

static int address_set(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value)) ? -errno : 0;
}

// What listeners and outbound sockets have in common. An accepted TCP socket inherits all of it
// from its listener, TCP_NODELAY and TCP_CORK too; an accepted unix socket inherits nothing, and
// its SO_SNDBUF and SO_RCVBUF are the kernel's defaults.
static int address_set_options(int fd, const struct weir_address *address,
                               const struct weir_socket_options *options)
{
    bool tcp = !address_is_unix(address);
    const struct {
        bool wanted;
        int level, name, value;
    } rows[] = {
        { options->send_buffer > 0, SOL_SOCKET, SO_SNDBUF, options->send_buffer },
        { options->receive_buffer > 0, SOL_SOCKET, SO_RCVBUF, options->receive_buffer },
        { tcp && options->keepalive, SOL_SOCKET, SO_KEEPALIVE, 1 },
        { tcp && options->reuse_port, SOL_SOCKET, SO_REUSEPORT, 1 },
        { tcp, IPPROTO_TCP, TCP_NODELAY, 1 },
        { tcp && options->cork, IPPROTO_TCP, TCP_CORK, 1 }, // goes first while it is set
        { tcp && options->notsent_lowat > 0, IPPROTO_TCP, TCP_NOTSENT_LOWAT,
          options->notsent_lowat },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int error =
            rows[i].wanted ? address_set(fd, rows[i].level, rows[i].name, rows[i].value) : 0;

        if (error)
            return error;
    }
    return 0;
}

static int address_open(const struct weir_address *address,
                        const struct weir_socket_options *options)
{
    int fd = socket(address->any.sa_family, ADDRESS_SOCKET_FLAGS, 0);
    int error;

    if (fd < 0)
        return -errno;
    error = address_set_options(fd, address, options);
    if (error) {
        close(fd);
        return error;
    }
    return fd;
}

// Has the kernel drop every segment with SYN and ACK before the socket sees it: the answer to a
// SYN, which no server sends. Accepted sockets inherit the filter, and keep it when they are
// disconnected.
static int address_refuse_answers(int fd)
{
    enum { FLAGS_OFFSET = 13, SYN_AND_ACK = 0x12 }; // in the header of TCP
    struct sock_filter lines[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, FLAGS_OFFSET),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, SYN_AND_ACK),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYN_AND_ACK, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
    };
    const struct sock_fprog program = {
        .len = sizeof(lines) / sizeof(lines[0]),
        .filter = lines,
    };

    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) ? -errno : 0;
}

static int address_bind(int fd, const struct weir_address *address)
{
    return bind(fd, &address->any, address->size) ? -errno : 0;
}

// --- Unix listeners ------------------------------------------------------------------------------

// A path is in the way. Whether its owner is gone can only be told by knocking: a refused
// connection proves that nobody listens. Everything else may be alive, and what is no socket is
// never touched. (A server between its bind(2) and its listen(2) refuses too; two servers that
// start on one path in the same instant are the caller's to prevent.)
static int address_remove_stale(const struct weir_address *address)
{
    struct stat status;
    int fd, error;

    // UNTESTED: a path that was there a moment ago, and is not
    if (lstat(address->un.sun_path, &status))
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(status.st_mode))
        return -EADDRINUSE;
    fd = socket(AF_UNIX, ADDRESS_SOCKET_FLAGS, 0);
    // UNTESTED: the first socket could be made, and this one not
    if (fd < 0)
        return -errno;
    error = connect(fd, &address->any, address->size) ? errno : 0;
    close(fd);
    // UNTESTED: a path that goes between two calls
    if (error == ENOENT)
        return 0;
    if (error != ECONNREFUSED)
        return -EADDRINUSE;
    return unlink(address->un.sun_path) && errno != ENOENT ? -errno : 0;
}

// bind(2) takes the mode of the unbound socket and drops the umask's bits: so no moment exists in
// which the path is open to more than asked for. Bits that the umask took are added afterwards; the
// umask itself belongs to the whole process and stays alone.
static int address_bind_with_mode(int fd, const struct weir_address *address, mode_t mode)
{
    struct stat status;
    int error;

    // UNTESTED: a socket of our own takes any mode
    if (mode && fchmod(fd, mode))
        return -errno;
    error = address_bind(fd, address);
    if (error || !mode)
        return error;
    // UNTESTED: whoever removes the path between two calls
    if (lstat(address->un.sun_path, &status))
        error = -errno;
    else if ((status.st_mode & 0777) != mode &&
             fchmodat(AT_FDCWD, address->un.sun_path, mode, AT_SYMLINK_NOFOLLOW))
        error = -errno; // UNTESTED: as above
    // UNTESTED: as above
    if (error)
        unlink(address->un.sun_path);
    return error;
}

static int address_bind_unix(int fd, const struct weir_address *address, mode_t mode)
{
    int error = address_bind_with_mode(fd, address, mode);

    if (error != -EADDRINUSE)
        return error;
    error = address_remove_stale(address);
    return error ? error : address_bind_with_mode(fd, address, mode);
}

// --- The table -----------------------------------------------------------------------------------

static uint64_t address_clock(void *state)
{
    struct timespec now;

    (void)state;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static int address_local(void *state, int fd, struct weir_address *ret_address)
{
    struct weir_address address = { .size = sizeof(address.un) };

    (void)state;
    if (getsockname(fd, &address.any, &address.size))
        return -errno;
    *ret_address = address;
    return 0;
}

static int address_bind_listener(int fd, const struct weir_address *address,
                                 const struct weir_socket_options *options)
{
    int error;

    if (address_is_unix(address))
        return address_bind_unix(fd, address, options->unix_mode & 0777);
    error = address_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    // [::] leaves 0.0.0.0 to a listener of its own, whatever net.ipv6.bindv6only says.
    if (!error && address->any.sa_family == AF_INET6)
        error = address_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    if (!error && options->incoming_only)
        error = address_refuse_answers(fd);
    return error ? error : address_bind(fd, address);
}

static int address_listen(void *state, const struct weir_address *address,
                          const struct weir_socket_options *options,
                          struct weir_address *ret_address)
{
    int fd = address_open(address, options);
    int error;

    if (fd < 0)
        return fd;
    error = address_bind_listener(fd, address, options);
    if (error)
        goto close;
    error = listen(fd, options->backlog > 0 ? options->backlog : ADDRESS_BACKLOG) ? -errno : 0;
    if (!error)
        error = address_local(state, fd, ret_address);
    if (error)
        goto unlink;
    return fd;
unlink:
    // UNTESTED: only TCP listeners are walked to where getsockname fails
    if (address_is_unix(address))
        unlink(address->un.sun_path);
close:
    close(fd);
    return error;
}

// A chosen port may still be in TIME_WAIT of an earlier connection (FTP's data port is). Without a
// chosen port the kernel takes one at connect, when it knows the peer: so one local address reaches
// as many ports as there are, per destination.
static int address_bind_local(int fd, const struct weir_address *local)
{
    bool port_chosen =
        local->any.sa_family == AF_INET6 ? local->in6.sin6_port != 0 : local->in.sin_port != 0;
    int error = 0;

    if (!address_is_unix(local))
        error = port_chosen ? address_set(fd, SOL_SOCKET, SO_REUSEADDR, 1)
                            : address_set(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
    return error ? error : address_bind(fd, local);
}

static int address_socket(void *state, const struct weir_address *peer,
                          const struct weir_address *local,
                          const struct weir_socket_options *options)
{
    int fd = address_open(peer, options);
    int error;

    (void)state;
    if (fd < 0 || !local)
        return fd;
    error = address_bind_local(fd, local);
    if (error) {
        close(fd);
        return error;
    }
    return fd;
}

static void address_close(void *state, int fd)
{
    (void)state;
    close(fd);
}

static void address_unlink(void *state, const char *path)
{
    (void)state;
    unlink(path);
}

static int address_uncork(void *state, int fd)
{
    (void)state;
    return address_set(fd, IPPROTO_TCP, TCP_CORK, 0);
}

const struct system system_kernel = {
    .clock = address_clock,
    .listen = address_listen,
    .socket = address_socket,
    .close = address_close,
    .local_address = address_local,
    .uncork = address_uncork,
    .unlink = address_unlink,
    .file_cached = sendfile_cached,
    .sendfile = sendfile_send,
    .file_in_memory = write_now_in_memory,
    .write_now = write_now,
};
