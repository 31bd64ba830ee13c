"""Runs of weir-bench with the real programs: what fakes cannot show."""

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import tomllib
import unittest
from unittest import mock

import suite_path
import wire
from run_fixture import processes_of
from weir_bench import (Problem, calibrate, cgroup, guards, ladder, reflector, scenario, session,
                        spread, trial, veth)
from weir_bench.load import WeirLoad
from weir_bench.scenario import SYSTEM_PATH
from weir_bench.witness import residency

BUILD = os.environ.get("WEIR_BUILD") or os.path.join(suite_path.HERE, "../../build/release")
LOAD = os.path.join(BUILD, "bench/load/weir-load")
IS_ROOT = os.geteuid() == 0

TRIES = 5
SPINS_MIN = 6   # of inject_cost.c
NO_TIME = "no request was answered in the measured time"

STALL = "sh -c 'sleep 0.25; kill -STOP {pid}; sleep 0.1; kill -CONT {pid}'"


class Real(unittest.TestCase):
    def setUp(self):
        # Not in /tmp, which may be memory: a cold file must be able to leave the page cache.
        temporary = tempfile.TemporaryDirectory(prefix=".real-", dir=suite_path.HERE)
        self.addCleanup(temporary.cleanup)
        self.folder = temporary.name
        self.json = os.path.join(self.folder, "out.json")

    def write(self, name, text, mode=0o644):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
        os.chmod(path, mode)
        return path

    def bench(self, text, *arguments, status=0, conforms=False, within=None):
        """Runs the scenario, maybe within a namespace; returns {(cell, variant): trial} and what it
        printed."""
        text = self.write("test.toml", "blocks = 1\nseconds = 0.1\nwarmup = 0.02\n" + text)
        command = [suite_path.LAUNCHER, "run", text, "--build", BUILD, "--json", self.json,
                   *arguments, *["--skip-conformance"] * (not conforms)]
        said = self.launch(command, status, within)
        return {(t["cell"], t["variant"]): t for t in self.report["trials"]}, said

    def launch(self, command, status=0, within=None, begun=None):
        """Runs it, maybe with a report to begin with, and reads its report; returns what it
        printed. A window as short as these can pass while others have both CPUs, which the report
        must say: then it is tried again."""
        for _ in range(TRIES):
            if begun:
                with open(self.json, "w", encoding="utf-8") as file:
                    json.dump(begun, file)
            run = subprocess.run(command, capture_output=True, text=True, timeout=300,
                                 env={**os.environ, "TMPDIR": self.folder}, check=False,
                                 preexec_fn=within and within.enter)
            self.assertNotIn("Traceback", run.stderr)
            with open(self.json, encoding="utf-8") as file:
                self.report = json.load(file)
            if run.returncode == status or not (NO_TIME in run.stderr or self.was_disturbed()):
                break
        self.assertEqual(run.returncode, status, run.stdout + run.stderr)
        return run.stdout + run.stderr

    def was_disturbed(self):
        """Whether others used the CPUs in a trial."""
        return any(disturbed(trial_) for trial_ in self.report["trials"])

    def check_turns(self, record):
        """Each did something. Who is kept from its CPU for as long as a turn lasts begins nothing
        more in it: then that is said, and there are other turns."""
        done = record["turns"]["ops"]
        self.assertGreater((sum if disturbed(record) else min)(done), 0, record)

    def check(self, trials, count):
        """All went well and nothing was wrong with any byte."""
        self.assertEqual(len(trials), count)
        for key, record in trials.items():
            self.assertNotEqual(record["status"], "failed", (key, record.get("failure")))
            self.assertEqual([g for g in record["guards"] if g["severity"] == "invalid"], [], key)
            self.assertGreater(record["metrics"]["machine_cpu_ns"], 0)
            self.assertEqual(sum(record["errors"].values()), 0, record["errors"])


def disturbed(record):
    """Whether others used the CPUs meanwhile, as the trial itself says."""
    return bool({"machine-busy", "steal", "seldom-read"}
                & {guard["guard"] for guard in record.get("guards", ())})


