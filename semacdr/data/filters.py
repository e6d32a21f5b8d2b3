"""Filters on raw events: time windows, repeats, the newest events of a user, iterated k-cores, fewer shared users."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from semacdr.data import schema
from semacdr.data.overlap import split_shared_users
from semacdr.data.schema import BoolArray
from semacdr.errors import InputError


@dataclass(frozen=True)
class Filters:
    """What to leave out, applied in this order: window, repeats, newest, core, overlap.

    Cores are iterated until every count holds at once. An item that falls out of a core leaves the catalogue too.
    """

    from_time: int | None = None
    """Keep events at or after this time, epoch seconds."""
    to_time: int | None = None
    """Keep events before this time, epoch seconds."""
    dedup: str | None = None
    """``rows``: the first of equal (user, item, time); ``items``: the first of equal (user, item); ``off``: all."""
    keep_last: int | None = None
    """Newest events of a user that stay (of each user and domain, where domains have no common order)."""
    min_user: int = 0
    """Least events of a user."""
    min_item: int = 0
    """Least events of an item."""
    min_user_domain: int = 0
    """Least events of a user in every domain."""
    keep_overlap: float | None = None
    """Share of the users of several domains that stay whole; each other becomes one user a domain."""
    overlap_seed: int = 0
    """Of the choice of those that stay whole."""

    def any(self) -> bool:
        """Whether any filter is set."""
        others = (value for key, value in vars(self).items() if "overlap" not in key)
        return self.keep_overlap is not None or any(value not in (None, 0, "off") for value in others)


def repeats(events: pd.DataFrame) -> BoolArray:
    """Rows that repeat an earlier row's user, item, domain and time."""
    keys = [schema.USER_ID, schema.ITEM_ID, schema.DOMAIN]
    if schema.TIMESTAMP in events:
        keys.append(schema.TIMESTAMP)
    return events.duplicated(keys).to_numpy()


def apply_filters(
    events: pd.DataFrame, items: pd.DataFrame, filters: Filters, order: schema.Order = "total"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ordered events and their items, filtered.

    Raises:
        InputError: a time window on data without time stamps.
    """
    if filters.from_time is not None or filters.to_time is not None:
        if schema.TIMESTAMP not in events:
            raise InputError("a time window needs time stamps, and this data set has none")
        time = events[schema.TIMESTAMP]
        inside = pd.Series(True, index=events.index)
        if filters.from_time is not None:
            inside &= time >= filters.from_time
        if filters.to_time is not None:
            inside &= time < filters.to_time
        events = events[inside]
    if filters.dedup == "rows":
        events = events[~repeats(events)]
    elif filters.dedup == "items":
        events = events[~events.duplicated([schema.USER_ID, schema.ITEM_ID, schema.DOMAIN])]
    if filters.keep_last:
        group = [schema.USER_ID] if order == "total" else [schema.USER_ID, schema.DOMAIN]
        events = events.groupby(group, sort=False).tail(filters.keep_last)
    if filters.min_user or filters.min_item or filters.min_user_domain:
        events = events[_core(events, items, filters)]
        if filters.min_item:
            alive = pd.MultiIndex.from_frame(events[[schema.ITEM_ID, schema.DOMAIN]].drop_duplicates())
            listed = pd.MultiIndex.from_frame(items[[schema.ITEM_ID, schema.DOMAIN]])
            items = items[listed.isin(alive)]
    if filters.keep_overlap is not None:
        events = split_shared_users(events, filters.keep_overlap, filters.overlap_seed)
    return events.reset_index(drop=True), items.reset_index(drop=True)


def _core(events: pd.DataFrame, items: pd.DataFrame, filters: Filters) -> BoolArray:
    """Which events remain in the largest subset where all the least counts hold."""
    user, _ = pd.factorize(events[schema.USER_ID])
    item = events.groupby([schema.ITEM_ID, schema.DOMAIN], sort=False).ngroup().to_numpy()
    names = pd.Index(items[schema.DOMAIN].unique())
    domain = names.get_indexer(events[schema.DOMAIN])
    users = int(user.max(initial=-1)) + 1
    alive = np.ones(len(events), np.bool_)
    while True:
        in_domain = np.bincount(user[alive] * len(names) + domain[alive], minlength=users * len(names))
        in_domain = in_domain.reshape(users, len(names))
        good_user = (in_domain.sum(axis=1) >= filters.min_user) & (in_domain.min(axis=1) >= filters.min_user_domain)
        good_item = np.bincount(item[alive], minlength=int(item.max(initial=-1)) + 1) >= filters.min_item
        kept = alive & good_user[user] & good_item[item]
        if kept.sum() == alive.sum():
            return alive
        alive = kept
