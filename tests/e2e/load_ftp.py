"""Drives `weir-load ftp` against weir's own server, and against servers that lie."""

import json
import os
import socket
import subprocess

import ftp_client
import load_cli
import programs

LOAD = os.environ.get("WEIR_LOAD", "")


def came_to_something(report):
    return report["ops"] or report["errors"]["total"]


def load(address, *options, enough=came_to_something):
    """Runs it briefly; the exit status, the report or None, and what it said. Where a busy machine
    did not come to a single answer and nothing failed either, or not to what is enough, it gets
    longer."""
    for duration in ("0.1", "1", "5"):
        run = subprocess.run([LOAD, "ftp", "--connect", address, "--warmup", "0.02", "--duration",
                              duration, "--json", "-", *options], capture_output=True, text=True,
                             timeout=programs.LIMIT, check=False)
        report = json.loads(run.stdout) if run.stdout else None
        if not report or enough(report):
            break
    return run.returncode, report, run.stderr


class Load:
    """Every way of loading counts and verifies."""

    options = (*ftp_client.FtpCase.options, "--anonymous-write")

    def measure(self, *options, enough=came_to_something):
        status, report, said = load(self.server.addresses[0], "--engine", self.client, *options,
                                    enough=enough)
        self.assertEqual((status, said), (0, ""))
        self.assertEqual({kind: n for kind, n in report["errors"].items() if n}, {})
        self.assertGreater(report["ops"], 0)
        self.assertEqual((report["protocol"], report["engine"]), ("ftp", self.client))
        return report

    def assert_steps(self, report, wanted):
        found = {name for name, latency in report["commands_ns"].items() if latency["count"]}
        self.assertLessEqual(found, wanted)
        # A step whose reply came before the window opened is not among the measured ones.
        if report["ops"] > 20:
            self.assertEqual(found, wanted)

    def test_logins(self):
        """A login is a connection of its own; with a password, and in an open loop, too."""
        login = {"greeting", "user", "pass", "quit"}
        for options in (("--connections", "3"), ("--user", "bob", "--password", "secret"),
                        ("--rate", "200")):
            report = self.measure("--operation", "login", *options)
            self.assertEqual(report["operation"], "login")
            self.assert_steps(report, login)
            self.assertGreaterEqual(report["connections"]["opened"], report["ops"])
            self.assertNotIn("secret", json.dumps(report))

    def test_downloads(self):
        """One file or several, small and large, on sessions that stay and on new ones."""
        self.write("large", os.urandom(3000000))
        for number in range(4):
            self.write(f"small{number}", os.urandom(1000 + number))
        report = self.measure("--path", "/large", "--connections", "2", "--verify", "full")
        self.assertEqual(report["bytes"], 3000000 * report["ops"])
        self.assertEqual(report["requests"]["verified"], report["echoes"])
        self.assert_steps(report, {"epsv", "begin", "data"})
        report = self.measure("--path", "/small{}", "--files", "4", "--connections", "3",
                              "--threads", "2", "--verify", "full")
        self.assertGreaterEqual(report["bytes"], 1000 * report["ops"])
        report = self.measure("--path", "/small1", "--size", "1001", "--churn", "3",
                              "--connections", "1")
        self.assertEqual(report["operation"], "connection")
        # An operation ends with the farewell: of the first, all three files may have come before
        # the window opened.
        self.assertGreaterEqual(report["echoes"], 3 * report["ops"] - 3)

    def test_uploads(self):
        """The files are the pattern, each session's its own; what is verified is taken back."""
        report = self.measure("--operation", "stor", "--path", "/up{}", "--size", "100K",
                              "--connections", "3", "--files", "2", "--verify", "full")
        self.assertEqual(report["requests"]["verified"], report["echoes"])
        self.assertEqual(report["bytes"], 102400 * report["ops"])
        names = {f"up{number}" for number in range(6)}
        self.assertLessEqual({name for name in os.listdir(self.root) if name[:2] == "up"}, names)
        self.assertEqual(os.path.getsize(self.path("up0")), 102400)
        self.measure("--operation", "stor", "--path", "/one", "--size", "1")

    def test_commands_beside_a_download(self):
        """An open loop of commands has response times, and what runs beside is told apart."""
        self.write("beside", bytes(1 << 20))
        report = self.measure("--operation", "noop", "--connections", "5", "--rate", "2000",
                              "--beside", "/beside", "--idle", "2",
                              enough=lambda report: report["ops"] and report["beside_bytes"])
        self.assertGreater(report["beside_bytes"], 0)
        self.assertEqual(report["bytes"], 0)
        self.assertEqual(report["connections"]["open_at_start"], 8)
        self.assertEqual(report["parameters"]["idle"], 2)
        self.assertGreater(report["latency_ns"]["response"]["count"], 50)

    def test_refusals(self):
        """A login that is refused ends the run in one line, a file that is not there is counted."""
        status, _, said = load(self.server.addresses[0], "--user", "bob", "--password", "wrong",
                               "--operation", "noop")
        self.assertEqual(status, 1)
        self.assertIn("Permission denied", said)
        status, report, said = load(self.server.addresses[0], "--path", "/none")
        self.assertEqual(status, 1)
        self.assertIn("no request was answered", said)
        self.assertGreater(report["errors"]["status"], 0)


