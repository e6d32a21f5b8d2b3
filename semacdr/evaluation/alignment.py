"""How well two sets of vectors of the same users agree: linear CKA and the t-SNE distance (systems.md 4.2).

Both take two (n, d) arrays whose rows belong to the same users, for example their vectors in two domains, from any
model. CKA compares the shapes of the two clouds and does not care how they lie; the t-SNE distance asks whether a
user's two points lie together on one map.
"""

from __future__ import annotations

import numpy as np

from semacdr.data.schema import Float64Array, FloatArray
from semacdr.errors import MissingExtraError

PERPLEXITY = 30.0


def linear_cka(a: FloatArray | Float64Array, b: FloatArray | Float64Array) -> float:
    """Linear centred kernel alignment (Kornblith et al., ICML 2019).

    ``||B^T A||_F^2 / (||A^T A||_F ||B^T B||_F)`` with centred columns: 1 for equal shapes, whatever the rotation, the
    uniform scale and the place; near 0 for unrelated ones if n is well above d. With n at or below d it is high by
    chance: compare it with the value of permuted rows.

    Args:
        a: (n, d) vectors.
        b: (n, e) vectors of the same n users, row by row.

    Returns:
        from 0 to 1; 0 if either side is constant, which then agrees with nothing.

    Raises:
        ValueError: the arrays are not two-dimensional or of different n, or there are fewer than two users.
    """
    x, y = _centred(a, b)
    size = float(np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))
    return float(np.linalg.norm(y.T @ x) ** 2 / size) if size > 0 else 0.0


def tsne_distance(a: FloatArray | Float64Array, b: FloatArray | Float64Array, seed: int = 0) -> float:
    """How far apart a user's two points lie on one t-SNE map, in units of a random pair's distance.

    One two-dimensional t-SNE (perplexity 30 or what n allows, PCA initialisation) of all 2n vectors; the mean distance
    of the n own pairs over the mean distance of all n^2 pairs of one vector of ``a`` and one of ``b``. Lower is better
    aligned; 1 is chance. A t-SNE map depends on the library's version and on the platform in the last digits, and what
    comes of it should be read to two.

    Args:
        a: (n, d) vectors.
        b: (n, d) vectors of the same n users, row by row.
        seed: of t-SNE.

    Raises:
        ValueError: arrays of different shape, or fewer than two users.
        MissingExtraError: scikit-learn is not installed.
    """
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        raise MissingExtraError("scikit-learn", "train") from None
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if x.shape != y.shape or x.ndim != 2 or len(x) < 2:
        raise ValueError(f"two (n, d) arrays of n >= 2 users are needed, not {x.shape} and {y.shape}")
    n = len(x)
    perplexity = min(PERPLEXITY, (2 * n - 1) / 3)  # t-SNE looks for three times as many neighbours
    stacked = np.concatenate([x, y])
    spread = float(stacked.std())
    if spread == 0:
        return 1.0  # one point: own pairs and random ones are alike
    # The scale is taken out, because the optimiser's steps know lengths.
    flat = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(stacked / spread)
    points, others = flat[:n].astype(np.float64), flat[n:].astype(np.float64)
    own = np.linalg.norm(points - others, axis=1).mean()
    return float(own / _mean_distance(points, others))


def _centred(a: FloatArray | Float64Array, b: FloatArray | Float64Array) -> tuple[Float64Array, Float64Array]:
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or len(x) < 2:
        raise ValueError(f"two (n, d) arrays of n >= 2 users are needed, not {x.shape} and {y.shape}")
    return x - x.mean(0), y - y.mean(0)


def _mean_distance(points: Float64Array, others: Float64Array) -> float:
    """Mean distance over all pairs of one of each, a row at a time."""
    return float(np.mean([np.linalg.norm(others - point, axis=1).mean() for point in points]))
