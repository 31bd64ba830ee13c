// The io_uring features that weir uses, one row each, and the sets of them that are supported: the
// default, the default minus any one, and what the stock kernels 6.1, 6.8 and 6.12 have. At start a
// set is resolved into a constant plan; nothing else reads a feature. Other combinations are
// refused, because the path that is tested must be the path that ships.
#include "features.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "probe_ring.h"
#include "uring.h"

enum feature_index {
    FEATURE_BUFFER_RING,
    FEATURE_DEFER_TASKRUN,
    FEATURE_DIRECT,
    FEATURE_RECEIVE_MULTISHOT,
    FEATURE_RECEIVE_BUNDLE,
    FEATURE_QUIET_SENDS,
    FEATURE_SENDFILE,
    FEATURE_MIN_WAIT,
    FEATURES,
};

static const struct feature features_rows[FEATURES] = {
    [FEATURE_BUFFER_RING] = { "buffer-ring", "5.19",
                              "the kernel picks a receive buffer when bytes come", true,
                              probe_buffer_ring },
    [FEATURE_DEFER_TASKRUN] = { "defer-taskrun", "6.1",
                                "completions run when the loop asks for them", true,
                                probe_defer_taskrun },
    // Tables are older, but see probe_ring.c for what they did to a connection's end.
    [FEATURE_DIRECT] = { "direct", "6.13", "sockets in the ring's own table", true, probe_direct },
    [FEATURE_RECEIVE_MULTISHOT] = { "receive-multishot", "6.17",
                                    "one receive operation per credit instead of one per buffer",
                                    true, probe_receive_multishot },
    // Bundles are older (6.10), but up to 6.16 some left gaps in what they brought (liburing issues
    // 1409 and 1423), and the bound of one is the multishot's.
    [FEATURE_RECEIVE_BUNDLE] = { "receive-bundle", "6.17",
                                 "uploads fill many receive buffers by one completion", true,
                                 probe_receive_bundle },
    [FEATURE_QUIET_SENDS] = { "quiet-sends", "5.17",
                              "sends that succeed at once post no completion", true, NULL },
    // From then on sendfile hands pages over many at a time. The probe does not ask for that: older
    // kernels whose default this is use the sendfile that they have.
    [FEATURE_SENDFILE] = { "sendfile", "6.5", "files that are in memory leave without a copy", true,
                           probe_sendfile },
    // Not part of a set, but an option (min_wait_ns): then it is needed.
    [FEATURE_MIN_WAIT] = { "min-wait", "6.12", "a busy loop may sleep until several events came",
                           false, probe_min_wait },
};

size_t features_table(const struct feature **ret_rows)
{
    *ret_rows = features_rows;
    return FEATURES;
}

// --- Sets ----------------------------------------------------------------------------------------

// "6.12" becomes 612 times ten: comparable.
static unsigned features_version(const char *text)
{
    char *end;
    unsigned major = (unsigned)strtoul(text, &end, 10);
    return major * 1000 + (*end == '.' ? (unsigned)strtoul(end + 1, NULL, 10) : 0);
}

static int features_find(const char *name)
{
    for (int i = 0; i < FEATURES; i++) {
        if (features_rows[i].in_default && !strcmp(features_rows[i].name, name))
            return i;
    }
    return -1;
}

static void features_select_kernel(const char *kernel, bool selected[FEATURES])
{
    for (int i = 0; i < FEATURES; i++)
        selected[i] = features_version(features_rows[i].kernel) <= features_version(kernel);
}

// An option that the configuration asks for is selected where the set knows it. -EINVAL, with the
// reason in the log: it does not.
static int features_select_options(const struct weir_loop *loop, bool selected[FEATURES])
{
    const struct weir_loop_config *config = &loop->config;
    if (config->min_wait_ns && !selected[FEATURE_MIN_WAIT]) {
        loop_log(loop, WEIR_LOG_ERROR, "min_wait_ns: there is no min-wait in the features '%s'",
                 config->uring_features);
        return -EINVAL;
    }
    selected[FEATURE_MIN_WAIT] = config->min_wait_ns > 0;
    return 0;
}

