"""Control groups that count the CPU time of processes that come and go."""

import os
import subprocess
import sys
import tempfile
import time
import unittest
from unittest import mock

import suite_path
from run_fixture import RunFixture, processes_of
from weir_bench import Problem, cgroup, sample

REASON = cgroup.lacks()
TRIES = 5

# Burns what its argument says, in a child of a child that is waited for.
BURN = """
import os, sys, time
for _ in range(2):
    if pid := os.fork():
        os.waitpid(pid, 0)
        os._exit(0)
while time.thread_time() < float(sys.argv[1]):
    pass
"""


class Places(unittest.TestCase):
    def test_the_hierarchy_that_changes_least_comes_first(self):
        """cpuacct alone, then version 2, then cpuacct with cpu; below this process's own group,
        wherever each is mounted."""
        mounts = ("cgroup /a/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\ncgroup2 /b cgroup2 rw 0 0\n"
                  "cgroup /c cgroup rw,cpuacct 0 0\ncgroup /d cgroup rw,memory 0 0\n")
        own = "3:memory:/x\n2:cpu,cpuacct:/own/place\n0::/other\n"
        self.assertEqual(cgroup.hierarchies(mounts, own), [
            ("/c/own/place", "cpuacct.usage"), ("/b/other", "cpu.stat"),
            ("/a/cpu,cpuacct/own/place", "cpuacct.usage")])
        self.assertEqual(cgroup.hierarchies(mounts, "3:memory:/\n"), [])
        self.assertEqual(cgroup.hierarchies("", own), [])

    def test_both_versions_tell_nanoseconds(self):
        """One number, or a line among others."""
        for name, text in (("cpuacct.usage", "1234567000\n"),
                           ("cpu.stat", "usage_usec 1234567\nuser_usec 1\nsystem_usec 2\n")):
            with tempfile.TemporaryDirectory() as folder, \
                    mock.patch.object(cgroup.os, "mkdir", self.fill(name, text)):
                group = cgroup.Group(folder, name)
                self.assertEqual(group.read_ns(), 1234567000)
                os.close(group.file)
                os.close(group.members)

    def fill(self, name, text, make=os.mkdir):
        def make_and_fill(path):
            make(path)
            for file, content in ((name, text), ("cgroup.procs", "")):
                with open(os.path.join(path, file), "w", encoding="ascii") as out:
                    out.write(content)
        return make_and_fill

    def test_where_there_is_none_the_reason_is_told(self):
        """No hierarchy at all, and one that may not be written to."""
        with mock.patch.object(cgroup, "hierarchies", lambda *_: []):
            self.assertEqual(cgroup.lacks(), "no hierarchy counts CPU time")
            with cgroup.around(True) as group:
                self.assertIsNone(group)
        with mock.patch.object(cgroup, "hierarchies", lambda *_: [("/proc/self", "stat")]):
            self.assertRegex(cgroup.lacks(), "/proc/self/weir-bench-")
        with cgroup.around(False) as group:
            self.assertIsNone(group)

    def test_what_a_killed_run_left_is_removed(self):
        """The group of a process that is gone; that of one that lives stays."""
        ended = subprocess.Popen(["true"])
        ended.wait()
        with tempfile.TemporaryDirectory() as folder:
            names = [f"weir-bench-{pid}-0" for pid in (ended.pid, os.getpid())] + ["another"]
            for name in names:
                os.mkdir(os.path.join(folder, name))
            cgroup.remove_left_over(folder)
            self.assertEqual(sorted(os.listdir(folder)), sorted(names[1:]))


