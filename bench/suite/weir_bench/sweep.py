"""One cell at many sizes, numbers of connections, or rates: where do the lines cross?"""

import re
from dataclasses import replace

from . import Problem
from .scenario import TURN_MAX
from .turns import TURNS_MIN

VARIABLES = ("size", "connections", "depth", "churn", "idle", "rate")
FACTOR = 4        # from step to step of a range
STEPS_MAX = 40
TURN_PER_CONNECTION = 1e-4   # seconds: ten times what a request of each takes
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "k": 1000, "m": 1000000}


def parse(text):
    """size=64:1M, size=64:1M:2 (the factor) or size=64,100,1K. Returns (variable, values)."""
    name, _, values = text.partition("=")
    if name not in VARIABLES or not values:
        raise Problem(f"--var {text}: wants NAME=FROM:TO or NAME=A,B,C; NAME is one of "
                      + ", ".join(VARIABLES))
    parts = values.split(":")
    if len(parts) == 1:
        return name, [number(text, part) for part in values.split(",")]
    if len(parts) > 3:
        raise Problem(f"--var {text}: wants FROM:TO or FROM:TO:FACTOR")
    first, last = number(text, parts[0]), number(text, parts[1])
    factor = number(text, parts[2]) if len(parts) == 3 else FACTOR
    if not 0 < first < last or factor < 2:
        raise Problem(f"--var {text}: FROM must be less than TO and more than 0, FACTOR at least 2")
    found = [first]
    while found[-1] * factor < last:
        found.append(found[-1] * factor)
    if len(found) >= STEPS_MAX:
        raise Problem(f"--var {text}: more than {STEPS_MAX} steps")
    return name, [*found, last]


def number(text, part):
    match = re.fullmatch(r"(\d+)([KMkm]?)", part)
    if not match:
        raise Problem(f"--var {text}: {part} is no number such as 64, 4K or 1M")
    return int(match[1]) * UNITS[match[2]]


def lengthen(cell):
    """A turn lasts for some rounds of all connections, and there are as many fewer."""
    turn = min(max(cell.turn, TURN_PER_CONNECTION * cell.connections), TURN_MAX)
    cell.turns = max(round(cell.turns * cell.turn / turn), min(cell.turns, TURNS_MIN))
    cell.turn = turn


def spread(scenario, text):
    """Replaces each cell by one per value. Returns what the report says about it."""
    name, values = parse(text)
    cells, told, origin = [], {}, {}
    for cell in scenario.cells:
        for value in values:
            new = replace(cell, name=f"{cell.name}-{name}-{value}",
                          **{name: float(value) if name == "rate" else value})
            if name == "rate":
                new.rate_of = ""
            if name == "connections" and new.turns:
                lengthen(new)
            cells.append(new)
            told[new.name], origin[new.name] = value, cell.name
            if cell.name in scenario.sources:
                scenario.sources[new.name] = scenario.sources[cell.name]
    scenario.cells = cells
    return {"var": name, "values": values, "cells": told, "of": origin}


def crossings(report):
    """Between which values a variant's cost crosses the base's; only where both sides are sure."""
    values = report["sweep"]["cells"]
    found = []
    for name in dict.fromkeys(row["variant"] for row in report["table"]):
        before = None
        for row in report["table"]:
            verdict = row["verdicts"].get("machine_cpu_ns", {}).get("verdict")
            if row["variant"] != name or row["cell"] not in values \
                    or verdict not in ("FASTER", "SLOWER"):
                continue
            if before and before[0] != verdict and before[1] < values[row["cell"]]:
                found.append(f"{name} is {before[0]} at {report['sweep']['var']} {before[1]} and "
                             f"{verdict} at {values[row['cell']]} (machine/op)")
            before = verdict, values[row["cell"]]
    return found


def as_text(report):
    return "\nCrossings:\n" + "".join(f"  {line}\n" for line in crossings(report) or ["none seen"])
