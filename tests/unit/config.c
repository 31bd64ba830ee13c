// What a loop and a listener refuse before they exist.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <weir.h>

static char config_said[256];

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_number_out_of_its_range_is_refused),
        cmocka_unit_test(a_listener_that_nobody_serves_is_refused),
    };
    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
