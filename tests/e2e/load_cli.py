"""Drives `weir-load` against honest, slow, lying and failing servers, on both engines."""

import contextlib
import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from programs import LIMIT, Server, look_later, main, unless_stalled

LOAD = os.environ.get("WEIR_LOAD", "")


class Peer:
    """A server in this process: `serve(connection, size)` runs in a thread per connection."""

    def __init__(self, serve, address=("127.0.0.1", 0), family=socket.AF_INET):
        self.serve = serve
        self.listener = socket.socket(family)
        self.listener.bind(address)
        self.listener.listen(512)
        self.name = self.listener.getsockname()
        self.accepted = []
        self.ends = []
        self.served = threading.Event()
        self.open = set()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, peer = self.listener.accept()
                self.accepted.append((peer, connection.getsockname()))
                if self.listener.family != socket.AF_UNIX:
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self.run, args=(connection,), daemon=True).start()

    def run(self, connection):
        self.open.add(connection)
        end = "closed"
        try:
            with connection:
                end = self.serve(self, connection) or "closed"
        except OSError as error:
            end = type(error).__name__
        self.open.discard(connection)
        self.ends.append(end)

    @property
    def address(self):
        return f"127.0.0.1:{self.name[1]}"

    def taken(self, count):
        """How many connections it took: the thread that does may be later than their clients."""
        deadline = time.monotonic() + LIMIT
        while len(self.accepted) < count and time.monotonic() < deadline:
            look_later()
        return len(self.accepted)

    def close(self):
        # shutdown wakes the thread that is in accept; close alone does not.
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in list(self.open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def echo(peer, connection):
    while data := connection.recv(1 << 20):
        peer.served.set()
        connection.sendall(data)
    return "peer ended"


def silent(peer, connection):
    while connection.recv(1 << 20):
        peer.served.set()


def collect(connection, size):
    data = b""
    while len(data) < size and (more := connection.recv(size - len(data))):
        data += more
    return data


def groups_of(size):
    """Answers only when `size` bytes are there."""
    def serve(_, connection):
        while len(data := collect(connection, size)) == size:
            connection.sendall(data)
    return serve


def lie_in(message, size=64):
    """Changes one bit of the given message of each connection."""
    def serve(_, connection):
        index = 0
        while len(data := collect(connection, size)) == size:
            if index == message:
                data = data[:size // 2] + bytes([data[size // 2] ^ 1]) + data[size // 2 + 1:]
            index += 1
            connection.sendall(data)
    return serve


def answer_then(count, ending, size=64):
    """Answers `count` messages, takes one more, and then does `ending(connection)`."""
    def serve(_, connection):
        for _ in range(count):
            connection.sendall(collect(connection, size))
        collect(connection, size)
        ending(connection)
    return serve


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def slow(pause):
    def serve(peer, connection):
        # Waiting on an event that is never set is the pause; nothing here waits for the program.
        never = threading.Event()
        while data := connection.recv(65536):
            peer.served.set()
            never.wait(pause)
            connection.sendall(data)
    return serve


class LoadTests:
    """What must hold on either engine of the generator."""

    engine = ""

    def peer(self, serve=echo, **options):
        peer = Peer(serve, **options)
        self.addCleanup(peer.close)
        return peer

    def load(self, address, *options, status=0, seconds=0.3, warmup=0.05, enough=None):
        """Runs it and returns its JSON. A busy machine that came to no answer, or not to what is
        enough for the test, tries again, as often as self.runs says, and longer in the end."""
        for self.runs, duration in enumerate([seconds] * 4 + [5 * seconds], 1):
            result = self.run_load("--connect", address, "--json", "-", "--duration",
                                   str(duration), "--warmup", str(warmup), *options)
            report = json.loads(result.stdout) if result.stdout else None
            answered = status or "no request was answered" not in result.stderr
            failed = result.returncode > status
            if not report or (answered and (failed or not enough or enough(report))):
                break
        self.assertEqual(result.returncode, status, result.stderr)
        self.stderr = result.stderr
        return report

    def run_load(self, *options):
        command = [LOAD, "echo", "--engine", self.engine, *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=3 * LIMIT,
                              check=False)

    def assert_sound(self, report):
        """What every report must fulfil."""
        self.assertEqual(report["schema"], "weir-load/1")
        self.assertEqual(report["engine"], self.engine)
        self.assertTrue(report["plan"])
        self.assertEqual(report["bytes"], report["echoes"] * report["parameters"]["size"])
        self.assertAlmostEqual(report["ops_per_s"] * report["times"]["measured_s"], report["ops"],
                               delta=1)
        kinds = {kind: count for kind, count in report["errors"].items() if kind != "total"}
        self.assertEqual(report["errors"]["total"], sum(kinds.values()))
        for name in ("response", "service", "lag"):
            latency, histogram = report["latency_ns"][name], report["histograms"][name]
            if report["mode"] == "closed" and name != "service":
                self.assertIsNone(latency)
                self.assertIsNone(histogram)
                continue
            buckets = histogram["buckets"]
            inside = sum(count for _, count in buckets)
            self.assertEqual(inside + histogram["below"] + histogram["above"], latency["count"])
            self.assertEqual(histogram["count"], latency["count"])
            self.assertEqual(buckets, sorted(buckets))
            for key, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)):
                enough = round(latency["count"] * (1 - share), 6) >= 100
                self.assertEqual(latency[key] is not None, enough, (name, key, latency))
            told = [latency[key] for key in ("min", "p50", "p90", "p99", "p99.9", "max")]
            told = [value for value in told if value is not None]
            self.assertEqual(told, sorted(told))
        self.assertEqual(len(report["client"]["threads"]), report["parameters"]["threads"])
        if not report["times"]["interrupted"]:
            self.assertGreater(report["loop_stats"]["turns"], 0)

    def test_closed_loop_measures_service_only(self):
        """A closed loop reports service times and no response; every reply is compared."""
        peer = self.peer()
        report = self.load(peer.address, "--connections", "4", "--verify", "full",
                           enough=lambda report: report["ops"] > 5)
        self.assert_sound(report)
        self.assertEqual(report["mode"], "closed")
        self.assertGreater(report["ops"], 5)
        self.assertAlmostEqual(report["ops"], report["latency_ns"]["service"]["count"], delta=4)
        self.assertEqual(report["requests"]["verified"], report["echoes"])
        self.assertEqual(report["errors"]["total"], 0)
        self.assertEqual(peer.taken(4 * self.runs), 4 * self.runs)
        self.assertEqual(self.stderr, "")

    def test_open_loop_keeps_its_schedule(self):
        """An open loop sends exactly what its schedule has in the window."""
        report = self.load(self.peer().address, "--connections", "8", "--rate", "1000",
                           "--arrivals", "constant", seconds=0.5)
        self.assert_sound(report)
        self.assertEqual(report["mode"], "open")
        self.assertEqual(report["offered_per_s"], 1000)
        for name in ("response", "service", "lag"):
            self.assertAlmostEqual(report["latency_ns"][name]["count"], 500, delta=1)
        latency = report["latency_ns"]
        self.assertAlmostEqual(latency["response"]["mean"],
                               latency["service"]["mean"] + latency["lag"]["mean"], delta=1)

    def test_poisson_arrivals_follow_the_seed(self):
        """The same seed offers the same number of requests, other seeds others."""
        peer = self.peer()
        counts = [self.load(peer.address, "--connections", "8", "--rate", "800", "--seed", seed)
                  ["latency_ns"]["response"]["count"] for seed in ("7", "7", "8", "9", "10")]
        self.assertEqual(counts[0], counts[1])
        self.assertGreater(len(set(counts)), 1)

    @unless_stalled
    def test_waiting_for_a_free_connection_counts(self):
        """Requests that queue for a slow server wait, and response tells it."""
        # 40 requests in 0.4 s for one connection that answers every 40 ms: the last one waits.
        report = self.load(self.peer(slow(0.04)).address, "--rate", "100", "--arrivals",
                           "constant", seconds=0.4, warmup=0)
        self.assert_sound(report)
        latency = report["latency_ns"]
        self.assertAlmostEqual(latency["response"]["count"], 40, delta=1)
        self.assertLess(report["ops"], 15)
        self.assertGreater(latency["response"]["max"], 500e6)
        self.assertGreater(latency["response"]["mean"], 5 * latency["service"]["mean"])
        self.assertEqual(report["requests"]["censored"], 0)

    def test_what_never_ends_counts_as_that_late(self):
        """A server that never answers cannot hide its requests."""
        report = self.load(self.peer(silent).address, "--connections", "3", "--depth", "2",
                           "--rate", "100", "--arrivals", "constant", status=1, seconds=0.2,
                           warmup=0)
        self.assert_sound(report)
        self.assertEqual(report["ops"], 0)
        self.assertAlmostEqual(report["requests"]["censored"], 20, delta=1)
        self.assertEqual(report["requests"]["censored"] - report["requests"]["unsent"], 6)
        self.assertGreater(report["latency_ns"]["response"]["min"], 4.9e9)
        self.assertLess(report["times"]["drained_s"], 5 + LIMIT)
        self.assertIn("no request was answered", self.stderr)

    def test_depth_requests_are_in_flight(self):
        """All requests of the depth are sent before the first reply."""
        report = self.load(self.peer(groups_of(16 * 100)).address, "--depth", "16", "--size",
                           "100", "--verify", "full", "--connections", "2")
        self.assert_sound(report)
        self.assertGreater(report["ops"], 0)  # the peer answers no smaller group

    def test_large_messages_come_back_whole(self):
        """Messages beyond every buffer are sent and compared in pieces."""
        for size, depth in (("1M", "1"), ("5000001", "2")):
            report = self.load(self.peer().address, "--size", size, "--depth", depth, "--verify",
                               "full", seconds=0.6)
            self.assert_sound(report)
            self.assertGreater(report["ops"], 0)
            self.assertEqual(report["errors"]["total"], 0)

    def test_churn_counts_connections(self):
        """Connections are the operation, and the client closes first."""
        peer = self.peer()
        report = self.load(peer.address, "--churn", "3", "--depth", "2", "--connections", "4",
                           "--verify", "full", seconds=1,
                           enough=lambda report: report["ops"] > 10)
        self.assert_sound(report)
        self.assertEqual(report["operation"], "connection")
        self.assertGreater(report["ops"], 10)
        self.assertAlmostEqual(report["echoes"], 3 * report["ops"], delta=12)
        self.assertGreaterEqual(report["connections"]["opened"], report["ops"])
        self.assertEqual(report["errors"]["total"], 0)
        self.assertEqual(set(peer.ends), {"peer ended"})

    def test_churn_runs_as_an_open_loop(self):
        """Connections can be offered at a rate, too."""
        report = self.load(self.peer().address, "--churn", "1", "--connections", "8", "--rate",
                           "100", "--arrivals", "constant", seconds=0.5)
        self.assert_sound(report)
        self.assertAlmostEqual(report["latency_ns"]["response"]["count"], 50, delta=1)

    def test_threads_are_merged(self):
        """Threads share connections and schedule, and their results are one."""
        peer = self.peer()
        report = self.load(peer.address, "--threads", "2", "--connections", "5", "--idle", "3",
                           "--rate", "500", "--arrivals", "constant", "--cpu", "0")
        self.assert_sound(report)
        self.assertEqual(peer.taken(8 * self.runs), 8 * self.runs)
        self.assertEqual(report["connections"]["open_at_start"], 8)
        self.assertAlmostEqual(report["latency_ns"]["response"]["count"], 150, delta=2)

    def test_idle_connections_stay_silent(self):
        """Idle connections are opened, kept and not used."""
        peer = self.peer()
        report = self.load(peer.address, "--idle", "20", "--connections", "1")
        self.assertEqual(peer.taken(21 * self.runs), 21 * self.runs)
        self.assertEqual(report["connections"]["open_at_end"], 21)

    def test_connections_spread_over_addresses(self):
        """Connections go evenly to all addresses, from the local one."""
        peer = self.peer(address=("0.0.0.0", 0))
        port = peer.name[1]
        report = self.load(f"127.0.1.1-127.0.1.3:{port}", "--connect", f"127.0.0.9:{port}",
                           "--connections", "8", "--local", "127.0.0.5:0")
        self.assert_sound(report)
        self.assertEqual(len(report["parameters"]["connect"]), 4)
        peer.taken(8 * self.runs)
        hosts = sorted(local[0] for _, local in peer.accepted)
        self.assertEqual(hosts, sorted(["127.0.1.1", "127.0.1.2", "127.0.1.3", "127.0.0.9"] * 2
                                       * self.runs))
        self.assertEqual({remote[0] for remote, _ in peer.accepted}, {"127.0.0.5"})

    def test_unix_sockets_work(self):
        """A unix socket is loaded as well."""
        with tempfile.TemporaryDirectory(prefix="weir-") as folder:
            path = os.path.join(folder, "a-b")
            self.peer(address=path, family=socket.AF_UNIX)
            report = self.load(f"unix:{path}", "--verify", "full",
                               enough=lambda report: report["ops"] > 5)
            self.assertGreater(report["ops"], 5)
            self.assertEqual(report["errors"]["total"], 0)

    def test_a_changed_byte_is_found(self):
        """A single wrong bit is a counted error and fails the run."""
        report = self.load(self.peer(lie_in(70)).address, "--verify", "full", status=1,
                           enough=lambda report: report["errors"]["corrupt"])
        self.assert_sound(report)
        self.assertGreater(report["errors"]["corrupt"], 0)
        self.assertIn("differed", self.stderr)

    def test_sampling_compares_the_first_reply_of_a_connection(self):
        """A sample never misses the first reply."""
        report = self.load(self.peer(lie_in(0)).address, "--verify", "sample", status=1,
                           enough=lambda report: report["errors"]["corrupt"])
        self.assertGreater(report["errors"]["corrupt"], 0)

    def test_no_verification_finds_no_changed_byte(self):
        """Without comparing nothing is found, nor claimed to be compared."""
        report = self.load(self.peer(lie_in(0)).address, "--verify", "none")
        self.assertEqual(report["errors"]["total"], 0)
        self.assertEqual(report["requests"]["verified"], 0)

    def test_too_many_bytes_are_found(self):
        """Bytes that nothing asked for are an error."""
        def twice(_, connection):
            while data := connection.recv(65536):
                connection.sendall(data + data)
        report = self.load(self.peer(twice).address,
                           enough=lambda report: report["errors"]["excess"])
        self.assertGreater(report["errors"]["excess"], 0)

    def test_a_close_with_requests_due_is_counted_and_mended(self):
        """A lost connection is counted and opened again, after a pause."""
        peer = self.peer(answer_then(5, lambda connection: None))
        report = self.load(peer.address, "--connections", "2",
                           enough=lambda report: report["errors"]["closed_early"] > 2)
        self.assert_sound(report)
        errors = report["errors"]
        self.assertGreater(errors["closed_early"], 2)
        self.assertEqual(errors["total"], errors["closed_early"])
        self.assertGreater(report["requests"]["lost"], 0)
        self.assertGreater(report["connections"]["opened"], 4)
        # Each comes back after 10 ms and not in a hot loop, however long a busy machine took.
        seconds = report["times"]["measured_s"] + report["times"]["drained_s"]
        self.assertLess(report["connections"]["opened"], 2 * (15 + 100 * seconds))

    def test_a_reset_is_counted(self):
        """A reset is told from a close."""
        report = self.load(self.peer(answer_then(5, reset)).address,
                           enough=lambda report: report["errors"]["reset"] > 2)
        self.assertGreater(report["errors"]["reset"], 2)

    def test_a_request_may_time_out(self):
        """A request over its time counts as that late."""
        report = self.load(self.peer(silent).address, "--timeout", "0.1", status=1, seconds=0.6,
                           enough=lambda report: report["errors"]["timeout"] > 1)
        self.assert_sound(report)
        self.assertGreater(report["errors"]["timeout"], 1)
        self.assertGreater(report["requests"]["censored"], 1)
        self.assertGreaterEqual(report["latency_ns"]["service"]["min"], 100e6)

    def test_nobody_listening_is_one_clear_line(self):
        """Without any connection there is no report, but the reason."""
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{bound.getsockname()[1]}"
            for options in ((), ("--churn", "1"), ("--threads", "2", "--connections", "2")):
                result = self.run_load("--connect", address, "--duration", "20", *options)
                self.assertEqual(result.returncode, 1)
                self.assertEqual(result.stdout, "")
                self.assertEqual(result.stderr,
                                 f"weir-load: cannot connect to {address}: Connection refused\n")

    def test_an_interrupt_ends_with_a_report(self):
        """SIGINT ends the window early and honestly."""
        peer = self.peer()
        command = [LOAD, "echo", "--engine", self.engine, "--connect", peer.address, "--warmup",
                   "0", "--duration", "600", "--json", "-"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            self.assertTrue(peer.served.wait(LIMIT))
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=LIMIT)
        report = json.loads(output)
        self.assertEqual(process.returncode, 0)
        self.assertTrue(report["times"]["interrupted"])
        self.assertLess(report["times"]["measured_s"], 60)
        self.assert_sound(report)

    def test_busy_never_sleeps(self):
        """A busy thread spends its waiting in turns."""
        report = self.load(self.peer(slow(0.05)).address, "--busy")
        self.assert_sound(report)
        thread = report["client"]["threads"][0]
        self.assertGreater(thread["spin_s"], 0.1)
        self.assertLess(thread["stolen_s"], thread["spin_s"])

    def test_a_load_that_may_not_run_says_so(self):
        """What another task takes from a spinning load is told, beside how late requests left.

        Where many take turns on that CPU, a run may have met each of them between two spins: one
        run of several has to tell.
        """
        cpu, address = min(os.sched_getaffinity(0)), self.peer(echo).address
        rival = subprocess.Popen(
            ["taskset", "-c", str(cpu), "sh", "-c", "echo spins; while :; do :; done"],
            stdout=subprocess.PIPE)
        for clean in (rival.stdout.close, rival.wait, rival.kill):
            self.addCleanup(clean)
        self.assertTrue(select.select([rival.stdout], [], [], LIMIT)[0])
        for _ in range(5):
            report = self.load(address, "--rate", "2000", "--busy", "--cpu", str(cpu), seconds=1)
            thread, lag = report["client"]["threads"][0], report["latency_ns"]["lag"]
            told = thread["stolen_s"] > 0.1 * thread["spin_s"] and lag["max"] > 500000
            if told:
                break
        self.assertTrue(told, (thread, lag))

    def test_the_summary_is_for_people(self):
        """The summary names the essentials while JSON goes to a file."""
        with tempfile.TemporaryDirectory(prefix="weir-") as folder:
            path = os.path.join(folder, "report.json")
            result = self.run_load("--connect", self.peer().address, "--duration", "0.2",
                                   "--warmup", "0", "--json", path)
            with open(path, encoding="utf-8") as file:
                self.assert_sound(json.load(file))
        self.assertEqual(result.returncode, 0)
        self.assertEqual(result.stderr, "")
        for word in ("echoes/s", "service", "closed loop", "errors    none", self.engine):
            self.assertIn(word, result.stdout)

    def test_a_terminal_sees_a_live_line(self):
        """On a terminal the rate is shown while it runs."""
        master, slave = pty.openpty()
        command = [LOAD, "echo", "--engine", self.engine, "--connect", self.peer().address,
                   "--warmup", "0", "--duration", "2.2", "--threads", "2", "--connections", "4"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=slave) as process:
            os.close(slave)
            seen = b""
            with contextlib.suppress(OSError):  # EIO: the other side is closed
                while select.select([master], [], [], LIMIT)[0] and (
                        more := os.read(master, 4096)):
                    seen += more
            self.assertEqual(process.wait(LIMIT), 0)
        os.close(master)
        # Of few operations on a busy machine there is no percentile.
        self.assertRegex(seen.decode(), r"[1-9]\d* op/s  p50 (?:[\d.]+ .s|-)  p99 .* errors 0")

    def test_it_measures_weir(self):
        """Both servers of this project pass every kind of run without an error."""
        for engine in ("epoll", "uring"):
            server = Server(engine)
            self.addCleanup(server.kill)
            for options in (("--connections", "64", "--depth", "4"), ("--size", "256K"),
                            ("--connections", "16", "--churn", "1")):
                report = self.load(server.addresses[0], "--verify", "full", *options, seconds=0.1)
                self.assert_sound(report)
                self.assertGreater(report["ops"], 0)
                self.assertEqual(report["errors"]["total"], 0, report["errors"])


