"""A small set of reviews with planted structure: items are good or bad, users lenient or strict, and reviews say so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from semacdr.data.convert import write_dataset
from semacdr.data.dataset import Dataset
from semacdr.data.readers.raw import RawData

NAMES = ("tea", "pans", "rugs", "pens")
WORDS = {1: ("very", "bad"), 2: ("poor",), 3: ("fine",), 4: ("good",), 5: ("very", "good")}


def write_reviews(
    folder: Path, domains: int = 2, users: int = 50, items: int = 14, per_user: int = 6, seed: int = 0
) -> Dataset:
    """Writes the set and loads it. Users of different domains are different people."""
    random = np.random.default_rng(seed)
    rows = []
    for domain in range(domains):
        quality, mood = random.choice([-1.3, 0.0, 1.3], items), random.choice([-0.6, 0.0, 0.6], users)
        for user in range(users):
            for position, item in enumerate(random.choice(items, per_user, replace=False)):
                stars = int(np.clip(np.rint(3.2 + quality[item] + mood[user] + 0.3 * random.normal()), 1, 5))
                text = f"{' '.join(WORDS[stars])} {NAMES[domain]} number {item} u{user}"
                owner = f"{NAMES[domain]}-u{user}"
                rows.append((owner, f"{NAMES[domain]}{item}", NAMES[domain], 0, position, float(stars), text))
    columns = ["user_id", "item_id", "domain", "timestamp", "position", "rating", "text"]
    return write_review_rows(folder, pd.DataFrame(rows, columns=columns))


def write_review_rows(folder: Path, events: pd.DataFrame) -> Dataset:
    """Writes given reviews as a data set and loads it."""
    events = events.astype({"rating": np.float32})
    catalogue = events[["item_id", "domain"]].drop_duplicates().reset_index(drop=True)
    catalogue["title"] = catalogue["item_id"]
    write_dataset(
        RawData("reviews", events, catalogue, "total", "day"), events, catalogue, folder, "table", "reviews", {}
    )
    return Dataset.load(folder)
