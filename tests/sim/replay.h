// The command that plays a seed again, for whoever meets one that fails.
#ifndef SIM_REPLAY_H
#define SIM_REPLAY_H

#include "run.h"

// Plays the seed; if an assertion or a crash ends the program, the command is printed first.
bool replay_seed(struct run *run, const struct run_protocol *protocol, uint64_t seed, FILE *trace);
// Prints what did not hold, and the command.
void replay_explain(const struct run *run, FILE *file);

#endif
