// The timer wheel, against a list that is searched from end to end.
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "loop.h"

#include <cmocka.h>

enum { TIMERS = 200, MILLISECOND = 1000000 };

static const uint64_t hour_ns = 3600ull * 1000 * MILLISECOND;

struct world;

// A timer and what the model knows about it.
struct model {
    struct weir_timer timer; // first: a timer's address is its model's
    struct world *world;
    bool active;
    uint64_t due_ns;
    uint32_t runs;
};

struct world {
    struct timer_wheel wheel;
    struct model models[TIMERS];
    uint64_t now_ns;
    uint64_t random;
    bool busy; // the functions start and stop timers at random
};

static uint64_t world_random(struct world *world)
{
    world->random ^= world->random << 13;
    world->random ^= world->random >> 7;
    world->random ^= world->random << 17;
    return world->random;
}

// Delays and jumps of every scale, from nanoseconds to a day: most of them short.
static uint64_t world_random_span(struct world *world)
{
    static const uint64_t scales[] = { 1000,
                                       MILLISECOND,
                                       10 * MILLISECOND,
                                       100ull * MILLISECOND,
                                       5000ull * MILLISECOND,
                                       300000ull * MILLISECOND,
                                       20000000ull * MILLISECOND,
                                       86400000ull * MILLISECOND };

    return world_random(world) % (scales[world_random(world) % 8] + 1);
}

static void world_start(struct world *world, struct model *model, uint64_t due_ns)
{
    model->active = true;
    model->due_ns = due_ns;
    wheel_start(&world->wheel, &model->timer, due_ns);
}

static void world_stop(struct world *world, struct model *model)
{
    model->active = false;
    wheel_stop(&world->wheel, &model->timer);
}

static void world_act(struct world *world)
{
    struct model *model = &world->models[world_random(world) % TIMERS];

    if (world_random(world) % 3)
        world_start(world, model, world->now_ns + world_random_span(world));
    else
        world_stop(world, model);
}

// A function runs only for a timer that the model holds to be running, and never early.
static void world_timer_ran(struct weir_loop *loop, struct weir_timer *timer)
{
    struct model *model = (struct model *)timer;
    struct world *world = model->world;

    assert_null(loop);
    assert_true(model->active);
    assert_true(model->due_ns <= world->now_ns);
    model->active = false;
    model->runs++;
    for (uint64_t i = world->busy ? world_random(world) % 3 : 0; i > 0; i--)
        world_act(world);
    if (world->busy && world_random(world) % 4 == 0)
        world_start(world, model, world->now_ns + world_random_span(world));
}

static struct world *world_create(uint64_t now_ns, uint64_t seed)
{
    struct world *world = calloc(1, sizeof(*world));

    assert_non_null(world);
    world->now_ns = now_ns;
    world->random = seed;
    wheel_init(&world->wheel, now_ns);
    for (int i = 0; i < TIMERS; i++) {
        world->models[i].world = world;
        world->models[i].timer.function = world_timer_ran;
    }
    return world;
}

static void world_run(struct world *world, uint64_t now_ns)
{
    world->now_ns = now_ns;
    wheel_run(&world->wheel, NULL, now_ns);
}

// What must hold after each run: nobody is a millisecond late, the count is right, and the deadline
// lies ahead but not behind the first timer's tick.
static void world_check(const struct world *world)
{
    uint64_t first_ns = UINT64_MAX, deadline_ns = wheel_deadline(&world->wheel);
    uint32_t count = 0;

    for (int i = 0; i < TIMERS; i++) {
        const struct model *model = &world->models[i];

        assert_int_equal(model->active, model->timer.link != NULL);
        if (!model->active)
            continue;
        assert_true(model->due_ns + MILLISECOND > world->now_ns);
        first_ns = model->due_ns < first_ns ? model->due_ns : first_ns;
        count++;
    }
    assert_int_equal(world->wheel.count, count);
    if (!count) {
        assert_true(deadline_ns == WEIR_NEVER);
        return;
    }
    assert_true(deadline_ns > world->now_ns);
    assert_true(deadline_ns <= first_ns + MILLISECOND);
}

