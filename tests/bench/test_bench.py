"""A bench as a user runs it, on planted data: results, failures, what runs again after a change, compare."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest

from semacdr.cli import main
from semacdr.data.dataset import Dataset
from semacdr.files import read_json
from tests.bench.tiny import TINY, write_config
from tests.planted import write_vectors
from tests.planted_reviews import write_reviews

MODELS = [
    {"name": "Markov"},
    {"name": "SASRec", "settings": TINY},
    {"name": "SASRec", "label": "no GPU", "settings": {**TINY, "device": "cuda:7"}, "seeds": [0]},
]
PUBLISHED = {"model": "theirs", "dataset": "planted", "protocol": "full", "cite": "a paper"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bench that has run: Markov, two seeds of SASRec, and a line that cannot run."""
    folder = tmp_path_factory.mktemp("bench")
    config = write_config(folder, models=MODELS, published=[{**PUBLISHED, "values": {"all": {"ndcg@10": 0.99}}}])
    assert main(["bench", str(config), "--out", str(folder / "out"), "--jobs", "2"]) == 1  # one cell fails
    return folder


def plan(folder: Path, config: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, list[str]]:
    """label -> the states of its cells."""
    capsys.readouterr()
    assert main(["bench", str(config), "--out", str(folder / "out"), "--dry-run", "--json", *more]) == 0
    states: dict[str, list[str]] = {}
    for cell in json.loads(capsys.readouterr().out)["cells"]:
        states.setdefault(cell["label"], []).append(cell["state"])
    return states


def test_rows_are_those_of_the_runs(folder: Path) -> None:
    rows = read_json(folder / "out" / "leaderboard.json")
    (row,) = [
        row
        for row in rows
        if (row["model"], row["protocol"], row["subset"], row["domain"], row["metric"])
        == ("SASRec", "full", "all", "tea", "ndcg@10")
    ]
    runs = sorted((folder / "out" / "runs" / "planted" / "SASRec").iterdir())
    means = [read_json(run / "metrics.json")["full"]["tea"]["ndcg@10"] for run in runs]
    assert len(means) == 2
    assert means[0] != means[1]
    assert (row["mean"], row["std"], row["seeds"]) == (fmean(means), stdev(means), 2)
    assert row["ci_low"] < row["mean"] < row["ci_high"]
    assert {row["protocol"] for row in rows if row["source"] == "measured" and row["protocol"]} == {
        "full",
        "sampled-100",
    }
    assert {"strict", "item 6-20", "user >5"} <= {row["subset"] for row in rows}


def test_one_data_set_under_several_splits(tmp_path: Path) -> None:
    """It is converted once, and every split has rows, tests and targets of its own."""
    lines = [f"u{u},{d}{(u * 7 + at * at) % 40},{d},{at + u % 5}" for u in range(60) for at, d in enumerate("xyxxyyxy")]
    (tmp_path / "in.csv").write_text("user_id,item_id,domain,timestamp\n" + "\n".join(lines) + "\n")
    datasets = [
        {"name": "shop", "format": "table", "input": "in.csv"},
        {"name": "items", "same_as": "shop", "split": "cold-item-20", "protocols": ["full", "full-cold"]},
        {"name": "users", "same_as": "shop", "split": "cold-user-50"},
    ]
    models = [{"name": "Popularity"}, {"name": "Markov"}]
    config = write_config(tmp_path, datasets=datasets, models=models, protocols=["full"])
    assert main(["bench", str(config), "--out", str(tmp_path / "out"), "--record", str(tmp_path / "record")]) == 0
    assert [path.name for path in (tmp_path / "out" / "data").iterdir() if path.is_dir()] == ["shop"]
    rows = read_json(tmp_path / "out" / "leaderboard.json")
    assert {(row["dataset"], row["split"], row["protocol"]) for row in rows} == {
        ("shop", "leave-one-out", "full"),
        ("items", "cold-item-20", "full"),
        ("items", "cold-item-20", "full-cold"),
        ("users", "cold-user-50", "full"),
    }
    cold = {(row["dataset"], row["subset"]) for row in rows}
    assert {("items", "item 0"), ("users", "user 0")} <= cold
    assert not {("items", "item >20"), ("users", "user 1-2")} & cold
    before = (tmp_path / "out" / "leaderboard.json").read_bytes()
    again = ["bench", str(config), "--out", str(tmp_path / "other"), "--record", str(tmp_path / "record")]
    assert main(again) == 0  # from the record, which knows the targets of each split
    assert (tmp_path / "other" / "leaderboard.json").read_bytes() == before


