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

_QUERIES, _ITEMS = 256, 16_384  # scores of one block, 16 MiB


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
            queries: (Q, D).
            count: how many, at most the rows that are alive.
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
    """Products of blocks, the best of each block, the best of these."""

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
        for start in range(0, len(queries), _QUERIES):
            part = queries[start : start + _QUERIES]
            best, at = torch.empty((len(part), 0)), torch.empty((len(part), 0), dtype=torch.long)
            for first in range(0, len(vectors), _ITEMS):
                block = vectors[first : first + _ITEMS]
                # by numpy: the vectors may be a read-only map of a file, which torch takes as a copy only
                product = torch.from_numpy(part @ block.T)
                if len(alive) != alive_count:
                    product[:, dead[first : first + len(block)]] = -torch.inf
                found = torch.topk(product, min(count, len(block)))
                best, at = torch.cat([best, found.values], 1), torch.cat([at, found.indices + first], 1)
                if best.shape[1] > count:
                    best, order = torch.topk(best, count)
                    at = at.gather(1, order)
            best, order = torch.sort(best, dim=1, descending=True)
            rows[start : start + len(part)] = at.gather(1, order)
            scores[start : start + len(part)] = best
        rows[np.isneginf(scores)] = -1
        return rows, scores

    def save(self, path: Path) -> None:
        """Nothing."""


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
