"""How fast transfers of `weir ftp` may go, and how slowly; and who does not take its replies."""

import concurrent.futures
import os
import select
import socket
import time

from ftp_client import free_ports, on_all_engines, small_buffers
from programs import LIMIT, connected_socket, receive, receive_end, unless_stalled

OLD = "421 This session has lasted long enough."
DONE = "226 Transfer complete."
OPENING = "150 Opening data connection."
TRIES = 5


class Pace:
    """Servers that hold transfers up, and that do not let themselves be held up."""

    # A rate limit holds in both directions, in binary and ASCII.
    def test_rate_limit(self):
        server = self.start_server(*self.options, "--rate-limit", "400000")
        control = self.login(server)
        content = os.urandom(100000).replace(b"\n", b"x").replace(b"\r", b"x")
        for kind in "IA":
            control.ask(f"TYPE {kind}")
            begin = time.monotonic()
            self.assertEqual(control.store("STOR rated", content), DONE)
            middle = time.monotonic()
            self.assertEqual(control.retrieve("RETR rated"), (content, DONE))
            end = time.monotonic()
            self.assertEqual(self.read("rated"), content)
            for seconds in (middle - begin, end - middle):
                self.assertGreater(seconds, 0.15)
                self.assertLess(seconds, LIMIT)

    # Who moves less than --min-rate over --data-timeout is given up, though never standing still:
    # an upload, a download, a listing, and one over the control connection whatever is sent to it.
    def test_slow_clients_are_given_up(self):
        quick = self.write("quick", os.urandom(1 << 20))
        self.write("fast", os.urandom(8 << 20))
        self.write_folder("slow", 6000)
        self.give_up_slow(quick)

    @unless_stalled
    def give_up_slow(self, quick):
        server = self.start_server(*self.options, "--data-timeout", "1", "--min-rate", "2M",
                                   "--send-buffer", "64K")
        slow = {}
        for command in ("STOR drip", "RETR fast", "LIST slow"):
            control = self.login(server)
            data = small_buffers((control.host, control.passive_port()))
            self.addCleanup(data.close)
            self.assertEqual(control.ask(command)[:3], "150")
            slow[control] = (data.send, b"x") if command[0] == "S" else (data.recv, 65536)
        unread, ends = self.asks_unread(server, "STAT slow")
        deadline = time.monotonic() + LIMIT
        while slow or not ends.poll(0):
            self.assertLess(time.monotonic(), deadline, slow)
            for control in select.select(list(slow), [], [], 0.02)[0]:
                del slow[control]
                # The latter is right when we had no processor for so long.
                self.assertIn(control.reply(), ("426 The data connection is too slow.",
                                                "426 The data connection stood still."))
            for move, argument in [*slow.values(), (unread.send, b"x")]:
                try:
                    move(argument)
                except OSError:
                    pass # it was given up, and the reply is on its way
        control = self.login(server)
        self.assertEqual(control.retrieve("RETR quick"), (quick, DONE))
        self.assertEqual(control.store("STOR quick again", quick), DONE)
        self.assertFalse(os.path.exists(self.path("drip")))

    @unless_stalled
    # A client neither stands still nor is slow while --rate-limit holds it up.
    def test_rate_limit_is_no_standing_still(self):
        content = self.write("limited", os.urandom(100000))
        server = self.start_server(*self.options, "--data-timeout", "0.4", "--min-rate", "1M",
                                   "--rate-limit", "100K")
        load, store = self.login(server), self.login(server)
        with store.passive() as data:
            data.sendall(content)  # the sockets hold it, so this client's time is over
        self.assertEqual(store.ask("STOR paused"), OPENING)
        self.assertEqual(load.retrieve("RETR limited"), (content, DONE))
        self.assertEqual(store.reply(), DONE)
        self.assertEqual(self.read("paused"), content)

    # Who sends thousands of commands and takes no reply costs the server no more than the stream's
    # high mark, and its neighbours nothing. When it reads, every reply comes, in order.
    def test_replies_that_nobody_takes(self):
        folder = "/".join(["x" * 200] * 15)
        os.makedirs(self.path(folder), exist_ok=True)
        server = self.start_server(*self.options, "--send-buffer", "64K")
        unread, other = self.login(server), self.login(server)
        self.assertEqual(unread.code(f"CWD {folder}"), 250)
        commands, replies = [], []
        for number in range(2000):
            commands += [f"REST {number}", "STAT"]
            replies += [f"350 Restarting at {number}.", "211-weir FTP server:", " User: bob",
                        f" Directory: /{folder}", " Type: binary", "211 End"]
            if number % 100 == 0:
                commands.append("DELE missing") # a job: what follows waits for it
                replies.append("550 No such file or directory.")
        unread.send("\r\n".join(commands))
        expected = "\r\n".join([*replies, ""]).encode("ascii")
        deadline = time.monotonic() + LIMIT
        while (counters := server.counters())["queued_bytes"] < 512 << 10:
            self.assertLess(time.monotonic(), deadline, counters)
        self.assert_asks(other, ("NOOP", "200 Yes."))
        self.assertEqual(other.store("STOR beside", b"beside"), DONE)
        self.assertEqual(receive(unread.socket, len(expected)), expected)
        self.assert_asks(unread, ("NOOP", "200 Yes."))
        self.assertLess(server.counters()["queued_high"], 2 << 20)

    # Thousands of commands in a few packets take many turns of the loop, and other sessions have
    # their part; each is answered, in order, and ABOR among them still overtakes.
    def test_bursts_of_commands_take_turns(self):
        control = self.login()
        begun = self.server.counters()["turns"]
        control.send("\r\n".join(["NOOP", "PWD"] * 1000))
        expected = b'200 Yes.\r\n257 "/" is the working directory.\r\n' * 1000
        self.assertEqual(receive(control.socket, len(expected)), expected)
        # 32 lines a turn, and one more for each packet that comes in it.
        self.assertGreater(self.server.counters()["turns"] - begun, 50)
        with open(self.path("burst"), "wb") as file:
            file.truncate(64 << 20)
        data = small_buffers((control.host, control.passive_port()))
        self.addCleanup(data.close)
        self.assertEqual(control.ask("RETR burst")[:3], "150")
        control.send("STAT\r\n" * 100 + "ABOR\r\nNOOP")
        for _ in range(100):
            self.assertEqual(control.reply()[:4], "211 ")
        self.assertEqual([control.reply() for _ in range(3)],
                         ["426 Transfer aborted.", "226 Abort done.", "200 Yes."])
        # The turn is over with some lines waiting behind a transfer, and fewer than may wait.
        data = small_buffers((control.host, control.passive_port()))
        self.addCleanup(data.close)
        control.send("NOOP\r\n" * 20 + "RETR burst\r\n" + "PWD\r\n" * 11 + "ABOR")
        self.assertEqual([control.reply()[:3] for _ in range(34)],
                         ["200"] * 20 + ["150", "426", "226"] + ["257"] * 11)

    # A burst of EPSV opens one port at a time: a small range lasts for it, and for others then.
    def test_bursts_of_passive_ports(self):
        port = free_ports(20)
        server = self.start_server(*self.options, "--passive-ports", f"{port}-{port + 19}")
        burst, other = self.login(server), self.login(server)
        burst.send("\n".join(["EPSV"] * 200))
        self.assert_asks(other, ("NOOP", "200 Yes."))
        replies = [burst.reply() for _ in range(200)]
        self.assertEqual([reply for reply in replies if reply[:3] != "229"], [])
        for _ in range(40):
            self.assertIn(other.passive_port(), range(port, port + 20))

    # A session that never takes its replies ends with the time-out of every other: that of the
    # login before it, the idle one behind it. It is reset: no last reply could reach it. The log
    # tells of each.
    def test_who_never_takes_replies_is_given_up(self):
        server = self.start_server(*self.options, "--send-buffer", "64K", "--login-timeout", "2",
                                   "--idle-timeout", "0.5")
        def stranger(count):
            control = self.control(server)
            control.send("\r\n".join(["HELP"] * count))
            return control

        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            runs = [pool.submit(self.see_reset, lambda: self.asks_unread(
                server, "\r\n".join(["HELP"] * 8000))[0])]
            for count in (8000, 2000):  # more than the session may queue, and than sockets hold
                runs.append(pool.submit(self.see_reset, stranger, count))
        for run in runs:
            run.result()
            server.log.until("warning: 127.0.0.1: reset: it takes no replies")

    def see_reset(self, begin, *arguments):
        """A session that begin() starts is reset. If the machine was too busy to answer so much in
        time that nothing more could reach it, it is told the end, and another one has to try."""
        for _ in range(TRIES):
            ends = select.poll()
            ends.register(session := begin(*arguments), select.POLLRDHUP)
            found = ends.poll(LIMIT * 1000)
            self.assertTrue(found, f"{session} is still there")
            if found[0][1] & select.POLLHUP:
                return
        self.fail("each was told the end")

    @unless_stalled
    # Who is heard in the turn in which the time to log in is over is no such one: he gets his reply
    # and the last one, though both leave in later turns. These are heard in each turn.
    def test_who_is_heard_at_the_last_moment_is_told(self):
        server = self.start_server(*self.options, "--login-timeout", "0.2")
        with concurrent.futures.ThreadPoolExecutor(5) as pool:
            runs = [pool.submit(self.see_last_reply, server) for _ in range(5)]
        for run in runs:
            run.result()

    def see_last_reply(self, server):
        """Of a stranger who asks all the time. Whom a busy machine did not let begin in time hears
        nothing else, and another one has to try."""
        for _ in range(TRIES):
            stranger = self.control(server)
            stranger.send("\r\n".join(["NOOP"] * 10000)) # 32 a turn and at least a millisecond
            replies = stranger.end().split(b"\r\n")
            self.assertEqual(replies[-2:], [b"421 Log in faster.", b""])
            self.assertLessEqual(set(replies[:-2]), {b"200 Yes."})
            if replies[:-2]:
                return
        self.fail("nobody was heard in time")

    # The end of a short file leaves with its last bytes; of a long one, every call's bytes leave
    # with the call.
    def test_only_long_files_are_uncorked(self):
        server = self.start_server(*self.options, "--send-buffer", "16K")
        control = self.login(server)
        for size, corked in ((250 << 10, 1), (260 << 10, 0)):
            content = self.write("file", os.urandom(size))
            data = small_buffers((control.host, control.passive_port()))
            self.addCleanup(data.close)
            self.assertEqual(control.ask("RETR file")[:3], "150")
            first = receive(data, 1)
            with connected_socket(server.process.pid, data) as end:
                self.assertEqual(end.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK), corked)
            self.assertEqual(first + receive_end(data), content)
            self.assertEqual(control.reply(), DONE)

    @unless_stalled
    # A session of --total-timeout is told 421, between commands or behind what runs: a transfer is
    # finished, what waits behind it is not begun. One that would never end is reset at twice that
    # age, and its upload is not there.
    def test_old_sessions_end(self):
        content = self.write("whole", os.urandom(300000)) # more than the sockets hold
        server = self.start_server(*self.options, "--total-timeout", "2", "--send-buffer", "64K",
                                   "--anonymous-write")
        began = time.monotonic()
        # The youngest tells when all are old. No password is hashed: that takes long where others
        # want the processors.
        idle, load, store, endless, busy = (self.login(server, ("ftp", "x")) for _ in range(5))
        out = small_buffers((load.host, load.passive_port()))
        self.addCleanup(out.close)
        self.assertEqual(load.ask("RETR whole")[:3], "150")
        into, drip = store.passive(), endless.passive()
        self.addCleanup(into.close)
        self.addCleanup(drip.close)
        self.assertEqual(store.ask("STOR old"), OPENING)
        self.assertEqual(endless.ask("STOR endless"), OPENING)
        store.send("NOOP")
        got = bytearray()
        while (reply := busy.ask("NOOP")) == "200 Yes.":
            got += out.recv(100)
            into.send(b"x")
            drip.send(b"x")
            select.select([], [], [], 0.02)
        self.assertEqual([reply, idle.reply()], [OLD, OLD])
        # The blocking engine may notice the others' time a tenth of a second later.
        select.select([], [], [], 0.15)
        self.assertGreaterEqual(time.monotonic() - began, 2)
        into.close()
        self.assertEqual([store.reply(), store.reply(), store.end()], [DONE, OLD, b""])
        self.assertEqual(bytes(got + receive_end(out)), content)
        self.assertEqual([load.reply(), load.reply(), load.end()], [DONE, OLD, b""])
        self.assertEqual(set(self.read("old")), set(b"x"))
        ends = select.poll()
        ends.register(endless.socket, 0)
        while not ends.poll(20):
            try:
                drip.send(b"x")
            except OSError:
                pass # it was broken off, and the control connection is about to be
            self.assertLess(time.monotonic() - began, LIMIT)
        self.assertGreaterEqual(time.monotonic() - began, 4)
        server.log.until("aborted: open for twice --total-timeout")
        counters = server.counters()
        self.assertEqual([counters["total_timeouts"], counters["total_aborts"]], [5, 1])
        self.assertFalse(os.path.exists(self.path("endless")))
        self.wait_for_none_left()

    def wait_for_none_left(self):
        deadline = time.monotonic() + LIMIT
        while self.leftovers():
            self.assertLess(time.monotonic(), deadline)
            select.select([], [], [], 0.02)


on_all_engines(Pace, globals())
