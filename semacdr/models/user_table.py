"""Free vectors of users, as many published models have them: only those of the training exist."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from semacdr.data.batches import Batch
from semacdr.errors import InputError
from semacdr.models.base import SideData
from semacdr.models.layers import ID_STD


class UserTable(nn.Module):
    """A vector for each user that has a training sequence.

    Args:
        side: the users and the training sequences.
        embedding_dim: D.
        model: name of the model, for its refusals; its setting is called ``user_table``.
    """

    known: Tensor

    def __init__(self, side: SideData, embedding_dim: int, model: str) -> None:
        super().__init__()
        assert side.train is not None
        self.model = model
        self.vectors = nn.Embedding(side.num_users, embedding_dim)
        nn.init.normal_(self.vectors.weight, std=ID_STD)
        known = torch.zeros(side.num_users, dtype=torch.bool)
        known[torch.from_numpy(side.train.user).long()] = True
        self.register_buffer("known", known, persistent=False)

    def forward(self, batch: Batch) -> Tensor:
        """(B, D) vectors of the users of a batch.

        Raises:
            InputError: one of them is outside training, or nobody says who they are.
        """
        user = torch.full_like(batch.length, -1) if batch.user is None else batch.user
        strangers = int(((user < 0) | ~self.known[user.clamp(min=0)]).sum())
        if strangers:
            raise InputError(
                f"{self.model} with user_table=true knows the users of its training alone,"
                f" and {strangers} to be scored are not among them",
                fix="train it with user_table=false: then a user is known by the items of the history",
            )
        vectors: Tensor = self.vectors(user)
        return vectors
