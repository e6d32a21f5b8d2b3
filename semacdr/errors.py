"""The errors that a user meets, each with what is wrong, where, and how to fix it.

Every error class carries the exit code of the command: 2 for wrong use or bad input, 1 for anything else.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SemacdrError(Exception):
    """Base of all errors that the command prints as one message, without a traceback."""

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(what)

    def __str__(self) -> str:
        lines = [self.what if self.where is None else f"{self.where}: {self.what}"]
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(lines)


class InputError(SemacdrError):
    """Wrong use or bad input: exit code 2, nothing written."""

    exit_code = 2


class MissingExtraError(SemacdrError):
    """A part of the package needs an extra that is not installed."""

    exit_code = 2

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed", fix=f"pip install 'semacdr[{extra}]'")


def nearest(name: str, valid: Iterable[str]) -> str:
    """A hint for a mistyped name: the nearest valid one if there is any, then the whole list."""
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}valid: {', '.join(names)}"
