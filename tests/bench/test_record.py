"""A record of a bench: what it holds, and a bench that goes on from it elsewhere."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from semacdr.bench import plan
from semacdr.bench.record import _without_places
from semacdr.cli import main
from semacdr.files import read_json
from tests.bench.tiny import write_config
from tests.planted_reviews import write_reviews


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bench of ranking and rating models that has run and kept a record."""
    folder = tmp_path_factory.mktemp("recorded")
    write_reviews(folder / "reviews", users=10)
    config = write_config(
        folder,
        datasets=[
            {"name": "planted", "folder": "data"},
            {"name": "shop", "folder": "reviews", "protocols": ["rating"], "rating_domains": ["tea"]},
        ],
        models=[{"name": "Markov"}, {"name": "Popularity"}, {"name": "Biases"}],
        seeds=[0],
    )
    assert main(["bench", str(config), "--out", str(folder / "out"), "--record", str(folder / "record")]) == 0
    return folder


def elsewhere(recorded: Path, tmp_path: Path) -> tuple[list[str], Path]:
    """Words of the same bench in another place, and its folder."""
    for name in ("data", "reviews", "record"):
        shutil.copytree(recorded / name, tmp_path / name)
    shutil.copy(recorded / "tiny.yaml", tmp_path / "tiny.yaml")
    words = ["bench", str(tmp_path / "tiny.yaml"), "--data-root", str(tmp_path), "--out", str(tmp_path / "out")]
    return [*words, "--record", str(tmp_path / "record")], tmp_path / "out"


