"""The statistics against brute force and against simulated truth."""

import itertools
import math
import random
import statistics
import unittest

import suite_path  # noqa: F401
from weir_bench import estimate


def brute_force_coverage(n, cut):
    """The chance that 0 lies between the cut-th Walsh averages, over all signs of n values."""
    covered = 0
    # Values whose Walsh averages have no ties, and no zero among them.
    sizes = [2 ** i + 0.25 * i + 0.1 for i in range(n)]
    for signs in itertools.product((-1, 1), repeat=n):
        averages = estimate.walsh_averages([s * v for s, v in zip(signs, sizes)])
        covered += averages[cut] < 0 < averages[-1 - cut]
    return covered / 2 ** n


class Estimate(unittest.TestCase):
    def test_hodges_lehmann_is_the_median_of_all_pairwise_means(self):
        """The textbook definition, on random values of every small count."""
        chance = random.Random(1)
        for n in range(1, 9):
            values = [chance.gauss(0, 1) for _ in range(n)]
            pairs = itertools.combinations_with_replacement(values, 2)
            means = [(a + b) / 2 for a, b in pairs]
            self.assertAlmostEqual(estimate.hodges_lehmann(values), statistics.median(means))

    def test_hodges_lehmann_resists_an_outlier(self):
        """One trial that went wrong does not carry the estimate away."""
        self.assertLess(estimate.hodges_lehmann([1.0, 1.1, 0.9, 1.0, 1.05, 90.0]), 1.3)

    def test_signed_rank_counts_match_enumeration(self):
        """Each rank sum is counted as often as sign patterns give it."""
        for n in range(1, 9):
            counts = [0] * (n * (n + 1) // 2 + 1)
            for pattern in itertools.product((0, 1), repeat=n):
                counts[sum(rank * bit for rank, bit in enumerate(pattern, 1))] += 1
            self.assertEqual(estimate.signed_rank_counts(n), counts)

    def test_five_values_give_their_range_at_93_75_percent(self):
        """Five blocks cannot reach 95 %, and the interval says so."""
        self.assertEqual(estimate.interval([3, 1, 2, 5, 4]), (1, 5, 0.9375))

    def test_six_values_reach_95_percent(self):
        """Six are the fewest that do."""
        low, high, level = estimate.interval([3, 1, 2, 5, 4, 6])
        self.assertEqual((low, high), (1, 6))
        self.assertEqual(level, 0.96875)

    def test_one_value_has_no_interval(self):
        """A single pair says nothing about its own error."""
        self.assertIsNone(estimate.interval([1]))

    def test_level_is_the_exact_coverage(self):
        """The level that is stated is what enumeration of all signs gives."""
        for n in range(2, 11):
            cut, level = estimate.interval_cut(n)
            self.assertAlmostEqual(brute_force_coverage(n, cut), level)
            if n > 5:
                self.assertGreaterEqual(level, 0.95)
                self.assertLess(brute_force_coverage(n, cut + 1), 0.95)

    def test_interval_covers_the_truth_as_often_as_it_says(self):
        """Two thousand simulated runs of ten blocks, with heavy tails."""
        chance = random.Random(7)
        truth = 0.3
        hits = 0
        for _ in range(2000):
            values = [truth + chance.gauss(0, 1) * chance.choice((1, 1, 1, 5)) for _ in range(10)]
            low, high, level = estimate.interval(values)
            hits += low <= truth <= high
        self.assertLess(abs(hits / 2000 - level), 0.02)

    def test_ratio_uses_pairs_of_the_same_block(self):
        """A mood that a block shares cancels out; blocks without a partner do not count."""
        base = {0: 100, 1: 200, 2: 50, 3: 10}
        values = {0: 150, 1: 300, 2: 75, 4: 1}
        result = estimate.paired_ratio(values, base)
        self.assertAlmostEqual(result["ratio"], 1.5)
        self.assertAlmostEqual(result["low"], 1.5)
        self.assertEqual(result["pairs"], 3)

    def test_ratio_of_nothing_is_none(self):
        """No common block, or a zero, is no ratio and no crash."""
        self.assertIsNone(estimate.paired_ratio({0: 1}, {1: 1}))
        self.assertIsNone(estimate.paired_ratio({0: 0}, {0: 1}))

    def test_ratio_is_symmetric(self):
        """Exchanging the two inverts estimate and interval."""
        chance = random.Random(3)
        a = {i: chance.uniform(1, 2) for i in range(7)}
        b = {i: chance.uniform(1, 2) for i in range(7)}
        one, other = estimate.paired_ratio(a, b), estimate.paired_ratio(b, a)
        self.assertAlmostEqual(one["ratio"], 1 / other["ratio"])
        self.assertAlmostEqual(one["low"], 1 / other["high"])
        self.assertTrue(math.isfinite(one["high"]))


if __name__ == "__main__":
    unittest.main()