def test_a_failed_cell_is_a_row_with_its_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = [row for row in read_json(folder / "out" / "leaderboard.json") if row["model"] == "no GPU"]
    assert "device 'cuda:7'" in row["status"]
    assert (row["mean"], row["seeds"]) == (None, 0)
    assert "- no GPU, seed 0: device 'cuda:7'" in (folder / "out" / "leaderboard.md").read_text()
    assert main(["bench", str(folder / "tiny.yaml"), "--out", str(folder / "out")]) == 1
    said = capsys.readouterr().err
    assert "1 of 4 cells failed" in said
    assert "--retry-failed" in said
    assert "seed 0: done" not in said  # nothing ran


def test_an_error_names_no_place_of_this_machine(tmp_path: Path) -> None:
    """A leaderboard is passed on; tables that are taken as they are may lie anywhere."""
    entry = {"name": "planted", "folder": "data", "embeddings": {"folder": "tables/mine"}}
    config = write_config(tmp_path, datasets=[entry], models=[{"name": "TextKNN"}], protocols=["full"])
    data = Dataset.load(tmp_path / "data")
    write_vectors(tmp_path / "tables" / "mine", replace(data, item_ids="other " + data.item_ids))
    assert main(["bench", str(config), "--out", str(tmp_path / "out")]) == 1
    (row,) = read_json(tmp_path / "out" / "leaderboard.json")
    assert "none of the data set's items" in row["status"]
    assert "mine" in row["status"]
    for name in ("leaderboard.json", "leaderboard.md", "bench.json"):
        assert str(tmp_path) not in (tmp_path / "out" / name).read_text()


def test_published_rows_are_tested_against_nothing(folder: Path) -> None:
    rows = read_json(folder / "out" / "leaderboard.json")
    (row,) = [row for row in rows if row["source"] == "published"]
    assert (row["model"], row["mean"], row["note"], row["ci_low"]) == ("theirs", 0.99, "a paper", None)
    tests = read_json(folder / "out" / "comparisons.json")
    assert {test["model"] for test in tests} | {test["best"] for test in tests} == {"Markov", "SASRec"}
    # two models, two protocols, two domains and all
    assert len(tests) == 6
    assert {test["family"] for test in tests} == {3}


def test_everything_that_a_page_needs_is_named(folder: Path) -> None:
    bench = read_json(folder / "out" / "bench.json")
    runs = [folder / "out" / cell["run"] for cell in bench["cells"]]
    assert [cell["state"] for cell in bench["cells"]] == ["done", "done", "done", "failed"]
    assert all((run / "cell.log").is_file() for run in runs)
    assert (runs[0] / "ranks-full-test.parquet").is_file()
    assert bench["datasets"][0]["domains"] == ["tea", "pans"]
    assert str(folder) not in (folder / "out" / "leaderboard.md").read_text()


def test_only_what_changed_runs_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    published: list[dict[str, Any]] = []
    changed = [MODELS[0], {"name": "SASRec", "settings": {**TINY, "epochs": 1}, "seeds": [0]}]
    out = folder / "out"
    before = {path: path.stat().st_mtime_ns for path in out.rglob("run.json")}
    config = write_config(folder, models=changed, published=published)
    assert plan(folder, config, capsys) == {"Markov": ["done"], "SASRec": ["left"]}
    assert main(["bench", str(config), "--out", str(out)]) == 0
    after = {path: path.stat().st_mtime_ns for path in out.rglob("run.json")}
    assert before.items() <= after.items()
    assert len(after) == len(before) + 1
    assert plan(folder, config, capsys) == {"Markov": ["done"], "SASRec": ["done"]}
    config = write_config(folder, models=MODELS, published=published)  # taken back: the old runs are there
    assert plan(folder, config, capsys) == {"Markov": ["done"], "SASRec": ["done", "done"], "no GPU": ["failed"]}
    config = write_config(folder, models=MODELS[:2], protocols=["full", "full-all"])  # weights stay, ranks are missing
    assert plan(folder, config, capsys) == {"Markov": ["left"], "SASRec": ["left", "left"]}
    weights = {path: path.stat().st_mtime_ns for path in out.rglob("model.safetensors")}
    assert main(["bench", str(config), "--out", str(out), "--only", "Markov", "--quiet"]) == 0
    assert plan(folder, config, capsys) == {"Markov": ["done"], "SASRec": ["left", "left"]}
    assert {path: path.stat().st_mtime_ns for path in out.rglob("model.safetensors")} == weights


def test_edited_code_of_a_model_makes_its_cells_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(folder, models=MODELS)
    monkeypatch.setattr(
        "semacdr.bench.plan.code_version", lambda module: "edited" if module.endswith("sasrec") else "2-other"
    )
    assert plan(folder, config, capsys)["SASRec"] == ["left", "left"]
    assert plan(folder, config, capsys, "--keep-old-code")["SASRec"] == ["done", "done"]


def test_a_second_bench_in_the_folder_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from semacdr.bench import runner

    monkeypatch.setattr(runner, "PATIENCE_S", 0.0)
    with runner._only_one(folder / "out"):
        assert main(["bench", str(write_config(folder, models=MODELS)), "--out", str(folder / "out")]) == 2


