"""Scenario files, the selection of cells and variants, command templates, the order of trials."""

import dataclasses
import glob
import os
import subprocess
import sys
import tempfile
import types
import unittest

import suite_path
from weir_bench import Problem, cli, load, sample, scenario, session, summary, trial, verdict
from weir_bench.load import OtherLoad

CELLS = {"cell": [{"name": "a"}, {"name": "b", "connections": 8}, {"name": "c", "rate_of": "a"}]}


def options(**values):
    names = ("cells", "engines", "base", "blocks", "blocks_min", "stop_at_width", "rounds",
             "seconds", "warmup", "budget")
    return types.SimpleNamespace(**{"variant": [], **dict.fromkeys(names), **values})


def parse(**values):
    return scenario.parse("test.toml", {**CELLS, **values})


class Files(unittest.TestCase):
    def expect(self, text, **values):
        with self.assertRaisesRegex(Problem, text):
            parse(**values)

    def test_every_scenario_of_the_project_is_valid(self):
        """The files that ship can be read and have something to run."""
        paths = glob.glob(os.path.join(suite_path.SUITE, "../scenarios/*.toml"))
        self.assertGreaterEqual(len(paths), 2)
        for path in paths:
            self.assertTrue(scenario.load_file(path).cells, path)

    def test_every_scenario_has_blocks_enough_for_a_verdict(self):
        """As many as can show something after Holm over all rows of an endpoint, were all variants
        there; and the two that take long have a budget."""
        for path in glob.glob(os.path.join(suite_path.SUITE, "../scenarios/*.toml")):
            chosen = scenario.load_file(path)
            rows = {}
            for cell in chosen.cells:
                names = [variant.name for variant in chosen.variants_of(cell)]
                for endpoint in summary.endpoints_of(
                        {"scenario": {"endpoints": chosen.endpoints}}, vars(cell)):
                    if chosen.base in names:
                        rows[endpoint] = rows.get(endpoint, 0) + len(names) - 1
            rows.pop("capacity_per_s", None)   # capacity's alone
            self.assertGreaterEqual(chosen.blocks,
                                    verdict.pairs_for_significance(max(rows.values())), path)
            self.assertEqual(chosen.budget > 0, chosen.name in ("quick", "http", "ftp"), path)

    def test_quick_has_the_cells_that_are_promised(self):
        """Eight cells for two engines, and blocking in three of them."""
        quick = scenario.load_file(os.path.join(suite_path.SUITE, "../scenarios/quick.toml"))
        counts = [len(quick.variants_of(cell)) for cell in quick.cells]
        self.assertEqual((len(counts), sum(n - 2 for n in counts)), (8, 3))
        self.assertLess(quick.budget, 300)

    def test_http_has_peers_that_may_be_missing(self):
        """What is not installed is skipped with a note, and the base moves to what is left."""
        http = scenario.load_file(os.path.join(suite_path.SUITE, "../scenarios/http.toml"))
        self.assertEqual([v.name for v in http.variants],
                         ["uring", "epoll", "nginx", "h2o", "lighttpd", "haproxy"])
        self.assertTrue(all(cell.path for cell in http.cells))
        for variant in http.variants[2:]:
            variant.needs = "no-such-program"
        scenario.select(http, options())
        self.assertEqual([v.name for v in http.variants], ["uring", "epoll"])
        self.assertEqual(len(http.notes), 4)
        self.assertEqual(http.base, "uring")
        self.assertIn("{weir} http", http.variants[0].command)

    def test_paths_are_for_http(self):
        """A path in an echo scenario, or none in an HTTP one, is refused."""
        self.expect("a path is for server", cell=[{"name": "a", "path": "/x"}])
        self.expect("a path is for server", server="http")
        self.expect("server must be one of", server="gopher")

    def test_unknown_key_is_named(self):
        """A misspelt key would measure something else in silence."""
        self.expect("test.toml: cell 1: unknown key 'conections'",
                    cell=[{"name": "a", "conections": 1}])
        self.expect("test.toml: unknown key 'block'", block=5)
        self.expect("unknown key 'cells'", cells=[])

    def test_wrong_type_or_value_is_named(self):
        """Each with its place in the file."""
        self.expect("connections = '8' is no int", cell=[{"name": "a", "connections": "8"}])
        self.expect("connections = True is no int", cell=[{"name": "a", "connections": True}])
        self.expect("size must be at least 1", cell=[{"name": "a", "size": 0}])
        self.expect("arrivals must be one of", cell=[{"name": "a", "arrivals": "now"}])
        self.expect("name is missing", cell=[{"size": 1}])
        self.expect("transport must be one of", cell=[{"name": "a", "transport": "pigeon"}])
        self.expect("mtu must be between", cell=[{"name": "a", "mtu": 10}])
        self.expect("slow must not be negative", cell=[{"name": "a", "slow": -1}])
        self.expect("namespace is for tcp", cell=[{"name": "a", "transport": "veth",
                                                   "namespace": True}])
        self.expect("none of the .files.", server="http", cell=[
            {"name": "a", "path": "/x", "cache": "cold"}])
        self.expect("none of the .files.", server="ftp", files={"x{}": [1, 2]}, cell=[
            {"name": "a", "operation": "retr", "path": "/x{}", "cache": "cold"}])
        self.expect("depth is not for server", server="ftp", cell=[
            {"name": "a", "operation": "noop", "depth": 2}])
        self.expect("cell a is there twice", cell=[{"name": "a"}, {"name": "a"}])
        self.expect("no cell is left", cell=[])
        self.expect("no variant 'warp'", variants=["warp"])
        self.expect("needs either options or command", variant={"x": {}}, variants=["x"])

    def test_broken_toml_is_named(self):
        """With the line, as the parser says it."""
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
            file.write("name = \n")
            file.flush()
            with self.assertRaisesRegex(Problem, "line 1"):
                scenario.load_file(file.name)
        with self.assertRaisesRegex(Problem, "No such file"):
            scenario.load_file("/nonexistent/x.toml")


