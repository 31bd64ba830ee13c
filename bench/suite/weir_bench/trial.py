"""One trial: a fresh server, one load against it, and what both say and cost."""

import contextlib
import json
import os
import re
import socket
import sys
import time
from dataclasses import dataclass

from . import Problem, cgroup, guards, place
from .process import Children, read_text
from .sample import Meter, group_pids, slab_bytes
from .witness import Witness, prepare_file, residency
from .scenario import fill

READY_SECONDS = 30
LATE_SECONDS = 30       # a load that has not ended by then never will
INSTRUMENT_SECONDS = 10  # to write its file
SAMPLE_SECONDS = 0.025
MEMORY_SAMPLES = 3      # per measured time
LISTENING = re.compile(r"^listening \S+ (unix:\S+|\S+:\d+)(?: engine=(\S+))?", re.M)

HERE = os.path.dirname(os.path.realpath(__file__))
CROWD = os.path.join(HERE, "crowd.py")
REFLECTOR = os.path.join(HERE, "reflector.py")
PEERS = os.path.join(HERE, "../../peers")

# Programs that take port 0 and say which they got.
OURS = ("{weir}", "{rungs}", "{python} {reflector}")

# The wildcard of IPv4 and of IPv6.
ANY_ADDRESS = {"0" * 8, "0" * 32}

# Printed only where this many samples lie beyond it.
BEYOND_MIN = 100


class TrialFailed(Problem):
    """The trial ended without a result; what happened is its text."""


@dataclass
class Setting:
    """What all trials of a run share."""

    programs: dict          # paths by name
    load: object            # WeirLoad or OtherLoad
    folder: str             # for the outputs of the trial
    machine: object
    server_cpus: set
    client_cpus: set
    host: str = "127.0.0.1"  # what servers listen on
    root: str = ""           # with the files that servers serve; empty: in the folder

    def root_folder(self):
        return self.root or os.path.join(self.folder, "root")


def write_files(folder, files):
    """The files that servers serve, of bytes that no compression and no hole makes cheaper."""
    root = os.path.join(folder, "root")
    os.makedirs(root, exist_ok=True)
    for name, size in files.items():
        count = 1
        if type(size) is list and len(size) == 2 and "{}" in name:
            size, count = size
        if os.path.basename(name.removesuffix("/")) != name.removesuffix("/") or \
                type(size) is not int or size < 0 or type(count) is not int:
            raise Problem(f"file '{name}' = {size!r}: wants a plain name and a size")
        if name.endswith("/"):
            make_upload_folder(os.path.join(root, name))
            continue
        try:
            for number in range(count):
                write_file(os.path.join(root, name.replace("{}", str(number))), size)
        except OSError as error:
            raise Problem(f"file '{name}' of {size} bytes for the servers, in {root}: "
                          f"{error.strerror}; TMPDIR chooses another place") from None


def make_upload_folder(path):
    """One that every server's user may write to."""
    os.makedirs(path, exist_ok=True)
    os.chmod(path, 0o777)


def empty_folders(root):
    """Removes what an earlier trial's load stored: its files may be another server's user's."""
    for folder, folders, names in os.walk(root, topdown=False):
        for name in names if folder != root else ():
            os.unlink(os.path.join(folder, name))
        for name in folders if folder != root else ():
            os.rmdir(os.path.join(folder, name))


def write_file(path, size):
    with open(path, "wb") as file:
        for at in range(0, size, 1 << 20):
            file.write(os.urandom(min(size - at, 1 << 20)))


@dataclass
class Order:
    """One trial to do."""

    cell: object
    variant: object
    block: int
    seconds: float
    warmup: float
    seed: int
    rate: float = 0
    instrument: str = ""    # a command that watches the server meanwhile: {pid} {seconds} {folder}
    ceiling: float = 0      # what the load can do here at most, where that was calibrated
    conformance: str = ""   # what the variant did wrong when it was checked
    round: int = 0          # within the block

    def name(self):
        place = f"block {self.block + 1}" + (f" round {self.round + 1}" if self.round else "")
        return f"trial {self.cell.name} {self.variant.name} {place}"


