"""Ratings of one domain: repeats, the split, and whose reviews a pair is shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from semacdr.data.dataset import Dataset
from semacdr.data.rating_batches import Histories, RatingBatches, pair_batches
from semacdr.data.ratings import RatingCatalogue, Ratings, divide, load_ratings, reviews_frame
from semacdr.errors import InputError
from tests.planted import write_planted
from tests.planted_reviews import write_review_rows, write_reviews


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_reviews(tmp_path_factory.mktemp("reviews") / "data")


def rows(*events: tuple[str, str, str, float, str]) -> pd.DataFrame:
    frame = pd.DataFrame(events, columns=["user_id", "item_id", "domain", "rating", "text"])
    frame.insert(3, "timestamp", 0)
    frame.insert(4, "position", frame.groupby("user_id").cumcount())
    return frame.sort_values("user_id", kind="stable", ignore_index=True)


def test_repeats_are_left_out_and_other_peoples_words_are_not(tmp_path: Path) -> None:
    events = rows(
        ("u1", "a", "tea", 5, "good"),
        ("u1", "b", "tea", 4, " good"),  # the same words of the same user: a copy
        ("u1", "a", "tea", 1, "changed my mind"),  # the same item again
        ("u1", "p", "pans", 5, "good"),  # another domain
        ("u2", "a", "tea", 4, "good"),  # another user
        ("u2", "b", "tea", 3, ""),
        ("u2", "c", "tea", 2, ""),  # two ratings without words are no copies
    )
    dataset = write_review_rows(tmp_path / "data", events)
    kept, repeats = reviews_frame(dataset, "tea")
    assert repeats == 2
    assert list(zip(kept["user_id"], kept["item_id"], kept["rating"])) == [
        ("u1", "a", 5.0),
        ("u2", "a", 4.0),
        ("u2", "b", 3.0),
        ("u2", "c", 2.0),
    ]


def test_indices_name_what_they_stand_for(dataset: Dataset) -> None:
    frame, _ = reviews_frame(dataset, "pans")
    data = load_ratings(dataset, "pans")
    assert (data.user_ids[data.ratings.user] == frame["user_id"]).all()
    assert (data.item_ids[data.ratings.item] == frame["item_id"]).all()
    assert [data.texts[index] for index in data.ratings.text] == list(frame["text"])
    assert len(set(data.texts)) == len(data.texts)
    train = data.catalogue().train
    assert len(train) == round(0.8 * len(frame))
    assert data.catalogue().user_count.sum() == data.catalogue().item_count.sum() == len(train)


def test_an_empty_review_has_index_zero(tmp_path: Path) -> None:
    events = [(f"u{n}", "a", "tea", 5.0, text) for n, text in enumerate(["z", "", "y", "", "x", *"abcdef"])]
    data = load_ratings(write_review_rows(tmp_path / "data", rows(*events)), "tea")
    texts = {str(user): data.texts[text] for user, text in zip(data.user_ids[data.ratings.user], data.ratings.text)}
    assert texts == {user: text for user, _, _, _, text in events}
    assert data.texts[0] == ""
    assert (data.ratings.text == 0).sum() == 2


def test_the_split_is_eight_to_one_to_one_and_made_once() -> None:
    part = divide(203, 1)
    assert np.bincount(part).tolist() == [162, 21, 20]
    assert (part == divide(203, 1)).all()
    assert (part != divide(203, 2)).any()


def test_what_is_missing_or_wrong_is_said(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no domain 'tee'"):
        load_ratings(dataset, "tee")
    with pytest.raises(InputError, match="no ratings with reviews"):
        load_ratings(write_planted(tmp_path / "plain", users=12), "tea")
    ten = [(f"u{n}", "a", "tea", 5.0, "good") for n in range(10)]
    with pytest.raises(InputError, match="1 ratings are outside"):
        load_ratings(write_review_rows(tmp_path / "six", rows(*ten, ("u10", "a", "tea", 6, "x"))), "tea")
    with pytest.raises(InputError, match="only 9 distinct"):
        load_ratings(write_review_rows(tmp_path / "few", rows(*ten[:9])), "tea")


def hand_made() -> RatingCatalogue:
    """User 1 rated items 1, 2, 3; user 2 items 1 and 2, the latter without words; user 3 and item 4 never."""
    user, item = np.array([1, 1, 1, 2, 2]), np.array([1, 2, 3, 1, 2])
    train = Ratings(
        user.astype(np.int32),
        item.astype(np.int32),
        np.array([5, 4, 3, 2, 1], np.float32),
        np.array([1, 2, 3, 4, 0], np.int32),
    )
    return RatingCatalogue(3, 4, ("", "a", "b", "c", "d"), train)


def test_the_pairs_own_review_is_left_out_unless_asked_for() -> None:
    random = np.random.default_rng(0)
    honest = Histories(hand_made(), 4)
    users, items = honest.of_training_rows(np.arange(5), random)
    assert [sorted(row[row > 0]) for row in users] == [[2, 3], [1, 3], [1, 2], [], [4]]
    assert [sorted(row[row > 0]) for row in items] == [[4], [], [], [1], [2]]
    leaky = Histories(hand_made(), 4, own_review=True)
    users, items = leaky.of_training_rows(np.arange(5), random)
    assert [sorted(row[row > 0]) for row in users] == [[1, 2, 3]] * 3 + [[4]] * 2
    assert [sorted(row[row > 0]) for row in items] == [[1, 4], [2], [3], [1, 4], [2]]


def test_k_reviews_are_drawn_without_repeats_and_padding_comes_last() -> None:
    histories = Histories(hand_made(), 2)
    seen = set()
    for seed in range(30):
        users, items = histories.of_training_rows(np.array([4, 0]), np.random.default_rng(seed))
        assert users[0].tolist() == [4, 0]
        assert items[1].tolist() == [4, 0]
        seen.add(tuple(sorted(users[1])))
    assert seen == {(2, 3)}
    of_user_one = Ratings(*(np.array([value], kind) for value, kind in ((1, "i4"), (4, "i4"), (0, "f4"), (0, "i4"))))
    assert len(set(histories.of_pairs(of_user_one)[0][0].tolist())) == 2


def test_held_out_pairs_have_one_draw_whatever_the_batch(dataset: Dataset) -> None:
    data = load_ratings(dataset, "tea")
    catalogue = data.catalogue()
    pairs = data.ratings.select(data.rows("test"))
    for own in (False, True):
        histories = Histories(catalogue, 2, own)
        users, items = histories.of_pairs(pairs)
        for size in (1, 7):
            for rows_, batch in pair_batches(histories, pairs, size):
                assert batch.rating is None
                assert batch.own_text is None
                assert (batch.user_texts.numpy() == users[rows_]).all()
                assert (batch.item_texts.numpy() == items[rows_]).all()
        found = (users == pairs.text[:, None]).any() or (items == pairs.text[:, None]).any()
        assert found == own  # texts of the planted set are mostly distinct: an own review can come from nowhere else


def test_an_epoch_depends_on_seed_and_epoch_alone(dataset: Dataset) -> None:
    def epoch(seed: int, number: int, first: int = 0) -> list[list[int]]:
        batches = RatingBatches(Histories(load_ratings(dataset, "tea").catalogue(), 2), 16, seed)
        return [
            [*batch.user.tolist(), *batch.item.tolist(), *batch.user_texts.flatten().tolist()]
            for batch in batches.epoch(number, first)
        ]

    whole = epoch(0, 1)
    assert epoch(0, 1, 5) == whole[5:]
    assert epoch(1, 1) != whole
    assert epoch(0, 2) != whole
    users = [user for row in whole for user in row[: len(row) // 4]]
    assert len(users) == round(0.8 * 300)
