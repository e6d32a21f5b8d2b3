"""``semacdr index`` and ``recommend --index`` as a user runs them; missing and clashing faiss."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest

import semacdr
from semacdr import faiss_library
from semacdr.cli import main
from semacdr.commands import doctor
from semacdr.errors import InputError
from semacdr.serving.build_index import run_fingerprint
from semacdr.serving.index import SearchIndex
from semacdr.serving.recommender import RunRecommender
from semacdr.training.trainer import train
from tests.planted import write_planted

SMALL = {"embedding_dim": 32, "ffn_dim": 32, "num_layers": 1, "epochs": 2, "batch_size": 32, "learning_rate": 5e-3}
KINDS = ("exact", "flat", "ivf-pq", "hnsw")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_planted(folder / "data", items=300, users=200)
    train("SASRec", folder / "data", folder / "sasrec", None, SMALL)
    train("SASRec", folder / "data", folder / "other", None, {**SMALL, "seed": 1})
    write_planted(folder / "uneven", items=300, users=30, length=240)
    train("SASRec", folder / "uneven", folder / "long", None, SMALL)
    train("Popularity", folder / "data", folder / "popularity", None, {})
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_index_then_recommend(folder: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = str(folder / "sasrec"), str(tmp_path / "index")
    build = ["index", run, "--kind", kind, "--out", out]
    build += {"ivf-pq": ["min_items=256", "probes=32"], "hnsw": ["min_items=256"]}.get(kind, [])
    assert main(build) == 0
    captured = capsys.readouterr()
    assert f"tea: {kind}, recall@10 " in captured.out
    assert "200 users" in captured.out
    ask = ["recommend", run, "--user", "u9", "--json", "--k", "5"]
    assert main(ask) == 0
    without = json.loads(capsys.readouterr().out)
    assert main([*ask, "--index", out]) == 0
    answers = json.loads(capsys.readouterr().out)
    for plain, searched in zip(without, answers, strict=True):
        names = [[item["item_id"] for item in answer["items"]] for answer in (plain, searched)]
        assert len(names[1]) == 5
        if kind in ("exact", "flat"):
            assert names[0] == names[1]
        for item in searched["items"]:
            assert item["title"].startswith(f"{searched['target_domain']} number")
    assert main([*build, "--json"]) == 0
    captured = capsys.readouterr()
    summary = json.loads(captured.out)
    assert summary["skipped"]
    assert "skipped" in captured.err
    assert summary["engines"] == {"tea": kind, "pans": kind}
    recall = summary["recall"]["domains"]
    assert set(recall) == {"tea", "pans"}
    assert all(share == 1 if kind in ("exact", "flat") else 0.8 <= share <= 1 for share in recall.values())


def test_the_index_stands_in_the_run_by_default(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", str(folder / "sasrec")]) == 0
    assert (folder / "sasrec" / "index" / "manifest.json").is_file()
    assert "tea: exact, recall@10 1.0000" in capsys.readouterr().out


def test_the_functions_are_the_commands(folder: Path, tmp_path: Path) -> None:
    index = semacdr.index(folder / "sasrec", tmp_path / "index", kind="flat")
    assert index.engines == {"tea": "flat", "pans": "flat"}
    plain = semacdr.recommender(folder / "sasrec").recommend(["tea1"], "tea")
    searched = semacdr.recommender(folder / "sasrec", tmp_path / "index").recommend(["tea1"], "tea")
    assert [item.item_id for item in searched] == [item.item_id for item in plain]


def test_another_runs_index_is_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "index")
    assert main(["index", str(folder / "other"), "--out", out]) == 0
    capsys.readouterr()
    assert main(["recommend", str(folder / "sasrec"), "--user", "u9", "--index", out]) == 2
    captured = capsys.readouterr()
    assert "the index of another run" in captured.err
    assert not captured.out
    assert main(["recommend", str(folder / "other"), "--user", "u9", "--index", out]) == 0


def test_a_run_that_moved_is_the_same_run(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "sasrec", tmp_path / "moved", ignore=shutil.ignore_patterns("index"))
    one, two = (RunRecommender.load(path).run for path in (folder / "sasrec", tmp_path / "moved"))
    other = RunRecommender.load(folder / "other").run
    assert run_fingerprint(one.path, one.manifest) == run_fingerprint(two.path, two.manifest)
    assert run_fingerprint(one.path, one.manifest) != run_fingerprint(other.path, other.manifest)


def test_seen_items_and_new_ones(folder: Path, tmp_path: Path) -> None:
    """A history of all tea but two: these are the answer; an item added to the index is recommended with no title."""
    out = tmp_path / "index"
    assert main(["index", str(folder / "sasrec"), "--out", str(out)]) == 0
    recommender = RunRecommender.load(folder / "sasrec", index=out)
    left = {"tea17", "tea203"}
    history = [f"tea{at}" for at in range(300) if f"tea{at}" not in left]
    assert {item.item_id for item in recommender.recommend(history, "tea")} == left
    plain = RunRecommender.load(folder / "sasrec").recommend(["tea1"], "tea", k=20)
    assert [item.item_id for item in recommender.recommend(["tea1"], "tea", k=20)] == [item.item_id for item in plain]
    assert recommender.recommend([], "pans", k=3) == RunRecommender.load(folder / "sasrec").recommend([], "pans", k=3)
    index = SearchIndex.load(out)
    vectors = recommender.run.model.prepared_items().numpy()
    row = recommender.dataset.known_item(plain[0].item_id)
    index.add(["fresh"], 2 * np.maximum(plain[0].score, 1) * vectors[row : row + 1], "tea")
    index.remove([plain[1].item_id])
    index.save(out)
    again = RunRecommender.load(folder / "sasrec", index=out).recommend(["tea1"], "tea", k=20)
    assert (again[0].item_id, again[0].title, again[0].domain) == ("fresh", None, "tea")
    assert [item.item_id for item in again[1:]] == [plain[0].item_id, *(item.item_id for item in plain[2:20])]


def test_an_index_with_other_items_is_made_again(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "index"
    build = ["index", str(folder / "sasrec"), "--out", str(out), "--json"]
    assert main(build) == 0
    index = SearchIndex.load(out)
    index.remove(["tea3"])
    index.save(out)
    capsys.readouterr()
    assert main(["recommend", str(folder / "sasrec"), "--user", "u9", "--index", str(out)]) == 0
    capsys.readouterr()
    assert main(build) == 0
    assert json.loads(capsys.readouterr().out)["skipped"] is False
    assert "tea3" in SearchIndex.load(out)


def test_the_recall_is_that_of_the_answers(folder: Path, tmp_path: Path) -> None:
    """A rough index, and users with histories of all lengths: each is asked for alone, as a user of the index asks."""
    out = tmp_path / "index"
    rough = {"min_items": 256, "lists": 1, "code_bytes": 1, "refine": 1}
    measured = semacdr.index(folder / "long", out, kind="ivf-pq", **rough).manifest["recall"]
    assert measured["users"] == 30
    semacdr.index(folder / "long", tmp_path / "exact")
    rough_one, exact = (RunRecommender.load(folder / "long", index=path) for path in (out, tmp_path / "exact"))
    for domain, recall in measured["domains"].items():
        shares = []
        for user in rough_one.dataset.user_ids:
            found, best = (
                {item.item_id for item in one.recommend(user=str(user), target_domain=domain)}
                for one in (rough_one, exact)
            )
            shares.append(len(found & best) / len(best))
        assert recall == round(float(np.mean(shares)), 4)
        assert recall < 1


def test_equal_scores_stand_in_the_order_of_the_items(folder: Path) -> None:
    recommender = RunRecommender.load(folder / "popularity")
    found = recommender.recommend([], "tea", k=300)
    place = recommender.dataset.item_index
    assert found == sorted(found, key=lambda item: (-item.score, place[item.item_id]))
    assert len({item.score for item in found}) < 100, "ties"
    assert recommender.recommend([], "tea", k=7) == found[:7]


def test_a_negative_number_of_items_is_refused(folder: Path, tmp_path: Path) -> None:
    semacdr.index(folder / "sasrec", tmp_path / "index")
    for index in (None, tmp_path / "index"):
        with pytest.raises(InputError, match="k = -1"):
            semacdr.recommender(folder / "sasrec", index).recommend(["tea1"], "tea", k=-1)


def test_a_new_item_needs_no_index(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["recommend", str(folder / "sasrec"), "--user", "u9", "--target-domain", "tea"]
    assert main([*command, "--new-item", "a new tea", "--index", str(tmp_path / "none")]) == 2
    assert "--new-item looks into no index" in capsys.readouterr().err


def test_models_without_vectors_are_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", str(folder / "popularity"), "--out", str(tmp_path / "index")]) == 2
    said = capsys.readouterr().err
    assert "Popularity does not score by the inner product" in said
    assert "without --index" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--kind", "hnws"], "hnsw"),
        (["links=3"], "--kind hnsw"),
        (["--kind", "ivf-pq", "min_items=256", "code_bytes=3"], "does not divide the 32 columns"),
    ],
)
def test_wrong_use(
    folder: Path, tmp_path: Path, extra: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["index", str(folder / "sasrec"), "--out", str(tmp_path / "index"), *extra]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_other_folders_are_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(folder / "sasrec")
    assert main(["recommend", run, "--user", "u9", "--index", run]) == 2
    assert "not an index" in capsys.readouterr().err
    (tmp_path / "letter.txt").write_text("dear")
    assert main(["index", run, "--out", str(tmp_path)]) == 2
    assert "left as it is" in capsys.readouterr().err
    assert main(["index", run, "--kind", "flat", "--out", str(tmp_path / "index")]) == 0
    (tmp_path / "index" / "engine_0.faiss").write_bytes(b"half")
    assert main(["recommend", run, "--user", "u9", "--index", str(tmp_path / "index")]) == 2
    assert "damaged index" in capsys.readouterr().err


def test_without_faiss_exact_works_and_the_rest_says_what_is_missing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)  # as if it were not there
    assert main(["index", str(folder / "sasrec"), "--out", str(tmp_path / "exact")]) == 0
    assert main(["recommend", str(folder / "sasrec"), "--user", "u9", "--index", str(tmp_path / "exact")]) == 0
    capsys.readouterr()
    assert main(["index", str(folder / "sasrec"), "--kind", "hnsw", "--out", str(tmp_path / "hnsw")]) == 2
    said = capsys.readouterr().err
    assert "faiss is not installed" in said
    assert "semacdr[ann]" in said
    assert not (tmp_path / "hnsw").exists()


def test_two_builds_of_faiss_clash(monkeypatch: pytest.MonkeyPatch) -> None:
    def there(name: str) -> str:
        if name not in ("faiss-cpu", "faiss-gpu"):
            raise PackageNotFoundError(name)
        return "1.15.1"

    assert faiss_library.faiss_clash() is None
    monkeypatch.setattr(faiss_library, "version", there)
    with pytest.raises(InputError, match="faiss-cpu and faiss-gpu: all own the package faiss"):
        faiss_library.load_faiss()
    assert any("faiss-cpu and faiss-gpu" in problem for problem in doctor.problems())


def test_doctor_advises_no_second_build(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor"])
    assert "pip install 'semacdr[gpu]' once faiss-cpu is uninstalled" in capsys.readouterr().out


@pytest.mark.parametrize("order", ["import faiss, torch", "import torch, faiss"])
def test_faiss_and_torch_live_in_one_process(order: str) -> None:
    """Two OpenMP libraries: whichever comes first, both work, and give the same answer."""
    program = f"""
{order}
import numpy as np
x = np.random.default_rng(0).normal(size=(500, 16)).astype("float32")
right = (torch.from_numpy(x) @ torch.from_numpy(x).T).topk(5).indices.numpy()
index = faiss.IndexFlatIP(16)
index.add(x)
found = index.search(x, 5)[1]
again = (torch.from_numpy(x) @ torch.from_numpy(x).T).topk(5).indices.numpy()
assert (right == found).all() and (again == right).all()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stderr
