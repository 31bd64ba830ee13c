// The server: threads, drain, stop, limits per address, statistics. Here every engine runs on
// threads of its own.
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "world.h"

// Many peers are served by all threads together, and the statistics add them up.
static void servers_add_up_their_threads(struct world *world)
{
    if (world->variant->engine != WEIR_ENGINE_BLOCKING)
        world->server.threads = 3;
    struct weir_address address = world_listen(world, world_echo(world));
    struct peer *peers[60];
    for (uint64_t i = 0; i < 60; i++) {
        peers[i] = peer_open(world, &address, NULL);
        peer_expect(peers[i], 1 + i);
        peer_send(peers[i], 1 + i, 200000);
    }
    for (uint32_t i = 0; i < 60; i++)
        world_reaches(world, &peers[i]->received, 200000);
    world_run_until_still(world);
    struct weir_stats stats = world_stats(world);
    assert_int_equal(stats.accepts, 60);
    assert_int_equal(stats.streams_open, 60);
    assert_int_equal(stats.received_bytes, 60 * 200000);
    for (uint32_t i = 0; i < 60; i++)
        peer_half_close(peers[i]);
    world_reaches(world, &world->subjects_closed, 60);
    world_run_until_still(world);
    stats = world_stats(world);
    assert_int_equal(stats.streams_open, 0);
    assert_int_equal(stats.closed_clean, 60);
    assert_int_equal(stats.sent_bytes, 60 * 200000);
}

// The engine's name is the one that was asked for; text and JSON are cut to their room and tell the
// size of the whole.
static void statistics_print_into_any_room(struct world *world)
{
    static const char *const names[] = { "auto", "uring", "epoll", "blocking" };
    (void)world_listen(world, world_echo(world));
    assert_string_equal(weir_server_engine(world_server(world)), names[world->variant->engine]);
    assert_true(weir_server_plan(world_server(world)) != NULL);
    struct weir_stats stats = world_stats(world);
    char text[8192], part[100];
    for (int json = 0; json < 2; json++) {
        size_t size = weir_stats_print(&stats, json, text, sizeof(text));
        assert_in_range(size, 200, sizeof(text) - 1);
        assert_int_equal(strlen(text), size);
        assert_int_equal(weir_stats_print(&stats, json, part, sizeof(part)), size);
        assert_int_equal(strlen(part), sizeof(part) - 1);
        assert_memory_equal(part, text, sizeof(part) - 1);
        assert_non_null(strstr(text, "accepts"));
    }
    assert_int_equal(text[0], '{');
}

// --- Drain ---------------------------------------------------------------------------------------

static bool server_has_ended(void *argument)
{
    struct pollfd ended = { .fd = weir_server_ended_descriptor(argument), .events = POLLIN };
    return poll(&ended, 1, 0) == 1;
}

static void server_expect_end(struct world *world, uint64_t limit_ns)
{
    struct weir_server *server = world_server(world);
    if (!world_until(world, server_has_ended, server, limit_ns))
        fail_msg("the server does not end");
    // It has ended, so this does not wait; no callback needs the world's lock any more.
    assert_int_equal(weir_server_wait(server), 0);
}

static void server_refused(struct world *world, const struct weir_address *address)
{
    struct peer *late = peer_open(world, address, NULL);
    late->reading = true;
    world_reaches(world, &late->failed, 1);
    assert_true(late->error == -ECONNREFUSED || late->error == -ECONNRESET);
}

