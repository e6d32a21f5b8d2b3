"""``semacdr data`` as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys

import pandas as pd
import pytest

from semacdr.cli import main
from semacdr.data.readers import FORMATS
from tests.data import raw_files
from tests.data.raw_files import put


def test_help_is_light():
    code = (
        "import sys\nfrom semacdr.cli import main\n"
        "try: main(['data', '--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'pandas', 'numpy', 'torch', 'pyarrow', 'recbole'} & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[-1] == "[]"
    assert "For example:" in printed


@pytest.mark.parametrize("action", ["list", "fetch", "convert", "describe", "export"])
def test_every_action_has_an_example(action, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["data", action, "--help"])
    assert ended.value.code == 0
    assert f"semacdr data {action}" in capsys.readouterr().out.split("example")[-1]


def test_list_names_every_format(capsys):
    assert main(["data", "list"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in FORMATS)
    assert main(["data", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert set(listed["formats"]) == set(FORMATS)
    assert listed["sources"]["ml-100k"]["terms"]


def test_convert_describe_export(tmp_path, capsys):
    raw, folder = raw_files.table(tmp_path / "raw"), tmp_path / "d"
    assert main(["data", "convert", "--format", "table", "--input", str(raw), "--output", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((folder / "dataset.json").read_text())
    assert main(["data", "describe", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["events"] == 3
    assert main(["data", "describe", str(folder)]) == 0
    assert "2 users" in capsys.readouterr().out
    assert main(["data", "export", str(folder), "--output", str(tmp_path / "atomic")]) == 0
    assert (tmp_path / "atomic" / "atomic.inter").is_file()
    put(tmp_path / "home" / "notes.txt", "mine")
    assert main(["data", "export", str(folder), "--output", str(tmp_path / "home")]) == 2
    assert (tmp_path / "home" / "notes.txt").is_file()


def test_filters_reach_the_data(tmp_path, capsys):
    rows = ["a,p,x,2020-01-01", "a,q,x,2020-01-03", "a,q,x,2020-01-03", "b,q,x,2020-01-04"]
    path = put(tmp_path / "log.csv", "\n".join(["u,i,domain,time", *rows, ""]))
    base = ["data", "convert", "--format", "table", "--input", str(path), "--output", str(tmp_path / "d"), "--json"]
    base += ["--columns", "user_id=u,item_id=i"]
    for options, events in (
        (["--dedup"], 3),
        (["--dedup", "off"], 4),
        (["--dedup", "rows", "--from", "2020-01-02"], 2),
        (["--dedup", "rows", "--to", "1577923200"], 1),
        (["--dedup", "rows", "--keep-last", "1"], 2),
        (["--dedup", "rows", "--min-item", "2"], 2),
        (["--skip-bad"], 3),
    ):
        assert main([*base, *options]) == 0
        assert json.loads(capsys.readouterr().out)["counts"]["events"] == events, options
    assert len(pd.read_parquet(tmp_path / "d" / "interactions.parquet")) == 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--format", "tabel"], "did you mean 'table'"),
        (["--min-user", "-1"], "whole number"),
        (["--from", "yesterday"], "neither seconds nor a date"),
        (["--columns", "user_id"], "not ours=theirs"),
        (["--genre-domains", "a=*"], "means nothing to format table"),
        (["--colums", "a=b"], "unrecognized arguments"),
        (["--input", "/no/such/folder"], "no such file or folder"),
        ([], "3 bad row"),
    ],
)
def test_wrong_use_ends_with_2_and_one_message(tmp_path, wrong, message, capsys):
    path = put(tmp_path / "log.csv", "user,item,domain,time\na,p,x,1\n,p,x,1\n,p,x,1\n,p,x,1\n")
    base = ["data", "convert", "--format", "table", "--input", str(path), "--output", str(tmp_path / "d")]
    assert main([*base, *wrong]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert "Traceback" not in printed.err
    assert printed.out == ""
    assert not (tmp_path / "d").exists()


def test_an_unknown_source_is_named(tmp_path, capsys):
    assert main(["data", "fetch", "ml-1000k", "--dir", str(tmp_path)]) == 2
    assert "did you mean 'ml-100k'" in capsys.readouterr().err
