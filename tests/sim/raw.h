// A run with one client that sends given bytes, whatever they are: for fuzzers. What must hold of a
// run holds, and what the server says must have its form.
#ifndef SIM_RAW_H
#define SIM_RAW_H

#include "run.h"

// The first byte is the run's seed; the rest is sent.
bool run_raw(struct run *run, const struct run_protocol *protocol, const uint8_t *data,
             size_t size);

// raw.c: the client of such a run, and what must hold of the files.
void run_raw_draw(struct client *client);
void run_raw_check(struct run *run);

#endif
