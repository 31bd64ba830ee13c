"""What every scene stands on: a server, the mice that want service, and the hostile peers.

A scene is a function of a Stage. It returns a Result: figures, and what must hold for them. The
tests play the scenes small (Size CI or SANITIZED) and assert what must hold; measure.py plays them
in full size and publishes the figures, met or missed.
"""

import contextlib
import dataclasses
import json
import os
import select
import shutil
import signal
import statistics
import subprocess
import tempfile
import time

import machine
import programs

MIB = 1 << 20
# The loop's defaults (core/weir.h).
HIGH_MARK = MIB
BUFFER = 16 * 1024
QUEUED_MAX = 64 * MIB
POOL = 256 * BUFFER
# With a thread for each connection, each has a small pool and a stack, the hundred mice as well.
# Where the machine is busy more of it is touched, 175 KiB and more.
THREAD = 256 * 1024
# How long a server may take to close what its peers have left.
SETTLE_TRIES, SETTLE_S = 250, 0.02
# A server that sleeps at so many looks has come to rest.
REST_LOOKS, REST_S, REST_LIMIT_S = 5, 0.02, 10


def let_run(seconds):
    """The load runs for so long."""
    select.select([], [], [], seconds)


@dataclasses.dataclass
class Size:
    """How large the scenes are."""

    name: str
    strict: bool  # p99 against the idle server's alone, in pinned processes
    sanitized: bool  # time and memory are the sanitizer's: only what is served counts
    blocks: tuple  # seconds of the mice, alone and again beside the hostile
    mice: int = 100
    mice_rate: int = 2000
    slow: int = 600
    slow_ms: int = 500
    storm: int = 20
    stall_s: float = 0.5
    stalled: int = 100
    crowd: int = 200
    files: int = 40
    squeeze: int = 60
    cgroup_mib: int = 48
    term: int = 40
    term_echo: int = 8
    term_mib: int = 2
    term_ftp: int = 10
    term_ftp_mib: int = 4
    term_s: float = 0.15
    starve_s: float = 0.6
    kills: int = 2
    soak_s: float = 1.6
    slice_s: float = 0.4
    soak_rate: int = 12000  # 0: four fifths of the capacity


CI = Size("ci", strict=False, sanitized=False, blocks=(0.5, 1, 2, 4))
SANITIZED = Size("sanitized", strict=False, sanitized=True, blocks=(0.4, 1, 2, 4),
                 mice_rate=500, slow=200, stalled=40, crowd=100, files=20, term=20, term_mib=1,
                 soak_rate=5000)
FULL = Size("full", strict=True, sanitized=False, blocks=(2,) * 5, slow=5000, slow_ms=1000,
            storm=100, stall_s=60, stalled=500, crowd=4000, files=500, squeeze=400,
            cgroup_mib=128, term=200, term_echo=200, term_mib=4, term_ftp=20, term_ftp_mib=16,
            term_s=2, starve_s=8, kills=20, soak_s=600, slice_s=10, soak_rate=0)

# Beside other tests p99 is the machine's. There the median is looked at, and below this nobody is
# called starved: who lets one peer have its way keeps the others waiting for more than a second.
CI_P50_US = 200000


class Result:
    """Figures of one scene with one engine, and whether what must hold does."""

    def __init__(self, scene, engine):
        self.scene = scene
        self.engine = engine
        self.figures = {}
        self.needs = []

    def figure(self, name, value):
        self.figures[name] = round(value, 3) if isinstance(value, float) else value

    def need(self, text, found, limit, least=False):
        """`found` must be at most the limit, or at least."""
        self.add(text, found, limit, found >= limit if least else found <= limit, least=least)

    def need_equal(self, text, found, wanted):
        self.add(text, found, wanted, found == wanted, equal=True)

    def met(self):
        return all(need["met"] for need in self.needs)

    def add(self, text, found, limit, met, **kind):
        found = round(found, 3) if isinstance(found, float) else found
        limit = round(limit, 3) if isinstance(limit, float) else limit
        self.needs.append({"text": text, "found": found, "limit": limit, "met": bool(met), **kind})


