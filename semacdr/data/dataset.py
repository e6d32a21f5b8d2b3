"""A cross-domain data set in memory: every user's events in published order, as flat arrays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from semacdr.data import schema
from semacdr.data.schema import BoolArray, Int8Array, Int32Array, Int64Array, StrArray
from semacdr.errors import InputError, nearest
from semacdr.files import read_json


@dataclass(frozen=True)
class Catalogue:
    """What a model knows of the items: ids, domains and how often each occurs in training.

    Index 0 of every array is padding: id ``""``, domain -1, count 0.
    """

    item_ids: StrArray  # (N+1,)
    item_domain: Int8Array  # (N+1,), index into ``domains``
    domains: tuple[str, ...]
    train_count: Int64Array  # (N+1,)

    @property
    def num_items(self) -> int:
        """N, without the padding id."""
        return len(self.item_ids) - 1

    def domain_items(self, domain: int) -> Int64Array:
        """The item indices of one domain, ascending."""
        return np.flatnonzero(self.item_domain == domain)

    def domain_index(self, name: str) -> int:
        """Index of a domain's name; an unknown name is an :class:`InputError`."""
        if name not in self.domains:
            raise InputError(f"no domain {name!r} in this data set", fix=nearest(name, self.domains))
        return self.domains.index(name)


@dataclass(frozen=True)
class PublishedTargets:
    """A published split: the history of a target is its user's events before ``position``."""

    split: StrArray  # (T,) of SplitName
    user: Int32Array  # (T,)
    item: Int32Array  # (T,)
    position: Int32Array  # (T,)


