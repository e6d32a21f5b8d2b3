"""What is written about an item, as clean strings: the input of content texts and of prompts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from semacdr.data.schema import ITEM_TEXT_COLUMNS

_SPACE = re.compile(r"\s+")
_NUMBERS = ("year", "price")  # say nothing about an item by themselves


def clean(value: Any) -> str:
    """One field as text: lists joined by commas, whole numbers without a fraction, null as the empty string."""
    if value is None:
        return ""
    if isinstance(value, str):
        return _SPACE.sub(" ", value).strip()
    if isinstance(value, float):
        if math.isnan(value):
            return ""
        return str(int(value)) if value.is_integer() else f"{value:.2f}"
    if isinstance(value, Iterable):  # a list, tuple or array of names
        return ", ".join(dict.fromkeys(text for text in map(clean, value) if text))
    text = _SPACE.sub(" ", str(value)).strip()
    return "" if text in ("<NA>", "NaT") else text


def item_fields(row: Mapping[str, Any]) -> dict[str, str]:
    """The non-empty text fields of one row of ``items.parquet``, in the order of ``ITEM_TEXT_COLUMNS``.

    An item of which only a year or a price is known has no text: the result is empty.
    """
    fields = {name: clean(row.get(name)) for name in ITEM_TEXT_COLUMNS}
    if not any(text for name, text in fields.items() if name not in _NUMBERS):
        return {}
    return {name: text for name, text in fields.items() if text}


def cut(text: str, limit: int) -> str:
    """At most ``limit`` characters, cut between words where the text has any."""
    if len(text) <= limit:
        return text
    head = text[:limit]
    return head[: head.rfind(" ")].rstrip() if " " in head else head
