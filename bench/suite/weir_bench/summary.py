"""From trials to the table: medians, ratios to the base with intervals, and what spoiled them."""

from .estimate import median, paired_ratio

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

# Shown only where a cell has it.
EXTRA = (("kernel_bytes", "kernel memory per connection, both ends", "size"),)


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
    return rows


def usable(trials, variant):
    return [t for t in trials if t["variant"] == variant and t["status"] == "ok"]


def summarize_one(cell, name, base, trials, base_trials):
    good = [t for t in trials if t["status"] == "ok"]
    metrics = {}
    for metric, _, _ in METRICS + EXTRA:
        values = by_block(good, metric)
        # A percentile that only a few trials had samples for is not reported.
        if 2 * len(values) <= len(good):
            continue
        metrics[metric] = {"median": median(values.values()), "trials": len(values)}
        if name != base:
            ratio = paired_ratio(values, by_block(base_trials, metric))
            metrics[metric].update(ratio or {})
    return {"cell": cell["name"], "title": cell["title"], "variant": name, "base": base,
            "trials": len(trials), "used": len(good), "metrics": metrics,
            "warnings": collect_guards(trials)}


def by_block(trials, metric):
    return {t["block"]: t["metrics"][metric] for t in trials
            if t["metrics"].get(metric) is not None}


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
