// Constant and Poisson arrivals.
#include "schedule.h"

#include <math.h>

#include "random.h"

static void schedule_set(struct schedule *schedule)
{
    schedule->next_ns = schedule->start_ns + (uint64_t)schedule->elapsed_ns;
}

void schedule_init(struct schedule *schedule, enum arrivals arrivals, double rate, uint32_t thread,
                   uint32_t threads, uint64_t seed, uint64_t start_ns)
{
    *schedule = (struct schedule){
        .arrivals = arrivals,
        .start_ns = start_ns,
        .random = seed + (uint64_t)thread * UINT64_C(0xd1342543de82ef95),
        .interval_ns = 1e9 * threads / rate,
        .phase_ns = 1e9 * thread / rate,
        .elapsed_ns = 1e9 * thread / rate,
    };
    if (arrivals == ARRIVALS_POISSON) {
        schedule->elapsed_ns = 0;
        schedule_advance(schedule);
    }
    schedule_set(schedule);
}

void schedule_advance(struct schedule *schedule)
{
    switch (schedule->arrivals) {
    case ARRIVALS_CONSTANT: // multiplied, not added up: no drift
        schedule->index++;
        schedule->elapsed_ns = schedule->phase_ns + (double)schedule->index * schedule->interval_ns;
        break;
    case ARRIVALS_POISSON:
        schedule->elapsed_ns -= log(random_fraction(&schedule->random)) * schedule->interval_ns;
        break;
    }
    schedule_set(schedule);
}
