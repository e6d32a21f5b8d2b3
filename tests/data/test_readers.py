"""Every reader against a case worked out by hand."""

from __future__ import annotations

import importlib.util
import json
import sys

import pandas as pd
import pytest

from semacdr.cli import main
from semacdr.data.readers.movielens import parse_genre_domains, split_title
from semacdr.errors import InputError
from tests.data import raw_files
from tests.data.raw_files import DAY, converted, events_of, put


def test_abxi_keeps_the_published_order(tmp_path):
    data = converted(tmp_path / "d", "abxi", raw_files.abxi(tmp_path / "raw"))
    assert events_of(data) == {"A": ["tea-1", "pan-1", "pan-2", "tea-2"], "B": ["pan-1", "tea-1", "pan-1"]}
    assert data.domains == ("tea", "pans")
    assert (data.order, data.time_unit) == ("total", "day")
    assert data.timestamps.tolist() == [DAY, DAY, 2 * DAY, 2 * DAY, DAY, 2 * DAY, 3 * DAY]
    assert data.item_frame()["title"].tolist() == ["The tea-1", None, "The pan-1", "The pan-2"]


def test_abxi_reads_the_authors_own_files(tmp_path):
    put(tmp_path / "raw" / "afk_50_preprocessed.txt", f"0 1|{DAY} 2|{DAY} 1|{DAY}\n")
    put(tmp_path / "raw" / "map_item_50.txt", json.dumps({"P": [2, 1], "F": [1, 0]}))
    put(tmp_path / "raw" / "map_user_50.txt", json.dumps({"A": 0}))
    data = converted(tmp_path / "d", "abxi", tmp_path / "raw")
    assert events_of(data) == {"A": ["F", "P", "F"]}
    assert data.domains == ("food", "kitchen")


def test_urllm_two_lines_are_one_history_with_two_targets(tmp_path):
    data = converted(tmp_path / "d", "urllm", raw_files.urllm(tmp_path / "raw"))
    assert events_of(data) == {"ANN": ["0", "2"], "BOB": ["2"], "CAT": ["1", "3", "1"]}
    frame = pd.read_parquet(tmp_path / "d" / "targets.parquet")
    assert frame.to_numpy().tolist() == [
        ["ANN", "train", "3", "office", 2],
        ["ANN", "train", "1", "art", 2],
        ["BOB", "valid", "0", "art", 1],
        ["CAT", "test", "2", "office", 3],
    ]
    assert data.time_unit == "none"
    assert data.timestamps is None
    assert data.item_frame()["categories"].tolist() == ["x y"] * 4


def test_urllm_refuses_a_user_with_two_histories(tmp_path):
    folder = raw_files.urllm(tmp_path / "raw")
    put(folder / "valid_F2.txt.gz", "1\t2\t2|0|0\t1|1|1\t0|2|2\t\n1\t2\t2|0|0\t3|1|1\t0|2|2\t\n")
    with pytest.raises(InputError, match=r"history differs.*1\n.*valid_F2.txt.gz line 2"):
        converted(tmp_path / "d", "urllm", folder)
    data = converted(tmp_path / "d", "urllm", folder, skip_bad=True)
    assert events_of(data)["BOB"] == ["2", "1"]


@pytest.mark.parametrize(
    "line", ["1\t2\t2|0|0\t0|1|1\t", "1\t1\t2|0|0\t0|5|5\t", "1\tx\t2|0|0\t0|1|1\t", "1\t0\t2|0|0\t"]
)
def test_urllm_refuses_a_broken_line(tmp_path, line):
    folder = raw_files.urllm(tmp_path / "raw")
    put(folder / "valid_F2.txt.gz", f"{line}\n")
    with pytest.raises(InputError, match="broken history: 1"):
        converted(tmp_path / "d", "urllm", folder)


def test_s3rec_joins_people_and_tells_items_of_one_id_apart(tmp_path):
    data = converted(tmp_path / "d", "s3rec", raw_files.s3rec(tmp_path / "raw"))
    assert data.domains == ("pens", "rugs")
    assert data.order == "within-domain"
    assert events_of(data) == {"P": ["N2", "pens/X", "rugs/X", "R2", "rugs/X"], "Q": ["R2", "rugs/X"]}
    assert data.manifest["counts"]["ids_prefixed_by_domain"] == 1
    rug = data.item_frame().set_index("item_id").loc["R2"]
    assert (rug["title"], rug["price"]) == ("A rug", "3.5")


def test_movielens_genres_make_domains(tmp_path):
    data = converted(tmp_path / "d", "movielens", raw_files.movielens(tmp_path / "raw"))
    items = data.item_frame()
    assert items[["item_id", "domain", "title", "year"]].to_numpy().tolist() == [
        ["1", "thrills", "The Café Fight", "1994"],
        ["2", "stories", "Long Talk (La Parole)", "1980"],
        ["3", "stories", None, None],
    ]
    assert items["genres"].tolist() == ["Action", "Drama", None]
    assert events_of(data) == {"7": ["3", "2", "1"], "8": ["3"]}
    assert pd.read_parquet(tmp_path / "d" / "interactions.parquet")["rating"].tolist() == [4, 3, 5, 1]


