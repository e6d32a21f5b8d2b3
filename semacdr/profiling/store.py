"""The answer store: one SQLite file in which no answer is ever overwritten.

``answers`` are keyed by what was asked (rendered prompt, model and revision, sampling, attempt), ``parses`` by the
answer and the parser's version. ``profiles`` says which parse each item of a data set has now; it is the only table
whose rows change. Every batch is one transaction, so that a kill leaves whole batches.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any

from semacdr.errors import InputError, SemacdrError
from semacdr.files import check_writable, fingerprint
from semacdr.profiling.engines.base import Answer
from semacdr.profiling.tables import APPLICATION_ID, SCHEMA_VERSION, upgrade
from semacdr.profiling.validate import Parse

_CHECKED_BYTES = 256 * 2**20  # a larger store is not read through at every start
_PATIENCE_S = 60  # with other processes that write
_LOOKUP = 500  # keys per query, below SQLite's limit on parameters

IMPORT_ENGINE = "import:"
"""Begins the engine's name of an imported answer; the head of the file's hash follows."""
CLUSTER_MARK = "#"
"""Between the id of a user and the number of one of the user's clusters."""
_SHOWN = """
SELECT p.item_id, p.view, p.kind, p.prompt, p.model, p.revision, p.source, p.answer AS answer_key,
    p.parse AS parse_key, a.text AS answer, a.finish, a.attempt, a.engine, s.text AS text
FROM profiles p LEFT JOIN answers a ON a.key = p.answer LEFT JOIN parses s ON s.key = p.parse
"""
# Only a store that has taken in answers made elsewhere has this one.
_IMPORTS = """
CREATE TABLE IF NOT EXISTS imports (
    key TEXT PRIMARY KEY, dataset TEXT NOT NULL, view TEXT NOT NULL, file TEXT NOT NULL, sha256 TEXT NOT NULL,
    model TEXT NOT NULL, revision TEXT NOT NULL, prompt TEXT NOT NULL, imported_at TEXT NOT NULL, details TEXT NOT NULL
)
"""


@dataclass(frozen=True)
class Origin:
    """Where an answer comes from, as the store's reader sees it; none of it is needed to find the answer again."""

    view: str
    prompt: str
    model: str
    revision: str
    engine: str
    attempt: int


@dataclass(frozen=True)
class ProfileRow:
    """What an item has now in one view: a parse, or the kind of failure; ``source`` is the hash of the item's text."""

    item_id: str
    kind: str
    answer: str | None
    parse: str | None
    source: str = ""


@dataclass(frozen=True)
class RunRecord:
    """What one run generated in one view, and how long the engine took for it."""

    finished: str
    view: str
    prompt: str
    model: str
    revision: str
    engine: str
    answers: int
    retried: int
    prompt_tokens: int
    tokens: int
    seconds: float


@dataclass(frozen=True)
class ImportRecord:
    """One file of answers that were made elsewhere; ``details`` hold its counts and the user's notes."""

    dataset: str
    view: str
    file: str
    sha256: str
    model: str
    revision: str
    prompt: str
    imported_at: str
    details: dict[str, Any]


