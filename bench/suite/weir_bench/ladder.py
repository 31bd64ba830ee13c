"""What each feature buys, so that every gain has a name.

Two questions about io_uring: what does the default plan lose without one feature (no-NAME), and
what do they add when they come one after the other, as they did in Linux? weir has no plan but the
default, the default without one, and those of older kernels; so the climb goes over the latter.
Then epoll's own rungs, from the program `weir-rungs`, up to weir's epoll engine.
"""

import math
import re
import subprocess

from . import Problem
from .estimate import ratio_of
from .scenario import WEIR_SERVERS, Variant, engine_variant
from .summary import logs_between, usable

BASE = "default"
ENDPOINT = "machine_cpu_ns"
GAIN_MIN = 0.05   # a feature that gains less in every row does not earn its place
NEEDED = ("buffer-ring",)   # every plan has it
NEEDS = {"receive-bundle": "receive-multishot"}   # has no use without the other
KERNELS = ("kernel-6.1", "kernel-6.8", "kernel-6.12")
# As `weir-rungs` names them, each with what the one before does not do.
EPOLL_RUNGS = ("level", "one-shot", "try-first", "accept-all", "edge-again", "edge", "writev")


def features_of(weir):
    """What this kernel's default plan has, as `weir doctor` lists it: {name: since which Linux}."""
    try:
        said = subprocess.run([weir, "doctor"], capture_output=True, text=True, timeout=20,
                              check=False).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Problem(f"weir doctor: {error}") from None
    found = re.findall(r"^ +ok +(\S+) +\* (\d+)\.(\d+)", said, re.M)
    if not found:
        raise Problem("weir doctor names no feature of the default plan: is there an io_uring?")
    return {name: (int(major), int(minor)) for name, major, minor in found}


def variant(name, set_, server):
    return Variant(name, f"{WEIR_SERVERS[server]} --engine uring --uring {set_}", "uring")


def uring_climb(features):
    """[(variant, what it has that the one before has not)], each with something new."""
    newest = max(features.values())
    plans = [(name, {f for f, since in features.items() if since <= version_of(name)})
             for name in KERNELS]
    plans += [(f"no-{name}", without(features, name))
              for name, since in features.items() if since == newest]
    plans.append((BASE, set(features)))
    climb, has = [], set()
    for name, plan in plans:
        if plan - has:
            climb.append((name, sorted(plan - has)))
            has = plan
    return climb


def without(features, name):
    return {other for other in features if other != name and NEEDS.get(other) != name}


def version_of(kernel):
    major, minor = kernel.removeprefix("kernel-").split(".")
    return int(major), int(minor)


def prepare(scenario, weir, rungs):
    """Replaces the variants by the rungs; `rungs` is the path of weir-rungs or None."""
    features, server = features_of(weir), scenario.server
    names = [name for name in features if name not in NEEDED]
    scenario.variants = [variant(BASE, BASE, server),
                         *(variant(f"no-{name}", f"default,-{name}", server) for name in names),
                         *(variant(name, name, server) for name in KERNELS)]
    climb = uring_climb(features)
    chains = {"io_uring": [name for name, _ in climb], "epoll": ["epoll"]}
    if rungs and server == "echo":
        chains["epoll"] = [f"epoll-{name}" for name in EPOLL_RUNGS] + ["epoll"]
        scenario.variants += [Variant(f"epoll-{name}", f"{{rungs}} {name} --listen {{address}}",
                                      f"epoll-{name}") for name in EPOLL_RUNGS]
    scenario.variants.append(engine_variant("epoll", "ladder", server))
    scenario.base = BASE
    for cell in scenario.cells:
        cell.variants = []
    return {"features": names, "chains": chains, "adds": dict(climb)}


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
    good = {name: usable(trials, name) for name in (BASE, *names)}

    def ratio(name, other):
        return ratio_of(list(logs_between(good[name], good[other], endpoint).values()))

    steps, before = [], None
    for name in names:
        level = ratio(name, BASE)
        if level:
            step = before and ratio(name, before)
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
    lines += [f"  {name} has {', '.join(added)}"
              for name, added in report["ladder"].get("adds", {}).items()]
    for cell, chains in climbs(report).items():
        lines += [f"  {cell} {chain}: " + ", ".join(map(text_of_step, steps))
                  for chain, steps in chains]
    return "\n".join(lines) + "\n"


def text_of_step(step):
    name, level, change = step
    return f"{name} {change['ratio'] - 1:+.1%} [{level:.2f}]" if change else f"{name} [{level:.2f}]"
