"""Items that came after the training: into the index by their texts, out of it, and beside it in a history."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from semacdr.cli import main
from semacdr.embedding.build import build_table
from semacdr.embedding.content import content_texts
from semacdr.embedding.encoder import SentenceEncoder
from semacdr.embedding.table import EmbeddingTable
from semacdr.errors import InputError
from semacdr.files import locked
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
    said = {"out": str(out), "added": 2, "removed": 2, "done_before": 0, "items": 48}
    assert json.loads(capsys.readouterr().out) == said
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
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    capsys.readouterr()
    assert main([*words, "--json"]) == 0  # as one does who does not know whether it was done
    assert json.loads(capsys.readouterr().out) == {**said, "added": 0, "removed": 0, "done_before": 4}
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    other = lines(tmp_path / "other.jsonl", {"item_id": "new", "domain": "tea", "text": "pans of iron"})
    assert main([*words[:4], "--add", str(other)]) == 2
    said_why = capsys.readouterr().err
    assert "there already with another text, title or domain: new" in said_why
    assert "--remove" in said_why
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
        ({"item_id": "tea3", "domain": "tea", "text": "green tea"}, "another text, title or domain: tea3"),
        ({"item_id": "tea3", "domain": "pans", "text": "green tea"}, "another text, title or domain: tea3"),
        ({"item_id": "a", "domain": "tea", "text": "green tea", "title": "half \ud800"}, "no text of use"),
        ("9" * 5000, "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ({"item_id": "b", "domain": "tea", "text": "green tea"}, "item 'b' stands there twice"),
        ({"item_id": "a", "domain": "tea", "titel": "green tea"}, "no text of use"),
        ({"item_id": "a", "domain": "tea", "year": 1999}, "no text of use"),
        ({"item_id": "a", "domain": "tea", "title": "half a \ud800"}, "no text of use"),
        ({"item_id": "a", "text": "green tea"}, "no domain of use"),
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
        (["--add", "."], "no file"),
        (["--remove", " , "], "nothing to add and nothing to remove"),
        (["--remove", "@nowhere.txt"], "no file to be read"),
    ],
)
def test_wrong_use(
    folder: Path, tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["index", str(folder / "semacdr"), "--out", str(tmp_path / "index")]
    assert main(base) == 0
    assert main([*base, *words]) == 2
    assert said in capsys.readouterr().err


def test_a_replaced_item_has_the_title_of_its_new_text(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In another domain too; an index from before titles were kept still opens."""
    out, base = tmp_path / "index", ["index", str(folder / "semacdr"), "--out", str(tmp_path / "index")]
    assert main(base) == 0
    titled = {"item_id": "tea5", "domain": "pans", "title": "Wok", "brand": "Acme", "categories": ["Pans", "Steel"]}
    file = lines(tmp_path / "a.jsonl", titled, {"item_id": "new", "domain": "tea", "text": "black tea " * 20})
    assert main([*base, "--remove", "tea5", "--add", str(file)]) == 0
    recommender = RunRecommender.load(folder / "semacdr", index=out)
    titles = {item.item_id: item.title for name in ("tea", "pans") for item in recommender.recommend([], name, k=99)}
    assert titles["tea5"] == "Wok"
    assert titles["new"] == ("black tea " * 10).strip()
    assert titles["tea6"] == recommender.titles[recommender.dataset.item_index["tea6"]]
    # the same again is done; a new title is another item
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    capsys.readouterr()
    assert main([*base, "--remove", "tea5", "--add", str(file)]) == 0
    assert "0 items added, 0 removed, 3 done before" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    file = lines(tmp_path / "b.jsonl", {"item_id": "new", "domain": "tea", "text": "black tea " * 20, "title": "Assam"})
    assert main([*base, "--add", str(file)]) == 2
    assert main([*base, "--add", str(file), "--remove", "new"]) == 0
    assert SearchIndex.load(out).added_title("new") == "Assam"
    index = SearchIndex.load(out)
    index.remove(["new"])
    index.add(["new"], np.ones((1, index.dim), np.float32), "tea")
    assert index.added_title("new") == ""
    with pytest.raises(ValueError, match="2 titles of 1 items"):
        index.add(["x"], np.ones((1, index.dim), np.float32), "tea", ["a", "b"])
    frame = pd.read_parquet(out / "items.parquet").drop(columns="title")
    frame.to_parquet(out / "items.parquet", index=False)
    assert SearchIndex.load(out).added_title("tea5") is None


def test_columns_make_the_text_that_the_catalogue_has(folder: Path, tmp_path: Path) -> None:
    row = {"item_id": "a", "domain": "tea", "title": "Sencha", "brand": "Acme", "categories": ["Tea", "Green"]}
    (found,) = read_new_items(lines(tmp_path / "a.jsonl", "\ufeff" + json.dumps(row)))
    (text,) = content_texts(pd.DataFrame([row]))
    assert (found.text, found.title) == (text, "Sencha")
    (null,) = read_new_items(lines(tmp_path / "b.jsonl", {**row, "text": None}))
    assert null == found
    told = {"item_id": "b", "domain": "tea", "text": "two\nlines\x1b[31m red"}
    (plain,) = read_new_items(lines(tmp_path / "c.jsonl", told))
    assert (plain.text, plain.title) == (told["text"], "two lines[31m red")
    assert text == "Sencha. Brand: Acme. Categories: Tea, Green"


