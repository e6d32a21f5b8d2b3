"""Whitened text vectors: what a sentence encoder says of texts, on axes that have nothing to do with each other."""

from __future__ import annotations

import torch
from torch import Tensor

from semacdr.models.text_pca import principal_components


def whiten(vectors: Tensor, count: int) -> Tensor:
    """Vectors on their leading axes, each axis with variance one (BERT-whitening, Su et al. 2021).

    Args:
        vectors: (n, E), n >= 1.
        count: axes wanted.

    Returns:
        (n, k) coordinates, k the axes there are, at most ``count``; an axis along which nothing varies is zero.
    """
    mean, axes = principal_components(vectors, count)
    along = (vectors - mean).double() @ axes.double()
    spread = along.square().mean(0).sqrt()
    flat = spread <= 1e-4 * spread.max()
    return torch.where(flat, 0.0, along / torch.where(flat, 1.0, spread)).to(vectors.dtype)
