"""Verdicts: the tests behind them against enumeration, and their error rates by simulation."""

import itertools
import random
import unittest

import suite_path  # noqa: F401
from weir_bench import summary, verdict
from weir_bench.estimate import paired_ratio

CELLS = 6


def trial(cell, variant, block, value, **changes):
    return {"cell": cell, "variant": variant, "block": block, "status": "ok", "guards": [],
            "metrics": {"machine_cpu_ns": value}, **changes}


def report_of(effects, blocks, noise, chance, floors=None):
    """A run whose variant costs effects[cell] times the base; each block has a mood of its own."""
    trials = []
    for at, effect in enumerate(effects):
        for block in range(blocks):
            mood = chance.lognormvariate(0, 0.2)
            for name, cost in (("base", 1.0), ("new", effect)):
                trials.append(trial(f"c{at}", name, block,
                                    1e4 * cost * mood * chance.lognormvariate(0, noise)))
    cells = [{"name": f"c{at}", "title": "", "rate": 0, "rate_of": ""}
             for at in range(len(effects))]
    return {"base": "base", "trials": trials, "floors": floors or {},
            "scenario": {"cells": cells, "variants": [{"name": "base"}, {"name": "new"}],
                         "endpoints": []}}


def verdicts(report):
    return [row["verdicts"]["machine_cpu_ns"]["verdict"]
            for row in summary.summarize(report) if row["verdicts"]]


class Tests(unittest.TestCase):
    def test_sign_flip_matches_enumeration(self):
        """The two halves that are met give what all sign patterns give."""
        chance = random.Random(1)
        for n in range(1, 11):
            values = [chance.gauss(0.3, 1) for _ in range(n)]
            sums = [abs(sum(s * v for s, v in zip(signs, values)))
                    for signs in itertools.product((-1, 1), repeat=n)]
            expected = sum(s >= abs(sum(values)) - 1e-12 for s in sums) / len(sums)
            self.assertAlmostEqual(verdict.sign_flip_p(values), expected)

    def test_sign_flip_at_its_limits(self):
        """Zeros are no evidence, six agreeing pairs are 2/64, and there may be many pairs."""
        self.assertEqual(verdict.sign_flip_p([0.0] * 8), 1)
        self.assertEqual(verdict.sign_flip_p([0.1] * 6), 2 / 64)
        self.assertEqual(verdict.sign_flip_p([0.1 + 0.001 * i for i in range(40)]), 2 / 2 ** 40)
        self.assertEqual(verdict.sign_flip_p([0.0] * 40), 1)
        self.assertEqual(verdict.sign_flip_p([0.1, -0.1] * 20), 1)

    def test_rounding_changes_nothing_that_matters(self):
        """Where both ways can go, they agree within what a step of rounding can do."""
        chance = random.Random(6)
        for _ in range(10):
            values = [chance.gauss(0.01, 0.03) for _ in range(20)]
            self.assertAlmostEqual(verdict.rounded_sign_flip_p(values), verdict.sign_flip_p(values),
                                   delta=2e-3)

    def test_holm_is_step_down_and_monotone(self):
        """The textbook's example, in any order."""
        self.assertEqual([round(p, 9) for p in verdict.holm([0.01, 0.04, 0.03, 0.005])],
                         [0.03, 0.06, 0.06, 0.02])
        self.assertEqual(verdict.holm([0.9, 0.8]), [1, 1])

    def test_blocks_that_can_show_anything(self):
        """One comparison needs six blocks, eleven need nine."""
        self.assertEqual(verdict.pairs_for_significance(1), 6)
        self.assertEqual(verdict.pairs_for_significance(11), 9)
        least = verdict.pairs_for_significance(11)
        self.assertLess(11 * 2 / 2 ** least, 0.05)
        self.assertGreater(11 * 2 / 2 ** (least - 1), 0.05)


