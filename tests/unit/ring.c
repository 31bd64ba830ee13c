// The uring engine over a ring that fails: the kernel's, behind an enter that refuses when told.
#include "engines/uring/ring.h"
#include "engines/uring/uring.h"
#include "stream_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

// Refuses so many enters with this error, after delivering what has completed. Then it takes a
// single entry, and refuses `again` more, if these are any.
struct refusal {
    uint32_t count, again;
    int error;
    uint32_t enters; // those that came after the first refusal
    bool eager;      // delivers all that there is in each enter, as kernels before 6.12 do
};

static int refusing_enter(void *state, struct io_uring *ring, unsigned submit, unsigned wait,
                          unsigned flags, void *argument, size_t size)
{
    struct refusal *refusal = state;
    refusal->enters += refusal->error != 0;
    if (!refusal->count && refusal->again && submit) {
        refusal->count = refusal->again;
        refusal->again = 0;
        return ring_kernel.enter(NULL, ring, 1, 0, 0, NULL, 0);
    }
    if (!refusal->count) {
        int result = ring_kernel.enter(NULL, ring, submit, wait, flags, argument, size);
        while (refusal->eager && IO_URING_READ_ONCE(*ring->sq.kflags) & IORING_SQ_TASKRUN)
            ring_kernel.enter(NULL, ring, 0, 0, IORING_ENTER_GETEVENTS, NULL, 0);
        return result;
    }
    refusal->count--;
    ring_kernel.enter(NULL, ring, 0, 0, IORING_ENTER_GETEVENTS, NULL, 0);
    return refusal->error;
}

static void refusing_start(struct fixture *fixture, struct refusal *refusal, const char *features)
{
    const struct variant uring = { "uring", WEIR_ENGINE_URING, features };
    static struct ring_operations operations;
    struct ring_base ring = { .operations = &operations, .state = refusal };
    struct loop_base base = { .engine = &engine_uring,
                              .engine_argument = &ring,
                              .system = &system_kernel };
    operations = ring_kernel;
    operations.enter = refusing_enter;
    memset(refusal, 0, sizeof *refusal);
    stream_raise_file_limit();
    stream_init(fixture, &uring);
    fixture->config.buffer_count = 4096;
    fixture->config.buffer_size = 4096;
    assert_int_equal(loop_create_on(&fixture->config, &base, &fixture->loop), 0);
}

// Verbs may go on until the turn's end when the ring breaks in the middle of a large batch: none of
// them writes past the batch's scratch, and what they prepared is never submitted.
static void ring_that_breaks_in_a_large_batch_ends_the_loop(void **state)
{
    enum { PEERS = 700, PIECES = 4 };
    static int peers[PEERS];
    struct fixture fixture;
    struct refusal refusal;
    (void)state;
    refusing_start(&fixture, &refusal, "default");
    stream_listen(&fixture, &stream_quiet);
    for (uint32_t i = 0; i < PEERS; i++)
        peers[i] = stream_pair(&fixture);
    weir_listener_close(fixture.loop->listeners);
    stream_turns(&fixture, 5 * MILLISECOND);
    for (uint32_t i = 0; i < PEERS; i++) {
        for (uint32_t k = 0; k < PIECES; k++)
            weir_stream_send_static(fixture.streams[i], "piece", 5);
    }
    refusal.error = -EIO;
    refusal.count = 1;
    assert_int_equal(weir_loop_turn(fixture.loop, 0), -EIO);
    assert_int_equal(refusal.enters, 1);
    assert_int_equal(weir_loop_turn(fixture.loop, 0), -EIO);
    stream_fini(&fixture);
    for (uint32_t i = 0; i < PEERS; i++)
        close(peers[i]);
}

