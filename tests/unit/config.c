// What a loop and a listener refuse before they exist.
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <weir.h>

static char config_said[2048];

static void config_log(void *context, enum weir_log_level level, const char *text)
{
    (void)context;
    if (level == WEIR_LOG_ERROR)
        strncpy(config_said, text, sizeof config_said - 1);
}

// A loop with the field `name` out of its range is refused, and the log says which it was.
static void config_refuses(struct weir_loop_config config, const char *name)
{
    struct weir_loop *loop = NULL;
    config.engine = config.engine ? config.engine : WEIR_ENGINE_EPOLL;
    config.log = config_log;
    memset(config_said, 0, sizeof config_said);
    assert_int_equal(weir_loop_create(&config, &loop), -EINVAL);
    assert_null(loop);
    assert_non_null(strstr(config_said, name));
}

// Each number has its range, and one that is outside of it makes no loop.
static void a_number_out_of_its_range_is_refused(void **state)
{
    struct weir_loop_config config, good;
    (void)state;
    weir_loop_config_init(&good);
    static const uint32_t streams[] = { 0, 1000001 }, counts[] = { 4, 9, 65536 },
                          sizes[] = { 0, 5000, 131072 }, threads[] = { 0, 65 };
    for (size_t i = 0; i < 2; i++) {
        config = good;
        config.streams_max = streams[i];
        config_refuses(config, "streams_max");
        config = good;
        config.job_threads = threads[i];
        config_refuses(config, "job_threads");
    }
    for (size_t i = 0; i < 3; i++) {
        config = good;
        config.buffer_count = counts[i];
        config_refuses(config, "buffer_count");
        config = good;
        config.buffer_size = sizes[i];
        config_refuses(config, "buffer_size");
    }
    config = good;
    config.send_low = good.send_high;
    config_refuses(config, "send_low");
    config = good;
    config.engine = WEIR_ENGINE_BLOCKING + 1;
    config_refuses(config, "engine");
    config = good;
    config.send_high = UINT32_MAX;
    config_refuses(config, "send_high");
}

// A listener needs a protocol; with the blocking engine also a server, or an end.
static void a_listener_that_nobody_serves_is_refused(void **state)
{
    static const struct weir_protocol protocol = { .name = "none" };
    struct weir_listener_config nobody = { 0 }, endless = { .protocol = &protocol };
    struct weir_loop_config config;
    struct weir_listener *listener = NULL;
    struct weir_address address;
    struct weir_loop *loop;
    (void)state;
    weir_loop_config_init(&config);
    config.engine = WEIR_ENGINE_BLOCKING;
    assert_int_equal(weir_address_parse("127.0.0.1:0", &address), 0);
    assert_int_equal(weir_loop_create(&config, &loop), 0);
    assert_int_equal(weir_listener_open(loop, &address, &nobody, &listener), -EINVAL);
    assert_int_equal(weir_listener_open(loop, &address, &endless, &listener), -EINVAL);
    assert_null(listener);
    weir_loop_destroy(loop);
}

// A server's threads may stand on CPUs that the kernel's set has room for, and on no others.
static void a_cpu_beyond_the_set_is_refused(void **state)
{
    static const uint16_t cpus[] = { 0, 1024 };
    struct weir_server_config config;
    struct weir_server *server = NULL;
    (void)state;
    weir_server_config_init(&config);
    config.loop.log = config_log;
    config.cpus = cpus;
    config.cpus_count = 2;
    memset(config_said, 0, sizeof config_said);
    assert_int_equal(weir_server_create(&config, &server), -EINVAL);
    assert_null(server);
    assert_non_null(strstr(config_said, "cpus"));
}

struct config_operation {
    struct weir_operation operation;
    int64_t result;
    uint32_t done;
};

static void config_operation_done(struct weir_operation *operation, int64_t result)
{
    struct config_operation *told = (struct config_operation *)operation;
    told->result = result;
    told->done++;
}

// Each listener has one, and there are more places than a soft limit usually allows.
static void config_raise_descriptors(void)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

enum { CONFIG_LISTENERS_MAX = 100000 };

