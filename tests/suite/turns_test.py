"""Variants by turns: the statistics against simulated truth, and runs with fake programs."""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
import unittest
from statistics import median
from types import SimpleNamespace
from unittest import mock

import suite_path
from run_fixture import RunFixture
from weir_bench import (Problem, compare, drive, process, sample, scenario, session, summary,
                        sweep, trial, turns, verdict)
from weir_bench.load import Result
from weir_bench.scenario import Cell, Variant

ROUNDS = 30
TRIES = 5
LIMIT = 60   # seconds, only against what hangs
LOAD = SimpleNamespace(takes_turns=lambda: True, pauses=lambda: False, name="load")
PAUSED = SimpleNamespace(takes_turns=lambda: True, pauses=lambda: True, name="wrk")


def columns_of(chance, cost, moods):
    """One block's turns of a variant: each as noisy as on a real machine, some far off."""
    own = cost * chance.lognormvariate(0, 0.006)  # no process is laid out as another one
    spent = [own * mood * chance.lognormvariate(0, 0.03) * (3 if chance.random() < 0.03 else 1)
             for mood in moods]
    return {"ops": [1000] * len(moods), "server_ns": [1000 * value for value in spent],
            "wall_ns": [2e7] * len(moods)}


def trial_of(cell, variant, block, columns):
    return {"cell": cell, "variant": variant, "block": block, "status": "ok", "guards": [],
            "metrics": {"server_cpu_ns": median(turns.values(columns, "server_cpu_ns"))},
            "turns": columns}


def report_of(chance, effects, blocks, speed=1.0):
    """A run on a machine that wanders by 20 % from block to block, and within each block, too;
    effects[cell] is what the variant costs. `speed` is the machine's of that day."""
    trials = []
    for at, effect in enumerate(effects):
        for block in range(blocks):
            mood, drift = speed * chance.lognormvariate(0, 0.2), chance.gauss(0, 0.01)
            moods = [mood * (1 + drift) ** at for at in range(ROUNDS)]
            for name, cost in (("base", 1e4), ("new", 1e4 * effect)):
                trials.append(trial_of(f"c{at}", name, block, columns_of(chance, cost, moods)))
    cells = [{**vars(Cell(f"c{at}", turns=ROUNDS)), "title": ""} for at in range(len(effects))]
    return {"base": "base", "trials": trials, "reference": {"command": "x", "programs": {}},
            "environment": {"sysctl": {}}, "server_cpus": "0", "client_cpus": "1", "load": "x",
            "scenario": {"cells": cells, "variants": [{"name": "base"}, {"name": "new"}],
                         "endpoints": ["server_cpu_ns"]}}


def verdicts(report):
    return [row["verdicts"]["server_cpu_ns"]["verdict"]
            for row in summary.summarize(report) if row["verdicts"]]


class Statistics(unittest.TestCase):
    def test_the_ratio_is_of_neighbours(self):
        """Each turn is divided by that of its own round: a jump of the machine in the middle
        cancels out, a turn without work counts for nothing, and two that went wrong are no
        more than two of ten."""
        base = {"ops": [10] * 10, "server_ns": [100] * 5 + [700] * 5}
        mine = {"ops": [10] * 10, "server_ns": [110] * 5 + [770] * 5}
        self.assertAlmostEqual(turns.log_ratio(mine, base, "server_cpu_ns"), 0.0953, 4)
        mine["ops"][0] = 0
        mine["server_ns"][1:3] = [9e9, 9e9]
        self.assertAlmostEqual(turns.log_ratio(mine, base, "server_cpu_ns"), 0.0953, 4)
        self.assertIsNone(turns.log_ratio(mine, base, "p99_ns"))
        self.assertIsNone(turns.log_ratio({**mine, "ops": [0] * 10}, base, "server_cpu_ns"))
        # Where only totals of the machine are known, its turns say nothing.
        self.assertIsNone(turns.log_ratio({**mine, "machine_ns": [None] * 10},
                                          {**base, "machine_ns": [None] * 10}, "machine_cpu_ns"))

    def test_levels_are_typical_turns(self):
        """Of the cost and of the rate; the far one moves it little."""
        columns = {"ops": [10, 10, 10, 10], "server_ns": [100, 100, 100, 10000],
                   "wall_ns": [1e9] * 4}
        self.assertLess(turns.level(columns, "server_cpu_ns"), 40)
        self.assertAlmostEqual(turns.level(columns, "ops_per_s"), 10 / 1e9)

    def test_equal_builds_are_seldom_told_apart_and_mostly_equivalent(self):
        """30 runs of three cells with drift and outliers: a false claim in at most 5 % of the
        cells, and at least 70 % of them are EQUIVALENT. Trials as noisy as single turns would
        not reach that: so the turns are what brings it."""
        chance = random.Random(21)
        found = [v for _ in range(30) for v in verdicts(report_of(chance, [1.0] * 3, 10))]
        wrong = sum(v in (verdict.FASTER, verdict.SLOWER) for v in found)
        self.assertLessEqual(wrong / len(found), 0.05)
        self.assertGreaterEqual(found.count(verdict.EQUIVALENT) / len(found), 0.7)
        report = report_of(chance, [1.0] * 20, 10)
        for trial in report["trials"]:
            columns = trial.pop("turns")
            trial["metrics"] = {"server_cpu_ns": turns.values(columns, "server_cpu_ns")[0]}
        self.assertLess(verdicts(report).count(verdict.EQUIVALENT), 14)

    def test_five_percent_are_found(self):
        """In at least nine of ten runs of 20 blocks, and never as a gain."""
        chance = random.Random(22)
        found = [verdicts(report_of(chance, [1.05], 20))[0] for _ in range(30)]
        self.assertGreaterEqual(found.count(verdict.SLOWER), 27)
        self.assertNotIn(verdict.FASTER, found)


