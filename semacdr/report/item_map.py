"""A map of the item space: a sample of a model's item vectors in two dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np

from semacdr.data.schema import Float64Array, FloatArray, Int64Array
from semacdr.models.base import VectorRecommender
from semacdr.run import LoadedRun

LARGEST = 2_000
FEW = 12  # fewer points have no neighbourhoods that t-SNE could keep
PERPLEXITY = 30.0


def item_map(run: LoadedRun) -> dict[str, Any] | None:
    """The map of a run's items, the same items for every run on the same data.

    Vectors are brought to length 1, so that the map shows directions and not how popular an item is. t-SNE (van der
    Maaten and Hinton, JMLR 2008), started from the two main components; these alone where there are few items.

    Returns:
        ``{method, items, x, y}``: item ids, coordinates from 0 to 1; None for a model without item vectors.
    """
    if not isinstance(run.model, VectorRecommender):
        return None
    chosen = sample(run.dataset.item_domain)
    vectors = run.model.prepared_items()[chosen].float().cpu().numpy()
    length = np.linalg.norm(vectors, axis=1)
    chosen, vectors = chosen[length > 0], vectors[length > 0] / length[length > 0, None]
    if len(chosen) < 3:
        return None
    method, flat = flatten(vectors)
    low, span = flat.min(axis=0), np.ptp(flat, axis=0)
    places = np.round((flat - low) / np.where(span > 0, span, 1.0), 4)
    return {
        "method": method,
        "of": run.dataset.num_items,
        "items": [str(item) for item in run.dataset.item_ids[chosen]],
        "x": places[:, 0].tolist(),
        "y": places[:, 1].tolist(),
    }


def sample(item_domain: np.ndarray, largest: int = LARGEST) -> Int64Array:
    """(n,) ascending item indices, at most ``largest`` of them, a domain as often as it occurs."""
    items = np.flatnonzero(item_domain >= 0)
    if len(items) <= largest:
        return items
    return np.sort(np.random.default_rng(0).choice(items, largest, replace=False))


def flatten(vectors: FloatArray) -> tuple[str, Float64Array]:
    """(n, D) vectors as (n, 2), and by what. The same on one machine: one thread, one seed."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    if len(vectors) < FEW or np.ptp(centred) < 1e-9:
        return "PCA", _components(centred)
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    with threadpool_limits(limits=1):
        tsne = TSNE(2, perplexity=perplexity, init="pca", random_state=0, max_iter=500)
        return "t-SNE", tsne.fit_transform(centred).astype(np.float64)


def _components(centred: Float64Array) -> Float64Array:
    """(n, 2) the two main components; zeros where there is but one."""
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    found = u[:, :2] * s[:2]
    return np.pad(found, ((0, 0), (0, 2 - found.shape[1])))
