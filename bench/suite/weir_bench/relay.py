"""A cell by turns: all of its servers are alive, each with a load of its own, and one works.

The load lets what it began end, and the server falls asleep, before the next turn begins; costs are
read at the borders of each turn. So they are exact, and what the machine does to one variant it
does to the next, some milliseconds later, too.
"""

import contextlib
import os
import random
import time
from dataclasses import dataclass, field, replace

from . import Problem, cgroup, drive, place, trial, turns
from .process import Children
from .sample import Meter, group_pids, pss_bytes_without
from .trial import TrialFailed
from .witness import Witness, network_counters, prepare_file, residency

SETTLE_SECONDS = 0.0003   # a server that used no CPU for so long sleeps
SETTLE_TRIES = 50
COLUMNS = ("ops", "server_ns", "machine_ns", "load_ns", "wall_ns")


@dataclass
class Runner:
    """One variant of the cell."""

    order: object
    setting: object            # with a folder of its own
    record: dict
    children: object
    where: object
    group: object = None       # of the server's processes, where they come and go
    server: object = None
    load: object = None
    driver: object = None
    meter: object = None
    witness: object = None
    columns: dict = field(default_factory=lambda: {name: [] for name in COLUMNS})
    spent: list = field(default_factory=list)   # Samples, of turns that count
    length_ns: int = 0
    unrest_ns: int = 0         # of the server, since the ends of its turns
    late_ns: int = 0           # and of its load
    left: object = None         # the Sample at the end of its last turn
    network: dict = field(default_factory=dict)  # what the server's network counted in its turns
    peers: list = field(default_factory=list)   # the other runners

    def runs(self):
        return self.record["status"] == "ok"

    def attempt(self, action, *arguments):
        """Does it; what goes wrong ends this variant alone."""
        if not self.runs():
            return
        try:
            action(*arguments)
        except (Problem, OSError) as error:
            self.record.update(status="failed", failure=str(error))
            for child in filter(None, (self.load, self.server)):
                child.stop(1)

    def start(self):
        self.server, address, listening = trial.start_server(
            self.setting, self.order, self.where, self.children,
            os.path.join(self.setting.folder, "stats.json"), self.group)
        self.record["server"] = {"command": self.server.command, **listening}
        with self.network_watched():
            self.load = trial.start_load(self.setting, self.order, self.where, self.children,
                                         address, turns=True)
            self.record["load"] = {"command": self.load.command}
            self.driver = drive.of(self.setting.load, self.load, self.server)
            self.driver.begin()
        self.meter = Meter(self.setting.machine, group_pids(self.server.pid), [self.load.pid], 0,
                           group=self.group)
        self.witness = Witness(group_pids(self.server.pid), self.setting.server_cpus)

    @contextlib.contextmanager
    def network_watched(self):
        """What is counted meanwhile is this server's, though others share its network."""
        before = network_counters(self.server.pid)
        yield
        for name, value in network_counters(self.server.pid).items():
            self.network[name] = self.network.get(name, 0) + value - before.get(name, 0)

    def settle(self):
        """Waits until the server sleeps; one that never does is told of by its unrest."""
        for _ in range(SETTLE_TRIES):
            before = self.meter.server_ns()
            time.sleep(SETTLE_SECONDS)
            if self.meter.server_ns() == before:
                return

    def take(self, word, seconds):
        """One turn. Returns what the load said of it, and what it cost."""
        before = self.sample()
        said = self.driver.turn(word, seconds)
        self.settle()
        self.left = self.sample()
        return said, difference(before, self.left)

    def sample(self):
        """What was spent until now. What its processes spent since its last turn was that turn's:
        a closed connection is put away a little later."""
        self.meter.take()
        now = self.meter.samples[-1]
        if self.left and self.columns["ops"]:
            late = difference(self.left, now)
            self.unrest_ns += late.server
            self.columns["server_ns"][-1] += late.server
            self.columns["load_ns"][-1] += late.load
            if self.columns["machine_ns"][-1] is not None:
                self.columns["machine_ns"][-1] += late.server + late.load
            self.late_ns += late.server + late.load
            self.left = None
        return now

    def clocks(self):
        """What the processes of all peers have spent."""
        return sum(peer.meter.server_ns() + sum(map(peer.meter.clock, peer.meter.load_pids))
                   for peer in self.peers if peer.runs() and peer.meter)

    def warm(self):
        if self.order.warmup > 0:
            self.take("warm", self.order.warmup)
        # It may have started its workers by now.
        self.meter.server_pids = group_pids(self.server.pid)

    def turn(self):
        with self.network_watched():
            theirs = self.clocks()
            said, spent = self.take("run", self.order.cell.turn)
            spent = spent._replace(machine=spent.machine - (self.clocks() - theirs))
        exact = self.setting.machine.usage is not None
        for name, value in (("ops", said["ops"]), ("server_ns", spent.server),
                            ("machine_ns", spent.machine - spent.own if exact else None),
                            ("load_ns", spent.load if said["cpu_ns"] is None else said["cpu_ns"]),
                            ("wall_ns", said["wall_ns"])):
            self.columns[name].append(value)
        self.spent.append(spent)
        self.length_ns += said["length_ns"]

    def end(self, others):
        """Ends both; what they said and cost goes into the record."""
        record = self.record
        self.sample()
        self.meter.server_pids = group_pids(self.server.pid)
        memory = pss_bytes_without(self.meter.server_pids, others)
        record["witness"] = self.witness.compare()
        record["witness"]["network"].update(
            {name: count for name, count in self.network.items() if name != "time_wait"})
        text = self.driver.end()
        self.load.stop()
        if self.load.status != 0 or text is None:
            raise TrialFailed(f"the load {self.load.how_it_ended()}: {self.load.last_words()}")
        result = self.setting.load.parse(text, self.order.seconds)
        self.driver.count(result, self.columns, record["in_flight"])
        record["server"]["drained"] = self.server.stop()
        if self.server.status != 0 and record["server"]["drained"] and self.order.variant.engine:
            raise TrialFailed(f"the server {self.server.how_it_ended()}: "
                              f"{self.server.last_words()}")
        record["server"].update(stats=trial.read_stats(
            os.path.join(self.setting.folder, "stats.json")), usage=trial.usage_of(self.server))
        record["load"].update(usage=trial.usage_of(self.load), result=result.raw)
        trial.keep_result(record, result)
        self.keep_costs(result)
        if memory:
            record["metrics"]["pss_bytes"] = memory

    def keep_costs(self, result):
        record, columns = self.record, self.columns
        record["turns"] = {**columns, "length_s": self.order.cell.turn}
        wall_ns = sum(columns["wall_ns"])
        record["seconds"] = wall_ns / 1e9
        if record["offered_per_s"]:
            # What is outstanding at a turn's end is waited for, and nothing is due meanwhile.
            record["offered_per_s"] *= self.length_ns / wall_ns
        sums = type(self.spent[0])(*map(sum, zip(*self.spent)))
        sums = sums._replace(machine=sums.machine + self.late_ns)
        record["spent"] = {**sums._asdict(), "time": wall_ns, "load": sum(columns["load_ns"]),
                           "server": sum(columns["server_ns"])}
        record["cpu"] = {"server_source": self.meter.source(),
                         **shares_of(self.setting, record, result)}
        if not result.ops:
            return
        for metric in ("server_cpu_ns", "machine_cpu_ns"):
            if (level := turns.level(columns, metric)) is not None:
                record["metrics"][metric] = level
        if self.setting.machine.usage is None:
            record["metrics"]["machine_cpu_ns"] = (sums.machine - sums.own) / sum(columns["ops"])
        trial.keep_calls(self.order, record, result)


