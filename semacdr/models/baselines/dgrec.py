"""DGRec: a graph recommender that looks for variety (Yang et al., WSDM 2023; code: YangLiangwei/DGRec).

    graph      users and the items they had in training; v_i is free, p_u is the user's vector
    items      v'_i = deg(i)^-1/2 sum_{u of i} deg(u)^-1/2 p_u
    users      p'_u = deg(u)^-1/2 sum_{j in S} deg(j)^-1/2 v_j,  S the ``neighbours`` of the user's items that represent
               all of them best (facility.py)
    attention  h = sum_l w_l h^l over the layers 0 and 1,  w = softmax_l(a' W' h^l), for users and items alike
    score      s(u, i) = <h_u, h_i>
    loss       BPR with 4 negatives a positive, each positive weighted by (1 - balance) / (1 - balance^n), mean weight 1

Published: n is the number of items in the positive's category. Items have no category here, so n is the number of the
item's own training events, as the author advises (issue 12 of the code): what is had rarely counts more. Published for
TaoBao, full ranking: hr@100 .2983, hr@300 .4751, categories covered among the first 100 39.3 and the first 300 89.9.

Where we differ, and why:
- A user's items are those before the event to be predicted, where the published graph has the event itself among them.
  So no event is predicted from itself, and a user outside training is like any other.
- p_u is the mean of the vectors of the user's items. ``user_table: true`` is the published table of users; it cannot
  score users outside training, and says so.
- One layer, the published choice. Nobody is chosen twice among the neighbours (the code takes the first neighbour again
  once nothing is left to gain). Steps are batches of users, not the whole graph, and vectors start small: from the
  published N(0, 1) the items of few events would stay where chance put them.
- Domains are not told apart, but for negatives, which are of the positive's domain. An untrained item and a user
  without history are zero vectors.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from semacdr.config import Settings
from semacdr.data.batches import Batch
from semacdr.data.dataset import Catalogue
from semacdr.data.splits import TrainSequences
from semacdr.models.base import Loss, SideData, TextTables, VectorRecommender
from semacdr.models.facility import representatives
from semacdr.models.layers import ID_STD, prefix_mean
from semacdr.models.negatives import UniformNegatives, window_items
from semacdr.models.user_table import UserTable

BLOCK_HISTORIES = 512  # whose neighbours are chosen at once: 5 MiB of similarities at L = 50


class DGRecConfig(Settings):
    """Settings of DGRec; the defaults are the published ones."""

    embedding_dim: int = Field(32, gt=0)
    """D."""
    neighbours: int = Field(20, gt=0)
    """k: how many of a user's items are heard."""
    sigma: float = Field(1.0, gt=0)
    """Width of the kernel by which they are chosen, in mean distances."""
    balance: float = Field(0.9, ge=0, lt=1)
    """beta: how much more the events of rare items count; 0: all alike."""
    num_negatives: int = Field(4, gt=0)
    """K: wrong items for each right one."""
    max_seq_len: int = Field(50, gt=0)
    """L: events of a history that are read."""
    user_table: bool = False
    """A free vector for each user of the training, as published, in place of the mean of the user's items."""


