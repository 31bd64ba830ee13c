"""Runs weir-bench with the built programs where something is missing on the machine."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

from programs import LIMIT, WEIR, forbid_uring, main

TOP = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
TRIES = 5
NO_TIME = "no request was answered in the measured time"
BUILD = os.path.dirname(os.path.dirname(WEIR))


class BenchTest(unittest.TestCase):
    def without_uring(self, *arguments):
        """Runs a cell of `quick` where io_uring is forbidden; returns {variant: trial}, and what
        there was to see. Others may have the processors for as long as it measures: then it is
        tried again."""
        with tempfile.TemporaryDirectory(prefix="weir-") as folder:
            path = os.path.join(folder, "report.json")
            for _ in range(TRIES):
                run = subprocess.run(
                    [os.path.join(TOP, "bench/suite/weir-bench"), "quick", "--build", BUILD,
                     "--cells", "echo-64-c1", "--blocks", "1", "--warmup", "0.1", "--json", path,
                     *arguments], capture_output=True, text=True, check=False, timeout=3 * LIMIT,
                    preexec_fn=forbid_uring)
                if NO_TIME not in run.stderr:
                    break
            with open(path, encoding="utf-8") as file:
                report = json.load(file)
        return {trial["variant"]: trial for trial in report["trials"]}, run

    def check_measured(self, trial):
        # On a machine that has other work a guard may speak against the number itself.
        self.assertIn(trial["status"], ("ok", "invalid"), trial)
        self.assertGreater(trial["metrics"]["ops_per_s"], 0)

    # In a container that forbids io_uring, the other engines are measured all the same, by a load
    # that does not need it either; the table says why there are no numbers for uring.
    def test_without_uring(self):
        trials, run = self.without_uring("--seconds", "0.2")
        self.assertEqual(trials["uring"]["status"], "failed")
        self.assertIn("seccomp", trials["uring"]["failure"])
        self.assertIn("seccomp", run.stdout)
        for variant in ("epoll", "blocking"):
            self.check_measured(trials[variant])
        self.assertEqual(run.returncode, 1)

    # The load of HTTP does not need it, either.
    def test_without_uring_http(self):
        trials, _ = self.without_uring("--engines", "epoll", "--turns", "0", "--seconds", "0.1",
                                       "--ceiling", "no", "--skip-conformance", "--server", "http",
                                       "--path", "/x", "--root-file", "x=64")
        self.check_measured(trials["epoll"])


if __name__ == "__main__":
    sys.exit(main())
