"""The table's lines, and that a reader can tell its columns apart."""

import unittest

import suite_path  # noqa: F401
from weir_bench import table


class Table(unittest.TestCase):
    def test_columns_never_touch(self):
        """Whatever is in them: the widest intervals have eleven characters and more."""
        values = ["0.94-0.99", "79.99-171.42", "1013.50-1024.25", "", "1.00-1.02"]
        line = table.row_of("    interval", values)
        self.assertEqual(line.split(), ["interval", *filter(None, values)])

    def test_columns_stand_under_their_headings(self):
        """As long as they fit."""
        lines = [table.row_of("", ["ops/s", "p50"]), table.row_of("  epoll", ["58.6k", "552 us"])]
        self.assertEqual(len(lines[0]), len(lines[1]))

    def test_values_have_three_digits_and_a_unit(self):
        """From nanoseconds to seconds, and rounding up changes the unit."""
        for value, kind, text in ((12.34, "time", "12.3 ns"), (999_960, "time", "1.00 ms"),
                                  (1.5e9, "time", "1.50 s"), (58_600, "rate", "58.6k"),
                                  (1536, "size", "1.50 KiB"), (0, "number", "0")):
            self.assertEqual(table.show(value, kind), text)


if __name__ == "__main__":
    unittest.main()