// Drain refuses newcomers, serves what is being served until it was quiet for a while, closes in
// order, and ends the server. It may take any time if it is told so.
static void drain_lets_streams_finish(struct world *world)
{
    world->server.drain_timeout_ns = WEIR_NEVER;
    // On a busy machine the peers, which are one thread, may be quiet for long.
    world->server.drain_quiet_ns = 4 * SECOND;
    struct service *service = world_service(world, &(struct service){ .received = echo_received });
    struct weir_address address = world_listen(world, service);
    struct subject *subjects[8];
    struct peer *peers[8];
    for (uint64_t i = 0; i < 8; i++) {
        peers[i] = peer_pair(world, &address, NULL, &subjects[i]);
        peer_expect(peers[i], 1 + i);
        peer_send(peers[i], 1 + i, 6 << 20);
    }
    world_reaches(world, &peers[0]->received, 1 << 20);
    weir_server_drain(world_server(world));
    weir_server_drain(world_server(world));
    for (uint32_t i = 0; i < 8; i++) {
        world_reaches(world, &peers[i]->ended, 1);
        assert_int_equal(peers[i]->received, 6 << 20);
        world_reaches(world, &subjects[i]->closed, 1);
        assert_int_equal(subjects[i]->reason, 0);
    }
    server_expect_end(world, WORLD_PATIENCE);
    server_refused(world, &address);
}

static void server_draining(struct subject *subject)
{
    weir_stream_send(subject->stream, "bye", 3);
    weir_stream_close(subject->stream);
}

// A protocol that wants to be told of the drain is told once per stream, and ends it its way.
static void drain_tells_the_protocol(struct world *world)
{
    struct service *service = world_service(
        world, &(struct service){ .received = echo_received, .draining = server_draining });
    struct weir_address address = world_listen(world, service);
    struct subject *subjects[8];
    struct peer *peers[8];
    for (uint64_t i = 0; i < 8; i++) {
        peers[i] = peer_pair(world, &address, NULL, &subjects[i]);
        peers[i]->reading = true;
    }
    weir_server_drain(world_server(world));
    for (uint32_t i = 0; i < 8; i++) {
        world_reaches(world, &peers[i]->ended, 1);
        assert_int_equal(peers[i]->received, 3);
        world_reaches(world, &subjects[i]->closed, 1);
        assert_int_equal(subjects[i]->draining, 1);
        assert_int_equal(subjects[i]->reason, 0);
    }
    server_expect_end(world, WORLD_PATIENCE);
}

// Quiet streams do not hold up the drain: after the quiet time they close in order.
static void drain_closes_quiet_streams_soon(struct world *world)
{
    world->server.drain_timeout_ns = WEIR_NEVER;
    struct weir_address address = world_listen(world, world_echo(world));
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, NULL, &subject);
    peer_ping(peer, 100);
    uint64_t start = world_now(world);
    weir_server_drain(world_server(world));
    world_reaches(world, &peer->ended, 1);
    assert_int_equal(peer->failed, 0);
    server_expect_end(world, WORLD_PATIENCE);
    assert_int_equal(subject->reason, 0);
    assert_in_range(world_now(world) - start, 0, world_late(world, 1500 * MILLISECOND));
}

// A server without connections drains at once.
static void drain_without_connections_is_prompt(struct world *world)
{
    world->server.drain_timeout_ns = WEIR_NEVER;
    (void)world_listen(world, world_echo(world));
    world_run(world, 5 * MILLISECOND);
    uint64_t start = world_now(world);
    weir_server_drain(world_server(world));
    server_expect_end(world, WORLD_PATIENCE);
    assert_in_range(world_now(world) - start, 0, world_late(world, 2000 * MILLISECOND));
}

static void server_draining_nothing(struct subject *subject)
{
    (void)subject;
}

// What is still open when the drain's time is over is aborted; the server ends all the same.
static void drain_is_bounded_in_time(struct world *world)
{
    world->server.drain_timeout_ns = 300 * MILLISECOND;
    struct service *service = world_service(
        world, &(struct service){ .received = echo_received, .draining = server_draining_nothing });
    struct weir_address address = world_listen(world, service);
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, NULL, &subject);
    peer->reading = true;
    uint64_t start = world_now(world);
    weir_server_drain(world_server(world));
    world_reaches(world, &subject->closed, 1);
    assert_int_equal(subject->reason, -ECANCELED);
    assert_in_range(world_now(world) - start, 300 * MILLISECOND,
                    world_late(world, 1500 * MILLISECOND));
    world_reaches(world, &peer->failed, 1);
    assert_int_equal(peer->error, -ECONNRESET);
    server_expect_end(world, WORLD_PATIENCE);
}