def test_another_place_goes_on_from_it_and_runs_nothing(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, out = elsewhere(recorded, tmp_path)
    assert main(words) == 0
    said = capsys.readouterr().err
    assert "3 cells from the record" in said
    assert "done, after" not in said
    for name in ("leaderboard.json", "comparisons.json"):
        assert (out / name).read_bytes() == (recorded / "out" / name).read_bytes()
    ranks = "runs/planted/Markov"
    (here,), (there,) = ((root / ranks).glob("*/ranks-full-test.parquet") for root in (out, recorded / "out"))
    pd.testing.assert_frame_equal(pd.read_parquet(here), pd.read_parquet(there))
    (run,) = (out / ranks).glob("*/run.json")
    assert read_json(run)["dataset"] == str(tmp_path / "data")


def test_it_holds_no_weights_no_ids_and_no_places(recorded: Path) -> None:
    cells = sorted((recorded / "record").rglob("*.zip"))
    assert len(cells) == 3
    ids = pd.read_parquet(recorded / "data" / "interactions.parquet")["user_id"].unique()
    for cell in cells:
        with zipfile.ZipFile(cell) as archive:
            assert not [name for name in archive.namelist() if name.endswith(("safetensors", ".log", "parts.json"))]
            for name in archive.namelist():
                content = archive.read(name)
                assert str(recorded).encode() not in content
                if name.endswith(".parquet"):
                    (tmp := cell.with_suffix(".tmp")).write_bytes(content)
                    frame = pd.read_parquet(tmp)
                    tmp.unlink()
                    assert {"user_id", "item_id"}.isdisjoint(frame.columns)
                    assert frame.select_dtypes("object").isin(ids).sum().sum() == 0


def test_the_same_results_give_the_same_bytes(recorded: Path, tmp_path: Path) -> None:
    words, out = elsewhere(recorded, tmp_path)
    assert main(words) == 0
    (old,) = (recorded / "record" / "planted" / "Markov").glob("*.zip")
    (new,) = (tmp_path / "record" / "planted" / "Markov").glob("*.zip")
    new.unlink()
    (run,) = (out / "runs" / "planted" / "Markov").iterdir()
    (run / "report_parts.json").write_text("{}")  # as a report leaves it, with users and their events
    assert main(words) == 0  # done here, so it is recorded again
    assert new.read_bytes() == old.read_bytes()


def test_a_protocol_that_is_not_recorded_has_the_cell_trained_again(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, out = elsewhere(recorded, tmp_path)
    assert main(words) == 0
    config = write_config(tmp_path, models=[{"name": "Markov"}], seeds=[0], protocols=["full", "full-all"])
    capsys.readouterr()
    assert main([*words, "--only", "Markov"]) == 0
    assert "Markov, seed 0: done, after" in capsys.readouterr().err
    assert {row["protocol"] for row in read_json(out / "leaderboard.json")} == {"full", "full-all"}
    assert config == tmp_path / "tiny.yaml"


def test_coverage_that_is_not_recorded_keeps_weights_and_is_added(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, _ = elsewhere(recorded, tmp_path)
    write_config(tmp_path, models=[{"name": "Markov"}], seeds=[0], protocols=["full"])
    fresh = [word if word != str(tmp_path / "out") else str(tmp_path / "fresh") for word in words[:-2]]
    assert main(fresh) == 0  # trained here, so there are weights
    write_config(tmp_path, models=[{"name": "Markov"}], seeds=[0], protocols=["full"], coverage=[5])
    weights = {path: path.stat().st_mtime_ns for path in (tmp_path / "fresh").rglob("model.safetensors")}
    assert main([*fresh, *words[-2:]]) == 0  # ranked again, not taken from the record
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "fresh").rglob("model.safetensors")} == weights
    assert "coverage@5" in {row["metric"] for row in read_json(tmp_path / "fresh" / "leaderboard.json")}
    capsys.readouterr()
    assert main([*words, "--only", "Markov"]) == 0  # now the record has it with its coverage
    assert "1 cells from the record" in capsys.readouterr().err


def test_restored_cells_go_on_without_the_record_too(recorded: Path, tmp_path: Path) -> None:
    words, out = elsewhere(recorded, tmp_path)
    assert main(words) == 0
    write_config(tmp_path, models=[{"name": "Markov"}], seeds=[0], protocols=["full", "full-all"])
    assert main([*words[:-2], "--only", "Markov"]) == 0
    assert {row["protocol"] for row in read_json(out / "leaderboard.json")} == {"full", "full-all"}


def test_restored_cells_are_known_when_the_code_has_changed(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words, _ = elsewhere(recorded, tmp_path)
    assert main(words) == 0
    monkeypatch.setattr("semacdr.bench.plan.code_version", lambda module: "another")
    capsys.readouterr()
    assert main([*words[:-2], "--dry-run", "--keep-old-code"]) == 0
    assert "3 done" in capsys.readouterr().out


def test_settings_that_are_paths_keep_their_last_name() -> None:
    manifest = {"config": {"plugins": ["/far/away/tea-1"], "encoder": "/models/bert", "k": 3, "views": ["content"]}}
    kept = _without_places({**manifest, "dataset": "/far/data"})
    assert kept["config"] == {"plugins": ["tea-1"], "encoder": "bert", "k": 3, "views": ["content"]}
    assert kept["dataset"] is None


def test_only_a_benchs_own_plugins_go_by_name(tmp_path: Path) -> None:
    own, other = tmp_path / "out" / "plugins" / "shop" / "tea-1", tmp_path / "a" / "adapter"
    found = plan._without_places({"config": {"plugins": [str(own), str(other)]}}, tmp_path / "out")
    assert found["config"]["plugins"] == ["tea-1", str(other)]


def test_a_record_of_other_targets_is_refused(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, out = elsewhere(recorded, tmp_path)
    (cell,) = (tmp_path / "record" / "planted" / "Markov").glob("*.zip")
    begun = out / "runs" / "planted" / "Markov" / cell.stem / "checkpoint.safetensors"
    begun.parent.mkdir(parents=True)
    begun.write_bytes(b"an unfinished training")
    with zipfile.ZipFile(cell) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(cell, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, b"0" * 64 if name.endswith("sha256") else content)
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "recorded of other targets" in said
    assert cell.name in said
    assert begun.read_bytes() == b"an unfinished training"


def without_evaluation(whole: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            if name != "evaluation.json":
                new.writestr(name, old.read(name))
    return made.getvalue()


@pytest.mark.parametrize("damage", [lambda whole: b"", lambda whole: whole[:100], without_evaluation])
def test_a_damaged_record_is_one_message(
    recorded: Path, tmp_path: Path, damage: Callable[[bytes], bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    words, out = elsewhere(recorded, tmp_path)
    (cell,) = (tmp_path / "record" / "planted" / "Markov").glob("*.zip")
    cell.write_bytes(damage(cell.read_bytes()))
    for more in ([], ["--dry-run"]):
        assert main([*words, *more]) == 2
        said = capsys.readouterr().err
        assert "damaged record" in said
        assert cell.name in said
    assert not (out / "leaderboard.json").exists()
