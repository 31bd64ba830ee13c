"""Sweep, ladder, capacity, replay and explain: their logic alone, then with the fake programs."""

import json
import os
import shutil
import subprocess
import tempfile
import unittest
from types import SimpleNamespace
from unittest import mock

import suite_path
from run_fixture import RunFixture
from weir_bench import (Problem, capacity, explain, ladder, replay, scenario, summary, sweep,
                        trial)


def row(cell, variant, endpoint, ratio, verdict, high=None):
    return {"cell": cell, "variant": variant, "base": "epoll",
            "verdicts": {endpoint: {"ratio": ratio, "verdict": verdict, "reason": "so",
                                    "high": high or ratio * 1.01}}}


class Sweeps(unittest.TestCase):
    def test_ranges_and_lists(self):
        """A range goes up by its factor and ends at its end."""
        self.assertEqual(sweep.parse("size=64:1M"), ("size", [64, 256, 1024, 4096, 16384, 65536,
                                                              262144, 1048576]))
        self.assertEqual(sweep.parse("connections=1:1000:10")[1], [1, 10, 100, 1000])
        self.assertEqual(sweep.parse("size=64,100,1K")[1], [64, 100, 1024])
        self.assertEqual(sweep.parse("depth=3:5")[1], [3, 5])
        for wrong in ("colour=1:2", "size", "size=a:b", "size=5:5", "size=1:9:1", "size=0:8",
                      "size=1:2:3:4"):
            with self.assertRaisesRegex(Problem, f"--var {wrong}"):
                sweep.parse(wrong)

    def test_crossings_need_both_sides_to_be_sure(self):
        """A verdict that is open between two sure ones does not hide the crossing."""
        report = {"sweep": {"var": "size", "cells": {"a": 64, "b": 256, "c": 1024}},
                  "table": [row("a", "uring", "machine_cpu_ns", 0.8, "FASTER"),
                            row("b", "uring", "machine_cpu_ns", 1.0, "INCONCLUSIVE"),
                            row("c", "uring", "machine_cpu_ns", 1.2, "SLOWER")]}
        self.assertEqual(sweep.crossings(report),
                         ["uring is FASTER at size 64 and SLOWER at 1024 (machine/op)"])
        report["table"][2]["verdicts"]["machine_cpu_ns"]["verdict"] = "EQUIVALENT"
        self.assertEqual(sweep.crossings(report), [])


