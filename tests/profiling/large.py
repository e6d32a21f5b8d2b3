"""A catalogue of any size with a store about it, and the most memory that something takes: for tests only."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from semacdr.data.item_rows import ItemRows
from semacdr.data.item_text import item_fields
from semacdr.files import write_json
from semacdr.profiling.items import source_of
from semacdr.profiling.store import AnswerStore, ProfileRow
from semacdr.profiling.validate import Parse

WORDS = 200  # of a profile: texts are what would fill the memory


def write_large(folder: Path, count: int, view: str = "plot") -> tuple[ItemRows, Path]:
    """``count`` items with a valid profile each, the store beside them."""
    rows = [{"item_id": f"i{number}", "domain": "films", "title": f"Film {number}"} for number in range(count)]
    folder.mkdir(parents=True)
    pd.DataFrame(rows).to_parquet(folder / "items.parquet")
    write_json(folder / "dataset.json", {"format_version": 1, "name": "large", "domains": ["films"]})
    with AnswerStore(folder / "s.sqlite") as store:
        for start in range(0, count, 1000):
            some = rows[start : start + 1000]
            store.add_parses((r["item_id"], "a", 1, Parse("valid", f"{r['title']} " * WORDS)) for r in some)
            fields = {row["item_id"]: source_of(item_fields(row)) for row in some}
            store.set_profiles(
                "large", view, "p@v1", "m", "1", (ProfileRow(i, "valid", i, i, s) for i, s in fields.items())
            )
    return ItemRows(folder), folder / "s.sqlite"


def peak(act: Callable[..., object], *values: object) -> int:
    """The most bytes of Python objects that were there at once while it ran, beyond those there before."""
    tracemalloc.start()
    try:
        act(*values)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
