"""The reviews behind the events of a ranking data set: what its training users wrote on its items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq

from semacdr.data import schema
from semacdr.data.dataset import Dataset
from semacdr.data.schema import BoolArray, Int32Array, Int64Array
from semacdr.data.splits import Split


@dataclass(frozen=True)
class EventReviews:
    """Reviews of training events, one for each user and item.

    Attributes:
        texts: (R,) the reviews.
        user: (R,) who wrote each: index of the data set's user.
        item: (R,) on what.
    """

    texts: tuple[str, ...]
    user: Int32Array
    item: Int32Array


def event_reviews(dataset: Dataset, split: Split) -> EventReviews | None:
    """The reviews of the training events, or None where the data set has none.

    A review of a held-out pair is never among them, even if the user had the item before; nor is any of a pair of whose
    events the split hides one, since the data do not say which of the reviews is the known one.
    """
    path = dataset.path / schema.INTERACTIONS
    if schema.TEXT not in pq.read_schema(path).names:
        return None
    texts = pq.read_table(path, columns=[schema.TEXT]).column(0).to_pylist()
    user = np.repeat(np.arange(dataset.num_users), np.diff(dataset.offsets))
    keys = _keys(dataset, user, dataset.items)
    held = np.concatenate([_keys(dataset, part.user, part.target) for part in (split.valid, split.test)])
    written = np.array([bool(text and text.strip()) for text in texts])
    wanted = np.flatnonzero(_wholly_trained(dataset, split, keys) & ~np.isin(keys, held) & written)
    first = wanted[np.sort(np.unique(keys[wanted], return_index=True)[1])]
    if not len(first):
        return None
    return EventReviews(
        tuple(texts[index].strip() for index in first), user[first].astype(np.int32), dataset.items[first]
    )


def _wholly_trained(dataset: Dataset, split: Split, keys: Int64Array) -> BoolArray:
    """(E,) whether every event of an event's pair is a training event; ``keys`` (E,) are the pairs."""
    pairs, pair, total = np.unique(keys, return_inverse=True, return_counts=True)
    size = dataset.num_items + 1
    sequence, place = split.train.events()
    cells, count = np.unique(sequence * size + split.train.items[place], return_counts=True)
    trained = _keys(dataset, split.train.user[cells // size], (cells % size).astype(np.int32))
    inside = np.isin(trained, pairs)
    known = np.zeros(len(pairs), np.int64)  # in one sequence: several of a user hold the same events
    np.maximum.at(known, np.searchsorted(pairs, trained[inside]), count[inside])
    whole: BoolArray = (known >= total)[pair]
    return whole


def _keys(dataset: Dataset, user: Int32Array | Int64Array, item: Int32Array) -> Int64Array:
    """One number for each pair of a user and an item."""
    return user.astype(np.int64) * (dataset.num_items + 1) + item
