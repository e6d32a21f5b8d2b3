"""The recommendation loss: a softmax over the trained items of the target's domain, full or sampled.

Items that never occur in training stay out of the denominator: as constant negatives they would be pushed down for no
fault of theirs, and text could no longer recommend them.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from semacdr.data.dataset import Catalogue
from semacdr.models.losses import linear_cross_entropy, sampled_softmax

Scope = Literal["domain", "all"]


class CandidateSoftmax(nn.Module):
    """Knows, for each target, the items it competes with.

    Args:
        catalogue: items, domains and training counts.
        scope: ``domain``: the trained items of the target's domain; ``all``: those of every domain.
        num_negatives: 0 for the full softmax, else K negatives a batch and domain, shared by its positions, drawn in
            proportion to the training count to the power 0.75 and corrected by logQ.
    """

    group: Tensor
    weight: Tensor

    def __init__(self, catalogue: Catalogue, scope: Scope, num_negatives: int) -> None:
        super().__init__()
        self.num_negatives = num_negatives
        trained = torch.from_numpy(catalogue.train_count > 0)
        domain = torch.from_numpy(catalogue.item_domain).long()
        self.num_groups = 1 if scope == "all" else len(catalogue.domains)
        group = torch.where(trained, 0 if scope == "all" else domain, -1)
        self.register_buffer("group", group, persistent=False)  # (N+1,), -1 for items outside every softmax
        weight = torch.from_numpy(catalogue.train_count).float().pow(0.75)
        self.register_buffer("weight", weight * trained, persistent=False)
        for index in range(self.num_groups):
            self.register_buffer(f"members_{index}", (group == index).nonzero().squeeze(1), persistent=False)

    def members(self, index: int) -> Tensor:
        """(n,) ids of one group's trained items, ascending."""
        return self.get_buffer(f"members_{index}")

    def draw(self, targets: Tensor) -> list[tuple[int, Tensor, Tensor | None]]:
        """The candidates of a batch, one entry for each group that has a target in it.

        Args:
            targets: (P,) item ids.

        Returns:
            (group, (n,) candidate ids, (n,) log of expected draws or None for the full softmax).
        """
        drawn: list[tuple[int, Tensor, Tensor | None]] = []
        present = torch.bincount(self.group[targets].clamp(min=0), minlength=self.num_groups)
        for index in range(self.num_groups):
            if not present[index]:
                continue
            members = self.members(index)
            if not 0 < self.num_negatives < len(members):
                drawn.append((index, members, None))
                continue
            probability = self.weight[members] / self.weight[members].sum()
            chosen = torch.multinomial(probability, self.num_negatives, replacement=True)
            expected = (probability[chosen] * self.num_negatives).log()
            drawn.append((index, members[chosen], expected))
        return drawn

    def forward(
        self,
        states: Tensor,
        targets: Tensor,
        drawn: list[tuple[int, Tensor, Tensor | None]],
        vectors: Tensor,
        row: Tensor,
    ) -> Tensor:
        """Mean loss over the positions.

        Args:
            states: (P, D) user states.
            targets: (P,) item ids.
            drawn: from :meth:`draw`.
            vectors: (n, D) item vectors.
            row: (N+1,) row of ``vectors`` that holds an item, for all items that are needed.
        """
        group = self.group[targets]
        total = states.new_zeros((), dtype=torch.float32)
        for index, candidates, log_expected in drawn:
            at = (group == index).nonzero().squeeze(1)
            wanted = targets[at]
            if log_expected is None:
                place = torch.searchsorted(candidates, wanted)
                total = total + linear_cross_entropy(states[at], vectors[row[candidates]], place)
            else:
                total = total + sampled_softmax(
                    states[at],
                    vectors[row[wanted]],
                    vectors[row[candidates]],
                    wanted[:, None] == candidates[None, :],
                    log_expected,
                )
        return total / max(1, len(targets))
