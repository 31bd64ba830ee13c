// How long clients of the HTTP server may take, on the simulated kernel, where minutes cost
// nothing: what it makes of peers that are slow to take an answer, with the settings of weir http.
// And what becomes of lines of its logs while no job can be had.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <core/engines/sim/sim.h>
#include <servers/http/connection.h>

#include <cmocka.h>

#define MILLISECOND 1000000ULL
#define SECOND 1000000000ULL

// An answer is more than the buffers of the sockets and the queue's high mark hold. When its most
// is taken, what is left of the queue is one send of less than the low mark: what follows is read.
enum { PACE_CONTENT = 826000, PACE_MOST = 600000, PACE_PART = 50000, PACE_HEAD_MAX = 400 };

struct pace {
    struct sim *sim;
    struct loop_base base; // the simulation's, but for
    struct system system;  // its jobs
    struct http_settings settings;
    struct http_site site;
    struct weir_loop *loop;
    struct sim_socket *peer;
    struct weir_stream *stream;     // of the last request
    struct http_exchange *exchange; // that is answered later
    struct weir_timer timer;
    uint64_t got;             // bytes that the client took
    char text[PACE_HEAD_MAX]; // the last of them
    bool ended;               // in order
    int error;                // or not
};

// --- The server ----------------------------------------------------------------------------------

static void pace_serve(struct http_exchange *exchange, void *context)
{
    static const char content[PACE_CONTENT];
    struct pace *pace = context;
    const struct http_answer answer = { .status = 200, .type = "application/octet-stream" };
    pace->stream = http_exchange_stream(exchange);
    http_answer(exchange, &answer, content, sizeof content);
}

static void pace_ring(struct weir_loop *loop, struct weir_timer *timer)
{
    struct pace *pace = container_of(timer, struct pace, timer);
    (void)loop;
    pace_serve(pace->exchange, pace);
}

static void pace_serve_late(struct http_exchange *exchange, void *context)
{
    struct pace *pace = context;
    pace->exchange = exchange;
    pace->timer.function = pace_ring;
    assert_int_equal(http_exchange_keep(exchange), 0);
    weir_timer_start(pace->loop, &pace->timer, MILLISECOND);
}

static bool pace_lacks_jobs;

static int pace_no_memory(struct weir_operation *operation)
{
    (void)operation;
    return -ENOMEM;
}

// A job that cannot be started ends with an error, and does not run.
static int pace_job(void *state, struct weir_operation *operation)
{
    if (pace_lacks_jobs)
        operation->run = pace_no_memory;
    return sim_base(state)->system->job(state, operation);
}

// The test changes pace->settings between the two.
static void pace_init(struct pace *pace)
{
    static struct http_route routes[] = {
        { .path = "/big", .methods = "GET", .serve = pace_serve },
        { .path = "/late", .methods = "GET", .serve = pace_serve_late },
    };
    memset(pace, 0, sizeof *pace);
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++)
        routes[i].context = pace;
    http_settings_init(&pace->settings);
    pace->settings.echo = true; // it needs no root
    pace->settings.serve.log_path = "/dev/null";
    pace->settings.routes = routes;
    pace->settings.routes_count = sizeof routes / sizeof routes[0];
}

static void pace_start(struct pace *pace)
{
    struct serve_settings serve;
    struct weir_loop_config config;
    struct weir_listener_config listen = { .protocol = &http_protocol, .context = &pace->site };
    struct weir_listener *listener;
    struct weir_address address;
    pace->sim = sim_create(1, NULL);
    http_site_init(&pace->site, &pace->settings);
    assert_int_equal(http_site_open(&pace->site, 1), 0);
    http_site_serve(&pace->site, &serve);
    serve_settings_loop(&serve, &config);
    pace->base = *sim_base(pace->sim);
    pace->system = *pace->base.system;
    pace->system.job = pace_job;
    pace->base.system = &pace->system;
    assert_int_equal(loop_create_on(&config, &pace->base, &pace->loop), 0);
    assert_int_equal(weir_address_parse("127.0.0.1:0", &address), 0);
    assert_int_equal(weir_listener_open(pace->loop, &address, &listen, &listener), 0);
    weir_listener_address(listener, &address);
    assert_int_equal(sim_peer_connect(pace->sim, &address, NULL, 0, 0, &pace->peer), 0);
}

static void pace_fini(struct pace *pace)
{
    weir_loop_destroy(pace->loop);
    sim_peer_close(pace->peer, false);
    http_site_fini(&pace->site);
    sim_destroy(pace->sim);
}