class Ladders(unittest.TestCase):
    def test_a_feature_that_gains_little_everywhere_is_named(self):
        """One surely below the limit, one above it, one that is unsure, one not measured."""
        report = {"ladder": {"features": ["ring", "quiet", "unsure", "gone"]}, "trials": [],
                  "scenario": {"cells": []}, "table": [
            row("a", "no-unsure", "machine_cpu_ns", 1.0, "INCONCLUSIVE", 1.3),
            row("a", "no-ring", "machine_cpu_ns", 1.02, "EQUIVALENT"),
            row("b", "no-ring", "machine_cpu_ns", 1.20, "SLOWER"),
            row("a", "no-quiet", "machine_cpu_ns", 1.02, "EQUIVALENT"),
            row("a", "epoll", "machine_cpu_ns", 1.9, "SLOWER")]}
        text = ladder.as_text(report)
        self.assertIn("a +2.0% equivalent, b +20.0% slower", text)
        self.assertEqual(text.count("gains less than 5% in every row"), 1)
        self.assertIn("not measured", text)


    def test_rungs_are_paired_with_the_one_before(self):
        """Level and step are exact for costs without noise; a rung without a result is passed."""
        costs = {"default": 100.0, "bare": 200.0, "no-b": 150.0}
        trials = [{"cell": "a", "variant": name, "block": block, "status": "ok",
                   "metrics": {"machine_cpu_ns": cost * (1 + block)}}
                  for block in range(6) for name, cost in costs.items()]
        report = {"ladder": {"features": [], "chains": {
            "io_uring": ["bare", "+gone", "no-b", "default"], "epoll": ["nothing"]}},
            "scenario": {"cells": [{"name": "a"}]}, "trials": trials}
        (chain, steps), = ladder.climbs(report)["a"]
        self.assertEqual([(name, round(level, 9)) for name, level, _ in steps],
                         [("bare", 2), ("no-b", 1.5), ("default", 1)])
        self.assertEqual((chain, steps[0][2]), ("io_uring", None))
        self.assertAlmostEqual(steps[1][2]["ratio"], 0.75)
        self.assertAlmostEqual(steps[2][2]["high"], 2 / 3)

    def test_a_climb_has_a_rung_for_each_step_that_can_be_taken(self):
        """Only plans that weir has; one that brings nothing new is no rung."""
        features = {"ring": (5, 19), "defer": (6, 1), "array": (6, 6), "direct": (6, 13),
                    "multi": (6, 17)}
        self.assertEqual(ladder.uring_climb(features), [
            ("kernel-6.1", ["defer", "ring"]), ("kernel-6.8", ["array"]),
            ("no-multi", ["direct"]), ("default", ["multi"])])
        self.assertEqual(ladder.uring_climb({"ring": (5, 19)}), [("kernel-6.1", ["ring"])])

    def test_features_of_one_kernel_have_a_rung_each(self):
        """One that has no use without the other comes after it."""
        features = {"ring": (5, 19), "receive-multishot": (6, 17), "receive-bundle": (6, 17)}
        self.assertEqual(ladder.uring_climb(features), [
            ("kernel-6.1", ["ring"]), ("no-receive-bundle", ["receive-multishot"]),
            ("default", ["receive-bundle"])])


class Capacities(unittest.TestCase):
    def record(self, rate, truth):
        return {"status": "ok", "rate": rate, "metrics": {
            "ops_per_s": min(rate, truth * 1.1), "p99_ns": 1e5 if rate <= truth else 9e6}}

    def search(self, truth, metric="p99_ns"):
        found = capacity.Search(1e5, metric, 1e6)
        for _ in range(capacity.STEPS):
            found.note(self.record(found.rate(), truth))
        return found

    def test_bisection_finds_the_capacity(self):
        """Within its resolution, wherever it lies; every step is told."""
        for truth in (9000, 50000, 77000):
            found = self.search(truth)
            best = found.result({"took": 1}, "p99=1ms")
            self.assertTrue(truth - 1e5 / 64 <= best["rate"] <= truth, (truth, best["rate"]))
            self.assertEqual(best["metrics"]["capacity_per_s"], best["rate"])
            self.assertEqual(len(best["steps"]), capacity.STEPS)

    def test_searches_by_turns_go_on_together_each_at_its_own_rate(self):
        """Servers of other capacities, one that cannot keep the objective at all, and one
        that does not start: each has its own answer, and the lowest rate's turns are for all."""
        truths = {"slow": 9000, "fast": 77000, "none": 0, "dead": 1}
        cell = scenario.Cell("a", turns=10, turn=0.1)
        orders = [trial.Order(cell, name, 0, 1.0, 0, 1) for name in truths]
        asked = []

        def run(_, orders, count):
            asked.append((count, {order.variant: order.rate for order in orders}))
            return [{"variant": order.variant, "took": 1, "failure": "",
                     "status": "failed" if order.variant == "dead" else "ok",
                     "offered_per_s": order.rate, "turns": {}, "rate": order.rate,
                     "metrics": {"ops_per_s": order.rate or 1e5, "p99_ns": 1e5 if
                                 order.rate <= truths[order.variant] else 9e6}}
                    for order in orders]

        one = SimpleNamespace(setting=None, report={"slo": "p99=1ms"})
        one.step = lambda *words: capacity.CapacitySession.step(one, *words)
        with mock.patch("weir_bench.relay.run", run):
            records = capacity.CapacitySession.perform_together(one, orders, 10)
        for record in records[:2]:
            truth = truths[record["variant"]]
            found = record["metrics"]["capacity_per_s"]
            self.assertTrue(truth - 1e5 / 64 <= found <= truth, (truth, found))
            self.assertEqual(len(record["steps"]), capacity.STEPS)
        self.assertEqual([record["status"] for record in records], ["ok", "ok"] + ["failed"] * 2)
        self.assertRegex(records[2]["failure"], "no rate down to 1,562/s keeps p99=1ms")
        self.assertEqual(len(asked), 1 + capacity.STEPS)
        self.assertEqual([count for count, _ in asked[:2]], [10, 10])
        # 11,000 samples at the lowest rate take seconds, so there are as many turns of a tenth.
        self.assertEqual(asked[-1][0], 71)
        self.assertEqual(len(set(asked[-1][1].values())), 3)

    def test_what_meets_an_objective(self):
        """Not a failure, not less than what was offered, not a late tail; too few say nothing."""
        good = self.record(100, 1000)
        self.assertTrue(capacity.meets(good, "p99_ns", 1e6))
        self.assertFalse(capacity.meets({**good, "status": "invalid"}, "p99_ns", 1e6))
        self.assertFalse(capacity.meets({**good, "rate": 200}, "p99_ns", 1e6))
        self.assertFalse(capacity.meets(good, "p99_ns", 1e4))
        self.assertIsNone(capacity.meets(good, "p50_ns", 1e6))

    def test_no_rate_and_too_few_samples(self):
        """None is found where none meets; too few samples end the search with the remedy."""
        self.assertEqual(self.search(0).result({"took": 1}, "p99=1ms")["status"], "failed")
        with self.assertRaisesRegex(Problem, "give more --seconds"):
            self.search(1e9, "p50_ns")

    def test_objectives(self):
        """Units are converted, anything else is refused."""
        self.assertEqual(capacity.parse_objective("p99=1.5ms"), ("p99_ns", 1.5e6))
        for wrong in ("p99", "p98=1ms", "p99=1", "mean=1ms", None):
            with self.assertRaisesRegex(Problem, "--slo"):
                capacity.parse_objective(wrong)


