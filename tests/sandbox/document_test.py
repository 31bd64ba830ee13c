"""docs/security.md lists what the sandbox leaves; this holds it to the tables in the code."""

import os
import re
import subprocess
import sys
import unittest

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
PAGE = os.path.join(TOP, "docs", "security.md")
TABLES = os.environ["TABLES"]

SERVERS = ("echo", "echo --total-timeout", "http", "ftp", "ftp --read-only")
# The columns of the table that sets all servers side by side.
COLUMNS = ("uring loop", "uring job", "ring operations", "ring flags", "ring register operations",
           "epoll loop", "epoll job", "blocking loop")

# What no thread of any server may ask for, in either mode; and what only FTP may, whose data
# connections are made while it runs.
FORBIDDEN = {"execve", "execveat", "io_uring_setup", "io_uring_register", "kill", "tkill", "ptrace",
             "process_vm_readv", "process_vm_writev", "pidfd_open", "pidfd_getfd", "fork", "vfork",
             "clone3", "prctl", "seccomp", "setuid", "setgid", "capset", "chroot", "chdir", "mount",
             "bpf", "keyctl", "userfaultfd", "perf_event_open", "symlinkat", "linkat", "mknodat",
             "chmod", "fchmodat", "fchownat", "memfd_create"}
SOCKETS = {"socket", "bind", "listen", "connect"}
WRITES = {"mkdirat", "unlinkat", "renameat", "renameat2", "pwritev", "pwritev2", "splice",
          "ftruncate", "fchmod", "utimensat"}


def tables():
    """The lists of the code by title."""
    output = subprocess.run([TABLES], capture_output=True, text=True, timeout=20, check=True)
    lists = {}
    for line in output.stdout.splitlines():
        title, _, names = line.partition(":")
        lists[title] = names.split()
    return lists


def document():
    """The rows "| title | count | names |" of the document by title, and those of the table that
    counts, by server."""
    rows, counts = {}, {}
    with open(PAGE, encoding="utf-8") as file:
        for line in file:
            found = re.match(r"\| ([^|]+) \| (\d+) \| ([\w ]+) \|$", line)
            if found:
                rows[found[1]] = (int(found[2]), found[3].split())
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if len(cells) == 1 + len(COLUMNS) and cells[0] in SERVERS:
                counts[cells[0]] = cells[1:]
    return rows, counts


def one_of_its_kind(title):
    """The list of socket options that the page's stands for."""
    return re.sub(r"^(http|(echo|ftp) --[\w-]+)", lambda found: found[2] or "echo", title)


def options_title(title):
    """Under what the page lists a server's socket options."""
    return re.sub("^echo", "every", one_of_its_kind(title))


def added_by_on(lists):
    """What mode on leaves beside strict, to any thread."""
    return {name for title, names in lists.items() if title.startswith("on ")
            for name in set(names) - set(lists[title.removeprefix("on ")])}


