#!/usr/bin/python3
"""Compares `weir ftp` with vsftpd on this machine, in interleaved blocks, and prints medians.

usage: compare.py --weir PATH [--engine NAME] [--vsftpd PATH] [--blocks N] WORK...

Needs root (vsftpd), curl and two CPUs: servers run on CPU 1, clients on CPU 0. Files lie in
/dev/shm, so that no disk takes part. Both servers serve anonymous users with their defaults.
"""

import argparse
import os
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

    def __init__(self, name, command, port):
        self.name = name
        self.port = port
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
    return subprocess.Popen(["curl", "--silent", "--show-error", *arguments],
                            stdout=subprocess.DEVNULL)


def finish(clients):
    for client in clients:
        if client.wait(LIMIT):
            raise SystemExit(f"curl failed with {client.returncode}")


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
    path = folder.large()
    seconds, cpu = timed(server, lambda: finish([curl("-T", path, server.url("up/large"))]))
    os.unlink(os.path.join(folder.root, "up", "large"))
    return {"GiB/s": 1 / seconds, "CPU s/GiB": cpu}


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


def percentile(values, share):
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def work_commands(server, folder):
    folder.large()
    sessions = [Session(server).login() for _ in range(100)]
    transfer = curl("-o", "/dev/null", server.url("large"), "-o", "/dev/null", server.url("large"))
    waits = []
    while transfer.poll() is None:
        for session in sessions:
            begin = time.monotonic()
            session.ask("NOOP")
            waits.append(time.monotonic() - begin)
    for session in sessions:
        session.close()
    return {"p50 ms": percentile(waits, 0.5) * 1e3, "p99 ms": percentile(waits, 0.99) * 1e3,
            "max ms": max(waits) * 1e3}


def work_hashes(server, _folder, count=100, at_once=10):
    """Only weir: others' waits while many log in with hashes."""
    other, waits, begin = Session(server).login(), [], time.monotonic()
    for _ in range(count // at_once):
        clients = [Session(server) for _ in range(at_once)]
        for client in clients:
            client.ask("USER hashed")
            client.socket.sendall(b"PASS secret\r\n")
            client.socket.setblocking(False)
        while clients:
            start = time.monotonic()
            other.ask("CWD /")
            waits.append(time.monotonic() - start)
            clients = [client for client in clients if not answered(client)]
            time.sleep(0.001)
    seconds = time.monotonic() - begin
    return {"logins/s": count / seconds, "other p99 ms": percentile(waits, 0.99) * 1e3,
            "other max ms": max(waits) * 1e3}


def answered(client):
    try:
        reply = client.socket.recv(4096)
    except BlockingIOError:
        return False
    if not reply.startswith(b"230"):
        raise SystemExit(f"the login failed: {reply}")
    client.close()
    return True


WORKS = {name.removeprefix("work_"): function for name, function in list(globals().items())
         if name.startswith("work_")}

# --- Blocks --------------------------------------------------------------------------------------


def weir_command(arguments, folder, port, engine):
    hashed = subprocess.run([arguments.weir, "passwd", "--user", "hashed"], input="secret\n",
                            capture_output=True, text=True, check=True).stdout.strip()
    return [arguments.weir, "ftp", "--listen", f"127.0.0.1:{port}", "--engine", engine, "--root",
            folder.root, "--anonymous", "--anonymous-write", "--user", hashed]


def start(name, arguments, folder):
    port = free_port()
    if name != "vsftpd":
        engine = name.removeprefix("weir ")
        return Server(name, weir_command(arguments, folder, port, engine), port)
    config = os.path.join(folder.top, "vsftpd.conf")
    with open(config, "w", encoding="ascii") as file:
        file.write(VSFTPD_CONFIG.format(port=port, root=folder.root,
                                        empty=os.path.join(folder.top, "empty")))
    return Server(name, [arguments.vsftpd, config], port)


def measure(work, names, arguments, folder):
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--weir", required=True)
    parser.add_argument("--vsftpd", default="/usr/sbin/vsftpd")
    parser.add_argument("--engine", action="append", help="repeatable; default uring")
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--alone", action="store_true", help="without vsftpd")
    parser.add_argument("works", nargs="+", choices=sorted(WORKS), metavar="WORK")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {0})
    # So that a time limit around this program ends servers and folders too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    names = [f"weir {engine}" for engine in arguments.engine or ["uring"]]
    if not arguments.alone:
        names.append("vsftpd")
    folder = Folder()
    try:
        for work in arguments.works:
            measure(work, names, arguments, folder)
    finally:
        folder.remove()
    return 0


if __name__ == "__main__":
    sys.exit(main())
