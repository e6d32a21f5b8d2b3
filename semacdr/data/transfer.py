"""The transfer test: what can be predicted in a domain of users whose history there is hidden (systems.md 4.2).

Of the users with a history in both domains, a third are test users and a sixth validation users. Each one's last event
in the target domain is to be predicted; x % of the events before it there are hidden, in training too, so that the
other domains have to speak for the user. Who is chosen, what is hidden first and what is predicted do not depend on x:
the events hidden at 50 are among those hidden at 80, and a model's results at each x are of the same targets.
"""

from __future__ import annotations

import numpy as np

from semacdr.data.dataset import Dataset
from semacdr.data.plan import TEST, VALID, Plan
from semacdr.errors import InputError

TEST_SHARE, VALID_SHARE = 1 / 3, 1 / 6
MIN_TARGET_EVENTS = 3  # one to predict, and two of which something can be hidden and something stay
SEED = 20_251


def plan_transfer(dataset: Dataset, percent: int, domain: str, seed: int = SEED) -> Plan:
    """Chooses the users and hides their events.

    Args:
        dataset: the data, with a known order across domains and no published split.
        percent: x, from 0 to 100, of a chosen user's events in the target domain before the one to be predicted.
        domain: name of the target domain.
        seed: of the choice; each user has a random stream of its own.

    Raises:
        InputError: an unknown domain, a percentage out of range, data that cannot be hidden so, or no user to ask.
    """
    target_domain = dataset.catalogue().domain_index(domain)
    if not 0 <= percent <= 100:
        raise InputError(f"transfer-{percent} hides {percent} %", fix="a whole number from 0 to 100")
    if dataset.targets is not None or dataset.order == "within-domain":
        why = "has a published split" if dataset.targets is not None else "has no order across domains"
        raise InputError(f"data set {dataset.name} {why}, so no history can be hidden", where="split=transfer-...")
    inside = dataset.item_domain[dataset.items] == target_domain
    role = np.zeros(dataset.num_users, np.int8)
    target_at = np.full(dataset.num_users, -1, np.int64)
    known = np.ones(len(dataset.items), np.bool_)
    for user in range(dataset.num_users):
        start, stop = dataset.offsets[user], dataset.offsets[user + 1]
        own = start + np.flatnonzero(inside[start:stop])
        if len(own) < MIN_TARGET_EVENTS or own[-1] - start == len(own) - 1:  # or nothing else happened before
            continue
        random = np.random.default_rng([seed, user])
        draw = random.random()
        if draw >= TEST_SHARE + VALID_SHARE:
            continue
        before = own[:-1]
        count = int(percent * len(before) / 100 + 0.5)
        role[user] = TEST if draw < TEST_SHARE else VALID
        target_at[user] = own[-1]
        known[random.permutation(before)[:count]] = False
        known[own[-1] : stop] = False
    if not (role == TEST).any() or not (role == VALID).any():
        raise InputError(
            f"too few users have {MIN_TARGET_EVENTS} events in {domain} and one elsewhere before the last of them",
            where=str(dataset.path),
        )
    return Plan(role, target_at, known)
