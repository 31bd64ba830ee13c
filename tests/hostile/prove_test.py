"""The defects that hostile scenes are proven with. `./do hostile --prove` plays all of them."""

import os
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, ".."), os.path.join(HERE, "..", "e2e")]

import measure  # pylint: disable=wrong-import-position
import prove  # pylint: disable=wrong-import-position
from mutant import SOURCE, run  # pylint: disable=wrong-import-position
from stage import CI  # pylint: disable=wrong-import-position

ENGINES = ("uring", "epoll", "blocking")
# Takes a second.
QUICK = "accepts-take-descriptors"


def play(name, engine, weir):
    scenes = {scene.__name__: scene for scene in measure.SCENES}
    return measure.play(scenes[name], engine, CI, weir)


class Proofs(unittest.TestCase):
    def test_each_scene_has_a_defect_that_it_finds(self):
        """A scene that no defect is known to fail may be blind."""
        proofs = prove.all_proofs()
        names = {scene.__name__ for scene in measure.SCENES}
        self.assertEqual({proof.scene for proof in proofs}, names)
        self.assertLessEqual({proof.engine for proof in proofs}, set(ENGINES))

    def test_defects_fit_the_sources(self):
        """Each patch applies, and says what it proves."""
        for patch in prove.PATCHES:
            with self.subTest(patch.stem):
                self.assertTrue(prove.proofs_of(patch))
                said = run(["patch", "-p1", "--dry-run", "--force", "-i", str(patch)], SOURCE)
                self.assertEqual(said.returncode, 0, said.stdout)

    def test_a_defect_makes_its_scene_fail(self):
        """The way from a patch to a missed need works, and a sound server meets the same."""
        patch = next(patch for patch in prove.PATCHES if patch.stem == QUICK)
        for proof, holds, how in prove.Prover(play).prove(patch, prove.proofs_of(patch)):
            self.assertTrue(holds, f"{proof.scene} with {proof.engine}: {how}")


if __name__ == "__main__":
    unittest.main()
