"""The data contract: file names, column names and the meaning of each, in one place.

A data set folder holds

* ``interactions.parquet``: one row an event, grouped by user, in the published order;
* ``items.parquet``: one row an item of the catalogue, items without an event included;
* ``targets.parquet``: only for published splits, one row a target;
* ``dataset.json``: the manifest (name, domains, order, time unit, settings, counts, fingerprint).

Shape letters used in the whole package: B batch, L length, D embedding dim, E text dim, N items, U users,
K negatives, H heads, V views. Item id 0 is padding; items are 1..N, in the order of ``items.parquet``.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

INTERACTIONS = "interactions.parquet"
ITEMS = "items.parquet"
TARGETS = "targets.parquet"
MANIFEST = "dataset.json"
FORMAT_VERSION = 1

USER_ID = "user_id"  # string
ITEM_ID = "item_id"  # string, unique over all domains
DOMAIN = "domain"  # string
TIMESTAMP = "timestamp"  # int64, UTC epoch seconds; null where the source has none
POSITION = "position"  # int32, 0.. within a user: the published order, which nothing re-sorts
RATING = "rating"  # float32, optional
TEXT = "text"  # string, optional: the review
TITLE = "title"  # string or null
SPLIT = "split"  # "train", "valid" or "test" in targets.parquet

# The text columns of items.parquet, in the order in which an item's content text names them.
ITEM_TEXT_COLUMNS = ("title", "brand", "categories", "genres", "year", "price", "description")

Order = Literal["total", "within-domain"]
"""Whether ``position`` orders a user's events across domains, or only inside each domain."""

TimeUnit = Literal["second", "day", "none"]
"""Resolution of the time stamps: ``day`` turns the strict subset on, ``none`` means order only."""

SplitName = Literal["train", "valid", "test"]

Int8Array = npt.NDArray[np.int8]
Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
StrArray = npt.NDArray[np.object_]
