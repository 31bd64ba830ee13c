// What the micro benchmarks measure, in C: each make() prepares, each run() does it once. The C++
// beside it only repeats and times them.
#ifndef MICRO_H
#define MICRO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// A ring of the benchmark's own, with nothing between it and the kernel. NULL where the kernel has
// no DEFER_TASKRUN (before 6.1) or forbids rings.
struct micro_ring;
struct micro_ring *micro_ring_create(uint32_t entries);
void micro_ring_destroy(struct micro_ring *ring);
// Prepares, submits and reaps so many NOPs with one call of the kernel. False: it failed.
bool micro_ring_nops(struct micro_ring *ring, uint32_t count);

// A loop with a listener and a connection to it over loopback. NULL: it could not be made.
struct micro_pair;
struct micro_pair *micro_pair_create(const char *engine, size_t size);
void micro_pair_destroy(struct micro_pair *pair);
// One message there and its echo back. False: the connection ended.
bool micro_pair_echo(struct micro_pair *pair);
// Starts and stops a timer among a thousand others.
void micro_pair_timer(struct micro_pair *pair);
// Posts a function to the loop and lets it run. False: the loop ended.
bool micro_pair_post(struct micro_pair *pair);
// A turn that finds nothing. False: the loop ended.
bool micro_pair_idle_turn(struct micro_pair *pair);

// The load's own work: recording a latency, and comparing a reply of the size with its pattern.
struct micro_load;
struct micro_load *micro_load_create(size_t size);
void micro_load_destroy(struct micro_load *load);
void micro_load_record(struct micro_load *load);
bool micro_load_compare(const struct micro_load *load);

#ifdef __cplusplus
}
#endif

#endif
