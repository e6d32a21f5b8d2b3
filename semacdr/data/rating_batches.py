"""Batches of ratings, with historical reviews drawn for each pair.

A pair's history is k reviews that its user wrote and k that its item received, all from the training part. The review
of the pair itself is left out: it is written after the rating that is to be predicted and says what it was. With
``own_review`` it may be drawn like any other, and then the label leaks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from semacdr.data.ratings import RatingCatalogue, Ratings
from semacdr.data.schema import Int32Array, Int64Array

EVALUATION_SEED = 20_240  # of the histories that held-out pairs are scored with: one draw, the same for every model


@dataclass(frozen=True)
class RatingBatch:
    """Pairs of users and items.

    user: (B,) from 1; item: (B,) from 1.
    user_texts: (B, k) indices of reviews that the user wrote, 0 where there are fewer.
    item_texts: (B, k) indices of reviews that the item received, likewise.
    rating: (B,) what is to be predicted; None for scoring.
    own_text: (B,) the review of the pair itself; only for models that regress it, else None.
    """

    user: Tensor
    item: Tensor
    user_texts: Tensor
    item_texts: Tensor
    rating: Tensor | None = None
    own_text: Tensor | None = None

    def to(self, device: torch.device) -> RatingBatch:
        """The same batch on a device."""
        moved = {name: value.to(device) for name, value in vars(self).items() if value is not None}
        return replace(self, **moved)


class Histories:
    """Draws reviews of the training part.

    Args:
        catalogue: the training ratings.
        k: reviews a side; 0 for a model that reads none.
        own_review: a pair's own review may be drawn too.
    """

    def __init__(self, catalogue: RatingCatalogue, k: int, own_review: bool = False) -> None:
        train = catalogue.train
        self.train, self.k, self.own_review = train, k, own_review
        with_text = np.flatnonzero(train.text > 0)
        self.by_user = _Groups(train.user, with_text, catalogue.num_users)
        self.by_item = _Groups(train.item, with_text, catalogue.num_items)

    def of_training_rows(self, rows: Int64Array, random: np.random.Generator) -> tuple[Int64Array, Int64Array]:
        """Histories of training ratings: user's and item's, (B, k) text indices each."""
        out = np.zeros((2, len(rows), self.k), np.int64)
        for at, row in enumerate(rows):
            sides = (self.by_user[self.train.user[row]], self.by_item[self.train.item[row]])
            for side, candidates in enumerate(sides):
                if not self.own_review:
                    candidates = candidates[candidates != row]
                out[side, at] = self._draw(self.train.text[candidates], random)
        return out[0], out[1]

    def of_pairs(self, pairs: Ratings) -> tuple[Int64Array, Int64Array]:
        """Histories of held-out pairs: user's and item's, (B, k); one draw a user and item, whatever the batch.

        With ``own_review`` the pair's own review is among the candidates, and the draw is the pair's own.
        """
        out = np.zeros((2, len(pairs), self.k), np.int64)
        for at in range(len(pairs)):
            owners = (int(pairs.user[at]), int(pairs.item[at]))
            for side, (groups, owner) in enumerate(zip((self.by_user, self.by_item), owners)):
                texts = self.train.text[groups[owner]]
                key = [EVALUATION_SEED, side, owner]
                if self.own_review and pairs.text[at]:
                    texts, key = np.append(texts, pairs.text[at]), [EVALUATION_SEED, side, *owners]
                out[side, at] = self._draw(texts, np.random.default_rng(key))
        return out[0], out[1]

    def _draw(self, texts: Int32Array, random: np.random.Generator) -> Int64Array:
        drawn = np.zeros(self.k, np.int64)
        chosen = texts if len(texts) <= self.k else texts[random.choice(len(texts), self.k, replace=False)]
        drawn[: len(chosen)] = chosen
        return drawn


class _Groups:
    """The given rows of each owner 0..owners, ascending."""

    def __init__(self, owner: Int32Array, rows: Int64Array, owners: int) -> None:
        self.order = rows[np.argsort(owner[rows], kind="stable")]
        self.cuts = np.searchsorted(owner[self.order], np.arange(owners + 2))

    def __getitem__(self, owner: int) -> Int64Array:
        return self.order[self.cuts[owner] : self.cuts[owner + 1]]


class RatingBatches:
    """Training batches in an order that depends on the seed and the epoch alone, histories on the batch as well."""

    def __init__(self, histories: Histories, batch_size: int, seed: int, own_text: bool = False) -> None:
        self.histories, self.batch_size, self.seed, self.own_text = histories, batch_size, seed, own_text
        self.train = histories.train

    def __len__(self) -> int:
        return -(-len(self.train) // self.batch_size)

    def epoch(self, epoch: int, first_batch: int = 0) -> Iterator[RatingBatch]:
        """The batches of one epoch, from ``first_batch`` on."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.train))
        for number in range(first_batch, len(self)):
            rows = order[number * self.batch_size : (number + 1) * self.batch_size]
            random = np.random.default_rng([self.seed, epoch, number])
            history = self.histories.of_training_rows(rows, random)
            yield _batch(self.train.select(rows), history, self.own_text)


def pair_batches(
    histories: Histories, pairs: Ratings, batch_size: int, own_text: bool = False
) -> Iterator[tuple[Int64Array, RatingBatch]]:
    """Scoring batches of held-out pairs, without their ratings: the rows of ``pairs``, and the batch."""
    for first in range(0, len(pairs), batch_size):
        rows = np.arange(first, min(first + batch_size, len(pairs)))
        chosen = pairs.select(rows)
        yield rows, replace(_batch(chosen, histories.of_pairs(chosen), own_text), rating=None)


def _batch(pairs: Ratings, history: tuple[Int64Array, Int64Array], own_text: bool) -> RatingBatch:
    return RatingBatch(
        user=torch.from_numpy(pairs.user.astype(np.int64)),
        item=torch.from_numpy(pairs.item.astype(np.int64)),
        user_texts=torch.from_numpy(history[0]),
        item_texts=torch.from_numpy(history[1]),
        rating=torch.from_numpy(pairs.rating.copy()),
        own_text=torch.from_numpy(pairs.text.astype(np.int64)) if own_text else None,
    )