class Selection(unittest.TestCase):
    def select(self, **values):
        chosen = parse()
        scenario.select(chosen, options(**values))
        return chosen

    def test_cells_by_pattern(self):
        """A pattern that fits nothing is an error, not an empty run."""
        self.assertEqual([c.name for c in self.select(cells="[ab]").cells], ["a", "b"])
        with self.assertRaisesRegex(Problem, "no such cell; there are a, b, c"):
            self.select(cells="a,zz")

    def test_engines_and_base(self):
        """A base that is not among the variants is replaced, unless it was asked for."""
        self.assertEqual(self.select(engines="uring").base, "uring")
        with self.assertRaisesRegex(Problem, "--base epoll: no such variant"):
            self.select(engines="uring", base="epoll")

    def test_engines_may_name_an_added_variant(self):
        """It is among those that are chosen, in the order given."""
        chosen = self.select(engines="other,uring", variant=["other=/bin/other {port}"])
        self.assertEqual([v.name for v in chosen.variants], ["other", "uring"])
        self.assertEqual(chosen.variants[0].command, "/bin/other {port}")

    def test_rate_source_may_be_outside_of_the_selection(self):
        """The calibration runs it anyway."""
        self.assertEqual(self.select(cells="c").sources["c"].name, "a")

    def test_variant_of_options_checks_its_engine(self):
        """Options go to weir echo, a command stays as it is."""
        chosen = self.select(variant=["busy=--engine uring --busy-poll-us 50",
                                      "other=/bin/other -p {port}"])
        busy, other = chosen.variants[-2:]
        self.assertEqual(busy.engine, "uring")
        self.assertTrue(busy.command.startswith("{weir} echo --listen {address}"))
        self.assertEqual((other.engine, other.command), ("", "/bin/other -p {port}"))
        for wrong in ("nothing", "=x", "x="):
            with self.assertRaisesRegex(Problem, "wants NAME=COMMAND"):
                self.select(variant=[wrong])

    def test_every_key_of_a_cell_is_an_option(self):
        """Read by its type, applied to the cells that are run and to where they take their rate."""
        parser = cli.make_parser()
        words = {"size": "4096", "path": "/x", "connections": "9", "depth": "2", "churn": "3",
                 "idle": "4", "slow": "5", "flood": "6", "transport": "unix", "mtu": "9000",
                 "namespace": "no", "rate": "7.5", "rate_of": "a", "rate_share": "0.25",
                 "arrivals": "constant", "verify": "full", "file": __file__, "cache": "cold",
                 "operation": "retr", "files": "3", "beside": "/y", "login": "bob:x",
                 "turns": "7", "turn": "0.5"}
        self.assertEqual(set(words), {f.name for f in dataclasses.fields(scenario.Cell)}
                         - {"name", "variants", "expect"})
        for key, word in words.items():
            given = parser.parse_args(["run", "x", "--" + key.replace("_", "-"), word])
            value = getattr(given, f"cell_{key}")
            self.assertEqual(type(value), dict(scenario.cell_keys())[key], key)
        chosen = self.select(cells="c", cell_size=4096, cell_transport="unix")
        self.assertEqual([(c.size, c.transport) for c in chosen.cells], [(4096, "unix")])
        self.assertEqual(chosen.sources["c"].size, 4096)
        self.assertEqual(self.select(cells="c", cell_rate=5.0).cells[0].rate_of, "")
        with self.assertRaisesRegex(Problem, "cell a with these options: size must be at least 1"):
            self.select(cell_size=0)
        with self.assertRaisesRegex(Problem, "--root-file x: wants NAME=BYTES"):
            self.select(root_file=["x"])
        self.assertEqual(self.select(endpoints="p99_ns").endpoints, ["p99_ns"])

    def test_every_key_of_a_scenario_is_an_option(self):
        """Those that are lists of tables have options for their entries; and a scenario of echoes
        becomes one of files, if what that lacks is given, too."""
        parser = cli.make_parser()
        names = {action.dest for action in parser._subparsers._group_actions[0].choices["run"]
                 ._actions}
        other = {"name": "scenario", "about": "scenario", "variants": "variant", "cells": "cells",
                 "files": "root_file", "turns": "cell_turns", "turn": "cell_turn"}
        found_out = {"notes", "sources"}
        for field in dataclasses.fields(scenario.Scenario):
            if field.name not in found_out:
                self.assertIn(other.get(field.name, field.name), names)
        path = os.path.join(suite_path.SUITE, "../scenarios/quick.toml")
        given = parser.parse_args(["run", path, "--server", "http", "--cells", "echo-64-c64",
                                   "--path", "/x", "--root-file", "x=1024"])
        chosen = cli.load_scenario(given)
        self.assertEqual(chosen.cells[0].path, "/x")
        self.assertTrue(all(" http " in variant.command for variant in chosen.variants))
        given.cell_path = None
        with self.assertRaisesRegex(Problem, "this selection: cell echo-64-c64: a path is for"):
            cli.load_scenario(given)

    def test_what_cannot_be_stopped_at_is_refused(self):
        """A negative width, and looks at intervals that five blocks do not have."""
        self.assertEqual(self.select(stop_at_width=1.5, blocks_min=6).stop_at_width, 1.5)
        for wrong in ({"stop_at_width": -1.0}, {"blocks_min": 5}):
            with self.assertRaisesRegex(Problem, "blocks_min at least 6"):
                self.select(**wrong)

    def test_fill_replaces_inside_words_only(self):
        """A value with a blank stays one word; an unknown placeholder is named."""
        self.assertEqual(scenario.fill("run 'a b' -p{port} {x}", {"port": 7, "x": "1 2"}),
                         ["run", "a b", "-p7", "1 2"])
        with self.assertRaisesRegex(Problem, r"unknown \{prot\}"):
            scenario.fill("run {prot}", {"port": 7})
        with self.assertRaisesRegex(Problem, "quotation"):
            scenario.fill("run 'x", {})


