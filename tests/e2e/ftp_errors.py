"""What `weir ftp` says when the file system fails; the session goes on."""

import ctypes
import errno
import os
import platform
import resource

from ftp_client import on_all_engines, reset, small_buffers
from programs import forbid_call, receive, receive_end

DONE = "226 Transfer complete."
OPENING = "150 Opening data connection."
# More than the kernel's buffers and the server's queue take for a client that does not read.
LARGE = 64 << 20

PWRITEV = {"x86_64": 296, "aarch64": 69}.get(platform.machine())

LIBRARY = ctypes.CDLL(None, use_errno=True)


def mount(folder, options, flags=0):
    """A tmpfs that only this process and its children see."""
    # CLONE_NEWNS; then MS_REC | MS_PRIVATE.
    if LIBRARY.unshare(0x20000) or LIBRARY.mount(b"none", b"/", None, 0x44000, None) or \
            LIBRARY.mount(b"none", os.fsencode(folder), b"tmpfs", flags, options):
        raise OSError(ctypes.get_errno(), "mount")


def drop_capabilities(*numbers):
    """For preexec_fn: the program will not have these, even as root."""
    zero = ctypes.c_ulong(0)
    for number in numbers:
        # PR_CAPBSET_DROP
        if LIBRARY.prctl(24, ctypes.c_ulong(number), zero, zero, zero) and not os.geteuid():
            raise OSError(ctypes.get_errno(), "prctl")


