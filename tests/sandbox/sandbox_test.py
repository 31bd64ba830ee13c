"""Tries to break out of the sandbox, and holds docs/security.md to the tables in the code.

sandbox-effects is a server with the same sandbox as `weir echo`, whose protocol tries an effect and
tells the result: by system call, through the ring, and in a job.
"""

import errno
import json
import os
import resource
import signal
import socket
import sys
import tempfile
import unittest
from unittest import mock

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.join(HERE, "..", "e2e"))

import programs
from programs import Server, connect, forbid_call, receive, receive_end, run

EFFECTS = os.environ["EFFECTS"]
SANITIZED = os.environ["SANITIZED"]
TOP = os.path.join(HERE, "..", "..")

# Numbers of system calls, and one of prctl's options.
LANDLOCK_CREATE_RULESET, SECCOMP, PRCTL, PR_SET_SECCOMP = 444, 317, 157, 22

# What a filter of system calls must prevent, and what Landlock prevents without one.
BY_LANDLOCK = ("open", "create", "execute", "kill", "trace")
BY_FILTER = ("socket", "fork", "ring", "register", "raise", "code", "uname")
BY_RING = ("ring-open", "ring-socket", "ring-connect")
LOOP_THREADS = {"uring": 2, "epoll": 4, "blocking": 8}
REFUSED = (-errno.EPERM, -errno.EACCES)


class SandboxTestCase(unittest.TestCase):
    """Servers and clients that end with their test."""

    def start(self, engine, *options, program=None, **keywords):
        with mock.patch.object(programs, "WEIR", program or programs.WEIR):
            server = Server(engine, *options, **keywords)
        self.addCleanup(server.kill)
        return server

    def client(self, server, at=0):
        client = connect(server.addresses[at])
        self.addCleanup(client.close)
        return client

    def needs_filters(self):
        if SANITIZED:
            self.skipTest(f"built with {SANITIZED}: takes no filter of system calls")


class Trial:
    """One server that tries effects. Its first connection is the victim."""

    def __init__(self, test, engine, mode):
        self.server = test.start(engine, "--sandbox", mode, program=EFFECTS)
        self.victim = test.client(self.server)
        # The answer proves that this connection was the first that the server opened.
        self.ask(self.victim, "uname" if mode == "on" else "job:uname")
        self.client = test.client(self.server)

    def ask(self, client, effect, argument=0):
        """The effect's result, or None if the server ended."""
        client.sendall(f"{effect} {argument}\n".encode())
        answer = b""
        try:
            while not answer.endswith(b"\n"):
                more = client.recv(100)
                if not more:
                    return None
                answer += more
        except ConnectionResetError:
            return None
        return int(answer.split()[1])

    def attempt(self, effect):
        argument = os.getpid() if effect.endswith(("kill", "trace")) else 0
        if effect.endswith("connect"):
            with socket.create_server(("127.0.0.1", 0)) as listener:
                return self.ask(self.client, effect, listener.getsockname()[1])
        return self.ask(self.client, effect, argument)


