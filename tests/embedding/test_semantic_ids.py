"""Ids are unique and lead back to their items; new items; statistics; the folder; the command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import semacdr
from semacdr.cli import main
from semacdr.data.schema import FloatArray
from semacdr.embedding.build_ids import build_ids
from semacdr.embedding.id_input import Preparation, fit_preparation, table_input
from semacdr.embedding.id_settings import IdSettings, id_settings
from semacdr.embedding.id_statistics import code_counts, entropy_bits, reconstruction_error
from semacdr.embedding.quantiser import Quantiser, fit_quantiser
from semacdr.embedding.semantic_ids import SemanticIds
from semacdr.embedding.table import EmbeddingTable
from semacdr.errors import InputError
from tests.embedding.clustered import clustered, id_input
from tests.planted import write_planted, write_vectors

ROOT = Path(__file__).parents[2]
FEW_STEPS = {"steps": 30, "hidden_dims": [16], "code_dim": 4}


def with_duplicates(count: int = 150) -> FloatArray:
    """Some items without text, some with the text of others."""
    vectors = clustered(count)
    vectors[10:13] = vectors[9]
    vectors[20:24] = 0
    return vectors


@pytest.mark.parametrize("collisions", ["token", "sinkhorn"])
@pytest.mark.parametrize("method", [{"method": "rq-kmeans"}, {"method": "rq-vae", **FEW_STEPS}, {"pca": 3}])
def test_encode_then_decode_is_the_item(tmp_path: Path, method: dict[str, Any], collisions: str) -> None:
    vectors = with_duplicates()
    chosen = id_settings({**method, "levels": 2, "codes": 8, "collisions": collisions})
    found = build_ids(id_input(vectors), tmp_path / "ids", chosen)
    ids = SemanticIds.load(tmp_path / "ids")
    assert ids.codes.shape == (150, 3)
    assert len(np.unique(ids.codes, axis=0)) == 150
    assert ids.decode(ids.encode(vectors)) == list(ids.item_ids)
    alone = [ids.decode(ids.encode(row[None]))[0] for row in vectors]
    first = [str(ids.item_ids[9]) if 9 <= at < 13 else f"i{20 if 20 <= at < 24 else at}" for at in range(150)]
    assert alone == first, "one at a time, equal vectors are the first item that has them"
    rate = found["collision_rate"]["all"]
    assert rate["after"] <= rate["before"]
    if collisions == "token":
        np.testing.assert_array_equal(ids.codes[:, :-1], ids.nearest(vectors))
        assert rate["after"] == rate["before"]
    else:
        assert rate["after"] < rate["before"]


@settings(max_examples=25, derandomize=True, deadline=None)
@given(
    arrays(np.float32, st.tuples(st.integers(1, 25), st.integers(1, 3)), elements=st.integers(-2, 2)),
    st.integers(1, 12),
    st.sampled_from(["token", "sinkhorn"]),
    st.booleans(),
)
def test_ids_of_anything_are_unique(
    tmp_path_factory: pytest.TempPathFactory, vectors: FloatArray, codes: int, collisions: str, normalise: bool
) -> None:
    out = tmp_path_factory.mktemp("any") / "ids"
    chosen = IdSettings(levels=2, codes=codes, collisions=collisions, normalise=normalise, kmeans="scikit-learn")
    if not vectors.any():
        with pytest.raises(InputError, match="no item has a vector"):
            build_ids(id_input(vectors), out, chosen)
        return
    build_ids(id_input(vectors), out, chosen)
    ids = SemanticIds.load(out)
    assert len(np.unique(ids.codes, axis=0)) == len(vectors)
    assert ids.decode(ids.encode(vectors)) == list(ids.item_ids)
    assert ids.decode(ids.codes) == list(ids.item_ids)


def test_lookups(tmp_path: Path) -> None:
    vectors = clustered(60)
    build_ids(id_input(vectors), tmp_path / "ids", IdSettings(levels=2, codes=4))
    ids = SemanticIds.load(tmp_path / "ids")
    np.testing.assert_array_equal(ids.codes_of(["i7", "i2"]), ids.codes[[7, 2]])
    first = int(ids.codes[7, 0])
    assert ids.with_prefix([first]) == [f"i{at}" for at in np.flatnonzero(ids.codes[:, 0] == first)]
    assert ids.with_prefix(ids.codes[7].tolist()) == ["i7"]
    with pytest.raises(InputError, match="2 of 3 items have no semantic id, for example 'x'") as error:
        ids.codes_of(["x", "i7", "y"])
    assert "semacdr ids" in str(error.value.fix)
    with pytest.raises(InputError, match=r"where \(n, 8\) is needed"):
        ids.encode(np.zeros((2, 9), np.float32))
    with pytest.raises(InputError, match="not finite"):
        ids.encode(np.full((1, 8), np.nan, np.float32))


def test_each_view_weighs_the_same() -> None:
    vectors = np.array([[3, 4, 1000, 0], [0, 0, 0, 2]], np.float32)
    prepared = Preparation((2, 2), True)(vectors)
    np.testing.assert_allclose(prepared, [[0.6, 0.8, 1, 0], [0, 0, 0, 1]], rtol=1e-6)
    np.testing.assert_array_equal(Preparation((2, 2), False)(vectors), vectors)


def test_principal_components_are_those_of_the_covariance() -> None:
    random = np.random.default_rng(0)
    vectors = (random.normal(size=(300, 5)) * [5, 1, 3, 0.1, 0.2] + 7).astype(np.float32)
    vectors[4] = 0
    prepare = fit_preparation(vectors, [5], IdSettings(normalise=False, pca=2))
    full = np.delete(vectors, 4, axis=0).astype(np.float64)
    values, axes = np.linalg.eigh(np.cov(full.T))
    prepared = prepare(vectors)
    np.testing.assert_allclose(np.var(np.delete(prepared, 4, axis=0), axis=0, ddof=1), values[:-3:-1], rtol=1e-3)
    np.testing.assert_allclose(np.abs(np.sum(prepare.axes * axes[:, :-3:-1], axis=0)), 1, rtol=1e-4)
    assert not prepared[4].any()


@pytest.mark.parametrize("pca", [None, 32])
def test_memory_is_little_more_than_the_vectors(pca: int | None) -> None:
    vectors = np.random.default_rng(0).normal(size=(60_000, 64)).astype(np.float32)
    vectors[::7] = 0
    prepare = fit_preparation(vectors, [32, 32], IdSettings(pca=pca))
    width = pca or 64
    books = [np.zeros((2, width), np.float32), np.ones((2, width), np.float32)]
    codes = np.zeros((len(vectors), 2), np.int32)
    peaks = []
    for call in (
        lambda: prepare(vectors),
        lambda: reconstruction_error(Quantiser(prepare, books), vectors, codes),
    ):
        tracemalloc.start()
        call()
        peaks.append(tracemalloc.get_traced_memory()[1] / vectors.nbytes)
        tracemalloc.stop()
    assert peaks[0] < 2, "the answer, and a block"
    assert peaks[1] < 1


def test_errors_are_of_items_with_vectors_and_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = with_duplicates()
    quantiser = fit_quantiser(vectors, [8], IdSettings(levels=2, codes=4, pca=5))
    codes, full = quantiser.codes(vectors), vectors.any(axis=1)
    prepared = quantiser.prepare(vectors)
    right = [
        np.square(prepared[full] - quantiser.decode(codes[full, :level])).sum() / np.square(prepared).sum()
        for level in (1, 2)
    ]
    np.testing.assert_allclose(reconstruction_error(quantiser, vectors, codes), right, rtol=1e-5)
    monkeypatch.setattr("semacdr.embedding.id_input.BLOCK", 7)
    monkeypatch.setattr("semacdr.embedding.id_statistics.BLOCK", 11)
    np.testing.assert_allclose(quantiser.prepare(vectors), prepared, atol=1e-6)
    np.testing.assert_allclose(reconstruction_error(quantiser, vectors, codes), right, rtol=1e-5)


def test_counts_and_entropy_by_hand() -> None:
    codes = np.array([[0, 1], [0, 1], [2, 0], [1, 1]], np.int32)
    counts = code_counts(codes, np.array([0, 1, 1, -1]), [3, 2], 2)
    assert counts.shape == (2, 3, 2)
    assert counts[0].tolist() == [[1, 1], [0, 0], [0, 1]]
    assert counts[1].tolist() == [[0, 1], [1, 1], [0, 0]]
    np.testing.assert_allclose(
        entropy_bits(np.array([[1, 1, 0, 0], [5, 0, 0, 0], [0, 0, 0, 0], [2, 1, 1, 0]])), [1, 0, 0, 1.5]
    )


def test_statistics_by_hand(tmp_path: Path) -> None:
    """Two tight pairs and a lone item on an axis each, and one code too few for the last two."""
    dataset = write_planted(tmp_path / "data", items=3, users=20)  # tea0 tea1 tea2 pans0 pans1 pans2
    vectors = np.zeros((6, 3), np.float32)
    vectors[[0, 3], 0] = 1  # tea0 and pans0 are alike
    vectors[[1, 2], 1] = 1  # tea1 and tea2 are alike
    vectors[4, 2] = 1  # pans1
    given = id_input(vectors)
    given = type(given)(dataset.item_ids[1:], vectors, given.widths, given.source)  # pans2 has no text
    found = build_ids(given, tmp_path / "ids", IdSettings(levels=2, codes=4), dataset)
    assert found["items"] == 6
    assert found["without_vector"] == 1
    assert found["codes"] == [3, 1]
    assert found["used"] == [3, 1]
    assert found["utilisation"]["all"] == [0.75, 0.25], "of the four that were asked for"
    assert found["utilisation"]["tea"] == [0.5, 0.25]
    assert found["utilisation"]["pans"] == [0.5, 0.25]
    assert found["collision_rate"]["all"] == {"before": 0.8, "after": 0.8}
    assert found["collision_rate"]["tea"] == {"before": 1, "after": 1}
    assert found["collision_rate"]["pans"] == {"before": 0.5, "after": 0.5}
    assert found["entropy_bits"]["all"] == [round(2 * 0.4 * np.log2(2.5) + 0.2 * np.log2(5), 6), 0]
    assert found["entropy_bits"]["pans"] == [1, 0]
    assert found["shared_codes"] == [round(1 / 3, 6), 1]
    assert found["items_in_shared_codes"] == [0.4, 1]
    assert found["reconstruction_error"] == [0, 0]
    assert found["last_token_size_with_vector"] == 2
    shared = found["examples"][0]
    assert shared["titles"] == {"pans": ["pans number 0"], "tea": ["tea number 0"]}
    assert shared["items"] == {"pans": 1, "tea": 1}


def test_items_with_vectors_have_the_first_tokens(tmp_path: Path) -> None:
    """Rows without a vector stand ahead of the others and get the codes of one of them, but never its token."""
    vectors = np.array([[0, 0], [0, 0], [0, 0], [0.1, 0], [5, 0], [0.1, 0]], np.float32)
    found = build_ids(id_input(vectors), tmp_path / "ids", IdSettings(levels=1, codes=2, normalise=False))
    ids = SemanticIds.load(tmp_path / "ids")
    assert len(set(ids.codes[[0, 1, 2, 3, 5], 0].tolist())) == 1
    assert ids.codes[:, 1].tolist() == [2, 3, 4, 0, 0, 1]
    assert found["last_token_size_with_vector"] == 2
    assert found["last_token_size"] == 5
    assert ids.decode(ids.encode(vectors)) == list(ids.item_ids)


@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize("method", [{}, {"method": "rq-vae", **FEW_STEPS}])
def test_vectors_that_are_all_alike(tmp_path: Path, count: int, method: dict[str, Any]) -> None:
    """Less their mean nothing is left to project, so there is nothing to miss."""
    vectors = np.tile(np.array([[1, 2, 2]], np.float32), (count, 1))
    found = build_ids(id_input(vectors), tmp_path / "ids", id_settings({"levels": 2, "codes": 4, "pca": 1, **method}))
    assert found["reconstruction_error"] == [0, 0]
    assert SemanticIds.load(tmp_path / "ids").decode(SemanticIds.load(tmp_path / "ids").codes)[-1] == f"i{count - 1}"


@pytest.mark.parametrize("engine", ["faiss", "scikit-learn"])
def test_the_largest_seed(tmp_path: Path, engine: str) -> None:
    chosen = IdSettings(levels=2, codes=4, seed=2**31 - 1, kmeans=engine)
    assert build_ids(id_input(clustered(60)), tmp_path / "ids", chosen)["items"] == 60


def test_same_inputs_are_left_and_changed_ones_are_not(tmp_path: Path) -> None:
    vectors, out = clustered(60), tmp_path / "ids"
    first = build_ids(id_input(vectors), out, IdSettings(codes=4))
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.iterdir()}
    assert sorted(before) == ["codebooks.safetensors", "ids.parquet", "manifest.json"]
    again = build_ids(id_input(vectors), out, IdSettings(codes=4))
    assert again.pop("skipped")
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.iterdir()} == before
    build_ids(id_input(vectors), tmp_path / "other", IdSettings(codes=4))
    assert {p.name: p.read_bytes() for p in (tmp_path / "other").iterdir()} == {n: b for n, (b, _) in before.items()}
    for source, chosen in (
        (id_input(vectors, "changed"), IdSettings(codes=4)),
        (id_input(vectors), IdSettings(codes=5)),
    ):
        other = build_ids(source, out, chosen)
        assert not other["skipped"]
        assert other["fingerprint"] != first["fingerprint"]


KILLED = """
import os, signal, sys
import semacdr.embedding.semantic_ids as module
from semacdr.embedding.build_ids import build_ids
from semacdr.embedding.id_settings import IdSettings
from tests.embedding.clustered import clustered, id_input
from pathlib import Path
write = module.write_json
def die(path, value):
    write(path, value)
    os.kill(os.getpid(), signal.SIGKILL)
