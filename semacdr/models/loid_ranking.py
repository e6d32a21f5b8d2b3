"""LoID as a ranking model: its representation of a pair, scored for what comes next (systems.md 3).

The pair's rating becomes its score, and the mean squared error a softmax over the trained items of the target's domain.
What a user wrote are the reviews of the k newest events; where a data set has no reviews, the texts of those items
themselves. An item has k training reviews of other users, or its own text. A user has no id vector of its own, which
would know nothing of a new history: p_u is the mean of the id vectors of the k newest items.

A training target always has a review of its own user that must not be read, most rivals have none. So that the gap does
not tell which is which, everyone reads all but one of an item's reviews; see :func:`_readable`.

The head's first layer is linear in both representations, so a pair costs k inner products of width D rather than a
pass through the network; see :meth:`LoID.pairs`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from semacdr.data.batches import Batch
from semacdr.data.dataset import Catalogue
from semacdr.models.base import Loss, Recommender, SideData, TextTables
from semacdr.models.layers import ID_STD, Dropout, init_weights
from semacdr.models.losses import triplet
from semacdr.models.reviews import PluginPath, ReviewEncoder, ReviewSettings
from semacdr.models.softmax import CandidateSoftmax, Scope
from semacdr.models.text_encoder import load_trained

BLOCK_ELEMENTS = 1 << 24
DRAW_SEED = 20_241  # of the reviews that stand for an item


class LoIDConfig(ReviewSettings):
    """Settings of LoID as a ranking model."""

    rank: int = Field(0, ge=0)
    """r of the trained LoRA matrices. 0, the default, trains none, and every text is encoded once for the whole
    training: with a trained encoder each step encodes all texts that it meets, which wants a GPU."""
    dropout: float = Field(0.3, ge=0, lt=1)
    """Inside the scoring head."""
    embedding_dim: int = Field(128, gt=0)
    """D, of the id vectors and of what is read off the texts."""
    plugins: tuple[PluginPath, ...] = ()
    """Adapter folders of source domains, as ``semacdr loid pretrain`` writes them."""
    k: int = Field(5, gt=0)
    """Historical texts a side."""
    max_seq_len: int = Field(50, gt=0)
    """L: events of a history that training sequences are cut to; a score reads the k newest."""
    triplet_weight: float = Field(0.2, ge=0)
    """lambda of the triplet loss."""
    margin: float = Field(1.0, ge=0)
    """Of the triplet loss."""
    scope: Scope = "domain"
    """Whose items a target competes with in training."""
    num_negatives: int = Field(128, ge=0)
    """0: full softmax; else shared negatives of a sampled softmax with logQ correction."""


@dataclass
class UserSide:
    """What scoring needs of B users: p_u, their query, keys of their texts and what the texts say to the head."""

    vector: Tensor  # (B, D)
    query: Tensor  # (B, D)
    keys: Tensor  # (B, k, D)
    values: Tensor  # (B, k, D)
    mask: Tensor  # (B, k)
    owner: Tensor  # (B,) user indices, -1 for unknown

    def rows(self, at: Tensor) -> UserSide:
        """The users of the given rows."""
        return UserSide(*(value[at] for value in vars(self).values()))


@dataclass
class ItemSide:
    """The same of items; the leading shape is (1, n) for a list that users share, else (B, K).

    One text more is kept than is read; where no item of the side has k + 1, there are fewer.
    """

    vector: Tensor  # (..., D)
    query: Tensor  # (..., D)
    keys: Tensor  # (..., k + 1, D)
    values: Tensor  # (..., k + 1, D)
    mask: Tensor  # (..., k + 1)
    author: Tensor  # (..., k + 1) who wrote the text, -1 for nobody

    def take(self, items: Tensor) -> ItemSide:
        """Rows of a flat side: (n,) items give (1, n), (B, K) give (B, K)."""
        shaped = items.unsqueeze(0) if items.dim() == 1 else items
        return ItemSide(*(value[shaped] for value in vars(self).values()))


class LoID(Recommender):
    """Scores of pairs from the texts of both sides."""

    Config = LoIDConfig
    reads_text = True
    reads_item_texts = True
    reads_reviews = True
    trained: Tensor
    own_texts: Tensor  # (N+1,) text index of an item's own text, 0 if it has none
    item_texts: Tensor  # (N+1, k+1) of what an item is read by
    item_authors: Tensor
    table: Tensor | None
    _side: ItemSide | None = None

    def __init__(
        self, config: LoIDConfig, catalogue: Catalogue, text: TextTables | None = None, *, side: SideData | None = None
    ) -> None:
        super().__init__(config, catalogue, text)
        self.settings, D = config, config.embedding_dim
        self._read_texts(side or SideData())
        frozen = config.rank == 0 and not config.plugins and self.reviews_from is None
        self.reviews: ReviewEncoder | None = None
        table, width = None, 0
        if text and (frozen or not any(self.texts)):
            table = next(iter(text.values()))
            width = int(table.shape[1])
        elif any(self.texts):
            self.reviews = ReviewEncoder(config, self.texts, config.plugins)
            width = self.reviews.width
        self.register_buffer("table", table, persistent=False)
        self._views = tuple(text or ())
        self.text_width = width
        self.id = nn.Embedding(catalogue.num_items + 1, D)
        nn.init.normal_(self.id.weight, std=ID_STD)
        # Queries of both sides, keys and values of the texts, and a head whose first layer reads [v_u ; v_i].
        self.user_query, self.item_query = nn.Linear(D, D), nn.Linear(D, D)
        self.user_key, self.user_value = nn.Linear(max(width, 1), D), nn.Linear(max(width, 1), D)
        self.item_key, self.item_value = nn.Linear(max(width, 1), D), nn.Linear(max(width, 1), D)
        self.head_user, self.head_item = nn.Linear(D, D), nn.Linear(D, D, bias=False)
        self.head_out = nn.Linear(D, 1, bias=False)
        for module in self.children():
            if module is not self.reviews and isinstance(module, nn.Linear):
                init_weights(module)
        self.dropout = Dropout(config.dropout)
        self.softmax = CandidateSoftmax(catalogue, config.scope, config.num_negatives)
        self.register_buffer("trained", torch.from_numpy(catalogue.train_count > 0).float(), persistent=False)

    def _read_texts(self, side: SideData) -> None:
        """Numbers the texts: item i's own is text i, reviews come behind; keeps up to k + 1 of each item."""
        size, k = self.num_items + 1, self.settings.k
        own = list(side.item_texts) if side.item_texts is not None else [""] * size
        written = np.array([bool(text) for text in own])
        texts = np.zeros((size, k + 1), np.int64)
        texts[:, 0] = np.where(written, np.arange(size), 0)
        authors = np.full((size, k + 1), -1, np.int64)
        self.reviews_from = side.reviews
        self.texts = own
        if side.reviews is None:
            self._keys = self._texts_of_keys = np.zeros(0, np.int64)
        else:
            found = side.reviews
            self.texts = [*own, *found.texts]
            by_item = np.argsort(found.item, kind="stable")
            items, first = np.unique(found.item[by_item], return_index=True)
            for item, rows in zip(items, np.split(by_item, first[1:])):
                if len(rows) == 1:  # all but one is none: its own text says more
                    continue
                if len(rows) > k + 1:
                    random = np.random.default_rng([DRAW_SEED, int(item)])
                    rows = np.sort(random.choice(rows, k + 1, replace=False))
                texts[item, : len(rows)], authors[item, : len(rows)] = size + rows, found.user[rows]
            keys = found.user.astype(np.int64) * size + found.item
            order = np.argsort(keys)
            self._keys, self._texts_of_keys = keys[order], size + order
        if not any(self.texts):  # a table of vectors instead, or nothing: item i's text is vector i
            texts[:, 0] = np.arange(size)
            written[1:] = True
        self.register_buffer("own_texts", torch.from_numpy(np.arange(size) * written), persistent=False)
        self.register_buffer("item_texts", torch.from_numpy(texts), persistent=False)
        self.register_buffer("item_authors", torch.from_numpy(authors), persistent=False)

    def notes(self) -> Sequence[str]:
        """Where the historical texts come from, if not from reviews, and what of a given table is not used."""
        said = []
        if self._views and self.table is None:
            said.append(
                "the table of embeddings is not used: it wants rank=0, no plug-ins and a data set without reviews"
            )
        elif len(self._views) > 1:
            said.append(f"of the table of embeddings the view {self._views[0]!r} alone is used")
        if self.reviews_from is None and self.text_width:
            said.append("no reviews in this data set, so the historical texts are the items' own")
        elif self.reviews_from is None:
            said.append("neither reviews nor items' texts, so items are ids alone")
        return said

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes saved weights; the language model's and the plug-ins' are not among them."""
        load_trained(self, tensors)
        self._forget()

    def train(self, mode: bool = True) -> LoID:
        """Switches mode; going back to training drops what was kept of the items."""
        super().train(mode)
        if mode:
            self._side = None
        return self

    def prepare(self) -> None:
        """Encodes all items' texts once."""
        self._forget()
        with torch.no_grad():
            self._side = self._items(torch.arange(self.num_items + 1, device=self.trained.device))

    def _forget(self) -> None:
        self._side = None
        if self.reviews is not None:
            self.reviews.forget()

    def _vectors(self, texts: Tensor) -> tuple[Tensor, Tensor]:
        """(...) text indices -> (..., E) vectors, and whether there is a text."""
        if self.table is not None:
            vectors = self.table[texts]
            return vectors, (texts > 0) & (vectors.abs().sum(-1) > 0)
        if self.reviews is not None:
            return self.reviews(texts).float(), texts > 0
        return torch.zeros(*texts.shape, 1, device=texts.device), torch.zeros_like(texts, dtype=torch.bool)

    def event_texts(self, user: Tensor | None, items: Tensor) -> Tensor:
        """(B, L) the text of each event: the user's review of the item, else the item's own text; 0 for padding."""
        own = self.own_texts[items]
        if user is None or not len(self._keys):
            return own
        keys = (user.cpu().numpy()[:, None] * (self.num_items + 1) + items.cpu().numpy()).astype(np.int64)
        place = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        found = np.where(self._keys[place] == keys, self._texts_of_keys[place], 0)
        review = torch.from_numpy(found).to(items.device)
        return torch.where((review > 0) & (items > 0), review, own)

    def _id(self, items: Tensor) -> Tensor:
        """(...) -> (..., D) id vectors; zero for padding and for items that training never saw."""
        vectors: Tensor = self.id(items) * self.trained[items].unsqueeze(-1)
        return vectors

    def _items(self, items: Tensor) -> ItemSide:
        """(n,) items -> a flat side."""
        texts = self.item_texts[items]
        vectors, mask = self._vectors(texts)
        width = max(1, int(mask.sum(1).max())) if len(items) else 1  # mostly 1: items' own texts
        vectors, mask, authors = vectors[:, :width], mask[:, :width], self.item_authors[items][:, :width]
        own = self._id(items)
        return ItemSide(own, self.item_query(own), self.item_key(vectors), self.item_value(vectors), mask, authors)

    def _users(self, vector: Tensor, texts: Tensor, owner: Tensor) -> UserSide:
        """(B, D) p_u and (B, k) texts -> a side."""
        vectors, mask = self._vectors(texts)
        return UserSide(vector, self.user_query(vector), self.user_key(vectors), self.user_value(vectors), mask, owner)

    def positions(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Of every prefix of every row: p_u (B, L+1, D) and the k newest texts (B, L+1, k); 0 is the empty one."""
        k = self.settings.k
        newest = F.pad(batch.items, (k, 0)).unfold(1, k, 1)  # (B, L + 1, k)
        texts = F.pad(self.event_texts(batch.user, batch.items), (k, 0)).unfold(1, k, 1)
        count = (newest > 0).sum(2, keepdim=True).clamp(min=1)
        return self._id(newest).sum(2) / count, texts

    def pairs(self, users: UserSide, items: ItemSide) -> Tensor:
        """(B, n) scores.

        ``head([v_u ; v_i]) = w . relu(A v_u + C v_i + b)`` with ``v_i = q_i + sum_j a_ij V_u^j`` (the item asks the
        user's texts) and ``v_u = p_u + sum_j b_uj V_i^j`` (the user asks the item's).
        """
        scale = self.settings.embedding_dim**-0.5
        asks_user = _weights(_dots(items.query, users.keys) * scale, users.mask.unsqueeze(1))  # (B, n, k)
        logits = _dots(items.keys.flatten(1, 2), users.query.unsqueeze(1)) * scale  # (B, n (k + 1), 1)
        logits = logits.view(len(users.query), -1, items.keys.shape[2])
        asks_item = _weights(logits, _readable(items.mask, items.author, users.owner[:, None, None]))  # (B, n, k + 1)
        hidden = torch.baddbmm(self.head_user(users.vector).unsqueeze(1), asks_user, self.head_item(users.values))
        hidden = hidden + self.head_item(items.vector)
        told = self.head_user(items.values) - self.head_user.bias  # (..., k + 1, D)
        for j in range(told.shape[2]):
            hidden = torch.addcmul(hidden, asks_item[:, :, j : j + 1], told[:, :, j])
        scores: Tensor = self.head_out(self.dropout(F.relu(hidden))).squeeze(2).float()
        return scores

    def loss(self, batch: Batch) -> Loss:
        """Softmax of every position's next item, and the triplet loss of both representations."""
        assert batch.targets is not None
        vector, texts = self.positions(batch)
        targets = F.pad(batch.targets, (1, 0))  # target of the prefix of that length
        if batch.first_target is not None:
            targets[:, 0] = batch.first_target
        row, column = targets.nonzero(as_tuple=True)
        owner = torch.full_like(row, -1) if batch.user is None else batch.user[row]
        users, target = self._users(vector[row, column], texts[row, column], owner), targets[row, column]
        drawn = self.softmax.draw(target)
        needed = torch.cat([target, *(candidates for _, candidates, _ in drawn)]).unique()
        place = torch.zeros(self.num_items + 1, dtype=torch.long, device=target.device)
        place[needed] = torch.arange(len(needed), device=target.device)
        items = self._items(needed)
        group = self.softmax.group[target]
        rec = vector.new_zeros(())
        for index, candidates, log_expected in drawn:
            at = (group == index).nonzero().squeeze(1)
            some, wanted = users.rows(at), target[at]
            logits = self.pairs(some, items.take(place[candidates]))
            if log_expected is None:
                right = torch.searchsorted(candidates, wanted)
            else:
                hit = self.pairs(some, items.take(place[wanted].unsqueeze(1)))
                struck = wanted[:, None] == candidates[None, :]
                logits = torch.cat([hit, (logits - log_expected).masked_fill(struck, float("-inf"))], dim=1)
                right = torch.zeros_like(wanted)
            rec = rec + F.cross_entropy(logits, right, reduction="sum")
        rec = rec / max(1, len(target))
        contrast = self._contrast(users, items, place[target], row, target)
        total = rec + self.settings.triplet_weight * contrast
        return Loss(total, {"rec": float(rec.detach()), "triplet": float(contrast.detach())})

    def _contrast(self, users: UserSide, items: ItemSide, place: Tensor, row: Tensor, target: Tensor) -> Tensor:
        """Mean triplet losses of v_i to p_u and of v_u to q_i against another user and another item of the batch."""
        if not self.settings.triplet_weight:
            return users.vector.new_zeros(())
        scale = self.settings.embedding_dim**-0.5
        mine = ItemSide(*(value[place] for value in vars(items).values()))
        asks_user = _weights((mine.query.unsqueeze(1) * users.keys).sum(2) * scale, users.mask)
        readable = _readable(mine.mask, mine.author, users.owner.unsqueeze(1))  # the pair's own review is its answer
        asks_item = _weights((users.query.unsqueeze(1) * mine.keys).sum(2) * scale, readable)
        v_i = mine.vector + (asks_user.unsqueeze(2) * users.values).sum(1)
        v_u = users.vector + (asks_item.unsqueeze(2) * mine.values).sum(1)
        return self._side_contrast(v_i, users.vector, row) + self._side_contrast(v_u, mine.vector, target)

    def _side_contrast(self, anchor: Tensor, positive: Tensor, ids: Tensor) -> Tensor:
        # One candidate a row is enough here: a batch has many rows, and most hold another id.
        chosen = torch.randint(len(ids), (len(ids),), device=ids.device)
        valid = ids[chosen] != ids
        losses = triplet(anchor, positive, positive[chosen], self.settings.margin)
        return (losses * valid).sum() / valid.sum().clamp(min=1)

    def encode(self, batch: Batch) -> UserSide:
        """What scoring needs of the users."""
        with torch.no_grad():
            vector, texts = self.positions(batch)
            rows = torch.arange(len(batch.items), device=batch.items.device)
            owner = torch.full_like(batch.length, -1) if batch.user is None else batch.user
            return self._users(vector[rows, batch.length], texts[rows, batch.length], owner)

    def score(self, encoded: UserSide, items: Tensor) -> Tensor:
        """(B, n) or (B, K) scores."""
        if self._side is None:
            self.prepare()
        assert self._side is not None
        # (B, n, D) is what a block of pairs takes; blocks keep it within BLOCK_ELEMENTS
        step = max(1, BLOCK_ELEMENTS // (len(encoded.vector) * self.settings.embedding_dim))
        with torch.no_grad():
            blocks = items.split(step, dim=-1)
            return torch.cat([self.pairs(encoded, self._side.take(block)) for block in blocks], dim=1)


def _readable(mask: Tensor, author: Tensor, owner: Tensor) -> Tensor:
    """Which of an item's texts a user may read: all but one of the reviews, and every text that is no review.

    Left out is what the user wrote itself, which would tell that the two met. Where it wrote none, another review is,
    chosen by the user's number: how many there are to read, and which, then says nothing of who wrote.

    Args:
        mask: (..., j) True where a text is.
        author: (..., j) user index of who wrote it, -1 for nobody; reviews come first.
        owner: (..., 1) index of the user who reads, -1 for unknown.
    """
    review = mask & (author >= 0)
    own = review & (author == owner)
    instead = torch.arange(mask.shape[-1], device=mask.device) == owner % review.sum(-1, keepdim=True).clamp(min=1)
    return mask & ~torch.where(own.any(-1, keepdim=True), own, review & instead)


def _dots(vectors: Tensor, others: Tensor) -> Tensor:
    """(1 or B, n, D) and (B, k, D) -> (B, n, k) inner products; what all rows share is one product of matrices."""
    if len(vectors) > 1 or len(others) == 1:
        return vectors @ others.transpose(1, 2)
    return (others @ vectors[0].T).transpose(1, 2)


def _weights(logits: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last dimension where the mask is True; all zero where it never is."""
    return torch.softmax(logits.masked_fill(~mask, torch.finfo(logits.dtype).min), dim=-1) * mask
