"""Each call of a session fails once, in each way, on the real engines: echo, HTTP and FTP.

Whatever fails, the client gets the right bytes, a refusal that its protocol knows, or a lost
connection: never altered bytes, never a success that is none, and it does not wait in vain. Its
neighbours are served, and nothing of the session is left.
"""

import contextlib
import http.client
import json
import os
import socket
import unittest

import walks

import ftp_client
import programs

LARGE = bytes(at * 7 % 251 for at in range(300 * 1024))
# More than a socket takes, whatever its kernel thinks of its buffers.
HUGE = LARGE * 40
POLLS = 4
# More than one session makes.
ALLOCATIONS = 40
LOST = (OSError, EOFError, http.client.IncompleteRead, http.client.BadStatusLine)


class EchoWalk(walks.WalkTest):
    """`weir echo`."""

    def session(self, address):
        data = LARGE[:60000]
        back = bytearray()
        try:
            with socket.create_connection(address, walks.PATIENCE) as client:
                client.sendall(data[:100])
                while len(back) < 100 and (more := client.recv(100)):
                    back += more
                client.sendall(data[100:])
                client.shutdown(socket.SHUT_WR)
                while more := client.recv(65536):
                    back += more
        except TimeoutError:
            raise
        except LOST:
            pass
        if not data.startswith(back):
            raise walks.Violation("altered bytes")
        return "served" if len(back) == len(data) else "lost"

    def check(self, engine):
        server = self.start(engine, "echo")
        host, _, port = server.addresses[0].rpartition(":")
        address = (host, int(port))
        neighbour = self.neighbour(engine, lambda: programs.connect(server.addresses[0]))

        def served():
            with neighbour() as client:
                client.sendall(b"and I?")
                self.assertEqual(programs.receive(client, 6), b"and I?")

        calls = self.walk(server, lambda: self.session(address), served)
        self.assertGreater(calls, 3)
        self.assertGreater(self.outcomes["lost"], 0)
        self.finish(server)

    def test_uring(self):
        """The ring's accept, receive, send, cancel and close."""
        self.check("uring")
        for name in ("ring accept", "ring recv", "ring close"):
            self.assertIn(name, self.met)
        self.assertTrue({"ring send", "ring sendmsg"} & self.met)

    def test_epoll(self):
        """The system calls that epoll's engine makes instead."""
        self.check("epoll")
        self.assertLessEqual({"accept4", "epoll_ctl", "recv"}, self.met)

    def test_blocking(self):
        """A thread, with a loop of its own, for the connection."""
        self.check("blocking")
        self.assertLessEqual({"accept4", "pthread_create", "malloc", "recv"}, self.met)