class EffectsTest(SandboxTestCase):
    """Nothing of what an attacker wants can be done."""

    def assert_refused(self, trial, effects):
        for effect in effects:
            with self.subTest(effect=effect):
                self.assertIn(trial.attempt(effect), REFUSED)

    # In mode on, every forbidden effect fails with EPERM or EACCES on a loop's thread, by whatever
    # engine, and the server goes on.
    def test_forbidden_effects_fail_by_system_call(self):
        for engine in ("uring", "epoll", "blocking"):
            with self.subTest(engine=engine):
                trial = Trial(self, engine, "on")
                self.assert_refused(trial, BY_LANDLOCK)
                # A socket of the ring has no descriptor, and the blocking engine's own thread
                # closes one that is dissolved.
                if engine == "epoll":
                    self.assert_refused(trial, ("connect",))
                if not SANITIZED:
                    # The blocking engine's jobs run on its loops: what they need is left there.
                    self.assert_refused(trial, BY_FILTER[:-1])
                    if engine != "blocking":
                        self.assert_refused(trial, BY_FILTER[-1:])

    # In a helper, only what the server stated for its jobs is left beside.
    def test_forbidden_effects_fail_in_jobs(self):
        for engine in ("uring", "epoll"):
            with self.subTest(engine=engine):
                trial = Trial(self, engine, "on")
                self.assertEqual(trial.attempt("job:uname"), 0)
                self.assert_refused(trial, [f"job:{name}" for name in BY_LANDLOCK])
                if not SANITIZED:
                    self.assert_refused(trial, [f"job:{name}" for name in BY_FILTER[:-1]])

    # Every system call that the table does not list fails with EPERM, whatever its number, but for
    # the one of the jobs, which run on the loops of the blocking engine.
    def test_no_other_system_call_is_left(self):
        self.needs_filters()
        for engine, threads in LOOP_THREADS.items():
            with self.subTest(engine=engine):
                trial = Trial(self, engine, "on")
                left = trial.ask(trial.client, "others", threads)
                self.assertEqual(left, 1 if engine == "blocking" else 0)

    # The ring opens nothing, makes no socket, and connects nowhere, although CONNECT is left to it:
    # a connection that was dissolved stays dissolved.
    def test_forbidden_effects_fail_through_the_ring(self):
        trial = Trial(self, "uring", "on")
        for effect in BY_RING:
            with self.subTest(effect=effect):
                self.assertEqual(trial.attempt(effect), -errno.EACCES)

    # Every operation that the table does not list is answered with EACCES.
    def test_no_other_ring_operation_is_left(self):
        self.assertEqual(Trial(self, "uring", "on").attempt("ring-others"), 0)

    # Without the sandbox these effects happen: the tests above would notice if they did.
    def test_effects_happen_without_a_sandbox(self):
        trial = Trial(self, "uring", "off")
        for effect in ("create", "socket", "fork", "ring", "kill", "raise", "code", "uname",
                       "ring-socket", "ring-connect"):
            with self.subTest(effect=effect):
                self.assertGreaterEqual(trial.attempt(effect), 0)
        self.assertGreater(trial.attempt("ring-others"), 30)

    # In strict mode a forbidden system call is the process's last; the ring's refusals, which the
    # kernel answers, stay errors.
    def test_strict_ends_the_process_at_a_forbidden_call(self):
        self.needs_filters()
        effects = [*BY_LANDLOCK, *BY_FILTER, "job:socket", "job:open", "abort"]
        for quiet in ("register", "code"):
            effects.remove(quiet)  # the ends of rings and malloc try these, and live with an error
        for engine in ("uring", "epoll", "blocking"):
            for effect in effects if engine != "blocking" else ("socket", "execute", "fork"):
                with self.subTest(engine=engine, effect=effect):
                    trial = Trial(self, engine, "strict")
                    self.assertIsNone(trial.attempt(effect))
                    self.assertEqual(trial.server.wait(), -signal.SIGSYS)
        trial = Trial(self, "uring", "strict")
        for effect in ("register", "code"):
            self.assertEqual(trial.attempt(effect), -errno.EPERM)
        for effect in BY_RING:
            self.assertEqual(trial.attempt(effect), -errno.EACCES)
        trial.server.signal(signal.SIGTERM)
        trial.server.signal(signal.SIGTERM)
        self.assertEqual(trial.server.wait(), 0)

    # An abort ends the process as it should, and is not mistaken for an attack.
    def test_abort_still_aborts(self):
        for engine in ("uring", "epoll", "blocking"):
            trial = Trial(self, engine, "on")
            self.assertIsNone(trial.attempt("abort"))
            self.assertEqual(trial.server.wait(), -signal.SIGABRT)


