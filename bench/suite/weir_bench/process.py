"""Children of a trial: started on their CPUs, ended whatever happens.

Each child leads a process group of its own, so Ctrl-C reaches only weir-bench, which then ends them
in order. Should weir-bench itself be killed, the kernel kills them (PR_SET_PDEATHSIG).
"""

import os
import select
import signal
import subprocess
import time

from .namespace import checked

PR_SET_PDEATHSIG = 1
POLL_SECONDS = 0.005
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Child:
    """One program. Its output goes to files under `folder`, so it never waits for a reader; one
    that talks is written to and read from instead."""

    def __init__(self, what, command, folder, cpus=None, namespace=None, talks=False, group=None):
        self.what = what
        self.command = command
        self.status = None
        self.usage = None
        self.paths = [os.path.join(folder, f"{what}.{name}") for name in ("out", "err")]

        parent = os.getpid()

        def prepare():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
            checked("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            # A parent that was killed before this line sends no signal any more.
            if os.getppid() != parent:
                os.kill(os.getpid(), signal.SIGKILL)
            if cpus:
                os.sched_setaffinity(0, cpus)
            if group:
                group.enter()
            if namespace:
                namespace.enter()

        with open(self.paths[0], "wb") as out, open(self.paths[1], "wb") as err:
            # preexec_fn is safe here: this program has no threads.
            self.process = subprocess.Popen(command, bufsize=0,
                                            stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
                                            stdout=subprocess.PIPE if talks else out, stderr=err,
                                            start_new_session=True, preexec_fn=prepare)
        self.pid = self.process.pid
        self.heard = b"" if talks else None
        self.alive = os.pidfd_open(self.pid)  # can be read when it is over

    def say(self, text):
        """Writes a line to one that talks. Whether it is still there, hear() tells."""
        try:
            self.process.stdin.write(text.encode() + b"\n")
        except BrokenPipeError:
            pass

    def hear(self, seconds, end=b"\n", other=None):
        """What one that talks says, up to a line's end or with end=None to its own; None if that
        does not come in time, or not before the other child ends."""
        limit = time.monotonic() + seconds
        file = self.process.stdout.fileno()
        poll = select.poll()
        poll.register(file, select.POLLIN)
        if other:
            poll.register(other.alive, select.POLLIN)
        while end is None or end not in self.heard:
            left = limit - time.monotonic()
            ready = [found for found, _ in poll.poll(1000 * max(left, 0))]
            if file not in ready:
                return None
            more = os.read(file, 1 << 20)
            self.heard += more
            if not more and end is not None:
                return None
            if not more:
                break
        text, _, self.heard = self.heard.partition(end) if end else (self.heard, b"", b"")
        return text.decode(errors="replace")

    def hear_the_rest(self, seconds):
        """Ends its input; what it says after that."""
        self.process.stdin.close()
        return self.hear(seconds, None)

    def ended(self):
        """Whether it is over. It stays a zombie, so that its clocks can still be read."""
        if self.status is not None:
            return True
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, flags) is not None

    def wait(self, seconds):
        """Whether it ended within that time."""
        limit = time.monotonic() + seconds
        while not self.ended():
            if time.monotonic() > limit:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def collect(self):
        """Reaps it, and first kills what it left in its group. Returns its exit status."""
        if self.status is None:
            self.signal_group(signal.SIGKILL)
            _, status, self.usage = os.wait4(self.pid, 0)
            self.status = os.waitstatus_to_exitcode(status)
            self.process.returncode = self.status
            os.close(self.alive)
            for pipe in filter(None, (self.process.stdin, self.process.stdout)):
                pipe.close()
        return self.status

    def signal_group(self, number):
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass

    def stop(self, seconds=5):
        """Asks it to end, insists after that time. Returns whether asking was enough."""
        polite = True
        if not self.ended():
            os.kill(self.pid, signal.SIGTERM)
            os.kill(self.pid, signal.SIGCONT)  # or one that was stopped would not hear of it
            polite = self.wait(seconds)
        self.collect()
        return polite

    def output(self):
        return read_text(self.paths[0])

    def last_words(self):
        """The end of what it said, for a message about its death."""
        out, err = (read_text(path).splitlines() for path in self.paths)
        # Complaints first: the other may be a whole report.
        return " | ".join((err or out)[-3:]) or "it said nothing"

    def how_it_ended(self):
        if self.status is None:
            return "is still running"
        if self.status < 0:
            return f"was ended by {signal.Signals(-self.status).name}"
        return f"ended with status {self.status}"


class Children:
    """Use in a `with`: on the way out, for any reason, every child is ended."""

    def __init__(self):
        self.list = []
        self.ports = set()  # that servers among them were told to use

    def start(self, *arguments, **options):
        # An interruption between the child's start and its place in the list would lose it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        try:
            child = Child(*arguments, **options)
            self.list.append(child)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return child

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        for child in reversed(self.list):
            child.stop(5 if kind is None else 1)


def read_text(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
