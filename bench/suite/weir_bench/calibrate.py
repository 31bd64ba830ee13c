"""What this machine can tell apart, and how fast the load can be: to be known before a verdict.

The noise floor of a cell is what an A/A comparison, the same server twice, cannot exclude: the far
end of its interval. The ceiling of the load is its rate over the share of the CPU that it used,
with the reflector that left it the cheapest work: an engine, or the kernel itself (reflector.py).
"""

import math
import time

from . import Problem, reflector, verdict
from .estimate import median
from .scenario import Variant, engine_variant

TWIN = "again"
REFLECTORS = ("epoll", "uring", "blocking")
BLOCKING_CONNECTIONS_MAX = 256   # a thread each
NONE_REFLECTED = ("the kernel can answer in none of these cells, only in closed ones of echoes "
                  "over TCP whose connections stay")


def prepare(scenario):
    """Leaves the base, its twin, and the engines that can reflect."""
    base = next(v for v in scenario.variants if v.name == scenario.base)
    twin = Variant(f"{base.name}-{TWIN}", base.command, base.engine)
    base.cells = []
    scenario.ceiling = False   # it is what is measured
    small = [cell.name for cell in scenario.cells
             if cell.connections + cell.idle <= BLOCKING_CONNECTIONS_MAX]
    others = [engine_variant(name, "calibrate", scenario.server) for name in REFLECTORS
              if name != base.name]
    for other in others:
        if other.name == "blocking":
            other.cells = small or ["-"]
    scenario.variants = [base, twin, *others, *kernel(scenario)]
    for cell in scenario.cells:
        cell.variants = []


def kernel(scenario):
    """The reflector without a process, for the cells that it can serve."""
    cells = [cell.name for cell in scenario.cells if not cell.churn and cell.transport == "tcp"]
    if scenario.server != "echo" or not cells:
        return []
    if reason := reflector.works():
        scenario.notes.append(f"the kernel's reflector does not work here: {reason}")
        return []
    return [Variant("kernel", "{python} {reflector} {address}", "kernel", cells)]


def clock_cost_ns(count=20000):
    start = time.perf_counter_ns()
    for _ in range(count):
        time.monotonic_ns()
    return (time.perf_counter_ns() - start) / count


def ceilings(report):
    """By closed cell: the rate at which the load's CPU would be full, and with which reflector."""
    found = {}
    for trial in report["trials"]:
        share = trial.get("cpu", {}).get("client_share", 0)
        if trial["status"] != "ok" or trial["open"] or share <= 0:
            continue
        found.setdefault(trial["cell"], {}).setdefault(trial["variant"], []).append(
            trial["metrics"]["ops_per_s"] / min(share, 1))
    return {cell: max((median(rates), name) for name, rates in by_variant.items())
            for cell, by_variant in found.items()}


def floors(report):
    """By cell and by class of cells: endpoint -> the relative difference that is mere noise."""
    found, classes = {}, {}
    by_name = {cell["name"]: cell for cell in report["scenario"]["cells"]}
    for row in report["table"]:
        if row["variant"] != f"{report['base']}-{TWIN}":
            continue
        kind = verdict.class_of(by_name[row["cell"]])
        for endpoint, seen in row["verdicts"].items():
            if "low" in seen:
                floor = math.expm1(max(abs(math.log(seen[end])) for end in ("low", "high")))
                found.setdefault(row["cell"], {})[endpoint] = floor
                classes.setdefault(kind, {}).setdefault(endpoint, []).append(floor)
    for kind, endpoints in classes.items():
        found[kind] = {name: median(values) for name, values in endpoints.items()}
    return found


def finish(report):
    """Adds what was found to the report of the run."""
    report["floors_found"] = floors(report)
    report["ceilings_found"] = {cell: {"per_s": rate, "reflector": name}
                                for cell, (rate, name) in ceilings(report).items()}
    report["clock_ns"] = clock_cost_ns()


def apply(report, calibration):
    """Puts the floors and ceilings of a calibration into the report of another run."""
    if "floors_found" not in calibration:
        raise Problem("--calibration: this file is no result of `weir-bench calibrate`")
    mine, theirs = report["environment"], calibration["environment"]
    for name in ("cpu_model", "kernel"):
        if mine[name] != theirs[name]:
            raise Problem(f"--calibration: made on another machine: {name} is {mine[name]} here "
                          f"and {theirs[name]} there")
    report["floors"] = calibration["floors_found"]
    report["ceilings"] = {name: c["per_s"] for name, c in calibration["ceilings_found"].items()}


def as_text(report):
    lines = ["", f"Reading the clock costs {report['clock_ns']:.0f} ns.", "",
             "The load's ceiling, and the reflector that showed it:"]
    lines += [f"  {cell:<18} {c['per_s']:>12,.0f}/s  {c['reflector']}"
              for cell, c in report["ceilings_found"].items()]
    lines += ["", "Noise floor, what the same server twice cannot exclude:"]
    for cell, endpoints in report["floors_found"].items():
        lines.append(f"  {cell:<18} " + ", ".join(f"{name} {floor:.1%}"
                                                  for name, floor in endpoints.items()))
    return "\n".join(lines) + "\n"
