"""Codebooks by k-means, level by level: each level's centres are fitted to what the levels before it left."""

from __future__ import annotations

import warnings

import numpy as np

from semacdr.data.schema import FloatArray
from semacdr.embedding.id_settings import IdSettings
from semacdr.embedding.residual import nearest
from semacdr.faiss_library import faiss_builds, load_faiss
from semacdr.progress import say

_START_ROWS_PER_CODE = 64  # with 16, outliers become centres: fewer codes carry the later levels

_REVIVALS = 20  # rounds: what is revived can die once more, as the centres about it move
_BLOCK_ROWS = 65_536


def kmeans_engine(settings: IdSettings) -> str:
    """Whose k-means is used: ``auto`` is faiss where it is installed, else scikit-learn."""
    if settings.kmeans != "auto":
        return settings.kmeans
    return "faiss" if faiss_builds() else "scikit-learn"


def fit_residual_kmeans(vectors: FloatArray, settings: IdSettings) -> list[FloatArray]:
    """Codebooks of every level.

    The squared error over ``vectors`` never grows from one level to the next: each centre is the mean of the residuals
    that it was nearest to, and a mean is nearer to its members than zero is.

    Args:
        vectors: (n, C), n >= 1.
        settings: levels, codes, k-means and seed.

    Returns:
        M codebooks (K_m, C), K_m at most ``settings.codes`` and at most the number of different residuals.
    """
    engine = kmeans_engine(settings)
    residual = np.array(vectors, np.float32)
    codebooks = []
    for level in range(settings.levels):
        codebook = fit_codebook(residual, settings.codes, settings, (settings.seed + level) % 2**31, engine)
        code = nearest(residual, codebook)
        codebooks.append(codebook)
        residual -= codebook[code]
        say(f"level {level + 1} of {settings.levels}: {len(codebook)} codes ({engine})")
    return codebooks


def fit_codebook(
    residual: FloatArray, codes: int, settings: IdSettings, seed: int, engine: str | None = None
) -> FloatArray:
    """(n, C) residuals -> (K, C) centres; the residuals themselves where no more than ``codes`` of them differ.

    Centres that nothing is nearest to are revived; K is less than ``codes`` only where some die round after round.
    """
    different = _few_different(residual, codes)
    if different is not None:
        return different
    sample = min(len(residual), codes * settings.rows_per_code)
    rows = residual[np.linspace(0, len(residual) - 1, sample).astype(np.int64)]
    few = _few_different(rows, codes)
    if few is None:
        fit = _faiss if (engine or kmeans_engine(settings)) == "faiss" else _scikit_learn
        few = fit(rows, codes, settings.kmeans_iterations, seed)
    return _revived(residual, _means(residual, few), codes)


def _revived(residual: FloatArray, centres: FloatArray, codes: int) -> FloatArray:
    """As many centres as were asked for: those that died begin anew at the rows that the others serve worst."""
    for _ in range(_REVIVALS):
        missing = codes - len(centres)
        if missing <= 0:
            break
        seen: dict[bytes, int] = {}  # a row that stands twice is one centre
        for at in np.argsort(-_errors(residual, centres), kind="stable").tolist():
            seen.setdefault((residual[at] + np.float32(0)).tobytes(), at)
            if len(seen) == missing:
                break
        centres = _means(residual, np.concatenate([centres, residual[list(seen.values())]]))
    return centres


def _errors(residual: FloatArray, centres: FloatArray) -> FloatArray:
    """(n,) squared distance of each row to its nearest centre."""
    code, errors = nearest(residual, centres), np.empty(len(residual), np.float32)
    for start in range(0, len(residual), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        errors[rows] = np.square(residual[rows] - centres[code[rows]]).sum(axis=1)
    return errors


def _few_different(rows: FloatArray, limit: int) -> FloatArray | None:
    """The different rows in order of appearance, or None if they are more than ``limit``."""
    seen: dict[bytes, int] = {}
    for at, row in enumerate(rows + np.float32(0)):  # minus zero is zero
        seen.setdefault(row.tobytes(), at)
        if len(seen) > limit:
            return None
    return rows[list(seen.values())].copy()


def _means(residual: FloatArray, centres: FloatArray) -> FloatArray:
    """One step of Lloyd's algorithm over all residuals; centres that none of them is nearest to are dropped."""
    code = nearest(residual, centres)
    order = np.argsort(code, kind="stable")
    used, start = np.unique(code[order], return_index=True)
    stops = np.append(start[1:], len(order))
    means = np.empty((len(used), residual.shape[1]), np.float32)
    for at, (first, stop) in enumerate(zip(start, stops)):
        means[at] = residual[order[first:stop]].mean(axis=0, dtype=np.float64)
    return means


def _faiss(rows: FloatArray, codes: int, iterations: int, seed: int) -> FloatArray:
    faiss = load_faiss()
    kmeans = faiss.Kmeans(
        rows.shape[1],
        codes,
        niter=iterations,
        seed=seed,
        min_points_per_centroid=1,  # no warning for small catalogues
        max_points_per_centroid=len(rows),  # the sample is ours
    )
    kmeans.train(np.ascontiguousarray(rows), init_centroids=_spread_out(rows, codes, seed))
    return np.asarray(kmeans.centroids, np.float32)


def _spread_out(rows: FloatArray, codes: int, seed: int) -> FloatArray:
    """(K, C) first centres by k-means++, from a part of the rows; faiss's own are drawn blindly."""
    from sklearn.cluster import kmeans_plusplus

    part = rows[np.linspace(0, len(rows) - 1, min(len(rows), codes * _START_ROWS_PER_CODE)).astype(np.int64)]
    return np.ascontiguousarray(kmeans_plusplus(part, codes, random_state=seed)[0], np.float32)


def _scikit_learn(rows: FloatArray, codes: int, iterations: int, seed: int) -> FloatArray:
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    # with more threads, the order of the sums changes from run to run, and with it the last bits
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has not converged is what a number of steps means
        fitted = KMeans(codes, n_init=1, max_iter=iterations, random_state=seed).fit(rows)
    return np.asarray(fitted.cluster_centers_, np.float32)