// Over random starts, stops and clock jumps up to a day, with functions that start and stop timers
// themselves, exactly the timers that are due run, none early and none a millisecond late.
static void wheel_agrees_with_a_list(void **state)
{
    enum { SEEDS = 20, STEPS = 3000 };
    uint64_t runs = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct world *world = world_create(seed * 123456789012345ull, seed * 0x9e3779b97f4a7c15ull);

        world->busy = seed % 2;
        for (int step = 0; step < STEPS; step++) {
            for (uint64_t i = world_random(world) % 4; i > 0; i--)
                world_act(world);
            world_run(world, world->now_ns + world_random_span(world));
            world_check(world);
        }
        for (int i = 0; i < TIMERS; i++)
            runs += world->models[i].runs;
        free(world);
    }
    // The sequences did exercise the wheel.
    assert_true(runs > 10000);
}

// Sleeping from deadline to deadline runs a timer of any delay within its millisecond, after a
// handful of wakes, from any start.
static void deadlines_lead_to_the_timer(void **state)
{
    static const uint64_t ticks[] = {
        0,      1,      2,      63,    64,     65,     127,      128,      4095,     4096,    4097,
        262143, 262144, 262145, 99999, 300000, 777777, 16777215, 16777216, 16777217, 50000000
    };
    static const uint64_t starts_ns[] = {
        0, 1, 999999, 63000000, 64000000, 4095999999, 987654321987
    };

    (void)state;
    for (size_t i = 0; i < sizeof(ticks) / sizeof(ticks[0]) * 7; i++) {
        struct world *world = world_create(starts_ns[i % 7], 1);
        uint64_t due_ns = world->now_ns + ticks[i / 7] * MILLISECOND + i % 3;
        uint64_t wakes = 0;

        world_start(world, &world->models[0], due_ns);
        while (world->models[0].runs == 0) {
            world_run(world, wheel_deadline(&world->wheel));
            wakes++;
        }
        assert_in_range(world->now_ns, due_ns, due_ns + MILLISECOND);
        // Each wait in the last level covers at least 63 of its 64 slots.
        assert_in_range(wakes, 1, WHEEL_LEVELS + ticks[i / 7] / (63 * 262144));
        free(world);
    }
}

// A jump of many hours runs all that became due, including what waited beyond the wheel's range,
// and leaves the rest.
static void jump_forward_runs_all_that_is_due(void **state)
{
    struct world *world = world_create(5 * hour_ns + 1, 1);
    uint64_t start_ns = world->now_ns;

    (void)state;
    for (uint64_t i = 0; i < TIMERS; i++)
        world_start(world, &world->models[i], start_ns + i * hour_ns / 4);
    world_run(world, start_ns + 25 * hour_ns + MILLISECOND);
    for (uint32_t i = 0; i < TIMERS; i++)
        assert_int_equal(world->models[i].runs, i <= 100);
    world_check(world);
    world_run(world, start_ns + 1000 * hour_ns);
    for (uint32_t i = 0; i < TIMERS; i++)
        assert_int_equal(world->models[i].runs, 1);
    assert_true(wheel_deadline(&world->wheel) == WEIR_NEVER);
    free(world);
}

// A clock that stands still or goes back runs nothing and breaks nothing.
static void clock_that_goes_back_runs_nothing(void **state)
{
    struct world *world = world_create(10 * hour_ns, 1);

    (void)state;
    world_start(world, &world->models[0], world->now_ns + 5 * MILLISECOND);
    assert_int_equal(wheel_run(&world->wheel, NULL, world->now_ns), 0);
    assert_int_equal(wheel_run(&world->wheel, NULL, world->now_ns - hour_ns), 0);
    world_run(world, world->now_ns + 5 * MILLISECOND);
    assert_int_equal(world->models[0].runs, 1);
    free(world);
}

static void stop_all_others(struct weir_loop *loop, struct weir_timer *timer)
{
    struct model *model = (struct model *)timer;

    world_timer_ran(loop, timer);
    for (int i = 0; i < TIMERS; i++) {
        if (&model->world->models[i] != model)
            world_stop(model->world, &model->world->models[i]);
    }
}

