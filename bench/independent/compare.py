#!/usr/bin/python3
"""Compares echo servers with a load that is not weir's (echo_turns.c), by turns.

usage: compare.py [--build DIR] [--server NAME=COMMAND]... [--cells LIST] [--blocks N] [--turns N]
                  [--raw FILE]

COMMAND starts a server; {port} is replaced. Without --server they are weir's epoll and uring. The
first is the base of the ratios. In each block fresh servers are alive at once, on CPU 0, and the
load on CPU 1 goes to each by turns. Only the statistics are the suite's.
"""

import argparse
import os
import shlex
import socket
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "suite"))

from weir_bench import estimate  # pylint: disable=wrong-import-position

# Name: connections, messages in flight, their bytes, milliseconds of a turn, turns of a block.
CELLS = {"64": (64, 1, 64, 20, 30), "1000": (1000, 1, 64, 100, 10), "d16": (64, 16, 64, 20, 30),
         "16k": (64, 1, 16384, 20, 30), "256k": (8, 1, 262144, 30, 30),
         "1m": (2, 1, 1 << 20, 30, 30), "1": (1, 1, 64, 20, 30)}
START_S, START_TRIES = 30, 3
WEIR = "{build}/servers/weir echo --listen 127.0.0.1:{port} --engine "


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(command):
    """A server's process and port, once it takes connections. A free port may be another program's
    before the server has it."""
    for _ in range(START_TRIES):
        port = str(free_port())
        server = subprocess.Popen(["taskset", "-c", "0",
                                   *shlex.split(command.replace("{port}", port))],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + START_S
        while time.monotonic() < end and server.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", int(port))) == 0:
                    return server, port
        server.kill()
        server.wait()
    sys.exit(f"compare.py: no server at port {port}: {command}")


def play_block(options, cell):
    """[turn, server, operations, CPU ns, ns] of each turn of fresh servers."""
    *kind, turns = CELLS[cell]
    servers, load = [], [os.path.join(options.build, "bench/independent/echo-turns"),
                         *map(str, kind), str(options.turns or turns)]
    try:
        for command in options.commands.values():
            server, port = start(command)
            servers.append(server)
            load += [port, str(server.pid)]
        done = subprocess.run(["taskset", "-c", "1" if os.cpu_count() > 1 else "0", *load],
                              stdout=subprocess.PIPE, text=True, check=True)
    finally:
        for server in servers:
            server.kill()
            server.wait()
    return [list(map(int, line.split())) for line in done.stdout.splitlines()]


def sums(rows, server):
    """Operations, CPU ns and ns of one server in a block."""
    return [sum(column) for column in zip(*(row[2:] for row in rows if row[1] == server))]


def shown(logs):
    ratio = estimate.ratio_of(logs)
    if "low" not in ratio:  # a single block
        return f"{ratio['ratio']:.3f}"
    return f"{ratio['ratio']:.3f} ({ratio['low']:.3f}-{ratio['high']:.3f})"


def report(cell, blocks, names):
    measured = {name: {number: sums(rows, index) for number, rows in enumerate(blocks)}
                for index, name in enumerate(names)}
    costs = {name: {number: cpu / ops for number, (ops, cpu, _) in of.items()}
             for name, of in measured.items()}
    rates = {name: {number: ops / ns for number, (ops, _, ns) in of.items()}
             for name, of in measured.items()}
    base = names[0]
    print(f"{cell}: {base} {estimate.median(list(costs[base].values())) / 1000:.2f} us/op")
    for name in names[1:]:
        cost, rate = (shown(estimate.paired_logs(of[name], of[base])) for of in (costs, rates))
        print(f"{cell}: {name}/{base}: CPU/op {cost}, ops/s {rate}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--server", action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--cells", default=",".join(CELLS))
    parser.add_argument("--blocks", type=int, default=10)
    parser.add_argument("--turns", type=int, default=0)
    parser.add_argument("--raw")
    options = parser.parse_args()
    given = options.server or [f"{engine}={WEIR}{engine}" for engine in ("epoll", "uring")]
    options.commands = {name: command.replace("{build}", options.build)
                        for name, _, command in (server.partition("=") for server in given)}
    lines = []
    for cell in options.cells.split(","):
        blocks = [play_block(options, cell) for _ in range(options.blocks)]
        report(cell, blocks, list(options.commands))
        lines += [f"{cell} {number} {' '.join(map(str, row))}\n"
                  for number, rows in enumerate(blocks) for row in rows]
    if options.raw:
        with open(options.raw, "w", encoding="ascii") as file:
            file.writelines(lines)


if __name__ == "__main__":
    main()
