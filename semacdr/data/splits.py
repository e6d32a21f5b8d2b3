"""Splits: which events train, and which (history, target) pairs validate and test.

Leave-one-out on the merged sequence is the default: a user's last event is the test target, the second last the
validation target, the rest trains. A published split is taken as it is. Where the order across domains is unknown,
leave-one-out is made per domain and the other domains' training events come first in the history. Three further splits
hide events: ``transfer-X:DOMAIN`` a share of the chosen users' history in a domain (:mod:`semacdr.data.transfer`),
``cold-item`` new items (:mod:`semacdr.data.cold_items`), ``cold-user`` all that a user did from its first step into a
domain on (:mod:`semacdr.data.cold_users`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from semacdr.data.dataset import Dataset
from semacdr.data.plan import TEST, VALID, Plan, event_users, separate_domains
from semacdr.data.schema import BoolArray, Int32Array, Int64Array, SplitName
from semacdr.data.split_names import LEAVE_ONE_OUT, parse_split
from semacdr.data.views import DomainViews

SECONDS_A_DAY = 86_400
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
        name: see :func:`semacdr.data.split_names.parse_split`. A data set with a published split takes it in place of
            leave-one-out and says ``published``; the cold splits divide its event sequences anew.

    Raises:
        InputError: an unknown split name, or a split that the data do not allow.
    """
    hiding = parse_split(name, dataset.domains[-1])
    if hiding is not None:
        plan = hiding.plan(dataset)
        per_domain = dataset.order == "within-domain"
        return (_planned_per_domain if per_domain else _planned)(dataset, plan, hiding.name)
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


def _planned(dataset: Dataset, plan: Plan, name: str) -> Split:
    used = _used(dataset, plan)
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
    return Split(name, train, held_out(VALID), held_out(TEST), _count(dataset, train))


def _used(dataset: Dataset, plan: Plan) -> Int64Array:
    """Indices of the events that are known or to be predicted."""
    return np.flatnonzero(plan.known | (np.arange(len(dataset.items)) == plan.target_at[event_users(dataset)]))


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
    count = len(dataset.domains)
    sizes = np.bincount(separate_domains(dataset), minlength=dataset.num_users * count)
    long = sizes >= MIN_EVENTS
    views = DomainViews.of(dataset.items, sizes, np.where(long, sizes - 2, sizes), count)
    tested = long[views.group]
    train = TrainSequences(views.items, views.own, views.start, views.stop, views.user)
    valid, test = (_behind(views, tested, ahead) for ahead in (0, 1))
    return Split("leave-one-out per domain", train, valid, test, _count(dataset, train))


def _planned_per_domain(dataset: Dataset, plan: Plan, name: str) -> Split:
    used, group = _used(dataset, plan), separate_domains(dataset)
    size = dataset.num_users * len(dataset.domains)
    sizes = np.bincount(group[used], minlength=size)
    asked = np.bincount(group[plan.target_at[plan.role > 0]], minlength=size)
    views = DomainViews.of(dataset.items[used], sizes, sizes - asked, len(dataset.domains))
    learns = sizes[views.group] > asked[views.group]  # the others have nothing of their own to learn
    train = TrainSequences(views.items, views.own, views.start[learns], views.stop[learns], views.user[learns])
    valid, test = (_behind(views, (asked[views.group] > 0) & (plan.role[views.user] == role)) for role in (VALID, TEST))
    return Split(name, train, valid, test, _count(dataset, train))


def _behind(views: DomainViews, rows: BoolArray, ahead: int = 0) -> Examples:
    """The event that many places behind the training events of each of these views."""
    at = views.stop[rows] + ahead
    return Examples(views.items, views.start[rows], at, views.user[rows], views.items[at], np.ones(len(at), np.bool_))
