"""The hostile scenes, small, with each engine. What must hold in each is said where it is played.

No need may be missed because the machine is slow, or busy with other tests. Under a sanitizer only
what is served and what survives counts, not how fast and in how much memory.
"""

import os
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "e2e")]

import machine  # pylint: disable=wrong-import-position
import scenes_end  # pylint: disable=wrong-import-position
import scenes_limits  # pylint: disable=wrong-import-position
import scenes_load  # pylint: disable=wrong-import-position
import scenes_memory  # pylint: disable=wrong-import-position
import scenes_soak  # pylint: disable=wrong-import-position
from stage import CI, SANITIZED, Stage  # pylint: disable=wrong-import-position

SIZE = SANITIZED if os.environ.get("SANITIZED") else CI


class Scenes:
    """Each scene is a test; the engine comes with the class."""

    engine = ""

    def play(self, scene):
        with Stage(self.engine, SIZE) as stage:
            result = scene(stage)
        missed = [need for need in result.needs if not need["met"]]
        self.assertEqual(missed, [], result.figures)
        self.assertTrue(result.needs)


class Ends(Scenes):
    """Streams end in every way while others work: a sanitizer watches that as well."""

    def test_reset_storm(self):
        """Thousands of resets a second leave the neighbours served."""
        self.play(scenes_load.reset_storm)

    def test_many_readers_that_stop(self):
        """Many share the loop's bound, and get every byte when they read on."""
        self.play(scenes_memory.stalled_crowd)

    def test_descriptor_limit(self):
        """Without descriptors connections wait, without a spinning CPU, and are served later."""
        self.play(scenes_limits.descriptors)

    def test_sigterm_http_pipelined(self):
        """SIGTERM under load loses no request that was read, and cuts no answer, although more
        requests wait behind it."""
        self.play(scenes_end.term_http_pipelined)

    def test_sigterm_http_starved(self):
        """Clients that get no processor meanwhile find every answer of a request that was read."""
        self.play(scenes_end.term_http_starved)

    def test_sigterm_echo(self):
        """Clients in the middle of sending finish after SIGTERM, and lose nothing."""
        self.play(scenes_end.term_echo)

    def test_sigterm_endless_load(self):
        """Clients that never end are cut off at the cap."""
        self.play(scenes_end.term_endless)

    def test_sigterm_ftp(self):
        """Transfers that run at SIGTERM become whole."""
        self.play(scenes_end.term_ftp)


class Bounds(Scenes):
    """These ask for time, memory and addresses. Sanitizers have their own of the first two, and see
    nothing here that other tests do not show them."""

    def test_slow_clients(self):
        """Hundreds of slow clients are all served, and keep nobody waiting."""
        self.play(scenes_load.slow_clients)

    def test_one_flooder(self):
        """One peer at line rate keeps nobody waiting."""
        self.play(scenes_load.flooder)

    def test_a_reader_that_stops(self):
        """A reader that stops costs its high mark, and gets every byte when it reads on."""
        self.play(scenes_memory.stalled_reader)

    def test_twice_the_connection_limit(self):
        """Who is beyond the limit waits, and is served soon after there is room."""
        self.play(scenes_limits.connection_limit)

    def test_sigterm_http(self):
        """SIGTERM under load leaves nobody without an answer who did not rest."""
        self.play(scenes_end.term_http)

    def test_kill_and_restart(self):
        """A killed server's addresses serve again at once."""
        self.play(scenes_end.kill_restart)

    def test_soak(self):
        """Churn under load leaves memory and descriptors flat."""
        self.play(scenes_soak.soak)

    def test_address_space(self):
        """Without memory connections are cut off, and the server lives and recovers."""
        self.play(scenes_memory.address_space)

    def test_address_space_http(self):
        """The same for a server of files."""
        self.play(scenes_memory.address_space_http)

    def test_memory_cgroup(self):
        """A container's limit is reached, and nobody is killed."""
        reason = machine.Cgroup.missing()
        if reason:
            raise unittest.SkipTest(reason)
        self.play(scenes_memory.cgroup)


KINDS = (Ends,) if SIZE.sanitized else (Ends, Bounds)


class Uring(*KINDS, unittest.TestCase):
    engine = "uring"

    def test_descriptor_limit_direct(self):
        """Connections in the ring's own table are served without a descriptor left."""
        self.play(scenes_limits.descriptors_direct)


class Epoll(*KINDS, unittest.TestCase):
    engine = "epoll"


class Blocking(*KINDS, unittest.TestCase):
    engine = "blocking"
