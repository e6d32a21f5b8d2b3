"""Every kind of fault is counted, shown with its line, refused as a whole, and left out on request."""

from __future__ import annotations

import gzip

import pandas as pd
import pytest

from semacdr.data.badrows import BadRows
from semacdr.data.describe import card_text, describe
from semacdr.data.readers.raw import to_ratings
from semacdr.errors import InputError
from tests.data import raw_files
from tests.data.raw_files import DAY, converted, events_of, json_lines, put

GOOD = {"user": "u", "item": "a", "domain": "tea", "time": 10}
HEAD = "user,item,domain,time\nu,a,tea,10\n"


@pytest.mark.parametrize(
    ("rows", "kind", "line"),
    [
        ("u,b,tea,11\n,b,tea,12\n", "missing field user_id: 1", 4),
        ("u,b,tea,11\nv,,tea,12\n", "missing field item_id: 1", 4),
        ("u,b,tea,11\nv,b,,12\n", "missing field domain: 1", 4),
        ("u,b,tea,soon\nu,b,tea,11\n", "time not a number: 1", 3),
        ("u,b,tea,\nu,b,tea,11\n", "time not a number: 1", 3),
        ("u,b,tea,11\nu,b,tea,11\n", "duplicate: 1", 4),
        ("u,b,tea,11\nu,b\n", "not parsed: 1", 4),
        ("u,b,tea,11\nu,b", "half a file: 1", 4),
    ],
)
def test_table_faults(tmp_path, rows, kind, line):
    path = put(tmp_path / "log.csv", HEAD + rows)
    with pytest.raises(InputError) as caught:
        converted(tmp_path / "d", "table", path)
    assert kind in str(caught.value)
    assert f"log.csv line {line}:" in str(caught.value)
    assert "--skip-bad" in str(caught.value)
    assert not (tmp_path / "d").exists()
    data = converted(tmp_path / "d", "table", path, skip_bad=True)
    assert events_of(data) == {"u": ["a", "b"]}
    assert sum(data.manifest["settings"]["bad_rows"].values()) == 1


def test_only_the_first_few_are_shown_but_all_are_counted(tmp_path):
    path = put(tmp_path / "log.csv", HEAD + ",b,tea,1\n" * 50)
    with pytest.raises(InputError) as caught:
        converted(tmp_path / "d", "table", path)
    assert "missing field user_id: 50" in str(caught.value)
    assert str(caught.value).count("log.csv line") == 3


def test_several_kinds_are_reported_together(tmp_path):
    path = put(tmp_path / "log.csv", HEAD + ",b,tea,1\nu,b,tea,x\n")
    with pytest.raises(InputError, match=r"2 bad row\(s\).*\n.*missing field user_id: 1\n.*\n.*time not a number: 1"):
        converted(tmp_path / "d", "table", path)


def test_json_lines_faults(tmp_path):
    text = json_lines(GOOD) + '{"user": "u", "item"\n\n[1]\n' + json_lines({**GOOD, "item": "b"})
    path = put(tmp_path / "log.jsonl", text)
    with pytest.raises(InputError, match=r"not parsed: 2\n +log.jsonl line 2:.*\n +log.jsonl line 4:"):
        converted(tmp_path / "d", "table", path)
    assert events_of(converted(tmp_path / "d", "table", path, skip_bad=True)) == {"u": ["a", "b"]}


def test_wrong_encoding(tmp_path):
    for name, text in (("log.csv", HEAD), ("log.jsonl", json_lines(GOOD))):
        bad = '{"user": "ü"}\n' if "json" in name else "ü,b,tea,1\n"
        path = put(tmp_path / name, text.encode() + bad.encode("latin-1"))
        with pytest.raises(InputError, match=rf"wrong encoding: 1\n +{name} line {text.count(chr(10)) + 1}: not utf-8"):
            converted(tmp_path / "d", "table", path)
        assert events_of(converted(tmp_path / "d", "table", path, skip_bad=True)) == {"u": ["a"]}


