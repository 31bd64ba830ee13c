"""Whole runs of weir-bench, with a fake server and a fake load that misbehave on demand."""

import fcntl
import json
import os
import pty
import signal
import subprocess
import termios
import time
import unittest
from types import SimpleNamespace
from unittest import mock

import suite_path
from weir_bench import load, trial
from run_fixture import RunFixture, processes_of
from weir_bench import Problem, veth


TRIES = 5


def network_namespaces(pids=None):
    """The namespaces that these processes are in, or all of this machine."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")) if pids is None else pids:
        try:
            found.add(os.readlink(f"/proc/{pid}/ns/net"))
        except OSError:
            continue
    return found


class Calls(unittest.TestCase):
    """How many operations the server's own count of calls is divided by."""

    def test_an_answer_counts_with_its_head(self):
        """Echoes have the cell's size; of a file the load has counted what an answer takes; a
        server or a load that does not say gives no number rather than a wrong one."""
        stats = {"enters": 5, "sent_bytes": 12730}
        for path, size, churn, reply, said, wanted in (
                (None, 64, 0, 64, {"enters": 5, "sent_bytes": 6400}, 100),
                (None, 64, 10, 640, {"enters": 5, "sent_bytes": 6400}, 10),
                ("/1k.bin", 0, 0, 1273, stats, 10),
                ("/1k.bin", 0, 1, 1273, stats, 10),
                ("/1k.bin", 0, 0, None, stats, 0),
                ("/1k.bin", 0, 0, 1273, {}, 0)):
            cell = SimpleNamespace(path=path, size=size, churn=churn, operation="")
            result = load.Result(ops=1, ops_per_s=1, reply_bytes=reply)
            self.assertEqual(trial.operations_of_server(cell, said, result), wanted)


