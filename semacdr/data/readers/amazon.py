"""Amazon reviews and metadata as the McAuley lab publishes them, the releases told apart by their fields.

======= =========================================== ================================== ===============================
release reviews                                     metadata                           remarks
======= =========================================== ================================== ===============================
2014    ``reviews_Books.json.gz``, ``..._5.json.gz`` ``meta_Books.json.gz``            JSON or Python literals a line
2018    ``Books.json.gz``, ``Books_5.json.gz``      ``meta_Books.json.gz``             lists for category, description
2023    ``Books.jsonl.gz``                          ``meta_Books.jsonl.gz``            items by ``parent_asin``, time in
                                                                                       ms, ``title`` is the review's
======= =========================================== ================================== ===============================

Every category is a domain, named by its file in lower case (``books``). Metadata is kept for items with a review;
an item without metadata has no title. Files are read in pieces, so that a release need not fit into memory unpacked.
"""

from __future__ import annotations

import ast
import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from semacdr.data import schema
from semacdr.data.badrows import ORIGIN, BadRows
from semacdr.data.readers import FORMATS, ReadOptions
from semacdr.data.readers.raw import RawData, drop_missing, to_epoch_seconds, to_ratings, unit_of
from semacdr.data.readers.text import byte_chunks, json_chunks
from semacdr.errors import InputError
from semacdr.progress import say

_NAME = re.compile(r"(?:reviews_|meta_)?(?P<category>.+?)(?:_\d+)?\.jsonl?(?:\.gz)?")
_PRICE = re.compile(r"\$?\d[\d,.]*(?: - \$?\d[\d,.]*)?")
_MS_FROM = 10**11  # in seconds that would be the year 5138

_EVENT_COLUMNS = {
    "reviewerID": schema.USER_ID,
    "user_id": schema.USER_ID,
    "asin": schema.ITEM_ID,
    "parent_asin": schema.ITEM_ID,
    "overall": schema.RATING,
    "rating": schema.RATING,
    "reviewText": schema.TEXT,
    "text": schema.TEXT,
    "unixReviewTime": schema.TIMESTAMP,
    "timestamp": schema.TIMESTAMP,
}
_OLD_REVIEW = {"reviewerID": "s", "asin": "s", "overall": "f", "reviewText": "s", "unixReviewTime": "i"}
_NEW_REVIEW = {"user_id": "s", "parent_asin": "s", "rating": "f", "text": "s", "timestamp": "i"}
_ARROW = {"s": pa.string(), "f": pa.float64(), "i": pa.int64()}


def read(path: Path | None, options: ReadOptions, report: BadRows) -> RawData:
    """Reads a folder of one or more categories, or one file of reviews.

    Raises:
        InputError: no reviews there, ``--domain`` for several categories, or fields of no release.
    """
    if path is None or not path.exists():
        raise InputError("no such file or folder", where=str(path))
    files = [path] if path.is_file() else [file for file in sorted(path.iterdir()) if _NAME.fullmatch(file.name)]
    reviews: dict[str, Path] = {}
    metadata: dict[str, Path] = {}
    for file in files:
        role = metadata if file.name.startswith("meta_") else reviews
        category = _category(file)
        if category in role:
            raise InputError(f"{file.name} and {role[category].name} are the same category", where=str(path))
        role[category] = file
    if not reviews:
        raise InputError("no review files here", where=str(path), fix=FORMATS["amazon"].needs)
    if options.domain and len(reviews) > 1:
        raise InputError(f"--domain names one category, here are {len(reviews)}: {', '.join(reviews)}")
    events, items = [], []
    for category, file in reviews.items():
        found = _read_reviews(file, report).assign(**{schema.DOMAIN: options.domain or category})
        about = _read_metadata(metadata.get(category), set(found[schema.ITEM_ID]), report)
        listed = found[[schema.ITEM_ID, schema.DOMAIN]].drop_duplicates().merge(about, how="left", on=schema.ITEM_ID)
        events.append(found)
        items.append(listed.sort_values(schema.ITEM_ID, kind="stable"))
    merged = pd.concat(events, ignore_index=True)
    return RawData(
        name=_category(path) if path.is_file() else path.name,
        events=merged,
        items=pd.concat(items, ignore_index=True),
        order="total",
        time_unit=unit_of(merged[schema.TIMESTAMP]),
        sort_by_time=True,
    )


