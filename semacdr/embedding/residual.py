"""Residual quantisation with given codebooks: ``c_m = argmin_k ||r_{m-1} - e_k||^2``, ``r_m = r_{m-1} - e_{c_m}``.

Source: TIGER (arXiv 2305.05065), section 3.1. Shape letters: n vectors, C columns, M levels, K_m entries of level m.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from semacdr.data.schema import Float64Array, FloatArray, Int32Array

_CELLS = 4_000_000  # of a block of products or differences, 16 or 32 MB
# Relative rounding of a float32 product sum; what is nearer together than this is compared once more in float64.
_DOUBT = 4e-6


def squared_distances(vectors: FloatArray, codebook: FloatArray) -> Float64Array:
    """(n, C) vectors and (K, C) entries -> (n, K) squared distances, each from its own differences in float64."""
    out = np.empty((len(vectors), len(codebook)))
    entries = codebook.astype(np.float64)
    step = max(1, _CELLS // max(codebook.size, 1))
    for start in range(0, len(vectors), step):
        block = vectors[start : start + step, None].astype(np.float64)
        out[start : start + step] = np.square(block - entries).sum(axis=2)
    return out


def nearest(vectors: FloatArray, codebook: FloatArray) -> Int32Array:
    """(n,) index of the nearest entry, the lowest of equally near ones.

    A matrix product decides, and where it leaves doubt, the differences themselves: a vector's code depends on that
    vector alone, never on those that are quantised with it.
    """
    found = np.empty(len(vectors), np.int32)
    entry_norm = np.square(codebook).sum(axis=1)
    largest = float(entry_norm.max())
    step = max(1, _CELLS // max(codebook.shape))
    for start in range(0, len(vectors), step):
        block = vectors[start : start + step]
        score = entry_norm - 2 * (block @ codebook.T)  # the squared distance less ||r||^2, which all entries share
        best = score.argmin(axis=1)
        least = score[np.arange(len(block)), best]
        doubt = _DOUBT * (np.square(block).sum(axis=1) + largest)
        open_rows = np.flatnonzero((score <= (least + doubt)[:, None]).sum(axis=1) > 1)
        if len(open_rows):
            best[open_rows] = squared_distances(block[open_rows], codebook).argmin(axis=1)
        found[start : start + len(block)] = best
    return found


def quantise(vectors: FloatArray, codebooks: Sequence[FloatArray]) -> tuple[Int32Array, FloatArray]:
    """Codes of vectors.

    Args:
        vectors: (n, C).
        codebooks: M codebooks, (K_m, C) each.

    Returns:
        (n, M) codes and (n, C) residuals ``r_M``.
    """
    codes = np.empty((len(vectors), len(codebooks)), np.int32)
    residual = np.array(vectors, np.float32)
    for level, codebook in enumerate(codebooks):
        codes[:, level] = nearest(residual, codebook)
        residual -= codebook[codes[:, level]]
    return codes, residual


def reconstruct(codes: Int32Array, codebooks: Sequence[FloatArray]) -> FloatArray:
    """(n, m) codes of the first m levels -> (n, C) sum of their entries."""
    out = np.zeros((len(codes), codebooks[0].shape[1]), np.float32)
    for level in range(codes.shape[1]):
        out += codebooks[level][codes[:, level]]
    return out
