"""D-Attn: words are weighed near by and over the whole document (Seo et al., RecSys 2017).

    local      a_t = sigmoid(W_l * x_{t-2..t+2} + b)   x'_t = a_t x_t -> Conv1d(width 1) -> ReLU -> max over the words
    global     a_t = sigmoid(W_g * x + b), a filter as long as the document, centred at t
               x'_t = a_t x_t -> Conv1d of widths 2, 3 and 4, each -> ReLU -> max over the words
    tower      [local ; global] -> FC -> ReLU -> dropout -> FC
    rating     m + <tower of the user's document, tower of the item's>
    loss       mean squared error

From memory of the paper; no code of the authors is public. Our inference: ReLU, where dropout stands, and that the
global filter gives one weight for each word. Where we differ, and why:
- The pair's own review is in neither document, in training and in scoring: the batches draw the historical reviews
  without it. ``faithful: true`` draws it like any other, and the label leaks.
- Words are those of :mod:`semacdr.models.words`, documents k reviews.
- The trained offset m, which starts at the mean rating: a plain product of towers would first have to learn it.
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

GLOBAL_WIDTHS = (2, 3, 4)


class DAttnConfig(WordSettings):
    """Settings of D-Attn; sizes as published but for the words: ``max_words``, ``word_dim`` and ``vocabulary``."""

    window: int = Field(5, gt=0)
    """Words that the local attention sees."""
    local_kernels: int = Field(200, gt=0)
    """Filters of width 1 behind the local attention."""
    global_kernels: int = Field(100, gt=0)
    """Filters of each of the widths 2, 3 and 4 behind the global attention."""
    hidden: int = Field(500, gt=0)
    """Width of the first fully connected layer."""
    factors: int = Field(50, gt=0)
    """Values of a tower."""
    dropout: float = Field(0.5, ge=0, lt=1)
    """Between the fully connected layers."""


class Tower(nn.Module):
    """Words of one side -> its values."""

    def __init__(self, config: DAttnConfig) -> None:
        super().__init__()
        W = config.word_dim
        self.local_score = nn.Conv1d(W, 1, config.window)
        self.local_conv = nn.Conv1d(W, config.local_kernels, 1)
        self.global_score = nn.Conv1d(W, 1, config.max_words)
        self.global_convs = nn.ModuleList([nn.Conv1d(W, config.global_kernels, width) for width in GLOBAL_WIDTHS])
        inputs = config.local_kernels + len(GLOBAL_WIDTHS) * config.global_kernels
        first, last = nn.Linear(inputs, config.hidden), nn.Linear(config.hidden, config.factors)
        self.head = nn.Sequential(first, nn.ReLU(), nn.Dropout(config.dropout), last)
        self.head.apply(init_weights)
        nn.init.normal_(last.weight, std=0.1 * config.hidden**-0.5)  # ratings start near the mean

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, M, W) word vectors and (B, M) mask -> (B, n)."""
        near = x * torch.sigmoid(convolve(self.local_score, x)).transpose(1, 2)
        far = x * torch.sigmoid(convolve(self.global_score, x)).transpose(1, 2)
        pooled = [max_pool(convolve(self.local_conv, near), mask)]
        for layer in self.global_convs:
            assert isinstance(layer, nn.Conv1d)
            pooled.append(max_pool(convolve(layer, far), mask))
        values: Tensor = self.head(torch.cat(pooled, dim=1))
        return values


class DAttn(RatingRecommender):
    """The model; see the module's text."""

    Config = DAttnConfig

    def __init__(self, config: DAttnConfig, catalogue: RatingCatalogue) -> None:
        super().__init__(config, catalogue)
        self.words = Words(config, catalogue)
        self.user_tower, self.item_tower = Tower(config), Tower(config)
        self.mean = nn.Parameter(torch.tensor(float(catalogue.train.rating.mean())))

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes saved weights; they must have been trained over the same words."""
        load_trained(self, tensors)

    def predict(self, batch: RatingBatch) -> Tensor:
        """(B,) ratings."""
        user, item = self.words.documents(batch.user_texts), self.words.documents(batch.item_texts)
        x_u, x_i = self.user_tower(self.words(user), user > 0), self.item_tower(self.words(item), item > 0)
        rating: Tensor = self.mean + (x_u * x_i).sum(1)
        return full_precision(rating)

    def loss(self, batch: RatingBatch) -> Loss:
        """Mean squared error."""
        assert batch.rating is not None
        rec = F.mse_loss(self.predict(batch), batch.rating)
        return Loss(rec, {"rec": float(rec.detach())})
