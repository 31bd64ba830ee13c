#!/usr/bin/python3
"""Does the suite find a cost of 5 % that is really there, and none where there is none?

usage: sensitivity.py [--build DIR] [--runs N] [--blocks N] [--turns N] [--turn S]
                      [--rounds N] [--seconds S] [--warmup S] [--permille N] [--engine NAME]

Not part of the test suite: ten runs of twenty blocks take 13 minutes of a quiet machine. With
--turns 0 it measures by trials, --rounds of --seconds each in a block.
Each run compares a server with itself (A/A) and with itself and an injected cost (inject_cost.c),
and says what the verdicts on CPU time per operation were.
"""

import argparse
import collections
import json
import os
import subprocess
import sys
import tempfile

import suite_path

SCENARIO = """
blocks = {blocks}
rounds = {rounds}
turns = {turns}
turn = {turn}
seconds = {seconds}
warmup = {warmup}
base = "base"
endpoints = ["server_cpu_ns", "machine_cpu_ns"]
variants = ["base", "twin", "dearer"]
[variant.base]
options = "--engine {engine}"
[variant.twin]
options = "--engine {engine}"
[variant.dearer]
command = "env LD_PRELOAD={library} WEIR_COST_PERMILLE={permille} \
{{weir}} echo --listen {{address}} --stats-json {{stats}} --engine {engine}"
engine = "{engine}"
[[cell]]
name = "echo"
connections = 64
"""


def library_of(build):
    return os.path.join(os.path.abspath(build), "tests/suite/inject_cost.so")


def one_run(options, folder, number):
    """{(variant, endpoint): (verdict, ratio)} of one run."""
    scenario = os.path.join(folder, "sensitivity.toml")
    with open(scenario, "w", encoding="utf-8") as file:
        file.write(SCENARIO.format(**vars(options), library=library_of(options.build)))
    path = os.path.join(folder, f"{number}.json")
    subprocess.run([suite_path.LAUNCHER, "run", scenario, "--build", options.build, "--json", path,
                    "--quiet", "--skip-conformance"], check=True, stdout=subprocess.DEVNULL)
    with open(path, encoding="utf-8") as file:
        report = json.load(file)
    return {(row["variant"], endpoint): (found["verdict"], found.get("ratio"))
            for row in report["table"] for endpoint, found in row["verdicts"].items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--turns", type=int, default=50)
    parser.add_argument("--turn", type=float, default=0.02)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=0.1)
    parser.add_argument("--warmup", type=float, default=0.05)
    parser.add_argument("--permille", type=int, default=50)
    parser.add_argument("--engine", default="epoll")
    options = parser.parse_args()
    counts = collections.defaultdict(collections.Counter)
    with tempfile.TemporaryDirectory(prefix="weir-sensitivity-") as folder:
        for number in range(options.runs):
            for key, (verdict, ratio) in one_run(options, folder, number).items():
                counts[key][verdict] += 1
                print(f"run {number + 1}: {' '.join(key)} {verdict} "
                      f"{'' if ratio is None else f'{ratio:.3f}'}", flush=True)
    for key, found in counts.items():
        print(f"{' '.join(key)}: " + ", ".join(f"{n} {name}" for name, n in found.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
