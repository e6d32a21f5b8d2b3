"""The command as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from semacdr.cli import main
from tests.profiling.small import FakeEngine, write_dataset


@pytest.fixture(autouse=True)
def fake_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semacdr.profiling.engines.make_engine", lambda *_: FakeEngine(bad=0.3))


def test_items_status_export_show_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dataset(tmp_path / "data")
    data, store = ["--dataset", str(tmp_path / "data")], ["--store", str(tmp_path / "s.sqlite")]

    assert main(["profile", "items", *data, *store, "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["planned"], plan["to_generate"], plan["generated"]) == (22, 22, 0)
    assert not (tmp_path / "s.sqlite").exists()

    assert main(["profile", "items", *data, *store, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert {"planned", "cached", "generated", "invalid", "retried", "tokens", "seconds"} <= set(summary)
    assert summary["valid"] == 22
    assert main(["profile", "items", *data, *store]) == 0
    text = capsys.readouterr().out
    assert "domain_agnostic: 100.0% valid (11 of 11); 0 invalid; 11 cached; 0 generated" in text

    assert main(["profile", "status", *store]) == 0
    assert "domain_specific  valid: 11 (100.0%)" in capsys.readouterr().out
    assert main(["profile", "status", *store, "--json"]) == 0
    assert sum(row["items"] for row in json.loads(capsys.readouterr().out)["profiles"]) == 22

    assert main(["profile", "export", *data, *store, "--out", str(tmp_path / "p.parquet")]) == 0
    assert "11 of 12 items" in capsys.readouterr().out
    frame = pd.read_parquet(tmp_path / "p.parquet")
    assert list(frame.columns) == ["item_id", "view", "text"]
    assert len(frame) == 22

    assert main(["profile", "show", "f0c0", *data, *store]) == 0
    text = capsys.readouterr().out
    assert "Harbour Lights" in text
    assert "has changed" not in text
    assert main(["profile", "show", "f0c0", *data, *store, "--kind", "book"]) == 0
    assert "has changed" in capsys.readouterr().out

    out = tmp_path / "r.jsonl.gz"
    assert main(["profile", "record", *store, "--out", str(out), "--note", "licence=none", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answers"] == summary["generated"]


def test_limit_and_live_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dataset(tmp_path / "data")
    command = ["profile", "items", "--dataset", str(tmp_path / "data"), "--limit", "4", "--json"]
    assert main([*command, "--no-cache"]) == 0
    assert json.loads(capsys.readouterr().out)["planned"] == 8
    assert main(command) == 2  # without --no-cache a store is needed
    assert "--store" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["items", "--dataset", "nowhere", "--store", "s"], "not a data set folder"),
        (["items", "--dataset", "{data}", "--store", "s", "--prompts", "nowhere"], "no template"),
        (["items", "--dataset", "{data}", "--store", "s", "--kind", "flim"], "film"),
        (["items", "--dataset", "{data}", "--store", "s", "--limit", "0"], "--limit"),
        (["items", "--dataset", "{data}", "--store", "s", "--compare", "nothing"], "no record"),
        (["status", "--store", "nowhere"], "no such store"),
        (["show", "zzz", "--dataset", "{data}", "--store", "nowhere"], "no such store"),
        (["nonsense"], "items"),
    ],
)
def test_wrong_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_dataset(tmp_path / "data")
    assert main(["profile", *(argument.format(data="data") for argument in arguments)]) == 2
    assert says in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
