"""Checks this source tree: one test per rule of rules.py, and the format."""

import os
import unittest

import rules

# Keeps this file out of a failure's trace: the problem is in the file that the message names.
__unittest = True

TREE = rules.Tree(os.path.abspath(os.path.join(os.path.dirname(__file__), "../..")))


class Style(unittest.TestCase):
    def expect_none(self, problems):
        problems = list(problems)
        if problems:
            self.fail("\n".join(["", *problems]))

    def test_format(self):
        """The files look as clang-format writes them."""
        clang_format = rules.find_clang_format()
        if clang_format is None:
            self.skipTest(f"no clang-format {rules.CLANG_FORMAT_VERSION}")
        self.expect_none(rules.check_format(TREE, clang_format))


for check in rules.RULES:
    setattr(Style, check.__name__.replace("check_", "test_", 1),
            lambda self, check=check: self.expect_none(check(TREE)))

if __name__ == "__main__":
    unittest.main()
