"""Two runs at the same mood of the machine: against definitions, and against simulated truth."""

import itertools
import math
import random
import unittest

import suite_path  # noqa: F401
from weir_bench import compare, mood, verdict
from weir_bench.scenario import Cell

TURNS = 12


def blocks(chance, count, day, slope, effect=0.0, noise=0.02):
    """(moods, log-ratios) of a run: its ratio goes with the mood, which that day lay elsewhere."""
    moods = [day + chance.gauss(0, 0.09) for _ in range(count)]
    logs = [effect + slope * at + chance.gauss(0, noise) * (4 if chance.random() < 0.1 else 1)
            for at in moods]
    return [at + chance.gauss(0, 0.01) for at in moods], logs


def at_the_same(one, other):
    return mood.at_the_same([one[0], other[0]], [one[1], other[1]], compare.shift)


def run_of(chance, count, day, slope, effect=0.0):
    """A report whose blocks have such ratios: costs by turns, of the reference and of `new`."""
    trials = []
    for block, (at, log) in enumerate(zip(*blocks(chance, count, day, slope, effect, 0.008))):
        for name, cost in (("base", 1e4), ("new", 1e4 * math.exp(log))):
            columns = {"ops": [100] * TURNS, "server_ns": [100 * cost * math.exp(at)] * TURNS,
                       "load_ns": [100 * 9e3 * math.exp(at)] * TURNS, "wall_ns": [2e7] * TURNS}
            trials.append({"cell": "a", "variant": name, "block": block, "status": "ok",
                           "guards": [], "metrics": {"server_cpu_ns": cost * math.exp(at)},
                           "turns": columns})
    cells = [{**vars(Cell("a", turns=TURNS)), "title": ""}]
    return {"base": "base", "trials": trials, "reference": {"command": "x", "programs": {}},
            "environment": {"sysctl": {}, "programs": {"weir-load": {"sha256": "1"}}},
            "server_cpus": "0", "client_cpus": "1", "load": "weir-load",
            "scenario": {"cells": cells, "variants": [{"name": "base"}, {"name": "new"}],
                         "endpoints": ["server_cpu_ns"]}}


class Slope(unittest.TestCase):
    def test_it_makes_the_residuals_differ_least(self):
        """By definition: no other slope has a smaller sum over all pairs within the runs."""
        chance = random.Random(51)
        runs = [blocks(chance, 9, 0, 0.5), blocks(chance, 7, 0.2, 0.5)]

        def differences(rate):
            flat = [[log - rate * at for at, log in zip(*run)] for run in runs]
            return sum(abs(a - b) for values in flat
                       for a, b in itertools.combinations(values, 2))

        found = mood.slope(runs)
        for other in (found - 0.01, found + 0.01, 0.0, 1.0):
            self.assertLess(differences(found), differences(other))

    def test_runs_that_lie_apart_say_nothing_of_it(self):
        """Only what goes with the mood within a run does: else a difference would explain itself
        away. One mood alone, no slope."""
        self.assertAlmostEqual(mood.slope([([0, 1, 2], [0, 1, 2]), ([10, 11, 12], [0, 1, 2])]), 1)
        self.assertEqual(mood.slope([([1, 1], [2, 3])]), 0)
        self.assertEqual(mood.widening([[1, 1, 1], [2, 2, 2]]), math.inf)

    def test_a_block_gone_wrong_does_not_turn_it(self):
        """However far off its ratio is."""
        moods = [0.01 * at for at in range(12)]
        logs = [0.5 * at for at in moods]
        for far in (2.0, -2.0):
            self.assertAlmostEqual(mood.slope([(moods, logs[:-1] + [far])]), 0.5, 1)


