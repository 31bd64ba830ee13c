// The Nth call fails, for every N: allocation, ring set-up, registration, socket, bind, listen,
// accept, epoll, eventfd, thread. What cannot start says so with an error; what runs goes on or
// loses a connection, not more; and nothing is left behind either way.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <tests/sim/shortage.h>
#include <weir.h>

enum { NTH_MAX = 400, NTH_BYTES = 20000, NTH_TURNS_MAX = 400, NTH_PATIENCE_MS = 4000 };

#define NTH_MILLISECOND 1000000ULL

static void nth_received(struct weir_stream *stream, struct weir_slice slice)
{
    weir_stream_send_slice(stream, slice);
}

static const struct weir_protocol nth_echo = { .name = "echo", .received = nth_received };

// What became of one walk through a program's life.
enum nth_outcome { NTH_REFUSED, NTH_SERVED, NTH_LOST, NTH_SILENT };

static uint32_t nth_descriptors(void)
{
    uint32_t count = 0;
    DIR *directory = opendir("/proc/self/fd");
    while (directory && readdir(directory))
        count++;
    if (directory)
        closedir(directory);
    return count;
}

// --- The client ----------------------------------------------------------------------------------

struct nth_client {
    int fd;
    size_t received;
    bool sent, over, altered;
};

static char nth_byte(size_t offset)
{
    return (char)(offset * 31 + offset / 251);
}

static void nth_client_open(struct nth_client *client, const struct weir_address *address)
{
    *client = (struct nth_client){ 0 };
    client->fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(client->fd >= 0);
    // A server whose loop broke meanwhile listens no more.
    client->over = connect(client->fd, &address->any, address->size) != 0;
    client->sent = client->over;
}

// Waits up to 10 ms for bytes. All came back, or the connection was lost: it is over.
static void nth_client_step(struct nth_client *client)
{
    static char bytes[NTH_BYTES];
    if (!client->sent) {
        for (size_t i = 0; i < NTH_BYTES; i++)
            bytes[i] = nth_byte(i);
        client->sent = true;
        client->over = send(client->fd, bytes, NTH_BYTES, MSG_NOSIGNAL) != NTH_BYTES;
    }
    ssize_t count = recv(client->fd, bytes, sizeof bytes, MSG_DONTWAIT);
    for (ssize_t i = 0; i < count; i++)
        client->altered |= bytes[i] != nth_byte(client->received + (size_t)i);
    client->received += count > 0 ? (size_t)count : 0;
    client->over |= client->received == NTH_BYTES || count == 0 || (count < 0 && errno != EAGAIN);
}

static enum nth_outcome nth_client_close(struct nth_client *client)
{
    close(client->fd);
    assert_false(client->altered);
    if (client->received == NTH_BYTES)
        return NTH_SERVED;
    return client->over ? NTH_LOST : NTH_SILENT;
}

// --- A loop's life -------------------------------------------------------------------------------

static int nth_loop_listen(struct weir_loop *loop, struct weir_address *ret_address)
{
    struct weir_listener_config config = { .protocol = &nth_echo };
    struct weir_listener *listener;
    struct weir_address any;
    assert_int_equal(weir_address_parse("127.0.0.1:0", &any), 0);
    int error = weir_listener_open(loop, &any, &config, &listener);
    if (!error)
        weir_listener_address(listener, ret_address);
    return error;
}

// False: the loop broke.
static bool nth_loop_turn(struct weir_loop *loop)
{
    shortage_spare(false);
    int result = weir_loop_turn(loop, weir_clock_now() + 10 * NTH_MILLISECOND);
    shortage_spare(true);
    return result >= 0;
}

static enum nth_outcome nth_loop_serve(struct weir_loop *loop, const struct weir_address *address)
{
    struct nth_client client;
    nth_client_open(&client, address);
    bool works = true;
    for (int i = 0; i < NTH_TURNS_MAX && works && !client.over; i++) {
        works = nth_loop_turn(loop);
        nth_client_step(&client);
    }
    enum nth_outcome outcome = nth_client_close(&client);
    return works || outcome == NTH_SERVED ? outcome : NTH_REFUSED;
}

