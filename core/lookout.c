// See lookout.h.
#include "lookout.h"

#include "loop.h"

enum {
    LOOKOUT_HITS_MIN = 2,      // turns of the same peers before the first look
    LOOKOUT_EVENTS_MAX = 4,    // a request, an answer that was sent, a connection that came or went
    LOOKOUT_FAILURES_MAX = 10, // then one wait of 1,024 looks
};

uint64_t lookout_begin(struct lookout *lookout)
{
    if (!lookout->most_ns || lookout->hits < LOOKOUT_HITS_MIN)
        return 0;
    if (lookout->skips) {
        lookout->skips--;
        return 0;
    }
    return lookout->most_ns;
}

void lookout_end(struct lookout *lookout, bool in_vain)
{
    if (!in_vain) {
        lookout->failures /= 2;
        return;
    }
    if (lookout->failures < LOOKOUT_FAILURES_MAX)
        lookout->failures++;
    lookout->skips = (1U << lookout->failures) - 1;
}

// Connections that come have no slot of their own yet, and often get that of the one before.
static bool lookout_knows(struct lookout *lookout, const struct completion *completion)
{
    uint32_t slot = (uint32_t)(completion->token & ((1U << TOKEN_SLOT_BITS) - 1));
    if (completion->token >> TOKEN_OPERATION_SHIFT == OPERATION_ACCEPT || slot == lookout->slots[0])
        return true;
    bool known = slot == lookout->slots[1];
    lookout->slots[1] = lookout->slots[0];
    lookout->slots[0] = slot;
    return known;
}

void lookout_learn(struct lookout *lookout, const struct completion *completions, int count)
{
    bool known = count <= LOOKOUT_EVENTS_MAX;
    for (int i = 0; i < count && known; i++)
        known = lookout_knows(lookout, &completions[i]);
    if (!known)
        lookout->hits = 0;
    else if (count > 0 && lookout->hits < LOOKOUT_HITS_MIN)
        lookout->hits++;
}
