// When the requests of an open loop should leave, fixed by the seed before the first one does.
//
// The schedule is also the waiting line: a request that finds no free connection is simply not
// taken yet, and keeps its intended time. So the line is exact, unbounded and takes no memory.
#ifndef LOAD_SCHEDULE_H
#define LOAD_SCHEDULE_H

#include <stdint.h>

enum arrivals { ARRIVALS_CONSTANT, ARRIVALS_POISSON };

struct schedule {
    enum arrivals arrivals;
    uint64_t start_ns;
    uint64_t next_ns; // the intended time of the next request
    uint64_t random;
    double elapsed_ns;  // from the start to next_ns
    double interval_ns; // the mean between two requests of one thread
    double phase_ns;    // constant: of this thread's first request
    uint64_t index;     // constant: requests taken
};

// The share of thread `thread` of `threads` in `rate` requests per second, from start_ns on. With
// constant arrivals the threads take turns, so all together are evenly spaced; independent Poisson
// arrivals add up to Poisson arrivals.
void schedule_init(struct schedule *schedule, enum arrivals arrivals, double rate, uint32_t thread,
                   uint32_t threads, uint64_t seed, uint64_t start_ns);

// Takes the next request: next_ns moves on.
void schedule_advance(struct schedule *schedule);

#endif
