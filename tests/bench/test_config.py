"""What a bench config may say: every fault is found before anything runs, and names the nearest valid key."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from semacdr.bench.config import ConvertOptions, read_config
from semacdr.bench.identity import MODELS as ROOM
from semacdr.bench.identity import code_version, own_code, without_docstrings
from semacdr.bench.plan import make_lines
from semacdr.cli import main
from semacdr.data.filters import Filters
from semacdr.data.readers import ReadOptions
from semacdr.models.registry import MODELS
from tests.bench.tiny import TINY, write_config

PUBLISHED = {"model": "x", "dataset": "planted", "protocol": "full", "cite": "y", "values": {"all": {"mrr": 0.1}}}
COLD = {"valid_protocol": "full-cold"}
PLANTED = {"name": "planted", "folder": "data"}
PROFILED = {**PLANTED, "user_embeddings": {"folder": "users"}}
RATED = {"name": "planted", "folder": "data", "protocols": ["rating"], "rating_domains": ["tea"]}
RANGE = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"modles": []}, "unknown key 'modles': did you mean 'models'"),
        ({"models": [{"name": "SASRec", "lable": "x"}]}, "unknown key 'models.0.lable': did you mean 'label'"),
        ({"datasets": [{"name": "a", "format": "table", "convert": {"min_usr": 3}}]}, "did you mean 'min_user'"),
        ({"models": [{"name": "SASRek"}]}, "did you mean 'SASRec'"),
        ({"models": [{"name": "SASRec", "settings": {"epocs": 1}}]}, "did you mean 'epochs'"),
        ({"models": [{"name": "recbole:GRU4Re"}]}, "did you mean 'GRU4Rec'"),
        ({"models": [{"name": "recbole:SASRecF"}]}, "needs data that the exported files do not hold"),
        ({"models": [{"name": "recbole:GRU4Rec", "settings": {"hiden_size": 1}}]}, "did you mean 'hidden_size'"),
        ({"models": [{"name": "recbole:GRU4Rec", "settings": {"seed": 1}}]}, "'seed' is no setting of a line"),
        ({"coverage": [0]}, "greater than 0"),
        ({"coverage": [10], "protocols": ["full-all"]}, "protocol full, which this bench has not"),
        ({"models": [{"name": "SASRec", "settings": {"epochs": -1}}]}, "greater than or equal to 0"),
        ({"models": [{"name": "SASRec", "settings": {"seed": 1}}]}, "'seed' is no setting of a line"),
        ({"models": [{"name": "SASRec"}, {"name": "SASRec"}]}, "'SASRec' stands there twice"),
        ({"datasets": [PROFILED, {**PLANTED, "name": "planted-users"}]}, "the folder of data set planted-users"),
        ({"models": [{"name": "Markov", "datasets": ["other"]}]}, "unknown data set 'other'"),
        ({"models": []}, "no models"),
        ({"datasets": [{"name": "a"}]}, "either a format"),
        ({"datasets": [{"name": "a", "format": "abix"}]}, "did you mean 'abxi'"),
        ({"defaults": {"rank_of_nothing": 1}}, "rank_of_nothing"),
        ({"protocols": ["rating"]}, "no data set of its own"),
        ({"models": [{"name": "Biases"}]}, "no data set of its own has a protocol of its task"),
        ({"datasets": [{"name": "planted", "folder": "data", "protocols": ["rating"]}]}, "rating_domains"),
        ({"protocols": ["ful"]}, "did you mean 'full'"),
        ({"protocols": ["full", "full-cold"]}, "full-cold needs split: cold-item, not leave-one-out"),
        ({"datasets": [{"name": "a", "folder": "data", "split": "cold-itm"}]}, "did you mean 'cold-item'"),
        ({"datasets": [{"name": "a", "folder": "data", "split": "cold-item-0"}]}, "holds out 0 %"),
        ({"models": [{"name": "SASRec", "settings": {"split": "cold-item"}}]}, "split of the data set"),
        ({"models": [{"name": "SASRec", "settings": COLD}]}, "planted has leave-one-out"),
        ({"models": [{"name": "SASRec"}], "defaults": COLD}, "planted has leave-one-out"),
        ({"datasets": [PLANTED, {"name": "b", "same_as": "plantet"}]}, "did you mean 'planted'"),
        ({"datasets": [PLANTED, {"name": "b", "same_as": "b"}]}, "the same as another"),
        ({"datasets": [PLANTED, {"name": "b", "same_as": "planted", "folder": "data"}]}, "a folder, or same_as"),
        ({"datasets": [PLANTED, {"name": "b", "same_as": "planted", "embeddings": {}}]}, "embeddings of planted"),
        ({"datasets": [{**RATED, "split": "cold-user"}]}, "ratings have a split of their own"),
        (
            {"datasets": [{**PLANTED, "split": "cold-user"}], "models": [{"name": "recbole:GRU4Rec"}]},
            "know leave-one-out alone",
        ),
        ({"metric": "ndgc@10"}, "unknown metric"),
        ({"published": [{**PUBLISHED, "dataset": "other"}]}, "unknown data set 'other'"),
        ({"published": [{**PUBLISHED, "protocol": "sampled-999"}]}, "which this bench has not"),
        ({"tuning": {"trials": 3}}, "Markov has no space to tune in"),
        ({"models": [{"name": "SASRec", "space": RANGE}]}, "the bench has no tuning"),
        (
            {"tuning": {"trials": 3}, "models": [{"name": "SASRec", "space": {"dropuot": [0.1]}}]},
            "did you mean 'dropout'",
        ),
        (
            {"tuning": {"trials": 3}, "models": [{"name": "SASRec", "space": {"epochs": {"low": 3, "high": 2}}}]},
            "must be less than",
        ),
    ],
)
def test_faults(changes: dict[str, Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_config(tmp_path, **changes)
    before = sorted(tmp_path.rglob("*"))
    assert main(["bench", str(path), "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert not captured.out
    assert sorted(tmp_path.rglob("*")) == before


def test_faults_of_several_lines_are_told_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = [{"name": "SASRec", "settings": {"epocs": 1}}, {"name": "Markof"}]
    assert main(["bench", str(write_config(tmp_path, models=models)), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "'epochs'" in said
    assert "'Markov'" in said


def test_convert_options_are_those_of_the_command() -> None:
    known = {*vars(ReadOptions()), *vars(Filters()), "skip_bad"}
    assert set(ConvertOptions.model_fields) == known
    options = ConvertOptions(keep_last=3, columns={"user_id": "buyer"}, keep_overlap=0.25)
    assert options.reader() == ReadOptions(columns={"user_id": "buyer"})
    assert options.filters() == Filters(keep_last=3, keep_overlap=0.25)


def test_lines(tmp_path: Path) -> None:
    shared = {"embedding_dim": 8, "num_heads": 1}
    models = [{"name": "SASRec", "settings": TINY}, {"name": "SASRec", "label": "wide", "seeds": [5], "cap_cpu_s": 9}]
    data = [{"name": "planted", "folder": "data", "embeddings": {}, "ids": {}}]
    path = write_config(
        tmp_path, datasets=data, models=models, defaults=shared, all_models=True, cap_cpu_s=60, protocols=["full"]
    )
    lines = {line.label: line for line in make_lines(read_config(path))}
    assert set(lines) == {*MODELS, "wide"}
    assert lines["SASRec"].settings == {**shared, **TINY, "cap_cpu_s": 60}
    assert lines["wide"].settings == {**shared, "cap_cpu_s": 9}
    assert (lines["SASRec"].seeds, lines["wide"].seeds) == ((0, 1), (5,))
    assert lines["Markov"].seeds == (0,)  # counting gives the same with every seed
    assert lines["SASRec"].resolved(3)["training"]["seed"] == 3
    assert (lines["SemaCDR"].reads, lines["SemaCDRGen"].reads, lines["SASRec"].reads) == (("items",), ("ids",), ())


def test_one_folder_under_several_splits(tmp_path: Path) -> None:
    cold = {"name": "new-items", "same_as": "planted", "split": "cold-item", "protocols": ["full", "full-cold"]}
    path = write_config(tmp_path, datasets=[PLANTED, cold], models=[{"name": "Markov"}, {"name": "LLM4CDSR"}])
    lines = {(line.dataset, line.label): line for line in make_lines(read_config(path))}
    splits = {key[0]: line.resolved(0)["training"]["split"] for key, line in lines.items()}
    assert splits == {"planted": "leave-one-out", "new-items": "cold-item-10"}
    assert "split" not in lines["planted", "Markov"].settings  # such cells keep their names
    assert lines["new-items", "Markov"].protocols == ("full", "full-cold")
    assert lines["planted", "LLM4CDSR"].reads == ("items", "users")
    assert lines["new-items", "LLM4CDSR"].reads == ("items",)  # profiles of users tell of hidden events
    write_config(
        tmp_path, datasets=[PLANTED, cold], models=[{"name": "SASRec", "datasets": ["new-items"]}], defaults=COLD
    )
    (line,) = make_lines(read_config(path))
    assert line.resolved(0)["training"]["valid_protocol"] == "full-cold"


def test_the_code_of_a_model_counts_without_its_words(tmp_path: Path) -> None:
    import ast

    one = '"""Text."""\n\nclass A:\n    """Text."""\n    x: int = 1\n    """Text."""\n'
    two = "class A:\n    # another comment\n    x: int = 1\n"
    other = "class A:\n    x: int = 2\n"
    first, second, third = (ast.dump(without_docstrings(ast.parse(text))) for text in (one, two, other))
    assert first == second
    assert first != third
    assert len({code_version(module) for module in MODELS.values()}) == len(MODELS)


def test_the_code_of_a_model_is_also_that_of_its_helpers() -> None:
    def names(model: str) -> set[str]:
        return {name.removeprefix(ROOM) for name in own_code(MODELS[model])}

    assert names("SCoNet") > {"baselines.sconet", "baselines.conet"}
    assert "adapter" in names("SemaCDR")
    assert names("SASRec").isdisjoint({"adapter", "layers", "losses"})


def test_the_config_that_the_page_shows_is_valid(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "bench.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 2
    (tmp_path / "mine.yaml").write_text("\n".join(blocks))
    config = read_config(tmp_path / "mine.yaml")
    assert len(make_lines(config)) == len(config.datasets) * len(config.models) == 6
    assert config.published[0].values["books"]["ndcg@10"] == (0.197, 0.002)


def test_recboles_own_models_are_lines_without_recbole_being_loaded(tmp_path: Path) -> None:
    pytest.importorskip("recbole")
    own = {"name": "recbole:GRU4Rec", "settings": {"hidden_size": 8}, "cap_cpu_s": 60}
    config = write_config(tmp_path, models=[own], defaults={"epochs": 3, "num_layers": 2})
    code = f"""
import json, sys
from pathlib import Path
from semacdr.bench.bench import Bench
from semacdr.bench.config import read_config
path = Path({str(config)!r})
bench = Bench(read_config(path), path.parent / "out", path)
bench.look()
(line,) = bench.lines
(cell, other) = bench.cells(line)
assert "recbole" not in sys.modules, "recbole is loaded"
print(json.dumps([cell.identity, other.seed]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    identity, seed = json.loads(done.stdout)
    assert seed == 1  # trained by gradient, so another seed is another cell
    assert {key: identity["config"][key] for key in ("hidden_size", "epochs", "num_layers", "embedding_size")} == {
        "hidden_size": 8,  # of the line
        "epochs": 3,  # of the bench
        "num_layers": 2,
        "embedding_size": 64,  # RecBole's
    }
    assert identity["training"] == {"seed": 0, "device": "auto", "cap_cpu_s": 60.0, "split": "leave-one-out"}
    assert "recbole-1.2.1" in identity["code"]
    assert identity["tables"] == {}
