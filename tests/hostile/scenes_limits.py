"""Scenes at a limit on numbers: more connections, more descriptors than there are."""

import os
import resource
import select
import time

import machine
from programs import LIMIT, QUIET, connect
from stage import Result, alive


# Accepting is tried so often while descriptors are out.
REFUSED_A_SECOND = 10


class Crowd:
    """Clients that each send a byte and wait for its echo."""

    def __init__(self, stage, address, count):
        self.poll = select.poll()
        self.waiting, self.served, self.reset = {}, [], 0
        for _ in range(count):
            client = connect(address)
            stage.context.callback(client.close)
            client.sendall(b"!")
            self.waiting[client.fileno()] = client
            self.poll.register(client, select.POLLIN)

    def wait(self, count, limit_s=LIMIT):
        """Waits until so many more are served, at most so long. Returns how many, and the time."""
        begin = time.monotonic()
        before = len(self.served)
        while len(self.served) - before < count:
            left_s = begin + limit_s - time.monotonic()
            for fd, _ in self.poll.poll(max(left_s, 0) * 1000):
                self.poll.unregister(fd)
                self.take(self.waiting.pop(fd))
            if left_s <= 0:
                break
        return len(self.served) - before, time.monotonic() - begin

    def take(self, client):
        try:
            if client.recv(1) == b"!":
                self.served.append(client)
        except ConnectionResetError:
            self.reset += 1

    def leave(self):
        """Those that were served go."""
        for client in self.served:
            client.close()
        self.served = []


def connection_limit(stage):
    """Twice as many as the limit: the rest waits, and is served within a second of room."""
    count, result = stage.size.crowd, Result("twice the connection limit", stage.engine)
    server = stage.server("--max-connections", str(count))
    crowd = Crowd(stage, server.addresses[0], 2 * count)
    served, took_s = crowd.wait(count)
    result.figure("limit", count)
    result.figure("until the limit was served, s", took_s)
    result.need_equal("served", served, count)
    cpu_s = machine.cpu_seconds(server.process.pid)
    result.need_equal("served beyond the limit", crowd.wait(1, 3 * QUIET)[0], 0)
    cpu_s = machine.cpu_seconds(server.process.pid) - cpu_s
    result.need("CPU while they wait, share", cpu_s / (3 * QUIET), 0.2)
    crowd.leave()
    served, took_s = crowd.wait(count)
    result.need_equal("served when there was room", served, count)
    result.need("recovery, s", took_s, recovery_limit(stage))
    crowd.leave()
    alive(result, server)
    return result


def recovery_limit(stage):
    return 10.0 if stage.size.sanitized else 1.0


def play_descriptors(stage, scene, *options):
    """Fewer descriptors than connections: those without wait, quietly."""
    count, result = stage.size.files, Result(scene, stage.engine)
    server = stage.server(*options)
    pid = server.process.pid
    most = max(map(int, os.listdir(f"/proc/{pid}/fd"))) + 1 + count
    with machine.lowered(pid, resource.RLIMIT_NOFILE, most):
        crowd = Crowd(stage, server.addresses[0], 2 * count)
        served, _ = crowd.wait(count // 3)
        served += crowd.wait(2 * count, 3 * QUIET)[0]
        result.figure("descriptors", most)
        result.figure("served at the limit", served)
        result.need("served at the limit", served, count // 3, least=True)
        result.need("served at the limit, at most", served, count)
        cpu_s = machine.cpu_seconds(pid)
        result.need_equal("served beyond it", crowd.wait(1, 3 * QUIET)[0], 0)
        cpu_s = machine.cpu_seconds(pid) - cpu_s
        result.need("CPU while they wait, share", cpu_s / (3 * QUIET), 0.2)
        result.need("descriptors", machine.descriptors(pid), most)
        # Left by itself: those that were served go.
        crowd.leave()
        wanted = min(served, len(crowd.waiting)) - REFUSED_A_SECOND * stage.blocking()
        first, took_s = crowd.wait(wanted)
        result.need("served after others left", first, wanted, least=True)
        result.need("recovery, s", took_s, recovery_limit(stage))
    # Left because the limit was raised.
    left = len(crowd.waiting) - REFUSED_A_SECOND * stage.blocking()
    rest, took_s = crowd.wait(left)
    result.need("served without the limit", rest, left, least=True)
    result.need("recovery after raising it, s", took_s, recovery_limit(stage))
    result.figure("refused with a reset", crowd.reset)
    # A thread that cannot have its own descriptor ends its connection; nobody else is reset.
    result.need("refused with a reset", crowd.reset, 5 * REFUSED_A_SECOND * stage.blocking())
    alive(result, server)
    return result


def descriptors(stage):
    """Ordinary descriptors run out."""
    options = ("--uring", "kernel-6.1") if stage.engine == "uring" else ()
    return play_descriptors(stage, "RLIMIT_NOFILE", *options)


def descriptors_direct(stage):
    """Connections in the ring's own table need no descriptor: the limit does not reach them."""
    count, result = stage.size.files, Result("RLIMIT_NOFILE, direct descriptors", stage.engine)
    server = stage.server()
    pid = server.process.pid
    most = max(map(int, os.listdir(f"/proc/{pid}/fd"))) + 1
    with machine.lowered(pid, resource.RLIMIT_NOFILE, most):
        crowd = Crowd(stage, server.addresses[0], 2 * count)
        served, _ = crowd.wait(2 * count)
        result.need_equal("served without any descriptor left", served, 2 * count)
        result.figure("descriptors", machine.descriptors(pid))
        result.need("descriptors", machine.descriptors(pid), most)
    crowd.leave()
    alive(result, server)
    return result


SCENES = (connection_limit, descriptors)
URING_SCENES = (descriptors_direct,)