def _category(path: Path) -> str:
    found = _NAME.fullmatch(path.name)
    return (found["category"] if found else path.name.partition(".")[0]).lower()


def parse_line(text: str) -> dict[str, Any]:
    """One line of JSON, or of the Python literals of 2014, which are parsed and never evaluated."""
    try:
        value = json.loads(text)
    except ValueError:
        value = ast.literal_eval(text.strip())
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _first_object(path: Path) -> dict[str, Any]:
    for chunk in byte_chunks(path, BadRows(), size=1 << 16):
        for line in chunk.decode("utf-8", errors="replace").split("\n"):
            try:
                return parse_line(line)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                continue  # a later line may be whole; faults are reported when the file is read
    raise InputError("no line is JSON or a Python literal", where=str(path))


def _read_reviews(path: Path, report: BadRows) -> pd.DataFrame:
    first = _first_object(path)
    if "reviewerID" not in first and not {"user_id", "parent_asin"} <= set(first):
        raise InputError(
            f"not a review of 2014, 2018 or 2023; its fields: {', '.join(first)}",
            where=str(path),
            fix="for other field names use --format table",
        )
    wanted = _OLD_REVIEW if "reviewerID" in first else _NEW_REVIEW
    arrow = pa.schema([(name, _ARROW[kind]) for name, kind in wanted.items()])
    parts = []
    for chunk in json_chunks(path, report, parse_line, arrow):
        part = chunk.reindex(columns=[*wanted, *(name for name in ORIGIN if name in chunk)])
        part = drop_missing(part.rename(columns=_EVENT_COLUMNS), [schema.USER_ID, schema.ITEM_ID], report)
        part = to_epoch_seconds(part, report)
        parts.append(to_ratings(part, report))
    events = pd.concat(parts, ignore_index=True)
    if len(events) and events[schema.TIMESTAMP].median() >= _MS_FROM:
        say(f"{path.name}: time stamps are milliseconds")
        events[schema.TIMESTAMP] //= 1000
    return events


def _read_metadata(path: Path | None, wanted: set[str], report: BadRows) -> pd.DataFrame:
    """Texts of the wanted items, the first listing of each."""
    columns = [schema.ITEM_ID, schema.TITLE, "brand", "categories", "price", "description"]
    if path is None:
        return pd.DataFrame(columns=columns)
    key = "parent_asin" if "parent_asin" in _first_object(path) else "asin"
    parts = []
    for chunk in json_chunks(path, report, parse_line):
        chunk = drop_missing(chunk, [key], report) if len(chunk) else chunk.reindex(columns=[key])
        part = chunk[chunk[key].isin(wanted)]
        texts = {
            schema.ITEM_ID: part[key],
            schema.TITLE: _first_of(part, "title").map(_readable),
            "brand": _first_of(part, "brand", "store").map(_readable),
            "categories": _first_of(part, "categories", "category").map(_flat),
            "price": _first_of(part, "price").map(_price),
            "description": _first_of(part, "description").map(_flat),
        }
        parts.append(pd.DataFrame(texts, columns=columns))
    return pd.concat(parts, ignore_index=True).drop_duplicates(schema.ITEM_ID)


def _first_of(frame: pd.DataFrame, *names: str) -> pd.Series[Any]:
    present = [name for name in names if name in frame]
    return frame[present[0]].astype(object) if present else pd.Series([None] * len(frame), index=frame.index)


def _readable(value: Any) -> str | None:
    """Text without HTML entities; pages of script that 2018 has for some titles are no text."""
    if not isinstance(value, str) or "getTime()" in value:
        return None
    return html.unescape(value)


def _flat(value: Any) -> list[str]:
    """The texts of a nested list, in order."""
    if isinstance(value, list | tuple | np.ndarray):
        return [text for entry in value for text in _flat(entry)]
    text = _readable(value)
    return [text] if text else []


def _price(value: Any) -> str | None:
    """A price or a range of prices as text; anything else that stands in that field is none."""
    text = str(value).strip()
    return text if _PRICE.fullmatch(text) else None