static void server_send_much(struct subject *subject)
{
    for (uint64_t offset = 0; offset < 8 << 20; offset += 65536)
        weir_stream_send_static(subject->stream, pattern_at(2, offset), 65536);
}

// Stop aborts everything at once: quiet streams, and sends that wait for their peer.
static void stop_aborts_everything(struct world *world)
{
    struct service *service = world_service(world, &(struct service){ .opened = server_send_much });
    struct weir_listener_config config = { .context = service };
    config.socket.send_buffer = 16384;
    struct weir_address address = world_listen_with(world, "127.0.0.1:0", config);
    struct peer_options options = { .receive_buffer = 16384 };
    struct subject *subjects[8];
    for (uint32_t i = 0; i < 8; i++) {
        struct peer *peer = peer_pair(world, &address, &options, &subjects[i]);
        peer->reading = i % 2 == 0;
    }
    world_run_until_still(world);
    uint64_t start = world_now(world);
    weir_server_stop(world_server(world));
    for (uint32_t i = 0; i < 8; i++) {
        world_reaches(world, &subjects[i]->closed, 1);
        assert_int_equal(subjects[i]->reason, -ECANCELED);
    }
    server_expect_end(world, WORLD_PATIENCE);
    assert_in_range(world_now(world) - start, 0, world_late(world, 1000 * MILLISECOND));
}

// A second, harder wish is heard during a drain.
static void stop_cuts_a_drain_short(struct world *world)
{
    struct service *service = world_service(
        world, &(struct service){ .received = echo_received, .draining = server_draining_nothing });
    struct weir_address address = world_listen(world, service);
    struct subject *subject;
    (void)peer_pair(world, &address, NULL, &subject);
    weir_server_drain(world_server(world));
    world_reaches(world, &subject->draining, 1);
    world_run(world, 20 * MILLISECOND);
    assert_int_equal(subject->closed, 0);
    weir_server_stop(world_server(world));
    world_reaches(world, &subject->closed, 1);
    assert_int_equal(subject->reason, -ECANCELED);
    server_expect_end(world, WORLD_PATIENCE);
}

// --- Limits and mistakes -------------------------------------------------------------------------

// A host has so many connections at most; more are reset, other hosts are served, and a connection
// that closes gives its place back.
static void connections_per_address_are_limited(struct world *world)
{
    world->server.address_streams_max = 3;
    struct weir_address address = world_listen_with(
        world, "0.0.0.0:0", (struct weir_listener_config){ .context = world_echo(world) });
    address.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct peer_options here = { .local = "127.0.0.2:0" }, there = { .local = "127.0.0.3:0" };
    struct peer *peers[3];
    struct subject *subject;
    for (int i = 0; i < 3; i++)
        peers[i] = peer_pair(world, &address, &here, &subject);
    for (int i = 0; i < 5; i++) {
        struct peer *refused = peer_open(world, &address, &here);
        refused->reading = true;
        world_reaches(world, &refused->failed, 1);
        assert_int_equal(refused->error, -ECONNRESET);
    }
    struct peer *other = peer_pair(world, &address, &there, &subject);
    peer_ping(other, 100);
    assert_int_equal(world_stats(world).refused, 5);
    peers[0]->reading = true;
    peer_half_close(peers[0]);
    world_reaches(world, &peers[0]->ended, 1);
    world_reaches(world, &world->subjects[0]->closed, 1);
    world_run_until_still(world);
    struct peer *next = peer_pair(world, &address, &here, &subject);
    peer_ping(next, 100);
}

// What cannot be is refused: no threads, several with the blocking engine, listening after start.
static void impossible_servers_are_refused(struct world *world)
{
    struct weir_server_config config = world->server;
    struct weir_server *server = NULL;
    config.threads = 0;
    assert_int_equal(weir_server_create(&config, &server), -EINVAL);
    config.threads = 257;
    assert_int_equal(weir_server_create(&config, &server), -EINVAL);
    config.threads = 2;
    config.loop.engine = WEIR_ENGINE_BLOCKING;
    assert_int_equal(weir_server_create(&config, &server), -EINVAL);
    config = world->server;
    config.loop.buffer_count = 7;
    assert_int_equal(weir_server_create(&config, &server), -EINVAL);
    assert_null(server);
    struct weir_address address = world_listen(world, world_echo(world)), unused;
    world_run(world, MILLISECOND);
    struct weir_listener_config late = { .context = world_echo(world) };
    late.protocol = service_protocol(late.context);
    assert_int_equal(world->operations->listen(world, &address, &late, &unused), -EINVAL);
    assert_int_equal(weir_server_start(world_server(world)), -EINVAL);
}