@unittest.skipIf(REASON, f"no control group can be made here: {REASON}")
class Groups(unittest.TestCase):
    def test_what_is_gone_is_counted(self):
        """A process whose grandchild worked: no clock shows it any more, and the group has it to
        the millisecond; those outside are not in it."""
        with cgroup.around(True) as group:
            before = group.read_ns()
            child = subprocess.Popen([sys.executable, "-S", "-c", BURN, "0.05"],
                                     preexec_fn=group.enter)
            _, _, usage = os.wait4(child.pid, 0)
            child.returncode = 0
            spent = group.read_ns() - before
        self.assertGreater(spent, 50_000_000)
        self.assertLess(spent, 1e9 * (usage.ru_utime + usage.ru_stime) + 30_000_000)

    def test_what_is_left_in_it_ends_with_it(self):
        """Even one that has left its process group; then the group itself is gone."""
        with cgroup.around(True) as group:
            child = subprocess.Popen(["sleep", "60"], preexec_fn=group.enter,
                                     start_new_session=True)
            self.assertEqual(group.pids(), [child.pid])
        self.assertEqual(child.wait(60), -9)
        self.assertFalse(os.path.exists(group.path))

    def test_a_group_that_cannot_be_opened_leaves_no_folder(self):
        """The counter is missing: an error, and nothing stays."""
        (parent, _), *_ = cgroup.hierarchies(cgroup.read_file("/proc/mounts"),
                                             cgroup.read_file("/proc/self/cgroup"))
        before = set(os.listdir(parent))
        with self.assertRaises(FileNotFoundError):
            cgroup.Group(parent, "no-such-counter")
        self.assertLessEqual({name for name in os.listdir(parent)
                              if name.startswith(f"{cgroup.PREFIX}{os.getpid()}-")}, before)

    def test_the_meter_reads_the_group(self):
        """And says so; without one a forking server is read by clocks and what was waited for."""
        machine = mock.Mock(read=lambda: (0, 0))
        with cgroup.around(True) as group:
            meter = sample.Meter(machine, [os.getpid()], [], 0, True, group)
            self.assertEqual(meter.server_ns(), group.read_ns())
            self.assertEqual(meter.source(), "its control group")
        meter = sample.Meter(machine, [os.getpid()], [], 0, True)
        self.assertGreater(meter.server_ns(), 0)
        self.assertIn("10 ms", meter.source())


SCENARIO = """
blocks = 1
seconds = 0.2
warmup = 0
turns = 5
base = "forks"
variants = ["forks", "epoll"]
[variant.forks]
command = "{weir} echo --listen {address} --fault forks --slow-us 3000"
engine = "epoll"
forks = true
[[cell]]
name = "churn"
connections = 2
churn = 1
"""


@unittest.skipIf(REASON, f"no control group can be made here: {REASON}")
class Runs(RunFixture):
    def test_a_server_with_a_process_per_connection_by_turns_and_by_trials(self):
        """Each answer costs its process 3 ms, which no clock of a living process shows: the whole
        of it is in server/op, of the other variant it is not, and no group is left."""
        with open(self.scenario, "w", encoding="ascii") as file:
            file.write(SCENARIO)
        for turns in (5, 0):
            for _ in range(TRIES):
                costs = self.costs(turns)
                self.assertGreater(costs["forks"], 3e6)
                if costs["epoll"] < 2e6:   # a hypervisor may take as much meanwhile
                    break
            else:
                self.fail(costs)
        for parent, _ in cgroup.hierarchies(cgroup.read_file("/proc/mounts"),
                                            cgroup.read_file("/proc/self/cgroup")):
            self.assertEqual([name for name in os.listdir(parent) if cgroup.PREFIX in name
                              and not os.path.exists(f"/proc/{name.split('-')[2]}")], [])

    def costs(self, turns):
        """Of an operation by variant."""
        report, _, _ = self.bench("--turns", str(turns))
        self.assertEqual(report["by_trials"], {})
        found = {}
        for trial in report["trials"]:
            self.assertEqual("turns" in trial, bool(turns))
            found[trial["variant"]] = trial["metrics"]["server_cpu_ns"]
            self.assertEqual(trial["cpu"]["server_source"] == "its control group",
                             bool(turns) or trial["variant"] == "forks")
        return found

    def test_a_killed_run_is_cleaned_up_after_by_the_next(self):
        """SIGKILL leaves the empty groups; who makes one next removes them."""
        with open(self.scenario, "w", encoding="ascii") as file:
            file.write(SCENARIO)
        run = subprocess.Popen(self.command("--blocks", "50"), stderr=subprocess.PIPE,
                               stdout=subprocess.DEVNULL, text=True)
        while not run.stderr.readline().startswith("1/"):
            self.assertIsNone(run.poll())
        run.kill()
        run.communicate()
        limit = time.monotonic() + 60
        while processes_of(self.folder):   # they end by themselves, in their time
            self.assertLess(time.monotonic(), limit)
            time.sleep(0.01)
        self.assertIsNone(cgroup.lacks())
        left = [name for parent, _ in cgroup.hierarchies(cgroup.read_file("/proc/mounts"),
                                                         cgroup.read_file("/proc/self/cgroup"))
                for name in os.listdir(parent) if name.startswith(f"{cgroup.PREFIX}{run.pid}-")]
        self.assertEqual(left, [])


if __name__ == "__main__":
    unittest.main()
