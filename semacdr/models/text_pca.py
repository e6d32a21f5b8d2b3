"""Principal components of frozen text vectors: where LLM4CDSR's global and local item tables come from."""

from __future__ import annotations

import torch
from torch import Tensor


def principal_components(vectors: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The mean and the leading axes of a cloud of vectors, computed in float64.

    Args:
        vectors: (n, E), n >= 1.
        count: axes wanted; fewer come back where E is smaller.

    Returns:
        (E,) mean and (E, k) orthonormal axes, the most varied first. Each axis points to where its largest entry is
        positive, so that the same vectors give the same axes.
    """
    wide = vectors.double()
    mean = wide.mean(0)
    centred = wide - mean
    axes = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1)[:, :count]
    largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    return mean.to(vectors.dtype), (axes * largest.sign()).to(vectors.dtype)


def project(vectors: Tensor, mean: Tensor, axes: Tensor) -> Tensor:
    """(n, E) vectors -> (n, k) coordinates; a zero vector, which stands for no text, stays zero."""
    known = (vectors != 0).any(1, keepdim=True)
    return torch.where(known, (vectors - mean) @ axes, 0.0)
