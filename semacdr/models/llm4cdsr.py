"""LLM4CDSR: a frozen text table under a trained adapter, a thread for all domains and one for each (arXiv 2504.18383).

    global item  g(i) = W2 act(W1 T_g[i] + b1) + b2, T_g the items' text vectors on their principal axes, frozen
    local item   l(i), one table a domain, begun at the domain's own principal components
    threads      H_g over all events, with g; H_d over the events of domain d, with l; each an encoder of its own
    score        s(u, i) = <H_g, g(i)> + <H_d, l(i)> = <[H_g; H_d], [g(i); l(i)]>, d the domain to be ranked
    loss         L_rec + item_loss_weight CLIPsoft(g(x_u), g(y_u)) + user_loss_weight CLIPsoft(u~, H_g),
                 x_u and y_u items of two domains of one user, u~ the user's adapted profile vector

Published and in the authors' code, but for what is corrected here: attention is causal, one wrong item an event serves
both threads and is of the target's domain, the local tables are trained, the adapters have an activation, and the first
events of a user and of a domain are learned from too. ``faithful: true`` gives the published forms, and each can be set
alone. The page docs/models/llm4cdsr.md says more. Any number of domains.
"""

from __future__ import annotations

from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from semacdr.data.batches import Batch
from semacdr.data.dataset import Catalogue
from semacdr.models.base import Loss, SideData, TextTables, VectorRecommender, select_views
from semacdr.models.layers import ID_STD, CausalEncoder, init_weights, pack, positions_from_end
from semacdr.models.losses import clip_soft, pair_loss
from semacdr.models.negatives import UniformNegatives, window_items
from semacdr.models.precision import at_least_float32
from semacdr.models.published_sasrec import PublishedEncoder
from semacdr.models.settings import LossSettings
from semacdr.models.softmax import CandidateSoftmax
from semacdr.models.text_pca import principal_components, project

PUBLISHED = {
    "causal": False,
    "freeze_local": True,
    "adapter_activation": "none",
    "negatives": "independent",
    "encoder": "published",
    "first_events": False,
}
INPUT_EPS = 1e-5  # of the normalised input: an item without text begins near zero, where a smaller one would explode


