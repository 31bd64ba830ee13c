// Streams and operations in numbers, over real sockets and with every engine: batches larger than
// the ring, buffers that run out, peers that cost more than they send.
#include "stream_fixture.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

// More connects than the ring has entries, or room for unix paths, may come before the first turn.
static void many_connects_before_the_first_turn(void **state)
{
    static const struct {
        const char *family;
        uint32_t count;
    } cases[] = { { "tcp", 1200 }, { "unix", 20 } };
    stream_raise_file_limit();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fixture fixture;
        struct weir_address address;
        struct weir_stream *stream;
        struct weir_connect_config config = { .protocol = &stream_quiet, .context = &fixture };
        int listener;
        stream_init(&fixture, *state);
        stream_start(&fixture);
        if (i == 0) {
            listener = stream_peer_listen(&address);
        } else {
            memset(&address, 0, sizeof address);
            address.un.sun_family = AF_UNIX;
            address.size = sizeof(sa_family_t);
            listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
            assert_int_equal(bind(listener, &address.any, address.size), 0); // autobind
            assert_int_equal(listen(listener, 100), 0);
            address.size = sizeof address.un;
            assert_int_equal(getsockname(listener, &address.any, &address.size), 0);
        }
        for (uint32_t k = 0; k < cases[i].count; k++)
            assert_int_equal(weir_stream_connect(fixture.loop, &address, &config, &stream), 0);
        stream_reaches(&fixture, &fixture.opened, cases[i].count);
        close(listener);
        stream_fini(&fixture);
    }
}

// Each stream's pieces reach its own peer, however many entries one turn prepares.
static void pieces_keep_their_stream_when_the_batch_is_submitted_early(void **state)
{
    enum { PEERS = 1000, SENDERS = 400 };
    struct fixture fixture;
    static int peers[PEERS];
    static char texts[PEERS][3][16];
    const struct variant *variant = *state;
    stream_raise_file_limit();
    stream_init(&fixture, variant);
    stream_start(&fixture);
    stream_listen(&fixture, &stream_quiet);
    for (uint32_t i = 0; i < PEERS; i++)
        peers[i] = stream_pair(&fixture);
    for (uint32_t i = 0; i < PEERS; i++)
        weir_stream_pause(fixture.streams[i]);
    for (uint32_t i = 0; i < PEERS; i++)
        assert_int_equal(send(peers[i], "go", 2, 0), 2); // one-shot receives end by this
    stream_turns(&fixture, 50 * MILLISECOND);
    for (uint32_t i = 0; i < PEERS; i++)
        weir_stream_resume(fixture.streams[i]);
    for (uint32_t i = 0; i < SENDERS; i++) {
        for (uint32_t k = 0; k < 3; k++) {
            snprintf(texts[i][k], sizeof texts[i][k], "%04u.%u;", i, k);
            weir_stream_send_static(fixture.streams[i], texts[i][k], 7);
        }
    }
    stream_turns(&fixture, 100 * MILLISECOND);
    for (uint32_t i = 0; i < SENDERS; i++) {
        char expected[32], got[32] = "";
        snprintf(expected, sizeof expected, "%04u.0;%04u.1;%04u.2;", i, i, i);
        assert_int_equal(recv(peers[i], got, 21, MSG_WAITALL), 21);
        assert_int_equal(recv(peers[i], got, 1, MSG_PEEK | MSG_DONTWAIT), -1);
        assert_string_equal(got, expected);
    }
    for (uint32_t i = 0; i < PEERS; i++)
        close(peers[i]);
    stream_fini(&fixture);
}

// Streams that found no buffer are all served, although those before them in the line stay quiet.
static void quiet_streams_do_not_hold_up_the_line_for_buffers(void **state)
{
    enum { BUFFERS = 8, QUIET = 30, PEERS = 2 * BUFFERS + QUIET };
    struct fixture fixture;
    int peers[PEERS];
    stream_init(&fixture, *state);
    fixture.config.buffer_count = BUFFERS;
    stream_start(&fixture);
    stream_listen(&fixture, &stream_quiet);
    for (uint32_t i = 0; i < PEERS; i++) {
        peers[i] = stream_pair(&fixture);
        weir_stream_pause(fixture.streams[i]);
        assert_int_equal(send(peers[i], "1", 1, 0), 1); // what was armed ends by this
        stream_turns(&fixture, MILLISECOND);
    }
    for (uint32_t i = 0; i < PEERS; i++) {
        if (i < BUFFERS || i >= BUFFERS + QUIET)
            assert_int_equal(send(peers[i], "2", 1, 0), 1);
        weir_stream_resume(fixture.streams[i]);
    }
    uint64_t end_ns = weir_clock_now() + PATIENCE;
    while (fixture.received < PEERS + 2 * BUFFERS) {
        assert_true(weir_clock_now() < end_ns);
        assert_true(weir_loop_turn(fixture.loop, end_ns) >= 0);
    }
    for (uint32_t i = 0; i < PEERS; i++)
        close(peers[i]);
    stream_fini(&fixture);
}

