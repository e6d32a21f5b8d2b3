"""Parts of rating models: biases, id vectors, and the weight that keeps both small."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from semacdr.data.ratings import RatingCatalogue
from semacdr.data.schema import Int64Array


class RatingBias(nn.Module):
    """``b_0 + b_u + b_i``, trained; starts at the mean rating. Who training never saw has no bias."""

    def __init__(self, catalogue: RatingCatalogue) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.tensor(float(catalogue.train.rating.mean())))
        self.user = nn.Parameter(torch.zeros(catalogue.num_users + 1))
        self.item = nn.Parameter(torch.zeros(catalogue.num_items + 1))

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """(B,) users and items -> (B,) ratings."""
        return self.mean + self.user.index_select(0, user) + self.item.index_select(0, item)

    def squares(self, user: Tensor, item: Tensor) -> Tensor:
        """Mean of ``b_u^2 + b_i^2`` over the pairs."""
        return (self.user.index_select(0, user) ** 2 + self.item.index_select(0, item) ** 2).mean()


def full_precision(x: Tensor) -> Tensor:
    """The same numbers in float32, or as they are where they are wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def id_vectors(count: Int64Array, dim: int, std: float) -> nn.Embedding:
    """(N + 1, D) free vectors, N(0, std^2); zero, and never moved by a pair, for ids without a training rating.

    Args:
        count: (N + 1,) training ratings of each id.
        dim: D.
        std: standard deviation of the start.
    """
    table = nn.Embedding(len(count), dim)
    nn.init.normal_(table.weight, std=std)
    with torch.no_grad():
        table.weight[torch.from_numpy(count == 0)] = 0.0
    return table
