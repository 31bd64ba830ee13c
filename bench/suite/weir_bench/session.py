"""A run: which trial when, and everything that must hold around them."""

import contextlib
import os
import random
import resource
import shlex
import shutil
import signal
import statistics
import tempfile
import time
from dataclasses import asdict, replace

from . import SCHEMA, Problem, calibrate, environment, relay, trial, turns
from .journal import Journal
from .looks import Looks
from .namespace import Namespace
from .progress import Progress
from .sample import Machine
from .summary import summarize
from .table import show
from .trial import Order, Setting
from .veth import Veth

OVERHEAD_SECONDS = 0.6     # starting and ending a server and a load, until it is known better
SECONDS_MIN = 0.3          # a trial is not made shorter than this to keep the budget
CALIBRATIONS = 2
CEILING_TURNS, CEILING_SECONDS = 15, 0.3
CONFORMANCE_SECONDS = 0.1
CONFORMANCE_CONNECTIONS = 8
BUILT_IN = ("servers", "bench/load", "bench/rungs")
STUDY_KEYS = ("study", "sweep", "ladder", "slo")
# And how far an interrupted run came, and how: as its report says. Older ones lack some.
PROGRESS_KEYS = ("blocks_done", "stopped", "no_ceiling", "seconds_fixed", "uncounted_s")
FAILURES_MAX = 2           # then a variant is dropped from a cell


class Interrupted(BaseException):
    """A signal asked for the end. Not an Exception: nothing on the way may swallow it."""


def order_of_block(cells_and_variants, block, seed, rounds=1):
    """Every cell in random order, and in each cell so many rounds of every variant once, in random
    order: [(cell, variant, round)].

    The variants of a cell follow each other, so that a pair shares the machine's mood.
    """
    chance = random.Random(f"{seed}/{block}")
    cells = list(cells_and_variants)
    chance.shuffle(cells)
    order = []
    for cell, variants in cells:
        variants = list(variants)
        for number in range(rounds):
            chance.shuffle(variants)
            order += [(cell, variant, number) for variant in variants]
    return order


def entries_of(order):
    """What runs together: [(cell, variants, round)]; one variant, or where they take turns all of
    them, once, as turns are rounds already."""
    entries = []
    for cell, variant, number in order:
        if cell.turns and number:
            continue
        if cell.turns and entries and entries[-1][0] is cell:
            entries[-1][1].append(variant)
        else:
            entries.append((cell, [variant], number))
    return entries


def choose_cpus(server, client):
    """The two sets: as asked, or server 0 and client 1 of the CPUs that may be used."""
    allowed = sorted(os.sched_getaffinity(0))
    chosen = []
    for name, asked, default in (("server", server, allowed[0]), ("client", client, allowed[-1])):
        if asked is None:
            chosen.append({allowed[1] if name == "client" and len(allowed) > 1 else default})
            continue
        cpus = parse_cpus(f"--{name}-cpu", asked)
        if missing := cpus - set(allowed):
            raise Problem(f"--{name}-cpu {asked}: CPU {min(missing)} is not available here, "
                          f"there are {', '.join(map(str, allowed))}")
        chosen.append(cpus)
    return chosen


def parse_cpus(what, text):
    cpus = set()
    try:
        for part in text.split(","):
            first, _, last = part.partition("-")
            cpus |= set(range(int(first), int(last or first) + 1))
    except ValueError:
        raise Problem(f"{what} {text}: wants numbers, as 0,2-3") from None
    return cpus


