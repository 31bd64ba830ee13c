"""Looks for what would spoil a run or take a part of it away, and says how to mend it."""

import ctypes
import errno
import os
import resource
import shutil
import subprocess
import time

from . import Problem, cgroup, reflector
from .environment import by_cpu, cpu_info, read_line
from .namespace import LIBC, Namespace
from .sample import Machine
from .veth import Veth

SYS_IO_URING_SETUP = 425   # the same on all architectures but alpha
FILES_WANTED = 4096
MEMLOCK_WANTED = 8 << 20
PORTS_WANTED = 20000
BACKLOG_WANTED = 1024
PARANOID = -1              # perf_event_paranoid: above, tracepoints are the administrator's
PERF_SECONDS = 10
MTU = 1500
BUSY_MAX = 0.05
LOOK_SECONDS = 0.5

GOOD_CLOCKS = ("tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter")


def fine(text):
    return "ok", text, ""


def check_cores():
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) >= 2:
        return fine(f"{len(allowed)} may be used: {', '.join(map(str, allowed))}")
    return ("warn", "one CPU: server and client share it, so ratios shrink",
            "give the machine, container or cpuset a second CPU")


def check_siblings():
    allowed = sorted(os.sched_getaffinity(0))[:2]
    siblings = read_line(f"/sys/devices/system/cpu/cpu{allowed[0]}/topology/thread_siblings_list")
    if len(allowed) < 2 or siblings is None:
        return fine("not known here")
    lists = [part.split("-") for part in siblings.split(",")]
    if any(int(part[0]) <= allowed[1] <= int(part[-1]) for part in lists):
        return ("warn", f"CPUs {allowed[0]} and {allowed[1]} are threads of one core",
                "choose two cores: --server-cpu and --client-cpu")
    return fine(f"CPUs {allowed[0]} and {allowed[1]} are different cores")


def check_load():
    machine = Machine()
    try:
        before, stolen_before = machine.read()
        start, own = time.monotonic_ns(), time.process_time_ns()
        time.sleep(LOOK_SECONDS)
        after, stolen = machine.read()
    finally:
        machine.close()
    passed = time.monotonic_ns() - start
    busy = max(after - before - (time.process_time_ns() - own), 0) / passed
    steal = (stolen - stolen_before) / passed
    text = f"others use {100 * busy:.0f} % of a CPU, {100 * steal:.0f} % is stolen"
    if busy > BUSY_MAX or steal > BUSY_MAX:
        return "warn", text, "end what else is running; `top` names it"
    return fine(text)


def check_io_uring():
    parameters = ctypes.create_string_buffer(120)
    file = LIBC.syscall(SYS_IO_URING_SETUP, 1, parameters)
    if file >= 0:
        os.close(file)
        return fine("a ring can be made")
    code = ctypes.get_errno()
    disabled = read_line("/proc/sys/kernel/io_uring_disabled")
    text = f"no ring can be made: {os.strerror(code)}"
    if code == errno.ENOSYS:
        return "fail", text, "a newer kernel, or a seccomp profile that allows the three calls"
    if disabled not in (None, "0"):
        return ("fail", f"{text}; kernel.io_uring_disabled is {disabled}",
                "sysctl kernel.io_uring_disabled=0")
    if code == errno.ENOMEM:
        return "fail", text, "a higher locked-memory limit: ulimit -l"
    return "fail", text, "a container's seccomp profile forbids it: add the three calls to it"


def check_files():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= FILES_WANTED:
        return fine(f"up to {hard if hard >= 0 else 'any number of'} open files")
    return ("fail", f"at most {hard} open files, {FILES_WANTED} are needed",
            f"ulimit -Hn {FILES_WANTED} as root, or /etc/security/limits.conf")


def check_memlock():
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft == resource.RLIM_INFINITY or soft >= MEMLOCK_WANTED or os.geteuid() == 0:
        return fine("unlimited" if soft < 0 else f"{soft >> 10} KiB")
    return ("warn", f"{soft >> 10} KiB: registered buffers may not fit",
            f"ulimit -l {MEMLOCK_WANTED >> 10}")


def check_namespace():
    try:
        Namespace().close()
    except (Problem, OSError) as error:
        return "warn", f"churn is not run: {error}", "run as root, or allow user namespaces"
    return fine("a network namespace can be made")


def check_clock():
    folder = "/sys/devices/system/clocksource/clocksource0/"
    name = read_line(folder + "current_clocksource")
    start = time.perf_counter_ns()
    for _ in range(1000):
        time.monotonic_ns()
    cost = (time.perf_counter_ns() - start) / 1000
    if name is None or name in GOOD_CLOCKS:
        return fine(f"{name or 'not known'}, {cost:.0f} ns per reading from Python")
    return ("warn", f"{name}: each reading is a system call",
            f"echo tsc > {folder}current_clocksource, if it is in available_clocksource")


