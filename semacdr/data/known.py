"""What may be known of each user before any held-out target: the history that user profiles are made from."""

from __future__ import annotations

import numpy as np

from semacdr.data.schema import Int32Array
from semacdr.data.splits import Split


class KnownEvents:
    """The events of every user that no validation or test target is among, nor lies before.

    A user with held-out targets has the shortest of their histories: of leave-one-out that is what comes before the
    validation target. A user without any has what it trains on; of several training sequences the first.
    """

    def __init__(self, split: Split, num_users: int) -> None:
        sources = (split.valid, split.test, split.train)
        self._items = tuple(source.items for source in sources)
        self._source = np.repeat(np.arange(3), [len(source) for source in sources])
        self._start = np.concatenate([source.start for source in sources])
        self._stop = np.concatenate([source.stop for source in sources])
        user = np.concatenate([source.user for source in sources])
        trains = self._source == 2
        length = np.where(trains, 0, self._stop - self._start)  # training sequences stay in their order
        order = np.lexsort((length, trains, user))
        first = order[np.r_[True, np.diff(user[order]) != 0]] if len(order) else order
        self._row = np.full(num_users, -1, np.int64)
        self._row[user[first]] = first

    def __len__(self) -> int:
        return len(self._row)

    def of(self, user: int) -> Int32Array:
        """Item indices of one user's known events, oldest first; none for a user that the split does not have."""
        row = self._row[user]
        if row < 0:
            return np.zeros(0, np.int32)
        return self._items[self._source[row]][self._start[row] : self._stop[row]]
