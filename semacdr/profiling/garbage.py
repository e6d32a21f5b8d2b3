"""What a store keeps and no current profile uses: answers to old prompts, of old models, about old texts.

Kept are the answers that profiles have now, the failed attempts before them (without which the same command would ask
again), and the answers of views without any profile. Imported answers, which no engine here can give again, are kept
too unless that is asked for. Nothing of this happens unless it is asked for.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from semacdr.profiling.store import IMPORT_ENGINE, AnswerStore
from semacdr.profiling.validate import PARSER_VERSION

# A retry of a version-1 store does not say what it was a retry of: then every earlier attempt of its kind is kept.
_MARK = """
CREATE TEMP TABLE used AS
    WITH RECURSIVE chain (key) AS (
        SELECT answer FROM profiles WHERE answer IS NOT NULL
        UNION SELECT retries.after FROM retries JOIN chain ON retries.answer = chain.key
    ) SELECT key FROM chain;
INSERT INTO used
    SELECT DISTINCT earlier.key FROM used
    JOIN answers mine ON mine.key = used.key AND mine.attempt > 0
    JOIN answers earlier ON earlier.attempt < mine.attempt AND (earlier.view, earlier.prompt, earlier.model,
        earlier.revision) = (mine.view, mine.prompt, mine.model, mine.revision)
    WHERE mine.key NOT IN (SELECT answer FROM retries);
CREATE TEMP TABLE unused AS
    SELECT key, engine FROM answers WHERE key NOT IN (SELECT key FROM used) AND view IN (SELECT view FROM profiles)
"""
_IMPORTED = "substr(engine, 1, ?) = ?"
_UNUSED_PARSES = (
    "FROM parses WHERE key NOT IN (SELECT parse FROM profiles WHERE parse IS NOT NULL) "
    "AND (answer IN (SELECT key FROM unused) OR answer NOT IN (SELECT key FROM answers) OR parser < ?)"
)


def collect(store: AnswerStore, *, dry_run: bool, imported: bool = False) -> dict[str, Any]:
    """Removes what no profile uses, in one transaction, or only says what would go.

    Not to be called while a run writes to the store: what it has generated and not yet parsed would look unused.

    Args:
        store: what is cleared.
        dry_run: remove nothing.
        imported: remove imported answers as well.

    Returns:
        ``removed`` (answers by view, prompt and model), the sums ``answers``, ``parses`` and ``bytes`` (of text), and
        ``imported_kept``: imported answers that no profile uses and that stay.
    """
    with store.transaction() as db:
        for statement in _MARK.split(";"):
            db.execute(statement)
        kept = 0
        if not imported:
            kept = db.execute(f"DELETE FROM unused WHERE {_IMPORTED}", (len(IMPORT_ENGINE), IMPORT_ENGINE)).rowcount
        removed = _groups(db)
        parses = db.execute(f"SELECT count(*) {_UNUSED_PARSES}", (PARSER_VERSION,)).fetchone()[0]
        if not dry_run:
            db.execute(f"DELETE {_UNUSED_PARSES}", (PARSER_VERSION,))
            db.execute("DELETE FROM retries WHERE answer IN (SELECT key FROM unused)")
            db.execute("DELETE FROM answers WHERE key IN (SELECT key FROM unused)")
        db.execute("DROP TABLE used")
        db.execute("DROP TABLE unused")
    if not dry_run:
        store.compact()  # also of an earlier time, when another process was in the way
    return {
        "dry_run": dry_run,
        "answers": sum(group["answers"] for group in removed),
        "parses": parses,
        "bytes": sum(group["bytes"] for group in removed),
        "imported_kept": kept,
        "removed": removed,
    }


def _groups(db: sqlite3.Connection) -> list[dict[str, Any]]:
    rows = db.execute(
        "SELECT view, prompt, model, revision, count(*), sum(length(CAST(text AS BLOB))) FROM answers "
        "WHERE key IN (SELECT key FROM unused) GROUP BY view, prompt, model, revision ORDER BY view DESC, prompt, model"
    )
    names = ("view", "prompt", "model", "revision", "answers", "bytes")
    return [dict(zip(names, row)) for row in rows]