@pytest.mark.parametrize("name", ["log.jsonl.gz", "log.csv.gz"])
def test_half_a_packed_file(tmp_path, name):
    rows = [{**GOOD, "item": f"i{at * 7919 % 1009}", "time": at} for at in range(4000)]
    text = json_lines(*rows) if "json" in name else HEAD + "".join(f"u,{r['item']},tea,{r['time']}\n" for r in rows)
    packed = gzip.compress(text.encode())
    path = put(tmp_path / "x", packed[: len(packed) // 2]).rename(tmp_path / name)
    with pytest.raises(InputError, match=f"half a file: 1\n +{name}"):
        converted(tmp_path / "d", "table", path)
    kept = converted(tmp_path / "d", "table", path, skip_bad=True)
    assert 0 < len(kept.items) < 4000


@pytest.mark.parametrize("cut", ["0 1|86400 3|864", "0 1|86400 3|", "0 1|86400 3"])
def test_half_a_plain_sequence_file(tmp_path, cut):
    folder = raw_files.abxi(tmp_path / "raw")
    (folder / "sequences.txt.gz").unlink()
    put(folder / "sequences.txt", f"1 3|{DAY} 1|{2 * DAY}\n{cut}")
    with pytest.raises(InputError, match=r"half a file: 1\n +sequences.txt line 2"):
        converted(tmp_path / "d", "abxi", folder)


def test_half_an_s3rec_file_shows_in_its_users(tmp_path):
    folder = raw_files.s3rec(tmp_path / "raw")
    (folder / "rugs.sequential.txt.gz").unlink()
    put(folder / "rugs.sequential.txt", "1 1 2")
    with pytest.raises(InputError, match=r"half a file: 1\n +rugs.sequential.txt line 1"):
        converted(tmp_path / "d", "s3rec", folder)
    put(folder / "rugs.sequential.txt", "1 1 2 1\n2 2 1")  # whole, only its last line end is missing
    assert events_of(converted(tmp_path / "d", "s3rec", folder))["Q"] == ["R2", "rugs/X"]


def test_faults_of_the_published_forms(tmp_path):
    folder = raw_files.abxi(tmp_path / "abxi")
    put(folder / "sequences.txt.gz", f"0 1|{DAY} 9|{DAY} 2|x 3|{DAY}\n")
    with pytest.raises(
        InputError, match=r"not parsed: 1\n.*'2\|x'\n +id unknown: 1\n +sequences.txt.gz line 1: idx = 9"
    ):
        converted(tmp_path / "d", "abxi", folder)
    assert events_of(converted(tmp_path / "d", "abxi", folder, skip_bad=True)) == {"A": ["tea-1", "pan-1"]}

    folder = raw_files.s3rec(tmp_path / "s3rec")
    put(folder / "rugs.sequential.txt.gz", "1 1 7\n5 2\n")
    with pytest.raises(InputError, match="id unknown: 2"):
        converted(tmp_path / "d", "s3rec", folder)

    folder = raw_files.movielens(tmp_path / "films")
    put(folder / "u.data", "7\t9\t3\t500\n7\t1\t3\tx\n7\t1\t3\n7\t1\t3\t5\n7\t1\t3\t5\n")
    with pytest.raises(InputError) as caught:
        converted(tmp_path / "d", "movielens", folder)
    for kind in ("not 4 fields: 1", "time not a number: 1", "id unknown: 1", "duplicate: 1"):
        assert kind in str(caught.value)


def test_published_repeats_are_kept(tmp_path):
    folder = raw_files.abxi(tmp_path / "abxi")
    put(folder / "sequences.txt.gz", f"0 1|{DAY} 1|{DAY} 3|{DAY}\n")
    assert events_of(converted(tmp_path / "d", "abxi", folder)) == {"A": ["tea-1", "tea-1", "pan-1"]}


def test_an_item_listed_twice_is_a_fault(tmp_path):
    folder = raw_files.table(tmp_path / "raw")
    put(folder / "items.tsv.gz", "iid\tdomain\na\ttea\nb\tpens\na\ttea\n")
    with pytest.raises(InputError, match=r"duplicate item: 1\n +items.tsv.gz line 4"):
        converted(tmp_path / "d", "table", folder)


def test_an_old_data_set_outlives_a_failed_conversion(tmp_path):
    converted(tmp_path / "d", "abxi", raw_files.abxi(tmp_path / "raw"))
    before = {path.name: path.read_bytes() for path in (tmp_path / "d").iterdir()}
    with pytest.raises(InputError):
        converted(tmp_path / "d", "table", put(tmp_path / "log.csv", HEAD + ",b,tea,1\n"))
    assert {path.name: path.read_bytes() for path in (tmp_path / "d").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir() if "staging" in path.name] == []


def test_refuse_is_silent_without_faults():
    BadRows().refuse("anywhere")


@pytest.mark.parametrize(
    ("column", "values", "kind", "every"),
    [
        ("time", ("05/01/2023 02:46", "06/01/2023 02:46"), "time not a number and no ISO date", True),
        ("time", ("2023-01-05", "soon"), "time not a number and no ISO date", False),
        ("time", ("20230105", "20230106", "20230230"), "time not a number and no ISO date", False),
        ("time", ("20230105", "20230106", "0"), "time not a number and no ISO date", False),
        ("rating", ("4,5", "3,0"), "rating not a number: 2", True),
        ("rating", ("5", "inf"), "rating not a number: 1", False),
        ("rating", ("4.5", "good"), "rating not a number: 1", False),
    ],
)
def test_a_column_in_another_form_is_not_skipped_row_by_row(tmp_path, column, values, kind, every):
    file = tmp_path / "events.csv"
    file.write_text(f"user,item,domain,{column}\n" + "".join(f'a,{n},x,"{v}"\n' for n, v in enumerate(values)))
    with pytest.raises(InputError) as caught:
        converted(tmp_path / "d", "table", file)
    assert kind in str(caught.value)
    assert ("every row has this fault" in str(caught.value)) == every
    assert ("--skip-bad" in str(caught.value)) != every


def test_no_rating_is_no_fault_and_the_card_counts_the_others(tmp_path):
    file = tmp_path / "events.csv"
    file.write_text("user,item,domain,rating\na,1,x,5\na,2,x,\na,3,x,4.5\na,4,x,NA\n")
    card = describe(converted(tmp_path / "d", "table", file))
    assert card["rated_events_share"] == 0.5
    assert "with a rating: 50.0 %" in card_text(card)


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_another_separator_is_named(tmp_path, mark):
    file = tmp_path / "events.csv"
    file.write_text(mark.join(("user", "item", "domain")) + "\n" + mark.join("aix") + "\n")
    with pytest.raises(InputError, match="one column") as caught:
        converted(tmp_path / "d", "table", file)
    assert f"separated by {mark!r}" in str(caught.value)


def test_a_mistyped_optional_column_gets_its_nearest_name(tmp_path):
    file = tmp_path / "events.csv"
    file.write_text("user,item,domain,When\na,1,x,5\n")
    with pytest.raises(InputError, match="no column 'Whn' for timestamp") as caught:
        converted(tmp_path / "d", "table", file, columns={"timestamp": "Whn"})
    assert "did you mean 'When'?" in str(caught.value)


def test_every_row_is_said_of_a_whole_file_alone(tmp_path):
    """Not where the last chunk is bad or where few rows were looked at; but where the file ends without a line end."""
    report = BadRows()
    good = pd.DataFrame({"file": "f", "line": [1, 2, 3], "rating": [1.0, 2.0, 3.0]})
    for frame in (good, good.assign(rating="good")):
        to_ratings(frame, report)
    with pytest.raises(InputError, match="--skip-bad"):
        report.refuse("f")
    file = tmp_path / "events.csv"
    file.write_text("user,item,domain,rating\n,1,x,5\n,2,x,5\na,3,x,good\na,4,x,good\n")
    with pytest.raises(InputError, match="--skip-bad"):
        converted(tmp_path / "d", "table", file)
    file.write_text("user,item,domain,time\na,1,x,05/01/2023\na,2,x,06/01/2023")
    with pytest.raises(InputError, match="every row has this fault"):
        converted(tmp_path / "d", "table", file)


def test_a_column_twice_is_refused(tmp_path):
    file = tmp_path / "events.csv"
    file.write_text("user,item,item,domain\na,1,2,x\n")
    with pytest.raises(InputError, match="the column 'item' is there twice"):
        converted(tmp_path / "d", "table", file)
