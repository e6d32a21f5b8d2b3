"""Items with equal codes: spread over the last level by Sinkhorn's algorithm, and told apart by a last token.

The spreading is LETTER's recipe (arXiv 2405.07314), written anew: in up to 20 rounds, the items that collide are
assigned to the last level's entries as evenly as optimal transport allows, group by group.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from semacdr.data.schema import BoolArray, Float64Array, FloatArray, Int32Array, Int64Array
from semacdr.embedding.residual import squared_distances

_CELLS = 4_000_000  # of a block of plans, 32 MB


def sinkhorn(distances: Float64Array, epsilon: float, iterations: int) -> Float64Array:
    """Plans that give every entry an equal share of the items, and every item a share of one.

    Args:
        distances: (..., n, K) squared distances of n items to K entries; each (n, K) block is a problem of its own,
            brought to [-1, 1] first.
        epsilon: weight of the entropy, at least 0.003: exp(2 / epsilon) must be a float64.
        iterations: of normalising items, then entries.

    Returns:
        (..., n, K): each entry's column sums to n / K; each item's row to one, once the plan has converged.
    """
    low, high = distances.min(axis=(-2, -1), keepdims=True), distances.max(axis=(-2, -1), keepdims=True)
    middle = (low + high) / 2
    plan: Float64Array = np.exp(-(distances - middle) / (high - middle + 1e-5) / epsilon)
    items, entries = plan.shape[-2:]
    tiny = np.finfo(np.float64).tiny
    plan /= plan.sum(axis=(-2, -1), keepdims=True)
    for _ in range(iterations):
        plan /= np.maximum(plan.sum(axis=-1, keepdims=True), tiny) * items
        plan /= np.maximum(plan.sum(axis=-2, keepdims=True), tiny) * entries
    return plan * items


def colliding(codes: Int32Array) -> BoolArray:
    """(n, M) codes -> (n,) whether another row has the same codes."""
    _, group, size = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    return np.asarray(size[group.reshape(-1)] > 1)


def spread_last_level(
    codes: Int32Array, residual: FloatArray, codebook: FloatArray, epsilon: float, iterations: int, rounds: int
) -> Int32Array:
    """Codes with the last level changed where items collided.

    Rounds may undo each other, so the codes of the round with the fewest colliding items are taken, the earliest of
    equal ones; the given codes are round 0.

    Args:
        codes: (n, M).
        residual: (n, C) what the levels before the last left.
        codebook: (K, C) entries of the last level.
        epsilon: see :func:`sinkhorn`.
        iterations: see :func:`sinkhorn`.
        rounds: at most so many.

    Returns:
        (n, M), a new array.
    """
    now, best = codes.copy(), codes.copy()
    least = int(colliding(now).sum())
    for _ in range(rounds):
        moved = False
        for rows in _equal_sized_groups(now, len(codebook)):  # (G, s) rows of G groups of s items
            distance = squared_distances(residual[rows.reshape(-1)], codebook).reshape(*rows.shape, -1)
            chosen = sinkhorn(distance, epsilon, iterations).argmax(axis=-1)
            moved = moved or bool((now[rows, -1] != chosen).any())
            now[rows, -1] = chosen
        count = int(colliding(now).sum())
        if count < least:
            least, best = count, now.copy()
        if not moved or not count:
            break
    return best


def _equal_sized_groups(codes: Int32Array, entries: int) -> Iterator[Int64Array]:
    """The colliding groups as they stand now, those of one size stacked as (G, s) rows."""
    _, group, size = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    order = np.argsort(group.reshape(-1), kind="stable")
    start = np.concatenate([[0], np.cumsum(size)[:-1]])
    found = []
    for s in np.unique(size[size > 1]):
        rows = order[start[size == s][:, None] + np.arange(s)]
        step = max(1, _CELLS // (int(s) * entries))
        found += [rows[at : at + step] for at in range(0, len(rows), step)]
    return iter(found)


def last_tokens(codes: Int32Array) -> Int32Array:
    """(n, M) codes -> (n,) running index of each row among the rows with its codes, in the order of the rows."""
    return running_index(map(tuple, codes.tolist()), {})


def running_index(codes: Iterable[tuple[int, ...]], taken: Mapping[tuple[int, ...], int]) -> Int32Array:
    """The running index of each row among those with its codes.

    Args:
        codes: one tuple a row.
        taken: codes -> the first free index; 0 where they are not listed.
    """
    free: dict[tuple[int, ...], int] = {}
    found = []
    for code in codes:
        index = free.get(code, taken.get(code, 0))
        free[code] = index + 1
        found.append(index)
    return np.array(found, np.int32)
