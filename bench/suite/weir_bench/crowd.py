"""What disturbs a server beside the load that is measured: `crowd.py KIND COUNT ADDRESS`.

slow   COUNT connections that ask for much and read a little now and then
flood  COUNT connections that send as fast as they can and read all that comes back
evict  ADDRESS is a file, which is dropped from the page cache again and again

It prints `ready` when all of it has begun, and works until SIGTERM. The
connections give way to the measured load (nice), because both run on the client's CPUs.
"""

import argparse
import os
import selectors
import signal
import socket
import sys

NICE = 19
BLOCK = 1 << 18
SIP = 1024            # bytes that a slow reader takes
SIP_SECONDS = 0.05    # and how often
EVICT_SECONDS = 0.002
CONNECT_SECONDS = 30
FATAL = (ConnectionError, TimeoutError)


def connect(address):
    if address.startswith("unix:"):
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(CONNECT_SECONDS)
        peer.connect(address.removeprefix("unix:"))
    else:
        host, port = address.rsplit(":", 1)
        peer = socket.create_connection((host, int(port)), CONNECT_SECONDS)
    peer.setblocking(False)
    return peer


def asked(options):
    """What is sent over and over: requests for a file, or a block to be echoed."""
    if options.path:
        return f"GET {options.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 16
    return bytes(BLOCK)


class Talker:
    """One connection; what it has to send never ends."""

    def __init__(self, peer, text):
        self.peer, self.text, self.at = peer, text, 0

    def send(self):
        try:
            self.at += self.peer.send(memoryview(self.text)[self.at:])
            self.at %= len(self.text)
        except BlockingIOError:
            pass


def slow(options):
    """Sends until nothing more is taken; after that a sip frees room for a little more."""
    talkers = [Talker(connect(options.address), asked(options)) for _ in range(options.count)]
    print("ready", flush=True)
    while True:
        for talker in talkers:
            talker.send()
            try:
                talker.peer.recv(SIP)
            except BlockingIOError:
                pass
        signal.sigtimedwait([], SIP_SECONDS)


def flood(options):
    room = bytearray(BLOCK)
    with selectors.DefaultSelector() as poll:
        for _ in range(options.count):
            talker = Talker(connect(options.address), asked(options))
            poll.register(talker.peer, selectors.EVENT_READ | selectors.EVENT_WRITE, talker)
        print("ready", flush=True)
        while True:
            for key, events in poll.select():
                if events & selectors.EVENT_WRITE:
                    key.data.send()
                if events & selectors.EVENT_READ and not key.fileobj.recv_into(room):
                    raise ConnectionError("the server closed a connection")


def evict(options):
    file = os.open(options.address, os.O_RDONLY)
    print("ready", flush=True)
    while True:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        signal.sigtimedwait([], EVICT_SECONDS)


KINDS = {"slow": slow, "flood": flood, "evict": evict}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("count", type=int)
    parser.add_argument("address")
    parser.add_argument("--path", default="")
    options = parser.parse_args()
    if options.kind != "evict":  # which must not come late
        os.nice(NICE)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    try:
        KINDS[options.kind](options)
    except (OSError, *FATAL) as error:
        sys.exit(f"{options.kind}: {error}")


if __name__ == "__main__":
    main()
