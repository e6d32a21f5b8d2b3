"""Batches: what is predicted from what, each event at most once, and an epoch that can be gone on with."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from semacdr.data.batches import TrainBatches, example_batches, history_batch
from semacdr.data.splits import Examples, TrainSequences


def train_of(rows: list[list[int]], flags: list[list[bool]] | None = None) -> TrainSequences:
    stop = np.cumsum([len(row) for row in rows])
    start = stop - [len(row) for row in rows]
    flags = flags or [[True] * len(row) for row in rows]
    return TrainSequences(
        np.array([item for row in rows for item in row], np.int32),
        np.array([flag for row in flags for flag in row], np.bool_),
        start.astype(np.int64),
        stop.astype(np.int64),
        np.arange(len(rows), dtype=np.int32),
    )


def learned(batches: TrainBatches, epoch: int = 0) -> list[tuple[tuple[int, ...], int]]:
    """All (inputs so far, target) pairs of an epoch, sorted."""
    pairs = []
    for batch in batches.epoch(epoch):
        for row in range(len(batch.items)):
            items = batch.items[row].tolist()
            if batch.first_target[row]:
                pairs.append(((), int(batch.first_target[row])))
            for at, target in enumerate(batch.targets[row].tolist()):
                if target:
                    pairs.append((tuple(items[: at + 1]), target))
    return sorted(pairs)


def test_every_position_is_a_target_by_hand():
    batches = TrainBatches(train_of([[5, 6, 7], [8], [9, 4]]), batch_size=2, max_seq_len=4, seed=0)
    assert learned(batches) == [((), 5), ((), 9), ((5,), 6), ((5, 6), 7), ((9,), 4)]
    (batch,) = batches.epoch(0)
    order = batch.length.argsort().tolist()
    assert batch.length[order].tolist() == [1, 2]
    assert batch.items[order].tolist() == [[9, 0], [5, 6]]
    assert batch.targets[order].tolist() == [[4, 0], [6, 7]]


def test_long_sequences_are_cut_into_windows_by_hand():
    """Five inputs of width 2: the newest two windows are full, the oldest takes what is left."""
    batches = TrainBatches(train_of([[1, 2, 3, 4, 5, 6]]), batch_size=8, max_seq_len=2, seed=0)
    assert learned(batches) == [((), 1), ((1,), 2), ((2,), 3), ((2, 3), 4), ((4,), 5), ((4, 5), 6)]


def test_context_is_input_but_no_target():
    batches = TrainBatches(train_of([[1, 2, 3]], [[False, False, True]]), batch_size=8, max_seq_len=9, seed=0)
    assert learned(batches) == [((1, 2), 3)]


def test_windows_without_a_target_are_left_out():
    flags = [[False] * 6 + [True, True]]
    batches = TrainBatches(train_of([[1, 2, 3, 4, 5, 6, 7, 8]], flags), batch_size=1, max_seq_len=2, seed=0)
    assert len(batches) == 1
    assert learned(batches) == [((6,), 7), ((6, 7), 8)]


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    st.lists(st.lists(st.booleans(), max_size=13), min_size=1, max_size=7),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(0, 3),
)
def test_each_target_is_learned_once_from_its_own_past(flags, max_seq_len, batch_size, epoch):
    number = iter(range(1, 1000))
    rows = [[next(number) for _ in row] for row in flags]
    batches = TrainBatches(train_of(rows, flags), batch_size, max_seq_len, seed=1)
    pairs = learned(batches, epoch)
    wanted = [item for row, flag in zip(rows, flags) if len(row) > 1 for item, is_target in zip(row, flag) if is_target]
    assert sorted(target for _, target in pairs) == sorted(wanted)
    where = {item: (row, at) for row in rows for at, item in enumerate(row)}
    for inputs, target in pairs:
        row, at = where[target]
        assert len(inputs) <= max_seq_len
        assert list(inputs) == row[at - len(inputs) : at]
    for batch in batches.epoch(epoch):
        assert int((batch.targets != 0).sum() + (batch.first_target != 0).sum()) > 0
        beyond = np.arange(batch.items.shape[1]) >= batch.length.numpy()[:, None]
        assert not batch.items.numpy()[beyond].any()
        assert not batch.targets.numpy()[beyond].any()


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.lists(st.integers(2, 12), max_size=30), st.integers(1, 6))
def test_batches_hold_about_equally_many_events(lengths, batch_size):
    rows = [list(range(1, length + 1)) for length in lengths]
    batches = TrainBatches(train_of(rows), batch_size, max_seq_len=20, seed=0)
    made = list(batches.epoch(0))
    assert len(made) == len(batches) == -(-len(rows) // batch_size)
    assert sum(len(batch.items) for batch in made) == len(rows)
    assert all(len(batch.items) for batch in made)


def test_a_batch_of_short_rows_has_more_of_them():
    rows = [[1, 2]] * 90 + [list(range(1, 11))] * 18  # 180 events each
    events = [int(batch.length.sum()) + len(batch.items) for batch in TrainBatches(train_of(rows), 27, 20, 0).epoch(0)]
    assert len(events) == 4
    assert sum(events) == 360
    assert all(abs(count - 90) <= 10 for count in events)


def test_the_opening_item_of_a_whole_sequence_is_a_target():
    rows = [[at * 10 + step for step in range(1, 5)] for at in range(6)]
    assert {target for inputs, target in learned(TrainBatches(train_of(rows), 4, 2, 0)) if not inputs} == {
        row[0] for row in rows
    }


def test_a_resumed_epoch_is_the_rest_of_an_unbroken_one():
    rows = [list(range(1, 2 + at % 7)) for at in range(40)]
    batches = TrainBatches(train_of(rows), batch_size=4, max_seq_len=3, seed=5)
    whole = [batch.items.tolist() for batch in batches.epoch(2)]
    assert len(whole) == len(batches)
    again = TrainBatches(train_of(rows), batch_size=4, max_seq_len=3, seed=5)
    for done in (0, 1, 5, len(whole)):
        assert [batch.items.tolist() for batch in again.epoch(2, first_batch=done)] == whole[done:]


def test_epochs_and_seeds_differ():
    rows = [[at + 1, at + 2] for at in range(40)]
    batches = TrainBatches(train_of(rows), batch_size=4, max_seq_len=3, seed=5)
    orders = [[batch.items.tolist() for batch in batches.epoch(epoch)] for epoch in range(2)]
    other = TrainBatches(train_of(rows), batch_size=4, max_seq_len=3, seed=6)
    assert orders[0] != orders[1]
    assert orders[0] != [batch.items.tolist() for batch in other.epoch(0)]


def test_histories_keep_their_newest_events():
    batch = history_batch([np.array([1, 2, 3], np.int32), np.zeros(0, np.int32), np.array([4], np.int32)], [0, 1, 1], 2)
    assert batch.items.tolist() == [[2, 3], [0, 0], [4, 0]]
    assert batch.length.tolist() == [2, 0, 1]
    assert batch.target_domain.tolist() == [0, 1, 1]
    assert history_batch([np.zeros(0, np.int32)], [0], 5).items.tolist() == [[0]]


def test_example_batches_cover_every_pair_once():
    items = np.array([1, 2, 3, 4, 5, 6], np.int32)
    start, stop = np.array([0, 0, 2, 3]), np.array([6, 0, 3, 5])
    target = np.array([2, 1, 2, 1], np.int32)
    examples = Examples(items, start, stop, np.arange(4, dtype=np.int32), target, np.ones(4, np.bool_))
    seen = {}
    for rows, batch in example_batches(examples, np.array([-1, 0, 1], np.int8), batch_size=3, max_seq_len=4):
        for at, row in enumerate(rows.tolist()):
            seen[row] = (batch.items[at, : batch.length[at]].tolist(), int(batch.target_domain[at]))
    assert seen == {0: ([3, 4, 5, 6], 1), 1: ([], 0), 2: ([3], 1), 3: ([4, 5], 0)}