class Order(unittest.TestCase):
    def setUp(self):
        self.plan = [(f"cell{i}", ["epoll", "uring", "blocking"]) for i in range(6)]

    def test_a_block_runs_every_variant_of_every_cell_once(self):
        """Complete blocks: that is what makes pairs."""
        expected = sorted((cell, v, 0) for cell, variants in self.plan for v in variants)
        for block in range(20):
            self.assertEqual(sorted(session.order_of_block(self.plan, block, 1)), expected)

    def test_the_order_is_random_and_repeatable(self):
        """By seed and block; each variant comes first in about a third of the cells."""
        orders = [session.order_of_block(self.plan, block, 1) for block in range(50)]
        self.assertEqual(orders, [session.order_of_block(self.plan, b, 1) for b in range(50)])
        self.assertGreater(len({tuple(order) for order in orders}), 45)
        self.assertNotEqual(orders[0], session.order_of_block(self.plan, 0, 2))
        first = [order[at][1] for order in orders for at in range(0, 18, 3)]
        for name in ("epoll", "uring", "blocking"):
            self.assertTrue(60 < first.count(name) < 140, first.count(name))

    def test_variants_of_a_cell_follow_each_other(self):
        """So that a pair shares the machine's mood."""
        order = session.order_of_block(self.plan, 0, 1)
        for at in range(0, 18, 3):
            self.assertEqual(len({cell for cell, _, _ in order[at:at + 3]}), 1)

    def test_rounds_take_turns_in_an_order_of_their_own(self):
        """Each has every variant once, one round after the other; the first is as without them."""
        order = session.order_of_block(self.plan, 0, 1, 4)
        shuffles = set()
        for at in range(0, len(order), 12):
            cell = order[at:at + 12]
            self.assertEqual(len({name for name, _, _ in cell}), 1)
            self.assertEqual([number for _, _, number in cell],
                             [number for number in range(4) for _ in range(3)])
            for start in range(0, 12, 3):
                names = [name for _, name, _ in cell[start:start + 3]]
                self.assertEqual(sorted(names), ["blocking", "epoll", "uring"])
                shuffles.add(tuple(names))
        self.assertGreater(len(shuffles), 3)


