"""A whole report made of arithmetic: every kind of cell, verdict, guard and picture is in it."""

import random
from dataclasses import asdict

import suite_path  # noqa: F401
from weir_bench import SCHEMA, environment, summary
from weir_bench.scenario import Cell, Variant

RUNGS = ("bare", "+second", "no-third", "default")
EPOLL_RUNGS = ("epoll-level", "epoll-edge", "epoll")
VARIANTS = (*RUNGS, "no-second", *EPOLL_RUNGS)


def cells_of(count):
    """`count` closed cells of growing sizes, and three open ones."""
    closed = [Cell(f"echo-{64 << at % 12}-c{1 << at // 12}", size=64 << at % 12,
                   connections=1 << at // 12) for at in range(count)]
    return closed + [Cell(f"load-{share}", connections=64, rate_of=closed[0].name,
                          rate_share=share / 100) for share in (30, 60, 80)]


def histogram(chance, middle):
    """Forty buckets with a long tail, 20,000 samples."""
    return {"buckets": [[round(middle * 1.12 ** (at - 10) * chance.uniform(0.99, 1.01)),
                         max(1, round(8000 * 0.55 ** abs(at - 10)))] for at in range(40)]}


def trial_of(chance, cell, variant, block, cost):
    is_open = cell.is_open()
    rate = 4e4 * cell.rate_share if is_open else 1e9 / cost
    window = 1e9
    spent = {"time": window, "server": rate * cost, "load": rate * cost * 0.8, "own": 1e6,
             "machine": rate * cost * 2 + 1e6, "stolen": 0}
    latency = histogram(chance, cost * (1 + 3 * cell.rate_share * is_open))
    guards = [{"guard": "client-limit", "severity": "warning", "text": "the client was the limit"}]
    return {
        "cell": cell.name, "variant": variant, "block": block, "status": "ok", "open": is_open,
        "guards": guards if variant == "epoll-edge" else [], "rate": rate,
        "metrics": {"ops_per_s": rate, "p50_ns": cost, "p99_ns": 3 * cost, "server_cpu_ns": cost,
                    "machine_cpu_ns": 2 * cost, "calls": 0.5, "switches": 0.1,
                    "pss_bytes": 5 << 20},
        "cpu": {"machine_source": "/proc/stat"}, "spent": spent,
        "load": {"result": {"histograms": {"response": latency if is_open else None,
                                           "service": latency}}}}


def report(cells=12, blocks=12, kind="ladder"):
    """Deterministic, whatever the machine; only its environment is this one's."""
    chance = random.Random(1)
    every = cells_of(cells)
    trials = []
    for block in range(blocks):
        for cell in every:
            mood = chance.lognormvariate(0, 0.1)
            for at, variant in enumerate(VARIANTS):
                cost = (1e4 + cell.size) * (1 + 0.06 * at) * mood
                trials.append(trial_of(chance, cell, variant, block,
                                       cost * chance.lognormvariate(0, 0.01)))
    made = {
        "schema": SCHEMA, "complete": True, "command": "weir-bench ladder", "seed": 7,
        "started": "2026-01-01 00:00:00 +0000", "base": "default", "blocks_done": blocks,
        "skipped": {"churn": "no network namespace"}, "rates": {}, "conformance": {},
        "floors": {}, "server_cpus": "0", "client_cpus": "1", "load": "weir-load",
        "scenario": {"name": "made", "about": "", "blocks": blocks, "endpoints": [],
                     "cells": [{**asdict(cell), "title": cell.title()} for cell in every],
                     "variants": [asdict(Variant(name, "x")) for name in VARIANTS]},
        "environment": environment.collect({}), "trials": trials}
    if kind == "ladder":
        made["ladder"] = {"features": ["second", "third"],
                          "chains": {"io_uring": list(RUNGS), "epoll": list(EPOLL_RUNGS)}}
    made["sweep"] = {"var": "size", "values": [], "of": {},
                     "cells": {cell.name: cell.size for cell in every[:min(cells, 12)]}}
    made["table"] = summary.summarize(made)
    return made
