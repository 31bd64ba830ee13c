"""Transfers of `weir ftp`: what comes through, what is never seen, what is told on a break."""

import fcntl
import json
import os
import re
import select
import signal
import socket
import threading
import time

from ftp_client import free_ports, on_all_engines, reset, small_buffers
from programs import LIMIT, connected_socket, receive, receive_end

DONE = "226 Transfer complete."
OPENING = "150 Opening data connection."
# More than the kernel's buffers and the server's queue take for a client that does not read.
LARGE = 64 << 20


class Transfers:
    """On one server."""

    # Files of all sizes around the borders of buffers come and go unchanged.
    def test_all_sizes(self):
        control = self.login()
        content = os.urandom((4 << 20) + 1)
        for size in (0, 1, 4095, 4096, 16383, 16384, 16385, 65536, 65537, 1 << 20, (4 << 20) + 1):
            self.assertEqual(control.store("STOR sized", content[:size]), DONE)
            self.assertEqual(self.read("sized"), content[:size])
            self.assertEqual(control.retrieve("RETR sized"), (content[:size], DONE))
        self.assertEqual(self.leftovers(), [])

    # RETR tells its size, and REST begins later; beyond the end it is refused, and holds only once.
    def test_download_from_an_offset(self):
        control = self.login()
        content = self.write("offset", os.urandom(100000))
        data = control.passive()
        self.assertEqual(control.ask("RETR offset"), "150 Opening data connection (100000 bytes).")
        self.assertEqual(receive_end(data), content)
        self.assertEqual(control.reply(), DONE)
        self.assert_asks(control, ("REST 99999", "350 Restarting at 99999."))
        self.assertEqual(control.retrieve("RETR offset"), (content[99999:], DONE))
        self.assertEqual(control.retrieve("RETR offset"), (content, DONE))
        control.ask("REST 100000")
        self.assertEqual(control.retrieve("RETR offset"), (b"", DONE))
        control.ask("REST 100001")
        self.assertEqual(control.retrieve("RETR offset"),
                         (None, "554 REST is beyond the end of the file."))
        self.assert_asks(control, ("REST x", "501 Syntax: REST offset"),
                         ("REST -1", "501 Syntax: REST offset"), ("TYPE A", "200 Type is ASCII."),
                         ("REST 5", "504 REST needs TYPE I."), ("REST 0", "350 Restarting at 0."))

    # STOR with REST goes on in the file and ends it, APPE goes on at its end.
    def test_upload_from_an_offset(self):
        control = self.login()
        self.write("resumed", b"0123456789")
        control.ask("REST 4")
        self.assertEqual(control.store("STOR resumed", b"abc"), DONE)
        self.assertEqual(self.read("resumed"), b"0123abc")
        self.assertEqual(control.store("APPE resumed", b"def"), DONE)
        self.assertEqual(self.read("resumed"), b"0123abcdef")
        control.ask("REST 11")
        self.assertEqual(control.store("STOR resumed", b"x"),
                         "554 REST is beyond the end of the file.")
        control.ask("REST 1")
        self.assertEqual(control.store("STOR none", b"x"), "553 No such file or directory.")
        self.assertEqual(control.store("APPE appended", b"new"), DONE)
        self.assertEqual(self.read("appended"), b"new")

    # APPE goes on at the end, whatever REST said before it, and REST holds only for it.
    def test_append_after_an_offset(self):
        control = self.login()
        self.write("ended", b"0123456789")
        for offset, expected in ((4, b"0123456789abc"), (100, b"0123456789abcabc")):
            self.assert_asks(control, (f"REST {offset}", f"350 Restarting at {offset}."))
            self.assertEqual(control.store("APPE ended", b"abc"), DONE)
            self.assertEqual(self.read("ended"), expected)
        control.ask("REST 100")
        self.assertEqual(control.store("APPE begun", b"new"), DONE)
        self.assertEqual(self.read("begun"), b"new")
        self.assertEqual(control.retrieve("RETR begun"), (b"new", DONE))

    # ASCII: LF and CR LF are exchanged right wherever a buffer ends, in both directions.
    def test_ascii_at_every_border(self):
        control = self.login()
        control.ask("TYPE A")
        lines = [b"", b"x" * 7999, b"y" * 16000, b"\rz", b"a\rb", b"w" * 32760, b"", b"end"]
        for shift in range(6):
            local = b"s" * shift + b"\n".join(lines) + b"\n\n\r"
            wire = local.replace(b"\n", b"\r\n")
            self.write("text", local)
            self.assertEqual(control.retrieve("RETR text"), (wire, DONE))
            self.assertEqual(control.store("STOR back", wire), DONE)
            self.assertEqual(self.read("back"), local)
        self.write("text", b"dos\r\nunix\n")
        self.assertEqual(control.retrieve("RETR text"), (b"dos\r\nunix\r\n", DONE))
        with control.passive() as data: # each byte alone
            self.assertEqual(control.ask("STOR back"), OPENING)
            data.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in b"\r\na\r\r\nb\r":
                data.send(bytes([byte]))
        self.assertEqual(control.reply(), DONE)
        self.assertEqual(self.read("back"), b"\na\r\nb\r")

    # An upload is seen only when it is whole: until then the old file is there, and after a break.
    def test_uploads_are_atomic(self):
        control, other = self.login(), self.login()
        self.write("atomic", b"old")
        os.chmod(self.path("atomic"), 0o604)
        data = control.passive()
        self.assertEqual(control.ask("STOR atomic"), OPENING)
        data.sendall(b"n" * 100000)
        self.assertEqual(other.retrieve("RETR atomic"), (b"old", DONE))
        self.assertNotIn(b"upload-", other.retrieve("MLSD")[0])
        self.assertEqual(len(self.leftovers()), 1)
        reset(data)
        self.assertEqual(control.reply(), "426 The data connection broke.")
        self.assertEqual((self.read("atomic"), self.leftovers()), (b"old", []))
        self.assertEqual(control.store("STOR atomic", b"new"), DONE)
        self.assertEqual(self.read("atomic"), b"new")
        self.assertEqual(os.stat(self.path("atomic")).st_mode & 0o777, 0o604)

    # When the control connection breaks, its upload is cleared away.
    def test_uploads_of_vanished_clients_are_removed(self):
        control = self.login()
        data = control.passive()
        self.assertEqual(control.ask("STOR vanished"), OPENING)
        data.sendall(b"half")
        reset(control.socket)
        with self.assertRaises(ConnectionResetError):
            data.recv(1)
        deadline = time.monotonic() + LIMIT
        while self.leftovers() and time.monotonic() < deadline:
            self.login().ask("NOOP")
        self.assertEqual(self.leftovers(), [])
        self.assertFalse(os.path.exists(self.path("vanished")))

    # A client that ends its control connection without QUIT, as one that dies does, has not
    # finished its upload, even if the data connection ends in order.
    def test_uploads_need_their_control_connection(self):
        control = self.login()
        data = control.passive()
        self.assertEqual(control.ask("STOR died"), OPENING)
        data.sendall(b"half")
        control.socket.shutdown(socket.SHUT_WR)
        self.assertEqual(control.reply(), "426 Transfer aborted.")
        self.assertEqual(control.reply(), "226 Abort done.")
        self.assertEqual(control.end(), b"")
        data.close()
        self.assertEqual(self.leftovers(), [])
        self.assertFalse(os.path.exists(self.path("died")))
        control = self.login()
        with control.passive() as data:
            self.assertEqual(control.ask("STOR quit"), OPENING)
            control.send("QUIT")
            control.socket.shutdown(socket.SHUT_WR)
            data.sendall(b"whole")
        self.assertEqual((control.reply(), control.reply()), (DONE, "221 Goodbye."))
        self.assertEqual(self.read("quit"), b"whole")

    # STOU tells the name that it found, and the file has it.
    def test_unique_names(self):
        control = self.login()
        names = set()
        for argument in ("", "", " base"):
            with control.passive() as data:
                reply = control.ask("STOU" + argument)
                names.add(re.fullmatch(r"150 FILE: ((?:upload|base)\.[0-9a-f]{16})", reply)[1])
                data.sendall(b"unique")
            self.assertEqual(control.reply(), DONE)
        self.assertEqual([self.read(name) for name in names], [b"unique"] * 3)

    # Names that cannot be read or written are refused before a data connection is needed.
    def test_refusals(self):
        control = self.login()
        os.mkdir(self.path("folder"))
        os.mkfifo(self.path("pipe"))
        self.assertEqual(control.retrieve("RETR none")[1], "550 No such file or directory.")
        self.assertEqual(control.retrieve("RETR folder")[1], "550 It is a directory.")
        self.assertEqual(control.retrieve("RETR pipe")[1], "550 Not a plain file.")
        self.assertEqual(control.store("STOR folder", b""), "553 It is a directory.")
        self.assertEqual(control.store("STOR none/x", b""), "553 No such file or directory.")
        self.assertEqual(control.store("STOR /", b""), "553 Not possible for this name.")
        self.assertEqual(control.store("APPE pipe", b"")[:3], "553")
        self.assertEqual(control.retrieve("MLSD pipe")[1], "501 Not a directory.")
        self.assertEqual(control.retrieve("LIST none")[1], "550 No such file or directory.")

    # ABOR ends a download in the middle, also behind Telnet's interrupt and an urgent mark, and the
    # next transfer works.
    def test_abort(self):
        control = self.login()
        with open(self.path("large"), "wb") as file:
            file.truncate(LARGE)
        for abort in (b"ABOR\r\n", b"\xff\xf4\xff\xf2ABOR\r\n", b"urgent"):
            data = small_buffers((control.host, control.passive_port()))
            control.ask("RETR large")
            receive(data, 1000)
            if abort == b"urgent":
                control.socket.sendall(b"\xff\xf4")
                control.socket.send(b"\xff\xf2", socket.MSG_OOB)
                abort = b"ABOR\r\n"
            control.socket.sendall(b"NOOP\r\n" + abort)
            self.assertEqual(control.reply(), "426 Transfer aborted.")
            self.assertEqual(control.reply(), "226 Abort done.")
            self.assertEqual(control.reply(), "200 Yes.")
            with self.assertRaises(ConnectionResetError):
                receive_end(data)
            data.close()
        with control.passive() as data:
            self.assertEqual(control.ask("STOR aborted"), OPENING)
            self.assert_asks(control, ("ABOR", "426 Transfer aborted."))
        self.assertEqual(control.reply(), "226 Abort done.")
        control.passive_port()
        self.assertEqual(control.ask("LIST"), OPENING)
        self.assert_asks(control, ("ABOR", "426 Transfer aborted."))
        self.assertEqual(control.reply(), "226 Abort done.")
        self.assertEqual(control.retrieve("RETR large")[1], DONE)
        self.assertEqual(self.leftovers(), [])

    # STAT answers while a transfer runs; QUIT and all else wait for its end.
    def test_commands_during_a_transfer(self):
        control = self.login()
        content = self.write("during", os.urandom(8 << 20))
        data = small_buffers((control.host, control.passive_port()))
        control.ask("RETR during")
        self.assertRegex(control.ask("STAT"), r"^211 A transfer is running; \d+ bytes so far\.$")
        control.send("PWD\r\n" * 100 + "QUIT")
        self.assertEqual(receive_end(data), content)
        self.assertEqual(control.reply(), DONE)
        for _ in range(100):
            self.assertEqual(control.reply()[:3], "257")
        self.assertEqual(control.reply(), "221 Goodbye.")
        self.assertEqual(control.end(), b"")

    # A file that is removed while it is sent is sent to its end.
    def test_removed_file(self):
        control = self.login()
        content = self.write("removed", os.urandom(8 << 20))
        data = small_buffers((control.host, control.passive_port()))
        control.ask("RETR removed")
        self.assert_asks(self.login(), ("DELE removed", "250 Deleted."))
        self.assertEqual(receive_end(data), content)
        self.assertEqual(control.reply(), DONE)

    # The data connection is the client's own: a stranger who finds the port is reset, and the
    # client's connection still comes through.
    def test_strangers_do_not_get_the_data(self):
        control = self.login()
        self.write("private", b"for me")
        port = control.passive_port()
        with self.assertRaises(ConnectionResetError):
            with socket.create_connection((control.host, port), LIMIT,
                                          ("127.0.0.2", 0)) as stranger:
                stranger.recv(1)
        data = socket.create_connection((control.host, port), LIMIT)
        self.assertEqual(control.ask("RETR private")[:3], "150")
        self.assertEqual((receive_end(data), control.reply()), (b"for me", DONE))

    # PORT and EPRT connect to the client and to nobody else; what does not parse undoes the last.
    def test_active(self):
        control = self.login()
        self.write("active", b"pushed")
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(LIMIT)
        port = listener.getsockname()[1]
        numbers = f"{port >> 8},{port & 255}"
        refused = "504 Only your own address, and a port from 1024 on."
        for command in (f"PORT 127,0,0,1,{numbers}", f"EPRT |1|127.0.0.1|{port}|",
                        f"EPRT !1!127.0.0.1!{port}!"):
            self.assert_asks(control, (command, "200 Will connect there."))
            self.assertEqual(control.ask("RETR active")[:3], "150")
            with listener.accept()[0] as data:
                self.assertEqual((receive_end(data), control.reply()), (b"pushed", DONE))
        for command, reply in (
                (f"PORT 127,0,0,2,{numbers}", refused), ("PORT 127,0,0,1,3,255", refused),
                (f"EPRT |1|10.0.0.1|{port}|", refused), ("EPRT |1|127.0.0.1|21|", refused),
                ("PORT 1,2,3", "501 Syntax: PORT h1,h2,h3,h4,p1,p2"),
                ("PORT 127,0,0,1,256,1", "501 Syntax: PORT h1,h2,h3,h4,p1,p2"),
                (f"PORT 127,0,0,1,{numbers},1", "501 Syntax: PORT h1,h2,h3,h4,p1,p2"),
                (f"EPRT |1|{'1' * 60}|{port}|", "501 Syntax: EPRT |family|address|port|"),
                ("EPRT \x7f1", "501 Syntax: EPRT |family|address|port|"),
                (f"EPRT |1|::1|{port}|", "501 Syntax: EPRT |family|address|port|"),
                ("EPRT |1|127.0.0.1|", "501 Syntax: EPRT |family|address|port|"),
                (f"EPRT |2|::1|{port}|", "522 Only this family: (1)"),
                (f"EPRT |7|x|{port}|", "522 Only this family: (1)")):
            control.ask(f"PORT 127,0,0,1,{numbers}")
            self.assert_asks(control, (command, reply),
                             ("RETR active", "425 Use PASV, EPSV, PORT or EPRT first."))
        listener.close()
        with socket.socket() as mute:  # its port is nobody's, though nobody listens
            mute.bind(("127.0.0.1", 0))
            port = mute.getsockname()[1]
            control.ask(f"PORT 127,0,0,1,{port >> 8},{port & 255}")
            self.assertEqual(control.ask("RETR active")[:3], "150")
            self.assertEqual(control.reply(), "425 No data connection.")

    # PASV names address and port, EPSV refuses the other family, and EPSV ALL all other commands.
    def test_passive(self):
        control = self.login()
        self.write("passive", b"pulled")
        reply = control.ask("PASV")
        port = re.fullmatch(r"227 Entering Passive Mode \(127,0,0,1,(\d+),(\d+)\)\.", reply)
        data = socket.create_connection(("127.0.0.1", int(port[1]) * 256 + int(port[2])), LIMIT)
        self.assertEqual(control.ask("RETR passive")[:3], "150")
        self.assertEqual((receive_end(data), control.reply()), (b"pulled", DONE))
        self.assert_asks(control, ("EPSV 2", "522 Only this family: (1)"))
        self.assertEqual(control.code("EPSV 1"), 229)
        self.assert_asks(control, ("EPSV ALL", "200 Only EPSV from now on."),
                         ("PASV", "503 Only EPSV, after EPSV ALL."),
                         ("PORT 127,0,0,1,9,9", "503 Only EPSV, after EPSV ALL."))
        self.assertEqual(control.retrieve("RETR passive"), (b"pulled", DONE))

    # A second PASV closes the first one's port, and an end before the command is no data.
    def test_passive_again(self):
        control = self.login()
        first = control.passive_port()
        control.passive_port()
        with self.assertRaises((ConnectionRefusedError, ConnectionResetError)):
            with socket.create_connection((control.host, first), LIMIT) as late:
                late.recv(1) # it came before the engine had closed the listener
        self.assertEqual(control.store("STOR again", b""), DONE)


