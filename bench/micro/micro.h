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
// The parts of that: writes so many entries, hands them to the kernel, takes the completions.
void micro_ring_prepare(struct micro_ring *ring, uint32_t count);
bool micro_ring_enter(struct micro_ring *ring, uint32_t count);
bool micro_ring_reap(struct micro_ring *ring, uint32_t count);
// Gives so many receive buffers back to the kernel, which has a group of them. False: the kernel
// has no such groups (before 5.19).
bool micro_ring_give_buffers(struct micro_ring *ring);
bool micro_ring_recycle(struct micro_ring *ring, uint32_t count);

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

// Answers with a file of `size` bytes instead of an echo. False: the connection ended.
bool micro_pair_serve_file(struct micro_pair *pair);
bool micro_pair_file(struct micro_pair *pair);

// A file to a socket by "sendfile", "copy" (read and send) or "splice", and all of it received.
struct micro_file;
struct micro_file *micro_file_create(const char *method, size_t size);
void micro_file_destroy(struct micro_file *file);
bool micro_file_send(struct micro_file *file);

// weir's pool of receive buffers (taken, leased, released) and its slabs (so many records taken
// and given back).
struct micro_pool;
struct micro_pool *micro_pool_create(void);
void micro_pool_destroy(struct micro_pool *pool);
bool micro_pool_buffer(struct micro_pool *pool);
bool micro_pool_record(struct micro_pool *pool);
uint32_t micro_pool_records(void);

// The parser of one request: "short" and "browser" are HTTP, "ftp" is a command. False: it was
// refused.
struct micro_parser;
struct micro_parser *micro_parser_create(const char *kind);
void micro_parser_destroy(struct micro_parser *parser);
size_t micro_parser_size(const struct micro_parser *parser);
bool micro_parser_run(struct micro_parser *parser);

// The load's own work: recording a latency, and comparing a reply of the size with its pattern.
struct micro_load;
struct micro_load *micro_load_create(size_t size);
void micro_load_destroy(struct micro_load *load);
void micro_load_record(struct micro_load *load);
bool micro_load_compare(const struct micro_load *load);

// One trial of `weir echo` under weir-load with 64 connections: `rate` 0 is a closed loop. False:
// a program is missing or failed. A p99 of 0: there were too few samples for one.
struct micro_trial {
    double ns_per_op, cpu_ns_per_op, p99_ns;
};
bool micro_trial_run(const char *engine, double rate, double seconds,
                     struct micro_trial *ret_trial);

#ifdef __cplusplus
}
#endif

#endif
