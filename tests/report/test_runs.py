"""What a report says of run folders: what may stand in one table, whose seeds count, what is left out and why."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from semacdr.cli import main
from semacdr.errors import InputError
from semacdr.files import read_json, write_json
from semacdr.report.curves import curve
from semacdr.report.examples import examples
from semacdr.report.runs import read_subject
from semacdr.report.subject import RunEntry, Subject
from semacdr.run import load_run
from tests.bench.tiny import fake_run
from tests.planted import write_planted

HITS = (0, 0, 20, 20, 0, 20)


def changed(run: Path, **values: Any) -> Path:
    """The run with other values in its run.json."""
    write_json(run / "run.json", {**read_json(run / "run.json"), **values})
    return run


def evaluated(run: Path, *protocols: str) -> Path:
    """The run as evaluated under other protocols."""
    (frame,) = run.glob("ranks-*")
    for name in protocols:
        if frame.name != f"ranks-{name}-test.parquet":
            shutil.copy(frame, run / f"ranks-{name}-test.parquet")
    rows = [{**row, "protocol": name} for name in protocols for row in read_json(run / "metrics_long.json")]
    write_json(run / "metrics_long.json", rows)
    write_json(run / "evaluation.json", {"run": run.name, "protocols": {name: {} for name in protocols}})
    return run


def tables(subject: Subject) -> dict[str, set[str]]:
    """Data set -> the models in its table."""
    found: dict[str, set[str]] = {}
    for row in subject.rows:
        found.setdefault(row["dataset"], set()).add(row["model"])
    return found


def test_other_splits_and_other_data_stand_in_other_tables(tmp_path: Path) -> None:
    fake_run(tmp_path / "a", 0, HITS, "Popularity")
    fake_run(tmp_path / "b", 0, HITS, "Markov", split="transfer-80:x")
    fake_run(tmp_path / "c", 0, HITS, "GRU4Rec", split="leave-one-out")
    assert tables(read_subject([tmp_path])) == {
        "six, leave-one-out": {"Popularity", "GRU4Rec"},
        "six, transfer-80:x": {"Markov"},
    }
    changed(fake_run(tmp_path / "d", 0, HITS, "GRU4Rec"), dataset_fingerprint="0123456789")
    subject = read_subject([tmp_path])
    assert tables(subject) == {
        "six, leave-one-out, version f": {"Popularity", "GRU4Rec"},
        "six, transfer-80:x, version f": {"Markov"},
        "six, leave-one-out, version 01234567": {"GRU4Rec"},
    }
    assert set(subject.names()) == set(tables(subject)) == {run.dataset for run in subject.runs}
    assert {test["dataset"] for test in subject.tests} == {"six, leave-one-out, version f"}


def test_a_split_has_one_name_however_it_was_typed(tmp_path: Path) -> None:
    fake_run(tmp_path / "a", 0, HITS, "Popularity", split="cold-item")
    fake_run(tmp_path / "b", 0, HITS, "Markov", split="cold-item-10")
    assert tables(read_subject([tmp_path])) == {"six": {"Popularity", "Markov"}}


def test_one_data_set_keeps_its_name(tmp_path: Path) -> None:
    fake_run(tmp_path / "a", 0, HITS, "Popularity")
    fake_run(tmp_path / "b", 0, HITS, "Biases", domain="x", split_seed=0)  # ratings, divided in their own way
    assert set(tables(read_subject([tmp_path]))) == {"six"}


def test_what_is_not_tested_says_so(tmp_path: Path) -> None:
    fake_run(tmp_path / "a", 0, HITS, "Popularity")
    path = fake_run(tmp_path / "b", 0, HITS, "Markov") / "ranks-full-test.parquet"
    pd.read_parquet(path).assign(item_id="another").to_parquet(path)
    subject = read_subject([tmp_path])
    assert subject.tests == []
    assert subject.notes == ("six, full: no tests, because Markov was tested on other targets than Popularity.",)


def test_a_run_is_one_seed_however_often_it_is_there(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "runs" / "a", 0, HITS)
    (tmp_path / "runs" / "latest").symlink_to(run)
    subject = read_subject([tmp_path / "runs"])
    assert {(row["seeds"], row["std"]) for row in subject.rows} == {(1, None)}
    assert (len(subject.runs), subject.notes) == (1, ())
    shutil.copytree(run, tmp_path / "runs" / "copy")
    (run / "evaluation.json").unlink()  # the copy has come further
    subject = read_subject([tmp_path / "runs"])
    assert [entry.folder.name for entry in subject.runs] == ["copy"]
    assert {row["seeds"] for row in subject.rows} == {1}
    assert subject.notes == ("SASRec: seed 0 is there twice; the run a is left out.",)
    fake_run(tmp_path / "runs" / "d", 1, HITS)
    assert {row["seeds"] for row in read_subject([tmp_path / "runs"]).rows} == {2}


def test_a_protocol_of_some_seeds_is_named(tmp_path: Path) -> None:
    evaluated(fake_run(tmp_path / "a", 0, HITS), "full")
    evaluated(fake_run(tmp_path / "b", 1, HITS), "sampled-100")
    subject = read_subject([tmp_path])
    assert subject.rows == []
    assert subject.notes == tuple(
        f"SASRec: only 1 of its 2 seeds are evaluated under {name}, so that it has no row there."
        for name in ("full", "sampled-100")
    )


@pytest.mark.parametrize("text", ["{}", "[]", '{"training": {"seed": 0}}'])
def test_a_run_of_another_shape_is_named(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    fake_run(tmp_path / "a", 0, HITS)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "run.json").write_text(text)
    with pytest.raises(InputError, match="of a training"):
        read_subject([tmp_path])
    assert main(["report", str(tmp_path)]) == 2
    assert str(tmp_path / "b") in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{}", "[]", '{"protocols": ["full"]}', '{"protocols": {"full": 1}}', "{"])
def test_an_evaluation_of_another_shape_is_named(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    fake_run(tmp_path / "a", 0, HITS)
    (tmp_path / "a" / "evaluation.json").write_text(text)
    assert main(["report", str(tmp_path)]) == 2
    assert f"{tmp_path / 'a' / 'evaluation.json'}: " in capsys.readouterr().err


def row(model: str, mean: float, domain: str = "all", metric: str = "mse") -> dict[str, Any]:
    place = {"dataset": "d", "protocol": "rating", "subset": "all", "source": "measured"}
    return {**place, "model": model, "mean": mean, "domain": domain, "metric": metric}


def test_the_best_come_first_by_all_domains_and_in_the_metrics_direction() -> None:
    rows = [row("worse", 0.1, "x"), row("better", 0.2, "x"), row("worse", 0.9), row("better", 0.3)]
    assert Subject("t", rows, [], (), {"rating": "mse"}).best_first("d") == ["better", "worse"]
    rows = [row(model, mean, "x", "mae") for model, mean in (("far", 0.9), ("near", 0.2), ("middle", 0.4))]
    assert Subject("t", rows, [], (), {"rating": "mae"}).best_first("d") == ["near", "middle", "far"]
    rows = [row(model, mean, metric="ndcg@10") for model, mean in (("low", 0.1), ("high", 0.4))]
    assert Subject("t", rows, [], (), {"rating": "ndcg@10"}).best_first("d") == ["high", "low"]


def test_the_curve_of_recboles_own_model(tmp_path: Path) -> None:
    lines = '{"epoch": 1, "loss": 2.5, "recbole_valid_ndcg@10": 0.25}\n{"epoch": 2, "loss": 2.0}\n'
    (tmp_path / "metrics.jsonl").write_text(lines)
    found = curve(RunEntry("d", "SASRec (RecBole)", tmp_path, 0))
    assert found is not None
    assert found["metric"] == "RecBole's ndcg@10"
    assert found["points"] == [[1, 2.5, 0.25], [2, 2.0, None]]
    assert found["protocol"] is None


def test_a_curve_names_the_protocol_of_its_scores(tmp_path: Path) -> None:
    """ABXI is validated among 999 negatives: on one axis with full ranking it would look like the best by far."""
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "loss": 2.5, "valid_ndcg@10": {"all": 0.25}}\n')
    manifest = {"dataset_fingerprint": "", "training": {"valid_protocol": "sampled-999"}}
    write_json(tmp_path / "run.json", manifest)
    found = curve(RunEntry("d", "ABXI", tmp_path, 0))
    assert found is not None
    assert (found["metric"], found["protocol"]) == ("ndcg@10", "sampled-999")


@pytest.mark.parametrize("training", [None, [], "full", {"valid_protocol": ["full"]}])
def test_a_damaged_run_json_costs_a_curve_its_protocol_alone(tmp_path: Path, training: object) -> None:
    lines = ['{"epoch": 1, "loss": 2.5, "valid_ndcg@10": {"all": 0.25}}', "7", "[]", "{}"]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    write_json(tmp_path / "run.json", {"dataset_fingerprint": "", "training": training})
    found = curve(RunEntry("d", "ABXI", tmp_path, 0))
    assert found is not None
    assert (found["protocol"], found["points"]) == (None, [[1, 2.5, 0.25]])


def test_examples_are_ranked_as_the_evaluation_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A target that the user has had before competes; level scores stand in the order of the items."""
    write_planted(tmp_path / "data", users=60)
    assert (
        main(["train", "--model", "Popularity", "--dataset", str(tmp_path / "data"), "--out", str(tmp_path / "run")])
        == 0
    )
    run = load_run(tmp_path / "run")
    test, domain, index = run.split.test, run.dataset.item_domain, run.dataset.item_index
    for at in range(len(test)):
        again = [item for item in test.history(at).tolist() if domain[item] == domain[test.target[at]]]
        test.target[at] = again[0] if again else test.target[at]
    monkeypatch.setattr(run.model, "score", lambda _, candidates: torch.zeros(1, len(candidates)))
    shown = examples(run)
    for user in shown:
        places = [index[item] for item in user["top"]]
        assert len(places) == 10
        assert places == sorted(places)
    targets = torch.tensor([index[user["target"]] for user in shown])
    assert sum(user["target"] in user["history"] for user in shown) > 3
    monkeypatch.setattr(run.model, "score", lambda _, candidates: torch.isin(candidates, targets).float()[None])
    for user in examples(run):
        assert user["target"] in user["top"]
        others = set(user["history"]) - {user["target"]}
        assert not others & set(user["top"])