class Runs(RunFixture):
    def guards_of(self, report):
        return {guard["guard"] for trial in report["trials"] for guard in trial["guards"]}

    def test_a_run_measures_and_keeps_everything(self):
        """Two kinds of cell, two variants, two blocks; the numbers hang together."""
        if os.geteuid() != 0:
            self.skipTest("needs root for a network namespace")
        report, out, err = self.bench("--blocks", "2", "--variant", "twin=--engine epoll",
                                      "--seed", "5", "--cells", "echo,churn")
        self.assertTrue(report["complete"])
        self.assertEqual(len(report["trials"]), 8)
        self.assertEqual(report["seed"], 5)
        self.assertIn("seed 5", out)
        self.assertNotIn("[", err, "no bar where there is no terminal")
        self.assertEqual(len(err.splitlines()), 9)
        for trial in report["trials"]:
            self.assertEqual(trial["status"], "ok", trial)
            metrics = trial["metrics"]
            self.assertGreater(metrics["server_cpu_ns"], 1000)
            self.assertGreater(metrics["machine_cpu_ns"], metrics["server_cpu_ns"])
            self.assertGreater(metrics["calls"], 0.5)
            # Who is kept from looking in so short a window has none.
            self.assertGreater(metrics.get("pss_bytes", 2 << 20), 1 << 20)
            self.assertLess(trial["cpu"]["server_share"], 1.05)
        self.assertTrue(any("pss_bytes" in trial["metrics"] for trial in report["trials"]))
        self.assertEqual(len(report["table"]), 4)
        twin = next(row for row in report["table"] if row["variant"] == "twin")
        self.assertEqual(twin["metrics"]["ops_per_s"]["level"], 0.5)

    def test_report_prints_the_same_table_again(self):
        """From the file alone; also as Markdown, and from what a killed run left."""
        report, out, _ = self.bench("--cells", "echo")
        again = subprocess.run([suite_path.LAUNCHER, "report", self.json], capture_output=True,
                               text=True, check=True)
        self.assertEqual(again.stdout, out)
        markdown = subprocess.run([suite_path.LAUNCHER, "report", "--markdown", self.json],
                                  capture_output=True, text=True, check=True).stdout
        self.assertIn("| 64 B x 4 | epoll |", markdown)
        part = self.json + ".part"
        self.assertFalse(os.path.exists(part))
        with open(part, "w", encoding="utf-8") as file:
            head = {k: v for k, v in report.items() if k not in ("trials", "table")}
            file.write(json.dumps({**head, "complete": False}) + "\n")
            file.write(json.dumps({"trial": report["trials"][0]}) + "\n" + '{"trial": {"cel')
        half = subprocess.run([suite_path.LAUNCHER, "report", part], capture_output=True,
                              text=True, check=True).stdout
        self.assertIn("Incomplete", half)
        self.assertIn("echo: 64 B x 4", half)

    def test_a_server_that_dies_is_named_and_the_others_go_on(self):
        """The message has trial, cause and last words; the variant is given up after two."""
        report, _, err = self.bench("--cells", "echo", "--blocks", "3", "--variant",
                                    "dying=--engine epoll --fault die", status=1)
        self.assertRegex(err, r"trial echo dying block \d: the server was ended by SIGKILL under "
                              r"load: the fake server had enough")
        self.assertIn("echo dying: failed 2 times, not tried again", err)
        self.assertEqual([t["status"] for t in report["trials"] if t["variant"] == "epoll"],
                         ["ok"] * 3)
        self.assertEqual(sum(t["variant"] == "dying" for t in report["trials"]), 2)

    def test_a_server_that_does_not_start_says_why(self):
        """Its own message is part of ours, as is a command that does not exist."""
        _, out, err = self.bench("--cells", "echo", "--variant", "x=--engine uring --fault usage",
                                 "--variant", "y=/nonexistent/server {port}", status=1)
        self.assertIn("ended with status 1 before it listened: weir: no io_uring here", err)
        self.assertIn("No such file or directory: '/nonexistent/server'", err)
        self.assertIn("no usable trial", out)

    def test_server_faults_are_seen(self):
        """A wrong engine is invalid, counters are read, a bad end is a failure."""
        report, _, _ = self.bench("--cells", "echo", "--engines", "uring", "--variant",
                                  "uring=--engine uring --fault other-engine", status=1)
        self.assertEqual(report["trials"][0]["status"], "invalid")
        self.assertIn("engine", self.guards_of(report))
        report, out, _ = self.bench("--cells", "echo", "--variant",
                                    "epoll=--engine epoll --counter overflows=3 "
                                    "--counter receive_no_buffers=5")
        self.assertLessEqual({"overflow", "no-buffers"}, self.guards_of(report))
        self.assertIn("3 times the completion queue overflowed (1 of 1 trials)", out)
        for fault, text in (("bad-stats", "are no JSON"), ("bad-exit", "ended with status 3")):
            _, _, err = self.bench("--cells", "echo", "--variant",
                                   f"epoll=--engine epoll --fault {fault}", status=1)
            self.assertIn(text, err)

    def test_load_faults_are_seen(self):
        """Its end, its output, its errors, and a client that is the limit."""
        for fault, text in (("usage", "the load ended with status 2: weir-load: this option"),
                            ("nonsense", "output is not understood")):
            _, _, err = self.bench("--cells", "echo", load=fault, status=1)
            self.assertIn(text, err)
        report, _, _ = self.bench("--cells", "echo", load="corrupt", status=1)
        self.assertIn("payload", self.guards_of(report))
        report, _, _ = self.bench("--cells", "echo", load="resets")
        self.assertIn("errors", self.guards_of(report))
        # It has one thread, so that is full with one CPU, however many it was given.
        every = ",".join(map(str, os.sched_getaffinity(0)))
        report, out, _ = self.bench("--cells", "echo", "--client-cpu", every, load="spin")
        # Where others take the client's CPU, it cannot be full, and that is said instead.
        self.assertTrue(self.guards_of(report) & {"client-limit", "machine-busy"})
        self.assertRegex(out, "the client was the limit|the machine was busy")

    def test_an_injected_cost_is_measured(self):
        """200 us of spinning per echo show up as about that in the server's CPU per operation: by
        turns whatever else runs here, by trials where nothing else kept the suite from looking.
        Time that a hypervisor took is in a server's, too."""
        for turns in (5, 0):
            excuses = {"steal"} if turns else {"steal", "machine-busy", "seldom-read"}
            for _ in range(TRIES):
                report, _, _ = self.bench("--cells", "echo", "--blocks", "2", "--turns", str(turns),
                                          "--variant", "slow=--engine epoll --slow-us 200")
                cost = {row["variant"]: row["metrics"]["server_cpu_ns"]["median"]
                        for row in report["table"]}
                if 150_000 < cost["slow"] - cost["epoll"] < 320_000:
                    break
            else:
                self.assertTrue(self.guards_of(report) & excuses, cost)

    def test_a_server_that_answers_wrongly_is_found_before_it_is_timed(self):
        """The conformance run sees it, and all of its trials are invalid."""
        command = [word for word in self.command("--cells", "echo") if "conformance" not in word]
        run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False,
                             env={**os.environ, "FAKE_LOAD": "corrupt-when-full"})
        self.assertEqual(run.returncode, 1, run.stderr)
        self.assertIn("conformance echo epoll: 1 replies had a wrong payload", run.stderr)
        with open(self.json, encoding="utf-8") as file:
            report = json.load(file)
        self.assertIn("conformance", self.guards_of(report))
        self.assertEqual(report["trials"][0]["status"], "invalid")

    def test_a_throttled_client_makes_the_rate_invalid(self):
        """The client sleeps before each request: neither side is busy, and the rate is nobody's."""
        report, out, _ = self.bench("--cells", "echo", "--blocks", "2", "--variant",
                                    "twin=--engine epoll", load="throttle")
        self.assertIn("nobody-busy", self.guards_of(report))
        twin = next(row for row in report["table"] if row["variant"] == "twin")
        self.assertEqual(twin["verdicts"]["ops_per_s"]["verdict"], "INVALID")
        self.assertIn("INVALID: nobody-busy", out)

    def test_other_servers_and_loads_stand_in(self):
        """A server that prints nothing, and a generator that is read by expressions."""
        server = ("import socketserver, sys\n"
                  "class Echo(socketserver.BaseRequestHandler):\n"
                  "    def handle(self):\n"
                  "        while data := self.request.recv(65536): self.request.sendall(data)\n"
                  "socketserver.ThreadingTCPServer(('127.0.0.1', int(sys.argv[1])), Echo)"
                  ".serve_forever()\n")
        path = os.path.join(self.folder, "other_server.py")
        with open(path, "w", encoding="ascii") as file:
            file.write(server)
        report, _, err = self.bench(
            "--variant", f"other=/usr/bin/python3 {path} {{port}}", "--base", "other",
            "--seconds", "0.3",  # it does not say when it measured, so the middle is taken
            "--load", f"{suite_path.HERE}/fake_weir_load.py echo --connect {{address}} "
            "--connections {connections} --size {size} --duration {duration} --warmup {warmup}",
            "--load-parse", r'ops_per_s="ops_per_s": ([\d.]+)')
        self.assertEqual(set(report["skipped"]), {"churn", "half"})
        self.assertIn("churn: not run: the load command has no {churn}", err)
        for trial in report["trials"]:
            self.assertEqual(trial["status"], "ok")
            self.assertGreater(trial["metrics"]["server_cpu_ns"], 1000)
        self.assertNotIn("calls", report["table"][0]["metrics"])
        self.assertEqual(report["table"][0]["variant"], "other")

    def test_ctrl_c_ends_children_and_namespace_and_keeps_the_trials(self):
        """In the middle of a trial in a namespace of its own."""
        if os.geteuid() != 0:
            self.skipTest("needs root for a network namespace")
        ours = network_namespaces([os.getpid()])
        run = subprocess.Popen(self.command("--cells", "churn", "--blocks", "50"),
                               stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        while not run.stderr.readline().startswith("2/50"):
            self.assertIsNone(run.poll())
        limit = time.monotonic() + 60
        while not (made := network_namespaces(processes_of(self.folder)) - ours):
            self.assertLess(time.monotonic(), limit, "no namespace was made")
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=60)
        self.assertEqual(run.returncode, 128 + signal.SIGINT, err)
        self.assertIn("ended by SIGINT", err)
        self.assertIn("Incomplete: ended by SIGINT", out)
        self.assertEqual(processes_of(self.folder), [])
        while network_namespaces() & made:
            # The number of one that is gone may be another program's for a moment.
            self.assertLess(time.monotonic(), limit + 60, "the namespace outlived weir-bench")
            time.sleep(0.01)
        with open(self.json, encoding="utf-8") as file:
            report = json.load(file)
        self.assertGreaterEqual(len(report["trials"]), 2)
        self.assertFalse(report["complete"])

    def test_a_killed_run_leaves_no_process_and_its_trials(self):
        """SIGKILL cannot be handled: the kernel ends the children, the part file has the trials."""
        run = subprocess.Popen(self.command("--cells", "echo", "--blocks", "50"),
                               stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        while not run.stderr.readline().startswith("1/50"):
            self.assertIsNone(run.poll())
        run.kill()
        run.communicate()
        limit = time.monotonic() + 60
        while processes_of(self.folder):
            self.assertLess(time.monotonic(), limit, "children outlived weir-bench")
            time.sleep(0.01)
        said = subprocess.run([suite_path.LAUNCHER, "report", self.json + ".part"],
                              capture_output=True, text=True, check=True).stdout
        self.assertIn("Incomplete: the run did not end", said)

    def test_a_full_disk_does_not_stop_the_measurement(self):
        """The table is still printed, and the exit status tells."""
        if not os.path.exists("/dev/full"):
            self.skipTest("no /dev/full here")
        os.symlink("/dev/full", self.json + ".part")
        os.symlink("/dev/full", self.json + ".new")
        run = subprocess.run(self.command("--cells", "echo"), capture_output=True, text=True,
                             timeout=300, check=False)
        self.assertEqual(run.returncode, 1, run.stderr)
        self.assertIn("No space left on device", run.stderr)
        self.assertIn("echo: 64 B x 4", run.stdout)

    def test_a_terminal_that_is_closed_ends_the_run_in_order(self):
        """Its writes fail and SIGHUP comes: children end, and the trials are in the JSON."""
        ours, theirs = pty.openpty()

        def take_terminal():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        run = subprocess.Popen(self.command("--cells", "echo", "--blocks", "50"), stdin=theirs,
                               stdout=theirs, stderr=theirs, preexec_fn=take_terminal)
        os.close(theirs)
        said = b""
        while b"] 2/50" not in said:
            said += os.read(ours, 4096)
        os.close(ours)
        self.assertEqual(run.wait(60), 128 + signal.SIGHUP)
        self.assertEqual(processes_of(self.folder), [])
        self.assertIn(b"block 1/50 echo epoll", said)
        with open(self.json, encoding="utf-8") as file:
            report = json.load(file)
        self.assertGreaterEqual(len(report["trials"]), 2)
        self.assertEqual(report["ended_by"], "ended by SIGHUP")
        self.assertFalse(os.path.exists(self.json + ".part"))

    def test_a_disk_that_fills_up_keeps_what_it_took(self):
        """The run goes on, the table has every trial, and the part file can be read."""
        if os.geteuid() != 0:
            self.skipTest("needs root for a small disk")
        small = os.path.join(self.folder, "small")
        os.mkdir(small)
        self.json = os.path.join(small, "out.json")
        # The disk is gone with the shell's mount namespace, so it shows the part file itself.
        script = ('mount -t tmpfs -o size=16k none "$1" && shift && "$@"; status=$?; '
                  f'"{suite_path.LAUNCHER}" report "{self.json}.part"; exit $status')
        run = subprocess.run(["unshare", "--mount", "sh", "-c", script, "sh", small,
                              *self.command("--cells", "echo", "--blocks", "10")],
                             capture_output=True, text=True, timeout=300, check=False)
        self.assertEqual(run.returncode, 1, run.stderr)
        self.assertIn("No space left on device; later trials are not kept in it", run.stderr)
        self.assertIn("10/10", run.stderr)
        whole, _, part = run.stdout.partition("Incomplete")
        self.assertIn("10 of 10 blocks", whole)
        self.assertIn("echo: 64 B x 4", whole)
        self.assertIn("the run did not end", part)

    def test_a_table_that_cannot_be_written_is_one_line(self):
        """Standard output on a full disk: status 1, and the JSON is whole."""
        with open("/dev/full", "w", encoding="ascii") as full:
            run = subprocess.run(self.command("--cells", "echo", "--quiet"), stdout=full,
                                 stderr=subprocess.PIPE, text=True, timeout=300, check=False)
        self.assertEqual(run.returncode, 1)
        self.assertEqual(run.stderr.count("\n"), 2, run.stderr)
        self.assertIn("No space left on device", run.stderr)
        with open(self.json, encoding="utf-8") as file:
            self.assertTrue(json.load(file)["complete"])

    def test_rights_that_are_missing_are_named(self):
        """Where nobody may write, and what only root may do; the rest of the run goes on."""
        self.json = "/sys/out.json"
        _, _, err = self.bench("--cells", "echo", status=2)
        self.assertRegex(err, "^weir-bench: --json /sys/out.json: (Permission|Operation not)")
        with mock.patch("os.geteuid", lambda: 1000):
            with self.assertRaisesRegex(Problem, "a veth pair needs root"):
                veth.Veth(1500)

    def test_usage_errors_are_one_line(self):
        """Nothing is run, status 2."""
        for arguments, text in ((("--cells", "zz"), "no such cell"),
                                (("--server-cpu", "9999"), "CPU 9999 is not available"),
                                (("--blocks", "0"), "must be positive"),
                                (("--build", "/nonexistent"), "weir was not found")):
            _, _, err = self.bench(*arguments, status=2)
            self.assertIn(text, err)
            self.assertEqual(len(err.splitlines()), 1)


if __name__ == "__main__":
    unittest.main()