def test_movielens_other_genre_domains(tmp_path):
    folder = raw_files.movielens(tmp_path / "raw")
    data = converted(tmp_path / "d", "movielens", folder, genre_domains="talk=Drama;rest=*")
    assert data.domains == ("talk", "rest")
    assert data.item_ids.tolist() == ["", "2", "1", "3"]
    for wrong in ("talk=Dramma;rest=*", "a=Drama", "a=Drama;a=*", "nothing"):
        with pytest.raises(InputError):
            parse_genre_domains(wrong)
    with pytest.raises(InputError, match="no domain takes"):
        converted(tmp_path / "d", "movielens", folder, genre_domains="a=Drama;b=Action")


@pytest.mark.skipif(importlib.util.find_spec("recbole") is None, reason="recbole is not installed")
def test_movielens_ships_with_recbole_which_is_not_imported(tmp_path):
    before = "recbole" in sys.modules
    data = converted(tmp_path / "d", "movielens", None)
    assert ("recbole" in sys.modules) == before
    assert (data.num_users, data.num_items, len(data.items)) == (943, 1682, 100_000)
    assert data.domains == ("thrills", "stories")


@pytest.mark.parametrize(
    ("raw", "title", "year"),
    [
        ("Godfather, The (1972)", "The Godfather", "1972"),
        ("Avventura, L' (1960)", "L'Avventura", "1960"),
        ("Crow, The", "The Crow", None),
        ("Big Blue, The (Grand bleu, Le)", "The Big Blue (Le Grand bleu)", None),
        ("20,000 Leagues Under the Sea", "20,000 Leagues Under the Sea", None),
        ("Steal Big, Steal Little", "Steal Big, Steal Little", None),
        ("unknown", None, None),
    ],
)
def test_titles_are_turned_into_reading_order(raw, title, year):
    assert split_title(raw) == (title, year)


def test_table_folder(tmp_path):
    data = converted(tmp_path / "d", "table", raw_files.table(tmp_path / "raw"))
    assert events_of(data) == {"u": ["b", "a"], "v": ["b"]}
    assert data.timestamps.tolist() == [1_600_000_000, 1_600_000_005, 1_600_000_000]
    assert data.item_frame()["title"].tolist() == ['Blue "pen"', "Green tea", None]
    assert data.domains == ("pens", "tea")
    assert data.time_unit == "second"


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet", "csv.gz", "jsonl.gz"])
def test_table_file_kinds_agree(tmp_path, kind):
    frame = pd.DataFrame(
        {
            "user": ["u", "u", "v"],
            "item": [7, 8, 7],
            "domain": ["tea", "pens", "tea"],
            "date": ["2020-01-02", "2020-01-01", "2020-01-01"],
        }
    )
    path = tmp_path / f"log.{kind}"
    if "csv" in kind or "tsv" in kind:
        frame.to_csv(path, index=False, sep="\t" if "tsv" in kind else ",")
    elif "jsonl" in kind:
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path)
    data = converted(tmp_path / "d", "table", path)
    assert events_of(data) == {"u": ["8", "7"], "v": ["7"]}
    assert data.timestamps.tolist() == [1_577_836_800, 1_577_923_200, 1_577_836_800]
    assert (data.name, data.time_unit, data.domains) == ("log", "day", ("tea", "pens"))


def test_table_columns_and_domain_options(tmp_path):
    path = put(tmp_path / "log.csv", "buyer,isbn\nu,1\nu,2\n")
    data = converted(tmp_path / "d", "table", path, columns={"user_id": "buyer", "item_id": "isbn"}, domain="books")
    assert (events_of(data), data.domains, data.time_unit) == ({"u": ["1", "2"]}, ("books",), "none")
    with pytest.raises(InputError, match="no column for user_id; there are: buyer, isbn"):
        converted(tmp_path / "e", "table", path, domain="books")
    with pytest.raises(InputError, match="did you mean 'buyer'"):
        converted(tmp_path / "e", "table", path, columns={"user_id": "buyers", "item_id": "isbn"}, domain="books")
    mistyped = {"user_id": "buyer", "item_id": "isbn", "timestamp": "when"}  # else the file's order would do
    with pytest.raises(InputError, match="no column 'when' for timestamp"):
        converted(tmp_path / "e", "table", path, columns=mistyped, domain="books")
    with pytest.raises(InputError, match="did you mean 'user_id'"):
        converted(tmp_path / "e", "table", path, columns={"user_ids": "buyer"}, domain="books")
    with pytest.raises(InputError, match="nothing says the domain"):
        converted(tmp_path / "e", "table", path, columns={"user_id": "buyer", "item_id": "isbn"})
    assert not (tmp_path / "e").exists()


