"""What docs/protocols.md says of HTTP and no other test asks for."""

import concurrent.futures
import contextlib
import email.utils
import http.client
import json
import os
import re
import resource
import select
import shutil
import signal
import socket
import tempfile
import time
import unittest

import http_programs
import programs


class Semantics(http_programs.HttpTest):
    """Dates and conditions in the forms and the order of RFC 9110."""

    files = {"a.txt": b"0123456789"}
    modified = 1_700_000_000

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        os.utime(os.path.join(cls.root, "a.txt"), (cls.modified, cls.modified))

    def dates(self, moment):
        """The three forms of one date."""
        parts = time.gmtime(moment)
        return (email.utils.formatdate(moment, usegmt=True),
                time.strftime("%A, %d-%b-%y %H:%M:%S GMT", parts), time.asctime(parts))

    def test_all_three_forms_of_dates_are_read(self):
        """A date says the same in each of them, and a second earlier is another date."""
        def check(address):
            for same, earlier in zip(self.dates(self.modified), self.dates(self.modified - 1),
                                     strict=True):
                for header, date, status in (("If-Modified-Since", same, 304),
                                             ("If-Modified-Since", earlier, 200),
                                             ("If-Unmodified-Since", same, 200),
                                             ("If-Unmodified-Since", earlier, 412)):
                    got = self.get(address, "/a.txt", f"{header}: {date}")
                    self.assertEqual((got.status, header, date), (status, header, date))
        self.on_each_engine(check)

    def test_conditions_are_asked_in_their_order(self):
        """Tags are asked, and dates beside them are not; a failed If-Match comes before all."""
        def check(address):
            tag = self.get(address, "/a.txt").headers["etag"]
            same, earlier = (email.utils.formatdate(self.modified - ago, usegmt=True)
                             for ago in (0, 1))
            for headers, status in (
                    ((f"If-Modified-Since: {same}", 'If-None-Match: "x"'), 200),
                    ((f"If-Modified-Since: {earlier}", f"If-None-Match: {tag}"), 304),
                    ((f"If-Unmodified-Since: {earlier}", f"If-Match: {tag}"), 200),
                    (('If-Match: "x"', f"If-None-Match: {tag}"), 412),
                    (("If-Match: *",), 200), (("If-None-Match: *",), 304)):
                self.assertEqual(self.get(address, "/a.txt", *headers).status, status, headers)
        self.on_each_engine(check)

    def test_ranges_that_are_not_served_are_ignored(self):
        """Several ranges, other units, and one whose If-Range names another state of the file."""
        def check(address):
            tag = self.get(address, "/a.txt").headers["etag"]
            same, earlier, later = (email.utils.formatdate(self.modified + after, usegmt=True)
                                    for after in (0, -1, 1))
            for headers, status in ((("Range: bytes=0-1,3-4",), 200), (("Range: lines=0-1",), 200),
                                    (("Range: bytes=0-1", f"If-Range: {same}"), 206),
                                    (("Range: bytes=0-1", f"If-Range: {earlier}"), 200),
                                    (("Range: bytes=0-1", f"If-Range: {later}"), 200),
                                    (("Range: bytes=0-1", f"If-Range: {tag}"), 206),
                                    (("Range: bytes=0-1", *[f"If-Range: {tag}"] * 2), 200),
                                    (("Range: bytes=0-1", f"If-Range: W/{tag}"), 200)):
                got = self.get(address, "/a.txt", *headers)
                self.assertEqual(got.status, status, headers)
                self.assertEqual(got.body, b"01" if status == 206 else b"0123456789")
        self.on_each_engine(check)

    def test_a_date_to_come_is_not_told(self):
        """A file from the future is said to be of now, in memory or open, whole and conditional;
        its tag is of its own date all the same."""
        for name, size in (("ahead.txt", 10), ("ahead.bin", 1 << 20)):
            path = os.path.join(self.root, name)
            with open(path, "wb") as file:
                file.write(bytes(size))
            ahead = (int(time.time()) + 86400) * 10**9
            os.utime(path, ns=(ahead, ahead))
        def check(address):
            for path, size in (("/ahead.txt", 10), ("/ahead.txt", 10), ("/ahead.bin", 1 << 20)):
                got = self.get(address, path)
                date, modified = (email.utils.parsedate_to_datetime(got.headers[name])
                                  for name in ("date", "last-modified"))
                self.assertLessEqual(modified, date)
                self.assertEqual(got.headers["etag"], f'"{ahead:x}-{size:x}"')
                again = self.get(address, path, f"If-None-Match: {got.headers['etag']}")
                self.assertEqual(again.status, 304)
                date, modified = (email.utils.parsedate_to_datetime(again.headers[name])
                                  for name in ("date", "last-modified"))
                self.assertLessEqual(modified, date)
        self.on_each_engine(check)

    def test_every_answer_has_a_date(self):
        """Also those that refuse, and those without a content; it is now."""
        def check(address):
            for request, status in ((b"GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n", 200),
                                    (b"GET /no HTTP/1.1\r\nHost: x\r\n\r\n", 404),
                                    (b"PUT /a.txt HTTP/1.1\r\nHost: x\r\n\r\n", 405),
                                    (b"GET / HTTP/1.1\r\n\r\n", 400),
                                    (b"GET /a.txt HTTP/1.1\r\nHost: x\r\nIf-None-Match: *\r\n\r\n",
                                     304),
                                    (b"GET / HTTP/9.9\r\n\r\n", 505)):
                answer, = self.ask(address, request)
                self.assertEqual(answer.status, status)
                date = email.utils.parsedate_to_datetime(answer.headers["date"])
                self.assertLess(abs(date.timestamp() - time.time()), programs.LIMIT)
        self.on_each_engine(check)

    def test_the_date_of_a_time_out_is_its_own(self):
        """A request that stays unfinished is given up at that date and not at that of its last
        byte, though nothing else has come to the server since."""
        seconds = 1.1  # the date of the last byte is another one
        def check(engine):
            server = programs.Server(engine, "--root", self.root, "--header-timeout", str(seconds),
                                     name="http")
            self.addCleanup(server.kill)
            data, end = b"", time.monotonic() + programs.LIMIT
            while not data and time.monotonic() < end:  # its first byte may come too late as well
                before = time.time()
                data = http_programs.converse(server.addresses[0], b"GET / HTTP", half_close=False)
                after = time.time()
            answer, = http_programs.parse(data)
            self.assertEqual(answer.status, 408)
            date = email.utils.parsedate_to_datetime(answer.headers["date"]).timestamp()
            self.assertGreaterEqual(date, int(before + seconds - 0.05))
            self.assertLessEqual(date, after)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            runs = [pool.submit(check, engine) for engine in http_programs.ENGINES]
        for engine, run in zip(http_programs.ENGINES, runs, strict=True):
            with self.subTest(engine=engine):
                run.result()


