"""Adds up what `meson test` logged in the given build folders and prints one closing line.

usage: summary.py BUILD...

A program that reports its tests one by one (TAP) counts each of them. One that failed as a whole,
for example by a crash or a timeout, counts as one failure more. Skips are listed with reasons. A
suite that has no test in a build is a failure: a mistake in a meson.build can take it out unseen.
The dearest in processor time are named, for the whole takes as long as its processors are busy.

What was run again since a processor stood still (stalls.py) counts by its last run, and is named.
"""

import glob
import json
import os
import re
import sys
import xml.etree.ElementTree as xml


# Those that every build runs; what has no threads is not for the thread sanitizer, and what is not
# compiled is tested in one build only.
SUITES = {"contract", "e2e", "faults", "fuzz", "sandbox", "unit"}
SUITES_UNTHREADED = {"sim"}
SUITES_ONCE = {"bench", "hostile", "install", "style"}
DEAREST = 12  # are named
VERDICTS = {"OK": "passed", "EXPECTEDFAIL": "passed", "SKIP": "skipped"}


def read_subtests(path):
    """Returns, for each program that reports its tests, a list of (name, verdict, reason)."""
    programs = {}
    for suite in xml.parse(path).getroot():
        # Meson calls the suite of such a program PROJECT.PROGRAM.
        program = suite.get("name").partition(".")[2]
        for case in suite.findall("testcase") if program else ():
            verdict = "passed"
            if case.find("skipped") is not None:
                verdict = "skipped"
            elif case.find("failure") is not None or case.find("error") is not None:
                verdict = "failed"
            reason = (case.findtext("system-out") or "").strip()
            programs.setdefault(program, []).append((case.get("name"), verdict, reason))
    return programs


def introspect(build, what):
    """What Meson knows of a build folder."""
    path = os.path.join(build, "meson-info", f"intro-{what}.json")
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def suites_of(build):
    """Returns the names of the suites that have a test in a build folder."""
    return {suite.rpartition(":")[2]
            for test in introspect(build, "tests") for suite in test["suite"]}


def suites_wanted(build):
    options = {option["name"]: option["value"] for option in introspect(build, "buildoptions")}
    return SUITES | (set() if options.get("b_sanitize") == "thread" else SUITES_UNTHREADED)


def empty_suites(builds):
    """Yields what read_cases does for each suite that has no test where it should have."""
    suites = {build: suites_of(build) for build in builds}
    for build in builds:
        for suite in sorted(suites_wanted(build) - suites[build]):
            yield f"{build}: {suite}", "failed", "the suite has no test"
    for suite in sorted(SUITES_ONCE - set().union(*suites.values())):
        yield suite, "failed", "the suite has no test in any build"


def logs_of(build, suffix):
    """Meson's log of a build folder, and those of what was run again, the last one last."""
    folder = os.path.join(glob.escape(build), "meson-logs")
    return [path for name in ("testlog", "again*")
            for path in sorted(glob.glob(os.path.join(folder, f"{name}.{suffix}")))]


def programs_of(build):
    """What `meson test` logged of each program's last run in a build folder."""
    programs = {}
    for path in logs_of(build, "json"):
        with open(path, encoding="utf-8") as lines:
            programs |= {program["name"]: program for program in map(json.loads, lines)}
    return list(programs.values())


def repeated(build):
    """Yields the name of each program that was run again, as often as it was."""
    for path in logs_of(build, "json")[1:]:
        with open(path, encoding="utf-8") as lines:
            yield from (json.loads(line)["name"] for line in lines)


def verdict_of(program):
    return VERDICTS.get(program["result"], "failed")


def processor_times(builds):
    """(seconds, where) of every program whose tap.py told them, the dearest first."""
    times = []
    for build in builds:
        for program in programs_of(build):
            told = re.search(r"^# processor: ([\d.]+) s$", program.get("stdout", ""), re.MULTILINE)
            if told:
                times.append((float(told[1]), f"{build}: {program['name']}"))
    return sorted(times, reverse=True)


def read_cases(build):
    """Yields (where, verdict, reason) for every test that a build folder's log knows."""
    if not logs_of(build, "junit.xml"):
        yield "all", "failed", "no log of a test run"
    subtests = {}
    for path in logs_of(build, "junit.xml"):
        subtests |= read_subtests(path)
    for program in programs_of(build):
        cases = subtests.get(program["name"], [])
        for name, verdict, reason in cases:
            yield f"{program['name']}: {name}", verdict, reason
        verdict = verdict_of(program)
        told = any(case[1] == "failed" for case in cases)
        if not cases or (verdict == "failed" and not told):
            yield program["name"], verdict, program["result"]


def main():
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    builds = sys.argv[1:]
    cases = list(empty_suites(builds))
    for build in builds:
        cases += ((f"{build}: {where}", *rest) for where, *rest in read_cases(build))
    for where, verdict, reason in cases:
        counts[verdict] += 1
        if verdict != "passed":
            print(f"{verdict}: {where}{': ' if reason else ''}{reason}")
    for build in builds:
        for program in repeated(build):
            print(f"run again, a processor stood still: {build}: {program}")
    times = processor_times(builds)
    print(f"processor time of the tests: {sum(seconds for seconds, _ in times):.0f} s; most of it:")
    for seconds, where in times[:DEAREST]:
        print(f"{seconds:7.1f} s  {where}")
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 1 if counts["failed"] or not counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