class UringLoadTest(LoadTests, unittest.TestCase):
    """The generator on io_uring."""

    engine = "uring"


# What its threads share is the same with both engines: once is enough for the thread sanitizer.
if os.environ.get("SANITIZED") != "thread":
    class EpollLoadTest(LoadTests, unittest.TestCase):
        """The generator on epoll."""

        engine = "epoll"


class UsageTest(unittest.TestCase):
    """The command line."""

    def run_load(self, *arguments):
        return subprocess.run([LOAD, *arguments], capture_output=True, text=True, timeout=LIMIT,
                              check=False)

    def test_wrong_usage_is_one_line_and_status_2(self):
        """Whatever is wrong is said in one line."""
        good = ("echo", "--connect", "127.0.0.1:1")
        for arguments in ((), ("ftp",), ("echo",), (*good, "--size", "0"), (*good, "--nothing"),
                          (*good, "--rate"), (*good, "--arrivals", "poisson"), (*good, "extra")):
            result = self.run_load(*arguments)
            self.assertEqual(result.returncode, 2, arguments)
            self.assertEqual(result.stdout, "")
            self.assertRegex(result.stderr, r"\Aweir-load: [^\n]+\n\Z")

    def test_help_names_every_option(self):
        """No option is secret."""
        result = self.run_load("--help")
        self.assertEqual(result.returncode, 0)
        for option in ("connect", "connections", "depth", "size", "duration", "warmup", "threads",
                       "cpu", "rate", "arrivals", "seed", "churn", "idle", "busy", "verify",
                       "engine", "uring", "json", "timeout", "local"):
            self.assertIn(f"--{option} ", result.stdout)
        self.assertRegex(self.run_load("--version").stdout, r"\Aweir-load \d+\.\d+\.\d+\n\Z")

    def test_an_unwritable_report_is_an_error_before_the_run(self):
        """A run is not wasted on a report that cannot be kept."""
        result = self.run_load("echo", "--connect", "127.0.0.1:1", "--json", "/nowhere/report")
        self.assertEqual(result.returncode, 1)
        self.assertIn("cannot write /nowhere/report", result.stderr)

    def test_an_unknown_feature_set_is_wrong_usage(self):
        """The feature set is checked by the library, and its reason shown."""
        result = self.run_load("echo", "--connect", "127.0.0.1:1", "--engine", "uring", "--uring",
                               "kernel-2.4")
        self.assertEqual(result.returncode, 2)
        self.assertRegex(result.stderr, r"\Aweir-load: [^\n]*kernel-2.4[^\n]*\n\Z")


if __name__ == "__main__":
    sys.exit(main())