static enum nth_outcome nth_loop_life(const struct weir_loop_config *config)
{
    struct weir_loop *loop;
    struct weir_address address;
    shortage_spare(false);
    int error = weir_loop_create(config, &loop);
    if (error) {
        assert_in_range(-error, 1, 200);
        return NTH_REFUSED;
    }
    error = nth_loop_listen(loop, &address);
    shortage_spare(true);
    enum nth_outcome outcome = error ? NTH_REFUSED : nth_loop_serve(loop, &address);
    shortage_spare(false);
    weir_loop_destroy(loop);
    return outcome;
}

// --- A server's life -----------------------------------------------------------------------------

static int nth_server_start(struct weir_server *server, struct weir_address *ret_address)
{
    struct weir_socket_options options = { 0 };
    struct weir_address any;
    assert_int_equal(weir_address_parse("127.0.0.1:0", &any), 0);
    int error = weir_server_listen(server, &any, &options, &nth_echo, NULL, ret_address);
    return error ? error : weir_server_start(server);
}

// A server that has ended is as good as one that refused to start: its program is told.
static enum nth_outcome nth_server_serve(const struct weir_server *server,
                                         const struct weir_address *address)
{
    struct nth_client client;
    struct pollfd ready[] = { { .events = POLLIN }, { .events = POLLIN } };
    nth_client_open(&client, address);
    ready[0].fd = client.fd;
    ready[1].fd = weir_server_ended_descriptor(server);
    do
        nth_client_step(&client);
    while (!client.over && poll(ready, 2, NTH_PATIENCE_MS) > 0 && !ready[1].revents);
    enum nth_outcome outcome = nth_client_close(&client);
    return outcome != NTH_SERVED && ready[1].revents ? NTH_REFUSED : outcome;
}

static enum nth_outcome nth_server_life(const struct weir_loop_config *config)
{
    struct weir_server_config whole;
    struct weir_server *server;
    struct weir_address address;
    weir_server_config_init(&whole);
    whole.loop = *config;
    whole.threads = config->engine == WEIR_ENGINE_AUTO ? 2 : 1;
    whole.drain_timeout_ns = 1000 * NTH_MILLISECOND;
    shortage_spare(false);
    int error = weir_server_create(&whole, &server);
    if (error)
        return NTH_REFUSED;
    error = nth_server_start(server, &address);
    shortage_spare(true);
    enum nth_outcome outcome = error ? NTH_REFUSED : nth_server_serve(server, &address);
    shortage_spare(false);
    weir_server_destroy(server);
    return outcome;
}

// --- The walk ------------------------------------------------------------------------------------

struct nth_case {
    enum weir_engine engine;
    const char *uring_features;
    const char *never_refused; // the function whose failure is no reason to refuse, or NULL
    enum nth_outcome (*life)(const struct weir_loop_config *config);
};

static void nth_walk(const struct nth_case *one, uint32_t ret_outcomes[NTH_SILENT + 1])
{
    struct weir_loop_config config;
    weir_loop_config_init(&config);
    config.engine = one->engine;
    config.streams_max = 64;
    config.buffer_count = 16;
    for (uint64_t first = 1;; first++) {
        assert_true(first < NTH_MAX);
        uint32_t before = nth_descriptors();
        shortage_start(first, 1);
        enum nth_outcome outcome = one->life(&config);
        shortage_stop();
        shortage_spare(true);
        ret_outcomes[outcome]++;
        const char *function = shortage_function();
        if (outcome == NTH_SILENT)
            fail_msg("call %llu, %s: the client waits in vain", (unsigned long long)first,
                     function ? function : "none failed");
        if (outcome == NTH_REFUSED && one->never_refused && function &&
            !strcmp(function, one->never_refused))
            fail_msg("call %llu, %s: refused", (unsigned long long)first, function);
        if (nth_descriptors() != before)
            fail_msg("call %llu, %s: a descriptor is left", (unsigned long long)first,
                     function ? function : "none failed");
        if (!function) {
            assert_int_equal(outcome, NTH_SERVED);
            return; // the walk is over: there is no call of that number
        }
    }
}

