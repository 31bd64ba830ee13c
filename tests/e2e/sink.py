"""Drives weir-sink against weir's own server, and against servers whose replies are wrong."""

import hashlib
import json
import os
import subprocess
import unittest

import http_programs
import load_cli
import programs

SINK = os.environ.get("WEIR_SINK", "")
SIZE = 300000


def sink(address, path="/large.bin", connections="2", duration="0.1"):
    return subprocess.run([SINK, address, path, connections, "0", duration], capture_output=True,
                          text=True, timeout=programs.LIMIT, check=False)


def fnv(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


class Sink(http_programs.HttpTest):
    """What it drops is counted as exactly as if it had been read."""

    files = {"large.bin": hashlib.shake_128(b"sink").digest(SIZE), "empty": b""}

    def test_counts_whole_contents(self):
        """Length and content are those of the file, and the rate is that of its bytes."""
        def check(address):
            for duration in ("0.1", "1", "5"):  # a busy machine may come to none so soon
                run = sink(address, duration=duration)
                self.assertEqual((run.returncode, run.stderr), (0, ""))
                report = json.loads(run.stdout)
                if report["replies"]:
                    break
            self.assertEqual(report["length"], SIZE)
            self.assertEqual(report["hash"], fnv(self.files["large.bin"]))
            self.assertGreater(report["replies"], 0)
            # Replies that begin or end outside of the time count with their part inside. The time
            # has four digits behind the point.
            counted = report["bytes_per_s"] * report["measured_s"]
            self.assertLess(abs(counted - report["replies"] * SIZE),
                            2 * SIZE + 1 + 1e-4 * report["bytes_per_s"])
            self.assertAlmostEqual(report["ops_per_s"] * SIZE, report["bytes_per_s"],
                                   delta=SIZE * 1e-3)
        self.on_each_engine(check)

    def test_refuses_what_is_no_content(self):
        """A missing file and an empty one end it with status 1."""
        for path in ("/missing", "/empty"):
            run = sink(self.servers["uring"].addresses[0], path)
            self.assertEqual((run.returncode, run.stdout), (1, ""))
            self.assertIn("not what it has to be", run.stderr)

    def test_wrong_usage_is_refused(self):
        """Status 2 and one line of usage."""
        for values in (("x", "/", "1"), ("127.0.0.1:1", "a", "1"), ("127.0.0.1:1", "/", "0"),
                       ("127.0.0.1:1", "/", "9999"), ("127.0.0.1:1", "/", "1", "x")):
            run = sink(*values)
            self.assertEqual(run.returncode, 2)
            self.assertIn("usage: weir-sink", run.stderr)


class Liars(unittest.TestCase):
    """Servers that are right at first."""

    def serve(self, later):
        """Each connection but the first two gets the later reply."""
        count = 0

        def answer(_peer, connection):
            nonlocal count
            count += 1
            reply = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello" if count < 3 else later
            while connection.recv(65536):
                connection.sendall(reply)
                if later.endswith(b"he"):
                    return
        return load_cli.Peer(answer).address

    def test_what_differs_ends_it(self):
        """Another length, another status, more than was announced, and an end in the middle."""
        for later, word in ((b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello!", "has to be"),
                            (b"HTTP/1.1 404 No\r\nContent-Length: 5\r\n\r\nhello", "has to be"),
                            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello!", "has to be"),
                            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe", "reset")):
            run = sink(self.serve(later), duration="5")
            self.assertEqual((run.returncode, run.stdout), (1, ""), later)
            self.assertIn(word, run.stderr)

    def test_contents_that_change_are_not_measured(self):
        """The two replies that are read must be the same."""
        bodies = iter((b"hello", b"hellx"))

        def answer(_peer, connection):
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + next(bodies))
        run = sink(load_cli.Peer(answer).address)
        self.assertEqual(run.returncode, 1)
        self.assertIn("has to be", run.stderr)
