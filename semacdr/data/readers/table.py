"""Tables of events: CSV, TSV, JSON lines or parquet, plain or gz, with columns found by their common names.

The input is a file, or a folder with ``[DOMAIN.]interactions.*`` (also ``reviews``, ``ratings``, ``events``) and
``[DOMAIN.]items.*``. An event's domain is its own column's, else its file name's, else ``--domain``, else that of its
item. A domain whose items are listed takes events on those only; one without a list takes its items from the events.
Time is seconds, milli-, micro- or nanoseconds (told by size), or ISO dates, 20230105 and 2023 too; rows are sorted by
it, and equal times keep the file's order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from semacdr.data import schema
from semacdr.data.badrows import FILE, LINE, NOT_A_DATE, NOT_A_NUMBER, ORIGIN, UNKNOWN_ID, BadRows
from semacdr.data.readers import FORMATS, ReadOptions
from semacdr.data.readers.raw import RawData, drop_cut_number, drop_missing, to_ratings, unit_of
from semacdr.data.readers.text import read_delimited, read_json_lines
from semacdr.errors import InputError, nearest
from semacdr.progress import say

# Our name -> the names it goes by elsewhere, best first; compared without case.
EVENT_NAMES: dict[str, tuple[str, ...]] = {
    schema.USER_ID: ("user_id", "user", "reviewerid", "reviewer_id", "uid", "userid", "customer_id"),
    schema.ITEM_ID: ("item_id", "item", "parent_asin", "asin", "iid", "itemid", "product_id", "movieid"),
    schema.DOMAIN: ("domain", "category"),
    schema.TIMESTAMP: ("timestamp", "time", "unixreviewtime", "ts", "datetime", "date"),
    schema.RATING: ("rating", "overall", "score", "stars"),
    schema.TEXT: ("text", "reviewtext", "review_text", "review", "content"),
}
ITEM_NAMES: dict[str, tuple[str, ...]] = {
    schema.ITEM_ID: EVENT_NAMES[schema.ITEM_ID],
    schema.DOMAIN: EVENT_NAMES[schema.DOMAIN],
    schema.TITLE: ("title", "item_title", "movie_title", "name", "product_name"),
    "brand": ("brand", "store", "manufacturer"),
    "categories": ("categories",),
    "genres": ("genres", "genre"),
    "year": ("year", "release_year"),
    "price": ("price",),
    "description": ("description",),
}
_KINDS = ("csv", "tsv", "jsonl", "ndjson", "json", "parquet")
_FILE_NAME = re.compile(
    rf"(?:(?P<domain>.+)\.)?(?P<role>interactions|reviews|ratings|events|items)\.(?:{'|'.join(_KINDS)})(?:\.gz)?"
)
_COMPACT = (("%Y%m%d", 19000101, 21001231, "days written as YYYYMMDD"), ("%Y", 1900, 2100, "years"))
_TIME_SCALES = ((1e17, 10**9, "nanoseconds"), (1e14, 10**6, "microseconds"), (1e11, 10**3, "milliseconds"))


def read(path: Path | None, options: ReadOptions, report: BadRows) -> RawData:
    """Reads a table file or a folder of them.

    Raises:
        InputError: no table there, a column that is not found, or events without a domain.
    """
    if path is None or not path.exists():
        raise InputError("no such file or folder", where=str(path))
    event_files, item_files = _find_tables(path)
    _check_columns(options.columns)
    header: set[str] = set()  # the columns of all files
    items = _concat([_load(file, domain, ITEM_NAMES, options, report, header) for file, domain in item_files])
    event_names = EVENT_NAMES if item_files else EVENT_NAMES | ITEM_NAMES
    events = _concat([_load(file, domain, event_names, options, report, header) for file, domain in event_files])
    assert events is not None
    for ours, theirs in options.columns.items():  # a mistyped time would leave the events unordered
        if not any(ours in table for table in (events, items) if table is not None):
            raise InputError(f"no column {theirs!r} for {ours}", where=str(path), fix=nearest(theirs, header))
    events = drop_missing(events, [schema.USER_ID, schema.ITEM_ID], report)
    if schema.TIMESTAMP in events:
        events = parse_time(events, report)
    if schema.RATING in events:
        events = to_ratings(events, report)
    if items is not None:
        items = drop_missing(items, [schema.ITEM_ID], report)
    events, items = join_items(events, items, options.domain, report)
    return RawData(
        name=re.split(r"\.", path.name)[0] if path.is_file() else path.name,
        events=events,
        items=items,
        order="total",
        time_unit=unit_of(events[schema.TIMESTAMP]) if schema.TIMESTAMP in events else "none",
        sort_by_time=True,
    )


def _find_tables(path: Path) -> tuple[list[tuple[Path, str | None]], list[tuple[Path, str | None]]]:
    """Event files and item files, each with the domain that its name gives."""
    if path.is_file():
        return [(path, None)], []
    found = [(file, name) for file in sorted(path.iterdir()) if (name := _FILE_NAME.fullmatch(file.name))]
    events = [(file, name["domain"]) for file, name in found if name["role"] != "items"]
    if not events:
        raise InputError("no interactions.* or reviews.* here", where=str(path), fix=FORMATS["table"].needs)
    return events, [(file, name["domain"]) for file, name in found if name["role"] == "items"]


def _check_columns(columns: Mapping[str, str]) -> None:
    valid = {*EVENT_NAMES, *ITEM_NAMES}
    for ours in columns:
        if ours not in valid:
            raise InputError(f"--columns: no column {ours!r} of ours", fix=nearest(ours, valid))


def _load(
    path: Path,
    domain: str | None,
    names: dict[str, tuple[str, ...]],
    options: ReadOptions,
    report: BadRows,
    header: set[str],
) -> pd.DataFrame:
    """One file under our column names; its own are added to ``header``."""
    frame = _read_file(path, report)
    if not len(frame):
        report.refuse(path)
    if (twice := frame.columns.duplicated()).any():
        raise InputError(f"the column {frame.columns[twice][0]!r} is there twice", where=str(path), fix="rename one")
    by_lower = {str(column).lower(): column for column in frame if column not in ORIGIN}
    header.update(map(str, by_lower.values()))
    found = {}
    for ours, candidates in names.items():
        theirs = options.columns.get(ours)
        if theirs is not None and theirs in frame:
            found[ours] = frame[theirs]
        elif theirs is not None and ours in (schema.USER_ID, schema.ITEM_ID):
            raise InputError(f"no column {theirs!r}", where=str(path), fix=nearest(theirs, map(str, by_lower.values())))
        elif theirs is None:
            match = next((by_lower[name] for name in candidates if name in by_lower), None)
            if match is not None:
                found[ours] = frame[match]
    for ours in (schema.USER_ID, schema.ITEM_ID):
        if ours in names and ours not in found:
            raise InputError(
                f"no column for {ours}; there are: {', '.join(map(str, by_lower.values()))}",
                where=str(path),
                fix=f"--columns {ours}=NAME",
            )
    _say_columns(path, found, by_lower)
    table = pd.DataFrame({**found, **{name: frame[name] for name in ORIGIN if name in frame}})
    for ours in (schema.USER_ID, schema.ITEM_ID, schema.DOMAIN):
        if ours in table:
            table[ours] = _as_text(table[ours])
    if schema.DOMAIN not in table and domain is not None:
        table[schema.DOMAIN] = domain
    return table


def _say_columns(path: Path, found: Mapping[str, pd.Series[Any]], by_lower: Mapping[str, Any]) -> None:
    """Which of the file's columns are read as what: a column that nobody reads is seldom what its owner wants."""
    read = ", ".join(ours if ours == column.name else f"{ours} from {column.name}" for ours, column in found.items())
    unread = ", ".join(str(name) for name in by_lower.values() if all(name != one.name for one in found.values()))
    say(f"{path.name}: {read}" + (f"; not read: {unread}" if unread else ""))


