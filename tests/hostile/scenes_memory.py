"""Scenes about memory: readers that stop, and limits that the process runs into."""

import contextlib
import http.client
import json
import os
import resource
import select
import socket

import machine
from programs import LIMIT, QUIET, connect, receive
from stage import (BUFFER, HIGH_MARK, MIB, POOL, QUEUED_MAX, THREAD, Mice, Peers, Result, alive,
                   counters, let_rest, no_errors)

# Queues are charged by block and buffer, not by byte: an eighth more.
HIGH_MARK_CHARGED = HIGH_MARK + HIGH_MARK // 8 + BUFFER
# What the allocator and the records of a stream may cost beside that.
SLACK = 384 * 1024
# What the kernel keeps for each socket of a crowd: otherwise its own bounds are met first.
SMALL = 16 * 1024
SMALL_BUFFERS = ("--send-buffer", "16K", "--receive-buffer", "16K")


def watch(seconds, look):
    """Calls look() ten times, spread over the seconds."""
    for _ in range(10):
        select.select([], [], [], seconds / 10)
        look()


class Growth:
    """How far a process's memory grew above what it was after a warm-up."""

    def __init__(self, stage, server, stats):
        self.pid = server.process.pid
        self.server, self.stats = server, stats
        warm = Mice(stage, server.addresses[0], 0.3).report()
        assert not warm["errors"]["total"], warm["errors"]
        self.before = machine.resident(self.pid)
        self.kernel_before = machine.tcp_memory()
        self.most = self.kernel = 0
        self.counters = {}

    def look(self):
        self.most = max(self.most, machine.resident(self.pid) - self.before)
        self.kernel = max(self.kernel, machine.tcp_memory() - self.kernel_before)

    def settle(self):
        self.look()
        self.counters = counters(self.server, self.stats)


def stall(stage, result, server, growth, count, **options):
    """Readers that stop, neighbours meanwhile; then they read on and miss nothing."""
    peers = Peers(stage, "stall", server.addresses[0], connections=count, **options)
    peers.until("ready")
    stalled = int(peers.until("stalled").split()[1])
    # A mouse that waits this long is lost, and an error.
    mice = Mice(stage, server.addresses[0], max(stage.size.stall_s, 0.3), "--timeout", "8")
    watch(stage.size.stall_s, growth.look)
    growth.settle()
    no_errors(result, mice.report(), "errors of the neighbours")
    result.figure("bytes on their way, MiB", stalled / MIB)
    report = peers.end()
    result.need_equal("stalled readers that got all of it", report["finished"], count)
    result.need_equal("altered bytes", report["wrong"], 0)
    result.need_equal("bytes that never came back", report["sent"] - report["received"], 0)


def stalled_reader(stage):
    """A reader that stops costs its high mark and no more, however long it stops."""
    result = Result("a reader that stops", stage.engine)
    stats = os.path.join(stage.folder(), "stats")
    server = stage.server("--stats-json", stats)
    growth = Growth(stage, server, stats)
    stall(stage, result, server, growth, 1)
    result.figure("stopped for, s", stage.size.stall_s)
    queued = growth.counters["queued_bytes"]
    result.figure("queued, MiB", queued / MIB)
    result.figure("user memory, MiB", growth.most / MIB)
    result.figure("kernel memory of both ends, MiB", growth.kernel / MIB)
    result.need("queued, bytes", queued, HIGH_MARK_CHARGED)
    # The pool of receive buffers is there from the start, but touched only as it is used.
    shared = (stage.size.mice + 1) * THREAD if stage.blocking() else POOL
    if not stage.size.sanitized:
        result.need("user memory, bytes", growth.most, shared + HIGH_MARK_CHARGED + SLACK)
    alive(result, server)
    return result


