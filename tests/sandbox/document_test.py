"""docs/security.md lists what the sandbox leaves; this holds it to the tables in the code."""

import os
import re
import subprocess
import sys
import unittest

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
TABLES = os.environ["TABLES"]

# What no thread of an echo server may ask for, in either mode.
FORBIDDEN = {"socket", "connect", "bind", "listen", "execve", "execveat", "io_uring_setup",
             "io_uring_register", "kill", "tkill", "ptrace", "process_vm_readv", "pidfd_open",
             "fork", "vfork", "clone3", "prctl", "seccomp", "setuid", "chroot", "mount", "bpf"}


def tables():
    """The lists of the code by title."""
    output = subprocess.run([TABLES], capture_output=True, text=True, timeout=20, check=True)
    lists = {}
    for line in output.stdout.splitlines():
        title, _, names = line.partition(":")
        lists[title] = names.split()
    return lists


def document():
    """The rows "| title | count | names |" of the document, by title."""
    rows = {}
    with open(os.path.join(TOP, "docs", "security.md"), encoding="utf-8") as file:
        for line in file:
            found = re.match(r"\| ([^|]+) \| (\d+) \| ([\w ]+) \|$", line)
            if found:
                rows[found[1]] = (int(found[2]), found[3].split())
    return rows


class DocumentTest(unittest.TestCase):
    """What the page says is what the code does."""

    # Every list of the code stands in the page, name by name and counted, and no other does.
    def test_page_and_code_agree(self):
        lists, rows = tables(), document()
        self.assertEqual(set(rows), set(lists))
        for title, names in lists.items():
            with self.subTest(list=title):
                self.assertEqual(sorted(rows[title][1]), sorted(names))
                self.assertEqual(rows[title][0], len(names))

    # In strict mode a ring's loop has at most 8 system calls and 8 operations, and fewer calls than
    # epoll's, in each mode.
    def test_the_list_is_short(self):
        lists = tables()
        self.assertLessEqual(len(lists["strict uring"]), 8)
        self.assertLessEqual(len(lists["ring operations"]), 8)
        for mode in ("strict", "on"):
            self.assertLess(len(lists[f"{mode} uring"]), len(lists[f"{mode} epoll"]))
            self.assertLess(len(lists[f"{mode} epoll"]), len(lists[f"{mode} blocking"]))

    # No list has a call that does what the sandbox forbids; threads are the blocking engine's.
    def test_no_list_has_a_forbidden_call(self):
        for title, names in tables().items():
            if title.startswith("ring"):
                continue
            with self.subTest(list=title):
                self.assertEqual(set(names) & FORBIDDEN, set())
                self.assertEqual("clone" in names, "blocking" in title)
                self.assertEqual("openat" in names, "files" in title)


if __name__ == "__main__":
    sys.exit(unittest.main())
