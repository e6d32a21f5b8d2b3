"""What SemaCDR weighs: text views of items by its gate, threads of users by its fusion."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from semacdr.data.batches import history_batch
from semacdr.models.adapter import mean_gate
from semacdr.models.semacdr import SemaCDR
from semacdr.run import LoadedRun

USERS, ITEMS = 300, 5_000


def weights(run: LoadedRun) -> dict[str, Any] | None:
    """Mean weights in each domain, of a sample of items and of test users; None for a model without such weights.

    Returns:
        ``{gates: {domain: {view: weight}}, threads: {domain: {thread: weight}}}``; either may be empty.
    """
    model, data = run.model, run.dataset
    if not isinstance(model, SemaCDR):
        return None
    gates: dict[str, dict[str, float]] = {}
    threads: dict[str, dict[str, float]] = {}
    examples = run.split.test
    random = np.random.default_rng(0)
    for index, domain in enumerate(data.domains):
        items = _some(np.flatnonzero(data.item_domain == index), ITEMS, random)
        if len(model.items.views) > 1 and len(items):
            gates[domain] = _rounded(mean_gate(model.items, torch.from_numpy(items)))
        rows = _some(np.flatnonzero(data.item_domain[examples.target] == index), USERS, random)
        if len(rows) and len(model.threads) > 1:
            histories = [examples.history(int(row)) for row in rows]
            batch = history_batch(histories, [index] * len(rows), model.max_seq_len, examples.user[rows].tolist())
            means = {name: float(weight.mean()) for name, weight in model.thread_weights(batch).items()}
            threads[domain] = _rounded(means)
    return {"gates": gates, "threads": threads}


def _some(of: np.ndarray, most: int, random: np.random.Generator) -> np.ndarray:
    return of if len(of) <= most else np.sort(random.choice(of, most, replace=False))


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}