module.write_json = die
build_ids(id_input(clustered(60)), Path(sys.argv[1]), IdSettings(codes=4))
"""


def test_a_killed_call_leaves_nothing_that_is_taken_for_whole(tmp_path: Path) -> None:
    out = tmp_path / "ids"
    command = [sys.executable, "-c", KILLED, str(out)]
    died = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ})
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert not out.exists()
    with pytest.raises(InputError, match="no semantic ids"):
        SemanticIds.load(out)
    assert not build_ids(id_input(clustered(60)), out, IdSettings(codes=4))["skipped"]
    assert [path.name for path in tmp_path.iterdir()] == ["ids"], "what the dead process left is gone"


def test_damaged_ids_are_made_anew(tmp_path: Path) -> None:
    given, chosen = id_input(clustered(60)), IdSettings(levels=2, codes=4)
    build_ids(given, tmp_path / "ids", chosen)
    whole = (tmp_path / "ids" / "ids.parquet").read_bytes()
    (tmp_path / "ids" / "ids.parquet").write_bytes(whole[:50])
    assert not build_ids(given, tmp_path / "ids", chosen)["skipped"]
    assert (tmp_path / "ids" / "ids.parquet").read_bytes() == whole
    assert build_ids(given, tmp_path / "ids", chosen)["skipped"]


def test_damaged_and_foreign_folders_are_refused(tmp_path: Path) -> None:
    vectors, out = clustered(60), tmp_path / "ids"
    build_ids(id_input(vectors), out, IdSettings(codes=4))
    (out / "codebooks.safetensors").write_bytes(b"half")
    with pytest.raises(InputError, match="damaged semantic ids"):
        SemanticIds.load(out)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="left as it is"):
        build_ids(id_input(vectors), tmp_path / "mine", IdSettings(codes=4))


def test_damaged_manifests_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "ids"
    build_ids(id_input(clustered(60)), out, IdSettings(codes=4))
    whole = json.loads((out / "manifest.json").read_text())
    damaged: list[Any] = [[whole], "ids", None]
    damaged += [{key: value for key, value in whole.items() if key != gone} for gone in ("widths", "settings")]
    damaged += [{**whole, key: wrong} for key in ("widths", "settings") for wrong in (None, 3, "x", [1])]
    damaged += [{**whole, "widths": {"content": "wide"}}, {**whole, "settings": {**whole["settings"], "codes": "many"}}]
    damaged += [{**whole, "settings": {**whole["settings"], "levels": 4}}]
    for manifest in damaged:
        (out / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(InputError, match="semantic ids"):
            SemanticIds.load(out)
    (out / "manifest.json").write_text(json.dumps(whole))
    frame = pd.read_parquet(out / "ids.parquet")
    for column in frame.columns:
        frame.drop(columns=column).to_parquet(out / "ids.parquet", index=False)
        with pytest.raises(InputError, match="damaged semantic ids"):
            SemanticIds.load(out)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ids")
    dataset = write_planted(folder / "data")
    write_vectors(folder / "table", dataset, ("content", "domain_agnostic"))
    return folder


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["ids", "--embeddings", str(folder / "table"), "--out", str(tmp_path / "ids"), "--codes", "8"]
    assert main([*command, "--dataset", str(folder / "data"), "--collisions", "sinkhorn", "pca=6"]) == 0
    printed = capsys.readouterr().out
    assert "level 3" in printed
    assert "entropy, bits (tea)" in printed
    assert "tea number" in printed
    assert main([*command, "--dataset", str(folder / "data"), "--collisions", "sinkhorn", "pca=6", "--json"]) == 0
    captured = capsys.readouterr()
    assert "skipped" in captured.err
    found = json.loads(captured.out)
    assert found["skipped"] is True
    assert found["items"] == 48
    assert set(found["entropy_bits"]) == {"all", "tea", "pans"}
    frame = pd.read_parquet(tmp_path / "ids" / "ids.parquet")
    assert list(frame.columns) == ["item_id", "domain", "codes", "vector_hash"]
    assert set(frame["domain"]) == {"tea", "pans"}
    assert str(tmp_path) not in (tmp_path / "ids" / "manifest.json").read_text()
    ids = SemanticIds.load(tmp_path / "ids")
    joined = table_input(EmbeddingTable.load(folder / "table")).vectors
    assert joined.shape == (48, 32)
    assert ids.decode(ids.encode(joined)) == list(ids.item_ids)


def test_titles_stay_out_where_they_are_not_wanted(folder: Path, tmp_path: Path) -> None:
    command = ["ids", "--embeddings", str(folder / "table"), "--out", str(tmp_path / "ids"), "--codes", "8"]
    command += ["--dataset", str(folder / "data")]
    manifest = tmp_path / "ids" / "manifest.json"
    assert main(command) == 0
    assert "tea number" in manifest.read_text()
    codes = SemanticIds.load(tmp_path / "ids").codes
    assert main([*command, "--no-titles"]) == 0
    assert "number" not in manifest.read_text()
    np.testing.assert_array_equal(SemanticIds.load(tmp_path / "ids").codes, codes)


def test_the_function_is_the_command(folder: Path, tmp_path: Path) -> None:
    table = EmbeddingTable.load(folder / "table")
    ids = semacdr.semantic_ids(table, tmp_path / "ids", semacdr.load(folder / "data"), codes=8, views=["content"])
    assert ids.levels == 3
    assert ids.decode(ids.encode(table.matrix("content"))) == list(ids.item_ids)


def test_views_and_no_data_set(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["ids", "--embeddings", str(folder / "table"), "--out", str(tmp_path / "ids"), "--views", "content"]
    assert main([*command, "--method", "rq-vae", "steps=5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "shared_codes" not in found
    assert set(found["entropy_bits"]) == {"all"}
    ids = SemanticIds.load(tmp_path / "ids")
    assert ids.manifest["widths"] == {"content": 16}
    assert list(ids.domains) == [None] * 48


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--views", "contents"], "content"),
        (["--views", "content,content"], "name each view once"),
        (["--method", "rq-means"], "rq-kmeans"),
        (["--levels", "0"], "greater than or equal to 1"),
        (["cods=8"], "did you mean 'codes'"),
        (["steps=8"], "without effect unless method is rq-vae"),
        (["sinkhorn_rounds=2"], "--collisions sinkhorn"),
        (["pca=33"], "32 columns"),
        (["--method", "rq-vae", "hidden_dims=[0]"], "widths are at least 1"),
        (["--dataset", "nothing"], "not a data set folder"),
    ],
)
def test_wrong_use(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str], said: str
) -> None:
    assert main(["ids", "--embeddings", str(folder / "table"), "--out", str(tmp_path / "ids"), *extra]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
