"""Scenes at a limit on numbers: more connections, more descriptors than there are."""

import os
import resource
import select
import time

import machine
from programs import LIMIT, QUIET, connect
from stage import Result, alive, let_rest, let_run

# A server that waits for room takes less of a processor.
SPIN_MAX, SPIN_LOOK_S = 0.2, 0.9


class Crowd:
    """Clients that each send a byte and wait for its echo."""

    def __init__(self, stage, address, count):
        self.poll = select.poll()
        self.waiting, self.served, self.reset = {}, [], 0
        for _ in range(count):
            try:
                client = connect(address)
                stage.context.callback(client.close)
                client.sendall(b"!")
            except ConnectionError:  # a refusal may be as fast as this
                self.reset += 1
                continue
            self.waiting[client.fileno()] = client
            self.poll.register(client, select.POLLIN)

    def wait(self, count, limit_s=LIMIT):
        """Waits until so many more are served, at most so long. Returns how many, and the time."""
        begin = time.monotonic()
        before = len(self.served)
        while len(self.served) - before < count and self.waiting:
            left_s = begin + limit_s - time.monotonic()
            for fd, _ in self.poll.poll(max(left_s, 0) * 1000):
                self.poll.unregister(fd)
                self.take(self.waiting.pop(fd))
            if left_s <= 0:
                break
        return len(self.served) - before, time.monotonic() - begin

    def wait_rest(self, server):
        """Waits until the server serves nobody any more. Returns how many it served until then."""
        let_rest(server)
        return self.wait(len(self.waiting), QUIET)[0]

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


def spin(result, server):
    """The share of a processor that the server takes while connections wait for room.

    Of three looks the least counts: time that the machine itself lost is charged to anybody.
    """
    shares = []
    while not shares or (shares[-1] > SPIN_MAX and len(shares) < 3):
        begin, cpu_s = time.monotonic(), machine.cpu_seconds(server.process.pid)
        let_run(SPIN_LOOK_S)
        cpu_s = machine.cpu_seconds(server.process.pid) - cpu_s
        shares.append(cpu_s / (time.monotonic() - begin))
    result.need("CPU while they wait, share", min(shares), SPIN_MAX)


def connection_limit(stage):
    """Twice as many as the limit: the rest waits, and is served within a second of room."""
    count, result = stage.size.crowd, Result("twice the connection limit", stage.engine)
    server = stage.server("--max-connections", str(count))
    crowd = Crowd(stage, server.addresses[0], 2 * count)
    served, took_s = crowd.wait(count)
    result.figure("limit", count)
    result.figure("until the limit was served, s", took_s)
    spin(result, server)
    result.need_equal("served at the limit", served + crowd.wait_rest(server), count)
    crowd.leave()
    served, took_s = crowd.wait(count)
    result.need_equal("served when there was room", served, count)
    result.need("recovery, s", took_s, recovery_limit(stage))
    crowd.leave()
    alive(result, server)
    return result


def recovery_limit(stage):
    """Beside other tests a second may be the machine's."""
    return 1.0 if stage.size.strict else 10.0


def play_descriptors(stage, scene, *options):
    """Fewer descriptors than connections: those without wait, quietly."""
    count, result = stage.size.files, Result(scene, stage.engine)
    # A connection of the blocking engine takes two. One may be on its way at each end.
    least = count // (1 + stage.blocking()) - 2
    server = stage.server(*options)
    pid = server.process.pid
    most = max(map(int, os.listdir(f"/proc/{pid}/fd"))) + 1 + count
    with machine.lowered(pid, resource.RLIMIT_NOFILE, most):
        crowd = Crowd(stage, server.addresses[0], 2 * count)
        served, _ = crowd.wait(least)
        spin(result, server)
        served += crowd.wait_rest(server)
        result.figure("descriptors", most)
        result.figure("served at the limit", served)
        result.need("served at the limit", served, least, least=True)
        result.need("served at the limit, at most", served, count)
        result.need("descriptors", machine.descriptors(pid), most)
        # Left by itself: those that were served go.
        crowd.leave()
        wanted, reset = min(served, len(crowd.waiting)), crowd.reset
        first, took_s = crowd.wait(wanted)
        result.need("served after others left", first, wanted - (crowd.reset - reset), least=True)
        result.need("recovery, s", took_s, recovery_limit(stage))
    # Left because the limit was raised.
    left, reset = len(crowd.waiting), crowd.reset
    rest, took_s = crowd.wait(left)
    result.need_equal("served without the limit", rest, left - (crowd.reset - reset))
    result.need("recovery after raising it, s", took_s, recovery_limit(stage))
    result.figure("refused with a reset", crowd.reset)
    result.need_equal("refused with a reset", crowd.reset, 0)
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
        served = crowd.wait_rest(server)
        result.need_equal("served without any descriptor left", served, 2 * count)
        result.figure("descriptors", machine.descriptors(pid))
        result.need("descriptors", machine.descriptors(pid), most)
    crowd.leave()
    alive(result, server)
    return result


SCENES = (connection_limit, descriptors)
URING_SCENES = (descriptors_direct,)
