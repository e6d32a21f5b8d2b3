"""CDAN-style: attention from one domain over the other, and an adversary between the domains.

Papers compare with "CDAN" without saying which, so this is a design that holds the two candidates, with the adversary
of either behind a switch, and no implementation of one paper:

- ``wasserstein``: Cross-domain Attention Network with Wasserstein Regularizers (e-commerce search, CIKM 2019).
- ``conditional``: Conditional Adversarial Domain Adaptation (Long et al., NeurIPS 2018), made for images.

For an item i of domain d, and a user's last ``attended`` events outside d, e_1 ... e_n:

    z = MLP_d([u_d; i]),   c = softmax(z (K_d e)' / sqrt D) V_d e,   h = LN(z + g c),  g = sigmoid(gate_d [z; c])
    s(u, i) = w_d h + b_d,     L = BCE (one negative a positive) + adversary_weight L_adv   (adversary.py)

``u_d`` is the mean of the user's items in d before the event to be predicted, so users outside training are like any
other; it is zero where there are none, as c is where nothing happened outside d. Published numbers for a recommender of
this form are not known to us. With one domain there is neither attention nor adversary.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from semacdr.data.batches import Batch
from semacdr.data.dataset import Catalogue
from semacdr.models.adversary import conditional_loss, critic, wasserstein_loss
from semacdr.models.base import Loss, TextTables
from semacdr.models.layers import init_weights, prefix_mean
from semacdr.models.pairwise import PairRecommender, PairSettings, Readers, cross_entropy, rows_of


class CDANConfig(PairSettings):
    """Settings of CDAN."""

    hidden_dim: int = Field(64, gt=0)
    """Inner width of the domains' networks."""
    attended: int = Field(20, gt=0)
    """n: events outside the item's domain that are attended to."""
    adversary: Literal["wasserstein", "conditional"] = "wasserstein"
    """Which of the two readings."""
    adversary_weight: float = Field(0.1, ge=0)
    """Of L_adv; 0 switches it off."""
    gradient_penalty: float = Field(10.0, ge=0)
    """Of the Wasserstein critic."""


class DomainNetwork(nn.Module):
    """What scores the items of one domain."""

    def __init__(self, embedding_dim: int, hidden_dim: int) -> None:
        super().__init__()
        D = embedding_dim
        self.user = nn.Linear(D, hidden_dim)
        self.item = nn.Linear(D, hidden_dim, bias=False)
        self.inner = nn.Linear(hidden_dim, D)
        self.key = nn.Linear(D, D, bias=False)
        self.value = nn.Linear(D, D, bias=False)
        self.gate = nn.Linear(2 * D, 1)
        self.norm = nn.LayerNorm(D)
        self.out = nn.Linear(D, 1)
        self.apply(init_weights)

    def forward(self, user: Tensor, items: Tensor, events: Tensor, there: Tensor) -> Tensor:
        """The vectors h of pairs.

        Args:
            user: (R, D) users in this domain.
            items: (R, k, D) or (1, k, D).
            events: (R, n, D) items that are attended to.
            there: (R, n) which of them there are.

        Returns:
            (R, k, D).
        """
        # The first layer is a sum of the users' part and the items' part: neither is computed for every pair.
        z = self.inner(torch.relu(self.user(user).unsqueeze(1) + self.item(items)))
        match = z @ self.key(events).transpose(1, 2) / z.shape[2] ** 0.5  # (R, k, n)
        match = match.masked_fill(~there.unsqueeze(1), torch.finfo(match.dtype).min)
        c = (torch.softmax(match, dim=2) * there.unsqueeze(1)) @ self.value(events)
        out: Tensor = self.norm(z + torch.sigmoid(self.gate(torch.cat([z, c], dim=2))) * c)
        return out


class CDAN(PairRecommender):
    """The model; see the module's text."""

    Config = CDANConfig

    def __init__(self, config: CDANConfig, catalogue: Catalogue, text: TextTables | None = None) -> None:
        super().__init__(config, catalogue, text)
        c, D = config, config.embedding_dim
        self.settings = c
        self.networks = nn.ModuleList(DomainNetwork(D, c.hidden_dim) for _ in range(self.num_domains))
        if self._has_adversary:
            self.critic = critic(D if c.adversary == "wasserstein" else 2 * D, c.hidden_dim, self.num_domains)

    @property
    def _has_adversary(self) -> bool:
        return self.settings.adversary_weight > 0 and self.num_domains > 1

    def readers(self, batch: Batch, row: Tensor, column: Tensor) -> Readers:
        """(P, domains, D) users in each domain, and (P, domains, n) last items outside it, newest first, then 0."""
        x, domain = self.items(batch.items), self.known_domain(batch.items)
        at = torch.arange(batch.items.shape[1], device=batch.items.device)
        before = at <= column[:, None]
        users, others = [], []
        for d in range(self.num_domains):
            users.append(prefix_mean(x, domain == d, row, column))
            outside = (domain[row] != d) & (domain[row] >= 0) & before
            newest = torch.where(outside, at, -1).topk(min(self.settings.attended, len(at)), dim=1).values
            others.append(batch.items[row].gather(1, newest.clamp(min=0)) * (newest >= 0))
        return torch.stack(users, dim=1), torch.stack(others, dim=1)

    def vectors(self, domain: int, readers: Readers, items: Tensor) -> Tensor:
        """(R, n, D) vectors h of pairs of R users with items of a domain, (R, n, D) or (1, n, D)."""
        users, others = readers[0][:, domain], readers[1][:, domain]
        out: Tensor = self.networks[domain](users, items, self.items(others), others > 0)
        return out

    def judged(self, domain: int, vectors: Tensor) -> Tensor:
        """(R, n, D) vectors h -> (R, n) logits."""
        network = self.networks[domain]
        assert isinstance(network, DomainNetwork)
        logits: Tensor = network.out(vectors)
        return logits.squeeze(2)

    def network(self, domain: int, readers: Readers, items: Tensor) -> Tensor:
        """(R, n) logits; see :meth:`PairRecommender.network`."""
        return self.judged(domain, self.vectors(domain, readers, items))

    def loss(self, batch: Batch) -> Loss:
        """The cross-entropy and the adversary's part, over the right and the wrong items of all domains."""
        readers, items = self.drawn_pairs(batch)
        own = self.item_domain[items[:, 0]]
        vectors, logits, domain = [], [], []
        for d in range(self.num_domains):
            at = (own == d).nonzero().squeeze(1)
            h = self.vectors(d, rows_of(readers, at), self.items(items[at]))
            vectors.append(h.flatten(0, 1).float())
            logits.append(self.judged(d, h).float())
            domain.append(torch.full_like(items[at], d).flatten())
        rec = cross_entropy(torch.cat(logits))
        parts = {"rec": float(rec.detach())}
        if not self._has_adversary:
            return Loss(rec, parts)
        pairs = torch.cat(vectors), torch.cat(domain)
        with torch.autocast(rec.device.type, enabled=False):  # the penalty is a gradient of a gradient
            if self.settings.adversary == "wasserstein":
                adversary = wasserstein_loss(self.critic, *pairs, self.settings.gradient_penalty)
            else:
                adversary = conditional_loss(self.critic, pairs[0], torch.cat(logits).flatten(), pairs[1])
        parts["adversary"] = float(adversary.detach())
        return Loss(rec + self.settings.adversary_weight * adversary, parts)
