"""The micro benchmarks run, and say it in Google Benchmark's JSON."""

import json
import os
import subprocess
import unittest


class Micro(unittest.TestCase):
    def test_every_benchmark_runs_in_every_engine(self):
        """Each with a time; an engine that is not here is skipped with its reason, not silently."""
        run = subprocess.run([os.environ["WEIR_MICRO"], "--benchmark_min_time=0.001",
                              "--benchmark_format=json"], capture_output=True, text=True,
                             timeout=60, check=False)
        self.assertEqual(run.returncode, 0, run.stderr)
        report = json.loads(run.stdout)
        # What Google's compare.py reads.
        self.assertEqual(set(report), {"context", "benchmarks"})
        names = {b["name"].split("/")[0] for b in report["benchmarks"]}
        self.assertEqual(names, {"nops", "round_trip", "post", "idle_turn", "timer",
                                 "histogram_record", "payload_compare"})
        for entry in report["benchmarks"]:
            if entry.get("error_occurred"):
                self.assertIn("here", entry["error_message"], entry["name"])
                self.assertRegex(entry["name"], "nops|uring:1")
                continue
            self.assertGreater(entry["real_time"], 0)
            self.assertGreater(entry["iterations"], 0)
        times = {b["name"]: b["real_time"] for b in report["benchmarks"]}
        self.assertGreater(times["payload_compare/size:4096"], times["payload_compare/size:64"])


if __name__ == "__main__":
    unittest.main()
