"""UniSRec-style: items are frozen text vectors under a mixture of experts, histories a causal transformer.

Hou et al., KDD 2022 (code: RUCAIBox/UniSRec), its inductive setting, in which items have no ids:

    expert   p_k(x) = (dropout(x) - b_k) W_k                                  "parametric whitening"
    gate     g(x) = softmax(x W_g + eps softplus(x W_n)), eps ~ N(0, 1), in training only
    item     v = sum_k g_k p_k(x)
    score    s(u, i) = cos(h, v_i) / temperature,   h the newest state of the transformer over v

Published is a pre-training on other data with two contrastive losses, in-batch negatives, then a fine-tuning of the
adaptor alone with the softmax over all items. Here all is trained at once, on the data at hand, with the softmax over
the trained items of the target's domain at every position, like the other sequence models; so the two losses of the
pre-training are left out. The transformer is this package's (pre-norm, positions from the end), and what it reads is
normalised. Several views stand side by side as one long text vector. An item without any text is the zero vector and
scores 0; a new item is as good as any other.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from semacdr.data.batches import Batch
from semacdr.data.dataset import Catalogue
from semacdr.models.base import Loss, TextTables, VectorRecommender, needed_views
from semacdr.models.layers import CausalEncoder, Dropout, init_weights, positions_from_end
from semacdr.models.settings import SequenceSettings
from semacdr.models.softmax import CandidateSoftmax

NOISE_FLOOR = 1e-2  # of the gate's noise, as in the published code
BLOCK_ITEMS = 4_096  # adapted at once for scoring


class UniSRecConfig(SequenceSettings):
    """Settings of UniSRec."""

    views: list[str] | None = None
    """Text views to use, side by side; null takes all that the tables have."""
    num_experts: int = Field(8, gt=0)
    """G, whitening layers of the adaptor."""
    adapter_dropout: float = Field(0.2, ge=0, lt=1)
    """On the text vectors, for each expert anew."""
    temperature: float = Field(0.07, gt=0)
    """Divides the cosine."""


class Whitening(nn.Module):
    """``dropout(x) W - b W``: (n, E) -> (n, D). ``b`` outside the product spares the gradient of all text vectors."""

    def __init__(self, text_dim: int, embedding_dim: int, dropout: float) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(text_dim))
        self.linear = nn.Linear(text_dim, embedding_dim, bias=False)
        self.dropout = Dropout(dropout)
        nn.init.normal_(self.linear.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(n, E) -> (n, D)."""
        out: Tensor = self.linear(self.dropout(x)) - self.linear(self.bias)
        return out


class ExpertAdaptor(nn.Module):
    """A mixture of whitening layers: (n, E) -> (n, D). The gate starts even."""

    def __init__(self, text_dim: int, embedding_dim: int, num_experts: int, dropout: float) -> None:
        super().__init__()
        self.experts = nn.ModuleList(Whitening(text_dim, embedding_dim, dropout) for _ in range(num_experts))
        self.gate = nn.Parameter(torch.zeros(text_dim, num_experts))
        self.noise = nn.Parameter(torch.zeros(text_dim, num_experts))

    def weights(self, x: Tensor) -> Tensor:
        """(n, E) -> (n, G) weights of the experts, with noise while training."""
        logits = x @ self.gate
        if self.training:
            logits = logits + torch.randn_like(logits) * (F.softplus(x @ self.noise) + NOISE_FLOOR)
        return torch.softmax(logits, dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, E) text vectors -> (n, D)."""
        weights = self.weights(x)
        parts = [weights[:, at : at + 1] * expert(x) for at, expert in enumerate(self.experts)]
        return torch.stack(parts).sum(0)


class UniSRec(VectorRecommender):
    """The text-only transferable sequence model; see the module's text."""

    Config = UniSRecConfig
    reads_text = True
    text: Tensor
    has_text: Tensor

    def __init__(self, config: UniSRecConfig, catalogue: Catalogue, text: TextTables | None = None) -> None:
        super().__init__(config, catalogue, text)
        c = config
        self.temperature = c.temperature
        tables = torch.cat(list(needed_views("UniSRec", text, c.views).values()), dim=1).float()
        self.register_buffer("text", tables, persistent=False)
        self.register_buffer("has_text", (tables != 0).any(1), persistent=False)
        self.adaptor = ExpertAdaptor(tables.shape[1], c.embedding_dim, c.num_experts, c.adapter_dropout)
        self.encoder = CausalEncoder(c.embedding_dim, c.num_layers, c.num_heads, c.ffn_dim, c.dropout, c.max_seq_len)
        self.start = nn.Embedding(1, c.embedding_dim)
        self.softmax = CandidateSoftmax(catalogue, c.scope, c.num_negatives)
        self.encoder.apply(init_weights)
        nn.init.normal_(self.start.weight, std=0.02)

    def adapted(self, ids: Tensor) -> Tensor:
        """(n,) ids -> (n, D) unit vectors; zero without text."""
        return F.normalize(self.adaptor(self.text[ids]), dim=1) * self.has_text[ids].unsqueeze(1)

    def states(self, vectors: Tensor, length: Tensor) -> Tensor:
        """(B, L, D) unit item vectors, zero at padding -> (B, L, D)."""
        x = F.layer_norm(vectors, vectors.shape[-1:], eps=1e-12)
        out: Tensor = self.encoder(x, positions_from_end(length, vectors.shape[1]))
        return out

    def read(self, states: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """(P, D) user vectors at positions: unit states over the temperature; the start vector at column -1."""
        start = self.start.weight.to(states.dtype)
        state = torch.where((column >= 0).unsqueeze(1), states[row, column.clamp(min=0)], start)
        return F.normalize(state, dim=1) / self.temperature

    def loss(self, batch: Batch) -> Loss:
        """Softmax cross-entropy of every position's next item."""
        row, column, target = batch.events()
        drawn = self.softmax.draw(target)
        needed = torch.unique(torch.cat([batch.items.flatten(), target, *(ids for _, ids, _ in drawn)]))
        place = torch.zeros(self.num_items + 1, dtype=torch.long, device=target.device)
        place[needed] = torch.arange(len(needed), device=target.device)
        vectors = self.adapted(needed)
        states = self.states(vectors[place[batch.items]], batch.length)
        rec = self.softmax(self.read(states, row, column), target, drawn, vectors, place)
        return Loss(rec, {"rec": float(rec.detach())})

    def item_vectors(self) -> Tensor:
        """(N+1, D) unit vectors."""
        ids = torch.arange(self.num_items + 1, device=self.item_domain.device)
        return torch.cat([self.adapted(block) for block in ids.split(BLOCK_ITEMS)])

    def user_vectors(self, batch: Batch) -> Tensor:
        """(B, D) unit state of the newest event, over the temperature."""
        states = self.states(self.prepared_items()[batch.items], batch.length)
        rows = torch.arange(len(batch.items), device=batch.items.device)
        return self.read(states, rows, batch.length - 1)