def difference(before, after):
    return type(after)(*(b - a for a, b in zip(before, after)))


def shares_of(setting, record, result):
    """The same as of a trial, of all turns together."""
    spent, columns = record["spent"], record["turns"]
    wall_ns, half = spent["time"], len(columns["ops"]) // 2
    server_cpus, client_cpus = trial.cpus_to_fill(setting, record, result)
    halves = [(sum(columns["server_ns"][part]), sum(columns["wall_ns"][part]))
              for part in (slice(half), slice(half, None))]
    others = spent["machine"] - spent["own"] - spent["server"] - spent["load"]
    return {
        "window": "by turns", "window_s": wall_ns / 1e9, "machine_source": setting.machine.source,
        "server_share": spent["server"] / wall_ns / server_cpus,
        "client_share": spent["load"] / wall_ns / client_cpus,
        "others_share": max(others, 0) / wall_ns,
        "steal_share": spent["stolen"] / wall_ns / os.sysconf("SC_NPROCESSORS_ONLN"),
        "server_halves": [server / wall if wall else 0 for server, wall in halves],
    }


def run(setting, orders, count):
    """Runs all variants of a cell, each so many turns; returns their records."""
    cell, began = orders[0].cell, time.time()
    records = [trial.new_record(setting, order) for order in orders]
    file = {}
    try:
        if path := trial.file_of(setting, cell):
            prepare_file(path, cell.cache)
            file = {"cache": cell.cache, "before": residency(path)}
        with (place.of(cell, setting.folder, setting.host) as where,
              contextlib.ExitStack() as groups, Children() as children):
            run_in(setting, orders, records, (where, children, groups), count)
        if path:
            file["after"] = residency(path)
    except (Problem, OSError) as error:
        for record in records:
            record.update(status="failed", failure=str(error))
    for record in records:
        if record["status"] == "ok":
            record.update({"file": file} if file else {})
            trial.judge(record)
        record["took"] = (time.time() - began) / len(records)
    return records


