"""Our data set folder as RecBole reads it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import semacdr.recbole as ours
from semacdr.data.convert import write_dataset
from semacdr.data.dataset import Dataset
from semacdr.data.readers.raw import RawData
from semacdr.errors import InputError

ITEMS = pd.DataFrame(
    {"item_id": ["a", "b", "c"], "domain": ["x", "y", "x"], "title": ['"Open', "Tab\there", None]}, dtype=object
)


def write(folder: Path, times: list[int]) -> Dataset:
    events = pd.DataFrame(
        {
            "user_id": ["u"] * 4,
            "item_id": ["b", "a", "c", "a"],
            "domain": ["y", "x", "x", "x"],
            "timestamp": times,
            "position": range(4),
        }
    )
    raw = RawData("tiny", events, ITEMS, "total", "second")
    write_dataset(raw, events, ITEMS, folder, "table", "tiny", {})
    return Dataset.load(folder)


@pytest.mark.parametrize("times", [[5, 5, 5, 9], [9, 3, 4, 1], [1_000_000_000, 1_000_000_001, 1_000_000_002, 2**31]])
def test_recbole_reads_the_published_order(times: list[int], tmp_path: Path) -> None:
    from recbole.config import Config
    from recbole.data import create_dataset

    write(tmp_path / "ours", times)
    assert ours.export(tmp_path / "ours", tmp_path / "data") == tmp_path / "data" / "tiny"
    settings = {"data_path": str(tmp_path / "data"), "state": "ERROR"}
    parts = create_dataset(Config(model=ours.SemaCDR, dataset="tiny", config_dict=settings)).build()
    model = ours.SemaCDR(parts[0].config, parts[0])
    dataset, _ = ours.plain_data(model, *parts)
    assert [dataset.item_ids[item] for item in dataset.items] == ["b", "a", "c", "a"]
    assert dict(zip(dataset.item_ids[1:], dataset.item_domain[1:])) == {
        item: dataset.domains.index(domain) for item, domain in zip(ITEMS["item_id"], ITEMS["domain"])
    }


def test_other_files_are_not_replaced(tmp_path: Path) -> None:
    write(tmp_path / "ours", [1, 2, 3, 4])
    (tmp_path / "data" / "tiny").mkdir(parents=True)
    (tmp_path / "data" / "tiny" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="other files"):
        ours.export(tmp_path / "ours", tmp_path / "data")
    assert (tmp_path / "data" / "tiny" / "notes.txt").is_file()


def test_a_published_split_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "ours", [1, 2, 3, 4])
    targets = {"user_id": ["u"], "split": ["test"], "item_id": ["a"], "domain": ["x"], "position": [2]}
    pd.DataFrame(targets).to_parquet(tmp_path / "ours" / "targets.parquet")
    with pytest.raises(InputError, match="published split"):
        ours.export(tmp_path / "ours", tmp_path / "data")
    assert not (tmp_path / "data").exists()
