"""Each style rule accepts a good tree and finds what it is there to find."""

import os
import tempfile
import unittest

import rules

GOOD = {
    "meson.build": "project(\n  'weir',\n  version: '1.2.3',\n)\n",
    "core/weir.h": '#define WEIR_VERSION "1.2.3"\n\n// Does it.\nWEIR_PUBLIC int weir_do(void);\n'
                   "WEIR_PUBLIC int weir_undo(int a,\n                          int b);\n",
    "core/slab.h": "struct slab;\n",
    "core/slab.c": '#include "slab.h"\n\nint slab_size(void)\n{\n    return 1;\n}\n',
    "core/engines/uring/features.c": "int a = features[0].flag; // FEATURE_CAPS\n",
    "core/engines/uring/ring.c": "#include <liburing.h>\n",
    "servers/echo.c": '#include <weir.h>\n#include "echo.h"\n',
    "servers/echo.h": "struct echo;\n",
    "tests/unit/slab.c": '#include "slab.h"\n\n// A slab is small.\n'
                         "static void slab_is_small(void **state)\n{\n}\n",
    "tests/e2e/echo.py": 'class Echo:\n    def test_echo(self):\n        """It answers."""\n',
}


class RulesCanFail(unittest.TestCase):
    def problems(self, rule, files=()):
        """What a rule says about the good tree with some files changed."""
        with tempfile.TemporaryDirectory() as top:
            for path, text in {**GOOD, **dict(files)}.items():
                path = os.path.join(top, path)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "w", encoding="utf-8") as file:
                    file.write(text)
            return list(rule(rules.Tree(top)))

    def expect(self, rule, path, text):
        found = self.problems(rule, files={path: text})
        self.assertEqual(len(found), 1, f"{rule.__name__} in {path}: {found}")
        self.assertTrue(found[0].startswith(path), found)

    def test_good_tree_passes(self):
        """No rule complains about a good tree."""
        for rule in rules.RULES:
            self.assertEqual(self.problems(rule), [], rule.__name__)

    def test_columns(self):
        """A line of 101 columns is found, one of 100 is not."""
        self.expect(rules.check_columns, "core/a.c", "x" * 101 + "\n")
        self.assertEqual(
            self.problems(rules.check_columns, files={"core/a.c": "x" * 100 + "\n"}), [])

    def test_blanks(self):
        """Tabs and blanks at a line's end are found, in documents too."""
        self.expect(rules.check_blanks, "core/a.c", "int\ta;\n")
        self.expect(rules.check_blanks, "README.md", "weir \n")

    def test_file_length(self):
        """A file of 601 lines is found, in C and in Python."""
        self.expect(rules.check_file_length, "core/a.c", "\n" * 601)
        self.expect(rules.check_file_length, "bench/a.py", "\n" * 601)
        self.assertEqual(
            self.problems(rules.check_file_length, files={"core/a.c": "\n" * 600}), [])

    def test_function_length(self):
        """A function of 71 lines is found with either brace style, and in Python."""
        rule = rules.check_function_length
        self.expect(rule, "core/a.c", "int a(void)\n{\n" + "    b();\n" * 68 + "}\n")
        self.expect(rule, "core/a.c", "int a(void) {\n" + "    b();\n" * 69 + "}\n")
        self.expect(rule, "core/a.c", "int a(int b,\n      int c)\n{\n" + "    b();\n" * 67 + "}\n")
        self.expect(rule, "bench/a.py", "def a():\n" + "    b()\n" * 70)
        text = "int a(void)\n{\n" + "    b();\n" * 67 + "}\n"
        self.assertEqual(self.problems(rule, files={"core/a.c": text}), [])

    def test_core_is_private(self):
        """Servers and the bench cannot include a private header by any spelling."""
        rule = rules.check_core_is_private
        self.expect(rule, "servers/a.c", '#include "slab.h"\n')
        self.expect(rule, "servers/a.c", "#include <slab.h>\n")
        self.expect(rule, "bench/load/a.c", '#include "core/slab.h"\n')
        self.expect(rule, "bench/load/a.c", '#include "../../core/slab.h"\n')

    def test_core_looks_down_only(self):
        """The library cannot include a server's header."""
        self.expect(rules.check_core_looks_down_only, "core/a.c", '#include "servers/echo.h"\n')

    def test_liburing_is_contained(self):
        """Outside of its engine, liburing.h is found."""
        self.expect(rules.check_liburing_is_contained, "core/loop.c", "#include <liburing.h>\n")
        self.expect(rules.check_liburing_is_contained, "servers/a.c", "#include <liburing.h>\n")

    def test_features_are_read_once(self):
        """A feature that another file reads is found; in a comment it is not."""
        rule = rules.check_features_are_read_once
        self.expect(rule, "core/engines/uring/send.c", "if (features[0].on)\n")
        self.expect(rule, "core/engines/uring/send.c", "if (plan & FEATURE_CAPS)\n")
        self.expect(rule, "core/loop.c", "if (flags & IORING_FEAT_NODROP)\n")
        self.assertEqual(self.problems(rule, files={"core/loop.c": "// FEATURE_CAPS\n"}), [])

    def test_public_names_are_documented(self):
        """A public declaration with nothing or a blank line above it is found."""
        rule = rules.check_public_names_are_documented
        self.expect(rule, "core/weir.h", "#define A\n\nWEIR_PUBLIC int weir_do(void);\n")
        self.expect(rule, "core/weir.h", "// A.\n\nWEIR_PUBLIC int weir_do(void);\n")

    def test_tests_say_what_must_hold(self):
        """A test without a sentence is found, in C and in Python."""
        rule = rules.check_tests_say_what_must_hold
        self.expect(rule, "tests/unit/a.c", "static void a(void **state)\n{\n}\n")
        self.expect(rule, "tests/unit/a.c", "// words\nstatic void a(void **state)\n{\n}\n")
        self.expect(rule, "tests/contract/a.c", "void a(struct world *world)\n{\n}\n")
        self.expect(rule, "tests/e2e/a.py", "def test_a():\n    pass\n")

    def test_nothing_is_left_unfinished(self):
        """A note to oneself is found."""
        for word in ("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"):
            self.expect(rules.check_nothing_is_left_unfinished, "core/a.c", f"// {word}: it\n")

    def test_versions_agree(self):
        """A header with another version than the build is found."""
        self.expect(rules.check_versions_agree, "core/weir.h", '#define WEIR_VERSION "1.2.4"\n')

    def test_format(self):
        """Text that clang-format would change is found."""
        clang_format = rules.find_clang_format()
        if clang_format is None:
            self.skipTest(f"no clang-format {rules.CLANG_FORMAT_VERSION}")
        with tempfile.TemporaryDirectory() as top:
            with open(os.path.join(top, ".clang-format"), "w", encoding="utf-8") as file:
                file.write("BasedOnStyle: LLVM\n")
            with open(os.path.join(top, "a.c"), "w", encoding="utf-8") as file:
                file.write("int   a ;\n")
            found = list(rules.check_format(rules.Tree(top), clang_format))
        self.assertEqual(found, ["a.c:1: not as clang-format would"])


if __name__ == "__main__":
    unittest.main()