def _read_file(path: Path, report: BadRows) -> pd.DataFrame:
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        try:
            frame = pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise InputError(f"not a whole parquet file ({error})", where=str(path)) from None
        where: dict[str, Any] = {FILE: str(path), LINE: np.arange(1, len(frame) + 1)}
        return frame.assign(**where)
    if kind in ("jsonl", "ndjson", "json"):
        return read_json_lines(path, report)
    if kind in ("csv", "tsv"):
        own, name = (",", "commas") if kind == "csv" else ("\t", "tabs")
        frame = read_delimited(path, own, report)
        header = [str(column) for column in frame if column not in ORIGIN]
        other = (
            next((mark for mark in ";\t|," if mark != own and mark in header[0]), None) if len(header) == 1 else None
        )
        if other is not None:
            raise InputError(f"one column, {header[0]!r}: separated by {other!r}", where=str(path), fix=f"use {name}")
        return frame
    raise InputError(f"no table format ends in .{kind}", where=str(path), fix=f"one of: {', '.join(_KINDS)}; or .gz")


def _as_text(column: pd.Series[str]) -> pd.Series[str]:
    """Ids as text, null where missing; whole floats (a column of integers with gaps) lose their ``.0``."""
    if pd.api.types.infer_dtype(column, skipna=True) == "string":
        return column
    if pd.api.types.is_float_dtype(column) and bool((column.dropna() % 1 == 0).all()):
        column = column.astype("Int64").astype(object)
    return column.astype(object).where(column.notna(), None).map(str, na_action="ignore")


def _concat(frames: list[pd.DataFrame]) -> pd.DataFrame | None:
    return pd.concat(frames, ignore_index=True) if frames else None