class Sends(unittest.TestCase):
    """How many sends answers cost, by the server's own counter at its end."""

    get = b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n"
    post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n" + b"b" * 500

    def setUp(self):
        self.root = tempfile.mkdtemp(prefix="weir-http-")
        self.addCleanup(shutil.rmtree, self.root)
        for name, size in (("small", 100), ("large", 40000), ("other/file", 1)):
            os.makedirs(os.path.dirname(os.path.join(self.root, name)), exist_ok=True)
            with open(os.path.join(self.root, name), "wb") as file:
                file.write(b"x" * size)

    def sends(self, engine, groups, *options, name="http"):
        """Sends one group after the other, each when the one before is answered, and returns how
        many sends that took. A group is its bytes and how many answers, or bytes, they get."""
        stats = os.path.join(self.root, ".stats")
        server = programs.Server(engine, *options, "--stats-json", stats, name=name)
        self.addCleanup(server.kill)
        with programs.connect(server.addresses[0]) as client:
            for data, count in groups:
                client.sendall(data)
                received = b""
                if name == "echo":
                    received = programs.receive(client, count)
                while name == "http" and received.count(b"HTTP/1.1 ") < count:
                    received += client.recv(1 << 20)
            client.shutdown(socket.SHUT_WR)
            programs.receive_end(client)
        server.signal(signal.SIGTERM)
        self.assertEqual(server.wait(), 0)
        with open(stats, encoding="ascii") as file:
            return json.load(file)["sends"]

    def test_an_answer_is_one_send(self):
        """Head and content together: a file that is read, one of the cache, a larger one, a
        listing, an error, no content at all, and the last answer with its close."""
        single = [self.get % name for name in (b"small", b"small", b"large", b"other/", b"none",
                                               b"other")]
        single += [data.replace(b"GET", b"HEAD") for data in single]
        single += [(self.get % b"small").replace(b"x\r\n", b"x\r\nConnection: close\r\n")]
        groups = [(data, 1) for data in single]
        for engine in http_programs.ENGINES:
            with self.subTest(engine=engine):
                self.assertEqual(self.sends(engine, groups, "--root", self.root, "--listing"),
                                 len(groups))
                echoes = [(self.post, 1)] * 3
                self.assertEqual(self.sends(engine, echoes, "--handler", "echo"), 3)

    def test_the_answers_of_one_turn_are_one_send(self):
        """Sixteen requests that come together are answered together, also bodies and plain
        echoes."""
        for engine in http_programs.ENGINES:
            with self.subTest(engine=engine):
                groups = [(self.get % b"small", 1), (self.get % b"small" * 16, 16)]
                self.assertEqual(self.sends(engine, groups, "--root", self.root), 2)
                self.assertEqual(self.sends(engine, [(self.post * 16, 16)], "--handler", "echo"), 1)
                echoes = [(b"one", 3), (b"b" * 8000, 8000)]
                self.assertEqual(self.sends(engine, echoes, name="echo"), 2)


