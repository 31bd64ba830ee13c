"""From trials to the table: medians, ratios to the base with intervals, and what spoiled them."""

import math

from . import histogram, turns
from .estimate import median, ratio_of
from .verdict import SPOILED_SHARE_MAX, decide, margin_of

# Name in the JSON, heading, kind of value.
METRICS = (
    ("ops_per_s", "ops/s", "rate"),
    ("p50_ns", "p50", "time"),
    ("p99_ns", "p99", "time"),
    ("server_cpu_ns", "server/op", "time"),
    ("machine_cpu_ns", "machine/op", "time"),
    ("calls", "calls/op", "number"),
    ("switches", "switches/op", "number"),
    ("pss_bytes", "memory", "size"),
)

# Endpoints that a verdict is given on, where the scenario names no others.
ENDPOINTS = ("machine_cpu_ns", "server_cpu_ns", "ops_per_s", "p99_ns")

PERCENTILES = {"p50_ns": 0.5, "p99_ns": 0.99}

# What a guard spoils without making the trial useless: the client's number is no rate of a server.
SPOILS = {
    "client-limit": ("ops_per_s", "p99_ns"),
    "nobody-busy": ("ops_per_s", "p99_ns"),
    "client-rests": ("ops_per_s", "p99_ns"),
    "near-ceiling": ("ops_per_s",),
    "departures-late": ("p99_ns",),
    "offered": ("p99_ns",),
    "unfinished": ("p99_ns",),
    "conformance": ENDPOINTS,
    "unrest": ENDPOINTS,
    "seldom-read": ("server_cpu_ns", "machine_cpu_ns"),
}

# Shown only where a cell has it.
EXTRA = (
    ("kernel_bytes", "kernel memory per connection, both ends", "size"),
    ("capacity_per_s", "capacity at the objective", "rate"),
)


def summarize(report):
    """Returns the rows of the table, one per cell and variant, in the scenario's order."""
    rows = []
    base = report["base"]
    for cell in report["scenario"]["cells"]:
        trials = [t for t in report["trials"] if t["cell"] == cell["name"]]
        names = [v["name"] for v in report["scenario"]["variants"]]
        names.sort(key=lambda name: name != base)
        base_trials = usable(trials, base)
        for name in names:
            mine = [t for t in trials if t["variant"] == name]
            if mine:
                rows.append(summarize_one(cell, name, base, mine, base_trials))
    add_verdicts(report, rows)
    return rows


def add_verdicts(report, rows):
    """Judges every endpoint of every row but the base's."""
    comparisons = []
    for row in rows:
        row["verdicts"] = {}
        cell = next(c for c in report["scenario"]["cells"] if c["name"] == row["cell"])
        others = endpoints_of(report, cell) if row["variant"] != row["base"] else ()
        for endpoint in others:
            if found := compare_row(report, row, cell, endpoint):
                row["verdicts"][endpoint] = found
                comparisons.append(found)
    decide(comparisons)
    for comparison in comparisons:
        del comparison["logs"]


def endpoints_of(report, cell):
    """At an offered rate the rate is no result; in a closed loop a percentile speaks of nobody."""
    is_open = bool(cell["rate"] or cell["rate_of"])
    unfit = "ops_per_s" if is_open else "p99_ns"
    chosen = report["scenario"].get("endpoints") or (*ENDPOINTS, "capacity_per_s")
    return [name for name in chosen if name != unfit]


def compare_row(report, row, cell, endpoint):
    """One comparison for decide(); None where there is nothing to compare."""
    trials = {name: [t for t in report["trials"]
                     if t["cell"] == row["cell"] and t["variant"] == name]
              for name in (row["variant"], row["base"])}
    found = {"endpoint": endpoint,
             "margin": margin_of(report.get("floors", {}), cell, endpoint)}
    spoiled = next(filter(None, (reason_spoiled(name, list_, endpoint)
                                 for name, list_ in trials.items())), None)
    logs = list(logs_between(*([t for t in list_ if t["status"] == "ok"]
                               for list_ in trials.values()), endpoint).values())
    if spoiled and endpoint != "capacity_per_s":
        return {**found, **(ratio_of(logs) or {}), "logs": logs, "spoiled": spoiled}
    if not logs:
        return None
    return {**found, **ratio_of(logs), "logs": logs}


