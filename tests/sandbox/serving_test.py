"""What servers do for their users, they do in the sandbox."""

import ftplib
import http.client
import io
import json
import os
import re
import resource
import signal
import socket
import sys
import time

from sandbox_programs import ENGINES, SANITIZED, SandboxTestCase, programs, write
from programs import LIMIT, forbid_call, receive, receive_end, run

MODES = ("on",) if SANITIZED else ("on", "strict")
USER = ("bob", "secret")

# Numbers of system calls, and one of prctl's options.
LANDLOCK_CREATE_RULESET, SECCOMP, PRCTL, PR_SET_SECCOMP = 444, 317, 157, 22
SETSOCKOPT, SO_ATTACH_FILTER = 54, 26


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


class ServingTestCase(SandboxTestCase):
    """A server with a log and statistics, whose life ends in order."""

    def serve(self, engine, mode, *options, **keywords):
        self.folder = self.enter_folder()
        self.root = os.path.join(self.folder, "root")
        os.mkdir(self.root)
        self.log, self.stats = f"{self.folder}/log", f"{self.folder}/stats.json"
        options = [option.format(folder=self.folder, root=self.root) for option in options]
        return self.start(engine, "--sandbox", mode, "--log", self.log, "--stats-json", self.stats,
                          *options, **keywords)

    def check_threads(self, server):
        """No thread is without no_new_privs and a filter."""
        self.assertEqual({(thread["NoNewPrivs"], thread["Seccomp"])
                          for thread in programs.threads_of(server.process.pid)},
                         {("1", "0" if SANITIZED else "2")})

    def end(self, server, engine, mode, logs):
        """A stop and a continue, new logs, statistics, a drain."""
        self.check_threads(server)
        for log in logs:
            os.rename(log, log + ".1")
        for number in (signal.SIGHUP, signal.SIGSTOP, signal.SIGCONT, signal.SIGUSR1):
            server.signal(number)
        programs_wait(lambda: os.path.exists(self.stats) and all(map(os.path.exists, logs)))
        yield
        server.signal(signal.SIGTERM)
        self.assertEqual(server.wait(), 0)
        self.assertIn("log reopened", read(self.log))
        self.assertRegex(read(self.log + ".1"), rf"sandbox: {mode}: .*no_new_privs, landlock \d+")
        sandbox = json.loads(read(self.stats))["sandbox"]
        self.assertEqual(sandbox["mode"], mode)
        self.assertEqual(sandbox["seccomp"], not SANITIZED)
        self.assertEqual(sandbox["ring"], engine == "uring")
        self.assertTrue(sandbox["no_new_privs"])

    def on_all(self, check):
        """Calls check(engine, mode) for every engine in every mode."""
        for engine in ENGINES:
            for mode in MODES:
                with self.subTest(engine=engine, mode=mode):
                    check(engine, mode)


def programs_wait(done):
    """Looks until it is done. Files tell nobody when they change."""
    end = time.monotonic() + LIMIT
    while not done():
        if time.monotonic() > end:
            raise AssertionError("it took too long")
        programs.look_later()


class EchoTest(ServingTestCase):
    """weir echo."""

    # Bytes over TCP and unix sockets, in each mode, with each engine; the socket's path is removed.
    def test_echo_works_inside(self):
        def check(engine, mode):
            folder = self.enter_folder()
            server = self.serve(engine, mode, listen=("127.0.0.1:0", f"unix:{folder}/socket"))
            for at in range(2):
                client = self.client(server, at)
                for size in (1, 70000, 300000):
                    client.sendall(b"x" * size)
                    self.assertEqual(receive(client, size), b"x" * size)
                client.shutdown(socket.SHUT_WR)
                self.assertEqual(receive_end(client), b"")
            for _ in self.end(server, engine, mode, [self.log]):
                pass
            self.assertFalse(os.path.exists(f"{folder}/socket"))
        self.on_all(check)

    # A connection of --total-timeout is ended in order, in strict mode, too: our end comes first,
    # and what the client still says then resets nothing.
    def test_old_connections_end_inside(self):
        def check(engine, mode):
            server = self.serve(engine, mode, "--total-timeout", "0.5")
            client = self.client(server)
            self.assertEqual(receive_end(client), b"")
            for _ in range(2):  # a closed socket would answer the first, and fail the second
                client.sendall(b"late")
            client.close()
            for _ in self.end(server, engine, mode, [self.log]):
                pass
            self.assertEqual(json.loads(read(self.stats))["total_timeouts"], 1)
        self.on_all(programs.unless_stalled(check))


