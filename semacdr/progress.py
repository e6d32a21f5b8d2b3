"""Progress of long work on stderr: count, rate and time left; silent on request, one line at a time in a log."""

from __future__ import annotations

import sys
import time

_quiet = False


def set_quiet(quiet: bool) -> None:
    """Turns all progress output off (``--quiet``) or on."""
    global _quiet
    _quiet = quiet


def say(message: str) -> None:
    """One line on stderr, unless quiet."""
    if not _quiet:
        print(message, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Seconds as ``42s``, ``3m05s`` or ``2h07m``."""
    whole = int(seconds + 0.5)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


class Progress:
    """Counts units of work done and prints rate and time left at most every ``every_s`` seconds.

    ``done`` units that an earlier, interrupted run finished count for the total but not for the rate.
    """

    def __init__(
        self, total: int, label: str, unit: str = "items", done: int = 0, every_s: float | None = None
    ) -> None:
        self.total, self.label, self.unit = total, label, unit
        self.start_done = self.done = done
        self.started = self.last = time.monotonic()
        self.terminal = sys.stderr.isatty()
        self.every_s = every_s if every_s is not None else (0.2 if self.terminal else 10.0)

    def skip(self, count: int) -> None:
        """Adds units that needed no work: they count for the total but not for the rate."""
        self.done += count
        self.start_done += count

    def update(self, count: int = 1, note: str = "") -> None:
        """Adds ``count`` finished units; ``note`` is shown at the end of the line."""
        self.done += count
        now = time.monotonic()
        if now - self.last >= self.every_s and self.done < self.total:
            self.last = now
            self._print(now, note, end="\r" if self.terminal else "\n")

    def close(self, note: str = "") -> None:
        """Prints the closing line."""
        self._print(time.monotonic(), note, end="\n")

    def _print(self, now: float, note: str, end: str) -> None:
        if _quiet:
            return
        elapsed = now - self.started
        rate = (self.done - self.start_done) / elapsed if elapsed > 0 else 0.0
        left = f", {duration((self.total - self.done) / rate)} left" if rate > 0 and self.done < self.total else ""
        tail = f"  {note}" if note else ""
        text = f"{self.label}: {self.done}/{self.total} {self.unit}, {rate:.3g}/s{left}, {duration(elapsed)} gone{tail}"
        print(f"{text:<100}" if self.terminal else text, end=end, file=sys.stderr, flush=True)
