// What a run found, for people and as JSON (schema "weir-load/1"; see docs/man/weir-load.1).
#ifndef LOAD_REPORT_H
#define LOAD_REPORT_H

#include <stdio.h>

#include "crew.h"

enum { REPORT_TIME_SIZE = 16 };

// "12.3 us". A percentile without enough values beyond it is "-".
void report_time(double time_ns, char ret_text[REPORT_TIME_SIZE]);
void report_percentile(const struct histogram *histogram, uint32_t percent,
                       char ret_text[REPORT_TIME_SIZE]);

void report_print(const struct crew_result *result, FILE *file);
void report_print_json(const struct crew_result *result, FILE *file);

// Of a worker, over the measured window: the share of time in which it used its processor, and the
// same without the time it only span.
double report_utilization(const struct worker *worker);
double report_busy(const struct worker *worker);

#endif
