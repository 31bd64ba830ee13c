#!/usr/bin/python3
"""Stands in for `weir-load` in the suite's tests: real echoes, and faults by FAKE_LOAD."""

import argparse
import itertools
import json
import os
import re
import socket
import sys
import time

FAULTS = os.environ.get("FAKE_LOAD", "").split(",")
TIRED_AFTER = 3   # turns


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("command")
    for name in ("connect", "verify", "engine", "json", "arrivals"):
        parser.add_argument(f"--{name}")
    for name in ("connections", "depth", "size", "seed", "churn", "idle", "threads"):
        parser.add_argument(f"--{name}", type=int, default=0)
    for name in ("duration", "warmup", "rate"):
        parser.add_argument(f"--{name}", type=float, default=0)
    parser.add_argument("--turns", action="store_true")
    return parser.parse_args()


def addresses_of(text):
    found = re.fullmatch(r"([\d.]+)\.(\d+)(?:-[\d.]+\.(\d+))?:(\d+)", text)
    first, last = int(found[2]), int(found[3] or found[2])
    return [(f"{found[1]}.{n}", int(found[4])) for n in range(first, last + 1)]


class Load:
    def __init__(self, options):
        self.options = options
        self.addresses = itertools.cycle(addresses_of(options.connect))
        self.peers = [self.connect() for _ in range(min(options.connections, 20))]
        self.rate = options.rate / 2 if "half-rate" in FAULTS else options.rate
        self.is_tired = False

    def connect(self):
        peer = socket.create_connection(next(self.addresses))
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return peer

    def echo(self, at):
        data = bytes(self.options.size)
        self.peers[at].sendall(data)
        while data:
            data = data[len(self.peers[at].recv(len(data))):]
        if self.options.churn:
            self.peers[at].close()
            self.peers[at] = self.connect()

    def run(self, seconds):
        """Returns the latencies of that time: one at least, however late this process gets a
        CPU."""
        latencies = []
        end = time.monotonic() + seconds
        if "does-nothing" in FAULTS:
            time.sleep(seconds)
            return latencies
        at = 0
        while (start := time.monotonic_ns()) / 1e9 < end or not latencies:
            if "spin" in FAULTS:
                while time.monotonic_ns() < start + 10_000_000:
                    pass
            if "throttle" in FAULTS:
                time.sleep(0.005)
            if "breathes" in FAULTS or self.is_tired:
                time.sleep(0.0008)
            self.echo(at)
            latencies.append(time.monotonic_ns() - start)
            at = (at + 1) % len(self.peers)
            if self.rate:
                time.sleep(max(0, 1 / self.rate - (time.monotonic_ns() - start) / 1e9))
        return latencies


def take_turns(load):
    """As standard input says; returns the latencies and the time of those that count."""
    latencies, passed_ns = [], 0
    print('{"ready": true}', flush=True)
    for number, line in enumerate(sys.stdin, 1):
        word, length = line.split()
        if "die-in-turn" in FAULTS and number == 3:
            print("this turn was too much", file=sys.stderr, flush=True)
            os._exit(3)
        load.is_tired = "tires" in FAULTS and number > TIRED_AFTER
        start, spent = time.monotonic_ns(), time.process_time_ns()
        found = load.run(float(length) / 1000)
        wall = time.monotonic_ns() - start
        if word == "run":
            latencies += found
            passed_ns += wall
        print(json.dumps({"turn": number, "warm": word == "warm", "ops": len(found),
                          "errors": 0, "length_ns": float(length) * 1e6, "wall_ns": wall,
                          "cpu_ns": time.process_time_ns() - spent}), flush=True)
    return latencies, passed_ns / 1e9


def percentile(values, part):
    return sorted(values)[int(part * len(values))] if values else None


def result_of(options, latencies, started, seconds):
    """In weir-load's schema, as far as the suite reads it."""
    corrupt = "corrupt" in FAULTS or ("corrupt-when-full" in FAULTS and options.verify == "full")
    done = len(latencies)
    if "forty" in FAULTS:
        latencies = [41_000_000] * (100 * done)
    shown = {"count": len(latencies), "p50": percentile(latencies, 0.5),
             "p99": percentile(latencies, 0.99)}
    requests = {"censored": done if "unfinished" in FAULTS else 0}
    for fault, part in (("no-law", 7), ("rests", 0.7)):
        if fault in FAULTS:
            # So much of what is in flight, by rate times mean.
            shown["mean"] = part * options.connections * seconds * 1e9 / max(done, 1)
            requests.update(carried_in_ns=0, carried_out_ns=0)
    return {
        "schema": "weir-load/1", "parameters": {"warmup_s": options.warmup, "threads": 1},
        "times": {"started_unix_s": started, "measured_s": seconds, "interrupted": False},
        "ops": done, "ops_per_s": done / seconds * (1e9 if "boasts" in FAULTS else 1),
        "offered_per_s": options.rate or None, "requests": requests,
        "latency_ns": {"response": shown if options.rate else None, "service": shown,
                       "lag": {"p99": 900_000 if "late" in FAULTS else 9000}
                       if options.rate else None},
        "histograms": {"response": None, "service": {
            "buckets": [[v, 1] for v in latencies[:done]]}},
        "errors": {"corrupt": int(corrupt), "reset": 2 * ("resets" in FAULTS), "total": 9},
    }


def main():
    options = parse()
    if "usage" in FAULTS:
        print("weir-load: this option is not known", file=sys.stderr)
        return 2
    if "nonsense" in FAULTS:
        print("these are not the numbers that you look for")
        return 0
    load = Load(options)
    started = time.time()
    if options.turns:
        latencies, passed = take_turns(load)
        print(json.dumps(result_of(options, latencies, started, passed)))
        return 0
    load.run(options.warmup)
    # Whatever the warm-up took: what is measured begins now.
    started, start = time.time() - options.warmup, time.monotonic()
    latencies = load.run(options.duration)
    print(json.dumps(result_of(options, latencies, started, time.monotonic() - start)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
