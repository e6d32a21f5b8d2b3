"""RecBole's data sets and what our models want to know of them.

RecBole turns the events ``i1 i2 i3`` of a user into rows ``(i1) -> i2`` and ``(i1 i2) -> i3``, histories cut at
``MAX_ITEM_LIST_LENGTH``, and then divides the rows. The events come back as each user's first history and the items of
its rows, in order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from recbole.data.dataset import SequentialDataset
from recbole.utils import FeatureType

from semacdr.data.dataset import Catalogue, Dataset
from semacdr.data.schema import Int8Array, Int32Array, Int64Array, StrArray
from semacdr.data.splits import Examples, TrainSequences
from semacdr.embedding.content import content_texts
from semacdr.embedding.semantic_ids import SemanticIds
from semacdr.embedding.table import USERS, EmbeddingTable
from semacdr.errors import InputError
from semacdr.models.base import Recommender, SideData, TextTables
from semacdr.progress import say
from semacdr.recbole.settings import (
    DOMAIN_FIELD,
    EMBEDDINGS,
    IDS,
    ITEM_TEXTS,
    USER_EMBEDDINGS,
    WHOLE_SEQUENCES,
    complete,
    domain_field,
    read_settings,
)
from semacdr.run import item_codes

MAX_DOMAINS = 127  # domain indices are int8


class CrossDomainDataset(SequentialDataset):
    """RecBole's sequential data set with our defaults, and with the domain column loaded."""

    def __init__(self, config: Any) -> None:
        complete(config)
        super().__init__(config)

    def build(self) -> list[Any]:
        """Training, validation and test rows."""
        train, *held_out = super().build()
        return [whole_sequences(train) if self.config[WHOLE_SEQUENCES] else train, *held_out]


def whole_sequences(train: Any) -> Any:
    """The training rows that are enough if every event of a row's history, and not only its item, is a target.

    Of each user the newest row and every L-th before it, so that each event is a target in one row. ``every_row`` of
    the result is the training part as it was.
    """
    user = train.inter_feat[train.uid_field].numpy()
    order = np.argsort(user, kind="stable")
    stop = np.searchsorted(user[order], user[order], side="right")
    newest_first = stop - 1 - np.arange(len(order))
    kept = train.copy(train.inter_feat[order[newest_first % train.max_item_list_len == 0]])
    kept.every_row = train
    return kept


class Events:
    """The users' events in order, from the rows of one or more parts of a RecBole data set.

    items: (E,) events, grouped by user.
    part: (E,) which of the parts has the event as a target; -1 for events that no row predicts.
    offsets: (S+1,) where each user's events begin.
    user: (S,) RecBole's user ids.
    """

    def __init__(self, *parts: Any) -> None:
        """Reads the parts, which are in the order of time: training, validation, test."""
        parts = tuple(getattr(part, "every_row", part) for part in parts)
        columns = [_columns(part) for part in parts]
        user, target, length = (np.concatenate([column[at] for column in columns]) for at in range(3))
        of = np.concatenate([np.full(len(column[0]), index, np.int64) for index, column in enumerate(columns)])
        order = np.argsort(user, kind="stable")
        user, target, length, of = user[order], target[order], length[order], of[order]
        opens = np.flatnonzero(np.r_[True, user[1:] != user[:-1]]) if len(user) else np.zeros(0, np.int64)

        rows = np.diff(np.r_[opens, len(user)])
        before = length[opens]
        self.user = user[opens].astype(np.int32)
        self.offsets: Int64Array = np.r_[0, np.cumsum(before + rows)].astype(np.int64)
        self.items: Int32Array = np.zeros(self.offsets[-1], np.int32)
        self.part = np.full(self.offsets[-1], -1, np.int64)
        sequence = np.repeat(np.arange(len(opens)), rows)
        at = np.arange(len(user)) - opens[sequence] + (self.offsets[:-1] + before)[sequence]
        self.items[at], self.part[at] = target, of
        self._open(parts, columns, order[opens], before)

    def _open(self, parts: tuple[Any, ...], columns: list[Any], rows: Int64Array, before: Int64Array) -> None:
        """Fills in the histories of the users' first rows."""
        first = np.cumsum([0, *(len(column[0]) for column in columns)])
        for index, part in enumerate(parts):
            here = np.flatnonzero((rows >= first[index]) & (rows < first[index + 1]))
            history = part.inter_feat[part.iid_field + part.config["LIST_SUFFIX"]].numpy()[rows[here] - first[index]]
            inside = np.arange(history.shape[1]) < before[here, None]
            at = self.offsets[:-1][here, None] + np.arange(history.shape[1])
            self.items[at[inside]] = history[inside]

    def sequences(self) -> TrainSequences:
        """All events as training sequences, the first event of each user a training event as well."""
        rows = np.arange(len(self.user), dtype=np.int32)
        return TrainSequences(self.items, np.ones(len(self.items), np.bool_), self.offsets[:-1], self.offsets[1:], rows)

    def examples(self, part: int) -> Examples:
        """The targets of one part, each with the whole history before it."""
        at = np.flatnonzero(self.part == part)
        row = (np.searchsorted(self.offsets, at, side="right") - 1).astype(np.int32)
        strict = np.ones(len(at), np.bool_)
        return Examples(self.items, self.offsets[row], at, row, self.items[at], strict)


