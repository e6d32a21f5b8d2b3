"""Losses of the dual-LLM model that no other model has, as functions of tensors (systems.md 4.2; forms ours).

Shapes: P texts, T tokens, m vectors, D width of the shared user vectors, d width of a language model, n items.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from semacdr.models.precision import full_precision

KEPT, RANDOM = 0.1, 0.1
"""Of the chosen tokens, the shares that stay as they are and that become a random token; the rest become the mask."""


def mask_tokens(ids: Tensor, maskable: Tensor, rate: float, mask_id: int, vocabulary: Tensor) -> tuple[Tensor, Tensor]:
    """Hides tokens as BERT does (Devlin et al. 2019): of the chosen ones 80 % are masked, 10 % random, 10 % kept.

    Args:
        ids: (P, T) tokens.
        maskable: (P, T) True where a token may be chosen: neither padding nor special.
        rate: probability with which each is chosen.
        mask_id: the mask token.
        vocabulary: (V,) tokens that a random one is drawn from.

    Returns:
        (P, T) tokens to be read, and (P, T) True where the token was chosen and is to be told.
    """
    chosen = (torch.rand(ids.shape, device=ids.device) < rate) & maskable
    how = torch.rand(ids.shape, device=ids.device)
    anything = vocabulary[torch.randint(len(vocabulary), ids.shape, device=ids.device)]
    other = torch.where(how < KEPT, ids, torch.where(how < KEPT + RANDOM, anything, mask_id))
    return torch.where(chosen, other, ids), chosen


@full_precision
def multi_positive_nce(x: Tensor, positive: Tensor, temperature: float) -> Tensor:
    """InfoNCE with any number of positives for each vector (the outer form of Khosla et al., NeurIPS 2020).

    ``mean_i -1/|P_i| sum_{p in P_i} log exp(cos(x_i, x_p) / t) / sum_{j != i} exp(cos(x_i, x_j) / t)`` over the
    vectors that have a positive; 0 if none has.

    Args:
        x: (m, D).
        positive: (m, m) True where j is a positive of i; the diagonal does not count.
        temperature: t.
    """
    itself = torch.eye(len(x), dtype=torch.bool, device=x.device)
    positive = positive & ~itself
    count = positive.sum(1)
    if not bool(count.any()):
        return x.new_zeros(())
    unit = F.normalize(x, dim=1)
    logits = (unit @ unit.T / temperature).masked_fill(itself, float("-inf"))
    log_share = torch.log_softmax(logits, dim=1).masked_fill(~positive, 0.0)
    each = -log_share.sum(1) / count.clamp(min=1)
    return each[count > 0].mean()


@full_precision
def jaccard(sets: Tensor) -> Tensor:
    """(m, L) item ids, 0 for nothing -> (m, m) Jaccard similarity of the rows as sets, 0 where both are empty."""
    known, place = torch.unique(sets, return_inverse=True)
    members = torch.zeros(len(sets), len(known), device=sets.device)
    members.scatter_(1, place, 1.0)
    members[:, known == 0] = 0
    shared = members @ members.T
    size = members.sum(1)
    return shared / (size[:, None] + size[None, :] - shared).clamp(min=1)


@full_precision
def preservation_loss(decoded: Tensor, u: Tensor, q: Tensor) -> Tensor:
    """Reconstruction that keeps a domain's own geometry: ``||q^ - q||^2 + ||S(u) - S(q)||_F^2 / m^2``.

    The first term is a mean over rows and coordinates, so that its size does not depend on d; S is the matrix of
    cosines inside the batch. ``q`` is taken as given: no gradient flows into it.

    Args:
        decoded: (m, d) what the decoder makes of ``u``.
        u: (m, D) shared user vectors.
        q: (m, d) what the language model said.
    """
    q = q.detach()
    mine, theirs = F.normalize(u, dim=1), F.normalize(q, dim=1)
    return F.mse_loss(decoded, q) + F.mse_loss(mine @ mine.T, theirs @ theirs.T)


def pseudo_label_loss(teacher: Tensor, student: Tensor, top: int, confidence: float) -> Tensor:
    """Cross-entropy of the student against the teacher's few best items, where the teacher is sure of them.

    Args:
        teacher: (m, n) logits of the model that read the users in the items' own domain; no gradient.
        student: (m, n) logits from the other domain's text.
        top: items that are kept of each teacher row; their probabilities are scaled to sum to one.
        confidence: rows whose best ``top`` items hold less probability teach nothing.

    Returns:
        mean over the rows that teach; 0 if none does.
    """
    share, place = torch.softmax(teacher.detach(), dim=1).topk(min(top, teacher.shape[1]), dim=1)
    mass = share.sum(1)
    sure = mass >= confidence
    if not bool(sure.any()):
        return student.new_zeros(())
    log_share = torch.log_softmax(student, dim=1).gather(1, place)
    each = -(share / mass[:, None] * log_share).sum(1)
    return each[sure].mean()
