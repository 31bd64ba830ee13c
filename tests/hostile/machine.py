"""What the machine says about a process, and limits that are put on it."""

import contextlib
import os
import re
import resource

PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")
CGROUPS = "/sys/fs/cgroup/memory"


def status_bytes(pid, field):
    """0 of a process that has ended."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        found = re.search(rf"^{field}:\s+(\d+) kB", file.read(), re.M)
    return int(found[1]) * 1024 if found else 0


def resident(pid):
    return status_bytes(pid, "VmRSS")


def virtual(pid):
    return status_bytes(pid, "VmSize")


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def direct_descriptors(pid):
    """Places that are taken in the tables of the process's rings.

    The kernel leaves the table out while it is in the ring itself: that reads as none.
    """
    count = 0
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(f"/proc/{pid}/fd/{name}") != "anon_inode:[io_uring]":
                continue
            with open(f"/proc/{pid}/fdinfo/{name}", encoding="ascii") as file:
                table = file.read().partition("UserFiles:")[2].partition("UserBufs:")[0]
            count += len(re.findall(r"^\s*\d+: \S", table, re.M))
    return count


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def at_rest(pid):
    """Whether all threads of the process sleep: none of them only waits for a processor."""
    states = set()
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            with open(f"/proc/{pid}/task/{task}/stat", encoding="ascii") as file:
                states.add(file.read().rpartition(")")[2].split()[0])
    return states <= {"S", "I"}


def tcp_memory():
    """Bytes that all TCP sockets of the machine hold."""
    with open("/proc/net/sockstat", encoding="ascii") as file:
        return int(re.search(r"^TCP: .* mem (\d+)", file.read(), re.M)[1]) * PAGE


@contextlib.contextmanager
def lowered(pid, kind, value):
    """The process's soft limit, until the end of the block."""
    before = resource.prlimit(pid, kind)
    resource.prlimit(pid, kind, (value, before[1]))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # whether it lives is the scene's question
            resource.prlimit(pid, kind, before)


class Cgroup:
    """A memory cgroup (version 1) of our own for one process, removed at the end."""

    def __init__(self, limit):
        self.path = os.path.join(CGROUPS, f"weir-hostile-{os.getpid()}")
        self.limit = limit

    @staticmethod
    def missing():
        """Why there can be none here, or None."""
        if not os.path.exists(os.path.join(CGROUPS, "memory.limit_in_bytes")):
            return "no memory cgroup of version 1 is mounted here"
        if not os.access(CGROUPS, os.W_OK):
            return "making a cgroup needs root"
        return None

    def __enter__(self):
        os.mkdir(self.path)
        self.write("memory.limit_in_bytes", self.limit)
        return self

    def __exit__(self, *_):
        os.rmdir(self.path)

    def write(self, name, value):
        with open(os.path.join(self.path, name), "w", encoding="ascii") as file:
            file.write(str(value))

    def read(self, name):
        with open(os.path.join(self.path, name), encoding="ascii") as file:
            return file.read()

    def enter(self):
        """For preexec_fn: the process joins."""
        self.write("cgroup.procs", os.getpid())

    def kills(self):
        found = re.search(r"^oom_kill (\d+)", self.read("memory.oom_control"), re.M)
        return int(found[1])