static uint64_t pace_counter(struct pace *pace, enum http_counter counter)
{
    uint64_t counters[COUNTER_COUNT];
    http_site_counters(&pace->site, counters);
    return counters[counter];
}

// --- The client ----------------------------------------------------------------------------------

static void pace_pass(struct pace *pace, uint64_t duration_ns)
{
    uint64_t end_ns = sim_now(pace->sim) + duration_ns;
    while (sim_now(pace->sim) < end_ns)
        assert_true(weir_loop_turn(pace->loop, end_ns) >= 0);
}

static void pace_say(struct pace *pace, const char *text)
{
    pace_pass(pace, MILLISECOND);
    assert_int_equal(sim_peer_connected(pace->peer), 0);
    assert_int_equal(sim_peer_write(pace->peer, text, strlen(text)), strlen(text));
    pace_pass(pace, MILLISECOND);
}

// Takes up to `most` bytes, as long as some come.
static void pace_take(struct pace *pace, uint64_t most)
{
    char bytes[16384];
    int waited = 0;
    while (most && waited < 3 && !pace->ended && !pace->error) {
        int64_t count = sim_peer_read(pace->peer, bytes, most < sizeof bytes ? most : sizeof bytes);
        if (count == -EAGAIN) {
            pace_pass(pace, MILLISECOND);
            waited++;
            continue;
        }
        waited = 0;
        pace->ended = count == 0;
        pace->error = count < 0 ? (int)count : 0;
        if (count <= 0)
            continue;
        size_t kept = (size_t)count < sizeof pace->text - 1 ? (size_t)count : sizeof pace->text - 1;
        memcpy(pace->text, bytes + count - kept, kept);
        pace->text[kept] = '\0';
        pace->got += (uint64_t)count;
        most -= (uint64_t)count;
    }
}

// All of so many answers has come, and nothing else.
static void pace_has(struct pace *pace, uint64_t answers)
{
    assert_in_range(pace->got, answers * PACE_CONTENT, answers * (PACE_CONTENT + PACE_HEAD_MAX));
}

// Takes a part of the answer every second until the kernel has all of it.
static void pace_take_slowly(struct pace *pace)
{
    while (weir_stream_queued(pace->stream)) {
        pace_take(pace, PACE_PART);
        pace_pass(pace, SECOND);
    }
}

static const char pace_ask[] = "GET /big HTTP/1.1\r\nHost: x\r\n\r\n";

// How requests end their connection, each in its own way: the answer comes at once, later, or the
// client has half-closed.
static const struct pace_last {
    const char *ask;
    bool half_closes;
} pace_lasts[] = {
    { "GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", false },
    { "GET /late HTTP/1.0\r\n\r\n", false },
    { "GET /big HTTP/1.1\r\nHost: x\r\n\r\n", true },
    { "GET /late HTTP/1.1\r\nHost: x\r\n\r\n", true },
};

enum { PACE_LASTS = sizeof pace_lasts / sizeof pace_lasts[0] };

static void pace_say_last(struct pace *pace, const struct pace_last *last)
{
    pace_say(pace, last->ask);
    if (last->half_closes)
        sim_peer_half_close(pace->peer);
}

// --- Between requests ----------------------------------------------------------------------------

// With --min-rate 0 an answer may be taken as late as the client likes: it is idle from then on,
// for
// --idle-timeout.
static void an_answer_that_is_not_taken_is_no_idleness(void **state)
{
    struct pace pace;
    (void)state;
    pace_init(&pace);
    pace.settings.rate_min = 0;
    pace_start(&pace);
    for (uint64_t answers = 1; answers <= 2; answers++) {
        pace_say(&pace, pace_ask);
        pace_pass(&pace, 1000 * SECOND);
        pace_take(&pace, UINT64_MAX);
        pace_has(&pace, answers);
        pace_pass(&pace, 59 * SECOND);
        pace_take(&pace, UINT64_MAX);
        assert_false(pace.ended || pace.error);
    }
    pace_pass(&pace, 2 * SECOND);
    pace_take(&pace, UINT64_MAX);
    pace_has(&pace, 2);
    assert_true(pace.ended);
    assert_int_equal(pace_counter(&pace, COUNTER_TIMEOUTS), 1);
    pace_fini(&pace);
}

