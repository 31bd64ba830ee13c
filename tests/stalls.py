"""Processors that stand still while tests run, and the tests that failed meanwhile.

usage: stalls.py watch FILE         writes "BEGIN END" for each stall, until its parent ends
       stalls.py failed FILE BUILD  names the programs that failed while one lasted, a line each

A virtual machine may be stopped for seconds, or get no processor for as long. All time-outs of a
test that runs then may be over when it goes on: its failure says nothing of what it tests, so
`./do test` runs it again. Times are seconds since 1970, as in Meson's logs.
"""

import os
import sys
import time

import summary

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "e2e"))

import programs  # pylint: disable=wrong-import-position

# Longer than any queue for a processor that is only shared with other tests.
LONG = 1


class Log(programs.Stalls):
    """Writes the long ones down at once."""

    def __init__(self, path):
        # pylint: disable-next=consider-using-with
        self.file = open(path, "w", encoding="utf-8", buffering=1)
        super().__init__()

    def saw(self, late):
        if late >= LONG:
            end = time.time()
            self.file.write(f"{end - late - self.STEP:.3f} {end:.3f}\n")


def watch(path):
    parent, log = os.getppid(), Log(path)
    while os.getppid() == parent:
        time.sleep(1)
    log.end()


def failed(path, build):
    """Yields the names of the programs whose last run failed, and was stopped in between."""
    with open(path, encoding="utf-8") as lines:
        stalls = [tuple(map(float, line.split())) for line in lines]
    for program in summary.programs_of(build):
        begin = program["starttime"]
        if summary.verdict_of(program) == "failed" and any(
                stall[0] < begin + program["duration"] and begin < stall[1] for stall in stalls):
            yield program["name"].rpartition(" / ")[2]


def main():
    command, *arguments = sys.argv[1:]
    if command == "watch":
        watch(*arguments)
    else:
        for name in failed(*arguments):
            print(name)


if __name__ == "__main__":
    main()
