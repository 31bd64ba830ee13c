// seeds_test PROTOCOL COUNT
//
// A protocol on the uring engine on the simulated kernel, for many seeds. Each seed is another mix
// of plans, limits, faults and clients; what must hold is in run.c.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "replay.h"

enum { SEEDS_REPEATED = 40, SEEDS_FAILED_MAX = 10 };

struct seeds {
    const struct run_protocol *protocol;
    uint64_t count;
    struct run run;
};

// Counters that may stand still: always, or where a protocol lacks something.
enum { LACKS_FILES = 1, LACKS_NAMES = 2, LACKS_CROWDS = 4, LACKS_BULK = 8, LACKS_NOTHING = 16 };
static const struct seeds_still {
    const char *name;
    uint32_t when;
} seeds_still[] = {
    { "batch_32", LACKS_CROWDS },
    { "batch_64", LACKS_CROWDS },
    { "batch_128", LACKS_CROWDS },
    { "batch_256", LACKS_CROWDS },
    { "batch_512", LACKS_CROWDS },
    { "batch_more", LACKS_NOTHING },     // a turn takes no more than 512
    { "connects", LACKS_NOTHING },       // nobody connects to a client;
    { "connect_errors", LACKS_NOTHING }, // tests/contract has both
    { "received_bundles", LACKS_BULK },
    { "close_timeouts", LACKS_NOTHING }, // after 30 s; tests/contract has one
    { "closed_canceled", LACKS_NAMES },  // echo aborts nobody
    { "jobs", LACKS_NAMES },
    { "file_operations", LACKS_FILES },
    { "fallbacks", LACKS_NOTHING },    // tests/e2e/command_line.py has one
    { "streams_open", LACKS_NOTHING }, // gauges: all is over
    { "buffers_leased", LACKS_NOTHING },
    { "queued_bytes", LACKS_NOTHING },
    { "buffers_high", LACKS_BULK }, // http holds no slice beyond a callback
};

static bool seeds_may_stand_still(const struct run_protocol *protocol, const char *name)
{
    uint32_t lacks = LACKS_NOTHING;
    lacks |= (protocol->files ? 0 : LACKS_FILES) | (protocol->names ? 0 : LACKS_NAMES);
    lacks |= (protocol->crowds ? 0 : LACKS_CROWDS) | (protocol->bulk ? 0 : LACKS_BULK);
    for (size_t i = 0; i < sizeof seeds_still / sizeof *seeds_still; i++) {
        if (!strcmp(seeds_still[i].name, name))
            return seeds_still[i].when & lacks;
    }
    return false;
}

// Each counter that weir prints has moved in some run, but for those above: one that nobody counts
// any more is found, and so is a new one that no run brings about.
static void seeds_expect_counters(const struct run_protocol *protocol,
                                  const struct weir_stats *counted)
{
    char text[4096], name[64];
    unsigned long long value;
    uint64_t turns = 0;
    assert_in_range(weir_stats_print(counted, false, text, sizeof text), 1, sizeof text - 1);
    for (const char *line = text; *line; line = strchr(line, '\n') + 1) {
        assert_int_equal(sscanf(line, "%63s %llu", name, &value), 2);
        if (!value && !seeds_may_stand_still(protocol, name))
            fail_msg("the counter %s never moved", name);
    }
    for (int i = 0; i < WEIR_BATCH_BUCKETS; i++)
        turns += counted->batch[i];
    assert_int_equal(turns, counted->turns);
}

// Clients that were held to all that they were due, although others met a time-out of the
// protocol's own.
static uint64_t seeds_held_beside(const struct run *run)
{
    uint64_t held = 0;
    for (uint32_t i = 0; i < run->clients_count && run->timeouts; i++)
        held += run->clients[i].end == CLIENT_ENDS && !run_may_lose_client(run, &run->clients[i]);
    return held;
}

