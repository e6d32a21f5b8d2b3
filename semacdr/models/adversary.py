"""Adversaries that make vectors of different domains look alike, each one term of a loss that is minimised.

The critic learns by the term itself; what it judges stands behind a :func:`reverse`, so that the same step moves it
against the critic (Ganin and Lempitsky, ICML 2015).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return -grads[0]


def reverse(x: Tensor) -> Tensor:
    """The same values; gradients pass with the opposite sign."""
    out: Tensor = _Reverse.apply(x)
    return out


def critic(width: int, hidden: int, num_domains: int) -> nn.Sequential:
    """A network from (n, width) to a value for each domain."""
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, num_domains))


def conditional_loss(network: nn.Module, vectors: Tensor, logits: Tensor, domain: Tensor) -> Tensor:
    """Telling the domain from a vector and what is predicted of it (Long et al., CDAN, NeurIPS 2018).

    Cross-entropy of the domain, read from ``h (x) (p, 1 - p)`` with ``p = sigmoid(logit)``.

    Args:
        network: critic of width 2 D.
        vectors: (n, D) h.
        logits: (n,).
        domain: (n,).
    """
    p = torch.sigmoid(logits)
    joint = vectors.unsqueeze(1) * torch.stack([p, 1 - p], dim=1).unsqueeze(2)  # (n, 2, D)
    return F.cross_entropy(network(reverse(joint.flatten(1))), domain)


def wasserstein_loss(network: nn.Module, vectors: Tensor, domain: Tensor, penalty: float) -> Tensor:
    """Minus the distance that a critic sees between a domain and the others, with its gradient held near one.

    ``-(mean of f_d over d - mean of f_d over the others) + penalty mean (|grad f_d(x)| - 1)^2``, the mean over domains
    d, with x drawn between random pairs of both sides (Gulrajani et al., 2017).

    Args:
        network: critic of width D.
        vectors: (n, D).
        domain: (n,).
        penalty: weight of the gradient's part.
    """
    fixed, values = vectors.detach(), network(reverse(vectors))
    terms = []
    for d in range(values.shape[1]):
        inside = domain == d
        here, there = inside.nonzero().squeeze(1), (~inside).nonzero().squeeze(1)
        if not len(here) or not len(there):
            continue
        distance = values[here, d].mean() - values[there, d].mean()
        count = min(len(here), len(there))
        left, right = (fixed[side[torch.randperm(len(side), device=side.device)[:count]]] for side in (here, there))
        share = torch.rand(count, 1, device=fixed.device, dtype=fixed.dtype)
        between = (share * left + (1 - share) * right).requires_grad_()
        (slope,) = torch.autograd.grad(network(between)[:, d].sum(), between, create_graph=True)
        terms.append(penalty * (slope.norm(dim=1) - 1).square().mean() - distance)
    return torch.stack(terms).mean() if terms else vectors.sum() * 0