def own_setting(setting, cell, at):
    """A folder for the runner of that number. What is served is shared, so that it lies in the page
    cache once; what is stored is not."""
    own = os.path.join(setting.folder, f"turns-{at}")
    os.makedirs(own, exist_ok=True)
    # Servers that become another user have to get there.
    os.chmod(setting.folder, 0o711)
    for name in ("stats.json", place.SOCKET):
        if os.path.exists(os.path.join(own, name)):
            os.unlink(os.path.join(own, name))
    if cell.operation != "stor":
        return replace(setting, folder=own, root=setting.root_folder())
    root = os.path.join(own, "root")
    os.makedirs(root, exist_ok=True)
    for folder in os.scandir(setting.root_folder()):
        if folder.is_dir():
            trial.make_upload_folder(os.path.join(root, folder.name))
    trial.empty_folders(root)
    return replace(setting, folder=own, root=root)


def make_runners(setting, orders, records, surroundings):
    where, children, groups = surroundings
    forks = any(order.variant.forks for order in orders)  # then all are counted in the same way
    runners = []
    for at, (order, record) in enumerate(zip(orders, records)):
        own = own_setting(setting, order.cell, at)
        path = os.path.join(own.folder, place.SOCKET) if where.path else ""
        group = groups.enter_context(cgroup.around(forks))
        runners.append(Runner(order, own, record, children, replace(where, path=path), group))
    return runners


def run_in(setting, orders, records, surroundings, count):
    runners = make_runners(setting, orders, records, surroundings)
    for runner in runners:
        runner.peers = [other for other in runners if other is not runner]
        runner.attempt(runner.start)
    for runner in runners:
        runner.attempt(runner.warm)
    chance = random.Random(f"{orders[0].seed}/turns")
    begin = time.monotonic_ns()
    for _ in range(count):
        chance.shuffle(runners)
        for runner in runners:
            runner.attempt(runner.turn)
    tell_unrest(runners, time.monotonic_ns() - begin)
    for runner in runners:
        others = [pid for other in runners if other is not runner and other.runs()
                  and not other.server.ended() for pid in other.meter.server_pids]
        runner.attempt(runner.end, others)
    for runner in runners:
        if runner.setting.root != setting.root_folder():
            trial.empty_folders(runner.setting.root)


def tell_unrest(runners, passed_ns):
    """The one that used most in the others' turns: it spoils what all of them cost."""
    shares = [(runner.unrest_ns / max(passed_ns - sum(runner.columns["wall_ns"]), 1),
               runner.order.variant.name) for runner in runners if runner.columns["wall_ns"]]
    if len(runners) > 1 and shares:
        share, name = max(shares)
        for runner in runners:
            runner.record["unrest"] = {"variant": name, "share": share}
