"""Shows that each scene fails where the server is broken.

Each patch in mutants/ is a defect that a scene is there for. Its lines "proves: SCENE ENGINE: NEED"
say what must be missed when a server with it is played small, and the server as it is must meet the
same scene.
"""

import collections
import os
import pathlib
import re
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, ".."))

import machine  # pylint: disable=wrong-import-position
from mutant import Mutant, compile_commands, link_command  # pylint: disable=wrong-import-position

PROGRAM = "servers/weir"
PATCHES = sorted((pathlib.Path(HERE) / "mutants").glob("*.patch"))

Proof = collections.namedtuple("Proof", "patch scene engine need")


def proofs_of(patch):
    found = re.findall(r"^proves: (\w+) (\w+): (.+)$", patch.read_text(), re.MULTILINE)
    return [Proof(patch, *fields) for fields in found]


def all_proofs():
    return [proof for patch in PATCHES for proof in proofs_of(patch)]


def missed(result):
    """What a result misses: a text for each need, the first time."""
    found = {}
    for need in result.needs:
        if not need["met"]:
            found.setdefault(need["text"], f"{need['found']}, asked for {need['limit']}")
    return found


def cannot_be_played(scene):
    return machine.Cgroup.missing() if scene == "cgroup" else None


class Prover:
    """Plays scenes with and without defects. play(scene, engine, weir) gives a scene's result."""

    def __init__(self, play):
        self.play = play
        self.compilers, self.linker = compile_commands(), link_command(PROGRAM)
        self.sound = {}

    def misses_without(self, proof):
        """What the server as it is misses, played once for each scene and engine."""
        key = proof.scene, proof.engine
        if key not in self.sound:
            self.sound[key] = missed(self.play(*key, None))
        return self.sound[key]

    def prove(self, patch, proofs):
        """Yields each proof, whether it holds, and how."""
        with tempfile.TemporaryDirectory(prefix="weir-mutant-") as folder:
            weir = str(Mutant(patch, folder).build(self.compilers, self.linker))
            for proof in proofs:
                without = self.misses_without(proof)
                found = missed(self.play(proof.scene, proof.engine, weir))
                how = "; ".join(f"{text}: {said}" for text, said in found.items())
                if without:
                    how = f"missed without the defect: {without}"
                yield proof, proof.need in found and not without, how


def prove_all(play, scenes, engines):
    """Prints a row for each proof; returns how many do not hold."""
    prover, failed = Prover(play), 0
    print("| defect | scene | engine | what the scene says then | proven |")
    print("|---|---|---|---|---|")
    for patch in PATCHES:
        proofs = [p for p in proofs_of(patch) if (not scenes or p.scene in scenes) and
                  (not engines or p.engine in engines) and not cannot_be_played(p.scene)]
        for proof, holds, how in prover.prove(patch, proofs) if proofs else ():
            failed += not holds
            print(f"| {patch.stem} | {proof.scene} | {proof.engine} | {how or 'met'} | "
                  f"{'yes' if holds else 'NO: ' + proof.need} |", flush=True)
    return failed
