"""The rows of an import between reading and writing, on disk: memory depends on neither file nor catalogue."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from semacdr.profiling.engines.base import Answer
from semacdr.profiling.validate import VALID, Parse

_LOOKUP = 500  # keys per query, below SQLite's limit on parameters
_BATCH = 4096
_COLUMNS = "item_id, line, text, finish, kind, parse"
_TABLE = """
CREATE TABLE rows (
    item_id TEXT PRIMARY KEY, line INTEGER NOT NULL, text TEXT NOT NULL, finish TEXT NOT NULL, kind TEXT, parse TEXT
)
"""


@dataclass(frozen=True)
class StagedRow:
    """One row of the file: whose answer, on which line, and once it is judged what it came to."""

    item_id: str
    line: int
    answer: Answer
    parse: Parse | None = None


class StagedRows:
    """A scratch table without a name: it vanishes with the process, however that ends."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("PRAGMA journal_mode=OFF")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute(_TABLE)

    def close(self) -> None:
        """Drops everything."""
        self._db.close()

    def add(self, row: StagedRow) -> bool:
        """Takes a row; False where its item has one already."""
        values = (row.item_id, row.line, row.answer.text, row.answer.finish)
        sql = "INSERT INTO rows (item_id, line, text, finish) VALUES (?,?,?,?) ON CONFLICT DO NOTHING"
        return self._db.execute(sql, values).rowcount == 1

    def of_items(self, item_ids: Sequence[str]) -> dict[str, StagedRow]:
        """The rows of the given items."""
        found: dict[str, StagedRow] = {}
        for start in range(0, len(item_ids), _LOOKUP):
            some = item_ids[start : start + _LOOKUP]
            sql = f"SELECT {_COLUMNS} FROM rows WHERE item_id IN ({','.join('?' * len(some))})"
            found |= {row.item_id: row for row in map(_row, self._db.execute(sql, some))}
        return found

    def judge(self, rows: Iterable[tuple[str, Parse]]) -> None:
        """Keeps what answers came to."""
        values = [(parse.kind, parse.text, item_id) for item_id, parse in rows]
        self._db.executemany("UPDATE rows SET kind = ?, parse = ? WHERE item_id = ?", values)

    def counts(self) -> dict[str | None, int]:
        """Rows by kind; None for those that no item of the catalogue asked for."""
        return dict(self._db.execute("SELECT kind, count(*) FROM rows GROUP BY kind"))

    def without_text(self) -> int:
        """Valid rows that say nothing."""
        return int(self._db.execute("SELECT count(*) FROM rows WHERE kind = ? AND parse = ''", (VALID,)).fetchone()[0])

    def not_valid(self) -> Iterator[StagedRow]:
        """The rows that are not judged, or not valid, in the order of the file."""
        sql = f"SELECT {_COLUMNS} FROM rows WHERE kind IS NOT ? ORDER BY line"
        yield from map(_row, self._db.execute(sql, (VALID,)))

    def judged(self) -> Iterator[list[StagedRow]]:
        """The judged rows in batches, in the order of the file."""
        cursor = self._db.execute(f"SELECT {_COLUMNS} FROM rows WHERE kind IS NOT NULL ORDER BY line")
        while found := cursor.fetchmany(_BATCH):
            yield [_row(values) for values in found]


def _row(values: tuple[Any, ...]) -> StagedRow:
    item_id, line, text, finish, kind, parse = values
    return StagedRow(item_id, line, Answer(text, finish), None if kind is None else Parse(kind, parse))
