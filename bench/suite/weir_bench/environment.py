"""What a number depends on besides the programs: read once, and kept with the numbers."""

import glob
import hashlib
import os
import platform
import re
import resource
import subprocess
import sys

SYSCTLS = (
    "kernel/io_uring_disabled", "kernel/sched_rt_runtime_us",
    "net/core/somaxconn", "net/core/busy_poll", "net/core/busy_read",
    "net/core/rmem_max", "net/core/wmem_max",
    "net/ipv4/tcp_congestion_control", "net/ipv4/tcp_max_syn_backlog", "net/ipv4/tcp_rmem",
    "net/ipv4/tcp_wmem", "net/ipv4/tcp_autocorking", "net/ipv4/tcp_tw_reuse",
    "net/ipv4/ip_local_port_range",
)


def read_line(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return None


def cpu_info():
    """Returns (model, whether a hypervisor runs below)."""
    text = read_line("/proc/cpuinfo") or ""
    found = re.search(r"^(?:model name|Model|Processor)\s*: (.*)", text, re.M)
    flags = re.search(r"^flags\s*: (.*)", text, re.M)
    return (found[1] if found else platform.machine(),
            bool(flags and "hypervisor" in flags[1].split()))


def limit(kind):
    return ["unlimited" if n == resource.RLIM_INFINITY else n
            for n in resource.getrlimit(kind)]


def first_line_of(*command, folder=None):
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=5, cwd=folder,
                              check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return said.stdout.strip() if said.returncode == 0 else None


def digest(path):
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def source_version():
    """The commit of the source tree that this file is in; None when it is installed elsewhere."""
    folder = os.path.dirname(os.path.realpath(__file__))
    commit = first_line_of("git", "rev-parse", "HEAD", folder=folder)
    if commit is None:
        return None
    changed = first_line_of("git", "status", "--porcelain", "--untracked-files=no", folder=folder)
    return {"commit": commit, "changed": bool(changed)}


def by_cpu(pattern):
    """The distinct contents of files that exist once per CPU."""
    return sorted({read_line(path) for path in glob.glob(pattern)} - {None})


def collect(programs):
    """`programs` are paths by name."""
    model, virtual = cpu_info()
    vulnerabilities = "/sys/devices/system/cpu/vulnerabilities"
    cpu = "/sys/devices/system/cpu"
    return {
        "kernel": platform.release(), "kernel_build": platform.version(),
        "kernel_command_line": read_line("/proc/cmdline"),
        "machine": platform.machine(), "cpu_model": model, "virtual": virtual,
        "cpus": os.sysconf("SC_NPROCESSORS_ONLN"), "affinity": sorted(os.sched_getaffinity(0)),
        "smt": read_line(f"{cpu}/smt/active"),
        "governor": by_cpu(f"{cpu}/cpu[0-9]*/cpufreq/scaling_governor"),
        "clock_source": read_line("/sys/devices/system/clocksource/clocksource0/"
                                  "current_clocksource"),
        "mitigations": {name: read_line(f"{vulnerabilities}/{name}")
                        for name in sorted(os.listdir(vulnerabilities))}
        if os.path.isdir(vulnerabilities) else {},
        "transparent_huge_pages": read_line("/sys/kernel/mm/transparent_hugepage/enabled"),
        "sysctl": {name: read_line(f"/proc/sys/{name}") for name in SYSCTLS},
        "limits": {"files": limit(resource.RLIMIT_NOFILE),
                   "memlock": limit(resource.RLIMIT_MEMLOCK)},
        "load_average": os.getloadavg(),
        "user_is_root": os.geteuid() == 0,
        "distribution": distribution(),
        "python": sys.version.split()[0],
        "programs": {name: {"path": path, "sha256": digest(path),
                            "version": first_line_of(path, "--version")}
                     for name, path in programs.items() if path},
        "source": source_version(),
    }


def reference_of(programs, command):
    """What tells whether the base of another run was the same: its command and its programs'
    contents, wherever they lie."""
    words, contents = [], {}
    for word in command.split():
        program = programs.get({"{weir}": "weir", "{rungs}": "weir-rungs"}.get(word, ""), word)
        is_file = bool(program) and os.path.isfile(program)
        words.append(os.path.basename(program) if is_file else word)
        if is_file:
            contents[words[-1]] = digest(program)
    return {"command": " ".join(words), "programs": contents}


def distribution():
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:
        return None
