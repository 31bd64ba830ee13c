"""Whole runs of a session whose trials are simulated: no program is started, and the time that they
take is made up."""

import os
import tempfile
import unittest
from types import SimpleNamespace
from unittest import mock

import suite_path  # noqa: F401
from weir_bench import scenario, session


class SimulatedRun(unittest.TestCase):
    """Its trials say what record_of() makes of their order."""

    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.json = os.path.join(temporary.name, "out.json")

    def record_of(self, order):
        raise NotImplementedError

    def session(self, text, seconds=None):
        options = SimpleNamespace(
            seed=5, server_cpu=None, client_cpu=None, json=self.json, quiet=True, seconds=seconds,
            skip_conformance=True, server_host=None, command_line="weir-bench")
        load = SimpleNamespace(name="load", given=None, takes_turns=lambda: True,
                               lacks=lambda cell: None)
        return session.Session(scenario.parse("test.toml", dict(text)), {}, load, options)

    def play(self, one, trials=-1):
        """Runs it until so many more trials are over, or to its end; returns its report."""
        left = [trials]

        def run(_, order):
            if left[0] == 0:
                raise session.Interrupted(2)
            left[0] -= 1
            return self.record_of(order)

        with mock.patch("weir_bench.session.trial.run", run):
            return one.run()[0]