class Places(Real):
    def test_unix_sockets_and_crowds(self):
        """The load goes where it should, and the crowd's CPU time is the load's, not others'."""
        for _ in range(TRIES):
            trials, _ = self.bench(
                'variants = ["epoll"]\n'
                '[[cell]]\nname = "unix"\nconnections = 4\ntransport = "unix"\n'
                '[[cell]]\nname = "flood"\nconnections = 4\nrate = 500\nflood = 1\n'
                '[[cell]]\nname = "slow"\nconnections = 4\nrate = 500\nslow = 20\n')
            self.check(trials, 3)
            self.assertIn("unix:", " ".join(trials["unix", "epoll"]["load"]["command"]))
            stats = {cell: record["server"]["stats"] for (cell, _), record in trials.items()}
            self.assertEqual(stats["slow"]["accepts"], 24)
            # The server took what slow readers sent, until they had to read: it is bounded.
            self.assertLess(stats["slow"]["received_bytes"], 20 << 24)
            # The measured 150 requests of 64 bytes are nothing against what a flooder sends.
            if stats["flood"]["received_bytes"] > 10 << 20 and \
                    stats["slow"]["received_bytes"] > 20 << 14:
                return
            self.assertTrue(self.was_disturbed(), stats)   # crowds give way to all others
        self.skipTest(f"others had the client's CPU in each of {TRIES} tries")

    @unittest.skipUnless(IS_ROOT, "needs root for network namespaces")
    def test_a_veth_pair_carries_the_load(self):
        """Also with a connection per operation, to as many addresses as churn needs."""
        trials, _ = self.bench(
            'variants = ["uring", "epoll"]\n'
            '[[cell]]\nname = "veth"\nconnections = 4\nsize = 4096\ntransport = "veth"\n'
            '[[cell]]\nname = "churn"\nconnections = 4\nchurn = 1\ntransport = "veth"\n',
            "--engines", "epoll", "--mtu", "9000", conforms=True)
        self.check(trials, 2)
        self.assertIn(veth.SERVERS, " ".join(trials["churn", "epoll"]["load"]["command"]))
        self.assertIn(veth.SERVER + ":", " ".join(trials["veth", "epoll"]["load"]["command"]))

    @unittest.skipUnless(IS_ROOT, "needs root for network namespaces")
    def test_a_veth_pair_has_its_mtu_and_leaves_nothing(self):
        """Seen from inside; when its files are closed, no device is left on this machine."""
        def show(namespace):
            return subprocess.run(["ip", "-o", "address"], preexec_fn=namespace.enter, text=True,
                                  capture_output=True, check=True).stdout

        def links():
            return {name for _, name in socket.if_nameindex()}

        before = links()
        with veth.Veth(1234) as pair:
            self.assertIn(veth.SERVER, show(pair.server))
            self.assertIn(veth.CLIENT, show(pair.client))
            said = ""
            while "state UP" not in said:   # a worker of the kernel says so, when it comes to it
                said = subprocess.run(["ip", "-o", "link", "show", "veth0"], text=True, check=True,
                                      capture_output=True, preexec_fn=pair.client.enter).stdout
            self.assertIn("mtu 1234", said)
        self.assertEqual(links(), before)
        with self.assertRaisesRegex(Problem, "ip link add veth0 mtu 1"):
            veth.Veth(1)
        self.assertEqual(links(), before)