// Turns the set's name into the selected rows. -EINVAL with the reason in the log.
static int features_select(const struct weir_loop *loop, const char *set, bool selected[FEATURES])
{
    static const char *const kernels[] = { "6.1", "6.8", "6.12" };
    for (int i = 0; i < FEATURES; i++)
        selected[i] = features_rows[i].in_default || i == FEATURE_MIN_WAIT;
    if (!set || !strcmp(set, "default"))
        return 0;
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
        if (!strncmp(set, "kernel-", 7) && !strcmp(set + 7, kernels[i])) {
            features_select_kernel(kernels[i], selected);
            return 0;
        }
    }
    int index = strncmp(set, "default,-", 9) ? -1 : features_find(set + 9);
    if (index < 0) {
        loop_log(loop, WEIR_LOG_ERROR,
                 "io_uring features '%s': use default, default,-NAME, kernel-6.1, kernel-6.8 or "
                 "kernel-6.12 (names: weir doctor)",
                 set);
        return -EINVAL;
    }
    if (index == FEATURE_BUFFER_RING) {
        loop_log(loop, WEIR_LOG_ERROR, "io_uring features '%s': every plan needs buffer-ring", set);
        return -EINVAL;
    }
    selected[index] = false;
    return 0;
}

// --- The plan ------------------------------------------------------------------------------------

static void features_plan(const bool has[FEATURES], uint32_t min_wait_us,
                          struct uring_plan *ret_plan)
{
    unsigned flags = IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE |
                     IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER |
                     IORING_SETUP_TASKRUN_FLAG;
    // Without deferral, cooperation is the next best: no interrupt of a running thread.
    flags |= has[FEATURE_DEFER_TASKRUN] ? IORING_SETUP_DEFER_TASKRUN : IORING_SETUP_COOP_TASKRUN;
    const struct uring_receiving oneshot = { uring_receive_oneshot, uring_receive_oneshot_cancel };
    *ret_plan = (struct uring_plan){
        .setup_flags = flags,
        .direct = has[FEATURE_DIRECT],
        .quiet = has[FEATURE_QUIET_SENDS],
        .sendfile = has[FEATURE_SENDFILE],
        .bundles = has[FEATURE_RECEIVE_BUNDLE],
        .min_wait_us = has[FEATURE_MIN_WAIT] ? min_wait_us : 0,
        .receive = oneshot,
        .receive_bulk = oneshot,
        .receive_unix = oneshot,
    };
    if (has[FEATURE_RECEIVE_MULTISHOT])
        ret_plan->receive = ret_plan->receive_bulk =
            (struct uring_receiving){ uring_receive_multishot, uring_receive_multishot_cancel };
    if (has[FEATURE_RECEIVE_BUNDLE])
        ret_plan->receive_bulk.arm = uring_receive_bundle;
}

static void features_describe(struct weir_loop *loop, const struct uring_plan *plan,
                              const bool has[FEATURES])
{
    size_t used = 0;
    for (int i = 0; i < FEATURES; i++) {
        if (features_rows[i].in_default)
            used += (size_t)snprintf(loop->plan + used, sizeof loop->plan - used, "%s%s%s",
                                     i ? " " : "", has[i] ? "" : "no:", features_rows[i].name);
    }
    if (has[FEATURE_MIN_WAIT])
        snprintf(loop->plan + used, sizeof loop->plan - used, " %s=%uus",
                 features_rows[FEATURE_MIN_WAIT].name, plan->min_wait_us);
}

int features_resolve(struct weir_loop *loop, struct uring_plan *ret_plan)
{
    bool has[FEATURES];
    char detail[160];
    int error = features_select(loop, loop->config.uring_features, has);
    if (!error)
        error = features_select_options(loop, has);
    if (error)
        return error;
    for (int i = 0; i < FEATURES; i++) {
        if (!has[i] || !features_rows[i].probe || uring_of(loop)->operations->complete)
            continue;
        error = features_rows[i].probe(detail, sizeof detail);
        if (!error)
            continue;
        bool needed = i == FEATURE_BUFFER_RING || i == FEATURE_MIN_WAIT;
        has[i] = false;
        loop_log(loop, needed ? WEIR_LOG_ERROR : WEIR_LOG_INFO, "io_uring: no %s: %s",
                 features_rows[i].name, detail);
        // UNTESTED: only other kernels lack one that is needed
        if (needed)
            return error;
    }
    has[FEATURE_RECEIVE_BUNDLE] &= has[FEATURE_RECEIVE_MULTISHOT];
    // Rounded up: a shorter wait than a microsecond is none.
    features_plan(has, (uint32_t)((loop->config.min_wait_ns + 999) / 1000), ret_plan);
    features_describe(loop, ret_plan, has);
    return 0;
}