class Intervals(unittest.TestCase):
    def test_they_hold_the_truth_whatever_the_day(self):
        """With and without a slope, on the same day and on one that is a tenth slower: in at least
        95 % of 400 pairs of runs each, less what chance takes; the plain comparison of the same
        blocks holds it in hardly more than half where both are there."""
        chance = random.Random(52)
        for slope, day in itertools.product((0, 0.5), (0, 0.1)):
            held = plain = wrong = 0
            for _ in range(400):
                one, other = blocks(chance, 9, 0, slope), blocks(chance, 9, day, slope)
                found, _ = at_the_same(one, other)
                held += found["low"] <= 1 <= found["high"]
                wrong += found["p"] < 0.05
                seen = compare.shift(one[1], other[1])
                plain += seen["low"] <= 1 <= seen["high"]
            self.assertGreaterEqual(held / 400, 0.95 - 0.025, (slope, day))
            self.assertLessEqual(wrong / 400, 0.05 + 0.025, (slope, day))
            self.assertEqual(plain / 400 < 0.7, bool(slope and day), (slope, day))

    def test_test_and_interval_agree(self):
        """Where the interval excludes 1 the p value is small, and the reverse, but for ties at the
        very border."""
        chance = random.Random(53)
        found = [at_the_same(blocks(chance, 10, 0, 0.5), blocks(chance, 10, 0.05, 0.5, 0.02))[0]
                 for _ in range(100)]
        excluded = [not f["low"] <= 1 <= f["high"] for f in found]
        self.assertGreater(sum(excluded), 20)
        self.assertLessEqual(sum(was != (f["p"] < 0.05) for was, f in zip(excluded, found)), 3)

    def test_few_blocks_are_compared_as_they_are(self):
        """Five of a run know no slope."""
        chance = random.Random(54)
        self.assertIsNone(at_the_same(blocks(chance, 5, 0, 0), blocks(chance, 9, 0, 0)))


class Runs(unittest.TestCase):
    def verdicts(self, effect, count=20):
        chance = random.Random(55)
        found = []
        for _ in range(20):
            a, b = run_of(chance, count, 0, 0.5), run_of(chance, count, 0.05, 0.5, effect)
            problems, comparisons = compare.compare(a, b)
            self.assertEqual(problems, [])
            found += comparisons
        self.assertTrue(all(0.2 < c["slope"] < 0.8 for c in found))
        return [c["verdict"] for c in found]

    def test_equal_builds_are_equivalent_and_five_percent_are_found(self):
        """Twenty pairs of runs each, the second day 5 % slower, which the ratio feels."""
        equal = self.verdicts(0)
        self.assertGreaterEqual(equal.count(verdict.EQUIVALENT), 14)
        self.assertLessEqual(equal.count(verdict.FASTER) + equal.count(verdict.SLOWER), 2)
        self.assertGreaterEqual(self.verdicts(0.05).count(verdict.SLOWER), 18)

    def test_only_the_same_load_is_a_yardstick(self):
        """Another load program, or one whose cost is not known: the ratios are compared plainly;
        where they were taken along, the text says so."""
        chance = random.Random(56)
        a, b = run_of(chance, 9, 0, 0.5), run_of(chance, 9, 0.05, 0.5)
        found = compare.compare(a, b)[1]
        self.assertIn("at the same speed of the machine", compare.as_text([], found))
        self.assertAlmostEqual(found[0]["moved"], 0.05, delta=0.1)
        for spoil in (lambda run: run["environment"].update(programs={"weir-load":
                                                                      {"sha256": "2"}}),
                      lambda run: run.update(load="wrk"),
                      lambda run: run["trials"][0]["turns"].update(load_ns=[0] * TURNS)):
            b = run_of(random.Random(57), 9, 0.05, 0.5)
            spoil(b)
            found = compare.compare(a, b)[1]
            self.assertNotIn("slope", found[0])
            self.assertNotIn("at the same speed", compare.as_text([], found))
        self.assertTrue(compare.same_load(a, a))
        # weir-load's program is known in every run, also where another one did the work.
        self.assertFalse(compare.same_load({**a, "load": "wrk"}, {**a, "load": "wrk"}))
        self.assertFalse(compare.same_load({**a, "environment": {}}, {**a, "environment": {}}))


if __name__ == "__main__":
    unittest.main()
