"""The highest offered rate that keeps a latency objective, by bisection, for every variant.

Each search is one entry of a block, so capacities are paired and judged like everything else. By
turns, all variants of a cell search at once: in each step every one is offered a rate of its own,
and they meet what the machine does meanwhile together.
"""

import math
import re
from dataclasses import replace

from . import Problem, relay, trial
from .scenario import TURNS_MAX
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
    # By turns nothing is due while the load waits for what a turn left.
    offered = record["offered_per_s"] if "turns" in record else record["rate"]
    if record["metrics"]["ops_per_s"] < ACHIEVED_MIN * offered:
        return False
    if metric not in record["metrics"]:
        return None
    return record["metrics"][metric] <= limit_ns


class Search:
    """Bisects below `top`."""

    def __init__(self, top, metric, limit_ns):
        self.low, self.high, self.metric, self.limit_ns = 0.0, top, metric, limit_ns
        self.best = None   # the record of the highest rate that kept the objective
        self.told = []     # [(rate, metric, met)]

    def rate(self):
        return (self.low + self.high) / 2

    def note(self, record):
        rate, met = self.rate(), meets(record, self.metric, self.limit_ns)
        if met is None:
            # A lower rate would have still fewer samples.
            raise trial.TrialFailed(f"at {rate:,.0f}/s there are too few samples for the "
                                    "objective: give more --seconds")
        self.told.append((rate, record.get("metrics", {}).get(self.metric), met))
        if met:
            self.low, self.best = rate, record
        else:
            self.high = rate

    def result(self, first, objective):
        """The record of the search; `first` is that of the closed loop which gave its top."""
        if self.best is None:
            return {**first, "status": "failed", "steps": self.told, "failure":
                    f"no rate down to {self.told[-1][0]:,.0f}/s keeps {objective}"}
        self.best["steps"] = self.told
        self.best["took"] = first["took"] * (1 + len(self.told))
        self.best["metrics"]["capacity_per_s"] = self.best["rate"]
        return self.best


def at_rate(order, rate, metric):
    """The order at that rate: open, and long enough for the percentile's samples; 0: closed."""
    cell = replace(order.cell, rate=float(rate), rate_of="")
    seconds = max(order.seconds, min(SAMPLES[metric] / rate, SECONDS_MAX)) if rate \
        else order.seconds
    return replace(order, cell=cell, rate=rate, seconds=seconds)


class CapacitySession(Session):
    """A session in which every entry of a block is a search."""

    def perform(self, order):
        metric, limit_ns = parse_objective(self.report["slo"])
        first = trial.run(self.setting, at_rate(order, 0, metric))
        if first["status"] != "ok":
            return first
        found = Search(first["metrics"]["ops_per_s"], metric, limit_ns)
        try:
            for _ in range(STEPS):
                found.note(trial.run(self.setting, at_rate(order, found.rate(), metric)))
        except trial.TrialFailed as failure:
            return {**first, "status": "failed", "failure": str(failure)}
        return found.result(first, self.report["slo"])

    def perform_together(self, orders, count):
        """The searches of all variants, step by step."""
        metric, limit_ns = parse_objective(self.report["slo"])
        records = relay.run(self.setting, [at_rate(order, 0, metric) for order in orders], count)
        searches = {at: Search(first["metrics"]["ops_per_s"], metric, limit_ns)
                    for at, first in enumerate(records) if first["status"] == "ok"}
        for _ in range(STEPS):
            self.step(orders, records, searches, count)
        for at, found in searches.items():
            records[at] = found.result(records[at], self.report["slo"])
        return records

    def step(self, orders, records, searches, count):
        """One step of those that are not over; one that has too few samples is."""
        asked = {at: at_rate(orders[at], found.rate(), found.metric)
                 for at, found in searches.items()}
        # All have as many turns as the lowest rate needs.
        wanted = max((turns_for(order, count) for order in asked.values()), default=0)
        for at, record in zip(asked, relay.run(self.setting, list(asked.values()), wanted)
                              if asked else ()):
            try:
                searches[at].note(record)
            except trial.TrialFailed as failure:
                records[at] = {**records[at], "status": "failed", "failure": str(failure)}
                del searches[at]


def turns_for(order, count):
    return min(max(count, math.ceil(order.seconds / order.cell.turn)), TURNS_MAX)