class Files(Real):
    def test_ftp_files_are_compared_and_cold_ones_stay_cold(self):
        """Sizes and bytes are right, and the page cache is as asked. The load has as many threads
        as CPUs, where it has clients for them, and none of its shares is more than all."""
        cpus = sorted(os.sched_getaffinity(0))
        trials, _ = self.bench(
            'server = "ftp"\nvariants = ["epoll"]\n'
            '[files]\n"f.bin" = 300000\n"g.bin" = 8388608\n'
            '[[cell]]\nname = "warm"\noperation = "retr"\n'
            'path = "/f.bin"\nsize = 300000\nconnections = 3\n'
            '[[cell]]\nname = "cold"\noperation = "retr"\n'
            'path = "/g.bin"\nsize = 8388608\ncache = "cold"\n',
            "--seconds", "0.2", "--client-cpu", ",".join(map(str, cpus)))
        self.check(trials, 2)
        for cell, clients in (("warm", 3), ("cold", 1)):
            record = trials[cell, "epoll"]
            self.assertEqual(record["load"]["result"]["parameters"]["threads"],
                             min(len(cpus), clients))
            self.assertLess(record["cpu"]["client_share"], 1.1)
        warm, cold = trials["warm", "epoll"], trials["cold", "epoll"]
        self.assertEqual(warm["file"]["before"], 1.0)
        self.assertLess(cold["file"]["before"], 0.01)
        self.assertLess(cold["file"]["after"], 0.5)
        done = warm["load"]["result"]["ops"]  # each is a file
        self.assertGreaterEqual(warm["server"]["stats"]["sent_bytes"], done * 300000)

    def test_an_upload_to_one_name_is_no_file_that_is_read(self):
        """It is not there before the first trial, and is after each."""
        trials, _ = self.bench('server = "ftp"\nvariants = ["epoll"]\n[files]\n"up/" = 0\n'
                               '[[cell]]\nname = "a"\noperation = "stor"\npath = "/up/one.bin"\n'
                               'size = 4096\n')
        self.check(trials, 1)
        self.assertNotIn("file", trials["a", "epoll"])


class Turns(Real):
    def test_servers_by_turns_answer_and_cost_what_they_do(self):
        """Over TCP, a unix socket and with a connection per operation: every turn does something,
        no reply is wrong, and a server of thrice the cost costs that, though others may use the
        machine. sensitivity.py asks for 5 %, with more blocks and a quiet machine."""
        library = os.path.join(os.path.abspath(BUILD), "tests/suite/inject_cost.so")
        churn = '[[cell]]\nname = "churn"\nconnections = 8\nchurn = 1\nnamespace = true\n' \
                'variants = ["epoll", "uring"]\nturns = 4\n'
        text = ('turns = 10\nvariants = ["epoll", "uring", "blocking", "dearer"]\n'
                '[variant.dearer]\nengine = "epoll"\n'
                f'command = "env LD_PRELOAD={library} WEIR_COST_PERMILLE=2000 {{weir}} echo '
                '--listen {address} --engine epoll"\n'
                '[[cell]]\nname = "tcp"\nconnections = 16\nverify = "full"\n'
                'variants = ["epoll", "uring", "dearer"]\n'
                '[[cell]]\nname = "unix"\nconnections = 4\ntransport = "unix"\n'
                'variants = ["uring", "blocking"]\nturns = 4\n' + churn * IS_ROOT)
        trials, _ = self.bench(text, "--base", "epoll")
        self.check(trials, 7 if IS_ROOT else 5)
        for (cell, variant), record in trials.items():
            self.check_turns(record)
            self.assertEqual(len(record["turns"]["ops"]), 10 if cell == "tcp" else 4)
            self.assertEqual(sum(record["turns"]["ops"]), record["load"]["result"]["ops"])
        for _ in range(TRIES):
            if self.found_injected(trials["tcp", "epoll"], trials["tcp", "dearer"]):
                return
            trials, _ = self.bench(text, "--cells", "tcp", "--engines", "epoll,dearer")
        self.skipTest(f"others had the server's CPU in each of {TRIES} tries")

    def found_injected(self, plain, dearer):
        """Of all turns together, as each has few spins or none: one of 6.67 ms in each 10 ms that
        the server had. The kernel counts these at its ticks, so of a few it says nothing, and
        stolen time is in a server's, too: False, only where others used the server's CPU."""
        ops, theirs = (sum(record["turns"]["ops"]) for record in (dearer, plain))
        spins = dearer["spent"]["server"] // 10e6 - 1
        more = dearer["spent"]["server"] / ops - plain["spent"]["server"] / theirs
        if spins >= SPINS_MIN and more * ops > 0.5 * spins * 6.67e6:
            return True
        self.assertTrue(disturbed(dearer) or disturbed(plain), (more, ops, spins))
        return False

    def test_what_servers_store_by_turns_is_apart(self):
        """The same names in a folder of each server's own, whose files go when the turns are
        over."""
        trials, _ = self.bench('server = "ftp"\nvariants = ["epoll", "uring"]\nturns = 3\n'
                               '[files]\n"up/" = 0\n'
                               '[[cell]]\nname = "a"\noperation = "stor"\n'
                               'path = "/up/{}.bin"\nsize = 4096\nfiles = 3\n')
        self.check(trials, 2)
        roots = set()
        for record in trials.values():
            self.check_turns(record)
            command = record["server"]["command"]
            roots.add(command[command.index("--root") + 1])
        self.assertEqual(len(roots), 2)

    @unittest.skipUnless(shutil.which("vsftpd", path=os.environ.get("PATH", "") + SYSTEM_PATH),
                         "vsftpd is not installed")
    @unittest.skipUnless(IS_ROOT, "vsftpd needs root")
    @unittest.skipIf(cgroup.lacks(), f"no control group can be made here: {cgroup.lacks()}")
    def test_a_server_with_processes_per_session_takes_turns(self):
        """Logins end before their turn does, so no clock of a living process knows them: what they
        cost is more than a fork, and the server beside it is counted in the same way."""
        trials, _ = self.bench(
            'server = "ftp"\nbase = "vsftpd"\nvariants = ["epoll", "vsftpd"]\nturns = 3\n'
            '[variant.vsftpd]\nforks = true\n'
            'command = "{peers}/vsftpd.sh {host} {port} {root} {folder}"\n'
            '[[cell]]\nname = "login"\noperation = "login"\nturn = 0.03\n')
        self.check(trials, 2)
        for record in trials.values():
            self.assertEqual(record["cpu"]["server_source"], "its control group")
        self.assertGreater(trials["login", "vsftpd"]["metrics"]["server_cpu_ns"], 200_000)
        self.assertLess(trials["login", "epoll"]["metrics"]["server_cpu_ns"],
                        trials["login", "vsftpd"]["metrics"]["server_cpu_ns"])