class TwoRuns(unittest.TestCase):
    def compare(self, a, b):
        problems, found = compare.compare(a, b)
        self.assertEqual(problems, [])
        return found

    def test_a_common_reference_cancels_the_day(self):
        """Two runs of one build, the second on a machine that is a tenth slower: by their ratios
        to the base most cells are EQUIVALENT and none differs; 5 % more cost is found."""
        chance = random.Random(23)
        found = []
        for _ in range(10):
            a, b = (report_of(chance, [1.0] * 4, 10, speed) for speed in (1.0, 1.1))
            found += self.compare(a, b)
        self.assertEqual({c["variant"] for c in found}, {"new"})
        self.assertEqual({c["reference"] for c in found}, {"base"})
        names = [c["verdict"] for c in found]
        self.assertGreaterEqual(names.count(verdict.EQUIVALENT) / len(names), 0.7)
        self.assertLessEqual(len(names) - names.count(verdict.EQUIVALENT)
                             - names.count(verdict.INCONCLUSIVE), 0.05 * len(names))
        a, b = report_of(chance, [0.9], 20), report_of(chance, [0.9 * 1.05], 20, 1.1)
        slower, = self.compare(a, b)
        self.assertEqual(slower["verdict"], verdict.SLOWER)
        self.assertAlmostEqual(slower["a"], 0.9, 1)
        text = compare.as_text([], [slower], compare.no_reference(a, b))
        self.assertIn("Compared are the ratios to base, the same program in both runs.", text)
        self.assertRegex(text, r"0\.\d+ -> +0\.\d+")

    def test_without_one_the_numbers_are_compared_and_that_is_said(self):
        """Another program, another base, or a run that does not tell: then the base is compared,
        too, and the day is in every number."""
        chance = random.Random(24)
        a, b = report_of(chance, [1.0], 10), report_of(chance, [1.0], 10)
        for change, why in (({"reference": {"command": "y"}}, "another program"),
                            ({"base": "new"}, "the base was base in A and new in B"),
                            ({"reference": None}, "does not say")):
            other = {**b, **change}
            if other["reference"] is None:
                del other["reference"]
            found = self.compare(a, other)
            self.assertEqual({c["variant"] for c in found}, {"base", "new"})
            self.assertNotIn("reference", found[0])
            self.assertIn(why, compare.as_text([], found, compare.no_reference(a, other)))

    def test_turns_and_trials_are_not_compared(self):
        """Nor are turns of another length; their number may differ."""
        chance = random.Random(25)
        a, b = report_of(chance, [1.0], 6), report_of(chance, [1.0], 6)
        cell = b["scenario"]["cells"][0]
        for change, problem in (({"turns": 5}, None), ({"turn": 0.1}, "turns: of 0 s and of 0.1 s"),
                                ({"turns": 0}, "turns: of 0 s and none")):
            cell.update(change)
            self.assertEqual([p for p in compare.differences(a, b)],
                             [f"cell c0 differs in its {problem}"] if problem else [])


