"""Drives `weir echo` and `weir doctor` as a user does: the program in the environment's WEIR.

Each behaviour is asserted on every engine. Nothing sleeps: a test waits for a line of the program, for
bytes, or for a process to end, each within LIMIT seconds.
"""

import ctypes
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

WEIR = os.environ.get("WEIR", "")
LIMIT = 20
# How long "is not served" is looked at. Too short can only miss a fault, never invent one.
QUIET = 0.3


class Lines:
    """Lines of a pipe, each waited for within LIMIT seconds."""

    def __init__(self, fd):
        self.fd = fd
        self.rest = b""
        self.seen = []

    def next(self):
        while b"\n" not in self.rest:
            if not select.select([self.fd], [], [], LIMIT)[0]:
                raise AssertionError(f"no further line after {self.seen}")
            more = os.read(self.fd, 65536)
            if not more:
                raise AssertionError(f"the output ended after {self.seen}")
            self.rest += more
        line, self.rest = self.rest.split(b"\n", 1)
        self.seen.append(line.decode())
        return self.seen[-1]

    def until(self, text):
        while text not in (line := self.next()):
            pass
        return line


class Server:
    """A running `weir echo`; `addresses` are those of its listening lines."""

    def __init__(self, engine, *options, listen=("127.0.0.1:0",), **popen):
        command = [WEIR, "echo", "--engine", engine]
        for address in listen:
            command += ["--listen", address]
        self.process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, **popen)
        self.log = Lines(self.process.stderr.fileno())
        output = Lines(self.process.stdout.fileno())
        self.lines = []
        try:
            self.lines = [output.next() for _ in listen]
        except AssertionError:
            self.kill()
            raise
        self.addresses = [line.split()[2] for line in self.lines]

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self):
        return self.process.wait(LIMIT)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


def connect(address, source=None):
    """A connected client of a listening line's address."""
    if address.startswith("unix:"):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(LIMIT)
        client.connect(address[5:])
        return client
    host, _, port = address.rpartition(":")
    source = (source, 0) if source else None
    return socket.create_connection((host.strip("[]"), int(port)), LIMIT, source)


def receive(client, size):
    data = bytearray()
    while len(data) < size:
        more = client.recv(size - len(data))
        if not more:
            break
        data += more
    return bytes(data)


def receive_end(client):
    """All bytes up to the peer's end."""
    data = bytearray()
    while more := client.recv(65536):
        data += more
    return bytes(data)


def stuff(client):
    """Sends without reading until neither side takes a byte more."""
    client.setblocking(False)
    total = 0
    while select.select([], [client], [], QUIET)[1]:
        try:
            total += client.send(b"x" * 65536)
        except BlockingIOError:
            pass
    client.settimeout(LIMIT)
    return total


def run(*arguments, **options):
    return subprocess.run([WEIR, *arguments], capture_output=True, text=True, timeout=LIMIT,
                          check=False, **options)


def listening_socket(pid):
    """A duplicate of the process's first listening TCP socket."""
    library = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    try:
        for name in sorted(os.listdir(f"/proc/{pid}/fd"), key=int):
            if not os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:"):
                continue
            fd = library.syscall(438, pidfd, int(name), 0)  # pidfd_getfd
            if fd < 0:
                raise unittest.SkipTest(f"pidfd_getfd: {os.strerror(ctypes.get_errno())}")
            found = socket.socket(fileno=fd)
            if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return found
            found.close()
    finally:
        os.close(pidfd)
    raise AssertionError("no listening socket")


