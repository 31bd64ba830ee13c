"""What the sandbox costs a server, in short bursts that take turns.

usage: measure.py CELL ENGINE [--floor] [--seconds S] [--json FILE] [--build DIR]

CELL is echo-c64, echo-c1000 or http-c64. A round starts three servers anew, without a sandbox, in
mode on and in mode strict, and loads each in turn with bursts of some milliseconds. With --floor,
the third is one without a sandbox under the shortest filter that there is, instead of mode strict:
what any filter costs. A round's value is the median of its bursts, because what differs between two
processes for good, where their memory lies for one, would look like an effect of the sandbox if the
bursts were counted one by one. With --json, rounds are added to those that the file has. The
verdict is weir-bench's own, with its margin of 2 %.
"""

import argparse
import ctypes
import json
import os
import platform
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.join(HERE, "..", "..")
sys.path.append(os.path.join(TOP, "bench", "suite"))

from weir_bench import estimate, verdict  # pylint: disable=wrong-import-position

PRCTL_SECCOMP, PRCTL_NO_NEW_PRIVILEGES, FILTER = 22, 38, 2
RETURN, ALLOW = 6, 0x7fff0000
GET = "GET /1k.bin HTTP/1.1\r\nHost: x\r\n\r\n"
# Command, request, connections, operations of a burst.
CELLS = {
    "echo-c64": ("echo", "x" * 64, 64, 2560),
    "echo-c1000": ("echo", "x" * 64, 1000, 5000),
    "http-c64": ("http", GET, 64, 2560),
}
BLOCKS = 16
LIMIT = 20


def allow_everything():
    """Takes a filter of one instruction."""
    libc = ctypes.CDLL(None)
    line = ctypes.create_string_buffer(struct.pack("HBBI", RETURN, 0, 0, ALLOW))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 1, ctypes.addressof(line)))
    if (libc.prctl(PRCTL_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or
            libc.prctl(PRCTL_SECCOMP, FILTER, program)):
        raise OSError("no filter can be taken")


def start(build, command, engine, mode, root):
    """A server on CPU 0, and where it listens."""
    options = ["--root", root] if command == "http" else []
    server = subprocess.Popen(
        ["taskset", "-c", "0", f"{build}/servers/weir", command, "--engine", engine, "--listen",
         "127.0.0.1:0", "--sandbox", "off" if mode == "floor" else mode, *options],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        preexec_fn=allow_everything if mode == "floor" else None)
    return server, server.stdout.readline().split()[2].rpartition(":")[2]


def play_round(build, cell, engine, root, modes):
    """{mode: nanoseconds per operation} of servers that are started for it."""
    command, request, connections, operations = CELLS[cell]
    servers = {}
    try:
        for mode in random.sample(modes, len(modes)):
            servers[mode] = start(build, command, engine, mode, root)
        played = subprocess.run(
            ["taskset", "-c", "1", f"{build}/tests/sandbox/sandbox-bursts", str(connections),
             str(operations), str(BLOCKS), request,
             *(f"{server.pid}:{port}" for server, port in servers.values())],
            stdout=subprocess.PIPE, text=True, timeout=LIMIT, check=True)
    finally:
        for server, _ in servers.values():
            server.kill()
            server.wait()
            server.stdout.close()
    columns = zip(*(map(float, line.split()) for line in played.stdout.splitlines()))
    return {mode: statistics.median(column) for mode, column in zip(servers, columns)}


def compare(rounds, mode):
    """weir-bench's comparison of the mode with none, with its verdict."""
    values = dict(enumerate(told[mode] for told in rounds))
    base = dict(enumerate(told["off"] for told in rounds))
    logs = estimate.paired_logs(values, base)
    found = {"endpoint": "server_cpu_ns", "margin": verdict.MARGIN_MIN, "logs": logs,
             **estimate.paired_ratio(values, base)}
    # Both modes are a family of two.
    word, reason = verdict.judge(found, min(1, 2 * verdict.sign_flip_p(logs)), 2)
    return (f"{mode}: {statistics.median(values.values()):.0f} ns, "
            f"ratio {found['ratio']:.4f} ({found['low']:.4f}-{found['high']:.4f}), "
            f"{found['pairs']} rounds: {word}, {reason}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("cell", choices=CELLS)
    parser.add_argument("engine", choices=("uring", "epoll", "blocking"))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--json")
    parser.add_argument("--build", default=os.path.join(TOP, "build", "release"))
    parser.add_argument("--floor", action="store_true")
    options = parser.parse_args()
    modes = ("off", "on", "floor" if options.floor else "strict")
    told = {"cell": options.cell, "engine": options.engine, "kernel": platform.release(),
            "blocks": BLOCKS, "unit": "ns of the server's CPU per operation", "rounds": []}
    if options.json and os.path.exists(options.json):
        with open(options.json, encoding="utf-8") as file:
            told = json.load(file)
    end = time.monotonic() + options.seconds
    with tempfile.TemporaryDirectory(prefix="weir-") as root:
        with open(f"{root}/1k.bin", "wb") as file:
            file.write(b"x" * 1024)
        while len(told["rounds"]) < 2 or time.monotonic() < end:
            told["rounds"].append(play_round(options.build, options.cell, options.engine, root,
                                             modes))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(told, file, indent=1)
    base = statistics.median(entry["off"] for entry in told["rounds"])
    print(f"{options.cell} {options.engine}: off {base:.0f} ns")
    for mode in modes[1:]:
        print(compare(told["rounds"], mode))


if __name__ == "__main__":
    sys.exit(main())
