"""What is compared: cells (one kind of work each) and variants (one kind of server each).

A scenario is a small TOML file. Every key is checked: an unknown one is an error that names the
file and the place, because a misspelt key would silently measure something else.
"""

import fnmatch
import os
import re
import shlex
import shutil
import tomllib
from dataclasses import dataclass, field, fields, replace

from . import Problem
from .verdict import MORE_IS_BETTER

ENGINES = ("epoll", "uring", "blocking")

# What every variant gets that is given as options only, by the scenario's server.
WEIR_SERVERS = {
    "echo": "{weir} echo --listen {address} --stats-json {stats}",
    "http": "{weir} http --listen {address} --stats-json {stats} --root {root}",
    "ftp": "{weir} ftp --listen {address} --stats-json {stats} --root {root} "
           "--anonymous --anonymous-write",
}

# Where programs lie that an unprivileged user's PATH may lack.
SYSTEM_PATH = ":/usr/sbin:/usr/local/sbin"

# What a cell is served over.
TRANSPORTS = ("tcp", "unix", "veth")
MTU_MIN, MTU_MAX = 68, 65535
TURNS_MAX, TURN_MIN, TURN_MAX = 500, 0.001, 10
BLOCKS_MIN = 6   # before a look at an interval of 95 %

# The loopback addresses of a cell with a namespace of its own: ports run out per destination.
DESTINATIONS = "127.1.0.1-127.1.0.128"


@dataclass
class Cell:
    """One kind of work."""

    name: str
    size: int = 64
    path: str = ""           # what an HTTP or FTP server is asked for
    operation: str = ""      # FTP: login, noop, retr or stor
    files: int = 1           # FTP: the numbers that stand for {} in the path
    beside: str = ""         # FTP: what one more session downloads all the time
    login: str = ""          # FTP: USER:PASSWORD; empty: anonymous
    connections: int = 1
    depth: int = 1           # requests in flight per connection
    churn: int = 0           # operations per connection, then a new one; 0: connections stay
    idle: int = 0            # connections more that say nothing
    rate: float = 0          # operations per second, open loop; 0: closed loop
    rate_of: str = ""        # the cell whose capacity, with the slowest variant, sets the rate
    rate_share: float = 0.5  # the part of that capacity
    arrivals: str = "poisson"
    slow: int = 0            # connections more that ask for much and hardly read
    flood: int = 0           # connections more that send as fast as they can
    transport: str = "tcp"   # or unix: a socket's path; or veth: two network namespaces
    mtu: int = 1500          # of the veth pair
    namespace: bool = False  # a network namespace of its own with many destinations
    verify: str = "sample"
    turns: int = -1          # of all its servers, in a block, see turns.py; 0: trials; -1: as all
    turn: float = 0          # seconds of one; 0: as all cells of the scenario
    file: str = ""           # what is served, for commands that have {file}
    cache: str = "warm"      # or cold: whether it lies in the page cache when a trial begins
    variants: list = field(default_factory=list)  # only these; empty: all
    expect: dict = field(default_factory=dict)    # a published result, see replay.py

    def is_open(self):
        return bool(self.rate or self.rate_of)

    def title(self):
        what = self.path or size_text(self.size)
        if self.operation:
            what = f"{self.operation} {self.path}".strip()
        parts = [f"{what} x {self.connections}"]
        if self.files > 1:
            parts.append(f"{self.files} files")
        if self.beside:
            parts.append(f"beside a download of {self.beside}")
        if self.depth > 1:
            parts.append(f"depth {self.depth}")
        if self.churn:
            parts.append("a new connection per "
                         + ("operation" if self.churn == 1 else f"{self.churn} operations"))
        if self.idle:
            parts.append(f"{self.idle} idle connections")
        if self.slow:
            parts.append(f"{self.slow} slow readers")
        if self.flood:
            parts.append(f"{self.flood} flooding")
        if self.transport == "unix":
            parts.append("unix socket")
        if self.transport == "veth":
            parts.append(f"veth, MTU {self.mtu}")
        if self.cache == "cold":
            parts.append("out of the page cache")
        if self.rate_of:
            parts.append(f"{self.rate_share:.0%} of the slowest's capacity in {self.rate_of}")
        elif self.rate:
            parts.append(f"{self.rate:g}/s offered")
        return ", ".join(parts)


@dataclass
class Variant:
    """One kind of server: a command line with placeholders."""

    name: str
    command: str
    engine: str = ""  # what its listening line must say; empty: not checked
    cells: list = field(default_factory=list)  # patterns; empty: all
    needs: str = ""   # a program that must be installed; without it the variant is skipped
    forks: bool = False  # it has processes that come and go with connections


