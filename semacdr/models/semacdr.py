"""SemaCDR: three causal threads over items that are described by meaning (arXiv 2604.09551).

What is the paper's: LLM profiles in a domain-specific and a domain-agnostic voice joined with content, contrastive
regularisation that aligns these views, three sequences a user (source, target, mixed), and their adaptive fusion into
one preference vector. The equations are not public; the forms below are our inference, each behind a switch:

    item     e_i = sum_v a_v z_v + m_i id_i                                       (adapter.py)
    threads  h_T, h_S, h_M: causal transformers over the user's events in the target's domain, in all others, in all,
             each read at its newest event before the target (the alignment of ABXI, WWW 2025)
    fusion   b = softmax(MLP([h_S; h_T; h_M; o_target]) + mask),  h = b_S h_S + b_T h_T + b_M h_M
    score    s(u, i) = <h, e_i>
    loss     L_rec + item_loss_weight L_item + sequence_loss_weight L_seq

Any number of domains: with two, the source thread of one domain is the target thread of the other, so both run on one
grid of positions; with more, the source thread runs once for each target domain. With one domain only M remains.

Positions are counted from the newest event of each thread. A position's state then knows how many events of its thread
came later in the training row (never which): that is the one way in which later events reach an earlier position.

Known weaknesses: profiles cost an LLM call an item and view; a domain-agnostic text can leak its domain; contrastive
spaces grow hub items; the fusion can collapse onto the mixed thread (watch ``thread_weights``).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from semacdr.data.batches import Batch
from semacdr.data.dataset import Catalogue
from semacdr.errors import InputError
from semacdr.models.adapter import ItemEncoder
from semacdr.models.base import Loss, SideData, TextTables, VectorRecommender, select_views
from semacdr.models.layers import (
    CausalEncoder,
    init_weights,
    last_index,
    positions_from_end,
    positions_from_end_within,
)
from semacdr.models.losses import info_nce
from semacdr.models.settings import SequenceSettings
from semacdr.models.softmax import CandidateSoftmax

THREADS = ("source", "target", "mixed")


class SemaCDRConfig(SequenceSettings):
    """Settings of SemaCDR."""

    views: list[str] | None = None
    """Text views to use; null takes all that the tables have."""
    adapter_dim: int = Field(256, gt=0)
    """Inner width of a view's adapter."""
    adapter_dropout: float = Field(0.1, ge=0, lt=1)
    """Inside the adapters; with one view it also makes the two passes of L_item differ."""
    domain_weights: bool = False
    """Adapters of the content and domain-specific views have weights for each domain."""
    item_representation: Literal["dense", "semantic_id", "both"] = "dense"
    """dense: text and an id of each item; semantic_id: codes alone, whose tables do not grow with the catalogue; both:
    codes as one more view beside the text. The last two need ``--ids``."""
    code_buckets: int = Field(8192, ge=0)
    """Rows that prefixes of semantic ids are hashed into, and whole ids; 0 leaves both out."""
    use_id: bool = True
    """Ablation: without it, items are text, or codes, alone (needs some)."""
    id_dropout: float = Field(0.1, ge=0, lt=1)
    """Share of items that do without their id residual in a training step, where there is text."""
    new_item_scale: float = Field(1.0, gt=0)
    """What the vector of an item without training events is multiplied by. Being popular makes a vector long, and that
    of a new item is as short as those of items that were met once, so that it is hardly ever among the first of a whole
    domain. It moves no weight, but validation sees it; it changes nothing among new items."""
    threads: list[Literal["source", "target", "mixed"]] = Field(["source", "target", "mixed"], min_length=1)
    """Ablation: which threads are fused; an event whose threads are all empty uses the start vector."""
    fusion: Literal["adaptive", "mean"] = "adaptive"
    """Ablation: mean weighs the threads that are not empty alike."""
    item_loss_weight: float = Field(0.1, ge=0)
    """lambda_1 of L_item; 0 switches it off."""
    sequence_loss_weight: float = Field(0.01, ge=0)
    """lambda_2 of L_seq; 0 switches it off."""
    temperature: float = Field(0.1, gt=0)
    """tau of both contrastive losses."""
    target_temperature: float | None = Field(0.1, gt=0)
    """tau of the soft targets of L_item; null for one-hot targets."""
    item_loss_size: int = Field(512, gt=1)
    """Items drawn for L_item in each step, from the batch's candidates."""


