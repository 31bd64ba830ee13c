"""A network namespace of a trial's own, with loopback up.

It has no name and no mount: two open files hold it, and whatever ends this process ends it too. So
nothing can be left behind, not even by SIGKILL.
"""

import ctypes
import fcntl
import os
import socket
import struct

from . import Problem

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1

LIBC = ctypes.CDLL(None, use_errno=True)

# Churn leaves a connection in TIME_WAIT per operation: all ports, and again after a second.
SETTINGS = {
    "net/ipv4/ip_local_port_range": "1024 65535",
    "net/ipv4/tcp_tw_reuse": "1",
}


def checked(name, *arguments):
    if getattr(LIBC, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def raise_loopback():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh22x", b"lo", 0)
        flags = struct.unpack("16sh22x", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | IFF_UP))


def write_file(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def populate(with_user):
    """In the process that makes the namespace: enters a new one and sets it up."""
    user, group = os.geteuid(), os.getegid()
    checked("unshare", CLONE_NEWNET | (CLONE_NEWUSER if with_user else 0))
    if with_user:
        write_file("/proc/self/setgroups", "deny")
        write_file("/proc/self/uid_map", f"{user} {user} 1")
        write_file("/proc/self/gid_map", f"{group} {group} 1")
    raise_loopback()
    for name, value in SETTINGS.items():
        write_file("/proc/sys/" + name, value)


class Namespace:
    """Use in a `with`; enter() is called in a child between fork and exec."""

    def __init__(self):
        self.with_user = os.geteuid() != 0
        self.files = []
        self.create()

    def create(self):
        said, tell = os.pipe()
        wait, release = os.pipe()
        pid = os.fork()
        if pid == 0:
            self.run_creator(tell, wait, [said, release])
        os.close(tell)
        os.close(wait)
        try:
            answer = os.read(said, 1000).decode() or "its process died"
            if answer == "ok":
                for kind in ("user", "net") if self.with_user else ("net",):
                    path = f"/proc/{pid}/ns/{kind}"
                    self.files.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        finally:
            os.close(said)
            os.close(release)
            os.waitpid(pid, 0)
        if answer != "ok":
            raise Problem(f"no network namespace: {answer}; {self.advice()}")

    def run_creator(self, tell, wait, others):
        for file in others:
            os.close(file)
        try:
            populate(self.with_user)
            os.write(tell, b"ok")
            os.read(wait, 1)
        except OSError as error:
            os.write(tell, str(error).encode())
        finally:
            os._exit(0)

    def advice(self):
        if self.with_user:
            return ("run as root, or allow user namespaces (sysctl user.max_user_namespaces, "
                    "kernel.apparmor_restrict_unprivileged_userns)")
        return "this needs CAP_SYS_ADMIN: containers often lack it"

    def enter(self):
        for file in self.files:
            checked("setns", file, 0)

    def close(self):
        while self.files:
            os.close(self.files.pop())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
