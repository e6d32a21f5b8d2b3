"""Fewer users in common: what is left of cross-domain recommendation when hardly anybody is known in both domains."""

from __future__ import annotations

import numpy as np
import pandas as pd

from semacdr.data import schema
from semacdr.errors import InputError


def split_shared_users(events: pd.DataFrame, keep: float, seed: int = 0) -> pd.DataFrame:
    """Keeps a share of the users of several domains whole; of each other user makes one user for each of its domains.

    No event is lost. The choice depends on the users' ids and the seed alone. A new user is named ``USER/DOMAIN``.

    Args:
        events: grouped by user, each user's in order.
        keep: share of the users of several domains that stay as they are, 0 to 1.
        seed: of the choice.

    Returns:
        the events, grouped by user again.

    Raises:
        InputError: a share outside 0 to 1, or a new name that another user has.
    """
    if not 0 <= keep <= 1:
        raise InputError(f"the share of shared users to keep is {keep}", fix="between 0 and 1")
    user, domain = events[schema.USER_ID].astype(str), events[schema.DOMAIN].astype(str)
    domains = domain.groupby(user).nunique()
    shared = np.sort(domains.index[domains > 1].to_numpy(dtype=object))
    order = np.random.default_rng(seed).permutation(len(shared))
    parted = user.isin(shared[order[round(keep * len(shared)) :]])
    renamed = user.mask(parted, user + "/" + domain)
    taken = set(renamed[parted]) & set(user)
    if taken:
        raise InputError(f"{len(taken)} user(s) have the name of a part of another, {min(taken)!r} for one")
    events = events.assign(**{schema.USER_ID: renamed})
    return events.iloc[np.argsort(pd.factorize(renamed)[0], kind="stable")].reset_index(drop=True)
