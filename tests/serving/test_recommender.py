"""Recommendations: what is excluded, what is refused, what a new item needs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from semacdr.cli import main
from semacdr.data.dataset import Dataset
from semacdr.embedding.build import build_table
from semacdr.embedding.encoder import SentenceEncoder
from semacdr.embedding.table import EmbeddingTable, write_table
from semacdr.errors import InputError
from semacdr.serving.recommender import RunRecommender
from semacdr.training.trainer import train
from tests.planted import write_planted

SMALL = {"embedding_dim": 32, "ffn_dim": 32, "num_layers": 1, "epochs": 3, "batch_size": 32, "learning_rate": 5e-3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    dataset = write_planted(folder / "data")
    build_table(dataset, SentenceEncoder(), folder / "table")
    train("SemaCDR", folder / "data", folder / "semacdr", folder / "table", {**SMALL, "adapter_dim": 32})
    train("SASRec", folder / "data", folder / "sasrec", None, SMALL)
    return folder


@pytest.fixture(scope="module")
def recommender(folder: Path) -> RunRecommender:
    return RunRecommender.load(folder / "semacdr")


def test_seen_items_and_other_domains_stay_out(recommender: RunRecommender) -> None:
    history = ["tea1", "pans3", "tea2"]
    found = recommender.recommend(history, "tea", k=100)
    assert len(found) == 22
    assert {item.domain for item in found} == {"tea"}
    assert not {item.item_id for item in found} & set(history)
    assert [item.score for item in found] == sorted((item.score for item in found), reverse=True)
    assert found[0].title == f"tea number {found[0].item_id[3:]}"


def test_a_user_is_its_history(recommender: RunRecommender) -> None:
    dataset: Dataset = recommender.dataset
    history = [str(dataset.item_ids[item]) for item in dataset.user_items(dataset.known_user("u9"))]
    assert recommender.recommend(user="u9", target_domain="tea") == recommender.recommend(history, "tea")


def test_an_empty_history_is_answered(recommender: RunRecommender) -> None:
    assert len(recommender.recommend([], "pans", k=3)) == 3
    assert recommender.thread_weights([], "pans") == {"source": 0.0, "target": 0.0, "mixed": 0.0}


def test_a_new_item_gets_the_place_of_its_text(recommender: RunRecommender) -> None:
    """Text equal to a known untrained item's gives that item's score: both are text alone."""
    untrained = "tea23"
    scores = {item.item_id: item.score for item in recommender.recommend(["tea1"], "tea", k=100)}
    new = recommender.new_item("tea number 23", "tea", ["tea1"])
    assert new.score == pytest.approx(scores[untrained], abs=1e-4)
    assert new.candidates == 23


def test_a_new_item_stands_beside_the_item_of_its_text(recommender: RunRecommender) -> None:
    """The item of equal text is at cosine one; neighbours are of the asked domain, nearest first, seen or not."""
    new = recommender.new_item("tea number 23", "tea", k=4)
    assert (new.score, new.rank, new.candidates) == (None, None, None)
    assert (new.neighbours[0].item_id, len(new.neighbours)) == ("tea23", 4)
    assert new.neighbours[0].score == pytest.approx(1, abs=1e-5)
    assert [item.score for item in new.neighbours] == sorted((item.score for item in new.neighbours), reverse=True)
    assert {item.domain for item in recommender.new_item("tea number 23", "pans", k=9).neighbours} == {"pans"}
    seen = recommender.new_item("tea number 23", "tea", ["tea23"], k=1)
    assert seen.neighbours[0].item_id == "tea23"


def test_a_new_item_needs_the_encoder_of_the_table(recommender: RunRecommender) -> None:
    made_with = recommender.run.table.manifest["encoder"]
    other = {**made_with, "weights_sha256": "0" * 64}
    local = {**made_with, "name": "mine", "revision": "local"}
    place = str(SentenceEncoder().folder.path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(recommender.run.table.manifest, "encoder", other)
        with pytest.raises(InputError, match="not the encoder"):
            recommender.new_item("green tea", "tea", ["tea1"])
        patch.setitem(recommender.run.table.manifest, "encoder", local)
        with pytest.raises(InputError, match="local encoder"):
            recommender.new_item("green tea", "tea", ["tea1"])
        told = recommender.new_item("green tea", "tea", ["tea1"], encoder=place)
    assert told == recommender.new_item("green tea", "tea", ["tea1"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"history": ["tea99"], "target_domain": "tea"}, "no item 'tea99'"),
        ({"user": "nobody", "target_domain": "tea"}, "no user 'nobody'"),
        ({"history": [], "target_domain": "te"}, "no domain 'te'"),
        ({"history": []}, "no target domain"),
        ({"target_domain": "tea"}, "either a history or a user"),
    ],
)
def test_refusals(recommender: RunRecommender, arguments: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        recommender.recommend(**arguments)  # type: ignore[arg-type]


def test_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(folder / "semacdr")
    assert main(["recommend", run, "--history", "tea1,pans2", "--target-domain", "tea", "--k", "3", "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert len(answer["items"]) == 3
    assert set(answer["thread_weights"]) == {"source", "target", "mixed"}
    assert main(["recommend", run, "--user", "u9"]) == 0
    printed = capsys.readouterr().out
    assert "tea number" in printed
    assert "pans number" in printed
    assert main(["recommend", run, "--user", "u9", "--target-domain", "tea", "--new-item", "a new tea"]) == 0
    printed = capsys.readouterr().out
    assert "would stand at place" in printed
    assert "cosine" in printed
    assert main(["recommend", run, "--new-item", "tea number 23", "--target-domain", "tea", "--k", "2", "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert answer["new_item"]["neighbours"][0]["item_id"] == "tea23"
    assert answer["thread_weights"] is None
    assert main(["recommend", run, "--target-domain", "tea"]) == 2
    assert "--history ID,ID,... or --user ID" in capsys.readouterr().err
    assert main(["recommend", run, "--history", "tea99", "--target-domain", "tea"]) == 2


@pytest.mark.parametrize("representation", ["semantic_id", "both"])
def test_a_new_item_enters_by_its_codes(folder: Path, representation: str) -> None:
    """Text equal to that of an untrained item has that item's codes, and so its score; so has a text of other codes."""
    ids = folder / "ids"
    main(["ids", "--embeddings", str(folder / "table"), "--out", str(ids), "--levels", "2", "--codes", "4"])
    settings = {**SMALL, "adapter_dim": 32, "item_representation": representation, "code_buckets": 64}
    run = train("SemaCDR", folder / "data", folder / representation, folder / "table", settings, ids=ids)
    recommender = RunRecommender.load(run)
    scores = {item.item_id: item.score for item in recommender.recommend(["tea1"], "tea", k=100)}
    new = recommender.new_item("tea number 23", "tea", ["tea1"])
    assert new.score == pytest.approx(scores["tea23"], abs=1e-4)
    other = recommender.new_item("a frying pan of iron", "tea", ["tea1"])
    assert other.score != pytest.approx(new.score, abs=1e-6)


