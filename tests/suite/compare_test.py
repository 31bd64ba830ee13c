"""Two runs against each other, and runs that go on: with exact tests, and with fake programs."""

import copy
import csv
import io
import itertools
import json
import math
import os
import random
import subprocess
import unittest

import suite_path
from run_fixture import RunFixture
from weir_bench import calibrate, compare, summary
from weir_bench.scenario import Cell

ENVIRONMENT = {"kernel": "6.18", "cpu_model": "x", "cpus": 2, "sysctl": {"net/core/somaxconn": "9"}}


def run_of(cost, noise, chance, blocks=10):
    trials = [{"cell": "a", "variant": "uring", "block": block, "status": "ok", "guards": [],
               "metrics": {"machine_cpu_ns": cost * chance.lognormvariate(0, noise)}}
              for block in range(blocks)]
    cell = {**vars(Cell("a")), "title": ""}
    return {"base": "epoll", "environment": copy.deepcopy(ENVIRONMENT), "trials": trials,
            "server_cpus": "0", "client_cpus": "1", "load": "weir-load",
            "scenario": {"cells": [cell], "variants": [{"name": "uring"}]}}


class Compare(unittest.TestCase):
    def verdict(self, a, b):
        problems, found = compare.compare(a, b)
        return found[0]["verdict"], compare.gate(problems, found)

    def test_rank_sum_counts_match_enumeration(self):
        """Each number of inversions is counted as often as orders give it."""
        for n, m in itertools.product(range(1, 5), repeat=2):
            counts = [0] * (n * m + 1)
            for places in itertools.combinations(range(n + m), n):
                others = set(range(n + m)) - set(places)
                counts[sum(a > b for a in places for b in others)] += 1
            self.assertEqual(compare.rank_sum_counts(n, m), counts)

    def test_interval_covers_the_truth_as_often_as_it_says(self):
        """500 simulated pairs of runs of eight and ten trials."""
        chance = random.Random(3)
        hits = 0
        for _ in range(500):
            found = compare.shift([chance.gauss(0, 1) for _ in range(8)],
                                  [chance.gauss(0.5, 1) for _ in range(10)])
            hits += found["low"] <= 2.718281828 ** 0.5 <= found["high"]
        self.assertLess(abs(hits / 500 - found["level"]), 0.03)
        self.assertGreaterEqual(found["level"], 0.95)

    def test_cells_that_were_offered_other_rates_are_not_compared(self):
        """A cost per operation depends on the rate; the same rate within 2 % is the same."""
        chance = random.Random(1)
        a, b = run_of(100, 0.005, chance), run_of(130, 0.005, chance)
        for run, rate in ((a, 60000.0), (b, 42000.0)):
            run["scenario"]["cells"][0].update(rate_of="b", rate=0)
            run["rates"] = {"a": rate}
        _, found = compare.compare(a, b)
        self.assertEqual(found[0]["verdict"], "INVALID")
        self.assertIn("60,000/s in A and 42,000/s in B", found[0]["reason"])
        b["rates"] = {"a": 60500.0}
        self.assertEqual(self.verdict(a, b), ("SLOWER", 1))

    def test_a_busy_machine_is_no_regression(self):
        """What others used is in the machine's CPU time, and no pair shares it."""
        chance = random.Random(1)
        a, b = run_of(100, 0.005, chance), run_of(130, 0.005, chance)
        for busy, wanted in ((3, ("SLOWER", 1)), (4, ("INVALID", 2))):
            for trial in b["trials"][:busy]:
                trial["guards"] = [{"guard": "machine-busy", "severity": "warning", "text": "so"}]
            self.assertEqual(self.verdict(a, b), wanted)

    def test_the_gate_has_three_answers(self):
        """0 for an equal build, 1 for one that costs more, 2 where noise or machine hide it."""
        chance = random.Random(1)
        a = run_of(100, 0.005, chance)
        self.assertEqual(self.verdict(a, run_of(100, 0.005, chance)), ("EQUIVALENT", 0))
        self.assertEqual(self.verdict(a, run_of(110, 0.005, chance)), ("SLOWER", 1))
        self.assertEqual(self.verdict(a, run_of(90, 0.005, chance)), ("FASTER", 0))
        self.assertEqual(self.verdict(a, run_of(102, 0.3, chance)), ("INCONCLUSIVE", 2))

    def test_equal_builds_are_seldom_called_different(self):
        """Of 200 pairs of equal runs at most 5 %, and some: the test can fail."""
        chance = random.Random(2)
        wrong = sum(self.verdict(run_of(100, 0.1, chance), run_of(100, 0.1, chance))[0]
                    in ("FASTER", "SLOWER") for _ in range(200))
        self.assertLess(wrong, 0.07 * 200)
        self.assertGreater(wrong, 0)

    def test_runs_of_different_machines_or_cells_are_not_compared(self):
        """Each difference is named, and the gate has no answer, not even for a regression."""
        chance = random.Random(4)
        a, b = run_of(100, 0.005, chance), run_of(150, 0.005, chance)
        b["environment"]["kernel"] = "6.1"
        b["environment"]["sysctl"]["net/core/somaxconn"] = "128"
        b["scenario"]["cells"][0]["size"] = 65
        for run, threads in ((a, "wrk -t1"), (b, "wrk -t2")):
            run.update(load="wrk", load_given={"command": threads, "parse": [], "turns": False})
        problems, found = compare.compare(a, b)
        self.assertEqual([problem.split(" differs")[0] for problem in problems],
                         ["kernel", "net/core/somaxconn", "load", "cell a"])
        self.assertIn("load differs: --load 'wrk -t1' and --load 'wrk -t2'", problems)
        self.assertEqual(compare.gate(problems, found), 2)
        b["scenario"]["variants"] = []
        a["trials"] = []
        self.assertIn("no cell and variant is in both", compare.compare(a, b)[0])

    def test_a_spoiled_run_gives_no_verdict(self):
        """The sentence says which of the two, and why."""
        chance = random.Random(5)
        a, b = run_of(100, 0.005, chance), run_of(100, 0.005, chance)
        for trial in b["trials"]:
            trial.update(status="failed", failure="it died")
        problems, found = compare.compare(a, b)
        self.assertEqual(found[0]["verdict"], "INVALID")
        self.assertIn("uring of B: it died", found[0]["reason"])
        self.assertIn("INVALID", compare.as_text(problems, found))


