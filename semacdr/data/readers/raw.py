"""What a reader hands over: events, items and targets under our column names, and the checks that readers share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from semacdr.data import schema
from semacdr.data.badrows import (
    CUT,
    CUT_OFF,
    FILE,
    MISSING_FIELD,
    NOT_A_NUMBER,
    NOT_A_RATING,
    ORIGIN,
    UNKNOWN_ID,
    BadRows,
)
from semacdr.errors import InputError

SECONDS_A_DAY = 86_400
_NO_RATING = ("", "nan", "none", "null", "na", "n/a", "<na>", "\\n")


@dataclass(frozen=True)
class RawData:
    """One raw data set, read and checked row by row.

    events: ``user_id, item_id, domain``, and where the source has them ``timestamp`` (int64, epoch seconds),
        ``rating``, ``text``; rows of one user in published order, though users may be interleaved.
        ``file`` and ``line`` say where a row came from.
    items: ``item_id, domain`` and the text columns of :data:`semacdr.data.schema.ITEM_TEXT_COLUMNS` that exist.
    targets: ``user_id, split, item_id, domain, position`` of a published split.
    sort_by_time: no order is published, so that the time stamps make it; equal stamps keep the file's order.
    """

    name: str
    events: pd.DataFrame
    items: pd.DataFrame
    order: schema.Order
    time_unit: schema.TimeUnit
    targets: pd.DataFrame | None = None
    sort_by_time: bool = False


def find_file(folder: Path, name: str) -> Path | None:
    """``folder/name`` or ``folder/name.gz``, if one is there."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def need_file(folder: Path, name: str, needs: str) -> Path:
    """``folder/name`` or ``folder/name.gz``.

    Raises:
        InputError: neither is there.
    """
    path = find_file(folder, name)
    if path is None:
        raise InputError(f"no {name} or {name}.gz", where=str(folder), fix=f"this format needs {needs}")
    return path


def require_folder(path: Path | None) -> Path:
    """The input folder; anything else is an :class:`InputError`."""
    if path is None or not path.is_dir():
        raise InputError("not a folder" if path else "this format needs --input DIR", where=str(path) if path else None)
    return path


def drop_missing(frame: pd.DataFrame, columns: list[str], report: BadRows) -> pd.DataFrame:
    """Reports and drops the rows where one of the columns is null or empty.

    Raises:
        InputError: a column is absent altogether.
    """
    for column in columns:
        if column not in frame:
            raise InputError(
                f"no column {column!r}; there are: {', '.join(str(c) for c in frame if c not in ORIGIN)}",
                where=str(frame[FILE].iloc[0]) if len(frame) else None,
            )
        codes, values = pd.factorize(frame[column])  # looked at once a value, not once a row
        blank = np.array([*(not str(value).strip() for value in values), True])
        frame = report.drop(frame, blank[codes], f"{MISSING_FIELD} {column}")
    return frame


def to_epoch_seconds(frame: pd.DataFrame, report: BadRows) -> pd.DataFrame:
    """Makes ``timestamp`` int64; rows where it is no finite number are reported and dropped."""
    number = pd.to_numeric(frame[schema.TIMESTAMP], errors="coerce").to_numpy(dtype=np.float64)
    bad = ~np.isfinite(number)
    kept = report.drop(frame, bad, NOT_A_NUMBER, schema.TIMESTAMP)
    return drop_cut_number(kept.assign(**{schema.TIMESTAMP: number[~bad].astype(np.int64)}), schema.TIMESTAMP, report)


def to_ratings(events: pd.DataFrame, report: BadRows) -> pd.DataFrame:
    """Makes ``rating`` a float, NaN where none is given; rows where it is something else are reported and dropped."""
    given = events[schema.RATING]
    number = pd.to_numeric(given, errors="coerce")
    bad = (number.isna() & given.notna()).to_numpy(copy=True)
    bad[bad] = ~given[bad].astype(str).str.strip().str.lower().isin(_NO_RATING)
    bad |= np.isinf(number.to_numpy(dtype=np.float64))
    return report.drop(events, bad, NOT_A_RATING, schema.RATING).assign(**{schema.RATING: number[~bad]})


def drop_cut_number(frame: pd.DataFrame, column: str, report: BadRows) -> pd.DataFrame:
    """Reports a number at the broken end of a file that has lost digits: less than half of every other row's."""
    if CUT not in frame or not frame[CUT].any():
        return frame
    cut = frame[CUT].to_numpy()
    others = frame[column][~cut]
    lost = cut & (frame[column].to_numpy() < others.min() / 2) if len(others) else ~cut
    return report.drop(frame, lost, CUT_OFF, column)


def drop_unknown_items(events: pd.DataFrame, items: pd.DataFrame, report: BadRows) -> pd.DataFrame:
    """Reports and drops the events whose item is not listed, and gives the others their item's domain."""
    domain = events[schema.ITEM_ID].map(items.set_index(schema.ITEM_ID)[schema.DOMAIN])
    return report.drop(events.assign(**{schema.DOMAIN: domain}), domain.isna(), UNKNOWN_ID, schema.ITEM_ID)


def unit_of(timestamps: pd.Series[int]) -> schema.TimeUnit:
    """``day`` where every time stamp is a midnight, else ``second``."""
    return "day" if bool((timestamps % SECONDS_A_DAY == 0).all()) else "second"
