#!/usr/bin/python3
"""Stands in for a load of others, which knows no turns: it echoes until SIGINT, and counts."""

import os
import signal
import socket
import sys
import time


def echo(peers, size, fault):
    """One operation of each connection."""
    data = bytes(size)
    for peer in peers:
        if fault == "sends":
            peer.send(data)
        else:
            os.write(peer.fileno(), data)
    for peer in peers:
        left = size
        while left:
            left -= len(os.read(peer.fileno(), left))


def main():
    host, port = sys.argv[1].rsplit(":", 1)
    connections, size, duration = map(int, sys.argv[2:5])
    fault = "".join(sys.argv[5:])
    signals = []
    signal.signal(signal.SIGINT, lambda number, _: signals.append(number))
    peers = [socket.create_connection((host, int(port))) for _ in range(connections)]
    end = time.monotonic() + (0.02 if fault == "ends" else duration)
    done = 0
    while time.monotonic() < end and not signals:
        echo(peers, size, fault)
        if fault == "sends" and not done:
            print("it works", flush=True)
        done += connections
    print(f"{done} operations, p99 17 us")
    return 0


if __name__ == "__main__":
    sys.exit(main())
