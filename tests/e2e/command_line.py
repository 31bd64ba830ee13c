"""The command line of `weir`: options, help, version and doctor."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import unittest

from programs import LIMIT, WEIR, Lines, Server, connect, forbid_uring, main, receive, run


TOP = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))


def options_in(text):
    return set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text))


class CommandLineTest(unittest.TestCase):
    """No engine matters here."""

    # Each bad option gives one line that names it, and status 2.
    def test_bad_options(self):
        good = ["--listen", "127.0.0.1:0"]
        for options, text in [
            ([], "--listen"),
            (["--listen"], "--listen: needs a value"),
            (["--listen", "localhost:80"], "--listen: 'localhost:80'"),
            (["--listen", "127.0.0.1:65536"], "--listen"),
            (["--listen", "unix:/" + "x" * 108], "107"),
            ([*good, "--engine", "kqueue"], "--engine: 'kqueue'"),
            ([*good, "--engine", "uring", "--uring", "nonsense"], "nonsense"),
            ([*good, "--uring", ""], "--uring"),
            ([*good, "--engine", "epoll", "--uring", "kernel-6.1"], "--uring: needs --engine"),
            ([*good, "--engine", "blocking", "--uring", "default"], "--uring: needs --engine"),
            ([*good, "--threads", "0"], "--threads: '0' is not a number from 1 to 256"),
            ([*good, "--threads", "257"], "--threads"),
            ([*good, "--threads", "two"], "--threads: 'two'"),
            ([*good, "--threads", "-1"], "--threads: '-1'"),
            ([*good, "--threads", " 1"], "--threads"),
            ([*good, "--cpu", "0-"], "--cpu: '0-'"),
            ([*good, "--cpu", "3-1"], "--cpu"),
            ([*good, "--cpu", "0,,1"], "--cpu"),
            ([*good, "--cpu", "1023"], "--cpu"),
            ([*good, "--cpu", "0x1"], "--cpu"),
            (good * 65, "--listen: '127.0.0.1:0' is not allowed: there are 64 listeners already"),
            ([*good, "--cpu", "99999999999999999999"], "--cpu"),
            ([*good, "--busy-poll-us", "x"], "--busy-poll-us"),
            ([*good, "--max-connections", "0"], "--max-connections"),
            ([*good, "--max-connections", "1000001"], "--max-connections"),
            ([*good, "--max-per-address", "1.5"], "--max-per-address"),
            ([*good, "--idle-timeout", "1m"], "--idle-timeout: '1m' is not seconds"),
            ([*good, "--drain-timeout", "99999999999999999999"], "--drain-timeout"),
            ([*good, "--total-timeout", "-1"], "--total-timeout: '-1' is not seconds"),
            ([*good, "--total-timeout", "10000001"], "--total-timeout: '10000001' is not seconds"),
            ([*good, "--total-timeout", "1e3"], "--total-timeout: '1e3' is not seconds"),
            ([*good, "--total-timeout", ""], "--total-timeout: '' is not seconds"),
            ([*good, "--backlog", "0"], "--backlog"),
            ([*good, "--send-buffer", "4T"], "--send-buffer: '4T' is not a size"),
            ([*good, "--receive-buffer", "4KB"], "--receive-buffer"),
            ([*good, "--notsent-lowat", "18446744073709551615G"], "--notsent-lowat"),
            ([*good, "--keepalive=yes"], "--keepalive=yes: takes no value"),
            ([*good, "--unix-mode", "0888"], "--unix-mode"),
            ([*good, "--unix-mode", "1777"], "--unix-mode"),
            ([*good, "--buffers", "100"], "--buffers: '100' is not a power of two"),
            ([*good, "--buffer-size", "5000"], "--buffer-size"),
            ([*good, "--log"], "--log: needs a value"),
            ([*good, "--stats-json"], "--stats-json: needs a value"),
            ([*good, "--engine", "blocking", "--busy-poll-us", "5"], "--busy-poll-us: the block"),
            ([*good, "--min-wait-us", "100001"], "--min-wait-us"),
            ([*good, "--engine", "epoll", "--min-wait-us", "5"], "--min-wait-us: needs --engine"),
            ([*good, "--engine", "blocking", "--min-wait-us", "5"], "--min-wait-us: needs"),
            ([*good, "--min-wait-us", "5", "--busy-poll-us", "5"], "--min-wait-us: not with"),
            ([*good, "--nonsense"], "--nonsense: unknown option"),
            ([*good, "-x"], "-x: unknown option"),
            ([*good, "-1x"], "-1: unknown option"),
            ([*good, "rest"], "rest: unexpected argument"),
        ]:
            with self.subTest(options=options):
                result = run("echo", *options)
                self.assertEqual(result.returncode, 2, result.stderr)
                self.assertEqual(result.stdout, "")
                self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
                self.assertIn(text, result.stderr)
                self.assertTrue(result.stderr.startswith("weir echo: "), result.stderr)

    # A path that may not be written to is one line and status 1.
    def test_missing_rights(self):
        with tempfile.TemporaryDirectory(prefix="weir-") as folder:
            os.chmod(folder, 0o555)
            user = {"user": 65534} if os.geteuid() == 0 else {}
            try:
                result = run("echo", "--listen", f"unix:{folder}/socket", "--engine", "epoll",
                             **user)
            except PermissionError:
                self.skipTest("the program cannot be reached by another user")
            self.assertEqual(result.returncode, 1, result.stderr)
            self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
            self.assertIn("Permission denied", result.stderr)

    # A log that cannot be opened, or a file for statistics that cannot be made, is said.
    def test_log_that_cannot_be_opened(self):
        result = run("echo", "--listen", "127.0.0.1:0", "--log", "/nonexistent/log")
        self.assertEqual(result.returncode, 1)
        self.assertIn("/nonexistent/log: No such file", result.stderr)

    # A user who does not exist is said, before anything is served.
    def test_unknown_user(self):
        result = run("echo", "--listen", "127.0.0.1:0", "--user", "nobody-of-this-name")
        self.assertEqual((result.returncode, result.stdout), (1, ""))
        self.assertIn("nobody-of-this-name: no such user", result.stderr)

    # What http alone can be told wrongly is said in one line, too.
    def test_bad_options_of_http(self):
        for options, text in [
            (["--index", "a/b"], "--index: 'a/b'"), (["--index", ""], "--index"),
            (["--status", "status"], "--status: 'status' is not a path that begins with a slash"),
        ]:
            with self.subTest(options=options):
                result = run("http", "--listen", "127.0.0.1:0", "--root", "/", *options)
                self.assertEqual((result.returncode, len(result.stderr.splitlines())), (2, 1))
                self.assertIn(text, result.stderr)

    # --engine=auto takes an engine that exists.
    def test_engine_auto(self):
        server = Server("auto")
        self.addCleanup(server.kill)
        self.assertRegex(server.lines[0], r"engine=(uring|epoll) ")
        server.signal(signal.SIGTERM)
        self.assertEqual(server.wait(), 0)

    # Where seccomp forbids io_uring, auto goes on with epoll, says so once and counts it; uring is
    # an error that names the cause.
    def test_forbidden_uring(self):
        server = Server("auto", preexec_fn=forbid_uring)
        self.addCleanup(server.kill)
        self.assertIn("engine=epoll", server.lines[0])
        self.assertIn("seccomp", server.log.next())
        self.assertIn("plan: epoll", server.log.next())
        self.assertEqual(server.counters()["fallbacks"], 1)
        server.signal(signal.SIGTERM)
        self.assertEqual(server.wait(), 0)
        result = run("echo", "--listen", "127.0.0.1:0", "--engine", "uring",
                     preexec_fn=forbid_uring)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
        self.assertIn("seccomp", result.stderr)
        result = run("doctor", preexec_fn=forbid_uring)
        self.assertRegex(result.stdout, r"io_uring: .*seccomp")
        self.assertRegex(result.stdout, r"(?m)^  no .*\n +.*seccomp")

    # A server of an ordinary user says what that takes from it: the filter on its listeners, where
    # the kernel wants rights for it. One whose rings find no memory is told which limit to raise.
    def test_servers_of_ordinary_users(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))

        if os.geteuid():
            self.skipTest("another user needs root")
        try:
            server = Server("uring", user=65534)
        except PermissionError:
            self.skipTest("the program cannot be reached by another user")
        self.addCleanup(server.kill)
        with connect(server.addresses[0]) as client:
            client.sendall(b"served")
            self.assertEqual(receive(client, 6), b"served")
        server.signal(signal.SIGTERM)
        self.assertEqual(server.wait(), 0)
        self.assertNotIn("runs as root", server.process.stderr.read().decode())
        if [int(part) for part in os.uname().release.split(".")[:2]] >= [6, 14]: # it counts rings
            result = run("echo", "--listen", "127.0.0.1:0", "--engine", "uring", user=65534,
                         preexec_fn=limit)
            self.assertEqual(result.returncode, 1)
            self.assertRegex(result.stderr, "(only|memory,) 64 KiB.*ulimit -l")

    # Help names every option, on standard output.
    def test_help(self):
        result = run("--help")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertIn("echo", result.stdout)
        self.assertIn("doctor", result.stdout)
        self.assertIn("--user", run("passwd", "--help").stdout)
        result = run("echo", "--help")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        for name in """listen engine uring threads cpu busy-poll-us adaptive-poll-us min-wait-us
                       max-connections max-per-address idle-timeout total-timeout drain-timeout
                       backlog send-buffer receive-buffer notsent-lowat keepalive unix-mode buffers
                       buffer-size log stats-json help""".split():
            self.assertIn(f"--{name}", result.stdout)

    # The version names weir's, the engines and liburing's.
    def test_version(self):
        result = run("--version")
        self.assertEqual(result.returncode, 0)
        self.assertRegex(result.stdout, r"^weir \d+\.\d+\.\d+ .*uring.*epoll.*liburing \d+\.\d+")
        result = run("--version", "echo")
        self.assertEqual(result.returncode, 2)
        self.assertIn("echo: unexpected argument", result.stderr)

    # Without a command, or with an unknown one, the usage is told.
    def test_unknown_command(self):
        result = run("nonsense")
        self.assertEqual(result.returncode, 2)
        self.assertIn("nonsense: unknown command", result.stderr)
        self.assertEqual(run().returncode, 2)

    # Doctor's JSON says for each feature and limit whether it is there and how to mend it.
    def test_doctor_json(self):
        result = run("doctor", "--json")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        doctor = json.loads(result.stdout)
        self.assertIn("available", doctor["uring"])
        self.assertTrue(doctor["features"])
        for feature in doctor["features"]:
            self.assertTrue(feature["name"] and feature["kernel"] and feature["purpose"], feature)
            self.assertTrue(feature["present"] or feature["detail"], feature)
        limits = {limit["name"]: limit for limit in doctor["limits"]}
        self.assertEqual(set(limits), {"files", "memlock", "somaxconn"})
        for limit in limits.values():
            self.assertTrue(limit["enough"] or limit["mend"], limit)

    # Doctor's text names the same features, and a bad option is refused.
    def test_doctor_text(self):
        text = run("doctor").stdout
        for feature in json.loads(run("doctor", "--json").stdout)["features"]:
            self.assertIn(feature["name"], text)
        self.assertEqual(run("doctor", "--xml").returncode, 2)

    # Each program's manual page and its help know the same options.
    def test_manual_pages_name_every_option(self):
        bench = os.path.join(TOP, "bench/suite/weir-bench")
        load = os.environ["WEIR_LOAD"]
        for page, helps in (
            ("weir.1", [[WEIR, *words, "--help"] for words in (
                (), ("echo",), ("http",), ("doctor",))]),
            ("weir-load.1", [[load, "--help"]]),
            ("weir-bench.1", [[bench, *words, "--help"] for words in (
                (), ("quick",), ("run",), ("doctor",), ("list",), ("report",), ("compare",),
                ("sweep",), ("ladder",), ("capacity",), ("replay",), ("explain",),
                ("calibrate",))]),
        ):
            with self.subTest(page=page):
                said = "".join(subprocess.run(command, capture_output=True, text=True, check=True,
                                              timeout=LIMIT).stdout for command in helps)
                with open(os.path.join(TOP, "docs/man", page), encoding="utf-8") as file:
                    text = re.sub(r"\\f[BIR]", "", file.read()).replace("\\-", "-")
                self.assertEqual(options_in(text), options_in(said))

    # A program that is started without standard descriptors gets none of them for a socket or a
    # ring: what it says goes nowhere, and it serves and ends in order.
    def test_closed_standard_descriptors(self):
        def close_all():
            for fd in range(3):
                os.close(fd)

        with tempfile.TemporaryDirectory(prefix="weir-") as folder:
            log = os.path.join(folder, "log")
            path = os.path.join(folder, "socket")
            os.mkfifo(log)
            fifo = os.open(log, os.O_RDWR)  # opening one end alone would wait for the other
            self.addCleanup(os.close, fifo)
            lines = Lines(fifo)
            process = subprocess.Popen([WEIR, "echo", "--listen", f"unix:{path}", "--log", log],
                                       preexec_fn=close_all)
            try:
                lines.until("plan: ")
                for fd in range(3):
                    self.assertEqual(os.readlink(f"/proc/{process.pid}/fd/{fd}"), "/dev/null")
                process.send_signal(signal.SIGTERM)
                lines.until("draining")
                self.assertEqual(process.wait(LIMIT), 0)
            finally:
                process.kill()
                process.wait()

    # Output that cannot be written is a failure, a server's first line included.
    def test_full_standard_output(self):
        for command in (("doctor",), ("echo", "--listen", "127.0.0.1:0")):
            with open("/dev/full", "w", encoding="utf-8") as full:
                status = subprocess.run([WEIR, *command], stdout=full, stderr=subprocess.PIPE,
                                        timeout=LIMIT, check=False).returncode
            self.assertEqual(status, 1, command)


if __name__ == "__main__":
    sys.exit(main())
