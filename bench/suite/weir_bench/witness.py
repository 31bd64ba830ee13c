"""What is looked at before and after a load: the network's counters, the server's threads, clocks.

All of it is read from /proc, outside of the time that is measured.
"""

import ctypes
import mmap
import os
import re
import time

from .environment import read_line
from .namespace import LIBC

# From /proc/net/netstat, as names in the record.
NETWORK = {"ListenOverflows": "listen_overflows", "ListenDrops": "listen_drops",
           "TCPTimeouts": "tcp_timeouts", "TCPRetransFail": "retransmit_failures"}

LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int,
                      ctypes.c_long]
LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
LIBC.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
PROT_READ, MAP_SHARED = 1, 1
EVICT_TRIES, EVICT_PAUSE_S = 40, 0.05


def network_counters(pid):
    """The counters of the network that the process lives in; {} when it is gone."""
    values = {}
    lines = (read_line(f"/proc/{pid}/net/netstat") or "").splitlines()
    for names, numbers in zip(lines[::2], lines[1::2]):
        values.update(zip(names.split()[1:], numbers.split()[1:]))
    counters = {ours: int(values[name]) for name, ours in NETWORK.items() if name in values}
    if found := re.search(r"^TCP: .*\btw (\d+)", read_line(f"/proc/{pid}/net/sockstat") or "",
                          re.M):
        counters["time_wait"] = int(found[1])
    return counters


def threads(pids):
    """By thread id: CPU time in ns and how often it changed its CPU (None where not told)."""
    found = {}
    for pid in pids:
        try:
            names = os.listdir(f"/proc/{pid}/task")
        except OSError:
            continue
        for name in names:
            spent = read_line(f"/proc/{pid}/task/{name}/schedstat")
            told = re.search(r"^se\.nr_migrations\s*:\s*(\d+)",
                             read_line(f"/proc/{pid}/task/{name}/sched") or "", re.M)
            if spent:
                found[int(name)] = (int(spent.split()[0]), int(told[1]) if told else None)
    return found


def frequencies(cpus):
    """MHz of these CPUs as far as the kernel says."""
    text = read_line("/proc/cpuinfo") or ""
    every = dict(zip(re.findall(r"^processor\s*:\s*(\d+)", text, re.M),
                     re.findall(r"^cpu MHz\s*:\s*([\d.]+)", text, re.M)))
    return {cpu: float(every[str(cpu)]) for cpu in sorted(cpus) if str(cpu) in every}


class Witness:
    """Looks when it is made and again at compare()."""

    def __init__(self, pids, server_cpus):
        self.pids = pids
        self.cpus = server_cpus
        self.network = network_counters(pids[0])
        self.threads = threads(pids)
        self.mhz = frequencies(server_cpus)

    def compare(self):
        """What changed; to be called before the processes end."""
        network = network_counters(self.pids[0])
        spent, moves = [], 0
        for thread, (cpu_ns, migrations) in threads(self.pids).items():
            cpu_before, migrations_before = self.threads.get(thread, (0, 0))
            spent.append(cpu_ns - cpu_before)
            moves += (migrations or 0) - (migrations_before or 0)
        return {
            # TIME_WAIT is a level, not a counter.
            "network": {name: value - (0 if name == "time_wait" else self.network.get(name, 0))
                        for name, value in network.items()},
            "thread_cpu_ns": sorted(spent, reverse=True), "migrations": moves,
            "mhz": [list(self.mhz.values()), list(frequencies(self.cpus).values())],
        }


def residency(path):
    """The share of a file that lies in the page cache."""
    size = os.path.getsize(path)
    if not size:
        return 1.0
    file = os.open(path, os.O_RDONLY)
    try:
        start = LIBC.mmap(None, size, PROT_READ, MAP_SHARED, file, 0)
    finally:
        os.close(file)
    pages = -(-size // mmap.PAGESIZE)
    seen = ctypes.create_string_buffer(pages)
    try:
        if LIBC.mincore(start, size, seen) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), path)
    finally:
        LIBC.munmap(start, size)
    return sum(byte & 1 for byte in seen.raw) / pages


def prepare_file(path, cache):
    """Brings a file into the page cache ("warm") or out of it ("cold")."""
    file = os.open(path, os.O_RDONLY)
    try:
        if cache == "warm":
            while os.read(file, 1 << 20):
                pass
        else:
            os.fsync(file)
            # Pages that a socket still holds stay; its peer may be closing it just now.
            for _ in range(EVICT_TRIES):
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
                if residency(path) < 0.01:
                    break
                time.sleep(EVICT_PAUSE_S)
    finally:
        os.close(file)
