// The sockets that the core asks the kernel for.
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "system.h"

#include <cmocka.h>

// A folder for sockets, and an address in it.
struct place {
    char folder[32];
    struct weir_address address;
};

// How often a path's mode was changed after the path existed.
static int path_modes_changed;

// Stands before the C library's, to count.
int fchmodat(int folder, const char *path, mode_t mode, int flags)
{
    int (*real)(int, const char *, mode_t, int);
    void *symbol = dlsym(RTLD_NEXT, "fchmodat");

    path_modes_changed++;
    memcpy(&real, &symbol, sizeof(real));
    return real(folder, path, mode, flags);
}

static void place_make(struct place *place)
{
    char text[64];

    strcpy(place->folder, "/tmp/weir-address-XXXXXX");
    assert_non_null(mkdtemp(place->folder));
    snprintf(text, sizeof(text), "unix:%s/socket", place->folder);
    assert_int_equal(weir_address_parse(text, &place->address), 0);
}

static void place_remove(struct place *place)
{
    unlink(place->address.un.sun_path);
    assert_int_equal(rmdir(place->folder), 0);
}

static int open_listener(const char *text, const struct weir_socket_options *options,
                         struct weir_address *ret_address)
{
    struct weir_address address;
    int fd;

    assert_int_equal(weir_address_parse(text, &address), 0);
    fd = system_kernel.listen(NULL, &address, options, ret_address);
    assert_true(fd >= 0);
    return fd;
}

static int socket_option(int fd, int level, int name)
{
    int value = -1;
    socklen_t size = sizeof(value);

    assert_int_equal(getsockopt(fd, level, name, &value, &size), 0);
    return value;
}

static void wait_readable(int fd)
{
    struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

    assert_int_equal(poll(&poll_fd, 1, 10000), 1);
}

// --- Sockets -------------------------------------------------------------------------------------

