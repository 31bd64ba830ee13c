"""Reports each test of one file as a TAP line, so that every test is counted by itself.

usage: tap.py FILE.py [I/N]     runs its unittest classes, or part I of N: every N-th test
       tap.py PROGRAM [ARG...]  runs a cmocka program that prints TAP

A skip keeps its reason: what a cmocka test prints before skip(). What a failed test printed also
goes to standard error, which `meson test` shows. The last line is the processor time of it all, for
summary.py.
"""

import importlib.util
import os
import re
import resource
import signal
import subprocess
import sys
import unittest


class TapResult(unittest.TestResult):
    """Prints one line per test as soon as it is over."""

    count = 0

    def report(self, ok, test, note=""):
        self.count += 1
        name = getattr(test, "_testMethodName", str(test)).removeprefix("test_")
        print(f"{'ok' if ok else 'not ok'} {self.count} - {name}{note}", flush=True)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.report(True, test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.report(True, test, f" # SKIP {reason}")

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.explain(test, self.failures[-1][1])

    def addError(self, test, err):
        super().addError(test, err)
        self.explain(test, self.errors[-1][1])

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            problems = self.failures if issubclass(err[0], test.failureException) else self.errors
            self.explain(test, problems[-1][1])

    def explain(self, test, trace):
        self.report(False, test)
        for line in trace.rstrip().splitlines():
            print(f"# {line}")
            print(line, file=sys.stderr)


def each_test(suite):
    """The single tests of a suite of suites, in its order."""
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from each_test(item)
        else:
            yield item


def run_unittest(path, part="1/1"):
    sys.path.insert(0, os.path.dirname(path))
    spec = importlib.util.spec_from_file_location(os.path.basename(path)[:-3], path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    result = TapResult()
    index, parts = map(int, part.split("/"))
    tests = list(each_test(unittest.defaultTestLoader.loadTestsFromModule(module)))
    unittest.TestSuite(tests[index - 1::parts]).run(result)
    print(f"1..{result.count}")
    return 0 if result.wasSuccessful() else 1


def run_program(command):
    said = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace") as program:
        for line in map(str.rstrip, program.stdout):
            if skip := re.match(r"(?:not )?ok (\d+) # SKIP (.*)", line):
                # cmocka before 1.1.6 calls a skipped test "not ok".
                line = f"ok {skip[1]} - {skip[2]} # SKIP {' '.join(said)}"
            if re.match(r"(not )?ok \d+|1\.\.\d+|TAP version", line):
                said = []
            else:
                line = line.removeprefix("# ")
                # A failure's explanation follows it and is nobody's reason to skip.
                said = [] if ": error: " in line else [*said, line]
                line = f"# {line}"
            print(line, flush=True)
            if line[0] in "#n":
                print(line, file=sys.stderr)
    if program.returncode < 0:
        print(f"ended by {signal.Signals(-program.returncode).name}", file=sys.stderr)
    return 1 if program.returncode else 0


def processor_seconds():
    """Of this process and of all that it waited for."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main():
    if sys.argv[1].endswith(".py"):
        status = run_unittest(os.path.abspath(sys.argv[1]), *sys.argv[2:])
    else:
        status = run_program(sys.argv[1:])
    print(f"# processor: {processor_seconds():.2f} s", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
