"""The tables of a profile store, and how a store of an older version becomes one of this version."""

from __future__ import annotations

import sqlite3

SCHEMA_VERSION = 2
APPLICATION_ID = 0x5EAC

_FIRST = """
CREATE TABLE answers (
    key TEXT PRIMARY KEY, view TEXT NOT NULL, prompt TEXT NOT NULL, model TEXT NOT NULL, revision TEXT NOT NULL,
    engine TEXT NOT NULL, attempt INTEGER NOT NULL, text TEXT NOT NULL, finish TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, tokens INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE parses (
    key TEXT PRIMARY KEY, answer TEXT NOT NULL, parser INTEGER NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE profiles (
    dataset TEXT NOT NULL, view TEXT NOT NULL, item_id TEXT NOT NULL, kind TEXT NOT NULL, answer TEXT, parse TEXT,
    prompt TEXT NOT NULL, model TEXT NOT NULL, revision TEXT NOT NULL,
    PRIMARY KEY (dataset, view, item_id)
) WITHOUT ROWID
"""
# retries: which answer failed before this one was asked for. runs: what a rate is measured from. source: a hash of the
# text that an item's profile was asked about, empty where it is not known.
_SECOND = """
CREATE TABLE retries (answer TEXT PRIMARY KEY, after TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE runs (
    finished TEXT NOT NULL, view TEXT NOT NULL, prompt TEXT NOT NULL, model TEXT NOT NULL, revision TEXT NOT NULL,
    engine TEXT NOT NULL, answers INTEGER NOT NULL, retried INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL,
    tokens INTEGER NOT NULL, seconds REAL NOT NULL
);
ALTER TABLE profiles ADD COLUMN source TEXT NOT NULL DEFAULT ''
"""
_STEPS = (_FIRST, _SECOND)


def upgrade(db: sqlite3.Connection) -> None:
    """Brings an empty database or a store of any older version to this version; nothing that is there is lost.

    To be called inside a transaction: another process may have been first.
    """
    version = db.execute("PRAGMA user_version").fetchone()[0]
    for statements in _STEPS[version:]:
        for statement in statements.split(";"):
            db.execute(statement)
    db.execute(f"PRAGMA application_id={APPLICATION_ID}")
    db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