@dataclass
class Scenario:
    name: str
    about: str = ""
    server: str = "echo"   # of weir: echo, http or ftp
    # Under the server's root: names with sizes; "name{}" with [size, count]; "name/" with 0 is a
    # folder that everybody may write to.
    files: dict = field(default_factory=dict)
    blocks: int = 10
    stop_at_width: float = 0  # percent: then a cell needs no more blocks, see looks.py; 0: never
    blocks_min: int = 8    # before the first look at how wide its intervals are
    rounds: int = 1        # in a block, how often every variant runs in each cell
    turns: int = 0         # in a block, of servers that are alive at once; 0: one after the other
    turn: float = 0.02     # seconds of one
    seconds: float = 1.5   # measured per trial, at most
    warmup: float = 0.3
    budget: float = 0      # seconds for everything; 0: as long as it takes
    base: str = "epoll"
    endpoints: list = field(default_factory=list)  # that verdicts are given on; empty: all
    ceiling: bool = False  # closed cells: the load's is measured before the run
    variants: list = field(default_factory=list)
    cells: list = field(default_factory=list)
    notes: list = field(default_factory=list)  # what was left out, and why
    sources: dict = field(default_factory=dict)  # by cell: the one that its rate is taken from

    def variants_of(self, cell):
        return [variant for variant in self.variants
                if (not cell.variants or variant.name in cell.variants)
                and (not variant.cells or matches(cell.name, variant.cells))]


def size_text(size):
    for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} B"


def matches(name, patterns):
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def make(kind, where, values):
    """Fills a dataclass, with each key and type checked."""
    known = {f.name: f for f in fields(kind)}
    for key, value in values.items():
        if key not in known:
            raise Problem(f"{where}: unknown key '{key}', known are {', '.join(known)}")
        wanted = known[key].type
        if wanted is float and type(value) is int:
            values[key] = value = float(value)
        if type(value) is not wanted:
            raise Problem(f"{where}: {key} = {value!r} is no {wanted.__name__}")
    try:
        return kind(**values)
    except TypeError:
        raise Problem(f"{where}: a name is missing") from None


def load_file(path, server=None):
    """What stands in a file, maybe with another of weir's servers: then its cells are checked when
    the other options are known, too."""
    try:
        with open(path, "rb") as file:
            values = tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise Problem(f"{path}: {error}") from None
    if server is None:
        return parse(path, values)
    return parse_unchecked(path, {**values, "server": server})


def parse(path, values):
    """Makes a scenario of what stands in a file."""
    return check(path, parse_unchecked(path, values))


def parse_unchecked(path, values):
    values = dict(values)
    cells = [make(Cell, f"{path}: cell {i}", dict(cell))
             for i, cell in enumerate(values.pop("cell", []), 1)]
    server = values.get("server", "echo")
    if server not in WEIR_SERVERS:
        raise Problem(f"{path}: server must be one of {', '.join(WEIR_SERVERS)}")
    special = {name: make_variant(f"{path}: variant {name}", name, dict(value), server)
               for name, value in values.pop("variant", {}).items()}
    names = values.pop("variants", list(ENGINES[:2]))
    values.setdefault("name", os.path.basename(path).removesuffix(".toml"))
    for key in {"cells", "sources", "notes"} & set(values):
        raise Problem(f"{path}: unknown key '{key}'; a cell is a [[cell]]")
    scenario = make(Scenario, path, values)
    scenario.cells = cells
    for cell in cells:
        cell.turns = scenario.turns if cell.turns == -1 else cell.turns
        cell.turn = cell.turn or scenario.turn
    scenario.variants = [special.get(name) or engine_variant(name, path, server)
                         for name in names]
    return scenario


def from_report(report):
    """The scenario of a run that began, as it was then."""
    values = dict(report["scenario"])
    cells = [make(Cell, "cell", {k: v for k, v in cell.items() if k != "title"})
             for cell in values.pop("cells")]
    variants = [make(Variant, "variant", dict(v)) for v in values.pop("variants")]
    scenario = make(Scenario, "scenario", {**values, "base": report["base"]})
    scenario.cells, scenario.variants = cells, variants
    scenario.sources = {name: make(Cell, "cell", dict(cell))
                        for name, cell in report["sources"].items()}
    return scenario


def make_variant(where, name, values, server="echo"):
    """A variant of a file: `options` for weir's server, or a whole `command`."""
    options = values.pop("options", None)
    if (options is None) == ("command" not in values):
        if "cells" in values and name in ENGINES and options is None:
            options = f"--engine {name}"
        else:
            raise Problem(f"{where}: needs either options or command")
    if options is not None:
        values["command"] = f"{WEIR_SERVERS[server]} {options}"
        values.setdefault("engine", engine_of(options))
    return make(Variant, where, {**values, "name": name})


def engine_of(options):
    found = re.search(r"--engine[= ](\S+)", options)
    return found[1] if found and found[1] != "auto" else ""