// With the default rate, too, a client is idle from when it took its answer on, however long that
// took it.
static void a_long_download_is_no_idleness(void **state)
{
    struct pace pace;
    (void)state;
    pace_init(&pace);
    pace_start(&pace);
    for (uint64_t answers = 1; answers <= 2; answers++) {
        pace_say(&pace, pace_ask);
        for (uint64_t i = 0; i < 10; i++) {
            pace_take(&pace, 20000);
            pace_pass(&pace, 10 * SECOND);
        }
        assert_int_not_equal(weir_stream_queued(pace.stream), 0);
        pace_take(&pace, UINT64_MAX);
        pace_has(&pace, answers);
        pace_pass(&pace, 59 * SECOND);
        pace_take(&pace, UINT64_MAX);
        assert_false(pace.ended || pace.error);
    }
    pace_pass(&pace, 2 * SECOND);
    pace_take(&pace, UINT64_MAX);
    assert_true(pace.ended);
    pace_fini(&pace);
}

static bool pace_reads_head(const struct pace *pace)
{
    const struct http_exchange *exchange = weir_stream_session(pace->stream);
    return exchange->phase == CONNECTION_HEAD;
}

// A head that has begun behind an answer that is not taken resets nothing, whether it was read or
// waits with a long queue: from when the answer is taken, its rest has the time that every head
// has. If it does not come, it is late.
static void a_head_behind_an_answer_waits_for_it(void **state)
{
    struct pace pace;
    (void)state;
    for (int i = 0; i < 4; i++) {
        bool any = i % 2;
        pace_init(&pace);
        if (any)
            pace.settings.rate_min = 0;
        pace_start(&pace);
        pace_say(&pace, pace_ask);
        pace_take(&pace, i < 2 ? 0 : PACE_MOST);
        pace_say(&pace, "GET /big HTTP/1.1\r\nHost");
        assert_int_not_equal(weir_stream_queued(pace.stream), 0);
        assert_int_equal(pace_reads_head(&pace), i >= 2);
        pace_pass(&pace, (any ? 1000 : 30) * SECOND);
        pace_take(&pace, UINT64_MAX);
        pace_has(&pace, 1);
        pace_pass(&pace, 9 * SECOND);
        pace_say(&pace, ": x\r\n\r\n");
        pace_take(&pace, UINT64_MAX);
        pace_has(&pace, 2);
        pace_say(&pace, "GET /");
        pace_pass(&pace, 11 * SECOND);
        pace_take(&pace, UINT64_MAX);
        assert_non_null(strstr(pace.text, "HTTP/1.1 408 "));
        assert_true(pace.ended);
        pace_fini(&pace);
    }
}

// And its bytes do not move that end, however steadily they drip.
static void a_head_behind_an_answer_has_one_deadline(void **state)
{
    struct pace pace;
    uint64_t seconds = 0;
    (void)state;
    pace_init(&pace);
    pace_start(&pace);
    pace_say(&pace, pace_ask);
    pace_take(&pace, PACE_MOST);
    pace_say(&pace, "GET /big HTTP/1.1\r\nHost");
    assert_true(pace_reads_head(&pace));
    pace_pass(&pace, 30 * SECOND);
    pace_take(&pace, UINT64_MAX);
    pace_has(&pace, 1);
    for (; !pace.ended && seconds < 20; seconds++) {
        pace_say(&pace, "a");
        pace_pass(&pace, SECOND);
        pace_take(&pace, UINT64_MAX);
    }
    assert_non_null(strstr(pace.text, "HTTP/1.1 408 "));
    assert_in_range(seconds, 10, 13);
    pace_fini(&pace);
}

// A drain that comes behind a long download closes lingering: the end of the answer is still on its
// way, and a request that is too late does not reset it.
static void a_drain_cuts_off_no_download(void **state)
{
    struct pace pace;
    (void)state;
    pace_init(&pace);
    pace_start(&pace);
    pace_say(&pace, pace_ask);
    pace_take_slowly(&pace);
    assert_true(sim_now(pace.sim) > HTTP_DRAIN_LINGER_NS);
    stream_drain(pace.stream, 0);
    pace_pass(&pace, SECOND);
    pace_say(&pace, pace_ask);
    pace_take(&pace, UINT64_MAX);
    pace_has(&pace, 1);
    assert_true(pace.ended);
    pace_fini(&pace);
}

// --- At the end ----------------------------------------------------------------------------------

// On a connection that closes behind its answer a client may take as long as on one that stays: it
// seems to stand still up to a minute, and with --min-rate 0 as long as it likes.
static void the_last_answer_has_the_patience_of_every_other(void **state)
{
    struct pace pace;
    (void)state;
    for (size_t i = 0; i < 2 * PACE_LASTS; i++) {
        bool any = i % 2;
        pace_init(&pace);
        if (any)
            pace.settings.rate_min = 0;
        pace_start(&pace);
        pace_say_last(&pace, &pace_lasts[i / 2]);
        pace_pass(&pace, (any ? 1000 : 55) * SECOND);
        pace_take(&pace, PACE_MOST);
        pace_pass(&pace, (any ? 1000 : 55) * SECOND);
        pace_take(&pace, UINT64_MAX);
        pace_has(&pace, 1);
        assert_true(pace.ended);
        pace_fini(&pace);
    }
}

