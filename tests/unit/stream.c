// Streams at unusual moments, over real sockets and with every engine: verbs before the connection
// stands, while it closes and after its end.
#include "stream_fixture.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

// An end that was asked for before the connection stood is sent when it stands.
static void end_before_the_connection_stands_is_sent(void **state)
{
    struct fixture fixture;
    struct weir_address address;
    struct weir_stream *stream;
    struct weir_connect_config config = { .protocol = &stream_quiet, .context = &fixture };
    char byte;
    stream_init(&fixture, *state);
    stream_start(&fixture);
    int listener = stream_peer_listen(&address);
    assert_int_equal(weir_stream_connect(fixture.loop, &address, &config, &stream), 0);
    weir_stream_end(stream);
    stream_reaches(&fixture, &fixture.opened, 1);
    int fd = accept(listener, NULL, NULL);
    assert_true(fd >= 0);
    stream_turns(&fixture, 50 * MILLISECOND);
    assert_int_equal(stream_peer_receive(fd, &byte, 1), 0);
    close(fd);
    stream_reaches(&fixture, &fixture.closed, 1);
    assert_int_equal(fixture.reason, 0);
    close(listener);
    stream_fini(&fixture);
}

// A span that was reserved and never filled does not hold up what is sent after it.
static void reserved_span_does_not_delay_what_follows(void **state)
{
    struct fixture fixture;
    char bytes[4];
    stream_init(&fixture, *state);
    stream_start(&fixture);
    stream_listen(&fixture, &stream_quiet);
    int fd = stream_pair(&fixture);
    for (int committed = 0; committed < 2; committed++) {
        assert_non_null(weir_stream_reserve(fixture.streams[0], 100));
        if (committed)
            weir_stream_commit(fixture.streams[0], 0);
        weir_stream_send_static(fixture.streams[0], "next", 4);
        stream_turns(&fixture, 50 * MILLISECOND);
        assert_int_equal(stream_peer_receive(fd, bytes, sizeof bytes), 4);
        assert_memory_equal(bytes, "next", 4);
    }
    close(fd);
    stream_fini(&fixture);
}

// With fewer buffers than streams that have something to say in one turn, all are heard.
static void more_streams_than_buffers_are_all_heard(void **state)
{
    enum { PEERS = 40, BYTES = 100 };
    static const char bytes[BYTES];
    struct fixture fixture;
    int peers[PEERS];
    stream_init(&fixture, *state);
    fixture.config.buffer_count = 8;
    stream_start(&fixture);
    stream_listen(&fixture, &stream_quiet);
    for (int i = 0; i < PEERS; i++)
        peers[i] = stream_pair(&fixture);
    for (int i = 0; i < PEERS; i++)
        assert_int_equal(send(peers[i], bytes, BYTES, 0), BYTES);
    while (fixture.received < (uint64_t)PEERS * BYTES)
        assert_true(weir_loop_turn(fixture.loop, weir_clock_now() + PATIENCE) > 0);
    for (int i = 0; i < PEERS; i++)
        close(peers[i]);
    stream_fini(&fixture);
}

// A stream that finds every buffer held waits without being asked again, and is heard when one is
// back. (Of a ring the kernel holds them, so that it takes none from the pool.)
static void a_stream_waits_for_a_buffer(void **state)
{
    enum { BUFFERS = 8 };
    struct fixture fixture;
    int held[BUFFERS + 1];
    uint32_t count = 0;
    stream_init(&fixture, *state);
    fixture.config.buffer_count = BUFFERS;
    stream_start(&fixture);
    stream_listen(&fixture, &stream_quiet);
    int fd = stream_pair(&fixture);
    struct buffer_pool *pool = &fixture.loop->pool;
    while ((held[count] = pool_take(pool)) >= 0)
        pool_lease(pool, (uint32_t)held[count++]);
    assert_int_equal(count, fixture.config.engine == WEIR_ENGINE_URING ? 0 : BUFFERS);
    assert_int_equal(send(fd, "x", 1, 0), 1);
    stream_turns(&fixture, 50 * MILLISECOND);
    struct weir_stats stats;
    weir_loop_stats(fixture.loop, &stats);
    assert_int_equal(stats.receive_no_buffers, count ? 1 : 0);
    while (count--)
        pool_release(pool, &pool->leases[held[count]]);
    for (uint64_t end_ns = weir_clock_now() + PATIENCE; !fixture.received;) {
        assert_true(weir_clock_now() < end_ns);
        assert_true(weir_loop_turn(fixture.loop, end_ns) >= 0);
    }
    close(fd);
    stream_fini(&fixture);
}

