"""Drives `weir-load --turns`: it runs when it is told to, and in between it rests."""

import json
import select
import signal
import subprocess
import sys
import time
import unittest

import load_cli
from load_cli import LOAD
from programs import LIMIT, QUIET, Lines, main


TURNS_MAX = 200


def process_cpu_ns(pid):
    return time.clock_gettime_ns((~pid << 3) | 2)


class Turns(unittest.TestCase):
    engine = "epoll"

    def peer(self, serve=load_cli.echo):
        peer = load_cli.Peer(serve)
        self.addCleanup(peer.close)
        return peer

    def start(self, address, *options, protocol="echo"):
        process = subprocess.Popen([LOAD, protocol, "--engine", self.engine, "--connect", address,
                                    "--turns", "--json", "-", *options], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.lines = Lines(process.stdout.fileno())
        ready = json.loads(self.lines.next())
        self.assertTrue(ready["ready"])
        return process

    def turn(self, process, order):
        process.stdin.write(f"{order}\n".encode())
        process.stdin.flush()
        return json.loads(self.lines.next())

    def work(self, process, turns):
        """More turns, until one of those that count has done something: a peer that has to wait
        for a processor may have answered in none of them."""
        while not any(turn["ops"] for turn in turns) and len(turns) < TURNS_MAX:
            turns.append(self.turn(process, "run 20"))

    def end(self, process, status=0):
        """Closes its input; returns the report."""
        if not process.stdin.closed:
            process.stdin.close()
        text = []
        while not text or text[-1] != "}":
            text.append(self.lines.next())
        self.assertEqual(process.wait(LIMIT), status, process.stderr.read())
        return json.loads("\n".join(text))

    def check_sums(self, report, turns):
        """The report is about all turns that counted, and about nothing else."""
        counted = [turn for turn in turns if not turn["warm"]]
        self.assertEqual(report["turns"], len(counted))
        self.assertEqual(report["ops"], sum(turn["ops"] for turn in counted))
        self.assertEqual(report["echoes"], sum(turn["echoes"] for turn in counted))
        self.assertEqual(report["latency_ns"]["service"]["count"], report["ops"])
        self.assertEqual(report["requests"]["verified"], sum(t["verified"] for t in counted))
        self.assertEqual(report["errors"]["total"], 0)
        wall = sum(turn["wall_ns"] for turn in counted)
        self.assertAlmostEqual(report["times"]["measured_s"] * 1e9, wall, delta=1000)
        # What is in flight is what is outstanding, on average never more than the connections.
        seen = report["ops"] * report["latency_ns"]["service"]["mean"] / wall
        self.assertLessEqual(seen, report["parameters"]["connections"])

    def test_a_turn_is_measured_as_a_whole(self):
        """Echoes, churn and two threads: every operation that began in a turn ended in it, warm
        turns count nowhere, and the report has the sums."""
        for options in ((), ("--churn", "2"), ("--threads", "2"), ("--verify", "full")):
            process = self.start(self.peer().address, "--connections", "4", *options)
            turns = [self.turn(process, order) for order in ("warm 10", "run 20", "run 30.5")]
            self.assertEqual([turn["turn"] for turn in turns], [1, 2, 3])
            self.assertEqual((turns[0]["warm"], turns[0]["ops"]), (True, 0))
            for turn, length in zip(turns, (10e6, 20e6, 30.5e6)):
                self.assertEqual(turn["length_ns"], length)
                self.assertGreater(turn["wall_ns"], length)
                self.assertGreater(turn["cpu_ns"], 0)
                self.assertEqual((turn["errors"], turn["unended"]), (0, 0))
            self.work(process, turns)
            report = self.end(process)
            self.assertGreater(report["ops"], 0)
            self.check_sums(report, turns)

    def test_arrivals_are_the_same_in_each_run(self):
        """An open loop's turns differ from each other, and not from run to run."""
        found = []
        for _ in range(2):
            process = self.start(self.peer().address, "--connections", "8", "--rate", "2000")
            turns = [self.turn(process, "run 50") for _ in range(3)]
            report = self.end(process)
            self.check_sums(report, turns)
            self.assertEqual(report["latency_ns"]["response"]["count"], report["ops"])
            found.append([turn["ops"] for turn in turns])
        self.assertEqual(*found)
        self.assertGreater(len(set(found[0])), 1)

    def test_it_rests_between_turns(self):
        """No processor time is used, not even to look for late requests; the next turn works."""
        process = self.start(self.peer().address, "--connections", "50", "--timeout", "10")
        turns, took_ns = [self.turn(process, "run 20")], []
        # Of several looks the least counts: it may still be about to rest, and what the machine
        # takes from a processor is charged to who had it.
        while not took_ns or (took_ns[-1] >= 2e6 and len(took_ns) < 5):
            before = process_cpu_ns(process.pid)
            # Nothing comes on its standard output meanwhile.
            self.assertEqual(select.select([self.lines.fd], [], [], QUIET)[0], [])
            took_ns.append(process_cpu_ns(process.pid) - before)
        self.assertLess(min(took_ns), 2e6)
        turns.append(self.turn(process, "run 20"))
        self.work(process, turns)
        self.check_sums(self.end(process), turns)

    def test_wrong_orders_are_one_line(self):
        """The line is told, status 1; options that contradict turns are wrong usage."""
        address = self.peer().address
        for order in ("run", "run x", "run 0", "run -1", "stop", "run 5 ", "", "x" * 500):
            run = subprocess.run([LOAD, "echo", "--connect", address, "--turns"], text=True,
                                 input=order + "\n", capture_output=True, timeout=LIMIT,
                                 check=False)
            self.assertEqual(run.returncode, 1, order)
            self.assertIn(f"weir-load: '{order[:40]}' on standard input is not", run.stderr)
            self.assertEqual(run.stderr.count("\n"), 1)
        for options in (("--duration", "1"), ("--warmup", "0"), ("--busy",)):
            run = subprocess.run([LOAD, "echo", "--connect", address, "--turns", *options],
                                 stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                 timeout=LIMIT, check=False)
            self.assertEqual(run.returncode, 2)
            self.assertIn("--turns", run.stderr)

    def test_a_signal_ends_the_turn_and_gives_up_what_is_outstanding(self):
        """One ends it in order; two do not wait for a server that never answers, and the report
        counts what was outstanding."""
        peer = self.peer()
        process = self.start(peer.address)
        process.stdin.write(b"run 60000\n")
        process.stdin.flush()
        self.assertTrue(peer.served.wait(LIMIT))
        process.send_signal(signal.SIGINT)
        turn = json.loads(self.lines.next())
        self.assertLess(turn["wall_ns"], 50e9)
        self.assertTrue(self.end(process)["times"]["interrupted"])
        peer = self.peer(load_cli.silent)
        process = self.start(peer.address, "--connections", "3")
        process.stdin.write(b"run 60000\n")
        process.stdin.flush()
        self.assertTrue(peer.served.wait(LIMIT))
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        turn = json.loads(self.lines.next())
        self.assertEqual((turn["ops"], turn["unended"], turn["errors"]), (0, 3, 3))
        report = self.end(process)
        self.assertEqual(report["requests"]["censored"], 3)
        self.assertEqual(report["errors"]["timeout"], 3)


class TurnsUring(Turns):
    engine = "uring"


if __name__ == "__main__":
    sys.exit(main())
