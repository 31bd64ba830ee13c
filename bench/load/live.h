// The live line: once a second the rate, percentiles of that second and errors, on standard error,
// if that is a terminal.
#ifndef LOAD_LIVE_H
#define LOAD_LIVE_H

#include "worker.h"

struct live {
    bool shown;
    bool asked; // the workers were asked for snapshots
    uint64_t due_ns;
    uint64_t printed_ns;
    struct histogram *before, *now, *second; // second: the difference
};

// -ENOMEM.
int live_init(struct live *live);
void live_fini(struct live *live);

// When to call live_update next, at most until_ns.
uint64_t live_next(const struct live *live, uint64_t now_ns, uint64_t until_ns);

// Asks the workers, or prints what they answered.
void live_update(struct live *live, struct worker *workers, uint32_t count, uint64_t now_ns);

// Wipes the line.
void live_end(struct live *live);

#endif
