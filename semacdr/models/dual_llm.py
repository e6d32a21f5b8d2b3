"""Dual-LLM co-training: a language model for each domain, one shared layer of user vectors (Lyu et al., AANN 2025).

What the paper's abstract says: two domain-specific language models are trained together and share user-embedding
layers; losses are a contrast that pulls similar users together, a reconstruction that keeps the similarities inside a
domain, masked tokens and the next item for each model; positives come from behaviour; users of both domains come to
lie in one space, for targets with few data. No equation, data or code is public: the forms below are our design.

    text     q_D = mean state of domain D's model over the user's events in D, a line an item, newest last
    shared   u_D = LN(W_s q_D + b_s), the same layer in every domain
    items    c = state of a causal encoder after the user's events as item tokens, all domains in one order
    score    s_D(i) = <W_n (u_D + P_user) + b_n + W_D q_D + c, e_i>
    loss     sum_D (L_next + mlm_weight L_mlm + reconstruction_weight L_rec) + contrast_weight L_con
             + item_weight L_items

A language model of this kind reads both ways, so for each user, domain and step one (prefix, next item) pair is drawn,
and the prefix alone is encoded: nothing later is in any text. Item tokens are read causally, and L_items asks
``<c, e_i>`` for the next item at every position; without them (``item_channel``) a user is its texts alone. A user
without text in D takes u of the domain of its newest event; then W_D q_D is left out, and what is shared has to carry
the score. P is a free vector of each training user; it is added where scores are made and never in the contrast, which
a user's own row would solve at once. Users outside training have P = 0.

L_con runs over all user vectors of a batch: a user's own text in another domain is a positive, and so is another user's
in the same domain whose training items there, as far as they lie in the rows of the batch, are alike (Jaccard). The
losses beside L_next and L_mlm join after ``cotrain_after`` steps. A step holds every domain of its users, in place of
batches that take turns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from semacdr.config import Settings
from semacdr.data.batches import Batch
from semacdr.data.dataset import Catalogue
from semacdr.errors import InputError
from semacdr.local_models import EMBEDDED
from semacdr.models.adapter import ItemEncoder
from semacdr.models.base import Loss, SideData, TextTables, VectorRecommender
from semacdr.models.dual_llm_losses import jaccard, multi_positive_nce, preservation_loss, pseudo_label_loss
from semacdr.models.dual_llm_text import DomainLanguageModel, UserTexts, with_lora
from semacdr.models.item_channel import ItemChannel
from semacdr.models.layers import init_weights
from semacdr.models.softmax import CandidateSoftmax
from semacdr.models.text_encoder import Backbone, load_trained
from semacdr.progress import say

FULL_SOFTMAX_ITEMS, FEW_NEGATIVES = 20_000, 127


class DualLLMConfig(Settings):
    """Settings of the dual-LLM model."""

    backbone: str = EMBEDDED
    """The encoder of every domain: embedded, a local folder, or a hub name. Its own weights stay frozen."""
    lora_rank: int = Field(8, gt=0)
    """r of the matrices that each domain adds."""
    lora_alpha: float = Field(16, gt=0)
    """Their product is scaled by lora_alpha / lora_rank."""
    lora_targets: list[str] | None = None
    """Linear layers that get them; null for attention and feed-forward layers."""
    embedding_dim: int = Field(128, gt=0)
    """D: width of the shared user vectors and of the item vectors."""
    max_seq_len: int = Field(50, gt=0)
    """L: events of a history that are looked at, all domains together."""
    max_tokens: int = Field(256, gt=4)
    """Tokens of a text; of a longer one the newest lines are read."""
    item_tokens: int = Field(24, gt=0)
    """Tokens of an item's line."""
    item_channel: bool = True
    """Item tokens beside the texts; without them the last events are known by their texts alone."""
    item_weight: float = Field(1.0, ge=0)
    """Of L_items."""
    num_layers: int = Field(2, gt=0)
    """Causal blocks over the item tokens."""
    num_heads: int = Field(2, gt=0)
    """Heads of each; a divisor of embedding_dim."""
    dropout: float = Field(0.3, ge=0, lt=1)
    """Inside them."""
    num_negatives: int | None = Field(None, ge=0)
    """0: full softmax over the domain; null: that up to 20,000 items in the largest domain, beyond it 127 negatives in
    every domain that has more items."""
    user_table: bool = True
    """The free vectors P; without them a user is its text alone."""
    mlm_weight: float = Field(0.5, ge=0)
    """Of L_mlm; 0 leaves it out."""
    mlm_share: float = Field(1.0, gt=0, le=1)
    """Share of a step's texts that are read a second time with masks; the cost of a step falls with it."""
    mask_rate: float = Field(0.15, gt=0, lt=1)
    """Share of the tokens that are masked."""
    reconstruction_weight: float = Field(0.1, ge=0)
    """Of L_rec; 0 leaves it out."""
    contrast_weight: float = Field(0.1, ge=0)
    """Of L_con; 0 leaves it out."""
    temperature: float = Field(0.07, gt=0)
    """tau of L_con."""
    similar_users: float = Field(0.2, gt=0)
    """Jaccard similarity from which two users of a domain are positives; above 1 none are."""
    cotrain_after: int = Field(100, ge=0)
    """Training steps with L_next and L_mlm alone, before the other losses join."""
    pseudo_label_weight: float = Field(0.0, ge=0)
    """Of the pseudo-label step; 0 leaves it out. Where one domain's model is sure of a user's next items, the same
    items are to be found from the user's text in another domain, through the shared vector."""
    pseudo_top: int = Field(5, gt=0)
    """Items that a pseudo-label holds."""
    pseudo_confidence: float = Field(0.5, ge=0, le=1)
    """Probability that those items must have together."""
    adapter_dim: int = Field(128, gt=0)
    """With --embeddings: inner width of the map from an item's text vectors to its item vector."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.item_channel and self.embedding_dim % self.num_heads:
            raise ValueError(f"embedding_dim {self.embedding_dim} is no multiple of num_heads {self.num_heads}")
        if self.item_tokens + 2 > self.max_tokens:
            raise ValueError(f"a line of {self.item_tokens} item_tokens does not fit into {self.max_tokens} max_tokens")
        return self


@dataclass(frozen=True)
class Questions:
    """P (prefix, next item) pairs: of ``items[row]`` the first ``cut`` events are known, ``domain`` is asked about."""

    row: Tensor
    cut: Tensor
    domain: Tensor
    target: Tensor


@dataclass(frozen=True)
class Reading:
    """What was made of P prefixes.

    reader: (P,) domain whose text was read: the one asked about, else that of the newest event, -1 without any event.
    pooled: (P, d) q.
    shared: (P, D) u, zero where nothing was read.
    texts: domain -> (rows of the above, token ids, mask) that its model read.
    """

    reader: Tensor
    pooled: Tensor
    shared: Tensor
    texts: dict[int, tuple[Tensor, Tensor, Tensor]]


class DualLLM(VectorRecommender):
    """The co-training model; see the module's text. Any number of domains, each with a language model of its own."""

    Config = DualLLMConfig
    reads_text = True
    reads_item_texts = True
    steps: Tensor

    def __init__(
        self,
        config: DualLLMConfig,
        catalogue: Catalogue,
        text: TextTables | None = None,
        *,
        side: SideData | None = None,
    ) -> None:
        super().__init__(config, catalogue, text)
        c = self.settings = config
        side = side or SideData()
        if side.item_texts is None:
            say("DualLLM: no texts of the items are given, so their ids serve as texts")
        names = [str(item) for item in catalogue.item_ids]
        lines = [line or name for line, name in zip(side.item_texts or names, names)]
        backbone = Backbone(c.backbone, "mean", c.max_tokens)
        self.texts = UserTexts(lines, backbone.tokenizer, c.item_tokens, backbone.max_tokens)
        self.num_domains = len(catalogue.domains)
        self.language_models = nn.ModuleList(self._language_model(backbone, d) for d in range(self.num_domains))
        d, D = backbone.width, c.embedding_dim
        self.shared, self.norm = nn.Linear(d, D), nn.LayerNorm(D)
        self.num_users = side.num_users if c.user_table else 0
        self.table = nn.Embedding(self.num_users + 1, D, padding_idx=0)  # P; row 0 for users outside training
        self.from_user = nn.Linear(D, D)
        self.from_text = nn.ModuleList(nn.Linear(d, D, bias=False) for _ in catalogue.domains)
        self.decoders = nn.ModuleList(
            nn.Sequential(nn.Linear(D, D), nn.GELU(), nn.Linear(D, d)) for _ in catalogue.domains
        )
        self.items = ItemEncoder(catalogue, text or {}, D, c.adapter_dim, 0.1)
        channel = ItemChannel(D, c.num_layers, c.num_heads, c.dropout, c.max_seq_len) if c.item_channel else None
        self.channel = channel
        many = int(self.item_domain[1:].bincount().max()) > FULL_SOFTMAX_ITEMS
        negatives = (FEW_NEGATIVES if many else 0) if c.num_negatives is None else c.num_negatives
        if negatives and c.pseudo_label_weight:
            raise InputError("pseudo-labels choose among all items of a domain", fix="num_negatives=0")
        self.softmax = CandidateSoftmax(catalogue, "domain", negatives)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))  # saved: a resumed run is as far as it was
        for part in (self.shared, self.from_user, self.from_text, self.decoders):
            part.apply(init_weights)
        nn.init.zeros_(self.table.weight)

    def _language_model(self, backbone: Backbone, domain: int) -> DomainLanguageModel:
        vocabulary = self.texts.vocabulary((self.item_domain == domain).nonzero().squeeze(1))
        vectors = backbone.model.get_input_embeddings().weight[vocabulary].detach().clone()
        c = self.settings
        own = with_lora(backbone, c.lora_rank, c.lora_alpha, c.lora_targets)
        return DomainLanguageModel(own, vectors, vocabulary)

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes saved weights, which are all but the frozen ones of the backbone."""
        load_trained(self, tensors)

    def draw(self, batch: Batch) -> Questions:
        """One question for each row and domain that has a target in it, drawn uniformly over its targets."""
        assert batch.targets is not None
        opening = torch.zeros_like(batch.length) if batch.first_target is None else batch.first_target
        targets = torch.cat([opening[:, None], batch.targets], dim=1)  # (B, L+1): column c follows c events
        of = self.item_domain[targets]
        found = []
        for domain in range(self.num_domains):
            draw = torch.rand(targets.shape, device=targets.device).masked_fill(of != domain, -1.0)
            best, cut = draw.max(1)
            row = (best >= 0).nonzero().squeeze(1)
            found.append((row, cut[row], torch.full_like(row, domain), targets[row, cut[row]]))
        return Questions(*(torch.cat(parts) for parts in zip(*found)))

    def read(self, items: Tensor, cut: Tensor, domain: Tensor) -> Reading:
        """Reads the first ``cut`` (P,) events of ``items`` (P, L), to answer for ``domain`` (P,)."""
        of = self.item_domain[items]
        known = torch.arange(items.shape[1], device=items.device) < cut[:, None]
        own = (known & (of == domain[:, None])).any(1)
        newest = of.gather(1, (cut - 1).clamp(min=0)[:, None]).squeeze(1)
        reader = torch.where(own, domain, torch.where(cut > 0, newest, -1))
        pooled = torch.zeros(len(items), self.shared.in_features, device=items.device)
        texts = {}
        for index, model in enumerate(self.language_models):
            at = (reader == index).nonzero().squeeze(1)
            if len(at):
                ids, mask = self.texts(items[at], known[at] & (of[at] == index))
                texts[index] = (at, ids, mask)
                pooled = pooled.index_copy(0, at, model(ids, mask))
        shared = self.norm(self.shared(pooled)).float() * (reader >= 0)[:, None]
        return Reading(reader, pooled, shared, texts)

    def states(self, reading: Reading, domain: Tensor, user: Tensor | None) -> Tensor:
        """(P, D) what is multiplied with the item vectors; ``user`` (P,) is -1 or None where unknown."""
        v = reading.shared
        if user is not None:
            inside = (user >= 0) & (user < self.num_users)
            v = v + self.table(torch.where(inside, user + 1, 0))
        states: Tensor = self.from_user(v)
        for index, project in enumerate(self.from_text):
            at = ((domain == index) & (reading.reader == index)).nonzero().squeeze(1)
            states = states.index_add(0, at, project(reading.pooled[at]).to(states.dtype))
        return states

    def loss(self, batch: Batch) -> Loss:
        """The weighted sum of the losses of one drawn question for each user and domain."""
        q = self.draw(batch)
        reading = self.read(batch.items[q.row], q.cut, q.domain)
        user = None if batch.user is None else batch.user[q.row]
        states = self.states(reading, q.domain, user)
        row, column, target = batch.events()
        asked = torch.cat([q.target, target]) if self.channel else q.target
        drawn = self.softmax.draw(asked)
        needed = torch.unique(torch.cat([asked, batch.items.flatten(), *(ids for _, ids, _ in drawn)]))
        place = torch.zeros(self.num_items + 1, dtype=torch.long, device=needed.device)
        place[needed] = torch.arange(len(needed), device=needed.device)
        vectors = self.items(needed)
        parts = {"next": states.new_zeros(())}
        if self.channel:
            after = self.channel(vectors[place[batch.items]], batch.length)
            states = states + after[q.row, q.cut]
            parts["items"] = self.softmax(after[row, column + 1], target, drawn, vectors, place)
        for index in range(self.num_domains):
            at = (q.domain == index).nonzero().squeeze(1)
            if len(at):
                candidates = [entry for entry in drawn if entry[0] == index]
                parts["next"] = parts["next"] + self.softmax(states[at], q.target[at], candidates, vectors, place)
        c = self.settings
        if c.mlm_weight:
            parts["mlm"] = self._mlm_loss(reading)
        weights = {"next": 1.0, "items": c.item_weight, "mlm": c.mlm_weight, "reconstruction": c.reconstruction_weight}
        weights |= {"contrast": c.contrast_weight, "pseudo": c.pseudo_label_weight}
        if int(self.steps) >= c.cotrain_after:
            if c.reconstruction_weight:
                parts["reconstruction"] = self._reconstruction_loss(reading, q)
            if c.contrast_weight:
                parts["contrast"] = self._contrastive_loss(reading, q, batch)
            if c.pseudo_label_weight:
                parts["pseudo"] = self._pseudo_loss(reading, q, states, vectors, place)
        if self.training:
            self.steps += 1
        total = torch.stack([weights[name] * part for name, part in parts.items()]).sum()
        return Loss(total, {name: float(part.detach()) for name, part in parts.items()})

    def _mlm_loss(self, reading: Reading) -> Tensor:
        """Sum over domains, on a share of the texts that were read."""
        total = reading.shared.new_zeros(())
        for index, (_, ids, mask) in reading.texts.items():
            some = torch.randperm(len(ids), device=ids.device)[: max(1, round(self.settings.mlm_share * len(ids)))]
            ids, mask = ids[some], mask[some]
            words = self.texts.words(ids) & mask
            model = cast(DomainLanguageModel, self.language_models[index])
            total = total + model.masked_loss(ids, mask, words, self.settings.mask_rate, self.texts.mask_id)
        return total

    def _reconstruction_loss(self, reading: Reading, q: Questions) -> Tensor:
        """Sum over domains, on the texts that stand for their own domain."""
        total = reading.shared.new_zeros(())
        for index, decoder in enumerate(self.decoders):
            at = ((q.domain == index) & (reading.reader == index)).nonzero().squeeze(1)
            if len(at):
                u = reading.shared[at]
                total = total + preservation_loss(decoder(u).float(), u, reading.pooled[at])
        return total

    def _contrastive_loss(self, reading: Reading, q: Questions, batch: Batch) -> Tensor:
        """Over the vectors of all domains, each from the text of its own domain, and without P."""
        at = (reading.reader == q.domain).nonzero().squeeze(1)
        row, domain = q.row[at], q.domain[at]
        return multi_positive_nce(reading.shared[at], self.positives(batch, row, domain), self.settings.temperature)

    def positives(self, batch: Batch, row: Tensor, domain: Tensor) -> Tensor:
        """(m, m) whose vectors belong together: the same user's, or in one domain those of users alike.

        Args:
            batch: the training rows; what a row holds is what Jaccard compares.
            row: (m,) row of each vector.
            domain: (m,) domain of each vector.
        """
        assert batch.targets is not None
        who = -1 - torch.arange(len(batch.items), device=row.device)
        if batch.user is not None:  # a long history lies in several rows
            who = torch.where(batch.user >= 0, batch.user, who)
        positive = who[row][:, None] == who[row][None, :]
        events = [batch.items, batch.targets]
        if batch.first_target is not None:
            events.append(batch.first_target[:, None])
        trained = torch.cat(events, dim=1)
        for index in range(self.num_domains):
            alike = jaccard(torch.where(self.item_domain[trained] == index, trained, 0)) >= self.settings.similar_users
            here = domain == index
            positive |= alike[row][:, row] & here[:, None] & here[None, :]
        return positive

    def _pseudo_loss(self, reading: Reading, q: Questions, states: Tensor, vectors: Tensor, place: Tensor) -> Tensor:
        """Mean over ordered pairs of domains, on the users that have text in both."""
        own = reading.reader == q.domain
        losses = []
        rows = int(q.row.max()) + 1
        question = torch.full((self.num_domains, rows), -1, device=q.row.device)
        question[q.domain[own], q.row[own]] = own.nonzero().squeeze(1)
        for index in range(self.num_domains):
            candidates = vectors[place[self.softmax.members(index)]]
            for other in range(self.num_domains):
                both = (question[index] >= 0) & (question[other] >= 0)
                if other == index or not bool(both.any()):
                    continue
                teacher = states[question[index][both]] @ candidates.T
                student = self.from_user(reading.shared[question[other][both]]) @ candidates.T
                c = self.settings
                losses.append(pseudo_label_loss(teacher, student, c.pseudo_top, c.pseudo_confidence))
        return torch.stack(losses).mean() if losses else states.new_zeros(())

    def item_vectors(self) -> Tensor:
        """(N+1, D)."""
        ids = torch.arange(self.num_items + 1, device=self.item_domain.device)
        return torch.cat([self.items(block) for block in ids.split(8192)])

    def user_vectors(self, batch: Batch) -> Tensor:
        """(B, D) from the whole history."""
        assert batch.target_domain is not None
        reading = self.read(batch.items, batch.length, batch.target_domain)
        states = self.states(reading, batch.target_domain, batch.user)
        if self.channel is None:
            return states
        after = self.channel(self.items(batch.items.flatten()).view(*batch.items.shape, -1), batch.length)
        return states + after[torch.arange(len(after), device=after.device), batch.length]

    @torch.no_grad()
    def domain_vectors(self, batch: Batch, domain: int) -> tuple[Tensor, Tensor]:
        """The users' vectors u in one domain, without P: what alignment is measured on.

        Returns:
            (B, D) vectors, and (B,) True where the user has text in the domain.
        """
        asked = torch.full_like(batch.length, domain)
        reading = self.read(batch.items, batch.length, asked)
        return reading.shared, reading.reader == domain
