// The micro benchmarks under Google Benchmark: names, sizes and repetition; the work is in C.
#include <benchmark/benchmark.h>

#include <chrono>
#include <cstdlib>
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
using File = std::unique_ptr<micro_file, Destroyer<micro_file, micro_file_destroy>>;
using Pool = std::unique_ptr<micro_pool, Destroyer<micro_pool, micro_pool_destroy>>;
using Parser = std::unique_ptr<micro_parser, Destroyer<micro_parser, micro_parser_destroy>>;
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

// The two halves of that which are not the kernel's.
void prepare(benchmark::State &state)
{
    auto count = static_cast<uint32_t>(state.range(0));
    Ring ring(micro_ring_create(count));
    if (!ring) {
        state.SkipWithError("no ring with DEFER_TASKRUN here");
        return;
    }
    for (auto _ : state) {
        micro_ring_prepare(ring.get(), count);
        benchmark::ClobberMemory();
    }
    state.SetItemsProcessed(state.iterations() * count);
}
BENCHMARK(prepare)->ArgName("batch")->Arg(64);

void reap(benchmark::State &state)
{
    auto count = static_cast<uint32_t>(state.range(0));
    Ring ring(micro_ring_create(count));
    if (!ring) {
        state.SkipWithError("no ring with DEFER_TASKRUN here");
        return;
    }
    for (auto _ : state) {
        micro_ring_prepare(ring.get(), count);
        bool right = micro_ring_enter(ring.get(), count);
        auto start = std::chrono::steady_clock::now();
        right = right && micro_ring_reap(ring.get(), count);
        std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
        if (!right) {
            state.SkipWithError("the ring lost operations");
            break;
        }
        state.SetIterationTime(took.count());
    }
    state.SetItemsProcessed(state.iterations() * count);
}
// Many at once, because reading the clock costs as much as some tens of them.
BENCHMARK(reap)->ArgName("batch")->Arg(1024)->UseManualTime();

void buffer_recycle(benchmark::State &state)
{
    auto count = static_cast<uint32_t>(state.range(0));
    Ring ring(micro_ring_create(8));
    if (!ring || !micro_ring_give_buffers(ring.get())) {
        state.SkipWithError("no ring with provided buffers here");
        return;
    }
    for (auto _ : state)
        micro_ring_recycle(ring.get(), count);
    state.SetItemsProcessed(state.iterations() * count);
}
BENCHMARK(buffer_recycle)->ArgName("batch")->Arg(1)->Arg(16);

void pool_buffer(benchmark::State &state)
{
    Pool pool(micro_pool_create());
    if (!pool) {
        state.SkipWithError("no memory");
        return;
    }
    for (auto _ : state) {
        if (!micro_pool_buffer(pool.get())) {
            state.SkipWithError("the pool is empty");
            break;
        }
    }
}
BENCHMARK(pool_buffer);

void pool_record(benchmark::State &state)
{
    Pool pool(micro_pool_create());
    if (!pool) {
        state.SkipWithError("no memory");
        return;
    }
    for (auto _ : state) {
        if (!micro_pool_record(pool.get())) {
            state.SkipWithError("memory is out");
            break;
        }
    }
    state.SetItemsProcessed(state.iterations() * micro_pool_records());
}
BENCHMARK(pool_record);

void parse(benchmark::State &state, const char *kind)
{
    Parser parser(micro_parser_create(kind));
    if (!parser) {
        state.SkipWithError("no memory");
        return;
    }
    for (auto _ : state) {
        if (!micro_parser_run(parser.get())) {
            state.SkipWithError("the request was refused");
            break;
        }
    }
    auto size = static_cast<int64_t>(micro_parser_size(parser.get()));
    state.SetBytesProcessed(state.iterations() * size);
}
BENCHMARK_CAPTURE(parse, http_short, "short");
BENCHMARK_CAPTURE(parse, http_browser, "browser");
BENCHMARK_CAPTURE(parse, ftp, "ftp");

// A file to a socket: by hand, and by weir's loop in each engine.
void file_by(benchmark::State &state, const char *method)
{
    File file(micro_file_create(method, static_cast<size_t>(state.range(0))));
    if (!file) {
        state.SkipWithError("no file or no connection");
        return;
    }
    for (auto _ : state) {
        if (!micro_file_send(file.get())) {
            state.SkipWithError("the file did not arrive");
            break;
        }
    }
    state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK_CAPTURE(file_by, sendfile, "sendfile")
    ->ArgName("size")
    ->Arg(4096)
    ->Arg(65536)
    ->Arg(1048576);
BENCHMARK_CAPTURE(file_by, copy, "copy")->ArgName("size")->Arg(4096)->Arg(65536)->Arg(1048576);
BENCHMARK_CAPTURE(file_by, splice, "splice")->ArgName("size")->Arg(4096)->Arg(65536)->Arg(1048576);

void file_by_weir(benchmark::State &state)
{
    Pair pair(micro_pair_create(engine_of(state), static_cast<size_t>(state.range(1))));
    if (!pair || !micro_pair_serve_file(pair.get())) {
        state.SkipWithError("no such loop here");
        return;
    }
    state.SetLabel(engine_of(state));
    for (auto _ : state) {
        if (!micro_pair_file(pair.get())) {
            state.SkipWithError("the loop or its connection ended");
            break;
        }
    }
    state.SetBytesProcessed(state.iterations() * state.range(1));
}
BENCHMARK(file_by_weir)
    ->ArgNames({ "uring", "size" })
    ->ArgsProduct({ { 0, 1 }, { 4096, 65536, 1048576 } });

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

// One trial of the real programs per repetition. The metric itself is the time, so Google's
// compare.py can test it: --benchmark_repetitions=10 --benchmark_enable_random_interleaving=true.
void macro(benchmark::State &state, double rate, double micro_trial::*metric)
{
    const char *seconds = std::getenv("WEIR_MICRO_SECONDS");
    micro_trial trial = {};
    for (auto _ : state) {
        if (!micro_trial_run(engine_of(state), rate, seconds ? std::atof(seconds) : 1.2, &trial)) {
            state.SkipWithError("no such server here, or the trial failed");
            break;
        }
        if (!(trial.*metric > 0)) {
            state.SkipWithError("too few samples here");
            break;
        }
        state.SetIterationTime(trial.*metric * 1e-9);
    }
    state.SetLabel(engine_of(state));
}
void macro_arguments(benchmark::internal::Benchmark *entry)
{
    entry->ArgName("uring")->Arg(0)->Arg(1)->Iterations(1)->UseManualTime();
}
BENCHMARK_CAPTURE(macro, closed_per_op, 0, &micro_trial::ns_per_op)->Apply(macro_arguments);
BENCHMARK_CAPTURE(macro, closed_cpu_per_op, 0, &micro_trial::cpu_ns_per_op)->Apply(macro_arguments);
BENCHMARK_CAPTURE(macro, open_p99_response, 10000, &micro_trial::p99_ns)->Apply(macro_arguments);

} // namespace

BENCHMARK_MAIN();
