// Limits: what happens at them, and that service goes on when there is room again.
#include <errno.h>
#include <sys/resource.h>

#include "world.h"

static void limits_close(struct weir_stream *stream, void *argument)
{
    (void)argument;
    weir_stream_close(stream);
}

// More connections than the limit wait in the backlog, without an error; each that closes lets the
// next in, and in the end all were served.
static void connections_above_the_limit_wait_for_room(struct world *world)
{
    world->config->streams_max = 8;
    struct weir_address address = world_listen(world, world_echo(world));
    struct peer *peers[24];
    for (uint64_t i = 0; i < 24; i++) {
        peers[i] = peer_open(world, &address, NULL);
        peer_expect(peers[i], 1 + i);
        peer_send(peers[i], 1 + i, 1000);
    }
    world_run_until_still(world);
    assert_int_equal(world->subjects_count, 8);
    assert_int_equal(world_stats(world).streams_open, 8);
    for (uint32_t i = 0; i < 16; i++) {
        world_with(world->subjects[i], limits_close, NULL);
        (void)world_subject(world, 8 + i);
    }
    uint32_t served = 0;
    for (uint32_t i = 0; i < 24; i++) {
        world_reaches(world, &peers[i]->received, 1000);
        served++;
    }
    assert_int_equal(served, 24);
    assert_int_equal(world_stats(world).streams_high, 8);
}

// --- Descriptors ---------------------------------------------------------------------------------

enum { LIMITS_PEERS = 20, LIMITS_ROOM = 6 };

static void limits_set_descriptors(uint32_t limit)
{
    struct rlimit old;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    old.rlim_cur = limit ? limit : old.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
}

// When the process has no descriptor left, accepting pauses without burning the CPU; as soon as
// there are some again, everybody who waited is served.
static void accepting_survives_running_out_of_descriptors(struct world *world)
{
    struct weir_listener_config config = { .context = world_echo(world) };
    config.socket.ordinary_descriptor = true;
    struct weir_address address = world_listen_with(world, "127.0.0.1:0", config);
    struct peer *peers[LIMITS_PEERS];
    int highest = 0;
    world_run(world, MILLISECOND);
    for (uint64_t i = 0; i < LIMITS_PEERS; i++) {
        peers[i] = peer_open(world, &address, NULL);
        highest = peers[i]->fd > highest ? peers[i]->fd : highest;
        peer_expect(peers[i], 1 + i);
        peer_send(peers[i], 1 + i, 1000);
    }
    limits_set_descriptors((uint32_t)highest + 1 + LIMITS_ROOM);
    world_run_until_still(world);
    assert_in_range(world->subjects_count, 1, LIMITS_PEERS - 1);
    struct weir_stats before = world_stats(world);
    assert_true(before.accept_errors > 0);
    assert_true(before.accept_pauses > 0);
    uint64_t start = world_now(world);
    world_run(world, 300 * MILLISECOND);
    // A loop that tried again at once would have failed thousands of times.
    assert_in_range(world_stats(world).accept_errors - before.accept_errors, 0,
                    (world_now(world) - start) / (10 * MILLISECOND));
    limits_set_descriptors(0);
    for (uint32_t i = 0; i < LIMITS_PEERS; i++)
        world_reaches(world, &peers[i]->received, 1000);
    assert_int_equal(world->subjects_count, LIMITS_PEERS);
}

// --- Listeners -----------------------------------------------------------------------------------

struct limits_admission {
    uint32_t asked;
    bool strange; // a peer's address that cannot be
};

static bool limits_admit(struct weir_listener *listener, const struct weir_address *peer)
{
    struct service *service = weir_listener_context(listener);
    struct limits_admission *admission = service->context;
    struct weir_address expected = world_address("127.0.0.1:0");
    if (!weir_address_same_host(peer, &expected) || peer->in.sin_port == 0)
        admission->strange = true;
    return admission->asked++ % 2 == 0;
}