def engine_variant(name, where, server="echo"):
    if name not in ENGINES:
        raise Problem(f"{where}: no variant '{name}': known are {', '.join(ENGINES)} "
                      "and those that are defined")
    return Variant(name, f"{WEIR_SERVERS[server]} --engine {name}", name)


def variant_of_option(text, server="echo"):
    """--variant NAME=COMMAND, where a command that begins with - is options for weir's server."""
    name, equals, command = text.partition("=")
    command = command.strip()
    if not equals or not name or not command:
        raise Problem(f"--variant {text}: wants NAME=COMMAND or NAME=--OPTIONS")
    if command.startswith("-"):
        return make_variant(f"--variant {name}", name, {"options": command}, server)
    return Variant(name, command, "")


def check(where, scenario):
    """Returns the scenario, if it can be run."""
    for name in scenario.endpoints:
        if name not in MORE_IS_BETTER:
            raise Problem(f"{where}: no endpoint '{name}': known are {', '.join(MORE_IS_BETTER)}")
    names = [cell.name for cell in scenario.cells]
    for kind, list_ in (("cell", names), ("variant", [v.name for v in scenario.variants])):
        if twice := {name for name in list_ if list_.count(name) > 1}:
            raise Problem(f"{where}: {kind} {', '.join(sorted(twice))} is there twice")
        if not list_:
            raise Problem(f"{where}: no {kind} is left to run")
    for cell in scenario.cells:
        check_cell(f"{where}: cell {cell.name}", cell)
        check_protocol(f"{where}: cell {cell.name}", scenario, cell)
        if not scenario.variants_of(cell):
            raise Problem(f"{where}: cell {cell.name}: no variant is left to run")
    return scenario


def check_protocol(where, scenario, cell):
    """What is asked for must fit the server, and a file that is to be cold must be known."""
    server = scenario.server
    needs_path = server == "http" or cell.operation in ("retr", "stor")
    if bool(cell.path) != needs_path:
        raise Problem(f"{where}: a path is for server = \"http\", and for retr and stor")
    if bool(cell.operation) != (server == "ftp"):
        raise Problem(f"{where}: an operation is for server = \"ftp\"")
    if cell.operation not in ("", "login", "noop", "retr", "stor"):
        raise Problem(f"{where}: operation must be login, noop, retr or stor")
    for key, usual in (("depth", 1), ("slow", 0), ("flood", 0)):
        if cell.operation and getattr(cell, key) != usual:
            raise Problem(f"{where}: {key} is not for server = \"ftp\"")
    served = cell.path.lstrip("/") in scenario.files and "{}" not in cell.path
    if cell.cache == "cold" and not served and not cell.file:
        raise Problem(f"{where}: {cell.path or 'the cell'} is none of the [files], so it can be "
                      "neither compared nor dropped from the cache")


def check_cell(where, cell):
    for key in ("size", "connections", "depth", "files"):
        if getattr(cell, key) < 1:
            raise Problem(f"{where}: {key} must be at least 1")
    for key in ("churn", "idle", "slow", "flood", "rate"):
        if getattr(cell, key) < 0:
            raise Problem(f"{where}: {key} must not be negative")
    for key, allowed in (("arrivals", ("constant", "poisson")), ("transport", TRANSPORTS),
                         ("verify", ("full", "sample", "none")), ("cache", ("warm", "cold"))):
        if getattr(cell, key) not in allowed:
            raise Problem(f"{where}: {key} must be one of {', '.join(allowed)}")
    if not 0 <= cell.turns <= TURNS_MAX or not TURN_MIN <= cell.turn <= TURN_MAX:
        raise Problem(f"{where}: turns must be at most {TURNS_MAX}, and a turn between {TURN_MIN} "
                      f"and {TURN_MAX} seconds")
    if cell.file and not os.path.isfile(cell.file):
        raise Problem(f"{where}: file {cell.file} is not there")
    if cell.namespace and cell.transport != "tcp":
        raise Problem(f"{where}: namespace is for tcp; veth has two of its own")
    if not MTU_MIN <= cell.mtu <= MTU_MAX:
        raise Problem(f"{where}: mtu must be between {MTU_MIN} and {MTU_MAX}")
    if cell.rate and cell.rate_of:
        raise Problem(f"{where}: rate and rate_of exclude each other")
    if not 0 < cell.rate_share <= 2:
        raise Problem(f"{where}: rate_share must be between 0 and 2")


# Keys of a cell that an option cannot change: what it is called, and what belongs to one alone.
NO_OPTIONS = ("name", "variants", "expect")


def cell_keys():
    """(key, type) of each key of a cell that is an option, too."""
    return [(f.name, f.type) for f in fields(Cell) if f.name not in NO_OPTIONS]