class Peers(Real):
    def test_each_peer_that_is_installed_serves_every_byte(self):
        """As the scenario http starts it: a turn's replies are as long as the file, and the same as
        what it sent first. Those that are not installed are named."""
        with open(os.path.join(suite_path.SUITE, "../scenarios/http.toml"), "rb") as file:
            peers = tomllib.load(file)["variant"]
        installed = [name for name, peer in peers.items() if shutil.which(
            peer["needs"], path=os.environ.get("PATH", "") + SYSTEM_PATH)]
        if not installed:
            self.skipTest(f"none of {', '.join(peers)} is installed")
        print(f"# of {', '.join(peers)} there are {', '.join(installed)}")
        # Some become another user, who has to get there.
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = temporary.name
        os.chmod(self.folder, 0o711)
        trials, _ = self.bench(
            f'server = "http"\nvariants = {json.dumps(installed)}\nturns = 2\n'
            '[files]\n"1k.bin" = 1024\n'
            + "".join(f'[variant.{name}]\ncommand = {json.dumps(peers[name]["command"])}\n'
                      for name in installed)
            + '[[cell]]\nname = "1k"\npath = "/1k.bin"\nconnections = 4\nverify = "full"\n')
        self.check(trials, len(installed))
        for key, record in trials.items():
            self.check_turns(record)
            result = record["load"]["result"]
            self.assertGreater(result["bytes"], 1024 * result["ops"], key)


class Laws(Real):
    def test_what_is_in_flight_comes_out_exactly_however_short_the_window(self):
        """Never more than what the cell allows, and nearly that: the client rests only while it
        works. A server that is slow, so that the window cuts many requests, changes nothing."""
        library = os.path.join(os.path.abspath(BUILD), "tests/suite/inject_cost.so")
        trials, _ = self.bench('variants = ["epoll", "slow"]\n[variant.slow]\nengine = "epoll"\n'
                               f'command = "env LD_PRELOAD={library} WEIR_COST_PERMILLE=2000 '
                               '{weir} echo --listen {address} --engine epoll"\n'
                               '[[cell]]\nname = "a"\nconnections = 500\ndepth = 4\n',
                               "--seconds", "0.05")
        for key, record in trials.items():
            cut = record["load"]["result"]["requests"]
            self.assertGreater(cut["carried_in_ns"] + cut["carried_out_ns"], 0, key)
            seen = guards.in_flight_seen(record) / record["in_flight"]
            self.assertTrue(0.5 < seen < 1.001, (key, seen))


