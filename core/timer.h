// A hierarchical timer wheel: four levels of 64 slots of 1, 64, 4096 and 262144 ms; later timers
// wait in the last level and move inward. Start and stop take constant time.
#ifndef WEIR_TIMER_H
#define WEIR_TIMER_H

#include "weir.h"

enum { WHEEL_LEVELS = 4, WHEEL_SLOTS = 64 };

struct timer_wheel {
    struct weir_timer *slots[WHEEL_LEVELS][WHEEL_SLOTS];
    uint64_t occupied[WHEEL_LEVELS]; // a bit per slot
    uint64_t tick;                   // the millisecond up to which the wheel has run
    uint32_t count;
};

void wheel_init(struct timer_wheel *wheel, uint64_t now_ns);
void wheel_start(struct timer_wheel *wheel, struct weir_timer *timer, uint64_t due_ns);
void wheel_stop(struct timer_wheel *wheel, struct weir_timer *timer);
// When wheel_run has something to do next, or WEIR_NEVER. May be early, never late.
uint64_t wheel_deadline(const struct timer_wheel *wheel);
// Runs what is due; a function may start and stop any timer. Returns how many ran.
uint32_t wheel_run(struct timer_wheel *wheel, struct weir_loop *loop, uint64_t now_ns);

#endif
