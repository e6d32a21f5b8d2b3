"""URLLM's published split: users' merged histories, each with a next item of either domain.

``train_F2.txt``, ``valid_F2.txt`` and ``test_F2.txt`` hold lines ``user<TAB>n<TAB>idx|position|position ...``. The last
event of a line is its target, the ``n`` before it the history. The lines of one user have the same history and
different targets: one history with two targets. ``items.jsonl`` gives each ``idx`` its domain, title and
``category_brand_text`` (our ``categories``); ``users.txt`` maps ``name<TAB>user``. There are no time stamps, and the
authors' truncated copies (``model_input_*``) are not read.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from semacdr.data import schema
from semacdr.data.badrows import NOT_PARSED, BadRows
from semacdr.data.readers import FORMATS, ReadOptions
from semacdr.data.readers.abxi import indexed_items, name_items
from semacdr.data.readers.raw import RawData, find_file, need_file, require_folder
from semacdr.data.readers.text import TEXT, explode, fields, matched, origin, read_lines

SPLITS = ("train", "valid", "test")
BROKEN_HISTORY = "broken history"
OTHER_HISTORY = "history differs from the user's first line"


def read(path: Path | None, options: ReadOptions, report: BadRows) -> RawData:
    """Reads a folder with the three split files and ``items.jsonl``, plain or gz."""
    folder = require_folder(path)
    needs = FORMATS["urllm"].needs
    items = indexed_items(need_file(folder, "items.jsonl", needs), report)
    items = items.rename(columns={"category_brand_text": "categories"})
    frames = [read_lines(need_file(folder, f"{split}_F2.txt", needs), report).assign(split=split) for split in SPLITS]
    lines, events = _whole_lines(pd.concat(frames, ignore_index=True), report)
    events = name_items(events, items, report)
    # A line that lost an event to an unknown id has a hole: it goes as a whole.
    complete = np.bincount(events["row"], minlength=len(lines)) == lines["length"].to_numpy()
    events = events[complete[events["row"]]]
    same = _same_history(lines, events)
    report.drop(lines, complete & ~same, OTHER_HISTORY, schema.USER_ID)
    usable = complete & same

    last = events["position"].to_numpy() == lines["length"].to_numpy()[events["row"]] - 1
    targets = events[last & usable[events["row"]]]
    first = ~lines[usable].duplicated(schema.USER_ID)
    history = events[~last & np.isin(events["row"], first.index[first])]
    names = _user_names(folder, report)
    return RawData(
        name=folder.name,
        events=history.assign(**{schema.USER_ID: _renamed(history[schema.USER_ID], names)}),
        items=items.drop(columns="idx"),
        order="total",
        time_unit="none",
        targets=targets.assign(**{schema.USER_ID: _renamed(targets[schema.USER_ID], names)}),
    )


def _whole_lines(lines: pd.DataFrame, report: BadRows) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The lines that are well formed (user, split, length) and all their events (row, position, idx)."""
    row, tokens = explode(lines[TEXT], "\t")
    column = np.arange(len(row)) - np.searchsorted(row, row)
    texts = tokens.to_numpy(zero_copy_only=False)
    lines = lines.assign(**{schema.USER_ID: pd.Series(texts[column == 0], index=row[column == 0])})
    numbers = pd.to_numeric(pd.Series(texts[column == 1], index=row[column == 1]), errors="coerce")
    says = numbers.reindex(lines.index).fillna(-1).to_numpy()
    is_event = column >= 2
    where = pd.DataFrame({"row": row, "column": column - 2, **origin(lines, row)})[is_event]
    scratch = BadRows()  # a token that is no event breaks its line, which is reported once, as a line
    events = matched(where, tokens.filter(is_event), r"^(?P<idx>\d{1,9})\|(?P<position>\d{1,9})\|\d{1,9}$", scratch)
    found = np.bincount(events["row"], minlength=len(lines))
    stray = np.bincount(events["row"][events["position"] != events["column"]], minlength=len(lines))
    broken = (found < 2) | (found != says + 1) | (stray > 0)
    kept = report.drop(lines, broken, f"{NOT_PARSED}: {BROKEN_HISTORY}", TEXT)
    kept = kept.assign(length=found[~broken]).reset_index(drop=True)
    new_row = np.cumsum(~broken) - 1
    events = events[~broken[events["row"]]]
    events = events.assign(row=new_row[events["row"]]).drop(columns="column").reset_index(drop=True)
    for name in (schema.USER_ID, schema.SPLIT):
        events[name] = kept[name].to_numpy()[events["row"]]
    return kept, events


def _same_history(lines: pd.DataFrame, events: pd.DataFrame) -> schema.BoolArray:
    """Whether each line has the length and the history of its user's first line, and its split."""
    row, position = events["row"].to_numpy(), events["position"].to_numpy()
    begin = np.searchsorted(row, np.arange(len(lines)))
    count = np.bincount(row, minlength=len(lines))
    whole = np.flatnonzero(count)
    users = pd.factorize(lines[schema.USER_ID].to_numpy()[whole])[0]
    first = np.zeros(len(lines), np.int64)
    first[whole] = whole[np.unique(users, return_index=True)[1][users]]
    split = lines[schema.SPLIT].to_numpy()
    same = np.ones(len(lines), np.bool_)
    same[whole] = (count[whole] == count[first[whole]]) & (split[whole] == split[first[whole]])
    items = pd.factorize(events[schema.ITEM_ID])[0]
    is_history = (position < count[row] - 1) & same[row]
    differs = items[is_history] != items[begin[first[row[is_history]]] + position[is_history]]
    same[row[is_history][differs]] = False
    return same


def _user_names(folder: Path, report: BadRows) -> dict[str, str]:
    listing = find_file(folder, "users.txt")
    if listing is None:
        return {}
    names = fields(read_lines(listing, report), "\t", ["name", "number"], report)
    return dict(zip(names["number"], names["name"]))


def _renamed(users: pd.Series[str], names: dict[str, str]) -> pd.Series[str]:
    return users.map(names).fillna(users)
