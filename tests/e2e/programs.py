"""What tests of the built programs share: running them, waiting for lines, being a client.

Nothing sleeps: a test waits for a line of the program, for bytes, or for a process to end, each
within LIMIT seconds.
"""

import contextlib
import ctypes
import errno
import functools
import os
import select
import signal
import socket
import struct
import subprocess
import threading
import time
import unittest

WEIR = os.environ.get("WEIR", "")
LIMIT = 20
# How long "is not served" is looked at. Too short can only miss a fault, never invent one.
QUIET = 0.3
# A processor that lets nobody run for so long was stopped; one that is only shared does not.
STALL = 0.1
STALL_TRIES = 5


def sanitized():
    """Whether the programs were built with a sanitizer, which keeps what was freed."""
    with open(WEIR, "rb") as file:
        return b"__asan_init" in (data := file.read()) or b"__tsan_init" in data


class Lines:
    """Lines of a pipe, each waited for within LIMIT seconds."""

    def __init__(self, fd):
        self.fd = fd
        self.rest = b""
        self.seen = []

    def next(self):
        while b"\n" not in self.rest:
            if not select.select([self.fd], [], [], LIMIT)[0]:
                raise AssertionError(f"no further line after {self.seen}")
            more = os.read(self.fd, 65536)
            if not more:
                raise AssertionError(f"the output ended after {self.seen}")
            self.rest += more
        line, self.rest = self.rest.split(b"\n", 1)
        self.seen.append(line.decode())
        return self.seen[-1]

    def until(self, text):
        while text not in (line := self.next()):
            pass
        return line


class Server:
    """A running `weir echo`, or another command; `addresses` are those of its listening lines."""

    def __init__(self, engine, *options, listen=("127.0.0.1:0",), name="echo", program=None,
                 wrapper=(), **popen):
        command = [*wrapper, *(program or (WEIR, name))]
        command += ["--engine", engine]
        for address in listen:
            command += ["--listen", address]
        self.process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, **popen)
        self.log = Lines(self.process.stderr.fileno())
        output = Lines(self.process.stdout.fileno())
        self.lines = []
        try:
            self.lines = [output.next() for _ in listen]
        except AssertionError:
            self.kill()
            raise
        self.addresses = [line.split()[2] for line in self.lines]

    def signal(self, number):
        self.process.send_signal(number)

    def counters(self):
        """What SIGUSR1 prints."""
        counters = {}
        self.signal(signal.SIGUSR1)
        while "queued_high" not in counters:
            words = self.log.next().split()
            if len(words) == 3 and words[2].isdigit():
                counters[words[1]] = int(words[2])
        return counters

    def wait(self):
        return self.process.wait(LIMIT)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


def processor_time(pid):
    """Seconds that a running process has had a processor."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def status_of(pid, thread=None):
    """The fields of a process's or of its thread's status in /proc."""
    path = f"/proc/{pid}/task/{thread}/status" if thread else f"/proc/{pid}/status"
    with open(path, encoding="utf-8") as file:
        return {name: value.strip() for name, _, value in (line.partition(":") for line in file)}


def threads_of(pid):
    """The status of each thread of a process, but for the kernel's own workers and for those that
    end while one looks."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            status = status_of(pid, thread)
            if not status["Name"].startswith("iou-"):
                yield status


def descriptors_of(pid):
    """The numbers of a process's descriptors and what they are, in order, but for those that it
    closes while one looks."""
    for name in sorted(os.listdir(f"/proc/{pid}/fd"), key=int):
        with contextlib.suppress(FileNotFoundError):
            yield int(name), os.readlink(f"/proc/{pid}/fd/{name}")


def connect(address, source=None, receive_buffer=None):
    """A connected client of a listening line's address; one with a small buffer holds little of
    what it does not read."""
    if address.startswith("unix:"):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(LIMIT)
        client.connect(address[5:])
        return client
    host, _, port = address.rpartition(":")
    if not receive_buffer:
        source = (source, 0) if source else None
        return socket.create_connection((host.strip("[]"), int(port)), LIMIT, source)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)  # before the window
    client.settimeout(LIMIT)
    client.connect((host, int(port)))
    return client


def receive(client, size):
    data = bytearray()
    while len(data) < size:
        more = client.recv(size - len(data))
        if not more:
            break
        data += more
    return bytes(data)


def receive_end(client):
    """All bytes up to the peer's end."""
    data = bytearray()
    while more := client.recv(65536):
        data += more
    return bytes(data)


def receive_until(client, end):
    """All bytes up to those that `end` names, or the peer's end."""
    data = bytearray()
    while end not in data and (more := client.recv(65536)):
        data += more
    return bytes(data)


def stuff(client):
    """Sends without reading until neither side takes a byte more."""
    return stuff_up_to(client, b"x" * 65536)


