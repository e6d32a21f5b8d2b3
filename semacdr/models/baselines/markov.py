"""Markov transitions: what followed the user's recent items in other users' training sequences.

``T[i, j]`` sums ``1 / gap`` over the training pairs where ``j`` came ``gap <= window`` events after ``i``; a history
scores ``sum_age decay^age T[item_age, :]``. Strong under full ranking, where much is repetition of common steps.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import Field
from torch import Tensor

from semacdr.config import Settings
from semacdr.data.batches import Batch
from semacdr.data.dataset import Catalogue
from semacdr.data.splits import TrainSequences
from semacdr.models.base import Recommender, TextTables


class MarkovConfig(Settings):
    """Settings of the Markov model."""

    window: int = Field(3, gt=0)
    """Largest gap between two events that counts as a transition."""
    decay: float = Field(0.6, gt=0, le=1)
    """Weight of an event relative to the next newer one."""
    max_seq_len: int = Field(50, gt=0)
    """L: events of a history that are read."""


class Markov(Recommender):
    """Sparse item-to-item transitions of the mixed sequence."""

    Config = MarkovConfig
    trained_by_gradient = False

    def __init__(self, config: MarkovConfig, catalogue: Catalogue, text: TextTables | None = None) -> None:
        super().__init__(config, catalogue, text)
        self.settings = config
        size = catalogue.num_items + 1
        self._keep(sp.csr_matrix((size, size), dtype=np.float32))

    def _keep(self, transitions: sp.csr_matrix) -> None:
        self.transitions = transitions
        self.register_buffer("row_start", torch.from_numpy(transitions.indptr.astype(np.int64)))
        self.register_buffer("column", torch.from_numpy(transitions.indices.astype(np.int64)))
        self.register_buffer("weight", torch.from_numpy(transitions.data.astype(np.float32)))

    def fit(self, train: TrainSequences) -> None:
        """Counts transitions; a pair counts where its later event is a training target."""
        length = train.stop - train.start
        sequence = np.repeat(np.arange(len(length)), length)
        flat = np.arange(len(sequence)) - np.repeat(np.cumsum(length) - length, length) + train.start[sequence]
        items, target = train.items[flat], train.is_target[flat]
        size = self.num_items + 1
        total = sp.csr_matrix((size, size), dtype=np.float32)
        for gap in range(1, self.settings.window + 1):
            pair = (sequence[gap:] == sequence[:-gap]) & target[gap:]
            weight = np.full(int(pair.sum()), 1.0 / gap, np.float32)
            total = total + sp.csr_matrix((weight, (items[:-gap][pair], items[gap:][pair])), shape=(size, size))
        self._keep(total.tocsr())

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes the saved sparse matrix, whose size is known only now."""
        size = self.num_items + 1
        arrays = tuple(tensors[name].cpu().numpy() for name in ("weight", "column", "row_start"))
        self._keep(sp.csr_matrix(arrays, shape=(size, size)))

    def encode(self, batch: Batch) -> sp.csr_matrix:
        """(B, N+1) sparse scores of all items that ever followed an item of the history."""
        items, length = batch.items.cpu().numpy(), batch.length.cpu().numpy()
        age = length[:, None] - 1 - np.arange(items.shape[1])
        row, column = np.nonzero(items)
        decay = np.float32(self.settings.decay) ** age[row, column].astype(np.float32)
        history = sp.csr_matrix((decay, (row, items[row, column])), shape=(len(items), self.num_items + 1))
        scores = (history @ self.transitions).tocsr()
        scores.sort_indices()
        return scores

    def score(self, encoded: sp.csr_matrix, items: Tensor) -> Tensor:
        """Dense scores of the items asked for; 0 for those that never followed."""
        wanted = items.cpu().numpy()
        if wanted.ndim == 1:
            dense = encoded[:, wanted].toarray()
        else:
            rows = np.repeat(np.arange(len(wanted)), wanted.shape[1])
            dense = np.asarray(encoded[rows, wanted.ravel()]).reshape(wanted.shape)
        return torch.from_numpy(dense.astype(np.float32)).to(items.device)
