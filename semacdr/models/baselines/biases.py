"""User and item biases: ``r = m + b_u + b_i``, the best that can be said without looking at taste (Koren et al. 2009).

``m`` is the mean of the training ratings; the biases minimise
``sum (r - m - b_u - b_i)^2 + reg (sum b_u^2 + sum b_i^2)``, a convex problem that is solved exactly by turns.
"""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from semacdr.config import Settings
from semacdr.data.rating_batches import RatingBatch
from semacdr.data.ratings import RatingCatalogue, Ratings
from semacdr.data.schema import Float64Array, Int32Array
from semacdr.models.rating import RatingRecommender

MAX_TURNS, TOLERANCE = 1_000, 1e-9


class BiasesConfig(Settings):
    """Settings of the bias model."""

    reg: float = Field(5.0, ge=0)
    """Weight of the squared biases: a user of ``reg`` ratings has half the bias that its ratings alone would say."""


class Biases(RatingRecommender):
    """Regularised biases; unknown users and items have none."""

    Config = BiasesConfig
    trained_by_gradient = False
    mean: Tensor
    user_bias: Tensor
    item_bias: Tensor

    def __init__(self, config: BiasesConfig, catalogue: RatingCatalogue) -> None:
        super().__init__(config, catalogue)
        self.reg = config.reg
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("user_bias", torch.zeros(catalogue.num_users + 1))
        self.register_buffer("item_bias", torch.zeros(catalogue.num_items + 1))

    def fit(self, train: Ratings) -> None:
        """Solves for the user biases and for the item biases in turn, until neither moves."""
        mean = float(train.rating.mean(dtype=np.float64))
        rest = train.rating.astype(np.float64) - mean
        users, items = np.zeros(len(self.user_bias)), np.zeros(len(self.item_bias))
        for _ in range(MAX_TURNS):
            before = users, items
            users = self._ridge(train.user, rest - items[train.item], len(users))
            items = self._ridge(train.item, rest - users[train.user], len(items))
            if max(np.abs(users - before[0]).max(), np.abs(items - before[1]).max()) < TOLERANCE:
                break
        self.mean.fill_(mean)
        self.user_bias.copy_(torch.from_numpy(users))
        self.item_bias.copy_(torch.from_numpy(items))

    def _ridge(self, owner: Int32Array, rest: Float64Array, size: int) -> Float64Array:
        """(size,) best biases of the owners while the other side stands still."""
        total = np.bincount(owner, rest, minlength=size)
        count = np.bincount(owner, minlength=size)
        return np.divide(total, count + self.reg, out=np.zeros(size), where=count > 0)

    def predict(self, batch: RatingBatch) -> Tensor:
        """M + b_u + b_i."""
        return self.mean + self.user_bias[batch.user] + self.item_bias[batch.item]
