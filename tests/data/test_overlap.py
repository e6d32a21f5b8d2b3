"""Fewer shared users: who stays whole, who is parted, and that no event is lost or re-ordered."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from semacdr.cli import main
from semacdr.data.dataset import Dataset
from semacdr.data.filters import Filters
from semacdr.data.overlap import split_shared_users
from semacdr.errors import InputError
from semacdr.files import read_json


def events(rows: list[tuple[str, str, str]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["user_id", "item_id", "domain"])


ROWS = [("u", "a", "x"), ("u", "b", "y"), ("u", "c", "x"), ("v", "a", "x"), ("w", "b", "y"), ("w", "a", "x")]


def test_by_hand() -> None:
    parted = split_shared_users(events(ROWS), 0.0)
    assert [tuple(row) for row in parted.itertuples(index=False)] == [
        ("u/x", "a", "x"),
        ("u/x", "c", "x"),
        ("u/y", "b", "y"),
        ("v", "a", "x"),
        ("w/y", "b", "y"),
        ("w/x", "a", "x"),
    ]
    pd.testing.assert_frame_equal(split_shared_users(events(ROWS), 1.0), events(ROWS))


def test_the_share_and_the_seed_decide_who_stays() -> None:
    rows = [(f"u{user}", f"{domain}{user}", domain) for user in range(40) for domain in "xy"]
    rows += [(f"single{user}", "x1", "x") for user in range(7)]
    parted = split_shared_users(events(rows), 0.25, seed=3)
    whole = {user for user in parted["user_id"] if "/" not in user and not user.startswith("single")}
    assert len(whole) == 10
    assert len(parted) == len(rows)
    assert parted["user_id"].nunique() == 10 + 2 * 30 + 7
    again = split_shared_users(events(rows[::-1]), 0.25, seed=3)  # the order of the file decides nothing
    assert {user for user in again["user_id"] if user in whole} == whole
    other = split_shared_users(events(rows), 0.25, seed=4)
    assert {user for user in other["user_id"] if "/" not in user} != whole | {f"single{user}" for user in range(7)}


def test_wrong_shares_and_names() -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        split_shared_users(events(ROWS), 1.5)
    with pytest.raises(InputError, match="'u/x'"):
        split_shared_users(events([*ROWS, ("u/x", "a", "x")]), 0.0)
    assert Filters(keep_overlap=0.0).any()
    assert not Filters(overlap_seed=3).any()


def test_the_command_says_it_in_the_manifest(tmp_path: Path) -> None:
    table = tmp_path / "in.csv"
    lines = [f"u{user},{domain}{user % 3},{domain},{at}" for user in range(8) for at, domain in enumerate("xyx")]
    table.write_text("user_id,item_id,domain,timestamp\n" + "\n".join(lines) + "\n")
    command = ["data", "convert", "--format", "table", "--input", str(table), "--output", str(tmp_path / "out")]
    assert main([*command, "--keep-overlap", "0", "--overlap-seed", "1"]) == 0
    assert Dataset.load(tmp_path / "out").num_users == 16
    filters = read_json(tmp_path / "out" / "dataset.json")["settings"]["filters"]
    assert filters == {"keep_overlap": 0.0, "overlap_seed": 1}
