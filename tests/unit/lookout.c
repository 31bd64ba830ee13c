// When a loop looks for work before it sleeps.
#include "stream_fixture.h"

#include <sys/socket.h>
#include <unistd.h>

enum { LOOK_NS = 60000, TURNS = 100 };

// A turn that brings events of these slots; whether its wait looked before, in vain or not.
static bool turn(struct lookout *lookout, bool in_vain, enum operation operation,
                 const uint32_t *slots, int count)
{
    struct completion completions[8] = { 0 };
    uint64_t look_ns = lookout_begin(lookout);
    assert_true(look_ns == 0 || look_ns == lookout->most_ns);
    if (look_ns)
        lookout_end(lookout, in_vain);
    for (int i = 0; i < count; i++)
        completions[i].token = (uint64_t)operation << TOKEN_OPERATION_SHIFT | slots[i];
    lookout_learn(lookout, completions, count);
    return look_ns > 0;
}

static bool turn_of(struct lookout *lookout, uint32_t slot)
{
    return turn(lookout, false, OPERATION_RECEIVE, &slot, 1);
}

// After two turns of one stream each wait looks, and no more as soon as a third stream comes.
static void a_lone_stream_is_looked_for(void **state)
{
    struct lookout lookout = { .most_ns = LOOK_NS };
    (void)state;
    turn_of(&lookout, 7); // a stranger
    assert_false(turn_of(&lookout, 7));
    assert_false(turn_of(&lookout, 7));
    for (int i = 0; i < TURNS; i++)
        assert_true(turn_of(&lookout, 7));
    turn_of(&lookout, 8);
    assert_false(turn_of(&lookout, 9));
    assert_false(turn_of(&lookout, 7));
}

// Two streams in turn are looked for (a control and a data connection), three are not.
static void two_streams_are_looked_for_and_three_are_not(void **state)
{
    (void)state;
    for (uint32_t streams = 2; streams <= 3; streams++) {
        struct lookout lookout = { .most_ns = LOOK_NS };
        uint32_t looks = 0;
        for (uint32_t i = 0; i < TURNS; i++)
            looks += turn_of(&lookout, 10 + i % streams);
        assert_int_equal(looks, streams == 2 ? TURNS - 4 : 0);
    }
}

// A connection that comes is no stranger: one session after another is one peer. A turn that brings
// much, or many streams, is no lone peer's.
static void sessions_in_turn_are_looked_for_and_crowds_are_not(void **state)
{
    struct lookout lookout = { .most_ns = LOOK_NS };
    const uint32_t listener = 1, crowd[] = { 5, 6, 7, 8 }, much[] = { 5, 5, 5, 5, 5 };
    (void)state;
    for (int i = 0; i < 4; i++)
        turn_of(&lookout, 5);
    assert_true(turn(&lookout, false, OPERATION_ACCEPT, &listener, 1));
    assert_true(turn_of(&lookout, 5));
    turn(&lookout, false, OPERATION_RECEIVE, crowd, 4);
    assert_false(turn_of(&lookout, 8));
    for (int i = 0; i < 4; i++)
        turn_of(&lookout, 5);
    turn(&lookout, false, OPERATION_RECEIVE, much, 5);
    assert_false(turn_of(&lookout, 5));
}

// A turn without an event, of a timer or another thread's, changes nothing.
static void turns_without_events_change_nothing(void **state)
{
    struct lookout lookout = { .most_ns = LOOK_NS };
    (void)state;
    for (int i = 0; i < 4; i++)
        turn_of(&lookout, 5);
    assert_true(turn(&lookout, false, OPERATION_RECEIVE, NULL, 0));
    assert_true(turn(&lookout, false, OPERATION_RECEIVE, NULL, -4));
    assert_true(turn_of(&lookout, 5));
}

// Looks in vain become rare, one in 1,024 waits at the end; those that pay make them frequent
// again.
static void looks_in_vain_become_rare(void **state)
{
    struct lookout lookout = { .most_ns = LOOK_NS };
    const uint32_t slot = 5;
    uint32_t looks = 0;
    (void)state;
    for (int i = 0; i < 3000; i++)
        looks += turn(&lookout, true, OPERATION_RECEIVE, &slot, 1);
    assert_in_range(looks, 9, 12);
    for (int i = 0; i < 1024 + 32 + 4; i++)
        turn_of(&lookout, slot);
    for (int i = 0; i < TURNS; i++)
        assert_true(turn_of(&lookout, slot));
}

// Without a bound nothing is looked for.
static void without_a_bound_there_are_no_looks(void **state)
{
    struct lookout lookout = { .most_ns = 0 };
    (void)state;
    for (int i = 0; i < TURNS; i++)
        assert_false(turn_of(&lookout, 5));
}

// A wait that ends with what it submitted has not looked for anything: it neither counts as a look
// nor takes back that looks in vain become rare, however many of them come between two pauses.
static void waits_that_end_at_once_are_no_looks(void **state)
{
    enum { ROUNDS = 60, SENDS = 2, LOOKS_MAX = 12 };
    const struct variant uring = { "uring", WEIR_ENGINE_URING, "default,-quiet-sends" };
    struct fixture fixture;
    struct weir_stats stats;
    char byte, reason[256];
    (void)state;
    if (weir_uring_available(reason, sizeof reason))
        skip();
    stream_init(&fixture, &uring);
    fixture.config.adaptive_poll_ns = LOOK_NS;
    stream_start(&fixture);
    stream_listen(&fixture, &stream_quiet);
    int fd = stream_pair(&fixture);
    for (int round = 0; round < ROUNDS; round++) {
        assert_true(weir_loop_turn(fixture.loop, weir_clock_now() + 2 * LOOK_NS) >= 0);
        for (int i = 0; i < SENDS; i++) {
            weir_stream_send_static(fixture.streams[0], "x", 1);
            assert_true(weir_loop_turn(fixture.loop, weir_clock_now() + PATIENCE) >= 0);
            assert_int_equal(recv(fd, &byte, 1, 0), 1);
        }
    }
    weir_loop_stats(fixture.loop, &stats);
    assert_in_range(stats.looks, 1, LOOKS_MAX);
    assert_int_equal(stats.looks_in_vain, stats.looks);
    close(fd);
    stream_fini(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lone_stream_is_looked_for),
        cmocka_unit_test(two_streams_are_looked_for_and_three_are_not),
        cmocka_unit_test(sessions_in_turn_are_looked_for_and_crowds_are_not),
        cmocka_unit_test(turns_without_events_change_nothing),
        cmocka_unit_test(looks_in_vain_become_rare),
        cmocka_unit_test(without_a_bound_there_are_no_looks),
        cmocka_unit_test(waits_that_end_at_once_are_no_looks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
