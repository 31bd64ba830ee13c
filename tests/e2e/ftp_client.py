"""A raw FTP client for tests: it sends what it is told, byte by byte, and reads exact replies."""

import contextlib
import os
import random
import re
import select
import socket
import struct
import tempfile
import unittest

from programs import LIMIT, WEIR, Server, connect, receive_end

USER = ("bob", "secret")

# `./do clients` asks for the sizes that nobody wants to wait for each time.
FULL = bool(os.environ.get("WEIR_FULL"))


class Control:
    """A control connection; the greeting is read."""

    def __init__(self, address, source=None):
        self.socket = connect(address, source)
        self.host = self.socket.getpeername()[0]
        self.rest = b""
        self.greeting = self.reply()

    def line(self):
        while b"\r\n" not in self.rest:
            more = self.socket.recv(65536)
            if not more:
                raise EOFError(f"the connection ended after {self.rest!r}")
            self.rest += more
        line, self.rest = self.rest.split(b"\r\n", 1)
        return line.decode("utf-8", "surrogateescape")

    def reply(self):
        """A whole reply; the lines of a long one are joined by newlines."""
        lines = [self.line()]
        if lines[0][3:4] == "-":
            while not re.match(lines[0][:3] + " ", lines[-1]) or len(lines) == 1:
                lines.append(self.line())
        return "\n".join(lines)

    def send(self, command):
        if isinstance(command, str):
            command = command.encode("utf-8", "surrogateescape")
        self.socket.sendall(command + b"\r\n")

    def ask(self, command):
        self.send(command)
        return self.reply()

    def code(self, command):
        return int(self.ask(command)[:3])

    def login(self, user=USER):
        self.ask(f"USER {user[0]}")
        reply = self.ask(f"PASS {user[1]}")
        assert reply == "230 Logged in.", reply
        self.ask("TYPE I")
        return self

    def passive_port(self):
        reply = self.ask("EPSV")
        return int(re.fullmatch(r"229 Entering Extended Passive Mode \(\|\|\|(\d+)\|\)", reply)[1])

    def passive(self):
        return socket.create_connection((self.host, self.passive_port()), LIMIT)

    def retrieve(self, command):
        """The data that a command sends, and its last reply."""
        with self.passive() as data:
            reply = self.ask(command)
            if reply[0] != "1":
                return None, reply
            return receive_end(data), self.reply()

    def store(self, command, content):
        with self.passive() as data:
            reply = self.ask(command)
            if reply[0] != "1":
                return reply
            data.sendall(content)
        return self.reply()

    def end(self):
        """Waits for the server's end of the connection, and returns what came before it."""
        try:
            return self.rest + receive_end(self.socket)
        except ConnectionResetError:
            return self.rest

    def fileno(self):
        """For select."""
        return self.socket.fileno()

    def close(self):
        self.socket.close()


def reset(connection):
    """Closes so that the peer gets a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def small_buffers(address):
    """A connection that holds little for a client that does not read."""
    return connect(f"{address[0]}:{address[1]}", receive_buffer=8192)


def free_ports(count):
    """The first of so many free ports in a row, which the kernel gives nobody by itself."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
        first = int(file.read().split()[0])
    while True:
        port = random.randrange(1024, first - count)
        try:
            with contextlib.ExitStack() as servers:
                for number in range(count):
                    servers.enter_context(socket.create_server(("127.0.0.1", port + number)))
                return port
        except OSError:
            pass


def sanitized():
    with open(WEIR, "rb") as file:
        program = file.read()
    return b"__asan_init" in program or b"__tsan_init" in program


class FtpCase(unittest.TestCase):
    """One server for all tests of a class, over a folder of its own."""

    engine = ""
    options = ("--user", ":plain:".join(USER), "--anonymous", "--allow-active")

    @classmethod
    def setUpClass(cls):
        # In memory: the tests are about the server, not about a disk.
        cls.folder = tempfile.TemporaryDirectory(prefix="weir-", dir="/dev/shm")
        cls.addClassCleanup(cls.folder.cleanup)
        cls.root = os.path.join(cls.folder.name, "root")
        os.mkdir(cls.root)
        cls.server = cls.start_server(*cls.options)

    @classmethod
    def start_server(cls, *options, **keywords):
        server = Server(cls.engine, "--root", cls.root, *options, name="ftp", **keywords)
        cls.addClassCleanup(server.kill)
        return server

    def control(self, server=None, source=None):
        control = Control((server or self.server).addresses[0], source)
        self.addCleanup(control.close)
        return control

    def login(self, server=None, user=USER):
        return self.control(server).login(user)

    def path(self, *names):
        return os.path.join(self.root, *names)

    def write(self, name, content=b""):
        with open(self.path(name), "wb") as file:
            file.write(content)
        return content

    def write_folder(self, name, count):
        """A folder whose listing is longer than the kernel's buffers hold."""
        os.mkdir(self.path(name))
        for number in range(count):
            self.write(f"{name}/{number:0200}")

    def asks_unread(self, server, command):
        """A session that asks for this and reads nothing; and a poll of its end."""
        host, port = server.addresses[0].rsplit(":", 1)
        unread = small_buffers((host, int(port)))
        self.addCleanup(unread.close)
        user, password = USER
        unread.sendall(f"USER {user}\r\nPASS {password}\r\n{command}\r\n".encode("ascii"))
        ends = select.poll()
        ends.register(unread, 0)
        return unread, ends

    def read(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()

    def leftovers(self):
        return [name for name in os.listdir(self.root) if name.startswith(".weir-upload-")]

    def assert_asks(self, control, *pairs):
        """Each command gets exactly this reply."""
        for command, reply in pairs:
            self.assertEqual((command, control.ask(command)), (command, reply))


def on_all_engines(case, namespace):
    """Makes a test class of `case` for each engine."""
    for engine in ("uring", "epoll", "blocking"):
        name = f"{case.__name__}_{engine}"
        namespace[name] = type(name, (case, FtpCase), {"engine": engine})
