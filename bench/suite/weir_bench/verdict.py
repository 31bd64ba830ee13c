"""From paired ratios to verdicts: what a run may claim, and what it may not.

A family is all comparisons of one endpoint in a run: each endpoint asks a question of its own, and
within it nobody may pick the cell that looks best. Its p values are adjusted by Holm.
"""

import math
import statistics
from bisect import bisect_left, bisect_right

from .estimate import LEVEL

FASTER, SLOWER, EQUIVALENT = "FASTER", "SLOWER", "EQUIVALENT"
INCONCLUSIVE, INVALID = "INCONCLUSIVE", "INVALID"
VERDICTS = (FASTER, SLOWER, EQUIVALENT, INCONCLUSIVE, INVALID)

ALPHA = 0.05
MARGIN_MIN = 0.02          # a smaller difference is of no practical interest
SPOILED_SHARE_MAX = 1 / 3  # more spoiled trials than that leave a selection, not a sample
EXACT_MAX = 32             # pairs; beyond them the values are rounded before all signs are counted
STEPS = 1 << 14            # of the sum of all values, to which they are rounded then

# The quantiles of the normal distribution behind "found in four of five runs, at 95 %".
POWER_FACTOR = 1.96 + 0.84

# Endpoints, and whether more of it is better.
MORE_IS_BETTER = {"ops_per_s": True, "capacity_per_s": True, "p50_ns": False, "p99_ns": False,
                  "server_cpu_ns": False, "machine_cpu_ns": False}


def sign_flip_p(values):
    """Two-sided: how often random signs bring the sum of the values as far from zero as it is.

    Up to EXACT_MAX values the sums of all signs of one half are met with those of the other.
    """
    if len(values) > EXACT_MAX:
        return rounded_sign_flip_p(values)
    target = abs(sum(values)) * (1 - 1e-12)
    half = len(values) // 2
    one, other = signed_sums(values[:half]), sorted(signed_sums(values[half:]))
    inside = sum(max(bisect_left(other, target - x) - bisect_right(other, -target - x), 0)
                 for x in one)
    return 1 - inside / 2 ** len(values)


def rounded_sign_flip_p(values):
    """The same of many values, rounded to STEPS: then their sums are few, and can be counted.

    The counts are the coefficients of the product of (1 + x**value), which are kept side by side in
    one long integer. The exponent is the sum of the values with a plus.
    """
    unit = sum(map(abs, values)) / STEPS
    if not unit:
        return 1.0
    whole = [round(value / unit) for value in values]
    width = len(values) + 1   # bits of a count, which is 2**n at most
    counts = 1
    for value in whole:
        counts += counts << width * abs(value)
    # Of all signs, those whose sum of plus less minus is at least as large as the one that is.
    all_, seen = sum(map(abs, whole)), abs(sum(whole))
    # Modulo 2**width - 1, a number is the sum of its digits of that width.
    tail = (counts >> width * -(-(all_ + seen) // 2)) % ((1 << width) - 1)
    return min(1.0, 2 * tail / 2 ** len(values))


def signed_sums(values):
    sums = [0.0]
    for value in values:
        sums = [s + sign * value for s in sums for sign in (1, -1)]
    return sums


def holm(p_values):
    """The adjusted p values, in the order given."""
    adjusted = [0.0] * len(p_values)
    reached = 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        reached = max(reached, min(1, (len(p_values) - rank) * p_values[at]))
        adjusted[at] = reached
    return adjusted


def pairs_for_significance(family):
    """The fewest pairs whose smallest possible p, 2 / 2**n, survives Holm in such a family."""
    return max(6, 1 + math.ceil(math.log2(family / ALPHA)))


def smallest_effect(logs):
    """The log-ratio that these pairs would show in four of five runs; None for one pair."""
    if len(logs) < 2:
        return None
    return POWER_FACTOR * statistics.stdev(logs) / math.sqrt(len(logs))


def pairs_needed(logs, margin, family):
    """How many pairs would show a difference as large as the margin."""
    least = pairs_for_significance(family)
    if len(logs) < 2:
        return least
    return max(least, math.ceil((POWER_FACTOR * statistics.stdev(logs) / margin) ** 2))


def judge(comparison, adjusted_p, family):
    """The verdict on one comparison, with its reason. `comparison` has "logs" and the interval."""
    margin = math.log1p(comparison["margin"])
    low, high = comparison.get("low"), comparison.get("high")
    # Rounding keeps a level of exactly 0.95 from failing.
    known = low is not None and comparison["level"] >= LEVEL - 1e-9
    if known and -margin < math.log(low) and math.log(high) < margin:
        return EQUIVALENT, f"the interval lies within {comparison['margin']:.1%} of 1"
    if known and adjusted_p < ALPHA and not low <= 1 <= high:
        better = (comparison["ratio"] > 1) == MORE_IS_BETTER[comparison["endpoint"]]
        return (FASTER if better else SLOWER), f"p = {adjusted_p:.2g} after Holm"
    return INCONCLUSIVE, reason_to_doubt(comparison, margin, family)


def reason_to_doubt(comparison, margin, family):
    logs = comparison["logs"]
    effect, needed = smallest_effect(logs), pairs_needed(logs, margin, family)
    if effect is None:
        return f"{len(logs)} pair says nothing; {needed} blocks are needed"
    comparison["smallest_effect"] = math.expm1(effect)
    comparison["blocks_needed"] = needed
    text = (f"{len(logs)} pairs show differences from {math.expm1(effect):.1%}; "
            f"{needed} blocks would show {comparison['margin']:.1%}")
    fewest = comparison.get("fewest") or pairs_for_significance(family)
    if len(logs) < fewest:
        text += f", fewer than {fewest} can show nothing"
    return text


def class_of(cell):
    """Cells of a class share a noise floor where a cell of that name was not calibrated."""
    if cell["churn"]:
        return "class churn"
    if cell["rate"] or cell["rate_of"]:
        return "class open"
    return "class alone" if cell["connections"] * cell["depth"] == 1 else "class closed"


def margin_of(floors, cell, endpoint):
    """The equivalence margin: the calibrated noise floor of the cell where it is wider."""
    found = floors.get(cell["name"]) or (floors and floors.get(class_of(cell))) or {}
    return max(MARGIN_MIN, found.get(endpoint, 0))


def decide(comparisons):
    """Sets "p", "p_adjusted", "verdict" and "reason" of each comparison of a run.

    Each is a dict with "endpoint", "logs", "margin", maybe "spoiled", and the paired ratio.
    """
    for endpoint in MORE_IS_BETTER:
        family = [c for c in comparisons if c["endpoint"] == endpoint and not c.get("spoiled")]
        for comparison in family:
            comparison.setdefault("p", sign_flip_p(comparison["logs"]))
        for comparison, p in zip(family, holm([c["p"] for c in family])):
            comparison["p_adjusted"] = p
            comparison["verdict"], comparison["reason"] = judge(comparison, p, len(family))
    for comparison in comparisons:
        if comparison.get("spoiled"):
            comparison["verdict"], comparison["reason"] = INVALID, comparison["spoiled"]