def parse_time(events: pd.DataFrame, report: BadRows) -> pd.DataFrame:
    """``timestamp`` as epoch seconds, from numbers of any usual scale or from ISO dates (UTC without a zone)."""
    column = events[schema.TIMESTAMP]
    fault = NOT_A_DATE
    if pd.api.types.is_datetime64_any_dtype(column):
        seconds = _seconds(pd.to_datetime(column, utc=True))
    elif (number := pd.to_numeric(column, errors="coerce")).notna().mean() < 0.5:
        seconds = _seconds(pd.to_datetime(column, errors="coerce", utc=True, format="ISO8601"))
    elif (dates := _compact_dates(number)) is not None:
        others = pd.to_datetime(column.where(number.isna()), errors="coerce", utc=True, format="ISO8601")
        seconds = _seconds(dates.fillna(others))
    else:
        fault = NOT_A_NUMBER
        seconds = number.to_numpy(dtype=np.float64)
        typical = np.nanmedian(np.abs(seconds)) if len(seconds) else 0.0
        for least, scale, name in _TIME_SCALES:
            if typical >= least:
                say(f"time stamps are {name}")
                seconds = np.floor(seconds / scale)
                break
    bad = ~np.isfinite(seconds)
    events = report.drop(events, bad, fault, schema.TIMESTAMP)
    return drop_cut_number(
        events.assign(**{schema.TIMESTAMP: seconds[~bad].astype(np.int64)}), schema.TIMESTAMP, report
    )


def _compact_dates(number: pd.Series[float]) -> pd.Series[Any] | None:
    """Dates, where most numbers are a day as 20230105 or a year; as seconds these would lie in 1970."""
    for form, low, high, name in _COMPACT:
        likely = number.between(low, high) & (number % 1 == 0)
        if likely.mean() > 0.5:
            text = number.where(likely).astype("Int64").astype("string")
            dates = pd.to_datetime(text, format=form, errors="coerce", utc=True)
            if dates.notna().mean() > 0.5:
                say(f"time stamps are {name}")
                return dates
    return None


def _seconds(dates: pd.Series[Any]) -> npt.NDArray[np.float64]:
    """(n,) epoch seconds, NaN where there is no date."""
    seconds = np.floor(dates.dt.as_unit("ms").astype("int64").to_numpy() / 1000)
    return np.where(dates.isna(), np.nan, seconds)


def join_items(
    events: pd.DataFrame, items: pd.DataFrame | None, domain: str | None, report: BadRows
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Gives events and items their domains and lists the items of domains that have no list.

    Raises:
        InputError: nothing says the domain.
    """
    fix = "add a column domain, name the files DOMAIN.interactions.*, or give --domain NAME"
    if items is not None and schema.DOMAIN not in items:
        items = items.assign(**{schema.DOMAIN: _domain_by_events(events, items, domain, fix)})
    if schema.DOMAIN not in events:
        if domain is not None:
            events = events.assign(**{schema.DOMAIN: domain})
        elif items is not None:
            listed = items.drop_duplicates(schema.ITEM_ID).set_index(schema.ITEM_ID)[schema.DOMAIN]
            named = events[schema.ITEM_ID].map(listed)
            events = report.drop(events.assign(**{schema.DOMAIN: named}), named.isna(), UNKNOWN_ID, schema.ITEM_ID)
        else:
            raise InputError("nothing says the domain of an event", fix=fix)
    events = drop_missing(events, [schema.DOMAIN], report)
    if items is None:
        items = events.iloc[:0]
    items = drop_missing(items, [schema.DOMAIN], report)
    key = [schema.ITEM_ID, schema.DOMAIN]
    known = pd.MultiIndex.from_frame(events[key]).isin(pd.MultiIndex.from_frame(items[key]))
    has_list = events[schema.DOMAIN].isin(items[schema.DOMAIN].unique()).to_numpy()
    events = report.drop(events, has_list & ~known, UNKNOWN_ID, schema.ITEM_ID)
    columns = [name for name in (*key, *schema.ITEM_TEXT_COLUMNS, *ORIGIN) if name in events or name in items]
    unlisted = events[~events[schema.DOMAIN].isin(items[schema.DOMAIN].unique())].drop_duplicates(key)
    items = pd.concat([items, unlisted], ignore_index=True) if len(items) else unlisted
    return events, items.reindex(columns=columns).reset_index(drop=True)


def _domain_by_events(events: pd.DataFrame, items: pd.DataFrame, domain: str | None, fix: str) -> pd.Series[str]:
    """Domains of items whose list has none: the option's, else that of the events."""
    if domain is not None:
        return pd.Series(domain, index=items.index)
    if schema.DOMAIN not in events:
        raise InputError("nothing says the domain of an item", fix=fix)
    return items[schema.ITEM_ID].map(events.drop_duplicates(schema.ITEM_ID).set_index(schema.ITEM_ID)[schema.DOMAIN])