def forbid_uring():
    """For preexec_fn: from here on io_uring_setup fails as under a container's seccomp profile."""
    load, jump_if_equal, ret = 0x20, 0x15, 0x06
    allow, fail = 0x7FFF0000, 0x00050000 | 1  # SECCOMP_RET_ALLOW; SECCOMP_RET_ERRNO with EPERM
    program = b"".join(struct.pack("HBBI", *row) for row in [
        (load, 0, 0, 0), (jump_if_equal, 0, 1, 425), (ret, 0, 0, fail), (ret, 0, 0, allow)])
    code = ctypes.create_string_buffer(program)
    filter_ = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 4, ctypes.addressof(code)))
    library = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    if library.prctl(38, ctypes.c_ulong(1), zero, zero, zero):  # PR_SET_NO_NEW_PRIVS
        raise OSError("no_new_privs")
    if library.prctl(22, ctypes.c_ulong(2), filter_, zero, zero):  # PR_SET_SECCOMP, filter
        raise OSError("seccomp")


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

    def counters(self, server):
        """What SIGUSR1 prints."""
        counters = {}
        server.signal(signal.SIGUSR1)
        while "queued_high" not in counters:
            words = server.log.next().split()
            if len(words) == 3 and words[2].isdigit():
                counters[words[1]] = int(words[2])
        return counters

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

    # While it drains, a connection that goes on working is served.
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

    # SIGHUP opens the log anew: what comes then stands in the new file. The files are pipes, so that
    # their lines can be waited for.
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
        counters = self.counters(server)
        self.assertGreater(counters["accept_pauses"], 0)
        self.assertLess(counters["turns"], 200, "the waiting connections keep the loop awake")
        clients[0].close()
        self.assertEqual(receive(clients[2], 7), b"waiting")
        clients[1].close()
        self.assertEqual(receive(clients[3], 7), b"waiting")

    # Without descriptors the server pauses with one line, keeps serving, does not spin, and resumes.
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
            self.assertLess(self.counters(server)["turns"], 300)
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
    def test_buffers_and_busy_poll(self):
        server = self.start("--buffers", "8", "--buffer-size", "4K", "--busy-poll-us", "20")
        client = self.client(server.addresses[0])
        self.assert_served(client, os.urandom(100000))
        self.stop(server)

    # --cpu pins the threads that serve.
    def test_cpu_pins_threads(self):
        cpu = max(os.sched_getaffinity(0))
        server = self.start("--cpu", str(cpu))
        self.assert_served(self.client(server.addresses[0]))
        pid = server.process.pid
        pinned = [task for task in os.listdir(f"/proc/{pid}/task")
                  if os.sched_getaffinity(int(task)) == {cpu}]
        self.assertGreaterEqual(len(pinned), 1)

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


class UringTest(LoopTests, unittest.TestCase):
    engine = "uring"

    @classmethod
    def setUpClass(cls):
        doctor = json.loads(run("doctor", "--json").stdout)
        if not doctor["uring"]["available"]:
            raise unittest.SkipTest(doctor["uring"]["text"])


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


