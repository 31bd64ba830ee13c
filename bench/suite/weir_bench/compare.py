"""Compares two runs of the same cells: is the second one slower?

The trials of two runs share no block, so this is the comparison of two independent samples: the
Hodges-Lehmann shift of the logarithms, with interval and p value of the exact rank-sum test.

What moved the machine between the runs moves absolute numbers. Where the base of both is the same
program, it is their common reference: then the blocks' ratios to it are compared, which the mood of
either day moves little, and by turns at the same mood (mood.py). Otherwise the numbers themselves
are.
"""

import functools
import math
import statistics
from math import comb

from . import mood, turns, verdict
from .estimate import LEVEL, median
from .guards import OFFERED_TOLERANCE
from .load import WEIR_LOAD, words_of
from .summary import SPOILS, by_block, endpoints_of, logs_between, reason_spoiled, usable
from .table import HEADINGS, kind_of, show

# A difference in these makes two runs incomparable.
MUST_AGREE = ("kernel", "cpu_model", "cpus", "smt", "governor", "mitigations", "clock_source",
              "kernel_command_line", "limits", "virtual", "machine")
# Within a run a pair shares what else the machine does; two runs do not.
SPOILS_UNPAIRED = {**SPOILS, "machine-busy": ("machine_cpu_ns", "ops_per_s", "p99_ns"),
                   "steal": ("ops_per_s", "p99_ns")}
# What a cell is. Its name alone could hide an edit of the file.
CELL_KEYS = ("size", "path", "operation", "files", "beside", "login", "connections", "depth",
             "churn", "idle", "slow", "flood", "transport", "mtu", "rate", "rate_of", "rate_share",
             "arrivals", "namespace", "verify", "file", "cache")


@functools.cache
def rank_sum_counts(n, m):
    """counts[u]: in how many of the orders of n and m values exactly u pairs have a > b."""
    # The coefficients of the Gaussian binomial, by the recurrence over the largest value's sample.
    table = [[1] for _ in range(m + 1)]
    for i in range(1, n + 1):
        row = [[1]]
        for j in range(1, m + 1):
            counts = [0] * (i * j + 1)
            for u, count in enumerate(table[j]):
                counts[u + j] += count
            for u, count in enumerate(row[j - 1]):
                counts[u] += count
            row.append(counts)
        table = row
    return table[m]


def shift(a, b):
    """Compares two samples of logarithms: ratio of b to a with interval, level and exact p."""
    differences = sorted(y - x for x in a for y in b)
    counts, total = rank_sum_counts(len(a), len(b)), comb(len(a) + len(b), len(a))
    tail, cut, reached = 1, 0, 1 - 2 / total
    while cut + 1 < len(counts) // 2 and 1 - 2 * (tail + counts[cut + 1]) / total >= LEVEL:
        cut += 1
        tail += counts[cut]
        reached = 1 - 2 * tail / total
    greater = sum(d > 0 for d in differences) + sum(d == 0 for d in differences) / 2
    extreme = math.floor(min(greater, len(differences) - greater))
    p = min(1, 2 * sum(counts[:extreme + 1]) / total)
    return {"ratio": math.exp(statistics.median(differences)), "pairs": min(len(a), len(b)),
            "low": math.exp(differences[cut]), "high": math.exp(differences[-1 - cut]),
            "level": reached, "p": p}


def fewest(family):
    """Trials per run whose smallest p survives Holm in such a family."""
    n = 3
    while 2 / comb(2 * n, n) >= verdict.ALPHA / family:
        n += 1
    return n


def differences(a, b):
    """What keeps the runs from being compared, a sentence each."""
    one, other = a["environment"], b["environment"]
    for name in MUST_AGREE:
        if one.get(name) != other.get(name):
            yield f"{name} differs: {one.get(name)} and {other.get(name)}"
    for name in sorted({*one["sysctl"], *other["sysctl"]}):
        if one["sysctl"].get(name) != other["sysctl"].get(name):
            yield f"{name} differs: {one['sysctl'].get(name)} and {other['sysctl'].get(name)}"
    for name in ("server_cpus", "client_cpus", "load"):
        if a[name] != b[name]:
            yield f"{name} differs: {a[name]} and {b[name]}"
    given = [run.get("load_given") for run in (a, b)]
    if a["load"] == b["load"] and given[0] != given[1]:
        yield f"load differs: {' and '.join(map(words_of, given))}"
    cells = {cell["name"]: cell for cell in a["scenario"]["cells"]}
    for cell in b["scenario"]["cells"]:
        mine = cells.get(cell["name"])
        if mine and (wrong := [key for key in CELL_KEYS if mine.get(key) != cell.get(key)]):
            yield f"cell {cell['name']} differs in {', '.join(wrong)}"
        if mine and turn_of(mine) != turn_of(cell):
            yield f"cell {cell['name']} differs in its turns: {turn_of(mine)} and {turn_of(cell)}"
    if not shared(a, b):
        yield "no cell and variant is in both"


