"""Tries to break out of the sandbox.

sandbox-effects is the `weir` command, with protocols that try an effect when they are told to: by
system call, through the ring, and in a job.
"""

import errno
import os
import resource
import select
import signal
import socket
import sys
import tempfile

import sandbox_programs
from sandbox_programs import ENGINES, SANITIZED, SandboxTestCase, Trial, programs
from programs import LIMIT

# What no server may do, by what prevents it; Landlock does without a filter of system calls.
FILES_BY_LANDLOCK = ("open", "open2", "write2", "truncate2", "create2", "mkdir", "unlink", "rename",
                     "link")
FILES_BY_FILTER = ("mode", "times")
BY_LANDLOCK = (*FILES_BY_LANDLOCK, "connect-new", "bind", "execute", "kill", "trace")
BY_FILTER = (*FILES_BY_FILTER, "socket-udp", "socket-unix", "socket-other", "fork", "raise",
             "abort-another", "ring", "register", "code")
BY_RING = ("ring-open", "ring-open2", "ring-write2", "ring-create2", "ring-socket", "ring-connect",
           "ring-connect-new")
# What connects without CONNECT or connect(2): TCP Fast Open, by system call and through the ring.
FAST_OPEN = ("fast-open", "fast-open-new")
FAST_OPEN_BY_RING = ("ring-fast-open", "ring-fast-open-listener", "ring-fast-open-new")
# In the root of a server that only reads.
CHANGES = (*FILES_BY_LANDLOCK[2:], *(() if SANITIZED else FILES_BY_FILTER))
# Kinds of threads, as in sandbox_calls.h; with the blocking engine, jobs run on loops.
LOOP_THREADS = {"uring": 2, "epoll": 4, "blocking": 8 | 16}
JOB_THREADS = {"uring": 16, "epoll": 16 | 32}
# EXDEV: Landlock's answer to a rename into another folder.
REFUSED = (-errno.EPERM, -errno.EACCES, -errno.EXDEV)


