"""The control connection of `weir ftp`: exact replies, and everything a client can do wrong."""

import itertools
import json
import os
import re
import resource
import select
import signal
import socket
import threading
import time

from ftp_client import USER, on_all_engines, reset
from programs import LIMIT, run, unless_stalled

DENIED = "530 Log in with USER and PASS."


class Commands:
    """Replies on one server."""

    # Before the login only what leads to it is answered.
    def test_replies_before_the_login(self):
        control = self.control()
        self.assertEqual(control.greeting, "220 weir FTP server ready.")
        self.assert_asks(
            control,
            ("RETR x", DENIED), ("STOR x", DENIED), ("LIST", DENIED), ("PASV", DENIED),
            ("CWD /", DENIED), ("STAT", DENIED), ("TYPE I", DENIED), ("SITE HELP", DENIED),
            ("PASS x", "503 Send USER first."), ("USER", "501 Syntax: USER name"),
            ("NOOP", "200 Yes."), ("SYST", "215 UNIX Type: L8"),
            ("ABOR", "226 Nothing to abort."), ("HELP RETR", "214 Syntax: RETR name"),
            ("HELP NONE", "502 Unknown command."), ("quit", "221 Goodbye."))
        self.assertEqual(control.end(), b"")

    # Everything that is not offered has its code, and the session goes on.
    def test_replies_to_what_is_not_offered(self):
        control = self.login()
        self.assert_asks(
            control,
            ("ACCT x", "502 Command not implemented."), ("SMNT x", "502 Command not implemented."),
            ("AUTH TLS", "502 Command not implemented."), ("CCC", "502 Command not implemented."),
            ("PBSZ 0", "503 There is no AUTH yet."), ("PROT P", "503 There is no AUTH yet."),
            ("MODE S", "200 Mode is stream."), ("MODE Z", "504 Only MODE S."),
            ("MODE B", "504 Only MODE S."), ("STRU F", "200 Structure is file."),
            ("STRU R", "504 Only STRU F."), ("TYPE A", "200 Type is ASCII."),
            ("TYPE A N", "200 Type is ASCII."), ("TYPE E", "504 Only TYPE A and TYPE I."),
            ("TYPE L 8", "200 Type is binary."), ("type i", "200 Type is binary."),
            ("ALLO 10", "202 Nothing needs to be allocated."), ("RETR", "501 Syntax: RETR name"),
            ("PASV x", "501 Syntax: PASV"), ("OPTS UTF8 ON", "200 Names are UTF-8, always."),
            ("OPTS NONE", "501 No such option."), ("SITE HELP", "214 SITE CHMOD mode name"),
            ("SITE EXEC x", "504 Only SITE HELP and SITE CHMOD."),
            ("PASS again", "202 Already logged in."),
            ("RETR x", "425 Use PASV, EPSV, PORT or EPRT first."),
            ("LIST", "425 Use PASV, EPSV, PORT or EPRT first."),
            ("RNTO x", "503 Send RNFR first."))

    # FEAT, HELP and STAT are replies of several lines in the form of RFC 959 and RFC 2389.
    def test_long_replies(self):
        control = self.login()
        self.assertEqual(
            control.ask("FEAT").split("\n"),
            ["211-Features:", " EPRT", " EPSV", " MDTM", " MFMT",
             " MLST type*;size*;modify*;perm*;unique*;UNIX.mode*;", " REST STREAM", " SIZE",
             " TVFS", " UTF8", "211 End"])
        self.assertEqual(control.ask("OPTS MLST size;TYPE;none;"), "200 MLST OPTS type;size;")
        self.assertIn(" MLST type*;size*;modify;perm;unique;UNIX.mode;", control.ask("FEAT"))
        offered = control.ask("HELP").replace("\n", "") + " "
        self.assertIn(" RETR RMD RNFR RNTO ", offered)
        for verb in ("ACCT", "ADAT", "AUTH", "CCC", "CONF", "ENC", "MIC", "SMNT"):
            self.assertNotIn(f" {verb} ", offered)
            self.assert_asks(control, (f"HELP {verb}", "502 Command not implemented."),
                             (f"{verb} x", "502 Command not implemented."))
        self.assertEqual(control.ask("STAT").split("\n"),
                         ["211-weir FTP server:", " User: bob", " Directory: /", " Type: binary",
                          "211 End"])

    # Names are made, entered, renamed, looked at and removed, also by the old commands.
    def test_commands_on_names(self):
        control = self.login()
        self.write("file", b"12345")
        os.utime(self.path("file"), (0, 86400))
        self.assert_asks(
            control,
            ("MKD d", '257 "/d" created.'), ("MKD d", "550 It exists already."),
            ("XMKD d/e", '257 "/d/e" created.'), ("XCWD d/e", "250 Directory changed."),
            ("PWD", '257 "/d/e" is the working directory.'), ("CDUP", "250 Directory changed."),
            ("XPWD", '257 "/d" is the working directory.'), ("XCUP", "250 Directory changed."),
            ("CWD nowhere", "550 No such file or directory."), ("CWD file", "550 Not a directory."),
            ("RMD d", "550 The directory is not empty."), ("XRMD d/e", "250 Removed."),
            ("DELE d", "550 It is a directory."), ("RMD d", "250 Removed."),
            ("RMD /", "550 Not possible for this name."),
            ("SIZE file", "213 5"), ("MDTM file", "213 19700102000000"),
            ("SIZE /", "550 Not a plain file."), ("SIZE none", "550 No such file or directory."),
            ("MFMT 20200229123456 file", "213 Modify=20200229123456; file"),
            ("MDTM file", "213 20200229123456"),
            ("MFMT 20210229123456 file", "501 Syntax: MFMT YYYYMMDDHHMMSS name"),
            ("SITE CHMOD 640 file", "200 Mode changed."),
            ("SITE CHMOD 9 file", "501 Syntax: SITE CHMOD mode name"),
            ("RNFR none", "550 No such file or directory."),
            ("RNFR file", "350 Ready for RNTO."), ("RNTO other", "250 Renamed."),
            ("RNFR other", "350 Ready for RNTO."), ("NOOP", "200 Yes."),
            ("RNTO x", "503 Send RNFR first."), ("TYPE A", "200 Type is ASCII."),
            ("SIZE other", "550 SIZE needs TYPE I."), ("DELE other", "250 Deleted."),
            ("CWD", "250 Directory changed."), ("PWD", '257 "/" is the working directory.'))

    # Names with quotes, spaces at either end, dashes, non-ASCII and line feeds go both ways.
    def test_strange_names_survive(self):
        control = self.login()
        for name in ('qu"ote', " blank ", "-al", "--", "ünï", "*", "a\nb", "\\", "back\rslash"):
            wire = name.replace("\n", "\0")
            quoted = wire.replace('"', '""')
            self.assert_asks(control, (f"MKD {wire}", f'257 "/{quoted}" created.'),
                             (f"CWD {wire}", "250 Directory changed."),
                             ("PWD", f'257 "/{quoted}" is the working directory.'))
            self.assertEqual(control.store(f"STOR {wire}", b"x"), "226 Transfer complete.")
            self.assertTrue(os.path.exists(self.path(name, name)))
            names, _ = control.retrieve("MLSD")
            self.assertTrue(names.endswith(b" " + wire.encode() + b"\r\n"), names)
            lines, _ = control.retrieve("LIST")
            self.assertTrue(lines.endswith(wire.encode() + b"\r\n"), lines)
            self.assert_asks(control, (f"DELE {wire}", "250 Deleted."),
                             ("CDUP", "250 Directory changed."), (f"RMD {wire}", "250 Removed."))
        self.write("\udcff\udcfe")
        self.assertEqual(control.ask("SIZE \udcff\udcff\udcfe"), "213 0")
        # Telnet's byte is doubled on the control connection, and on no other.
        for command in ("MLST", "STAT"):
            line = control.ask(f"{command} \udcff\udcff\udcfe").split("\n")[1]
            self.assertRegex(line, " /?\udcff\udcff\udcfe$")
        for command in ("MLSD", "LIST"):
            self.assertIn(b" \xff\xfe\r\n", control.retrieve(command)[0])

    # Telnet's commands inside of a line vanish, its options are refused, and 255 twice is a byte.
    def test_telnet_in_commands(self):
        control = self.login()
        self.assertEqual(control.ask(b"NO\xff\xf1OP"), "200 Yes.")
        control.send(b"NOOP\xff\xfd\x01\xff\xfb\x02\xff\xfc\x03")
        self.assertEqual(control.line(), "\udcff\udcfc\x01\udcff\udcfe\x02200 Yes.")
        self.assertEqual(control.ask(b"\xff\xfa\x01anything\xff\xf0NOOP"), "200 Yes.")
        self.assertEqual(control.ask(b"MKD \xff\xff"), '257 "/\udcff\udcff" created.')
        self.assertTrue(os.path.isdir(os.fsencode(self.root) + b"/\xff"))

    # An overlong line is refused as a whole, and one that just fits is not.
    def test_overlong_lines(self):
        control = self.login()
        self.assertEqual(control.ask("CWD " + "x" * 4221), "500 The line is too long.")
        self.assertEqual(control.ask("x" * 1000000), "500 The line is too long.")
        self.assertEqual(control.ask("CWD " + "x" * 4220), "553 The name is too long.")
        self.assertEqual(control.ask("CWD " + "x" * 300), "550 The name is too long.")
        self.assertEqual(control.ask("NOOP"), "200 Yes.")

    # Its refusal comes in its turn: behind the commands before it, and no sooner beside a listing.
    def test_overlong_lines_wait_for_their_turn(self):
        control = self.login()
        control.send("MKD turn\r\n" + "x" * 5000 + "\r\nSTAT turn\r\n" + "x" * 5000 + "\r\nPWD")
        self.assertEqual([control.reply() for _ in range(5)],
                         ['257 "/turn" created.', "500 The line is too long.",
                          "213-Status:\n213 End", "500 The line is too long.",
                          '257 "/" is the working directory.'])

    # A NUL neither cuts a line off nor makes a command of its beginning.
    def test_lines_with_nul(self):
        control = self.login()
        self.write("plain")
        self.assert_asks(control, (b"NOOP\0", "500 Unknown command."),
                         (b"SIZE plain\0x", "550 No such file or directory."),
                         (b"\0", "500 Unknown command."))

    # Ten commands that do not exist end the session; so does the first line of an HTTP request.
    def test_unknown_commands_end_the_session(self):
        control = self.control()
        for _ in range(9):
            self.assertEqual(control.ask("BOGUS"), "500 Unknown command.")
        self.assertEqual(control.ask("BOGUS"), "421 Too many unknown commands.")
        self.assertEqual(control.end(), b"")
        for verb in ("GET", "POST", "HEAD", "PUT", "OPTIONS", "CONNECT", "DELETE", "TRACE",
                     "PATCH"):
            control = self.control()
            control.send(f"{verb} / HTTP/1.1\r\nHost: x\r\nUSER bob\r\n")
            self.assertEqual(control.reply(), "421 This is FTP.")
            self.assertEqual(control.end(), b"")

    # Commands that come all at once, or byte by byte, are answered in their order.
    def test_pipelined_and_dribbled_commands(self):
        control = self.login()
        self.write("pipelined", b"abc")
        control.send("\r\n".join(["SIZE pipelined", "NOOP", "CWD none", "PWD"] * 100))
        for _ in range(100):
            self.assertEqual([control.reply()[:3] for _ in range(4)], ["213", "200", "550", "257"])
        for byte in b"SIZE pipelined\n":
            control.socket.sendall(bytes([byte]))
        self.assertEqual(control.reply(), "213 3")

    # What a client sent before its end is still done.
    def test_commands_before_the_end_are_done(self):
        control = self.login()
        control.send("MKD last\r\nPWD")
        control.socket.shutdown(socket.SHUT_WR)
        self.assertEqual(control.reply(), '257 "/last" created.')
        self.assertEqual(control.reply()[:3], "257")
        self.assertEqual(control.end(), b"")
        self.assertTrue(os.path.isdir(self.path("last")))

    # Anonymous users read, and change nothing unless that is allowed.
    def test_anonymous_users_only_read(self):
        self.write("public", b"read me")
        control = self.control()
        self.assert_asks(control, ("USER anonymous", "331 Any password will do."),
                         ("PASS me@", "230 Logged in."))
        self.assertEqual(control.retrieve("RETR public"), (b"read me", "226 Transfer complete."))
        for command in ("DELE public", "MKD x", "RMD x", "RNFR public",
                        "MFMT 20200101000000 public", "SITE CHMOD 777 public"):
            self.assert_asks(control, (command, "550 Permission denied."))
        for command in ("STOR x", "APPE public", "STOU"):
            self.assert_asks(control, (command, "553 Permission denied."))
        self.assertIn(b"perm=r;", control.retrieve("MLSD")[0])

    # REIN forgets the user, QUIT ends.
    def test_rein(self):
        control = self.login()
        self.assert_asks(control, ("REIN", "220 Ready for a new user."), ("PWD", DENIED),
                         ("USER bob", "331 Password, please."), ("PASS secret", "230 Logged in."))

    # A client that vanishes takes its session along, whatever job is looking after it just then.
    def test_vanished_clients_leave_nothing(self):
        before = os.listdir(self.root)
        for command in ("LIST", "STOR vanished", "STOR vanished", "APPE vanished"):
            for _ in range(10):
                control = self.login()
                control.send(f"EPSV\r\n{command}\r\nNOOP")
                reset(control.socket)
        self.assertEqual(self.login().ask("NOOP"), "200 Yes.")
        deadline = time.monotonic() + LIMIT
        while (left := sorted(os.listdir(self.root))) != sorted(before):
            self.assertLess(time.monotonic(), deadline, left)
            os.sched_yield()


