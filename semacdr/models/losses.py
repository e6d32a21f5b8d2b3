"""Losses, each a function of tensors with its shapes stated; P positions, N candidates, D dim, m pairs."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from semacdr.models.precision import full_precision

CHUNK_ELEMENTS = 1 << 22
"""Logits held at once by :func:`linear_cross_entropy`: 16 MiB in float32, within a CPU's last-level cache."""
BLOCK_COLUMNS = 1_024
"""Columns of logits that one matrix product writes on a CPU; longer rows cost it up to a third of its speed."""


class _LinearCrossEntropy(torch.autograd.Function):
    """Softmax cross-entropy of ``states @ candidates.T`` without ever holding more than a chunk of the logits.

    The gradient is finished in the forward pass while a chunk's probabilities are at hand, so nothing is computed
    twice: three matrix products in all, as in a plain backward pass.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, candidates: Tensor, target: Tensor) -> Tensor:
        P, N = len(states), len(candidates)
        need_gradient = states.requires_grad or candidates.requires_grad
        rows = max(1, CHUNK_ELEMENTS // max(N, 1))
        columns = BLOCK_COLUMNS if states.device.type == "cpu" else max(N, 1)
        total = torch.zeros((), dtype=torch.float32, device=states.device)
        state_grad = torch.empty_like(states) if need_gradient else None
        candidate_grad = torch.zeros(candidates.shape, dtype=torch.float32, device=candidates.device)
        shape = (min(rows, P), N)
        logit_buffer, probability_buffer = states.new_empty(shape), states.new_empty(shape)
        for first in range(0, P, rows):
            chunk, wanted = states[first : first + rows], target[first : first + rows, None]
            logits, probability = logit_buffer[: len(chunk)], probability_buffer[: len(chunk)]
            for left in range(0, N, columns):
                torch.mm(chunk, candidates[left : left + columns].T, out=logits[:, left : left + columns])
            # One fused softmax is three times faster here than max, exp and sum apart; the log of the denominator
            # comes back from the largest probability, which is at least 1/N and so never underflows.
            torch.softmax(logits, dim=1, out=probability)
            log_mass = logits.amax(1).float() - probability.amax(1).float().log()
            total += (log_mass - logits.gather(1, wanted).squeeze(1).float()).sum()
            if state_grad is not None:
                probability.scatter_add_(1, wanted, probability.new_full((len(chunk), 1), -1.0))
                torch.mm(probability, candidates, out=state_grad[first : first + rows])
                if candidate_grad.dtype == probability.dtype:
                    candidate_grad.addmm_(probability.T, chunk)
                else:
                    candidate_grad += (probability.T @ chunk).float()
        if state_grad is not None:
            ctx.save_for_backward(state_grad, candidate_grad.to(candidates.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        state_grad, candidate_grad = ctx.saved_tensors
        (grad,) = grads
        return state_grad * grad.to(state_grad.dtype), candidate_grad * grad.to(candidate_grad.dtype), None


def linear_cross_entropy(states: Tensor, candidates: Tensor, target: Tensor) -> Tensor:
    """Sum over positions of the softmax cross-entropy, memory independent of P x N.

    Args:
        states: (P, D).
        candidates: (N, D).
        target: (P,) row of ``candidates`` that is right.

    Returns:
        scalar; divide by P for the mean.

    Relations: equals ``F.cross_entropy(states @ candidates.T, target, reduction="sum")`` in value and gradient.
    """
    if torch.is_autocast_enabled(states.device.type):
        dtype = torch.get_autocast_dtype(states.device.type)
        states, candidates = states.to(dtype), candidates.to(dtype)
    return _LinearCrossEntropy.apply(states, candidates, target)


def sampled_softmax(
    states: Tensor, positives: Tensor, negatives: Tensor, collisions: Tensor, log_expected: Tensor
) -> Tensor:
    """Sum over positions of the softmax over a position's positive and K shared negatives, logQ-corrected.

    A negative with ``q`` expected draws enters with its logit minus log q, so that the draws estimate the full
    softmax's denominator without bias (Bengio & Senecal 2008; Yi et al. 2019). The positive enters as it is, and a
    negative that is the position's own positive is struck out.

    Args:
        states: (P, D).
        positives: (P, D).
        negatives: (K, D).
        collisions: (P, K) True where a negative is the position's positive.
        log_expected: (K,) log of the expected number of draws of each negative.

    Returns:
        scalar; divide by P for the mean.

    Relations: :func:`linear_cross_entropy` is the full softmax, used while the catalogue allows it.
    """
    hit = (states * positives).sum(1, keepdim=True)  # (P, 1)
    missed = (states @ negatives.T - log_expected).masked_fill(collisions, float("-inf"))  # (P, K)
    logits = torch.cat([hit, missed], dim=1).float()
    return (logits.logsumexp(1) - logits[:, 0]).sum()


def pair_loss(positive: Tensor, negative: Tensor) -> Tensor:
    """(P,) scores of the right item and of a wrong one -> (P,) ``BCE(positive, 1) + BCE(negative, 0)``."""
    return F.softplus(-positive) + F.softplus(negative)


@full_precision
def clip_soft(x: Tensor, y: Tensor, temperature: float) -> Tensor:
    """CLIP's loss with soft targets, as LLM4CDSR has it (``Contrastive_Loss2`` of its code; systems.md 1.4).

    ``logits = x y^T / t``, ``T = softmax_rows((x x^T + y y^T) / 2 * t)``, and the mean over i of
    ``(CE(logits_i, T_i) + CE(logits^T_i, T^T_i)) / 2``. Nothing is normalised, and gradients flow through the targets.

    Args:
        x: (m, D).
        y: (m, D), row i is the partner of row i of ``x``.
        temperature: t.

    Returns:
        scalar mean.

    Relations: :func:`info_nce` compares by cosine, with targets that are given.
    """
    logits = x @ y.T / temperature  # (m, m)
    targets = torch.softmax((x @ x.T + y @ y.T) / 2 * temperature, dim=1)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets.T)) / 2


@full_precision
def info_nce(x: Tensor, y: Tensor, temperature: float, targets: Tensor | None = None) -> Tensor:
    """Symmetric contrastive loss between two views of m things (systems.md 2.2, L_item and L_seq).

    ``-1/m sum_i log exp(cos(x_i, y_i) / t) / sum_j exp(cos(x_i, y_j) / t)``, averaged over both directions.

    Args:
        x: (m, D).
        y: (m, D), row i is the other view of the thing in row i of ``x``.
        temperature: t.
        targets: (m, m) soft targets, rows summing to one, in place of the identity.

    Returns:
        scalar mean.
    """
    logits = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T / temperature  # (m, m)
    if targets is None:
        right = torch.arange(len(x), device=x.device)
        return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets.T)) / 2


@full_precision
def soft_targets(x: Tensor, temperature: float) -> Tensor:
    """(m, E) frozen vectors -> (m, m) row-softmax of their cosines: which things mean nearly the same."""
    unit = F.normalize(x, dim=1)
    return torch.softmax(unit @ unit.T / temperature, dim=1)


def triplet(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """``max(0, margin + |a - p|^2 - |a - n|^2)`` for each row (LoID, arXiv 2404.00236, L_cl).

    Args:
        anchor: (m, D).
        positive: (m, D) what row i of ``anchor`` belongs to.
        negative: (m, D) what it does not.
        margin: by which the negative must be farther, in squared distance.

    Returns:
        (m,) losses.
    """
    nearer = (anchor - positive).square().sum(1)
    farther = (anchor - negative).square().sum(1)
    return F.relu(margin + nearer - farther)
