"""Real clients against `weir ftp`: what they bring and take is compared byte by byte."""

import ftplib
import io
import os
import shutil
import signal
import subprocess
import threading
import time
import unittest

from ftp_client import FULL, USER, on_all_engines
from programs import LIMIT, look_later

PATIENCE = 6 * LIMIT if FULL else 3 * LIMIT
FILES = 2000 if FULL else 200
SOME_FILES = 2000 if FULL else 60
# Where `./do clients` puts what comes by npm.
MODULES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../.deps/npm/node_modules")


def need(program):
    if not shutil.which(program):
        raise unittest.SkipTest(f"{program} is not installed")


def tree(top):
    """All files below a folder with their bytes, and all folders."""
    found = {}
    for folder, folders, names in os.walk(os.fsencode(top)):
        for name in folders:
            found[os.path.relpath(os.path.join(folder, name), os.fsencode(top))] = None
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                found[os.path.relpath(os.path.join(folder, name), os.fsencode(top))] = file.read()
    return found


def grow(top, files, names=("ünïcode", "quo'te", "per%cent", "hash#", "pl+us")):
    """A tree of many small files and some large ones, with names that clients trip over."""
    content = os.urandom(1 << 20)
    for number in range(files):
        folder = os.path.join(top, f"d{number % 7}", f"e{number % 3}")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, f"file {number}.bin"), "wb") as file:
            file.write(content[:number * number % 5000])
    with open(os.path.join(top, "large"), "wb") as file:
        file.write(content * 3)
    for name in names:
        with open(os.path.join(top, name), "wb") as file:
            file.write(name.encode())