class Stalls(Real):
    def test_a_stall_is_in_the_response_and_not_in_the_closed_service_time(self):
        """A server that stands still for 100 ms of half a second: the open loop's p99 says so,
        while the closed loop sent one request in that time and its p99 knows nothing. Where others
        use the machine, which the trial must say, it is tried again."""
        chosen = scenario.parse("stall", {"variants": ["epoll"], "cell": [
            {"name": "closed"}, {"name": "open", "rate": 2000.0, "connections": 8}]})
        options = type("Options", (), {"seed": 1, "server_cpu": None, "client_cpu": None,
                                       "quiet": True, "command_line": "", "server_host": None,
                                       "json": None, "seconds": None})()
        programs = {name: session.find_program(name, BUILD) for name in ("weir", "weir-load")}
        run = session.Session(chosen, programs, WeirLoad(programs["weir-load"]), options)
        self.addCleanup(os.sched_setaffinity, 0, os.sched_getaffinity(0))
        with run.prepared():
            for cell in chosen.cells:
                order = trial.Order(cell, chosen.variants[0], 0, 0.5, 0.1, 1, cell.rate, STALL)
                wanted = (60e6, float("inf")) if cell.rate else (0, 30e6)
                if not any(self.stalls(run, order, wanted) for _ in range(TRIES)):
                    self.skipTest(f"others had the machine in each of {TRIES} tries")

    def stalls(self, run, order, wanted):
        """Whether the stall was there and p99 is within these bounds; False only where others used
        the machine."""
        record = trial.run(run.setting, order)
        self.assertNotEqual(record["status"], "failed", record.get("failure"))
        histograms = record["load"]["result"]["histograms"]
        histogram = histograms["response"] or histograms["service"]
        p99 = percentile(histogram, 0.99) if histogram["count"] else 0
        if p99 and histogram["max"] > 80e6 and wanted[0] < p99 < wanted[1]:
            return True
        self.assertTrue(disturbed(record), (order.cell.name, histogram["max"], p99))
        return False


def percentile(histogram, share):
    passed = 0
    for value, count in histogram["buckets"]:
        passed += count
        if passed >= share * histogram["count"]:
            return value
    raise ValueError("no buckets")