class Replays(unittest.TestCase):
    def test_the_presets_are_twelve_or_more_and_complete(self):
        """Each with its source, and an answer that could be either."""
        path = os.path.join(suite_path.SUITE, "../scenarios/replay.toml")
        presets = scenario.load_file(path)
        replay.check(presets)
        self.assertGreaterEqual(len(presets.cells), 12)
        signs = {replay.published_verdict(cell.expect["ratio"]) for cell in presets.cells}
        self.assertEqual(signs, {"FASTER", "SLOWER", "EQUIVALENT"})
        presets.cells[0].expect = {"ratio": 1.0}
        with self.assertRaisesRegex(Problem, "expect wants source, variant, ratio"):
            replay.check(presets)

    def test_answers(self):
        """Agrees by sign, disagrees by sign, and says nothing where the run says nothing."""
        expected = {"a": (1.5, "agrees"), "b": (1.5, "disagrees"), "c": (0.8, "no answer"),
                    "d": (1.0, "agrees"), "e": (1.2, "no answer")}
        found = {"a": "FASTER", "b": "SLOWER", "c": "INVALID", "d": "EQUIVALENT"}
        report = {"base": "epoll", "scenario": {"cells": [
            {"name": name, "expect": {"variant": "uring", "ratio": ratio, "source": "s"}}
            for name, (ratio, _) in expected.items()]},
            "table": [row(name, "uring", "ops_per_s", 1.1, v) for name, v in found.items()]}
        self.assertEqual({name: answer for name, _, answer, _ in replay.answers(report)},
                         {name: answer for name, (_, answer) in expected.items()})
        self.assertIn("2 agrees, 1 disagrees, 2 no answer", replay.as_text(report))
        # The client was at its limit in c, but the server's CPU per operation has an answer.
        report["table"][2]["verdicts"]["server_cpu_ns"] = {"ratio": 1.25, "verdict": "SLOWER",
                                                           "reason": "so"}
        _, _, answer, seen = replay.answers(report)[2]
        self.assertEqual((answer, seen["ratio"], seen["by"]),
                         ("agrees", 0.8, "per CPU of the server"))

    def test_a_cell_may_have_a_base_of_its_own(self):
        """Without the run's base in it: half the cost is twice the rate of the base that it names,
        and against the one that it does not name there is no answer."""
        trials = [{"cell": "a", "variant": name, "block": block, "status": "ok", "guards": [],
                   "metrics": {"server_cpu_ns": cost * (1 + block / 1e4)}}
                  for block in range(8) for name, cost in (("plain", 100), ("uring", 50))]
        cell = {"name": "a", "title": "", "rate": 0, "rate_of": "", "expect":
                {"variant": "uring", "base": "plain", "ratio": 1.5, "source": "s"}}
        report = {"base": "epoll", "trials": trials, "scenario": {
            "cells": [cell], "variants": [{"name": n} for n in ("epoll", "uring", "plain")],
            "endpoints": ["server_cpu_ns"]}}
        report["table"] = summary.summarize(report)
        (_, _, answer, seen), = replay.answers(report)
        self.assertEqual((answer, round(seen["ratio"], 3)), ("agrees", 2.0))
        self.assertIn("published 1.50 over plain, here 2.00", replay.as_text(report))
        del cell["expect"]["base"]
        self.assertEqual(replay.answers(report)[0][2], "no answer")


