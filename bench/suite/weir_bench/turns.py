"""What turns say: many short loads of servers that are alive at once.

In each round every variant has one turn, in random order, so the pairs are neighbours within
milliseconds. A round's log-ratios are as noisy as the machine is from moment to moment, with some
far off; a block's is their Hodges-Lehmann estimate. Blocks, with fresh servers each, remain the
unit of all that is claimed.
"""

import math

from . import cgroup
from .estimate import hodges_lehmann

# Of a turn: what is divided by what.
QUOTIENTS = {"server_cpu_ns": ("server_ns", "ops"), "machine_cpu_ns": ("machine_ns", "ops"),
             "ops_per_s": ("ops", "wall_ns"), "load_cpu_ns": ("load_ns", "ops")}
TURNS_MIN = 10       # a budget leaves at least so many
POLLS = ("--busy", "busy-poll", "sqpoll", "--spin")


def values(turns, metric):
    """By round; None where nothing was done, or nothing is known."""
    if metric not in QUOTIENTS:
        return []
    above, below = (turns.get(name, []) for name in QUOTIENTS[metric])
    return [a / b if a and b and a > 0 and b > 0 else None for a, b in zip(above, below)]


def log_ratio(mine, theirs, metric):
    """The block's log-ratio from the rounds that both have; None without any."""
    logs = [math.log(a / b) for a, b in zip(values(mine, metric), values(theirs, metric))
            if a is not None and b is not None]
    return hodges_lehmann(logs) if logs else None


def level(turns, metric):
    """The typical value of a block's turns; None where no turn has one."""
    logs = [math.log(value) for value in values(turns, metric) if value is not None]
    return math.exp(hodges_lehmann(logs)) if logs else None


def why_not(cell, variants, load):
    """Why these cannot take turns in this cell; None if they can."""
    if not load.takes_turns():
        return f"the load {load.name} cannot rest between turns"
    if cell.is_open() and load.pauses():
        return f"the load {load.name} is paused between turns, and its schedule would go on"
    if cell.slow or cell.flood or cell.beside:
        return "its crowd does not rest between turns"
    if cell.idle:
        return "its idle connections, times all servers, would be alive at once"
    if cell.cache == "cold":
        return "each turn would find in the page cache what the one before brought in"
    for variant in variants:
        if any(word in variant.command.replace("-sqpoll", "") for word in POLLS):
            return f"{variant.name} polls, so it would use the CPU in the others' turns"
        if variant.forks and (reason := cgroup.lacks()):
            return (f"{variant.name}'s processes come and go, and no control group can count them: "
                    f"{reason}")
    return None


def count(cell, seconds, wanted):
    """How many fit, where a budget leaves less than the wanted seconds to each trial."""
    if seconds >= wanted:
        return cell.turns
    return min(cell.turns, max(TURNS_MIN, int(cell.turns * seconds / wanted)))
