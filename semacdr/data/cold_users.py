"""The cold-user split: a user's first step into a domain, from what it did in the others.

A user that has events in two domains or more can be asked for the first event in the domain that it enters last: all
that it did before is in other domains. p % of these users are asked, those whose step is the latest: the newest half
for the test, the others for validation. What such a user does from that event on is used nowhere. Where the data have
no times the users are drawn; without an order across domains the domain is drawn too, and the user's events in its
other domains are the history. The results by domain are then the directions of the step.
"""

from __future__ import annotations

import numpy as np

from semacdr.data.dataset import Dataset
from semacdr.data.plan import TRAIN, Plan, ask, draw, latest, user_domains
from semacdr.data.schema import Int64Array


def plan_cold_users(dataset: Dataset, percent: int) -> Plan:
    """Chooses the users and what they are asked for. A published split is not looked at, only the events are.

    Args:
        dataset: the data.
        percent: of the users with events in two domains or more, from 1 to 99.

    Raises:
        InputError: nothing to validate on, or to test.
    """
    at = _steps(dataset)
    user = np.searchsorted(dataset.offsets, at, side="right") - 1
    ordered = dataset.timestamps is not None and dataset.order == "total"
    time = dataset.timestamps[at] if ordered else None  # type: ignore[index]
    role = latest(draw(dataset.user_ids[user], "cold-user"), time, percent)
    asked = role != TRAIN
    return ask(dataset, np.ones(len(dataset.items), np.bool_), at[asked], role[asked])


def _steps(dataset: Dataset) -> Int64Array:
    """Of each user with events in several domains, the first in the domain that it enters last, or that is drawn."""
    group, first = np.unique(user_domains(dataset), return_index=True)
    user, domain = group // len(dataset.domains), group % len(dataset.domains)
    rank = first.astype(np.int64)
    if dataset.order == "within-domain":
        names = (f"{dataset.user_ids[who]}\n{dataset.domains[where]}" for who, where in zip(user, domain))
        rank = draw(names, "cold-user, domain")
    order = np.lexsort((rank, user))
    last = np.r_[user[1:] != user[:-1], True] & np.r_[False, user[1:] == user[:-1]] if len(user) else user > 0
    return first[order[last]].astype(np.int64)