@unittest.skipIf(reflector.works(), f"no BPF here: {reflector.works()}")
class Reflectors(Real):
    def test_the_kernel_reflects_every_byte(self):
        """Small and large messages, several in flight; calibrate takes it for the ceiling."""
        trials, _ = self.bench(
            'variants = ["kernel"]\nbase = "kernel"\n[variant.kernel]\n'
            'command = "{python} {reflector} {address}"\nengine = "kernel"\n'
            '[[cell]]\nname = "small"\nconnections = 9\nverify = "full"\n'
            '[[cell]]\nname = "large"\nsize = 100000\nconnections = 3\ndepth = 3\n'
            'verify = "full"\n')
        self.check(trials, 2)
        # It did the work, not the process that accepts.
        self.assertLess(trials["small", "kernel"]["cpu"]["server_share"], 0.5)

    def test_what_came_before_the_program_and_who_went_before_it(self):
        """Bytes that were there first come back in order; a connection that was reset before its
        accept ends nothing but itself."""
        server = subprocess.Popen([sys.executable, reflector.__file__, "127.0.0.1:0"], text=True,
                                  stdout=subprocess.PIPE)
        self.addCleanup(server.wait)
        self.addCleanup(server.stdout.close)
        self.addCleanup(server.kill)
        port = int(server.stdout.readline().split()[2].rpartition(":")[2])
        server.send_signal(signal.SIGSTOP)
        gone = socket.create_connection(("127.0.0.1", port))
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.close()
        peers = [socket.create_connection(("127.0.0.1", port), 60) for _ in range(3)]
        data = os.urandom(50000)
        for peer, size in zip(peers, (1, 5000, 50000)):
            peer.sendall(data[:size])
        server.send_signal(signal.SIGCONT)
        for peer, size in zip(peers, (1, 5000, 50000)):
            with peer, peer.makefile("rb") as file:
                self.assertEqual(file.read(size), data[:size])

    def test_calibrate_finds_the_ceilings_by_turns(self):
        """The ceiling is the kernel's where that works; without bpf(2) it would be an engine's."""
        text = self.write("test.toml", 'variants = ["epoll"]\nturns = 3\n'
                          '[[cell]]\nname = "a"\nconnections = 9\n'
                          '[[cell]]\nname = "b"\nsize = 100000\nconnections = 3\ndepth = 3\n')
        self.launch([suite_path.LAUNCHER, "calibrate", text, "--build", BUILD, "--json", self.json,
                     "--blocks", "1", "--warmup", "0.02", "--skip-conformance"])
        report = self.report
        self.assertEqual(set(report["ceilings_found"]), {"a", "b"})
        self.assertIn("kernel", {t["variant"] for t in report["trials"]})
        for trial_ in report["trials"]:
            self.assertEqual(len(trial_["turns"]["ops"]), 3)
            share = trial_["cpu"]["client_share"]
            self.assertGreaterEqual(report["ceilings_found"][trial_["cell"]]["per_s"] * 1.001,
                                    trial_["metrics"]["ops_per_s"] / max(share, 1), trial_["cell"])

    def test_only_cells_that_it_can_serve_get_it(self):
        """Churn would need it in each new connection before the first byte."""
        scenario_ = scenario.parse("x", {"cell": [{"name": "a"}, {"name": "b", "churn": 1}]})
        calibrate.prepare(scenario_)
        self.assertEqual(scenario_.variants[-1].cells, ["a"])

    def test_where_it_cannot_run_the_reason_is_noted(self):
        """A machine without bpf(2) is calibrated with the engines alone."""
        with mock.patch.object(reflector, "SYS_BPF", None):
            chosen = scenario.parse("x", {"cell": [{"name": "a"}]})
            calibrate.prepare(chosen)
        self.assertNotIn("kernel", [variant.name for variant in chosen.variants])
        self.assertRegex(chosen.notes[0], "reflector does not work here: bpf.2. has no")


class Studies(Real):
    def study(self, name, *arguments):
        """Runs it with one cell and two engines; returns its report and what it printed."""
        text = self.write("test.toml", 'blocks = 1\nvariants = ["epoll", "uring"]\n'
                          '[[cell]]\nname = "a"\nconnections = 4\n')
        said = self.launch([suite_path.LAUNCHER, name, "--scenario", text, "--build", BUILD,
                            "--json", self.json, "--skip-conformance", "--warmup", "0.02",
                            *arguments])
        return self.report, said

    def test_a_sweep_serves_each_size(self):
        """What the servers sent is what was asked for, at every size and in both engines."""
        report, said = self.study("sweep", "--var", "size=64:1M:128", "--seconds", "0.4")
        sizes = report["sweep"]["cells"]
        self.assertEqual(sorted(sizes.values()), [64, 8192, 1 << 20])
        self.assertEqual(len(report["trials"]), 6)
        for record in report["trials"]:
            size = sizes[record["cell"]]
            sent = record["server"]["stats"]["sent_bytes"]
            self.assertGreaterEqual(sent, record["load"]["result"]["ops"] * size)
            self.assertGreater(record["metrics"]["machine_cpu_ns"], 0)
        self.assertIn("Crossings:", said)

    def test_a_capacity_keeps_its_objective(self):
        """The rate that is told was offered and kept the objective, and every step that was below
        kept it, too; above the best one none did. A lax objective, for a machine that is busy."""
        report, said = self.study("capacity", "--slo", "p50=1s", "--seconds", "0.05",
                                  "--engines", "epoll", "--turns", "3")
        self.assertIn("Objective: p50=1s", said)
        record, = report["trials"]
        best = record["metrics"]["capacity_per_s"]
        self.assertAlmostEqual(record["rate"], best, delta=1)
        self.assertLessEqual(record["metrics"]["p50_ns"], 1e9)
        self.assertGreaterEqual(len(record["turns"]["ops"]), 3)
        self.assertGreater(record["metrics"]["ops_per_s"], 0.97 * record["offered_per_s"])
        kept = [rate for rate, _, met in record["steps"] if met]
        self.assertEqual(max(kept), best)
        self.assertTrue(all(rate > best for rate, _, met in record["steps"] if not met))
        # One that was interrupted goes on searching, not just measuring.
        said = self.launch([suite_path.LAUNCHER, "run", "--resume", self.json, "--build", BUILD,
                            "--skip-conformance"],
                           begun={**report, "complete": False, "trials": []})
        self.assertIn("Objective: p50=1s", said)
        self.assertTrue(all(t["steps"] for t in self.report["trials"]))


