"""What the tests of the sandbox share: servers in it, and the effects that an attacker wants."""

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.join(HERE, "..", "e2e"))

import programs
from ftp_client import free_ports
from programs import Server, connect

EFFECTS = os.environ["EFFECTS"]
SANITIZED = os.environ["SANITIZED"]
ENGINES = ("uring", "epoll", "blocking")
CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
FAST_OPEN = "/proc/sys/net/ipv4/tcp_fastopen"


class SandboxTestCase(unittest.TestCase):
    """Servers, clients and folders that end with their test."""

    def start(self, engine, *options, program=None, **keywords):
        with mock.patch.object(programs, "WEIR", program or programs.WEIR):
            server = Server(engine, *options, **keywords)
        self.addCleanup(server.kill)
        return server

    def client(self, server, at=0):
        client = connect(server.addresses[at])
        self.addCleanup(client.close)
        return client

    def enter_folder(self):
        folder = tempfile.TemporaryDirectory(prefix="weir-")
        self.addCleanup(folder.cleanup)
        return folder.name

    own_network = False  # of all test cases: a process enters one once

    def set_fast_open(self, value):
        """Sets net.ipv4.tcp_fastopen until the test ends, in a network of this process's own."""
        if os.geteuid():
            self.skipTest("needs root for a network of its own, in which TCP Fast Open is set")
        if not SandboxTestCase.own_network:
            if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
                self.skipTest(f"no network of its own: {os.strerror(ctypes.get_errno())}")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
                fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))
            SandboxTestCase.own_network = True
        with open(FAST_OPEN, encoding="ascii") as file:
            self.addCleanup(write, FAST_OPEN, file.read().encode())
        write(FAST_OPEN, str(value).encode())

    def needs_filters(self):
        if SANITIZED:
            self.skipTest(f"built with {SANITIZED}: takes no filter of system calls")


def write(path, content=b"content\n"):
    with open(path, "wb") as file:
        file.write(content)
    return path


# The servers that are attacked, by a name of theirs: their command and options.
ATTACKED = {
    "echo": ("echo", ()),
    "http": ("http", ("--root", "{root}")),
    "ftp": ("ftp", ("--root", "{root}", "--anonymous", "--anonymous-write", "--passive-ports",
                    "{port}-{port}")),
    "ftp read-only": ("ftp", ("--root", "{root}", "--anonymous", "--read-only",
                              "--passive-ports", "{port}-{port}")),
    "ftp active": ("ftp", ("--root", "{root}", "--anonymous", "--allow-active")),
}


class Trial:
    """One server that tries effects. Its first connection is the victim."""

    def __init__(self, test, name, engine, mode, **keywords):
        command, options = ATTACKED[name]
        self.name = f"{name}, {engine}"
        self.folder = test.enter_folder()
        self.root = os.path.join(self.folder, "root")
        os.mkdir(self.root)
        self.port = free_ports(1)
        options = [option.format(root=self.root, port=self.port) for option in options]
        self.server = test.start(engine, "--sandbox", mode, *options, program=EFFECTS,
                                 name=command, **keywords)
        self.other = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        test.addCleanup(self.end_other)
        self.victim = test.client(self.server)
        # The answer proves that this connection was the first that the server opened.
        self.ask(self.victim, "nothing")
        self.attacker = test.client(self.server)

    def end_other(self):
        self.other.stdin.close()
        self.other.wait(programs.LIMIT)

    def ask(self, client, effect, argument=""):
        """The effect's result, or None if the server ended."""
        wanted = effect.removeprefix("job:").encode() + b" "
        answer = b""
        try:
            client.sendall(f"effect {effect} {argument}\n".encode())
            while True:
                # What an FTP server greets with may stand before it.
                for line in answer.splitlines(keepends=True):
                    if line.startswith(wanted) and line.endswith(b"\n"):
                        return int(line.split()[1])
                more = client.recv(1000)
                if not more:
                    return None
                answer += more
        except (BrokenPipeError, ConnectionResetError):
            return None

    def argument(self, effect, inside):
        """What the effect needs to be done: a file or a new name, in the root or not; a port that
        nobody listens on or somebody does; another process."""
        name = effect.rpartition(":")[2]
        folder = self.root if inside else self.folder
        if name in ("create2", "mkdir", "link", "ring-create2"):
            return os.path.join(folder, f"new-{name}")
        if name in ("kill", "trace", "abort-another"):
            return self.other.pid
        if name == "raise":
            return self.server.process.pid
        if name == "bind":
            return self.port if inside else free_ports(1)
        return write(os.path.join(folder, f"file-{name}"))

    def attempt(self, effect, inside=False):
        if "connect" in effect:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                return self.ask(self.attacker, effect, listener.getsockname()[1])
        return self.ask(self.attacker, effect, self.argument(effect, inside))
