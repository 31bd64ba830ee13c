"""An echo server inside the kernel: `reflector.py ADDRESS:PORT`.

A BPF program at each connection sends what arrives back out of the same socket (SOCKHASH with a
stream verdict, Linux 5.10; needs CAP_BPF and CAP_NET_ADMIN). This process only accepts. So a load
that is measured against it pays for no server's wake-ups and system calls: what it reaches, per CPU
time of its own, is the load's ceiling.
"""

import ctypes
import os
import select
import signal
import socket
import struct
import sys

SYS_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280}.get(os.uname().machine)
MAP_CREATE, MAP_UPDATE_ELEM, PROG_LOAD, PROG_ATTACH = 0, 2, 5, 8
SOCKHASH, SK_SKB, STREAM_VERDICT = 18, 14, 5
KEY_SIZE, CONNECTIONS_MAX = 8, 65536
ATTRIBUTES = 128      # bytes of union bpf_attr that are handed over
LOG_SIZE = 4096

# Offsets in struct __sk_buff.
LOCAL_IP4, REMOTE_PORT = 96, 132
SK_REDIRECT_HASH = 72

LIBC = ctypes.CDLL(None, use_errno=True)


def bpf(command, attributes):
    buffer = ctypes.create_string_buffer(attributes, ATTRIBUTES)
    result = LIBC.syscall(SYS_BPF, command, buffer, ATTRIBUTES)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def instruction(code, target=0, source=0, offset=0, value=0):
    return struct.pack("=BBhi", code, source << 4 | target, offset, value)


def program(map_fd):
    """return bpf_sk_redirect_hash(skb, map, &(port, address), 0): out of the same socket."""
    load_word, store_word, move, add, move_value = 0x61, 0x63, 0xbf, 0x07, 0xb7
    return b"".join((
        instruction(load_word, 2, 1, REMOTE_PORT),
        instruction(store_word, 10, 2, -8),
        instruction(load_word, 2, 1, LOCAL_IP4),
        instruction(store_word, 10, 2, -4),
        # The map's descriptor, as a load of 64 bits (BPF_PSEUDO_MAP_FD).
        instruction(0x18, 2, 1, 0, map_fd), instruction(0),
        instruction(move, 3, 10),
        instruction(add, 3, value=-8),
        instruction(move_value, 4, value=0),
        instruction(0x85, value=SK_REDIRECT_HASH),
        instruction(0x95),
    ))


def load():
    """Returns the map's descriptor, with the program attached to it."""
    if SYS_BPF is None:
        raise OSError(0, f"bpf(2) has no known number on {os.uname().machine}")
    map_fd = bpf(MAP_CREATE, struct.pack("=IIIII", SOCKHASH, KEY_SIZE, 4, CONNECTIONS_MAX, 0))
    code, licence = program(map_fd), ctypes.create_string_buffer(b"GPL")
    text, log = ctypes.create_string_buffer(code), ctypes.create_string_buffer(LOG_SIZE)
    try:
        prog_fd = bpf(PROG_LOAD, struct.pack("=IIQQIIQ", SK_SKB, len(code) // 8,
                                             ctypes.addressof(text), ctypes.addressof(licence), 1,
                                             LOG_SIZE, ctypes.addressof(log)))
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}: {log.value.decode()[-200:]}") from None
    bpf(PROG_ATTACH, struct.pack("=IIII", map_fd, prog_fd, STREAM_VERDICT, 0))
    return map_fd


def key_of(peer):
    """As the program builds it: the peer's port in the upper half of a word, our address."""
    host, _ = peer.getsockname()
    _, port = peer.getpeername()
    return struct.pack(">HH", 0, port) + socket.inet_aton(host)


def give_to_kernel(map_fd, peer):
    key = ctypes.create_string_buffer(key_of(peer), KEY_SIZE)
    value = ctypes.create_string_buffer(struct.pack("=I", peer.fileno()), 4)
    bpf(MAP_UPDATE_ELEM, struct.pack("=IIQQQ", map_fd, 0, ctypes.addressof(key),
                                     ctypes.addressof(value), 0))
    # What came before is waiting, and the program runs when something comes. This makes the kernel
    # look again (tcp_set_rcvlowat), in order: reading here and sending would race with later bytes.
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)


def serve(listener, map_fd):
    peers = {}
    with select.epoll() as poll:
        poll.register(listener, select.EPOLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd != listener.fileno():
                    peers.pop(fd).close()
                    continue
                peer = listener.accept()[0]
                try:
                    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    give_to_kernel(map_fd, peer)
                except OSError:
                    # It went before it was accepted; a load that still waits for it will say so.
                    peer.close()
                    continue
                peers[peer.fileno()] = peer
                # Only its end: the kernel would tell of the bytes that it sends back, too.
                poll.register(peer, select.EPOLLRDHUP)


def works():
    """Why it cannot run here, or None."""
    try:
        os.close(load())
    except OSError as error:
        return error.strerror
    return None


def main():
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    host, port = sys.argv[1].rsplit(":", 1)
    try:
        map_fd = load()
        listener = socket.create_server((host, int(port)), backlog=4096)
    except OSError as error:
        sys.exit(f"reflector: {error.strerror}")
    host, port = listener.getsockname()
    print(f"listening echo {host}:{port} engine=kernel", flush=True)
    serve(listener, map_fd)


if __name__ == "__main__":
    main()
