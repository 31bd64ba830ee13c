"""Which pictures a run has to show, and what stands in each."""

import math

from . import charts, histogram, ladder
from .estimate import median
from .summary import METRICS
from .table import HEADINGS, show
from .verdict import MORE_IS_BETTER

# Where the ticks of percentiles stand: each nine has the same width.
NINES = [-math.log10(1 - share) for share in (0.5, 0.9, 0.99, 0.999, 0.9999)]


def pictures(report, rows):
    """Yields (caption, SVG) of what this run has to show."""
    for endpoint in MORE_IS_BETTER:
        entries = [(f"{row['cell']} {row['variant']}", row["verdicts"][endpoint]) for row in rows
                   if "ratio" in row["verdicts"].get(endpoint, {})]
        if entries:
            word = "more" if MORE_IS_BETTER[endpoint] else "less"
            caption = f"{HEADINGS[endpoint]}: ratio to {report['base']} ({word} is better)"
            yield caption, charts.forest(caption, entries)
    yield from climbs(report)
    yield from loads(report, rows)
    yield from crossovers(report, rows)
    yield from costs(report)
    for cell in report["scenario"]["cells"]:
        yield from latencies(report, cell)
    yield from order_of_trials(report)


def names_of(report):
    return [variant["name"] for variant in report["scenario"]["variants"]]


def climbs(report):
    """A ladder's rungs, one above the other, in each cell."""
    for cell, chains in ladder.climbs(report).items():
        caption = f"Ladder, {cell}: {HEADINGS[ladder.ENDPOINT]} of each rung to the default plan's"
        yield caption, charts.waterfall(caption, chains)


def loads(report, rows):
    """Latency against the rate that was achieved, where a source's cell was run at several."""
    groups = {}
    for cell in report["scenario"]["cells"]:
        if source := source_of(report, cell):
            groups.setdefault(source, []).append(cell["name"])
    for source, cells in groups.items():
        lines = {}
        for row in rows:
            rate, late = (row["metrics"].get(name, {}).get("median")
                          for name in ("ops_per_s", "p99_ns"))
            if row["cell"] in cells and rate and late:
                lines.setdefault(row["variant"], []).append((rate, late))
        if lines and max(map(len, lines.values())) > 1:
            caption = f"Latency against throughput, {source}: p99 response"
            yield caption, charts.curves(caption, {name: sorted(line)
                                                   for name, line in lines.items()},
                                         lambda v: show(v, "rate"), lambda v: show(v, "time"),
                                         "achieved, per second")


def source_of(report, cell):
    """What open cells share that differ in their rate alone; None for closed cells."""
    if cell["rate_of"]:
        return cell["rate_of"]
    return (cell["rate"] and report.get("sweep", {}).get("of", {}).get(cell["name"])) or None


def crossovers(report, rows):
    """A sweep's metrics against what was varied."""
    sweep = report.get("sweep")
    if not sweep:
        return
    for metric, heading, kind in METRICS:
        lines = {}
        for row in rows:
            value = row["metrics"].get(metric, {}).get("median")
            if value and row["cell"] in sweep["cells"]:
                lines.setdefault(row["variant"], []).append((sweep["cells"][row["cell"]], value))
        if lines and max(map(len, lines.values())) > 1:
            caption = f"{heading} against {sweep['var']}"
            yield caption, charts.curves(caption, lines, lambda v: f"{v:g}",
                                         lambda v, kind=kind: show(v, kind), sweep["var"],
                                         (True, True))


def costs(report):
    """The parts of the machine's time per operation."""
    entries = []
    for cell in report["scenario"]["cells"]:
        for name in names_of(report):
            parts = [parts_of(t) for t in report["trials"] if (t["cell"], t["variant"]) ==
                     (cell["name"], name) and t["status"] == "ok" and "spent" in t]
            if parts := [p for p in parts if p]:
                entries.append((f"{cell['name']} {name}", [median(part) for part in zip(*parts)]))
    if entries:
        caption = "CPU time per operation of the whole machine"
        yield caption, charts.stacked(caption, entries, ["server", "load", "others, interrupts"],
                                      lambda v: show(v, "time"))


def parts_of(trial):
    spent = trial["spent"]
    done = (trial["metrics"].get("ops_per_s") or 0) * spent["time"] / 1e9
    rest = spent["machine"] - spent["own"] - spent["server"] - spent["load"]
    return [spent["server"] / done, spent["load"] / done, max(rest, 0) / done] if done else None


def latencies(report, cell):
    lines = {}
    for name in names_of(report):
        trials = [t for t in report["trials"] if (t["cell"], t["variant"]) == (cell["name"], name)]
        points = [(-math.log10(1 - share), value)
                  for share, value in histogram.of_trials(trials) if value > 0]
        if len(points) > 1:
            lines[name] = points
    if lines:
        what = "response" if cell["rate"] or cell["rate_of"] else "service time, closed loop"
        caption = f"Latency by percentile, {cell['name']}: {what}"
        yield caption, charts.curves(caption, lines, lambda v: f"{100 * (1 - 10 ** -v):.5g} %",
                                     lambda v: show(v, "time"), "percentile", marks=NINES)


def order_of_trials(report):
    """Each trial against the median of its like, in the order in which they ran: drift is seen."""
    good = [t for t in report["trials"] if t["status"] == "ok" and t["metrics"].get("ops_per_s")]
    typical = {}
    for trial in good:
        typical.setdefault((trial["cell"], trial["variant"]), []).append(
            trial["metrics"].get("machine_cpu_ns") or 1)
    lines = {}
    for at, trial in enumerate(good, 1):
        middle = median(typical[trial["cell"], trial["variant"]])
        lines.setdefault(trial["variant"], []).append(
            (at, (trial["metrics"].get("machine_cpu_ns") or 1) / middle))
    if len(good) > 2:
        caption = "CPU per operation against the median of the same cell, in the order of trials"
        yield caption, charts.curves(caption, lines, lambda v: f"{v:g}", lambda v: f"{v:.2f}",
                                     "trial", (False, False), points=True)
