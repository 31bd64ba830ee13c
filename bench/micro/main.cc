// The micro benchmarks under Google Benchmark: names, sizes and repetition; the work is in C.
#include <benchmark/benchmark.h>

#include <memory>
#include <string>

#include "micro.h"

namespace
{

template <class T, void (*destroy)(T *)> struct Destroyer {
    void operator()(T *thing) const
    {
        destroy(thing);
    }
};

using Ring = std::unique_ptr<micro_ring, Destroyer<micro_ring, micro_ring_destroy>>;
using Pair = std::unique_ptr<micro_pair, Destroyer<micro_pair, micro_pair_destroy>>;
using Load = std::unique_ptr<micro_load, Destroyer<micro_load, micro_load_destroy>>;

const char *engine_of(const benchmark::State &state)
{
    return state.range(0) ? "uring" : "epoll";
}

// One kernel call for a whole batch: where does batching stop to pay?
void nops(benchmark::State &state)
{
    auto count = static_cast<uint32_t>(state.range(0));
    Ring ring(micro_ring_create(count));
    if (!ring) {
        state.SkipWithError("no ring with DEFER_TASKRUN here");
        return;
    }
    for (auto _ : state) {
        if (!micro_ring_nops(ring.get(), count)) {
            state.SkipWithError("the ring lost operations");
            break;
        }
    }
    state.SetItemsProcessed(state.iterations() * count);
}
BENCHMARK(nops)->RangeMultiplier(4)->Range(1, 1024)->ArgName("batch");

// Repeats what a pair can do until it fails.
void repeat(benchmark::State &state, size_t size, bool (*run)(micro_pair *))
{
    Pair pair(micro_pair_create(engine_of(state), size));
    if (!pair) {
        state.SkipWithError("no such loop here");
        return;
    }
    state.SetLabel(engine_of(state));
    for (auto _ : state) {
        if (!run(pair.get())) {
            state.SkipWithError("the loop or its connection ended");
            break;
        }
    }
}

void round_trip(benchmark::State &state)
{
    repeat(state, static_cast<size_t>(state.range(1)), micro_pair_echo);
    state.SetBytesProcessed(state.iterations() * 2 * state.range(1));
}
BENCHMARK(round_trip)
    ->ArgNames({ "uring", "size" })
    ->ArgsProduct({ { 0, 1 }, { 64, 4096, 65536 } });

void post(benchmark::State &state)
{
    repeat(state, 1, micro_pair_post);
}
BENCHMARK(post)->ArgName("uring")->Arg(0)->Arg(1);

void idle_turn(benchmark::State &state)
{
    repeat(state, 1, micro_pair_idle_turn);
}
BENCHMARK(idle_turn)->ArgName("uring")->Arg(0)->Arg(1);

void timer(benchmark::State &state)
{
    repeat(state, 1, [](micro_pair *pair) {
        micro_pair_timer(pair);
        return true;
    });
}
BENCHMARK(timer)->ArgName("uring")->Arg(0);

void histogram_record(benchmark::State &state)
{
    Load load(micro_load_create(64));
    if (!load) {
        state.SkipWithError("no memory");
        return;
    }
    for (auto _ : state)
        micro_load_record(load.get());
}
BENCHMARK(histogram_record);

void payload_compare(benchmark::State &state)
{
    Load load(micro_load_create(static_cast<size_t>(state.range(0))));
    if (!load) {
        state.SkipWithError("no memory");
        return;
    }
    for (auto _ : state) {
        if (!micro_load_compare(load.get())) {
            state.SkipWithError("the pattern does not match itself");
            break;
        }
    }
    state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(payload_compare)->ArgName("size")->Arg(64)->Arg(4096);

} // namespace

BENCHMARK_MAIN();