class Options:
    """Servers with options of their own."""

    # Only the ports of the range are used, the told address is the option's, and when all ports are
    # taken the client hears it.
    def test_passive_range(self):
        port = free_ports(2)
        server = self.start_server(*self.options, "--passive-ports", f"{port}-{port + 1}",
                                   "--passive-address", "192.0.2.7")
        first, second, third = (self.login(server) for _ in range(3))
        replies = [self.until_free(first, "EPSV"), self.until_free(second, "EPSV")]
        got = sorted(int(re.findall(r"\d+", reply)[-1]) for reply in replies)
        self.assertEqual(got, [port, port + 1])
        self.assertEqual(third.ask("EPSV"), "425 No port is free.")
        first.ask("REIN")
        self.assertRegex(self.until_free(third, "PASV"),
                         r"^227 Entering Passive Mode \(192,0,2,7,\d+,\d+\)\.$")

    @staticmethod
    def until_free(session, command):
        """The reply that names a port. Another test may try that port just then, or the close of a
        listener be under way."""
        replies = (session.ask(command) for _ in range(1000))
        return next((reply for reply in replies if reply[:3] != "425"), "")

    # Over IPv6, EPSV and EPRT work and PASV is refused.
    def test_ipv6(self):
        server = self.start_server(*self.options, listen=("[::1]:0",))
        control = self.login(server)
        self.write("six", b"six")
        self.assertEqual(control.retrieve("RETR six"), (b"six", DONE))
        self.assert_asks(control, ("PASV", "425 Use EPSV."),
                         ("EPSV 1", "522 Only this family: (2)"))
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
            listener.settimeout(LIMIT)
            port = listener.getsockname()[1]
            self.assert_asks(control, (f"EPRT |2|::1|{port}|", "200 Will connect there."))
            self.assertEqual(control.ask("RETR six")[:3], "150")
            with listener.accept()[0] as data:
                self.assertEqual((receive_end(data), control.reply()), (b"six", DONE))

    # The options of sockets hold for data connections, which move the bytes: passive and
    # active ones, in the sandbox.
    def test_socket_options(self):
        server = self.start_server(*self.options, "--keepalive", "--notsent-lowat", "16K",
                                   "--send-buffer", "64K", "--receive-buffer", "32K")
        control = self.login(server)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(LIMIT)
            for active in (False, True):
                if active:
                    control.ask(f"EPRT |1|127.0.0.1|{listener.getsockname()[1]}|")
                data = None if active else control.passive()
                self.assertEqual(control.ask("STOR optioned"), OPENING)
                data = data or listener.accept()[0]
                with data, connected_socket(server.process.pid, data) as found:
                    tcp, sol = socket.IPPROTO_TCP, socket.SOL_SOCKET
                    self.assertEqual(found.getsockopt(sol, socket.SO_KEEPALIVE), 1)
                    self.assertEqual(found.getsockopt(tcp, socket.TCP_NOTSENT_LOWAT), 16384)
                    self.assertEqual(found.getsockopt(sol, socket.SO_SNDBUF), 2 * 65536)
                    self.assertEqual(found.getsockopt(sol, socket.SO_RCVBUF), 2 * 32768)
                self.assertEqual(control.reply(), DONE)

    # Without --allow-active PORT and EPRT are refused.
    def test_active_is_off_by_default(self):
        server = self.start_server("--anonymous")
        control = self.control(server)
        control.ask("USER ftp")
        control.ask("PASS x")
        off = "502 Active mode is off; use PASV or EPSV."
        self.assert_asks(control, ("PORT 127,0,0,1,99,99", off), ("EPRT |1|127.0.0.1|9999|", off))

    # --broken-uploads keep leaves what came under its temporary name, which no listing shows.
    def test_broken_uploads_may_be_kept(self):
        server = self.start_server(*self.options, "--broken-uploads", "keep")
        control = self.login(server)
        data = control.passive()
        self.assertEqual(control.ask("STOR kept"), OPENING)
        data.sendall(b"half")
        self.assert_asks(control, ("ABOR", "426 Transfer aborted."))
        control.reply()
        names = self.leftovers()
        self.assertEqual(len(names), 1)
        os.unlink(self.path(names[0]))
        self.assertFalse(os.path.exists(self.path("kept")))

    # --fsync changes nothing that a client sees, and the sandbox lets it be.
    def test_synced_uploads(self):
        control = self.login(self.start_server(*self.options, "--fsync"))
        for command in ("STOR synced", "APPE synced"):
            self.assertEqual(control.store(command, b"bytes"), DONE)
        self.assertEqual((self.read("synced"), self.leftovers()), (b"bytes" * 2, []))

    # --uploads direct writes in place.
    def test_direct_uploads(self):
        server = self.start_server(*self.options, "--uploads", "direct", "--fsync")
        control = self.login(server)
        self.write("direct", b"a longer old file")
        data = control.passive()
        self.assertEqual(control.ask("STOR direct"), OPENING)
        self.assertEqual((self.read("direct"), self.leftovers()), (b"", []))
        data.sendall(b"new")
        data.close()
        self.assertEqual(control.reply(), DONE)
        self.assertEqual(self.read("direct"), b"new")
        # What goes on in the middle replaces bytes, and leaves those behind them.
        self.write("direct", b"0123456789")
        control.ask("REST 2")
        self.assertEqual(control.store("STOR direct", b"ab"), DONE)
        self.assertEqual(self.read("direct"), b"01ab456789")

    # The log has a line for each transfer; a name cannot forge one.
    def test_transfer_log(self):
        log = os.path.join(self.folder.name, f"log-{self.engine}")
        server = self.start_server(*self.options, "--transfer-log", log)
        control = self.login(server)
        control.store('STOR a"\0b', b"123")
        control.retrieve("RETR none")
        control.ask("QUIT")
        server.signal(15)
        self.assertEqual(server.wait(), 0)
        with open(log, encoding="utf-8") as file:
            lines = sorted(re.sub(r"^\S+ ", "", line) for line in file)
        self.assertRegex("".join(lines), r'\A127\.0\.0\.1 RETR 550 0 \d\.\d{3} "bob" "/none"\n'
                         r'127\.0\.0\.1 STOR 226 3 \d\.\d{3} "bob" "/a\\x22\\x0ab"\n\Z')

    # "-" is standard output.
    def test_transfer_log_on_standard_output(self):
        server = self.start_server(*self.options, "--transfer-log", "-")
        control = self.login(server)
        control.store("STOR told", b"1")
        control.ask("QUIT")
        server.signal(signal.SIGTERM)
        self.assertEqual(server.wait(), 0)
        self.assertIn(b' "bob" "/told"\n', server.process.stdout.read())

    # A pipe that nobody reads holds no session up, but the one that writes where an engine has no
    # helpers. Each line is written in the end or counted, and both troubles are told once.
    def test_unread_transfer_log(self):
        stats = os.path.join(self.folder.name, f"log-stats-{self.engine}")
        server = self.start_server(*self.options, "--transfer-log", "-", "--stats-json", stats)
        fcntl.fcntl(server.process.stdout, fcntl.F_SETPIPE_SZ, 4096)
        command = b"RETR " + 200 * b"\x01" + b"\r\n"
        held, count, replies = [self.login(server) for _ in range(3)], 300, 0
        for control in held:
            control.send("EPSV")
            control.reply()
        for control in held:
            control.socket.sendall(command * count)
        for _ in range(len(held) - (self.engine == "blocking")):
            control = self.first_answered(held, count)
            # Names, listings and uploads need the helpers that writes of the log must not hold.
            self.assert_asks(control, ("MKD held", '257 "/held" created.'),
                             ("RMD held", "250 Removed."))
            self.assertEqual(control.store("STOR unread", b"x"), DONE)
            replies += count + 1
        server.log.until("transfer log: too slow, lines are dropped")
        lines = []
        reader = threading.Thread(target=lambda: lines.extend(server.process.stdout))
        reader.start()
        while held:
            self.first_answered(held, count)
            replies += count
        server.log.until("transfer log: it is written again")
        server.signal(signal.SIGTERM)
        self.assertEqual(server.wait(), 0)
        reader.join()
        with open(stats, encoding="ascii") as file:
            dropped = json.load(file)["protocol"]["log_dropped"]
        self.assertGreater(dropped, 100)
        self.assertEqual(len(lines) + dropped, replies)
        whole = re.compile(rb'\S+ 127\.0\.0\.1 (RETR 550 0|STOR 226 1) \S+ "bob" "/\S+"\n')
        self.assertEqual([line for line in lines if not whole.fullmatch(line)], [])

    def first_answered(self, controls, count):
        """Takes out of the list who is the first to have so many replies."""
        while True:
            for control in controls:
                if control.rest.count(b"550 No such file or directory.\r\n") == count:
                    controls.remove(control)
                    control.rest = b""
                    return control
            ready = select.select([one.socket for one in controls], [], [], LIMIT)[0]
            self.assertTrue(ready, "nobody is answered")
            for control in controls:
                if control.socket in ready:
                    control.rest += control.socket.recv(65536)

    # A place to start from has no meaning in ASCII: nothing is written.
    def test_restart_of_an_upload_in_ascii(self):
        control = self.login()
        self.write("restarted", b"0123456789")
        self.assert_asks(control, ("REST 5", "350 Restarting at 5."),
                         ("TYPE A", "200 Type is ASCII."))
        self.assertEqual(control.store("STOR restarted", b"x")[:3], "554")
        self.assertEqual(self.read("restarted"), b"0123456789")

    # SIGHUP opens the transfer log anew: what comes then stands in the new file.
    def test_sighup_reopens_the_transfer_log(self):
        log = os.path.join(self.folder.name, f"reopened-{self.engine}")
        server = self.start_server(*self.options, "--transfer-log", log)
        control = self.login(server)
        control.store("STOR before", b"1")
        deadline = time.monotonic() + LIMIT
        while not os.path.getsize(log):
            self.assertLess(time.monotonic(), deadline)
            os.sched_yield()
        os.rename(log, log + ".1")
        server.signal(signal.SIGHUP)
        server.log.until("log reopened")
        control.store("STOR after", b"2")
        server.signal(signal.SIGTERM)
        control.close()
        self.assertEqual(server.wait(), 0)
        for name, word in ((log + ".1", '"/before"\n'), (log, '"/after"\n')):
            with open(name, encoding="ascii") as file:
                lines = file.readlines()
            self.assertEqual(len(lines), 1)
            self.assertTrue(lines[0].endswith(word))

    # Many sessions transfer at once, each its own bytes.
    def test_parallel_transfers(self):
        server = self.start_server(*self.options)
        contents = [os.urandom(300000 + 1000 * number) for number in range(16)]
        failures = []

        def work(number):
            try:
                control = self.login(server)
                for _ in range(3):
                    assert control.store(f"STOR parallel{number}", contents[number]) == DONE
                    assert control.retrieve(f"RETR parallel{number}") == (contents[number], DONE)
            except Exception as error:  # pylint: disable=broad-except
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
        self.assertEqual(failures, [])


on_all_engines(Transfers, globals())
on_all_engines(Options, globals())