// Whatever call fails first, the program refuses to start or goes on: no client waits in vain, and
// no descriptor is left. With `auto`, it goes on without a ring.
static void every_failing_call_is_survived(void **state)
{
    uint32_t outcomes[NTH_SILENT + 1] = { 0 };
    nth_walk(*state, outcomes);
    print_message("refused %u, served %u, lost %u\n", outcomes[NTH_REFUSED], outcomes[NTH_SERVED],
                  outcomes[NTH_LOST]);
    // Most calls are made before there is a client.
    assert_true(outcomes[NTH_REFUSED] > 3);
    assert_true(outcomes[NTH_SERVED] >= 1);
}

// A loop that has no memory for a connection, and so none to refuse it either, comes to its end.
static void loop_without_memory_ends(void **state)
{
    struct nth_case *one = *state;
    struct weir_loop_config config;
    struct weir_loop *loop;
    struct weir_address address;
    struct weir_stats stats;
    struct nth_client client;
    uint32_t before = nth_descriptors();
    weir_loop_config_init(&config);
    config.engine = one->engine;
    config.uring_features = one->uring_features;
    assert_int_equal(weir_loop_create(&config, &loop), 0);
    assert_int_equal(nth_loop_listen(loop, &address), 0);
    assert_true(nth_loop_turn(loop)); // enables the ring
    shortage_start(1, UINT64_MAX);
    nth_client_open(&client, &address);
    do {
        assert_true(nth_loop_turn(loop));
        weir_loop_stats(loop, &stats);
    } while (!stats.accept_pauses);
    assert_int_equal(stats.accepts, 0);
    shortage_spare(false);
    weir_loop_destroy(loop);
    shortage_stop();
    shortage_spare(false);
    assert_true(recv(client.fd, &(char){ 0 }, 1, 0) <= 0); // it is over for the client
    close(client.fd);
    assert_int_equal(nth_descriptors(), before);
}

int main(void)
{
    static struct nth_case direct = { .engine = WEIR_ENGINE_URING, .uring_features = "default" };
    static struct nth_case ordinary = { .engine = WEIR_ENGINE_URING,
                                        .uring_features = "default,-direct" };
    static struct nth_case uring = { .engine = WEIR_ENGINE_URING, .life = nth_loop_life };
    static struct nth_case epoll = { .engine = WEIR_ENGINE_EPOLL, .life = nth_loop_life };
    static struct nth_case uring_server = { .engine = WEIR_ENGINE_URING, .life = nth_server_life };
    static struct nth_case epoll_server = { .engine = WEIR_ENGINE_EPOLL, .life = nth_server_life };
    static struct nth_case blocking_server = { .engine = WEIR_ENGINE_BLOCKING,
                                               .life = nth_server_life };
    static struct nth_case automatic = { .engine = WEIR_ENGINE_AUTO,
                                         .never_refused = "io_uring_queue_init_params",
                                         .life = nth_loop_life };
    static struct nth_case automatic_server = { .engine = WEIR_ENGINE_AUTO,
                                                .never_refused = "io_uring_queue_init_params",
                                                .life = nth_server_life };
    const struct CMUnitTest tests[] = {
        { "every_failing_call_is_survived uring", every_failing_call_is_survived, NULL, NULL,
          &uring },
        { "every_failing_call_is_survived epoll", every_failing_call_is_survived, NULL, NULL,
          &epoll },
        { "every_failing_call_is_survived uring server", every_failing_call_is_survived, NULL, NULL,
          &uring_server },
        { "every_failing_call_is_survived epoll server", every_failing_call_is_survived, NULL, NULL,
          &epoll_server },
        { "every_failing_call_is_survived blocking server", every_failing_call_is_survived, NULL,
          NULL, &blocking_server },
        { "every_failing_call_is_survived auto", every_failing_call_is_survived, NULL, NULL,
          &automatic },
        { "every_failing_call_is_survived auto server", every_failing_call_is_survived, NULL, NULL,
          &automatic_server },
        { "loop_without_memory_ends", loop_without_memory_ends, NULL, NULL, &direct },
        { "loop_without_memory_ends, not direct", loop_without_memory_ends, NULL, NULL, &ordinary },
    };
    return cmocka_run_group_tests_name("nth", tests, NULL, NULL);
}
