"""The order of a start (docs/security.md), as the kernel sees it: each system call that closes a
door comes after those that need it open, and before anybody could come through."""

import os
import signal
import sys

from sandbox_programs import SandboxTestCase, programs
import tracing

NO_NEW_PRIVILEGES = 0x26
RESTRICTIONS, ENABLE, BY_INDEX = 11, 12, 1 << 31
FILTER = (1, 0)

# Step by step. Threads are the main one, the first loop and its helpers.
ORDER = {
    "uring": ("main chroot", "main io_uring_setup", "main listen", "main setgroups",
              "main setresgid", "main setresuid", "main no_new_privs",
              "main landlock_restrict_self", "main memfd_create", "main clone3",
              "loop restricted", "loop enabled", "job filter", "loop filter", "main filter",
              "main listening"),
    "epoll": ("main chroot", "main listen", "main setgroups", "main setresgid", "main setresuid",
              "main no_new_privs", "main landlock_restrict_self", "main memfd_create",
              "main clone3", "job filter", "loop filter", "main filter", "main listening"),
}


def step_of(name, arguments):
    """What the call is for: its own name, or that of what it asks for; None if for nothing here."""
    if name == "prctl":
        return "no_new_privs" if arguments[0] == NO_NEW_PRIVILEGES else None
    if name == "seccomp":
        # Whether the kernel takes filters is asked without a program, or with flags.
        return "filter" if tuple(arguments[:2]) == FILTER and arguments[2] else None
    if name == "io_uring_register":
        return {RESTRICTIONS: "restricted", ENABLE: "enabled"}.get(arguments[1] & ~BY_INDEX)
    if name == "write":
        return "listening" if arguments[0] == 1 else None
    return name


class OrderTest(SandboxTestCase):
    """One start, from its first call to its orderly end."""

    def setUp(self):
        self.needs_filters()
        if os.geteuid():
            self.skipTest("needs root to give it up")
        if reason := tracing.reason_not_to():
            self.skipTest(reason)
        self.jail = self.enter_folder()
        os.mkdir(f"{self.jail}/root")
        os.chown(self.jail, 65534, 65534)

    def steps(self, engine):
        """(thread, step) in the order of the calls; the server is told to end when it serves."""
        process, output = tracing.start(
            (programs.WEIR, "http", "--engine", engine, "--listen", "127.0.0.1:0", "--root",
             "/root", "--sandbox", "strict", "--user", "nobody", "--chroot", self.jail))
        self.addCleanup(os.close, output)
        for thread, name, arguments in tracing.follow(process):
            step = step_of(name, arguments)
            if step == "listening":
                os.kill(process, signal.SIGTERM)
            if step:
                yield thread, step

    def named(self, steps):
        """The same with names of threads. The one loop is the last but main to take its filter,
        since it waits for its helpers."""
        main = steps[0][0]
        loop = [thread for thread, step in steps if step == "filter" and thread != main][-1]
        names = {main: "main", loop: "loop"}
        return [f"{names.get(thread, 'job')} {step}" for thread, step in steps]

    # Roots and sockets are made first, then privileges and files given up, in that order, before
    # there is a thread, and so are the filters (each in a memory file); rings are restricted before
    # they are enabled; a thread's filter comes before its first connection, a helper's before that,
    # and "listening" is said after all, by a thread that has its own.
    def test_doors_close_in_order(self):
        for engine, order in ORDER.items():
            with self.subTest(engine=engine):
                steps = self.named(list(self.steps(engine)))
                # Probes of the kernel's features make rings before the server's own.
                places = [len(steps) - 1 - steps[::-1].index(step)
                          if step.endswith(("setup", "listen")) else steps.index(step)
                          for step in order]
                self.assertEqual(places, sorted(places), steps)
                self.assertEqual(steps.count("job filter"), 3, steps)
                self.assertEqual(sum(step.endswith("memfd_create") for step in steps), 3, steps)
                before = steps[:steps.index("main clone3")]
                self.assertEqual(before.count("main memfd_create"), 3, steps)
                self.assertFalse([step for step in before if not step.startswith("main")], steps)
                self.assertFalse([step for step in steps[steps.index("main listening"):]
                                  if step.startswith(("loop", "job")) and "filter" in step], steps)


if __name__ == "__main__":
    sys.exit(programs.main())
