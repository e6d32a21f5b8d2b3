"""From text and semantic ids to item vectors: view adapters, gate and id residual (systems.md 2.2, "Item encoder").

The three views and their contrastive alignment are the paper's (SemaCDR, arXiv 2604.09551); the forms of the adapter,
the gate and the residual are our inference, since the paper's equations are not public.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from semacdr.data.dataset import Catalogue
from semacdr.models.base import ItemCodes, TextTables
from semacdr.models.code_embedding import CodeEmbedding, HashedResidual
from semacdr.models.layers import ID_STD, Dropout, init_weights
from semacdr.models.losses import info_nce, soft_targets

SHARED_VIEW = "domain_agnostic"
CODES = "semantic_id"
"""The view that is made of semantic ids."""
# q and r of an id's share in its item: a sixth at one training event, two thirds at five, nearly all of it from twenty
# on. Learned, they come to trust the ids of items that were seen once, by which training data are fitted best.
ID_GAIN, ID_OFFSET = 2.0, 3.0


class ViewAdapter(nn.Module):
    """``z = LN(W2 GELU(W1 x + b1) + b2)``: (n, E) -> (n, D), one network or one for each domain."""

    def __init__(self, text_dim: int, embedding_dim: int, hidden_dim: int, dropout: float, copies: int) -> None:
        super().__init__()
        self.networks = nn.ModuleList(
            nn.Sequential(
                nn.Linear(text_dim, hidden_dim), nn.GELU(), Dropout(dropout), nn.Linear(hidden_dim, embedding_dim)
            )
            for _ in range(copies)
        )
        self.norm = nn.LayerNorm(embedding_dim)
        self.apply(init_weights)

    def forward(self, x: Tensor, domain: Tensor) -> Tensor:
        """(n, E) text vectors and (n,) domains -> (n, D)."""
        if len(self.networks) == 1:
            return self.norm(self.networks[0](x))
        out = x.new_empty((len(x), self.norm.normalized_shape[0]))
        for index, network in enumerate(self.networks):
            at = (domain == index).nonzero().squeeze(1)
            out = out.index_copy(0, at, network(x[at]).to(out.dtype))
        return self.norm(out)


class ItemEncoder(nn.Module):
    """Item vectors from text views and an id residual.

    ``e_i = sum_v a_v z_v + m_i id_i`` with ``a = softmax_v(w^T tanh(W_a z_v + U_a o_domain))`` over the views that the
    item has, and ``m_i = sigmoid(q log(1 + n_i) - r)`` for an item with ``n_i >= 1`` training events, exactly 0 for an
    untrained one, which is then scored by its text alone.

    Args:
        catalogue: items, domains, training counts.
        text: view -> (N+1, E); empty for ids alone.
        embedding_dim: D.
        hidden_dim: width inside an adapter.
        dropout: inside the adapters.
        use_id: with the id residual; without text it is always there.
        id_dropout: share of the items whose id residual is left out in a training step, so that the text alone learns
            to place an item too: at scoring time that is all an untrained item has.
        domain_weights: adapters of the views that are not shared have weights for each domain.
        codes: semantic ids, one more view beside those of the text; None for none. Where they are the only view, the
            id residual is a row that each whole id is hashed to, so that no table grows with the catalogue.
        code_buckets: rows of hashed prefixes, and of hashed ids.
        new_item_scale: what the vectors of untrained items are multiplied by.
    """

    item_domain: Tensor
    log_count: Tensor
    trained: Tensor

    def __init__(
        self,
        catalogue: Catalogue,
        text: TextTables,
        embedding_dim: int,
        hidden_dim: int,
        dropout: float,
        use_id: bool = True,
        id_dropout: float = 0.0,
        domain_weights: bool = False,
        codes: ItemCodes | None = None,
        code_buckets: int = 0,
        new_item_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.new_item_scale = new_item_scale
        self.text_views = tuple(text)
        self.views = (*text, CODES) if codes is not None else self.text_views
        self.embedding_dim = embedding_dim
        self.use_id = use_id or not self.views
        self.id_dropout = id_dropout if self.views else 0.0
        # padding borrows the first domain: it has no text, so nothing of it is ever used
        domain = torch.from_numpy(catalogue.item_domain).long().clamp(min=0)
        self.register_buffer("item_domain", domain, persistent=False)
        count = torch.from_numpy(catalogue.train_count)
        self.register_buffer("log_count", torch.log1p(count.float()), persistent=False)
        self.register_buffer("trained", (count > 0).float(), persistent=False)
        domains = len(catalogue.domains)
        self.adapters = nn.ModuleDict()
        for view, table in text.items():
            self.register_buffer(f"text_{view}", table, persistent=False)
            self.register_buffer(f"has_{view}", table.abs().sum(1) > 0, persistent=False)
            shared = view == SHARED_VIEW or len(text) == 1
            copies = 1 if shared or not domain_weights else domains
            self.adapters[view] = ViewAdapter(table.shape[1], embedding_dim, hidden_dim, dropout, copies)
        if codes is not None:
            self.register_buffer(f"has_{CODES}", torch.arange(len(codes.codes)) > 0, persistent=False)
            self.codes = CodeEmbedding(codes, embedding_dim, code_buckets, dropout)
        self.scale = nn.Parameter(torch.tensor(float(embedding_dim) ** -0.5))
        if len(self.views) > 1:
            self.gate_view = nn.Linear(embedding_dim, embedding_dim)
            self.gate_domain = nn.Embedding(domains, embedding_dim)
            self.gate_out = nn.Linear(embedding_dim, 1, bias=False)
            nn.init.zeros_(self.gate_out.weight)  # start from the plain mean of the views
        self.id: nn.Module
        if self.use_id and codes is not None and not text:
            self.id = HashedResidual(codes, embedding_dim, code_buckets)
        elif self.use_id:
            self.id = nn.Embedding(catalogue.num_items + 1, embedding_dim)
            nn.init.normal_(self.id.weight, std=ID_STD)

    @property
    def anchor_view(self) -> str:
        """The view of text that L_item aligns the others with: the domain-agnostic one, or the only one."""
        return SHARED_VIEW if SHARED_VIEW in self.text_views else self.text_views[0]

    def text(self, view: str, ids: Tensor) -> Tensor:
        """(n, E) frozen vectors."""
        return self.get_buffer(f"text_{view}")[ids]

    def view_vectors(self, view: str, ids: Tensor) -> Tensor:
        """(n,) ids -> (n, D) adapted vectors z of one view."""
        if view == CODES:
            coded: Tensor = self.codes(self.codes.codes[ids])
            return coded
        adapted: Tensor = self.adapters[view](self.text(view, ids), self.item_domain[ids])
        return adapted

    def gate(self, views: Tensor, ids: Tensor) -> Tensor:
        """(V, n, D) views -> (V, n) weights that sum to one over the views an item has (to zero if it has none)."""
        present = torch.stack([self.get_buffer(f"has_{view}")[ids] for view in self.views])  # (V, n)
        if len(self.views) == 1:
            return present.to(views.dtype)
        domain = self.gate_domain(self.item_domain[ids])
        logits = self.gate_out(torch.tanh(self.gate_view(views) + domain)).squeeze(2)  # (V, n)
        weights = torch.softmax(logits.masked_fill(~present, torch.finfo(logits.dtype).min), dim=0)
        return weights * present

    def id_weight(self, ids: Tensor) -> Tensor:
        """(n,) ids -> (n,) share of the id residual; exactly 0 for untrained items."""
        if not self.views:
            return self.trained[ids]
        weight = torch.sigmoid(ID_GAIN * self.log_count[ids] - ID_OFFSET) * self.trained[ids]
        if self.training and self.id_dropout:
            weight = weight * (torch.rand(len(ids), device=ids.device) >= self.id_dropout)
        return weight

    def forward(self, ids: Tensor) -> Tensor:
        """(n,) item ids -> (n, D) item vectors."""
        vectors: Tensor | None = None
        if self.views:
            views = torch.stack([self.view_vectors(view, ids) for view in self.views])  # (V, n, D)
            vectors = (self.gate(views, ids).unsqueeze(2) * views).sum(0) * self.scale
            if self.new_item_scale != 1:  # nothing that training moves: it meets no untrained item
                vectors = vectors * torch.where(self.trained[ids] > 0, 1.0, self.new_item_scale).unsqueeze(1)
        if self.use_id:
            residual = self.id_weight(ids).unsqueeze(1) * self.id(ids)
            vectors = residual if vectors is None else vectors + residual
        assert vectors is not None
        return vectors

    def new_vectors(self, text: TextTables, domain: Tensor, codes: Tensor | None = None) -> Tensor:
        """Vectors of items that are not in the catalogue, from their text, their codes or both.

        Args:
            text: view -> (n, E); a view that is missing counts as little as one that an item of the catalogue lacks.
            domain: (n,) domain of each.
            codes: (n, M) codes of each, where there is a view of semantic ids.

        Returns:
            (n, D), as an untrained item of the catalogue with the same views has.
        """
        found = [(view, self.adapters[view](text[view], domain)) for view in self.text_views if view in text]
        if codes is not None and CODES in self.views:
            found.append((CODES, self.codes(codes)))
        if not found:
            raise ValueError(f"none of the views {', '.join(self.views)} is given")
        views = torch.stack([vectors for _, vectors in found])
        factor = self.scale * self.new_item_scale
        if len(self.views) == 1:
            return views[0] * factor
        logits = self.gate_out(torch.tanh(self.gate_view(views) + self.gate_domain(domain))).squeeze(2)
        return (torch.softmax(logits, dim=0).unsqueeze(2) * views).sum(0) * factor

    def contrastive_loss(self, ids: Tensor, temperature: float, target_temperature: float | None) -> Tensor:
        """L_item on a batch of distinct items of all domains.

        With several views, that of semantic ids among them: the mean of NCE(z_anchor, z_v) over the others. With one
        view: NCE between two dropout passes of it. With ``target_temperature`` the targets are soft: the frozen
        encoder's own similarities of the anchor texts, so that items that mean the same attract each other across
        domains.

        Args:
            ids: (m,) distinct item ids.
            temperature: of the loss.
            target_temperature: of the soft targets; None for one-hot targets.
        """
        anchor = self.anchor_view
        ids = ids[self.get_buffer(f"has_{anchor}")[ids]]
        if len(ids) < 2:
            return self.scale.new_zeros(())
        targets = None if target_temperature is None else soft_targets(self.text(anchor, ids), target_temperature)
        first = self.view_vectors(anchor, ids)
        others = [view for view in self.views if view != anchor] or [anchor]
        losses = [info_nce(first, self.view_vectors(view, ids), temperature, targets) for view in others]
        return torch.stack(losses).mean()


def mean_gate(encoder: ItemEncoder, ids: Tensor) -> dict[str, float]:
    """Mean gate weight of each view over the given items."""
    with torch.no_grad():
        views = torch.stack([encoder.view_vectors(view, ids) for view in encoder.views])
        weights = encoder.gate(views, ids).mean(1)
    return {view: float(weight) for view, weight in zip(encoder.views, weights)}
