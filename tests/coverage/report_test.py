"""What `./do coverage` counts, and what it leaves out."""

import os
import sys
import unittest

sys.path.append(os.path.dirname(os.path.abspath(__file__)))

import report

SOURCE = """int function(int number)
{
    if (number)
        return report(number,
                      -1);
    // UNTESTED: no machine
    // answers so
    if (!number) {
        number = 1;

        return number;
    }
    number++; // UNTESTED: it is late
    return 0;
}

// UNTESTED: nobody calls it
void other(void)
{
    function(1);
}
void third(void)
{
}
""".split("\n")


def record(name, *counts):
    """gcovr's record of a file whose code lines have these counts; None is no code."""
    return {"file": name, "lines": [
        {"line_number": at, "count": count or 0, "gcovr/noncode": count is None}
        for at, count in enumerate(counts, 1)]}


class Marks(unittest.TestCase):
    """Comments that take code out of the count."""

    def test_a_mark_takes_its_line_or_the_block_below(self):
        """Two lines of reason belong together, and a block ends where its brace does."""
        self.assertEqual(list(report.marks(SOURCE)), [
            report.Mark(6, 8, 12, "no machine answers so"),
            report.Mark(13, 13, 13, "it is late"),
            report.Mark(17, 18, 21, "nobody calls it"),
        ])

    def test_a_statement_of_several_lines_is_one(self):
        """Deeper lines belong to the one above them; the next of the same depth does not."""
        self.assertEqual(report.block_end(SOURCE, 3), 5)
        self.assertEqual(report.block_end(SOURCE, 1), 15)

    def test_a_mark_says_why_and_stands_above_code(self):
        """No reason, no code below: both are refused."""
        for lines in (["    call(); // UNTESTED"], ["// UNTESTED:", "call();"],
                      ["// UNTESTED: late", "", "call();"], ["// UNTESTED: late"]):
            with self.subTest(lines=lines), self.assertRaises(report.Problem):
                list(report.marks(lines))

    def test_marked_lines_are_not_counted(self):
        """What is marked leaves the count, and is told with the number of its lines."""
        file = record("core/a.c", 1, None, 0)
        lines = ["call();", "// UNTESTED: never", "call();"]
        self.assertEqual(list(report.exclude(file, lines)), ["core/a.c:2: 1 lines: never"])
        self.assertEqual(report.counts([file])["core"], report.Count(1, 1))

    def test_what_ran_of_a_marked_block_counts(self):
        """A mark on a function explains what is left of it, and hides nothing that ran."""
        file = record("core/a.c", None, 2, None, 1, 0, None, 0)
        lines = ["// UNTESTED: no memory", "int function(void)", "{", "    if (call())",
                 "        return 1;", "}", "int other;"]
        self.assertEqual(list(report.exclude(file, lines)), ["core/a.c:1: 1 lines: no memory"])
        self.assertEqual(report.counts([file])["core"], report.Count(2, 3))

    def test_a_mark_on_what_ran_is_told(self):
        """Its reason has become wrong; the code counts as run."""
        file = record("core/a.c", None, 3)
        told = list(report.exclude(file, ["// UNTESTED: never", "call();"]))
        self.assertEqual(told, ["core/a.c:1: 0 lines: never (yet something ran it)"])
        self.assertEqual(report.counts([file])["core"], report.Count(1, 1))

    def test_a_mark_above_no_code_is_refused(self):
        """A comment that takes nothing out is wrong somehow."""
        with self.assertRaises(report.Problem):
            list(report.exclude(record("core/a.c", None, None), ["// UNTESTED: x", "enum { A };"]))


class Reasons(unittest.TestCase):
    """Lines that were not run and carry no mark."""

    FILES = [record("core/a.c", 1, 0, None, 0), record("core/b.c", 1), record("servers/c.c", 0)]

    def test_each_is_named(self):
        """A file whose lines all ran is not; what is no code is no line."""
        self.assertEqual(list(report.unexplained(self.FILES)),
                         [("core/a.c", [2, 4]), ("servers/c.c", [1])])

    def test_one_above_the_allowance_fails(self):
        """The allowance itself passes; the names come first, and the sum is told in any case."""
        for allowance, passes in ((3, True), (2, False)):
            rows = list(report.explanations(self.FILES, allowance))
            self.assertEqual([line for line, _ in rows], [
                "no reason: core/a.c: 2 4", "no reason: servers/c.c: 1",
                f"3 lines neither run nor explained, of {allowance} allowed"])
            self.assertEqual(all(passed for _, passed in rows), passes)

    def test_a_mark_explains(self):
        """After a mark nothing is left to explain, and none are needed for a pass of zero."""
        file = record("core/a.c", 1, 0)
        list(report.exclude(file, ["call();", "call(); // UNTESTED: never"]))
        self.assertEqual(list(report.explanations([file], 0)),
                         [("0 lines neither run nor explained, of 0 allowed", True)])


class Verdict(unittest.TestCase):
    """How much is enough."""

    def test_marks_do_not_raise_the_percentage(self):
        """What is marked was not run: nothing is left to explain, and it is still too little."""
        files = [record("core/a.c", 1, 0, 0)]
        lines = ["call();", "call(); // UNTESTED: never", "call(); // UNTESTED: never"]
        found, told = report.explain(files, {"core/a.c": lines}.get)
        self.assertEqual(found["core/"], report.Count(1, 3))
        self.assertEqual(len(told), 2)
        self.assertEqual(list(report.unexplained(files)), [])
        rows = dict((line.split()[0], enough) for line, enough in report.verdict(found, 90))
        self.assertFalse(rows["core/"])

    def test_core_and_servers_are_held_to_it(self):
        """One with too few lines fails, though both together have enough."""
        files = [record("core/a.c", *[1] * 90), record("servers/b.c", 1, 1, 0, None)]
        found = report.counts(files)
        self.assertEqual(found, {
            "core": report.Count(90, 90), "core/": report.Count(90, 90),
            "servers": report.Count(2, 3), "servers/": report.Count(2, 3),
            "all": report.Count(92, 93)})
        rows = dict((line.split()[0], enough) for line, enough in report.verdict(found, 90))
        self.assertFalse(rows["servers/"])
        self.assertTrue(rows["core/"] and rows["all"])

    def test_a_directory_below_is_marked(self):
        """It fails nothing by itself, but is not hidden behind the others."""
        files = [record("core/a.c", *[1] * 90), record("core/sim/b.c", 1, 0)]
        rows = list(report.verdict(report.counts(files), 90))
        self.assertTrue(all(enough for _, enough in rows))
        few = [line.split()[0] for line, _ in rows if "fewer than" in line]
        self.assertEqual(few, ["core/sim"])

    def test_just_enough_is_enough(self):
        """The bound itself passes, and a line less does not."""
        for run, enough in ((90, True), (89, False)):
            files = [record("core/a.c", *[1] * run, *[0] * (100 - run))]
            rows = dict((line.split()[0], row)
                        for line, row in report.verdict(report.counts(files), 90))
            self.assertEqual((rows["core/"], rows["all"]), (enough, enough))


if __name__ == "__main__":
    unittest.main()
