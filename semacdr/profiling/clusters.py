"""Clusters of items by their text vectors (k-means), kept, so that a catalogue that grows moves no cluster.

A user's interests are described cluster by cluster: were the clusters made anew with every new item, every user's
groups would shift and every description would be asked for again.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from semacdr.data.schema import FloatArray, Int64Array
from semacdr.errors import InputError
from semacdr.files import write_atomic

CLUSTERS = 10  # as published
_FIT_ROWS = 50_000  # as many vectors, evenly spaced over the catalogue, place ten centres well enough
_STARTS = 4
_STEPS = 40
_BLOCK = 65_536


@dataclass(frozen=True)
class Clusters:
    """The centres, (C, E)."""

    centres: FloatArray

    def of(self, vectors: FloatArray) -> Int64Array:
        """The nearest cluster of each of (N, E) vectors, block by block; -1 for an item without text, a zero row."""
        from scipy.cluster.vq import vq

        found = np.full(len(vectors), -1, np.int64)
        for start, block in _blocks(vectors):
            some = block.any(axis=1)
            if some.any():
                found[start : start + len(block)][some] = vq(block[some], self.centres, check_finite=False)[0]
        return found


def fit_clusters(vectors: FloatArray, count: int = CLUSTERS) -> Clusters:
    """k-means over (N, E) vectors, zero rows left out: the same vectors give the same clusters.

    Args:
        vectors: may be memory-mapped; a sample of the rows is read.
        count: clusters wanted; there are fewer where there are fewer different vectors.

    Raises:
        InputError: no vector at all.
    """
    from scipy.cluster.vq import kmeans2, vq

    full = np.flatnonzero(np.concatenate([np.zeros(0, bool), *(block.any(axis=1) for _, block in _blocks(vectors))]))
    if not len(full):
        raise InputError("no item has a vector, so there is nothing to cluster", fix="another --embeddings or --view")
    sample = np.asarray(vectors[full[np.linspace(0, len(full) - 1, min(_FIT_ROWS, len(full))).astype(np.int64)]])
    count = min(count, len(np.unique(sample, axis=0)))
    best, least = sample[:1], np.inf
    for start in range(_STARTS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # an empty cluster is dropped below
            centres, label = kmeans2(sample, count, iter=_STEPS, minit="++", seed=np.random.default_rng(start))
        centres = np.asarray(centres[np.unique(label)], dtype=np.float32)
        spread = float(np.square(vq(sample, centres, check_finite=False)[1], dtype=np.float64).sum())
        if spread < least:
            best, least = centres, spread
    return Clusters(best)


def keep_clusters(path: Path, clusters: Clusters) -> None:
    """Writes the centres."""

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as handle:
            np.save(handle, clusters.centres, allow_pickle=False)

    write_atomic(path, write)


def kept_clusters(path: Path) -> Clusters | None:
    """Reads centres that were written before; ``None`` where there are none.

    Raises:
        InputError: the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        return Clusters(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        fix = "remove it: the clusters are made again, and summaries of groups that come out otherwise are asked again"
        raise InputError(f"damaged clusters ({error})", where=str(path), fix=fix) from None


def _blocks(vectors: FloatArray) -> Iterator[tuple[int, FloatArray]]:
    for start in range(0, len(vectors), _BLOCK):
        yield start, np.asarray(vectors[start : start + _BLOCK])