def turn_of(cell):
    """How long one is; their number only makes a run surer."""
    return f"of {cell['turn']:g} s" if cell.get("turns") else "none"


def shared(a, b):
    """The (cell, variant name) that both measured, in the order of the first."""
    in_b = {(t["cell"], t["variant"]) for t in b["trials"]}
    return [(cell, v["name"]) for cell in a["scenario"]["cells"]
            for v in a["scenario"]["variants"] if (cell["name"], v["name"]) in in_b
            and any((t["cell"], t["variant"]) == (cell["name"], v["name"]) for t in a["trials"])]


def no_reference(a, b):
    """Why the runs have none in common; None if they have."""
    if "reference" not in a or "reference" not in b:
        return "one of the runs does not say what program its base was"
    if a["base"] != b["base"]:
        return f"the base was {a['base']} in A and {b['base']} in B"
    if a["reference"] != b["reference"]:
        return f"the base {a['base']} was another program, or had other options"
    return None


def compare(a, b):
    """Returns (what makes them incomparable, the comparisons)."""
    found, both = [], shared(a, b)
    with_reference = set() if no_reference(a, b) else \
        {cell["name"] for cell, variant in both if variant == a["base"]}
    # The reference itself has nothing to be compared with, unless it is all that a cell has.
    alone = {cell["name"] for cell, variant in both if variant != a["base"]}
    for cell, variant in both:
        is_relative = cell["name"] in with_reference & alone
        if is_relative and variant == a["base"]:
            continue
        compare_pair = compare_ratios if is_relative else compare_one
        for endpoint in endpoints_of(a, cell):
            if comparison := compare_pair(a, b, cell, variant, endpoint):
                found.append({"cell": cell["name"], "variant": variant, **comparison})
    for endpoint in verdict.MORE_IS_BETTER:
        family = [c for c in found if c["endpoint"] == endpoint and not c.get("spoiled")]
        for comparison in family:
            comparison["fewest"] = fewest(len(family))
    verdict.decide(found)
    for comparison in found:
        del comparison["logs"]
    return list(differences(a, b)), found


def other_rates(a, b, cell):
    """Why an open cell cannot be compared: its rate is taken from what each run could do, and what
    an operation costs depends on how many there are."""
    offered = [run.get("rates", {}).get(cell["name"], cell["rate"]) for run in (a, b)]
    if all(offered) and abs(offered[1] / offered[0] - 1) > OFFERED_TOLERANCE:
        return (f"offered: {offered[0]:,.0f}/s in A and {offered[1]:,.0f}/s in B: "
                "a fixed rate would be the same in both")
    return None


def trials_of(run, cell, variant):
    return [t for t in run["trials"] if (t["cell"], t["variant"]) == (cell["name"], variant)]


def compare_ratios(a, b, cell, variant, endpoint):
    """Of a variant to the reference in each run: a difference of differences."""
    reasons, logs, moods = [other_rates(a, b, cell)], [], []
    for which, run in zip("AB", (a, b)):
        trials = [trials_of(run, cell, name) for name in (variant, run["base"])]
        reasons += [reason_spoiled(f"{name} of {which}", list_, endpoint)
                    for name, list_ in zip((variant, run["base"]), trials)]
        found = logs_between(*(usable(list_, name) for list_, name in
                               zip(trials, (variant, run["base"]))), endpoint)
        logs.append(list(found.values()))
        moods.append(moods_of(usable(trials[1], run["base"]), found))
    spoiled = next(filter(None, reasons), None)
    told = {"endpoint": endpoint, "reference": a["base"]}
    if not all(logs):
        return {**told, "margin": 0, "logs": [], "spoiled": spoiled} \
            if spoiled and endpoint != "capacity_per_s" else None
    margin = max(verdict.margin_of(run.get("floors", {}), cell, endpoint) for run in (a, b))
    told.update(margin=margin, a=math.exp(median(logs[0])), b=math.exp(median(logs[1])),
                spoiled=spoiled)
    found = same_load(a, b) and endpoint in turns.QUOTIENTS and all(moods) \
        and mood.at_the_same(moods, logs, shift)
    shifted, logs = found or (shift(*logs), logs)
    return {**told, "logs": [y - x for x, y in zip(*logs)], **shifted}


