"""What walks through a server's calls share: the page that makes one fail, and the walk itself.

weir-faults is `weir`, but the call, allocation or ring operation that the page asks for fails once.
A walk has one server. It makes a client's session fail at its first call with each error that this
may have, then at its second, until a session has no call of that number any more. After each the
server still serves, and holds nothing of the session.
"""

import collections
import contextlib
import ctypes
import mmap
import os
import socket
import signal
import sys
import tempfile
import time
import unittest
from unittest import mock

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))

import programs

WEIR_FAULTS = os.environ["WEIR_FAULTS"]
# Longer than any time-out of the servers here.
PATIENCE = 10
# Every call with every error, instead of each call with one and each kind of call with every one.
THOROUGH = os.environ.get("WEIR_FAULTS_THOROUGH")


class Kind(ctypes.Structure):
    """strike.h's struct strike_kind."""

    _fields_ = [("name", ctypes.c_char * 28), ("count", ctypes.c_uint32)]


class Page(ctypes.Structure):
    """strike.h's struct strike_page."""

    _fields_ = [("armed", ctypes.c_uint32), ("uncached", ctypes.c_uint32),
                ("number", ctypes.c_uint32),
                ("choice", ctypes.c_uint32), ("choices", ctypes.c_uint32),
                ("error", ctypes.c_int32), ("name", ctypes.c_char * 28), ("kinds", Kind * 96)]


class Strike:
    """The page of one server."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "strike")
        with open(self.path, "w+b") as file:
            file.truncate(ctypes.sizeof(Page))
            self.page = Page.from_buffer(mmap.mmap(file.fileno(), ctypes.sizeof(Page)))

    def arm(self, name="", number=0, choice=0):
        """From now on calls are counted, and the one of this kind and number fails."""
        page = self.page
        page.armed = page.choices = 0
        page.name, page.number, page.choice = name.encode(), number, choice
        for kind in self.page.kinds:
            kind.count = 0
        page.armed = 1

    def disarm(self):
        """Whether it has struck."""
        self.page.armed = 0
        return self.page.choices > 0

    def counts(self):
        """The number of calls of each kind that was ever met."""
        return {kind.name.decode(): kind.count for kind in self.page.kinds if kind.name}

    @property
    def name(self):
        return self.page.name.decode() if self.page.choices else ""

    def __str__(self):
        return (f"{self.page.name.decode()}, call {self.page.number}: "
                f"{os.strerror(self.page.error)}")


class Violation(AssertionError):
    """What no failing call may cause."""


def within(condition, patience=PATIENCE):
    """Looks until it holds; looking takes system calls, so it does not spin for long."""
    deadline = time.monotonic() + patience
    while not (held := condition()) and time.monotonic() < deadline:
        os.sched_yield()
    return held


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


class WalkTest(unittest.TestCase):
    """A server per test; `client` is told its address, and what a session may do is its own."""

    def start(self, engine, name, *options):
        self.folder = tempfile.TemporaryDirectory(prefix="weir-", dir="/dev/shm")
        self.addCleanup(self.folder.cleanup)
        self.strike = Strike(self.folder.name)
        self.stats = os.path.join(self.folder.name, "stats")
        # A ring that is restricted would refuse the operation that stands for a failed one. A loop
        # that looks before it sleeps makes as many calls as time allows, and never the same number.
        with mock.patch.object(programs, "WEIR", WEIR_FAULTS):
            server = programs.Server(
                engine, "--sandbox", "off", "--stats-json", self.stats, "--log", "/dev/null",
                "--adaptive-poll-us", "0", *options, name=name,
                env={**os.environ, "WEIR_STRIKE": self.strike.path})
        self.addCleanup(server.kill)
        return server

    def neighbour(self, engine, connect):
        """A function that gives the neighbour's connection, as a context.

        It is one connection for the whole walk, except with the blocking engine, whose threads
        make calls even for connections that are quiet: one of those could be the failing one.
        """
        if engine == "blocking":
            return lambda: contextlib.closing(connect())
        client = connect()
        self.addCleanup(client.close)
        return lambda: contextlib.nullcontext(client)

    def step(self, session, neighbour, name, number, choice):
        """One session with a failing call; whether there was such a call."""
        self.strike.arm(name, number, choice)
        try:
            outcome = session()
            struck = self.strike.disarm()
            if not struck:
                self.assertEqual(outcome, "served")
                return False
            neighbour()
        except TimeoutError as error:
            raise Violation(f"{self.strike}: somebody waits in vain") from error
        except Exception as error:
            raise Violation(f"{self.strike}: {error}") from error
        self.outcomes[outcome] += 1
        if not within(lambda: descriptors(self.pid) <= self.held):
            kept = [os.readlink(f"/proc/{self.pid}/fd/{fd}")
                    for fd in os.listdir(f"/proc/{self.pid}/fd")]
            raise Violation(f"{self.strike}: more than {self.held} descriptors: {kept}")
        return True

    def warm_up(self, server, session, neighbour):
        """How many calls of each kind an undisturbed session makes, at most."""
        most = {}
        for _ in range(3):
            self.strike.arm()
            self.assertEqual(session(), "served")
            self.strike.disarm()
            for name, count in self.strike.counts().items():
                most[name] = max(count, most.get(name, 0))
            neighbour()  # whatever stays open is open now
        self.pid = server.process.pid
        self.held = descriptors(self.pid)
        return most

    def walk_kind(self, session, neighbour, name, count):
        """Each call of a kind fails once, with one error in turn; the first has those left over."""
        for number in range(1, count + 1):
            struck = self.step(session, neighbour, name, number, number - 1)
            if struck and THOROUGH:
                for choice in range(self.strike.page.choices):
                    self.step(session, neighbour, name, number, choice)
            self.calls += struck
        for choice in range(count, self.strike.page.choices):
            self.step(session, neighbour, name, 1, choice)

    def walk(self, server, session, neighbour, kinds=None):
        """Plays session() with each failing call; neighbour() must succeed after each.

        session() returns "served", "refused" or "lost", and raises what must not be. Each call
        fails once at least, and each kind of call with each error that it may have. `kinds` names
        those that are walked, and how many calls of each; None: all.
        """
        self.outcomes, self.calls = collections.Counter(), 0
        most = self.warm_up(server, session, neighbour)
        self.met = set()
        # What only a failure brings about, such as tidying up, is not walked itself.
        for name, count in sorted(most.items()):
            if kinds is not None:
                count = min(count, kinds.get(name, 0))
            if not count:
                continue
            self.walk_kind(session, neighbour, name, count)
            self.met.add(name)
        print(f"# {self.calls} calls, {dict(self.outcomes)}: {', '.join(sorted(self.met))}")
        return self.calls

    def finish(self, server):
        """Ends the server in order: it says nothing, and its gauges are zero."""
        server.signal(signal.SIGTERM)
        self.assertEqual(server.wait(), 0)
        self.assertEqual(server.process.stderr.read(), b"")
        with open(self.stats, encoding="utf-8") as file:
            text = file.read()
        for gauge in ("streams_open", "buffers_leased", "queued_bytes"):
            self.assertIn(f'"{gauge}":0', text.replace(" ", ""))
