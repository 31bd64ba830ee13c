"""Handlers, bodies, time-outs, limits, logs and the end of `weir http`, on every engine."""

import concurrent.futures
import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import http_programs
import programs

BODY = os.urandom(300 * 1024)


def post(body, *headers, path="/"):
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def chunked(body, size):
    data = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    for at in range(0, len(body), size):
        piece = body[at:at + size]
        data += b"%x\r\n%b\r\n" % (len(piece), piece)
    return data + b"0\r\n\r\n"


class Echo(http_programs.HttpTest):
    """The echo handler, and bodies in general."""

    handler = "echo"
    options = ("--max-body", "400K", "--max-bodies", "1M")

    def test_every_body_comes_back(self):
        """By length and chunked, of many sizes, pipelined, with its content type."""
        def check(address):
            for size in (0, 1, 1000, 16384, 100000, len(BODY)):
                body = BODY[:size]
                answers = self.ask(address, post(body, "Content-Type: image/x-test"),
                                   chunked(body, 4095), post(b"tail"))
                self.assertEqual([answer.body for answer in answers], [body, body, b"tail"])
                self.assertEqual(answers[0].headers["content-type"], "image/x-test")
                self.assertEqual(answers[0].headers["content-length"], str(size))
        self.on_each_engine(check)

    def test_a_body_in_pieces_comes_back(self):
        """However it is cut, also behind its head."""
        def check(address):
            for piece in (1, 100, 1449):
                data = http_programs.converse(address, post(BODY[:3000]) + chunked(BODY[:2000], 7),
                                              piece)
                answers = http_programs.parse(data)
                self.assertEqual([answer.body for answer in answers], [BODY[:3000], BODY[:2000]])
        self.on_each_engine(check)

    def test_any_method_is_echoed(self):
        """GET, DELETE and those that a proxy would know; HEAD without the content."""
        def check(address):
            for method in ("GET", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND", "TRACE"):
                self.assertEqual(self.get(address, "/x", method=method).status, 200)
            self.assertEqual(self.get(address, "/x", method="HEAD").body, b"")
        self.on_each_engine(check)

    def test_the_head_comes_back_by_line(self):
        """/headers shows what the server understood."""
        def check(address):
            got = self.get(address, "/headers?q", "A:  b ", "C: d e")
            self.assertEqual(got.body, b"GET /headers?q HTTP/1.1\nHost: x\nA: b\nC: d e\n")
        self.on_each_engine(check)

    def test_continue_is_sent_when_it_is_waited_for(self):
        """100 before the body, 413 instead of it when it is too long."""
        def check(address):
            with programs.connect(address) as client:
                client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
                               b"Expect: 100-continue\r\n\r\n")
                self.assertEqual(programs.receive(client, 25), b"HTTP/1.1 100 Continue\r\n\r\n")
                client.sendall(b"body")
                client.shutdown(socket.SHUT_WR)
                self.assertEqual(http_programs.parse(programs.receive_end(client))[0].body, b"body")
            with programs.connect(address) as client:
                client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n"
                               b"Expect: 100-continue\r\n\r\n")
                answers = http_programs.parse(programs.receive_end(client))
                self.assertEqual([answer.status for answer in answers], [413])
        self.on_each_engine(check)

    def test_a_refusal_survives_a_body_that_still_comes(self):
        """The answer arrives though up to 64 KiB of the body follow: the close lingers."""
        request = post(b"x" * 450000)[:60000]
        def check(address):
            for _ in range(50):
                data = http_programs.converse_refused(address, request)
                self.assertEqual(http_programs.parse(data)[0].status, 413)
        self.on_each_engine(check)

    def test_bodies_share_a_bound(self):
        """Bodies that are being collected on many connections are refused beyond --max-bodies."""
        def check(address):
            clients = [programs.connect(address) for _ in range(4)]
            for client in clients:
                with contextlib.suppress(ConnectionError):  # refused before it has sent all
                    client.sendall(post(BODY)[:-1])
            statuses = []
            waiting = list(clients)
            deadline = time.monotonic() + programs.LIMIT
            while not statuses and time.monotonic() < deadline:
                for client in waiting:
                    client.settimeout(0.05)
                    try:
                        data = client.recv(65536)
                    except TimeoutError:
                        continue
                    statuses.append(int(data.split()[1]))
            self.assertEqual(statuses[:1], [503])
            self.assertGreaterEqual(self.refused(address), 1)
            for client in clients:
                client.close()
        self.on_each_engine(check)

    def refused(self, address):
        return json.loads(self.get(address, "/.status").body)["bodies_refused"]

    def test_a_promised_body_takes_no_room(self):
        """Bodies of which the first bytes have come, though their lengths together are far beyond
        --max-bodies, leave room for another that comes whole, in two pieces."""
        def check(address):
            before = self.refused(address)
            with contextlib.ExitStack() as stack:
                for _ in range(16):
                    client = stack.enter_context(programs.connect(address))
                    client.sendall(post(BODY, "Expect: 100-continue")[:-len(BODY)])
                    self.assertEqual(programs.receive(client, 25), b"HTTP/1.1 100 Continue\r\n\r\n")
                    client.sendall(BODY[:1])
                request = post(BODY)
                with programs.connect(address) as client:
                    client.sendall(request[:-1])
                    client.sendall(request[-1:])
                    client.shutdown(socket.SHUT_WR)
                    answer, = http_programs.parse(programs.receive_end(client))
                self.assertEqual((answer.status, answer.body), (200, BODY))
            self.assertEqual(self.refused(address), before)
        self.on_each_engine(check)