// A peer that does not read and sends single bytes costs about what it sent, not a block for each.
static void kept_bytes_share_their_blocks(void **state)
{
    enum { BYTES = 4000 };
    struct fixture fixture;
    struct weir_stats stats;
    stream_init(&fixture, *state);
    stream_start(&fixture);
    stream_listen(&fixture, &stream_flooding);
    int fd = stream_pair(&fixture), one = 1;
    setsockopt(fd, IPPROTO_TCP, 1, &one, sizeof one); // TCP_NODELAY
    for (uint32_t i = 0; i < BYTES; i++) {
        assert_int_equal(send(fd, "x", 1, 0), 1);
        assert_true(weir_loop_turn(fixture.loop, weir_clock_now() + MILLISECOND / 5) >= 0);
    }
    weir_loop_stats(fixture.loop, &stats);
    assert_true(stats.queued_high < 16 * BYTES);
    close(fd);
    stream_fini(&fixture);
}

static void stream_note_post(struct weir_loop *loop, struct weir_post *post)
{
    (void)loop;
    post->function = NULL;
}

// A post wakes the loop although an earlier one ran between its queueing and its wake.
static void post_wakes_after_a_wake_that_found_nothing(void **state)
{
    struct fixture fixture;
    struct weir_post post = { .function = stream_note_post };
    stream_init(&fixture, *state);
    stream_start(&fixture);
    stream_turns(&fixture, MILLISECOND);
    // What the other thread leaves behind when the loop ran its post before it came to wake it.
    assert_false(atomic_exchange(&fixture.loop->wake_pending, true));
    fixture.loop->engine->wake(fixture.loop);
    stream_turns(&fixture, 5 * MILLISECOND);
    assert_false(atomic_load(&fixture.loop->wake_pending));
    weir_loop_post(fixture.loop, &post);
    stream_turns(&fixture, MILLISECOND);
    assert_null(post.function);
    stream_fini(&fixture);
}

struct chain {
    struct weir_operation operation;
    struct fixture *fixture;
    uint32_t left;
    char byte;
};

static void stream_read_again(struct weir_operation *operation, int64_t result)
{
    struct chain *chain = container_of(operation, struct chain, operation);
    if (result != 1 || !--chain->left) {
        chain->fixture->done++;
        return;
    }
    weir_file_read(chain->fixture->file, operation, &chain->byte, 1, 0);
}

// Many reads in flight, for as long as one likes.
static void chains_of_reads_go_on_for_long(void **state)
{
    enum { CHAINS = 300, READS = 200 };
    static struct chain chains[CHAINS];
    struct fixture fixture;
    stream_init(&fixture, *state);
    fixture.config.streams_max = 1;
    stream_start(&fixture);
    stream_open_temporary(&fixture);
    assert_int_equal(write(weir_file_descriptor(fixture.file), "x", 1), 1);
    for (uint32_t i = 0; i < CHAINS; i++) {
        chains[i] = (struct chain){ .operation.done = stream_read_again,
                                    .fixture = &fixture,
                                    .left = READS };
        weir_file_read(fixture.file, &chains[i].operation, &chains[i].byte, 1, 0);
    }
    stream_reaches(&fixture, &fixture.done, CHAINS);
    weir_file_release(fixture.file);
    stream_fini(&fixture);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_connects_before_the_first_turn),
        cmocka_unit_test(pieces_keep_their_stream_when_the_batch_is_submitted_early),
        cmocka_unit_test(quiet_streams_do_not_hold_up_the_line_for_buffers),
        cmocka_unit_test(kept_bytes_share_their_blocks),
        cmocka_unit_test(post_wakes_after_a_wake_that_found_nothing),
        cmocka_unit_test(chains_of_reads_go_on_for_long),
    };
    return stream_run_all("stream_load", tests, sizeof tests / sizeof tests[0],
                          argc > 1 ? argv[1] : NULL);
}