class HttpWalk(walks.WalkTest):
    """`weir http` with files and listings."""

    def get(self, client, path, expected, *, method="GET", **headers):
        """Whether the expected (status, body) came; a refusal is 4xx or 5xx, whole."""
        client.request(method, path, headers={name.replace("_", "-"): value
                                              for name, value in headers.items()})
        answer = client.getresponse()
        body = answer.read()
        if (answer.status, body) == expected:
            return True
        if answer.status < 400:
            raise walks.Violation(f"{method} {path}: {answer.status} with {len(body)} bytes")
        return False

    def requests(self, client, name):
        yield self.get(client, f"/{name}", (200, b"small"))
        yield self.get(client, f"/{name}", (200, b"small"))
        yield self.get(client, "/large", (200, LARGE))
        yield self.get(client, "/large", (206, LARGE[1000:2001]), Range="bytes=1000-2000")
        yield self.get(client, "/large", (200, b""), method="HEAD")
        yield self.listed(client)
        self.get(client, f"/none-{name}", (), Connection="close")

    def listed(self, client):
        """A listing has all names or is not sent as whole."""
        client.request("GET", "/sub/", headers={"Accept": "application/json"})
        answer = client.getresponse()
        body = answer.read()
        if answer.status >= 400:
            return False
        missing = [at for at in range(12) if f'"entry-{at}"'.encode() not in body]
        # What cannot be looked at is not served, and so not listed.
        if self.strike.name == "fstatat" and len(missing) == 1:
            return False
        if answer.status != 200 or missing:
            raise walks.Violation(f"listing: {answer.status} without {missing}")
        return True

    def session(self, address):
        # Nothing of it is known to a cache.
        self.serial += 1
        name = f"small-{self.serial}"
        path = os.path.join(self.root, name)
        with open(path, "wb") as file:
            file.write(b"small")
        client = http.client.HTTPConnection(*address, timeout=walks.PATIENCE)
        try:
            held = all(list(self.requests(client, name)))
            return "served" if held else "refused"
        except TimeoutError:
            raise
        except LOST:
            return "lost"
        finally:
            client.close()
            os.unlink(path)

    def full_session(self, address):
        """A file that the socket has no room for, to a client that takes little at a time."""
        with socket.socket() as client, contextlib.closing(
                http.client.HTTPConnection(*address)) as connection:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            client.settimeout(walks.PATIENCE)
            client.connect(address)
            connection.sock = client
            try:
                return "served" if self.get(connection, "/huge", (200, HUGE)) else "refused"
            except TimeoutError:
                raise
            except LOST:
                return "lost"

    def echoed(self, client, body):
        """Whether a body that is sent when it was asked for comes back."""
        client.putrequest("POST", "/")
        client.putheader("Content-Length", str(len(body)))
        client.putheader("Expect", "100-continue")
        client.endheaders()
        asked = b"HTTP/1.1 100"
        if client.sock.recv(len(asked), socket.MSG_PEEK | socket.MSG_WAITALL) == asked:
            client.send(body)
        answer = client.getresponse()
        if answer.status >= 400:
            return False
        if (answer.status, answer.read()) != (200, body):
            raise walks.Violation(f"echo: {answer.status}")
        return True

    def echo_session(self, address):
        with contextlib.closing(
                http.client.HTTPConnection(*address, timeout=walks.PATIENCE)) as client:
            try:
                return "served" if self.echoed(client, LARGE) else "refused"
            except TimeoutError:
                raise
            except LOST:
                return "lost"

    def serve(self, engine):
        """The server, its address, and a neighbour's visit."""
        self.serial = 0
        folder = walks.tempfile.TemporaryDirectory(prefix="weir-", dir="/dev/shm")
        self.addCleanup(folder.cleanup)
        self.root = folder.name
        os.mkdir(os.path.join(self.root, "sub"))
        for at in range(12):
            with open(os.path.join(self.root, "sub", f"entry-{at}"), "wb"):
                pass
        with open(os.path.join(self.root, "large"), "wb") as file:
            file.write(LARGE)
        server = self.start(engine, "http", "--root", self.root, "--listing",
                            "--access-log", "/dev/null")
        host, _, port = server.addresses[0].rpartition(":")
        address = (host, int(port))
        neighbour = self.neighbour(
            engine, lambda: http.client.HTTPConnection(*address, timeout=walks.PATIENCE))

        def served():
            with neighbour() as client:
                self.assertTrue(self.get(client, "/large", (206, b"\0"), Range="bytes=0-0"))

        return server, address, served

    def check(self, engine):
        server, address, served = self.serve(engine)
        calls = self.walk(server, lambda: self.session(address), served)
        self.assertGreater(calls, 20)
        for outcome in ("served", "refused", "lost"):
            self.assertGreater(self.outcomes[outcome], 0, self.outcomes)
        self.finish(server)

    def test_a_listing_that_breaks_off_says_so(self):
        """A directory that cannot be read to its end, behind the group of names with which the
        answer began: what was read is listed, the listing says that it is not all, a line and a
        counter do, and the connection goes on."""
        names, broken = 7600, 7550  # of 255 bytes: a group has 7,489
        folder = walks.tempfile.TemporaryDirectory(prefix="weir-", dir="/dev/shm")
        self.addCleanup(folder.cleanup)
        os.mkdir(os.path.join(folder.name, "sub"))
        for at in range(names):
            os.close(os.open(os.path.join(folder.name, "sub", f"{at:0255}"), os.O_CREAT, 0o644))
        for engine in ("uring", "epoll", "blocking"):
            with self.subTest(engine=engine):
                log = os.path.join(folder.name, engine)
                server = self.start(engine, "http", "--root", folder.name, "--listing",
                                    "--status", "/.status", "--log", log)
                host, _, port = server.addresses[0].rpartition(":")
                self.strike.arm("readdir", broken)
                client = http.client.HTTPConnection(host, int(port), timeout=walks.PATIENCE)
                with contextlib.closing(client):
                    client.request("GET", "/sub/", headers={"Accept": "application/json"})
                    listing = json.load(client.getresponse())
                    self.assertTrue(self.strike.disarm())
                    client.request("GET", "/.status")
                    self.assertEqual(json.load(client.getresponse())["file_errors"], 1)
                self.assertIs(listing["complete"], False)
                self.assertEqual(len(listing["entries"]), broken - 3)  # and "." and ".."
                self.finish(server)
                with open(log, encoding="ascii") as file:
                    self.assertEqual(file.read().count(
                        ": 200 OK: the rest of the directory cannot be read\n"), 1)

    def test_uring(self):
        """Opens and reads of files go through the ring."""
        self.check("uring")
        self.assertLessEqual({"ring accept", "ring recv", "ring read", "ring install", "readdir",
                              "malloc"}, self.met)

    def test_uring_waits_for_room(self):
        """A poll for room that fails costs a connection at most, and is no room that is not there.
        """
        server, address, served = self.serve("uring")
        with open(os.path.join(self.root, "huge"), "wb") as file:
            file.write(HUGE)
        self.walk(server, lambda: self.full_session(address), served,
                  kinds={"ring poll": POLLS, "ring install": 1})
        self.assertEqual(self.met, {"ring poll", "ring install"})
        self.finish(server)

    def test_bodies(self):
        """What a head and its body need while the body is on its way may not be there."""
        server = self.start("uring", "http", "--handler", "echo")
        host, _, port = server.addresses[0].rpartition(":")
        address = (host, int(port))
        client = http.client.HTTPConnection(*address, timeout=walks.PATIENCE)
        self.addCleanup(client.close)

        def served():
            self.assertTrue(self.echoed(client, b"neighbour"))

        self.walk(server, lambda: self.echo_session(address), served,
                  kinds={"malloc": ALLOCATIONS, "realloc": ALLOCATIONS})
        self.assertIn("malloc", self.met)
        self.assertGreater(self.outcomes["refused"], 1, self.outcomes)
        client.close()
        self.finish(server)

    def test_epoll(self):
        """Files are sent by sendfile."""
        self.check("epoll")
        self.assertLessEqual({"accept4", "recv", "sendfile", "readdir", "malloc"}, self.met)

    def test_blocking(self):
        """All of it on the connection's thread."""
        self.check("blocking")
        self.assertLessEqual({"accept4", "recv", "sendfile", "readdir", "malloc"}, self.met)


if __name__ == "__main__":
    unittest.main()