// A listener on port 0 reports the port it took, does not block, is closed on exec, and its
// accepted sockets inherit every option.
static void listener_passes_its_options_on(void **state)
{
    const struct weir_socket_options options = {
        .send_buffer = 50000, .receive_buffer = 60000, .notsent_lowat = 7000, .keepalive = true
    };
    struct weir_address address, local;
    int listener = open_listener("127.0.0.1:0", &options, &address);
    int client, accepted;

    (void)state;
    assert_int_not_equal(address.in.sin_port, 0);
    assert_true(fcntl(listener, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(listener, F_GETFD) & FD_CLOEXEC);
    client = system_kernel.socket(NULL, &address, NULL, &options);
    assert_true(client >= 0);
    assert_true(fcntl(client, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(client, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(connect(client, &address.any, address.size), -1);
    assert_int_equal(errno, EINPROGRESS);
    wait_readable(listener);
    accepted = accept(listener, NULL, NULL);
    assert_true(accepted >= 0);
    assert_int_equal(system_kernel.local_address(NULL, accepted, &local), 0);
    assert_int_equal(local.in.sin_port, address.in.sin_port);
    for (int i = 0; i < 2; i++) {
        int fd = i ? accepted : client;

        assert_int_equal(socket_option(fd, SOL_SOCKET, SO_SNDBUF), 2 * 50000);
        assert_int_equal(socket_option(fd, SOL_SOCKET, SO_RCVBUF), 2 * 60000);
        assert_int_equal(socket_option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT), 7000);
        assert_int_equal(socket_option(fd, IPPROTO_TCP, TCP_NODELAY), 1);
        assert_int_equal(socket_option(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
        system_kernel.close(NULL, fd);
    }
    system_kernel.close(NULL, listener);
}

// A connection to a corked listener; returns its accepted end.
static int corked_pair(int *ret_client)
{
    const struct weir_socket_options options = { .cork = true };
    struct weir_address address;
    int listener = open_listener("127.0.0.1:0", &options, &address);
    int client = socket(AF_INET, SOCK_STREAM, 0), accepted;

    assert_int_equal(connect(client, &address.any, address.size), 0);
    wait_readable(listener);
    accepted = accept(listener, NULL, NULL);
    assert_int_equal(socket_option(accepted, IPPROTO_TCP, TCP_CORK), 1);
    system_kernel.close(NULL, listener);
    *ret_client = client;
    return accepted;
}

// What a corked listener's connection sends before its end, it sends with its end.
static void corked_connections_send_their_bytes_at_the_end(void **state)
{
    int client, accepted = corked_pair(&client);
    char bytes[16];

    (void)state;
    assert_int_equal(send(accepted, "corked", 6, 0), 6);
    system_kernel.close(NULL, accepted);
    wait_readable(client);
    assert_int_equal(recv(client, bytes, sizeof bytes, MSG_WAITALL), 6);
    assert_int_equal(recv(client, bytes, sizeof bytes, 0), 0);
    close(client);
}

// One that is uncorked sends at once what waited, and what comes next.
static void uncorked_connections_send_at_once(void **state)
{
    int client, accepted = corked_pair(&client);
    char bytes[16];
    uint64_t start_ns = system_kernel.clock(NULL);

    (void)state;
    assert_int_equal(send(accepted, "waits", 5, 0), 5);
    // The kernel waits for 200 ms.
    if (recv(client, bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT) > 0)
        assert_true(system_kernel.clock(NULL) - start_ns > 150000000);
    assert_int_equal(system_kernel.uncork(NULL, accepted), 0);
    assert_int_equal(recv(client, bytes, sizeof bytes, 0), 5);
    assert_int_equal(send(accepted, "goes", 4, 0), 4);
    assert_int_equal(recv(client, bytes, sizeof bytes, 0), 4);
    assert_int_equal(socket_option(accepted, IPPROTO_TCP, TCP_CORK), 0);
    assert_int_equal(socket_option(accepted, IPPROTO_TCP, TCP_NODELAY), 1);
    system_kernel.close(NULL, accepted);
    close(client);
}

// Without options, Nagle's algorithm is off and the rest is the kernel's.
static void default_options_leave_the_kernel_alone(void **state)
{
    const struct weir_socket_options options = { 0 };
    struct weir_address address;
    int fd = open_listener("127.0.0.1:0", &options, &address);
    int plain = socket(AF_INET, SOCK_STREAM, 0);

    (void)state;
    assert_int_equal(socket_option(fd, IPPROTO_TCP, TCP_NODELAY), 1);
    assert_int_equal(socket_option(fd, SOL_SOCKET, SO_KEEPALIVE), 0);
    assert_int_equal(socket_option(fd, SOL_SOCKET, SO_REUSEPORT), 0);
    assert_int_equal(socket_option(fd, SOL_SOCKET, SO_SNDBUF),
                     socket_option(plain, SOL_SOCKET, SO_SNDBUF));
    close(plain);
    close(fd);
}

// A taken port is -EADDRINUSE, unless both listeners share it on purpose.
static void taken_port_is_refused_unless_shared(void **state)
{
    const struct weir_socket_options alone = { 0 }, shared = { .reuse_port = true };
    struct weir_address address, second;
    int fd = open_listener("127.0.0.1:0", &alone, &address);
    int other;

    (void)state;
    assert_int_equal(system_kernel.listen(NULL, &address, &alone, &second), -EADDRINUSE);
    assert_int_equal(system_kernel.listen(NULL, &address, &shared, &second), -EADDRINUSE);
    close(fd);
    fd = system_kernel.listen(NULL, &address, &shared, &second);
    other = system_kernel.listen(NULL, &address, &shared, &second);
    assert_true(fd >= 0);
    assert_true(other >= 0);
    assert_int_equal(second.in.sin_port, address.in.sin_port);
    close(fd);
    close(other);
}

// A socket that was dissolved gets a connection to the listener, or none.
static void expect_dissolved(int fd, bool connects, int listener,
                             const struct weir_address *address)
{
    const struct sockaddr nowhere = { .sa_family = AF_UNSPEC };
    struct pollfd arrival = { .fd = listener, .events = POLLIN };

    assert_int_equal(connect(fd, &nowhere, sizeof(nowhere)), 0);
    // Through loopback it is there when connect(2) returns, unless the kernel has much to do.
    assert_true(!connect(fd, &address->any, address->size) || errno == EINPROGRESS);
    assert_int_equal(poll(&arrival, 1, connects ? 10000 : 0), connects);
}

// Connections of a listener that is incoming_only carry bytes both ways as any other does; but
// neither they nor the listener itself can be turned round and connect, as those of others can.
static void incoming_only_sockets_connect_nowhere(void **state)
{
    static const char *const texts[] = { "127.0.0.1:0", "[::1]:0" };

    (void)state;
    for (int i = 0; i < 4; i++) {
        const struct weir_socket_options options = { .incoming_only = i / 2 };
        const struct weir_socket_options plain = { 0 };
        struct weir_address address, elsewhere;
        int listener = open_listener(texts[i % 2], &options, &address);
        int other = open_listener(texts[i % 2], &plain, &elsewhere);
        int client = socket(address.any.sa_family, SOCK_STREAM, 0);
        char bytes[2];

        assert_int_equal(connect(client, &address.any, address.size), 0);
        wait_readable(listener);
        int accepted = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
        assert_true(accepted >= 0);
        assert_int_equal(send(client, "ab", 2, 0), 2);
        wait_readable(accepted);
        assert_int_equal(recv(accepted, bytes, 2, 0), 2);
        assert_int_equal(send(accepted, bytes, 2, 0), 2);
        assert_int_equal(recv(client, bytes, 2, 0), 2);
        assert_memory_equal(bytes, "ab", 2);

        expect_dissolved(accepted, i < 2, other, &elsewhere);
        assert_int_equal(shutdown(listener, SHUT_RD), 0);
        close(accept4(other, NULL, NULL, 0));
        expect_dissolved(listener, i < 2, other, &elsewhere);
        close(accepted);
        close(client);
        close(listener);
        close(other);
    }
}

// A listener on [::] leaves IPv4's addresses to others: both can have one port.
static void ipv6_listener_leaves_ipv4_alone(void **state)
{
    const struct weir_socket_options options = { 0 };
    struct weir_address six, four, ret;
    int fd_six, fd_four;

    (void)state;
    fd_six = socket(AF_INET6, SOCK_STREAM, 0);
    if (fd_six < 0) {
        print_message("no IPv6 here\n");
        skip();
    }
    close(fd_six);
    fd_six = open_listener("[::]:0", &options, &six);
    assert_int_equal(weir_address_parse("0.0.0.0:0", &four), 0);
    four.in.sin_port = six.in6.sin6_port;
    fd_four = system_kernel.listen(NULL, &four, &options, &ret);
    assert_true(fd_four >= 0);
    close(fd_six);
    close(fd_four);
}

// Connects from `local` to a new listener and closes, the client first: its port stays in
// TIME_WAIT.
static void connect_from(const struct weir_address *local, struct weir_address *ret_bound)
{
    const struct weir_socket_options options = { 0 };
    struct weir_address address, early;
    int listener = open_listener("127.0.0.1:0", &options, &address), accepted;
    int fd = system_kernel.socket(NULL, &address, local, &options);

    assert_true(fd >= 0);
    assert_int_equal(system_kernel.local_address(NULL, fd, &early), 0);
    assert_int_equal(early.in.sin_port, local->in.sin_port);
    connect(fd, &address.any, address.size);
    wait_readable(listener);
    accepted = accept(listener, NULL, NULL);
    assert_true(accepted >= 0);
    assert_int_equal(system_kernel.local_address(NULL, fd, ret_bound), 0);
    close(fd);
    wait_readable(accepted);
    close(accepted);
    close(listener);
}

// An outbound socket leaves from the local address asked for. Without a port, connect chooses it.
static void outbound_socket_is_bound_to_its_local_address(void **state)
{
    struct weir_address local, bound;

    (void)state;
    assert_int_equal(weir_address_parse("127.0.0.2:0", &local), 0);
    connect_from(&local, &bound);
    assert_int_equal(bound.in.sin_addr.s_addr, local.in.sin_addr.s_addr);
    assert_int_not_equal(bound.in.sin_port, 0);
}

// A chosen local port is used again while an earlier connection from it stands in TIME_WAIT.
static void chosen_local_port_is_used_again(void **state)
{
    const struct weir_socket_options options = { 0 };
    struct weir_address local, bound;
    int fd = open_listener("127.0.0.2:0", &options, &local);

    (void)state;
    close(fd);
    for (int i = 0; i < 3; i++) {
        connect_from(&local, &bound);
        assert_memory_equal(&bound.in, &local.in, sizeof(bound.in));
    }
}

// An address that is not this machine's cannot be bound, and the descriptor is not leaked.
static void foreign_local_address_is_refused(void **state)
{
    const struct weir_socket_options options = { 0 };
    struct weir_address peer, foreign, ret;
    int before = dup(0), after;

    (void)state;
    close(before);
    assert_int_equal(weir_address_parse("127.0.0.1:1", &peer), 0);
    assert_int_equal(weir_address_parse("192.0.2.1:0", &foreign), 0);
    assert_int_equal(system_kernel.socket(NULL, &peer, &foreign, &options), -EADDRNOTAVAIL);
    assert_int_equal(system_kernel.listen(NULL, &foreign, &options, &ret), -EADDRNOTAVAIL);
    after = dup(0);
    close(after);
    assert_int_equal(before, after);
}

// --- Unix sockets --------------------------------------------------------------------------------

// A path that a dead server left behind is taken over.
static void stale_unix_socket_is_replaced(void **state)
{
    const struct weir_socket_options options = { 0 };
    struct place place;
    struct weir_address ret;
    int fd;

    (void)state;
    place_make(&place);
    fd = system_kernel.listen(NULL, &place.address, &options, &ret);
    assert_true(fd >= 0);
    assert_string_equal(ret.un.sun_path, place.address.un.sun_path);
    close(fd);
    assert_int_equal(access(place.address.un.sun_path, F_OK), 0);
    fd = system_kernel.listen(NULL, &place.address, &options, &ret);
    assert_true(fd >= 0);
    system_kernel.close(NULL, fd);
    system_kernel.unlink(NULL, place.address.un.sun_path);
    assert_int_equal(access(place.address.un.sun_path, F_OK), -1);
    place_remove(&place);
}

// A live server keeps its path, also when its queue of connections is full.
static void live_unix_socket_is_kept(void **state)
{
    const struct weir_socket_options options = { .backlog = 1 };
    struct place place;
    struct weir_address ret;
    int clients[4], fd;

    (void)state;
    place_make(&place);
    fd = system_kernel.listen(NULL, &place.address, &options, &ret);
    assert_true(fd >= 0);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(system_kernel.listen(NULL, &place.address, &options, &ret), -EADDRINUSE);
        clients[i] = system_kernel.socket(NULL, &place.address, NULL, &options);
        assert_true(clients[i] >= 0);
        connect(clients[i], &place.address.any, place.address.size);
    }
    assert_int_equal(system_kernel.listen(NULL, &place.address, &options, &ret), -EADDRINUSE);
    wait_readable(fd);
    for (int i = 0; i < 4; i++)
        close(clients[i]);
    close(fd);
    place_remove(&place);
}

// What is not a socket is never deleted: a file, a folder, or a link to a dead socket.
static void other_files_are_never_removed(void **state)
{
    const struct weir_socket_options options = { 0 };
    struct place place;
    struct weir_address ret;
    char dead[64];
    int fd;

    (void)state;
    place_make(&place);
    const char *path = place.address.un.sun_path;
    fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_int_equal(write(fd, "precious", 8), 8);
    close(fd);
    assert_int_equal(system_kernel.listen(NULL, &place.address, &options, &ret), -EADDRINUSE);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(system_kernel.listen(NULL, &place.address, &options, &ret), -EADDRINUSE);
    assert_int_equal(rmdir(path), 0);
    fd = system_kernel.listen(NULL, &place.address, &options, &ret);
    close(fd);
    snprintf(dead, sizeof(dead), "%s/dead", place.folder);
    assert_int_equal(rename(path, dead), 0);
    assert_int_equal(symlink(dead, path), 0);
    assert_int_equal(system_kernel.listen(NULL, &place.address, &options, &ret), -EADDRINUSE);
    assert_int_equal(access(dead, F_OK), 0);
    assert_int_equal(unlink(dead), 0);
    place_remove(&place);
}

// A socket of another type on the path is alive and stays.
static void datagram_socket_is_kept(void **state)
{
    const struct weir_socket_options options = { 0 };
    struct place place;
    struct weir_address ret;
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

    (void)state;
    place_make(&place);
    assert_int_equal(bind(fd, &place.address.any, place.address.size), 0);
    assert_int_equal(system_kernel.listen(NULL, &place.address, &options, &ret), -EADDRINUSE);
    assert_int_equal(access(place.address.un.sun_path, F_OK), 0);
    close(fd);
    place_remove(&place);
}

// unix_mode decides the path's permissions whatever the umask is, also over a stale path; without
// it the umask decides. The umask itself does not change.
static void unix_mode_is_independent_of_the_umask(void **state)
{
    static const struct {
        mode_t umask, mode, expected;
    } rows[] = { { 022, 0600, 0600 },  { 022, 0666, 0666 }, { 077, 0660, 0660 },
                 { 0777, 0666, 0666 }, { 0, 0600, 0600 },   { 027, 0, 0750 } };
    mode_t before = umask(0);

    (void)state;
    for (size_t i = 0; i < 2 * sizeof(rows) / sizeof(rows[0]); i++) {
        const struct weir_socket_options options = { .unix_mode = rows[i / 2].mode };
        struct weir_address ret;
        struct place place;
        struct stat status;
        int fd;

        place_make(&place);
        umask(rows[i / 2].umask);
        fd = system_kernel.listen(NULL, &place.address, &options, &ret);
        if (i % 2) {
            close(fd);
            fd = system_kernel.listen(NULL, &place.address, &options, &ret);
        }
        assert_int_equal(umask(before), rows[i / 2].umask);
        assert_true(fd >= 0);
        assert_int_equal(stat(place.address.un.sun_path, &status), 0);
        assert_int_equal(status.st_mode & 0777, rows[i / 2].expected);
        close(fd);
        place_remove(&place);
    }
}

// A path is never open to more than its mode: where the umask leaves the mode's bits, the path has
// them from the start and is not changed afterwards.
static void unix_mode_holds_from_the_start(void **state)
{
    const struct weir_socket_options options = { .unix_mode = 0600 };
    mode_t before = umask(0);
    struct weir_address ret;
    struct place place;
    struct stat status;
    int fd;

    (void)state;
    place_make(&place);
    path_modes_changed = 0;
    fd = system_kernel.listen(NULL, &place.address, &options, &ret);
    umask(before);
    assert_true(fd >= 0);
    assert_int_equal(stat(place.address.un.sun_path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    assert_int_equal(path_modes_changed, 0);
    close(fd);
    place_remove(&place);
}

// The clock is the monotonic one and does not go back.
static void clock_is_monotonic(void **state)
{
    struct timespec now;
    uint64_t first = system_kernel.clock(NULL), between;

    (void)state;
    clock_gettime(CLOCK_MONOTONIC, &now);
    between = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    assert_true(first <= between);
    assert_true(between <= system_kernel.clock(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(listener_passes_its_options_on),
        cmocka_unit_test(corked_connections_send_their_bytes_at_the_end),
        cmocka_unit_test(uncorked_connections_send_at_once),
        cmocka_unit_test(default_options_leave_the_kernel_alone),
        cmocka_unit_test(taken_port_is_refused_unless_shared),
        cmocka_unit_test(incoming_only_sockets_connect_nowhere),
        cmocka_unit_test(ipv6_listener_leaves_ipv4_alone),
        cmocka_unit_test(outbound_socket_is_bound_to_its_local_address),
        cmocka_unit_test(chosen_local_port_is_used_again),
        cmocka_unit_test(foreign_local_address_is_refused),
        cmocka_unit_test(stale_unix_socket_is_replaced),
        cmocka_unit_test(live_unix_socket_is_kept),
        cmocka_unit_test(other_files_are_never_removed),
        cmocka_unit_test(datagram_socket_is_kept),
        cmocka_unit_test(unix_mode_is_independent_of_the_umask),
        cmocka_unit_test(unix_mode_holds_from_the_start),
        cmocka_unit_test(clock_is_monotonic),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