def test_table_one_file_a_domain(tmp_path):
    put(
        tmp_path / "raw" / "tea.reviews.jsonl",
        raw_files.json_lines({"user": "u", "item": "a", "time": 1, "text": "good"}),
    )
    put(
        tmp_path / "raw" / "pens.reviews.jsonl",
        raw_files.json_lines({"user": "u", "item": "b", "time": 2, "text": "2019-01-01"}),
    )
    put(tmp_path / "raw" / "pens.items.jsonl", raw_files.json_lines({"item": "b", "title": "Pen"}))
    data = converted(tmp_path / "d", "table", tmp_path / "raw")
    assert events_of(data) == {"u": ["a", "b"]}
    assert dict(zip(data.item_frame()["item_id"], data.item_frame()["domain"])) == {"a": "tea", "b": "pens"}
    assert pd.read_parquet(tmp_path / "d" / "interactions.parquet")["text"].tolist() == ["good", "2019-01-01"]


@pytest.mark.parametrize("release", [2014, 2018, 2023])
def test_amazon_releases(tmp_path, release):
    data = converted(tmp_path / "d", "amazon", raw_files.amazon(tmp_path / "raw", release))
    assert events_of(data) == {"U1": ["B1", "M1"], "U2": ["B1", "M1"]}
    assert data.timestamps.tolist() == [day * DAY for day in (16_010, 16_020, 16_011, 16_021)]
    assert data.domains == ("books", "digital_music")
    items = data.item_frame()
    assert items["title"].tolist() == ["About B1", "About M1"]
    assert items["brand"].tolist() == ["Shop", "Shop"]
    assert items["categories"].tolist() == ["A, B", "A, B"]
    assert items["price"].tolist() == (["2.5", "2.5"] if release == 2014 else [None, None])
    assert pd.read_parquet(tmp_path / "d" / "interactions.parquet")["text"].iloc[0] == "review by U1"


def test_amazon_never_evaluates_a_line(tmp_path):
    flag = tmp_path / "flag"
    good = {"reviewerID": "U", "asin": "I", "overall": 5, "reviewText": "t", "unixReviewTime": DAY}
    put(tmp_path / "raw" / "reviews_Books.json", f"{good!r}\nopen({str(flag)!r}, 'w')\n")
    with pytest.raises(InputError, match="not parsed: 1"):
        converted(tmp_path / "d", "amazon", tmp_path / "raw")
    assert not flag.exists()


def test_amazon_items_without_metadata_have_no_title(tmp_path):
    folder = raw_files.amazon(tmp_path / "raw", 2018)
    (folder / "meta_Books.json.gz").unlink()
    data = converted(tmp_path / "d", "amazon", folder)
    assert data.item_frame()["title"].tolist() == [None, "About M1"]
    with pytest.raises(InputError, match="names one category"):
        converted(tmp_path / "e", "amazon", folder, domain="books")
    put(tmp_path / "odd" / "Books.json", '{"who": "u"}\n')
    with pytest.raises(InputError, match="not a review of 2014, 2018 or 2023; its fields: who"):
        converted(tmp_path / "e", "amazon", tmp_path / "odd")


@pytest.mark.parametrize(
    ("times", "unit", "first"),
    [
        (("20230105", "20230106"), "day", 1672876800),
        (("20230105", "20230106", "2023-01-07"), "day", 1672876800),
        (("2023-01-05", "20230106", "2023-01-07"), "day", 1672876800),
        (("2023", "2024"), "day", 1672531200),
        (("19000100", "19000101"), "second", 19000100),  # no 0th of January: seconds
        (("1672876800", "1672876801"), "second", 1672876800),
    ],
)
def test_compact_dates_are_dates(tmp_path, times, unit, first):
    file = tmp_path / "events.csv"
    file.write_text("user,item,domain,time\n" + "".join(f"a,{n},x,{time}\n" for n, time in enumerate(times)))
    dataset = converted(tmp_path / "d", "table", file)
    assert (dataset.time_unit, int(dataset.timestamps[0])) == (unit, first)


def test_columns_that_are_read_are_said(tmp_path, capsys):
    file = tmp_path / "events.csv"
    file.write_text("Shopper,item,domain,note\na,1,x,hello\nb,1,y,there\n")
    data = ["--input", str(file), "--output", str(tmp_path / "d"), "--columns", "user_id=Shopper"]
    assert main(["data", "convert", "--format", "table", *data]) == 0
    said = capsys.readouterr().err
    assert "events.csv: user_id from Shopper, item_id from item, domain; not read: note" in said
    assert "ids of several domains, an item of its own in each, as DOMAIN/1: 1" in said
