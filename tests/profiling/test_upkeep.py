"""What happens to a store over time: older versions, unused answers, another data set of the same name."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from semacdr.cli import main
from semacdr.data.item_rows import ItemRows
from semacdr.errors import InputError
from semacdr.profiling import tables
from semacdr.profiling.export import export_profiles, fresh_profiles, item_subjects
from semacdr.profiling.garbage import collect
from semacdr.profiling.prompts import Prompt, Vocabulary, load_prompts
from semacdr.profiling.run import RunOptions, profile_items
from semacdr.profiling.status import store_status
from semacdr.profiling.store import AnswerStore
from semacdr.resources import prompts_folder
from tests.profiling.small import FakeEngine, write_dataset

ROOT = Path(__file__).parents[2]


def run(folder: Path, store: AnswerStore, engine: FakeEngine, prompts: list[Prompt] | None = None, **options):
    rows = ItemRows(folder)
    return profile_items(rows, engine, store, prompts or load_prompts(), Vocabulary.load(), RunOptions(**options))


def edited(folder: Path, old: str, new: str, view: str = "domain_specific") -> list[Prompt]:
    shutil.copytree(prompts_folder(), folder)
    file = folder / "item" / view / "v1.j2"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    return load_prompts([folder / "item" / view])


def as_version_1(path: Path) -> None:
    """The same store as the first version wrote it: without runs, retries and sources."""
    with sqlite3.connect(path) as db:
        db.executescript("DROP TABLE retries; DROP TABLE runs; ALTER TABLE profiles DROP COLUMN source")
        db.execute("PRAGMA user_version=1")
    db.close()


def test_version_1_becomes_version_2_and_loses_nothing(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data")
    with AnswerStore(tmp_path / "s") as store:
        run(tmp_path / "data", store, FakeEngine(bad=0.5))
        before = (store.digest(), store.valid_profiles("invented"), store.status())
    as_version_1(tmp_path / "s")
    with AnswerStore(tmp_path / "s") as store:
        assert (store.digest(), store.valid_profiles("invented"), store.status()) == before
        assert store.runs() == []
        assert known_sources(store, tmp_path / "data") == 0
        # what is not known of old profiles is no reason to leave them out
        assert export_profiles_count(tmp_path, store) == 22
        assert run(tmp_path / "data", store, FakeEngine(bad=0.5))["generated"] == 0
        assert known_sources(store, tmp_path / "data") == 22
    with sqlite3.connect(tmp_path / "s") as db:
        assert db.execute("PRAGMA user_version").fetchone() == (tables.SCHEMA_VERSION,)
        made = db.execute("SELECT sql FROM sqlite_master WHERE name = 'runs'").fetchone()[0]
    db.close()
    assert "seconds REAL" in made


def export_profiles_count(tmp_path: Path, store: AnswerStore) -> int:
    return sum(export_profiles(ItemRows(tmp_path / "data"), store, tmp_path / "p.parquet").values())


def known_sources(store: AnswerStore, folder: Path) -> int:
    ids = [item for block in item_subjects(ItemRows(folder)) for item, _ in block]
    views = store.views("invented")
    return sum(source != "" for view in views for source in store.sources("invented", view, ids).values())


def stale_profiles(folder: Path, store: AnswerStore) -> set[str]:
    views, items = store.views("invented"), ItemRows(folder)
    blocks = [block for view in views for block in fresh_profiles(store, "invented", view, item_subjects(items))]
    return {item for _, stale in blocks for item in stale}


def test_two_processes_upgrade_one_store(tmp_path: Path) -> None:
    with AnswerStore(tmp_path / "s"):
        pass
    as_version_1(tmp_path / "s")
    code = (
        "import pathlib, sys; from semacdr.profiling.store import AnswerStore; AnswerStore(pathlib.Path(sys.argv[1]))"
    )
    opened = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "s")], cwd=ROOT) for _ in range(3)]
    assert [process.wait(60) for process in opened] == [0, 0, 0]


def test_a_newer_store_is_left_alone(tmp_path: Path) -> None:
    with AnswerStore(tmp_path / "s"):
        pass
    with sqlite3.connect(tmp_path / "s") as db:
        db.execute("PRAGMA user_version=3")
    db.close()
    with pytest.raises(InputError, match="version 3"):
        AnswerStore(tmp_path / "s")


@pytest.mark.parametrize("old_store", [False, True])
def test_gc_takes_what_no_profile_uses_and_nothing_else(tmp_path: Path, old_store: bool) -> None:
    write_dataset(tmp_path / "data", copies=2)
    engine = FakeEngine(bad=0.4)
    with AnswerStore(tmp_path / "s") as store:
        first = run(tmp_path / "data", store, engine)
    if old_store:
        as_version_1(tmp_path / "s")
    with AnswerStore(tmp_path / "s") as store:
        assert collect(store, dry_run=False)["answers"] == 0  # failed attempts belong to the profiles
        prompts = edited(tmp_path / "prompts", "what kind", "which kind")
        second = run(tmp_path / "data", store, engine, prompts)
        assert second["generated"] > 22
        plan = collect(store, dry_run=True)
        old = first["views"]["domain_specific"]["generated"]
        assert (plan["answers"], [group["view"] for group in plan["removed"]]) == (old, ["domain_specific"])
        digest = store.digest()
        assert collect(store, dry_run=True) == plan
        assert store.digest() == digest
        done = collect(store, dry_run=False)
        assert done["answers"] == plan["answers"]
        assert collect(store, dry_run=False)["answers"] == 0
        # profiles, and what a second run needs, are still there
        assert run(tmp_path / "data", store, engine, prompts)["generated"] == 0
        agnostic = load_prompts()[1:]
        assert run(tmp_path / "data", store, engine, agnostic)["generated"] == 0
        assert len(store.valid_profiles("invented")) == 44


def test_gc_that_was_held_up_gives_the_room_back_the_next_time(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", copies=20)
    with AnswerStore(tmp_path / "s") as store:
        run(tmp_path / "data", store, FakeEngine(bad=0))
        run(tmp_path / "data", store, FakeEngine(bad=0, model="newer"))
        size = store._db.execute("PRAGMA page_count").fetchone()[0]
        compact, store.compact = store.compact, lambda: None  # type: ignore[method-assign]
        assert collect(store, dry_run=False)["answers"] == 440
        assert store._db.execute("PRAGMA page_count").fetchone()[0] == size
        store.compact = compact  # type: ignore[method-assign]
        assert collect(store, dry_run=False)["answers"] == 0
        assert store._db.execute("PRAGMA page_count").fetchone()[0] < size


def test_gc_removes_parses_of_older_parsers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(tmp_path / "data")
    with AnswerStore(None) as store:
        monkeypatch.setattr("semacdr.profiling.validate.PARSER_VERSION", 1)
        monkeypatch.setattr("semacdr.profiling.items.PARSER_VERSION", 1)
        run(tmp_path / "data", store, FakeEngine(bad=0))
        monkeypatch.undo()
        run(tmp_path / "data", store, FakeEngine(bad=0))
        assert collect(store, dry_run=False)["parses"] == 22
        assert len(store.valid_profiles("invented")) == 22


def test_another_folder_of_the_same_name_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = write_dataset(tmp_path / "one")
    other = write_dataset(
        tmp_path / "other", 1, lambda rows: [row.update(title=f"No {row['title']}") for row in rows[:3]]
    )
    engine = FakeEngine(bad=0)
    with AnswerStore(tmp_path / "s") as store:
        run(one.path, store, engine)
        run(other.path, store, engine)
        assert stale_profiles(other.path, store) == set()
        assert stale_profiles(one.path, store) == {"f0c0", "f1c0", "f2c0"}
        counts = export_profiles(ItemRows(one.path), store, tmp_path / "p.parquet")
        assert counts == {"domain_specific": 8, "domain_agnostic": 8}
        assert "6 profiles were written about other texts" in capsys.readouterr().err
        # the answers are all there: the first folder has its profiles back without a call
        assert run(one.path, store, engine)["generated"] == 0
        assert export_profiles(ItemRows(one.path), store, tmp_path / "p.parquet") == {
            "domain_specific": 11,
            "domain_agnostic": 11,
        }
        # items that are added change nothing about the others
        grown = write_dataset(tmp_path / "grown", 2)
        assert run(grown.path, store, engine)["generated"] == 22
        assert stale_profiles(one.path, store) == set()


def test_writers_in_processes_of_their_own(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", copies=3)
    with AnswerStore(tmp_path / "alone") as alone:
        run(tmp_path / "data", alone, FakeEngine())
        expected = (len(alone.all_answers()), [row[:2] for row in alone.valid_profiles("invented")])
    command = [sys.executable, "-m", "tests.profiling.run_and_die", str(tmp_path / "data"), str(tmp_path / "s")]
    writers = [subprocess.Popen([*command, "batch:1000:after"], cwd=ROOT) for _ in range(3)]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0]
    with AnswerStore(tmp_path / "s") as store:
        assert (len(store.all_answers()), [row[:2] for row in store.valid_profiles("invented")]) == expected
        assert run(tmp_path / "data", store, FakeEngine())["generated"] == 0


def test_status_counts_every_kind(tmp_path: Path) -> None:
    class Unwilling(FakeEngine):
        def batch(self, requests, sampling):
            from semacdr.profiling.engines.base import Answer

            said = [" no.", " Ein Film zum Lachen für die ganze Familie am Abend.", " calm thing for people who wait."]
            return [
                Answer(said[int(request.messages[-1].content.count("o") % 3)], "stop", 9, 3) for request in requests
            ]

    write_dataset(tmp_path / "data")
    with AnswerStore(None) as store:
        summary = run(tmp_path / "data", store, Unwilling(), load_prompts()[:1], attempts=2)
        status = store_status(store)
    (view,) = status["views"]
    kinds = summary["views"]["domain_specific"]["invalid_kinds"]
    assert set(kinds) == {"too_short", "wrong_language"}
    assert {kind: count for kind, count in view["failures"].items() if count} == kinds
    assert set(view["failures"]) > {"refused", "failed", "empty", "near_example", "title_word"}
    assert view["items"] == view["valid"] + sum(kinds.values()) == 11
    by_attempt = {row["attempt"]: row["kinds"] for row in status["answers"]}
    assert by_attempt[1] == kinds
    assert by_attempt[0] == {**kinds, "valid": view["valid"]}
    (made,) = status["runs"]
    assert (made["answers"], made["retried"], made["tokens"]) == (
        summary["generated"],
        summary["retried"],
        summary["tokens"],
    )


def test_gc_and_status_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dataset(tmp_path / "data")
    with AnswerStore(tmp_path / "s") as store:
        run(tmp_path / "data", store, FakeEngine(bad=0))
        run(tmp_path / "data", store, FakeEngine(bad=0, model="newer"))
    command = ["profile", "gc", "--store", str(tmp_path / "s")]
    assert main([*command, "--dry-run"]) == 0
    assert "would go: 22 answers" in capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    assert {group["model"] for group in json.loads(capsys.readouterr().out)["removed"]} == {"fake-model"}
    assert main(["profile", "status", "--store", str(tmp_path / "s")]) == 0
    out = capsys.readouterr().out
    assert "domain_agnostic  valid: 11 (100.0%) of 11" in out
    assert "last run" in out
    assert main(["profile", "gc", "--store", str(tmp_path / "absent")]) == 2
