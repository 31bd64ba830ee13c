"""What a trial costs: the CPU of its processes and of the machine, sampled while it runs.

A process is read by its CPU clock: nanoseconds, of all its threads, with those that ended and
io_uring's workers, and without any right. Ticks of 10 ms would be too coarse for such short trials.
"""

import os
import re
import time
from typing import NamedTuple

TICK_NS = 10 ** 9 // os.sysconf("SC_CLK_TCK")


def process_cpu_ns(pid):
    """The CPU time of a process and all its threads; 0 when it is gone."""
    try:
        # The clock id of a process: see clock_getcpuclockid(3). 2 is the scheduler's clock.
        return time.clock_gettime_ns((~pid << 3) | 2)
    except OSError:
        return 0


def children_of(pid):
    """The processes below this one, of all generations."""
    found = []
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            found = [int(word) for word in file.read().split()]
    except OSError:
        pass
    return found + [pid for child in found for pid in children_of(child)]


def reaped_cpu_ns(pid):
    """The CPU time of the children that this process has waited for, in whole ticks."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0
    return (int(fields[13]) + int(fields[14])) * TICK_NS


def group_pids(leader):
    """The processes of a group and their children elsewhere, the leader first: servers may have
    worker processes, and some leave the group."""
    pids, parents = [leader], {}
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != leader:
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                    _, parent, group = file.read().rpartition(")")[2].split()[:3]
            except (OSError, ValueError):
                continue
            parents[int(name)] = int(parent)
            if int(group) == leader:
                pids.append(int(name))
    # A parent has started before its child, but numbers begin again at the end of their range.
    for pid in pids:
        pids += [child for child, parent in parents.items() if parent == pid and child not in pids]
    return pids


def pss_bytes(pids):
    """Proportional memory of these processes; None where the kernel does not say."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii", errors="replace") as file:
                total += 1024 * int(re.search(r"^Pss: +(\d+)", file.read(), re.M)[1])
        except (OSError, TypeError):
            return None
    return total


MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ *(.*)\n"
                     r"(?:[^\n]*\n)*?Rss: +(\d+) kB\n(?:[^\n]*\n)*?Pss: +(\d+) kB\n", re.M)


def mappings(pid):
    """[(file or else its name, resident, proportional bytes)] of a process."""
    with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as file:
        return [(path, 1024 * int(resident), 1024 * int(part))
                for path, resident, part in MAPPING.findall(file.read())]


def pss_bytes_without(pids, others):
    """Proportional memory of these processes as if the others were not there: what they share with
    these, only because they are measured together, counts in full. None where it is not told."""
    try:
        shared = [{path for path, _, _ in mappings(pid)} for pid in others]
        total = 0
        for path, resident, part in (found for pid in pids for found in mappings(pid)):
            if part and path.startswith("/"):
                sharers = resident / part - sum(path in paths for paths in shared)
                part = resident / max(sharers, 1)
            total += part
    except OSError:
        return None
    return round(total)


def slab_bytes():
    """What the kernel's small objects use, sockets among them; of the whole machine."""
    with open("/proc/meminfo", encoding="ascii") as file:
        return 1024 * int(re.search(r"^Slab: +(\d+)", file.read(), re.M)[1])


def cpuacct_path():
    """The file with the CPU time of all processes in ns, or None. Only cgroup v1 has it."""
    with open("/proc/mounts", encoding="utf-8", errors="replace") as file:
        for line in file:
            _, folder, kind, options = line.split()[:4]
            path = os.path.join(folder, "cpuacct.usage")
            if kind == "cgroup" and "cpuacct" in options.split(",") and os.path.exists(path):
                return path
    return None


