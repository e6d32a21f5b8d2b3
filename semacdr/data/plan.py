"""What a split that hides events decides: which users are asked for what, and which events nobody may see.

Here is what such splits share; what each one chooses stands in :mod:`semacdr.data.transfer`,
:mod:`semacdr.data.cold_items` and :mod:`semacdr.data.cold_users`. How a plan becomes sequences and pairs is in
:mod:`semacdr.data.splits`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from semacdr.data.dataset import Dataset
from semacdr.data.schema import BoolArray, Int8Array, Int64Array
from semacdr.errors import InputError

TRAIN, VALID, TEST = 0, 1, 2


@dataclass(frozen=True)
class Plan:
    """Who is asked what, and what nobody may see.

    role: (U,) 0 for users that only train, 1 validation, 2 test.
    target_at: (U,) index of the event to be predicted in ``Dataset.items``, -1 for users that only train.
    known: (E,) False for events that are hidden, to be predicted, or later than what is to be predicted.
    """

    role: Int8Array
    target_at: Int64Array
    known: BoolArray


def event_users(dataset: Dataset) -> Int64Array:
    """(E,) index of each event's user."""
    return np.repeat(np.arange(dataset.num_users), np.diff(dataset.offsets))


def user_domains(dataset: Dataset) -> Int64Array:
    """(E,) one number for each event's user and domain, ``user * D + domain``."""
    return event_users(dataset) * len(dataset.domains) + dataset.item_domain[dataset.items].astype(np.int64)


def separate_domains(dataset: Dataset) -> Int64Array:
    """:func:`user_domains` of data without an order across domains, where a user's domains lie one behind the other.

    Raises:
        InputError: they do not.
    """
    group = user_domains(dataset)
    if (np.diff(group) < 0).any():
        raise InputError(
            "a data set without an order across domains has its domains interleaved",
            where=str(dataset.path),
            fix="convert the data again",
        )
    return group


def order_ends(dataset: Dataset) -> Int64Array:
    """(E,) for each event, where the events end that are known to be no earlier: its user's, or those in its domain."""
    if dataset.order == "within-domain":
        group = separate_domains(dataset)
        return np.searchsorted(group, group, side="right").astype(np.int64)
    return dataset.offsets[1:][event_users(dataset)]


def ask(dataset: Dataset, known: BoolArray, at: Int64Array, role: Int8Array) -> Plan:
    """The plan that asks for chosen events and hides what is not known to be earlier.

    Args:
        dataset: the data.
        known: (E,) False for events that are hidden anyway.
        at: (n,) the events to be predicted, one a user at most.
        role: (n,) validation or test.

    Raises:
        InputError: nothing to validate on, or to test.
    """
    for wanted, name in ((VALID, "validation"), (TEST, "test")):
        if not (role == wanted).any():
            raise InputError(f"this split leaves no {name} target", where=str(dataset.path), fix="hold out more")
    user, end = event_users(dataset)[at], order_ends(dataset)[at]
    roles, target_at = np.zeros(dataset.num_users, np.int8), np.full(dataset.num_users, -1, np.int64)
    roles[user], target_at[user] = role, at
    hidden = np.zeros(len(dataset.items) + 1, np.int64)
    hidden[at] += 1
    np.add.at(hidden, end, -1)
    return Plan(roles, target_at, known & (np.cumsum(hidden[:-1]) == 0))


def latest(key: Int64Array, time: Int64Array | None, percent: int) -> Int8Array:
    """(n,) roles: the latest ``percent`` % are held out, the newer half of them for the test.

    Args:
        key: (n,) order of what has one time, and of all where there are no times.
        time: (n,) or None.
        percent: of all n.
    """
    order = np.argsort(key, kind="stable") if time is None else np.lexsort((key, time))
    count = int(percent * len(key) / 100 + 0.5)
    role = np.zeros(len(key), np.int8)
    role[order[len(key) - count :]] = VALID
    role[order[len(key) - count + count // 2 :]] = TEST
    return role


def draw(names: Iterable[str], purpose: str) -> Int64Array:
    """(n,) numbers as good as random: the same for a name wherever it stands and whatever else there is."""
    digests = (hashlib.sha256(f"{purpose}\n{name}".encode()).digest()[:8] for name in names)
    return np.frombuffer(b"".join(digests), np.dtype("<i8")).astype(np.int64)
