"""`weir-bench doctor`: each of its checks is provoked, and says what to do."""

import errno
import json
import os
import resource
import subprocess
import unittest
from types import SimpleNamespace
from unittest import mock

import suite_path
from run_fixture import RunFixture
from weir_bench import Problem, doctor


class Counters:
    """A machine whose others use half a CPU, or from which as much is stolen."""

    def __init__(self, used, stolen):
        self.now, self.used, self.stolen = -1, used, stolen

    def read(self):
        self.now += 1
        passed = self.now * doctor.LOOK_SECONDS * 1e9
        return passed * self.used, passed * self.stolen

    def close(self):
        pass


class NoSystemCall:
    def __init__(self, code):
        self.code = code

    def syscall(self, *_):
        doctor.ctypes.set_errno(self.code)
        return -1


def replaced(name, value):
    return mock.patch.object(doctor, name, value)


def lines(**found):
    """read_line() that finds these by a part of their path, and nothing else."""
    return replaced("read_line", lambda path: next(
        (text for part, text in found.items() if part in path), None))


def limit(soft, hard):
    return mock.patch.object(doctor.resource, "getrlimit", lambda _: (soft, hard))


def no_namespace():
    raise Problem("no network namespace: Operation not permitted")


def no_veth(mtu):
    raise Problem("ip link add veth0: Operation not permitted")


class Closable:
    def close(self):
        pass


REFUSED = "Error:\nNo permission to enable raw_syscalls:sys_enter event.\n\nThe default is 2\n"


def perf_that_refuses(word, status, said):
    """A perf that ends and says so for the events with that word, and counts all others."""
    def run(command, **_):
        refused = word in command[3]
        return SimpleNamespace(returncode=status if refused else 0, stderr=said if refused else "")
    return mock.patch.object(doctor.subprocess, "run", run)


CPUS = {n: mock.patch.object(doctor.os, "sched_getaffinity", lambda _, n=n: set(range(n)))
        for n in (1, 2)}
USER = mock.patch.object(doctor.os, "geteuid", lambda: 1000)
NOTHING_INSTALLED = mock.patch.object(doctor.shutil, "which", lambda _: None)
INSTALLED = mock.patch.object(doctor.shutil, "which", lambda name: "/usr/bin/" + name)