def new_record(setting, order):
    return {"cell": order.cell.name, "variant": order.variant.name, "block": order.block,
              "round": order.round,
              "seconds": order.seconds, "warmup": order.warmup, "seed": order.seed,
              "rate": order.rate, "started": time.time(), "status": "ok",
              "open": order.cell.is_open(),
              "in_flight": order.cell.connections * order.cell.depth,
              "engine_asked": order.variant.engine, "conformance": order.conformance,
              "ceiling_per_s": order.ceiling, "churn": order.cell.churn,
              "cpus_allowed": len(setting.server_cpus | setting.client_cpus),
              "server_cpus": len(setting.server_cpus), "size": order.cell.size}


def judge(record):
    """Lets the guards look at a trial that ended well."""
    record["guards"] = guards.check(record)
    if any(guard["severity"] == "invalid" for guard in record["guards"]):
        record["status"] = "invalid"


def run(setting, order):
    """Runs one trial; returns its record. Failures are in the record, too."""
    record = new_record(setting, order)
    try:
        if path := file_of(setting, order.cell):
            prepare_file(path, order.cell.cache)
            record["file"] = {"cache": order.cell.cache, "before": residency(path)}
        with place.of(order.cell, setting.folder, setting.host) as where:
            run_in(setting, order, where, record)
        judge(record)
    except (Problem, OSError) as error:
        record.update(status="failed", failure=str(error))
    record["took"] = time.time() - record["started"]
    return record


def file_of(setting, cell):
    """The file that the cell reads, if it is known; else None."""
    if cell.operation == "stor":
        return cell.file or None
    path = os.path.join(setting.root_folder(), cell.path.lstrip("/"))
    return cell.file or (path if cell.path and os.path.isfile(path) else None)


def run_in(setting, order, where, record):
    paths = {name: os.path.join(setting.folder, name)
             for name in ("stats.json", "server.out", "load.out")}
    for path in paths.values():
        if os.path.exists(path):
            os.unlink(path)
    empty_folders(setting.root_folder())
    with cgroup.around(order.variant.forks) as group, Children() as children:
        server, address, listening = start_server(setting, order, where, children,
                                                  paths["stats.json"], group)
        record["server"] = {"command": server.command, **listening}
        crowd = start_crowd(setting, order, where, children, address)
        witness = Witness(group_pids(server.pid), setting.server_cpus)
        load, meter = run_load(setting, order, (where, children, group), server, address, crowd)
        record["witness"] = witness.compare()
        record["load"] = {"command": load.command}
        if path := file_of(setting, order.cell):
            record["file"]["after"] = residency(path)
        end_crowd(crowd)
        load.collect()
        if load.status != 0:
            raise TrialFailed(f"the load {load.how_it_ended()}: {load.last_words()}")
        result = setting.load.parse(load.output(), order.seconds)
        if order.instrument:
            record["instrument"] = end_of_instrument(children)
        record["server"]["drained"] = server.stop()
        if server.status != 0 and record["server"]["drained"] and order.variant.engine:
            raise TrialFailed(f"the server {server.how_it_ended()}: {server.last_words()}")
    record["server"].update(stats=read_stats(paths["stats.json"]), usage=usage_of(server))
    record["load"].update(usage=usage_of(load), result=result.raw)
    keep_result(record, result)
    keep_costs(setting, order, record, result, meter)


def free_port(taken):
    """A port for servers that cannot take port 0 and say which they got. Those that were given
    out before may be in use in a network that is not ours."""
    with contextlib.ExitStack() as probes:
        while True:
            probe = probes.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            if (port := probe.getsockname()[1]) not in taken:
                taken.add(port)
                return port


