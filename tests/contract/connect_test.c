// Outbound streams, and the families of addresses.
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "world.h"

static const struct weir_connect_config connect_plainly = { 0 };

// --- Connecting ----------------------------------------------------------------------------------

// An outbound stream opens, sends and receives like any other.
static void outbound_streams_carry_bytes_both_ways(struct world *world)
{
    struct weir_address address;
    struct peer *listener = peer_listen(world, "127.0.0.1:0", 16, &address);
    struct subject *subject =
        world_connect(world, &address, world_echo(world), connect_plainly, NULL);
    struct peer *peer = peer_accept(listener);
    world_reaches(world, &subject->opened, 1);
    peer_expect(peer, 4);
    peer_send(peer, 4, 4 << 20);
    peer->end_when_sent = true;
    world_reaches(world, &peer->ended, 1);
    assert_int_equal(peer->received, 4 << 20);
    world_reaches(world, &subject->closed, 1);
    assert_int_equal(subject->reason, 0);
}

struct connect_queue {
    const struct weir_address *to;
    struct service *service;
    void (*verb)(struct weir_stream *stream);
};

static void connect_and_queue(struct weir_loop *loop, void *argument)
{
    const struct connect_queue *queue = argument;
    struct weir_connect_config config = { .protocol = service_protocol(queue->service),
                                          .context = queue->service };
    struct weir_stream *stream;
    if (weir_stream_connect(loop, queue->to, &config, &stream)) {
        world_complain(queue->service->world, "connecting failed at once");
        return;
    }
    for (uint64_t offset = 0; offset < 1 << 20; offset += 65536)
        weir_stream_send(stream, pattern_at(2, offset), 65536);
    queue->verb(stream);
}

// What is sent, and even closed, before a stream has opened happens when it has.
static void bytes_queued_before_the_connection_stands_are_sent(struct world *world)
{
    void (*const verbs[2])(struct weir_stream * stream) = { weir_stream_close, weir_stream_end };
    struct weir_address address;
    struct peer *listener = peer_listen(world, "127.0.0.1:0", 16, &address);
    for (uint32_t i = 0; i < 2; i++) {
        struct connect_queue queue = { .to = &address,
                                       .service = world_service(world, &(struct service){ 0 }),
                                       .verb = verbs[i] };
        (void)world_call(world, NULL, connect_and_queue, &queue);
        struct peer *peer = peer_accept(listener);
        peer_expect(peer, 2);
        world_reaches(world, &peer->ended, 1);
        assert_int_equal(peer->received, 1 << 20);
        peer_half_close(peer);
        world_reaches(world, &world->subjects_closed, i + 1);
        assert_int_equal(world->subjects[i]->reason, 0);
    }
}

// A connection that is aborted before it stands closes as cancelled and never opens.
static void aborting_before_the_connection_stands_cancels_it(struct world *world)
{
    struct weir_address address;
    (void)peer_listen(world, "127.0.0.1:0", 16, &address);
    struct connect_queue queue = { .to = &address,
                                   .service = world_service(world, &(struct service){ 0 }),
                                   .verb = weir_stream_abort };
    (void)world_call(world, NULL, connect_and_queue, &queue);
    world_reaches(world, &world->subjects_closed, 1);
    assert_int_equal(world->subjects[0]->opened, 0);
    assert_int_equal(world->subjects[0]->reason, -ECANCELED);
}

// Where nobody listens, the stream closes with the refusal and never opens.
static void a_refused_connection_is_told(struct world *world)
{
    struct weir_address address;
    (void)peer_listen(world, "127.0.0.1:0", -1, &address);
    for (int i = 0; i < 5; i++) {
        struct subject *subject =
            world_connect(world, &address, world_echo(world), connect_plainly, NULL);
        world_reaches(world, &subject->closed, 1);
        assert_int_equal(subject->reason, -ECONNREFUSED);
        assert_int_equal(subject->opened, 0);
    }
    assert_int_equal(world_stats(world).connect_errors, 5);
}

// A connection that nobody answers closes when its time is over, not before.
static void an_unanswered_connection_times_out(struct world *world)
{
    struct weir_address address;
    // A full backlog drops whoever comes next.
    (void)peer_listen(world, "127.0.0.1:0", 0, &address);
    for (int i = 0; i < 4; i++)
        (void)peer_open(world, &address, NULL);
    struct weir_connect_config config = { .timeout_ns = 200 * MILLISECOND };
    uint64_t start = world_now(world);
    struct subject *subject = world_connect(world, &address, world_echo(world), config, NULL);
    world_reaches(world, &subject->closed, 1);
    assert_int_equal(subject->reason, -ETIMEDOUT);
    assert_int_equal(subject->opened, 0);
    assert_in_range(subject->closed_ns - start, 200 * MILLISECOND,
                    world_late(world, 700 * MILLISECOND));
}