// A wake that is told while the submission queue is full, and the kernel takes nothing, makes no
// completion count twice.
static void wake_while_the_queue_is_full_tells_nothing_twice(void **state)
{
    enum { CONNECTS = 1024 }; // the entries of the queue
    struct fixture fixture;
    struct refusal refusal;
    struct weir_address address;
    struct weir_stream *stream;
    struct weir_connect_config config = { .protocol = &stream_quiet, .context = &fixture };
    (void)state;
    refusing_start(&fixture, &refusal, "default");
    stream_listen(&fixture, &stream_quiet);
    int listener = stream_peer_listen(&address), fd = stream_pair(&fixture);
    stream_turns(&fixture, 5 * MILLISECOND);
    fixture.loop->engine->wake(fixture.loop);
    assert_int_equal(send(fd, "bytes", 5, 0), 5);
    for (uint32_t i = 0; i < CONNECTS; i++)
        assert_int_equal(weir_stream_connect(fixture.loop, &address, &config, &stream), 0);
    refusal.error = -EAGAIN;
    refusal.count = 2;
    stream_reaches(&fixture, &fixture.opened, 1 + CONNECTS);
    assert_int_equal(refusal.count, 0);
    assert_int_equal(fixture.received, 5);
    close(fd);
    close(listener);
    stream_fini(&fixture);
}

enum { RING_CONNECTS = 1030 }; // more than the queue has entries

// Starts so many connections at once, of which the kernel refuses `count` enters, takes one entry,
// and refuses `again` more. Returns the socket that they go to.
static int refusing_connects(struct fixture *fixture, struct refusal *refusal, uint32_t count,
                             uint32_t again)
{
    struct weir_address address;
    struct weir_stream *stream;
    struct weir_connect_config config = { .protocol = &stream_quiet, .context = fixture };
    refusing_start(fixture, refusal, "default");
    int listener = stream_peer_listen(&address);
    stream_turns(fixture, 5 * MILLISECOND);
    refusal->error = -EAGAIN;
    refusal->count = count;
    refusal->again = again;
    for (uint32_t i = 0; i < RING_CONNECTS; i++)
        assert_int_equal(weir_stream_connect(fixture->loop, &address, &config, &stream), 0);
    return listener;
}

// A kernel that is short of memory for long, but takes an entry now and then, is not given up: only
// so many refusals in a row break a ring.
static void kernel_that_goes_on_slowly_is_not_given_up(void **state)
{
    // Together twice what a ring is given, with two enters for each attempt.
    enum { REFUSALS = 2 * URING_SHORTAGE_ATTEMPTS };
    struct fixture fixture;
    struct refusal refusal;
    (void)state;
    int listener = refusing_connects(&fixture, &refusal, REFUSALS, REFUSALS);
    stream_reaches(&fixture, &fixture.opened, RING_CONNECTS);
    assert_int_equal(refusal.count + refusal.again, 0);
    close(listener);
    stream_fini(&fixture);
}

// One that takes nothing at all is given up, with its error: the loop does not wait for ever.
static void kernel_that_takes_nothing_is_given_up(void **state)
{
    struct fixture fixture;
    struct refusal refusal;
    (void)state;
    int listener = refusing_connects(&fixture, &refusal, UINT32_MAX, 0);
    assert_int_equal(weir_loop_turn(fixture.loop, 0), -EAGAIN);
    assert_in_range(refusal.enters, URING_SHORTAGE_ATTEMPTS, 3 * URING_SHORTAGE_ATTEMPTS);
    close(listener);
    stream_fini(&fixture);
}

static void ring_answer(struct weir_stream *stream, struct weir_slice slice)
{
    stream_note_received(stream, slice);
    if (slice.size == 1)
        weir_stream_send_static(stream, "y", 1);
}