class CommandLineTest(unittest.TestCase):
    """Options, help and doctor: no server runs."""

    # Each bad option gives one line that names it, and status 2.
    def test_bad_options(self):
        good = ["--listen", "127.0.0.1:0"]
        for options, text in [
            ([], "--listen"),
            (["--listen"], "--listen: needs a value"),
            (["--listen", "localhost:80"], "--listen: 'localhost:80'"),
            (["--listen", "127.0.0.1:65536"], "--listen"),
            (["--listen", "unix:/" + "x" * 108], "107"),
            ([*good, "--engine", "kqueue"], "--engine: 'kqueue'"),
            ([*good, "--engine", "uring", "--uring", "nonsense"], "nonsense"),
            ([*good, "--uring", ""], "--uring"),
            ([*good, "--threads", "0"], "--threads: '0' is not a number from 1 to 256"),
            ([*good, "--threads", "257"], "--threads"),
            ([*good, "--threads", "two"], "--threads: 'two'"),
            ([*good, "--threads", "-1"], "--threads: '-1'"),
            ([*good, "--threads", " 1"], "--threads"),
            ([*good, "--cpu", "0-"], "--cpu: '0-'"),
            ([*good, "--cpu", "3-1"], "--cpu"),
            ([*good, "--cpu", "0,,1"], "--cpu"),
            ([*good, "--cpu", "1023"], "--cpu"),
            ([*good, "--cpu", "99999999999999999999"], "--cpu"),
            ([*good, "--busy-poll-us", "x"], "--busy-poll-us"),
            ([*good, "--max-connections", "0"], "--max-connections"),
            ([*good, "--max-connections", "1000001"], "--max-connections"),
            ([*good, "--max-per-address", "1.5"], "--max-per-address"),
            ([*good, "--idle-timeout", "1m"], "--idle-timeout: '1m' is not seconds"),
            ([*good, "--drain-timeout", "99999999999999999999"], "--drain-timeout"),
            ([*good, "--backlog", "0"], "--backlog"),
            ([*good, "--send-buffer", "4T"], "--send-buffer: '4T' is not a size"),
            ([*good, "--receive-buffer", "4KB"], "--receive-buffer"),
            ([*good, "--notsent-lowat", "18446744073709551615G"], "--notsent-lowat"),
            ([*good, "--keepalive=yes"], "--keepalive=yes: takes no value"),
            ([*good, "--unix-mode", "0888"], "--unix-mode"),
            ([*good, "--unix-mode", "1777"], "--unix-mode"),
            ([*good, "--buffers", "100"], "--buffers: '100' is not a power of two"),
            ([*good, "--buffer-size", "5000"], "--buffer-size"),
            ([*good, "--log"], "--log: needs a value"),
            ([*good, "--stats-json"], "--stats-json: needs a value"),
            ([*good, "--nonsense"], "--nonsense: unknown option"),
            ([*good, "-x"], "-x: unknown option"),
            ([*good, "-1x"], "-1: unknown option"),
            ([*good, "rest"], "rest: unexpected argument"),
        ]:
            with self.subTest(options=options):
                result = run("echo", *options)
                self.assertEqual(result.returncode, 2, result.stderr)
                self.assertEqual(result.stdout, "")
                self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
                self.assertIn(text, result.stderr)
                self.assertTrue(result.stderr.startswith("weir echo: "), result.stderr)

    # A path that may not be written to is one line and status 1.
    def test_missing_rights(self):
        with tempfile.TemporaryDirectory(prefix="weir-") as folder:
            os.chmod(folder, 0o555)
            user = {"user": 65534} if os.geteuid() == 0 else {}
            try:
                result = run("echo", "--listen", f"unix:{folder}/socket", "--engine", "epoll",
                             **user)
            except PermissionError:
                self.skipTest("the program cannot be reached by another user")
            self.assertEqual(result.returncode, 1, result.stderr)
            self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
            self.assertIn("Permission denied", result.stderr)

    # A log that cannot be opened, or a file for statistics that cannot be made, is said.
    def test_log_that_cannot_be_opened(self):
        result = run("echo", "--listen", "127.0.0.1:0", "--log", "/nonexistent/log")
        self.assertEqual(result.returncode, 1)
        self.assertIn("/nonexistent/log: No such file", result.stderr)

    # --engine=auto takes an engine that exists.
    def test_engine_auto(self):
        server = Server("auto")
        self.addCleanup(server.kill)
        self.assertRegex(server.lines[0], r"engine=(uring|epoll) ")
        server.signal(signal.SIGTERM)
        self.assertEqual(server.wait(), 0)

    # Where seccomp forbids io_uring, auto goes on with epoll and says so once; uring is an error that
    # names the cause.
    def test_forbidden_uring(self):
        server = Server("auto", preexec_fn=forbid_uring)
        self.addCleanup(server.kill)
        self.assertIn("engine=epoll", server.lines[0])
        self.assertIn("seccomp", server.log.next())
        self.assertIn("plan: epoll", server.log.next())
        server.signal(signal.SIGTERM)
        self.assertEqual(server.wait(), 0)
        result = run("echo", "--listen", "127.0.0.1:0", "--engine", "uring",
                     preexec_fn=forbid_uring)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
        self.assertIn("seccomp", result.stderr)

    # Help names every option, on standard output.
    def test_help(self):
        result = run("--help")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertIn("echo", result.stdout)
        self.assertIn("doctor", result.stdout)
        result = run("echo", "--help")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        for name in """listen engine uring threads cpu busy-poll-us max-connections max-per-address
                       idle-timeout drain-timeout backlog send-buffer receive-buffer notsent-lowat
                       keepalive unix-mode buffers buffer-size log stats-json help""".split():
            self.assertIn(f"--{name}", result.stdout)

    # The version names weir's, the engines and liburing's.
    def test_version(self):
        result = run("--version")
        self.assertEqual(result.returncode, 0)
        self.assertRegex(result.stdout, r"^weir \d+\.\d+\.\d+ .*uring.*epoll.*liburing \d+\.\d+")

    # Without a command, or with an unknown one, the usage is told.
    def test_unknown_command(self):
        result = run("nonsense")
        self.assertEqual(result.returncode, 2)
        self.assertIn("nonsense: unknown command", result.stderr)
        self.assertEqual(run().returncode, 2)

    # Doctor's JSON says for each feature and limit whether it is there and how to mend it.
    def test_doctor_json(self):
        result = run("doctor", "--json")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        doctor = json.loads(result.stdout)
        self.assertIn("available", doctor["uring"])
        self.assertTrue(doctor["features"])
        for feature in doctor["features"]:
            self.assertTrue(feature["name"] and feature["kernel"] and feature["purpose"], feature)
            self.assertTrue(feature["present"] or feature["detail"], feature)
        limits = {limit["name"]: limit for limit in doctor["limits"]}
        self.assertEqual(set(limits), {"files", "memlock", "somaxconn"})
        for limit in limits.values():
            self.assertTrue(limit["enough"] or limit["mend"], limit)

    # Doctor's text names the same features, and a bad option is refused.
    def test_doctor_text(self):
        text = run("doctor").stdout
        for feature in json.loads(run("doctor", "--json").stdout)["features"]:
            self.assertIn(feature["name"], text)
        self.assertEqual(run("doctor", "--xml").returncode, 2)

    # Output that cannot be written is a failure.
    def test_full_standard_output(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            status = subprocess.run([WEIR, "doctor"], stdout=full, stderr=subprocess.PIPE,
                                    timeout=LIMIT, check=False).returncode
        self.assertEqual(status, 1)


def main():
    program = unittest.main(exit=False)
    result = program.result
    # A test whose subtests failed is one test.
    broken = [test for test, _ in result.failures + result.errors]
    failed = len({id(getattr(test, "test_case", test)) for test in broken})
    skipped = len(result.skipped)
    print(f"{max(result.testsRun - failed - skipped, 0)} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
