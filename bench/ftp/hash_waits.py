#!/usr/bin/python3
"""Says what the loop of `weir ftp` waited for while clients logged in with hashes: the trace of its
processor tells the hash's part from that of a hypervisor, which a client's clock cannot.

usage: hash_waits.py --build DIR [--engine NAME] [--blocks N] [--logins N] [--json FILE]

Needs root, tracefs and two CPUs; the load is that of compare.py's work `hashes`. A wait is the time
from when the loop is woken, or put aside, until it runs. Its cause is who had most of it:

hash       the helper computed, and the scheduler let it
unmapping  the helper was giving back the hash's memory when the loop was woken
machine    nothing ran, or the helper did while the processor took no interrupt for most of the
           time: a virtual processor that was not run, or that its host held in a page fault
others     other programs, and threads of the kernel
"""

import argparse
import collections
import contextlib
import json
import os
import re
import signal
import sys
import tempfile
import time

import compare

SERVER_CPU = 1
INSTANCE = f"/sys/kernel/tracing/instances/weir-{os.getpid()}"
EVENTS = {
    "sched/sched_waking": 'comm == "weir"',
    "sched/sched_switch": f"CPU == {SERVER_CPU}",
    "ipi/ipi_send_cpu": f"cpu == {SERVER_CPU}",
    "irq_vectors/reschedule_entry": f"CPU == {SERVER_CPU}",
    "syscalls/sys_exit_io_uring_enter": f"CPU == {SERVER_CPU}",
    "syscalls/sys_exit_epoll_pwait2": f"CPU == {SERVER_CPU}",
    "syscalls/sys_enter_munmap": f"CPU == {SERVER_CPU}",
    "syscalls/sys_exit_munmap": f"CPU == {SERVER_CPU}",
}
CAUSES = ("hash", "unmapping", "machine", "others")
LIMITS_US = (1000, 2000, 5000)
KEPT_US = 500  # shorter waits are only counted
LINE = re.compile(r"\s*(.+)-(\d+)\s+\[\d+\]\s+\S+\s+(\d+)\.(\d+): (\w+)(.*)")
SWITCH = re.compile(r"prev_pid=(\d+) .*prev_state=(\S+) ==> .*next_pid=(\d+)")


def write(name, text):
    with open(os.path.join(INSTANCE, name), "w", encoding="ascii") as file:
        file.write(text)


@contextlib.contextmanager
def tracing():
    """A buffer of its own, so that nobody else's trace is touched."""
    os.mkdir(INSTANCE)
    try:
        write("trace_clock", "mono")
        write("buffer_size_kb", "32768")
        for event, condition in EVENTS.items():
            write(f"events/{event}/filter", condition)
            write(f"events/{event}/enable", "1")
        yield
    finally:
        write("events/enable", "0")
        os.rmdir(INSTANCE)


def events_of(lines):
    """The time in us, the thread, the event's name and its text."""
    for match in filter(None, map(LINE.match, lines)):
        _, thread, seconds, fraction, name, text = match.groups()
        yield int(seconds) * 1000000 + int(fraction), int(thread), name, text


def read_trace():
    write("tracing_on", "0")
    with open(os.path.join(INSTANCE, "trace"), encoding="utf-8", errors="replace") as file:
        return list(events_of(file))


class Wait:
    """One wait of the loop that has not ended."""

    def __init__(self, begin, unmapping):
        self.begin = self.counted = begin
        self.unmapping = unmapping
        self.had = collections.Counter()  # us by who ran
        self.sent = None  # when the processor was told to look again
        self.deaf = 0  # us until it took that

    def ran(self, who, now):
        self.had[who] += now - self.counted
        self.counted = now

    def cause(self):
        who = max(self.had, key=self.had.get, default="machine")
        if who != "hash":
            return who
        if self.unmapping:
            return "unmapping"
        return "machine" if 2 * self.deaf > sum(self.had.values()) else "hash"


