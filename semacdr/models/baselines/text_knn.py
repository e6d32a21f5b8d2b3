"""Nearest neighbours by text: cosine of a candidate's text vector with those of the last items of the history.

The content-based counterpart of ItemKNN, without anything trained: ``s(u, i) = sum_age decay^age cos(x_age, x_i)``,
for several views the mean of their cosines, a view that an item lacks counting 0. It scores items that training never
saw as well as any other. How far it gets is what the frozen text vectors are worth by themselves.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from semacdr.config import Settings
from semacdr.data.batches import Batch
from semacdr.data.dataset import Catalogue
from semacdr.data.splits import TrainSequences
from semacdr.models.base import TextTables, VectorRecommender, needed_views


class TextKNNConfig(Settings):
    """Settings of TextKNN."""

    views: list[str] | None = None
    """Text views to use; null takes all that the tables have."""
    decay: float = Field(0.6, gt=0, le=1)
    """Weight of an event relative to the next newer one."""
    max_seq_len: int = Field(3, gt=0)
    """L: the last events, whose texts are compared with a candidate's."""


class TextKNN(VectorRecommender):
    """Cosine of frozen text vectors, as an inner product of a weighted sum and a unit vector."""

    Config = TextKNNConfig
    reads_text = True
    trained_by_gradient = False

    def __init__(self, config: TextKNNConfig, catalogue: Catalogue, text: TextTables | None = None) -> None:
        super().__init__(config, catalogue, text)
        self.decay = config.decay
        views = needed_views("TextKNN", text, config.views)
        unit = torch.cat([F.normalize(table.float(), dim=1) for table in views.values()], dim=1) / len(views) ** 0.5
        self.register_buffer("unit", unit, persistent=False)

    def fit(self, train: TrainSequences) -> None:
        """The text vectors are all there is to know."""

    def item_vectors(self) -> Tensor:
        """(N+1, V E) unit vectors of the views side by side."""
        return self.get_buffer("unit")

    def user_vectors(self, batch: Batch) -> Tensor:
        """(B, V E) sums over the last events, older ones weighing less."""
        age = batch.length[:, None] - 1 - torch.arange(batch.items.shape[1], device=batch.items.device)
        weight = self.decay ** age.clamp(min=0).float() * (batch.items > 0)
        return torch.bmm(weight.unsqueeze(1), self.get_buffer("unit")[batch.items]).squeeze(1)
