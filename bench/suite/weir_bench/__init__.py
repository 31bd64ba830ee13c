"""weir-bench: runs servers against a load, in randomised blocks, and says how they compare.

Read in this order: scenario (what is compared), session (which trial when), trial (one trial),
process, namespace and cgroup (its children), sample and witness (what they cost and meet), turns,
relay and drive (trials that take turns), load (what it says), guards (what spoils a trial),
estimate (medians, ratios, intervals), verdict (what may be claimed), looks (when a cell is known
well enough), summary (all of it per row), table, sheet and page (how it is shown). compare and mood
set two runs side by side; calibrate, sweep, ladder, capacity, replay and explain are runs with a
purpose.
"""

SCHEMA = "weir-bench/1"


class Problem(Exception):
    """Something that the user can understand and mend: printed as one line, without a trace."""
