#!/usr/bin/python3
"""Tells which statements of core/ and servers/ the tests in a coverage build ran.

usage: report.py BUILD [LEAST]

Writes BUILD/coverage.txt and BUILD/coverage/index.html, prints one line per directory, and fails
where fewer than LEAST percent (90) of all were run: in core/, in servers/, and in both together.
The directories below them are told apart, and those with fewer are marked.

A comment "UNTESTED: reason" explains code that was not run: its own line, or, alone on a line, the
statement, block or function below it. It does not make the percentage any better. All of them are
listed, and each must say why. Lines that were not run and have no reason are listed too, and more
than ALLOWANCE of them fail: some run in one run of the tests and not in the next, as time has it.
"""

import collections
import json
import os
import re
import subprocess
import sys

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
FOLDERS = ("core/", "servers/")
LEAST = 90.0
ALLOWANCE = 5

# A mark's lines count from 1; `first` and `last` are what it takes out.
Mark = collections.namedtuple("Mark", "line first last reason")
Count = collections.namedtuple("Count", "run all")


class Problem(Exception):
    """A mark that means nothing."""


def indent(line):
    return len(line) - len(line.lstrip())


def block_end(lines, first):
    """The last line of the statement, block or function that begins with line number `first`."""
    depth = indent(lines[first - 1])
    last = first
    for at in range(first + 1, len(lines) + 1):
        line = lines[at - 1]
        deeper = not line.strip() or indent(line) > depth
        if not deeper and not (indent(line) == depth and line.strip() in ("{", "}", "};")):
            break
        if line.strip():
            last = at
        if not deeper and line.strip() != "{":
            break
    return last


def marks(lines):
    """Yields the marks of a file, given as a list of its lines."""
    for at, line in enumerate(lines, 1):
        found = re.search(r"//.*\bUNTESTED\b:? *(.*)", line)
        if not found:
            continue
        if not found[1]:
            raise Problem(f"line {at}: UNTESTED without a reason")
        if not line.lstrip().startswith("//"):
            yield Mark(at, at, at, found[1])
            continue
        reason, first = found[1], at + 1
        while first <= len(lines) and lines[first - 1].lstrip().startswith("//"):
            reason += " " + lines[first - 1].strip(" /")
            first += 1
        if first > len(lines) or not lines[first - 1].strip():
            raise Problem(f"line {at}: UNTESTED above nothing")
        yield Mark(at, first, block_end(lines, first), reason)


def exclude(file, lines):
    """Takes what is marked out of gcovr's record of a file; yields each mark as a line of text."""
    for mark in marks(lines):
        counted = [line for line in file["lines"]
                   if mark.first <= line["line_number"] <= mark.last and not line["gcovr/noncode"]]
        if not counted:
            raise Problem(f"line {mark.line}: UNTESTED above no code")
        left = [line for line in counted if not line["count"]]
        for line in left:
            line["gcovr/noncode"] = True
        ran = "" if left else " (yet something ran it)"
        yield f"{file['file']}:{mark.line}: {len(left)} lines: {mark.reason}{ran}"


def unexplained(files):
    """What was neither run nor marked, after exclude(): pairs of a file's name and line numbers."""
    for file in files:
        lines = [line["line_number"] for line in file["lines"]
                 if not line["gcovr/noncode"] and not line["count"]]
        if lines:
            yield file["file"], lines


def explanations(files, allowance):
    """Yields a line per file with unexplained lines, then one that sums up, and whether it passes.
    """
    count = 0
    for name, lines in unexplained(files):
        count += len(lines)
        yield f"no reason: {name}: {' '.join(map(str, lines))}", True
    yield f"{count} lines neither run nor explained, of {allowance} allowed", count <= allowance


def counts(files):
    """The Count of each directory by itself, of core/ and servers/ whole, and of "all"."""
    found = {}
    for file in files:
        lines = [line["count"] for line in file["lines"] if not line["gcovr/noncode"]]
        for name in (os.path.dirname(file["file"]), file["file"].split("/")[0] + "/", "all"):
            before = found.get(name, Count(0, 0))
            found[name] = Count(before.run + sum(map(bool, lines)), before.all + len(lines))
    return {name: count for name, count in found.items() if count.all}


def percent(count):
    return 100 * count.run / count.all


def verdict(found, least):
    """Yields a line per directory, and whether it is enough for a pass."""
    for name, count in sorted(found.items(), key=lambda item: (item[0] == "all", item[0])):
        enough = percent(count) >= least
        few = "" if enough else f", fewer than {least:g} %"
        line = f"{name:22} {percent(count):6.2f} % of {count.all:5} statements{few}"
        yield line, enough or name not in (*FOLDERS, "all")


def source_lines(name):
    with open(os.path.join(TOP, name), encoding="utf-8") as source:
        return source.read().split("\n")


def explain(files, lines_of):
    """The counts of all, and the marks as text, after these are taken out of gcovr's records.

    In this order: code that was not run stays so, whatever its mark says.
    """
    found, told = counts(files), []
    for file in files:
        try:
            told += exclude(file, lines_of(file["file"]))
        except Problem as problem:
            raise Problem(f"{file['file']}: {problem}") from None
    return found, told


def gcovr(*arguments):
    # Some counts of branches in code that forks are negative, which gcovr takes for an error.
    subprocess.run(["gcovr", "--root", TOP, *arguments], check=True, stderr=subprocess.DEVNULL)


def measure(build):
    """gcovr's record of a build folder without what is marked, the marks as text, and the counts
    of all before that.
    """
    path = os.path.join(build, "coverage.json")
    gcovr("--gcov-ignore-parse-errors", "--json", path,
          *[word for folder in FOLDERS for word in ("--filter", folder)], build)
    with open(path, encoding="utf-8") as file:
        record = json.load(file)
    found, told = explain(record["files"], source_lines)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(record, file)
    return record, told, found


def write(build):
    page = os.path.join(build, "coverage", "index.html")
    os.makedirs(os.path.dirname(page), exist_ok=True)
    gcovr("--add-tracefile", os.path.join(build, "coverage.json"), "--html-details", page,
          "--html-title", "weir: statements that the tests run",
          "--txt", os.path.join(build, "coverage.txt"))
    return page


def main():
    build = sys.argv[1]
    least = float(sys.argv[2]) if len(sys.argv) > 2 else LEAST
    try:
        record, told, found = measure(build)
    except Problem as problem:
        print(f"coverage: {problem}", file=sys.stderr)
        return 1
    if not record["files"]:
        print("coverage: nothing was recorded", file=sys.stderr)
        return 1
    for line in told:
        print(f"untested: {line}")
    rows = [*explanations(record["files"], ALLOWANCE), *verdict(found, least)]
    for line, _ in rows:
        print(line)
    print(f"each line: {write(build)}")
    return 0 if all(enough for _, enough in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
