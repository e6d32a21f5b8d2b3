"""The index against brute force: ties, domains, seen items, additions and removals, files."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semacdr.data.schema import FloatArray, Int64Array
from semacdr.errors import InputError
from semacdr.serving.index import Hit, SearchIndex
from semacdr.serving.index_settings import index_settings
from tests.embedding.clustered import clustered

ROOT = Path(__file__).parents[2]
KINDS = ("exact", "flat", "ivf-pq", "hnsw")
DOMAINS = ("tea", "pans")
SMALL = {"ivf-pq": {"min_items": 256}, "hnsw": {"min_items": 256}}


def made(vectors: FloatArray, domain: Int64Array | None = None, kind: str = "exact", **extra: Any) -> SearchIndex:
    ids = [f"i{at}" for at in range(len(vectors))]
    where = np.zeros(len(vectors), np.int64) if domain is None else domain
    chosen = index_settings({"kind": kind, **SMALL.get(kind, {}), **extra})
    return SearchIndex.build(ids, where, vectors, DOMAINS, chosen)


def brute(
    vectors: FloatArray, query: FloatArray, k: int, allowed: Sequence[int] | None = None
) -> list[tuple[str, float]]:
    """Sorted in plain Python: higher scores first, then lower indices."""
    rows = range(len(vectors)) if allowed is None else allowed
    score = {row: float(np.float32(vectors[row].astype(np.float64) @ query.astype(np.float64))) for row in rows}
    return [(f"i{row}", score[row]) for row in sorted(rows, key=lambda row: (-score[row], row))[:k]]


def pairs(hits: Sequence[Hit]) -> list[tuple[str, float]]:
    return [(hit.item_id, hit.score) for hit in hits]


@settings(max_examples=60, derandomize=True, deadline=None)
@given(
    st.integers(1, 90),
    st.integers(1, 3),
    st.integers(1, 100),
    st.integers(1, 2),
    st.sampled_from(("exact", "flat")),
    st.integers(0, 10_000),
)
def test_exact_kinds_are_brute_force_with_ties_by_index(
    count: int, dim: int, k: int, spread: int, kind: str, seed: int
) -> None:
    """Small whole numbers: most scores tie, more of them than any slack of candidates holds."""
    random = np.random.default_rng(seed)
    vectors = random.integers(-spread, spread + 1, (count, dim)).astype(np.float32)
    queries = random.integers(-spread, spread + 1, (3, dim)).astype(np.float32)
    index = made(vectors, kind=kind)
    for query, hits in zip(queries, index.search(queries, k)):
        assert pairs(hits) == brute(vectors, query, k)


@pytest.mark.parametrize("kind", ["exact", "flat"])
def test_blocks_and_batches_change_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, queries = clustered(500, 24), clustered(30, 24, seed=1)
    vectors[250:] = vectors[:250]  # each score twice, where blocks round differently
    alone = [made(vectors, kind=kind).search(query[None], 7)[0] for query in queries]
    assert [pairs(hits) for hits in alone] == [brute(vectors, query, 7) for query in queries]
    monkeypatch.setattr("semacdr.serving.index_engines._ITEMS", 37)
    monkeypatch.setattr("semacdr.serving.index_engines._ITEMS_OF_ONE", 53)
    monkeypatch.setattr("semacdr.serving.index_engines._QUERIES", 8)
    monkeypatch.setattr("semacdr.serving.index_shard._BLOCK", 41)
    in_blocks = made(vectors, kind=kind)
    assert in_blocks.search(queries, 7) == alone
    assert [in_blocks.search(query[None], 7)[0] for query in queries] == alone


@pytest.mark.parametrize("kind", KINDS)
def test_only_coded_vectors_are_refined(kind: str) -> None:
    """8 times as many candidates where the engine knows its vectors roughly; elsewhere it ranks them truly."""
    index = made(clustered(600, 8), kind=kind)
    engine, asked = index.shards[0].engine, []
    search = engine.search

    def counted(queries: FloatArray, count: int, *rest: Any) -> Any:
        asked.append(count)
        return search(queries, count, *rest)

    engine.search = counted  # type: ignore[method-assign]
    index.search(clustered(1, 8), 10, "tea")
    assert asked == [(80 if kind == "ivf-pq" else 10) + 32]


@pytest.mark.parametrize("kind", ["flat", "ivf-pq", "hnsw"])
def test_a_search_does_not_look_for_faiss_again(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made(clustered(600, 8), kind=kind).save(tmp_path / "index")
    index = SearchIndex.load(tmp_path / "index")
    monkeypatch.setattr("semacdr.faiss_library.version", None)  # nothing about packages can be asked
    assert len(index.search(clustered(1, 8), 10)[0]) == 10


def test_lengths_are_looked_at_once_they_are_needed(tmp_path: Path) -> None:
    made(np.eye(4, dtype=np.float32)).save(tmp_path / "index")
    index = SearchIndex.load(tmp_path / "index")
    shard = index.shards[0]
    assert "_length" not in vars(shard), "the vectors stay on disk"
    assert shard._length == 1
    index.add(["long"], np.array([[0, 3, 0, 4]], np.float32), "tea")
    assert shard._length == 5


def test_near_ties_are_settled_by_the_true_scores() -> None:
    """Vectors that float32 sums cannot tell apart: the candidates do not suffice, and it is noticed."""
    random = np.random.default_rng(0)
    base = (100 * random.normal(size=96)).astype(np.float32)
    vectors = np.repeat(base[None], 400, axis=0)
    vectors[:, 0] += random.normal(size=400).astype(np.float32) * 1e-4
    index = made(vectors)
    assert pairs(index.search(base[None], 5)[0]) == brute(vectors, base, 5)
    assert index.rescued == 1
    far = clustered(400, 96)
    plain = made(far)
    assert pairs(plain.search(far[:9], 5)[4]) == brute(far, far[4], 5)
    assert plain.rescued == 0, "ordinary vectors need no second look"


@pytest.mark.parametrize("kind", ["ivf-pq", "hnsw"])
def test_approximate_kinds_find_nearly_all(kind: str) -> None:
    vectors, queries = clustered(3000, 16, centres=60), clustered(100, 16, centres=60, seed=0)
    exact, index = made(vectors), made(vectors, kind=kind)
    assert index.engines == {"tea": kind, "pans": "flat"}
    right, found = exact.search(queries, 10), index.search(queries, 10)
    recall = np.mean([len({h.item_id for h in a} & {h.item_id for h in b}) / 10 for a, b in zip(right, found)])
    assert recall >= 0.95
    truth = [dict(pairs(hits)) for hits in exact.search(queries, 3000)]
    assert all(all(truth[at][hit.item_id] == hit.score for hit in hits) for at, hits in enumerate(found)), (
        "scores are those of the true vectors"
    )
    assert index.rescued == 0


def test_fewer_probes_find_less() -> None:
    """So that the recall above is the engine's and not that of a search of everything."""
    vectors, queries = clustered(3000, 16, centres=60), clustered(100, 16, centres=60, seed=3)
    right = made(vectors).search(queries, 10)
    blind = made(vectors, kind="ivf-pq", probes=1, refine=1, code_bytes=1).search(queries, 10)
    recall = np.mean([len({h.item_id for h in a} & {h.item_id for h in b}) / 10 for a, b in zip(right, blind)])
    assert recall < 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_domains_and_seen_items_are_kept_out(kind: str) -> None:
    vectors, query = clustered(900, 8), clustered(4, 8, seed=2)
    domain = (np.arange(900) % 3 == 0).astype(np.int64)  # pans: 300 items
    index = made(vectors, domain, kind)
    assert index.engines["tea"] == kind
    for at, hits in enumerate(index.search(query, 10, "pans")):
        assert {hit.domain for hit in hits} == {"pans"}
        assert all(int(hit.item_id[1:]) % 3 == 0 for hit in hits)
        assert pairs(hits)[0] == brute(vectors, query[at], 1, np.flatnonzero(domain == 1).tolist())[0]
    every = index.search(query, 10)
    assert {hit.domain for hits in every for hit in hits} == {"tea", "pans"}
    assert all([hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True) for hits in every)
    seen = [[hit.item_id for hit in hits] + ["unknown"] for hits in every]
    seen[1] = []
    again = index.search(query, 10, exclude=seen)
    assert all(len(hits) == 10 for hits in again)
    assert not any({hit.item_id for hit in hits} & set(out) for hits, out in zip(again, seen))
    assert again[1] == every[1]
    if kind in ("exact", "flat"):
        assert pairs(again[0]) == brute(vectors, query[0], 20)[10:]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("left", [0, 1, 3])