def reason_spoiled(variant, trials, endpoint, spoils=SPOILS):
    """Why too many trials of a variant are of no use for this endpoint, or None."""
    reasons = {}
    for trial in trials:
        if trial["status"] == "failed":
            spoken = [{"guard": "failed", "text": trial["failure"]}]
        else:
            spoken = [guard for guard in trial["guards"] if guard["severity"] == "invalid"
                      or endpoint in spoils.get(guard["guard"], ())]
        if spoken:
            reasons.setdefault(spoken[0]["guard"], []).append(spoken[0]["text"])
    count = sum(map(len, reasons.values()))
    if count <= SPOILED_SHARE_MAX * len(trials):
        return None
    guard, texts = max(reasons.items(), key=lambda item: len(item[1]))
    return f"{guard}: {variant}: {texts[0]} ({count} of {len(trials)} trials)"


def usable(trials, variant):
    return [t for t in trials if t["variant"] == variant and t["status"] == "ok"]


def summarize_one(cell, name, base, trials, base_trials):
    good = [t for t in trials if t["status"] == "ok"]
    metrics = {}
    for metric, _, _ in METRICS + EXTRA:
        values = by_block(good, metric)
        # A percentile that only a few blocks had samples for is not reported.
        if 2 * len(values) <= len(blocks_of(good)):
            continue
        metrics[metric] = {"median": median(values.values()), "trials": len(values)}
        if name != base:
            ratio = ratio_of(list(logs_between(good, base_trials, metric).values()))
            metrics[metric].update(ratio or {})
    return {"cell": cell["name"], "title": cell["title"], "variant": name, "base": base,
            "trials": len(trials), "used": len(good), "metrics": metrics,
            "warnings": collect_guards(trials)}


def blocks_of(trials):
    """{block: its trials}, of which there are several if it has rounds."""
    found = {}
    for trial in trials:
        found.setdefault(trial["block"], []).append(trial)
    return found


def by_block(trials, metric):
    """{block: value}, for the blocks that have one."""
    values = {block: value_of(rounds, metric) for block, rounds in blocks_of(trials).items()}
    return {block: value for block, value in values.items() if value is not None}


def logs_between(mine, theirs, metric):
    """{block: the logarithm of the ratio}, for the blocks that both have. Where both took turns it
    is that of their turns, neighbour by neighbour."""
    values, base = by_block(mine, metric), by_block(theirs, metric)
    found = {block: math.log(values[block] / base[block]) for block in sorted(values)
             if block in base and values[block] > 0 and base[block] > 0}
    turned = [{t["block"]: t["turns"] for t in list_ if "turns" in t} for list_ in (mine, theirs)]
    for block in found.keys() & turned[0].keys() & turned[1].keys():
        ratio = turns.log_ratio(turned[0][block], turned[1][block], metric)
        found[block] = found[block] if ratio is None else ratio
    return found


def value_of(rounds, metric):
    """What the rounds of a block say together: the geometric mean. Percentiles are never averaged:
    they are those of all requests of the block, or the median where a load has no histogram."""
    values = [t["metrics"][metric] for t in rounds if t["metrics"].get(metric) is not None]
    if len(rounds) == 1:
        return values[0] if values else None
    if metric in PERCENTILES:
        together = dict(histogram.of_trials(rounds))
        if together or 2 * len(values) <= len(rounds):
            return together.get(PERCENTILES[metric])
        return median(values)
    if 2 * len(values) <= len(rounds):
        return None
    if min(values) <= 0:
        return median(values)
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def collect_guards(trials):
    """One entry per guard that spoke, with the number of trials and its first sentence."""
    found = {}
    for trial in trials:
        spoken = trial.get("guards", [])
        if trial["status"] == "failed":
            spoken = [{"guard": "failed", "severity": "invalid", "text": trial["failure"]}]
        for guard in spoken:
            entry = found.setdefault(guard["guard"], {**guard, "trials": 0, "of": len(trials)})
            entry["trials"] += 1
    return list(found.values())