// A stream is answered again and again while others keep the completion queue from ever running
// empty: the ends of its sends are told all the same.
static void busy_queue_does_not_hold_up_the_ends_of_quiet_sends(void **state)
{
    enum { PEERS = 1300, BYTES = 64 * 1024, ANSWERS = 3 };
    static const struct weir_protocol protocol = { .name = "answering",
                                                   .opened = stream_note_opened,
                                                   .received = ring_answer };
    static int peers[PEERS];
    static const char bytes[BYTES];
    struct fixture fixture;
    struct refusal refusal;
    char byte;
    (void)state;
    refusing_start(&fixture, &refusal, "kernel-6.1");
    stream_listen(&fixture, &protocol);
    int fd = stream_pair(&fixture);
    for (uint32_t i = 0; i < PEERS; i++)
        peers[i] = stream_pair(&fixture);
    stream_turns(&fixture, 5 * MILLISECOND);
    for (uint32_t i = 0; i < PEERS; i++)
        assert_int_equal(send(peers[i], bytes, BYTES, MSG_DONTWAIT), BYTES);
    refusal.eager = true;
    for (int answer = 0; answer < ANSWERS; answer++) {
        assert_int_equal(send(fd, "x", 1, 0), 1);
        while (recv(fd, &byte, 1, MSG_DONTWAIT) != 1) {
            assert_true(fixture.received < (uint64_t)PEERS * BYTES);
            assert_true(weir_loop_turn(fixture.loop, 0) >= 0);
        }
    }
    for (uint32_t i = 0; i < PEERS; i++)
        close(peers[i]);
    close(fd);
    stream_fini(&fixture);
}

// What the many streams of the test below were told.
struct ring_uploads {
    uint64_t received[STREAMS_MAX];
    bool altered;
};

static struct ring_uploads ring_uploads;

static char ring_byte(uint64_t offset)
{
    return (char)(offset % 251);
}

static void ring_expect_much(struct weir_stream *stream)
{
    stream_note_opened(stream);
    weir_stream_set_bulk(stream, true);
}

static void ring_check_bytes(struct weir_stream *stream, struct weir_slice slice)
{
    uint64_t *received = &ring_uploads.received[stream->slot];
    for (size_t i = 0; i < slice.size; i++)
        ring_uploads.altered |= slice.data[i] != ring_byte((*received)++);
    stream_note_received(stream, slice);
}

