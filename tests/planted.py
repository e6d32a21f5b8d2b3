"""A small cross-domain set with planted structure: in each domain, item i is mostly followed by item i + 1 (cyclic).

Text vectors carry the structure too, so that an item without a training event can be scored by its text.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from semacdr.data.convert import write_dataset
from semacdr.data.dataset import Dataset
from semacdr.data.readers.raw import RawData
from semacdr.embedding.table import write_table

TEXT_DIM = 16
NAMES = ("tea", "pans", "rugs", "pens")


def write_planted(
    folder: Path,
    domains: int = 2,
    items: int = 24,
    users: int = 160,
    length: int = 14,
    noise: float = 0.1,
    single_domain_users: int = 10,
    seed: int = 0,
) -> Dataset:
    """Writes the set and loads it. The last item of each domain has no event at all."""
    random = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        at = random.integers(0, items - 1, domains)
        only = user % domains if user < single_domain_users else None
        for position in range(int(random.integers(length // 2, length + 1))):
            domain = int(random.integers(domains)) if only is None else only
            step = int(random.integers(items - 1)) if random.random() < noise else 1
            at[domain] = (at[domain] + step) % (items - 1)
            rows.append((f"u{user}", f"{NAMES[domain]}{at[domain]}", NAMES[domain], 86_400 * position, position))
    events = pd.DataFrame(rows, columns=["user_id", "item_id", "domain", "timestamp", "position"])
    catalogue = pd.DataFrame(
        [(f"{NAMES[d]}{i}", NAMES[d], f"{NAMES[d]} number {i}") for d in range(domains) for i in range(items)],
        columns=["item_id", "domain", "title"],
    )
    raw = RawData("planted", events, catalogue, "total", "day")
    write_dataset(raw, events, catalogue, folder, "table", "planted", {})
    return Dataset.load(folder)


def write_vectors(folder: Path, dataset: Dataset, views: tuple[str, ...] = ("content",), seed: int = 0) -> Path:
    """Writes a table whose vectors lie on a circle in the order of the planted cycle, plus a little noise."""
    random = np.random.default_rng(seed)
    per_domain = dataset.num_items // len(dataset.domains)
    angle = 2 * np.pi * (np.arange(dataset.num_items) % per_domain) / per_domain
    waves = np.stack([f(k * angle) for k in range(1, 4) for f in (np.sin, np.cos)], axis=1)
    lift = random.normal(size=(6, TEXT_DIM))
    vectors = [
        waves @ lift + 0.3 * random.normal(size=(len(dataset.domains), TEXT_DIM))[dataset.item_domain[1:]]
        for _ in views
    ]
    count = dataset.num_items
    rows = {view: np.arange(count, dtype=np.int64) + at * count for at, view in enumerate(views)}
    write_table(
        folder,
        dataset.item_ids[1:],
        np.concatenate(vectors).astype(np.float32),
        rows,
        {"views": list(views), "fingerprint": f"planted-{seed}-{'-'.join(views)}"},
    )
    return folder
