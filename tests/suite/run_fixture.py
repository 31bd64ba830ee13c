"""Runs weir-bench with a fake server and a fake load in a folder of its own."""

import json
import os
import subprocess
import tempfile
import unittest

import suite_path

SCENARIO = """
blocks = 1
seconds = 0.04
warmup = 0.01
variants = ["epoll"]
[[cell]]
name = "echo"
connections = 4
[[cell]]
name = "churn"
connections = 2
churn = 1
namespace = true
[[cell]]
name = "half"
connections = 2
rate_of = "echo"
"""


# Starts a stand-in. Every run asks each program for its version, which needs no Python.
SCRIPT = """#!/bin/sh
[ "$1" = --version ] && echo "fake {name}" && exit
exec /usr/bin/python3 "{link}" "$@"
"""


def processes_of(folder):
    """What still runs of the programs in that folder."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if folder.encode() in file.read():
                    found.append(int(pid))
        except OSError:
            continue
    return found


class RunFixture(unittest.TestCase):
    """A folder with a scenario and with programs that stand in for weir and weir-load."""

    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = temporary.name
        for name, stand_in in (("weir", "fake_weir.py"), ("weir-rungs", "fake_weir.py"),
                               ("weir-load", "fake_weir_load.py")):
            path = os.path.join(self.folder, name)
            link = os.path.join(self.folder, "stand-in", name)
            os.makedirs(os.path.dirname(link), exist_ok=True)
            os.symlink(os.path.join(suite_path.HERE, stand_in), link)
            with open(path, "w", encoding="ascii") as file:
                file.write(SCRIPT.format(name=name, link=link))
            os.chmod(path, 0o755)
        self.scenario = os.path.join(self.folder, "test.toml")
        with open(self.scenario, "w", encoding="ascii") as file:
            file.write(SCENARIO)
        self.json = os.path.join(self.folder, "out.json")

    def command(self, *arguments):
        return [suite_path.LAUNCHER, "run", self.scenario, "--build", self.folder,
                "--json", self.json, "--skip-conformance", *arguments]

    def bench(self, *arguments, load="", status=0):
        """Runs it; returns (report, standard output, standard error)."""
        run = subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=300,
                             env={**os.environ, "FAKE_LOAD": load}, check=False)
        self.assertEqual(run.returncode, status, run.stdout + run.stderr)
        self.assertNotIn("Traceback", run.stderr)
        self.assertEqual(processes_of(self.folder), [])
        report = None
        if os.path.exists(self.json):
            with open(self.json, encoding="utf-8") as file:
                report = json.load(file)
        return report, run.stdout, run.stderr
