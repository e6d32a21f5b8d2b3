"""Records: replayed through the same path, found by key or counted as missing; the one that ships is whole."""

from __future__ import annotations

import gzip
import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from semacdr.cli import main
from semacdr.data.item_rows import ItemRows
from semacdr.errors import InputError
from semacdr.profiling.engines.recorded import RecordedEngine
from semacdr.profiling.prompts import Vocabulary, load_prompts
from semacdr.profiling.recorded import RECORD_ML100K, Record, read_record, write_record
from semacdr.profiling.run import RunOptions, compare_with_record, profile_items
from semacdr.profiling.store import AnswerStore
from tests.profiling.small import FILMS, TOYS, FakeEngine, write_dataset


def recorded(tmp_path: Path) -> Path:
    dataset = write_dataset(tmp_path / "data")
    with AnswerStore(tmp_path / "live.sqlite") as store:
        profile_items(
            ItemRows(dataset.path), FakeEngine(bad=0.5), store, load_prompts(), Vocabulary.load(), RunOptions()
        )
    made = read_record(tmp_path / "live.sqlite")
    write_record(tmp_path / "r.jsonl.gz", Record(made.model, made.revision, made.answers, {"licence": "none"}))
    return tmp_path / "r.jsonl.gz"


def replay(dataset, record: Path, store: AnswerStore):
    engine = RecordedEngine(str(record))
    return profile_items(ItemRows(dataset.path), engine, store, load_prompts(), Vocabulary.load(), RunOptions())


def test_replay_gives_what_the_engine_gave(tmp_path: Path) -> None:
    record = recorded(tmp_path)
    dataset = write_dataset(tmp_path / "data")
    with AnswerStore(tmp_path / "live.sqlite") as live, AnswerStore(None) as store:
        summary = replay(dataset, record, store)
        assert store.digest() == live.digest()
        assert store.valid_profiles("invented") == live.valid_profiles("invented")
        assert (summary["valid"], summary["missing"], summary["model"]) == (22, 0, "fake-model")
        assert compare_with_record(store, read_record(record)) == {"compared": len(store.all_answers())} | {
            "equal": len(store.all_answers())
        }
    # a store is a record as well
    with AnswerStore(None) as store:
        assert replay(dataset, tmp_path / "live.sqlite", store)["valid"] == 22


def test_record_holds_no_titles(tmp_path: Path) -> None:
    text = gzip.decompress(recorded(tmp_path).read_bytes()).decode()
    assert not any(title in text for title in FILMS + TOYS)
    assert json.loads(text.splitlines()[0])["licence"] == "none"


def test_what_is_not_recorded_is_counted(tmp_path: Path) -> None:
    record = recorded(tmp_path)
    changed = write_dataset(tmp_path / "data2", 1, lambda rows: rows[2].update(title="Eight Loud Miles"))
    with AnswerStore(None) as store:
        summary = replay(changed, record, store)
        assert (summary["valid"], summary["missing"], summary["invalid"]) == (20, 2, 0)
        assert {row["kind"]: row["items"] for row in store.status()}["missing"] == 1


def test_equal_records_are_equal_bytes(tmp_path: Path) -> None:
    made = read_record(recorded(tmp_path))
    shuffled = Record(made.model, made.revision, dict(reversed(made.answers.items())), {"licence": "none"})
    write_record(tmp_path / "again.jsonl.gz", shuffled)
    assert (tmp_path / "again.jsonl.gz").read_bytes() == (tmp_path / "r.jsonl.gz").read_bytes()


@pytest.mark.parametrize("content", ["", "{}\n", '{"format": "semacdr-answers", "version": 1}\n', "not json\n"])
def test_broken_record_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "r.jsonl").write_text(content)
    with pytest.raises(InputError):
        read_record(tmp_path / "r.jsonl")


def test_half_a_packed_record_is_refused(tmp_path: Path) -> None:
    whole = recorded(tmp_path).read_bytes()
    (tmp_path / "half.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="broken"):
        read_record(tmp_path / "half.jsonl.gz")


@pytest.mark.skipif(find_spec("recbole") is None, reason="ml-100k comes with the recbole package")
def test_shipped_record_covers_ml_100k(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Fails when a template, the vocabulary or the key changes without a new record.
    assert main(["data", "convert", "--format", "movielens", "--output", str(tmp_path / "ml")]) == 0
    capsys.readouterr()
    command = ["profile", "--quiet", "items", "--dataset", str(tmp_path / "ml"), "--engine", "recorded"]
    assert main([*command, "--model", "ml-100k", "--no-cache", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["missing"] == 0
    for view in summary["views"].values():
        assert view["valid_share"] > 0.9
    header = read_record(RECORD_ML100K).header
    assert header["licence"] == "Apache-2.0"
    assert header["model"] == summary["model"]