// Whom admit refuses is reset before a stream exists; the others are served.
static void admit_resets_whom_it_refuses(struct world *world)
{
    struct limits_admission admission = { .asked = 0 };
    struct service *service =
        world_service(world, &(struct service){ .received = echo_received, .context = &admission });
    struct weir_address address = world_listen_with(
        world, "127.0.0.1:0",
        (struct weir_listener_config){ .context = service, .admit = limits_admit });
    for (uint32_t i = 0; i < 20; i++) {
        struct peer *peer = peer_open(world, &address, NULL);
        peer->reading = true;
        if (i % 2 == 0) {
            peer_ping(peer, 100);
        } else {
            world_reaches(world, &peer->failed, 1);
            assert_int_equal(peer->error, -ECONNRESET);
        }
    }
    assert_false(admission.strange);
    assert_int_equal(admission.asked, 20);
    assert_int_equal(world->subjects_count, 10);
    assert_int_equal(world_stats(world).refused, 10);
}

struct limits_finish {
    uint32_t count;
    int reason;
};

static void limits_finished(struct weir_listener *listener, int reason)
{
    struct service *service = weir_listener_context(listener);
    struct limits_finish *finish = service->context;
    service->world->lock(service->world);
    finish->count++;
    finish->reason = reason;
    service->world->unlock(service->world);
}

struct limits_private {
    struct weir_listener_config config;
    struct weir_address address;
    int result;
};

static void limits_open_private(struct weir_loop *loop, void *argument)
{
    struct limits_private *private = argument;
    struct weir_address any = world_address("127.0.0.1:0");
    struct weir_listener *listener;
    private->result = weir_listener_open(loop, &any, &private->config, &listener);
    if (!private->result)
        weir_listener_address(listener, &private->address);
}

// A listener that is closed may take a moment to be gone; who comes meanwhile is reset.
static void limits_expect_refused(struct world *world, const struct weir_address *address)
{
    enum { TRIES = 100 };
    int error = 0;
    for (int i = 0; i < TRIES && error != -ECONNREFUSED; i++) {
        world_run(world, 10 * MILLISECOND);
        struct peer *late = peer_open(world, address, NULL);
        late->reading = true;
        world_reaches(world, &late->failed, 1);
        error = late->error;
        assert_true(error == -ECONNREFUSED || error == -ECONNRESET);
    }
    assert_int_equal(error, -ECONNREFUSED);
}

static struct weir_address limits_listen_for(struct world *world, struct limits_finish *finish,
                                             uint32_t accepts_max)
{
    struct service *service =
        world_service(world, &(struct service){ .received = echo_received, .context = finish });
    struct limits_private private = { .config = { .context = service,
                                                  .protocol = service_protocol(service),
                                                  .accepts_max = accepts_max,
                                                  .finished = limits_finished } };
    assert_true(world_call(world, NULL, limits_open_private, &private));
    assert_int_equal(private.result, 0);
    return private.address;
}

// A listener for one connection takes one and is gone; its stream goes on, and the next peer is
// refused.
static void private_listeners_take_one_connection(struct world *world)
{
    struct limits_finish finish = { .reason = 1 };
    struct weir_address address = limits_listen_for(world, &finish, 1);
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, NULL, &subject);
    world_reaches(world, &finish.count, 1);
    assert_int_equal(finish.reason, 0);
    limits_expect_refused(world, &address);
    peer_ping(peer, 1000);
    world_close(world);
    assert_int_equal(finish.count, 1);
}

// A listener that is closed without a connection leaves nothing; nobody is told that it finished.
static void private_listeners_may_wait_in_vain(struct world *world)
{
    struct limits_finish finish = { .reason = 1 };
    (void)limits_listen_for(world, &finish, 1);
    world_run(world, 5 * MILLISECOND);
    world_close(world);
    assert_int_equal(finish.count, 0);
}

// accepts_max is exact even when many peers are there at once: the rest is reset or refused.
static void accepts_max_is_exact(struct world *world)
{
    struct limits_finish finish = { .reason = 1 };
    struct weir_address address = limits_listen_for(world, &finish, 5);
    struct peer *peers[12];
    for (uint32_t i = 0; i < 12; i++) {
        peers[i] = peer_open(world, &address, NULL);
        peer_expect(peers[i], 3);
        peer_send(peers[i], 3, 1000);
    }
    world_reaches(world, &finish.count, 1);
    world_run_until_still(world);
    uint32_t served = 0, refused = 0;
    for (uint32_t i = 0; i < 12; i++) {
        served += peers[i]->received == 1000;
        refused += peers[i]->failed;
    }
    assert_int_equal(served, 5);
    assert_int_equal(refused, 7);
    assert_int_equal(world->subjects_count, 5);
}