def _columns(part: Any) -> tuple[Int64Array, Int64Array, Int64Array]:
    """User, target and length of the history of each row."""
    rows = part.inter_feat
    return tuple(rows[field].numpy() for field in (part.uid_field, part.iid_field, part.item_list_length_field))


def catalogue(config: Any, dataset: Any, train: TrainSequences) -> Catalogue:
    """The items of a RecBole data set under RecBole's own ids, with their counts in training.

    Raises:
        InputError: the domain field is absent though asked for, is no ``token`` field, or an item has no domain.
    """
    item_ids: StrArray = np.asarray(dataset.field2id_token[dataset.iid_field]).astype(object)
    item_ids[0] = ""
    item_domain, domains = _domains(config, dataset, len(item_ids))
    count = np.bincount(train.items, minlength=len(item_ids)).astype(np.int64)
    return Catalogue(item_ids, item_domain, domains, count)


def _domains(config: Any, dataset: Any, size: int) -> tuple[Int8Array, tuple[str, ...]]:
    field, where = domain_field(config), f"{dataset.dataset_name}.item"
    fields = [] if dataset.item_feat is None else list(dataset.item_feat.columns)
    if field not in fields:
        if config[DOMAIN_FIELD]:
            raise InputError(f"field {field!r} was not loaded", where=where, fix="name it in load_col, under item")
        say(f"{config['model']}: no field {field!r} in {where}, so all items form one domain")
        return np.array([-1, *[0] * (size - 1)], np.int8), ("all",)
    if dataset.field2type[field] != FeatureType.TOKEN:
        kind = dataset.field2type[field].value
        raise InputError(f"{field!r} is a {kind} field, a domain is a token", where=where, fix="an item has one domain")
    code = dataset.item_feat[field].numpy()  # (N+1,), 0 where there is none
    names = dataset.field2id_token[field]
    missing = np.flatnonzero(code[1:] == 0) + 1
    if len(missing):
        example = str(dataset.field2id_token[dataset.iid_field][missing[0]])
        raise InputError(f"{len(missing)} items have no {field!r}, for example {example!r}", where=where)
    used, index = np.unique(code[1:], return_inverse=True)
    if len(used) > MAX_DOMAINS:
        raise InputError(f"{len(used)} values of {field!r}, at most {MAX_DOMAINS} domains are possible", where=where)
    return np.r_[-1, index].astype(np.int8), tuple(str(names[value]) for value in used)


def text_tables(config: Any, item_ids: StrArray) -> TextTables | None:
    """The text embeddings of the items, or None without ``semacdr_embeddings``."""
    if not config[EMBEDDINGS]:
        say(f"{config['model']}: no {EMBEDDINGS}, so it runs on ids")
        return None
    table = EmbeddingTable.load(config[EMBEDDINGS])
    return {view: torch.from_numpy(matrix) for view, matrix in table.aligned(item_ids).items()}


def side_data(cls: type[Recommender], config: Any, dataset: Any, item_ids: StrArray, train: TrainSequences) -> SideData:
    """What a class reads beside item vectors, as far as the settings name it; users go by RecBole's own ids."""
    vectors = texts = None
    if cls.reads_users and config[USER_EMBEDDINGS]:
        table = EmbeddingTable.load(config[USER_EMBEDDINGS], USERS)
        known = table.aligned_users(dataset.field2id_token[dataset.uid_field][1:])
        vectors = torch.from_numpy(np.pad(known, ((1, 0), (0, 0))))  # RecBole's users begin at 1
    if cls.reads_item_texts and config[ITEM_TEXTS]:
        named = Dataset.load(config[ITEM_TEXTS])
        by_item = dict(zip(named.item_ids[1:], content_texts(named.item_frame())))
        texts = [by_item.get(item) or "" for item in item_ids]
    codes = None
    if cls.needs_codes(read_settings(config)):
        ids = SemanticIds.load(config[IDS]) if config[IDS] else None
        codes = item_codes(ids, item_ids, config["model"], option=f"{IDS}:")
    sequences = train if cls.reads_sequences else None
    return SideData(int(dataset.user_num), vectors, texts, sequences, codes=codes)