class Choice(unittest.TestCase):
    def test_a_cell_has_the_turns_of_its_scenario_or_its_own(self):
        """Read from the file, refused beyond the bounds."""
        def parse(text, cell):
            return scenario.parse("x", {**text, "cell": [{"name": "a", **cell}]}).cells[0]

        for text, cell, wanted in (({}, {}, (0, 0.02)), ({"turns": 7, "turn": 0.1}, {}, (7, 0.1)),
                                   ({"turns": 7}, {"turns": 0}, (0, 0.02)),
                                   ({"turns": 7}, {"turns": 9, "turn": 0.5}, (9, 0.5))):
            cell = parse(text, cell)
            self.assertEqual((cell.turns, cell.turn), wanted)
        for wrong in ({"turns": 501}, {"turns": -2}, {"turn": 11.0}):
            with self.assertRaisesRegex(Problem, "turns must be at most 500"):
                parse({}, wrong)

    def test_who_cannot_take_turns_is_told_why(self):
        """What does not rest, what is shared, and what cannot be read so finely."""
        server = Variant("s", "{weir} echo --engine uring")
        for cell, variant, load, why in (
                ({}, server, LOAD, None),
                ({"slow": 3}, server, LOAD, "crowd"), ({"flood": 1}, server, LOAD, "crowd"),
                ({"beside": "/x"}, server, LOAD, "crowd"), ({"idle": 5}, server, LOAD, "idle"),
                ({"cache": "cold"}, server, LOAD, "page cache"),
                ({"operation": "stor"}, server, LOAD, None),
                ({}, Variant("b", "{weir} echo --busy-poll-us 50"), LOAD, "b polls"),
                ({}, Variant("b", "{weir} echo --uring default,sqpoll"), LOAD, "b polls"),
                ({}, Variant("b", "{weir} echo --uring default,-sqpoll"), LOAD, None),
                ({"rate": 9.0}, server, LOAD, None), ({"rate": 9.0}, server, PAUSED, "schedule"),
                ({}, server, PAUSED, None),
                ({}, server, SimpleNamespace(takes_turns=lambda: False, name="wrk"), "wrk")):
            reason = turns.why_not(Cell("a", **cell), [server, variant], load)
            self.assertEqual(why is None, reason is None, (cell, variant))
            self.assertIn(why or "", reason or "")
        forks = Variant("f", "x", forks=True)
        for lacks, why in ((None, None), ("no right", "f's processes come and go, and no control "
                                          "group can count them: no right")):
            with mock.patch.object(turns.cgroup, "lacks", lambda found=lacks: found):
                self.assertEqual(turns.why_not(Cell("a"), [forks], LOAD), why)

    def test_what_takes_turns_runs_together(self):
        """Once in a block, with all of its variants; others one by one, round by round."""
        together, apart = Cell("a", turns=5), Cell("b", turns=0)
        plan = [(together, ["x", "y"]), (apart, ["x", "y"])]
        entries = session.entries_of(session.order_of_block(plan, 0, 1, 2))
        self.assertEqual([(sorted(variants), number) for cell, variants, number in entries
                          if cell is together], [(["x", "y"], 0)])
        self.assertEqual(sorted((*variants, number) for cell, variants, number in entries
                                if cell is apart), [("x", 0), ("x", 1), ("y", 0), ("y", 1)])

    def test_many_connections_get_long_turns(self):
        """In a sweep: ten rounds of all of them, and as many turns fewer, but not under ten."""
        swept = SimpleNamespace(cells=[Cell("a", turns=50, turn=0.02)], sources={})
        sweep.spread(swept, "connections=1,1000,2000,100000")
        self.assertEqual([(cell.turns, cell.turn) for cell in swept.cells],
                         [(50, 0.02), (10, 0.1), (10, 0.2), (10, 10)])

    def test_a_budget_shortens_turns_to_a_number_that_still_says_something(self):
        """In proportion, and never below ten unless fewer are wanted."""
        for wanted, left, expected in ((50, 1.0, 50), (50, 2.0, 50), (50, 0.5, 25), (50, 0.1, 10),
                                       (4, 0.1, 4)):
            self.assertEqual(turns.count(Cell("a", turns=wanted), left, 1.0), expected)


