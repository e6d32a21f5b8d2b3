"""A data set folder of ours as RecBole's atomic files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from semacdr.data import schema
from semacdr.data.dataset import Dataset
from semacdr.data.readers.atomic import write_atomic_files
from semacdr.errors import InputError
from semacdr.files import staged_folder
from semacdr.progress import say


def export(dataset: str | Path, data_path: str | Path, name: str | None = None) -> Path:
    """Writes ``data_path/name/name.inter`` and ``name.item``, ready for ``run_recbole(dataset=name)``.

    Args:
        dataset: a data set folder of ours.
        data_path: RecBole's ``data_path``.
        name: RecBole's name of the data set; by default our own.

    Returns:
        the folder.

    Raises:
        InputError: not a data set folder, or one with a published split, which RecBole's leave-one-out would ignore.
    """
    source = Dataset.load(dataset)
    if source.targets is not None:
        raise InputError("has a published split, which RecBole's own division would not follow", where=str(dataset))
    if source.order == "within-domain":
        say(f"{source.name}: the order across domains is unknown; RecBole will take each user's domains one by one")
    events, items = pd.read_parquet(source.path / schema.INTERACTIONS), source.item_frame()
    if not _in_time_order(events):
        say(f"{source.name}: the published order is not that of the time stamps, so positions stand in their place")
        events[schema.TIMESTAMP] = None
    # RecBole reads a field that begins with a double quote to the next one, over the ends of lines.
    text = [column for column in schema.ITEM_TEXT_COLUMNS if column in items]
    items = items.assign(**{column: items[column].str.replace('"', "'") for column in text})
    name = name or source.name
    folder = Path(data_path) / name
    with staged_folder(folder) as staging:
        write_atomic_files(events, items, staging, name)
    return folder


def _in_time_order(events: pd.DataFrame) -> bool:
    """Whether RecBole's sort by time, which is stable, keeps every user's published order."""
    user, when = events[schema.USER_ID], events[schema.TIMESTAMP]
    earlier = (user == user.shift()) & (when < when.shift())
    return not earlier.fillna(False).any()
