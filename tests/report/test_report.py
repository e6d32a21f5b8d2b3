"""What a report holds: of a bench in any state, of runs, without titles, without its data, whatever the texts say."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from semacdr import run as run_folder
from semacdr.bench import bench as bench_module
from semacdr.bench.config import BenchConfig
from semacdr.cli import main
from semacdr.files import read_json, write_json
from semacdr.report import parts as parts_module
from semacdr.report import subject as subject_module
from semacdr.report.item_map import sample
from semacdr.report.page import page
from semacdr.report.parts import KEPT, without_folders
from semacdr.report.report import COLUMNS, report_data
from semacdr.report.subject import RunEntry, Subject, bench_subject
from tests.report.planted_bench import LABEL, MARKUP, titles

DIGITS = re.compile(r"number \d+")


class Scripts(HTMLParser):
    """The scripts of a page as a browser divides them: type -> text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: list[tuple[str, str]] = []
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.kind: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        self.kind = dict(attrs).get("type") or "" if tag == "script" else None

    def handle_data(self, data: str) -> None:
        if self.kind is not None:
            self.texts.append((self.kind, data))
            self.kind = None


def data_of(path: Path) -> dict[str, Any]:
    (block,) = [text for kind, text in Scripts(path.read_text(encoding="utf-8")).texts if kind == "application/json"]
    return json.loads(block)


def copied(bench: Path, to: Path) -> Path:
    shutil.copytree(bench, to / "out")
    return to / "out"


def test_a_text_cannot_end_the_block_it_stands_in() -> None:
    evil = {"title": MARKUP, "rows": [[f"<!-- {MARKUP} \u2028 {{{{ 7 * 7 }}}}"]], "semacdr": "0"}
    text = page(evil)
    found = Scripts(text)
    assert [kind for kind, _ in found.texts] == ["application/json", ""]
    assert json.loads(found.texts[0][1]) == evil
    assert "window.broken=1</script>" not in text
    assert "b" not in found.tags


def test_the_page_asks_for_nothing(bench: Path) -> None:
    text = (bench / "report.html").read_text(encoding="utf-8")
    assert all(link.startswith(("#", "data:")) for link in Scripts(text).links)
    assert "default-src 'none'" in text
    assert "@import" not in text
    assert "url(" not in text


def test_a_bench_has_everything(bench: Path) -> None:
    data = data_of(bench / "report.html")
    rows = [dict(zip(COLUMNS, row)) for row in data["rows"]]
    assert len(rows) == len(read_json(bench / "leaderboard.json"))
    assert {row["source"] for row in rows} == {"measured", "published"}
    assert [row["model"] for row in rows if row["status"] != "ok"] == ["no GPU"]
    assert data["lead"] == {"full": "ndcg@10", "sampled-100": "ndcg@10", "rating": "mse"}
    drawn = {(curve["model"], curve["metric"], curve["protocol"]) for curve in data["curves"]}
    assert drawn == {("SemaCDR", "ndcg@10", "full"), (LABEL, "ndcg@10", "full")}
    assert all([point[0] for point in curve["points"]] == [1, 2, 3] for curve in data["curves"])
    planted, shop = data["datasets"]
    assert [each["model"] for each in planted["maps"]] == ["SemaCDR", LABEL]
    for each, size in zip(planted["maps"], (48, 46)):  # an item without an event is known by its text alone
        assert len(each["items"]) == size
        assert len(each["x"]) == len(each["y"]) == len(each["domain"]) == size
        assert (min(each["x"]), max(each["x"])) == (0, 1)
    (weights,) = planted["weights"]
    for kind, parts in (("gates", {"content", "domain_agnostic"}), ("threads", {"source", "target", "mixed"})):
        assert set(weights[kind]) == {"tea", "pans"}
        for shares in weights[kind].values():
            assert set(shares) == parts
            assert sum(shares.values()) == pytest.approx(1, abs=1e-3)
    assert len(planted["examples"]) == 6
    for user in planted["examples"]:
        assert [each["model"] for each in user["models"]] == ["Markov", "SemaCDR", LABEL]
        for each in user["models"]:
            assert len(each["top"]) == 10
            assert not set(each["top"]) & set(user["history"])
            named = [planted["items"][item] for item in each["top"]]
            assert all(item.startswith(user["domain"]) for item in named)
    assert (shop["maps"], shop["examples"], shop["notes"]) == ([], [], [])


