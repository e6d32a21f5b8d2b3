"""What semantic ids are made of: the vectors of all domains' items, and how they are prepared.

The vectors are a table's views side by side. Trained item vectors are one more source: whatever gives item ids and one
matrix can be quantised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from semacdr.data.schema import FloatArray, StrArray
from semacdr.embedding.id_settings import IdSettings
from semacdr.embedding.table import EmbeddingTable
from semacdr.errors import InputError

BLOCK = 4_096  # rows whose steps in between are kept at once


@dataclass(frozen=True)
class IdInput:
    """The items and their vectors.

    Attributes:
        item_ids: (N,) of all domains.
        vectors: (N, E) views side by side; a zero row is an item without text.
        widths: view -> its columns of ``vectors``, in order.
        source: provenance with a fingerprint of the vectors.
        encoder: hash of the weights of the text encoder that they are from; None where they are no text's.
    """

    item_ids: StrArray
    vectors: FloatArray
    widths: Mapping[str, int]
    source: Mapping[str, Any]
    encoder: str | None = None


def table_input(table: EmbeddingTable, views: Sequence[str] | None = None) -> IdInput:
    """The views of a table side by side; an unknown view is an :class:`InputError`."""
    chosen = list(table.views if views is None else views)
    if not chosen or len(set(chosen)) < len(chosen):
        raise InputError(f"views {chosen}: name each view once", where=str(table.path))
    joined = join_views({view: table.matrix(view) for view in chosen})
    source = {"kind": "embedding-table", "fingerprint": table.fingerprint}
    encoder = table.manifest.get("encoder", {}).get("weights_sha256")
    return IdInput(table.item_ids, joined, dict.fromkeys(chosen, table.text_dim), source, encoder)


def join_views(views: Mapping[str, FloatArray]) -> FloatArray:
    """View -> (n, E_v) to (n, sum of E_v) float32, in the order of the mapping."""
    return np.concatenate([np.asarray(matrix, np.float32) for matrix in views.values()], axis=1)


@dataclass(frozen=True)
class Preparation:
    """What is done to joined vectors before they are quantised; kept, so that new items get the same.

    Attributes:
        widths: columns of each view.
        normalise: each view of an item to length one.
        mean: (E,) subtracted before the projection; None without one.
        axes: (E, P) orthonormal axes of the projection; None without one.
    """

    widths: tuple[int, ...]
    normalise: bool
    mean: FloatArray | None = None
    axes: FloatArray | None = None

    def __call__(self, vectors: FloatArray) -> FloatArray:
        """(n, E) -> (n, E) or (n, P) float32; a zero row stays zero.

        Raises:
            InputError: vectors of another width, or not numbers.
        """
        vectors = np.asarray(vectors, np.float32)
        if vectors.ndim != 2 or vectors.shape[1] != sum(self.widths):
            raise InputError(f"vectors of shape {vectors.shape}, where (n, {sum(self.widths)}) is needed")
        width = vectors.shape[1] if self.axes is None else self.axes.shape[1]
        out = np.empty((len(vectors), width), np.float32)
        for start in range(0, len(vectors), BLOCK):
            out[start : start + BLOCK] = self._block(vectors[start : start + BLOCK])
        return out

    def _block(self, vectors: FloatArray) -> FloatArray:
        if not np.isfinite(vectors).all():
            raise InputError("vectors that are not finite numbers", fix="run semacdr embed again")
        out = self._normalised(vectors)
        if self.mean is None or self.axes is None:
            return out
        projected = np.asarray((out - self.mean) @ self.axes, np.float32)
        projected[~vectors.any(axis=1)] = 0
        return projected

    def _normalised(self, vectors: FloatArray) -> FloatArray:
        if not self.normalise:
            return vectors
        out = np.empty_like(vectors)
        start = 0
        for width in self.widths:
            view = vectors[:, start : start + width].astype(np.float64)  # tiny vectors have a length there, too
            length = np.linalg.norm(view, axis=1, keepdims=True)
            out[:, start : start + width] = view / np.where(length > 0, length, 1)
            start += width
        return out


def fit_preparation(vectors: FloatArray, widths: Sequence[int], settings: IdSettings) -> Preparation:
    """The preparation that the settings ask for; the axes are those of the rows that are not zero.

    Raises:
        InputError: no vector at all, or fewer columns than the components asked for.
    """
    plain = Preparation(tuple(widths), settings.normalise)
    full = vectors.any(axis=1)
    if not full.any():
        raise InputError("no item has a vector, so there is nothing to quantise", fix="another --embeddings or --views")
    if settings.pca is None:
        return plain
    if settings.pca > vectors.shape[1]:
        raise InputError(f"pca = {settings.pca}: the vectors have {vectors.shape[1]} columns")
    rows = np.flatnonzero(full)
    total, moment = np.zeros(vectors.shape[1]), np.zeros((vectors.shape[1], vectors.shape[1]))
    for start in range(0, len(rows), BLOCK):
        block = plain(vectors[rows[start : start + BLOCK]]).astype(np.float64)
        total += block.sum(axis=0)
        moment += block.T @ block
    mean = total / len(rows)
    axes = np.linalg.eigh(moment - len(rows) * np.outer(mean, mean)).eigenvectors[:, ::-1][:, : settings.pca]
    # an axis has no sign of its own: its largest entry is made positive
    axes = axes * np.sign(np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0))
    return Preparation(tuple(widths), settings.normalise, mean.astype(np.float32), axes.astype(np.float32))
