"""Raw data to a data set folder: read, check, filter, order, write; equal input and settings give equal bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from semacdr import __version__
from semacdr.data import schema
from semacdr.data.badrows import DUPLICATE, FILE, LINE, BadRows
from semacdr.data.filters import Filters, apply_filters, repeats
from semacdr.data.readers import ReadOptions, check_options, find_format, find_reader
from semacdr.data.readers.raw import RawData
from semacdr.errors import InputError
from semacdr.files import check_replaceable, file_sha256, fingerprint, staged_folder, write_json
from semacdr.progress import say


def convert(
    format_name: str,
    source: Path | None,
    output: Path,
    options: ReadOptions | None = None,
    filters: Filters | None = None,
    *,
    name: str | None = None,
    skip_bad: bool = False,
) -> dict[str, Any]:
    """Converts raw data and writes the data set folder, as a whole or not at all.

    Args:
        format_name: one of :data:`semacdr.data.readers.FORMATS`.
        source: a folder or file; None for what ships with a package (movielens).
        output: the folder to write; an existing data set there is replaced.
        options: for the reader.
        filters: windows, repeats, cores.
        name: of the data set; the folder's name by default.
        skip_bad: leave bad rows out instead of refusing.

    Returns:
        the manifest, as ``dataset.json`` holds it.

    Raises:
        InputError: bad rows without ``skip_bad``, nothing left, options that the format does not take, or an
            ``output`` that holds something else than a data set.
    """
    options, filters = options or ReadOptions(), filters or Filters()
    check_options(format_name, options)
    entry = find_format(format_name)
    if source is None and not entry.input_optional:
        raise InputError(f"format {format_name} needs --input", fix=f"it reads {entry.needs}")
    check_replaceable(output)
    if output.exists() and not (output / schema.MANIFEST).is_file() and (not output.is_dir() or any(output.iterdir())):
        raise InputError("exists and is no data set folder, so it is not replaced", where=str(output))
    report = BadRows()
    raw = find_reader(format_name)(source, options, report)
    events = raw.events
    if filters.dedup is None and not entry.published:
        events = report.drop(events, repeats(events), DUPLICATE, schema.ITEM_ID)
    items = _checked_items(raw.items, report, source)
    if not skip_bad:
        report.refuse(source or format_name)
    elif report.total:
        say(f"left out {report.total} bad row(s)\n  {report}")
    if raw.targets is not None and filters.any():
        raise InputError("a published split is taken as it is: no filters", fix="convert without filter options")
    ordered = ordered_events(raw, events, items)
    events, items = apply_filters(ordered, items, filters, raw.order)
    if not len(events):
        raise InputError("no event is left", where=str(source or format_name), fix="check the filters and the input")
    settings = {"options": _plain(options), "filters": _plain(filters), "bad_rows": dict(report.counts)}
    return write_dataset(raw, events, items, output, format_name, name or raw.name, settings)


def _plain(options: ReadOptions | Filters) -> dict[str, Any]:
    """The settings that are set."""
    unset = vars(type(options)())
    return {
        key: dict(value) if key == "columns" else value for key, value in vars(options).items() if value != unset[key]
    }


def _checked_items(items: pd.DataFrame, report: BadRows, source: Path | None) -> pd.DataFrame:
    """Each (item, domain) once; a second listing is reported."""
    again = items.duplicated([schema.ITEM_ID, schema.DOMAIN]).to_numpy()
    if FILE not in items:
        nowhere: dict[str, Any] = {FILE: str(source), LINE: 0}
        items = items.assign(**nowhere)
    return report.drop(items, again, f"{DUPLICATE} item", schema.ITEM_ID).reset_index(drop=True)


def ordered_events(raw: RawData, events: pd.DataFrame, items: pd.DataFrame) -> pd.DataFrame:
    """Events grouped by user (users by first appearance), each user's in published order.

    Without a published order the time stamps make it, ties in the file's order; without an order across domains a
    user's events stand domain by domain.
    """
    keys = [pd.factorize(events[schema.USER_ID])[0]]
    if raw.order == "within-domain":
        domains = pd.Index(items[schema.DOMAIN].unique())
        keys.append(domains.get_indexer(events[schema.DOMAIN]))
    if raw.sort_by_time and schema.TIMESTAMP in events:
        keys.append(events[schema.TIMESTAMP].to_numpy())
    return events.iloc[np.lexsort(keys[::-1])].reset_index(drop=True)


def write_dataset(
    raw: RawData,
    events: pd.DataFrame,
    items: pd.DataFrame,
    output: Path,
    format_name: str,
    name: str,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Writes ordered events and items as a data set folder and returns the manifest."""
    domains = [str(domain) for domain in items[schema.DOMAIN].unique()]
    targets = raw.targets
    shared = set(items[schema.ITEM_ID][items[schema.ITEM_ID].duplicated(keep=False)])
    if shared:
        say(f"ids of several domains, an item of its own in each, as DOMAIN/{min(shared)}: {len(shared):,}")
    frames = [_prefixed(frame, shared) for frame in (events, items)]
    events, items = frames
    targets = None if targets is None else _prefixed(targets, shared)
    if items[schema.ITEM_ID].duplicated().any():
        raise InputError("an id that stands in two domains collides with another when its domain is put in front")

    files = {schema.INTERACTIONS: _event_table(events), schema.ITEMS: _item_table(items)}
    if targets is not None:
        files[schema.TARGETS] = _target_table(targets)
    with staged_folder(output) as folder:
        hashes = {}
        for file, table in files.items():
            pq.write_table(table, folder / file, compression="zstd")
            hashes[file] = file_sha256(folder / file)
        manifest = {
            "format_version": schema.FORMAT_VERSION,
            "name": name,
            "source_format": format_name,
            "domains": domains,
            "order": raw.order,
            "time_unit": raw.time_unit,
            "counts": {
                "users": int(events[schema.USER_ID].nunique()),
                "items": len(items),
                "events": len(events),
                "targets": 0 if targets is None else len(targets),
                "ids_prefixed_by_domain": len(shared),
            },
            "settings": settings,
            "fingerprint": fingerprint(hashes),
            "semacdr_version": __version__,
        }
        write_json(folder / schema.MANIFEST, manifest)
    return manifest


