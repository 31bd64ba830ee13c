"""The style rules that a program can check.

Each rule is a function check_... that takes a Tree and yields one line per problem. check.py
applies them to the project, check_test.py proves that each can fail.
"""

import ast
import os
import re
import shutil
import subprocess

COLUMNS_MAX = 100
FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70

# A feature of io_uring is read where the plan is made from it, and nowhere else.
FEATURE_PATTERN = r"\bIORING_FEAT_\w+|\b(?:URING_)?FEATURE_[A-Z0-9_]+\b|\bfeatures?(?:->|\.|\[)"
FEATURE_READERS = (
    "core/engines/probe.c",
    "core/engines/uring/features.c",
    "core/engines/uring/features.h",
    "core/engines/uring/probe_ring.c",
    "core/engines/uring/uapi.h",
)

LIBURING_FOLDERS = ("core/engines/uring/", "core/engines/sim/")

# How a test function looks: cmocka's, and one of the contract, which gets a world. The functions of
# the world itself begin with world_.
TEST_PATTERN = (
    r"^(?:static )?void (?!(?:world|threads|lockstep|contract)_)(\w+)"
    r"\((?:void \*\*\w*|struct world \*\w+)\)"
)

# Formatting differs between versions, so one version decides.
CLANG_FORMAT_VERSION = 14

FOLDERS_SKIPPED = ("build", "__pycache__", "corpus", "regressions")
UNFINISHED_PATTERN = r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b"


class Tree:
    """The text files under a folder, by path relative to it."""

    def __init__(self, top):
        self.top = top
        self.texts = {}
        for folder, folders, names in os.walk(top):
            folders[:] = [f for f in folders if f[0] != "." and f not in FOLDERS_SKIPPED]
            for name in sorted(names):
                path = os.path.relpath(os.path.join(folder, name), top)
                if name.endswith((".c", ".h", ".cc", ".py", ".sh", ".md", "meson.build")) or (
                    path in ("do", "bench/suite/weir-bench")
                ):
                    with open(os.path.join(folder, name), encoding="utf-8") as file:
                        self.texts[path] = file.read()

    def select(self, *endings, under=""):
        """Yields (path, lines) of the files with one of the endings, or of all."""
        for path, text in sorted(self.texts.items()):
            if path.startswith(under) and (not endings or path.endswith(endings)):
                yield path, text.split("\n")

    def code(self):
        """Yields what is program text: everything but the documents."""
        return ((path, lines) for path, lines in self.select() if not path.endswith(".md"))

    def c(self, under=""):
        return self.select(".c", ".h", ".cc", under=under)

    def python(self, under=""):
        for path, lines in self.select(under=under):
            if path.endswith(".py") or (lines[0].startswith("#!") and "python" in lines[0]):
                yield path, lines

    def includes(self):
        """Yields (path, line number, included name, the file of this tree that it is or "")."""
        for path, lines in self.c():
            for at, line in enumerate(lines, 1):
                if found := re.match(r'\s*#\s*include\s*([<"])([^>"]+)', line):
                    yield path, at, found[2], self.resolve(path, found[1], found[2])

    def resolve(self, path, quote, name):
        folders = ["", "core"] if quote == "<" else [os.path.dirname(path), "", "core"]
        for folder in folders:
            place = os.path.normpath(os.path.join(folder, name))
            if place in self.texts:
                return place
        return ""


def check_columns(tree):
    for path, lines in tree.code():
        for at, line in enumerate(lines, 1):
            if len(line) > COLUMNS_MAX:
                yield f"{path}:{at}: {len(line)} columns, at most {COLUMNS_MAX}"


def check_blanks(tree):
    for path, lines in tree.select():
        for at, line in enumerate(lines, 1):
            if "\t" in line:
                yield f"{path}:{at}: a tab"
            if line != line.rstrip():
                yield f"{path}:{at}: blanks at the end of the line"


def check_file_length(tree):
    for path, lines in [*tree.c(), *tree.python()]:
        if len(lines) - 1 > FILE_LINES_MAX:
            yield f"{path}: {len(lines) - 1} lines, at most {FILE_LINES_MAX}"


def c_functions(lines):
    """Yields (first line, last line) of each function, from its signature on, counted from 1."""
    start = None
    for at, line in enumerate(lines, 1):
        if line == "{" or (re.match(r"[a-z].*\) \{$", line) and start is None):
            start = at
            while start > 1 and re.match(r"[ \w]", lines[start - 2]):
                start -= 1
        elif line == "}" and start is not None:
            yield start, at
            start = None


def python_functions(lines):
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.lineno, node.end_lineno


