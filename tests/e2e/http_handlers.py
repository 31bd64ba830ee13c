"""Handlers: bodies and answers in pieces, with backpressure; late answers; clients that go."""

import hashlib
import json
import os
import signal
import socket
import tempfile
import time
import unittest

import http_programs
import programs

HANDLERS = os.environ.get("HANDLERS", "")
PIECE = os.urandom(1 << 20)


def head(path, *fields, method="POST"):
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *fields, "", ""]).encode()


class Stream(http_programs.HttpTest):
    """The echo handler's /stream, which keeps nothing."""

    handler = "echo"
    options = ("--max-body", "64K", "--max-bodies", "64K")

    def test_bodies_come_back_in_pieces(self):
        """By length and chunked, beyond --max-body, pipelined; in chunks where the length is not
        known before, and for HTTP/1.0 up to the end."""
        body = PIECE[:300000]
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(body[at:at + 7000]), body[at:at + 7000])
                          for at in range(0, len(body), 7000)) + b"0\r\n\r\n"
        def check(address):
            answers = self.ask(address, head("/stream", f"Content-Length: {len(body)}") + body,
                               head("/stream", "Transfer-Encoding: chunked") + chunks,
                               head("/stream", method="GET"))
            self.assertEqual([answer.body for answer in answers], [body, body, b""])
            self.assertEqual([answer.headers.get("content-length") for answer in answers],
                             [str(len(body)), None, "0"])
            old = b"POST /stream HTTP/1.0\r\nContent-Length: 5\r\n\r\nolder"
            self.assertEqual(self.ask(address, old)[0].body, b"older")
        self.on_each_engine(check)

    def test_a_body_of_any_cut_comes_back(self):
        """Byte by byte, and with the head and the end in pieces of their own."""
        def check(address):
            data = head("/stream", "Transfer-Encoding: chunked")
            data += b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
            data += head("/stream", "Content-Length: 4") + b"last"
            for piece in (1, 2, 5, 64):
                answers = http_programs.parse(http_programs.converse(address, data, piece))
                self.assertEqual([answer.body for answer in answers], [b"abcde", b"last"])
        self.on_each_engine(check)

    def test_who_does_not_read_is_not_read_from(self):
        """A sender whose answer stands still is stopped at the marks and the kernel's buffers;
        others are served meanwhile, and when it reads, every byte is there."""
        count = 32
        def check(address):
            with programs.connect(address) as client:
                client.sendall(head("/stream", f"Content-Length: {count << 20}"))
                client.setblocking(False)
                # Neither side moves any more long before the end.
                sent = programs.stuff_up_to(client, PIECE, count << 20)
                self.assertLess(sent, count << 20)
                self.assertEqual(self.get(address, "/x").status, 200)
                self.finish(client, sent, count << 20)
        self.on_each_engine(check)

    def finish(self, client, sent, total):
        """Reads while it sends the rest; the answer's bytes must be the body's."""
        wanted, got, size = hashlib.sha256(), hashlib.sha256(), -1
        for _ in range(total >> 20):
            wanted.update(PIECE)
        data, deadline = b"", time.monotonic() + programs.LIMIT
        while size < total and time.monotonic() < deadline:
            if sent < total:
                client.setblocking(False)
                try:
                    at = sent % len(PIECE)
                    sent += client.send(PIECE[at:at + 65536])
                except BlockingIOError:
                    pass
            client.settimeout(programs.LIMIT)
            data += client.recv(1 << 20)
            if size < 0 and b"\r\n\r\n" in data:
                data, size = data.split(b"\r\n\r\n", 1)[1], 0
            if size >= 0:
                got.update(data)
                size += len(data)
                data = b""
        self.assertEqual((size, got.hexdigest()), (total, wanted.hexdigest()))

    def test_a_broken_body_breaks_the_answer_that_has_begun(self):
        """Behind the head no refusal can stand: the connection is reset, and the next is served."""
        def check(address):
            with programs.connect(address) as client:
                client.sendall(head("/stream", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n")
                data = programs.receive_until(client, b"abc")
                client.sendall(b"no chunk\r\n")
                with self.assertRaises(ConnectionResetError):
                    while client.recv(65536):
                        pass
                self.assertTrue(data.startswith(b"HTTP/1.1 200 OK\r\n"))
            self.assertEqual(self.get(address, "/x").status, 200)
        self.on_each_engine(check)


class Broken(unittest.TestCase):
    """Answers that break off."""

    def break_off(self, address, data, until=b"", more=None):
        """Sends the request and waits for a part of its answer; then the client goes with a reset,
        or sends more and is reset."""
        with programs.connect(address) as client:
            client.sendall(data)
            if until:
                programs.receive_until(client, until)
            if more is None:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                return
            with self.assertRaises(ConnectionResetError):
                client.sendall(more)
                programs.receive_end(client)

    def gone(self, address):
        data = http_programs.converse(address, head("/gone", method="GET"))
        return int(http_programs.parse(data)[0].body)

    def take_long(self, address):
        """A long answer that goes on in `writable`, while others are answered; its length."""
        with programs.connect(address) as client:
            client.sendall(head("/long?kept", method="GET"))
            data = programs.receive_until(client, b"\r\n\r\n")
            self.gone(address)
            client.shutdown(socket.SHUT_WR)
            answer, = http_programs.parse(data + programs.receive_end(client))
        self.assertEqual(answer.body, b"".join(b"%c" % (ord("a") + number % 26) * 8192
                                               for number in range(512)))
        return len(answer.body)

    def test_each_is_logged_and_counted(self):
        """A client that leaves within its answer, one that leaves before it, one whose body ends
        what has begun, a handler that breaks its promise, and one that is at it
        long: a line each, with what was answered."""
        chunk = head("/stream", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n"
        for engine in http_programs.ENGINES:
            with self.subTest(engine=engine), tempfile.TemporaryDirectory() as folder:
                log, stats = os.path.join(folder, "log"), os.path.join(folder, "stats")
                server = programs.Server(engine, "--handler", "echo", "--access-log", log,
                                         "--access-log-format", "json", "--stats-json", stats,
                                         program=(HANDLERS,))
                self.addCleanup(server.kill)
                address = server.addresses[0]
                self.break_off(address, chunk, b"abc")
                self.break_off(address, chunk, b"abc", b"no chunk\r\n")
                self.break_off(address, head("/promise?less", method="GET"), more=b"")
                self.break_off(address, head("/late?never", "Content-Length: 9") + b"123")
                self.break_off(address, head("/late?never", method="GET"))
                deadline = time.monotonic() + programs.LIMIT
                while not self.gone(address):
                    self.assertLess(time.monotonic(), deadline)
                size = self.take_long(address)
                server.signal(signal.SIGTERM)
                self.assertEqual(server.wait(), 0)
                with open(log, encoding="ascii") as file:
                    rows = [json.loads(line) for line in file]
                self.assertEqual(sorted((row["target"], row["status"], row["size"])
                                        for row in rows if row["target"] != "/gone"),
                                 [("/late?never", 0, 0), ("/long?kept", 200, size),
                                  ("/promise?less", 200, 3), ("/stream", 200, 3),
                                  ("/stream", 200, 3)])
                with open(stats, encoding="ascii") as file:
                    self.assertEqual(json.load(file)["protocol"]["requests"], len(rows))


class Routes(http_programs.HttpTest):
    """A program with routes of its own (tests/e2e/handlers)."""

    program = (HANDLERS,)
    options = ("--max-body", "100K")

    def test_a_route_is_ten_lines(self):
        """The example of the documentation answers, and files are served beside it."""
        def check(address):
            self.assertEqual(self.get(address, "/hello?you").body, b"hello, you\n")
            self.assertEqual(self.get(address, "/hello").body, b"hello, \n")
            refused = self.get(address, "/hello", method="PUT")
            self.assertEqual((refused.status, refused.headers["allow"]), (405, "GET, HEAD"))
            self.assertEqual(self.get(address, "/a.txt").body, b"text\n")
        self.on_each_engine(check)
        tests = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        with open(os.path.join(tests, "e2e", "handlers", "hello.h"), encoding="utf-8") as file:
            example = file.read().split('#include "http/handler.h"\n\n', 1)[1]
        with open(os.path.join(tests, "..", "docs", "protocols.md"), encoding="utf-8") as file:
            self.assertTrue(f"```c\n{example}```\n" in file.read(), "the example is another")

    def test_an_answer_may_come_later(self):
        """From a timer, with the body that was kept; what is pipelined behind it waits its turn."""
        def check(address):
            answers = self.ask(address, head("/late", "Content-Length: 4") + b"kept",
                               head("/hello?b", method="GET"),
                               head("/late", "Transfer-Encoding: chunked") +
                               b"2\r\nto\r\n2\r\no!\r\n0\r\n\r\n")
            self.assertEqual([answer.body for answer in answers],
                             [b"kept", b"hello, b\n", b"too!"])
        self.on_all_engines(check)

    def test_a_handler_hears_of_a_client_that_goes(self):
        """A reset while the answer is due ends the exchange, once."""
        def check(address):
            before = int(self.get(address, "/gone").body)
            client = programs.connect(address)
            client.sendall(head("/late?never", method="GET"))
            # Behind it on another connection something is answered: the request has arrived.
            self.get(address, "/hello")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
            deadline = time.monotonic() + programs.LIMIT
            while int(self.get(address, "/gone").body) == before:
                self.assertLess(time.monotonic(), deadline)
            self.assertEqual(int(self.get(address, "/gone").body), before + 1)
        self.on_each_engine(check)

    def test_a_body_waits_for_the_work_on_it(self):
        """Each piece is summed in a job, and nothing is lost or seen twice."""
        body = PIECE[:90000]
        def check(address):
            for size in (0, 1, 5000, len(body)):
                data = head("/sum", f"Content-Length: {size}") + body[:size]
                answers = self.ask(address, data, data)
                self.assertEqual([int(answer.body) for answer in answers], [sum(body[:size])] * 2)
            # A client that goes in the middle of it, many times.
            for size in range(0, 60000, 6000):
                client = programs.connect(address)
                client.sendall(head("/sum", "Content-Length: 90000") + body[:size])
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                client.close()
            self.assertEqual(self.get(address, "/hello").status, 200)
        self.on_each_engine(check)

    def test_a_promised_length_is_kept(self):
        """What a handler sends beyond it is left out; what it leaves out costs the connection."""
        def check(address):
            more, next_one = self.ask(address, head("/promise?more", method="GET"),
                                      head("/hello", method="GET"))
            self.assertEqual((more.headers["content-length"], more.body), ("5", b"onetw"))
            self.assertEqual(next_one.body, b"hello, \n")
            self.assertEqual(self.get(address, "/promise?more", method="HEAD").body, b"")
            with programs.connect(address) as client, self.assertRaises(ConnectionResetError):
                client.sendall(head("/promise?less", method="GET"))
                programs.receive_end(client)
            self.assertEqual(self.get(address, "/hello").status, 200)
        self.on_each_engine(check)

    def test_bodies_in_pieces_are_limited_too(self):
        """By --max-body, told by the length or found out in the middle; the state is given up."""
        def check(address):
            chunk = b"%x\r\n" % 200000 + bytes(200000)
            for fields, body in (("Content-Length: 200000", b""),
                                 ("Transfer-Encoding: chunked", chunk)):
                data = http_programs.converse(address, head("/sum", fields) + body,
                                              half_close=False)
                answers = http_programs.parse(data)
                self.assertEqual([answer.status for answer in answers], [413])
        self.on_each_engine(check)

    def test_an_early_answer_leaves_the_connection_in_order(self):
        """A short rest of the body is read and dropped, and the next request is served; before a
        long or unknown one the answer says that it closes."""
        def check(address):
            after = head("/hello?c", method="GET")
            short = head("/picky", "Content-Length: 50000") + b"?" * 50000
            answers = self.ask(address, short, head("/picky", "Content-Length: 3") + b"abc", after)
            self.assertEqual([answer.status for answer in answers], [403, 204, 200])
            for data in (head("/picky", "Content-Length: 90000") + b"?" * 90000,
                         head("/picky", "Transfer-Encoding: chunked") + b"1\r\n?\r\n0\r\n\r\n"):
                data = http_programs.converse(address, data + after, half_close=False)
                answers = http_programs.parse(data)
                self.assertEqual([(answer.status, answer.headers["connection"])
                                  for answer in answers], [(403, "close")])
        self.on_each_engine(check)

    def test_each_cut_of_an_early_answer_means_the_same(self):
        """Byte by byte: the refusal, the rest dropped, the next request."""
        def check(address):
            data = head("/picky", "Content-Length: 9") + b"ab?defghi"
            data += head("/hello", method="GET")
            answers = http_programs.parse(http_programs.converse(address, data, 1))
            self.assertEqual([answer.status for answer in answers], [403, 200])
        self.on_each_engine(check)
