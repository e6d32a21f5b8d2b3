"""Ratings with their reviews: one domain of a data set, without repeats, divided at random into 8 : 1 : 1.

A rating task is not about what comes next but about how much a user will like an item: the order of events plays no
part, and the split is over ratings, as in the papers that it is compared with. Time therefore leaks (a rating may be
predicted from later ones); every model here has that same advantage.

What counts as a repeat: a user's second rating of an item, and a user's second review in the same words. The latter are
copies: shops file one review under every variant of a product, and with one copy in training the other is known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from semacdr.data import schema
from semacdr.data.dataset import Dataset
from semacdr.data.schema import BoolArray, FloatArray, Int8Array, Int32Array, Int64Array, SplitName, StrArray
from semacdr.errors import InputError

LOWEST, HIGHEST = 1.0, 5.0
PARTS: dict[SplitName, int] = {"train": 0, "valid": 1, "test": 2}
TRAIN_SHARE, VALID_SHARE = 0.8, 0.1
MIN_RATINGS = 10  # with fewer, a part of the split would be empty


@dataclass(frozen=True)
class Ratings:
    """Ratings as parallel arrays; users and items count from 1, text 0 is an empty review."""

    user: Int32Array  # (E,)
    item: Int32Array  # (E,)
    rating: FloatArray  # (E,) 1 to 5
    text: Int32Array  # (E,) index into the texts

    def __len__(self) -> int:
        return len(self.user)

    def select(self, rows: Int64Array | BoolArray) -> Ratings:
        """The ratings of the given rows."""
        return Ratings(self.user[rows], self.item[rows], self.rating[rows], self.text[rows])


@dataclass(frozen=True)
class RatingCatalogue:
    """What a rating model knows: how many users and items there are, and the training ratings with their reviews.

    ``texts`` holds every distinct review, so that a text has one index everywhere; a model reads those whose indices
    it is given, in ``train`` and in its batches.
    """

    num_users: int
    num_items: int
    texts: tuple[str, ...]  # (T+1,), texts[0] == ""
    train: Ratings

    @property
    def user_count(self) -> Int64Array:
        """(U+1,) training ratings of each user."""
        return np.bincount(self.train.user, minlength=self.num_users + 1)

    @property
    def item_count(self) -> Int64Array:
        """(I+1,) training ratings of each item."""
        return np.bincount(self.train.item, minlength=self.num_items + 1)


@dataclass(frozen=True)
class RatingData:
    """The ratings of one domain, divided.

    Attributes:
        domain: its name.
        user_ids: (U+1,) ids of those who rated; ``""`` at 0.
        item_ids: (I+1,) ids of what was rated; ``""`` at 0.
        texts: (T+1,) distinct reviews; ``""`` at 0.
        ratings: all of them, in the order of the data set.
        part: (E,) index into :data:`PARTS`.
        repeats: ratings that were left out.
    """

    domain: str
    user_ids: StrArray
    item_ids: StrArray
    texts: tuple[str, ...]
    ratings: Ratings
    part: Int8Array
    repeats: int

    def rows(self, split: SplitName) -> Int64Array:
        """The rows of one part."""
        return np.flatnonzero(self.part == PARTS[split])

    def catalogue(self) -> RatingCatalogue:
        """What a model may know."""
        train = self.ratings.select(self.rows("train"))
        return RatingCatalogue(len(self.user_ids) - 1, len(self.item_ids) - 1, self.texts, train)


def reviews_frame(dataset: Dataset, domain: str) -> tuple[pd.DataFrame, int]:
    """The distinct ratings of a domain and how many repeats were left out; the first of equal ones stays.

    Raises:
        InputError: no such domain, or no ratings or review texts in the data set.
    """
    dataset.catalogue().domain_index(domain)
    path = dataset.path / schema.INTERACTIONS
    columns = [schema.USER_ID, schema.ITEM_ID, schema.RATING, schema.TEXT]
    missing = {schema.RATING, schema.TEXT} - set(pq.read_schema(path).names)
    if missing:
        fix = "every rating model, MF too, is measured on rows with a rating and a review: convert both columns"
        what = f"no ratings with reviews: without a column {' and '.join(sorted(missing))}"
        raise InputError(what, where=str(path), fix=fix)
    frame = pd.read_parquet(path, columns=columns, filters=[(schema.DOMAIN, "==", domain)])
    frame = frame[frame[schema.RATING].notna()]
    frame = frame.assign(**{schema.TEXT: frame[schema.TEXT].fillna("").str.strip()})
    again = frame.duplicated([schema.USER_ID, schema.ITEM_ID])
    copied = frame.duplicated([schema.USER_ID, schema.TEXT]) & (frame[schema.TEXT] != "")
    kept = frame[~again & ~copied].reset_index(drop=True)
    return kept, len(frame) - len(kept)


def load_ratings(dataset: Dataset, domain: str, split_seed: int = 0) -> RatingData:
    """Reads one domain's ratings and divides them.

    Args:
        dataset: the data, with ratings and reviews.
        domain: its name.
        split_seed: of the random split.

    Raises:
        InputError: as :func:`reviews_frame`; ratings outside 1 to 5, or too few of them.
    """
    frame, repeats = reviews_frame(dataset, domain)
    rating = frame[schema.RATING].to_numpy(np.float32)
    where = f"{dataset.name}, domain {domain}"
    if len(frame) < MIN_RATINGS:
        raise InputError(f"only {len(frame)} distinct ratings, at least {MIN_RATINGS} are needed", where=where)
    outside = (rating < LOWEST) | (rating > HIGHEST)
    if outside.any():
        raise InputError(f"{int(outside.sum())} ratings are outside {LOWEST:g} to {HIGHEST:g}", where=where)
    user, user_ids = pd.factorize(frame[schema.USER_ID].to_numpy(dtype=object))
    item, item_ids = pd.factorize(frame[schema.ITEM_ID].to_numpy(dtype=object))
    text, texts = pd.factorize(frame[schema.TEXT].to_numpy(dtype=object))
    has_empty = np.flatnonzero(texts == "")
    if len(has_empty):  # the empty review is index 0, not one of the texts
        gone = int(has_empty[0])
        text = np.where(text == gone, -1, text - (text > gone))
        texts = np.delete(texts, gone)
    ratings = Ratings((user + 1).astype(np.int32), (item + 1).astype(np.int32), rating, (text + 1).astype(np.int32))
    return RatingData(
        domain=domain,
        user_ids=np.concatenate([[""], user_ids]).astype(object),
        item_ids=np.concatenate([[""], item_ids]).astype(object),
        texts=("", *texts),
        ratings=ratings,
        part=divide(len(frame), split_seed),
        repeats=repeats,
    )


def divide(count: int, seed: int) -> Int8Array:
    """(count,) parts of a random 8 : 1 : 1 split; the same count and seed give the same parts."""
    first, second = round(count * TRAIN_SHARE), round(count * (TRAIN_SHARE + VALID_SHARE))
    part = np.full(count, PARTS["test"], np.int8)
    order = np.random.default_rng([seed, count]).permutation(count)
    part[order[:first]] = PARTS["train"]
    part[order[first:second]] = PARTS["valid"]
    return part
