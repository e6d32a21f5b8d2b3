"""Splits against sequences worked out by hand, and their properties on random ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semacdr.data.dataset import Dataset, PublishedTargets
from semacdr.data.splits import SECONDS_A_DAY, Examples, Split, make_split
from semacdr.errors import InputError

DOMAINS = np.array([-1, 0, 0, 0, 1, 1, 1, 2, 2], np.int8)  # items 1-3, 4-6, 7-8


def dataset(
    sequences: list[list[int]],
    days: list[list[int]] | None = None,
    order: str = "total",
    targets: list[tuple[str, int, int, int]] | None = None,
) -> Dataset:
    """A data set in memory; targets are (split, user, item, position)."""
    lengths = [len(sequence) for sequence in sequences]
    published = None
    if targets is not None:
        split, user, item, position = zip(*targets)
        columns = [np.array(column, np.int32) for column in (user, item, position)]
        published = PublishedTargets(np.array(split, dtype=object), *columns)
    return Dataset(
        path=Path("memory"),
        manifest={"name": "memory", "order": order, "time_unit": "none" if days is None else "day"},
        item_ids=np.array(["", *"abcdefgh"], dtype=object),
        item_domain=DOMAINS,
        domains=("x", "y", "z"),
        user_ids=np.array([f"u{at}" for at in range(len(sequences))], dtype=object),
        offsets=np.r_[0, np.cumsum(lengths)].astype(np.int64),
        items=np.array([item for sequence in sequences for item in sequence], np.int32),
        timestamps=None if days is None else np.array([d * SECONDS_A_DAY for row in days for d in row], np.int64),
        targets=published,
    )


def train_rows(split: Split) -> list[tuple[int, list[int], list[bool]]]:
    train = split.train
    return [
        (int(user), train.items[start:stop].tolist(), train.is_target[start:stop].tolist())
        for user, start, stop in zip(train.user, train.start, train.stop)
    ]


def example_rows(examples: Examples) -> list[tuple[int, list[int], int]]:
    pairs = zip(examples.user.tolist(), examples.target.tolist())
    return [(user, examples.history(at).tolist(), target) for at, (user, target) in enumerate(pairs)]


def test_leave_one_out_by_hand():
    split = make_split(dataset([[1, 4, 2], [5, 3], [6, 1, 4, 1]]))
    assert [row[:2] for row in train_rows(split)] == [(0, [1]), (1, [5, 3]), (2, [6, 1])]
    assert example_rows(split.valid) == [(0, [1], 4), (2, [6, 1], 4)]
    assert example_rows(split.test) == [(0, [1, 4], 2), (2, [6, 1, 4], 1)]
    assert split.train_count.tolist() == [0, 2, 0, 1, 0, 1, 1, 0, 0]


def test_strict_targets_fall_on_a_later_day():
    split = make_split(dataset([[1, 4, 2, 5], [1, 4, 2, 5]], days=[[1, 1, 1, 2], [1, 2, 3, 3]]))
    assert split.valid.strict.tolist() == [False, True]
    assert split.test.strict.tolist() == [True, False]
    assert make_split(dataset([[1, 4, 2]])).test.strict.tolist() == [True]


def test_per_domain_by_hand():
    """User 0: x 1 2 3, y 4 5 (too short to test), z 7 8 7 8; user 1: y 4 5 6."""
    split = make_split(dataset([[1, 2, 3, 4, 5, 7, 8, 7, 8], [4, 5, 6]], order="within-domain"))
    assert train_rows(split) == [
        (0, [4, 5, 7, 8, 1], [False] * 4 + [True]),
        (0, [1, 7, 8, 4, 5], [False] * 3 + [True] * 2),
        (0, [1, 4, 5, 7, 8], [False] * 3 + [True] * 2),
        (1, [4], [True]),
    ]
    assert example_rows(split.valid) == [(0, [4, 5, 7, 8, 1], 2), (0, [1, 4, 5, 7, 8], 7), (1, [4], 5)]
    assert example_rows(split.test) == [(0, [4, 5, 7, 8, 1, 2], 3), (0, [1, 4, 5, 7, 8, 7], 8), (1, [4, 5], 6)]
    assert split.train_count.tolist() == [0, 1, 0, 0, 2, 1, 0, 1, 1]


def test_per_domain_refuses_interleaved_domains():
    with pytest.raises(InputError, match="interleaved"):
        make_split(dataset([[1, 4, 2]], order="within-domain"))


def test_published_by_hand():
    """User 0 trains with two targets on one history: the history is learned once; users 1 and 2 do not train."""
    targets = [("train", 0, 2, 2), ("train", 0, 5, 2), ("valid", 1, 1, 1), ("test", 2, 6, 2), ("test", 2, 1, 2)]
    split = make_split(dataset([[1, 4], [5], [2, 5]], targets=targets))
    assert split.name == "published"
    assert train_rows(split) == [(0, [1, 4, 2], [True, True, True]), (0, [1, 4, 5], [False, False, True])]
    assert example_rows(split.valid) == [(1, [5], 1)]
    assert example_rows(split.test) == [(2, [2, 5], 6), (2, [2, 5], 1)]
    assert split.train_count.tolist() == [0, 1, 1, 0, 1, 1, 0, 0, 0]


def test_the_latest_training_target_brings_the_history():
    """Whatever the order in the file: an event between two targets of a user is learned too."""
    for at in (1, -1):
        targets = [("train", 0, 5, 1), ("train", 0, 6, 3)][::at]
        split = make_split(dataset([[1, 4, 2]], targets=targets))
        assert train_rows(split) == [(0, [1, 4, 2, 6], [True] * 4), (0, [1, 5], [False, True])]


def test_a_target_in_the_middle_of_a_history_sees_only_what_came_before():
    split = make_split(dataset([[1, 4, 2]], targets=[("test", 0, 5, 1)]))
    assert example_rows(split.test) == [(0, [1], 5)]
    assert len(split.train) == len(split.valid) == 0
    assert split.train_count.sum() == 0


def test_select_and_unknown_names():
    split = make_split(dataset([[1, 4, 2], [6, 1, 4, 1]]))
    assert example_rows(split.test.select(np.array([False, True]))) == [(1, [6, 1, 4], 1)]
    with pytest.raises(InputError, match="unknown split"):
        make_split(dataset([[1]]), "leave-two-out")


sequences = st.lists(st.lists(st.integers(1, 8), min_size=1, max_size=9), min_size=1, max_size=6)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(sequences)
def test_every_event_has_one_role(rows):
    """Training events, validation and test targets together are the data, each once; per domain as well."""
    everything = sorted(item for row in rows for item in row)
    for order in ("total", "within-domain"):
        grouped = rows if order == "total" else [sorted(row, key=lambda item: DOMAINS[item]) for row in rows]
        split = make_split(dataset(grouped, order=order))
        trained = np.repeat(np.arange(9), split.train_count).tolist()
        assert sorted([*trained, *split.valid.target.tolist(), *split.test.target.tolist()]) == everything
        for at in range(len(split.test)):  # the test history is the validation history and its target
            before, target = split.valid.history(at).tolist(), int(split.valid.target[at])
            assert split.test.history(at).tolist() == [*before, target]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(sequences)
def test_per_domain_equals_its_definition(rows):
    grouped = [sorted(row, key=lambda item: DOMAINS[item]) for row in rows]
    split = make_split(dataset(grouped, order="within-domain"))
    expected_train, expected_test = [], []
    for user, row in enumerate(grouped):
        by_domain = [[item for item in row if DOMAINS[item] == domain] for domain in range(3)]
        kept = [own[:-2] if len(own) >= 3 else own for own in by_domain]
        for domain, own in enumerate(by_domain):
            if own:
                foreign = [item for other in range(3) if other != domain for item in kept[other]]
                flags = [False] * len(foreign) + [True] * len(kept[domain])
                expected_train.append((user, foreign + kept[domain], flags))
                if len(own) >= 3:
                    expected_test.append((user, foreign + own[:-1], own[-1]))
    assert train_rows(split) == expected_train
    assert example_rows(split.test) == expected_test
