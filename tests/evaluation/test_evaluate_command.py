from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from semacdr.cli import main
from semacdr.data.dataset import Dataset
from semacdr.data.splits import make_split
from semacdr.evaluation.metrics import metric_values
from tests.planted import write_planted


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate")
    write_planted(folder / "data", items=140, users=60)
    train(folder / "run", folder / "data")
    return folder / "run"


def train(run: Path, data: Path, *settings: str) -> None:
    assert main(["train", "--quiet", "--model", "Markov", "--dataset", str(data), "--out", str(run), *settings]) == 0


def test_json_files_and_ranks_agree(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["evaluate", str(run), "--protocol", "full", "--json"]) == 0
    full = json.loads(capsys.readouterr().out)
    assert main(["evaluate", str(run), "--protocol", "sampled-100,full-all", "--json"]) == 0
    others = json.loads(capsys.readouterr().out)
    assert list(full) == ["full"]
    assert list(others) == ["sampled-100", "full-all"]
    assert json.loads((run / "metrics.json").read_text()) == full | others  # merged with what was there
    rows = json.loads((run / "metrics_long.json").read_text())
    for protocol, domains in (full | others).items():
        ranks = pd.read_parquet(run / f"ranks-{protocol}-test.parquet")
        values = metric_values(ranks["greater"].to_numpy(), ranks["ties"].to_numpy(), ["hr@10"])["hr@10"]
        assert values.mean() == pytest.approx(domains["all"]["hr@10"])
        (row,) = [
            row
            for row in rows
            if (row["protocol"], row["subset"], row["domain"], row["metric"]) == (protocol, "all", "all", "hr@10")
        ]
        assert row["mean"] == domains["all"]["hr@10"]
        assert row["model"] == "Markov"
        assert row["train_seconds"] is not None


def test_cold_items_alone(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Under cold-item the same targets rank among few items; under leave-one-out it is an error, as in training."""
    data = run.parent / "data"
    train(cold := tmp_path / "cold", data, "split=cold-item")
    assert main(["evaluate", str(cold), "--protocol", "full,full-cold", "--quiet"]) == 0
    whole, alone = (pd.read_parquet(cold / f"ranks-{name}-test.parquet") for name in ("full", "full-cold"))
    assert whole["item_id"].tolist() == alone["item_id"].tolist()
    split = make_split(dataset := Dataset.load(data), "cold-item")
    without = [int((split.train_count[dataset.item_domain == domain] == 0).sum()) for domain in range(2)]
    expected = alone["domain"].map(dict(zip(dataset.domains, without))) - 1
    assert alone["candidates"].tolist() == expected.tolist()
    assert (alone["greater"] <= whole["greater"]).all()
    capsys.readouterr()
    before = sorted(run.iterdir())
    assert main(["evaluate", str(run), "--protocol", "full-all,full-cold", "--quiet"]) == 2
    assert "train with split=cold-item" in capsys.readouterr().err
    assert sorted(run.iterdir()) == before
    words = ["train", "--model", "SASRec", "--dataset", str(data), "--out", str(tmp_path / "no")]
    assert main([*words, "valid_protocol=full-cold"]) == 2
    assert "train with split=cold-item" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_the_same_again_gives_the_same_bytes(run: Path) -> None:
    names = ["metrics.json", "metrics_long.json", "evaluation.json", "ranks-sampled-100-test.parquet"]
    command = ["evaluate", str(run), "--protocol", "sampled-100", "--quiet"]
    assert main(command) == 0
    before = [(run / name).read_bytes() for name in names]
    assert main(command) == 0
    assert [(run / name).read_bytes() for name in names] == before


def test_a_protocol_that_is_named_twice_counts_once(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--protocol", "full, full", "--protocol", "full", "--quiet"]) == 0
    assert capsys.readouterr().out.count("Markov on planted") == 1


def test_validation_lies_apart(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--quiet"]) == 0
    test = (run / "metrics.json").read_bytes()
    assert main(["evaluate", str(run), "--split", "valid", "--quiet"]) == 0
    assert (run / "metrics.json").read_bytes() == test
    assert json.loads((run / "metrics_valid.json").read_text()) != json.loads(test)
    table = capsys.readouterr().out
    assert "Markov on planted, leave-one-out, valid: full" in table
    assert "ndcg@10" in table
    assert "strict, tea" in table


def test_results_of_an_older_training_are_dropped(tmp_path: Path) -> None:
    write_planted(tmp_path / "data", users=30)
    train(tmp_path / "run", tmp_path / "data")
    assert main(["evaluate", str(tmp_path / "run"), "--protocol", "full-all", "--quiet"]) == 0
    (tmp_path / "run" / "run.json").unlink()
    train(tmp_path / "run", tmp_path / "data", "window=1")
    assert main(["evaluate", str(tmp_path / "run"), "--protocol", "full", "--quiet"]) == 0
    assert list(json.loads((tmp_path / "run" / "metrics.json").read_text())) == ["full"]
    assert not (tmp_path / "run" / "ranks-full-all-test.parquet").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--protocol", "sampled-99"], "did you mean 'sampled-999'"),
        (["--split", "train"], "invalid choice"),
        (["--dataset", "nowhere"], "is gone"),
    ],
)
def test_wrong_use_is_one_message(
    run: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path.name for path in run.iterdir())
    assert main(["evaluate", str(run), *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert not captured.out
    assert sorted(path.name for path in run.iterdir()) == before


def test_not_a_run_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(tmp_path)]) == 2
    assert "no run.json" in capsys.readouterr().err


def test_tells_where_it_stands_and_refuses_a_device_that_is_not_there(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(run), "--protocol", "full", "--device", "cpu"]) == 0
    told = capsys.readouterr().err
    assert "evaluate under full: " in told
    assert "test targets" in told
    for device in ("gpu", "cuda:99"):
        assert main(["evaluate", str(run), "--device", device]) == 2
        assert f"device '{device}'" in capsys.readouterr().err


def test_a_run_of_another_version_is_named(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = json.loads((run / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**manifest, "format_version": 1}))
    assert main(["evaluate", str(tmp_path)]) == 2
    assert "another version" in capsys.readouterr().err