def test_examples_are_what_recommend_says(bench: Path) -> None:
    from semacdr.serving.recommender import RunRecommender

    planted = data_of(bench / "report.html")["datasets"][0]
    (run,) = (bench / "runs" / "planted" / "SemaCDR").iterdir()
    recommender = RunRecommender.load(run)
    for user in planted["examples"]:
        assert user["events"] == len(user["history"])  # short enough to stand there whole
        history = [planted["items"][item] for item in user["history"]]
        told = [item.item_id for item in recommender.recommend(history, user["domain"])]
        (mine,) = [each["top"] for each in user["models"] if each["model"] == "SemaCDR"]
        assert [planted["items"][item] for item in mine] == told


def test_without_titles_there_is_none(bench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert DIGITS.search((bench / "report.html").read_text(encoding="utf-8"))
    out = tmp_path / "page.html"
    assert main(["report", str(bench), "--no-titles", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    text = out.read_text(encoding="utf-8")
    assert not DIGITS.search(text)
    assert not [title for title in titles(bench) if title in text]
    (planted, _) = data_of(out)["datasets"]
    assert planted["item_titles"] is None
    assert len(planted["maps"]) == 2
    assert "tea1" in planted["items"]
    kept = list(bench.rglob(KEPT))
    assert len(kept) == 3
    assert not [path for path in kept if DIGITS.search(path.read_text(encoding="utf-8"))]


def test_the_config_of_a_bench_says_whether_titles_are_shown(bench: Path, tmp_path: Path) -> None:
    assert BenchConfig.model_fields["titles"].default is True
    out = copied(bench, tmp_path)
    whole = read_json(out / "bench.json")
    whole["config"]["titles"] = False
    write_json(out / "bench.json", whole)
    assert main(["report", str(out)]) == 0
    assert not DIGITS.search((out / "report.html").read_text(encoding="utf-8"))
    assert main(["report", str(out), "--titles"]) == 0
    assert DIGITS.search((out / "report.html").read_text(encoding="utf-8"))


def test_the_same_again_is_the_same_file_with_or_without_what_was_kept(bench: Path, tmp_path: Path) -> None:
    out = copied(bench, tmp_path)
    before = (out / "report.html").read_bytes()
    assert main(["report", str(out)]) == 0
    assert (out / "report.html").read_bytes() == before
    for kept in out.rglob(KEPT):
        kept.unlink()
    assert main(["report", str(out)]) == 0
    assert (out / "report.html").read_bytes() == before


def test_what_is_kept_of_other_weights_is_made_anew(bench: Path, tmp_path: Path) -> None:
    out = copied(bench, tmp_path)
    kept = next((out / "runs" / "planted" / "SemaCDR").rglob(KEPT))
    right = read_json(kept)
    write_json(kept, {"key": "of other weights", "parts": {**right["parts"], "examples": []}})
    assert main(["report", str(out)]) == 0
    assert read_json(kept) == right


def test_a_bench_that_is_half_finished(bench: Path, tmp_path: Path) -> None:
    out = copied(bench, tmp_path)
    whole = read_json(out / "bench.json")
    for cell in whole["cells"]:
        if cell["model"] in ("SemaCDR", "Biases"):
            shutil.rmtree(out / cell["run"])
            cell["state"] = "left"
    whole["cells"].append({**whole["cells"][0], "label": "untuned", "state": "left", "run": None})
    write_json(out / "bench.json", whole)
    rows = [row for row in read_json(out / "leaderboard.json") if row["model"] not in ("SemaCDR", "Biases")]
    write_json(out / "leaderboard.json", rows)
    assert main(["report", str(out)]) == 0
    data = data_of(out / "report.html")
    (note,) = data["notes"]
    assert note.startswith("3 of 6 cells are still to be run (1 of them cannot be looked up")
    assert [each["model"] for each in data["datasets"][0]["maps"]] == [LABEL]
    write_json(out / "leaderboard.json", [])
    write_json(out / "comparisons.json", [])
    assert main(["report", str(out)]) == 0  # nothing but a plan


def test_the_first_seed_with_weights_is_drawn(bench: Path, tmp_path: Path) -> None:
    """Those of a record have none."""
    out = copied(bench, tmp_path)
    whole = read_json(out / "bench.json")
    (cell,) = (cell for cell in whole["cells"] if cell["model"] == "SemaCDR" and cell["label"] != LABEL)
    shutil.copytree(out / cell["run"], out / "again")
    (out / cell["run"] / "model.safetensors").unlink()
    whole["cells"].append({**cell, "seed": 1, "run": "again"})
    write_json(out / "bench.json", whole)
    assert main(["report", str(out)]) == 0
    drawn = {each["model"]: each["seed"] for each in data_of(out / "report.html")["datasets"][0]["maps"]}
    assert drawn[cell["label"]] == 1


def test_data_that_are_gone_are_named(bench: Path, tmp_path: Path) -> None:
    shutil.copytree(bench.parent, tmp_path / "all")
    out = tmp_path / "all" / "out"
    for path in [*out.rglob("run.json"), *out.rglob(KEPT)]:
        if path.name == KEPT:
            path.unlink()
        else:
            manifest = read_json(path)
            write_json(path, {**manifest, "dataset": "/gone/far/shop-data"})
    assert main(["report", str(out)]) == 0
    planted = data_of(out / "report.html")["datasets"][0]
    assert planted["maps"] == planted["examples"] == []
    assert f"{LABEL}: no map, weights or examples, because shop-data is gone." in planted["notes"]
    assert "/gone/far" not in (out / "report.html").read_text(encoding="utf-8")
    assert len(data_of(out / "report.html")["rows"]) == len(read_json(out / "leaderboard.json"))
    assert main(["report", str(out), "--dataset", str(bench.parent / "data")]) == 0
    assert len(data_of(out / "report.html")["datasets"][0]["maps"]) == 2
    assert main(["report", str(out)]) == 0  # what is kept needs no data; of the items only the ids are known
    planted = data_of(out / "report.html")["datasets"][0]
    assert (len(planted["maps"]), planted["item_titles"]) == (2, None)
    assert planted["notes"] == ["No titles, because the data set is gone."]


def test_runs_are_reported_alone_and_together(bench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = {path.parent.parent.name: path.parent for path in (bench / "runs" / "planted").rglob("run.json")}
    rated = next((bench / "runs" / "shop").rglob("run.json")).parent
    out = tmp_path / "page.html"
    assert main(["report", str(runs["SemaCDR"]), "--out", str(out)]) == 0
    data = data_of(out)
    assert {row[COLUMNS.index("model")] for row in data["rows"]} == {"SemaCDR"}
    assert len(data["datasets"][0]["maps"]) == 1
    assert main(["report", str(runs["SemaCDR"]), str(runs["Markov"]), "--out", str(out)]) == 0
    data = data_of(out)
    assert data["title"] == "2 runs"
    assert {test["best"] for test in data["tests"]} == {"Markov"}
    assert main(["report", str(rated), "--out", str(out)]) == 0
    assert data_of(out)["lead"] == {"rating": "mse"}
    bare = tmp_path / "runs" / "bare"
    shutil.copytree(runs["SemaCDR"], bare)
    for name in ("evaluation.json", "metrics_long.json"):
        (bare / name).unlink()
    assert main(["report", str(tmp_path / "runs")]) == 0
    data = data_of(tmp_path / "runs" / "report.html")
    assert data["notes"] == ["SemaCDR: not evaluated yet; semacdr evaluate does it."]
    assert (data["rows"], len(data["curves"])) == ([], 1)
    capsys.readouterr()
    assert main(["report", str(tmp_path)]) == 2
    assert "neither a run folder nor a bench folder" in capsys.readouterr().err
    assert main(["report", str(bench), str(rated)]) == 2
    assert main(["report", str(tmp_path / "no")]) == 2


def test_only_the_best_models_are_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(parts_module, "_parts", lambda run, places: made.append(run.label) or {"map": None})
    monkeypatch.setattr(parts_module, "MODELS", 2)
    row = {"dataset": "d", "protocol": "full", "subset": "all", "domain": "all", "metric": "ndcg@10"}
    scores = enumerate((0.1, 0.3, 0.2, 0.4, 0.5))
    rows = [{**row, "model": f"m{at}", "mean": mean, "source": "measured"} for at, mean in scores]
    runs = tuple(RunEntry("d", f"m{at}", tmp_path / f"m{at}", seed) for at in range(5) for seed in (0, 1))
    for at in range(3):  # the best two have no weights here
        (tmp_path / f"m{at}").mkdir()
        (tmp_path / f"m{at}" / parts_module.WEIGHTS).touch()
    _, notes = parts_module.model_parts(Subject("t", rows, [], runs, {"full": "ndcg@10"}), "d", {})
    assert made == ["m1", "m2"]
    assert notes == [
        "Maps, weights and examples are those of the best 2 of 3 models.",
        "m4; m3: no map, weights or examples, because their weights are not kept here.",
    ]


def test_where_all_is_kept_no_torch_is_loaded_and_the_file_is_the_same(bench: Path, tmp_path: Path) -> None:
    out = tmp_path / "light.html"
    code = (
        "import sys\nfrom semacdr.cli import main\n"
        f"assert main(['report', {str(bench)!r}, '--out', {str(out)!r}]) == 0\n"
        "assert 'torch' not in sys.modules, 'torch'\n"
    )
    for seed in ("1", "2"):  # of the order of sets
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=environment)
        assert out.read_bytes() == (bench / "report.html").read_bytes()


def test_names_and_places() -> None:
    files = (subject_module.RUN, subject_module.CURVES, subject_module.BENCH, subject_module.LEADERBOARD)
    assert files == (run_folder.RUN, run_folder.LOG, bench_module.BENCH, bench_module.LEADERBOARD)
    assert subject_module.COMPARISONS == bench_module.COMPARISONS
    assert without_folders("/home/me/data set is gone, see ../x and 3/4") == "data set is gone, see ../x and 3/4"
    import numpy as np

    domain = np.concatenate([[-1], np.repeat([0, 1], [30, 10])])
    assert sample(domain, 40).tolist() == list(range(1, 41))
    few = sample(domain, 20)
    assert len(set(few.tolist())) == 20
    assert few.tolist() == sample(domain, 20).tolist()
    assert few.min() >= 1


def test_the_numbers_are_those_of_the_leaderboard(bench: Path) -> None:
    told = [dict(zip(COLUMNS, row)) for row in report_data(bench_subject(bench))["rows"]]
    assert [row | {"status": None} for row in told] == [
        {column: row[column] for column in COLUMNS} | {"status": None} for row in read_json(bench / "leaderboard.json")
    ]


def test_a_failure_names_no_folder_of_this_machine() -> None:
    row = {**dict.fromkeys(COLUMNS), "dataset": "d", "model": "m", "source": "measured", "seeds": 0}
    row["status"] = "InputError: /home/me/secret/table is gone"
    (told,) = report_data(Subject("t", [row], [], (), {}))["rows"]
    assert told[COLUMNS.index("status")] == "InputError: table is gone"


def test_the_data_set_given_is_for_its_own_runs_alone(
    bench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, foreign = copied(bench, tmp_path), tmp_path / "foreign"
    before = (out / "report.html").read_bytes()
    shutil.copytree(bench.parent / "data", foreign)
    items = pd.read_parquet(foreign / "items.parquet").assign(title="of other data")
    items.to_parquet(foreign / "items.parquet", index=False)
    manifest = read_json(foreign / "dataset.json")
    write_json(foreign / "dataset.json", {**manifest, "fingerprint": "another"})
    assert main(["report", str(out), "--dataset", str(foreign)]) == 2
    assert "not the data of these runs (planted, reviews)" in capsys.readouterr().err
    assert (out / "report.html").read_bytes() == before
    rated = read_json(bench.parent / "reviews" / "dataset.json")["fingerprint"]
    write_json(foreign / "dataset.json", {**manifest, "fingerprint": rated})
    assert main(["report", str(out), "--dataset", str(foreign)]) == 0  # that of the shop; the other has its own titles
    assert (out / "report.html").read_bytes() == before
    for kept in out.rglob(KEPT):
        kept.unlink()
    assert main(["report", str(out), "--dataset", str(foreign)]) == 0
    assert (out / "report.html").read_bytes() == before


def test_what_cannot_be_read_costs_its_part_alone(bench: Path, tmp_path: Path) -> None:
    shutil.copytree(bench.parent, tmp_path / "all")
    out = tmp_path / "all" / "out"
    kept = next((out / "runs" / "planted" / "SemaCDR").rglob(KEPT))
    right = kept.read_bytes()
    for broken in ("{", "[]", "{}", right.decode().replace('"examples"', '"exmaples"')):
        kept.write_text(broken)
        assert main(["report", str(out)]) == 0
        assert kept.read_bytes() == right
    kept.unlink()
    kept.mkdir()  # cannot be written
    weights = next((out / "runs" / "planted" / "Markov").rglob("model.safetensors"))
    weights.unlink()
    for path in out.rglob("run.json"):
        write_json(path, {**read_json(path), "dataset": str(tmp_path / "all" / "data")})
    assert main(["report", str(out)]) == 0
    planted = data_of(out / "report.html")["datasets"][0]
    assert [each["model"] for each in planted["maps"]] == ["SemaCDR", LABEL]
    assert planted["notes"] == ["Markov: no map, weights or examples, because its weights are not kept here."]
    table = tmp_path / "all" / "data" / "items.parquet"
    table.write_bytes(table.read_bytes()[:100])
    (bench_data := read_json(out / "bench.json"))["datasets"][0]["folder"] = None
    write_json(out / "bench.json", bench_data)
    assert main(["report", str(out)]) == 0
    (note,) = [each for each in data_of(out / "report.html")["datasets"][0]["notes"] if each.startswith("No titles")]
    assert "Parquet" in note