def check_function_length(tree):
    for files, functions in ((tree.c(), c_functions), (tree.python(), python_functions)):
        for path, lines in files:
            for first, last in functions(lines):
                if last - first + 1 > FUNCTION_LINES_MAX:
                    yield (f"{path}:{first}: a function of {last - first + 1} lines, "
                           f"at most {FUNCTION_LINES_MAX}")


def check_core_is_private(tree):
    for path, at, name, place in tree.includes():
        # The micro benchmarks measure single parts.
        inside = path.startswith(("core/", "tests/", "bench/micro/"))
        if not inside and place.startswith("core/") and place != "core/weir.h":
            yield f"{path}:{at}: {name} is private to core/, only weir.h is public"


def check_core_looks_down_only(tree):
    for path, at, name, place in tree.includes():
        if path.startswith("core/") and place and not place.startswith("core/"):
            yield f"{path}:{at}: core/ does not know {name}"


def check_liburing_is_contained(tree):
    for path, at, name, _ in tree.includes():
        if re.match(r"liburing\b", name) and not path.startswith(LIBURING_FOLDERS):
            yield f"{path}:{at}: only {' and '.join(LIBURING_FOLDERS)} see liburing"


def without_comment(line):
    return re.sub(r"//.*|/\*.*?\*/|^\s*\*.*", "", line)


def check_features_are_read_once(tree):
    for path, lines in tree.c(under="core/"):
        if path in FEATURE_READERS:
            continue
        for at, line in enumerate(lines, 1):
            if found := re.search(FEATURE_PATTERN, without_comment(line)):
                yield f"{path}:{at}: {found[0]}: only features.c reads a feature, others its plan"


def comment_above(lines, at):
    """The comment that ends right above line number `at`, as one text."""
    text = []
    above = at - 2
    while above >= 0 and re.match(r"\s*(//|#|/\*|\*)", lines[above]):
        text.insert(0, lines[above].strip(" /*#"))
        above -= 1
    return " ".join(text).strip()


def check_public_names_are_documented(tree):
    for path, lines in tree.select("core/weir.h"):
        for at, line in enumerate(lines, 1):
            if not line.startswith("WEIR_PUBLIC"):
                continue
            # Declarations without a blank line between them share the comment above the first.
            first = at
            while first > 1 and re.match(r"WEIR_PUBLIC| ", lines[first - 2]):
                first -= 1
            if not comment_above(lines, first):
                yield f"{path}:{at}: no comment right above: {line}"


def check_tests_say_what_must_hold(tree):
    for path, lines in tree.c(under="tests/"):
        for at, line in enumerate(lines, 1):
            found = re.match(TEST_PATTERN, line)
            # A declaration is not a test.
            if found and not line.endswith(";") and "." not in comment_above(lines, at):
                yield f"{path}:{at}: no sentence above the test {found[1]}"
    for path, lines in tree.python(under="tests/"):
        for node in ast.walk(ast.parse("\n".join(lines))):
            if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test_"):
                continue
            says = (ast.get_docstring(node) or "") + comment_above(lines, node.lineno)
            if "." not in says:
                yield f"{path}:{node.lineno}: no sentence at the test {node.name}"


def check_nothing_is_left_unfinished(tree):
    for path, lines in tree.select():
        for at, line in enumerate(lines, 1):
            if found := re.search(UNFINISHED_PATTERN, line):
                yield f"{path}:{at}: {found[0]}: finish it or file it"


def check_versions_agree(tree):
    build = re.search(r"^  version: '([^']+)'", tree.texts.get("meson.build", ""), re.M)
    header = re.search(r'WEIR_VERSION "([^"]+)"', tree.texts.get("core/weir.h", ""))
    if build and header and build[1] != header[1]:
        yield f"core/weir.h: version {header[1]}, but meson.build says {build[1]}"


RULES = [value for name, value in list(globals().items()) if name.startswith("check_")]


def find_clang_format():
    """The path of the version that decides, or None."""
    for name in (f"clang-format-{CLANG_FORMAT_VERSION}", "clang-format"):
        path = shutil.which(name)
        if path:
            said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
            if f"version {CLANG_FORMAT_VERSION}." in said.stdout:
                return path
    return None


def check_format(tree, clang_format):
    files = [path for path, _ in tree.c()]
    if not files:
        return
    run = subprocess.run([clang_format, "--dry-run", "--Werror", *files], cwd=tree.top,
                         capture_output=True, text=True, check=False)
    if run.returncode:
        names = re.findall(r"^(\S+?):(\d+):\d+: (?:error|warning):", run.stderr, re.M)
        yield from sorted({f"{path}:{at}: not as clang-format would" for path, at in names})