// A loop has places for its streams, listeners and operations. When all are taken, a listener and a
// connection are refused at once, and an operation by its callback; nothing is left over.
static void a_loop_without_places_refuses(void **state)
{
    static const struct weir_protocol protocol = { .name = "none" };
    const struct weir_listener_config listens = { .protocol = &protocol };
    const struct weir_connect_config connects = { .protocol = &protocol };
    struct weir_loop_config config;
    struct weir_listener *listener;
    struct weir_address address, bound;
    struct weir_stream *stream = NULL;
    struct weir_loop *loop;
    struct weir_file *file = NULL;
    int error = 0, count = 0;
    (void)state;
    config_raise_descriptors();
    weir_loop_config_init(&config);
    config.engine = WEIR_ENGINE_EPOLL;
    config.streams_max = 1;
    assert_int_equal(weir_address_parse("127.0.0.1:0", &address), 0);
    assert_int_equal(weir_loop_create(&config, &loop), 0);
    assert_int_equal(weir_listener_open(loop, &address, &listens, &listener), 0);
    weir_listener_address(listener, &bound);
    while (!error && count++ < CONFIG_LISTENERS_MAX)
        error = weir_listener_open(loop, &address, &listens, &listener);
    assert_int_equal(error, -ENOSPC);
    assert_int_equal(weir_stream_connect(loop, &bound, &connects, &stream), -ENOSPC);
    assert_null(stream);
    struct config_operation opening = { .operation.done = config_operation_done };
    weir_file_open(loop, &opening.operation, AT_FDCWD, "/dev/null", O_RDONLY, 0, 0, &file);
    for (int turns = 0; !opening.done && turns < 100; turns++)
        assert_true(weir_loop_turn(loop, weir_clock_now() + 1000000000) >= 0);
    assert_int_equal(opening.done, 1);
    assert_int_equal(opening.result, -ENOSPC);
    assert_null(file);
    weir_loop_destroy(loop);
}

// --- The engine that `auto` means ----------------------------------------------------------------

enum { CONFIG_UID = 65531, CONFIG_COUNTED = 0, CONFIG_NOT_COUNTED = 1, CONFIG_WRONG = 2 };

// The whole log of a child.
static void config_log_all(void *context, enum weir_log_level level, const char *text)
{
    (void)context;
    (void)level;
    size_t used = strlen(config_said);
    snprintf(config_said + used, sizeof config_said - used, "%s\n", text);
}

// An ordinary user who may lock so many bytes.
static bool config_lock_at_most(rlim_t size)
{
    const struct rlimit limit = { size, size };
    return !setrlimit(RLIMIT_MEMLOCK, &limit) &&
           (geteuid() || (!setresgid(CONFIG_UID, CONFIG_UID, CONFIG_UID) &&
                          !setresuid(CONFIG_UID, CONFIG_UID, CONFIG_UID)));
}

// What a child makes of it. One in which rings are not counted tells nothing.
static void config_in_child(int (*play)(void))
{
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(play());
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == CONFIG_NOT_COUNTED) {
        print_message("this kernel has no io_uring, or does not count its rings as locked\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), CONFIG_COUNTED);
}

// What a child ends with whose machine should have had no room for its rings.
static int config_judge(const char *engine, uint64_t fallbacks, const char *said)
{
    if (strcmp(engine, "epoll") != 0)
        return CONFIG_NOT_COUNTED;
    return strstr(config_said, said) && fallbacks == 1 ? CONFIG_COUNTED : CONFIG_WRONG;
}

// Room for the probes' rings of eight entries, and for none of a loop's.
static int config_play_loop(void)
{
    struct weir_loop_config config;
    struct weir_loop *loop;
    struct weir_stats stats;
    if (!config_lock_at_most(64 * 1024))
        return CONFIG_WRONG;
    if (weir_uring_available(NULL, 0))
        return CONFIG_NOT_COUNTED;
    weir_loop_config_init(&config);
    config.log = config_log_all;
    if (weir_loop_create(&config, &loop))
        return CONFIG_WRONG;
    weir_loop_stats(loop, &stats);
    int status =
        config_judge(weir_loop_engine(loop), stats.fallbacks, "using epoll: memlock: only 64 KiB");
    weir_loop_destroy(loop);
    return status;
}

// `auto` is epoll where the machine has io_uring and no room for the ring, and says why.
static void auto_without_room_for_a_ring_is_epoll(void **state)
{
    (void)state;
    config_in_child(config_play_loop);
}

// Room for the rings of some of the threads.
static int config_play_server(void)
{
    struct weir_server_config config;
    struct weir_server *server;
    struct weir_stats stats;
    if (!config_lock_at_most(1024 * 1024))
        return CONFIG_WRONG;
    if (weir_uring_available(NULL, 0))
        return CONFIG_NOT_COUNTED;
    weir_server_config_init(&config);
    config.loop.log = config_log_all;
    config.loop.min_wait_ns = 1000; // which only uring has
    config.threads = 16;
    if (weir_server_create(&config, &server))
        return CONFIG_WRONG;
    weir_server_stats(server, &stats);
    int status = config_judge(weir_server_engine(server), stats.fallbacks,
                              "using epoll without min_wait_ns: memlock");
    weir_server_destroy(server);
    return status;
}

// The threads of a server have one engine: where some of them have no room for a ring, none has
// one.
static void auto_is_one_engine_for_all_threads(void **state)
{
    (void)state;
    config_in_child(config_play_server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_number_out_of_its_range_is_refused),
        cmocka_unit_test(a_listener_that_nobody_serves_is_refused),
        cmocka_unit_test(a_cpu_beyond_the_set_is_refused),
        cmocka_unit_test(a_loop_without_places_refuses),
        cmocka_unit_test(auto_without_room_for_a_ring_is_epoll),
        cmocka_unit_test(auto_is_one_engine_for_all_threads),
    };
    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
