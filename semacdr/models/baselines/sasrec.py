"""SASRec on the mixed sequence (Kang & McAuley 2018), trained with a softmax over the catalogue.

A pre-norm causal transformer over item ids, every position a target. The full softmax in place of one negative is what
makes this old model a strong baseline (Klenitskiy & Vasilev, RecSys 2023); ``loss: bce`` is the original's one.

Where we differ from the paper, and why:
- The softmax is over the trained items of the target's domain, as it is asked (``scope: all``: of every domain).
- Pre-norm blocks with GELU in place of the paper's mixed order with ReLU; they train without a careful warm-up.
- Inputs are normalised in place of a factor sqrt(D): item tables start small, so that items of few events are not
  mostly chance, and still weigh as much as the blocks' outputs.
- Positions are counted from the newest event, which so always meets the same vector.
- The empty history has a learned start vector, which is trained on first events.
- Items that training never saw are zero as inputs and score zero.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semacdr.data.batches import Batch
from semacdr.data.dataset import Catalogue
from semacdr.models.base import Loss, TextTables, VectorRecommender
from semacdr.models.layers import ID_STD, CausalEncoder, init_weights, positions_from_end
from semacdr.models.losses import pair_loss
from semacdr.models.negatives import UniformNegatives, window_items
from semacdr.models.settings import LossSettings
from semacdr.models.softmax import CandidateSoftmax


class SASRecConfig(LossSettings):
    """Settings of SASRec."""


class SASRec(VectorRecommender):
    """The id-based causal transformer."""

    Config = SASRecConfig
    trained: Tensor
    encoder: nn.Module

    def __init__(self, config: SASRecConfig, catalogue: Catalogue, text: TextTables | None = None) -> None:
        super().__init__(config, catalogue, text)
        c = config
        self.id = nn.Embedding(catalogue.num_items + 1, c.embedding_dim)
        self.encoder = CausalEncoder(c.embedding_dim, c.num_layers, c.num_heads, c.ffn_dim, c.dropout, c.max_seq_len)
        self.start = nn.Embedding(1, c.embedding_dim)
        self.softmax = CandidateSoftmax(catalogue, c.scope, c.num_negatives)
        self.negatives = UniformNegatives(self.softmax.group) if c.loss == "bce" else None
        self.register_buffer("trained", torch.from_numpy(catalogue.train_count > 0).float(), persistent=False)
        self.encoder.apply(init_weights)
        nn.init.normal_(self.id.weight, std=ID_STD)
        nn.init.normal_(self.start.weight, std=0.02)

    def inputs(self, items: Tensor) -> Tensor:
        """(B, L) ids -> (B, L, D); zero for items that training never saw."""
        # Normalised, an item weighs as much beside the blocks' outputs as they do, however small the table starts.
        return F.layer_norm(self.id(items), (self.id.embedding_dim,), eps=1e-12) * self.trained[items].unsqueeze(2)

    def states(self, items: Tensor, length: Tensor) -> Tensor:
        """(B, L) ids -> (B, L, D)."""
        out: Tensor = self.encoder(self.inputs(items), positions_from_end(length, items.shape[1]))
        return out

    def read(self, states: Tensor, items: Tensor, row: Tensor, column: Tensor, target_domain: Tensor) -> Tensor:
        """States by which the events after given positions are predicted.

        Args:
            states: (B, L, D) from :meth:`states`.
            items: (B, L) ids.
            row: (P,) row of each position.
            column: (P,) column of each position, -1 for the empty history, which has the start vector.
            target_domain: (P,) domain of what is predicted.

        Returns:
            (P, D).
        """
        start = self.start.weight.to(states.dtype)
        return torch.where((column >= 0).unsqueeze(1), states[row, column.clamp(min=0)], start)

    def loss(self, batch: Batch) -> Loss:
        """The loss of every position's next item: softmax cross-entropy, or that of the item and a wrong one."""
        row, column, target = batch.events()
        states = self.states(batch.items, batch.length)
        states = self.read(states, batch.items, row, column, self.item_domain[target])
        if self.negatives is not None:
            wrong = self.negatives.draw(self.softmax.group[target], row, window_items(batch))
            right, wrong = ((states * self.id(ids)).sum(1).float() for ids in (target, wrong))
            rec = pair_loss(right, wrong).sum() / max(1, len(target))
            return Loss(rec, {"rec": float(rec.detach())})
        every = torch.arange(self.num_items + 1, device=target.device)
        rec = self.softmax(states, target, self.softmax.draw(target), self.id.weight, every)
        return Loss(rec, {"rec": float(rec.detach())})

    def item_vectors(self) -> Tensor:
        """(N+1, D); zero for items that training never saw, which an id-based model cannot tell apart."""
        return self.id.weight * self.trained.unsqueeze(1)

    def user_vectors(self, batch: Batch) -> Tensor:
        """(B, D) state of the newest event, or the start vector."""
        assert batch.target_domain is not None
        rows = torch.arange(len(batch.items), device=batch.items.device)
        states = self.states(batch.items, batch.length)
        return self.read(states, batch.items, rows, batch.length - 1, batch.target_domain)
