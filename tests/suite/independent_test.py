"""The load that is not weir's measures servers, and a server that lies ends the run."""

import os
import socketserver
import subprocess
import sys
import threading
import unittest

import suite_path

BUILD = os.environ["WEIR_BUILD"]
FOLDER = os.path.join(os.path.dirname(suite_path.LAUNCHER), "..", "independent")
LOAD = os.path.join(BUILD, "bench/independent/echo-turns")


class Changed(socketserver.StreamRequestHandler):
    """Answers with the right number of bytes, and one of them wrong."""

    def handle(self):
        while data := self.rfile.read(64):
            self.wfile.write(bytes([data[0] ^ 1]) + data[1:])


class Independent(unittest.TestCase):
    def test_two_servers_are_compared(self):
        """Every turn of every block is in the raw data, and the ratios are said."""
        raw = os.path.join(BUILD, f"independent-{os.getpid()}.txt")
        self.addCleanup(lambda: os.path.exists(raw) and os.unlink(raw))
        done = subprocess.run([sys.executable, os.path.join(FOLDER, "compare.py"), "--build", BUILD,
                               "--cells", "64,256k", "--blocks", "2", "--turns", "3", "--raw", raw],
                              capture_output=True, text=True, timeout=300, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        for cell in ("64", "256k"):
            self.assertRegex(done.stdout, rf"(?m)^{cell}: epoll \d+\.\d\d us/op$")
            self.assertRegex(done.stdout, rf"(?m)^{cell}: uring/epoll: CPU/op \d+\.\d+ \(.*ops/s")
        with open(raw, encoding="ascii") as file:
            rows = [line.split() for line in file]
        self.assertEqual(len(rows), 2 * 2 * 3 * 2)
        self.assertTrue(all(int(operations) > 0 for _, _, _, _, operations, _, _ in rows))

    def test_a_wrong_byte_ends_it(self):
        """A reply that differs is no reply."""
        with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Changed) as server:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, daemon=True).start()
            done = subprocess.run([LOAD, "2", "1", "64", "10", "1", str(server.server_address[1]),
                                   str(os.getpid())], capture_output=True, text=True, timeout=300,
                                  check=False)
            server.shutdown()
        self.assertEqual(done.returncode, 1)
        self.assertIn("a reply differs", done.stderr)

    def test_a_server_that_does_not_start_is_named(self):
        """The command that failed is said."""
        done = subprocess.run([sys.executable, os.path.join(FOLDER, "compare.py"), "--build", BUILD,
                               "--server", "none=false {port}"],
                              capture_output=True, text=True, timeout=300, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("no server at port", done.stderr)
        self.assertIn("false {port}", done.stderr)


if __name__ == "__main__":
    unittest.main()