class Runs(RunFixture):
    def test_an_interrupted_run_goes_on(self):
        """Only what is missing is run, in the same order; the file is whole, a study one still."""
        report, _, _ = self.bench("--cells", "echo,half", "--blocks", "2", "--seed", "3")
        part = self.json + ".part"
        head = {k: v for k, v in report.items() if k not in ("trials", "table")}
        study = {"features": ["first"], "chains": {}, "adds": {}}
        with open(part, "w", encoding="utf-8") as file:
            file.write(json.dumps({**head, "complete": False, "rates": {}, "ladder": study}) + "\n")
            file.write(json.dumps({"rates": report["rates"]}) + "\n")
            for trial in report["trials"][:3]:
                file.write(json.dumps({"trial": trial}) + "\n")
            file.write('{"trial": {"cel')
        os.unlink(self.json)
        run = subprocess.run([suite_path.LAUNCHER, "run", "--resume", part, "--build",
                              self.folder, "--budget", "50"], capture_output=True, text=True,
                             timeout=300, check=False)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn("4/4", run.stderr)
        self.assertEqual(len(run.stderr.splitlines()), 2)
        with open(self.json, encoding="utf-8") as file:
            whole = json.load(file)
        self.assertTrue(whole["complete"])
        self.assertEqual(whole["trials"][:3], report["trials"][:3])
        self.assertEqual([(t["cell"], t["block"], t["seed"]) for t in whole["trials"]],
                         [(t["cell"], t["block"], t["seed"]) for t in report["trials"]])
        self.assertEqual(whole["rates"], report["rates"])
        self.assertEqual(whole["ladder"], study)
        self.assertEqual((whole["scenario"]["budget"], whole["complete"]), (50, True))
        self.assertFalse(os.path.exists(part))
        again = subprocess.run([suite_path.LAUNCHER, "run", "--resume", self.json], check=False,
                               capture_output=True, text=True)
        self.assertEqual((again.returncode, "this run is complete" in again.stderr), (2, True))
        other = {**head, "complete": False}
        other["environment"]["programs"]["weir"]["sha256"] = "0"
        with open(part, "w", encoding="utf-8") as file:
            file.write(json.dumps(other) + "\n")
        again = subprocess.run([suite_path.LAUNCHER, "run", "--resume", part, "--build",
                                self.folder], capture_output=True, text=True, check=False)
        self.assertEqual(again.returncode, 2)
        self.assertIn("this is not the weir that the run began with", again.stderr)

    def test_what_an_interrupted_run_left_out_stays_out(self):
        """A cell whose rate could not be found has none when the run goes on, either."""
        report, _, _ = self.bench("--cells", "echo,half")
        head = {k: v for k, v in report.items() if k not in ("trials", "table")}
        first = next(t for t in report["trials"] if t["cell"] == "echo")
        with open(self.json + ".part", "w", encoding="utf-8") as file:
            file.write(json.dumps({**head, "complete": False, "rates": {}}) + "\n")
            file.write(json.dumps({"skipped": {"half": "no capacity"}}) + "\n")
            file.write(json.dumps({"trial": first}) + "\n")
        run = subprocess.run([suite_path.LAUNCHER, "run", "--resume", self.json, "--build",
                              self.folder], capture_output=True, text=True, timeout=300,
                             check=False)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn("half: not run: no capacity", run.stdout)
        with open(self.json, encoding="utf-8") as file:
            self.assertEqual([t["cell"] for t in json.load(file)["trials"]], ["echo"])

    def test_calibration_finds_floor_and_ceiling_and_a_run_uses_them(self):
        """By turns. The twin's interval becomes the margin, and is printed; compare and CSV speak
        of the same numbers."""
        calibration = os.path.join(self.folder, "calibration.json")
        run = subprocess.run([suite_path.LAUNCHER, "calibrate", self.scenario, "--build",
                              self.folder, "--json", calibration, "--cells", "echo", "--blocks",
                              "2", "--skip-conformance", "--turns", "5", "--turn", "0.01",
                              "--warmup", "0.01"],
                             capture_output=True, text=True, timeout=300, check=False)
        # 1: the machine had no time for the reflector in the kernel, and its trial says so.
        self.assertIn(run.returncode, (0, 1), run.stderr)
        self.assertIn("Noise floor", run.stdout)
        with open(calibration, encoding="utf-8") as file:
            found = json.load(file)
        self.assertGreater(found["ceilings_found"]["echo"]["per_s"], 100)
        self.assertEqual(set(found["floors_found"]), {"echo", "class closed"})
        self.assertTrue(all(len(t["turns"]["ops"]) == 5 for t in found["trials"]
                            if t["status"] == "ok"))
        logs = summary.logs_between(*([t for t in found["trials"] if t["variant"] == name]
                                      for name in ("epoll-again", "epoll")), "server_cpu_ns")
        self.assertAlmostEqual(found["floors_found"]["echo"]["server_cpu_ns"],
                               math.expm1(max(map(abs, logs.values()))))
        self.assertIn(f"server_cpu_ns {found['floors_found']['echo']['server_cpu_ns']:.1%}",
                      run.stdout)
        # A rate near the ceiling is marked, and one far below it is not, on busy machines too.
        for factor, is_marked in ((1e-5, True), (1e7, False)):
            found["ceilings_found"]["echo"]["per_s"] *= factor
            with open(calibration, "w", encoding="utf-8") as file:
                json.dump(found, file)
            report, out, _ = self.bench("--cells", "echo", "--calibration", calibration,
                                        *["--variant", "twin=--engine epoll"] * (not is_marked))
            self.assertEqual("the load's calibrated ceiling" in out, is_marked, out)
        row = next(row for row in report["table"] if row["variant"] == "twin")
        floor = found["floors_found"]["echo"]["server_cpu_ns"]
        self.assertEqual(row["verdicts"]["server_cpu_ns"]["margin"], max(floor, 0.02))
        text = subprocess.run([suite_path.LAUNCHER, "report", "--csv", self.json],
                              capture_output=True, text=True, check=True).stdout
        lines = list(csv.DictReader(io.StringIO(text)))
        cost = next(line for line in lines if (line["variant"], line["metric"])
                    == ("twin", "server_cpu_ns"))
        self.assertAlmostEqual(float(cost["ratio"]), row["metrics"]["server_cpu_ns"]["ratio"])
        self.assertEqual(cost["verdict"], row["verdicts"]["server_cpu_ns"]["verdict"])
        gate = subprocess.run([suite_path.LAUNCHER, "compare", "--gate", self.json, self.json],
                              capture_output=True, text=True, check=False)
        self.assertEqual(gate.returncode, 2, gate.stdout)
        self.assertIn("B against A", gate.stdout)

    def test_a_calibration_of_another_machine_is_refused(self):
        """Its noise is not this machine's noise."""
        report = {"environment": {"cpu_model": "a", "kernel": "b"}}
        with self.assertRaisesRegex(Exception, "made on another machine: kernel"):
            calibrate.apply(report, {"floors_found": {}, "environment": {"cpu_model": "a",
                                                                         "kernel": "c"}})


if __name__ == "__main__":
    unittest.main()