class WellKnown(http_programs.HttpTest):
    """Hidden names."""

    files = {".well-known/a": b"a", ".other/a": b"a", ".well-known/.b": b"b"}

    def test_only_well_known_is_not_hidden(self):
        """RFC 8615's folder is served, other names that begin with a dot are not there."""
        def check(address):
            for path, status in (("/.well-known/a", 200), ("/.other/a", 404),
                                 ("/.well-known/.b", 404), ("/.well-knownx", 404)):
                self.assertEqual(self.get(address, path).status, status, path)
        self.on_each_engine(check)


class Scarcity(http_programs.HttpTest):
    """What is out, and what is bounded."""

    files = {f"{i}.txt": b"text" for i in range(4)}

    def test_without_a_descriptor_the_answer_is_503(self):
        """A file that cannot be opened for lack of descriptors is not said to be missing. The
        connection closes behind that, and the next one gets it when there are some again."""
        for engine, server in self.servers.items():
            with self.subTest(engine=engine):
                pid = server.process.pid
                host, port = server.addresses[0].rsplit(":", 1)
                client = http.client.HTTPConnection(host, int(port), timeout=programs.LIMIT)
                self.addCleanup(client.close)

                def status(path):
                    client.request("GET", path)  # on another connection if the last one closed
                    answer = client.getresponse()
                    answer.read()
                    self.assertEqual(answer.getheader("connection") == "close",
                                     answer.status == 503)
                    return answer.status
                self.assertEqual(status("/0.txt"), 200)
                before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
                self.assertEqual(status("/1.txt"), 503)
                resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
                self.assertEqual(status("/1.txt"), 200)

    def test_refusals_do_not_fill_the_log(self):
        """At most ten lines a second of a thread, or of all the threads that connections have with
        blocking; and one that counts the others, at the server's end at the latest: together they
        are all."""
        for engine in http_programs.ENGINES:
            with self.subTest(engine=engine):
                server = programs.Server(engine, "--root", self.root, name="http")
                self.addCleanup(server.kill)
                began = time.monotonic()
                text, sent, told = b"", 0, None
                while not told and time.monotonic() < began + programs.LIMIT:
                    sent += self.refuse_many(server.addresses[0])
                    while select.select([server.log.fd], [], [], programs.QUIET)[0]:
                        text += os.read(server.log.fd, 65536)
                    told = re.search(rb"and (\d+) more such lines", text)
                self.assertTrue(told, text)
                lines = text.count(b": 505 ")
                seconds = time.monotonic() - began + 2
                self.assertLessEqual(lines, 10 * seconds)
                self.assertLess(lines, sent)
                sent += self.refuse_many(server.addresses[0])
                server.signal(signal.SIGTERM)
                self.assertEqual(server.wait(), 0)
                text += server.process.stderr.read()
                others = sum(int(more) for more in re.findall(rb"and (\d+) more", text))
                self.assertEqual(text.count(b": 505 ") + others, sent)

    def refuse_many(self, address):
        """More connections at once than lines a second; how many."""
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(programs.connect(address)) for _ in range(45)]
            for client in clients:
                client.sendall(b"GET / HTTP/9.9\r\n\r\n")
            for client in clients:
                self.assertIn(b" 505 ", programs.receive_end(client))
        return len(clients)


class Listings(http_programs.HttpTest):
    """Listings that nobody reads, for as long as the machine takes to begin all of them."""

    # An answer is more than the queue and the buffers of both sockets hold.
    options = ("--listing", "--min-rate", "0", "--send-buffer", "64K")
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # disks take long for so many
    count, most = 4000, 16

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = os.path.join(cls.root, "crowd")
        os.mkdir(folder)
        for i in range(cls.count):
            os.close(os.open(os.path.join(folder, f"{i:0240}"), os.O_CREAT | os.O_WRONLY, 0o644))

    def begin(self, address):
        """A client that asks for a listing and takes the first line of the answer."""
        client = programs.connect(address, receive_buffer=4096)
        client.sendall(b"GET /crowd/ HTTP/1.1\r\nHost: x\r\n\r\n")
        return client, client.recv(12)

    def test_so_many_are_made_at_once_and_no_more(self):
        """The seventeenth of a thread gets 503, or of all the threads that connections have with
        blocking; files are served meanwhile, and when one of the others has gone it is answered."""
        for engine in http_programs.ENGINES:
            address = self.servers[engine].addresses[0]
            with self.subTest(engine=engine), contextlib.ExitStack() as stack:
                clients = []
                for _ in range(self.most):
                    client, line = self.begin(address)
                    clients.append(stack.enter_context(client))
                    self.assertEqual(line, b"HTTP/1.1 200")
                client, line = self.begin(address)
                client.close()
                self.assertEqual(line, b"HTTP/1.1 503")
                counters = json.loads(self.get(address, "/.status").body)
                self.assertEqual(counters["listings_refused"], 1)
                self.assertEqual(self.get(address, "/a.txt").body, b"text\n")
                clients[0].close()
                until = time.monotonic() + programs.LIMIT
                while line != b"HTTP/1.1 200" and time.monotonic() < until:
                    programs.look_later()
                    client, line = self.begin(address)
                    client.close()
                self.assertEqual(line, b"HTTP/1.1 200")
