"""Ranking metrics from counts, as expectations over the target's place among its ties.

A target with ``greater`` candidates above it and ``ties`` level with it stands at rank ``greater + j`` (from 0), with
``j`` uniform in ``0..ties``. A constant scorer thus gets what a random one gets on average.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from semacdr.data.schema import Float64Array, Int32Array
from semacdr.errors import InputError

DEFAULT_METRICS = ("hr@5", "hr@10", "hr@20", "recall@20", "ndcg@5", "ndcg@10", "ndcg@20", "mrr")

_ERRORS = ("mse", "mae", "rmse")


def lower_is_better(metric: str) -> bool:
    """Whether a metric is an error."""
    return metric in _ERRORS


def hit_rate(greater: Int32Array, ties: Int32Array, k: int) -> Float64Array:
    """Probability that the target is among the first ``k``: ``clip((k - greater) / (ties + 1), 0, 1)``."""
    return np.clip((k - greater) / (ties + 1.0), 0.0, 1.0)


def ndcg(greater: Int32Array, ties: Int32Array, k: int) -> Float64Array:
    """Expected ``1 / log2(rank + 2)`` within the first ``k`` ranks, 0 beyond; with one target the ideal is 1."""
    gains = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(k) + 2.0))])
    first, last = np.minimum(greater, k), np.minimum(greater.astype(np.int64) + ties + 1, k)
    return (gains[last] - gains[first]) / (ties + 1.0)


def reciprocal_rank(greater: Int32Array, ties: Int32Array) -> Float64Array:
    """Expected ``1 / (rank + 1)``: a difference of harmonic numbers, over the number of places."""
    end = greater.astype(np.int64) + ties + 1
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1.0, end.max(initial=0) + 1))])
    # Without ties the difference would only lose digits.
    return np.where(ties == 0, 1.0 / (greater + 1.0), (harmonic[end] - harmonic[greater]) / (ties + 1.0))


_AT_K: dict[str, Callable[[Int32Array, Int32Array, int], Float64Array]] = {
    "hr": hit_rate,
    "recall": hit_rate,  # the same where each ranking has one target
    "ndcg": ndcg,
}


def metric_values(greater: Int32Array, ties: Int32Array, names: Sequence[str]) -> dict[str, Float64Array]:
    """Each metric for each target.

    Args:
        greater: (T,) candidates above the target.
        ties: (T,) candidates level with it.
        names: ``hr@K``, ``recall@K``, ``ndcg@K`` or ``mrr``.

    Returns:
        name -> (T,) values in 0..1.

    Raises:
        InputError: an unknown metric.
    """
    values = {}
    for name in names:
        match = re.fullmatch(r"(hr|recall|ndcg)@([1-9]\d*)", name)
        if match:
            values[name] = _AT_K[match[1]](greater, ties, int(match[2]))
        elif name == "mrr":
            values[name] = reciprocal_rank(greater, ties)
        else:
            raise InputError(f"unknown metric {name!r}", fix="valid: hr@K, recall@K, ndcg@K, mrr; for example ndcg@10")
    return values
