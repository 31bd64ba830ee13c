#!/usr/bin/python3
"""Compares `weir ftp` with vsftpd on this machine, in interleaved blocks, and prints medians.

usage: compare.py --build DIR [--engine NAME] [--vsftpd PATH] [--blocks N] [--json FILE] WORK...

Needs root (vsftpd), curl and two CPUs: servers run on CPU 1, clients on CPU 0. Files lie in
/dev/shm, so that no disk takes part. Both servers serve anonymous users with their defaults.
weir-bench run ftp (bench/scenarios/ftp.toml) has less of the client in its figures; this is for
what it has not: curl, what other sessions wait for while passwords are hashed, memory, and
commands that a process of its own asks for beside a download.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

GIB = 1 << 30
LIMIT = 60
VSFTPD_CONFIG = """listen=YES
listen_address=127.0.0.1
listen_port={port}
background=NO
anonymous_enable=YES
local_enable=NO
no_anon_password=NO
anon_root={root}
write_enable=YES
anon_upload_enable=YES
anon_mkdir_write_enable=YES
anon_other_write_enable=YES
anon_umask=022
secure_chroot_dir={empty}
xferlog_enable=NO
max_clients=0
max_per_ip=0
"""


class Folder:
    """What is served: large, small and a place to write."""

    def __init__(self):
        self.top = tempfile.mkdtemp(prefix="weir-", dir="/dev/shm")
        os.chmod(self.top, 0o755)
        self.root = os.path.join(self.top, "root")
        for name in ("root", "root/up", "root/small", "empty"):
            os.mkdir(os.path.join(self.top, name))
        os.chmod(os.path.join(self.root, "up"), 0o777)
        # A virtual machine pays for memory that it never used before: nobody's block shall.
        os.unlink(self.large("warm", 3 * GIB))

    def large(self, name="large", size=GIB):
        path = os.path.join(self.root, name)
        if not os.path.exists(path):
            block = os.urandom(1 << 20)
            with open(path, "wb") as file:
                for _ in range(size >> 20):
                    file.write(block)
        return path

    def small(self, count):
        for number in range(count):
            path = os.path.join(self.root, "small", str(number))
            if not os.path.exists(path):
                with open(path, "wb") as file:
                    file.write(os.urandom(4096))

    def remove(self):
        shutil.rmtree(self.top)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Server:
    """A running server; all its processes are in a control group of their own."""

    def __init__(self, name, command, port, load_program):
        self.name = name
        self.port = port
        self.load_program = load_program
        # A forking server's children are counted by their group; it does not wait for them itself.
        self.group = f"/sys/fs/cgroup/cpuacct/weir-compare-{os.getpid()}"
        os.makedirs(self.group, exist_ok=True)
        join = f'echo $$ >{self.group}/cgroup.procs; exec taskset -c 1 "$@"'
        self.process = subprocess.Popen(["sh", "-c", join, "sh", *command],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        start_new_session=True)
        deadline = time.monotonic() + LIMIT
        while True:
            try:
                Session(self).close()
                break
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise SystemExit(f"{name} does not start") from None

    def processes(self):
        """The ids of all processes of the server."""
        with open(os.path.join(self.group, "cgroup.procs"), encoding="ascii") as file:
            return [int(line) for line in file]

    def cpu(self):
        """Seconds of CPU that the server's processes had, also those that ended."""
        with open(os.path.join(self.group, "cpuacct.usage"), encoding="ascii") as file:
            return int(file.read()) / 1e9

    def memory(self):
        """Bytes that all processes hold, shared ones in part (PSS)."""
        total = 0
        for pid in self.processes():
            try:
                with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
                    total += sum(int(line.split()[1]) for line in file if line.startswith("Pss:"))
            except OSError:  # it is ending
                pass
        return total * 1024

    def url(self, path):
        return f"ftp://127.0.0.1:{self.port}/{path}"

    def load(self, *options, real_time=False):
        """weir-load with its sessions here. With real_time it does not wait for the processor that
        it shares with the other clients."""
        wrapper = ["chrt", "--fifo", "1"] if real_time else []
        return subprocess.Popen([*wrapper, self.load_program, "ftp", "--json", "-", "--connect",
                                 f"127.0.0.1:{self.port}", *options],
                                stdout=subprocess.PIPE, text=True)

    def end(self):
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(LIMIT)
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            try:
                os.rmdir(self.group)
                return
            except OSError:  # sessions that are still ending
                time.sleep(0.02)


