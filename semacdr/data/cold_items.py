"""The cold-item split: items that training never saw are to be recommended.

Of the items of each domain that have an event, the latest p % by their first event are held out of training: the newer
half for the test, the other for validation. Where the data have no times they are drawn. A user is asked for its last
event with a held-out item, from its earlier events with trained items; what comes after is used nowhere. Users without
such an event train on all their trained items.

Only the items are new: other users' events of any time train. Without an order across domains the domain is drawn among
those where the user has something to be asked for, and the whole of its other domains counts as earlier.
"""

from __future__ import annotations

import numpy as np

from semacdr.data.dataset import Dataset
from semacdr.data.plan import TRAIN, Plan, ask, draw, event_users, latest, order_ends, user_domains
from semacdr.data.schema import BoolArray, Int8Array, Int64Array


def plan_cold_items(dataset: Dataset, percent: int) -> Plan:
    """Chooses the items, and what each user is asked for. A published split is not looked at, only the events are.

    Args:
        dataset: the data.
        percent: of the items of each domain, from 1 to 99.

    Raises:
        InputError: nothing to validate on, or to test.
    """
    role = held_out_items(dataset, percent)[dataset.items]
    known: BoolArray = role == TRAIN
    at = _last_of_each(dataset, ~known)
    # A target needs an earlier event of a trained item: all of the user's, but for those from the target on.
    user, before = event_users(dataset)[at], np.r_[0, np.cumsum(known)]
    whole = before[dataset.offsets[user + 1]] - before[dataset.offsets[user]]
    at = at[whole > before[order_ends(dataset)[at]] - before[at]]
    at = _one_a_user(dataset, at)
    return ask(dataset, known, at, role[at])


def held_out_items(dataset: Dataset, percent: int) -> Int8Array:
    """(N+1,) the role of each item: 0 where it trains, or has no event."""
    there = np.bincount(dataset.items, minlength=dataset.num_items + 1) > 0
    first = None
    if dataset.timestamps is not None:
        first = np.full(dataset.num_items + 1, np.iinfo(np.int64).max)
        np.minimum.at(first, dataset.items, dataset.timestamps)
    role = np.zeros(dataset.num_items + 1, np.int8)
    for domain in range(len(dataset.domains)):
        items = np.flatnonzero(there & (dataset.item_domain == domain))
        key = draw(dataset.item_ids[items], "cold-item")
        role[items] = latest(key, None if first is None else first[items], percent)
    return role


def _last_of_each(dataset: Dataset, held: BoolArray) -> Int64Array:
    """The last held-out event of each user that has one; without an order across domains, in each domain."""
    at = np.flatnonzero(held)
    group = (user_domains(dataset) if dataset.order == "within-domain" else event_users(dataset))[at]
    return at[np.r_[group[1:] != group[:-1], True]] if len(at) else at


def _one_a_user(dataset: Dataset, at: Int64Array) -> Int64Array:
    """Of several events of a user, each in another domain, one that is drawn."""
    user = event_users(dataset)[at]
    domain = dataset.item_domain[dataset.items[at]]
    names = (f"{dataset.user_ids[who]}\n{dataset.domains[where]}" for who, where in zip(user, domain))
    order = np.lexsort((draw(names, "cold-item"), user))
    return at[order[np.r_[True, np.diff(user[order]) != 0]]] if len(at) else at
