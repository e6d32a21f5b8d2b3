"""What finds candidates among the vectors of one domain, and the engine that looks at all of them.

An engine proposes; :mod:`semacdr.serving.index_shard` scores the proposals with their true vectors and settles ties.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, get_args

import numpy as np
import torch

from semacdr.data.schema import BoolArray, FloatArray, Int64Array
from semacdr.errors import InputError
from semacdr.serving.index_settings import IndexSettings, Kind

_QUERIES, _ITEMS = 512, 4_096  # scores of one block, 8 MiB
_ITEMS_OF_ONE = 32_768  # where there is one query: torch shares more out among threads, for which it is too little


class Engine(Protocol):
    """The vectors of one domain by row number; rows are given once and never again.

    Attributes:
        kind: as in the settings.
        exact: whether its best ``count`` are the best ones, up to rounding.
    """

    kind: str
    exact: bool

    def add(self, vectors: FloatArray, first_row: int) -> None:
        """Takes (n, D) vectors as rows ``first_row``, ``first_row + 1``, ..."""
        ...

    def remove(self, rows: Int64Array) -> None:
        """Forgets rows, or leaves them to ``alive`` in a search."""
        ...

    def search(
        self, queries: FloatArray, count: int, vectors: FloatArray, alive: BoolArray
    ) -> tuple[Int64Array, FloatArray]:
        """The best rows of each query.

        Args:
            queries: (Q, D) float32.
            count: how many, one or more, at most the rows that are alive.
            vectors: (R, D) of all rows, dead ones included.
            alive: (R,).

        Returns:
            (Q, count) rows, best first, -1 where the engine found no more; (Q, count) inner products as it sees them.
        """
        ...

    def save(self, path: Path) -> None:
        """Writes what ``vectors`` does not hold, if there is anything."""
        ...


class ExactEngine:
    """Products of blocks; what beats the least of the best so far joins them."""

    kind, exact = "exact", True

    def add(self, vectors: FloatArray, first_row: int) -> None:
        """Nothing: the vectors are all there is."""

    def remove(self, rows: Int64Array) -> None:
        """Nothing: dead rows are passed over in a search."""

    def search(
        self, queries: FloatArray, count: int, vectors: FloatArray, alive: BoolArray
    ) -> tuple[Int64Array, FloatArray]:
        """See :class:`Engine`."""
        rows, scores = np.empty((len(queries), count), np.int64), np.empty((len(queries), count), np.float32)
        dead, alive_count = torch.from_numpy(~alive), int(alive.sum())
        # so many answers that blocks are made of: fewer queries at once and longer blocks, or merging takes the time
        at_once = max(1, _QUERIES * _ITEMS // max(count, _ITEMS))
        for start in range(0, len(queries), at_once):
            part = np.array(queries[start : start + at_once])  # may be of a read-only map
            best = torch.full((len(part), count), -torch.inf)
            at = torch.full((len(part), count), -1)
            size = max(count, _ITEMS_OF_ONE if len(part) == 1 else _ITEMS)
            for first in range(0, len(vectors), size):
                block = vectors[first : first + size]
                product = _product(part, block)
                if len(alive) != alive_count:
                    product[:, dead[first : first + len(block)]] = -torch.inf
                best, at = _merged(best, at, product, first)
            best, order = torch.sort(best, dim=1, descending=True)
            rows[start : start + len(part)] = at.gather(1, order)
            scores[start : start + len(part)] = best
        rows[np.isneginf(scores)] = -1
        return rows, scores

    def save(self, path: Path) -> None:
        """Nothing."""


def _product(queries: FloatArray, block: FloatArray) -> torch.Tensor:
    """(Q, n) inner products.

    One query is bound by reading, and numpy reads a read-only map of a file without a copy. Several go to torch, as the
    merging does: the threads of two libraries that take turns get in each other's way, at up to several times the cost.
    """
    if len(queries) == 1:
        return torch.from_numpy(queries @ block.T)
    ours = block if block.flags.writeable else block.copy()  # torch warns of what is read-only
    return torch.from_numpy(queries) @ torch.from_numpy(ours).T


def _merged(
    best: torch.Tensor, at: torch.Tensor, product: torch.Tensor, first: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The best of (Q, count) scores, with their rows, and of a block's (Q, n), whose first row is ``first``.

    After a few blocks hardly a score is above the least of the best: comparing is several times cheaper than sorting.
    """
    count = best.shape[1]
    hits = np.flatnonzero((product > best.amin(1, keepdim=True)).numpy())
    if len(hits) > product.numel() // 16:  # the first blocks, or rows that get better and better
        places = torch.arange(first, first + product.shape[1]).expand(len(product), -1)
        kept, order = torch.topk(torch.cat([best, product], 1), count)
        return kept, torch.cat([at, places], 1).gather(1, order)
    if not len(hits):
        return best, at
    query, place = (torch.from_numpy(part) for part in np.divmod(hits, product.shape[1]))
    each = torch.bincount(query, minlength=len(best))
    slot = torch.arange(len(query)) - (each.cumsum(0) - each)[query]  # its number among those of its query
    shape = len(best), int(each.max())
    values, rows = torch.full(shape, -torch.inf), torch.full(shape, -1)
    values[query, slot], rows[query, slot] = product[query, place], place + first
    kept, order = torch.topk(torch.cat([best, values], 1), count)
    return kept, torch.cat([at, rows], 1).gather(1, order)


def new_engine(vectors: FloatArray, settings: IndexSettings) -> Engine:
    """The engine of a kind, holding (R, D) vectors as rows 0..R-1.

    Raises:
        InputError: faiss is missing where the kind needs it, or a setting does not fit the vectors.
    """
    if settings.kind == "exact":
        return ExactEngine()
    from semacdr.serving.faiss_engines import new_faiss_engine

    return new_faiss_engine(vectors, settings)


def load_engine(kind: str, path: Path, settings: IndexSettings) -> Engine:
    """The engine that was saved at ``path``.

    Raises:
        InputError: faiss is missing where the kind needs it, or the file is damaged.
    """
    if kind == "exact":
        return ExactEngine()
    if kind not in get_args(Kind):
        raise InputError(f"damaged index (no engine {kind!r})", where=str(path), fix="make it again: semacdr index RUN")
    from semacdr.serving.faiss_engines import load_faiss_engine

    return load_faiss_engine(kind, path, settings)