def start_server(setting, order, where, children, stats_path, group=None):
    """Returns the child, its address, and what it said about itself."""
    ours = order.variant.command.startswith(OURS)
    port = 0 if ours or where.path else free_port(children.ports)
    command = fill(order.variant.command, {
        "weir": setting.programs["weir"], "rungs": setting.programs.get("weir-rungs"),
        "python": sys.executable, "reflector": REFLECTOR,
        "address": where.listen(port), "host": where.host, "port": port,
        "stats": stats_path, "cpu": cpu_list(setting.server_cpus), "size": order.cell.size,
        "root": setting.root_folder(), "peers": PEERS, "folder": setting.folder,
        "file": order.cell.file})
    try:
        server = children.start("server", command, setting.folder, setting.server_cpus,
                                where.server, group=group)
    except OSError as error:
        raise TrialFailed(f"the server {command[0]} did not start: {error}") from None
    limit = time.monotonic() + READY_SECONDS
    while time.monotonic() < limit:
        if found := LISTENING.search(server.output()):
            return server, found[1], {"line": found[0], "engine": found[2]}
        if port and (addresses := listening_addresses(server.pid, port)):
            if where.server and not addresses & ANY_ADDRESS:
                raise TrialFailed(f"the server listens on one address only; here it must listen on "
                                  f"{where.host}, because the load connects to {where.target}")
            return server, where.listen(port), {}
        if server.ended():
            server.collect()
            raise TrialFailed(f"the server {server.how_it_ended()} before it listened: "
                              f"{server.last_words()}")
        time.sleep(0.002)
    raise TrialFailed(f"the server did not listen within {READY_SECONDS} s: "
                      f"{server.last_words()}")


def start_crowd(setting, order, where, children, address):
    """Starts what disturbs the server beside the load; returns the children, all of them ready."""
    cell, found = order.cell, []
    wanted = [(kind, getattr(cell, kind), one_of(where.connect(address)))
              for kind in ("slow", "flood") if getattr(cell, kind)]
    if cell.cache == "cold":
        wanted.append(("evict", 1, file_of(setting, cell)))
    for kind, count, what in wanted:
        command = [sys.executable, CROWD, kind, str(count), what, "--path", cell.path]
        found.append(children.start(kind, command, setting.folder, setting.client_cpus,
                                    where.load))
    limit = time.monotonic() + READY_SECONDS
    for child in found:
        while "ready" not in child.output():
            if child.ended() or time.monotonic() > limit:
                child.collect()
                raise TrialFailed(f"the {child.what} connections did not begin: "
                                  f"{child.last_words()}")
            time.sleep(0.002)
    return found


def one_of(target):
    """The first address of a range, which weir-load knows and the crowd does not."""
    host, _, port = target.rpartition(":")
    return f"{host.partition('-')[0]}:{port}" if not target.startswith("unix:") else target


def end_crowd(crowd):
    """Ends it, before the server has to drain. It must have lived as long as the load."""
    for child in crowd:
        alive = not child.ended()
        child.stop()
        if not alive:
            raise TrialFailed(f"the {child.what} connections ended during the trial: "
                              f"{child.last_words()}")


def listening_addresses(pid, port):
    """Where something listens on that port in the process's network, found without a connection.

    The addresses are as the kernel prints them, in hexadecimal.
    """
    pattern = re.compile(rf"([0-9A-F]+):{port:04X} [0-9A-F]+:0000 0A ")
    return {address for name in ("tcp", "tcp6")
            for address in pattern.findall(read_text(f"/proc/{pid}/net/{name}"))}


def cpu_list(cpus):
    return ",".join(map(str, sorted(cpus)))