def moods_of(trials, blocks):
    """The mood of each of these blocks: what the load spent per operation on the reference; [] if
    that is not known of all."""
    found = {t["block"]: turns.level(t["turns"], "load_cpu_ns") for t in trials if "turns" in t}
    known = [found[block] for block in blocks if found.get(block)]
    return list(map(math.log, known)) if len(known) == len(blocks) else []


def same_load(a, b):
    """Whether both runs' load was weir-load, the same program: only then is it a yardstick. What
    another program is, or how it is told to work, no report knows well enough."""
    if {a["load"], b["load"]} != {WEIR_LOAD}:
        return False
    hashes = [run["environment"].get("programs", {}).get("weir-load", {}).get("sha256")
              for run in (a, b)]
    return bool(hashes[0]) and hashes[0] == hashes[1]


def compare_one(a, b, cell, variant, endpoint):
    trials = [trials_of(run, cell, variant) for run in (a, b)]
    values = [list(by_block([t for t in list_ if t["status"] == "ok"], endpoint).values())
              for list_ in trials]
    values = [[v for v in list_ if v > 0] for list_ in values]
    reasons = [other_rates(a, b, cell)]
    reasons += [reason_spoiled(f"{variant} of {which}", list_, endpoint, SPOILS_UNPAIRED)
                for which, list_ in zip("AB", trials)]
    spoiled = next(filter(None, reasons), None)
    if not all(values):
        return {"endpoint": endpoint, "margin": 0, "logs": [], "spoiled": spoiled} \
            if spoiled and endpoint != "capacity_per_s" else None
    logs = [[math.log(v) for v in list_] for list_ in values]
    margin = max(verdict.margin_of(run.get("floors", {}), cell, endpoint) for run in (a, b))
    return {"endpoint": endpoint, "margin": margin, "a": median(values[0]), "b": median(values[1]),
            "spoiled": spoiled, "logs": [y - x for x, y in zip(*logs)], **shift(*logs)}


def gate(problems, comparisons):
    """The exit status: 0 fine, 1 a regression, 2 no answer."""
    verdicts = [c["verdict"] for c in comparisons]
    if verdict.SLOWER in verdicts and not problems:
        return 1
    if problems or not verdicts or {verdict.INCONCLUSIVE, verdict.INVALID} & set(verdicts):
        return 2
    return 0


def as_text(problems, comparisons, why_absolute=None):
    lines = [f"not comparable: {problem}" for problem in problems]
    lines += [f"Compared are the ratios to {name}, the same program in both runs."
              for name in sorted({c["reference"] for c in comparisons if "reference" in c})]
    if any("slope" in c for c in comparisons):
        lines.append("Costs and rates by turns are compared at the same speed of the machine, by "
                     "what the load\nspends on the reference; the medians are as they were "
                     "measured.")
    if why_absolute:
        lines.append("Compared are absolute numbers, which change with the machine: "
                     f"{why_absolute}.")
    for c in comparisons:
        numbers = ""
        if "ratio" in c:
            kind = "number" if "reference" in c else kind_of(c["endpoint"])
            numbers = (f"{show(c['a'], kind):>10} -> {show(c['b'], kind):>10}  {c['ratio']:.3f} "
                       f"({c['low']:.3f}-{c['high']:.3f})")
        lines.append(f"{c['cell']:<18} {c['variant']:<12} {HEADINGS[c['endpoint']]:<11} "
                     f"{numbers:<47} {c['verdict']}: {c['reason']}")
    counts = [f"{sum(c['verdict'] == v for c in comparisons)} {v}" for v in verdict.VERDICTS]
    return "\n".join([*lines, "B against A: " + ", ".join(counts)]) + "\n"