class EffectsTest(SandboxTestCase):
    """Nothing of what an attacker wants can be done."""

    def assert_refused(self, trial, effects, inside=False):
        for effect in effects:
            with self.subTest(trial=trial.name, effect=effect, inside=inside):
                self.assertIn(trial.attempt(effect, inside), REFUSED)

    def assert_done(self, trial, effects, inside=True):
        for effect in effects:
            with self.subTest(trial=trial.name, effect=effect, inside=inside):
                self.assertGreaterEqual(trial.attempt(effect, inside), 0)

    def each(self, names=("echo", "http", "ftp", "ftp read-only"), engines=ENGINES, mode="on"):
        """A trial for each of the servers and engines."""
        for name in names:
            for engine in engines:
                yield name, engine, Trial(self, name, engine, mode)

    # In mode on, every forbidden effect fails with an error on a loop's thread, whatever the server
    # and the engine, and the server goes on.
    def test_forbidden_effects_fail_by_system_call(self):
        for name, engine, trial in self.each():
            self.assert_refused(trial, BY_LANDLOCK)
            # A socket of the ring has no descriptor, and the blocking engine's own thread closes
            # one that is dissolved.
            if engine == "epoll":
                self.assert_refused(trial, ("connect",))
            if SANITIZED:
                continue
            self.assert_refused(trial, BY_FILTER)
            if not name.startswith("ftp"):
                self.assert_refused(trial, ("socket",))
            if engine != "blocking":
                self.assert_refused(trial, ("list",))

    # The same in a helper, where a server's jobs may do more.
    def test_forbidden_effects_fail_in_jobs(self):
        for _, _, trial in self.each(("http", "ftp", "ftp read-only"), ("uring", "epoll")):
            self.assertEqual(trial.attempt("job:list"), 0)
            self.assert_refused(trial, [f"job:{name}" for name in BY_LANDLOCK])
            if not SANITIZED:
                self.assert_refused(trial, [f"job:{name}" for name in (*BY_FILTER, "socket")])

    # A server that only reads opens what it serves and changes nothing of it; one that writes
    # changes it in jobs, by its name, but sets modes and times by descriptor only, and makes no
    # links.
    def test_served_folders_are_left_as_far_as_they_are_served(self):
        for _, engine, trial in self.each(("http", "ftp read-only")):
            self.assert_done(trial, ("open2",))
            self.assert_refused(trial, CHANGES, inside=True)
            if engine != "blocking":
                self.assert_done(trial, ("job:open2",))
                self.assert_refused(trial, [f"job:{name}" for name in CHANGES], inside=True)
        for _, engine, trial in self.each(("ftp",)):
            job = "" if engine == "blocking" else "job:"
            self.assert_done(trial, [job + name for name in ("open2", "write2", "create2", "mkdir",
                                                             "unlink")])
            self.assert_refused(trial, (job + "link", job + "rename"), inside=True)
            if not SANITIZED:
                self.assert_refused(trial, (job + "mode", job + "times"), inside=True)

    # Every system call that the tables do not list fails with EPERM, whatever its number, in loops
    # and helpers of every server.
    def test_no_other_system_call_is_left(self):
        self.needs_filters()
        for name, engine, trial in self.each():
            left = trial.ask(trial.attacker, "others", LOOP_THREADS[engine])
            self.assertEqual(left, 0, trial.name)
            if name != "echo" and engine != "blocking":
                left = trial.ask(trial.attacker, "job:others", JOB_THREADS[engine])
                self.assertEqual(left, 0, trial.name)

    # The ring opens nothing outside of the root, makes no socket, and connects nowhere, although
    # CONNECT is left to it: a connection that was dissolved stays dissolved. What FTP asks the ring
    # for, it gets in its root, unless it only reads.
    def test_forbidden_effects_fail_through_the_ring(self):
        for name, _, trial in self.each(engines=("uring",)):
            self.assert_refused(trial, BY_RING)
            if name == "ftp":
                self.assert_done(trial, ("ring-open2", "ring-write2", "ring-create2"))
            if name == "ftp read-only":
                self.assert_done(trial, ("ring-open2",))
                self.assert_refused(trial, ("ring-write2", "ring-create2"), inside=True)
            if name in ("echo", "http"):
                self.assert_refused(trial, BY_RING[:4], inside=True)

    # Every operation that the table does not list is answered with EACCES; so is one that it lists
    # with a flag that it does not (links, drains, workers); and nobody's credentials can be taken.
    def test_no_other_ring_operation_is_left(self):
        for _, _, trial in self.each(engines=("uring",)):
            for effect in ("ring-others", "ring-personality", "ring-flags"):
                self.assertEqual(trial.attempt(effect), 0, (trial.name, effect))

    # A link in the root leads nowhere, and /proc is no way around: not the process's memory, which
    # could be made code there, not its root.
    def test_links_lead_nowhere(self):
        for name, engine, trial in self.each(("http", "ftp", "ftp read-only")):
            link, outside = f"{trial.root}/link", f"{trial.folder}/outside"
            os.symlink(sandbox_programs.write(outside), link)
            paths = (link, "/proc/self/mem", "/proc/thread-self/mem", "/proc/self/maps",
                     "/proc/self/root/etc/passwd", "/proc/self/exe",
                     f"/proc/{trial.other.pid}/environ")
            jobs = () if engine == "blocking" else ("job:open2", "job:write2")
            rings = ("ring-open2", "ring-write2") if engine == "uring" else ()
            for effect in ("open2", "write2", *jobs, *rings):
                for path in paths:
                    if SANITIZED and path.startswith("/proc/"):
                        continue  # its own reports need it
                    with self.subTest(trial=trial.name, effect=effect, path=path):
                        # ETXTBSY: the program itself, which nobody writes while it runs.
                        self.assertIn(trial.ask(trial.attacker, effect, path),
                                      (*REFUSED, -errno.ETXTBSY))

    # FTP binds its passive ports and no other; in active mode it connects, which is left to both
    # ways then, because the client's port is known to nobody before.
    def test_ports_of_ftp(self):
        for _, _, trial in self.each(("ftp",)):
            self.assert_done(trial, ("bind",))
        for _, engine, trial in self.each(("ftp active",)):
            effects = {"uring": "ring-connect-new", "epoll": "connect-new"}
            self.assert_done(trial, (effects.get(engine, "connect-new"),))

    def fast_opens(self, name, engine, effect, mode="on", wait=0.02):
        """Whether the effect connects to a port. It may cost the server its listener."""
        trial = Trial(self, name, engine, mode)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.assertIsNotNone(trial.ask(trial.attacker, effect, listener.getsockname()[1]))
            # Through loopback the connection is there when the call returns, or never.
            return bool(select.select([listener], [], [], wait)[0])

    # A send with an address connects nothing: not a new socket, not a listener whose end was shut,
    # not a connection that was dissolved. One way is left in mode on, that of FTP's new sockets
    # through the ring: the server says so at its start, and strict does not start.
    def test_nothing_connects_by_fast_open(self):
        self.set_fast_open(1)
        for name in ("echo", "http", "ftp"):
            for engine in ENGINES:
                effects = () if SANITIZED else FAST_OPEN
                effects += FAST_OPEN_BY_RING[:2] if engine == "uring" else ()
                for effect in effects:
                    with self.subTest(server=name, engine=engine, effect=effect):
                        self.assertFalse(self.fast_opens(name, engine, effect))
        if not SANITIZED:
            for name in ("echo", "http"):
                self.assertFalse(self.fast_opens(name, "uring", "ring-fast-open-new"), name)

    # Where TCP Fast Open is closed for clients, which strict asks of FTP, its new sockets connect
    # nothing through the ring either; where it is not, they do in mode on.
    def test_closed_fast_open_closes_the_last_way(self):
        self.set_fast_open(1)
        self.assertTrue(self.fast_opens("ftp", "uring", "ring-fast-open-new", wait=LIMIT))
        for value in (0, 2):
            self.set_fast_open(value)
            for mode in ("on",) if SANITIZED else ("on", "strict"):
                with self.subTest(value=value, mode=mode):
                    self.assertFalse(self.fast_opens("ftp", "uring", "ring-fast-open-new", mode))

    # Without the sandbox it connects, where the kernel lets clients do it: this proves the tests
    # above.
    def test_fast_open_connects_without_a_sandbox(self):
        self.set_fast_open(1)
        for effect in (*FAST_OPEN, *FAST_OPEN_BY_RING):
            self.assertTrue(self.fast_opens("http", "uring", effect, "off", LIMIT), effect)
        for effect in FAST_OPEN:
            self.assertTrue(self.fast_opens("http", "epoll", effect, "off", LIMIT), effect)

    # Numbers of the processor's other interfaces are no way around the filter.
    def test_other_numbers_are_refused(self):
        self.needs_filters()
        for engine in ENGINES:
            trial = Trial(self, "echo", engine, "on")
            # A kernel without the 32-bit gate ends whoever uses it.
            self.assertIn(trial.attempt("other-numbers"), (*REFUSED, None), engine)
        done = Trial(self, "echo", "epoll", "off").attempt("other-numbers")
        if done is None:
            self.skipTest("this machine has no 32-bit gate: who uses it ends, filter or none")
        self.assertGreaterEqual(done, 0)

    # Without the sandbox these effects happen: the tests above would notice if they did.
    def test_effects_happen_without_a_sandbox(self):
        trial = Trial(self, "ftp", "uring", "off")
        self.assert_done(trial, (*FILES_BY_LANDLOCK, *FILES_BY_FILTER), inside=False)
        self.assert_done(trial, ("socket", "socket-udp", "socket-unix", "socket-other",
                                 "connect-new", "bind", "fork", "kill", "raise", "ring", "code",
                                 "uname"), inside=False)
        self.assert_done(trial, ("job:open", "job:socket", "job:fork", "job:kill"), inside=False)
        self.assert_done(trial, BY_RING, inside=False)
        self.assertGreater(trial.attempt("ring-others"), 30)
        for path in ("/proc/self/mem", "/proc/self/root/etc/passwd"):
            self.assertGreaterEqual(trial.ask(trial.attacker, "open2", path), 0, path)
        self.assertGreater(trial.attempt("ring-flags"), 1)