class Ftp(unittest.TestCase):
    """Cells of an FTP server."""

    def cell(self, **values):
        return scenario.parse("here.toml", {"server": "ftp", "cell": [{"name": "a", **values}]})

    def test_cells_become_commands_of_the_load(self):
        """With the path's number left for the load to count."""
        chosen = self.cell(operation="stor", path="/up/{}", size=4096, files=10, connections=3)
        values = {"target": "1:2", "connections": 3, "duration": "1", "warmup": "0", "size": 4096,
                  "verify": "sample", "seed": 1, "operation": "stor"}
        command = " ".join(load.WeirLoad("L").command(chosen.cells[0], values))
        self.assertTrue(command.startswith("L ftp --connect 1:2 --operation stor "))
        self.assertIn("--path /up/{} --files 10 --size 4096", command)
        self.assertIn("weir} ftp ", chosen.variants[0].command)
        chosen = self.cell(operation="noop", beside="/big", login="bob:a b")
        command = load.WeirLoad("L").command(chosen.cells[0], {**values, "operation": "noop"})
        self.assertEqual(command[-6:], ["--beside", "/big", "--user", "bob", "--password", "a b"])

    def test_wrong_cells_are_named(self):
        """An operation needs an FTP server, a transfer a path, and a login none."""
        for values, text in (({}, "operation"), ({"operation": "retr"}, "path"),
                             ({"operation": "noop", "path": "/x"}, "path"),
                             ({"operation": "list"}, "must be login"),
                             ({"operation": "noop", "files": 0}, "files")):
            with self.assertRaisesRegex(Problem, text):
                self.cell(**values)
        with self.assertRaisesRegex(Problem, "operation is for"):
            scenario.parse("here.toml", {"cell": [{"name": "a", "operation": "noop"}]})


