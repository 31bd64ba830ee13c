"""The CPU time of a server whose processes come and go: counted by a control group of its own.

The clock of a process goes with it, and what its parent has waited for is told in steps of 10 ms.
A group counts whoever was ever in it: nanoseconds in cgroup v1 (cpuacct), microseconds in v2. No
controller is switched on for it, so it changes nothing else.
"""

import contextlib
import itertools
import os
import re
import signal
import time

from . import Problem

PREFIX = "weir-bench-"
END_TRIES, END_PAUSE_S = 200, 0.005
NUMBERS = itertools.count()


def hierarchies(mounts, own):
    """[(folder of our own group, file that counts)] from /proc/mounts and /proc/self/cgroup, the
    best first: where cpu and cpuacct are one, a group would be scheduled apart as well."""
    paths = {}
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        paths.update(dict.fromkeys(controllers.split(","), path))
    found = []
    for line in mounts.splitlines():
        _, folder, kind, options = line.split()[:4]
        words = options.split(",")
        if kind == "cgroup" and "cpuacct" in words and "cpuacct" in paths:
            found.append((2 if "cpu" in words else 0, folder + paths["cpuacct"], "cpuacct.usage"))
        if kind == "cgroup2" and "" in paths:
            found.append((1, folder + paths[""], "cpu.stat"))
    return [(folder.rstrip("/"), file) for _, folder, file in sorted(found)]


def read_file(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


class Group:
    """A group that is made empty; enter() is called in a child between fork and exec."""

    def __init__(self, parent, counter):
        self.path = os.path.join(parent, f"{PREFIX}{os.getpid()}-{next(NUMBERS)}")
        os.mkdir(self.path)
        try:
            self.file = os.open(os.path.join(self.path, counter), os.O_RDONLY)
            self.members = os.open(os.path.join(self.path, "cgroup.procs"), os.O_RDWR)
        except OSError:
            os.rmdir(self.path)
            raise

    def enter(self):
        os.write(self.members, b"0")

    def read_ns(self):
        """Of all that were ever in it. Exact for those that sleep."""
        text = os.pread(self.file, 400, 0).decode()
        if found := re.search(r"usage_usec (\d+)", text):
            return 1000 * int(found[1])
        return int(text)

    def pids(self):
        return [int(word) for word in read_file(os.path.join(self.path, "cgroup.procs")).split()]

    def close(self):
        """Kills what is left in it and removes it; what will not die keeps it."""
        for number in range(END_TRIES):
            for pid in self.pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(OSError):
                os.rmdir(self.path)
                break
            if number:
                time.sleep(END_PAUSE_S)
        os.close(self.file)
        os.close(self.members)


def remove_left_over(parent):
    """A weir-bench that was killed has left its groups, without a process in them."""
    for name in os.listdir(parent):
        found = re.fullmatch(PREFIX + r"(\d+)-\d+", name)
        if found and not os.path.exists(f"/proc/{found[1]}"):
            with contextlib.suppress(OSError):
                os.rmdir(os.path.join(parent, name))


def make():
    """A new group below our own; a Problem or an OSError where there can be none."""
    reason = Problem("no hierarchy counts CPU time")
    for parent, counter in hierarchies(read_file("/proc/mounts"), read_file("/proc/self/cgroup")):
        try:
            remove_left_over(parent)
            return Group(parent, counter)
        except OSError as error:
            reason = error
    raise reason


def lacks():
    """Why no group can be made here; None if one can."""
    try:
        make().close()
    except (Problem, OSError) as error:
        return str(error)
    return None


@contextlib.contextmanager
def around(wanted):
    """A group for one server if it is wanted and can be made, else None. What is in it ends with
    it."""
    group = None
    if wanted:
        with contextlib.suppress(Problem, OSError):
            group = make()
    try:
        yield group
    finally:
        if group:
            group.close()
