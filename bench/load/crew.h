// The crew: all workers of a run, started and stopped together, and the sum of their results.
#ifndef LOAD_CREW_H
#define LOAD_CREW_H

#include <signal.h>

#include "worker.h"

struct crew_result {
    const struct options *options;
    const struct worker *workers;
    struct worker_result sum; // begin and end are unused: see the workers and `stats`
    struct weir_stats stats;  // of all loops, over the measured window
    uint32_t turns;           // that counted
    uint64_t started_unix_ns;
    uint64_t measured_ns;
    uint64_t drained_ns;
    uint32_t connected; // when the run started
    uint32_t open_at_end;
    double user_s, system_s; // of the whole process, over the measured window
    bool interrupted;
};

struct crew;

// Starts the workers and runs them to the end; with --turns, as standard input says, and with a
// line of JSON on standard output for each turn. `signals` are blocked in the caller: the first one
// ends the run early, the second one its drain. An error was written as one line into ret_error:
// nothing could be started or connected; -EINVAL means that the loops refuse the options.
int crew_run(const struct options *options, const struct payload *payload, const sigset_t *signals,
             struct crew **ret_crew, char ret_error[OPTIONS_ERROR_SIZE]);

// The results live as long as the crew.
const struct crew_result *crew_result(const struct crew *crew);

// Closes the connections and ends the threads. NULL is allowed.
void crew_destroy(struct crew *crew);

#endif
