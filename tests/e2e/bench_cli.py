"""Runs weir-bench with the built programs where something is missing on the machine."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

from programs import LIMIT, WEIR, forbid_uring, main

TOP = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
BUILD = os.path.dirname(os.path.dirname(WEIR))


class BenchTest(unittest.TestCase):
    # In a container that forbids io_uring, the other engines are measured all the same, by a load
    # that does not need it either; the table says why there are no numbers for uring.
    def test_without_uring(self):
        with tempfile.TemporaryDirectory(prefix="weir-") as folder:
            path = os.path.join(folder, "report.json")
            run = subprocess.run(
                [os.path.join(TOP, "bench/suite/weir-bench"), "quick", "--build", BUILD, "--cells",
                 "echo-64-c1", "--blocks", "1", "--seconds", "0.2", "--warmup", "0.1", "--json",
                 path],
                capture_output=True, text=True, check=False, timeout=3 * LIMIT,
                preexec_fn=forbid_uring)
            with open(path, encoding="utf-8") as file:
                report = json.load(file)
        trials = {trial["variant"]: trial for trial in report["trials"]}
        self.assertEqual(trials["uring"]["status"], "failed")
        self.assertIn("seccomp", trials["uring"]["failure"])
        self.assertIn("seccomp", run.stdout)
        for variant in ("epoll", "blocking"):
            # On a machine that has other work a guard may speak against the number itself.
            self.assertIn(trials[variant]["status"], ("ok", "invalid"), trials[variant])
            self.assertGreater(trials[variant]["metrics"]["ops_per_s"], 0)
        self.assertEqual(run.returncode, 1)


if __name__ == "__main__":
    sys.exit(main())