class SemaCDR(VectorRecommender):
    """The three-thread model; see the module's text."""

    Config = SemaCDRConfig
    reads_text = True
    reads_codes = True

    @classmethod
    def needs_codes(cls, config: SemaCDRConfig) -> bool:
        """Whether ``item_representation`` has semantic ids in it."""
        return config.item_representation != "dense"

    def __init__(
        self,
        config: SemaCDRConfig,
        catalogue: Catalogue,
        text: TextTables | None = None,
        *,
        side: SideData | None = None,
    ) -> None:
        super().__init__(config, catalogue, text)
        c = self.settings = config
        codes = side.codes if side is not None and self.needs_codes(c) else None
        if codes is None and self.needs_codes(c):
            raise InputError(
                f"item_representation={c.item_representation} reads semantic ids; none given", fix="--ids IDS"
            )
        views = {} if c.item_representation == "semantic_id" else select_views(text or {}, c.views)
        if c.item_representation == "both" and not views:
            fix = "give --embeddings DIR and leave views out, or item_representation=semantic_id"
            raise InputError("item_representation=both wants text beside the ids", fix=fix)
        use_id = c.use_id and (codes is None or bool(views) or c.code_buckets > 0)
        if not use_id and not views and codes is None:
            raise InputError("use_id=false leaves nothing of an item without text tables", fix="give --embeddings DIR")
        self.items = ItemEncoder(
            catalogue,
            views,
            c.embedding_dim,
            c.adapter_dim,
            c.adapter_dropout,
            use_id,
            c.id_dropout,
            c.domain_weights,
            codes,
            c.code_buckets,
            c.new_item_scale,
        )
        self.num_domains = len(catalogue.domains)
        self.threads = tuple(t for t in THREADS if t in c.threads) if self.num_domains > 1 else ("mixed",)
        self.encoders = nn.ModuleDict(
            {
                name: CausalEncoder(c.embedding_dim, c.num_layers, c.num_heads, c.ffn_dim, c.dropout, c.max_seq_len)
                for name in self.threads
            }
        )
        self.start = nn.Embedding(self.num_domains, c.embedding_dim)
        if len(self.threads) > 1 and c.fusion == "adaptive":
            self.domain_vector = nn.Embedding(self.num_domains, c.embedding_dim)
            self.fuse = nn.Sequential(
                nn.Linear((len(self.threads) + 1) * c.embedding_dim, c.embedding_dim),
                nn.GELU(),
                nn.Linear(c.embedding_dim, len(self.threads)),
            )
        if self._has_sequence_loss:
            self.project = nn.ModuleDict(
                {name: nn.Linear(c.embedding_dim, c.embedding_dim, bias=False) for name in self.threads}
            )
        self.softmax = CandidateSoftmax(catalogue, c.scope, c.num_negatives)
        self.encoders.apply(init_weights)
        nn.init.normal_(self.start.weight, std=0.02)

    @property
    def _has_sequence_loss(self) -> bool:
        return self.settings.sequence_loss_weight > 0 and "mixed" in self.threads and len(self.threads) > 1

    def thread_states(self, items: Tensor, length: Tensor, vectors: Tensor) -> dict[str, Tensor]:
        """Runs the threads.

        Args:
            items: (B, L) item ids.
            length: (B,).
            vectors: (B, L, D) item vectors, zero at padding.

        Returns:
            thread name -> states: (B, L, D) for mixed and target; (G, B, L, D) for source, where G is 1 with two
            domains (read it like the target thread, at an event of the other domain) and else one for each domain.
        """
        width = items.shape[1]
        # Normalised, an item weighs as much beside the blocks' outputs as they do, with its id residual or without.
        x = F.layer_norm(vectors, (self.settings.embedding_dim,), eps=1e-12)
        states = {}
        if "mixed" in self.threads:
            states["mixed"] = self.encoders["mixed"](x, positions_from_end(length, width))
        if self.num_domains == 1:
            return states
        domain = self.item_domain[items]  # (B, L), -1 at padding
        causal = torch.ones(width, width, dtype=torch.bool, device=items.device).tril()
        itself = torch.eye(width, dtype=torch.bool, device=items.device)  # no query without a key: softmax stays finite
        same = (domain[:, :, None] == domain[:, None, :]) & (items > 0)[:, None, :]

        def run(name: str, visible: Tensor) -> Tensor:
            mask = ((visible & causal) | itself).unsqueeze(1)
            out: Tensor = self.encoders[name](x, positions_from_end_within(visible), mask)
            return out

        if "target" in self.threads:
            states["target"] = run("target", same)
        if "source" in self.threads and self.num_domains == 2:
            states["source"] = run("source", same).unsqueeze(0)
        elif "source" in self.threads:
            outside = [(domain != d) & (items > 0) for d in range(self.num_domains)]
            states["source"] = torch.stack([run("source", o[:, :, None] & o[:, None, :]) for o in outside])
        return states

    def read_threads(
        self, states: dict[str, Tensor], items: Tensor, row: Tensor, column: Tensor, target_domain: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Each thread's state at its newest event at or before a position.

        Args:
            states: from :meth:`thread_states`.
            items: (B, L).
            row: (P,) row of each query.
            column: (P,) position of each query, -1 for the empty history.
            target_domain: (P,) domain to be predicted.

        Returns:
            (P, threads, D) states, zero where a thread is empty, and (P, threads) True where it is not.
        """
        domain = self.item_domain[items]
        read, present = [], []
        before = column.clamp(min=0)
        for name in self.threads:
            if name == "mixed":
                index, state = column, states[name]
            else:
                members = torch.stack(
                    [
                        last_index((domain == d) if name == "target" else (domain != d) & (items > 0))
                        for d in range(self.num_domains)
                    ]
                )  # (domains, B, L)
                index = torch.where(column >= 0, members[target_domain, row, before], -1)
                state = states[name]
            at = index.clamp(min=0)
            if name == "source":
                group = target_domain if len(state) > 1 else torch.zeros_like(target_domain)
                value = state[group, row, at]
            else:
                value = state[row, at]
            there = index >= 0
            read.append(value * there.unsqueeze(1))
            present.append(there)
        return torch.stack(read, dim=1), torch.stack(present, dim=1)

    def fusion_weights(self, threads: Tensor, present: Tensor, target_domain: Tensor) -> Tensor:
        """(P, threads) weights b that sum to one over the threads that are not empty (to zero if all are)."""
        if len(self.threads) > 1 and self.settings.fusion == "adaptive":
            joined = torch.cat([threads.flatten(1), self.domain_vector(target_domain)], dim=1)
            logits = self.fuse(joined)
        else:
            logits = torch.zeros_like(present, dtype=threads.dtype)
        weights = torch.softmax(logits.masked_fill(~present, torch.finfo(logits.dtype).min), dim=1)
        return weights * present

    def fused(self, threads: Tensor, present: Tensor, target_domain: Tensor) -> Tensor:
        """(P, D) user states; the start vector of the target's domain where every thread is empty."""
        weights = self.fusion_weights(threads, present, target_domain)
        mixed = (weights.unsqueeze(2) * threads).sum(1)
        empty = ~present.any(1, keepdim=True)
        return torch.where(empty, self.start(target_domain).to(mixed.dtype), mixed)

    def loss(self, batch: Batch) -> Loss:
        """L_rec + lambda_1 L_item + lambda_2 L_seq of a training batch."""
        row, column, target = batch.events()
        drawn = self.softmax.draw(target)
        needed = torch.unique(torch.cat([batch.items.flatten(), target, *(ids for _, ids, _ in drawn)]))
        place = torch.zeros(self.num_items + 1, dtype=torch.long, device=target.device)
        place[needed] = torch.arange(len(needed), device=target.device)
        vectors = self.items(needed)

        x = vectors[place[batch.items]] * (batch.items > 0).unsqueeze(2)
        states = self.thread_states(batch.items, batch.length, x)
        target_domain = self.item_domain[target]
        threads, present = self.read_threads(states, batch.items, row, column, target_domain)
        rec = self.softmax(self.fused(threads, present, target_domain), target, drawn, vectors, place)

        total, parts = rec, {"rec": float(rec.detach())}
        if self.settings.item_loss_weight and self.items.text_views:
            item = self._item_loss(needed)
            total = total + self.settings.item_loss_weight * item
            parts["item"] = float(item.detach())
        if self._has_sequence_loss:
            sequence = self._sequence_loss(threads, present, row, column, len(batch.items))
            total = total + self.settings.sequence_loss_weight * sequence
            parts["sequence"] = float(sequence.detach())
        return Loss(total, parts)

    def _item_loss(self, candidates: Tensor) -> Tensor:
        size = min(self.settings.item_loss_size, len(candidates))
        chosen = candidates[torch.randperm(len(candidates), device=candidates.device)[:size]]
        c = self.settings
        return self.items.contrastive_loss(chosen[chosen > 0], c.temperature, c.target_temperature)

    def _sequence_loss(self, threads: Tensor, present: Tensor, row: Tensor, column: Tensor, rows: int) -> Tensor:
        """L_seq: NCE of the projected source and target states against the mixed one.

        Taken at each row's newest target, over the rows where all threads have events.
        """
        newest = torch.full((rows,), -1, dtype=torch.long, device=row.device)
        inside = (column >= 0).nonzero().squeeze(1)  # not the empty histories; rows in order, columns ascending
        newest = newest.scatter_reduce(0, row[inside], inside, "amax")
        full = newest[newest >= 0]
        full = full[present[full].all(1)]
        if len(full) < 2:
            return threads.new_zeros(())
        projected = {name: self.project[name](threads[full, at]) for at, name in enumerate(self.threads)}
        others = [name for name in self.threads if name != "mixed"]
        losses = [info_nce(projected[name], projected["mixed"], self.settings.temperature) for name in others]
        return torch.stack(losses).sum()

    def item_vectors(self) -> Tensor:
        """(N+1, D), computed in blocks so that the adapters' inner arrays stay small."""
        ids = torch.arange(self.num_items + 1, device=self.item_domain.device)
        return torch.cat([self.items(block) for block in ids.split(8192)])

    def user_threads(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Threads of a scoring batch: (B, threads, D) states, (B, threads) presence, (B,) target domains."""
        assert batch.target_domain is not None
        x = self.prepared_items()[batch.items] * (batch.items > 0).unsqueeze(2)
        states = self.thread_states(batch.items, batch.length, x)
        rows = torch.arange(len(batch.items), device=batch.items.device)
        threads, present = self.read_threads(states, batch.items, rows, batch.length - 1, batch.target_domain)
        return threads, present, batch.target_domain

    def user_vectors(self, batch: Batch) -> Tensor:
        """(B, D) fused states."""
        return self.fused(*self.user_threads(batch))

    def thread_weights(self, batch: Batch) -> dict[str, Tensor]:
        """Thread name -> (B,) fusion weight, for explanations."""
        with torch.no_grad():
            weights = self.fusion_weights(*self.user_threads(batch))
        return {name: weights[:, at] for at, name in enumerate(self.threads)}
