"""Each call of a server's start fails once: it says why in one line, or it starts and serves."""

import os
import signal
import subprocess
import tempfile
import unittest

import walks

import programs

# What /proc says of a thread with a filter; a program with a sanitizer takes none.
FILTERED = "0" if os.environ["SANITIZED"] else "2"


class StartWalk(unittest.TestCase):
    """The command line's way, from main() to the listening line and to the end."""

    def begin(self, *options):
        folder = tempfile.TemporaryDirectory(prefix="weir-", dir="/dev/shm")
        self.addCleanup(folder.cleanup)
        self.strike = walks.Strike(folder.name)
        self.log = os.path.join(folder.name, "log")
        self.command = [walks.WEIR_FAULTS, *options, "--listen", "127.0.0.1:0", "--log", self.log,
                        "--stats-json", os.path.join(folder.name, "stats"), "--drain-timeout", "1"]

    def serve(self, process):
        """The first line that it prints, if it serves; the call that fails may be one of these."""
        line = process.stdout.readline().decode()
        self.strike.disarm()
        if not line:
            return False
        self.check_filters(process.pid)
        try:
            with programs.connect(line.split()[2]) as client:
                client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                self.assertTrue(client.recv(100))
        except ConnectionError:
            return False  # a loop that is not confined begins behind the line, and may fail there
        process.send_signal(signal.SIGTERM)
        return True

    def check_filters(self, pid):
        """No thread is without its filter when the first connection may come."""
        self.assertEqual({thread["Seccomp"] for thread in programs.threads_of(pid)}, {FILTERED},
                         str(self.strike))

    def step(self, name="", number=0):
        """Whether a server that was started served and ended in order."""
        self.strike.arm(name, number)
        environment = {**os.environ, "WEIR_STRIKE": self.strike.path}
        with subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=environment) as process:
            try:
                served = self.serve(process)
                said = process.stderr.read().decode()
                status = process.wait(walks.PATIENCE)
            finally:
                process.kill()
        if served:
            self.assertEqual((status, said), (0, ""), str(self.strike))
        else:
            # One line, which begins with the command, and has more than a number to say. A value
            # that could not be kept for want of memory is refused like a wrong one: status 2.
            self.assertIn((status, said.count("\n")), ((1, 1), (2, 1)), f"{self.strike}: {said}")
            self.assertRegex(said, r"^weir \w+: \S.*: \S", str(self.strike))
        return served

    def walk(self, *options):
        self.begin(*options)
        self.assertTrue(self.step())
        most = self.strike.counts()
        served = refused = 0
        for name, count in most.items():
            for number in range(1, count + 1):
                if self.step(name, number):
                    served += 1
                else:
                    refused += 1
        if FILTERED != "0":
            self.assertLessEqual({"seccomp", "memfd_create"}, set(most))
        print(f"# {options[0]}: {served} served, {refused} refused: {', '.join(sorted(most))}")
        self.assertGreater(refused, 5)
        self.assertGreater(served, 0)
        return set(most)

    def test_echo_on_uring(self):
        """The ring's set-up and registrations. A loop that is not confined enables its ring behind
        the listening line, where the walk has ended."""
        self.assertLessEqual({"ring setup", "ring register", "ring eventfd"},
                             self.walk("echo", "--engine", "uring"))

    def test_echo_on_epoll(self):
        """Without a ring, and with more listeners."""
        self.assertLessEqual({"socket", "bind", "listen", "epoll_create1", "epoll_ctl"},
                             self.walk("echo", "--engine", "epoll", "--threads", "2"))

    def test_http(self):
        """A root to open, a log for requests and a memory for files."""
        self.assertIn("open", self.walk("http", "--engine", "epoll", "--root", "/usr/include",
                                        "--access-log", "/dev/null"))

    def test_ftp(self):
        """Users to read."""
        self.assertIn("open", self.walk("ftp", "--engine", "blocking", "--root", "/usr/include",
                                        "--anonymous", "--user", "a:plain:b"))


if __name__ == "__main__":
    unittest.main()