static uint64_t ring_fill(int fd, uint64_t sent)
{
    char bytes[4000];
    ssize_t size;
    for (uint64_t end = sent + 128 * 1024; sent < end; sent += (uint64_t)size) {
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = ring_byte(sent + i);
        size = send(fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (size < 0)
            break;
    }
    return sent;
}

// Bundles of more buffers than a turn takes go on in the next one: no byte is lost, and none comes
// before another.
static void bundles_that_exceed_a_turn_go_on_in_the_next(void **state)
{
    enum { PEERS = 64, ROUNDS = 3 };
    static const struct weir_protocol protocol = { .name = "expecting",
                                                   .opened = ring_expect_much,
                                                   .received = ring_check_bytes };
    static int peers[PEERS];
    static uint64_t sent[PEERS];
    struct fixture fixture;
    struct refusal refusal;
    uint64_t total = 0, full = 0;
    (void)state;
    refusing_start(&fixture, &refusal, "default");
    if (!strstr(weir_loop_plan(fixture.loop), " receive-bundle")) {
        weir_loop_destroy(fixture.loop);
        skip();
    }
    stream_listen(&fixture, &protocol);
    for (uint32_t i = 0; i < PEERS; i++)
        peers[i] = stream_pair(&fixture);
    memset(&ring_uploads, 0, sizeof ring_uploads);
    memset(sent, 0, sizeof sent);
    refusal.eager = true;
    for (int round = 0; round < ROUNDS; round++) {
        total = 0;
        for (uint32_t i = 0; i < PEERS; i++)
            total += sent[i] = ring_fill(peers[i], sent[i]);
        while (fixture.received < total) {
            int events = weir_loop_turn(fixture.loop, weir_clock_now() + PATIENCE);
            assert_true(events > 0);
            full += uring_of(fixture.loop)->bundle.left > 0;
        }
    }
    assert_int_equal(fixture.received, total);
    assert_false(ring_uploads.altered);
    assert_true(full > 0);
    for (uint32_t i = 0; i < PEERS; i++)
        close(peers[i]);
    stream_fini(&fixture);
}

// Puts a receive of a stream that is gone into the ring: as a kernel that ends it too late.
static void ring_receive_late(struct weir_loop *loop, int fd, uint64_t token)
{
    struct io_uring_sqe *sqe = uring_sqe(loop, OPERATION_NONE, 0, 0);
    sqe->opcode = IORING_OP_RECV;
    sqe->fd = fd;
    sqe->flags = IOSQE_BUFFER_SELECT;
    sqe->buf_group = URING_BUFFER_GROUP;
    sqe->user_data = token;
}

// A completion of a stream that is gone is counted and dropped, also if another stream has its slot
// by now, and its buffer goes back: there may be more of them than buffers.
static void late_completions_reach_no_stranger(void **state)
{
    enum { BUFFERS = 8, LATE = 3 * BUFFERS };
    const struct variant uring = { "uring", WEIR_ENGINE_URING, "default" };
    struct fixture fixture;
    struct weir_stats stats = { 0 };
    int sockets[2];
    (void)state;
    stream_init(&fixture, &uring);
    fixture.config.buffer_count = BUFFERS;
    stream_start(&fixture);
    stream_listen(&fixture, &stream_quiet);
    int gone = stream_pair(&fixture);
    uint32_t slot = fixture.streams[0]->slot;
    uint64_t token = loop_token(fixture.loop, OPERATION_RECEIVE, 0, slot);
    weir_stream_abort(fixture.streams[0]);
    stream_reaches(&fixture, &fixture.closed, 1);
    int fd = stream_pair(&fixture);
    assert_int_equal(fixture.streams[1]->slot, slot);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
    for (uint64_t i = 1; i <= LATE; i++) {
        assert_int_equal(send(sockets[1], "late", 4, 0), 4);
        ring_receive_late(fixture.loop, sockets[0], token);
        for (uint64_t end_ns = weir_clock_now() + PATIENCE; stats.stale_completions < i;) {
            assert_true(weir_clock_now() < end_ns);
            assert_true(weir_loop_turn(fixture.loop, end_ns) >= 0);
            weir_loop_stats(fixture.loop, &stats);
        }
    }
    char rest;
    assert_int_equal(recv(sockets[0], &rest, 1, MSG_DONTWAIT), -1); // each had a buffer
    assert_int_equal(fixture.received, 0);
    assert_int_equal(send(fd, "bytes", 5, 0), 5);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    stream_reaches(&fixture, &fixture.ended, 1);
    assert_int_equal(fixture.received, 5);
    assert_int_equal(fixture.closed, 1);
    close(sockets[0]);
    close(sockets[1]);
    close(gone);
    close(fd);
    stream_fini(&fixture);
}

static void ring_send_pipe(struct weir_stream *stream)
{
    stream_note_opened(stream);
    weir_stream_send_file(stream, stream_fixture(stream)->file, 0, 1);
}

// As many streams as a loop takes, all of which wait for the disk, are all served: none of them is
// reset because the others read. (A pipe without bytes stands for the disk.)
static void a_full_loop_reads_for_all_of_its_streams(void **state)
{
    static const struct variant uring = { "uring", WEIR_ENGINE_URING, "default,-sendfile" };
    static const struct weir_protocol protocol = { .name = "sending",
                                                   .opened = ring_send_pipe,
                                                   .closed = stream_note_closed };
    static int peers[STREAMS_MAX];
    static char bytes[STREAMS_MAX];
    struct fixture fixture;
    int pipe[2];
    char byte;
    (void)state;
    stream_raise_file_limit();
    stream_init(&fixture, &uring);
    stream_start(&fixture);
    stream_listen(&fixture, &protocol);
    assert_int_equal(pipe2(pipe, O_CLOEXEC), 0);
    assert_int_equal(weir_file_adopt(fixture.loop, pipe[0], &fixture.file), 0);
    for (uint32_t i = 0; i < STREAMS_MAX; i++)
        peers[i] = stream_pair(&fixture);
    stream_turns(&fixture, MILLISECOND);
    assert_int_equal(fixture.closed, 0);
    assert_int_equal(write(pipe[1], bytes, sizeof bytes), (int)sizeof bytes);
    while (fixture.loop->operations_open)
        assert_true(weir_loop_turn(fixture.loop, weir_clock_now() + PATIENCE) > 0);
    stream_turns(&fixture, MILLISECOND);
    assert_int_equal(fixture.closed, 0);
    for (uint32_t i = 0; i < STREAMS_MAX; i++) {
        assert_int_equal(recv(peers[i], &byte, 1, 0), 1);
        close(peers[i]);
    }
    close(pipe[1]);
    weir_file_release(fixture.file);
    stream_fini(&fixture);
}

static void ring_note_sunk(struct weir_operation *operation, int64_t result)
{
    struct fixture *fixture = container_of(operation, struct fixture, operation);
    fixture->result = result;
    fixture->done++;
}

// As many bytes as the pipe takes.
static void ring_fill_pipe(int fd)
{
    static const char bytes[4096];
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    while (write(fd, bytes, sizeof bytes) > 0)
        continue;
    assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
}

// A linger discards while a file still takes what came before: the peer's end is seen, and the
// linger over, although the disk is slow. (A full pipe stands for the disk.)
static void linger_does_not_wait_for_the_file(void **state)
{
    static const struct variant uring = { "uring", WEIR_ENGINE_URING, "kernel-6.1" };
    static char bytes[1 << 16];
    struct fixture fixture;
    int pipe[2];
    (void)state;
    stream_init(&fixture, &uring);
    stream_start(&fixture);
    stream_listen(&fixture, &stream_quiet);
    assert_int_equal(pipe2(pipe, O_CLOEXEC), 0);
    ring_fill_pipe(pipe[1]);
    assert_int_equal(weir_file_adopt(fixture.loop, pipe[1], &fixture.file), 0);
    int fd = stream_pair(&fixture);
    struct weir_stream *stream = fixture.streams[0];
    fixture.operation.done = ring_note_sunk;
    weir_stream_receive_file(stream, fixture.file, 0, &fixture.operation);
    assert_int_equal(send(fd, "x", 1, 0), 1);
    stream_turns(&fixture, 20 * MILLISECOND); // its write waits, and no receive is armed
    weir_stream_linger(stream, 1 << 20, 10 * PATIENCE);
    assert_int_equal(send(fd, "y", 1, 0), 1);
    shutdown(fd, SHUT_WR);
    uint64_t end_ns = weir_clock_now() + PATIENCE;
    while (stream->state != STREAM_CLOSING) {
        assert_true(weir_clock_now() < end_ns);
        assert_true(weir_loop_turn(fixture.loop, end_ns) >= 0);
    }
    assert_int_equal(fixture.closed, 0); // it names the write
    assert_true(read(pipe[0], bytes, sizeof bytes) > 0);
    stream_reaches(&fixture, &fixture.closed, 1);
    assert_int_equal(fixture.done, 1);
    assert_int_equal(fixture.result, -ECANCELED);
    close(fd);
    close(pipe[0]);
    weir_file_release(fixture.file);
    stream_fini(&fixture);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(bundles_that_exceed_a_turn_go_on_in_the_next),
        cmocka_unit_test(ring_that_breaks_in_a_large_batch_ends_the_loop),
        cmocka_unit_test(busy_queue_does_not_hold_up_the_ends_of_quiet_sends),
        cmocka_unit_test(wake_while_the_queue_is_full_tells_nothing_twice),
        cmocka_unit_test(kernel_that_goes_on_slowly_is_not_given_up),
        cmocka_unit_test(kernel_that_takes_nothing_is_given_up),
        cmocka_unit_test(late_completions_reach_no_stranger),
        cmocka_unit_test(a_full_loop_reads_for_all_of_its_streams),
        cmocka_unit_test(linger_does_not_wait_for_the_file),
    };
    char reason[256];
    if (weir_uring_available(reason, sizeof reason)) {
        printf("1..0 # SKIP %s\n", reason);
        return 0;
    }
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("ring", tests, NULL, NULL) ? 1 : 0;
}
