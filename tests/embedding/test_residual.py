"""Residual quantisation by hand, k-means codebooks, Sinkhorn against plain loops, last tokens."""

from __future__ import annotations

import math
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from semacdr.data.schema import FloatArray
from semacdr.embedding.collisions import colliding, last_tokens, running_index, sinkhorn, spread_last_level
from semacdr.embedding.id_settings import IdSettings
from semacdr.embedding.residual import nearest, quantise, reconstruct, squared_distances
from semacdr.embedding.residual_kmeans import fit_codebook, fit_residual_kmeans
from tests.embedding.clustered import clustered

KMEANS = ("faiss", "scikit-learn")


def test_quantised_by_hand() -> None:
    books = [
        np.array([[0, 0], [10, 0], [0, 10]], np.float32),
        np.array([[1, 1], [-1, -1], [2, 0]], np.float32),
    ]
    vectors = np.array([[11.5, 0.25], [-1, 9.5], [0.6, 0.6]], np.float32)
    # [11.5, .25] -> (10, 0), rest (1.5, .25): distances .8125, 7.8125, .3125 -> (2, 0), rest (-.5, .25)
    # [-1, 9.5] -> (0, 10), rest (-1, -.5): 6.25, .25, 9.25 -> (-1, -1), rest (0, .5)
    # [.6, .6] -> (0, 0), rest itself: .32, 5.12, 2.32 -> (1, 1), rest (-.4, -.4)
    codes, residual = quantise(vectors, books)
    assert codes.tolist() == [[1, 2], [2, 1], [0, 0]]
    np.testing.assert_allclose(residual, [[-0.5, 0.25], [0, 0.5], [-0.4, -0.4]], atol=1e-6)
    np.testing.assert_array_equal(reconstruct(codes, books), [[12, 0], [-1, 9], [1, 1]])
    np.testing.assert_array_equal(reconstruct(codes[:, :1], books), [[10, 0], [0, 10], [0, 0]])


def test_the_first_of_equally_near_entries_is_taken() -> None:
    book = np.array([[5, 5], [1, 0], [-1, 0], [1, 0]], np.float32)
    assert nearest(np.zeros((3, 2), np.float32), book).tolist() == [1, 1, 1]


def test_a_code_depends_on_its_vector_alone() -> None:
    """Entries that float32 products cannot tell apart: far from zero, a hair from each other."""
    random = np.random.default_rng(0)
    base = 100 + random.normal(size=(1, 96))
    book = (base + 1e-3 * random.normal(size=(64, 96))).astype(np.float32)
    vectors = (base + 1e-3 * random.normal(size=(500, 96))).astype(np.float32)
    right = squared_distances(vectors, book).argmin(axis=1)
    np.testing.assert_array_equal(nearest(vectors, book), right)
    np.testing.assert_array_equal([nearest(row[None], book)[0] for row in vectors], right)
    product = (np.square(book).sum(1) - 2 * vectors @ book.T).argmin(axis=1)
    assert (product != right).any(), "the case is too easy to show anything"


small = arrays(np.float32, st.tuples(st.integers(1, 40), st.integers(1, 4)), elements=st.integers(-3, 3))


@settings(max_examples=60, derandomize=True, deadline=None)
@given(small, st.integers(1, 9), st.integers(1, 4), st.sampled_from(KMEANS))
def test_each_level_lowers_the_error(vectors: FloatArray, codes: int, levels: int, engine: str) -> None:
    books = fit_residual_kmeans(vectors, IdSettings(levels=levels, codes=codes, kmeans=engine))
    found, residual = quantise(vectors, books)
    errors = [float(np.square(vectors).sum())]
    for level in range(1, levels + 1):
        errors.append(float(np.square(vectors - reconstruct(found[:, :level], books)).sum()))
    assert all(after <= before + 1e-4 * (1 + before) for before, after in pairwise(errors))
    assert errors[-1] == pytest.approx(float(np.square(residual).sum()), abs=1e-3)
    assert all(1 <= len(book) <= codes for book in books)


@pytest.mark.parametrize("engine", KMEANS)
def test_codebooks_are_those_of_the_clusters(engine: str) -> None:
    """Six far clusters and six codes: the centres are the clusters' means, and a seed gives them to the bit."""
    random = np.random.default_rng(1)
    label = np.repeat(np.arange(6), 50)
    vectors = (20 * np.eye(6)[label] + random.normal(size=(300, 6))).astype(np.float32)
    chosen = IdSettings(codes=6, kmeans=engine, seed=2)
    book = fit_codebook(vectors, 6, chosen, 2)
    means = np.stack([vectors[label == at].mean(axis=0) for at in range(6)])
    assert squared_distances(means, book).min(axis=1).max() < 1e-8
    vectors = clustered(500)
    first, second = (fit_residual_kmeans(vectors, IdSettings(codes=16, kmeans=engine)) for _ in range(2))
    assert all(a.tobytes() == b.tobytes() for a, b in zip(first, second))
    other = fit_residual_kmeans(vectors, IdSettings(codes=16, kmeans=engine, seed=1))
    assert first[0].tobytes() != other[0].tobytes()


