"""When a cell has been measured well enough: its intervals are as narrow as was asked.

The looks are planned beforehand: after so many blocks, and then after every EVERY more. A look asks
how wide the intervals are from end to end, never on which side of 1 they lie, so no difference ends
a run because it is there. But blocks that happen to lie close together end it sooner, and such an
interval claims more than it knows. So EXTRA blocks follow that no look saw before the end was
decided: with them the intervals hold the truth as often as they say (tests/suite/looks_test.py).
"""

import math

from .estimate import interval
from .summary import endpoints_of, logs_between, usable

EVERY = 3
EXTRA = 3
COSTS = ("server_cpu_ns", "machine_cpu_ns")


def takes_place(block, least):
    """Whether there is a look when so many blocks are over."""
    return block >= least and (block - least) % EVERY == 0


def width(logs):
    """From end to end, relative: 0.04 is 0.98 to 1.02. Infinite without an interval."""
    found = interval(logs)
    return math.expm1(found[1] - found[0]) if found else math.inf


class Looks:
    """What the cells of a run are known to within, after each block that has a look."""

    def __init__(self, report, failures_max):
        self.report = report
        self.failures_max = failures_max   # that many, and the variant is not run there any more
        self.failed = {}  # (cell, variant): how often
        self.logs = {}    # (cell, variant, endpoint): {block: log-ratio to the base}
        self.seen = {}    # by cell: how many blocks are in there
        self.ends = {}    # by cell: after how many blocks it ends

    def blocks_of(self, cell):
        """How many there will be, as far as it is known."""
        return self.ends.get(cell.name, self.report["scenario"]["blocks"])

    def at(self, block, plan):
        """The cells whose end a look before that block decides, by what those before it say. The
        same run gives the same answer whether it was interrupted or not."""
        scenario = self.report["scenario"]
        if not scenario["stop_at_width"] or not takes_place(block, scenario["blocks_min"]):
            return []
        found = []
        for cell, variants in plan:
            if cell.name in self.ends:
                continue
            widest = self.widest(cell, variants, block)
            if 100 * widest <= scenario["stop_at_width"]:
                self.ends[cell.name] = min(block + EXTRA, scenario["blocks"])
                self.report["stopped"][cell.name] = {
                    "look": block, "width": widest, "blocks": self.ends[cell.name]}
                found.append(cell)
        return found

    def widest(self, cell, variants, block):
        """Of the cell's costs, of all variants; infinite where one has no interval."""
        self.learn(cell, variants, block)
        return max((width(list(logs.values())) for (name, variant, _), logs in self.logs.items()
                    if name == cell.name
                    and self.failed.get((name, variant), 0) < self.failures_max),
                   default=math.inf)

    def learn(self, cell, variants, block):
        """Adds the blocks since the last look: a block's ratio takes a while to compute."""
        new = [trial for trial in self.report["trials"] if trial["cell"] == cell.name
               and self.seen.get(cell.name, 0) <= trial["block"] < block]
        self.seen[cell.name] = block
        for trial in new:
            key = trial["cell"], trial["variant"]
            self.failed[key] = self.failed.get(key, 0) + (trial["status"] == "failed")
        base = usable(new, self.report["base"])
        for variant in variants:
            if variant.name == self.report["base"]:
                continue
            for endpoint in judged(self.report, cell):
                logs = self.logs.setdefault((cell.name, variant.name, endpoint), {})
                logs.update(logs_between(usable(new, variant.name), base, endpoint))


def judged(report, cell):
    """The endpoints that must be narrow: the costs, or where the cell has none the first."""
    endpoints = endpoints_of(report, vars(cell))
    return [name for name in endpoints if name in COSTS] or endpoints[:1]


def sentence(report):
    """What was asked, and which cells ended by it; None for a run of fixed length."""
    scenario = report["scenario"]
    asked = scenario.get("stop_at_width")
    if not asked:
        return None
    stopped, done = report.get("stopped", {}), report["blocks_done"]
    others = [cell["name"] for cell in scenario["cells"]
              if cell["name"] not in {*stopped, *report["skipped"]}]
    text = (f"A cell ends when the intervals of its costs are at most {asked:g} % wide, "
            f"after {scenario['blocks_min']} to {scenario['blocks']} blocks: ")
    parts = [f"{name} after {found['blocks']}" if done >= found["blocks"] else
             f"{name} was to end after {found['blocks']}, the run did after {done}"
             for name, found in stopped.items()]
    if others:
        # The look follows these blocks, unless there are no more to be left out.
        looked = scenario["blocks_min"] <= done and scenario["blocks_min"] < scenario["blocks"]
        parts.append(f"{'wider than that' if looked else 'not looked at'}: {', '.join(others)}")
    return text + "; ".join(parts) + "."
