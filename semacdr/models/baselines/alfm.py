"""ALFM: latent factors, weighed by the aspects that both sides write about (Cheng et al., WWW 2018).

    rating     sum_a rho_a s_a (w_a * p_u) . (w_a * q_i) + b_u + b_i + b_0
    importance rho_a = (lambda_u,a + lambda_i,a) / 2,  lambda: share of a side's sentences that are about aspect a
    likeness   s_a = 1 - JSD(theta_u,a, psi_i,a) in bits: topics of what each side says about aspect a
    loss       squared error + l1 |w|_1 + reg (|p_u|^2 + |q_i|^2 + b_u^2 + b_i^2)

Where we differ, and why:
- The published aspect-aware topic model (ATM) is one joint model of users, items, aspects, topics and words. Latent
  Dirichlet allocations of sentences take its place (:mod:`semacdr.models.topics`): one for the aspects, one for the
  topics of each aspect. So importance is the mean of both sides where ATM learns how much each counts.
- A side's shares are those of its k historical reviews, smoothed by one sentence of equal shares, not of all reviews;
  the pair's own review is not among them, in training and in scoring. ``faithful: true`` draws it like any other, and
  the label leaks. The topics' words are learned from all training reviews at once, the pair's among thousands.
- Weights by AdamW, with L1 as a subgradient.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from semacdr.config import Settings
from semacdr.data.rating_batches import RatingBatch
from semacdr.data.ratings import RatingCatalogue
from semacdr.models.base import Loss
from semacdr.models.rating import RatingRecommender
from semacdr.models.rating_parts import RatingBias, full_precision, id_vectors
from semacdr.models.topics import AspectTopics


class ALFMConfig(Settings):
    """Settings of ALFM."""

    aspects: int = Field(5, gt=0)
    """A."""
    topics: int = Field(5, gt=0)
    """K: of each aspect."""
    vocabulary: int = Field(5_000, gt=0)
    """Words that the topics know, at most."""
    k: int = Field(10, gt=0)
    """Historical reviews a side."""
    embedding_dim: int = Field(16, gt=0)
    """D."""
    reg: float = Field(0.02, ge=0)
    """Weight of the squares of what a pair uses."""
    l1: float = Field(0.01, ge=0)
    """Weight of the sum of the absolute entries of the aspects' weights w."""
    init_std: float = Field(0.1, gt=0)
    """Of the vectors at the start."""
    faithful: bool = False
    """True: the pair's own review may be among its historical ones, and the label leaks."""


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """Jensen-Shannon divergence in bits, 0 to 1, of positive shares (..., K) -> (...)."""
    middle = (p + q) / 2
    return ((p * (p / middle).log2()).sum(-1) + (q * (q / middle).log2()).sum(-1)) / 2


class ALFM(RatingRecommender):
    """The model; see the module's text."""

    Config = ALFMConfig

    def __init__(self, config: ALFMConfig, catalogue: RatingCatalogue) -> None:
        super().__init__(config, catalogue)
        self.settings = config
        self.topics = AspectTopics(catalogue, config.aspects, config.topics, config.vocabulary)
        self.bias = RatingBias(catalogue)
        self.user = id_vectors(catalogue.user_count, config.embedding_dim, config.init_std)
        self.item = id_vectors(catalogue.item_count, config.embedding_dim, config.init_std)
        self.weight = nn.Parameter(torch.empty(config.aspects, config.embedding_dim))
        nn.init.normal_(self.weight, mean=1.0, std=0.1)

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes saved weights; the topics are among them."""
        super().load_state(tensors)
        self.topics.forget()

    def written_about(self, texts: Tensor) -> tuple[Tensor, Tensor]:
        """(B, k) text indices -> (B, A) lambda and (B, A, K) topic shares of each aspect."""
        count, sums = self.topics(texts)
        A, K = sums.shape[1:]
        importance = (count + 1 / A) / (count.sum(1, keepdim=True) + 1)
        return importance, (sums + 1 / K) / (count + 1).unsqueeze(2)

    def predict(self, batch: RatingBatch) -> Tensor:
        """(B,) ratings."""
        lambda_u, theta = self.written_about(batch.user_texts)
        lambda_i, psi = self.written_about(batch.item_texts)
        aspect = (lambda_u + lambda_i) / 2 * (1 - divergence(theta, psi))  # (B, A)
        products = (self.user(batch.user) * self.item(batch.item)) @ self.weight.square().T  # (B, A)
        rating: Tensor = (aspect * products).sum(1) + self.bias(batch.user, batch.item)
        return full_precision(rating)

    def loss(self, batch: RatingBatch) -> Loss:
        """Squared error, L1 of the aspects' weights and L2 of the rest."""
        assert batch.rating is not None
        rec = F.mse_loss(self.predict(batch), batch.rating)
        squares = self.user(batch.user).square().sum(1) + self.item(batch.item).square().sum(1)
        reg = squares.mean() + self.bias.squares(batch.user, batch.item)
        total = rec + self.settings.reg * reg + self.settings.l1 * self.weight.abs().sum()
        return Loss(total, {"rec": float(rec.detach()), "reg": float(reg.detach())})
