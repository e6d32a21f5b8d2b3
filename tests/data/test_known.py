"""What profiles may know of a user: worked out by hand, and never a held-out event on random sequences."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from semacdr.data.dataset import Dataset
from semacdr.data.known import KnownEvents
from semacdr.data.splits import make_split
from tests.data.test_splits import dataset


def known(data: Dataset) -> list[list[int]]:
    events = KnownEvents(make_split(data), data.num_users)
    return [events.of(user).tolist() for user in range(len(events))]


def test_leave_one_out_by_hand():
    assert known(dataset([[1, 4, 2], [5, 3], [6, 1, 4, 1]])) == [[1], [5, 3], [6, 1]]


def test_per_domain_by_hand():
    """User 0: x 1 2 3, y 4 5 (too short to test), z 7 8 7 8; user 1: y 4 5 6."""
    assert known(dataset([[1, 2, 3, 4, 5, 7, 8, 7, 8], [4, 5, 6]], order="within-domain")) == [[4, 5, 7, 8, 1], [4]]


def test_published_by_hand():
    """User 0 trains only, 1 has both held-out targets, 2 is a test user, 3 has a validation target in mid-training,
    4 has no target at all."""
    rows = [[1, 2], [1, 2, 3], [4, 5], [1, 2, 3, 4], [6, 7]]
    targets = [("train", 0, 5, 2), ("valid", 1, 4, 2), ("test", 1, 5, 3), ("test", 2, 1, 2)]
    targets += [("train", 3, 5, 4), ("valid", 3, 2, 1)]
    assert known(dataset(rows, targets=targets)) == [[1, 2, 5], [1, 2], [4, 5], [1], []]


users = st.lists(st.integers(1, 12), min_size=1, max_size=6)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(users, st.sampled_from(["total", "within-domain"]))
def test_held_out_events_are_never_known(lengths, order):
    """Every event is an item of its own, so that one event in the known ones is one too many."""
    total = sum(lengths)
    domain = np.concatenate([[-1], *(np.sort(np.arange(length) % 3) for length in lengths)]).astype(np.int8)
    data = dataclasses.replace(
        dataset([[]], order=order),
        item_ids=np.array(["", *(f"i{item}" for item in range(total))], dtype=object),
        item_domain=domain,
        user_ids=np.array([f"u{user}" for user in range(len(lengths))], dtype=object),
        offsets=np.r_[0, np.cumsum(lengths)].astype(np.int64),
        items=np.arange(1, total + 1, dtype=np.int32),
    )
    split = make_split(data)
    held = {*split.valid.target.tolist(), *split.test.target.tolist()}
    events = KnownEvents(split, data.num_users)
    for user in range(data.num_users):
        mine = events.of(user).tolist()
        assert set(mine) == set(data.user_items(user).tolist()) - held
        assert len(mine) == len(set(mine))
