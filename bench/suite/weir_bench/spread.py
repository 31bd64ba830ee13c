"""Runs one load on several other hosts at once and adds up what they say.

usage: spread.py SSH HOST[,HOST...] PROGRAM ARGUMENT...

Each host gets its part of --connections and --rate and a --seed of its own. Histograms are added,
so percentiles are those of all requests together; they are never averaged. A host's clock is not
this machine's: the window is what all of them say that they measured, ending with the last answer.
"""

import json
import shlex
import subprocess
import sys

from .histogram import BEYOND_MIN, merge

QUANTILES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999))


def part(total, at, count):
    """The share of one of `count`, so that all shares together are the total."""
    return total // count + (at < total % count)


def command_of(words, at, count):
    words = list(words)
    for name in ("--connections", "--idle"):
        if name in words:
            place = words.index(name) + 1
            if int(words[place]) < count and name == "--connections":
                raise ValueError(f"{words[place]} connections are too few for {count} hosts")
            words[place] = str(part(int(words[place]), at, count))
    if "--rate" in words:
        place = words.index("--rate") + 1
        words[place] = f"{float(words[place]) / count:.6g}"
    if "--seed" in words:
        place = words.index("--seed") + 1
        words[place] = str((int(words[place]) + at) % (1 << 31))
    return words


def add_numbers(values):
    return {key: sum(value[key] for value in values) for key in values[0]}


def add_histograms(values):
    if values[0] is None:
        return None
    return {**add_numbers([{key: value[key] for key in ("count", "below", "above", "sum")}
                           for value in values]),
            "unit": "ns",
            # A host whose requests had no answer has no ends.
            "min": min((v["min"] for v in values if v["min"] is not None), default=None),
            "max": max((v["max"] for v in values if v["max"] is not None), default=None),
            "buckets": sorted(map(list, merge(values).items()))}


def latency_of(histogram):
    """The percentiles that have enough samples beyond them, as weir-load prints them."""
    if histogram is None:
        return None
    count = histogram["count"]
    shown = {"count": count, "min": histogram["min"], "max": histogram["max"],
             "mean": histogram["sum"] / count if count else None}
    for name, share in QUANTILES:
        shown[name] = None
        if count * (1 - share) >= BEYOND_MIN:
            passed = 0
            for value, n in histogram["buckets"]:
                passed += n
                if passed >= share * count:
                    shown[name] = value
                    break
    return shown


def add(results):
    """One result of weir-load's schema from those of several hosts."""
    first = results[0]
    histograms = {name: add_histograms([result["histograms"][name] for result in results])
                  for name in first["histograms"]}
    offered = [result["offered_per_s"] for result in results]
    return {
        **first, **add_numbers([{key: result[key] for key in ("ops", "ops_per_s")}
                                for result in results]),
        "offered_per_s": None if None in offered else sum(offered),
        "requests": add_numbers([result["requests"] for result in results]),
        "errors": add_numbers([result["errors"] for result in results]),
        "histograms": histograms,
        "latency_ns": {name: latency_of(found) for name, found in histograms.items()},
        "times": {**first["times"],
                  "interrupted": any(result["times"]["interrupted"] for result in results)},
        "client": {"utilization": max(result["client"]["utilization"] for result in results)},
        "hosts": len(results),
    }


def run(ssh, hosts, words):
    """Returns (the result, None) or (None, what went wrong)."""
    children = [subprocess.Popen([*shlex.split(ssh), host,
                                  shlex.join(command_of(words, at, len(hosts)))],
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True)
                for at, host in enumerate(hosts)]
    results, wrong = [], []
    for host, child in zip(hosts, children):
        out, err = child.communicate()
        try:
            results.append(json.loads(out))
        except ValueError:
            last = (err or out).strip().splitlines()[-1:] or ["it said nothing"]
            wrong.append(f"{host}: status {child.returncode}: {last[0]}")
    return (None, "; ".join(wrong)) if wrong else (add(results), None)


def main(arguments):
    ssh, hosts, *words = arguments
    try:
        result, wrong = run(ssh, hosts.split(","), words)
    except (OSError, ValueError) as error:
        result, wrong = None, error
    if wrong:
        print(f"weir-bench: {wrong}", file=sys.stderr)
        return 1
    print(json.dumps(result))
    return 0
