"""Tiny catalogues and training sequences, by hand."""

from __future__ import annotations

import numpy as np

from semacdr.data.dataset import Catalogue
from semacdr.data.splits import TrainSequences


def catalogue(domains: list[int], count: list[int] | None = None) -> Catalogue:
    """Items 1.. of the given domains, each once in training where no counts are given."""
    size = len(domains)
    ids = np.array(["", *(f"i{item}" for item in range(1, size + 1))], object)
    names = tuple("abc"[: max(domains) + 1])
    counts = np.array([0, *(count or [1] * size)], np.int64)
    return Catalogue(ids, np.array([-1, *domains], np.int8), names, counts)


def sequences(
    rows: list[list[int]], users: list[int] | None = None, targets: list[bool] | None = None
) -> TrainSequences:
    """One sequence a row; every event is a target unless ``targets`` says otherwise of all events in a line."""
    items = np.array([item for row in rows for item in row], np.int32)
    stop = np.cumsum([len(row) for row in rows])
    user = np.array(users or range(len(rows)), np.int32)
    is_target = np.array(targets or [True] * len(items))
    return TrainSequences(items, is_target, stop - [len(row) for row in rows], stop, user)
