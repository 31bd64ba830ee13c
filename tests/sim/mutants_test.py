"""Defects that are planted on purpose, and must be found by the simulator.

Each patch in mutants/ is a mistake that io_uring invites, or one of a server: then its name begins
with the protocol that finds it. tests/mutant.py builds weir-sim with it, and that plays seeds until
one fails. That the same seeds hold without a defect, seeds_test shows.
"""

import concurrent.futures
import os
import re
import shlex
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, ".."))

from mutant import BUILD, SOURCE, Mutant, compile_commands, link_command, run  # noqa: E402

MUTANTS = sorted((SOURCE / "tests/sim/mutants").glob("*.patch"))
PROGRAM = "tests/sim/weir-sim"
PROTOCOLS = ("echo", "file", "http", "ftp")
# Less than a third of what seeds_test plays; nearly all are found among a tenth of it.
SEEDS = 6000
# A mutant that survives them needs 9 to 14 s beside the other tests of two processors, and several
# times as long where these are lent to others.
RUN_LIMIT_S = 400
AT_ONCE = 2
MUTANTS_MIN = 15


def protocol_of(patch):
    first = patch.stem.split("-")[0]
    return first if first in PROTOCOLS else PROTOCOLS[0]


def play(program, protocol, limit_s=RUN_LIMIT_S):
    """Returns the first seed that fails and what it complains of, or None when every seed held.

    Of a program that does not end nobody knows which: on a slow machine it may be one whose seeds
    all hold.
    """
    command = [str(program), "--protocol", protocol, "--seeds", str(SEEDS), "--until-failure"]
    try:
        said = run(command, "/", limit_s=limit_s)
    except subprocess.TimeoutExpired as expired:
        raise AssertionError(f"no seed failed within {limit_s} s") from expired
    if not said.returncode:
        return None
    seed = re.search(r"--seed (\d+)", said.stdout)
    if not seed:
        raise AssertionError(f"no seed is told: {said.stdout}")
    complaint = re.search(r"^  (?! |replay:)(.+)|(Assertion .+)", said.stdout, re.MULTILINE)
    return f"seed {seed[1]}: {complaint[0].strip() if complaint else said.stdout}"


def find(patch, compilers, linker):
    with tempfile.TemporaryDirectory(prefix="weir-mutant-") as folder:
        program = Mutant(patch, folder).build(compilers, linker)
        try:
            return play(program, protocol_of(patch))
        except AssertionError as error:
            raise AssertionError(f"{patch.stem}: {error}") from error


class Replays(unittest.TestCase):
    # The same seed prints the same trace, in another process too, and another seed another one.
    def test_a_trace_is_the_same_each_time(self):
        program = str(BUILD / PROGRAM)
        for protocol in PROTOCOLS:
            with self.subTest(protocol):
                command = [program, "--protocol", protocol, "--trace", "--seed"]
                for seed in ("2", "4", "6"):
                    first, second = (run([*command, seed], "/") for _ in range(2))
                    self.assertEqual((first.returncode, second.returncode), (0, 0))
                    self.assertEqual(first.stdout, second.stdout)
                    self.assertGreater(len(first.stdout.splitlines()), 50)
                self.assertNotEqual(first.stdout, run([*command, "8"], "/").stdout)

    # What a failing seed prints is a command that makes it fail again in the same way, with a
    # trace, wherever it is called.
    def test_the_printed_command_fails_again(self):
        patch = SOURCE / "tests/sim/mutants/receive-not-armed-again.patch"
        with tempfile.TemporaryDirectory(prefix="weir-mutant-") as folder:
            program = Mutant(patch, folder).build(compile_commands(), link_command(PROGRAM))
            played = run([str(program), "--seeds", str(SEEDS), "--until-failure"], "/")
            self.assertEqual(played.returncode, 1)
            complaint, command = re.search(r"^  (.+)\n  replay: (.+)$", played.stdout,
                                           re.MULTILINE).groups()
            self.assertEqual(shlex.split(command)[0], str(program))
            again = run(shlex.split(command), "/")
            self.assertEqual(again.returncode, 1)
            self.assertIn(f"  {complaint}\n  replay: {command}\n", again.stdout)
            self.assertGreater(len(again.stdout.splitlines()), 50)


class Mutants(unittest.TestCase):
    # Every planted defect makes a seed fail, or ends the program.
    def test_every_mutant_is_found(self):
        compilers, linker = compile_commands(), link_command(PROGRAM)
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            found = dict(zip(MUTANTS, pool.map(lambda p: find(p, compilers, linker), MUTANTS)))
        for patch, how in found.items():
            with self.subTest(patch.stem):
                print(f"# {patch.stem}: {' '.join(how.split())[:160] if how else 'NOT FOUND'}")
                self.assertIsNotNone(how)

    # One that plays on until its time is over has not been found.
    def test_time_finds_no_mutant(self):
        with self.assertRaisesRegex(AssertionError, "no seed failed"):
            play(BUILD / PROGRAM, PROTOCOLS[0], limit_s=0.01)

    # There are as many as were asked for: a folder that is not found proves nothing.
    def test_there_are_mutants(self):
        self.assertGreaterEqual(len(MUTANTS), MUTANTS_MIN)


if __name__ == "__main__":
    unittest.main()