// Whatever completions the kernel brings in whatever order, and whatever clients do: bytes out are
// the function of the bytes in, every descriptor is closed once, every buffer returned once, no
// callback follows `closed`, and memory is back where it started.
static void the_protocol_holds_for_every_seed(void **state)
{
    struct seeds *seeds = *state;
    struct run *run = &seeds->run;
    uint64_t failed = 0, turns = 0, full = 0, streams = 0, bundles = 0, of_cut = 0;
    uint64_t repeated = 0, overflows = 0, no_memory = 0, no_descriptors = 0, broken = 0, looked = 0;
    uint64_t beside = 0;
    uint64_t struck[SIM_FAULTS] = { 0 };
    struct weir_stats counted = { 0 };
    for (uint64_t seed = 1; seed <= seeds->count && failed < SEEDS_FAILED_MAX; seed++) {
        bool held = replay_seed(run, seeds->protocol, seed, NULL);
        turns += run->turns;
        full += run->full_turns;
        streams += run->streams_count;
        bundles += run->counts.bundles;
        of_cut += run->counts.bundles_of_cut;
        repeated += run->repeated;
        overflows += run->counts.overflows;
        no_memory += run->short_of_memory;
        no_descriptors += run->counts.no_descriptors;
        broken += run->counts.broken;
        beside += seeds_held_beside(run);
        looked += run->stats.looks && !run->lacks_memory && !run_may_lose(run);
        for (int i = 0; i < SIM_FAULTS; i++)
            struck[i] += run->counts.faults[i];
        stats_sum(&counted, &run->stats);
        if (!held) {
            replay_explain(run, stderr);
            failed++;
        }
    }
    print_message("%llu seeds, %llu streams, %llu turns, %llu of them full; %llu bundles, %llu of "
                  "them behind a cut buffer\n",
                  (unsigned long long)seeds->count, (unsigned long long)streams,
                  (unsigned long long)turns, (unsigned long long)full, (unsigned long long)bundles,
                  (unsigned long long)of_cut);
    print_message("%llu stale completions, %llu overflows, %llu times no descriptor, %llu runs "
                  "without memory, %llu with a broken ring\n",
                  (unsigned long long)repeated, (unsigned long long)overflows,
                  (unsigned long long)no_descriptors, (unsigned long long)no_memory,
                  (unsigned long long)broken);
    assert_int_equal(failed, 0);
    assert_true(streams > seeds->count);
    // A fault that never strikes tests nothing, nor does a crowd that fits into a turn.
    assert_true(repeated > 0);
    assert_true(overflows > 0);
    assert_true(no_memory > 0);
    assert_true(no_descriptors > 0);
    assert_true(broken > 0);
    // Looks before sleeping are judged where all bytes are.
    assert_true(looked > 0);
    if (seeds->protocol->timeouts)
        assert_true(beside > 0);
    if (seeds->protocol->crowds)
        assert_true(full > 0);
    seeds_expect_counters(seeds->protocol, &counted);
    // A slot outlives its operations: nothing is stale but what the simulator says twice.
    assert_in_range(counted.stale_completions, 1, repeated);
    if (seeds->protocol->bulk)
        assert_true(bundles > 0 && of_cut > 0);
    for (int i = 0; i < SIM_FAULTS; i++) {
        bool of_files = i >= SIM_FILE_ERROR && i <= SIM_FILE_RACE;
        bool of_names = i == SIM_FILE_RACE || i == SIM_JOB_REFUSED;
        bool possible = of_names ? seeds->protocol->names : !of_files || seeds->protocol->files;
        if (!struck[i] && possible)
            fail_msg("%s never struck", sim_fault_name((enum sim_fault)i));
    }
}

// The same seed gives the same run, and another one another.
static void the_same_seed_gives_the_same_run(void **state)
{
    struct seeds *seeds = *state;
    struct run *run = &seeds->run;
    uint64_t last = 0;
    for (uint64_t seed = 1; seed <= SEEDS_REPEATED; seed++) {
        replay_seed(run, seeds->protocol, seed, NULL);
        uint64_t hash = run->hash, turns = run->turns;
        replay_seed(run, seeds->protocol, seed, NULL);
        assert_true(run->hash == hash);
        assert_int_equal(run->turns, turns);
        assert_true(hash != last);
        last = hash;
    }
}

int main(int argc, char **argv)
{
    static struct seeds seeds;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(the_protocol_holds_for_every_seed, &seeds),
        cmocka_unit_test_prestate(the_same_seed_gives_the_same_run, &seeds),
    };
    if (argc == 3) {
        seeds.protocol = run_protocol_find(argv[1]);
        seeds.count = strtoull(argv[2], NULL, 10);
    }
    if (!seeds.protocol || !seeds.count) {
        fprintf(stderr, "usage: seeds_test PROTOCOL COUNT\n");
        return 2;
    }
    return cmocka_run_group_tests_name("seeds", tests, NULL, NULL);
}
