"""Reports each test of one file as a TAP line, so that every test is counted by itself.

usage: tap.py FILE.py [I/N]     runs its unittest classes, or part I of N: every N-th test
       tap.py PROGRAM [ARG...]  runs a cmocka program that prints TAP

A skip keeps its reason: what a cmocka test prints before skip(). Where all that the tests of a file
need was installed, TAP_NO_SKIPS=1 makes a skip a failure. What a failed test printed also
goes to standard error, which `meson test` shows. The last line is the processor time of it all, for
summary.py. This runs hundreds of times in a row, so it imports what it needs and no more.
"""

import os
import re
import resource
import signal
import sys


def start(command):
    """Returns the process and its output. subprocess would take as long to import as all else."""
    output, end = os.pipe()
    # Python ignores these; programs are not to inherit that.
    ignored = [signal.SIGPIPE, signal.SIGXFSZ]
    process = os.posix_spawn(command[0], command, os.environ, setsigdef=ignored,
                             file_actions=[(os.POSIX_SPAWN_DUP2, end, sys.stdout.fileno())])
    os.close(end)
    return process, os.fdopen(output, encoding="utf-8", errors="replace")


def run_program(command):
    said = []
    process, output = start(command)
    with output:
        for line in map(str.rstrip, output):
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
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if status < 0:
        print(f"ended by {signal.Signals(-status).name}", file=sys.stderr)
    return 1 if status else 0


def run_cases(path, *part):
    import tap_cases  # pylint: disable=import-outside-toplevel
    return tap_cases.run(os.path.abspath(path), *part)


def processor_seconds():
    """Of this process and of all that it waited for."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main():
    if sys.argv[1].endswith(".py"):
        status = run_cases(*sys.argv[1:])
    else:
        status = run_program(sys.argv[1:])
    print(f"# processor: {processor_seconds():.2f} s", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
