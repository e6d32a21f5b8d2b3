"""The content text of an item: its fields in one line, the view that exists without a language model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from semacdr.data.item_text import cut, item_fields

CONTENT_VERSION = 1
"""Goes up when the form of the content text changes, so that tables of the old form are not taken for the new."""

MAX_CHARACTERS = 2000
_LABELS = {"brand": "Brand", "categories": "Categories", "genres": "Genres", "year": "Year", "price": "Price"}


def content_text(row: Mapping[str, Any], limit: int = MAX_CHARACTERS) -> str | None:
    """Title first, then the labelled facts, then the description; ``None`` for an item without any text."""
    fields = item_fields(row)
    parts = [f"{_LABELS[name]}: {text}" if name in _LABELS else text for name, text in fields.items()]
    return cut(". ".join(parts), limit) or None


def content_texts(items: pd.DataFrame) -> list[str | None]:
    """(N,) the content text of each row of ``items.parquet``."""
    rows: list[dict[str, Any]] = items.to_dict("records")  # type: ignore[assignment]
    return [content_text(row) for row in rows]
