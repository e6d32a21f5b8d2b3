"""What is known of users, as the questions of two prompts: on each cluster of a user's items, and on the user.

Only events before any held-out target are read (:class:`~semacdr.data.known.KnownEvents`). In the store the rows of
users stand under a data set name of their own, so that no user is ever taken for an item of the same id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from semacdr.data import schema
from semacdr.data.dataset import Dataset
from semacdr.data.item_text import cut, item_fields
from semacdr.data.known import KnownEvents
from semacdr.data.schema import Int64Array
from semacdr.data.splits import make_split
from semacdr.errors import InputError
from semacdr.files import fingerprint
from semacdr.profiling.engines.base import Request
from semacdr.profiling.items import Planned
from semacdr.profiling.prompts import Forbidden, Prompt, load_prompts
from semacdr.profiling.store import CLUSTER_MARK
from semacdr.resources import prompts_folder

CLUSTER_VIEW, OVERALL_VIEW = "user_cluster", "user_overall"
TITLES = 15  # of a cluster, the latest; as published
TITLE_CHARACTERS = 100
BLOCK_USERS = 1024
_NOTHING_FORBIDDEN = Forbidden()


def users_of(dataset: str) -> str:
    """The name under which a store keeps the profiles of a data set's users."""
    return f"{dataset} (users)"


def cluster_id(user_id: str, cluster: int) -> str:
    """The id of one cluster of a user in the store."""
    return f"{user_id}{CLUSTER_MARK}{cluster}"


@dataclass(frozen=True)
class History:
    """One user: for each cluster of the known items, that with most events first, its latest titles, oldest first.

    ``source`` is a hash of the lines of all known items: whether a profile was asked about what is known now.
    """

    user_id: str
    clusters: tuple[tuple[int, tuple[str, ...]], ...]
    source: str

    @property
    def cluster_ids(self) -> list[str]:
        """The ids of the clusters in the store, in their order."""
        return [cluster_id(self.user_id, cluster) for cluster, _ in self.clusters]


class Histories:
    """The histories of a data set's users, block by block; the texts of the catalogue are kept in one packed table.

    Args:
        dataset: the users and their events.
        labels: (N+1,) cluster of each item, -1 where it has none; without labels no user has any cluster.
        titles: how many of a cluster are told.
    """

    def __init__(self, dataset: Dataset, labels: Int64Array | None = None, titles: int = TITLES) -> None:
        self.name = dataset.name
        self.user_ids = dataset.user_ids
        self.labels = np.full(dataset.num_items + 1, -1, np.int64) if labels is None else labels
        self.titles = titles
        self._events = KnownEvents(make_split(dataset), dataset.num_users)
        file = pq.ParquetFile(dataset.path / schema.ITEMS)
        columns = [name for name in schema.ITEM_TEXT_COLUMNS if name in file.schema_arrow.names]
        self._texts = file.read(columns=columns)

    def blocks(self, limit: int | None = None) -> Iterator[list[History]]:
        """Lists of at most ``BLOCK_USERS`` histories, the first ``limit`` users of the data set in all."""
        count = len(self.user_ids) if limit is None else min(limit, len(self.user_ids))
        for start in range(0, count, BLOCK_USERS):
            yield self._block(range(start, min(start + BLOCK_USERS, count)))

    def of(self, user: int) -> History:
        """The history of the user with this index."""
        return self._block([user])[0]

    def _block(self, users: Sequence[int]) -> list[History]:
        events = [self._events.of(user) for user in users]
        items = np.unique(np.concatenate(events))
        rows = self._texts.take(items - 1).to_pylist()
        lines = {int(item): item_line(row) for item, row in zip(items, rows)}
        return [self._history(user, mine.tolist(), lines) for user, mine in zip(users, events)]

    def _history(self, user: int, events: Sequence[int], lines: Mapping[int, str]) -> History:
        groups: dict[int, list[str]] = {}
        for item in events:
            if self.labels[item] >= 0 and lines[item]:
                groups.setdefault(int(self.labels[item]), []).append(lines[item])
        order = sorted(groups, key=lambda cluster: (-len(groups[cluster]), cluster))
        told = tuple((cluster, self._latest(groups[cluster])) for cluster in order)
        return History(str(self.user_ids[user]), told, fingerprint([lines[item] for item in events])[:16])

    def _latest(self, lines: list[str]) -> tuple[str, ...]:
        """The latest different lines, oldest first."""
        return tuple(list(dict.fromkeys(reversed(lines)))[: self.titles][::-1])


def item_line(row: Mapping[str, Any]) -> str:
    """What a list of a user's items says of one: its title, or else the rest of what is known; empty without text."""
    fields = item_fields(row)
    rest = "; ".join(text for name, text in fields.items() if name not in ("year", "price"))
    return cut(fields.get("title") or rest, TITLE_CHARACTERS)


@dataclass(frozen=True)
class UserPrompts:
    """The two prompts: about one cluster of a user's items, and about the user."""

    cluster: Prompt
    overall: Prompt

    @classmethod
    def load(cls, chosen: Sequence[Path] | None = None, structured: bool = False) -> UserPrompts:
        """The prompts that ship here, or those of the given files or folders in place of them.

        Raises:
            InputError: a template of another view, or one that cannot be read.
        """
        given = {prompt.view: prompt for prompt in load_prompts(list(chosen), structured)} if chosen else {}
        for view, prompt in given.items():
            if view not in (CLUSTER_VIEW, OVERALL_VIEW):
                fix = f"templates of the views {CLUSTER_VIEW} and {OVERALL_VIEW}, as in prompts/user/"
                raise InputError(f"a prompt for the view {view!r}", where=str(prompt.path), fix=fix)
        for view, folder in ((CLUSTER_VIEW, "cluster"), (OVERALL_VIEW, "overall")):
            if view not in given:
                given[view] = load_prompts([prompts_folder() / "user" / folder], structured)[0]
        return cls(given[CLUSTER_VIEW], given[OVERALL_VIEW])

    def cluster_request(self, titles: Sequence[str]) -> Request:
        """The question about the items of one cluster."""
        return self.cluster.request({"titles": list(titles)})

    def overall_request(self, summaries: Sequence[str]) -> Request:
        """The question about a user whose clusters were summarised so."""
        return self.overall.request({"summaries": list(summaries)})

    def plan_clusters(self, users: Sequence[History]) -> list[Planned]:
        """A question for every cluster of every user."""
        return [
            Planned(cluster_id(user.user_id, cluster), self.cluster_request(titles), _NOTHING_FORBIDDEN)
            for user in users
            for cluster, titles in user.clusters
        ]

    def plan_overall(self, users: Sequence[History], summaries: Mapping[str, str]) -> list[Planned]:
        """A question for every user with at least one summary; ``summaries`` are found by the ids of the clusters."""
        planned = []
        for user in users:
            mine = [summaries[name] for name in user.cluster_ids if name in summaries]
            if mine:
                planned.append(Planned(user.user_id, self.overall_request(mine), _NOTHING_FORBIDDEN, user.source))
        return planned
