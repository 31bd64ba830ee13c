// Calls that fail at a chosen moment, for the code under test: memory that runs out, and in
// tests/faults whatever else the kernel may refuse.
//
// A program that links shortage.c with the linker's --wrap gets malloc(), calloc() and mmap() of
// all its own objects counted here. The simulated kernel allocates in another way and is spared.
#ifndef SIM_SHORTAGE_H
#define SIM_SHORTAGE_H

#include <stdbool.h>
#include <stdint.h>

// The call number `first`, counted from 1 on, and the `count - 1` after it fail. 0: none.
void shortage_start(uint64_t first, uint64_t count);
// Ends it. Returns how many calls there were since the start.
uint64_t shortage_stop(void);
// Whether a call has failed since the start.
bool shortage_struck(void);
// What this thread calls from now on is not counted, or is again.
void shortage_spare(bool spare);
// Counts a call; true if it must fail. For further functions that are wrapped.
bool shortage_strikes(const char *function);
// The function whose call failed first.
const char *shortage_function(void);

#endif
