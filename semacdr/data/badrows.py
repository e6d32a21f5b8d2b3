"""Faults in raw data: counted by kind, the first few kept with file and line, refused or skipped as a whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from semacdr.data import schema
from semacdr.errors import InputError

FILE = "file"  # columns that say where a row of a raw frame came from; the writer drops them
LINE = "line"
CUT = "cut"  # optional: the row stands in a last line without a line end, where a file may have broken off
ORIGIN = (FILE, LINE, CUT)

# The kinds, one spelling each.
CUT_OFF = "half a file"
WRONG_ENCODING = "wrong encoding"
NOT_PARSED = "not parsed"
MISSING_FIELD = "missing field"
UNKNOWN_ID = "id unknown"
NOT_A_NUMBER = "time not a number"
NOT_A_DATE = "time not a number and no ISO date (2023-01-05, 2023-01-05T02:46)"
NOT_A_RATING = "rating not a number"
DUPLICATE = "duplicate"


class BadRows:
    """Collects the faulty rows of one conversion; a reader drops each row that it reports."""

    def __init__(self, shown: int = 3) -> None:
        self.shown = shown
        self.counts: dict[str, int] = {}
        self._looked_at: dict[str, tuple[int, int]] = {}  # of each kind: rows, and faults among them
        self.examples: dict[str, list[str]] = {}

    @property
    def total(self) -> int:
        """Bad rows of all kinds."""
        return sum(self.counts.values())

    def add(self, kind: str, path: Path | str, line: int | None, detail: str) -> None:
        """Counts one fault; ``line`` counts from 1, None stands for the file as a whole."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        kept = self.examples.setdefault(kind, [])
        if len(kept) < self.shown:
            at = Path(path).name if line is None else f"{Path(path).name} line {line}"
            kept.append(f"{at}: {detail[:120]}")

    def drop(self, frame: pd.DataFrame, bad: npt.ArrayLike, kind: str, column: str | None = None) -> pd.DataFrame:
        """Counts the rows of ``frame`` where ``bad`` holds and returns the others.

        Args:
            frame: rows with the columns ``file`` and ``line``.
            bad: one boolean a row.
            kind: the fault.
            column: whose value is shown in the message.
        """
        mask = np.asarray(bad, dtype=bool)
        rows, faults = self._looked_at.get(kind, (0, 0))
        self._looked_at[kind] = rows + len(frame), faults + int(mask.sum())
        return self._drop(frame, mask, kind, column)

    def _drop(self, frame: pd.DataFrame, mask: schema.BoolArray, kind: str, column: str | None) -> pd.DataFrame:
        if CUT in frame and kind != CUT_OFF and (mask & frame[CUT].to_numpy()).any():
            self._drop(frame, mask & frame[CUT].to_numpy(), CUT_OFF, column)
            self._drop(frame, mask & ~frame[CUT].to_numpy(), kind, column)
            return frame[~mask]
        count = int(mask.sum())
        if not count:
            return frame
        first = frame[mask].head(self.shown)
        values = [""] * len(first) if column is None else [f"{column} = {value!r}" for value in first[column]]
        for path, line, value in zip(first[FILE], first[LINE], values):
            self.add(kind, str(path), int(line), value or kind)
        self.counts[kind] += count - len(first)
        return frame[~mask]

    def __str__(self) -> str:
        lines = []
        for kind, count in self.counts.items():
            lines.append(f"{kind}: {count}")
            lines += [f"    {example}" for example in self.examples[kind]]
        return "\n  ".join(lines)

    def refuse(self, where: Path | str) -> None:
        """Ends the conversion if there was any fault.

        Raises:
            InputError: with the counts and the first few rows of each kind.
        """
        if self.total:
            fix = "repair the rows, or leave them out with --skip-bad"
            if DUPLICATE in self.counts:
                fix += " (repeats alone: --dedup rows)"
            most = max((rows for rows, _ in self._looked_at.values()), default=0)
            for kind in (NOT_A_DATE, NOT_A_RATING):
                if most > 1 and self._looked_at.get(kind) == (most, most):
                    fix = f"every row has this fault: {kind}; write the column in that form, or name another one"
            raise InputError(f"{self.total} bad row(s), nothing written\n  {self}", where=str(where), fix=fix)
