"""Published results, measured again here: does this machine agree about who is ahead?

A cell's `expect` has the published ratio of a variant's operations per second to the base's, and
where it was published. Numbers of other machines are not expected to come out; signs are. Where the
rate is the client's, as with one CPU each it often is, the answer is the rate that a full CPU of
the server would reach: the inverse of its CPU time per operation.
"""

from . import Problem
from .verdict import EQUIVALENT, FASTER, INVALID, MARGIN_MIN, SLOWER

KEYS = {"source": str, "variant": str, "ratio": float}


def check(scenario):
    """Every cell must say what was published."""
    for cell in scenario.cells:
        wrong = [key for key, kind in KEYS.items() if not isinstance(cell.expect.get(key), kind)]
        if wrong or set(cell.expect) - set(KEYS):
            raise Problem(f"cell {cell.name}: expect wants {', '.join(KEYS)}")


def published_verdict(ratio):
    if abs(ratio - 1) <= MARGIN_MIN:
        return EQUIVALENT
    return FASTER if ratio > 1 else SLOWER


def answers(report):
    """[(cell, expect, answer, what was found)], an answer being agrees, disagrees or no answer."""
    found = []
    for cell in report["scenario"]["cells"]:
        expect = cell["expect"]
        row = next((row for row in report["table"] if row["cell"] == cell["name"]
                    and row["variant"] == expect["variant"]), None)
        seen = rate_of(row)
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
        lines.append(f"  {answer:<10} {cell:<22} published {expect['ratio']:.2f}, here {ratio} "
                     f"{seen.get('by', '')} {seen['verdict']}; {expect['source']}")
    counts = [answer for _, _, answer, _ in answers(report)]
    lines.append("  " + ", ".join(f"{counts.count(a)} {a}"
                                  for a in ("agrees", "disagrees", "no answer")))
    return "\n".join(lines) + "\n"
