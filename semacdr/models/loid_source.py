"""LoID's source pre-training: a rating read off the very review that was written with it (systems.md 3.2, 3 and 4).

This is no recommender, since a review is not there before its rating. What it is for are the LoRA matrices, which learn
how this domain speaks of good and bad, and which other domains plug in; and a yardstick for language models that are
asked to do the same.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from semacdr.data.rating_batches import RatingBatch
from semacdr.data.ratings import RatingCatalogue
from semacdr.models.base import Loss
from semacdr.models.rating import RatingRecommender
from semacdr.models.reviews import ReviewEncoder, ReviewSettings, rating_head
from semacdr.models.text_encoder import load_trained


class LoIDSourceConfig(ReviewSettings):
    """Settings of the source pre-training."""


class LoIDSource(RatingRecommender):
    """``r = MLP(review)``."""

    Config = LoIDSourceConfig
    reads_own_review = True

    def __init__(self, config: LoIDSourceConfig, catalogue: RatingCatalogue) -> None:
        super().__init__(config, catalogue)
        self.reviews = ReviewEncoder(config, catalogue.texts)
        width = self.reviews.width
        self.head = rating_head(width, width, config.dropout, float(catalogue.train.rating.mean()))

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes saved weights; the language model's are not among them."""
        load_trained(self, tensors)
        self.reviews.forget()

    def prepare(self) -> None:
        """Drops the kept review vectors."""
        self.reviews.forget()

    def predict(self, batch: RatingBatch) -> Tensor:
        """(B,) ratings of the reviews themselves."""
        assert batch.own_text is not None
        rating: Tensor = self.head(self.reviews(batch.own_text)).squeeze(1).float()
        return rating

    def loss(self, batch: RatingBatch) -> Loss:
        """Mean squared error."""
        assert batch.rating is not None
        error = F.mse_loss(self.predict(batch), batch.rating)
        return Loss(error, {"rec": float(error.detach())})
