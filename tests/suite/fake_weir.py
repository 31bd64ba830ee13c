#!/usr/bin/python3
"""Stands in for `weir` in the suite's tests: an echo server whose faults are ordered by --fault."""

import argparse
import json
import os
import selectors
import signal
import socket
import sys
import threading
import time


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("command")
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--uring")
    parser.add_argument("--engine", default="epoll")
    parser.add_argument("--threads")
    parser.add_argument("--stats-json")
    parser.add_argument("--counter", action="append", default=[], metavar="NAME=N")
    parser.add_argument("--slow-us", type=float, default=0)
    parser.add_argument("--fault", default="")
    return parser.parse_args()


class Server:
    def __init__(self, options):
        self.options = options
        self.stats = {"enters": 0, "sent_bytes": 0, "accepts": 0}
        self.stats.update((name, int(n)) for name, n in
                          (text.split("=") for text in options.counter))
        host, port = options.listen.rsplit(":", 1)
        self.listener = socket.create_server((host, int(port)), backlog=1000)
        self.poll = selectors.DefaultSelector()
        self.poll.register(self.listener, selectors.EVENT_READ)
        signal.signal(signal.SIGTERM, self.on_term)
        self.cpus = sorted(os.sched_getaffinity(os.getppid()))
        if self.options.fault == "idle-thread":
            self.stats["threads"] = 2
            threading.Thread(target=threading.Event().wait, daemon=True).start()

    def on_term(self, *_):
        if self.options.fault == "no-drain":
            return
        if self.options.stats_json:
            with open(self.options.stats_json, "w", encoding="ascii") as file:
                file.write("{" if self.options.fault == "bad-stats" else json.dumps(self.stats))
        os._exit(3 if self.options.fault == "bad-exit" else 0)

    def announce(self):
        engine = "epoll" if self.options.fault == "other-engine" else self.options.engine
        host, port = self.listener.getsockname()
        print(f"listening echo {host}:{port} engine={engine} threads=1", flush=True)

    def give_to_child(self, peer):
        """Whether this is the parent, which knows nothing more of the connection."""
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        if os.fork():
            peer.close()
            return True
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self.poll = selectors.DefaultSelector()
        return False

    def turn(self):
        for key, _ in self.poll.select(0 if self.options.fault == "polls" else None):
            self.stats["enters"] += 1
            if key.fileobj is self.listener:
                peer = self.listener.accept()[0]
                self.stats["accepts"] += 1
                if self.options.fault == "forks" and self.give_to_child(peer):
                    continue
                self.poll.register(peer, selectors.EVENT_READ)
                continue
            data = key.fileobj.recv(65536)
            if not data:
                self.poll.unregister(key.fileobj)
                key.fileobj.close()
                if self.options.fault == "forks":
                    os._exit(0)
                continue
            if self.options.fault == "die":
                print("the fake server had enough", file=sys.stderr, flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            if self.options.fault == "wanders":
                self.cpus.append(self.cpus.pop(0))
                os.sched_setaffinity(0, self.cpus[:1])
            end = time.thread_time() + self.options.slow_us / 1e6
            while time.thread_time() < end:
                pass
            # Before, as SIGTERM may come as soon as the load has it.
            self.stats["sent_bytes"] += len(data)
            key.fileobj.sendall(data)


def main():
    options = parse()
    if options.command == "doctor":
        print("  ok   first    * 6.1  one\n  ok   second   * 6.2  two\n  ok   third      6.3  no")
        return 0
    if options.fault == "usage":
        print("weir: no io_uring here", file=sys.stderr)
        return 1
    if options.fault == "silent":
        time.sleep(60)
    if sys.argv[0].endswith("weir-rungs"):
        options.engine = f"epoll-{options.command}"
    server = Server(options)
    server.announce()
    while True:
        server.turn()


if __name__ == "__main__":
    sys.exit(main())