class Processor:
    """What a trace says of the server's processor."""

    def __init__(self, loop, helpers):
        self.loop = loop
        self.helpers = helpers
        self.current = None
        self.unmapping = False
        self.wait = None
        self.waits = []  # pairs of us and a cause

    def who(self, thread):
        if thread in self.helpers:
            return "hash"
        return "others" if thread else "machine"

    def switch(self, now, before, state, after):
        self.current = after
        if self.wait:
            self.wait.ran(self.who(before), now)
        elif before == self.loop and state.startswith("R"):
            self.wait = Wait(now, False)
        if self.wait and after == self.loop:
            self.waits.append((now - self.wait.begin, self.wait.cause()))
            self.wait = None

    def take(self, now, thread, name, text):
        if name == "sched_switch":
            before, state, after = SWITCH.search(text).groups()
            self.switch(now, int(before), state, int(after))
        elif thread == self.loop and self.current not in (None, thread):
            self.switch(now, 0, "R", thread)  # not every switch away from the idle task is traced
        if name == "sys_munmap" and thread in self.helpers:
            self.unmapping = text.startswith("(")
        elif name == "sched_waking" and f" pid={self.loop} " in text:
            if not self.wait and self.current not in (None, self.loop):
                self.wait = Wait(now, self.unmapping and self.current in self.helpers)
        elif name == "ipi_send_cpu" and self.wait and self.wait.sent is None:
            self.wait.sent = now
        elif name == "reschedule_entry" and self.wait and self.wait.sent and not self.wait.deaf:
            self.wait.deaf = now - self.wait.sent


def waits_of(events, threads):
    """All waits of the loop, which is the one of the server's threads that is woken most."""
    woken = collections.Counter(
        thread for thread in threads for _, _, name, text in events
        if name == "sched_waking" and f" pid={thread} " in text)
    loop = woken.most_common(1)[0][0]
    processor = Processor(loop, set(threads) - {loop})
    for event in events:
        processor.take(*event)
    return processor.waits


def measure(engine, arguments, folder, hashes):
    """One server, with hashes or without; the client's figures beside the trace's."""
    server = compare.start(f"weir {engine}", arguments, folder)
    try:
        compare.hashed_logins(server, 10)  # until all threads are there
        threads = [int(thread) for pid in server.processes()
                   for thread in os.listdir(f"/proc/{pid}/task")]

        def load():
            with tracing():
                if hashes:
                    compare.hashed_logins(server, arguments.logins)
                else:
                    time.sleep(arguments.logins / 12)
                return waits_of(read_trace(), threads)

        waits, output = compare.noops_beside(server, load)
    finally:
        server.end()
    run = {"engine": engine, "hashes": hashes, "waits": len(waits),
           "long": sorted(wait for wait in waits if wait[0] >= KEPT_US),
           **compare.waits(output, "client")}
    print(f"{engine:8} {'hashes' if hashes else 'without':8} {len(waits):6} waits; the client's "
          f"longest {run['client max ms']:.1f} ms", flush=True)
    return run


def tell(runs):
    for engine, hashes in sorted({(run["engine"], run["hashes"]) for run in runs}):
        chosen = [run for run in runs if (run["engine"], run["hashes"]) == (engine, hashes)]
        print(f"\n{engine}, {'hashes' if hashes else 'without'}: {len(chosen)} runs, "
              f"{sum(run['waits'] for run in chosen)} waits")
        for cause in CAUSES:
            long = [us for run in chosen for us, why in run["long"] if why == cause]
            counts = ", ".join(f"{sum(us > limit for us in long)} over {limit // 1000} ms"
                               for limit in LIMITS_US)
            print(f"  {cause:10} {counts}, longest {max(long, default=0) / 1000:.1f} ms")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--build", required=True, help="with the programs, such as build/release")
    parser.add_argument("--engine", action="append", help="repeatable; default uring")
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--logins", type=int, default=60, help="in each run")
    parser.add_argument("--json", metavar="FILE", help="every wait of half a millisecond or more")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {1 - SERVER_CPU})
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    engines = arguments.engine or ["uring"]
    runs, started = [], time.strftime("%Y-%m-%d %H:%M:%S %z")
    with tempfile.TemporaryDirectory(prefix="weir-", dir="/dev/shm") as top:
        folder = argparse.Namespace(top=top, root=top)
        for block in range(arguments.blocks):
            for engine in engines[block % len(engines):] + engines[:block % len(engines)]:
                runs += [measure(engine, arguments, folder, hashes) for hashes in (True, False)]
    tell(runs)
    if arguments.json:
        with open(arguments.json, "w", encoding="ascii") as file:
            json.dump({"command": f"hash_waits.py {' '.join(sys.argv[1:])}", "started": started,
                       "kernel": os.uname().release, "runs": runs}, file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
