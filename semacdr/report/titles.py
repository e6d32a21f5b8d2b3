"""Titles of items, for the few that a report names."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path


def item_titles(dataset: Path, items: Collection[str]) -> dict[str, str]:
    """Item id -> title, for those of the given items that have one; empty where the data set has no titles."""
    import pandas as pd
    from pyarrow import parquet

    from semacdr.data.schema import ITEM_ID, ITEMS, TITLE

    path = dataset / ITEMS
    if not items or not path.is_file() or TITLE not in parquet.read_schema(path).names:
        return {}
    frame = pd.read_parquet(path, columns=[ITEM_ID, TITLE])
    frame = frame[frame[ITEM_ID].isin(list(items))]
    return {
        str(item): title
        for item, title in zip(frame[ITEM_ID], frame[TITLE])
        if isinstance(title, str) and title.strip()
    }
