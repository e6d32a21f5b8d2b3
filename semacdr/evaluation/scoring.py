"""How the candidates of a batch of users are compared with their targets.

Exactly where scores are inner products of vectors; as the scores stand for any other model. Neither holds anything
larger than (batch, block).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from semacdr.data.batches import Batch
from semacdr.data.schema import Int32Array, Int64Array
from semacdr.errors import SemacdrError
from semacdr.evaluation.counting import Users, VectorCounter, compare
from semacdr.models.base import Recommender, VectorRecommender

LIST_COLUMNS = 64  # of sampled lists scored at once: the item vectors of 512 x 64 pairs are 17 MB at D = 128


class Scorer(Protocol):
    """Compares targets with all of a set of candidates, or with a list of each target's own."""

    def candidates(self, items: Int64Array, block_items: int) -> None:
        """Sets the (n,) items, ascending, that :meth:`count_all` compares with, that many at once."""

    def count_all(self, batch: Batch, target: Int32Array, row: Int64Array, item: Int64Array) -> Int64Array:
        """(2, B): candidates above and level with each target, but for the (row, item) pairs and the target itself."""

    def count_lists(self, batch: Batch, target: Int32Array, lists: Int32Array) -> Int64Array:
        """(2, B): of the (B, K) ``lists`` those above and level with each target; item 0 does not count."""


def scorer_of(model: Recommender) -> Scorer:
    """The way to compare that suits a prepared model."""
    return VectorScorer(model) if isinstance(model, VectorRecommender) else PlainScorer(model)


class VectorScorer:
    """Exact comparison of inner products; see :mod:`semacdr.evaluation.counting`."""

    def __init__(self, model: VectorRecommender) -> None:
        self.model = model
        self.vectors = model.prepared_items().contiguous()
        self.host = self.vectors.cpu().numpy()
        norms = torch.linalg.vector_norm(self.vectors[1:], dim=1)
        self.largest_norm = float(norms.max()) * (1 + 1e-5)
        if not np.isfinite(self.largest_norm):
            raise _not_numbers(model, "item vectors")

    def candidates(self, items: Int64Array, block_items: int) -> None:
        """Sets the candidates, equal vectors folded."""
        self.counter = VectorCounter(self.vectors, self.host, items, block_items)

    def count_all(self, batch: Batch, target: Int32Array, row: Int64Array, item: Int64Array) -> Int64Array:
        """See :class:`Scorer`."""
        users = self._users(batch, target)
        counts = self.counter.count(users) - compare(users, self.host, row, item)
        counts[1] -= 1  # the target is level with itself
        return counts

    def count_lists(self, batch: Batch, target: Int32Array, lists: Int32Array) -> Int64Array:
        """See :class:`Scorer`."""
        users = self._users(batch, target)
        counts = np.zeros((2, len(lists)), np.int64)
        for first in range(0, lists.shape[1], LIST_COLUMNS):
            part = np.ascontiguousarray(lists[:, first : first + LIST_COLUMNS])
            scores = self.model.score(users.vectors, _indices(part, batch)).cpu().numpy()
            low, high = users.low.cpu().numpy(), users.high.cpu().numpy()
            surely = scores > high
            near, column = np.nonzero(((scores >= low) & ~surely | users.zero[:, None]) & (part > 0))
            counts[0] += (surely & (part > 0)).sum(axis=1)
            counts += compare(users, self.host, near, part[near, column])
        return counts

    def _users(self, batch: Batch, target: Int32Array) -> Users:
        vectors = self.model.encode(batch)
        if not torch.isfinite(vectors).all():
            raise _not_numbers(self.model, "user vectors")
        return Users.of(vectors, self.host, target, self.largest_norm)


class PlainScorer:
    """Comparison of whatever :meth:`Recommender.score` gives."""

    def __init__(self, model: Recommender) -> None:
        self.model = model

    def candidates(self, items: Int64Array, block_items: int) -> None:
        """Sets the candidates."""
        self.items, self.block_items = items, block_items

    def count_all(self, batch: Batch, target: Int32Array, row: Int64Array, item: Int64Array) -> Int64Array:
        """See :class:`Scorer`."""
        encoded = self.model.encode(batch)
        threshold = self._score(encoded, _indices(target[:, None], batch))
        row = np.concatenate([row, np.arange(len(target))])
        column = np.searchsorted(self.items, np.concatenate([item, target]))
        order = np.argsort(column, kind="stable")
        row, column = row[order], column[order]
        counts = np.zeros((2, len(target)), np.int64)
        for first in range(0, len(self.items), self.block_items):
            scores = self._score(encoded, _indices(self.items[first : first + self.block_items], batch))
            begin, end = np.searchsorted(column, [first, first + self.block_items])
            counts += _counts(scores, threshold, row[begin:end], column[begin:end] - first)
        return counts

    def count_lists(self, batch: Batch, target: Int32Array, lists: Int32Array) -> Int64Array:
        """See :class:`Scorer`."""
        encoded = self.model.encode(batch)
        threshold = self._score(encoded, _indices(target[:, None], batch))
        counts = np.zeros((2, len(lists)), np.int64)
        for first in range(0, lists.shape[1], LIST_COLUMNS):
            part = lists[:, first : first + LIST_COLUMNS]
            padding = np.nonzero(part == 0)
            counts += _counts(self._score(encoded, _indices(part, batch)), threshold, *padding)
        return counts

    def _score(self, encoded: object, items: Tensor) -> Tensor:
        scores = self.model.score(encoded, items)
        if torch.isnan(scores).any():
            raise _not_numbers(self.model, "scores")
        return scores


def _counts(scores: Tensor, threshold: Tensor, row: Int64Array, column: Int64Array) -> Int64Array:
    """(2, B): scores above and level with the (B, 1) threshold, but for the (row, column) pairs."""
    left_out = torch.from_numpy(row).to(scores.device), torch.from_numpy(column).to(scores.device)
    # NaN is neither above nor level, so what it stands for is not counted.
    scores = scores.index_put(left_out, scores.new_tensor(float("nan")))
    return torch.stack([(scores > threshold).sum(dim=1), (scores == threshold).sum(dim=1)]).cpu().numpy()


def _indices(items: Int32Array | Int64Array, batch: Batch) -> Tensor:
    return torch.from_numpy(items.astype(np.int64)).to(batch.items.device)


def _not_numbers(model: Recommender, what: str) -> SemacdrError:
    return SemacdrError(
        f"{type(model).__name__} gives {what} that are not finite numbers, so nothing can be ranked",
        fix="the training has probably diverged: try a lower learning_rate",
    )
