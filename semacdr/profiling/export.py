"""The valid profiles of a data set as one parquet file, read and written block by block: memory does not grow with it.

A profile that was asked about something else than is there now is left out: the item's text changed since, the user's
known history did, or the store also serves another data set of this name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from semacdr.data.dataset import Dataset
from semacdr.data.item_rows import ItemRows
from semacdr.data.item_text import item_fields
from semacdr.data.schema import ITEM_ID
from semacdr.errors import InputError
from semacdr.files import write_atomic
from semacdr.profiling.items import source_of
from semacdr.profiling.store import AnswerStore
from semacdr.profiling.users import OVERALL_VIEW, Histories, users_of
from semacdr.progress import say

GROUP_ROWS = 65_536  # of the file, written at once

Subjects = Iterable[list[tuple[str, str]]]
"""Blocks of (id, source): whom profiles are about, and the hash of what they should have been asked about."""


def export_profiles(items: ItemRows, store: AnswerStore, out: Path) -> dict[str, int]:
    """Writes the valid profiles of a data set's items as parquet (item_id, view, text), in catalogue order.

    Returns:
        view -> number of profiles.

    Raises:
        InputError: the store has no valid profile of this data set.
    """
    views = store.views(items.name)
    counts, stale = _export(out, ITEM_ID, store, items.name, views, lambda: item_subjects(items))
    if stale:
        say(f"{stale} profiles were written about other texts of these items; semacdr profile items renews them")
    if not counts:
        raise InputError(
            f"no valid profile of data set {items.name!r}", where=str(store.path), fix="semacdr profile items first"
        )
    return counts


def export_users(dataset: Dataset, store: AnswerStore, out: Path) -> dict[str, int]:
    """Writes the valid overall profiles of a data set's users as parquet (user_id, view, text), in their order.

    Returns:
        view -> number of profiles.

    Raises:
        InputError: the store has no valid profile of a user of this data set.
    """
    name, histories = users_of(dataset.name), Histories(dataset)
    views = [view for view in store.views(name) if view == OVERALL_VIEW]
    counts, stale = _export(out, "user_id", store, name, views, lambda: user_subjects(histories))
    if stale:
        say(f"{stale} profiles were written about other histories of these users; semacdr profile users renews them")
    if not counts:
        raise InputError(
            f"no valid profile of a user of data set {dataset.name!r}",
            where=str(store.path),
            fix="semacdr profile users first",
        )
    return counts


def item_subjects(items: ItemRows) -> Subjects:
    """The items of a catalogue."""
    for rows in items.blocks():
        yield [(str(row[ITEM_ID]), source_of(item_fields(row))) for row in rows]


def user_subjects(histories: Histories) -> Subjects:
    """The users of a data set."""
    for users in histories.blocks():
        yield [(user.user_id, user.source) for user in users]


def fresh_profiles(
    store: AnswerStore, dataset: str, view: str, subjects: Subjects
) -> Iterator[tuple[list[tuple[str, str]], list[str]]]:
    """Block by block (id, text) of the valid profiles, and the ids of those that are about something else."""
    for block in subjects:
        ids = [name for name, _ in block]
        texts, kept = store.valid_texts(dataset, view, ids), store.sources(dataset, view, ids)
        # what an old profile was asked about is not known, and no reason to leave it out
        stale = {name for name, source in block if name in texts and kept[name] not in ("", source)}
        yield [(name, texts[name]) for name in ids if name in texts and name not in stale], sorted(stale)


def _export(
    out: Path, id_name: str, store: AnswerStore, dataset: str, views: Sequence[str], subjects: Callable[[], Subjects]
) -> tuple[dict[str, int], int]:
    """Writes the file unless it would be empty; returns the profiles of each view, and how many were left out."""
    counts: dict[str, int] = {}
    stale = 0
    schema = pa.schema([(name, pa.string()) for name in (id_name, "view", "text")])

    def rows() -> Iterator[tuple[str, str, str]]:
        nonlocal stale
        for view in views:
            for fresh, other in fresh_profiles(store, dataset, view, subjects()):
                stale += len(other)
                for name, text in fresh:
                    counts[view] = counts.get(view, 0) + 1
                    yield name, view, text

    waiting = rows()
    group = list(islice(waiting, GROUP_ROWS))

    def write(temporary: Path) -> None:
        nonlocal group
        with pq.ParquetWriter(temporary, schema) as writer:
            while group:
                columns = [pa.array(column, pa.string()) for column in zip(*group)]
                writer.write_table(pa.Table.from_arrays(columns, schema=schema))
                group = list(islice(waiting, GROUP_ROWS))

    if group:
        write_atomic(out, write)
    return counts, stale
