"""Drives `weir-load http` against weir's own server, and against servers that lie."""

import json
import os
import subprocess

import http_programs
import load_cli
import programs

LOAD = os.environ.get("WEIR_LOAD", "")


def load(address, *options, error=None):
    """Runs it briefly; the exit status, the report, and what it said. A busy machine that came to
    no answer, or not to the error that is waited for, gets longer."""
    for seconds in ("0.2", "1", "5"):
        run = subprocess.run([LOAD, "http", "--connect", address, "--warmup", "0.05", "--duration",
                              seconds, "--json", "-", *options], capture_output=True, text=True,
                             timeout=programs.LIMIT, check=False)
        report = json.loads(run.stdout)
        if report["errors"][error] if error else report["ops"]:
            break
    return run.returncode, report, run.stderr


class Load(http_programs.HttpTest):
    """Every way of loading counts and verifies."""

    files = {"a.bin": bytes(range(256)) * 4, "large.bin": os.urandom(500000)}

    def measure(self, address, *options):
        status, report, said = load(address, *options)
        self.assertEqual((status, said), (0, ""))
        self.assertEqual(report["errors"]["total"], 0)
        self.assertGreater(report["ops"], 0)
        self.assertEqual(report["protocol"], "http")
        return report

    def test_loops_pipelines_and_churn(self):
        """Closed, open, pipelined, a connection per request; small and large replies."""
        def check(address):
            for options in (("--connections", "4"), ("--connections", "2", "--pipeline", "16"),
                            ("--rate", "500"), ("--churn", "2"), ("--method", "HEAD")):
                report = self.measure(address, "--path", "/a.bin", "--verify", "full", *options)
                self.assertEqual(report["requests"]["verified"], report["echoes"])
            report = self.measure(address, "--path", "/large.bin", "--verify", "full")
            self.assertGreater(report["bytes"], 500000 * report["ops"])
        self.on_each_engine(check)

    def test_turns_count_whole_replies(self):
        """What began in a turn ended in it, on every engine; the report has the sum."""
        def check(address):
            run = subprocess.run([LOAD, "http", "--connect", address, "--turns", "--path",
                                  "/large.bin", "--connections", "2", "--verify", "full", "--json",
                                  "-"], input="warm 5\nrun 20\nrun 30\n", text=True, check=False,
                                 capture_output=True, timeout=programs.LIMIT)
            self.assertEqual((run.returncode, run.stderr), (0, ""))
            *turns, text = run.stdout.split("\n", 4)
            turns = [json.loads(turn) for turn in turns[1:]]
            self.assertEqual([turn["warm"] for turn in turns], [True, False, False])
            report = json.loads(text)
            self.assertEqual(report["ops"], sum(turn["ops"] for turn in turns))
            self.assertEqual(report["requests"]["verified"], report["ops"])
            self.assertGreater(report["bytes"], 500000 * report["ops"])
        self.on_each_engine(check)

    def test_a_refusal_is_an_error(self):
        """A status of 400 or above counts as a failure of its own, and as no answer."""
        status, report, said = load(self.servers["uring"].addresses[0], "--path", "/nope",
                                    error="status")
        self.assertEqual(status, 1)
        self.assertIn("no request was answered", said)
        self.assertGreater(report["errors"]["status"], 0)

    def test_bodies_are_sent(self):
        """The echo handler returns them, so the replies have their length."""
        server = programs.Server("uring", "--handler", "echo", name="http")
        self.addCleanup(server.kill)
        report = self.measure(server.addresses[0], "--method", "POST", "--body-size", "3000",
                              "--verify", "full", "--pipeline", "3")
        self.assertGreater(report["bytes"], 3000 * report["ops"])


class Liars(http_programs.HttpTest):
    """Servers whose replies are wrong."""

    def serve(self, replies):
        """A server that answers each request with the next of the replies, the last for ever."""
        def answer(_peer, connection):
            count = 0
            while data := connection.recv(65536):
                for _ in range(data.count(b"\r\n\r\n")):
                    connection.sendall(replies[min(count, len(replies) - 1)])
                    count += 1
        return load_cli.Peer(answer).address

    def reply(self, body, status=b"200 OK"):
        return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)

    def test_wrong_replies_are_told_apart(self):
        """Another content or length: corrupt, and status 1. No HTTP: malformed."""
        good = self.reply(b"hello")
        for replies, kind in (([good] * 5 + [self.reply(b"hellx")], "corrupt"),
                              ([good, self.reply(b"hello!")], "corrupt"),
                              ([good, b"HELLO\r\n\r\n", good], "malformed"),
                              ([good, self.reply(b"no", b"503 No")], "status")):
            status, report, said = load(self.serve(replies), "--verify", "full", error=kind)
            self.assertGreater(report["errors"][kind], 0, kind)
            self.assertEqual(status, 1 if kind == "corrupt" else status)
            if kind == "corrupt":
                self.assertIn("differed", said)

    def test_wrong_usage_is_named(self):
        """Options of the other protocol, and values that are no request."""
        for options, word in ((["--size", "5"], "--size"), (["--depth", "5"], "--depth"),
                              (["--path", "x"], "--path"), (["--path", "/a b"], "--path"),
                              (["--method", "G ET"], "--method")):
            run = subprocess.run([LOAD, "http", "--connect", "127.0.0.1:1", *options],
                                 capture_output=True, text=True, timeout=programs.LIMIT,
                                 check=False)
            self.assertEqual(run.returncode, 2)
            self.assertIn(word, run.stderr)