def check_backlog():
    values = {name: int(read_line(f"/proc/sys/net/{name}") or 0)
              for name in ("core/somaxconn", "ipv4/tcp_max_syn_backlog")}
    low = {name: value for name, value in values.items() if 0 < value < BACKLOG_WANTED}
    if not low:
        return fine(", ".join(f"{name.split('/')[1]} {value}" for name, value in values.items()))
    return ("warn", ", ".join(f"{name} is {value}" for name, value in low.items()),
            " ".join(["sysctl", *(f"net.{name.replace('/', '.')}={BACKLOG_WANTED}"
                                  for name in low)]))


def check_ports():
    first, last = map(int, read_line("/proc/sys/net/ipv4/ip_local_port_range").split())
    if last - first >= PORTS_WANTED:
        return fine(f"{first} to {last}")
    return ("warn", f"only {first} to {last}: many connections to one address will not fit",
            "sysctl net.ipv4.ip_local_port_range='10000 65535'")


def check_frequency():
    governors = by_cpu("/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")
    if not governors or governors == ["performance"]:
        return fine(governors[0] if governors else "not governed from here")
    return ("warn", f"governor {', '.join(governors)}: the clock changes with the load",
            "cpupower frequency-set -g performance")


def check_machine():
    model, virtual = cpu_info()
    if virtual:
        return ("ok", f"{model}, a virtual machine: neighbours make noise, trust only ratios", "")
    return fine(model)


def check_veth():
    if shutil.which("ip") is None:
        return ("warn", "cells over a veth pair are not run: ip is not installed",
                "install iproute2")
    try:
        Veth(MTU).close()
    except (Problem, OSError) as error:
        return ("warn", f"cells over a veth pair are not run: {error}",
                "run as root, in a container with CAP_NET_ADMIN and CAP_SYS_ADMIN")
    return fine("a pair can be made")


def check_groups():
    if reason := cgroup.lacks():
        return ("warn", "servers whose processes come and go are measured by trials, in steps of "
                f"10 ms: {reason}", "run as root, or in a group that was given to you")
    return fine("a group that counts CPU time can be made")


def check_bpf():
    if reason := reflector.works():
        return ("warn", f"the kernel cannot reflect, so the load's ceiling is not known: {reason}",
                "run as root, where bpf(2) is allowed")
    return fine("the kernel can reflect, for the load's ceiling")


def perf_refuses(event):
    """Why perf cannot count that event here, by its own words; None if it can."""
    try:
        said = subprocess.run(["perf", "stat", "-e", event, "true"], capture_output=True, text=True,
                              env={**os.environ, "LC_ALL": "C"}, timeout=PERF_SECONDS,
                              check=False)
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    if said.returncode == 0:
        return "it is not supported" if "<not" in said.stderr else None
    words = [line.strip() for line in said.stderr.splitlines() if line.strip(" \n:") != "Error"]
    return next(filter(None, words), f"perf ended with status {said.returncode}")


def check_perf():
    if shutil.which("perf") is None:
        return ("warn", "explain has no profile and no counts: perf is not installed",
                "install linux-perf (linux-tools on Ubuntu)")
    for event, lost in (("cpu-clock", "profile and no counts"),
                        ("raw_syscalls:sys_enter", "counts")):
        if reason := perf_refuses(event):
            level = read_line("/proc/sys/kernel/perf_event_paranoid")
            return ("warn", f"explain has no {lost}: {reason} (kernel.perf_event_paranoid is "
                    f"{level})", f"run as root, or sysctl kernel.perf_event_paranoid={PARANOID}; "
                    "in a container also CAP_PERFMON and a seccomp profile that allows "
                    "perf_event_open")
    return fine("explain can profile and count")


CHECKS = (
    ("CPUs", check_cores), ("cores", check_siblings), ("machine", check_machine),
    ("frequency", check_frequency), ("other load", check_load), ("clock", check_clock),
    ("io_uring", check_io_uring), ("file limit", check_files), ("locked memory", check_memlock),
    ("namespaces", check_namespace), ("backlog", check_backlog), ("ports", check_ports),
    ("veth", check_veth), ("control groups", check_groups), ("BPF", check_bpf),
    ("perf", check_perf),
)


def programs_row(name, path):
    if path:
        return name, "ok", path, ""
    return name, "fail", "not found", "./do build, or --build FOLDER"


def examine(programs):
    """Returns rows of (name, verdict, text, fix)."""
    return [*((name, *check()) for name, check in CHECKS),
            *(programs_row(name, path) for name, path in programs.items())]


def as_text(rows):
    lines = []
    for name, verdict, text, fix in rows:
        lines.append(f"{verdict:<5} {name:<14} {text}")
        if fix:
            lines.append(f"{'':20} mend it: {fix}")
    return "\n".join(lines) + "\n"