class Clients:
    """One server, all clients."""

    def setUp(self):
        self.host, _, self.port = self.server.addresses[0].rpartition(":")
        self.local = os.path.join(self.folder.name, f"local-{self._testMethodName}")
        os.mkdir(self.local)
        self.addCleanup(shutil.rmtree, self.local)
        for name in os.listdir(self.root):
            path = self.path(name)
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)

    def run_client(self, *command, status=0, **keywords):
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE, cwd=self.local,
                              check=False, env=self.environment(), **keywords)
        if status is not None:
            self.assertEqual(done.returncode, status, (done.stdout[-2000:], done.stderr[-2000:]))
        return done.stdout

    def environment(self):
        """What clients remember goes into a home of the test's."""
        home = os.path.join(self.folder.name, "home")
        os.makedirs(home, exist_ok=True)
        modules = os.environ.get("NODE_PATH", os.path.normpath(MODULES))
        return {**os.environ, "HOME": home, "LC_ALL": "C.UTF-8", "NODE_PATH": modules}

    def assert_same(self, one, other):
        """Two trees of the same names with the same bytes."""
        one, other = tree(one), tree(other)
        self.assertEqual(sorted(one), sorted(other))
        self.assertEqual([name for name in one if one[name] != other[name]], [])

    def place(self, *names):
        return os.path.join(self.local, *names)

    def curl(self, *arguments, status=0):
        return self.run_client("curl", "--silent", "--show-error", "--max-time", str(LIMIT),
                               "--user", ":".join(USER), *arguments, status=status)

    # curl reads and writes, resumes both, takes ranges and lists; over EPSV, PASV, EPRT and PORT.
    def test_curl(self):
        need("curl")
        url = f"ftp://{self.host}:{self.port}/"
        content = self.write("source", os.urandom(3000001))
        for mode in ((), ("--disable-epsv",), ("--ftp-port", "127.0.0.1"),
                     ("--ftp-port", "127.0.0.1", "--disable-eprt")):
            self.assertEqual(self.curl(*mode, url + "source"), content)
            self.curl(*mode, "--upload-file", self.path("source"), url + "made/up",
                      "--ftp-create-dirs")
            self.assertEqual(self.read("made/up"), content)
            self.assertEqual(sorted(self.curl(*mode, "--list-only", url).split()),
                             [b"made", b"source"])
        self.assertEqual(self.curl("--range", "1000-1999", url + "source"), content[1000:2000])
        with open(self.place("part"), "wb") as file:
            file.write(content[:1000000])
        self.curl("--continue-at", "-", "--output", self.place("part"), url + "source")
        with open(self.place("part"), "rb") as file:
            self.assertEqual(file.read(), content)
        self.write("half", content[:1234567])
        self.curl("--continue-at", "-", "--upload-file", self.path("source"), url + "half")
        self.assertEqual(self.read("half"), content)
        self.curl("--append", "--upload-file", self.place("part"), url + "half")
        self.assertEqual(self.read("half"), content + content)
        self.curl(url, "--quote", "RNFR half", "--quote", "RNTO whole", "--quote", "DELE source")
        self.assertEqual(sorted(os.listdir(self.root)), ["made", "whole"])
        self.curl(url + "none", status=78)
        self.write("text", b"a\nb\n")
        self.assertEqual(self.curl("--use-ascii", url + "text"), b"a\nb\n")
        self.assertIn(b"Content-Length: 3000001", self.curl("--head", url + "made/up"))

    def lftp(self, script, status=0):
        return self.run_client(
            "lftp", "--norc", "-c",
            "set net:max-retries 1; set net:timeout 10; set ftp:ssl-allow no;"
            f"set cmd:fail-exit yes; open -u {','.join(USER)} ftp://{self.host}:{self.port};"
            + script, status=status)

    # lftp mirrors a tree in both directions, in parallel, and goes on where it was interrupted.
    def test_lftp_mirrors(self):
        need("lftp")
        os.mkdir(self.path("tree"))
        grow(self.path("tree"), FILES)
        self.lftp("mirror --parallel=4 tree there")
        self.assert_same(self.place("there"), self.path("tree"))
        self.lftp("mirror --reverse --parallel=4 there back")
        self.assert_same(self.path("back"), self.path("tree"))
        os.truncate(self.place("there", "large"), 1000000)
        shutil.rmtree(self.place("there", "d3"))
        self.lftp("mirror --continue tree there")
        self.assert_same(self.place("there"), self.path("tree"))
        self.lftp("set ftp:use-mlsd no; set ftp:passive-mode no; mirror tree active")
        self.assert_same(self.place("active"), self.path("tree"))

    # A mirror that was killed in the middle leaves whole files at the server, but for those that
    # were on their way: FTP ends a file by ending its connection, which the kernel does for the
    # dead too. A second mirror completes all.
    def test_lftp_interrupted(self):
        need("lftp")
        grow(self.local, FILES)
        script = (f"set ftp:ssl-allow no; set net:limit-rate 200000; open -u {','.join(USER)} "
                  f"ftp://{self.host}:{self.port}; mirror --reverse --parallel=3 . up")
        with subprocess.Popen(["lftp", "--norc", "-c", script], cwd=self.local,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              env=self.environment()) as client:
            watch = ftplib.FTP()
            watch.connect(self.host, int(self.port), LIMIT)
            watch.login(*USER)
            while "up" not in watch.nlst() or not watch.nlst("up"):
                self.assertIsNone(client.poll())
            client.send_signal(signal.SIGKILL)
        watch.close()
        self.wait_for_the_end_of_all()
        expected = tree(self.local)
        broken = 0
        for name, content in tree(self.path("up")).items():
            if content is not None and not os.path.basename(name).startswith(b".weir-upload-"):
                self.assertTrue(expected[name].startswith(content), name)
                broken += content != expected[name]
        self.assertLessEqual(broken, 3)
        self.lftp("mirror --reverse . up")
        self.assert_same(self.path("up"), self.local)

    def wait_for_the_end_of_all(self):
        """Until the server has noticed that all clients have gone, and tidied up behind them."""
        deadline = time.monotonic() + LIMIT
        while self.server.counters()["streams_open"] or any(
                name.startswith(".weir-upload-") for _, _, names in os.walk(self.root)
                for name in names):
            self.assertLess(time.monotonic(), deadline)
            look_later()

    # ncftp's tools take and bring trees.
    def test_ncftp(self):
        need("ncftpget")
        os.mkdir(self.path("tree"))
        grow(self.path("tree"), 50)
        common = ("-u", USER[0], "-p", USER[1], "-P", self.port)
        self.run_client("ncftpget", *common, "-V", "-R", self.host, self.place(), "/tree")
        self.assert_same(self.place("tree"), self.path("tree"))
        self.run_client("ncftpput", *common, "-V", "-R", "-m", self.host, "/back",
                        self.place("tree"))
        self.assert_same(self.path("back", "tree"), self.path("tree"))
        listed = self.run_client("ncftpls", *common, "-1", f"ftp://{self.host}/tree/")
        self.assertIn(b"large", listed.split())

    # tnftp gets, puts, appends, and many at once by pattern.
    def test_tnftp(self):
        need("tnftp")
        content = self.write("one.bin", os.urandom(100001))
        self.write("two.bin", b"2" * 70000)
        with open(self.place("up"), "wb") as file:
            file.write(content[::-1])
        script = (f"user {' '.join(USER)}\nbinary\nprompt\nmget *.bin\nput up\nappend up up\n"
                  "rename up down\nmkdir made\ncd made\nput up\nquit\n")
        self.run_client("tnftp", "-n", self.host, self.port, input=script.encode())
        self.assertEqual(tree(self.local), {b"one.bin": content, b"two.bin": b"2" * 70000,
                                            b"up": content[::-1]})
        self.assertEqual(self.read("down"), content[::-1] * 2)
        self.assertEqual(self.read("made/up"), content[::-1])

    # wget takes a tree by following listings.
    def test_wget(self):
        need("wget")
        os.mkdir(self.path("tree"))
        # wget decodes the other names.
        grow(self.path("tree"), SOME_FILES, ("ünïcode", "quo'te", "pl+us"))
        self.run_client("wget", "--quiet", "--recursive", "--no-host-directories", "--tries=1",
                        "--level=inf",
                        "--restrict-file-names=nocontrol", f"--user={USER[0]}",
                        f"--password={USER[1]}", f"ftp://{self.host}:{self.port}/tree/")
        self.assert_same(self.place("tree"), self.path("tree"))

    # Python's ftplib: every call of it that touches the server.
    def test_ftplib(self):
        client = ftplib.FTP(encoding="utf-8")
        client.connect(self.host, int(self.port), LIMIT)
        self.assertEqual(client.login(*USER), "230 Logged in.")
        content = os.urandom(200000)
        for passive in (True, False):
            client.set_pasv(passive)
            client.storbinary("STOR ünï", io.BytesIO(content))
            taken = bytearray()
            client.retrbinary("RETR ünï", taken.extend, rest=1000)
            self.assertEqual(taken, content[1000:])
            client.storlines("STOR lines", io.BytesIO(b"one\ntwo\n"))
            self.assertEqual(self.read("lines"), b"one\ntwo\n")
            lines = []
            client.retrlines("RETR lines", lines.append)
            self.assertEqual(lines, ["one", "two"])
            self.assertEqual(sorted(client.nlst()), ["lines", "ünï"])
        self.assertEqual(sorted(name for name, facts in client.mlsd(facts=["type", "size"])
                                if facts["type"] == "file"), ["lines", "ünï"])
        client.voidcmd("TYPE I")
        self.assertEqual(client.size("ünï"), 200000)
        self.assertEqual(client.mkd('a"b'), '/a"b')
        client.cwd('a"b')
        self.assertEqual(client.pwd(), '/a"b')
        client.cwd("..")
        client.rename("ünï", "other")
        client.delete("other")
        client.rmd('a"b')
        self.assertEqual(os.listdir(self.root), ["lines"])
        self.assertEqual(client.quit(), "221 Goodbye.")

    # Many ftplib clients in threads, each its own files.
    def test_ftplib_in_parallel(self):
        failures = []

        def work(number):
            try:
                client = ftplib.FTP()
                client.connect(self.host, int(self.port), LIMIT)
                client.login(*USER)
                for turn in range(5):
                    content = os.urandom(50000 + number)
                    client.storbinary(f"STOR {number}", io.BytesIO(content))
                    taken = bytearray()
                    client.retrbinary(f"RETR {number}", taken.extend)
                    assert taken == content, (number, turn)
                client.quit()
            except Exception as error:  # pylint: disable=broad-except
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        self.assertEqual(failures, [])

    # rclone copies a tree in both directions, four files at a time, and finds both alike.
    def test_rclone(self):
        need("rclone")
        os.mkdir(self.path("tree"))
        # It writes no name that FTP's other clients could take for something else.
        grow(self.path("tree"), SOME_FILES, ("ünïcode", "quo'te", "pl+us"))
        hidden = subprocess.run(["rclone", "obscure", USER[1]], capture_output=True, text=True,
                                check=True, timeout=PATIENCE).stdout.strip()
        remote = f":ftp,host={self.host},port={self.port},user={USER[0]},pass={hidden}:"
        common = ("--config", "", "--transfers", "4", "--retries", "1", "--quiet")
        self.run_client("rclone", "copy", *common, remote + "tree", self.place("taken"))
        self.assert_same(self.place("taken"), self.path("tree"))
        self.run_client("rclone", "copy", *common, self.place("taken"), remote + "back")
        self.assert_same(self.path("back"), self.path("tree"))
        self.run_client("rclone", "check", *common, "--download", self.place("taken"),
                        remote + "back")

    # npm's basic-ftp takes and brings a tree, where it is installed.
    def test_basic_ftp(self):
        need("node")
        where = subprocess.run(["node", "-e", "console.log(require.resolve('basic-ftp'))"],
                               capture_output=True, text=True, check=False, timeout=PATIENCE,
                               env=self.environment())
        if where.returncode:
            self.skipTest("npm's basic-ftp is not installed (./do clients brings it)")
        os.mkdir(self.path("tree"))
        grow(self.path("tree"), SOME_FILES)
        script = """
            const { Client } = require('basic-ftp');
            (async () => {
                const [host, port, user, password] = process.argv.slice(1);
                const client = new Client(10000);
                await client.access({ host, port: Number(port), user, password });
                await client.downloadToDir('taken', '/tree');
                await client.ensureDir('/back');
                await client.uploadFromDir('taken');
                client.close();
            })().catch(error => { console.error(error); process.exit(1); });
        """
        self.run_client("node", "-e", script, self.host, self.port, *USER)
        self.assert_same(self.place("taken"), self.path("tree"))
        self.assert_same(self.path("back"), self.path("tree"))


on_all_engines(Clients, globals())