// But who takes nothing of it at all is reset, also if no other time-out runs, and is counted.
static void the_last_answer_is_taken_or_lost(void **state)
{
    struct pace pace;
    (void)state;
    for (size_t i = 0; i < PACE_LASTS; i++) {
        pace_init(&pace);
        pace.settings.header_timeout_ns = pace.settings.serve.idle_timeout_ns = 0;
        pace_start(&pace);
        pace_say_last(&pace, &pace_lasts[i]);
        pace_pass(&pace, 70 * SECOND);
        pace_take(&pace, UINT64_MAX);
        assert_int_equal(pace.error, -ECONNRESET);
        assert_true(pace.got < PACE_CONTENT);
        assert_int_equal(pace_counter(&pace, COUNTER_TIMEOUTS), 1);
        pace_fini(&pace);
    }
}

// --- Logs ----------------------------------------------------------------------------------------

// A log in memory, and the path that opens it.
static int pace_log(char ret_path[64])
{
    int fd = memfd_create("log", MFD_CLOEXEC);
    assert_true(fd >= 0);
    snprintf(ret_path, 64, "/proc/self/fd/%d", fd);
    return fd;
}

// How many lines the log has, and how many of them have this word.
static int pace_lines(int fd, const char *word, int *ret_found)
{
    char text[4096];
    int lines = 0;
    ssize_t size = pread(fd, text, sizeof text - 1, 0);
    assert_in_range(size, 0, sizeof text - 1);
    text[size] = '\0';
    *ret_found = 0;
    for (char *rest, *line = strtok_r(text, "\n", &rest); line; lines++) {
        *ret_found += strstr(line, word) != NULL;
        line = strtok_r(NULL, "\n", &rest);
    }
    return lines;
}

// Lines for which no job can be had are not lost, and the loop does not write them: they are
// written once, as soon as there are jobs again, or when the server ends.
static void lines_without_a_job_wait(void **state)
{
    struct pace pace;
    char path[64], access_path[64];
    int found, fd = pace_log(path), access_fd = pace_log(access_path);
    (void)state;
    pace_init(&pace);
    pace.settings.serve.log_path = path;
    pace.settings.access_log = access_path;
    pace_start(&pace);
    pace_lacks_jobs = true;
    pace_say(&pace, "GET /1 HTTP/1.1\r\nHost: x\r\n\r\n");
    pace_pass(&pace, 5 * SECOND);
    pace_say(&pace, "GET /2 HTTP/1.1\r\nHost: x\r\n\r\n");
    pace_pass(&pace, 5 * SECOND);
    assert_int_equal(pace_lines(access_fd, "", &found), 0);
    pace_lacks_jobs = false;
    pace_pass(&pace, 2 * SECOND);
    assert_int_equal(pace_lines(access_fd, "\"GET /1 ", &found), 2);
    assert_int_equal(found, 1);
    pace_lacks_jobs = true;
    pace_say(&pace, "GET / HTTP/9.9\r\n\r\n");
    pace_pass(&pace, 5 * SECOND);
    assert_int_equal(pace_lines(access_fd, "", &found), 2);
    assert_int_equal(pace_lines(fd, "", &found), 0);
    assert_int_equal(pace_counter(&pace, COUNTER_LOG_DROPPED), 0);
    pace_fini(&pace);
    pace_lacks_jobs = false;
    assert_int_equal(pace_lines(access_fd, "\"-\" 505 ", &found), 3);
    assert_int_equal(found, 1);
    assert_int_equal(pace_lines(fd, ": 505 ", &found), 1);
    assert_int_equal(found, 1);
    close(access_fd);
    close(fd);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_that_is_not_taken_is_no_idleness),
        cmocka_unit_test(a_long_download_is_no_idleness),
        cmocka_unit_test(a_head_behind_an_answer_waits_for_it),
        cmocka_unit_test(a_head_behind_an_answer_has_one_deadline),
        cmocka_unit_test(a_drain_cuts_off_no_download),
        cmocka_unit_test(the_last_answer_has_the_patience_of_every_other),
        cmocka_unit_test(the_last_answer_is_taken_or_lost),
        cmocka_unit_test(lines_without_a_job_wait),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("http_pace", tests, NULL, NULL) ? 1 : 0;
}