class DGRec(VectorRecommender):
    """The model; see the module's text."""

    Config = DGRecConfig
    reads_sequences = True
    trained: Tensor
    scale: Tensor
    weight: Tensor
    user_mean: Tensor
    to_item: Tensor

    def __init__(
        self, config: DGRecConfig, catalogue: Catalogue, text: TextTables | None = None, *, side: SideData
    ) -> None:
        super().__init__(config, catalogue, text)
        assert side.train is not None
        c = self.settings = config
        D, size = c.embedding_dim, catalogue.num_items + 1
        self.id = nn.Embedding(size, D)
        self.attention = nn.Linear(D, D, bias=False)
        self.query = nn.Parameter(torch.empty(D))
        nn.init.normal_(self.id.weight, std=ID_STD)
        nn.init.normal_(self.attention.weight, std=D**-0.5)
        nn.init.normal_(self.query, std=D**-0.5)
        if c.user_table:
            self.user = UserTable(side, D, "DGRec")
        user, item = had_items(side.train)
        of_user = torch.bincount(user, minlength=side.num_users).float()
        of_item = torch.bincount(item, minlength=size).float()
        share = of_item[item].rsqrt() * of_user[user].rsqrt()
        for name, index, value, shape in (
            ("user_mean", torch.stack([user, item]), of_user[user].reciprocal(), (side.num_users, size)),
            ("to_item", torch.stack([item, user]), share, (size, side.num_users)),
        ):
            self.register_buffer(
                name, torch.sparse_coo_tensor(index, value, shape, check_invariants=True).coalesce(), persistent=False
            )
        self.register_buffer("scale", of_item.clamp(min=1).rsqrt().unsqueeze(1), persistent=False)
        trained = torch.from_numpy(catalogue.train_count > 0)
        self.register_buffer("trained", trained, persistent=False)
        weight = event_weights(torch.from_numpy(catalogue.train_count), c.balance)
        self.register_buffer("weight", weight, persistent=False)
        self.negatives = UniformNegatives(torch.where(trained, self.item_domain, -1))

    def attended(self, *layers: Tensor) -> Tensor:
        """(n, D) vectors of each layer -> (n, D), weighed by attention."""
        stacked = torch.stack(layers)  # (layers, n, D)
        weights = torch.softmax(self.attention(stacked) @ self.query, dim=0)
        return (weights.unsqueeze(2) * stacked).sum(0)

    def item_vectors(self) -> Tensor:
        """(N+1, D), heard from the users of the training."""
        free = self.id.weight * self.trained.unsqueeze(1)
        with torch.autocast(free.device.type, enabled=False):  # sparse products have no half precision of their own
            users = self.user.vectors.weight if self.settings.user_table else torch.sparse.mm(self.user_mean, free)
            heard = torch.sparse.mm(self.to_item, users)
        return self.attended(free, heard)

    def users_at(self, batch: Batch, row: Tensor, column: Tensor) -> Tensor:
        """(P, D) vectors of the users as they are known after position ``column`` of ``row``; -1 is before all."""
        items = batch.items
        known = self.trained[items]
        again = (items[:, :, None] == items[:, None, :]).tril(-1).any(2)
        fresh = known & ~again  # an item that was had before is no neighbour anew
        free = self.id(items)
        own = self.user(batch)[row] if self.settings.user_table else prefix_mean(free, fresh, row, column)
        messages = free * self.scale[items]
        before = torch.arange(items.shape[1], device=items.device) <= column[:, None]
        taken = [
            representatives(messages[r], fresh[r] & b, self.settings.neighbours, self.settings.sigma)
            for r, b in zip(row.split(BLOCK_HISTORIES), before.split(BLOCK_HISTORIES))
        ]
        # Of each position which events it hears; as one product, no message is copied for each position.
        hears = messages.new_zeros(len(items), items.shape[1], items.shape[1])
        at = column.clamp(min=0)
        hears[row, at] = torch.cat(taken).to(hears.dtype) if taken else hears[row, at]
        count = (fresh[row] & before).sum(1).clamp(min=1)
        heard = (hears @ messages)[row, at] * count.to(hears.dtype).rsqrt().unsqueeze(1)
        return self.attended(own, heard)

    def loss(self, batch: Batch) -> Loss:
        """BPR of every position's next item, events of rare items weighing more."""
        row, column, target = batch.events()
        some = column >= 0  # before the first event nothing is known of a user
        row, column, target = row[some], column[some], target[some]
        K = self.settings.num_negatives
        domain = self.item_domain[target]
        wrong = self.negatives.draw(domain.repeat_interleave(K), row.repeat_interleave(K), window_items(batch))
        vectors, users = self.item_vectors(), self.users_at(batch, row, column)
        scores = (vectors[torch.cat([target.unsqueeze(1), wrong.view(-1, K)], 1)] @ users.unsqueeze(2)).squeeze(2)
        pairs = F.softplus(scores[:, 1:] - scores[:, :1]).float().mean(1)
        rec = (self.weight[target] * pairs).sum() / max(1, len(target))
        return Loss(rec, {"rec": float(rec.detach())})

    def user_vectors(self, batch: Batch) -> Tensor:
        """(B, D) users after all of their events."""
        rows = torch.arange(len(batch.items), device=batch.items.device)
        return self.users_at(batch, rows, batch.length - 1)


def had_items(train: TrainSequences) -> tuple[Tensor, Tensor]:
    """User and item of each pair of which training has an event, once."""
    sequence, place = train.events()
    target = train.is_target[place]
    pairs = np.unique(np.stack([train.user[sequence[target]], train.items[place[target]]]).astype(np.int64), axis=1)
    return torch.from_numpy(pairs[0]), torch.from_numpy(pairs[1])


def event_weights(count: Tensor, balance: float) -> Tensor:
    """(N+1,) training events -> (N+1,) weight of an event of each item, 1 in the mean over the trained items."""
    weight = (1 - balance) / (1 - balance ** count.double().clamp(min=1))
    weight = torch.where(count > 0, weight, 0.0)
    return (weight * ((count > 0).sum() / weight.sum().clamp(min=1e-12))).float()