class Explanations(unittest.TestCase):
    def test_symbols_are_grouped(self):
        """Kernel functions by their part of the kernel; addresses of the program are its own."""
        script = "\n".join(f" {address} {symbol}" for address, symbol in (
            ("ffffffff81000000", "tcp_sendmsg_locked"), ("ffffffff81000010", "tcp_ack"),
            ("ffffffff81000020", "io_submit_sqes"), ("ffffffff81000030", "_copy_to_iter"),
            ("ffffffff81000040", "ep_poll"), ("ffffffff81000050", "a_new_function"),
            ("ffffffff81000060", "skb_release_data"), ("ffffffff81000070", "__schedule"),
            ("55d0c0ffee00", "tcp_like_name")))
        parts, symbols = explain.group(script)
        self.assertEqual(parts, {"TCP and IP": 2, "io_uring": 1, "copies": 1, "epoll": 1,
                                 explain.OTHER: 1, "network core": 1, "scheduler": 1,
                                 explain.OWN: 1})
        self.assertEqual(symbols["tcp_ack"], 1)

    def test_counts_are_read(self):
        """Events that did not happen or are not supported are left out."""
        said = ("120,,raw_syscalls:sys_enter,1,100.00,,\n0,,io_uring:io_uring_link,1,100.00,,\n"
                "<not supported>,,sched:sched_switch,0,100.00,,\n")
        self.assertEqual(explain.counts_of(said), {"raw_syscalls:sys_enter": 120})

    def test_the_limiter_is_named(self):
        """By the shares, and by what kind of cell it is."""
        for changes, shares, text in (
                ({}, (0.99, 0.5), "the server's CPU"), ({}, (0.6, 0.9), "the client's CPU"),
                ({}, (0.3, 0.3), "waiting"), ({"in_flight": 1}, (0.4, 0.9), "the round trip"),
                ({"open": True}, (0.4, 0.9), "the offered rate")):
            record = {"open": False, "in_flight": 64, **changes,
                      "cpu": dict(zip(("server_share", "client_share"), shares))}
            self.assertIn(text, explain.limiter(record))