def override(scenario, every, options):
    """Applies the options that are keys of a cell, to every cell, and those of the scenario.

    `every` are copies of all cells, of which some set the rate of others: they stay closed.
    """
    given = {key: value for key, _ in cell_keys()
             if (value := getattr(options, f"cell_{key}", None)) is not None}
    if "rate" in given and "rate_of" not in given:
        given["rate_of"] = ""
    if "rate_of" in given and "rate" not in given:
        given["rate"] = 0.0
    for source in every:
        for key in given.keys() - {"rate", "rate_of", "rate_share"}:
            setattr(source, key, given[key])
    for cell in scenario.cells:
        for key, value in given.items():
            setattr(cell, key, value)
        check_cell(f"cell {cell.name} with these options", cell)
    if (chosen := getattr(options, "endpoints", None)) is not None:
        scenario.endpoints = chosen.split(",")
    if (chosen := getattr(options, "ceiling", None)) is not None:
        scenario.ceiling = chosen
    for text in getattr(options, "root_file", None) or ():
        name, equals, size = text.partition("=")
        if not equals or not size.isdigit():
            raise Problem(f"--root-file {text}: wants NAME=BYTES")
        scenario.files[name] = int(size)


def select(scenario, options):
    """Applies --cells, --engines, --variant, the options that are keys of a cell, and those that
    are keys of the scenario."""
    every = [replace(cell) for cell in scenario.cells]
    if options.cells:
        patterns = options.cells.split(",")
        for pattern in patterns:
            if not any(matches(cell.name, [pattern]) for cell in scenario.cells):
                raise Problem(f"--cells {pattern}: no such cell; there are "
                              + ", ".join(cell.name for cell in every))
        scenario.cells = [cell for cell in scenario.cells if matches(cell.name, patterns)]
    override(scenario, every, options)
    choose_variants(scenario, options)
    skip_missing(scenario)
    for key in ("base", "blocks", "blocks_min", "stop_at_width", "rounds", "seconds", "warmup",
                "budget"):
        if getattr(options, key) is not None:
            setattr(scenario, key, getattr(options, key))
    check_rate_sources(scenario, every)
    choose_base(scenario, options.base)
    check("this selection", scenario)
    if min(scenario.blocks, scenario.rounds) < 1 or scenario.seconds <= 0 or scenario.warmup < 0:
        raise Problem("blocks, rounds, seconds and warmup must be positive")
    if scenario.stop_at_width < 0 or scenario.blocks_min < BLOCKS_MIN:
        raise Problem("stop_at_width must be a percentage, or 0, and blocks_min at least "
                      f"{BLOCKS_MIN}: fewer blocks have no interval at 95 %")


def choose_variants(scenario, options):
    """Those of --engines, which may name a --variant; and every --variant."""
    added = [variant_of_option(text, scenario.server) for text in options.variant]
    have = {variant.name: variant for variant in [*scenario.variants, *added]}
    names = options.engines.split(",") if options.engines else list(have)
    names += [variant.name for variant in added if variant.name not in names]
    scenario.variants = [have.get(name) or engine_variant(name, "--engines", scenario.server)
                         for name in names]


def skip_missing(scenario):
    """Leaves out the variants whose program is not installed, with a note."""
    for variant in list(scenario.variants):
        if variant.needs and not shutil.which(variant.needs,
                                              path=os.environ.get("PATH", "") + SYSTEM_PATH):
            scenario.variants.remove(variant)
            scenario.notes.append(f"{variant.name} is skipped: {variant.needs} is not installed")


def check_rate_sources(scenario, every):
    """Keeps the cells that others take their rate from at hand, even if they are not selected."""
    for cell in scenario.cells:
        if cell.rate_of:
            found = [c for c in every if c.name == cell.rate_of and not c.is_open()]
            if not found:
                raise Problem(f"cell {cell.name}: rate_of '{cell.rate_of}' is no closed cell")
            scenario.sources[cell.name] = found[0]


def choose_base(scenario, asked):
    names = [variant.name for variant in scenario.variants]
    if scenario.base not in names:
        if asked:
            raise Problem(f"--base {asked}: no such variant; there are {', '.join(names)}")
        scenario.base = names[0]


def fill(template, values):
    """Splits a command line and replaces {name} in each of its words."""
    def replace(found):
        if found[1] not in values:
            raise Problem(f"'{template}': unknown {found[0]}, known are "
                          + " ".join(f"{{{name}}}" for name in values))
        return str(values[found[1]])
    try:
        words = shlex.split(template)
    except ValueError as error:
        raise Problem(f"'{template}': {error}") from None
    return [re.sub(r"\{(\w+)\}", replace, word) for word in words]


def placeholders(template):
    return set(re.findall(r"\{(\w+)\}", template))