class AnswerStore:
    """Opens a store file, or one in memory; several processes may write to one file."""

    def __init__(self, path: Path | None, *, create: bool = True) -> None:
        self.path = path
        if path is not None and not create and not path.is_file():
            raise InputError("no such store", where=str(path), fix="semacdr profile items writes it")
        if path is not None:
            check_writable(path)
            path.parent.mkdir(parents=True, exist_ok=True)
        with self._guard():
            self._db = sqlite3.connect(":memory:" if path is None else path, timeout=_PATIENCE_S, isolation_level=None)
            self._prepare()

    def _prepare(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        mine = self._db.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
        empty = not self._db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
        if not empty and not mine:
            raise InputError("a database, but not a profile store; it is left as it is", where=str(self.path))
        if not empty and version > SCHEMA_VERSION:
            raise InputError(
                f"a store of version {version}, this program reads up to {SCHEMA_VERSION}",
                where=str(self.path),
                fix="use the newer semacdr that wrote it",
            )
        if self.path is not None:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
        if not empty and self.path is not None and self.path.stat().st_size <= _CHECKED_BYTES:
            verdict = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
        if version < SCHEMA_VERSION:
            with self._transaction():
                upgrade(self._db)

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:  # a row that we must not write: a fault of ours, not of the file
            raise
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise SemacdrError(
                    f"another process has held the store for {_PATIENCE_S} s",
                    where=str(self.path),
                    fix="what was finished is kept: when that process has ended, the same command goes on",
                ) from None
            fix = "what was finished is kept: when that is mended, the same command goes on"
            raise SemacdrError(f"the store cannot be used ({error})", where=str(self.path), fix=fix) from None
        except sqlite3.DatabaseError as error:
            raise SemacdrError(
                f"the store is damaged ({error})",
                where=str(self.path),
                fix="keep the file; save what can be read with: sqlite3 STORE .recover | sqlite3 NEW, then use NEW; "
                "without it move the file away: the same command makes every answer again",
            ) from None

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._guard():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # some errors, such as a full disk, end it themselves
                    with contextlib.suppress(sqlite3.Error):  # what went wrong first is what is told
                        self._db.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """For upkeep that concerns whole tables: the connection, inside a transaction of its own."""
        with self._transaction():
            yield self._db

    def compact(self) -> None:
        """Gives the room of what was removed back to the disk, if there is any."""
        with self._guard():
            if self._db.execute("PRAGMA freelist_count").fetchone()[0]:
                self._db.execute("VACUUM")

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def __enter__(self) -> AnswerStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _lookup(self, sql: str, keys: Sequence[str], first: Sequence[str] = ()) -> Iterator[tuple[Any, ...]]:
        for start in range(0, len(keys), _LOOKUP):
            some = keys[start : start + _LOOKUP]
            with self._guard():
                yield from self._db.execute(sql.format(",".join("?" * len(some))), [*first, *some]).fetchall()

    def answers(self, keys: Sequence[str]) -> dict[str, Answer]:
        """The kept answers among the given keys."""
        sql = "SELECT key, text, finish, prompt_tokens, tokens FROM answers WHERE key IN ({})"
        return {key: Answer(*rest) for key, *rest in self._lookup(sql, keys)}

    def add_answers(self, rows: Iterable[tuple[str, Origin, Answer]]) -> None:
        """Keeps the answers of one batch in one transaction.

        A key that is there already keeps its first answer, unless that says that an engine gave up.
        """
        values = [(key, *astuple(origin), *astuple(answer)) for key, origin, answer in rows]
        with self._transaction():
            keys = [(key, "failed") for key, *_ in values]
            self._db.executemany("DELETE FROM answers WHERE key = ? AND finish = ?", keys)
            self._db.executemany("INSERT INTO answers VALUES (?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING", values)

    def parses(self, keys: Sequence[str]) -> dict[str, Parse]:
        """The kept parses among the given keys."""
        return {
            key: Parse(*rest)
            for key, *rest in self._lookup("SELECT key, kind, text FROM parses WHERE key IN ({})", keys)
        }

    def add_parses(self, rows: Iterable[tuple[str, str, int, Parse]]) -> None:
        """Keeps parses: (key, answer key, parser version, parse)."""
        values = [(key, answer, parser, parse.kind, parse.text) for key, answer, parser, parse in rows]
        with self._transaction():
            self._db.executemany("DELETE FROM parses WHERE key = ? AND kind = ?", [(v[0], "failed") for v in values])
            self._db.executemany("INSERT INTO parses VALUES (?,?,?,?,?) ON CONFLICT DO NOTHING", values)

    def set_profiles(
        self, dataset: str, view: str, prompt: str, model: str, revision: str, rows: Iterable[ProfileRow]
    ) -> None:
        """Says what the items of a data set have now in one view."""
        values = [
            (dataset, view, r.item_id, r.kind, r.answer, r.parse, prompt, model, revision, r.source) for r in rows
        ]
        with self._transaction():
            self._db.executemany("INSERT OR REPLACE INTO profiles VALUES (?,?,?,?,?,?,?,?,?,?)", values)

    def add_retries(self, rows: Iterable[tuple[str, str]]) -> None:
        """Keeps which answer failed before another was asked for: (answer key, key of the one before)."""
        values = list(rows)
        with self._transaction():
            self._db.executemany("INSERT INTO retries VALUES (?,?) ON CONFLICT DO NOTHING", values)

    def add_run(self, run: RunRecord) -> None:
        """Keeps what a run took, for the plans of later ones."""
        with self._transaction():
            self._db.execute("INSERT INTO runs VALUES (?,?,?,?,?,?,?,?,?,?,?)", astuple(run))

    def runs(self) -> list[RunRecord]:
        """All runs that generated something, the oldest first."""
        with self._guard():
            return [RunRecord(*row) for row in self._db.execute("SELECT * FROM runs ORDER BY rowid")]

    def sources(self, dataset: str, view: str, ids: Sequence[str]) -> dict[str, str]:
        """What the profiles of one view among the given ids were asked about; empty where it is not known."""
        sql = "SELECT item_id, source FROM profiles WHERE dataset = ? AND view = ? AND item_id IN ({})"
        return dict(self._lookup(sql, ids, (dataset, view)))

    def views(self, dataset: str) -> list[str]:
        """The views in which a data set has profiles, valid or not."""
        sql = "SELECT DISTINCT view FROM profiles WHERE dataset = ? ORDER BY view DESC"
        with self._guard():
            return [view for (view,) in self._db.execute(sql, (dataset,))]

    def profile_rows(self, dataset: str, view: str, item_ids: Sequence[str]) -> dict[str, ProfileRow]:
        """What some items of a data set have now in one view."""
        sql = "SELECT item_id, kind, answer, parse FROM profiles WHERE dataset = ? AND view = ? AND item_id IN ({})"
        return {row[0]: ProfileRow(*row) for row in self._lookup(sql, item_ids, (dataset, view))}

    def add_import(self, record: ImportRecord) -> None:
        """Keeps where imported answers come from; the first import of the same file in the same way stands."""
        values = {**asdict(record), "details": json.dumps(record.details, ensure_ascii=False)}
        key = fingerprint({name: value for name, value in values.items() if name != "imported_at"})
        if any(kept == key for kept, *_ in self._imports()):
            return
        with self._transaction():
            self._db.execute(_IMPORTS)
            sql = "INSERT INTO imports VALUES (?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING"
            self._db.execute(sql, (key, *values.values()))

    def imports(self) -> list[ImportRecord]:
        """The files that answers were taken from, oldest first."""
        names = [entry.name for entry in fields(ImportRecord)]
        rows = [dict(zip(names, row[1:])) for row in self._imports()]
        return [ImportRecord(**{**row, "details": json.loads(row["details"])}) for row in rows]

    def _imports(self) -> list[tuple[Any, ...]]:
        with self._guard():
            if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'imports'").fetchone():
                return []
            return self._db.execute("SELECT * FROM imports ORDER BY rowid").fetchall()

    def valid_texts(self, dataset: str, view: str, ids: Sequence[str]) -> dict[str, str]:
        """The valid texts of one view among the given ids."""
        sql = (
            "SELECT item_id, parses.text FROM profiles JOIN parses ON parses.key = profiles.parse "
            "WHERE dataset = ? AND view = ? AND profiles.kind = 'valid' AND item_id IN ({})"
        )
        return dict(self._lookup(sql, ids, (dataset, view)))

    def valid_profiles(self, dataset: str) -> list[tuple[str, str, str]]:
        """(item id, view, description) of every valid profile of a data set, by view and item id."""
        sql = (
            "SELECT item_id, view, parses.text FROM profiles JOIN parses ON parses.key = profiles.parse "
            "WHERE dataset = ? AND profiles.kind = 'valid' ORDER BY view DESC, item_id"
        )
        with self._guard():
            return self._db.execute(sql, (dataset,)).fetchall()

    def profiles(self, dataset: str, view: str, ids: Sequence[str]) -> dict[str, tuple[str, str]]:
        """(kind, text) of the profiles of one view among the given ids, valid or not."""
        sql = (
            "SELECT item_id, profiles.kind, coalesce(parses.text, '') FROM profiles "
            "LEFT JOIN parses ON parses.key = profiles.parse WHERE dataset = ? AND view = ? AND item_id IN ({})"
        )
        return {item_id: (kind, text) for item_id, kind, text in self._lookup(sql, ids, (dataset, view))}

    def item_profiles(self, dataset: str, item_id: str) -> list[dict[str, Any]]:
        """What one item has in every view: prompt, model, answer and parse with their keys."""
        return self._dicts(f"{_SHOWN} WHERE p.dataset = ? AND p.item_id = ? ORDER BY p.view DESC", (dataset, item_id))

    def cluster_profiles(self, dataset: str, view: str, user_id: str) -> list[dict[str, Any]]:
        """The same of a user's clusters in one view, by their numbers."""
        first = f"{user_id}{CLUSTER_MARK}"
        sql = f"{_SHOWN} WHERE p.dataset = ? AND p.view = ? AND p.item_id > ? AND p.item_id < ?"
        found = self._dicts(sql, (dataset, view, first, f"{first}:"))  # what stands behind the digits
        numbered = [entry for entry in found if entry["item_id"].removeprefix(first).isdigit()]
        return sorted(numbered, key=lambda entry: int(entry["item_id"].removeprefix(first)))

    def status(self) -> list[dict[str, Any]]:
        """Counts of the current profiles by data set, view, prompt, model and kind."""
        return self._dicts(
            "SELECT dataset, view, prompt, model, revision, kind, count(*) AS items FROM profiles "
            "GROUP BY dataset, view, prompt, model, revision, kind ORDER BY dataset, view DESC, items DESC"
        )

    def answer_counts(self) -> list[dict[str, Any]]:
        """Counts of all answers ever kept, by view, prompt, model and attempt, with their tokens."""
        return self._dicts(
            "SELECT view, prompt, model, revision, engine, attempt, count(*) AS answers, "
            "sum(prompt_tokens) AS prompt_tokens, sum(tokens) AS tokens FROM answers "
            "GROUP BY view, prompt, model, revision, engine, attempt ORDER BY view DESC, prompt, model, attempt"
        )

    def parse_counts(self, parser: int) -> list[tuple[str, str, str, str, str, int, str, int]]:
        """(view, prompt, model, revision, engine, attempt, kind, answers) of what one version of the parser read."""
        sql = (
            "SELECT view, prompt, model, revision, engine, attempt, parses.kind, count(DISTINCT answers.key) "
            "FROM parses JOIN answers ON answers.key = parses.answer WHERE parser = ? "
            "GROUP BY view, prompt, model, revision, engine, attempt, parses.kind ORDER BY count(*) DESC, parses.kind"
        )
        with self._guard():
            return self._db.execute(sql, (parser,)).fetchall()

    def all_answers(self) -> list[tuple[str, Answer]]:
        """Every answer, by key."""
        with self._guard():
            rows = self._db.execute(
                "SELECT key, text, finish, prompt_tokens, tokens FROM answers ORDER BY key"
            ).fetchall()
        return [(key, Answer(*rest)) for key, *rest in rows]

    def models(self) -> list[tuple[str, str]]:
        """The models, with revision, that the answers come from."""
        with self._guard():
            return self._db.execute("SELECT DISTINCT model, revision FROM answers ORDER BY model, revision").fetchall()

    def digest(self) -> str:
        """Hash over all answers: two stores with equal digests hold the same answers under the same keys."""
        total = hashlib.sha256()
        for key, answer in self.all_answers():
            total.update(repr((key, answer)).encode())
        return total.hexdigest()

    def _dicts(self, sql: str, values: tuple[Any, ...] = ()) -> list[dict[str, Any]]:
        with self._guard():
            cursor = self._db.execute(sql, values)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row)) for row in cursor]
