"""Engines by faiss: flat (exact), IVF-PQ (small: coded vectors in cells) and HNSW (fast: a graph), by inner product.

IVF-PQ: Jegou, Douze, Schmid, TPAMI 2011. HNSW: Malkov, Yashunin, TPAMI 2020.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from semacdr.data.schema import BoolArray, FloatArray, Int64Array
from semacdr.errors import InputError
from semacdr.faiss_library import load_faiss
from semacdr.serving.index_settings import IndexSettings

_TRAIN_ROWS_PER_LIST = 64
_TRAIN_ROWS_PER_CODE = 32


class FlatEngine:
    """All vectors in faiss; rows can be removed.

    Attributes:
        index: of faiss.
        faiss: the module, kept: looking for it costs as much as a search.
    """

    kind, exact = "flat", True

    def __init__(self, index: Any) -> None:
        self.index, self.faiss = index, load_faiss()

    def add(self, vectors: FloatArray, first_row: int) -> None:
        """See :class:`~semacdr.serving.index_engines.Engine`."""
        rows = np.arange(first_row, first_row + len(vectors), dtype=np.int64)
        self.index.add_with_ids(np.ascontiguousarray(vectors, np.float32), rows)

    def remove(self, rows: Int64Array) -> None:
        """Forgets rows."""
        self.index.remove_ids(np.ascontiguousarray(rows, np.int64))

    def search(
        self, queries: FloatArray, count: int, vectors: FloatArray, alive: BoolArray
    ) -> tuple[Int64Array, FloatArray]:
        """See :class:`~semacdr.serving.index_engines.Engine`."""
        scores, rows = self.index.search(np.ascontiguousarray(queries, np.float32), count, params=self._params(count))
        return rows, scores

    def _params(self, count: int) -> Any:
        return None

    def save(self, path: Path) -> None:
        """Writes the faiss index."""
        self.faiss.write_index(self.index, str(path))


class IvfPqEngine(FlatEngine):
    """Coded vectors in cells; the cells nearest to a query are looked into."""

    kind, exact = "ivf-pq", False

    def __init__(self, index: Any, settings: IndexSettings) -> None:
        super().__init__(index)
        self.probes = min(settings.probes or max(8, index.nlist // 8), index.nlist)

    def _params(self, count: int) -> Any:
        return self.faiss.SearchParametersIVF(nprobe=self.probes)


class HnswEngine(FlatEngine):
    """A graph of near neighbours. No node is ever taken out: dead ones stay as waypoints and out of answers."""

    kind, exact = "hnsw", False

    def __init__(self, index: Any, settings: IndexSettings) -> None:
        super().__init__(index)
        self.breadth = settings.search_breadth

    def add(self, vectors: FloatArray, first_row: int) -> None:
        """Nodes are numbered as they come, which is how rows are."""
        if self.index.ntotal != first_row:
            raise ValueError(f"rows {first_row}.. after {self.index.ntotal} nodes")
        self.index.add(np.ascontiguousarray(vectors, np.float32))

    def remove(self, rows: Int64Array) -> None:
        """Nothing: see the class."""

    def search(
        self, queries: FloatArray, count: int, vectors: FloatArray, alive: BoolArray
    ) -> tuple[Int64Array, FloatArray]:
        """See :class:`~semacdr.serving.index_engines.Engine`."""
        params = self.faiss.SearchParametersHNSW(efSearch=max(self.breadth, count))
        if not alive.all():
            bits = np.packbits(alive, bitorder="little")
            selector = self.faiss.IDSelectorBitmap(bits)  # held here: faiss keeps no reference to it
            params.sel = selector
        scores, rows = self.index.search(np.ascontiguousarray(queries, np.float32), count, params=params)
        return rows, scores


def new_faiss_engine(vectors: FloatArray, settings: IndexSettings) -> FlatEngine:
    """See :func:`~semacdr.serving.index_engines.new_engine`."""
    faiss = load_faiss()
    rows, dim = vectors.shape
    if settings.kind == "flat" or rows < settings.min_items:
        engine = FlatEngine(faiss.IndexIDMap2(faiss.IndexFlatIP(dim)))
    elif settings.kind == "hnsw":
        index = faiss.IndexHNSWFlat(dim, settings.links, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = settings.build_breadth
        engine = HnswEngine(index, settings)
    else:
        index = _trained_ivf_pq(faiss, vectors, settings)
        engine = IvfPqEngine(index, settings)
    engine.add(vectors, 0)
    return engine


def _trained_ivf_pq(faiss: Any, vectors: FloatArray, settings: IndexSettings) -> Any:
    rows, dim = vectors.shape
    if settings.code_bytes is not None and dim % settings.code_bytes:
        fitting = ", ".join(str(size) for size in range(1, dim + 1) if dim % size == 0)
        raise InputError(
            f"code_bytes = {settings.code_bytes} does not divide the {dim} columns", fix=f"one of {fitting}"
        )
    size = settings.code_bytes or max(size for size in range(1, max(dim // 4, 1) + 1) if dim % size == 0)
    lists = min(settings.lists or round(4 * math.sqrt(rows)), rows)
    index = faiss.IndexIVFPQ(faiss.IndexFlatIP(dim), dim, lists, size, 8, faiss.METRIC_INNER_PRODUCT)
    index.pq.cp.niter, index.pq.cp.max_points_per_centroid = 10, _TRAIN_ROWS_PER_CODE  # more costs minutes for nothing
    for clustering in (index.cp, index.pq.cp):
        clustering.seed = (1234 + settings.seed) % 2**31  # an int of C
        clustering.min_points_per_centroid = 1  # no warning for small catalogues
    sample = min(rows, max(lists * _TRAIN_ROWS_PER_LIST, 256 * _TRAIN_ROWS_PER_CODE))
    index.train(np.ascontiguousarray(vectors[np.linspace(0, rows - 1, sample).astype(np.int64)], np.float32))
    return index


def load_faiss_engine(kind: str, path: Path, settings: IndexSettings) -> FlatEngine:
    """See :func:`~semacdr.serving.index_engines.load_engine`."""
    try:
        index = load_faiss().read_index(str(path))
        if kind == "flat":
            return FlatEngine(index)
        return HnswEngine(index, settings) if kind == "hnsw" else IvfPqEngine(index, settings)
    except (RuntimeError, AttributeError) as error:
        what = f"damaged index ({str(error).splitlines()[0]})"
        raise InputError(what, where=str(path), fix="make it again: semacdr index RUN") from None