def test_answers_never_come_up_short(kind: str, left: int) -> None:
    """All but a few items of a domain are seen: those few are the answer, wherever the engine would have looked."""
    vectors, query = clustered(600, 8), clustered(1, 8, seed=5)
    worst = [name for name, _ in brute(vectors, query[0], 600)[600 - left :]]
    seen = [f"i{row}" for row in range(600) if f"i{row}" not in worst]
    extra = {"probes": 1} if kind == "ivf-pq" else {"search_breadth": 1} if kind == "hnsw" else {}
    hits = made(vectors, kind=kind, **extra).search(query, 5, "tea", [seen])[0]
    assert pairs(hits) == brute(vectors, query[0], 5, [int(name[1:]) for name in worst])


@pytest.mark.parametrize("kind", ["ivf-pq", "hnsw"])
def test_an_engine_that_finds_too_few_is_rescued(kind: str) -> None:
    vectors, query = clustered(600, 8), clustered(1, 8, seed=5)
    index = made(vectors, kind=kind, **({"probes": 1} if kind == "ivf-pq" else {}))
    assert len(index.search(query, 400)[0]) == 400
    assert index.rescued == (1 if kind == "ivf-pq" else 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_tiny_domain(kind: str) -> None:
    vectors = clustered(600, 8)
    domain = np.zeros(600, np.int64)
    domain[[5, 70]] = 1
    index = made(vectors, domain, kind)
    query = vectors[:1]
    assert {hit.item_id for hit in index.search(query, 10, "pans")[0]} == {"i5", "i70"}
    assert [hit.item_id for hit in index.search(query, 10, "pans", [["i5"]])[0]] == ["i70"]
    assert index.search(query, 10, "pans", [["i5", "i70", "i1"]])[0] == []
    empty = made(vectors, np.zeros(600, np.int64), kind)
    assert empty.search(query, 3, "pans") == [[]]
    assert len(empty.search(query, 3)[0]) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_items_come_and_go_without_a_rebuild(kind: str, tmp_path: Path) -> None:
    vectors, new = clustered(600, 8), 3 * clustered(5, 8, seed=9)
    index = made(vectors, kind=kind)
    query = new[:1]
    index.add([f"n{at}" for at in range(5)], new, "tea")
    index.add(["p0"], new[:1], "pans")
    assert len(index) == 606
    assert "n3" in index
    best = index.search(query, 1, "tea")[0][0]
    assert best.score == pytest.approx(float(new[0] @ new[0]), rel=1e-6)
    assert best.item_id == "n0"
    assert [hit.item_id for hit in index.search(query, 3, "pans")[0]] == ["p0"]
    top = [hit.item_id for hit in index.search(query, 20, "tea")[0]]
    index.remove([top[0], top[5]])
    after = [hit.item_id for hit in index.search(query, 18, "tea")[0]]
    assert after == [item for item in top if item not in (top[0], top[5])]
    index.add([top[0]], new[:1], "tea")  # an id may come back
    assert index.search(query, 1, "tea")[0][0].item_id == top[0]
    index.save(tmp_path / "index")
    loaded = SearchIndex.load(tmp_path / "index")
    assert len(loaded) == len(index) == 605
    assert loaded.search(query, 30) == index.search(query, 30)
    loaded.remove([top[1]])
    loaded.add(["later"], new[:1] * 2, "tea")
    assert loaded.search(query, 1)[0][0].item_id == "later"
    loaded.save(tmp_path / "index")
    assert SearchIndex.load(tmp_path / "index").search(query, 30) == loaded.search(query, 30)


def test_what_was_changed_is_no_longer_what_was_built(tmp_path: Path) -> None:
    """The fingerprint names the items of a run, and the recall was measured on them."""
    vectors, known = clustered(20, 8), {"fingerprint": "f", "run": {"fingerprint": "r"}, "recall": {"k": 10}}
    for change in (lambda index: index.add(["new"], vectors[:1], "tea"), lambda index: index.remove(["i3"])):
        index = made(vectors)
        index.manifest.update(known)
        index.add([], vectors[:0], "tea")
        index.remove([])
        assert index.manifest == known
        change(index)
        index.save(tmp_path / "index")
        loaded = SearchIndex.load(tmp_path / "index", "r")
        assert not {"fingerprint", "recall"} & set(loaded.manifest)


@pytest.mark.parametrize("kind", KINDS)
def test_everything_may_be_removed(kind: str) -> None:
    vectors = clustered(300, 8)
    index = made(vectors, kind=kind)
    index.remove([f"i{at}" for at in range(300) if at != 7])
    assert [hit.item_id for hit in index.search(vectors[:2], 5)[1]] == ["i7"]
    index.remove(["i7"])
    assert len(index) == 0
    assert index.search(vectors[:2], 5) == [[], []]


def test_wrong_items_change_nothing() -> None:
    vectors = clustered(20, 8)
    index = made(vectors)
    with pytest.raises(InputError, match="already or given twice: i3"):
        index.add(["new", "i3"], vectors[:2], "tea")
    with pytest.raises(InputError, match="given twice"):
        index.add(["new", "new"], vectors[:2], "tea")
    with pytest.raises(InputError, match=r"where \(1, 8\)"):
        index.add(["new"], vectors[:1, :4], "tea")
    with pytest.raises(InputError, match="did you mean 'pans'"):
        index.add(["new"], vectors[:1], "pan")
    with pytest.raises(InputError, match="1 items are not in the index: x"):
        index.remove(["i1", "x"])
    with pytest.raises(InputError, match="not finite"):
        index.search(np.full((1, 8), np.inf, np.float32), 3)
    assert len(index) == 20


def test_ids_that_are_numbers_are_the_same_items_as_text() -> None:
    """A seen item that is named by its number must not come back, nor an item be there twice."""
    index = SearchIndex.build([7, 8, 9], np.array([0, 0, 1]), np.eye(3, dtype=np.float32), DOMAINS, index_settings({}))
    query = np.ones((1, 3), np.float32)
    assert [hit.item_id for hit in index.search(query, 5, exclude=[[7]])[0]] == ["8", "9"]
    assert 8 in index
    with pytest.raises(InputError, match="already or given twice: 7"):
        index.add([7], query, "tea")
    index.remove([8])
    assert [hit.item_id for hit in index.search(query, 5)[0]] == ["7", "9"]


def test_an_id_that_is_given_twice_is_not_indexed() -> None:
    """Only one of the two could be kept out as seen."""
    ids, domain, vectors = ["a", "b", "a"], np.zeros(3, np.int64), np.eye(3, dtype=np.float32)
    with pytest.raises(InputError, match="already or given twice: a"):
        SearchIndex.build(ids, domain, vectors, DOMAINS, index_settings({}))


def test_a_path_may_be_text(tmp_path: Path) -> None:
    made(clustered(20, 8)).save(str(tmp_path / "index"))
    assert len(SearchIndex.load(str(tmp_path / "index"))) == 20


def test_a_negative_number_of_items_is_refused() -> None:
    index = made(clustered(20, 8))
    with pytest.raises(InputError, match="k = -1"):
        index.search(clustered(1, 8), -1)
    assert index.search(clustered(1, 8), 0) == [[]]


def test_the_largest_seed() -> None:
    assert made(clustered(300, 8), kind="ivf-pq", seed=2**31 - 1).engines["tea"] == "ivf-pq"


def test_damaged_manifests_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "index"
    made(clustered(20, 8)).save(out)
    whole = json.loads((out / "manifest.json").read_text())
    damaged: list[Any] = [[whole], "index", None]
    damaged += [{key: value for key, value in whole.items() if key != gone} for gone in ("settings", "domains")]
    damaged += [{**whole, key: wrong} for key in ("settings", "domains", "engines") for wrong in (None, 3, [1], ["x"])]
    damaged += [{**whole, "settings": {"kind": "hnws"}}, {**whole, "settings": {"knid": "hnsw"}}]
    damaged += [{**whole, "engines": ["exact"]}, {**whole, "engines": ["exact", "exat"]}]
    for manifest in damaged:
        (out / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(InputError, match="index"):
            SearchIndex.load(out)
    for manifest in (whole, {**whole, "run": None}, {**whole, "run": "r"}, {**whole, "run": {}}):
        (out / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(InputError, match="another run"):
            SearchIndex.load(out, "r")
    (out / "manifest.json").write_text(json.dumps(whole))
    (out / "vectors_0.npy").write_bytes(b"")
    with pytest.raises(InputError, match="damaged index"):
        SearchIndex.load(out)


KILLED = """
import os, signal, sys
import semacdr.serving.index as module
from tests.embedding.clustered import clustered
from tests.serving.test_index import made
write = module.write_json
def die(path, value):
    write(path, value)
    os.kill(os.getpid(), signal.SIGKILL)
module.write_json = die
made(clustered(30, 8)).save(sys.argv[1])
"""


@pytest.mark.parametrize("older", [False, True])
def test_a_killed_call_leaves_what_was_there(tmp_path: Path, older: bool) -> None:
    out = tmp_path / "index"
    if older:
        made(clustered(20, 8)).save(out)
    command = [sys.executable, "-c", KILLED, str(out)]
    died = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    if older:
        assert len(SearchIndex.load(out)) == 20
    else:
        assert not out.exists()
    made(clustered(30, 8)).save(out)
    assert len(SearchIndex.load(out)) == 30
    assert [path.name for path in tmp_path.iterdir()] == ["index"], "what the dead process left is gone"


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_vectors_give_the_same_files(kind: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        made(clustered(400, 8), kind=kind).save(tmp_path / name)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert {"items.parquet", "manifest.json", "vectors_0.npy", "vectors_1.npy"} <= set(names)
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"kind": "hnws"}, "ivf-pq"),
        ({"kind": "hnsw", "probes": 3}, "without effect in an index of kind hnsw"),
        ({"links": 3}, "--kind hnsw"),
        ({"knid": "hnsw"}, "did you mean 'kind'"),
        ({"kind": "ivf-pq", "probes": 0}, "greater than or equal to 1"),
    ],
)
def test_wrong_settings(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        index_settings(values)


def test_a_code_size_that_does_not_divide() -> None:
    with pytest.raises(InputError, match="does not divide the 8 columns"):
        made(clustered(300, 8), kind="ivf-pq", code_bytes=3)
