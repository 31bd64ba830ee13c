// Memory that runs out at a chosen moment, for the code under test.
//
// A program that links shortage.c with the linker's --wrap gets malloc(), calloc() and mmap() of
// all its own objects counted here. The simulated kernel allocates in another way and is spared.
#ifndef SIM_SHORTAGE_H
#define SIM_SHORTAGE_H

#include <stdbool.h>
#include <stdint.h>

// The allocation number `first`, counted from 1 on, and the `count - 1` after it fail. 0: none.
void shortage_start(uint64_t first, uint64_t count);
// Ends it. Returns how many allocations there were since the start.
uint64_t shortage_stop(void);
// Whether an allocation has failed since the start.
bool shortage_struck(void);

#endif