class Runs(RunFixture):
    """Six turns of 20 ms in a block."""

    def turned(self, *arguments, **options):
        return self.bench("--cells", "echo", "--turns", "6", "--variant", "twin=--engine epoll",
                          *arguments, **options)

    def check_turns(self, trial, names):
        """There are six, each with work in it. Where others have the CPUs for as long as a turn
        lasts it may be over before the load knows of it; then that is said."""
        busy = {guard["guard"] for guard in trial["guards"]} & {"machine-busy", "steal"}
        for name in names:
            self.assertEqual(len(trial["turns"][name]), 6)
            self.assertGreater((sum if busy else min)(trial["turns"][name]), 0, (name, trial))

    def test_every_turn_is_kept(self):
        """All servers answer, each turn has its numbers, and the table is made of them; the whole
        is read again from the file, as CSV, too."""
        report, out, _ = self.turned("--blocks", "2")
        self.assertTrue(report["complete"])
        self.assertEqual(len(report["trials"]), 4)
        for trial in report["trials"]:
            self.assertEqual(trial["status"], "ok", trial)
            columns = trial["turns"]
            self.check_turns(trial, ("ops", "server_ns", "wall_ns"))
            self.assertEqual(sum(columns["ops"]), trial["load"]["result"]["ops"])
            self.assertEqual(trial["spent"]["server"], sum(columns["server_ns"]))
            self.assertGreater(trial["metrics"]["pss_bytes"], 1 << 20)
            self.assertGreater(trial["metrics"]["calls"], 0.5)
            # What the server says that it did is no less than what the turns did.
            self.assertGreaterEqual(trial["server"]["stats"]["sent_bytes"],
                                    64 * sum(columns["ops"]))
        twin = next(row for row in report["table"] if row["variant"] == "twin")
        logs = summary.logs_between(*([t for t in report["trials"] if t["variant"] == name]
                                      for name in ("twin", "epoll")), "server_cpu_ns")
        ratio = twin["metrics"]["server_cpu_ns"]["ratio"]
        self.assertAlmostEqual(ratio, 2.718281828459045 ** (sum(logs.values()) / 2))
        again = subprocess.run([suite_path.LAUNCHER, "report", self.json], capture_output=True,
                               text=True, check=True)
        self.assertEqual(again.stdout, out)

    def test_what_goes_wrong_ends_one_variant_alone(self):
        """A server that dies or does not start is named; the others have all of their turns."""
        report, _, err = self.turned("--variant", "dying=--engine epoll --fault die", "--variant",
                                     "never=--engine epoll --fault usage", status=1)
        self.assertRegex(err, "trial echo dying block 1: the server was ended by SIGKILL under "
                              "load: the fake server had enough")
        self.assertIn("never block 1: the server ended with status 1 before it listened", err)
        status = {t["variant"]: t["status"] for t in report["trials"]}
        self.assertEqual(status, {"epoll": "ok", "twin": "ok", "dying": "failed",
                                  "never": "failed"})
        _, _, err = self.turned(load="die-in-turn", status=1)
        self.assertIn("the load ended with status 3, and its turn is not over: this turn was too "
                      "much", err)

    def test_a_load_that_knows_nothing_of_turns_is_stopped_between_them(self):
        """In each turn it has worked, and its server; what it did before the first one and after
        the last is in none. Its latencies, which have the pauses in them, are not kept. Such a run
        goes on with that load alone, told in the same way."""
        options = ["--load", f"{suite_path.HERE}/fake_other_load.py {{address}} {{connections}} "
                   "{size} {duration}", "--load-parse", r"ops=(\d+) operations", "--load-parse",
                   r"p99_us=p99 (\d+)", "--load-parse", r"errors=(\d+) errors"]
        report, _, _ = self.turned(*options, "--load-turns", "--warmup", "2", "--turn", "0.1")
        for trial in report["trials"]:
            self.assertEqual(trial["status"], "ok", trial)
            columns, total = trial["turns"], int(trial["load"]["result"].split()[0])
            self.assertEqual(len(columns["ops"]), 6)
            self.check_turns(trial, ("ops", "server_ns", "load_ns"))
            self.assertLess(sum(columns["ops"]), total)
            self.assertEqual(trial["server"]["stats"]["sent_bytes"], 64 * total)
            self.assertNotIn("p99_ns", trial["metrics"])
            self.assertEqual(trial["errors"], {})
            self.assertNotIn("unrest", {guard["guard"] for guard in trial["guards"]})
        with open(self.json, "w", encoding="utf-8") as file:
            json.dump({**report, "complete": False}, file)
        for changed in (options, [*options[:-1], r"errors=(\d) e", "--load-turns"]):
            said = subprocess.run([suite_path.LAUNCHER, "run", "--resume", self.json, "--build",
                                   self.folder, *changed], capture_output=True, text=True,
                                  timeout=300, check=False)
            self.assertEqual(said.returncode, 2, said.stderr)
            self.assertRegex(said.stderr, r"began with another load, or other rules: --load .*"
                                          r"\+\) errors' --load-turns")

    def test_a_server_that_does_not_rest_is_found(self):
        """It cannot be told by its options here, so its CPU time in the others' turns does, and
        what all of the cell cost is INVALID. One that tells is measured by trials, and so are
        loads that cannot rest."""
        for _ in range(TRIES):
            report, out, _ = self.turned("--variant", "hot=--engine epoll --fault polls")
            said = [{g["guard"]: g["text"] for g in t["guards"]} for t in report["trials"]]
            if all("unrest" in guards for guards in said):
                break
            # Its part of a CPU that many others want may be small.
            self.assertTrue(any("machine-busy" in guards for guards in said), said)
        else:
            self.skipTest(f"others had the server's CPU in each of {TRIES} tries")
        for guards in said:
            self.assertRegex(guards["unrest"], "hot used .* while others had their turns")
        self.assertIn("INVALID: unrest", out)
        report, out, err = self.turned("--variant", "busy=--engine epoll --counter busy-poll=0")
        self.assertIn("echo: not by turns: busy polls", err)
        self.assertIn("echo: not by turns: busy polls", out)
        self.assertNotIn("turns", report["trials"][0])

    def test_an_interrupted_run_goes_on_by_whole_blocks(self):
        """The records of a block are kept together: a torn one is measured again. Rounds have no
        meaning there, and that is said."""
        report, _, err = self.turned("--blocks", "2", "--seed", "3", "--rounds", "2")
        self.assertIn("rounds are of trials", err)
        part = self.json + ".part"
        head = {k: v for k, v in report.items() if k not in ("trials", "table")}
        with open(part, "w", encoding="utf-8") as file:
            file.write(json.dumps({**head, "complete": False}) + "\n")
            file.write(json.dumps({"trials": report["trials"][:2]}) + "\n")
            file.write('{"trials": [{"cell": "echo"}, {')
        os.unlink(self.json)
        run = subprocess.run([suite_path.LAUNCHER, "run", "--resume", part, "--build",
                              self.folder], capture_output=True, text=True, timeout=300,
                             check=False)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn("4/4", run.stderr)
        with open(self.json, encoding="utf-8") as file:
            whole = json.load(file)
        self.assertEqual(whole["trials"][:2], report["trials"][:2])
        self.assertEqual([(t["variant"], t["block"], t["seed"], len(t["turns"]["ops"]))
                          for t in whole["trials"]],
                         [(t["variant"], t["block"], t["seed"], 6) for t in report["trials"]])

    def test_an_earlier_run_gives_the_rates(self):
        """Half of what the slowest variant could do, and the same is offered again, without a
        calibration; a run without them is refused."""
        first, _, _ = self.bench("--cells", "half", "--turns", "3")
        self.assertAlmostEqual(first["rates"]["half"], sum(
            record["metrics"]["ops_per_s"] for record in first["calibration"]) / 4, 3)
        kept = os.path.join(self.folder, "first.json")
        os.rename(self.json, kept)
        second, _, _ = self.bench("--cells", "half", "--turns", "3", "--rates", kept)
        self.assertEqual(second["rates"], first["rates"])
        self.assertEqual([t["rate"] for t in second["trials"]],
                         [t["rate"] for t in first["trials"]])
        self.assertEqual((len(first["calibration"]), second["calibration"]), (2, []))
        self.bench("--cells", "echo")
        os.rename(self.json, kept)
        _, _, err = self.bench("--cells", "half", "--rates", kept, status=2)
        self.assertIn("it has no rate for half", err)