class HttpTest(ServingTestCase):
    """weir http."""

    def get(self, connection, path, method="GET", body=None, **headers):
        connection.request(method, path, body,
                           {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read()

    def check_files(self, connection):
        small, large = b"small\n", os.urandom(3_000_000)
        write(f"{self.root}/small", small)
        write(f"{self.root}/large", large)
        os.mkdir(f"{self.root}/folder")
        # More rows than qsort(3) sorts without asking for the size of memory.
        for number in range(80):
            write(f"{self.root}/folder/{number}")
        self.assertEqual(self.get(connection, "/small"), (200, small))
        self.assertEqual(self.get(connection, "/small", Range="bytes=1-2"), (206, small[1:3]))
        self.assertEqual(self.get(connection, "/large"), (200, large))
        self.assertEqual(self.get(connection, "/large", Range="bytes=-7"), (206, large[-7:]))
        self.assertEqual(self.get(connection, "/small", "HEAD"), (200, b""))
        self.assertEqual(self.get(connection, "/folder")[0], 301)
        self.assertEqual(self.get(connection, "/nothing")[0], 404)
        status, listing = self.get(connection, "/folder/", Accept="application/json")
        self.assertEqual((status, len(json.loads(listing)["entries"])), (200, 80))
        self.assertEqual(self.get(connection, "/status")[0], 200)
        # The cache looks again after a second.
        write(f"{self.root}/small", b"another\n")
        programs_wait(lambda: self.get(connection, "/small") == (200, b"another\n"))

    # Files from the cache and from the disk, ranges, listings, a changed file, both logs opened
    # anew, and a request in flight during the drain.
    def test_http_works_inside(self):
        def check(engine, mode):
            server = self.serve(engine, mode, "--root", "{root}", "--listing", "--status",
                                "/status", "--access-log", "{folder}/access", name="http")
            connection = http.client.HTTPConnection(server.addresses[0], timeout=LIMIT)
            self.addCleanup(connection.close)
            self.check_files(connection)
            access = f"{self.folder}/access"
            for _ in self.end(server, engine, mode, [self.log, access]):
                self.assertEqual(self.get(connection, "/large?last")[0], 200)
                with self.client(server) as late:
                    late.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
                    self.assertEqual(receive(late, 12), b"HTTP/1.1 200")
                    server.signal(signal.SIGTERM)
                    self.assertGreater(len(receive_end(late)), 3_000_000)
            # One of the two was written before the other took its place.
            lines = read(access) + read(access + ".1")
            for target in ("GET /nothing ", "GET /small ", "GET /large "):
                self.assertIn(target, lines)
            self.assertIn("GET /large?last ", read(access))
        self.on_all(check)

    # The echo handler has no files, and needs none.
    def test_http_echo_works_inside(self):
        def check(engine, mode):
            server = self.serve(engine, mode, "--handler", "echo", name="http")
            connection = http.client.HTTPConnection(server.addresses[0], timeout=LIMIT)
            self.addCleanup(connection.close)
            self.assertEqual(self.get(connection, "/", "POST", b"x" * 100000), (200, b"x" * 100000))
            connection.close()
            server.signal(signal.SIGTERM)
            self.assertEqual(server.wait(), 0)
        self.on_all(check)


class FtpTest(ServingTestCase):
    """weir ftp."""

    def login(self, server, passive, user=USER):
        client = ftplib.FTP(timeout=LIMIT)
        self.addCleanup(client.close)
        host, _, port = server.addresses[0].rpartition(":")
        client.connect(host, int(port))
        client.login(*user)
        client.set_pasv(passive)
        return client

    def retrieve(self, client, name, rest=None):
        content = io.BytesIO()
        client.retrbinary(f"RETR {name}", content.write, rest=rest)
        return content.getvalue()

    def check_writing(self, client):
        content = os.urandom(1_000_000)
        client.mkd("made")
        client.storbinary("STOR file", io.BytesIO(content))
        client.storlines("STOR text", io.BytesIO(b"one\r\ntwo\r\n"))
        client.storbinary("APPE file", io.BytesIO(b"end"))
        client.rename("file", "made/renamed")
        self.assertEqual(self.retrieve(client, "made/renamed"), content + b"end")
        self.assertEqual(self.retrieve(client, "made/renamed", rest=1_000_000), b"end")
        self.assertEqual(client.voidcmd("SITE CHMOD 640 made/renamed")[:3], "200")
        self.assertEqual(client.voidcmd("MFMT 20200229123456 made/renamed")[:3], "213")
        status = os.stat(f"{self.root}/made/renamed")
        self.assertEqual((status.st_mode & 0o777, int(status.st_mtime)), (0o640, 1582979696))
        self.assertEqual(client.size("made/renamed"), len(content) + 3)
        self.assertEqual([name for name, _ in client.mlsd("made", ["type"])], ["renamed"])
        self.assertEqual(sorted(client.nlst()), ["made", "text"])
        lines = []
        client.dir(lines.append)
        self.assertEqual(len(lines), 2)
        client.cwd("made")
        client.delete("renamed")
        client.cwd("..")
        client.rmd("made")
        client.delete("text")

    # A login by a hash, every change, listings and transfers over passive and active connections,
    # the log of transfers opened anew, and a transfer that a drain waits for.
    def test_ftp_works_inside(self):
        secret = run("passwd", "--user", USER[0], input=f"{USER[1]}\n").stdout.strip()
        def check(engine, mode):
            server = self.serve(engine, mode, "--root", "{root}", "--user", secret,
                                "--allow-active", "--transfer-log", "{folder}/transfers",
                                name="ftp")
            for passive in (True, False):
                with self.login(server, passive) as client:
                    self.check_writing(client)
            transfers = f"{self.folder}/transfers"
            client = self.login(server, True)
            for _ in self.end(server, engine, mode, [self.log, transfers]):
                data = client.transfercmd("STOR last")
                server.signal(signal.SIGTERM)
                data.sendall(b"last")
                data.close()
                self.assertEqual(client.voidresp()[:3], "226")
                client.close()
            self.assertEqual(read(f"{self.root}/last"), "last")
            self.assertIn('"/text"', read(transfers + ".1"))
            self.assertIn('"/last"', read(transfers))
        self.on_all(check)

    # A server that only reads serves as before, and still refuses in words what it may not do.
    def test_read_only_ftp_works_inside(self):
        self.set_fast_open(0)
        def check(engine, mode):
            server = self.serve(engine, mode, "--root", "{root}", "--anonymous", "--read-only",
                                name="ftp")
            write(f"{self.root}/file", b"content\n")
            with self.login(server, True, ("anonymous", "x")) as client:
                self.assertEqual(self.retrieve(client, "file"), b"content\n")
                self.assertEqual(client.nlst(), ["file"])
                for command in ("DELE file", "MKD new", "SITE CHMOD 777 file"):
                    with self.assertRaisesRegex(ftplib.error_perm, "550 Permission denied"):
                        client.voidcmd(command)
            server.signal(signal.SIGTERM)
            self.assertEqual(server.wait(), 0)
        self.on_all(check)


class StartTest(ServingTestCase):
    """Users, root folders, and what is missing."""

    # A process that changed its user cannot be traced, and so not be searched for leaks; and a jail
    # has no /proc for a sanitizer to look at.
    jailed = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}

    def become_nobody(self):
        """For preexec_fn: the program is an ordinary user's."""
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)

    def start_jailed(self, name, *options, engine="uring"):
        """The server, in a folder that is its root and nobody's own."""
        if os.geteuid():
            self.skipTest("needs root")
        self.jail = self.enter_folder()
        os.mkdir(f"{self.jail}/root")
        write(f"{self.jail}/root/file", b"content\n")
        for path in (self.jail, f"{self.jail}/root"):
            os.chown(path, 65534, 65534)
        mode = "off" if SANITIZED else "strict"
        user = "--run-as" if name == "ftp" else "--user"
        server = self.start(engine, "--sandbox", mode, user, "nobody", "--chroot", self.jail,
                            *options, name=name, env=self.jailed)
        self.assertIn("user nobody", server.log.until("sandbox: "))
        status = programs.status_of(server.process.pid)
        for line in ("Uid", "Gid"):
            self.assertEqual(set(status[line].split()), {"65534"})
        self.assertEqual(status["Groups"].split(), ["65534"])
        self.assertEqual(int(status["CapEff"], 16), 0)
        self.assertEqual(int(status["CapPrm"], 16), 0)
        self.assertEqual(os.readlink(f"/proc/{server.process.pid}/root"), self.jail)
        return server

    def reopen(self, server, log):
        """Renames a log of the server and has it opened anew."""
        os.rename(f"{self.jail}/{log}", f"{self.jail}/old")
        server.signal(signal.SIGHUP)
        server.log.until("log reopened")
        self.assertEqual(os.stat(f"{self.jail}/{log}").st_uid, 65534)

    def finish(self, server):
        server.signal(signal.SIGTERM)
        self.assertEqual(server.wait(), 0)

    # The user's numbers hold for the whole process, without the groups and the capabilities of who
    # started it; the root folder is the one asked for, and all paths are in it.
    def test_echo_as_a_user_in_a_root_of_its_own(self):
        for engine in ENGINES:
            server = self.start_jailed("echo", engine=engine)
            for thread in programs.threads_of(server.process.pid):
                self.assertEqual(set(thread["Uid"].split()), {"65534"}, engine)
                self.assertEqual(int(thread["CapPrm"], 16), 0, engine)
            client = self.client(server)
            client.sendall(b"Hello")
            self.assertEqual(receive(client, 5), b"Hello")
            client.close()
            self.finish(server)

    # Who is nobody can become nobody else, nor leave the root folder: both are refused in one line,
    # and nothing is served. To become who one is already is no privilege.
    def test_strangers_may_not_change_who_they_are(self):
        if os.geteuid():
            self.skipTest("needs root to become another user")
        for options in (("--user", "daemon"), ("--user", "root"), ("--chroot", "/")):
            refused = run("echo", "--engine", "epoll", "--listen", "127.0.0.1:0", *options,
                          preexec_fn=self.become_nobody)
            self.assertEqual((refused.returncode, refused.stdout), (1, ""), options)
            self.assertIn(f"{options[1]}: Operation not permitted", refused.stderr)
        server = self.start("epoll", "--user", "nobody", preexec_fn=self.become_nobody,
                            env=self.jailed)
        self.assertIn("user nobody", server.log.until("sandbox: "))
        self.finish(server)

    # The same for HTTP, with its root and its log.
    def test_http_as_a_user_in_a_root_of_its_own(self):
        server = self.start_jailed("http", "--root", "/root", "--access-log", "/access")
        self.reopen(server, "access")
        connection = http.client.HTTPConnection(server.addresses[0], timeout=LIMIT)
        connection.request("GET", "/file")
        self.assertEqual(connection.getresponse().read(), b"content\n")
        connection.close()
        self.finish(server)
        self.assertIn("GET /file ", read(f"{self.jail}/access"))

    # And for FTP, whose files are the user's.
    def test_ftp_as_a_user_in_a_root_of_its_own(self):
        self.set_fast_open(0)
        server = self.start_jailed("ftp", "--root", "/root", "--anonymous", "--anonymous-write",
                                   "--transfer-log", "/transfers")
        self.reopen(server, "transfers")
        client = FtpTest.login(self, server, True, ("anonymous", "x"))
        client.storbinary("STOR new", io.BytesIO(b"new\n"))
        client.voidcmd("SITE CHMOD 600 new")
        client.quit()
        self.finish(server)
        status = os.stat(f"{self.jail}/root/new")
        self.assertEqual((status.st_uid, status.st_mode & 0o777), (65534, 0o600))
        self.assertIn('"/new"', read(f"{self.jail}/transfers"))

    # What a server was given by whoever started it, it does not keep: a descriptor would be read
    # and written through a ring. Its own are all close-on-exec.
    def test_inherited_descriptors_are_closed(self):
        for engine in ENGINES:
            for mode, kept in (("off", True), ("on", False)):
                with self.subTest(engine=engine, mode=mode), open("/etc/passwd", "rb") as given:
                    os.set_inheritable(given.fileno(), True)
                    server = self.start(engine, "--sandbox", mode, pass_fds=(given.fileno(),))
                    names = {link for _, link in programs.descriptors_of(server.process.pid)}
                    self.assertEqual("/etc/passwd" in names, kept)

    # A server that runs as root says by which of its options it need not.
    def test_root_is_warned(self):
        if os.geteuid():
            self.skipTest("needs root")
        for name, option, options in (("echo", "--user", ()),
                                      ("http", "--user", ("--handler", "echo")),
                                      ("ftp", "--run-as", ("--anonymous", "--root", "/"))):
            server = self.start("epoll", *options, name=name)
            self.assertIn(f"{option} NAME gives up", server.log.until("runs as root"))

    def assert_fast_open(self, left, name, engine, *options, **keywords):
        """The one way to connect that may be left: mode on says so, strict does not start."""
        with self.subTest(server=name, engine=engine, left=left, **keywords):
            server = self.start(engine, "--sandbox", "on", *options, name=name, **keywords)
            self.finish(server)
            server.log.until("draining")
            warned = "sandbox: whoever took this server over could still connect by TCP Fast Open"
            self.assertEqual(warned in "".join(server.log.seen), left)
            if SANITIZED:
                return
            if not left:
                self.finish(self.start(engine, "--sandbox", "strict", *options, name=name,
                                       **keywords))
                return
            refused = run(name, "--engine", engine, "--listen", "127.0.0.1:0", "--sandbox",
                          "strict", *options, **keywords)
            self.assertEqual((refused.returncode, refused.stdout), (1, ""))
            self.assertRegex(refused.stderr, "^weir .*: the server cannot start: --sandbox strict: "
                             ".*TCP Fast Open.*net.ipv4.tcp_fastopen=0.*--engine epoll\n$")

    # FTP's new sockets can be connected through a ring while TCP Fast Open is there for clients.
    # With active mode it connects anyway, and there is nothing to refuse. A root folder of its own
    # has no /proc, which a sanitizer needs.
    def test_fast_open_of_new_sockets_is_not_silent(self):
        root = self.enter_folder()
        ftp = ("--root", root, "--anonymous")
        for value, left in ((0, False), (1, True), (2, False), (3, True)):
            self.set_fast_open(value)
            self.assert_fast_open(left, "ftp", "uring", *ftp)
        if not SANITIZED:
            self.assert_fast_open(False, "ftp", "epoll", "--chroot", root, *ftp[2:], "--root", "/")
            self.assert_fast_open(True, "ftp", "uring", "--chroot", root, *ftp[2:], "--root", "/")
        for name, engine, options in (("ftp", "epoll", ftp), ("ftp", "blocking", ftp),
                                      ("ftp", "uring", (*ftp, "--allow-active")),
                                      ("http", "uring", ("--handler", "echo")),
                                      ("echo", "uring", ())):
            self.assert_fast_open(False, name, engine, *options)

    # Where a kernel lets nobody, or no ordinary user, filter what a listener hears, connections of
    # any server could be connected through a ring. With system calls they cannot.
    def test_fast_open_without_socket_filters_is_not_silent(self):
        self.set_fast_open(1)
        def forbid():
            forbid_call(SETSOCKOPT, SO_ATTACH_FILTER, argument=2)

        def forbid_stranger():
            forbid()
            self.become_nobody()
        http_echo = ("--handler", "echo")
        for refuse in (forbid, forbid_stranger):
            self.assert_fast_open(True, "echo", "uring", preexec_fn=refuse, env=self.jailed)
            self.assert_fast_open(True, "http", "uring", *http_echo, preexec_fn=refuse,
                                  env=self.jailed)
            self.assert_fast_open(False, "echo", "epoll", preexec_fn=refuse, env=self.jailed)
        self.set_fast_open(0)
        self.assert_fast_open(False, "echo", "uring", preexec_fn=forbid_stranger, env=self.jailed)

    # Nobody has to ask for the sandbox. A program with a sanitizer cannot have all of it.
    def test_the_sandbox_is_the_default(self):
        for name, options in (("echo", ()), ("http", ("--handler", "echo")),
                              ("ftp", ("--anonymous", "--root", self.enter_folder()))):
            for engine in ENGINES:
                with self.subTest(server=name, engine=engine):
                    server = self.start(engine, *options, name=name)
                    self.assertRegex(server.log.until("sandbox: "),
                                     "sandbox: off" if SANITIZED else
                                     "sandbox: on: .*no_new_privs.*seccomp$")
                    status = programs.status_of(server.process.pid)
                    self.assertEqual(status["NoNewPrivs"], "0" if SANITIZED else "1")
                    self.finish(server)

    # What cannot be done is said in one line, and the server does not start.
    def test_refusals(self):
        for options, reason in ((("--user", "no-such-user"), "no-such-user: no such user"),
                                (("--chroot", "/nonexistent"), "/nonexistent: No such file")):
            refused = run("echo", "--listen", "127.0.0.1:0", *options)
            self.assertEqual(refused.returncode, 1)
            self.assertIn(reason, refused.stderr)
        refused = run("echo", "--listen", "127.0.0.1:0", "--sandbox", "maybe")
        self.assertEqual(refused.returncode, 2)
        self.assertIn("'maybe' is not off, on or strict", refused.stderr)

    # Where the kernel lacks a part, mode on says so and serves; mode strict says why it does not.
    def test_nothing_falls_back_silently(self):
        self.needs_filters()
        def forbid_landlock():
            forbid_call(LANDLOCK_CREATE_RULESET)

        def forbid_seccomp():
            forbid_call(SECCOMP)
            forbid_call(PRCTL, PR_SET_SECCOMP)
        for forbid, said, reason in ((forbid_landlock, "no landlock", "needs Landlock"),
                                     (forbid_seccomp, "no seccomp", "takes no seccomp filter")):
            for engine in ("uring", "epoll"):
                server = self.start(engine, "--sandbox", "on", preexec_fn=forbid)
                self.assertIn(said, server.log.until("sandbox: "))
                client = self.client(server)
                client.sendall(b"Hello")
                self.assertEqual(receive(client, 5), b"Hello")
                refused = run("echo", "--engine", engine, "--listen", "127.0.0.1:0", "--sandbox",
                              "strict", preexec_fn=forbid)
                self.assertEqual(refused.returncode, 1, refused.stderr)
                self.assertIn(reason, refused.stderr)
                self.assertEqual(refused.stdout, "")

    # A limit of locked memory that has no room for a ring is named, with the command that raises
    # it. Root is not bound by it.
    def test_memlock_advice(self):
        if os.geteuid():
            self.skipTest("needs root to become another user")

        def lower():
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (4096, 4096))
            self.become_nobody()
        for command in (("echo",), ("http", "--handler", "echo")):
            refused = run(*command, "--engine", "uring", "--listen", "127.0.0.1:0",
                          preexec_fn=lower)
            self.assertEqual(refused.returncode, 1)
            self.assertIn("ulimit -l", refused.stderr)

    # The soft limit of descriptors is raised to the hard one. What does not fit into that is said,
    # with the command that raises it, and the server serves what fits, all at once. With the
    # blocking engine a connection takes two.
    def test_file_limit_advice(self):
        def lower():
            resource.setrlimit(resource.RLIMIT_NOFILE, (128, 256))
        for engine in ENGINES:
            with self.subTest(engine=engine):
                server = self.start(engine, "--max-connections", "1000", preexec_fn=lower)
                line = server.log.until("file limit")
                found = re.search(r"the file limit of 256 leaves room for (\d+) connections, not "
                                  r"1000; raise it with: ulimit -Hn (\d+)", line)
                self.assertTrue(found, line)
                fit, advice = map(int, found.groups())
                each = 2 if engine == "blocking" else 1
                other = advice - 1000 * each
                self.assertGreater(other, 0)
                self.assertEqual(fit, (256 - other) // each)
                for client in [self.client(server) for _ in range(fit)]:
                    client.sendall(b"Hello")
                    self.assertEqual(receive(client, 5), b"Hello")
                # A start that fails still says so in one line.
                refused = run("echo", "--engine", engine, "--listen", server.addresses[0],
                              preexec_fn=lower)
                self.assertRegex(refused.stderr, r"\Aweir echo: .*: Address already in use\n\Z")


if __name__ == "__main__":
    sys.exit(programs.main())
