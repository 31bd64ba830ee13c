"""A cell ends when it is known well enough: what that does to intervals and verdicts, by simulated
truth, and what a run makes of it."""

import math
import os
import random
import unittest
from unittest import mock

import suite_path  # noqa: F401
from simulated_run import SimulatedRun
from weir_bench import estimate, journal, looks, table, verdict

BLOCKS_MAX = 36
LEAST = 8


def normal(chance):
    return chance.gauss(0, 0.011)


def with_outliers(chance):
    """As blocks are on a machine that is not always quiet."""
    return chance.gauss(0, 0.011) * (4 if chance.random() < 0.15 else 1)


def measured(chance, draw, asked):
    """The blocks' logs of one cell that ends as looks.py says, with nothing in it to find."""
    logs = []
    for block in range(BLOCKS_MAX):
        if looks.takes_place(block, LEAST) and 100 * looks.width(logs) <= asked:
            return logs + [draw(chance) for _ in range(min(looks.EXTRA, BLOCKS_MAX - block))]
        logs.append(draw(chance))
    return logs


class Statistics(unittest.TestCase):
    def test_intervals_hold_the_truth_as_often_as_they_say(self):
        """Stopped by their width, early, late or never, from normal blocks or some with outliers:
        at least 95 % of the time less what chance takes from 1500 cells."""
        chance = random.Random(41)
        for draw, asked in ((normal, 2.5), (normal, 1.6), (with_outliers, 2.5)):
            runs = [measured(chance, draw, asked) for _ in range(1500)]
            lengths = set(map(len, runs))
            self.assertGreaterEqual(len(lengths), 3)
            covered = sum(low <= 0 <= high for low, high, _ in map(estimate.interval, runs))
            self.assertGreaterEqual(covered / len(runs), 0.95 - 0.012, (draw.__name__, asked))

    def test_equal_builds_are_not_told_apart_more_often(self):
        """The sign-flip test of blocks that ended by their width is wrong in at most 5 %."""
        chance = random.Random(42)
        runs = [measured(chance, normal, 2.5) for _ in range(400)]
        wrong = sum(verdict.sign_flip_p(logs) < 0.05 for logs in runs)
        self.assertLessEqual(wrong / len(runs), 0.05 + 0.02)
        self.assertGreater(wrong, 0)

    def test_a_look_does_not_see_where_the_interval_lies(self):
        """The same blocks, all of them moved: the same width, so the same end."""
        chance = random.Random(43)
        logs = [normal(chance) for _ in range(12)]
        for moved in (-0.3, 0.01, 0.3):
            self.assertAlmostEqual(looks.width([log + moved for log in logs]), looks.width(logs))
        self.assertEqual(looks.width([0.1]), math.inf)

    def test_looks_are_planned(self):
        """After the least number of blocks, and then at even distances."""
        self.assertEqual([block for block in range(17) if looks.takes_place(block, 8)],
                         [8 + looks.EVERY * at for at in range(9) if 8 + looks.EVERY * at < 17])


TEXT = {"blocks": 24, "blocks_min": 6, "stop_at_width": 3.0, "variants": ["epoll", "uring"],
        "seconds": 0.5, "warmup": 0.1,
        "cell": [{"name": "calm"}, {"name": "wild"}, {"name": "broken"}]}


class Runs(SimulatedRun):
    def record_of(self, order):
        """`calm` is known at once, `wild` never, and `broken` has no server that lives."""
        chance = random.Random(f"{order.seed} {order.variant.name}")
        noise = {"calm": 0.002, "wild": 0.2, "broken": 0.002}[order.cell.name]
        record = {"cell": order.cell.name, "variant": order.variant.name, "block": order.block,
                  "round": 0, "seed": order.seed, "seconds": order.seconds, "warmup": 0.1,
                  "took": 0.6, "status": "ok", "open": False, "guards": [],
                  "metrics": {"ops_per_s": 1e5}}
        for endpoint in looks.COSTS:
            record["metrics"][endpoint] = 1e4 * chance.lognormvariate(0, noise)
        if (record["cell"], record["variant"]) == ("broken", "uring"):
            record.update(status="failed", failure="it died")
        return record

    def run_until(self, begun, trials):
        """Runs it until so many more trials are over."""
        one = self.session(TEXT)
        if begun:
            one.go_on(begun)
        return one, self.play(one, trials)

    def test_a_cell_that_is_known_ends_and_the_others_go_on(self):
        """The calm one after the first look and the blocks that nobody looks at; the wild one has
        all blocks, and so has one whose only pair is broken. JSON, text and progress say so."""
        one, report = self.run_until(None, -1)
        self.assertTrue(report["complete"])
        self.assertEqual(list(report["stopped"]), ["calm"])
        ended = report["stopped"]["calm"]
        self.assertEqual((ended["look"], ended["blocks"]), (6, 6 + looks.EXTRA))
        self.assertLess(ended["width"], 0.03)
        blocks = {name: sum(t["cell"] == name and t["variant"] == "epoll"
                            for t in report["trials"]) for name in ("calm", "wild", "broken")}
        self.assertEqual(blocks, {"calm": 6 + looks.EXTRA, "wild": 24, "broken": 24})
        self.assertEqual(one.progress.total, one.progress.done)
        self.assertEqual(len(report["trials"]), one.progress.total)
        said = table.as_text(journal.read(self.json))
        self.assertIn("A cell ends when the intervals of its costs are at most 3 % wide, after 6 "
                      f"to 24 blocks: calm after {6 + looks.EXTRA}; wider than that: wild, broken.",
                      said)
        row = next(r for r in report["table"] if (r["cell"], r["variant"]) == ("calm", "uring"))
        self.assertEqual(row["verdicts"]["machine_cpu_ns"]["pairs"], 6 + looks.EXTRA)

    def test_what_nobody_looked_at_is_not_called_wide(self):
        """A run that a signal ended before its first look, and one within the blocks that follow
        the look that ended a cell: it says what was done, also from what a crash left."""
        for blocks, wanted in ((5, "blocks: not looked at: calm, wild, broken."),
                               (7, f"calm was to end after {6 + looks.EXTRA}, the run did after 7; "
                                   "wider than that: wild, broken.")):
            # Of broken's failing variant there are two trials.
            trials = 6 * blocks - max(blocks - 2, 0) + 1
            with mock.patch("weir_bench.journal.Journal.finish", lambda _: False):
                _, report = self.run_until(None, trials)
            self.assertEqual(report["blocks_done"], blocks)
            for read in (report, journal.read(self.json + ".part")):
                self.assertTrue(looks.sentence(read).endswith(wanted), looks.sentence(read))

    def test_an_interrupted_run_ends_its_cells_where_it_would_have(self):
        """Before the look, after it and after the cell's end: what ran at last is the same."""
        _, whole = self.run_until(None, -1)
        wanted = [(t["cell"], t["variant"], t["block"], t["seed"]) for t in whole["trials"]]
        for trials in (20, 38, 60):
            os.unlink(self.json)
            _, begun = self.run_until(None, trials)
            self.assertFalse(begun["complete"])
            one, report = self.run_until(journal.read(self.json), -1)
            self.assertEqual([(t["cell"], t["variant"], t["block"], t["seed"])
                              for t in report["trials"]], wanted)
            self.assertEqual(report["stopped"], whole["stopped"])
            self.assertEqual(one.progress.total, one.progress.done)


if __name__ == "__main__":
    unittest.main()
