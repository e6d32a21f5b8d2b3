"""Vectors with clusters in clusters, as item meanings have; and a table of them beside a data set."""

from __future__ import annotations

import numpy as np

from semacdr.data.schema import FloatArray
from semacdr.embedding.id_input import IdInput


def clustered(count: int, dim: int = 8, centres: int = 12, seed: int = 0) -> FloatArray:
    random = np.random.default_rng(seed)
    coarse = random.normal(size=(centres, dim))
    fine = 0.3 * random.normal(size=(centres, 5, dim))
    at, inside = random.integers(centres, size=count), random.integers(5, size=count)
    return (coarse[at] + fine[at, inside] + 0.05 * random.normal(size=(count, dim))).astype(np.float32)


def id_input(vectors: FloatArray, name: str = "made") -> IdInput:
    ids = np.array([f"i{at}" for at in range(len(vectors))], dtype=object)
    return IdInput(ids, vectors, {"content": vectors.shape[1]}, {"kind": "made", "fingerprint": name})
