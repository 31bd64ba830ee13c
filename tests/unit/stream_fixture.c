#include "stream_fixture.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct variant stream_variants[] = {
    { "uring", WEIR_ENGINE_URING, "default" },
    { "uring kernel-6.1", WEIR_ENGINE_URING, "kernel-6.1" },
    { "epoll", WEIR_ENGINE_EPOLL, "default" },
    { "blocking", WEIR_ENGINE_BLOCKING, "default" },
};

// --- The loop's side -----------------------------------------------------------------------------

struct fixture *stream_fixture(struct weir_stream *stream)
{
    return weir_stream_context(stream);
}

void stream_note_opened(struct weir_stream *stream)
{
    struct fixture *fixture = stream_fixture(stream);
    fixture->streams[fixture->opened++] = stream;
}

void stream_note_received(struct weir_stream *stream, struct weir_slice slice)
{
    stream_fixture(stream)->received += slice.size;
}

void stream_note_ended(struct weir_stream *stream)
{
    stream_fixture(stream)->ended++;
}

void stream_note_closed(struct weir_stream *stream, int reason)
{
    stream_fixture(stream)->closed++;
    stream_fixture(stream)->reason = reason;
}

const struct weir_protocol stream_quiet = {
    .name = "quiet",
    .opened = stream_note_opened,
    .received = stream_note_received,
    .ended = stream_note_ended,
    .closed = stream_note_closed,
};

void stream_init(struct fixture *fixture, const struct variant *variant)
{
    memset(fixture, 0, sizeof *fixture);
    weir_loop_config_init(&fixture->config);
    fixture->config.engine = variant->engine;
    fixture->config.uring_features = variant->features;
    fixture->config.streams_max = STREAMS_MAX;
}

void stream_start(struct fixture *fixture)
{
    assert_int_equal(weir_loop_create(&fixture->config, &fixture->loop), 0);
}

void stream_listen(struct fixture *fixture, const struct weir_protocol *protocol)
{
    struct weir_listener_config config = { .protocol = protocol,
                                           .context = fixture,
                                           .accepts_max = STREAMS_MAX + 1 };
    struct weir_listener *listener;
    assert_int_equal(weir_address_parse("127.0.0.1:0", &fixture->address), 0);
    assert_int_equal(weir_listener_open(fixture->loop, &fixture->address, &config, &listener), 0);
    weir_listener_address(listener, &fixture->address);
}

// Turns until the counter reaches `least`; fails when that takes too long.
void stream_reaches(struct fixture *fixture, const uint32_t *counter, uint32_t least)
{
    uint64_t end_ns = weir_clock_now() + PATIENCE;
    while (*counter < least) {
        assert_true(weir_clock_now() < end_ns);
        assert_true(weir_loop_turn(fixture->loop, end_ns) >= 0);
    }
}

// Whoever had no CPU for all that time has still to see what came: the last turn brought nothing.
void stream_turns(struct fixture *fixture, uint64_t duration_ns)
{
    uint64_t end_ns = weir_clock_now() + duration_ns;
    for (int events = 1; events > 0 || weir_clock_now() < end_ns;) {
        events = weir_loop_turn(fixture->loop, end_ns);
        assert_true(events >= 0);
    }
}

void stream_fini(struct fixture *fixture)
{
    weir_loop_destroy(fixture->loop);
}

// --- The peers' side -----------------------------------------------------------------------------

int stream_peer(const struct weir_address *address)
{
    int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, &address->any, address->size), 0);
    return fd;
}

int stream_pair(struct fixture *fixture)
{
    uint32_t opened = fixture->opened;
    int fd = stream_peer(&fixture->address);
    stream_reaches(fixture, &fixture->opened, opened + 1);
    return fd;
}

ssize_t stream_peer_receive(int fd, void *ret_data, size_t size)
{
    struct pollfd arrival = { .fd = fd, .events = POLLIN };
    assert_int_equal(poll(&arrival, 1, (int)(PATIENCE / MILLISECOND)), 1);
    return recv(fd, ret_data, size, MSG_DONTWAIT);
}

int stream_peer_listen(struct weir_address *ret_address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(weir_address_parse("127.0.0.1:0", ret_address), 0);
    assert_int_equal(bind(fd, &ret_address->any, ret_address->size), 0);
    assert_int_equal(listen(fd, 4096), 0);
    assert_int_equal(getsockname(fd, &ret_address->any, &ret_address->size), 0);
    return fd;
}

void stream_open_temporary(struct fixture *fixture)
{
    char path[] = "/tmp/weir-stream-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    assert_true(fd >= 0);
    unlink(path);
    assert_int_equal(weir_file_adopt(fixture->loop, fd, &fixture->file), 0);
}

void stream_raise_file_limit(void)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static void stream_flood(struct weir_stream *stream, struct weir_slice slice)
{
    static const char zeros[1 << 20];
    struct fixture *fixture = stream_fixture(stream);
    if (!fixture->received) {
        for (int i = 0; i < 64; i++)
            weir_stream_send_static(stream, zeros, sizeof zeros);
    }
    fixture->received += slice.size;
}

const struct weir_protocol stream_flooding = {
    .name = "flooding",
    .opened = stream_note_opened,
    .received = stream_flood,
    .closed = stream_note_closed,
};

// --- Every test with every engine ----------------------------------------------------------------

int stream_run_all(const char *name, const struct CMUnitTest *tests, size_t count,
                   const char *filter)
{
    enum { TESTS_MAX = 20, VARIANTS = sizeof stream_variants / sizeof stream_variants[0] };
    static struct CMUnitTest all[TESTS_MAX * VARIANTS];
    static char names[TESTS_MAX * VARIANTS][128];
    if (count > TESTS_MAX)
        return 2;
    if (filter)
        cmocka_set_test_filter(filter);
    for (size_t i = 0; i < count * VARIANTS; i++) {
        all[i] = tests[i % count];
        all[i].initial_state = (void *)&stream_variants[i / count];
        snprintf(names[i], sizeof names[i], "%s (%s)", tests[i % count].name,
                 stream_variants[i / count].name);
        all[i].name = names[i];
    }
    return _cmocka_run_group_tests(name, all, count * VARIANTS, NULL, NULL) ? 1 : 0;
}