class Machine:
    """Reads the CPU time that the whole machine has spent, and what was stolen from it."""

    def __init__(self):
        self.stat = os.open("/proc/stat", os.O_RDONLY)
        self.usage = None
        path = cpuacct_path()
        if path:
            self.usage = os.open(path, os.O_RDONLY)
            # In a container the file may count the container alone.
            if int(os.pread(self.usage, 64, 0)) < 0.8 * self.read_stat()[1]:
                os.close(self.usage)
                self.usage = None
        self.source = path if self.usage is not None else "/proc/stat, CPUs minus idle"

    def read_stat(self):
        """Returns (not used, used by processes, stolen), each in ns over all CPUs."""
        fields = [int(f) * TICK_NS for f in os.pread(self.stat, 400, 0).split(b"\n")[0].split()[1:]]
        user, nice, system, idle, iowait, _, _, steal = fields[:8]
        return idle + iowait + steal, user + nice + system, steal

    def read(self):
        """Returns (CPU time, stolen time) in ns; only differences mean something."""
        unused, _, stolen = self.read_stat()
        if self.usage is not None:
            return int(os.pread(self.usage, 64, 0)), stolen
        # The idle time is exact, the sums of ticks beside it are not.
        return os.sysconf("SC_NPROCESSORS_ONLN") * time.monotonic_ns() - unused, stolen

    def close(self):
        for file in (self.stat, self.usage):
            if file is not None:
                os.close(file)


class Sample(NamedTuple):
    time: int
    server: int
    load: int
    own: int
    machine: int
    stolen: int


class Meter:
    """Takes samples of one trial, and says what was spent between any two moments."""

    def __init__(self, machine, server_pids, load_pids, slab, forks=False, group=None):
        self.forks = forks
        self.group = group
        self.slab = slab  # before the load
        self.memory = []
        self.machine = machine
        self.server_pids = server_pids
        self.load_pids = load_pids
        self.clocks = {}
        self.samples = []

    def clock(self, pid):
        """A worker process that ended keeps what it had spent when it was last seen."""
        self.clocks[pid] = max(process_cpu_ns(pid), self.clocks.get(pid, 0))
        return self.clocks[pid]

    def forking_cpu_ns(self):
        """Of the first process and all below it. One that ends while this looks is counted when
        its parent has waited for it: the sum lags, and never falls."""
        pids = [self.server_pids[0], *children_of(self.server_pids[0])]
        self.server_pids = pids
        now = sum(process_cpu_ns(pid) + reaped_cpu_ns(pid) for pid in pids)
        return max(now, self.samples[-1].server if self.samples else 0)

    def source(self):
        """Where the server's CPU time comes from."""
        if self.group:
            return "its control group"
        return "clocks, and what ended in steps of 10 ms" if self.forks else "clocks"

    def server_ns(self):
        if self.forks and not self.group:
            return self.forking_cpu_ns()
        clocks = sum(map(self.clock, self.server_pids))
        return self.group.read_ns() if self.group else clocks

    def take(self):
        # The processes' clocks first: reading them brings the groups' counters up to date.
        server = self.server_ns()
        load = sum(map(self.clock, self.load_pids))
        own = time.process_time_ns()
        self.samples.append(Sample(time.monotonic_ns(), server, load, own, *self.machine.read()))

    def take_memory(self):
        """Also looks for processes that the server started meanwhile, one per session perhaps."""
        self.server_pids += [pid for pid in group_pids(self.server_pids[0])
                             if pid not in self.server_pids]
        self.memory.append((time.monotonic_ns(), {
            "pss": pss_bytes(self.server_pids), "slab_growth": slab_bytes() - self.slab}))

    def memory_at(self, moment):
        """The last sample until then: a load with many connections takes time to open them."""
        until = [values for time_ns, values in self.memory if time_ns <= moment]
        return until[-1] if until else {"pss": None, "slab_growth": 0}

    def widest_gap(self, start, end):
        """The longest time between two samples that touches this window."""
        pairs = zip(self.samples, self.samples[1:])
        return max((b.time - a.time for a, b in pairs if b.time > start and a.time < end),
                   default=0)

    def at(self, moment):
        """The sample of that moment, interpolated: between two samples the load is steady."""
        samples = self.samples
        after = next((i for i, s in enumerate(samples) if s.time >= moment), len(samples) - 1)
        before = max(after - 1, 0)
        low, high = samples[before], samples[after]
        if high.time == low.time:
            return low
        part = min(max((moment - low.time) / (high.time - low.time), 0), 1)
        return Sample(*(a + (b - a) * part for a, b in zip(low, high)))

    def spent(self, start, end):
        """The difference of two moments as a Sample: what each spent in that time."""
        first, last = self.at(start), self.at(end)
        return Sample(*(b - a for a, b in zip(first, last)))