class Liar:
    """A server of one thread per connection whose transfers are what a test says."""

    def __init__(self, **lies):
        self.lies = lies
        self.transfers = 0
        self.stored = b""
        self.peer = load_cli.Peer(self.serve)
        self.address = self.peer.address

    def serve(self, _peer, control):
        replies = {b"USER": b"331 p", b"PASS": b"230 in", b"TYPE": b"200 ok", b"NOOP": b"200 ok",
                   b"QUIT": b"221 bye", **self.lies.get("replies", {})}
        listener = socket.create_server(("127.0.0.1", 0))
        with listener:
            control.sendall(self.lies.get("greeting", b"220-hi\r\n220 there\r\n"))
            rest = b""
            while data := control.recv(65536):
                *lines, rest = (rest + data).split(b"\r\n")
                for line in lines:
                    verb = line[:4]
                    if verb == b"EPSV":
                        port = listener.getsockname()[1]
                        control.sendall(self.lies.get("epsv", b"229 ok (|||%d|)\r\n" % port))
                    elif verb in (b"RETR", b"STOR"):
                        self.transfer(verb, control, listener)
                    else:
                        control.sendall(replies[verb] + b"\r\n")

    def transfer(self, verb, control, listener):
        with listener.accept()[0] as data:
            control.sendall(b"150 now\r\n")
            if verb == b"STOR":
                self.stored = programs.receive_end(data)
            else:
                sent = self.lies.get("content") or [self.stored]
                data.sendall(sent[min(self.transfers, len(sent) - 1)])
                self.transfers += 1
        control.sendall(self.lies.get("end", b"226 done\r\n"))


class Liars(ftp_client.unittest.TestCase):
    """Servers whose replies or bytes are wrong."""

    def run_against(self, options, error=None, **lies):
        """Until an error of this kind was found, or else anything."""
        def found(report):
            return report["errors"][error]

        liar = Liar(**lies)
        self.addCleanup(liar.peer.close)
        return load(liar.address, "--verify", "full", *options,
                    enough=found if error else came_to_something)

    def test_an_honest_one_passes(self):
        """The server of these tests itself is not what is found."""
        for options in (("--path", "/x"), ("--operation", "stor", "--path", "/x", "--size", "9K"),
                        ("--operation", "login"), ("--operation", "noop")):
            lies = {"content": [b"hello"]} if options[0] == "--path" else {}
            status, report, said = self.run_against(options, **lies)
            self.assertEqual((status, said, report["errors"]["total"]), (0, "", 0))

    def test_wrong_bytes_are_corrupt(self):
        """Another content, length, or an upload that comes back changed: status 1."""
        for options, content in ((("--path", "/x"), [b"hello"] * 5 + [b"hellx"]),
                                 (("--path", "/x"), [b"hello"] * 5 + [b"hello!"]),
                                 (("--path", "/x"), [b"hello"] * 5 + [b"hell"]),
                                 (("--path", "/x", "--size", "6"), [b"hello"]),
                                 (("--operation", "stor", "--path", "/x", "--size", "5"),
                                  [b"hello"])):
            status, report, said = self.run_against(options, "corrupt", content=content)
            self.assertGreater(report["errors"]["corrupt"], 0, options)
            self.assertEqual(status, 1)
            self.assertIn("differed", said)

    def test_wrong_replies_are_told_apart(self):
        """Refusals, other codes, no FTP at all, and replies that nothing asked for."""
        for options, lies, kind in (
                (("--path", "/x"), {"end": b"426 broken\r\n"}, "status"),
                (("--path", "/x"), {"end": b"221 bye\r\n"}, "malformed"),
                (("--path", "/x"), {"epsv": b"229 no port\r\n"}, "malformed"),
                (("--path", "/x"), {"epsv": b"229 (|||1|)\r\n"}, "refused"),
                (("--operation", "noop"), {"replies": {b"NOOP": b"hello"}}, "malformed"),
                (("--operation", "noop"), {"replies": {b"NOOP": b"421 away"}}, "status"),
                (("--operation", "noop"), {"replies": {b"NOOP": b"200 ok\r\n200 ok"}}, "excess")):
            _, report, _ = self.run_against(options, kind, content=[b"hello"], **lies)
            self.assertGreater(report["errors"][kind], 0, (lies, report["errors"]))
        status, _, said = self.run_against(("--operation", "noop"), greeting=b"HTTP/1.1 400\r\n")
        self.assertEqual(status, 1)
        self.assertIn("cannot connect", said)

    def test_a_silent_server_times_out(self):
        """A login and a transfer that never end are counted as that late."""
        for options, lies in ((("--operation", "login"), {"greeting": b""}),
                              (("--path", "/x"), {"end": b""})):
            _, report, _ = self.run_against((*options, "--timeout", "0.05"), "timeout",
                                            content=[b"x"], **lies)
            self.assertGreater(report["errors"]["timeout"], 0)

    def test_wrong_usage_is_named(self):
        """Options that make no sense together, and those of other protocols."""
        for options, word in ((["--operation", "stor"], "--size"), (["--depth", "2"], "--depth"),
                              (["--operation", "stor", "--size", "1", "--connections", "2"], "{}"),
                              (["--operation", "login", "--churn", "2"], "--churn"),
                              (["--operation", "list"], "login|noop|retr|stor"),
                              (["--beside", "x"], "--beside")):
            run = subprocess.run([LOAD, "ftp", "--connect", "127.0.0.1:1", *options],
                                 capture_output=True, text=True, timeout=programs.LIMIT,
                                 check=False)
            self.assertEqual(run.returncode, 2)
            self.assertIn(word, run.stderr)
        run = subprocess.run([LOAD, "ftp", "--connect", "unix:/x"], capture_output=True, text=True,
                             timeout=programs.LIMIT, check=False)
        self.assertIn("address of the internet", run.stderr)


class UringLoad(Load, ftp_client.FtpCase):
    """The load's own engine is uring."""

    engine = client = "uring"


class EpollLoad(Load, ftp_client.FtpCase):
    """It is epoll; the server has a thread for each connection."""

    engine, client = "blocking", "epoll"