class StrictTest(SandboxTestCase):
    """What is forbidden ends the process, and what ends the process is told apart."""

    # In strict mode a forbidden system call is the process's last.
    def test_a_forbidden_call_is_the_last(self):
        self.needs_filters()
        self.set_fast_open(0)
        every = ("open", "execute", "fork", "ring", "kill", "trace", "raise", "abort-another",
                 "other-numbers", "socket-udp", "connect-new", "unlink", "uname")
        for name, effects in (("echo", every), ("http", every), ("ftp", every[:-3] + ("uname",))):
            jobs = () if name == "echo" else ("job:execute", "job:socket", "job:uname")
            for engine in ("uring", "epoll"):
                for effect in effects + jobs:
                    self.assert_last(name, engine, effect)
            for effect in ("execute", "fork", "socket-udp"):
                self.assert_last(name, "blocking", effect)

    def assert_last(self, name, engine, effect):
        with self.subTest(server=name, engine=engine, effect=effect):
            trial = Trial(self, name, engine, "strict")
            self.assertIsNone(trial.attempt(effect))
            self.assertEqual(trial.server.wait(), -signal.SIGSYS)

    # The ring's and Landlock's refusals stay errors, and so do the calls that glibc tries and does
    # without; the server ends in order after them.
    def test_refusals_are_no_end(self):
        self.needs_filters()
        self.set_fast_open(0)
        for name in ("echo", "http", "ftp"):
            with self.subTest(server=name):
                trial = Trial(self, name, "uring", "strict")
                effects = ["register", "code"]
                if name == "echo":
                    effects += BY_RING[:-1]
                else:
                    effects += ["open2", "write2", "create2", "job:open2", *BY_RING[:-1]]
                for effect in effects:
                    self.assertIn(trial.attempt(effect), REFUSED, effect)
                trial.server.signal(signal.SIGTERM)
                trial.server.signal(signal.SIGTERM)
                self.assertEqual(trial.server.wait(), 0)

    # An abort ends the process by SIGABRT in every mode, on loops and in jobs, and is not mistaken
    # for an attack.
    def test_abort_still_aborts(self):
        self.set_fast_open(0)
        for name in ("echo", "http", "ftp"):
            for engine in ENGINES:
                for mode in ("on",) if SANITIZED else ("on", "strict"):
                    job = () if name == "echo" or engine == "blocking" else ("job:abort",)
                    for effect in ("abort", *job):
                        self.assert_aborts(name, engine, mode, effect)
        self.assert_aborts("http", "uring", "on" if SANITIZED else "strict", "assert")

    def assert_aborts(self, name, engine, mode, effect):
        with self.subTest(server=name, engine=engine, mode=mode, effect=effect):
            trial = Trial(self, name, engine, mode)
            self.assertIsNone(trial.attempt(effect))
            self.assertEqual(trial.server.wait(), -signal.SIGABRT)

    # Whoever raised the limit of core files gets one, in strict mode as without the sandbox.
    def test_aborts_dump_core(self):
        self.needs_filters()
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        if not hard:
            self.skipTest("the hard limit of core files is 0")
        ends = {}
        for mode in ("off", "strict"):
            with tempfile.TemporaryDirectory(prefix="weir-") as folder:
                trial = Trial(self, "http", "uring", mode, cwd=folder,
                              preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE,
                                                                    (hard, hard)))
                self.assertIsNone(trial.attempt("abort"))
                ends[mode] = os.waitid(os.P_PID, trial.server.process.pid,
                                       os.WEXITED | os.WNOWAIT).si_code
                self.assertEqual(trial.server.wait(), -signal.SIGABRT)
        if ends["off"] != os.CLD_DUMPED:
            self.skipTest("no core file without the sandbox either")
        self.assertEqual(ends["strict"], os.CLD_DUMPED)


if __name__ == "__main__":
    sys.exit(programs.main())
