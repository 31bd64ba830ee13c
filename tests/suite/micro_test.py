"""The micro benchmarks run, and say it in Google Benchmark's JSON."""

import json
import math
import os
import subprocess
import tempfile
import unittest


NAMES = {"nops", "prepare", "reap", "buffer_recycle", "pool_buffer", "pool_record", "parse",
         "file_by", "file_by_weir", "round_trip", "post", "idle_turn", "timer", "histogram_record",
         "payload_compare", "macro"}

COMPARE = "/usr/share/benchmark/compare.py"
RUNS = 3


def run_micro(*arguments):
    return subprocess.run([os.environ["WEIR_MICRO"], "--benchmark_min_time=0.001",
                           "--benchmark_format=json", *arguments], capture_output=True, text=True,
                          timeout=300, env={**os.environ, "WEIR_MICRO_SECONDS": "0.1"}, check=False)


class Micro(unittest.TestCase):
    def test_every_benchmark_runs_in_every_engine(self):
        """Each with a time; an engine that is not here is skipped with its reason, not silently."""
        run = run_micro()
        self.assertEqual(run.returncode, 0, run.stderr)
        report = json.loads(run.stdout)
        # What Google's compare.py reads.
        self.assertEqual(set(report), {"context", "benchmarks"})
        self.assertEqual({b["name"].split("/")[0] for b in report["benchmarks"]}, NAMES)
        for entry in report["benchmarks"]:
            if entry.get("error_occurred"):
                self.assertIn("here", entry["error_message"], entry["name"])
                self.assertRegex(entry["name"], "nops|prepare|reap|recycle|uring:1|p99_response")
                continue
            self.assertGreater(entry["real_time"], 0, entry["name"])
            self.assertGreater(entry["iterations"], 0)
        # Processor time: others may hold up runs as short as these. Time that a hypervisor took is
        # in it as well: the least of several runs has none.
        used = self.least_of(report)
        self.assertGreater(used["payload_compare/size:4096"], used["payload_compare/size:64"])
        self.assertGreater(used["file_by/copy/size:1048576"], used["file_by/copy/size:4096"])
        self.assertGreater(used["parse/http_browser"], used["parse/http_short"])
        # A time per operation and no time per trial: the metric is the time.
        times = {b["name"]: b["real_time"] for b in report["benchmarks"]}
        macro = times["macro/closed_cpu_per_op/uring:0/iterations:1/manual_time"]
        self.assertTrue(1e3 < macro < 1e7, macro)

    def least_of(self, report):
        """The least processor time of each benchmark, of this run and of others."""
        runs = [report] + [json.loads(run_micro("--benchmark_filter=payload|file_by/copy|parse")
                                      .stdout) for _ in range(RUNS - 1)]
        used = {}
        for entry in (entry for run in runs for entry in run["benchmarks"] if "cpu_time" in entry):
            used[entry["name"]] = min(used.get(entry["name"], math.inf), entry["cpu_time"])
        return used

    def test_compare_py_takes_the_output(self):
        """Two runs of repetitions, each with a U test in its table."""
        if not os.path.exists(COMPARE):
            self.skipTest("Google's compare.py (libbenchmark-tools) is not installed")
        if subprocess.run(["/usr/bin/python3", "-c", "import scipy"], check=False,
                          stderr=subprocess.DEVNULL).returncode:
            self.skipTest("scipy (python3-scipy), which compare.py needs, is not installed")
        with tempfile.TemporaryDirectory() as folder:
            paths = []
            for name in ("a", "b"):
                paths.append(os.path.join(folder, name + ".json"))
                with open(paths[-1], "w", encoding="ascii") as file:
                    file.write(run_micro("--benchmark_repetitions=3", "--benchmark_filter="
                                         "parse/|macro/closed_per_op/uring:0",
                                         "--benchmark_enable_random_interleaving=true").stdout)
            said = subprocess.run(["/usr/bin/python3", COMPARE, "--no-color", "benchmarks", *paths],
                                  capture_output=True, text=True, timeout=300, check=False)
        self.assertEqual(said.returncode, 0, said.stderr)
        self.assertIn("parse/ftp_pvalue", said.stdout)
        self.assertIn("macro/closed_per_op/uring:0/iterations:1/manual_time_pvalue", said.stdout
                      .replace("/repeats:3", ""))


if __name__ == "__main__":
    unittest.main()
