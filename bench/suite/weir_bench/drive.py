"""How a load takes its turn.

weir-load is told by a line on its standard input, and says by a line what it did. Another program
knows nothing of turns: it is stopped between them (SIGSTOP, SIGCONT), and ended by SIGINT, at which
it must print what it did in all. How much of that belongs to a turn the kernel says: what the load
wrote in it (/proc/PID/io), as all of its requests have one length; that this can be so is checked
at the end, by all that it wrote and all that it says it did. A request that was sent belongs
to its turn, answered or not: the server answers it before it sleeps, and the next turn begins when
it does.
"""

import json
import os
import signal
import time

from .namespace import checked
from .process import read_text
from .trial import LATE_SECONDS, READY_SECONDS, TrialFailed

ENDING_SECONDS = 10
STOP_SECONDS = 30        # all of its threads have stopped by then
STOP_POLL_SECONDS = 0.0001
OTHER_WRITES_MAX = 1024  # bytes beside its requests and its output: to wake its threads


def of(load, child, server):
    """The driver of this load's child, beside that server."""
    return (Paused if load.pauses() else Told)(child, server)


class Driver:
    def __init__(self, child, server):
        self.child, self.server = child, server

    def check_server(self):
        if self.server.ended():
            self.server.collect()
            raise TrialFailed(f"the server {self.server.how_it_ended()} under load: "
                              f"{self.server.last_words()}")

    def fail(self):
        """The load is over too early."""
        # Its output ends before it does.
        if self.child.wait(ENDING_SECONDS):
            self.child.collect()
        raise TrialFailed(f"the load {self.child.how_it_ended()}, and its turn is not over: "
                          f"{self.child.last_words()}")


class Told(Driver):
    """weir-load with --turns."""

    def begin(self):
        self.hear(READY_SECONDS)

    def hear(self, seconds):
        """Its next line."""
        line = self.child.hear(seconds, other=self.server)
        self.check_server()
        if line is None:
            self.fail()
        try:
            return json.loads(line)
        except ValueError:
            raise TrialFailed(f"the load's output is not understood: {line[:80]}") from None

    def turn(self, word, seconds):
        """What it did, in what time."""
        self.child.say(f"{word} {1000 * seconds:g}")
        return self.hear(seconds + LATE_SECONDS)

    def end(self):
        """Lets it end; returns all that it printed, or None."""
        text = self.child.hear_the_rest(LATE_SECONDS)
        self.child.wait(LATE_SECONDS)
        return text

    def count(self, result, columns, in_flight):
        """Makes operations of what the turns noted: they are such."""


class Paused(Driver):
    """Any other program."""

    def begin(self):
        self.stop()

    def stop(self):
        limit = time.monotonic() + STOP_SECONDS
        os.kill(self.child.pid, signal.SIGSTOP)
        while not (found := os.waitid(os.P_PID, self.child.pid, os.WSTOPPED | os.WEXITED |
                                      os.WNOHANG | os.WNOWAIT)):
            if time.monotonic() > limit:
                raise TrialFailed(f"the load did not stop for {STOP_SECONDS} s")
            time.sleep(STOP_POLL_SECONDS)
        if found.si_code != os.CLD_STOPPED:
            self.fail()
        os.waitid(os.P_PID, self.child.pid, os.WSTOPPED)  # or the next stop would be this one

    def written(self):
        """Bytes, by all of its threads, since it began."""
        for line in read_text(f"/proc/{self.child.pid}/io").splitlines():
            if line.startswith("wchar: "):
                return int(line.split()[1])
        raise TrialFailed("what the load wrote is not known: this kernel has no /proc/PID/io "
                          "(CONFIG_TASK_IO_ACCOUNTING), or it may not be read")

    def turn(self, word, seconds):
        before, start = self.written(), time.monotonic_ns()
        os.kill(self.child.pid, signal.SIGCONT)
        time.sleep(seconds)
        self.stop()
        passed = time.monotonic_ns() - start
        self.check_server()
        return {"ops": self.written() - before, "length_ns": passed, "wall_ns": passed,
                "cpu_ns": None}

    def end(self):
        os.kill(self.child.pid, signal.SIGCONT)
        # To its first thread: another one would not end the sleep that it may be in.
        checked("tgkill", self.child.pid, self.child.pid, signal.SIGINT)
        if not self.child.wait(LATE_SECONDS):
            return None
        # As long as nobody has collected it. What it printed were no requests.
        self.total = self.written() - sum(map(os.path.getsize, self.child.paths))
        return self.child.output()

    def count(self, result, columns, in_flight):
        """Each turn has as much of the load's operations as of what it wrote, to the end. Its
        latencies mean nothing: the pauses are in them."""
        length = request_length(self.total, int(result.ops), in_flight)
        if length is None:
            raise TrialFailed(
                f"the load did {result.ops:g} operations and wrote {self.total} bytes with "
                f"write(2), with up to {in_flight} requests on their way: these are no requests of "
                "one length, so which it did in which turn is not known")
        columns["ops"][:] = [size / length for size in columns["ops"]]
        result.p50_ns = result.p99_ns = None
        result.ops = result.samples = sum(columns["ops"])
        result.ops_per_s = result.ops / (sum(columns["wall_ns"]) / 1e9)


def request_length(total, ops, in_flight):
    """In bytes, where so many were written for so many operations and what was on its way; None if
    no length fits. Of few operations several may fit: then it is between them."""
    most = total // ops if ops else 0
    for beside in (0, OTHER_WRITES_MAX):
        least = -(-max(total - beside, 1) // (ops + in_flight))
        if least <= most:
            return (least + most) / 2
    return None
