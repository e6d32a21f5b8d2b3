"""The training ratings as a graph of users and items, with one edge for each.

Shapes: E edges, U users, I items, B pairs, D dim.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from semacdr.data.ratings import RatingCatalogue


class RatingGraph(nn.Module):
    """Edges (user, item) and where a pair's own edge is. Nothing in it is trained or saved.

    Args:
        catalogue: the training ratings.
        order: (E,) the order in which the edges are to stand; as they come where None.
    """

    user: Tensor
    item: Tensor
    keys: Tensor
    places: Tensor

    def __init__(self, catalogue: RatingCatalogue, order: np.ndarray | None = None) -> None:
        super().__init__()
        train = catalogue.train if order is None else catalogue.train.select(order)
        self.num_users, self.num_items = catalogue.num_users, catalogue.num_items
        user, item = (torch.from_numpy(side.astype(np.int64)) for side in (train.user, train.item))
        keys, places = self._key(user, item).sort()
        for name, value in (("user", user), ("item", item), ("keys", keys), ("places", places)):
            self.register_buffer(name, value, persistent=False)

    def __len__(self) -> int:
        return len(self.user)

    def _key(self, user: Tensor, item: Tensor) -> Tensor:
        return user * (self.num_items + 1) + item

    def find(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) pairs -> (B,) their edges, and (B,) whether they have one; without one the edge means nothing."""
        key = self._key(user, item)
        at = torch.searchsorted(self.keys, key).clamp(max=len(self) - 1)
        return self.places[at], self.keys[at] == key


def scatter_sum(values: Tensor, place: Tensor, size: int) -> Tensor:
    """(E, ...) values -> (size, ...) sums of those with the same place."""
    return values.new_zeros(size, *values.shape[1:]).index_add(0, place, values)


def scatter_mean(values: Tensor, place: Tensor, size: int) -> Tensor:
    """(E, D) values -> (size, D) means of those with the same place; zero where there is none."""
    count = torch.bincount(place, minlength=size).clamp(min=1)
    return scatter_sum(values, place, size) / count.unsqueeze(1)


def scatter_softmax(scores: Tensor, place: Tensor, size: int) -> Tensor:
    """(E,) scores -> (E,) softmax among those with the same place."""
    top = scores.detach().new_zeros(size).scatter_reduce(0, place, scores.detach(), "amax", include_self=False)
    weight = (scores - top[place]).exp()
    return weight / scatter_sum(weight, place, size)[place]
