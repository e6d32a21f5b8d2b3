"""DeepCoNN: two networks read what a user wrote and what an item received (Zheng et al., WSDM 2017).

    document   k historical reviews of one side, one after another, cut to M words
    tower      Conv1d(width) -> ReLU -> max over the words -> dropout -> linear, n values
    rating     a factorisation machine over z = [x_u ; x_i]:  w_0 + w'z + 1/2 sum_f [(z V)_f^2 - (z^2 V^2)_f]
    loss       mean squared error

Where we differ, and why:
- The pair's own review is in neither document, in training and in scoring: the batches draw the historical reviews
  without it. In the published protocol it was in both, and a model then reads the rating off it. ``faithful: true``
  draws it like any other.
- Words are those of :mod:`semacdr.models.words`, not word2vec's; documents are k reviews, not all.
- w_0 starts at the mean rating.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from semacdr.data.rating_batches import RatingBatch
from semacdr.data.ratings import RatingCatalogue
from semacdr.models.base import Loss
from semacdr.models.layers import init_weights
from semacdr.models.rating import RatingRecommender
from semacdr.models.rating_parts import full_precision
from semacdr.models.text_encoder import load_trained
from semacdr.models.words import Words, WordSettings, convolve, max_pool


class DeepCoNNConfig(WordSettings):
    """Settings of DeepCoNN; sizes as published but for the words: ``max_words``, ``word_dim`` and ``vocabulary``."""

    kernels: int = Field(100, gt=0)
    """Filters of a tower."""
    kernel_width: int = Field(3, gt=0)
    """Words that a filter sees."""
    factors: int = Field(50, gt=0)
    """n: values of a tower."""
    fm_dim: int = Field(10, gt=0)
    """Width of the factorisation machine's V."""
    dropout: float = Field(0.5, ge=0, lt=1)
    """On the pooled values."""


class FactorisationMachine(nn.Module):
    """``w_0 + w'z + sum_{a<b} <v_a, v_b> z_a z_b`` (Rendle 2010), in time linear in the length of z."""

    def __init__(self, inputs: int, dim: int, start: float) -> None:
        super().__init__()
        self.w0 = nn.Parameter(torch.tensor(start))
        self.w = nn.Parameter(torch.empty(inputs))
        self.V = nn.Parameter(torch.empty(inputs, dim))
        nn.init.normal_(self.w, std=0.01)  # so that ratings start near ``start``
        nn.init.normal_(self.V, std=0.01)

    def forward(self, z: Tensor) -> Tensor:
        """(B, n) -> (B,)."""
        pairs = (z @ self.V).square() - z.square() @ self.V.square()  # (B, dim)
        return self.w0 + z @ self.w + 0.5 * pairs.sum(1)


class Tower(nn.Module):
    """Words of one side -> its values."""

    def __init__(self, config: DeepCoNNConfig) -> None:
        super().__init__()
        self.conv = nn.Conv1d(config.word_dim, config.kernels, config.kernel_width)
        self.dropout = nn.Dropout(config.dropout)
        self.linear = nn.Linear(config.kernels, config.factors)
        self.linear.apply(init_weights)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, M, W) word vectors and (B, M) mask -> (B, n)."""
        values: Tensor = self.linear(self.dropout(max_pool(convolve(self.conv, x), mask)))
        return values


class DeepCoNN(RatingRecommender):
    """The model; see the module's text."""

    Config = DeepCoNNConfig

    def __init__(self, config: DeepCoNNConfig, catalogue: RatingCatalogue) -> None:
        super().__init__(config, catalogue)
        self.words = Words(config, catalogue)
        self.user_tower, self.item_tower = Tower(config), Tower(config)
        mean = float(catalogue.train.rating.mean())
        self.fm = FactorisationMachine(2 * config.factors, config.fm_dim, mean)

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes saved weights; they must have been trained over the same words."""
        load_trained(self, tensors)

    def predict(self, batch: RatingBatch) -> Tensor:
        """(B,) ratings."""
        user, item = self.words.documents(batch.user_texts), self.words.documents(batch.item_texts)
        x_u, x_i = self.user_tower(self.words(user), user > 0), self.item_tower(self.words(item), item > 0)
        rating: Tensor = self.fm(torch.cat([x_u, x_i], dim=1))
        return full_precision(rating)

    def loss(self, batch: RatingBatch) -> Loss:
        """Mean squared error."""
        assert batch.rating is not None
        rec = F.mse_loss(self.predict(batch), batch.rating)
        return Loss(rec, {"rec": float(rec.detach())})