class DocumentTest(unittest.TestCase):
    """What the page says is what the code does."""

    # Every list of strict mode stands in the page, name by name and counted, with what mode on adds
    # to them; and no other list does.
    def test_page_and_code_agree(self):
        lists, (rows, _) = tables(), document()
        expected = {title: names for title, names in lists.items()
                    if not title.startswith("on ") and title != "ports"}
        for title in [title for title in expected if title.endswith(" options")]:
            expected.setdefault(options_title(title), expected.pop(title))
        expected["on adds"] = added_by_on(lists)
        self.assertEqual(set(rows), set(expected))
        for title, names in expected.items():
            with self.subTest(list=title):
                self.assertEqual(sorted(rows[title][1]), sorted(names))
                self.assertEqual(rows[title][0], len(names))

    # Socket options are listed twice: for servers that make no sockets while they run, and for ftp.
    def test_socket_options_are_those_of_two_kinds(self):
        lists = tables()
        for title, names in lists.items():
            if title.endswith(" options"):
                with self.subTest(list=title):
                    self.assertEqual(names, lists[one_of_its_kind(title)])
        self.assertFalse([title for title, names in lists.items() if "any" in names])

    # In the text, too, numbers are the code's.
    def test_ports_are_counted(self):
        with open(PAGE, encoding="utf-8") as file:
            said = re.findall(r"a range of more than ([\d,]+)", file.read())
        self.assertEqual([number.replace(",", "") for number in said], tables()["ports"])

    # What the page says of cost is measured: each ratio of echo and http with 64 connections stands
    # in the tables of the results, in bursts and by turns, with its interval, and none is left out;
    # and a call's nanoseconds stand in their text.
    def test_costs_are_those_of_the_results(self):
        with open(PAGE, encoding="utf-8") as file:
            cost = file.read().partition("\n## Cost\n")[2]
        with open(os.path.join(TOP, "docs", "results", "sandbox.md"), encoding="utf-8") as file:
            results = file.read()
        ratio = r"\d\.\d+ \(\d\.\d+-\d\.\d+\)"
        said = re.findall(ratio, cost)
        self.assertEqual(len(said), 12)
        for engine, part in (("io_uring", said[:6]), ("epoll", said[6:])):
            rows = [line for line in results.splitlines()
                    if f"64 connections | {engine} |" in line]
            self.assertEqual(re.findall(ratio, "\n".join(rows)), part)
        nanoseconds = re.findall(r"about (\d+) ns", cost)
        self.assertEqual(nanoseconds, re.findall(r"costs about (\d+) ns a call", results))
        self.assertEqual(len(nanoseconds), 1)

    # Side by side stand the numbers of what is listed, and a dash where there is no such thread.
    def test_counts_stand_side_by_side(self):
        lists, (_, counts) = tables(), document()
        self.assertEqual(set(counts), set(SERVERS))
        for server in SERVERS:
            titles = [f"{server} {column}" for column in COLUMNS]
            self.assertEqual(counts[server], [str(len(lists[title])) if title in lists else "-"
                                              for title in titles])

    # In strict mode, abort(3) included, a ring's loop has at most 8 system calls and 8 operations
    # for echo, and 14 and 12 for HTTP, whose helpers have no more.
    def test_the_lists_are_short(self):
        lists = tables()
        self.assertLessEqual(len(lists["echo uring loop"]), 8)
        self.assertLessEqual(len(lists["echo ring operations"]), 8)
        self.assertEqual(len(lists["echo --total-timeout uring loop"]),
                         len(lists["echo uring loop"]))
        self.assertLessEqual(len(lists["echo --total-timeout ring operations"]), 9)
        self.assertLessEqual(len(lists["http uring loop"]), 14)
        self.assertLessEqual(len(lists["http uring job"]), 14)
        self.assertLessEqual(len(lists["http ring operations"]), 12)
        self.assertLessEqual(len(lists["ftp ring operations"]), 13)

    # Whatever the server, a ring needs fewer calls than epoll, in loops, in all threads together
    # and in each mode, and epoll fewer than a thread per connection.
    def test_rings_need_the_least(self):
        lists = tables()
        for mode in ("", "on "):
            for server in SERVERS:
                prefix = mode + server
                with self.subTest(server=prefix):
                    uring, epoll, blocking = (
                        {*lists[f"{prefix} {engine} loop"],
                         *lists.get(f"{prefix} {engine} job", ())}
                        for engine in ("uring", "epoll", "blocking"))
                    self.assertLess(len(lists[f"{prefix} uring loop"]),
                                    len(lists[f"{prefix} epoll loop"]))
                    self.assertLess(len(uring), len(epoll))
                    self.assertLess(len(epoll), len(blocking))

    # No list has a call that does what the sandbox forbids; threads are the blocking engine's, and
    # sockets and changes those of the servers that make them.
    def test_no_list_has_a_forbidden_call(self):
        for title, names in tables().items():
            if re.search(" ring | options$|^(strict refuses|ports)$", title):
                continue
            name, ftp = set(names), "ftp" in title
            with self.subTest(list=title):
                self.assertEqual(name & FORBIDDEN, set())
                self.assertEqual("clone" in name, "blocking" in title)
                self.assertEqual("socket" in name, ftp and "job" not in title)
                if not ftp:
                    self.assertEqual(name & SOCKETS, set())
                if not ftp or "--read-only" in title:
                    self.assertEqual(name & WRITES, set())
                if "openat" in name:
                    self.assertRegex(title, r"with files|ftp (\w+ job|blocking)")


if __name__ == "__main__":
    sys.exit(unittest.main())