class Forks(unittest.TestCase):
    def test_processes_that_come_and_go_are_counted(self):
        """The CPU of children that live and of those that were waited for."""
        script = ("import os,sys\nfor n in range(2):\n    if not os.fork():\n"
                  "        while sum(os.times()[:2]) < 0.1: pass\n"
                  "        if n: print(flush=True); sys.stdin.read()\n        os._exit(0)\n"
                  "    if not n: os.wait()\nos.wait()\n")
        with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE) as server:
            server.stdout.readline()
            machine = sample.Machine()
            meter = sample.Meter(machine, [server.pid], [os.getpid()], 0, True)
            meter.take()
            machine.close()
            self.assertEqual(len(meter.server_pids), 2)
            self.assertGreater(meter.samples[0].server, 0.19e9)
            server.stdin.close()


class Pacing(unittest.TestCase):
    def test_trials_shrink_to_the_budget_and_not_below_the_least(self):
        """What is slow to start takes from the time that is measured."""
        chosen = parse(budget=100, seconds=2.0, warmup=0.3)
        pace = session.Pace(chosen, 50, False)
        self.assertLess(pace.seconds(), 2.0)
        self.assertLessEqual(50 * (pace.seconds() + 0.3 + session.OVERHEAD_SECONDS), 101)
        self.assertEqual(session.Pace(chosen, 5000, False).seconds(), session.SECONDS_MIN)
        self.assertFalse(session.Pace(chosen, 5000, False).fits(5000))
        self.assertEqual(session.Pace(chosen, 50, True).seconds(), 2.0)
        # An interrupted run has what it left of its budget, and not all of it again; what a trial
        # takes beside its time is known by then.
        earlier = [{"took": 2.0, "seconds": 1.1}] * 30
        self.assertEqual(session.Pace(chosen, 20, False, earlier).seconds(), 1.1)
        self.assertEqual(session.Pace(chosen, 20, False, earlier, 50.0).seconds(), 2.0)

    def test_cpu_lists(self):
        """Ranges and numbers; anything else is named."""
        self.assertEqual(session.parse_cpus("--server-cpu", "0,2-3"), {0, 2, 3})
        with self.assertRaisesRegex(Problem, "--server-cpu x"):
            session.parse_cpus("--server-cpu", "x")


class Commands(unittest.TestCase):
    """How loads are called."""

    VALUES = {"target": "1:2", "connections": 3, "depth": 1, "size": 64, "duration": "1",
              "warmup": "0", "verify": "sample", "seed": 1, "operation": "noop", "path": "/x"}

    def test_no_load_needs_io_uring(self):
        """Where it is forbidden the load runs on epoll, whatever the protocol and by turns, too."""
        for cell in (scenario.Cell("a"), scenario.Cell("a", path="/x"),
                     scenario.Cell("a", operation="noop")):
            for turns in (False, True):
                command = load.WeirLoad("L").command(cell, self.VALUES, turns)
                self.assertEqual(command[command.index("--engine") + 1], "auto", command)

    def test_a_load_has_a_thread_for_each_of_its_cpus(self):
        """On this machine, as far as it has connections for them."""
        values = {**self.VALUES, "threads": 2}
        command = load.WeirLoad("L").command(scenario.Cell("a"), values)
        self.assertEqual(command[-2:], ["--threads", "2"])
        for one, given in ((load.WeirLoad("L"), {**values, "threads": 1}),
                           (load.RemoteLoad("L", ["h"], "ssh"), values)):
            self.assertNotIn("--threads", one.command(scenario.Cell("a"), given))
        for connections, wanted in ((1, 1), (2, 2), (64, 3)):
            told = self.told(scenario.Cell("a", connections=connections))
            self.assertEqual(told["threads"], wanted)

    def told(self, cell):
        """What the command of a load with three CPUs may have in it."""
        given = {}
        setting = types.SimpleNamespace(
            client_cpus={1, 2, 3}, folder="", load=types.SimpleNamespace(
                command=lambda cell, values, turns: given.update(values) or ["x"]))
        where = types.SimpleNamespace(connect=lambda address: address, load=None)
        trial.start_load(setting, trial.Order(cell, None, 0, 1, 0, 1), where,
                         types.SimpleNamespace(start=lambda *_: None), "127.0.0.1:7")
        return given

    def test_every_placeholder_of_another_load_is_named(self):
        """In --help and on the manual's page."""
        run = cli.make_parser()._subparsers._group_actions[0].choices["run"]
        said = next(action.help for action in run._actions if action.dest == "load")
        with open(os.path.join(suite_path.HERE, "../../docs/man/weir-bench.1"),
                  encoding="ascii") as file:
            page = file.read().partition(r"\-\-load\~")[2].partition(".TP")[0]
        for name in self.told(scenario.Cell("a")):
            self.assertIn(f"{{{name}}}", said)
            self.assertIn(f"{{{name}}}", page)


