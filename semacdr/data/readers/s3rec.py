"""S3Rec's 5-core sets (Zhou et al., CIKM 2020; also P5's): one file of sequences a domain, ``user item item ...``.

``DOMAIN.datamaps.json`` maps the numbers back (``id2user``, ``id2item``): the same reviewer id in two domains is the
same person. Nothing tells how the events of different domains interleave, so that the order holds within a domain only.
Domains are listed by file name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from semacdr.data import schema
from semacdr.data.badrows import CUT, CUT_OFF, ORIGIN, UNKNOWN_ID, BadRows
from semacdr.data.readers import FORMATS, ReadOptions
from semacdr.data.readers.raw import RawData, drop_missing, find_file, need_file, require_folder
from semacdr.data.readers.text import TEXT, byte_chunks, explode, matched, origin, read_json_lines, read_lines
from semacdr.errors import InputError


def read(path: Path | None, options: ReadOptions, report: BadRows) -> RawData:
    """Reads every ``DOMAIN.sequential.txt`` of a folder, with its maps, plain or gz.

    Raises:
        InputError: no such file, or a domain without its maps.
    """
    folder = require_folder(path)
    domains = sorted({found.name.split(".sequential.txt")[0] for found in folder.glob("*.sequential.txt*")})
    if not domains:
        raise InputError("no DOMAIN.sequential.txt here", where=str(folder), fix=FORMATS["s3rec"].needs)
    parts = [_read_domain(folder, domain, report) for domain in domains]
    return RawData(
        name=folder.name,
        events=pd.concat([events for events, _ in parts], ignore_index=True),
        items=pd.concat([items for _, items in parts], ignore_index=True),
        order="within-domain",
        time_unit="none",
    )


def _read_domain(folder: Path, domain: str, report: BadRows) -> tuple[pd.DataFrame, pd.DataFrame]:
    needs = FORMATS["s3rec"].needs
    maps = _read_maps(need_file(folder, f"{domain}.datamaps.json", needs), report)
    users, ids = _by_number(maps["id2user"]), _by_number(maps["id2item"])
    lines = read_lines(need_file(folder, f"{domain}.sequential.txt", needs), report)
    # A sequence that lost its end still looks like one: a broken-off file shows in the users that are missing.
    lines = report.drop(lines, lines[CUT] & (len(lines) < len(users)), CUT_OFF, TEXT)
    row, tokens = explode(lines[TEXT], " ")
    where = pd.DataFrame({"row": row, **origin(lines, row)})
    where["opens"] = np.r_[True, row[1:] != row[:-1]] if len(row) else np.zeros(0, bool)
    numbers = matched(where, tokens, r"^(?P<number>\d{1,9})$", report)
    opens = numbers["opens"].to_numpy()
    names = pd.Series(numbers["number"][opens].map(users).to_numpy(), index=numbers["row"][opens])
    events = numbers[~opens]
    named: dict[str, Any] = {
        schema.USER_ID: events["row"].map(names).to_numpy(),
        schema.ITEM_ID: events["number"].map(ids).to_numpy(),
        schema.DOMAIN: domain,
    }
    events = events.assign(**named)
    for column in (schema.USER_ID, schema.ITEM_ID):
        events = report.drop(events, events[column].isna(), UNKNOWN_ID, "number")
    items = pd.DataFrame({schema.ITEM_ID: ids.sort_index().to_numpy(), schema.DOMAIN: domain})
    listing = find_file(folder, f"{domain}.items.jsonl")
    if listing is not None:
        texts = drop_missing(read_json_lines(listing, report), ["item"], report)
        texts = texts.drop_duplicates("item").drop(columns=[schema.DOMAIN, *ORIGIN], errors="ignore")
        items = items.merge(texts, how="left", left_on=schema.ITEM_ID, right_on="item")
    return events.drop(columns=["row", "opens", "number"]), items


def _read_maps(path: Path, report: BadRows) -> dict[str, dict[str, Any]]:
    """The two maps of a datamaps file.

    Raises:
        InputError: it is cut off, no JSON, or lacks a map.
    """
    text = b"".join(byte_chunks(path, report))
    try:
        maps = json.loads(text)
        return {key: dict(maps[key]) for key in ("id2user", "id2item")}
    except (ValueError, KeyError, TypeError) as error:
        kind = CUT_OFF if CUT_OFF in report.counts else type(error).__name__
        raise InputError(f"no usable id2user and id2item ({kind}: {error})", where=str(path)) from None


def _by_number(names: dict[str, Any]) -> pd.Series[str]:
    return pd.Series([str(name) for name in names.values()], index=[int(number) for number in names], dtype=object)
