"""The unittest classes of a file, each test as a TAP line: tap.py's part for Python."""

import importlib.util
import os
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
        if os.environ.get("TAP_NO_SKIPS"):
            self.failures.append((test, reason))
            self.explain(test, f"skipped: {reason}")
            return
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


def run(path, part="1/1"):
    """Runs the file's tests, or a part of them; returns the exit status."""
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
