"""The items of one domain in an index: candidates from an engine, scored with their true vectors.

A score is the inner product of float32 vectors, summed in float64 and rounded to float32; equal scores stand in the
order of the rows. That holds for every engine, so that answers of an exact one depend on nothing but the vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from semacdr.data.schema import BoolArray, Float64Array, FloatArray, Int64Array
from semacdr.serving.index_engines import Engine

_SLACK = 32  # candidates beyond those asked for, so that near-ties at the end are inside
_BLOCK = 65_536


class Shard:
    """Vectors, which of them are alive, and the engine over them.

    Attributes:
        vectors: (R, D) float32, dead rows included; may be memory-mapped.
        labels: (R,) place of each row in the whole index.
        alive: (R,).
        refine: candidates for each one asked for, from an engine that knows its vectors roughly (ivf-pq).
        rescued: answers for which an engine did not suffice and all rows were scored.
    """

    def __init__(
        self, vectors: FloatArray, labels: Int64Array, engine: Engine, refine: int, alive: BoolArray | None = None
    ) -> None:
        self.vectors, self.labels, self.engine, self.refine = vectors, labels, engine, refine
        self.alive: BoolArray = np.ones(len(vectors), np.bool_) if alive is None else alive
        self.rescued = 0

    @cached_property
    def _length(self) -> float:
        """Of the longest vector. Finding it reads all of them, which not every engine needs."""
        squares = (_squares(self.vectors[at : at + _BLOCK]) for at in self._starts())
        return float(np.sqrt(max(squares, default=0.0)))

    def _starts(self) -> range:
        return range(0, len(self.vectors), _BLOCK)

    def add(self, vectors: FloatArray, labels: Int64Array) -> None:
        """Takes (n, D) more vectors."""
        self.engine.add(vectors, len(self.vectors))
        self.vectors = np.concatenate([self.vectors, vectors])
        self.labels = np.concatenate([self.labels, labels])
        self.alive = np.concatenate([self.alive, np.ones(len(vectors), np.bool_)])
        self.__dict__.pop("_length", None)

    def remove(self, rows: Int64Array) -> None:
        """Takes rows out."""
        self.engine.remove(rows)
        self.alive[rows] = False

    def search(
        self, queries: FloatArray, k: int, excluded: Sequence[Int64Array]
    ) -> list[tuple[Int64Array, FloatArray]]:
        """The k best rows of each query that are alive and not excluded; fewer only where there are no more.

        Args:
            queries: (Q, D).
            k: how many.
            excluded: for each query, rows of this shard.

        Returns:
            for each query rows, best first, and their scores.
        """
        alive = int(self.alive.sum())
        if not alive or not k:
            return [(np.empty(0, np.int64), np.empty(0, np.float32))] * len(queries)
        wanted = k * (self.refine if self.engine.kind == "ivf-pq" else 1)
        count = min(alive, wanted + max(map(len, excluded), default=0) + _SLACK)
        rows, seen = self.engine.search(queries, count, self.vectors, self.alive)
        return [
            self._answer(query, k, np.asarray(out, np.int64), row, score, alive)
            for query, out, row, score in zip(queries, excluded, rows, seen)
        ]

    def _answer(
        self, query: FloatArray, k: int, excluded: Int64Array, rows: Int64Array, seen: FloatArray, alive: int
    ) -> tuple[Int64Array, FloatArray]:
        out = excluded[self.alive[excluded]]
        k = min(k, alive - len(np.unique(out)))
        there = rows >= 0
        there[there] = self.alive[rows[there]]
        kept = there & ~np.isin(rows, out)
        if kept.sum() < k or (self.engine.exact and not self._surely(query, k, kept, seen, alive)):
            self.rescued += 1
            return self._among_all(query, k, out)
        found = rows[kept]
        scores = (self.vectors[found].astype(np.float64) @ query.astype(np.float64)).astype(np.float32)
        order = np.lexsort((found, -scores))[:k]
        return found[order], scores[order]

    def _surely(self, query: FloatArray, k: int, kept: BoolArray, seen: FloatArray, alive: int) -> bool:
        """Whether no row that the engine left out can, but for rounding, be among the k best."""
        if len(seen) == alive or not k:
            return True
        rounding = len(query) * np.finfo(np.float32).eps * self._length * float(np.linalg.norm(query))
        return bool(seen[-1] + 2 * rounding < seen[kept][k - 1])

    def _among_all(self, query: FloatArray, k: int, excluded: Int64Array) -> tuple[Int64Array, FloatArray]:
        scores = np.empty(len(self.vectors), np.float32)
        wide: Float64Array = query.astype(np.float64)
        for start in self._starts():
            scores[start : start + _BLOCK] = self.vectors[start : start + _BLOCK].astype(np.float64) @ wide
        free = self.alive.copy()
        free[excluded] = False
        rows = np.flatnonzero(free)
        least = np.partition(scores[rows], len(rows) - k)[len(rows) - k] if k else np.inf
        above, level = rows[scores[rows] > least], rows[scores[rows] == least]
        found = np.concatenate([above, level[: k - len(above)]])
        order = np.lexsort((found, -scores[found]))
        return found[order], scores[found[order]]


def _squares(vectors: FloatArray) -> float:
    """The largest squared length."""
    return float(np.square(vectors, dtype=np.float64).sum(axis=1).max(initial=0.0))
