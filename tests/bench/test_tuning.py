"""Studies: the same trials however often the study is opened anew, the best of them chosen, and a bench that tunes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("optuna", reason="the tune extra is not installed")

from semacdr.bench.config import Tuning, read_config
from semacdr.bench.plan import Line, make_lines
from semacdr.bench.prepare import DataRoot, Prepared, prepare
from semacdr.bench.record import Record
from semacdr.bench.tuning import Study
from semacdr.cli import main
from semacdr.errors import InputError
from semacdr.files import read_json
from tests.bench.tiny import TINY, write_config

SPACE = {
    "learning_rate": {"low": 1e-4, "high": 0.1, "log": True},
    "num_layers": {"low": 1, "high": 3},
    "dropout": [0.1, 0.3],
}


def config(folder: Path, trials: int, **settings: Any) -> Path:
    line = {"name": "SASRec", "settings": {**TINY, **settings}, "space": SPACE, "seeds": [0]}
    models = [line, {"name": "Markov", "space": {}}]
    return write_config(folder, models=models, tuning={"trials": trials, "seed": 3}, protocols=["full"])


def opened(folder: Path, path: Path, out: str) -> tuple[Line, Prepared, Study]:
    bench = read_config(path)
    (line, _) = make_lines(bench)
    data = prepare(bench.datasets[0], folder / out, DataRoot(folder, folder))
    assert bench.tuning is not None
    return line, data, Study(line, data, bench.tuning, "ndcg@10", folder / out)


def worth(settings: dict[str, Any]) -> float:
    return float(settings["num_layers"] - settings["dropout"])


def test_a_study_that_is_opened_anew_before_every_trial_tries_the_same(tmp_path: Path) -> None:
    path = config(tmp_path, 8)
    _, _, whole = opened(tmp_path, path, "whole")
    tried = []
    for _ in range(8):
        number, settings = whole.next()
        assert number == len(tried)
        tried.append(settings)
        whole.record(settings, worth(settings), {})
    assert tried[0] == {"learning_rate": 0.001, "num_layers": 1, "dropout": 0.3}  # the config's own come first
    assert len({str(settings) for settings in tried}) == 8
    again = []
    for _ in range(8):
        _, _, study = opened(tmp_path, path, "broken")
        _, settings = study.next()
        _, _, study = opened(tmp_path, path, "broken")  # killed before the trial was over
        assert study.next()[1] == settings
        again.append(settings)
        study.record(settings, worth(settings), {})
    assert again == tried
    _, _, study = opened(tmp_path, path, "broken")
    assert study.chosen() is None
    best = max(tried, key=worth)
    assert study.close() == best == study.chosen()
    written = yaml.safe_load((tmp_path / "broken" / "tuned" / "planted" / "SASRec.yaml").read_text())
    assert written == {**TINY, **best}


def test_failed_trials_count_and_other_spaces_are_other_studies(tmp_path: Path) -> None:
    path = config(tmp_path, 3)
    line, data, study = opened(tmp_path, path, "out")
    for value in (None, 0.2, 0.1):
        _, settings = study.next()
        study.record(settings, value, {} if value else {"error": "no luck"})
    assert [trial.user_attrs for trial in study.trials()] == [{"error": "no luck"}, {}, {}]
    assert study.close() == study.trials()[1].params
    more = Study(line, data, Tuning(trials=4, seed=3), "ndcg@10", tmp_path / "out")
    assert more.chosen() is None
    assert len(more.trials()) == 3
    _, _, other = opened(tmp_path, config(tmp_path, 3, batch_size=8), "out")
    assert other.chosen() is None
    assert not other.trials()


def test_a_study_goes_on_from_a_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", str(config(tmp_path, 4)), "--record", str(tmp_path / "record")]
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    (kept,) = (tmp_path / "record").rglob("study-*.jsonl")
    (cell,) = (tmp_path / "record" / "planted" / "SASRec").glob("*.zip")
    whole = kept.read_text()
    assert whole.count("\n") == 4

    capsys.readouterr()
    assert main([*words, "--out", str(tmp_path / "elsewhere")]) == 0  # all that is done comes out of the record
    said = capsys.readouterr().err
    assert "planted: SASRec, 4 trials from the record" in said
    assert "done, after" not in said
    chosen = "tuned/planted/SASRec.json"
    assert (tmp_path / "elsewhere" / chosen).read_bytes() == (tmp_path / "whole" / chosen).read_bytes()

    kept.write_text("".join(whole.splitlines(keepends=True)[:2]))
    cell.unlink()
    assert main([*words, "--out", str(tmp_path / "half"), "--dry-run"]) == 0
    assert "2 of them in the record" in capsys.readouterr().out
    assert main([*words, "--out", str(tmp_path / "half")]) == 0
    assert "trial 3 of 4: done" in (said := capsys.readouterr().err)
    assert "trial 2 of 4" not in said
    tried = [json.loads(line) for line in kept.read_text().splitlines()]
    for trial in (before := [json.loads(line) for line in whole.splitlines()]) + tried:
        assert trial.pop("seconds") > 0
    assert tried == before
    assert cell.is_file()

    kept.unlink()
    assert main([*words, "--out", str(tmp_path / "half")]) == 0  # a folder that has more than its record fills it
    assert len(kept.read_text().splitlines()) == 4


def test_a_record_of_more_trials_than_are_asked_for(tmp_path: Path) -> None:
    path = config(tmp_path, 4)
    record = Record(tmp_path / "record", tmp_path / "out")
    line, data, study = opened(tmp_path, path, "out")
    for value in (0.1, None, 0.3, 0.2):
        study.record(study.next()[1], value, {"seconds": 1.0, "error": f"in {tmp_path}"})
    record.keep_study(study)
    (kept,) = (tmp_path / "record").rglob("study-*.jsonl")
    assert str(tmp_path) not in kept.read_text()  # an error may name folders

    for trials, came in {2: 2, 3: 1, 6: 1}.items():
        other = Study(line, data, Tuning(trials=trials, seed=3), "ndcg@10", tmp_path / "other")
        assert other.take(record.recorded_trials(other)) == came
        record.keep_study(other)
        assert other.as_values() == [json.loads(line) for line in kept.read_text().splitlines()][:trials]
    assert other.next()[0] == 4
    assert [trial.value for trial in other.trials()] == [0.1, None, 0.3, 0.2]


def test_trials_that_went_another_way_are_not_mixed(tmp_path: Path) -> None:
    path = config(tmp_path, 4)
    record = Record(tmp_path / "record", tmp_path / "out")
    for out, value in {"out": 0.1, "other": 0.2}.items():
        _, _, study = opened(tmp_path, path, out)
        study.record(study.next()[1], value, {"seconds": 1.0})
        if out == "out":
            record.keep_study(study)
    with pytest.raises(InputError, match=r"its trial 1 is another than the one in studies\.sqlite"):
        record.recorded_trials(study)


def test_small_spaces_are_not_tried_twice(tmp_path: Path) -> None:
    models = [{"name": "Markov", "space": {"decay": [0.2, 0.4], "window": [1, 2, 3]}}]
    path = write_config(tmp_path, models=models, tuning={"trials": 7})
    bench = read_config(path)
    (line,) = make_lines(bench)
    data = prepare(bench.datasets[0], tmp_path / "out", DataRoot(tmp_path, tmp_path))
    study = Study(line, data, Tuning(trials=7), "ndcg@10", tmp_path / "out")
    for _ in range(7):
        study.record(study.next()[1], 0.5, {})
    tried = [str(sorted(trial.params.items())) for trial in study.trials()]
    assert len(set(tried[:6])) == 6  # all there are; then there is nothing else to try


def test_damaged_trials_of_a_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", str(config(tmp_path, 2)), "--record", str(tmp_path / "record"), "--quiet"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    (kept,) = (tmp_path / "record").rglob("study-*.jsonl")
    trial = json.loads(kept.read_text().splitlines()[0])
    outside = {**trial, "settings": {**trial["settings"], "dropout": 0.7}}
    fewer = {**trial, "settings": {"dropout": 0.1}}
    words_for_numbers = {**trial, "value": "0.5"}
    for damage in ('{"settings"', *map(json.dumps, ({"value": 1}, [1], outside, fewer, words_for_numbers))):
        kept.write_text(f"{json.dumps(trial)}\n{damage}\n")
        assert main([*words, "--out", str(tmp_path / "other")]) == 2
        said = capsys.readouterr().err
        assert "damaged record" in said
        assert str(kept) in said
        _, _, study = opened(tmp_path, tmp_path / "tiny.yaml", "other")
        assert not study.trials()


def test_a_study_that_was_killed_before_it_chose(tmp_path: Path) -> None:
    path = config(tmp_path, 2)
    _, _, study = opened(tmp_path, path, "out")
    for value in (0.1, 0.2):
        study.record(study.next()[1], value, {"seconds": 1.0})
    assert main(["bench", str(path), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    assert len(study._all()) == 2
    assert study.chosen() == study.trials()[1].params


def test_a_bench_that_tunes(tmp_path: Path) -> None:
    path = config(tmp_path, 2)
    assert main(["bench", str(path), "--out", str(tmp_path / "out"), "--jobs", "2", "--quiet"]) == 0
    rows = read_json(tmp_path / "out" / "leaderboard.json")
    assert {row["model"]: row["trials"] for row in rows} == {"SASRec": 2, "Markov": 1}
    chosen = read_json(tmp_path / "out" / "tuned" / "planted" / "SASRec.json")
    (run,) = (tmp_path / "out" / "runs" / "planted" / "SASRec").iterdir()
    manifest = read_json(run / "run.json")
    resolved = {**manifest["config"], **manifest["training"]}
    assert {key: resolved[key] for key in SPACE} == chosen["settings"]
    assert manifest["training"]["seed"] == 0
    assert manifest["result"]["valid_ndcg@10"] > 0
    assert not list((tmp_path / "out").rglob("trials/*/*/*"))
