"""`weir passwd`: what it takes for a password, from a pipe and from a terminal."""

import os
import pty
import re
import select
import subprocess
import termios
import unittest

from programs import LIMIT, WEIR, run

HASH = r"\$y\$[./0-9A-Za-z$]+"


class Pipe(unittest.TestCase):
    """One line of standard input."""

    def test_a_hash_is_salted(self):
        """The same password gives another hash each time, with the name before it if asked."""
        first, second = (run("passwd", "--user", "eve", input="secret\n") for _ in range(2))
        for made in (first, second):
            self.assertEqual((made.returncode, made.stderr), (0, ""))
            self.assertRegex(made.stdout, f"^eve:{HASH}\n$")
        self.assertNotEqual(first.stdout, second.stdout)
        self.assertRegex(run("passwd", input="no newline").stdout, f"^{HASH}\n$")

    def test_what_is_no_password_is_refused(self):
        """Nothing, an empty line, and one that would be cut, each with a line that says so."""
        for text, fault in (("", "no password came"), ("\n", "the password is empty"),
                            ("x" * 600 + "\n", "the password is too long")):
            with self.subTest(fault=fault):
                made = run("passwd", input=text)
                self.assertEqual((made.returncode, made.stdout, made.stderr),
                                 (1, "", f"weir passwd: {fault}\n"))

    def test_a_name_has_no_colon(self):
        """It would end the name in the file of users."""
        made = run("passwd", "--user", "a:b", input="secret\n")
        self.assertEqual((made.returncode, made.stdout), (2, ""))
        self.assertIn("colon", made.stderr)


class Terminal(unittest.TestCase):
    """Asked twice, and never shown."""

    def ask(self, *lines):
        """The exit status, the output, and what the terminal showed."""
        terminal, line = pty.openpty()
        self.addCleanup(os.close, terminal)
        with subprocess.Popen([WEIR, "passwd"], stdin=line, stdout=subprocess.PIPE,
                              stderr=line) as process:
            shown = b""
            for prompt, text in zip((b"Password: ", b"Again: "), lines):
                while not shown.endswith(prompt):
                    self.assertTrue(select.select([terminal], [], [], LIMIT)[0], shown)
                    shown += os.read(terminal, 1000)
                # The prompt comes first, and the flush that turns the echo off takes what came
                # before it: so look for that, not for the prompt alone.
                while termios.tcgetattr(terminal)[3] & termios.ECHO:
                    os.sched_yield()
                os.write(terminal, text + b"\n")
            output = process.stdout.read().decode()
            status = process.wait(LIMIT)
        os.close(line)
        while select.select([terminal], [], [], 0)[0]:
            try:
                shown += os.read(terminal, 1000)
            except OSError:
                break  # nobody has the other side any more
        return status, output, shown.decode()

    def test_it_is_not_shown(self):
        """The echo is off while it is typed."""
        status, output, shown = self.ask(b"secret", b"secret")
        self.assertEqual(status, 0)
        self.assertTrue(re.fullmatch(f"{HASH}\n", output), output)
        self.assertNotIn("secret", shown)

    def test_both_must_be_the_same(self):
        """A slip of the finger would lock its owner out."""
        status, output, shown = self.ask(b"secret", b"secert")
        self.assertEqual((status, output), (1, ""))
        self.assertIn("the two are not the same", shown)


if __name__ == "__main__":
    unittest.main()
