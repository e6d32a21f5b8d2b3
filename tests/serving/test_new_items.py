"""Items that came after the training: into the index by their texts, out of it, and beside it in a history."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from semacdr.cli import main
from semacdr.embedding.build import build_table
from semacdr.embedding.encoder import SentenceEncoder
from semacdr.embedding.table import EmbeddingTable
from semacdr.errors import InputError
from semacdr.serving.index import SearchIndex
from semacdr.serving.new_items import ItemPlacer, read_new_items
from semacdr.serving.recommender import RunRecommender
from semacdr.training.trainer import train
from tests.planted import write_planted

SMALL = {"embedding_dim": 32, "ffn_dim": 32, "num_layers": 1, "epochs": 1, "batch_size": 32}
CODES = {**SMALL, "item_representation": "semantic_id", "code_buckets": 64}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    build_table(write_planted(folder / "data"), SentenceEncoder(), folder / "table")
    train("SemaCDR", folder / "data", folder / "semacdr", folder / "table", {**SMALL, "adapter_dim": 32})
    train("SemaCDR", folder / "data", folder / "of-ids", None, SMALL)
    train("SASRec", folder / "data", folder / "sasrec", None, SMALL)
    words = ["--embeddings", str(folder / "table"), "--levels", "2", "--codes", "12"]
    assert main(["ids", *words, "--out", str(folder / "ids"), "collisions=sinkhorn"]) == 0
    train("SemaCDR", folder / "data", folder / "coded", None, CODES, ids=folder / "ids")
    return folder


def lines(path: Path, *items: object) -> Path:
    path.write_text("\n".join(item if isinstance(item, str) else json.dumps(item) for item in items) + "\n\n")
    return path


@pytest.mark.parametrize("run", ["semacdr", "coded"])
def test_a_text_enters_the_index_and_leaves_it(
    folder: Path, tmp_path: Path, run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Untrained items are text or codes alone, so a new item of such an item's text has its score."""
    out = tmp_path / "index"
    assert main(["index", str(folder / run), "--out", str(out)]) == 0
    today = lines(
        tmp_path / "today.jsonl",
        {"item_id": "new", "domain": "tea", "text": "tea number 23"},
        {"item_id": 7, "domain": "pans", "text": "pans of iron", "price": 3},
    )
    words = ["index", str(folder / run), "--out", str(out), "--add", str(today), "--remove", "tea1,tea2,tea1"]
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"out": str(out), "added": 2, "removed": 2, "items": 48}
    recommender = RunRecommender.load(folder / run, index=out)
    found = {item.item_id: item.score for item in recommender.recommend(["tea3"], "tea", k=100)}
    assert found["new"] == pytest.approx(found["tea23"], abs=1e-4)
    assert not found.keys() & {"tea1", "tea2", "7"}
    assert "7" in {item.item_id for item in recommender.recommend([], "pans", k=100)}
    # one who has it is asked as without it, and does not get it again
    again = {item.item_id: item.score for item in recommender.recommend(["tea3", "new"], "tea", k=100)}
    assert again == {item: score for item, score in found.items() if item != "new"}
    with pytest.raises(InputError, match="no item 'newer'"):
        recommender.recommend(["newer"], "tea")
    assert main(words) == 2  # it is there already
    assert len(SearchIndex.load(out)) == 48
    assert main([*words[:4], "--remove", "new"]) == 0
    assert "new" not in SearchIndex.load(out)
    capsys.readouterr()
    assert main(words[:4]) == 0
    assert "built anew, without these changes" in capsys.readouterr().err
    assert len(SearchIndex.load(out)) == 48


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ('{"item_id": "a"', "line 2"),
        ({"item_id": "a", "domain": "tea"}, "line 2"),
        ({"item_id": "a", "domain": "tea", "text": "  "}, "line 2"),
        (["a", "tea", "green tea"], "line 2"),
        ({"item_id": None, "domain": "tea", "text": "green tea"}, "line 2"),
        ({"item_id": True, "domain": "tea", "text": "green tea"}, "line 2"),
        ({"item_id": "a,b", "domain": "tea", "text": "green tea"}, "ids without commas"),
        ({"item_id": "a", "domain": "tea", "text": ["green", "tea"]}, "line 2"),
        ({"item_id": "a", "domain": "tea", "text": "half a \ud800"}, "line 2"),
        ({"item_id": "a", "domain": "te", "text": "green tea"}, "did you mean 'tea'"),
        ({"item_id": "tea3", "domain": "tea", "text": "green tea"}, "there already or given twice: tea3"),
        ({"item_id": "b", "domain": "tea", "text": "green tea"}, "there already or given twice: b"),
    ],
)
def test_wrong_lines_change_nothing(
    folder: Path, tmp_path: Path, item: object, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "index"
    assert main(["index", str(folder / "semacdr"), "--out", str(out)]) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    file = lines(tmp_path / "today.jsonl", {"item_id": "b", "domain": "tea", "text": "black tea"}, item)
    capsys.readouterr()
    assert main(["index", str(folder / "semacdr"), "--out", str(out), "--add", str(file), "--remove", "tea1"]) == 2
    assert said in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--remove", "tea99"], "not in the index: tea99"),
        (["--remove", "tea1", "--kind", "flat"], "leave its kind and settings out"),
        (["--encoder", "x"], "--encoder is for --add"),
        (["--add", "nowhere.jsonl"], "no such file"),
        (["--remove", " , "], "nothing to add and nothing to remove"),
    ],
)
def test_wrong_use(
    folder: Path, tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["index", str(folder / "semacdr"), "--out", str(tmp_path / "index")]
    assert main(base) == 0
    assert main([*base, *words]) == 2
    assert said in capsys.readouterr().err


def test_lines_end_at_line_ends_alone(tmp_path: Path) -> None:
    """Other breaks stand inside texts, and may stand there as they are."""
    item = {"item_id": 7, "domain": " tea", "text": "one\u2028two\x85three"}
    (found,) = read_new_items(lines(tmp_path / "a.jsonl", json.dumps(item, ensure_ascii=False)))
    assert (found.item_id, found.domain, found.text) == ("7", "tea", item["text"])
    (tmp_path / "b.jsonl").write_bytes(json.dumps({**item, "text": "caf\xe9"}, ensure_ascii=False).encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        read_new_items(tmp_path / "b.jsonl")


def test_why_a_model_places_no_text_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="SASRec has no vector for an item outside"):
        RunRecommender.load(folder / "sasrec").new_item("green tea", "tea")
    with pytest.raises(InputError, match="trained without texts and semantic ids"):
        RunRecommender.load(folder / "of-ids").new_item("green tea", "tea")


def test_codes_alone_place_a_text_by_the_encoder_of_the_ids(folder: Path, tmp_path: Path) -> None:
    """A run without a table of embeddings; ids by Sinkhorn, whose items may have other codes than their nearest."""
    recommender = RunRecommender.load(folder / "coded")
    assert recommender.run.table is None
    ids, content = recommender.run.ids, EmbeddingTable.load(folder / "table").matrix("content")
    assert ids is not None
    moved = (ids.nearest(content) != ids.codes[:, :-1]).any(1)  # by re-assignment
    assert moved.any()
    placer = ItemPlacer(recommender.run)
    first, second = placer.vectors(["tea number 23", "tea number 23"], [0, 0])
    np.testing.assert_array_equal(first, second)
    for name in ids.item_ids[moved]:
        (vector,) = placer.vectors([f"{name.rstrip('0123456789')} number {name.strip('teapns')}"], [0])
        codes = torch.from_numpy(ids.codes_of([name])[:, :-1]).long()
        with torch.no_grad():
            expected = placer.model.items.new_vectors({}, torch.tensor([0]), codes)[0]
        np.testing.assert_allclose(vector, expected.numpy(), atol=1e-6)
    older = tmp_path / "ids"
    shutil.copytree(folder / "ids", older)
    manifest = json.loads((older / "manifest.json").read_text())
    del manifest["encoder"]
    (older / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="do not say by which text encoder"):
        RunRecommender.load(folder / "coded", ids=older).new_item("green tea", "tea")


def test_saving_replaces_an_index_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    out, run = tmp_path / "index", tmp_path / "run"
    assert main(["index", str(folder / "semacdr"), "--out", str(out)]) == 0
    shutil.copytree(folder / "semacdr", run)
    index = SearchIndex.load(out)
    index.remove(["tea1"])
    with pytest.raises(InputError, match="it is left as it is"):
        index.save(run)
    assert (run / "model.safetensors").is_file()
    index.save(out)
    assert "tea1" not in SearchIndex.load(out)
