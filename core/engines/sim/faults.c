// Mixes of faults, drawn from a seed: most runs have a few of them, in strengths from rare to
// constant, because a fault that always strikes hides what only a rare one finds.
#include "kernel.h"

static const char *const faults_names[SIM_FAULTS] = {
    [SIM_SHORT_RECEIVE] = "short-receive",
    [SIM_SHORT_SEND] = "short-send",
    [SIM_SEND_REFUSED] = "send-refused",
    [SIM_LATE] = "late",
    [SIM_REORDER] = "reorder",
    [SIM_MULTISHOT_END] = "multishot-end",
    [SIM_MULTISHOT_END_BARE] = "multishot-end-bare",
    [SIM_NO_BUFFERS] = "no-buffers",
    [SIM_BUFFER_WITH_END] = "buffer-with-end",
    [SIM_CANCEL_LOST] = "cancel-lost",
    [SIM_ACCEPT_ERROR] = "accept-error",
    [SIM_FILE_ERROR] = "file-error",
    [SIM_FILE_SHORT] = "file-short",
    [SIM_FILE_COLD] = "file-cold",
    [SIM_FILE_RACE] = "file-race",
    [SIM_INTERRUPT] = "interrupt",
    [SIM_PART_OF_BATCH] = "part-of-batch",
    [SIM_BUSY] = "busy",
    [SIM_CLOCK_JUMP] = "clock-jump",
    [SIM_RESET_LOSS] = "reset-loss",
    [SIM_JOB_REFUSED] = "job-refused",
};

// UNTESTED: names the faults of a seed that failed
const char *sim_fault_name(enum sim_fault fault)
{
    return faults_names[fault];
}

static uint64_t faults_next(uint64_t *state, uint64_t below)
{
    struct sim draw = { .random = *state };
    uint64_t value = sim_random(&draw, below);
    *state = draw.random;
    return value;
}

static uint16_t faults_chance(uint64_t *state)
{
    static const uint16_t strengths[] = { 0, 0, 2, 20, 100, 300, 600, 900 };
    return strengths[faults_next(state, sizeof strengths / sizeof *strengths)];
}

void sim_faults_harmless(uint64_t seed, struct sim_faults *ret_faults)
{
    static const enum sim_fault harmless[] = {
        SIM_SHORT_RECEIVE, SIM_SHORT_SEND,      SIM_SEND_REFUSED, SIM_LATE,
        SIM_REORDER,       SIM_MULTISHOT_END,   SIM_NO_BUFFERS,   SIM_MULTISHOT_END_BARE,
        SIM_CANCEL_LOST,   SIM_BUFFER_WITH_END, SIM_FILE_SHORT,   SIM_INTERRUPT,
        SIM_PART_OF_BATCH, SIM_FILE_COLD,       SIM_FILE_RACE,
    };
    uint64_t state = seed ^ 0x5eed;
    *ret_faults = (struct sim_faults){ .late_max_ns = 1000ULL << faults_next(&state, 10) };
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++)
        ret_faults->chances[harmless[i]] = faults_chance(&state);
}

void sim_faults_any(uint64_t seed, struct sim_faults *ret_faults)
{
    uint64_t state = seed ^ 0xa11;
    *ret_faults = (struct sim_faults){ .late_max_ns = 1000ULL << faults_next(&state, 14),
                                       .clock_jump_max_ns = 3000000000 };
    for (int i = 0; i < SIM_JOB_REFUSED; i++)
        ret_faults->chances[i] = faults_chance(&state);
    // A clock that always jumps leaves nothing else any time.
    ret_faults->chances[SIM_CLOCK_JUMP] /= 100;
    if (faults_next(&state, 4) == 0)
        ret_faults->cq_entries = 2U << faults_next(&state, 5);
    // While the kernel is busy, the loop puts one queue's completions aside: of so few, too few.
    if (ret_faults->cq_entries && ret_faults->cq_entries < 16)
        ret_faults->chances[SIM_BUSY] = 0;
    // Both small at the same time is where one waits for the other.
    if (faults_next(&state, ret_faults->cq_entries ? 2 : 4) == 0)
        ret_faults->sq_entries = 4U << faults_next(&state, 4);
    ret_faults->chances[SIM_JOB_REFUSED] = faults_chance(&state);
}
