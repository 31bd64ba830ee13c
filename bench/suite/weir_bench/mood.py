"""Two runs compared at the same mood of the machine.

A ratio of two servers is not the same on a fast and on a slow machine: what waits for memory feels
a busy neighbour more than what does not. So the ratio of a block depends on the block's mood, and
two runs of one build differ by what their moods differ. There is a yardstick that a build under
test can hardly move, by what it leaves of the caches alone: what the load, the same program in both
runs, spends per operation on the reference, the same program in both runs. The log-ratios are taken
along it to the same mood (analysis of covariance by ranks): the slope is the one that belongs to
the Wilcoxon test as the Hodges-Lehmann estimate does, and the interval has the slope's error in it.
"""

import math
import statistics

RUN_MIN = 6    # blocks of each run; fewer know no slope


def slope(runs):
    """How a log-ratio goes with the mood, within runs; each is (moods, logs).

    It makes the sum of |difference of residuals| over all pairs within a run least, which is the
    median of the pairs' slopes weighted by how far apart their moods are.
    """
    slopes = sorted(((logs[k] - logs[i]) / (moods[k] - moods[i]), abs(moods[k] - moods[i]))
                    for moods, logs in runs for i in range(len(logs)) for k in range(i)
                    if moods[k] != moods[i])
    half, passed = sum(weight for _, weight in slopes) / 2, 0.0
    for value, weight in slopes:
        passed += weight
        if passed >= half:
            return value
    return 0.0


def widening(moods):
    """By how much the slope's error makes the interval of the shift wider: more, the further the
    runs' moods lie apart and the less they vary within each. Infinite where nothing is known."""
    middles = [statistics.fmean(values) for values in moods]
    spread = sum((value - middle) ** 2 for values, middle in zip(moods, middles)
                 for value in values)
    apart = (middles[1] - middles[0]) ** 2
    if spread == 0:
        return math.inf
    count = sum(map(len, moods))
    share = sum(1 / len(values) for values in moods)
    # One more number is estimated from the same blocks, which makes what it leaves look smaller.
    # With count - 3 the intervals of six blocks each hold the truth in 93 % only, by simulation.
    return math.sqrt((1 + apart / spread / share) * (count - 2) / (count - 4))


def at_the_same(moods, logs, shift):
    """As shift(a, b) of two samples of logarithms, at the same mood; None where that is not known.

    Returns its result and the samples that it was made of.
    """
    wider = widening(moods)
    if min(map(len, logs)) < RUN_MIN or not math.isfinite(wider):
        return None
    rate = slope(list(zip(moods, logs)))
    flat = [[log - rate * mood for mood, log in zip(*run)] for run in zip(moods, logs)]
    found = shift(*flat)
    middle = math.log(found["ratio"])
    low, high = (math.exp(middle + wider * (math.log(found[end]) - middle))
                 for end in ("low", "high"))
    # The test that belongs to the wider interval: of a shift that is less by the same factor.
    less = [flat[0], [log - middle * (1 - 1 / wider) for log in flat[1]]]
    moved = statistics.fmean(moods[1]) - statistics.fmean(moods[0])
    return {**found, "low": low, "high": high, "p": shift(*less)["p"], "slope": rate,
            "moved": math.expm1(moved)}, flat
