"""Files over HTTP, on every engine: content, conditions, ranges, codings, listings, the cache."""

import hashlib
import http.client
import json
import os
import re
import signal
import socket
import time
import urllib.parse

import http_programs
import programs

RANDOM = os.urandom(3 * 1024 * 1024 + 7)
LARGE = "large.bin"


class Content(http_programs.HttpTest):
    """What is served, and how it is described."""

    files = {
        "index.html": b"<h1>hello</h1>\n",
        "a.txt": b"0123456789",
        "empty.css": b"",
        "sub/index.html": b"sub",
        "list/b.js": b"b",
        "list/deep/x": b"x",
        "list/.hidden": b"h",
        "list/<script>&\"'.txt": b"markup",
        "list/\u00e4 %41.txt": b"name",
        "coded.js": b"plain" * 1000,
        "coded.js.gz": b"gzipped",
        "coded.js.br": b"brotlied",
        "old.css": b"new",
        "old.css.gz": b"stale",
        "16k.bin": RANDOM[:16384],
        "100k.bin": RANDOM[:100000],
        LARGE: RANDOM,
    }
    options = ("--listing",)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        os.utime(os.path.join(cls.root, "old.css.gz"), (1, 1))
        os.symlink("a.txt", os.path.join(cls.root, "link.txt"))
        os.symlink("/etc", os.path.join(cls.root, "list", "out"))
        os.symlink("../a.txt", os.path.join(cls.root, "list", "in"))
        os.mkfifo(os.path.join(cls.root, "fifo"))

    def test_every_size_arrives_whole(self):
        """Cached, copied or sent from the file: the bytes are the file's, twice."""
        def check(address):
            for name in ("empty.css", "a.txt", "16k.bin", "100k.bin", LARGE) * 2:
                answer = self.get(address, "/" + name)
                self.assertEqual(answer.status, 200)
                self.assertEqual(answer.body, self.files[name], name)
                self.assertEqual(answer.headers["content-length"], str(len(self.files[name])))
        self.on_each_engine(check)

    def test_the_head_describes_the_file(self):
        """Type, dates, validators; once each, and the same for HEAD without the content."""
        def check(address):
            got = self.get(address, "/a.txt")
            self.assertEqual(got.headers["content-type"], "text/plain; charset=utf-8")
            self.assertEqual(got.headers["x-content-type-options"], "nosniff")
            self.assertEqual(got.headers["accept-ranges"], "bytes")
            self.assertRegex(got.headers["date"], r"^\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$")
            self.assertRegex(got.headers["etag"], r'^"[0-9a-f]+-a"$')
            self.assertEqual(len(set(got.names)), len(got.names))
            head = self.get(address, "/a.txt", method="HEAD")
            self.assertEqual(head.names, got.names)
            self.assertEqual(head.body, b"")
            for name in (LARGE, "100k.bin", "nope", "list", "list/"):
                head = self.get(address, "/" + name, method="HEAD")
                got = self.get(address, "/" + name)
                self.assertEqual((head.status, head.names), (got.status, got.names))
                self.assertEqual(head.headers["content-length"], str(len(got.body)))
        self.on_each_engine(check)

    def test_directories_have_an_index_or_redirect(self):
        """The slash is added, with the query, and the index stands for the directory."""
        def check(address):
            self.assertEqual(self.get(address, "/").body, self.files["index.html"])
            self.assertEqual(self.get(address, "/sub/").body, b"sub")
            moved = self.get(address, "/sub?a=b")
            self.assertEqual((moved.status, moved.headers["location"]), (301, "/sub/?a=b"))
            moved = self.get(address, "//sub")
            self.assertEqual(moved.headers["location"], "/sub/")
            self.assertEqual(self.get(address, "/a.txt/").status, 404)
        self.on_each_engine(check)

    def test_a_redirection_is_never_without_its_place(self):
        """A place of 5 KiB is told whole; one that is longer, by its query or by its escapes, is
        refused, and neither cut nor left out."""
        deep = "/".join(["\u00e4" * 120] * 10)
        os.makedirs(os.path.join(self.root, deep), exist_ok=True)
        def check(address):
            query = "?" + "q" * (5120 - len("/sub/?"))
            moved = self.get(address, "/sub" + query)
            self.assertEqual((moved.status, moved.headers["location"]), (301, "/sub/" + query))
            for path in ("/sub" + query + "q", "/sub?" + "q" * 12000,
                         "/" + urllib.parse.quote(deep)):
                data = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 2
                answers = http_programs.parse(http_programs.converse(address, data,
                                                                     half_close=False))
                self.assertEqual([(answer.status, answer.headers["connection"],
                                   answer.headers.get("location")) for answer in answers],
                                 [(414, "close", None)])
        self.on_each_engine(check)

    def test_links_stay_inside(self):
        """A link inside of the root is followed; what is no file is refused."""
        def check(address):
            self.assertEqual(self.get(address, "/link.txt").body, b"0123456789")
            self.assertEqual(self.get(address, "/list/out/passwd").status, 404)
            self.assertEqual(self.get(address, "/fifo").status, 403)
            self.assertEqual(self.get(address, "/list/.hidden").status, 404)
        self.on_each_engine(check)

    def test_conditions_save_the_content(self):
        """304 and 412 by tag and date, also for a file that is not cached."""
        def check(address):
            for name in ("/a.txt", "/" + LARGE):
                got = self.get(address, name)
                tag, date = got.headers["etag"], got.headers["last-modified"]
                same = self.get(address, name, f"If-None-Match: {tag}")
                self.assertEqual((same.status, same.body), (304, b""))
                self.assertEqual(same.headers["etag"], tag)
                self.assertNotIn("content-length", same.headers)
                self.assertEqual(self.get(address, name, f"If-Modified-Since: {date}").status, 304)
                self.assertEqual(self.get(address, name, 'If-None-Match: "x"').status, 200)
                self.assertEqual(self.get(address, name, 'If-Match: "x"').status, 412)
                self.assertEqual(self.get(address, name, f"If-Match: {tag}").status, 200)
        self.on_each_engine(check)

    def test_ranges_are_exact(self):
        """206 with the right bytes, 416 with the size, from memory and from the file."""
        def check(address):
            for name in ("a.txt", LARGE):
                content, size = self.files[name], len(self.files[name])
                for spec, first, last in (("0-0", 0, 0), ("3-6", 3, 6), ("-4", size - 4, size - 1),
                                          (f"{size - 3}-", size - 3, size - 1)):
                    got = self.get(address, "/" + name, f"Range: bytes={spec}")
                    self.assertEqual(got.status, 206)
                    self.assertEqual(got.body, content[first:last + 1])
                    self.assertEqual(got.headers["content-range"], f"bytes {first}-{last}/{size}")
                got = self.get(address, "/" + name, f"Range: bytes={size}-")
                self.assertEqual((got.status, got.headers["content-range"]),
                                 (416, f"bytes */{size}"))
                got = self.get(address, "/" + name, "Range: bytes=0-1", 'If-Range: "x"')
                self.assertEqual((got.status, len(got.body)), (200, size))
        self.on_each_engine(check)

    def test_siblings_are_negotiated(self):
        """The best coding that the client takes, never a stale one, and never with a range."""
        def check(address):
            def coded(name, accepted, *headers):
                got = self.get(address, name, f"Accept-Encoding: {accepted}", *headers)
                return got.headers.get("content-encoding"), got.body, got.headers.get("vary")
            plain = self.files["coded.js"]
            vary = "Accept-Encoding"
            self.assertEqual(coded("/coded.js", "gzip"), ("gzip", b"gzipped", vary))
            self.assertEqual(coded("/coded.js", "gzip, br"), ("br", b"brotlied", vary))
            self.assertEqual(coded("/coded.js", "gzip, br;q=0"), ("gzip", b"gzipped", vary))
            self.assertEqual(coded("/coded.js", "identity"), (None, plain, vary))
            self.assertEqual(coded("/coded.js", "zstd"), (None, plain, vary))
            self.assertEqual(coded("/coded.js", "gzip", "Range: bytes=0-3"), (None, b"plai", vary))
            self.assertEqual(coded("/old.css", "gzip"), (None, b"new", None))
            tags = {self.get(address, "/coded.js", f"Accept-Encoding: {name}").headers["etag"]
                    for name in ("gzip", "br", "x")}
            self.assertEqual(len(tags), 3)
            got = self.get(address, "/coded.js", "Accept-Encoding: gzip")
            self.assertEqual(got.headers["content-type"], "text/javascript; charset=utf-8")
        self.on_each_engine(check)

    def test_listings_name_what_is_served(self):
        """As HTML with everything escaped, or as JSON; nothing hidden, nothing from outside."""
        names = {"b.js", "in", "deep", "<script>&\"'.txt", "\u00e4 %41.txt"}
        def check(address):
            got = self.get(address, "/list/", "Accept: application/json")
            listing = json.loads(got.body)
            self.assertEqual({row["name"] for row in listing["entries"]}, names)
            self.assertEqual(listing["entries"][0], listing["entries"][0] | {"type": "directory"})
            self.assertTrue(listing["complete"])
            self.assertEqual(got.headers["vary"], "Accept")
            page = self.get(address, "/list/", "Accept: text/html, application/json").body.decode()
            self.assertIn("&lt;script&gt;&amp;&quot;&#39;.txt", page)
            self.assertNotIn("<script>", page)
            self.assertNotIn("hidden", page)
            for reference in ("%3Cscript%3E%26%22%27.txt", "%C3%A4%20%2541.txt"):
                self.assertIn(f'href="./{reference}"', page)
                self.assertEqual(self.get(address, "/list/" + reference).status, 200)
        self.on_each_engine(check)

    def test_the_form_of_a_listing_is_the_one_that_is_wanted_more(self):
        """By weight, then by the more precise name, then by the order; HTML if nothing is said."""
        html, json_type = "text/html; charset=utf-8", "application/json"
        rows = (("application/json", json_type), ("text/html", html), ("*/*", html), ("", html),
                ("application/json;q=0, text/html", html), ("application/json;q=0", html),
                ("application/json; q=0.000 , */*;q=0.1", html),
                ("text/html;q=0.9, application/json", json_type),
                ("application/json;q=0.9, text/html", html),
                ("application/json;q=0.5;x=y, text/html;x=y;Q=0.499", json_type),
                ("application/json, text/html", json_type), ("text/html, application/json", html),
                ("*/*, application/json", json_type), ("application/*", json_type),
                ("application/json, text/plain, */*", json_type), ("text/*, application/json;q=0.9",
                                                                   html),
                ("*/*;q=0.2, text/html;q=0.1", json_type), ("image/png", html))
        def check(address):
            for accept, wanted in rows:
                got = self.get(address, "/list/", f"Accept: {accept}")
                self.assertEqual((accept, got.headers["content-type"]), (accept, wanted))
        self.on_each_engine(check)

    def test_a_declined_request_can_be_the_last(self):
        """A refusal keeps to what the client asked for about the connection: nothing follows."""
        def check(address):
            for head in (b"1.1\r\nHost: x\r\nConnection: close", b"1.0"):
                request = b"DELETE /index.html HTTP/" + head + b"\r\n\r\n"
                follows = b"GET /index.html HTTP/1.1\r\nHost: x\r\n\r\n"
                data = http_programs.converse(address, request + follows)
                answers = http_programs.parse(data)
                self.assertEqual([answer.status for answer in answers], [405])
                self.assertEqual(answers[0].headers["connection"], "close")
        self.on_each_engine(check)

    def test_each_dropped_body_counts_by_itself(self):
        """Many short bodies that nobody wants do not add up to one that is too long."""
        request = b"POST /a.txt HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
        sizes = (60000, 100, 30000) * 3
        def check(address):
            answers = self.ask(address, *[request % size + b"b" * size for size in sizes],
                               b"GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertEqual([answer.status for answer in answers], [405] * len(sizes) + [200])
            self.assertFalse(any("connection" in answer.headers for answer in answers))
        self.on_each_engine(check)

    def test_pipelined_requests_are_answered_in_order(self):
        """Cached, from the file, from a job, not found: the order is that of the requests."""
        paths = ["/a.txt", "/" + LARGE, "/nope", "/list/", "/100k.bin", "/sub", "/empty.css"] * 3
        def check(address):
            answers = self.ask(address, *[f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
                                          for path in paths])
            self.assertEqual([answer.status for answer in answers],
                             [200, 200, 404, 200, 200, 301, 200] * 3)
            for path, answer in zip(paths, answers):
                if path[1:] in self.files:
                    self.assertEqual(answer.body, self.files[path[1:]])
        self.on_each_engine(check)

    def test_many_pipelined_answers_wait_for_the_reader(self):
        """A thousand answers of 100 KiB that nobody reads cost the high mark, and all arrive."""
        def check(address):
            count = 300
            with programs.connect(address) as client:
                client.sendall(b"GET /100k.bin HTTP/1.1\r\nHost: x\r\n\r\n" * count)
                digest, size = hashlib.sha256(), 0
                with programs.connect(address) as other:
                    other.sendall(b"GET /.status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    self.assertIn(b"requests", programs.receive_end(other))
                client.shutdown(socket.SHUT_WR)
                while more := client.recv(1 << 20):
                    digest.update(more)
                    size += len(more)
                self.assertGreater(size, count * 100000)
                self.assertLess(size, count * 100600)
        self.on_each_engine(check)


class Cache(http_programs.HttpTest):
    """A changed file is noticed."""

    files = {"a.txt": b"first", "b.txt": b"gone soon"} | {
        name: b"before" for name in ("content", "longer", "date", "hidden")}

    def change(self, name, content):
        """Replaces the file at once, as an editor would."""
        path = os.path.join(self.root, name)
        with open(path + ".new", "wb") as file:
            file.write(content)
        os.rename(path + ".new", path)

    def until(self, address, path, wanted):
        """Asks until the answer is as wanted, within LIMIT."""
        deadline = time.monotonic() + programs.LIMIT
        while not wanted(self.get(address, path)):
            self.assertLess(time.monotonic(), deadline, f"{path} is still old")
            programs.look_later()

    def test_changes_are_noticed_and_hits_are_counted(self):
        """Within a second or so the new content, and 404 for what is gone."""
        addresses = [server.addresses[0] for server in self.servers.values()]
        for address in addresses:
            self.assertEqual(self.get(address, "/a.txt").body, b"first")
            self.assertEqual(self.get(address, "/b.txt").body, b"gone soon")
        self.change("a.txt", b"other")
        os.unlink(os.path.join(self.root, "b.txt"))
        for address in addresses:
            self.until(address, "/a.txt", lambda answer: answer.body == b"other")
            self.until(address, "/b.txt", lambda answer: answer.status == 404)
            counters = json.loads(self.get(address, "/.status").body)
            self.assertGreater(counters["cache_misses"], 0)

    def write(self, name, content, modified_ns=None):
        """Writes into the file as it lies there, and gives it the date, if there is one."""
        path = os.path.join(self.root, name)
        inode = os.stat(path).st_ino
        with open(path, "r+b") as file:
            file.write(content)
        if modified_ns is not None:
            os.utime(path, ns=(modified_ns, modified_ns))
        self.assertEqual(os.stat(path).st_ino, inode)

    def test_changes_in_place_are_noticed(self):
        """The file stays the same inode: other bytes of the same size, more bytes with the date of
        before, another date alone, and other bytes of the same size with the date of before."""
        names = ("content", "longer", "date", "hidden")
        old = {name: os.stat(os.path.join(self.root, name)).st_mtime_ns for name in names}
        addresses = [server.addresses[0] for server in self.servers.values()]
        for address in addresses:
            for name in names:
                self.assertEqual(self.get(address, "/" + name).body, b"before")
        self.write("content", b"behind")
        self.write("longer", b"before and after", old["longer"])
        self.write("date", b"", 1_700_000_000 * 10**9)
        self.write("hidden", b"behind", old["hidden"])
        date = "Tue, 14 Nov 2023 22:13:20 GMT"
        for address in addresses:
            self.until(address, "/content", lambda answer: answer.body == b"behind")
            self.until(address, "/longer", lambda answer: answer.body == b"before and after")
            self.until(address, "/date", lambda answer: answer.headers["last-modified"] == date)
            self.until(address, "/hidden", lambda answer: answer.body == b"behind")

    def test_a_hit_needs_no_look_at_the_file(self):
        """Within the second of its last look, an entry answers by itself."""
        def check(address):
            before = json.loads(self.get(address, "/.status").body)
            request = b"GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n"
            self.assertEqual(len(self.ask(address, *[request] * 200)), 200)
            after = json.loads(self.get(address, "/.status").body)
            self.assertGreaterEqual(after["cache_hits"] - before["cache_hits"], 198)
        self.on_each_engine(check)


class Uncached(http_programs.HttpTest):
    """Without a cache everything is read anew."""

    files = {"a.txt": b"text", "big": RANDOM[:70000]}
    options = ("--cache-size", "0")

    def test_files_are_served_without_a_cache(self):
        """The content is the same, and nothing hits."""
        def check(address):
            for _ in range(3):
                self.assertEqual(self.get(address, "/a.txt").body, b"text")
                self.assertEqual(self.get(address, "/big", "Range: bytes=69999-").body,
                                 RANDOM[69999:70000])
            self.assertEqual(json.loads(self.get(address, "/.status").body)["cache_hits"], 0)
        self.on_each_engine(check)

    def begin(self, address, path, size):
        """Makes a file of zeroes and takes the first bytes of it: the client, and the answer."""
        with open(path, "wb") as file:
            file.truncate(size)
        host, port = address.rsplit(":", 1)
        client = http.client.HTTPConnection(host, int(port), timeout=programs.LIMIT)
        client.request("GET", "/" + os.path.basename(path))
        answer = client.getresponse()
        self.assertEqual(answer.read(1000), bytes(1000))
        return client, answer

    def test_a_file_is_sent_as_it_was_when_its_answer_began(self):
        """What is added meanwhile is not sent, nor is another file in its place."""
        size = 32 * 1024 * 1024
        path = os.path.join(self.root, "changes")
        def check(address):
            client, answer = self.begin(address, path, size)
            with open(path, "ab") as file:
                file.write(b"more")
            with open(path + ".new", "wb") as file:
                file.write(b"other")
            os.rename(path + ".new", path)
            self.assertEqual(answer.read(), bytes(size - 1000))
            client.request("GET", "/changes")
            self.assertEqual(client.getresponse().read(), b"other")
            client.close()
        self.on_each_engine(check)

    def test_a_file_that_shrinks_breaks_the_connection(self):
        """What was promised and is gone is never made up: the connection breaks."""
        size = 64 * 1024 * 1024
        path = os.path.join(self.root, "shrinks")
        def check(address):
            client, answer = self.begin(address, path, size)
            os.truncate(path, 1024 * 1024)
            with self.assertRaises((ConnectionResetError, http.client.IncompleteRead)):
                answer.read()
            client.close()
        self.on_each_engine(check)


class Many(http_programs.HttpTest):
    """A cache that is smaller than what is asked for."""

    files = {f"{i:03}.txt": b"%03d" % i * 500 for i in range(200)}
    options = ("--cache-size", "64K")

    def test_a_small_cache_serves_everything(self):
        """Entries make room for each other, and each answer is its file's."""
        def check(address):
            requests = [f"GET /{name} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for name in self.files]
            answers = self.ask(address, *requests * 2)
            self.assertEqual([answer.body for answer in answers], list(self.files.values()) * 2)
        self.on_each_engine(check)


class Crowded(http_programs.HttpTest):
    """A directory of a hundred thousand names; of fewer under sanitizers, which take their time."""

    count = 100000
    options = ("--listing", "--send-buffer", "16K")
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # disks take long for so many

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if programs.sanitized():
            cls.count = 20000
        folder = os.path.join(cls.root, "crowd")
        os.mkdir(folder)
        at = os.open(folder, os.O_RDONLY)
        try:
            for i in range(cls.count):
                os.close(os.open(f"{i:06}.txt", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=at))
        finally:
            os.close(at)

    def memory(self, engine):
        """The most that the server has had in memory, in KiB."""
        with open(f"/proc/{self.servers[engine].process.pid}/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))

    def list_crowd(self, address, size):
        """So much of the listing, for a client that begins to read only when others were served."""
        pieces = bytearray()
        with programs.connect(address, receive_buffer=1 << 16) as client:
            client.sendall(b"GET /crowd/ HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n"
                           b"Connection: close\r\n\r\n")
            end = time.monotonic() + programs.QUIET
            while time.monotonic() < end:
                self.assertEqual(self.get(address, "/a.txt").body, b"text\n")
                programs.look_later()
            while len(pieces) < size and (more := client.recv(1 << 18)):
                pieces += more
        return bytes(pieces)

    def test_it_is_listed_whole_beside_other_requests(self):
        """Every name once, in little memory, while others are served."""
        self.get(self.servers["uring"].addresses[0], "/a.txt")
        before = self.memory("uring")
        data = self.list_crowd(self.servers["uring"].addresses[0], 1 << 30)
        if not programs.sanitized():
            self.assertLess(self.memory("uring") - before, 6 * 1024)
        listing = json.loads(http_programs.parse(data)[0].body)
        self.assertTrue(listing["complete"])
        self.assertEqual(sorted(row["name"] for row in listing["entries"]),
                         [f"{i:06}.txt" for i in range(self.count)])

    def test_who_does_not_want_it_whole_harms_nobody(self):
        """A client that goes in the middle, and one that asks for the head only."""
        def check(address):
            for size in (1, 1 << 20):
                self.assertTrue(self.list_crowd(address, size).startswith(b"HTTP/1.1 200 OK\r\n"))
            head = self.get(address, "/crowd/", method="HEAD")
            self.assertEqual(head.headers["transfer-encoding"], "chunked")
            self.assertEqual(self.get(address, "/a.txt").body, b"text\n")
        self.on_each_engine(check)


class Odd(http_programs.HttpTest):
    """Directories and names that are not as usual."""

    files = {"a.txt": b"text\n", "sub/start.txt": b"started\n", "sub/index.html": b"other"}
    options = ("--listing", "--index", "start.txt")

    def test_a_directory_in_the_place_of_the_index_is_no_index(self):
        """Its parent is listed."""
        os.makedirs(os.path.join(self.root, "odd", "start.txt"), exist_ok=True)
        def check(address):
            self.assertEqual(self.get(address, "/sub/").body, b"started\n")
            got = self.get(address, "/odd/", "Accept: application/json;q=0.9")
            listing = json.loads(got.body)
            self.assertEqual([row["name"] for row in listing["entries"]], ["start.txt"])
        self.on_each_engine(check)

    def test_names_of_any_bytes_are_listed(self):
        """What is no UTF-8 does not break the listing, and its link leads to the file."""
        folder = os.path.join(self.root, "bytes")
        os.makedirs(folder, exist_ok=True)
        for name in (b"\xc3(", b"\xff", b"\xe2\x82", b"plain"):
            with open(os.path.join(folder.encode(), name), "wb") as file:
                file.write(b"bytes\n")
        def check(address):
            listing = json.loads(self.get(address, "/bytes/", "Accept: application/json").body)
            self.assertEqual(sorted(row["name"] for row in listing["entries"]),
                             ["plain", "\ufffd", "\ufffd(", "\ufffd\ufffd"])
            links = re.findall(rb'href="\./([^"]*)"', self.get(address, "/bytes/").body)
            self.assertEqual(len(links), 4)
            for link in links:
                self.assertEqual(self.get(address, f"/bytes/{link.decode()}").body, b"bytes\n")
        self.on_each_engine(check)

    def test_a_path_without_room_for_the_index_is_not_found(self):
        """It is as long as a path may be."""
        def check(address):
            self.assertEqual(self.get(address, "/" + "d/" * 2045).status, 404)
        self.on_each_engine(check)


class Threads(http_programs.HttpTest):
    """Several loops, each with its worker."""

    def test_two_threads_serve_and_count_together(self):
        """The status sums over the workers, and the server's statistics hold it at the end."""
        stats = os.path.join(self.root, "stats.json")
        for engine in ("uring", "epoll"):
            with self.subTest(engine=engine):
                server = programs.Server(engine, "--threads", "2", "--root", self.root, "--status",
                                         "/s", "--stats-json", stats, name="http")
                self.addCleanup(server.kill)
                for _ in range(40):
                    self.assertEqual(self.get(server.addresses[0], "/a.txt").body, b"text\n")
                counters = json.loads(self.get(server.addresses[0], "/s").body)
                self.assertGreaterEqual(counters["status_2xx"], 40)
                server.signal(signal.SIGTERM)
                self.assertEqual(server.wait(), 0)
                with open(stats, encoding="ascii") as file:
                    last = json.load(file)["protocol"]
                self.assertEqual(last.keys(), counters.keys())
                self.assertEqual(last["requests"], 41)
                self.assertEqual(last["status_2xx"], 41)
