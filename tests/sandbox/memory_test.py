"""Filters where there is no memory: a thread has its own or there is no such thread."""

import contextlib
import resource
import signal
import subprocess
import sys

from sandbox_programs import ENGINES, SandboxTestCase, programs
from programs import LIMIT, QUIET, connect, receive

KIB = 1024
# The loader alone needs more than the first; far behind what a start needs is the last.
FIRST_KIB, STEP_KIB, LAST_KIB = 4096, 256, 128 * KIB
# What the shell and the loader end with when they lack memory.
BEFORE_MAIN = (126, 127)
NEIGHBOURS, STRANGERS = 3, 8


def filters(pid):
    """What /proc says of the filters of the process's threads: "2" is one that has it."""
    return {thread["Seccomp"] for thread in programs.threads_of(pid)}


class MemoryTest(SandboxTestCase):
    """Limits on address space, which libseccomp 2.5.4 does not survive by itself."""

    def setUp(self):
        self.needs_filters()

    def start_with(self, engine, limit_kib):
        """Whether it serves under this limit; if it does not start, it says why in words."""
        command = ("sh", "-c", 'ulimit -v "$0" && exec "$@"', str(limit_kib), programs.WEIR,
                   "echo", "--engine", engine, "--sandbox", "on", "--listen", "127.0.0.1:0",
                   "--log", "/dev/null", "--drain-timeout", "1")
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            try:
                line = process.stdout.readline().decode()
                if line:
                    self.assertEqual(filters(process.pid), {"2"}, (engine, limit_kib))
                    if not self.exchange(line.split()[2]):
                        return False  # its filters hold; how it ends is another test's question
                    process.send_signal(signal.SIGTERM)
                status = process.wait(LIMIT)
                said = process.stderr.read().decode()
            finally:
                process.kill()
        self.said.append(said)
        if line:
            self.assertEqual(status, 0, (engine, limit_kib, said))
            return True
        if status not in BEFORE_MAIN:
            self.assertEqual(status, 1, (engine, limit_kib, said))
            self.assertRegex(said, r"^weir echo: \S.*: \S", (engine, limit_kib))
        return False

    def exchange(self, address):
        """Whether a connection is served: where only the start had memory it is refused, or waits
        for some."""
        with contextlib.suppress(ConnectionError, TimeoutError), connect(address) as client:
            client.settimeout(QUIET)
            client.sendall(b"Hello")
            return receive(client, 5) == b"Hello"
        return False

    # A start whose memory ends anywhere is refused in words, or all of its threads have their
    # filters when it says that it listens. Some of the limits end it while filters are built, some
    # while threads are made.
    def test_start_under_any_limit(self):
        for engine in ENGINES:
            self.said = []
            limits = iter(range(FIRST_KIB, LAST_KIB, STEP_KIB))
            self.assertTrue(any(self.start_with(engine, limit_kib) for limit_kib in limits))
            for reason in ("seccomp filters cannot be built", ": start: "):
                self.assertTrue(any(reason in said for said in self.said), (engine, self.said))

    def greet(self, client):
        client.sendall(b"Hello")
        self.assertEqual(receive(client, 5), b"Hello")

    # Where the memory for a connection's thread ends, its neighbours are served, and each thread
    # that there is has its filter: those from before, and those that come when there is memory
    # again.
    def test_threads_of_connections_under_a_limit(self):
        server = self.start("blocking", "--sandbox", "on")
        pid = server.process.pid
        neighbours = [self.client(server) for _ in range(NEIGHBOURS)]
        for neighbour in neighbours:
            self.greet(neighbour)
        size = int(programs.status_of(pid)["VmSize"].removesuffix(" kB")) * KIB
        before = resource.prlimit(pid, resource.RLIMIT_AS)
        resource.prlimit(pid, resource.RLIMIT_AS, (size, before[1]))
        strangers = []
        for _ in range(STRANGERS):
            with contextlib.suppress(ConnectionResetError):  # refused faster than it is connected
                strangers.append(self.client(server))
        server.log.until("accepting pauses: Resource temporarily unavailable")
        for neighbour in neighbours:
            self.greet(neighbour)
        self.assertEqual(filters(pid), {"2"})
        resource.prlimit(pid, resource.RLIMIT_AS, before)
        for client in strangers:
            client.close()
        for _ in range(STRANGERS):
            self.greet(self.client(server))
        self.assertEqual(filters(pid), {"2"})
        server.signal(signal.SIGTERM)
        for neighbour in neighbours:
            neighbour.close()
        self.assertEqual(server.wait(), 0)


if __name__ == "__main__":
    sys.exit(programs.main())
