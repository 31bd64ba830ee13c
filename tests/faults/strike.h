// One call of a running server fails: the test that drives it says which, and how, in a page that
// both have mapped. Counted are the system calls and allocations of the server's own code, and what
// its rings are asked for.
#ifndef FAULTS_STRIKE_H
#define FAULTS_STRIKE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { STRIKE_ERRORS_MAX = 8 };

// What may fail, and the errors that it may have, as positive errno values; zeros fill the rest.
struct strike {
    const char *name;
    int errors[STRIKE_ERRORS_MAX];
};

enum { STRIKE_KINDS_MAX = 96, STRIKE_NAME_SIZE = 28 };

// Calls of one name since the page was armed.
struct strike_kind {
    char name[STRIKE_NAME_SIZE];
    uint32_t count;
};

// The page: walks.py reads and writes it as these fields.
struct strike_page {
    _Atomic uint32_t armed; // 0: nothing is counted
    uint32_t uncached;      // no name is in memory: what asks for that gets -EAGAIN
    uint32_t number;        // of the call of kind `name` that fails, counted from 1
    uint32_t choice;        // which of its errors it has
    uint32_t choices;       // how many it may have; 0: it has not failed yet
    int32_t error;
    char name[STRIKE_NAME_SIZE];
    struct strike_kind kinds[STRIKE_KINDS_MAX]; // those that were met, in any order
};

bool strike_is_uncached(void);

// Counts a call. The error that it must have, or 0.
int strike_error(const struct strike *strike);

#endif
