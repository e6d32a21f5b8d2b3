"""The writer: equal bytes, whole or nothing, unique ids, order; and RecBole's files there and back."""

from __future__ import annotations

import pandas as pd
import pytest

from semacdr.data.convert import convert, plain_text
from semacdr.data.dataset import Dataset
from semacdr.data.filters import Filters
from semacdr.data.readers import ReadOptions
from semacdr.data.readers.atomic import write_atomic_files
from semacdr.errors import InputError
from tests.data import raw_files
from tests.data.raw_files import DAY, converted, events_of, put

MAKERS = {name: getattr(raw_files, name) for name in ("abxi", "urllm", "s3rec", "movielens", "table")}


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_twice_gives_equal_bytes(tmp_path, name):
    raw = MAKERS[name](tmp_path / "raw")
    for folder in ("one", "two"):
        convert(name, raw, tmp_path / folder)
    for path in sorted((tmp_path / "one").iterdir()):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_fingerprint_follows_the_data(tmp_path):
    raw = raw_files.abxi(tmp_path / "raw")
    first = convert("abxi", raw, tmp_path / "d")
    assert convert("abxi", raw, tmp_path / "e", name="other")["fingerprint"] == first["fingerprint"]
    put(raw / "sequences.txt.gz", f"0 1|{DAY} 3|{DAY} 2|{2 * DAY}\n")
    assert convert("abxi", raw, tmp_path / "e")["fingerprint"] != first["fingerprint"]


def test_positions_count_within_a_user(tmp_path):
    converted(tmp_path / "d", "abxi", raw_files.abxi(tmp_path / "raw"))
    frame = pd.read_parquet(tmp_path / "d" / "interactions.parquet")
    assert frame["position"].tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert frame["domain"].tolist() == ["tea", "pans", "pans", "tea", "pans", "tea", "pans"]


def test_users_stand_in_order_of_appearance_and_ties_keep_the_files_order(tmp_path):
    rows = "user,item,domain,time\nz,a,x,5\ny,a,x,5\nz,b,x,5\nz,c,x,1\ny,b,x,4\n"
    data = converted(tmp_path / "d", "table", put(tmp_path / "log.csv", rows))
    assert events_of(data) == {"z": ["c", "a", "b"], "y": ["b", "a"]}
    assert list(events_of(data)) == ["z", "y"]


def test_a_folder_that_is_no_data_set_is_not_replaced(tmp_path):
    put(tmp_path / "d" / "thesis.txt", "years of work")
    with pytest.raises(InputError, match="not replaced"):
        converted(tmp_path / "d", "abxi", raw_files.abxi(tmp_path / "raw"))
    assert (tmp_path / "d" / "thesis.txt").read_text() == "years of work"


def test_options_of_another_format_are_refused(tmp_path):
    with pytest.raises(InputError, match="--genre-domains means nothing to format abxi"):
        convert("abxi", tmp_path, tmp_path / "d", ReadOptions(genre_domains="a=*"))
    with pytest.raises(InputError, match="did you mean 'abxi'"):
        convert("abix", tmp_path, tmp_path / "d")
    with pytest.raises(InputError, match="needs --input"):
        convert("abxi", None, tmp_path / "d")


def test_a_published_split_takes_no_filter(tmp_path):
    with pytest.raises(InputError, match="taken as it is"):
        convert("urllm", raw_files.urllm(tmp_path / "raw"), tmp_path / "d", filters=Filters(min_user=2))


def test_filters_that_leave_nothing(tmp_path):
    with pytest.raises(InputError, match="no event is left"):
        convert("abxi", raw_files.abxi(tmp_path / "raw"), tmp_path / "d", filters=Filters(min_user=9))
    assert not (tmp_path / "d").exists()


def test_recbole_files_there_and_back(tmp_path):
    first = converted(tmp_path / "d", "movielens", raw_files.movielens(tmp_path / "raw"))
    (tmp_path / "atomic").mkdir()
    events = pd.read_parquet(tmp_path / "d" / "interactions.parquet")
    inter, item = write_atomic_files(events, first.item_frame(), tmp_path / "atomic", "films")
    assert inter.read_text().splitlines()[:2] == [
        "user_id:token\titem_id:token\ttimestamp:float\trating:float",
        "7\t3\t20\t4",
    ]
    assert (
        item.read_text().splitlines()[0] == "item_id:token\tdomain:token\ttitle:token_seq\tgenres:token_seq\tyear:token"
    )
    second = converted(tmp_path / "e", "atomic", tmp_path / "atomic")
    assert second.fingerprint == first.fingerprint
    assert second.name == "films"


def test_recbole_files_keep_the_published_order_and_hold_no_quotes(tmp_path):
    events = pd.DataFrame({"user_id": ["u", "u", "v"], "item_id": ["a", "b", "a"], "timestamp": [9, 3, 1]})
    events["position"] = [0, 1, 0]
    items = pd.DataFrame({"item_id": ["a", "b"], "domain": ["x", "y"], "title": ['"Open', None]})
    for times, written in (([9, 3, 1], ["0", "1", "0"]), ([3, 9, 1], ["3", "9", "1"])):
        inter, item = write_atomic_files(events.assign(timestamp=times), items, tmp_path, "tiny")
        assert [line.split("\t")[2] for line in inter.read_text().splitlines()[1:]] == written
        assert item.read_text().splitlines()[1:] == ["a\tx\t'Open", "b\ty\t"]


def test_atomic_without_a_domain_field_says_what_there_is(tmp_path):
    put(tmp_path / "raw" / "x.inter", "user_id:token\titem_id:token\nu\ta\nu\tb\n")
    put(tmp_path / "raw" / "x.item", "item_id:token\tdomains:token\na\ttea\nb\tpens\n")
    with pytest.raises(InputError, match="did you mean 'domains'"):
        converted(tmp_path / "d", "atomic", tmp_path / "raw")
    assert converted(tmp_path / "d", "atomic", tmp_path / "raw", domain_field="domains").domains == ("tea", "pens")
    assert converted(tmp_path / "d", "atomic", tmp_path / "raw", domain="all").domains == ("all",)


def test_damaged_folders_are_refused(tmp_path):
    folder = tmp_path / "d"
    with pytest.raises(InputError, match="not a data set folder"):
        Dataset.load(folder)
    converted(folder, "urllm", raw_files.urllm(tmp_path / "raw"))
    targets = pd.read_parquet(folder / "targets.parquet")
    targets.assign(position=9).to_parquet(folder / "targets.parquet")
    with pytest.raises(InputError, match="4 targets stand behind their history"):
        Dataset.load(folder)
    targets.assign(item_id="?").to_parquet(folder / "targets.parquet")
    with pytest.raises(InputError, match="4 targets name an unknown user or item"):
        Dataset.load(folder)
    (folder / "items.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(InputError, match="damaged"):
        Dataset.load(folder)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (["A", "B", "A", None], "A, B"),
        (" a \n b ", "a b"),
        ([], None),
        ("", None),
        (None, None),
        (float("nan"), None),
        (3.5, "3.5"),
    ],
)
def test_plain_text(value, text):
    assert plain_text(value) == text