// A span that was reserved and never filled holds up neither the end nor the close.
static void reserved_span_does_not_delay_the_end(void **state)
{
    for (int committed = 0; committed < 2; committed++) {
        struct fixture fixture;
        char byte;
        stream_init(&fixture, *state);
        fixture.config.close_timeout_ns = 300 * 1000 * MILLISECOND;
        stream_start(&fixture);
        stream_listen(&fixture, &stream_quiet);
        int fd = stream_pair(&fixture);
        assert_non_null(weir_stream_reserve(fixture.streams[0], 100));
        if (committed)
            weir_stream_commit(fixture.streams[0], 0);
        weir_stream_end(fixture.streams[0]);
        stream_turns(&fixture, 50 * MILLISECOND);
        assert_int_equal(stream_peer_receive(fd, &byte, 1), 0);
        int other = stream_pair(&fixture);
        assert_non_null(weir_stream_reserve(fixture.streams[1], 100));
        if (committed)
            weir_stream_commit(fixture.streams[1], 0);
        weir_stream_close(fixture.streams[1]);
        stream_reaches(&fixture, &fixture.closed, 1);
        assert_int_equal(fixture.reason, 0);
        close(fd);
        close(other);
        stream_fini(&fixture);
    }
}

// A unix peer is a family without a path, however short its path is.
static void unix_peer_has_no_path(void **state)
{
    struct fixture fixture;
    struct weir_address address = { .un.sun_family = AF_UNIX, .size = sizeof(sa_family_t) }, peer;
    struct weir_stream *stream;
    struct weir_connect_config config = { .protocol = &stream_quiet, .context = &fixture };
    stream_init(&fixture, *state);
    stream_start(&fixture);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, &address.any, address.size), 0); // a name of 6 bytes
    assert_int_equal(listen(listener, 1), 0);
    address.size = sizeof address.un;
    assert_int_equal(getsockname(listener, &address.any, &address.size), 0);
    assert_int_equal(weir_stream_connect(fixture.loop, &address, &config, &stream), 0);
    stream_reaches(&fixture, &fixture.opened, 1);
    weir_stream_peer_address(stream, &peer);
    assert_int_equal(peer.any.sa_family, AF_UNIX);
    assert_int_equal(peer.size, sizeof(sa_family_t));
    close(listener);
    stream_fini(&fixture);
}

static int stream_wait_for_gate(struct weir_operation *operation)
{
    struct fixture *fixture = container_of(operation, struct fixture, operation);
    while (!atomic_load(&fixture->gate))
        usleep(1000);
    return 0;
}

static void stream_note_sunk(struct weir_operation *operation, int64_t result)
{
    struct fixture *fixture = container_of(operation, struct fixture, operation);
    fixture->result = result;
    fixture->done++;
}

static void stream_sink(struct weir_operation *operation, int64_t result)
{
    struct fixture *fixture = container_of(operation, struct fixture, operation);
    struct weir_stream *stream = operation->stream;
    assert_int_equal(result, 0);
    operation->done = stream_note_sunk;
    weir_stream_receive_file(stream, fixture->file, 0, operation);
}