// Without a route, the stream closes with that error.
static void an_unreachable_network_is_told(struct world *world)
{
    if (unshare(CLONE_NEWNET))
        world_skip(world, "a network namespace of its own needs root");
    struct weir_address address = world_address("192.0.2.1:9");
    struct subject *subject =
        world_connect(world, &address, world_echo(world), connect_plainly, NULL);
    world_reaches(world, &subject->closed, 1);
    assert_int_equal(subject->reason, -ENETUNREACH);
    assert_int_equal(subject->opened, 0);
}

struct connect_ends {
    struct weir_address here, there;
    int result;
};

static void connect_look_at_ends(struct weir_stream *stream, void *argument)
{
    struct connect_ends *ends = argument;
    ends->result = weir_stream_local_address(stream, &ends->here);
    weir_stream_peer_address(stream, &ends->there);
}

// A connection can start from an address of one's choice, and both ends see it.
static void connections_start_from_the_address_they_are_told(struct world *world)
{
    struct weir_address address, local = world_address("127.0.0.9:0");
    struct connect_ends ends = { .result = -EBADF };
    struct peer *listener = peer_listen(world, "127.0.0.1:0", 16, &address);
    struct weir_connect_config config = { .local = &local };
    struct subject *subject = world_connect(world, &address, world_echo(world), config, NULL);
    (void)peer_accept(listener);
    world_reaches(world, &subject->opened, 1);
    world_with(subject, connect_look_at_ends, &ends);
    assert_int_equal(ends.result, 0);
    assert_true(weir_address_same_host(&ends.here, &local));
    assert_true(ends.here.in.sin_port != 0);
    assert_true(weir_address_same_host(&ends.there, &address));
    assert_int_equal(ends.there.in.sin_port, address.in.sin_port);
    // An address that is not this machine's is refused at once.
    struct weir_address foreign = world_address("192.0.2.1:0");
    int result;
    config.local = &foreign;
    (void)world_connect(world, &address, world_echo(world), config, &result);
    assert_int_equal(result, -EADDRNOTAVAIL);
}

// --- Families ------------------------------------------------------------------------------------

struct connect_addresses {
    struct weir_address peer, local;
    int local_result;
};

static void connect_opened_addresses(struct subject *subject)
{
    struct connect_addresses *addresses = subject->service->context;
    weir_stream_peer_address(subject->stream, &addresses->peer);
    addresses->local_result = weir_stream_local_address(subject->stream, &addresses->local);
}

static void connect_echo_over(struct world *world, const char *text,
                              const struct peer_options *options,
                              struct connect_addresses *addresses)
{
    struct service *service =
        world_service(world, &(struct service){ .opened = connect_opened_addresses,
                                                .received = echo_received,
                                                .context = addresses });
    struct weir_listener_config config = { .context = service };
    config.socket.ordinary_descriptor = true;
    struct weir_address address = world_listen_with(world, text, config);
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, options, &subject);
    peer_expect(peer, 4);
    peer->end_when_sent = true;
    peer_send(peer, 4, 4 << 20);
    world_reaches(world, &peer->ended, 1);
    assert_int_equal(peer->received, 4 << 20);
    world_reaches(world, &subject->closed, 1);
    assert_int_equal(subject->reason, 0);
    assert_int_equal(addresses->local_result, 0);
    assert_true(weir_address_same_host(&addresses->local, &address));
}

// IPv4: an echo, and each end's address as the stream tells it.
static void streams_know_both_addresses(struct world *world)
{
    struct connect_addresses addresses;
    struct peer_options options = { .local = "127.0.0.5:0" };
    struct weir_address expected = world_address("127.0.0.5:0");
    connect_echo_over(world, "127.0.0.1:0", &options, &addresses);
    assert_true(weir_address_same_host(&addresses.peer, &expected));
    assert_true(addresses.peer.in.sin_port != 0);
}

// IPv6 behaves like IPv4.
static void streams_work_over_ipv6(struct world *world)
{
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    struct weir_address probe = world_address("[::1]:0");
    bool present = fd >= 0 && bind(fd, &probe.any, probe.size) == 0;
    if (fd >= 0)
        close(fd);
    if (!present)
        world_skip(world, "this machine has no IPv6");
    struct connect_addresses addresses;
    connect_echo_over(world, "[::1]:0", NULL, &addresses);
    assert_true(weir_address_same_host(&addresses.peer, &probe));
    assert_int_equal(addresses.peer.any.sa_family, AF_INET6);
}

static void connect_make_path(char directory[64], char path[128])
{
    snprintf(directory, 64, "/tmp/weir-contract-XXXXXX");
    if (!mkdtemp(directory))
        fail_msg("no temporary directory");
    snprintf(path, 128, "unix:%s/socket", directory);
}

