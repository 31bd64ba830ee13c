"""Published results, measured again here: does this machine agree about who is ahead?

A cell's `expect` has the published ratio of a variant's operations per second to the base's, which
is the run's or one of its own, and where it was published. Numbers of other machines are not
expected to come out; signs are. Where the rate is the client's, as with one CPU each it often is,
the answer is the rate that a full CPU of the server would reach: the inverse of its CPU time per
operation.
"""

from . import Problem
from .summary import summarize
from .verdict import EQUIVALENT, FASTER, INVALID, MARGIN_MIN, SLOWER

KEYS = {"source": str, "variant": str, "ratio": float}
MAY = {"base"}   # another one than the run's


def check(scenario):
    """Every cell must say what was published."""
    for cell in scenario.cells:
        wrong = [key for key, kind in KEYS.items() if not isinstance(cell.expect.get(key), kind)]
        if wrong or set(cell.expect) - set(KEYS) - MAY:
            raise Problem(f"cell {cell.name}: expect wants {', '.join(KEYS)}, maybe "
                          f"{', '.join(MAY)}")


def rows_of(report):
    """{(cell, variant, base): row}, the table's and those with the bases that cells name. The cells
    that name the same one are a family."""
    cells = report["scenario"]["cells"]
    rows = list(report["table"])
    for base in sorted({cell["expect"].get("base", report["base"]) for cell in cells}
                       - {report["base"]}):
        mine = [cell for cell in cells if cell["expect"].get("base") == base]
        rows += summarize({**report, "base": base,
                           "scenario": {**report["scenario"], "cells": mine}})
    return {(row["cell"], row["variant"], row["base"]): row for row in rows}


def published_verdict(ratio):
    if abs(ratio - 1) <= MARGIN_MIN:
        return EQUIVALENT
    return FASTER if ratio > 1 else SLOWER


def answers(report):
    """[(cell, expect, answer, what was found)], an answer being agrees, disagrees or no answer."""
    found, rows = [], rows_of(report)
    for cell in report["scenario"]["cells"]:
        expect = cell["expect"]
        seen = rate_of(rows.get((cell["name"], expect["variant"],
                                 expect.get("base", report["base"]))))
        if seen is None:
            found.append((cell["name"], expect, "no answer", {"verdict": INVALID,
                                                              "reason": "not measured"}))
            continue
        if seen["verdict"] not in (FASTER, SLOWER, EQUIVALENT):
            answer = "no answer"
        else:
            answer = "agrees" if seen["verdict"] == published_verdict(expect["ratio"]) \
                else "disagrees"
        found.append((cell["name"], expect, answer, seen))
    return found


def rate_of(row):
    """What the row says about the rate, and "by" what: per second, or per CPU of the server."""
    if row is None:
        return None
    rate, cost = (row["verdicts"].get(name) for name in ("ops_per_s", "server_cpu_ns"))
    if cost and "ratio" in cost and (rate is None or rate["verdict"] == INVALID):
        return {**cost, "ratio": 1 / cost["ratio"], "by": "per CPU of the server"}
    return rate and {**rate, "by": "per second"}


def as_text(report):
    lines = ["", "Published results (rate of the variant over the base's):"]
    for cell, expect, answer, seen in answers(report):
        ratio = f"{seen['ratio']:.2f}" if "ratio" in seen else "-"
        over = f" over {expect['base']}" if "base" in expect else ""
        lines.append(f"  {answer:<10} {cell:<22} published {expect['ratio']:.2f}{over}, "
                     f"here {ratio} {seen.get('by', '')} {seen['verdict']}; {expect['source']}")
    counts = [answer for _, _, answer, _ in answers(report)]
    lines.append("  " + ", ".join(f"{counts.count(a)} {a}"
                                  for a in ("agrees", "disagrees", "no answer")))
    return "\n".join(lines) + "\n"