// The descriptor's number may be a stranger's already.
static void stream_expect_no_socket(struct weir_stream *stream)
{
    struct weir_address address;
    assert_int_equal(weir_stream_uncork(stream), -ENOTCONN);
    assert_int_equal(weir_stream_local_address(stream, &address), -ENOTCONN);
}

// A stream that failed while its file was being opened still ends, and the operation with it.
// Meanwhile nothing is asked of its socket, which is closed.
static void receive_file_on_a_closing_stream_is_refused(void **state)
{
    struct fixture fixture;
    const struct variant *variant = *state;
    if (variant->engine == WEIR_ENGINE_BLOCKING) {
        print_message("the blocking engine runs jobs at once: the stream cannot fail meanwhile\n");
        skip();
    }
    stream_init(&fixture, variant);
    stream_start(&fixture);
    stream_listen(&fixture, &stream_quiet);
    stream_open_temporary(&fixture);
    int fd = stream_pair(&fixture);
    fixture.operation.done = stream_sink;
    fixture.operation.stream = fixture.streams[0];
    weir_job_start(fixture.loop, &fixture.operation, stream_wait_for_gate);
    weir_stream_abort(fixture.streams[0]);
    stream_turns(&fixture, 20 * MILLISECOND);
    assert_int_equal(fixture.closed, 0);
    stream_expect_no_socket(fixture.streams[0]);
    atomic_store(&fixture.gate, true);
    stream_reaches(&fixture, &fixture.closed, 1);
    assert_int_equal(fixture.done, 1);
    assert_int_equal(fixture.result, -ECANCELED);
    close(fd);
    weir_file_release(fixture.file);
    stream_fini(&fixture);
}

// A file that takes what comes after the peer's end was told is done at once, with nothing.
static void receive_file_after_the_end_is_done_at_once(void **state)
{
    struct fixture fixture;
    stream_init(&fixture, *state);
    stream_start(&fixture);
    stream_listen(&fixture, &stream_quiet);
    stream_open_temporary(&fixture);
    int fd = stream_pair(&fixture);
    shutdown(fd, SHUT_WR);
    stream_reaches(&fixture, &fixture.ended, 1);
    fixture.operation.done = stream_note_sunk;
    weir_stream_receive_file(fixture.streams[0], fixture.file, 0, &fixture.operation);
    stream_reaches(&fixture, &fixture.done, 1);
    assert_int_equal(fixture.result, 0);
    assert_int_equal(fixture.ended, 1);
    close(fd);
    weir_file_release(fixture.file);
    stream_fini(&fixture);
}

static void stream_use_in_closed(struct weir_stream *stream, int reason)
{
    struct weir_slice slice = { .data = "x", .size = 1 };
    weir_stream_resume(stream);
    weir_stream_pause(stream);
    weir_stream_resume(stream);
    weir_stream_send(stream, "x", 1);
    weir_stream_send_slice(stream, slice);
    assert_non_null(weir_stream_reserve(stream, 16000));
    weir_stream_commit(stream, 1);
    weir_stream_set_idle_timeout(stream, 1);
    weir_stream_linger(stream, 1, 1);
    weir_stream_end(stream);
    weir_stream_close(stream);
    weir_stream_abort(stream);
    stream_expect_no_socket(stream);
    stream_note_closed(stream, reason);
}

// In `closed` every verb is allowed and does nothing.
static void verbs_in_closed_do_nothing(void **state)
{
    static const struct weir_protocol protocol = { .name = "verbs in closed",
                                                   .opened = stream_note_opened,
                                                   .closed = stream_use_in_closed };
    struct fixture fixture;
    stream_init(&fixture, *state);
    stream_start(&fixture);
    stream_listen(&fixture, &protocol);
    int fd = stream_pair(&fixture);
    weir_stream_pause(fixture.streams[0]);
    weir_stream_abort(fixture.streams[0]);
    stream_reaches(&fixture, &fixture.closed, 1);
    stream_turns(&fixture, 5 * MILLISECOND);
    assert_int_equal(fixture.closed, 1);
    close(fd);
    stream_fini(&fixture);
}

