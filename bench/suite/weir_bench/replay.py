"""Published results, measured again here: does this machine agree about who is ahead?

A cell's `expect` has the published ratio of a variant's operations per second to the base's, and
where it was published. Numbers of other machines are not expected to come out; signs are.
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
    """What the row says about operations per second, if anything."""
    return row["verdicts"].get("ops_per_s") if row else None


def as_text(report):
    lines = ["", "Published results (operations per second, variant against base):"]
    for cell, expect, answer, seen in answers(report):
        ratio = f"{seen['ratio']:.2f}" if "ratio" in seen else "-"
        lines.append(f"  {answer:<10} {cell:<22} published {expect['ratio']:.2f}, here {ratio} "
                     f"{seen['verdict']}; {expect['source']}")
    counts = [answer for _, _, answer, _ in answers(report)]
    lines.append("  " + ", ".join(f"{counts.count(a)} {a}"
                                  for a in ("agrees", "disagrees", "no answer")))
    return "\n".join(lines) + "\n"