def raise_file_limit():
    """Children inherit it; a thousand connections need more than the usual 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Pace:
    """Chooses how long a trial measures, so that all of them fit into the budget."""

    def __init__(self, scenario, trials, fixed, earlier=(), uncounted=0.0):
        """`earlier` are the records of an interrupted run. What they took is spent, but for the
        first `uncounted` seconds, which an earlier budget paid for."""
        self.scenario = scenario
        self.left = trials
        self.fixed = fixed
        self.start = time.monotonic() - max(seconds_of(earlier) - uncounted, 0)
        self.overheads = [self.beyond(record, record["seconds"]) for record in earlier]

    def beyond(self, record, seconds):
        """What it took beside the time that it was to measure."""
        return max(record["took"] - seconds - self.scenario.warmup, 0)

    def overhead(self):
        # The mean, because a few slow cells take their time in every block.
        return statistics.fmean(self.overheads) if self.overheads else OVERHEAD_SECONDS

    def seconds(self):
        """Measured seconds per trial for the next block."""
        wanted = self.scenario.seconds
        if self.fixed or not self.scenario.budget:
            return wanted
        left = self.scenario.budget - (time.monotonic() - self.start)
        each = left / max(self.left, 1) - self.scenario.warmup - self.overhead()
        return round(min(wanted, max(each, SECONDS_MIN)), 2)

    def fits(self, trials):
        """Whether that many more of the shortest trials end within the budget."""
        if not self.scenario.budget:
            return True
        each = self.scenario.seconds if self.fixed else min(SECONDS_MIN, self.scenario.seconds)
        each += self.scenario.warmup + self.overhead()
        return time.monotonic() - self.start + trials * each <= self.scenario.budget

    def ended(self, record, seconds):
        """One that was to measure for so long. By turns it may have taken longer: there are no
        fewer than ten, and each ends what it began."""
        self.left -= 1
        self.overheads.append(self.beyond(record, seconds))


def seconds_of(records):
    return sum(record["took"] for record in records)


class Session:
    """Runs a scenario; the report grows in `self.report`."""

    def __init__(self, scenario, programs, load, options):
        self.scenario = scenario
        self.options = options
        self.load = load
        self.programs = programs
        self.seed = random.SystemRandom().randrange(1 << 32) if options.seed is None \
            else options.seed
        self.server_cpus, self.client_cpus = choose_cpus(options.server_cpu, options.client_cpu)
        self.plan = [(cell, scenario.variants_of(cell)) for cell in scenario.cells]
        self.by_trials = {}
        for cell, variants in self.plan:
            if cell.turns and (reason := turns.why_not(cell, variants, load)):
                self.by_trials[cell.name], cell.turns = reason, 0
        self.total = sum(scenario.blocks * self.rounds_of(cell) * len(variants)
                         for cell, variants in self.plan)
        self.failures = {}
        self.finish = lambda report: None  # adds what a kind of run finds out
        self.rates = {}
        self.done = set()
        self.skipped_before = {}
        self.report = self.new_report()
        self.looks = Looks(self.report, FAILURES_MAX)
        self.progress = Progress(self.total, options.quiet)

    def rounds_of(self, cell):
        """How many records of each variant a block has."""
        return 1 if cell.turns else self.scenario.rounds

    def go_on(self, begun):
        """Takes over what an interrupted run measured; only the rest is run."""
        mine = self.report["environment"]["programs"]
        for name, program in begun["environment"]["programs"].items():
            if mine.get(name, {}).get("sha256") != program["sha256"]:
                raise Problem(f"this is not the {name} that the run began with: its later trials "
                              "would not be comparable")
        for key in ("started", "command", "environment", "trials", "calibration", "rates",
                    "conformance", "floors", "ceilings"):
            self.report[key] = begun[key]
        # What a study is about: its tables and pictures need it.
        self.report.update((key, begun[key]) for key in STUDY_KEYS + PROGRESS_KEYS if key in begun)
        self.report["resumed"] = [*begun.get("resumed", []), time.strftime("%Y-%m-%d %H:%M:%S %z")]
        self.rates = dict(begun["rates"])
        if begun["trials"]:
            self.skipped_before = begun["skipped"]
        for record in begun["trials"]:
            self.done.add((record["cell"], record["variant"], record["block"],
                           record.get("round", 0)))
            self.count_failure(record, tell=False)
        self.progress.skip(len(self.done))

    def take_rates(self, path, earlier):
        """Offers what an earlier run found that the slowest could do."""
        for cell, _ in self.plan:
            if cell.rate_of and cell.name not in earlier["rates"]:
                raise Problem(f"--rates {path}: it has no rate for {cell.name}")
            if cell.rate_of:
                self.rates[cell.name] = earlier["rates"][cell.name]
        self.report["rates"] = dict(self.rates)

    def new_report(self):
        scenario = self.scenario
        return {
            "schema": SCHEMA, "complete": False, "command": self.options.command_line,
            "started": time.strftime("%Y-%m-%d %H:%M:%S %z"), "seed": self.seed,
            "base": scenario.base, "blocks_done": 0, "skipped": {}, "rates": {},
            "by_trials": self.by_trials, "stopped": {},
            "reference": environment.reference_of(self.programs, next(
                variant.command for variant in scenario.variants if variant.name == scenario.base)),
            "conformance": {}, "floors": {}, "ceilings": {}, "no_ceiling": [],
            "seconds_fixed": self.options.seconds is not None, "uncounted_s": 0,
            "sources": {name: asdict(cell) for name, cell in scenario.sources.items()},
            "server_cpus": ",".join(map(str, sorted(self.server_cpus))),
            "client_cpus": ",".join(map(str, sorted(self.client_cpus))),
            "load": self.load.name, "load_given": self.load.given,
            "scenario": {
                "name": scenario.name, "about": scenario.about, "blocks": scenario.blocks,
                "stop_at_width": scenario.stop_at_width, "blocks_min": scenario.blocks_min,
                "rounds": scenario.rounds, "server": scenario.server, "files": scenario.files,
                "seconds": scenario.seconds, "warmup": scenario.warmup,
                "budget": scenario.budget, "endpoints": scenario.endpoints,
                "ceiling": scenario.ceiling,
                "cells": [{**asdict(cell), "title": cell.title()} for cell in scenario.cells],
                "variants": [asdict(variant) for variant in scenario.variants]},
            "environment": environment.collect(self.programs), "calibration": [], "trials": [],
        }

    def run(self):
        """Returns (report, number of the signal that ended the run or 0, whether it was saved)."""
        journal = Journal(self.options.json, self.report, self.progress.say)
        self.progress.say(f"weir-bench {self.scenario.name}: {self.total} trials in "
                          f"{self.scenario.blocks} blocks, seed {self.seed}")
        for name, reason in self.by_trials.items():
            self.progress.say(f"{name}: not by turns: {reason}")
        if self.scenario.rounds > 1 and any(cell.turns for cell, _ in self.plan):
            self.progress.say("rounds are of trials; cells by turns have none: --turns 0 makes "
                              "trials of them")
        ended_by = 0
        try:
            with self.prepared():
                self.run_blocks(journal)
        except Interrupted as end:
            ended_by = end.args[0]
            self.report["ended_by"] = f"ended by {signal.Signals(ended_by).name}"
        finally:
            self.progress.close()
            self.report["ended"] = time.strftime("%Y-%m-%d %H:%M:%S %z")
            self.report["table"] = summarize(self.report)
            self.finish(self.report)
            saved = journal.finish()
        return self.report, ended_by, saved

    @contextlib.contextmanager
    def prepared(self):
        """Within it trials can run: self.setting has what they share."""
        raise_file_limit()
        keep_away(self.server_cpus)
        machine = Machine()
        try:
            with tempfile.TemporaryDirectory(prefix="weir-bench-") as folder:
                self.setting = Setting(self.programs, self.load, folder, machine,
                                       self.server_cpus, self.client_cpus,
                                       self.options.server_host or "127.0.0.1")
                trial.write_files(folder, self.scenario.files)
                yield
        finally:
            machine.close()

    def earlier(self):
        """The records that an interrupted run left."""
        return self.report["calibration"] + self.report["trials"] if self.done else []

    def renew_budget(self, budget):
        """For the trials that are left: what an interrupted run spent does not count."""
        self.scenario.budget = self.report["scenario"]["budget"] = budget
        self.report["uncounted_s"] = seconds_of(self.earlier())

    def run_blocks(self, journal):
        pace = Pace(self.scenario, self.total, self.report["seconds_fixed"], self.earlier(),
                    self.report["uncounted_s"])
        self.skip_impossible()
        if not self.done and not self.options.skip_conformance:
            self.check_conformance()
        if not self.done:
            self.calibrate(pace)
            self.measure_ceilings()
            journal.learned("skipped", "rates", "calibration", "conformance", "ceilings",
                            "no_ceiling")
        for block in range(self.scenario.blocks):
            self.look(block, journal)
            if not any(block < self.looks.blocks_of(cell) for cell, _ in self.plan):
                break
            pace.left = self.progress.total - self.progress.done
            left = self.left_of(block)
            # One that was begun is ended, as if nothing had interrupted it.
            begun = any(place[2] == block for place in self.done)
            if block and left and not begun and not pace.fits(sum(len(v) for _, v, _ in left)):
                self.report["ended_by"] = (f"the budget of {self.scenario.budget:g} s was over "
                                           f"after {block} blocks")
                self.progress.say(self.report["ended_by"] + self.how_to_go_on())
                return
            self.run_block(block, left, pace, journal)
            self.report["blocks_done"] = max(self.report["blocks_done"], block + 1)
            journal.learned("blocks_done")
        self.report["complete"] = True

    def how_to_go_on(self):
        path = self.options.json
        return f"; `run --resume {shlex.quote(path)} --budget S` goes on" if path else ""

    def left_of(self, block):
        """What of that block is to be run: [(cell, variants, round)]. What ran by turns is kept as
        a whole, or not at all."""
        order = [entry for entry in order_of_block(self.plan, block, self.seed,
                                                   self.scenario.rounds)
                 if block < self.looks.blocks_of(entry[0])]
        found = []
        for cell, variants, number in entries_of(order):
            done = any((cell.name, variant.name, block, number) in self.done
                       for variant in variants)
            left = [variant for variant in variants if not self.is_dropped(cell, variant)]
            if left and not done:
                found.append((cell, left, number))
        return found

    def run_block(self, block, entries, pace, journal):
        seconds = pace.seconds()
        self.progress.expected = seconds + self.scenario.warmup + pace.overhead()
        for cell, variants, number in entries:
            # One may have failed for the last time in a round before.
            left = [variant for variant in variants if not self.is_dropped(cell, variant)]
            run = self.run_together if cell.turns else self.run_one
            for record in run(cell, left, (block, number), seconds, journal) if left else ():
                pace.ended(record, seconds)
                self.count_failure(record)

    def look(self, block, journal):
        """Cells that are known well enough end, and leave their time to the others."""
        for cell in self.looks.at(block, self.plan):
            found = self.report["stopped"][cell.name]
            variants = next(v for c, v in self.plan if c is cell)
            left = [variant for variant in variants if not self.is_dropped(cell, variant)]
            self.progress.drop((self.scenario.blocks - found["blocks"]) * self.rounds_of(cell)
                               * len(left))
            self.progress.say(f"{cell.name}: ends after {found['blocks']} blocks: its intervals "
                              f"are at most {found['width']:.1%} wide")
            journal.learned("stopped")

    def order(self, cell, variant, place, seconds):
        block, number = place
        # The same schedule and payload for every variant of a round.
        seed = random.Random(f"{self.seed}/{block}/{cell.name}{number or ''}").randrange(1 << 31)
        return Order(cell, variant, block, seconds, self.scenario.warmup, seed,
                     self.rates.get(cell.name, cell.rate), round=number,
                     ceiling=self.report["ceilings"].get(cell.name, 0),
                     conformance=self.report["conformance"].get(variant.name, ""))

    def what(self, order):
        return (f"block {order.block + 1}/{self.scenario.blocks} {order.cell.name} "
                f"{order.variant.name}")

    def run_one(self, cell, variants, place, seconds, journal):
        order = self.order(cell, variants[0], place, seconds)
        self.progress.begin(self.what(order))
        record = self.perform(order)
        # Before anything is said about it: a terminal may be closed at any moment.
        journal.add(record)
        self.tell(order, record)
        return [record]

    def run_together(self, cell, variants, place, seconds, journal):
        """All variants of a cell by turns."""
        count = turns.count(cell, seconds, self.scenario.seconds)
        orders = [self.order(cell, variant, place, count * cell.turn) for variant in variants]
        self.progress.begin(f"block {place[0] + 1}/{self.scenario.blocks} {cell.name} by turns")
        records = self.perform_together(orders, count)
        journal.add_together(records)
        for order, record in zip(orders, records):
            self.tell(order, record)
        return records

    def tell(self, order, record):
        outcome = record["status"]
        if outcome != "failed":
            outcome = show(record["metrics"]["ops_per_s"], "rate") + "/s"
        self.progress.end(self.what(order), outcome)
        if record["status"] == "failed":
            self.progress.say(f"{order.name()}: {record['failure']}")

    def perform(self, order):
        return trial.run(self.setting, order)

    def perform_together(self, orders, count):
        return relay.run(self.setting, orders, count)

    def is_dropped(self, cell, variant):
        return self.failures.get((cell.name, variant.name), 0) >= FAILURES_MAX

    def count_failure(self, record, tell=True):
        if record["status"] != "failed":
            return
        key = record["cell"], record["variant"]
        self.failures[key] = self.failures.get(key, 0) + 1
        cell = next(c for c in self.scenario.cells if c.name == record["cell"])
        left = (self.looks.blocks_of(cell) - record["block"]) * self.rounds_of(cell) \
            - record["round"] - 1
        if self.failures[key] == FAILURES_MAX and left:
            self.progress.drop(left)
            if tell:
                self.progress.say(f"{' '.join(key)}: failed {FAILURES_MAX} times, not tried again")

    def skip(self, cell, reason):
        variants = next(v for c, v in self.plan if c is cell)
        self.plan = [(c, v) for c, v in self.plan if c is not cell]
        self.report["skipped"][cell.name] = reason
        self.progress.drop(self.scenario.blocks * self.rounds_of(cell) * len(variants))
        self.progress.say(f"{cell.name}: not run: {reason}")

    def skip_impossible(self):
        for cell, _ in list(self.plan):
            reason = self.load.lacks(cell) or self.skipped_before.get(cell.name)
            if not reason and (cell.namespace or cell.transport == "veth"):
                try:
                    (Veth(cell.mtu) if cell.transport == "veth" else Namespace()).close()
                except (Problem, OSError) as error:
                    reason = str(error)
            if reason:
                self.skip(cell, reason)

    def check_conformance(self):
        """Every variant answers with every byte compared, before anything is timed."""
        for variant in self.scenario.variants:
            cells = [cell for cell, variants in self.plan if variant in variants]
            if not cells or not self.load.verifies():
                continue
            cell = max(cells, key=lambda each: each.size)
            cell = replace(cell, connections=min(cell.connections, CONFORMANCE_CONNECTIONS),
                           idle=0, rate=0.0, rate_of="", verify="full")
            record = trial.run(self.setting, Order(cell, variant, 0, CONFORMANCE_SECONDS, 0,
                                                   self.seed % (1 << 31)))
            # A server that fails will fail again, and be told of, when it is measured.
            wrong = [guard["text"] for guard in record.get("guards", ())
                     if guard["guard"] == "payload"]
            self.report["conformance"][variant.name] = wrong[0] if wrong else ""
            if wrong:
                self.progress.say(f"conformance {cell.name} {variant.name}: {wrong[0]}")

    def calibrate(self, pace):
        """Measures what the slowest variant can do in the cells that others take their rate from.

        At a share of that every variant is offered the same, and none is overloaded.
        """
        capacities = {}
        for cell, variants in list(self.plan):
            if not cell.rate_of or cell.name in self.rates:
                continue
            source, found = self.scenario.sources[cell.name], []
            for variant in variants:
                key = source.name, variant.name
                if key not in capacities:
                    capacities[key] = self.measure_capacity(source, variant, pace.seconds())
                found.append(capacities[key])
            # One that does nothing there will do nothing here, and be told of.
            if not any(found):
                self.skip(cell, f"no variant has a result in {cell.rate_of} to take the rate of")
                continue
            self.rates[cell.name] = cell.rate_share * min(filter(None, found))
            self.report["rates"][cell.name] = self.rates[cell.name]

    def measure_ceilings(self):
        """How fast the load can be in each closed cell when the kernel alone answers it: a rate
        that is near is no server's. What --calibration told is better known and stays."""
        if not self.scenario.ceiling or self.report["ceilings"]:
            return
        told = len(self.scenario.notes)
        variants = calibrate.kernel(self.scenario)
        cells = [cell for cell, _ in self.plan if variants and not cell.is_open()
                 and cell.name in variants[0].cells]
        self.report["no_ceiling"] = self.scenario.notes[told:] or \
            [calibrate.NONE_REFLECTED] * (not cells)
        records = [self.measure_ceiling(cell, variants[0]) for cell in cells]
        self.report["ceilings"] = {cell: rate for cell, (rate, _)
                                   in calibrate.ceilings({"trials": records}).items()}

    def measure_ceiling(self, cell, variant):
        """By turns where the cell has them: a turn's beginning is dearer for the load, too."""
        what = f"ceiling {cell.name}"
        self.progress.begin(what)
        count = min(cell.turns, CEILING_TURNS)
        order = Order(cell, variant, 0, count * cell.turn or CEILING_SECONDS, self.scenario.warmup,
                      self.seed % (1 << 31))
        record, = self.perform_together([order], count) if count else [self.perform(order)]
        self.report["calibration"].append(record)
        if record["status"] != "ok":
            self.progress.say(f"{what}: {record.get('failure') or record['guards'][0]['text']}")
        return record

    def measure_capacity(self, cell, variant, seconds):
        rates = []
        for i in range(CALIBRATIONS):
            what = f"calibration {cell.name} {variant.name}"
            self.progress.begin(what)
            order = Order(cell, variant, i, seconds, self.scenario.warmup, self.seed % (1 << 31))
            record = trial.run(self.setting, order)
            self.report["calibration"].append(record)
            if record["status"] == "ok":
                rates.append(record["metrics"]["ops_per_s"])
            else:
                why = record.get("failure") or record["guards"][0]["text"]
                self.progress.say(f"{what}: {why}")
        return statistics.fmean(rates) if rates else 0


def keep_away(server_cpus):
    """Moves this program off the server's CPU, if there is another."""
    if others := os.sched_getaffinity(0) - server_cpus:
        os.sched_setaffinity(0, others)


def find_program(name, build):
    """Looks in a build folder as meson lays it out, then beside this program, then in PATH."""
    here = os.path.dirname(os.path.realpath(__file__))
    folders = []
    if build:
        folders = [build, *(os.path.join(build, name) for name in BUILT_IN)]
    else:
        top = os.path.normpath(os.path.join(here, "../../.."))
        folders = [*(os.path.join(top, "build/release", name) for name in BUILT_IN),
                   *(os.path.normpath(os.path.join(top, "..", name))
                     for name in ("bin", "libexec/weir"))]
    for folder in folders:
        path = os.path.join(folder, name)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return os.path.abspath(path)
    return None if build else shutil.which(name)
