"""Item-based k nearest neighbours: cosine of items over the users who had them in training.

Sarwar et al., WWW 2001; Deshpande and Karypis, TOIS 2004. ``c_ij`` counts the users who had both items,
``w_ij = c_ij / (sqrt(c_ii c_jj) + shrink)`` for i != j, of which each row keeps its ``neighbours`` largest. A user
counts once for an item however often it was had. Published is the plain sum over a user's items; here an older event
weighs less (``decay``; 1 gives the sum), since next items follow recent ones. Domains are not told apart: items of two
domains that share users are neighbours too. Strong under full ranking.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from pydantic import Field

from semacdr.data.splits import TrainSequences
from semacdr.models.baselines.item_to_item import ItemToItem, ItemToItemConfig

BLOCK_ITEMS = 1_024  # rows of the co-occurrence matrix at once: with few neighbours the whole of it is never held


class ItemKNNConfig(ItemToItemConfig):
    """Settings of ItemKNN."""

    neighbours: int = Field(0, ge=0)
    """Most similar items that each item of the history speaks for; 0: all."""
    shrink: float = Field(0.0, ge=0)
    """Added to the cosine's denominator: how strongly similarities that rest on few users are damped."""


class ItemKNN(ItemToItem):
    """Sparse item-to-item cosines."""

    Config = ItemKNNConfig
    config: ItemKNNConfig

    def fit(self, train: TrainSequences) -> None:
        """Counts co-occurrences among each user's training targets."""
        sequence, place = train.events()
        target = train.is_target[place]
        user, item = train.user[sequence[target]], train.items[place[target]]
        size = self.num_items + 1
        users = int(user.max(initial=-1)) + 1
        had = sp.csr_matrix((np.ones(len(item), np.float32), (user, item)), shape=(users, size))
        had.data[:] = 1
        norm = np.sqrt(np.asarray(had.sum(axis=0)).ravel())
        by_item = had.T.tocsr()
        blocks = []
        for first in range(0, size, BLOCK_ITEMS):
            block = (by_item[first : first + BLOCK_ITEMS] @ had).tocoo()
            row, column = block.row + first, block.col
            cosine = block.data / (norm[row] * norm[column] + self.config.shrink)
            kept = np.flatnonzero(row != column)
            kept = kept[_largest(row[kept], column[kept], cosine[kept], self.config.neighbours)]
            blocks.append((cosine[kept].astype(np.float32), row[kept], column[kept]))
        weight, row, column = (np.concatenate(parts) for parts in zip(*blocks))
        self.keep(sp.csr_matrix((weight, (row, column)), shape=(size, size)))


def _largest(row: np.ndarray, column: np.ndarray, weight: np.ndarray, count: int) -> np.ndarray:
    """Which entries are among the ``count`` largest of their row (of equal ones the first columns); 0: all."""
    if not count:
        return np.arange(len(row))
    order = np.lexsort((column, -weight, row))
    opens = np.r_[True, row[order][1:] != row[order][:-1]]
    place = np.arange(len(order)) - np.maximum.accumulate(np.where(opens, np.arange(len(order)), 0))
    return order[place < count]