# The check, what surrounds it, its verdict, and a word of its text and of its fix.
CASES = (
    (doctor.check_cores, [CPUS[1]], "warn", "one CPU", "second CPU"),
    (doctor.check_cores, [CPUS[2]], "ok", "2 may be used: 0, 1", ""),
    (doctor.check_siblings, [CPUS[2], lines(siblings="0-1")], "warn", "threads of one core",
     "--server-cpu"),
    (doctor.check_siblings, [CPUS[2], lines(siblings="0,2")], "ok", "different cores", ""),
    (doctor.check_siblings, [CPUS[2], lines()], "ok", "not known", ""),
    (doctor.check_load, [replaced("LOOK_SECONDS", 0.02),
                         replaced("Machine", lambda: Counters(0.5, 0))],
     "warn", "others use", "end what else is running"),
    (doctor.check_load, [replaced("LOOK_SECONDS", 0.02),
                         replaced("Machine", lambda: Counters(0, 0.5))],
     "warn", "is stolen", "end what else is running"),
    (doctor.check_load, [replaced("LOOK_SECONDS", 0.02),
                         replaced("Machine", lambda: Counters(0, 0))], "ok", "use 0 %", ""),
    (doctor.check_io_uring, [replaced("LIBC", NoSystemCall(errno.ENOSYS)), lines()],
     "fail", "not implemented", "newer kernel"),
    (doctor.check_io_uring, [replaced("LIBC", NoSystemCall(errno.EPERM)),
                             lines(io_uring_disabled="2")],
     "fail", "io_uring_disabled is 2", "sysctl kernel.io_uring_disabled=0"),
    (doctor.check_io_uring, [replaced("LIBC", NoSystemCall(errno.EPERM)),
                             lines(io_uring_disabled="0")],
     "fail", "not permitted", "seccomp profile"),
    (doctor.check_io_uring, [replaced("LIBC", NoSystemCall(errno.ENOMEM)), lines()],
     "fail", "memory", "ulimit -l"),
    (doctor.check_files, [limit(1024, 1024)], "fail", "at most 1024", "ulimit -Hn 4096"),
    (doctor.check_files, [limit(1024, resource.RLIM_INFINITY)], "ok", "any number", ""),
    (doctor.check_memlock, [USER, limit(65536, 65536)], "warn", "64 KiB", "ulimit -l 8192"),
    (doctor.check_memlock, [USER, limit(resource.RLIM_INFINITY, resource.RLIM_INFINITY)],
     "ok", "unlimited", ""),
    (doctor.check_namespace, [replaced("Namespace", no_namespace)], "warn", "churn is not run",
     "run as root"),
    (doctor.check_clock, [lines(current_clocksource="hpet")], "warn", "a system call", "echo tsc"),
    (doctor.check_clock, [lines(current_clocksource="tsc")], "ok", "tsc", ""),
    (doctor.check_backlog, [lines(somaxconn="128", tcp_max_syn_backlog="4096")],
     "warn", "somaxconn is 128", "sysctl net.core.somaxconn=1024"),
    (doctor.check_backlog, [lines(somaxconn="4096", tcp_max_syn_backlog="4096")],
     "ok", "somaxconn 4096", ""),
    (doctor.check_ports, [lines(ip_local_port_range="32768\t40000")], "warn", "32768 to 40000",
     "ip_local_port_range="),
    (doctor.check_ports, [lines(ip_local_port_range="10000 65000")], "ok", "10000 to 65000", ""),
    (doctor.check_frequency, [replaced("by_cpu", lambda _: ["performance", "powersave"])],
     "warn", "performance, powersave", "cpupower"),
    (doctor.check_frequency, [replaced("by_cpu", lambda _: ["performance"])], "ok",
     "performance", ""),
    (doctor.check_machine, [replaced("cpu_info", lambda: ("a CPU", True))], "ok",
     "virtual machine", ""),
    (doctor.check_machine, [replaced("cpu_info", lambda: ("a CPU", False))], "ok", "a CPU", ""),
    (doctor.check_veth, [NOTHING_INSTALLED], "warn", "ip is not installed", "iproute2"),
    (doctor.check_veth, [INSTALLED, replaced("Veth", no_veth)], "warn",
     "veth pair are not run: ip link add veth0: Operation not permitted", "CAP_NET_ADMIN"),
    (doctor.check_veth, [INSTALLED, replaced("Veth", lambda mtu: Closable())], "ok", "a pair", ""),
    (doctor.check_groups, [mock.patch.object(doctor.cgroup, "lacks", lambda: "no hierarchy")],
     "warn", "come and go are measured by trials, in steps of 10 ms: no hierarchy", "run as root"),
    (doctor.check_groups, [mock.patch.object(doctor.cgroup, "lacks", lambda: None)],
     "ok", "can be made", ""),
    (doctor.check_bpf, [mock.patch.object(doctor.reflector, "works", lambda: "not permitted")],
     "warn", "ceiling is not known: not permitted", "bpf(2)"),
    (doctor.check_bpf, [mock.patch.object(doctor.reflector, "works", lambda: None)],
     "ok", "can reflect", ""),
    (doctor.check_perf, [NOTHING_INSTALLED], "warn", "perf is not installed", "linux-perf"),
    (doctor.check_perf, [INSTALLED, perf_that_refuses("raw", 255, REFUSED),
                         lines(perf_event_paranoid="2")], "warn",
     "no counts: No permission to enable raw_syscalls:sys_enter event. "
     "(kernel.perf_event_paranoid is 2)", "kernel.perf_event_paranoid=-1"),
    (doctor.check_perf, [INSTALLED, perf_that_refuses("cpu-clock", 255, ""), lines()], "warn",
     "no profile and no counts: perf ended with status 255", "perf_event_open"),
    (doctor.check_perf, [INSTALLED, perf_that_refuses("cpu-clock", 0, "<not supported> cpu-clock"),
                         lines()], "warn", "no profile and no counts: it is not supported", "root"),
    (doctor.check_perf, [INSTALLED, perf_that_refuses("nothing", 0, ""), lines()], "ok",
     "profile", ""),
)


class Checks(unittest.TestCase):
    def test_what_would_spoil_a_run_is_named_with_its_fix(self):
        """Each check in each of its states; what is fine needs no fix."""
        for check, surroundings, verdict, text, fix in CASES:
            with self.subTest(check=check.__name__, text=text):
                for patch in surroundings:
                    patch.start()
                try:
                    found = check()
                finally:
                    for patch in reversed(surroundings):
                        patch.stop()
                self.assertEqual(found[0], verdict, found)
                self.assertIn(text.lower(), found[1].lower())
                self.assertIn(fix, found[2])
                self.assertEqual(bool(fix), bool(found[2]), found)

    def test_every_check_is_provoked(self):
        """A new one needs new lines above, and one that can fail needs the line where it does."""
        self.assertEqual({check for _, check in doctor.CHECKS}, {case[0] for case in CASES})


class Command(RunFixture):
    def doctor(self, *arguments):
        return subprocess.run([suite_path.LAUNCHER, "doctor", *arguments], capture_output=True,
                              text=True, timeout=300, check=False)

    def test_every_check_has_a_line(self):
        """As text and as JSON; a program that is missing fails, with the command that builds it."""
        said = self.doctor("--json", "--build", self.folder)
        rows = {row["check"]: row for row in json.loads(said.stdout)}
        names = [name for name, _ in doctor.CHECKS]
        self.assertEqual(list(rows), [*names, "weir", "weir-load", "weir-rungs"])
        self.assertEqual(said.returncode, int(any(r["verdict"] == "fail" for r in rows.values())))
        os.unlink(os.path.join(self.folder, "weir-load"))
        said = self.doctor("--build", self.folder)
        self.assertEqual(said.returncode, 1)
        self.assertRegex(said.stdout, r"fail +weir-load +not found\n +mend it: ./do build")
        for name in names:
            self.assertRegex(said.stdout, rf"(?m)^(ok|warn|fail) +{name} ")


if __name__ == "__main__":
    unittest.main()