// Unix sockets behave like TCP; the path has the mode that was asked for and goes with the
// listener.
static void streams_work_over_unix_sockets(struct world *world)
{
    char directory[64], path[128];
    struct connect_addresses addresses;
    struct stat status;
    connect_make_path(directory, path);
    connect_echo_over(world, path, NULL, &addresses);
    assert_int_equal(addresses.peer.any.sa_family, AF_UNIX);
    assert_int_equal(stat(path + 5, &status), 0);
    assert_true(S_ISSOCK(status.st_mode));
    world_close(world);
    assert_int_equal(access(path + 5, F_OK), -1);
    assert_int_equal(rmdir(directory), 0);
}

// A unix connection to a listener whose backlog is full closes with that error, and never hangs.
static void a_full_unix_backlog_is_told(struct world *world)
{
    char directory[64], path[128];
    struct weir_address address;
    connect_make_path(directory, path);
    (void)peer_listen(world, path, 0, &address);
    (void)peer_open(world, &address, NULL);
    struct subject *subject =
        world_connect(world, &address, world_echo(world), connect_plainly, NULL);
    world_reaches(world, &subject->closed, 1);
    assert_int_equal(subject->opened, 0);
    assert_int_equal(subject->reason, -EAGAIN);
    assert_int_equal(world_stats(world).connect_errors, 1);
    world_close(world);
    assert_int_equal(unlink(path + 5), 0);
    assert_int_equal(rmdir(directory), 0);
}

// A unix path that a dead server left behind is taken over; one that is served is in use; the mode
// is as asked.
static void stale_unix_paths_are_taken_over_and_live_ones_are_not(struct world *world)
{
    char directory[64], path[128];
    struct stat status;
    connect_make_path(directory, path);
    struct weir_address address = world_address(path), unused;
    struct peer *dead = peer_listen(world, path, 4, &unused);
    peer_close(dead);
    struct weir_listener_config config = { .context = world_echo(world) };
    config.socket.unix_mode = 0600;
    (void)world_listen_with(world, path, config);
    assert_int_equal(stat(path + 5, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    config.protocol = service_protocol(config.context);
    assert_int_equal(world->operations->listen(world, &address, &config, &unused), -EADDRINUSE);
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, NULL, &subject);
    peer_ping(peer, 1000);
    world_close(world);
    assert_int_equal(rmdir(directory), 0);
}

// Outbound streams go to unix sockets as well; a missing path is told.
static void outbound_streams_reach_unix_sockets(struct world *world)
{
    char directory[64], path[128];
    connect_make_path(directory, path);
    struct weir_address address = world_address(path), bound;
    struct subject *subject =
        world_connect(world, &address, world_echo(world), connect_plainly, NULL);
    world_reaches(world, &subject->closed, 1);
    assert_int_equal(subject->reason, -ENOENT);
    struct peer *listener = peer_listen(world, path, 4, &bound);
    subject = world_connect(world, &address, world_echo(world), connect_plainly, NULL);
    struct peer *peer = peer_accept(listener);
    peer_ping(peer, 100000);
    unlink(path + 5);
    assert_int_equal(rmdir(directory), 0);
    peer_close(peer);
    world_reaches(world, &subject->closed, 1);
}

const struct contract_test connect_tests[] = {
    { .name = "outbound_streams_carry_bytes_both_ways",
      .run = outbound_streams_carry_bytes_both_ways },
    { .name = "bytes_queued_before_the_connection_stands_are_sent",
      .run = bytes_queued_before_the_connection_stands_are_sent },
    { .name = "aborting_before_the_connection_stands_cancels_it",
      .run = aborting_before_the_connection_stands_cancels_it },
    { .name = "a_refused_connection_is_told", .run = a_refused_connection_is_told },
    { .name = "an_unanswered_connection_times_out", .run = an_unanswered_connection_times_out },
    { .name = "an_unreachable_network_is_told",
      .run = an_unreachable_network_is_told,
      .needs = { .kernel = true } },
    { .name = "connections_start_from_the_address_they_are_told",
      .run = connections_start_from_the_address_they_are_told,
      .needs = { .kernel = true } },
    { .name = "streams_know_both_addresses", .run = streams_know_both_addresses },
    { .name = "streams_work_over_ipv6",
      .run = streams_work_over_ipv6,
      .needs = { .kernel = true } },
    { .name = "streams_work_over_unix_sockets",
      .run = streams_work_over_unix_sockets,
      .needs = { .kernel = true } },
    { .name = "a_full_unix_backlog_is_told",
      .run = a_full_unix_backlog_is_told,
      .needs = { .kernel = true } },
    { .name = "stale_unix_paths_are_taken_over_and_live_ones_are_not",
      .run = stale_unix_paths_are_taken_over_and_live_ones_are_not,
      .needs = { .kernel = true } },
    { .name = "outbound_streams_reach_unix_sockets",
      .run = outbound_streams_reach_unix_sockets,
      .needs = { .kernel = true } },
    { 0 },
};
