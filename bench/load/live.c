// A snapshot of every worker, merged, less the one of a second ago.
#include "live.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "report.h"

#define LIVE_PERIOD_NS UINT64_C(1000000000)

int live_init(struct live *live)
{
    live->shown = isatty(STDERR_FILENO) == 1;
    if (!live->shown)
        return 0;
    live->before = malloc(sizeof *live->before);
    live->now = malloc(sizeof *live->now);
    live->second = malloc(sizeof *live->second);
    if (!live->before || !live->now || !live->second)
        return -ENOMEM;
    histogram_init(live->before);
    live->printed_ns = weir_clock_now();
    live->due_ns = live->printed_ns + LIVE_PERIOD_NS;
    return 0;
}

void live_fini(struct live *live)
{
    free(live->before);
    free(live->now);
    free(live->second);
}

uint64_t live_next(const struct live *live, uint64_t now_ns, uint64_t until_ns)
{
    if (!live->shown)
        return until_ns < now_ns + LIVE_PERIOD_NS ? until_ns : now_ns + LIVE_PERIOD_NS;
    return until_ns < live->due_ns ? until_ns : live->due_ns;
}

static void live_print(struct live *live, uint64_t failures, uint64_t now_ns)
{
    char median[REPORT_TIME_SIZE], tail[REPORT_TIME_SIZE];
    struct histogram *now = live->now, *second = live->second;
    *second = *now;
    histogram_subtract(second, live->before);
    report_percentile(second, 50000, median);
    report_percentile(second, 99000, tail);
    fprintf(stderr, "\r\033[K%.0f op/s  p50 %s  p99 %s  errors %" PRIu64,
            (double)second->count * 1e9 / (double)(now_ns - live->printed_ns), median, tail,
            failures);
    fflush(stderr);
    live->now = live->before;
    live->before = now;
    live->printed_ns = now_ns;
}

void live_update(struct live *live, struct worker *workers, uint32_t count, uint64_t now_ns)
{
    uint64_t failures = 0;
    if (!live->shown || (!live->asked && now_ns < live->due_ns))
        return;
    if (!live->asked) {
        for (uint32_t i = 0; i < count; i++)
            worker_snapshot(&workers[i]);
        live->asked = true;
        live->due_ns = now_ns + LIVE_PERIOD_NS;
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        if (!atomic_load_explicit(&workers[i].snapshot.taken, memory_order_acquire))
            return;
    histogram_init(live->now);
    for (uint32_t i = 0; i < count; i++) {
        histogram_merge(live->now, workers[i].snapshot.latency);
        failures += workers[i].snapshot.failures;
    }
    live->asked = false;
    live_print(live, failures, now_ns);
}

void live_end(struct live *live)
{
    if (live->shown)
        fputs("\r\033[K", stderr);
}
