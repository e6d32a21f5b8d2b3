"""The exact engine's blocks against a sort of everything, whatever order good rows come in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from semacdr.serving import index_engines
from semacdr.serving.index_engines import ExactEngine


@pytest.mark.parametrize("order", ["any", "rising", "falling", "equal"])
@pytest.mark.parametrize("queries", [1, 2, 13])
@pytest.mark.parametrize("dead", [0, 100, 690])
def test_the_best_of_all_blocks(order: str, queries: int, dead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_ITEMS", 64), ("_ITEMS_OF_ONE", 64), ("_QUERIES", 5)):
        monkeypatch.setattr(index_engines, name, value)
    sorts, topk = [], torch.topk

    def counted(scores: torch.Tensor, count: int) -> Any:
        sorts.append(scores.shape[1])
        return topk(scores, count)

    monkeypatch.setattr(torch, "topk", counted)
    random = np.random.default_rng(len(order) + queries + dead)
    asked = random.normal(size=(queries, 8)).astype(np.float32)
    asked[:, 0] = 1
    vectors = random.normal(size=(700, 8)).astype(np.float32)
    if order == "equal":
        vectors[:] = vectors[0]
    elif order != "any":  # the first coordinate decides
        steps = 100 * np.arange(700, dtype=np.float32)
        vectors[:, 0] = steps if order == "rising" else -steps
    alive = np.ones(700, np.bool_)
    alive[random.choice(700, dead, replace=False)] = False
    asked.setflags(write=False)  # as a map of a file is
    vectors.setflags(write=False)
    rows, scores = ExactEngine().search(asked, 10, vectors, alive)
    true = asked @ vectors.T
    assert rows.shape == scores.shape == (queries, 10)
    assert alive[rows].all()
    assert all(len(set(row)) == 10 for row in rows.tolist())
    np.testing.assert_allclose(scores, -np.sort(-true[:, alive])[:, :10], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(true, rows, 1), scores, rtol=1e-5, atol=1e-5)
    whole = [width for width in sorts if width >= 64]
    if order == "falling" and not dead:
        assert len(whole) == len(sorts) == -(-queries // 5), "nothing after the first block is sorted"
    if order == "any" and not dead:
        assert len(whole) < len(sorts), "a few hits are sorted without the rest of their block"


@pytest.mark.parametrize("count", [64, 65, 300, 700])
def test_more_answers_than_a_block_has(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_ITEMS", 64), ("_ITEMS_OF_ONE", 64), ("_QUERIES", 5)):
        monkeypatch.setattr(index_engines, name, value)
    random = np.random.default_rng(count)
    asked, vectors = random.normal(size=(7, 8)).astype(np.float32), random.normal(size=(700, 8)).astype(np.float32)
    rows, scores = ExactEngine().search(asked, count, vectors, np.ones(700, np.bool_))
    true = asked @ vectors.T
    assert rows.tolist() == np.argsort(-true, axis=1)[:, :count].tolist()
    np.testing.assert_allclose(scores, -np.sort(-true)[:, :count], rtol=1e-5, atol=1e-5)


def test_fewer_alive_than_asked_for() -> None:
    alive = np.array([False, True, True, False])
    rows, scores = ExactEngine().search(np.eye(1, 4, dtype=np.float32), 3, np.eye(4, dtype=np.float32), alive)
    assert sorted(rows[0].tolist()) == [-1, 1, 2]
    assert np.isneginf(scores[0, 2])


@pytest.mark.filterwarnings("error")
def test_read_only_arrays_are_searched_without_a_warning() -> None:
    asked, vectors = np.eye(2, 4, dtype=np.float32), np.eye(4, dtype=np.float32)
    asked.setflags(write=False)
    vectors.setflags(write=False)
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)  # else it says so once a process
    try:
        rows, _ = ExactEngine().search(asked, 1, vectors, np.ones(4, np.bool_))
    finally:
        torch.set_warn_always(before)
    assert rows.tolist() == [[0], [1]]
