"""The load generator: how it is called, and what its output means.

weir-load by default. Any other one can stand in, as a command line with placeholders and a rule for
each number: an expression with one group, named for what it finds.
"""

import json
import os
import re
import shlex
import time
from dataclasses import dataclass, field

from . import Problem
from .scenario import fill, placeholders

SCHEMA = "weir-load/1"
WEIR_LOAD = "weir-load"   # the name of our own on this machine, in a report

COMMON = ("{load} echo --connect {target} --connections {connections} --depth {depth} "
          "--size {size} --duration {duration} --warmup {warmup} --verify {verify} "
          "--engine auto --seed {seed} --json -")

HTTP = ("{load} http --connect {target} --path {path} --connections {connections} "
        "--pipeline {depth} --duration {duration} --warmup {warmup} --verify {verify} "
        "--engine auto --seed {seed} --json -")

FTP = ("{load} ftp --connect {target} --operation {operation} --connections {connections} "
       "--duration {duration} --warmup {warmup} --verify {verify} --engine auto --seed {seed} "
       "--json -")

# What a load that is stopped between turns is told as its time: it must not end by itself.
PAUSED_SECONDS = 86400

TIMES = "--duration {duration} --warmup {warmup}"

HERE = os.path.dirname(os.path.realpath(__file__))
LAUNCHER = os.path.normpath(os.path.join(HERE, "../weir-bench"))
SSH = "ssh -o BatchMode=yes"

# The numbers that a rule of --load-parse may find, and what one of them is in our units.
RULES = {
    "ops_per_s": ("ops_per_s", 1),
    "ops": ("ops", 1),
    "errors": ("errors", 1),
    **{f"p{p}_{unit}": (f"p{p}_ns", factor) for p in (50, 99)
       for unit, factor in (("ns", 1), ("us", 1e3), ("ms", 1e6), ("s", 1e9))},
}

# What a cell asks for, and the placeholder that a generator needs to do it.
NEEDS = (
    ("depth", lambda cell: cell.depth > 1, "several requests in flight"),
    ("rate", lambda cell: cell.is_open(), "an open loop"),
    ("churn", lambda cell: cell.churn > 0, "connection churn"),
    ("idle", lambda cell: cell.idle > 0, "idle connections"),
)


@dataclass
class Result:
    """What one run of a load said."""

    ops: float
    ops_per_s: float
    p50_ns: float | None = None
    p99_ns: float | None = None
    samples: float = 0             # latencies behind the percentiles
    offered_per_s: float | None = None
    lag_p99_ns: float | None = None  # how late requests left, open loop
    mean_ns: float | None = None     # of the service times
    unfinished: float = 0            # requests that were due and never answered
    carried_ns: float | None = None  # closed: the time in flight in the window less all latencies
    reply_bytes: float | None = None # of one operation, with its head
    errors: dict = field(default_factory=dict)
    start_ns: int | None = None    # CLOCK_MONOTONIC, what was measured
    end_ns: int | None = None
    client_share: float | None = None  # of its CPU, where the load ran on another host
    threads: int | None = None     # that it works with, if it says so
    raw: object = None


class WeirLoad:
    """Our own load generator."""

    given = None   # what another one is told by; None: its program says what it is

    def __init__(self, path):
        self.path = path
        self.name = WEIR_LOAD

    def lacks(self, cell):
        return None

    def takes_turns(self):
        """Whether it rests between turns."""
        return True

    def pauses(self):
        """Whether it has to be stopped for that, as it cannot be told (drive.py)."""
        return False

    def verifies(self):
        """Whether it can compare every byte."""
        return True

    def command(self, cell, values, turns=False):
        template = ftp_template(cell) if cell.operation else HTTP if cell.path else COMMON
        if turns:
            template = template.replace(TIMES, "--turns")
        if values.get("threads", 1) > 1:
            template += " --threads {threads}"
        if cell.is_open():
            template += f" --rate {{rate}} --arrivals {cell.arrivals}"
        if cell.churn:
            template += " --churn {churn}"
        if cell.idle:
            template += " --idle {idle}"
        # {} is for the load itself, which counts the files.
        return fill(template, {**values, "load": self.path, "number": "{}"})

    def parse(self, output, seconds):
        try:
            raw = json.loads(output)
            if raw.get("schema") != SCHEMA:
                raise Problem(f"weir-load wrote schema {raw.get('schema')}, not {SCHEMA}")
            return read_weir_load(raw)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Problem(f"weir-load's output is not understood: {error!r}") from None


def ftp_template(cell):
    template = FTP
    if cell.path:
        template += f" --path {shlex.quote(cell.path)} --files {cell.files}"
    if cell.operation == "stor":
        template += " --size {size}"
    if cell.beside:
        template += f" --beside {shlex.quote(cell.beside)}"
    if cell.login:
        user, _, password = cell.login.partition(":")
        template += f" --user {shlex.quote(user)} --password {shlex.quote(password)}"
    return template.replace("{}", "{number}")