// A peer that reads nothing does not put off the close time-out by sending.
static void sending_is_no_progress_of_a_close(void **state)
{
    struct fixture fixture;
    stream_init(&fixture, *state);
    fixture.config.close_timeout_ns = 200 * MILLISECOND;
    stream_start(&fixture);
    stream_listen(&fixture, &stream_flooding);
    int fd = stream_pair(&fixture);
    assert_int_equal(send(fd, "x", 1, 0), 1);
    stream_turns(&fixture, 20 * MILLISECOND);
    weir_stream_close(fixture.streams[0]);
    uint64_t begin_ns = weir_clock_now();
    while (!fixture.closed && weir_clock_now() < begin_ns + PATIENCE) {
        (void)!send(fd, "x", 1, MSG_NOSIGNAL);
        stream_turns(&fixture, 20 * MILLISECOND);
    }
    assert_int_equal(fixture.closed, 1);
    assert_int_equal(fixture.reason, -ETIMEDOUT);
    close(fd);
    stream_fini(&fixture);
}

// Without a close time-out, the idle time-out from before the close does not cut the queue off.
static void close_without_a_timeout_is_not_cut_off_by_the_idle_timer(void **state)
{
    struct fixture fixture;
    stream_init(&fixture, *state);
    fixture.config.close_timeout_ns = 0;
    stream_start(&fixture);
    stream_listen(&fixture, &stream_flooding);
    int fd = stream_pair(&fixture);
    assert_int_equal(send(fd, "x", 1, 0), 1);
    stream_turns(&fixture, 20 * MILLISECOND);
    // Not before: on a busy machine these turns may take longer.
    weir_stream_set_idle_timeout(fixture.streams[0], 250 * MILLISECOND);
    weir_stream_close(fixture.streams[0]);
    stream_turns(&fixture, 500 * MILLISECOND);
    assert_int_equal(fixture.closed, 0);
    close(fd);
    stream_reaches(&fixture, &fixture.closed, 1);
    stream_fini(&fixture);
}

static void stream_go_on(struct weir_stream *stream, int reason)
{
    struct fixture *fixture = stream_fixture(stream);
    struct weir_connect_config connect = { .protocol = stream->protocol, .context = fixture };
    struct weir_listener_config listen = { .protocol = &stream_quiet,
                                           .context = fixture,
                                           .accepts_max = 1 };
    struct weir_listener *listener;
    struct weir_stream *other;
    stream_note_closed(stream, reason);
    fixture->result = weir_stream_connect(fixture->loop, &fixture->address, &connect, &other);
    fixture->address.in.sin_port = 0;
    assert_int_equal(weir_listener_open(fixture->loop, &fixture->address, &listen, &listener),
                     -ENOSPC);
}

// A protocol that connects or listens again when it is closed does not keep a loop from its end.
static void reconnecting_protocol_does_not_outlive_its_loop(void **state)
{
    static const struct weir_protocol protocol = { .name = "reconnecting",
                                                   .opened = stream_note_opened,
                                                   .closed = stream_go_on };
    struct fixture fixture;
    struct weir_connect_config config = { .protocol = &protocol, .context = &fixture };
    struct weir_stream *stream;
    stream_init(&fixture, *state);
    stream_start(&fixture);
    int listener = stream_peer_listen(&fixture.address);
    assert_int_equal(weir_stream_connect(fixture.loop, &fixture.address, &config, &stream), 0);
    stream_reaches(&fixture, &fixture.opened, 1);
    alarm(60); // it would not return
    stream_fini(&fixture);
    alarm(0);
    assert_int_equal(fixture.result, -ENOSPC);
    assert_int_equal(fixture.closed, 1);
    close(listener);
}

