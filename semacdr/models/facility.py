"""Choosing a few vectors that stand for many: greedy maximisation of a submodular function."""

from __future__ import annotations

import torch
from torch import Tensor

TIE = 1e-5
"""Gains this near are equal. Two vectors that can only stand for themselves and each other gain the same, and the order
of summation, which changes with the padding, must not choose between them."""


@torch.no_grad()
def representatives(x: Tensor, member: Tensor, count: int, sigma: float = 1.0) -> Tensor:
    """Facility location (Yang et al., DGRec, WSDM 2023).

    ``s_ij = exp(-|x_i - x_j| / (sigma mean))``, with the mean distance of all pairs of a set, one and itself included;
    ``f(S) = sum_j max_{i in S} s_ij``. At each of ``count`` steps the member that raises f most is taken, of equal ones
    the first; nobody twice.

    Args:
        x: (P, L, D) vectors.
        member: (P, L) bool, the set of each row.
        count: how many to take.
        sigma: width of the kernel.

    Returns:
        (P, L) bool: those taken, all members of a row that has no more than ``count``.
    """
    many = (member.sum(1) > count).nonzero().squeeze(1)
    taken = member.clone()
    if not len(many):
        return taken
    x, inside = x[many].float(), member[many]
    pair = inside[:, :, None] & inside[:, None, :]
    distance = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist") * pair
    mean = distance.sum((1, 2)) / pair.sum((1, 2))
    similarity = torch.exp(-distance / (sigma * mean.clamp(min=1e-12))[:, None, None]) * pair
    best = x.new_zeros(len(many), 1, x.shape[1])  # how well each member is represented so far
    chosen = torch.zeros_like(inside)
    row = torch.arange(len(many), device=x.device)
    for _ in range(count):
        gain = (similarity - best).clamp_(min=0).sum(2)
        gain.masked_fill_(~inside | chosen, -1)
        at = (gain >= gain.amax(1, keepdim=True) - TIE).int().argmax(1)
        chosen[row, at] = True
        best = torch.maximum(best, similarity[row, at].unsqueeze(1))
    taken[many] = chosen
    return taken
