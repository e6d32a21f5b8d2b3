"""Models that score a user and an item by a network of both, one for each domain, where no inner product will do."""

from __future__ import annotations

from abc import abstractmethod

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from semacdr.config import Settings
from semacdr.data.batches import Batch
from semacdr.data.dataset import Catalogue
from semacdr.models.base import Loss, Recommender, TextTables
from semacdr.models.layers import ID_STD
from semacdr.models.negatives import UniformNegatives, window_items

BLOCK_PAIRS = 1 << 16  # of a user and an item, scored at once: 8 MiB for a layer of 32

Readers = tuple[Tensor, ...]
"""What a model knows of R users: tensors whose first dimension is R."""


class PairSettings(Settings):
    """What these models share."""

    embedding_dim: int = Field(32, gt=0)
    """D, of users and of items."""
    num_negatives: int = Field(1, gt=0)
    """K: wrong items for each right one."""
    max_seq_len: int = Field(50, gt=0)
    """L: events of a history that are read."""


class PairRecommender(Recommender):
    """Item vectors, negatives and the cross-entropy; a subclass has the users and the networks.

    An item is scored by the network of its own domain. One that training never saw has the zero vector.
    """

    trained: Tensor

    def __init__(self, config: PairSettings, catalogue: Catalogue, text: TextTables | None = None) -> None:
        super().__init__(config, catalogue, text)
        self.num_negatives, self.num_domains = config.num_negatives, len(catalogue.domains)
        self.id = nn.Embedding(catalogue.num_items + 1, config.embedding_dim)
        nn.init.normal_(self.id.weight, std=ID_STD)
        trained = torch.from_numpy(catalogue.train_count > 0)
        self.register_buffer("trained", trained, persistent=False)
        self.negatives = UniformNegatives(torch.where(trained, self.item_domain, -1))

    @abstractmethod
    def readers(self, batch: Batch, row: Tensor, column: Tensor) -> Readers:
        """The users of a batch as they are known after position ``column`` of ``row``, (P,) each; -1 is before all."""

    @abstractmethod
    def network(self, domain: int, readers: Readers, items: Tensor) -> Tensor:
        """Logits of items of one domain.

        Args:
            domain: index of it.
            readers: R users.
            items: (R, n, D) item vectors of each, or (1, n, D) for all.

        Returns:
            (R, n).
        """

    def items(self, ids: Tensor) -> Tensor:
        """(...,) ids -> (..., D)."""
        vectors: Tensor = self.id(ids)
        return vectors * self.trained[ids].unsqueeze(-1)

    def known_domain(self, items: Tensor) -> Tensor:
        """(B, L) domain of each event whose item training has, -1 for others and for padding."""
        return torch.where(self.trained[items], self.item_domain[items], -1)

    def drawn_pairs(self, batch: Batch) -> tuple[Readers, Tensor]:
        """The users before each of P events, and (P, 1+K) the event's item and wrong ones of its domain."""
        row, column, target = batch.events()
        K = self.num_negatives
        domain = self.item_domain[target].repeat_interleave(K)
        wrong = self.negatives.draw(domain, row.repeat_interleave(K), window_items(batch))
        return self.readers(batch, row, column), torch.cat([target.unsqueeze(1), wrong.view(-1, K)], dim=1)

    def loss(self, batch: Batch) -> Loss:
        """Binary cross-entropy of each event's item and of K wrong ones, summed, as a mean over the events."""
        rec = cross_entropy(self.logits(*self.drawn_pairs(batch)))
        return Loss(rec, {"rec": float(rec.detach())})

    def logits(self, readers: Readers, items: Tensor) -> Tensor:
        """(n,) items for all of R users, or (R, K) lists -> (R, n) or (R, K); 0 for padding."""
        R = len(readers[0])
        scores = readers[0].new_zeros(items.numel() if items.dim() == 2 else R * len(items))
        row = torch.arange(R, device=items.device)
        for domain in range(self.num_domains):
            at = (self.item_domain[items.flatten()] == domain).nonzero().squeeze(1)
            if not len(at):
                continue
            if items.dim() == 2:  # pairs, each of a user and an item
                reader, item = at // items.shape[1], items.flatten()[at]
                values = self.network(domain, rows_of(readers, reader), self.items(item).unsqueeze(1))
                scores = scores.index_copy(0, at, values.flatten().to(scores.dtype))
                continue
            vectors = self.items(items[at]).unsqueeze(0)
            for some in row.split(max(1, BLOCK_PAIRS // len(at))):
                scores.view(R, -1)[some[:, None], at] = self.network(domain, rows_of(readers, some), vectors)
        return scores.view(R, -1)

    def encode(self, batch: Batch) -> Readers:
        """The users of a batch after all of their events."""
        rows = torch.arange(len(batch.items), device=batch.items.device)
        with torch.no_grad():
            return self.readers(batch, rows, batch.length - 1)

    def score(self, encoded: Readers, items: Tensor) -> Tensor:
        """Logits, each of the network of the item's domain."""
        with torch.no_grad():
            return self.logits(encoded, items).float()


def rows_of(readers: Readers, rows: Tensor) -> Readers:
    """The users of the given rows."""
    return tuple(part[rows] for part in readers)


def cross_entropy(logits: Tensor) -> Tensor:
    """(P, 1+K) logits, the right item first -> the sum over a row's binary cross-entropies, as a mean over rows."""
    logits = logits.float()
    return (F.softplus(-logits[:, 0]) + F.softplus(logits[:, 1:]).sum(1)).sum() / max(1, len(logits))