class Connections(http_programs.HttpTest):
    """How long connections live, and how they end."""

    timeout = 1.5  # longer than a busy machine keeps a client from its first byte
    options = ("--max-requests", "3", "--header-timeout", str(timeout),
               "--idle-timeout", str(timeout))

    def test_requests_are_counted(self):
        """The last request that is allowed says so and closes."""
        def check(address):
            request = b"GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n"
            data = http_programs.converse(address, request * 5, half_close=False)
            answers = http_programs.parse(data)
            self.assertEqual([answer.headers.get("connection") for answer in answers],
                             [None, None, "close"])
        self.on_each_engine(check)

    def test_http_1_0_stays_only_when_asked(self):
        """Without keep-alive it closes; with it, it says so."""
        def check(address):
            request = b"GET /a.txt HTTP/1.0\r\n\r\n"
            answers = http_programs.parse(http_programs.converse(address, request * 2,
                                                                 half_close=False))
            self.assertEqual([answer.headers["connection"] for answer in answers], ["close"])
            request = b"GET /a.txt HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
            answers = http_programs.parse(http_programs.converse(address, request * 2))
            self.assertEqual([answer.headers["connection"] for answer in answers],
                             ["keep-alive"] * 2)
        self.on_each_engine(check)

    def test_silence_ends_a_connection(self):
        """Nothing at all, half a head, and nothing after an answer: close, 408, close."""
        def check(address):
            started = time.monotonic()
            whole = b"GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n"
            clients = [programs.connect(address) for _ in range(3)]
            for client, data in zip(clients, (b"", b"GET /a", whole)):
                client.sendall(data)
            statuses = [[answer.status for answer in http_programs.parse(
                programs.receive_end(client))] for client in clients]
            self.assertEqual(statuses, [[], [408], [200]])
            self.assertGreater(time.monotonic() - started, self.timeout - 0.05)
            for client in clients:
                client.close()
        self.on_all_engines(programs.unless_stalled(check))

    def test_a_dripping_head_has_one_deadline(self):
        """Bytes that keep coming do not move the end of --header-timeout."""
        def check(address):
            with programs.connect(address) as client:
                client.settimeout(0.02)
                deadline, data = time.monotonic() + programs.LIMIT, b""
                client.sendall(b"GET / HTTP/1.1\r\n")
                while not data and time.monotonic() < deadline:
                    try:
                        data = client.recv(65536)
                    except TimeoutError:
                        client.sendall(b"a")
                self.assertEqual(http_programs.parse(data)[0].status, 408)
        self.on_all_engines(check)


