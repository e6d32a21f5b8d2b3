"""SASRec on the target domain's own events: what a recommender gets that knows nothing of the other domains.

Kang & McAuley 2018, as in :mod:`semacdr.models.baselines.sasrec`, with an encoder and a start vector for each domain.
All encoders read the mixed row, each through a mask that shows an event only the earlier events of its own domain, and
positions are counted inside the domain. That is SASRec on each domain's sequences apart, but for one thing:
``max_seq_len`` counts mixed events. Who has no event in the target domain is a user without history.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from semacdr.data.dataset import Catalogue
from semacdr.models.base import TextTables
from semacdr.models.baselines.sasrec import SASRec, SASRecConfig
from semacdr.models.layers import CausalEncoder, init_weights, last_index, positions_from_end_within


class SASRecSingleConfig(SASRecConfig):
    """Settings of SASRecSingle, those of SASRec."""


class SASRecSingle(SASRec):
    """The id-based causal transformer, domain by domain."""

    Config = SASRecSingleConfig
    encoder: nn.ModuleList

    def __init__(self, config: SASRecSingleConfig, catalogue: Catalogue, text: TextTables | None = None) -> None:
        super().__init__(config, catalogue, text)
        c, domains = config, len(catalogue.domains)
        self.encoder = nn.ModuleList(
            CausalEncoder(c.embedding_dim, c.num_layers, c.num_heads, c.ffn_dim, c.dropout, c.max_seq_len)
            for _ in range(domains)
        )
        self.start = nn.Embedding(domains, c.embedding_dim)
        self.encoder.apply(init_weights)
        nn.init.normal_(self.start.weight, std=0.02)

    def states(self, items: Tensor, length: Tensor) -> Tensor:
        """(B, L) ids -> (B, L, D): each event's state among the events of its domain; zero at padding."""
        x, width = self.inputs(items), items.shape[1]
        domain = self.item_domain[items]  # (B, L), -1 at padding
        same = domain[:, :, None] == domain[:, None, :]
        causal = torch.ones(width, width, dtype=torch.bool, device=items.device).tril()
        mask, positions = (same & causal).unsqueeze(1), positions_from_end_within(same)
        states = torch.zeros_like(x)
        for index, encoder in enumerate(self.encoder):
            states = states + encoder(x, positions, mask) * (domain == index).unsqueeze(2)
        return states

    def read(self, states: Tensor, items: Tensor, row: Tensor, column: Tensor, target_domain: Tensor) -> Tensor:
        """As :meth:`SASRec.read`, of the newest event of the target's domain at or before each position."""
        domain = self.item_domain[items]
        newest = torch.stack([last_index(domain == index) for index in range(len(self.encoder))])  # (domains, B, L)
        at = torch.where(column >= 0, newest[target_domain, row, column.clamp(min=0)], -1)
        start = self.start(target_domain).to(states.dtype)
        return torch.where((at >= 0).unsqueeze(1), states[row, at.clamp(min=0)], start)
