"""Markov transitions: what followed the user's recent items in other users' training sequences.

``T[i, j]`` sums ``1 / gap`` over the training pairs where ``j`` came ``gap <= window`` events after ``i``; a history
scores ``sum_age decay^age T[item_age, :]``. Strong under full ranking, where much is repetition of common steps.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from pydantic import Field

from semacdr.data.splits import TrainSequences
from semacdr.models.baselines.item_to_item import ItemToItem, ItemToItemConfig


class MarkovConfig(ItemToItemConfig):
    """Settings of the Markov model."""

    window: int = Field(3, gt=0)
    """Largest gap between two events that counts as a transition."""


class Markov(ItemToItem):
    """Sparse item-to-item transitions of the mixed sequence."""

    Config = MarkovConfig
    config: MarkovConfig

    def fit(self, train: TrainSequences) -> None:
        """Counts transitions; a pair counts where its later event is a training target."""
        sequence, place = train.events()
        items, target = train.items[place], train.is_target[place]
        size = self.num_items + 1
        total = sp.csr_matrix((size, size), dtype=np.float32)
        for gap in range(1, self.config.window + 1):
            pair = (sequence[gap:] == sequence[:-gap]) & target[gap:]
            weight = np.full(int(pair.sum()), 1.0 / gap, np.float32)
            total = total + sp.csr_matrix((weight, (items[:-gap][pair], items[gap:][pair])), shape=(size, size))
        self.keep(total.tocsr())
