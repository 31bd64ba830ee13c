"""Programs with a defect that was planted on purpose.

A patch is applied to copies of the sources that it names; these are compiled, without optimization,
and linked before the build's own libraries. So a mutant costs a second, and nothing of it is ever a
part of what is shipped.
"""

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess

SOURCE = pathlib.Path(__file__).resolve().parents[1]
BUILD = pathlib.Path(os.environ.get("MESON_BUILD_ROOT", SOURCE / "build/release"))
FOLDERS = ("core", "servers")


def run(command, cwd, limit_s=300):
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


def link_command(program):
    """How the build links this program, which is named by its path in the build."""
    said = run(["ninja", "-t", "commands", program], BUILD).stdout
    return shlex.split(said.strip().splitlines()[-1])


class Mutant:
    """One patch, built in a folder of its own."""

    def __init__(self, patch, folder):
        self.patch = patch
        self.folder = pathlib.Path(folder)

    def apply(self):
        """Returns the folder of the changed sources, and their names in it."""
        tree = self.folder / "tree"
        names = re.findall(r"^\+\+\+ b/(\S+)", self.patch.read_text(), re.MULTILINE)
        for name in names:
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(SOURCE / name, tree / name)
        said = run(["patch", "-p1", "--no-backup-if-mismatch", "-i", str(self.patch)], tree)
        if said.returncode:
            raise AssertionError(f"{self.patch.name} does not apply any more:\n{said.stdout}")
        return tree, names

    def build(self, compilers, linker):
        """Returns the program's path, which ends as the build's does."""
        tree, changed = self.apply()
        objects = [self.compile(compilers[name], tree, name) for name in changed]
        at = linker.index("-o")
        program = self.folder / pathlib.Path(linker[at + 1]).name
        command = [*linker[:at], "-o", str(program), *objects, *linker[at + 2 :]]
        said = run(command, BUILD)
        if said.returncode:
            raise AssertionError(f"{self.patch.name} does not link:\n{said.stdout}")
        return program

    def compile(self, arguments, tree, name):
        """Compiles the changed file as the build does; headers are those of the original."""
        target = str(self.folder / (name.replace("/", "_") + ".o"))
        dropped = {"-MD", "-Werror"}
        command, skip = [], False
        for argument in arguments:
            if skip or argument in dropped or re.match(r"-O\d", argument):
                skip = False
            elif argument in ("-MQ", "-MF", "-o", "-c"):
                skip = True
            else:
                command.append(argument)
        beside = ["-iquote", str((SOURCE / name).parent)]
        said = run([*command, *beside, "-w", "-O0", "-o", target, "-c", str(tree / name)], BUILD)
        if said.returncode:
            raise AssertionError(f"{self.patch.name} does not compile:\n{said.stdout}")
        return target