def stuff_up_to(client, pattern, limit=1 << 62):
    """The same with a pattern that repeats, up to so many bytes; how many were taken.

    A server that only waits for a processor takes more later: it has three times as long as others.
    """
    client.setblocking(False)
    total = 0
    while total < limit and select.select([], [client], [], 3 * QUIET)[1]:
        at = total % len(pattern)
        try:
            total += client.send(pattern[at:at + min(65536, limit - total)])
        except BlockingIOError:
            pass
    client.settimeout(LIMIT)
    return total


def look_later():
    """A pause between two looks at what tells nobody when it changes: without it a look would take
    the processors from the other tests."""
    select.select([], [], [], 0.01)


class Stalls:
    """How late each processor lets run who only wants to wake up: a thread on each finds out."""

    STEP = 0.02
    MOST = 8  # more would take time themselves

    def __init__(self):
        self.late, self.over = [0], threading.Event()
        self.watchers = [threading.Thread(target=self.watch, args=(cpu,))
                         for cpu in sorted(os.sched_getaffinity(0))[:self.MOST]]
        for watcher in self.watchers:
            watcher.start()

    def watch(self, cpu):
        os.sched_setaffinity(0, (cpu,))  # this thread's
        over = False
        while not over:
            begin = time.monotonic()
            over = self.over.wait(self.STEP)
            self.saw(time.monotonic() - begin - self.STEP)

    def saw(self, late):
        self.late.append(late)

    def end(self):
        """The longest stall, in seconds; one that still lasts is waited for."""
        self.over.set()
        for watcher in self.watchers:
            watcher.join()
        return max(self.late)


def unless_stalled(check):
    """A check that fails while a processor stands still is made again, some times.

    A virtual machine may be stopped for seconds. A server or a client that was at it then is late,
    which a check that judges how long somebody takes must not take for a fault of theirs.
    """
    @functools.wraps(check)
    def watched(*arguments):
        for left in reversed(range(STALL_TRIES)):
            stalls = Stalls()
            try:
                return check(*arguments)
            except unittest.SkipTest:
                raise
            except Exception:  # a late client has many kinds of failures
                if not left or stalls.end() < STALL:
                    raise
            finally:
                stalls.end()
        return None

    return watched


def run(*arguments, **options):
    return subprocess.run([WEIR, *arguments], capture_output=True, text=True, timeout=LIMIT,
                          check=False, **options)


def listening_socket(pid):
    """A duplicate of the process's first listening TCP socket."""
    return socket_of(pid, lambda found: found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def connected_socket(pid, peer):
    """A duplicate of the process's socket that is connected with this one of ours."""
    def is_connected(found):
        try:
            return found.getpeername() == peer.getsockname()
        except OSError:
            return False

    return socket_of(pid, is_connected)


def socket_of(pid, wanted):
    """A duplicate of the process's first socket of which wanted() holds."""
    library = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    try:
        for number, link in descriptors_of(pid):
            if not link.startswith("socket:"):
                continue
            fd = library.syscall(438, pidfd, number, 0)  # pidfd_getfd
            if fd < 0 and ctypes.get_errno() == errno.EBADF:
                continue  # it was closed meanwhile
            if fd < 0:
                raise unittest.SkipTest(f"pidfd_getfd: {os.strerror(ctypes.get_errno())}")
            found = socket.socket(fileno=fd)
            if wanted(found):
                return found
            found.close()
    finally:
        os.close(pidfd)
    raise AssertionError("no such socket")


def forbid_uring():
    """For preexec_fn: from here on io_uring_setup fails as under a container's seccomp profile."""
    forbid_call(425)


def forbid_call(number, value=None, argument=0, error=errno.EPERM):
    """From here on the system call with this number, or that with this value of an argument (the
    first), fails with this error."""
    load, jump_if_equal, ret = 0x20, 0x15, 0x06
    allow, fail = 0x7FFF0000, 0x00050000 | error  # SECCOMP_RET_ALLOW; SECCOMP_RET_ERRNO
    rows = [(load, 0, 0, 0), (jump_if_equal, 0, 1, number), (ret, 0, 0, fail),
            (ret, 0, 0, allow)]
    if value is not None:
        rows[1:2] = [(jump_if_equal, 0, 3, number), (load, 0, 0, 16 + 8 * argument),
                     (jump_if_equal, 0, 1, value)]
    program = b"".join(struct.pack("HBBI", *row) for row in rows)
    code = ctypes.create_string_buffer(program)
    filter_ = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(rows), ctypes.addressof(code)))
    library = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    if library.prctl(38, ctypes.c_ulong(1), zero, zero, zero):  # PR_SET_NO_NEW_PRIVS
        raise OSError("no_new_privs")
    if library.prctl(22, ctypes.c_ulong(2), filter_, zero, zero):  # PR_SET_SECCOMP, filter
        raise OSError("seccomp")


def main():
    """Runs the calling file's tests and prints their number."""
    program = unittest.main(exit=False)
    result = program.result
    # A test whose subtests failed is one test.
    broken = [test for test, _ in result.failures + result.errors]
    failed = len({id(getattr(test, "test_case", test)) for test in broken})
    skipped = len(result.skipped)
    passed = max(result.testsRun - failed - skipped, 0)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0