def _prefixed(frame: pd.DataFrame, shared: set[str]) -> pd.DataFrame:
    """Puts the domain in front of ids that stand in two domains, so that an id names one item."""
    if not shared:
        return frame
    twice = frame[schema.ITEM_ID].isin(shared)
    full = frame[schema.DOMAIN].astype(str) + "/" + frame[schema.ITEM_ID].astype(str)
    return frame.assign(**{schema.ITEM_ID: frame[schema.ITEM_ID].mask(twice, full)})


def _event_table(events: pd.DataFrame) -> pa.Table:
    position = events.groupby(schema.USER_ID, sort=False).cumcount()
    columns = {name: pa.array(events[name], pa.string()) for name in (schema.USER_ID, schema.ITEM_ID, schema.DOMAIN)}
    has_time = schema.TIMESTAMP in events
    columns[schema.TIMESTAMP] = (
        pa.array(events[schema.TIMESTAMP], pa.int64()) if has_time else pa.nulls(len(events), pa.int64())
    )
    columns[schema.POSITION] = pa.array(position, pa.int32())
    if schema.RATING in events:
        columns[schema.RATING] = pa.array(events[schema.RATING].astype(np.float32), pa.float32(), from_pandas=True)
    if schema.TEXT in events:
        columns[schema.TEXT] = pa.array(events[schema.TEXT], pa.string(), from_pandas=True)
    return pa.table(columns)


def _item_table(items: pd.DataFrame) -> pa.Table:
    columns = {name: pa.array(items[name], pa.string()) for name in (schema.ITEM_ID, schema.DOMAIN)}
    for name in schema.ITEM_TEXT_COLUMNS:
        if name in items or name == schema.TITLE:
            values = [plain_text(value) for value in items[name]] if name in items else [None] * len(items)
            columns[name] = pa.array(values, pa.string())
    return pa.table(columns)


def _target_table(targets: pd.DataFrame) -> pa.Table:
    names = (schema.USER_ID, schema.SPLIT, schema.ITEM_ID, schema.DOMAIN)
    columns = {name: pa.array(targets[name], pa.string()) for name in names}
    columns[schema.POSITION] = pa.array(targets[schema.POSITION], pa.int32())
    return pa.table(columns)


def plain_text(value: Any) -> str | None:
    """An item's text as one line: lists joined by commas, spaces collapsed, nothing for null or empty."""
    if isinstance(value, list | tuple | np.ndarray):
        parts = [part for part in (plain_text(entry) for entry in value) if part]
        return ", ".join(dict.fromkeys(parts)) or None
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    return " ".join(str(value).split()) or None
