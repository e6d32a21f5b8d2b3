"""One wrong item for each event, drawn uniformly among those of a group that the user's row does not hold."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from semacdr.data.batches import Batch

TRIES = 64  # draws again after a hit; a user who owns nearly all of a tiny domain may keep one in the end


class UniformNegatives(nn.Module):
    """Draws from groups of items.

    Args:
        group: (N+1,) group of each item, -1 for items that are never drawn.
        skip_last: leave out the last item of each group, as the published code of LLM4CDSR does by an off-by-one.
    """

    members: Tensor
    first: Tensor
    size: Tensor

    def __init__(self, group: Tensor, skip_last: bool = False) -> None:
        super().__init__()
        order = torch.argsort(group, stable=True)
        count = torch.bincount(group[group >= 0])
        self.register_buffer("members", order[int((group < 0).sum()) :], persistent=False)  # grouped, ids ascending
        self.register_buffer("first", count.cumsum(0) - count, persistent=False)
        self.register_buffer("size", (count - int(skip_last)).clamp(min=1), persistent=False)

    def draw(self, group: Tensor, row: Tensor, owned: Tensor) -> Tensor:
        """One item for each event.

        Args:
            group: (P,) group to draw from.
            row: (P,) row of each event.
            owned: (B, W) items that are no negatives of a row; 0 where there is none.

        Returns:
            (P,) item ids.
        """
        drawn = self._uniform(group)
        again = torch.arange(len(group), device=group.device)
        for _ in range(TRIES):
            again = again[(owned[row[again]] == drawn[again].unsqueeze(1)).any(1)]
            if not len(again):
                break
            drawn[again] = self._uniform(group[again])
        return drawn

    def _uniform(self, group: Tensor) -> Tensor:
        size = self.size[group]
        step = (torch.rand(len(group), device=group.device, dtype=torch.float64) * size).long()
        return self.members[self.first[group] + step.minimum(size - 1)]


def window_items(batch: Batch) -> Tensor:
    """(B, L+1) the items of each training row, its last target among them."""
    assert batch.targets is not None
    last = (batch.length - 1).clamp(min=0).unsqueeze(1)
    return torch.cat([batch.items, batch.targets.gather(1, last)], dim=1)
