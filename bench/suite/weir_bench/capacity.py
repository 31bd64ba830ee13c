"""The highest offered rate that keeps a latency objective, by bisection, for every variant.

Each search is one entry of a block, so capacities are paired and judged like everything else.
"""

import re
from dataclasses import replace

from . import Problem, trial
from .session import Session

STEPS = 6            # after them the interval is 1/64 of what a closed loop reaches
ACHIEVED_MIN = 0.98
SECONDS_MAX = 10     # a low rate is measured longer, until the percentile has its samples
SAMPLES = {"p50_ns": 300, "p99_ns": 11_000}
SECONDS = {"us": 1e3, "ms": 1e6, "s": 1e9}


def parse_objective(text):
    """p99=1ms as (metric, nanoseconds)."""
    found = re.fullmatch(r"(p50|p99)=(\d+(?:\.\d+)?)(us|ms|s)", text or "")
    if not found:
        raise Problem(f"--slo {text}: wants p50= or p99= and a time, such as p99=1ms")
    return f"{found[1]}_ns", float(found[2]) * SECONDS[found[3]]


def meets(record, metric, limit_ns):
    """Whether a trial kept the objective; None where it has too few samples to say."""
    if record["status"] != "ok":
        return False
    if record["metrics"]["ops_per_s"] < ACHIEVED_MIN * record["rate"]:
        return False
    if metric not in record["metrics"]:
        return None
    return record["metrics"][metric] <= limit_ns


def search(measure, top, metric, limit_ns, steps=STEPS):
    """Bisects below `top`. Returns (best record or None, [(rate, metric, met)])."""
    low, high, best, told = 0.0, top, None, []
    for _ in range(steps):
        rate = (low + high) / 2
        record = measure(rate)
        met = meets(record, metric, limit_ns)
        if met is None:
            # A lower rate would have still fewer samples.
            raise trial.TrialFailed(f"at {rate:,.0f}/s there are too few samples for the "
                                    "objective: give more --seconds")
        told.append((rate, record.get("metrics", {}).get(metric), met))
        if met:
            low, best = rate, record
        else:
            high = rate
    return best, told


class CapacitySession(Session):
    """A session in which every entry of a block is a search."""

    def perform(self, order):
        metric, limit_ns = parse_objective(self.report["slo"])
        closed = replace(order, cell=replace(order.cell, rate=0.0, rate_of=""), rate=0)
        first = trial.run(self.setting, closed)
        if first["status"] != "ok":
            return first

        def measure(rate):
            cell = replace(order.cell, rate=rate, rate_of="")
            seconds = max(order.seconds, min(SAMPLES[metric] / rate, SECONDS_MAX))
            return trial.run(self.setting, replace(order, cell=cell, rate=rate, seconds=seconds))

        took = first["took"]
        try:
            best, told = search(measure, first["metrics"]["ops_per_s"], metric, limit_ns)
        except trial.TrialFailed as failure:
            return {**first, "status": "failed", "failure": str(failure)}
        if best is None:
            return {**first, "status": "failed", "steps": told,
                    "failure": f"no rate down to {told[-1][0]:,.0f}/s keeps {self.report['slo']}"}
        best["steps"], best["took"] = told, took * (1 + len(told))
        best["metrics"]["capacity_per_s"] = best["rate"]
        return best