// A function that stops all timers due in its own tick is the only one to run.
static void function_stops_timers_of_the_same_tick(void **state)
{
    struct world *world = world_create(hour_ns, 1);
    uint32_t runs = 0;

    (void)state;
    for (int i = 0; i < TIMERS; i++) {
        world->models[i].timer.function = stop_all_others;
        world_start(world, &world->models[i], hour_ns + 3 * MILLISECOND);
    }
    world_run(world, hour_ns + 10 * MILLISECOND);
    for (int i = 0; i < TIMERS; i++)
        runs += world->models[i].runs;
    assert_int_equal(runs, 1);
    world_check(world);
    free(world);
}

static void start_again_at_once(struct weir_loop *loop, struct weir_timer *timer)
{
    struct model *model = (struct model *)timer;

    world_timer_ran(loop, timer);
    world_start(model->world, model, model->world->now_ns);
}

// A timer that starts itself again without delay runs once per millisecond and does not hold the
// run.
static void timer_that_restarts_itself_lets_the_run_end(void **state)
{
    struct world *world = world_create(hour_ns, 1);

    (void)state;
    world->models[0].timer.function = start_again_at_once;
    world_start(world, &world->models[0], hour_ns);
    world_run(world, 2 * hour_ns);
    assert_in_range(world->models[0].runs, 1, 2);
    world->models[0].runs = 0;
    for (uint64_t i = 1; i <= 100; i++)
        world_run(world, 2 * hour_ns + i * MILLISECOND);
    assert_int_equal(world->models[0].runs, 100);
    free(world);
}

// Starting a running timer moves it: it runs once, at the later call's time.
static void start_moves_a_running_timer(void **state)
{
    struct world *world = world_create(0, 1);

    (void)state;
    world_start(world, &world->models[0], 5 * MILLISECOND);
    world_start(world, &world->models[0], 500ull * MILLISECOND);
    assert_int_equal(world->wheel.count, 1);
    world_run(world, 499ull * MILLISECOND);
    assert_int_equal(world->models[0].runs, 0);
    world_start(world, &world->models[0], 501ull * MILLISECOND);
    world_run(world, 1000ull * MILLISECOND);
    assert_int_equal(world->models[0].runs, 1);
    free(world);
}

static uint64_t fake_clock(void *state)
{
    return *(uint64_t *)state;
}

static void count_run(struct weir_loop *loop, struct weir_timer *timer)
{
    (void)timer;
    loop->turn_index++;
}

// The public start counts its delay from the clock's now, not from the start of the turn, and a
// delay of forever does not wrap around.
static void public_start_counts_from_the_clock(void **state)
{
    uint64_t clock_ns = hour_ns;
    const struct system system = { .clock = fake_clock };
    struct weir_loop *loop = calloc(1, sizeof(*loop));
    struct weir_timer timer = { .function = count_run }, never = { .function = count_run };

    (void)state;
    assert_non_null(loop);
    loop->system = &system;
    loop->system_state = &clock_ns;
    wheel_init(&loop->wheel, clock_ns);
    loop->now_ns = clock_ns;
    clock_ns += 50ull * MILLISECOND;
    weir_timer_start(loop, &timer, 10 * MILLISECOND);
    weir_timer_start(loop, &never, WEIR_NEVER);
    assert_int_equal(wheel_run(&loop->wheel, loop, hour_ns + 59ull * MILLISECOND), 0);
    assert_int_equal(wheel_run(&loop->wheel, loop, hour_ns + 60ull * MILLISECOND), 1);
    assert_int_equal(loop->turn_index, 1);
    assert_int_equal(wheel_run(&loop->wheel, loop, 10000 * hour_ns), 0);
    weir_timer_stop(loop, &never);
    weir_timer_stop(loop, &never);
    assert_int_equal(loop->wheel.count, 0);
    free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wheel_agrees_with_a_list),
        cmocka_unit_test(deadlines_lead_to_the_timer),
        cmocka_unit_test(jump_forward_runs_all_that_is_due),
        cmocka_unit_test(clock_that_goes_back_runs_nothing),
        cmocka_unit_test(function_stops_timers_of_the_same_tick),
        cmocka_unit_test(timer_that_restarts_itself_lets_the_run_end),
        cmocka_unit_test(start_moves_a_running_timer),
        cmocka_unit_test(public_start_counts_from_the_clock),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
