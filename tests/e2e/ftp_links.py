"""Names that lead elsewhere: nothing of `weir ftp` leaves the root, and links inside work."""

import os
import subprocess
import sys
import time

from ftp_client import on_all_engines
from programs import LIMIT

DONE = "226 Transfer complete."


class Links:
    """On one server, and on one that writes in place."""

    # Nothing leads out of the root: neither dots, nor absolute names, nor symbolic links.
    def test_no_way_out_of_the_root(self):
        control = self.login()
        outside = os.path.join(self.folder.name, "outside")
        os.makedirs(outside, exist_ok=True)
        with open(os.path.join(outside, "secret"), "w", encoding="ascii") as file:
            file.write("secret")
        os.symlink("../outside", self.path("relative"))
        os.symlink(outside, self.path("absolute"))
        os.symlink("/proc/self/root", self.path("magic"))
        os.symlink("../outside/secret", self.path("link"))
        os.symlink("../outside/new", self.path("dangling"))
        os.mkdir(self.path("inside"))
        os.symlink("inside", self.path("within"))
        for name in ("relative", "absolute", "magic", "/../outside", "../../outside"):
            # Dots are taken out before, and what is left is not there.
            text = "No such file or directory." if "." in name else "The name leads outside."
            for command in (f"CWD {name}", f"SIZE {name}/secret", f"MKD {name}/made",
                            f"RMD {name}/made", f"DELE {name}/secret", f"RNFR {name}/secret",
                            f"MFMT 20200101000000 {name}/secret",
                            f"SITE CHMOD 777 {name}/secret", f"MLST {name}/secret"):
                self.assert_asks(control, (command, f"550 {text}"))
            self.assert_asks(control, ("RNFR inside", "350 Ready for RNTO."),
                             (f"RNTO {name}/moved", f"553 {text}"))
            self.assertEqual(control.retrieve(f"RETR {name}/secret")[1], f"550 {text}")
            self.assertEqual(control.retrieve(f"LIST {name}/")[1], f"550 {text}")
            for command in ("STOR", "APPE", "STOU"):
                self.assertEqual(control.store(f"{command} {name}/new", b"x"), f"553 {text}")
        self.assertEqual(control.retrieve("RETR link")[1], "550 The name leads outside.")
        direct = self.login(self.start_server(*self.options, "--uploads", "direct"))
        for name in ("link", "dangling"):
            for session, command in ((control, "APPE"), (direct, "APPE"), (direct, "STOR")):
                self.assertEqual(session.store(f"{command} {name}", b"x"),
                                 "553 The name leads outside.")
            for session in (control, direct):
                session.ask("REST 1")
                self.assertEqual(session.store(f"STOR {name}", b"x"), "553 The name leads outside.")
        self.assertEqual(control.ask("CWD within"), "250 Directory changed.")
        self.assertEqual(os.listdir(outside), ["secret"])
        with open(os.path.join(outside, "secret"), encoding="ascii") as file:
            self.assertEqual(file.read(), "secret")
        names, _ = control.retrieve("MLSD /")
        self.assertIn(b"type=OS.unix=slink;", names)

    # A directory that is exchanged for a link while names are resolved never leads outside.
    def test_no_way_out_by_a_race(self):
        outside = os.path.join(self.folder.name, "raced")
        os.mkdir(outside)
        with open(os.path.join(outside, "file"), "w", encoding="ascii") as file:
            file.write("outside")
        os.mkdir(self.path("real"))
        self.write("real/file", b"in")
        os.symlink("../raced", self.path("fake"))
        os.rename(self.path("real"), self.path("seat"))
        script = ("import os,sys\nos.chdir(sys.argv[1])\nprint(flush=True)\nwhile True:\n"
                  "    os.rename('seat','real');os.rename('fake','seat')\n"
                  "    os.rename('seat','fake');os.rename('real','seat')\n")
        with subprocess.Popen([sys.executable, "-c", script, self.root],
                              stdout=subprocess.PIPE) as racer:
            racer.stdout.readline()
            try:
                control, replies, stored = self.login(), set(), set()
                deadline = time.monotonic() + LIMIT
                # Until the file was met and missed, and some hundred times in any case; by uploads,
                # too, whole ones and those in place.
                while not ({"213 2"} < replies and {"226"} < stored) and \
                        time.monotonic() < deadline:
                    for _ in range(400):
                        replies.add(control.ask("SIZE seat/file"))
                    for command in ("STOR seat/stored", "APPE seat/appended") * 20:
                        stored.add(control.store(command, b"in")[:3])
            finally:
                racer.kill()
        self.assertIn("213 2", replies)
        self.assertLessEqual(replies, {"213 2", "550 The name leads outside.",
                                       "550 No such file or directory.",
                                       "451 Too much at once; try again later."})
        self.assertIn("226", stored)
        self.assertLessEqual(stored, {"226", "553", "451"})
        self.assertEqual(os.listdir(outside), ["file"])
        with open(os.path.join(outside, "file"), encoding="ascii") as file:
            self.assertEqual(file.read(), "outside")

    # A link that stays inside is replaced by a whole new file, as any name is; what goes on with a
    # file, or writes in place, follows it.
    def test_uploads_onto_links(self):
        control = self.login()
        direct = self.login(self.start_server(*self.options, "--uploads", "direct"))
        self.write("target", b"old")
        os.chmod(self.path("target"), 0o604)
        os.symlink("target", self.path("inner"))
        self.assertEqual(control.store("APPE inner", b" more"), DONE)
        self.assertEqual(self.read("target"), b"old more")
        control.ask("REST 3")
        self.assertEqual(control.store("STOR inner", b"er"), DONE)
        self.assertEqual(self.read("target"), b"older")
        self.assertEqual(direct.store("STOR inner", b"direct"), DONE)
        self.assertEqual(self.read("target"), b"direct")
        self.assertEqual(os.readlink(self.path("inner")), "target")
        self.assertEqual(control.store("STOR inner", b"new"), DONE)
        self.assertEqual((self.read("target"), self.read("inner")), (b"direct", b"new"))
        self.assertFalse(os.path.islink(self.path("inner")))
        self.assertEqual(os.stat(self.path("target")).st_mode & 0o777, 0o604)
        self.assertNotEqual(os.stat(self.path("inner")).st_mode & 0o777, 0o604)


on_all_engines(Links, globals())
