"""Drives `weir echo` as a user does, on every engine: the program in the environment's WEIR."""

import json
import os
import resource
import select
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time
import unittest

from programs import (LIMIT, QUIET, WEIR, Lines, Server, connect, listening_socket, main,
                      processor_time, receive, receive_end, run, stuff, threads_of,
                      unless_stalled)


class EngineTests:
    """What must hold on every engine."""

    engine = ""
    options = ()

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="weir-")
        self.addCleanup(self.folder.cleanup)

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def start(self, *options, **keywords):
        server = Server(self.engine, *self.options, *options, **keywords)
        self.addCleanup(server.kill)
        return server

    def client(self, address, source=None):
        client = connect(address, source)
        self.addCleanup(client.close)
        return client

    def assert_served(self, client, data=b"Hello"):
        client.sendall(data)
        self.assertEqual(receive(client, len(data)), data)

    def assert_gone(self, client):
        """The connection was ended or reset."""
        try:
            self.assertEqual(client.recv(1), b"")
        except (ConnectionResetError, BrokenPipeError):
            pass

    def stop(self, server, status=0):
        server.signal(signal.SIGTERM)
        self.assertEqual(server.wait(), status)

    # The client of every textbook gets its bytes back, then the end.
    def test_textbook_client(self):
        server = self.start()
        client = self.client(server.addresses[0])
        client.sendall(b"Hello")
        client.shutdown(socket.SHUT_WR)
        self.assertEqual(receive_end(client), b"Hello")
        self.stop(server)

    # A megabyte comes back unchanged, while the client reads as it writes.
    def test_a_megabyte_comes_back_unchanged(self):
        server = self.start()
        client = self.client(server.addresses[0])
        sent = os.urandom(1 << 20)
        got = bytearray()
        for offset in range(0, len(sent), 65536):
            client.sendall(sent[offset:offset + 65536])
            got += receive(client, 65536)
        self.assertEqual(bytes(got), sent)

    # The listening line has the form that scripts rely on, with the port that was taken.
    def test_listening_line(self):
        server = self.start()
        self.assertRegex(server.lines[0],
                         rf"^listening echo 127\.0\.0\.1:[1-9]\d* engine={self.engine} threads=1$")
        self.assertIn(self.engine, server.log.until("plan: "))

    # One server listens on IPv4, IPv6 and a unix path at once, a line and a port each.
    def test_several_listeners(self):
        listen = ("127.0.0.1:0", "[::1]:0", "unix:" + self.path("socket"))
        server = self.start(listen=listen)
        self.assertRegex(server.addresses[1], r"^\[::1\]:[1-9]\d*$")
        self.assertEqual(server.addresses[2], listen[2])
        for address in server.addresses:
            self.assert_served(self.client(address))
        self.stop(server)
        self.assertFalse(os.path.exists(self.path("socket")))

    # A unix path that nobody listens on any more is taken over.
    def test_stale_unix_socket_is_replaced(self):
        path = self.path("socket")
        stale = socket.socket(socket.AF_UNIX)
        stale.bind(path)
        stale.close()
        server = self.start(listen=("unix:" + path,))
        self.assert_served(self.client(server.addresses[0]))

    # A unix path that is listened on is an error and goes on working.
    def test_live_unix_socket_is_an_error(self):
        address = "unix:" + self.path("socket")
        first = self.start(listen=(address,))
        second = run("echo", "--listen", address, "--engine", self.engine)
        self.assert_fails(second, 1, address)
        self.assert_served(self.client(first.addresses[0]))

    def assert_fails(self, result, status, text):
        self.assertEqual(result.returncode, status, result.stderr)
        self.assertEqual(result.stdout, "")
        self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
        self.assertIn(text, result.stderr)

    # --unix-mode sets the permission bits, whatever the umask.
    def test_unix_mode(self):
        path = self.path("socket")
        self.start("--unix-mode", "606", listen=("unix:" + path,), umask=0o077)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o606)

    # An address in use is one line and status 1.
    def test_address_in_use(self):
        server = self.start()
        second = run("echo", "--listen", server.addresses[0], "--engine", self.engine)
        self.assert_fails(second, 1, server.addresses[0])

    # A server that is killed can be started again at once, on TCP and on a unix path, although the
    # kernel may end its sockets later than the process.
    def test_restart_after_a_kill(self):
        # An address that no other process uses: meanwhile, nobody else takes the port.
        listen = (f"127.83.{os.getpid() >> 8 & 255}.{os.getpid() & 255}:0",
                  "unix:" + self.path("socket"))
        for _ in range(4):
            server = self.start(listen=listen)
            listen = tuple(server.addresses)
            for address in listen:
                self.assert_served(self.client(address))
            server.kill()
        self.stop(self.start(listen=listen))

    # SIGTERM refuses new connections, ends quiet ones in order, and exits with 0.
    def test_sigterm_drains_open_connections(self):
        server = self.start()
        clients = [self.client(server.addresses[0]) for _ in range(5)]
        for client in clients:
            self.assert_served(client)
        self.stop(server)
        for client in clients:
            self.assertEqual(client.recv(1), b"")
        with self.assertRaises(ConnectionRefusedError):
            self.client(server.addresses[0])

    @unless_stalled
    # While it drains, a connection that goes on working is served. A rest of a fifth of a second
    # would be its end.
    def test_drain_serves_what_is_busy(self):
        server = self.start()
        client = self.client(server.addresses[0])
        self.assert_served(client)
        server.signal(signal.SIGTERM)
        self.assert_served(client, b"x" * 100000)
        client.shutdown(socket.SHUT_WR)
        self.assertEqual(receive_end(client), b"")
        self.assertEqual(server.wait(), 0)

    # A connection that cannot be drained keeps the server until the second SIGTERM.
    def test_second_sigterm_ends_at_once(self):
        server = self.start("--drain-timeout", "1000")
        client = self.client(server.addresses[0])
        stuff(client)
        server.signal(signal.SIGTERM)
        server.log.until("draining")
        with self.assertRaises(subprocess.TimeoutExpired):
            server.process.wait(QUIET)
        server.signal(signal.SIGTERM)
        self.assertEqual(server.wait(), 0)

    # A connection that cannot be drained is aborted after --drain-timeout.
    def test_drain_timeout_aborts(self):
        server = self.start("--drain-timeout", "0.5")
        client = self.client(server.addresses[0])
        stuff(client)
        self.stop(server)
        server.log.until("drain time-out")

    # SIGINT drains as SIGTERM does.
    def test_sigint_drains(self):
        server = self.start()
        server.signal(signal.SIGINT)
        self.assertEqual(server.wait(), 0)

    # SIGUSR1 prints the counters, writes them to --stats-json, and the server goes on.
    def test_sigusr1_prints_statistics(self):
        path = self.path("stats.json")
        server = self.start("--stats-json", path)
        client = self.client(server.addresses[0])
        self.assert_served(client)
        server.signal(signal.SIGUSR1)
        self.assertIn(f"engine={self.engine} plan=", server.log.until("statistics: "))
        self.assertEqual(server.log.until("received_bytes").split()[-1], "5")
        server.log.until("queued_high")
        with open(path, encoding="utf-8") as file:
            self.assertEqual(json.load(file)["received_bytes"], 5)
        self.assert_served(client)

    # At the end --stats-json holds one object with the engine, its plan and what was counted.
    def test_stats_json_at_the_end(self):
        path = self.path("stats.json")
        server = self.start("--stats-json", path)
        for _ in range(3):
            client = self.client(server.addresses[0])
            client.sendall(b"Hello")
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(receive_end(client), b"Hello")
        self.stop(server)
        with open(path, encoding="utf-8") as file:
            stats = json.load(file)
        self.assertEqual(stats["engine"], self.engine)
        self.assertTrue(stats["plan"])
        self.assertEqual(stats["accepts"], 3)
        self.assertEqual(stats["received_bytes"], 15)
        self.assertEqual(stats["sent_bytes"], 15)
        self.assertEqual(stats["closed_clean"], 3)
        self.assertEqual(stats["streams_open"], 0)
        self.assertEqual(stats["buffers_leased"], 0)
        self.assertEqual(os.listdir(self.folder.name), ["stats.json"])

    # A full disk is said, and the status is 1.
    def test_full_disk_is_reported(self):
        server = self.start("--stats-json", "/dev/full")
        self.stop(server, status=1)
        self.assertIn("No space left", server.log.until("/dev/full"))

    # So is a folder that is gone.
    def test_statistics_without_a_folder_are_reported(self):
        os.mkdir(self.path("gone"))
        server = self.start("--stats-json", self.path("gone/stats.json"))
        os.rmdir(self.path("gone"))
        self.stop(server, status=1)
        self.assertIn("No such file", server.log.until("stats.json"))

    # SIGHUP opens the log anew: what comes then stands in the new file. The files are pipes, so
    # that their lines can be waited for.
    def test_sighup_reopens_the_log(self):
        path = self.path("log")
        old, new = self.make_pipe(path), None
        server = self.start("--log", path)
        Lines(old).until("plan: ")
        os.rename(path, path + ".1")
        new = self.make_pipe(path)
        server.signal(signal.SIGHUP)
        self.assertRegex(Lines(new).until("log reopened"), r"^\d{4}-\d\d-\d\dT[\d:.]+Z ")
        self.stop(server)

    def make_pipe(self, path):
        os.mkfifo(path)
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, fd)
        return fd

    # The limit is exact: one connection more waits, and is served as soon as another ends.
    def test_max_connections(self):
        server = self.start("--max-connections", "2")
        clients = [self.client(server.addresses[0]) for _ in range(4)]
        for client in clients[:2]:
            self.assert_served(client)
        for client in clients[2:]:
            client.sendall(b"waiting")
        self.assertEqual(select.select(clients[2:], [], [], QUIET)[0], [])
        counters = server.counters()
        self.assertGreater(counters["accept_pauses"], 0)
        self.assertLess(counters["turns"], 200, "the waiting connections keep the loop awake")
        clients[0].close()
        self.assertEqual(receive(clients[2], 7), b"waiting")
        clients[1].close()
        self.assertEqual(receive(clients[3], 7), b"waiting")

    # Without descriptors the server pauses with one line, serves on, does not spin, and resumes.
    def test_out_of_descriptors(self):
        server = self.start()
        first = self.client(server.addresses[0])
        self.assert_served(first)
        pid = server.process.pid
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        used = max(map(int, os.listdir(f"/proc/{pid}/fd"))) + 1
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, limits[1]))
        # What was armed before may still succeed, so more than that many connect.
        clients = [self.client(server.addresses[0]) for _ in range(10)]
        for client in clients:
            client.sendall(b"waiting")
        if self.uses_descriptors():
            server.log.until("accepting pauses: Too many open files")
            self.assertEqual(select.select(clients[-1:], [], [], QUIET)[0], [])
            self.assertLess(server.counters()["turns"], 300)
            self.assertEqual("\n".join(server.log.seen).count("accepting pauses"), 1)
        self.assert_served(first)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        for client in clients:
            self.assertEqual(receive(client, 7), b"waiting")
        self.stop(server)

    def uses_descriptors(self):
        return True

    # No listener holds the limit's room back from another.
    def test_max_connections_over_listeners(self):
        server = self.start("--max-connections", "1", listen=("127.0.0.1:0", "127.0.0.1:0"))
        for address in [*server.addresses, *reversed(server.addresses)]:
            with connect(address) as client:
                self.assert_served(client)

    # One connection too many of a host is reset; other hosts are served; a place is given back.
    def test_max_per_address(self):
        server = self.start("--max-per-address", "1")
        first = self.client(server.addresses[0])
        self.assert_served(first)
        self.assertFalse(self.try_served(server.addresses[0]))
        self.assert_served(self.client(server.addresses[0], source="127.0.0.2"))
        first.close()
        deadline = time.monotonic() + LIMIT
        while not self.try_served(server.addresses[0]):
            self.assertLess(time.monotonic(), deadline)

    def try_served(self, address):
        try:
            with connect(address) as client:
                client.sendall(b"again")
                return receive(client, 5) == b"again"
        # The reset may come as early as in connect.
        except (ConnectionResetError, BrokenPipeError):
            return False

    # A connection without a byte for --idle-timeout is ended, a busy one is not.
    def test_idle_timeout(self):
        server = self.start("--idle-timeout", "1.5")
        client = self.client(server.addresses[0])
        began = time.monotonic()
        self.assert_served(client)
        self.assert_gone(client)
        self.assertGreaterEqual(time.monotonic() - began, 1.4)

    @unless_stalled
    # A connection of --total-timeout ends in order, an idle one and a busy one: all that was taken
    # comes back, then the end. Who reads a byte now and then is reset at twice that age.
    def test_total_timeout(self):
        stats = self.path("stats")
        server = self.start("--total-timeout", "0.6", "--stats-json", stats)
        began = time.monotonic()
        idle, busy, slow = (self.client(server.addresses[0]) for _ in range(3))
        slow.setblocking(False)
        ends = select.poll()
        ends.register(slow, 0)
        echoed = 0
        more = sent = b"?"
        while more == sent:
            if select.select([], [slow], [], 0.005)[1]:
                slow.send(b"x" * 65536)
            sent = struct.pack("=Q", echoed) * 50
            busy.sendall(sent)
            more = receive(busy, len(sent))
            echoed += 1
        self.assertTrue(sent.startswith(more))
        self.assertGreater(echoed, 1)
        self.assertEqual(idle.recv(1), b"")
        self.assertGreaterEqual(time.monotonic() - began, 0.6)
        for client in (idle, busy):
            client.close()
        while not ends.poll(5):
            if select.select([slow], [], [], 0)[0]:
                self.assertEqual(slow.recv(1), b"x")
            self.assertLess(time.monotonic() - began, LIMIT)
        self.assertGreaterEqual(time.monotonic() - began, 1.2)
        self.stop(server)
        with open(stats, encoding="ascii") as file:
            counters = json.load(file)
        self.assertEqual((counters["total_timeouts"], counters["total_aborts"]), (3, 1))

    # The socket options reach the listening socket, whose connections inherit them.
    def test_socket_options(self):
        server = self.start("--send-buffer", "64K", "--receive-buffer", "32768", "--notsent-lowat",
                            "16K", "--keepalive", "--backlog", "77")
        with listening_socket(server.process.pid) as found:
            tcp, sol = socket.IPPROTO_TCP, socket.SOL_SOCKET
            self.assertEqual(found.getsockopt(sol, socket.SO_SNDBUF), 2 * 65536)
            self.assertEqual(found.getsockopt(sol, socket.SO_RCVBUF), 2 * 32768)
            self.assertEqual(found.getsockopt(sol, socket.SO_KEEPALIVE), 1)
            self.assertEqual(found.getsockopt(tcp, socket.TCP_NOTSENT_LOWAT), 16384)
            # For a listening socket, tcpi_sacked is its backlog.
            info = found.getsockopt(tcp, socket.TCP_INFO, 32)
            self.assertEqual(struct.unpack_from("I", info, 28)[0], 77)
        self.assert_served(self.client(server.addresses[0]))

    # The remaining options are taken, and the server works with them.
    def test_buffers(self):
        server = self.start("--buffers", "8", "--buffer-size", "4K")
        client = self.client(server.addresses[0])
        self.assert_served(client, os.urandom(100000))
        self.stop(server)

    # --cpu pins the threads that serve.
    def test_cpu_pins_threads(self):
        cpu = max(os.sched_getaffinity(0))
        server = self.start("--cpu", str(cpu))
        self.assert_served(self.client(server.addresses[0]))
        pid = server.process.pid
        self.assertIn(str(cpu), [thread["Cpus_allowed_list"] for thread in threads_of(pid)])

    # More connections than the file limit allows: one warning, and the limit that fits.
    def test_file_limit_reduces_connections(self):
        command = ["prlimit", "--nofile=200:200", WEIR, "echo", "--engine", self.engine, "--listen",
                   "127.0.0.1:0", "--max-connections", "1000"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        log = Lines(process.stderr.fileno())
        self.assertIn("not 1000", log.next())
        line = Lines(process.stdout.fileno()).next()
        self.assert_served(self.client(line.split()[2]))


class LoopTests(EngineTests):
    """What must hold on engines with several threads."""

    # Connections spread over the threads of one address, and a drain ends them all.
    def test_threads(self):
        listen = ("127.0.0.1:0", "unix:" + self.path("socket"))
        server = self.start("--threads", "2", listen=listen)
        self.assertIn(" threads=2", server.lines[0])
        clients = [self.client(address) for address in server.addresses for _ in range(20)]
        for client in clients:
            self.assert_served(client)
        self.stop(server)
        self.assertFalse(os.path.exists(self.path("socket")))

    # Threads share an address among themselves, not with a second server.
    def test_address_in_use_with_threads(self):
        server = self.start("--threads", "2")
        second = run("echo", "--listen", server.addresses[0], "--engine", self.engine, "--threads",
                     "2")
        self.assert_fails(second, 1, server.addresses[0])

    # The limit is the server's, not each thread's.
    def test_max_connections_over_threads(self):
        server = self.start("--max-connections", "3", "--threads", "2")
        clients = [self.client(server.addresses[0]) for _ in range(12)]
        for client in clients:
            client.sendall(b"Hello")
        waiting = set(clients)
        for served in range(len(clients)):
            ready = set(select.select(list(waiting), [], [], LIMIT)[0])
            self.assertTrue(ready, f"{served} of {len(clients)} were served")
            self.assertLessEqual(len(ready), 3)
            client = ready.pop()
            self.assertEqual(receive(client, 5), b"Hello")
            waiting.remove(client)
            client.close()

    # --busy-poll-us: between messages the server's thread runs, where without it it sleeps.
    def test_busy_poll(self):
        busy, asleep = self.start("--busy-poll-us", "1000000"), self.start()
        clients = [self.client(server.addresses[0]) for server in (busy, asleep)]
        before = [processor_time(server.process.pid) for server in (busy, asleep)]
        end, took = time.monotonic() + LIMIT, [0, 0]
        while took[0] < 0.2:
            self.assertLess(time.monotonic(), end, f"it sleeps: {took}")
            for client in clients:
                self.assert_served(client)
            select.select(clients, [], [], 0.05)  # nothing comes
            took = [processor_time(server.process.pid) - start
                    for server, start in zip((busy, asleep), before)]
        self.assertLess(took[1], took[0] / 2)
        self.stop(busy)

    # A lone client that waits for each answer is looked for before the server sleeps; but never one
    # of many that take turns, nor with --adaptive-poll-us 0. One that pauses is soon left alone.
    def test_adaptive_poll(self):
        server, never = self.start(), self.start("--adaptive-poll-us", "0")
        alone, refused = self.client(server.addresses[0]), self.client(never.addresses[0])
        for _ in range(50):
            self.assert_served(alone)
            self.assert_served(refused)
        self.assertGreater(server.counters()["looks"], 0)
        self.assertEqual(never.counters()["looks"], 0)
        for _ in range(40):
            select.select([alone], [], [], 0.002)  # longer than any look
            self.assert_served(alone)
        before = server.counters()["looks_in_vain"]
        for _ in range(40):
            select.select([alone], [], [], 0.002)
            self.assert_served(alone)
        self.assertLess(server.counters()["looks_in_vain"] - before, 20)
        many = [self.client(server.addresses[0]) for _ in range(4)]
        for client in many * 2:
            self.assert_served(client)
        before = server.counters()["looks"]
        for client in many * 10:
            self.assert_served(client)
        self.assertEqual(server.counters()["looks"], before)


class UringTest(LoopTests, unittest.TestCase):
    engine = "uring"

    @classmethod
    def setUpClass(cls):
        doctor = json.loads(run("doctor", "--json").stdout)
        if not doctor["uring"]["available"]:
            raise unittest.SkipTest(doctor["uring"]["text"])

    # A loop that waits for several events serves a connection alone, and many at once.
    def test_min_wait(self):
        rows = json.loads(run("doctor", "--json").stdout)["features"]
        if not next(row for row in rows if row["name"] == "min-wait")["present"]:
            self.skipTest("this kernel's io_uring has no min-wait (Linux 6.12)")
        server = self.start("--min-wait-us", "1000")
        clients = [self.client(server.addresses[0]) for _ in range(8)]
        for client in (*clients, clients[0]):
            self.assert_served(client, os.urandom(100000))
        self.stop(server)

    # Accepted sockets live in the ring's table and take no descriptor.
    def uses_descriptors(self):
        doctor = json.loads(run("doctor", "--json").stdout)
        direct = [row for row in doctor["features"] if row["name"] == "direct"]
        return bool(self.options) or not (direct[0]["present"] and direct[0]["in_default"])


class UringOrdinaryTest(UringTest):
    """Accepted sockets are ordinary descriptors."""

    options = ("--uring", "default,-direct")


class UringOldestTest(UringTest):
    """What the oldest supported kernel gets."""

    options = ("--uring", "kernel-6.1")

    # The start says why it cannot wait, and does not serve without.
    def test_min_wait(self):
        result = run("echo", "--listen", "127.0.0.1:0", "--engine", "uring", *self.options,
                     "--min-wait-us", "1000")
        self.assertEqual((result.returncode, result.stdout), (2, ""))
        self.assertIn("there is no min-wait in the features 'kernel-6.1'", result.stderr)

    # Its sockets are in the ring's table too, or not: the plan says.
    def uses_descriptors(self):
        server = self.start()
        return " direct" not in server.log.until("plan: ")


class EpollTest(LoopTests, unittest.TestCase):
    engine = "epoll"


class BlockingTest(EngineTests, unittest.TestCase):
    engine = "blocking"

    # A thread per connection is the topology: --threads is refused.
    def test_threads_are_refused(self):
        result = run("echo", "--listen", "127.0.0.1:0", "--engine", "blocking", "--threads", "2")
        self.assert_fails(result, 2, "--threads")


if __name__ == "__main__":
    sys.exit(main())