class Ages(http_programs.HttpTest):
    """--total-timeout: what becomes of a connection that is so old."""

    total = 1.0
    # More than the buffers hold, and not more than a busy machine reads within a second.
    files = {"big": bytes(1 << 20), "a.txt": b"text"}
    options = ("--total-timeout", str(total), "--send-buffer", "64K")
    request = b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n"

    def see_idle(self, address, request, statuses):
        """Who asks for nothing gets the end, in order."""
        began = time.monotonic()
        with programs.connect(address) as client:
            client.sendall(request)
            data = programs.receive_end(client)
        self.assertEqual([answer.status for answer in http_programs.parse(data)], statuses)
        self.assertGreaterEqual(time.monotonic() - began, self.total)

    def see_busy(self, address):
        """Who asks all the time gets an answer to each request, and the last says that it is. Who
        got no processor for as long as that is looked for asked too late."""
        began = answered = time.monotonic()
        with programs.connect(address) as client:
            while True:
                data = b""
                with contextlib.suppress(ConnectionError):
                    client.sendall(self.request % b"a.txt")
                    data = programs.receive_until(client, b"\r\n\r\ntext")
                if not data and time.monotonic() - answered > 0.15:
                    break
                answered = time.monotonic()
                answers = http_programs.parse(data)
                self.assertEqual([answer.body for answer in answers], [b"text"])
                if "connection" in answers[0].headers:
                    self.assertEqual(answers[0].headers["connection"], "close")
                    self.assertEqual(client.recv(1), b"")
                    break
                select.select([], [], [], 0.01)
        self.assertGreaterEqual(time.monotonic() - began, self.total)

    def read_by_and_by(self, address):
        """A small window, from which a byte is taken now and then until the time is over."""
        began = time.monotonic()
        client = programs.connect(address, receive_buffer=8192)
        self.addCleanup(client.close)
        client.sendall(self.request % b"big")
        data = bytearray()
        while time.monotonic() - began < self.total + 0.05:
            data += client.recv(100)
            select.select([], [], [], 0.02)
        return client, data, began

    def see_large(self, address):
        """An answer that had begun arrives whole; then comes the end."""
        client, data, _ = self.read_by_and_by(address)
        data += programs.receive_end(client)
        self.assertEqual(http_programs.parse(bytes(data))[0].body, self.files["big"])

    def see_endless(self, address):
        """At twice the age it is over, however much the client likes to go on."""
        client, _, began = self.read_by_and_by(address)
        ends = select.poll()
        ends.register(client, 0)
        while not ends.poll(20):
            self.assertTrue(client.recv(100))
            self.assertLess(time.monotonic() - began, programs.LIMIT)
        self.assertGreaterEqual(time.monotonic() - began, 2 * self.total)

    def test_old_connections_end(self):
        """Silent ones, one between requests, a busy one, a large answer, one that would not end."""
        self.on_all_engines(programs.unless_stalled(self.see_ages))

    def see_ages(self, address):
        """All of them, on a server of their own."""
        engine = next(name for name, one in self.servers.items() if address in one.addresses)
        server = programs.Server(engine, *self.options, "--root", self.root, "--status", "/.status",
                                 name="http")
        self.addCleanup(server.kill)
        whole = self.request % b"a.txt"
        checks = (lambda address: self.see_idle(address, b"", []),
                  lambda address: self.see_idle(address, whole, [200]),
                  self.see_busy, self.see_large, self.see_endless)
        with concurrent.futures.ThreadPoolExecutor(len(checks)) as pool:
            runs = [pool.submit(check, server.addresses[0]) for check in checks]
        for run in runs:
            run.result()
        server.log.until("aborted: open for twice --total-timeout")
        counters = server.counters()
        self.assertEqual([counters["total_timeouts"], counters["total_aborts"]], [5, 1])
        status = json.loads(self.get(server.addresses[0], "/.status").body)
        self.assertEqual(status["timeouts"], 5)


