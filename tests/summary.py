"""Adds up what `meson test` logged in the given build folders and prints one closing line.

usage: summary.py BUILD...

A program that reports its tests one by one (TAP) counts each of them. One that failed as a whole,
for example by a crash or a timeout, counts as one failure more. Skips are listed with their reasons.
"""

import json
import os
import sys
import xml.etree.ElementTree as xml


def read_cases(build):
    """Yields (where, verdict, reason) for every test case in a build folder's log."""
    logs = os.path.join(build, "meson-logs")
    failed_in = set()
    if not os.path.exists(os.path.join(logs, "testlog.junit.xml")):
        yield "all", "failed", "no log of a test run"
        return
    for suite in xml.parse(os.path.join(logs, "testlog.junit.xml")).getroot():
        for case in suite.findall("testcase"):
            verdict = "passed"
            if case.find("skipped") is not None:
                verdict = "skipped"
            elif case.find("failure") is not None or case.find("error") is not None:
                verdict = "failed"
                failed_in.add(suite.get("name").partition(".")[2])
                failed_in.add(case.get("name"))
            reason = case.findtext("system-out") or ""
            yield f"{case.get('classname')}: {case.get('name')}", verdict, reason.strip()
    with open(os.path.join(logs, "testlog.json"), encoding="utf-8") as lines:
        for program in map(json.loads, lines):
            name = program["name"].rpartition(" / ")[2]
            if program["result"] not in ("OK", "SKIP", "EXPECTEDFAIL") and name not in failed_in:
                yield name, "failed", program["result"]


def main():
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for build in sys.argv[1:]:
        for where, verdict, reason in read_cases(build):
            counts[verdict] += 1
            if verdict != "passed":
                print(f"{verdict}: {build}: {where}{': ' if reason else ''}{reason}")
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 1 if counts["failed"] or not counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
