"""What calibrate makes of its trials, and what it prints, checked against arithmetic."""

import math
import random
import re
import unittest
from types import SimpleNamespace
from unittest import mock

import suite_path  # noqa: F401
from turns_test import ROUNDS, columns_of
from weir_bench import calibrate, scenario, session, summary, table
from weir_bench.scenario import Cell

SPREAD = 0.03   # of the twin's blocks


def trial_of(cell, variant, block, rate, shares, columns):
    metrics = {"ops_per_s": rate}
    metrics["server_cpu_ns"] = columns["server_ns"][0] / columns["ops"][0]
    return {"cell": cell, "variant": variant, "block": block, "status": "ok", "guards": [],
            "open": cell == "open", "metrics": metrics, "turns": columns,
            "cpu": dict(zip(("client_share", "server_share"), shares))}


def report_of(blocks):
    """Two closed cells and an open one; the twin costs the base's, block by block a little more or
    less, exactly known. The kernel leaves the load the cheapest work in one cell."""
    chance = random.Random(5)
    offsets = [SPREAD * (at - blocks // 2) / blocks for at in range(blocks)]
    trials = []
    for cell in ("one", "two", "open"):
        for block, offset in enumerate(offsets):
            moods = [chance.lognormvariate(0, 0.2) for _ in range(ROUNDS)]
            base = {"ops": [1000] * ROUNDS, "server_ns": [1e7 * mood for mood in moods],
                    "wall_ns": [2e7] * ROUNDS}
            twin = {**base, "server_ns": [ns * math.exp(offset) for ns in base["server_ns"]]}
            trials += [trial_of(cell, "epoll", block, 50_000, (0.5, 0.9), base),
                       trial_of(cell, "epoll-again", block, 50_000, (0.6, 0.9), twin)]
            if cell == "two":
                trials.append(trial_of(cell, "kernel", block, 90_000, (0.75, 0), base))
                trials.append({"cell": cell, "variant": "uring", "block": block, "open": False,
                               "status": "failed", "failure": "no ring"})
    cells = [Cell("one", connections=64, turns=ROUNDS), Cell("two", connections=9, turns=ROUNDS),
             Cell("open", connections=9, rate=100.0, turns=ROUNDS)]
    names = ("epoll", "epoll-again", "kernel", "uring")
    report = {"base": "epoll", "trials": trials,
              "scenario": {"cells": [{**vars(cell), "title": ""} for cell in cells],
                           "variants": [{"name": name} for name in names],
                           "endpoints": ["server_cpu_ns"]}}
    report["table"] = summary.summarize(report)
    return report, offsets


class Arithmetic(unittest.TestCase):
    def test_floors_are_the_far_ends_of_the_twins_intervals(self):
        """Of turns: however much the machine wanders, what is left is what the twin's blocks
        differ by. A class has the median of its cells."""
        report, offsets = report_of(9)
        calibrate.finish(report)
        found = {key: value["server_cpu_ns"] for key, value in report["floors_found"].items()}
        self.assertEqual(set(found), {"one", "two", "open", "class closed", "class open"})
        ends = math.expm1(max(map(abs, offsets)))
        for key, floor in found.items():
            self.assertTrue(0.5 * ends < floor <= ends * 1.000001, (key, floor, ends))
        self.assertAlmostEqual(found["class closed"], (found["one"] + found["two"]) / 2)

    def test_ceilings_are_rates_of_a_full_client(self):
        """The best reflector's rate over its client's share; open cells have none."""
        report, _ = report_of(3)
        calibrate.finish(report)
        self.assertEqual(report["ceilings_found"], {
            "one": {"per_s": 100_000, "reflector": "epoll"},
            "two": {"per_s": 120_000, "reflector": "kernel"}})

    def test_what_is_printed_is_what_was_found(self):
        """Each ceiling with its reflector, each floor in percent, the cost of the clock."""
        report, _ = report_of(9)
        calibrate.finish(report)
        text = calibrate.as_text(report)
        for cell, found in report["ceilings_found"].items():
            self.assertRegex(text, rf"\n  {cell} +{found['per_s']:,.0f}/s  {found['reflector']}\n")
        for key, floors in report["floors_found"].items():
            self.assertIn(f"  {key:<18} server_cpu_ns {100 * floors['server_cpu_ns']:.1f}%", text)
        told = re.search(r"Reading the clock costs (\d+) ns", text)
        self.assertAlmostEqual(int(told[1]), report["clock_ns"], delta=1)
        # The CPU may be lent out for seconds meanwhile.
        self.assertTrue(5 < report["clock_ns"] < 10_000_000, report["clock_ns"])

    def test_equal_builds_by_turns_have_a_low_floor(self):
        """Simulated turns of one build, 3 % apart as on a real machine: the floor of ten blocks is
        under 2 %, so it widens no margin; by single turns it would be wider."""
        chance = random.Random(6)
        for _ in range(5):
            trials = []
            for block in range(10):
                moods = [chance.lognormvariate(0, 0.2) for _ in range(ROUNDS)]
                trials += [trial_of("one", name, block, 1, (0.5, 0.9),
                                    columns_of(chance, 1e4, moods))
                           for name in ("epoll", "epoll-again")]
            report, _ = report_of(2)
            report["trials"] = trials
            report["table"] = summary.summarize(report)
            self.assertLess(calibrate.floors(report)["one"]["server_cpu_ns"], 0.02)
            for trial in trials:
                del trial["turns"]
            report["table"] = summary.summarize(report)
            self.assertGreater(calibrate.floors(report)["one"]["server_cpu_ns"], 0.02)


class Preparation(unittest.TestCase):
    def test_a_cell_keeps_its_turns(self):
        """The twin and the reflectors take them, too; none of them polls."""
        chosen = scenario.parse("x", {"turns": 20, "cell": [{"name": "a"}, {"name": "b",
                                                                           "turns": 0}]})
        calibrate.prepare(chosen)
        self.assertEqual([cell.turns for cell in chosen.cells], [20, 0])
        self.assertEqual([v.name for v in chosen.variants][:4],
                         ["epoll", "epoll-again", "uring", "blocking"])


CEILING_TEXT = {"ceiling": True, "blocks": 1, "turns": 40, "cell": [
    {"name": "turns", "connections": 9}, {"name": "trials", "connections": 9, "turns": 0},
    {"name": "open", "rate": 10.0}, {"name": "churn", "churn": 1},
    {"name": "half", "rate_of": "source"}]}
# The cell that another takes its rate from, and which is not run itself.
SOURCE = Cell("source", connections=9, turns=40, turn=0.02)


class Ceilings(unittest.TestCase):
    """A run that measures the load's ceiling itself, with a load of 900/s that rests a third, and
    of ten times as much where a server answers."""

    def run_with(self, works, ceilings=(), text=None):
        """Returns its report and all that was ordered."""
        options = SimpleNamespace(seed=5, server_cpu=None, client_cpu=None, json=None, quiet=True,
                                  seconds=None, skip_conformance=True, server_host=None,
                                  command_line="weir-bench")
        load = SimpleNamespace(name="load", given=None, takes_turns=lambda: True,
                               pauses=lambda: False, lacks=lambda cell: None)
        chosen = scenario.parse("x", text or dict(CEILING_TEXT))
        chosen.sources = {} if text else {"half": SOURCE}
        one = session.Session(chosen, {}, load, options)
        one.report["ceilings"] = dict(ceilings)
        orders = []

        def record_of(order, count=0):
            orders.append((order, count))
            return {"cell": order.cell.name, "variant": order.variant.name, "block": 0, "round": 0,
                    "open": order.cell.is_open(), "status": "ok", "guards": [], "seconds": 1,
                    "warmup": 0, "took": 1,
                    "metrics": {"ops_per_s": 900 if order.variant.name == "kernel" else 9000},
                    "cpu": {"client_share": 2 / 3, "machine_source": "x"}}

        with mock.patch("weir_bench.reflector.works", lambda: works), \
                mock.patch("weir_bench.session.trial.run", lambda _, order: record_of(order)), \
                mock.patch("weir_bench.session.relay.run", lambda _, orders_, count:
                           [record_of(order, count) for order in orders_]), \
                mock.patch.object(one, "skip_impossible", lambda: None):
            return one.run()[0], orders

    def test_a_run_that_is_asked_to_measures_its_ceilings_first(self):
        """In closed cells that the kernel can serve, by turns or by a trial as in the run, whose
        trials are then held against them; what a calibration told is not measured again."""
        report, orders = self.run_with(None)
        self.assertEqual({cell: round(rate) for cell, rate in report["ceilings"].items()},
                         {"turns": 1350, "trials": 1350})
        # What servers did in the cell that another's rate is a part of is no ceiling of the load.
        at = [order.variant.name for order, _ in orders].index("kernel")
        self.assertEqual({order.cell.name for order, _ in orders[:at]}, {"source"})
        self.assertEqual([(order.cell.name, order.variant.name, count)
                          for order, count in orders[at:at + 2]],
                         [("turns", "kernel", session.CEILING_TURNS), ("trials", "kernel", 0)])
        for order, _ in orders[at + 2:]:
            self.assertEqual(round(order.ceiling),
                             1350 if order.cell.name in ("turns", "trials") else 0)
        report, orders = self.run_with(None, {"turns": 7.0})
        self.assertEqual(report["ceilings"], {"turns": 7.0})
        self.assertNotIn("kernel", [order.variant.name for order, _ in orders])

    def test_where_no_cell_can_have_a_ceiling_that_is_said(self):
        """Connections that come and go, open loops, and what is no echo."""
        cell = {"name": "a", "churn": 1}
        for values in ({"cell": [cell]}, {"cell": [{"name": "a", "rate": 9.0}]},
                       {"server": "http", "cell": [{"name": "a", "path": "/x"}]},
                       {"cell": [{"name": "a", "transport": "unix"}]}):
            report, _ = self.run_with(None, text={"ceiling": True, "blocks": 1, **values})
            self.assertEqual((report["ceilings"], report["complete"]), ({}, True))
            self.assertIn("rates are not held against the load's ceiling: the kernel can answer in "
                          "none of these cells", table.as_text(report))
        self.assertEqual(self.run_with(None)[0]["no_ceiling"], [])

    def test_without_the_kernels_reflector_no_rate_is_marked(self):
        """The run goes on, and its table says so; with one it says what the ceilings are."""
        report, orders = self.run_with("Operation not permitted")
        self.assertIn("rates are not held against the load's ceiling: the kernel's reflector does "
                      "not work here: Operation not permitted", table.as_text(report))
        self.assertEqual((report["ceilings"], report["complete"]), ({}, True))
        self.assertNotIn("kernel", [order.variant.name for order, _ in orders])
        self.assertIn("The load's ceiling: turns 1.35k/s, trials 1.35k/s.",
                      table.as_text(self.run_with(None)[0]))


if __name__ == "__main__":
    unittest.main()
