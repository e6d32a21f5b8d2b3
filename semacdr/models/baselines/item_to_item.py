"""What Markov and ItemKNN share: a sparse matrix of how much each item speaks for each other item.

A history scores ``sum_age decay^age W[item_age, :]``, age 0 being the newest event.
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
from semacdr.models.base import Recommender, TextTables


class ItemToItemConfig(Settings):
    """How a history is read."""

    decay: float = Field(0.6, gt=0, le=1)
    """Weight of an event relative to the next newer one."""
    max_seq_len: int = Field(50, gt=0)
    """L: events of a history that are read."""


class ItemToItem(Recommender):
    """Scores by the rows of a fitted sparse matrix W."""

    trained_by_gradient = False

    def __init__(self, config: ItemToItemConfig, catalogue: Catalogue, text: TextTables | None = None) -> None:
        super().__init__(config, catalogue, text)
        self.decay = config.decay
        size = catalogue.num_items + 1
        self.keep(sp.csr_matrix((size, size), dtype=np.float32))

    def keep(self, matrix: sp.csr_matrix) -> None:
        """Takes the fitted (N+1, N+1) matrix."""
        self.matrix = matrix
        self.register_buffer("row_start", torch.from_numpy(matrix.indptr.astype(np.int64)))
        self.register_buffer("column", torch.from_numpy(matrix.indices.astype(np.int64)))
        self.register_buffer("weight", torch.from_numpy(matrix.data.astype(np.float32)))

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes the saved sparse matrix, whose size is known only now."""
        size = self.num_items + 1
        arrays = tuple(tensors[name].cpu().numpy() for name in ("weight", "column", "row_start"))
        self.keep(sp.csr_matrix(arrays, shape=(size, size)))

    def encode(self, batch: Batch) -> sp.csr_matrix:
        """(B, N+1) sparse scores of all items for which an item of the history speaks."""
        items, length = batch.items.cpu().numpy(), batch.length.cpu().numpy()
        age = length[:, None] - 1 - np.arange(items.shape[1])
        row, column = np.nonzero(items)
        decay = np.float32(self.decay) ** age[row, column].astype(np.float32)
        history = sp.csr_matrix((decay, (row, items[row, column])), shape=(len(items), self.num_items + 1))
        scores = (history @ self.matrix).tocsr()
        scores.sort_indices()
        return scores

    def score(self, encoded: sp.csr_matrix, items: Tensor) -> Tensor:
        """Dense scores of the items asked for; 0 for those for which nothing speaks."""
        wanted = items.cpu().numpy()
        if wanted.ndim == 1:
            dense = encoded[:, wanted].toarray()
        else:
            rows = np.repeat(np.arange(len(wanted)), wanted.shape[1])
            dense = np.asarray(encoded[rows, wanted.ravel()]).reshape(wanted.shape)
        return torch.from_numpy(dense.astype(np.float32)).to(items.device)