// A pause during a linger does not stop the discarding for good.
static void linger_goes_on_after_a_pause(void **state)
{
    struct fixture fixture;
    char bytes[64] = "";
    stream_init(&fixture, *state);
    stream_start(&fixture);
    stream_listen(&fixture, &stream_quiet);
    int fd = stream_pair(&fixture);
    weir_stream_linger(fixture.streams[0], 1 << 20, PATIENCE);
    stream_turns(&fixture, 20 * MILLISECOND);
    weir_stream_pause(fixture.streams[0]);
    assert_int_equal(send(fd, bytes, sizeof bytes, 0), (int)sizeof bytes);
    stream_turns(&fixture, 20 * MILLISECOND);
    weir_stream_resume(fixture.streams[0]);
    shutdown(fd, SHUT_WR);
    uint64_t begin_ns = weir_clock_now();
    stream_reaches(&fixture, &fixture.closed, 1);
    assert_true(weir_clock_now() - begin_ns < PATIENCE / 2);
    close(fd);
    stream_fini(&fixture);
}

// The quiet time of a drain has passed for all, and the bytes of all lie in their sockets: more of
// them than a turn serves. Each is heard before it is ended.
static void drain_comes_to_every_socket_first(void **state)
{
    enum { PEERS = 60, BYTES = 100000 };
    static const char bytes[BYTES];
    struct fixture fixture;
    int peers[PEERS];
    stream_init(&fixture, *state);
    stream_start(&fixture);
    stream_listen(&fixture, &stream_quiet);
    for (int i = 0; i < PEERS; i++)
        peers[i] = stream_pair(&fixture);
    for (int i = 0; i < PEERS; i++) {
        stream_drain(fixture.streams[i], 10 * MILLISECOND);
        assert_int_equal(send(peers[i], bytes, BYTES, MSG_NOSIGNAL), BYTES);
    }
    struct pollfd nothing = { .fd = -1 };
    poll(&nothing, 1, 20); // nobody turns the loop meanwhile
    stream_reaches(&fixture, &fixture.closed, PEERS);
    assert_int_equal(fixture.received, (uint64_t)PEERS * BYTES);
    assert_int_equal(fixture.reason, 0);
    for (int i = 0; i < PEERS; i++)
        close(peers[i]);
    stream_fini(&fixture);
}

// A stream that owes its peer bytes is not quiet: what the peer sends meanwhile is heard.
static void drain_goes_on_while_bytes_are_owed(void **state)
{
    static char bytes[1 << 20];
    struct fixture fixture;
    uint64_t read_size = 0;
    stream_init(&fixture, *state);
    stream_start(&fixture);
    stream_listen(&fixture, &stream_flooding);
    int fd = stream_pair(&fixture);
    assert_int_equal(send(fd, "x", 1, 0), 1);
    stream_turns(&fixture, 20 * MILLISECOND);
    stream_drain(fixture.streams[0], 10 * MILLISECOND);
    stream_turns(&fixture, 50 * MILLISECOND);
    assert_int_equal(send(fd, "x", 1, 0), 1);
    uint64_t end_ns = weir_clock_now() + PATIENCE;
    for (ssize_t size = 1; size;) {
        assert_true(weir_clock_now() < end_ns);
        size = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (size > 0)
            read_size += (uint64_t)size;
        else
            assert_true(weir_loop_turn(fixture.loop, weir_clock_now() + MILLISECOND) >= 0);
    }
    assert_int_equal(read_size, 64 << 20);
    assert_int_equal(fixture.received, 2);
    assert_int_equal(fixture.reason, 0);
    close(fd);
    stream_fini(&fixture);
}