def stalled_crowd(stage):
    """Many of them share the loop's bound, and are all served again."""
    count, result = stage.size.stalled, Result("many readers that stop", stage.engine)
    stats = os.path.join(stage.folder(), "stats")
    server = stage.server("--stats-json", stats, *SMALL_BUFFERS)
    growth = Growth(stage, server, stats)
    stall(stage, result, server, growth, count, buffer=SMALL)
    # A thread per connection has a loop, and a bound, of its own.
    bound = QUEUED_MAX + count * BUFFER + POOL
    if stage.blocking():
        bound = count * (HIGH_MARK_CHARGED + THREAD) + stage.size.mice * THREAD
    result.figure("readers", count)
    result.figure("user memory, MiB", growth.most / MIB)
    result.figure("kernel memory of both ends, MiB", growth.kernel / MIB)
    queued = growth.counters["queued_high"]
    result.figure("queued, MiB", queued / MIB)
    result.figure("receives armed", growth.counters["receive_arms"])
    result.figure("of those, found no buffer", growth.counters["receive_no_buffers"])
    result.figure("received, MiB", growth.counters["received_bytes"] / MIB)
    result.need("queued, bytes", queued, bound)
    if not stage.size.sanitized:
        result.need("user memory, bytes", growth.most, bound + bound // 8)
    alive(result, server)
    return result


# --- A limit on address space --------------------------------------------------------------------

# Otherwise an arena of 64 MiB is reserved for each thread, and a limit is met only behind it.
ONE_ARENA = {**os.environ, "MALLOC_ARENA_MAX": "1"}


def left_with(server, more):
    """Until the end of the block the process can have so many bytes more than it has now.

    It rests before: what its start or an answer still takes would count, and a start that lacks
    memory is refused.
    """
    let_rest(server)
    pid = server.process.pid
    return machine.lowered(pid, resource.RLIMIT_AS, machine.virtual(pid) + more)


def squeeze(stage, result, server):
    """Connections that want more memory than there is. Returns their report once nothing moves."""
    peers = Peers(stage, "stall", server.addresses[0], connections=stage.size.squeeze,
                  buffer=SMALL)
    while not (line := peers.lines.next()).startswith(("stalled", "{")):
        pass
    taken = machine.virtual(server.process.pid)
    result.figure("address space at the limit, MiB", taken / MIB)
    return json.loads(line) if line.startswith("{") else peers.end()


def address_space(stage):
    """Memory that cannot be had costs connections, never the server."""
    result = Result("RLIMIT_AS", stage.engine)
    server = stage.server(*SMALL_BUFFERS, env=ONE_ARENA)
    witness = connect(server.addresses[0])
    with witness:
        witness.sendall(b"before")
        receive(witness, 6)
        with left_with(server, MIB):
            report = squeeze(stage, result, server)
            cut = report["lost"] + report["refused"]
            result.need_equal("the server has ended", server.process.poll() is not None, False)
            result.need_equal("altered bytes", report["wrong"], 0)
            result.need("connections that went without", cut, 1, least=True)
        result.figure("connections that wanted memory", stage.size.squeeze)
        result.figure("connections cut off", cut)
        if server.process.poll() is None:
            witness.sendall(b"after!")
            result.need_equal("an old client is served", receive(witness, 6).decode(), "after!")
    alive(result, server)
    if server.process.poll() is None:
        no_errors(result, Mice(stage, server.addresses[0], 0.3).report())
    return result


# For each of those who want megabytes: a reader of a file costs a few kilobytes.
HTTP_READERS = 8


def ask(address, path, limit_s=LIMIT):
    """The status of one GET, or what happened instead."""
    host, port = address.split(":")
    client = http.client.HTTPConnection(host, int(port), timeout=limit_s)
    try:
        client.request("GET", path)
        return client.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        client.close()


def address_space_http(stage):
    """The same for `weir http`: what cannot be served is refused, and later it is served."""
    result = Result("RLIMIT_AS, http", stage.engine)
    root = stage.folder()
    with open(os.path.join(root, "file"), "wb") as file:
        file.write(b"x" * MIB)
    stats = os.path.join(stage.folder(), "stats")
    server = stage.server("--root", root, "--cache-size", "0", "--stats-json", stats,
                          *SMALL_BUFFERS, name="http", env=ONE_ARENA)
    address = server.addresses[0]
    readers, served = [], 0
    with left_with(server, 512 * 1024):
        for _ in range(HTTP_READERS * stage.size.squeeze):
            with contextlib.suppress(ConnectionError):  # nobody promised it memory
                readers.append(reader := socket.socket())
                stage.context.callback(reader.close)
                reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
                reader.settimeout(LIMIT)
                host, port = address.split(":")
                reader.connect((host, int(port)))
                reader.sendall(b"GET /file HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
        let_rest(server)
        result.figure("answer at the limit", ask(address, "/file", QUIET))
        for reader in readers:
            reader.setblocking(False)  # with a time limit Python waits, MSG_DONTWAIT or not
            with contextlib.suppress(OSError):
                served += len(reader.recv(1))
        result.figure("readers", len(readers))
        result.figure("readers that were answered", served)
        # A thread's stack alone is more than what is left.
        result.need("readers that were answered", served, int(not stage.blocking()), least=True)
        result.need_equal("the server has ended", server.process.poll() is not None, False)
    for reader in readers:
        reader.close()
    if server.process.poll() is None:
        now = counters(server, stats)
        refused = now["closed_error"] + now["accept_errors"] + now["accept_pauses"]
        result.need("times that memory was refused", refused, 1, least=True)
    result.need_equal("answer without the limit", ask(address, "/file"), 200)
    return result


# --- A limit on a cgroup -------------------------------------------------------------------------


def download(address, size):
    """Fetches the file and returns whether all its bytes came."""
    count = 0
    with contextlib.suppress(ConnectionError), connect(address) as client:
        client.sendall(b"GET /file HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        while more := client.recv(1 << 20):
            count += len(more)
    return count >= size


def cgroup(stage):
    """A container's limit is reached by files and stopped readers; nobody is killed."""
    size, result = stage.size, Result("memory cgroup", stage.engine)
    root = stage.folder()
    path = os.path.join(root, "file")
    length = 2 * size.cgroup_mib * MIB
    with open(path, "wb") as file:
        file.truncate(length)  # who reads a page first is charged for it, of a hole as well
    with machine.Cgroup(size.cgroup_mib * MIB) as group:
        server = stage.server("--root", root, name="http", preexec_fn=group.enter)
        stopped = []
        for _ in range(size.squeeze):
            with contextlib.suppress(ConnectionError):  # who is refused has not stopped
                client = connect(server.addresses[0])
                stage.context.callback(client.close)
                client.sendall(b"GET /file HTTP/1.1\r\nHost: x\r\n\r\n")
                stopped.append(client)
        result.need("readers that stopped", len(stopped), size.squeeze, least=True)
        result.need_equal("a whole file beside them", download(server.addresses[0], length), True)
        result.figure("limit, MiB", size.cgroup_mib)
        result.figure("times at the limit", int(group.read("memory.failcnt")))
        result.figure("most, MiB", int(group.read("memory.max_usage_in_bytes")) / MIB)
        result.need("times at the limit", int(group.read("memory.failcnt")), 1, least=True)
        result.need_equal("processes killed", group.kills(), 0)
        result.need_equal("the server has ended", server.process.poll() is not None, False)
        for client in stopped:
            client.close()
        result.need_equal("a file after them", ask(server.addresses[0], "/file"), 200)
        server.kill()
    return result


SCENES = (stalled_reader, stalled_crowd)
# Limits on memory would be the sanitizers' own.
RELEASE_SCENES = (address_space, address_space_http, cgroup)
