"""Splits: which events train, and which (history, target) pairs validate and test.

Leave-one-out on the merged sequence is the default: a user's last event is the test target, the second last the
validation target, the rest trains. A published split is taken as it is. Where the order across domains is unknown,
leave-one-out is made per domain and the other domains' training events come first in the history. ``transfer-X:DOMAIN``
hides X % of the chosen users' history in a domain: see :mod:`semacdr.data.transfer`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from semacdr.data.dataset import Dataset
from semacdr.data.schema import BoolArray, Int32Array, Int64Array, SplitName
from semacdr.data.transfer import TEST, VALID, plan_transfer
from semacdr.errors import InputError

SECONDS_A_DAY = 86_400
LEAVE_ONE_OUT = "leave-one-out"
_TRANSFER = re.compile(r"transfer-(\d+):(.+)")
MIN_EVENTS = 3  # a user with fewer has no history left to test on: all its events train


@dataclass(frozen=True)
class Examples:
    """Held-out (history, target) pairs. History ``t`` is ``items[start[t]:stop[t]]``, oldest first: it may
    have no event at all, and then the user is unknown to the model.
    """

    items: Int32Array  # shared buffer
    start: Int64Array  # (T,)
    stop: Int64Array  # (T,)
    user: Int32Array  # (T,) index of the data set's user
    target: Int32Array  # (T,)
    strict: BoolArray  # (T,) the target falls on a later day than the event before it

    def __len__(self) -> int:
        return len(self.target)

    def history(self, index: int) -> Int32Array:
        """The events before target ``index``, oldest first."""
        return self.items[self.start[index] : self.stop[index]]

    def select(self, rows: Int64Array | BoolArray) -> Examples:
        """The pairs of the given rows."""
        return Examples(
            self.items, self.start[rows], self.stop[rows], self.user[rows], self.target[rows], self.strict[rows]
        )


@dataclass(frozen=True)
class TrainSequences:
    """Training sequences. Sequence ``s`` is ``items[start[s]:stop[s]]``; an event is predicted from those before it
    where ``is_target`` says so, which keeps an event that stands in two sequences from being learned twice.
    """

    items: Int32Array  # shared buffer
    is_target: BoolArray  # as long as ``items``
    start: Int64Array  # (S,)
    stop: Int64Array  # (S,)
    user: Int32Array  # (S,)

    def __len__(self) -> int:
        return len(self.start)

    def events(self) -> tuple[Int64Array, Int64Array]:
        """Of every event, sequence by sequence: the index of its sequence (E,) and its place in ``items`` (E,)."""
        length = self.stop - self.start
        sequence = np.repeat(np.arange(len(length)), length)
        place = np.arange(len(sequence)) - np.repeat(np.cumsum(length) - length, length) + self.start[sequence]
        return sequence, place


@dataclass(frozen=True)
class Split:
    """A data set, divided."""

    name: str
    train: TrainSequences
    valid: Examples
    test: Examples
    train_count: Int64Array  # (N+1,) training events of each item

    def examples(self, split: SplitName) -> Examples:
        """The validation or test pairs."""
        return self.test if split == "test" else self.valid


def make_split(dataset: Dataset, name: str = LEAVE_ONE_OUT) -> Split:
    """Divides a data set.

    Args:
        dataset: the data.
        name: ``leave-one-out``, or ``transfer-X:DOMAIN`` with X from 0 to 100. A data set with a published split takes
            it in place of leave-one-out and says ``published``.

    Raises:
        InputError: an unknown split name, or a transfer split that the data do not allow.
    """
    transfer = _TRANSFER.fullmatch(name)
    if transfer:
        return _transfer(dataset, int(transfer[1]), transfer[2])
    if name != LEAVE_ONE_OUT:
        fix = "valid: leave-one-out, transfer-X:DOMAIN (for example transfer-80:" + dataset.domains[-1] + ")"
        raise InputError(f"unknown split {name!r}", fix=fix)
    if dataset.targets is not None:
        return _published(dataset)
    if dataset.order == "within-domain":
        return _leave_one_out_per_domain(dataset)
    return _leave_one_out(dataset)


def _leave_one_out(dataset: Dataset) -> Split:
    start, end = dataset.offsets[:-1], dataset.offsets[1:]
    long = end - start >= MIN_EVENTS
    users = np.flatnonzero(long).astype(np.int32)
    train_stop = np.where(long, end - 2, end)

    def held_out(back: int) -> Examples:
        at = end[long] - back
        return Examples(
            dataset.items, start[long], at, users, dataset.items[at], _strict(dataset.timestamps, at, start[long])
        )

    train = TrainSequences(
        dataset.items,
        np.ones(len(dataset.items), np.bool_),
        start,
        train_stop,
        np.arange(dataset.num_users, dtype=np.int32),
    )
    return Split(LEAVE_ONE_OUT, train, held_out(2), held_out(1), _count(dataset, train))


def _transfer(dataset: Dataset, percent: int, domain: str) -> Split:
    plan = plan_transfer(dataset, percent, domain)
    user_of = np.repeat(np.arange(dataset.num_users), np.diff(dataset.offsets))
    used = np.flatnonzero(plan.known | (np.arange(len(dataset.items)) == plan.target_at[user_of]))
    # What is used of a user lies in one piece, the event to be predicted at its end: later ones are not known.
    start = np.searchsorted(used, dataset.offsets[:-1])
    end = np.searchsorted(used, dataset.offsets[1:])
    stop = np.where(plan.target_at >= 0, end - 1, end)
    items = dataset.items[used]
    times = None if dataset.timestamps is None else dataset.timestamps[used]

    def held_out(role: int) -> Examples:
        users = np.flatnonzero(plan.role == role).astype(np.int32)
        at, first = stop[users], start[users]
        return Examples(items, first, at, users, items[at], _strict(times, at, first))

    everyone = np.arange(dataset.num_users, dtype=np.int32)
    train = TrainSequences(items, np.ones(len(items), np.bool_), start, stop, everyone)
    return Split(f"transfer-{percent}:{domain}", train, held_out(VALID), held_out(TEST), _count(dataset, train))


def _strict(timestamps: Int64Array | None, at: Int64Array, start: Int64Array) -> BoolArray:
    """Whether event ``at`` falls on a later day than the event before it; a first event does."""
    if timestamps is None:
        return np.ones(len(at), np.bool_)
    day = timestamps // SECONDS_A_DAY
    return np.asarray((at == start) | (day[at] > day[np.maximum(at - 1, 0)]), dtype=np.bool_)


def _count(dataset: Dataset, train: TrainSequences) -> Int64Array:
    """Training events of each item: every target of training, and the events that only ever open a sequence."""
    inside = np.zeros(len(train.items) + 1, np.int64)
    np.add.at(inside, train.start, 1)
    np.add.at(inside, train.stop, -1)
    used = (np.cumsum(inside[:-1]) > 0) & train.is_target
    return np.bincount(train.items[used], minlength=dataset.num_items + 1).astype(np.int64)


def _published(dataset: Dataset) -> Split:
    targets = dataset.targets
    assert targets is not None
    start = dataset.offsets[:-1]
    held = {split: np.flatnonzero(targets.split == split).astype(np.int64) for split in ("train", "valid", "test")}

    def examples(split: str) -> Examples:
        rows = held[split]
        user = targets.user[rows]
        first = start[user]
        stop = first + targets.position[rows]
        strict = np.ones(len(rows), np.bool_)
        return Examples(dataset.items, first, stop, user, targets.item[rows], strict)

    # A user with training targets trains on the history of the latest; each further target of the user opens a
    # sequence of its own, in which only that target is predicted.
    rows = held["train"]
    user, position = targets.user[rows], targets.position[rows].astype(np.int64)
    order = np.lexsort((-position, user))  # stable: of equal positions the first in the file stays first
    rows, user, position = rows[order], user[order], position[order]
    first_of_user = np.r_[True, user[1:] != user[:-1]] if len(user) else np.zeros(0, np.bool_)
    length = position + 1
    stop = np.cumsum(length)
    begin = stop - length
    total = int(stop[-1]) if len(stop) else 0
    sequence = np.repeat(np.arange(len(rows)), length)
    within = np.arange(total) - begin[sequence]
    last = within == position[sequence]
    source = np.minimum(start[user[sequence]] + within, max(len(dataset.items) - 1, 0))
    items = np.where(last, targets.item[rows][sequence], dataset.items[source]).astype(np.int32)
    is_target = last | first_of_user[sequence]
    train = TrainSequences(items, is_target, begin, stop, user.astype(np.int32))
    return Split("published", train, examples("valid"), examples("test"), _count(dataset, train))


def _leave_one_out_per_domain(dataset: Dataset) -> Split:
    """One view of a user for each of its domains: the other domains' training events, then the domain's own."""
    user_of = np.repeat(np.arange(dataset.num_users), np.diff(dataset.offsets))
    domain_of = dataset.item_domain[dataset.items].astype(np.int64)
    count_domains = len(dataset.domains)
    group = user_of * count_domains + domain_of
    if (np.diff(group) < 0).any():
        raise InputError(
            "a data set without an order across domains has its domains interleaved",
            where=str(dataset.path),
            fix="convert the data again",
        )
    sizes = np.bincount(group, minlength=dataset.num_users * count_domains)
    ends = np.cumsum(sizes)
    begins = ends - sizes
    long = sizes >= MIN_EVENTS
    kept = np.where(long, sizes - 2, sizes)  # training events of each (user, domain)

    # A row a view, a column a segment: the user's other domains in order, cut to their training events, then its own.
    views = np.flatnonzero(sizes)
    users = (views // count_domains).astype(np.int32)
    segments = users[:, None].astype(np.int64) * count_domains + np.arange(count_domains)
    own = segments == views[:, None]
    order = np.argsort(own, axis=1, kind="stable")
    segments, own = np.take_along_axis(segments, order, axis=1), np.take_along_axis(own, order, axis=1)
    lengths = np.where(own, sizes[segments], kept[segments])
    flat = lengths.ravel()
    before = np.cumsum(flat) - flat
    source = np.repeat(begins[segments].ravel() - before, flat) + np.arange(int(flat.sum()))
    items = dataset.items[source]
    start = before.reshape(segments.shape)[:, 0]
    stop = start + lengths.sum(axis=1) - sizes[views] + kept[views]
    train = TrainSequences(items, np.repeat(own.ravel(), flat), start, stop, users)
    tested = long[views]

    def held_out(ahead: int) -> Examples:
        target_at = stop[tested] + ahead
        strict = np.ones(len(target_at), np.bool_)
        return Examples(items, start[tested], target_at, users[tested], items[target_at], strict)

    return Split("leave-one-out per domain", train, held_out(0), held_out(1), _count(dataset, train))
