"""The item tokens beside the texts: a causal encoder over the items of a history, every position of which has a target.

Texts are read for one prefix at a time; item tokens are cheap, so all prefixes of a row are learned in one pass.

Shapes: B rows, L events, P questions, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semacdr.models.layers import CausalEncoder, init_weights, positions_from_end


class ItemChannel(nn.Module):
    """States of every prefix of an item sequence, all domains in one order.

    Args:
        embedding_dim: D.
        num_layers: causal blocks.
        num_heads: heads of each.
        dropout: inside them.
        max_seq_len: L.
    """

    def __init__(self, embedding_dim: int, num_layers: int, num_heads: int, dropout: float, max_seq_len: int) -> None:
        super().__init__()
        self.encoder = CausalEncoder(embedding_dim, num_layers, num_heads, 2 * embedding_dim, dropout, max_seq_len)
        self.encoder.apply(init_weights)
        self.start = nn.Parameter(torch.empty(embedding_dim))
        nn.init.normal_(self.start, std=0.02)

    def forward(self, vectors: Tensor, length: Tensor) -> Tensor:
        """(B, L, D) item vectors and (B,) lengths -> (B, L+1, D) float32: column c is the state after c events."""
        # normalised, an item weighs as much beside the blocks' outputs as they do, however small the table starts
        x = F.layer_norm(vectors, vectors.shape[-1:])
        states = self.encoder(x, positions_from_end(length, x.shape[1])).float()
        return torch.cat([self.start.expand(len(states), 1, -1), states], dim=1)
