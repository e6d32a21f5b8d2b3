"""The mean of the training ratings for every pair: the floor that every rating model must clear."""

from __future__ import annotations

import torch
from torch import Tensor

from semacdr.config import Settings
from semacdr.data.rating_batches import RatingBatch
from semacdr.data.ratings import RatingCatalogue, Ratings
from semacdr.models.rating import RatingRecommender


class GlobalMeanConfig(Settings):
    """The mean has no settings."""


class GlobalMean(RatingRecommender):
    """Predicts the mean."""

    Config = GlobalMeanConfig
    trained_by_gradient = False
    mean: Tensor

    def __init__(self, config: GlobalMeanConfig, catalogue: RatingCatalogue) -> None:
        super().__init__(config, catalogue)
        self.register_buffer("mean", torch.zeros(()))

    def fit(self, train: Ratings) -> None:
        """Takes the mean."""
        self.mean.fill_(float(train.rating.mean()))

    def predict(self, batch: RatingBatch) -> Tensor:
        """The mean, for each pair."""
        return self.mean.expand(len(batch.user))
