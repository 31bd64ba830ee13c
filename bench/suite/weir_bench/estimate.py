"""Medians and paired ratios with their intervals.

A block runs every variant once, so the two trials of a block form a pair that shares the machine's
mood. The ratio is estimated from the pairs' log-ratios by Hodges and Lehmann: the median of all
pairwise means. Its interval is the one that belongs to the exact signed-rank test; with few pairs
only few levels exist, so the level that was reached is part of the answer.
"""

import functools
import math
import statistics

LEVEL = 0.95


def walsh_averages(values):
    """The means of all pairs, each value with itself included, in order."""
    return sorted((values[i] + values[k]) / 2
                  for i in range(len(values)) for k in range(i, len(values)))


def hodges_lehmann(values):
    return statistics.median(walsh_averages(values))


def signed_rank_counts(n):
    """counts[w]: how many of the 2**n sign patterns give the rank sum w."""
    counts = [1] + [0] * (n * (n + 1) // 2)
    for rank in range(1, n + 1):
        for total in range(len(counts) - 1, rank - 1, -1):
            counts[total] += counts[total - rank]
    return counts


@functools.cache
def interval_cut(n, level=LEVEL):
    """Returns (how many Walsh averages to leave out at each end, the exact level that remains).

    The most that keep the level asked for. Where even the whole range does not reach it (fewer than
    six values for 95 %), that is none, and the level is what the range has.
    """
    counts = signed_rank_counts(n)
    tail, cut, reached = 1, 0, 1 - 2 / 2 ** n
    while 1 - 2 * (tail + counts[cut + 1]) / 2 ** n >= level:
        cut += 1
        tail += counts[cut]
        reached = 1 - 2 * tail / 2 ** n
    return cut, reached


def interval(values, level=LEVEL):
    """Returns (low, high, level reached); None for fewer than two values."""
    if len(values) < 2:
        return None
    cut, reached = interval_cut(len(values), level)
    averages = walsh_averages(values)
    return averages[cut], averages[-1 - cut], reached


def paired_logs(values, base):
    """The logarithms of the ratios of the blocks that both have; both are {block: value}."""
    return [math.log(values[block] / base[block]) for block in sorted(values)
            if block in base and values[block] > 0 and base[block] > 0]


def paired_ratio(values, base):
    """Compares two variants of one cell; both are {block: value}.

    Returns None without a common block, else {"ratio", "pairs"} and, from two pairs on, "low",
    "high" and "level".
    """
    return ratio_of(paired_logs(values, base))


def ratio_of(logs):
    """The same of the blocks' log-ratios."""
    if not logs:
        return None
    result = {"ratio": math.exp(hodges_lehmann(logs)), "pairs": len(logs)}
    if found := interval(logs):
        low, high, level = found
        result.update(low=math.exp(low), high=math.exp(high), level=level)
    return result


def median(values):
    return statistics.median(values) if values else None
