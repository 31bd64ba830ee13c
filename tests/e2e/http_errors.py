"""Bad files, disks and requests: the exact answer, one line in the log, a counter, and the next
connection is served."""

import contextlib
import fcntl
import glob
import http.client
import json
import os
import pwd
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

import http_programs
import programs

RANDOM = os.urandom(3000000)
UNPRIVILEGED = "nobody"


def counters(address):
    data = http_programs.converse(address, b"GET /s HTTP/1.1\r\nHost: x\r\n\r\n")
    return json.loads(http_programs.parse(data)[0].body)


def counted(address, name, least):
    """Waits until the counter is at least so high, and returns it."""
    deadline = time.monotonic() + programs.LIMIT
    while (value := counters(address)[name]) < least:
        if time.monotonic() > deadline:
            raise AssertionError(f"{name} is {value}, not {least}")
    return value


class Refusals(http_programs.HttpTest):
    """Requests that are refused."""

    handler = "echo"
    # A worker logs ten lines a second: the time-outs keep these apart. They are longer than a busy
    # machine keeps a client from its first byte.
    options = ("--max-header-bytes", "2048", "--max-headers", "10", "--max-body", "1K",
               "--header-timeout", "1.5")
    kinds = (
        (400, b"GET / HTTP/1.1\r\n\r\n", "no Host"),
        (400, b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n"
              b"Transfer-Encoding: chunked\r\n\r\n", ""),
        (408, b"GET / HTTP/1.1\r\nHost", "the head took too long"),
        (408, b"HEAD / HTTP/1.1\r\nHost", "the head took too long"),
        (408, b"HEAD ", "the head took too long"),
        (413, b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n", "than --max-body"),
        (414, b"GET /" + b"a" * 3000, "target is too long"),
        (417, b"GET / HTTP/1.1\r\nHost: x\r\nExpect: tea\r\n\r\n", "expectation"),
        (431, b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 20 + b"\r\n", "too many"),
        (501, b"TEAPOT / HTTP/1.1\r\nHost: x\r\n\r\n", ""),
        (505, b"GET / HTTP/3.0\r\nHost: x\r\n\r\n", "ersion"),
    )

    def test_each_refusal_is_answered_logged_and_counted(self):
        """The status, the close that is announced, one line that says why, one more refusal in the
        counter, and the next connection is served."""
        def check(address):
            server, = (one for one in self.servers.values() if one.addresses == [address])
            for number, (status, data, reason) in enumerate(self.kinds, 1):
                received = http_programs.converse(address, data, half_close=False)
                answers = http_programs.parse(received, http_programs.methods_of(data))
                self.assertEqual([(answer.status, answer.headers["connection"])
                                  for answer in answers], [(status, "close")])
                line = server.log.until("warning: 127.0.0.1:")
                self.assertRegex(line, rf": {status} .*: .*{reason}")
                got = json.loads(self.get(address, "/.status").body)
                self.assertEqual(got["refused"], number)
                self.assertEqual(got["timeouts"],
                                 sum(kind[0] == 408 for kind in self.kinds[:number]))
        self.on_all_engines(check)


class RefusedPaths(Refusals):
    """Paths that mean nothing are refused like everything else that is malformed."""

    handler = "files"
    kinds = tuple((400, b"%s %s HTTP/1.1\r\nHost: x\r\n\r\n" % (method, path), "malformed path")
                  for method, path in ((b"GET", b"/a%zz.txt"), (b"GET", b"/sub/a%2"),
                                       (b"HEAD", b"/a%00.txt"), (b"GET", b"/%")))


class Unreadable(unittest.TestCase):
    """Files that may not be read, or are none, for a server that is nobody."""

    def setUp(self):
        self.root = tempfile.mkdtemp(prefix="weir-http-")
        self.addCleanup(shutil.rmtree, self.root)
        os.chmod(self.root, 0o755)
        for name in ("secret", "closed/", "closed/inside", "bare/", "bare/x", "file"):
            path = os.path.join(self.root, name)
            if name.endswith("/"):
                os.mkdir(path)
            else:
                with open(path, "wb") as file:
                    file.write(b"text\n")
        os.chmod(os.path.join(self.root, "secret"), 0)
        os.chmod(os.path.join(self.root, "closed"), 0)
        os.mkfifo(os.path.join(self.root, "fifo"))
        for name, target in (("dangling", "nowhere"), ("loop", "loop"), ("out", "/etc/hostname"),
                             ("up", "../../../../etc/hostname")):
            os.symlink(target, os.path.join(self.root, name))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(os.path.join(self.root, "socket"))

    wanted = {
        403: ("secret", "closed", "closed/", "closed/inside", "bare/", "fifo"),
        404: ("nope", "nope/", "file/", "file/x", "dangling", "loop", "out", "up", "socket",
              "../file", "..%2ffile", "%2e%2e/%2e%2e/etc/hostname", ".hidden", "a" * 300,
              "a/" * 1000),
        301: ("bare",),
        200: ("file", "bare/x"),
    }

    def test_each_gets_its_status(self):
        """403 for what may not be read, 404 for what is not there or leads out, and the connection
        goes on; nothing of it is an error of the server."""
        options = {}
        if os.geteuid() == 0:
            user = pwd.getpwnam(UNPRIVILEGED)
            options = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        # Copied, since the build's folder may be closed to others.
        program = shutil.copy(programs.WEIR, self.root)
        os.chmod(program, 0o755)
        for engine in http_programs.ENGINES:
            with self.subTest(engine=engine):
                server = programs.Server(engine, "--root", self.root, "--status", "/s",
                                         program=(program, "http"), **options)
                self.addCleanup(server.kill)
                address = server.addresses[0]
                rows = [(status, path) for status, paths in self.wanted.items() for path in paths]
                data = b"".join(f"GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
                                for _, path in rows)
                answers = http_programs.parse(http_programs.converse(address, data))
                self.assertEqual([(answer.status, path) for answer, (_, path) in
                                  zip(answers, rows, strict=True)], rows)
                self.assertEqual(counters(address)["file_errors"], 0)


class Reading(unittest.TestCase):
    """What the kernel cannot read although it looks like a file."""

    def test_an_error_of_reading_is_500_and_close(self):
        """An attribute of the kernel's whose reading fails: the answer says that it closes, one
        line and a counter say why."""
        root = "/sys/class/net/lo"
        try:
            with open(f"{root}/speed", "rb") as file:
                file.read()
            self.skipTest(f"{root}/speed can be read here")
        except OSError as error:
            if not os.path.exists(f"{root}/speed"):
                self.skipTest(f"{root}/speed: {error.strerror}")
        for engine in http_programs.ENGINES:
            with self.subTest(engine=engine):
                server = programs.Server(engine, "--root", root, "--status", "/s", name="http")
                self.addCleanup(server.kill)
                address = server.addresses[0]
                request = b"GET /speed HTTP/1.1\r\nHost: x\r\n\r\n"
                answers = http_programs.parse(http_programs.converse(address, request * 2,
                                                                     half_close=False))
                self.assertEqual([(answer.status, answer.headers["connection"])
                                  for answer in answers], [(500, "close")])
                self.assertIn("cannot be read", server.log.until(": 500 "))
                self.assertEqual(counters(address)["file_errors"], 1)


class FullPipes(unittest.TestCase):
    """Logs in pipes that nobody reads."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="weir-http-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def test_a_log_that_nobody_reads_holds_nobody_up(self):
        """Who is refused, and who asks after that, is answered; with blocking all but the one that
        writes, which is answered when somebody reads. Then each line is there, once and whole. What
        a broken pipe does not take is counted."""
        for engine in http_programs.ENGINES:
            with self.subTest(engine=engine):
                stats = os.path.join(self.folder, "stats")
                server, pipe = self.serve(engine, "--stats-json", stats)
                with pipe as reader:
                    self.refuse_in_full(server, reader, engine == "blocking")
                self.assertEqual(self.refused(server.addresses[0]), 505)
                server.signal(signal.SIGTERM)
                self.assertEqual(server.wait(), 0)
                with open(stats, encoding="ascii") as file:
                    self.assertEqual(json.load(file)["protocol"]["log_dropped"], 1)

    def test_a_log_that_nobody_reads_keeps_no_connection(self):
        """SIGTERM ends them all the same, and the server. SIGUSR1 does not keep it from hearing."""
        for engine in http_programs.ENGINES:
            with self.subTest(engine=engine):
                server, pipe = self.serve(engine)
                with programs.connect(server.addresses[0]) as client:
                    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                    self.assertIn(b" 200 OK", client.recv(4096))
                    self.fill(pipe)
                    server.signal(signal.SIGUSR1)
                    server.signal(signal.SIGTERM)
                    self.assertEqual(programs.receive_end(client), b"")
                self.assertEqual(server.wait(), 0)

    def test_a_write_that_does_not_end_does_not_keep_the_server(self):
        """Ten seconds after the drain's time a helper, or blocking's connection, that still writes
        a line is given up: one line on standard error and status 1."""
        held = []
        for engine in http_programs.ENGINES:
            server, pipe = self.serve(engine, "--drain-timeout", "0.1")
            self.fill(pipe)
            client = programs.connect(server.addresses[0])
            self.addCleanup(client.close)
            client.sendall(b"GET / HTTP/9.9\r\n\r\n")
            if engine != "blocking":
                programs.receive_end(client)
            held.append((engine, server))
        for _, server in held:
            self.wait_for_writer(server.process.pid)
            server.signal(signal.SIGTERM)
        for engine, server in held:
            with self.subTest(engine=engine):
                self.assertEqual(server.wait(), 1)
                server.log.until("weir: error: the server does not end: nobody reads a log, or ")

    def wait_for_writer(self, pid):
        """Until one of its threads is in write(2), which has the number 1 or, elsewhere, 64."""
        number = b"1" if os.uname().machine == "x86_64" else b"64"
        end = time.monotonic() + programs.LIMIT
        while not any(self.call_of(path) == number
                      for path in glob.glob(f"/proc/{pid}/task/*/syscall")):
            self.assertLess(time.monotonic(), end, "nobody writes")
            programs.look_later()

    def call_of(self, path):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(path, "rb") as file:
            return file.read().split()[0]
        return b""

    def serve(self, engine, *options):
        """A server whose log is a pipe, and the pipe's other end: empty, and no line is on its way,
        since SIGUSR1 is served behind those of the start."""
        path = os.path.join(self.folder, f"{engine}-{len(os.listdir(self.folder))}")
        os.mkfifo(path)
        pipe = open(os.open(path, os.O_RDWR | os.O_NONBLOCK), "rb", buffering=0)
        self.addCleanup(pipe.close)
        server = programs.Server(engine, "--handler", "echo", "--log", path, *options, name="http")
        self.addCleanup(server.kill)
        server.signal(signal.SIGUSR1)
        self.read_until(pipe, lambda text: b" log_dropped 0\n" in text)
        return server, pipe

    def read_until(self, pipe, found):
        text = b""
        while not found(text):
            self.assertTrue(select.select([pipe], [], [], programs.LIMIT)[0], text[-1000:])
            text += pipe.read(65536)
        return text

    def fill(self, pipe):
        with self.assertRaises(BlockingIOError):
            while os.write(pipe.fileno(), b"-" * 4095 + b"\n"):
                pass

    def refused(self, address):
        data = http_programs.converse(address, b"GET / HTTP/9.9\r\n\r\n", half_close=False)
        return http_programs.parse(data)[0].status

    def refuse_in_full(self, server, reader, held):
        """Fills the pipe, has some refused, of whom so many have to wait, and empties it."""
        address, count = server.addresses[0], 4
        self.fill(reader)
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(programs.connect(address)) for _ in range(count)]
            for client in clients:
                client.sendall(b"GET / HTTP/9.9\r\n\r\n")
            while len(clients) > held:
                ready = select.select(clients, [], [], programs.LIMIT)[0]
                self.assertTrue(ready, "nobody is answered")
                for client in ready:
                    self.assertEqual(http_programs.parse(programs.receive_end(client))[0].status,
                                     505)
                    clients.remove(client)
            data = http_programs.converse(address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertEqual(http_programs.parse(data)[0].status, 200)
            text = self.read_until(reader, lambda text: text.endswith(b"\n") and
                                   text.count(b": 505 ") == count)
            for client in clients:
                self.assertEqual(http_programs.parse(programs.receive_end(client))[0].status, 505)
        whole = re.compile(rb"\S+Z warning: 127\.0\.0\.1:\d+: 505 .*")
        lines = [line for line in text.split(b"\n") if b": 505 " in line]
        self.assertEqual(len({line for line in lines if whole.fullmatch(line)}), count, lines)
        self.assertEqual(len(lines), count)

    def test_an_output_that_does_not_block_gets_each_line_once(self):
        """The access log on a standard output that others made so, and do not read: what finds no
        room is lost, told and counted, and is nothing that was written."""
        wrapper = (sys.executable, "-c", "import os, sys; os.set_blocking(1, False); "
                   "os.execv(sys.argv[1], sys.argv[1:])")
        request, count = b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % (b"x" * 300), 200
        for engine in http_programs.ENGINES:
            with self.subTest(engine=engine):
                server = programs.Server(engine, "--handler", "echo", "--access-log", "-",
                                         name="http", wrapper=wrapper)
                self.addCleanup(server.kill)
                fcntl.fcntl(server.process.stdout, fcntl.F_SETPIPE_SZ, 4096)
                answers = http_programs.parse(http_programs.converse(server.addresses[0],
                                                                     request * count))
                self.assertEqual([answer.status for answer in answers], [200] * count)
                server.log.until("access log: Resource temporarily unavailable")
                server.signal(signal.SIGTERM)
                self.assertEqual(server.wait(), 0)
                text = server.process.stdout.read()
                whole = re.compile(rb'127\.0\.0\.1 - - \[.*\] "GET /x{300} HTTP/1.1" 200 .*')
                lines = text.split(b"\n")
                self.assertEqual(lines.pop(), b"")
                self.assertEqual([line for line in lines if not whole.fullmatch(line)], [])
                told = server.log.until("lines were dropped")
                dropped = re.search(r"access log: (\d+) lines", told)
                self.assertEqual(len(lines) + int(dropped[1]), count)
                self.assertGreater(len(lines), 0)


class Disks(unittest.TestCase):
    """Disks that are full or broken, in a mount namespace of the server's own."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="weir-http-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.inside = os.path.join(self.folder, "inside")
        os.mkdir(self.inside)

    def mounted(self, mount):
        """The wrapper that runs a server behind the mount, if that can be made here."""
        for name in ("unshare", "mount", "mkfs.ext4"):
            if not shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
                self.skipTest(f"{name} is not installed")
        map_root = () if os.geteuid() == 0 else ("-r",)
        wrapper = ("unshare", "-m", *map_root, "sh", "-c",
                   f'PATH=$PATH:/usr/sbin:/sbin; cd "{self.folder}"; {mount} && exec "$@"', "sh")
        run = subprocess.run([*wrapper, "true"], capture_output=True, text=True, check=False,
                             timeout=programs.LIMIT)
        if run.returncode:
            self.skipTest(f"no such mount here: {run.stderr.strip()}")
        return wrapper

    def test_a_full_disk_stops_the_log_and_not_the_service(self):
        """Lines that do not fit are dropped and counted, one line says so; when there is room again
        the log goes on with whole lines, and one line says that."""
        wrapper = self.mounted("mount -t tmpfs -o size=64k none inside")
        request = b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % (b"x" * 80)
        for engine in http_programs.ENGINES:
            with self.subTest(engine=engine):
                server = programs.Server(engine, "--handler", "echo", "--status", "/s",
                                         "--access-log", f"{self.inside}/log", name="http",
                                         wrapper=wrapper)
                self.addCleanup(server.kill)
                address = server.addresses[0]
                self.fill_log(server, address, request, 500)
                with open(f"/proc/{server.process.pid}/root{self.inside}/log", "r+b") as file:
                    file.truncate(0)
                http_programs.converse(address, request)
                server.log.until("access log: it is written again")
                self.assertEqual([line for line in server.log.seen if "space" in line],
                                 ["weir: warning: access log: No space left on device"])
                self.check_lines(server, address)

    def fill_log(self, server, address, request, least):
        """Asks until so many lines are lost; every request is answered."""
        lost, deadline = 0, time.monotonic() + programs.LIMIT
        while lost < least and time.monotonic() < deadline:
            answers = http_programs.parse(http_programs.converse(address, request * 200))
            self.assertEqual([answer.status for answer in answers], [200] * 200)
            lost = counters(address)["log_dropped"]
        self.assertGreaterEqual(lost, least)
        server.log.until("access log: No space left on device")
        return lost

    def check_lines(self, server, address):
        """All of the new log are lines as they should be, the first but the end of a torn one."""
        http_programs.converse(address, b"GET /last HTTP/1.1\r\nHost: x\r\n\r\n")
        inside = f"/proc/{server.process.pid}/root{self.inside}/log"
        with open(inside, "rb") as log:
            server.signal(signal.SIGTERM)
            self.assertEqual(server.wait(), 0)
            self.assertRegex(server.log.until("access log:"), r" [1-9]\d{2,} lines were dropped$")
            lines = log.read().split(b"\n")
        self.assertEqual(lines.pop(), b"")
        # The last of its worker; others may have written what they still held.
        self.assertEqual(sum(b"GET /last " in line for line in lines), 1)
        whole = re.compile(rb'127\.0\.0\.1 - - \[.*\] "GET /\S+ HTTP/1.1" 200 \d+ "-" "-"')
        self.assertEqual([line for line in lines[1:] if not whole.fullmatch(line)], [])

    def test_a_torn_line_swallows_none_of_another_thread(self):
        """What one thread could not end, another ends: no line is glued to a torn one."""
        wrapper = self.mounted("mount -t tmpfs -o size=64k none inside")
        request = b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % (b"x" * 80)
        for engine, threads in (("uring", "2"), ("epoll", "2"), ("blocking", "1")):
            with self.subTest(engine=engine):
                server = programs.Server(engine, "--handler", "echo", "--status", "/s",
                                         "--threads", threads, "--access-log",
                                         f"{self.inside}/log", name="http", wrapper=wrapper)
                self.addCleanup(server.kill)
                address, lost = server.addresses[0], 0
                inside = f"/proc/{server.process.pid}/root{self.inside}/log"
                for _ in range(4):
                    lost = self.fill_log(server, address, request, lost + 500)
                    # Room again, in which the torn line is the last.
                    begin = os.stat(inside).st_size // 4096 * 4096 - 4096
                    subprocess.run(["fallocate", "--punch-hole", "--offset", "0", "--length",
                                    str(begin), inside], check=True, timeout=programs.LIMIT)
                    for _ in range(8):
                        http_programs.converse(address, request)
                    server.log.until("access log: it is written again")
                    with open(inside, "rb") as log:
                        log.seek(begin)
                        glued = [line for line in log if line.count(b"127.0.0.1 - -") > 1]
                    self.assertEqual(glued, [])

    def break_disk(self, first_bad):
        """Cuts the disk's image off: what lies behind cannot be read any more."""
        os.truncate(os.path.join(self.folder, "disk"), first_bad)

    def make_disk(self):
        """An image with two files, and the byte of the disk where the megabyte `large` begins with
        its second half."""
        disk = os.path.join(self.folder, "disk")
        with open(disk, "wb") as file:
            file.truncate(8 << 20)
        os.mkdir(os.path.join(self.folder, "tree"))
        for name, size in (("large", len(RANDOM)), ("small", 10000), ("a.txt", 5)):
            with open(os.path.join(self.folder, "tree", name), "wb") as file:
                file.write(RANDOM[:size])
        subprocess.run(["mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-b", "4096", "-d",
                        os.path.join(self.folder, "tree"), disk], check=True,
                       env=os.environ | {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"},
                       capture_output=True, timeout=programs.LIMIT)
        with open(disk, "rb") as file:
            content = file.read()
        return content.index(RANDOM[1 << 20:(1 << 20) + 4096]), content

    def test_a_disk_that_cannot_be_read_is_told(self):
        """A file that cannot be read from the start: 500 and close. One that breaks off within its
        answer: the connection breaks behind bytes that are all the file's. One line each, and a
        counter; what is still in memory is served."""
        wrapper = None
        for engine in http_programs.ENGINES:
            with self.subTest(engine=engine):
                shutil.rmtree(os.path.join(self.folder, "tree"), ignore_errors=True)
                try:
                    middle, content = self.make_disk()
                except FileNotFoundError:
                    self.skipTest("mkfs.ext4 is not installed")
                wrapper = wrapper or self.mounted("mount -o loop,ro disk inside")
                server = programs.Server(engine, "--root", self.inside, "--status", "/s",
                                         name="http", wrapper=wrapper)
                self.addCleanup(server.kill)
                self.assertGreater(content.index(RANDOM[:10000], middle), middle)
                self.check_broken_disk(server, middle)

    def check_broken_disk(self, server, middle):
        address = server.addresses[0]
        get = b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n"
        before = http_programs.parse(http_programs.converse(address, get % b"a.txt"))
        self.break_disk(middle)
        answers = http_programs.parse(http_programs.converse(address, get % b"small" * 2,
                                                             half_close=False))
        self.assertEqual([(answer.status, answer.headers["connection"]) for answer in answers],
                         [(500, "close")])
        self.assertIn("cannot be read", server.log.until(": 500 "))
        host, port = address.rsplit(":", 1)
        client = http.client.HTTPConnection(host, int(port), timeout=programs.LIMIT)
        client.request("GET", "/large")
        answer, got = client.getresponse(), b""
        try:
            while piece := answer.read1(65536):
                got += piece
        except (ConnectionResetError, http.client.IncompleteRead):
            pass
        client.close()
        self.assertLessEqual(len(got), 1 << 20)
        self.assertEqual(got, RANDOM[:len(got)])
        self.assertIn("cannot be read", server.log.until(": aborted: "))
        self.assertEqual(counted(address, "file_errors", 2), 2)
        again = http_programs.parse(http_programs.converse(address, get % b"a.txt"))
        self.assertEqual(again[0].body, before[0].body)