@dataclass(frozen=True)
class Dataset:
    """Users' event sequences over the items of two or more domains.

    ``items[offsets[u]:offsets[u + 1]]`` are the events of user ``u`` in published order.
    """

    path: Path
    manifest: dict[str, Any]
    item_ids: StrArray  # (N+1,)
    item_domain: Int8Array  # (N+1,)
    domains: tuple[str, ...]
    user_ids: StrArray  # (U,)
    offsets: Int64Array  # (U+1,)
    items: Int32Array  # (E,)
    timestamps: Int64Array | None  # (E,) epoch seconds
    targets: PublishedTargets | None

    @property
    def name(self) -> str:
        """The data set's name, as its manifest gives it."""
        return str(self.manifest["name"])

    @property
    def order(self) -> schema.Order:
        """Whether the events of different domains are ordered among each other."""
        return cast(schema.Order, self.manifest["order"])

    @property
    def time_unit(self) -> schema.TimeUnit:
        """Resolution of the time stamps."""
        return cast(schema.TimeUnit, self.manifest["time_unit"])

    @property
    def num_users(self) -> int:
        """U."""
        return len(self.user_ids)

    @property
    def num_items(self) -> int:
        """N, without the padding id."""
        return len(self.item_ids) - 1

    @property
    def fingerprint(self) -> str:
        """Hash of the data files, from the manifest."""
        return str(self.manifest["fingerprint"])

    @cached_property
    def item_index(self) -> dict[str, int]:
        """Index of each item id."""
        return {str(item): index for index, item in enumerate(self.item_ids) if index}

    @cached_property
    def user_index(self) -> dict[str, int]:
        """Index of each user id."""
        return {str(user): index for index, user in enumerate(self.user_ids)}

    def item_frame(self) -> pd.DataFrame:
        """``items.parquet`` as it stands: row ``i`` is item index ``i + 1``."""
        return pd.read_parquet(self.path / schema.ITEMS)

    def catalogue(self, train_count: Int64Array | None = None) -> Catalogue:
        """The items as a model sees them; without counts, all are zero."""
        count = np.zeros(self.num_items + 1, np.int64) if train_count is None else train_count
        return Catalogue(self.item_ids, self.item_domain, self.domains, count)

    @classmethod
    def load(cls, path: str | Path) -> Dataset:
        """Reads a data set folder.

        Raises:
            InputError: not a data set folder, written by a newer version, or damaged.
        """
        path = Path(path)
        if not (path / schema.MANIFEST).is_file():
            raise InputError(
                "not a data set folder (no dataset.json)",
                where=str(path),
                fix="make one with: semacdr data convert --format F --input DIR --output DIR",
            )
        manifest = read_json(path / schema.MANIFEST)
        if manifest.get("format_version") != schema.FORMAT_VERSION:
            raise InputError(
                f"data set format {manifest.get('format_version')}, this version reads {schema.FORMAT_VERSION}",
                where=str(path / schema.MANIFEST),
                fix="convert the data again",
            )
        domains = tuple(manifest["domains"])
        try:
            items = pd.read_parquet(path / schema.ITEMS, columns=[schema.ITEM_ID, schema.DOMAIN])
            events = pd.read_parquet(
                path / schema.INTERACTIONS, columns=[schema.USER_ID, schema.ITEM_ID, schema.TIMESTAMP]
            )
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"damaged data set ({error})", where=str(path), fix="convert the data again") from None

        item_ids = np.concatenate([[""], items[schema.ITEM_ID].to_numpy(dtype=object)]).astype(object)
        domain_codes = pd.Categorical(items[schema.DOMAIN], categories=domains).codes
        item_domain = np.concatenate([[-1], domain_codes]).astype(np.int8)
        index = pd.Index(item_ids[1:])
        event_items = (index.get_indexer(events[schema.ITEM_ID].to_numpy(dtype=object)) + 1).astype(np.int32)
        if (event_items == 0).any() or (item_domain[1:] < 0).any():
            wrong = "an event or a domain names an unknown item"
            raise InputError(wrong, where=str(path), fix="convert the data again")
        user_codes, user_ids = pd.factorize(events[schema.USER_ID].to_numpy(dtype=object))
        if (np.diff(user_codes) < 0).any():
            raise InputError("events are not grouped by user", where=str(path), fix="convert the data again")
        offsets = np.searchsorted(user_codes, np.arange(len(user_ids) + 1)).astype(np.int64)
        has_time = manifest["time_unit"] != "none"
        timestamps = events[schema.TIMESTAMP].to_numpy(dtype=np.int64) if has_time else None
        return cls(
            path=path,
            manifest=manifest,
            item_ids=item_ids,
            item_domain=item_domain,
            domains=domains,
            user_ids=np.asarray(user_ids, dtype=object),
            offsets=offsets,
            items=event_items,
            timestamps=timestamps,
            targets=_read_targets(path, user_ids, index, np.diff(offsets)),
        )

    def known_item(self, item_id: str) -> int:
        """Index of an item id; an unknown id is an :class:`InputError`."""
        if item_id not in self.item_index:
            raise InputError(f"no item {item_id!r} in data set {self.name}", fix="see items.parquet for the ids")
        return self.item_index[item_id]

    def known_user(self, user_id: str) -> int:
        """Index of a user id; an unknown id is an :class:`InputError`."""
        if user_id not in self.user_index:
            raise InputError(f"no user {user_id!r} in data set {self.name}", fix="see interactions.parquet for the ids")
        return self.user_index[user_id]

    def user_items(self, user: int) -> Int32Array:
        """All events of a user, in order."""
        return self.items[self.offsets[user] : self.offsets[user + 1]]


def _read_targets(path: Path, user_ids: StrArray, items: pd.Index[Any], length: Int64Array) -> PublishedTargets | None:
    if not (path / schema.TARGETS).is_file():
        return None
    frame = pd.read_parquet(path / schema.TARGETS)
    user = pd.Index(user_ids).get_indexer(pd.Index(frame[schema.USER_ID])).astype(np.int32)
    item = (items.get_indexer(pd.Index(frame[schema.ITEM_ID])) + 1).astype(np.int32)
    unknown: BoolArray = (user < 0) | (item == 0)
    if unknown.any():
        raise InputError(f"{int(unknown.sum())} targets name an unknown user or item", where=str(path / schema.TARGETS))
    position = frame[schema.POSITION].to_numpy(dtype=np.int32)
    outside = (position < 0) | (position > length[user])
    if outside.any():
        raise InputError(f"{int(outside.sum())} targets stand behind their history", where=str(path / schema.TARGETS))
    return PublishedTargets(split=frame[schema.SPLIT].to_numpy(dtype=object), user=user, item=item, position=position)
