"""Matrix factorisation: ``r = b_0 + b_u + b_i + <p_u, q_i>`` (Koren et al. 2009). Reads no reviews.

Loss: mean of ``(r^ - r)^2 + reg (|p_u|^2 + |q_i|^2 + b_u^2 + b_i^2)`` over the pairs of a step, by AdamW in place of
plain stochastic gradient descent. Users and items without a training rating have no bias and a zero vector.
"""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from semacdr.config import Settings
from semacdr.data.rating_batches import RatingBatch
from semacdr.data.ratings import RatingCatalogue
from semacdr.models.base import Loss
from semacdr.models.rating import RatingRecommender
from semacdr.models.rating_parts import RatingBias, id_vectors


class MFConfig(Settings):
    """Settings of matrix factorisation."""

    embedding_dim: int = Field(16, gt=0)
    """D."""
    reg: float = Field(0.02, ge=0)
    """Weight of the squares of what a pair uses."""
    init_std: float = Field(0.1, gt=0)
    """Of the vectors at the start."""


class MF(RatingRecommender):
    """The model; see the module's text."""

    Config = MFConfig

    def __init__(self, config: MFConfig, catalogue: RatingCatalogue) -> None:
        super().__init__(config, catalogue)
        self.reg = config.reg
        self.bias = RatingBias(catalogue)
        self.user = id_vectors(catalogue.user_count, config.embedding_dim, config.init_std)
        self.item = id_vectors(catalogue.item_count, config.embedding_dim, config.init_std)

    def predict(self, batch: RatingBatch) -> Tensor:
        """(B,) ratings."""
        return self.bias(batch.user, batch.item) + (self.user(batch.user) * self.item(batch.item)).sum(1)

    def loss(self, batch: RatingBatch) -> Loss:
        """Squared error plus the weighted squares."""
        assert batch.rating is not None
        rec = F.mse_loss(self.predict(batch), batch.rating)
        squares = self.user(batch.user).square().sum(1) + self.item(batch.item).square().sum(1)
        reg = squares.mean() + self.bias.squares(batch.user, batch.item)
        return Loss(rec + self.reg * reg, {"rec": float(rec.detach()), "reg": float(reg.detach())})
