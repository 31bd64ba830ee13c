"""An FTP client that downloads one file over and over, and tells of it in weir-load's schema.

usage: ftp_load.py HOST:PORT PATH CONNECTIONS WARMUP DURATION REFERENCE

Each session logs in as anonymous and then repeats EPSV and RETR. An operation is one file, from
sending EPSV to the 226 that follows the last byte; its size is always checked. The first file of
each session is compared byte by byte with REFERENCE, before anything is timed. Later bytes are
dropped within the kernel (MSG_TRUNC), because this client is slower than what it measures.
"""

import json
import re
import selectors
import socket
import sys
import time

LIMIT = 10
BLOCK = 1 << 20
NS = 10 ** 9
DIGITS = 8            # bits of a latency that are kept


class Failed(Exception):
    """The server answered wrongly; the text says how."""


class Session:
    """One control connection, and the data connection of the file that is coming."""

    def __init__(self, address, path):
        self.address, self.path = address, path
        self.control = socket.create_connection(address, LIMIT)
        self.control.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.said, self.data, self.size, self.began = b"", None, 0, 0
        self.expect("220")
        self.ask("USER anonymous", "331")
        self.ask("PASS load@", "230")
        self.ask("TYPE I", "200")

    def expect(self, code):
        """One whole reply; bytes after it stay for the next."""
        while not (found := re.search(rb"^\d{3} .*\r\n", self.said, re.M)):
            more = self.control.recv(4096)
            if not more:
                raise Failed("the server closed a control connection")
            self.said += more
        reply, self.said = found[0].decode(errors="replace").strip(), self.said[found.end():]
        if not reply.startswith(code):
            raise Failed(f"{code} was expected: {reply}")
        return reply

    def ask(self, command, code):
        self.control.sendall(command.encode() + b"\r\n")
        return self.expect(code)

    def begin(self):
        """Asks for the file and opens the connection on which it comes."""
        self.began, self.size = time.monotonic_ns(), 0
        port = re.search(r"\|(\d+)\|\)", self.ask("EPSV", "229"))
        self.data = socket.create_connection((self.address[0], int(port[1])), LIMIT)
        self.ask(f"RETR {self.path}", "1")

    def first(self):
        """The whole file, for the comparison."""
        self.begin()
        pieces = []
        while piece := self.data.recv(BLOCK):
            pieces.append(piece)
        self.end()
        return b"".join(pieces)

    def take(self, room):
        """Drops what has come. Whether it was the end."""
        got = self.data.recv_into(room, BLOCK, socket.MSG_TRUNC)
        self.size += got
        return got == 0

    def end(self):
        """Reads the last reply; returns how long the file took."""
        self.data.close()
        self.expect("226")
        return time.monotonic_ns() - self.began


def serve(sessions, size, warmup, duration):
    """Returns the latencies of the files that ended within the window, and its length."""
    room, latencies = bytearray(BLOCK), []
    start = time.monotonic_ns() + round(warmup * NS)
    end = start + round(duration * NS)
    with selectors.DefaultSelector() as poll:
        for session in sessions:
            session.begin()
            poll.register(session.data, selectors.EVENT_READ, session)
        while (now := time.monotonic_ns()) < end:
            for key, _ in poll.select(max((end - now) / NS, 0)):
                session = key.data
                if not session.take(room):
                    continue
                poll.unregister(session.data)
                if session.size != size:
                    raise Failed(f"a file came with {session.size} bytes instead of {size}")
                took = session.end()
                if start <= time.monotonic_ns() < end:
                    latencies.append(took)
                session.begin()
                poll.register(session.data, selectors.EVENT_READ, session)
    return latencies


def buckets_of(latencies):
    """[[smallest value, count]], values to DIGITS bits as weir-load's histograms have them."""
    found = {}
    for value in latencies:
        shift = max(value.bit_length() - DIGITS, 0)
        low = value >> shift << shift
        found[low] = found.get(low, 0) + 1
    return sorted(map(list, found.items()))


def percentile(latencies, share):
    return sorted(latencies)[int(share * len(latencies))] if latencies else None


def result_of(latencies, began, warmup, duration, corrupt):
    mean = sum(latencies) / len(latencies) if latencies else 0
    return {
        "schema": "weir-load/1", "protocol": "ftp", "mode": "closed",
        "parameters": {"warmup_s": warmup},
        "times": {"started_unix_s": began, "measured_s": duration, "interrupted": False},
        "ops": len(latencies), "ops_per_s": len(latencies) / duration, "offered_per_s": None,
        "latency_ns": {"response": None, "lag": None, "service": {
            "count": len(latencies), "mean": mean, "p50": percentile(latencies, 0.5),
            "p99": percentile(latencies, 0.99)}},
        "histograms": {"response": None, "lag": None,
                       "service": {"buckets": buckets_of(latencies)}},
        "errors": {"corrupt": corrupt, "total": corrupt}}


def main(arguments):
    address, path, connections, warmup, duration, reference = arguments
    host, port = address.rsplit(":", 1)
    with open(reference, "rb") as file:
        expected = file.read()
    try:
        sessions = [Session((host, int(port)), path) for _ in range(int(connections))]
        corrupt = sum(session.first() != expected for session in sessions)
        began = time.time()
        latencies = serve(sessions, len(expected), float(warmup), float(duration))
    except (OSError, Failed) as error:
        sys.exit(f"ftp: {error}")
    print(json.dumps(result_of(latencies, began, float(warmup), float(duration), corrupt)))


if __name__ == "__main__":
    main(sys.argv[1:])
