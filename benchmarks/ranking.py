"""Ranks exported vectors with semacdr's evaluator, whoever made them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from semacdr.config import Settings
from semacdr.data.batches import Batch
from semacdr.data.dataset import Catalogue, Dataset
from semacdr.data.schema import FloatArray
from semacdr.data.splits import Examples
from semacdr.evaluation.metrics import metric_values
from semacdr.evaluation.negatives import negative_lists
from semacdr.evaluation.ranker import rank
from semacdr.models.base import VectorRecommender

PROTOCOLS = ("full", "sampled-999")
METRICS = ("ndcg@10", "hr@10")


class KeptVectors(VectorRecommender):
    """Vectors made elsewhere; a user's is found by the history that it was made of."""

    Config = Settings

    def __init__(self, catalogue: Catalogue, examples: Examples, users: FloatArray, items: FloatArray) -> None:
        super().__init__(Settings(), catalogue)
        self.users, self.items = torch.from_numpy(users), torch.from_numpy(items)
        self.row = {examples.history(t).astype(np.int64).tobytes(): t for t in range(len(examples))}

    def item_vectors(self) -> torch.Tensor:
        return self.items

    def user_vectors(self, batch: Batch) -> torch.Tensor:
        histories = zip(batch.items.numpy(), batch.length.tolist(), strict=True)
        return self.users[[self.row[items[:length].tobytes()] for items, length in histories]]


def scores(dataset: Dataset, examples: Examples, folder: Path) -> dict[str, dict[str, dict[str, float]]]:
    """protocol -> domain -> metric, and each target's ndcg@10 into ``folder/PROTOCOL.npy``."""
    users, items = np.load(folder / "users.npy"), np.load(folder / "items.npy")
    model = KeptVectors(dataset.catalogue(), examples, users, items)
    domain = dataset.item_domain[examples.target]
    found: dict[str, dict[str, dict[str, float]]] = {}
    for protocol in PROTOCOLS:
        sampled = protocol.startswith("sampled")
        negatives = negative_lists(dataset, examples, "test", protocol) if sampled else None
        ranks = rank(model, examples, dataset.item_domain, protocol, negatives)
        values = metric_values(ranks.greater, ranks.ties, METRICS)
        np.save(folder / f"{protocol}.npy", values["ndcg@10"])
        parts = {"all": domain >= 0} | {name: domain == index for index, name in enumerate(dataset.domains)}
        found[protocol] = {
            name: {metric: float(values[metric][inside].mean()) for metric in METRICS}
            for name, inside in parts.items()
            if inside.any()
        }
    return found