def test_ids_of_a_file_are_taken_as_they_stand(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, base = tmp_path / "index", ["index", str(folder / "semacdr"), "--out", str(tmp_path / "index")]
    assert main(base) == 0
    index = SearchIndex.load(out)
    index.add(["a,b", " lead"], np.ones((2, index.dim), np.float32), "tea")
    index.save(out)
    (tmp_path / "gone.txt").write_text("a,b\n lead\r\n\ntea1")
    assert main([*base, "--remove", f"@{tmp_path / 'gone.txt'}"]) == 0
    left = SearchIndex.load(out)
    assert not any(item in left for item in ("a,b", " lead", "tea1"))
    (tmp_path / "had.txt").write_text("tea3\ntea4\n")
    words = ["recommend", str(folder / "semacdr"), "--target-domain", "tea", "--json"]
    capsys.readouterr()
    assert main([*words, "--history", f"@{tmp_path / 'had.txt'}"]) == 0
    from_file = capsys.readouterr().out
    assert main([*words, "--history", "tea3,tea4"]) == 0
    assert capsys.readouterr().out == from_file


def test_two_changes_at_once_are_both_made(folder: Path, tmp_path: Path) -> None:
    out, base = tmp_path / "index", ["index", str(folder / "semacdr"), "--out", str(tmp_path / "index")]
    assert main(base) == 0
    for at in range(3):
        lines(tmp_path / f"{at}.jsonl", {"item_id": f"new{at}", "domain": "tea", "text": f"tea of day {at}"})
    program = [sys.executable, "-m", "semacdr", *base]
    running = [subprocess.Popen([*program, "--add", str(tmp_path / f"{at}.jsonl")]) for at in range(3)]
    assert [process.wait(timeout=300) for process in running] == [0, 0, 0]
    index = SearchIndex.load(out)
    assert all(f"new{at}" in index for at in range(3))
    assert len(index) == 51


def test_a_damaged_index_is_built_anew(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, base = tmp_path / "index", ["index", str(folder / "semacdr"), "--out", str(tmp_path / "index")]
    assert main(base) == 0
    (out / "vectors_1.npy").unlink()
    capsys.readouterr()
    assert main(base) == 0  # the very command that recommend names
    assert "damaged" in capsys.readouterr().err
    assert len(SearchIndex.load(out)) == 48
    (out / "manifest.json").write_text("{")
    assert main(base) == 2
    assert f"delete {out}" in capsys.readouterr().err


def test_a_history_may_hold_what_was_added_and_is_gone(folder: Path, tmp_path: Path) -> None:
    out, base = tmp_path / "index", ["index", str(folder / "semacdr"), "--out", str(tmp_path / "index")]
    assert main(base) == 0
    file = lines(tmp_path / "a.jsonl", {"item_id": "new", "domain": "tea", "text": "black tea"})
    for words in (["--add", str(file)], ["--remove", "new"]):
        assert main([*base, *words]) == 0
        recommender = RunRecommender.load(folder / "semacdr", index=out)
        assert recommender.recommend(["tea3", "new"], "tea") != []
    with pytest.raises(InputError, match="no item 'newer'"):
        recommender.recommend(["newer"], "tea")


def test_a_build_waits_for_a_change(folder: Path, tmp_path: Path) -> None:
    out, base = tmp_path / "index", ["index", str(folder / "semacdr"), "--out", str(tmp_path / "index")]
    assert main(base) == 0
    with locked(out, lambda: None):
        index = SearchIndex.load(out)
        words = [sys.executable, "-m", "semacdr", *base, "--kind", "flat"]
        build = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert build.stderr is not None
        told = next(line for line in build.stderr if b"waiting for a change" in line or b"indexed" in line)
        assert b"waiting" in told
        index.remove(["tea1"])
        index.save(out)
    build.communicate(timeout=300)
    assert build.returncode == 0
    index = SearchIndex.load(out)
    assert (index.settings.kind, "tea1" in index) == ("flat", True)


def test_who_has_seen_all_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    everything = ",".join(f"tea{at}" for at in range(24))
    words = ["recommend", str(folder / "semacdr"), "--target-domain", "tea", "--history", everything]
    assert main(words) == 0
    assert "nothing left to recommend" in capsys.readouterr().out


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


def test_what_stands_beside_a_text_does_not_change_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last bits of a vector depend on its batch, and codes on the last bits."""
    placer, batches = ItemPlacer(RunRecommender.load(folder / "coded").run), []
    encode = placer.encoder.encode

    def spied(texts: list[str]) -> object:
        batches.append(list(texts))
        return encode(texts)

    monkeypatch.setattr(placer.encoder, "encode", spied)
    vectors = placer.vectors(["tea", "a much longer text about tea and pans", "tea"], [0, 0, 0])
    assert batches == [["tea"], ["a much longer text about tea and pans"]]
    np.testing.assert_array_equal(vectors[0], vectors[2])


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