class Rates(http_programs.HttpTest):
    """Peers that are too slow."""

    files = {"big": bytes(32 * 1024 * 1024), "a.txt": b"text"}
    options = ("--min-rate", "64K", "--send-buffer", "64K")

    def read_slowly(self, address):
        """Who takes less than --min-rate of an answer is reset."""
        with programs.connect(address, receive_buffer=4096) as client:
            client.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
            pause = threading.Event()
            with self.assertRaises(ConnectionResetError):
                while client.recv(1000):
                    pause.wait(0.1)

    def read_steadily(self, address):
        """Who takes more than --min-rate is not, though its bytes leave a large socket buffer of
        the server in steps that are seconds apart."""
        with programs.connect(address) as client:
            client.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
            pause, end = threading.Event(), time.monotonic() + 8
            while time.monotonic() < end:
                self.assertTrue(client.recv(8000))
                pause.wait(0.1)

    def stall(self, address, status):
        """A body that stops coming ends the connection; if it was wanted, with 408."""
        data = http_programs.converse(address, post(b"x" * 60000)[:-1], half_close=False)
        self.assertEqual([answer.status for answer in http_programs.parse(data)], [status])

    def test_slow_peers_are_given_up(self):
        """A slow reader, a slow body that is refused, and one that is wanted; not one that takes
        more than it must."""
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            runs = []
            for engine, server in self.servers.items():
                echo = programs.Server(engine, "--handler", "echo", *self.options, name="http")
                self.addCleanup(echo.kill)
                files = programs.Server(engine, "--root", self.root, *self.options[:2], name="http")
                self.addCleanup(files.kill)
                runs += [(engine, pool.submit(self.read_slowly, server.addresses[0])),
                         (engine, pool.submit(self.read_steadily, files.addresses[0])),
                         (engine, pool.submit(self.stall, server.addresses[0], 405)),
                         (engine, pool.submit(self.stall, echo.addresses[0], 408))]
        for engine, run in runs:
            with self.subTest(engine=engine):
                run.result()

    def test_a_fast_peer_is_not(self):
        """The same file is read whole by whoever reads it at once."""
        def check(address):
            self.assertEqual(len(self.get(address, "/big").body), 32 * 1024 * 1024)
        self.on_each_engine(check)


class Patience(http_programs.HttpTest):
    """Peers that may be as slow as they like."""

    idle = 1.5  # longer than a busy machine keeps a client from its next request
    files = {"some": os.urandom(60000)}
    options = ("--min-rate", "0", "--idle-timeout", str(idle), "--send-buffer", "8K")

    def test_who_takes_an_answer_is_not_idle(self):
        """However long that takes, it comes whole, and so does the next one."""
        def check(address):
            with programs.connect(address, receive_buffer=4096) as client:
                client.sendall(b"GET /some HTTP/1.1\r\nHost: x\r\n\r\n")
                data, end = bytearray(), time.monotonic() + 2 * self.idle
                while time.monotonic() < end:
                    data += client.recv(10)
                    programs.look_later()
                data += programs.receive_until(client, self.files["some"][-100:])
                client.sendall(b"GET /some HTTP/1.1\r\nHost: x\r\n\r\n")
                data += programs.receive_end(client)
            self.assertEqual([answer.body for answer in http_programs.parse(bytes(data))],
                             [self.files["some"]] * 2)
        self.on_all_engines(programs.unless_stalled(check))