def start_load(setting, order, where, children, address, turns=False):
    cell = order.cell
    target = where.connect(address)
    host, _, port = target.rpartition(":")
    command = setting.load.command(cell, {
        "host": host, "port": port, "address": target, "target": target,
        "connections": cell.connections, "depth": cell.depth, "size": cell.size,
        "path": cell.path, "operation": cell.operation,
        "duration": f"{order.seconds:g}", "warmup": f"{order.warmup:g}",
        "rate": f"{order.rate:.0f}", "churn": cell.churn, "idle": cell.idle,
        "threads": min(len(setting.client_cpus), cell.connections),
        "verify": cell.verify, "seed": order.seed, "cpu": cpu_list(setting.client_cpus)},
        turns)
    try:
        return children.start("load", command, setting.folder, setting.client_cpus, where.load,
                              turns and not setting.load.pauses())
    except OSError as error:
        raise TrialFailed(f"the load {command[0]} did not start: {error}") from None


def run_load(setting, order, surroundings, server, address, crowd):
    """Runs the load to its end. Returns it and the meter."""
    where, children, group = surroundings
    meter = Meter(setting.machine, group_pids(server.pid), [child.pid for child in crowd],
                  slab_bytes(), order.variant.forks, group)
    # Before it begins: who is kept from looking must not miss all of a short one.
    meter.take()
    load = start_load(setting, order, where, children, address)
    meter.load_pids.append(load.pid)
    if order.instrument:
        watch(setting, order, children, server)
    planned = order.warmup + order.seconds
    start = time.monotonic()
    while not load.ended():
        meter.take()
        passed = time.monotonic() - start
        # Rarely: reading it walks the server's page tables.
        if passed * MEMORY_SAMPLES / order.seconds > len(meter.memory):
            meter.take_memory()
        if server.ended():
            server.collect()
            raise TrialFailed(f"the server {server.how_it_ended()} under load: "
                              f"{server.last_words()}")
        if passed > planned + LATE_SECONDS:
            raise TrialFailed(f"the load did not end {LATE_SECONDS} s after its time: "
                              f"{load.last_words()}")
        time.sleep(SAMPLE_SECONDS)
    meter.take()
    return load, meter


def watch(setting, order, children, server):
    """Starts the instrument beside the load: such a trial explains and is never compared."""
    command = fill(order.instrument, {"pid": server.pid, "folder": setting.folder,
                                      "seconds": f"{order.seconds + order.warmup:g}"})
    try:
        children.start("instrument", command, setting.folder, setting.client_cpus)
    except OSError as error:
        raise TrialFailed(f"the instrument {command[0]} did not start: {error}") from None


def read_stats(path):
    """The server's own counters; {} where it has none."""
    text = read_text(path)
    if not text:
        return {}
    try:
        return json.loads(text)
    except ValueError as error:
        raise TrialFailed(f"the server's statistics are no JSON: {error}") from None


def end_of_instrument(children):
    """What it said, and whether it worked."""
    child = next(child for child in children.list if child.what == "instrument")
    child.wait(INSTRUMENT_SECONDS)
    child.stop()
    return {"status": child.status, "said": child.output() + read_text(child.paths[1])}


def usage_of(child):
    return {"status": child.status, "user_s": child.usage.ru_utime,
            "system_s": child.usage.ru_stime, "max_rss_bytes": 1024 * child.usage.ru_maxrss,
            "switches": child.usage.ru_nvcsw + child.usage.ru_nivcsw}


def keep_result(record, result):
    record["errors"] = result.errors
    record["samples"] = result.samples
    record["offered_per_s"] = result.offered_per_s or record["rate"] or None
    record["lag_p99_ns"] = result.lag_p99_ns
    record["mean_ns"] = result.mean_ns
    record["unfinished"] = result.unfinished
    record["carried_ns"] = result.carried_ns
    record["metrics"] = {"ops_per_s": result.ops_per_s}
    for name, beyond in (("p50_ns", 0.5), ("p99_ns", 0.01)):
        value = getattr(result, name)
        if value is not None and result.samples * beyond >= BEYOND_MIN:
            record["metrics"][name] = value


