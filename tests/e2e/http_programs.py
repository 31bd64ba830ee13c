"""What the tests of `weir http` share: a server with a root, and a strict reader of answers."""

import concurrent.futures
import os
import shutil
import socket
import tempfile
import time
import unittest

import h11

import programs

ENGINES = ("uring", "epoll", "blocking")
LINGER = 0.9  # nearly as long as it is looked for what follows a refusal


class Answer:
    """One response, as h11 understands it."""

    def __init__(self, head, body):
        self.status = head.status_code
        self.headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
        self.names = [name.decode() for name, _ in head.headers]
        self.body = body


def parse(data, methods=None):
    """All responses in the bytes. Anything that is not one, whole and strict, fails."""
    answers = []
    while data:
        method = methods[len(answers)] if methods else "GET"
        oracle = h11.Connection(our_role=h11.CLIENT)
        oracle.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
        oracle.send(h11.EndOfMessage())
        oracle.receive_data(data)
        head, body = None, b""
        while True:
            event = oracle.next_event()
            if isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                break
            elif event is h11.NEED_DATA:
                oracle.receive_data(b"")  # only a response that ends with the connection may end
        answers.append(Answer(head, body))
        data = oracle.trailing_data[0]
        if oracle.their_state is h11.MUST_CLOSE and data:
            raise AssertionError(f"bytes behind the last answer: {data[:80]}")
    return answers


def methods_of(data):
    """The method of one request, where its answer must have no content; else None."""
    return ["HEAD"] if data.startswith(b"HEAD ") else None


def converse(address, data, piece=None, half_close=True):
    """Sends the bytes, in pieces if asked to, and returns all that comes back.

    The second result tells whether the server closed before our half-close.
    """
    with programs.connect(address) as client:
        if client.family != socket.AF_UNIX:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = bytearray()
        try:
            for at in range(0, len(data), piece or max(len(data), 1)):
                client.sendall(data[at:at + (piece or len(data))])
        except (BrokenPipeError, ConnectionResetError):
            pass  # it closed while we still wrote; the answer is there
        if half_close:
            client.shutdown(socket.SHUT_WR)
        while more := client.recv(65536):
            received += more
    return bytes(received)


def converse_refused(address, data, piece=None):
    """The same for what is refused while more of it comes. Who got no processor for the second that
    the server's close lingers, here or there, may lose the answer to a reset, and asks again."""
    for _ in range(3):
        began = time.monotonic()
        try:
            return converse(address, data, piece, half_close=False)
        except ConnectionResetError:
            if time.monotonic() - began < LINGER:
                raise
    raise AssertionError("each answer was lost to a reset")


class HttpTest(unittest.TestCase):
    """One server per engine for all tests of a class."""

    options = ()
    files = {"index.html": b"<h1>hello</h1>\n", "a.txt": b"text\n"}
    handler = "files"
    program = None  # `weir http`, or one with further routes
    place = None  # of the root: the usual one for temporary files

    @classmethod
    def setUpClass(cls):
        cls.root = tempfile.mkdtemp(prefix="weir-http-", dir=cls.place)
        cls.addClassCleanup(shutil.rmtree, cls.root)
        for name, content in cls.files.items():
            path = os.path.join(cls.root, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(content)
        cls.servers = {}
        for engine in ENGINES:
            server = programs.Server(engine, *cls.options, "--handler", cls.handler, "--root",
                                     cls.root, "--status", "/.status", name="http",
                                     program=cls.program)
            cls.addClassCleanup(server.kill)
            cls.servers[engine] = server

    def on_each_engine(self, check, *arguments):
        """Calls check(address, ...) for each engine's server."""
        for engine, server in self.servers.items():
            with self.subTest(engine=engine):
                check(server.addresses[0], *arguments)

    def on_all_engines(self, check):
        """The same at once, for checks that wait."""
        with concurrent.futures.ThreadPoolExecutor() as pool:
            runs = {engine: pool.submit(check, server.addresses[0])
                    for engine, server in self.servers.items()}
        for engine, run in runs.items():
            with self.subTest(engine=engine):
                run.result()

    def ask(self, address, *requests, methods=None):
        """The answers to requests that are sent at once."""
        return parse(converse(address, b"".join(requests)), methods)

    def get(self, address, path, *headers, method="GET"):
        lines = [f"{method} {path} HTTP/1.1", "Host: x", *headers, "", ""]
        answers = self.ask(address, "\r\n".join(lines).encode("latin-1"), methods=[method])
        self.assertEqual(len(answers), 1)
        return answers[0]
