// The timer wheel. A tick is a millisecond, and a timer belongs to the first tick that is not
// before its time: it never runs early. `tick` T means that every timer of a tick up to T has run.
//
// A timer of tick D stands in the first level L where D - T fits below 64^(L+1); its slot there is
// D / 64^L modulo 64. So the slots of a level, counted from the one after T's, are the next 64
// blocks of 64^L ticks, each exactly once. When T enters a block of level 1 or more, the block's
// timers move inward. Between two occupied slots nothing happens, so the wheel jumps there: an hour
// of silence costs one step. Within one tick the order is not defined.
#include <assert.h>
#include <string.h>

#include "loop.h"

enum { TIMER_LEVEL_BITS = 6, TIMER_TICK_NS = 1000000 };

static const uint64_t timer_span_max = (1ull << (TIMER_LEVEL_BITS * WHEEL_LEVELS)) - 1;

static uint64_t timer_due_tick(const struct weir_timer *timer)
{
    return timer->due_ns / TIMER_TICK_NS + (timer->due_ns % TIMER_TICK_NS != 0);
}

static uint32_t timer_slot_index(uint64_t tick, uint32_t level)
{
    return (uint32_t)(tick >> (TIMER_LEVEL_BITS * level)) & (WHEEL_SLOTS - 1);
}

static uint32_t timer_level(uint64_t delta)
{
    uint32_t level = 0;

    while (delta >> (TIMER_LEVEL_BITS * (level + 1)))
        level++;
    return level;
}

// Links a timer for its tick, or for `earliest` when that is later. One beyond the wheel's range
// waits in the farthest slot of the last level.
static void timer_place(struct timer_wheel *wheel, struct weir_timer *timer, uint64_t earliest)
{
    uint64_t tick = timer_due_tick(timer);
    uint32_t level, index;
    struct weir_timer **head;

    if (tick < earliest)
        tick = earliest;
    if (tick - wheel->tick > timer_span_max)
        tick = wheel->tick + timer_span_max;
    level = timer_level(tick - wheel->tick);
    index = timer_slot_index(tick, level);
    head = &wheel->slots[level][index];
    timer->next = *head;
    if (timer->next)
        timer->next->link = &timer->next;
    timer->link = head;
    *head = timer;
    wheel->occupied[level] |= 1ull << index;
}

// The link of a slot's first timer lies in the wheel itself: that tells which slot became empty.
static void timer_unlink(struct timer_wheel *wheel, struct weir_timer *timer)
{
    uintptr_t offset = (uintptr_t)timer->link - (uintptr_t)wheel->slots;

    *timer->link = timer->next;
    if (timer->next) {
        timer->next->link = timer->link;
    } else if (offset < sizeof(wheel->slots)) {
        uint32_t slot = (uint32_t)(offset / sizeof(wheel->slots[0][0]));

        wheel->occupied[slot / WHEEL_SLOTS] &= ~(1ull << (slot % WHEEL_SLOTS));
    }
    timer->next = NULL;
    timer->link = NULL;
}

// The first tick at which a level's next occupied slot begins, or UINT64_MAX.
static uint64_t timer_next_tick(const struct timer_wheel *wheel, uint32_t level)
{
    uint64_t occupied = wheel->occupied[level];
    uint64_t block = (wheel->tick >> (TIMER_LEVEL_BITS * level)) + 1;
    uint32_t first = (uint32_t)block & (WHEEL_SLOTS - 1);

    if (!occupied)
        return UINT64_MAX;
    if (first)
        occupied = occupied >> first | occupied << (WHEEL_SLOTS - first);
    return (block + (uint32_t)__builtin_ctzll(occupied)) << (TIMER_LEVEL_BITS * level);
}

static uint64_t timer_next_tick_of_all(const struct timer_wheel *wheel)
{
    uint64_t next = UINT64_MAX;

    for (uint32_t level = 0; level < WHEEL_LEVELS; level++) {
        uint64_t tick = timer_next_tick(wheel, level);

        if (tick < next)
            next = tick;
    }
    return next;
}

// The wheel has just entered `tick`: the blocks that begin there move inward.
static void timer_cascade(struct timer_wheel *wheel)
{
    for (uint32_t level = WHEEL_LEVELS - 1; level > 0; level--) {
        uint32_t index = timer_slot_index(wheel->tick, level);
        struct weir_timer *timer = wheel->slots[level][index];

        if (wheel->tick & ((1ull << (TIMER_LEVEL_BITS * level)) - 1))
            continue;
        wheel->slots[level][index] = NULL;
        wheel->occupied[level] &= ~(1ull << index);
        while (timer) {
            struct weir_timer *next = timer->next;

            timer_place(wheel, timer, wheel->tick);
            timer = next;
        }
    }
}

// One at a time from the slot's head, because a function may stop the others. What it starts lands
// in a later tick, and the slot of this tick takes only timers of this tick until then.
static uint32_t timer_run_slot(struct timer_wheel *wheel, struct weir_loop *loop)
{
    struct weir_timer **head = &wheel->slots[0][timer_slot_index(wheel->tick, 0)];
    uint32_t count = 0;

    while (*head) {
        struct weir_timer *timer = *head;

        wheel_stop(wheel, timer);
        timer->function(loop, timer);
        count++;
    }
    return count;
}

void wheel_init(struct timer_wheel *wheel, uint64_t now_ns)
{
    memset(wheel, 0, sizeof(*wheel));
    wheel->tick = now_ns / TIMER_TICK_NS;
}

void wheel_start(struct timer_wheel *wheel, struct weir_timer *timer, uint64_t due_ns)
{
    assert(timer->function);
    wheel_stop(wheel, timer);
    timer->due_ns = due_ns;
    timer_place(wheel, timer, wheel->tick + 1);
    wheel->count++;
}

void wheel_stop(struct timer_wheel *wheel, struct weir_timer *timer)
{
    if (!timer->link)
        return;
    timer_unlink(wheel, timer);
    wheel->count--;
}

uint64_t wheel_deadline(const struct timer_wheel *wheel)
{
    return wheel->count ? timer_next_tick_of_all(wheel) * TIMER_TICK_NS : WEIR_NEVER;
}

uint32_t wheel_run(struct timer_wheel *wheel, struct weir_loop *loop, uint64_t now_ns)
{
    uint64_t now = now_ns / TIMER_TICK_NS;
    uint32_t count = 0;

    while (wheel->tick < now) {
        uint64_t next = timer_next_tick_of_all(wheel);

        if (next > now) {
            wheel->tick = now;
            break;
        }
        wheel->tick = next;
        timer_cascade(wheel);
        count += timer_run_slot(wheel, loop);
    }
    return count;
}

// The clock is read afresh: counted from the start of the turn, a timer that a long callback starts
// would run early.
void weir_timer_start(struct weir_loop *loop, struct weir_timer *timer, uint64_t delay_ns)
{
    uint64_t now_ns = loop->system->clock(loop->system_state);

    wheel_start(&loop->wheel, timer,
                delay_ns < WEIR_NEVER - now_ns ? now_ns + delay_ns : WEIR_NEVER);
}

void weir_timer_stop(struct weir_loop *loop, struct weir_timer *timer)
{
    wheel_stop(&loop->wheel, timer);
}
