"""Builds the embedding table of a data set: content, and a view for each kind of profile.

Profiles of users give a table of the users, keyed by user id, with the views of the file alone.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from semacdr.data.dataset import Dataset
from semacdr.data.schema import ITEM_ID, USER_ID, Int64Array
from semacdr.embedding.content import CONTENT_VERSION, content_texts
from semacdr.embedding.encoder import DEFAULT_BATCH_SIZE, TextEncoder, encode_resumable
from semacdr.embedding.table import ITEMS, KIND, USERS, EmbeddingTable, write_table
from semacdr.errors import InputError
from semacdr.files import fingerprint, holds_finished

CONTENT = "content"


@dataclass(frozen=True)
class ViewTexts:
    """The text of every item, or user, in one view.

    Attributes:
        texts: one for each; ``None`` where there is none.
        fallback: how many items have no profile in this view and take their content text instead.
    """

    texts: list[str | None]
    fallback: int = 0

    @property
    def with_text(self) -> int:
        """How many have a text of any kind."""
        return sum(text is not None for text in self.texts)


def read_profiles(path: Path) -> pd.DataFrame:
    """Reads a file of ``semacdr profile export`` (columns item_id or user_id, view, text).

    Raises:
        InputError: no such file, not parquet, a missing column, or two texts for one item or user and view.
    """
    fix = "make it with: semacdr profile export --dataset DIR --store FILE --out profiles.parquet"
    if not path.is_file():
        raise InputError("no such file", where=str(path), fix=fix)
    try:
        key = USER_ID if USER_ID in pq.read_schema(path).names else ITEM_ID
        frame = pd.read_parquet(path, columns=[key, "view", "text"])
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"not a profiles file ({error})", where=str(path), fix=fix) from None
    twice = frame.duplicated([key, "view"])
    if twice.any():
        first = frame[twice].iloc[0]
        what = f"{key.removesuffix('_id')} {first[key]!r} has two texts in view {first['view']!r}"
        raise InputError(what, where=str(path), fix=fix)
    return frame


def view_texts(dataset: Dataset, profiles: pd.DataFrame | None = None) -> dict[str, ViewTexts]:
    """The texts of every view: content first, then the profiles' views in the order of the file.

    An item without a profile falls back to its content text in that view, and is counted.

    Raises:
        InputError: none of the profiles belongs to an item of the data set.
    """
    content = content_texts(dataset.item_frame())
    views = {CONTENT: ViewTexts(content)}
    if profiles is None:
        return views
    if not profiles["item_id"].isin(dataset.item_index).any():
        raise InputError(f"none of the profiles belongs to an item of data set {dataset.name}")
    for view, group in profiles.groupby("view", sort=False):
        if view == CONTENT:
            raise InputError(f"a profile view cannot be named {CONTENT!r}")
        by_item: Mapping[str, str] = dict(zip(group["item_id"], group["text"]))
        own = [by_item.get(str(item)) or None for item in dataset.item_ids[1:]]
        texts = [text or instead for text, instead in zip(own, content)]
        fallback = sum(text is None and instead is not None for text, instead in zip(own, content))
        views[str(view)] = ViewTexts(texts, fallback=fallback)
    return views


def user_texts(dataset: Dataset, profiles: pd.DataFrame) -> dict[str, ViewTexts]:
    """The texts of every view of the users, in the order of the file; a user without a profile has none.

    Raises:
        InputError: none of the profiles belongs to a user of the data set.
    """
    if not profiles[USER_ID].isin(dataset.user_index).any():
        raise InputError(f"none of the profiles belongs to a user of data set {dataset.name}")
    views = {}
    for view, group in profiles.groupby("view", sort=False):
        by_user: Mapping[str, str] = dict(zip(group[USER_ID], group["text"]))
        views[str(view)] = ViewTexts([by_user.get(str(user)) or None for user in dataset.user_ids])
    return views


def build_table(
    dataset: Dataset,
    encoder: TextEncoder,
    out: Path,
    profiles: pd.DataFrame | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
) -> dict[str, Any]:
    """Encodes the views of a data set into a table folder, unless that very table is there already.

    Profiles of users, told by their column ``user_id``, give a table of the users; otherwise it is one of the items.

    Returns:
        A summary: subject, skipped, fingerprint, encoder, text_dim, per-view counts, distinct texts, and the time.

    Raises:
        InputError: ``out`` holds something that is not an embedding table, or the data set has no text at all.
    """
    started, cpu_started = time.monotonic(), time.process_time()
    if profiles is not None and USER_ID in profiles:
        subject, ids, views = USERS, dataset.user_ids, user_texts(dataset, profiles)
    else:
        subject, ids, views = ITEMS, dataset.item_ids[1:], view_texts(dataset, profiles)
    distinct = {text: row for row, text in enumerate(dict.fromkeys(t for v in views.values() for t in v.texts if t))}
    if not distinct:
        fix = "convert the data with a title or another text column, or give profiles: --profiles FILE"
        raise InputError(f"none of the {subject} has any text to embed", where=str(dataset.path), fix=fix)
    inputs = {
        **({} if subject == ITEMS else {"subject": subject}),  # tables of items have the fingerprints they had
        "encoder": encoder.identity,
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "content_version": CONTENT_VERSION,
        "batch_size": batch_size,
    }
    key = fingerprint({**inputs, "views": {view: texts.texts for view, texts in views.items()}})
    counts = {
        view: {subject: len(texts.texts), "with_text": texts.with_text, "fallback": texts.fallback}
        for view, texts in views.items()
    }
    skipped = holds_finished(out, KIND, key)
    work = out.with_name(f".{out.name}.work")
    if not skipped:
        vectors = encode_resumable(encoder, list(distinct), work, batch_size)
        rows: dict[str, Int64Array] = {
            view: np.array([distinct[text] if text else -1 for text in texts.texts], dtype=np.int64)
            for view, texts in views.items()
        }
        write_table(out, ids, vectors, rows, {"fingerprint": key, **inputs, "views": counts})
        del vectors
    shutil.rmtree(work, ignore_errors=True)  # also what a kill just before this line left
    return {
        "out": str(out),
        "subject": subject,
        "skipped": skipped,
        "fingerprint": key,
        "encoder": encoder.identity,
        "text_dim": EmbeddingTable.load(out, subject).text_dim,
        "views": counts,
        "distinct_texts": len(distinct),
        "seconds": round(time.monotonic() - started, 3),
        "cpu_seconds": round(time.process_time() - cpu_started, 3),
    }
