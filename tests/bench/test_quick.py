"""The quick bench, as a user runs it: every model of the registry takes a few steps and gets its rows."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from semacdr.bench.config import read_config
from semacdr.bench.plan import make_lines
from semacdr.cli import main
from semacdr.files import read_json

pytest.importorskip("recbole", reason="the films ship inside the recbole package")
pytest.importorskip("peft", reason="the train extra is not installed")


def test_every_model_gets_its_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "quick"
    code = main(["bench", "bench/quick.yaml", "--out", str(out), "--jobs", "2"])
    rows = read_json(out / "leaderboard.json")
    assert [(row["model"], row["status"]) for row in rows if row["status"] != "ok"] == []
    assert code == 0
    wanted = {
        (line.dataset, line.label, line.domain or "all") for line in make_lines(read_config(Path("bench/quick.yaml")))
    }
    found = {(row["dataset"], row["model"], row["domain"]) for row in rows}
    assert wanted <= found
    assert all(math.isfinite(row["mean"]) for row in rows)
    cells = read_json(out / "bench.json")["cells"]
    results = [read_json(out / cell["run"] / "run.json")["result"] for cell in cells]
    trained = [result for result in results if "epochs" in result]
    assert len(trained) > 15
    assert all(result["epochs"] >= 1 for result in trained)
    printed = capsys.readouterr().out
    assert printed == (out / "leaderboard.md").read_text() + "\n"
