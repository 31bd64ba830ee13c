// A fuzz target is one function over some bytes. libFuzzer calls it with bytes that it makes up;
// replay.c calls it with files. It aborts when something does not hold.
#ifndef FUZZ_TARGET_H
#define FUZZ_TARGET_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

// libFuzzer's name for it. Returns 0.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// What must hold, in any build.
static inline void fuzz_require(int holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "fuzz: %s\n", what);
    abort();
}

#endif