class ServingTest(SandboxTestCase):
    """What a server does for its users, it does in the sandbox."""

    modes = ("on",) if SANITIZED else ("on", "strict")

    def serve(self, engine, mode):
        """Traffic, statistics, a new log, a stop and a continue, a drain."""
        folder = self.enter_folder()
        log, stats = os.path.join(folder, "log"), os.path.join(folder, "stats.json")
        server = self.start(engine, "--sandbox", mode, "--log", log, "--stats-json", stats,
                            listen=("127.0.0.1:0", f"unix:{folder}/socket"))
        for at in range(2):
            client = self.client(server, at)
            for size in (1, 70000, 300000):
                client.sendall(b"x" * size)
                self.assertEqual(receive(client, size), b"x" * size)
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(receive_end(client), b"")
        self.check_threads(server)
        os.rename(log, log + ".1")
        server.signal(signal.SIGHUP)
        server.signal(signal.SIGSTOP)
        server.signal(signal.SIGCONT)
        server.signal(signal.SIGUSR1)
        server.signal(signal.SIGTERM)
        self.assertEqual(server.wait(), 0)
        with open(log, encoding="utf-8") as file:
            self.assertIn("log reopened", file.read())
        with open(log + ".1", encoding="utf-8") as file:
            self.assertRegex(file.read(), rf"sandbox: {mode}: .*no_new_privs, landlock \d+")
        with open(stats, encoding="utf-8") as file:
            sandbox = json.load(file)["sandbox"]
        self.assertEqual(sandbox["mode"], mode)
        self.assertEqual(sandbox["seccomp"], not SANITIZED)
        self.assertEqual(sandbox["ring"], engine == "uring")
        self.assertTrue(sandbox["no_new_privs"])
        self.assertFalse(os.path.exists(f"{folder}/socket"))

    def enter_folder(self):
        folder = tempfile.TemporaryDirectory(prefix="weir-")
        self.addCleanup(folder.cleanup)
        return folder.name

    def check_threads(self, server):
        """No thread is without no_new_privs and a filter."""
        tasks = f"/proc/{server.process.pid}/task"
        for name in os.listdir(tasks):
            try:
                with open(f"{tasks}/{name}/status", encoding="utf-8") as file:
                    status = dict(line.rstrip("\n").split(":", 1) for line in file)
            except (FileNotFoundError, ProcessLookupError):
                continue  # the thread of a connection that has just ended
            if status["Name"].startswith("iou-wrk"):
                continue  # the kernel's own
            self.assertEqual(status["NoNewPrivs"].strip(), "1")
            self.assertEqual(status["Seccomp"].strip(), "0" if SANITIZED else "2")

    # Bytes, statistics, a renamed log, a stop and a drain, in each mode, with each engine.
    def test_everything_works_inside(self):
        for engine in ("uring", "epoll", "blocking"):
            for mode in self.modes:
                with self.subTest(engine=engine, mode=mode):
                    self.serve(engine, mode)

    # The user's numbers hold for the whole process, without the groups and the capabilities of who
    # started it, and the root folder is the one asked for.
    def test_user_and_chroot(self):
        if os.geteuid():
            self.skipTest("needs root")
        folder = self.enter_folder()
        os.chmod(folder, 0o755)
        # A process that changed its user cannot be traced, and so not be searched for leaks; and
        # a jail has no /proc for a sanitizer to look at.
        environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
        mode = "off" if SANITIZED else "strict"
        server = self.start("uring", "--sandbox", mode, "--user", "nobody", "--chroot", folder,
                            env=environment)
        self.assertIn("user nobody", server.log.until("sandbox: "))
        with open(f"/proc/{server.process.pid}/status", encoding="utf-8") as file:
            status = dict(line.rstrip("\n").split(":", 1) for line in file)
        for line in ("Uid", "Gid"):
            self.assertEqual(set(status[line].split()), {"65534"})
        self.assertEqual(status["Groups"].split(), ["65534"])
        self.assertEqual(int(status["CapEff"], 16), 0)
        self.assertEqual(int(status["CapPrm"], 16), 0)
        self.assertEqual(os.readlink(f"/proc/{server.process.pid}/root"), folder)
        client = self.client(server)
        client.sendall(b"Hello")
        self.assertEqual(receive(client, 5), b"Hello")
        server.signal(signal.SIGTERM)
        client.close()
        self.assertEqual(server.wait(), 0)

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
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        refused = run("echo", "--engine", "uring", "--listen", "127.0.0.1:0", preexec_fn=lower)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("ulimit -l", refused.stderr)


if __name__ == "__main__":
    sys.exit(programs.main())