class ForeignLoad(unittest.TestCase):
    def test_numbers_are_found_by_their_expressions(self):
        """With units, and thousands separators."""
        load = OtherLoad("gen {port}", [r"ops_per_s=rate ([\d.,]+)", r"p99_us=p99 (\d+)",
                                        r"errors=errors (\d+)"])
        result = load.parse("rate 12,500.5\np99 40 us\nerrors 3\n", 2)
        self.assertEqual((result.ops_per_s, result.p99_ns, result.ops), (12500.5, 40000, 25001))
        self.assertEqual(result.errors, {"errors": 3})
        with self.assertRaisesRegex(Problem, "nothing for ops_per_s"):
            load.parse("hello", 1)

    def test_bad_rules_are_named(self):
        """Before anything runs."""
        for rules, text in ((["ops"], "wants NAME=EXPRESSION"), (["ops=(("], "--load-parse ops"),
                            (["ops=x"], "one group"), (["p50_us=(.)"], "for ops_per_s or ops")):
            with self.assertRaisesRegex(Problem, text):
                OtherLoad("gen", rules)

    def test_a_load_that_is_stopped_between_turns_says_how_much_it_did(self):
        """Not at what rate; and it must not end by itself. Errors that it does not tell of are
        none."""
        for template, rules, text in (
                ("gen {duration}", ["ops_per_s=(.)"], "a --load-parse for ops"),
                ("gen", ["ops=(.)"], "{duration} in the command")):
            with self.assertRaisesRegex(Problem, text):
                OtherLoad(template, rules, turns=True)
        load = OtherLoad("gen {duration}", [r"ops=(\d+) ops", r"errors=(\d+) errors"], turns=True)
        values = {"duration": "2"}
        self.assertEqual(load.command(None, values), ["gen", "2"])
        self.assertGreater(int(load.command(None, values, turns=True)[1]), 3600)
        self.assertEqual(load.parse("7 ops", 2).errors, {})
        self.assertEqual(load.parse("7 ops, 2 errors", 2).errors, {"errors": 2})

    def test_what_a_generator_cannot_do_is_skipped_with_the_reason(self):
        """No placeholder, no such cell."""
        load = OtherLoad("gen {port} {connections}", ["ops=(.)"])
        self.assertIsNone(load.lacks(scenario.Cell("a")))
        self.assertIn("{depth}", load.lacks(scenario.Cell("a", depth=2)))
        self.assertIn("{rate}", load.lacks(scenario.Cell("a", rate_of="b")))
        self.assertIn("{churn}", load.lacks(scenario.Cell("a", churn=1)))


if __name__ == "__main__":
    unittest.main()
