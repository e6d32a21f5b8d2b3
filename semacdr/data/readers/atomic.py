"""RecBole's atomic files, read and written: tab separated, a header of ``name:type``, lists joined by spaces.

A folder holds ``NAME.inter`` (``user_id:token item_id:token timestamp:float ...``) and ``NAME.item``
(``item_id:token domain:token title:token_seq ...``).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from semacdr.data import schema
from semacdr.data.badrows import ORIGIN, BadRows
from semacdr.data.dataset import Dataset
from semacdr.data.readers import FORMATS, ReadOptions
from semacdr.data.readers.raw import (
    RawData,
    drop_missing,
    drop_unknown_items,
    require_folder,
    to_epoch_seconds,
    to_ratings,
    unit_of,
)
from semacdr.data.readers.text import TEXT, fields, read_lines
from semacdr.errors import InputError, nearest
from semacdr.files import check_replaceable, staged_folder
from semacdr.progress import say

# Names that RecBole's own data sets give to what we call otherwise.
_ITEM_NAMES = {
    "movie_title": schema.TITLE,
    "item_title": schema.TITLE,
    "name": schema.TITLE,
    "release_year": "year",
    "class": "genres",
    "genre": "genres",
    "sales_type": "categories",
}


def read_atomic(path: Path, report: BadRows) -> pd.DataFrame:
    """One atomic file: a text column a field, named without its type, and ``file, line``.

    Raises:
        InputError: the file is absent or its header is not atomic.
    """
    lines = read_lines(path, report)
    header = str(lines[TEXT].iloc[0]).split("\t") if len(lines) else []
    if not header or not all(":" in field for field in header):
        raise InputError("the first line is not a header of name:type fields", where=str(path))
    return fields(lines.iloc[1:], "\t", [field.rsplit(":", 1)[0] for field in header], report)


def read(path: Path | None, options: ReadOptions, report: BadRows) -> RawData:
    """Reads a folder with one ``.inter`` and one ``.item`` file.

    Raises:
        InputError: not exactly one of each, no domain field, or a missing column.
    """
    folder = require_folder(path)
    inter, listing = _only(folder, ".inter"), _only(folder, ".item")
    events, items = read_atomic(inter, report), read_atomic(listing, report)
    field = options.domain_field or schema.DOMAIN
    if options.domain and field not in items:
        items = items.assign(**{field: options.domain})
    if field not in items:
        hint = nearest(field, [str(column) for column in items if column not in ORIGIN])
        raise InputError(
            f"no field {field!r} says the domain of an item",
            where=str(listing),
            fix=f"--domain-field FIELD ({hint}) or --domain NAME",
        )
    renamed = {ours: theirs for theirs, ours in reversed(_ITEM_NAMES.items()) if theirs in items and ours not in items}
    items = items.rename(columns={**{theirs: ours for ours, theirs in renamed.items()}, field: schema.DOMAIN})
    if "genres" in items:
        items = items.assign(genres=items["genres"].str.replace(r"[, ]+", ", ", regex=True))
    items = drop_missing(items, [schema.ITEM_ID, schema.DOMAIN], report)
    events = drop_missing(events, [schema.USER_ID, schema.ITEM_ID], report)
    has_time = schema.TIMESTAMP in events
    if has_time:
        events = to_epoch_seconds(events, report)
    if schema.RATING in events:
        events = to_ratings(events, report)
    return RawData(
        name=inter.stem,
        events=drop_unknown_items(events, items, report),
        items=items,
        order="total",
        time_unit=unit_of(events[schema.TIMESTAMP]) if has_time else "none",
        sort_by_time=True,
    )


def _only(folder: Path, suffix: str) -> Path:
    found = sorted(path for path in folder.iterdir() if path.suffix == suffix)
    if len(found) != 1:
        raise InputError(
            f"{len(found)} files end in {suffix}, one is needed", where=str(folder), fix=FORMATS["atomic"].needs
        )
    return found[0]


def export_atomic(dataset: Dataset, folder: Path) -> list[Path]:
    """Writes a data set as ``folder/NAME.inter`` and ``folder/NAME.item``, NAME being the folder's.

    Raises:
        InputError: the folder holds other files than atomic ones, which would be lost.
    """
    check_replaceable(folder)
    foreign = (
        [path.name for path in folder.iterdir() if path.suffix not in (".inter", ".item")] if folder.is_dir() else []
    )
    if foreign or folder.is_file():
        raise InputError(
            f"holds other files ({', '.join(foreign) or folder.name}), so it is not replaced", where=str(folder)
        )
    if dataset.timestamps is None:
        say("no time stamps: an event's position stands in for its time")
    if dataset.order == "within-domain":
        say(f"{dataset.name}: the order across domains is unknown; RecBole will take each user's domains one by one")
    events = pd.read_parquet(dataset.path / schema.INTERACTIONS)
    with staged_folder(folder) as staging:
        paths = write_atomic_files(events, dataset.item_frame(), staging, folder.name)
    return [folder / path.name for path in paths]


def write_atomic_files(events: pd.DataFrame, items: pd.DataFrame, folder: Path, name: str) -> list[Path]:
    """Writes ``folder/name.inter`` and ``folder/name.item`` from the frames of a data set folder.

    RecBole sorts by time. Where that would change the published order, or there are no time stamps, an event's position
    stands in the timestamp field; events of equal time keep their order, since the sort is stable.
    """
    has_time = bool(events[schema.TIMESTAMP].notna().all())
    if has_time and not _in_time_order(events):
        say(f"{name}: the published order is not that of the time stamps, so positions stand in their place")
        has_time = False
    when = events[schema.TIMESTAMP if has_time else schema.POSITION].astype(np.int64).astype(str)
    inter = {"user_id:token": events[schema.USER_ID], "item_id:token": events[schema.ITEM_ID], "timestamp:float": when}
    if schema.RATING in events:
        inter["rating:float"] = events[schema.RATING].map("{:g}".format)
    listed = {"item_id:token": items[schema.ITEM_ID], "domain:token": items[schema.DOMAIN]}
    for column in schema.ITEM_TEXT_COLUMNS:
        if column in items:
            kind = "token" if column == "year" else "token_seq"
            # RecBole reads a field that begins with a double quote to the next one, over the ends of lines.
            text = items[column].fillna("").str.replace("\t", " ").str.replace('"', "'")
            # Genres are tokens of their own there; other texts may hold commas as part of a phrase.
            listed[f"{column}:{kind}"] = text.str.replace(", ", " ") if column == "genres" else text
    paths = []
    for suffix, columns in ((".inter", inter), (".item", listed)):
        paths.append(folder / f"{name}{suffix}")
        rows = ["\t".join(columns), *map("\t".join, zip(*columns.values()))]
        paths[-1].write_text("\n".join(rows) + "\n", encoding="utf-8")
    return paths


def _in_time_order(events: pd.DataFrame) -> bool:
    """Whether a stable sort by time keeps every user's published order."""
    user, when = events[schema.USER_ID], events[schema.TIMESTAMP]
    return not ((user == user.shift()) & (when < when.shift())).any()
