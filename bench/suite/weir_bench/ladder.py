"""What each io_uring feature buys: the default plan against the same plan without one of them.

So every gain has a name. The kernel-... sets show what older kernels leave; the other engines show
where the whole ladder stands.
"""

import math
import re
import subprocess

from . import Problem
from .scenario import WEIR_SERVERS, Variant, engine_variant

BASE = "default"
GAIN_MIN = 0.05   # a feature that gains less in every row does not earn its place
NEEDED = ("buffer-ring",)   # every plan has it
KERNELS = ("kernel-6.1", "kernel-6.8", "kernel-6.12")


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


def prepare(scenario, weir):
    """Replaces the variants by the rungs."""
    names = features_of(weir)
    scenario.variants = [variant(BASE, "default", scenario.server),
                         *(variant(f"no-{name}", f"default,-{name}", scenario.server)
                           for name in names),
                         *(variant(name, name, scenario.server) for name in KERNELS),
                         engine_variant("epoll", "ladder", scenario.server)]
    scenario.base = BASE
    for cell in scenario.cells:
        cell.variants = []
    return {"features": names}


def rungs(report, endpoint="machine_cpu_ns"):
    """By feature: [(cell, its comparison: the cost without it over the cost with it)]."""
    found = {name: [] for name in report["ladder"]["features"]}
    for row in report["table"]:
        name = row["variant"].removeprefix("no-")
        seen = row["verdicts"].get(endpoint, {})
        if name != row["variant"] and name in found and "ratio" in seen:
            found[name].append((row["cell"], seen))
    return found


def as_text(report):
    lines = ["", "What each feature saves of machine/op (the plan without it against the default):"]
    for name, seen in rungs(report).items():
        told = ", ".join(f"{cell} {c['ratio'] - 1:+.1%} {c['verdict'].lower()}" for cell, c in seen)
        lines.append(f"  {name:<18} {told or 'not measured'}")
        # Only where the whole interval says so.
        if seen and all(c.get("high", math.inf) < 1 + GAIN_MIN for _, c in seen):
            lines.append(f"  {'':<18} gains less than {GAIN_MIN:.0%} in every row")
    return "\n".join(lines) + "\n"