def test_compare(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = folder / "out" / "runs" / "planted"
    full = {read_json(path / "run.json")["training"]["epochs"]: path for path in (runs / "SASRec").iterdir()}
    sasrec = [path for path in (runs / "SASRec").iterdir() if read_json(path / "run.json")["training"]["epochs"] == 2]
    (markov,) = (runs / "Markov").iterdir()
    paths = [str(path) for path in (*sorted(sasrec), markov)]
    capsys.readouterr()
    assert main(["compare", *paths, "--protocol", "full", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["model"]: row["seeds"] for row in found["rows"]} == {"SASRec": 2, "Markov": 1}
    tests = read_json(folder / "out" / "comparisons.json")
    wanted = [test for test in tests if test["protocol"] == "full"]
    assert [test["p_holm"] for test in found["tests"]] == [test["p_holm"] for test in wanted]
    assert main(["compare", *paths]) == 0
    assert "## planted, sampled-100" in capsys.readouterr().out
    assert main(["compare", *paths, "--protocol", "sampled-999"]) == 2
    said = capsys.readouterr().err
    assert f"{paths[0]} is not evaluated under sampled-999" in said
    assert f"semacdr evaluate {paths[0]} --protocol sampled-999" in said
    assert main(["compare", *paths[:2]]) == 2
    assert "these runs are one system" in capsys.readouterr().err
    if 1 in full:  # the same model with other settings is another system, called by its folder
        assert main(["compare", paths[0], str(full[1]), "--json"]) == 0
        assert {row["model"] for row in json.loads(capsys.readouterr().out)["rows"]} == {paths[0], str(full[1])}
    assert main(["compare", paths[0], paths[0]]) == 2
    assert "named twice" in capsys.readouterr().err


def test_ratings_and_rankings_in_one_bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_reviews(tmp_path / "reviews", users=30)
    rated = {"name": "shop", "folder": "reviews", "protocols": ["rating"], "rating_domains": ["tea", "pans"]}
    both = [{"name": "planted", "folder": "data"}, rated]
    models = [{"name": "Popularity"}, {"name": "GlobalMean"}, {"name": "Biases"}]
    config = write_config(tmp_path, datasets=both, models=models, protocols=["full"])
    assert main(["bench", str(config), "--out", str(tmp_path / "out"), "--quiet", "--jobs", "2"]) == 0
    rows = read_json(tmp_path / "out" / "leaderboard.json")
    where = {(row["dataset"], row["model"], row["domain"], row["protocol"]) for row in rows}
    assert where == {
        *(("planted", "Popularity", domain, "full") for domain in ("all", "tea", "pans")),
        *(("shop", model, domain, "rating") for model in ("GlobalMean", "Biases") for domain in ("tea", "pans")),
    }
    tests = read_json(tmp_path / "out" / "comparisons.json")
    assert [(test["domain"], test["metric"], test["family"]) for test in tests] == [
        ("tea", "mse", 2),
        ("pans", "mse", 2),
    ]
    assert {test["best"] for test in tests} == {"Biases"}  # planted: users are lenient or strict, items good or bad
    printed = capsys.readouterr().out
    assert "| model | mse, tea (18) | mse, pans (18) |" in printed
    assert "| Biases, pans |" in printed


def test_coverage_is_a_column_once_it_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = [{"name": "Popularity"}, {"name": "SASRec", "settings": TINY}]
    out = ["--out", str(tmp_path / "out"), "--quiet"]
    assert main(["bench", str(write_config(tmp_path, models=models)), *out]) == 0
    assert "coverage" not in (tmp_path / "out" / "leaderboard.md").read_text()
    weights = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("model.safetensors")}
    config = write_config(tmp_path, models=models, coverage=[5])
    assert plan(tmp_path, config, capsys) == {"Popularity": ["left"], "SASRec": ["left", "left"]}
    assert main(["bench", str(config), *out]) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("model.safetensors")} == weights
    assert plan(tmp_path, config, capsys) == {"Popularity": ["done"], "SASRec": ["done", "done"]}
    rows = [row for row in read_json(tmp_path / "out" / "leaderboard.json") if row["metric"] == "coverage@5"]
    assert {(row["model"], row["protocol"], row["domain"]) for row in rows} == {
        (model, "full", domain) for model in ("Popularity", "SASRec") for domain in ("all", "tea", "pans")
    }
    by_model = {row["model"]: row for row in rows if row["domain"] == "all"}
    assert by_model["SASRec"]["mean"] > by_model["Popularity"]["mean"]  # which recommends the same to everybody
    assert (by_model["SASRec"]["seeds"], by_model["SASRec"]["ci_low"]) == (2, None)
    assert "| coverage@5, all |" in (tmp_path / "out" / "leaderboard.md").read_text()
