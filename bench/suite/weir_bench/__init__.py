"""weir-bench: runs servers against a load, in randomised blocks, and says how they compare.

Read in this order: scenario (what is compared), session (which trial when), trial (one trial),
process and namespace (its children), sample (their costs), load (what the load says), guards (what
spoils a trial), estimate (medians, ratios, intervals), table (how it is printed).
"""

SCHEMA = "weir-bench/1"


class Problem(Exception):
    """Something that the user can understand and mend: printed as one line, without a trace."""
