"""`run --resume`: what an interrupted run measured stays as it is, and what is left is made within
the budget that is left, or within a new one."""

import unittest
from unittest import mock

import suite_path  # noqa: F401
from simulated_run import SimulatedRun
from weir_bench import Problem, cli, journal, session

# Four trials in a block. One takes half a second more than it measures and warms up.
TEXT = {"blocks": 6, "seconds": 2.0, "warmup": 0.5, "variants": ["epoll", "uring"],
        "cell": [{"name": "a"}, {"name": "b"}]}
SHORTEST = session.SECONDS_MIN + 1.0   # seconds that one takes
# Three blocks of the shortest, and not the fourth.
SHORT = 15 * SHORTEST


class Budgets(SimulatedRun):
    def setUp(self):
        super().setUp()
        self.now = 1000.0
        clock = mock.patch("weir_bench.session.time.monotonic", lambda: self.now)
        clock.start()
        self.addCleanup(clock.stop)

    def record_of(self, order):
        took = order.seconds + order.warmup + 0.5
        self.now += took
        return {"cell": order.cell.name, "variant": order.variant.name, "block": order.block,
                "round": 0, "seed": order.seed, "seconds": order.seconds, "warmup": order.warmup,
                "took": took, "status": "ok", "open": False, "guards": [],
                "metrics": {"ops_per_s": 1e5, "machine_cpu_ns": 1e4}}

    def begin(self, budget, trials=-1, seconds=None):
        return self.play(self.session({**TEXT, "budget": budget}, seconds), trials)

    def go_on(self, budget=None):
        """As what is in the file says, maybe with a new budget, an hour later."""
        self.now += 3600
        begun = journal.read(self.json)
        one = self.session({**TEXT, "budget": begun["scenario"]["budget"]})
        one.go_on(begun)
        if budget is not None:
            one.renew_budget(budget)
        self.play(one)
        return journal.read(self.json)

    def places(self, report):
        return [(t["cell"], t["variant"], t["block"], t["seed"]) for t in report["trials"]]

    def test_a_run_that_its_budget_ended_does_not_lose_its_blocks(self):
        """Nothing is left of the budget, so nothing is run; the report says what it said."""
        self.begin(SHORT)
        before = journal.read(self.json)
        self.assertEqual((before["blocks_done"], len(before["trials"])), (3, 12))
        after = self.go_on()
        for key in ("blocks_done", "complete", "ended_by", "trials", "stopped"):
            self.assertEqual(after[key], before[key], key)
        self.assertIn(f"the budget of {SHORT:g} s was over after 3 blocks", after["ended_by"])

    def test_what_is_left_is_made_within_a_new_budget(self):
        """What was spent before does not count, also when it goes on once more with what is left
        of the new one; and at the end everything is as if it had run in one go."""
        wanted = self.places(self.begin(0.0))
        self.begin(SHORT)
        report = self.go_on(10 * SHORTEST)
        self.assertEqual((report["blocks_done"], report["complete"]), (5, False))
        self.assertIn(f"{10 * SHORTEST:g} s was over after 5 blocks", report["ended_by"])
        report = self.go_on()
        self.assertEqual((report["blocks_done"], len(report["trials"])), (5, 20))
        report = self.go_on(0.0)
        self.assertEqual((report["blocks_done"], report["complete"]), (6, True))
        self.assertNotIn("ended_by", report)
        self.assertEqual(self.places(report), wanted)

    def test_a_run_that_was_interrupted_in_its_last_block_can_be_ended(self):
        """Though its budget has hardly anything left: the whole run would have ended it, too. A
        block that was not begun is not."""
        budget = 24.5 * SHORTEST
        self.assertTrue(self.begin(budget)["complete"])
        for trials, blocks in ((22, 6), (21, 6), (18, 5)):
            self.begin(budget, trials)
            self.now += 3600
            begun = journal.read(self.json)
            self.assertEqual(begun["blocks_done"], trials // 4)
            begun["scenario"]["budget"] -= 7 * SHORTEST
            one = self.session({**TEXT, "budget": begun["scenario"]["budget"]})
            one.go_on(begun)
            report = self.play(one)
            self.assertEqual((report["blocks_done"], report["complete"]), (blocks, blocks == 6))
            self.assertEqual(len(report["trials"]), 4 * blocks)

    def test_seconds_that_were_asked_for_stay(self):
        """A budget beside them leaves out blocks, and shortens no trial, then and later."""
        self.begin(20.0, seconds=2.0)
        report = self.go_on(25.0)
        self.assertEqual((report["blocks_done"], report["complete"]), (3, False))
        self.assertEqual({trial["seconds"] for trial in report["trials"]}, {2.0})

    def test_a_signal_before_the_first_trial_changes_nothing(self):
        """While the run that goes on still looks at what can be run."""
        self.begin(SHORT)
        begun = journal.read(self.json)
        one = self.session({**TEXT, "budget": SHORT})
        one.go_on(begun)
        with mock.patch.object(one, "skip_impossible", side_effect=session.Interrupted(15)):
            report = self.play(one)
        self.assertEqual((report["blocks_done"], report["ended_by"]), (3, "ended by SIGTERM"))
        self.assertEqual(report["trials"], begun["trials"])

    def test_turns_that_take_longer_than_planned_are_paid_for(self):
        """Some cannot be shortened: the others get what is left, and the whole keeps its budget."""
        chosen = self.session({**TEXT, "budget": 100}).scenario
        pace = session.Pace(chosen, 24, False)
        start = self.now
        for block in range(6):
            self.assertTrue(pace.fits(4), block)
            seconds = pace.seconds()
            for measured in (seconds, seconds, 5.0, 5.0):
                self.now += measured + 1.0
                pace.ended({"took": measured + 1.0, "seconds": measured}, seconds)
        self.assertLess(self.now - start, 105)


class Options(unittest.TestCase):
    def options(self, *words):
        return cli.make_parser().parse_args(["run", "--resume", "x.json", *words])

    def test_what_would_be_ignored_is_refused(self):
        """By name; what is said of the output, of where programs are and of the budget is not."""
        for words, name in ((["core"], "SCENARIO"), (["--blocks", "3"], "--blocks"),
                            (["--seconds", "1"], "--seconds"), (["--seed", "0"], "--seed"),
                            (["--json", "y"], "--json"), (["--namespace", "no"], "--namespace"),
                            (["--rate-of", "a"], "--rate-of"), (["--variant", "a=b"], "--variant"),
                            (["--stop-at-width", "2"], "--stop-at-width"),
                            (["--calibration", "c"], "--calibration")):
            with self.assertRaisesRegex(Problem, f"but for --budget: no {name}$"):
                cli.refuse_changes(self.options(*words))
        cli.refuse_changes(self.options(
            "--budget", "9", "--build", "b", "--quiet", "--html", "p.html", "--load", "gen",
            "--load-parse", "ops=(.)", "--load-turns", "--server-host", "1.2.3.4"))

    def test_a_budget_is_no_negative_number(self):
        """Nor no number."""
        for word in ("-1", "nan", "x"):
            with mock.patch("sys.stderr"), self.assertRaises(SystemExit):
                self.options(f"--budget={word}")
        self.assertEqual(self.options("--budget", "0").budget, 0)


if __name__ == "__main__":
    unittest.main()
