"""Follows a program and all of its threads from its first system call on, by ptrace(2)."""

import ctypes
import os
import platform
import signal
import struct

from programs import LIMIT

# Of x86-64; where the numbers are others, nothing is traced.
NAMES = {
    1: "write", 49: "bind", 50: "listen", 116: "setgroups", 117: "setresuid", 119: "setresgid",
    157: "prctl", 161: "chroot", 317: "seccomp", 319: "memfd_create", 425: "io_uring_setup",
    426: "io_uring_enter", 427: "io_uring_register", 435: "clone3", 446: "landlock_restrict_self",
}
TRACEME, SYSCALL, SETOPTIONS, GET_SYSCALL_INFO = 0, 24, 0x4200, 0x420e
# TRACESYSGOOD, TRACEFORK, TRACEVFORK, TRACECLONE, EXITKILL
OPTIONS = 1 | 2 | 4 | 8 | 1 << 20
WALL = 0x40000000
ENTRY, SYSCALL_STOP = 1, signal.SIGTRAP | 0x80

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
libc.ptrace.restype = ctypes.c_long


def reason_not_to():
    """Why nothing can be traced here, or None."""
    return None if platform.machine() == "x86_64" else f"knows no numbers of {platform.machine()}"


def ptrace(request, process, address=0, data=0):
    if libc.ptrace(request, process, address, data) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def start(command):
    """The process of the command, stopped before its first instruction, and its output."""
    read, write = os.pipe()
    process = os.fork()
    if process == 0:
        os.dup2(write, 1)
        os.dup2(write, 2)
        libc.ptrace(TRACEME, 0, 0, 0)
        os.execv(command[0], command)
    os.close(write)
    os.waitpid(process, 0)
    ptrace(SETOPTIONS, process, 0, OPTIONS)
    return process, read


def call_of(thread):
    """The thread's system call that begins: its name and arguments. None for any other."""
    told = ctypes.create_string_buffer(88)
    if libc.ptrace(GET_SYSCALL_INFO, thread, len(told), ctypes.addressof(told)) < 0:
        return None  # killed meanwhile
    operation, _, _, _, number, *arguments = struct.unpack_from("<BxxxIQQQ6Q", told.raw)
    return (NAMES[number], arguments) if operation == ENTRY and number in NAMES else None


def too_long(_number, _frame):
    raise AssertionError("the traced program took too long")


def follow(process):
    """Yields (thread, name, arguments) of each call that NAMES knows, until the process is gone."""
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(LIMIT)
    resume = [(process, 0)]
    while True:
        for thread, number in resume:
            libc.ptrace(SYSCALL, thread, 0, number)
        thread, status = os.waitpid(-1, WALL)
        resume = []
        if not os.WIFSTOPPED(status):
            if thread == process:
                signal.alarm(0)
                return
            continue
        stop = os.WSTOPSIG(status)
        if stop == SYSCALL_STOP and (call := call_of(thread)):
            yield thread, *call
        # A new thread begins with a stop; events have the signal of a trap.
        kept = 0 if stop in (SYSCALL_STOP, signal.SIGTRAP, signal.SIGSTOP) else stop
        resume = [(thread, kept)]
