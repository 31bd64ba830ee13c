// seeds_test PROTOCOL COUNT
//
// A protocol on the uring engine on the simulated kernel, for many seeds. Each seed is another mix
// of plans, limits, faults and clients; what must hold is in run.c.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "replay.h"

enum { SEEDS_REPEATED = 40, SEEDS_FAILED_MAX = 10 };

struct seeds {
    const struct run_protocol *protocol;
    uint64_t count;
    struct run run;
};

// Whatever completions the kernel brings in whatever order, and whatever clients do: bytes out are
// the function of the bytes in, every descriptor is closed once, every buffer returned once, no
// callback follows `closed`, and memory is back where it started.
static void the_protocol_holds_for_every_seed(void **state)
{
    struct seeds *seeds = *state;
    struct run *run = &seeds->run;
    uint64_t failed = 0, turns = 0, full = 0, streams = 0, bundles = 0, of_cut = 0;
    uint64_t repeated = 0, overflows = 0, no_memory = 0, no_descriptors = 0, broken = 0;
    uint64_t struck[SIM_FAULTS] = { 0 };
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
        for (int i = 0; i < SIM_FAULTS; i++)
            struck[i] += run->counts.faults[i];
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
    if (seeds->protocol->crowds)
        assert_true(full > 0);
    if (seeds->protocol->bulk)
        assert_true(bundles > 0 && of_cut > 0);
    for (int i = 0; i < SIM_FAULTS; i++) {
        bool of_files = i >= SIM_FILE_ERROR && i <= SIM_FILE_RACE;
        bool possible =
            i == SIM_FILE_RACE ? seeds->protocol->names : !of_files || seeds->protocol->files;
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