class Errors:
    """On one server, or on one with a file system or rights of its own."""

    def login_beside(self, name, options, flags=0):
        """A session of a server that has a file system of its own at this name."""
        folder = self.path(name)
        os.mkdir(folder)
        if os.geteuid():
            self.skipTest("mounting a file system needs root")

        server = self.start_server(*self.options,
                                   preexec_fn=lambda: mount(folder, options, flags))
        return self.login(server)

    def overfill(self, control, command):
        """Sends far too much and returns the last reply."""
        with control.passive() as data:
            self.assertEqual(control.ask(command), OPENING)
            try:
                data.sendall(b"x" * (8 << 20))
            except (BrokenPipeError, ConnectionResetError):
                pass
            return control.reply()

    # A file that would grow beyond the limit of the process is 552, and its old self stays.
    def test_file_size_limit(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

        server = self.start_server(*self.options, preexec_fn=limit)
        control = self.login(server)
        self.write("limited", b"old")
        for kind in "IA":
            control.ask(f"TYPE {kind}")
            with control.passive() as data:
                self.assertEqual(control.ask("STOR limited"), OPENING)
                try:
                    data.sendall(b"x" * (8 << 20))
                except (BrokenPipeError, ConnectionResetError):
                    pass
                self.assertEqual(control.reply(), "552 The file is too large.")
        self.assertEqual((self.read("limited"), self.leftovers()), (b"old", []))

    # A full disk is 452, in a mount of the server's own; the session goes on.
    def test_full_disk(self):
        control = self.login_beside("full", b"size=1m")
        for kind in "IA":
            control.ask(f"TYPE {kind}")
            self.assertEqual(self.overfill(control, "STOR full/file"), "452 No space left.")
            self.assertEqual(control.retrieve("NLST -a full"), (b"", DONE))
        self.assertEqual(control.store("STOR full/small", b"x" * 1000), DONE)
        self.assertEqual(self.overfill(control, "APPE full/small"), "452 No space left.")
        self.assert_asks(control, ("TYPE I", "200 Type is binary."),
                         ("MKD full/folder", '257 "/full/folder" created.'))
        self.assertEqual(control.retrieve("RETR full/small")[0][:1000], b"x" * 1000)

    # A quota is 552, and what was there stays. No file system with quotas is at hand everywhere:
    # the system call that writes uploads says so instead.
    def test_quota(self):
        if PWRITEV is None:
            self.skipTest("the number of pwritev is not known here")

        def limit():
            forbid_call(PWRITEV, error=errno.EDQUOT)

        server = self.start_server(*self.options, preexec_fn=limit)
        control = self.login(server)
        self.write("quota", b"old")
        for command in ("STOR quota", "APPE quota"):
            self.assertEqual(self.overfill(control, command), "552 The quota is exceeded.")
            self.assertEqual((self.read("quota"), self.leftovers()), (b"old", []))
        self.assertEqual(control.retrieve("RETR quota"), (b"old", DONE))

    # A server out of descriptors says that this passes, for a listing as for an upload, and the old
    # file stays; when it has some again, both work.
    def test_no_descriptors(self):
        control = self.login()
        self.write("scarce", b"old")
        server, files = self.server.process.pid, resource.RLIMIT_NOFILE
        limits = resource.prlimit(server, files)
        control.passive_port()
        resource.prlimit(server, files, (3, limits[1]))
        self.addCleanup(resource.prlimit, server, files, limits)
        busy = "451 Too much at once; try again later."
        self.assert_asks(control, ("STAT scarce", busy), ("STOR scarce", busy), ("LIST", busy),
                         ("RETR scarce", busy))
        resource.prlimit(server, files, limits)
        self.assertEqual(control.store("STOR scarce", b"new"), DONE)
        self.assertEqual(control.retrieve("RETR scarce"), (b"new", DONE))
        self.assertEqual(len(control.ask("STAT scarce").split("\n")), 3)

    # A file system that is read-only says so, before a data connection is needed.
    def test_read_only_file_system(self):
        control = self.login_beside("fixed", b"", 1) # MS_RDONLY
        self.assertEqual(control.store("STOR fixed/new", b""), "553 Read-only file system.")
        self.assert_asks(control, ("MKD fixed/new", "550 Read-only file system."),
                         ("NOOP", "200 Yes."))

    # What the server's user may not do is refused: read, write, replace, list, enter.
    def test_permissions(self):
        server = self.start_server(*self.options, preexec_fn=lambda: drop_capabilities(1, 2))
        control = self.login(server)
        denied = "Permission denied."
        self.write("closed", b"closed")
        os.chmod(self.path("closed"), 0)
        os.mkdir(self.path("shut"))
        self.write("shut/in", b"in")
        os.chmod(self.path("shut"), 0)
        self.assertEqual(control.retrieve("RETR closed"), (None, f"550 {denied}"))
        for command in ("STOR closed", "APPE closed", "STOR shut/new"):
            self.assertEqual((command, control.store(command, b"")), (command, f"553 {denied}"))
        self.assertEqual(control.retrieve("LIST shut"), (None, f"550 {denied}"))
        self.assert_asks(control, ("CWD shut", f"550 {denied}"), ("SIZE shut/in", f"550 {denied}"),
                         ("DELE shut/in", f"550 {denied}"), ("MKD shut/new", f"550 {denied}"),
                         ("NOOP", "200 Yes."))
        os.chmod(self.path("shut"), 0o700)
        self.assertEqual(self.read("shut/in"), b"in")

    # The mode of a file that its owner may neither read nor write can still be set, where the
    # sandbox does not stand in between; to write alone is enough, too.
    def test_modes_of_unreadable_files(self):
        server = self.start_server(*self.options, "--sandbox", "off",
                                   preexec_fn=lambda: drop_capabilities(1, 2))
        control = self.login(server)
        for mode in (0, 0o200):
            self.write("unreadable", b"x")
            os.chmod(self.path("unreadable"), mode)
            self.assert_asks(control, ("SITE CHMOD 640 unreadable", "200 Mode changed."))
            self.assertEqual(os.stat(self.path("unreadable")).st_mode & 0o7777, 0o640)

    # Somebody who removes an upload's temporary file breaks it: it is not told as complete, and the
    # old file stays.
    def test_vanished_upload(self):
        control = self.login()
        self.write("vanishing", b"old")
        with control.passive() as data:
            self.assertEqual(control.ask("STOR vanishing"), OPENING)
            data.sendall(b"new")
            os.unlink(self.path(self.leftovers()[0]))
        self.assertEqual(control.reply(), "451 The file could not be written.")
        self.assertEqual(self.read("vanishing"), b"old")
        self.assertEqual(control.store("STOR vanishing", b"new"), DONE)

    # A file that shrinks while it is sent is never filled up: the client sees that it broke.
    def test_shrinking_file(self):
        control = self.login()
        with open(self.path("shrinking"), "wb") as file:
            file.truncate(LARGE)
        data = small_buffers((control.host, control.passive_port()))
        control.ask("RETR shrinking")
        receive(data, 1000)
        os.truncate(self.path("shrinking"), 2000)
        with self.assertRaises(ConnectionResetError):
            receive_end(data)
        self.assertEqual(control.reply(), "451 The file could not be read.")
        self.assertEqual(control.ask("NOOP"), "200 Yes.")

    # The same where the file is read piece by piece, and a client that goes in the middle of it.
    def test_shrinking_file_in_ascii(self):
        control = self.login()
        with open(self.path("shrinking"), "wb") as file:
            file.truncate(LARGE)
        control.ask("TYPE A")
        for shrinks in (True, False):
            os.truncate(self.path("shrinking"), LARGE)
            data = small_buffers((control.host, control.passive_port()))
            control.ask("RETR shrinking")
            receive(data, 1000)
            if shrinks:
                os.truncate(self.path("shrinking"), 2000)
                with self.assertRaises(ConnectionResetError):
                    receive_end(data)
                self.assertEqual(control.reply(), "451 The file could not be read.")
            else:
                reset(data)
                self.assertEqual(control.reply(), "426 The data connection broke.")
        self.assertEqual(control.ask("NOOP"), "200 Yes.")


on_all_engines(Errors, globals())
