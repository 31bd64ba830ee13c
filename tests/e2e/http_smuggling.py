"""Hostile requests against a running server: the exact answers, and who closes."""

import os
import subprocess
import tempfile

import hostile_requests
import http_programs
import programs

LIMITS = ("--max-header-bytes", "4096", "--max-headers", "20", "--max-body", "1024")
REPLAY = os.environ.get("REPLAY", "")


class Table(http_programs.HttpTest):
    """Checks one table of requests; the classes below name it."""

    options = LIMITS
    rows = ()

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for name, target in (("out", "/etc/hostname"), ("outdir", "/etc")):
            os.symlink(target, os.path.join(cls.root, name))
        with open(os.path.join(cls.root, ".secret"), "wb") as file:
            file.write(b"secret")

    def look(self, address, row, piece):
        """What is wrong with the server's conduct, or an empty text."""
        name, data, statuses, closes = row
        try:
            received = (http_programs.converse_refused(address, data, piece) if closes else
                        http_programs.converse(address, data, piece))
        except TimeoutError:
            return f"{name}: it does not close"
        answers = http_programs.parse(received, http_programs.methods_of(data))
        got = [answer.status for answer in answers]
        says_close = bool(answers) and answers[-1].headers.get("connection") == "close"
        if (got, says_close) == (statuses, closes):
            return ""
        return f"{name}: {got}, close={says_close}, not {statuses}, close={closes}"

    def check_table(self, address, piece):
        found = [self.look(address, row, piece) for row in self.rows]
        self.assertEqual([text for text in found if text], [])
        # And the next connection is served.
        self.assertEqual(self.get(address, "/.status").status, 200)


class Files(Table):
    """Requests that no handler should ever see."""

    rows = hostile_requests.FILES_ROWS

    def test_each_hostile_request_gets_its_answer(self):
        """In one piece: the statuses of the table, and the close."""
        self.on_each_engine(self.check_table, None)

    def test_the_answer_is_the_same_byte_by_byte(self):
        """However the bytes arrive, they mean the same."""
        self.on_each_engine(self.check_table, 1)

    def test_there_are_enough_of_them(self):
        """The table has at least 150 rows, each of its own."""
        rows = hostile_requests.FILES_ROWS + hostile_requests.ECHO_ROWS
        self.assertGreaterEqual(len({row[1] for row in rows}), 150)
        self.assertEqual(len({row[0] for row in rows}), len(rows))

    def test_the_parser_agrees_with_itself_at_every_cut(self):
        """The same requests through the fuzz target: whole, by bytes, in two."""
        with tempfile.TemporaryDirectory() as folder:
            rows = hostile_requests.FILES_ROWS + hostile_requests.ECHO_ROWS
            for at, row in enumerate(rows):
                with open(os.path.join(folder, f"{at:03}"), "wb") as file:
                    file.write(row[1])
            run = subprocess.run([REPLAY, folder], capture_output=True, text=True,
                                 timeout=programs.LIMIT, check=False)
            self.assertEqual(run.returncode, 0, run.stderr[-2000:])
            self.assertIn(f"\n1..{len(rows)}\n", run.stdout)


class Echo(Table):
    """Bodies, which the echo handler reads."""

    handler = "echo"
    rows = hostile_requests.ECHO_ROWS

    def test_each_hostile_body_gets_its_answer(self):
        """In one piece: the statuses of the table, and the close."""
        self.on_each_engine(self.check_table, None)

    def test_the_answer_is_the_same_byte_by_byte(self):
        """However the bytes arrive, they mean the same."""
        self.on_each_engine(self.check_table, 1)


del Table  # not a test of its own
