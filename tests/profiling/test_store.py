"""The store file: whole or refused, shared by writers, never overwritten."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from semacdr.errors import InputError, SemacdrError
from semacdr.profiling.engines.base import Answer
from semacdr.profiling.store import AnswerStore, Origin

ORIGIN = Origin("v", "p@v1", "m", "1", "fake", 0)


def fill(path: Path, number: int = 400) -> None:
    with AnswerStore(path) as store:
        store.add_answers((f"{n:064x}", ORIGIN, Answer(f"text {n} " * 20, "stop")) for n in range(number))


def test_first_answer_stays(tmp_path: Path) -> None:
    with AnswerStore(tmp_path / "s") as store:
        store.add_answers([("k", ORIGIN, Answer("first", "stop", 3, 4))])
        store.add_answers([("k", ORIGIN, Answer("second", "stop"))])
        assert store.answers(["k", "absent"]) == {"k": Answer("first", "stop", 3, 4)}


def test_many_keys_at_once(tmp_path: Path) -> None:
    fill(tmp_path / "s", 1200)
    with AnswerStore(tmp_path / "s") as store:
        assert len(store.answers([f"{n:064x}" for n in range(1300)])) == 1200


def test_failed_batch_leaves_nothing(tmp_path: Path) -> None:
    with AnswerStore(tmp_path / "s") as store:

        def rows():
            yield "a", ORIGIN, Answer("x", "stop")
            yield "b", ORIGIN, Answer("y", None)  # not allowed to be null

        with pytest.raises(sqlite3.IntegrityError):
            store.add_answers(rows())
        assert store.all_answers() == []


def test_a_full_disk_is_told_as_such_and_what_is_kept_stays(tmp_path: Path) -> None:
    fill(tmp_path / "s", 10)
    with AnswerStore(tmp_path / "s") as store, store.transaction() as db:
        most = db.execute("PRAGMA page_count").fetchone()[0] + 2
    with AnswerStore(tmp_path / "s") as store:
        store._db.execute(f"PRAGMA max_page_count={most}")
        with pytest.raises(SemacdrError, match="database or disk is full"):  # and not that nothing can be rolled back
            store.add_answers((f"x{n}", ORIGIN, Answer("text " * 200, "stop")) for n in range(400))
        assert len(store.all_answers()) == 10
        store._db.execute("PRAGMA max_page_count=100000")
        store.add_answers([("y", ORIGIN, Answer("room again", "stop"))])
        assert len(store.all_answers()) == 11


def test_a_commit_that_fails_leaves_the_store_usable(tmp_path: Path) -> None:
    class Refusing:
        """A connection on which the first COMMIT fails, as on a disk that is full only then."""

        def __init__(self, db: sqlite3.Connection) -> None:
            self.db, self.refused = db, False

        def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
            if sql == "COMMIT" and not self.refused:
                self.refused = True
                raise sqlite3.OperationalError("disk I/O error")
            return self.db.execute(sql, *values)

        def __getattr__(self, name: str) -> object:
            return getattr(self.db, name)

    with AnswerStore(tmp_path / "s") as store:
        store._db = Refusing(store._db)  # type: ignore[assignment]
        with pytest.raises(SemacdrError, match="disk I/O error"):
            store.add_answers([("a", ORIGIN, Answer("lost", "stop"))])
        store.add_answers([("b", ORIGIN, Answer("kept", "stop"))])
        assert [key for key, _ in store.all_answers()] == ["b"]


def test_a_store_that_another_process_holds_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "s", 400)
    monkeypatch.setattr("semacdr.profiling.store._PATIENCE_S", 0.05)
    other = sqlite3.connect(tmp_path / "s", isolation_level=None)
    with AnswerStore(tmp_path / "s") as store:
        with store.transaction() as db:
            db.execute("DELETE FROM answers")  # leaves room to give back
        other.execute("BEGIN IMMEDIATE")
        for act in (lambda: store.add_answers([("y", ORIGIN, Answer("t", "stop"))]), store.compact):
            with pytest.raises(SemacdrError, match="another process has held the store") as caught:
                act()
            assert "the same command goes on" in str(caught.value)
        other.execute("ROLLBACK")
        store.add_answers([("y", ORIGIN, Answer("t", "stop"))])
    other.close()


def test_damage_is_named(tmp_path: Path) -> None:
    fill(tmp_path / "s")
    with sqlite3.connect(tmp_path / "s") as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    content = bytearray((tmp_path / "s").read_bytes())
    content[len(content) // 2 : len(content) // 2 + 8192] = b"\xff" * 8192
    (tmp_path / "s").write_bytes(bytes(content))
    with pytest.raises(SemacdrError, match="damaged") as caught:
        AnswerStore(tmp_path / "s")
    assert "recover" in str(caught.value)


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database, but a long enough text to be read as one " * 20)
    with pytest.raises(SemacdrError, match="damaged"):
        AnswerStore(tmp_path / "text")
    with sqlite3.connect(tmp_path / "other") as db:
        db.execute("CREATE TABLE t (x)")
    db.close()
    with pytest.raises(InputError, match="not a profile store"):
        AnswerStore(tmp_path / "other")
    with pytest.raises(InputError, match="no such store"):
        AnswerStore(tmp_path / "absent", create=False)
    assert not (tmp_path / "absent").exists()


def test_two_writers(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from semacdr.profiling.engines.base import Answer; "
        "from semacdr.profiling.store import AnswerStore, Origin; s = AnswerStore(Path(sys.argv[1]))\n"
        "o, a = Origin('v', 'p', 'm', '1', 'fake', 0), Answer('t', 'stop')\n"
        "for n in range(60): s.add_answers([(sys.argv[2] + str(n), o, a)])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "s")]
    writers = [subprocess.Popen([*command, name]) for name in ("a", "b")]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    with AnswerStore(tmp_path / "s") as store:
        assert len(store.all_answers()) == 120