class Paused(unittest.TestCase):
    """A load that knows nothing of turns, and its driver."""

    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.children = process.Children()
        self.addCleanup(self.children.__exit__, True)
        self.folder = temporary.name
        self.server = self.children.start(
            "server", [f"{suite_path.HERE}/fake_weir.py", "echo"], self.folder)

    def driver(self, fault=""):
        while not (found := trial.LISTENING.search(self.server.output())):
            self.assertFalse(self.server.ended())
            time.sleep(0.001)
        load = self.children.start("load", [f"{suite_path.HERE}/fake_other_load.py", found[1], "4",
                                            "64", "3600", fault], self.folder)
        found = drive.Paused(load, self.server)
        found.begin()
        return found

    def take_turns(self, driver, until):
        """Until what one of them said will do, and returns that: a load takes its time to start."""
        limit = time.monotonic() + LIMIT
        while not until(said := driver.turn("run", 0.02)):
            self.assertLess(time.monotonic(), limit)
        return said

    def work(self, driver):
        """Until it has worked in one."""
        return self.take_turns(driver, lambda said: said["ops"])

    def test_it_works_in_its_turns_only(self):
        """In between it is stopped, and a stopped one can be ended, too. What it wrote in a turn,
        of all that it wrote, is that turn's part of its operations."""
        driver = self.driver()
        written = 0
        while written < 100 * 64:   # of fewer operations the length is known roughly
            said = self.work(driver)
            written += said["ops"]
        self.assertEqual(process.read_text(f"/proc/{driver.child.pid}/stat").split()[2], "T")
        self.assertGreaterEqual(said["wall_ns"], 20e6)
        done = int(driver.end().split()[0])
        columns = {"ops": [said["ops"]], "wall_ns": [said["wall_ns"]]}
        result = Result(ops=done, ops_per_s=0, p99_ns=1)
        driver.count(result, columns, 4)
        self.assertAlmostEqual(columns["ops"][0], said["ops"] / 64, delta=0.02 * said["ops"] / 64)
        self.assertEqual((result.ops, result.p99_ns), (columns["ops"][0], None))
        self.assertAlmostEqual(result.ops_per_s, result.ops / (said["wall_ns"] / 1e9))
        other = self.driver()
        self.assertTrue(other.child.stop())

    def test_what_cannot_be_driven_so_is_told(self):
        """A load that ends by itself, and one that does not write with write(2)."""
        driver = self.driver("ends")
        with self.assertRaisesRegex(Problem, "the load ended with status 0, and its turn is not "
                                             "over"):
            self.take_turns(driver, lambda said: False)
        driver = self.driver("sends")
        self.take_turns(driver, lambda said: driver.child.output())
        result = Result(ops=int(driver.end().splitlines()[-1].split()[0]), ops_per_s=0)
        with self.assertRaisesRegex(Problem, r"wrote \d+ bytes with write\(2\), with up"):
            driver.count(result, {"ops": [0], "wall_ns": [1]}, 4)

    def test_what_was_written_must_be_requests_of_one_length(self):
        """The length is exact, whatever was on its way at the end and however its threads were
        woken at times; a second length, or some bytes more in some operations, are found."""
        for ops, length, in_flight in ((20_000, 64, 64), (900, 40, 4), (70_000, 1 << 14, 2)):
            for rest in {0, 1, in_flight}:
                self.assertEqual(drive.request_length((ops + rest) * length, ops, in_flight),
                                 length)
        self.assertEqual(drive.request_length(20_064 * 64 + 999, 20_000, 64), 64)
        # Of a hundred operations with 64 more on their way it is known roughly.
        self.assertTrue(40 <= drive.request_length(164 * 64, 100, 64) <= 104)
        for total, ops, in_flight in ((20_000 * 40 + 10_000 * 5, 20_000, 64), (900, 5000, 64),
                                      (100_000 * 64 + 40_000, 100_000, 64), (64, 0, 4), (0, 9, 4)):
            self.assertIsNone(drive.request_length(total, ops, in_flight), (total, ops))


class Memory(unittest.TestCase):
    def test_what_several_servers_share_counts_in_full(self):
        """Two processes of one program: each alone would have more than its part now, and no more
        than all that is resident."""
        children = [subprocess.Popen([sys.executable, "-c", "print(1, flush=True); input()"],
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                    for _ in range(3)]
        try:
            pids = [child.pid for child in children]
            for child in children:
                child.stdout.readline()
            # Other processes of the program that come and go meanwhile change what it shares.
            for _ in range(TRIES):
                before = sample.pss_bytes(pids[:1])
                alone = sample.pss_bytes_without(pids[:1], pids[1:])
                now = sample.pss_bytes_without(pids[:1], [])
                if abs(sample.pss_bytes(pids[:1]) - before) < 1 << 14:
                    break
            else:
                self.skipTest(f"others came and went in each of {TRIES} tries")
            self.assertGreater(alone, before)
            self.assertLessEqual(alone, sum(resident for _, resident, _ in
                                            sample.mappings(pids[0])))
            self.assertAlmostEqual(now, before, delta=1 << 16)
        finally:
            for child in children:
                child.kill()
                child.communicate()


if __name__ == "__main__":
    unittest.main()