// A server that never started can be destroyed, with its listeners.
static void unstarted_servers_are_destroyed(struct world *world)
{
    struct weir_address any = world_address("127.0.0.1:0"), address;
    struct service *service = world_echo(world);
    struct weir_server *server;
    assert_int_equal(weir_server_create(&world->server, &server), 0);
    assert_int_equal(
        weir_server_listen(server, &any, NULL, service_protocol(service), service, &address), 0);
    struct peer *peer = peer_open(world, &address, NULL);
    peer->reading = true;
    weir_server_destroy(server);
    weir_server_destroy(NULL);
    world_reaches(world, &peer->failed, 1);
}

// A unix listener's path is gone when drain returns, whatever the loops are doing, and when a
// server that never started is destroyed.
static void unix_paths_end_with_the_server(struct world *world)
{
    char folder[] = "/tmp/weir-paths-XXXXXX";
    struct weir_address address = { .un.sun_family = AF_UNIX, .size = sizeof address.un };
    struct service *service = world_echo(world);
    assert_non_null(mkdtemp(folder));
    snprintf(address.un.sun_path, sizeof address.un.sun_path, "%s/socket", folder);
    for (int started = 0; started < 2; started++) {
        struct weir_server *server;
        assert_int_equal(weir_server_create(&world->server, &server), 0);
        assert_int_equal(
            weir_server_listen(server, &address, NULL, service_protocol(service), service, NULL),
            0);
        assert_int_equal(access(address.un.sun_path, F_OK), 0);
        if (started) {
            assert_int_equal(weir_server_start(server), 0);
            weir_server_drain(server);
            assert_int_equal(access(address.un.sun_path, F_OK), -1);
        }
        weir_server_destroy(server);
        assert_int_equal(access(address.un.sun_path, F_OK), -1);
    }
    assert_int_equal(rmdir(folder), 0);
}

const struct contract_test server_tests[] = {
    { .name = "servers_add_up_their_threads",
      .run = servers_add_up_their_threads,
      .needs = { .server = true } },
    { .name = "statistics_print_into_any_room",
      .run = statistics_print_into_any_room,
      .needs = { .server = true } },
    { .name = "drain_lets_streams_finish",
      .run = drain_lets_streams_finish,
      .needs = { .server = true } },
    { .name = "drain_tells_the_protocol",
      .run = drain_tells_the_protocol,
      .needs = { .server = true } },
    { .name = "drain_closes_quiet_streams_soon",
      .run = drain_closes_quiet_streams_soon,
      .needs = { .server = true } },
    { .name = "drain_without_connections_is_prompt",
      .run = drain_without_connections_is_prompt,
      .needs = { .server = true } },
    { .name = "drain_is_bounded_in_time",
      .run = drain_is_bounded_in_time,
      .needs = { .server = true } },
    { .name = "stop_aborts_everything",
      .run = stop_aborts_everything,
      .needs = { .server = true } },
    { .name = "stop_cuts_a_drain_short",
      .run = stop_cuts_a_drain_short,
      .needs = { .server = true } },
    { .name = "connections_per_address_are_limited",
      .run = connections_per_address_are_limited,
      .needs = { .server = true } },
    { .name = "impossible_servers_are_refused",
      .run = impossible_servers_are_refused,
      .needs = { .server = true } },
    { .name = "unstarted_servers_are_destroyed",
      .run = unstarted_servers_are_destroyed,
      .needs = { .server = true } },
    { .name = "unix_paths_end_with_the_server",
      .run = unix_paths_end_with_the_server,
      .needs = { .server = true } },
    { 0 },
};