class Logs(unittest.TestCase):
    """The access log, refusals in the log, signals."""

    def serve(self, engine, *options):
        server = programs.Server(engine, "--handler", "echo", *options, name="http")
        self.addCleanup(server.kill)
        return server

    def access_log(self, engine, folder, form):
        path = os.path.join(folder, f"{engine}-{form}.log")
        server = self.serve(engine, "--access-log", path, "--access-log-format", form)
        address = server.addresses[0]
        request = ("GET /a\"b?c HTTP/1.1\r\nHost: x\r\nReferer: http://r/\r\n"
                   "User-Agent: \"quoted\\\xe4\x09\"\r\n\r\n").encode("latin-1")
        http_programs.converse(address, request + post(b"12345"))
        http_programs.converse(address, b"BROKEN\r\n\r\n", half_close=False)
        server.signal(signal.SIGTERM)
        self.assertEqual(server.wait(), 0)
        # The workers of two connections may write in any order.
        with open(path, encoding="ascii") as file:
            lines = file.read().splitlines()
        return sorted(lines, key=lambda line: ("GET" not in line, "POST" not in line))

    def test_lines_cannot_be_forged(self):
        """Each request is one line; quotes, backslashes and bytes beyond ASCII are escaped."""
        folder = self.make_folder()
        for engine in http_programs.ENGINES:
            with self.subTest(engine=engine):
                lines = self.access_log(engine, folder, "combined")
                self.assertEqual(len(lines), 3, lines)
                stamp = r"127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d \+0000\]"
                self.assertRegex(lines[0], f"^{stamp} " + re.escape(
                    r'"GET /a\x22b?c HTTP/1.1" 200 0 "http://r/" "\x22quoted\x5c\xe4\x09\x22"'))
                self.assertRegex(lines[1], f'^{stamp} "POST / HTTP/1.1" 200 5 "-" "-"$')
                self.assertRegex(lines[2], f'^{stamp} "-" 501 \\d+ "-" "-"$')
                self.assertRegex(self.access_log(engine, folder, "common")[1],
                                 f'^{stamp} "POST / HTTP/1.1" 200 5$')
                rows = [json.loads(line) for line in self.access_log(engine, folder, "json")]
                self.assertEqual(rows[0]["target"], '/a"b?c')
                self.assertEqual(rows[0]["user_agent"], '"quoted\\\xe4\t"')
                self.assertEqual((rows[1]["status"], rows[1]["size"]), (200, 5))

    def make_folder(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return folder.name

    def test_a_refusal_is_one_line(self):
        """The log says who was refused and why."""
        for engine in http_programs.ENGINES:
            with self.subTest(engine=engine):
                server = self.serve(engine)
                http_programs.converse(server.addresses[0], b"GET / HTTP/9.9\r\n\r\n",
                                       half_close=False)
                line = server.log.until("505")
                self.assertRegex(line, r"warning: 127\.0\.0\.1:\d+: 505 HTTP Version Not Supported")

    def test_a_line_waits_for_no_later_one(self):
        """What a write that takes long has kept from being written, follows it though nobody asks
        for anything more. With blocking, connections write by themselves."""
        self.at_once(programs.unless_stalled(self.write_late), ("uring", "epoll"))

    def at_once(self, check, engines=http_programs.ENGINES):
        """Calls check(engine) for all of them beside each other."""
        with concurrent.futures.ThreadPoolExecutor() as pool:
            runs = {engine: pool.submit(check, engine) for engine in engines}
        for engine, run in runs.items():
            with self.subTest(engine=engine):
                run.result()

    def write_late(self, engine):
        path = os.path.join(self.make_folder(), "log")
        os.mkfifo(path)
        pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self.addCleanup(os.close, pipe)
        server = self.serve(engine, "--access-log", path, "--header-timeout", "0.8")
        with self.assertRaises(BlockingIOError):
            while os.write(pipe, bytes(4096)):
                pass
        http_programs.converse(server.addresses[0], b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n")
        deadline = time.monotonic() + programs.LIMIT
        while not server.counters()["jobs"]:  # it writes
            self.assertLess(time.monotonic(), deadline)
            programs.look_later()
        http_programs.converse(server.addresses[0], b"GET /2 HTTP/1.1\r\nHost: x\r\n\r\n")
        # Longer than lines are kept for, by the same clock. It leaves no line.
        self.assertEqual(http_programs.converse(server.addresses[0], b"", half_close=False), b"")
        data = bytearray()
        while b"GET /2 " not in data:
            self.assertTrue(select.select([pipe], [], [], programs.LIMIT)[0], "no second line")
            data += os.read(pipe, 65536)
        self.assertIn(b"GET /1 ", data)

    def test_the_host_is_the_address_alone(self):
        """Without port and brackets; over a unix socket there is none. "-" is standard output."""
        folder = self.make_folder()
        for listen, host in (("[::1]:0", "::1"), (f"unix:{folder}/socket", "unix")):
            with self.subTest(listen=listen):
                server = programs.Server("uring", "--handler", "echo", "--access-log", "-",
                                         name="http", listen=(listen,))
                self.addCleanup(server.kill)
                http_programs.converse(server.addresses[0], post(b"1"))
                server.signal(signal.SIGTERM)
                self.assertEqual(server.wait(), 0)
                self.assertTrue(server.process.stdout.read().decode().startswith(f"{host} - - ["))

    def test_a_log_that_cannot_be_reopened_stays(self):
        """Its folder is gone: that is said, and lines go where they went."""
        folder = self.make_folder()
        for engine in http_programs.ENGINES:
            with self.subTest(engine=engine):
                old, new = os.path.join(folder, engine), os.path.join(folder, engine + "-gone")
                os.mkdir(old)
                server = self.serve(engine, "--access-log", os.path.join(old, "log"))
                os.rename(old, new)
                server.signal(signal.SIGHUP)
                server.log.until("the log stays open: ")
                http_programs.converse(server.addresses[0], post(b"2"))
                server.signal(signal.SIGTERM)
                self.assertEqual(server.wait(), 0)
                with open(os.path.join(new, "log"), encoding="ascii") as file:
                    self.assertIn("POST", file.read())

    def test_hangup_reopens_the_access_log(self):
        """After a rotation the lines go into the new file."""
        folder = self.make_folder()
        for engine in http_programs.ENGINES:
            with self.subTest(engine=engine):
                path = os.path.join(folder, engine)
                server = self.serve(engine, "--access-log", path)
                http_programs.converse(server.addresses[0], post(b"1"))
                # The first line may still be in its buffer: it goes where the log is by then.
                os.rename(path, path + ".1")
                server.signal(signal.SIGHUP)
                server.log.until("log reopened")
                http_programs.converse(server.addresses[0], post(b"2"))
                server.signal(signal.SIGTERM)
                self.assertEqual(server.wait(), 0)
                with open(path, encoding="ascii") as file:
                    self.assertIn("POST", file.read())

    def test_drain_finishes_what_was_asked(self):
        """At SIGTERM an idle connection closes at once; a body that is coming is answered first."""
        for engine in http_programs.ENGINES:
            with self.subTest(engine=engine):
                server = self.serve(engine)
                with programs.connect(server.addresses[0]) as idle, \
                        programs.connect(server.addresses[0]) as busy:
                    idle.sendall(post(b"1"))
                    self.assertIn(b"200 OK", idle.recv(4096))
                    busy.sendall(post(b"12345", "Expect: 100-continue")[:-5])
                    self.assertIn(b"100", busy.recv(4096))
                    server.signal(signal.SIGTERM)
                    self.assertEqual(programs.receive_end(idle), b"")
                    busy.sendall(b"12345")
                    answer = http_programs.parse(programs.receive_end(busy))[0]
                    self.assertEqual(answer.body, b"12345")
                    # A thread of its own may hear of the drain only after its answer.
                    if engine != "blocking":
                        self.assertEqual(answer.headers["connection"], "close")
                self.assertEqual(server.wait(), 0)

    def begin_to_read(self, server):
        """A client that has room for little of its answer, and what it took of it."""
        client = programs.connect(server.addresses[0], receive_buffer=2048)
        self.addCleanup(client.close)
        client.sendall(post(BODY[:20000]))
        return client, programs.receive(client, 100)

    def test_a_drain_waits_for_readers_nearly_to_its_end(self):
        """Who leaves a whole answer unread may take it shortly before the time-out, and is closed
        in order: what the kernel holds is not cut off."""
        def check(engine):
            # A quarter of it, and at most a second, is left to a server that is late.
            server = self.serve(engine, "--drain-timeout", "4")
            client, data = self.begin_to_read(server)
            server.signal(signal.SIGTERM)
            self.assertEqual(server.wait(), 0)
            self.assertNotIn("drain time-out", server.process.stderr.read().decode())
            data += programs.receive_end(client)
            self.assertEqual(http_programs.parse(data)[0].body, BODY[:20000])
        self.at_once(programs.unless_stalled(check))

    def test_wrong_options_are_named(self):
        """A usage error is one line that names the option."""
        for options, word in ((["--handler", "x"], "--handler"), ([], "--root"),
                              (["--root", "/nonexistent"], "--root"),
                              (["--root", "/", "--index", "a/b"], "--index"),
                              (["--root", "/", "--access-log-format", "x"], "--access-log-format"),
                              (["--root", "/", "--max-body", "-1"], "--max-body")):
            run = programs.run("http", "--listen", "127.0.0.1:0", *options)
            self.assertIn(run.returncode, (1, 2))
            self.assertEqual(run.stdout, "")
            self.assertEqual(run.stderr.count("\n"), 1)
            self.assertIn(word, run.stderr)

    def test_sigterm_loses_no_answer_that_is_under_way(self):
        """A client that is slow to read its answer, and then asks again, still gets it whole."""
        for engine in http_programs.ENGINES:
            with self.subTest(engine=engine):
                server = self.serve(engine)
                client, data = self.begin_to_read(server)
                server.signal(signal.SIGTERM)
                # As long as it takes to end a connection that counts as idle, and more.
                with self.assertRaises(subprocess.TimeoutExpired):
                    server.process.wait(0.5)
                client.sendall(post(b"more"))
                data += programs.receive_end(client)
                self.assertEqual(http_programs.parse(data)[0].body, BODY[:20000])
                client.close()
                self.assertEqual(server.wait(), 0)
