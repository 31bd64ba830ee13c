"""Each call of an FTP session fails once, in each way, on the real engines.

A command that is answered with success has done what it says, one that is refused has done nothing,
and a file that arrives or is fetched is whole or is none.
"""

import os
import select
import shutil
import socket
import tempfile
import unittest

import walks

from ftp_client import Control
from programs import receive_end

LARGE = bytes(at * 7 % 251 for at in range(300 * 1024))
SMALL = LARGE[:40000]
TEXT = b"a line\r\n" * 2000
NAMES = [f"entry-{at}" for at in range(8)]


class Session:
    """One client's visit. What it asks for is checked against the folder that is served."""

    def __init__(self, root, address):
        self.root = root
        self.control = Control(address)
        self.refused = self.control.greeting[:3] != "220"

    def path(self, name):
        return os.path.join(self.root, name)

    def ask(self, command, done=None):
        """Whether the command was answered with success. `done`: whether its effect is there."""
        reply = self.control.ask(command)
        held = reply[0] in "23"
        if done and done() != held:
            raise walks.Violation(f"{command}: {reply}")
        self.refused |= not held
        return held

    def content(self, name):
        try:
            with open(self.path(name), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def passive(self):
        reply = self.control.ask("EPSV")
        if not reply.startswith("229"):
            self.refused = True
            return None
        port = int(reply.split("|||")[1].split("|")[0])
        return socket.create_connection((self.control.host, port), walks.PATIENCE)

    def transfer(self, command, move, data=None):
        """Whether it was completed; move(data) does this side's part."""
        data = data or self.passive()
        if not data:
            return False
        with data:
            reply = self.control.ask(command)
            if reply[0] == "1":
                try:
                    move(data)
                except TimeoutError:
                    raise
                except OSError:
                    pass  # the last reply tells
        if reply[0] == "1":
            reply = self.control.reply()
        self.refused |= reply[0] != "2"
        return reply[0] == "2"

    def fetch(self, command, whole, connect=None):
        got = []
        data = connect() if connect else None
        if connect and not data:
            return
        if self.transfer(command, lambda data: got.append(receive_end(data)), data):
            if not whole(got[0]):
                raise walks.Violation(f"{command}: {len(got[0])} bytes, called complete")

    def store(self, command, name, content, sent=SMALL):
        """An upload appears as a whole or not at all; what is appended may also be a part."""
        before = self.content(name)

        def give(data):
            data.sendall(sent)
            data.shutdown(socket.SHUT_WR)
            receive_end(data)  # its end comes when all was taken

        done = self.transfer(command, give)
        after = self.content(name)
        allowed = after == content if done else after in (before, content)
        if command.startswith("APPE") and not done:
            allowed = content.startswith(after) and len(after) >= len(before)
        if not allowed:
            raise walks.Violation(f"{command}: {done}, {after and len(after)} bytes are there")


class Active:
    """Where the server connects to."""

    def __init__(self, session):
        self.session = session

    def __call__(self):
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(walks.PATIENCE)
        with listener:
            if not self.session.ask(f"EPRT |1|127.0.0.1|{listener.getsockname()[1]}|"):
                return None
            return Accepted(listener.dup(), self.session.control)


class Accepted:
    """A data connection that is accepted when it is first used: the command comes before."""

    def __init__(self, listener, control):
        self.listener = listener
        self.control = control
        self.data = None

    def recv(self, size):
        if not self.data:
            watched = [self.listener, self.control.socket]
            patience = 0 if self.control.rest else walks.PATIENCE
            if self.listener not in select.select(watched, [], [], patience)[0]:
                raise ConnectionError("the server does not come; its reply tells why")
            self.data = self.listener.accept()[0]
            self.data.settimeout(walks.PATIENCE)
        return self.data.recv(size)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()
        if self.data:
            self.data.close()


class FtpWalk(walks.WalkTest):
    """`weir ftp`."""

    def prepare(self):
        for entry in os.scandir(self.root):
            (shutil.rmtree if entry.is_dir() else os.unlink)(entry.path)
        os.mkdir(os.path.join(self.root, "sub"))
        for name in NAMES:
            with open(os.path.join(self.root, "sub", name), "wb"):
                pass
        for name in ("large", "kept"):
            with open(os.path.join(self.root, name), "wb") as file:
                file.write(LARGE if name == "large" else SMALL)

    def commands(self, session):
        there = lambda name: os.path.lexists(session.path(name))
        if not (session.ask("USER bob") and session.ask("PASS secret") and session.ask("TYPE I")):
            return
        session.ask("PWD")
        session.store("STOR new", "new", SMALL)
        session.store("STOR kept", "kept", SMALL)
        session.store("APPE kept", "kept", SMALL + SMALL)
        if session.ask("TYPE A"):
            session.store("STOR text", "text", TEXT.replace(b"\r", b""), TEXT)
        if not session.ask("TYPE I"):
            return
        session.fetch("RETR large", lambda data: data == LARGE)
        session.fetch("RETR large", lambda data: data == LARGE, Active(session))
        session.fetch("NLST sub", self.names_all)
        session.fetch("MLSD sub", self.names_all)
        session.fetch("LIST sub", self.names_all)
        session.ask("SIZE large")
        session.ask("MDTM large")
        session.ask("MLST large")
        session.ask("STAT large")
        session.ask("MFMT 20200101000000 large",
                    lambda: os.stat(session.path("large")).st_mtime == 1577836800)
        session.ask("CWD sub")
        session.ask("CDUP")
        session.ask("MKD /made", lambda: there("made"))
        if there("made"):
            session.ask("RMD /made", lambda: not there("made"))
        if session.ask("RNFR /large"):
            session.ask("RNTO /moved", lambda: there("moved") and not there("large"))
        session.ask("DELE /kept", lambda: not there("kept"))

    def names_all(self, data):
        """Whether a listing has all names. What cannot be looked at is not listed."""
        missing = [name for name in NAMES if name.encode() not in data]
        return not missing or (self.strike.name == "fstatat" and len(missing) == 1)

    def session(self, address):
        self.prepare()
        session = None
        try:
            session = Session(self.root, address)
            self.commands(session)
            session.control.ask("QUIT")
            session.control.end()
            outcome = "refused" if session.refused else "served"
        except TimeoutError:
            raise
        except (OSError, EOFError):
            outcome = "lost"
        finally:
            if session:
                session.control.close()
        if not walks.within(lambda: not self.temporary()):
            raise walks.Violation(f"left: {self.temporary()}")
        return outcome

    def temporary(self):
        return [name for name in os.listdir(self.root) if name.startswith(".")]

    def check(self, engine):
        folder = tempfile.TemporaryDirectory(prefix="weir-", dir="/dev/shm")
        self.addCleanup(folder.cleanup)
        self.root = os.path.join(folder.name, "root")
        os.mkdir(self.root)
        server = self.start(engine, "ftp", "--root", self.root, "--user", "bob:plain:secret",
                            "--allow-active", "--data-timeout", "5", "--login-delay", "0")
        self.strike.page.uncached = 1  # so that files are opened by the engine
        neighbour = self.neighbour(engine, lambda: Control(server.addresses[0]))

        def served():
            with neighbour() as client:
                self.assertEqual(client.ask("NOOP")[:3], "200")

        calls = self.walk(server, lambda: self.session(server.addresses[0]), served)
        self.assertGreater(calls, 100)
        for outcome in ("served", "refused", "lost"):
            self.assertGreater(self.outcomes[outcome], 0, self.outcomes)
        self.assertLessEqual(
            {"socket", "bind", "listen", "openat2", "fcntl", "readdir", "renameat2", "unlinkat",
             "mkdirat", "malloc"}, self.met)
        self.finish(server)

    def test_uring(self):
        """The ring accepts, connects, opens, reads and writes."""
        self.check("uring")
        self.assertLessEqual({"ring accept", "ring recv", "ring send", "ring connect",
                              "ring openat2", "ring read", "ring write", "ring close"}, self.met)

    def test_epoll(self):
        """The same by system calls."""
        self.check("epoll")
        self.assertLessEqual({"accept4", "connect", "recv", "send", "sendfile", "pwritev2"},
                             self.met)

    def test_blocking(self):
        """The same on the connection's thread."""
        self.check("blocking")
        self.assertLessEqual({"accept4", "connect", "recv", "send", "sendfile", "pwritev2"},
                             self.met)


class FtpSync(walks.WalkTest):
    """`weir ftp --fsync`: what the disk does not take is not called complete."""

    def store(self, number):
        """The reply to an upload over an old file, in which this call of fsync fails; whether there
        was such a call; and what the file holds then."""
        with open(self.path, "wb") as file:
            file.write(b"old")
        self.strike.arm("fsync", number)
        with self.control.passive() as data:
            reply = self.control.ask("STOR file")
            self.assertEqual(reply[:3], "150")
            data.sendall(SMALL)
        reply = self.control.reply()
        with open(self.path, "rb") as file:
            return reply, self.strike.disarm(), file.read()

    def scarce(self, command):
        """The reply to a command whose copy of the root's descriptor fails, if there is one."""
        self.control.passive_port()
        self.strike.arm("fcntl", 1)
        reply = self.control.ask(command)
        return reply if self.strike.disarm() else None

    def check(self, engine):
        """The file first, then the directory that has its name, then nothing more."""
        folder = tempfile.TemporaryDirectory(prefix="weir-", dir="/dev/shm")
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "file")
        failed, done = "451 The file could not be written.", "226 Transfer complete."
        for uploads, kept in (("atomic", b"old"), ("direct", SMALL)):
            server = self.start(engine, "ftp", "--root", folder.name, "--user", "bob:plain:secret",
                                "--uploads", uploads, "--fsync")
            self.control = Control(server.addresses[0]).login()
            self.addCleanup(self.control.close)
            for command in ("STAT /", "LIST", "STOR file"):
                self.assertEqual(self.scarce(command), "451 Too much at once; try again later.")
            self.assertEqual(self.store(1), (failed, True, kept), uploads)
            self.assertEqual(self.store(2), (failed, True, SMALL), uploads)
            self.assertEqual(self.store(3), (done, False, SMALL), uploads)
            self.assertEqual(os.listdir(folder.name), ["file"])

    def test_sync_uring(self):
        """Uploads are kept by a job, beside the ring."""
        self.check("uring")

    def test_sync_epoll(self):
        """The same beside epoll."""
        self.check("epoll")

    def test_sync_blocking(self):
        """The same on the connection's thread."""
        self.check("blocking")


if __name__ == "__main__":
    unittest.main()
