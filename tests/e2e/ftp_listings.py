"""Listings of `weir ftp`: what they say, and that large ones hold nobody up."""

import os
import re
import threading
import time

from ftp_client import FULL, on_all_engines, sanitized, small_buffers
from programs import LIMIT, QUIET, receive, receive_end

DONE = "226 Transfer complete."
OPENING = "150 Opening data connection."
ENTRIES = 100000 if FULL else 20000


class Listings:
    """On one server."""

    # LIST and NLST take ls's options, patterns and single names; MLST and MLSD tell the same facts.
    def test_listings(self):
        control = self.login()
        os.mkdir(self.path("list"))
        for name in ("list/a.txt", "list/b.txt", "list/.hidden", "list/-al"):
            self.write(name, b"12345")
            os.utime(self.path(name), (0, 1000000000))
        os.symlink("a.txt", self.path("list/link"))
        control.ask("CWD list")

        def names(command):
            lines, reply = control.retrieve(command)
            self.assertEqual(reply, DONE)
            self.assertTrue(not lines or lines.endswith(b"\r\n"))
            return sorted(lines.decode().split("\r\n")[:-1])

        self.assertEqual(names("NLST"), ["-al", "a.txt", "b.txt", "link"])
        self.assertEqual(names("NLST -a"), ["-al", ".hidden", "a.txt", "b.txt", "link"])
        self.assertEqual(names("NLST *.txt"), ["a.txt", "b.txt"])
        self.assertEqual(names("NLST /list/?.txt"), ["/list/a.txt", "/list/b.txt"])
        self.assertEqual(names("NLST /list"), ["/list/-al", "/list/a.txt", "/list/b.txt",
                                               "/list/link"])
        self.assertEqual(names("NLST none*"), [])
        self.assertEqual(names("NLST a.txt"), ["a.txt"])
        self.assertEqual(names("NLST -- -al"), ["-al"])
        self.assertEqual(len(names("LIST -al")), 5)
        self.assertEqual(len(names("LIST -al .")), 5)
        self.assertEqual(names("LIST ./-al"), names("LIST -a -- -al"))
        self.assertRegex(names("LIST a.txt")[0],
                         r"^-rw-r--r--    1 \d+ +\d+ +5 Sep  9  2001 a\.txt$")
        self.assertRegex(names("LIST link")[0], r"^lrwxrwxrwx .* link -> a\.txt$")
        facts = [line for line in names("MLSD") if line.endswith(" a.txt")][0]
        self.assertRegex(facts, r"^type=file;size=5;modify=20010909014640;perm=adfrw;"
                                r"unique=[0-9a-fg]+;UNIX\.mode=0644; a\.txt$")
        self.assertEqual(control.ask("MLST a.txt"), "250-Facts:\n " +
                         facts.replace(" a.txt", " /list/a.txt") + "\n250 End")
        self.assertTrue([line for line in names("MLSD") if line.startswith("type=file;") and
                         line.endswith(" link")])
        self.assertEqual(len(control.ask("STAT -a .").split("\n")), 7)
        self.assertEqual(control.ask("STAT none"), "550 No such file or directory.")

    # A listing over the control connection is one reply, whatever is asked beside it.
    def test_nothing_comes_between_the_lines_of_a_listing(self):
        control = self.login()
        self.write_folder("between", 1000)
        control.send("STAT between\r\nSTAT\r\nABOR")
        lines = control.reply().split("\n")
        self.assertEqual((lines[0], len(lines), lines[-1]), ("213-Status:", 1002, "213 End"))
        self.assertEqual(control.reply().split("\n")[0], "211-weir FTP server:")
        self.assertEqual(control.reply(), "226 Nothing to abort.")

    # A large directory streams to a client that reads slowly, in bounded memory, while others are
    # served.
    def test_large_directories(self):
        os.mkdir(self.path("many"))
        self.write("many/0")
        for number in range(1, ENTRIES):
            os.link(self.path("many/0"), self.path("many", f"{number:0200}"))
        server = self.start_server(*self.options, "--send-buffer", "64K")
        control, other, elsewhere = self.login(server), self.login(server), self.login()
        memory = self.memory(server)
        data = small_buffers((control.host, control.passive_port()))
        self.assertEqual(control.ask("MLSD many"), OPENING)
        received = receive(data, 100000)
        waits = [self.wait(other) for _ in range(50)] # while the client does not read
        usual = [self.wait(elsewhere) for _ in range(50)]
        rest = []
        reader = threading.Thread(target=lambda: rest.append(receive_end(data)))
        reader.start()
        while reader.is_alive():
            waits.append(self.wait(other))
        reader.join()
        if not sanitized(): # they keep what was freed
            self.assertLess(self.memory(server) - memory, 4096)
        self.assertEqual(control.reply(), DONE)
        lines = (received + rest[0]).split(b"\r\n")[:-1]
        self.assertEqual(len({line.rsplit(b" ", 1)[1] for line in lines}), ENTRIES)
        # STAT goes the same way, on the control connection.
        control.send("STAT many")
        end = time.monotonic() + QUIET
        while time.monotonic() < end:
            waits.append(self.wait(other))
            usual.append(self.wait(elsewhere))
        self.assertEqual(len(control.reply().split("\n")), ENTRIES + 2)
        # A listing that held the loop up would delay half. What a server waits for a processor, the
        # one that lists nothing waits too.
        self.assertLess(self.most(waits), 0.1 + 3 * self.most(usual))
        if FULL:
            print(f"# {self.engine}: {ENTRIES} entries; another session's MLST waited "
                  f"{1e3 * sorted(waits)[len(waits) // 2]:.2f} ms (median), "
                  f"{1e3 * sorted(waits)[len(waits) * 99 // 100]:.2f} (p99), "
                  f"{1e3 * max(waits):.2f} (most); memory grew by "
                  f"{self.memory(server) - memory} KiB")

    # A listing over the control connection ends by the idle time-out when its client reads nothing.
    # Once it is over, that time-out counts commands again: a long transfer is not idle.
    def test_who_takes_no_listing_is_idle(self):
        self.write_folder("unread", 6000)
        server = self.start_server(*self.options, "--idle-timeout", "2", "--send-buffer", "64K")
        _, ends = self.asks_unread(server, "STAT unread")
        control = self.login(server)
        self.assertEqual(len(control.ask("STAT unread").split("\n")), 6002)
        with control.passive() as data:
            self.assertEqual(control.ask("STOR long"), OPENING)
            self.assertEqual(self.login(server).reply(), "421 Idle for too long.")
            data.sendall(b"at last")
        self.assertEqual(control.reply(), DONE)
        self.assertTrue(ends.poll(1000 * LIMIT), "it is still there")

    @staticmethod
    def wait(other):
        begin = time.monotonic()
        other.ask("MLST many")
        return time.monotonic() - begin

    @staticmethod
    def most(waits):
        """What nine of ten do not exceed: one late answer may be the machine's."""
        return sorted(waits)[len(waits) * 9 // 10]

    @staticmethod
    def memory(server):
        """KiB that the server holds."""
        with open(f"/proc/{server.process.pid}/status", encoding="ascii") as file:
            return int(re.search(r"^VmRSS:\s+(\d+) kB", file.read(), re.M)[1])


on_all_engines(Listings, globals())