class LLM4CDSRConfig(LossSettings):
    """Settings of LLM4CDSR."""

    faithful: bool = Field(False, strict=True)
    """The published forms of causal, freeze_local, adapter_activation, negatives, encoder and first_events, as far as
    these are not set themselves."""
    causal: bool = True
    """Whether an event sees none that come after it."""
    freeze_local: bool = False
    """Keep the local tables at their principal components."""
    adapter_activation: Literal["gelu", "none"] = "gelu"
    """Between the two layers of the adapters; with none each is one linear map of limited rank."""
    negatives: Literal["shared", "independent"] = "shared"
    """With loss=bce. shared: one trained item of the target's domain for both threads; independent: one for each, the
    global thread's from the domain of the event before the target."""
    encoder: Literal["pre-norm", "published"] = "pre-norm"
    """The transformer that all models here share, or the published one with its scaled inputs."""
    first_events: bool = True
    """Learn from the first event of a user and of a domain, by a start vector for the empty thread."""
    loss: Literal["softmax", "bce"] = "bce"
    """bce: summed over the domains' means; softmax over the trained items of the target's domain, or with scope=all of
    every domain."""
    views: list[str] | None = None
    """Text views to use, side by side; null takes all that the tables have."""
    global_dim: int = Field(1024, gt=0)
    """Principal axes kept of the text, at most as many as it has."""
    adapter_dim: int = Field(512, gt=0)
    """Inner width of the items' adapter."""
    user_adapter_dim: int = Field(768, gt=0)
    """Inner width of the users' adapter."""
    item_loss_weight: float = Field(0.1, ge=0)
    """alpha; 0 switches the regularisation of items off."""
    item_temperature: float = Field(1.0, gt=0)
    """tau_reg."""
    user_loss_weight: float = Field(0.1, ge=0)
    """beta; 0 switches the alignment with profiles off, and so does a training without them."""
    user_temperature: float = Field(1.0, gt=0)
    """tau."""
    threads: list[Literal["global", "local"]] = Field(["global", "local"], min_length=1)
    """Ablation: which threads there are."""
    random_text: bool = False
    """Ablation: random vectors in place of the items' texts. So it is too where there are no text tables."""

    @model_validator(mode="before")
    @classmethod
    def _published_forms(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("faithful") is True:
            return {**PUBLISHED, **values}
        return values

    @model_validator(mode="after")
    def _wrong_items_of_the_domain(self) -> Self:
        if self.loss == "bce" and self.scope == "all":
            raise ValueError("scope=all belongs to loss=softmax; loss=bce draws its wrong items from one domain")
        return self


class Adapter(nn.Sequential):
    """``W2 act(W1 x + b1) + b2``: (n, E) -> (n, D)."""

    def __init__(self, text_dim: int, hidden_dim: int, embedding_dim: int, activation: str) -> None:
        act = nn.GELU() if activation == "gelu" else nn.Identity()
        super().__init__(nn.Linear(text_dim, hidden_dim), act, nn.Linear(hidden_dim, embedding_dim))


class LLM4CDSR(VectorRecommender):
    """The tri-thread model (with two domains); see the module's text."""

    Config = LLM4CDSRConfig
    reads_text = True
    reads_users = True
    text: Tensor
    mean: Tensor
    axes: Tensor
    table: Tensor
    profiles: Tensor

    def __init__(
        self,
        config: LLM4CDSRConfig,
        catalogue: Catalogue,
        text: TextTables | None = None,
        *,
        side: SideData | None = None,
    ) -> None:
        super().__init__(config, catalogue, text)
        c = self.settings = config
        self.num_domains = len(catalogue.domains)
        self.has_global, self.has_local = "global" in c.threads, "local" in c.threads
        vectors = list(select_views(text or {}, c.views).values())
        self._make_tables(torch.cat(vectors, dim=1) if vectors else None)
        names = ["global"] * self.has_global + [f"local_{d}" for d in range(self.num_domains)] * self.has_local
        make = CausalEncoder if c.encoder == "pre-norm" else PublishedEncoder
        size = (c.embedding_dim, c.num_layers, c.num_heads, c.ffn_dim, c.dropout, c.max_seq_len)
        self.encoders = nn.ModuleDict({name: make(*size) for name in names})
        if c.first_events:  # (threads, domains, D), for an empty thread
            self.start = nn.Parameter(0.02 * torch.randn(len(c.threads), self.num_domains, c.embedding_dim))
        self.softmax = CandidateSoftmax(catalogue, c.scope, c.num_negatives)
        shared = c.negatives == "shared"
        self.negatives = UniformNegatives(self.softmax.group if shared else self.item_domain, skip_last=not shared)
        self._make_user_adapter(None if side is None else side.user_vectors)
        self._init_encoders()

    def _make_tables(self, text: Tensor | None) -> None:
        """The frozen global table with its adapter, and the local one."""
        c, items = self.settings, self.num_items + 1
        width = c.embedding_dim if text is None else text.shape[1]
        if (
            text is None or c.random_text or not text.any()
        ):  # kept with the weights, as nothing else could bring them back
            text = torch.randn(items, width) * width**-0.5
            self.register_buffer("text", text)
        else:
            self.register_buffer("text", text, persistent=False)
        known = (text != 0).any(1)
        known[0] = False
        # The axes are kept with the weights: another machine's arithmetic may turn them.
        mean, axes = principal_components(text[known], c.global_dim)
        self.register_buffer("mean", mean)
        self.register_buffer("axes", axes)
        self.register_buffer("table", project(text, mean, axes), persistent=False)
        if self.has_global:
            self.adapter = Adapter(axes.shape[1], c.adapter_dim, c.embedding_dim, c.adapter_activation)
        if self.has_local:
            self.local = nn.Embedding(items, c.embedding_dim)
            self.local.weight.requires_grad_(not c.freeze_local)
            with torch.no_grad():
                self.local.weight.normal_(std=ID_STD)
                for domain in range(self.num_domains):
                    own = ((self.item_domain == domain) & known).nonzero().squeeze(1)
                    if len(own):
                        begun = project(text[own], *principal_components(text[own], c.embedding_dim))
                        self.local.weight[own, : begun.shape[1]] = begun
                if c.freeze_local:
                    self.local.weight[~known] = 0

    def _make_user_adapter(self, vectors: Tensor | None) -> None:
        c = self.settings
        self.aligns_users = vectors is not None and c.user_loss_weight > 0 and self.has_global
        if vectors is not None and self.aligns_users:
            self.register_buffer("profiles", vectors, persistent=False)
            self.user_adapter = Adapter(vectors.shape[1], c.user_adapter_dim, c.embedding_dim, c.adapter_activation)

    def _init_encoders(self) -> None:
        for encoder in self.encoders.values():
            if isinstance(encoder, PublishedEncoder):
                encoder.begin()
            else:
                encoder.apply(init_weights)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear) and "adapter" in name:
                nn.init.xavier_normal_(module.weight)

    def load_state(self, tensors: Any) -> None:
        """Takes saved weights and lays the texts on their axes.

        On the CPU, where the table of an unbroken run was made: a GPU would round otherwise, and a resumed run would
        not end at the same bytes.
        """
        super().load_state(tensors)
        self.table.copy_(project(self.text.cpu(), self.mean.cpu(), self.axes.cpu()))

    def vectors(self, ids: Tensor) -> Tensor:
        """(n,) item ids -> (n, threads * D): global and local vector side by side."""
        parts: list[Tensor] = []
        if self.has_global:
            parts.append(self.adapter(self.table[ids]))
        if self.has_local:
            parts.append(self.local(ids))
        return torch.cat(parts, dim=1)

    def item_vectors(self) -> Tensor:
        """(N+1, threads * D), computed in blocks so that the adapter's inner arrays stay small."""
        ids = torch.arange(self.num_items + 1, device=self.item_domain.device)
        return torch.cat([self.vectors(block) for block in ids.split(8192)])

    def thread(self, name: str, vectors: Tensor, length: Tensor) -> Tensor:
        """(B, L, D) item vectors, anything at padding, and (B,) lengths -> (B, L, D) states of one thread."""
        encoder, causal, width = self.encoders[name], self.settings.causal, vectors.shape[1]
        real = torch.arange(width, device=length.device) < length.unsqueeze(1)
        vectors = vectors * real.unsqueeze(2)
        states: Tensor
        if self.settings.encoder == "published":  # scaled as there: by the width of the table, not of the vectors
            scale = (self.table if name == "global" else vectors).shape[-1] ** 0.5
            states = encoder(vectors * scale, length, causal)
            return states
        x = F.layer_norm(vectors, vectors.shape[-1:], eps=INPUT_EPS)
        itself = torch.eye(width, dtype=torch.bool, device=real.device)  # no query without a key
        mask = None if causal else (real.unsqueeze(1) | itself).unsqueeze(1)
        states = encoder(x, positions_from_end(length, width), mask)
        return states

    def empty(self, name: str, domain: int) -> Tensor:
        """(D,) state of a thread without events."""
        if self.settings.first_events:
            return self.start[-1 if name.startswith("local") else 0, domain]
        norm = self.encoders[name].norm  # in the published code zeroed padding ends in it
        assert isinstance(norm, nn.LayerNorm)
        return norm.bias

    def read(
        self, vectors: Tensor, items: Tensor, length: Tensor, row: Tensor, column: Tensor, target_domain: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """The threads' states at their newest event at or before a position.

        Args:
            vectors: (B, L, threads * D) item vectors.
            items: (B, L).
            length: (B,).
            row: (P,) row of each query.
            column: (P,) position of each query, -1 for the empty history.
            target_domain: (P,) domain to be predicted.

        Returns:
            (P, threads * D), in the order of :meth:`vectors`, and (B, L, D) all states of the global thread if it runs.
        """
        parts = list(vectors.chunk(len(self.settings.threads), dim=2))
        out, states = [], None
        if self.has_global:
            states = self.thread("global", parts[0], length)
            empty = torch.stack([self.empty("global", d) for d in range(self.num_domains)])[target_domain]
            newest = states[row, column.clamp(min=0)]
            out.append(torch.where((column >= 0).unsqueeze(1), newest, empty.to(newest.dtype)))
        if self.has_local:
            out.append(self._read_local(parts[-1], items, row, column, target_domain))
        return torch.cat(out, dim=1), states

    def _read_local(self, vectors: Tensor, items: Tensor, row: Tensor, column: Tensor, domain: Tensor) -> Tensor:
        read = vectors.new_zeros(len(row), vectors.shape[2])
        for index in range(self.num_domains):
            at = (domain == index).nonzero().squeeze(1)
            if not len(at):
                continue
            name = f"local_{index}"
            rows, inside = row[at].unique(return_inverse=True)
            member = self.item_domain[items[rows]] == index
            if not self.settings.causal:
                # Nothing else would hide the domain's last target where another domain's event follows it in the row;
                # the published thread ends before it. In scoring the newest query is the newest event: nothing goes.
                newest = torch.full_like(rows, -1).scatter_reduce(0, inside, column[at], "amax")
                member &= torch.arange(items.shape[1], device=items.device) <= newest.unsqueeze(1)
            packed, length = pack(member)  # the events of the domain alone, at the front of each row
            own = vectors[rows].gather(1, packed.unsqueeze(2).expand(-1, -1, vectors.shape[2]))
            place = torch.where(column[at] >= 0, member.cumsum(1)[inside, column[at].clamp(min=0)] - 1, -1)
            state = self.thread(name, own, length)[inside, place.clamp(min=0)]
            state = torch.where((place >= 0).unsqueeze(1), state, self.empty(name, index).to(state.dtype))
            read = read.index_copy(0, at, state.to(read.dtype))
        return read

    def user_vectors(self, batch: Batch) -> Tensor:
        """(B, threads * D) states of the newest events."""
        assert batch.target_domain is not None
        rows = torch.arange(len(batch.items), device=batch.items.device)
        vectors = self.prepared_items()[batch.items]
        return self.read(vectors, batch.items, batch.length, rows, batch.length - 1, batch.target_domain)[0]

    def learned_events(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Row, column and target of the events that are learned from; see ``first_events``."""
        row, column, target = batch.events()
        if self.settings.first_events:
            return row, column, target
        domain = self.item_domain[batch.items]
        seen = torch.stack([(domain == d).cumsum(1) for d in range(self.num_domains)])  # (domains, B, L)
        keep = (column >= 0) & (seen[self.item_domain[target], row, column.clamp(min=0)] > 0)
        return row[keep], column[keep], target[keep]

    def loss(self, batch: Batch) -> Loss:
        """L_rec + alpha L_item + beta L_user of a training batch."""
        row, column, target = self.learned_events(batch)
        domain = self.item_domain[target]
        softmax = self.settings.loss == "softmax"
        drawn = self.softmax.draw(target) if softmax else []
        wrong = [] if softmax else self.draw_wrong(batch, row, column, target)
        pairs = self.item_pairs(batch.items)
        others = [*wrong, *pairs, *(ids for _, ids, _ in drawn)]
        needed = torch.unique(torch.cat([batch.items.flatten(), target, *others]))
        place = torch.zeros(self.num_items + 1, dtype=torch.long, device=target.device)
        place[needed] = torch.arange(len(needed), device=target.device)
        vectors = self.vectors(needed)

        events = vectors[place[batch.items]]
        states, mixed = self.read(events, batch.items, batch.length, row, column, domain)
        if softmax:
            rec = self.softmax(states, target, drawn, vectors, place)
        else:
            rec = self._bce(states, vectors, place[target], [place[ids] for ids in wrong], domain)
        total, parts = rec, {"rec": float(rec.detach())}
        if len(pairs[0]) > 1:
            x, y = (vectors[place[ids], : self.settings.embedding_dim] for ids in pairs)
            item = clip_soft(x, y, self.settings.item_temperature)
            total, parts["item"] = total + self.settings.item_loss_weight * item, float(item.detach())
        if self.aligns_users and batch.user is not None and mixed is not None:
            newest = mixed[torch.arange(len(mixed), device=mixed.device), batch.length - 1]
            user = self._user_loss(batch.user, newest)
            total, parts["user"] = total + self.settings.user_loss_weight * user, float(user.detach())
        return Loss(total, parts)

    def draw_wrong(self, batch: Batch, row: Tensor, column: Tensor, target: Tensor) -> list[Tensor]:
        """(P,) wrong items for the threads, the global one's first; one and the same for both where they share."""
        owned, domain = window_items(batch), self.item_domain[target]
        if self.settings.negatives == "shared":
            return [self.negatives.draw(self.softmax.group[target], row, owned)] * len(self.settings.threads)
        before = torch.where(column >= 0, self.item_domain[batch.items[row, column.clamp(min=0)]], domain)
        of = [before] * self.has_global + [domain] * self.has_local
        return [self.negatives.draw(group, row, owned) for group in of]

    def _bce(self, states: Tensor, vectors: Tensor, right: Tensor, wrong: list[Tensor], domain: Tensor) -> Tensor:
        """Sum over the domains of the mean over their events."""
        threads = len(wrong)
        by_thread = zip(vectors.chunk(threads, dim=1), wrong)
        negative = torch.cat([part[ids] for part, ids in by_thread], dim=1)
        scores = (at_least_float32((states * other).sum(1)) for other in (vectors[right], negative))
        each = pair_loss(*scores)
        count = torch.bincount(domain, minlength=self.num_domains).clamp(min=1)
        return (each / count[domain]).sum()

    def item_pairs(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """(m,) and (m,): of each row with events in several domains one item each of two of them, both at random."""
        none = items.new_zeros(0)
        if not self.has_global or not self.settings.item_loss_weight or self.num_domains < 2:
            return none, none
        domain = self.item_domain[items]
        owned = torch.stack([(domain == d).any(1) for d in range(self.num_domains)], dim=1)  # (B, domains)
        rows = (owned.sum(1) > 1).nonzero().squeeze(1)
        if not len(rows):
            return none, none
        chosen = torch.multinomial(owned[rows].float(), 2).sort(1).values  # (m, 2), the lower domain first
        member = domain[rows].unsqueeze(1) == chosen.unsqueeze(2)  # (m, 2, L)
        at = torch.multinomial(member.flatten(0, 1).float(), 1).view(-1, 2)
        first, second = items[rows].gather(1, at).unbind(1)
        return first, second

    def _user_loss(self, user: Tensor, newest: Tensor) -> Tensor:
        """CLIPsoft of the adapted profiles and the global thread's newest states (B, D), where a user has a profile."""
        profiles = self.profiles[user.clamp(min=0)]
        known = ((user >= 0) & (profiles != 0).any(1)).nonzero().squeeze(1)
        if len(known) < 2:
            return newest.new_zeros(())
        adapted = self.user_adapter(profiles[known])
        return clip_soft(adapted, newest[known], self.settings.user_temperature)
