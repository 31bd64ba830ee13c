"""What each feature buys, so that every gain has a name.

Two questions about io_uring: what does the default plan lose without one feature (no-NAME), and
what does each add when they come one after the other, from the plan that has none of them? Then
epoll's own rungs, from the program `weir-rungs`, up to weir's epoll engine; and the plans of older
kernels.
"""

import math
import re
import subprocess

from . import Problem
from .estimate import paired_ratio
from .scenario import WEIR_SERVERS, Variant, engine_variant
from .summary import by_block, usable

BASE = "default"
ENDPOINT = "machine_cpu_ns"
GAIN_MIN = 0.05   # a feature that gains less in every row does not earn its place
NEEDED = ("buffer-ring",)   # every plan has it
KERNELS = ("kernel-6.1", "kernel-6.8", "kernel-6.12")
BARE = "bare"
# As `weir-rungs` names them, each with what the one before does not do.
EPOLL_RUNGS = ("level", "try-first", "edge", "writev")


def features_of(weir):
    """What can be left out of this kernel's default plan, as `weir doctor` lists it."""
    try:
        said = subprocess.run([weir, "doctor"], capture_output=True, text=True, timeout=20,
                              check=False).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Problem(f"weir doctor: {error}") from None
    names = re.findall(r"^ +ok +(\S+) +\* ", said, re.M)
    if not names:
        raise Problem("weir doctor names no feature of the default plan: is there an io_uring?")
    return [name for name in names if name not in NEEDED]


def variant(name, set_, server):
    return Variant(name, f"{WEIR_SERVERS[server]} --engine uring --uring {set_}", "uring")


def without(names):
    return ",".join(["default", *(f"-{name}" for name in names)])


def uring_climb(names):
    """[(variant, what it lacks)] from nothing to the default plan."""
    rungs = [(f"+{names[at - 1]}" if at else BARE, names[at:]) for at in range(len(names))]
    # All but the last is also the plan without the last: one variant answers both.
    if len(names) > 1:
        rungs[-1] = (f"no-{names[-1]}", names[-1:])
    return [*rungs, (BASE, [])]


def prepare(scenario, weir, rungs):
    """Replaces the variants by the rungs; `rungs` is the path of weir-rungs or None."""
    names, server = features_of(weir), scenario.server
    climb = uring_climb(names)
    chosen = {name: without(lacks) for name, lacks in climb}
    chosen.update((f"no-{name}", without([name])) for name in names)
    chosen.update((name, name) for name in KERNELS)
    scenario.variants = [variant(name, set_, server) for name, set_ in chosen.items()]
    chains = {"io_uring": [name for name, _ in climb], "epoll": ["epoll"]}
    if rungs and server == "echo":
        chains["epoll"] = [f"epoll-{name}" for name in EPOLL_RUNGS] + ["epoll"]
        scenario.variants += [Variant(f"epoll-{name}", f"{{rungs}} {name} --listen {{address}}",
                                      f"epoll-{name}") for name in EPOLL_RUNGS]
    scenario.variants.append(engine_variant("epoll", "ladder", server))
    scenario.base = BASE
    for cell in scenario.cells:
        cell.variants = []
    return {"features": names, "chains": chains}


def savings(report, endpoint=ENDPOINT):
    """By feature: [(cell, its comparison: the cost without it over the cost with it)]."""
    found = {name: [] for name in report["ladder"]["features"]}
    for row in report["table"]:
        name = row["variant"].removeprefix("no-")
        seen = row["verdicts"].get(endpoint, {})
        if name != row["variant"] and name in found and "ratio" in seen:
            found[name].append((row["cell"], seen))
    return found


def climbs(report, endpoint=ENDPOINT):
    """By cell: [(chain, [(rung, its cost over the default plan's, the step from the one before)])].

    Both are paired ratios of blocks; the first rung has no step. A rung without a result is left
    out, and the step after it leads from the one before.
    """
    found = {}
    for cell in [c["name"] for c in report["scenario"]["cells"]] if "ladder" in report else ():
        trials = [t for t in report["trials"] if t["cell"] == cell]
        for chain, names in report["ladder"].get("chains", {}).items():
            if steps := climb(trials, names, endpoint):
                found.setdefault(cell, []).append((chain, steps))
    return found


def climb(trials, names, endpoint):
    values = {name: by_block(usable(trials, name), endpoint) for name in (BASE, *names)}
    steps, before = [], None
    for name in names:
        level = paired_ratio(values[name], values[BASE])
        if level:
            step = before and paired_ratio(values[name], values[before])
            steps.append((name, level["ratio"], step))
            before = name
    return steps


def as_text(report):
    lines = ["", "What each feature saves of machine/op (the plan without it against the default):"]
    for name, seen in savings(report).items():
        told = ", ".join(f"{cell} {c['ratio'] - 1:+.1%} {c['verdict'].lower()}" for cell, c in seen)
        lines.append(f"  {name:<18} {told or 'not measured'}")
        # Only where the whole interval says so.
        if seen and all(c.get("high", math.inf) < 1 + GAIN_MIN for _, c in seen):
            lines.append(f"  {'':<18} gains less than {GAIN_MIN:.0%} in every row")
    lines += ["", "Rung by rung (machine/op; in brackets over the default plan's):"]
    for cell, chains in climbs(report).items():
        lines += [f"  {cell} {chain}: " + ", ".join(map(text_of_step, steps))
                  for chain, steps in chains]
    return "\n".join(lines) + "\n"


def text_of_step(step):
    name, level, change = step
    return f"{name} {change['ratio'] - 1:+.1%} [{level:.2f}]" if change else f"{name} [{level:.2f}]"