// Bytes that come and bytes that the peer takes are activity, at their time; a queue that stands is
// none, however often the loop turns.
static void activity_is_when_bytes_moved(void **state)
{
    static char bytes[1 << 20];
    struct fixture fixture;
    stream_init(&fixture, *state);
    stream_start(&fixture);
    stream_listen(&fixture, &stream_flooding);
    int fd = stream_pair(&fixture);
    const struct weir_stream *stream = fixture.streams[0];
    uint64_t opened_ns = weir_stream_active_ns(stream);
    assert_in_range(opened_ns, 1, weir_loop_now(fixture.loop));
    stream_turns(&fixture, 20 * MILLISECOND);
    assert_int_equal(weir_stream_active_ns(stream), opened_ns);
    assert_int_equal(send(fd, "x", 1, 0), 1);
    uint64_t end_ns = weir_clock_now() + PATIENCE, stood_ns;
    do {
        assert_true(weir_clock_now() < end_ns);
        stood_ns = weir_stream_active_ns(stream);
        stream_turns(&fixture, 50 * MILLISECOND);
    } while (weir_stream_active_ns(stream) != stood_ns || !fixture.received);
    assert_in_range(stood_ns, opened_ns + 20 * MILLISECOND, weir_loop_now(fixture.loop));
    while (weir_stream_queued(stream)) {
        assert_true(weir_clock_now() < end_ns);
        (void)!recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
        assert_true(weir_loop_turn(fixture.loop, weir_clock_now() + MILLISECOND) >= 0);
    }
    assert_in_range(weir_stream_active_ns(stream), stood_ns + 50 * MILLISECOND,
                    weir_loop_now(fixture.loop));
    close(fd);
    stream_reaches(&fixture, &fixture.closed, 1);
    stream_fini(&fixture);
}

// What each of `sends` streams may send by its file in a turn, after a turn with as many.
static size_t file_part_among(struct weir_loop *loop, uint32_t sends)
{
    size_t part = 0;
    for (int turn = 0; turn < 2; turn++) {
        loop->turn_index++;
        for (uint32_t i = 0; i < sends; i++)
            part = file_part(loop);
    }
    return part;
}

// Streams that send files share a turn: one alone sends one packet, several send two each, and many
// one again, so that they send no more together than 2 MiB as long as each sends a packet.
static void files_share_a_turn(void **state)
{
    enum { PACKET = 45 * 1448 };
    struct fixture fixture;
    stream_init(&fixture, *state);
    stream_start(&fixture);
    assert_int_equal(file_part_among(fixture.loop, 1), PACKET);
    assert_int_equal(file_part_among(fixture.loop, 2), 2 * PACKET);
    assert_int_equal(file_part_among(fixture.loop, 16), 2 * PACKET);
    assert_int_equal(file_part_among(fixture.loop, 17), PACKET);
    assert_int_equal(file_part_among(fixture.loop, 1000), PACKET);
    stream_fini(&fixture);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(end_before_the_connection_stands_is_sent),
        cmocka_unit_test(reserved_span_does_not_delay_what_follows),
        cmocka_unit_test(more_streams_than_buffers_are_all_heard),
        cmocka_unit_test(a_stream_waits_for_a_buffer),
        cmocka_unit_test(reserved_span_does_not_delay_the_end),
        cmocka_unit_test(unix_peer_has_no_path),
        cmocka_unit_test(receive_file_on_a_closing_stream_is_refused),
        cmocka_unit_test(receive_file_after_the_end_is_done_at_once),
        cmocka_unit_test(verbs_in_closed_do_nothing),
        cmocka_unit_test(sending_is_no_progress_of_a_close),
        cmocka_unit_test(close_without_a_timeout_is_not_cut_off_by_the_idle_timer),
        cmocka_unit_test(reconnecting_protocol_does_not_outlive_its_loop),
        cmocka_unit_test(linger_goes_on_after_a_pause),
        cmocka_unit_test(drain_comes_to_every_socket_first),
        cmocka_unit_test(drain_goes_on_while_bytes_are_owed),
        cmocka_unit_test(activity_is_when_bytes_moved),
        cmocka_unit_test(files_share_a_turn),
    };
    return stream_run_all("stream", tests, sizeof tests / sizeof tests[0],
                          argc > 1 ? argv[1] : NULL);
}
