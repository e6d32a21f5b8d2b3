"""The command as a user types it."""

from __future__ import annotations

import dataclasses
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

    attributes = ["--prompts", "item/domain_specific/v1.j2"]  # a prompt that ships, by its name alone
    assert main(["profile", "items", *data, *store, *attributes, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["generated"] == 0
    retried = main(["profile", "show", "f1c0", *data, *store, "--json"])
    shown = json.loads(capsys.readouterr().out)
    assert retried == 0
    for entry in shown:
        assert entry["prompt_unchanged"]
        assert [attempt["kind"] for attempt in entry["attempts"]] == ["unfinished"] * entry["attempt"] + ["valid"]

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
        (["items", "--dataset", "{data}", "--store", "data/items.parquet/s"], "items.parquet is no folder"),
        (["items", "--dataset", "{data}", "--store", "data"], "a folder, where a file is to be written"),
        (["export", "--dataset", "{data}", "--store", "s", "--out", "data"], "a folder, where a file is to be written"),
        (["record", "--store", "s", "--out", "data/items.parquet/r"], "items.parquet is no folder"),
        (["diff", "a", "b", "--dataset", "{data}", "--out", "data/items.parquet/d.html"], "items.parquet is no folder"),
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


def test_show_finds_the_prompt_of_every_view(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Structured(FakeEngine):
        structured = True

        def batch(self, requests, sampling):
            sheet = {"audience": "", "category": "kite", "make": "", "occasion": "", "price": "low", "style": ""}
            given = [json.dumps({**sheet, "use": "flying"} if "audience" in r.schema else {"x": 1}) for r in requests]
            return [
                dataclasses.replace(a, text=t, finish="stop") for a, t in zip(super().batch(requests, sampling), given)
            ]

    monkeypatch.setattr("semacdr.profiling.engines.make_engine", lambda *args, **kwargs: Structured())
    write_dataset(tmp_path / "data")
    data, store = ["--dataset", str(tmp_path / "data")], ["--store", str(tmp_path / "s.sqlite")]
    prompts = ["--prompts", "item/attributes", "item/domain_specific"]
    assert main(["profile", "items", *data, *store, *prompts, "--attempts", "2", "--json"]) == 0
    views = json.loads(capsys.readouterr().out)["views"]
    assert (views["attributes"]["valid"], views["domain_specific"]["invalid_kinds"]) == (11, {"wrong_shape": 11})
    assert main(["profile", "show", "t1c0", *data, *store, "--json"]) == 0
    shown = {entry["view"]: entry for entry in json.loads(capsys.readouterr().out)}
    sheet, failed = shown["attributes"], shown["domain_specific"]
    assert (sheet["text"], sheet["prompt"]) == ("Kite. For flying. Price: low.", "item/attributes@v1")
    assert sheet["prompt_unchanged"]
    assert json.loads(sheet["schema"])["required"][1] == "category"
    # the second attempt was told what was wrong with the first, and is shown so
    assert failed["prompt_unchanged"]
    assert failed["attempt"] == 1
    assert "Answer with the JSON alone, in plain English" in failed["messages"][-1]["content"]
    write_dataset(tmp_path / "data", 1, lambda rows: [row.update(title=f"New {row['title']}") for row in rows[:8]])
    assert main(["profile", "show", "t1c0", *data, *store]) == 0
    assert "asked about another text" in capsys.readouterr().out