def read_weir_load(raw):
    latency, times = raw["latency_ns"], raw["times"]
    if times["interrupted"]:
        raise Problem("weir-load was interrupted")
    # Open loops have response times, counted from the intended moment; closed ones cannot.
    shown = latency["response"] or latency["service"]
    # The load says when its warm-up began by the wall's clock, our samples have the monotonic one.
    # The clock of another host says nothing about ours.
    remote = "hosts" in raw
    wall_ahead_ns = time.time_ns() - time.monotonic_ns()
    start_ns = (times["started_unix_s"] + raw["parameters"]["warmup_s"]) * 1e9 - wall_ahead_ns
    return Result(
        ops=raw["ops"], ops_per_s=raw["ops_per_s"], p50_ns=shown["p50"], p99_ns=shown["p99"],
        samples=shown["count"], offered_per_s=raw["offered_per_s"],
        lag_p99_ns=latency["lag"] and latency["lag"]["p99"],
        mean_ns=latency["service"].get("mean"), unfinished=unfinished_of(raw),
        carried_ns=carried_of(raw.get("requests", {})),
        reply_bytes=raw.get("bytes", 0) / raw["ops"] if raw["ops"] else None,
        errors={kind: n for kind, n in raw["errors"].items() if kind != "total"},
        start_ns=None if remote else start_ns,
        end_ns=None if remote else start_ns + times["measured_s"] * 1e9,
        client_share=raw["client"]["utilization"] if remote else None,
        threads=raw["parameters"].get("threads"), raw=raw)


def unfinished_of(raw):
    """What was due but not answered when the time was over: such a latency is a lower bound."""
    requests = raw.get("requests", {})
    return sum(requests.get(name) or 0 for name in ("censored", "unsent", "lost"))


def carried_of(requests):
    if "carried_in_ns" not in requests:
        return None
    return requests["carried_in_ns"] - requests["carried_out_ns"]


class RemoteLoad(WeirLoad):
    """weir-load on other hosts, all at once, started over ssh (see spread.py)."""

    def __init__(self, path, hosts, ssh):
        super().__init__(path)
        self.name = f"weir-load on {', '.join(hosts)}"
        self.hosts, self.ssh = hosts, ssh

    def lacks(self, cell):
        if cell.namespace or cell.transport != "tcp":
            return "a namespace or unix socket of this machine cannot be reached from other hosts"
        if cell.slow or cell.flood or cell.operation:
            return "slow readers, flooders and FTP clients run on this machine only"
        if cell.connections < len(self.hosts):
            return f"{cell.connections} connections are too few for {len(self.hosts)} hosts"
        return None

    def takes_turns(self):
        return False

    def command(self, cell, values, turns=False):
        # How many CPUs it has there is not known here.
        return [LAUNCHER, "spread", self.ssh, ",".join(self.hosts),
                *super().command(cell, {**values, "threads": 1})]


class OtherLoad:
    """Another generator: a command line, and an expression per number. With `turns` it may be
    stopped and continued, and says at SIGINT what it did."""

    def __init__(self, template, rules, turns=False):
        self.template = template
        self.turns = turns
        self.name = template.split()[0]
        self.given = {"command": template, "parse": list(rules), "turns": turns}
        self.rules = {}
        for rule in rules:
            name, _, expression = rule.partition("=")
            if name not in RULES or not expression:
                raise Problem(f"--load-parse {rule}: wants NAME=EXPRESSION, NAME one of "
                              + ", ".join(RULES))
            try:
                self.rules[name] = re.compile(expression, re.M)
            except re.error as error:
                raise Problem(f"--load-parse {rule}: {error}") from None
            if self.rules[name].groups != 1:
                raise Problem(f"--load-parse {rule}: wants one group in ( )")
        if not {"ops_per_s", "ops"} & set(self.rules):
            raise Problem("--load needs a --load-parse for ops_per_s or ops")
        if turns and not ("ops" in self.rules and "duration" in placeholders(template)):
            raise Problem("--load-turns needs a --load-parse for ops, because a rate has the "
                          "pauses in it, and {duration} in the command, to outlast all turns")

    def lacks(self, cell):
        """Why it cannot do this cell, or None."""
        for name, asked, what in NEEDS:
            if asked(cell) and name not in placeholders(self.template):
                return f"the load command has no {{{name}}}, so it cannot do {what}"
        return None

    def takes_turns(self):
        return self.turns

    def pauses(self):
        return self.turns

    def verifies(self):
        return "verify" in placeholders(self.template)

    def command(self, cell, values, turns=False):
        if turns:
            values = {**values, "duration": PAUSED_SECONDS}
        return fill(self.template, values)

    def parse(self, output, seconds):
        found = {}
        for name, rule in self.rules.items():
            match = rule.search(output)
            if not match and name == "errors":
                continue  # none are told of
            if not match:
                raise Problem(f"the load's output has nothing for {name} ({rule.pattern})")
            key, factor = RULES[name]
            try:
                found[key] = float(match[1].replace(",", "")) * factor
            except ValueError:
                raise Problem(f"the load's {name} is no number: {match[1]}") from None
        found.setdefault("ops", found.get("ops_per_s", 0) * seconds)
        found.setdefault("ops_per_s", found["ops"] / seconds)
        errors = {"errors": found.pop("errors")} if found.get("errors") else {}
        found.pop("errors", None)
        return Result(**found, samples=found["ops"], errors=errors, raw=output)


def words_of(given):
    """The options that give that load, for a message."""
    if not given:
        return "options that are not known"
    words = ["--load", given["command"]]
    for rule in given["parse"]:
        words += ["--load-parse", rule]
    return shlex.join(words + ["--load-turns"] * given["turns"])


def make_load(options, path):
    if options.load and options.load_host:
        raise Problem("--load and --load-host exclude each other")
    if options.load:
        return OtherLoad(options.load, options.load_parse, options.load_turns)
    if options.load_parse or options.load_turns:
        raise Problem("--load-parse and --load-turns are for a --load COMMAND")
    if options.load_host:
        if not options.server_host:
            raise Problem("--load-host needs --server-host: the address of this machine that the "
                          "other hosts reach")
        return RemoteLoad(options.load_program, options.load_host, options.ssh or SSH)
    return WeirLoad(path)