static void limits_close_listener(struct weir_loop *loop, void *argument)
{
    (void)loop;
    weir_listener_close(argument);
}

// Closing a listener refuses whoever comes next and leaves its streams alone; its address is free
// at once.
static void closing_a_listener_leaves_its_streams(struct world *world)
{
    // Not where others listen and connect: between two rounds the port is free for all.
    struct weir_address any = world_address("127.9.8.7:0"), address;
    world_run(world, 0);
    for (int round = 0; round < 3; round++) {
        struct weir_listener_config config = { .context = world_echo(world) };
        config.protocol = service_protocol(config.context);
        struct weir_listener *listener, *second;
        assert_int_equal(weir_listener_open(world->loop, &any, &config, &listener), 0);
        weir_listener_address(listener, &address);
        assert_ptr_equal(weir_listener_context(listener), config.context);
        assert_ptr_equal(weir_listener_loop(listener), world->loop);
        assert_int_equal(weir_listener_open(world->loop, &address, &config, &second), -EADDRINUSE);
        struct subject *subject;
        struct peer *peer = peer_pair(world, &address, NULL, &subject);
        peer_ping(peer, 100);
        limits_close_listener(world->loop, listener);
        limits_expect_refused(world, &address);
        peer_ping(peer, 100);
        any = address;
    }
}

// --- Outbound ------------------------------------------------------------------------------------

// A loop that is full refuses to connect, without a callback; when a stream has closed, it
// connects.
static void a_full_loop_refuses_to_connect(struct world *world)
{
    struct weir_address address;
    struct peer *listener = peer_listen(world, "127.0.0.1:0", 16, &address);
    struct service *service = world_service(world, &(struct service){ .received = echo_received });
    struct subject *subjects[2];
    int result;
    world->config->streams_max = 2;
    for (int i = 0; i < 2; i++) {
        subjects[i] =
            world_connect(world, &address, service, (struct weir_connect_config){ 0 }, NULL);
        (void)peer_accept(listener);
        world_reaches(world, &subjects[i]->opened, 1);
    }
    (void)world_connect(world, &address, service, (struct weir_connect_config){ 0 }, &result);
    assert_int_equal(result, -ENOSPC);
    assert_int_equal(world->subjects_count, 2);
    world_with(subjects[0], limits_close, NULL);
    world_reaches(world, &subjects[0]->closed, 1);
    world_run(world, 5 * MILLISECOND);
    struct subject *third =
        world_connect(world, &address, service, (struct weir_connect_config){ 0 }, NULL);
    (void)peer_accept(listener);
    world_reaches(world, &third->opened, 1);
}

// More operations than a batch takes can be queued before the first turn: here the accepts of so
// many listeners.
static void many_listeners_open_before_the_first_turn(struct world *world)
{
    struct service *service = world_echo(world);
    struct weir_address address;
    for (int i = 0; i < 150; i++)
        address = world_listen(world, service);
    struct subject *subject;
    struct peer *peer = peer_pair(world, &address, NULL, &subject);
    assert_true(peer_ping(peer, 1000) < WORLD_PATIENCE);
}

const struct contract_test limits_tests[] = {
    { .name = "many_listeners_open_before_the_first_turn",
      .run = many_listeners_open_before_the_first_turn,
      .needs = { .one_loop = true } },
    { .name = "connections_above_the_limit_wait_for_room",
      .run = connections_above_the_limit_wait_for_room },
    { .name = "accepting_survives_running_out_of_descriptors",
      .run = accepting_survives_running_out_of_descriptors,
      .needs = { .kernel = true, .one_loop = true } },
    { .name = "admit_resets_whom_it_refuses",
      .run = admit_resets_whom_it_refuses,
      .needs = { .one_loop = true } },
    { .name = "private_listeners_take_one_connection",
      .run = private_listeners_take_one_connection },
    { .name = "private_listeners_may_wait_in_vain", .run = private_listeners_may_wait_in_vain },
    { .name = "accepts_max_is_exact", .run = accepts_max_is_exact },
    { .name = "closing_a_listener_leaves_its_streams",
      .run = closing_a_listener_leaves_its_streams,
      .needs = { .one_loop = true } },
    { .name = "a_full_loop_refuses_to_connect", .run = a_full_loop_refuses_to_connect },
    { 0 },
};