class Rungs(Real):
    def test_every_rung_of_the_ladder_echoes_every_byte(self):
        """Small and large messages, many in flight, with one core between them."""
        variants = "".join(f'[variant.{name}]\ncommand = "{{rungs}} {name} --listen {{address}}"\n'
                           f'engine = "epoll-{name}"\n'
                           for name in ladder.EPOLL_RUNGS)
        trials, _ = self.bench(
            f'variants = {json.dumps(ladder.EPOLL_RUNGS)}\nbase = "level"\n' + variants +
            '[[cell]]\nname = "large"\nsize = 200000\nconnections = 5\ndepth = 3\n'
            'verify = "full"\n')
        self.check(trials, len(ladder.EPOLL_RUNGS))

    def test_a_rung_refuses_what_it_does_not_know(self):
        """Status 2 and the usage."""
        for words in ((), ("edgy", "--listen", "127.0.0.1:0"), ("edge", "--listen", "nowhere"),
                      ("edge", "--listen", "127.0.0.1:70000"), ("edge", "--port", "1")):
            run = subprocess.run([os.path.join(BUILD, "bench/rungs/weir-rungs"), *words],
                                 capture_output=True, text=True, timeout=60, check=False)
            self.assertEqual((run.returncode, run.stderr[:6]), (2, "usage:"), words)


