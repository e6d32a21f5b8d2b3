"""Export: the right profiles in the right order, whatever the size of the catalogue."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from semacdr.cli import main
from semacdr.data.item_rows import ItemRows
from semacdr.errors import InputError
from semacdr.profiling import export
from semacdr.profiling.export import export_profiles, export_users
from semacdr.profiling.prompts import Vocabulary, load_prompts
from semacdr.profiling.run import RunOptions, profile_items
from semacdr.profiling.store import AnswerStore
from tests.profiling.large import peak, write_large
from tests.profiling.small import FakeEngine, write_dataset
from tests.profiling.test_users import USERS, run, write_users


@pytest.mark.parametrize("rows", [1, 5, 4096])
def test_blocks_and_groups_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(ItemRows.blocks, "__defaults__", (None, rows))
    monkeypatch.setattr(export, "GROUP_ROWS", rows + 1)
    dataset = write_dataset(tmp_path / "data", copies=2)
    items = ItemRows(dataset.path)
    with AnswerStore(None) as store:
        profile_items(items, FakeEngine(), store, load_prompts(), Vocabulary.load(), RunOptions())
        counts = export_profiles(items, store, tmp_path / "p.parquet")
        texts = {(item, view): text for item, view, text in store.valid_profiles("invented")}
    assert list(counts.items()) == [("domain_specific", 22), ("domain_agnostic", 22)]
    frame = pd.read_parquet(tmp_path / "p.parquet")
    order = [item for item in dataset.item_ids[1:] if item != "bare"]
    assert frame["item_id"].tolist() == order * 2
    assert frame["view"].tolist() == ["domain_specific"] * 22 + ["domain_agnostic"] * 22
    assert dict(zip(zip(frame["item_id"], frame["view"]), frame["text"])) == texts


def test_memory_does_not_grow_with_the_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ItemRows.blocks, "__defaults__", (None, 100))
    monkeypatch.setattr(export, "GROUP_ROWS", 100)
    peaks = []
    for count in (500, 4000):
        items, path = write_large(tmp_path / str(count), count)
        with AnswerStore(path) as store:
            export_profiles(items, store, tmp_path / "warm.parquet")
            peaks.append(peak(export_profiles, items, store, tmp_path / f"{count}.parquet"))
        assert len(pd.read_parquet(tmp_path / f"{count}.parquet")) == count
    assert peaks[1] < 1.5 * peaks[0]


def test_nothing_to_export_writes_nothing(tmp_path: Path) -> None:
    items = ItemRows(write_dataset(tmp_path / "data").path)
    with AnswerStore(None) as store, pytest.raises(InputError, match="no valid profile of data set"):
        export_profiles(items, store, tmp_path / "new" / "p.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_profiles_of_users_about_another_history_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = write_users(tmp_path / "data")
    with AnswerStore(tmp_path / "s.sqlite") as store:
        run(dataset, store, FakeEngine(bad=0))
        assert export_users(dataset, store, tmp_path / "p.parquet") == {"user_overall": 3}
        assert "other histories" not in capsys.readouterr().err
        # one more event: item 3, which was held out from validation, becomes known of user 1
        grown = write_users(tmp_path / "grown", {**USERS, "1": [*USERS["1"], 8]})
    command = ["profile", "export", "--users", "--dataset", str(grown.path), "--store", str(tmp_path / "s.sqlite")]
    assert main([*command, "--out", str(tmp_path / "p.parquet")]) == 0
    out, err = capsys.readouterr()
    assert "user_overall: 2 of 4 users have a valid profile" in out
    assert "1 profiles were written about other histories of these users; semacdr profile users renews them" in err
    assert pd.read_parquet(tmp_path / "p.parquet")["user_id"].tolist() == ["2", "4"]
    with AnswerStore(tmp_path / "s.sqlite") as store:
        run(grown, store, FakeEngine(bad=0))
        assert export_users(grown, store, tmp_path / "p.parquet") == {"user_overall": 3}
