"""Where the run is, on standard error: one living line on a terminal, plain lines elsewhere."""

import os
import shutil
import sys
import time

BAR_WIDTH = 24


def clock(seconds):
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Progress:
    def __init__(self, total, quiet=False, file=None):
        self.file = file or sys.stderr
        self.total = total
        self.quiet = quiet
        self.done = 0
        self.earlier = 0
        self.start = time.monotonic()
        self.expected = 0  # seconds for one trial, as planned
        self.living = self.file.isatty()

    def seconds_left(self):
        """From the pace so far; before there is one, from the plan."""
        each = self.expected
        if self.done - self.earlier >= 3:
            each = (time.monotonic() - self.start) / (self.done - self.earlier)
        return each * (self.total - self.done)

    def begin(self, what):
        if self.living and not self.quiet:
            self.draw(what)

    def end(self, what, outcome):
        self.done += 1
        if self.quiet:
            return
        if self.living:
            self.draw(f"{what}: {outcome}")
        else:
            self.line(f"{self.done}/{self.total} {what}: {outcome}, "
                      f"{clock(self.seconds_left())} left")

    def skip(self, count):
        """That many trials took place in an earlier run."""
        self.done = self.earlier = count

    def drop(self, count):
        """That many trials will not take place."""
        self.total -= count

    def draw(self, what):
        full = BAR_WIDTH * self.done // max(self.total, 1)
        text = (f"[{'#' * full}{'.' * (BAR_WIDTH - full)}] {self.done}/{self.total} "
                f"{clock(self.seconds_left())} left  {what}")
        columns = shutil.get_terminal_size().columns
        self.write("\r\033[K" + text[:columns - 1])

    def write(self, text):
        """A terminal that was closed, or a full disk behind it, does not end the run."""
        try:
            self.file.write(text)
            self.file.flush()
        except OSError:
            self.file = open(os.devnull, "w", encoding="ascii", errors="replace")

    def say(self, text):
        """A message that stays."""
        if self.living and not self.quiet:
            self.write("\r\033[K")
        self.line(text)

    def line(self, text):
        self.write(text + "\n")

    def close(self):
        if self.living and not self.quiet:
            self.write("\r\033[K")