class ExplainedTrials(unittest.TestCase):
    """The three trials of an explanation: each may go wrong alone."""

    CLEAN = {"status": "ok", "open": False, "in_flight": 9, "guards": [],
             "cpu": {"server_share": 0.99, "client_share": 0.5}, "server": {"stats": {}},
             "metrics": {"ops_per_s": 1000.0}}
    SAID = {"instrument": {"status": 0, "said": "500,,raw_syscalls:sys_enter,1,100.00,,\n"}}

    def explain(self, *records):
        """What it makes of trials that end so; perf has left a profile before the first."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "perf.data")
            with open(path, "w", encoding="ascii"):
                pass
            session = SimpleNamespace(setting=SimpleNamespace(folder=folder), rates={}, seed=1,
                                      scenario=SimpleNamespace(seconds=0.4, warmup=0.1))
            script = " ffffffff81000000 tcp_ack\n"
            with mock.patch.object(explain.trial, "run", side_effect=records), \
                    mock.patch.object(explain, "perf_script", lambda _: script), \
                    mock.patch.object(explain.shutil, "which", lambda name: name):
                found = explain.explain(session, scenario.Cell("a"),
                                        scenario.Variant("v", "x"))
            self.assertFalse(os.path.exists(path), "an old profile could be taken for a new one")
        return found, explain.as_text(found)

    def test_three_trials_that_end_well_have_all_parts(self):
        """Counts are divided by what was done in the whole of their trial."""
        found, said = self.explain(self.CLEAN, self.CLEAN, {**self.CLEAN, **self.SAID})
        self.assertEqual((found["status"], found["missing"]), ("ok", []))
        self.assertRegex(said, r"100.0 %  TCP and IP\n(.*\n)* +1.000  raw_syscalls:sys_enter")

    def test_a_server_that_ends_badly_under_an_instrument_is_a_failure(self):
        """Though perf had spoken before; the rest of the explanation stands."""
        bad = {"status": "failed", "failure": "the server ended with status 3", **self.SAID}
        found, said = self.explain(self.CLEAN, self.CLEAN, bad)
        self.assertEqual(found["status"], "failed")
        self.assertIn("no counts: the server ended with status 3", said)
        self.assertIn("TCP and IP", said)
        found, said = self.explain(self.CLEAN, bad, {**self.CLEAN, **self.SAID})
        self.assertEqual(found["status"], "failed")
        self.assertIn("no profile: the server ended with status 3", said)
        self.assertNotIn("TCP and IP", said)
        self.assertIn("raw_syscalls:sys_enter", said)

    def test_an_invalid_one_is_told(self):
        """With what the guard says, and the instrument that it was under."""
        wrong = {**self.CLEAN, "status": "invalid", "guards": [
            {"guard": "engine", "severity": "invalid", "text": "another ran"}]}
        found, said = self.explain(self.CLEAN, wrong, {**self.CLEAN, **self.SAID})
        self.assertEqual(found["status"], "invalid")
        self.assertIn("perf record: another ran", said)


class Studies(RunFixture):
    def study(self, name, *arguments, status=0):
        run = subprocess.run([suite_path.LAUNCHER, name, *arguments, "--scenario", self.scenario,
                              "--build", self.folder, "--skip-conformance", "--seconds", "0.03",
                              "--warmup", "0"], capture_output=True,
                             text=True, timeout=300, check=False)
        self.assertEqual(run.returncode, status, run.stdout + run.stderr)
        self.assertNotIn("Traceback", run.stderr)
        return run.stdout, run.stderr

    def test_a_sweep_runs_every_value(self):
        """Its cells are named for their values, and the page has the lines. An interrupted one goes
        on as what it was."""
        page = os.path.join(self.folder, "sweep.html")
        out, _ = self.study("sweep", "--var", "size=64,512", "--cells", "echo", "--blocks", "1",
                            "--json", self.json, "--html", page)
        with open(self.json, encoding="utf-8") as file:
            report = json.load(file)
        self.assertEqual(report["sweep"]["cells"], {"echo-size-64": 64, "echo-size-512": 512})
        self.assertEqual({t["cell"] for t in report["trials"]}, set(report["sweep"]["cells"]))
        self.assertIn("Crossings:", out)
        with open(page, encoding="utf-8") as file:
            self.assertIn("against size", file.read())
        self.assertEqual(self.go_on("Crossings:")["sweep"], report["sweep"])

    def test_a_ladder_takes_away_one_feature_at_a_time(self):
        """The features are those that the program itself names. An interrupted one goes on as what
        it was."""
        out, _ = self.study("ladder", "--cells", "echo", "--blocks", "1", "--json", self.json)
        with open(self.json, encoding="utf-8") as file:
            report = json.load(file)
        commands = {t["variant"]: t["server"]["command"] for t in report["trials"]}
        self.assertIn("default,-first", commands["no-first"])
        self.assertEqual(set(commands), {"default", "no-first", "no-second", "epoll",
                                         *ladder.KERNELS,
                                         *(f"epoll-{name}" for name in ladder.EPOLL_RUNGS)})
        self.assertEqual(report["ladder"]["chains"]["io_uring"], ["kernel-6.1", "kernel-6.8"])
        self.assertIn("What each feature saves", out)
        self.assertRegex(out, r"echo io_uring: kernel-6.1 \[[\d.]+\], kernel-6.8 [+-]")
        self.assertEqual(self.go_on("What each feature saves")["ladder"], report["ladder"])

    def test_an_interrupted_calibration_goes_on_as_what_it_was(self):
        """What it found and what it tells below the table are there at the end."""
        said = subprocess.run([suite_path.LAUNCHER, "calibrate", self.scenario, "--build",
                               self.folder, "--json", self.json, "--skip-conformance", "--cells",
                               "echo", "--blocks", "1", "--seconds", "0.03", "--warmup", "0"],
                              capture_output=True, text=True, timeout=300, check=False)
        self.assertEqual(said.returncode, 0, said.stdout + said.stderr)
        self.assertIn("ceilings_found", self.go_on("The load's ceiling"))

    def go_on(self, text):
        """Goes on with the run in the JSON as if all but one of its trials had taken place; it
        must tell that text at its end. Returns the report."""
        with open(self.json, encoding="utf-8") as file:
            report = json.load(file)
        whole = len(report["trials"])
        report.update(complete=False, trials=report["trials"][:-1])
        for gone in ("table", "ceilings_found", "floors_found"):
            report.pop(gone, None)
        with open(self.json, "w", encoding="utf-8") as file:
            json.dump(report, file)
        said = subprocess.run([suite_path.LAUNCHER, "run", "--resume", self.json, "--build",
                               self.folder], capture_output=True, text=True, timeout=300,
                              check=False)
        self.assertEqual(said.returncode, 0, said.stderr)
        self.assertIn(text, said.stdout)
        with open(self.json, encoding="utf-8") as file:
            report = json.load(file)
        self.assertEqual(len(report["trials"]), whole)
        return report

    def test_an_explanation_has_its_parts_or_their_reasons(self):
        """With perf, where the time went; without it or the right to it, why not."""
        out, _ = self.study("explain", "echo", "--quiet")
        self.assertIn("echo epoll\n  limited by ", out)
        if shutil.which("perf") is None:
            self.assertIn("perf is not installed", out)
        elif "no profile" not in out:
            self.assertRegex(out, r"[\d.]+ %  the server's own code")

    def test_an_explanation_of_a_server_that_dies_fails(self):
        """It says why, and the exit status tells."""
        out, _ = self.study("explain", "echo", "--quiet", "--engines", "dying", "--variant",
                            "dying=--engine epoll --fault die", status=1)
        self.assertRegex(out, "echo dying\n  the server was ended by SIGKILL under load: the fake "
                              "server had enough")

    def test_wrong_objectives_and_variables_are_refused_before_anything_runs(self):
        """Status 2 and one line."""
        for arguments in (("capacity", "--slo", "p98=1ms"), ("sweep", "--var", "size=x"),
                          ("replay",), ("explain", "nothing"), ("explain", "echo", "--csv"),
                          ("explain", "echo", "--json", self.json)):
            _, err = self.study(*arguments, status=2)
            self.assertEqual(len(err.splitlines()), 1, err)


if __name__ == "__main__":
    unittest.main()
