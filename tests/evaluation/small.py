"""Small models and data for the tests of the evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from semacdr.config import Settings
from semacdr.data.batches import Batch
from semacdr.data.dataset import Catalogue, Dataset
from semacdr.data.splits import Examples
from semacdr.models.base import Recommender, VectorRecommender


class NoSettings(Settings):
    max_seq_len: int = 5


class Vectors(VectorRecommender):
    """User vectors are looked up by the newest event; the vector of item 0 serves an empty history."""

    Config = NoSettings

    def __init__(self, catalogue: Catalogue, items: Tensor, users: Tensor) -> None:
        super().__init__(NoSettings(), catalogue)
        self.items, self.users = items, users

    def item_vectors(self) -> Tensor:
        return self.items

    def user_vectors(self, batch: Batch) -> Tensor:
        newest = batch.items.gather(1, (batch.length - 1).clamp(min=0)[:, None])[:, 0]
        return self.users[newest]


class Scores(Recommender):
    """Scores are looked up in a table by the newest event of the history: (N+1, N+1)."""

    Config = NoSettings

    def __init__(self, catalogue: Catalogue, table: Tensor) -> None:
        super().__init__(NoSettings(), catalogue)
        self.table = table

    def encode(self, batch: Batch) -> Any:
        return batch.items.gather(1, (batch.length - 1).clamp(min=0)[:, None])[:, 0]

    def score(self, encoded: Any, items: Tensor) -> Tensor:
        return self.table[encoded[:, None], items if items.dim() == 2 else items[None, :]]


def make_dataset(
    histories: Sequence[Sequence[int]], item_domain: Sequence[int], path: Path = Path("none"), **manifest: Any
) -> Dataset:
    """A data set of item indices; domains are 0, 1, ... named a, b, ..."""
    domains = tuple("abcdefgh"[: max(item_domain) + 1])
    flat = [item for history in histories for item in history]
    return Dataset(
        path=path,
        manifest={"name": "small", "order": "total", "time_unit": "none", "fingerprint": "f" * 64, **manifest},
        item_ids=np.array(["", *(f"i{i}" for i in range(1, len(item_domain) + 1))], dtype=object),
        item_domain=np.array([-1, *item_domain], np.int8),
        domains=domains,
        user_ids=np.array([f"u{u}" for u in range(len(histories))], dtype=object),
        offsets=np.cumsum([0, *(len(history) for history in histories)]).astype(np.int64),
        items=np.array(flat, np.int32),
        timestamps=None,
        targets=None,
    )


def last_event(dataset: Dataset) -> Examples:
    """Each user's last event as the target."""
    start, stop = dataset.offsets[:-1], dataset.offsets[1:] - 1
    users = np.arange(dataset.num_users, dtype=np.int32)
    return Examples(dataset.items, start, stop, users, dataset.items[stop], np.ones(len(stop), np.bool_))


def random_dataset(seed: int, users: int = 12, items: int = 30, domains: int = 3, longest: int = 8) -> Dataset:
    """Histories with repeats, some empty, over items of several domains in no particular order."""
    random = np.random.default_rng(seed)
    histories = [random.integers(1, items + 1, random.integers(1, longest + 1)).tolist() for _ in range(users)]
    domain = [*range(domains), *random.integers(0, domains, items - domains).tolist()]
    return make_dataset(histories, domain)


def random_vectors(dataset: Dataset, seed: int, dim: int = 4) -> Vectors:
    """Small integers as coordinates, so that scores often tie; a third of the items copy another's vector."""
    random = np.random.default_rng(seed)
    size = dataset.num_items + 1
    items = random.integers(-2, 3, (size, dim)).astype(np.float32) / 3
    copied = random.random(size) < 0.34
    items[copied] = items[random.integers(1, size, copied.sum())]
    users = random.integers(-2, 3, (size, dim)).astype(np.float32) / 7
    return Vectors(dataset.catalogue(), torch.from_numpy(items), torch.from_numpy(users))
