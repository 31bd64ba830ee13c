"""Defects that are planted on purpose, and must be found by the simulator.

Each patch in mutants/ is a mistake that io_uring invites, or one of a server: then its name begins
with the protocol that finds it. It is applied to a copy of the sources, the files that it changes
are compiled, without optimization, and linked before the build's own libraries; then weir-sim plays
seeds until one fails. That the same seeds hold without a defect, seeds_test shows.
"""

import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import tempfile
import unittest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("MESON_BUILD_ROOT", SOURCE / "build/release"))
MUTANTS = sorted((SOURCE / "tests/sim/mutants").glob("*.patch"))
PROGRAM = "tests/sim/weir-sim"
FOLDERS = ("core", "servers")
PROTOCOLS = ("echo", "file", "http", "ftp")
# A tenth of what seeds_test plays: so that a mistake of the kind is found although it shows seldom.
SEEDS = 2000
RUN_LIMIT_S = 20
AT_ONCE = 2
MUTANTS_MIN = 15


def run(command, cwd, limit_s=60):
    return subprocess.run(
        command,
        cwd=cwd,
        timeout=limit_s,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )


def compile_commands():
    """The compiler's arguments for each source of the static library, by path in the project."""
    commands = {}
    for entry in json.loads((BUILD / "compile_commands.json").read_text()):
        path = (BUILD / entry["file"]).resolve()
        if any(path.is_relative_to(SOURCE / folder) for folder in FOLDERS):
            commands[str(path.relative_to(SOURCE))] = shlex.split(entry["command"])
    return commands


def link_command():
    said = run(["ninja", "-t", "commands", PROGRAM], BUILD).stdout
    return shlex.split(said.strip().splitlines()[-1])


class Mutant:
    """One patch, built in a folder of its own."""

    def __init__(self, patch, folder):
        self.patch = patch
        self.folder = pathlib.Path(folder)

    def build(self, compilers, linker):
        tree = self.folder / "tree"
        for folder in FOLDERS:
            shutil.copytree(SOURCE / folder, tree / folder)
        said = run(["patch", "-p1", "--no-backup-if-mismatch", "-i", str(self.patch)], tree)
        if said.returncode:
            raise AssertionError(f"{self.patch.name} does not apply any more:\n{said.stdout}")
        changed = re.findall(r"^\+\+\+ b/(\S+)", self.patch.read_text(), re.MULTILINE)
        objects = [self.compile(compilers[name], tree, name) for name in changed]
        program = self.folder / "mutant"
        at = linker.index("-o")
        command = [*linker[:at], "-o", str(program), *objects, *linker[at + 2 :]]
        said = run(command, BUILD)
        if said.returncode:
            raise AssertionError(f"{self.patch.name} does not link:\n{said.stdout}")
        return program

    def compile(self, arguments, tree, name):
        """Compiles the changed file as the build does, but against the changed tree."""
        target = str(self.folder / (name.replace("/", "_") + ".o"))
        dropped = {"-MD", "-Werror"}
        command, skip = [], False
        for argument in arguments:
            if skip or argument in dropped or re.match(r"-O\d", argument):
                skip = False
            elif argument in ("-MQ", "-MF", "-o", "-c"):
                skip = True
            elif argument == f"-I{os.path.relpath(SOURCE / 'core', BUILD)}":
                command.append(f"-I{tree / 'core'}")
            else:
                command.append(argument)
        said = run([*command, "-w", "-O0", "-o", target, "-c", str(tree / name)], BUILD)
        if said.returncode:
            raise AssertionError(f"{self.patch.name} does not compile:\n{said.stdout}")
        return target


def protocol_of(patch):
    first = patch.stem.split("-")[0]
    return first if first in PROTOCOLS else PROTOCOLS[0]


def play(program, protocol):
    """Returns the first seed that fails and what it complains of, or None when every seed held."""
    command = [str(program), "--protocol", protocol, "--seeds", str(SEEDS), "--until-failure"]
    try:
        said = run(command, "/", limit_s=RUN_LIMIT_S)
    except subprocess.TimeoutExpired:
        return "it did not end"
    if not said.returncode:
        return None
    seed = re.search(r"--seed (\d+)", said.stdout)
    complaint = re.search(r"^  (?! |replay:)(.+)|(Assertion .+)", said.stdout, re.MULTILINE)
    return f"seed {seed[1] if seed else '?'}: {complaint[0].strip() if complaint else said.stdout}"


def find(patch, compilers, linker):
    with tempfile.TemporaryDirectory(prefix="weir-mutant-") as folder:
        return play(Mutant(patch, folder).build(compilers, linker), protocol_of(patch))


class Mutants(unittest.TestCase):
    # Every planted defect makes a seed fail, or ends the program.
    def test_every_mutant_is_found(self):
        compilers, linker = compile_commands(), link_command()
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            found = dict(zip(MUTANTS, pool.map(lambda p: find(p, compilers, linker), MUTANTS)))
        for patch, how in found.items():
            with self.subTest(patch.stem):
                print(f"# {patch.stem}: {' '.join(how.split())[:160] if how else 'NOT FOUND'}")
                self.assertIsNotNone(how)

    # There are as many as were asked for: a folder that is not found proves nothing.
    def test_there_are_mutants(self):
        self.assertGreaterEqual(len(MUTANTS), MUTANTS_MIN)


if __name__ == "__main__":
    unittest.main()
