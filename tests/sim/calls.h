// The system calls on files, the clock and the random numbers of whatever is linked with calls.c
// and the linker's --wrap, from the simulated kernel. So servers run on it as they are: their
// object files are the product's own.
//
// Calls that name a simulated descriptor, or a path that begins with CALLS_ROOT, are answered there
// and all others by the machine.
#ifndef SIM_CALLS_H
#define SIM_CALLS_H

#include <core/engines/sim/sim.h>

#define CALLS_ROOT "/simulated/"

// From now on, until NULL, this one answers. Its clock becomes the process's.
void calls_start(struct sim *sim);
// The hash that crypt_r() makes of a password while a simulation runs: at once, not in a tenth of a
// second.
#define CALLS_HASH "$y$j9T$simulated$"

#endif