class Limits:
    """Servers with options of their own."""

    # A failed login is answered late, the third one ends the session, and names are not told.
    def test_failed_logins_are_delayed_and_limited(self):
        server = self.start_server("--user", "bob:plain:secret", "--login-delay", "0.1")
        for name in ("bob", "nobody"):
            control = self.control(server)
            begin = time.monotonic()
            for _ in range(2):
                self.assert_asks(control, (f"USER {name}", "331 Password, please."),
                                 ("PASS wrong", "530 Login incorrect."))
            self.assertGreaterEqual(time.monotonic() - begin, 0.3)
            self.assert_asks(control, (f"USER {name}", "331 Password, please."),
                             ("PASS wrong", "421 Too many failed logins."))
            self.assertEqual(control.end(), b"")

    # No login in between buys more guesses: neither one that anybody can make, nor one's own.
    def test_no_login_forgets_failures(self):
        server = self.start_server(*self.options, "--login-delay", "0")
        for user in (("anonymous", "x"), USER):
            control = self.control(server)
            for last in ("530 Login incorrect.", "530 Login incorrect.",
                         "421 Too many failed logins."):
                self.assert_asks(control, ("USER bob", "331 Password, please."),
                                 ("PASS wrong", last))
                if last[:3] == "530":
                    control.login(user)
            self.assertEqual(control.end(), b"")

    # A hash of `weir passwd` lets its password in and no other, and its user into his home only.
    def test_hashed_passwords_and_homes(self):
        made = run("passwd", "--user", "eve", input="pass word\n")
        self.assertRegex(made.stdout, r"^eve:\$y\$")
        os.makedirs(self.path("home", "eve"), exist_ok=True)
        users = os.path.join(self.folder.name, f"users-{self.engine}")
        with open(users, "w", encoding="ascii") as file:
            file.write("# a comment\n\n" + made.stdout.strip() + ":/home/eve\n")
        server = self.start_server("--users", users, "--login-delay", "0")
        control = self.control(server)
        self.assert_asks(control, ("USER eve", "331 Password, please."),
                         ("PASS password", "530 Login incorrect."),
                         ("USER nobody", "331 Password, please."),
                         ("PASS pass word", "530 Login incorrect."),
                         ("USER eve", "331 Password, please."),
                         ("PASS pass word", "230 Logged in."),
                         ("MKD mine", '257 "/mine" created.'))
        self.assertTrue(os.path.isdir(self.path("home", "eve", "mine")))
        self.assert_asks(control, ("REIN", "220 Ready for a new user."),
                         ("MKD more", DENIED), ("USER eve", "331 Password, please."),
                         ("PASS pass word", "230 Logged in."),
                         ("MKD more", '257 "/more" created.'))
        self.assertTrue(os.path.isdir(self.path("home", "eve", "more")))
        clients = [self.control(server) for _ in range(4)]
        for client in clients:
            client.send("USER eve\r\nPASS pass word\r\nPWD")
        for client in clients:
            self.assertEqual([client.reply()[:3] for _ in range(3)], ["331", "230", "257"])

    # A user whose home is not there, leads outside, is no directory or has too long a name is told
    # so, serves nobody, and leaves the session to another user.
    def test_homes_that_are_not_there(self):
        made = run("passwd", "--user", "eve", input="secret\n").stdout.strip()
        self.write("plain file")
        os.symlink("..", self.path("outward"))
        for home in ("/nowhere", "/outward", "/plain file", "/" + "x" * 5000):
            server = self.start_server(*self.options, "--user", f"{made}:{home}")
            control = self.control(server)
            self.assert_asks(control, ("USER eve", "331 Password, please."),
                             ("PASS secret", "530 The home directory is not there."),
                             ("PWD", DENIED), ("MKD made", DENIED),
                             ("USER bob", "331 Password, please."),
                             ("PASS secret", "230 Logged in."))
            server.kill()

    # A session that ends while its password waits behind others leaves that queue, wherever it
    # stands in it; who waits behind it is let in.
    def test_clients_leave_the_queue_of_passwords(self):
        made = run("passwd", "--user", "eve", input="secret\n").stdout.strip()
        server = self.start_server("--user", made, "--login-delay", "0")
        for leaves in ((1, 3), (1, 2, 3)):
            clients = [self.control(server) for _ in range(4)]
            for client in clients:
                self.assertEqual(client.ask("USER eve"), "331 Password, please.")
            for client in clients:
                client.send("PASS secret")
            for index in leaves:
                reset(clients[index].socket)
            for index in {0, 1, 2, 3}.difference(leaves):
                self.assertEqual(clients[index].reply(), "230 Logged in.")

    # A file of users that cannot be used is said with its line, in place of a start.
    def test_files_of_users(self):
        users = os.path.join(self.folder.name, f"broken-users-{self.engine}")
        for content, text in (
                ("# first\nno colon\n", f"{users}:2: not NAME:HASH[:DIRECTORY]"),
                ("a:plain:b\na:plain:c\n", f"{users}:2: this name is there already"),
                ("a:plain:" + "b" * 9000 + "\n", f"{users}:1: not NAME:HASH[:DIRECTORY]")):
            with open(users, "w", encoding="ascii") as file:
                file.write(content)
            done = run("ftp", "--listen", "127.0.0.1:0", "--root", "/", "--users", users)
            self.assertEqual(done.returncode, 2)
            self.assertIn(text, done.stderr)
        for path, text in ((users + "-none", "No such file"), (self.root, "error")):
            done = run("ftp", "--listen", "127.0.0.1:0", "--root", "/", "--users", path)
            self.assertEqual(done.returncode, 2)
            self.assertIn(text, done.stderr)

    # Where only anonymous may log in, any other name is refused like a wrong password.
    def test_names_where_only_anonymous_may(self):
        control = self.control(self.start_server("--anonymous", "--login-delay", "0"))
        self.assert_asks(control, ("USER bob", "331 Password, please."),
                         ("PASS secret", "530 Login incorrect."))
        self.assertEqual(control.ask("USER anonymous")[:3], "331")
        self.assertEqual(control.ask("PASS me@here"), "230 Logged in.")

    # Lines that are too long end the session in the end, as unknown commands do.
    def test_overlong_lines_end_the_session(self):
        control = self.login(self.start_server(*self.options))
        replies = [control.ask("x" * 5000) for _ in range(10)]
        self.assertEqual(replies[9], "421 Too many unknown commands.")
        self.assertTrue(all(reply[:3] == "500" for reply in replies[:9]), replies)
        self.assertEqual(control.end(), b"")

    @unless_stalled
    # While passwords are hashed, one after another, other sessions are answered at once: many times
    # for each hash, which takes tens of milliseconds.
    def test_hashes_hold_nobody_up(self):
        made = run("passwd", "--user", "eve", input="secret\n").stdout.strip()
        server = self.start_server(*self.options, "--user", made, "--login-delay", "0")
        other, clients = self.login(server), [self.control(server) for _ in range(4)]
        for client in clients:
            client.send("USER eve\r\nPASS secret")
        replies = []
        waiting = threading.Thread(
            target=lambda: replies.extend(client.reply()[:3] for client in clients * 2))
        waiting.start()
        answers = 0
        while waiting.is_alive():
            self.assertEqual(other.ask("NOOP")[:3], "200")
            answers += 1
        waiting.join()
        self.assertEqual(replies, ["331"] * 4 + ["230"] * 4)
        # The blocking engine hashes on the connections' own threads, which give way to nobody.
        self.assertGreater(answers, (1 if self.engine == "blocking" else 5) * len(clients))

    # Sessions beyond the limit are told so; when one ends, the next is served.
    def test_sessions_are_limited(self):
        server = self.start_server(*self.options, "--max-sessions", "2",
                                   "--max-connections", "2") # raised for the data connections
        first, _ = self.login(server), self.login(server)
        third = self.control(server)
        self.assertEqual(third.greeting, "421 Too many sessions; try again later.")
        self.assertEqual(third.end(), b"")
        first.ask("QUIT")
        self.assertEqual(first.end(), b"")
        self.assertEqual(self.control(server).greeting, "220 weir FTP server ready.")

    # By default so many sessions are let in that each finds a descriptor for its data connection.
    def test_sessions_fit_into_the_descriptors(self):
        server = self.start_server(*self.options, preexec_fn=lambda: resource.setrlimit(
            resource.RLIMIT_NOFILE, (300, 300)))
        line = server.log.until("leaves room for")
        fit = int(re.search(r"leaves room for (\d+) connections", line)[1])
        sessions = [self.login(server) for _ in range(fit // 2)]
        self.assertEqual(self.control(server).greeting, "421 Too many sessions; try again later.")
        data = [session.passive() for session in sessions]
        self.assertEqual(sessions[-1].ask("STOR fits"), "150 Opening data connection.")
        for connection in data:
            connection.close()
        self.assertEqual(sessions[-1].reply(), "226 Transfer complete.")

    # So are those of one host, in both forms of its address; it has room again when one ends, and
    # other hosts have it all the time. The log tells who was refused or failed, the statistics how
    # many, and a name cannot forge a line.
    def test_sessions_of_a_host_are_limited(self):
        stats = os.path.join(self.folder.name, f"stats-{self.engine}")
        server = self.start_server(*self.options, "--max-per-address", "2", "--max-sessions", "3",
                                   "--login-delay", "0", "--stats-json", stats)
        first, _ = self.login(server), self.login(server)
        third = self.control(server)
        self.assertEqual(third.greeting, "421 Too many sessions of your host; try again later.")
        self.assertEqual(third.end(), b"")
        self.assertRegex(server.log.until("refused"),
                         r"warning: 127\.0\.0\.1: refused: this host has 2 sessions already$")
        other = self.control(server, "127.0.0.2")
        self.assertEqual(other.greeting, "220 weir FTP server ready.")
        last = self.control(server, "127.0.0.3")
        self.assertEqual(last.greeting, "421 Too many sessions; try again later.")
        self.assertRegex(server.log.until("refused"),
                         r"127\.0\.0\.3: refused: there are 3 sessions already$")
        first.ask("QUIT")
        self.assertEqual(first.end(), b"")
        again = self.control(server)
        self.assertEqual(again.greeting, "220 weir FTP server ready.")
        self.assert_asks(again, ("USER a\0b\"", "331 Password, please."),
                         ("PASS x", "530 Login incorrect."))
        self.assertRegex(server.log.until("failed"),
                         r'127\.0\.0\.1: failed login of "a\?b""$')
        server.signal(signal.SIGTERM)
        self.assertEqual(server.wait(), 0)
        with open(stats, encoding="ascii") as file:
            self.assertEqual(json.load(file)["protocol"], {
                "sessions_opened": 4, "sessions_refused": 1, "hosts_refused": 1, "logins": 2,
                "logins_failed": 1, "transfers": 0, "transfers_failed": 0,
                "log_dropped": 0})

    @unless_stalled
    # Who does not log in, or is idle, is told and sent away; data connections have their time too.
    def test_time_outs(self):
        server = self.start_server(*self.options, "--login-timeout", "2", "--idle-timeout", "2",
                                   "--data-timeout", "0.2")
        silent, idle, lonely = self.control(server), self.login(server), self.login(server)
        lonely.passive_port()
        self.assertEqual(lonely.ask("LIST"), "150 Opening data connection.")
        self.assertEqual(lonely.reply(), "425 No data connection.")
        still = lonely.passive()
        self.assertEqual(lonely.ask("STOR still"), "150 Opening data connection.")
        self.assertEqual(lonely.reply(), "426 The data connection stood still.")
        still.close()
        self.assertEqual(silent.reply(), "421 Log in faster.")
        self.assertEqual(idle.reply(), "421 Idle for too long.")
        self.assertEqual((silent.end(), idle.end()), (b"", b""))
        self.assertFalse(os.path.exists(self.path("still")))

    @unless_stalled
    # The time for the login counts from the connection, or from the REIN behind a login: no command
    # puts it off. The idle time-out counts from the last command.
    def test_no_command_puts_the_login_off(self):
        server = self.start_server(*self.options, "--login-timeout", "2", "--idle-timeout", "3")
        awake, idle = self.login(server), self.login(server)
        left = [self.login(server), self.control(server)]
        self.assertEqual(left[0].ask("REIN"), "220 Ready for a new user.")
        deadline = time.monotonic() + LIMIT
        for command in itertools.cycle(("NOOP", "USER bob", "REIN")):
            left = [one for one in left if one.ask(command) != "421 Log in faster."]
            self.assertEqual(awake.ask("NOOP"), "200 Yes.")
            self.assertLess(time.monotonic(), deadline, command)
            if not left:
                break
            select.select([], [], [], 0.05)
        while not select.select([idle.socket], [], [], 0.05)[0]:
            self.assertEqual(awake.ask("NOOP"), "200 Yes.")
            self.assertLess(time.monotonic(), deadline)
        self.assertEqual(idle.reply(), "421 Idle for too long.")

    @unless_stalled
    # Each time-out counts from where it begins, however long the other one is.
    def test_time_outs_of_different_length(self):
        def server(login, idle):
            return self.start_server(*self.options, "--login-timeout", login,
                                     "--idle-timeout", idle)

        idle, late = self.login(server("3600", "2")), server("2", "3600")
        late = [self.login(late), self.login(late)]
        for session, ends in zip(late, ("REIN", "USER bob")):
            self.assertIn(session.ask(ends)[:3], ("220", "331"))
        never_late, never_idle = server("0", "2"), server("2", "0")
        endless = [self.control(never_late), self.login(never_idle)]
        idle, late = [idle, self.login(never_late)], [*late, self.control(never_idle)]
        self.assertEqual({session.reply() for session in idle}, {"421 Idle for too long."})
        self.assertEqual({session.reply() for session in late}, {"421 Log in faster."})
        for session in endless:
            self.assertEqual(session.ask("NOOP"), "200 Yes.")

    # A drain lets a running transfer finish and then ends the session; idle ones end at once.
    def test_drain_finishes_transfers(self):
        server = self.start_server(*self.options)
        idle, busy = self.login(server), self.login(server)
        data = busy.passive()
        self.assertEqual(busy.ask("STOR drained"), "150 Opening data connection.")
        data.sendall(b"first")
        server.signal(signal.SIGTERM)
        self.assertEqual(idle.reply(), "421 The server is shutting down.")
        data.sendall(b" second")
        data.close()
        self.assertEqual(busy.reply(), "226 Transfer complete.")
        self.assertEqual(busy.reply(), "421 The server is shutting down.")
        self.assertEqual(busy.end() + idle.end(), b"")
        busy.close()
        idle.close()
        self.assertEqual(server.wait(), 0)
        self.assertEqual(self.read("drained"), b"first second")

    # Several loops, which share their listener's address, have one limit of sessions and one of a
    # host's; each hashes its passwords, and they end together: idle sessions at once, busy ones
    # with their transfer.
    def test_several_loops(self):
        loops = "1" if self.engine == "blocking" else "2"  # there, a thread per connection instead
        made = run("passwd", "--user", "eve", input="secret\n").stdout.strip()
        server = self.start_server(*self.options, "--user", made, "--threads", loops,
                                   "--max-sessions", "8", "--max-per-address", "6")
        sessions = [self.control(server) for _ in range(6)]
        self.assertEqual(self.refusals(server, "127.0.0.1"),
                         {"421 Too many sessions of your host; try again later."})
        sessions += [self.control(server, "127.0.0.2") for _ in range(2)]
        self.assertEqual(self.refusals(server, "127.0.0.3"),
                         {"421 Too many sessions; try again later."})
        for session in sessions:
            session.send("USER eve\r\nPASS secret\r\nTYPE I")
        for session in sessions:
            self.assertEqual([session.reply()[:3] for _ in range(3)], ["331", "230", "200"])
        uploads = [(session, session.passive()) for session in sessions[:4]]
        for number, (session, data) in enumerate(uploads):
            self.assertEqual(session.ask(f"STOR loops{number}"), "150 Opening data connection.")
            data.sendall(b"first")
        server.signal(signal.SIGTERM)
        for session in sessions[4:]:
            self.assertEqual(session.reply(), "421 The server is shutting down.")
        for number, (session, data) in enumerate(uploads):
            data.sendall(b" second")
            data.close()
            self.assertEqual(session.reply(), "226 Transfer complete.")
            self.assertEqual(session.reply(), "421 The server is shutting down.")
            self.assertEqual(self.read(f"loops{number}"), b"first second")
        for session in sessions:
            self.assertEqual(session.end(), b"")
            session.close()
        self.assertEqual(server.wait(), 0)

    def refusals(self, server, source):
        """What so many further clients are told that every loop has some of them."""
        greetings = set()
        for _ in range(16):
            refused = self.control(server, source)
            greetings.add(refused.greeting)
            refused.close()
        return greetings

    # --read-only is for all users.
    def test_read_only(self):
        server = self.start_server(*self.options, "--read-only")
        control = self.login(server)
        self.assert_asks(control, ("MKD x", "550 Permission denied."),
                         ("STOR x", "553 Permission denied."))

    # Wrong settings are told in one line, with the status of wrong usage.
    def test_wrong_usage(self):
        listen = ("--listen", "127.0.0.1:0", "--engine", self.engine)
        for options, text in (
                ((), "--root: a directory is needed"),
                (("--root", "/"), "nobody could log in"),
                (("--root", "/", "--anonymous", "--passive-ports", "80-90"), "ports A-B"),
                (("--root", "/", "--user", "x:nonsense"), "NAME:HASH"),
                (("--root", "/", "--user", "x:plain:y", "--anonymous-write"), "needs --anonymous"),
                (("--root", "/", "--user", "x:plain:y", "--listen", "0.0.0.0:0"), "loopback"),
                (("--root", "/", "--anonymous", "--listen", f"unix:{self.path('socket')}"),
                 "--listen: FTP needs IP addresses; a data connection has none on a unix socket")):
            done = run("ftp", *listen, *options)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(text, done.stderr)
        done = run("ftp", *listen, "--root", "/", "--anonymous", "--transfer-log", "/nowhere/log")
        self.assertEqual(done.returncode, 1)
        self.assertIn("--transfer-log: /nowhere/log: No such file", done.stderr)
        done = run("ftp", *listen, "--root", "/nowhere", "--anonymous")
        self.assertEqual((done.returncode, done.stderr),
                         (1, "weir ftp: --root: /nowhere: No such file or directory\n"))


on_all_engines(Commands, globals())
on_all_engines(Limits, globals())
