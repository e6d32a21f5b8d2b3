"""ABXI's data sets (Bian et al., WWW 2025): merged two-domain sequences with days as time stamps.

``sequences.txt`` holds a line a user, ``user idx|seconds idx|seconds ...``, in the published order, which stays: inside
a day it is ascending item index, so that a re-sort would change the benchmark. ``items.jsonl`` gives each idx (from 1,
first domain first) its ``item`` (ASIN), ``domain`` and ``title``; ``users.jsonl`` each user number its ``user``.

The authors' own files are read too: ``afk_50_preprocessed.txt`` (the sequences), ``map_item_50.txt`` (a JSON object of
``asin: [idx, 0 or 1]``) and ``map_user_50.txt`` (``user: number``); they hold no titles.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from semacdr.data import schema
from semacdr.data.badrows import UNKNOWN_ID, BadRows
from semacdr.data.readers import FORMATS, ReadOptions
from semacdr.data.readers.raw import (
    RawData,
    drop_cut_number,
    drop_missing,
    find_file,
    need_file,
    require_folder,
    unit_of,
)
from semacdr.data.readers.text import TEXT, explode, matched, origin, read_json_lines, read_lines
from semacdr.errors import InputError
from semacdr.files import read_json

# The paper's pairs, by the first part of a file's name.
_AUTHORS_DOMAINS = {"afk": ("food", "kitchen"), "abe": ("beauty", "electronics"), "amb": ("movies", "books")}


def read(path: Path | None, options: ReadOptions, report: BadRows) -> RawData:
    """Reads a folder with ``sequences.txt`` and ``items.jsonl``, plain or gz."""
    folder = require_folder(path)
    needs = FORMATS["abxi"].needs
    authors = sorted(folder.glob("*_preprocessed.txt"))
    if authors:
        items, users = _authors_maps(folder, authors[0].name)
        lines = read_lines(authors[0], report)
    else:
        items = indexed_items(need_file(folder, "items.jsonl", needs), report)
        users = _user_names(folder, report)
        lines = read_lines(need_file(folder, "sequences.txt", needs), report)
    row, tokens = explode(lines[TEXT], " ")
    opens = np.r_[True, row[1:] != row[:-1]] if len(row) else np.zeros(0, bool)
    user = tokens.filter(opens).to_numpy(zero_copy_only=False)[row]
    where = pd.DataFrame({schema.USER_ID: user, **origin(lines, row)})
    events = matched(where[~opens], tokens.filter(~opens), r"^(?P<idx>\d{1,9})\|(?P<timestamp>\d{1,15})$", report)
    events = drop_cut_number(events, schema.TIMESTAMP, report)
    events = name_items(events, items, report)
    events[schema.USER_ID] = events[schema.USER_ID].map(users).fillna(events[schema.USER_ID])
    return RawData(
        name=folder.name,
        events=events,
        items=items.drop(columns="idx"),
        order="total",
        time_unit=unit_of(events[schema.TIMESTAMP]),
    )


def indexed_items(path: Path, report: BadRows) -> pd.DataFrame:
    """An ``items.jsonl`` whose rows have an ``idx``; the id is ``item`` where there is one, else the idx as text."""
    items = drop_missing(read_json_lines(path, report), ["idx", schema.DOMAIN], report)
    idx = items["idx"].astype(np.int64)
    item_id = idx.astype(str).astype(object)
    if "item" in items:
        item_id = items["item"].where(items["item"].notna(), item_id)
    return items.assign(**{"idx": idx, schema.ITEM_ID: item_id.astype(object)})


def name_items(events: pd.DataFrame, items: pd.DataFrame, report: BadRows) -> pd.DataFrame:
    """Replaces ``idx`` by ``item_id`` and ``domain``; an idx that is not listed is reported."""
    at = pd.Index(items["idx"]).get_indexer(events["idx"])
    events, at = report.drop(events, at < 0, UNKNOWN_ID, "idx"), at[at >= 0]
    named = {column: items[column].to_numpy(dtype=object)[at] for column in (schema.ITEM_ID, schema.DOMAIN)}
    return events.assign(**named).drop(columns="idx").reset_index(drop=True)


def _user_names(folder: Path, report: BadRows) -> dict[str, str]:
    """Names of the user numbers, if the folder has a list."""
    listing = find_file(folder, "users.jsonl")
    if listing is None:
        return {}
    names = drop_missing(read_json_lines(listing, report), ["idx", "user"], report)
    return dict(zip(names["idx"].astype(str), names["user"].astype(str)))


def _authors_maps(folder: Path, sequences: str) -> tuple[pd.DataFrame, dict[str, str]]:
    """Items and user names from ``map_item_*.txt`` and ``map_user_*.txt``.

    Raises:
        InputError: a map is missing or not what it should be.
    """
    code, _, rest = sequences.partition("_")
    tail = rest.removesuffix("preprocessed.txt").rstrip("_")
    names = _AUTHORS_DOMAINS.get(code, ("a", "b"))
    path = folder / f"map_item_{tail}.txt"
    try:
        listed = [(str(item), int(idx), names[int(side)]) for item, (idx, side) in read_json(path).items()]
        users = {str(number): str(user) for user, number in read_json(folder / f"map_user_{tail}.txt").items()}
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise InputError(f"not a map of ABXI's ({error})", where=str(path)) from None
    items = pd.DataFrame(listed, columns=[schema.ITEM_ID, "idx", schema.DOMAIN])
    return items.sort_values("idx", ignore_index=True), users