class Verdicts(unittest.TestCase):
    def test_two_equal_builds_are_seldom_told_apart(self):
        """120 A/A runs of six cells: the family has one false claim in at most 5 % of runs."""
        chance = random.Random(11)
        wrong = 0
        for _ in range(120):
            found = verdicts(report_of([1.0] * CELLS, 10, 0.08, chance))
            wrong += any(v in (verdict.FASTER, verdict.SLOWER) for v in found)
        self.assertLessEqual(wrong / 120, 0.05 + 0.02)
        # The test must be able to fail: without Holm and the interval it would claim much more.
        self.assertGreater(wrong, 0)

    def test_equal_builds_with_little_noise_are_equivalent(self):
        """At 1 % noise and ten blocks most cells are, and hardly any is called different."""
        chance = random.Random(12)
        found = [v for _ in range(20) for v in verdicts(report_of([1.0] * CELLS, 10, 0.01, chance))]
        self.assertGreater(found.count(verdict.EQUIVALENT) / len(found), 0.7)

    def test_an_injected_5_percent_is_found(self):
        """In at least nine of ten runs of 20 blocks, as slower, and never as faster."""
        chance = random.Random(13)
        runs = [verdicts(report_of([1.05] + [1.0], 20, 0.02, chance))
                for _ in range(40)]
        self.assertGreaterEqual(sum(run[0] == verdict.SLOWER for run in runs), 36)
        self.assertFalse(any(run[0] == verdict.FASTER for run in runs))

    def test_too_few_blocks_are_inconclusive_and_say_how_many(self):
        """Five blocks cannot show even a doubling; the reason names what would."""
        rows = summary.summarize(report_of([2.0], 5, 0.02, random.Random(1)))
        found = rows[1]["verdicts"]["machine_cpu_ns"]
        self.assertEqual(found["verdict"], verdict.INCONCLUSIVE)
        self.assertIn("fewer than 6 can show nothing", found["reason"])
        self.assertGreaterEqual(found["blocks_needed"], 6)

    def test_smallest_effect_is_the_one_that_is_found_in_four_of_five_runs(self):
        """Simulated at that very effect."""
        chance = random.Random(5)
        noise, n = 0.05, 20
        effect = verdict.POWER_FACTOR * noise / n ** 0.5
        hits = sum(verdict.sign_flip_p([chance.gauss(effect, noise) for _ in range(n)]) < 0.05
                   for _ in range(400))
        self.assertTrue(0.7 < hits / 400 < 0.9, hits)

    def test_the_noise_floor_widens_the_margin(self):
        """What differs by less than equal builds do is equivalent."""
        report = report_of([1.03], 12, 0.002, random.Random(2))
        self.assertEqual(verdicts(report), [verdict.SLOWER])
        report["floors"] = {"c0": {"machine_cpu_ns": 0.05}}
        self.assertEqual(verdicts(report), [verdict.EQUIVALENT])

    def test_a_real_but_tiny_difference_is_equivalent(self):
        """One percent, however sure, is within the margin."""
        self.assertEqual(verdicts(report_of([1.01], 20, 0.001, random.Random(3))),
                         [verdict.EQUIVALENT])

    def test_directions(self):
        """A higher rate and a lower cost are both faster."""
        for endpoint, ratio, expected in (("ops_per_s", 1.5, verdict.FASTER),
                                          ("machine_cpu_ns", 1.5, verdict.SLOWER),
                                          ("p99_ns", 0.5, verdict.FASTER)):
            values = {i: ratio + 0.01 * i for i in range(8)}
            comparison = {"endpoint": endpoint, "margin": 0.02, **paired_ratio(
                values, dict.fromkeys(range(8), 1.0)), "logs": [ratio - 1] * 8}
            verdict.decide([comparison])
            self.assertEqual(comparison["verdict"], expected)

    def test_spoiled_trials_make_a_cell_invalid(self):
        """Failures and invalid trials in more than a third, with the first reason and the count."""
        for count, expected in ((4, verdict.SLOWER), (5, verdict.INVALID)):
            report = report_of([1.5], 12, 0.001, random.Random(4))
            new = [t for t in report["trials"] if t["variant"] == "new"]
            for spoiled in new[:count]:
                spoiled.update(status="failed", failure="it died")
            self.assertEqual(verdicts(report), [expected])
        reason = summary.summarize(report)[1]["verdicts"]["machine_cpu_ns"]["reason"]
        self.assertEqual(reason, "failed: new: it died (5 of 12 trials)")

    def test_a_guard_spoils_only_what_it_speaks_of(self):
        """A client at its limit, or near it, makes the rate invalid, not an operation's cost."""
        report = report_of([1.5], 12, 0.001, random.Random(4))
        for guard in ("client-limit", "near-ceiling"):
            for each in report["trials"]:
                each["metrics"]["ops_per_s"] = 5e4 * (1 + (each["variant"] == "new"))
                each["guards"] = [{"guard": guard, "severity": "warning", "text": "busy"}]
            found = summary.summarize(report)[1]["verdicts"]
            self.assertEqual({name: v["verdict"] for name, v in found.items()},
                             {"machine_cpu_ns": verdict.SLOWER, "ops_per_s": verdict.INVALID})


if __name__ == "__main__":
    unittest.main()
