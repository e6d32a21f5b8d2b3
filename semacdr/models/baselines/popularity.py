"""Popularity: an item's score is its number of training events. The floor that every model must clear."""

from __future__ import annotations

import torch
from torch import Tensor

from semacdr.config import Settings
from semacdr.data.batches import Batch
from semacdr.data.dataset import Catalogue
from semacdr.data.splits import TrainSequences
from semacdr.models.base import Recommender, TextTables


class PopularityConfig(Settings):
    """Popularity has no settings."""


class Popularity(Recommender):
    """Scores items by their training count, the same for every user."""

    Config = PopularityConfig
    trained_by_gradient = False

    def __init__(self, config: PopularityConfig, catalogue: Catalogue, text: TextTables | None = None) -> None:
        super().__init__(config, catalogue, text)
        self.register_buffer("count", torch.from_numpy(catalogue.train_count).float())

    def fit(self, train: TrainSequences) -> None:
        """The catalogue's counts are all there is to know."""

    def encode(self, batch: Batch) -> int:
        """The number of users."""
        return len(batch.items)

    def score(self, encoded: int, items: Tensor) -> Tensor:
        """Training counts."""
        count = self.get_buffer("count")[items]
        return count if items.dim() == 2 else count.expand(encoded, -1)