class Session:
    """A control connection of few system calls."""

    def __init__(self, server):
        self.socket = socket.create_connection(("127.0.0.1", server.port), LIMIT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reply()

    def reply(self):
        data = b""
        while not data.endswith(b"\r\n"):
            more = self.socket.recv(4096)
            if not more:
                raise OSError("the server ended the connection")
            data += more
        return data

    def ask(self, command):
        self.socket.sendall(command.encode() + b"\r\n")
        return self.reply()

    def login(self, user="anonymous", password="x"):
        self.ask(f"USER {user}")
        if not (reply := self.ask(f"PASS {password}")).startswith(b"230"):
            raise OSError(reply)
        return self

    def close(self):
        self.socket.close()


def curl(*arguments):
    return subprocess.Popen(["curl", "--silent", "--show-error", "--max-time", str(LIMIT),
                             *arguments], stdout=subprocess.DEVNULL)


def finish(clients):
    for client in clients:
        # Without a time limit: with one, Python looks every 50 ms, a tenth of a transfer.
        if client.wait():
            raise SystemExit(f"curl failed with {client.returncode}")


def report(load):
    """What a weir-load wrote; none of its requests may have failed."""
    output = json.loads(load.communicate(timeout=LIMIT)[0])
    if load.returncode:
        raise SystemExit(f"weir-load failed: {output['errors']}")
    return output


def percentile(buckets, share):
    """Of pairs of a value and how many had it."""
    left = share * sum(count for _, count in buckets)
    for value, count in buckets:
        left -= count
        if left <= 0:
            return value
    return buckets[-1][0]


def waits(output, prefix):
    """Response times, from when a command was due."""
    response = output["histograms"]["response"]
    buckets = response["buckets"]
    return {f"{prefix} p50 ms": percentile(buckets, 0.5) / 1e6,
            f"{prefix} p99 ms": percentile(buckets, 0.99) / 1e6,
            f"{prefix} p99.9 ms": percentile(buckets, 0.999) / 1e6,
            f"{prefix} max ms": response["max"] / 1e6,
            f"{prefix} above 5 ms": sum(count for value, count in buckets if value >= 5e6),
            f"{prefix} commands": response["count"]}


def timed(server, action):
    """Seconds, and the server's seconds of CPU."""
    cpu, begin = server.cpu(), time.monotonic()
    action()
    seconds = time.monotonic() - begin
    time.sleep(0.05)  # until the server has ended the sessions too
    return seconds, server.cpu() - cpu


# --- The works: each returns a dict of figures ---------------------------------------------------


def work_retr(server, folder):
    folder.large()
    seconds, cpu = timed(server, lambda: finish([curl("-o", "/dev/null", server.url("large"))]))
    return {"GiB/s": 1 / seconds, "CPU s/GiB": cpu}


def work_retr16(server, folder):
    folder.large("part", GIB // 8)
    seconds, cpu = timed(server, lambda: finish(
        [curl("-o", "/dev/null", server.url("part")) for _ in range(16)]))
    return {"GiB/s": 2 / seconds, "CPU s/GiB": cpu / 2}


def work_stor(server, folder):
    """To a name that is not there, into pages that were free for no more than a moment: a virtual
    machine gives back to its host what nobody uses for two seconds, and one that was given back
    costs whoever writes next several times what the write does."""
    path = folder.large()
    os.unlink(folder.large("warm"))
    seconds, cpu = timed(server, lambda: finish([curl("-T", path, server.url("up/large"))]))
    os.unlink(os.path.join(folder.root, "up", "large"))
    return {"GiB/s": 1 / seconds, "CPU s/GiB": cpu}


def work_replace(server, folder):
    """To a name that is there. weir keeps the old file until it has the new one, vsftpd empties it
    first, and writes into the same pages again."""
    finish([curl("-T", folder.large(), server.url("up/large"))])
    return work_stor(server, folder)


def work_small(server, folder, count=1000):
    folder.small(count)
    config = os.path.join(folder.top, "config")
    with open(config, "w", encoding="ascii") as file:
        for number in range(count):
            file.write(f'url = "{server.url(f"small/{number}")}"\noutput = "/dev/null"\n')
    seconds, cpu = timed(server, lambda: finish([curl("--config", config)]))
    return {"files/s": count / seconds, "CPU us/file": cpu / count * 1e6}


def work_login(server, _folder, count=200):
    def logins():
        for _ in range(count):
            session = Session(server).login()
            session.ask("QUIT")
            session.close()

    seconds, cpu = timed(server, logins)
    return {"ms/login": seconds / count * 1e3, "CPU ms/login": cpu / count * 1e3}


def work_idle(server, _folder):
    count = 2000 if server.name.startswith("weir") else 200
    before = server.memory()
    sessions = [Session(server).login() for _ in range(count)]
    size = server.memory() - before
    for session in sessions:
        session.close()
    return {"KiB/session": size / count / 1024}


def work_commands(server, folder):
    """NOOP of 100 sessions, 2,000 a second, while somebody else downloads: asked by a process that
    shares the downloader's processor, then by one that does not wait for it."""
    folder.large()
    figures = {}
    for prefix in ("ordinary", "real-time"):
        download = server.load("--path", "/large", "--verify", "none", "--warmup", "0",
                               "--duration", "5")
        asked = server.load("--operation", "noop", "--connections", "100", "--rate", "2000",
                            "--warmup", "1.5", "--duration", "2.5",
                            real_time=prefix == "real-time")
        figures |= waits(report(asked), prefix)
        figures[f"{prefix} beside GB/s"] = report(download)["bytes"] / 5e9
    return figures


def hashed_logins(server, count=200, at_once=10):
    """Seconds that so many logins with a hash take, ten at once."""
    begin = time.monotonic()
    for _ in range(count // at_once):
        clients = [Session(server) for _ in range(at_once)]
        for client in clients:
            client.ask("USER hashed")
            client.socket.sendall(b"PASS secret\r\n")
        for client in clients:
            if not (answer := client.reply()).startswith(b"230"):
                raise SystemExit(f"the login failed: {answer}")
            client.close()
    return time.monotonic() - begin


def noops_beside(server, action):
    """What action() returns, and the report of ten sessions that ask for 2,000 NOOP a second from
    before it begins until behind its end."""
    others = server.load("--operation", "noop", "--connections", "10", "--rate", "2000", "--warmup",
                         "0.2", "--duration", str(LIMIT), real_time=True)
    time.sleep(0.5)  # until its sessions stand
    result = action()
    others.send_signal(signal.SIGINT)
    return result, report(others)


def work_beside(server, folder):
    """What others wait for while somebody uploads, again and again to one name."""
    path = folder.large()
    _, beside = noops_beside(server, lambda: [
        finish([curl("-T", path, server.url("up/large"))]) for _ in range(3)])
    os.unlink(os.path.join(folder.root, "up", "large"))
    return waits(beside, "others")


def work_hashes(server, _folder, count=200):
    """Only weir: what others wait for while many log in with hashes, and, for as long, without any:
    a hypervisor lets them wait, too."""
    seconds, beside = noops_beside(server, lambda: hashed_logins(server, count))
    _, without = noops_beside(server, lambda: time.sleep(seconds))
    return {"logins/s": count / seconds, **waits(beside, "others"), **waits(without, "without")}


WORKS = {name.removeprefix("work_"): function for name, function in list(globals().items())
         if name.startswith("work_")}

# --- Blocks --------------------------------------------------------------------------------------


def weir_command(arguments, folder, port, engine):
    weir = os.path.join(arguments.build, "servers", "weir")
    hashed = subprocess.run([weir, "passwd", "--user", "hashed"], input="secret\n",
                            capture_output=True, text=True, check=True).stdout.strip()
    return [weir, "ftp", "--listen", f"127.0.0.1:{port}", "--engine", engine, "--root",
            folder.root, "--anonymous", "--anonymous-write", "--user", hashed]


def start(name, arguments, folder):
    port = free_port()
    load = os.path.join(arguments.build, "bench", "load", "weir-load")
    if name != "vsftpd":
        engine = name.removeprefix("weir ")
        return Server(name, weir_command(arguments, folder, port, engine), port, load)
    config = os.path.join(folder.top, "vsftpd.conf")
    with open(config, "w", encoding="ascii") as file:
        file.write(VSFTPD_CONFIG.format(port=port, root=folder.root,
                                        empty=os.path.join(folder.top, "empty")))
    return Server(name, [arguments.vsftpd, config], port, load)


def measure(work, names, arguments, folder):
    """Prints medians, and returns every block's figures."""
    figures = {name: {} for name in names}
    for block in range(arguments.blocks):
        # Each block begins with another server.
        for name in names[block % len(names):] + names[:block % len(names)]:
            server = start(name, arguments, folder)
            try:
                for figure, value in WORKS[work](server, folder).items():
                    figures[name].setdefault(figure, []).append(value)
            finally:
                server.end()
    for name in names:
        for figure, values in figures[name].items():
            print(f"{work:9} {name:14} {figure:14} {statistics.median(values):10.3f}   "
                  f"({min(values):.3f} to {max(values):.3f})", flush=True)
    return figures


def keep(arguments, started, figures):
    """Everything, with what it takes to do it again."""
    machine = os.uname()
    with open(arguments.json, "w", encoding="ascii") as file:
        json.dump({"command": f"compare.py {' '.join(arguments.words)}", "started": started,
                   "kernel": f"{machine.sysname} {machine.release}",
                   "cpus": os.cpu_count(), "python": platform.python_version(),
                   "figures": figures}, file)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--build", required=True, help="with the programs, such as build/release")
    parser.add_argument("--vsftpd", default="/usr/sbin/vsftpd")
    parser.add_argument("--engine", action="append", help="repeatable; default uring")
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--alone", action="store_true", help="without vsftpd")
    parser.add_argument("--json", metavar="FILE", help="every figure of every block")
    parser.add_argument("works", nargs="+", choices=sorted(WORKS), metavar="WORK")
    arguments = parser.parse_args()
    arguments.words = sys.argv[1:]
    started, figures = time.strftime("%Y-%m-%d %H:%M:%S %z"), {}
    os.sched_setaffinity(0, {0})
    # So that a time limit around this program ends servers and folders too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    names = [f"weir {engine}" for engine in arguments.engine or ["uring"]]
    if not arguments.alone:
        names.append("vsftpd")
    folder = Folder()
    try:
        for work in arguments.works:
            figures[work] = measure(work, names, arguments, folder)
        if arguments.json:
            keep(arguments, started, figures)
    finally:
        folder.remove()
    return 0


if __name__ == "__main__":
    sys.exit(main())