def coded(folder: Path, name: str, ids: Path) -> RunRecommender:
    settings = {**SMALL, "epochs": 0, "item_representation": "semantic_id", "code_buckets": 64}
    return RunRecommender.load(train("SemaCDR", folder / "data", folder / name, folder / "table", settings, ids=ids))


def views_of(folder: Path, name: str, encoder: str | None, views: tuple[str, ...]) -> Path:
    """Semantic ids of the table's content as several views, by an encoder of another name if so wanted."""
    table = EmbeddingTable.load(folder / "table")
    made = {key: value for key, value in table.manifest.items() if key not in ("kind", "format_version", "text_dim")}
    if encoder is not None:
        made["encoder"] = {**made["encoder"], "weights_sha256": encoder}
    rows = {view: np.arange(len(table.item_ids)) for view in views}
    if "domain_agnostic" in rows:
        rows["domain_agnostic"][table.item_ids == "tea23"] = -1  # an item without a profile
    manifest = {**made, "views": list(views), "fingerprint": name}
    write_table(folder / f"{name}-table", table.item_ids, table.matrix("content"), rows, manifest)
    words = ["--embeddings", str(folder / f"{name}-table"), "--out", str(folder / f"{name}-ids")]
    assert main(["ids", *words, "--levels", "2", "--codes", "4"]) == 0
    return folder / f"{name}-ids"


def test_a_new_item_is_what_an_item_without_profile_is_to_the_ids(folder: Path) -> None:
    """Its other views are zero there. The ids are of another table than the run's, by the same encoder."""
    recommender = coded(folder, "two", views_of(folder, "two-views", None, ("content", "domain_agnostic")))
    scores = {item.item_id: item.score for item in recommender.recommend(["tea1"], "tea", k=100)}
    assert recommender.new_item("tea number 23", "tea", ["tea1"]).score == pytest.approx(scores["tea23"], abs=1e-4)


def test_a_new_item_wants_the_encoder_of_the_ids(folder: Path) -> None:
    """Codes of another encoder's vectors mean nothing, though the vectors may be as wide."""
    ids = views_of(folder, "foreign", "0" * 64, ("content",))
    with pytest.raises(InputError, match="text encoder") as error:
        coded(folder, "foreign", ids).new_item("tea number 23", "tea")
    assert "semacdr ids --embeddings" in str(error.value.fix)
    older = json.loads((ids / "manifest.json").read_text())
    del older["encoder"]
    (ids / "manifest.json").write_text(json.dumps(older))
    with pytest.raises(InputError, match="text encoder"):
        RunRecommender.load(folder / "foreign").new_item("tea number 23", "tea")


def test_ids_that_are_not_read_or_are_missing_or_moved(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids = folder / "moved-ids"
    main(["ids", "--embeddings", str(folder / "table"), "--out", str(ids), "--levels", "1", "--codes", "4"])
    base = ["train", "--dataset", str(folder / "data"), "--out", str(folder / "x")]
    assert main([*base, "--model", "SASRec", "--ids", str(ids)]) == 2
    assert "SASRec reads no semantic ids" in capsys.readouterr().err
    assert main([*base, "--model", "SemaCDR", "--ids", str(ids)]) == 2
    assert "under other settings of SemaCDR" in capsys.readouterr().err
    assert main([*base, "--model", "SemaCDR", "item_representation=semantic_id"]) == 2
    assert "semacdr ids --embeddings" in capsys.readouterr().err
    assert not (folder / "x").exists()
    run = train(
        "SemaCDR", folder / "data", folder / "coded", None, {**SMALL, "item_representation": "semantic_id"}, ids=ids
    )
    ids.rename(folder / "ids-elsewhere")
    words = ["recommend", str(run), "--history", "tea1", "--target-domain", "tea"]
    assert main(words) == 2
    assert "--ids DIR" in capsys.readouterr().err
    assert main([*words, "--ids", str(folder / "ids-elsewhere")]) == 0
    main(["ids", "--embeddings", str(folder / "table"), "--out", str(ids), "--levels", "1", "--codes", "5"])
    capsys.readouterr()
    assert main([*words, "--ids", str(ids)]) == 2
    assert "the ids have changed" in capsys.readouterr().err