class Hosts(Real):
    def fake_ssh(self):
        """Runs the command here, as ssh would there, and keeps what it was asked."""
        return self.write("fake_ssh", '#!/bin/sh\nhost=$1; shift\n'
                          f'echo "$host $*" >>{self.folder}/asked\n'
                          'case $host in gone) echo "ssh: no route to gone" >&2; exit 255;; esac\n'
                          'exec sh -c "$*"\n', 0o755)

    def test_two_hosts_share_the_load_and_their_histograms_are_added(self):
        """Connections and rate are divided, results added, percentiles taken from the sum."""
        trials, _ = self.bench(
            'variants = ["epoll"]\n[[cell]]\nname = "a"\nconnections = 5\n'
            '[[cell]]\nname = "b"\nconnections = 4\nrate = 2000\n'
            '[[cell]]\nname = "c"\nconnections = 4\ntransport = "unix"\n',
            "--load-host", "one", "--load-host", "two", "--ssh", self.fake_ssh(),
            "--server-host", "127.0.0.1", "--load-program", os.path.abspath(LOAD))
        self.check(trials, 2)
        self.assertIn("cannot be reached", self.report["skipped"]["c"])
        with open(os.path.join(self.folder, "asked"), encoding="ascii") as file:
            asked = file.read().splitlines()
        shares = {(line.split()[0], int(line.partition("--connections ")[2].split()[0]))
                  for line in asked if "--rate" not in line and "--verify sample" in line}
        self.assertEqual(shares, {("one", 3), ("two", 2)})
        rates = [line.partition("--rate ")[2].split()[0] for line in asked if "--rate" in line]
        self.assertEqual(rates, ["1000", "1000"])
        self.assertEqual(len({line.partition("--seed ")[2].split()[0]
                              for line in asked if "--rate" in line}), 2)
        result = trials["b", "epoll"]["load"]["result"]
        self.assertEqual(result["hosts"], 2)
        self.assertEqual(result["offered_per_s"], 2000)
        histogram = result["histograms"]["response"]
        self.assertEqual(sum(count for _, count in histogram["buckets"]), histogram["count"])
        self.assertGreater(trials["a", "epoll"]["cpu"]["client_share"], 0.02)

    @unittest.skipIf(wire.lacks(), wire.lacks())
    def test_two_hosts_behind_a_wire_share_the_load(self):
        """With a real sshd in a network of its own: every byte of the measured requests comes over
        the wire, the histograms of both are added, a closed and an open loop have results, and
        nothing is left behind."""
        with wire.Wire(self.folder) as other:
            hosts = [word for host in wire.HOSTS for word in ("--load-host", host)]
            options = ["--ssh", other.ssh, "--server-host", veth.SERVER, "--load-program",
                       os.path.abspath(LOAD)]
            trials, _ = self.bench(
                'variants = ["uring"]\n[[cell]]\nname = "closed"\nconnections = 5\n'
                '[[cell]]\nname = "open"\nconnections = 4\nrate = 2000\n', *hosts, *options,
                "--seconds", "0.3", within=other.server)
            self.check(trials, 2)
            done = 0
            for record in trials.values():
                result = record["load"]["result"]
                self.assertEqual(result["hosts"], 2)
                histogram = result["histograms"]["response"] or result["histograms"]["service"]
                self.assertEqual(sum(n for _, n in histogram["buckets"]), histogram["count"])
                done += histogram["count"]
                self.assertTrue(record["metrics"]["server_cpu_ns"] > 0 or disturbed(record), record)
            self.assertGreater(done, 50)
            self.assertGreater(other.received_bytes(), 64 * done)
            closed = trials["closed", "uring"]["server"]["stats"]
            self.assertGreaterEqual(closed["accepts"], 5)
        self.assertEqual(processes_of(self.folder), [])

    def test_a_host_that_cannot_be_reached_is_named(self):
        """With its own words; the trial fails and says which."""
        _, said = self.bench('variants = ["epoll"]\n[[cell]]\nname = "a"\nconnections = 4\n',
                             "--load-host", "one", "--load-host", "gone", "--ssh",
                             self.fake_ssh(), "--server-host", "127.0.0.1", "--load-program",
                             os.path.abspath(LOAD), status=1)
        self.assertIn("trial a epoll block 1", said)
        self.assertIn("gone: status 255: ssh: no route to gone", said)

    def test_percentiles_are_those_of_the_sum(self):
        """Two hosts whose latencies do not overlap: the middle lies in neither's middle."""
        def result(values):
            histogram = {"count": len(values), "below": 0, "above": 0, "sum": sum(values),
                         "min": min(values), "max": max(values),
                         "buckets": [[value, 1] for value in values]}
            return {"ops": len(values), "ops_per_s": 1.0 * len(values), "offered_per_s": None,
                    "requests": {"lost": 1}, "errors": {"reset": 2}, "times": {
                        "interrupted": False}, "client": {"utilization": 0.5},
                    "histograms": {"service": histogram, "response": None}}

        added = spread.add([result(list(range(1, 1001))), result(list(range(5001, 14001)))])
        self.assertEqual((added["ops"], added["errors"]["reset"]), (10000, 4))
        self.assertEqual(added["latency_ns"]["service"]["p50"], 9000)
        self.assertEqual(added["latency_ns"]["service"]["p99"], 13900)
        self.assertIsNone(added["latency_ns"]["service"]["p99.9"])
        self.assertIsNone(added["latency_ns"]["response"])
        self.assertEqual([spread.part(7, at, 3) for at in range(3)], [3, 2, 2])

    def test_a_host_without_an_answer_is_added_all_the_same(self):
        """Its histogram has no ends; without any answer at all the sum has none either."""
        none = {"count": 0, "below": 0, "above": 0, "sum": 0, "min": None, "max": None,
                "buckets": []}
        some = {"count": 1, "below": 0, "above": 0, "sum": 7, "min": 7, "max": 7,
                "buckets": [[7, 1]]}
        for one, other, wanted in ((none, some, (7, 7)), (some, none, (7, 7)),
                                   (none, none, (None, None))):
            added = spread.add_histograms([one, other])
            self.assertEqual((added["min"], added["max"]), wanted)


if __name__ == "__main__":
    unittest.main()