def window(order, result, meter):
    """When the load measured: it says so, or else the middle of the time that it was told."""
    if result.start_ns is not None:
        return result.start_ns, result.end_ns, "as the load says"
    end = meter.samples[-1].time
    start = max(meter.samples[0].time, end - order.seconds * 1e9)
    margin = (end - start) * 0.1
    return start + margin, end - margin, "assumed: the last seconds before the load ended"


def cpus_to_fill(setting, record, result, crowd=0):
    """How many CPUs make the server and the load full: all that they were given, unless they say
    that they have fewer threads than that."""
    server = record["server"]
    threads = server["stats"].get("threads", 0)
    # That counts loops. Blocking has a thread per connection, and SQPOLL one beside the loop.
    if threads and server.get("engine") == "blocking":
        threads = 0
    elif threads and guards.uses_sqpoll(record):
        threads += 1
    given = len(setting.server_cpus), len(setting.client_cpus)
    theirs = threads, result.threads and result.threads + crowd
    return [min(cpus, count or cpus) for cpus, count in zip(given, theirs)]


def keep_costs(setting, order, record, result, meter):
    start, end, how = window(order, result, meter)
    spent = meter.spent(start, end)
    if spent.time <= 0:
        raise TrialFailed("the load's times do not lie within its run")
    middle = start + (end - start) / 2
    halves = [meter.spent(start, middle), meter.spent(middle, end)]
    others = spent.machine - spent.server - spent.load - spent.own
    cpus = os.sysconf("SC_NPROCESSORS_ONLN")
    # What disturbs the server beside the load is the load's, too.
    server_cpus, client_cpus = cpus_to_fill(setting, record, result, len(meter.load_pids) - 1)
    record["cpu"] = {
        "window": how, "window_s": spent.time / 1e9, "machine_source": setting.machine.source,
        "server_source": meter.source(), "samples_gap_s": meter.widest_gap(start, end) / 1e9,
        "server_share": spent.server / spent.time / server_cpus,
        "client_share": spent.load / spent.time / client_cpus
        if result.client_share is None else result.client_share,
        "others_share": max(others, 0) / spent.time,
        "steal_share": spent.stolen / spent.time / cpus,
        "server_halves": [half.server / half.time if half.time else 0 for half in halves],
    }
    record["spent"] = {name: round(value) for name, value in spent._asdict().items()}
    metrics = record["metrics"]
    if not result.ops_per_s:
        return
    done = result.ops_per_s * spent.time / 1e9
    metrics["server_cpu_ns"] = spent.server / done
    # Without weir-bench's own samples; what else ran is machine time, and warned about.
    metrics["machine_cpu_ns"] = (spent.machine - spent.own) / done
    keep_calls(order, record, result)
    keep_memory(order.cell, metrics, meter.memory_at(end))


def keep_calls(order, record, result):
    """What the server counted from its start to its end, per operation."""
    server, metrics = record["server"], record["metrics"]
    whole = operations_of_server(order.cell, server["stats"], result)
    if whole:
        metrics["calls"] = server["stats"]["enters"] / whole
    whole = whole or result.ops_per_s * (record["seconds"] + record["warmup"])
    metrics["switches"] = server["usage"]["switches"] / whole


def keep_memory(cell, metrics, memory):
    if memory["pss"]:
        metrics["pss_bytes"] = memory["pss"]
    if cell.idle:
        # Only a crowd stands out from what else the kernel allocates meanwhile.
        metrics["kernel_bytes"] = memory["slab_growth"] / (cell.connections + cell.idle)


def operations_of_server(cell, stats, result):
    """How many operations the server did from its start to its end; 0 if that is unknown."""
    if "enters" not in stats or cell.operation:
        return 0
    # An answer is longer than its file; by how much, the load has counted.
    size = result.reply_bytes if cell.path else cell.size * max(cell.churn, 1)
    return stats.get("sent_bytes", 0) / size if size else 0
