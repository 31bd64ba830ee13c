// Looking for work before sleeping, as long as it pays.
//
// Who waits for each answer before asking again comes back within some tens of microseconds, and to
// wake a processor that went to sleep meanwhile can take as long again. So a loop whose last events
// were all of one or two peers looks a while before it sleeps. Where nothing comes in that time, it
// looks more and more seldom: after one look in vain every second wait does, after ten in a row one
// wait in 1,024. A loop with more peers is never idle for long, and does not look at all.
#ifndef WEIR_LOOKOUT_H
#define WEIR_LOOKOUT_H

#include <stdbool.h>
#include <stdint.h>

struct completion;

struct lookout {
    uint64_t most_ns;  // a look's length; 0: never
    uint32_t slots[2]; // whose events came last
    uint32_t hits;     // turns in a row whose events were theirs, up to a bound
    uint32_t failures; // looks in vain in a row, up to a bound
    uint32_t skips;    // so many more waits without a look
};

// How long the next wait may look.
uint64_t lookout_begin(struct lookout *lookout);
// It did, and something came, or nothing.
void lookout_end(struct lookout *lookout, bool in_vain);
// What a turn brought.
void lookout_learn(struct lookout *lookout, const struct completion *completions, int count);

#endif