@pytest.mark.parametrize("engine", KMEANS)
def test_centres_that_died_are_revived(engine: str) -> None:
    """Many vectors in few tight clusters, where faiss leaves half of the centres without a vector."""
    random = np.random.default_rng(0)
    middles = random.normal(size=(60, 32))
    vectors = (middles[random.integers(60, size=5000)] + 1e-4 * random.normal(size=(5000, 32))).astype(np.float32)
    book = fit_codebook(vectors, 256, IdSettings(codes=256, kmeans=engine), 0)
    assert len(book) == 256
    assert len(np.unique(nearest(vectors, book))) == 256


@pytest.mark.parametrize("engine", KMEANS)
def test_rows_that_stand_often_are_one_centre_each(engine: str) -> None:
    """Seventy-two different rows, each three hundred times: as many centres as were asked for all the same."""
    random = np.random.default_rng(0)
    middles = np.repeat(random.normal(size=(12, 16)), 6, axis=0)
    rows = (middles + 1e-3 * random.normal(size=(72, 16))).astype(np.float32)
    book = fit_codebook(np.repeat(rows, 300, axis=0), 64, IdSettings(codes=64, kmeans=engine), 0)
    assert len(np.unique(nearest(rows, book))) == len(book) == 64


def test_fewer_vectors_than_codes_are_their_own_centres() -> None:
    vectors = np.array([[1, 2], [3, 4], [1, 2], [-0.0, 0], [0, 0]], np.float32)
    books = fit_residual_kmeans(vectors, IdSettings(levels=2, codes=8))
    np.testing.assert_array_equal(books[0], [[1, 2], [3, 4], [0, 0]])
    np.testing.assert_array_equal(books[1], [[0, 0]])


@pytest.mark.parametrize("codes", [1, 4096])
def test_memory_does_not_grow_with_the_codebook(codes: int) -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(3000, 64)).astype(np.float32)
    book = random.normal(size=(codes, 64)).astype(np.float32)
    peaks = []
    for call in (lambda: squared_distances(vectors[:100], book), lambda: nearest(vectors, book)):
        tracemalloc.start()
        call()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert max(peaks) < 100 << 20


def plain_sinkhorn(distance: list[list[float]], epsilon: float, iterations: int) -> list[list[float]]:
    flat = [value for row in distance for value in row]
    middle = (max(flat) + min(flat)) / 2
    amplitude = max(flat) - middle + 1e-5
    plan = [[math.exp(-(value - middle) / amplitude / epsilon) for value in row] for row in distance]
    total = sum(map(sum, plan))
    plan = [[value / total for value in row] for row in plan]
    n, k = len(plan), len(plan[0])
    for _ in range(iterations):
        for i in range(n):
            row_sum = sum(plan[i])
            for j in range(k):
                plan[i][j] /= row_sum * n
        for j in range(k):
            column_sum = sum(plan[i][j] for i in range(n))
            for i in range(n):
                plan[i][j] /= column_sum * k
    return [[value * n for value in row] for row in plan]


@pytest.mark.parametrize("epsilon", [0.003, 0.05, 1.0])
def test_sinkhorn_is_the_plain_loop(epsilon: float) -> None:
    random = np.random.default_rng(0)
    distance = random.random((3, 4, 5))
    found = sinkhorn(distance, epsilon, 50)
    for block, plan in zip(distance, found):
        np.testing.assert_allclose(plan, plain_sinkhorn(block.tolist(), epsilon, 50), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.sum(axis=1), 4 / 5, rtol=1e-12)


def test_items_that_collide_are_spread_over_near_entries() -> None:
    """Four items in one code and four entries: each gets the one on its side; an item of another prefix keeps its."""
    book = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.float32)
    residual = np.array([[0.1, 0.1], [0.3, 0.1], [0.1, 0.3], [0.35, 0.35], [0, 0]], np.float32)
    codes = np.array([[7, 0], [7, 0], [7, 0], [7, 0], [3, 0]], np.int32)
    spread = spread_last_level(codes, residual, book, 0.003, 50, 20)
    assert not colliding(spread).any()
    assert spread.tolist() == [[7, 0], [7, 1], [7, 2], [7, 3], [3, 0]]
    assert not codes[:, 1].any(), "the given codes stay"


@settings(max_examples=40, derandomize=True, deadline=None)
@given(st.integers(1, 30), st.integers(1, 6), st.integers(0, 10_000))
def test_spreading_never_makes_more_collisions(count: int, entries: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    residual = random.normal(size=(count, 3)).astype(np.float32)
    book = random.normal(size=(entries, 3)).astype(np.float32)
    codes = np.stack([random.integers(0, 3, count), nearest(residual, book)], axis=1).astype(np.int32)
    spread = spread_last_level(codes, residual, book, 0.003, 50, 20)
    assert colliding(spread).sum() <= colliding(codes).sum()
    np.testing.assert_array_equal(spread[:, 0], codes[:, 0])


def test_last_tokens_count_inside_equal_codes() -> None:
    codes = np.array([[1, 2], [1, 3], [1, 2], [0, 0], [1, 2]], np.int32)
    assert last_tokens(codes).tolist() == [0, 0, 1, 0, 2]
    assert running_index([(1,), (2,), (1,)], {(1,): 4}).tolist() == [4, 0, 5]