class Mice:
    """A run of weir-load: well-behaved clients in an open loop, or with rate 0 a closed one."""

    def __init__(self, stage, address, seconds, *options, rate=None, connections=None):
        size = stage.size
        rate = size.mice_rate if rate is None else rate
        # Without a warm-up the first answers count, however late they are.
        warmup = "0.2" if size.strict else "0"
        command = [stage.load, "echo", "--connect", address,
                   "--connections", str(connections or size.mice), "--duration", str(seconds),
                   "--warmup", warmup, "--verify", "full", "--json", "-", *options]
        if rate:
            command += ["--rate", str(rate)]
        if size.strict:
            command += ["--cpu", "1"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        stage.context.callback(end_process, self.process)

    def report(self):
        output, error = self.process.communicate(timeout=700)
        if not output:
            raise AssertionError(f"weir-load: {error.decode()}")
        return json.loads(output)


def percentile_us(report, percent):
    """Of the response times, which count from when a request was due."""
    buckets = report["histograms"]["response"]["buckets"]
    left = sum(count for _, count in buckets) * percent / 100
    for value, count in buckets:
        left -= count
        if left <= 0:
            return value / 1000
    return 0.0


class Peers:
    """A run of hostile-peers."""

    def __init__(self, stage, role, address, humble=False, **options):
        command = [stage.peers]
        for name, value in options.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        command += [role, address]
        # Where they share a CPU with mice whose time counts, these are not to wait for them.
        self.nice = humble * (19 if stage.size.strict else 10)
        self.cpus = {1} if stage.size.strict else os.sched_getaffinity(0)
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        preexec_fn=self.prepare)
        stage.context.callback(end_process, self.process)
        self.lines = programs.Lines(self.process.stdout.fileno())

    def prepare(self):
        os.sched_setaffinity(0, self.cpus)
        os.nice(self.nice)

    def until(self, text):
        return self.lines.until(text)

    def end(self):
        """Tells them to end and waits for their report."""
        self.process.stdin.close()
        return self.report()

    def report(self):
        """Waits for the report of peers that end by themselves."""
        while not (line := self.lines.next()).startswith("{"):
            pass
        self.process.wait(programs.LIMIT)
        return json.loads(line)


def let_rest(server):
    """Waits until the server has done what it can do: it sleeps each time that it is looked at."""
    end = time.monotonic() + REST_LIMIT_S
    looks = 0
    while looks < REST_LOOKS and time.monotonic() < end:
        let_run(REST_S)
        looks = looks + 1 if machine.at_rest(server.process.pid) else 0


def end_process(process):
    if process.poll() is None:
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe:
            pipe.close()


class Stage:
    """An engine, a size, and all that is to be ended afterwards."""

    def __init__(self, engine, size, weir=None):
        self.engine = engine
        self.size = size
        self.weir = weir or programs.WEIR
        self.load = os.environ["WEIR_LOAD"]
        self.peers = os.environ["HOSTILE_PEERS"]
        self.context = contextlib.ExitStack()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.context.close()

    def folder(self):
        path = tempfile.mkdtemp(prefix="weir-hostile-")
        self.context.callback(shutil.rmtree, path)
        return path

    def server(self, *options, name="echo", **more):
        if self.size.strict and self.engine != "blocking":
            options += ("--cpu", "0")
        server = programs.Server(self.engine, *options, program=(self.weir, name), **more)
        self.context.callback(server.kill)
        return server

    def blocking(self):
        return self.engine == "blocking"


def alive(result, server):
    """The server lives, and serves whoever comes now."""
    result.need_equal("the server has ended", server.process.poll() is not None, False)
    answer = ""
    for _ in range(5):  # a scene's last refusals may still be under way
        try:
            with programs.connect(server.addresses[0]) as client:
                client.sendall(b"still there?")
                answer = programs.receive(client, 12).decode()
        except ConnectionError as error:
            answer = type(error).__name__
            continue
        except TimeoutError:
            answer = f"nothing in {programs.LIMIT} s"
        break
    result.need_equal("a new client is served", answer, "still there?")


def taken_by(server):
    """The descriptors of a server, and those in its rings' tables."""
    pid = server.process.pid
    return machine.descriptors(pid), machine.direct_descriptors(pid)


def settled(server, idle):
    """The same of a server whose load has just ended: it may still be closing some."""
    for _ in range(SETTLE_TRIES):
        taken = taken_by(server)
        if all(now <= before for now, before in zip(taken, idle)):
            break
        let_run(SETTLE_S)
    return taken


def given_back(result, server, idle, when):
    """No more descriptors are taken than there were, `when` it was that they were counted."""
    taken = settled(server, idle)
    result.need(f"descriptors more than {when}", taken[0] - idle[0], 0)
    result.need(f"direct descriptors more than {when}", taken[1] - idle[1], 0)


def terminate(result, server, size, limit_s):
    """SIGTERM; the server must have ended in order within the limit."""
    begin = time.monotonic()
    server.signal(signal.SIGTERM)
    try:
        status = server.process.wait(limit_s + programs.LIMIT)
    except subprocess.TimeoutExpired:
        status = "none"
    took = time.monotonic() - begin
    result.need_equal("exit status after SIGTERM", status, 0)
    # Beside other tests a second or two may be the machine's.
    result.need("SIGTERM until the end, s", took, limit_s + (0.25 if size.strict else 5))
    return took


def counters(server, path):
    """The statistics that SIGUSR1 makes the server write to the path."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    server.signal(signal.SIGUSR1)
    end = time.monotonic() + programs.LIMIT
    while time.monotonic() < end:
        with contextlib.suppress(FileNotFoundError, ValueError):
            with open(path, encoding="utf-8") as file:
                return json.load(file)
        select.select([], [], [], 0.01)
    raise AssertionError("no statistics after SIGUSR1")


def answered(report):
    """The requests that were answered. A run waits for 5 s, however short its window was."""
    requests = sum(count for _, count in report["histograms"]["response"]["buckets"])
    return requests - report["requests"]["censored"]


def no_errors(result, report, text="errors of the mice"):
    result.need_equal(text, report["errors"]["total"], 0)
    result.need("requests of the mice", answered(report), 1, least=True)


def median(values):
    return statistics.median(values)
